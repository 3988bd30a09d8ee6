"""Answers to the exercises of chapter 3."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from catalogue import right, right_value, wrong, wrong_value
from einops import einsum, rearrange
from torch import nn

import segformer_edu as se

# 3.1 Right ------------------------------------------------------------------------------------------------------------

right("attend", "PyTorch's kernel")(F.scaled_dot_product_attention)


@right("attend", "matrix products")
def products(q, k, v):
    return (q @ k.transpose(-2, -1) / math.sqrt(q.size(-1))).softmax(-1) @ v


@right("attend", "einsum, the query scaled, the maximum subtracted")
def by_einsum(q, k, v):
    s = torch.einsum("...id,...jd->...ij", q * q.shape[-1] ** -0.5, k)
    e = (s - s.amax(-1, keepdim=True)).exp()
    return torch.einsum("...ij,...jc->...ic", e / e.sum(-1, keepdim=True), v)


@right("attend", "transposed")
def transposed(q, k, v):
    weights = (k @ q.mT / q.shape[-1] ** 0.5).softmax(-2)
    return (v.mT @ weights).mT


@right("attend", "a loop over the queries")
def one_by_one(q, k, v):
    rows = [((k * q[..., i, None, :]).sum(-1) / q.shape[-1] ** 0.5).softmax(-1) for i in range(q.shape[-2])]
    return torch.stack([(p[..., None] * v).sum(-2) for p in rows], -2)


@right("attend", "both scaled by the fourth root")
def fourth_root(q, k, v):
    return torch.matmul(q / q.shape[-1] ** 0.25, (k / k.shape[-1] ** 0.25).mT).softmax(dim=-1).matmul(v)


# 3.1 Wrong ------------------------------------------------------------------------------------------------------------


def similar(q, k, scale=None):
    return q @ k.mT * (q.shape[-1] ** -0.5 if scale is None else scale)


def wrongs(kind, **functions):
    for name, function in functions.items():
        wrong_value("attend", kind, function, name)


wrongs(
    "softmax-over-queries",
    columns=lambda q, k, v: similar(q, k).softmax(-2) @ v,
    columns_without_scale=lambda q, k, v: (q @ k.mT).softmax(-2) @ v,
)
wrongs("softmax-over-all", whole=lambda q, k, v: similar(q, k).flatten(-2).softmax(-1).view_as(similar(q, k)) @ v)
wrongs(
    "softmax-from-the-front",
    over_heads=lambda q, k, v: similar(q, k).softmax(1) @ v,
    over_pictures=lambda q, k, v: similar(q, k).softmax(0) @ v,
)
wrongs(
    "softmax-missing",
    plain=lambda q, k, v: similar(q, k) @ v,
    plain_unscaled=lambda q, k, v: q @ k.mT @ v,
    divided_by_the_sum=lambda q, k, v: similar(q, k) / similar(q, k).sum(-1, keepdim=True) @ v,
    log_softmax=lambda q, k, v: similar(q, k).log_softmax(-1) @ v,
    tanh=lambda q, k, v: similar(q, k).tanh() @ v,
)
wrongs("softmax-twice", twice=lambda q, k, v: similar(q, k).softmax(-1).softmax(-1) @ v)
wrongs(
    "not-normalised",
    exponential=lambda q, k, v: similar(q, k).exp() @ v,
    sigmoid=lambda q, k, v: similar(q, k).sigmoid() @ v,
    relu=lambda q, k, v: similar(q, k).relu() @ v,
    by_the_largest=lambda q, k, v: (similar(q, k) - similar(q, k).amax(-1, keepdim=True)).exp() @ v,
)
wrongs("hard-choice", argmax=lambda q, k, v: F.one_hot(similar(q, k).argmax(-1), k.shape[-2]).double() @ v)
wrongs(
    "looks-back-only",
    causal=lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True),
    masked=lambda q, k, v: (
        similar(q, k).masked_fill(torch.ones(q.shape[-2], k.shape[-2]).tril() == 0, -1e9).softmax(-1) @ v
    ),
)
wrongs(
    "cosines",
    cosines=lambda q, k, v: (F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).mT).softmax(-1) @ v,
    sharp_cosines=lambda q, k, v: (15 * F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).mT).softmax(-1) @ v,
)
wrongs("all-alike", mean=lambda q, k, v: v.mean(-2, keepdim=True).expand(*q.shape[:-1], v.shape[-1]))
wrongs(
    "other-shares",
    squared=lambda q, k, v: similar(q, k).square() / similar(q, k).square().sum(-1, keepdim=True) @ v,
    distances=lambda q, k, v: (-torch.cdist(q, k)).softmax(-1) @ v,
    sigmoid_normalised=lambda q, k, v: similar(q, k).sigmoid() / similar(q, k).sigmoid().sum(-1, keepdim=True) @ v,
    relu_normalised=lambda q, k, v: similar(q, k).relu() / similar(q, k).relu().sum(-1, keepdim=True) @ v,
)
wrongs("scale-missing", unscaled=lambda q, k, v: (q @ k.mT).softmax(-1) @ v)
wrongs(
    "scale-multiplied",
    times=lambda q, k, v: similar(q, k, math.sqrt(q.shape[-1])).softmax(-1) @ v,
    divided_by_the_inverse=lambda q, k, v: (q @ k.mT / q.shape[-1] ** -0.5).softmax(-1) @ v,
)
wrongs(
    "scale-twice",
    no_root=lambda q, k, v: (q @ k.mT / q.shape[-1]).softmax(-1) @ v,
    kernel_and_scale=lambda q, k, v: F.scaled_dot_product_attention(q * q.shape[-1] ** -0.5, k, v),
)
wrongs(
    "scale-of-all-channels",
    all_channels=lambda q, k, v: (
        similar(q, k, (q.shape[-1] * (q.shape[1] if q.dim() > 3 else 1)) ** -0.5).softmax(-1) @ v
    ),
)
wrongs(
    "scale-of-something-else",
    of_the_keys=lambda q, k, v: similar(q, k, k.shape[-2] ** -0.5).softmax(-1) @ v,
    of_the_values=lambda q, k, v: similar(q, k, v.shape[-1] ** -0.5).softmax(-1) @ v,
    of_64=lambda q, k, v: (q @ k.mT / 8).softmax(-1) @ v,
)
wrongs("similarity-reversed", opposite=lambda q, k, v: similar(-q, k).softmax(-1) @ v)
wrongs(
    "keys-laid-out-anew",
    viewed=lambda q, k, v: (q @ k.reshape(k.mT.shape) / q.shape[-1] ** 0.5).softmax(-1) @ v,
    viewed_unscaled=lambda q, k, v: (q @ k.reshape(k.mT.shape)).softmax(-1) @ v,
)
wrongs(
    "cut-off",
    of_twenty=lambda q, k, v: similar(q, k).clamp(-20, 20).softmax(-1) @ v,
    above_alone=lambda q, k, v: similar(q, k).clamp(max=50).softmax(-1) @ v,
    before_the_scale=lambda q, k, v: ((q @ k.mT).clamp(-50, 50) * q.shape[-1] ** -0.5).softmax(-1) @ v,
)
wrongs(
    "close-but-not-equal",
    single_in_between=lambda q, k, v: similar(q, k).softmax(-1, dtype=torch.float32).double() @ v,
    small_constant=lambda q, k, v: similar(q, k).exp() / (similar(q, k).exp().sum(-1, keepdim=True) + 1e-6) @ v,
)
wrongs("scale-after-softmax", after=lambda q, k, v: (q @ k.mT).softmax(-1) / q.shape[-1] ** 0.5 @ v)
wrongs("scale-after-softmax", at_the_end=lambda q, k, v: (q @ k.mT).softmax(-1) @ v * q.shape[-1] ** -0.5)
wrongs(
    "axes-reversed",
    T=lambda q, k, v: (q @ k.T / q.shape[-1] ** 0.5).softmax(-1) @ v,
    first_two=lambda q, k, v: (q @ k.transpose(0, 1) / q.shape[-1] ** 0.5).softmax(-1) @ v,
    einops_of_two=lambda q, k, v: einsum(
        (einsum(q, k, "i c, j c -> i j") / q.shape[-1] ** 0.5).softmax(-1), v, "i j, j c -> i c"
    ),
)
wrongs(
    "keys-not-turned",
    not_turned=lambda q, k, v: (q @ k / q.shape[-1] ** 0.5).softmax(-1) @ v,
    not_turned_unscaled=lambda q, k, v: (q @ k).softmax(-1) @ v,
)
wrongs(
    "channels-compared",
    channels=lambda q, k, v: (q.mT @ k / q.shape[-1] ** 0.5).softmax(-1) @ v,
    channels_behind=lambda q, k, v: v @ (q.mT @ k / q.shape[-2] ** 0.5).softmax(-1),
)
wrongs("keys-ask", keys=lambda q, k, v: (k @ q.mT / q.shape[-1] ** 0.5).softmax(-1) @ v)
wrongs("keys-ask", kernel_exchanged=lambda q, k, v: F.scaled_dot_product_attention(k, q, v))
wrongs(
    "sum-over-queries",
    turned=lambda q, k, v: similar(q, k).softmax(-1).mT @ v,
    values_first=lambda q, k, v: v @ similar(q, k).softmax(-1),
    values_turned=lambda q, k, v: similar(q, k).softmax(-1) @ v.mT,
)
wrongs("values-ignored", shares_alone=lambda q, k, v: similar(q, k).softmax(-1))
wrongs("keys-for-values", keys_summed=lambda q, k, v: similar(q, k).softmax(-1) @ k)
wrongs(
    "values-not-linear",
    softmax_of_values=lambda q, k, v: similar(q, k).softmax(-1) @ v.relu(),
    normalised=lambda q, k, v: F.normalize(similar(q, k).softmax(-1) @ v, dim=-1),
)
wrongs(
    "something-added",
    plus_one=lambda q, k, v: similar(q, k).softmax(-1) @ v + 1,
    plus_query=lambda q, k, v: similar(q, k).softmax(-1) @ v + q.mean(-1, keepdim=True),
    residual=lambda q, k, v: similar(q, k).softmax(-1) @ v + q,
    softmax_last=lambda q, k, v: (similar(q, k) @ v).softmax(-1),
)
wrongs("mean-for-sum", mean_of_all=lambda q, k, v: (similar(q, k).softmax(-1)[..., None] * v[..., None, :, :]).mean(-2))
wrongs("overflow", naive=lambda q, k, v: similar(q, k).exp() / similar(q, k).exp().sum(-1, keepdim=True) @ v)
wrongs(
    "sizes-mixed-up",
    view_as_query=lambda q, k, v: (similar(q, k).softmax(-1) @ v).view(q.shape),
    written_back=lambda q, k, v: torch.zeros_like(q).copy_(similar(q, k).softmax(-1) @ v),
)
wrongs("no-gradient", detached=lambda q, k, v: similar(q, k).softmax(-1).detach() @ v)
wrongs("wrong-dtype", single=lambda q, k, v: products(q, k, v).float())
wrongs("wrong-type", pair=lambda q, k, v: (products(q, k, v), similar(q, k)))
wrongs("not-deterministic", dropout=lambda q, k, v: F.dropout(similar(q, k).softmax(-1), 0.1) @ v)
wrongs(
    "wrong-gradient",
    half=lambda q, k, v: (q @ k.mT * 0.5).softmax(-1) @ v + 0 * q.sum() + v.mean() * 0 + (q - q.detach()).mean(),
)
wrong_value("attend", "not-callable", torch.ones(2), "a tensor")
wrong_value("attend", "raises", lambda q, k, v: (q @ k.mT).softmax(7) @ v, "an axis that is not there", "could not run")
wrong_value("attend", "signature", lambda x: x, "one argument", "could not run")


@wrong("attend", "changes-input")
def in_place(q, k, v):
    q *= q.shape[-1] ** -0.5
    return (q @ k.mT).softmax(-1) @ v


@wrong("attend", "no-return")
def forgot(q, k, v):
    out = similar(q, k).softmax(-1) @ v  # noqa: F841


# 3.2 ------------------------------------------------------------------------------------------------------------------

N, C = 128 * 128, 32
COSTS = {
    "queries": N,
    "keys, ratio 8": N // 64,
    "similarities, ratio 1": N * N,
    "similarities, ratio 4": N * N // 16,
    "MACs of the two products, ratio 8": 2 * N * 256 * C,
    "MACs of the two products, ratio 8, two heads": 2 * N * 256 * C,
    "bytes of the shares, ratio 1, one head": 4 * N * N,
    "MACs of to_k, ratio 8": N * C * C,
}
right_value("attention costs", "int", COSTS)
right_value("attention costs", "float", {name: value / 1 for name, value in COSTS.items()})
right_value("attention costs", "tensors", {name: torch.tensor(value) for name, value in COSTS.items()})
for kind, entry, value in [
    ("image-for-map", "queries", 512**2),
    ("side-for-pixels", "queries", 128),
    ("channels-counted", "queries", N * C),
    ("queries-reduced", "queries", 256),
    ("patch-side-once", "queries", 512**2 // 4),
    ("cells-one-side", "keys, ratio 8", N // 8),
    ("side-for-pixels", "keys, ratio 8", 16),
    ("image-for-map", "keys, ratio 8", 64 * 64),
    ("ratio-twice", "keys, ratio 8", 4),
    ("not-reduced", "keys, ratio 8", N),
    ("pairs-counted-once", "similarities, ratio 1", N * (N - 1) // 2),
    ("one-query-only", "similarities, ratio 1", N),
    ("channels-counted", "similarities, ratio 1", N * N * C),
    ("cells-one-side", "similarities, ratio 4", N * N // 4),
    ("queries-reduced", "similarities, ratio 4", (N // 16) ** 2),
    ("not-reduced", "similarities, ratio 4", N * N),
    ("other-ratio", "similarities, ratio 4", N * 256),
    ("one-product-only", "MACs of the two products, ratio 8", N * 256 * C),
    ("macs-doubled", "MACs of the two products, ratio 8", 4 * N * 256 * C),
    ("cells-one-side", "MACs of the two products, ratio 8", 2 * N * N // 8 * C),
    ("not-reduced", "MACs of the two products, ratio 8", 2 * N * N * C),
    ("channels-forgotten", "MACs of the two products, ratio 8", 2 * N * 256),
    ("projections-counted", "MACs of the two products, ratio 8", 2 * N * 256 * C + 4 * N * C * C),
    ("heads-multiply", "MACs of the two products, ratio 8", 2 * N * 256 * C * 5),
    ("heads-multiply", "MACs of the two products, ratio 8, two heads", 4 * N * 256 * C),
    ("heads-divide", "MACs of the two products, ratio 8, two heads", N * 256 * C),
    ("numbers-for-bytes", "bytes of the shares, ratio 1, one head", N * N),
    ("bits-for-bytes", "bytes of the shares, ratio 1, one head", 32 * N * N),
    ("other-type", "bytes of the shares, ratio 1, one head", 2 * N * N),
    ("eight-bytes-a-share", "bytes of the shares, ratio 1, one head", 2 * 4 * N * N),
    ("bits-for-bytes", "bytes of the shares, ratio 1, one head", N * N * C),
    ("factor-of-thousand", "bytes of the shares, ratio 1, one head", 4 * N * N / 1e9),
    ("cell-forgotten", "MACs of to_k, ratio 8", 256 * C * C),
    ("window-at-each-pixel", "MACs of to_k, ratio 8", N * C * C * 64),
    ("keys-and-values", "MACs of to_k, ratio 8", 2 * N * C * C),
    ("filters-forgotten", "MACs of to_k, ratio 8", N * C),
    ("other-ratio", "bytes of the shares, ratio 1, one head", 4 * N * 256),
    ("weights-for-macs", "MACs of to_k, ratio 8", C * C * 64),
]:
    wrong_value("attention costs", kind, COSTS | {entry: value}, f"{entry} {value}")
wrong_value("attention costs", "entries-missing", {"queries": N})

# 3.3 Right ------------------------------------------------------------------------------------------------------------

right("efficient_self_attention", "the library's")(se.EfficientSelfAttention)


def conv(i, o, r=1, bias=False):
    return nn.Conv2d(i, o, r, stride=r, bias=bias)


@right("efficient_self_attention", "lucidrains' to_kv")
class Package(nn.Module):
    def __init__(self, *, dim, heads, reduction_ratio):
        super().__init__()
        self.scale, self.heads = (dim // heads) ** -0.5, heads
        self.to_q, self.to_kv, self.to_out = conv(dim, dim), conv(dim, 2 * dim, reduction_ratio), conv(dim, dim)

    def forward(self, x):
        h, heads = x.shape[-2], self.heads
        q, k, v = (self.to_q(x), *self.to_kv(x).chunk(2, dim=1))
        q, k, v = map(lambda t: rearrange(t, "b (h c) x y -> (b h) (x y) c", h=heads), (q, k, v))
        attn = (torch.einsum("bid,bjd->bij", q, k) * self.scale).softmax(dim=-1)
        out = torch.einsum("bij,bjd->bid", attn, v)
        return self.to_out(rearrange(out, "(b h) (x y) c -> b (h c) x y", h=heads, x=h))


@right("efficient_self_attention", "nn.Linear on tokens and on cells, F.unfold, transformers' names")
class Tokens(nn.Module):
    def __init__(self, dim, heads, reduction_ratio):
        super().__init__()
        self.r, self.h = reduction_ratio, heads
        self.query, self.dense = nn.Linear(dim, dim, False), nn.Linear(dim, dim, False)
        self.key, self.value = (nn.Linear(dim * reduction_ratio**2, dim, False) for _ in range(2))

    def forward(self, x):
        b, c, height, width = x.shape
        cells = F.unfold(x, self.r, stride=self.r).transpose(1, 2)
        q, k, v = self.query(x.flatten(2).transpose(1, 2)), self.key(cells), self.value(cells)
        q, k, v = (t.view(b, -1, self.h, c // self.h).permute(0, 2, 1, 3) for t in (q, k, v))
        scores = torch.matmul(q, k.transpose(-1, -2)) / math.sqrt(c // self.h)
        y = torch.matmul(scores.softmax(-1), v).permute(0, 2, 1, 3).contiguous().view(b, -1, c)
        return self.dense(y).transpose(1, 2).reshape(b, c, height, width)


@right("efficient_self_attention", "nn.MultiheadAttention")
class Pytorchs(nn.Module):
    def __init__(self, *, dim, heads, reduction_ratio):
        super().__init__()
        self.r, n = reduction_ratio, dim * reduction_ratio**2
        self.mha = nn.MultiheadAttention(dim, heads, bias=False, kdim=n, vdim=n, batch_first=True)

    def forward(self, x):
        height, width = (n // self.r * self.r for n in x.shape[-2:])
        cells = rearrange(x[..., :height, :width], "b c (h i) (w j) -> b (h w) (c i j)", i=self.r, j=self.r)
        y, _ = self.mha(x.flatten(2).mT, cells, cells, need_weights=False)
        return y.mT.reshape(x.shape)


@right("efficient_self_attention", "plain parameters, cells by einops, channels last")
class Plain(nn.Module):
    def __init__(self, *, dim, heads, reduction_ratio):
        super().__init__()
        self.heads, self.r = heads, reduction_ratio
        self.W = nn.ParameterDict({
            "a": torch.randn(dim, dim), "b": torch.randn(dim * reduction_ratio**2, dim) / reduction_ratio,
            "c": torch.randn(dim * reduction_ratio**2, dim), "d": torch.randn(dim, dim),
        })  # fmt: skip

    def forward(self, x):
        h, w = (n // self.r * self.r for n in x.shape[-2:])
        cells = rearrange(x[..., :h, :w], "b c (h i) (w j) -> b (h w) (i j c)", i=self.r, j=self.r)
        q = rearrange(x, "b c h w -> b (h w) c") @ self.W["a"]
        q, k, v = (
            rearrange(t, "b n (a c) -> b a n c", a=self.heads) for t in (q, cells @ self.W["b"], cells @ self.W["c"])
        )
        y = rearrange(F.scaled_dot_product_attention(q, k, v), "b a n c -> b n (a c)") @ self.W["d"]
        return rearrange(y, "b (h w) c -> b c h w", h=x.shape[2])


@right("efficient_self_attention", "a layer for each head, in a loop")
class Loop(nn.Module):
    def __init__(self, *, dim, heads, reduction_ratio):
        super().__init__()
        c = dim // heads
        self.q = nn.ModuleList(conv(dim, c) for _ in range(heads))
        self.k = nn.ModuleList(conv(dim, c, reduction_ratio) for _ in range(heads))
        self.v = nn.ModuleList(conv(dim, c, reduction_ratio) for _ in range(heads))
        self.proj = conv(dim, dim)

    def forward(self, x):
        heard = []
        for to_q, to_k, to_v in zip(self.q, self.k, self.v):
            q, k, v = to_q(x).flatten(2), to_k(x).flatten(2), to_v(x).flatten(2)
            s = (q.mT @ k) * q.shape[1] ** -0.5
            heard.append((v @ s.softmax(-1).mT).view(len(x), -1, *x.shape[2:]))
        return self.proj(torch.cat(heard, 1))


@right("efficient_self_attention", "timm's q, kv and proj; transposed product")
class Timm(nn.Module):
    def __init__(self, *, dim, heads, reduction_ratio):
        super().__init__()
        self.num_heads, self.scale = heads, (dim // heads) ** -0.5
        self.proj, self.kv, self.q = (
            nn.Linear(dim, dim, False),
            conv(dim, 2 * dim, reduction_ratio),
            nn.Linear(dim, dim, False),
        )

    def forward(self, x):
        B, C, H, W = x.shape
        q = self.q(x.flatten(2).transpose(1, 2)).reshape(B, H * W, self.num_heads, -1).permute(0, 2, 1, 3)
        kv = self.kv(x).flatten(2).reshape(B, 2, self.num_heads, C // self.num_heads, -1).permute(1, 0, 2, 4, 3)
        k, v = kv.unbind(0)
        attn = ((q * self.scale) @ k.transpose(-2, -1)).softmax(dim=-1)
        x = (attn @ v).transpose(1, 2).reshape(B, H * W, C)
        return self.proj(x).permute(0, 2, 1).view(B, C, H, W)


# 3.3 Wrong ------------------------------------------------------------------------------------------------------------


class Parts(nn.Module):
    """The right class in parts, which the wrong answers below make in their own ways."""

    def __init__(self, *, dim, heads, reduction_ratio):
        super().__init__()
        self.dim, self.heads, self.r = dim, heads, reduction_ratio
        self.to_q, self.to_k, self.to_v, self.to_out = self.layers(dim, reduction_ratio)

    def layers(self, dim, r):
        return conv(dim, dim), conv(dim, dim, r), conv(dim, dim, r), conv(dim, dim)

    def project(self, x):
        return self.to_q(x), self.to_k(x), self.to_v(x)

    def split(self, t):
        return rearrange(t, "b (heads c) h w -> b heads (h w) c", heads=self.heads)

    def scale(self):
        return (self.dim // self.heads) ** -0.5

    def shares(self, q, k):
        return (q @ k.mT * self.scale()).softmax(-1)

    def join(self, y, x):
        return rearrange(y, "b heads (h w) c -> b (heads c) h w", h=x.shape[-2])

    def forward(self, x):
        q, k, v = map(self.split, self.project(x))
        return self.to_out(self.join(self.shares(q, k) @ v, x))


right("efficient_self_attention", "in parts")(Parts)


def variant(kind, name, outcome="not yet right", **methods):
    wrong_value("efficient_self_attention", kind, type(name, (Parts,), methods), name, outcome)


for kind, name, scale in [
    ("scale-missing", "Unscaled", lambda self: 1.0),
    ("scale-multiplied", "Multiplied", lambda self: (self.dim // self.heads) ** 0.5),
    ("scale-twice", "NoRoot", lambda self: self.heads / self.dim),
    ("scale-of-all-channels", "AllChannels", lambda self: self.dim**-0.5),
    ("scale-of-something-else", "OfTheHeads", lambda self: self.heads**-0.5),
    ("scale-of-something-else", "Root64", lambda self: 0.125),
]:
    variant(kind, name, scale=scale)
for kind, name, shares in [
    ("softmax-over-queries", "OverQueries", lambda self, q, k: (q @ k.mT * self.scale()).softmax(-2)),
    (
        "softmax-over-all",
        "OverAll",
        lambda self, q, k: (q @ k.mT * self.scale()).flatten(2).softmax(-1).unflatten(2, (q.shape[2], -1)),
    ),
    ("softmax-from-the-front", "OverHeads", lambda self, q, k: (q @ k.mT * self.scale()).softmax(1)),
    ("softmax-from-the-front", "OverPictures", lambda self, q, k: (q @ k.mT * self.scale()).softmax(0)),
    ("softmax-missing", "NoSoftmax", lambda self, q, k: q @ k.mT * self.scale()),
    ("softmax-missing", "NoSoftmaxNoScale", lambda self, q, k: q @ k.mT),
    ("softmax-missing", "Rectified", lambda self, q, k: (q @ k.mT * self.scale()).relu()),
    ("softmax-twice", "Twice", lambda self, q, k: (q @ k.mT * self.scale()).softmax(-1).softmax(-1)),
    ("scale-after-softmax", "After", lambda self, q, k: (q @ k.mT).softmax(-1) * self.scale()),
    ("not-normalised", "Sigmoid", lambda self, q, k: (q @ k.mT * self.scale()).sigmoid()),
    (
        "cosines",
        "Cosines",
        lambda self, q, k: (F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).mT * self.scale()).softmax(-1),
    ),
    ("not-deterministic", "Dropout", lambda self, q, k: F.dropout((q @ k.mT * self.scale()).softmax(-1), 0.1)),
    ("no-gradient", "Detached", lambda self, q, k: (q @ k.mT * self.scale()).softmax(-1).detach()),
    ("raises", "NotTurned", lambda self, q, k: (q @ k).softmax(-1)),
]:
    variant(kind, name, "could not run" if kind == "raises" else "not yet right", shares=shares)
for kind, name, split in [
    ("channels-dealt-out", "DealtAtTheSplit", lambda self, t: rearrange(t, "b (c a) h w -> b a (h w) c", a=self.heads)),
    ("split-mixes-tokens", "ViewOfTheMap", lambda self, t: t.reshape(len(t), self.heads, -1, self.dim // self.heads)),
    (
        "split-mixes-tokens",
        "ViewOfTokens",
        lambda self, t: t.flatten(2).mT.reshape(len(t), self.heads, -1, self.dim // self.heads),
    ),
    ("rows-and-columns", "ColumnFirst", lambda self, t: rearrange(t, "b (a c) h w -> b a (w h) c", a=self.heads)),
]:
    variant(kind, name, split=split)
for kind, name, join in [
    ("join-mixes-tokens", "ReshapedAsAMap", lambda self, y, x: y.reshape(x.shape)),
    ("join-mixes-tokens", "ReshapedAsTokens", lambda self, y, x: y.reshape(len(x), -1, self.dim).mT.reshape(x.shape)),
    ("join-mixes-tokens", "TokensViewedAsAMap", lambda self, y, x: y.transpose(1, 2).reshape(x.shape)),
    (
        "channels-dealt-out",
        "DealtAtTheJoin",
        lambda self, y, x: rearrange(y, "b a (h w) c -> b (c a) h w", h=x.shape[-2]),
    ),
    ("rows-and-columns", "ColumnsLast", lambda self, y, x: rearrange(y, "b a (w h) c -> b (a c) h w", h=x.shape[-2])),
    (
        "only-square",
        "SquareRoot",
        lambda self, y, x: rearrange(
            y, "b a (h w) c -> b (a c) h w", h=math.isqrt(y.shape[2]), w=math.isqrt(y.shape[2])
        ),
    ),
    ("axes-exchanged", "WidthForHeight", lambda self, y, x: rearrange(y, "b a (h w) c -> b (a c) h w", h=x.shape[-1])),
    (
        "ratio-breaks",
        "SizeOfTheCells",
        lambda self, y, x: rearrange(y, "b a (h w) c -> b (a c) h w", h=x.shape[-2] // self.r, w=x.shape[-1] // self.r),
    ),
]:
    variant(kind, name, join=join)


@wrong("efficient_self_attention", "not-a-map")
class StillTokens(Parts):
    def join(self, y, x):
        return rearrange(y, "b a n c -> b n (a c)")

    def forward(self, x):
        q, k, v = map(self.split, self.project(x))
        y = self.join(self.shares(q, k) @ v, x)
        return y @ self.to_out.weight[:, :, 0, 0].T


@wrong("efficient_self_attention", "channels-dealt-out")
class Dealt(Parts):
    def split(self, t):
        return rearrange(t, "b (c a) h w -> b a (h w) c", a=self.heads)

    def join(self, y, x):
        return rearrange(y, "b a (h w) c -> b (c a) h w", h=x.shape[-2])


@wrong("efficient_self_attention", "split-mixes-tokens")
class ViewsOnBothSides(Parts):
    def split(self, t):
        return t.flatten(2).mT.reshape(len(t), self.heads, -1, self.dim // self.heads)

    def join(self, y, x):
        return y.reshape(len(x), -1, self.dim).mT.reshape(x.shape)


@wrong("efficient_self_attention", "heads-missing")
class OneHead(Parts):
    def split(self, t):
        return rearrange(t, "b c h w -> b 1 (h w) c")


@wrong("efficient_self_attention", "heads-missing")
class OneHeadAndItsScale(OneHead):
    def scale(self):
        return self.dim**-0.5


@wrong("efficient_self_attention", "only-square")
class Width(Parts):
    def join(self, y, x):
        return rearrange(y, "b a (h w) c -> b (a c) h w", h=x.shape[-1], w=x.shape[-1])


def layered(kind, name, layers, outcome="not yet right", **methods):
    variant(kind, name, outcome, layers=layers, **methods)


class PooledThenMixed(nn.Sequential):
    def __init__(self, dim, r):
        super().__init__(nn.AvgPool2d(r), conv(dim, dim))


layered("ratio-is-a-side", "SideOfR", lambda self, d, r: (conv(d, d), conv(d, d, r * r), conv(d, d, r * r), conv(d, d)))
layered(
    "ratio-is-a-side",
    "RootOfR",
    lambda self, d, r: (conv(d, d), *(conv(d, d, round(r**0.5)) for _ in "kv"), conv(d, d)),
)
layered(
    "cells-not-learned",
    "Pooled",
    lambda self, d, r: (conv(d, d), PooledThenMixed(d, r), PooledThenMixed(d, r), conv(d, d)),
)
layered(
    "cells-not-learned",
    "OnePixel",
    lambda self, d, r: (conv(d, d), *(nn.Conv2d(d, d, 1, r, bias=False) for _ in "kv"), conv(d, d)),
)
layered(
    "one-kind-reduced",
    "ValuesPooled",
    lambda self, d, r: (conv(d, d), conv(d, d, r), PooledThenMixed(d, r), conv(d, d)),
)
layered(
    "one-kind-reduced", "KeysPooled", lambda self, d, r: (conv(d, d), PooledThenMixed(d, r), conv(d, d, r), conv(d, d))
)
layered(
    "biases",
    "Biases",
    lambda self, d, r: (conv(d, d, 1, True), conv(d, d, r, True), conv(d, d, r, True), conv(d, d, 1, True)),
)
layered("biases", "BiasAtTheEnd", lambda self, d, r: (conv(d, d), conv(d, d, r), conv(d, d, r), conv(d, d, 1, True)))
layered(
    "norm-inside",
    "Norm",
    lambda self, d, r: (conv(d, d), nn.Sequential(nn.GroupNorm(1, d), conv(d, d, r)), conv(d, d, r), conv(d, d)),
)
layered("out-missing", "NoOut", lambda self, d, r: (conv(d, d), conv(d, d, r), conv(d, d, r), nn.Identity()))
layered("one-layer-for-two", "KeysAreValues", lambda self, d, r: (conv(d, d), *[conv(d, d, r)] * 2, conv(d, d)))
layered(
    "cells-overlap",
    "StrideOne",
    lambda self, d, r: (conv(d, d), *(nn.Conv2d(d, d, r, bias=False) for _ in "kv"), conv(d, d)),
)
layered(
    "queries-reduced",
    "AllReduced",
    lambda self, d, r: (conv(d, d, r), conv(d, d, r), conv(d, d, r), conv(d, d)),
    join=lambda self, y, x: rearrange(y, "b a (h w) c -> b (a c) h w", h=x.shape[-2] // self.r),
)
layered(
    "parameters",
    "Twice",
    lambda self, d, r: (conv(d, d), conv(d, d, r), conv(d, d, r), nn.Sequential(conv(d, d), conv(d, d))),
)
layered(
    "parameters",
    "Wide",
    lambda self, d, r: (nn.Conv2d(d, d, 3, padding=1, bias=False), conv(d, d, r), conv(d, d, r), conv(d, d)),
)


@wrong("efficient_self_attention", "shared-reduction")
class Papers(Parts):
    def layers(self, d, r):
        self.reduce = conv(d, d, r)
        return conv(d, d), conv(d, d), conv(d, d), conv(d, d)

    def project(self, x):
        small = self.reduce(x)
        return self.to_q(x), self.to_k(small), self.to_v(small)


@wrong("efficient_self_attention", "shared-reduction")
class TwoReductions(Papers):
    def layers(self, d, r):
        self.more = conv(d, d, r)
        return super().layers(d, r)

    def project(self, x):
        return self.to_q(x), self.to_k(self.reduce(x)), self.to_v(self.more(x))


@wrong("efficient_self_attention", "residual-inside")
class Residual(Parts):
    def forward(self, x):
        return x + super().forward(x)


@wrong("efficient_self_attention", "own-pixel-added")
class QueryAdded(Parts):
    def forward(self, x):
        return self.to_q(x) + super().forward(x)


@wrong("efficient_self_attention", "not-linear")
class RectifiedValues(Parts):
    def project(self, x):
        return self.to_q(x), self.to_k(x), self.to_v(x).relu()


@wrong("efficient_self_attention", "not-linear")
class GeluAtTheEnd(Parts):
    def forward(self, x):
        return F.gelu(super().forward(x))


@wrong("efficient_self_attention", "norm-inside")
class NormOfTheInput(Parts):
    def forward(self, x):
        return super().forward(F.layer_norm(x.movedim(1, -1), (self.dim,)).movedim(-1, 1))


@wrong("efficient_self_attention", "cells-padded")
class PaddedCells(Parts):
    def layers(self, d, r):
        small = [nn.Conv2d(d, d, r, stride=r, padding=r // 2, bias=False) for _ in "kv"]
        return conv(d, d), *small, conv(d, d)


@wrong("efficient_self_attention", "weights-unused")
class OutForgotten(Parts):
    def forward(self, x):
        q, k, v = map(self.split, self.project(x))
        return self.join(self.shares(q, k) @ v, x)


@wrong("efficient_self_attention", "weights-unused")
class KeysTwice(Parts):
    def project(self, x):
        return self.to_q(x), self.to_k(x), self.to_k(x)


@wrong("efficient_self_attention", "keys-and-values-differ-in-order")
class OtherOrder(Parts):
    def project(self, x):
        v = self.to_v(x)
        return self.to_q(x), self.to_k(x), v.mT.reshape(v.shape)


@wrong("efficient_self_attention", "border-padded")
class Padded(Parts):
    def project(self, x):
        padded = F.pad(x, (0, -x.shape[-1] % self.r, 0, -x.shape[-2] % self.r))
        return self.to_q(x), self.to_k(padded), self.to_v(padded)


@wrong("efficient_self_attention", "border-padded")
class Resized(Parts):
    def project(self, x):
        size = [-(-n // self.r) * self.r for n in x.shape[-2:]]
        large = F.interpolate(x, size)
        return self.to_q(x), self.to_k(large), self.to_v(large)


@wrong("efficient_self_attention", "whole-cells-only")
class Einops(Parts):
    def project(self, x):
        cells = rearrange(x, "b c (h i) (w j) -> b h w (c i j)", i=self.r, j=self.r)
        return self.to_q(x), *(
            rearrange(cells @ t.weight.flatten(1).T, "b h w c -> b c h w") for t in (self.to_k, self.to_v)
        )


@wrong("efficient_self_attention", "whole-cells-only")
class Cropped(Parts):
    def forward(self, x):
        height, width = (n // self.r * self.r for n in x.shape[-2:])
        return super().forward(x[..., :height, :width])


@wrong("efficient_self_attention", "arguments-fixed")
class ThreeHeads(Parts):
    def __init__(self, *, dim, heads, reduction_ratio):
        super().__init__(dim=dim, heads=3, reduction_ratio=reduction_ratio)


@wrong("efficient_self_attention", "arguments-fixed")
class AlwaysTwo(Parts):
    def __init__(self, *, dim, heads, reduction_ratio):
        super().__init__(dim=dim, heads=heads, reduction_ratio=2)


@wrong("efficient_self_attention", "heads-break")
class ExpectsAll(Parts):
    def join(self, y, x):
        return rearrange(y[:, 0], "b (h w) c -> b c h w", h=x.shape[-2])


@wrong("efficient_self_attention", "batch-breaks")
class OnePicture(Parts):
    def join(self, y, x):
        return rearrange(y[:1], "b heads (h w) c -> b (heads c) h w", h=x.shape[-2]).reshape(x.shape)


@wrong("efficient_self_attention", "query-layer-missing")
class RawQuery(Parts):
    def layers(self, d, r):
        return nn.Identity(), conv(d, d, r), conv(d, d, r), conv(d, d)


@wrong("efficient_self_attention", "no-return")
class NoReturn(Parts):
    def forward(self, x):
        super().forward(x)


@wrong("efficient_self_attention", "signature", "could not run")
class OtherNames(Parts):
    def __init__(self, dim, num_heads, sr_ratio):
        super().__init__(dim=dim, heads=num_heads, reduction_ratio=sr_ratio)


@wrong("efficient_self_attention", "frozen")
class Frozen(Parts):
    def layers(self, d, r):
        layers = super().layers(d, r)
        layers[1].requires_grad_(False)
        return layers


@wrong("efficient_self_attention", "hard-choice")
class Hard(Parts):
    def shares(self, q, k):
        s = q @ k.mT
        return F.one_hot(s.argmax(-1), s.shape[-1]).to(s.dtype) + 0 * s


@wrong("efficient_self_attention", "layers-in-a-list")
class InAList(Parts):
    def layers(self, d, r):
        self.all = list(super().layers(d, r))
        return [None] * 4

    def project(self, x):
        return [layer(x) for layer in self.all[:3]]

    def forward(self, x):
        q, k, v = map(self.split, self.project(x))
        return self.all[3](self.join(self.shares(q, k) @ v, x))


wrong_value("efficient_self_attention", "instance-given", Parts(dim=12, heads=3, reduction_ratio=2))

# 3.4 ------------------------------------------------------------------------------------------------------------------

BUGS = {"a": "scale", "b": "split", "c": "none", "d": "softmax", "e": "join"}
right_value("attention bugs", "words", BUGS)
right_value("attention bugs", "capitals", {letter: bug.title() for letter, bug in BUGS.items()})
right_value("attention bugs", "another order", dict(reversed(BUGS.items())))
for kind, letter, word in [
    ("not-the-scale", "a", "none"),
    ("not-the-scale", "a", "softmax"),
    ("not-the-split", "b", "rows and columns"),
    ("nothing-wrong-with-c", "c", "softmax"),
    ("not-the-softmax", "d", "scale"),
    ("not-the-join", "e", "rows and columns"),
    ("no-such-word", "e", "everything"),
]:
    wrong_value("attention bugs", kind, BUGS | {letter: word}, f"{letter} {word}")

# 3.5 ------------------------------------------------------------------------------------------------------------------


def in_blocks(q, k, v, size, *, up=True, down=True, own=False, top=True, scale=None, divide=True, pairs=None):
    """The right answer, with what is changed in it."""
    above = below = 0
    largest = torch.full((len(q), 1), -torch.inf, dtype=q.dtype)
    for keys, values in pairs or zip(k.split(size), v.split(size)):
        s = q @ keys.T * (q.shape[1] ** -0.5 if scale is None else scale)
        mine = s.amax(1, keepdim=True)
        before, largest = largest, torch.maximum(largest, mine) if top else torch.zeros_like(largest)
        weights, shrunk = (s - (mine if own else largest)).exp(), (before - largest).exp() if top else 1
        above = (shrunk if up else 1) * above + weights @ values
        below = (shrunk if down else 1) * below + weights.sum(1, keepdim=True)
    return above / below if divide else above


right("attend_in_blocks", "running sums")(in_blocks)


@right("attend_in_blocks", "in two passes: the maximum first")
def two_passes(q, k, v, size):
    q, top = q / math.sqrt(q.shape[1]), torch.tensor(-torch.inf, dtype=q.dtype)
    starts = range(0, len(k), size)
    for i in starts:
        top = torch.maximum(top, (q @ k[i : i + size].T).amax(1))
    above, below = torch.zeros(len(q), v.shape[1], dtype=q.dtype), torch.zeros(len(q), dtype=q.dtype)
    for i in starts:
        weights = (q @ k[i : i + size].T - top[:, None]).exp()
        above, below = above + weights @ v[i : i + size], below + weights.sum(1)
    return above / below[:, None]


@right("attend_in_blocks", "a running mean, and logarithms of sums")
def running_mean(q, k, v, size):
    mean, log_sum = torch.zeros(len(q), v.shape[1], dtype=q.dtype), torch.full((len(q), 1), -math.inf, dtype=q.dtype)
    for keys, values in zip(torch.split(k, size), torch.split(v, size)):
        s = torch.einsum("id,jd->ij", q, keys) / q.shape[1] ** 0.5
        new = torch.logaddexp(log_sum, s.logsumexp(1, keepdim=True))
        mean, log_sum = (log_sum - new).exp() * mean + (s - new).exp() @ values, new
    return mean


@right("attend_in_blocks", "one query after the other")
def query_by_query(q, k, v, size):
    return torch.cat([in_blocks(one, k, v, size) for one in q.split(1)])


def blocks(kind, outcome="not yet right", **functions):
    for name, function in functions.items():
        wrong_value("attend_in_blocks", kind, function, name, outcome)


def each(q, k, v, size):
    return torch.stack([products(q, *pair) for pair in zip(k.split(size), v.split(size))])


blocks("whole-matrix", whole=lambda q, k, v, size: products(q, k, v))
blocks(
    "whole-matrix",
    cat=lambda q, k, v, size: torch.cat([q @ one.T for one in k.split(size)], 1).div(q.shape[1] ** 0.5).softmax(1) @ v,
)
blocks("kernel-used", kernel=lambda q, k, v, size: F.scaled_dot_product_attention(q, k, v))
blocks("scale-missing", unscaled=lambda q, k, v, size: in_blocks(q, k, v, size, scale=1))
blocks("blocks-averaged", mean=lambda q, k, v, size: each(q, k, v, size).mean(0))
blocks("blocks-added", added=lambda q, k, v, size: each(q, k, v, size).sum(0))
blocks(
    "one-block-only",
    last=lambda q, k, v, size: each(q, k, v, size)[-1],
    first=lambda q, k, v, size: each(q, k, v, size)[0],
)
blocks("not-rescaled", neither=lambda q, k, v, size: in_blocks(q, k, v, size, up=False, down=False))
blocks(
    "one-sum-not-rescaled",
    above=lambda q, k, v, size: in_blocks(q, k, v, size, down=False),
    below=lambda q, k, v, size: in_blocks(q, k, v, size, up=False),
)
blocks(
    "maximum-of-the-block",
    own=lambda q, k, v, size: in_blocks(q, k, v, size, own=True),
    own_not_rescaled=lambda q, k, v, size: in_blocks(q, k, v, size, own=True, up=False, down=False),
)
blocks("never-divided", not_divided=lambda q, k, v, size: in_blocks(q, k, v, size, divide=False))
blocks("never-divided", not_divided_no_top=lambda q, k, v, size: in_blocks(q, k, v, size, divide=False, top=False))
blocks("overflow", no_maximum=lambda q, k, v, size: in_blocks(q, k, v, size, top=False))
blocks(
    "last-block-lost",
    whole_blocks=lambda q, k, v, size: in_blocks(
        q,
        k,
        v,
        size,
        pairs=[(k[i * size : (i + 1) * size], v[i * size : (i + 1) * size]) for i in range(max(len(k) // size, 1))],
    ),
)
blocks(
    "size-must-divide",
    unflattened=lambda q, k, v, size: in_blocks(
        q, k, v, size, pairs=list(zip(k.unflatten(0, (-1, size)), v.unflatten(0, (-1, size))))
    ),
)
blocks("block-ignored", number_of_blocks=lambda q, k, v, size: in_blocks(q, k, v, -(-len(k) // size)))
blocks("block-ignored", queries=lambda q, k, v, size: torch.cat([products(one, k, v) for one in q.split(size)]))
blocks("block-ignored", a_hundred=lambda q, k, v, size: in_blocks(q, k, v, 100))


@wrong("attend_in_blocks", "all-blocks-kept")
def kept(q, k, v, size):
    scores = [q @ one.T / q.shape[1] ** 0.5 for one in k.split(size)]
    top = torch.stack([s.amax(1) for s in scores]).amax(0)[:, None]
    weights = [(s - top).exp() for s in scores]
    return sum(w @ one for w, one in zip(weights, v.split(size))) / sum(w.sum(1, keepdim=True) for w in weights)


@wrong("attend_in_blocks", "no-return")
def no_return(q, k, v, size):
    out = in_blocks(q, k, v, size)  # noqa: F841


# Warm-ups -------------------------------------------------------------------------------------------------------------

ratios = torch.tensor([[1.0, 1, 2], [3, 1, 4], [1, 2, 1], [2, 2, 4], [6, 1, 1]])
similarity = ratios.log()
right_value("shares", "softmax", similarity.softmax(-1))
right_value("shares", "fractions", ratios / ratios.sum(1, keepdim=True))
wrong_value("shares", "softmax-over-queries", similarity.softmax(0))
wrong_value("shares", "softmax-over-all", ratios / ratios.sum())
wrong_value("shares", "not-normalised", similarity.exp())
wrong_value("shares", "exponential-missing", similarity / similarity.sum(-1, keepdim=True))
wrong_value("shares", "log-of-shares", similarity.log_softmax(-1))
wrong_value("shares", "axes-exchanged", similarity.softmax(-1).T)

picture = 10 * torch.arange(8.0)[:, None, None] + torch.arange(1, 7.0).view(2, 3)
right_value("split", "rearrange", rearrange(picture, "(a c) h w -> a (h w) c", a=2))
right_value("split", "views", picture.view(2, 4, 6).transpose(1, 2))
wrong_value("split", "channels-dealt-out", rearrange(picture, "(c a) h w -> a (h w) c", a=2))
wrong_value("split", "split-mixes-tokens", picture.view(2, 6, 4))
wrong_value("split", "tokens-cut-in-rows", picture.flatten(1).T.reshape(2, 6, 4))
wrong_value("split", "rows-and-columns", rearrange(picture, "(a c) h w -> a (w h) c", a=2))
wrong_value("split", "tokens-last", picture.view(2, 4, 6))
wrong_value("split", "heads-in-the-middle", rearrange(picture, "(a c) h w -> (h w) a c", a=2))
wrong_value("split", "wrong-rank", picture.flatten(1).T)

heard = 100 * torch.arange(2.0)[:, None, None] + 10 * torch.arange(6.0)[:, None] + torch.arange(4.0)
right_value("join", "rearrange", rearrange(heard, "a (h w) c -> (a c) h w", h=2))
right_value("join", "views", heard.mT.reshape(8, 2, 3))
wrong_value("join", "join-mixes-tokens", heard.view(8, 2, 3))
wrong_value("join", "joined-as-tokens", heard.view(6, 8).T.reshape(8, 2, 3))
wrong_value("join", "channels-dealt-out", rearrange(heard, "a (h w) c -> (c a) h w", h=2))
wrong_value("join", "rows-and-columns", rearrange(heard, "a (w h) c -> (a c) h w", h=2))
wrong_value("join", "height-for-width", rearrange(heard, "a (h w) c -> (a c) h w", h=3))
wrong_value("join", "channels-last", rearrange(heard, "a (h w) c -> h w (a c)", h=2))
wrong_value("shares", "exponential-twice", ratios.softmax(-1))
wrong_value("shares", "each-by-itself", similarity.sigmoid())
wrong_value("shares", "one-takes-all", F.one_hot(similarity.argmax(-1)))

# A second round -------------------------------------------------------------------------------------------------------


def from_maximum(q, k, v, size, start, scale):
    top, above, below = torch.full((len(q), 1), start, dtype=q.dtype), 0, 0
    for keys, values in zip(k.split(size), v.split(size)):
        s = q @ keys.T * scale
        new = torch.maximum(top, s.amax(1, keepdim=True))
        weights, factor = (s - new).exp(), (top - new).exp()
        above, below, top = above * factor + weights @ values, below * factor + weights.sum(1, keepdim=True), new
    return above / below


@wrong("attend_in_blocks", "first-maximum")
def from_zero(q, k, v, size):
    return from_maximum(q, k, v, size, 0.0, q.shape[1] ** -0.5)


@wrong("attend_in_blocks", "scale-of-something-else")
def scaled_by_the_keys(q, k, v, size):
    return from_maximum(q, k, v, size, -torch.inf, len(k) ** -0.5)


@right("attend_in_blocks", "begins at the smallest number")
def from_the_smallest(q, k, v, size):
    return from_maximum(q, k, v, size, torch.finfo(q.dtype).min, q.shape[1] ** -0.5)


@right("attend_in_blocks", "a running logarithm")
def running_logarithm(q, k, v, size):
    out, lse = q.new_zeros(len(q), v.shape[1]), q.new_full((len(q), 1), -torch.inf)
    for keys, values in zip(k.split(size), v.split(size)):
        s = q @ keys.mT / math.sqrt(q.shape[1])
        new = torch.logaddexp(lse, s.logsumexp(1, keepdim=True))
        out, lse = out * (lse - new).exp() + (s - new).exp() @ values, new
    return out


@right("attend", "logsumexp, a query at a time")
def with_logsumexp(q, k, v):
    rows = []
    for index in range(q.shape[-2]):
        s = (k @ q[..., index, :, None]).squeeze(-1) / math.sqrt(q.shape[-1])
        rows.append(((s - s.logsumexp(-1, keepdim=True)).exp()[..., None, :] @ v).squeeze(-2))
    return torch.stack(rows, -2)


@right("efficient_self_attention", "linear layers on unfolded cells, a loop over heads")
class OnCells(nn.Module):
    def __init__(self, *, dim, heads, reduction_ratio):
        super().__init__()
        self.heads, self.ratio = heads, reduction_ratio
        self.to_q, self.to_out = nn.Linear(dim, dim, bias=False), nn.Linear(dim, dim, bias=False)
        self.to_k, self.to_v = (nn.Linear(dim * reduction_ratio**2, dim, bias=False) for _ in range(2))

    def forward(self, x):
        cells = F.unfold(x, self.ratio, stride=self.ratio).mT
        q, k, v = self.to_q(x.flatten(2).mT), self.to_k(cells), self.to_v(cells)
        triples = zip(*(t.chunk(self.heads, -1) for t in (q, k, v)))
        heard = [(a @ b.mT * a.shape[-1] ** -0.5).softmax(-1) @ c for a, b, c in triples]
        return self.to_out(torch.cat(heard, -1)).mT.unflatten(2, x.shape[2:])


# What a reader tried --------------------------------------------------------------------------------------------------


def summed(q, k, v, size, top):
    """Sums over the blocks, measured from a number, or from what a function makes of q and the first block."""
    above = below = 0
    top = top(q, k[:size]) if callable(top) else top
    for keys, values in zip(k.split(size), v.split(size)):
        weights = (q @ keys.T / q.shape[1] ** 0.5 - top).exp()
        above, below = above + weights @ values, below + weights.sum(1, keepdim=True)
    return above / below


@wrong("attend_in_blocks", "results-kept")
def joined_in_the_end(q, k, v, size):
    results, logs = [], []
    for keys, values in zip(k.split(size), v.split(size)):
        similarities = q @ keys.T / q.shape[1] ** 0.5
        results.append(similarities.softmax(1) @ values)
        logs.append(similarities.logsumexp(1))
    return sum(share[:, None] * result for share, result in zip(torch.stack(logs).softmax(0), results))


@wrong("attend_in_blocks", "results-kept")
def summed_in_the_end(q, k, v, size):
    results, logs = [], []
    for keys, values in zip(k.split(size), v.split(size)):
        similarities = q @ keys.T / q.shape[1] ** 0.5
        results.append((similarities.softmax(1) @ values)[:, :])
        logs.append(similarities.logsumexp(1)[:, None])
    total = logs[0]
    for log in logs[1:]:
        total = torch.logaddexp(total, log)
    return sum((log - total).exp() * result for log, result in zip(logs, results))


@wrong("attend_in_blocks", "cut-off")
def cut_off(q, k, v, size):
    above = below = 0
    for keys, values in zip(k.split(size), v.split(size)):
        weights = (q @ keys.T / q.shape[1] ** 0.5).clamp(max=80).exp()
        above, below = above + weights @ values, below + weights.sum(1, keepdim=True)
    return above / below


@wrong("attend_in_blocks", "overflow")
def from_a_fixed_number(q, k, v, size):
    return summed(q, k, v, size, 50)


@wrong("attend_in_blocks", "maximum-of-the-first-block")
def from_the_first_block(q, k, v, size):
    return summed(q, k, v, size, lambda q, k: (q @ k.T / q.shape[1] ** 0.5).amax(1, keepdim=True))


@wrong("attend_in_blocks", "maximum-of-all-queries")
def one_maximum_for_all(q, k, v, size):
    top = torch.full((), -torch.inf, dtype=q.dtype)
    above = below = 0
    for keys, values in zip(k.split(size), v.split(size)):
        similarities = q @ keys.T / q.shape[1] ** 0.5
        new = torch.maximum(top, similarities.amax())
        factor, weights, top = (top - new).exp(), (similarities - new).exp(), new
        above, below = above * factor + weights @ values, below * factor + weights.sum(1, keepdim=True)
    return above / below


@wrong("attend_in_blocks", "factor-inverted")
def grown_in_place_of_shrunk(q, k, v, size):
    above = below = top = None
    for keys, values in zip(k.split(size), v.split(size)):
        similarities = q @ keys.T / q.shape[1] ** 0.5
        new = similarities.amax(1, keepdim=True)
        new = new if top is None else torch.maximum(top, new)
        weights = (similarities - new).exp()
        sums = weights @ values, weights.sum(1, keepdim=True)
        if top is not None:
            factor = (new - top).exp()
            sums = above * factor + sums[0], below * factor + sums[1]
        (above, below), top = sums, new
    return above / below


# What an adversary tried ----------------------------------------------------------------------------------------------

wrong_value("shares", "scaled", (similarity / 3**0.5).softmax(-1))
wrong_value("shares", "scale-multiplied", (similarity * 3**0.5).softmax(-1))
wrong_value("shares", "nothing-done", similarity)
wrong_value("shares", "softmax-twice", similarity.softmax(-1).softmax(-1))
wrong_value("shares", "similarity-reversed", (-similarity).softmax(-1))
wrong_value("shares", "by-the-largest", ratios / ratios.amax(-1, keepdim=True))
wrong_value("shares", "by-the-length", F.normalize(ratios, dim=-1))

for name, project in {
    "QueriesCut": lambda self, x: (self.to_q(x.detach()), self.to_k(x), self.to_v(x)),
    "KeysCut": lambda self, x: (self.to_q(x), self.to_k(x.detach()), self.to_v(x)),
    "ValuesCut": lambda self, x: (self.to_q(x), self.to_k(x), self.to_v(x.detach())),
    "KeysAndValuesCut": lambda self, x: (self.to_q(x), self.to_k(x.detach()), self.to_v(x.detach())),
}.items():
    variant("wrong-gradient", name, project=project)
variant("changes-input", "RectifiesItsInput", project=lambda self, x: Parts.project(self, x.data.relu_()))
variant(
    "close-but-not-equal",
    "SingleShares",
    shares=lambda self, q, k: (q @ k.mT * self.scale()).softmax(-1, dtype=torch.float32).double(),
)
variant("similarity-reversed", "LeastSimilar", scale=lambda self: -((self.dim // self.heads) ** -0.5))
variant("heads-mixed-too-early", "OutOnValues", forward=lambda self, x: mixed_early(self, x))
variant(
    "last-cell-ignored",
    "LastCell",
    forward=lambda self, x: ignoring(self, *map(self.split, self.project(x)), x),
)
layered(
    "cells-one-side",
    "Strips",
    lambda self, d, r: (conv(d, d), *(nn.Conv2d(d, d, (r, 1), (r, 1), bias=False) for _ in "kv"), conv(d, d)),
)
layered(
    "groups",
    "OutOfEachHead",
    lambda self, d, r: (conv(d, d), conv(d, d, r), conv(d, d, r), nn.Conv2d(d, d, 1, bias=False, groups=self.heads)),
)
layered(
    "groups",
    "DepthwiseKeys",
    lambda self, d, r: (conv(d, d), *(nn.Conv2d(d, d, r, r, bias=False, groups=d) for _ in "kv"), conv(d, d)),
)


def mixed_early(self, x):
    q, k, v = self.project(x)
    q, k, v = map(self.split, (q, k, self.to_out(v)))
    return self.join(self.shares(q, k) @ v, x)


def ignoring(self, q, k, v, x):
    k, v = (t[:, :, : max(1, t.shape[2] - 1)] for t in (k, v))
    return self.to_out(self.join(self.shares(q, k) @ v, x))


@wrong("efficient_self_attention", "parameters")
class PositionAdded(Parts):
    def __init__(self, **sizes):
        super().__init__(**sizes)
        self.pos = nn.Parameter(torch.zeros(1))

    def shares(self, q, k):
        return (q @ k.mT * self.scale() + self.pos).softmax(-1)


@wrong("efficient_self_attention", "arguments-fixed")
class TwoHeads(Parts):
    def __init__(self, *, dim, heads, reduction_ratio):
        super().__init__(dim=dim, heads=2, reduction_ratio=reduction_ratio)


@wrong("efficient_self_attention", "heads-and-width-exchanged")
class HeadsForWidth(Parts):
    def __init__(self, *, dim, heads, reduction_ratio):
        super().__init__(dim=dim, heads=dim // heads, reduction_ratio=reduction_ratio)


@wrong("efficient_self_attention", "keeps-state")
class FirstHeight(Parts):
    def join(self, y, x):
        self.height = getattr(self, "height", x.shape[-2])
        return rearrange(y, "b heads (h w) c -> b (heads c) h w", h=self.height)


@wrong("efficient_self_attention", "batch-not-first")
class TokensFirst(nn.Module):
    def __init__(self, *, dim, heads, reduction_ratio):
        super().__init__()
        self.r, n = reduction_ratio, dim * reduction_ratio**2
        self.attention = nn.MultiheadAttention(dim, heads, bias=False, kdim=n, vdim=n)

    def forward(self, x):
        cells = F.unfold(x, self.r, stride=self.r).mT
        y, _ = self.attention(x.flatten(2).mT, cells, cells, need_weights=False)
        return y.mT.unflatten(2, x.shape[2:])


@wrong("efficient_self_attention", "border-does-not-ask")
class CroppedAndPadded(Cropped):
    def forward(self, x):
        y = super().forward(x)
        return F.pad(y, (0, x.shape[-1] - y.shape[-1], 0, x.shape[-2] - y.shape[-2]))


@wrong("efficient_self_attention", "border-does-not-ask")
class CroppedAndEnlarged(Cropped):
    def forward(self, x):
        return F.interpolate(super().forward(x), x.shape[2:], mode="bilinear")


@wrong("efficient_self_attention", "border-does-not-ask")
class Shrunken(Parts):
    def forward(self, x):
        whole = F.interpolate(x, [n // self.r * self.r for n in x.shape[-2:]])
        return F.interpolate(super().forward(whole), x.shape[2:])


def running(q, k, v, size, *, step=None, top=torch.maximum, start=-torch.inf):
    """Running sums, with what is changed in a step: the sums before, the factor, and what is added to them."""
    q = q * q.shape[1] ** -0.5
    largest, sums = torch.full((len(q), 1), start, dtype=q.dtype), (0, 0)
    for keys, values in zip(k.split(size), v.split(size)):
        s = q @ keys.T
        new = top(largest, s.amax(1, keepdim=True))
        weights, factor, largest = (s - new).exp(), (largest - new).exp(), new
        added = weights @ values, weights.sum(1, keepdim=True)
        right = tuple(factor * old + more for old, more in zip(sums, added))
        sums = right if step is None else step(sums, factor, weights, added, right)
    return sums[0] / sums[1]


def stepped(kind, **steps):
    blocks(
        kind,
        **{name: lambda q, k, v, size, step=step: running(q, k, v, size, step=step) for name, step in steps.items()},
    )


stepped(
    "sum-replaced",
    of_weights=lambda sums, factor, weights, added, right: (right[0], added[1]),
    of_values=lambda sums, factor, weights, added, right: (added[0], right[1]),
)
stepped(
    "one-sum-for-all", no_axis=lambda sums, factor, weights, added, right: (right[0], factor * sums[1] + weights.sum())
)
stepped(
    "shrunk-too-late",
    values_too=lambda sums, factor, weights, added, right: (factor * (sums[0] + added[0]), right[1]),
    weights_too=lambda sums, factor, weights, added, right: (right[0], factor * (sums[1] + added[1])),
)
stepped("blocks-counted", ones=lambda sums, factor, weights, added, right: (right[0], factor * sums[1] + 1))
stepped(
    "blocks-averaged",
    means=lambda sums, factor, weights, added, right: (factor * sums[0] + added[0] / added[1], factor * sums[1] + 1),
)
blocks("first-maximum", from_minus_ten_thousand=lambda q, k, v, size: running(q, k, v, size, start=-1e4))
blocks("maximum-of-the-last-block", last=lambda q, k, v, size: running(q, k, v, size, top=lambda before, mine: mine))
blocks(
    "zeros-added",
    padded=lambda q, k, v, size: running(q, *(F.pad(t, (0, 0, 0, -len(k) % size)) for t in (k, v)), size),
)
blocks(
    "block-ignored",
    one_more=lambda q, k, v, size: running(q, k, v, size + 1),
    two_more=lambda q, k, v, size: running(q, k, v, size + 2),
    twice=lambda q, k, v, size: running(q, k, v, 2 * size),
    whole_rows=lambda q, k, v, size: torch.stack([(a @ k.T * q.shape[1] ** -0.5).softmax(0) @ v for a in q]),
)
blocks(
    "close-but-not-equal",
    small_constant=lambda q, k, v, size: running(
        q, k, v, size, step=lambda sums, factor, weights, added, right: (right[0], factor * sums[1] + added[1] + 1e-6)
    ),
)


right("attend_in_blocks", "one key at a time")(lambda q, k, v, size: running(q, k, v, 1))


@right("attend_in_blocks", "a column of ones beside the values")
def ones_beside(q, k, v, size):
    v = torch.cat([v, torch.ones_like(v[:, :1])], 1)
    acc, m = torch.zeros(q.shape[0], v.shape[1], dtype=v.dtype), q.new_full((q.shape[0], 1), float("-inf"))
    for start in range(0, len(k), size):
        s = (q / q.shape[1] ** 0.5) @ k[start : start + size].T
        new = torch.cat([m, s], 1).amax(1, keepdim=True)
        acc, m = acc * torch.exp(m - new) + torch.exp(s - new) @ v[start : start + size], new
    return acc[:, :-1] / acc[:, -1:]


@right("attend_in_blocks", "shares of what was and what comes")
def old_and_new(q, k, v, size):
    mean, log = q.new_zeros(len(q), v.shape[1]), q.new_full((len(q), 1), -torch.inf)
    for keys, values in zip(k.split(size), v.split(size)):
        all_of_them = torch.cat([log, torch.einsum("nd,md->nm", q, keys) / math.sqrt(q.shape[1])], 1)
        shares, log = all_of_them.softmax(1), all_of_them.logsumexp(1, keepdim=True)
        mean = shares[:, :1] * mean + shares[:, 1:] @ values
    return mean


@right("attend_in_blocks", "products written out")
def written_out(q, k, v, size):
    parts = []
    for block in q.split(7):
        above, below, top = 0, 0, block.new_full((len(block),), -1e9)
        for keys, values in zip(k.split(size), v.split(size)):
            s = (block[:, None] * keys[None]).sum(-1) / keys.shape[-1] ** 0.5
            new = torch.maximum(top, s.amax(1))
            w, factor, top = (s - new[:, None]).exp(), (top - new).exp(), new
            above, below = above * factor[:, None] + (w[..., None] * values).sum(1), below * factor + w.sum(1)
        parts.append(above / below[:, None])
    return torch.cat(parts)
