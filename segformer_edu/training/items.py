"""Chapter 7: what a data set gives, brought to one form: a picture in [0, 1] and its class map."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from numbers import Integral
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch.utils.data import ConcatDataset, DataLoader, Subset

from segformer_edu.data.labels import VOID
from segformer_edu.data.pictures import as_image
from segformer_edu.validation import check_finite

IMAGES = ("image", "images", "pixel_values", "img")
MASKS = ("mask", "masks", "labels", "label", "segmentation", "segmentation_mask", "annotation", "target")
SLACK = 1e-3  # beyond [0, 1], for what rounding does
Pair = tuple[torch.Tensor, torch.Tensor]


class Pairs(Protocol):
    """Pairs of an image and its class map: a data set of PyTorch's that has a length, or a list."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


def check_data(data: Any) -> None:
    """Raise TypeError unless ``data`` can be indexed, ValueError if there is nothing to learn from."""
    if isinstance(data, DataLoader) or not hasattr(data, "__getitem__") or not hasattr(data, "__len__"):
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
    """
    if given is None or (isinstance(given, Integral) and not isinstance(given, bool)):
        return None if given is None else int(given)
    if given != "data":
        raise TypeError(f"ignore_index is {given!r}; expected a whole number, None for no void, or 'data'.")
    while isinstance(data, Subset):
        data = data.dataset
    told: int | None = getattr(data, "ignore_index", VOID)
    return told


def check_void(given: int | str | None, void: int | None, classes: int) -> None:
    """Raise ValueError where 255 would be taken for void though it may be a class, and nobody said so."""
    if given == "data" and void == VOID and classes > VOID:
        raise ValueError(
            f"The model has {classes} classes, of which {VOID} is one, and the data set does not say which number is "
            f"void; say it: ignore_index=-100, or ignore_index=None if there is none."
        )


def as_pair(item: Any) -> Pair:
    """Return an item of a data set as a picture and its class map.

    Args:
        item: (image, mask), also with more behind them; or a dictionary that has them under names such as "image" and
            "mask", "pixel_values" and "labels". The image is (C, H, W): bytes, 16 bits, or numbers in [0, 1]; or a PIL
            image. The mask is (H, W) or (1, H, W), of any type of whole numbers; or a PIL image of one channel.

    Returns:
        The image, floats (C, H, W) in [0, 1], and the class map (H, W) of int64.

    Raises:
        TypeError, ValueError: something else.
    """
    if isinstance(item, Mapping):
        names = [next((name for name in known if name in item), None) for known in (IMAGES, MASKS)]
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
    image, mask = as_picture(image), as_class_map(mask)
    if image.shape[-2:] != mask.shape:
        raise ValueError(
            f"An image has {tuple(image.shape[-2:])} pixels (height, width), its class map {tuple(mask.shape)}; "
            f"expected the same. Resize the map without smoothing (nearest)."
        )
    return image, mask


def as_picture(value: Any) -> torch.Tensor:
    """Return an image (C, H, W) as floats in [0, 1]; see ``as_pair``."""
    if isinstance(value, Image.Image):
        return as_image(value)
    if not isinstance(value, torch.Tensor | np.ndarray):
        raise TypeError(f"An image is a {type(value).__name__}; expected a tensor (C, H, W) in [0, 1].")
    image = torch.as_tensor(value)
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
    return image


def as_class_map(value: Any) -> torch.Tensor:
    """Return a class map (H, W) of int64; see ``as_pair``."""
    value = np.array(value) if isinstance(value, Image.Image) else value
    if isinstance(value, np.ndarray) and value.dtype.kind in "ui":
        value = value.astype(np.int64)  # no tensor has every type of NumPy's
    if not isinstance(value, torch.Tensor | np.ndarray):
        raise TypeError(f"A class map is a {type(value).__name__}; expected a tensor (H, W) of whole numbers.")
    mask = torch.as_tensor(value)
    if mask.is_floating_point() or mask.is_complex():
        raise TypeError(
            f"A class map is {mask.dtype}, from {mask.min().item():.3g} to {mask.max().item():.3g}; expected whole "
            f"numbers, one a class: mask.long(), if these are they. What ToTensor divided by 255 has to be multiplied "
            f"back."
        )
    if mask.ndim == 3 and len(mask) == 1:
        mask = mask[0]
    if mask.ndim != 2 or not mask.numel():
        raise ValueError(
            f"A class map has shape {tuple(mask.shape)}; expected (H, W), a class number at each pixel. One channel a "
            f"class: mask.argmax(dim=0)."
        )
    return mask.long()


def collate(items: Sequence[Any]) -> list[Pair]:
    """Return a batch's items as pairs; they may be of several sizes."""
    return [as_pair(item) for item in items]


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
        ValueError: pairs of several sizes.
    """
    found = list(stacks(pairs))
    if len(found) > 1:
        raise several_sizes([tuple(images.shape[-2:]) for images, _ in found])
    return found[0]


def check_sizes(data: Any, batch_size: int) -> None:
    """Raise ValueError if a batch would hold pictures of several sizes, as far as that is known without reading them.

    A list, drawn shapes, pairs of files, and subsets and concatenations of these say it; a data set of one's own says
    it when a batch is made.
    """
    if batch_size > 1:
        sizes = list(dict.fromkeys(known_sizes(data)))
        if len(sizes) > 1:
            raise several_sizes(sizes)


def several_sizes(sizes: Sequence[tuple[int, ...]]) -> ValueError:
    """Say that pictures of several sizes met in a batch."""
    return ValueError(
        f"Pictures of several sizes would meet in a batch: {', '.join(map(str, sizes[:4]))}"
        f"{', …' if len(sizes) > 4 else ''} (height, width); expected one size. Give the data set a size "
        f"(Folder(…, size=(height, width))), crop or resize the items, or take Recipe(batch_size=1)."
    )


def known_sizes(data: Any) -> Iterator[tuple[int, ...]]:
    """Yield the (height, width) of the items that are at hand, or whose files' first bytes tell it."""
    if isinstance(data, Subset):
        if isinstance(data.dataset, list | tuple):
            yield from known_sizes([data.dataset[index] for index in data.indices])
        elif hasattr(data.dataset, "item_size"):
            yield from (data.dataset.item_size(index) for index in data.indices)
    elif isinstance(data, ConcatDataset):
        for part in data.datasets:
            yield from known_sizes(part)
    elif hasattr(data, "item_size"):
        yield from (data.item_size(index) for index in range(len(data)))
    elif isinstance(data, list | tuple):
        yield from (tuple(as_pair(item)[1].shape) for item in data)
