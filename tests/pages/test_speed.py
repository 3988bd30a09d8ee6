"""The tables of results/speed.json: which numbers they show, and what they show where some are missing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from segformer_edu.pages import speed

ROOT = Path(__file__).resolve().parents[2]


def row(way, times, task="forward", peer="transformers", model="b0", rounds=1, **said):
    ours, theirs = 100.0, 100.0 * times
    return {
        "task": task, "way": way, "peer": peer, "model": model, "size": [512, 512], "rounds": rounds,
        "ours_ms": ours, "theirs_ms": theirs, "ours_faults": 0, "theirs_faults": 12345,
        "times_faster": times, "smallest": times - 0.5, "largest": times + 0.5, "memory_ratio": 0.25,
    } | said  # fmt: skip


KEPT, FRESH = row("all memory kept", 3.0), row("as they come", 4.0)
RESULT = {"rows": [KEPT, FRESH, row("block freed in both", 3.5), row("as they come", 2.0, peer="smp", model="x")]}


def test_equal_memory_stands_first_then_what_a_user_gets():
    table = speed.against(RESULT, "forward")
    assert table.rows == [["B0, 512", "3.0", "4.0", "300", "100", "0.25"]]
    assert table.header[1:3] == ["times as fast, memory kept in both", "times as fast, as they come"]
    assert "1 round;" in table.caption


def test_a_gpus_result_has_no_kept_memory():
    table = speed.against({"rows": [FRESH]}, "forward")
    assert table.rows == [["B0, 512", "–", "4.0", "400", "100", "0.25"]]


def test_another_peer_and_another_task_have_tables_of_their_own():
    assert speed.against(RESULT, "forward", ["smp"]).rows[0][:3] == ["x, 512", "–", "2.0"]
    assert speed.against(RESULT, "training step").rows == []


@pytest.mark.parametrize(
    ("given", "said"), [(None, "–"), (KEPT, "3.0"), (row("as they come", 3.0, rounds=3), "3.0 (2.5 to 3.5)")]
)
def test_a_ratio_tells_its_spread_where_there_is_one(given, said):
    assert speed.ratio(given) == said


def test_kinds_of_processes_stand_from_fresh_to_kept():
    result = {"rows": [*RESULT["rows"], row("as they come", 2.0, model="b1")]}  # B1 lacks two kinds
    assert speed.kinds(result, ["theirs_ms", "theirs_faults"], "{:,.0f}").rows == [
        ["B0, 512", "400 → 350 → 300", "12,345 → 12,345 → 12,345"]
    ]


def test_limits_compare_with_the_kept_memory():
    limit = {"model": "b0", "size": [512, 512], "published_gmacs": 8.4, "executed_gmacs": 4.1, "limit_ms": 25.0}
    assert speed.limits(RESULT | {"limit": [limit]}).rows == [["B0, 512", "8.4", "4.1", "25", "100", "4.0"]]


def test_the_recorded_result_fills_every_table():
    result = json.loads((ROOT / "results" / "speed.json").read_text())
    tables = [speed.against(result, task) for task in ("forward", "training step", "growth")]
    tables += [speed.kinds(result, ["ours_ms"], "{:.0f}"), speed.limits(result)]
    for table in tables:
        assert table.rows
        assert {len(line) for line in table.rows} == {len(table.header)}
