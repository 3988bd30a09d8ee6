"""Right and wrong answers to the exercises, as code. One file a chapter, in `tests/checks/answers/`:

    @right("ds_conv2d", "nn.Linear on tokens")
    class Tokens(nn.Module): ...

    @wrong("ds_conv2d", "groups-forgotten")          # the exercise's name, and the kind that the check must find
    class Dense(nn.Module): ...

    right_value("costs", "NumPy", {...})             # for predict and puzzle, and for answers that are no definitions
    wrong_value("costs", "macs-doubled", {...})

`outcome=` names another outcome than "not yet right", mostly "could not run"; `remark=True` a right answer that is told
something besides.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from segformer_edu import checks
from segformer_edu.checks.numbers import PREDICTIONS, PUZZLES

FOLDER = Path(__file__).with_name("answers")


@dataclass(frozen=True)
class Answer:
    """An answer, and what the check of its exercise should say."""

    exercise: str
    kind: str
    style: str
    value: Any
    outcome: str
    remark: bool = False

    def __str__(self) -> str:
        return f"{self.exercise}-{self.kind or 'right'}-{self.style}".replace(" ", "_")


ANSWERS: list[Answer] = []


def right(exercise: str, style: str, remark: bool = False):
    """Announce a right answer."""

    def announce(value):
        right_value(exercise, style, value, remark)
        return value

    return announce


def wrong(exercise: str, kind: str, outcome: str = "not yet right"):
    """Announce a wrong answer."""

    def announce(value):
        wrong_value(exercise, kind, value, getattr(value, "__name__", ""), outcome)
        return value

    return announce


def right_value(exercise: str, style: str, value: Any, remark: bool = False) -> None:
    ANSWERS.append(Answer(exercise, "", style, value, "right", remark))


def wrong_value(exercise: str, kind: str, value: Any, style: str = "", outcome: str = "not yet right") -> None:
    ANSWERS.append(Answer(exercise, kind, style or str(len(ANSWERS)), value, outcome))


@cache
def answers() -> list[Answer]:
    """Every answer of every chapter."""
    for path in sorted(FOLDER.glob("*.py")):
        spec = importlib.util.spec_from_file_location(f"answers_{path.stem}", path)
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
    return ANSWERS


def check(exercise: str, value: Any) -> checks.Result:
    """Check an answer to the exercise of that name."""
    if exercise in PREDICTIONS:
        return checks.predict(exercise, value)
    if exercise in PUZZLES:
        return checks.puzzle(exercise, value)
    return checks.EXERCISES[exercise](value)


def hints_of(exercise: str) -> dict[str, str]:
    """The hints of an exercise's own kinds."""
    return dict({**checks.EXERCISES, **PREDICTIONS, **PUZZLES}[exercise].hints)
