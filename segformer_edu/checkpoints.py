"""Weights of others in this library's names. So far the sketch's; the published weights come with chapter 9."""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch

from segformer_edu.segformer import Segformer

KERNELS = (7, 3, 3, 3)
SKETCH_HEADS = (1, 2, 5, 8)


class ConvertedStateDict(dict):
    """A state dict in this library's names.

    Attributes:
        format: where the names came from: "lucidrains" (segformer-pytorch 0.0.6 and the article's listing) or
            "segformer_edu".
    """

    def __init__(self, entries: Mapping[str, torch.Tensor], format: str) -> None:
        super().__init__(entries)
        self.format = format


def convert_state_dict(state_dict: Mapping[str, torch.Tensor]) -> ConvertedStateDict:
    """Rename, split and reshape a state dict of the sketch so that ``Segformer.load_state_dict`` takes it.

    Args:
        state_dict: as ``model.state_dict()`` of lucidrains' ``Segformer`` gives it, or of this library's.

    Returns:
        A dict whose ``format`` says which it was. Tensors share memory with the given ones where they can.

    Raises:
        TypeError: something that is no mapping of names to tensors.
        ValueError: names of no known format.

    Source: chapter 9; names read from segformer-pytorch 0.0.6.
    """
    if not isinstance(state_dict, Mapping) or not all(isinstance(value, torch.Tensor) for value in state_dict.values()):
        raise TypeError(
            f"Got {type(state_dict).__name__}; expected a state dict, names to tensors, as model.state_dict() returns."
        )
    if "decoder.to_fused.0.weight" in state_dict:
        return ConvertedStateDict(state_dict, "segformer_edu")
    if "to_fused.0.0.weight" in state_dict:
        return ConvertedStateDict(from_lucidrains(state_dict), "lucidrains")
    names = ", ".join(list(state_dict)[:3]) or "none at all"
    raise ValueError(
        f"The {len(state_dict)} names (first: {names}) are of no known format; expected lucidrains' "
        f"(to_fused.0.0.weight, …) or this library's (decoder.to_fused.0.weight, …). A prefix such as 'module.' has to "
        f"go first, and a file of the encoder alone has no decoder to load."
    )


def from_lucidrains(state_dict: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Give every entry of lucidrains' ``Segformer`` its name and shape in this library."""
    converted = {}
    for name, value in state_dict.items():
        name = re.sub(r"^to_fused\.(\d+)\.0\.", r"decoder.to_fused.\1.", name)
        name = re.sub(r"^to_segmentation\.", "decoder.to_segmentation.", name)
        name, found = re.subn(r"^(mit\.stages\.\d+)\.1\.(weight|bias)$", r"\1.0.\2", name)
        if found and value.ndim == 4:
            kernel = KERNELS[int(name.split(".")[2]) % len(KERNELS)]
            value = value.reshape(value.shape[0], -1, kernel, kernel)  # a row of the unfolded patch is a filter
        name = re.sub(r"^(mit\.stages\.\d+)\.2\.", r"\1.1.", name)
        if name.endswith(".to_kv.weight"):
            for letter, part in zip("kv", value.chunk(2)):
                converted[name.replace(".to_kv.", f".to_{letter}.")] = part
        else:
            converted[name] = value
    return converted


def sketch_configuration(state_dict: Mapping[str, torch.Tensor]) -> dict[str, object]:
    """Read the arguments of ``Segformer``, but for ``heads``, off the shapes of a converted state dict."""

    def shapes(pattern: str) -> list[torch.Size]:
        return [state_dict[pattern.format(stage)].shape for stage in range(4)]

    blocks = [
        int(found[1]) for name in state_dict if (found := re.match(r"mit\.stages\.(\d)\.1\.\d+\.0\.norm\.g$", name))
    ]
    dims = tuple(shape[0] for shape in shapes("mit.stages.{}.0.weight"))
    return {
        "dims": dims,
        "channels": shapes("mit.stages.{}.0.weight")[0][1],
        "reduction_ratio": tuple(shape[-1] for shape in shapes("mit.stages.{}.1.0.0.fn.to_k.weight")),
        "ff_expansion": tuple(s[0] // dim for s, dim in zip(shapes("mit.stages.{}.1.0.1.fn.net.0.weight"), dims)),
        "num_layers": tuple(blocks.count(stage) for stage in range(4)),
        "decoder_dim": shapes("decoder.to_fused.{}.weight")[0][0],
        "num_classes": state_dict["decoder.to_segmentation.1.weight"].shape[0],
    }


def read_state_dict(path: Path) -> Mapping[str, torch.Tensor]:
    """Read a file that ``torch.save`` wrote, tensors alone: a pickle that wants to run code is refused."""
    if not path.is_file():
        raise FileNotFoundError(
            f"There is no file {path}; expected one that torch.save(model.state_dict(), path) wrote."
        )
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, ValueError, KeyError) as error:
        raise ValueError(
            f"{path} cannot be read as weights ({path.stat().st_size} bytes): truncated, corrupt, or more than tensors."
            f" Fetch it again, or save it anew with torch.save(model.state_dict(), path)."
        ) from error
    return loaded["state_dict"] if isinstance(loaded, Mapping) and "state_dict" in loaded else loaded


def load_pretrained(
    source: str | Path, num_classes: int | None = None, *, heads: tuple[int, ...] = SKETCH_HEADS
) -> Segformer:
    """Make a model from a file of weights.

    Args:
        source: a file that ``torch.save(model.state_dict(), source)`` wrote, the model lucidrains' or this library's.
        num_classes: other than the file's, the last layer is drawn anew, with a warning that says so.
        heads: attention heads of each stage, which no shape tells.

    Returns:
        The model in evaluation mode, every weight from the file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a file that is corrupt, of no known format, or incomplete. No half-loaded model is ever returned.

    Source: chapter 9.
    """
    path = Path(source)
    state_dict = convert_state_dict(read_state_dict(path))
    try:
        configuration = sketch_configuration(state_dict)
        model = Segformer(**configuration, heads=heads)
        model.load_state_dict(state_dict)
    except KeyError as error:
        raise ValueError(f"{path} lacks {error}: names of {state_dict.format}, but not a whole Segformer.") from error
    except RuntimeError as error:
        raise ValueError(
            f"{path} ({state_dict.format}) does not fit the model that its shapes describe: {error}"
        ) from error
    if num_classes not in (None, configuration["num_classes"]):
        warnings.warn(
            f"{path} has {configuration['num_classes']} classes; the last layer is drawn anew for {num_classes}.",
            stacklevel=2,
        )
        fresh = Segformer(**configuration | {"num_classes": num_classes}, heads=heads)
        last = ("decoder.to_segmentation.1.weight", "decoder.to_segmentation.1.bias")
        fresh.load_state_dict({**state_dict, **{name: fresh.state_dict()[name] for name in last}})
        model = fresh
    return model.eval()
