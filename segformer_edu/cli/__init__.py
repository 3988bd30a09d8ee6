"""The library from a shell: ``segformer-edu segment`` and ``segformer-edu cost``."""

from __future__ import annotations

import argparse
import io
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from segformer_edu import __version__
from segformer_edu.data.classes import CLASS_LISTS, ClassList, class_list
from segformer_edu.inference import LONGEST, as_image, looked_at_size, segment
from segformer_edu.model.cost import cost
from segformer_edu.model.fast import keep_freed_memory
from segformer_edu.model.segformer import Segformer
from segformer_edu.model.variants import VARIANTS, ImageClassifier, build_segformer
from segformer_edu.pretrained.load import load_pretrained
from segformer_edu.training import choose_device

FORMS = (".png", ".jpg", ".jpeg", ".webp")
LICENCE = "NVIDIA's weights may be used for research and evaluation, not commercially."

DESCRIPTION = "SegFormer from scratch: the book's library, from a shell."

# PHOTO and MODEL first: behind --size they would be taken for one of its numbers
SEGMENT_USAGE = """segformer-edu segment PHOTO --weights SOURCE --out FILE [--map FILE]
           [--classes NAMES] [--size PIXELS [PIXELS]] [--overwrite]"""
COST_USAGE = "segformer-edu cost MODEL --size PIXELS [PIXELS] [--classes NAMES]"

SEGMENT = f"""Give every pixel of a photograph its class, and draw the class map over it.

PHOTO is a file or an address (http, https): JPEG, PNG, TIFF, WebP, GIF (its
first picture); colour, grey or with transparency, 8 or 16 bits, the camera
held any way round.

--weights is a file (.pth, .pt, .bin, .safetensors), a folder as transformers
writes it, or an id on Hugging Face, which is downloaded once. NVlabs',
Hugging Face's, segmentation-models-pytorch's, lucidrains' and this book's own
files are told apart by the names in them.
{LICENCE}

--classes says what the class numbers stand for. By default it is what the
weights' config.json says (id2label); where that says nothing, 150 classes are
taken for ADE20K's, 19 for Cityscapes', and others are called by number.

--size is what the model is shown; the result has the photograph's own size in
any case. One number is the longer side, two are height and width. Published
weights learned from crops of 512×512 (ADE20K; B5: 640×640) and of 1024×1024
(Cityscapes), and know things as large as they are in those. Twice the size
shows more detail, is not always more right, and takes at least four times the
time. Without --size the photograph is shown as it is, or reduced to {LONGEST}
pixels on its longer side."""

SEGMENT_EXAMPLES = """examples:
  segformer-edu segment cat.jpg --out cat-classes.png \\
      --weights nvidia/segformer-b0-finetuned-ade-512-512
  segformer-edu segment street.jpg --out street.webp --map numbers.png \\
      --weights nvidia/segformer-b0-finetuned-cityscapes-1024-1024 \\
      --size 1024 2048
  segformer-edu segment https://example.org/leaf.tif --out leaf.png \\
      --weights my-run.pt --classes 4 --size 512

exit codes: 0 done; 1 a file, an address or the weights are not as they should
be, and one line says what is wrong; 2 wrong usage"""


COST = """Count what a model of the paper costs for one image, part by part. Nothing is
computed but shapes, so any size takes a moment and no memory.

Parameters are the numbers that training finds; they do not depend on --size. A
MAC is a product and a sum; the paper calls them FLOPs. They grow with the
number of pixels; those of attention, which compares places with places, grow
with its square. Activations are the numbers that the parts put out."""

COST_EXAMPLES = """examples:
  segformer-edu cost b0 --size 512 512
  segformer-edu cost b5 --size 640
  segformer-edu cost b2 --size 1024 2048 --classes 19"""


class UsersError(Exception):
    """Something that the user can mend; the text says how, in one line."""


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


def add_cost(add: Callable[..., object]) -> None:
    """Add the options of ``cost``."""
    add("model", type=str.lower, choices=list(VARIANTS), metavar="MODEL", help=f"one of {', '.join(VARIANTS)}")
    sides = "one number for both, or height and width"
    add("--size", required=True, type=a_side, nargs="+", metavar="PIXELS", help=sides)
    add("--classes", type=a_class_list, default="150", metavar="NAMES", help="as for segment; 150 by default")


def add_segment(add: Callable[..., object]) -> None:
    """Add the options of ``segment``."""
    known = " or ".join(f"{name} ({len(classes)})" for name, classes in CLASS_LISTS.items())
    add("photo", metavar="PHOTO", help="a file, or an address that begins with https://")
    add("--weights", required=True, metavar="SOURCE", help="a file, a folder, or an id such as nvidia/segformer-b0-…")
    add("--out", required=True, type=Path, metavar="FILE", help=f"the drawing: {', '.join(FORMS)}")
    add("--map", type=Path, metavar="FILE", help="also write the class numbers: a PNG of one channel, with palette")
    add("--classes", type=a_class_list, metavar="NAMES", help=f"{known}, or a number; by default see above")
    add("--size", type=a_side, nargs="+", metavar="PIXELS", help="the longer side, or height and width; see above")
    add("--overwrite", action="store_true", help="replace files that exist; otherwise they are never touched")


def check_outputs(given: argparse.Namespace) -> None:
    """Raise UsersError if a file cannot be written, before anything takes time."""
    if given.map and given.map.suffix.lower() != ".png":
        raise UsersError(f"--map {given.map} has the ending {given.map.suffix!r}; expected .png, which keeps numbers.")
    if given.out.suffix.lower() not in FORMS:
        raise UsersError(f"--out {given.out} has the ending {given.out.suffix!r}; expected {', '.join(FORMS)}.")
    if given.map and given.map.absolute() == given.out.absolute():
        raise UsersError(f"--out and --map are both {given.out}; expected two files.")
    for path in filter(None, (given.out, given.map)):
        if path.exists() and not given.overwrite:
            raise UsersError(f"{path} exists; choose another name, or replace it with --overwrite.")
        if path.is_dir() or not path.parent.is_dir():
            raise UsersError(f"{path} cannot be written: {'it' if path.is_dir() else path.parent} is "
                             f"{'a folder' if path.is_dir() else 'no folder'}.")  # fmt: skip


def fitting_classes(model: Segformer | ImageClassifier, wanted: ClassList | None, weights: str) -> ClassList:
    """Return the classes to name, or raise UsersError if these weights have another number of them."""
    if not isinstance(model, Segformer):
        raise UsersError(f"{weights} classifies whole images; expected weights with a decoder, such as "
                         f"nvidia/segformer-b0-finetuned-ade-512-512.")  # fmt: skip
    classes = wanted or class_list(model.class_names or model.num_classes)
    if len(classes) != model.num_classes:
        raise UsersError(f"--classes is {len(classes)} ({classes.data}), but {weights} has {model.num_classes}; "
                         f"leave --classes out, or give --classes {model.num_classes}.")  # fmt: skip
    return classes


def check_sides(given: argparse.Namespace) -> None:
    """Raise UsersError if ``--size`` has more than two numbers."""
    if given.size and len(given.size) > 2:
        raise UsersError(f"--size has {len(given.size)} numbers; expected one, or height and width.")


def run_segment(given: argparse.Namespace) -> None:
    """Segment a photograph, write the files, and say what was done."""
    from segformer_edu.pages import plots  # here: matplotlib is slow to import, and the other commands draw nothing

    check_sides(given)
    check_outputs(given)
    keep_freed_memory()
    picture = as_image(given.photo)
    if given.weights.startswith("nvidia/"):
        print(LICENCE, file=sys.stderr)
    model = load_pretrained(given.weights)
    classes = fitting_classes(model, given.classes, given.weights)
    if given.map and len(classes) > 256:
        raise UsersError(f"--map takes 256 classes, the numbers of one byte; these weights have {len(classes)}.")
    own = (picture.shape[-2], picture.shape[-1])
    size = looked_at_size(*own, given.size[0] if given.size and len(given.size) == 1 else given.size)
    mask = segment(model.to(choose_device()), picture, size=size)
    found = plots.list_shares(plots.shares(mask, classes.names))
    write_drawing(given.out, picture, mask, classes, f"{given.photo}, its class map laid over it: {found}")
    print(f"{given.photo}: {own[0]}×{own[1]} pixels (height, width), shown to the model in {size[0]}×{size[1]}")
    print(f"{classes.data}: {found}")
    if given.map:
        write_map(given.map, mask, classes)
    print("written:", *filter(None, (given.out, given.map)))


def write_drawing(path: Path, picture: torch.Tensor, mask: torch.Tensor, classes: ClassList, alt: str) -> None:
    """Write the class map over its picture; a PNG also carries the description in words."""
    from segformer_edu.pages import plots

    figure = plots.overlay(picture, mask, classes=classes.names, colours=classes.colours)
    words: dict[str, Any] = {"metadata": {"Description": alt}} if path.suffix.lower() == ".png" else {}
    buffer = io.BytesIO()
    figure.savefig(buffer, format=path.suffix[1:].lower(), dpi=200, facecolor="white", **words)
    path.write_bytes(buffer.getvalue())


def write_map(path: Path, mask: torch.Tensor, classes: ClassList) -> None:
    """Write class numbers as a PNG of one channel; programs that show it paint it with the classes' colours."""
    numbers = Image.fromarray(mask.byte().numpy())
    numbers.putpalette(b"".join(bytes.fromhex(colour[1:]) for colour in classes.colours))
    numbers.save(path)


def run_cost(given: argparse.Namespace) -> None:
    """Print the table of what a model costs."""
    check_sides(given)
    with torch.device("meta"):  # shapes alone
        model = build_segformer(given.model, len(given.classes))
    print(f"SegFormer-{given.model.upper()}, {len(given.classes)} classes")
    print(cost(model, (given.size[0], given.size[-1])))


def one_line(error: BaseException | str) -> str:
    """Return a message without its line breaks."""
    return " ".join(str(error).split())


def say(message: Warning | str, *_: object) -> None:
    """Print a warning as a note of one line."""
    print(f"segformer-edu: note: {one_line(message)}", file=sys.stderr)


@dataclass(frozen=True)
class Command:
    """A command: what its help says, its options, and what it does.

    Attributes:
        gist: one line for the list of commands.
        usage: how it is called.
        text: what it does.
        examples: calls, and the exit codes.
        add: adds its options.
        run: does it with what was given.
    """

    gist: str
    usage: str
    text: str
    examples: str
    add: Callable[[Callable[..., object]], None]
    run: Callable[[argparse.Namespace], None]


COMMANDS = {
    "segment": Command(
        "give every pixel of a photograph its class", SEGMENT_USAGE, SEGMENT, SEGMENT_EXAMPLES, add_segment, run_segment
    ),
    "cost": Command(
        "count what a model of the paper costs: parameters, multiply-accumulates",
        COST_USAGE, COST, COST_EXAMPLES, add_cost, run_cost,
    ),
}  # fmt: skip
"""Every command by its name; another one is one more entry, with its texts and functions above."""


def make_parser() -> argparse.ArgumentParser:
    """Make the parser of the commands and their options."""
    raw: dict[str, Any] = {"formatter_class": argparse.RawDescriptionHelpFormatter}
    more = f"{' and '.join(f'segformer-edu {name} --help' for name in COMMANDS)} say more."
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

    Args:
        arguments: as from a shell, without the program's name; those of this process by default.

    Raises:
        SystemExit: with 2 after wrong usage, with 0 after ``--help`` and ``--version``.
    """
    given = make_parser().parse_args(arguments)
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")  # it counts its retries aloud; read when it is imported
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always", UserWarning)
            warnings.showwarning = say  # type: ignore[assignment]  # called by position
            COMMANDS[given.command].run(given)
    except (UsersError, OSError, ValueError, TypeError, ImportError, FloatingPointError) as error:
        print(f"segformer-edu: error: {one_line(error)}", file=sys.stderr)
        return 1
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not any(word in str(error) for word in ("memory", "alloc")):
            raise
        print("segformer-edu: error: not enough memory; a smaller --size needs less.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0
