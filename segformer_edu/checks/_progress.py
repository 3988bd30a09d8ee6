"""What the capstone's checks take and return: a reader's file or names; how many steps are right, and the next one."""

from __future__ import annotations

import html
import linecache
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import torch

from segformer_edu.checks._result import _CAPTION, _CELL, _TABLE, Result
from segformer_edu.checks.core import Look

MODULE = "my_segformer_as_checked"
"""The name under which a file's code knows itself: not ``__main__``, so what stands under that is not run."""


@dataclass(frozen=True)
class Progress:
    """How far a reader has come.

    Attributes:
        title: what is checked.
        steps: the steps in order, each with the chapter that it belongs to.
        right: how many of them are right; each follows those before it, so the rest was not looked at.
        result: of the first step that is not right yet, or of a file that could not be run; None when all are right.
    """

    title: str
    steps: tuple[tuple[str, int], ...] = field(repr=False)
    right: int
    result: Result | None

    @property
    def outcome(self) -> str:
        """Of the first step that is not right yet, in a ``Result``'s words; "right" when there is none."""
        return "right" if self.result is None else self.result.outcome

    @property
    def count(self) -> str:
        """How many steps are right, in words."""
        return f"{self.right} of {len(self.steps)}"

    def rows(self) -> list[tuple[str, str, str]]:
        """Return for each step how it stands, its name and its chapter."""
        now = [self.outcome if number == self.right else "" for number in range(len(self.steps))]
        now[: self.right] = ["right"] * self.right
        return [(state, name, f"chapter {chapter}") for state, (name, chapter) in zip(now, self.steps)]

    def __str__(self) -> str:
        lines = [f"{self.title}: {self.count}."]
        width = max(len(name) for name, _ in self.steps)
        for number, (state, name, chapter) in enumerate(self.rows(), start=1):
            lines.append(f"{number:3}  {name:{width}}  {chapter:10}  {state}".rstrip())
        return "\n".join([*lines, *(["", str(self.result)] if self.result else [])])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        body = "".join(
            f'<tr><td style="{_CELL}">{number}</td><th scope="row" style="{_CELL}">{html.escape(name)}</th>'
            f'<td style="{_CELL}">{chapter}</td><td style="{_CELL}">{html.escape(state)}</td></tr>'
            for number, (state, name, chapter) in enumerate(self.rows(), start=1)
        )
        caption = f'<caption style="{_CAPTION}">{html.escape(f"{self.title}: {self.count}.")}</caption>'
        found = self.result._repr_html_() if self.result else ""
        return f'<table style="{_TABLE}">{caption}<tbody>{body}</tbody></table>{found}'


def names_of(look: Look, answers: Any) -> dict[str, Any]:
    """Return what a reader's code defines. A file is run for it, everything else is taken as it is."""
    if isinstance(answers, str | Path):
        return run_file(look, Path(answers))
    if isinstance(answers, Mapping):
        return {name: value for name, value in answers.items() if isinstance(name, str)}
    if answers is None or isinstance(answers, int | float | list | tuple | set):
        look.wrong("no-answers", f"A {type(answers).__name__} was given.")
    return dict(vars(answers)) if hasattr(answers, "__dict__") else {}


def run_file(look: Look, path: Path) -> dict[str, Any]:
    """Run a .py file as if it were imported, and return its names."""
    try:
        code = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        look.could_not_run("no-file", f"{path} cannot be read ({type(error).__name__}).")
    module = ModuleType(MODULE)
    module.__file__ = str(path)
    sys.modules[MODULE] = module  # dataclasses look their module up there
    linecache.checkcache(str(path))  # it may have changed since the last check

    def run() -> None:
        exec(compile(code, str(path), "exec"), vars(module))

    with mock.patch.object(torch.autograd, "backward", wraps=torch.autograd.backward) as learn:
        look.call(run, told=f"Running {path.name}")
    if learn.called:
        look.wrong("learns-at-import", f"{path.name} computes gradients of weights when it is imported.")
    return vars(module)
