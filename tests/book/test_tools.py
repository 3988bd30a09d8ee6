"""The tools that run the chapters, on small ones of their own: good, failing, slow, interrupted and endless ones."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import chapters
import execute
import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

import book

TOOLS = Path(chapters.__file__).parent
COUNTED = "with open('ran.txt', 'a') as ran: ran.write('{}')"
FAILS = "def fail():\n    raise ValueError('too far\\nto go')"


def write(path: Path, *cells: str) -> Path:
    """Write a chapter with these cells of code."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(new_notebook(cells=[new_markdown_cell("# A title"), *map(new_code_cell, cells)]), path)
    return path


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project of its own, with one module and three chapters; each notes that it ran."""
    (tmp_path / "segformer_edu").mkdir()
    (tmp_path / "segformer_edu" / "module.py").write_text("x = 1\n")
    for name in ("01_one", "02_two", "03_three"):
        write(tmp_path / "notebooks" / f"{name}.ipynb", COUNTED.format(name[:2]), "1 + 1")
    places = {"ROOT": "", "BUILD": "_build", "CACHE": "_build/.jupyter_cache", "RUNS": "_build/chapters"}
    places |= {"FINGERPRINT": "_build/.jupyter_cache.fingerprint", "TIMES": "results/chapters.json"}
    for name, place in places.items():
        monkeypatch.setattr(chapters, name, tmp_path / place)
    return tmp_path


def ran(project: Path) -> str:
    """The numbers of the chapters in the order in which they ran."""
    return (project / "notebooks" / "ran.txt").read_text()


def have_runs() -> list[str]:
    return [path.stem for path in chapters.chapters() if chapters.run_of(path)]


def call(monkeypatch, *arguments: str) -> None:
    """Call `python tools/chapters.py` with these arguments."""
    monkeypatch.setattr(sys, "argv", ["chapters.py", *arguments])
    chapters.main()


def test_chapters_run_in_order_and_each_says_how_it_went(project, capsys):
    chapters.run_missing()
    assert ran(project) == "010203"
    first, second, third = capsys.readouterr().out.splitlines()
    assert first.startswith("[1/3] 01_one ... ")
    assert " s; about " in first
    assert first.endswith(" left")
    assert second.startswith("[2/3] 02_two ... ")
    assert third.endswith(" s")
    assert chapters.run_of(project / "notebooks" / "02_two.ipynb").notebook.cells[2].outputs[0].data == {
        "text/plain": "2"
    }
    assert (project / "notebooks" / "02_two.ipynb").read_text().count('"outputs": []') == 2


def test_a_chapter_runs_again_when_its_code_changes_and_not_when_its_text_does(project, capsys):
    chapters.run_missing()
    for name, old, new in (("01_one", "A title", "Another"), ("02_two", "1 + 1", "1 + 2")):
        path = project / "notebooks" / f"{name}.ipynb"
        path.write_text(path.read_text().replace(old, new))
    chapters.run_missing()
    assert ran(project) == "01020302"
    assert "[3/3] 03_three ... has run already" in capsys.readouterr().out


@pytest.mark.parametrize("changed", ["segformer_edu/module.py", "requirements.txt"])
def test_all_run_again_when_the_library_or_a_requirement_changes(project, changed, capsys):
    chapters.run_missing()
    chapters.drop_stale_runs()
    assert have_runs() == ["01_one", "02_two", "03_three"]
    (project / changed).write_text("x = 2\n")
    chapters.drop_stale_runs()
    assert have_runs() == []
    assert "every chapter will run again" in capsys.readouterr().out


def test_pairs_have_a_thread_each_and_what_measures_or_fails_runs_alone(project, monkeypatch, capsys):
    threads = "import os\nprint(os.environ['OMP_NUM_THREADS'])"
    write(project / "notebooks" / "01_one.ipynb", "import segformer_edu.pages.measure", threads)
    write(project / "notebooks" / "02_two.ipynb", threads)
    write(project / "notebooks" / "03_three.ipynb", FAILS, "fail()")
    with pytest.raises(SystemExit, match="03_three failed"):
        call(monkeypatch, "--pairs")
    said = capsys.readouterr().out.splitlines()
    assert said[:2] == ["02_two, beside another: has run", "03_three, beside another: failed"]
    assert said[2].startswith("[1/3] 01_one ... ")
    found = {name: chapters.run_of(project / "notebooks" / f"{name}.ipynb") for name in ("01_one", "02_two")}
    assert [run.notebook.cells[-1].outputs[0].text for run in found.values()] == ["2\n", "1\n"]


def test_a_failure_is_told_in_three_lines_and_costs_no_other_chapter(project):
    path = write(project / "notebooks" / "02_two.ipynb", COUNTED.format("02"), FAILS, "1 + 1\nfail()")
    with pytest.raises(SystemExit) as caught:
        chapters.run_missing()
    first, second, third = str(caught.value).splitlines()
    assert first == "02_two failed: cell [3], 1 + 1: ValueError: too far"
    assert second == f"The whole message is in {project / '_build' / 'chapters' / '02_two.txt'}"
    assert third == "Chapters that ran are kept. Mend this, and the same command runs the rest."
    whole = (project / "_build" / "chapters" / "02_two.txt").read_text()
    assert "----> 2 fail()" in whole
    assert "\x1b" not in whole
    assert have_runs() == ["01_one", "03_three"]
    write(path, COUNTED.format("02"), FAILS, "1 + 1")
    chapters.run_missing()
    assert ran(project) == "01020302"


def test_two_failures_are_both_told(project):
    for name in ("01_one", "03_three"):
        write(project / "notebooks" / f"{name}.ipynb", "1 / 0")
    with pytest.raises(SystemExit) as caught:
        chapters.run_missing()
    lines = str(caught.value).splitlines()
    assert len(lines) == 5
    assert lines[0].startswith("01_one failed: cell [1], 1 / 0: ZeroDivisionError")
    assert lines[2].startswith("03_three failed")


def test_the_book_is_not_rendered_from_a_failure(project, monkeypatch):
    write(project / "notebooks" / "02_two.ipynb", "1 / 0")
    monkeypatch.setattr(book, "render", lambda: pytest.fail("rendered"))
    with pytest.raises(SystemExit, match="02_two failed"):
        book.main()


@pytest.mark.parametrize(
    ("cell", "guard", "told"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", 3600, "SIGKILL): DeadKernelError: Kernel died"),
        ("while True: pass", 3, "while True: pass: A cell timed out while it was being executed, after 3 seconds."),
    ],
)
def test_a_kernel_that_dies_and_a_cell_without_end_are_told_as_well(tmp_path, cell, guard, told):
    said = execute.execute(write(tmp_path / "a.ipynb", cell), tmp_path / "executed.ipynb", guard)
    assert said.splitlines()[-1].startswith("cell [1], ")
    assert said.splitlines()[-1].endswith(told)


def test_a_process_that_is_killed_is_told(project, monkeypatch):
    path = write(project / "notebooks" / "02_two.ipynb", "import os, signal; os.kill(os.getppid(), signal.SIGKILL)")
    assert chapters.run(path)[0] == "02_two failed: its process ended with -9."


def test_the_guard_is_no_limit_of_time():
    assert execute.GUARD >= 3600


def test_a_run_says_nothing_beside_its_outputs(project):
    """No warning of kernels that send what they say in plain text, for one."""
    chapters.run_missing()
    assert [path.read_text() for path in sorted((project / "_build" / "chapters").glob("*.txt"))] == ["", "", ""]


def test_a_slow_chapter_is_reported_and_does_not_fail(project, monkeypatch, capsys):
    monkeypatch.setattr(chapters, "BUDGET", 0.001)
    notebook = nbformat.read(project / "notebooks" / "03_three.ipynb", as_version=4)
    notebook.metadata["segformer_edu"] = {"trains": True}
    nbformat.write(notebook, project / "notebooks" / "03_three.ipynb")
    monkeypatch.setattr(chapters, "BUDGET_OF_TRAINING", 10_000)
    call(monkeypatch)
    late = [line for line in capsys.readouterr().out.splitlines() if line.startswith("over budget: ")]
    assert [line.split()[2] for line in late] == ["01_one", "02_two"]
    assert late[0].endswith(" s; 0.001 s on two free cores.")


def test_budgets_are_checked_by_one_command(project, monkeypatch, capsys):
    monkeypatch.setattr(chapters, "BUDGET", 10_000)
    call(monkeypatch)
    call(monkeypatch, "--check-budgets")
    assert ran(project) == 2 * "010203"
    assert "Every chapter kept to its budget." in capsys.readouterr().out
    monkeypatch.setattr(chapters, "BUDGET", 0.001)
    with pytest.raises(SystemExit, match="too long, or this machine is slow"):
        call(monkeypatch, "--check-budgets")


def test_times_are_recorded(project, monkeypatch):
    call(monkeypatch, "--record")
    recorded = json.loads((project / "results" / "chapters.json").read_text())["chapters"]
    assert list(recorded) == ["01_one", "02_two", "03_three"]
    assert recorded["02_two"]["seconds"] == round(chapters.run_of(project / "notebooks" / "02_two.ipynb").seconds, 1)


def test_text_on_stderr_fails_the_tests_and_not_the_book(project, monkeypatch):
    write(project / "notebooks" / "02_two.ipynb", "import sys\nprint('a warning', file=sys.stderr)")
    chapters.run_missing()
    with pytest.raises(SystemExit, match="02_two, cell 1, wrote to stderr: a warning"):
        call(monkeypatch)


def test_the_time_left_follows_this_machines_pace(project):
    chapters.TIMES.parent.mkdir()
    times = {"01_one": 10, "02_two": 20, "03_three": 30}
    chapters.TIMES.write_text(json.dumps({"chapters": {name: {"seconds": took} for name, took in times.items()}}))
    pace = chapters.Pace(chapters.chapters())
    pace.took["01_one"] = 40.2
    assert str(pace) == "40 s; about 3 min left"  # four times slower: 50 s become 200
    pace.took["02_two"] = 20
    assert str(pace) == "20 s; about 60 s left"
    pace.took["03_three"] = 61
    assert str(pace) == "61 s"


def test_a_run_that_was_cut_off_while_it_was_kept_runs_again(project):
    chapters.run_missing()
    kept = sorted((project / "_build" / ".jupyter_cache" / "executed").rglob("*.ipynb"))
    kept[0].write_text(kept[0].read_text()[:200])
    kept[1].unlink()
    assert len(have_runs()) == 1
    chapters.run_missing()
    assert len(ran(project)) == 2 * 5
    assert len(have_runs()) == 3


def is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return "State:\tZ" not in Path(f"/proc/{process}/status").read_text()


def wait_until(condition) -> None:
    """Wait as long as it takes; a test that never ends is a failure too."""
    while not condition():
        time.sleep(0.05)


@pytest.mark.skipif(sys.platform != "linux", reason="it looks into /proc")
def test_what_is_done_is_kept_when_it_is_interrupted(project):
    """Ctrl-C, which every process of the terminal gets: nothing is left running, and the next call goes on."""
    tools = project / "tools"
    tools.mkdir()
    for name in ("chapters", "execute", "machine", "results"):
        shutil.copy(TOOLS / f"{name}.py", tools)
    endless = "import os, time\nwith open('kernel.txt', 'w') as file: file.write(f'{os.getpid()}.')\ntime.sleep(100000)"
    path = write(project / "notebooks" / "02_two.ipynb", endless)
    command = [sys.executable, tools / "chapters.py"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a shell's background jobs do not hear Ctrl-C
    process = subprocess.Popen(command, start_new_session=True, preexec_fn=heard, **pipes)
    kernel = project / "notebooks" / "kernel.txt"
    wait_until(lambda: kernel.is_file() and kernel.read_text().endswith("."))
    os.killpg(process.pid, signal.SIGINT)
    said, _ = process.communicate()
    assert process.returncode == 130
    assert (
        said.splitlines()[-1] == "Interrupted. 1 of 3 chapters have run and are kept; the same command runs the rest."
    )
    assert "Traceback" not in said
    wait_until(lambda: not is_running(int(kernel.read_text().rstrip("."))))
    write(path, COUNTED.format("02"))
    said = subprocess.run(command, check=True, **pipes).stdout
    assert "[1/3] 01_one ... has run already" in said
    assert ran(project) == "010203"
