"""Chapter 7: a model's predictions on a data set, compared with the truth."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Subset
from tqdm import tqdm

from segformer_edu.data.items import CheckedItems, void_of
from segformer_edu.data.pictures import Statistics
from segformer_edu.model.logits import (
    check_numbers,
    class_count,
    class_logits,
    evaluating,
    input_channels,
    predicted,
    probabilities_of,
    statistics_of,
)
from segformer_edu.training.items import Pairs, check_data, check_void, stacks, warned_of_255
from segformer_edu.training.metrics import Scores, confusion_matrix
from segformer_edu.training.processes import Processes


def evaluate(
    model: nn.Module,
    data: Pairs,
    *,
    batch_size: int = 8,
    ignore_index: int | str | None = "data",
    device: torch.device | str | None = None,
    flip: bool = False,
    scales: float | Sequence[float] = (1.0,),
    progress: bool = True,
) -> Scores:
    """Compare a model's predictions with the truth, all pixels of all images in one confusion matrix.

    Where several processes share the work (torch.distributed), all of them call this, and each gets the sum.

    Args:
        model: takes normalised images (B, C, H, W), returns logits (B, num_classes, h, w) or an output that has them;
            of float32, float64, float16 or bfloat16. It comes back in the modes that it was in, module by module.
        data: pairs of an image (C, H, W) in [0, 1] and its class map (H, W), of any sizes; see ``data.items.as_pair``.
        batch_size: images at a time, as far as neighbours have one size.
        ignore_index: pixels with this number are not counted; None: all are. "data": the data set's own, or 255.
        device: where to compute; the model's own by default.
        flip: whether each picture is looked at in the mirror too; the mean of the probabilities decides.
        scales: magnifications at which each picture is looked at, or one; the mean of the probabilities decides.
        progress: whether to show a bar.

    Returns:
        The scores; a model with a single logit has two classes, 0 and 1.

    Raises:
        TypeError, ValueError: no data; items that are no such pairs; class numbers that the model does not have;
            scales that are none.

    Source: chapter 7.
    """
    check_data(data)
    void = void_of(data, ignore_index)
    if device is not None:
        model.to(device)
    total = torch.zeros((), dtype=torch.int64)
    statistics, settled = None, False
    items, processes = CheckedItems(data, input_channels(model) or 3), Processes.here()
    shared = processes.count > 1 and len(data) >= processes.count
    mine = Subset(items, range(processes.rank, len(data), processes.count)) if shared else items
    loader = DataLoader(mine, batch_size, collate_fn=list, generator=torch.Generator())  # not the global one
    with evaluating(model), torch.no_grad():  # in inference mode the scores could not be added to
        for pairs in tqdm(loader, desc="evaluate", leave=False, disable=not progress):
            for images, masks in stacks(pairs):
                statistics = statistics or statistics_of(model, images.shape[1])
                settled = settled or warned_of_255(masks, ignore_index, void)
                prediction, count = seen_in_views(model, images, statistics, checked_scales(scales), flip)
                check_void(ignore_index, void, count)
                total = total + confusion_matrix(prediction.cpu(), masks, count, void)
    return Scores(processes.total(total) if shared else total)


def checked_scales(scales: float | Sequence[float]) -> tuple[float, ...]:
    """Return the magnifications at which pictures are looked at.

    Raises:
        TypeError, ValueError: none, or some that are not positive numbers.
    """
    expected = "expected positive numbers, such as (0.75, 1, 1.25)"
    try:
        found = (float(scales),) if isinstance(scales, Real) else tuple(float(scale) for scale in cast(Any, scales))
    except (TypeError, ValueError) as error:
        raise TypeError(f"scales is {scales!r}; {expected}.") from error
    if not found or not all(0 < scale < float("inf") for scale in found):
        raise ValueError(f"scales is {scales!r}; {expected}.")
    return found


def seen_in_views(
    model: nn.Module, images: torch.Tensor, statistics: Statistics, scales: Sequence[float], flip: bool
) -> tuple[torch.Tensor, int]:
    """Return the classes (B, H, W) of pictures, looked at in one or several ways, and how many classes there are."""
    if len(scales) == 1 and not flip:
        logits = view(model, images, statistics, scales[0])
        return predicted(logits), class_count(logits)
    views = [view(model, images, statistics, scale) for scale in scales]
    views += [view(model, images.flip(-1), statistics, scale).flip(-1) for scale in scales if flip]
    mean = torch.stack([probabilities_of(logits) for logits in views]).mean(dim=0)
    return mean.argmax(dim=1), class_count(views[0])


def view(model: nn.Module, images: torch.Tensor, statistics: Statistics, scale: float) -> torch.Tensor:
    """Return logits (B, K, H, W) of pictures that are looked at in another size."""
    size = images.shape[-2:]
    if scale != 1:
        target = [max(32, round(side * scale)) for side in size]
        images = F.interpolate(images, size=target, mode="bilinear", antialias=scale < 1)
    return F.interpolate(check_numbers(class_logits(model, images, statistics)), size=size, mode="bilinear")
