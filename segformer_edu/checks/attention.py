"""Chapter 3: efficient attention."""

from __future__ import annotations

import itertools
import math
import sys
import weakref
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from segformer_edu.checks.core import Failure, Look, close, exercise, random, tensors_in
from segformer_edu.checks.numbers import Quantity, predictions, puzzle_of, which

# What similarities and shares have to be, for all the exercises below

SCALES: dict[str, Callable[[int, int], float]] = {
    "scale-missing": lambda d, channels: 1.0,
    "scale-multiplied": lambda d, channels: math.sqrt(d),
    "scale-twice": lambda d, channels: 1 / d,
    "scale-of-all-channels": lambda d, channels: 1 / math.sqrt(channels),
}
"""What the similarities are multiplied by, for each known mistake."""

SHARED = {
    "softmax-over-queries": "The shares of one query do not add up to one; those of one key do. Who divides its "
    "attention, and among whom?",
    "softmax-over-all": "All the shares of the matrix together add up to one. How many sums of one should there be?",
    "softmax-from-the-front": "The shares add up to one over pictures or heads. From which end are axes safely "
    "counted, when there may be more of them in front?",
    "softmax-missing": "Some shares are negative. Which function makes shares out of similarities?",
    "softmax-twice": "The shares are nearly alike. How often are similarities turned into shares?",
    "not-normalised": "The shares of one query are positive, and their sum is not one. What must they be divided by?",
    "hard-choice": "One key gets everything. Is a query to choose, or to divide its attention?",
    "looks-back-only": "Some keys never get a share, whatever is in them. Does this task have a past and a future?",
    "cosines": "The length of a query makes no difference. Which step has taken it away?",
    "all-alike": "Every query gives each key the same share. Where do the similarities enter?",
    "other-shares": "Shares are positive and add up to one, but do not follow from the similarities as they should. "
    "Which function turns a difference of similarity into a ratio of shares?",
    "scale-missing": "The similarities are used as they are. What grows with the number of terms in a dot product?",
    "scale-multiplied": "Long vectors make the shares sharper than short ones. Should the scale make them calmer "
    "or sharper?",
    "scale-twice": "The scale has come in twice, or without its root. How does the size of a sum of random terms "
    "grow with their number?",
    "scale-of-all-channels": "The scale belongs to all the channels together. How many numbers does one dot product "
    "add up?",
    "scale-of-something-else": "The shares are right but for one factor on all similarities. Of which number is the "
    "scale the root?",
    "scale-after-softmax": "The shares of each query add up to the scale. Should it act before or behind the softmax?",
    "similarity-reversed": "The most similar key gets the smallest share. With which sign do similarities enter?",
}
BOUNDS = (10, 20, 30, 50, 60, 64, 70, 80, 85, 88, 100, 300, 500, 600, 700, 709)
"""Numbers that similarities are cut off at, by those who fear the exponential."""


def _shares_kind(P: torch.Tensor, s: torch.Tensor, channels: int, q: torch.Tensor, k: torch.Tensor) -> tuple[str, str]:
    """Say what is wrong with shares P (…, N, N') for similarities s = q·k, or return ("", "")."""
    d = q.shape[-1]
    scale, one = d**-0.5, torch.ones((), dtype=P.dtype)
    right = (scale * s).softmax(-1)
    if close(P, right):
        return "", ""
    for name, axes in {"softmax-over-queries": (-2,), "softmax-over-all": (-1, -2)}.items():
        if close(total := P.sum(axes), one.expand_as(total)) and not close(P.sum(-1), one.expand_as(P[..., 0])):
            return name, f"The shares of the first query add up to {float(P.flatten(0, -2)[0].sum()):.4g}."
    sums = P.sum(-1)
    if close(P, s) or close(P, scale * s) or bool((P < -1e-12).any()):
        return "softmax-missing", f"The smallest share is {float(P.min()):.4g}."
    for axis in range(P.dim() - 2):
        if close(total := P.sum(axis), one.expand_as(total)):
            return "softmax-from-the-front", f"The shares add up to one over axis {axis} of {P.dim()}."
    if not close(sums, one.expand_as(sums)):
        for factor in (scale, 1 / d, 1 / math.sqrt(channels), math.sqrt(d)):
            if close(sums, factor * torch.ones_like(sums)):
                return "scale-after-softmax", f"The shares of each query add up to {factor:.4g}."
        return "not-normalised", f"The shares of the first query add up to {float(sums.flatten()[0]):.4g}."
    return _ratio_kind(P, s, channels, q, k)


def _ratio_kind(P: torch.Tensor, s: torch.Tensor, channels: int, q: torch.Tensor, k: torch.Tensor) -> tuple[str, str]:
    """The shares of each query add up to one: read off what was done with the similarities."""
    d, N = q.shape[-1], P.shape[-1]
    if close(P, torch.full_like(P, 1 / N)):
        return "all-alike", "All the shares are equal."
    if close(P.max(-1).values, torch.ones_like(P[..., 0])):
        return "hard-choice", "One share of each query is one, the others are zero."
    if close(P.triu(1), torch.zeros_like(P)) or close(P.tril(-1), torch.zeros_like(P)):
        return "looks-back-only", "The shares on one side of the diagonal are zero."
    if bool((P <= 0).any()):
        return "other-shares", f"{int((P <= 0).sum())} of {P.numel()} shares are zero."
    cosines = F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).mT
    laid_out_anew = q @ k.reshape(k.mT.shape)
    for similarity, kind in ((s, ""), (cosines, "cosines"), (laid_out_anew, "keys-laid-out-anew")):
        logs, rest = P.log(), similarity - similarity.mean(-1, keepdim=True)
        logs = logs - logs.mean(-1, keepdim=True)
        alpha = float((logs * rest).sum() / (rest * rest).sum())
        if not close(logs, alpha * rest):
            continue
        seen = f"A similarity that is larger by 1 gets e to the power {alpha:.4g} times the share."
        if kind:
            return kind, seen
        if alpha < 0:
            return "similarity-reversed", seen
        names = [name for name, scale in SCALES.items() if math.isclose(alpha, scale(d, channels), rel_tol=1e-5)]
        return (names or ["scale-of-something-else"])[0], f"{seen} It should be {d**-0.5:.4g}."
    for scale in (d**-0.5, 1.0):
        first = (scale * s).softmax(-1)
        if any(close(P, (factor * first).softmax(-1)) for factor in (1.0, d**-0.5)):
            return "softmax-twice", f"The largest share is {float(P.max()):.4g}."
    return "other-shares", f"The largest share is {float(P.max()):.4g}."


# 3.1

ATTEND = SHARED | {
    "axes-reversed": "Without pictures and heads in front it runs, and with them it does not, or does something else. "
    "Which two axes alone should change places?",
    "keys-not-turned": "A product of queries and keys runs only where there are as many tokens as channels. Which "
    "letter should meet which?",
    "keys-laid-out-anew": "The keys' numbers are laid out anew in the other shape. Which step moves axes, and keeps "
    "each key's numbers together?",
    "cut-off": "Large similarities have become alike. What may be subtracted from all of a query's, so that none is "
    "too large?",
    "channels-compared": "Channels are compared with each other, by summing over the tokens. Which letter should "
    "disappear from the dot product?",
    "keys-ask": "The rows of the matrix belong to the keys. Whose question does each row answer?",
    "sum-over-queries": "The weighted sum runs over the wrong letter. What is summed: the queries, or what the keys "
    "have to tell?",
    "values-ignored": "The shares themselves come out. What is each of them a weight of?",
    "keys-for-values": "The result is as wide as a key. What does a token tell, once it is found?",
    "values-not-linear": "Twice the values do not give twice the result. What is done to a value but to weigh it?",
    "something-added": "For values of zero the result is not zero. What is added to the weighted mean?",
    "mean-for-sum": "The result is divided by the number of keys. The shares add up to one already; who divides again?",
    "overflow": "With large similarities NaN comes out. What is e to the thousandth, and which function avoids it?",
    "sizes-mixed-up": "It runs where all sizes are equal, and not where they differ. Which sizes may differ from each "
    "other?",
}


def _attended(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    made: torch.Tensor = (q @ k.mT * q.shape[-1] ** -0.5).softmax(-1) @ v
    return made


@exercise("attend", ATTEND)
def attend(look: Look, answer: Any) -> None:
    """Check `attend(q, k, v)`: each query's weighted mean of the values."""
    look.exists(answer)
    q, k, v = random(2, 3, 5, 4), random(2, 3, 7, 4, seed=1), random(2, 3, 7, 6, seed=2)
    first = look.attempt(answer, q, k, v)
    if isinstance(first, Failure):
        _attend_failed(look, answer, (q, k, v), first)
    yours = look.output(answer, q, k, v)
    look.done("runs, float64 stays float64")
    look.shape(
        yours,
        (2, 3, 5, 6),
        wrong={"values-ignored": (2, 3, 5, 7), "keys-for-values": (2, 3, 5, 4), "keys-ask": (2, 3, 7, 6)},
    )
    look.done("shape")
    look.side_effects(answer, q, k, v)
    look.done("no side effects")
    _shared(look, answer, q, k, v)
    look.values(yours, _attended(q, k, v))
    _exactly(look, yours, _attended(q, k, v))
    look.done("weighted means")
    flat = [t[0, 0] for t in (q, k, v)]
    two = look.output(answer, *flat)
    look.shape(two, (5, 6), "for a single list of tokens")
    look.values(two, _attended(*flat), at="for a single list of tokens")
    _large(look, answer, q, k, v)
    look.done("one axis or four, small similarities or large")
    _reached(look, answer, q, k, v)
    look.done("gradients")


def _shared(look: Look, answer: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> None:
    """End where the shares are not what they should be."""
    P = _read_shares(look, answer, q, k, v)
    if close(7 * P, _attended(q, k, torch.eye(7, dtype=q.dtype).expand(2, 3, 7, 7))):
        look.wrong("mean-for-sum", "Every number is a seventh of the target, and there are 7 keys.")
    kind, seen = _shares_kind(P, q @ k.mT, 12, q, k)
    if kind:
        look.wrong(kind, seen)
    look.done("shares")


def _large(look: Look, answer: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> None:
    """End where large similarities are too large."""
    large = look.output(answer, 1000 * q, k, v)
    if not bool(large.isfinite().all()):
        look.wrong("overflow", f"{int((~large.isfinite()).sum())} of {large.numel()} numbers are NaN or infinite.")
    target, s = _attended(1000 * q, k, v), 500 * (q @ k.mT)
    for bound, lowest in itertools.product(BOUNDS, (-1, -torch.inf)) if not close(large, target) else ():
        cut = (s.clamp(lowest * bound, bound), (2 * s).clamp(lowest * bound, bound) / 2)  # scaled before it, or behind
        if any(close(large, t.softmax(-1) @ v) for t in cut):
            look.wrong("cut-off", f"Similarities above {bound} count as {bound}.")
    look.values(large, target, at="for large similarities")


def _exactly(look: Look, yours: torch.Tensor, target: torch.Tensor) -> None:
    """End where float64 would give more digits than there are."""
    if not close(yours, target, 1e-9):
        difference = float((yours - target).abs().max())
        look.wrong("close-but-not-equal", f"The largest difference is {difference:.1e}, far more than float64 rounds.")


def _read_shares(look: Look, answer: Callable[..., Any], q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> Any:
    """Return the shares (…, N, N'), read off from values that are rows of the unit matrix."""
    zero, once = (look.output(answer, q, k, t).detach() for t in (torch.zeros_like(v), v))
    if bool(zero.abs().max() > 1e-12):
        look.wrong("something-added", f"For values of zero the largest number is {float(zero.abs().max()):.4g}.")
    other = random(*v.shape, seed=5)
    if not close(look.output(answer, q, k, 2 * v + other).detach(), 2 * once + look.output(answer, q, k, other)):
        look.wrong("values-not-linear", "f(2v + w) is not 2 f(v) + f(w).")
    unit = torch.eye(k.shape[-2], dtype=q.dtype).expand(*k.shape[:-1], k.shape[-2])
    P = look.output(answer, q, k, unit).detach()
    look.shape(P, (*q.shape[:-1], k.shape[-2]), "for values that are as many numbers as there are keys")
    return P


def _attend_failed(look: Look, answer: Any, tensors: tuple[torch.Tensor, ...], failure: Failure) -> None:
    """It does not run on four axes and unequal sizes: say what it does where it runs."""
    flat = look.attempt(answer, *(t[0, 0] for t in tensors))
    q, k, v = (random(5, 5, seed=seed) for seed in (6, 7, 8))
    square = look.attempt(answer, q, k, v)
    if not isinstance(square, torch.Tensor) or square.shape != (5, 5):
        return
    if not close(square, _attended(q, k, v)):
        for kind, candidate in _square_attention(q, k, v):
            if close(square, candidate):
                look.wrong(kind, f"For unequal sizes: {failure}")
    if isinstance(flat, torch.Tensor):
        look.wrong("axes-reversed", f"For (2, 3, 5, 4), (2, 3, 7, 4) and (2, 3, 7, 6): {failure}")
    if close(square, _attended(q, k, v)):
        look.wrong("sizes-mixed-up", f"For 5 queries, 7 keys of 4 numbers and values of 6: {failure}")


def _square_attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
    """What mistakes give that run only where there are as many queries as keys as channels."""
    similarities = {
        "": q @ k.T,
        "keys-not-turned": q @ k,
        "channels-compared": q.T @ k,
        "keys-ask": k @ q.T,
    }
    for (kind, s), alpha, axis in itertools.product(similarities.items(), (5**-0.5, 1, 5**0.5, 0.2), (-1, -2)):
        P = (alpha * s).softmax(axis)
        if kind == "channels-compared":
            yield from ((kind, made) for made in (P @ v, v @ P, v @ P.T, P @ v.T, (P @ v.T).T))
        elif kind == "keys-not-turned":
            yield from ((kind, made) for made in (P @ v, P.T @ v))
        elif axis == -1 and kind:
            yield kind, P @ v
        elif axis == -1:
            yield from (("sum-over-queries", made) for made in (P.T @ v, v @ P, v @ P.T, P @ v.T, (P @ v.T).T))
            yield "something-added", P @ v + q
            yield "something-added", P @ v + v


def _reached(look: Look, answer: Callable[..., Any], *tensors: torch.Tensor) -> None:
    """End where a gradient stops or is another one."""
    grads = []
    for function in (answer, _attended):
        leaves = [t.detach().clone().requires_grad_() for t in tensors]
        yours = look.output(function, *leaves)
        if not yours.requires_grad:
            look.wrong("no-gradient", "No gradient reaches queries, keys and values.")
        weights = random(*yours.shape, seed=9)
        grads.append(torch.autograd.grad((yours * weights).sum(), leaves, allow_unused=True))
    for name, mine, target in zip(("queries", "keys", "values"), *grads):
        if mine is None:
            look.wrong("no-gradient", f"No gradient reaches the {name}.")
        if not close(mine, target):
            look.wrong("wrong-gradient", f"The gradient of the {name} is another one.")


# 3.2

_N, _C, _SIDE = 128 * 128, 32, 128
_KEYS = _N // 64

predictions(
    "attention costs",
    title="Stage 1 of the sketch, an image of 512×512",
    quantities={
        "queries": Quantity(
            _N,
            {
                "image-for-map": 512 * 512,
                "side-for-pixels": _SIDE,
                "channels-counted": _N * _C,
                "queries-reduced": _KEYS,
                "patch-side-once": 512 * 512 // 4,
            },
        ),
        "keys, ratio 8": Quantity(
            _KEYS,
            {
                "cells-one-side": _N // 8,
                "side-for-pixels": _SIDE // 8,
                "image-for-map": 512 * 512 // 64,
                "ratio-twice": _N // 64**2,
                "not-reduced": _N,
                "channels-counted": _KEYS * _C,
            },
        ),
        "similarities, ratio 1": Quantity(
            _N * _N,
            {
                "pairs-counted-once": (_N * (_N - 1) // 2, _N * (_N + 1) // 2, _N * (_N - 1)),
                "one-query-only": _N,
                "image-for-map": (512 * 512) ** 2,
                "channels-counted": _N * _N * _C,
            },
        ),
        "similarities, ratio 4": Quantity(
            _N * _N // 16,
            {
                "cells-one-side": _N * _N // 4,
                "queries-reduced": (_N // 16) ** 2,
                "not-reduced": _N * _N,
                "ratio-twice": _N * _N // 256,
                "one-query-only": _N // 16,
                "other-ratio": _N * _KEYS,
            },
        ),
        "MACs of the two products, ratio 8": Quantity(
            2 * _N * _KEYS * _C,
            {
                "one-product-only": _N * _KEYS * _C,
                "cells-one-side": 2 * _N * (_N // 8) * _C,
                "not-reduced": 2 * _N * _N * _C,
                "channels-forgotten": (2 * _N * _KEYS, _N * _KEYS),
                "projections-counted": 2 * _N * _KEYS * _C + 4 * _N * _C * _C,
                "heads-multiply": 2 * _N * _KEYS * _C * 5,
                "queries-reduced": 2 * _KEYS * _KEYS * _C,
            },
            unit="MACs",
        ),
        "MACs of the two products, ratio 8, two heads": Quantity(
            2 * _N * _KEYS * _C,
            {
                "heads-multiply": 4 * _N * _KEYS * _C,
                "one-product-only": _N * _KEYS * _C // 2,
                "heads-divide": _N * _KEYS * _C,
            },
        ),
        "bytes of the shares, ratio 1, one head": Quantity(
            4 * _N * _N,
            {
                "numbers-for-bytes": _N * _N,
                "bits-for-bytes": 32 * _N * _N,
                "other-type": 2 * _N * _N,
                "eight-bytes-a-share": 8 * _N * _N,
                "channels-counted": 4 * _N * _N * _C,
                "one-query-only": 4 * _N,
                "other-ratio": (4 * _N * _KEYS, 4 * _N * _N // 16),
            },
        ),
        "MACs of to_k, ratio 8": Quantity(
            _N * _C * _C,
            {
                "cell-forgotten": _KEYS * _C * _C,
                "window-at-each-pixel": _N * _C * _C * 64,
                "cells-one-side": (_KEYS * _C * _C * 8, _N * _C * _C // 8),
                "filters-forgotten": (_N * _C, _N),
                "keys-and-values": 2 * _N * _C * _C,
                "weights-for-macs": _C * _C * 64,
            },
            unit="MACs",
        ),
    },
    hints={
        "image-for-map": "The first stage works on a map that is smaller than the image. How many pixels has it?",
        "side-for-pixels": "That is one side. How many places has a map with two of them?",
        "patch-side-once": "The map is smaller in height and in width. How many of the image's pixels become one?",
        "channels-counted": "A token has many channels, and is one token. What do the channels take part in?",
        "queries-reduced": "What shrinks, and what keeps its resolution, so that each pixel gets an answer of its own?",
        "cells-one-side": "A cell is a square, and the ratio is its side. How many pixels does one hold?",
        "ratio-twice": "The ratio is the side of a cell, not the number of its pixels. How often does it come in?",
        "not-reduced": "Here the keys come from a smaller map. How many are left?",
        "pairs-counted-once": "Is the similarity of two pixels the same in both directions, once each asks with one "
        "vector and is found by another, and does a pixel ask itself?",
        "one-query-only": "That is what a single query sees. How many queries are there?",
        "other-ratio": "The ratio is another one in this entry. Which?",
        "one-product-only": "One product makes the similarities. Which product comes after the softmax?",
        "channels-forgotten": "A similarity is a sum of products. Of how many?",
        "projections-counted": "The projections are not asked for. Which two products are left?",
        "heads-multiply": "Each head has fewer channels than all of them together. Do the heads add work?",
        "heads-divide": "Each head does a part of the work. How many heads are at work?",
        "numbers-for-bytes": "That many numbers there are. How many bytes has one, in PyTorch's usual type?",
        "bits-for-bytes": "That is 32 times the number of shares. If these are bits, how many are a byte? If they are "
        "channels, how many numbers is one share?",
        "eight-bytes-a-share": "That is eight bytes for each share. How many has a number of PyTorch's usual type, or "
        "have you counted two matrices?",
        "other-type": "The maps are float32, PyTorch's usual type. How many bytes is that?",
        "cell-forgotten": "One key is made from a whole cell. How many numbers go into it?",
        "window-at-each-pixel": "The window does not stop at each pixel. How far does it step?",
        "filters-forgotten": "That is the cost of keys of one number, or of channels that never meet. How many numbers "
        "has a key, and from how many channels is each made?",
        "keys-and-values": "That is twice the number. Have you counted additions, or the layer of the values, too?",
        "weights-for-macs": "That many weights there are. How often is each of them used?",
    },
)

# 3.3

LAYER = {
    "only-square": "A square map goes through, another one does not, or comes out otherwise. Which line takes the "
    "height for the width, or guesses a side from the number of pixels?",
    "ratio-breaks": "With a ratio of 1 it runs, with a larger one it does not. Which line takes the sizes of the "
    "shrunken map for those of the map, or the other way round?",
    "heads-break": "With one head it runs, with three it does not. Which line expects all the channels in one head?",
    "batch-breaks": "A single picture goes through, two of them do not. Which line forgets the axis in front?",
    "not-a-map": "A list of tokens comes out. What shape does the next layer expect?",
    "queries-reduced": "The result is as coarse as the cells. Which of the three projections must keep every pixel?",
    "biases": "The layers of the sketch have weights alone. What else do yours own?",
    "norm-inside": "There is a norm inside. In this model, who puts a norm in front of the layer?",
    "cells-not-learned": "Each key sees one number a channel of its cell, a mean or a single pixel. How many weights "
    "does a layer need that looks at the whole cell?",
    "ratio-is-a-side": "The cells have another side than the ratio says. Is the ratio the side of a cell, or the "
    "number of its pixels?",
    "one-kind-reduced": "Either the keys or the values are made from whole cells, and the others are not. What must a "
    "key and its value have in common?",
    "shared-reduction": "One layer shrinks the map, and others make keys and values from its result. That is the "
    "paper's way. How many layers are there here between the map and the keys?",
    "out-missing": "The heads' results come out side by side. Which layer mixes them?",
    "one-layer-for-two": "There is one layer too few. Are what a pixel asks, what it is found by and what it tells "
    "the same thing?",
    "parameters": "Count the weights of the four layers on paper, then those of your module. Which layer has another "
    "number, or is there a fifth?",
    "groups": "A layer has too few weights. How many of the channels does one of its filters see?",
    "cells-one-side": "The cells are as long as the ratio on one side alone. How many sides has a cell?",
    "batch-not-first": "Pictures are taken for tokens, and tokens for pictures. Which axis does your attention expect "
    "in front?",
    "heads-and-width-exchanged": "There are as many heads as a head should have channels. Which of the two numbers is "
    "given, and which follows from it?",
    "heads-mixed-too-early": "The last layer acts on the values, before they are weighed. When do the heads have "
    "something to mix?",
    "last-cell-ignored": "One cell never gets a share. Which line leaves out a key and its value?",
    "border-does-not-ask": "The pixels beyond the last whole cell do not get the answer to a question of their own. "
    "Are they left out as keys alone, or as queries, too?",
    "residual-inside": "With all weights zero the input comes out. Who adds it to the result, and is it asked for?",
    "weights-unused": "Some weights never change the result. Which layer is made and not called?",
    "cells-overlap": "There are more keys than whole cells. How far should the window step?",
    "heads-missing": "All channels are compared at once. Where are they split among the heads?",
    "channels-dealt-out": "Each head has the right number of channels, but not those that stand side by side. Which "
    "of the two letters in the split is the slower one?",
    "split-mixes-tokens": "Numbers of several tokens meet in one query. Before the channels are split, which axis of "
    "the tensor runs fastest?",
    "join-mixes-tokens": "The heads are right, and their results are put together in the wrong order. Which axes must "
    "change places before two of them become one?",
    "rows-and-columns": "The tokens are written back column by column. In which order were rows and columns joined?",
    "keys-and-values-differ-in-order": "A share meets the value of another cell. Are keys and values listed in the "
    "same order?",
    "not-linear": "Something besides the softmax is not linear. What is done to the map, or to the values, but to "
    "multiply and to add them up?",
    "own-pixel-added": "Where all shares are alike, each pixel should receive the same mean. What reaches a pixel "
    "besides that mean?",
    "cells-padded": "There are more keys than whole cells, and some are made of zeros. What was added around the map?",
    "query-layer-missing": "There is no layer of its own that makes the queries. Can a pixel then look for something "
    "else than it shows?",
    "border-padded": "Where the ratio does not divide the sides, other cells are looked at than the whole ones. Which "
    "pixels does a window that only steps within the map leave out?",
    "whole-cells-only": "Where the ratio does not divide the sides, it does not run. Which rows does a window that "
    "steps within the map leave out, and who still asks from there?",
    "arguments-fixed": "For other sizes it is not the same layer. Which number is written down in place of an "
    "argument?",
}

Weights = dict[str, torch.Tensor]
HOW: dict[str, dict[str, Any]] = {
    "scale-missing": {"scale": "scale-missing"},
    "scale-multiplied": {"scale": "scale-multiplied"},
    "scale-twice": {"scale": "scale-twice"},
    "scale-of-all-channels": {"scale": "scale-of-all-channels"},
    "softmax-over-queries": {"softmax": "queries"},
    "softmax-over-all": {"softmax": "all"},
    "softmax-missing": {"softmax": "none"},
    "softmax-from-the-front": {"softmax": "heads"},
    "softmax-twice": {"softmax": "twice"},
    "scale-after-softmax": {"softmax": "after"},
    "hard-choice": {"softmax": "hard"},
    "not-normalised": {"softmax": "sigmoid"},
    "cosines": {"cosines": True},
    "heads-missing": {"heads": 1, "alpha": 0.5},
    "channels-dealt-out": {"split": "dealt", "join": "dealt"},
    "split-mixes-tokens": {"split": "tokens"},
    "join-mixes-tokens": {"join": "tokens"},
    "rows-and-columns": {"join": "columns"},
    "keys-and-values-differ-in-order": {"order": "columns"},
    "cells-overlap": {"stride": 1},
    "cells-padded": {"pad": 1},
    "last-cell-ignored": {"ignored": 1},
    "heads-mixed-too-early": {"early": True},
    "heads-and-width-exchanged": {"heads": 4},  # of 12 channels and 3 heads
}
LAYER |= {kind: SHARED[kind] for kind in (*HOW, "scale-of-something-else", "similarity-reversed") if kind in SHARED}
MORE: dict[str, tuple[dict[str, Any], ...]] = {
    "heads-missing": ({"heads": 1}, {"heads": 1, "scale": "scale-missing"}),
    "softmax-missing": ({"softmax": "none", "scale": "scale-missing"}, {"softmax": "relu"}),
    "channels-dealt-out": ({"split": "dealt"}, {"join": "dealt"}),
    "split-mixes-tokens": (
        {"split": "map"},
        {"split": "tokens", "join": "tokens"},
        {"split": "map", "join": "map"},
        {"split": "map", "join": "tokens"},
        {"split": "rows"},
    ),
    "join-mixes-tokens": ({"join": "map"}, {"join": "plain"}),
    "rows-and-columns": ({"split": "columns"}, {"split": "turned"}),
    "softmax-from-the-front": ({"softmax": "batch"},),
    "arguments-fixed": ({"heads": 2}, {"heads": 6}, {"heads": 12}),
}


def _divided(s: torch.Tensor, alpha: float, softmax: str) -> torch.Tensor:
    """Return shares for similarities s, scaled by alpha: right, or with a known mistake."""
    made = {
        "": lambda: s.softmax(-1),
        "queries": lambda: s.softmax(-2),
        "all": lambda: s.flatten(2).softmax(-1).view(s.shape),
        "none": lambda: s,
        "relu": lambda: s.relu(),
        "heads": lambda: s.softmax(1),
        "batch": lambda: s.softmax(0),
        "twice": lambda: s.softmax(-1).softmax(-1),
        "after": lambda: (s / alpha).softmax(-1) * alpha,
        "hard": lambda: F.one_hot(s.argmax(-1), s.shape[-1]).to(s.dtype),
        "sigmoid": lambda: s.sigmoid(),
    }
    return made[softmax]()


def _split(t: torch.Tensor, heads: int, split: str) -> torch.Tensor:
    """Return a map's tokens (B, heads, N, c), split among the heads: right, or with a known mistake."""
    b, n = t.shape[0], t.shape[2] * t.shape[3]
    pattern = {"dealt": "b (c a) h w -> b a (h w) c", "columns": "b (a c) h w -> b a (w h) c"}.get(split)
    if split == "tokens":
        return t.flatten(2).mT.reshape(b, heads, n, -1)
    if split in ("map", "rows"):
        return (t if split == "map" else t.movedim(1, 3)).reshape(b, heads, n, -1)
    t = t.mT.reshape(t.shape) if split == "turned" else t
    made: torch.Tensor = rearrange(t, pattern or "b (a c) h w -> b a (h w) c", a=heads)
    return made


def _join(y: torch.Tensor, channels: int, height: int, join: str) -> torch.Tensor:
    """Return the map of the heads' results (B, heads, N, c): right, or with a known mistake."""
    made = {
        "dealt": lambda: rearrange(y, "b a (h w) c -> b (c a) h w", h=height),
        "tokens": lambda: rearrange(y.reshape(len(y), -1, channels), "b (h w) c -> b c h w", h=height),
        "map": lambda: y.reshape(len(y), channels, height, -1),
        "plain": lambda: y.transpose(1, 2).reshape(len(y), channels, height, -1),
        "columns": lambda: rearrange(y, "b a (w h) c -> b (a c) h w", h=height),
        "": lambda: rearrange(y, "b a (h w) c -> b (a c) h w", h=height),
    }
    return made[join]()


def _layer(
    x: torch.Tensor,
    w: Weights,
    heads: int,
    ratio: int,
    *,
    scale: str = "",
    alpha: float = 0,
    softmax: str = "",
    cosines: bool = False,
    split: str = "",
    join: str = "",
    order: str = "",
    stride: int = 0,
    pad: int = 0,
    early: bool = False,
    ignored: int = 0,
) -> torch.Tensor:
    """Efficient self-attention with these weights, right or with a known mistake."""
    channels, height = x.shape[1:3]
    q = torch.einsum("oi,bihw->bohw", w["q"], x)
    k, v = (F.conv2d(x, w[name], stride=stride or ratio, padding=pad) for name in "kv")
    if order:
        v = v.mT.reshape(v.shape)
    if early:
        v = torch.einsum("oi,bihw->bohw", w["out"], v)
    q, k, v = (_split(t, heads, split) for t in (q, k, v))
    k, v = (t[:, :, : t.shape[2] - ignored] for t in (k, v))
    if cosines:
        q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)
    d = channels // heads
    alpha = alpha or (SCALES[scale](d, channels) if scale else d**-0.5)
    P = _divided(alpha * (q @ k.mT), alpha, softmax)
    y = _join(P @ v, channels, height, join)
    return y if early else torch.einsum("oi,bihw->bohw", w["out"], y)


@exercise("EfficientSelfAttention", LAYER)
def efficient_self_attention(look: Look, answer: Any) -> None:
    """Check `EfficientSelfAttention(*, dim, heads, reduction_ratio)`, a class."""
    look.exists(answer)
    module = look.construct(answer, dim=12, heads=3, reduction_ratio=2)
    look.done("constructed")
    x = random(2, 12, 10, 14)
    first = look.attempt(module, x)
    if isinstance(first, Failure):
        _layer_failed(look, answer, first)
    yours = look.output(module, x)
    look.done("runs, float64 stays float64")
    look.shape(
        yours,
        x.shape,
        wrong={"queries-reduced": (2, 12, 5, 7), "not-a-map": (2, 140, 12), "split-mixes-tokens": (2, 12, 7, 5)},
    )
    look.done("shape")
    look.side_effects(module, x)
    _one_picture(look, module, x)
    forgets(look, module, look.construct(answer, dim=12, heads=3, reduction_ratio=2), random(1, 12, 6, 8))
    look.same_in_eval(module, x)
    look.done("no side effects")
    fitting: Weights = {}
    for words, part in {
        "number of weights": lambda: _weighed(look, answer, module),
        "nothing added": lambda: _nothing_added(look, module, x),
        "three heads, ratio 2": lambda: fitting.update(
            _compared(look, module, _placed(look, module, x, 12, 2, 3), x, 3, 2)
        ),
        "gradients": lambda: look.gradients(module, x, like=partial(_layer, w=fitting, heads=3, ratio=2)),
        "other heads and ratios, sides that the ratio does not divide": lambda: _other_sizes(look, answer),
    }.items():
        part()
        look.done(words)


def _layer_failed(look: Look, answer: Any, failure: Failure) -> None:
    """It does not run: find out on which maps it does."""
    seen = f"For a map of 2×12×10×14, 3 heads and ratio 2: {failure}"
    tries = {
        "only-square": ((3, 2), (2, 12, 10, 10)),
        "ratio-breaks": ((3, 1), (2, 12, 10, 14)),
        "batch-breaks": ((3, 2), (1, 12, 10, 14)),
        "heads-break": ((1, 2), (2, 12, 10, 14)),
    }
    for kind, ((heads, ratio), shape) in tries.items():
        made = look.attempt(answer, dim=12, heads=heads, reduction_ratio=ratio)
        x = random(*shape)
        y = look.attempt(made.double(), x) if isinstance(made, nn.Module) else None
        if not isinstance(y, torch.Tensor) or y.shape != shape:
            continue
        if kind == "ratio-breaks" and not close(look.output(made, x[:1]), y[:1]):
            kind = "batch-not-first"
        look.wrong(kind, seen)


def _one_picture(look: Look, module: nn.Module, x: torch.Tensor) -> None:
    """End where pictures meet; shares that add up over the pictures are told so by their own name."""
    whole, alone = look.output(module, x).detach(), look.output(module, x[:1]).detach()
    if alone.shape == whole[:1].shape and not close(alone, whole[:1]) and len(list(module.parameters())) == 4:
        try:
            found = _layouts(module, x, 12, 2, 3)
        except LookupError:
            found = []
        if any(close(whole, _layer(x, weights, 3, 2, softmax="batch")) for weights in found):
            look.wrong("softmax-from-the-front", "The shares of the two pictures add up to one.")
    look.pictures_apart(module, x)


COUNTS: tuple[tuple[str, Callable[[int], int]], ...] = (
    ("cells-not-learned", lambda r: 4),
    ("ratio-is-a-side", lambda r: 2 * (1 + r**4)),
    ("cells-one-side", lambda r: 2 * (1 + r)),
    ("one-kind-reduced", lambda r: 3 + r**2),
    ("shared-reduction", lambda r: 4 + r**2),
    ("shared-reduction", lambda r: 4 + 2 * r**2),
    ("out-missing", lambda r: 1 + 2 * r**2),
    ("one-layer-for-two", lambda r: 2 + r**2),
    ("queries-reduced", lambda r: 1 + 3 * r**2),
)
"""How many square matrices of weights a module with a known mistake has, for a ratio."""


def _weighed(look: Look, answer: Any, module: nn.Module) -> None:
    """Count the weights for two ratios, and say what another count means."""
    C, counts = 144, [_count(look, answer, ratio) for ratio in (2, 3)]
    expected = [2 * C * (1 + ratio**2) for ratio in (2, 3)]
    if counts == expected:
        return
    seen = f"With 12 channels and ratios 2 and 3: {counts} parameters; {expected} are enough."
    if small := [name for name, p in module.named_parameters() if p.dim() == 1]:
        named, norm = all("bias" in name for name in small), any(map(is_norm, module.modules()))
        kind = "norm-inside" if norm else "biases" if named else "parameters"
        look.wrong(kind, f"{seen} Among them are {', '.join(small)}.")
    if counts[0] == 4 * C != _count(look, answer, 4):
        look.wrong("ratio-is-a-side", seen)
    for kind, squares in COUNTS:
        if counts == [C * squares(ratio) for ratio in (2, 3)]:
            if kind == "out-missing" and _linear_in(module, min(module.parameters(), key=torch.Tensor.numel)):
                kind = "query-layer-missing"
            look.wrong(kind, seen)
    if any(getattr(part, "groups", 1) > 1 for part in module.modules()):
        look.wrong("groups", seen)
    fixed = any(count in {2 * C * (1 + side**2) for side in range(1, 9)} for count in counts)
    look.wrong("arguments-fixed" if fixed else "parameters", seen)


def _count(look: Look, answer: Any, ratio: int) -> int:
    return sum(p.numel() for p in look.construct(answer, dim=12, heads=3, reduction_ratio=ratio).parameters())


def is_norm(part: nn.Module) -> bool:
    """Whether a layer is a norm, by its class's name, such as LayerNorm and BatchNorm2d."""
    return type(part).__name__.lower().rstrip("d123").endswith("norm")


@torch.no_grad()
def _linear_in(module: nn.Module, p: torch.Tensor) -> bool:
    """Whether the result is linear in a weight, but for a constant."""
    x, kept = random(2, 12, 12, 18), p.detach().clone()
    results = []
    for factor in (0.0, 2.0, 1.0):
        p.copy_(factor * kept)
        results.append(module(x))
    return close(results[0] + results[1], 2 * results[2], 1e-9)


def _nothing_added(look: Look, module: nn.Module, x: torch.Tensor) -> None:
    """With all weights zero the result is zero."""
    kept = [p.detach().clone() for p in module.parameters()]
    with torch.no_grad():
        for p in module.parameters():
            p.zero_()
        y = look.output(module, x).detach()
        for p, value in zip(module.parameters(), kept):
            p.copy_(value)
    if bool((y.abs() > 1e-12).any()):
        seen = "the input comes out" if close(y, x) else "the result is not zero"
        look.wrong("residual-inside", f"With all weights zero {seen}.")


def _layouts(module: nn.Module, x: torch.Tensor, C: int, ratio: int, heads: int) -> list[Weights]:
    """Return the four weights, read out of the module without their names, in each way they may be meant.

    A weight that the result is linear in makes values or the result; another one queries or keys. Those made from
    whole cells are ratio² times as large.

    Raises:
        LookupError: they are not recognised.
    """
    with torch.no_grad():
        owners = {id(p): part for part in module.modules() for p in part.parameters(recurse=False)}
        y = module(x)
        groups: dict[bool, list[torch.Tensor]] = {True: [], False: []}
        for p in module.parameters():
            kept, results = p.detach().clone(), []
            for factor in (0.0, 2.0):
                p.copy_(factor * kept)
                results.append(module(x))
            p.copy_(kept)
            if close(results[0], y):
                raise LookupError("unused")
            groups[close(results[0] + results[1], 2 * y, 1e-9)].append(p)
        linear, other = ([_views(p, owners[id(p)], C, ratio) for p in groups[flag]] for flag in (True, False))
        return list(_assigned(linear, other, C, ratio, heads))


Views = list[torch.Tensor]  # one weight, in each way its numbers may be meant: (out, in, r, r)


def _views(p: torch.Tensor, owner: nn.Module, C: int, ratio: int) -> Views:
    """Return a weight as convolutions (out, in, r, r)."""
    w = p.detach()
    if w.dim() == 4:
        return [w]
    w = w.flatten(1) if w.dim() > 1 else w[None]
    turned = [w] if isinstance(owner, nn.Linear | nn.MultiheadAttention | nn.Conv1d) else [w, w.T]
    found = []
    for matrix in turned:
        if matrix.shape[1] == C * ratio**2 and ratio > 1:
            found.append(rearrange(matrix, "o (c i j) -> o c i j", i=ratio, j=ratio))
            found.append(rearrange(matrix, "o (i j c) -> o c i j", i=ratio, j=ratio))
        else:
            found.append(matrix[:, :, None, None])
    return found


def _assigned(linear: list[Views], other: list[Views], C: int, ratio: int, heads: int) -> Iterator[Weights]:
    """Yield each way to take these weights as q, k, v and out."""
    if len(linear) + len(other) > 8:  # a layer for each head: in their order
        linear, other = ([[views[0]] for views in group] for group in (linear, other))
    for choice in itertools.product(*linear, *other):
        values, asked = list(choice[: len(linear)]), list(choice[len(linear) :])
        small = [[t for t in group if t.shape[-1] != ratio] for group in (values, asked)]
        large = [[t for t in group if t.shape[-1] == ratio] for group in (values, asked)]
        if not all(small) or not large[1]:
            continue
        out, q = (_joined(group, C) for group in small)
        fused = torch.cat(large[1])
        pairs = [(fused, torch.cat(large[0]))] if large[0] else list(_halves(fused, heads))
        for k, v in pairs:
            if q.shape[:2] == out.shape[:2] == k.shape[:2] == v.shape[:2] == (C, C):
                yield {"q": q[:, :, 0, 0], "k": k, "v": v, "out": out[:, :, 0, 0]}


def _joined(parts: list[torch.Tensor], C: int) -> torch.Tensor:
    """Put the weights of several heads together: queries below each other, those of the result side by side."""
    return torch.cat(parts, 0 if parts[0].shape[1] == C else 1)


def _halves(fused: torch.Tensor, heads: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Split one weight for keys and values: halves in both orders, or head by head."""
    if not len(fused) or len(fused) % 2:
        return
    first, second = fused.chunk(2)
    yield first, second
    yield second, first
    for pattern in ("(a two c) i h w -> two (a c) i h w", "(c two) i h w -> two c i h w"):
        sizes = {"a": heads, "two": 2} if "a two" in pattern else {"two": 2}
        if len(fused) % (2 * heads) == 0:
            k, v = rearrange(fused, pattern, **sizes)
            yield k, v
            yield v, k


def _placed(look: Look, module: nn.Module, x: torch.Tensor, C: int, ratio: int, heads: int) -> list[Weights]:
    """The four weights; ends where they are not found."""
    look.output(module, x)
    try:
        found = _layouts(module, x, C, ratio, heads)
    except LookupError:
        look.wrong("weights-unused", "One of the weights may be zero or twice as large, and the result is the same.")
    if not found:
        kind, seen = _without_weights(look, module, x)
        look.wrong(kind, seen)
    return found


def _without_weights(look: Look, module: nn.Module, x: torch.Tensor) -> tuple[str, str]:
    """The weights do not fall into two that the result is linear in and two others: say what is behind that."""
    small = look.output(module, 1e-4 * x).detach() * 1e4
    doubled = look.output(module, 2e-4 * x).detach() * 1e4
    if close(8 * small, doubled, 1e-4):
        return "softmax-missing", "For small numbers, twice the input gives eight times the result."
    return _for_small_numbers(look, module, x) or (
        "cannot-place",
        "The weights are as many as they should be, and do not act as those of four projections.",
    )


def _for_small_numbers(look: Look, module: nn.Module, x: torch.Tensor) -> tuple[str, str] | None:
    """For small inputs all shares are alike: the result is linear in the input, and the same at every pixel."""
    if normalises(look, module, x):
        return "norm-inside", "Three times the input, and five more, gives the same result."
    one, two, minus = (look.output(module, factor * x).detach() for factor in (0.01, 0.02, -0.01))
    if not close(two, 2 * one, 2e-3) or not close(minus, -one, 2e-3):
        return "not-linear", "For small numbers, twice the input does not give twice the result, or minus it minus."
    if not close(one, one.mean((2, 3), keepdim=True).expand_as(one), 0.05):
        return "own-pixel-added", "For small numbers all shares are alike, and yet the pixels' results are not."
    return None


def normalises(look: Look, function: Callable[..., Any], x: torch.Tensor) -> bool:
    """Whether three times the input, and five more, gives the same result, as it does where a norm comes first."""
    return close(look.output(function, 3 * x + 5), look.output(function, x), 1e-3)


def _compared(
    look: Look, module: nn.Module, layouts: list[Weights], x: torch.Tensor, heads: int, ratio: int
) -> Weights:
    """Compare with the layer that has the reader's own weights, right and with each known mistake; return these."""
    yours = look.output(module, x).detach()
    targets = [_layer(x, weights, heads, ratio) for weights in layouts]
    for weights, target in zip(layouts, targets):
        if close(yours, target):
            _exactly(look, yours, target)
            return weights
    tried = [(kind, how) for kind, how in HOW.items()]
    tried += [(kind, how) for kind, more in MORE.items() for how in more]
    for (kind, how), weights in itertools.product(tried, layouts[:8]):
        settings: dict[str, Any] = {"heads": heads, **how}
        if close(yours, _layer(x, weights, settings.pop("heads"), ratio, **settings)):
            look.wrong(kind, "With your weights, the result is the one that this mistake gives, to the last digits.")
    _other_scale(look, module, layouts, x, heads, ratio)
    if found := _for_small_numbers(look, module, x):
        look.wrong(*found)
    look.values(yours, targets[0])
    return layouts[0]


def _other_scale(look: Look, module: nn.Module, layouts: list[Weights], x: torch.Tensor, heads: int, r: int) -> None:
    """For small inputs the result departs from a mean in proportion to the scale: read it off."""

    def departs(function: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        y = function(0.05 * x).detach()
        return y - y.mean((2, 3), keepdim=True)

    mine = departs(lambda t: look.output(module, t))
    for weights in layouts[:8]:
        target = departs(partial(_layer, w=weights, heads=heads, ratio=r))
        factor = float((mine * target).sum() / (target * target).sum())
        if factor and close(mine, factor * target, 0.05):
            changed = weights | {"q": factor * weights["q"]}
            yours = look.output(module, x).detach()
            if close(yours, _layer(x, changed, heads, r), 0.1):
                kind = "scale-of-something-else" if factor > 0 else "similarity-reversed"
                look.wrong(kind, f"The similarities are about {factor:.3g} times too large.")


def forgets(look: Look, module: nn.Module, new: nn.Module, x: torch.Tensor) -> None:
    """End where a module that has seen a map of other sides fails at this one, and a new module does not."""
    failed = look.attempt(module, x)
    if isinstance(failed, Failure) and isinstance(look.attempt(new, x), torch.Tensor):
        sides = "×".join(map(str, x.shape[2:]))
        look.wrong("keeps-state", f"After another map, one of {sides} fails; for a new object it does not. {failed}")


def _other_sizes(look: Look, answer: Any) -> None:
    """One head; a ratio of 1; sides that the ratio does not divide."""
    for dim, heads, ratio, height, width in ((10, 1, 3, 9, 15), (12, 3, 2, 11, 15), (10, 2, 3, 14, 19)):
        told = f"{dim} channels, {heads} heads, ratio {ratio}, a map of {height}×{width}"
        divides = height % ratio == width % ratio == 0
        module = look.construct(answer, dim=dim, heads=heads, reduction_ratio=ratio)
        x = random(2, dim, height, width)
        y = look.attempt(module, x)
        if isinstance(y, Failure):
            if not divides:
                look.wrong("whole-cells-only", f"{told}: {y}")
            look.wrong("arguments-fixed", f"{told}: {y}")
        yours = look.output(module, x)
        look.shape(
            yours, x.shape, told, wrong={"whole-cells-only": (2, dim, height // ratio * ratio, width // ratio * ratio)}
        )
        whole = x[..., : height // ratio * ratio, : width // ratio * ratio]
        layouts = _placed(look, module, whole, dim, ratio, heads)
        if not any(close(yours.detach(), _layer(x, weights, heads, ratio)) for weights in layouts):
            if divides:
                _compared(look, module, layouts, x, heads, ratio)
            asks = not any(_border_is_silent(yours, x, whole, weights, heads, ratio) for weights in layouts)
            look.wrong("border-padded" if asks else "border-does-not-ask", f"{told}.")
    _ratio_one(look, answer)


def _border_is_silent(
    yours: torch.Tensor, x: torch.Tensor, whole: torch.Tensor, weights: Weights, heads: int, ratio: int
) -> bool:
    """Whether only the whole cells, or a map as large as these, were asked, and the rest was filled up."""
    inside = _layer(whole, weights, heads, ratio)
    if close(yours[..., : inside.shape[2], : inside.shape[3]], inside):
        return True
    size, small = x.shape[2:], inside.shape[2:]
    for made, first, last in itertools.product((whole, None), ("nearest", "bilinear"), ("nearest", "bilinear")):
        t = F.interpolate(x, small, mode=first) if made is None else made
        if close(yours, F.interpolate(_layer(t, weights, heads, ratio), size, mode=last)):
            return True
    return False


def _ratio_one(look: Look, answer: Any) -> None:
    """With a ratio of 1: as many weights as four square layers, and no knowledge of places."""
    for heads in (2, 1):
        module = look.construct(answer, dim=10, heads=heads, reduction_ratio=1)
        x = random(2, 10, 5, 7)
        y = look.attempt(module, x)
        if isinstance(y, Failure):
            look.wrong("arguments-fixed", f"10 channels, {heads} heads, ratio 1, a map of 5×7: {y}")
        look.shape(look.output(module, x), x.shape, "with a ratio of 1")
        count = sum(p.numel() for p in module.parameters())
        if count != 400:
            look.wrong("arguments-fixed", f"With 10 channels and ratio 1: {count} parameters; 400 are enough.")
        order = torch.randperm(35)
        shuffled = look.output(module, x.flatten(2)[..., order].view(x.shape)).detach()
        if not close(shuffled.flatten(2), look.output(module, x).detach().flatten(2)[..., order]):
            look.wrong("arguments-fixed", "With ratio 1, pixels that change places do not keep their results.")


# 3.4

_SUSPECTS = ("none", "softmax", "scale", "split", "join", "rows and columns")
_FOUND = {
    "a": ("scale", "not-the-scale", "How many numbers does one of A's dot products add up, and by which root does A "
          "divide it?"),
    "b": ("split", "not-the-split", "Change one pixel of the keys and look at what B makes of them. How many of its "
          "tokens change?"),
    "c": ("none", "nothing-wrong-with-c", "Write the letters below each line of C. Who stands in the rows of its "
          "weights, and over whom do they add up to one?"),
    "d": ("softmax", "not-the-softmax", "Let all the values of D be ones. What should come out, and what does?"),
    "e": ("join", "not-the-join", "Let a single place of the values in E be other than zero in one channel. In which "
          "channels of the result does it arrive?"),
}  # fmt: skip

predictions(
    "attention bugs",
    title="Five attentions",
    quantities=which(_FOUND, _SUSPECTS),
    hints={kind: hint for _, kind, hint in _FOUND.values()},
)

# 3.5

BLOCKS = {
    "whole-matrix": "All the similarities exist at once. How many of them may a query see before it must add them up?",
    "all-blocks-kept": "Each block is small, and all of them are kept. What must be left of a block once it is read?",
    "results-kept": "Something is kept for each block until the end, so it grows with the number of keys. Into what "
    "could each block's result go at once?",
    "cut-off": "Similarities above a bound have become alike. What may be subtracted from all similarities of a query, "
    "so that none is too large?",
    "maximum-of-the-last-block": "All is measured from the maximum of the block just read. What if an earlier block "
    "had far larger similarities?",
    "zeros-added": "The last block is filled up with zeros, and these get shares, too. How large is e to the "
    "similarity of a key of zeros?",
    "sum-replaced": "One of the two sums comes from the last block alone. Which line replaces what it should add to?",
    "one-sum-for-all": "All queries are divided by one number. Over which axis does the sum of the weights run?",
    "shrunk-too-late": "What a new block adds is shrunk together with what was there. Which of the two was measured "
    "from the old maximum?",
    "blocks-counted": "The sum of weights grows by one for each block. What does a block of keys add to it?",
    "maximum-of-the-first-block": "All is measured from the maximum of the first block. What if a later block has far "
    "larger similarities?",
    "maximum-of-all-queries": "Each query alone comes out right, and several together do not. Whose maximum is taken "
    "off a query's similarities?",
    "kernel-used": "PyTorch's own function does it inside. Can you do what it does?",
    "block-ignored": "More keys are read at once than the size allows. What is the size the number of?",
    "scale-missing": "The similarities are used as they are. What grows with the number of terms in a dot product?",
    "scale-of-something-else": "The similarities are multiplied by another number than the formula's. Which length is "
    "the root of: that of a vector, or that of a list?",
    "blocks-averaged": "The result is a mean of the blocks' own means. Do all the blocks deserve the same weight?",
    "blocks-added": "Each block has shares that add up to one. How large is their sum over all the blocks?",
    "last-block-lost": "Some keys never get a share. What becomes of a last block that is not full?",
    "one-block-only": "The result comes from a single block. What is kept from the blocks before?",
    "not-rescaled": "Small similarities come out right, larger ones do not. When a block has a new maximum, what do "
    "the sums of the blocks before still refer to?",
    "one-sum-not-rescaled": "There are two running sums, and one of them is not brought to the new maximum. Which?",
    "factor-inverted": "When the maximum has grown, the older sums must become smaller. Do yours?",
    "maximum-of-the-block": "Each block is measured from its own maximum. From which one do all the sums have to be "
    "measured?",
    "never-divided": "The weights do not add up to one. By what must the sum of weighted values be divided in the end?",
    "overflow": "With large similarities NaN or infinity comes out. What is e to the thousandth, and what may be "
    "subtracted from all similarities of a query?",
    "first-maximum": "Similarities far below zero give NaN or infinity. From which maximum does the first block begin?",
    "size-must-divide": "It runs only where the size divides the number of keys. How long is the last block?",
}


@exercise("attend_in_blocks", BLOCKS)
def attend_in_blocks(look: Look, answer: Any) -> None:
    """Check `attend_in_blocks(q, k, v, size)`: attention that reads `size` keys at a time."""
    look.exists(answer)
    q, k, v = random(5, 4), random(12, 4, seed=1), random(12, 6, seed=2)
    yours = look.output(answer, q, k, v, 3)
    look.shape(yours, (5, 6))
    look.side_effects(answer, q, k, v, 3)
    look.done("runs, shape, no side effects")
    _in_blocks(look, yours, q, k, v, 3, "12 keys, 3 at a time")
    _exactly(look, yours, _attended(q, k, v))
    look.done("small similarities")
    _uneven(look, answer, q, k, v)
    look.done("sizes that do not divide, and larger than all")
    _sharp(look, answer, q, k, v)
    look.done("similarities that grow, shrink and are large")
    _remembered(look, answer)
    look.done("memory")


def _uneven(look: Look, answer: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> None:
    """Sizes that do not divide the 12 keys, and one that is larger than all of them."""
    for size in (5, 1, 40):
        again = look.attempt(answer, q, k, v, size)
        if isinstance(again, Failure) and size == 5:
            look.wrong("size-must-divide", f"12 keys, 5 at a time: {again}")
        again = look.output(answer, q, k, v, size)
        if size == 5 and close(again, _attended(q, k[:10], v[:10])):
            look.wrong("last-block-lost", "With 12 keys, 5 at a time, two keys never get a share.")
        if size == 5 and close(again, _attended(q, *(F.pad(t, (0, 0, 0, 3)) for t in (k, v)))):
            look.wrong("zeros-added", "With 12 keys, 5 at a time, the result is that of 15 keys, three of them zeros.")
        look.values(again, _attended(q, k, v), at=f"12 keys, {size} at a time")


def _sharp(look: Look, answer: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> None:
    """Similarities that grow from block to block, that shrink, and large ones."""
    steps = torch.arange(12.0, dtype=q.dtype)[:, None]
    below = -1e6 * (k.abs() + 1)
    for words, keys in {"growing": k + steps, "shrinking": k - steps, "large": 900 * k, "negative": below}.items():
        again = look.output(answer, q.abs(), keys, v, 5)
        if not bool(again.isfinite().all()):
            kind = _which_maximum(look, answer, q.abs(), keys, v) or ("first-maximum" if keys is below else "overflow")
            look.wrong(kind, f"{int((~again.isfinite()).sum())} of 30 numbers are NaN or infinite, {words} keys.")
        _in_blocks(look, again, q.abs(), keys, v, 5, f"{words} similarities")


def _which_maximum(look: Look, answer: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> str:
    """NaN comes out: does it for each query alone, and for all the keys in one block?"""
    rows = torch.cat([look.output(answer, row[None], k, v, 5) for row in q])
    if close(rows, target := _attended(q, k, v)):
        return "maximum-of-all-queries"
    if not close(look.output(answer, q, k, v, 12), target):
        return ""
    steps = 900 * torch.arange(12.0, dtype=q.dtype)[:, None].expand_as(k)
    growing = look.output(answer, q, steps, v, 5)
    return "maximum-of-the-last-block" if close(growing, _attended(q, steps, v)) else "maximum-of-the-first-block"


def _in_blocks(
    look: Look, yours: torch.Tensor, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, size: int, at: str
) -> None:
    pairs = list(zip(k.split(size), v.split(size)))
    scale, target = q.shape[-1] ** -0.5, _attended(q, k, v)
    means = torch.stack([_attended(q, *pair) for pair in pairs])
    wrong: dict[str, Any] = {"scale-missing": (q @ k.T).softmax(-1) @ v}
    wrong["blocks-added"], wrong["blocks-averaged"] = means.sum(0), means.mean(0)
    if not close(yours, target):
        lengths = torch.tensor([len(pair[0]) for pair in pairs], dtype=q.dtype)
        candidates = [(kind, made) for kind, made in wrong.items()]
        candidates.append(("blocks-averaged", (lengths[:, None, None] * means).sum(0) / lengths.sum()))
        candidates += [("one-block-only", mean) for mean in means]
        roots = (len(k), len(q), v.shape[1], size, q.shape[1] ** 2, 1 / q.shape[1])
        candidates += [("scale-of-something-else", (q @ k.T / root**0.5).softmax(-1) @ v) for root in roots]
        candidates += [("cut-off", (q @ k.T * scale).clamp(max=bound).softmax(-1) @ v) for bound in BOUNDS]
        candidates += [("never-divided", made) for made in _never_divided(q * scale, k, v)]
        candidates += [*_running(q * scale, pairs), *_running_otherwise(q * scale, pairs)]
        for kind, made in candidates:
            if close(yours, made):
                look.wrong(kind, f"The result is the one that this mistake gives ({at}).")
    look.values(yours, target, at=at)


def _never_divided(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> Iterator[torch.Tensor]:
    s = q @ k.T
    yield s.exp() @ v
    yield (s - s.amax(-1, keepdim=True)).exp() @ v


def _running(q: torch.Tensor, pairs: list[tuple[torch.Tensor, torch.Tensor]]) -> Iterator[tuple[str, torch.Tensor]]:
    """Running sums with a part forgotten: what is rescaled, and from which maximum a block is measured."""
    for up, down, own, inverted in (
        *itertools.product((True, False), (True, False), (True, False), (False,)),
        (1, 1, 0, 1),
    ):
        if up and down and not own and not inverted:
            continue
        top = torch.full((len(q), 1), -torch.inf, dtype=q.dtype)
        above, below = torch.zeros(len(q), pairs[0][1].shape[1], dtype=q.dtype), torch.zeros_like(top)
        for keys, values in pairs:
            s = q @ keys.T
            new = torch.maximum(top, s.amax(-1, keepdim=True))
            weights = (s - (s.amax(-1, keepdim=True) if own else new)).exp()
            factor = (new - top).nan_to_num(posinf=0).exp() if inverted else (top - new).exp()
            above = above * (factor if up else 1) + weights @ values
            below = below * (factor if down else 1) + weights.sum(-1, keepdim=True)
            top = new
        kind = "maximum-of-the-block" if own else "one-sum-not-rescaled" if up != down else "not-rescaled"
        yield "factor-inverted" if inverted else kind, above / below


STEPS: tuple[tuple[str, Callable[..., tuple[Any, Any]]], ...] = (
    ("sum-replaced", lambda shrunk, added, factor, old, weights: (shrunk[0] + added[0], added[1])),
    ("sum-replaced", lambda shrunk, added, factor, old, weights: (added[0], shrunk[1] + added[1])),
    (
        "shrunk-too-late",
        lambda shrunk, added, factor, old, weights: (factor * (old[0] + added[0]), shrunk[1] + added[1]),
    ),
    (
        "shrunk-too-late",
        lambda shrunk, added, factor, old, weights: (shrunk[0] + added[0], factor * (old[1] + added[1])),
    ),
    ("one-sum-for-all", lambda shrunk, added, factor, old, weights: (shrunk[0] + added[0], shrunk[1] + weights.sum())),
    ("blocks-counted", lambda shrunk, added, factor, old, weights: (shrunk[0] + added[0], shrunk[1] + 1)),
    ("blocks-averaged", lambda shrunk, added, factor, old, weights: (shrunk[0] + added[0] / added[1], shrunk[1] + 1)),
)
"""What becomes of the two sums in a step with a known mistake."""


def _running_otherwise(
    q: torch.Tensor, pairs: list[tuple[torch.Tensor, torch.Tensor]]
) -> Iterator[tuple[str, torch.Tensor]]:
    """Running sums from the right maximum, where one of the two is made in another way."""
    for kind, step in STEPS:
        top = torch.full((len(q), 1), -torch.inf, dtype=q.dtype)
        sums: tuple[Any, Any] = 0, 0
        for keys, values in pairs:
            s = q @ keys.T
            new = torch.maximum(top, s.amax(-1, keepdim=True))
            weights, factor, top = (s - new).exp(), (top - new).exp(), new
            shrunk, added = [factor * old for old in sums], [weights @ values, weights.sum(-1, keepdim=True)]
            sums = step(shrunk, added, factor, sums, weights)
        yield kind, sums[0] / sums[1]


class Memory(TorchDispatchMode):
    """Watches how large the tensors are that some code makes: the largest one, and those that live at one time.

    ``maker`` is what made the largest one; ``joined`` says whether that put others together. ``grown`` is the largest
    one that has more numbers than any that it was made from, but for those joined, padded or unfolded; ``calls`` counts
    the operations.
    """

    def __init__(self) -> None:
        super().__init__()
        self.largest, self.peak, self.maker, self.grown, self.calls = 0, 0, "", 0, 0
        self._alive: dict[int, tuple[list[weakref.ref[torch.Tensor]], int]] = {}

    @property
    def joined(self) -> bool:
        return self.maker.startswith(("aten.stack", "aten.cat"))

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result, name = func(*args, **(kwargs or {})), str(func)
        given = max((tensor.numel() for tensor in tensors_in(args)), default=sys.maxsize)
        self.calls += 1
        for tensor in result if isinstance(result, tuple | list) else (result,):
            if isinstance(tensor, torch.Tensor):
                if tensor.numel() > given and not name.startswith(_LAID_OUT):
                    self.grown = max(self.grown, tensor.numel())
                if tensor.numel() > self.largest:
                    self.largest, self.maker = tensor.numel(), name
                storage = tensor.untyped_storage()
                known, _ = self._alive.get(storage.data_ptr(), ([], 0))  # a view keeps all that it is a view of
                size = storage.nbytes() // tensor.element_size()
                self._alive[storage.data_ptr()] = [*known, weakref.ref(tensor)], size
        living = {place: ([ref for ref in refs if ref() is not None], n) for place, (refs, n) in self._alive.items()}
        self._alive = {place: (refs, size) for place, (refs, size) in living.items() if refs}
        self.peak = max(self.peak, sum(size for _, size in self._alive.values()))
        return result


_LAID_OUT = tuple(
    f"aten.{name}"
    for name in ("cat", "stack", "constant_pad", "im2col", "unfold", "new_", "expand", "repeat", "as_strided")
)
"""Operations that lay numbers out, and make none."""


class _Names(TorchFunctionMode):
    """Notes which of PyTorch's functions some code calls."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        self.names.add(getattr(func, "__name__", ""))
        return func(*args, **(kwargs or {}))


def _remembered(look: Look, answer: Any) -> None:
    """Neither one large tensor nor many small ones: 30 queries, 300 keys, 6 at a time."""
    q, k, v = random(30, 1), random(300, 1, seed=1), random(300, 1, seed=2)
    with Memory() as memory, _Names() as called, torch.no_grad():
        look.output(answer, q, k, v, 6)
    if "scaled_dot_product_attention" in called.names:
        look.wrong("kernel-used", "The function calls PyTorch's own routine.")
    seen = f"For 30 queries and 300 keys, 6 at a time, the largest tensor has {memory.largest} numbers"
    if memory.largest >= 30 * 300:
        look.wrong("whole-matrix", f"{seen}, as many as all similarities.")
    if memory.peak > 0.9 * 30 * 300 and memory.largest < 0.2 * 30 * 300:
        look.wrong("all-blocks-kept", f"{memory.peak} numbers are held at one time; all similarities are {30 * 300}.")
    if memory.grown > 30 * 6:
        look.wrong("block-ignored", f"As many as {memory.grown} similarities are made at once; {30 * 6} are allowed.")
    if memory.largest > 4 * 300:  # copies of keys and values have fewer
        kind = "results-kept" if memory.joined else "block-ignored"
        look.wrong(kind, f"{seen}; a block of similarities has {30 * 6}.")
    _grows(look, answer, k, v)


def _grows(look: Look, answer: Any, k: torch.Tensor, v: torch.Tensor) -> None:
    """Twice the keys take more steps, and leave nothing more behind."""
    q, seen_by = random(90, 1), []
    for count in (60, 120):
        with Memory() as memory, torch.no_grad():
            look.output(answer, q, k[:count], v[:count], 6)
        seen_by.append(memory)
    if seen_by[0].calls == seen_by[1].calls:
        look.wrong("block-ignored", "120 keys take as many operations as 60, though 6 are allowed at a time.")
    more = seen_by[1].peak - seen_by[0].peak  # 60 for each copy of keys or values; 10 blocks leave 90 numbers each
    if more > 600:
        seen = f"With 90 queries and 120 keys in place of 60, {more} numbers more are held at one time."
        look.wrong("results-kept", seen)


# Warm-ups

_RATIOS = torch.tensor([[1.0, 1, 2], [3, 1, 4], [1, 2, 1], [2, 2, 4], [6, 1, 1]])

puzzle_of(
    "shares",
    title="Shares of five queries among three keys",
    target=lambda: _RATIOS.log().softmax(-1),
    wrong={
        "softmax-over-queries": (
            lambda: _RATIOS.log().softmax(0),
            "Each column adds up to one. Who divides its attention: a row or a column?",
        ),
        "softmax-over-all": (
            lambda: _RATIOS / _RATIOS.sum(),
            "The whole matrix adds up to one. How many sums of one are asked for?",
        ),
        "not-normalised": (lambda: _RATIOS, "The ratios in a row are right. By what must a row be divided?"),
        "exponential-missing": (
            lambda: _RATIOS.log() / _RATIOS.log().sum(-1, keepdim=True),
            "The similarities themselves were divided by their sum. What comes before that?",
        ),
        "exponential-twice": (
            lambda: _RATIOS.softmax(-1),
            "The exponential was taken twice. What does a softmax begin with?",
        ),
        "each-by-itself": (
            lambda: _RATIOS.log().sigmoid(),
            "The rows do not add up to one. Does each number know of the others in its row?",
        ),
        "one-takes-all": (
            lambda: F.one_hot(_RATIOS.argmax(-1)),
            "Each query attends to a single key. What do the other keys of the row get?",
        ),
        "scaled": (
            lambda: (_RATIOS.log() / 3**0.5).softmax(-1),
            "The similarities were scaled first, and no vectors are given here. Who asks for a scale?",
        ),
        "scale-multiplied": (
            lambda: (_RATIOS.log() * 3**0.5).softmax(-1),
            "The similarities were made larger first. Which step between them and the shares is not asked for?",
        ),
        "nothing-done": (
            lambda: _RATIOS.log(),
            "These are the similarities themselves. Which function makes shares of them?",
        ),
        "softmax-twice": (
            lambda: _RATIOS.log().softmax(-1).softmax(-1),
            "The shares were turned into shares once more. How often is that needed?",
        ),
        "similarity-reversed": (
            lambda: (-_RATIOS.log()).softmax(-1),
            "The least similar key has got the largest share. Which sign had the similarities?",
        ),
        "by-the-largest": (
            lambda: _RATIOS / _RATIOS.amax(-1, keepdim=True),
            "The largest share of each row is one. What should add up to one?",
        ),
        "by-the-length": (
            lambda: F.normalize(_RATIOS, dim=-1),
            "The squares of a row add up to one. What should, in place of the squares?",
        ),
        "log-of-shares": (
            lambda: _RATIOS.log().log_softmax(-1),
            "The numbers are negative. Are these shares, or their logarithms?",
        ),
    },
)

_PLACES = 10 * torch.arange(8.0)[:, None, None] + torch.arange(1, 7.0).view(2, 3)  # (8, 2, 3): tens channel, ones place

puzzle_of(
    "split",
    title="Split a map among two heads",
    target=lambda: rearrange(_PLACES, "(a c) h w -> a (h w) c", a=2),
    wrong={
        "channels-dealt-out": (
            lambda: rearrange(_PLACES, "(c a) h w -> a (h w) c", a=2),
            "The first head has got channels that do not stand side by side. Which of the two letters is the slower?",
        ),
        "split-mixes-tokens": (
            lambda: _PLACES.reshape(2, 6, 4),
            "One token holds several places. Which axis ran fastest before the cut?",
        ),
        "tokens-cut-in-rows": (
            lambda: rearrange(_PLACES, "c h w -> (h w) c").reshape(2, 6, 4),
            "A head has tokens with all the channels, half of them. What should it have: all tokens or all channels?",
        ),
        "rows-and-columns": (
            lambda: rearrange(_PLACES, "(a c) h w -> a (w h) c", a=2),
            "The places run down the columns. In which order are rows and columns joined?",
        ),
        "tokens-last": (
            lambda: rearrange(_PLACES, "(a c) h w -> a c (h w)", a=2),
            "Heads and tokens are right. Which axis should come last?",
        ),
        "heads-in-the-middle": (
            lambda: rearrange(_PLACES, "(a c) h w -> (h w) a c", a=2),
            "Tokens come first. Which axis should each head have of its own, and so stand in front?",
        ),
    },
)

_HEARD = 100 * torch.arange(2.0)[:, None, None] + 10 * torch.arange(6.0)[:, None] + torch.arange(4.0)  # (2, 6, 4)

puzzle_of(
    "join",
    title="Put two heads together again",
    target=lambda: rearrange(_HEARD, "a (h w) c -> (a c) h w", h=2),
    wrong={
        "join-mixes-tokens": (
            lambda: _HEARD.reshape(8, 2, 3),
            "One channel of the map holds several channels of a head. Which axes must change places first?",
        ),
        "joined-as-tokens": (
            lambda: rearrange(_HEARD.reshape(6, 8), "(h w) c -> c h w", h=2),
            "One place holds two tokens of a head. What stands between heads and channels?",
        ),
        "channels-dealt-out": (
            lambda: rearrange(_HEARD, "a (h w) c -> (c a) h w", h=2),
            "The heads take turns in the channels. Which of the two letters is the slower?",
        ),
        "rows-and-columns": (
            lambda: rearrange(_HEARD, "a (w h) c -> (a c) h w", h=2),
            "The tokens run down the columns. In which order do they stand in the list?",
        ),
        "height-for-width": (
            lambda: rearrange(_HEARD, "a (h w) c -> (a c) h w", h=3),
            "There are three rows of two. Which of the sizes is the height?",
        ),
        "channels-last": (
            lambda: rearrange(_HEARD, "a (h w) c -> h w (a c)", h=2),
            "The numbers are right. In which order does a map have its axes?",
        ),
    },
)
