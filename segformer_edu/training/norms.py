"""Chapter 11: BatchNorm's statistics, computed again from whole pictures."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.data import DataLoader
from tqdm import tqdm

from segformer_edu.data.items import CheckedItems
from segformer_edu.model.logits import class_logits, evaluating, input_channels, statistics_of
from segformer_edu.training.items import check_data, stacks


@torch.no_grad()
def recompute_statistics(model: nn.Module, data: Any, *, batch_size: int = 8, progress: bool = True) -> None:
    """Set the running mean and variance of each BatchNorm to those of a data set, in place.

    While a model learns, they are a mean over the last crops, which are darker, brighter, larger and smaller than the
    pictures, and over the weights of the last steps. All other layers compute as in evaluation.

    Args:
        model: see ``evaluate``.
        data: pairs whose pictures are looked at as they are.
        batch_size: pictures at a time, as far as neighbours have one size.
        progress: whether to show a bar.

    Raises:
        TypeError, ValueError: no data, or items that are no pairs. Whatever stops this, the model is as it was before.

    Source: Wu and Johnson, "Rethinking 'Batch' in BatchNorm", 2021; chapter 11.
    """
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]
    if not norms:
        return
    check_data(data)
    momenta, before = [norm.momentum for norm in norms], [deepcopy(dict(norm.named_buffers())) for norm in norms]
    loader = DataLoader(
        CheckedItems(data, input_channels(model) or 3), batch_size, collate_fn=list, generator=torch.Generator()
    )
    try:
        with evaluating(model):
            for norm in norms:
                norm.reset_running_stats()
                norm.momentum = None  # each batch counts the same
                norm.train()
            for pairs in tqdm(loader, desc="statistics", leave=False, disable=not progress):
                for images, _ in stacks(pairs):
                    class_logits(model, images, statistics_of(model, images.shape[1]))
    except BaseException:  # a damaged item, or Ctrl-C: what was learned is not lost
        for norm, buffers in zip(norms, before):
            norm.load_state_dict(buffers, strict=False)
        raise
    finally:
        for norm, momentum in zip(norms, momenta):
            norm.momentum = momentum
