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
from servers import serving
from transformers import SegformerConfig, SegformerForSemanticSegmentation

import segformer_edu as se
from segformer_edu.data import CITYSCAPES, class_list
from segformer_edu.data.formats import is_picture
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
    "one file for two": (
        "segment photo.png 5.pt --weights 5.pt --out a.png",
        "--out a.png is one file for 2 photographs; expected a folder, a say",
    ),
    "folder and file": ("segment photo.png --weights 5.pt --out a --map b.png", "is a folder, --map b.png a file"),
    "one folder for both": ("segment photo.png --weights 5.pt --out a --map ./a", "expected two folders"),
    "a file as a folder": ("segment photo.png --weights 5.pt --out 5.pt/a", "5.pt is no folder"),
    "nothing so called": ("segment *.jpg --weights 5.pt --out a.png", "No file is called like *.jpg; check"),
    "size and window": (
        "segment photo.png --weights 5.pt --out a.png --size 64 --window 64",
        "--size and --window exclude each other",
    ),
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


def photographs(*names):
    """Write photographs, each another one."""
    for number, name in enumerate(names):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        array = np.random.default_rng(number).integers(0, 256, (40 + number, 48, 3), dtype=np.uint8)
        Image.fromarray(array).save(name)
    return names


def assert_maps(folder, photos):
    """Each photograph has its own map."""
    model = se.load_pretrained("5.pt")
    for name, photo in photos.items():
        assert np.array_equal(np.array(Image.open(Path(folder) / name)), se.segment(model, photo).numpy()), photo


def test_several_photographs_a_folder_and_a_pattern(run, monkeypatch):
    photographs("one.png", "album/b.png", "album/a.JPG", "album/.hidden.png", "album/within/c.png", "more/d.tif")
    Path("album/notes.txt").write_text("no picture")
    loaded = []

    def load(source, **options):
        loaded.append(source)
        return se.load_pretrained(source, **options)

    monkeypatch.setattr("segformer_edu.cli.segment.load_pretrained", load)
    code, out, err = run("segment one.png album more/*.tif one.png --weights 5.pt --out drawn --map numbers/new/")
    assert code == 0
    assert loaded == ["5.pt"]
    photos = {"one.png": "one.png", "a.png": "album/a.JPG", "b.png": "album/b.png", "d.png": "more/d.tif"}
    assert sorted(path.name for path in Path("drawn").iterdir()) == sorted(photos)
    assert_maps("numbers/new", photos)
    lines = out.splitlines()
    assert [line.split(":")[0] for line in lines[:-1]] == ["one.png", "album/a.JPG", "album/b.png", "more/d.tif"]
    assert "40×48 pixels" in lines[0]
    assert "; 5 classes: class " in lines[0]
    assert lines[0].endswith("; written: drawn/one.png numbers/new/one.png")
    assert lines[-1] == "4 of 4 photographs are done, in drawn"
    assert "100%" in err
    assert "error" not in err


def test_a_folder_is_taken_whole_and_what_is_not_is_told(run):
    endings = ["jpg", "JFIF", "tga", "jp2", "bmp", *(["avif"] if is_picture("a.avif") else [])]
    photos = photographs(*(f"album/{ending}.{ending}" for ending in endings))
    for name in ("x.heic", "y.dng", "z", "notes.txt", "scores.npy", ".hidden.heic"):
        (Path("album") / name).write_bytes(b"x")
    Path("album/within.png").mkdir()
    Path("album/gone.png").symlink_to("nowhere.png")
    code, out, err = run("segment album --weights 5.pt --out drawn --map maps")
    assert code == 0
    assert_maps("maps", {f"{Path(photo).stem}.png": photo for photo in photos})
    assert f"{len(photos)} of {len(photos)} photographs are done" in out
    (note,) = [line for line in err.splitlines() if "Left out" in line]
    assert note.startswith("segformer-edu: note: album: Left out: in a format that is not read: 2 (x.heic, y.dng); ")
    for part in (
        "(scores.npy)",
        "of no known kind: 1 (z)",
        "links to nothing: 1 (gone.png)",
        "As to x.heic, it is HEIC",
    ):
        assert part in note
    assert "notes.txt" not in note
    assert "hidden" not in err


@pytest.mark.parametrize("name", ["a.heic", "a.dng", "a.pdf"])
def test_a_folder_of_what_is_not_read(run, name):
    Path("album").mkdir()
    (Path("album") / name).write_bytes(b"x")
    code, _, err = run("segment album --weights 5.pt --out drawn")
    assert code == 1
    assert "album holds no picture; expected files ending in .png" in err
    assert f"Left out: in a format that is not read: 1 ({name}). As to {name}, it is " in err


def test_one_photograph_into_a_folder(run):
    code, out, err = run("segment photo.png --weights 5.pt --out drawn")
    assert (code, err) == (0, "")
    assert "written: drawn/photo.png\n" in out
    assert [path.name for path in Path("drawn").iterdir()] == ["photo.png"]


def test_broken_photographs_do_not_stop_the_others(run):
    photographs("a.png", "b.png", "c.png")
    Path("b.png").write_bytes(Path("b.png").read_bytes()[:90])
    Path("empty").mkdir()
    code, out, err = run("segment a.png b.png gone.png empty no*.png c.png --weights 5.pt --out drawn --map maps")
    assert code == 1
    assert_maps("maps", {"a.png": "a.png", "c.png": "c.png"})
    assert len(list(Path("drawn").iterdir())) == 2
    assert "2 of 6 photographs are done, in drawn" in out
    summary = err[err.index("segformer-edu: error: ") :].splitlines()
    assert summary[0] == "segformer-edu: error: 4 of 6 photographs failed:"
    assert [line.strip()[:42] for line in summary[1:]] == [
        "There is no picture gone.png; check the na",
        "empty holds no picture; expected files end",
        "No file is called like no*.png; check the ",
        "b.png cannot be read as a picture (image f",
    ]


def test_nothing_is_loaded_where_there_is_nothing_to_do(run, monkeypatch):
    monkeypatch.setattr("segformer_edu.cli.segment.load_pretrained", None)
    code, out, err = run("segment gone.png no*.png --weights 5.pt --out drawn")
    assert (code, out) == (1, "")
    assert "2 of 2 photographs failed:" in err
    assert not Path("drawn").exists()


@pytest.mark.parametrize(
    ("photos", "names"),
    [
        (("a/x.png", "b/x.png", "b/y.png"), ("a-x.png", "b-x.png", "b-y.png")),
        (("x.png", "x.bmp"), ("1-x.png", "2-x.png")),
        (("X.png", "x.bmp"), ("1-X.png", "2-x.png")),
        (("a/a/x.png", "b/a/x.png"), ("1-x.png", "2-x.png")),
    ],
)
def test_photographs_of_one_name_get_their_own_files(run, photos, names):
    photographs(*photos)
    assert run(f"segment {' '.join(photos)} --weights 5.pt --out drawn --map maps")[0] == 0
    assert sorted(path.name for path in Path("maps").iterdir()) == sorted(names)
    assert_maps("maps", dict(zip(names, photos)))


def test_addresses_among_several(run):
    photographs("a/p.png", "b/p.png")
    with serving() as server:
        server.files |= {"/x/leaf%20green.png": Path("a/p.png").read_bytes(), "/show": Path("b/p.png").read_bytes()}
        urls = f"{server.url}/x/leaf%20green.png {server.url}/show?id=3"
        assert run(f"segment {urls} --weights 5.pt --out drawn --map maps")[0] == 0
    assert_maps("maps", {"leaf green.png": "a/p.png", "show.png": "b/p.png"})


def test_a_file_whose_name_looks_like_a_pattern(run):
    photographs("a[1].png", "a1.png")
    assert run("segment a[1].png --weights 5.pt --out drawn.png --map map.png")[0] == 0
    assert_maps(".", {"map.png": "a[1].png"})


def test_existing_files_are_found_before_anything_takes_time(run, monkeypatch):
    photographs("a.png", "b.png", "c.png")
    assert run("segment b.png --weights 5.pt --out drawn --map maps")[0] == 0
    before = Path("maps/b.png").read_bytes()
    Path("maps/b.png").write_bytes(b"mine")
    with monkeypatch.context() as patched:
        patched.setattr("segformer_edu.cli.segment.load_pretrained", None)
        code, out, err = run("segment a.png b.png c.png --weights 5.pt --out drawn --map maps")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "drawn/b.png and 1 more exist; choose another folder, or --overwrite them." in err
    assert [path.name for path in Path("drawn").iterdir()] == ["b.png"]
    assert run("segment a.png b.png c.png --weights 5.pt --out drawn --map maps --overwrite")[0] == 0
    assert Path("maps/b.png").read_bytes() == before


def test_a_photograph_is_never_replaced(run):
    photographs("album/a.png", "album/b.png")
    before = Path("album/a.png").read_bytes()
    for text in (
        "album --out album",
        "album/a.png album/b.png --out drawn --map ./album",
        "album/a.png --out album/a.png",
    ):
        code, out, err = run(f"segment {text} --weights 5.pt --overwrite")
        assert (code, out) == (1, "")
        assert "a.png is one of the photographs, and never replaced; choose another" in err
    assert Path("album/a.png").read_bytes() == before


def test_ctrl_c_keeps_what_was_written(run, monkeypatch):
    photographs("a.png", "b.png", "c.png")
    seen = []

    def segment(*arguments, **options):
        seen.append(arguments)
        if len(seen) == 2:
            raise KeyboardInterrupt
        return se.segment(*arguments, **options)

    monkeypatch.setattr("segformer_edu.cli.segment.segment", segment)
    code, _, err = run("segment a.png b.png c.png --weights 5.pt --out drawn")
    assert code == 130
    assert "stopped after 1 of 3 photographs; what was written stays." in err
    assert [path.name for path in Path("drawn").iterdir()] == ["a.png"]


def test_a_drawing_is_written_whole_or_not_at_all(run, monkeypatch):
    def replace(*paths):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("segformer_edu.cli.command.os.replace", replace)
    Path("drawn.png").write_bytes(b"mine")
    code, _, err = run("segment photo.png --weights 5.pt --out drawn.png --overwrite")
    assert (code, "No space left" in err) == (1, True)
    assert Path("drawn.png").read_bytes() == b"mine"
    assert not list(Path().glob("*.part"))


@pytest.mark.parametrize("text", ["cpu", "cpu:0"])
def test_device(run, text):
    assert run(f"segment photo.png --weights 5.pt --out drawn.png --device {text}")[0] == 0


@pytest.mark.skipif(torch.cuda.device_count() > 7, reason="this machine has eight GPUs")
@pytest.mark.parametrize("text", ["cuda:7", "mps:3"])
def test_a_device_that_is_not_here(run, text):
    code, _, err = run(f"segment photo.png --weights 5.pt --out drawn.png --device {text}")
    assert (code, err.count("\n")) == (1, 1)
    assert f"--device {text} is not here (" in err
    assert "expected one of cpu" in err


def test_revision(run, monkeypatch):
    asked = []

    def load(source, revision):
        asked.append((source, revision))
        return se.load_pretrained("5.pt")

    with monkeypatch.context() as patched:
        patched.setattr("segformer_edu.cli.segment.load_pretrained", load)
        assert run("segment photo.png --weights some/model --out drawn.png --revision v1.0")[0] == 0
    assert asked == [("some/model", "v1.0")]
    code, _, err = run("segment photo.png --weights 5.pt --out other.png --revision v1.0")
    assert code == 1
    assert "Leave revision out." in err


@pytest.mark.parametrize(
    ("names", "option", "shown"),
    [
        (None, "", "background, class 1"),
        (("crack",), "", "background, crack"),
        (("crack",), " --classes 1", "background, crack"),
        (None, " --classes 2", "class 0, class 1"),
    ],
)
def test_one_logit_tells_a_class_from_the_background(run, monkeypatch, names, option, shown):
    torch.manual_seed(0)
    model = se.Segformer(**SMALL, decoder_dim=16, num_classes=1, class_names=names).eval()
    torch.save(model.state_dict(), "one.pt")
    drawn = overlaid(monkeypatch)
    code, _, err = run(f"segment photo.png --weights one.pt --out drawn.png --map map.png{option}")
    assert (code, err) == (0, "")
    assert ", ".join(drawn[0][0]) == shown
    expected = se.segment(model, "photo.png")
    assert set(expected.unique().tolist()) <= {0, 1}
    assert np.array_equal(np.array(Image.open("map.png")), expected)


def test_one_logit_and_other_classes(run):
    torch.save(se.Segformer(**SMALL, decoder_dim=16, num_classes=1).state_dict(), "one.pt")
    code, _, err = run("segment photo.png --weights one.pt --out drawn.png --classes 3")
    assert (code, "--classes is 3 (3 classes), but one.pt has 1; leave" in err) == (1, True)


@pytest.mark.parametrize("channels", [1, 4])
def test_other_channels(run, channels):
    torch.save(se.Segformer(**SMALL, decoder_dim=16, channels=channels).state_dict(), "other.pt")
    Image.effect_noise((60, 50), 90).convert("RGBA").save("rgba.png")
    assert run("segment rgba.png --weights other.pt --out drawn.png --map map.png")[0] == 0
    assert np.array_equal(np.array(Image.open("map.png")), se.segment(se.load_pretrained("other.pt"), "rgba.png"))


def test_windows(run):
    code, out, err = run("segment photo.png --weights 5.pt --out drawn.png --map map.png --window 32")
    assert (code, err) == (0, "")
    assert "shown to the model in windows of 32×32" in out
    expected = se.segment(se.load_pretrained("5.pt"), "photo.png", window=32)
    assert np.array_equal(np.array(Image.open("map.png")), expected)


def test_notes_say_of_which_photograph_and_each_once(run):
    torch.save(se.Segformer(**SMALL, decoder_dim=16, channels=1).state_dict(), "grey.pt")
    photographs("a.png", "b.png")
    for name, brightest in (("dark.png", 700), ("darker.png", 300)):
        values = np.linspace(0, brightest, 48 * 40).reshape(40, 48).astype(np.uint16)
        Image.fromarray(values).save(name)
    code, _, err = run("segment a.png b.png dark.png darker.png --weights grey.pt --out drawn")
    notes = [line for line in re.split(r"[\r\n]+", err) if "note: " in line and "assumed" not in line]
    assert code == 0
    assert len(notes) == 3
    assert "note: a.png: Nobody said what mean and standard deviation" in notes[0]
    assert "note: dark.png: " in notes[1]
    assert "note: darker.png: " in notes[2]
