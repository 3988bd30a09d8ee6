"""Answers to the assignment on the page for teachers."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from catalogue import right, wrong
from einops import rearrange, reduce
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "tools"))
from assignment import PooledAttention as Solved

right("pooled_attention", "the page's")(Solved)


class Base(nn.Module):
    """One that can be spoilt in one place."""

    bias, kernel = False, 1

    def __init__(self, *, dim, heads, reduction_ratio):
        super().__init__()
        self.heads, self.r = heads, reduction_ratio
        self.to_q, self.to_k, self.to_v, self.to_out = (nn.Conv2d(dim, dim, 1, bias=self.bias) for _ in range(4))

    def pool(self, x):
        return F.avg_pool2d(x, self.r)

    def scale(self, q, x):
        return q.shape[-1] ** -0.5

    def tokens(self, x):
        return rearrange(x, "b (n c) h w -> b n (h w) c", n=self.heads)

    def shares(self, similarity):
        return similarity.softmax(-1)

    def join(self, y, x):
        return rearrange(y, "b n (h w) c -> b (n c) h w", h=x.shape[2])

    def qkv(self, x):
        small = self.pool(x)
        return self.to_q(x), self.to_k(small), self.to_v(small)

    def forward(self, x):
        q, k, v = map(self.tokens, self.qkv(x))
        return self.to_out(self.join(self.shares(q @ k.transpose(-1, -2) * self.scale(q, x)) @ v, x))


right("pooled_attention", "by steps")(Base)


@right("pooled_attention", "nn.Linear on tokens, einops.reduce, nn.functional's attention")
class Linears(nn.Module):
    def __init__(self, *, dim, heads, reduction_ratio):
        super().__init__()
        self.n, self.r = heads, reduction_ratio
        for name in ("to_q", "to_k", "to_v", "to_out"):
            setattr(self, name, nn.Linear(dim, dim, bias=False))

    def forward(self, x):
        r, (height, width) = self.r, x.shape[2:]
        whole = x[..., : height // r * r, : width // r * r]
        cells = reduce(whole, "b c (h r) (w s) -> b (h w) c", "mean", r=r, s=r)
        pixels = x.flatten(2).mT
        heads = [
            t.unflatten(-1, (self.n, -1)).transpose(1, 2)
            for t in (self.to_q(pixels), self.to_k(cells), self.to_v(cells))
        ]
        return self.to_out(F.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2)).mT.unflatten(
            2, (height, width)
        )


@right("pooled_attention", "the mean after the projection, which is the same")
class After(Base):
    def qkv(self, x):
        return self.to_q(x), self.pool(self.to_k(x)), self.pool(self.to_v(x))


def spoilt(kind, outcome="not yet right", **methods):
    wrong("pooled_attention", kind, outcome=outcome)(type("PooledAttention", (Base,), methods))


spoilt("biases", bias=True)
spoilt("maximum-of-cells", pool=lambda self, x: F.max_pool2d(x, self.r))
spoilt("one-pixel-of-a-cell", pool=lambda self, x: F.max_pool2d(x, 1, self.r))
spoilt("one-pixel-of-a-cell", pool=lambda self, x: x[..., self.r - 1 :: self.r, self.r - 1 :: self.r])
spoilt("sum-of-cells", pool=lambda self, x: F.avg_pool2d(x, self.r, divisor_override=1))
spoilt("incomplete-cells-too", pool=lambda self, x: F.avg_pool2d(x, self.r, ceil_mode=True))
spoilt("other-cells", pool=lambda self, x: F.adaptive_avg_pool2d(x, [max(1, side // self.r) for side in x.shape[2:]]))
spoilt("size-refused", pool=lambda self, x: reduce(x, "b c (h r) (w s) -> b c h w", "mean", r=self.r, s=self.r))
spoilt("scale-missing", scale=lambda self, q, x: 1)
spoilt("scale-of-all-channels", scale=lambda self, q, x: x.shape[1] ** -0.5)
spoilt("scale-reversed", scale=lambda self, q, x: q.shape[-1] ** 0.5)
spoilt("softmax-over-queries", shares=lambda self, s: s.softmax(-2))
spoilt("keys-and-values-exchanged", qkv=lambda self, x: Base.qkv(self, x)[::2] + Base.qkv(self, x)[1:2])
spoilt("keys-not-pooled", qkv=lambda self, x: (self.to_q(x), self.to_k(x), self.to_v(x)))
spoilt(
    "queries-shrunken",
    qkv=lambda self, x: Base.qkv(self, self.pool(x)),
    join=lambda self, y, x: Base.join(self, y, self.pool(x)),
)
spoilt("height-and-width", join=lambda self, y, x: rearrange(y, "b n (w h) c -> b (n c) h w", h=x.shape[2]))
spoilt("residual-inside", forward=lambda self, x: x + Base.forward(self, x))
spoilt(
    "heads-interleaved",
    tokens=lambda self, x: rearrange(x, "b (c n) h w -> b n (h w) c", n=self.heads),
    join=lambda self, y, x: rearrange(y, "b n (h w) c -> b (c n) h w", h=x.shape[2]),
)  # fmt: skip


@wrong("pooled_attention", "one-head")
class OneHead(Base):
    def __init__(self, *, dim, heads, reduction_ratio):
        super().__init__(dim=dim, heads=1, reduction_ratio=reduction_ratio)


@wrong("pooled_attention", "to-out-missing")
class NoOut(Base):
    def forward(self, x):
        q, k, v = map(self.tokens, self.qkv(x))
        return self.join(self.shares(q @ k.mT * self.scale(q, x)) @ v, x)


@wrong("pooled_attention", "layer-missing")
class Named(Base):
    def __init__(self, **sizes):
        super().__init__(**sizes)
        self.query = self.to_q
        del self.to_q


@wrong("pooled_attention", "strided-convolution")
class Strided(Base):
    def __init__(self, *, dim, heads, reduction_ratio):
        super().__init__(dim=dim, heads=heads, reduction_ratio=reduction_ratio)
        self.to_k = nn.Conv2d(dim, dim, reduction_ratio, reduction_ratio, bias=False)


@wrong("pooled_attention", "too-many-weights")
class Normed(Base):
    def __init__(self, **sizes):
        super().__init__(**sizes)
        self.norm = nn.LayerNorm(sizes["dim"])

    def pool(self, x):
        return self.norm(super().pool(x).movedim(1, -1)).movedim(-1, 1)


@wrong("pooled_attention", "layer-of-another-kind")
class Together(Base):
    def __init__(self, **sizes):
        super().__init__(**sizes)
        self.to_k = nn.Conv2d(sizes["dim"], 2 * sizes["dim"], 1, bias=False)


@wrong("pooled_attention", "unknown")
class Strange(Base):
    def shares(self, similarity):
        return torch.sigmoid(similarity)
