"""``check-data``: what it finds by itself, what it says, its exit codes, and the sheet."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segformer_edu.cli import main
from segformer_edu.cli.check_data import read_classes, some_classes


def save(path, values):
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(values, dtype=np.uint8)).save(path)


def lay(images="images", masks="masks", names="abc", ends=(".jpg", ".png"), first=0):
    """Write pairs of 64×80 with two classes."""
    for number, name in enumerate(names):
        colours = np.random.default_rng([number, *map(ord, str(images))]).integers(0, 256, (64, 80, 3))
        save(f"data/{images}/{name}{ends[0]}", colours)
        mask = np.full((64, 80), first)
        mask[:, 20 + number :] = first + 1
        save(f"data/{masks}/{name}{ends[1]}", mask)


def test_a_folder_that_is_well(run):
    lay()
    code, out, err = run("check-data data --classes ground,crack --sheet sheet.png")
    assert code == 0
    assert "error" not in err
    assert out.startswith("Folder('data/images', 'data/masks', …)\n3 pairs of a picture and a class map can be read\n")
    assert "\n    1  crack " in out
    assert "Nothing found that would stop a training.\n" in out
    assert out.endswith("written: sheet.png\n")
    with Image.open("sheet.png") as sheet:
        assert sheet.width == 1170
        assert len(sheet.convert("RGB").getcolors(1 << 24)) > 1000


def test_every_broken_file_is_told(run):
    lay(names="abcdefgh")
    Path("data/masks/a.png").unlink()
    Path("data/masks/b.png").write_bytes(b"no")
    Path("data/images/c.jpg").write_bytes(Path("data/images/c.jpg").read_bytes()[:300])
    save("data/masks/d.png", np.full((64, 80), 9))
    save("data/masks/e.png", np.zeros((64, 79)))
    Path("data/masks/f.png").unlink()
    Image.new("L", (80, 64)).save("data/masks/f.jpg")
    Path("data/images/photo.heic").write_bytes(b"\0\0\0\x18ftypheic")
    code, out, _ = run("check-data data --classes 2")
    assert code == 1
    assert "2 pairs of a picture and a class map can be read" in out
    broken = out[out.index("stops a training:") :]
    for words in (
        "no class map of this name in data/masks.\n      images/a.jpg",
        "\n      masks/b.png",
        "\n      images/c.jpg",
        "holds [9]; expected 0 to 1",
        "\n      masks/d.png",
        "(64, 80)",
        "\n      images/e.jpg",
        "changes numbers where classes meet",
        "\n      masks/f.jpg",
        "Not ready to train on.",
    ):
        assert words in broken
    assert "1 in a format that is not read: images/photo.heic" in out


def test_cityscapes_and_several_splits(run):
    ends = ("_leftImg8bit.png", "_gtFine_labelTrainIds.png")
    lay("leftImg8bit/train/ulm", "gtFine/train/ulm", ends=ends)
    code, out, _ = run("check-data data")
    assert code == 0
    assert out.startswith(
        "Folder('data/leftImg8bit', 'data/gtFine', …, image_pattern='*_leftImg8bit', "
        "mask_pattern='*_gtFine_labelTrainIds')\n3 pairs"
    )
    assert "nobody said what the classes are" in out


def test_splits_are_examined_one_by_one(run):
    lay("train", "trainannot")
    lay("val", "valannot", names="xy")
    save("data/valannot/x.png", np.full((64, 80), 3))
    code, out, _ = run("check-data data --classes 2 --sheet sheet.png")
    assert code == 1
    train, val = out.split("Folder('data/val'")
    assert "3 pairs" in train
    assert "Nothing found" in train
    assert "1 pair of" in val
    assert "valannot/x.png" in val
    assert sorted(path.name for path in Path().glob("sheet*")) == ["sheet-1.png", "sheet-2.png"]


def test_one_split_that_is_refused_does_not_hide_the_other(run):
    lay("train", "trainannot")
    lay("val", "valannot", names="xy")
    for path in Path("data/trainannot").iterdir():
        path.unlink()
    code, out, err = run("check-data data --classes 2")
    assert code == 1
    assert "data/trainannot holds no picture" in err
    assert "2 pairs" in out


def test_camvid(run, monkeypatch):
    lay("train", "trainannot")
    code, out, _ = run("check-data data/train --classes 2")
    assert (code, out.splitlines()[0]) == (0, "Folder('data/train', 'data/trainannot', …)")


def test_folders_patterns_and_a_list_of_ones_own(run):
    lay("x/photographs", "y", names=["a", "b", "c"], ends=("_rgb.jpg", "_truth.png"), first=1)
    Path("list.txt").write_text("a\nb\n")
    code, out, err = run(
        "check-data data --images x/photographs --masks y --image-pattern *_rgb --mask-pattern *_truth "
        "--names list.txt --classes ground,crack --first 1 --void 0"
    )
    assert code == 0, err
    assert out.startswith(
        "Folder('data/x/photographs', 'data/y', …, image_pattern='*_rgb', mask_pattern='*_truth', names"
    )
    assert "2 pairs" in out
    assert "1 not in the list of names: photographs/c_rgb.jpg" in out
    assert "\n    0  ground " in out


@pytest.mark.parametrize("void", ["none", "7", "#0a0b0c"])
def test_void(run, void):
    lay()
    mask = np.zeros((64, 80, 3), dtype=np.uint8)
    mask[:32] = (10, 11, 12)
    if void.startswith("#"):
        for name in "abc":
            save(f"data/masks/{name}.png", mask)
        Path("classes.txt").write_text("ground 0 0 0")
        code, out, _ = run(f"check-data data --classes-file classes.txt --void {void}")
        assert "no class (void): 50 % of all pixels" in out
    else:
        save("data/masks/a.png", np.full((64, 80), 255 if void == "none" else 7))
        code, out, _ = run(f"check-data data --classes 2 --void {void}")
        assert code == (1 if void == "none" else 0)
        return
    assert code == 0


FILES = {
    "names": ("ground\nlong crack\n", ["ground", "long crack"]),
    "numbers": ("0 ground\n7: long crack", {"ground": 0, "long crack": 7}),
    "colours": ("ground 0 0 0\nlong crack 128,64,1\n", {"ground": (0, 0, 0), "long crack": (128, 64, 1)}),
    "a table": ("name,r,g,b\nground,0,0,0\nlong crack,128,64,1\n", {"ground": (0, 0, 0), "long crack": (128, 64, 1)}),
    "CamVid's": ("64 128 64\tAnimal\n0 0 0\t\tVoid\n", {"Animal": (64, 128, 64), "Void": (0, 0, 0)}),
    "hexadecimal": ("ground #000000\nlong crack: #80FF01", {"ground": "#000000", "long crack": "#80FF01"}),
    "remarks": ("# mine\nground\n\ncrack\n", ["ground", "crack"]),
    "JSON": ('{"ground": [0, 0, 0], "crack": [1, 2, 3]}', {"ground": [0, 0, 0], "crack": [1, 2, 3]}),
    "a list in JSON": ('["ground", "crack"]', ["ground", "crack"]),
}


@pytest.mark.parametrize("name", FILES)
def test_files_of_classes(tmp_path, name):
    text, expected = FILES[name]
    path = tmp_path / "classes.txt"
    path.write_text(text, encoding="utf-8-sig")
    assert read_classes(path) == expected


def test_classes_on_the_line():
    assert some_classes("3") == 3
    assert some_classes("VOC") == "VOC"
    assert some_classes("road, sky ,long crack,") == ["road", "sky", "long crack"]


def test_json_with_numbers(run):
    lay(first=3)
    Path("classes.json").write_text(json.dumps({"3": "ground", "4": "crack"}))
    code, out, _ = run("check-data data --classes-file classes.json")
    assert code == 0
    assert "\n    1  crack " in out


def test_names_that_no_terminal_shows_and_dollars(run):
    lay(names=["ü$1$", "猫", "c"])
    code, _, err = run("check-data data --classes $a$,猫 --sheet sheet.png")
    assert code == 0
    assert "note:" not in err
    assert Path("sheet.png").is_file()


MISTAKES = {
    "no folder": ("check-data gone", "There is no folder gone"),
    "no layout": ("check-data empty", "is laid out in no way that is known: it holds no folder"),
    "one folder": ("check-data data --images images", "--images and --masks go together"),
    "other folders": ("check-data data --images images --masks gone", "There is no folder data/gone; --images and"),
    "both": ("check-data data --classes 3 --classes-file a.txt", "exclude each other"),
    "no file": ("check-data data --classes-file gone.txt", "There is no file of classes gone.txt"),
    "empty file": ("check-data data --classes-file empty.txt", "empty.txt is empty; expected a class a line"),
    "two forms": ("check-data data --classes-file forms.txt", "lines of several forms, such as 'crack'"),
    "a name twice": ("check-data data --classes ground,crack,ground", "2 classes have the name 'ground'"),
    "a name twice in a file": ("check-data data --classes-file twice.txt", "2 classes have the name 'ground'"),
    "a name twice in JSON": ("check-data data --classes-file twice.json", "2 classes have the name 'ground'"),
    "no JSON": ("check-data data --classes-file bad.json", "bad.json is no JSON"),
    "no classes": ("check-data data --classes ,", "classes is empty"),
    "ending": ("check-data data --sheet sheet.txt", "--sheet sheet.txt has the ending '.txt'; expected .png"),
    "sheet that is there": ("check-data data --sheet photo.png", "photo.png exists; choose another name"),
    "no list": ("check-data data --classes 2 --names gone.txt", "There is no list"),
    "pattern": ("check-data data --classes 2 --mask-pattern *_no", "has a name like '*_no'"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_one_line(run, case):
    lay()
    Path("empty").mkdir()
    Path("empty.txt").write_text("\n")
    Path("forms.txt").write_text("0 ground\ncrack")
    Path("twice.txt").write_text("0 ground\n1 ground")
    Path("twice.json").write_text('{"ground": 0, "ground": 1}')
    Path("bad.json").write_text("{")
    text, message = MISTAKES[case]
    code, _, err = run(text)
    assert (code, err.count("\n")) == (1, 1)
    assert err.startswith("segformer-edu: error: ")
    assert message in err


@pytest.mark.parametrize(("option", "message"), [("--void black", "'black' is no void"), ("--first x", "no number")])
def test_wrong_usage(capsys, option, message):
    with pytest.raises(SystemExit) as stop:
        main(["check-data", "data", *option.split()])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err
