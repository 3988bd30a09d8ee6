"""Chapter 7: the loss of a class map."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from segformer_edu.data.labels import VOID


def segmentation_loss(logits: torch.Tensor, masks: torch.Tensor, ignore_index: int = VOID) -> torch.Tensor:
    """Return the mean cross-entropy over the pixels that have a class; zero where none has.

    Args:
        logits: scores (B, num_classes, h, w); upsampled once, bilinearly, to the masks' size.
        masks: class numbers (B, H, W).
        ignore_index: pixels with this number do not count.

    Raises:
        ValueError: a class that the model does not have.

    Source: chapter 7.
    """
    num_classes = logits.shape[1]
    wrong = masks[(masks != ignore_index) & ((masks < 0) | (masks >= num_classes))]
    if len(wrong):
        raise ValueError(
            f"The masks hold class {int(wrong[0])}, but the model has {num_classes} classes, 0 to {num_classes - 1}; "
            f"pixels without a class must be {ignore_index}. Make the model with more classes, or relabel."
        )
    logits = F.interpolate(logits, size=masks.shape[-2:], mode="bilinear")
    counted = (masks != ignore_index).sum().clamp(min=1)
    return F.cross_entropy(logits, masks, ignore_index=ignore_index, reduction="sum") / counted
