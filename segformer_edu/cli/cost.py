"""``segformer-edu cost``: what a model of the paper costs."""

from __future__ import annotations

import argparse

import torch

from segformer_edu.cli.command import Add, Command, a_class_list, a_side, check_sides
from segformer_edu.model.cost import cost
from segformer_edu.model.variants import VARIANTS, build_segformer

# MODEL first: behind --size it would be taken for one of its numbers
USAGE = "segformer-edu cost MODEL --size PIXELS [PIXELS] [--classes NAMES]"

TEXT = """Count what a model of the paper costs for one image, part by part. Nothing is
computed but shapes, so any size takes a moment and no memory.

Parameters are the numbers that training finds; they do not depend on --size. A
MAC is a product and a sum; the paper calls them FLOPs. They grow with the
number of pixels; those of attention, which compares places with places, grow
with its square. Activations are the numbers that the parts put out."""

EXAMPLES = """examples:
  segformer-edu cost b0 --size 512 512
  segformer-edu cost b5 --size 640
  segformer-edu cost b2 --size 1024 2048 --classes 19"""


def add_options(add: Add) -> None:
    """Add the options of ``cost``."""
    add("model", type=str.lower, choices=list(VARIANTS), metavar="MODEL", help=f"one of {', '.join(VARIANTS)}")
    sides = "one number for both, or height and width"
    add("--size", required=True, type=a_side, nargs="+", metavar="PIXELS", help=sides)
    add("--classes", type=a_class_list, default="150", metavar="NAMES", help="as for segment; 150 by default")


def run(given: argparse.Namespace) -> int:
    """Print the table of what a model costs."""
    check_sides(given)
    with torch.device("meta"):  # shapes alone
        model = build_segformer(given.model, len(given.classes))
    print(f"SegFormer-{given.model.upper()}, {len(given.classes)} classes")
    print(cost(model, (given.size[0], given.size[-1])))
    return 0


COMMAND = Command(
    "count what a model of the paper costs: parameters, multiply-accumulates", USAGE, TEXT, EXAMPLES, add_options, run
)
