"""Chapter 7: a model's predictions on a data set, compared with the truth."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from segformer_edu.model.logits import (
    class_count,
    class_logits,
    evaluating,
    input_channels,
    predicted,
    statistics_of,
)
from segformer_edu.training.items import CheckedItems, Pairs, check_data, check_void, stacks, void_of, warned_of_255
from segformer_edu.training.metrics import Scores, confusion_matrix


def evaluate(
    model: nn.Module,
    data: Pairs,
    *,
    batch_size: int = 8,
    ignore_index: int | str | None = "data",
    device: torch.device | str | None = None,
    progress: bool = True,
) -> Scores:
    """Compare a model's predictions with the truth, all pixels of all images in one confusion matrix.

    Args:
        model: takes normalised images (B, C, H, W), returns logits (B, num_classes, h, w) or an output that has them;
            of float32, float64, float16 or bfloat16. It comes back in the modes that it was in, module by module.
        data: pairs of an image (C, H, W) in [0, 1] and its class map (H, W), of any sizes; see ``items.as_pair``.
        batch_size: images at a time, as far as neighbours have one size.
        ignore_index: pixels with this number are not counted; None: all are. "data": the data set's own, or 255.
        device: where to compute; the model's own by default.
        progress: whether to show a bar.

    Returns:
        The scores; a model with a single logit has two classes, 0 and 1.

    Raises:
        TypeError, ValueError: no data; items that are no such pairs; class numbers that the model does not have.

    Source: chapter 7.
    """
    check_data(data)
    void = void_of(data, ignore_index)
    if device is not None:
        model.to(device)
    total = torch.zeros((), dtype=torch.int64)
    statistics, settled = None, False
    items = CheckedItems(data, input_channels(model) or 3)
    loader = DataLoader(items, batch_size, collate_fn=list, generator=torch.Generator())  # not the global one
    with evaluating(model), torch.no_grad():  # in inference mode the scores could not be added to
        for pairs in tqdm(loader, desc="evaluate", leave=False, disable=not progress):
            for images, masks in stacks(pairs):
                statistics = statistics or statistics_of(model, images.shape[1])
                settled = settled or warned_of_255(masks, ignore_index, void)
                logits = class_logits(model, images, statistics)
                check_void(ignore_index, void, class_count(logits))
                prediction = predicted(F.interpolate(logits, size=masks.shape[-2:], mode="bilinear"))
                total = total + confusion_matrix(prediction.cpu(), masks, class_count(logits), void)
    return Scores(total)
