"""The library from a shell: ``segformer-edu segment``, ``cost`` and others, one file each."""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Sequence
from typing import Any

from segformer_edu import __version__
from segformer_edu.cli.capstone import COMMAND as CAPSTONE
from segformer_edu.cli.check_data import COMMAND as CHECK_DATA
from segformer_edu.cli.cost import COMMAND as COST
from segformer_edu.cli.doctor import COMMAND as DOCTOR
from segformer_edu.cli.evaluate import COMMAND as EVALUATE
from segformer_edu.cli.export import COMMAND as EXPORT
from segformer_edu.cli.grade import COMMAND as GRADE
from segformer_edu.cli.segment import COMMAND as SEGMENT
from segformer_edu.cli.terminal import any_output, complain, explained, say
from segformer_edu.cli.train import COMMAND as TRAIN

DESCRIPTION = "SegFormer from scratch: the book's library, from a shell."

COMMANDS = {
    "segment": SEGMENT,
    "check-data": CHECK_DATA,
    "train": TRAIN,
    "evaluate": EVALUATE,
    "export": EXPORT,
    "cost": COST,
    "capstone": CAPSTONE,
    "grade": GRADE,
    "doctor": DOCTOR,
}
"""Every command by its name; another one is one more file and one more entry."""


def make_parser() -> argparse.ArgumentParser:
    """Make the parser of the commands and their options."""
    raw: dict[str, Any] = {"formatter_class": argparse.RawDescriptionHelpFormatter}
    more = "segformer-edu COMMAND --help says more of each."
    parser = argparse.ArgumentParser("segformer-edu", description=DESCRIPTION, epilog=more, **raw)
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    listed = f"{{{','.join(COMMANDS)}}}"
    commands = parser.add_subparsers(dest="command", required=True, metavar=listed, title="commands")
    for name, command in COMMANDS.items():
        added = commands.add_parser(
            name, help=command.gist, usage=command.usage, description=command.text, epilog=command.examples, **raw
        )
        command.add(added.add_argument)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code: 0, or 1 after an error that one line of stderr explains.

    Whatever the terminal or the pipe cannot show is replaced; nothing that is printed stops a command.

    Args:
        arguments: as from a shell, without the program's name; those of this process by default.

    Raises:
        SystemExit: with 2 after wrong usage, with 0 after ``--help`` and ``--version``.
    """
    with any_output():
        given = make_parser().parse_args(arguments)
        os.environ.setdefault("HF_HUB_VERBOSITY", "error")  # it counts its retries aloud; read when it is imported
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("always", UserWarning)
                warnings.showwarning = say  # type: ignore[assignment]  # called by position
                code = COMMANDS[given.command].run(given)
            sys.stdout.flush()
            return code
        except KeyboardInterrupt:
            return 130
        except Exception as error:
            if (text := explained(error)) is None:
                raise
            complain(text)
            return 1
