"""The tools that run the chapters and build the book, on small chapters of their own."""

from __future__ import annotations

import json
import subprocess
import sys

import browser
import chapters
import nbformat
import pytest
from chapter_facts import read_chapter
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

import book

WARNING = "x.py:1: UserWarning: this is deprecated\n  x()\n"
BAR = "\rtrain:  50%|#####     | 5/10 [00:01<00:01,  4.9it/s]\rtrain: 100%|##########| 10/10 [00:02<00:00,  4.9it/s]\n"


@pytest.fixture
def written(tmp_path):
    """Return a function that writes an executed chapter with the given text on stderr."""

    def write(stderr, **metadata):
        cell = new_code_cell("pass", outputs=[new_output("stream", name="stderr", text=stderr)])
        path = tmp_path / "01_small.ipynb"
        nbformat.write(new_notebook(cells=[new_markdown_cell("# 1 · Small\n\nWords."), cell], metadata=metadata), path)
        return path

    return write


def test_a_quick_quiet_chapter_is_accepted(written):
    assert chapters.complaints(written(BAR), seconds=10) == []


def test_a_warning_among_progress_bars_is_told(written):
    (line,) = chapters.complaints(written(BAR + WARNING), seconds=10)
    assert "UserWarning" in line
    assert "01_small.ipynb" in line


def test_only_a_chapter_that_trains_may_take_longer(written):
    assert chapters.complaints(written(BAR), seconds=61)
    training = {"segformer_edu": {"trains": True}}
    assert chapters.complaints(written(BAR, **training), seconds=179) == []
    assert chapters.complaints(written(BAR, **training), seconds=181)


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A small project of its own, with one module and one chapter that was run."""
    (tmp_path / "segformer_edu").mkdir()
    (tmp_path / "segformer_edu" / "module.py").write_text("x = 1\n")
    (tmp_path / "notebooks").mkdir()
    notebook = new_notebook(cells=[new_markdown_cell("# 1. Small"), new_code_cell("1 + 1", id="sum")])
    nbformat.write(notebook, tmp_path / "notebooks" / "01_small.ipynb")
    notebook.cells[1].outputs = [new_output("stream", name="stdout", text="2")]
    (tmp_path / "_build" / "executed").mkdir(parents=True)
    nbformat.write(notebook, tmp_path / "_build" / "executed" / "01_small.ipynb")
    for module in (book, chapters):
        for name, value in {"ROOT": "", "BUILD": "_build", "CACHE": "_build/.jupyter_cache"}.items():
            monkeypatch.setattr(module, name, tmp_path / value)
    monkeypatch.setattr(book, "FINGERPRINT", tmp_path / "_build" / ".jupyter_cache.fingerprint")
    monkeypatch.setattr(chapters, "EXECUTED", tmp_path / "_build" / "executed")
    book.drop_stale_cache()
    return tmp_path


def test_a_stored_run_is_found_until_the_code_of_the_chapter_changes(project):
    path = project / "notebooks" / "01_small.ipynb"
    assert book.not_executed() == ["01_small.ipynb"]
    chapters.store(path, seconds=1.0)
    assert book.not_executed() == []
    path.write_text(path.read_text().replace("1 + 1", "1 + 2"))
    assert book.not_executed() == ["01_small.ipynb"]


@pytest.mark.parametrize("changed", ["segformer_edu/module.py", "requirements.txt"])
def test_runs_are_dropped_when_the_library_or_a_requirement_changes(project, changed):
    chapters.store(project / "notebooks" / "01_small.ipynb", seconds=1.0)
    book.drop_stale_cache()
    assert book.not_executed() == []
    (project / changed).write_text("x = 2\n")
    book.drop_stale_cache()
    assert book.not_executed() == ["01_small.ipynb"]


def test_the_recorded_times_drop_no_run(project, monkeypatch):
    monkeypatch.setattr(chapters, "TIMES", project / "results" / "chapters.json")
    monkeypatch.setattr(book, "TIMES", project / "results" / "chapters.json")
    before = book.fingerprint()
    chapters.record({"01_small": 1.26})
    assert json.loads((project / "results" / "chapters.json").read_text())["chapters"]["01_small"] == {"seconds": 1.3}
    assert book.fingerprint() == before
    assert read_chapter("01_small", project).seconds == 1.3
    assert read_chapter("01_small", project).title == "Small"


def test_reading_minutes_follow_the_words(tmp_path):
    (tmp_path / "notebooks").mkdir()
    cells = [new_markdown_cell("# 2 · Long\n\n" + "word " * 3998), new_code_cell("x = 1\n" * 300)]
    nbformat.write(new_notebook(cells=cells), tmp_path / "notebooks" / "02_long.ipynb")
    assert read_chapter("02_long", tmp_path).reading_minutes == 30


def test_a_chromium_that_is_not_there_is_told(monkeypatch):
    monkeypatch.setenv("CHROMIUM", "/nowhere/chromium")
    with pytest.raises(FileNotFoundError, match="/nowhere/chromium"):
        browser.find_chromium()


def test_no_chromium_and_no_way_to_one_ends_with_what_to_do(monkeypatch):
    monkeypatch.setattr(browser, "find_chromium", lambda: None)
    monkeypatch.setattr(browser, "playwrights_own", lambda: None)
    monkeypatch.setattr(subprocess, "run", lambda command, check: command[0] == sys.executable)
    with pytest.raises(SystemExit, match="apt-get install chromium"):
        browser.main()
