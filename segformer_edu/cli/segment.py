"""``segformer-edu segment``: photographs and their class maps."""

from __future__ import annotations

import argparse
import io
import re
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from tqdm import tqdm

from segformer_edu.cli.command import (
    LICENCE,
    Add,
    Command,
    a_class_list,
    a_side,
    check_free,
    check_sides,
    write_whole,
)
from segformer_edu.cli.photographs import FORMS, Job, find_photographs, is_folder, plan
from segformer_edu.cli.terminal import UsersError, complain, explained, say, tell
from segformer_edu.data.classes import CLASS_LISTS, ClassList, class_list
from segformer_edu.data.pictures import as_image
from segformer_edu.inference import LONGEST, looked_at_size, segment
from segformer_edu.model.fast import keep_freed_memory
from segformer_edu.model.segformer import Segformer
from segformer_edu.pretrained.load import load_pretrained
from segformer_edu.training import choose_device

DEVICES = ("cpu", "cuda", "mps", "xpu")

# PHOTOS first: behind --size they would be taken for one of its numbers
USAGE = """segformer-edu segment PHOTO [PHOTO …] --weights SOURCE --out FILE|FOLDER
           [--map FILE|FOLDER] [--classes NAMES] [--size PIXELS [PIXELS]]
           [--window PIXELS] [--device DEVICE] [--revision NAME] [--overwrite]"""

TEXT = f"""Give every pixel of a photograph its class, and draw the class map over it.

PHOTO is a file, a folder (the pictures in it), a pattern such as "*.jpg", or an
address (http, https): JPEG, PNG, TIFF, WebP, GIF (its first picture); colour,
grey or with transparency, 8 or 16 bits, the camera held any way round. Of
several, the weights are loaded once; one that cannot be read does not stop the
others, and is told at the end.

--out is a file for one photograph, a folder for any number: there each drawing
has the photograph's name and .png; where two have the same name, those of their
folders stand before, or numbers. So does --map with the class numbers.

--weights is a file (.pth, .pt, .bin, .safetensors), a folder as transformers
writes it, or an id on Hugging Face, which is downloaded once. NVlabs',
Hugging Face's, segmentation-models-pytorch's, lucidrains' and this book's own
files are told apart by the names in them.
{LICENCE}

--classes says what the class numbers stand for. By default it is what the
weights' config.json says (id2label); where that says nothing, 150 classes are
taken for ADE20K's, 19 for Cityscapes', and others are called by number. Weights
with one logit tell a class from the background.

--size is what the model is shown; the result has the photograph's own size in
any case. One number is the longer side, two are height and width. Published
weights learned from crops of 512×512 (ADE20K; B5: 640×640) and of 1024×1024
(Cityscapes), and know things as large as they are in those. Twice the size
shows more detail, is not always more right, and takes at least four times the
time. Without --size the photograph is shown as it is, or reduced to {LONGEST}
pixels on its longer side. --window shows it as it is, in overlapping windows
of so many pixels."""

EXAMPLES = """examples:
  segformer-edu segment cat.jpg --out cat-classes.png \\
      --weights nvidia/segformer-b0-finetuned-ade-512-512
  segformer-edu segment street.jpg --out street.webp --map numbers.png \\
      --weights nvidia/segformer-b0-finetuned-cityscapes-1024-1024 \\
      --size 1024 2048
  segformer-edu segment https://example.org/leaf.tif --out leaf.png \\
      --weights my-run.pt --classes 4 --size 512
  segformer-edu segment photos more/*.jpg --out drawings --map numbers \\
      --weights my-run.pt --device cuda:1

exit codes: 0 done; 1 a file, an address or the weights are not as they should
be, and one line says what is wrong; 2 wrong usage; 130 stopped by Ctrl-C, what
was written stays"""


def a_device(text: str) -> str:
    """Read ``--device``."""
    if not re.fullmatch(rf"({'|'.join(DEVICES)})(:\d+)?", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no device; expected cpu, cuda, cuda:1 (the second) or mps")
    return text


def add_options(add: Add) -> None:
    """Add the options of ``segment``."""
    known = " or ".join(f"{name} ({len(classes)})" for name, classes in CLASS_LISTS.items())
    add("photos", metavar="PHOTO", nargs="+", help="a file, a folder, or an address that begins with https://")
    add("--weights", required=True, metavar="SOURCE", help="a file, a folder, or an id such as nvidia/segformer-b0-…")
    add("--out", required=True, metavar="FILE|FOLDER", help=f"the drawing: {', '.join(FORMS)}; or a folder for them")
    add("--map", metavar="FILE|FOLDER", help="also write the class numbers: a PNG of one channel, with palette")
    add("--classes", type=a_class_list, metavar="NAMES", help=f"{known}, or a number; by default see above")
    add("--size", type=a_side, nargs="+", metavar="PIXELS", help="the longer side, or height and width; see above")
    add("--window", type=a_side, metavar="PIXELS", help="the side of windows that slide over a large photograph")
    add("--device", type=a_device, metavar="DEVICE", help="cpu, cuda, cuda:1 or mps; by default the fastest at hand")
    add("--revision", metavar="NAME", help="a branch, tag or commit of the weights on Hugging Face")
    add("--overwrite", action="store_true", help="replace files that exist; otherwise they are never touched")


def run(given: argparse.Namespace) -> int:
    """Segment the photographs, write the files, and say what was done."""
    check_sides(given)
    if given.size and given.window:
        raise UsersError("--size and --window exclude each other: windows see the photograph in its own size.")
    photos, failures = find_photographs(given.photos)
    total = len(photos) + len(failures)
    jobs = plan(given, photos) if photos else []
    files = [path for job in jobs for path in job.files]
    check_free(files, given.overwrite, make_folders=is_folder(given.out))
    if not jobs:
        return report(failures, total)
    model, classes = ready_model(given)
    done, noted = 0, set[str]()
    try:
        for job in tqdm(jobs, desc="segment", unit="photo", leave=False, disable=total == 1):
            with each_note_once(job.photo if total > 1 else "", noted):
                reason = attempt(model, job, classes, given, total == 1)
            failures |= {job.photo: reason} if reason else {}
            done += not reason
    except KeyboardInterrupt:
        tell(f"segformer-edu: stopped after {done} of {total} photographs; what was written stays.", sys.stderr)
        return 130
    if total > 1:
        tell(f"{done} of {total} photographs are done, in {given.out}")
    return report(failures, total)


def ready_model(given: argparse.Namespace) -> tuple[Segformer, ClassList]:
    """Load the weights onto the device, and return them with the classes to name."""
    device = usable_device(given.device)
    keep_freed_memory()
    if given.weights.startswith("nvidia/"):
        tell(LICENCE, sys.stderr)
    model = load_pretrained(given.weights, revision=given.revision)
    if not isinstance(model, Segformer):
        raise UsersError(f"{given.weights} classifies whole images; expected weights with a decoder, such as "
                         f"nvidia/segformer-b0-finetuned-ade-512-512.")  # fmt: skip
    classes = fitting_classes(model, given.classes, given.weights)
    if given.map and len(classes) > 256:
        raise UsersError(f"--map takes 256 classes, the numbers of one byte; these weights have {len(classes)}.")
    return model.to(device), classes


@contextmanager
def each_note_once(photo: str, noted: set[str]) -> Iterator[None]:
    """Show what is warned of, with the photograph's name if there is one; not again what was said of another."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", UserWarning)
        yield
    for warning in told:
        if (text := str(warning.message)) not in noted:
            noted.add(text)
            say(f"{photo}: {text}" if photo and photo not in text else text)


def attempt(model: Segformer, job: Job, classes: ClassList, given: argparse.Namespace, alone: bool) -> str:
    """Segment one photograph and say so; return why it could not be done, "" if it is."""
    try:
        said = segment_one(model, job, classes, given)
    except Exception as error:
        if (reason := explained(error)) is None:
            raise
        return reason
    tell("\n".join(said) if alone else "; ".join(said))
    return ""


def report(failures: Mapping[str, str], total: int) -> int:
    """Say what could not be done, and return the exit code."""
    if total == 1:
        for reason in failures.values():
            complain(reason)
    elif failures:
        lines = [reason if photo in reason else f"{photo}: {reason}" for photo, reason in failures.items()]
        complain("\n  ".join([f"{len(failures)} of {total} photographs failed:", *lines]))
    return 1 if failures else 0


def usable_device(wanted: str | None) -> torch.device:
    """Return the device to compute on.

    Raises:
        UsersError: one that this machine does not have.
    """
    if wanted is None:
        return choose_device()
    try:
        torch.empty(1, device=wanted)
    except (RuntimeError, AssertionError, ImportError, NotImplementedError) as error:
        there = ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
        there += ["mps"] if torch.backends.mps.is_available() else []
        raise UsersError(f"--device {wanted} is not here ({str(error).splitlines()[0]}); expected one of "
                         f"{', '.join(there)}. Without --device the fastest is taken.") from error  # fmt: skip
    return torch.device(wanted)


def fitting_classes(model: Segformer, wanted: ClassList | None, weights: str) -> ClassList:
    """Return the classes to name, or raise UsersError if these weights have another number of them."""
    own = named_classes(model.class_names, model.num_classes)
    classes = own if wanted is None or len(wanted) == model.num_classes == 1 else wanted
    if len(classes) != len(own):
        raise UsersError(f"--classes is {len(classes)} ({classes.data}), but {weights} has {model.num_classes}; "
                         f"leave --classes out, or give --classes {model.num_classes}.")  # fmt: skip
    return classes


def named_classes(names: tuple[str, ...] | None, count: int) -> ClassList:
    """Return the classes that a model tells apart: with one logit the background and its class."""
    if count == 1:
        return class_list(("background", names[0] if names else "class 1"))
    return class_list(names or count)


def segment_one(model: Segformer, job: Job, classes: ClassList, given: argparse.Namespace) -> list[str]:
    """Segment one photograph and write its files; return what was done, in lines."""
    from segformer_edu.pages import plots  # here: matplotlib is slow to import, and most other commands draw nothing

    picture = as_image(job.photo, model.config.channels)
    own = (picture.shape[-2], picture.shape[-1])
    if given.window:
        mask, shown = segment(model, picture, window=given.window), f"windows of {given.window}×{given.window}"
    else:
        size = looked_at_size(*own, given.size[0] if given.size and len(given.size) == 1 else given.size)
        mask, shown = segment(model, picture, size=size), f"{size[0]}×{size[1]}"
    found = plots.list_shares(plots.shares(mask, classes.names))
    for path in job.files:
        path.parent.mkdir(parents=True, exist_ok=True)
    alt = f"{job.photo}, its class map laid over it: {found}".encode(errors="replace").decode()
    write_drawing(job.drawing, visible(picture), mask, classes, alt)
    if job.map:
        write_map(job.map, mask, classes)
    return [
        f"{job.photo}: {own[0]}×{own[1]} pixels (height, width), shown to the model in {shown}",
        f"{classes.data}: {found}",
        f"written: {' '.join(map(str, job.files))}",
    ]


def visible(picture: torch.Tensor) -> torch.Tensor:
    """Return what can be drawn of a picture (C, H, W): its first three channels, or the first alone."""
    return picture[:3] if len(picture) >= 3 else picture[0]


def write_drawing(path: Path, picture: torch.Tensor, mask: torch.Tensor, classes: ClassList, alt: str) -> None:
    """Write the class map over its picture; a PNG also carries the description in words."""
    from segformer_edu.pages import plots

    figure = plots.overlay(picture, mask, classes=classes.names, colours=classes.colours)
    words: dict[str, Any] = {"metadata": {"Description": alt}} if path.suffix.lower() == ".png" else {}
    buffer = io.BytesIO()
    figure.savefig(buffer, format=path.suffix[1:].lower(), dpi=200, facecolor="white", **words)
    write_whole(path, buffer.getvalue())


def write_map(path: Path, mask: torch.Tensor, classes: ClassList) -> None:
    """Write class numbers as a PNG of one channel; programs that show it paint it with the classes' colours."""
    numbers = Image.fromarray(mask.byte().numpy())
    numbers.putpalette(b"".join(bytes.fromhex(colour[1:]) for colour in classes.colours))
    buffer = io.BytesIO()
    numbers.save(buffer, format="png")
    write_whole(path, buffer.getvalue())


COMMAND = Command("give every pixel of photographs its class", USAGE, TEXT, EXAMPLES, add_options, run)
