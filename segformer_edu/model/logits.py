"""Chapters 7 and 9: pictures into any model, logits out of it, and the classes that these stand for."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from segformer_edu.data.pictures import IMAGENET_MEAN, IMAGENET_STD, OTHER_MEAN, OTHER_STD, Statistics, normalize
from segformer_edu.model.config import unwrapped


def input_channels(model: nn.Module) -> int | None:
    """Return how many channels a model's pictures have; None where it does not say."""
    config = getattr(unwrapped(model), "config", None)
    for name in ("channels", "num_channels"):  # ours, transformers'
        if isinstance(count := getattr(config, name, None), int):
            return count
    mean = said(model, "image_mean")
    return None if mean is None else len(mean)


def said(model: nn.Module, name: str) -> tuple[float, ...] | None:
    """Return a model's ``image_mean`` or ``image_std``; what was set on a wrapper is handed to the model inside."""
    inner = unwrapped(model)
    if inner is not model and name in vars(model):
        setattr(inner, name, vars(model)[name])
    values = getattr(inner, name, None)
    return None if values is None else tuple(torch.as_tensor(values, dtype=torch.float64).flatten().tolist())


def statistics_of(model: nn.Module, channels: int) -> Statistics:
    """Return the mean and standard deviation that a model's pictures are normalised with.

    What the model says, in ``image_mean`` and ``image_std``; else ImageNet's for three channels. For any other number
    0.5 and 0.25 are taken, with a warning that says how to give better ones.

    Raises:
        ValueError: the model takes another number of channels.
    """
    expected = input_channels(model)
    if expected not in (None, channels):
        raise ValueError(
            f"The images have {channels} channels, and the model takes {expected}; expected the same. Make the model "
            f"with channels={channels}, or the data set (Folder(…, channels={expected}))."
        )
    mean, std = said(model, "image_mean"), said(model, "image_std")
    if (mean is None) != (std is None):
        raise ValueError(f"image_mean is {mean}, image_std {std}; expected both, or neither.")
    if mean is not None and std is not None:
        return mean, std
    if channels == 3:
        return IMAGENET_MEAN, IMAGENET_STD
    warnings.warn(
        f"Nobody said what mean and standard deviation pictures of {channels} channels have; {OTHER_MEAN} and "
        f"{OTHER_STD} are taken for each. Better: model.image_mean, model.image_std = "
        f"segformer_edu.data.statistics(data), before training; they are kept with the weights.",
        stacklevel=3,
    )
    return (OTHER_MEAN,) * channels, (OTHER_STD,) * channels


def class_logits(model: nn.Module, images: torch.Tensor, statistics: Statistics) -> torch.Tensor:
    """Normalise pictures, show them to a model on its device and in its type of numbers, and return its logits.

    Args:
        model: returns logits (B, K, h, w); or, as models of transformers and torchvision do, an output that has them.
        images: colours (B, C, H, W) in [0, 1].
        statistics: mean and standard deviation of each channel; see ``statistics_of``.

    Returns:
        Logits (B, K, h, w), in float32 or float64 whatever the model's type.

    Raises:
        TypeError, ValueError: a model that returns something else.
    """
    weight = next((value for value in model.parameters() if value.is_floating_point()), torch.zeros(()))
    images = images.to(weight.device, torch.promote_types(weight.dtype, torch.float32))
    output = model(normalize(images, *statistics).to(weight.dtype))
    logits = logits_in(output)
    if logits.ndim != 4 or len(logits) != len(images):
        raise ValueError(
            f"The model answers with shape {tuple(logits.shape)}; expected logits ({len(images)}, classes, h, w). One "
            f"that classifies whole images has no class for a pixel: load_pretrained(…, num_classes=…) gives it a "
            f"decoder."
        )
    return logits if logits.dtype == torch.float64 else logits.float()


def check_numbers(logits: torch.Tensor) -> torch.Tensor:
    """Return logits all of which are finite numbers.

    Raises:
        FloatingPointError: NaN, of which the largest would be the first class; or infinity, which becomes NaN where a
            map is enlarged.
    """
    finite = logits.isfinite()
    if bool(finite.all()):
        return logits
    raise FloatingPointError(
        f"The model's logits are NaN or infinite at {1 - finite.all(dim=1).double().mean().item():.0%} of the places; "
        f"expected finite numbers. In float16 large ones overflow: model.float() helps. Else some weights are NaN or "
        f"huge: train with a lower learning rate, or load them again. A class that is to be forbidden can have -1e9."
    )


def logits_in(output: Any) -> torch.Tensor:
    """Return the logits in what a model returned.

    Raises:
        TypeError: there are none.
    """
    if isinstance(output, torch.Tensor):
        return output
    found = getattr(output, "logits", None)
    if found is None and isinstance(output, Mapping):
        found = next((output[name] for name in ("logits", "out") if name in output), None)
    if found is None and isinstance(output, tuple | list) and output:
        found = output[0]
    if not isinstance(found, torch.Tensor):
        raise TypeError(
            f"The model returns a {type(output).__name__}; expected logits, a tensor (B, classes, h, w), or an output "
            f"that has them as logits or out."
        )
    return found


def class_count(logits: torch.Tensor) -> int:
    """Return how many classes logits (B, K, h, w) tell apart: a single logit tells two."""
    return max(2, logits.shape[1])


def probabilities_of(logits: torch.Tensor) -> torch.Tensor:
    """Return each class's probability (B, K, h, w); of a single logit, those of no and yes, (B, 2, h, w)."""
    if logits.shape[1] == 1:
        yes = logits.sigmoid()
        return torch.cat([1 - yes, yes], dim=1)
    return logits.softmax(dim=1)


def predicted(logits: torch.Tensor) -> torch.Tensor:
    """Return the class (B, h, w) of the largest logit; of a single logit, 1 where it is positive."""
    return (logits[:, 0] > 0).long() if logits.shape[1] == 1 else logits.argmax(dim=1)


@contextmanager
def modes_kept(model: nn.Module) -> Iterator[None]:
    """Put each module's training mode back as it was found, whatever the block does."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, mode in modes:
            if module.training != mode:
                module.train(mode)  # its children too, which come after it


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put a model into evaluation mode for the block, and each module back as it was found."""
    with modes_kept(model):
        model.eval()
        yield
