"""What all tests share: one thread a worker, fixed seeds, a fixed hypothesis profile, the parity figures at the end,
and how often the checks of readers' answers found the right mistake."""

from __future__ import annotations

import os
from collections import Counter

import pytest
import torch
from hypothesis import HealthCheck, settings

# Derandomized, so that a run of CI is the run of everybody else; no deadline, since the two cores are shared.
settings.register_profile(
    "book",
    deadline=None,
    derandomize=True,
    database=None,
    max_examples=20,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("book")

if "PYTEST_XDIST_WORKER" in os.environ:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def pytest_terminal_summary(terminalreporter):
    """Print the worst of every figure that a test recorded with ``record_property("worst …", value)``."""
    figures: dict[str, list[float]] = {}
    for report in terminalreporter.stats.get("passed", []) + terminalreporter.stats.get("failed", []):
        for name, value in report.user_properties:
            if name.startswith("worst ") and report.when == "call":
                figures.setdefault(name, []).append(value)
    if figures:
        terminalreporter.section("recorded figures")
    for name, values in sorted(figures.items()):
        terminalreporter.write_line(f"{name}: {max(values):.3g} (of {len(values)})")
    print_diagnoses(terminalreporter)


def print_diagnoses(terminalreporter):
    """Print what the checks said of each known answer: a row for what it is, a column for what the check found.

    Only what is not zero is written: where every answer gets its own hint, each row holds its own kind alone.
    """
    reports = terminalreporter.stats.get("passed", []) + terminalreporter.stats.get("failed", [])
    found = [value for report in reports for name, value in report.user_properties if name == "diagnosis"]
    if not found:
        return
    terminalreporter.section("answers × what the checks found")
    for exercise in sorted({row[0] for row in found}):
        own = [row for row in found if row[0] == exercise]
        counts = Counter((kind, said) for _, kind, said, _ in own)
        terminalreporter.write_line(
            f"{exercise}: {len(own)} answers, the slowest took {max(row[3] for row in own):.1f} s"
        )
        for kind in sorted({kind for kind, _ in counts}, key=lambda kind: (kind != "right", kind)):
            said = ", ".join(f"{other} {n}" for (real, other), n in sorted(counts.items()) if real == kind)
            terminalreporter.write_line(f"  {kind:28} → {said}")
    wrong = [row for row in found if row[1] != "right"]
    hits = sum(kind == said for _, kind, said, _ in wrong)
    kinds = len({(exercise, kind) for exercise, kind, _, _ in wrong})
    passed = sum(said == "right" for _, _, said, _ in wrong)
    terminalreporter.write_line(
        f"all: {len(wrong)} wrong answers of {kinds} kinds, {hits} with their own hint, {passed} passed; "
        f"{len(found) - len(wrong)} right answers"
    )
