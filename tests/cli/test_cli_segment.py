"""``segment``: what it writes, what it says, and that every mistake is one line and an exit code."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import published
import pytest
import torch
from PIL import Image
from samples import SMALL
from transformers import SegformerConfig, SegformerForSemanticSegmentation

import segformer_edu as se
from segformer_edu.data import CITYSCAPES, class_list
from segformer_edu.pages import plots


def test_segment_writes_a_drawing_and_the_numbers(run, tmp_path):
    code, out, err = run("segment photo.png --weights 19.pt --out drawn.png --map numbers.png")
    assert (code, err) == (0, "")
    expected = se.segment(se.load_pretrained("19.pt"), "photo.png")
    with Image.open("numbers.png") as numbers:
        assert np.array_equal(np.array(numbers), expected.numpy())
        number = expected[10, 20].item()
        assert numbers.convert("RGB").getpixel((20, 10)) == tuple(bytes.fromhex(CITYSCAPES.colours[number][1:]))
    with Image.open("drawn.png") as drawn:
        assert drawn.width > 800
        alt = drawn.text["Description"]
    name, share = re.match(r"photo.png, its class map laid over it: ([a-z ]+) (\d+) %", alt).groups()
    most = expected.flatten().bincount().max().item() / expected.numel()
    assert name == CITYSCAPES.names[expected.flatten().bincount().argmax()]
    assert int(share) == round(100 * most)
    assert "photo.png: 45×70 pixels (height, width), shown to the model in 45×70" in out
    assert f"Cityscapes: {name} {share} %" in out
    assert "written: drawn.png numbers.png" in out


def test_segment_reads_a_published_folder(run):
    code, out, err = run("segment photo.png --weights hub --out drawn.png --map numbers.png --size 64 96")
    assert (code, err) == (0, "")
    expected = se.segment(se.load_pretrained("hub"), "photo.png", size=(64, 96))
    assert np.array_equal(np.array(Image.open("numbers.png")), expected.numpy())
    assert "ADE20K: " in out


def test_segment_wants_a_decoder(run):
    published.classifier(published.SMALL).save_pretrained("classifier")
    code, _, err = run("segment photo.png --weights classifier --out drawn.png")
    assert code == 1
    assert "classifier classifies whole images; expected weights with a decoder, such as nvidia/" in err


@pytest.mark.parametrize("ending", [".jpg", ".webp", ".PNG"])
def test_segment_writes_other_formats(run, ending):
    assert run(f"segment photo.png --weights 5.pt --out drawn{ending}")[0] == 0
    with Image.open(f"drawn{ending}") as drawn:
        drawn.load()


@pytest.mark.parametrize(("size", "shown"), [("64", "41×64"), ("96 128", "96×128"), ("32", "32×32")])
def test_segment_shows_the_model_another_size(run, size, shown):
    code, out, _ = run(f"segment photo.png --weights 5.pt --out drawn.png --map map.png --size {size}")
    assert code == 0
    assert f"45×70 pixels (height, width), shown to the model in {shown}" in out
    assert Image.open("map.png").size == (70, 45)


def test_segment_names_the_classes(run):
    assert "5 classes: class " in run("segment photo.png --weights 5.pt --out a.png")[1]
    assert "5 classes: class " in run("segment photo.png --weights 5.pt --out b.png --classes 5")[1]
    assert "Cityscapes: " in run("segment photo.png --weights 19.pt --out c.png --classes cityscapes")[1]


def overlaid(monkeypatch):
    """Take down what is drawn with which names and colours."""
    drawn = []

    def overlay(*pictures, classes, colours, draw=plots.overlay):
        drawn.append((tuple(classes), tuple(colours)))
        return draw(*pictures, classes=classes, colours=colours)

    monkeypatch.setattr(plots, "overlay", overlay)
    return drawn


PARTS = tuple(f"part {number}" for number in range(19))  # of a face, say
SHOUTED = tuple(name.upper() for name in CITYSCAPES.names)


@pytest.mark.parametrize(
    ("told", "option", "data", "names", "colours"),
    [
        (PARTS, "", "19 classes", PARTS, class_list(PARTS).colours),
        (PARTS, " --classes cityscapes", "Cityscapes", CITYSCAPES.names, CITYSCAPES.colours),
        (SHOUTED, "", "Cityscapes", SHOUTED, CITYSCAPES.colours),
        (None, "", "Cityscapes", CITYSCAPES.names, CITYSCAPES.colours),  # LABEL_0, LABEL_1, …
    ],
)
def test_segment_says_the_weights_own_names(run, monkeypatch, capsys, told, option, data, names, colours):
    labels = {"num_labels": 19} if told is None else {"id2label": dict(enumerate(told))}
    torch.manual_seed(0)
    SegformerForSemanticSegmentation(SegformerConfig(**published.SMALL, **labels)).save_pretrained("face")
    capsys.readouterr()  # transformers' progress
    drawn = overlaid(monkeypatch)
    code, out, err = run(f"segment photo.png --weights face --out drawn.png --map map.png{option}")
    assert (code, err) == (0, "")
    assert drawn == [(names, colours)]
    numbers = Image.open("map.png")
    first = names[np.bincount(np.array(numbers).flatten()).argmax()]
    assert f"\n{data}: {first} " in out
    assert f": {first} " in Image.open("drawn.png").text["Description"]
    palette = bytes(numbers.getpalette()[: 3 * 19])
    assert palette == b"".join(bytes.fromhex(colour[1:]) for colour in colours)


def test_segment_calls_classes_by_number_where_names_do_not_fit(run, capsys):
    theirs = published.segmenter(published.SMALL, 19)
    theirs.config.id2label = dict(enumerate(PARTS[:-1]))
    theirs.save_pretrained("face")
    capsys.readouterr()  # transformers' progress
    code, out, err = run("segment photo.png --weights face --out drawn.png")
    assert (code, err.count("\n")) == (0, 1)
    assert err.startswith("segformer-edu: note: face: id2label in config.json has no name for 18; expected names for 0")
    assert "\n19 classes: class " in out


def test_segment_never_replaces_a_file_unasked(run):
    Path("drawn.png").write_text("mine")
    for options in ("--out drawn.png", "--out other.png --map drawn.png"):
        code, _, err = run(f"segment photo.png --weights 5.pt {options}")
        assert (code, err.count("\n")) == (1, 1)
        assert "drawn.png exists; choose another name, or replace it with --overwrite." in err
        assert Path("drawn.png").read_text() == "mine"
    assert not Path("other.png").exists()
    assert run("segment photo.png --weights 5.pt --out drawn.png --overwrite")[0] == 0
    assert Path("drawn.png").read_bytes()[1:4] == b"PNG"


MISTAKES = {
    "no photo": ("segment none.png --weights 5.pt --out a.png", "There is no picture none.png"),
    "no picture": ("segment 5.pt --weights 5.pt --out a.png", "5.pt cannot be read as a picture"),
    "no weights": ("segment photo.png --weights none.pt --out a.png", "none.pt"),
    "no model": ("segment photo.png --weights photo.png --out a.png", "photo.png cannot be read as weights"),
    "wrong address": ("segment ftp://a/b.png --weights 5.pt --out a.png", "expected a path, or an address with http"),
    "other classes": (
        "segment photo.png --weights 5.pt --out a.png --classes ade20k",
        "--classes is 150 (ADE20K), but",
    ),
    "fewer classes": ("segment photo.png --weights 5.pt --out a.png --classes 4", "or give --classes 5"),
    "ending": ("segment photo.png --weights 5.pt --out a.txt", "ending '.txt'; expected .png, .jpg"),
    "ending of the map": ("segment photo.png --weights 5.pt --out a.png --map b.jpg", "expected .png, which keeps"),
    "one file for both": ("segment photo.png --weights 5.pt --out a.png --map ./a.png", "expected two files"),
    "no folder": ("segment photo.png --weights 5.pt --out no/a.png", "no is no folder"),
    "three sizes": (
        "segment photo.png --weights 5.pt --out a.png --size 64 64 64",
        "--size has 3 numbers; expected one, or",
    ),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_one_line_and_leaves_nothing(run, case, tmp_path):
    text, message = MISTAKES[case]
    before = sorted(tmp_path.rglob("*"))
    code, out, err = run(text)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert err.startswith("segformer-edu: error: ")
    assert message in err
    assert sorted(tmp_path.rglob("*")) == before


def test_warnings_are_notes(run, monkeypatch):
    def load(source, **options):
        import warnings

        warnings.warn(f"{source} has\n two lines", stacklevel=2)
        return se.Segformer(**SMALL, decoder_dim=16)

    monkeypatch.setattr("segformer_edu.cli.segment.load_pretrained", load)
    code, _, err = run("segment photo.png --weights nvidia/anything --out a.png")
    assert code == 0
    licence, note = err.splitlines()
    assert "not commercially" in licence
    assert note == "segformer-edu: note: nvidia/anything has two lines"


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")])
def test_too_little_memory(run, monkeypatch, error):
    def segment(*arguments, **options):
        raise error

    monkeypatch.setattr("segformer_edu.cli.segment.segment", segment)
    code, _, err = run("segment photo.png --weights 5.pt --out a.png")
    assert (code, err) == (1, "segformer-edu: error: not enough memory; a smaller --size needs less.\n")


def test_mistake_of_the_programs_own_is_not_hidden(run, monkeypatch):
    def segment(*arguments, **options):
        raise RuntimeError("shapes")

    monkeypatch.setattr("segformer_edu.cli.segment.segment", segment)
    with pytest.raises(RuntimeError, match="shapes"):
        run("segment photo.png --weights 5.pt --out a.png")
