"""PIL images in items are read with a file's care; subsets and concatenations say what their parts say."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import ConcatDataset, Dataset, Subset

from segformer_edu.data.items import as_class_map, as_pair, class_names

MASK = np.random.default_rng(0).integers(0, 4, (32, 48)).astype(np.uint8)
PICTURE = np.repeat(MASK[..., None] * 60, 3, axis=2)
ORIENTATION = 0x0112


def few_bits(values, bits):
    """A grey PNG of fewer than 8 bits, which Pillow does not write."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    wide = np.unpackbits(values[..., None], axis=-1)[..., -bits:].reshape(len(values), -1)
    rows = b"".join(b"\0" + row.tobytes() for row in np.packbits(wide, axis=1))
    head = struct.pack(">IIBBBBB", values.shape[1], len(values), bits, 0, 0, 0, 0)
    parts = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return Image.open(io.BytesIO(b"\x89PNG\r\n\x1a\n" + parts))


def saved(values, kind="PNG", note=None, mode=None, **options):
    """A picture in a file in memory, opened, with a note of how the camera was held."""
    image, file = Image.fromarray(values), io.BytesIO()
    image = image.convert(mode) if mode else image
    if note:
        options["exif"] = image.getexif()
        options["exif"][ORIENTATION] = note
    image.save(file, kind, **options)
    return Image.open(file)


@pytest.mark.parametrize("bits", [2, 4])
def test_class_maps_of_few_bits_keep_their_numbers(bits):
    image = few_bits(MASK, bits)
    for _ in range(2):  # a list's items are looked at more than once
        np.testing.assert_array_equal(as_class_map(image), MASK)
    fixed = few_bits(MASK, bits)
    as_class_map(fixed)
    brought_back = fixed.point(lambda value: value // (255 // (2**bits - 1)))  # by hand, after it was looked at
    np.testing.assert_array_equal(as_class_map(brought_back), MASK)


@pytest.mark.parametrize(
    ("kind", "options"), [("PNG", {}), ("TIFF", {}), ("BMP", {}), ("GIF", {}), ("WEBP", {"lossless": True})]
)
def test_class_maps_of_formats_that_keep_numbers(kind, options):
    given = MASK if kind != "WEBP" else np.repeat(MASK[..., None], 3, axis=2)
    if kind == "WEBP":
        with pytest.raises(ValueError, match="class map has shape"):  # three channels, but no refusal of the format
            as_class_map(saved(given, kind, **options))
    else:
        np.testing.assert_array_equal(as_class_map(saved(given, kind, **options)), MASK)


@pytest.mark.parametrize(("kind", "options"), [("JPEG", {}), ("JPEG2000", {}), ("TIFF", {"compression": "jpeg"})])
def test_class_maps_in_lossy_formats_are_refused(kind, options):
    with pytest.raises(ValueError, match=r"A class map is in a format, .*, that changes numbers"):
        as_class_map(saved(MASK * 40, kind, **options))


def test_a_lossy_file_is_named(tmp_path):
    Image.fromarray(MASK).save(tmp_path / "a.jpg")
    with pytest.raises(ValueError, match=r"a\.jpg is in a format, JPEG"):
        as_class_map(Image.open(tmp_path / "a.jpg"))


def test_class_maps_of_fractions_and_cut_short():
    np.testing.assert_array_equal(as_class_map(Image.fromarray(MASK.astype(np.float32))), MASK)
    with pytest.raises(ValueError, match="A class map holds fractions"):
        as_class_map(Image.fromarray(MASK / np.float32(255)))
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 48), dtype=np.uint8)).save(file, "PNG")
    with pytest.raises(ValueError, match="A PIL image cannot be read as a picture"):
        as_class_map(Image.open(io.BytesIO(file.getvalue()[:400])))


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize("note", range(2, 9))
def test_notes_of_both_are_obeyed(note, kind):
    picture, mask = as_pair((saved(PICTURE, kind, note), saved(MASK, kind, note)))
    assert mask.shape == (MASK.shape if note < 5 else MASK.shape[::-1])
    assert torch.equal((picture[0] * 255 / 60).round().long(), mask)
    assert not np.array_equal(mask, MASK)


@pytest.mark.parametrize("note", [5, 6, 7, 8])
@pytest.mark.parametrize("form", [Image.fromarray, np.asarray, torch.from_numpy])
def test_where_one_has_a_note_sizes_tell(note, form):
    upright = as_pair((saved(PICTURE, note=note), saved(MASK, note=note)))[1]
    assert torch.equal(as_pair((saved(PICTURE, note=note), form(MASK)))[1], upright)
    assert torch.equal(as_pair((saved(PICTURE, note=note), form(upright.byte().numpy())))[1], upright)


@pytest.mark.parametrize("note", [2, 3, 4])
def test_where_sizes_do_not_tell_it_is_said(note):
    with pytest.warns(UserWarning, match=f"A picture is turned as its EXIF note {note} says, and its class map has"):
        assert np.array_equal(as_pair((saved(PICTURE, note=note), MASK))[1], MASK)
    with pytest.warns(UserWarning, match=f"A class map is turned as its EXIF note {note} says, and its picture has"):
        as_pair((PICTURE, saved(MASK, note=note)))


@pytest.mark.parametrize("top", [1, 4095, 16383])
@pytest.mark.parametrize("form", [torch.from_numpy, lambda array: array])
def test_16_bits_that_are_nearly_black_are_warned_of(top, form):
    with pytest.warns(UserWarning, match=f"An image has 16 bits, and its brightest value is {top} of 65535"):
        as_pair((form(np.full((3, 32, 48), top, dtype=np.uint16)), MASK))


class Named(Dataset):
    def __init__(self, classes):
        self.classes = classes

    def __len__(self):
        return 2


def test_names_of_parts():
    one, other = Named(("a", "b")), Named(("a", "c"))
    for data in (one, Named(["a", "b"]), Subset(one, [0]), Subset(Subset(one, [0]), [0]), ConcatDataset([one, one])):
        assert class_names(data) == ("a", "b")
    for data in ([], ConcatDataset([one, other]), Named(None), Named(())):
        assert class_names(data) is None
