"""What results/speed.json tells, as tables: for chapter 10 and for the page on how the benchmark measures."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

KEPT, AS_THEY_COME = EQUAL = ("all memory kept", "as they come")
"""The ways in which both models have equal processes; a GPU's result has the second alone."""
TITLES = {KEPT: "memory kept in both", AS_THEY_COME: "as they come"}

Row = dict[str, Any]


class Table(NamedTuple):
    """What ``plots.table`` takes.

    Attributes:
        header: the names of the columns.
        rows: a list a model; the first entry names it.
        caption: what is compared.
    """

    header: list[str]
    rows: list[list[str]]
    caption: str


def name_of(row: Row) -> str:
    """A model and the side of its image: "B0, 512"."""
    model = row["model"]
    return f"{model.upper() if re.fullmatch('b[0-5]', model) else model}, {row['size'][0]}"


def rows_of(result: Row, task: str, peers: Sequence[str] = ("transformers",)) -> dict[str, dict[str, Row]]:
    """The result's rows of a task: for each model and size one a way."""
    found: dict[str, dict[str, Row]] = {}
    for row in result["rows"]:
        if row["task"] == task and row["peer"] in peers:
            found.setdefault(name_of(row), {})[row["way"]] = row
    return found


def ratio(row: Row | None) -> str:
    """How many times as fast ours is; with several rounds, the smallest and the largest too. A dash where unknown."""
    if row is None:
        return "–"
    said = f"{row['times_faster']:.1f}"
    return said if row["rounds"] == 1 else f"{said} ({row['smallest']:.1f} to {row['largest']:.1f})"


def against(result: Row, task: str, peers: Sequence[str] = ("transformers",)) -> Table:
    """Ours against theirs: the ratios first with equal memory behaviour, then as a user gets them; times; memory.

    Args:
        result: what results/speed.json holds.
        task: "forward", "training step" or "growth".
        peers: whose models; those of one way of installing, since the caption names them together.
    """
    rows = []
    for name, ways in rows_of(result, task, peers).items():
        kept, fresh = (ways.get(way) for way in EQUAL)
        row = kept or fresh or next(iter(ways.values()))
        times = [f"{row[key]:.0f}" for key in ("theirs_ms", "ours_ms")]
        rows.append([name, ratio(kept), ratio(fresh), *times, f"{row['memory_ratio']:.2f}"])
    header = ["model, image side", *(f"times as fast, {title}" for title in TITLES.values()), "theirs, ms", "ours, ms"]
    header.append("peak memory, ours / theirs")
    measured = sorted({row["rounds"] for ways in rows_of(result, task, peers).values() for row in ways.values()})
    rounds = " or ".join(f"{n} round{'s' if n > 1 else ''}" for n in measured)
    return Table(header, rows, f"{' and '.join(peers)}, {task}: batch of one, {rounds}; ms with the memory kept")


def kinds(result: Row, keys: Sequence[str], form: str) -> Table:
    """Numbers of a call in the three kinds of processes: fresh, with ``keep_freed_memory()``, with all memory kept."""
    ways_of = (AS_THEY_COME, "block freed in both", KEPT)
    rows = [
        [name, *(" → ".join(form.format(ways[way][key]) for way in ways_of) for key in keys)]
        for name, ways in rows_of(result, "forward").items()
        if all(way in ways for way in ways_of)
    ]
    return Table(["model, image side", *keys], rows, "A fresh process → keep_freed_memory() → all memory kept")


def limits(result: Row) -> Table:
    """Our time beside what the arithmetic alone would take at the best rate of that machine."""
    ways_of, rows = rows_of(result, "forward"), []
    for r in result["limit"]:
        ways = ways_of[name_of(r)]
        took = (ways.get(KEPT) or ways[AS_THEY_COME])["ours_ms"]
        macs = [f"{r[key]:.1f}" for key in ("published_gmacs", "executed_gmacs")]
        rows.append([name_of(r), *macs, f"{r['limit_ms']:.0f}", f"{took:.0f}", f"{took / r['limit_ms']:.1f}"])
    header = ["model, image side", "billion MACs, published", "computed", "limit, ms", "ours, ms", "times the limit"]
    return Table(header, rows, "Limit: the computed MACs at the best rate of that machine; ours with the memory kept")
