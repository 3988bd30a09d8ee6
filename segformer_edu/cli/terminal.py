"""What the commands print: on any terminal, into any pipe or file, and each mistake in one line."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from tqdm import tqdm

SIMPLER = str.maketrans({"×": "x", "…": "...", "–": "-", "’": "'", "→": "->", "≥": ">="})
"""What to write where an encoding lacks the character; of what is not in here it shows a question mark."""


class UsersError(Exception):
    """Something that the user can mend; the text says how, in one line."""


class Output:
    """A stream that takes every text. Nothing that is written may stop a command that has work to do.

    A character that its encoding lacks is replaced. Where nobody reads on (``| head``), the rest goes nowhere; so does
    everything where there is no stream (pythonw).

    Args:
        stream: sys.stdout or sys.stderr.
    """

    def __init__(self, stream: Any) -> None:
        self.stream = io.StringIO() if stream is None else stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        """Write a text as far as the stream can show it."""
        try:
            self.stream.write(text)
        except UnicodeEncodeError:
            encoding = self.stream.encoding or "ascii"
            self.stream.write(text.translate(SIMPLER).encode(encoding, "replace").decode(encoding))
        except OSError as error:
            self.give_up(error)
        return len(text)

    def flush(self) -> None:
        """Hand over what was written."""
        try:
            self.stream.flush()
        except OSError as error:
            self.give_up(error)

    def give_up(self, error: OSError) -> None:
        """Let the rest go nowhere; raise the error again where it is not that the reader has gone."""
        with suppress(OSError, ValueError, AttributeError):  # a stream without a file
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.stream.fileno())  # for the interpreter, too, which flushes at its end
            os.close(nowhere)
        if not isinstance(error, BrokenPipeError) and os.name != "nt":  # Windows calls it EINVAL
            raise error


@contextmanager
def any_output() -> Iterator[None]:
    """Make sys.stdout and sys.stderr take every text while this lasts."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = Output(before[0]), Output(before[1])
    try:
        yield
    finally:
        with suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        sys.stdout, sys.stderr = before


def one_line(error: BaseException | str) -> str:
    """Return a message without its line breaks."""
    return " ".join(str(error).split())


def explained(error: Exception) -> str | None:
    """Say in one line what the user can mend; None for a mistake of the program's own."""
    if isinstance(error, UsersError | OSError | ValueError | TypeError | ImportError | FloatingPointError):
        return one_line(error)
    short = isinstance(error, RuntimeError) and any(word in str(error) for word in ("memory", "alloc"))
    return "not enough memory; a smaller --size needs less." if short or isinstance(error, MemoryError) else None


def complain(text: str) -> None:
    """Say on stderr what went wrong."""
    tell(f"segformer-edu: error: {text}", sys.stderr)


def say(message: Warning | str, *_: object) -> None:
    """Show a warning as a note of one line."""
    tell(f"segformer-edu: note: {one_line(message)}", sys.stderr)


def tell(text: str, file: Any = None) -> None:
    """Print a line, on stdout by default, above a progress bar where there is one."""
    tqdm.write(text, file=file or sys.stdout)
