"""Numbers that a reader predicts, and puzzles of one line: ``checks.predict`` and ``checks.puzzle``."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
import torch

from segformer_edu.checks._result import Result, Table
from segformer_edu.checks.core import Look, close, look_at, relation

__all__ = [
    "PREDICTIONS",
    "PUZZLES",
    "Prediction",
    "Puzzle",
    "Quantity",
    "predict",
    "predictions",
    "puzzle",
    "puzzle_of",
]

WORDS = {
    "not-a-number-yet": "Which type of value, or which words, does the exercise ask for?",
    "entries-missing": "Compare the names of your entries with those of the stub.",
    "macs-doubled": "A multiplication together with its addition is one MAC. What did you count?",
    "swapped": "The number is right for another entry. Which one asks for what?",
    "factor-of-thousand": "The digits are right. In which unit is the number asked for?",
    "per-cent": "Is a fraction asked for, or per cent? How large is the whole then?",
    "not-whole": "Can there be a part of one?",
    "sign-reversed": "Should it grow or shrink? Look at the sign.",
    "inverted": "What is divided by what?",
    "too-large": "Yours is too large. Which factor have you multiplied by that does not belong?",
    "too-small": "Yours is too small. Which factor have you left out, or divided by?",
    "no-such-word": "Which of the listed words do you mean? Is yours written in the same letters?",
    "other-choice": "Try it: which experiment of a line or two decides between the choices?",
}
"""Kinds that every prediction has, and their hints."""


@dataclass(frozen=True)
class Quantity:
    """One thing to predict.

    Attributes:
        value: the right one: a number, a truth value, a word, or a set of words.
        wrong: known wrong values: for each kind one value, or several.
        unit: such as "MACs"; for MACs twice the number is recognised by itself.
        tolerance: the largest relative difference that is right.
        choices: for a word: the words that may be said.
    """

    value: Any
    wrong: Mapping[str, Any] = field(default_factory=dict)
    unit: str = ""
    tolerance: float = 1e-9
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Prediction:
    """What ``predict`` knows under a name.

    Attributes:
        name: for ``predict``.
        title: in the result's words.
        quantities: by the names of a dict's entries; a single one, named "", where a value alone is asked for.
        hints: for each kind of the quantities' wrong values.
    """

    name: str
    title: str
    quantities: Mapping[str, Quantity]
    hints: Mapping[str, str]


@dataclass(frozen=True)
class Puzzle:
    """What ``puzzle`` knows under a name.

    Attributes:
        name: for ``puzzle``.
        title: in the result's words.
        target: makes the tensor that is asked for.
        wrong: for each known mistake what makes its tensor, or a list of tensors.
        hints: for each of them its hint.
    """

    name: str
    title: str
    target: Callable[[], torch.Tensor]
    wrong: Mapping[str, Callable[[], Any]]
    hints: Mapping[str, str]


PREDICTIONS: dict[str, Prediction] = {}
"""Every prediction that a chapter asks for, by its name."""
PUZZLES: dict[str, Puzzle] = {}
"""Every puzzle, by its name."""


def predictions(
    name: str, title: str, quantities: Mapping[str, Quantity] | Quantity, hints: Mapping[str, str] | None = None
) -> Prediction:
    """Define what ``predict(name, …)`` asks for; ``hints`` has a hint for each kind in the quantities' ``wrong``."""
    quantities = {"": quantities} if isinstance(quantities, Quantity) else dict(quantities)
    PREDICTIONS[name] = Prediction(name, title, quantities, dict(hints or {}))
    return PREDICTIONS[name]


def which(found: Mapping[str, Sequence[str]], choices: tuple[str, ...]) -> dict[str, Quantity]:
    """Return what is asked of several things, of each of which one of the same words is true.

    Args:
        found: for each thing the word that is true of it, the kind of mistake that any other word is, and what else is
            known of it.
        choices: the words.
    """
    return {
        name: Quantity(word, {kind: tuple(other for other in choices if other != word)}, choices=choices)
        for name, (word, kind, *_) in found.items()
    }


def puzzle_of(
    name: str,
    title: str,
    target: Callable[[], torch.Tensor],
    wrong: Mapping[str, tuple[Callable[[], Any], str]] | None = None,
) -> Puzzle:
    """Define a puzzle; ``wrong`` has, for each kind of mistake, what makes its tensor, or several, and its hint."""
    wrong = wrong or {}
    makers, hints = {kind: made for kind, (made, _) in wrong.items()}, {kind: hint for kind, (_, hint) in wrong.items()}
    PUZZLES[name] = Puzzle(name, title, target, makers, hints)
    return PUZZLES[name]


def predict(name: str, value: Any) -> Result:
    """Check what a reader predicts.

    Args:
        name: of the prediction, as the chapter says it.
        value: a number (Python's, NumPy's or a tensor of one), or a dict of them, or what else the stub has.

    Raises:
        KeyError: there is no prediction of that name.
    """
    if name not in PREDICTIONS:
        raise KeyError(f"no prediction is called {name!r}; there are {', '.join(sorted(PREDICTIONS))}")
    asked = PREDICTIONS[name]
    return look_at(asked.title, {**WORDS, **asked.hints}, lambda look: _predict(look, asked, value))


def _predict(look: Look, asked: Prediction, value: Any) -> None:
    given = {"": value} if list(asked.quantities) == [""] else value
    if given is None or given is Ellipsis:
        look.not_written()
    if not isinstance(given, Mapping):
        look.wrong("wrong-type", f"A {type(value).__name__} was given; a dict with the stub's names is expected.")
    if set(given) != set(asked.quantities):
        missing, more = set(asked.quantities) - set(given), set(map(str, given)) - set(asked.quantities)
        look.wrong("entries-missing", f"Missing: {sorted(missing) or 'none'}; unknown: {sorted(more) or 'none'}.")
    nothing = {
        entry: "none" for entry, asks in asked.quantities.items() if given[entry] is None and "none" in asks.choices
    }
    given = {**given, **nothing}  # None for the word "none"
    empty = [entry for entry in asked.quantities if given[entry] is None or given[entry] is Ellipsis]
    for entry, quantity in asked.quantities.items():
        if entry not in empty:
            _one(look, asked, entry, quantity, plain(given[entry]))
            look.done(entry or "the number")
    if empty:
        look.not_written(", ".join(empty))


def _one(look: Look, asked: Prediction, entry: str, quantity: Quantity, value: Any) -> None:
    """End where one value is not the right one."""
    at = f"{entry}: {value!r}" if entry else repr(value)
    if not isinstance(quantity.value, bool | int | float):
        _word(look, quantity, value, at)
        return
    if isinstance(quantity.value, bool) != isinstance(value, bool) or not isinstance(value, bool | int | float):
        wanted = "True or False" if isinstance(quantity.value, bool) else "a number"
        look.wrong("not-a-number-yet", f"{at}: {wanted} is expected.")
    if matches(value, quantity.value, quantity.tolerance):
        return
    known = [
        (abs(value - candidate), kind)
        for kind, values in quantity.wrong.items()
        for candidate in (values if isinstance(values, tuple) else (values,))
        if matches(value, candidate, max(quantity.tolerance, 1e-6))
    ]
    if known:
        look.wrong(min(known, key=lambda pair: pair[0])[1], f"{at} is what this mistake gives.")
    kind, seen = _how(quantity, value, asked)
    look.wrong(kind, f"{at}{seen}")


def _how(quantity: Quantity, value: Any, asked: Prediction) -> tuple[str, str]:
    """Return how a wrong number relates to the right one: a kind, and words."""
    if isinstance(quantity.value, bool):
        return "other-choice", " is not what happens."
    target, others = quantity.value, [other.value for other in asked.quantities.values()]
    if not math.isfinite(value):
        return "not-a-number", " is no number."
    if any(isinstance(o, int | float) and o != target and matches(value, o, 1e-9) for o in others):
        return "swapped", " is the answer to another entry."
    if target and matches(value, -target, 1e-6):
        return "sign-reversed", " has the wrong sign."
    if quantity.unit.endswith("MACs") and matches(value, 2 * target, 1e-6):
        return "macs-doubled", " is twice the number."
    if isinstance(target, float) and 0 < target <= 1 and matches(value, 100 * target, max(quantity.tolerance, 1e-3)):
        return "per-cent", " is a hundred times too large."
    if target and any(matches(value, target * 10.0**power, 1e-3) for power in (-9, -6, -3, 3, 6, 9)):
        return "factor-of-thousand", " has the right digits."
    if target and target not in (1, -1) and value and matches(1 / value, target, 1e-3):
        return "inverted", " is the inverse."
    if isinstance(target, int) and value != int(value) and abs(value - target) < 1:
        return "not-whole", " is close to it."
    return ("too-large", " is too large.") if value > target else ("too-small", " is too small.")


def _word(look: Look, quantity: Quantity, value: Any, at: str) -> None:
    """End where a word, or a set of words, is not the right one."""
    many = isinstance(quantity.value, frozenset | set)
    if many and isinstance(value, list | tuple | set | frozenset):
        value = frozenset(normal(word) for word in value)
        unknown = value - {normal(word) for word in quantity.choices}
    else:
        value = normal(value)
        unknown = {value} - {normal(word) for word in quantity.choices} if not many else {value}
    if unknown:
        words, known = all(isinstance(word, str) for word in unknown), ", ".join(map(repr, quantity.choices))
        if words and not many:
            look.wrong("no-such-word", f"{at} is none of the words {known}.")
        look.wrong(
            "no-such-word" if words else "not-a-number-yet", f"{at}: expected {'some' if many else 'one'} of {known}."
        )
    target = frozenset(normal(word) for word in quantity.value) if many else normal(quantity.value)
    if value == target:
        return
    for kind, candidates in quantity.wrong.items():
        for candidate in candidates if isinstance(candidates, tuple) else (candidates,):
            if (normal(candidate) in value ^ target) if many else (normal(candidate) == value):
                look.wrong(kind, f"{at} is not what happens.")
    look.wrong("other-choice", f"{at} is not what happens.")


def matches(value: float, target: float, tolerance: float) -> bool:
    """Whether a number is the other one, up to a relative difference."""
    return math.isclose(value, target, rel_tol=tolerance, abs_tol=1e-12)


def normal(word: Any) -> Any:
    """Return a word in small letters, without hyphens and spaces around it; anything else as it is."""
    return " ".join(word.lower().replace("-", " ").split()) if isinstance(word, str) else word


def plain(value: Any) -> Any:
    """Return a Python number for one of NumPy's, for a tensor or an array of one element; anything else as it is."""
    if isinstance(value, np.ndarray | np.generic) and value.size == 1:
        return value.item()
    if isinstance(value, torch.Tensor) and value.numel() == 1:
        return value.item()
    if isinstance(value, numbers.Rational) and not isinstance(value, bool | int):
        return value.numerator if value.denominator == 1 else float(value)
    return value


def puzzle(name: str, yours: Any) -> Result:
    """Check a warm-up: show the target beside yours, with its numbers.

    Args:
        name: of the puzzle, as the chapter says it.
        yours: a tensor; an array or a list of numbers will do.

    Raises:
        KeyError: there is no puzzle of that name.
    """
    if name not in PUZZLES:
        raise KeyError(f"no puzzle is called {name!r}; there are {', '.join(sorted(PUZZLES))}")
    asked = PUZZLES[name]
    target = asked.target()
    shown: list[torch.Tensor] = []
    result = look_at(asked.title, asked.hints, lambda look: _puzzle(look, asked, target, yours, shown))
    return Result(**{**vars(result), "table": beside(target, *shown)})


def _puzzle(look: Look, asked: Puzzle, target: torch.Tensor, yours: Any, shown: list[torch.Tensor]) -> None:
    if yours is None or yours is Ellipsis:
        look.not_written()
    if isinstance(yours, Iterator):  # such as a zip that nobody has unrolled
        yours = look.call(list, islice(yours, 1000), told="list(yours)")
        if not yours:
            look.wrong("wrong-type", "Nothing comes out of it. Has it been gone through already?")
    if isinstance(yours, list | tuple) and _has_words(yours):
        look.wrong("wrong-type", "There are words in it; numbers are expected.")
    if isinstance(yours, list | tuple) and any(isinstance(part, torch.Tensor) and part.dim() for part in yours):
        look.wrong("wrong-type", f"A {type(yours).__name__} of {len(yours)} tensors was given; one tensor is expected.")
    if isinstance(yours, list | tuple | int | float | np.ndarray | np.generic):
        yours = look.call(torch.as_tensor, yours, told="torch.as_tensor(yours)")
    if not isinstance(yours, torch.Tensor):
        look.wrong("wrong-type", f"A {type(yours).__name__} was given; a tensor is expected.")
    if yours.is_complex():
        look.wrong("wrong-dtype", "The numbers are complex.")
    yours = look.call(yours.detach().double, told="yours.double()")
    shown.append(yours)
    if not close(yours, target.double()):
        made = {kind: made() for kind, made in asked.wrong.items()}
        several = {kind: some if isinstance(some, list) else [some] for kind, some in made.items()}
        _puzzled(look, yours, target, [(kind, each) for kind, some in several.items() for each in some])
    look.done("shape")
    look.done("numbers")


def _has_words(values: Any) -> bool:
    return isinstance(values, str) or (isinstance(values, list | tuple) and any(map(_has_words, values)))


def _puzzled(look: Look, yours: torch.Tensor, target: torch.Tensor, wrong: list[tuple[str, torch.Tensor]]) -> None:
    """End with the mistake that gives these numbers, or this shape, or with how the numbers relate to the target."""
    right_shape = yours.shape == target.shape
    if right_shape:
        look.done("shape")
    for kind, made in wrong:
        if made.shape == yours.shape and close(yours, made.double()):
            look.wrong(kind, "The numbers are those that this mistake gives.")
    if not right_shape:
        look.shape(yours, target.shape, wrong={kind: made.shape for kind, made in wrong if made.shape != target.shape})
    kind, seen = relation(yours, target.double())
    look.wrong(kind, f"{seen}.")


def beside(target: torch.Tensor, yours: torch.Tensor | None = None) -> Table:
    """Return the numbers of the target beside yours, the last axis as one row."""

    def lines(tensor: torch.Tensor | None) -> list[str]:
        if tensor is None or not tensor.numel() or tensor.dim() > 6:
            return []
        flat = tensor.reshape(-1, tensor.shape[-1] if tensor.dim() else 1)
        return [" ".join(f"{number:g}" for number in row) for row in flat[:24, :24].tolist()]

    left, right = lines(target.double()), lines(yours)
    rows = max(len(left), len(right))
    index = [str(tuple(int(i) for i in place)) for place in np.ndindex(*target.shape[:-1])] + [""] * rows
    left, right = left + [""] * (rows - len(left)), (right + ["…"] * rows)[:rows]
    return Table("Target beside yours", ("place", "target", "yours"), tuple(zip(index[:rows], left, right)))
