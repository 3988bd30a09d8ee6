"""A data set read once, and kept in memory as bytes."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils.data import Dataset
from tqdm import tqdm

from segformer_edu.data.labels import VOID


class InMemory(Dataset):
    """The items of a data set, read once: to decode files anew in each epoch costs as much as a small model.

    Args:
        data: pairs of an image (C, H, W) in [0, 1], of files of 8 bits, and its class map (H, W).
        progress: whether to show a bar.

    Attributes:
        data: the data set.
        classes: its classes, if it has names for them.
        ignore_index: the number in class maps that means "no class".

    Items: an image (C, H, W) of bytes, and its class map (H, W) of int64.

    Memory: 4 to 5 bytes a pixel; CamVid's 367 pictures to train on take 250 MB.

    Source: chapter 11.
    """

    def __init__(self, data: Any, *, progress: bool = False) -> None:
        self.data = data
        self.classes: tuple[str, ...] | None = getattr(data, "classes", None)
        self.ignore_index: int = getattr(data, "ignore_index", VOID)
        indices = tqdm(range(len(data)), desc="read", leave=False, disable=not progress)
        self.items = [small(*data[index]) for index in indices]

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        image, mask = self.items[index]
        return image, mask.long()


def small(image: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a picture as bytes, and a class map as int16."""
    return image.mul(255).round().byte(), mask.short()


def class_counts(data: Any, num_classes: int) -> torch.Tensor:
    """Count the pixels of each class in a data set's class maps, (num_classes,)."""
    counts = torch.zeros(num_classes, dtype=torch.int64)
    void = getattr(data, "ignore_index", VOID)
    for index in range(len(data)):
        mask = data[index][1]
        counts += torch.bincount(mask[mask != void].flatten(), minlength=num_classes)[:num_classes]
    return counts
