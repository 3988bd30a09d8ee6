"""``segformer-edu evaluate``: a model's class maps compared with the truth."""

from __future__ import annotations

import argparse
import json
import math
import sys
import warnings
from pathlib import Path
from typing import Any

from segformer_edu.cli.command import Add, Command, check_free, write_whole
from segformer_edu.cli.data import DATA, SPLITS, add_data_options, classes_of, evaluation_data, names_of
from segformer_edu.cli.segment import a_device, usable_device
from segformer_edu.cli.terminal import UsersError, tell
from segformer_edu.model.segformer import Segformer
from segformer_edu.pretrained.load import load_pretrained
from segformer_edu.training.evaluation import evaluate
from segformer_edu.training.metrics import Scores

USAGE = """segformer-edu evaluate --weights SOURCE --data camvid|FOLDER
           [--split SPLIT] [--names LIST] [--flip] [--scales NUMBER …]
           [--json FILE] [--device DEVICE]"""

TEXT = f"""Compare a model's class maps with the truth, all pixels of all pictures in one
confusion matrix: the IoU of each class, their mean (mIoU), and the accuracy.

{DATA}

Of FOLDER the classes are the weights' own, unless --classes says otherwise;
--names takes judged.txt, which train writes.

A picture is looked at once, in its own size. --flip looks at it in the mirror
too, --scales at other sizes; the mean of the probabilities decides. State such
figures apart: they cost several times as much."""

EXAMPLES = """examples:
  segformer-edu evaluate --weights camvid-b0 --data camvid --split test
  segformer-edu evaluate --weights runs/x/model --data my-data \\
      --names runs/x/judged.txt --flip --scales 0.75 1 1.25

exit codes: 0 done; 1 the weights or the data are not as they should be, and one
line says what is wrong; 2 wrong usage"""


def add_options(add: Add) -> None:
    """Add the options of ``evaluate``."""
    add("--weights", required=True, metavar="SOURCE", help="as for segment")
    add_data_options(add)
    add("--split", choices=list(SPLITS), default="val", help="val by default; look at test once, at the end")
    add("--size", type=int, nargs=2, metavar="PIXELS", help="of FOLDER: as for train")
    add("--only", metavar="SEQUENCE", help="of CamVid: pictures whose names begin so, such as 0001TP")
    add("--flip", action="store_true", help="look at each picture in the mirror too")
    scales: dict[str, Any] = {"type": float, "nargs": "+", "action": "extend"}  # it would extend a default, too
    add("--scales", **scales, metavar="NUMBER", help="magnifications to look at; 1 by default")
    add("--json", type=Path, metavar="FILE", help="also write the figures, and the confusion matrix, into a file")
    add("--device", type=a_device, metavar="DEVICE", help="cpu, cuda, cuda:1 or mps; by default the fastest at hand")
    add("--overwrite", action="store_true", help="replace the file of --json if it exists")


def run(given: argparse.Namespace) -> int:
    """Evaluate the model, and print a table."""
    check_free([given.json] if given.json else [], given.overwrite)
    model = load_pretrained(given.weights)
    if not isinstance(model, Segformer):
        raise UsersError(f"{given.weights} classifies whole images; expected weights with a decoder.")
    own = model.class_names or ()
    if own[1:] and given.classes is None and given.classes_file is None:
        given.classes = list(told_apart(own))
    data = evaluation_data(given)
    names = classes_of(data)
    if max(model.num_classes, 2) != len(names):
        raise UsersError(f"{given.weights} has {model.num_classes} classes, the data {len(names)}; expected the same.")
    if own[1:] and own != names:
        warnings.warn(f"The weights' classes are {', '.join(own)}, the data's {', '.join(names)}.", stacklevel=2)
    warn_of_learned(Path(given.weights).parent / "judged.txt", names_of(data))
    device = usable_device(given.device)
    views = {"flip": given.flip, "scales": given.scales or [1.0], "progress": sys.stderr.isatty()}
    scores = evaluate(model.to(device), data, batch_size=2, **views)
    tell(table(scores, names))
    tell(f"{scores.describe(names)}, {len(data)} pictures")
    if given.json:
        write_whole(given.json, json.dumps(figures(scores, names), indent=1).encode())
    return 0


def warn_of_learned(held_out: Path, here: list[str]) -> None:
    """Warn where pictures are judged that ``train`` held out, and others beside them: the model learned from these."""
    if not held_out.is_file():
        return
    judged = {Path(name).resolve() for name in held_out.read_text(encoding="utf-8").splitlines()}
    others = [name for name in here if Path(name).resolve() not in judged]
    if 0 < len(others) < len(here):
        warnings.warn(
            f"{held_out} names the pictures that the training held out. {len(others)} of the {len(here)} are not among "
            f"them: the model may have learned from these. --names {held_out} judges by those held out alone.",
            stacklevel=2,
        )


def table(scores: Scores, names: tuple[str, ...]) -> str:
    """Return a line for each class."""
    width = max(map(len, names))
    return "\n".join(
        f"{name:{width}} {'absent' if math.isnan(iou) else f'{100 * iou:6.1f}'}"
        for name, iou in zip(names, scores.iou.tolist())
    )


def told_apart(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names, with their numbers before them where two classes, of somebody's weights say, have one name."""
    return names if len(set(names)) == len(names) else tuple(f"{number} {name}" for number, name in enumerate(names))


def figures(scores: Scores, names: tuple[str, ...]) -> dict[str, Any]:
    """Return the scores as plain values."""
    ious = [None if math.isnan(iou) else iou for iou in scores.iou.tolist()]
    return {
        "miou": scores.mean_iou,
        "accuracy": scores.accuracy,
        "iou": dict(zip(told_apart(names), ious)),
        "confusion": scores.confusion.tolist(),
    }


COMMAND = Command("compare a model's class maps with the truth", USAGE, TEXT, EXAMPLES, add_options, run)
