"""Class maps in files: the numbers as they stand there, or the colours, and the side that is up."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from segformer_edu.data.files import SAMPLE_FORMAT, SIGNED, open_picture, read_array, stored
from segformer_edu.data.labels import VOID, Labels
from segformer_edu.data.orientation import upright

SMOOTHED = ("JPEG", "MPO", "JPEG2000", "HEIF", "AVIF")
"""Pillow's names of formats that change numbers."""


@dataclass(frozen=True)
class StoredMap:
    """What a file holds.

    Attributes:
        values: whole numbers (H, W), or colours (H, W, 3) from 0 to 255.
        note: EXIF's of how it was held, 1 where it says nothing; ``values`` are turned by it already.
        several: whether the file holds more maps, pages or frames, of which this is the first.
    """

    values: np.ndarray
    note: int = 1
    several: bool = False


def read_map(path: Path, labels: Labels) -> StoredMap:
    """Read a class map's numbers or colours.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no picture, one in a lossy format or with transparency, numbers with fractions, and files of which
            nothing tells, or Pillow does not keep, what stands in them.
    """
    if path.suffix.lower() == ".npy":
        return StoredMap(whole(plane(read_array(path), path), path))
    picture = open_picture(path)
    refuse_smoothed(path, picture)
    refuse_inverted(path, picture, labels)
    image = upright(picture)
    if picture.mode == "P":
        return StoredMap(of_palette(image, labels), stored(picture).note, stored(picture).several)
    values = without_opacity(unspread(np.array(image), picture), picture.mode)
    refuse_halved(path, picture, values, labels)
    if values.ndim == 3 and (values.shape[-1] != 3 or picture.mode not in ("RGB", "RGBA", "RGBX")):
        raise ValueError(
            f"{path} has {values.shape[-1]} channels ({picture.mode}); expected one, with a class number at each "
            f"pixel, or opaque red, green and blue."
        )
    if labels.by_colour and picture.mode in ("1", "L", "LA"):  # a painted map in shades of grey
        shades = values * np.uint8(255 if picture.mode == "1" else 1)
        values = np.stack([shades, shades, shades], axis=-1)
    return StoredMap(whole(values, path), stored(picture).note, stored(picture).several)


def plane(values: np.ndarray, path: Path) -> np.ndarray:
    """Return an array (H, W), (H, W, 1) or (1, H, W) as (H, W); colours (H, W, 3) as they are.

    Raises:
        ValueError: another shape.
    """
    if values.ndim == 3 and 1 in (values.shape[0], values.shape[-1]):
        values = values[..., 0] if values.shape[-1] == 1 else values[0]
    if not values.size or not (values.ndim == 2 or (values.ndim == 3 and values.shape[-1] == 3)):
        raise ValueError(
            f"{path} holds an array of shape {values.shape}; expected (H, W), a class number at each pixel, or colours "
            f"(H, W, 3). Of scores (classes, H, W) take array.argmax(0)."
        )
    return values


def unspread(values: np.ndarray, picture: Image.Image) -> np.ndarray:
    """Return the numbers that stand in a grey file, where Pillow gives others."""
    maximum = stored(picture).maximum
    if maximum:  # it spread the numbers of a file with fewer shades
        top = 255 if values.dtype == np.uint8 else 65535
        return np.rint(values * (maximum / top)).astype(values.dtype, copy=False)
    if values.dtype == bool:
        return values.astype(np.uint8)
    tags = getattr(picture, "tag_v2", {})
    signed = tags.get(SAMPLE_FORMAT, (0,))[0] == SIGNED if tags else values.dtype == np.int32
    numbers: np.ndarray = values
    if values.dtype == np.uint8 and signed:
        numbers = values.view(np.int8)
    elif values.dtype == np.int32 and not signed:
        numbers = values.view(np.uint32)
    return numbers


def without_opacity(values: np.ndarray, mode: str) -> np.ndarray:
    """Drop the last channel of a picture (H, W, C) where it says that all is opaque, or nothing at all."""
    if mode == "RGBX" or (mode in ("RGBA", "LA") and (values[..., -1] == 255).all()):
        return values[..., 0] if mode == "LA" else values[..., :3]
    return values


def refuse_smoothed(path: Path, picture: Image.Image) -> None:
    """Raise ValueError if a file's format does not keep numbers as they are."""
    name, inside = picture.format or "", picture.info.get("compression")
    if name == "TIFF" and inside in ("jpeg", "tiff_jpeg", "webp"):
        name = f"TIFF with {inside} inside"
    if name in SMOOTHED or " " in name or (name == "WEBP" and b"VP8L" not in path.read_bytes()):
        raise ValueError(
            f"{path} is in a format, {name}, that changes numbers where classes meet; expected one that keeps them, "
            f"such as PNG. Export the class maps again: what is lost cannot be computed back."
        )


def refuse_inverted(path: Path, picture: Image.Image, labels: Labels) -> None:
    """Raise ValueError if 0 is white in a file, of which Pillow gives the shades; painted maps have nothing else."""
    inverted = "I" in stored(picture).raw.partition(";")[2]  # "1;I" is Pillow's name of such numbers, "L;4I" too
    if picture.mode in ("1", "L") and inverted and not labels.by_colour:
        kind = "PBM" if picture.format == "PPM" else f"grey {picture.format}"
        raise ValueError(
            f"{path} is a {kind} in which 0 is white, and nothing tells whether its numbers or its shades are the "
            f"classes; expected one in which 0 is black. Save it again, as PNG say."
        )


def refuse_halved(path: Path, picture: Image.Image, values: np.ndarray, labels: Labels) -> None:
    """Raise ValueError if Pillow drops the lower half of 16 bits, and the number or the colour stands there."""
    halved = ";16" in stored(picture).raw and picture.mode in ("LA", "RGB", "RGBA", "RGBX")
    if halved and (values.max() <= 1 or (values.ndim == 2 and not labels.by_colour)):
        raise ValueError(
            f"{path} has 16 bits, of which Pillow reads the upper 8, and what tells the classes is not there; expected "
            f"8 bits. Save it again with 8 bits: array.astype('uint8')."
        )


def of_palette(picture: Image.Image, labels: Labels) -> np.ndarray:
    """Return what stands for classes in a palette picture: its numbers, (H, W), or its colours, (H, W, 3).

    A program that reduces a painted map to a palette numbers the colours as it likes, and one that makes a file small
    does so with shades of grey. So colours count where they alone tell the classes, or where most of those used are
    colours of classes; shades, where all of the palette are class numbers, or do not rise with its numbers.
    """
    numbers: np.ndarray = np.array(picture)
    used = np.unique(numbers)
    table = np.array(picture.getpalette("RGB"), dtype=np.uint8).reshape(-1, 3)
    if used.max() >= len(table):
        return numbers
    grey, shades = bool((table == table[:, :1]).all()), table[:, 0]
    if not labels.by_colour:
        if grey and ((shades[used] == used).all() or shades_count(shades, used, labels)):
            return shades.take(numbers)
        if not painted_with(table[used].tolist(), used.tolist(), labels):
            return numbers
    colours: np.ndarray = table[numbers]
    return colours


def shades_count(shades: np.ndarray, used: np.ndarray, labels: Labels) -> bool:
    """Say whether the shades of a grey palette, not its numbers, are what stands for classes.

    Black and white in this order are rather numbers 0 and 1. In the other order, as Pillow's quantize has them, a
    program chose the numbers.
    """
    if len(set(shades[used].tolist())) < len(used):  # all black, say: the numbers tell more
        return False
    end = max(used.max(), *shades.nonzero()[0]) + 1  # zeros fill a palette up
    rising = shades[:end].astype(int)
    if (np.diff(rising) < 0).any():
        return True
    if rising.tolist() == [0, VOID] and labels.numbers.get(VOID) == labels.void and len(labels.names) == 2:
        return False
    return set(rising.tolist()) <= labels.numbers.keys()


def painted_with(colours: list[list[int]], numbers: list[int], labels: Labels) -> bool:
    """Say whether most of a palette's colours are those of classes, and of others than the numbers tell."""
    known = [(labels.painted.get((red, green, blue)), number) for (red, green, blue), number in zip(colours, numbers)]
    classes = [(label, number) for label, number in known if label is not None and label != labels.void]
    return 2 * len(classes) > len(known) and any(labels.numbers.get(number) != label for label, number in classes)


def whole(values: np.ndarray, path: Path) -> np.ndarray:
    """Return numbers as whole ones, bytes or of 64 bits.

    Raises:
        ValueError: fractions, numbers that are none, colours beyond 0 to 255.
    """
    if values.dtype.kind == "f":
        if not (np.abs(values.astype(np.float64)) < 2**53).all():
            raise ValueError(f"{path} holds NaN, infinite or huge numbers; expected whole numbers, one a class.")
        if (values != np.rint(values)).any():
            raise ValueError(
                f"{path} holds fractions, from {values.min():.3g} to {values.max():.3g}; expected whole numbers, one a "
                f"class. If the numbers were divided, by 255 or by their count say, multiply them back and save as PNG."
            )
    if values.ndim == 3 and not (values.min() >= 0 and values.max() <= 255):
        raise ValueError(f"{path} holds colours from {values.min()} to {values.max()}; expected 0 to 255.")
    if values.dtype == np.uint8:
        return values
    return values.astype(np.uint8 if values.ndim == 3 else np.int64)
