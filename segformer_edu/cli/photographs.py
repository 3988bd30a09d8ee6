"""Which photographs a call speaks of, and which files are written of each."""

from __future__ import annotations

import argparse
import glob
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from segformer_edu.cli.terminal import UsersError, say
from segformer_edu.data.folder import ARRAY, is_hidden, refusal, words_of
from segformer_edu.data.formats import PICTURES, ending_of

FORMS = (".png", ".jpg", ".jpeg", ".webp")
ADDRESS = re.compile(r"\w[\w+.-]*://")


@dataclass(frozen=True)
class Job:
    """A photograph and the files that are written of it.

    Attributes:
        photo: a path or an address.
        drawing: where the class map over the photograph goes.
        map: where the class numbers go, None if nowhere.
    """

    photo: str
    drawing: Path
    map: Path | None

    @property
    def files(self) -> list[Path]:
        """What is written."""
        return [self.drawing] if self.map is None else [self.drawing, self.map]


def find_photographs(given: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Find what was asked for: files, the pictures in folders, patterns that no shell replaced, addresses.

    A note tells what is left out of a folder.

    Returns:
        Paths and addresses, each once; and for what cannot be found the reason.
    """
    found: dict[str, str] = {}
    missing: dict[str, str] = {}
    for text in given:
        if ADDRESS.match(text) or os.path.isfile(text):
            matched = [text]
        elif os.path.isdir(text):
            matched, left_out = pictures_in(text)
            if not matched:
                missing[text] = f"{text} holds no picture; expected files ending in {PHOTOS}. {left_out}".rstrip()
            elif left_out:
                say(f"{text}: {left_out}")
        elif glob.has_magic(text):
            paths = sorted(glob.glob(text, recursive=True))
            matched = [path for path in paths if os.path.isfile(path)]
            missing |= {} if matched else {text: f"No file is called like {text}; check the name and the folder."}
        else:
            matched = []
            missing[text] = f"There is no picture {text}; check the name and the folder."
        for one in matched:
            found.setdefault(one if ADDRESS.match(one) else os.path.realpath(one), one)
    return list(found.values()), missing


PHOTOS = ", ".join(ending for ending in PICTURES if ending != ".npy")


def pictures_in(folder: str) -> tuple[list[str], str]:
    """Return the pictures that lie in a folder, not those in folders within, by name; and in words what else does."""
    taken: list[str] = []
    left_out: dict[str, list[Path]] = {}
    for name in sorted(os.listdir(folder)):
        path = os.path.join(folder, name)
        if is_hidden(name) or os.path.isdir(path):
            continue
        reason = ARRAY if ending_of(name) == ".npy" else refusal(Path(path))  # class maps are kept as arrays, too
        if reason:
            left_out.setdefault(reason, []).append(Path(path))
        else:
            taken.append(path)
    return taken, words_of(left_out)


def plan(given: argparse.Namespace, photos: Sequence[str]) -> list[Job]:
    """Say what is written of each photograph.

    Raises:
        UsersError: files of a wrong kind or for several photographs, or those that are photographs themselves.
    """
    if is_folder(given.out):
        if given.map and not is_folder(given.map):
            raise UsersError(f"--out {given.out} is a folder, --map {given.map} a file; expected two folders.")
        names = [f"{name}.png" for name in distinct_names(photos)]
        jobs = [
            Job(photo, Path(given.out) / name, Path(given.map) / name if given.map else None)
            for photo, name in zip(photos, names)
        ]
    else:
        jobs = [single(given, photos)]
    check_apart(jobs, given)
    return jobs


def is_folder(text: str) -> bool:
    """Whether a path is a folder, or is to be one: it ends in a separator, or has no ending."""
    ends = text.endswith(tuple(filter(None, (os.sep, os.altsep))))
    return ends or os.path.isdir(text) or not Path(text).suffix


def single(given: argparse.Namespace, photos: Sequence[str]) -> Job:
    """Return the files of one photograph, by name.

    Raises:
        UsersError: endings other than expected, or several photographs.
    """
    out, numbers = Path(given.out), Path(given.map) if given.map else None
    if numbers and numbers.suffix.lower() != ".png":
        raise UsersError(f"--map {numbers} has the ending {numbers.suffix!r}; expected .png, which keeps numbers.")
    if out.suffix.lower() not in FORMS:
        raise UsersError(f"--out {out} has the ending {out.suffix!r}; expected {', '.join(FORMS)}, or a folder.")
    if len(photos) != 1:
        raise UsersError(f"--out {out} is one file for {len(photos)} photographs; expected a folder, {out.stem} say.")
    return Job(photos[0], out, numbers)


def check_apart(jobs: Sequence[Job], given: argparse.Namespace) -> None:
    """Raise UsersError if a file would be written twice, or over a photograph."""
    photos = {os.path.realpath(job.photo).casefold() for job in jobs if not ADDRESS.match(job.photo)}
    for job in jobs:
        if job.map and os.path.realpath(job.map) == os.path.realpath(job.drawing):
            kind = "folders" if is_folder(given.out) else "files"
            raise UsersError(f"--out and --map are both {given.out}; expected two {kind}.")
        if over := [path for path in job.files if os.path.realpath(path).casefold() in photos]:
            raise UsersError(f"{over[0]} is one of the photographs, and never replaced; choose another name or folder.")


def distinct_names(photos: Sequence[str]) -> list[str]:
    """Return a name for each photograph, no two alike: its own; with its folder's before it; or with its number."""
    parts = [parts_of(photo) for photo in photos]
    ways: list[Callable[[int], str]] = [
        lambda i: parts[i][1],
        lambda i: "-".join(filter(None, parts[i])),
        lambda i: f"{i + 1}-{parts[i][1]}",
    ]
    for way in ways:
        names = [way(index) for index in range(len(photos))]
        if len({name.casefold() for name in names}) == len(names):  # as Windows and macOS compare them
            break
    return names


def parts_of(photo: str) -> tuple[str, str]:
    """Return the name of a photograph's folder and its own without the ending, as any system lets a file be called."""
    if ADDRESS.match(photo):
        address = urlsplit(photo)
        path = PurePosixPath(unquote(address.path))
        folder, name = path.parent.name or address.hostname or "", path.stem or "picture"
    else:
        absolute = Path(photo).absolute()
        folder, name = absolute.parent.name, absolute.stem
    return re.sub(r'[<>:"/\\|?*\x00-\x1f]', "_", folder), re.sub(r'[<>:"/\\|?*\x00-\x1f]', "_", name)
