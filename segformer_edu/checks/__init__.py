"""Checks of a reader's own code, which say what went wrong and never how to write it.

``from segformer_edu import checks``, then ``checks.ds_conv2d(DsConv2d)``: each check takes a class, a function or a
value of the reader's and returns a ``Result`` that shows itself. ``dir(checks)`` lists them;
``segformer_edu.checks.core`` says how to add one.
"""

from __future__ import annotations

import importlib
import pkgutil

from segformer_edu.checks.core import EXERCISES, Exercise, Result
from segformer_edu.checks.numbers import predict, puzzle
from segformer_edu.checks.whole import capstone, street

__all__ = ["EXERCISES", "Exercise", "Result", "capstone", "predict", "puzzle", "street"]

for _module in pkgutil.iter_modules(__path__):  # a chapter's checks announce themselves when they are imported
    if not _module.name.startswith("_"):
        importlib.import_module(f"{__name__}.{_module.name}")


def __getattr__(name: str) -> Exercise:
    """Return the check of that name."""
    if name in EXERCISES:
        return EXERCISES[name]
    raise AttributeError(f"segformer_edu.checks has no {name!r}; it has {', '.join(sorted(EXERCISES))}")


def __dir__() -> list[str]:
    return sorted([*__all__, *EXERCISES])
