"""Chapter 8: what a model costs at a size, in parameters, multiply-accumulates and activations, part by part."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode

from segformer_edu.model.decoder import MLPDecoder, SegformerHead
from segformer_edu.model.encoder import SMALLEST_IMAGE, MiT
from segformer_edu.model.segformer import Segformer
from segformer_edu.model.variants import ImageClassifier
from segformer_edu.pages.tables import table_html
from segformer_edu.validation import check_map, check_positive

NAMES = ("stage", "part", "result", "parameters", "MACs", "attention products", "activations")


@dataclass(frozen=True)
class PartCost:
    """What one part of a model costs for one image.

    Attributes:
        stage: "stage 1" to "stage 4", "decoder" or "head".
        part: which part of it, such as "attention"; in a stage, the sum over its blocks.
        size: height and width of the part's result.
        parameters: learned numbers, those of the norms among them.
        macs: multiply-accumulates of convolutions, linear layers and attention products.
        attention_macs: those of ``macs`` that multiply two maps: queries with keys, shares with values.
        activations: numbers (not bytes) in the results of everything that is counted in ``macs``.
    """

    stage: str
    part: str
    size: tuple[int, int]
    parameters: int
    macs: int
    attention_macs: int = 0
    activations: int = 0


def summed(counts: Iterable[PartCost | Watch]) -> dict[str, int]:
    """Add up what several counts have in common."""
    counts = list(counts)
    return {name: sum(getattr(count, name) for count in counts) for name in ("macs", "attention_macs", "activations")}


@dataclass(frozen=True)
class Cost:
    """What a model costs for one image: a row a part, sums, and a table as text and as HTML.

    Attributes:
        size: height and width of the image.
        parts: one row a part, in the order of use; the decoder as the paper writes it.
        executed_decoder_macs: what this library's decoder computes in place of the paper's; None without a decoder.
    """

    size: tuple[int, int]
    parts: tuple[PartCost, ...]
    executed_decoder_macs: int | None = None

    def of(self, stage: str = "", part: str = "") -> PartCost:
        """Add up the rows of a stage ("encoder": all four), of a part of the blocks, or of both; ``of()`` is all.

        Raises:
            ValueError: no row has that stage and part.
        """
        rows = [
            row
            for row in self.parts
            if (stage in ("", row.stage) or (stage == "encoder" and row.stage.startswith("stage")))
            and part in ("", row.part)
        ]
        if not rows:
            stages, parts = ({getattr(row, name): None for row in self.parts} for name in ("stage", "part"))
            raise ValueError(
                f"There is no row with stage={stage!r} and part={part!r}; expected a stage among 'encoder', "
                f"{', '.join(map(repr, stages))}, and a part of it: {', '.join(map(repr, parts))}."
            )
        return PartCost(
            stage or "all", part or "all", rows[-1].size, sum(row.parameters for row in rows), **summed(rows)
        )

    @property
    def parameters(self) -> int:
        """Learned numbers of the whole model."""
        return self.of().parameters

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the whole model, attention products included."""
        return self.of().macs

    @property
    def attention_macs(self) -> int:
        """Those of ``macs`` that are attention products."""
        return self.of().attention_macs

    @property
    def activations(self) -> int:
        """Numbers in all results."""
        return self.of().activations

    @property
    def caption(self) -> str:
        """What the table counts."""
        said = f"One image of {self.size[0]}×{self.size[1]}; 1 MAC is a product and a sum; activations in numbers."
        if self.executed_decoder_macs is not None and self.executed_decoder_macs != self.of("decoder").macs:
            said += (
                f" The decoder is counted as the paper writes it, {self.of('decoder').macs / 1e9:.2f} billion MACs; "
                f"this library computes the same with {self.executed_decoder_macs / 1e9:.2f} (chapter 10)."
            )
        return said

    def rows(self) -> list[list[Any]]:
        """The table's cells, the sums last."""
        return [
            [
                *(row.stage, row.part, f"{row.size[0]}×{row.size[1]}"),
                *(row.parameters, row.macs, row.attention_macs, row.activations),
            ]
            for row in (*self.parts, self.of())
        ]

    def __str__(self) -> str:
        cells = [list(NAMES), *([f"{c:,}" if isinstance(c, int) else c for c in row] for row in self.rows())]
        widths = [max(map(len, column)) for column in zip(*cells)]
        lines = [
            "  ".join(f"{c:<{w}}" if i < 3 else f"{c:>{w}}" for i, (c, w) in enumerate(zip(row, widths))).rstrip()
            for row in cells
        ]
        return "\n".join([*lines, self.caption])

    def _repr_html_(self) -> str:
        header = [*NAMES[:4], "million MACs", *NAMES[5:6], "million activations"]
        rows = [[*row[:4], *(number / 1e6 for number in row[4:])] for row in self.rows()]
        return table_html(header, rows, self.caption)


class Watch(TorchDispatchMode):
    """While it is active, add up the MACs of what runs and the numbers in its results.

    Every operation with MACs is one of few: a convolution, a product of matrices or of batches of matrices, or the
    attention's two products in one. Each number of a result is a sum of products; how long that sum is follows from
    the shapes, so tensors on the device "meta" do.

    Args:
        weights: a product with one of these is a layer's, and none of an attention.
    """

    def __init__(self, weights: Iterable[torch.Tensor]) -> None:
        super().__init__()
        self.memory = {weight.untyped_storage()._cdata for weight in weights}
        self.macs = self.attention_macs = self.activations = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        result = func(*args, **kwargs or {})
        name = func.overloadpacket.__name__
        if name == "convolution":
            weight = args[1]  # (C_out, C_in / groups, K, K)
            self.add(result.numel(), weight.numel() // len(weight))
        elif name in ("mm", "addmm"):
            self.add(result.numel(), args[-1].shape[0])
        elif name == "bmm":
            layer = any(factor.untyped_storage()._cdata in self.memory for factor in args)
            self.add(result.numel(), args[1].shape[1], attention=not layer)
        elif name.startswith("_scaled_dot_product"):
            q, k, v = args[:3]
            self.add(math.prod(q.shape[:-1]) * k.shape[-2], q.shape[-1], attention=True)
            self.add(math.prod(q.shape[:-1]) * v.shape[-1], k.shape[-2], attention=True)
        return result

    def add(self, results: int, length: int, attention: bool = False) -> None:
        """Count ``results`` numbers, each a sum of ``length`` products."""
        self.activations += results
        self.macs += results * length
        self.attention_macs += attention * results * length


def parameters(*modules: nn.Module) -> int:
    """The learned numbers in modules."""
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


def run(module: nn.Module, x: Any) -> tuple[Any, Watch]:
    """Let a module work on shapes without numbers; return its result's and what it would have computed."""
    held = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    on_meta = {name: tensor.detach().to("meta") for name, tensor in held.items()}
    with torch.no_grad(), Watch(on_meta.values()) as watch:
        return functional_call(module, on_meta, (x,)), watch


def part_cost(stage: str, part: str, modules: list[nn.Module], x: torch.Tensor) -> tuple[torch.Tensor, PartCost]:
    """Run modules one after the other; return the last one's result and the sum of what they cost."""
    watches = []
    for module in modules:
        x, watch = run(module, x)
        watches.append(watch)
    size = (x.shape[-2], x.shape[-1]) if x.ndim == 4 else (1, 1)
    return x, PartCost(stage, part, size, parameters(*modules), **summed(watches))


def encoder_cost(mit: MiT, x: torch.Tensor) -> Iterator[tuple[torch.Tensor, list[PartCost]]]:
    """Yield each stage's map and what its parts cost."""
    made: Any  # a Stage, or what a reader has in its place
    for number, made in enumerate(mit.stages, start=1):
        stage, rows = f"stage {number}", []
        parts = {
            "patch embedding": [made.embedding],
            "attention": [part for block in made.blocks for part in (block.attention_norm, block.attention)],
            "feed-forward": [part for block in made.blocks for part in (block.feed_forward_norm, block.feed_forward)],
            "stage norm": [made.norm],
        }
        for part, modules in parts.items():
            x, row = part_cost(stage, part, modules, x)
            rows.append(row)
        yield x, rows


def decoder_cost(decoder: nn.Module, maps: list[torch.Tensor], executed: Watch) -> list[PartCost]:
    """Count a decoder as the paper writes it: project each map at its own size, fuse and classify at the first's."""
    size, places = (maps[0].shape[-2], maps[0].shape[-1]), [x.shape[-2] * x.shape[-1] for x in maps]
    project: Any
    fuse: Any
    classify: Any
    if isinstance(decoder, MLPDecoder):
        project, (fuse, classify) = decoder.to_fused, decoder.to_segmentation
    elif isinstance(decoder, SegformerHead):
        project, fuse, classify = decoder.project, decoder.fuse, decoder.classify
    else:
        return [PartCost("decoder", "decoder", size, parameters(decoder), **summed([executed]))]
    width, classes = len(fuse.weight), len(classify.weight)
    projections = sum(count * layer.weight.numel() for count, layer in zip(places, project))
    fusion, classification = (places[0] * layer.weight.numel() for layer in (fuse, classify))
    fuse_and_norm = parameters(decoder) - parameters(project, classify)
    return [
        PartCost("decoder", "project", size, parameters(project), projections, 0, width * sum(places)),
        PartCost("decoder", "fuse", size, fuse_and_norm, fusion, 0, width * places[0]),
        PartCost("decoder", "classify", size, parameters(classify), classification, 0, classes * places[0]),
    ]


@torch.inference_mode(False)  # a caller's would hide the convolutions that Watch counts inside of conv2d
def cost(model: Segformer | ImageClassifier | MiT, size: int | tuple[int, int]) -> Cost:
    """Count a model's parameters, multiply-accumulates and activations for one image, part by part.

    Nothing is computed: the parts run on the device "meta", where tensors have a shape and no numbers. Norms,
    activation functions, softmax, sums and upsampling have no MACs here, as in most papers; many papers, SegFormer's
    among them, call MACs "FLOPs". ``SegformerHead`` and ``MLPDecoder`` are counted as the paper writes its decoder,
    with what is executed beside it; any other decoder as it is executed.

    Args:
        model: the whole model, or an encoder with or without its classifier, made of any ``Parts``; or classes of
            yours in their place, with the same attributes (``stages`` of ``embedding``, ``blocks`` and ``norm``).
        size: height and width of the image, or one number for both; from 32 up.

    Returns:
        A ``Cost``; ``print`` shows its table, and so does a notebook.

    Raises:
        TypeError: another kind of model; a size that is no whole number.
        ValueError: a size below 32.

    Source: the paper, Tables 1, 6 and 7. Explained in chapter 8.
    """
    mit: Any = getattr(model, "mit", model)
    if not isinstance(model, nn.Module) or not hasattr(mit, "stages"):
        raise TypeError(f"The model is a {type(model).__name__}; expected a Segformer, an ImageClassifier or a MiT.")
    height, width = size if isinstance(size, tuple | list) and len(size) == 2 else (size, size)
    check_positive(height=height, width=width)
    x = torch.empty(1, mit.config.channels, height, width, device="meta", dtype=next(model.parameters()).dtype)
    check_map(x, mit.config.channels, smallest=SMALLEST_IMAGE)
    maps, stages = zip(*encoder_cost(mit, x))
    whole: Any = model
    rows, executed = [row for stage in stages for row in stage], None
    if hasattr(model, "decoder"):
        executed = run(whole.decoder, list(maps))[1]
        rows += decoder_cost(whole.decoder, list(maps), executed)
    elif hasattr(model, "head"):
        rows.append(part_cost("head", "head", [whole.head], maps[-1].mean(dim=(2, 3)))[1])
    return Cost((height, width), tuple(rows), executed.macs if executed else None)
