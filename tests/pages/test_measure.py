"""What the benchmarks measure with: medians of calls in turn, the peak of memory, page faults; and one of them."""

from __future__ import annotations

import importlib.util
import mmap
import os
import platform
import time
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from unittest.mock import patch

import pytest
import speed
import torch

from segformer_edu import segformer_b0
from segformer_edu.model.fast import keep_freed_memory
from segformer_edu.pages.measure import milliseconds, page_faults, peak_megabytes


def test_candidates_are_called_in_turn_and_warmed_up():
    calls = []
    times = milliseconds({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, repeats=3, warmups=1)
    assert calls == ["a", "b"] * 4
    assert times.keys() == {"a", "b"}


def test_the_median_is_of_milliseconds(monkeypatch):
    now, pauses = [0.0], iter([0.0, 0.0, 0.02, 0.2, 0.02])  # two warm-ups; then one call is slow
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    def work():
        now[0] += next(pauses)

    assert milliseconds({"work": work}, repeats=3)["work"] == pytest.approx(20)


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


@pytest.mark.skipif(importlib.util.find_spec("resource") is None, reason="Windows does not count page faults")
def test_pages_are_counted_when_they_are_touched_first():
    def touch(pages: int) -> None:
        with mmap.mmap(-1, pages * mmap.PAGESIZE) as block:
            for start in range(0, len(block), mmap.PAGESIZE):
                block[start] = 1

    touch(1)  # what the first call of anything costs is not meant
    assert page_faults(lambda: touch(3000)) - page_faults(lambda: touch(1000)) == pytest.approx(2000, abs=100)


def faults_of_a_small_model(kept: bool) -> int:
    if kept:
        keep_freed_memory()
    with torch.inference_mode():
        model, x = segformer_b0().eval(), torch.zeros(1, 3, 512, 512)
        return [page_faults(lambda: model(x)) for _ in range(4)][-1]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another allocator than glibc's")
def test_a_program_can_keep_what_maps_free():
    with get_context("spawn").Pool(1, maxtasksperchild=1) as fresh_processes:
        without, kept = fresh_processes.map(faults_of_a_small_model, [False, True], chunksize=1)
    assert kept < without / 2


@pytest.mark.parametrize("task", ["forward", "training step"])
def test_a_round_of_the_benchmark_measures_equal_models(task):
    make = partial(speed.with_transformers, "b0", "cpu")
    found = speed.one_round(1, ["as they come"], task, make, (1, 64, 96), False)
    assert min(*found["ms"].values(), *found["MB"].values()) > 0
    assert task == "training step" or found["difference"] < 1e-5


def pair_named_by_its_environment() -> speed.Pair:
    return replace(speed.with_lucidrains("cpu"), name=" ".join(os.environ.get(name, "unset") for name in speed.KEEP))


def test_a_row_of_the_benchmark_comes_from_processes_with_their_own_environment():
    (row,) = speed.measured("forward", pair_named_by_its_environment, (1, 64, 64), 1, 2, ways=["all memory kept"])
    assert row["model"] == "0 -1"
    assert 0 < row["smallest"] <= row["times_faster"] <= row["largest"]
    assert row["difference"] < 1e-5
    assert not set(speed.KEEP) & set(os.environ)


@pytest.mark.parametrize("kind", speed.PROCESSES)
def test_memory_is_kept_where_the_kind_of_process_says_so(kind):
    """By the line that programs call, before the pair is made, or by what glibc reads, or not at all."""
    order: list[str] = []
    line, environment = speed.PROCESSES[kind]

    def make() -> speed.Pair:
        order.append("pair")
        return speed.with_lucidrains("cpu")

    with patch("speed.keep_freed_memory", lambda: order.append("line")):
        speed.Candidate("ours", "forward", make, (1, 64, 64), False, line)
    assert order == (["line", "pair"] if line else ["pair"])
    assert [line, bool(environment)] == [kind == "block freed", kind == "all kept"]
