"""The assignment on the page for teachers: keys and values from the means of cells."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import nn

from segformer_edu.checks.core import Look, close, exercise, random

CASES = ((12, 3, 1, 5, 7), (12, 3, 2, 7, 9), (10, 5, 3, 11, 8), (6, 1, 4, 8, 13))
"""dim, heads, reduction ratio, height, width: the ratio divides no side, or one."""
LAYERS = ("to_q", "to_k", "to_v", "to_out")
SPLIT = "b (heads c) h w -> b heads (h w) c"
Weights = dict[str, torch.Tensor]

HINTS = {
    "layer-missing": "The assignment names four layers. Which of them is not there under its name?",
    "layer-of-another-kind": "Each of the four layers mixes the channels of one place. How many weights is that?",
    "strided-convolution": "Keys and values come from a mean here. Which weights of the strided convolution are gone?",
    "biases": "Have the layers of chapter 3 a bias?",
    "too-many-weights": "Four layers are asked for. What else does the module own, and is it needed?",
    "size-refused": "The ratio does not divide this size. What does a strided convolution do with the rows left over?",
    "queries-shrunken": "A query is an answer that is needed at every place. Which of q, k and v shrink?",
    "maximum-of-cells": "A key is the mean of its cell. What did you take of it?",
    "one-pixel-of-a-cell": "A key is the mean of its cell. How many pixels of the cell does yours look at?",
    "sum-of-cells": "A mean is a sum, and something more. Divided by what?",
    "incomplete-cells-too": "At the right and at the bottom there are cells that are not whole. Does the strided "
    "convolution of chapter 3 have them?",
    "other-cells": "The cells lie beside each other and do not overlap. Where does the second one begin?",
    "keys-not-pooled": "Keys and values must speak of the same cells. Which of them sees single pixels?",
    "keys-and-values-exchanged": "Which of the two is compared, and which one is handed on?",
    "scale-missing": "How large do the similarities become with many channels? What did chapter 3 do about it?",
    "scale-of-all-channels": "How many numbers does one dot product add up, in one head?",
    "scale-reversed": "Should more channels make the shares sharper or calmer?",
    "softmax-over-queries": "Whose shares add up to one: those of a query, or those of a key?",
    "heads-interleaved": "Which channels belong to the first head: neighbours, or every so-manyth one?",
    "one-head": "The number of heads changes nothing in yours. What does each head have of its own?",
    "to-out-missing": "The heads' results are joined. Which layer mixes them?",
    "residual-inside": "With `to_out` at zero the result should be zero. Who adds the input?",
    "height-and-width": "The map is rebuilt from tokens. Which side runs faster?",
}


@dataclass(frozen=True)
class Way:
    """How attention with pooled keys is computed: the right way, or with one thing changed."""

    pool: Callable[[torch.Tensor, int], torch.Tensor] = F.avg_pool2d
    pool_keys: bool = True
    pool_values: bool = True
    pool_queries: bool = False
    scale: Callable[[int, int], float] = lambda each, _: each**-0.5
    over: int = -1
    split: str = SPLIT
    one_head: bool = False
    exchanged: bool = False
    out: bool = True
    rebuilt: str = "b heads (h w) c -> b (heads c) h w"

    def __call__(self, x: torch.Tensor, weights: Weights, heads: int, ratio: int) -> torch.Tensor:
        """Compute it: x (B, dim, H, W), weights (dim, dim) of each layer → (B, dim, H, W)."""
        heads = 1 if self.one_head else heads
        pooled = self.pool(x, ratio)

        def layer(name: str, y: torch.Tensor) -> torch.Tensor:
            return torch.einsum("oi, bihw -> bohw", weights[name], y)

        q = layer("to_q", pooled if self.pool_queries else x)
        k = layer("to_k", pooled if self.pool_keys else x)
        v = layer("to_v", pooled if self.pool_values else x)
        k, v = (v, k) if self.exchanged else (k, v)
        q, k, v = (rearrange(t, self.split, heads=heads) for t in (q, k, v))
        shares = (q @ k.mT * self.scale(q.shape[-1], x.shape[1])).softmax(self.over)
        joined = rearrange(shares @ v, self.rebuilt, h=x.shape[2], w=x.shape[3])
        return layer("to_out", joined) if self.out else joined


def ceiled(x: torch.Tensor, ratio: int) -> torch.Tensor:
    """Pool cells that are not whole too."""
    return F.avg_pool2d(x, ratio, ceil_mode=True)


def picked(x: torch.Tensor, ratio: int, down: int, right: int) -> torch.Tensor:
    """Take one pixel of each cell."""
    return x[..., down % ratio :: ratio, right % ratio :: ratio]


def padded(x: torch.Tensor, ratio: int) -> torch.Tensor:
    """Pool cells that zeros made whole."""
    return F.avg_pool2d(F.pad(x, (0, -x.shape[3] % ratio, 0, -x.shape[2] % ratio)), ratio)


def adaptive(x: torch.Tensor, ratio: int) -> torch.Tensor:
    """Pool to the right number of cells, which then overlap."""
    return F.adaptive_avg_pool2d(x, (x.shape[2] // ratio, x.shape[3] // ratio))


WRONG = {
    "maximum-of-cells": Way(pool=F.max_pool2d),
    "one-pixel-of-a-cell": Way(pool=lambda x, r: x[..., : x.shape[2] // r * r : r, : x.shape[3] // r * r : r]),
    "sum-of-cells": Way(pool=lambda x, r: F.avg_pool2d(x, r) * r * r),
    "incomplete-cells-too": Way(pool=ceiled),
    "other-cells": Way(pool=adaptive),
    "keys-not-pooled": Way(pool_keys=False, pool_values=False),
    "scale-missing": Way(scale=lambda each, _: 1.0),
    "scale-of-all-channels": Way(scale=lambda _, all_of: all_of**-0.5),
    "scale-reversed": Way(scale=lambda each, _: each**0.5),
    "softmax-over-queries": Way(over=-2),
    "heads-interleaved": Way(split="b (c heads) h w -> b heads (h w) c", rebuilt="b heads (h w) c -> b (c heads) h w"),
    "one-head": Way(one_head=True),
    "keys-and-values-exchanged": Way(exchanged=True),
    "to-out-missing": Way(out=False),
    "height-and-width": Way(rebuilt="b heads (w h) c -> b (heads c) h w"),
}
MORE = {
    "one-pixel-of-a-cell": tuple(
        Way(pool=partial(picked, down=down, right=right)) for down in range(4) for right in range(4)
    ),
    "incomplete-cells-too": (Way(pool=padded),),
    "other-cells": (
        Way(pool=lambda x, r: F.avg_pool2d(x, r, 1)),
        Way(pool=lambda x, r: F.avg_pool2d(x, r, r, r // 2)),
    ),
    "heads-interleaved": (Way(split="b (c heads) h w -> b heads (h w) c"),),
}
"""Other ways to make the same mistakes."""


@exercise("PooledAttention", HINTS)
def pooled_attention(look: Look, answer: Any) -> None:
    """Check ``PooledAttention(*, dim, heads, reduction_ratio)``, the class of the assignment."""
    look.exists(answer)
    for number, (dim, heads, ratio, height, width) in enumerate(CASES):
        at = f"dim {dim}, {heads} heads, ratio {ratio}, a map of {height}×{width}"
        module = look.construct(answer, dim=dim, heads=heads, reduction_ratio=ratio)
        weights = layers_of(look, module, dim)
        x = random(2, dim, height, width, seed=number)
        if height % ratio or width % ratio:
            failure = look.attempt(module, x)
            if not isinstance(failure, torch.Tensor) and failure is not None:
                look.wrong("size-refused", f"With {at} your code raised {failure}")
        yours = look.output(module, x)
        look.shape(yours, x.shape, at, {"queries-shrunken": (2, dim, height // ratio, width // ratio)})
        if number == 0:
            look.done("constructed, runs, four layers")
            look.side_effects(module, x)
            look.pictures_apart(module, x)
            look.done("no side effects")
        compared(look, x, yours, weights, (heads, ratio), at)
    look.done(f"values for {len(CASES)} sizes, ratios that do not divide the map among them")
    look.same_in_eval(module, x)
    look.gradients(module, x)
    look.done("gradients")


def layers_of(look: Look, module: nn.Module, dim: int) -> Weights:
    """Return the weights of the four layers, (dim, dim) each; end where they are others."""
    weights = {}
    for name in LAYERS:
        layer = getattr(module, name, None)
        if not isinstance(layer, nn.Module):
            look.wrong("layer-missing", f"The module has no layer `{name}`.")
        own = dict(layer.named_parameters())
        if any(parameter.dim() == 1 for parameter in own.values()):
            look.wrong("biases", f"`{name}` has {', '.join(sorted(own))}.")
        matrix = [parameter.detach() for parameter in own.values()]
        if len(matrix) != 1 or matrix[0].numel() != dim * dim:
            seen = ", ".join(str(tuple(parameter.shape)) for parameter in matrix) or "no weights"
            strided = len(matrix) == 1 and matrix[0].dim() == 4 and matrix[0].shape[-1] > 1
            look.wrong("strided-convolution" if strided else "layer-of-another-kind", f"`{name}` has {seen}.")
        weights[name] = matrix[0].reshape(dim, dim)
    owned = sum(parameter.numel() for parameter in module.parameters())
    if owned != 4 * dim * dim:
        look.wrong("too-many-weights", f"It has {owned} weights where {4 * dim * dim} are enough.")
    return weights


def compared(
    look: Look,
    x: torch.Tensor,
    yours: torch.Tensor,
    weights: Weights,
    sizes: tuple[int, int],
    at: str,
) -> None:
    """End where the values are not those of attention with pooled keys and values."""

    def result(way: Way) -> torch.Tensor:
        try:
            return way(x, weights, *sizes).detach()
        except RuntimeError:  # a way that this size does not allow
            return torch.empty(0)

    def equal(one: torch.Tensor, other: torch.Tensor) -> bool:
        return one.shape == other.shape and close(one, other)

    found, right = yours.detach(), result(Way())
    if equal(found, right):
        return
    if equal(found, right + x):
        look.wrong("residual-inside", f"The input is added to the result ({at}).")
    for kind, way in ((kind, way) for kind, ways in MORE.items() for way in ways):
        if equal(found, result(way)):
            look.wrong(kind, f"The result is the one that this mistake gives, to the last digits ({at}).")
    look.values(yours, right, {kind: partial(result, way) for kind, way in WRONG.items()}, at)
