"""The tools that run the chapters and build the book, on small chapters of their own."""

from __future__ import annotations

import chapters
import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

import book


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
