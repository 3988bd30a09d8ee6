"""Each measured result says what made it, and is not older than the code that it measures."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

import results

RESULTS = sorted((Path(__file__).resolve().parents[1] / "results").glob("*.json"))
CODE = (
    '"""A module."""\n\nKEPT = 1\n"""Bytes."""\n\n\ndef double(x):\n    """Twice."""\n    return 2 * x  # two times\n'
)


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_a_result_says_what_made_it(path):
    result = json.loads(path.read_text(encoding="utf-8"))
    assert {"command", "commit", "date", "machine", "code"} <= result.keys()
    assert re.fullmatch(r"[0-9a-f]{40}", result["commit"]), (
        "measured with code that is in no commit: commit, and repeat"
    )
    assert result["command"].startswith("python ")
    assert (results.ROOT / result["command"].split()[1]).is_file()


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="other Pythons parse to slightly other trees")
@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_a_result_is_not_older_than_its_code(path):
    result = json.loads(path.read_text(encoding="utf-8"))
    assert results.is_current(result), f"{path.name} is older than its code: make results; or {result['command']}"


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "ROOT", tmp_path)
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "module.py").write_text(CODE)
    return tmp_path


@pytest.mark.parametrize(("old", "new", "stays"), [
    ('"""Twice."""', '"""Two times as much."""', True),
    ('    """Twice."""\n', "", True),
    ('"""Bytes."""', '"""Bytes, all in all."""', True),
    ("  # two times", "", True),
    ("2 * x", "x + x", False),
    ("KEPT = 1", "KEPT = 2", False),
])  # fmt: skip
def test_words_change_no_hash_and_code_does(project, old, new, stays):
    result = results.stamp("python module.py", ["package/*.py"])
    assert results.is_current(result)
    (project / "package" / "module.py").write_text(CODE.replace(old, new))
    assert results.is_current(result) is stays


def test_stale_results_are_made_anew_or_named(project, monkeypatch, capsys):
    (project / "results").mkdir()
    for name in ("assignment", "speed"):
        (project / "results" / f"{name}.json").write_text(json.dumps({"command": f"python {name}.py"}))
    current = results.stamp("python now.py", ["package/*.py"])
    (project / "results" / "now.json").write_text(json.dumps(current))
    called = []
    monkeypatch.setattr(results.subprocess, "run", lambda command, **_: called.append(command[1]))
    results.main()
    said = capsys.readouterr().out
    assert called == ["tools/assignment.py"]
    assert "speed.json: older than its code; on a machine with nothing else to do: python speed.py" in said
    assert "now.json: as the code is now" in said
