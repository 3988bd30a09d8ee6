"""Which side of a picture is up: EXIF's note of how the camera was held."""

from __future__ import annotations

import warnings

import numpy as np
from PIL import Image, ImageFile

ORIENTATION = 0x0112  # EXIF's tag
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""For each note what brings the stored pixels upright; 1 is upright already."""
BACK = {6: 8, 8: 6}
"""The notes that undo others; the rest undo themselves."""


def note_of(picture: Image.Image) -> int:
    """Return EXIF's note of how a picture is to be turned, 1 to 8; 1 where it says nothing, or nothing that is known.

    Of a TIFF it must be asked before the pixels are loaded.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            note = picture.getexif().get(ORIENTATION, 1)
    except Exception:  # damaged EXIF raises anything, and the pixels may be whole
        return 1
    return note if isinstance(note, int) and note in TURNS else 1


def load(picture: Image.Image) -> None:
    """Read a picture's pixels.

    Pillow (11 to 13 at least) mixes up the rows of a TIFF that lies on its side, if it maps the file into memory; it
    does not do so where it knows no name of it.
    """
    if not isinstance(picture, ImageFile.ImageFile) or picture.format != "TIFF":
        picture.load()
        return
    name, picture.filename = picture.filename, ""
    try:
        picture.load()
    finally:
        picture.filename = name  # the picture may be the caller's


def upright(picture: Image.Image) -> Image.Image:
    """Turn a picture as its note says."""
    load(picture)
    note = 1 if picture.format == "TIFF" else note_of(picture)  # Pillow turns a TIFF when it loads it
    return picture if note == 1 else picture.transpose(TURNS[note])


def upright_size(picture: Image.Image) -> tuple[int, int]:
    """Return the (height, width) that a picture has when it is upright, of a file that is not loaded yet."""
    tags = getattr(picture, "tag_v2", {})  # of a TIFF; Pillow's size of it is the stored one or not, by its version
    width, height = (tags[256], tags[257]) if picture.format == "TIFF" else picture.size
    return (width, height) if note_of(picture) >= 5 else (height, width)


def turned(values: np.ndarray, note: int) -> np.ndarray:
    """Turn an array (H, W, …) of stored pixels as EXIF's note says."""
    flipped = values.swapaxes(0, 1) if note >= 5 else values
    rows, columns = {2: (1, -1), 3: (-1, -1), 4: (-1, 1), 6: (1, -1), 7: (-1, -1), 8: (-1, 1)}.get(note, (1, 1))
    return flipped[::rows, ::columns]
