"""Chapter 7: a model's predictions on a data set, compared with the truth."""

from __future__ import annotations

from typing import Any, Protocol, cast

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from segformer_edu.data.labels import VOID
from segformer_edu.data.pictures import normalize
from segformer_edu.training.metrics import Scores, confusion_matrix
from segformer_edu.validation import check_finite


class Pairs(Protocol):
    """Pairs of an image and its class map: a data set of PyTorch's that has a length, or a list."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> tuple[torch.Tensor, torch.Tensor]: ...


def check_data(data: Pairs) -> None:
    """Raise ValueError if there is nothing to learn from."""
    if not len(data):
        raise ValueError("data is empty; expected at least one pair of an image and a class map.")


@torch.inference_mode()
def evaluate(
    model: nn.Module,
    data: Pairs,
    *,
    batch_size: int = 8,
    ignore_index: int = VOID,
    device: torch.device | None = None,
    progress: bool = True,
) -> Scores:
    """Compare a model's predictions with the truth, all pixels of all images in one confusion matrix.

    Args:
        model: takes normalised images (B, 3, H, W), returns logits (B, num_classes, h, w).
        data: pairs of an image (3, H, W) in [0, 1] and its class map (H, W).
        batch_size: images at a time, all of one size.
        ignore_index: pixels with this number are not counted.
        device: where to compute; the model's own by default.
        progress: whether to show a bar.

    Raises:
        ValueError: no data; images that are not finite; class numbers that the model does not have.

    Source: chapter 7.
    """
    check_data(data)
    device = device or next(model.parameters()).device
    model.to(device)
    training = model.training
    model.eval()
    total = torch.zeros((), dtype=torch.int64)
    loader = DataLoader(cast(Any, data), batch_size)
    try:
        for images, masks in tqdm(loader, desc="evaluate", leave=False, disable=not progress):
            check_finite(images)
            logits = model(normalize(images.to(device)))
            prediction = F.interpolate(logits, size=masks.shape[-2:], mode="bilinear").argmax(dim=1)
            total = total + confusion_matrix(prediction.cpu(), masks, logits.shape[1], ignore_index)
    finally:
        model.train(training)
    return Scores(total)
