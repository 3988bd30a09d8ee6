"""What numbers and colours in class maps mean: every form in which a user may say it, and every way to be wrong."""

from __future__ import annotations

import numpy as np
import pytest

from segformer_edu.data import ADE20K, CITYSCAPES, VOC
from segformer_edu.data.labels import VOID, WIDE_VOID, Labels

BLACK, RED, LIME, WHITE = (0, 0, 0), (255, 0, 0), (0, 255, 0), (255, 255, 255)
NAMES = ["wall", "tree", "sky"]


def numbers(labels: Labels) -> dict[int, int]:
    """The numbers in files that stand for classes."""
    return {number: label for number, label in labels.numbers.items() if label != labels.void}


def colours(labels: Labels) -> dict[tuple[int, int, int], int]:
    return {colour: label for colour, label in labels.painted.items() if label != labels.void}


@pytest.mark.parametrize(
    ("classes", "names", "expected"),
    [
        (["crack"], ("crack",), {0: 0}),
        (3, ("class 0", "class 1", "class 2"), {0: 0, 1: 1, 2: 2}),
        (np.int64(2), ("class 0", "class 1"), {0: 0, 1: 1}),
        ((name for name in NAMES), tuple(NAMES), {0: 0, 1: 1, 2: 2}),
        (np.array(NAMES), tuple(NAMES), {0: 0, 1: 1, 2: 2}),
        ({"wall": 9, "tree": 9}.keys(), ("wall", "tree"), {0: 0, 1: 1}),
        ({0: "wall", 1: "tree"}.values(), ("wall", "tree"), {0: 0, 1: 1}),
        ({0: "wall", 1: "tree"}, ("wall", "tree"), {0: 0, 1: 1}),
        ({"10": "tree", "2": "wall"}, ("wall", "tree"), {2: 0, 10: 1}),
        ({33: "tree", 7: "wall"}, ("wall", "tree"), {7: 0, 33: 1}),
        ({np.uint8(4): "a", 1.0: "b"}, ("b", "a"), {1: 0, 4: 1}),
        ({False: "background", True: "crack"}, ("background", "crack"), {0: 0, 1: 1}),
        ({7: "road", 26: "vehicle", 27: "vehicle"}, ("road", "vehicle"), {7: 0, 26: 1, 27: 1}),
        ({"wall": 0, "tree": 1}, ("wall", "tree"), {0: 0, 1: 1}),
        ({"wall": "0", "tree": "1"}, ("wall", "tree"), {0: 0, 1: 1}),
        ({"0": "7", "1": "8"}, ("7", "8"), {0: 0, 1: 1}),  # names that are numbers
        ({"road": [7], "vehicle": [26, 27, 28]}, ("road", "vehicle"), {7: 0, 26: 1, 27: 1, 28: 1}),
        ({"low": range(3), "high": range(3, 5)}, ("low", "high"), {0: 0, 1: 0, 2: 0, 3: 1, 4: 1}),
        ({"facade": 1, "decade": 2}, ("facade", "decade"), {1: 0, 2: 1}),  # digits of colours, all of them
        ({0: "background", 255: "crack"}, ("background", "crack"), {0: 0, 255: 1}),
        ({-1: "edge", 0: "wall"}, ("edge", "wall"), {-1: 0, 0: 1}),
    ],
)
def test_classes_by_name_and_number(classes, names, expected):
    labels = Labels.of(classes)
    assert (labels.names, numbers(labels)) == (names, expected)
    assert {type(name) for name in labels.names} == {str}
    assert len(labels.colours) == len(names)


@pytest.mark.parametrize(
    ("classes", "names", "expected"),
    [
        ({"bg": BLACK, "a": RED}, ("bg", "a"), {BLACK: 0, RED: 1}),
        ({"bg": [0, 0, 0], "a": np.array(RED)}, ("bg", "a"), {BLACK: 0, RED: 1}),
        ({"bg": "#000000", "a": "ff0000"}, ("bg", "a"), {BLACK: 0, RED: 1}),
        ({"facade": "#ff0000"}, ("facade",), {RED: 0}),
        ({"a": [RED, "#00ff00"], "bg": BLACK}, ("a", "bg"), {RED: 0, LIME: 0, BLACK: 1}),
        ({"a": (RED, LIME), "bg": BLACK}, ("a", "bg"), {RED: 0, LIME: 0, BLACK: 1}),
        ({"a": np.array([RED, LIME]), "bg": BLACK}, ("a", "bg"), {RED: 0, LIME: 0, BLACK: 1}),
        ({RED: "a", BLACK: "bg", LIME: "a"}, ("a", "bg"), {RED: 0, BLACK: 1, LIME: 0}),
        ({"#ff0000": "a", "#000000": "bg"}, ("a", "bg"), {RED: 0, BLACK: 1}),
        ({"ff0000": "a", "000000": "bg"}, ("a", "bg"), {RED: 0, BLACK: 1}),
    ],
)
def test_classes_by_colour(classes, names, expected):
    labels = Labels.of(classes)
    assert (labels.names, colours(labels)) == (names, expected)
    assert labels.by_colour
    assert [tuple(bytes.fromhex(colour[1:])) for colour in labels.colours] == [
        next(colour for colour, label in expected.items() if label == number) for number in range(len(names))
    ]


@pytest.mark.parametrize(("name", "listed"), [("ade20k", ADE20K), ("Cityscapes", CITYSCAPES), ("voc", VOC), (VOC, VOC)])
def test_classes_of_a_known_data_set(name, listed):
    labels = Labels.of(name)
    assert (labels.names, labels.colours) == (listed.names, listed.colours)
    assert numbers(labels) == {number: number for number in range(len(listed))}
    assert labels.painted[tuple(bytes.fromhex(listed.void[1:]))] == VOID


@pytest.mark.parametrize(
    ("classes", "error", "message"),
    [
        ("crack", ValueError, r"is the word 'crack'; expected names such as .*'ade20k', 'cityscapes', 'voc', 'camv"),
        ("", ValueError, "is the word ''"),
        (b"crack", TypeError, "holds 99; expected names"),
        ([], ValueError, "classes is empty; expected names"),
        ({}, ValueError, "classes is empty; expected names"),
        (0, ValueError, "classes is 0; expected a positive whole number"),
        (True, TypeError, "classes is True; expected names .* or their number"),
        (3.5, TypeError, "classes is 3.5; expected names"),
        (None, TypeError, "classes is None; expected names"),
        ({"a", "b"}, TypeError, "has no order; expected names .* in a list"),
        ([0, 1], TypeError, r"holds 0; expected names .*\{number: name\} or \{name: colour\}"),
        ([RED], TypeError, r"holds \(255, 0, 0\); expected names"),
        ({"a": 0.5}, TypeError, "holds 'a': 0.5; expected"),
        ({1.5: "a"}, TypeError, "holds 1.5: 'a'; expected"),
        ({"a": None}, TypeError, "holds 'a': None; expected"),
        ({"a": "red", "b": BLACK}, TypeError, "holds 'a': 'red'; expected .*'#804080'"),
        ({"a": BLACK, "b": (0, 0, 300)}, TypeError, r"holds 'b': \(0, 0, 300\); expected .* from 0 to 255"),
        ({"a": (0, 0, 0, 255)}, TypeError, r"holds 'a': \(0, 0, 0, 255\)"),
        ({"a": (0.5, 0.1, 0.0)}, TypeError, r"holds 'a': \(0.5, 0.1, 0.0\)"),
        ({"a": []}, TypeError, r"holds 'a': \[\]"),
        ({"a": BLACK, "b": 1}, ValueError, r"gives \(0, 0, 0\) for 'a'; expected for each class a whole number, or"),
        ({"a": 1, "b": 1}, ValueError, "has 1 twice"),
        ({"a": RED, "b": RED}, ValueError, "a colour twice"),
    ],
)
def test_classes_that_are_none(classes, error, message):
    with pytest.raises(error, match=message):
        Labels.of(classes)


@pytest.mark.parametrize(
    ("void", "expected"),
    [
        (None, []),
        ([], []),
        (255, [255]),
        (7, [7, 255]),
        (np.uint8(7), [7, 255]),
        (7.0, [7, 255]),
        ("7", [7, 255]),
        (-1, [-1, 255]),
        ([7, 9], [7, 9, 255]),
        ((7, 8, 9), [7, 8, 9, 255]),  # there are no colours, so this is none
        ({7}, [7, 255]),
        (np.array([7, 9]), [7, 9, 255]),
    ],
)
def test_void_numbers(void, expected):
    labels = Labels.of(NAMES, void)
    assert sorted(number for number, label in labels.numbers.items() if label == VOID) == expected
    assert labels.painted == {}


@pytest.mark.parametrize("void", [LIME, list(LIME), np.array(LIME), "#00FF00", ["00ff00", 7]])
def test_void_colours(void):
    labels = Labels.of({"bg": BLACK, "a": RED}, void)
    assert labels.painted == {BLACK: 0, RED: 1, LIME: VOID}


def test_void_of_a_known_data_set_takes_both():
    labels = Labels.of("voc", [(1, 2, 3), 77])
    assert (labels.painted[1, 2, 3], labels.painted[224, 224, 192], labels.numbers[77]) == (VOID, VOID, VOID)
    without = Labels.of("voc", None)
    assert VOID not in {*without.numbers.values(), *without.painted.values()}


@pytest.mark.parametrize("void", [True, 1.5, "void", {}, [1.5]])
def test_void_that_is_none(void):
    with pytest.raises(TypeError, match=r"expected a whole number, a colour .*or None for no void"):
        Labels.of(NAMES, void)


def test_void_that_stands_for_a_class_is_warned_of():
    with pytest.warns(UserWarning, match="void is 0, which also stands for class 'wall': .*first=1"):
        Labels.of(NAMES, 0)


@pytest.mark.parametrize(
    "arguments", [(["void", "tree"], 0), (NAMES, 0, 1), ({0: "a", 255: "Void"},), ({0: "a", 255: "crack"},)]
)
def test_void_that_is_meant_is_not_warned_of(arguments, recwarn):
    Labels.of(*arguments)
    assert len(recwarn) == 0


def test_255_called_void_is_void():
    labels = Labels.of({0: "a", 1: "b", 255: "void"})
    assert labels.translate(np.array([[0, 1, 255]], np.uint8), "m").tolist() == [[0, 1, VOID]]


def test_classes_from_1():
    labels = Labels.of(NAMES, void=0, first=1)
    assert labels.translate(np.array([[0, 1, 3, 255]], np.uint8), "m").tolist() == [[VOID, 0, 2, VOID]]
    with pytest.raises(ValueError, match="first is 1, and classes says itself"):
        Labels.of({1: "wall"}, first=1)
    for wrong, error in (("1", TypeError), (True, TypeError), (1.0, TypeError), (-1, ValueError)):
        with pytest.raises(error, match=r"first is .*expected a whole number from 0 up"):
            Labels.of(NAMES, first=wrong)


@pytest.mark.parametrize(
    ("classes", "void", "first", "told", "read"),
    [
        (255, 255, 0, VOID, {0: 0, 254: 254, 255: VOID}),
        (255, 0, 1, VOID, {0: VOID, 1: 0, 255: 254}),
        (256, None, 0, WIDE_VOID, {0: 0, 255: 255}),
        (300, 65535, 0, WIDE_VOID, {254: 254, 255: 255, 299: 299, 65535: WIDE_VOID}),
        (300, -1, 0, WIDE_VOID, {255: 255, -1: WIDE_VOID}),
        ({number: f"{number}" for number in range(300)}, 65535, 0, WIDE_VOID, {255: 255, 65535: WIDE_VOID}),
    ],
)
def test_many_classes(classes, void, first, told, read):
    labels = Labels.of(classes, void, first)
    assert labels.void == told
    values = np.array([list(read)], dtype=np.int64)
    assert labels.translate(values, "m").tolist() == [list(read.values())]


@pytest.mark.parametrize(("classes", "first"), [(256, 0), (300, 0), (255, 1)])
def test_255_cannot_be_void_and_a_class(classes, first):
    with pytest.raises(ValueError, match=r"void is 255, which is the number of class .*void=65535, or void=None"):
        Labels.of(classes, first=first)


@pytest.mark.parametrize("dtype", [np.uint8, np.int64])
def test_translated(dtype):
    labels = Labels.of({7: "road", 26: "car", 27: "car"}, void=[0, 9])
    got = labels.translate(np.array([[7, 26], [27, 0], [9, 255]], dtype), "m")
    assert got.tolist() == [[0, 1], [1, VOID], [VOID, VOID]]
    assert got.dtype == np.int64


def test_painted_map_translated():
    labels = Labels.of({"bg": BLACK, "a": [RED, LIME]}, void=WHITE)
    assert labels.translate(np.array([[BLACK, RED, LIME, WHITE]], np.uint8), "m").tolist() == [[0, 1, 1, VOID]]


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        (
            [3],
            {},
            r"m holds \[3\]; expected 0 to 2 for the 3 classes wall, tree, sky, or 255 .* first=1, and void",
        ),
        ([7], {}, r"holds \[7\].* If 7 means no class: void=7\."),
        ([-1], {}, r"holds \[-1\].* If -1 means no class: void=-1\."),
        ([0], {"first": 1}, r"holds \[0\]; expected 1 to 3 .* If 0 means no class: void=0\."),
        ([255], {"void": None}, r"holds \[255\].*void=None says that there is no void\. If 255 means no class"),
        (range(3, 20), {}, r"holds \[3, 4, 5, 6, 7, 8, 9, 10\] and 9 more; expected 0 to 2"),
    ],
)
def test_unknown_numbers(values, options, message):
    for dtype in (np.int16, np.int64):
        with pytest.raises(ValueError, match=message):
            Labels.of(NAMES, **options).translate(np.array([list(values)], dtype), "m")


def test_numbers_with_gaps_are_told():
    with pytest.raises(ValueError, match=r"holds \[8\]; expected 7, 26 for the 2 classes"):
        Labels.of({7: "road", 26: "car"}).translate(np.array([[7, 8]], np.uint8), "m")


def test_all_void_is_read():
    with pytest.warns(UserWarning, match="no pixel will have that class"):
        labels = Labels.of(["a"], void=0)
    with pytest.raises(ValueError, match=r"holds \[3\]; expected"):
        labels.translate(np.array([[0, 3]], np.uint8), "m")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([[RED, (1, 2, 3)]], r"holds the colours \[\(1, 2, 3\)\], which stand for no class.*smoothing"),
        ([[(1, 1, 1), (0, 0, 0)]], r"\[\(1, 1, 1\)\].*look like class numbers: for them, classes=\[name"),
        ([[0, 1]], r"holds numbers, and classes tells colours; expected a class map in colour\. For numbers"),
    ],
)
def test_unknown_colours(values, message):
    with pytest.raises(ValueError, match=message):
        Labels.of({"bg": BLACK, "a": RED}).translate(np.array(values, np.uint8), "m")


def test_colour_of_two_classes():
    labels = Labels.of("ade20k")
    assert labels.translate(np.array([[(120, 120, 120), BLACK]], np.uint8), "m").tolist() == [[0, VOID]]
    with pytest.raises(ValueError, match=r"\(140, 140, 140\), the colour of road and skyscraper: nothing tells"):
        labels.translate(np.array([[(120, 120, 120), (140, 140, 140)]], np.uint8), "m")
