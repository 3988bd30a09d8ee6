"""The paper's tables: what the book quotes, against what ``cost`` counts; which cells agree, and which do not.

The figures are read from the first block of ``book/paper-tables.md``. Chapter 8 quotes a part of them again.
"""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest
import torch
from torch import nn

from segformer_edu import PAPER, ImageClassifier, MiT, Segformer, cost
from segformer_edu.model.variants import COMMON, VARIANTS

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "book" / "paper-tables.md"
CHAPTER = ROOT / "notebooks" / "08_from_sketch_to_paper.ipynb"
SIZES = [(512, 512), (1024, 2048), (512, 512)]  # ADE20K, Cityscapes, COCO-Stuff


def quoted(code: str) -> dict:
    """The dictionary QUOTED of a piece of code."""
    values = {node.targets[0].id: node.value for node in ast.parse(code).body if isinstance(node, ast.Assign)}
    return ast.literal_eval(values["QUOTED"])


QUOTED = quoted(re.search(r"```{executed}\n(.*?)```", PAGE.read_text(), re.DOTALL)[1])


def test_chapter_8_quotes_the_same():
    cells = json.loads(CHAPTER.read_text())["cells"]
    (source,) = ("".join(cell["source"]) for cell in cells if cell["id"] == "table-1a-flops")
    code = source[: source.index("def extras")]
    assert quoted(code) == {variant: row[2:] for variant, row in QUOTED["Table 1a"].items()}


def segformer(variant: str, **changes) -> Segformer:
    with torch.device("meta"):
        return Segformer(**VARIANTS[variant] | COMMON | changes, num_classes=150, parts=PAPER).eval()


def biases_and_relu(model: Segformer, size: tuple[int, int]) -> int:
    """What the counter of the released script adds to MACs: one a number of a convolution's result, and of the ReLU's.

    By hand, from the sizes of the maps: embeddings, reductions, depthwise filters, the classifier.
    """
    (height, width), total = size, 0
    for number, stage in enumerate(model.mit.stages):
        step = 4 if number == 0 else 2
        height, width = (height - 1) // step + 1, (width - 1) // step + 1
        dim, ratio = stage.embedding.project.out_channels, stage.blocks[0].attention.reduction_ratio
        cells = (height // ratio) * (width // ratio) if ratio > 1 else 0
        total += dim * height * width + len(stage.blocks) * (4 * dim * height * width + dim * cells)
    height, width = (size[0] - 1) // 4 + 1, (size[1] - 1) // 4 + 1
    return total + (150 + len(model.decoder.fuse.weight)) * height * width


def printed(value: float) -> float:
    return round(value, 1)


@pytest.mark.parametrize("variant", VARIANTS)
def test_table_1a_parameters(variant):
    """The decoder's as counted; the encoder's as the whole less the decoder, each rounded."""
    counted = cost(segformer(variant), 64)
    encoder, decoder = QUOTED["Table 1a"][variant][:2]
    whole = printed(counted.parameters / 1e6)
    assert printed(counted.of("decoder").parameters / 1e6) == decoder
    assert printed(whole - decoder) == encoder


@pytest.mark.parametrize("data", range(3))
@pytest.mark.parametrize("variant", VARIANTS)
def test_table_1a_flops(variant, data):
    size = (640, 640) if (variant, data) == ("b5", 0) else SIZES[data]
    model = segformer(variant)
    assert (
        printed((cost(model, size).macs + biases_and_relu(model, size)) / 1e9) == QUOTED["Table 1a"][variant][2 + data]
    )


@pytest.mark.parametrize("width", QUOTED["Table 1b"])
def test_table_1b(width):
    """One cell differs: 24.8 million parameters with a width of 256, where the paper has 24.7."""
    model, (flops, parameters) = segformer("b2", decoder_dim=width), QUOTED["Table 1b"][width]
    counted = cost(model, 512)
    assert printed((counted.macs + biases_and_relu(model, (512, 512))) / 1e9) == flops
    assert (printed(counted.parameters / 1e6) == parameters) == (width != 256)


@pytest.mark.parametrize("variant", VARIANTS)
def test_table_7(variant):
    """Expansion 8, 8, 4, 4, but for B5, as Table 6 says; one cell differs: B5's FLOPs, 11.7 and not 11.8."""
    expansion = (4, 4, 4, 4) if variant == "b5" else (8, 8, 4, 4)
    sizes = {name: VARIANTS[variant][name] for name in ("dims", "num_layers")} | COMMON | {"ff_expansion": expansion}
    with torch.device("meta"):
        model: nn.Module = ImageClassifier(MiT(channels=3, **sizes, parts=PAPER), 1000)
    counted, (flops, parameters) = cost(model, 224), QUOTED["Table 7"][variant]
    assert printed(counted.parameters / 1e6) == parameters
    assert (printed(counted.macs / 1e9) == flops) == (variant != "b5")
