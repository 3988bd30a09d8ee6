"""Run one chapter under nbmake: `python tools/execute.py CHAPTER EXECUTED`, as tools/chapters.py does for each.

The executed notebook is written to EXECUTED. Where a cell fails, the whole traceback is printed, and a last line that
says which cell it was, and what went wrong.
"""

from __future__ import annotations

import re
import sys
import traceback
from functools import partial
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbmake import nb_run
from traitlets.config import Config

GUARD = 3600  # seconds that a cell may take: against endless loops, not against machines that are slow or busy
# nbclient waits a minute for a kernel to start, and four seconds for the last output of a cell, which it then loses:
# too short on a busy machine. A kernel warns of what it sends over TCP, unless it is told to encrypt that.
SETTINGS = Config(
    NotebookClient={"startup_timeout": GUARD, "iopub_timeout": GUARD},
    KernelManager={"transport_encryption": "auto"},
)
COLOURS = re.compile(r"\x1b\[[0-9;]*m")  # of a terminal


def execute(source: Path, executed: Path, guard: int = GUARD) -> str:
    """Run a notebook in its folder.

    Args:
        source: the notebook.
        executed: where it is written with its outputs.
        guard: seconds that a cell may take.

    Returns:
        What went wrong: the traceback, and a line with the cell and the error; nothing where nothing did.
    """
    started: list[nbformat.NotebookNode] = []
    note = lambda cell, cell_index: started.append(cell)  # noqa: E731 (nbclient names what it gives)
    nb_run.NotebookClient = partial(NotebookClient, config=SETTINGS, on_cell_execute=note)  # nbmake passes no settings
    try:
        done = nb_run.NotebookRun(source, guard, kernel="python3").execute()
    except Exception as error:  # what nbmake lets through, such as a kernel that was killed
        return f"{traceback.format_exc()}{where(started)}{type(error).__name__}: {error}"
    nbformat.write(done.nb, executed)
    if not done.error:
        return ""
    errors = [f"{output.ename}: {output.evalue}" for output in started[-1].outputs if output.output_type == "error"]
    timed_out = done.error.trace.startswith(done.error.summary)  # and was interrupted, which is an error too
    said = done.error.summary if timed_out or not errors else errors[0].splitlines()[0]
    return COLOURS.sub("", f"{done.error.trace}\n{where(started)}{said}")


def where(started: list[nbformat.NotebookNode]) -> str:
    """Name the last of the cells as a reader finds it: by its number among those of code, and its first line."""
    return f"cell [{len(started)}], {started[-1].source.strip().splitlines()[0]}: " if started else ""


if __name__ == "__main__":
    sys.exit(execute(Path(sys.argv[1]), Path(sys.argv[2])) or None)
