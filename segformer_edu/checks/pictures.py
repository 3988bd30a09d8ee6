"""Chapter 13: sides without a leak, the worst pictures, and what a confusion matrix says of a class."""

from __future__ import annotations

import random as python_random
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from segformer_edu.checks.core import Failure, Look, exercise
from segformer_edu.checks.numbers import Quantity, plain, predictions, puzzle_of
from segformer_edu.data.labels import VOID

Tensor = torch.Tensor

# 13.1

_RIGHT, _MISSED, _CLAIMED, _REST = 60, 20, 40, 880
_TRUE, _SAID, _ALL = _RIGHT + _MISSED, _RIGHT + _CLAIMED, _RIGHT + _MISSED + _CLAIMED + _REST
_FOUND, _RIGHTLY, _IOU = _RIGHT / _TRUE, _RIGHT / _SAID, _RIGHT / (_RIGHT + _MISSED + _CLAIMED)

predictions(
    "rust",
    title="Rust in numbers",
    quantities={
        "found": Quantity(
            _FOUND,
            {
                "found-and-claimed-exchanged": _RIGHTLY,
                "share-of-all-pixels": (_RIGHT / _ALL, _TRUE / _ALL),
                "missed-not-found": (_MISSED / _TRUE, _MISSED / _RIGHT),
                "iou-instead": _IOU,
                "healthy-counted": _REST / (_REST + _CLAIMED),
                "dice-instead": 2 * _RIGHT / (_TRUE + _SAID),
            },
            tolerance=2e-3,
        ),
        "rightly claimed": Quantity(
            _RIGHTLY,
            {
                "found-and-claimed-exchanged": _FOUND,
                "share-of-all-pixels": (_RIGHT / _ALL, _SAID / _ALL),
                "missed-not-found": (_CLAIMED / _SAID, _CLAIMED / _RIGHT),
                "iou-instead": _IOU,
                "healthy-counted": _REST / (_REST + _MISSED),
                "dice-instead": 2 * _RIGHT / (_TRUE + _SAID),
            },
            tolerance=2e-3,
        ),
        "IoU": Quantity(
            _IOU,
            {
                "dice-instead": 2 * _RIGHT / (_TRUE + _SAID),
                "overlap-counted-twice": _RIGHT / (_TRUE + _SAID),
                "mean-of-the-two": ((_FOUND + _RIGHTLY) / 2, _FOUND * _RIGHTLY),
                "accuracy-instead": (_RIGHT + _REST) / _ALL,
                "share-of-all-pixels": _RIGHT / _ALL,
                "missed-not-found": _RIGHT / (_MISSED + _CLAIMED),
            },
            tolerance=2e-3,
        ),
        "pixels right": Quantity(
            (_RIGHT + _REST) / _ALL,
            {
                "one-kind-of-mistake": (1 - _MISSED / _ALL, 1 - _CLAIMED / _ALL),
                "healthy-forgotten": _RIGHT / _ALL,
                "rust-forgotten": _REST / _ALL,
                "wrong-not-right": (_MISSED + _CLAIMED) / _ALL,
                "mean-over-classes": (_FOUND + _REST / (_REST + _CLAIMED)) / 2,
            },
            tolerance=2e-3,
        ),
        "pixels right, no rust claimed at all": Quantity(
            (_REST + _CLAIMED) / _ALL,
            {
                "healthy-forgotten": 0.0,
                "claimed-still-wrong": _REST / _ALL,
                "wrong-not-right": _TRUE / _ALL,
                "rust-still-right": (1.0, (_RIGHT + _REST + _CLAIMED) / _ALL),
            },
            tolerance=2e-3,
        ),
    },
    hints={
        "found-and-claimed-exchanged": "One of the two asks about the pixels that are rust, the other about those that "
        "are called rust. Which is which?",
        "share-of-all-pixels": "You divide by all pixels of the picture. Of which pixels is it the share?",
        "missed-not-found": "You have the mistakes of one kind in a place where they do not belong. What stands above "
        "the line?",
        "iou-instead": "That is the measure that punishes both kinds of mistake. Which single kind is asked about?",
        "healthy-counted": "That is the number for the pixels that are no rust. Which class does the entry speak of?",
        "dice-instead": "The overlap counts twice in your measure. How often does it count in the union?",
        "overlap-counted-twice": "The union holds each pixel once. In which two sums are the right ones?",
        "mean-of-the-two": "The IoU is not made of these two by a mean or a product. Which pixels are in the "
        "intersection, and which in the union?",
        "accuracy-instead": "Pixels that are no rust and are not called so are in neither set. What do they do in an "
        "IoU?",
        "healthy-forgotten": "A pixel without rust that is not called rust is right too. How many are these?",
        "rust-forgotten": "Rust that is called so is right too. How many pixels are these?",
        "wrong-not-right": "That is the share of the wrong pixels. Which one is asked for?",
        "one-kind-of-mistake": "A pixel can be wrong in two ways. Which way have you left out?",
        "mean-over-classes": "That is a mean over two classes. Over what does this entry take its share?",
        "claimed-still-wrong": "Pixels that were called rust by mistake are called something else now. Is it right?",
        "rust-still-right": "The rust itself is not claimed any more. Is it right or wrong now?",
    },
)

# 13.2

WORST_HINTS = {
    "best-first": "Your first picture has the fewest mistakes. Which end of the list is asked for?",
    "wrong-end": "The order is right, and your list is the end of it. Which part of it is asked for?",
    "void-is-wrong": "A pixel without a class is no mistake. What do you compare there?",
    "void-in-the-total": "You divide by all pixels of a picture. Of which pixels is the share asked for?",
    "numbers-of-pixels": "You compare numbers of wrong pixels, and the pictures have different sizes. What is asked "
    "for?",
    "by-miou": "A nearly perfect picture is in your list. What does one pixel of a class that is not there do to an "
    "mIoU?",
    "order-reversed": "The right pictures are in your list, in the other order. Which one comes first?",
    "not-in-order": "The right pictures are in your list, and not in their order. Where is the order lost?",
    "shares-not-numbers": "A list of places in the data set is asked for. What have you sorted: the places or the "
    "shares?",
    "pictures-not-places": "The list should name pictures by their place. Are these whole numbers?",
    "counts-from-one": "The first picture has the number 0. From which number do you count?",
    "all-of-them": "How many pictures are asked for, and how many have you?",
    "place-twice": "A picture is named twice, since another one has the same share. How does a share find its place?",
    "unlabelled-picture": "One picture has no labelled pixel at all. Which share of nothing is wrong, and should it be "
    "among the worst?",
    "count-off-by-one": "Your list is one place too long, too short, or begins one place too late. Where does it "
    "begin and end?",
    "class-left-out": "The pixels of one class have no say. Which number marks those that have none?",
    "count-fixed": "The length of the list does not follow the argument. Where is it written down?",
    "ties-lost": "Of several pictures with the same share only one is left. What has room for one of them alone?",
    "rounded": "Two shares differ by little, and your order does not see it. Which line makes them equal?",
    "rows-for-pixels": "You divide by a number of rows or columns. What is it that can be wrong?",
    "ties-turned-round": "Two pictures have the same share. Which of them should come first?",
    "mean-over-classes": "You take a mean over classes. Is the share asked for one of classes or of pixels?",
    "first-of-all": "Your list does not depend on the mistakes. By what is it sorted?",
}


class Case(NamedTuple):
    """Some predictions with their class maps."""

    predictions: list[Tensor]
    masks: list[Tensor]


def picture(height: int, width: int, wrong: int, void: int, rare: int = 0, lone: int = 0) -> tuple[Tensor, Tensor]:
    """Make a class map of classes 0 and 1 and a prediction.

    Args:
        height: its rows.
        width: its columns.
        wrong: so many pixels of class 0 or 1 are taken for the other one.
        void: so many of the other pixels have no class.
        rare: so many of the wrong ones are claimed to be of classes that are nowhere, each of another one.
        lone: class 1 has so many pixels only, the first ones; 0: about a half.
    """
    at = torch.arange(height * width)
    mask = (at < lone).long() if lone else at % 2
    prediction = mask.clone()
    prediction[:wrong] = 1 - prediction[:wrong]
    prediction[:rare] = 2 + at[:rare]
    if void:
        mask[-void:], prediction[-void:] = VOID, 1
    return prediction.view(height, width), mask.view(height, width)


def case(*pictures: tuple[Tensor, Tensor]) -> Case:
    """Put pictures together."""
    return Case([prediction for prediction, _ in pictures], [mask for _, mask in pictures])


def pictures() -> Case:
    """Seven pictures whose orders by share, by number, by mIoU, by classes and with void all differ."""
    return case(
        picture(9, 11, 1, 0, rare=1),  # one pixel, claimed to be of a class that is nowhere
        picture(8, 13, 16, 10, lone=4),  # 16 of 94, all of a small class among them
        picture(5, 7, 11, 5),  # 11 of 30
        picture(4, 5, 7, 4),  # 7 of 16
        picture(12, 14, 40, 4),  # 40 of 164
        picture(5, 6, 4, 20),  # 4 of 10, most of the picture is void
        picture(7, 7, 3, 1, rare=3),  # 3 of 48, in three classes that are nowhere
    )


def shares(given: Case, void: bool = False, total: bool = False, number: bool = False) -> list[float]:
    """Return the share of each picture that is wrong, or what known mistakes take for it."""
    found = []
    for prediction, mask in zip(*given):
        known = torch.ones_like(mask, dtype=torch.bool) if void else mask != VOID
        wrong = int((known & (prediction != mask)).sum())
        pixels = mask.numel() if total else int(known.sum())
        found.append(float(wrong) if number else wrong / pixels if pixels else 0.0)
    return found


def mious(given: Case) -> tuple[list[float], list[float]]:
    """Return each picture's mIoU over the classes that occur, and its mean accuracy over classes."""
    ious, accuracies = [], []
    for prediction, mask in zip(*given):
        known = mask != VOID
        p, m = prediction[known], mask[known]
        classes = torch.cat([p, m]).unique().tolist()
        each = [float(((p == k) & (m == k)).sum() / ((p == k) | (m == k)).sum()) for k in classes]
        ious.append(1 - sum(each) / len(each) if each else 0.0)
        own = [float((p[m == k] == k).double().mean()) for k in m.unique().tolist()]
        accuracies.append(1 - sum(own) / len(own) if own else 0.0)
    return ious, accuracies


def ranked(values: Sequence[float], count: int) -> list[int]:
    """Return the places of the largest values, the first one first."""
    return sorted(range(len(values)), key=lambda place: -values[place])[:count]


def _lists(given: Case, count: int) -> Iterator[tuple[str, list[int]]]:
    """Yield the lists of known mistakes."""
    right, everything = shares(given), len(given.masks)
    target = ranked(right, count)
    ious, accuracies = mious(given)
    for length in (count, everything):
        yield "best-first", ranked([-value for value in right], length)
    yield "void-is-wrong", ranked(shares(given, void=True, total=True), count)
    yield "void-is-wrong", ranked([v / max(1, int((m != VOID).sum())) for v, m in
                                   zip(shares(given, void=True, number=True), given.masks)], count)  # fmt: skip
    yield "void-is-wrong", ranked(shares(given, void=True, number=True), count)
    yield "void-in-the-total", ranked(shares(given, total=True), count)
    yield "numbers-of-pixels", ranked(shares(given, number=True), count)
    yield "by-miou", ranked(ious, count)
    yield "mean-over-classes", ranked(accuracies, count)
    yield "order-reversed", target[::-1]
    yield "counts-from-one", [place + 1 for place in target]
    yield "all-of-them", ranked(right, everything)
    yield "first-of-all", list(range(count))
    for made in (ranked(right, count + 1), ranked(right, count - 1), ranked(right, count + 1)[1:]):
        yield "count-off-by-one", made
    for label in (0, 1):
        without = Case(given.predictions, [mask.where(mask != label, VOID) for mask in given.masks])
        yield "class-left-out", ranked(shares(without), count)
    yield "wrong-end", ranked(right, everything)[-count:]
    wrong = shares(given, number=True)
    for side in (0, 1):
        yield "rows-for-pixels", ranked([v / mask.shape[side] for v, mask in zip(wrong, given.masks)], count)
    for worse in (shares(given, void=True, total=True), shares(given, total=True), shares(given, number=True), ious):
        yield "best-first", ranked([-value for value in worse], count)


@exercise("The worst pictures", WORST_HINTS)
def worst(look: Look, answer: Any) -> None:
    """Check `worst(predictions, masks, count)`, a function."""
    look.exists(answer)
    given = pictures()
    _ranked(look, answer, given, 3, "seven pictures, three asked for")
    look.done("three of seven pictures")
    for count in (1, 5):
        _ranked(look, answer, given, count, f"seven pictures, {count} asked for")
    look.done("other numbers of pictures")
    empty = case(picture(5, 7, 1, 0), picture(3, 4, 0, 12), picture(6, 5, 9, 3))
    places = _list(look, answer, empty, 2)
    if places != [2, 0] or (places := _list(look, answer, empty, 3)) != [2, 0, 1]:
        look.wrong("unlabelled-picture", f"Of three pictures the second has no labelled pixel; your list is {places}.")
    look.done("a picture without labels")
    _near_or_equal(look, answer)


def _near_or_equal(look: Look, answer: Callable[..., Any]) -> None:
    """Shares that are nearly the same, and shares that are."""
    near = case(picture(10, 10, 33, 0), picture(12, 25, 100, 0), picture(10, 10, 32, 0))
    if (places := _list(look, answer, near, 2)) != [1, 0]:
        look.wrong("rounded", f"Of three pictures 33 %, 33⅓ % and 32 % are wrong; your list is {places}.")
    look.done("shares that are nearly the same")
    equal = case(picture(4, 5, 2, 0), picture(5, 6, 6, 0), picture(5, 8, 8, 0), picture(3, 5, 3, 0))
    places = _list(look, answer, equal, 3)
    if places != [1, 2, 3]:
        kind = "ties-turned-round" if sorted(places) == [1, 2, 3] else "unknown"
        kind = "place-twice" if len(set(places)) < len(places) else kind
        kind = "ties-lost" if len({1, 2, 3} & set(places)) == 1 and kind == "unknown" else kind
        look.wrong(kind, f"The pictures 1, 2 and 3 have the same share; your list is {places}.")
    # a sort that promises no order of equal ones may keep it where there are few
    many = case(*(picture(4, 5, 10 if place % 3 else 5, 0) for place in range(40)))
    places, target = _list(look, answer, many, 30), ranked(shares(many), 30)
    if places != target:
        seen = f"Of 40 pictures every third has a smaller share, and all others have the same; your list is {places}."
        equal_shares = len(set(places)) == 30 and all(place % 3 for place in places[:26])
        look.wrong("ties-turned-round" if equal_shares else "unknown", seen)
    look.done("equal shares in the order of the pictures")


def _list(look: Look, answer: Callable[..., Any], given: Case, count: int) -> list[int]:
    """Call the reader's function; return its list of whole numbers."""
    copies = [[part.clone() for part in parts] for parts in given]
    told = f"worst({len(given.masks)} predictions, {len(given.masks)} class maps, {count})"
    made = look.attempt(answer, *copies, count)
    if isinstance(made, Failure):
        if not all(bool((mask != VOID).any()) for mask in given.masks):
            look.wrong("unlabelled-picture", f"With a picture without labelled pixels: {made}")
        made = look.call(answer, *copies, count, told=told)
    if made is None or made is Ellipsis:
        look.nothing(answer, told)
    if any(not torch.equal(a, b) for new, old in zip(copies, given) for a, b in zip(new, old)):
        look.wrong("changes-input", "The predictions or the class maps hold other numbers after the call.")
    made = made.tolist() if hasattr(made, "tolist") else made
    if not isinstance(made, list | tuple):
        look.wrong("wrong-type", f"{told} gave a {type(made).__name__}; a list of places is expected.")
    places = [plain(place) for place in made]
    if any(isinstance(place, float) for place in places):
        look.wrong("shares-not-numbers", f"{told} gave {places}.")
    if not all(isinstance(place, int) and not isinstance(place, bool) for place in places):
        kinds = ", ".join(sorted({type(place).__name__ for place in places}))
        look.wrong("pictures-not-places", f"{told} gave a list of {kinds}.")
    return places


def _ranked(look: Look, answer: Callable[..., Any], given: Case, count: int, at: str) -> None:
    places = _list(look, answer, given, count)
    target = ranked(shares(given), count)
    if places == target:
        return
    seen = f"Your list is {places} ({at})."
    for kind, found in _lists(given, count):
        if places == found:
            look.wrong(kind, seen)
    if sorted(places) == sorted(target):
        look.wrong("not-in-order", seen)
    if len(places) != count:
        kind = "all-of-them" if len(places) == len(given.masks) else "count-fixed"
        look.wrong(kind, f"Your list has {len(places)} places; {count} are asked for.")
    look.wrong("unknown", seen)


# 13.3

FOLD_HINTS = {
    "leak": "A group stands on both sides of a part. What has to stay together when you deal out?",
    "prefix-not-group": "Two groups whose names begin alike are treated as one, or one as two. What finds the group in "
    "a name?",
    "group-by-whole-name": "Each picture is a group of its own. Which part of its name tells the group?",
    "not-judged": "Some pictures judge in no part. What becomes of the groups that are left over?",
    "group-judges-in-part": "A group judges, and some of its pictures do not. Of which pictures do you ask whether "
    "they belong to it?",
    "case-ignored": "Two groups differ by a capital letter alone. Which line makes one of them?",
    "part-of-the-match": "Two groups have the same number behind other letters. How much of what the expression finds "
    "do you keep?",
    "last-match": "The expression fits in two places of a name. Which of the two tells the group?",
    "all-matches": "The expression fits in two places of a name. Does the second one belong to the group?",
    "judged-twice": "Some pictures judge in several parts. How often should each?",
    "judges-learned-from": "A picture is on both sides of one part. Which pictures are left for learning?",
    "sides-exchanged": "The larger side stands where the judges should. In which order do the two sides come?",
    "training-incomplete": "Pictures are on neither side of a part. Who learns from what does not judge?",
    "wrong-number-of-parts": "How many parts are asked for, and how many are there?",
    "a-side-is-empty": "One side of a part is empty. Are there enough groups in it?",
    "part-without-brackets": "An expression need not have brackets. What belongs to the group: a part of what the "
    "expression finds, or all of it?",
    "other-in-another-run": "In another run of Python the groups come in another order, and so do your parts. Which "
    "container has no order of its own?",
    "refused-without-need": "These names have groups, and there are enough of them. Which line refuses them, and why?",
    "uneven": "One part has many more groups than another. By how many may they differ at most?",
    "names-not-places": "The sides should hold places in the list. What do yours hold?",
    "not-pairs": "Each part is a pair of two lists. What does yours look like?",
    "changes-from-call-to-call": "Two calls with the same names gave other parts. What was drawn anew?",
    "no-group-passes": "A name without a group went through silently. What should happen to it?",
    "wrong-error": "The function stops, but with another kind of error. Which one does the text raise?",
    "expression-fixed": "Your function works for plants alone. Where is it written down what a group is called?",
    "too-many-parts": "There were fewer groups than parts. What should the function say then?",
    "appearance-order-needed": "The parts are right only where the pictures of a group stand next to each other. By "
    "what do you tell the groups apart?",
    "pictures-dealt-evenly": "Your parts have equally many pictures, and a group of many was cut. What is dealt out: "
    "pictures or groups?",
}

TOGETHER = r"plant\d+"
NAMES = [
    f"{day}-plant{plant}-{view}.jpg"
    for plant, views in ((1, 3), (10, 2), (11, 4), (2, 1), (20, 3), (3, 2), (12, 5))
    for day, view in zip("ababa", range(1, views + 1))
]


FOUND = {
    "part-of-the-match": ["b7", "c7", "b7"],
    "case-ignored": ["b7", "B7", "b7"],
    "last-match": ["b7-x1", "c7-x1", "b7-x1"],
    "all-matches": ["b7-x1", "b7-x2", "b7-x3", "c7-x1"],
}
"""Names of two groups, which a mistake takes for another number."""


def _shuffled() -> list[str]:
    names = list(NAMES)
    python_random.Random(7).shuffle(names)
    return names


def group_of(name: str) -> str:
    """Return a name's plant."""
    found = re.search(TOGETHER, name)
    return found[0] if found else ""


@exercise("Parts without a leak", FOLD_HINTS)
def folds(look: Look, answer: Any) -> None:
    """Check `folds(names, together, count)`, a function."""
    look.exists(answer)
    for names, count, what in ((NAMES, 3, "names in order"), (_shuffled(), 3, "names in another order")):
        _parts(look, answer, names, count, what)
        look.done(f"seven groups in three parts, {what}")
    for count in (2, 5, 7):
        _parts(look, answer, _shuffled(), count, f"{count} parts")
        look.done(f"{count} parts")
    many = [f"plant1-{view}.jpg" for view in range(10)] + [f"plant{plant}-0.jpg" for plant in range(2, 7)]
    _parts(look, answer, many, 2, "a group of ten pictures and five groups of one")
    look.done("groups of many pictures and of one")
    _same_again(look, answer)
    _ordered(look, answer)
    look.done("the same call gives the same parts")
    _other_expression(look, answer)
    for names, count, kind, words in (
        ([*NAMES, "leaf-of-plant.jpg"], 3, "no-group-passes", "`leaf-of-plant.jpg` holds no plant with a number."),
        (NAMES, 8, "too-many-parts", "Seven groups were to be dealt out to eight parts."),
    ):
        made = look.attempt(_listed(answer), list(names), TOGETHER, count)
        if not isinstance(made, Failure):
            look.wrong(kind, f"{words} No error was raised.")
        if made.name != "ValueError":
            look.wrong("wrong-error" if kind == "no-group-passes" else kind, f"{words} {made}")
    look.done("errors where no answer is right")


def _same_again(look: Look, answer: Callable[..., Any]) -> None:
    """End where the same call gives other parts, or moves a global generator."""
    first, second = (_read(look, answer, NAMES, TOGETHER, 3) for _ in range(2))
    torch.manual_seed(5)
    python_random.seed(5)
    np.random.seed(5)  # noqa: NPY002
    state = torch.get_rng_state(), python_random.getstate(), str(np.random.get_state())  # noqa: NPY002
    if first != second or first != _read(look, answer, NAMES, TOGETHER, 3):
        look.wrong("changes-from-call-to-call", "The same call gave two results.")
    if state[0].ne(torch.get_rng_state()).any() or state[1:] != (
        python_random.getstate(), str(np.random.get_state())  # noqa: NPY002
    ):  # fmt: skip
        look.wrong("draws-random-numbers", "After the call a global generator stands elsewhere than before.")


def _ordered(look: Look, answer: Callable[..., Any]) -> None:
    """End where 24 groups are dealt out in the order of a set, which is another one in each run of Python."""
    names = [f"plant{number}.jpg" for number in range(24)]
    judges = [sorted(judge) for _, judge in _read(look, answer, names, TOGETHER, 4)]
    groups = [group_of(name) for name in names]
    each = [groups.index(group) for group in set(groups)]
    for dealt in ([each[part::4] for part in range(4)], [each[start : start + 6] for start in range(0, 24, 6)]):
        if judges == [sorted(part) for part in dealt]:
            look.wrong("other-in-another-run", "24 groups in 4 parts: they are dealt out in the order of a set.")


def _listed(answer: Callable[..., Any]) -> Callable[..., Any]:
    """A function that computes the parts even where the answer is a generator."""

    def all_of_them(names: list[str], together: str, count: int) -> Any:
        made = answer(names, together, count)
        return list(made) if isinstance(made, Iterator) else made

    return all_of_them


def _other_expression(look: Look, answer: Callable[..., Any]) -> None:
    """Films instead of plants: another expression, and groups of one picture."""
    names = [f"{film}_f{frame:03}.png" for film in ("0016E5", "0006R0", "0001TP", "seq05") for frame in (3, 33, 63)]
    made = look.attempt(_listed(answer), list(names), r"^[^_]+", 2)
    if isinstance(made, Failure):
        look.wrong("expression-fixed", f"With names such as 0016E5_f003.png and an expression for the film: {made}")
    parts = _read(look, answer, names, r"^[^_]+", 2)
    for train, judge in parts:
        films = [{names[place].split("_")[0] for place in side} for side in (train, judge)]
        if films[0] & films[1] or len(films[1]) != 2:
            look.wrong("prefix-not-group", "With names such as 0016E5_f003.png, and another expression, parts leak.")
    look.done("another expression")
    for kind, names in FOUND.items():
        made = look.attempt(_listed(answer), list(names), r"[A-Za-z]\d", 2)
        parts = [] if isinstance(made, Failure) else _read(look, answer, names, r"[A-Za-z]\d", 2)
        groups = [{names[place][:2] for place in judge} for _, judge in parts]
        if sorted(map(len, groups)) != [1, 1]:
            words = made if isinstance(made, Failure) else f"The groups that judge are {groups}."
            look.wrong(kind, f"The names are {', '.join(names)}, in two parts. {words}")
    look.done("all of what the expression finds first")


def _read(look: Look, answer: Callable[..., Any], names: Sequence[str], together: str, count: int) -> list[Any]:
    """Call the reader's function; return its parts as pairs of lists of whole numbers."""
    told = f"folds({len(names)} names, {together!r}, {count})"
    given = list(names)
    made = look.attempt(_listed(answer), given, together, count)
    if isinstance(made, Failure) and made.name == "IndexError" and made.words == "no such group":
        look.wrong("part-without-brackets", f"{told}: {made}")
    if isinstance(made, Failure) and made.name == "ValueError":
        look.wrong("refused-without-need", f"{told}: {made}")
    made = look.call(_listed(answer), given, together, count, told=told) if isinstance(made, Failure) else made
    if made is None or made is Ellipsis:
        look.nothing(answer, told)
    if given != list(names):
        look.wrong("changes-input", "The list of names is another one after the call.")
    if not isinstance(made, list | tuple):
        look.wrong("wrong-type", f"{told} gave a {type(made).__name__}; a list of pairs is expected.")
    parts = [_sides(look, part, told) for part in made]
    if len(parts) != count:
        look.wrong("wrong-number-of-parts", f"{told} gave {len(parts)} parts.")
    return parts


def _sides(look: Look, part: Any, told: str) -> tuple[list[Any], list[Any]]:
    """Return the two sides of a part as lists of whole numbers; end where they are others."""
    if not isinstance(part, list | tuple) or len(part) != 2:
        look.wrong("not-pairs", f"{told}: a part is a {type(part).__name__}; a pair of lists is expected.")
    sides = [side.tolist() if hasattr(side, "tolist") else side for side in part]
    if not all(isinstance(side, list | tuple | set | frozenset | range) for side in sides):
        look.wrong("not-pairs", f"{told}: the two sides are no lists.")
    sides = [[plain(place) for place in side] for side in sides]
    if any(not isinstance(place, int) or isinstance(place, bool) for side in sides for place in side):
        look.wrong("names-not-places", f"{told}: a side holds {sides[0][:1] or sides[1][:1]}.")
    return sides[0], sides[1]


def _parts(look: Look, answer: Callable[..., Any], names: list[str], count: int, at: str) -> None:
    """End where the parts are not what they should be; the more telling faults come first."""
    parts = _read(look, answer, names, TOGETHER, count)
    every = set(range(len(names)))
    if any(not set(train) | set(judge) <= every for train, judge in parts):
        look.wrong("names-not-places", f"A place is outside of the list ({at}).")
    if any(not train or not judge for train, judge in parts):
        look.wrong("a-side-is-empty", f"A side of a part is empty ({at}).")
    for train, judge in parts:
        if set(train) & set(judge):
            look.wrong("judges-learned-from", f"{len(set(train) & set(judge))} pictures are on both sides ({at}).")
    judged = Counter(place for _, judge in parts for place in judge)
    if count > 2 and set(judged.values()) == {count - 1} and set(judged) == every:
        look.wrong("sides-exchanged", f"Each picture judges {count - 1} times ({at}).")
    groups = [({group_of(names[i]) for i in train}, {group_of(names[i]) for i in judge}) for train, judge in parts]
    if any(one & other for one, other in groups):
        _leaks(look, parts, groups, names, at)
    if set(judged) != every and {group_of(names[i]) for i in judged} == set(map(group_of, names)):
        look.wrong("group-judges-in-part", f"{len(every - set(judged))} pictures judge in no part ({at}).")
    _each_once(look, parts, judged, every, at)
    sizes = [len(judge) for _, judge in groups]
    if max(sizes) - min(sizes) > 1:
        look.wrong("uneven", f"The parts judge by {', '.join(map(str, sizes))} groups ({at}).")


def _each_once(look: Look, parts: list[Any], judged: Counter[int], every: set[int], at: str) -> None:
    """End where a picture does not judge once, and learn in all other parts."""
    if set(judged) != every:
        look.wrong("not-judged", f"{len(every - set(judged))} pictures judge in no part ({at}).")
    if max(judged.values()) > 1:
        look.wrong("judged-twice", f"{sum(value > 1 for value in judged.values())} pictures judge repeatedly ({at}).")
    if any(set(train) | set(judge) != every for train, judge in parts):
        look.wrong("training-incomplete", f"Pictures are on neither side of a part ({at}).")
    if any(len(set(side)) != len(side) for part in parts for side in part):
        look.wrong("judged-twice", f"A side names a picture twice ({at}).")


def _leaks(look: Look, parts: list[Any], groups: list[Any], names: list[str], at: str) -> None:
    """Groups are cut: say how."""
    leaking = sorted(set().union(*(one & other for one, other in groups)))
    seen = f"On both sides of a part: {', '.join(leaking)} ({at})."
    judges = [sorted(judge) for _, judge in parts]
    keys = {"day": lambda name: name[:1], "view": lambda name: name[-5], "begin": lambda name: name[:8]}
    for key in keys.values():
        if all(not {key(names[i]) for i in train} & {key(names[i]) for i in judge} for train, judge in parts):
            look.wrong("prefix-not-group", seen)
    if names != NAMES:
        look.wrong("appearance-order-needed", seen)
    runs = all(judge == list(range(judge[0], judge[-1] + 1)) for judge in judges)
    if runs and max(map(len, judges)) - min(map(len, judges)) <= len(names) % len(parts):
        look.wrong("pictures-dealt-evenly", seen)
    strides = all(len({b - a for a, b in zip(judge, judge[1:])}) <= 1 for judge in judges)
    look.wrong("group-by-whole-name" if strides else "leak", seen)


# Warm-up

_NUMBERS = torch.tensor([[0, 1, 5], [2, 0, 3]])

puzzle_of(
    "from zero",
    title="Class numbers that begin at 1",
    target=lambda: torch.where(_NUMBERS == 0, VOID, _NUMBERS - 1),
    wrong={
        "numbers-kept": (
            lambda: _NUMBERS,
            "The classes still begin at 1. What would the model take class 1 for?",
        ),
        "below-zero": (
            lambda: _NUMBERS - 1,
            "There is a class -1 now. Which number has a pixel without a class in this book?",
        ),
        "void-is-a-class": (
            lambda: (_NUMBERS - 1).clamp(min=0),
            "Pixels that nobody labelled are of the first class now. Which number leaves them out?",
        ),
        "classes-not-moved": (
            lambda: torch.where(_NUMBERS == 0, VOID, _NUMBERS),
            "Void is right. From which number on do the classes count here, and from which in the model?",
        ),
        "first-class-lost": (
            lambda: torch.where(_NUMBERS <= 1, VOID, _NUMBERS - 1),
            "A pixel of a class has become void. Which of the two numbers 0 and 1 is a class in this file?",
        ),
        "void-is-256": (
            lambda: torch.where(_NUMBERS == 0, VOID + 1, _NUMBERS - 1),
            "A pixel without a class has 256. Which is the largest number of a byte?",
        ),
        "void-moved-too": (
            lambda: torch.where(_NUMBERS == 0, VOID - 1, _NUMBERS - 1),
            "A pixel without a class has 254. In which order do the two steps come?",
        ),
        "asked-too-late": (
            lambda: torch.where(_NUMBERS == 1, VOID, _NUMBERS - 1),
            "The first class is void, and the unlabelled pixels are not. Is the question asked before the numbers are "
            "moved, or after it?",
        ),
        "condition-inverted": (
            lambda: torch.where(_NUMBERS != 0, VOID, _NUMBERS - 1),
            "The pixels that have a class are void. Which of your two values is for those where the condition holds?",
        ),
        "sign-lost": (
            lambda: (_NUMBERS - 1).abs(),
            "An unlabelled pixel is of the second class now. What does the step make of a zero, before its sign is "
            "lost?",
        ),
        "void-is-the-largest": (
            lambda: torch.where(_NUMBERS == 0, _NUMBERS.max(), _NUMBERS - 1),
            "An unlabelled pixel has the largest number of this map. Would that be the same one in another map?",
        ),
        "wrong-direction": (
            lambda: torch.where(_NUMBERS == 0, VOID, _NUMBERS + 1),
            "The classes have moved away from zero. Where should the first one be?",
        ),
    },
)
