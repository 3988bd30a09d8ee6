"""What the benchmarks measure with: medians of calls in turn, and the peak of memory."""

from __future__ import annotations

import time

import pytest
import torch

from segformer_edu.measure import milliseconds, peak_megabytes


def test_candidates_are_called_in_turn_and_warmed_up():
    calls = []
    times = milliseconds({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, repeats=3, warmups=1)
    assert calls == ["a", "b"] * 4
    assert times.keys() == {"a", "b"}


def test_the_median_is_of_milliseconds():
    pauses = iter([0.0, 0.0, 0.02, 0.2, 0.02])  # two warm-ups; then one call is slow
    took = milliseconds({"sleep": lambda: time.sleep(next(pauses))}, repeats=3)["sleep"]
    assert 20 <= took < 100


def test_repeats_have_to_be_positive():
    with pytest.raises(ValueError, match="repeats is 0"):
        milliseconds({}, repeats=0)


@pytest.mark.parametrize("kept", [1, 3])
def test_the_peak_is_what_is_held_at_once(kept):
    x = torch.zeros(1_000_000)  # 4 MB

    def hold() -> None:
        for _ in range(2):
            results = [x + index for index in range(kept)]
            del results

    assert peak_megabytes(hold) == pytest.approx(4 * kept, rel=0.01)


def test_nothing_held_is_zero():
    assert peak_megabytes(lambda: None) == 0
