"""``segformer-edu grade``: check what a class handed in, and write a table."""

from __future__ import annotations

import argparse
import csv
import io
import os
import sys
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from segformer_edu.cli.command import Add, Command, check_free, write_whole
from segformer_edu.cli.terminal import UsersError, tell

if TYPE_CHECKING:
    from segformer_edu.checks._grading import Grade, Task

USAGE = "segformer-edu grade FOLDER [--out TABLE.csv] [--chapters NUMBERS] [--jobs NUMBER] [--overwrite]"

TEXT = """Check the book's exercises in the notebooks (or .py files) that a class handed in.

Each file in FOLDER is a submission, and so is each folder in it, with all its
files. Only those exercises are graded that somebody handed in, or all of
--chapters. Of a notebook only the answers run, each submission in a process of
its own: without the network, without starting programs, without writing
anywhere, with limits of time and memory. That stops accidents and pranks; code
of people whom you do not know at all belongs into a container.

The table has a row for each submission: how many exercises are right, and for
each what its check says, with the name of the mistake. An answer that is the
library's own class, or its code word for word, is marked. Below the table
stand the mistakes that were made most often, with the hint that the check gives."""

EXAMPLES = """examples:
  segformer-edu grade handed-in --out grades.csv
  segformer-edu grade handed-in --chapters 1,2,3

exit codes: 0 graded, whatever the grades are; 1 nothing to grade, or the table
cannot be written, and one line says why; 2 wrong usage"""

SUFFIXES = (".ipynb", ".py")
MOST = 10


def add_options(add: Add) -> None:
    """Add the options of ``grade``."""
    add("folder", type=Path, metavar="FOLDER", help="what was handed in")
    add("--out", type=Path, default=Path("grades.csv"), metavar="TABLE.csv", help="the table; grades.csv by default")
    add("--chapters", type=numbers, metavar="NUMBERS", help="of these chapters all exercises, with commas: 1,2,3")
    add("--jobs", type=int, default=max(1, (os.cpu_count() or 2) // 2), metavar="NUMBER", help="processes at a time")
    add("--overwrite", action="store_true", help="replace the table if there is one")


def numbers(text: str) -> list[int]:
    """Read ``--chapters``."""
    if not all(part.strip().isdigit() for part in text.split(",")):
        raise argparse.ArgumentTypeError(f"{text!r} are no chapters; expected numbers with commas, such as 1,2,3")
    return [int(part) for part in text.split(",")]


def run(given: argparse.Namespace) -> int:
    """Grade, and write the table."""
    from segformer_edu.checks._grading import grade, tasks  # here: the other commands do without

    submissions = submissions_in(given.folder)
    check_free([given.out], given.overwrite)
    try:
        asked = tasks(given.chapters)
    except ValueError as error:
        raise UsersError(f"--chapters: {error}") from error
    if given.jobs < 1:
        raise UsersError(f"--jobs is {given.jobs}; expected 1 or more.")
    with ThreadPoolExecutor(given.jobs) as pool:
        work = pool.map(lambda files: grade(files, asked, given.folder), submissions.values())
        shown = tqdm(work, total=len(submissions), unit="submission", disable=not sys.stderr.isatty())
        grades = dict(zip(submissions, shown))
    if given.chapters is None:
        asked = [task for place, task in enumerate(asked) if any(is_handed_in(of[place]) for of in grades.values())]
        names = {task.name for task in asked}
        grades = {who: [found for found in of if found.task in names] for who, of in grades.items()}
    write_whole(given.out, table(grades, asked).encode("utf-8-sig"))  # with the mark by which Excel knows UTF-8
    for who, of in grades.items():
        tell(f"{who}: {sum(found.outcome == 'right' for found in of)} of {len(of)} right")
    tell(commonest(grades))
    tell(f"written: {given.out}")
    return 0


def submissions_in(folder: Path) -> dict[str, list[Path]]:
    """Return each submission's files, by its name.

    Raises:
        UsersError: no folder, or nothing in it.
    """
    if not folder.is_dir():
        raise UsersError(f"{folder} is no folder; expected one with notebooks, or with a folder for each person.")
    found = {}
    for path in sorted(folder.iterdir()):
        inside = sorted(each for each in path.rglob("*") if each.is_file()) if path.is_dir() else [path]
        files = [each for each in inside if each.suffix in SUFFIXES and ".ipynb_checkpoints" not in each.parts]
        if files:
            found[path.name] = files
    if not found:
        raise UsersError(f"{folder} holds no notebooks and no .py files, neither itself nor in its folders.")
    return found


def is_handed_in(found: Grade) -> bool:
    """Whether somebody worked at an exercise."""
    return found.outcome not in ("not handed in", "not written yet")


def table(grades: dict[str, list[Grade]], asked: Sequence[Task]) -> str:
    """Return the table as CSV."""
    text = io.StringIO()
    rows = csv.writer(text)
    rows.writerow(["submission", "right", "of", *(f"{task.chapter} {task.name}" for task in asked), "to look at"])
    for who, of in grades.items():
        remarks = "; ".join(f"{found.task}: {found.remark}" for found in of if found.remark)
        right = sum(found.outcome == "right" for found in of)
        rows.writerow([safe(who), right, len(of), *map(str, of), safe(remarks)])
    return text.getvalue()


def safe(text: str) -> str:
    """Return a text that no spreadsheet takes for a formula."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text


def commonest(grades: dict[str, list[Grade]]) -> str:
    """Return the mistakes that were made most often, with the hint of each."""
    wrong = [found for of in grades.values() for found in of if found.kind]
    hints = {(found.task, found.kind): found.words for found in wrong}
    counted = Counter((found.task, found.kind) for found in wrong).most_common(MOST)
    lines = [f"{count} × {task}, {kind}: {hints[task, kind]}" for (task, kind), count in counted]
    return "\n".join(["most often:", *lines]) if lines else "no mistakes that a check names"


COMMAND = Command("check the exercises that a class handed in", USAGE, TEXT, EXAMPLES, add_options, run)
