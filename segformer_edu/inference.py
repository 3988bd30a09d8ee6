"""From a picture to its class map."""

from __future__ import annotations

import warnings
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from segformer_edu.data.pairs import middles
from segformer_edu.data.pictures import Statistics, as_image, resize
from segformer_edu.model.logits import (
    check_numbers,
    class_logits,
    evaluating,
    input_channels,
    predicted,
    probabilities_of,
    statistics_of,
)
from segformer_edu.validation import check_positive

__all__ = ["looked_at_size", "segment"]

LONGEST = 1024
"""Pixels of a picture's longer side beyond which ``segment`` looks at it reduced, unless it is told a size."""
SMALLEST = 32
GRID = 4  # pixels of a picture to a logit of SegFormer
NUMBERS_AT_ONCE = 1 << 26  # 256 MB: logits enlarged at a time
SMOOTH_PIXELS = 1 << 22
"""Pixels of a class map up to which logits are enlarged smoothly; beyond, about 2048×2048, its pixels are copied."""


def looked_at_size(height: int, width: int, size: tuple[int, int] | int | None = None) -> tuple[int, int]:
    """Return the height and width at which ``segment`` shows a picture to the model.

    Args:
        height: of the picture.
        width: of the picture.
        size: (height, width), exactly these; a number, the longer side's, with the other in proportion and at least
            32, which is the least that the model takes; None: the picture's own, at most ``LONGEST``, and enlarged
            until its shorter side has 32 pixels.
    """
    if isinstance(size, tuple | list):
        if len(size) != 2:
            raise ValueError(f"size is {size!r}; expected (height, width), or one number for the longer side.")
        check_positive(height=size[0], width=size[1])
        return int(size[0]), int(size[1])
    enlarged = max(1.0, SMALLEST / min(height, width)) * max(height, width)
    if size is None and max(height, width) <= LONGEST and enlarged == max(height, width):
        return height, width
    longest = min(LONGEST, round(enlarged)) if size is None else size
    check_positive(size=longest)
    scale = longest / max(height, width)
    return max(SMALLEST, round(height * scale)), max(SMALLEST, round(width * scale))


def segment(
    model: nn.Module,
    image: Any,
    *,
    size: tuple[int, int] | int | None = None,
    window: tuple[int, int] | int | None = None,
    overlap: float = 1 / 3,
    probabilities: bool = False,
) -> Any:
    """Give every pixel of a picture its class.

    The model looks at the picture in its own size, or, beyond 1024 pixels on the longer side, reduced to that, with a
    warning that says so: a photograph of 4000×3000 pixels would take gigabytes, and its things are larger than those
    in the pictures that published weights were trained on. ``size`` chooses for itself, without a warning. ``window``
    looks at a large picture in its own size, one part after the other; where parts overlap, logits are averaged.

    Args:
        model: takes normalised images (1, C, H, W), returns logits (1, K, h, w) or an output that has them; of
            float32, float64, float16 or bfloat16. It comes back in the modes that it was in, module by module.
        image: a path, an address, bytes, an open file, a PIL image, an array or a tensor; see ``as_image``. Or a list
            of these, one after the other.
        size: at which the model looks: (height, width), such as it was trained at; or the longer side alone.
        window: (height, width) of the parts, or one number for both, from 32 up.
        overlap: of neighbouring parts, as a fraction of their size below 1.
        probabilities: whether to return each class's probability in place of the class.

    Returns:
        Class numbers (H, W) of int64, on the CPU, in the picture's own size: up to 4 million pixels from logits that
        are enlarged bilinearly, beyond by copying such a map's pixels. A single logit gives classes 0 and 1. What the
        numbers stand for: ``data.class_list(model.class_names or model.num_classes)``. With ``probabilities`` floats
        (K, H, W) that sum to 1 at each pixel, of a single logit (2, H, W). For a list of pictures a list of these.

    Raises:
        TypeError, ValueError, FileNotFoundError, DownloadError: a picture that cannot be read; see ``as_image``.
        ValueError: a model that gives one answer for the whole image, or sizes that are none.
        FloatingPointError: a model whose logits are NaN or infinite.

    Source: chapters 7 and 9; the window as mmsegmentation's "slide" mode has it.
    """
    if isinstance(image, list | tuple):
        options: dict[str, Any] = {"size": size, "window": window, "overlap": overlap, "probabilities": probabilities}
        return [segment(model, each, **options) for each in image]
    picture = as_image(image, channels_of(model, image))
    own = (picture.shape[-2], picture.shape[-1])
    if window is None or size is not None:
        target = looked_at_size(*own, size)
    else:
        target = (max(SMALLEST, own[0]), max(SMALLEST, own[1]))
    if size is None and target != own:
        warnings.warn(why_other_size(own, target), stacklevel=2)
    looked_at = picture if target == own else resize(picture, target)
    parts = None if window is None else checked_window(window)
    statistics = statistics_of(model, len(picture))
    with evaluating(model), torch.no_grad():  # what is made in inference mode could not be changed by the caller
        if parts is None or (parts[0] >= target[0] and parts[1] >= target[1]):
            logits, covered = check_numbers(class_logits(model, looked_at[None], statistics)), own
        else:
            logits = windowed_logits(model, looked_at, statistics, parts, overlap)
            covered = covered_size(own, target)
        if probabilities:
            found = probabilities_of(F.interpolate(logits, size=covered, mode="bilinear"))[0].float()
        else:
            found = enlarged_classes(logits, covered)[0]
    return found[..., : own[0], : own[1]].contiguous().cpu()


def channels_of(model: nn.Module, image: Any) -> int:
    """Return how many channels a model's pictures have: as it says, else as a tensor has them, else three."""
    tensor = isinstance(image, torch.Tensor) and image.ndim in (3, 4) and image.shape[-1] not in (1, 3, 4)
    return input_channels(model) or (image.shape[-3] if tensor else 3)


def why_other_size(own: tuple[int, int], target: tuple[int, int]) -> str:
    """Say at which size a model looks at a picture, and what chooses another."""
    advice = f"segment(…, size={max(own)}) looks at all of it, window=512 at one part after the other"
    if max(own) <= LONGEST:
        advice = f"{SMALLEST} is the least that a model takes; segment(…, size=…) chooses another size"
    return (
        f"The picture has {own[0]}×{own[1]} pixels (height, width); the model looks at it in {target[0]}×{target[1]}. "
        f"The class map has the picture's size. {advice}."
    )


def checked_window(window: tuple[int, int] | int) -> tuple[int, int]:
    """Return a window's (height, width).

    Raises:
        TypeError, ValueError: something else, or less than 32 pixels.
    """
    sides = tuple(window) if isinstance(window, tuple | list) else (window, window)
    if len(sides) != 2:
        raise ValueError(f"window is {window!r}; expected (height, width), or one number for both.")
    check_positive(**{"window's height": sides[0], "window's width": sides[1]})
    if min(sides) < SMALLEST:
        raise ValueError(f"window is {window!r}; expected at least {SMALLEST} pixels, the least that a model takes.")
    return int(sides[0]), int(sides[1])


def windowed_logits(
    model: nn.Module, picture: torch.Tensor, statistics: Statistics, window: tuple[int, int], overlap: float
) -> torch.Tensor:
    """Return the mean of the logits of overlapping parts of a picture, (1, K, H/4, W/4), rounded up, or finer.

    Parts lie on multiples of 4 pixels, so that logits of a quarter of the size, as SegFormer's, fall on one grid. A
    coarser model's are brought to it, a finer one's kept as they are. At the right and lower edge up to 3 pixels are
    repeated.

    Args:
        model: see ``segment``.
        picture: (C, H, W) in [0, 1].
        statistics: of its channels.
        window: (height, width) of the parts, in pixels; rounded up to multiples of 4.
        overlap: of neighbouring parts, as a fraction of their size.
    """
    if not 0 <= overlap < 1:
        raise ValueError(f"overlap is {overlap!r}; expected a fraction from 0 to below 1, such as 1/3.")
    rows, columns = (-(-side // GRID) for side in picture.shape[-2:])  # of the grid of logits
    padding = (0, columns * GRID - picture.shape[-1], 0, rows * GRID - picture.shape[-2])
    padded = F.pad(picture[None], padding, mode="replicate")
    height, width = min(rows, -(-window[0] // GRID)), min(columns, -(-window[1] // GRID))
    total, count = torch.zeros(()), torch.zeros(())
    for top in corners(rows, height, overlap):
        for left in corners(columns, width, overlap):
            part = padded[..., top * GRID : (top + height) * GRID, left * GRID : (left + width) * GRID]
            logits = check_numbers(class_logits(model, part, statistics))
            fine = min(GRID, max(1, logits.shape[-2] // height))  # logits to a side of a cell; SegFormer's have one
            logits = F.interpolate(logits, size=(height * fine, width * fine), mode="bilinear")
            if not total.ndim:
                total, count = (logits.new_zeros(1, k, rows * fine, columns * fine) for k in (logits.shape[1], 1))
            down, right = slice(top * fine, (top + height) * fine), slice(left * fine, (left + width) * fine)
            total[..., down, right] += logits
            count[..., down, right] += 1
    return total.div_(count)


def covered_size(own: tuple[int, int], target: tuple[int, int]) -> tuple[int, int]:
    """Return what ``windowed_logits`` covers of a picture looked at in ``target``, in pixels of its ``own`` size."""
    height, width = (-(-side // GRID) * GRID * pixels // side for side, pixels in zip(target, own))
    return height, width


def corners(side: int, part: int, overlap: float) -> list[int]:
    """Return where parts begin that cover a side, in cells of the grid; the last one ends where the side does."""
    step = max(1, int(part * (1 - overlap)))
    return [*range(0, side - part, step), side - part]


def enlarged_classes(logits: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Enlarge logits (B, K, h, w) bilinearly to ``size`` and return the largest one's number (B, H, W).

    A few classes at a time: 150 maps of a photograph's size would not fit into memory. And smoothly to about
    ``SMOOTH_PIXELS`` alone, where a logit of a picture looked at in 1024 pixels is 8 pixels wide: what the map lacks of
    a larger size is copied, so that the largest photographs take no longer.
    """
    shrink = max(1.0, (size[0] * size[1] / SMOOTH_PIXELS) ** 0.5)
    smooth = (max(1, round(size[0] / shrink)), max(1, round(size[1] / shrink)))
    at_once = max(1, NUMBERS_AT_ONCE // (len(logits) * smooth[0] * smooth[1]))
    if logits.shape[1] == 1:
        return copied(predicted(F.interpolate(logits, size=smooth, mode="bilinear")), size)
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
    return copied(labels, size)


def copied(labels: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Enlarge class maps (B, h, w) to (B, *size) by copying their pixels."""
    if labels.shape[-2:] == size:
        return labels
    rows, columns = (middles(new, old).to(labels.device) for new, old in zip(size, labels.shape[-2:]))
    return labels[:, rows][:, :, columns]
