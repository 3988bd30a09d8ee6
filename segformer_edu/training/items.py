"""Chapter 7: what a data set gives, brought to one form: a picture in [0, 1] and its class map."""

from __future__ import annotations

import warnings
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from numbers import Integral
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch.utils.data import ConcatDataset, DataLoader, Dataset, IterableDataset, Subset

from segformer_edu.data.labels import VOID
from segformer_edu.data.pairs import zeros_and_255
from segformer_edu.data.pictures import IMAGE_KEYS, SLACK, as_image
from segformer_edu.data.shapes import Shapes
from segformer_edu.validation import check_finite

MASK_KEYS = ("mask", "masks", "labels", "label", "segmentation", "segmentation_mask", "annotation", "target")
Pair = tuple[torch.Tensor, torch.Tensor]


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


def void_of(data: Any, given: int | str | None) -> int | None:
    """Return the number that stands for no class: as given, or for "data" what the data set says, or 255.

    Raises:
        TypeError: something else.
        ValueError: data sets with several voids in one.
    """
    if given is None or (isinstance(given, Integral) and not isinstance(given, bool)):
        return None if given is None else int(given)
    if given != "data":
        raise TypeError(f"ignore_index is {given!r}; expected a whole number, None for no void, or 'data'.")
    told = {getattr(part, "ignore_index", VOID) for part in parts_of(data)}
    if len(told) > 1:
        raise ValueError(
            f"The data sets that were put together have the voids {', '.join(map(str, told))}; expected one. Say which "
            f"number is void (ignore_index=…), and bring the others to it."
        )
    void: int | None = told.pop()
    return void


def parts_of(data: Any) -> Iterator[Any]:
    """Yield the data sets that a subset or a concatenation is made of."""
    if isinstance(data, Subset):
        yield from parts_of(data.dataset)
    elif isinstance(data, ConcatDataset):
        for part in data.datasets:
            yield from parts_of(part)
    else:
        yield data


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


def as_pair(item: Any, channels: int = 3) -> Pair:
    """Return an item of a data set as a picture and its class map.

    Args:
        item: (image, mask), also with more behind them; or a dictionary that has them under names such as "image" and
            "mask", "pixel_values" and "labels". The image is a tensor or an array (C, H, W), or an array (H, W, C):
            bytes, 16 bits, or numbers in [0, 1]; or a PIL image. The mask is (H, W) or (1, H, W), of any type of whole
            numbers; or a PIL image of one channel.
        channels: of the picture that is made of a PIL image.

    Returns:
        The image, floats (C, H, W) in [0, 1], and the class map (H, W) of int64.

    Raises:
        TypeError, ValueError: something else.
    """
    if isinstance(item, Mapping):
        names = [next((name for name in known if name in item), None) for known in (IMAGE_KEYS, MASK_KEYS)]
        if None in names:
            raise TypeError(
                f"An item has {', '.join(map(repr, item))}; expected a pair (image, mask), or a dictionary with "
                f"'image' and 'mask' (or 'pixel_values' and 'labels')."
            )
        image, mask = item[names[0]], item[names[1]]
    elif isinstance(item, tuple | list) and len(item) >= 2:
        image, mask = item[0], item[1]
        if len(item) > 2:
            warnings.warn(f"Items have {len(item)} parts; the first two are taken, image and mask.", stacklevel=2)
    else:
        raise TypeError(f"An item is a {type(item).__name__}; expected a pair (image, mask), or a dictionary of them.")
    mask = as_class_map(mask)
    if isinstance(image, np.ndarray) and image.ndim == 3 and image.shape[:2] == mask.shape != image.shape[1:]:
        image = image.transpose(2, 0, 1)
    image = as_picture(image, channels)
    if image.shape[-2:] != mask.shape:
        raise ValueError(
            f"An image has {tuple(image.shape[-2:])} pixels (height, width), its class map {tuple(mask.shape)}; "
            f"expected the same. Resize the map without smoothing (nearest)."
        )
    return image, mask


def as_picture(value: Any, channels: int = 3) -> torch.Tensor:
    """Return an image (C, H, W) as floats in [0, 1]; see ``as_pair``."""
    if isinstance(value, Image.Image):
        return as_image(value, channels)
    image = as_tensor(value, "An image", "a tensor (C, H, W) in [0, 1]")
    if image.ndim != 3 or not image.numel():
        raise ValueError(f"An image has shape {tuple(image.shape)}; expected (C, H, W), one picture.")
    if image.shape[-1] in (1, 3, 4) and image.shape[0] > 16:
        raise ValueError(
            f"An image has shape {tuple(image.shape)}, with the channels last; expected (C, H, W): "
            f"image.permute(2, 0, 1)."
        )
    if image.dtype in (torch.uint8, torch.uint16):
        return image.float().div(torch.iinfo(image.dtype).max)
    if not image.is_floating_point():
        raise TypeError(f"An image is {image.dtype}; expected bytes (uint8), or floats in [0, 1].")
    check_finite(image)
    low, high = image.min().item(), image.max().item()
    if low < -SLACK or high > 1 + SLACK:
        advice = "divide by 255" if low >= 0 and high > 2 else "don't normalise: that is done here, once"
        raise ValueError(
            f"An image's values run from {low:.3g} to {high:.3g}; expected numbers in [0, 1]: {advice}. Where an "
            f"augmentation overshoots: image.clamp(0, 1)."
        )
    return image if image.dtype == torch.float64 else image.float()


def as_class_map(value: Any) -> torch.Tensor:
    """Return a class map (H, W) of int64; see ``as_pair``."""
    value = np.array(value) if isinstance(value, Image.Image) else value
    mask = as_tensor(value, "A class map", "a tensor (H, W) of whole numbers")
    if mask.is_floating_point() or mask.is_complex():
        raise TypeError(
            f"A class map is {mask.dtype}; expected whole numbers, one a class: mask.long(), if these are they. What "
            f"ToTensor divided by 255 has to be multiplied back."
        )
    if mask.ndim == 3 and len(mask) == 1:
        mask = mask[0]
    if mask.ndim != 2 or not mask.numel():
        raise ValueError(
            f"A class map has shape {tuple(mask.shape)}; expected (H, W), a class number at each pixel. One channel a "
            f"class: mask.argmax(dim=0)."
        )
    return mask.long()


def as_tensor(value: Any, what: str, expected: str) -> torch.Tensor:
    """Return an array or a tensor as a tensor of its own.

    Raises:
        TypeError: something else, or an array of what is no numbers.
    """
    if isinstance(value, np.ndarray) and value.dtype.kind in "buif":
        native = value.dtype.newbyteorder("=")
        return torch.from_numpy(np.array(value, dtype=native, order="C"))  # no tensor counts backwards
    if not isinstance(value, torch.Tensor) or value.layout != torch.strided:
        kind = f"n array of {value.dtype}" if isinstance(value, np.ndarray) else f" {type(value).__name__}"
        raise TypeError(f"{what} is a{kind}; expected {expected}.")
    return value.detach()


class CheckedItems(Dataset):
    """A data set whose items are brought to one form; an error says which item it is.

    Args:
        data: the data set.
        channels: of the pictures that are made of PIL images.
    """

    def __init__(self, data: Any, channels: int = 3) -> None:
        self.data, self.channels = data, channels

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> Pair:
        try:
            item = self.data[index]
        except StopIteration as error:  # it would end the training, or the evaluation, in silence
            raise RuntimeError(f"Item {index}: the data set came to its end (StopIteration).") from error
        try:
            return as_pair(item, self.channels)
        except (TypeError, ValueError) as error:
            kind = TypeError if isinstance(error, TypeError) else ValueError
            raise kind(f"Item {index}: {error}") from error


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
