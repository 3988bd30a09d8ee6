"""Chapter 9: a file of weights becomes the model that it was saved from, or an error and no model."""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch

from segformer_edu.model.config import NormEps, SegformerConfig
from segformer_edu.model.decoder import SegformerHead
from segformer_edu.model.encoder import MiT
from segformer_edu.model.parts import FAST, SKETCH, Parts
from segformer_edu.model.segformer import Segformer
from segformer_edu.model.variants import DROP_PATH, VARIANTS, ImageClassifier, initialize_head
from segformer_edu.pretrained.convert import ConvertedStateDict, checked, converted, what_was_left_out
from segformer_edu.pretrained.names import KERNELS, OWN, STAGES
from segformer_edu.pretrained.processor import with_processor
from segformer_edu.pretrained.read import WeightFile, in_words, read_weights
from segformer_edu.validation import check_positive

HEADS = (1, 2, 5, 8)
WIDTH = 256
LAST = ("decoder.classify.", "decoder.to_segmentation.1.")
COUNT = "decoder.norm.num_batches_tracked"
FIRST = ("mit.stages.0.embedding.project.weight", "mit.stages.0.embedding.weight")
Weights = dict[str, torch.Tensor]


def load_pretrained(
    source: str | Path,
    num_classes: int | None = None,
    *,
    channels: int | None = None,
    heads: tuple[int, ...] | None = None,
    norm_eps: NormEps | None = None,
    class_names: tuple[str, ...] | None = None,
    parts: Parts = FAST,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | Path | None = None,
) -> Segformer | ImageClassifier:
    """Make a model from a file of weights, or leave you with an error and no model.

    The format is recognised by its names, and the sizes are read off the shapes: B0 to B5, or any other SegFormer.
    What no shape shows, heads and the eps of the norms, files of this library say; so does a folder of transformers,
    whose preprocessor_config.json says mean and standard deviation of the pictures (``model.image_mean, image_std``).
    Where a file does not, a warning says what was assumed. The weights that NVIDIA published, in whatever format, may
    be used for research and evaluation, not commercially.

    Args:
        source: a file (.pth, .pt, .bin, .safetensors); a folder as ``save_pretrained`` or transformers writes it; the
            id of such a one on Hugging Face, such as "nvidia/segformer-b0-finetuned-ade-512-512", which is downloaded
            once; or "camvid-b0" or "camvid-small", which come with the library and were trained in chapter 11 from
            scratch; their cards: ``pretrained.ours.model_card``. The names may be those of any of
            ``pretrained.names.FORMATS``.
        num_classes: None, or the file's own number, for what the file holds: a ``Segformer``, or an
            ``ImageClassifier`` where it has an encoder and a classifier of images. Another number gives a
            ``Segformer`` whose last layer is drawn anew; whose whole decoder is, where the file has none. A warning
            says so.
        channels: of the image; None for the file's own. Of more, the file's filters take the first and the others
            start at zero; of fewer, each gets an equal share of the filters' sum. A warning says so.
        heads: attention heads of each stage; None for what the file says, else (1, 2, 5, 8), which all published
            sizes have.
        norm_eps: of the layer norms; None for what the file says, else those of the implementation that wrote it.
        class_names: one a class; None for the file's, where the classes are still its own.
        parts: what computes the paper's model: ``FAST``, or ``PAPER``, or leaves of your own that have its names. A
            sketch is made of ``SKETCH``. Where a decoder is drawn anew, it is theirs.
        revision: of a model on Hugging Face, a branch, a tag or a commit; None for its newest.
        token: for a private or gated model on Hugging Face; None for the one that `hf auth login` or HF_TOKEN left.
        cache_dir: where downloads are kept; None for huggingface_hub's own folder.

    Returns:
        The model in evaluation mode, in float32 (float64 where the file has it), every weight from the file but those
        of which a warning speaks. ``model.config`` says what it is, with the classes' names where the file has them.

    Raises:
        FileNotFoundError: no such file, folder or model; OSError: one that must not be read.
        ConnectionError: a download that failed.
        TypeError, ValueError: a file that is corrupt, of no known format, incomplete, or more than one model; an
            encoder alone and no ``num_classes``; parts that do not fit. No half-loaded model is ever returned.

    Source: chapter 9.
    """
    counts = {"num_classes": num_classes, "channels": channels}
    check_positive(**{name: value for name, value in counts.items() if value is not None})
    if not isinstance(parts, Parts) or not isinstance(norm_eps, NormEps | None):
        raise TypeError(f"parts is {parts!r:.40}, norm_eps {norm_eps!r:.40}; expected a Parts, and a NormEps or None.")
    file = read_weights(source, revision=revision, token=token, cache_dir=cache_dir)
    notes: list[str] = []
    try:
        weights, config = understand(file, heads, norm_eps, notes)
        weights, config = adapt(weights, config, num_classes, channels, parts, notes)
        config = config if class_names is None else replace(config, class_names=class_names)
        model = build(weights, config, parts)
        model.config = replace(model.config, image_mean=config.image_mean, image_std=config.image_std)
    except (TypeError, ValueError, IndexError, RuntimeError) as error:
        raise ValueError(f"{source}: {in_words(error)}") from error
    for note in notes:
        warnings.warn(f"{source}: {in_words(note)}", stacklevel=2)
    return model.eval()


# What model is it?


def understand(
    file: WeightFile, heads: tuple[int, ...] | None, norm_eps: NormEps | None, notes: list[str]
) -> tuple[Weights, SegformerConfig]:
    """Bring a file's weights under this library's names, and find out what model they are of; note what was assumed."""
    record = SegformerConfig.from_dict(file.config) if file.config is not None else None
    if record is not None and record.dialect == "custom":
        weights, config = own_names(file.entries, notes), record
    else:
        done = converted(file.entries)
        if done.left_out:
            notes.append(what_was_left_out(done.left_out))
        if record is None:
            config = guess(done, file.description, heads, norm_eps, notes)
        else:
            config = as_edited(record, file.description, notes)
        weights = dict(done)
    check_numbers(weights)
    config = with_processor(config, file.preprocessor, notes)
    told_heads = config.heads if heads is None else heads
    return weights, replace(config, heads=told_heads, norm_eps=norm_eps or config.norm_eps)


def own_names(entries: Mapping[str, torch.Tensor], notes: list[str]) -> Weights:
    """Keep the weights of a model of this library: drop what stands before all names, and what training left beside."""
    entries = checked(entries)
    prefix = min((name.split("mit.stages.")[0] for name in entries if "mit.stages." in name), key=len, default="")
    own = tuple(f"{prefix}{part}." for part in ("mit", "decoder", "head"))
    if left_out := {name: value for name, value in entries.items() if not name.startswith(own)}:
        notes.append(what_was_left_out(left_out))
    return {name.removeprefix(prefix): value for name, value in entries.items() if name.startswith(own)}


def guess(
    done: ConvertedStateDict,
    description: Mapping[str, Any],
    heads: tuple[int, ...] | None,
    norm_eps: NormEps | None,
    notes: list[str],
) -> SegformerConfig:
    """Read a model's sizes off its shapes, and the rest off config.json or what its implementation always has."""
    description = of_transformers(description)
    try:
        sizes = sizes_of(done)
    except KeyError as error:
        raise ValueError(f"it lacks {error}: names of {done.title}, not a whole SegFormer.") from error
    check_description(description, sizes)
    told_heads = tuple(heads or description.get("num_attention_heads", HEADS))
    assumed = []
    if heads is None and "num_attention_heads" not in description:
        assumed.append(f"heads={told_heads}, as all published sizes have")
    if norm_eps is None and done.format == OWN.name:
        assumed.append(f"norm_eps={done.norm_eps}, as a fresh model has")
    if assumed:
        notes.append(f"the file does not say everything; assumed: {' and '.join(assumed)}. Give others if wrong.")
    return SegformerConfig(
        **sizes,
        heads=told_heads,
        norm_eps=done.norm_eps,
        drop_path=description.get("drop_path_rate", 0.0 if done.is_sketch else DROP_PATH),
        dropout=None if done.is_sketch else description.get("classifier_dropout_prob"),
        dialect="sketch" if done.is_sketch else "paper",
        class_names=told_class_names(description, sizes["num_classes"], notes) if "num_classes" in sizes else None,
    )


def of_transformers(description: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a config.json if it is transformers' of a SegFormer, else nothing: not another library's."""
    return description if description.get("model_type") == "segformer" else {}


def as_edited(record: SegformerConfig, description: Mapping[str, Any], notes: list[str]) -> SegformerConfig:
    """Take into a record what was edited in config.json of transformers beside it: ``read.EDITABLE``, nothing else.

    Raises:
        ValueError: it describes another model.
    """
    description = of_transformers(description)
    if not description or record.num_classes is None:
        return record
    width = {} if record.decoder_dim is None else {"decoder_dim": record.decoder_dim}
    check_description(description, record.sizes() | width)
    names = record.class_names or [f"LABEL_{number}" for number in range(record.num_classes)]
    if description.get("id2label", {}) not in ({}, {str(number): name for number, name in enumerate(names)}):
        record = replace(record, class_names=told_class_names(description, record.num_classes, notes))
    dropout = None if record.dropout is None else description.get("classifier_dropout_prob", record.dropout)
    return replace(record, dropout=dropout, drop_path=description.get("drop_path_rate", record.drop_path))


def sizes_of(weights: ConvertedStateDict) -> dict[str, Any]:
    """Read what a record needs, all but heads and eps, off the shapes of a converted state dict.

    Returns:
        Arguments of ``SegformerConfig``; without ``decoder_dim`` where there is no decoder, and without
        ``num_classes`` where there is no classifier of images either.

    Raises:
        KeyError: a name that every file has to have is missing.
    """
    patches, widen = ("", "net.0") if weights.is_sketch else (".project", "widen")
    keys = "to_k" if weights.is_sketch else "reduce.0"
    blocks = {found.groups() for name in weights if (found := re.match(r"mit\.stages\.(\d)\.blocks\.(\d+)", name))}
    embeddings = [weights[f"mit.stages.{stage}.embedding{patches}.weight"].shape for stage in range(STAGES)]
    first = [f"mit.stages.{stage}.blocks.0" for stage in range(STAGES)]
    hidden = [weights[f"{name}.feed_forward.{widen}.weight"].shape[0] for name in first]
    reductions = [weights.get(f"{name}.attention.{keys}.weight") for name in first]
    sizes: dict[str, Any] = {
        "channels": embeddings[0][1],
        "dims": tuple(shape[0] for shape in embeddings),
        "num_layers": tuple(sum(stage == str(index) for stage, _ in blocks) for index in range(STAGES)),
        "reduction_ratio": tuple(1 if weight is None else weight.shape[-1] for weight in reductions),
        "ff_expansion": tuple(max(1, wide // max(1, shape[0])) for wide, shape in zip(hidden, embeddings)),
    }
    if any(name.startswith("decoder.") for name in weights):
        project, classify = ("to_fused.0", "to_segmentation.1") if weights.is_sketch else ("project.0", "classify")
        sizes["decoder_dim"] = weights[f"decoder.{project}.weight"].shape[0]
        sizes["num_classes"] = weights[f"decoder.{classify}.weight"].shape[0]
    elif "head.weight" in weights:
        sizes["num_classes"] = weights["head.weight"].shape[0]
    return sizes


def check_numbers(weights: Mapping[str, torch.Tensor]) -> None:
    """Raise ValueError if a weight is not of floating-point numbers that are finite in a model's precision."""
    precision = torch.float64 if is_double(weights) else torch.float32
    for name, value in weights.items():
        if name.endswith("num_batches_tracked"):
            continue
        if not value.is_floating_point():
            raise ValueError(f"{name} is {value.dtype}; expected floating point. Quantised weights cannot be read.")
        if not torch.isfinite(value.to(precision)).all():
            raise ValueError(f"{name} holds NaN or infinite values: corrupt, or of a training that failed.")


def is_double(weights: Mapping[str, torch.Tensor]) -> bool:
    """Whether all weights are in double precision, and the model therefore is."""
    return all(value.dtype == torch.float64 for value in weights.values() if value.is_floating_point())


def check_description(description: Mapping[str, Any], sizes: Mapping[str, Any]) -> None:
    """Raise ValueError if config.json of transformers describes another model than the weights beside it."""
    told = {
        "hidden_sizes": sizes["dims"],
        "depths": sizes["num_layers"],
        "sr_ratios": sizes["reduction_ratio"],
        "mlp_ratios": sizes["ff_expansion"],
        "num_channels": sizes["channels"],
        "patch_sizes": KERNELS,
        "strides": (4, 2, 2, 2),
        "hidden_act": "gelu",
    }
    more = {"decoder_hidden_size": "decoder_dim", "num_attention_heads": "heads"}  # which not every source of sizes has
    told |= {name: sizes[ours] for name, ours in more.items() if ours in sizes}
    for name, expected in told.items():
        given = description.get(name, expected)
        if (tuple(given) if isinstance(given, list) else given) != expected:
            raise ValueError(
                f"config.json says {name} {given}, the weights beside it need {expected}: files of two models in one "
                f"place, or a model that this library does not have. Fetch both anew, or give the weights' own path."
            )


def told_class_names(description: Mapping[str, Any], count: int, notes: list[str]) -> tuple[str, ...] | None:
    """Read the names of ``count`` classes off config.json of transformers, each of them another.

    Returns:
        The names; None where there are none, or transformers' own "LABEL_0", "LABEL_1", …. With names that do not fit
        the weights, "class 0", "class 1", … and a note: None would let 19 classes pass for Cityscapes'.
    """
    told = description.get("id2label") or {}
    entries = told if isinstance(told, Mapping) else {}
    if entries == told and all(name == f"LABEL_{number}" for number, name in entries.items()):
        return None
    names = {number: "" if name is None else " ".join(str(name).split()) for number, name in entries.items()}
    numbers = [str(number) for number in range(count)]
    wrong = [f"no name for {number}" for number in numbers if not names.get(number)]
    wrong += [f"one for {number}" for number in names if number not in numbers]
    if wrong:
        notes.append(
            f"id2label in config.json has {', '.join(wrong[:4])}{', …' if wrong[4:] else ''}; expected names for 0 to "
            f"{count - 1}, the classes of these weights. They are called by number until you correct it."
        )
        return tuple(f"class {number}" for number in numbers)
    times = Counter(names.values())  # ImageNet's crane is a bird and a machine
    return tuple(f"{names[n]} ({n})" if times[names[n]] > 1 else names[n] for n in numbers)


# What was asked for, and the file does not have


def adapt(
    weights: Weights,
    config: SegformerConfig,
    num_classes: int | None,
    channels: int | None,
    parts: Parts,
    notes: list[str],
) -> tuple[Weights, SegformerConfig]:
    """Fit weights and record to the classes and channels that were asked for; note what was done."""
    if channels not in (None, config.channels):
        weights, said = with_channels(weights, channels)
        config = replace(config, channels=channels, image_mean=None, image_std=None)
        notes.append(said)
    if config.num_classes is None and num_classes is None:
        raise ValueError(
            "an encoder alone, with neither decoder nor classifier. For a new decoder say how many classes it is to "
            "have: load_pretrained(source, num_classes=…)."
        )
    own_parts = fitting_parts(config, parts)
    if num_classes is not None and (num_classes != config.num_classes or own_parts.dialect == "custom"):
        weights, config, said = with_classes(weights, config, num_classes, own_parts)
        notes += [said] if said else []
    return weights, config


def with_channels(weights: Weights, channels: int) -> tuple[Weights, str]:
    """Change the channels of the first convolution's filters."""
    name = next((name for name in FIRST if name in weights), None)
    if name is None:
        raise ValueError(f"channels={channels} needs one of {', '.join(FIRST)}, and the file has neither.")
    filters = weights[name]
    own = filters.shape[1]
    if channels > own:
        more = filters.new_zeros(filters.shape[0], channels - own, *filters.shape[2:])
        return weights | {name: torch.cat([filters, more], dim=1)}, (
            f"the file takes {own} channels; the first {own} of {channels} keep its filters, the others start at zero, "
            f"so that they change nothing before they are trained."
        )
    share = filters.sum(dim=1, keepdim=True) / channels
    return weights | {name: share.repeat(1, channels, 1, 1)}, (
        f"the file takes {own} channels; each of {channels} gets the sum of its filters divided by {channels}, as if "
        f"their mean were shown in all {own}."
    )


def with_classes(
    weights: Weights, config: SegformerConfig, num_classes: int, parts: Parts
) -> tuple[Weights, SegformerConfig, str]:
    """Draw the last layer anew for other classes, or the whole decoder where the file has not the parts' own."""
    own, variant, before = config.num_classes, variant_of(config), config
    usual = VARIANTS[variant]["decoder_dim"] if variant and config.dialect != "sketch" else WIDTH
    config = replace(config, decoder_dim=config.decoder_dim or usual, num_classes=num_classes, class_names=None)
    fresh = fresh_decoder(config, parts)
    if is_decoder_of(weights, fresh) and num_classes == own:
        return weights, before, ""
    if is_decoder_of(weights, fresh) and any(name.startswith(LAST) for name in fresh):
        last = {name: value for name, value in fresh.items() if name.startswith(LAST)}
        return weights | last, config, f"the file has {own} classes; the last layer is drawn anew for {num_classes}."
    encoder = {name: value for name, value in weights.items() if name.startswith("mit.")}
    left = " (its classifier of whole images, {} classes, is left out)" if "head.weight" in weights else ""
    has = "another decoder" if "decoder" in {name.split(".")[0] for name in weights} else "no decoder"
    said = f"the file has {has}{left.format(own)}; one of width {config.decoder_dim} is drawn anew for {num_classes} "
    return encoder | fresh, config, f"{said}classes. It has to be trained before it says anything."


def is_decoder_of(weights: Mapping[str, torch.Tensor], fresh: Mapping[str, torch.Tensor]) -> bool:
    """Whether the file's decoder has the layers of a fresh one."""
    names = {name for name in weights if name.startswith("decoder.")}
    return names | {COUNT} == fresh.keys() | {COUNT}


def fresh_decoder(config: SegformerConfig, parts: Parts) -> Weights:
    """Draw the weights of the parts' decoder."""
    decoder = parts.decoder(dims=config.dims, decoder_dim=config.decoder_dim, num_classes=config.num_classes)
    if isinstance(decoder, SegformerHead):
        initialize_head(decoder)
    return {f"decoder.{name}": value for name, value in decoder.state_dict().items()}


def variant_of(config: SegformerConfig) -> str | None:
    """Say which of ``VARIANTS`` has these sizes, as far as they are known: "b0" to "b5", or None."""
    for variant, expected in VARIANTS.items():
        if all(getattr(config, name) in (None, value) for name, value in expected.items()):
            return variant
    return None


# The model


def make(config: SegformerConfig, parts: Parts) -> Segformer | ImageClassifier:
    """Make the model that a record describes, of known parts on the device "meta", where no weight is drawn."""
    parts = fitting_parts(config, parts).with_norm_eps(config.norm_eps)
    if config.dropout is not None and parts.dialect != "custom":  # a decoder of one's own may have no such argument
        parts = parts.with_dropout(config.dropout)
    common: dict[str, Any] = {"drop_path": config.drop_path, "parts": parts}
    # shapes alone: nothing is drawn, and a mistake costs no memory; parts of one's own may hold more than weights
    with torch.device("cpu" if parts.dialect == "custom" else "meta"):
        if config.decoder_dim is None:
            num_classes = cast(int, config.num_classes)  # ``adapt`` refuses an encoder alone
            return ImageClassifier(MiT(**config.sizes(), **common), num_classes, config.class_names)
        rest = {name: getattr(config, name) for name in ("decoder_dim", "num_classes", "class_names")}
        return Segformer(**config.sizes(), **rest, **common)


def fitting_parts(config: SegformerConfig, parts: Parts) -> Parts:
    """Return the parts to make a model of, ``parts`` where they fit.

    Raises:
        ValueError: parts of another dialect, or none for a model of its own.
    """
    if config.dialect == "sketch":
        return SKETCH if parts.dialect in ("paper", "fast") else parts
    if parts.dialect == "sketch":
        raise ValueError("these are weights of the paper's model, and parts=SKETCH is another; leave parts out.")
    if config.dialect == "custom" and parts.dialect != "custom":
        raise ValueError(
            "the model was made of parts of its own, which no file holds; give the same: load_pretrained(…, parts=…)."
        )
    return parts


def build(weights: Weights, config: SegformerConfig, parts: Parts) -> Segformer | ImageClassifier:
    """Make a model by its record with these weights, all of them, and nothing but them.

    Raises:
        ValueError: weights that are missing, left over, or of other shapes.
    """
    if sum(config.num_layers) > len(weights):  # before a model of so many is made
        raise ValueError(
            f"its record has {config.num_layers} blocks, and the file {len(weights)} weights: it is corrupt."
        )
    model = make(config, parts)
    if "decoder.norm.running_var" in weights:  # how many batches it is of: not in every file, and not used
        weights = {COUNT: torch.tensor(0)} | weights
    if problems := differences(weights, model.state_dict()):
        variant = variant_of(config) or "no published size"
        raise ValueError(
            f"it does not fit the model that its shapes describe ({variant}: dims {config.dims}, layers "
            f"{config.num_layers}): it {'; it '.join(problems[:5])}"
            + (f"; and {len(problems) - 5} more" if len(problems) > 5 else "")
            + ". The file is incomplete or of another model; nothing was loaded."
        )
    if is_double(weights):
        model = model.double()
    if next(model.parameters()).is_meta:
        model = model.to_empty(device="cpu")
    if config.dialect in ("paper", "fast"):
        # as the builders have it
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in the stubs
    model.load_state_dict(weights)
    return model


def differences(weights: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor]) -> list[str]:
    """Say what of a model's weights is missing, left over, or of another shape."""
    problems = [f"lacks {name}" for name in expected if name not in weights]
    problems += [f"has {name}, which the model has not" for name in weights if name not in expected]
    problems += [
        f"has {name} of shape {tuple(weights[name].shape)} where the model has {tuple(value.shape)}"
        for name, value in expected.items()
        if name in weights and weights[name].shape != value.shape
    ]
    return problems
