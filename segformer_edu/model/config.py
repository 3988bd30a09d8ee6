"""Chapters 5 and 9: what a model is, in a record that goes wherever its weights go."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from segformer_edu.data.pictures import check_statistics
from segformer_edu.validation import check_positive, check_stages

DIALECTS = ("sketch", "paper", "fast", "custom")


@dataclass(frozen=True)
class NormEps:
    """The eps of each kind of layer norm; None where a model has no such norm.

    Attributes:
        blocks: before attention and Mix-FFN.
        stages: after a stage.
        patches: behind a patch embedding.
        reductions: on the shrunken maps of the attention.
    """

    blocks: float | None = None
    stages: float | None = None
    patches: float | None = None
    reductions: float | None = None

    def __post_init__(self) -> None:
        for kind, eps in vars(self).items():
            if eps is not None and (isinstance(eps, bool) or not isinstance(eps, int | float) or not 0 < eps < 1e9):
                raise ValueError(f"eps of {kind} is {eps!r}; expected a small positive number, such as 1e-5, or None.")

    @classmethod
    def of(cls, stages: Iterable[Any]) -> NormEps:
        """Read them off an encoder's stages.

        Raises:
            ValueError: norms of one kind with different eps, which no ``Parts`` makes.
        """
        stages = list(stages)
        blocks = [block for stage in stages for block in stage.blocks]
        reductions = [getattr(block.attention, "reduce", None) for block in blocks]
        norms = {
            "blocks": [norm for block in blocks for norm in (block.attention_norm, block.feed_forward_norm)],
            "stages": [stage.norm for stage in stages],
            "patches": [getattr(stage.embedding, "norm", None) for stage in stages],
            "reductions": [layers[-1] for layers in reductions if isinstance(layers, nn.Sequential) and len(layers)],
        }
        return cls(**{kind: common_eps(kind, members) for kind, members in norms.items()})


def common_eps(kind: str, norms: Iterable[Any]) -> float | None:
    """Return the eps that norms have in common, None if none of them has any."""
    found = {norm.eps for norm in norms if hasattr(norm, "eps")}
    if len(found) > 1:
        raise ValueError(f"The norms of {kind} have the eps {sorted(found)}; expected one for all of them.")
    return found.pop() if found else None


@dataclass(frozen=True)
class SegformerConfig:
    """What has to be known to build a model again: everything but its weights.

    Attributes:
        channels: of the image.
        dims: channels of each stage's map.
        heads: attention heads of each stage.
        ff_expansion: how many times wider each stage's feed-forward network is in between.
        reduction_ratio: side of the cells that each stage's keys and values are taken from, in pixels.
        num_layers: blocks in each stage.
        norm_eps: of each kind of layer norm.
        drop_path: how often the last block's branches are left out in training; the first one's never.
        dialect: "sketch", "paper" or "fast", the ``Parts`` it was built from; "custom" for any other.
        decoder_dim: width of the decoder; None for a model without one.
        dropout: of the decoder, in training; None where it has none.
        num_classes: channels of the result; None for an encoder alone.
        class_names: one a class, or None where nobody told them.
        image_mean: of each channel of a picture in [0, 1], which ``data.normalize`` takes away; None: ImageNet's for
            three channels, 0.5 for each of any other number.
        image_std: standard deviation of each channel, likewise; None: ImageNet's, or 0.25 for each.

    Raises:
        TypeError, ValueError: numbers that are not positive whole ones, other than four stages, an unknown dialect,
            a number of names that is not the number of classes.

    Source: the idea of a dataclass beside the model is nanoGPT's (Karpathy). Used from chapter 5 on.
    """

    channels: int
    dims: tuple[int, ...]
    heads: tuple[int, ...]
    ff_expansion: tuple[int, ...]
    reduction_ratio: tuple[int, ...]
    num_layers: tuple[int, ...]
    norm_eps: NormEps = NormEps()
    drop_path: float = 0.0
    dialect: str = "custom"
    decoder_dim: int | None = None
    dropout: float | None = None
    num_classes: int | None = None
    class_names: tuple[str, ...] | None = None
    image_mean: tuple[float, ...] | None = None
    image_std: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if isinstance(value, list):
                object.__setattr__(self, name, tuple(value))  # frozen, and JSON has lists
        check_positive(channels=self.channels)
        check_stages(
            dims=self.dims,
            heads=self.heads,
            ff_expansion=self.ff_expansion,
            reduction_ratio=self.reduction_ratio,
            num_layers=self.num_layers,
        )
        counts = {"decoder_dim": self.decoder_dim, "num_classes": self.num_classes}
        check_positive(**{name: value for name, value in counts.items() if value is not None})
        for name, rate in {"drop_path": self.drop_path, "dropout": 0 if self.dropout is None else self.dropout}.items():
            if not isinstance(rate, int | float) or not 0 <= rate < 1:
                raise ValueError(f"{name} is {rate!r}; expected a probability below 1, such as 0.1.")
        if self.dialect not in DIALECTS:
            raise ValueError(f"dialect is {self.dialect!r}; expected one of {', '.join(DIALECTS)}.")
        if self.class_names is not None:
            check_class_names(self.class_names, self.num_classes)
        if self.image_mean is not None and self.image_std is not None:
            check_statistics(self.image_mean, self.image_std, self.channels)

    def sizes(self) -> dict[str, Any]:
        """Return the arguments of ``MiT`` that are sizes."""
        names = ("channels", "dims", "heads", "ff_expansion", "reduction_ratio", "num_layers")
        return {name: getattr(self, name) for name in names}

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as JSON has them."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in dataclasses.asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> SegformerConfig:
        """Make it of what ``to_dict`` returned, read back from a file.

        Raises:
            TypeError, ValueError: something else.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        if unknown := [name for name in values if name not in known]:
            raise ValueError(f"The configuration has {', '.join(unknown)}; expected {', '.join(sorted(known))}.")
        return cls(**{**values, "norm_eps": NormEps(**values.get("norm_eps") or {})})

    def function_differs(self, other: SegformerConfig) -> str:
        """Say what makes two models with the same weights different functions, which no shape shows; "" if nothing."""
        names = [name for name in ("heads", "norm_eps") if getattr(self, name) != getattr(other, name)]
        return " and ".join(f"{name} {getattr(self, name)} against {getattr(other, name)}" for name in names)


def check_class_names(names: object, count: int | None) -> None:
    """Raise TypeError or ValueError unless ``names`` are ``count`` texts in a tuple or list."""
    if not isinstance(names, tuple | list) or not all(isinstance(name, str) for name in names):
        raise TypeError(f"class_names is {names!r}; expected a tuple of texts, one a class.")
    if len(names) != count:
        raise ValueError(f"There are {len(names)} class_names; expected {count}, one for each of the classes.")


def record_differs(record: Mapping[str, Any], config: SegformerConfig) -> str:
    """Say what makes the model of a record from a file another function than ``config``'s; "" if nothing."""
    try:
        return SegformerConfig.from_dict(record).function_differs(config)
    except (TypeError, ValueError) as error:
        return f"a record that this version cannot read ({error})"


def numbers_of(values: Iterable[float] | None) -> tuple[float, ...] | None:
    """Return numbers as plain ones, which JSON has."""
    return None if values is None else tuple(float(value) for value in values)


def unwrapped(model: nn.Module) -> nn.Module:
    """Return the model inside what DistributedDataParallel, AveragedModel or torch.compile put round it."""
    while not isinstance(model, ConfiguredModule):
        inner = getattr(model, "module", None) or getattr(model, "_orig_mod", None)
        if not isinstance(inner, nn.Module):
            break
        model = inner
    return model


class ConfiguredModule(nn.Module):
    """A module that knows what it is: ``config`` goes with its state dict, into any file that keeps that whole.

    PyTorch gives each state dict a place for what is no tensor (``_metadata``, where BatchNorm keeps its version), and
    ``torch.save`` writes it. So a file of ``model.state_dict()`` can be built again though no shape shows its heads.

    Attributes:
        config: what the model is.

    Source: chapter 9, which reads it back.
    """

    config: SegformerConfig

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """The classes' names, None where nobody told them; ``data.class_list`` adds colours."""
        return self.config.class_names

    @property
    def image_mean(self) -> tuple[float, ...] | None:
        """The mean of each channel that pictures are normalised with, None where nobody told; it can be set."""
        return self.config.image_mean

    @image_mean.setter
    def image_mean(self, values: Iterable[float] | None) -> None:
        self.config = dataclasses.replace(self.config, image_mean=numbers_of(values))

    @property
    def image_std(self) -> tuple[float, ...] | None:
        """The standard deviation of each channel, likewise."""
        return self.config.image_std

    @image_std.setter
    def image_std(self, values: Iterable[float] | None) -> None:
        self.config = dataclasses.replace(self.config, image_std=numbers_of(values))

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if hasattr(destination, "_metadata"):
            destination._metadata[prefix[:-1]]["config"] = self.config.to_dict()

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, local_metadata: dict[str, Any], *rest: Any
    ) -> None:
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *rest)
        is_inner = not any(isinstance(child, ConfiguredModule) for child in self.children())
        if is_inner and local_metadata.get("config"):
            difference = record_differs(local_metadata["config"], self.config)
            if difference:
                warnings.warn(
                    f"These weights were saved from another model than the one they are loaded into: {difference}. "
                    f"The same image will give other logits. load_pretrained builds the model that was saved.",
                    stacklevel=2,
                )
