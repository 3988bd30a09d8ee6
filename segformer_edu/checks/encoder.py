"""Chapter 5: the encoder."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from segformer_edu.checks.core import Failure, Look, close, differences, exercise, random
from segformer_edu.checks.numbers import Quantity, plain, predictions, puzzle_of, which

# 5.1

SIZE_HINTS = {
    "rounded-up": "A window that hangs over the edge is not placed. Which way is the quotient rounded?",
    "rounded-to-nearest": "Can half a step be taken? Which way is the quotient rounded?",
    "not-rounded": "How many windows are there: can it be a fraction?",
    "first-window-forgotten": "Let the window be as wide as the row. How many places has it, and what does yours say?",
    "one-inside": "The first window takes no step. Is it counted before the division or after it?",
    "padding-forgotten": "What does the border do to the length of the row?",
    "padding-once": "On how many sides is the border added?",
    "padding-subtracted": "Does the border make the row longer or shorter?",
    "window-ignored": "The last window must fit as a whole. What does its width take away from the steps?",
    "window-once-too-often": "How many pixels does the window itself need before it can take a step?",
    "special-case": "It holds for this chapter's patches, where the window is twice the border and one more. What if "
    "it is not?",
    "kernel-and-stride-exchanged": "Which argument says how wide a window is, and which how far it moves?",
    "stride-ignored": "Each step skips some pixels. Which argument says how many?",
    "windows-side-by-side": "Yours lays the windows side by side. May two of them share pixels?",
    "single-window": "The row with its border may be just as wide as one window, or little wider. How many fit then?",
    "window-of-one": "A window may be one pixel wide. Which of its pixels does the step still skip?",
    "steps-wider-than-windows": "A step may be longer than the window is wide. Where does the next window begin then?",
    "wide-border": "The border may be wider than half a window. Which windows lie in the border alone?",
    "wrong-for-some-sizes": "Draw the row with its border and count by hand. Where does yours part from it?",
}


def _size(n: int, kernel: int, stride: int, padding: int) -> int:
    return (n + 2 * padding - kernel) // stride + 1


SIZE_RULES: tuple[tuple[str, Callable[[int, int, int, int], float]], ...] = (
    ("rounded-up", lambda n, k, s, p: -(-(n + 2 * p - k) // s) + 1),
    ("rounded-to-nearest", lambda n, k, s, p: round((n + 2 * p - k) / s) + 1),
    ("rounded-to-nearest", lambda n, k, s, p: round((n + 2 * p - k) / s + 1)),
    ("rounded-to-nearest", lambda n, k, s, p: int((n + 2 * p - k) / s + 1.5)),
    ("not-rounded", lambda n, k, s, p: (n + 2 * p - k) / s + 1),
    ("first-window-forgotten", lambda n, k, s, p: (n + 2 * p - k) // s),
    ("first-window-forgotten", lambda n, k, s, p: (n + 2 * p - k) / s),
    ("first-window-forgotten", lambda n, k, s, p: -(-(n + 2 * p - k) // s)),
    ("one-inside", lambda n, k, s, p: (n + 2 * p - k + 1) // s),
    ("one-inside", lambda n, k, s, p: (n + 2 * p - k + 1) / s),
    ("padding-forgotten", lambda n, k, s, p: (n - k) // s + 1),
    ("padding-once", lambda n, k, s, p: (n + p - k) // s + 1),
    ("padding-subtracted", lambda n, k, s, p: (n - 2 * p - k) // s + 1),
    ("window-ignored", lambda n, k, s, p: (n + 2 * p) // s),
    ("window-ignored", lambda n, k, s, p: (n + 2 * p) // s + 1),
    ("window-ignored", lambda n, k, s, p: n // s),
    ("window-ignored", lambda n, k, s, p: n / s),
    ("window-once-too-often", lambda n, k, s, p: (n + 2 * p - (k - 1)) // s + 1),
    ("window-once-too-often", lambda n, k, s, p: (n + 2 * p - k // 2) // s + 1),
    ("special-case", lambda n, k, s, p: (n - 1) // s + 1),
    ("kernel-and-stride-exchanged", lambda n, k, s, p: (n + 2 * p - s) // k + 1),
    ("stride-ignored", lambda n, k, s, p: n + 2 * p - k + 1),
    ("stride-ignored", lambda n, k, s, p: (n + 2 * p) // k),
    ("stride-ignored", lambda n, k, s, p: n // k),
    ("windows-side-by-side", lambda n, k, s, p: (n + 2 * p) // max(k, s)),
    ("windows-side-by-side", lambda n, k, s, p: n // max(k, s)),
    ("windows-side-by-side", lambda n, k, s, p: (n + 2 * p - k) // max(k, s) + 1),
)
"""What known mistakes give; told apart by all cases together."""
SIZE_CASES = [
    (n, kernel, stride, padding)
    for n in (9, 16, 17, 90, 123)
    for kernel, stride, padding in ((7, 4, 3), (3, 2, 1), (4, 4, 0), (5, 3, 1), (6, 3, 2), (1, 1, 0), (9, 5, 4))
]
"""Rows, windows, steps and borders as they are common; below those that are not."""
SIZE_CASES += [(7, 7, 4, 0), (8, 6, 3, 0), (3, 7, 2, 2), (5, 1, 2, 0), (12, 1, 5, 0), (10, 2, 5, 0), (23, 3, 8, 1)]
SIZE_CASES += [(5, 3, 1, 2), (11, 3, 2, 4), (13, 2, 3, 2), (10, 4, 2, 2), (9, 2, 3, 1)]


@exercise("out_size", SIZE_HINTS)
def out_size(look: Look, answer: Any) -> None:
    """Check `out_size(n, kernel, stride, padding)`: a function of whole numbers that returns one."""
    look.exists(answer)
    found, told = [], ""
    for case in SIZE_CASES:
        value, target = look.call(answer, *case), _size(*case)
        if value is None or value is Ellipsis:
            look.nothing(answer, f"out_size{case}")
        value = plain(value)
        if isinstance(value, bool) or not isinstance(value, int | float):
            look.wrong("wrong-type", f"out_size{case} gave a {type(value).__name__}; a number is expected.")
        found.append(float(value))
        if not told and value != target:
            told = f"out_size{case} gave {value:g}; {target} windows fit: {_places(*case)}."
    if not told:
        look.done(f"right for {len(SIZE_CASES)} rows")
        return
    for kind, rule in SIZE_RULES:
        if all(math.isclose(value, rule(*case)) for value, case in zip(found, SIZE_CASES)):
            look.wrong(kind, told)
    if any(value != int(value) for value in found if math.isfinite(value)):
        look.wrong("not-rounded", told)
    ours = [(value, _size(*case)) for value, case in zip(found, SIZE_CASES)]
    never = all(value < target for value, target in ours)
    look.wrong("first-window-forgotten" if never and len({t - v for v, t in ours}) == 1 else _by_parts(found), told)


def _by_parts(found: Sequence[float]) -> str:
    """The kind of a rule that is in no list: by the cases in which it is right."""
    by_case = dict(zip(SIZE_CASES, found))

    def right(wanted: Callable[[int, int, int, int], bool]) -> bool:
        return all(value == _size(*case) for case, value in by_case.items() if wanted(*case))

    for kind, wanted in (
        ("single-window", lambda n, k, s, p: _size(n, k, s, p) > 1),
        ("window-of-one", lambda n, k, s, p: k > 1),
        ("steps-wider-than-windows", lambda n, k, s, p: s <= k),
        ("wide-border", lambda n, k, s, p: p <= k // 2),
        ("special-case", lambda n, k, s, p: k == 2 * p + 1 > 1),
    ):
        if right(wanted):
            return kind
    if right(lambda n, k, s, p: p == 0):
        return "padding-forgotten"
    return "wrong-for-some-sizes"


def _places(n: int, kernel: int, stride: int, padding: int) -> str:
    last = (_size(n, kernel, stride, padding) - 1) * stride - padding
    return f"the first begins at {-padding}, the last at {last} and ends at {last + kernel - 1}"


# 5.2

predictions(
    "reach",
    title="What one pixel of a map sees, without attention",
    quantities={
        "map 1, embeddings": Quantity(
            7, {"stride-for-window": 4, "step-in-the-image": 1, "one-side-only": 3}, unit="columns"
        ),
        "map 2, embeddings": Quantity(
            7 + 2 * 4,
            {
                "step-in-the-image": (7 + 2, 3, 7 + 3),
                "new-step-for-old": 7 + 2 * 8,
                "windows-multiplied": (3 * 7, 3 * 4, 3 * 8),
                "one-side-only": 7 + 4,
                "stride-for-window": 8,
                "window-counted-whole": 7 + 3 * 4,
            },
            unit="columns",
        ),
        "map 3, embeddings": Quantity(
            7 + 2 * 4 + 2 * 8,
            {
                "step-in-the-image": (7 + 2 + 2, 3),
                "step-of-map-1": 7 + 2 * 4 + 2 * 4,
                "new-step-for-old": (7 + 2 * 8 + 2 * 16, 7 + 2 * 4 + 2 * 16, 15 + 2 * 16),
                "windows-multiplied": (3 * 3 * 7, 3 * 15, 3 * 16),
                "one-side-only": (7 + 4 + 8, 15 + 8),
                "stride-for-window": 16,
                "window-counted-whole": (7 + 3 * 4 + 3 * 8, 15 + 3 * 8),
            },
            unit="columns",
        ),
        "map 3, first column of pixel 10": Quantity(
            16 * 10 - 15,
            {
                "window-begins-at-the-pixel": 16 * 10,
                "middle-of-a-stamp": (16 * 10 + 8 - 15, 16 * 10 + 7 - 15),
                "padding-of-the-first-only": 16 * 10 - 3,
                "first-border-forgotten": 16 * 10 - 12,
                "border-added": 16 * 10 + 15,
                "one-too-many": (16 * 10 - 16, 16 * 10 - 14),
                "counted-from-one": (16 * 9 - 15, 16 * 9),
                "step-in-the-image": 10,
            },
            unit="columns",
        ),
        "map 1, one block": Quantity(
            7 + 2 * 4,
            {
                "block-in-image-pixels": 7 + 2,
                "block-forgotten": 7,
                "two-windows-a-block": 7 + 2 * 2 * 4,
                "one-side-only": 7 + 4,
                "windows-multiplied": (3 * 7, 3 * 4),
                "window-counted-whole": 7 + 3 * 4,
            },
            unit="columns",
        ),
        "map 3, one block a stage": Quantity(
            7 + 2 * (4 + 4) + 2 * (8 + 8) + 2 * 16,
            {
                "block-forgotten": 31,
                "last-block-only": (31 + 2 * 16, 31 + 16),
                "a-block-forgotten": (31 + 2 * 4 + 2 * 16, 31 + 2 * 8 + 2 * 16),
                "last-block-forgotten": 7 + 2 * (4 + 4) + 2 * (8 + 8),
                "embeddings-forgotten": (7 + 2 * 4 + 2 * 8 + 2 * 16, 2 * (4 + 8 + 16)),
                "block-in-image-pixels": 31 + 3 * 2,
                "two-windows-a-block": 31 + 2 * 2 * (4 + 8 + 16),
                "one-side-only": 31 + 4 + 8 + 16,
                "windows-multiplied": (3 * 31, 27 * 31),
                "last-step-for-all": 31 + 3 * 2 * 16,
                "window-counted-whole": 31 + 3 * (4 + 8 + 16),
            },
            unit="columns",
        ),
    },
    hints={
        "stride-for-window": "That is how far two windows stand apart. How wide is one, where they overlap?",
        "step-in-the-image": "A neighbour on a map is not the next column of the image. How far away is it?",
        "new-step-for-old": "The window moves over the map that goes in. Which step has that map, in image columns?",
        "step-of-map-1": "The second and the third embedding look at different maps. Which step has each?",
        "windows-multiplied": "Neighbouring windows overlap. Is the union of three as wide as all three side by side?",
        "one-side-only": "A window of three looks to the left and to the right. Have you added both?",
        "window-counted-whole": "Of the three places one is the middle, which is counted already. How many are new?",
        "window-begins-at-the-pixel": "Where does the window begin: at its middle, or before it?",
        "middle-of-a-stamp": "Where is the middle of the very first window: on the first column, or inside of a stamp?",
        "padding-of-the-first-only": "Only the first embedding's border is taken off. What do the other two add?",
        "first-border-forgotten": "The borders of two embeddings are taken off. Has the very first one none?",
        "border-added": "The border stands in front of the image. Does a window begin before its middle or behind it?",
        "a-block-forgotten": "One of the three blocks is not in the sum. Of which stage?",
        "too-large": "Yours is too large. Write down a term for each window: which one is too many, or has too large a "
        "step?",
        "too-small": "Yours is too small. Write down a term for each window: which one is missing, or has too small a "
        "step?",
        "one-too-many": "Half of an odd window lies left of its middle. Does the middle belong to that half?",
        "counted-from-one": "Pixels are counted from 0 here. Where does pixel 0 look?",
        "block-in-image-pixels": "The 3×3 of a block runs over the map. How many image columns is a step there?",
        "block-forgotten": "Is there something in a block that looks at neighbours, even without attention?",
        "two-windows-a-block": "How many 3×3 windows has one block?",
        "last-block-only": "The blocks of the earlier stages widen what comes to the last one. Have you counted them?",
        "last-block-forgotten": "The map is what comes out behind the blocks. Which block have you not counted?",
        "embeddings-forgotten": "Between two stages there is an embedding that looks at three places. Is it counted?",
        "last-step-for-all": "Each block works on its own stage's map. Which step has each of the three?",
    },
)

# 5.3

EMBED_HINTS = {
    "window-first": "In a column of the unfolded map, what stands together: a channel's numbers, or a place's?",
    "rows-and-columns": "Each window is mirrored at its diagonal. Which axis of a window runs faster?",
    "windows-turned": "The windows are turned round. Does PyTorch's convolution turn them?",
    "weights-shuffled": "The axes of the weight have been reshaped and not reordered. Which axis must stay in front?",
    "bias-forgotten": "What comes out for an image of zeros?",
    "one-bias-for-all": "All the channels get the same number. How many biases are there?",
    "biases-joined": "Each channel gets the sum of all biases. Which one is its own?",
    "bias-added-twice": "The bias is added more than once. Where does it come in?",
    "padding-forgotten": "The border is missing. Which of the two steps looks at the image's edge?",
    "padding-on-one-side": "Two sides of the map have a border, and two have none. How many ends has a row?",
    "padding-not-zeros": "Inside all is right, at the edge it is not. What stands in the border?",
    "stride-forgotten": "The patches lie one pixel apart. Which argument says how far they should?",
    "map-with-gaps": "The right numbers stand a step apart, with zeros between them. How large is the map of patches?",
    "rows-guessed": "Where the stride divides the height it runs, and elsewhere it does not. How many rows of patches "
    "are there in general?",
    "kernel-and-stride-exchanged": "Which number says how large a patch is, and which how far apart two begin?",
    "map-not-rebuilt": "The patches still stand in one long row. How many rows and columns did they come from?",
    "channels-left-last": "The tokens have their channels last. Which axes have to change places before they become "
    "a map?",
    "height-and-width": "In which order do the patches stand: row by row, or column by column?",
    "square-only": "Square images work, others do not. Which number is guessed that could be computed?",
    "convolution-used": "The exercise asks for no convolution over windows. What else multiplies each column by a "
    "matrix?",
    "one-picture-only": "The batch has come out shorter than it went in. Which axis got lost?",
    "argument-fixed": "It is right for one kind of patch and not for another. Which number is written down?",
    "patches-do-not-overlap": "The patches lie side by side. Which argument says how far apart two begin?",
    "rows-miscounted": "All the patches are there, in another number of rows. How many windows fit from top to bottom?",
    "columns-reshaped": "The numbers of the patches were dealt out anew. Which two axes should change places instead?",
    "channels-alike": "Each channel is multiplied by the same window. How many windows has one row of the weight?",
    "bias-otherwise": "Only what is added to each channel is not right. What happens to the bias on its way?",
    "weights-scaled": "The bias is right, and all products are off by one factor. Where does it come in?",
    "weights-changed": "Twice the weight does not give twice the result, the bias aside. What happens to the weight?",
    "not-linear": "Twice the image does not give twice the result, the bias aside. Which step is not linear?",
}
EMBED_CASES = ((3, 6, 7, 4, 3, 20, 31), (4, 6, 3, 2, 1, 11, 8), (2, 7, 5, 3, 1, 13, 23), (3, 5, 4, 4, 0, 9, 21))
"""dim_in, dim_out, kernel, stride, padding, H, W."""


class _Convolutions(TorchDispatchMode):
    """Notes whether a convolution with a window larger than one pixel is called."""

    def __init__(self) -> None:
        super().__init__()
        self.largest = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if "convolution" in str(func):
            self.largest = max(self.largest, *args[1].shape[2:])
        return func(*args, **(kwargs or {}))


@exercise("embed", EMBED_HINTS)
def embed(look: Look, answer: Any) -> None:
    """Check `embed(x, weight, bias, stride, padding)`: what a convolution computes, by unfolding and one matrix."""
    look.exists(answer)
    for number, (dim_in, dim_out, kernel, stride, padding, height, width) in enumerate(EMBED_CASES):
        x, weight = random(2, dim_in, height, width), random(dim_out, dim_in, kernel, kernel, seed=1) / kernel
        bias = random(dim_out, seed=2)
        args = (x, weight, bias, stride, padding)
        told = f"embed({tuple(x.shape)}, weight {tuple(weight.shape)}, bias, stride={stride}, padding={padding})"
        before = [tensor.clone() for tensor in args[:3]]
        with _Convolutions() as used:
            made = look.attempt(answer, *args, told=told)
        if any(not torch.equal(a, b) for a, b in zip(before, args[:3])):
            look.wrong("changes-input", f"After {told} the tensors that went in hold other numbers.")
        if isinstance(made, Failure):
            _embed_failed(look, answer, made, args, number)
        yours = look.output(answer, *args, told=told)
        if number:
            _fixed(look, yours, args)
        _embedded(look, yours, args, told, answer)
        if used.largest > 1:
            look.wrong("convolution-used", f"A convolution with a window of {used.largest} was called.")
        if not number:
            look.side_effects(answer, *args)
            look.pictures_apart(lambda images: answer(images, *args[1:]), x)  # noqa: B023 called at once
        look.done(f"{kernel}×{kernel}, stride {stride}, padding {padding}")
    _embed_gradient(look, answer, args)


Embedding = tuple[torch.Tensor, torch.Tensor, torch.Tensor, int, int]


def _embed_failed(look: Look, answer: Any, failure: Failure, args: Embedding, number: int) -> None:
    """It raises: where it does not on a square map, the height is guessed."""
    x, weight, bias, stride, padding = args
    kernel = weight.shape[-1]
    if _works_on_a_square(look, answer, args):
        look.wrong("square-only", f"With a map of {x.shape[2]}×{x.shape[3]}: {failure}")
    square = random(2, x.shape[1], 4 * stride + kernel, 4 * stride + kernel)
    made = look.attempt(answer, square, weight, bias, stride, 0)
    if isinstance(made, torch.Tensor) and made.dim() == 4 and made.dtype == torch.float64:
        _embedded(look, made, (square, weight, bias, stride, 0), "a square map")
    whole = random(2, x.shape[1], 6 * stride, 5 * stride)
    made = look.attempt(answer, whole, *args[1:])
    if isinstance(made, torch.Tensor) and close(made, F.conv2d(whole, *args[1:])):
        look.wrong("rows-guessed", f"With a map of {x.shape[2]}×{x.shape[3]} and stride {stride}: {failure}")
    if number:
        look.wrong("argument-fixed", f"With a window of {kernel}, stride {stride}, padding {padding}: {failure}")


def _fixed(look: Look, yours: torch.Tensor, args: Embedding) -> None:
    """From the second case on: whether a number of the first case was used."""
    x, weight, bias, stride, padding = args
    if yours.shape == F.conv2d(x, weight, bias, stride, padding).shape:
        return
    for s, p in ((4, padding), (stride, 3), (4, 3), (stride, weight.shape[-1] // 2)):
        if (s, p) != (stride, padding) and yours.shape == F.conv2d(x, weight, bias, s, p).shape:
            look.wrong("argument-fixed", f"The result {tuple(yours.shape)} is that of stride {s} and padding {p}.")


def _works_on_a_square(look: Look, answer: Any, args: Embedding) -> bool:
    x, weight, bias, stride, padding = args
    for side in x.shape[2:]:
        square = random(2, x.shape[1], side, side)
        made = look.attempt(answer, square, weight, bias, stride, padding)
        target = F.conv2d(square, weight, bias, stride, padding)
        if not isinstance(made, torch.Tensor) or made.shape != target.shape or not close(made.detach(), target):
            return False
    return True


def _embedded(look: Look, yours: torch.Tensor, args: Embedding, told: str, answer: Any = None) -> None:
    """The shape, then the values."""
    x, weight, bias, stride, padding = args
    target = F.conv2d(x, weight, bias, stride, padding)
    if yours.shape != target.shape:
        seen = f"{told} gave the shape {tuple(yours.shape)}; expected is {tuple(target.shape)}."
        _embedded_shape(look, yours, args, seen)
        if answer is not None and _works_on_a_square(look, answer, args):
            look.wrong("square-only", f"{seen} A square map comes out right.")
        _rows(look, yours, args, seen)
    look.shape(yours, target.shape, told)
    if close(yours, target, 1e-11):
        return
    if padding and not close(yours, target):
        _border(look, yours, target, args)
    _matrices(look, yours, target, args)
    _otherwise(look, yours, args, told, answer)


def _embedded_shape(look: Look, yours: torch.Tensor, args: Embedding, seen: str) -> None:
    """Whether the shape is the one that a known mistake gives."""
    x, weight, bias, stride, padding = args
    outputs, kernel = weight.shape[0], weight.shape[-1]
    target = F.conv2d(x, weight, bias, stride, padding)
    height, width = target.shape[2:]
    exchanged = tuple(_size(n, stride, kernel, padding) for n in x.shape[2:])
    shapes: list[tuple[str, Sequence[int]]] = [
        ("map-not-rebuilt", (2, outputs, height * width)),
        ("map-not-rebuilt", (2, height * width, outputs)),
        ("channels-left-last", (2, height, width, outputs)),
        ("one-picture-only", (1, *target.shape[1:])),
        ("one-picture-only", target.shape[1:]),
        ("one-picture-only", (outputs, height * width)),
        ("stride-forgotten", F.conv2d(x, weight, bias, 1, padding).shape),
        ("patches-do-not-overlap", F.conv2d(x, weight, bias, kernel, padding).shape),
        ("kernel-and-stride-exchanged", (2, outputs, *exchanged)),
    ]
    if padding:
        shapes.append(("padding-forgotten", F.conv2d(x, weight, bias, stride).shape))
        shapes.append(("padding-on-one-side", F.conv2d(F.pad(x, (padding, 0, padding, 0)), weight, bias, stride).shape))
    if yours.dim() == 4 and yours.count_nonzero() <= target.numel() and close(yours[..., ::stride, ::stride], target):
        look.wrong("map-with-gaps", seen)
    for kind, shape in shapes:
        if tuple(yours.shape) == tuple(shape):
            look.wrong(kind, seen)


def _rows(look: Look, yours: torch.Tensor, args: Embedding, seen: str) -> None:
    """A map of the right number of patches, or of all that begin one pixel apart, in other rows and columns."""
    x, weight, bias, stride, padding = args
    target, dense = (F.conv2d(x, weight, bias, step, padding) for step in (stride, 1))
    if yours.dim() != 4 or yours.shape[:2] != target.shape[:2]:
        return
    if yours.numel() == dense.numel():
        look.wrong("stride-forgotten", seen)
    if yours.numel() == target.numel() and sorted(yours.shape) != sorted(target.shape):
        look.wrong("rows-miscounted", seen)


def _otherwise(look: Look, yours: torch.Tensor, args: Embedding, told: str, answer: Any) -> None:
    """The values of known mistakes; then whether the bias alone is another one, and whether all else is linear."""
    x, weight, bias, stride, padding = args
    target, added = F.conv2d(x, weight, bias, stride, padding), bias[:, None, None]
    flat, plain = target.flatten(2), (target - added).flatten(2)
    turned = flat.unflatten(2, target.shape[:1:-1]).transpose(2, 3)
    candidates: list[tuple[str, torch.Tensor]] = [
        ("bias-forgotten", target - added),
        ("bias-added-twice", target + added),
        ("one-bias-for-all", target - added + bias[0]),
        ("biases-joined", target - added + bias.sum()),
        ("channels-left-last", flat.transpose(1, 2).reshape(target.shape)),
        ("channels-left-last", plain.transpose(1, 2).reshape(target.shape) + added),
        ("columns-reshaped", _reshaped_columns(args) + added),
        ("height-and-width", turned),
    ]
    if not close(yours, target):
        for kind, candidate in candidates:
            if close(yours, candidate):
                look.wrong(kind, f"The result is the one that this mistake gives, to the last digits ({told}).")
        if close(yours, target + (yours - target)[:1, :, :1, :1]):
            look.wrong("bias-otherwise", "The result is the target, and another number for each channel.")
        share = float(((yours - added) * (target - added)).sum() / (target - added).square().sum())
        if close(yours - added, share * (target - added)):
            look.wrong("weights-scaled", f"Every number without the bias is {share:.4g} times the target.")
        _linear(look, answer, args)
    look.values(yours, target, at=told)
    look.wrong("close-but-not-equal", f"{told}: the numbers differ behind the seventh digit.")


def _linear(look: Look, answer: Any, args: Embedding) -> None:
    """End where the result is not linear in the image or in the weight, the bias aside."""
    for kind, place in (("not-linear", 0), ("weights-changed", 1)):
        scaled = [[factor * v if i == place else v for i, v in enumerate(args)] for factor in (0, 1, -2)]  # type: ignore[operator]
        outputs = [look.attempt(answer, *given) for given in scaled] if answer else []
        if outputs and all(isinstance(y, torch.Tensor) and y.shape == outputs[1].shape for y in outputs):
            nothing, once, twice = (y.detach() for y in outputs)
            if not close(twice - nothing, -2 * (once - nothing)):
                look.wrong(kind, "f(−2x) − f(0) is not −2 (f(x) − f(0)).")


def _border(look: Look, yours: torch.Tensor, target: torch.Tensor, args: Embedding) -> None:
    """What stands around the map, if not zeros."""
    x, weight, bias, stride, padding = args
    for mode in ("replicate", "reflect", "circular"):
        if close(yours, F.conv2d(F.pad(x, (padding,) * 4, mode=mode), weight, bias, stride)):
            look.wrong("padding-not-zeros", f"In the border the image goes on ({mode}).")
    rim = -(-padding // stride)  # places whose windows reach over the edge
    inside = (slice(None), slice(None), slice(rim, -rim), slice(rim, -rim))
    if yours[inside].numel() and close(yours[inside], target[inside]):
        look.wrong("padding-not-zeros", "Inside the values are right, at the edge they are not.")


def _reshaped_columns(args: Embedding) -> torch.Tensor:
    """The result without its bias, where the columns are reshaped into rows and not transposed."""
    x, weight, bias, stride, padding = args
    columns = F.unfold(x, weight.shape[-1], stride=stride, padding=padding)
    rows = columns.reshape(len(x), columns.shape[2], columns.shape[1])
    return (rows @ weight.flatten(1).T).mT.reshape(F.conv2d(x, weight, bias, stride, padding).shape)


def _matrices(look: Look, yours: torch.Tensor, target: torch.Tensor, args: Embedding) -> None:
    """The weight, flattened in other orders: with the bias, and without."""
    x, weight, bias, stride, padding = args
    if close(yours, target):
        return
    columns = F.unfold(x, weight.shape[-1], stride=stride, padding=padding)
    outputs = len(weight)
    for kind, matrix in (
        ("window-first", weight.permute(0, 2, 3, 1).reshape(outputs, -1)),
        ("window-first", weight.permute(0, 3, 2, 1).reshape(outputs, -1)),
        ("rows-and-columns", weight.transpose(2, 3).flatten(1)),
        ("rows-and-columns", weight.flip(2).flatten(1)),
        ("rows-and-columns", weight.flip(3).flatten(1)),
        ("windows-turned", weight.flip(2, 3).flatten(1)),
        ("windows-turned", weight.flip(1, 2, 3).flatten(1)),
        ("weights-shuffled", weight.reshape(-1, outputs).T),
        ("weights-shuffled", weight.permute(1, 2, 3, 0).reshape(outputs, -1)),
        ("weights-shuffled", weight.permute(1, 0, 2, 3).reshape(outputs, -1)),
        ("weights-shuffled", weight.permute(2, 3, 1, 0).reshape(outputs, -1)),
        ("channels-alike", weight.mean(1, keepdim=True).expand_as(weight).flatten(1)),
        ("channels-alike", weight.sum(1, keepdim=True).expand_as(weight).flatten(1)),
        ("channels-alike", weight[:, :1].expand_as(weight).flatten(1)),
    ):
        result = (matrix @ columns).reshape(target.shape)
        if close(yours, result + bias[:, None, None]) or close(yours, result):
            look.wrong(kind, "The result is the one that this mistake gives, to the last digits.")


def _embed_gradient(look: Look, answer: Any, args: Embedding) -> None:
    """All three tensors get the gradient of the convolution."""
    x, weight, bias = given = [tensor.clone().requires_grad_() for tensor in args[:3]]
    yours = look.output(answer, *given, *args[3:])
    target = F.conv2d(x, weight, bias, args[3], args[4])
    ways = random(*target.shape, seed=7)
    if not yours.requires_grad:
        look.wrong("no-gradient", "The result is not connected with the input.")
    found = torch.autograd.grad((yours * ways).sum(), given, allow_unused=True)
    wanted = torch.autograd.grad((target * ways).sum(), given)
    for name, gradient, right in zip(("the image", "the weight", "the bias"), found, wanted):
        if gradient is None:
            look.wrong("no-gradient", f"No gradient reaches {name}.")
        if not close(gradient, right):
            look.wrong("wrong-gradient", f"The gradient of {name} is another one.")
    look.done("gradients")


# 5.4

DIMS, DEPTHS, CHANNELS = (5, 3, 7, 4), (2, 1, 3, 2), 2
PATCHES = ((7, 4, 3), (3, 2, 1), (3, 2, 1), (3, 2, 1))
IMAGES = ((96, 64), (45, 70), (61, 33))
"""Sizes of the images; the first one is a multiple of 32."""

LOOP_HINTS = {
    "block-width": "A block works behind the stage's embedding. How many channels has the map there?",
    "too-few-blocks": "Not every stage has as many blocks as it should. Where does their number come from?",
    "too-many-blocks": "Some blocks are made and not asked for. Where does their number come from?",
    "one-block-repeated": "The same weights are used several times in one stage. Does a list of one thing, repeated, "
    "hold several things?",
    "blocks-made-in-forward": "Blocks are made when an image comes. Where should they be made once?",
    "branch-never-called": "A branch is made and never used. Which one has no line in your loop?",
    "feed-forward-first": "Which of the two branches lets the pixels talk to each other, and which comes first?",
    "branches-sorted": "All of one kind come first, then all of the other. What belongs together in one block?",
    "last-map-only": "The decoder will need the earlier maps too. Where are they kept?",
    "a-map-a-block": "There are more maps than stages. At the end of which loop is a map kept?",
    "too-few-maps": "There are fewer maps than widths. How often does your loop go round?",
    "image-padded": "The maps are those of a larger image. Who adds rows and columns, and is it asked for?",
    "image-among-the-maps": "There is one map too many. Is the image itself a result of a stage?",
    "maps-reversed": "In which order do the maps come: the finest first or last?",
    "same-map-four-times": "All the maps are equal. What does the list hold: maps, or the same name?",
    "maps-kept-too-early": "A map is kept before its blocks have worked on it. Where in the stage is its end?",
    "stages-get-the-image": "What does the second stage look at: the image, or the map of the first?",
    "blocks-skipped": "The next stage gets the embedding of the last one, not what its blocks made. Which name has "
    "the result?",
    "residual-missing": "With branches that answer zero, what should be left of the map?",
    "residual-missing-once": "One of the two branches of a block replaces the map. Which of the two lines has no sum?",
    "residual-twice": "The map is added twice. Which sum does the block make, and which stands beside it?",
    "residual-from-the-beginning": "What is added to the branch's answer: what it was given, or an older map?",
    "branches-in-parallel": "Both branches were given the same map. What should the second one be given?",
    "result-lost": "A branch worked, and nobody kept what it gave. Which name should hold it?",
    "multiplied": "The answer of a branch is not added. Which operation joins it to the map?",
    "norm-at-the-end": "Behind the last sum something changes the scale. Is a norm asked for there?",
    "changed-behind-the-blocks": "Behind the last sum the map is changed once more. By which line?",
    "changed-before-the-branch": "Between two sums the map is changed. What stands between the branches besides a sum?",
    "in-place": "A branch has kept the map for its way back, and then the map became another. Which operation writes "
    "into it?",
    "padding-forgotten": "The maps are too small by a little. Which of the three numbers of a patch has no effect?",
    "kernel-and-stride-exchanged": "Which number says how large a patch is, and which how far apart two begin?",
    "stride-and-padding-exchanged": "How far a patch steps was taken for how wide the border is. In which order does "
    "PyTorch's layer take the two?",
    "same-patches-everywhere": "All stages take the same steps. Which stage has other numbers than the rest?",
    "patches-do-not-overlap": "The patches lie side by side. How large are they, and how far apart do they begin?",
    "stride-forgotten": "A map is as large as the one before. Who makes it smaller?",
    "places-not-alike": "Does every place of the map come from the same weights, and from nothing else?",
    "other-patches": "Compare kernel, stride and padding of each stage with the text. Which is another?",
    "size-guessed": "It works for a multiple of 32 and not for others. Which number is guessed from a root or a "
    "quotient that could be read from the map?",
    "embedding-not-linear": "Between the map and its patches' vectors there should be one linear layer. What else is "
    "there?",
    "embedding-without-bias": "A map of zeros gives zeros. What does an ordinary convolution add?",
    "window-too-small": "Which pixels does one vector depend on: does the window have the side that it should?",
    "window-too-large": "One vector depends on more than its patch. What looks further?",
    "padding-not-zeros": "Inside all is right, at the border it is not. What stands around the map?",
    "parameters": "Count the weights of the four embeddings on paper. Which tensors of yours are more?",
    "grouped": "Each channel of a vector sees some of the channels before, and not all. Which argument of an ordinary "
    "convolution does that?",
    "one-picture-only": "The maps hold fewer pictures than went in. Which line takes one of them?",
    "image-made-smaller": "The maps are those of a smaller image. Who takes rows away, and is it asked for?",
    "no-block-at-all": "A stage may ask for no block. What comes out of it then, and what does yours do?",
    "depth-fixed": "With other depths the number of blocks did not follow. Where is it written down?",
    "width-fixed": "With other widths it cannot be built or run. Which number of channels is written down?",
}


class _Log:
    """What happened: which branches were made, and who was called with what."""

    def __init__(self) -> None:
        self.made: list[_Branch] = []
        self.calls: list[tuple[_Branch, torch.Tensor, torch.Tensor]] = []
        self.instead: dict[int, torch.Tensor] = {}  # for a branch what the map should be behind its sum

    def __deepcopy__(self, memo: Any) -> _Log:
        return self

    def block(self, dim: int) -> tuple[_Branch, _Branch]:
        """Make the two branches of one block."""
        pair = len(self.made)
        both = _Branch(self, dim, "attention", pair), _Branch(self, dim, "feed-forward", pair)
        self.made += both
        return both


class _Branch(nn.Module):
    """In the place of an attention or a Mix-FFN with its norm: keeps the shape, and tells what it was given."""

    def __init__(self, log: _Log, dim: int, kind: str, pair: int) -> None:
        super().__init__()
        self.log, self.dim, self.kind, self.pair = log, dim, kind, pair
        self.weight = nn.Parameter(random(dim, dim, seed=pair + (kind == "attention")))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        wanted = self.log.instead.get(id(self))
        if wanted is not None and wanted.shape == x.shape:
            answer = wanted - x.detach()
        else:
            # like a real branch: its first layer keeps x for the way back, its last one keeps no result
            answer = 1.0 * torch.tanh(F.conv2d(x, self.weight.to(x.dtype)[:, :, None, None]))
        self.log.calls.append((self, x.detach().clone(), answer.detach().clone()))
        return answer


def _sizes(height: int, width: int, patches: Any = PATCHES) -> list[tuple[int, int]]:
    sizes = []
    for kernel, stride, padding in patches:
        height, width = _size(height, kernel, stride, padding), _size(width, kernel, stride, padding)
        sizes.append((height, width))
    return sizes


@exercise("Encoder", LOOP_HINTS)
def encoder_loop(look: Look, answer: Any) -> None:
    """Check `Encoder(channels, dims, num_layers, block)`, a class: an image becomes the list of four maps."""
    look.exists(answer)
    log = _Log()
    module = _built(look, answer, log)
    look.done("constructed")
    images = [random(2, CHANNELS, *size, seed=5) for size in IMAGES]
    made = len(log.made)
    _run(look, module, log, images[0], told="a multiple of 32")
    if len(log.made) > made:
        look.wrong("blocks-made-in-forward", "In `forward`, `block` was called again.")
    look.done("runs, four maps")
    for image in images:
        _sized(look, module, log, image)
    look.done("sizes of the maps, for multiples of 32 and others")
    module_of = {id(part) for part in module.modules()}
    if hidden := sorted({branch.kind for branch, *_ in log.calls if id(branch) not in module_of}):
        look.wrong("layers-in-a-list", f"PyTorch does not find {' and '.join(hidden)} among the parts of the module.")
    for words, part in {
        "blocks": lambda: _blocks(look, module, log, images[1]),
        "no side effects": lambda: look.side_effects(_AllMaps(module), images[1]),
        "sums": lambda: _sums(look, module, log, images[1]),
        "pictures apart": lambda: _effects(look, module, images[1]),
        "gradients": lambda: _loop_gradients(look, module, images[1]),
        "embeddings": lambda: _embeddings(look, module, log, images[1]),
        "number of parameters": lambda: _embedding_weights(look, module),
        "other widths and depths": lambda: _other(look, answer),
    }.items():
        part()
        look.done(words)


def _built(look: Look, answer: Any, log: _Log) -> nn.Module:
    """Construct the class; count the blocks that it asked for."""
    told = f"Encoder(channels={CHANNELS}, dims={DIMS}, num_layers={DEPTHS}, block=…)"
    module = look.construct(answer, CHANNELS, DIMS, DEPTHS, log.block, told=told)
    look.construct(answer, channels=CHANNELS, dims=DIMS, num_layers=DEPTHS, block=_Log().block, told=told)
    if hidden := sorted(set(_buried(module))):
        look.wrong("layers-in-a-list", f"PyTorch does not find what is in {', '.join(f'`{n}`' for n in hidden)}.")
    odd = [branch.dim for branch in log.made if branch.dim not in DIMS]
    if odd:
        look.wrong("block-width", f"A block was made for {odd[0]} channels; the stages have {DIMS}.")
    return module


def _buried(module: nn.Module) -> list[str]:
    """Return the attributes whose lists, however deep, hold modules that the module does not know."""
    known = {id(part) for part in module.modules()}

    def inside(value: Any, depth: int = 0) -> bool:
        if isinstance(value, nn.Module):
            return id(value) not in known
        values = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
        return depth < 5 and any(inside(v, depth + 1) for v in values)

    return [
        name
        for part in module.modules()
        if not isinstance(part, _Branch)
        for name, value in vars(part).items()
        if not name.startswith("_") and inside(value)
    ]


def _run(look: Look, module: nn.Module, log: _Log, image: torch.Tensor, told: str = "") -> list[torch.Tensor]:
    """Run the encoder; return its four maps. Ends where there are not four."""
    log.calls.clear()
    words = f"Encoder.forward(float64 {tuple(image.shape)})"
    made = look.attempt(module, image)
    if isinstance(made, Failure):
        _stopped(look, made, "" if told else words)
        made = look.call(module, image, told=words)
    if made is None or made is Ellipsis:
        look.nothing(type(module).forward, words)
    if isinstance(made, torch.Tensor):
        _one_tensor(look, made, image)
    if not isinstance(made, list | tuple) or not all(isinstance(x, torch.Tensor) for x in made):
        look.wrong("wrong-type", f"{words} gave a {type(made).__name__}; a list of four maps is expected.")
    if len(made) != 4:
        count, again = len(made), look.call(module, image, told=words)
        if isinstance(again, list | tuple) and len(again) != count:
            look.wrong("keeps-state", f"The first call gave {count} maps, the next one {len(again)}.")
        _count_of_maps(look, list(made), image)
    for x in made:
        if x.dtype != torch.float64:
            look.wrong("wrong-dtype", f"float64 went in, {x.dtype} came out.")
        if x.dim() != 4:
            look.wrong("wrong-rank", f"A map has the shape {tuple(x.shape)}.")
        if len(x) < len(image):
            look.wrong("one-picture-only", f"{len(image)} pictures went in; a map has the shape {tuple(x.shape)}.")
    return list(made)


def _stopped(look: Look, failure: Failure, odd: str) -> None:
    """End where it is known what made it fail; ``odd`` is the call, where the image is no multiple of 32."""
    if f"to have {DIMS[0]} channels, but got {CHANNELS} channels" in failure.words:
        look.wrong("stages-get-the-image", f"An embedding of {DIMS[0]} channels was given the image. {failure}")
    if f"but got {CHANNELS} channels" in failure.words:
        look.wrong("width-fixed", f"The first embedding was not made for {CHANNELS} channels. {failure}")
    if "inplace operation" in failure.words or "in-place operation" in failure.words:
        look.wrong("in-place", str(failure))
    if odd:
        look.wrong("size-guessed", f"{odd}: {failure}")


def _one_tensor(look: Look, made: torch.Tensor, image: torch.Tensor) -> NoReturn:
    seen = f"One tensor {tuple(made.shape)} came out; a list of four is expected."
    last = made.dim() == 4 and made.shape[1] == DIMS[-1]
    look.wrong("last-map-only" if last else "wrong-type", seen)


def _count_of_maps(look: Look, maps: list[torch.Tensor], image: torch.Tensor) -> NoReturn:
    seen = f"{len(maps)} maps came out, of the shapes {', '.join(str(tuple(x.shape)) for x in maps)}."
    if len(maps) == 5 and any(x.shape == image.shape for x in maps):
        look.wrong("image-among-the-maps", seen)
    if len(maps) == 1:
        look.wrong("last-map-only", seen)
    if len(maps) > 4:
        look.wrong("a-map-a-block", seen)
    if maps:
        look.wrong("too-few-maps", seen)
    look.wrong("wrong-type", seen)


SIZE_MISTAKES: tuple[tuple[str, Any], ...] = (
    ("padding-forgotten", ((7, 4, 0), (3, 2, 0), (3, 2, 0), (3, 2, 0))),
    ("padding-forgotten", ((7, 4, 0), (3, 2, 1), (3, 2, 1), (3, 2, 1))),
    ("padding-forgotten", ((7, 4, 3), (3, 2, 0), (3, 2, 0), (3, 2, 0))),
    ("kernel-and-stride-exchanged", ((4, 7, 3), (2, 3, 1), (2, 3, 1), (2, 3, 1))),
    ("kernel-and-stride-exchanged", ((4, 7, 3), (3, 2, 1), (3, 2, 1), (3, 2, 1))),
    ("kernel-and-stride-exchanged", ((7, 4, 3), (2, 3, 1), (2, 3, 1), (2, 3, 1))),
    ("stride-and-padding-exchanged", ((7, 3, 4), (3, 1, 2), (3, 1, 2), (3, 1, 2))),
    ("same-patches-everywhere", ((7, 4, 3),) * 4),
    ("same-patches-everywhere", ((3, 2, 1),) * 4),
    ("same-patches-everywhere", ((3, 2, 1), (3, 2, 1), (3, 2, 1), (7, 4, 3))),
    ("patches-do-not-overlap", ((4, 4, 0), (2, 2, 0), (2, 2, 0), (2, 2, 0))),
    ("patches-do-not-overlap", ((7, 7, 0), (3, 3, 0), (3, 3, 0), (3, 3, 0))),
    ("stride-forgotten", ((7, 4, 3), (3, 1, 1), (3, 1, 1), (3, 1, 1))),
    ("stride-forgotten", ((7, 1, 3), (3, 1, 1), (3, 1, 1), (3, 1, 1))),
    ("stride-forgotten", ((7, 1, 3), (3, 2, 1), (3, 2, 1), (3, 2, 1))),
    ("stages-get-the-image", None),
)


def _sized(look: Look, module: nn.Module, log: _Log, image: torch.Tensor) -> None:
    """The shapes of the four maps, or which mistake gives those that came out."""
    height, width = image.shape[2:]
    first = (height, width) == IMAGES[0]
    maps = _run(look, module, log, image, "a multiple of 32" if first else "")
    found, expected = [tuple(x.shape[2:]) for x in maps], _sizes(height, width)
    channels = [x.shape[1] for x in maps]
    seen = f"An image of {height}×{width} became maps of the shapes {', '.join(str(tuple(x.shape)) for x in maps)}."
    seen += f" Expected are {', '.join(f'{h}×{w}' for h, w in expected)}."
    if channels == list(DIMS[::-1]) and found == expected[::-1]:
        look.wrong("maps-reversed", seen)
    if len(set(found)) == 1 and len({id(x) for x in maps}) == 1:
        look.wrong("same-map-four-times", seen)
    if found != expected:
        given = [tuple(x.shape[2:]) for stage in range(4) for _, x, _ in _of_stage(log, stage)[:1]]
        if given == expected and not _exchanged(found, expected):
            look.wrong("changed-behind-the-blocks", f"{seen} The branches were given maps of those sizes.")
        _other_sizes(look, found, (height, width), seen)
        look.wrong("other-patches" if first or not _guessed(found, expected) else "size-guessed", seen)
    if channels != list(DIMS):
        look.wrong("wrong-shape", seen)


def _other_sizes(look: Look, found: list[tuple[int, ...]], sides: tuple[int, int], seen: str) -> None:
    """Which known mistake gives these sizes."""
    for kind, patches in SIZE_MISTAKES:
        if patches is None:
            alone = [tuple(_size(n, *patch) for n in sides) for patch in PATCHES[:3]]
            if found[:3] == alone:
                look.wrong(kind, seen)
        elif found == _sizes(*sides, patches):
            look.wrong(kind, seen)
    if _exchanged(found, _sizes(*sides)):
        look.wrong("axes-exchanged", seen)
    for kind, fit in FITS:
        if found in _fitted(*sides, fit):
            look.wrong(kind, seen)


def _exchanged(found: Sequence[tuple[int, ...]], expected: Sequence[tuple[int, ...]]) -> bool:
    return all(sorted(a) == sorted(b) for a, b in zip(found, expected))


FITS: tuple[tuple[str, Callable[[int], int]], ...] = (
    ("image-padded", lambda n: -(-n // 32) * 32),
    ("image-padded", lambda n: n + n % 2),
    ("image-padded", lambda n: 224),
    ("image-padded", lambda n: 512),
    ("image-made-smaller", lambda n: max(32, n // 32 * 32)),
    ("image-made-smaller", lambda n: max(32, round(n / 32) * 32)),
    ("image-made-smaller", lambda n: n // 2 * 2),
)
"""How a side is brought to another length before the embedding."""


def _fitted(height: int, width: int, fit: Callable[[int], int]) -> list[list[tuple[int, int]]]:
    """The sizes where the image, or the map before each stage, is brought to other sides."""
    each, sides = [], (height, width)
    for patch in PATCHES:
        sides = tuple(_size(fit(n), *patch) for n in sides)  # type: ignore[assignment]
        each.append(sides)
    return [_sizes(fit(height), fit(width)), each]


def _guessed(found: Sequence[tuple[int, ...]], expected: Sequence[tuple[int, ...]]) -> bool:
    """Whether a map has as many pixels as it should, in other rows."""
    return any(a != b and math.prod(a) == math.prod(b) for a, b in zip(found, expected))


def _of_stage(log: _Log, stage: int) -> list[tuple[_Branch, torch.Tensor, torch.Tensor]]:
    return [call for call in log.calls if call[0].dim == DIMS[stage]]


def _blocks(look: Look, module: nn.Module, log: _Log, image: torch.Tensor) -> None:
    """Which branches are called, how often and in which order."""
    _run(look, module, log, image)
    used = {id(branch) for branch, *_ in log.calls}
    for stage, depth in enumerate(DEPTHS):
        calls = [branch for branch, *_ in _of_stage(log, stage)]
        kinds = [branch.kind for branch in calls]
        distinct = len({id(branch) for branch in calls})
        seen = f"Stage {stage + 1} should have {depth} blocks; its branches were called in this order: "
        seen += f"{', '.join(kinds) or 'none'}."
        idle = [b for b in log.made if b.dim == DIMS[stage] and id(b) not in used]
        if set(kinds) != {"attention", "feed-forward"}:
            look.wrong("branch-never-called", seen)
        if distinct < len(calls):
            repeated = distinct <= 2 < len(calls) or len(calls) == 2 * depth
            look.wrong("one-block-repeated" if repeated else "residual-twice", seen)
        if len(calls) < 2 * depth:
            look.wrong("branch-never-called" if idle and _known(module, idle) else "too-few-blocks", seen)
        if len(calls) > 2 * depth:
            look.wrong("too-many-blocks", seen)
        if kinds[0] == "feed-forward":
            look.wrong("feed-forward-first", seen)
        if kinds != ["attention", "feed-forward"] * depth:
            look.wrong("branches-sorted", seen)
    order = [DIMS.index(branch.dim) for branch, *_ in log.calls]
    if order != sorted(order):
        look.wrong("stages-get-the-image", f"The stages work in the order {order}.")


def _known(module: nn.Module, branches: list[_Branch]) -> bool:
    known = {id(part) for part in module.modules()}
    return any(id(branch) in known for branch in branches)


def _sums(look: Look, module: nn.Module, log: _Log, image: torch.Tensor) -> None:
    """What each branch was given: the sum of what the one before was given and what it answered."""
    maps = [x.detach() for x in _run(look, module, log, image)]
    lone: list[tuple[str, str]] = []  # the branches whose answer replaces the map
    for stage, target in enumerate(maps):
        calls = _of_stage(log, stage)
        places = [*(given for _, given, _ in calls), target]
        for number in range(len(calls)):
            _one_sum(look, calls, places, number, f"Stage {stage + 1}, block {number // 2}", lone)
    if lone:
        both = len({kind for kind, _ in lone}) == 2
        look.wrong("residual-missing" if both else "residual-missing-once", lone[0][1])
    _next_stage(look, module, log, image)


def _one_sum(
    look: Look, calls: Any, places: list[torch.Tensor], number: int, where: str, lone: list[tuple[str, str]]
) -> None:
    """``places`` is the map before each branch and, as the last one, the map that comes out."""
    branch, given, answered = calls[number]
    then, last = places[number + 1], number == len(calls) - 1
    if then.shape == given.shape and close(then, given + answered):
        return
    what = "the map that comes out" if last else f"what the next branch was given ({calls[number + 1][0].kind})"
    seen = f"{where}: behind the {branch.kind}, {what} "
    if last and any(close(then, earlier) for earlier in places[:number]):
        _early(look, seen, places, then)
    if close(then, answered):
        lone.append((branch.kind, seen + "is its answer alone."))
        return
    if not last and close(then, given):
        both = close(places[number + 2], given + answered + calls[number + 1][2])
        look.wrong("branches-in-parallel" if both else "result-lost", seen + "is what it was given itself.")
    if any(close(then, given + answered + earlier) for earlier in places[:number]):
        look.wrong("residual-twice", seen + "holds an older map too.")
    _joined(look, seen, then, given, answered, places[0], last)


def _early(look: Look, seen: str, places: list[torch.Tensor], then: torch.Tensor) -> NoReturn:
    first = close(then, places[0])
    look.wrong("maps-kept-too-early", seen + ("is what the embedding made." if first else "is an earlier one."))


def _joined(
    look: Look,
    seen: str,
    then: torch.Tensor,
    given: torch.Tensor,
    answered: torch.Tensor,
    start: torch.Tensor,
    last: bool,
) -> NoReturn:
    """A sum that is another one: say which."""
    if then.shape != given.shape:
        look.wrong("changed-behind-the-blocks" if last else "changed-before-the-branch", seen + "has another shape.")
    target = given + answered
    if close(then, given):
        look.wrong("result-lost", seen + "is what the branch itself was given.")
    if close(then, 2 * given + answered) or close(then, given + 2 * answered) or close(then, 2 * target):
        look.wrong("residual-twice", seen + "holds a part twice.")
    if close(then, start + answered) or close(then, start):
        kind = "residual-from-the-beginning" if close(then, start + answered) else "result-lost"
        look.wrong(kind, seen + "holds the map that the stage began with.")
    if close(then, given * answered) or close(then, given - answered):
        look.wrong("multiplied", seen + "is their product or difference.")
    table = differences(then, target)
    kind = "changed-behind-the-blocks" if last else "changed-before-the-branch"
    for axes in ((1,), (1, 2, 3), (0, 2, 3), (2, 3)):
        normed = (target - target.mean(axes, keepdim=True)) / target.std(axes, correction=0, keepdim=True)
        kind = "norm-at-the-end" if last and close(then, normed, 0.02) else kind
    look.wrong(kind, seen + "is not the sum of both.", table)


def _next_stage(look: Look, module: nn.Module, log: _Log, image: torch.Tensor) -> None:
    """The next stage works on the map that the blocks made: change it, and see who notices."""
    for stage in range(3):
        last = _of_stage(log, stage)[-1][0]
        before = _of_stage(log, stage + 1)[0][1]
        shape = _of_stage(log, stage)[-1][1].shape
        log.instead = {id(last): random(*shape, seed=11)}
        _run(look, module, log, image)
        log.instead = {}
        if close(_of_stage(log, stage + 1)[0][1], before):
            look.wrong(
                "blocks-skipped", f"Stage {stage + 2} does not depend on what stage {stage + 1}'s last block gives."
            )


class _AllMaps(nn.Module):
    """The four maps as one tensor."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.cat([x.flatten(1) for x in self.encoder(image)], 1)


def _effects(look: Look, module: nn.Module, image: torch.Tensor) -> None:
    whole = _AllMaps(module)
    look.pictures_apart(whole, image)
    look.same_in_eval(whole, image)


def _loop_gradients(look: Look, module: nn.Module, image: torch.Tensor) -> None:
    """Every weight and the image get a gradient, and nothing was overwritten on the way."""
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            look.wrong("frozen", f"`{name}` does not require a gradient.")
    image = image.clone().requires_grad_()
    maps = look.call(module, image)
    named = [("the image", image), *((f"`{name}`", parameter) for name, parameter in module.named_parameters())]
    total = sum((x * random(*x.shape, seed=3)).sum() for x in maps if x.requires_grad)
    missing = [name for name, _ in named]
    if isinstance(total, torch.Tensor):
        try:
            found = torch.autograd.grad(total, [tensor for _, tensor in named], allow_unused=True)
        except RuntimeError as error:
            look.wrong("in-place" if "inplace" in str(error) else "wrong-gradient", f"backward: {str(error)[:200]}")
        missing = [name for (name, _), gradient in zip(named, found) if gradient is None]
    if missing:
        look.wrong("no-gradient", f"No gradient reaches {', '.join(missing[:6])}.")


def _embeddings(look: Look, module: nn.Module, log: _Log, image: torch.Tensor) -> None:
    """Each embedding is a convolution; with them and the branches all is computed again, for the gradient."""
    convolutions = [_embedding(look, module, log, stage) for stage in range(4)]
    _run(look, module, log, image)
    branches = [[branch for branch, *_ in _of_stage(log, stage)] for stage in range(4)]

    def like(x: torch.Tensor) -> torch.Tensor:
        maps = []
        for (weight, bias), (_, stride, padding), called in zip(convolutions, PATCHES, branches):
            x = F.conv2d(x, weight, bias, stride, padding)
            for branch in called:
                x = x + branch(x)
            maps.append(x.flatten(1))
        return torch.cat(maps, 1)

    whole = _AllMaps(module)
    if not close(look.output(whole, image), like(image), 1e-11):
        look.wrong("close-but-not-equal", "The numbers of the maps differ behind the seventh digit.")
    look.gradients(whole, image, like)


def _embedding(look: Look, module: nn.Module, log: _Log, stage: int) -> tuple[torch.Tensor, torch.Tensor]:
    """One stage's embedding, from the map before it to its first branch: a convolution, read off by a gradient."""
    image = random(1, CHANNELS, 92, 77, seed=4)
    _run(look, module, log, image)
    first = _of_stage(log, stage)[0][0]
    last = _of_stage(log, stage - 1)[-1] if stage else None
    shape = image.shape if last is None else last[1].shape
    kept: list[torch.Tensor] = []
    hook = first.register_forward_pre_hook(lambda _, args: kept.append(args[0]))

    def through(x: torch.Tensor) -> torch.Tensor:
        kept.clear()
        log.instead = {} if last is None else {id(last[0]): x}
        _run(look, module, log, x if last is None else image)
        log.instead = {}
        return kept[0]

    try:
        return _convolves(look, through, shape, stage)
    finally:
        hook.remove()
        log.instead = {}


def _convolves(
    look: Look, through: Callable[[torch.Tensor], torch.Tensor], shape: Sequence[int], stage: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a convolution's weight and bias: the function is linear but for it, and all places are like its middle."""
    _, stride, padding = PATCHES[stage]
    a, b, zero = random(*shape, seed=1), 2 * random(*shape, seed=2), torch.zeros(*shape, dtype=torch.float64)
    nothing, one = through(zero).detach(), through(a).detach()
    seen = f"The embedding of stage {stage + 1}: "
    if not close(through(a + b).detach() + nothing, one + through(b).detach()):
        look.wrong("embedding-not-linear", seen + "f(a + b) − f(a) − f(b) + f(0) is not zero.")
    weight = _window(look, through(x := zero.clone().requires_grad_()), x, stage)
    if not bool(nothing.any()):
        look.wrong("embedding-without-bias", seen + "a map of zeros gives zeros.")
    if not close(nothing, nothing[:, :, 1:2, 1:2].expand_as(nothing)):
        look.wrong("padding-not-zeros", seen + "a map of zeros gives other numbers at the border than inside.")
    target, yours = F.conv2d(a, weight, stride=stride, padding=padding), one - nothing
    if not close(yours, target):
        near = close(yours[:, :, 1:-1, 1:-1], target[:, :, 1:-1, 1:-1])
        look.wrong("padding-not-zeros" if near else "places-not-alike", seen + "the places are not treated alike.")
    return weight, nothing[0, :, 1, 1]


def _window(look: Look, y: torch.Tensor, x: torch.Tensor, stage: int) -> torch.Tensor:
    """Return what the middle of a map sees of the map before: the weight of the convolution (C_out, C_in, K, K)."""
    kernel, stride, padding = PATCHES[stage]
    row, column = y.shape[2] // 2, y.shape[3] // 2
    if not y.requires_grad:
        look.wrong("no-gradient", f"What the first branch of stage {stage + 1} is given is cut off from the image.")
    ways = [
        torch.autograd.grad(y[0, o, row, column], x, retain_graph=True, allow_unused=True)[0] for o in range(len(y[0]))
    ]
    if any(way is None for way in ways):
        look.wrong(
            "no-gradient", f"The map that the embedding of stage {stage + 1} is given is cut off from the image."
        )
    field = torch.cat(ways)
    seen_at = (field.abs().amax((0, 1)) > 1e-12).nonzero()
    (top, left), (bottom, right) = seen_at.amin(0).tolist(), seen_at.amax(0).tolist()
    begins = [row * stride - padding, column * stride - padding]
    sides = bottom - top + 1, right - left + 1
    seen = f"In the embedding of stage {stage + 1} one vector sees rows {top} to {bottom}; expected are {begins[0]} "
    seen += f"to {begins[0] + kernel - 1}."
    if max(sides) > kernel:
        look.wrong("window-too-large", seen)
    if min(sides) < kernel:
        look.wrong("patches-do-not-overlap" if sides == (stride, stride) else "window-too-small", seen)
    if [top, left] != begins:
        look.wrong("other-patches", seen)
    return field[:, :, top : top + kernel, left : left + kernel]


def _embedding_weights(look: Look, module: nn.Module, channels: int = CHANNELS, dims: Sequence[int] = DIMS) -> None:
    """The weights of the four convolutions, and no other."""
    branches = {id(w) for part in module.modules() if isinstance(part, _Branch) for w in part.parameters()}
    rest = [parameter for parameter in module.parameters() if id(parameter) not in branches]
    pairs = zip((channels, *dims), dims, PATCHES)
    expected = sum(kernel**2 * dim_in * dim_out + dim_out for dim_in, dim_out, (kernel, _, _) in pairs)
    count = sum(parameter.numel() for parameter in rest)
    if count != expected:
        shapes = ", ".join(str(tuple(parameter.shape)) for parameter in rest[:9])
        seen = f"Besides the blocks: {count} parameters; {expected} are enough. Their shapes: {shapes}."
        look.wrong("grouped" if count < expected and dims is not DIMS else "parameters", seen)


def _other(look: Look, answer: Any) -> None:
    """Other widths, some of which divide each other, other depths, of which one may be 0, and other channels."""
    channels, dims = 3, (6, 4, 8, 5)
    for depths in ((1, 3, 2, 1), (2, 0, 1, 1)):
        log, told = _Log(), f"Encoder({channels}, {dims}, {depths}, …)"
        width, depth = ("width-fixed", "depth-fixed") if all(depths) else ("no-block-at-all", "no-block-at-all")
        made = look.attempt(answer, channels, dims, depths, log.block)
        if isinstance(made, Failure):
            look.wrong(width, f"{told}: {made}")
        module = look.call(made.double, told="double()")
        log.calls.clear()  # of a module that runs itself when it is made
        maps = look.attempt(module, random(1, channels, 64, 96))
        if isinstance(maps, Failure):
            look.wrong(width, f"{told}, forward: {maps}")
        used = [sum(branch.dim == dim for branch, *_ in log.calls) for dim in dims]
        if [x.shape[1] for x in maps] != list(dims):
            look.wrong(width, f"{told}: the maps have {[x.shape[1] for x in maps]} channels.")
        if used != [2 * depth for depth in depths]:
            look.wrong(depth, f"{told}: branches called a stage: {used}; expected are {[2 * d for d in depths]}.")
        _embedding_weights(look, module, channels, dims)


# 5.5

FAULTS = ("none", "no residual", "shared block", "plain list", "in place", "depth ignored")
_FOUND = {
    "A": ("shared block", "not-the-shared-block"),
    "B": ("none", "nothing-wrong"),
    "C": ("in place", "not-in-place"),
    "D": ("plain list", "not-the-list"),
    "E": ("no residual", "not-the-residual"),
}

predictions(
    "stages",
    title="Five stages",
    quantities=which(_FOUND, FAULTS),
    hints={
        "not-the-shared-block": "How many weights has A, and how many should three branches have?",
        "nothing-wrong": "Set all weights and biases of B to zero, send a map through, and compare. Then count its "
        "weights. What is wrong with it?",
        "not-in-place": "Call backward on the sum of what C gives. What does the message say was modified?",
        "not-the-list": "Ask D for its parameters. How many tensors does it know of?",
        "not-the-residual": "Set all weights and biases of E to zero and send a map through. What should come out?",
    },
)

# Warm-ups

_WINDOWED = torch.arange(35.0).reshape(1, 1, 7, 5)

puzzle_of(
    "patches",
    title="Overlapping patches, one a column",
    target=lambda: F.unfold(_WINDOWED, 3, stride=2),
    wrong={
        "kernel-and-stride-exchanged": (
            lambda: F.unfold(_WINDOWED, 2, stride=3),
            "The patches have two rows and lie three apart. Which number is which?",
        ),
        "stride-forgotten": (
            lambda: F.unfold(_WINDOWED, 3),
            "There are fifteen columns. How far apart should two patches begin?",
        ),
        "border-added": (
            lambda: F.unfold(_WINDOWED, 3, stride=2, padding=1),
            "There are zeros among the numbers. Is a border asked for?",
        ),
        "one-patch-a-row": (
            lambda: F.unfold(_WINDOWED, 3, stride=2).transpose(1, 2),
            "Each patch lies in a row of its own. Should it stand in a column?",
        ),
        "no-overlap": (
            lambda: F.unfold(_WINDOWED, 2, stride=2),
            "No number stands in two patches. How wide is a patch, compared with the step?",
        ),
    },
)

_STEPS = (3, 32, 64, 160, 256)

puzzle_of(
    "steps",
    title="From one width to the next",
    target=lambda: torch.tensor(list(zip(_STEPS[:-1], _STEPS[1:]))),
    wrong={
        "a-fifth-row": (
            lambda: torch.tensor(list(zip(_STEPS, (*_STEPS[1:], _STEPS[-1])))),
            "There are five rows. How many steps lie between five widths?",
        ),
        "not-shifted": (
            lambda: torch.tensor(list(zip(_STEPS, _STEPS))),
            "Each number stands beside itself. Where should the second list begin?",
        ),
        "not-shifted-and-cut": (
            lambda: torch.tensor(list(zip(_STEPS[:-1], _STEPS[:-1]))),
            "Four steps, but from each width to itself. Which of the two lists begins one later?",
        ),
        "out-before-in": (
            lambda: torch.tensor(list(zip(_STEPS[1:], _STEPS[:-1]))),
            "Each step goes backwards. Which number comes in, and which goes out?",
        ),
        "every-second": (
            lambda: torch.tensor(list(zip(_STEPS[::2], _STEPS[1::2]))),
            "The stages do not meet: one must begin where the one before ends. How far apart are your steps?",
        ),
        "two-long-rows": (
            lambda: torch.tensor([_STEPS[:-1], _STEPS[1:]]),
            "All that comes in stands in one row. What should a row hold?",
        ),
        "all-from-the-image": (
            lambda: torch.tensor([(_STEPS[0], width) for width in _STEPS[1:]]),
            "Each stage gets the image. What does the second stage get?",
        ),
        "in-equals-out": (
            lambda: torch.tensor(list(zip(_STEPS[1:], _STEPS[1:]))),
            "A stage gives what it was given. Which width came in before it was changed?",
        ),
        "image-to-image": (
            lambda: torch.tensor([(_STEPS[0], width) for width in _STEPS[:-1]]),
            "The first step leads from the image to the image. At which width should the second list begin?",
        ),
        "last-left-out": (
            lambda: torch.tensor(list(zip(_STEPS[:-2], _STEPS[1:-1]))),
            "One step is missing. Which width does nobody reach?",
        ),
    },
)
