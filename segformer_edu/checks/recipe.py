"""Chapter 11: weights of classes, chance, and the rounds of Muon."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from math import comb
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from segformer_edu.checks._candidates import tell
from segformer_edu.checks.core import Failure, Look, close, exercise, random, relation, short
from segformer_edu.checks.numbers import Quantity, predictions, puzzle_of
from segformer_edu.data.labels import VOID

Tensor = torch.Tensor

# 11.1

WEIGHT_HINTS = {
    "void-counted": "The shares of all classes add up to less than one. Which pixels are in your total, and should "
    "be in none?",
    "void-becomes-a-class": "One class has too many pixels. What becomes of the pixels without a class?",
    "pictures-averaged": "Each picture has the same say, however much of it is void. What should be added up first: "
    "pixels or shares?",
    "only-where-it-occurs": "You divide by the pixels of some pictures alone. Of which pixels is a share the share?",
    "class-left-out": "The pixels of one class are in no count. Which number marks the pixels that have none?",
    "one-map-counts": "A single class map has a say. How many are handed over?",
    "pictures-counted": "You count the pictures that show a class. Of what is the share asked for?",
    "mean-of-those-there": "Your mean leaves out the classes that do not occur. How many weights should have the mean "
    "1?",
    "counts-smoothed": "Each class has a pixel more than there are. What keeps the logarithm from zero already?",
    "counts-not-shares": "The weights hardly follow the classes. How large are the numbers that go into the logarithm?",
    "inverse-share": "A rare class gets a weight without bound. What stands in ENet's formula in place of the share?",
    "offset": "The formula adds a number to the share before the logarithm. Which one?",
    "not-inverted": "The common class has the largest weight. Which way round is the fraction?",
    "other-formula": "The weights fall as the share grows, but along another curve. What is done with the share, "
    "step by step?",
    "exponent-ignored": "The exponent makes no difference. Where does it come in?",
    "exponent-default": "Without a third argument the weights are already weakened, or made stronger. Which "
    "exponent changes nothing?",
    "exponent-elsewhere": "The exponent acts on something else than the finished fraction. On what?",
    "power-after-the-mean": "With an exponent the mean is not 1 any more. In which order do the last two steps come?",
    "not-normalised": "What is the mean of your weights, and what should it be?",
    "sum-one": "Your weights add up to one. What else should be one?",
    "other-normalisation": "The proportions are right and the scale is another one. Which number of the weights "
    "should be 1?",
    "mean-over-pixels": "You take the mean over pixels, so that a common class counts more in it. What is the mean "
    "taken over here?",
    "absent-class-lost": "The last class occurs in no pixel. How many weights should there be all the same?",
    "absent-class-zero": "A class that does not occur has another weight than the formula gives for a share of "
    "zero. Who changed it?",
    "void-number-fixed": "These class maps hold no void at all. Which pixels have you taken away?",
}


def _masks(seed: int = 0, classes: int = 6, void: tuple[int, ...] = (3, 17, 9)) -> Tensor:
    """Class maps (3, 5, 7) of uneven classes; in each picture so many pixels are void, and class 4 is in one alone."""
    generator = torch.Generator().manual_seed(seed)
    chances = torch.tensor([8.0, 4, 2, 1, 0, 0.7])[:classes]
    masks = torch.multinomial(chances, 105, replacement=True, generator=generator).reshape(3, 35)
    if classes > 4:
        masks[0, 20:22] = 4
        masks[1, 30] = 5
    masks[:, 28] = torch.tensor([3, 0, 2])
    for picture, count in enumerate(void):
        masks[picture, :count] = VOID
    return masks.reshape(3, 5, 7)


def _counts(masks: Tensor, classes: int) -> Tensor:
    return masks[masks != VOID].bincount(minlength=classes).double()


def _enet(shares: Tensor) -> Tensor:
    return 1 / torch.log(1.02 + shares)


def _mean_one(weights: Tensor) -> Tensor:
    return weights / weights.mean()


def _shares(masks: Tensor, classes: int) -> Iterator[tuple[str, Tensor]]:
    """Yield what may be taken for a share: a kind ("" for what is right), and the numbers."""
    counts = _counts(masks, classes)
    yield "", counts / counts.sum()
    yield "void-counted", counts / masks.numel()
    for label in (0, classes - 1):
        filled = _counts(masks.where(masks != VOID, label), classes)
        yield "void-becomes-a-class", filled / filled.sum()
    each = torch.stack([_counts(mask, classes) for mask in masks])
    yield "pictures-averaged", (each / each.sum(1, keepdim=True)).mean(0)
    yield "pictures-averaged", (each / masks[0].numel()).mean(0)
    there = (each > 0).double()
    for pixels in (each.sum(1, keepdim=True), torch.full((3, 1), masks[0].numel())):
        yield "only-where-it-occurs", counts / (there * pixels).sum(0)
    yield "only-where-it-occurs", there.mean(0)
    yield "pictures-counted", there.sum(0) / there.sum()
    for one in each:
        yield "one-map-counts", one / one.sum()
    for label in range(classes):
        others = counts.where(torch.arange(classes) != label, 0)
        yield "class-left-out", others / others.sum()
    yield "counts-not-shares", counts / classes
    yield "counts-not-shares", counts
    yield "counts-not-shares", counts / counts.max()
    yield "counts-not-shares", 100 * counts / counts.sum()
    yield "counts-not-shares", counts / counts.mean()


def _formulas(shares: Tensor) -> Iterator[tuple[str, Tensor]]:
    yield "", _enet(shares)
    for power in (0.5, 2.0, 0.25):
        yield "exponent-default", _enet(shares) ** power
    yield "exponent-default", torch.ones_like(shares)
    for small in (0.0, 1e-6, 1e-8, 1e-3, 0.02):
        yield "inverse-share", 1 / (shares + small)
    for offset in (1.0, 1.002, 1.01, 1.05, 1.1, 1.2, 1.5, 2.0, 0.02, 1e-6, 0.0):
        yield "offset", 1 / torch.log(offset + shares)
    yield "offset", 1 / torch.log(1.02 * shares)
    yield "offset", 1 / (1.02 + torch.log(shares))
    yield "offset", 1 / (0.02 + torch.log1p(shares))
    yield "not-inverted", torch.log(1.02 + shares)
    yield "not-inverted", shares
    for made in (
        1 - shares, -shares.log(), (1 / shares).log(), torch.log(1.02 + 1 / shares), 1 / shares.sqrt(),
        1 / torch.exp(1.02 + shares), (-shares).softmax(0), (1 / shares).softmax(0), 1 / (1.02 + shares),
        torch.log(1 / (1.02 + shares)), torch.exp(-shares), shares.median() / shares, torch.log1p(1 / shares),
        1 / (1 - 0.99**shares), (1 - shares) ** 2, 1 / shares**2,
    ):  # fmt: skip
        yield "other-formula", made


def _normalisations(weights: Tensor, shares: Tensor) -> Iterator[tuple[str, Tensor]]:
    yield "", _mean_one(weights)
    yield "not-normalised", weights
    yield "sum-one", weights / weights.sum()
    known = shares / shares.sum()
    yield "mean-over-pixels", weights / (weights * known).sum()
    for scale in (
        weights.max(), weights.min(), weights.median(), weights.norm(), weights.square().mean().sqrt(), weights[0],
        weights.quantile(0.5), weights.std(), weights.log().mean().exp(),
    ):  # fmt: skip
        yield "other-normalisation", weights / scale
    yield "other-normalisation", weights.softmax(0)
    yield "other-normalisation", len(weights) * weights.softmax(0)
    yield "other-normalisation", weights - weights.mean() + 1
    yield "other-normalisation", (weights - weights.mean()) / weights.std()
    yield "other-normalisation", (weights - weights.min()) / (weights.max() - weights.min())


def _weights_of(masks: Tensor, classes: int) -> Iterator[tuple[str, Tensor]]:
    """Yield the weights of known mistakes, then those of two at a time; the first of them gives the name."""
    for mistakes in (1, 2):
        for counted, shares in _shares(masks, classes):
            for formula, weights in _formulas(shares):
                for scaled, made in _normalisations(weights, shares):
                    if (counted != "") + (formula != "") + (scaled != "") == mistakes:
                        yield counted or formula or scaled, made
    each = [_counts(one, classes) / (one != VOID).sum().clamp(min=1) for one in masks]
    yield "pictures-averaged", torch.stack([_mean_one(_enet(shares)) for shares in each]).mean(0)
    counts = _counts(masks, classes) + 1
    yield "counts-smoothed", _mean_one(_enet(counts / counts.sum()))
    _, shares = next(_shares(masks, classes))
    for offset in range(100, 400):
        yield "offset", _mean_one(1 / torch.log(offset / 100 + shares))


def _exponents(masks: Tensor, classes: int, power: float) -> Iterator[tuple[str, Tensor]]:
    shares = _counts(masks, classes) / (masks != VOID).sum()
    weights = _enet(shares)
    yield "exponent-ignored", _mean_one(weights)
    yield "power-after-the-mean", _mean_one(weights) ** power
    yield "exponent-elsewhere", power * _mean_one(weights)
    yield "not-normalised", weights**power
    for made in (
        _enet(shares**power), 1 / torch.log((1.02 + shares) ** power), 1 / torch.log(1.02**power + shares),
        weights ** (1 / power), weights ** (-power), weights * power, weights**power * power, _enet(shares * power),
        torch.exp(power * weights), weights + power, _enet(_mean_one_sum(shares**power)), power**weights,
        1 / torch.log(1.02 + shares) ** 2 / power, _enet(shares) ** (power * power),
    ):  # fmt: skip
        yield "exponent-elsewhere", _mean_one(made)
    for fixed in (0.5, 2.0, 0.25):
        yield "exponent-ignored", _mean_one(weights**fixed)
    mixed = (1 - power) + power * _mean_one(weights)
    yield "exponent-elsewhere", mixed


def _mean_one_sum(shares: Tensor) -> Tensor:
    return shares / shares.sum()


@exercise("Weights of the classes", WEIGHT_HINTS)
def class_weights(look: Look, answer: Any) -> None:
    """Check `class_weights(masks, num_classes, exponent=1.0)`, a function."""
    look.exists(answer)
    masks = _masks()
    yours = _weights(look, answer, masks, 6)
    look.done("runs, one number a class")
    look.side_effects(answer, _masks(), 6)
    look.done("no side effects")
    target = _mean_one(_enet(_counts(masks, 6) / (masks != VOID).sum()))
    tell(look, yours, target, _weights_of(masks, 6), "three class maps, exponent 1", _tolerance(yours))
    look.done("right with exponent 1")
    for power in (0.5, 3.0):
        yours = _weights(look, answer, masks, 6, power)
        target = _mean_one(_enet(_counts(masks, 6) / (masks != VOID).sum()) ** power)
        tell(look, yours, target, _exponents(masks, 6, power), f"exponent {power}", _tolerance(yours))
    look.done("right with other exponents")
    _absent(look, answer)
    look.done("a class that does not occur")
    whole = _masks(seed=1, void=(0, 0, 0))
    yours = _weights(look, answer, whole, 6)
    target = _mean_one(_enet(_counts(whole, 6) / whole.numel()))
    for label in range(6):
        counts = _counts(whole, 6)
        counts[label] = 0
        if close(yours, _mean_one(_enet(counts / counts.sum())), _tolerance(yours)):
            look.wrong("void-number-fixed", f"The pixels of class {label} were not counted.")
    tell(look, yours, target, (), "class maps without void", _tolerance(yours))
    look.done("class maps without void")


def _absent(look: Look, answer: Callable[..., Any]) -> None:
    """Two classes more than occur: one between the others, and the last one."""
    masks = _masks(seed=2)
    masks = masks.where(masks != 4, 1)
    yours = _weights(look, answer, masks, 7)
    shares = _counts(masks, 7) / (masks != VOID).sum()
    weights, there = _enet(shares), shares > 0
    candidates = [
        ("absent-class-zero", _mean_one(weights * there)),
        ("absent-class-zero", weights * there / weights[there].mean()),
        ("absent-class-zero", _mean_one(weights.where(there, 1))),
        ("absent-class-zero", (weights / weights[there].mean()).where(there, 1)),
        ("mean-of-those-there", weights / weights[there].mean()),
        ("counts-smoothed", _mean_one(_enet(_counts(masks, 7).clamp(min=1) / (masks != VOID).sum()))),
        ("absent-class-zero", _mean_one(weights.where(there, weights[there].max()))),
    ]
    tell(look, yours, _mean_one(weights), candidates, "two classes do not occur", _tolerance(yours))


def _weights(look: Look, answer: Callable[..., Any], masks: Tensor, classes: int, *power: float) -> Tensor:
    yours = look.output(answer, masks.clone(), classes, *power, dtype=None)
    if not yours.is_floating_point():
        look.wrong("wrong-dtype", f"The weights are {yours.dtype}; expected are floating-point numbers.")
    present = int(masks[masks != VOID].max()) + 1
    occurring = len(masks[masks != VOID].unique())
    short = {"absent-class-lost": (present,)} if present < classes else {}
    if occurring < classes and tuple(yours.shape) == (occurring,):
        short = {"absent-class-lost": (occurring,)}
    look.shape(yours, (classes,), "one number for each class", short)
    return yours.detach()


def _tolerance(yours: Tensor) -> float:
    """float32 is welcome: near 1.02 a logarithm loses two of its digits."""
    return 1e-6 if yours.dtype == torch.float64 else 3e-5


# 11.2

_THREE, _FOUR = comb(6, 3), comb(8, 4)

predictions(
    "praise",
    title="Praise by chance",
    quantities={
        "three and three": Quantity(
            1 / _THREE,
            {
                "coin": (0.5**3, 0.5**6, 0.5, 0.5**9),
                "orders-inside": (1 / 720, 1 / 36, 1 / 6, 1 / 120, 1 / 9),
                "both-ends": 2 / _THREE,
                "ways-not-chance": _THREE,
            },
            tolerance=5e-3,
        ),
        "four and four": Quantity(
            1 / _FOUR,
            {
                "coin": (0.5**4, 0.5**8),
                "orders-inside": (1 / 40320, 1 / 576, 1 / 24, 1 / 1680, 1 / 16),
                "both-ends": 2 / _FOUR,
                "ways-not-chance": _FOUR,
            },
            tolerance=5e-3,
        ),
        "told apart, three and three": Quantity(
            2 / _THREE, {"one-end": 1 / _THREE, "coin": (2 * 0.5**3, 0.5)}, tolerance=5e-3
        ),
        "praised by both judges": Quantity(
            1 / _THREE**2,
            {"judges-added": (2 / _THREE, 1 / (2 * _THREE)), "one-judge": 1 / _THREE, "twelve-runs": 1 / comb(12, 6)},
            tolerance=5e-3,
        ),
        "one of ten praised": Quantity(
            1 - (1 - 1 / _THREE) ** 10,
            {
                "expected-number": 10 / _THREE,
                "none-praised": (1 - 1 / _THREE) ** 10,
                "all-praised": (1 / _THREE**10),
                "exactly-one": 10 / _THREE * (1 - 1 / _THREE) ** 9,
                "one-judge": 1 / _THREE,
            },
            tolerance=5e-3,
        ),
    },
    hints={
        "coin": "Are the comparisons independent of each other, like coins? What do you know if one run is above "
        "all three others?",
        "orders-inside": "You tell apart orders within one group. Does the rule ask which of the three is the best?",
        "both-ends": "You count both ends, all above and all below. Which of them does the question ask for?",
        "ways-not-chance": "That is how many ways there are. How many of them count, and what is the chance then?",
        "one-end": "That is the chance to be praised. In which other case does the rule tell a piece apart?",
        "judges-added": "Two things have to happen together. Are their chances added?",
        "one-judge": "That is one piece and one judge. How many does this entry speak of?",
        "twelve-runs": "The runs of two judges are not compared with each other. How many comparisons are there, of "
        "how many runs?",
        "expected-number": "That is how many are praised on average. How likely is it that there is at least one?",
        "none-praised": "That is the chance that none is praised. What is asked for?",
        "all-praised": "That is the chance that all ten are praised. How many are asked for?",
        "exactly-one": "That leaves out the cases with two and more. What is the opposite of at least one?",
    },
)

# 11.3

COEFFICIENTS = (3.4445, -4.7750, 2.0315)

ROUND_HINTS = {
    "wrong-side": "Two matrices do not fit, or fit only where the matrix is a square. Which side of the product has "
    "the transposed one in the text?",
    "not-turned-back": "A tall matrix comes back lying on its side. Which step has to be undone at the end?",
    "not-scaled": "The first round begins with the matrix as it came. How large may its singular values be?",
    "other-norm": "The matrix is scaled by another number. Which norm is never smaller than the largest singular "
    "value, and cheap?",
    "scaled-every-round": "How often is the matrix divided by its norm: once, or in every round?",
    "coefficients-exchanged": "Each coefficient has its power. Which of the three belongs to the product of five "
    "matrices?",
    "other-coefficients": "The three products are there, with other factors. Which three numbers does the stub give?",
    "coefficient-sign": "One of the three coefficients is negative. Is its sign there once, or twice?",
    "term-missing": "The polynomial has three terms. Which of them does your round leave out?",
    "powers-of-entries": "You raise the entries to a power, one by one. What is the product of a matrix with itself?",
    "changed-too-early": "A later term already sees what an earlier one has changed. Of which matrix are all three "
    "terms made?",
    "product-made-once": "The first round is right, the second is not. Which product has to be made anew in each "
    "round?",
    "round-too-many": "Count the rounds, with one asked for. How many are there?",
    "round-too-few": "A round is missing. At which number does your count begin and end?",
    "rounds-fixed": "The number of rounds does not follow the argument. Where is it written down?",
    "exact-decomposition": "That is the exact matrix, with all singular values at 1. What is asked for is what "
    "products alone make of it. Where do the rounds leave a value?",
    "scaled-back": "The result has the size of the matrix that came in. Should the step depend on the gradient's "
    "length?",
    "step-length-inside": "The result is scaled by a factor of the sides. Whose task is that in the chapter: the "
    "rounds', or the optimiser's?",
    "power-too-high": "A term has more factors than the polynomial of the text. What is the highest power in it?",
    "reshaped": "A tall matrix was read in another order, and not turned. Which operation exchanges rows and columns?",
    "type-changed": "A matrix of float32 comes back as one of another type. Which line changes it, and which one back?",
    "in-half-precision": "The digits are those of 16 bits. Which line changes the type? The exercise asks for the "
    "matrix's own.",
    "zero-matrix": "A matrix of zeros does not come back as zeros. By what is it divided?",
}


def _rounds(matrix: Tensor, steps: int, scale: Tensor | None = None, how: str = "") -> Tensor:
    """The rounds of the chapter, or of a known mistake."""
    x = matrix / (matrix.norm() if scale is None else scale)
    gram = x @ x.mT
    for number in range(steps):
        if how == "scaled-every-round" and number:
            x = x / x.norm()
        gram = gram if how == "product-made-once" else x @ x.mT
        x = _round(x, x.mT @ x if how == "wrong-side" else gram, how)
    return x


def _round(x: Tensor, gram: Tensor, how: str) -> Tensor:
    """One round, or what a known mistake makes of it."""
    a, b, c = COEFFICIENTS
    third, fifth = gram @ x, gram @ gram @ x
    sum_of_two = a * x + b * third
    powers = {"exchanged": (b, a, c), "exchanged 2": (a, c, b), "exchanged 3": (c, b, a), "exchanged 4": (b, c, a),
              "exchanged 5": (c, a, b), "sign": (a, -b, c), "sign 2": (a, b, -c), "sign 3": (a, -b, -c),
              "sign 4": (-a, b, c), "without 1": (0, b, c), "without 3": (a, 0, c), "without 5": (a, b, 0),
              "one for a": (1, b, c), "cubic": (1.5, -0.5, 0)}  # fmt: skip
    if how in powers:
        first, second, last = powers[how]
        return first * x + second * third + last * fifth
    if how == "early 5":
        y = a * x + b * gram @ (a * x)
        return y + c * gram @ gram @ y
    ways: dict[str, Callable[[], Tensor]] = {
        "entries": lambda: a * x + b * x**3 + c * x**5,
        "entries 2": lambda: sum_of_two + c * gram**2 @ x,
        "entries 3": lambda: sum_of_two + c * third**2,
        "early": lambda: sum_of_two + c * gram @ gram @ sum_of_two,
        "early 2": lambda: sum_of_two + c * gram @ third @ third.mT @ x,
        "early 3": lambda: a * x + b * (a * x) @ (a * x).mT @ (a * x),
        "early 4": lambda: a * x + b * gram @ (a * x) + c * gram @ gram @ (a * x),
        "early 6": lambda: sum_of_two + c * sum_of_two @ sum_of_two.mT @ sum_of_two @ sum_of_two.mT @ sum_of_two,
        "seventh": lambda: sum_of_two + c * gram @ gram @ gram @ x,
        "seventh 2": lambda: a * x + b * gram @ gram @ x + c * gram @ gram @ gram @ x,
        "ninth": lambda: sum_of_two + c * gram @ gram @ gram @ gram @ x,
    }
    return ways.get(how, lambda: sum_of_two + c * fifth)()


KINDS_OF_ROUND = {
    **{how: how for how in ("scaled-every-round", "product-made-once")},
    **{how: "coefficients-exchanged" for how in ("exchanged", *(f"exchanged {number}" for number in range(2, 6)))},
    **{how: "coefficient-sign" for how in ("sign", "sign 2", "sign 3", "sign 4")},
    **{how: "term-missing" for how in ("without 1", "without 3", "without 5", "one for a", "cubic")},
    **{how: "powers-of-entries" for how in ("entries", "entries 2", "entries 3")},
    **{how: "power-too-high" for how in ("seventh", "seventh 2", "ninth")},
    **{how: "changed-too-early" for how in ("early", *(f"early {number}" for number in range(2, 7)))},
}


def _scales(matrix: Tensor) -> Iterator[tuple[str, Tensor]]:
    yield "not-scaled", torch.tensor(1.0)
    yield "other-norm", torch.linalg.matrix_norm(matrix, 2)
    for axis in (0, 1):
        yield "other-norm", matrix.norm(dim=axis, keepdim=True)
        yield "other-norm", matrix.abs().sum(axis).max()
        yield "other-norm", matrix.abs().sum(axis, keepdim=True)
    for scale in (
        matrix.abs().max(), matrix.abs().sum(), matrix.norm() ** 2, matrix.norm().sqrt(), matrix.std(), matrix.max(),
        matrix.square().mean().sqrt(), torch.linalg.matrix_norm(matrix, "nuc"), matrix.sum(), matrix.abs().mean(),
        matrix.std(unbiased=False), matrix.shape[0] ** 0.5 * torch.ones(()), matrix.shape[1] ** 0.5 * torch.ones(()),
        torch.linalg.matrix_norm(matrix, -2), 2 * matrix.norm(), matrix.norm() / 2,
    ):  # fmt: skip
        yield "other-norm", scale


def _spanned(matrix: Tensor, yours: Tensor, steps: int) -> Iterator[tuple[str, Tensor]]:
    """Yield what one round with any three coefficients comes nearest to."""
    x = matrix / matrix.norm()
    powers = torch.stack([x, x @ x.mT @ x, x @ x.mT @ x @ x.mT @ x]).flatten(1).T
    if steps == 1 and relation(yours, _rounds(matrix, 1))[0] == "unknown" and bool(yours.isfinite().all()):
        found = powers @ torch.linalg.lstsq(powers, yours.reshape(-1, 1)).solution
        yield "other-coefficients", found.view_as(matrix)


def _polar(matrix: Tensor) -> Tensor:
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    nearest: Tensor = u @ v
    return nearest


def _ways(matrix: Tensor, steps: int) -> Iterator[tuple[str, Tensor]]:
    """Yield the results of known mistakes."""
    for how, kind in KINDS_OF_ROUND.items():
        yield kind, _rounds(matrix, steps, how=how)
    if matrix.shape[0] == matrix.shape[1]:
        yield "wrong-side", _rounds(matrix, steps, how="wrong-side")
    for kind, scale in _scales(matrix):
        yield kind, _rounds(matrix, steps, scale)
    for kind, scale in _scales(matrix):
        for how, other in KINDS_OF_ROUND.items():
            yield other if kind == "other-norm" else kind, _rounds(matrix, steps, scale, how)
    for count in range(steps + 1, steps + 3):
        yield "round-too-many", _rounds(matrix, count)
    for count in range(max(0, steps - 2), steps):
        yield "round-too-few", _rounds(matrix, count)
    yield "rounds-fixed", _rounds(matrix, 5)
    yield "reshaped", _rounds(matrix.reshape(matrix.shape[::-1]), steps).reshape(matrix.shape)
    yield "reshaped", _rounds(matrix.reshape(matrix.shape[::-1]), steps).T
    yield "reshaped", _rounds(matrix.T, steps).reshape(matrix.shape)
    for more in (1.0, 1e-2, 1e-3):
        yield "other-norm", _rounds(matrix, steps, matrix.norm() + more)
    yield "exact-decomposition", _polar(matrix)
    right = _rounds(matrix, steps)
    yield "scaled-back", right * matrix.norm()
    for side in (max(matrix.shape), min(matrix.shape), *matrix.shape, max(1, matrix.shape[0] / matrix.shape[1])):
        for factor in (0.2 * side**0.5, side**0.5, 0.2 * side, side**-0.5):
            yield "step-length-inside", right * factor


@exercise("The rounds of Muon", ROUND_HINTS)
def rounds(look: Look, answer: Any) -> None:
    """Check `rounds(matrix, steps=5)`, a function."""
    look.exists(answer)
    wide, tall = random(5, 7), random(7, 4, seed=1)
    _fitting(look, answer, wide)
    look.side_effects(answer, wide.clone(), 1)
    look.done("runs, no side effects")
    for matrix, steps in (
        (wide, 1),
        (0.02 * wide, 1),
        (random(6, 6, seed=2), 1),
        (wide, 2),
        (tall, 1),
        (tall, 3),
        (wide, 5),
    ):
        yours = _rounded(look, answer, matrix, steps)
        at = f"a matrix of {matrix.shape[0]}×{matrix.shape[1]}, {steps} round{'s' if steps > 1 else ''}"
        target = _rounds(matrix, steps)
        if not close(yours, target, 1e-3) and close(yours, target, 0.04):
            candidates = [(kind, made) for kind, made in _ways(matrix, steps) if close(yours, made)]
            if not candidates and close(_bits(matrix, steps), yours, 0.04):
                look.wrong("in-half-precision", f"The results differ in the third digit ({at}).")
        tell(look, yours, target, [*_ways(matrix, steps), *_spanned(matrix, yours, steps)], at)
        look.done(at)
    _other_matrices(look, answer, wide)
    work = [_work(look, answer, random(*shape)) for shape in ((40, 3), (3, 40))]
    if work[0] > 3 * work[1] > 0:
        look.remark(
            "A matrix of 40×3 takes many times the work of one of 3×40, for the same numbers. The chapter turns a tall "
            "matrix first, so that the products are small ones."
        )


def _other_matrices(look: Look, answer: Callable[..., Any], wide: Tensor) -> None:
    """Look at the default number of rounds, a matrix of float32, and one of zeros."""
    yours = look.output(answer, 5 * wide)
    tell(look, yours, _rounds(wide, 5), [("rounds-fixed", _rounds(wide, n)) for n in range(12)], "no number of rounds")
    look.done("five rounds where none are asked for")
    single = look.output(answer, wide.float(), 3, dtype=None)
    if single.dtype != torch.float32:
        look.wrong("type-changed", f"float32 went in, {short(single.dtype)} came out.")
    look.done("float32 stays float32")
    zeros = look.output(answer, torch.zeros(3, 4, dtype=torch.float64), 5)
    if bool((zeros != 0).any()):
        look.wrong("zero-matrix", f"The largest number is {float(zeros.abs().max())}.")
    look.done("zeros stay zeros")


def _fitting(look: Look, answer: Callable[..., Any], wide: Tensor) -> None:
    """End where the products do not fit: with a square matrix they do, and the values tell what was done."""
    made = look.attempt(answer, wide.clone(), 1)
    if isinstance(made, Failure) and re.search("cannot be multiplied|must match|size mismatch|expand", made.words):
        square = random(6, 6, seed=2)
        other = look.attempt(answer, square.clone(), 1)
        if isinstance(other, Tensor) and other.shape == square.shape:
            for kind, found in _ways(square, 1):
                if kind in ("wrong-side", "powers-of-entries") and close(other.double(), found):
                    look.wrong(kind, f"With 5 rows and 7 columns: {made}")
        look.wrong("wrong-side", f"With 5 rows and 7 columns: {made}")


def _rounded(look: Look, answer: Callable[..., Any], matrix: Tensor, steps: int) -> Tensor:
    yours = look.output(answer, matrix.clone(), steps, dtype=None)
    if yours.dtype in (torch.bfloat16, torch.float16):
        look.wrong("in-half-precision", f"float64 went in, {yours.dtype} came out.")
    if yours.dtype != torch.float64:
        look.wrong("wrong-dtype", f"float64 went in, {yours.dtype} came out.")
    look.shape(yours, matrix.shape, wrong={"not-turned-back": tuple(matrix.shape)[::-1]})
    return yours.detach()


def _bits(matrix: Tensor, steps: int) -> Tensor:
    return _rounds(matrix.bfloat16(), steps).double()


def _work(look: Look, answer: Callable[..., Any], matrix: Tensor) -> int:
    with FlopCounterMode(display=False) as counter:
        look.output(answer, matrix, 3)
    return int(counter.get_total_flops())


# Warm-up

_MASK = torch.tensor([[0, 2, VOID], [1, VOID, 2]])
_EACH = torch.tensor([0.5, 2.0, 3.0])
_COUNTED = _MASK != VOID
_WEIGHED = _EACH[_MASK.where(_COUNTED, 0)] * _COUNTED

puzzle_of(
    "say of a pixel",
    title="What each pixel counts",
    target=lambda: _WEIGHED,
    wrong={
        "void-has-a-say": (
            lambda: _EACH[_MASK.where(_COUNTED, 0)],
            "The pixels without a class weigh as much as those of class 0. How much should they weigh?",
        ),
        "void-has-the-last-say": (
            lambda: _EACH[_MASK.clamp(max=2)],
            "The pixels without a class weigh as much as those of the last class. Should they have a say at all?",
        ),
        "void-has-weight-one": (
            lambda: torch.where(_COUNTED, _WEIGHED, 1.0),
            "The pixels without a class weigh 1. Which number leaves a pixel out of a sum?",
        ),
        "weights-forgotten": (
            lambda: _COUNTED * torch.ones(2, 3),
            "Every pixel with a class counts the same. Where do the three weights come in?",
        ),
        "weight-below-the-line": (
            lambda: _COUNTED / _EACH[_MASK.where(_COUNTED, 0)],
            "A pixel of a heavy class counts little. What is done with its weight?",
        ),
        "mask-inverted": (
            lambda: [_EACH[_MASK.where(_COUNTED, 0)] * ~_COUNTED, _EACH[0] * ~_COUNTED],
            "Only the pixels without a class count. For which pixels is your condition true?",
        ),
        "void-number-kept": (
            lambda: torch.where(_COUNTED, _WEIGHED, float(VOID)),
            "The pixels without a class have the number of void as a weight. Which number leaves one out of a sum?",
        ),
        "numbers-multiplied": (
            lambda: [_MASK * _COUNTED * _EACH, _MASK * _EACH],
            "You multiply class numbers with weights. What is a class number used for here?",
        ),
        "pixels-without-class-dropped": (
            lambda: _EACH[_MASK[_COUNTED]],
            "Two of six pixels are gone. How can they stay in the map and count for nothing?",
        ),
        "already-a-mean": (
            lambda: _WEIGHED / _WEIGHED.sum(),
            "Your weights add up to one. Is the mean asked for, or what each pixel counts in it?",
        ),
    },
)
