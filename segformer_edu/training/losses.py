"""Chapter 7: the loss of a class map."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from segformer_edu.data.labels import VOID
from segformer_edu.model.logits import class_count


def segmentation_loss(
    logits: torch.Tensor,
    masks: torch.Tensor,
    ignore_index: int | None = VOID,
    class_weights: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return the mean cross-entropy over the pixels that have a class; zero where none has.

    Args:
        logits: scores (B, num_classes, h, w); upsampled once, bilinearly, to the masks' size. A single logit stands for
            two classes, 0 and 1: where it is positive, 1 is the likelier.
        masks: class numbers (B, H, W).
        ignore_index: pixels with this number do not count; None: all do.
        class_weights: how much a pixel of each class counts, (num_classes,); the mean is weighted likewise.

    Raises:
        TypeError, ValueError: masks of other than whole numbers or of another shape, a class that the model does not
            have, another number of weights than of classes.

    Source: chapter 7.
    """
    num_classes = class_count(logits)
    if masks.is_floating_point() or masks.shape[:1] != logits.shape[:1] or masks.ndim != 3:
        raise TypeError(
            f"The masks are {masks.dtype} of shape {tuple(masks.shape)}; expected class numbers, whole ones, of shape "
            f"({len(logits)}, H, W)."
        )
    masks = masks.long()
    check_classes(masks, num_classes, ignore_index)
    counted = torch.ones_like(masks, dtype=torch.bool) if ignore_index is None else masks != ignore_index
    targets = masks.where(counted, 0)
    logits = F.interpolate(logits, size=masks.shape[-2:], mode="bilinear")
    if class_weights is None and logits.shape[1] > 1:
        summed = F.cross_entropy(logits, masks.where(counted, -100), ignore_index=-100, reduction="sum")
        return summed / counted.sum().clamp(min=1)
    if logits.shape[1] == 1:
        losses = F.binary_cross_entropy_with_logits(logits[:, 0], targets.to(logits.dtype), reduction="none")
    else:
        losses = F.cross_entropy(logits, targets, reduction="none")
    if class_weights is None:
        class_weights = torch.ones(num_classes)
    if class_weights.shape != (num_classes,):
        raise ValueError(
            f"class_weights has shape {tuple(class_weights.shape)}; expected ({num_classes},), one a class."
        )
    weights = class_weights.to(logits)[targets] * counted
    return (losses * weights).sum() / weights.sum().clamp(min=torch.finfo(weights.dtype).tiny)


def check_classes(masks: torch.Tensor, num_classes: int, ignore_index: int | None) -> None:
    """Raise ValueError if class maps hold a class that the model does not have."""
    wrong = (masks < 0) | (masks >= num_classes)
    if ignore_index is not None:
        wrong &= masks != ignore_index
    if wrong.any():
        void = f"pixels without a class must be {ignore_index}"
        void = "there is no void (ignore_index=None)" if ignore_index is None else void
        raise ValueError(
            f"The masks hold class {int(masks[wrong][0])}, but the model has {num_classes} classes, 0 to "
            f"{num_classes - 1}; {void}. Make the model with more classes, or relabel."
        )
