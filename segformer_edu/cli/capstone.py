"""``segformer-edu capstone``: check a reader's own SegFormer, step by step."""

from __future__ import annotations

import argparse
from pathlib import Path

from segformer_edu.cli.command import Add, Command
from segformer_edu.cli.terminal import UsersError, tell

USAGE = "segformer-edu capstone FILE.py [--street]"

TEXT = """Check a SegFormer that you wrote alone, as the book's page "Capstone" asks for it.

FILE.py is run as if it were imported. Then its classes are checked in the
order of the chapters: how many of the steps are right, and what the first
that is not right does wrong. With --street it checks the model that your
function street_model makes, after chapter 9."""

EXAMPLES = """examples:
  segformer-edu capstone my_segformer.py
  segformer-edu capstone my_segformer.py --street

exit codes: 0 all right; 1 not yet, or there is no such file; 2 wrong usage"""


def add_options(add: Add) -> None:
    """Add the options of ``capstone``."""
    add("file", type=Path, metavar="FILE.py", help="what you wrote")
    add("--street", action="store_true", help="check the street model instead")


def run(given: argparse.Namespace) -> int:
    """Check a file."""
    from segformer_edu.checks import capstone, street  # here: the other commands do without

    if given.file.suffix != ".py" or not given.file.is_file():
        raise UsersError(f"{given.file} is no .py file that exists; expected the file that you wrote.")
    found = street(given.file) if given.street else capstone(given.file)
    tell(str(found))
    return 0 if found.outcome == "right" else 1


COMMAND = Command("check a SegFormer that you wrote alone", USAGE, TEXT, EXAMPLES, add_options, run)
