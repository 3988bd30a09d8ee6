"""One's own folder: which files belong together, which are left out, and what is said of both."""

from __future__ import annotations

import os
import unicodedata

import numpy as np
import pytest
from PIL import Image

from segformer_edu.data import Folder, PairedPictures
from segformer_edu.data.folder import NO_MATCH, NO_PICTURE, NOT_LISTED, NOWHERE, OTHER, TWICE, UNREADABLE
from segformer_edu.data.formats import is_picture

PICTURE = Image.new("RGB", (6, 4), (9, 99, 199))
MAP = Image.fromarray(np.tile(np.arange(3, dtype=np.uint8), (4, 2)))


@pytest.fixture
def lay(tmp_path):
    """Return a function that makes files: pictures, maps where the path says so, and others without a content."""

    def make(*names: str):
        for name in names:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if is_picture(path.name):
                (MAP if name.startswith("m/") or "_m" in path.stem else PICTURE).save(path)
            else:
                path.write_bytes(b"x")
        return tmp_path

    return make


def made(folder, images="i", masks="m", **options) -> Folder:
    return Folder(folder / images, folder / masks, 3, **options)


def paired(data: PairedPictures) -> list[str]:
    """The pairs, each as the names of its files."""
    return [f"{image.name} {mask.name}" for image, mask in data.pairs]


def counted(data: Folder) -> dict[str, int]:
    return {reason: len(files) for reason, files in data.left_out.items()}


CITY = {"image_pattern": "*_leftImg8bit", "mask_pattern": "*_gtFine_labelTrainIds"}


@pytest.mark.parametrize(
    ("files", "options", "expected"),
    [
        (["i/a.jpg", "m/a.png"], {}, ["a.jpg a.png"]),
        (["i/A b.JPG", "m/A b.PNG", "i/ü.jpeg", "m/ü.Tif"], {}, ["A b.JPG A b.PNG", "ü.jpeg ü.Tif"]),
        (["i/1.JPG", "m/1.Png", "m/1.bmp"], {"image_pattern": "*.jpg", "mask_pattern": "*.png"}, ["1.JPG 1.Png"]),
        (["i/a.jpg", "m/a.jpg.png"], {"mask_pattern": "*.jpg.png"}, ["a.jpg a.jpg.png"]),
        (["i/a.jpg", "m/a_segmentation.png"], {"mask_pattern": "*_segmentation"}, ["a.jpg a_segmentation.png"]),
        (["i/a.jpg", "m/gt_a_x.png"], {"mask_pattern": "gt_*_x"}, ["a.jpg gt_a_x.png"]),
        (["i/a.jpg", "m/a_L.png", "m/b_L.txt"], {"mask_pattern": "*_l.png"}, ["a.jpg a_L.png"]),
        (["i/a[1].jpg", "m/a[1]+m.png"], {"image_pattern": "a[*", "mask_pattern": "a[*+m"}, ["a[1].jpg a[1]+m.png"]),
        (
            ["i/x_leftImg8bit.png", "m/x_gtFine_labelTrainIds.png", "m/x_gtFine_color.png", "m/x_polygons.json"],
            CITY,
            ["x_leftImg8bit.png x_gtFine_labelTrainIds.png"],
        ),
        (["i/a.gif", "m/a.gif", "i/b.ppm", "m/b.pgm"], {}, ["a.gif a.gif", "b.ppm b.pgm"]),
        (["i/a.tga", "m/a.tga", "i/b.jp2", "m/b.png"], {}, ["a.tga a.tga", "b.jp2 b.png"]),
        (["i/x/a.jpg", "i/y/b.jpg", "m/a.png", "m/b.png"], {}, ["a.jpg a.png", "b.jpg b.png"]),
    ],
)
def test_what_pairs_up(lay, files, options, expected, recwarn):
    assert paired(made(lay(*files), **options)) == expected
    assert len(recwarn) == 0


def test_same_names_in_two_cities(lay):
    files = [f"train/{city}/1_{name}.png" for city in ("aachen", "bonn") for name in ("leftImg8bit",)]
    masks = [f"m/train/{city}/1_gtFine_labelTrainIds.png" for city in ("aachen", "bonn")]
    folder = lay(*(f"i/{name}" for name in files), *masks)
    for images, maps in (("i", "m"), ("i/train", "m/train")):
        data = made(folder, images, maps, **CITY)
        assert [(a.parent.name, b.parent.name) for a, b in data.pairs] == [("aachen", "aachen"), ("bonn", "bonn")]
    assert made(folder, **CITY, names=["bonn/1"]).pairs[0][1].parent.name == "bonn"
    assert made(folder, **CITY, names=["/d/leftImg8bit/train/bonn/1_leftImg8bit.png"]).pairs[0][0].parent.name == "bonn"
    with pytest.raises(ValueError, match="names '1', which is train/aachen/1 and train/bonn/1; give the folder too"):
        made(folder, **CITY, names=["1"])


def test_same_names_in_folders_that_differ(lay):
    folder = lay("i/x/a.jpg", "i/y/a.jpg", "m/x/a.png", "m/z/a.png")
    with pytest.raises(ValueError, match=r"first: y/a\).*There is .*z/a\.png; expected the same folders for both"):
        made(folder)


@pytest.mark.parametrize(
    ("files", "options", "expected"),
    [
        (["d/a.jpg", "d/a.png"], {"image_pattern": "*.jpg", "mask_pattern": "*.png"}, ["a.jpg a.png"]),
        (["d/a (1).png", "d/a (1)_m.png"], {"mask_pattern": "*_m"}, ["a (1).png a (1)_m.png"]),
        (["d/a_img.png", "d/a.png"], {"image_pattern": "*_img"}, ["a_img.png a.png"]),
    ],
)
def test_one_folder_for_both(lay, files, options, expected, recwarn):
    data = made(lay(*files), "d", "d", **options)
    assert paired(data) == expected
    assert (data.left_out, len(recwarn)) == ({}, 0)


@pytest.mark.parametrize("masks", ["d", "d/../d"])
def test_no_picture_is_its_own_map(lay, masks):
    folder = lay("d/a.png", "d/b.png")
    with pytest.raises(ValueError, match=r"both pictures and class maps, .*expected patterns that tell them apart"):
        made(folder, "d", masks)
    with pytest.raises(ValueError, match=r"a\.png is both a picture and its own class map"):
        PairedPictures([(folder / "d/a.png", str(folder / "d/a.png"))], 3)


@pytest.mark.parametrize("images", ["d", "d/m/.."])
def test_class_maps_in_the_folder_of_pictures(lay, images):
    folder = lay("d/a.png", "d/m/a.png")
    data = made(folder, images, "d/m")
    assert [(image.parent.name, mask.parent.name) for image, mask in data.pairs] == [(images[-2:].strip("/"), "m")]
    assert paired(made(folder, "d/m", "d")) == ["a.png a.png"]


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_names_of_other_systems(lay, form):
    """macOS takes letters and their dots apart."""
    other = "NFD" if form == "NFC" else "NFC"
    name, pattern = "straße ü", "é_*_maské"
    folder = lay(
        unicodedata.normalize(form, f"i/{name}/{name}.jpg"),
        unicodedata.normalize(other, f"m/{name}/é_{name}_maské.png"),
    )
    assert len(made(folder, mask_pattern=unicodedata.normalize(form, pattern))) == 1
    for names in ([unicodedata.normalize(other, name)], [unicodedata.normalize(form, f"{name}.jpg")]):
        assert len(made(folder, mask_pattern=pattern, names=names)) == 1


def test_folders_of_other_systems(lay):
    names = [(unicodedata.normalize(form, "ü"), "o") for form in ("NFD", "NFC")]
    folder = lay(*(f"{place}/{part}/a.png" for place, parts in zip("im", names) for part in parts))
    assert len(made(folder)) == 2


def test_what_is_left_out_is_told(lay):
    folder = lay("i/a.jpg", "m/a.png", "m/b.png", "i/b.heic", "i/c.dng", "i/d", "i/e.json", "i/f.nii.gz", "m/g.jxl")
    with pytest.warns(UserWarning, match=r"Pairs taken: 1\. Left out: ") as caught:
        data = made(folder)
    (warning,) = caught
    text = str(warning.message)
    assert f"{UNREADABLE}: 4 (b.heic, c.dng, f.nii.gz, …)" in text
    assert f"{OTHER}: 1 (d)" in text
    assert f"{NO_PICTURE}: 1 (b.png)" in text
    assert "As to b.heic, it is HEIC" in text
    assert "e.json" not in text
    assert counted(data) == {UNREADABLE: 4, OTHER: 1, "beside the pictures": 1, NO_PICTURE: 1}
    assert warning.filename == __file__


def test_heic_is_taken_where_pillow_reads_it(lay, monkeypatch):
    folder = lay("i/a.jpg", "m/a.png", "m/b.png", "i/b.heic")
    monkeypatch.setitem(Image.EXTENSION, ".heic", "PNG")  # as pillow-heif does, but for the format
    (folder / "i/b.heic").write_bytes((folder / "m/b.png").read_bytes())
    assert paired(made(folder)) == ["a.jpg a.png", "b.heic b.png"]


def test_what_systems_leave_beside_is_not_told(lay, recwarn):
    hidden = ["i/.a.jpg", "i/._a.jpg", "m/._a.png", "m/Thumbs.db", "i/.DS_Store", "i/__MACOSX/a.jpg", "i/@eaDir/a.jpg"]
    assert made(lay("i/a.jpg", "m/a.png", *hidden, "m/.ipynb_checkpoints/a.png")).left_out == {}
    assert len(recwarn) == 0


def test_links(lay):
    folder = lay("i/a.jpg", "m/a.png", "elsewhere/b.jpg", "m/b.png")
    (folder / "i/part").symlink_to(folder / "elsewhere")
    (folder / "i/part/round").symlink_to(folder / "i")
    (folder / "i/c.jpg").symlink_to(folder / "nothing.jpg")
    (folder / "i/d.jpg").mkdir()
    os.mkfifo(folder / "i/e.jpg")
    with pytest.warns(UserWarning, match=rf"{OTHER}: 1 \(e\.jpg\); {NOWHERE}: 1 \(c\.jpg\)"):
        assert paired(made(folder)) == ["a.jpg a.png", "b.jpg b.png"]
    (folder / "link").symlink_to(folder / "i")
    with pytest.warns(UserWarning, match=NOWHERE):
        assert len(made(folder, "link")) == 2


def test_folder_that_cannot_be_searched(lay, monkeypatch):
    folder, scan = lay("i/a.jpg", "i/locked/b.jpg", "m/a.png"), os.scandir

    def forbidding(path):
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", forbidding)
    with pytest.raises(PermissionError, match=r"The folder .*locked cannot be searched \(Permission denied\)"):
        made(folder)


@pytest.mark.parametrize("content", [
    b"a\nb", b"\xef\xbb\xbfa\r\nb\r\n", b"\n a \n\nb\n", b"a.jpg\nb.png\n", b"/data/i/a.jpg\ni/b\n",
    b"a.jpg a.png\nb.jpg\tb.png", b"i/a.jpg,m/a.png\ni/b.jpg;m/b.png\n", b"d\\i\\a.jpg\r\nb\r\n",
])  # fmt: skip
def test_list_of_names(lay, content):
    folder = lay(*(f"{place}/{name}.png" for name in "abc" for place in "im"))
    (folder / "list.txt").write_bytes(content)
    for names in (folder / "list.txt", str(folder / "list.txt")):
        data = made(folder, names=names)
        assert paired(data) == ["a.png a.png", "b.png b.png"]
        assert counted(data) == {NOT_LISTED: 1}


def test_names_with_spaces_and_dots(lay):
    folder = lay(*(f"{place}/{name}.png" for name in ("a", "a b", "v1.2", "v1") for place in "im"))
    assert paired(made(folder, names=["a b", "v1.2"])) == ["a b.png a b.png", "v1.2.png v1.2.png"]
    assert paired(made(folder, names=["a b.jpg"])) == ["a b.png a b.png"]
    for unknown in ("a c", "v1.3", "b", "a 1"):
        with pytest.raises(ValueError, match=rf"1 of 1 names of the list have no picture in .* \(first: {unknown}\)"):
            made(folder, names=[unknown])


def test_names_in_their_order_each_once(lay):
    folder = lay(*(f"{place}/{name}.png" for name in "abc" for place in "im"))
    for names in (("c", "a"), iter(["c", "a"]), np.array(["c", "a"])):
        assert paired(made(folder, names=names)) == ["c.png c.png", "a.png a.png"]
    with pytest.warns(UserWarning, match=rf"Pairs taken: 2\. Left out: {TWICE}: 1 \(b\.png\)"):
        assert paired(made(folder, names=["b", "a", "b.png"])) == ["b.png b.png", "a.png a.png"]


def test_pictures_without_maps_that_no_list_asks_for(lay, recwarn):
    """VOC has 17125 pictures and 2913 class maps."""
    folder = lay("i/a.jpg", "i/b.jpg", "i/c.jpg", "m/a.png")
    assert paired(made(folder, names=["a"])) == ["a.jpg a.png"]
    with pytest.raises(ValueError, match=r"2 of 3 pictures .*first: b, c\).*names= takes some"):
        made(folder)
    assert len(recwarn) == 0


@pytest.mark.parametrize(
    ("names", "error", "message"),
    [
        ([], ValueError, "The list of names is empty"),
        (["a", "z", "y"], ValueError, r"2 of 3 names of the list have no picture in .* \(first: z, y\)"),
        ([1], TypeError, "names holds 1; expected the names of pictures"),
        (5, TypeError, "names is 5; expected a list of names, or the path of a text file"),
        ({"a"}, TypeError, r"names is \{'a'\}; expected a list"),
        ("nowhere.txt", FileNotFoundError, r"no list .*nowhere\.txt .*one name a line, or names=\["),
        ("a\0b", FileNotFoundError, "There is no list"),
        ("x" * 5000, FileNotFoundError, "There is no list .*File name too long"),
        (b"\xff\xfea\0", ValueError, "is no text .*expected UTF-8, one name a line"),
        (b"\xfc", ValueError, "is no text"),
    ],
)
def test_lists_that_are_none(lay, names, error, message):
    folder = lay("i/a.png", "m/a.png", "list.txt")
    if isinstance(names, bytes):
        (folder / "list.txt").write_bytes(names)
        names = folder / "list.txt"
    with pytest.raises(error, match=message):
        made(folder, names=names)


@pytest.mark.parametrize("pattern", ["mask", "**", "*_*", "", None, 3])
def test_pattern_without_one_star(lay, pattern):
    with pytest.raises(ValueError, match=r"The pattern is .*; expected one star in it, such as '\*_mask'"):
        made(lay("i/a.png", "m/a.png"), mask_pattern=pattern)


def test_pattern_that_fits_nothing(lay):
    folder = lay("i/a.png", "m/a.png", "m/b.png")
    with pytest.raises(FileNotFoundError, match=r"No picture in .*m has a name like '\*_x'; it holds a\.png, b\.png"):
        made(folder, mask_pattern="*_x")


def test_what_a_pattern_leaves_out_is_kept(lay, recwarn):
    data = made(lay("i/a.png", "m/a_m.png", "m/a_x.png"), mask_pattern="*_m")
    assert (counted(data), len(recwarn)) == ({NO_MATCH: 1}, 0)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["i/a.jpg", "m/a_seg.png"], r"such as a\.png\. There is a_seg\.png: mask_pattern='\*_seg\.png' would pair it"),
        (["i/a.jpg", "m/a.jpg.png"], r"There is a\.jpg\.png: mask_pattern='\*\.jpg\.png' would pair it"),
        (["i/x_img.png", "m/x_gt.png"], r"first: x_img\).*image_pattern= and mask_pattern= say what names share"),
        (["i/a.jpg", "i/b.jpg", "m/a.png", "m/b.jxl"], rf"first: b\).*Left out there, {UNREADABLE}: 1 \(b\.jxl\)"),
        (["i/a.jpg", "i/a.png", "m/a.png"], r"holds a\.jpg and a\.png; expected one of each name.*'\*\.png'"),
        (["i/a.jpg", "m/a.jpg"], r"1 of 1 class maps are in a format that changes numbers .*first: a\.jpg"),
    ],
)
def test_what_does_not_pair_is_told(lay, files, message):
    with pytest.raises(ValueError, match=message):
        made(lay(*files))


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["m/a.png"], r"There is no folder .*/i; check the path"),
        (["i", "m/a.png"], r"There is no folder .*/i; check the path"),
        (["i/a.json", "m/a.png"], r"/i holds no picture; expected files ending in \.png, .*\.npy\.$"),
        (["i/a", "m/a.png"], rf"holds no picture; .*It holds files {OTHER}: 1 \(a\)"),
        (["i/a.heic", "m/a.png"], rf"It holds files {UNREADABLE}: 1 \(a\.heic\)\. As to the first, it is HEIC"),
    ],
)
def test_folders_without_pictures(lay, files, message):
    with pytest.raises(FileNotFoundError, match=message):
        made(lay(*files))


@pytest.mark.parametrize("wrong", [None, 3, b"i"])
def test_folders_that_are_no_paths(lay, wrong):
    folder = lay("i/a.png", "m/a.png")
    with pytest.raises(TypeError, match=r"images is .*; expected the path of a folder"):
        Folder(wrong, folder / "m", 3)
    with pytest.raises(TypeError, match=r"masks is .*; expected the path of a folder"):
        Folder(str(folder / "i"), wrong, 3)


def test_options_reach_the_items(lay):
    folder = lay("i/a.png", "m/a.png")
    data = Folder(folder / "i", folder / "m", ["x", "y"], void=0, first=1, size=2, channels=1)
    image, mask = data[0]
    assert (image.shape, mask.tolist(), data.classes) == ((1, 2, 2), [[0, 0], [0, 0]], ("x", "y"))
    assert made(folder)[0][1].tolist() == [[0, 1, 2, 0, 1, 2]] * 4


def test_painted_folder(lay):
    folder = lay("i/a.png")
    (folder / "m").mkdir()
    Image.fromarray(np.array([[[128, 0, 0], [0, 0, 0]] * 3] * 4, np.uint8)).save(folder / "m/a.png")
    data = Folder(folder / "i", folder / "m", "voc")
    assert data[0][1].tolist() == [[1, 0] * 3] * 4
    assert (len(data.classes), len(data.colours), data.ignore_index) == (21, 21, 255)
