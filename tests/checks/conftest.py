"""The book's facts about its chapters, where the tests of exercises find them; time without end for checks."""

import sys
from pathlib import Path

import pytest

from segformer_edu.checks import _guard

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "book" / "_extensions"))


@pytest.fixture(autouse=True)
def _patience(monkeypatch):
    """A check may wait: no test fails because the machine is slow. Those of the limit itself set it."""
    monkeypatch.setattr(_guard, "LIMIT", 600.0)
