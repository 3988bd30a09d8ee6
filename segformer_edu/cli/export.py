"""``segformer-edu export``: a model as an ONNX file."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from segformer_edu.cli.command import LICENCE, Add, Command, check_free
from segformer_edu.cli.terminal import UsersError, tell
from segformer_edu.export import export_onnx
from segformer_edu.pretrained.load import load_pretrained

USAGE = """segformer-edu export MODEL --out FILE.onnx [--revision NAME]
           [--overwrite]"""

TEXT = f"""Write a model as ONNX, which programs without PyTorch can run: with any number
of images at a time, of any height and width from 32 up.

MODEL is a file of weights, a folder, or an id on Hugging Face, as for segment.
{LICENCE}

The file takes "image" (batch, channels, height, width): colours from 0 to 1,
less the mean, divided by the standard deviation. It gives "logits" (batch,
classes, h, w) at a quarter of the size; the largest one's number is the class.
A model of one class gives a single logit: the class is 1 where it is above 0,
and 0, the background, elsewhere. The metadata hold image_mean, image_std,
class_names (JSON), class_rule, which says this, and this library's version.

Needs onnx and, with newer versions of PyTorch, onnxscript. Where onnxruntime is
installed too, the file is checked against the model at several sizes and
batches, and the largest difference is told."""

EXAMPLES = """examples:
  segformer-edu export nvidia/segformer-b0-finetuned-ade-512-512 --out b0.onnx
  segformer-edu export my-run.pt --out my-run.onnx

exit codes: 0 done; 1 the weights or the file are not as they should be, or a
package is missing, and one line says what is wrong; 2 wrong usage"""


def add_options(add: Add) -> None:
    """Add the options of ``export``."""
    add("model", metavar="MODEL", help="a file, a folder, or an id such as nvidia/segformer-b0-…")
    add("--out", required=True, type=Path, metavar="FILE.onnx", help="where to write it")
    add("--revision", metavar="NAME", help="a branch, tag or commit of the weights on Hugging Face")
    add("--overwrite", action="store_true", help="replace the file if it exists; otherwise it is never touched")


def run(given: argparse.Namespace) -> int:
    """Write a model as ONNX, and say how it was checked."""
    if given.out.suffix.lower() != ".onnx":
        raise UsersError(f"--out {given.out} has the ending {given.out.suffix!r}; expected .onnx.")
    check_free([given.out], given.overwrite)
    if given.model.startswith("nvidia/"):
        tell(LICENCE, sys.stderr)
    exported = export_onnx(load_pretrained(given.model, revision=given.revision), given.out)
    tell("\n".join(str(exported).split("; ")))
    return 0


COMMAND = Command("write a model as ONNX", USAGE, TEXT, EXAMPLES, add_options, run)
