"""Class maps in files: the numbers as they stand there, or the colours, and the side that is up."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from segformer_edu.data.formats import LOSSY
from segformer_edu.data.labels import Labels
from segformer_edu.data.pictures import open_picture, read_array

ORIENTATION = 0x0112  # EXIF's tag of how the camera was held


@dataclass(frozen=True)
class StoredMap:
    """What a file holds.

    Attributes:
        values: whole numbers (H, W), or colours (H, W, 3).
        note: EXIF's of how it was held, 1 where it says nothing; ``values`` are turned by it already.
    """

    values: np.ndarray
    note: int = 1


def note_of(picture: Image.Image) -> int:
    """Return EXIF's note of how a picture is to be turned, 1 to 8; 1 where it says nothing."""
    note = picture.getexif().get(ORIENTATION, 1)
    return note if isinstance(note, int) and 1 <= note <= 8 else 1


def turned(values: np.ndarray, note: int) -> np.ndarray:
    """Turn an array (H, W, …) of stored pixels as EXIF's note says."""
    flipped = values.swapaxes(0, 1) if note >= 5 else values
    rows, columns = {2: (1, -1), 3: (-1, -1), 4: (-1, 1), 6: (1, -1), 7: (-1, -1), 8: (-1, 1)}.get(note, (1, 1))
    return flipped[::rows, ::columns]


def read_map(path: Path, labels: Labels) -> StoredMap:
    """Read a class map's numbers or colours.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no picture, one in a lossy format or with transparency, numbers with fractions.
    """
    if path.suffix.lower() == ".npy":
        values = read_array(path)
        if values.ndim == 3 and values.shape[-1] == 1:
            values = values[..., 0]
        if not values.size:
            raise ValueError(f"{path} has shape {values.shape}; expected (H, W), with at least one pixel.")
        return StoredMap(whole(values, path))
    picture = open_picture(path)
    refuse_lossy(path, picture)
    note = note_of(picture)
    upright = ImageOps.exif_transpose(picture) if note > 1 else picture
    if picture.mode == "P":
        return StoredMap(of_palette(upright, labels), note)
    values = np.array(upright)
    maximum = picture.info.get("maximum", 0)
    if maximum:  # Pillow spread the numbers of a file with fewer shades
        values = np.rint(values * (maximum / (255 if values.dtype == np.uint8 else 65535))).astype(values.dtype)
    return StoredMap(whole(values, path), note)


def refuse_lossy(path: Path, picture: Image.Image) -> None:
    """Raise ValueError if a file's format does not keep numbers as they are."""
    name = picture.format or ""
    if name in ("JPEG", "MPO", "HEIF", "AVIF") or path.suffix.lower() in LOSSY or (name == "WEBP" and smooths(path)):
        raise ValueError(
            f"{path} is a {name or path.suffix}, a format that changes numbers where classes meet; expected a format "
            f"that keeps them, such as PNG. Export the class maps again: what is lost cannot be computed back."
        )


def smooths(path: Path) -> bool:
    """Say whether a WebP file is of the lossy kind."""
    return b"VP8L" not in path.read_bytes()


def of_palette(picture: Image.Image, labels: Labels) -> np.ndarray:
    """Return a palette picture's numbers, or its colours where the classes are told by these and all of them are known.

    A program that reduces a painted map to a palette numbers the colours as it likes.
    """
    numbers = np.array(picture)
    used = np.unique(numbers)
    table = np.array(picture.getpalette("RGB"), dtype=np.uint8).reshape(-1, 3)
    if labels.painted and used.max() < len(table):
        colours: np.ndarray = table[numbers]
        if all(tuple(colour) in labels.painted for colour in table[used].tolist()):
            return colours
    return numbers


def whole(values: np.ndarray, path: Path) -> np.ndarray:
    """Return numbers as whole ones.

    Raises:
        ValueError: fractions, or other than one channel or three.
    """
    if values.ndim == 3 and values.shape[-1] == 4 and values.dtype == np.uint8 and (values[..., 3] == 255).all():
        values = values[..., :3]
    if values.ndim not in (2, 3) or (values.ndim == 3 and values.shape[-1] != 3):
        shape = f"{values.shape[-1]} channels" if values.ndim == 3 else f"shape {values.shape}"
        raise ValueError(
            f"{path} has {shape}; expected one, with a class number at each pixel, or opaque red, green and blue."
        )
    if values.dtype.kind in "biu":
        return values.astype(np.uint8) if values.dtype == bool else values
    if not np.isfinite(values).all() or (values != np.rint(values)).any():
        raise ValueError(
            f"{path} holds fractions, from {values.min():.3g} to {values.max():.3g}; expected whole numbers, one a "
            f"class. If the numbers were divided, by 255 or by their count say, multiply them back and save as PNG."
        )
    return values.astype(np.int64)
