"""Folders that ``Folder`` refuses are examined all the same, and class maps of which nobody said what they hold."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from test_report import picture, save

from segformer_edu.data import Folder
from segformer_edu.data.survey import examine_folder


@pytest.fixture
def folder(tmp_path):
    """Four pairs of classes 0, 1 and 2."""
    for number, name in enumerate("abcd"):
        save(tmp_path / "images" / f"{name}.jpg", picture(number))
        save(tmp_path / "masks" / f"{name}.png", np.arange(64 * 80).reshape(64, 80) % 3)
    return tmp_path


def survey(folder, classes=3, **options):
    return examine_folder(folder / "images", folder / "masks", classes, **options)


def test_a_folder_that_is_well(folder):
    report, data = survey(folder)
    assert isinstance(data, Folder)
    assert (report.pairs, report.sound, list(report.odd)) == (4, True, [])


def test_pictures_without_class_maps_and_lossy_ones(folder):
    (folder / "masks" / "b.png").unlink()
    (folder / "masks" / "d.png").unlink()
    Image.new("L", (80, 64)).save(folder / "masks" / "d.jpg")
    save(folder / "images" / "e.jpg", picture(9))
    save(folder / "masks" / "f.png", np.zeros((8, 8)))
    save(folder / "masks" / "c.png", np.full((64, 80), 9))
    (folder / "images" / "readme.xyz").write_text("")
    report, data = survey(folder)
    assert not report.sound
    assert (report.pairs, len(data)) == (1, 2)
    assert report.broken[f"no class map of this name in {folder / 'masks'}"] == ["images/b.jpg", "images/e.jpg"]
    (lossy,) = [names for reason, names in report.broken.items() if "changes numbers where classes meet" in reason]
    assert lossy == ["masks/d.jpg"]
    (numbers,) = [names for reason, names in report.broken.items() if "holds [9]" in reason]
    assert numbers == ["masks/c.png"]
    assert report.left_out["class maps without a picture"] == ["masks/f.png"]
    assert report.left_out["of no known kind"] == ["images/readme.xyz"]


def test_all_class_maps_lossy(folder):
    for name in "abcd":
        (folder / "masks" / f"{name}.png").unlink()
        Image.new("L", (80, 64)).save(folder / "masks" / f"{name}.jpg")
    report, _ = survey(folder)
    assert report.pairs == 0
    (names,) = report.broken.values()
    assert names == [f"masks/{name}.jpg" for name in "abcd"]


def test_what_is_refused_as_a_whole(folder):
    with pytest.raises(ValueError, match="classes is empty"):
        survey(folder, [])
    with pytest.raises(FileNotFoundError, match="There is no folder"):
        examine_folder(folder / "images", folder / "gone", 3)
    (folder / "other").mkdir()
    save(folder / "other" / "a_mask.png", np.zeros((64, 80)))
    with pytest.raises(ValueError, match=r"4 of 4 pictures .* mask_pattern='\*_mask.png' would pair it"):
        examine_folder(folder / "images", folder / "other", 3)


def test_a_list_of_names(folder):
    (folder / "masks" / "b.png").unlink()
    report, _ = survey(folder, names=["a", "b"])
    assert report.pairs == 1
    assert list(report.broken.values()) == [["images/b.jpg"]]
    with pytest.raises(ValueError, match="1 of 2 names of the list have no picture"):
        survey(folder, names=["a", "z"])


def test_numbers_as_they_stand(folder):
    mask = np.full((64, 80), 255)
    mask[:30] = 7
    save(folder / "masks" / "d.png", mask)
    report, _ = survey(folder, None)
    assert report.classes == ("class 0", "class 1", "class 2", "class 7")
    assert report.void == 34 * 80
    assert report.pictures == (3, 3, 3, 1)
    assert report.odd[0].startswith("nobody said what the classes are, so what stands in the class maps is taken: ")
    assert ": 0, 1, 2, 7, and 255 for no class. Say it with --classes" in report.odd[0]
    assert survey(folder, None, void=None)[0].classes[-1] == "class 255"
    assert survey(folder, None, void=[255, 7])[0].classes == ("class 0", "class 1", "class 2")


def test_0_and_255_as_they_stand(folder):
    for name in "abcd":
        save(folder / "masks" / f"{name}.png", np.arange(64 * 80).reshape(64, 80) % 2 * 255)
    report, _ = survey(folder, None)
    assert (report.classes, report.void) == (("class 0", "class 255"), 0)
    assert report.pixels == (4 * 2560, 4 * 2560)
    assert report.odd[1].startswith("the class maps hold only 0 and 255, and 255 means no class unless you say that it")


def paint(folder, colours):
    for name in "abcd":
        numbers = np.arange(64 * 80).reshape(64, 80) % len(colours)
        save(folder / "masks" / f"{name}.png", np.array(colours)[numbers])


def test_colours_as_they_stand(folder):
    paint(folder, [(11, 3, 254), (0, 0, 0)])
    report, _ = survey(folder, None)
    assert report.classes == ("#000000", "#0b03fe")
    assert report.pixels == (4 * 2560, 4 * 2560)
    assert len(report.odd) == 1


def test_colours_of_a_known_data_set(folder):
    paint(folder, [(0, 0, 0), (128, 0, 0), (224, 224, 192)])
    report, _ = survey(folder, None)
    assert "these colours are all among those of PASCAL VOC; if they are meant: --classes voc" in report.odd
    assert survey(folder, "voc")[0].pictures[:2] == (4, 4)


def test_colours_that_are_no_classes(folder):
    for number, name in enumerate("abcd"):
        save(folder / "masks" / f"{name}.png", picture(number))
    with pytest.raises(ValueError, match=r"more than 256 numbers or colours, up to .*mistaken for each other\?"):
        survey(folder, None)
    report, _ = survey(folder, {"a": (1, 2, 3)})
    assert sorted(name for names in report.broken.values() for name in names) == [f"masks/{n}.png" for n in "abcd"]


def test_a_damaged_class_map_as_it_stands(folder):
    (folder / "masks" / "b.png").write_bytes(b"no")
    report, _ = survey(folder, None)
    assert (report.pairs, report.classes) == (3, ("class 0", "class 1", "class 2"))
    assert list(report.broken.values()) == [["masks/b.png"]]


def test_void_that_is_a_class_too(folder):
    report, _ = survey(folder, void=0)
    assert any("void is 0, which also stands for class 'class 0'" in text for text in report.odd)
