"""Pairs of files: what an item is, which side is up, and what is said of pairs that do not fit."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from rasters import noted

from segformer_edu.data import ADE20K, VOID, PairedPictures
from segformer_edu.data.orientation import BACK, turned

CLASSES = ("road", "tree", "sky")


def saved(path, array, **options):
    Image.fromarray(np.asarray(array, dtype=np.uint8)).save(path, **options)
    return path


@pytest.fixture
def pair(tmp_path):
    random = np.random.default_rng(0)
    return (
        saved(tmp_path / "a.jpg", random.integers(0, 256, (40, 50, 3))),
        saved(tmp_path / "b.png", random.integers(0, 3, (40, 50))),
    )


def test_item(pair):
    data = PairedPictures([pair], CLASSES)
    image, mask = data[0]
    assert (len(data), data.classes, data.ignore_index, len(set(data.colours))) == (1, CLASSES, VOID, 3)
    torch.testing.assert_close(image, torch.from_numpy(np.array(Image.open(pair[0]))).permute(2, 0, 1) / 255)
    assert torch.equal(mask, torch.from_numpy(np.array(Image.open(pair[1]))).long())
    again = pickle.loads(pickle.dumps(data))[0]
    assert torch.equal(again[1], mask)
    assert PairedPictures([pair], CLASSES, colours=["#111111"] * 3).colours == ("#111111",) * 3


def test_paths_as_text_lists_and_zip(pair):
    expected = PairedPictures([pair], CLASSES)[0]
    text = [str(path) for path in pair]
    for pairs in ([tuple(text)], [text], zip(*[[path] for path in text]), {text[0]: text[1]}.items()):
        item = PairedPictures(pairs, CLASSES)[0]
        assert all(torch.equal(one, other) for one, other in zip(item, expected))


@pytest.mark.parametrize("pairs", [["ab"], [("a.png",)], [("a.png", "b.png", "c.png")], [("a.png", None)], "ab", [3]])
def test_pairs_that_are_none(pairs):
    with pytest.raises(TypeError, match=r"pairs holds .*; expected the paths of a picture and of its class map"):
        PairedPictures(pairs, CLASSES)


@pytest.mark.parametrize("size", [20, np.int64(20), (20, 20), [20, 20], torch.Size([20, 20]), np.array([20, 20])])
def test_size(pair, size):
    image, mask = PairedPictures([pair], CLASSES, size=size)[0]
    assert (image.shape, mask.shape) == ((3, 20, 20), (20, 20))
    assert torch.equal(mask, PairedPictures([pair], CLASSES)[0][1][1::2][:, torch.arange(20) * 50 // 20 + 1])


@pytest.mark.parametrize("side", [7, 20, 33, 40, 64, 100])
def test_a_resized_map_lies_as_its_picture(tmp_path, side):
    """The first pixel of each part, in place of its middle, would lie half a pixel off."""
    rows, columns = np.mgrid[:40, :50]
    shown = ((rows - 17) ** 2 + (columns - 26) ** 2 < 120).astype(np.uint8)
    pair = saved(tmp_path / "a.png", np.stack([shown * 255] * 3, -1)), saved(tmp_path / "b.png", shown)
    image, mask = PairedPictures([pair], CLASSES, size=side)[0]
    nearest = torch.nn.functional.interpolate(torch.from_numpy(shown)[None, None].double(), side, mode="nearest-exact")
    assert torch.equal(mask.double(), nearest[0, 0])
    for axis in (0, 1):
        found = [(part.sum(1 - axis) * torch.arange(side)).sum() / part.sum() for part in (image[0], mask)]
        assert abs(found[0] - found[1]) < 0.26


@pytest.mark.parametrize(
    ("size", "error", "message"),
    [
        ((0, 4), ValueError, "height is 0"),
        (-3, ValueError, "height is -3"),
        ((4, 2.5), TypeError, "width is 2.5"),
        (True, TypeError, "height is True"),
        (20.0, TypeError, r"size is 20\.0; expected \(height, width\) in pixels, one number for both"),
        ("20", TypeError, "size is '20'; expected"),
        ((20,), TypeError, r"size is \(20,\); expected"),
        ({20, 30}, TypeError, "size is .*; expected"),
    ],
)
def test_sizes_that_are_none(pair, size, error, message):
    with pytest.raises(error, match=message):
        PairedPictures([pair], CLASSES, size=size)


ENDINGS = [("jpg", "png"), ("png", "tif"), ("tif", "png"), ("tif", "tif")]
NOTES = range(2, 9)


def drawn(height: int, width: int) -> np.ndarray:
    """A map that looks different from each of its eight sides, as shown."""
    shown = np.zeros((height, width), np.uint8)
    shown[: height // 3, : width // 2], shown[-8:, :10] = 1, 2
    return shown


def noted_pair(folder, endings, note, *, picture: bool, map_note: bool, map_shown: bool = False, square: bool = False):
    """Write a picture and its map, which the picture shows in grey; each with a note, and turned as it asks, or not."""
    shown = drawn(40, 40 if square else 60)
    stored = np.ascontiguousarray(turned(shown, BACK.get(note, note)))
    return (
        noted(folder / f"a.{endings[0]}", np.stack([(stored if picture else shown) * 100] * 3, -1), note * picture),
        noted(folder / f"b.{endings[1]}", shown if map_shown else stored, note * map_note),
    )


def is_alike(pair) -> bool:
    """Whether an item's picture lies as its class map."""
    data = PairedPictures([pair], CLASSES)
    image, mask = data[0]
    assert data.item_size(0) == mask.shape
    return bool(((image[0] * 2.55).round() == mask).float().mean() > 0.97)


@pytest.mark.parametrize("square", [False, True])
@pytest.mark.parametrize("endings", ENDINGS)
@pytest.mark.parametrize("note", NOTES)
def test_both_turned(tmp_path, note, endings, square, recwarn):
    assert is_alike(noted_pair(tmp_path, endings, note, picture=True, map_note=True, square=square))
    assert len(recwarn) == 0


@pytest.mark.parametrize("shown", [False, True])
@pytest.mark.parametrize("endings", ENDINGS)
@pytest.mark.parametrize("note", [5, 6, 7, 8])
def test_sizes_tell_how_a_map_without_a_note_lies(tmp_path, note, endings, shown, recwarn):
    assert is_alike(noted_pair(tmp_path, endings, note, picture=True, map_note=False, map_shown=shown))
    assert len(recwarn) == 0


@pytest.mark.parametrize("endings", ENDINGS)
@pytest.mark.parametrize("note", [5, 6, 7, 8])
def test_sizes_tell_where_the_picture_lost_its_note(tmp_path, note, endings, recwarn):
    picture, mask = noted_pair(tmp_path, endings, note, picture=True, map_note=True)
    stored = turned(drawn(40, 60), BACK.get(note, note))
    noted(picture, np.stack([stored * 100] * 3, -1), 0)
    assert is_alike((picture, mask))
    assert len(recwarn) == 0


@pytest.mark.parametrize("endings", ENDINGS)
@pytest.mark.parametrize("note", NOTES)
def test_square_maps_without_a_note_are_warned_of_once(tmp_path, note, endings):
    pair = noted_pair(tmp_path, endings, note, picture=True, map_note=False, map_shown=True, square=True)
    data = PairedPictures([pair, pair], CLASSES)
    with pytest.warns(UserWarning, match=rf"a\.\w+ is turned as its EXIF note {note} says, .*b\.\w+ has no") as told:
        masks = [data[index][1] for index in range(2)]
    assert torch.equal(masks[0], torch.from_numpy(drawn(40, 40)).long())
    assert len(told) == 1
    assert told[0].filename == __file__


@pytest.mark.parametrize("endings", ENDINGS)
@pytest.mark.parametrize("note", NOTES)
def test_square_maps_with_a_note_alone_are_warned_of(tmp_path, note, endings):
    pair = noted_pair(tmp_path, endings, note, picture=False, map_note=True, square=True)
    with pytest.warns(UserWarning, match=rf"b\.\w+ is turned as its EXIF note {note} says, and its picture a"):
        assert is_alike(pair)


@pytest.mark.parametrize(
    ("shape", "note", "message"),
    [
        ((40, 49), 0, r"a\.jpg is \(40, 50\) pixels \(height, width\), its .* b\.png \(40, 49\); .* without smoothing"),
        ((50, 40), 0, r"\(50, 40\); expected the same\. One of them lies on its side: turn it by a quarter"),
        ((40, 49), 3, r"\(40, 49\); expected the same\. EXIF's note 3 turned them already"),
        ((40, 49, 3), 0, r"b\.png has 3 channels; expected one.*classes=\{name: \(red, green, blue\)\}"),
    ],
)
def test_sizes_that_differ(pair, shape, note, message):
    noted(pair[1], np.zeros(shape, np.uint8), note)
    with pytest.raises(ValueError, match=message) as caught:
        PairedPictures([[str(path) for path in pair]], CLASSES)[0]
    assert ("Resize" in str(caught.value)) == (shape == (40, 49) and not note)


@pytest.mark.parametrize("which", [0, 1])
def test_files_that_cannot_be_read(pair, which):
    content = pair[which].read_bytes()
    pair[which].write_bytes(content[: len(content) // 2])
    data = PairedPictures([pair], CLASSES)
    with pytest.raises(ValueError, match=rf"{pair[which].name} cannot be read as a picture"):
        data[0]
    pair[which].unlink()
    with pytest.raises(FileNotFoundError, match=rf"no picture .*{pair[which].name}"):
        data[0]


def test_sizes_without_reading(tmp_path, pair):
    np.save(tmp_path / "c.npy", np.zeros((7, 9, 3)))
    np.save(tmp_path / "d.npy", np.zeros(9))
    data = PairedPictures([pair, (tmp_path / "c.npy", pair[1]), (tmp_path / "d.npy", pair[1])], CLASSES)
    assert (data.item_size(0), data.item_size(1)) == ((40, 50), (7, 9))
    with pytest.raises(ValueError, match=r"d\.npy: The array has shape \(9,\)"):
        data.item_size(2)
    pair[0].write_bytes(b"")
    with pytest.raises(ValueError, match=r"a\.jpg cannot be read as a picture"):
        data.item_size(0)


def test_arrays_as_files(tmp_path):
    random = np.random.default_rng(0)
    np.save(tmp_path / "a.npy", random.random((40, 50, 5)))
    np.save(tmp_path / "b.npy", random.integers(0, 3, (40, 50)).astype(np.int16))
    image, mask = PairedPictures([(tmp_path / "a.npy", tmp_path / "b.npy")], CLASSES, channels=5)[0]
    torch.testing.assert_close(image.double(), torch.from_numpy(np.load(tmp_path / "a.npy")).permute(2, 0, 1))
    assert torch.equal(mask, torch.from_numpy(np.load(tmp_path / "b.npy")).long())
    with pytest.raises(ValueError, match=r"a\.npy: The array has shape \(40, 50, 5\)"):
        PairedPictures([(tmp_path / "a.npy", tmp_path / "b.npy")], CLASSES)[0]


def test_wrong_channels_name_the_file(pair):
    with pytest.raises(ValueError, match=r"a\.jpg: The picture has 3 channels \(R, G, B\); expected 4"):
        PairedPictures([pair], CLASSES, channels=4)[0]
    with pytest.raises(TypeError, match="channels is True"):
        PairedPictures([pair], CLASSES, channels=True)


def test_maps_that_are_smoothed_are_refused_at_once(tmp_path, pair):
    lossy = saved(tmp_path / "m.jpg", np.zeros((40, 50)))
    with pytest.raises(ValueError, match=r"1 of 2 class maps are in a format .*first: m\.jpg\).*such as PNG"):
        PairedPictures([pair, (pair[0], lossy)], CLASSES)
    lossy.write_bytes(pair[1].read_bytes())  # a PNG under a wrong name
    assert PairedPictures([(pair[0], lossy)], CLASSES)[0][1].shape == (40, 50)


def test_zero_and_255_are_warned_of_once(pair):
    saved(pair[1], np.tile([[0, 255]], (40, 25)))
    data = PairedPictures([pair, pair], CLASSES)
    with pytest.warns(UserWarning, match=r"b\.png holds only 0 and 255.*divide by 255, or say classes=\{0") as told:
        masks = [data[index][1] for index in range(2)]
    assert masks[0].unique().tolist() == [0, VOID]
    assert len(told) == 1


@pytest.mark.parametrize(("classes", "void"), [({0: "a", 255: "b"}, VOID), (CLASSES, [0, 255]), (CLASSES, None)])
def test_zero_and_255_that_are_meant(pair, classes, void, recwarn):
    saved(pair[1], np.tile([[0, 255]] if void else [[0, 1]], (40, 25)))
    data = PairedPictures([pair], classes, void=void)
    recwarn.clear()  # void=[0, …] is warned of when the data set is made
    data[0]
    assert len(recwarn) == 0


def test_files_of_several_maps_are_warned_of(tmp_path, pair):
    pages = [Image.fromarray(np.full((40, 50), number, np.uint8)) for number in (1, 2)]
    pages[0].save(tmp_path / "m.tif", save_all=True, append_images=pages[1:])
    with pytest.warns(UserWarning, match=r"m\.tif holds several class maps, pages or frames; the first one is taken"):
        assert PairedPictures([(pair[0], tmp_path / "m.tif")], CLASSES)[0][1].unique().tolist() == [1]


@pytest.mark.parametrize("classes", ["ade20k", ADE20K, ADE20K.names])
def test_ade20k_counted_from_0_is_warned_of(pair, classes, recwarn):
    """The benchmark's own files count from 1: read from 0, every region gets the name of the next class."""
    with pytest.warns(UserWarning, match=r"0 is taken for 'wall', class 0\. .*first=1 and void=0"):
        PairedPictures([pair], classes)[0]
    recwarn.clear()
    mask = PairedPictures([pair], classes, first=1, void=0)[0][1]
    assert (mask.unique().tolist(), len(recwarn)) == ([0, 1, VOID], 0)
