"""A data set read once, and kept in memory as bytes."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils.data import Dataset
from tqdm import tqdm

from segformer_edu.data.items import CheckedItems, as_class_map, class_names, halves_of, void_of

WHOLE = (torch.int16, torch.int32, torch.int64)


class InMemory(Dataset):
    """The items of a data set, read once: to decode files anew in each epoch costs as much as a small model.

    Args:
        data: pairs of an image (C, H, W) in [0, 1], of files of 8 bits, and its class map (H, W); all that ``fit``
            takes.
        channels: of the pictures that are made of PIL images.
        progress: whether to show a bar.

    Attributes:
        data: the data set.
        classes: its classes, if it has names for them.
        ignore_index: the number in class maps that means "no class"; None where there is none.

    Raises:
        TypeError, ValueError: an item that ``fit`` would refuse; data sets with several voids in one.

    Items: an image (C, H, W) of bytes, and its class map (H, W) of int64.

    Memory: 4 to 5 bytes a pixel; CamVid's 367 pictures to train on take 250 MB.

    Source: chapter 11.
    """

    def __init__(self, data: Any, *, channels: int = 3, progress: bool = False) -> None:
        self.data = data
        self.classes: tuple[str, ...] | None = class_names(data)
        self.ignore_index = void_of(data, "data")
        checked = CheckedItems(data, channels)
        indices = tqdm(range(len(data)), desc="read", leave=False, disable=not progress)
        self.items = [small(*checked[index]) for index in indices]

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        image, mask = self.items[index]
        return image, mask.long()


def small(image: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a picture as bytes, and a class map in the smallest numbers, of int16 and larger, that hold it."""
    low, high = (int(value) for value in mask.aminmax())
    fits = (kind for kind in WHOLE if torch.iinfo(kind).min <= low and high <= torch.iinfo(kind).max)
    return image.clamp(0, 1).mul(255).round().byte(), mask.to(next(fits))


def class_counts(data: Any, num_classes: int) -> torch.Tensor:
    """Count the pixels of each class in a data set's class maps, (num_classes,)."""
    counts = torch.zeros(num_classes, dtype=torch.int64)
    void = void_of(data, "data")
    for index in range(len(data)):
        mask = as_class_map(halves_of(data[index])[1])
        counted = mask if void is None else mask[mask != void]
        counts += torch.bincount(counted.flatten(), minlength=num_classes)[:num_classes]
    return counts
