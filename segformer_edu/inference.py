"""From a picture to its class map."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from segformer_edu.data.pictures import as_image, normalize, resize
from segformer_edu.validation import check_positive

LONGEST = 1024
"""Pixels of a picture's longer side beyond which ``segment`` looks at it reduced, unless it is told a size."""
SMALLEST = 32
NUMBERS_AT_ONCE = 1 << 26  # 256 MB: logits enlarged at a time
SMOOTH_PIXELS = 1 << 22
"""Pixels of a class map up to which logits are enlarged smoothly; beyond, about 2048×2048, its pixels are copied."""


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
