"""Which side is up: EXIF's notes against what Pillow does of them, in every format that has them."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageOps
from rasters import ORIENTATION, noted

from segformer_edu.data.files import open_picture
from segformer_edu.data.orientation import BACK, note_of, turned, upright, upright_size
from segformer_edu.data.pictures import as_image

NOTES = range(1, 9)
STORED = np.arange(6 * 9, dtype=np.uint8).reshape(6, 9) * 4


def by_pillow(note: int) -> np.ndarray:
    picture = Image.fromarray(STORED)
    picture.getexif()[ORIENTATION] = note
    return np.array(ImageOps.exif_transpose(picture))


@pytest.mark.parametrize("note", NOTES)
def test_array_is_turned_as_pillow_does(note):
    assert np.array_equal(turned(STORED, note), by_pillow(note))
    assert np.array_equal(turned(turned(STORED, note), BACK.get(note, note)), STORED)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("ending", ["png", "tif", "jpg"])
@pytest.mark.parametrize("note", NOTES)
def test_file_is_turned_once(tmp_path, note, ending, channels):
    """Pillow turns TIFFs itself, and mixes up their rows if it maps a file on its side into memory."""
    path = noted(tmp_path / f"a.{ending}", STORED if channels == 1 else np.stack([STORED] * 3, axis=-1), note)
    with Image.open(path) as picture:
        size = upright_size(picture)
        got = np.array(upright(picture)).reshape(*size, channels)
    expected = by_pillow(note)
    assert size == expected.shape
    assert np.allclose(got[..., -1], expected, atol=3 if ending == "jpg" else 0)


@pytest.mark.parametrize("ending", ["jpg", "png", "webp"])
@pytest.mark.parametrize("exif", [b"Exif\0\0II*\0\x08\0\0\0\xff\xff", b"Exif\0\0MM", b"nothing", b""])
def test_damaged_notes_are_none(tmp_path, exif, ending, recwarn):
    Image.fromarray(STORED).save(tmp_path / f"a.{ending}", exif=exif)
    picture = open_picture(tmp_path / f"a.{ending}")
    assert note_of(picture) == 1
    assert as_image(picture).shape == (3, 6, 9)
    assert len(recwarn) == 0


def test_tiff_that_keeps_its_note_is_not_turned_twice(tmp_path):
    """Pillow before 10 leaves the note in, though it has turned the picture."""
    with Image.open(noted(tmp_path / "a.tif", STORED, 3)) as picture:
        picture.load()
        picture.getexif()[ORIENTATION] = 3
        assert np.array_equal(np.array(upright(picture)), by_pillow(3))


@pytest.mark.parametrize("ending", ["tif", "png", "jpg"])
@pytest.mark.parametrize("note", [1, 6])
def test_a_picture_keeps_its_name(tmp_path, note, ending):
    with Image.open(noted(tmp_path / f"a.{ending}", STORED, note)) as picture:
        as_image(picture)
        assert picture.filename == str(tmp_path / f"a.{ending}")


@pytest.mark.parametrize("note", [0, 9, 65535])
def test_notes_that_do_not_exist_are_none(tmp_path, note):
    with Image.open(noted(tmp_path / "a.tif", STORED, note)) as picture:
        assert note_of(picture) == 1
        assert np.array_equal(np.array(upright(picture)), STORED)
