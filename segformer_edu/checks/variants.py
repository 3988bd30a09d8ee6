"""Chapter 8: from the sketch's parts to the paper's."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NoReturn

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import nn

from segformer_edu.checks.core import Failure, Look, call_in_words, close, exercise, random
from segformer_edu.checks.numbers import predictions, puzzle_of, which
from segformer_edu.model.variants import COMMON, VARIANTS

# 8.1

DROP_HINTS = {
    "numbers-dropped": "Single numbers of a sample are zero. What is left out here: a number, a channel or a branch?",
    "channels-dropped": "Whole channels of a sample are zero, and others are not. For what is one random number drawn?",
    "pixels-dropped": "Whole pixels of a sample are zero, and others are not. For what is one random number drawn?",
    "batch-dropped": "All samples of a batch share one fate. How many random numbers does a batch need?",
    "fates-together": "Samples of one batch go and stay together. For how many of them is each random number drawn?",
    "not-scaled": "What stays has its old size, so the mean over many draws is too small. What should stay equal on "
    "average?",
    "scaled-by-the-rate": "What stays was enlarged by a wrong factor. Which share of the samples stays?",
    "kept-and-dropped": "As many stay as should go. Is the probability that of leaving out or of keeping?",
    "number-fixed": "Of a batch of one, the single sample has always the same fate. What is drawn: which samples go, "
    "or for each whether it goes?",
    "rate-ignored": "The share that is left out does not follow the argument. Where does it go?",
    "never-drops": "Nothing is left out while training. What is compared with the rate?",
    "always-drops": "Everything is left out while training. What is compared with the rate?",
    "drawn-once": "Every call leaves out the same samples. When should the random numbers be drawn?",
    "active-in-eval": "After `eval()` samples are still left out. How does a module know in which mode it is?",
    "scaled-in-eval": "After `eval()` the numbers are other ones than those that went in. In which mode is the mean "
    "put right here?",
    "active-in-eval-alone": "It leaves samples out in evaluation, and none while training. Which of the two is asked "
    "for?",
    "changed-at-rate-zero": "With the rate 0 something changes. What should happen to the input then?",
    "residual-inside": "A sample that is left out comes through unchanged. Who adds the input: this module or the "
    "block?",
    "noise-added": "What stays is no multiple of what went in. What may happen to a branch that stays?",
}
MANY = 3000


@exercise("DropPath", DROP_HINTS)
def drop_path(look: Look, answer: Any) -> None:
    """Check ``DropPath(rate=0.0)``, a class: whole samples are left out while training."""
    look.exists(answer)
    modules = {rate: look.construct(answer, rate) for rate in (0.25, 0.6)}
    look.construct(answer)
    look.done("constructed")
    x = random(MANY, 3, 2, 5)
    _in_training(look, modules, x)
    look.done("whole samples are left out, as often as asked, the others enlarged")
    for rate, module in modules.items():
        look.call(module.eval, told="eval()")
        _in_evaluation(look, module, x[:60], rate)
    look.done("nothing happens in evaluation")
    untouched = look.output(look.construct(answer, 0.0), x[:60])
    if not close(untouched, x[:60]):
        look.wrong("changed-at-rate-zero", "With the rate 0, in training, the result is not what went in.")
    look.done("rate 0")
    one = look.attempt(answer, 1.0)
    if isinstance(one, nn.Module):
        result = look.attempt(one.double(), x[:60])
        if isinstance(result, Failure) or not isinstance(result, torch.Tensor) or not bool(result.isfinite().all()):
            look.remark(
                "A rate of 1 is not asked for; yours makes NaN or an error of it. Who should be told, and when?"
            )


def _in_training(look: Look, modules: Mapping[float, nn.Module], x: torch.Tensor) -> None:
    """Look at what each sample, channel, pixel and number was multiplied by."""
    shares = {}
    for rate, module in modules.items():
        torch.manual_seed(3)
        first = look.output(module, x).detach().clone()
        look.shape(first, x.shape)
        factors = first / x
        _who(look, factors, rate)
        shares[rate] = float((factors[:, 0, 0, 0].abs() < 1e-9).double().mean())
        several = len({round(float(f), 6) for f in factors[:, 0, 0, 0]}) > 1
        if several and torch.equal(first, look.output(module, x.clone()).detach()):
            look.wrong("drawn-once", "Two calls left out the same samples.")
        if not several:
            _alike(look, module, x, rate)
        _which_factor(look, factors[:, 0, 0, 0], rate, module, x)
        _fates_apart(look, factors[:, 0, 0, 0].abs() < 1e-9, rate)
    _how_often(look, shares)
    for rate, module in modules.items():
        fates = {bool(look.output(module, x[:1]).any()) for _ in range(120)}  # a right answer has one fate once in 10¹⁴
        if len(fates) == 1:
            seen = "never" if True in fates else "always"
            look.wrong("number-fixed", f"With the rate {rate} a batch of one sample is {seen} left out.")
    _drop_gradient(look, modules[0.25], x)


def _fates_apart(look: Look, gone: torch.Tensor, rate: float) -> None:
    """End where samples share their fate more often, or more seldom, than by chance."""
    share = float(gone.double().mean())
    for distance in (1, 2, len(gone) // 2):
        equal = float((gone[distance:] == gone[:-distance]).double().mean())
        if abs(equal - share**2 - (1 - share) ** 2) > 0.1:
            seen = f"With the rate {rate} {equal:.0%} of the samples have the fate of the one {distance} places before."
            look.wrong("fates-together", seen)


def _drop_gradient(look: Look, module: nn.Module, x: torch.Tensor) -> None:
    """A sample's gradient is enlarged as the sample is, or zero."""
    part = x[:60].clone().requires_grad_()
    torch.manual_seed(5)
    y = look.output(module, part)
    if not y.requires_grad:
        look.wrong("no-gradient", "The result has no graph.")
    (gradient,) = torch.autograd.grad(y.sum(), [part])
    if not close(gradient, (y / part).detach()):
        look.wrong("wrong-gradient", "A sample's gradient is not enlarged as the sample is.")


def _how_often(look: Look, shares: Mapping[float, float]) -> None:
    """End where the shares that are left out are not the rates."""
    seen = "; ".join(f"rate {rate}: {share:.1%} left out" for rate, share in shares.items())
    if all(abs(share - (1 - rate)) < 0.05 for rate, share in shares.items()):
        look.wrong("kept-and-dropped", seen)
    if any(abs(share - rate) > 0.05 for rate, share in shares.items()):
        look.wrong("rate-ignored", seen)


def _who(look: Look, factors: torch.Tensor, rate: float) -> None:
    """End where the numbers of one sample have different fates."""
    if not bool(factors.isfinite().all()):
        look.wrong("not-a-number", f"With the rate {rate} some numbers are NaN or infinite.")
    spread = {name: float((factors.amax(axes) - factors.amin(axes)).max()) for name, axes in (
        ("sample", (1, 2, 3)), ("channel", (2, 3)), ("pixel", (1,)))}  # fmt: skip
    if spread["sample"] < 1e-6:
        return
    kept = {round(float(factor), 5) for factor in factors.flatten()[:600]}
    if len(kept) > 3:
        look.wrong("noise-added", f"Numbers were multiplied by many different factors, such as {sorted(kept)[:3]}.")
    if spread["channel"] < 1e-6:
        look.wrong("channels-dropped", "Within a sample some channels are zero, and others are not.")
    if spread["pixel"] < 1e-6:
        look.wrong("pixels-dropped", "Within a sample some pixels are zero, and others are not.")
    look.wrong("numbers-dropped", "Within a channel some numbers are zero, and others are not.")


def _alike(look: Look, module: nn.Module, x: torch.Tensor, rate: float) -> None:
    """All samples were multiplied by one factor: does it change from call to call?"""
    factors = {round(float((look.output(module, x[:2].clone()) / x[:2]).flatten()[0]), 6) for _ in range(40)}
    if len(factors) > 1:
        look.wrong("batch-dropped", f"All samples of a batch were multiplied by the same factor, one of {factors}.")
    look.call(module.eval, told="eval()")
    later = look.output(module, x.clone()) / x
    look.call(module.train, told="train()")
    if bool((later.abs() < 1e-9).any()):
        look.wrong("active-in-eval-alone", f"With the rate {rate}, samples are left out after `eval()` alone.")
    if factors == {0.0}:
        look.wrong("always-drops", f"With the rate {rate}, in training, every sample is left out.")
    look.wrong("never-drops", f"With the rate {rate}, in training, no sample is left out.")


def _which_factor(look: Look, factors: torch.Tensor, rate: float, module: nn.Module, x: torch.Tensor) -> None:
    """The samples' factors: 0, and 1 / (1 − rate)."""
    found = sorted({round(float(factor), 6) for factor in factors})
    seen = f"With the rate {rate} the samples are multiplied by {', '.join(f'{f:.4g}' for f in found[:5])}."
    if len(found) > 2:
        look.wrong("noise-added", seen)
    low, high = found
    if math.isclose(low, 0, abs_tol=1e-6) and math.isclose(high, 1 / (1 - rate), rel_tol=1e-5):
        return
    if math.isclose(low, 1, rel_tol=1e-5):
        look.wrong("residual-inside", seen)
    if math.isclose(low, 0, abs_tol=1e-6) and math.isclose(high, 1, rel_tol=1e-5):
        look.call(module.eval, told="eval()")
        later = look.output(module, x[:60].clone()).detach()
        look.call(module.train, told="train()")
        scaled = close(later, (1 - rate) * x[:60])
        look.wrong("scaled-in-eval" if scaled else "not-scaled", seen)
    if math.isclose(low, 0, abs_tol=1e-6):
        gone = float((factors.abs() < 1e-6).double().mean())
        if math.isclose(high, 1 / rate, rel_tol=1e-5) and abs(gone - (1 - rate)) < 0.05:
            look.wrong("kept-and-dropped", f"{seen} {gone:.1%} are left out.")
        look.wrong("scaled-by-the-rate", seen)
    look.wrong("noise-added", seen)


def _in_evaluation(look: Look, module: nn.Module, x: torch.Tensor, rate: float) -> None:
    y = look.output(module, x.clone()).detach()
    if close(y, x):
        return
    factors = y / x
    zeros = bool((factors.abs() < 1e-9).any()) and bool((factors.abs() > 1e-9).any())
    seen = f"After eval(), with the rate {rate}, the largest difference is {float((y - x).abs().max()):.3g}."
    look.wrong("active-in-eval" if zeros else "scaled-in-eval", seen)


# 8.2

RATE_HINTS = {
    "restarted": "The rates begin anew in every stage. Over how many blocks should they rise?",
    "starts-above-zero": "The first block has a rate above 0. Which index has it?",
    "ends-too-low": "The last block does not reach the last rate. How many steps are there between six blocks?",
    "wrong-way-round": "The rates fall. Which blocks are left out more often: early or late ones?",
    "one-a-stage": "All blocks of a stage have one rate. What has a rate of its own?",
    "keeping": "These are the shares that stay. Which ones are asked for?",
    "not-split": "The rates are right, in one row. How does each stage get its own?",
    "lost-or-doubled": "Some stages have too many or too few rates. Where does a stage begin in the row of all?",
    "single-block": "With a single block it fails, or its rate is not 0. Is that block the first or the last? What is "
    "divided by the number of blocks less one?",
    "last-ignored": "The rates reach the same height, whatever the argument says. Where is that number written down?",
    "rounded": "The rates lack their last digits. Which line takes them away?",
    "not-even": "The rates do not rise by the same step from block to block. Which rule is asked for?",
}


@exercise("Rates of drop path", RATE_HINTS)
def drop_rates(look: Look, answer: Any) -> None:
    """Check ``drop_rates(depths, last)``, a function: (2, 3, 1), 0.1 → for each stage a list of its blocks' rates."""
    look.exists(answer)
    for depths, last in (((2, 3, 1), 0.1), ((3, 4, 6, 3), 0.2), ((2, 2, 2, 2), 0.1), ((1, 4), 0.3), ((4, 2), 0.0)):
        _rates(look, answer, depths, last)
        look.done(f"{depths}")
    made = look.attempt(answer, (1,), 0.1)
    if isinstance(made, Failure):
        look.wrong("single-block", f"With a single block: {made}")
    rows = _lists(made)
    if rows is None or len(rows) != 1 or len(rows[0]) != 1 or not abs(rows[0][0]) < 1e-9:
        look.wrong("single-block", f"With a single block: {made!r}.")
    look.done("a single block")


def _lists(value: Any) -> list[list[float]] | None:
    """Return a nested sequence or tensors as lists of floats, or None."""
    try:
        return [[float(rate) for rate in stage] for stage in value]
    except (TypeError, ValueError):
        return None


def _split(rates: Sequence[float], depths: Sequence[int]) -> list[list[float]]:
    rest = iter(rates)
    return [[next(rest) for _ in range(depth)] for depth in depths]


def _rate_mistakes(depths: Sequence[int], last: float) -> Iterator[tuple[str, list[list[float]]]]:
    count = sum(depths)
    even = [last * i / max(count - 1, 1) for i in range(count)]
    yield "restarted", [[last * i / max(depth - 1, 1) for i in range(depth)] for depth in depths]
    yield "restarted", [[last * i / depth for i in range(depth)] for depth in depths]
    yield "restarted", [[last * (i + 1) / depth for i in range(depth)] for depth in depths]
    yield "restarted", [even[:depth] for depth in depths]
    for below in (count, max(count - 1, 1)):
        yield "starts-above-zero", _split([last * (i + 1) / below for i in range(count)], depths)
    for fixed in (0.1, 0.2, 0.3):
        yield "last-ignored", _split([fixed * i / max(count - 1, 1) for i in range(count)], depths)
    for digits in range(1, 6):
        yield "rounded", _split([round(rate, digits) for rate in even], depths)
    yield "ends-too-low", _split([last * i / count for i in range(count)], depths)
    yield "wrong-way-round", _split(even[::-1], depths)
    yield "wrong-way-round", [stage[::-1] for stage in _split(even, depths)]
    stages = len(depths)
    for offset, below in ((0, stages - 1), (1, stages), (0, stages)):
        yield "one-a-stage", [[last * (i + offset) / below] * depth for i, depth in enumerate(depths)]
    yield "one-a-stage", [[last] * depth for depth in depths]
    yield "keeping", _split([1 - rate for rate in even], depths)


def _rates(look: Look, answer: Any, depths: tuple[int, ...], last: float) -> None:
    told = call_in_words(answer, (depths, last), {})
    value = look.call(answer, depths, last, told=told)
    if value is None or value is Ellipsis:
        look.nothing(answer, told)
    target = _split([last * i / max(sum(depths) - 1, 1) for i in range(sum(depths))], depths)
    flat = [rate for stage in target for rate in stage]
    rows = _lists(value)
    if rows is None:
        numbers = _lists([value])
        if numbers and len(numbers[0]) == len(flat):
            look.wrong("not-split", f"{told} gave one row of {len(flat)} numbers.")
        look.wrong("wrong-type", f"{told} gave a {type(value).__name__}; expected is a list of lists.")
    seen = f"{told} gave {[[round(rate, 4) for rate in row] for row in rows]}."

    def equal(candidate: list[list[float]]) -> bool:
        return [len(row) for row in rows] == [len(row) for row in candidate] and all(
            math.isclose(a, b, rel_tol=1e-5, abs_tol=1e-7)
            for mine, theirs in zip(rows, candidate)
            for a, b in zip(mine, theirs)
        )

    if equal(target):
        return
    for kind, candidate in _rate_mistakes(depths, last):
        if equal(candidate):
            look.wrong(kind, seen)
    _other_rates(look, rows, flat, depths, seen)


def _other_rates(
    look: Look, rows: list[list[float]], flat: list[float], depths: tuple[int, ...], seen: str
) -> NoReturn:
    """The rates are none that a known mistake gives: say what they have in common with the right ones."""
    if [len(row) for row in rows] != list(depths):
        look.wrong("lost-or-doubled", seen)
    if any(math.isnan(rate) for row in rows for rate in row):
        look.wrong("not-a-number", seen)
    firsts = [row[0] for row in rows if row]
    kind = "restarted" if len(set(firsts)) == 1 and len(firsts) > 1 else "lost-or-doubled"
    inside = {round(rate, 6) for row in rows for rate in row} <= {round(rate, 6) for rate in flat}
    look.wrong(kind if inside else "not-even", seen)


# 8.3

ATTENTION_HINTS = {
    "shrunk-twice": "There are two strided convolutions, as in the sketch. How often does the released code shrink the "
    "map?",
    "reduction-missing": "No convolution shrinks the map. Which of the three, queries, keys and values, come from a "
    "smaller one?",
    "shrunk-without-weights": "Something without weights shrinks the map: a mean, a maximum, or a choice of pixels. "
    "What does the released code shrink it by?",
    "norm-missing": "The shrunken map is used as it is. What stands in the released code between the convolution and "
    "the keys?",
    "norm-of-the-sketch": "Where the spread is small, the norm gives other numbers. Where does the released code's "
    "norm have its small constant?",
    "norm-elsewhere": "The norm is at another place. Which map does it get: the one before or behind the convolution?",
    "norm-on-one-half": "Keys and values come from different maps. Which one do both see?",
    "norm-over-the-map": "The norm takes its mean over more than one pixel. Over which axis does a layer norm of "
    "maps go?",
    "too-many-norms": "There is more than one norm. How many does the released code have here?",
    "reduction-at-one": "With a ratio of 1 there is still a convolution that shrinks nothing. What should be there?",
    "norm-at-one": "With a ratio of 1 there is still a norm. To which part does it belong?",
    "biases-missing": "A layer has no bias. Which of the layers have one in the released code?",
    "halves-exchanged": "Keys and values have changed places. Which is the first half?",
    "halves-interleaved": "The results of the one layer are split in another way. Are keys every second channel, part "
    "of each head, or one block?",
    "one-half-for-both": "Keys and values are one and the same. How many halves has the result of the one layer?",
    "channels-apart": "Each filter of the strided convolution sees one channel. How many does the released one see?",
    "shrunk-with-a-border": "The strided convolution pads the map. Where does its first window lie, as released?",
    "activation-added": "Behind the norm something cuts numbers off. What follows it in the released code?",
    "not-shrunk-for-keys": "Keys or values come from the large map. Which map should they be made of?",
    "other-heads": "Each head has other channels. Which channels lie side by side in one head?",
    "joined-in-memory-order": "Each head is right, and their results were read as a map in the order in which they lie "
    "in memory. Which axes have to change places before that?",
    "heads-forgotten": "There is one head, whatever number is asked for. Which line cuts the channels into heads?",
    "heads-by-reshape": "Channels and pixels were mixed when the heads were cut. Which axes must change places first, "
    "or which one may be cut alone?",
    "masked": "Some keys are hidden from some queries. Who may look at whom in a picture?",
    "wrong-scale": "The similarities are divided by another number. How many products does one of them add up?",
    "softmax-over-queries": "The shares of one query do not add up to one. Along which axis do the keys lie?",
    "rows-and-columns": "The map was rebuilt with rows and columns exchanged. In which order do the pixels come?",
    "residual-inside": "The input comes through unchanged. Who adds it: the attention or the block?",
    "output-layer-missing": "The heads' results come out as they are. What mixes the heads?",
    "layers-too-many": "There are layers that the released code does not have. Which ones are needed for queries, "
    "keys, values and the output?",
    "fails-at-one": "With a ratio of 1 it fails. Which part is left out then, and what takes its place?",
}
DIM, HEADS, RATIO = 6, 3, 2


@dataclass
class Roles:
    """The reader's weights, by what they do: matrices (C_out, C_in) with their biases."""

    shrink: tuple[torch.Tensor, torch.Tensor] | None
    norm: tuple[torch.Tensor, torch.Tensor] | None
    linear: list[tuple[torch.Tensor, torch.Tensor]]


@exercise("PaperAttention", ATTENTION_HINTS)
def paper_attention(look: Look, answer: Any) -> None:
    """Check ``PaperAttention(dim, heads, reduction_ratio)``, a class: the attention of the released code."""
    look.exists(answer)
    module = look.construct(answer, dim=DIM, heads=HEADS, reduction_ratio=RATIO)
    look.done("constructed")
    x = random(2, DIM, 4, 10)
    look.shape(look.output(module, x), x.shape)
    look.done("runs, shape, float64 stays float64")
    look.side_effects(module, x)
    look.pictures_apart(module, x)
    look.same_in_eval(module, x)
    look.done("no side effects")
    _roles(look, module, RATIO)
    look.done("layers and biases")
    _drawn(module)
    target = _attended(look, module, x, RATIO)
    look.done("values")
    look.gradients(module, x, like=target)
    look.done("gradients")
    _other_sizes(look, answer)


def _other_sizes(look: Look, answer: Any) -> None:
    """A ratio of 1, and sizes that the ratio does not divide."""
    for ratio, heads, size in ((1, 2, (5, 7)), (4, 1, (9, 13))):
        told: dict[str, Any] = {"dim": DIM, "heads": heads, "reduction_ratio": ratio}
        other = look.construct(answer, **told)
        result = look.attempt(other, random(2, DIM, *size))
        if isinstance(result, Failure) and ratio == 1:
            look.wrong("fails-at-one", f"{told}: {result}")
        look.shape(look.output(other, random(2, DIM, *size)), (2, DIM, *size), f"for {told}")
        _drawn(other)
        _attended(look, other, random(2, DIM, *size), ratio, heads)
        look.done(f"ratio {ratio}, {heads} head{'s' * (heads > 1)}, {size[0]}×{size[1]}")


def _roles(look: Look, module: nn.Module, ratio: int) -> Roles:
    """Sort the reader's layers by what they can be; end where one lacks, or is too much."""
    found: dict[str, list[tuple[torch.Tensor, Any]]] = {"shrink": [], "norm": [], "linear": []}
    for name, part in module.named_modules():
        own = list(part.parameters(recurse=False))
        weight, bias = getattr(part, "weight", None), getattr(part, "bias", None)
        if isinstance(part, nn.MultiheadAttention):
            weight, bias = part.in_proj_weight, part.in_proj_bias
        elif [value.numel() for value in own] == [DIM, DIM]:  # a norm, whatever its weights are called
            weight, bias = (value.flatten() for value in own)
        if not isinstance(weight, torch.Tensor):
            continue
        if bias is None:
            look.wrong("biases-missing", f"`{name}` has no bias.")
        role = _role(part, weight, ratio)
        if role == "shrink" and tuple(weight.shape[:2]) == (DIM, 1):
            look.wrong("channels-apart", f"The filters of `{name}` have the shape {tuple(weight.shape)}.")
        found[role].append((weight, bias))
    return _sorted(look, module, found["shrink"], found["norm"], found["linear"], ratio)


def _role(part: nn.Module, weight: torch.Tensor, ratio: int) -> str:
    """Return what a layer can be: it shrinks the map, it is a norm, or it is linear."""
    if weight.dim() == 1:
        return "norm"
    has_window = weight.dim() == 4 and weight.shape[-1] > 1
    steps = getattr(part, "stride", (1, 1)) not in ((1, 1), 1)
    reads_rows = ratio > 1 and weight.shape[1] == DIM * ratio**2  # of windows, laid out one by one
    return "shrink" if has_window or steps or reads_rows else "linear"


def _sorted(
    look: Look,
    module: nn.Module,
    shrinks: list[tuple[torch.Tensor, Any]],
    norms: list[tuple[torch.Tensor, Any]],
    linear: list[tuple[torch.Tensor, Any]],
    ratio: int,
) -> Roles:
    """Return the layers by their roles; end where their numbers are not right."""
    rows = sum(len(weight) for weight, _ in linear)
    seen = f"With a ratio of {ratio}: {len(shrinks)} strided convolutions, {len(norms)} norms, linear layers to " + (
        " and ".join(str(len(weight)) for weight, _ in linear) + " channels."
    )
    if ratio > 1 and not shrinks:
        _without_weights(look, module, Roles(None, norms[0] if norms else None, linear), ratio)
    _counted(look, seen, len(shrinks), len(norms), rows, ratio)
    placed = sum(w.numel() + b.numel() for w, b in [*shrinks, *norms, *linear])
    if placed != sum(weight.numel() for weight in module.parameters()):
        look.wrong("cannot-place", seen)
    return Roles(shrinks[0] if shrinks else None, norms[0] if norms else None, linear)


def _without_weights(look: Look, module: nn.Module, roles: Roles, ratio: int) -> None:
    """End where the map is shrunk all the same."""
    x = random(2, DIM, 4, 10)
    yours = look.output(module, x)
    for layers, how in itertools.product(_assigned(roles.linear), POOLS):
        if close(yours, _expected(x, roles, layers, ratio, HEADS, how)):
            look.wrong("shrunk-without-weights", f"The map is shrunk by {how}.")


def _counted(look: Look, seen: str, shrinks: int, norms: int, rows: int, ratio: int) -> None:
    """End where there are too many layers or too few."""
    if ratio == 1:
        if shrinks or rows == 5 * DIM:
            look.wrong("reduction-at-one", seen)
        if norms:
            look.wrong("norm-at-one", seen)
    else:
        if shrinks > 1:
            look.wrong("shrunk-twice", seen)
        if not shrinks:
            look.wrong("reduction-missing", seen)
        if not norms:
            look.wrong("norm-missing", seen)
        if norms > 1:
            look.wrong("too-many-norms", seen)
    if rows < 4 * DIM:
        look.wrong("output-layer-missing" if rows == 3 * DIM else "cannot-place", seen)
    if rows > 4 * DIM:
        look.wrong("layers-too-many", seen)


def _drawn(module: nn.Module) -> None:
    """Draw all weights anew, so that no bias is 0 and no norm is 1."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for weight in module.parameters():
            spread = 1.0 if weight.dim() > 1 else 0.5
            weight.copy_(spread * torch.randn(weight.shape, generator=generator, dtype=torch.float64))


def _assigned(linear: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> Iterator[dict[str, tuple[torch.Tensor, Any]]]:
    """Yield the ways to give the linear layers their roles: q, k, v and out, each (C, C) with its bias."""
    pieces: list[list[str]] = []
    for weight, _ in linear:
        pieces.append({1: ["q", "out"], 2: ["kv"], 3: ["qkv"]}.get(len(weight) // DIM, []))
    single = [i for i, (weight, _) in enumerate(linear) if len(weight) == DIM]
    names = ("q", "out") if len(single) == 2 else ("q", "k", "v", "out") if len(single) == 4 else ("out",)
    for order in itertools.permutations(names):
        found: dict[str, tuple[torch.Tensor, Any]] = {}
        for index, name in zip(single, order):
            found[name] = linear[index]
        for weight, bias in linear:
            if len(weight) > DIM:
                roles = ("k", "v") if len(weight) == 2 * DIM else ("q", "k", "v")
                for i, role in enumerate(roles):
                    found[role] = (weight[i * DIM : (i + 1) * DIM], bias[i * DIM : (i + 1) * DIM])
        if found.keys() == {"q", "k", "v", "out"}:
            yield found


def _through(x: torch.Tensor, layer: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    weight, bias = layer
    return F.conv2d(x, weight.reshape(len(weight), -1, 1, 1), bias)


def _normal(x: torch.Tensor, norm: tuple[torch.Tensor, torch.Tensor], how: str = "") -> torch.Tensor:
    weight, bias = (value.view(-1, 1, 1) for value in norm)
    axes = {"map": (1, 2, 3), "instance": (2, 3)}.get(how, (1,))
    mean, variance = x.mean(axes, keepdim=True), x.var(axes, correction=0, keepdim=True)
    if how == "sketch":
        return (x - mean) / (variance.sqrt() + 1e-5) * weight + bias
    return (x - mean) / (variance + 1e-5).sqrt() * weight + bias


POOLS: dict[str, Callable[[torch.Tensor, int], torch.Tensor]] = {
    "means": F.avg_pool2d,
    "maxima": F.max_pool2d,
    "leaving out pixels": lambda x, ratio: x[..., ::ratio, ::ratio],
}


NORMS = ("norm map", "norm instance", "norm sketch")


def _expected(
    x: torch.Tensor, roles: Roles, layers: Mapping[str, Any], ratio: int, heads: int, mistake: str = ""
) -> torch.Tensor:
    """Return what the reader's weights should give; ``mistake`` names one thing that is done otherwise."""
    source = _normal(x, roles.norm) if mistake == "norm first" and roles.norm else x
    border = ratio // 2 if mistake == "border" else 0
    small = F.conv2d(source, *roles.shrink, stride=ratio, padding=border) if roles.shrink else source
    small = POOLS[mistake](source, ratio) if mistake in POOLS else small
    plain = small
    if roles.norm and mistake not in ("norm first", "no norm"):
        small = _normal(small, roles.norm, mistake.removeprefix("norm ") if mistake in NORMS else "")
    if mistake in ("gelu", "relu"):
        small = F.gelu(small) if mistake == "gelu" else small.relu()
    normed_q = _normal(x, roles.norm) if mistake == "norm on queries" and roles.norm else x
    q = _through(normed_q, layers["q"])
    k = _through({"keys whole": x, "both whole": x, "keys plain": plain}.get(mistake, small), layers["k"])
    v = _through({"values whole": x, "both whole": x, "values plain": plain}.get(mistake, small), layers["v"])
    if mistake == "exchanged":
        k, v = v, k
    if mistake in ("keys twice", "values twice"):
        k, v = (k, k) if mistake == "keys twice" else (v, v)
    if mistake in ("interleaved", "by head", "by head exchanged"):
        pattern = (
            "b (c two) h w -> two b c h w" if mistake == "interleaved" else "b (heads two c) h w -> two b (heads c) h w"
        )
        sizes = {"two": 2} if mistake == "interleaved" else {"two": 2, "heads": heads}
        k, v = rearrange(torch.cat([k, v], 1), pattern, **sizes)
        k, v = (v, k) if mistake == "by head exchanged" else (k, v)
    out = _mixed(x, q, k, v, heads, mistake)
    if mistake == "no output":
        return out
    return _through(out, layers["out"]) + (x if mistake == "residual" else 0)


def _mixed(
    x: torch.Tensor, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, heads: int, mistake: str
) -> torch.Tensor:
    """Attention of maps, head by head: (B, dim, H, W) again."""
    layout = "(c heads)" if mistake in ("other heads", "cut otherwise") else "(heads c)"
    if mistake == "reshaped":
        q, k, v = (t.reshape(len(t), heads, -1, DIM // heads) for t in (q, k, v))
    else:
        heads = 1 if mistake == "one head" else heads
        q, k, v = (rearrange(t, f"b {layout} h w -> b heads (h w) c", heads=heads) for t in (q, k, v))
    scale = {"all channels": DIM**-0.5, "no scale": 1.0, "scale up": q.shape[-1] ** 0.5, "no root": 1 / q.shape[-1]}
    similar: torch.Tensor = q @ k.transpose(-1, -2) * scale.get(mistake, q.shape[-1] ** -0.5)
    if mistake == "masked":
        similar = similar.masked_fill(torch.ones_like(similar[0, 0]).triu(1).bool(), -torch.inf)
    out: torch.Tensor = similar.softmax(-2 if mistake == "over queries" else -1) @ v
    if mistake == "not joined":
        return out.reshape(x.shape[0], -1, x.shape[1]).transpose(1, 2).reshape(x.shape)
    if mistake in ("not turned", "pixels first"):
        return (out if mistake == "not turned" else out.transpose(1, 2)).reshape(x.shape)
    pixels = "(w h)" if mistake == "rows and columns" else "(h w)"
    layout = {"joined otherwise": "(c heads)", "cut otherwise": "(heads c)"}.get(mistake, layout)
    joined: torch.Tensor = rearrange(out, f"b heads {pixels} c -> b {layout} h w", h=x.shape[-2])
    return joined


MISTAKES = {
    "exchanged": "halves-exchanged",
    "interleaved": "halves-interleaved",
    "by head": "halves-interleaved",
    "by head exchanged": "halves-interleaved",
    "norm first": "norm-elsewhere",
    "norm on queries": "norm-elsewhere",
    "no norm": "norm-missing",
    "norm map": "norm-over-the-map",
    "norm instance": "norm-over-the-map",
    "keys plain": "norm-on-one-half",
    "values plain": "norm-on-one-half",
    "keys whole": "not-shrunk-for-keys",
    "values whole": "not-shrunk-for-keys",
    "both whole": "not-shrunk-for-keys",
    "other heads": "other-heads",
    "not joined": "other-heads",
    "not turned": "joined-in-memory-order",
    "pixels first": "joined-in-memory-order",
    "all channels": "wrong-scale",
    "no scale": "wrong-scale",
    "scale up": "wrong-scale",
    "no root": "wrong-scale",
    "over queries": "softmax-over-queries",
    "rows and columns": "rows-and-columns",
    "residual": "residual-inside",
    "joined otherwise": "other-heads",
    "cut otherwise": "other-heads",
    "one head": "heads-forgotten",
    "reshaped": "heads-by-reshape",
    "masked": "masked",
    "norm sketch": "norm-of-the-sketch",
    "keys twice": "one-half-for-both",
    "values twice": "one-half-for-both",
    "no output": "output-layer-missing",
    "border": "shrunk-with-a-border",
    "gelu": "activation-added",
    "relu": "activation-added",
}
"""What may be done otherwise, and the kind of the mistake."""


def _laid_out(roles: Roles, ratio: int) -> list[Roles]:
    """Return the roles for each order in which a matrix may read a window: the first one is that of F.unfold."""
    if roles.shrink is None or roles.shrink[0].shape[1] == DIM:
        return [roles]
    weight, bias = roles.shrink
    orders = ("(c r s)", "(r s c)", "(s r c)", "(c s r)")
    filters = (rearrange(weight.flatten(1), f"o {order} -> o c r s", r=ratio, s=ratio) for order in orders)
    return [replace(roles, shrink=(each, bias)) for each in filters]


def _attended(
    look: Look, module: nn.Module, x: torch.Tensor, ratio: int, heads: int = HEADS
) -> Callable[[torch.Tensor], torch.Tensor]:
    """Compare with the reference for each way to give the layers their roles; then with the known mistakes.

    Returns what computes the right result.
    """
    found = _roles(look, module, ratio)
    yours = look.output(module, x).detach()
    ways = [(roles, layers) for roles in _laid_out(found, ratio) for layers in _assigned(roles.linear)]
    if not ways:
        look.wrong("cannot-place", "The linear layers are not those for queries, keys, values and the output.")
    with torch.no_grad():
        targets = [_expected(x, roles, layers, ratio, heads) for roles, layers in ways]
        for (roles, layers), target in zip(ways, targets):
            if close(yours, target):
                return partial(_expected, roles=roles, layers=layers, ratio=ratio, heads=heads)
        for mistake, kind in MISTAKES.items():
            for roles, layers in ways:
                try:
                    made = _expected(x, roles, layers, ratio, heads, mistake)
                except (RuntimeError, ValueError):  # keys and values of two sizes
                    continue
                if close(yours, made):
                    look.wrong(kind, f"The result is the one that this mistake gives, with a ratio of {ratio}.")
    nearest = min(targets, key=lambda target: float((target - yours).abs().max()))
    look.values(yours, nearest, at=f"with a ratio of {ratio}")
    raise AssertionError  # unreachable: the values differ


# 8.4

TABLE_HINTS = {
    "heads-of-powers": "The heads double from stage to stage. No parameter count can tell, and every file loads. What "
    "does the table say of stage 3?",
    "depth-of-the-paper": "That is the number of blocks in the paper's table. Which number have the released weights?",
    "expansion-of-the-paper": "That is the expansion in the paper's table. Which one has the released code, and is it "
    "the same in every stage?",
    "decoder-too-narrow": "The decoder of the larger models is wider. Which width is B2's in Table 1?",
    "decoder-too-wide": "The decoder of the two smallest models is narrow. How wide is it?",
    "channels-of-another": "These are the channels of another variant. Which ones share theirs?",
    "depths-of-another": "These are the depths of another variant. In which stage do they differ most?",
    "number-off": "A single number is not the table's. Which one, and which model would it make?",
    "entries-missing": "Which names do the stub's dicts have, for which six models?",
}
NAMES = ("dims", "num_layers", "heads", "ff_expansion", "decoder_dim")


@exercise("Six configurations", TABLE_HINTS)
def configurations(look: Look, answer: Any) -> None:
    """Check ``configurations``, a dict: for "b0" to "b5" a dict of dims, num_layers, heads and so on."""
    if answer is None or answer is Ellipsis:
        look.not_written()
    if not isinstance(answer, Mapping):
        look.wrong("wrong-type", f"A {type(answer).__name__} was given; a dict is expected.")
    if set(answer) != set(VARIANTS):
        look.wrong("entries-missing", f"The models are {sorted(map(str, answer))}.")
    unwritten = [f"{model}" for model, sizes in answer.items() if sizes is None or sizes is Ellipsis]
    for model, right in VARIANTS.items():
        sizes = answer[model]
        if model in unwritten:
            continue
        if not isinstance(sizes, Mapping):
            look.wrong("wrong-type", f"{model} is a {type(sizes).__name__}; a dict is expected.")
        if set(sizes) != set(NAMES):
            look.wrong("entries-missing", f"{model} has {sorted(map(str, sizes))}; expected are {', '.join(NAMES)}.")
        if any(value is Ellipsis or value is None for value in sizes.values()):
            unwritten.append(model)
            continue
        for name in NAMES:
            _entry(look, model, name, sizes[name], {**COMMON, **right}[name])
        look.done(model.upper())
    if unwritten:
        look.not_written(", ".join(unwritten))


def _entry(look: Look, model: str, name: str, value: Any, right: Any) -> None:
    yours = tuple(value) if isinstance(value, list | tuple) else value
    if name == "ff_expansion" and yours == right[0]:
        return
    if yours == right:
        return
    seen = f"{model}, {name}: {value!r}."
    depths = {"b2": (3, 3, 6, 3), "b3": (3, 3, 18, 3)}
    if name == "heads" and yours == (1, 2, 4, 8):
        look.wrong("heads-of-powers", seen)
    if name == "num_layers" and yours == depths.get(model):
        look.wrong("depth-of-the-paper", seen)
    if name == "ff_expansion" and yours in ((8, 8, 4, 4), 8):
        look.wrong("expansion-of-the-paper", seen)
    if name == "decoder_dim" and isinstance(yours, int):
        look.wrong("decoder-too-narrow" if yours < right else "decoder-too-wide", seen)
    if any({**COMMON, **other}[name] == yours for other in VARIANTS.values()):
        look.wrong("channels-of-another" if name == "dims" else "depths-of-another", seen)
    look.wrong("number-off", seen)


# 8.5

HOW = ("exact", "close", "other")
_COPIES = {
    "channels-last memory": ("exact", "not-the-memory"),
    "nn.Linear on tokens": ("exact", "not-the-linear"),
    "GELU by tanh": ("close", "not-the-gelu"),
    "fuse and concatenation both reversed": ("exact", "not-the-order"),
    "ReLU before the BatchNorm": ("other", "not-the-relu"),
    "upsampled before the projection": ("exact", "not-the-upsampling"),
    "heads permuted in to_q and to_kv alone": ("other", "not-the-heads"),
}

predictions(
    "copies",
    title="Seven near-copies of B0",
    quantities=which(_COPIES, HOW),
    hints={
        "not-the-memory": "Shape and order in memory are two things. Which one does a formula know of?",
        "not-the-linear": "Both multiply the channels of a pixel by a matrix. What else could differ?",
        "not-the-gelu": "Draw both curves, and then their difference. Is it zero, or small?",
        "not-the-order": "Columns of a matrix and the numbers that they meet: what if both change places alike?",
        "not-the-relu": "What does a ReLU do to the mean that is taken behind it? Which numbers are lost, and which "
        "were kept before?",
        "not-the-upsampling": "One step mixes pixels of a channel, the other channels of a pixel. A bilinear mean has "
        "shares that add up to one: what becomes of a bias?",
        "not-the-heads": "The heads' results arrive in another order now. Which layer reads them, and was it told?",
    },
)

# Warm-ups

KV = torch.arange(16.0).reshape(2, 4, 1, 2)

puzzle_of(
    "keys and values",
    title="Keys and values of one layer",
    target=lambda: torch.stack(KV.chunk(2, dim=1)),
    wrong={
        "halves-exchanged": (
            lambda: torch.stack(KV.chunk(2, dim=1)[::-1]),
            "Values stand first. Which half are the keys?",
        ),
        "halves-interleaved": (
            lambda: torch.stack([KV[:, ::2], KV[:, 1::2]]),
            "Every second channel was taken. Do the keys lie in one block, or between the values?",
        ),
        "split-along-the-width": (
            lambda: torch.stack(KV.chunk(2, dim=3)),
            "The columns were split. Along which axis do the channels lie?",
        ),
        "side-by-side": (
            lambda: torch.cat(KV.chunk(2, dim=1)),
            "Both lie along the batch. How does a new axis come into being?",
        ),
        "pictures-first": (
            lambda: torch.stack(KV.chunk(2, dim=1), dim=1),
            "The first axis counts the pictures. Which axis should tell keys from values?",
        ),
        "keys-twice": (
            lambda: [torch.stack([half, half]) for half in KV.chunk(2, dim=1)],
            "Keys and values are the same numbers. Which channels are left over?",
        ),
        "split-along-the-batch": (
            lambda: torch.stack(KV.chunk(2, dim=0)),
            "The pictures were split. Along which axis do the channels lie?",
        ),
    },
)

BRANCH = torch.arange(1.0, 10).reshape(3, 3)
KEPT = torch.tensor([1.0, 0, 1])

puzzle_of(
    "left out",
    title="One of three branches is left out",
    target=lambda: BRANCH * KEPT[:, None] / 0.75,
    wrong={
        "columns-left-out": (
            lambda: [BRANCH * KEPT / 0.75, BRANCH * KEPT],
            "A column is gone. Which axis counts the samples, and against which one does a row of three numbers lie?",
        ),
        "not-scaled": (lambda: BRANCH * KEPT[:, None], "What stays has its old size. What should the mean be?"),
        "residual-inside": (
            lambda: BRANCH + BRANCH * KEPT[:, None] / 0.75,
            "The branch is added to itself. Who adds what, and is it asked for here?",
        ),
        "nothing-left-out": (
            lambda: [BRANCH / 0.75, torch.where(KEPT[:, None] > 0, BRANCH / 0.75, BRANCH)],
            "The sample in the middle is still there. What does its 0 stand for?",
        ),
        "scaled-by-the-rate": (
            lambda: BRANCH * KEPT[:, None] / 0.25,
            "What stays is four times too large. Which share of the samples stays?",
        ),
        "scaled-down": (
            lambda: BRANCH * KEPT[:, None] * 0.75,
            "What stays became smaller. Should it make up for what is left out?",
        ),
        "scaled-by-the-draw": (
            lambda: BRANCH * KEPT[:, None] / KEPT.mean(),
            "Divided by the share that happened to stay. Which share is expected?",
        ),
        "others-left-out": (
            lambda: BRANCH * (1 - KEPT)[:, None] / 0.75,
            "The others are gone. What does a 1 stand for?",
        ),
        "removed": (lambda: BRANCH[[0, 2]] / 0.75, "A sample is missing altogether. What stands in its place?"),
    },
)
