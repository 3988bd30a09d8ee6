"""What a command consists of, and what several of them read."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from segformer_edu.cli.terminal import UsersError
from segformer_edu.data.classes import ClassList, class_list

LICENCE = "NVIDIA's weights may be used for research and evaluation, not commercially."
Add = Callable[..., object]


@dataclass(frozen=True)
class Command:
    """A command: what its help says, its options, and what it does.

    Attributes:
        gist: one line for the list of commands.
        usage: how it is called.
        text: what it does.
        examples: calls, and the exit codes.
        add: adds its options.
        run: does it with what was given, and returns the exit code.
    """

    gist: str
    usage: str
    text: str
    examples: str
    add: Callable[[Add], None]
    run: Callable[[argparse.Namespace], int]


def a_class_list(text: str) -> ClassList:
    """Read ``--classes``."""
    try:
        return class_list(int(text) if text.isdigit() else text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def a_side(text: str) -> int:
    """Read one number of ``--size``."""
    if not text.isdigit() or int(text) < 32:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no size; expected one or two numbers of pixels, from 32 up (PHOTO or MODEL stands first)"
        )
    return int(text)


def check_sides(given: argparse.Namespace) -> None:
    """Raise UsersError if ``--size`` has more than two numbers."""
    if given.size and len(given.size) > 2:
        raise UsersError(f"--size has {len(given.size)} numbers; expected one, or height and width.")


def check_free(paths: Sequence[Path], overwrite: bool, *, make_folders: bool = False) -> None:
    """Raise UsersError if files cannot be written, or exist and are not to be replaced, before anything takes time.

    Args:
        paths: of the files.
        overwrite: whether to replace those that exist.
        make_folders: whether folders that are missing will be made.
    """
    for path in paths:
        folder = path.parent
        while make_folders and not folder.exists() and folder != folder.parent:
            folder = folder.parent
        if path.is_dir() or not folder.is_dir():
            what = f"{path if path.is_dir() else folder} is {'a folder' if path.is_dir() else 'no folder'}"
            raise UsersError(f"{path} cannot be written: {what}.")
        if not os.access(folder, os.W_OK):
            raise UsersError(f"{path} cannot be written: nothing may be written into {folder}.")
    there = [path for path in paths if path.exists()]
    if there and not overwrite:
        if there[1:]:
            raise UsersError(f"{there[0]} and {len(there) - 1} more exist; choose another folder, or --overwrite them.")
        raise UsersError(f"{there[0]} exists; choose another name, or replace it with --overwrite.")


def write_whole(path: Path, content: bytes) -> None:
    """Write a file in one move: an interruption leaves what was there before."""
    part = path.with_name(f"{path.name}.part")
    try:
        part.write_bytes(content)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
