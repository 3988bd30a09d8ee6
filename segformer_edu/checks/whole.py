"""The capstone: the whole model, written alone and checked part by part, and the street that it may segment.

Each step has its own place to fail, so that the first fault is told where it is: chapters' checks where there is one,
and the joints between the parts here. A reader's encoder is followed by what his own layers were given and gave back.
"""

from __future__ import annotations

import copy
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import permutations, product
from math import prod
from pathlib import Path
from typing import Any, ClassVar, NoReturn

import torch
import torch.nn.functional as F
from torch import nn

from segformer_edu.checks._candidates import tell
from segformer_edu.checks._progress import MODULE, Progress, names_of
from segformer_edu.checks._result import Result
from segformer_edu.checks.core import EXERCISES, LOOSE, Failure, Look, close, hidden_weights, look_at, random
from segformer_edu.data.labels import VOID
from segformer_edu.data.pictures import normalize
from segformer_edu.model.config import NormEps, SegformerConfig
from segformer_edu.model.decoder import MLPDecoder, SegformerHead
from segformer_edu.model.encoder import Block, MiT
from segformer_edu.model.feedforward import DepthwiseMixFeedForward
from segformer_edu.model.normalization import LayerNorm
from segformer_edu.model.parts import PAPER, Parts
from segformer_edu.model.segformer import Segformer
from segformer_edu.pages import frames
from segformer_edu.pretrained.load import load_pretrained
from segformer_edu.pretrained.names import KERNELS, LUCIDRAINS, SKETCH_OURS

__all__ = ["capstone", "lucidrains_file", "street"]

ENCODER: dict[str, Any] = {
    "channels": 4,
    "dims": (6, 10, 12, 15),
    "heads": (1, 2, 3, 5),
    "ff_expansion": (4, 3, 2, 1),
    "reduction_ratio": (8, 4, 2, 1),
    "num_layers": (1, 2, 1, 2),
}
MODEL: dict[str, Any] = {**ENCODER, "decoder_dim": 13, "num_classes": 7}
IMAGES = ((2, 4, 64, 96), (1, 4, 75, 99), (1, 4, 33, 47))
PATCHES = ((7, 4, 3), (3, 2, 1), (3, 2, 1), (3, 2, 1))

HINTS = {
    "no-answers": "The check takes the path of a .py file, `globals()`, or a module. Which one did you mean?",
    "no-file": "Is this the path of your file, seen from where you are?",
    "the-librarys": "This name leads to the book's own library. Which of the lines above it would be yours?",
    "prints-at-import": "Something is printed while your file is imported. Under which condition would it run only "
    "when you ask for it?",
    "learns-at-import": "Something learns while your file is imported. Under which condition should these lines stand?",
    # PreNorm
    "another-norm": "What the layer is given was normalised in another way. Which norm did you write a step before?",
    "norm-after": "Which of the two sees the input first, the norm or the layer? The name says it.",
    "residual-inside": "The sum with the input is the business of whoever uses this class. Where will it be made?",
    "norm-missing": "What one layer was given is not normalised. What stands between the map and this layer?",
    "fn-missing": "The result is the norm's alone. When is the layer called that the class was given?",
    "norm-not-kept": "How many weights has a norm of 6 channels, and where should the class keep them?",
    # MiT
    "not-four-maps": "How many stages are there, and what does each of them leave behind for the decoder?",
    "not-the-last": "Without the second argument one map is asked for. Which of the four?",
    "last-map-differs": "One map has the right size, and other numbers than the last of the four. At which moment of "
    "a stage is each of the two taken?",
    "coarsest-first": "The maps come the other way round. Which of the four is made first?",
    "only-multiples": "The image's height or width is no multiple of 32. Which line takes for granted that something "
    "divides?",
    "sizes-of-maps": "Each map is made from the one before it. What do kernel, stride and padding make of an odd side?",
    "parts-not-used": "The encoder is to be made of the classes above it in your file. Which one does it not use?",
    "number-of-blocks": "How many transformer blocks has each stage, and how many did you make?",
    "blocks-shared": "Is it the same block used again, or are there as many blocks as there are layers?",
    "blocks-left-out": "A block was made, and the map does not go through it. Which line calls the blocks?",
    "order-exchanged": "Each block has two branches. Which one comes first?",
    "residual-missing": "What a branch gives is to be added to something. To what?",
    "normalised-residual": "The sum is made with a map that a norm has gone over. Is a norm there that the sketch has "
    "not, or do you add the map from behind it?",
    "parallel": "Does the second branch look at what went into the block, or at what the first one left?",
    "extra-norm": "One norm more than the sketch has. Where does a stage end?",
    "embedding": "Look at the first thing that a stage does: its kernel, stride, padding, and the map it is given.",
    "wiring": "Follow the map through the block with a finger, and write down what each line is given.",
    "parameter-count": "Which layers have a bias, which have none, and what has how many channels?",
    # Segformer
    "quarter": "The logits have the size of one of the four maps. Of which one?",
    "encoder-not-used": "The model is to be made of your encoder. Where does it make one?",
    "one-number": "One number stands for all four stages. Where do you make four of it?",
    "default-sizes": "Compare your default values with the table of sizes, row by row.",
    "last-map-only": "The decoder has four maps to look at. What do you ask of your encoder?",
    "bilinear": "How does the sketch enlarge a map: does it copy values, or mix them?",
    "nearest-exact": "There are two ways to copy the nearest value, and they part where a side is odd. Which one has "
    "the sketch?",
    "maps-in-another-order": "The maps are put side by side before the fusion. In which order do they come?",
    "relu-between": "The sketch's decoder has no non-linearity. What stands between its two last layers?",
    "softmax-at-the-end": "Logits are asked for. Who makes probabilities of them, and when?",
    "biases": "With all biases at zero your decoder is right. What happens to a bias on its way?",
    "decoder": "Follow one map: which layer brings it to the common width, which size has it then, what is beside it?",
    # load_weights
    "nothing-loaded": "No weight of the model has changed. Who is to write into them?",
    "another-model-filled": "What you give back has the file's weights; the model that was handed over has not. Which "
    "of the two does the next line of a program use?",
    "not-all-loaded": "Some of the weights still are as they were drawn. Which names of the file belong to them?",
    "file-changed": "Somebody may want to load the file twice. What did you take out of it, or change?",
    "keys-and-values-exchanged": "The file has keys and values in one layer. Which half comes first?",
    "kv-dealt-out": "Keys and values lie in the file one after the other. How did you part them?",
    "patch-numbers-permuted": "A row of the file's first layer runs through a patch. Which axis does it run through "
    "fastest: channel, row or column?",
    "norms-exchanged": "Each block has two norms of the same size. Which name belongs to which branch?",
    "g-and-b-exchanged": "A norm has a scale and a shift of the same size. Which is which?",
    "query-and-output-exchanged": "Two layers of an attention have the same shape. Which of them is applied first?",
    "fuse-permuted": "The fusion's columns belong to the four maps. In which order does the file have them?",
    "logits-differ": "All weights are from the file, and the logits are not the file's. Which two tensors of one shape "
    "could have changed places?",
    # street
    "not-the-logits": "The check hands over a picture and wants logits, a quarter of its height and width. What comes "
    "out?",
    "other-eps": "The formulas are right. Which small number stands in which norm? The record of the file has them.",
    "heads": "No weight tells how many heads there are. What does the record of the file say?",
    "statistics-forgotten": "A BatchNorm has more than weights. What does it use in evaluation, and where is it?",
    "gelu-approximated": "There are two GELUs. Which one do the weights know?",
    "nearest": "How does the released code enlarge the three smaller maps?",
    "relu-missing": "The released decoder has one step that cuts off what is negative. Where does it stand?",
    "relu-before-norm": "The decoder's norm and its cut at zero change places in yours. Which comes first?",
    "batch-norm-missing": "What does the decoder do between its fusion and the cut at zero?",
    "stage-norm-missing": "The paper's stage ends with something that the sketch's has not. What is it?",
    "embedding-norm-missing": "The paper's patches are changed once more before the first block. By what?",
    "reduction-norm-missing": "In the paper's attention something follows the smaller map. What is it?",
    "normalised-twice": "The picture that is handed over is prepared already. Where is that done once more?",
    "whole-street": "A small picture is right, and one of 360×480 is not. Which side is taken for granted?",
    "almost-the-same": "Nearly every pixel has the class that it should have. Which small number could be another one?",
}


# What the steps share.


def _module(look: Look, cls: Any, sizes: Mapping[str, Any]) -> nn.Module:
    """Make the reader's object, whose weights PyTorch finds."""
    look.exists(cls)
    module = look.construct(cls, **sizes)
    _own(look, module)
    if hidden := hidden_weights(module):
        look.wrong(hidden[0][1], f"PyTorch does not find {', '.join(f'`{name}`' for name, _ in hidden)}.")
    return module


def _own(look: Look, model: nn.Module) -> None:
    """End where a part of the model is the library's."""
    if theirs := [type(part).__name__ for part in model.modules() if _is_theirs(part)]:
        look.wrong("the-librarys", f"In the model is the library's {theirs[0]}.")


def _is_theirs(answer: Any) -> bool:
    """Whether an object, a function or a class, or what it inherits from, is the library's."""
    lineage = getattr(answer if isinstance(answer, type) else type(answer), "__mro__", ())
    return any(str(getattr(each, "__module__", "")).startswith("segformer_edu") for each in (answer, *lineage))


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _counted(look: Look, module: nn.Module, wanted: int, what: str) -> None:
    """End where a module has another number of weights than the reference."""
    if _count(module) != wanted:
        look.wrong("parameter-count", f"{what} has {_count(module)} parameters; {wanted} are expected.")


def _instances(module: nn.Module, cls: Any) -> list[nn.Module]:
    return [part for part in module.modules() if isinstance(part, cls)] if isinstance(cls, type) else []


def _recorded(part: nn.Module, log: list[tuple[nn.Module, torch.Tensor, Any]]) -> None:
    """Let a part write down what it is given and what it gives back. Its object is the check's own."""
    forward = part.forward

    def recording(x: torch.Tensor, *more: Any, **options: Any) -> Any:
        given = x.detach().clone() if isinstance(x, torch.Tensor) else x
        back = forward(x, *more, **options)
        log.append((part, given, back.detach().clone() if isinstance(back, torch.Tensor) else back))
        return back

    part.forward = recording


def placements(
    weights: Sequence[torch.Tensor], reference: nn.Module, most: int = 240
) -> Iterator[dict[str, torch.Tensor]]:
    """Yield every way in which some weights could be a module's, told by their sizes; none where they do not fit.

    A matrix may be stored the other way round; another layout is not understood, and yields nothing.
    """
    groups: dict[int, tuple[list[str], list[torch.Tensor]]] = {}
    shapes = {name: tuple(n for n in value.shape if n > 1) for name, value in reference.named_parameters()}
    for name, value in reference.named_parameters():
        groups.setdefault(value.numel(), ([], []))[0].append(name)
    for given in weights:
        groups.setdefault(given.numel(), ([], []))[1].append(given.detach())
    if any(len(names) != len(values) for names, values in groups.values()):
        return
    full = dict(reference.named_parameters())

    def fitted(value: torch.Tensor, name: str) -> torch.Tensor | None:
        squeezed = value.squeeze()
        if tuple(squeezed.shape) == shapes[name]:
            return value.reshape(full[name].shape)
        if squeezed.dim() == 2 and tuple(squeezed.T.shape) == shapes[name]:
            return squeezed.T.reshape(full[name].shape)
        return None

    ways = [[(names, order) for order in permutations(values)] for names, values in groups.values()]
    if prod(map(len, ways)) > most:
        return
    for way in product(*ways):
        placed = {name: fitted(value, name) for names, order in way for name, value in zip(names, order)}
        if all(value is not None for value in placed.values()):
            yield placed  # type: ignore[misc]


# Chapter 2.


def _pre_norm(look: Look, answer: Any) -> None:
    look.exists(answer)
    inner = nn.Sequential(nn.Conv2d(6, 6, 1), nn.Tanh()).double()
    module = look.construct(answer, 6, inner)
    look.done("constructed")
    x = 2 * random(2, 6, 5, 7, seed=4) + random(1, 6, 1, 1, seed=5)
    yours = look.output(module, x)
    look.shape(yours, x.shape)
    look.side_effects(module, x)
    look.done("shape, no side effects")
    norm = LayerNorm(6).double()
    wrong = {
        "norm-after": norm(inner(x)),
        "residual-inside": x + inner(norm(x)),
        "norm-missing": inner(x),
        "fn-missing": norm(x),
    }
    axes: tuple[tuple[int, ...], ...] = ((1,), (1, 2, 3), (2, 3), (0, 2, 3))
    others = [(x - x.mean(a, True)) / (x.var(a, correction=0, keepdim=True) + 1e-5).sqrt() for a in axes]
    candidates = [*wrong.items(), *(("another-norm", inner(other)) for other in others)]
    tell(look, yours, inner(norm(x)), candidates, "a map of 6 channels")
    if _count(module) - _count(inner) != 12:
        look.wrong("norm-not-kept", f"Besides the given layer it has {_count(module) - _count(inner)} weights, not 12.")
    look.gradients(module, x)
    look.done("values, weights, gradients")


# Chapter 5: the encoder.


def _sizes(height: int, width: int) -> list[tuple[int, int]]:
    """Height and width of the four maps of an image."""
    found = []
    for kernel, stride, padding in PATCHES:
        height, width = ((n + 2 * padding - kernel) // stride + 1 for n in (height, width))
        found.append((height, width))
    return found


def _run(look: Look, module: nn.Module, image: torch.Tensor, **options: Any) -> Any:
    """Run a module; where it fails only for sides that 32 does not divide, say so."""
    if all(side % 32 == 0 for side in image.shape[-2:]):
        return look.call(module, image, **options)
    back = look.attempt(module, image, **options)
    if isinstance(back, Failure):
        look.wrong("only-multiples", f"An image of {image.shape[-2]}×{image.shape[-1]}: {back}")
    return back


def _maps(look: Look, module: nn.Module, image: torch.Tensor) -> list[torch.Tensor]:
    """Ask an encoder for its four maps."""
    maps = _run(look, module, image, return_layer_outputs=True)
    told = f"A {type(maps).__name__} came out for `return_layer_outputs=True`"
    if maps is None:
        look.nothing(type(module).forward, "MiT.forward")
    if not isinstance(maps, list | tuple) or not all(isinstance(x, torch.Tensor) for x in maps):
        look.wrong("not-four-maps", f"{told}; a list of four maps is expected.")
    if len(maps) != 4:
        look.wrong("not-four-maps", f"{told} with {len(maps)} maps.")
    return list(maps)


def _four_maps(look: Look, answer: Any) -> None:
    module = _module(look, answer, ENCODER)
    look.done("constructed")
    for shape in IMAGES:
        image, at = random(*shape), f"{shape[-2]}×{shape[-1]}"
        maps = _maps(look, module, image)
        wanted = [(shape[0], dim, *size) for dim, size in zip(ENCODER["dims"], _sizes(*shape[-2:]))]
        if [tuple(x.shape) for x in maps] != wanted:
            kind = "coarsest-first" if [tuple(x.shape) for x in maps] == wanted[::-1] else "sizes-of-maps"
            seen = f"An image of {at} gave maps of the shapes {', '.join(str(tuple(x.shape)) for x in maps)}; "
            look.wrong(kind, f"{seen}expected {', '.join(map(str, wanted))}.")
        last = look.output(module, image)
        if last.shape != maps[-1].shape:
            look.wrong("not-the-last", f"It has the shape {tuple(last.shape)}; the last map has {wanted[-1]}.")
        if not close(last, maps[-1]):
            same_again = close(last, look.output(module, image))
            look.wrong("last-map-differs" if same_again else "not-deterministic", f"An image of {at}.")
        look.done(f"an image of {at}")


def _blocks(look: Look, answer: Any, attention: Any, feed_forward: Any, norm: Any) -> None:  # noqa: PLR0915
    """Follow the map through the reader's own layers: what each was given, what it should have been given."""
    module, image = _module(look, answer, ENCODER), random(*IMAGES[1])
    branches = {"attention": _instances(module, attention), "feed-forward network": _instances(module, feed_forward)}
    wanted = sum(ENCODER["num_layers"])
    for name, found in branches.items():
        if not found:
            look.wrong("parts-not-used", f"In the encoder no {name} of your own class was found.")
        if len(found) != wanted:
            kind = "blocks-shared" if len(found) == len(ENCODER["dims"]) else "number-of-blocks"
            look.wrong(kind, f"With num_layers={ENCODER['num_layers']} it has {len(found)} of the class for {name}.")
    log: list[tuple[nn.Module, torch.Tensor, Any]] = []
    for part in [part for found in branches.values() for part in found]:
        _recorded(part, log)
    own = [*branches["attention"], *branches["feed-forward network"], *_instances(module, norm)]
    taken = {id(parameter) for part in own for parameter in part.parameters()}
    rest = [parameter.detach() for parameter in module.parameters() if id(parameter) not in taken]
    maps = [x.detach() for x in _maps(look, module, image)]
    look.done("made of your parts")
    if len(log) != 2 * wanted:
        look.wrong("blocks-left-out", f"{len(log)} branches were called; there are {2 * wanted}.")
    calls, x = iter(log), image
    for stage, layers in enumerate(ENCODER["num_layers"]):
        x = _embedded(look, rest, x, stage, log[2 * sum(ENCODER["num_layers"][:stage])][1])
        branch = None
        for block in range(layers):
            where = f"Stage {stage + 1}, block {block + 1}"
            x, branch = _block(look, x, branch, calls, branches["attention"], where)
        wrong = {"extra-norm": _normal(x), "residual-missing": torch.zeros(()) if branch is None else branch}
        _compare(look, maps[stage], x, wrong, f"The map of stage {stage + 1}")
        look.done(f"stage {stage + 1}")


def _normal(x: torch.Tensor) -> torch.Tensor:
    normal: torch.Tensor = LayerNorm(x.shape[1]).double()(x).detach()
    return normal


def _compare(
    look: Look, yours: torch.Tensor, target: torch.Tensor, wrong: Mapping[str, torch.Tensor], what: str
) -> None:
    """End where a map is not the one expected; ``wrong`` has what known mistakes give."""
    if yours.shape == target.shape and close(yours, target, LOOSE):
        return
    for kind, candidate in wrong.items():
        if candidate.shape == yours.shape and close(yours, candidate, LOOSE):
            look.wrong(kind, f"{what} is the one that this mistake gives.")
    look.wrong("wiring", f"{what} is another one than expected; its shape is {tuple(yours.shape)}.")


def _embedded(look: Look, rest: list[torch.Tensor], x: torch.Tensor, stage: int, seen: torch.Tensor) -> torch.Tensor:
    """Return a stage's embedding of a map, with the reader's weights; what the first attention saw tells the layout."""
    kernel, stride, padding = PATCHES[stage]
    out, channels = ENCODER["dims"][stage], x.shape[1]
    weights = [value for value in rest if value.numel() == out * channels * kernel**2]
    biases = [value for value in rest if value.numel() == out]
    if len(weights) != 1 or len(biases) != 1:
        kind = "embedding" if weights and not biases else "parameter-count"
        look.wrong(
            kind, f"Stage {stage + 1}: found no embedding with {out * channels * kernel**2} weights, {out} biases."
        )
    flat = weights[0].reshape(-1)
    layouts = [
        flat.view(out, channels, kernel, kernel),
        flat.view(out, kernel, kernel, channels).permute(0, 3, 1, 2),
        flat.view(channels, kernel, kernel, out).permute(3, 0, 1, 2),
        flat.view(kernel, kernel, channels, out).permute(3, 2, 0, 1),
    ]
    for weight in layouts:
        y = F.conv2d(x, weight, biases[0].reshape(-1), stride, padding)
        if any(z.shape == seen.shape and close(seen, z, LOOSE) for z in (_normal(y), y, _normal(_normal(y)))):
            return y
    look.wrong("embedding", f"Stage {stage + 1}: what its first attention was given does not come from its embedding.")


def _block(
    look: Look,
    x: torch.Tensor,
    branch: torch.Tensor | None,
    calls: Iterator[Any],
    attentions: list[nn.Module],
    where: str,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Follow a map through one block; ``branch`` is what a forgotten sum would have left of the block before."""
    part, given, a = next(calls)
    if part not in attentions:
        look.wrong("order-exchanged", f"{where}: the feed-forward network was called first.")
    wrong = {"norm-missing": x, "extra-norm": _normal(_normal(x))}
    if branch is not None:
        wrong["residual-missing"] = _normal(branch)
    _compare(look, given, _normal(x), wrong, f"{where}: what the attention was given")
    first = x + a
    part, given, f = next(calls)
    if part in attentions:
        look.wrong("order-exchanged", f"{where}: an attention was called after the attention.")
    wrong = {
        "norm-missing": first,
        "residual-missing": _normal(a),
        "normalised-residual": _normal(_normal(x) + a),
        "parallel": _normal(x),
        "extra-norm": _normal(_normal(first)),
    }
    _compare(look, given, _normal(first), wrong, f"{where}: what the feed-forward network was given")
    return first + f, f


def _encoder_weights(look: Look, answer: Any) -> None:
    module, image = _module(look, answer, ENCODER), random(*IMAGES[0])
    _counted(look, module, _count(MiT(**ENCODER)), "With the check's sizes the encoder")
    look.done("number of weights")
    look.side_effects(module, image)
    look.pictures_apart(module, image)
    look.same_in_eval(module, image)
    look.done("no side effects")
    look.gradients(module, image)
    look.done("gradients")


# Chapter 6: the whole model.


def _logits_sizes(look: Look, answer: Any) -> None:
    module = _module(look, answer, MODEL)
    look.done("constructed")
    for shape in (*IMAGES, (1, 4, 32, 32)):
        _run(look, module, random(*shape))
        yours = look.output(module, random(*shape))
        height, width = _sizes(*shape[-2:])[0]
        wrong = {"quarter": (shape[0], 7, *shape[-2:]), "last-map-only": (shape[0], 7, *_sizes(*shape[-2:])[3])}
        look.shape(yours, (shape[0], 7, height, width), at=f"an image of {shape[-2]}×{shape[-1]}", wrong=wrong)
        look.done(f"an image of {shape[-2]}×{shape[-1]}")


def _numbers(look: Look, answer: Any) -> None:
    look.exists(answer)
    cases: tuple[dict[str, Any], ...] = (
        {"dims": 12, "heads": 3, "ff_expansion": 2, "reduction_ratio": 2, "num_layers": 1},
        {"dims": (6, 10, 12, 15), "heads": 1, "ff_expansion": (1, 2, 3, 4), "reduction_ratio": 1,
         "num_layers": (1, 2, 1, 1)},
    )  # fmt: skip
    for sizes in cases:
        module = look.attempt(answer, **sizes, decoder_dim=8, num_classes=3)
        if isinstance(module, Failure):
            look.wrong("one-number", f"Segformer({', '.join(f'{k}={v}' for k, v in sizes.items())}, …): {module}")
        module = look.construct(answer, **sizes, decoder_dim=8, num_classes=3)
        wanted = _count(Segformer(**sizes, decoder_dim=8, num_classes=3))
        if _count(module) != wanted:
            look.wrong("one-number", f"{_count(module)} parameters for {sizes}; {wanted} are expected.")
        look.shape(look.output(module, random(1, 3, 64, 64)), (1, 3, 16, 16))
    look.done("one number or four")
    with torch.device("meta"):
        wanted = _count(Segformer())
    module = look.construct(answer)
    if _count(module) != wanted:
        look.wrong("default-sizes", f"`Segformer()` has {_count(module)} parameters; {wanted} are expected.")
    look.shape(look.output(module, random(1, 3, 64, 96)), (1, 4, 16, 24))
    look.done("default values")


def _decoder(look: Look, answer: Any, encoder: Any) -> None:  # noqa: PLR0915
    module, image = _module(look, answer, MODEL), random(*IMAGES[1])
    if not (encoders := _instances(module, encoder)):
        look.wrong("encoder-not-used", "In the model no object of your class MiT was found.")
    log: list[tuple[nn.Module, torch.Tensor, Any]] = []
    _recorded(encoders[0], log)
    taken = {id(parameter) for parameter in encoders[0].parameters()}
    rest = [parameter for parameter in module.parameters() if id(parameter) not in taken]
    biases, drawn = [p for p in rest if p.numel() == MODEL["decoder_dim"]], []
    with torch.no_grad():
        for number, parameter in enumerate(biases):
            drawn.append(random(*parameter.shape, seed=20 + number))
            parameter.zero_()
    plain = look.output(module, image).detach()
    if not log:
        look.wrong("encoder-not-used", "The model has an object of your class MiT and does not call it.")
    if not isinstance(log[-1][2], list | tuple):
        look.wrong("last-map-only", f"The encoder was asked for one map, {tuple(log[-1][2].shape)}.")
    maps = [x.detach() for x in log[-1][2]]
    look.done("made of your encoder")
    reference = MLPDecoder(
        dims=MODEL["dims"], decoder_dim=MODEL["decoder_dim"], num_classes=MODEL["num_classes"]
    ).double()
    found = next(placements(rest, reference), None)
    if found is None:
        look.remark("The decoder's weights lie in an order of their own: they are looked at when you load a file.")
        return
    reference.load_state_dict(found)
    if not close(plain, reference(maps)):
        for kind, result in _decoders(reference, maps):
            if result.shape == plain.shape and close(plain, result):
                look.wrong(kind, "The logits are those that this mistake gives, to the last digits.")
        look.wrong("decoder", f"The largest difference is {float((plain - reference(maps)).abs().max()):.3g}.")
    look.done("projections, enlarging, fusion, classes")
    with torch.no_grad():
        for parameter, value in zip(biases, drawn):
            parameter.copy_(value)
    yours = look.output(module, image).detach()
    for weights in placements(rest, reference):
        reference.load_state_dict(weights)
        if close(yours, reference(maps)):
            look.done("biases")
            return
    look.wrong("biases", "No order of your biases gives these logits.")


@torch.no_grad()
def _decoders(right: MLPDecoder, maps: list[torch.Tensor]) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield what known mistakes make of the maps."""
    size, (fuse, classify) = maps[0].shape[-2:], right.to_segmentation
    projected = [project(x) for x, project in zip(maps, right.to_fused)]
    fused = torch.cat([F.interpolate(x, size) for x in projected], 1)
    for corners in (False, True):
        smooth = [F.interpolate(x, size, mode="bilinear", align_corners=corners) for x in projected]
        yield "bilinear", classify(fuse(torch.cat(smooth, 1)))
    exact = [F.interpolate(x, size, mode="nearest-exact") for x in projected]
    yield "nearest-exact", classify(fuse(torch.cat(exact, 1)))
    yield "maps-in-another-order", classify(fuse(torch.cat(fused.chunk(4, 1)[::-1], 1)))
    for act in (torch.relu, F.gelu):
        yield "relu-between", classify(act(fuse(fused)))
        yield "relu-between", classify(fuse(act(fused)))
        yield "relu-between", classify(act(fuse(act(fused))))
    yield from _probabilities(classify(fuse(fused)))


def _probabilities(logits: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield what may be made of logits that should be left alone."""
    for made in (logits.softmax(1), logits.log_softmax(1), logits.sigmoid()):
        yield "softmax-at-the-end", made


def _model_weights(look: Look, answer: Any) -> None:
    module, image = _module(look, answer, MODEL), random(*IMAGES[0])
    _counted(look, module, _count(Segformer(**MODEL)), "With the check's sizes the model")
    look.done("number of weights")
    look.gradients(module, image)
    look.done("gradients")


def _quiet(look: Look, answer: Any) -> None:
    module, image = _module(look, answer, MODEL), random(*IMAGES[0])
    look.side_effects(module, image)
    look.done("no side effects")
    look.pictures_apart(module, image)
    look.done("pictures apart")
    look.same_in_eval(module, image)
    look.done("training and evaluation agree")


# The file.

_IN_A_BLOCK = (
    "query", "key, value", "output", "norm before attention",
    "widen", "mix", "mix channels", "narrow", "norm before feed-forward",
)  # fmt: skip


def lucidrains_file(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return the weights of the sketch under the names, and in the order and the shapes, of lucidrains' package.

    Args:
        model: this library's ``Segformer`` with the parts of the sketch.

    Returns:
        A state dict: keys and values in one layer, the patches' filters as 1×1 convolutions of unfolded patches.

    Source: the names in ``segformer_edu.pretrained.names``, read backwards.
    """
    ours, found = model.state_dict(), {}

    def take(part: str, **places: int) -> None:
        for kind in ("weight", "bias", "g", "b"):
            name = f"{SKETCH_OURS[part].format(**places)}.{kind}"
            if part == "key, value":
                halves = [name.replace("to_kv", half) for half in ("to_k", "to_v")]
                value = torch.cat([ours[half] for half in halves]) if halves[0] in ours else None
            else:
                value = ours.get(name)
            if value is not None:
                shaped = value.reshape(len(value), -1, 1, 1) if part == "patches" and kind == "weight" else value
                found[f"{LUCIDRAINS[part].format(**places)}.{kind}"] = shaped.clone()

    for stage in range(len(KERNELS)):
        take("patches", stage=stage)
        block = 0
        while f"{SKETCH_OURS['query'].format(stage=stage, block=block)}.weight" in ours:
            for part in _IN_A_BLOCK:
                take(part, stage=stage, block=block)
            block += 1
    for stage in range(len(KERNELS)):
        take("project", stage=stage)
    take("fuse")
    take("classify")
    return found


def _drawn(sizes: Mapping[str, Any], seed: int) -> Segformer:
    """Make a model of the sketch whose every weight is away from its start."""
    model = Segformer(**sizes).double().eval()
    with torch.no_grad():
        for number, (name, value) in enumerate(model.named_parameters()):
            noise = random(*value.shape, seed=seed + number)
            norm = name.endswith((".g", ".b"))
            value.copy_(noise / value[0].numel() ** 0.5 if value.dim() > 1 and not norm else 0.3 * noise)
            value.add_(1.0 if name.endswith(".g") else 0.0)
    return model


def _load(look: Look, load: Any, answer: Any) -> None:
    """Let the reader load a file in lucidrains' format, and compare logits."""
    look.exists(load)
    usual = {"num_classes": 5, "decoder_dim": 32}
    for told, sizes in {"the check's sizes": MODEL, "the default sizes of the encoder": usual}.items():
        reference = _drawn(sizes, seed=100)
        file = lucidrains_file(reference)
        model = look.construct(answer, **sizes)
        before = {name: value.detach().clone() for name, value in model.named_parameters()}
        kept = dict(file)
        copies = {name: value.clone() for name, value in file.items()}
        words = f"load_weights(model, state_dict) with {told}"
        back = look.call(load, model, file, told=words)
        if list(file) != list(kept) or any(not torch.equal(value, copies[name]) for name, value in kept.items()):
            look.wrong("file-changed", f"After {words} the state dict is another one than before.")
        _all_loaded(look, model, before, back)
        channels = sizes.get("channels", 3)
        for shape in ((2, channels, 64, 96), (1, channels, 75, 67))[: 2 if sizes is MODEL else 1]:
            image = random(*shape, seed=3)
            yours, target = look.output(model, image).detach(), reference(image).detach()
            look.shape(yours, target.shape)
            if not close(yours, target):
                _mistaken(look, reference, image, yours, target, told)
        look.done(f"{told}: the same logits")


def _all_loaded(look: Look, model: nn.Module, before: Mapping[str, torch.Tensor], back: Any) -> None:
    same = [name for name, value in model.named_parameters() if name in before and torch.equal(value, before[name])]
    if len(same) == len(before):
        if isinstance(back, nn.Module) and back is not model:
            look.wrong("another-model-filled", f"All {len(same)} tensors of the model are as they were.")
        look.wrong("nothing-loaded", f"All {len(same)} tensors are as they were.")
    if same:
        more = f" and {len(same) - 3} more" if len(same) > 3 else ""
        look.wrong("not-all-loaded", f"{', '.join(f'`{name}`' for name in same[:3])}{more} are as they were.")


Weights = dict[str, torch.Tensor]


def _exchanged(weights: Weights, one: str, other: str) -> Weights:
    """Exchange all weights of two names."""
    renamed = {}
    for name, value in weights.items():
        name = name.replace(one, "\0").replace(other, one).replace("\0", other)
        renamed[name] = value
    return renamed


def _parted(weights: Weights, part: Callable[[torch.Tensor], tuple[torch.Tensor, ...]]) -> Weights:
    """Part the layer of keys and values in another way."""
    done = dict(weights)
    for name in [name for name in weights if ".to_k." in name]:
        partner = name.replace("to_k", "to_v")
        done[name], done[partner] = part(torch.cat([weights[name], weights[partner]]))
    return done


def _other_filters(weights: Weights) -> Weights:
    def permuted(value: torch.Tensor) -> torch.Tensor:
        out, channels, kernel, _ = value.shape
        return value.reshape(out, kernel, kernel, channels).permute(0, 3, 1, 2)

    return {name: permuted(value) if name.endswith("embedding.weight") else value for name, value in weights.items()}


def _turned_filters(weights: Weights) -> Weights:
    return {name: value.mT if name.endswith("embedding.weight") else value for name, value in weights.items()}


def _misread(weights: Weights) -> Iterator[tuple[str, Weights]]:
    """Yield what known mistakes make of a file."""
    yield "keys-and-values-exchanged", _exchanged(weights, ".to_k.", ".to_v.")
    yield "kv-dealt-out", _parted(weights, lambda both: (both[::2], both[1::2]))
    yield "kv-dealt-out", _parted(weights, lambda both: (both[1::2], both[::2]))
    yield "patch-numbers-permuted", _other_filters(weights)
    yield "patch-numbers-permuted", _turned_filters(weights)
    yield "norms-exchanged", _exchanged(weights, ".attention_norm.", ".feed_forward_norm.")
    yield "g-and-b-exchanged", _exchanged(weights, "_norm.g", "_norm.b")
    for one, other in (("g", "b"), ("b", "g")):  # one of them for both
        twice = {name: weights[f"{name[:-1]}{one}"] for name in weights if name.endswith(f"_norm.{other}")}
        yield "g-and-b-exchanged", weights | twice
    yield "query-and-output-exchanged", _exchanged(weights, ".to_q.", ".to_out.")
    fuse = "decoder.to_segmentation.0.weight"
    yield "fuse-permuted", weights | {fuse: torch.cat(weights[fuse].chunk(4, 1)[::-1], 1)}


@torch.no_grad()
def _mistaken(
    look: Look, reference: nn.Module, image: torch.Tensor, yours: torch.Tensor, target: torch.Tensor, told: str
) -> NoReturn:
    """End with the mistake that gives these logits."""
    other = copy.deepcopy(reference)
    for kind, weights in _misread(reference.state_dict()):
        other.load_state_dict(weights)
        if close(yours, other(image)):
            look.wrong(kind, f"With {told} the logits are those that this mistake gives, to the last digits.")
    look.values(yours, target, {"logits-differ": yours}, at=told)
    raise AssertionError


# The capstone.


@dataclass(frozen=True)
class Step:
    """One step.

    Attributes:
        title: its name.
        chapter: that it belongs to.
        names: of the reader's, what the check takes.
        body: what looks, or None where a chapter's check does.
        check: the name of the chapter's check.
    """

    title: str
    chapter: int
    names: tuple[str, ...]
    body: Callable[..., None] | None = None
    check: str = ""

    def look(self, names: Mapping[str, Any]) -> Result:
        """Look at the reader's classes."""
        answers = [names.get(name) for name in self.names]
        refused = look_at(self.title, HINTS, _refuse, dict(zip(self.names, answers)))
        if refused.outcome != "right":
            return refused
        if self.body is not None:
            return look_at(self.title, HINTS, self.body, *answers)
        return Result(**{**vars(EXERCISES[self.check](*answers)), "exercise": self.title})


def _refuse(look: Look, names: Mapping[str, Any]) -> None:
    """End where one of some names is the library's."""
    for name, value in names.items():
        if _is_theirs(value):
            look.wrong("the-librarys", f"{name} is the library's.")


def _refuse_layers(look: Look, names: Mapping[str, Any]) -> None:
    """End where one of a file's names is a layer of the library."""
    _refuse(
        look, {name: value for name, value in names.items() if isinstance(value, type) and issubclass(value, nn.Module)}
    )


STEPS = (
    Step("DsConv2d", 1, ("DsConv2d",), check="ds_conv2d"),
    Step("LayerNorm", 2, ("LayerNorm",), check="layer_norm"),
    Step("PreNorm", 2, ("PreNorm",), _pre_norm),
    Step("EfficientSelfAttention", 3, ("EfficientSelfAttention",), check="efficient_self_attention"),
    Step("MixFeedForward", 4, ("MixFeedForward",), check="mix_feed_forward"),
    Step("MiT: four maps", 5, ("MiT",), _four_maps),
    Step("MiT: the blocks", 5, ("MiT", "EfficientSelfAttention", "MixFeedForward", "LayerNorm"), _blocks),
    Step("MiT: its weights", 5, ("MiT",), _encoder_weights),
    Step("Segformer: size of the logits", 6, ("Segformer",), _logits_sizes),
    Step("Segformer: its weights", 6, ("Segformer",), _model_weights),
    Step("Segformer: the same answer each time", 6, ("Segformer",), _quiet),
    Step("Segformer: its arguments", 6, ("Segformer",), _numbers),
    Step("Segformer: the decoder", 6, ("Segformer", "MiT"), _decoder),
    Step("load_weights: the same logits", 6, ("load_weights", "Segformer"), _load),
)
"""The steps in their order."""


def _opened(title: str, answers: Any) -> tuple[dict[str, Any], Result]:
    """Read a reader's names; the result tells why there are none."""
    names: dict[str, Any] = {}

    def body(look: Look, answers: Any) -> None:
        names.update(names_of(look, answers))

    result = look_at(title, HINTS, body, answers)
    if result.outcome == "right" and result.printed and isinstance(answers, str | Path):
        result = look_at(title, HINTS, _printed, result.printed)
    return names, result


def _printed(look: Look, text: str) -> None:
    look.wrong("prints-at-import", f"Printed: {text.strip()}")


def capstone(answers: Any) -> Progress:
    """Check a reader's own SegFormer, step by step, up to the first step that is not right yet.

    Args:
        answers: the path of a .py file, which is run; ``globals()`` or another dict; or a module.

    Returns:
        How many steps are right, and the result of the first that is not. It shows itself.
    """
    listed = tuple((step.title, step.chapter) for step in STEPS)
    try:
        names, result = _opened("Your file", answers)
        if result.outcome == "right" and isinstance(answers, str | Path):
            result = look_at("Your file", HINTS, _refuse_layers, names)
        if result.outcome != "right":
            return Progress("Capstone", listed, 0, result)
        for number, step in enumerate(STEPS):
            found = step.look(names)
            if found.outcome != "right":
                return Progress("Capstone", listed, number, found)
        return Progress("Capstone", listed, len(STEPS), None)
    finally:
        sys.modules.pop(MODULE, None)


# The street.

SHIPPED = "camvid-small"


def street(answers: Any) -> Result:
    """Check that a reader's own model of the paper segments a street as the library's does, after chapter 9.

    Args:
        answers: as for ``capstone``, with a function ``street_model(weights, config)`` among the names: it gets the
            state dict of ``load_pretrained("camvid-small")`` and its ``SegformerConfig``, and returns the model with
            these weights. Or such a function; or the model itself. The model takes a normalised picture
            (B, 3, H, W) and returns logits (B, 11, H/4, W/4).

    Returns:
        A result that shows itself.
    """
    if isinstance(answers, nn.Module) or callable(answers):
        return look_at("The street", HINTS, _street, answers)
    try:
        names, result = _opened("Your file", answers)
        if result.outcome != "right":
            return result
        return look_at("The street", HINTS, _street, names.get("street_model"))
    finally:
        sys.modules.pop(MODULE, None)


def _street(look: Look, answer: Any) -> None:  # noqa: PLR0915
    look.exists(answer, instance=True)
    shipped = load_pretrained(SHIPPED, parts=PAPER)
    weights, config = {name: value.clone() for name, value in shipped.state_dict().items()}, shipped.config
    shipped = shipped.double().eval()
    model = answer
    if not isinstance(answer, nn.Module):
        given = {name: value.clone() for name, value in weights.items()}
        model = look.call(answer, given, config, told="street_model(weights, config)")
        if model is None:
            look.nothing(answer, "street_model(weights, config)")
    if not isinstance(model, nn.Module):
        look.wrong("not-a-module", f"A {type(model).__name__} came out, and no nn.Module.")
    _own(look, model)
    look.done("a model of your own")
    model = look.call(copy.deepcopy, model, told="A copy of your model").double().eval()
    photo, truth = frames.street()
    picture = normalize(photo[None]).double()
    corner = picture[..., 100:228, 200:360]
    with torch.no_grad():
        yours, target = look.output(model, corner), shipped(corner)
    if yours.shape != target.shape:
        look.wrong("not-the-logits", f"A picture of 128×160 gave {tuple(yours.shape)}; {tuple(target.shape)} expected.")
    look.done("runs, shape of the logits")
    if not close(yours, target):
        if not _uses(model, weights):
            look.wrong("nothing-loaded", "Not one of the file's larger tensors was found in the model.")
        for kind, result in (*_probabilities(target), *_misbuilt(weights, config, corner)):
            if close(yours, result):
                look.wrong(kind, "The logits are those that this mistake gives, to the last digits.")
        agreed = float((yours.argmax(1) == target.argmax(1)).double().mean())
        if agreed > 0.99:
            look.wrong("almost-the-same", f"{agreed:.2%} of the logits' places have the class that they should have.")
        look.values(yours, target)
    look.done("logits of a corner")
    model, shipped, picture = model.float(), shipped.float(), picture.float()  # in half the time
    yours, target = (enlarged(net, picture) for net in (lambda x: look.output(model, x, dtype=torch.float32), shipped))
    if (other := float((yours != target).double().mean())) > 1e-4:  # rounding decides where two classes are equal
        look.wrong("whole-street", f"{other:.2%} of the pixels of the whole street have another class.")
    look.done("class map of the street")
    labelled = truth != VOID
    look.remark(f"{float((yours[0] == truth)[labelled].double().mean()):.0%} of the labelled pixels are right.")


def _uses(model: nn.Module, weights: Weights) -> bool:
    """Whether any matrix of the file, or a half of one, is among the tensors of a model, told by their sums."""
    sums = [float(value.double().sum()) for value in model.state_dict().values()]
    large = [part for value in weights.values() if value.dim() > 1 for part in (value, *value.chunk(2))]
    return any(abs(float(part.double().sum()) - found) < 1e-5 for part in large for found in sums)


@torch.no_grad()
def enlarged(model: Callable[[torch.Tensor], torch.Tensor], picture: torch.Tensor) -> torch.Tensor:
    """Return a model's class map of a picture, in its size."""
    return F.interpolate(model(picture), size=picture.shape[-2:], mode="bilinear").argmax(1)


class _TanhFeedForward(DepthwiseMixFeedForward):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.narrow(F.gelu(self.mix(self.widen(x)), approximate="tanh"))  # type: ignore[no-any-return]


class _AlteredHead(SegformerHead):
    """The paper's decoder, for one step to be exchanged: how maps are enlarged, or what stands behind the fuse."""

    options: ClassVar[dict[str, Any]] = {"mode": "bilinear"}

    def forward(self, layer_outputs: list[torch.Tensor]) -> torch.Tensor:
        size = layer_outputs[0].shape[-2:]
        maps = [F.interpolate(project(x), size, **self.options) for x, project in zip(layer_outputs, self.project)]
        return self.classify(self.behind(self.fuse(torch.cat(maps, 1))))  # type: ignore[no-any-return]

    def behind(self, fused: torch.Tensor) -> torch.Tensor:
        return self.norm(fused).relu()  # type: ignore[no-any-return]


class _NearestHead(_AlteredHead):
    options: ClassVar[dict[str, Any]] = {"mode": "nearest"}


class _CornersHead(_AlteredHead):
    options: ClassVar[dict[str, Any]] = {"mode": "bilinear", "align_corners": True}


class _NoReluHead(_AlteredHead):
    def behind(self, fused: torch.Tensor) -> torch.Tensor:
        return self.norm(fused)  # type: ignore[no-any-return]


class _ReluFirstHead(_AlteredHead):
    def behind(self, fused: torch.Tensor) -> torch.Tensor:
        return self.norm(fused.relu())  # type: ignore[no-any-return]


def _paper(config: SegformerConfig, weights: Weights, parts: Parts, **changed: Any) -> nn.Module:
    """Make the paper's model of these sizes, with these weights."""
    names = ("dims", "heads", "ff_expansion", "reduction_ratio", "num_layers", "decoder_dim", "num_classes")
    model = Segformer(**{name: getattr(config, name) for name in names} | changed, parts=parts)
    model.load_state_dict(weights)
    return model.double().eval()


@torch.no_grad()
def _misbuilt(weights: Weights, config: SegformerConfig, x: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield the logits that known mistakes give."""
    parts = PAPER.with_norm_eps(config.norm_eps)
    fuse, statistics = "decoder.fuse.weight", "decoder.norm.running_"
    mistaken = {
        "fuse-permuted": weights | {fuse: torch.cat(weights[fuse].chunk(4, 1)[::-1], 1)},
        "keys-and-values-exchanged": {
            name: torch.cat(value.chunk(2)[::-1]) if ".to_kv." in name else value for name, value in weights.items()
        },
        "statistics-forgotten": weights
        | {
            f"{statistics}mean": torch.zeros_like(weights[f"{statistics}mean"]),
            f"{statistics}var": torch.ones_like(weights[f"{statistics}var"]),
        },
        "norms-exchanged": _exchanged(weights, ".attention_norm.", ".feed_forward_norm."),
        "query-and-output-exchanged": _exchanged(weights, ".to_q.", ".to_out."),
    }
    for kind, changed in mistaken.items():
        yield kind, _paper(config, changed, parts)(x)
    for heads in ((1, 1, 1, 1), (1, 2, 4, 8)):
        yield "heads", _paper(config, weights, parts, heads=heads)(x)
    for eps in (1e-5, 1e-6, 1e-12):
        others = PAPER.with_norm_eps(NormEps(blocks=eps, stages=eps, patches=eps, reductions=eps))
        yield "other-eps", _paper(config, weights, others)(x)
    yield "gelu-approximated", _paper(config, weights, replace(parts, feed_forward=_TanhFeedForward))(x)
    for head, kind in (
        (_NearestHead, "nearest"),
        (_CornersHead, "nearest"),
        (_NoReluHead, "relu-missing"),
        (_ReluFirstHead, "relu-before-norm"),
    ):
        yield kind, _paper(config, weights, replace(parts, decoder=head))(x)
    yield "normalised-twice", _paper(config, weights, parts)(normalize(x))
    yield from _without_parts(lambda: _paper(config, weights, parts), x)


def _without_parts(make: Callable[[], nn.Module], x: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield the logits of models that lack a norm everywhere, or a sum."""
    norms = (
        ("batch-norm-missing", "decoder.norm"),
        ("stage-norm-missing", r"mit.stages.\d.norm"),
        ("embedding-norm-missing", r".*embedding.norm"),
        ("reduction-norm-missing", r".*reduce.1"),
        ("norm-missing", r".*attention_norm"),
        ("norm-missing", r".*feed_forward_norm"),
    )
    for kind, pattern in norms:
        model = make()
        for name in [name for name, _ in model.named_modules() if re.fullmatch(pattern, name)]:
            parent, _, last = name.rpartition(".")
            setattr(model.get_submodule(parent), last, nn.Identity())
        yield kind, model(x)
    for branches in ((True, False), (False, True), (True, True)):
        model = make()
        for block in _instances(model, Block):
            block.forward = partial(_unsummed, block, branches)  # type: ignore[arg-type]
        yield "residual-missing", model(x)


def _unsummed(block: Block, branches: tuple[bool, bool], x: torch.Tensor) -> torch.Tensor:
    """Compute a block that leaves out the sum behind one of its branches, or both."""
    a = block.attention(block.attention_norm(x))
    x = a if branches[0] else x + a
    f: torch.Tensor = block.feed_forward(block.feed_forward_norm(x))
    return f if branches[1] else x + f
