"""Chapter 7: the loss, the metric, and what is around them in a training."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn
from weakref import WeakSet

import torch
import torch.nn.functional as F
from torch import nn

from segformer_edu.checks.core import Failure, Look, call_in_words, close, exercise, is_untouched, random
from segformer_edu.checks.numbers import plain, predictions, puzzle_of, which
from segformer_edu.data.labels import VOID

# 7.1

LOSS_HINTS = {
    "not-enlarged": "The logits have a quarter of the class map's sides. Where does each of them get its label?",
    "scale-factor": "With 11 rows the logits have 3, and 4 times 3 is not 11. Enlarge by a factor, or to a size?",
    "masks-shrunk": "The classes were brought to the size of the logits. What does a pole of one pixel become, and "
    "which of the two sizes should be kept?",
    "masks-averaged": "Class numbers were mixed with their neighbours. What would the mean of classes 3 and 7 be?",
    "masks-not-whole": "Cross-entropy was given something other than class numbers. Which type has a class number?",
    "nearest-logits": "Each logit was copied, or smoothed in another way. Which way of enlarging does the chapter use?",
    "corners-aligned": "The outermost logits were laid on the outermost pixels. Where is the middle of a 4×4 cell?",
    "softmax-twice": "What does PyTorch's cross-entropy do with the logits before it takes a logarithm? Is it done "
    "twice now?",
    "softmax-before-enlarging": "Shares were enlarged, and not logits. In which order does the chapter do it?",
    "sigmoid": "Each class was judged for itself. Here the classes exclude each other: which function makes shares "
    "that add up to one?",
    "wrong-axis": "Numbers that do not belong together were made into shares. Along which axis do the classes lie?",
    "axes-not-moved": "The numbers were put into rows in the order in which they lie in memory. Which axis runs "
    "fastest there: classes or columns?",
    "channels-last": "The classes stand in the last axis. Where does PyTorch's cross-entropy look for them?",
    "no-logarithm": "A small share of the true class should cost much, and its cost has no end. Which function "
    "does that?",
    "other-logarithm": "Everything is off by one constant factor, that of another logarithm. Which base is meant?",
    "labels-smoothed": "A part of each label was given to the other classes. Was that asked for?",
    "other-loss": "This is a loss, and another one than asked for. What is minus the logarithm taken of?",
    "classes-weighted": "The classes have equal shares in the mean, or shares of their own. Which mean is asked for?",
    "class-ignored": "Pixels of one class do not count. Which number marks a pixel without a class, and is it also a "
    "class?",
    "labels-shifted": "Every class is one lower than it was. Where is 0 no class?",
    "not-averaged": "There should be a single number for the whole batch. Over which axes is the mean taken?",
    "summed": "The losses were added up. With a larger picture the number grows: should it?",
    "mean-of-means": "Each picture has the same say, however few of its pixels have a class. What should have the "
    "same say?",
    "void-is-a-class": "A pixel without a class was taken for one of class 255. Which argument names the number that "
    "does not count?",
    "void-as-class": "Void pixels are counted as pixels of a class. Which one, and who wrote it there?",
    "void-in-the-mean": "The loss falls when more pixels are void. By how many is the sum divided?",
    "nan-when-all-void": "A batch without a single class gave NaN, and one step with it ruins every weight. What is "
    "divided by what?",
    "nan-gradient": "For a batch without a class the loss is finite and its gradient is not. What is computed before "
    "the part that saves the loss?",
    "all-void-not-zero": "No pixel has a class. How large should the loss be then, if nothing can be learned?",
    "logarithm-of-zero": "A model may be very sure. A share of the true class rounds to zero: what is its logarithm, "
    "and which function takes both steps at once?",
    "not-imported": "A library that the chapter does not use has no name in it. Which function that the chapter uses "
    "does the same?",
    "fails-on-two-classes": "With another number of classes it fails. Which number is written down?",
}
CLASSES = 5
REMARK_NO_GRAPH = (
    "For a batch without a class your loss has no graph, so `backward()` would stop the training. A zero that comes "
    "from the logits can be followed back."
)


@exercise("segmentation_loss", LOSS_HINTS)
def segmentation_loss(look: Look, answer: Any) -> None:
    """Check ``segmentation_loss(logits, masks)``, a function: (B, C, h, w) and (B, H, W) → a number to minimise."""
    look.exists(answer)
    first, second = (_pictures(seed, 12, 16) for seed in (1, 2))
    values = [_loss(look, answer, *pair) for pair in (first, second)]
    look.done("a single number, float64")
    look.side_effects(answer, *first)
    look.done("no side effects")
    _compare_losses(look, values, [first, second])
    look.done("value where every pixel has a class")
    odd = [_pictures(seed, 11, 13) for seed in (3, 4)]
    _compare_losses(look, [_loss(look, answer, *pair) for pair in odd], odd)
    look.done("11×13 pixels")
    void = [_with_void(*pair, seed) for seed, pair in enumerate([first, second])]
    _compare_losses(look, [_loss(look, answer, *pair) for pair in void], void, void=True)
    look.side_effects(answer, *void[0])
    look.done("void left out")
    two = _pictures(5, 12, 16, classes=2)
    for words, part in {
        "logits of any size": lambda: _sure(look, answer, 3000 * first[0], first[1]),
        "two classes": lambda: _compare_losses(look, [_loss(look, answer, *two, fails="fails-on-two-classes")], [two]),
        "gradient": lambda: _loss_gradient(look, answer, *void[0]),
        "a batch without a class": lambda: _all_void(look, answer, *first),
    }.items():
        part()
        look.done(words)


def _pictures(seed: int, height: int, width: int, classes: int = CLASSES) -> tuple[torch.Tensor, torch.Tensor]:
    """Return logits at a quarter of the size and class maps; common classes and rare ones."""
    drawn = torch.rand(2, height, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    masks = (drawn**2 * classes).long()
    return 2 * random(2, classes, -(-height // 4), -(-width // 4), seed=seed), masks


def _with_void(logits: torch.Tensor, masks: torch.Tensor, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Make some pixels void, many more in the first picture than in the second."""
    drawn = torch.rand(masks.shape, generator=torch.Generator().manual_seed(seed))
    return logits, masks.masked_fill(drawn < torch.tensor([0.7, 0.2])[:, None, None], VOID)


def _reference(logits: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    full = F.interpolate(logits, size=masks.shape[-2:], mode="bilinear")
    summed = F.cross_entropy(full, masks, ignore_index=VOID, reduction="sum")
    return summed / (masks != VOID).sum().clamp(min=1)


def _loss(look: Look, answer: Any, logits: torch.Tensor, masks: torch.Tensor, fails: str = "") -> torch.Tensor:
    """Return the reader's loss, a tensor of one number; say why it could not be computed."""
    made = look.attempt(answer, logits.clone(), masks.clone())
    if isinstance(made, Failure):
        _loss_failed(look, made, logits, masks, fails)
        look.call(answer, logits, masks, told=call_in_words(answer, (logits, masks), {}))
    value = look.output(answer, logits.clone(), masks.clone())
    if value.dim() or value.numel() != 1:
        if value.numel() == 1:
            return value.reshape(())
        look.wrong("not-averaged", f"The result has the shape {tuple(value.shape)}; a single number is expected.")
    return value


def _loss_failed(look: Look, failure: Failure, logits: torch.Tensor, masks: torch.Tensor, fails: str) -> None:
    """Recognise an exception by its words."""
    if failure.name == "NameError" and (name := re.match(r"name '(nn|np|math|rearrange|reduce)'", failure.words)):
        look.could_not_run("not-imported", f"{failure} Perhaps no cell of this chapter imports `{name[1]}`.")
    seen = f"With logits {tuple(logits.shape)} and class maps {tuple(masks.shape)}: {failure}"
    words = failure.words
    if fails and not re.search("out of bounds", words):
        look.wrong(fails, seen)
    if bool((masks == VOID).any()) and re.search(r"out of (bounds|range)|smaller than num_classes", words):
        look.wrong("void-is-a-class", seen)
    _other_sizes(look, words, logits, masks, seen)
    if re.search(r"expected (scalar type|target dtype)|not implemented for|int64|must be.* Long|floating", words):
        look.wrong("masks-not-whole", seen)


def _other_sizes(look: Look, words: str, logits: torch.Tensor, masks: torch.Tensor, seen: str) -> None:
    """Recognise an exception by the sizes in its words."""
    classes, rows, columns = logits.shape[1:]
    height, width = masks.shape[1:]
    sizes = [tuple(map(int, found.split(","))) for found in re.findall(r"\[([\d, ]+)\]", words)]
    sizes += [(int(a), int(b)) for a, b in re.findall(r"\((\d+)\) must match the size of tensor b \((\d+)\)", words)]
    if any(size[-1:] == (classes,) and len(size) == 4 for size in sizes) or "Expected target size" in words:
        look.wrong("channels-last", seen)
    if any(size[-2:] == (rows, columns) or 2 * rows * columns in size for size in sizes):
        look.wrong("not-enlarged", seen)
    if (height, width) != (4 * rows, 4 * columns) and any(
        size[-2:] == (4 * rows, 4 * columns) or 32 * rows * columns in size for size in sizes
    ):
        look.wrong("scale-factor", seen)
    if any(size[-2:] == (width, height) for size in sizes):
        look.wrong("axes-exchanged", seen)
    if re.search(rf"tensor a \({classes}\) must match .* \(\d+\) at non-singleton dimension 1$", words):
        look.wrong("fails-on-two-classes", seen)
    if found := re.search(r"batch_size \((\d+)\) to match target batch_size \((\d+)\)", words):
        small = int(found[1]) in (2 * rows * columns, 2 * classes * rows * columns)
        look.wrong("not-enlarged" if small else "scale-factor", seen)


Pair = tuple[torch.Tensor, torch.Tensor]


def _shrunk(how: Callable[[torch.Tensor, tuple[int, ...]], torch.Tensor]) -> Callable[..., Pair]:
    """Leave the logits as they are, and bring the class maps to their size."""

    def shrink(logits: torch.Tensor, masks: torch.Tensor) -> Pair:
        return logits, how(masks[:, None].double(), tuple(logits.shape[-2:]))[:, 0].long()

    return shrink


def _resized(**options: Any) -> Callable[..., torch.Tensor]:
    return lambda tensor, size: F.interpolate(tensor, size=size, **options)


def _enlarge(**options: Any) -> Callable[..., Pair]:
    return lambda logits, masks: (_resized(**options)(logits, masks.shape[-2:]), masks)


def _by_four(logits: torch.Tensor, masks: torch.Tensor) -> Pair:
    """Enlarge by a factor, and cut off what is too much."""
    full = F.interpolate(logits, scale_factor=4, mode="bilinear")
    return full[..., : masks.shape[-2], : masks.shape[-1]], masks


def _with_zeros(logits: torch.Tensor, masks: torch.Tensor) -> Pair:
    below, beside = masks.shape[-2] - logits.shape[-2], masks.shape[-1] - logits.shape[-1]
    return F.pad(logits, (0, beside, 0, below)), masks


def _every(step: int, start: int) -> Callable[..., torch.Tensor]:
    return lambda tensor, size: tensor[:, :, start::step, start::step][:, :, : size[0], : size[1]]


AVERAGES: tuple[dict[str, Any], ...] = (
    {"mode": "bilinear"},
    {"mode": "bilinear", "antialias": True},
    {"mode": "bilinear", "align_corners": True},
    {"mode": "area"},
)
SIZED: list[tuple[str, Callable[..., Pair]]] = [
    ("", _enlarge(mode="bilinear")),
    ("corners-aligned", _enlarge(mode="bilinear", align_corners=True)),
    *(("nearest-logits", _enlarge(mode=mode)) for mode in ("nearest", "nearest-exact", "bicubic", "area")),
    ("nearest-logits", _enlarge(mode="bicubic", align_corners=True)),
    ("scale-factor", _by_four),
    ("not-enlarged", _with_zeros),
    *(("masks-shrunk", _shrunk(_resized(mode=mode))) for mode in ("nearest", "nearest-exact")),
    *(("masks-shrunk", _shrunk(_every(4, start))) for start in (0, 1, 2, 3)),
    ("masks-shrunk", _shrunk(F.adaptive_max_pool2d)),
    *(("masks-averaged", _shrunk(_resized(**options))) for options in AVERAGES),
    *(
        ("masks-averaged", _shrunk(lambda tensor, size, o=options: _resized(**o)(tensor, size).round()))  # type: ignore[misc]
        for options in AVERAGES
    ),
]
"""How logits and class maps are brought to one size."""
SQUASHED: list[tuple[str, Callable[[torch.Tensor], torch.Tensor]]] = [
    ("", lambda logits: logits),
    ("softmax-twice", lambda logits: logits.softmax(1)),
    ("softmax-twice", lambda logits: logits.softmax(1).softmax(1)),
    ("sigmoid", torch.sigmoid),
    ("other-loss", torch.relu),
    ("sign-reversed", torch.neg),
    *(("wrong-axis", lambda logits, a=axis: logits.softmax(a)) for axis in (0, 2, 3)),
    *(("wrong-axis", lambda logits, a=axis: logits.log_softmax(a)) for axis in (0, 2, 3)),
    (
        "axes-not-moved",
        lambda logits: logits.reshape(len(logits), -1, logits.shape[1]).transpose(1, 2).reshape(logits.shape),
    ),
]
"""What may happen to the logits on their way."""


def _chosen(logs: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    return logs.gather(1, masks[:, None])[:, 0]


def _logs(logits: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    return _chosen(logits.log_softmax(1), masks)


def _onehot(logits: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    return F.one_hot(masks, logits.shape[1]).movedim(-1, 1).double()


def _focal(logits: torch.Tensor, masks: torch.Tensor, gamma: float) -> torch.Tensor:
    return -_logs(logits, masks) * (1 - _logs(logits, masks).exp()) ** gamma


def _smoothed(logits: torch.Tensor, masks: torch.Tensor, share: float) -> torch.Tensor:
    return (share - 1) * _logs(logits, masks) - share * logits.log_softmax(1).mean(1)


PIXELS: list[tuple[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]]] = [
    ("", lambda x, y: -_logs(x, y)),
    ("sign-reversed", _logs),
    ("no-logarithm", lambda x, y: -_logs(x, y).exp()),
    ("no-logarithm", lambda x, y: 1 - _logs(x, y).exp()),
    ("no-logarithm", lambda x, y: -_chosen(x, y)),
    ("other-logarithm", lambda x, y: -_logs(x, y) / math.log(2)),
    ("other-logarithm", lambda x, y: -_logs(x, y) / math.log(10)),
    ("sigmoid", lambda x, y: F.binary_cross_entropy_with_logits(x, _onehot(x, y), reduction="none").mean(1)),
    ("sigmoid", lambda x, y: F.binary_cross_entropy_with_logits(x, _onehot(x, y), reduction="none").sum(1)),
    ("sigmoid", lambda x, y: -_chosen(F.logsigmoid(x), y)),
    ("sigmoid", lambda x, y: F.binary_cross_entropy(x.softmax(1), _onehot(x, y), reduction="none").mean(1)),
    ("sigmoid", lambda x, y: F.binary_cross_entropy(x.softmax(1), _onehot(x, y), reduction="none").sum(1)),
    ("other-loss", lambda x, y: ((x.softmax(1) - _onehot(x, y)) ** 2).mean(1)),
    ("other-loss", lambda x, y: ((x.softmax(1) - _onehot(x, y)) ** 2).sum(1)),
    ("other-loss", lambda x, y: (x.softmax(1) - _onehot(x, y)).abs().mean(1)),
    ("other-loss", lambda x, y: ((x - _onehot(x, y)) ** 2).mean(1)),
    ("other-loss", lambda x, y: ((x.argmax(1) - y) ** 2).double()),
    ("other-loss", lambda x, y: (x.argmax(1) != y).double()),
    ("other-loss", lambda x, y: -(x.softmax(1) * x.log_softmax(1)).sum(1)),
    *(("other-loss", lambda x, y, g=gamma: _focal(x, y, g)) for gamma in (1, 2, 3)),
    *(("labels-smoothed", lambda x, y, s=share: _smoothed(x, y, s)) for share in (0.05, 0.1, 0.2)),
    ("not-averaged", lambda x, y: -(x.log_softmax(1) * _onehot(x, y)).mean(1)),  # the other classes' zeros count too
]
"""The loss of each pixel."""


def _each_class(losses: torch.Tensor, masks: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
    return torch.stack([losses[(masks == label) & kept].mean() for label in masks[kept].unique()])


def _each_picture(losses: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
    return (losses * kept).sum((1, 2)) / kept.sum((1, 2))


REDUCED: list[tuple[str, Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]]] = [
    ("", lambda losses, masks, kept: (losses * kept).sum() / kept.sum()),
    ("void-as-class", lambda losses, masks, kept: losses.mean()),
    ("void-as-class", lambda losses, masks, kept: losses.sum() / kept.sum()),
    ("void-in-the-mean", lambda losses, masks, kept: (losses * kept).mean()),
    ("summed", lambda losses, masks, kept: (losses * kept).sum()),
    ("summed", lambda losses, masks, kept: (losses * kept).sum() / len(losses)),
    ("summed", lambda losses, masks, kept: losses.sum()),
    ("mean-of-means", lambda losses, masks, kept: _each_picture(losses, kept).mean()),
    ("mean-of-means", lambda losses, masks, kept: _each_picture(losses, kept).sum()),
    ("mean-of-means", lambda losses, masks, kept: _each_picture(losses, kept)[0]),
    ("mean-of-means", lambda losses, masks, kept: _each_picture(losses, kept)[-1]),
    ("classes-weighted", lambda losses, masks, kept: _each_class(losses, masks, kept).mean()),
    ("classes-weighted", lambda losses, masks, kept: _each_class(losses, masks, kept).sum()),
    *(
        ("class-ignored", lambda losses, masks, kept, n=label: losses[kept & (masks != n)].mean())
        for label in range(CLASSES)
    ),
    ("class-ignored", lambda losses, masks, kept: (losses * (kept & (masks != 0))).sum() / kept.sum()),
    ("class-ignored", lambda losses, masks, kept: (losses * kept).sum() / (kept & (masks != 0)).sum()),
    ("class-ignored", lambda losses, masks, kept: losses[masks != 0].mean()),
    ("class-ignored", lambda losses, masks, kept: (losses * (masks != 0)).mean()),
]
"""What becomes of the losses of the pixels; ``kept`` marks those that have a class."""
Recipe = tuple[int, int, int, int]


def _recipes(lists: Sequence[Sequence[Any]], most: int) -> Iterator[tuple[list[str], Recipe]]:
    """Yield the combinations of one mistake, then of two, up to ``most``: the kinds, and which of each list."""
    for count in range(1, most + 1):
        for places in itertools.combinations(range(4), count):
            for indices in itertools.product(*(range(1, len(lists[place])) for place in places)):
                recipe = [0, 0, 0, 0]
                for place, index in zip(places, indices):
                    recipe[place] = index
                yield [lists[place][index][0] for place, index in zip(places, indices)], tuple(recipe)  # type: ignore[misc]


def _made_by(recipe: Recipe, logits: torch.Tensor, masks: torch.Tensor, replaced: int) -> float:
    """Return the loss that some mistakes give; void pixels are given the class ``replaced`` first."""
    void = masks == VOID
    full, labels = SIZED[recipe[0]][1](logits, masks.masked_fill(void, replaced))
    if labels.shape[-2:] != full.shape[-2:]:
        return math.nan
    if labels.shape != void.shape:
        void = F.interpolate(void[:, None].double(), size=labels.shape[-2:], mode="nearest")[:, 0] > 0
    losses = PIXELS[recipe[2]][1](SQUASHED[recipe[1]][1](full), labels)
    return float(REDUCED[recipe[3]][1](losses, labels, ~void))


def _compare_losses(look: Look, values: Sequence[torch.Tensor], pairs: Sequence[Pair], void: bool = False) -> None:
    """End where the losses of some batches are not right; say which known mistakes give all of them."""
    targets = [_reference(*pair) for pair in pairs]
    if all(close(value, target) for value, target in zip(values, targets)):
        return
    yours = [float(value) for value in values]
    seen = "; ".join(f"{value:.6g}, and {float(target):.6g} is expected" for value, target in zip(yours, targets))
    seen = f"{'With void pixels t' if void else 'T'}he loss is {seen}."
    if not all(map(math.isfinite, yours)):
        look.wrong("not-a-number", seen)
    if any(not bool(value) for value in yours):
        look.wrong("all-zero", seen)
    for kind in _kinds_of_losses(yours, pairs):
        look.wrong(kind, f"{seen} The numbers are those that this mistake gives.")
    _unknown_loss(look, yours, targets, seen)


def _kinds_of_losses(yours: Sequence[float], pairs: Sequence[Pair]) -> list[str]:
    """Return the kinds of mistakes, the fewest together, that give these losses of these batches."""
    for kind, made in _whole_losses():
        if all(_equal(value, float(made(*pair))) for value, pair in zip(yours, pairs)):
            return [kind]
    with_void = any(bool((masks == VOID).any()) for _, masks in pairs)
    for kinds, recipe in _recipes((SIZED, SQUASHED, PIXELS, REDUCED), most=2):
        for replaced in (0, CLASSES - 1)[: 1 + with_void]:
            if all(_equal(value, _made_by(recipe, *pair, replaced)) for value, pair in zip(yours, pairs)):
                return kinds
    return []


def _equal(value: float, made: float) -> bool:
    return math.isfinite(made) and math.isclose(value, made, rel_tol=1e-6, abs_tol=1e-12)


def _whole_losses() -> Iterator[tuple[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]]]:
    """Mistakes that are no combination: each makes the loss of a batch."""

    def log_of_enlarged_shares(logits: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
        shares = F.interpolate(logits.softmax(1), size=masks.shape[-2:], mode="bilinear")
        return F.nll_loss(shares.log(), masks, ignore_index=VOID)

    def log_softmax_enlarged(logits: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
        logs = F.interpolate(logits.log_softmax(1), size=masks.shape[-2:], mode="bilinear")
        return F.nll_loss(logs, masks, ignore_index=VOID)

    def softmax_then_enlarged(logits: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
        return _reference(logits.softmax(1), masks)

    def shifted(logits: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
        return _reference(logits, torch.where((masks == 0) | (masks == VOID), VOID, masks - 1))

    def dice(logits: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
        shares = F.interpolate(logits, size=masks.shape[-2:], mode="bilinear").softmax(1)
        kept = masks != VOID
        truth = F.one_hot(masks.where(kept, 0), logits.shape[1]).movedim(-1, 1) * kept[:, None]
        shares = shares * kept[:, None]
        return 1 - (2 * (shares * truth).sum((0, 2, 3)) / (shares + truth).sum((0, 2, 3))).mean()

    yield "softmax-before-enlarging", log_of_enlarged_shares
    yield "softmax-before-enlarging", log_softmax_enlarged
    yield "softmax-twice", softmax_then_enlarged
    yield "labels-shifted", shifted
    yield "other-loss", dice


def _unknown_loss(look: Look, yours: Sequence[float], targets: Sequence[torch.Tensor], seen: str) -> NoReturn:
    """No known mistake: say how the numbers relate to the target's."""
    ratios = [value / float(target) for value, target in zip(yours, targets)]
    shifts = [value - float(target) for value, target in zip(yours, targets)]
    if all(abs(ratio - 1) < 1e-3 for ratio in ratios):
        look.wrong("close-but-not-equal", seen)
    if len(ratios) > 1 and all(_equal(ratio, ratios[0]) for ratio in ratios):
        look.wrong("scaled-by-constant", seen)
    if len(shifts) > 1 and all(_equal(shift, shifts[0]) for shift in shifts):
        look.wrong("shifted-by-constant", seen)
    look.wrong("unknown", seen)


def _sure(look: Look, answer: Any, logits: torch.Tensor, masks: torch.Tensor) -> None:
    """Very large logits: shares of exactly zero, whose logarithm nobody may take."""
    value, target = _loss(look, answer, logits, masks), _reference(logits, masks)
    if not close(value, target):
        seen = f"With logits of several thousands the loss is {float(value):.5g}; {float(target):.5g} is expected."
        look.wrong("logarithm-of-zero", seen)


def _loss_gradient(look: Look, answer: Any, logits: torch.Tensor, masks: torch.Tensor) -> None:
    x, y = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    value = look.output(answer, x, masks.clone())
    if not value.requires_grad:
        look.wrong("no-gradient", "The result has no graph: `backward()` could not go back from it.")
    (yours,) = torch.autograd.grad(value.sum(), [x], allow_unused=True)
    (target,) = torch.autograd.grad(_reference(y, masks), [y])
    if yours is None:
        look.wrong("no-gradient", "No gradient reaches the logits.")
    if not close(yours, target):
        look.wrong("wrong-gradient", "The gradient of the logits is another one than that of the cross-entropy.")


def _all_void(look: Look, answer: Any, logits: torch.Tensor, masks: torch.Tensor) -> None:
    x, void = logits.clone().requires_grad_(), torch.full_like(masks, VOID)
    value = look.attempt(answer, x, void)
    if isinstance(value, Failure):
        look.wrong("nan-when-all-void", f"With a batch that is void everywhere: {value}")
    if isinstance(value, int | float):
        value = torch.tensor(float(value), dtype=torch.float64)
    if not isinstance(value, torch.Tensor):
        look.wrong("wrong-type", f"With a batch that is void everywhere the result is a {type(value).__name__}.")
    if not bool(value.isfinite().all()):
        look.wrong("nan-when-all-void", f"With a batch that is void everywhere the loss is {float(value.sum())}.")
    if bool(value.any()):
        look.wrong("all-void-not-zero", f"With a batch that is void everywhere the loss is {float(value.sum()):.4g}.")
    if not value.requires_grad:
        look.remark(REMARK_NO_GRAPH)
        return
    (gradient,) = torch.autograd.grad(value.sum(), [x], allow_unused=True)
    if gradient is not None and not bool(gradient.isfinite().all()):
        look.wrong("nan-gradient", "With a batch that is void everywhere the gradient of the logits is NaN.")


# 7.2

IOU_HINTS = {
    "averaged-over-batches": "The number depends on how the pictures are put into batches. What should be summed "
    "first, and what divided last?",
    "summed-before-dividing": "All classes share one fraction, and common ones have most of it. What does each class "
    "have of its own?",
    "averaged-over-pictures": "Each picture has an mIoU of its own here. Does a class that is in one picture alone "
    "weigh what it should?",
    "first-picture-only": "Only one picture of each batch has a say. Which axis counts the pictures?",
    "claimed-in-another-batch": "A class is claimed in a batch whose truth lacks it. Do these pixels reach its union?",
    "claimed-at-void": "A class is claimed where the truth is void, and nowhere else. Is it a class with nothing below "
    "the line?",
    "classes-fixed": "With many more classes it fails. Which number is written down?",
    "pairs-mixed-up": "Different pairs of classes got the same number. How far apart must two classes of the truth be?",
    "one-batch-only": "Only one of the batches has a say. What is kept from one batch to the next?",
    "overlap-counted-twice": "Truth and claim were added up. Which pixels were counted twice by that?",
    "only-the-truth": "Divided by the pixels of the truth alone. What about those that were claimed wrongly?",
    "only-the-claim": "Divided by the pixels that were claimed. What about those that were missed?",
    "dice": "The overlap counts double here, above and below the line. That is another measure: which one is asked?",
    "larger-of-the-two": "Divided by the larger, or the smaller, of truth and claim. What is in a union of two sets?",
    "absent-is-zero": "A class that is nowhere got a 0, or was divided by. Does the model deserve it? What is 0 / 0 "
    "here?",
    "absent-is-one": "A class that is nowhere got a 1. Has the model found it? What is 0 / 0 here?",
    "absent-spreads": "A class that is nowhere gives NaN, and so does the mean. Which classes should the mean take?",
    "claimed-class-skipped": "A class is not in the truth, but was claimed. Is it absent? What is its union?",
    "missed-class-skipped": "A class is in the truth and was never claimed. Is it absent? What is its IoU?",
    "void-counted": "Pixels without a class have a say. At which of the two tensors must they be recognised, and "
    "left out of which sums?",
    "void-as-class": "Pixels without a class were taken for pixels of some class. Which one?",
    "minlength": "The table's size depends on which classes are there. Who tells the counter how many there could be?",
    "accuracy": "This is the share of pixels that are right. Where does each class get the same say?",
    "weighted-by-size": "Common classes weigh more. Over what should the plain mean be taken?",
    "first-class-skipped": "Class 0 has no say. Is it void here, or a class like any other?",
    "last-class-skipped": "The last class has no say. How far do your classes go?",
    "smoothed": "A constant was added to the sums. It moves the result: what was it meant to prevent?",
    "not-averaged": "One number for each class came out. What makes one number of them?",
    "in-per-cent": "The digits are right. Is the number asked for a share, or per cent?",
    "one-class-only": "The number is that of one class alone. What has every class the same say in?",
    "summed": "The IoU of the classes were added up. By what is a mean divided?",
}
K = 5
Batches = list[tuple[torch.Tensor, torch.Tensor]]


def _batch(seed: int, pictures: int, labels: Sequence[int] = range(K), void: float = 0.0, rate: float = 0.5) -> Pair:
    """Return a prediction that is right now and then, and its truth, (pictures, 6, 7)."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.tensor(list(labels))[(torch.rand(2, pictures, 6, 7, generator=generator) ** 1.5 * len(labels)).long()]
    prediction, target = drawn
    right = torch.rand(target.shape, generator=generator) < rate
    prediction = torch.where(right, target, prediction)
    return prediction, target.masked_fill(torch.rand(target.shape, generator=generator) < void, VOID)


def _absent_cases() -> Batches:
    prediction, target = _batch(6, 3)
    target = target.where((target != 1) & (target != 4), 0)  # classes 1 and 4 are claimed and not there
    prediction = prediction.where(prediction != 2, 3)  # class 2 is there and never claimed
    return [(prediction, target)]


IOU_CASES: dict[str, Callable[[], Batches]] = {
    "one batch": lambda: [_batch(1, 2)],
    "three batches of 1, 3 and 2 pictures": lambda: [
        _batch(2, 1, rate=0.9),
        _batch(3, 3, rate=0.2),
        _batch(4, 2, rate=0.6),
    ],
    "a class that is nowhere": lambda: [_batch(5, 2, (0, 1, 2, 3))],
    "classes that are only claimed, or only there": _absent_cases,
    "void pixels": lambda: [_batch(7, 2, void=0.3), _batch(8, 1, void=0.6)],
    "everything together": lambda: [_batch(9, 1, (1, 2, 4), 0.2), _batch(10, 3, (1, 4), 0.5), _batch(11, 1, (2,), 1.0)],
    "a class that is claimed at void pixels alone": lambda: [_batch(12, 1, (0, 1, 2)), _batch(13, 1, (4,), 1.0)],
}


@exercise("mean_iou", IOU_HINTS)
def mean_iou(look: Look, answer: Any) -> None:
    """Check ``mean_iou(batches, num_classes)``, a function: a list of pairs (prediction, target) → one number."""
    look.exists(answer)
    found: list[float] = []
    failure: Failure | None = None
    cases = {name: made() for name, made in IOU_CASES.items()}
    targets = [_iou_right(batches) for batches in cases.values()]
    for name, batches in cases.items():
        made = _iou_of(look, answer, batches, name, first=not found)
        if isinstance(made, Failure):
            failure = made
            break
        found.append(made)
    _compare_ious(look, found, targets, list(cases.values()), list(cases), answer)
    if failure is not None:
        _iou_failed(look, failure, list(cases)[len(found)], answer, list(cases.values())[len(found)])
    look.done("one more class than there is")
    wide = _iou_of(look, answer, cases["one batch"], "7 classes in place of 5", first=False, classes=7)
    if isinstance(wide, Failure):
        _iou_failed(look, wide, "a class that is nowhere", answer, cases["one batch"])
    if not _equal(wide, targets[0]):
        look.wrong(
            "absent-is-zero", f"With two more classes that are nowhere: {wide:.6g}, and {targets[0]:.6g} before."
        )
    spread = [(40 * prediction, 40 * target) for prediction, target in cases["one batch"]]
    many = _iou_of(look, answer, spread, "classes 0, 40, 80, 120 and 160", first=False, classes=161)
    if isinstance(many, Failure) or not _equal(many, targets[0]):
        look.wrong("classes-fixed", f"With classes 0, 40, 80, 120 and 160 of 161: {many}")
    look.done("number of classes")


def _iou_of(look: Look, answer: Any, batches: Batches, name: str, first: bool, classes: int = K) -> float | Failure:
    """Return the reader's mIoU as a number, or what it raised; end where it is no number."""
    given = [(prediction.clone(), target.clone()) for prediction, target in batches]
    told = f"{call_in_words(answer, (), {})[:-2]}(batches, {classes}) with {name}"
    torch.manual_seed(0)
    value = look.attempt(answer, given, classes)
    if isinstance(value, Failure):
        if first:
            look.call(answer, given, classes, told=told)
        return value
    if value is None or value is Ellipsis:
        look.nothing(answer, told)
    if isinstance(value, torch.Tensor) and value.numel() == classes:
        look.wrong("not-averaged", f"{told} gave {value.numel()} numbers.")
    if isinstance(value, list | tuple) and len(value) == classes:
        look.wrong("not-averaged", f"{told} gave {len(value)} numbers.")
    value = plain(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        look.wrong("wrong-type", f"{told} gave a {type(value).__name__}; a number is expected.")
    return float(value)


def _table(prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return torch.bincount(target.flatten() * K + prediction.flatten(), minlength=K * K).view(K, K).double()


Tables = list[tuple[torch.Tensor, torch.Tensor]]


def _tables(batches: Batches, void: int | str) -> Tables:
    """Return each batch's confusion matrix, and what void pixels add to the claims of each class."""
    found = []
    for prediction, target in batches:
        kept = target != VOID
        more = torch.zeros(K, dtype=torch.float64)
        if void == "and the first class":
            kept = kept & (target != 0)
        if isinstance(void, int):
            target, kept = target.where(kept, void), torch.ones_like(kept)
        elif void == "claims":
            more = torch.bincount(prediction[~kept], minlength=K).double()
        found.append((_table(prediction[kept], target[kept]), more))
    return found


def _summed(tables: Tables) -> Tables:
    return [(torch.stack([t for t, _ in tables]).sum(0), torch.stack([m for _, m in tables]).sum(0))]


def _pictures_of(batches: Batches) -> Batches:
    return [(p[None], t[None]) for prediction, target in batches for p, t in zip(prediction, target)]


def _one_each(place: int) -> Callable[[Batches, int | str], Tables]:
    """One picture of each batch."""
    return lambda batches, void: _summed(_tables([(p[place, None], t[place, None]) for p, t in batches], void))


VOIDS: list[tuple[str, int | str]] = [
    ("", ""),
    ("void-counted", "claims"),
    ("void-as-class", 0),
    ("void-as-class", 4),
    ("first-class-skipped", "and the first class"),
]
COLLECTED: list[tuple[str, Callable[[Batches, int | str], Tables]]] = [
    ("", lambda batches, void: _summed(_tables(batches, void))),
    ("averaged-over-batches", _tables),
    ("averaged-over-pictures", lambda batches, void: _tables(_pictures_of(batches), void)),
    ("one-batch-only", lambda batches, void: _tables(batches[-1:], void)),
    ("one-batch-only", lambda batches, void: _tables(batches[:1], void)),
    ("first-picture-only", _one_each(0)),
    ("first-picture-only", _one_each(-1)),
]
Fraction = tuple[torch.Tensor, torch.Tensor]
DIVIDED: list[tuple[str, Callable[[torch.Tensor, torch.Tensor, torch.Tensor], Fraction]]] = [
    ("", lambda right, truth, claim: (right, truth + claim - right)),
    ("overlap-counted-twice", lambda right, truth, claim: (right, truth + claim)),
    ("only-the-truth", lambda right, truth, claim: (right, truth)),
    ("only-the-claim", lambda right, truth, claim: (right, claim)),
    ("dice", lambda right, truth, claim: (2 * right, truth + claim)),
    ("larger-of-the-two", lambda right, truth, claim: (right, torch.maximum(truth, claim))),
    ("larger-of-the-two", lambda right, truth, claim: (right, torch.minimum(truth, claim))),
    (
        "summed-before-dividing",
        lambda right, truth, claim: (right.sum().expand_as(right), (truth + claim - right).sum().expand_as(right)),
    ),
    *(
        ("smoothed", lambda right, truth, claim, c=constant: (right, truth + claim - right + c))
        for constant in (1.0, 1e-2, 1e-3, 1e-4)
    ),
    *(
        ("smoothed", lambda right, truth, claim, c=constant: (right + c, truth + claim - right + c))
        for constant in (1.0, 1e-2, 1e-3, 1e-4)
    ),
]
AVERAGED: list[tuple[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]]] = [
    ("", lambda iou, table: iou.nanmean()),
    ("absent-is-zero", lambda iou, table: iou.nan_to_num(0.0).mean()),
    ("absent-is-one", lambda iou, table: iou.nan_to_num(1.0).mean()),
    ("absent-spreads", lambda iou, table: iou.mean()),
    ("claimed-class-skipped", lambda iou, table: iou[table.sum(1) > 0].nanmean()),
    ("missed-class-skipped", lambda iou, table: iou[table.sum(0) > 0].nanmean()),
    ("missed-class-skipped", lambda iou, table: iou[(table.sum(0) > 0) & (table.sum(1) > 0)].nanmean()),
    ("missed-class-skipped", lambda iou, table: iou[iou.nan_to_num(0.0) > 0].mean()),
    ("claimed-class-skipped", lambda iou, table: iou.nan_to_num(0.0).sum() / (table.sum(1) > 0).sum()),
    ("accuracy", lambda iou, table: table.diag().sum() / table.sum()),
    ("weighted-by-size", lambda iou, table: (iou.nan_to_num(0.0) * table.sum(1)).sum() / table.sum()),
    ("first-class-skipped", lambda iou, table: iou[1:].nanmean()),
    ("first-class-skipped", lambda iou, table: iou[1:].nan_to_num(0.0).mean()),
    ("first-class-skipped", lambda iou, table: iou[1:].nan_to_num(0.0).sum() / K),
    ("last-class-skipped", lambda iou, table: iou[:-1].nanmean()),
    ("last-class-skipped", lambda iou, table: iou[:-1].nan_to_num(0.0).sum() / K),
    ("summed", lambda iou, table: iou.nansum()),
    ("in-per-cent", lambda iou, table: 100 * iou.nanmean()),
    ("one-class-only", lambda iou, table: iou.nan_to_num(0.0).max()),
    ("one-class-only", lambda iou, table: iou[~iou.isnan()].min() if bool((~iou.isnan()).any()) else iou.sum()),
    ("one-class-only", lambda iou, table: iou[-1]),
    ("one-class-only", lambda iou, table: iou.nanmedian()),
]


def _iou_by(recipe: Recipe, batches: Batches, kept: Callable[[list[float]], list[float]] = list) -> float:
    """Return the mIoU that some mistakes give; ``kept`` chooses among the numbers of several batches."""
    values = []
    for table, more in COLLECTED[recipe[1]][1](batches, VOIDS[recipe[0]][1]):
        above, below = DIVIDED[recipe[2]][1](table.diag(), table.sum(1), table.sum(0) + more)
        values.append(float(AVERAGED[recipe[3]][1](above / below, table)))
    values = kept(values)
    return sum(values) / len(values) if values else math.nan


def _numbers(values: list[float]) -> list[float]:
    return [value for value in values if not math.isnan(value)]


def _zeroed(values: list[float]) -> list[float]:
    return [0.0 if math.isnan(value) else value for value in values]


def _iou_right(batches: Batches) -> float:
    return _iou_by((0, 0, 0, 0), batches)


def _class_by_class(batches: Batches) -> float:
    """The IoU of each class, averaged over the batches first and over the classes then."""
    values = []
    for table, _ in _tables(batches, ""):
        values.append(table.diag() / (table.sum(0) + table.sum(1) - table.diag()))
    return float(torch.stack(values).nanmean(0).nanmean())


def _own_claims(batches: Batches) -> float:
    """What is claimed counts only for the classes of the same batch's truth."""
    both, either = torch.zeros(2, K, dtype=torch.float64)
    for table, _ in _tables(batches, ""):
        both += table.diag()
        either += (table.sum(0) + table.sum(1) - table.diag()) * (table.sum(1) > 0)
    return float((both / either).nanmean())


def _sums_as_pairs(batches: Batches) -> float:
    """A pair's number is the sum of its two classes."""
    table = torch.zeros(K, K, dtype=torch.float64)
    for prediction, target in batches:
        kept = target != VOID
        table += torch.bincount(target[kept] + prediction[kept], minlength=K * K).view(K, K)
    return float((table.diag() / (table.sum(0) + table.sum(1) - table.diag())).nanmean())


OTHER_MEANS: list[tuple[str, Callable[[Batches], float]]] = [
    ("averaged-over-batches", _class_by_class),
    ("claimed-in-another-batch", _own_claims),
    ("claimed-in-another-batch", lambda batches: _own_claims(_pictures_of(batches))),
    ("pairs-mixed-up", _sums_as_pairs),
]
"""Mistakes that are no combination of steps."""


def _compare_ious(
    look: Look,
    found: Sequence[float],
    targets: Sequence[float],
    cases: Sequence[Batches],
    names: Sequence[str],
    answer: Any,
) -> None:
    """Say which known mistakes give all the numbers; else by what the first wrong case differs from those before."""
    for index, (value, target) in enumerate(zip(found, targets)):
        if not _equal(value, target):
            break
        look.done(names[index])
    else:
        return
    seen = f"With {names[index]}: {value:.6g}, and {target:.6g} is expected."
    again = _iou_of(look, answer, cases[0], names[0], first=True)
    if isinstance(again, Failure) or not _alike(again, found[0]):
        look.wrong("keeps-state", f"With {names[0]}: first {found[0]:.6g}, and {again} after other calls.")
    for kind in _kinds_of_ious(found, cases):
        look.wrong(kind, f"{seen} The numbers are those that this mistake gives.")
    if names[index].startswith("a class that is claimed at void"):
        look.wrong("claimed-at-void", seen)
    ratios = {round(yours / target, 6) for yours, target in zip(found, targets) if not math.isnan(yours)}
    if ratios == {100.0}:
        look.wrong("in-per-cent", seen)
    if all(abs(yours / target - 1) < 1e-3 for yours, target in zip(found, targets)):
        look.wrong("close-but-not-equal", seen)
    if index == 1:
        _depends_on_batches(look, answer, cases[1], seen)
    if index in (2, 3):
        kind = "absent-spreads" if math.isnan(value) else "absent-is-one" if value > target else "absent-is-zero"
        look.wrong(kind, seen)
    look.wrong("void-counted" if index == 4 else "not-a-number" if math.isnan(value) else "unknown", seen)


def _kinds_of_ious(found: Sequence[float], cases: Sequence[Batches]) -> Iterator[str]:
    """Yield the kinds of the known mistakes that give all these numbers."""
    for kind, made in OTHER_MEANS:
        if all(_alike(yours, made(batches)) for yours, batches in zip(found, cases)):
            yield kind
    for kinds, recipe in _recipes((VOIDS, COLLECTED, DIVIDED, AVERAGED), most=3):
        for kept in (list, _numbers, _zeroed)[: 3 if recipe[1] else 1]:
            if all(_alike(yours, _iou_by(recipe, batches, kept)) for yours, batches in zip(found, cases)):
                yield kinds[0]


def _alike(yours: float, made: float) -> bool:
    return (math.isnan(yours) and math.isnan(made)) or _equal(yours, made)


def _depends_on_batches(look: Look, answer: Any, batches: Batches, seen: str) -> None:
    """The same pictures as one batch give another number."""
    whole = [(torch.cat([p for p, _ in batches]), torch.cat([t for _, t in batches]))]
    value = _iou_of(look, answer, whole, "the same pictures in one batch", first=True)
    if isinstance(value, float) and _equal(value, _iou_right(whole)):
        look.wrong("averaged-over-batches", f"{seen} As one batch, the same pictures give the right number.")


def _iou_failed(look: Look, failure: Failure, name: str, answer: Any, batches: Batches) -> NoReturn:
    seen = f"With {name}: {failure}"
    if "void" in name:
        look.wrong("void-counted", seen)
    if re.search("invalid for input of size|must match|index .* is out of|non-singleton", failure.words):
        look.wrong("minlength", seen)
    if failure.name == "ZeroDivisionError":
        look.wrong("absent-spreads", seen)
    look.call(answer, batches, K)
    look.wrong("unknown", seen)


# 7.3

CROP_HINTS = {
    "not-two-results": "A picture and its class map go in. What should come out, and in which order?",
    "picture-alone-flipped": "The picture was mirrored and its class map was not. Where does a shape on the left lie "
    "in each of the two?",
    "map-alone-flipped": "The class map was mirrored and its picture was not. What else must follow?",
    "drawn-twice": "Picture and class map show different places. How often is a random number drawn for one place?",
    "upside-down": "Rows were reversed. On which side of a street is the sky, and which axis is left and right?",
    "turned": "The piece is turned or its axes are exchanged. What is allowed besides cutting and mirroring?",
    "resized": "The piece is not a window of neighbouring pixels: it was made larger or smaller. What does cutting "
    "out do to a pixel?",
    "classes-invented": "The class map has numbers that nobody drew. Which operation makes new numbers of old ones?",
    "map-became-floats": "Class numbers should stay whole numbers. Which line makes floats of them?",
    "runs-over-the-border": "A piece came out too small, or could not be cut. How far to the right can it begin, and "
    "does each axis have its own limit?",
    "always-the-same": "Every call cuts out the same piece. Where is the random number drawn, and is a seed set there?",
    "place-fixed": "The place never changes along an axis. Which random number decides it?",
    "wraps-round": "A piece goes on at the opposite border. Where does the last window begin that ends before it?",
    "first-place-never": "The first place of an axis is never chosen. From which number on do you draw?",
    "void-blackened": "The picture is black where its class map is void inside. Which pixels lie outside of it?",
    "stretched": "A small picture was stretched. How large should its pixels stay, and what comes beside them?",
    "padded-apart": "Picture and class map have their borders on different sides. Who decides the side, and how often?",
    "padding-axes": "Small squares work, and other small pictures do not. To which axis do the first two numbers of a "
    "border belong?",
    "a-place-never": "Some places are never chosen. Which is the last place at which a window fits, and does the "
    "drawing include it?",
    "one-draw-for-both-axes": "Row and column always belong together. How many numbers does a place need?",
    "never-flips": "No piece was ever mirrored. What is compared with what?",
    "always-flips": "Each piece is mirrored. How often should it be?",
    "flips-in-turn": "Mirrored and not mirrored take turns, so the next piece can be foretold. Who should decide?",
    "flips-not-half": "Mirrored pieces should be as common as the others. How common are they now?",
    "flip-tied-to-place": "Whether a piece is mirrored follows from its place. Which random number decides it?",
    "uneven-chances": "Some places come far more often than others. Is a number rounded, or made of several draws? How "
    "many draws lead to each place?",
    "small-one-way": "One side alone of a picture is too small, and along the other side not all places come. What "
    "does your code do with a side that is long enough?",
    "small-picture": "A picture that is smaller than the piece could not be used. What can be put around it?",
    "map-padded-with-a-class": "What was put around the class map is the number of a class. What says that nothing is "
    "there?",
    "picture-padded-otherwise": "What was put around the picture is not black. Which number is asked for?",
    "border-repeated": "The border's pixels were repeated or mirrored outwards. What should stand there?",
    "padded-without-need": "A piece has a border though the picture is large enough. When is one needed, and how wide?",
    "padded-too-much": "A part of a small picture was lost, and its border is too wide. How many rows are missing?",
}
HEIGHT, WIDTH, SIDE, DRAWS = 11, 13, 5, 2000
FARTHEST = 90.0
"""Chi-squared of 6 + 8 degrees of freedom, over rows and columns: a right answer is above it once in 10¹² times."""


def _places(height: int, width: int) -> Pair:
    """A picture whose channels say row and column, counted from 1, and a map with another number at each pixel."""
    rows = torch.arange(1, height + 1, dtype=torch.float64)[:, None].expand(height, width)
    columns = torch.arange(1, width + 1, dtype=torch.float64)[None].expand(height, width)
    mask = ((rows - 1) * width + columns - 1).long()
    return torch.stack([rows, columns, 100 * rows + columns]).contiguous(), mask


@exercise("crop_and_flip", CROP_HINTS)
def crop_and_flip(look: Look, answer: Any) -> None:
    """Check ``crop_and_flip(image, mask, size)``, a function: (C, H, W) and (H, W) → (C, size, size), (size, size)."""
    look.exists(answer)
    image, mask = _places(HEIGHT, WIDTH)
    torch.manual_seed(0)
    pieces = []
    for index in range(DRAWS):
        image_part, mask_part = _cut(look, answer, image, mask, SIDE)
        _is_window(look, image_part, mask_part, WIDTH)
        rows, columns = image_part[0, :, 0], image_part[1, 0]
        pieces.append((int(rows[0]) - 1, int(columns.min()) - 1, bool(columns[0] > columns[-1])))
        if not index:
            look.done("two tensors of the right shapes")
    look.done("picture and class map show the same place")
    _chances(look, pieces)
    look.done("every place, mirrored every second time")
    _void_inside(look, answer)
    look.done("void inside")
    _small(look, answer)
    look.done("pictures that are too small")


def _cut_out(look: Look, answer: Any, x: torch.Tensor, y: torch.Tensor, side: int, small: str, told: str) -> Any:
    """Call the function; say why it fails: ``small`` is the kind where the picture is too small."""
    made = look.attempt(answer, x, y, side)
    if isinstance(made, Failure):
        words = f"{told}: {made}"
        if small:
            look.wrong(small, words)
        if re.search(r"random_ expects|empty range|low >= high|exceeds dimension|start .* length", made.words):
            look.wrong("runs-over-the-border", words)
        look.call(answer, x, y, side, told=told)
    if made is None or made is Ellipsis:
        look.nothing(answer, told)
    return made


def _cut(look: Look, answer: Any, image: torch.Tensor, mask: torch.Tensor, side: int, small: str = "") -> Pair:
    """Call the function; end where it does not give two tensors of the right types and shapes."""
    x, y = image.clone(), mask.clone()
    told = call_in_words(answer, (x, y, side), {})
    made = _cut_out(look, answer, x, y, side, small, told)
    if not isinstance(made, tuple | list) or len(made) != 2 or not all(isinstance(m, torch.Tensor) for m in made):
        look.wrong("not-two-results", f"{told} gave a {type(made).__name__}; expected are picture and class map.")
    image_part, mask_part = made
    if image_part.dim() == 2 and mask_part.dim() == 3 and mask_part.shape[0] == image.shape[0]:
        look.wrong("not-two-results", f"{told} gave the class map first.")
    _cut_shapes(look, image_part, mask_part, image.shape[0], side, small, told)
    if image_part.dtype != image.dtype:
        look.wrong("wrong-dtype", f"{told} gave a picture of {image_part.dtype}.")
    if mask_part.dtype.is_floating_point:
        if not torch.equal(mask_part, mask_part.round()):
            look.wrong("classes-invented", f"{told}: the class map has {float(mask_part.flatten()[0]):.3f}.")
        look.wrong("map-became-floats", f"{told} gave a class map of {mask_part.dtype}.")
    return image_part.detach(), mask_part.long()


def _cut_shapes(
    look: Look, image: torch.Tensor, mask: torch.Tensor, channels: int, side: int, small: str, told: str
) -> None:
    for part, expected, what in ((image, (channels, side, side), "picture"), (mask, (side, side), "class map")):
        found = tuple(part.shape)
        if found == expected:
            continue
        seen = f"{told}: the {what} has the shape {found}; expected is {expected}."
        if len(found) != len(expected):
            look.wrong("wrong-rank", seen)
        shorter = all(a <= b for a, b in zip(found, expected))
        if small:
            look.wrong(small if shorter else "padded-too-much", seen)
        look.wrong("runs-over-the-border" if shorter and found[0] == expected[0] * (part is image) + found[0] * (
            part is mask
        ) else "wrong-shape", seen)  # fmt: skip


def _is_window(look: Look, image: torch.Tensor, mask: torch.Tensor, width: int) -> None:
    """End where a piece is no window of neighbouring pixels, the same one in both."""
    known = torch.equal(image, image.round()) and torch.equal(image[2], 100 * image[0] + image[1])
    if bool((image == 0).all(0).any()) and bool((mask == VOID).any()):
        look.wrong("padded-without-need", f"The picture has {HEIGHT}×{WIDTH} pixels, and 5×5 are cut out.")
    if not known:
        look.wrong("resized", "The picture's numbers are not those of single pixels.")
    rows, columns = image[0] - 1, image[1] - 1
    expected = (rows * width + columns).long()
    if not torch.equal(mask, expected):
        _apart(look, mask, expected, columns, width)
    down, right = rows.diff(dim=0), columns.diff(dim=1)
    if bool(rows.diff(dim=1).any()) or bool(columns.diff(dim=0).any()):
        look.wrong("turned", f"The first row of the piece has pixels of the rows {[int(r) for r in rows[0]]}.")
    if bool((down == -1).all()):
        look.wrong("upside-down", f"From top to bottom there are the rows {[int(r) for r in rows[:, 0]]}.")
    if bool((down == 1).all()) and (bool((right == 1).all()) or bool((right == -1).all())):
        return
    sideways = right % width
    goes_on = (down % HEIGHT == 1).all() & (sideways == sideways[0, 0]).all() & (sideways[0, 0] in (1, width - 1))
    seen = f"rows {[int(r) for r in rows[:, 0]]}, columns {[int(c) for c in columns[0]]}"
    look.wrong("wraps-round" if goes_on else "resized", f"There are pixels of the {seen}.")


def _apart(look: Look, mask: torch.Tensor, expected: torch.Tensor, columns: torch.Tensor, width: int) -> NoReturn:
    """Picture and class map do not show the same: say how."""
    seen = f"The picture's first pixel comes from number {int(expected[0, 0])}, the class map's is {int(mask[0, 0])}."
    if torch.equal(mask.flip(1), expected):
        backwards = bool(columns[0, 0] > columns[0, -1])
        look.wrong("picture-alone-flipped" if backwards else "map-alone-flipped", seen)
    if torch.equal(mask.flip(0), expected):
        look.wrong("upside-down", seen)
    if torch.equal(mask.T, expected) or torch.equal(mask.flip(0, 1), expected):
        look.wrong("turned", seen)
    if not bool(((mask >= 0) & (mask < HEIGHT * WIDTH)).all()) and not bool((mask == VOID).any()):
        look.wrong("classes-invented", seen)
    rows, cols = mask // width, mask % width
    straight = not bool(rows.diff(dim=1).any()) and not bool(cols.diff(dim=0).any())
    if straight and bool((rows.diff(dim=0).abs() == 1).all()) and bool((cols.diff(dim=1).abs() == 1).all()):
        starts = int(rows.min()), int(cols.min())
        other = int((expected // width).min()), int(columns.min())
        look.wrong("axes-exchanged" if starts == other[::-1] and starts != other else "drawn-twice", seen)
    look.wrong("resized" if straight else "classes-invented", seen)


def _chances(look: Look, pieces: list[tuple[int, int, bool]]) -> None:
    """End where not every place comes, or pieces are not mirrored every second time."""
    rows, columns, flips = (set(values) for values in zip(*pieces))
    share = sum(flip for _, _, flip in pieces) / len(pieces)
    if len(set(pieces)) == 1:
        look.wrong("always-the-same", f"{len(pieces)} calls gave one and the same piece.")
    limits = HEIGHT - SIDE + 1, WIDTH - SIDE + 1
    if len(rows) == 1 or len(columns) == 1:
        look.wrong("place-fixed", f"In {len(pieces)} calls {len(rows)} rows and {len(columns)} columns came first.")
    if len({(row, column) for row, column, _ in pieces}) <= sum(limits):
        look.wrong("one-draw-for-both-axes", f"In {len(pieces)} calls each row came with one column alone.")
    if (len(rows), len(columns)) != limits:
        missing = [sorted(set(range(limit)) - seen) for limit, seen in zip(limits, (rows, columns))]
        kind = "first-place-never" if all(places in ([], [0]) for places in missing) else "a-place-never"
        never = f"at the rows {missing[0]}, at the columns {missing[1]}; places are counted from 0"
        look.wrong(kind, f"In {len(pieces)} calls no piece began {never}.")
    if len(flips) == 1:
        look.wrong("always-flips" if True in flips else "never-flips", f"{share:.0%} of the pieces are mirrored.")
    if not 0.42 < share < 0.58:  # seven standard deviations
        look.wrong("flips-not-half", f"{share:.0%} of the pieces are mirrored.")
    if all(piece[2] != after[2] for piece, after in zip(pieces, pieces[1:])):
        look.wrong("flips-in-turn", f"In {len(pieces)} calls exactly every second piece was mirrored.")
    _evenly(look, pieces, limits)
    for axis, places in ((0, rows), (1, columns)):
        for place in places:
            seen = {piece[2] for piece in pieces if piece[axis] == place}
            if len(seen) == 1 and sum(piece[axis] == place for piece in pieces) > 20:
                look.wrong("flip-tied-to-place", f"Pieces that begin at place {place} of an axis are mirrored always "
                           "or never.")  # fmt: skip


def _evenly(look: Look, pieces: list[tuple[int, int, bool]], limits: tuple[int, int]) -> None:
    """End where some places of an axis come more often than chance has it."""
    apart, words = 0.0, []
    for axis, (limit, name) in enumerate(zip(limits, ("rows", "columns"))):
        counts = [sum(piece[axis] == place for piece in pieces) for place in range(limit)]
        expected = len(pieces) / limit
        apart += sum((count - expected) ** 2 for count in counts) / expected
        words.append(f"at the {name} 0 to {limit - 1} {', '.join(map(str, counts))}")
    if apart > FARTHEST:
        look.wrong("uneven-chances", f"So many of {len(pieces)} pieces began {' and '.join(words)}.")


def _void_inside(look: Look, answer: Any) -> None:
    """Void pixels inside a picture that is large enough: nothing happens to it there."""
    image, mask = _places(HEIGHT, WIDTH)
    mask = mask.masked_fill(mask % 3 == 0, VOID)
    for _ in range(12):
        part, labels = _cut(look, answer, image, mask, SIDE)
        if bool((part == 0).any()):
            look.wrong("void-blackened", "The picture is large enough, and black pixels are in a piece of it.")
        rows, columns = (part[:2] - 1).long()
        if not torch.equal(labels, mask[rows, columns]):
            look.wrong("classes-invented", "The class map has void inside; a piece of it has other numbers there.")


def _kind_of_small(look: Look, answer: Any) -> str:
    """Return what is wrong where small pictures fail: a border with its axes exchanged fits squares alone."""
    made = look.attempt(answer, *_places(3, 3), SIDE)
    fits = isinstance(made, tuple | list) and [getattr(part, "shape", ())[-2:] for part in made] == 2 * [(SIDE, SIDE)]
    return "padding-axes" if fits else "small-picture"


def _small(look: Look, answer: Any) -> None:
    """Pictures with too few rows, too few columns, too few of both."""
    kind = _kind_of_small(look, answer)
    for height, width in ((3, 11), (11, 3), (2, 3)):
        image, mask = _places(height, width)
        places = set()
        for _ in range(12 if height < SIDE and width < SIDE else 200):  # one of 7 places misses 200: 3 in 10¹³
            image_part, mask_part = _cut(look, answer, image, mask, SIDE, kind)
            _padded(look, image_part, mask_part, height, width)
            rows, columns = (axis[axis > 0].min() for axis in image_part[:2])
            places.add((int(rows), int(columns)))
        if len(places) < max(height - SIDE, 0) + max(width - SIDE, 0) + 1:
            first = sorted(max(place) - 1 for place in places)
            look.wrong("small-one-way", f"A picture of {height}×{width} pixels, {SIDE}×{SIDE} cut out: along the long "
                       f"side, in 200 calls, pieces began at {', '.join(map(str, first))} alone.")  # fmt: skip
    image, mask = _places(SIDE, SIDE)
    for _ in range(12):
        image_part, mask_part = _cut(look, answer, image, mask, SIDE)
        _is_window(look, image_part, mask_part, SIDE)


def _padded(look: Look, image: torch.Tensor, mask: torch.Tensor, height: int, width: int) -> None:
    """Inside all is as in a large picture; outside is black and void."""
    seen = f"A picture of {height}×{width} pixels, {SIDE}×{SIDE} cut out: "
    whole = (image == image.round()).all(0)
    inside = whole & (image[2] == 100 * image[0] + image[1]) & (image[0] > 0)
    expected = min(height, SIDE) * min(width, SIDE)
    if int(inside.sum()) > expected:
        look.wrong(_too_many(image, inside, height), f"{seen}{int(inside.sum())} pixels of it are there.")
    outside = image[:, ~inside]
    if not bool(whole.all()) and bool((outside != outside[:, :1]).any()):
        look.wrong("resized", f"{seen}the picture's numbers are not those of single pixels.")
    if bool(outside.any()):
        look.wrong("picture-padded-otherwise", f"{seen}outside, the picture has {float(outside.flatten()[0]):.3g}.")
    rows, columns = (int(image[axis][inside].unique().numel()) for axis in (0, 1))
    if int(inside.sum()) < expected or rows * columns != expected:
        look.wrong("padded-too-much", f"{seen}{int(inside.sum())} of {expected} pixels are left.")
    labels = ((image[0] - 1) * width + image[1] - 1).long().where(inside, VOID)
    if torch.equal(mask, labels):
        return
    border = mask[~inside].unique().tolist()
    if torch.equal(mask[inside], labels[inside]):
        look.wrong("map-padded-with-a-class", f"{seen}outside, the class map has {border[:4]}.")
    apart = int((mask == VOID).sum()) == int((~inside).sum()) and not torch.equal(mask == VOID, ~inside)
    look.wrong("padded-apart" if apart else "drawn-twice", f"{seen}picture and class map show different places.")


def _too_many(image: torch.Tensor, inside: torch.Tensor, height: int) -> str:
    """Return the kind where a small picture's pixels are there repeatedly."""
    if int((image[2][inside].unique(return_counts=True)[1] > 1).sum()) == 1:  # a mean that is a pixel by chance
        return "picture-padded-otherwise"
    stretched = torch.arange(SIDE) * height // SIDE + 1
    return "stretched" if torch.equal(image[0, :, 0].long(), stretched) else "border-repeated"


# 7.4

LOOPS = ("none", "gradients add up", "stays in evaluation", "softmax twice", "chosen on the test split", "no step")
_FOUND = {
    "A": ("stays in evaluation", "not-the-mode"),
    "B": ("gradients add up", "not-the-sums"),
    "C": ("none", "nothing-wrong"),
    "D": ("softmax twice", "not-the-softmax"),
    "E": ("chosen on the test split", "not-the-choice"),
}

predictions(
    "loops",
    title="Five training loops",
    quantities=which(_FOUND, LOOPS),
    hints={
        "not-the-mode": "Go through A up to the first validation, and then one step further. What has changed for "
        "good?",
        "not-the-sums": "Print the size of one weight's gradient in B, step after step. Who clears it?",
        "nothing-wrong": "C has its lines in an unusual order. Does each step see a gradient of its own batch alone?",
        "not-the-softmax": "Give D a model that is always right. How small does the loss become?",
        "not-the-choice": "E trains as it should. But who may look at which pictures before all is decided?",
    },
)

# 7.5

ACCUMULATE_HINTS = {
    "no-backward": "A weight has no gradient after the call. Which line goes backwards?",
    "whole-at-once": "The model was given more pictures at once than a part has. What was to be spared?",
    "size-not-number": "Each part has as many pictures as there should be parts. Does your line ask for a number of "
    "parts, or for the size of one?",
    "graphs-kept": "The graphs of two parts were in memory together. When can a part's graph be given up, and who "
    "still holds it?",
    "rest-in-one-part": "What is left over all went into one part. How large may the largest part be?",
    "parts-skipped": "Some parts never reached the model. Which line leaves them out, or ends the loop?",
    "gradients-gone": "The gradients were computed, and the weights are without them after the call. Who clears them, "
    "or does not keep them?",
    "clipped": "The gradients were cut to some length. Who asked for that?",
    "another-loss": "This is the gradient of another loss. At which size does the chapter's loss compare?",
    "maps-of-other-pictures": "Pictures and class maps do not belong together. In which order does each come?",
    "means-averaged": "Each part has the same say. Do the parts have equally many pixels with a class?",
    "means-added": "The parts' means were added up. With twice as many parts the gradient doubles: should it?",
    "void-weighs": "Each part has the say of all its pixels, or pictures. Which of its pixels does its mean look at?",
    "divided-by-all-pixels": "The sum is right, and divided by too much. How many pixels have a class?",
    "not-divided": "The parts' sums were added up, and nothing was divided. What makes a mean of a sum?",
    "old-gradients-dropped": "Only one part has a say at the end. Who clears the gradients between the parts?",
    "part-lost": "Some pictures were never looked at. 7 pictures in 3 parts: how large is each?",
    "mode-changed": "The model came in training mode. In which mode is it after the call, and who changed that?",
    "takes-a-step": "The weights are other ones after the call. Was a step asked for?",
}


@exercise("accumulate", ACCUMULATE_HINTS)
def accumulate(look: Look, answer: Any) -> None:
    """Check ``accumulate(model, images, masks, parts)``, a function that leaves gradients in the model's weights."""
    look.exists(answer)
    if is_untouched(answer):
        look.not_written(f"`{getattr(answer, '__name__', 'the function')}`")
    for pictures, parts, void in (
        (6, 3, "even"), (7, 3, "even"), (11, 4, "even"), (7, 3, "uneven"), (6, 2, "uneven"), (4, 2, "a part")
    ):  # fmt: skip
        model = nn.Conv2d(3, CLASSES, 4, stride=4).double()
        images = random(pictures, 3, 8, 12, seed=pictures)
        masks = (images[:, 0].abs() * 7).long() % CLASSES
        if void == "uneven":
            masks[: pictures // 2][images[: pictures // 2, 1] < 0.7] = VOID
            masks[pictures // 2 :][images[pictures // 2 :, 1] < -1.2] = VOID
        if void == "a part":
            masks[: pictures // 2] = VOID
        _accumulated(look, answer, model, 30 * images, masks, parts)  # large: gradients that clipping would shorten
        look.done(
            f"{pictures} pictures in {parts} parts" + {"uneven": ", with void", "a part": ", one void"}.get(void, "")
        )


class _Log:
    """What a model and its graphs do during a call.

    Attributes:
        sizes: how many pictures went forwards each time.
        graphs: the tensors that the model's graphs hold, each in a box that lives as long as its graph needs it.
        together: whether a part went forwards while the graph of another one was there.
        backwards: whether any graph was gone through.
        reached: whether a gradient came to a weight.
        inside: whether the model is going forwards now.
    """

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.graphs: WeakSet[_Box] = WeakSet()
        self.together = self.backwards = self.reached = self.inside = False

    def begin(self, pictures: torch.Tensor) -> None:
        self.together |= bool(self.graphs)
        self.sizes.append(len(pictures))
        self.inside = True

    def end(self) -> None:
        self.inside = False

    def pack(self, tensor: torch.Tensor) -> _Box:
        box = _Box(tensor)
        if self.inside:
            self.graphs.add(box)
        return box

    def arrive(self, gradient: torch.Tensor) -> None:
        self.reached = True

    def unpack(self, box: _Box) -> torch.Tensor:
        self.backwards = True
        return box.tensor


class _Box:
    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor


def _accumulated(
    look: Look, answer: Any, model: nn.Conv2d, images: torch.Tensor, masks: torch.Tensor, parts: int
) -> None:
    """Watch the model while the reader's code runs; compare the gradients that it left."""
    log = _logged(look, answer, model, images, masks, parts)
    sizes, most, least = log.sizes, -(-len(images) // parts), len(images) // parts
    seen = f"{len(images)} pictures in {parts} parts: the model saw {', '.join(map(str, sizes))}."
    if max(sizes, default=0) > most:
        if sizes == [len(part) for part in images.split(parts)]:
            look.wrong("size-not-number", seen)
        rest = len(sizes) == parts and sorted(sizes)[:-1] == [least] * (parts - 1)
        look.wrong("rest-in-one-part" if rest else "whole-at-once", seen)
    if log.together and log.backwards:
        look.wrong("graphs-kept", f"{seen} A part went forwards while the graph of another one was in memory.")
    if any(weight.grad is None for weight in model.parameters()):
        skips = not sizes and bool((masks == VOID).any())
        kind = "no-gradient" if log.backwards else "parts-skipped" if skips else "no-backward"
        look.wrong("gradients-gone" if log.reached else kind, "After the call a weight has no gradient.")
    yours = torch.cat([weight.grad.flatten() for weight in model.parameters() if weight.grad is not None])
    if not close(yours, _gradient(model, images, masks)):
        if sum(sizes) < len(images) and sum(sizes) != least * parts:
            look.wrong("parts-skipped", seen)
        _compare_gradients(look, yours, model, images, masks, parts)


def _logged(look: Look, answer: Any, model: nn.Conv2d, images: torch.Tensor, masks: torch.Tensor, parts: int) -> _Log:
    """Call the function and keep a log; end where it changed what it should not."""
    log = _Log()
    handles = [
        model.register_forward_pre_hook(lambda module, inputs: log.begin(inputs[0])),
        model.register_forward_hook(lambda module, inputs, output: log.end()),
        model.weight.register_hook(lambda gradient: log.arrive(gradient)),
    ]
    before = [weight.detach().clone() for weight in model.parameters()]
    with torch.autograd.graph.saved_tensors_hooks(log.pack, log.unpack):
        look.call(answer, model, images, masks, parts)
    for handle in handles:
        handle.remove()
    if any(not torch.equal(old, new) for old, new in zip(before, model.parameters())):
        look.wrong("takes-a-step", "The model's weights are other ones after the call.")
    if not model.training:
        look.wrong("mode-changed", "After the call the model is in evaluation.")
    return log


def _compare_gradients(
    look: Look, yours: torch.Tensor, model: nn.Module, images: torch.Tensor, masks: torch.Tensor, parts: int
) -> None:
    """Compare with the gradient of the whole batch, and with those of known mistakes."""
    wrong: dict[str, list[torch.Tensor]] = {}
    for sizes in _splits(len(images), parts):
        for kind, gradient in _gradients(model, images.split(sizes), masks.split(sizes)):
            wrong.setdefault(kind, []).append(gradient)
    kept = len(images) // parts * parts
    lost = _gradient(model, images[:kept], masks[:kept])
    share = (masks[:kept] != VOID).sum() / (masks != VOID).sum().clamp(min=1)  # divided by the whole batch's pixels
    wrong["part-lost"] = [lost, lost * share]
    if kept == len(images):
        del wrong["part-lost"]
    target = _gradient(model, images, masks)
    wrong["clipped"] = [target / target.norm() * most for most in (0.01, 0.1, 0.5, 1, 2, 5, 10)]
    wrong["clipped"] += [target.clamp(-most, most) for most in (0.01, 0.1, 0.5, 1, 2, 5, 10)]
    wrong["another-loss"] = list(_small_losses(model, images, masks))
    wrong["maps-of-other-pictures"] = [
        _gradient(model, images, made) for made in (masks.flip(0), torch.cat(masks.chunk(parts)[::-1]))
    ]
    for kind, candidates in wrong.items():
        if any(close(yours, candidate) for candidate in candidates):
            look.wrong(
                kind, f"{len(images)} pictures in {parts} parts: the gradient is the one that this mistake gives."
            )
    look.values(yours, target, at=f"{len(images)} pictures in {parts} parts")


def _splits(pictures: int, parts: int) -> list[list[int]]:
    """The sizes that ``chunk``, ``tensor_split`` and slices of equal length give."""
    every = torch.arange(pictures)
    short = pictures // parts
    splits = [[len(part) for part in made] for made in (every.chunk(parts), every.tensor_split(parts))]
    splits.append([len(part) for part in every.split(short)])
    return [list(sizes) for sizes in dict.fromkeys(map(tuple, splits))]


def _gradient(
    model: nn.Module, images: torch.Tensor, masks: torch.Tensor, loss: Callable[..., torch.Tensor] = _reference
) -> torch.Tensor:
    found = torch.autograd.grad(loss(model(images), masks), list(model.parameters()))
    return torch.cat([gradient.flatten() for gradient in found])


def _small_losses(model: nn.Module, images: torch.Tensor, masks: torch.Tensor) -> Iterator[torch.Tensor]:
    """The gradients of the loss at the logits' size, divided by its own pixels, and by those of the whole maps."""
    for start in range(4):
        small = masks[:, start::4, start::4]
        gradient = _gradient(model, images, small)
        yield gradient
        yield gradient * (small != VOID).sum() / (masks != VOID).sum()


def _gradients(
    model: nn.Module, images: Sequence[torch.Tensor], masks: Sequence[torch.Tensor]
) -> Iterator[tuple[str, torch.Tensor]]:
    """The gradients of known mistakes, made of the parts' own."""
    parts = torch.stack([_gradient(model, *part) for part in zip(images, masks)])
    counts = torch.tensor([float((part != VOID).sum()) for part in masks], dtype=torch.float64)[:, None]
    pixels = torch.tensor([float(part.numel()) for part in masks], dtype=torch.float64)[:, None]
    yield "means-averaged", parts.mean(0)
    yield "means-averaged", parts[counts[:, 0] > 0].mean(0)
    yield "means-added", parts.sum(0)
    yield "void-weighs", (parts * pixels).sum(0) / pixels.sum()
    yield "divided-by-all-pixels", (parts * counts).sum(0) / pixels.sum()
    yield "not-divided", (parts * counts).sum(0)
    yield "old-gradients-dropped", parts[-1]
    yield "old-gradients-dropped", parts[0]
    yield "old-gradients-dropped", parts[-1] / len(parts)
    yield "old-gradients-dropped", parts[-1] * counts[-1] / counts.sum()
    yield "means-averaged", parts.sum(0) / len(parts) ** 2


# Warm-ups

TRUTH, CLAIM = torch.tensor([0, 1, 2, 1, 0, 1]), torch.tensor([0, 1, 1, 1, 0, 0])
COUNTS = torch.tensor([[4.0, 2, 0], [1, 6, 3], [2, 1, 1]])


def _counted(rows: torch.Tensor, columns: torch.Tensor, minlength: int = 9) -> torch.Tensor:
    return torch.bincount(rows * 3 + columns, minlength=minlength)


def _table_sums() -> list[torch.Tensor]:
    """What a table may be divided by: its rows' sums, its columns' sums; never zero."""
    table = _counted(TRUTH, CLAIM).view(3, 3)
    return [table.sum(axis, keepdim=True).clamp(min=1) for axis in (0, 1)]


puzzle_of(
    "confusion",
    title="A confusion matrix of six pixels",
    target=lambda: _counted(TRUTH, CLAIM).view(3, 3),
    wrong={
        "rows-and-columns": (
            lambda: _counted(CLAIM, TRUTH).view(3, 3),
            "Rows and columns have changed places. Which of the two is multiplied?",
        ),
        "not-a-square": (
            lambda: _counted(TRUTH, CLAIM),
            "The counts are right and stand in one row. Which shape has a table of pairs?",
        ),
        "minlength": (
            lambda: _counted(TRUTH, CLAIM, 0),
            "The counts end with the last pair that occurs. How many pairs could there be?",
        ),
        "pairs-mixed-up": (
            lambda: (
                [torch.bincount(TRUTH * CLAIM, minlength=9).view(3, 3)]
                + [torch.bincount(n * TRUTH + CLAIM, minlength=9)[:9].view(3, 3) for n in (1, 2, 4, 5, 6)]
            ),
            "Different pairs got the same number. By how much must one of the two be apart from the next?",
        ),
        "not-counted": (
            lambda: (_counted(TRUTH, CLAIM) > 0).long().view(3, 3),
            "Each pair is marked once, however often it occurs. Does a second write add to the first?",
        ),
        "pairs-left-out": (
            lambda: [_counted(TRUTH[these], CLAIM[these]).view(3, 3) for these in (TRUTH == CLAIM, TRUTH != CLAIM)],
            "Only right claims are counted, or only wrong ones. How many pixels are there, and how many in your table?",
        ),
        "shares": (
            lambda: [_counted(TRUTH, CLAIM).view(3, 3) / counts for counts in _table_sums()],
            "The counts were divided by sums of their rows or columns. Is the number of pixels asked for, or a share?",
        ),
    },
)

puzzle_of(
    "iou from counts",
    title="The IoU of three classes",
    target=lambda: COUNTS.diag() / (COUNTS.sum(0) + COUNTS.sum(1) - COUNTS.diag()),
    wrong={
        "overlap-counted-twice": (
            lambda: COUNTS.diag() / (COUNTS.sum(0) + COUNTS.sum(1)),
            "Some pixels were counted in the row and in the column. Which ones?",
        ),
        "only-the-truth": (
            lambda: COUNTS.diag() / COUNTS.sum(1),
            "The rows alone are the truth. Where do wrongly claimed pixels stand?",
        ),
        "only-the-claim": (
            lambda: COUNTS.diag() / COUNTS.sum(0),
            "The columns alone are the claims. Where do missed pixels stand?",
        ),
        "dice": (
            lambda: 2 * COUNTS.diag() / (COUNTS.sum(0) + COUNTS.sum(1)),
            "The overlap counts double. Which of the measures is that?",
        ),
        "one-number": (
            lambda: (COUNTS.diag() / (COUNTS.sum(0) + COUNTS.sum(1) - COUNTS.diag())).mean(),
            "One number for each class is asked for. What was averaged too early?",
        ),
        "all-pixels-below": (
            lambda: COUNTS.diag() / COUNTS.sum(),
            "Below the line all pixels were counted. Which ones does a class have to do with?",
        ),
        "overlap-not-once": (
            lambda: [COUNTS.diag() / (COUNTS.sum(0) + COUNTS.sum(1) + n * COUNTS.diag()) for n in (1, -2)],
            "A pixel of the overlap should count once below the line. How often does it now?",
        ),
        "one-axis-twice": (
            lambda: [COUNTS.diag() / (2 * COUNTS.sum(axis) - COUNTS.diag()) for axis in (0, 1)],
            "The same sums were added to themselves. Which two sets make a union?",
        ),
        "constant-added": (
            lambda: [
                (COUNTS.diag() + above) / (COUNTS.sum(0) + COUNTS.sum(1) - COUNTS.diag() + below)
                for below in (1, 0.1, 1e-2, 1e-3)
                for above in (0, below)
            ],
            "A constant was added, above the line or below it. Is any of these unions empty?",
        ),
    },
)
