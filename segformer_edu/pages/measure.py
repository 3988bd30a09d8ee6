"""Chapter 10: time and memory, measured side by side; what the benchmarks and several chapters share."""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from itertools import accumulate
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from segformer_edu.validation import check_positive


def synchronize() -> None:
    """Wait until the GPU, where there is one, has done what it was asked to."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def milliseconds(
    candidates: Mapping[str, Callable[[], object]], repeats: int = 9, warmups: int = 2
) -> dict[str, float]:
    """Call the candidates in turn, again and again, and return the median time of each.

    In turn, so that whatever else slows the machine down slows all of them; the median, so that one interruption
    counts for nothing.

    Args:
        candidates: functions without arguments, by name.
        repeats: how many calls of each are timed.
        warmups: how many calls of each come first and are not.

    Returns:
        Milliseconds by name.

    Raises:
        TypeError, ValueError: ``repeats`` that is no positive whole number.

    Source: chapter 1, which shows how.
    """
    check_positive(repeats=repeats)
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for repeat in range(warmups + repeats):
        for name, candidate in candidates.items():
            synchronize()
            start = time.perf_counter()
            candidate()
            synchronize()
            if repeat >= warmups:
                times[name].append(1000 * (time.perf_counter() - start))
    return {name: statistics.median(values) for name, values in times.items()}


def page_faults(candidate: Callable[[], object]) -> int:
    """Return how many pages of memory the system hands over while a function is called; mostly, a page has 4 kB.

    A block that was given back to the system and is asked for again comes page by page, each filled with zeros when it
    is first touched. That takes time, which no operation shows as its own.

    Args:
        candidate: a function without arguments.

    Returns:
        The page faults of this process during the call that needed no disk.

    Raises:
        ImportError: on Windows, which does not count them.

    Source: chapter 10.
    """
    from resource import RUSAGE_SELF, getrusage

    before = getrusage(RUSAGE_SELF).ru_minflt
    candidate()
    return getrusage(RUSAGE_SELF).ru_minflt - before


def peak_megabytes(candidate: Callable[[], object], device: str | torch.device = "cpu") -> float:
    """Return the most memory that a call holds at any moment, beyond what was held before it, in MB of 10⁶ bytes.

    On a CPU every allocation by PyTorch is counted, as its profiler reports them; on a GPU its allocator is asked.

    Args:
        candidate: a function without arguments.
        device: where it computes.

    Returns:
        The peak on that device.

    Source: chapter 10.
    """
    if torch.device(device).type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        candidate()
        return (torch.cuda.max_memory_allocated() - before) / 1e6
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        candidate()
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.json"
        seen.export_chrome_trace(str(trace))
        events = [event for event in json.loads(trace.read_text())["traceEvents"] if event["name"] == "[memory]"]
    events.sort(key=lambda event: event["ts"])
    peak: int = max(accumulate((event["args"]["Bytes"] for event in events), initial=0))
    return peak / 1e6
