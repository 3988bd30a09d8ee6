"""An examination counts what is there, names every item that would stop a training, and notices what is odd."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import ConcatDataset, Subset

from segformer_edu import segformer_b0
from segformer_edu.data import Folder, PairedPictures, Shapes, examine
from segformer_edu.data.report import percent
from segformer_edu.training import Recipe, fit

TINY = {"dims": (8, 16, 24, 32), "heads": (1, 2, 3, 4), "num_layers": (1, 1, 1, 1), "decoder_dim": 16}


def save(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(values, dtype=np.uint8)).save(path)


def picture(number, height=64, width=80):
    return np.random.default_rng(number).integers(0, 256, (height, width, 3))


@pytest.fixture
def folder(tmp_path):
    """Three pairs of 64×80: classes 0 and 1, in the last one also void."""
    for number, name in enumerate("abc"):
        save(tmp_path / "images" / f"{name}.png", picture(number))
        mask = np.zeros((64, 80))
        mask[:16] = 1
        mask[63:] = 255 if name == "c" else 0
        save(tmp_path / "masks" / f"{name}.png", mask)
    return tmp_path


def of(folder, classes=("ground", "crack"), **options):
    return Folder(folder / "images", folder / "masks", classes, **options)


def test_counts(folder):
    report = examine(of(folder))
    assert (report.pairs, dict(report.sizes), report.classes) == (3, {(64, 80): 3}, ("ground", "crack"))
    assert report.pixels == (2 * 48 * 80 + 47 * 80, 3 * 16 * 80)
    assert (report.pictures, report.void) == ((3, 3), 80)
    assert report.sound
    assert report.odd == []
    assert report.found == {0: {0, 1}, 1: {0, 1}, 2: {0, 1}}
    total = 3 * 64 * 80 - 80
    assert str(report).splitlines() == [
        "3 pairs of a picture and a class map can be read",
        "sizes (height × width): 64×80 (3)",
        "2 classes, with shares of the pixels that have one, and in how many pictures:",
        f"    0  ground       {100 * report.pixels[0] / total:.0f} %       3",
        f"    1  crack        {100 * report.pixels[1] / total:.0f} %       3",
        "no class (void): 0.52 % of all pixels",
        "Nothing found that would stop a training.",
    ]


def test_every_broken_item_is_named_with_its_reason(folder):
    save(folder / "masks" / "a.png", np.full((64, 80), 7))
    save(folder / "images" / "d.png", picture(4))
    save(folder / "masks" / "d.png", np.full((64, 80), 7))
    (folder / "images" / "b.png").write_bytes(b"\x89PNG no more")
    save(folder / "images" / "e.png", picture(5))
    save(folder / "masks" / "e.png", np.zeros((32, 40)))
    save(folder / "images" / "f.png", picture(6, 20, 31))
    save(folder / "masks" / "f.png", np.zeros((20, 31)))
    report = examine(of(folder))
    assert report.pairs == 1
    assert not report.sound
    named = {tuple(names): reason for reason, names in report.broken.items()}
    assert "holds [7]; expected 0 to 1" in named["masks/a.png", "masks/d.png"]
    assert "cannot be read as a picture" in named["images/b.png",]
    assert "(64, 80)" in named["images/e.png",]
    assert "(32, 40)" in named["images/e.png",]
    assert "20×31 pixels; a model takes 32×32 at least" in named["images/f.png",]
    assert len(named) == 4
    text = str(report)
    assert "  2 × … holds [7]; expected 0 to 1" in text
    assert ".\n      masks/a.png, masks/d.png\n" in text
    assert text.endswith("Not ready to train on.")


def test_all_names_of_many_broken_ones(folder):
    for number in range(30):
        save(folder / "images" / f"n{number}.png", picture(number))
        save(folder / "masks" / f"n{number}.png", np.full((64, 80), 9))
    text = str(examine(of(folder)))
    assert all(f"masks/n{number}.png" in text for number in range(30))


def odd(folder, classes=("ground", "crack"), **options):
    report = examine(of(folder, classes, **options))
    assert report.sound
    return "\n".join(report.odd)


def test_classes_that_never_occur(folder):
    assert odd(folder, ("ground", "crack", "tree", "sky")) == "2 of 4 classes never occur: tree, sky"


def test_one_class_nearly_everywhere(folder):
    for name in "abc":
        mask = np.zeros((64, 80))
        mask[0, :40] = 1
        save(folder / "masks" / f"{name}.png", mask)
    assert "class 'ground' has 99.22 % of the pixels: a model that answers it everywhere is right as often" in odd(
        folder
    )


def test_void_nearly_everywhere(folder):
    for name in "ab":
        save(folder / "masks" / f"{name}.png", np.full((64, 80), 255))
    said = odd(folder)
    assert "67 % of the pixels have no class: is that number meant to be void?" in said
    assert "2 class maps hold no class at all: masks/a.png, masks/b.png" in said


def test_no_pixel_has_a_class(folder):
    for name in "abc":
        save(folder / "masks" / f"{name}.png", np.full((64, 80), 255))
    report = examine(of(folder))
    assert report.pixels == (0, 0)
    assert any("100 % of the pixels have no class" in text for text in report.odd)


def test_maps_of_0_and_255(folder):
    for name in "abc":
        mask = np.zeros((64, 80))
        mask[:20] = 255
        save(folder / "masks" / f"{name}.png", mask)
    said = odd(folder)
    assert "3 × … holds only 0 and 255" in said
    assert "(masks/a.png, masks/b.png, masks/c.png)" in said


def test_sizes_that_differ_and_small_ones(folder):
    save(folder / "images" / "d.png", picture(4, 40, 90))
    save(folder / "masks" / "d.png", np.ones((40, 90)))
    said = odd(folder)
    assert "pictures of 2 sizes, from 40×90 to 64×80, and a batch takes one: give size=(height, width), resize" in said
    assert "1 pictures have a side below 64 pixels" in said
    assert "sizes" not in odd(folder, size=(64, 64))


def test_pictures_that_are_there_twice(folder):
    save(folder / "images" / "d.png", picture(0))
    save(folder / "masks" / "d.png", np.ones((64, 80)))
    save(folder / "images" / "e.bmp", picture(1))
    (folder / "masks" / "e.png").write_bytes((folder / "masks" / "b.png").read_bytes())
    said = odd(folder)
    assert "2 pictures are the same, with different class maps: images/a.png, images/d.png" in said
    assert "2 pictures are the same: images/b.png, images/e.bmp" in said


def test_what_is_left_out(folder):
    (folder / "images" / "notes.xyz").write_text("")
    save(folder / "masks" / "z.png", np.zeros((4, 4)))
    with pytest.warns(UserWarning, match="Left out"):
        data = of(folder)
    text = str(examine(data))
    assert "left out:" in text
    assert "1 of no known kind: images/notes.xyz" in text
    assert "1 class maps without a picture: masks/z.png" in text


def test_other_data_sets():
    report = examine(Shapes(4, size=64))
    assert (report.pairs, report.sound) == (4, True)
    assert sum(report.pixels) + report.void == 4 * 64 * 64
    pairs = [(torch.rand(3, 40, 40), torch.full((40, 40), label)) for label in (0, 2, -1, 2)]
    report = examine([*pairs, (torch.rand(3, 40, 40), torch.zeros(20, 40, dtype=torch.long)), 5])
    assert report.classes == ("class 0", "class 1", "class 2")
    assert report.pixels == (1600, 0, 3200)
    reasons = {reason: list(names) for reason, names in report.broken.items()}
    assert reasons.pop("the class map holds [-1]; expected 0 to 254, or 255 for no class") == ["item 2"]
    (other, wrong), (reason, names) = reasons.items()
    assert other.startswith("An image has (40, 40) pixels (height, width), its class map (20, 40); expected the same")
    assert reason.startswith("An item is a int; expected a pair")
    assert (wrong, names) == (["item 4"], ["item 5"])


IMAGE = torch.rand(3, 40, 48, generator=torch.Generator().manual_seed(0))
MASK = torch.randint(0, 4, (40, 48), generator=torch.Generator().manual_seed(0))
ROWS = IMAGE.mul(255).byte().permute(1, 2, 0).numpy()


@pytest.mark.parametrize(
    ("items", "sound"),
    [
        ([(IMAGE * torch.nan, MASK)], False), ([(IMAGE * 2 - 1, MASK)], False), ([(IMAGE * 255, MASK)], False),
        ([(IMAGE, MASK / 4)], False), ([((IMAGE * 1000).short(), MASK)], False),
        ([(IMAGE, MASK), (IMAGE[:1], MASK)], False), ([(IMAGE, MASK[:, :40])], False),
        ([{"image": IMAGE, "mask": MASK}], True), ([(ROWS, MASK.numpy())], True), ([(IMAGE, MASK[None])], True),
        ([(Image.fromarray(ROWS), Image.fromarray(MASK.byte().numpy()))], True), ([(IMAGE, MASK, "a name")], True),
        ([(IMAGE.bfloat16(), MASK)], True), ([(IMAGE, MASK.byte())], True),
    ],
)  # fmt: skip
def test_it_says_what_fit_does(items, sound):
    data = items * 2
    try:
        fit(segformer_b0(4, **TINY), data, Recipe(steps=1, batch_size=len(data)), progress=False, device="cpu")
        takes = True
    except (TypeError, ValueError):
        takes = False
    report = examine(data)
    assert takes == report.sound == sound
    if sound:
        assert report.pixels == tuple(2 * torch.bincount(MASK.flatten()).numpy())


class Voided:
    classes = ("void", "a", "b", "c")

    def __init__(self, void):
        self.ignore_index = void

    def __len__(self):
        return 3

    def __getitem__(self, index):
        return IMAGE, MASK


@pytest.mark.parametrize("void", [0, 3, None])
@pytest.mark.parametrize("part", [lambda own: Subset(own, [0, 2]), lambda own: ConcatDataset([own, own])])
def test_parts_of_data_sets_keep_void_and_names(part, void):
    data = part(Voided(void))
    report = examine(data)
    assert report.classes == Voided.classes
    assert report.void == (0 if void is None else len(data) * int(MASK.eq(void).sum()))
    assert report.sound


def test_classes_beyond_255_without_names():
    class Wide(Voided):
        classes = None

        def __getitem__(self, index):
            return IMAGE, MASK * 90 + 20

    assert examine(Wide(-100)).sound
    assert not examine(Wide(255)).sound


def test_more_than_255_classes(tmp_path):
    values = np.arange(64 * 80).reshape(64, 80) % 300
    values[0, 0] = 65535
    save(tmp_path / "images" / "a.png", picture(0))
    (tmp_path / "masks").mkdir()
    Image.fromarray(values.astype(np.uint16)).save(tmp_path / "masks" / "a.png")
    report = examine(of(tmp_path, 300, void=65535))
    assert report.void == 1
    assert sum(report.pixels) == 64 * 80 - 1
    assert report.pictures == (1,) * 300


def test_numbers_that_are_no_classes_take_no_memory():
    mask = torch.zeros(40, 40, dtype=torch.long)
    mask[0, 0] = 1 << 40
    report = examine([(torch.rand(3, 40, 40), mask)])
    assert list(report.broken) == [f"the class map holds [{1 << 40}]; expected 0 to 254, or 255 for no class"]


def test_no_pairs():
    report = examine(PairedPictures([], ["a"]))
    assert not report.sound
    assert str(report).splitlines() == ["0 pairs of a picture and a class map can be read", "Not ready to train on."]


def test_examples_show_all_classes_they_can(folder):
    for number in range(40):
        save(folder / "images" / f"n{number:02}.png", picture(10 + number))
        save(folder / "masks" / f"n{number:02}.png", np.full((64, 80), 2 if number == 33 else 0))
    report = examine(of(folder, ("ground", "crack", "rare")))
    rare = next(index for index, labels in report.found.items() if 2 in labels)
    assert report.examples(1) == [rare]
    many = report.examples(12)
    assert len(many) == len(set(many)) == 12
    assert {label for index in many for label in report.found[index]} == {0, 1, 2}
    assert max(many) - min(many) > 30
    assert len(report.examples(100)) == 43


def test_a_bar_where_it_is_wanted(folder, capsys):
    examine(of(folder))
    assert capsys.readouterr().err == ""
    examine(of(folder), progress=True)
    assert "0/3" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [(0, 5, "0 %"), (0, 0, "0 %"), (5, 5, "100 %"), (1, 3, "33 %"), (1, 90, "1.11 %"), (1, 10**6, "<0.01 %"),
     (99_995, 100_000, "100.00 %"), (9_990, 10_000, "99.90 %")],
)  # fmt: skip
def test_percent(part, whole, text):
    assert percent(part, whole) == text
