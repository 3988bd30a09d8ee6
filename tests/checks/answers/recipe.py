"""Answers to the exercises of chapter 11."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from catalogue import right, right_value, wrong, wrong_value

from segformer_edu.training.muon import orthogonalized
from segformer_edu.training.plans import balanced_weights

VOID = 255

# 11.1 Right


@right("class_weights", "the chapter's function on counts")
def by_counts(masks, num_classes, exponent=1.0):
    return balanced_weights(masks[masks != VOID].bincount(minlength=num_classes), exponent)


@right("class_weights", "a loop over classes, float32")
def by_loop(masks, num_classes, exponent=1.0):
    total = (masks != VOID).sum()
    weights = torch.tensor([1 / math.log(1.02 + ((masks == k).sum() / total).item()) for k in range(num_classes)])
    return weights.pow(exponent) / weights.pow(exponent).mean()


@right("class_weights", "NumPy")
def by_numpy(masks, num_classes, exponent=1.0):
    numbers = masks.numpy()
    counts = np.bincount(numbers[numbers < num_classes], minlength=num_classes)
    weights = np.log(1.02 + counts / counts.sum()) ** -exponent
    return torch.from_numpy(weights * num_classes / weights.sum())


@right("class_weights", "one-hot, another base of the logarithm")
def by_one_hot(masks, num_classes, exponent=1.0):
    shares = F.one_hot(masks.where(masks != VOID, num_classes), num_classes + 1)[..., :-1].double().sum((0, 1, 2))
    weights = torch.log2(shares / shares.sum() + 1.02).reciprocal() ** exponent
    return weights / weights.mean()


@right("class_weights", "a histogram")
def by_histogram(masks, num_classes, exponent=1.0):
    counts = torch.histc(masks.double(), bins=num_classes, min=-0.5, max=num_classes - 0.5)
    weights = F.normalize(1 / torch.log(1.02 + counts / counts.sum()) ** exponent, p=1, dim=0)
    return weights * num_classes


# 11.1 Wrong: one step exchanged, or two


def counts_of(masks, num_classes):
    return masks[masks != VOID].bincount(minlength=num_classes).double()


def shares_of(masks, num_classes):
    counts = counts_of(masks, num_classes)
    return counts / counts.sum()


def weights_with(
    shares=shares_of,
    formula=lambda shares: 1 / torch.log(1.02 + shares),
    power=lambda weights, exponent: weights**exponent,
    scaled=lambda weights, shares: weights / weights.mean(),
    default=1.0,
):
    """The function with a step of its own."""

    def made(masks, num_classes, exponent=default):
        found = shares(masks, num_classes)
        return scaled(power(formula(found), exponent), found)

    return made


def of_each_picture(masks, num_classes):
    return torch.stack([shares_of(mask, num_classes) for mask in masks]).mean(0)


def where_it_occurs(masks, num_classes):
    counts = torch.stack([counts_of(mask, num_classes) for mask in masks])
    return counts.sum(0) / ((counts > 0) * counts.sum(1, keepdim=True)).sum(0)


def filled(label):
    return lambda masks, num_classes: shares_of(masks.where(masks != VOID, label % num_classes), num_classes)


def only_present(masks, num_classes):
    counts = masks[masks != VOID].bincount().double()
    return counts / counts.sum()


def without_zeros(masks, num_classes):
    counts = masks[masks != VOID].unique(return_counts=True)[1].double()
    return counts / counts.sum()


def absent_zero(weights, shares):
    weights = weights * (shares > 0)
    return weights / weights.mean()


def absent_one(weights, shares):
    there = shares > 0
    return (weights / weights[there].mean()).where(there, 1)


def last_is_void(masks, num_classes):
    counts = masks.where(masks != VOID, num_classes - 1).flatten().bincount(minlength=num_classes).double()
    return counts / counts.sum()


def largest_is_void(masks, num_classes):
    counts = masks[masks != masks.max()].bincount(minlength=num_classes).double()
    return counts / counts.sum()


FUNCTIONS = {
    "void-counted": [
        weights_with(lambda m, n: counts_of(m, n) / m.numel()),
        weights_with(lambda m, n: torch.bincount(m.flatten(), minlength=256)[:n].double() / m.numel(),
                     scaled=lambda w, s: w),
        weights_with(lambda m, n: torch.stack([(m == k).double().mean() for k in range(n)])),
    ],
    "void-becomes-a-class": [weights_with(filled(0)), weights_with(filled(-1)), weights_with(last_is_void),
                             weights_with(lambda m, n: shares_of(m.clamp(max=n - 1), n))],
    "pictures-averaged": [
        weights_with(of_each_picture),
        weights_with(lambda m, n: torch.stack([counts_of(k, n) / k.numel() for k in m]).mean(0) * 0
                     + of_each_picture(m, n), scaled=lambda w, s: w / w.sum()),
    ],
    "only-where-it-occurs": [weights_with(where_it_occurs), weights_with(where_it_occurs, lambda s: s.median() / s)],
    "counts-not-shares": [weights_with(counts_of), weights_with(lambda m, n: 100 * shares_of(m, n)),
                          weights_with(lambda m, n: counts_of(m, n) / counts_of(m, n).max())],
    "inverse-share": [
        weights_with(formula=lambda s: 1 / s),
        weights_with(formula=lambda s: 1 / (s + 1e-6)),
        weights_with(counts_of, lambda c: c.sum() / (len(c) * c), scaled=lambda w, s: w),
        weights_with(counts_of, lambda c: 1 / c),
        weights_with(lambda m, n: counts_of(m, n) / m.numel(), lambda s: 1 / s),
        weights_with(formula=lambda s: 1 / (s + 0.02)),
    ],
    "offset": [
        weights_with(formula=lambda s: 1 / torch.log(1 + s)),
        weights_with(formula=lambda s: 1 / torch.log1p(1.02 + s)),
        weights_with(formula=lambda s: 1 / torch.log(1.2 + s)),
        weights_with(formula=lambda s: 1 / torch.log(1.02 * s)),
        weights_with(formula=lambda s: 1 / torch.log(s)),
        weights_with(formula=lambda s: 1 / torch.log(1.1 + s), scaled=lambda w, s: w / w.max()),
    ],
    "not-inverted": [weights_with(formula=lambda s: torch.log(1.02 + s)), weights_with(formula=lambda s: s)],
    "other-formula": [
        weights_with(formula=lambda s: 1 - s), weights_with(formula=lambda s: -torch.log(s)),
        weights_with(formula=lambda s: 1 / s.sqrt()), weights_with(formula=lambda s: torch.log(1.02 + 1 / s)),
        weights_with(formula=lambda s: 1 / torch.exp(1.02 + s)), weights_with(formula=lambda s: 1 / (1.02 + s)),
        weights_with(formula=lambda s: s.median() / s, scaled=lambda w, s: w - w.mean() + 1),
    ],
    "exponent-ignored": [weights_with(power=lambda w, e: w), weights_with(power=lambda w, e: w if e == 1 else w**0.5)],
    "exponent-default": [weights_with(default=0.5), weights_with(default=2.0), weights_with(default=0.0)],
    "exponent-elsewhere": [
        weights_with(power=lambda w, e: 1 / torch.log(1.02 + (torch.exp(1 / w) - 1.02) ** e)),
        weights_with(power=lambda w, e: w * e + 0.0 if e == 1 else w ** (1 / e)),
        weights_with(power=lambda w, e: 1 / torch.log(1.02 + e * (torch.exp(1 / w) - 1.02))),
        weights_with(power=lambda w, e: w if e == 1 else w**-e),
        lambda m, n, e=1.0: weights_with()(m, n) * e,
    ],
    "power-after-the-mean": [weights_with(power=lambda w, e: (w / w.mean()) ** e,
                                          scaled=lambda w, s: w)],
    "not-normalised": [weights_with(scaled=lambda w, s: w)],
    "sum-one": [weights_with(scaled=lambda w, s: w / w.sum()), weights_with(scaled=lambda w, s: F.normalize(w, 1, 0))],
    "other-normalisation": [
        weights_with(scaled=lambda w, s: w / w.max()), weights_with(scaled=lambda w, s: w / w.min()),
        weights_with(scaled=lambda w, s: w / w.median()), weights_with(scaled=lambda w, s: F.normalize(w, dim=0)),
        weights_with(scaled=lambda w, s: w.softmax(0)), weights_with(scaled=lambda w, s: w / w[0]),
    ],
    "mean-over-pixels": [weights_with(scaled=lambda w, s: w / (w * s).sum())],
    "absent-class-lost": [weights_with(only_present), weights_with(without_zeros)],
    "absent-class-zero": [weights_with(scaled=absent_zero), weights_with(scaled=absent_one)],
    "void-number-fixed": [weights_with(largest_is_void)],
    "scaled-by-constant": [weights_with(scaled=lambda w, s: 3 * w / w.mean())],
}  # fmt: skip
for kind, functions in FUNCTIONS.items():
    for number, function in enumerate(functions):
        wrong_value("class_weights", kind, function, str(number))


@wrong("class_weights", "no-return")
def gives_nothing(masks, num_classes, exponent=1.0):
    balanced_weights(counts_of(masks, num_classes), exponent)


@wrong("class_weights", "wrong-type")
def gives_a_list(masks, num_classes, exponent=1.0):
    return balanced_weights(counts_of(masks, num_classes), exponent).tolist()


@wrong("class_weights", "changes-input")
def void_overwritten(masks, num_classes, exponent=1.0):
    counts = counts_of(masks, num_classes)
    masks[masks == VOID] = 0
    return balanced_weights(counts, exponent)


@wrong("class_weights", "signature", "could not run")
def other_arguments(masks):
    return balanced_weights(counts_of(masks, 6))


@wrong("class_weights", "raises", "could not run")
def one_hot_with_void(masks, num_classes, exponent=1.0):
    return balanced_weights(F.one_hot(masks, num_classes).sum((0, 1, 2)), exponent)


# 11.2

PRAISE = {
    "three and three": 1 / 20,
    "four and four": 1 / 70,
    "told apart, three and three": 1 / 10,
    "praised by both judges": 1 / 400,
    "one of ten praised": 1 - 0.95**10,
}
right_value("praise", "fractions", PRAISE)
right_value("praise", "combinations", PRAISE | {"three and three": 1 / math.comb(6, 3), "four and four": 0.0143})
right_value("praise", "factorials", PRAISE | {"three and three": math.factorial(3) ** 2 / math.factorial(6)})
right_value("praise", "rounded", PRAISE | {"one of ten praised": 0.401})
for entry, kind, value in (
    ("three and three", "coin", 0.125),
    ("three and three", "coin", 1 / 64),
    ("three and three", "orders-inside", 1 / 720),
    ("three and three", "both-ends", 0.1),
    ("three and three", "per-cent", 5),
    ("three and three", "ways-not-chance", 20),
    ("four and four", "coin", 1 / 16),
    ("four and four", "both-ends", 1 / 35),
    ("four and four", "orders-inside", 1 / 24),
    ("told apart, three and three", "one-end", 0.05),
    ("praised by both judges", "judges-added", 0.1),
    ("praised by both judges", "judges-added", 1 / 40),
    ("praised by both judges", "one-judge", 0.05),
    ("praised by both judges", "twelve-runs", 1 / 924),
    ("one of ten praised", "expected-number", 0.5),
    ("one of ten praised", "none-praised", 0.95**10),
    ("one of ten praised", "all-praised", 0.05**10),
    ("one of ten praised", "exactly-one", 0.5 * 0.95**9),
    ("three and three", "factor-of-thousand", 50),
    ("one of ten praised", "too-large", 0.7),
):
    wrong_value("praise", kind, PRAISE | {entry: value})

# 11.3 Right

A, B, C = 3.4445, -4.7750, 2.0315


@right("rounds", "the chapter's, in float64")
def as_in_the_chapter(matrix, steps=5):
    x = matrix.T if len(matrix) > matrix.shape[1] else matrix
    x = x / x.norm().clamp(min=1e-7)
    for _ in range(steps):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=B, alpha=C), x, beta=A)
    return x.T if len(matrix) > matrix.shape[1] else x


@right("rounds", "Keller Jordan's names")
def zeropower(G, steps=5):
    X = G.clone()
    if G.size(-2) > G.size(-1):
        X = X.mT
    X = X / (X.norm(dim=(-2, -1), keepdim=True) + 1e-9)
    for _ in range(steps):
        M = X @ X.mT
        N = B * M + C * M @ M
        X = A * X + N @ X
    return X.mT if G.size(-2) > G.size(-1) else X


@right("rounds", "singular values by their polynomial")
def by_decomposition(matrix, steps=5):
    u, s, v = torch.linalg.svd(matrix, full_matrices=False)
    s = s / s.norm().clamp(min=1e-9)
    for _ in range(steps):
        s = A * s + B * s**3 + C * s**5
    return u * s @ v


@right("rounds", "einsum, and the small side by the transpose")
def by_einsum(matrix, steps=5):
    tall = matrix.shape[0] > matrix.shape[1]
    x = F.normalize(matrix.flatten(), dim=0).view_as(matrix)
    for _ in range(steps):
        y = x.T if tall else x
        third = torch.einsum("ij,kj,kl->il", y, y, y)
        fifth = torch.einsum("ij,kj,kl->il", y, y, third)
        x = A * y + B * third + C * fifth
        x = x.T if tall else x
    return x


@right("rounds", "a tall matrix as it is", remark=True)
def not_turned(matrix, steps=5):
    x = matrix / max(matrix.norm(), 1e-7)
    for _ in range(steps):
        gram = x @ x.T
        x = A * x + B * gram @ x + C * gram @ gram @ x
    return x


# 11.3 Wrong


def rounds_with(
    norm=lambda x: x.norm().clamp(min=1e-7),
    one=lambda x, gram: A * x + B * gram @ x + C * gram @ gram @ x,
    gram=lambda x: x @ x.T,
    count=lambda steps: steps,
    after=lambda x, matrix: x,
    every=lambda x, number: x,
    default=5,
):
    """The rounds with a step of their own."""

    def made(matrix, steps=default):
        turned = len(matrix) > matrix.shape[1]
        x = matrix.T if turned else matrix
        x = x / norm(x)
        for number in range(count(steps)):
            x = every(x, number)
            x = one(x, gram(x))
        return after(x.T if turned else x, matrix)

    return made


def gram_once(matrix, steps=5):
    x = matrix / matrix.norm().clamp(min=1e-7)
    gram = x @ x.T
    for _ in range(steps):
        x = A * x + B * gram @ x + C * gram @ gram @ x
    return x


def not_turned_back(matrix, steps=5):
    return as_in_the_chapter(matrix.T if len(matrix) > matrix.shape[1] else matrix, steps)


def early(x, gram):
    x = A * x
    x = x + B * gram @ x
    return x + C * gram @ gram @ x


def early_products(x, gram):
    y = A * x + B * gram @ x
    return y + C * gram @ gram @ y


def exact(matrix, steps=5):
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    return u @ v


def wrong_side(matrix, steps=5):
    x = matrix / matrix.norm().clamp(min=1e-7)
    for _ in range(steps):
        gram = x.T @ x
        x = A * x + B * gram @ x + C * gram @ gram @ x
    return x


ROUNDS = {
    "wrong-side": [wrong_side],
    "not-turned-back": [not_turned_back],
    "not-scaled": [rounds_with(lambda x: x.norm().clamp(min=1)),
                   rounds_with(lambda x: 1), rounds_with(lambda x: 1, lambda x, g: A * x + B * g @ x)],
    "other-coefficients": [rounds_with(one=lambda x, g: (15 * x - 10 * g @ x + 3 * g @ g @ x) / 8)],
    "other-norm": [
        rounds_with(lambda x: x.norm() + 1),
        rounds_with(lambda x: torch.linalg.matrix_norm(x, 2).clamp(min=1e-7)),
        rounds_with(lambda x: x.abs().max().clamp(min=1e-7)),
        rounds_with(lambda x: x.norm(dim=1, keepdim=True).clamp(min=1e-7)),
        rounds_with(lambda x: x.norm(dim=0, keepdim=True).clamp(min=1e-7)),
        rounds_with(lambda x: x.norm().square().clamp(min=1e-7)),
        rounds_with(lambda x: x.abs().sum().clamp(min=1e-7)),
        rounds_with(lambda x: torch.linalg.matrix_norm(x, "nuc").clamp(min=1e-7)),
    ],
    "scaled-every-round": [rounds_with(every=lambda x, n: x / x.norm().clamp(min=1e-7))],
    "coefficients-exchanged": [
        rounds_with(one=lambda x, g: A * x + C * g @ x + B * g @ g @ x),
        rounds_with(one=lambda x, g: C * x + B * g @ x + A * g @ g @ x),
        rounds_with(one=lambda x, g: B * x + A * g @ x + C * g @ g @ x),
    ],
    "coefficient-sign": [
        rounds_with(one=lambda x, g: A * x - B * g @ x + C * g @ g @ x),
        rounds_with(one=lambda x, g: A * x + B * g @ x - C * g @ g @ x),
    ],
    "term-missing": [
        rounds_with(one=lambda x, g: A * x + B * g @ x), rounds_with(one=lambda x, g: (B * g + C * g @ g) @ x),
        rounds_with(one=lambda x, g: A * x + C * g @ g @ x), rounds_with(one=lambda x, g: 1.5 * x - 0.5 * g @ x),
        rounds_with(one=lambda x, g: x + B * g @ x + C * g @ g @ x),
    ],
    "powers-of-entries": [
        rounds_with(one=lambda x, g: A * x + B * x**3 + C * x**5),
        rounds_with(one=lambda x, g: A * x + B * g @ x + C * g**2 @ x),
    ],
    "changed-too-early": [rounds_with(one=early), rounds_with(one=early_products)],
    "product-made-once": [gram_once],
    "round-too-many": [rounds_with(count=lambda steps: steps + 1)],
    "round-too-few": [rounds_with(count=lambda steps: steps - 1)],
    "rounds-fixed": [rounds_with(count=lambda steps: 5), rounds_with(default=6)],
    "exact-decomposition": [exact],
    "scaled-back": [rounds_with(after=lambda x, m: x * m.norm())],
    "step-length-inside": [
        rounds_with(after=lambda x, m: x * 0.2 * max(m.shape) ** 0.5),
        rounds_with(after=lambda x, m: x * max(1, m.shape[0] / m.shape[1]) ** 0.5 * m.shape[0] ** 0.5),
    ],
    "in-half-precision": [orthogonalized, lambda matrix, steps=5: orthogonalized(matrix, steps).double()],
    "zero-matrix": [rounds_with(lambda x: x.norm()),
                    rounds_with(lambda x: x.norm() or 1, after=lambda x, m: x if m.any() else x + 1)],
    "close-but-not-equal": [lambda matrix, steps=5: as_in_the_chapter(matrix.float(), steps).double()],
    "wrong-dtype": [lambda matrix, steps=5: as_in_the_chapter(matrix.float(), steps)],
    "sign-reversed": [rounds_with(after=lambda x, m: -x)],
}  # fmt: skip
for kind, functions in ROUNDS.items():
    for number, function in enumerate(functions):
        wrong_value("rounds", kind, function, str(number))


@wrong("rounds", "changes-input")
def in_place(matrix, steps=5):
    matrix /= matrix.norm().clamp(min=1e-7)
    return as_in_the_chapter(matrix, steps)


@wrong("rounds", "no-return")
def nothing_given(matrix, steps=5):
    as_in_the_chapter(matrix, steps)


# Warm-up

MASK, WEIGHTS = torch.tensor([[0, 2, 255], [1, 255, 2]]), torch.tensor([0.5, 2, 3])
COUNTED = MASK != 255
right_value("say of a pixel", "where", WEIGHTS[MASK.where(COUNTED, 0)].where(COUNTED, 0.0))
right_value("say of a pixel", "a row more", torch.cat([WEIGHTS, torch.zeros(253)])[MASK])
for kind, value in {
    "void-has-a-say": WEIGHTS[MASK * COUNTED],
    "void-has-the-last-say": WEIGHTS[MASK.clamp(0, 2)],
    "void-has-weight-one": WEIGHTS[MASK.where(COUNTED, 0)].where(COUNTED, 1.0),
    "numbers-multiplied": MASK * WEIGHTS * COUNTED,
    "pixels-without-class-dropped": WEIGHTS[MASK[COUNTED]],
    "already-a-mean": WEIGHTS[MASK.where(COUNTED, 0)] * COUNTED / 8.5,
    "axes-exchanged": (WEIGHTS[MASK.where(COUNTED, 0)] * COUNTED).T,
}.items():
    wrong_value("say of a pixel", kind, value)


# Found by answers that were written from the texts alone --------------------------------------------------------------


@wrong("class_weights", "pictures-averaged")
def weights_of_each_picture(masks, num_classes, exponent=1.0):
    each = []
    for mask in masks:
        counts = mask[mask != 255].bincount(minlength=num_classes).double()
        weights = (1 / torch.log(1.02 + counts / counts.sum())) ** exponent
        each.append(weights / weights.mean())
    return torch.stack(each).mean(0)


@wrong("class_weights", "counts-smoothed")
def one_pixel_more(masks, num_classes, exponent=1.0):
    counts = masks[masks != 255].bincount(minlength=num_classes).double() + 1
    weights = (1 / torch.log(1.02 + counts / counts.sum())) ** exponent
    return weights / weights.mean()


# Found by an adversary ------------------------------------------------------------------------------------------------


def without_class(label):
    return lambda m, n: shares_of(m.where(m != label, VOID), n)


def showing(m, n):
    there = torch.stack([(m == k).any((1, 2)) for k in range(n)]).sum(1).double()
    return there / there.sum()


for number, (kind, shares) in enumerate((
    ("class-left-out", without_class(0)),
    ("class-left-out", without_class(2)),
    ("one-map-counts", lambda m, n: shares_of(m[:1], n)),
    ("one-map-counts", lambda m, n: shares_of(m[-1:], n)),
    ("pictures-counted", showing),
    ("counts-not-shares", lambda m, n: counts_of(m, n) / n),
    ("counts-smoothed", lambda m, n: counts_of(m, n).clamp(min=1) / counts_of(m, n).sum()),
)):  # fmt: skip
    wrong_value("class_weights", kind, weights_with(shares), f"adversary {number}")
wrong_value(
    "class_weights", "mean-of-those-there", weights_with(scaled=lambda w, s: w / w[s > 0].mean()), "those that occur"
)


def by_reshape(matrix, steps=5):
    flat = matrix.reshape(matrix.shape[::-1]) if len(matrix) > matrix.shape[1] else matrix
    return as_in_the_chapter(flat, steps).reshape(matrix.shape)


for number, (kind, function) in enumerate((
    ("power-too-high", rounds_with(one=lambda x, g: A * x + B * g @ x + C * g @ g @ g @ x)),
    ("reshaped", by_reshape),
    ("type-changed", lambda matrix, steps=5: as_in_the_chapter(matrix.double(), steps)),
)):  # fmt: skip
    wrong_value("rounds", kind, function, f"adversary {number}")

for kind, value in {
    "weights-forgotten": COUNTED.float(),
    "weight-below-the-line": COUNTED / WEIGHTS[MASK.where(COUNTED, 0)],
    "mask-inverted": WEIGHTS[MASK.where(COUNTED, 0)] * ~COUNTED,
    "void-number-kept": WEIGHTS[MASK.where(COUNTED, 0)].where(COUNTED, 255.0),
}.items():
    wrong_value("say of a pixel", kind, value)
wrong_value("say of a pixel", "numbers-multiplied", MASK * WEIGHTS, "void too")
