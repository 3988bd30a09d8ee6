"""Chapter 6: the decoder, and from logits to a class map."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import torch
import torch.nn.functional as F
from torch import nn

from segformer_edu.checks.core import Failure, Look, close, exercise, in_words, random
from segformer_edu.checks.numbers import Quantity, predictions, puzzle_of

# 6.1

DIMS, WIDTH, CLASSES = (5, 3, 7, 4), 6, 9
MAPS = (((16, 24), (8, 12), (4, 6), (2, 3)), ((12, 18), (6, 9), (3, 5), (2, 3)), ((9, 7), (5, 4), (3, 2), (2, 1)))
"""Sizes of the four maps; the first ones are halves of each other."""
AWKWARD = ((15, 30), (11, 11), (13, 13), (7, 5))
"""For these 11 times 15/11 is less than 15."""
COUNT = sum(dim * WIDTH + WIDTH for dim in DIMS) + 4 * WIDTH * WIDTH + WIDTH + WIDTH * CLASSES + CLASSES

HINTS = {
    "not-enlarged": "Maps of different sizes cannot be put together. Which step brings them to one size, and when?",
    "scale-factor": "It works where each map is exactly half of the one before. Are the maps "
    "enlarged by a factor, or to a size?",
    "projections-exchanged": "A projection was given a map of another width. Which map belongs to which projection?",
    "widths-do-not-fit": "One layer is given another number of channels than it was made for. How many channels have "
    "the four maps together when they are side by side?",
    "enlarged-to-the-image": "The result has the image's size. Whose size should all maps have here?",
    "size-of-a-coarse-map": "The fine map has been made smaller. To whose size are the maps brought?",
    "batch-longer": "There are more pictures than before. Along which axis are the maps put together?",
    "not-the-classes": "How many scores has each pixel, and how many classes are there?",
    "softmax-at-the-end": "The scores of a pixel add up to one. Who makes shares of them, and is it asked for here?",
    "classes-not-scores": "The decision is made already. What should come out: classes or scores?",
    "not-linear": "Somewhere the sum of two inputs does not give the sum of two outputs. Which step is not linear, and "
    "is it asked for?",
    "map-ignored": "One of the four maps makes no difference. Where does it get lost?",
    "mean-taken-away": "A map that is the same everywhere makes no difference, and another one does. What is taken "
    "away from it?",
    "looks-at-neighbours": "A map that is the same everywhere gives different scores at the edge. Which layer looks "
    "at more than one pixel?",
    "bilinear": "The values between two pixels are mixed. Which way of enlarging does the text ask for?",
    "bilinear-corners": "Things are pushed outwards from the middle. To what are the first and the last pixel pinned?",
    "bicubic": "Values go beyond those of the neighbours. Which way of enlarging does the text ask for?",
    "other-nearest": "Each number is copied, and some places get another one than in PyTorch's usual way. Which of its "
    "ways of copying have you named?",
    "means-of-areas": "Where the sizes do not divide each other, numbers are averaged. Which way of enlarging does the "
    "text ask for?",
    "maps-flipped": "The enlarged maps lie the wrong way round. Which axis has been turned?",
    "concatenated-backwards": "Weights made for the order from the first map to the last would meet other maps here. "
    "In which order are they put together?",
    "added-not-concatenated": "The four maps are added up before the fuse. How many channels should it see?",
    "fuse-unused": "The maps are added, and one layer is left out. Which of your layers is never called?",
    "fuse-missing": "From the four maps side by side it goes straight to the classes. Which layer lies between?",
    "projection-missing": "The maps are put together as they come. Which layer brings each to the common width?",
    "bias-missing": "For maps of zeros, what should come out? Count the biases of the six layers.",
    "width-ignored": "The maps are not brought to the width that the argument says. Where is it written down?",
    "parameters": "Count the weights of the projections, of the fuse and of the classifier. Which is larger here?",
    "changes-the-list": "The list that came in is another one after the call. Which line writes into it?",
    "arguments-fixed": "With other sizes it cannot be built or run. Which number is written down?",
    "factor-rounded": "A factor made of two sizes gave one row too few. What else can the enlarging be told?",
    "batch-shorter": "There are fewer pictures than went in. Which line takes some of them?",
    "norm-inside": "A norm works between the layers. Is one asked for here?",
    "reshaped-not-moved": "A pixel that changes is seen at other places than its own. Which axes have been "
    "reshaped, and should have been moved?",
    "enlarged-in-steps": "A coarse map is enlarged several times, and for odd sizes the copies fall elsewhere. "
    "How often should each map be enlarged?",
    "cropped": "The maps were enlarged by a whole number and then cut. What does that do to the places of the copies?",
    "interleaved": "The maps' channels alternate: one of each, then the next of each. Which channels belong together?",
    "added-beside-the-fuse": "Something besides the fuse's own result goes to the classifier. What is added to it?",
    "another-way-to-the-fuse": "The scores are not those of the six weights in a row. What else happens on the way?",
    "fuse-width": "The projections have the width of the argument. How many channels does the fuse give?",
    "bias-otherwise": "For maps of zeros other scores come out than the six biases give. How often is each added?",
    "grouped": "A layer sees some of its channels only. Which argument does that?",
}


class _Joined(nn.Module):
    """A decoder of one tensor: the four maps as one row of numbers a picture."""

    def __init__(self, decoder: nn.Module, sizes: Sequence[tuple[int, int]]) -> None:
        super().__init__()
        self.decoder, self.shapes = decoder, [(dim, *size) for dim, size in zip(DIMS, sizes)]

    def split(self, row: torch.Tensor) -> list[torch.Tensor]:
        """Return the four maps."""
        parts = row.split([c * h * w for c, h, w in self.shapes], 1)
        return [part.unflatten(1, shape) for part, shape in zip(parts, self.shapes)]

    def forward(self, row: torch.Tensor) -> Any:
        return self.decoder(self.split(row))


def _maps(
    sizes: Sequence[tuple[int, int]], batch: int = 2, seed: int = 0, dims: Sequence[int] = DIMS
) -> list[torch.Tensor]:
    return [random(batch, dim, *size, seed=seed + i) for i, (dim, size) in enumerate(zip(dims, sizes))]


@exercise("MLPDecoder", HINTS)
def mlp_decoder(look: Look, answer: Any) -> None:
    """Check `MLPDecoder(dims=, decoder_dim=, num_classes=)`, a class: four maps become one map of scores."""
    look.exists(answer)
    module = look.construct(answer, dims=DIMS, decoder_dim=WIDTH, num_classes=CLASSES)
    look.done("constructed")
    for sizes in (*MAPS, AWKWARD):
        _runs(look, module, sizes)
    look.done("runs, shapes right for maps that are halves of each other and for others")
    _keeps_the_list(look, module)
    _norms(look, module)
    joined, row = _Joined(module, MAPS[1]), torch.cat([x.flatten(1) for x in _maps(MAPS[1])], 1)
    look.side_effects(joined, row)
    look.pictures_apart(joined, row)
    look.same_in_eval(joined, row)
    look.done("no side effects")
    _scores(look, joined, row)
    look.done("linear but for biases")
    matrices, bias = _read(look, module)
    look.done("all four maps count, pixel by pixel")
    _enlarged(look, module, matrices, bias)
    look.done("way of enlarging")
    _layers(look, module, matrices, bias)
    look.done("number of parameters, order of the maps")
    look.gradients(joined, row, lambda x: _by_matrices(joined.split(x), matrices, bias))
    look.done("gradients")
    _other_arguments(look, answer)
    look.done("other widths")


def _runs(look: Look, module: nn.Module, sizes: Any) -> None:
    """The shape of the result for maps of these sizes; says what a failure comes from."""
    maps, halves = _maps(sizes), sizes is MAPS[0]
    told = f"MLPDecoder.forward(maps of {', '.join(f'{h}×{w}' for h, w in sizes)})"
    made = look.attempt(module, list(maps), told=told)
    if isinstance(made, Failure):
        words = made.words
        if not halves:
            look.wrong("factor-rounded" if sizes is AWKWARD else "scale-factor", f"{told}: {made}")
        if "Sizes of tensors must match" in words or "must match the size of tensor" in words:
            look.wrong("not-enlarged", f"{told}: {made}")
        if "channels, but got" in words or "cannot be multiplied" in words:
            _channels(look, f"{told}: {made}", words)
    _shape(look, look.output(module, list(maps), told=told, dtype=None), sizes, told)


def _shape(look: Look, yours: torch.Tensor, sizes: Any, told: str) -> None:
    halves = sizes is MAPS[0]
    if not yours.is_floating_point():
        look.wrong("classes-not-scores", f"{told} gave whole numbers of the shape {tuple(yours.shape)}.")
    if yours.dtype != torch.float64:
        look.wrong("wrong-dtype", f"{told} gave {yours.dtype}; float64 is expected.")
    (height, width), *coarse = sizes
    expected = (2, CLASSES, height, width)
    wrong: dict[str, Any] = {"enlarged-to-the-image": (2, CLASSES, 4 * height, 4 * width)}
    seen = f"The result has the shape {tuple(yours.shape)}; expected is {expected}."
    if yours.dim() == 4 and yours.shape[0] in (4, 8) and yours.shape[2:] == (height, width):
        look.wrong("batch-longer", seen)
    if yours.dim() == 4 and yours.shape[0] < 2:
        look.wrong("batch-shorter", seen)
    if not halves and yours.shape[2:] == MAPS[0][0]:
        look.wrong("keeps-state", f"{seen} The maps of the first call had that size.")
    if yours.dim() == 4 and yours.shape[2:] in coarse:
        look.wrong("size-of-a-coarse-map", seen)
    if yours.dim() == 4 and yours.shape[0] == 2 and yours.shape[1] != CLASSES and yours.shape[2:] == (height, width):
        look.wrong("not-the-classes", seen)
    if not halves and yours.dim() == 4 and yours.shape[1] == CLASSES and sorted(yours.shape) != sorted(expected):
        factor = "factor-rounded" if sizes is AWKWARD else "scale-factor"
        look.wrong("enlarged-to-the-image" if yours.shape[2] > 3 * height else factor, seen)
    look.shape(yours, expected, told, wrong)


def _channels(look: Look, seen: str, words: str) -> NoReturn:
    """A layer was given a map of another width: a projection, or the fuse."""
    numbers = [int(word) for word in words.replace(",", " ").replace("x", " ").split() if word.isdigit()]
    given = any(f"but got {dim} channels" in words for dim in DIMS) and any(
        f"to have {d} channels" in words for d in DIMS
    )
    rows = "multiplied" in words and set(numbers) & set(DIMS) and not set(numbers) & {WIDTH * 4, sum(DIMS)}
    look.wrong("projections-exchanged" if given or rows else "widths-do-not-fit", seen)


def _keeps_the_list(look: Look, module: nn.Module) -> None:
    given = _maps(MAPS[1])
    kept = [x.clone() for x in given]
    before = list(given)
    look.output(module, given)
    if len(given) != 4 or any(a is not b for a, b in zip(given, before)):
        look.wrong("changes-the-list", f"After the call the list holds {len(given)} maps, or others than before.")
    if any(not torch.equal(a, b) for a, b in zip(given, kept)):
        look.wrong("changes-input", "A map holds other numbers after the call.")


def _norms(look: Look, module: nn.Module) -> None:
    """Whether a norm is called."""
    called: list[str] = []

    def note(part: nn.Module, *_: Any) -> None:
        called.append(type(part).__name__)

    parts = [part for part in module.modules() if re.search(r"Norm(\dd)?$", type(part).__name__)]
    hooks = [part.register_forward_hook(note) for part in parts if part is not module]
    look.output(module, _maps(MAPS[1]))
    for hook in hooks:
        hook.remove()
    if called:
        look.wrong("norm-inside", f"A {called[0]} was called.")


def _scores(look: Look, joined: nn.Module, row: torch.Tensor) -> None:
    """f(a + b) + f(0) = f(a) + f(b); what is not linear is looked at once more."""
    other = 2 * random(*row.shape, seed=8)
    y, zero = look.output(joined, 3 * row).detach(), look.output(joined, torch.zeros_like(row)).detach()
    both, second = look.output(joined, 3 * row + other).detach(), look.output(joined, other).detach()
    if close(both + zero, y + second):
        return
    if close(y.sum(1), torch.ones_like(y.sum(1))):
        look.wrong("softmax-at-the-end", "The scores of each pixel add up to 1.")
    if close(y.exp().sum(1), torch.ones_like(y.sum(1))) or bool(((y >= 0) & (y <= 1)).all()):
        look.wrong("softmax-at-the-end", "The scores are shares, or their logarithms.")
    look.wrong("not-linear", "f(a + b) − f(a) − f(b) + f(0) is not zero.")


def _read(look: Look, module: nn.Module) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Return the matrix (K, C_i) of each map, and the bias (K,): a map of ones in one channel shows a column."""
    sizes = MAPS[1]
    zeros = [torch.zeros_like(x[:1]) for x in _maps(sizes)]
    nothing = look.output(module, list(zeros)).detach()
    flat = nothing[:, :, 5:6, 7:8]
    if not close(nothing, flat.expand_as(nothing)):
        _own_place(look, module)
        look.wrong("looks-at-neighbours", "For maps of zeros the scores are not the same everywhere.")
    matrices = []
    for index, dim in enumerate(DIMS):
        batch = [x.expand(dim, -1, -1, -1).clone() for x in zeros]
        batch[index] += torch.eye(dim, dtype=torch.float64)[:, :, None, None]
        yours = look.output(module, batch).detach()
        if len(yours) != dim:
            look.wrong("batch-shorter", f"{dim} pictures went in, {len(yours)} came out.")
        answer = yours - nothing  # (C_i, K, H, W)
        if not bool(answer.any()):
            batch[index] = random(*batch[index].shape, seed=6)
            if not close(look.output(module, batch).detach(), yours):
                look.wrong("mean-taken-away", f"A map {index + 1} of ones gives what a map of zeros gives.")
            look.wrong("map-ignored", f"Map {index + 1} can be changed, and the scores stay.")
        if not close(answer, answer[:, :, 5:6, 7:8].expand_as(answer)):
            _own_place(look, module)
            look.wrong(
                "looks-at-neighbours", f"A map {index + 1} of ones gives other scores at some places than at others."
            )
        matrices.append(answer[:, :, 5, 7].T)
    return matrices, flat[0, :, 0, 0]


def _own_place(look: Look, module: nn.Module) -> None:
    """End where a change of the finest map is not seen at its own place."""
    before = look.output(module, _maps(MAPS[1])).detach()
    for row, column in ((2, 15), (5, 7), (9, 3)):
        maps = _maps(MAPS[1])
        maps[0][:, :, row, column] += 1
        change = (look.output(module, maps).detach() - before).abs().amax((0, 1))
        if change[row, column] < 1e-9 < change.max():
            other = tuple(int(i) for i in (change > 1e-9).nonzero()[0])
            look.wrong("reshaped-not-moved", f"Pixel {(row, column)} was changed; the scores changed at {other}.")


def _by_matrices(
    maps: Sequence[torch.Tensor], matrices: list[torch.Tensor], bias: torch.Tensor, enlarge: Any = F.interpolate
) -> torch.Tensor:
    """The scores by one matrix a map, with a way of enlarging to the first map's size."""
    size = tuple(maps[0].shape[2:])
    parts = [torch.einsum("kc,bchw->bkhw", M, enlarge(x, size)) for M, x in zip(matrices, maps)]
    return torch.stack(parts).sum(0) + bias[:, None, None]


def _way(mode: str, **options: Any) -> Callable[[torch.Tensor, Sequence[int]], torch.Tensor]:
    return lambda x, size: F.interpolate(x, size=size, mode=mode, **options)


def _flipped(*axes: int) -> Callable[[torch.Tensor, Sequence[int]], torch.Tensor]:
    return lambda x, size: x if x.shape[2:] == size else F.interpolate(x, size=size).flip(axes)


def _cut(x: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Each number copied by a whole factor, and what is too much cut off."""
    rows, columns = (-(-n // m) for n, m in zip(size, x.shape[2:]))
    return x.repeat_interleave(rows, 2).repeat_interleave(columns, 3)[:, :, : size[0], : size[1]]


def _in_steps(x: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """From each map's size to that of the map before."""
    sizes = next(sizes for sizes in MAPS if sizes[0] == tuple(size))
    for step in sizes[: sizes.index(tuple(x.shape[2:]))][::-1]:
        x = F.interpolate(x, size=step)
    return x


WAYS: tuple[tuple[str, Callable[[torch.Tensor, Sequence[int]], torch.Tensor]], ...] = (
    ("bilinear", _way("bilinear")),
    ("bilinear-corners", _way("bilinear", align_corners=True)),
    ("bicubic", _way("bicubic")),
    ("bicubic", _way("bicubic", align_corners=True)),
    ("other-nearest", _way("nearest-exact")),
    ("means-of-areas", _way("area")),
    ("maps-flipped", _flipped(2)),
    ("maps-flipped", _flipped(3)),
    ("maps-flipped", _flipped(2, 3)),
    ("enlarged-in-steps", _in_steps),
    ("cropped", _cut),
)
"""Ways of enlarging a map to a size that are not the one asked for."""


def _enlarged(look: Look, module: nn.Module, matrices: list[torch.Tensor], bias: torch.Tensor) -> None:
    """The whole against the matrices and ways of enlarging."""
    for sizes in MAPS[1:]:
        maps = _maps(sizes, seed=3)
        yours, target = look.output(module, list(maps)).detach(), _by_matrices(maps, matrices, bias)
        for kind, way in WAYS:
            if not close(yours, target) and close(yours, _by_matrices(maps, matrices, bias, way)):
                look.wrong(kind, "The result is the one that this way of enlarging gives, to the last digits.")
        if not close(yours, target):
            _one_map_otherwise(look, module, maps, matrices, bias)
        look.values(yours, target)
        if not close(yours, target, 1e-11):
            look.wrong("close-but-not-equal", "The scores differ behind the seventh digit.")


def _one_map_otherwise(
    look: Look, module: nn.Module, maps: list[torch.Tensor], matrices: list[torch.Tensor], bias: torch.Tensor
) -> None:
    """Whether a single map is enlarged in a way of its own: the others are zero."""
    for index in range(4):
        alone = [x * (i == index) for i, x in enumerate(maps)]
        yours = look.output(module, list(alone)).detach()
        for kind, way in WAYS if not close(yours, _by_matrices(alone, matrices, bias)) else ():
            if close(yours, _by_matrices(alone, matrices, bias, way)):
                look.wrong(kind, f"Map {index + 1} is enlarged in this way.")


def _layers(look: Look, module: nn.Module, matrices: list[torch.Tensor], bias: torch.Tensor) -> None:
    """The number of parameters tells which layers there are; the weights, in which order the maps meet the fuse."""
    parameters = list(module.parameters())
    count = sum(parameter.numel() for parameter in parameters)
    rank = int(torch.linalg.matrix_rank(torch.cat(matrices, 1)))
    shapes = ", ".join(str(tuple(parameter.shape)) for parameter in parameters)
    seen = f"{count} parameters; {COUNT} are enough. Their shapes: {shapes}."
    w, k, projections, total = WIDTH, CLASSES, sum(dim * WIDTH + WIDTH for dim in DIMS), sum(DIMS)
    known = {
        "added-not-concatenated": projections + w * w + w + w * k + k,
        "fuse-missing": projections + 4 * w * k + k,
        "projection-missing": total * w + w + w * k + k,
    }
    for kind, number in known.items():
        if count == number:
            look.wrong(kind, seen)
    if count in (projections + w * k + k, total * k + k, sum(dim * k + k for dim in DIMS), projections + w + w * w + k):
        look.wrong("fuse-missing", seen)
    if 0 < COUNT - count <= 5 * w + k and all(p.dim() > 1 for p in parameters if p.numel() > w + k):
        look.wrong("bias-missing", seen)
    if any(getattr(part, "groups", 1) != 1 for part in module.modules()):
        look.wrong("grouped", seen)
    flat = [tuple(p.flatten(1).shape) for p in parameters if p.dim() > 1]
    if all((w, dim) in flat for dim in DIMS) and any(rows != w and columns == 4 * w for rows, columns in flat):
        look.wrong("fuse-width", seen)
    if rank > w or rank < min(w, k):
        look.wrong("width-ignored", f"The four matrices together have rank {rank}; decoder_dim is {w}. {seen}")
    if count != COUNT:
        look.wrong("parameters", seen)
    _order(look, parameters, matrices)
    _biases(look, module, bias)


def _biases(look: Look, module: nn.Module, bias: torch.Tensor) -> None:
    """Where six layers are found by the shapes of their weights, their biases must give what maps of zeros give."""
    layers = [part for part in module.modules() if isinstance(getattr(part, "bias", None), nn.Parameter)]
    shapes = [*((WIDTH, dim) for dim in DIMS), (WIDTH, 4 * WIDTH), (CLASSES, WIDTH)]
    by_shape = {tuple(part.weight.flatten(1).shape): part for part in layers if isinstance(part.weight, torch.Tensor)}
    if len(layers) != 6 or set(by_shape) != set(shapes):
        return
    weights, added = ([getattr(by_shape[shape], name).detach() for shape in shapes] for name in ("weight", "bias"))
    fuse, classify = weights[4].flatten(1), weights[5].flatten(1)
    if not close(bias, classify @ (fuse @ torch.cat(added[:4]) + added[4]) + added[5]):
        look.wrong("bias-otherwise", "For maps of zeros the scores are others than the six biases give.")


def _order(look: Look, parameters: list[nn.Parameter], matrices: list[torch.Tensor]) -> None:
    """Find the weights by their shapes; where that is possible, the fuse's pieces must meet the maps in their order."""
    flat = [p.detach().flatten(1) for p in parameters if p.dim() > 1]

    def find(rows: int, columns: int) -> torch.Tensor | None:
        found = [w for w in flat if tuple(w.shape) == (rows, columns)]
        return found[0] if len(found) == 1 else None

    project, fuse, classify = [find(WIDTH, dim) for dim in DIMS], find(WIDTH, 4 * WIDTH), find(CLASSES, WIDTH)
    if fuse is None or classify is None or any(P is None for P in project):
        return  # another way to hold the weights
    projections = [P for P in project if P is not None]
    if any(all(close(M, share * classify @ P) for M, P in zip(matrices, projections)) for share in (1, 0.25)):
        look.wrong("fuse-unused", "The scores are those of the projections and the classifier, without the fuse.")

    def meets(pieces: Sequence[torch.Tensor]) -> bool:
        return all(close(M, classify @ piece @ P) for M, piece, P in zip(matrices, pieces, projections))

    pieces = fuse.chunk(4, 1)
    if meets(pieces):
        return
    seen = "The four pieces of the fuse's weight meet the maps "
    if meets(pieces[::-1]):
        look.wrong("concatenated-backwards", seen + "from the last to the first.")
    if meets([fuse[:, i::4] for i in range(4)]):
        look.wrong("interleaved", "Each map meets every fourth column of the fuse's weight.")
    if any(map(meets, itertools.permutations(pieces))):
        look.wrong("concatenated-backwards", seen + "in another order.")
    rest = [M - classify @ piece @ P for M, piece, P in zip(matrices, pieces, projections)]
    beside = [classify @ P for P in projections]
    if all(close(R + B, (1 + (R * B).sum() / (B * B).sum()) * B) for R, B in zip(rest, beside)):
        look.wrong("added-beside-the-fuse", "Besides the fuse's result, projected maps go to the classifier.")
    look.wrong("another-way-to-the-fuse", "A matrix from a map to the scores is not the product of its three weights.")


def _other_arguments(look: Look, answer: Any) -> None:
    dims, sizes = (4, 6, 5, 8), ((10, 13), (5, 7), (3, 4), (2, 2))
    told = f"MLPDecoder(dims={dims}, decoder_dim=10, num_classes=3)"
    module = look.attempt(answer, dims=dims, decoder_dim=10, num_classes=3)
    if isinstance(module, Failure):
        look.wrong("arguments-fixed", f"{told}: {module}")
    yours = look.attempt(look.call(module.double), _maps(sizes, dims=dims))
    if isinstance(yours, Failure) or tuple(yours.shape) != (2, 3, 10, 13):
        what = str(yours) if isinstance(yours, Failure) else in_words(yours)
        look.wrong("arguments-fixed", f"{told}, forward: {what}")
    expected = sum(dim * 10 + 10 for dim in dims) + 4 * 10 * 10 + 10 + 10 * 3 + 3
    count = sum(parameter.numel() for parameter in module.parameters())
    if count != expected:
        look.wrong("arguments-fixed", f"{told}: {count} parameters; {expected} are enough.")


# 6.2


def _decoder_macs(dims: Sequence[int], width: int, side: int = 128, classes: int = 150) -> tuple[int, int, int]:
    """MACs of the projections, of the fuse and of the classifier, for a first map of side² pixels."""
    project = sum((side // 2**i) ** 2 * dim * width for i, dim in enumerate(dims))
    return project, side**2 * 4 * width * width, side**2 * width * classes


_B0, _B2 = _decoder_macs((32, 64, 160, 256), 256), _decoder_macs((64, 128, 320, 512), 768)
_PLACES = 128**2

predictions(
    "decoder-macs",
    title="The decoder's MACs, image 512×512, 150 classes",
    quantities={
        "B0, fuse": Quantity(
            _B0[1],
            {
                "a-quarter": _PLACES * 256 * 256,
                "places-of-the-image": 512**2 * 4 * 256 * 256,
                "places-forgotten": (4 * 256 * 256, 128 * 4 * 256 * 256),
                "unprojected": _PLACES * (32 + 64 + 160 + 256) * 256,
                "coarse-places": sum((128 // 2**i) ** 2 for i in range(4)) * 256 * 256,
                "both-widths-four-times": _PLACES * 16 * 256 * 256,
            },
            unit="MACs",
        ),
        "B0, projections": Quantity(
            _B0[0],
            {
                "all-at-the-fine-size": _PLACES * (32 + 64 + 160 + 256) * 256,
                "halved-once-a-stage": sum(_PLACES // 2**i * dim * 256 for i, dim in enumerate((32, 64, 160, 256))),
                "places-of-the-image": 16 * _B0[0],
                "one-map-only": _PLACES * 32 * 256,
                "places-forgotten": (32 + 64 + 160 + 256) * 256,
                "bias-counted": (_B0[0] + 4 * 256, _B0[0] + sum((128 // 2**i) ** 2 for i in range(4)) * 256),
            },
            unit="MACs",
        ),
        "B0, classifier": Quantity(
            _B0[2],
            {
                "places-of-the-image": 16 * _B0[2],
                "unfused": 4 * _B0[2],
                "places-forgotten": 256 * 150,
                "bias-counted": _PLACES * 257 * 150,
            },
            unit="MACs",
        ),
        "B0, share of 8.4 billion": Quantity(
            sum(_B0) / 8.4e9,
            {
                "fuse-alone": _B0[1] / 8.4e9,
                "decoder-by-encoder": sum(_B0) / (8.4e9 - sum(_B0)),
                "percent": 100 * sum(_B0) / 8.4e9,
                "encoder-share": 1 - sum(_B0) / 8.4e9,
                "inverted": 8.4e9 / sum(_B0),
                "part-missing": tuple((sum(_B0) - part) / 8.4e9 for part in _B0),
                "part-alone": (_B0[0] / 8.4e9, _B0[2] / 8.4e9),
                "one-digit": round(sum(_B0) / 8.4e9, 1),
            },
            tolerance=0.01,
        ),
        "B2, fuse by B0's": Quantity(
            _B2[1] // _B0[1],
            {
                "width-once": 3,
                "width-cubed": 27,
                "maps-wider-too": (18, 6),
                "not-divided": _B2[1],
                "whole-decoders": tuple(round(sum(_B2) / sum(_B0), digits) for digits in (0, 1, 2, 3, 16)),
            },
        ),
        "B2, share of 62.4 billion": Quantity(
            sum(_B2) / 62.4e9,
            {
                "fuse-alone": _B2[1] / 62.4e9,
                "decoder-by-encoder": sum(_B2) / (62.4e9 - sum(_B2)),
                "percent": 100 * sum(_B2) / 62.4e9,
                "encoder-share": 1 - sum(_B2) / 62.4e9,
                "inverted": 62.4e9 / sum(_B2),
                "part-missing": tuple((sum(_B2) - part) / 62.4e9 for part in _B2),
                "part-alone": (_B2[0] / 62.4e9, _B2[2] / 62.4e9),
                "one-digit": round(sum(_B2) / 62.4e9, 1),
                "narrow-decoder": sum(_decoder_macs((64, 128, 320, 512), 256)) / 62.4e9,
            },
            tolerance=0.01,
        ),
    },
    hints={
        "one-map-only": "There are four maps. How many of them have you counted?",
        "a-quarter": "That is a quarter. Do all four maps come in, and at each place of the finest map?",
        "part-missing": "Three layers or groups of layers belong to the decoder. Which one is not in your sum?",
        "part-alone": "That is one part of the decoder. Which parts are there besides?",
        "places-of-the-image": "The decoder does not work at the image's size. How many places has the first map?",
        "places-forgotten": "Each weight is used again at every place. How many places are there?",
        "unprojected": "Before the fuse the maps have been brought to one width. How many channels come in?",
        "coarse-places": "The maps have been enlarged before the fuse. How many places has each of them then?",
        "both-widths-four-times": "Four maps come in, side by side. How many come out?",
        "all-at-the-fine-size": "The projection comes before the enlarging. How many places has each map then?",
        "halved-once-a-stage": "From stage to stage rows and columns are halved. What becomes of the number of places?",
        "unfused": "The classifier stands behind the fuse. How many channels does it see?",
        "bias-counted": "Multiplications are asked for. Does a bias have one?",
        "fuse-alone": "That is the fuse alone. What else belongs to the decoder?",
        "decoder-by-encoder": "You have divided by the rest. By what should a share be divided?",
        "percent": "As a fraction of one: where does the point stand?",
        "encoder-share": "That is what is left for the other part. Whose share is asked for?",
        "one-digit": "That is close. Give one more digit: do you know which one it is?",
        "not-divided": "That is the fuse of B2. By what is it to be divided?",
        "whole-decoders": "That is the ratio of the whole decoders. Which of the three parts is asked for?",
        "width-once": "The width stands on both sides of the fuse's matrix. How often does it come in?",
        "width-cubed": "How many sides has a matrix, and which of them grow with the width?",
        "maps-wider-too": "The encoder's widths end at the projections. Do they matter behind them?",
        "narrow-decoder": "From B2 on the decoder is wider. What is the width in this entry?",
    },
)

# 6.3

_SAME = {
    "project after enlarging": (True, "enlarging-and-mixing"),
    "four pieces of the fuse, then a sum": (True, "pieces"),
    "last map first, pieces permuted": (True, "permutation"),
    "last map first, pieces as they were": (False, "permutation-forgotten"),
    "a ReLU behind the fuse": (False, "a-relu"),
    "bilinear in place of nearest": (False, "another-way"),
    "fuse and classifier as one layer": (True, "two-linear-layers"),
    "no biases in the projections, a new one in the fuse": (True, "constants"),
}

predictions(
    "same-logits",
    title="Eight rewritings of the decoder",
    quantities={name: Quantity(same, {kind: not same}) for name, (same, kind) in _SAME.items()},
    hints={
        "enlarging-and-mixing": "Enlarging treats all channels alike, a projection all places. Which may come first?",
        "pieces": "Write the fuse's matrix as four pieces side by side. What do they do to four vectors?",
        "permutation": "If two terms of a sum change places together with their factors, what becomes of the sum?",
        "permutation-forgotten": "Each piece of the weight now meets another map. Do they have the same numbers?",
        "a-relu": "Some of the fused numbers are negative. What becomes of them, and can the classifier know?",
        "another-way": "Look at a place between two coarse pixels. Which of them does it hear in each way?",
        "two-linear-layers": "What lies between the two layers? Write both as matrices, one behind the other.",
        "constants": "A projection's bias is a constant, and enlarging keeps it. Which later bias could hold it?",
    },
)

# 6.4

CLASS_HINTS = {
    "chosen-before-enlarged": "Class numbers were mixed. Can 1 and 3 be averaged?",
    "enlarged-by-copying": "Outlines follow the coarse cells. Were scores mixed between neighbours before the choice?",
    "corners-pinned": "Everything is pushed away from the middle. To what are the first and the last pixel pinned?",
    "bicubic": "The scores swing beyond those of their neighbours. Which way of enlarging does the text ask for?",
    "shares-first": "Shares were enlarged instead of scores. Which of the two does the text ask for?",
    "enlarged-twice": "The scores were brought to another size on the way. How often should they be enlarged?",
    "smallest-chosen": "Which class should win: the one with the largest or with the smallest score?",
    "scores-not-classes": "Scores came out. What says which of them is the largest, instead of how large it is?",
    "wrong-axis": "The largest was looked for among places or pictures. Along which axis do the classes lie?",
    "axis-kept": "One axis of length one is left. Does a class map have an axis for classes?",
    "picture-axis-lost": "A batch of one picture comes out without its axis. Which step drops an axis because it has "
    "length one?",
    "not-whole-numbers": "The classes are right, but of a type with fractions. What counts, and can index?",
    "one-of-many": "Each class has a map of its own, of zeros and ones. Which one number tells the same?",
    "not-enlarged": "The map has the size of the logits. Which size is asked for?",
    "times-four": "The map was enlarged by a fixed factor. What if the size asked for is no multiple?",
    "size-ignored": "The result does not follow the size that was asked for. Where does that argument go?",
    "height-and-width": "Height and width have changed places. In which order does a size have them?",
    "numbers-from-one": "The classes are counted from another number. What is the first one called?",
    "scores-rounded": "Scores became whole numbers, and many are equal then. Which of two equal ones wins?",
    "cropped": "The map was enlarged by a factor and then cut. What does that do to the places of its outlines?",
    "thresholded": "Only one class is compared with a bound. With what should a score be compared?",
    "factor-rounded": "A factor made of two sizes gave one row or column too few. What else can the enlarging be told?",
    "one-factor-for-both": "Rows and columns were enlarged by one and the same factor. Is it right for both sides?",
    "type-too-small": "There are more classes than the type of your numbers can count. What becomes of class 128?",
    "marks-enlarged": "The decision came first, and its marks were mixed. In which order should the two steps come?",
    "class-left-out": "One class can never win. Where does it get lost?",
    "scores-changed": "Scores were changed before they were mixed. Which step is not asked for?",
    "second-best": "The class with the second largest score came out. Which one comes before it?",
    "classes-renamed": "The outlines are right, and the classes have other numbers. In which order do they stand?",
    "one-picture-only": "There are fewer class maps than pictures. Which line takes one of them?",
}
LOGITS = (
    *((2, 5, 7, 9, (27, 34)), (3, 4, 6, 5, (23, 20)), (1, 3, 8, 4, (32, 16)), (2, 4, 5, 7, (5, 7))),
    *((2, 3, 11, 13, (15, 15)), (1, 200, 4, 3, (9, 11))),
)
"""Batch, classes, height, width and the size that is asked for."""


@exercise("class_map", CLASS_HINTS)
def class_map(look: Look, answer: Any) -> None:
    """Check `class_map(logits, size)`: a function of (B, K, h, w) and (H, W) that returns classes (B, H, W)."""
    look.exists(answer)
    for number, (batch, classes, height, width, size) in enumerate(LOGITS):
        logits = random(batch, classes, height, width, seed=number)
        told = f"class_map(float64 {tuple(logits.shape)}, {size})"
        made = look.attempt(answer, logits, size, told=told)
        yours = made if isinstance(made, torch.Tensor) else look.output(answer, logits, size, told=told, dtype=None)
        _classes(look, yours.detach(), logits, size, told)
        if not number:
            look.side_effects(answer, logits, size)
            alone = look.output(answer, logits[:1], size, dtype=None)
            if alone.shape == yours.shape[1:]:
                look.wrong("picture-axis-lost", f"One picture gave the shape {tuple(alone.shape)}.")
            if not torch.equal(alone.double(), yours[:1].double()):
                look.wrong("mixes-pictures", "A picture alone gives another map than in a batch.")
        look.done(f"{height}×{width} → {size[0]}×{size[1]}")


def _classes(look: Look, yours: torch.Tensor, logits: torch.Tensor, size: tuple[int, int], told: str) -> None:
    enlarged = F.interpolate(logits, size=size, mode="bilinear")
    target = enlarged.argmax(1)
    _class_shape(look, yours, target, logits, told)
    if yours.is_floating_point() or yours.is_complex():
        if torch.equal(yours.double(), target.double()):
            look.wrong("not-whole-numbers", f"{told} gave {yours.dtype}; whole numbers are expected.")
        if bool((yours != yours.round()).any()):
            _class_values(look, yours, logits, size, target, told)
            look.wrong("scores-not-classes", f"{told} gave numbers that are no classes.")
    if yours.dtype == torch.bool:
        look.wrong("thresholded", f"{told} gave truth values.")
    if torch.equal(yours.double(), target.double()):
        return
    _class_values(look, yours, logits, size, target, told)
    look.values(yours.double(), target.double(), at=told)


def _class_shape(look: Look, yours: torch.Tensor, target: torch.Tensor, logits: torch.Tensor, told: str) -> None:
    batch, classes, height, width = logits.shape
    size = tuple(target.shape[1:])
    seen = f"{told} gave the shape {tuple(yours.shape)}; expected is {tuple(target.shape)}."
    found = tuple(yours.shape)
    if found == tuple(target.shape):
        return
    if found == (batch, classes, *size):
        binary = set(yours.unique().tolist()) <= {0, 1}
        look.wrong("one-of-many" if binary else "scores-not-classes", seen)
    factors = size[0] / height, size[1] / width
    shapes: list[tuple[str, tuple[int, ...]]] = [
        ("axis-kept", (batch, 1, *size)),
        ("axis-kept", (batch, *size, 1)),
        ("wrong-axis", (classes, *size)),
        ("wrong-axis", (batch, classes, size[0])),
        ("wrong-axis", (batch, classes, size[1])),
        ("not-enlarged", (batch, height, width)),
        ("height-and-width", (batch, *size[::-1])),
        ("one-picture-only", (1, *size)),
        ("one-picture-only", size),
        ("times-four", (batch, 4 * height, 4 * width)),
        ("factor-rounded", (batch, *(int(n * factor) for n, factor in zip((height, width), factors)))),
        *(("one-factor-for-both", (batch, int(height * factor), int(width * factor))) for factor in factors),
    ]
    for kind, shape in shapes:
        if found == shape:
            look.wrong(kind, seen)
    if len(found) == 3 and found[0] == batch:
        look.wrong("size-ignored", seen)
    look.shape(yours, target.shape, told)


def _class_values(
    look: Look, yours: torch.Tensor, logits: torch.Tensor, size: tuple[int, int], target: torch.Tensor, told: str
) -> None:
    def large(mode: str = "bilinear", x: torch.Tensor = logits, **options: Any) -> torch.Tensor:
        return F.interpolate(x, size=size, mode=mode, **options)

    candidates = [*_other_ways(large, logits, size), *_other_scores(large, logits)]
    candidates += [("numbers-from-one", target + 1), ("numbers-from-one", target - 1)]
    candidates.append(("type-too-small", target.to(torch.int8)))
    candidates.append(("second-best", large().topk(2, 1).indices[:, 1]))
    for kind, candidate in candidates:
        same = candidate.shape == yours.shape and close(yours.double(), candidate.double())
        if same and not torch.equal(candidate.double(), target.double()):
            look.wrong(kind, f"{told}: the map is the one that this mistake gives.")
    lost = target[yours != target].unique()
    if len(lost) == 1 and logits.shape[1] > 2:
        look.wrong("class-left-out", f"{told}: the map is right but for the pixels of class {int(lost)}.")
    pairs = torch.stack([target.double().flatten(), yours.double().flatten()]).unique(dim=1)
    if pairs.shape[1] == len(target.unique()) == len(yours.unique()) > 1:
        look.wrong("classes-renamed", f"{told}: each class has another number, the same one everywhere.")


Candidates = list[tuple[str, torch.Tensor]]


def _other_ways(large: Callable[..., torch.Tensor], logits: torch.Tensor, size: tuple[int, int]) -> Candidates:
    """The maps of other ways of enlarging the scores."""
    four = F.interpolate(logits, scale_factor=4, mode="bilinear")
    padded = F.pad(four, (0, max(0, size[1] - four.shape[3]), 0, max(0, size[0] - four.shape[2])))
    turned = F.interpolate(logits, size=size[::-1], mode="bilinear").argmax(1)
    flat = turned.reshape(len(logits), *size)
    halves = [(size[0], logits.shape[3]), (logits.shape[2], size[1])]
    found = [
        ("enlarged-by-copying", large("nearest")),
        ("enlarged-by-copying", large("nearest-exact")),
        ("enlarged-by-copying", large("area")),
        *(("enlarged-by-copying", large("nearest", F.interpolate(logits, half, mode="bilinear"))) for half in halves),
        ("corners-pinned", large(align_corners=True)),
        ("bicubic", large("bicubic")),
        ("bicubic", large("bicubic", align_corners=True)),
        ("enlarged-twice", large(x=four)),
        ("enlarged-twice", large("nearest", four)),
        ("cropped", padded[:, :, : size[0], : size[1]]),
    ]
    for n, m in zip(size, logits.shape[2:]):
        found.append(("one-factor-for-both", F.interpolate(logits, scale_factor=n / m, mode="bilinear")))
    chosen = [(kind, scores.argmax(1)) for kind, scores in found]
    return [*chosen, ("height-and-width", flat), ("height-and-width", turned.transpose(1, 2))]


def _other_scores(large: Callable[..., torch.Tensor], logits: torch.Tensor) -> Candidates:
    """The maps of other scores, and of decisions that came too early."""
    chosen = logits.argmax(1, keepdim=True).double()
    marks = (logits == logits.amax(1, keepdim=True)).double()
    changed: Candidates = [
        ("shares-first", logits.softmax(1)),
        ("shares-first", logits.sigmoid()),
        ("shares-first", logits.log_softmax(1)),
        ("marks-enlarged", marks),
        ("class-left-out", logits[:, 1:]),
        ("class-left-out", logits[:, :-1]),
        ("scores-rounded", logits.half().double()),
        ("scores-changed", logits.exp()),
        ("scores-changed", logits.relu()),
        ("scores-changed", logits.abs()),
        ("scores-changed", F.normalize(logits, dim=1)),
        ("scores-changed", logits - logits.mean((2, 3), keepdim=True)),
    ]
    return [
        ("chosen-before-enlarged", large("bilinear", chosen)[:, 0]),
        ("chosen-before-enlarged", large("bilinear", chosen)[:, 0].long().double()),
        ("chosen-before-enlarged", large("bilinear", chosen)[:, 0].round()),
        ("chosen-before-enlarged", large("bilinear", chosen.float())[:, 0].round()),
        ("chosen-before-enlarged", large("bilinear", chosen.float())[:, 0].long()),
        *((kind, large(x=scores).argmax(1)) for kind, scores in changed),
        ("scores-rounded", large().round().argmax(1)),
        ("scores-rounded", large().long().argmax(1)),
        ("smallest-chosen", large().argmin(1)),
        ("scores-not-classes", large().amax(1)),
        ("scores-not-classes", large().softmax(1).amax(1)),
    ]


# 6.5

HEAD_HINTS = {
    "pieces-in-the-other-order": "The fuse was made for the last map first. Which columns does the first map meet?",
    "pieces-interleaved": "The four maps stand behind each other, not mixed. Which columns belong to one map?",
    "columns-reversed": "The four pieces have changed places, and so have the columns within each. What should keep "
    "its order?",
    "reshaped-not-cut": "The numbers of the weight were dealt out anew. Which of its axes holds the four maps, and "
    "which one has to stay whole?",
    "cut-the-wrong-way": "A piece of the fuse has other columns than a map's projection has rows. Along which of its "
    "axes do the four maps stand?",
    "list-reversed": "The matrices are right, in the wrong places of the list. Whose matrix comes first?",
    "factors-exchanged": "Which of the two matrices does a pixel's vector meet first? On which side does it stand?",
    "transposed": "Rows are what comes out, columns what goes in. Which way round are yours?",
    "fuse-forgotten": "These are the projections alone. What happens to their results?",
    "projections-forgotten": "These are the pieces of the fuse alone. What does a map pass before it meets them?",
    "not-a-pair": "A list of four matrices and one bias are asked for. What does your function give back?",
    "not-four": "There is one matrix for each map. How many does your list hold?",
    "one-wide-matrix": "The matrices stand side by side in one. Can each map be multiplied by its own?",
    "still-a-kernel": "The matrices still have the two axes of a 1×1 window. Which axes should a matrix have?",
    "bias-forgotten": "What comes out for four maps of zeros?",
    "bias-of-the-fuse-only": "The projections' biases come through too. What does the fuse do with them?",
    "bias-of-the-projections-only": "The fuse may have a bias of its own. Where is it in your sum?",
    "bias-added-as-it-is": "Each projection's bias passes a piece of the fuse. Have they met it?",
    "bias-on-the-other-side": "Only the bias is not right. On which side of its piece does a projection's bias stand?",
    "bias-met-the-wrong-piece": "Only the bias is not right. Which piece does each projection's bias meet?",
    "bias-counted-otherwise": "Each constant belongs in the sum once. How often is each of them in yours?",
    "bias-a-list": "The four maps' constants are added up in the end. How many biases should come out?",
    "fails-without-bias": "A layer may have no bias at all. What stands there in its place?",
    "piece-width-written-down": "The fuse is cut at a number of columns that is not the projections' width. Where can "
    "the width of a piece be read?",
    "relu-applied": "Nothing negative is left. Does the ReLU belong to what is to be collapsed?",
    "bias-of-one-map": "One map's constant is there, and those of the others are not. How many come through the fuse?",
    "bias-left-out": "Three of the maps' constants are there, and one is missing. Whose?",
    "bias-with-more-axes": "The bias has more than one axis. Which shape does the first line of the stub give it?",
    "changes-the-layers": "After your function the layers hold other weights than before. Into what does it write?",
}
HEADS = (((5, 3, 7, 4), 6, True), ((4, 6, 2, 9), 5, False), ((3, 3, 3, 3), 3, True))
"""Widths of the maps, the common width, and whether the fuse has a bias."""


@exercise("collapse_head", HEAD_HINTS)
def collapse_head(look: Look, answer: Any) -> None:
    """Check `collapse_head(project, fuse)`: four 1×1 convolutions and one → four matrices and a bias."""
    look.exists(answer)
    for dims, width, bias in HEADS:
        torch.manual_seed(width)
        project = nn.ModuleList([nn.Conv2d(dim, width, 1) for dim in dims]).double()
        fuse = nn.Conv2d(4 * width, width, 1, bias=bias).double()
        _collapsed(look, answer, project, fuse)
        look.done(f"maps of {', '.join(map(str, dims))} channels{'' if bias else ', no bias in the fuse'}")


def _collapsed(look: Look, answer: Any, project: nn.ModuleList, fuse: nn.Conv2d) -> None:
    told = f"collapse_head(four projections, fuse {tuple(fuse.weight.shape)}, bias={fuse.bias is not None})"
    layers = [*project, fuse]
    before = [(value.detach().clone(), value.requires_grad) for layer in layers for value in layer.parameters()]
    made = look.attempt(answer, project, fuse)
    if isinstance(made, Failure):
        _head_failed(look, made, project, fuse, told)
        made = look.call(answer, project, fuse, told=told)
    if made is None or made is Ellipsis:
        look.nothing(answer, told)
    after = [value for layer in layers for value in layer.parameters()]
    if len(after) != len(before) or any(not torch.equal(a, b) for (a, _), b in zip(before, after)):
        look.wrong("changes-the-layers", "The weights of the layers are other ones after the call.")
    if any(asked != value.requires_grad for (_, asked), value in zip(before, after)):
        look.wrong("frozen", "A weight of the layers asked for a gradient before the call, and does not behind it.")
    if not isinstance(made, tuple | list) or len(made) != 2:
        look.wrong(
            "not-a-pair", f"{told} gave a {in_words(made) if isinstance(made, torch.Tensor) else type(made).__name__}."
        )
    matrices, bias = made
    _four(look, matrices, project, fuse, told)
    _constant(look, bias, project, fuse, told)


def _head_failed(look: Look, failure: Failure, project: nn.ModuleList, fuse: nn.Conv2d, told: str) -> None:
    """End where it is known what made it fail."""
    seen, widths = f"{told}: {failure}", "|".join(str(layer.in_channels) for layer in project)
    if fuse.bias is None and "None" in failure.words:
        look.wrong("fails-without-bias", seen)
    if f"x{4 * fuse.out_channels} and" in failure.words:
        look.wrong("cut-the-wrong-way", seen)
    if re.search(rf"\({fuse.out_channels}x\d+ and {fuse.out_channels}x({widths})\)", failure.words):
        look.wrong("piece-width-written-down", seen)
    if "cannot be multiplied" in failure.words or "size mismatch" in failure.words:
        look.wrong("factors-exchanged", seen)


def _parts(project: nn.ModuleList, fuse: nn.Conv2d) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """The projections' matrices, and for each the piece of the fuse that it meets: the last map has the first piece."""
    projections = [layer.weight.detach().flatten(1) for layer in project]  # type: ignore[operator]
    return projections, list(fuse.weight.detach().flatten(1).chunk(4, 1)[::-1])


def _four(look: Look, matrices: Any, project: nn.ModuleList, fuse: nn.Conv2d, told: str) -> None:
    projections, pieces = _parts(project, fuse)
    targets = [F_i @ P_i for F_i, P_i in zip(pieces, projections)]
    if isinstance(matrices, torch.Tensor) and tuple(matrices.shape) == tuple(torch.cat(targets, 1).shape):
        look.wrong("one-wide-matrix", f"One tensor {tuple(matrices.shape)} came out in place of four.")
    if isinstance(matrices, nn.ParameterList | torch.Tensor):
        matrices = list(matrices)
    if not isinstance(matrices, list | tuple) or not all(isinstance(M, torch.Tensor) for M in matrices):
        look.wrong("wrong-type", f"{told}: the first of the two results is a {type(matrices).__name__}.")
    if len(matrices) != 4:
        look.wrong("not-four", f"{told}: {len(matrices)} matrices came out.")
    found = [tuple(M.shape) for M in matrices]
    seen = f"{told}: the matrices have the shapes {', '.join(map(str, found))}; expected are "
    seen += f"{', '.join(str(tuple(M.shape)) for M in targets)}."
    if all(M.dim() == 4 and tuple(M.shape[2:]) == (1, 1) for M in matrices):
        look.wrong("still-a-kernel", seen)
    _which(look, [M.detach() for M in matrices], targets, projections, pieces, told)


def _which(
    look: Look,
    yours: list[torch.Tensor],
    targets: list[torch.Tensor],
    projections: list[torch.Tensor],
    pieces: list[torch.Tensor],
    told: str,
) -> None:
    """Whether they are the right ones, or those of a known mistake."""
    whole = torch.cat(pieces[::-1], 1)
    spread, turned = [whole[:, i::4] for i in range(4)], list(whole.flip(1).chunk(4, 1))
    anew = list(whole.reshape(4, len(whole), len(whole)))
    candidates: list[tuple[str, list[torch.Tensor]]] = [
        *(
            ("pieces-in-the-other-order", [F_i @ P_i for F_i, P_i in zip(order, projections)])
            for order in list(itertools.permutations(pieces))[1:]
        ),
        ("relu-applied", [M.relu() for M in targets]),
        ("pieces-interleaved", [F_i @ P_i for F_i, P_i in zip(spread, projections)]),
        ("pieces-interleaved", [F_i @ P_i for F_i, P_i in zip(spread[::-1], projections)]),
        ("columns-reversed", [F_i @ P_i for F_i, P_i in zip(turned, projections)]),
        ("reshaped-not-cut", [F_i @ P_i for F_i, P_i in zip(anew, projections)]),
        ("reshaped-not-cut", [F_i @ P_i for F_i, P_i in zip(anew[::-1], projections)]),
        ("list-reversed", targets[::-1]),
        ("transposed", [M.T for M in targets]),
        ("fuse-forgotten", projections),
        ("projections-forgotten", pieces),
        ("projections-forgotten", pieces[::-1]),
        ("factors-exchanged", [F_i.T @ P_i for F_i, P_i in zip(pieces, projections)]),
        ("pieces-in-the-other-order", [F_i @ P_i for F_i, P_i in zip(pieces[::-1], projections)][::-1]),
    ]
    if len(set(map(tuple, (P.shape for P in projections)))) == 1:
        candidates.append(("factors-exchanged", [P_i @ F_i for F_i, P_i in zip(pieces, projections)]))
    for kind, candidate in candidates:
        if all(M.shape == C.shape and close(M, C) for M, C in zip(yours, candidate)):
            look.wrong(kind, f"{told}: the matrices are those that this mistake gives.")
    for index, (M, target) in enumerate(zip(yours, targets)):
        if M.dtype != torch.float64:
            look.wrong("wrong-dtype", f"The layers hold float64, the matrices {M.dtype}.")
        look.shape(M, target.shape, f"matrix {index + 1}")
        look.values(M, target, at=f"matrix {index + 1}")
        if not close(M, target, 1e-11):
            look.wrong("close-but-not-equal", f"The numbers of matrix {index + 1} differ behind the seventh digit.")


def _constant(look: Look, bias: Any, project: nn.ModuleList, fuse: nn.Conv2d, told: str) -> None:
    _, pieces = _parts(project, fuse)
    constants = [layer.bias.detach() for layer in project]  # type: ignore[operator]
    own = torch.zeros(fuse.out_channels, dtype=torch.float64) if fuse.bias is None else fuse.bias.detach()
    through = [F_i @ p for F_i, p in zip(pieces, constants)]
    target = torch.stack(through).sum(0) + own
    if bias is None:
        look.wrong("bias-forgotten", f"{told}: the second result is None.")
    if isinstance(bias, list | tuple):
        look.wrong("bias-a-list", f"{told}: {len(bias)} biases came out.")
    if not isinstance(bias, torch.Tensor):
        zero = isinstance(bias, int | float) and bias == 0
        look.wrong("bias-forgotten" if zero else "wrong-type", f"{told}: the bias is a {type(bias).__name__}.")
    if bias.numel() == target.numel() and bias.dim() != 1:
        look.wrong("bias-with-more-axes", f"{told}: the bias has the shape {tuple(bias.shape)}.")
    bias = bias.detach()
    look.shape(bias, target.shape, "for the bias", {"bias-a-list": (4, *target.shape)})
    _which_constant(look, bias, constants, pieces, own, told)
    if bias.dtype != torch.float64:
        look.wrong("wrong-dtype", f"The layers hold float64, the bias {bias.dtype}.")


def _which_constant(
    look: Look,
    bias: torch.Tensor,
    constants: list[torch.Tensor],
    pieces: list[torch.Tensor],
    own: torch.Tensor,
    told: str,
) -> None:
    """Whether the bias is the right one, or that of a known mistake."""
    through = [F_i @ p for F_i, p in zip(pieces, constants)]
    target = torch.stack(through).sum(0) + own
    plain = torch.stack(constants).sum(0)
    wrong = {
        "bias-on-the-other-side": torch.stack([p @ F_i for F_i, p in zip(pieces, constants)]).sum(0) + own,
        "bias-of-the-projections-only": target - own,
        "bias-of-the-fuse-only": own,
        "bias-added-as-it-is": plain + own,
        "bias-met-the-wrong-piece": torch.stack([F_i @ p for F_i, p in zip(pieces[::-1], constants)]).sum(0) + own,
    }
    if not bool(bias.any()):
        look.wrong("bias-forgotten", f"{told}: the bias is zero.")
    if close(bias, plain):
        look.wrong("bias-added-as-it-is", f"{told}: the bias is the sum of the projections' biases.")
    for often, own_often in itertools.product((1, 0.25, 4), (1, 0.25, 4, 2, -1)):
        if not close(bias, target) and close(bias, often * (target - own) + own_often * own):
            look.wrong("bias-counted-otherwise", "The biases are the right ones, not each of them once.")
    relu = torch.stack([F_i @ p.relu() for F_i, p in zip(pieces, constants)]).sum(0) + own
    if any(close(bias, other) and not close(other, target) for other in (target.relu(), relu)):
        look.wrong("relu-applied", "The bias is the one that a ReLU makes of it.")
    if any(close(bias, one) or close(bias, one + own) for one in through):
        look.wrong("bias-of-one-map", "The bias is what one map's constant becomes.")
    if any(close(bias, target - one) for one in through):
        look.wrong("bias-left-out", "The bias is right but for what one map's constant becomes.")
    look.values(bias, target, wrong, "the bias")


# Warm-ups

_SMALL = torch.tensor([[0.0, 6], [12, 18]])[None, None]


def _larger(mode: str, to: tuple[int, int] = (4, 6), **options: Any) -> torch.Tensor:
    return F.interpolate(_SMALL, size=to, mode=mode, **options)


puzzle_of(
    "enlarge",
    title="Bilinear, from 2×2 to 4×6",
    target=lambda: _larger("bilinear"),
    wrong={
        "nearest": (lambda: _larger("nearest"), "Each place is a copy of one number. Which way mixes neighbours?"),
        "corners-pinned": (
            lambda: _larger("bilinear", align_corners=True),
            "The four corners alone keep their numbers. Where does a number belong: to a corner or to a middle?",
        ),
        "tiled": (
            lambda: _SMALL.repeat(1, 1, 2, 3),
            "The whole square is repeated. Where does the 0 belong: to four places, or to one corner?",
        ),
        "rows-copied": (
            lambda: F.interpolate(F.interpolate(_SMALL, size=(4, 2)), size=(4, 6), mode="bilinear"),
            "Along a row the numbers are mixed, from row to row they are copied. What lies between two rows?",
        ),
        "columns-copied": (
            lambda: F.interpolate(F.interpolate(_SMALL, size=(2, 6)), size=(4, 6), mode="bilinear"),
            "From row to row the numbers are mixed, along a row they are copied. What lies between two columns?",
        ),
        "continued-outside": (
            lambda: (torch.tensor([-3.0, 3, 9, 15])[:, None] + torch.tensor([-2.0, 0, 2, 4, 6, 8]))[None, None],
            "The slope goes on behind the last middles. Between which two numbers would such a place lie?",
        ),
        "equal-steps": (
            lambda: (torch.tensor([0.0, 4, 8, 12])[:, None] + torch.arange(6.0))[None, None],
            "The first number stands in the corner of its cell, and equal steps follow. Where is its middle?",
        ),
        "in-two-steps": (
            lambda: F.interpolate(_larger("bilinear", to=(4, 4)), size=(4, 6), mode="bilinear"),
            "What was mixed has been mixed again. How many enlargements are asked for?",
        ),
        "one-mean": (lambda: _SMALL.mean().expand(1, 1, 4, 6), "All numbers are the mean. Where did the slope go?"),
        "turned-over": (
            lambda: F.interpolate(_SMALL.mT, size=(4, 6), mode="bilinear"),
            "The 6 and the 12 have changed places. Which of them stands in the first row?",
        ),
        "in-one-corner": (
            lambda: F.pad(_SMALL, (0, 4, 0, 2)),
            "The four numbers stand together, among zeros. Which places belong to the cell of the 6?",
        ),
        "bicubic": (lambda: _larger("bicubic"), "Some numbers are below 0 or above 18. Can a mixture of two be that?"),
        "height-and-width": (
            lambda: F.interpolate(_SMALL, size=(6, 4), mode="bilinear"),
            "There are six rows. Which of the two numbers of a size comes first?",
        ),
    },
)

_SCORES = torch.tensor(
    [[[5.0, 1, 2], [0, 3, 3]], [[4, 2, 9], [1, 2, 8]], [[0, 7, 1], [6, 4, 0]], [[1, 3, 2], [5, 9, 7]]]
)[None]

puzzle_of(
    "classes",
    title="From scores to classes",
    target=lambda: _SCORES.argmax(1),
    wrong={
        "scores-not-classes": (
            lambda: _SCORES.amax(1),
            "These are the largest scores. What says which class has it?",
        ),
        "among-the-rows": (
            lambda: _SCORES.argmax(2),
            "There is a number for each class. Along which axis was compared?",
        ),
        "among-the-columns": (
            lambda: _SCORES.argmax(3),
            "Pixels of one row were compared. With what does a score compete?",
        ),
        "reshaped": (
            lambda: _SCORES.reshape(1, 2, 3, 4).argmax(-1),
            "The scores were reshaped, and not reordered. Which four numbers belong to one pixel?",
        ),
        "among-the-pictures": (
            lambda: _SCORES.argmax(0),
            "Among one picture, picture 0 always wins. Which axis is that?",
        ),
        "axis-kept": (
            lambda: _SCORES.argmax(1, keepdim=True),
            "The classes' axis is still there, with length one. Does a map of classes need it?",
        ),
        "smallest-chosen": (lambda: _SCORES.argmin(1), "The class with the lowest score won. Which one should?"),
        "numbers-from-one": (lambda: _SCORES.argmax(1) + 1, "All are one too large. What is the first class called?"),
        "second-best": (
            lambda: _SCORES.topk(2, 1).indices[:, 1],
            "The class with the second largest score came out. Which one comes before it?",
        ),
        "ranked": (
            lambda: _SCORES.argsort(1),
            "All classes came out, in the order of their scores. Which of the four is asked for?",
        ),
        "marks": (
            lambda: F.one_hot(_SCORES.argmax(1), 4).movedim(-1, 1),
            "Each class has a map of zeros and ones. Which one number says the same?",
        ),
        "shares": (lambda: _SCORES.softmax(1), "Shares came out, not decisions. Which class has the largest one?"),
    },
)
