"""Chapter 7: a data set that is to be learned from: what it must be, and its items in batches."""

from __future__ import annotations

import warnings
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch.utils.data import ConcatDataset, DataLoader, IterableDataset, Subset

from segformer_edu.data.items import CheckedItems, Pair
from segformer_edu.data.items import as_pair as as_pair  # where it was, for those who import it from here
from segformer_edu.data.items import void_of as void_of
from segformer_edu.data.labels import VOID
from segformer_edu.data.pairs import zeros_and_255
from segformer_edu.data.shapes import Shapes


class Pairs(Protocol):
    """Pairs of an image and its class map: a data set of PyTorch's that has a length, or a list."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


def check_data(data: Any) -> None:
    """Raise TypeError unless ``data`` can be indexed, ValueError if there is nothing to learn from."""
    by_number = hasattr(data, "__getitem__") and hasattr(data, "__len__")
    if not by_number or isinstance(data, DataLoader | IterableDataset | Mapping | str):
        raise TypeError(
            f"data is a {type(data).__name__}; expected a data set or a list of pairs, with a length and data[0]. "
            f"Batches are made here: give the data set itself, not a DataLoader."
        )
    if not len(data):
        raise ValueError("data is empty; expected at least one pair of an image and a class map.")


def check_void(given: int | str | None, void: int | None, classes: int) -> None:
    """Raise ValueError where 255 would be taken for void though it may be a class, and nobody said so."""
    if given == "data" and void == VOID and classes > VOID:
        raise ValueError(
            f"The model has {classes} classes, of which {VOID} is one, and the data set does not say which number is "
            f"void; say it: ignore_index=-100, or ignore_index=None if there is none."
        )


def warned_of_255(masks: torch.Tensor, given: int | str | None, void: int | None) -> bool:
    """Warn of class maps of 0 and 255 alone, of which 255 is void though nobody said so.

    Returns:
        Whether that is settled: warned of, or not the case. Maps of 0 alone leave it open.
    """
    settled = given != "data" or void != VOID or bool(((masks != 0) & (masks != VOID)).any())
    if not settled and (masks == VOID).any():
        warnings.warn(f"Class maps: {zeros_and_255('a batch', 'class 0')}", stacklevel=4)
        return True
    return settled


def stacks(pairs: Sequence[Pair]) -> Iterator[Pair]:
    """Yield pairs as batches (B, C, H, W) and (B, H, W), each of one size, in their order."""
    start = 0
    for end in range(1, len(pairs) + 1):
        if end == len(pairs) or pairs[end][0].shape != pairs[start][0].shape:
            images, masks = zip(*pairs[start:end])
            yield torch.stack(images), torch.stack(masks)
            start = end


def one_stack(pairs: Sequence[Pair]) -> Pair:
    """Return pairs as one batch (B, C, H, W) and (B, H, W).

    Raises:
        ValueError: pairs of several sizes, or pictures of several numbers of channels.
    """
    found = list(stacks(pairs))
    channels = {images.shape[1] for images, _ in found}
    if len(channels) > 1:
        raise ValueError(
            f"Pictures of {' and '.join(map(str, sorted(channels)))} channels met in a batch; expected one number of "
            f"channels. Grey as red, green and blue: image.expand(3, -1, -1)."
        )
    if len(found) > 1:
        raise several_sizes(list(dict.fromkeys(tuple(images.shape[-2:]) for images, _ in found)))
    return found[0]


def check_sizes(data: Any, batch_size: int) -> None:
    """Raise ValueError if a batch would hold pictures of several sizes, as far as that is known without reading them.

    A list, drawn shapes, pairs of files, and subsets and concatenations of these say it; a data set of one's own says
    it when a batch is made.
    """
    if batch_size > 1:
        known = (known_size(data, index) for index in range(len(data)))
        sizes = list(dict.fromkeys(size for size in known if size is not None))
        if len(sizes) > 1:
            raise several_sizes(sizes)


def several_sizes(sizes: Sequence[tuple[int, ...]]) -> ValueError:
    """Say that pictures of several sizes, (height, width), meet in a batch."""
    return ValueError(
        f"Pictures of several sizes would meet in a batch: {', '.join(map(str, sizes[:4]))}"
        f"{', …' if len(sizes) > 4 else ''} (height, width); expected one size. Give the data set a size "
        f"(Folder(…, size=(height, width))), crop or resize the items, or take Recipe(batch_size=1)."
    )


def known_size(data: Any, index: int) -> tuple[int, ...] | None:
    """Return the (height, width) of an item that is at hand, or whose file's first bytes tell it."""
    if isinstance(data, Subset):
        return known_size(data.dataset, data.indices[index])
    if isinstance(data, ConcatDataset):
        part = bisect_right(data.cumulative_sizes, index)
        return known_size(data.datasets[part], index - (data.cumulative_sizes[part - 1] if part else 0))
    if isinstance(data, list | tuple):
        return tuple(CheckedItems(data)[index][1].shape)
    if isinstance(data, Shapes):
        return data.size, data.size
    size: tuple[int, ...] | None = data.item_size(index) if hasattr(data, "item_size") else None
    return size
