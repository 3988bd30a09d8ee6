"""What `make colab` relies on: a shell that says Colab, git led to a clone, and complaints where a run went wrong."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import chapters
import colab
import nbformat
import pytest
from generate import address
from nbformat.v4 import new_code_cell, new_notebook, new_output

COMMIT = "0" * 40
LINE = f"segformer-edu @ git+{address()[0]}@{COMMIT}"
HERE = colab.Colab(Path("/place"), Path("/place/environment"), Path("/place/served.git"))


@pytest.fixture
def furnished(tmp_path, monkeypatch):
    """A Colab of this very environment, with a repository of one empty commit."""
    repository = tmp_path / "repository"
    subprocess.run(["git", "init", "--quiet", repository], check=True)
    author = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    subprocess.run(["git", "-C", repository, *author, "commit", "--quiet", "--allow-empty", "-m", "x"], check=True)
    monkeypatch.setattr(colab, "ROOT", repository)
    monkeypatch.setenv("SEGFORMER_EDU_DATA", "/data")
    monkeypatch.setenv("PYTHONPATH", str(repository))
    (tmp_path / "place").mkdir()
    return colab.furnish(tmp_path / "place", Path(sys.prefix))


def test_git_finds_the_present_commit_at_the_public_address(furnished):
    ask = ["git", "ls-remote", address()[0], "HEAD"]
    found = subprocess.run(ask, env=furnished.settings(colab=True), check=True, capture_output=True, text=True).stdout
    head = subprocess.run(["git", "-C", colab.ROOT, "rev-parse", "HEAD"], check=True, capture_output=True, text=True)
    assert found.split() == [head.stdout.strip(), "HEAD"]


@pytest.mark.parametrize("on_colab", [True, False])
def test_the_shell_says_colab_there_and_nowhere_else(furnished, tmp_path, on_colab):
    inherited = 'os.environ.keys() & {"SEGFORMER_EDU_DATA", "PYTHONPATH"}'
    code = f'import os; print("google.colab" in str(get_ipython()), {inherited})'
    notebook = new_notebook(cells=[new_code_cell(code)])
    probe = colab.execute(notebook, furnished, tmp_path, on_colab=on_colab)
    assert notebook.cells[0].outputs[0].text == f"{on_colab} set()\n"
    assert len(notebook.cells) == 1
    assert bool(probe) is on_colab


def test_pins_are_colabs_but_for_another_torch():
    assert all(re.fullmatch(r"[\w-]+==[\d.]+", pin) for pin in colab.pins(None))
    assert {pin for pin in colab.pins("2.13.0") if pin not in colab.pins(None)} == {"torch==2.13.0"}
    assert len(colab.pins("2.13.0")) == len(colab.pins(None))


def ran(**changed) -> colab.Run:
    """A run in which all went well, or less well."""
    well = {"library": "/place/environment/lib/segformer_edu/__init__.py", "controls": 2, "dead": []}
    whole = {"notebook": new_notebook(), "seconds": 1.0, "gained": {LINE}, "lost": set(), "probe": well}
    return colab.Run(**whole | changed)


def stderr(text: str) -> nbformat.NotebookNode:
    return new_notebook(cells=[new_code_cell("pass", outputs=[new_output("stream", name="stderr", text=text)])])


def test_nothing_to_complain_of():
    assert list(colab.complaints("01_x.ipynb", ran(), HERE, COMMIT)) == []
    assert (
        colab.report("01_x.ipynb", ran(), [])
        == f"01_x.ipynb: passed in 1 s; pip freeze gained {LINE}, 2 controls move pictures"
    )


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"fault": "NameError: x", "probe": {}}, "failed:\nNameError: x"),
        ({"notebook": stderr("x.py:1: UserWarning: old\n")}, "wrote to stderr: x.py:1: UserWarning"),
        ({"gained": {LINE, "torch==9"}, "lost": {"torch==8"}}, "gained .*torch==9.* lost .*torch==8"),
        ({"gained": {LINE.replace("000", "111")}}, "expected it to gain"),
        ({"probe": {"library": "/repository/segformer_edu/__init__.py"}}, "imported /repository"),
        ({"probe": ran().probe | {"dead": ["head"]}}, "the control 'head' moves no picture"),
    ],
)
def test_what_went_wrong_is_said(changed, said):
    (line,) = colab.complaints("01_x.ipynb", ran(**changed), HERE, COMMIT)
    assert line.startswith("01_x.ipynb")
    assert re.search(said, line)


def test_progress_bars_are_no_complaint():
    bar = stderr("\rtrain:  50%|#####     | 5/10 [00:01<00:01,  4.9it/s]")
    assert chapters.written_to_stderr(bar, "x") == list(colab.complaints("x", ran(notebook=bar), HERE, COMMIT)) == []
