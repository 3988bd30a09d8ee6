"""From a picture to its class map."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from segformer_edu.data.pictures import normalize, open_picture, resize, to_tensor
from segformer_edu.validation import check_positive

LONGEST = 1024
"""Pixels of a picture's longer side beyond which ``segment`` looks at it reduced, unless it is told a size."""
SMALLEST = 32
NUMBERS_AT_ONCE = 1 << 26  # 256 MB: logits enlarged at a time
SMOOTH_PIXELS = 1 << 22
"""Pixels of a class map up to which logits are enlarged smoothly; beyond, about 2048×2048, its pixels are copied."""


def as_image(image: Image.Image | np.ndarray | torch.Tensor | str | Path) -> torch.Tensor:
    """Return a picture in any of the usual forms as colours (3, H, W) in [0, 1].

    Args:
        image: a path or an address (http, https); a PIL image of any mode; an array (H, W, 3), (H, W, 4), (H, W, 2)
            with grey and transparency, (H, W, 1) or (H, W); a tensor (3, H, W) or (1, 3, H, W). Arrays and tensors
            hold bytes, 16 bits (uint16), or values in [0, 1]. What is transparent lies over white.

    Raises:
        TypeError: something else.
        ValueError: a shape or a range of values other than these, or a file that is no picture; see ``open_picture``.
        FileNotFoundError: a path where there is nothing.
        DownloadError: an address that cannot be fetched.

    Source: chapter 9.
    """
    if isinstance(image, str | Path):
        return to_tensor(open_picture(image))
    if isinstance(image, Image.Image):
        return to_tensor(image)
    if isinstance(image, np.ndarray):
        return from_array(image)
    if not isinstance(image, torch.Tensor):
        raise TypeError(f"The image is a {type(image).__name__}; expected a path, a PIL image, an array or a tensor.")
    image = image[0] if image.ndim == 4 and len(image) == 1 else image
    if image.ndim != 3 or len(image) != 3 or not image.numel():
        raise ValueError(f"The tensor has shape {tuple(image.shape)}; expected one image, (3, H, W) or (1, 3, H, W).")
    return fractions(image)


def from_array(array: np.ndarray) -> torch.Tensor:
    """Return an array (H, W), or (H, W, channels) with 1 to 4 of them, as colours (3, H, W) in [0, 1]."""
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[-1] not in (1, 2, 3, 4)) or not array.size:
        raise ValueError(f"The array has shape {array.shape}; expected (H, W, 3), (H, W, 4) or (H, W).")
    array = array.reshape(*array.shape[:2], -1)
    array = array.astype(np.float32) / 65535 if array.dtype == np.uint16 else np.ascontiguousarray(array)
    values = fractions(torch.from_numpy(array).permute(2, 0, 1))  # (channels, H, W)
    colours = values[:1] if len(values) < 3 else values[:3]
    if len(values) in (2, 4):
        opacity = values[-1:]
        colours = colours * opacity + (1 - opacity)
    return colours.expand(3, -1, -1)


def fractions(values: torch.Tensor) -> torch.Tensor:
    """Return bytes, 16 bits or numbers in [0, 1] as floats in [0, 1]; other numbers are refused."""
    scale = {torch.uint8: 255, torch.uint16: 65535}.get(values.dtype, 1)
    values = values.float() / scale
    if not (values.min() >= 0 and values.max() <= 1):
        raise ValueError(
            f"The values run from {values.min():.3g} to {values.max():.3g}; expected bytes, or numbers in [0, 1]. "
            f"Don't normalise: segment does."
        )
    return values


def looked_at_size(height: int, width: int, size: tuple[int, int] | int | None = None) -> tuple[int, int]:
    """Return the height and width at which ``segment`` shows a picture to the model.

    Args:
        height: of the picture.
        width: of the picture.
        size: (height, width), exactly these; a number, the longer side's, with the other in proportion and at least
            32, which is the least that the model takes; None: the picture's own, at most ``LONGEST``.
    """
    if isinstance(size, tuple | list):
        check_positive(height=size[0], width=size[1])
        return size[0], size[1]
    if size is None and max(height, width) <= LONGEST:
        return height, width
    longest = LONGEST if size is None else size
    check_positive(size=longest)
    scale = longest / max(height, width)
    return max(SMALLEST, round(height * scale)), max(SMALLEST, round(width * scale))


@torch.inference_mode()
def segment(
    model: nn.Module,
    image: Image.Image | np.ndarray | torch.Tensor | str | Path,
    *,
    size: tuple[int, int] | int | None = None,
) -> torch.Tensor:
    """Give every pixel of a picture its class.

    The model looks at the picture in its own size, or, beyond 1024 pixels on the longer side, reduced to that, with a
    warning that says so: a photograph of 4000×3000 pixels would take gigabytes, and its things are larger than those
    in the pictures that published weights were trained on. ``size`` chooses for itself, without a warning.

    Args:
        model: takes normalised images (1, 3, H, W), returns logits of any size.
        image: a path, an address, a PIL image, an array (H, W, 3) or (H, W), or a tensor (3, H, W); see ``as_image``.
        size: at which the model looks: (height, width), such as it was trained at; or the longer side alone.

    Returns:
        Class numbers (H, W) of int64, on the CPU, in the picture's own size: up to 4 million pixels from logits that
        are enlarged bilinearly, beyond by copying such a map's pixels. What the numbers stand for:
        ``data.class_list(model.class_names or model.num_classes)``.

    Raises:
        TypeError, ValueError, FileNotFoundError, DownloadError: a picture that cannot be read; see ``as_image``.
        ValueError: a model that gives one answer for the whole image.

    Source: chapters 7 and 9.
    """
    picture = as_image(image)
    own = (picture.shape[-2], picture.shape[-1])
    target = looked_at_size(*own, size)
    if size is None and target != own:
        warnings.warn(
            f"The picture has {own[0]}×{own[1]} pixels (height, width); the model looks at it in {target[0]}×"
            f"{target[1]}. The class map has the picture's size. segment(…, size={max(own)}) looks at all of it.",
            stacklevel=3,  # past the decorator
        )
    looked_at = picture if target == own else resize(picture, target)
    device = next(model.parameters()).device
    training = model.training
    model.eval()
    try:
        logits = model(normalize(looked_at)[None].to(device))
    finally:
        model.train(training)
    if logits.ndim != 4:
        raise ValueError(
            f"The model answers with shape {tuple(logits.shape)}; expected logits (1, classes, h, w). One that "
            f"classifies whole images has no class for a pixel: load_pretrained(…, num_classes=…) gives it a decoder."
        )
    return enlarged_classes(logits, own)[0].cpu()


def enlarged_classes(logits: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Enlarge logits (B, K, h, w) bilinearly to ``size`` and return the largest one's number (B, H, W).

    A few classes at a time: 150 maps of a photograph's size would not fit into memory. And smoothly to about
    ``SMOOTH_PIXELS`` alone, where a logit of a picture looked at in 1024 pixels is 8 pixels wide: what the map lacks of
    a larger size is copied, so that the largest photographs take no longer.
    """
    shrink = max(1.0, (size[0] * size[1] / SMOOTH_PIXELS) ** 0.5)
    smooth = (max(1, round(size[0] / shrink)), max(1, round(size[1] / shrink)))
    at_once = max(1, NUMBERS_AT_ONCE // (len(logits) * smooth[0] * smooth[1]))
    best: torch.Tensor | None = None
    labels = torch.empty(0)
    for start in range(0, logits.shape[1], at_once):
        part = F.interpolate(logits[:, start : start + at_once], size=smooth, mode="bilinear")
        values, numbers = part.max(dim=1)  # of equal ones the first
        if best is None:
            best, labels = values, numbers
        else:
            labels = torch.where(values > best, numbers + start, labels)
            best = torch.maximum(values, best)
    if smooth == size:
        return labels
    rows, columns = (torch.arange(new, device=labels.device) * old // new for new, old in zip(size, smooth))
    return labels[:, rows][:, :, columns]
