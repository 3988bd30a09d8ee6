"""One's own folder: what pairs up, and what is said about everything that does not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from segformer_edu.data import VOID, Folder

CLASSES = ("road", "tree", "sky")


def save(path, array, **options):
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(np.asarray(array, dtype=options.pop("dtype", np.uint8))).save(path, **options)


@pytest.fixture
def folder(tmp_path):
    random = np.random.default_rng(0)
    for name in "abc":
        save(tmp_path / "images" / f"{name}.jpg", random.integers(0, 256, (40, 50, 3)))
        save(tmp_path / "masks" / f"{name}.png", random.integers(0, 3, (40, 50)))
    return tmp_path


def made(folder, **options):
    return Folder(folder / "images", folder / "masks", CLASSES, **options)


def test_pairs(folder):
    data = made(folder)
    image, mask = data[1]
    assert len(data) == 3
    assert image.shape == (3, 40, 50)
    assert torch.equal(mask, torch.from_numpy(np.array(Image.open(folder / "masks/b.png"))).long())
    assert len(set(data.colours)) == 3


def test_void_and_palette(folder):
    values = np.tile(np.array([[0, 1, 2, 7, 255]], dtype=np.uint8), (40, 10))
    picture = Image.fromarray(values).convert("P")
    picture.putdata(values.flatten().tolist())
    picture.save(folder / "masks/a.png")
    mask = made(folder, void=7)[0][1]
    assert mask[0, :5].tolist() == [0, 1, 2, VOID, VOID]


@pytest.mark.parametrize("mode", ["L", "RGBA", "I;16"])
def test_any_picture_mode(folder, mode):
    array = np.full((40, 50), 128, np.uint8)
    picture = Image.fromarray(array).convert(mode) if mode != "I;16" else Image.fromarray(array.astype(np.uint16) * 257)
    (folder / "images/a.jpg").unlink()
    picture.save(folder / "images/a.png")
    image, _ = made(folder)[0]
    torch.testing.assert_close(image, torch.full((3, 40, 50), 128 / 255))


def test_rotated_by_exif(folder):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    Image.fromarray(np.zeros((50, 40, 3), np.uint8)).save(folder / "images/a.jpg", exif=exif)
    assert made(folder)[0][0].shape == (3, 40, 50)


def test_missing_folder(folder):
    with pytest.raises(FileNotFoundError, match=r"no folder .*pictures; check the path"):
        Folder(folder / "pictures", folder / "masks", CLASSES)


def test_empty_folder(folder):
    (folder / "none").mkdir()
    with pytest.raises(FileNotFoundError, match=r"holds no picture; expected files ending in \.png"):
        Folder(folder / "none", folder / "masks", CLASSES)


def test_missing_mask(folder):
    (folder / "masks/b.png").unlink()
    with pytest.raises(ValueError, match=r"1 of 3 pictures .*first: b\); expected .*b\.png"):
        made(folder)


def test_name_twice(folder):
    save(folder / "images/a.png", np.zeros((40, 50, 3)))
    with pytest.raises(ValueError, match=r"a\.jpg and a\.png; expected one"):
        made(folder)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.full((40, 50), 3), r"holds \[3\]; expected 0 to 2"),
        (np.zeros((40, 50, 3)), "has 3 channels; expected one"),
        (np.zeros((40, 49)), r"\(40, 50\).*\(40, 49\); expected the same"),
    ],
)
def test_bad_mask(folder, array, message):
    save(folder / "masks/a.png", array)
    with pytest.raises(ValueError, match=message):
        made(folder)[0]


@pytest.mark.parametrize("name", ["images/a.jpg", "masks/a.png"])
def test_cut_short(folder, name):
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match="cannot be read as a picture"):
        made(folder)[0]


def test_bad_size(folder):
    with pytest.raises(ValueError, match="height is 0"):
        made(folder, size=(0, 4))


def test_zero_and_255_is_warned_of(folder):
    save(folder / "masks/a.png", np.tile([[0, 255]], (40, 25)))
    with pytest.warns(UserWarning, match=r"a\.png holds only 0 and 255.*divide by 255"):
        assert made(folder)[0][1].unique().tolist() == [0, VOID]
