"""``grade``: right, wrong, broken and malicious submissions, and the table of them."""

from __future__ import annotations

import ast
import csv
import json
import os
import sys
from pathlib import Path

import exercises
import pytest
from servers import serving

from segformer_edu.checks import _grading
from segformer_edu.checks._grading import Task, grade, made_of, tasks
from segformer_edu.cli import main

RIGHT = """
import torch
from torch import nn

def convolution(*arguments, **options):
    return nn.Conv2d(*arguments, **options)

class DsConv2d(nn.Module):
    def __init__(self, dim_in, dim_out, kernel_size, padding, stride=1, bias=True):
        super().__init__()
        self.first = convolution(dim_in, dim_in, kernel_size, stride, padding, groups=dim_in, bias=bias)
        self.second = convolution(dim_in, dim_out, 1, bias=bias)

    def forward(self, x):
        return self.second(self.first(x))
"""
WRONG = RIGHT.replace(", groups=dim_in", "")
COSTS = "places = 56 * 56\ncosts = {'dense weights': 3 * 3 * 64 * 128 * 2}"
STUB = exercises.read(1).exercises[0].stub
FORWARD = (
    RIGHT.split("    def forward")[0]
    + "    def forward(self, x):\n        {}\n        return self.second(self.first(x))\n"
)


def notebook(*cells):
    made = [{"cell_type": "code", "source": cell, "metadata": {}, "outputs": []} for cell in cells]
    return json.dumps({"cells": made, "metadata": {}, "nbformat": 4, "nbformat_minor": 5})


def graded(tmp_path, *cells, only=("ds_conv2d",), chapters=(1,)):
    """Grade one submission; away is where it lies, as for a class."""
    folder = tmp_path / "in" / "someone"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "01.ipynb").write_text(notebook(*cells))
    asked = [task for task in tasks(chapters) if task.name in only]
    found = grade([folder / "01.ipynb"], asked, tmp_path / "in")
    return found[0] if len(only) == 1 else found


def test_the_table(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for who, text in {
        "Ada.ipynb": notebook("%matplotlib inline\n" + RIGHT, "checks.ds_conv2d(DsConv2d)", COSTS),
        "Béa.py": WRONG,
        "Cy.ipynb": notebook("from torch import nn\n" + STUB),
        "=Dan.py": RIGHT + "\nimport segformer_edu as se\nclass DsConv2d(se.DsConv2d): pass",
        "notes.txt": "no submission",
    }.items():
        Path("in").mkdir(exist_ok=True)
        Path("in", who).write_text(text, encoding="utf-8")
    Path("in/Eve").mkdir()
    Path("in/Eve/a.ipynb").write_text("{", encoding="utf-8")
    Path("in/Eve/b.py").write_text(RIGHT, encoding="utf-8")
    assert main(["grade", "in"]) == 0
    rows = {row["submission"]: row for row in csv.DictReader(Path("grades.csv").read_text("utf-8-sig").splitlines())}
    assert {who: row["1 ds_conv2d"] for who, row in rows.items()} == {
        "Ada.ipynb": "right",
        "Béa.py": "not yet right: groups-forgotten",
        "Cy.ipynb": "not written yet",
        "'=Dan.py": "right",
        "Eve": "right",
    }
    assert rows["Ada.ipynb"]["1 costs"].startswith("not yet right")
    assert rows["Ada.ipynb"]["right"] == "1"
    assert "taken from the library" in rows["'=Dan.py"]["to look at"]
    assert "1 merge" not in rows["Eve"]  # nobody handed that in
    said = capsys.readouterr().out
    assert "Béa.py: 0 of 2 right" in said
    assert "1 × ds_conv2d, groups-forgotten:" in said
    assert main(["grade", "in"]) == 1
    assert "--overwrite" in capsys.readouterr().err


@pytest.mark.parametrize(("arguments", "words"), [
    (["nowhere"], "is no folder"), (["empty"], "holds no notebooks"), (["in", "--chapters", "99"], "Chapter 99"),
])  # fmt: skip
def test_nothing_to_grade(tmp_path, monkeypatch, capsys, arguments, words):
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("in").mkdir()
    Path("in/a.py").write_text(RIGHT)
    assert main(["grade", *arguments]) == 1
    assert words in capsys.readouterr().err
    assert not Path("grades.csv").exists()


def test_what_does_not_belong_to_an_answer_does_not_run(tmp_path):
    slow = "import time\ntime.sleep(10_000)\nraise SystemExit"
    assert graded(tmp_path, slow, "x = 1 / 0", RIGHT, "%%bash\nexit 1", "def broken(:", slow).outcome == "right"


def test_each_answer_is_the_last_one_and_of_its_own_notebook(tmp_path):
    (tmp_path / "a.py").write_text(WRONG + "\nchecks.ds_conv2d( DsConv2d )")
    (tmp_path / "b.py").write_text(RIGHT)
    asked = [task for task in tasks([1]) if task.name == "ds_conv2d"]
    files = [tmp_path / "a.py", tmp_path / "b.py"]
    assert grade(files, asked)[0].kind == "groups-forgotten"
    assert graded(tmp_path, WRONG, RIGHT).outcome == "right"
    assert graded(tmp_path, RIGHT, WRONG).kind == "groups-forgotten"


def test_words_for_what_cannot_run(tmp_path):
    assert graded(tmp_path, "x = 3").outcome == "not handed in"
    found = graded(tmp_path, "class DsConv2d(Module):\n    pass")
    assert (found.outcome, found.kind) == ("could not run", "raises")
    assert "Line 1 raised NameError" in found.words
    (tmp_path / "broken.ipynb").write_text('{"cells": 3}')
    assert "broken.ipynb: it cannot be read" in grade([tmp_path / "broken.ipynb"], tasks([1])[:1])[0].words


def test_the_librarys_code_is_marked(tmp_path):
    import inspect

    import segformer_edu as se

    copied = "import torch\nfrom torch import nn\n" + inspect.getsource(se.DsConv2d)
    found = graded(tmp_path, copied)
    assert found.outcome == "right"
    assert "word for word" in found.remark
    assert "taken from the library" in graded(tmp_path, "from segformer_edu import DsConv2d").remark
    assert graded(tmp_path, RIGHT).remark == ""


MALICIOUS = {
    "writes a file": "open({mark!r}, 'w').write('x')",
    "writes by path": "import pathlib; pathlib.Path({mark!r}).write_text('x')",
    "starts a program": "import subprocess; subprocess.run(['touch', {mark!r}])",
    "asks the shell": "import os; os.system('touch ' + {mark!r})",
    "forks": "import os; os.fork()",
    "deletes": "import os; os.remove({victim!r})",
    "moves": "import shutil; shutil.move({victim!r}, {mark!r})",
    "reads what others handed in": "open({victim!r}).read()",
    "asks the network": "import urllib.request; urllib.request.urlopen({url!r}, timeout=5)",
    "connects": "import socket; socket.create_connection(({host!r}, {port}), timeout=5)",
    "loads a library": "import ctypes; ctypes.CDLL('libc.so.6').system(b'touch ' + {mark!r}.encode())",
}


ALL_OF_IT = """
def act(lines):
    refused, others = [], []
    for name, line in lines.items():
        try:
            exec(line)
            others.append(name)
        except BaseException as error:
            (refused if "while a submission is graded" in str(error) else others).append(name)
    raise RuntimeError(f"{len(refused)} refused, not: {others}")
"""


@pytest.mark.parametrize("where", ["forward", "definition"])
def test_malice_has_no_effect(tmp_path, where):
    victim, mark = tmp_path / "in" / "else.py", tmp_path / "mark"
    victim.parent.mkdir()
    victim.write_text("x = 1")
    with serving() as server:
        host, port = server.server_address
        places = {"mark": str(mark), "victim": str(victim), "url": server.url, "host": host, "port": port}
        act = f"act({ {name: line.format(**places) for name, line in MALICIOUS.items()}!r})"
        found = graded(
            tmp_path, ALL_OF_IT + (FORWARD.format(act) if where == "forward" else RIGHT + f"\nDsConv2d.made = {act}")
        )
        assert not server.asked
    assert (found.outcome, found.kind) == ("could not run", "raises")
    assert f"{len(MALICIOUS)} refused, not: []" in found.words
    assert victim.read_text() == "x = 1"
    assert not mark.exists()


@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory and time are Linux's")
def test_what_would_harm_the_others_ends_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(_grading, "SECONDS", 30)
    assert graded(tmp_path, FORWARD.format("torch.ones(10**11)")).outcome == "could not run"
    found = graded(tmp_path, RIGHT, "DsConv2d.x = [0] * 10**11")
    assert (found.outcome, found.kind) == ("could not run", "raises")
    costs, conv = graded(tmp_path, FORWARD.format("__import__('os')._exit(0)"), COSTS, only=("costs", "ds_conv2d"))
    assert conv.outcome == "not yet right"
    assert (costs.outcome, costs.kind) == ("could not run", "raises")


def test_a_check_that_was_tampered_with_gives_no_grade(tmp_path):
    patched = (
        "from segformer_edu.checks import core\n"
        "core.look_at = lambda title, *_: core.Result(title, 'right')\n" + RIGHT + "\nDsConv2d.core = core"
    )
    assert graded(tmp_path, patched).kind == "check-failed"
    replaced = "checks = type('', (), {'ds_conv2d': staticmethod(lambda _: 'right')})\n" + WRONG
    assert graded(tmp_path, replaced + "\nDsConv2d.c = checks").kind == "groups-forgotten"


@pytest.mark.parametrize(("code", "kept"), [
    ("a = 1\nb = 2\nc = a + 1", [0, 2]),
    ("def f():\n    return g()\ndef g():\n    return h\nh = 2\nz = 5\nc = f()", [0, 1, 2, 4]),
    ("c = {}\nfor k in range(3):\n    c[k] = k\nprint(c)", [0, 1]),
    ("c = []\nc.append(2)\nd = []\nd.append(3)", [0, 1]),
    ("c = 1\nc = 2", [1]),
    ("c = 1\nc += 2", [0, 1]),
    ("from x import y as c\nimport z.w", [0]),
    ("x = 1\ndef c(x):\n    return [y for y in x]\ny = 2", [1]),
    ("a, c = 1, 2\nif a:\n    c = 3", [0, 1]),
])  # fmt: skip
def test_the_statements_that_an_answer_is_made_of(code, kept):
    tree = ast.parse(code)
    assert made_of(tree, {"c"}) == [tree.body[index] for index in kept]


def test_every_exercise_can_be_graded():
    for task in tasks():
        assert task.asked, task
        assert os.linesep not in task.title
    assert Task(1, "costs", "", 'checks.predict("costs", costs)').asked == {"costs"}
