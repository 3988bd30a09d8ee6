"""What all tests share: one thread a worker, fixed seeds, a fixed hypothesis profile, the parity figures at the end."""

from __future__ import annotations

import os

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
