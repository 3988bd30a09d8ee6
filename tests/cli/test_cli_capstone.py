"""``segformer-edu capstone``."""

from __future__ import annotations

from pathlib import Path

import pytest

from segformer_edu.cli import main

RIGHT = Path(__file__).parents[1] / "checks" / "capstone" / "my_segformer.py"


def test_a_file_that_is_right(capsys):
    assert main(["capstone", str(RIGHT)]) == 0
    assert "14 of 14" in capsys.readouterr().out


def test_a_street_that_is_right(capsys):
    assert main(["capstone", str(RIGHT), "--street"]) == 0
    assert "The street: right." in capsys.readouterr().out


@pytest.mark.parametrize(("code", "words"), [
    ("", "not written yet"), ("print('hello')\nraise ValueError('a reason')", "a reason"), ("exit()", "SystemExit"),
])  # fmt: skip
def test_a_file_that_is_not_right_yet(tmp_path, capsys, code, words):
    path = tmp_path / "mine.py"
    path.write_text(code)
    assert main(["capstone", str(path)]) == 1
    told = capsys.readouterr().out
    assert "0 of 14" in told
    assert words in told
    assert main(["capstone", str(path), "--street"]) == 1


def test_no_file(tmp_path, capsys):
    assert main(["capstone", str(tmp_path / "none.py")]) == 1
    assert "is no .py file" in capsys.readouterr().err
