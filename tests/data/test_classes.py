"""ADE20K's and Cityscapes' classes against what their own files say of them."""

from __future__ import annotations

import re

import pytest

from segformer_edu.data import ADE20K, CITYSCAPES, class_list

# From objectInfo150 of the MIT scene parsing benchmark, which counts from 1: number and first name.
BENCHMARK = {
    1: "wall", 2: "building", 3: "sky", 13: "person", 21: "car", 49: "skyscraper", 59: "screen door", 75: "computer",
    93: "apparel", 100: "buffet", 117: "minibike", 125: "microwave", 137: "traffic light",
    142: "crt screen", 150: "flag",
}  # fmt: skip
# From cityscapesscripts/helpers/labels.py: trainId, name, colour.
LABELS = {
    0: ("road", (128, 64, 128)), 1: ("sidewalk", (244, 35, 232)), 2: ("building", (70, 70, 70)),
    6: ("traffic light", (250, 170, 30)), 10: ("sky", (70, 130, 180)), 11: ("person", (220, 20, 60)),
    13: ("car", (0, 0, 142)), 18: ("bicycle", (119, 11, 32)),
}  # fmt: skip


def rgb(colour: str) -> tuple[int, ...]:
    return tuple(bytes.fromhex(colour.removeprefix("#")))


@pytest.mark.parametrize(("classes", "count"), [(ADE20K, 150), (CITYSCAPES, 19)])
def test_every_class_has_a_name_and_a_colour(classes, count):
    assert len(classes) == len(classes.names) == len(classes.colours) == len(set(classes.names)) == count
    assert all(re.fullmatch(r"[a-z]+( [a-z]+)*", name) for name in classes.names)
    assert all(re.fullmatch(r"#[0-9a-f]{6}", colour) for colour in classes.colours)


def test_ade20k_is_in_the_benchmarks_order():
    assert {number: ADE20K.names[number - 1] for number in BENCHMARK} == BENCHMARK


def test_ade20k_has_one_colour_twice():
    twice = [name for name, colour in zip(ADE20K.names, ADE20K.colours) if ADE20K.colours.count(colour) > 1]
    assert twice == ["road", "skyscraper"]
    assert (rgb(ADE20K.colours[0]), rgb(ADE20K.colours[149])) == ((120, 120, 120), (92, 0, 255))


def test_cityscapes_is_in_the_order_of_train_ids():
    assert {i: (CITYSCAPES.names[i], rgb(CITYSCAPES.colours[i])) for i in LABELS} == LABELS


def test_class_list_by_name_and_by_number():
    assert class_list("ADE20K") is class_list(150) is ADE20K
    assert class_list("cityscapes") is class_list(19) is CITYSCAPES
    numbered = class_list(30)
    assert (len(numbered), numbered.names[29], len(numbered.colours)) == (30, "class 29", 30)


def test_class_list_by_names():
    """Hugging Face's configurations write "bed " where others write "bed"."""
    written = tuple(f"{name.title().replace(' ', '_')} " for name in ADE20K.names)
    listed = class_list(written)
    assert (listed.data, listed.names, listed.colours) == ("ADE20K", written, ADE20K.colours)
    assert class_list([name.upper() for name in CITYSCAPES.names]).colours == CITYSCAPES.colours
    mixed = CITYSCAPES.names[1:] + CITYSCAPES.names[:1]  # the same names for other numbers
    for other in (mixed, tuple(f"part {number}" for number in range(19))):
        listed = class_list(other)
        assert (listed.data, listed.names) == ("19 classes", other)
        assert listed.colours == class_list(30).colours[:19]  # the spare ones, not Cityscapes'


@pytest.mark.parametrize(
    ("wanted", "error", "message"),
    [
        ("coco", ValueError, "no classes of 'coco'; expected ade20k, cityscapes, voc, camvid32, or their number"),
        (0, ValueError, "classes is 0; expected a positive whole number"),
        (2.5, TypeError, "classes is 2.5"),
        ([], ValueError, "classes is 0; expected a positive whole number"),
    ],
)
def test_class_list_that_is_none(wanted, error, message):
    with pytest.raises(error, match=message):
        class_list(wanted)
