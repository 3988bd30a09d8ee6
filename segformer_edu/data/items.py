"""What an item of a data set gives, brought to one form: a picture in [0, 1] and its class map."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import suppress
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageFile
from torch.utils.data import ConcatDataset, Dataset, Subset

from segformer_edu.data.files import STORED, loaded, stored, told
from segformer_edu.data.labels import VOID, Labels
from segformer_edu.data.maps import (
    refuse_halved,
    refuse_inverted,
    refuse_smoothed,
    unspread,
    whole,
    without_opacity,
)
from segformer_edu.data.orientation import BACK, turned, upright
from segformer_edu.data.pictures import IMAGE_KEYS, SLACK, as_image, warn_if_dark
from segformer_edu.validation import check_finite

MASK_KEYS = ("mask", "masks", "labels", "label", "segmentation", "segmentation_mask", "annotation", "target")
A_MAP = Path("A class map")  # what to call one that is in no file
NUMBERS = Labels((), (), {0: 0})  # no names are known of, and numbers tell the classes
Pair = tuple[torch.Tensor, torch.Tensor]


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
    voids = {getattr(part, "ignore_index", VOID) for part in parts_of(data)}
    if len(voids) > 1:
        raise ValueError(
            f"The data sets that were put together have the voids {', '.join(map(str, voids))}; expected one. Say "
            f"which number is void (ignore_index=…), and bring the others to it."
        )
    void: int | None = voids.pop()
    return void


def class_names(data: Any) -> tuple[str, ...] | None:
    """Return the names of a data set's classes, of a part of one too; None where it has none, or parts have others."""
    found = {tuple(getattr(part, "classes", None) or ()) for part in parts_of(data)}
    return (found.pop() or None) if len(found) == 1 else None


def parts_of(data: Any) -> Iterator[Any]:
    """Yield the data sets that a subset or a concatenation is made of."""
    if isinstance(data, Subset):
        yield from parts_of(data.dataset)
    elif isinstance(data, ConcatDataset):
        for part in data.datasets:
            yield from parts_of(part)
    else:
        yield data


def as_pair(item: Any, channels: int = 3) -> Pair:
    """Return an item of a data set as a picture and its class map.

    What a camera noted of how it was held (EXIF) is obeyed as in files; see ``data.PairedPictures``.

    Args:
        item: (image, mask), also with more behind them; or a dictionary that has them under names such as "image" and
            "mask", "pixel_values" and "labels". The image is a tensor or an array (C, H, W), or an array (H, W, C):
            bytes, 16 bits, or numbers in [0, 1]; or a PIL image. The mask is (H, W) or (1, H, W), of any type of whole
            numbers; or a PIL image of one channel, read as a file would be: give it as ``Image.open`` does.
        channels: of the picture that is made of a PIL image.

    Returns:
        The image, floats (C, H, W) in [0, 1], and the class map (H, W) of int64.

    Raises:
        TypeError, ValueError: something else.
    """
    image, values = halves_of(item)
    mask = as_class_map(values)
    if isinstance(image, np.ndarray) and image.ndim == 3 and image.shape[:2] == mask.shape != image.shape[1:]:
        image = image.transpose(2, 0, 1)
    picture = as_picture(image, channels)
    mask = laid_alike(mask, note_in(values), note_in(image), (picture.shape[-2], picture.shape[-1]))
    if picture.shape[-2:] != mask.shape:
        raise ValueError(
            f"An image has {tuple(picture.shape[-2:])} pixels (height, width), its class map {tuple(mask.shape)}; "
            f"expected the same. Resize the map without smoothing (nearest)."
        )
    return picture, mask


def halves_of(item: Any) -> tuple[Any, Any]:
    """Return an item's image and class map as they are; see ``as_pair``."""
    if isinstance(item, Mapping):
        names = [next((name for name in known if name in item), None) for known in (IMAGE_KEYS, MASK_KEYS)]
        if None in names:
            raise TypeError(
                f"An item has {', '.join(map(repr, item))}; expected a pair (image, mask), or a dictionary with "
                f"'image' and 'mask' (or 'pixel_values' and 'labels')."
            )
        return item[names[0]], item[names[1]]
    if not isinstance(item, tuple | list) or len(item) < 2:
        raise TypeError(f"An item is a {type(item).__name__}; expected a pair (image, mask), or a dictionary of them.")
    if len(item) > 2:
        warnings.warn(f"Items have {len(item)} parts; the first two are taken, image and mask.", stacklevel=3)
    return item[0], item[1]


def note_in(value: Any) -> int:
    """Return EXIF's note of how a picture or a class map is to be turned; 1 where there is none."""
    return stored(noted(value)).note if isinstance(value, Image.Image) else 1


def noted(picture: Image.Image) -> Image.Image:
    """Read a PIL image to its end, and note in it what its file told, as ``files.open_picture`` does.

    Raises:
        ValueError: a damaged file, or one of a kind that is not supported.
    """
    if not isinstance(picture, ImageFile.ImageFile):  # made of another, whose note it may have taken over
        picture.info.pop(STORED, None)
    elif STORED not in picture.info:
        try:
            loaded(picture)
        except Exception as error:  # a damaged file raises anything
            raise told(error, "A PIL image", None) from error
    return picture


def laid_alike(mask: torch.Tensor, note: int, image_note: int, size: tuple[int, int]) -> torch.Tensor:
    """Return a class map as its picture lies, where one of the two has a note of how the camera was held.

    Args:
        mask: (H, W), turned by its own note.
        note: the map's, 1 if it has none.
        image_note: the picture's, likewise.
        size: (height, width) of the picture, upright.
    """
    if (note > 1) == (image_note > 1):
        return mask
    other = turned(mask.cpu().numpy(), image_note if note == 1 else BACK.get(note, note))
    fits = tuple(mask.shape) == size
    if other.shape != size:
        return mask
    if not fits:
        return torch.from_numpy(other.copy())
    which, lacks = ("A class map", "its picture") if note > 1 else ("A picture", "its class map")
    warnings.warn(
        f"{which} is turned as its EXIF note {max(note, image_note)} says, and {lacks} has no such note: the class map "
        f"is taken as if both were upright now. If they lie alike as they are stored, take the note out.",
        stacklevel=3,
    )
    return mask


def as_picture(value: Any, channels: int = 3) -> torch.Tensor:
    """Return an image (C, H, W) as floats in [0, 1]; see ``as_pair``."""
    if isinstance(value, Image.Image):
        return as_image(noted(value), channels)
    image = as_tensor(value, "An image", "a tensor (C, H, W) in [0, 1]")
    if image.ndim != 3 or not image.numel():
        raise ValueError(f"An image has shape {tuple(image.shape)}; expected (C, H, W), one picture.")
    if image.shape[-1] in (1, 3, 4) and image.shape[0] > 16:
        raise ValueError(
            f"An image has shape {tuple(image.shape)}, with the channels last; expected (C, H, W): "
            f"image.permute(2, 0, 1)."
        )
    if image.dtype in (torch.uint8, torch.uint16):
        if image.dtype == torch.uint16:
            warn_if_dark(image.float().max().item(), "An image")
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
    value = numbers_of(value) if isinstance(value, Image.Image) else value
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


def numbers_of(picture: Image.Image) -> np.ndarray:
    """Return the numbers of a PIL image that is a class map, upright, as ``maps.read_map`` takes them from a file.

    Raises:
        ValueError: what ``maps.read_map`` refuses.
    """
    name = getattr(picture, "filename", "")
    path = Path(name) if name and isinstance(name, str) else A_MAP
    with suppress(OSError):  # of a WebP that is in no file nothing tells whether it keeps numbers
        refuse_smoothed(path, noted(picture))
    refuse_inverted(path, picture, NUMBERS)
    values = without_opacity(unspread(np.array(upright(picture)), picture), picture.mode)
    refuse_halved(path, picture, values, NUMBERS)
    return whole(values, path)


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
