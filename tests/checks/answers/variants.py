"""Answers to the exercises of chapter 8."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from catalogue import right, right_value, wrong, wrong_value
from einops import rearrange
from torch import nn

import segformer_edu as se
from segformer_edu.model.variants import COMMON, VARIANTS

# 8.1 Right ------------------------------------------------------------------------------------------------------------

right("drop_path", "the library's")(se.DropPath)


@right("drop_path", "timm's drop_path, any rank")
class Timms(nn.Module):
    def __init__(self, drop_prob=0.0, scale_by_keep=True):
        super().__init__()
        self.drop_prob, self.scale_by_keep = drop_prob, scale_by_keep

    def forward(self, x):
        if self.drop_prob == 0.0 or not self.training:
            return x
        keep_prob = 1 - self.drop_prob
        random_tensor = x.new_empty((x.shape[0],) + (1,) * (x.ndim - 1)).bernoulli_(keep_prob)
        if keep_prob > 0.0 and self.scale_by_keep:
            random_tensor.div_(keep_prob)
        return x * random_tensor


@right("drop_path", "the released code's floor")
class Floor(nn.Module):
    def __init__(self, rate=0.0):
        super().__init__()
        self.rate = rate

    def forward(self, x):
        if not self.training or self.rate in (0, 1):
            return x * (not (self.training and self.rate == 1))
        keep = 1 - self.rate
        return x.div(keep) * (keep + torch.rand(x.shape[0], 1, 1, 1, dtype=x.dtype)).floor()


@right("drop_path", "F.dropout of ones")
class OfOnes(nn.Module):
    def __init__(self, rate=0.0):
        super().__init__()
        self.rate = rate

    def forward(self, x):
        return torch.einsum("bchw,b->bchw", x, F.dropout(x.new_ones(len(x)), self.rate, self.training))


@right("drop_path", "a loop and torch.where, refuses 1")
class Looped(nn.Module):
    def __init__(self, rate=0.0):
        super().__init__()
        assert 0 <= rate < 1
        self.rate = rate

    def forward(self, x):
        if not self.training:
            return x
        draws = torch.rand(len(x))[:, None, None, None]
        return torch.where(draws < self.rate, torch.zeros_like(x), x / (1 - self.rate))


# 8.1 Wrong ------------------------------------------------------------------------------------------------------------


class Drop(nn.Module):
    """The right answer, whose steps the wrong ones change."""

    def __init__(self, rate=0.0):
        super().__init__()
        self.rate = rate

    def shape(self, x):
        return len(x), 1, 1, 1

    def kept(self, x):
        return torch.rand(self.shape(x)) >= self.rate

    def scale(self):
        return 1 / (1 - self.rate) if self.rate < 1 else 1.0

    def forward(self, x):
        return x * self.kept(x) * self.scale() if self.training else x


def drop(kind, name, outcome="not yet right", **changed):
    wrong_value("drop_path", kind, type(name, (Drop,), changed), name, outcome)


def only_in_training(value):
    return lambda self, x: value(self, x) if self.training else x


drop("numbers-dropped", "plain_dropout", forward=lambda self, x: F.dropout(x, self.rate, self.training))
drop("numbers-dropped", "numbers", shape=lambda self, x: x.shape)
drop("channels-dropped", "dropout2d", forward=lambda self, x: F.dropout2d(x, self.rate, self.training))
drop("pixels-dropped", "pixels", shape=lambda self, x: (len(x), 1, *x.shape[2:]))
drop("numbers-dropped", "columns", shape=lambda self, x: (len(x), 1, 1, x.shape[3]), kept=lambda self, x: (
    torch.rand(len(x), x.shape[1], 1, x.shape[3]) >= self.rate))  # fmt: skip
drop("batch-dropped", "batch", shape=lambda self, x: (1, 1, 1, 1))
drop("batch-dropped", "batch_by_if", forward=only_in_training(
    lambda self, x: x * 0 if torch.rand(()) < self.rate else x * self.scale()))  # fmt: skip
drop("not-scaled", "plain", scale=lambda self: 1)
drop("scaled-by-the-rate", "divided_by_rate", scale=lambda self: 1 / self.rate if self.rate else 1)
drop("scaled-by-the-rate", "multiplied", scale=lambda self: 1 - self.rate)
drop("scaled-by-the-rate", "twice", scale=lambda self: 1 / (1 - self.rate) ** 2 if self.rate < 1 else 1)
drop("kept-and-dropped", "keeps_rate", kept=lambda self, x: torch.rand(self.shape(x)) < self.rate)
drop("kept-and-dropped", "keeps_and_divides_by_rate", kept=lambda self, x: torch.rand(self.shape(x)) < self.rate,
     scale=lambda self: 1 / self.rate if self.rate else 1)  # fmt: skip
drop("number-fixed", "exactly_so_many", kept=lambda self, x: torch.where(
    torch.randperm(len(x)) < round(self.rate * len(x)), 0.0, 1.0).view(self.shape(x)))  # fmt: skip
drop("number-fixed", "shuffled", kept=lambda self, x: (
    torch.arange(len(x)) >= self.rate * len(x))[torch.randperm(len(x))].view(self.shape(x)))  # fmt: skip
drop("rate-ignored", "half", kept=lambda self, x: torch.rand(self.shape(x)) < 0.5)
drop("rate-ignored", "normal_numbers", kept=lambda self, x: torch.randn(self.shape(x)) >= self.rate)
drop("never-drops", "identity", forward=lambda self, x: x)
drop("never-drops", "randint", kept=lambda self, x: torch.randint(1, 9, self.shape(x)) >= self.rate)
drop("always-drops", "zeros", kept=lambda self, x: torch.zeros(self.shape(x)))
drop("active-in-eval", "always", forward=lambda self, x: x * self.kept(x) * self.scale())
drop("scaled-in-eval", "huang", forward=lambda self, x: x * self.kept(x) if self.training else x * (1 - self.rate))
drop("scaled-in-eval", "enlarged", forward=lambda self, x: (x * self.kept(x) if self.training else x) * self.scale())
drop("active-in-eval-alone", "wrong_way", forward=lambda self, x: x if self.training else x * self.kept(x))
drop("changed-at-rate-zero", "at_zero", forward=only_in_training(
    lambda self, x: x * self.kept(x) * self.scale() if self.rate else 2 * x))  # fmt: skip
right("drop_path", "NaN at 1, which is not asked for", remark=True)(
    type("Divides", (Drop,), {"scale": lambda self: torch.tensor(1.0) / (1 - self.rate)}))  # fmt: skip
right("drop_path", "an error of Python's at 1", remark=True)(
    type("DividesFloats", (Drop,), {"scale": lambda self: 1 / (1 - self.rate)}))  # fmt: skip
drop("residual-inside", "adds", forward=only_in_training(lambda self, x: x + x * self.kept(x) * self.scale()))
drop("noise-added", "noise", kept=lambda self, x: torch.rand(self.shape(x)))
drop("noise-added", "noise_in_numbers", kept=lambda self, x: torch.randn(x.shape))
drop("changes-input", "in_place", forward=only_in_training(lambda self, x: x.mul_(self.kept(x)).mul_(self.scale())))
drop("no-return", "nothing", forward=lambda self, x: print(x.shape))
drop("wrong-dtype", "float", forward=lambda self, x: (x * self.kept(x) * self.scale()).float())
drop("no-gradient", "detached", forward=only_in_training(lambda self, x: (x * self.kept(x) * self.scale()).detach()))
drop("wrong-gradient", "part", forward=only_in_training(
    lambda self, x: (lambda kept: x * kept + (x * kept * (self.scale() - 1)).detach())(self.kept(x))))  # fmt: skip
drop("name-missing", "typo", "could not run", forward=lambda self, x: x * self.keep(x))
drop("axes-exchanged", "turned", forward=lambda self, x: (x * self.kept(x) * self.scale()).transpose(2, 3))


@wrong("drop_path", "drawn-once")
class DrawnInInit(Drop):
    def __init__(self, rate=0.0):
        super().__init__(rate)
        self.mask = torch.rand(3000, 1, 1, 1) >= rate

    def kept(self, x):
        return self.mask[: len(x)]


@wrong("drop_path", "drawn-once")
class Seeded(Drop):
    def kept(self, x):
        return torch.rand(self.shape(x), generator=torch.Generator().manual_seed(0)) >= self.rate


@wrong("drop_path", "signature", "could not run")
class NoDefault(Drop):
    def __init__(self, rate):
        super().__init__(rate)


# 8.2 ------------------------------------------------------------------------------------------------------------------


def split(rates, depths):
    rates = iter(rates)
    return [[next(rates) for _ in range(depth)] for depth in depths]


@right("drop_rates", "linspace, split")
def with_linspace(depths, last):
    return torch.linspace(0, last, sum(depths)).split(list(depths))


@right("drop_rates", "a running number, as the released code")
def with_cursor(depths, last):
    dpr = [x.item() for x in torch.linspace(0, last, sum(depths))]
    found, cur = [], 0
    for depth in depths:
        found.append(dpr[cur : cur + depth])
        cur += depth
    return found


@right("drop_rates", "formula, tuples")
def with_formula(depths, last):
    steps = max(1, sum(depths) - 1)
    return tuple(
        tuple(last * (sum(depths[:stage]) + block) / steps for block in range(depth))
        for stage, depth in enumerate(depths)
    )


for kind, answer in {
    "restarted": lambda d, last: [torch.linspace(0, last, depth).tolist() for depth in d],
    "starts-above-zero": lambda d, last: split([last * (i + 1) / sum(d) for i in range(sum(d))], d),
    "ends-too-low": lambda d, last: split([last * i / sum(d) for i in range(sum(d))], d),
    "wrong-way-round": lambda d, last: split(torch.linspace(last, 0, sum(d)).tolist(), d),
    "one-a-stage": lambda d, last: [[last * i / max(len(d) - 1, 1)] * depth for i, depth in enumerate(d)],
    "keeping": lambda d, last: split((1 - torch.linspace(0, last, sum(d))).tolist(), d),
    "not-split": lambda d, last: torch.linspace(0, last, sum(d)).tolist(),
    "lost-or-doubled": lambda d, last: [torch.linspace(0, last, sum(d)).tolist()[i : i + n] for i, n in enumerate(d)],
    "single-block": lambda d, last: split([last * i / (sum(d) - 1) for i in range(sum(d))], d),
    "not-even": lambda d, last: split((torch.linspace(0, last**0.5, sum(d)) ** 2).tolist(), d),
    "no-return": lambda d, last: print(split([last * i for i in range(sum(d))], d)),
    "wrong-type": lambda d, last: last,
}.items():
    wrong_value("drop_rates", kind, answer, "lambda")


@wrong("drop_rates", "restarted")
def each_by_its_own_number(depths, last):
    return [[last * i / depth for i in range(depth)] for depth in depths]


@wrong("drop_rates", "not-even")
def from_a_tenth(depths, last):
    return split(torch.linspace(last / 10, last, sum(depths)).tolist(), depths)


@wrong("drop_rates", "lost-or-doubled")
def one_too_few(depths, last):
    return [stage[:-1] for stage in with_cursor(depths, last)]


# 8.3 Right ------------------------------------------------------------------------------------------------------------

right("paper_attention", "the library's")(se.SpatialReductionAttention)


@right("paper_attention", "the released code: tokens and nn.Linear")
class Released(nn.Module):
    def __init__(self, dim, heads, reduction_ratio):
        super().__init__()
        self.num_heads, self.scale, self.sr_ratio = heads, (dim // heads) ** -0.5, reduction_ratio
        self.q, self.kv, self.proj = nn.Linear(dim, dim), nn.Linear(dim, dim * 2), nn.Linear(dim, dim)
        if reduction_ratio > 1:
            self.sr = nn.Conv2d(dim, dim, kernel_size=reduction_ratio, stride=reduction_ratio)
            self.norm = nn.LayerNorm(dim)

    def forward(self, x):
        B, C, H, W = x.shape
        N = H * W
        t = x.flatten(2).transpose(1, 2)
        q = self.q(t).reshape(B, N, self.num_heads, C // self.num_heads).permute(0, 2, 1, 3)
        if self.sr_ratio > 1:
            t = self.norm(self.sr(x).reshape(B, C, -1).permute(0, 2, 1))
        kv = self.kv(t).reshape(B, -1, 2, self.num_heads, C // self.num_heads).permute(2, 0, 3, 1, 4)
        attn = ((q @ kv[0].transpose(-2, -1)) * self.scale).softmax(dim=-1)
        out = self.proj((attn @ kv[1]).transpose(1, 2).reshape(B, N, C))
        return out.transpose(1, 2).reshape(B, C, H, W)


@right("paper_attention", "transformers: keys and values apart")
class Transformers(nn.Module):
    def __init__(self, dim, heads, reduction_ratio):
        super().__init__()
        self.heads = heads
        self.value, self.key, self.query, self.dense = (nn.Linear(dim, dim) for _ in range(4))
        self.ratio = reduction_ratio
        if reduction_ratio > 1:
            self.sr = nn.Conv2d(dim, dim, reduction_ratio, reduction_ratio)
            self.layer_norm = nn.LayerNorm(dim, eps=1e-5)

    def forward(self, x):
        tokens = rearrange(x, "b c h w -> b (h w) c")
        small = self.layer_norm(rearrange(self.sr(x), "b c h w -> b (h w) c")) if self.ratio > 1 else tokens
        q, k, v = (
            rearrange(t, "b n (a c) -> b a n c", a=self.heads)
            for t in (self.query(tokens), self.key(small), self.value(small))
        )
        out = F.scaled_dot_product_attention(q, k, v)
        return rearrange(self.dense(rearrange(out, "b a n c -> b n (a c)")), "b (h w) c -> b c h w", h=x.shape[2])


@right("paper_attention", "nn.MultiheadAttention")
class Multihead(nn.Module):
    def __init__(self, dim, heads, reduction_ratio):
        super().__init__()
        self.attend = nn.MultiheadAttention(dim, heads, batch_first=True)
        self.shrink = nn.Conv2d(dim, dim, reduction_ratio, reduction_ratio) if reduction_ratio > 1 else None
        self.norm = nn.LayerNorm(dim) if reduction_ratio > 1 else nn.Identity()

    def forward(self, x):
        small = x if self.shrink is None else self.shrink(x)
        q, k = x.flatten(2).mT, self.norm(small.flatten(2).mT)
        return self.attend(q, k, k)[0].mT.reshape(x.shape)


# 8.3 Wrong ------------------------------------------------------------------------------------------------------------


class Attend(nn.Module):
    """The right answer in steps, which the wrong ones change."""

    def __init__(self, *, dim, heads, reduction_ratio):
        super().__init__()
        self.dim, self.heads, self.ratio = dim, heads, reduction_ratio
        self.make()

    def make(self):
        self.shrink = nn.Conv2d(self.dim, self.dim, self.ratio, self.ratio) if self.ratio > 1 else nn.Identity()
        self.norm = se.LayerNorm2d(self.dim, eps=1e-5) if self.ratio > 1 else nn.Identity()
        self.q, self.kv = nn.Conv2d(self.dim, self.dim, 1), nn.Conv2d(self.dim, 2 * self.dim, 1)
        self.out = nn.Conv2d(self.dim, self.dim, 1)

    def small(self, x):
        return self.norm(self.shrink(x))

    def keys_values(self, x):
        return self.kv(self.small(x)).chunk(2, 1)

    def heads_of(self, t):
        return rearrange(t, "b (a c) h w -> b a (h w) c", a=self.heads)

    def joined(self, out, x):
        return rearrange(out, "b a (h w) c -> b (a c) h w", h=x.shape[2])

    def attend(self, q, k, v):
        return F.scaled_dot_product_attention(q, k, v)

    def forward(self, x):
        k, v = self.keys_values(x)
        out = self.attend(*(self.heads_of(t) for t in (self.q(x), k, v)))
        return self.out(self.joined(out, x))


right("paper_attention", "steps")(Attend)


def attention(kind, name, outcome="not yet right", make=None, **changed):
    """Announce a wrong answer; ``make`` is called after the layers are made."""
    if make is not None:

        def made(self):
            Attend.make(self)
            make(self)

        changed["make"] = made
    wrong_value("paper_attention", kind, type(name, (Attend,), changed), name, outcome)


def interleaved(self, x):
    kv = self.kv(self.small(x))
    return kv[:, ::2], kv[:, 1::2]


def by_head(self, x):
    return rearrange(self.kv(self.small(x)), "b (a two c) h w -> two b (a c) h w", two=2, a=self.heads)


def two_strided(self):
    Attend.make(self)
    self.shrink_too = copy.deepcopy(self.shrink)


def with_norm_always(self):
    self.norm = se.LayerNorm2d(self.dim, eps=1e-5)


def with_shrink_always(self):
    self.shrink = nn.Conv2d(self.dim, self.dim, self.ratio, self.ratio)


def scaled(factor):
    return lambda self, q, k, v: F.scaled_dot_product_attention(q, k, v, scale=factor(q.shape[-1], self.dim))


def no_bias(name):
    def change(self):
        setattr(self, name, nn.Conv2d(self.dim, self.dim * (1 + (name == "kv")), 1, bias=False))

    return change


attention("halves-exchanged", "v_first", keys_values=lambda self, x: Attend.keys_values(self, x)[::-1])
attention("halves-interleaved", "every_second", keys_values=interleaved)
attention("halves-interleaved", "by_head", keys_values=by_head)
attention("norm-missing", "no_norm", make=lambda self: setattr(self, "norm", nn.Identity()))
attention("norm-missing", "norm_unused", small=lambda self, x: self.shrink(x))
attention("norm-elsewhere", "norm_first", small=lambda self, x: self.shrink(self.norm(x)))
attention("norm-over-the-map", "group_norm", make=lambda self: setattr(
    self, "norm", nn.GroupNorm(1, self.dim) if self.ratio > 1 else nn.Identity()))  # fmt: skip
attention("norm-over-the-map", "instance_norm", make=lambda self: setattr(
    self, "norm", nn.InstanceNorm2d(self.dim, affine=True) if self.ratio > 1 else nn.Identity()))  # fmt: skip
attention("norm-on-one-half", "keys_plain", keys_values=lambda self, x: (
    self.kv(self.shrink(x))[:, : self.dim], self.kv(self.small(x))[:, self.dim :]))  # fmt: skip
attention("norm-on-one-half", "values_plain", keys_values=lambda self, x: (
    self.kv(self.small(x))[:, : self.dim], self.kv(self.shrink(x))[:, self.dim :]))  # fmt: skip
attention("too-many-norms", "norm_after_too", make=lambda self: setattr(self, "norm2", se.LayerNorm2d(self.dim)))
attention("shrunk-twice", "two", make=lambda self: setattr(self, "again", nn.Conv2d(self.dim, self.dim, 2, 2)))
attention("shrunk-without-weights", "pooled", make=lambda self: setattr(
    self, "shrink", nn.AvgPool2d(self.ratio) if self.ratio > 1 else nn.Identity()))  # fmt: skip
attention("shrunk-without-weights", "largest", make=lambda self: setattr(self, "shrink", nn.Identity()),
          small=lambda self, x: self.norm(F.max_pool2d(x, self.ratio) if self.ratio > 1 else x))  # fmt: skip
attention("shrunk-without-weights", "every_second_pixel", make=lambda self: setattr(self, "shrink", nn.Identity()),
          small=lambda self, x: self.norm(x[..., :: self.ratio, :: self.ratio]))  # fmt: skip
attention("reduction-missing", "not_shrunk", make=lambda self: setattr(self, "shrink", nn.Identity()))
attention("reduction-at-one", "always", make=with_shrink_always)
attention("norm-at-one", "norm_always", make=with_norm_always)
attention("biases-missing", "kv_without", make=no_bias("kv"))
attention("biases-missing", "q_without", make=no_bias("q"))
attention("biases-missing", "out_without", make=no_bias("out"))
attention("other-heads", "c_heads", heads_of=lambda self, t: rearrange(t, "b (c a) h w -> b a (h w) c", a=self.heads),
          joined=lambda self, out, x: rearrange(out, "b a (h w) c -> b (c a) h w", h=x.shape[2]))  # fmt: skip
attention("other-heads", "not_joined", joined=lambda self, out, x: out.reshape(
    len(x), -1, x.shape[1]).transpose(1, 2).reshape(x.shape))  # fmt: skip
attention("joined-in-memory-order", "reshaped", joined=lambda self, out, x: out.reshape(x.shape))
attention("joined-in-memory-order", "pixels_first", joined=lambda self, out, x: out.transpose(1, 2).reshape(x.shape))
attention("wrong-scale", "all_channels", attend=scaled(lambda c, dim: dim**-0.5))
attention("wrong-scale", "none", attend=scaled(lambda c, dim: 1.0))
attention("wrong-scale", "no_root", attend=scaled(lambda c, dim: 1 / c))
attention("softmax-over-queries", "queries", attend=lambda self, q, k, v: (
    q @ k.mT / q.shape[-1] ** 0.5).softmax(-2) @ v)  # fmt: skip
attention("rows-and-columns", "w_h", joined=lambda self, out, x: rearrange(
    out, "b a (w h) c -> b (a c) h w", h=x.shape[2]))  # fmt: skip
attention("residual-inside", "adds_x", forward=lambda self, x: Attend.forward(self, x) + x)
attention("output-layer-missing", "no_out", make=lambda self: setattr(self, "out", nn.Identity()))
attention("layers-too-many", "one_more", make=lambda self: setattr(self, "more", nn.Conv2d(self.dim, self.dim, 1)))
attention("not-shrunk-for-keys", "norm_of_x_unused", keys_values=lambda self, x: self.kv(x).chunk(2, 1))
attention(
    "fails-at-one", "needs_ratio", small=lambda self, x: self.norm(self.shrink(x)) if self.ratio > 1 else self.gone
)
attention("close-but-not-equal", "other_eps", make=lambda self: setattr(
    self, "norm", se.LayerNorm2d(self.dim, eps=2e-4) if self.ratio > 1 else nn.Identity()))  # fmt: skip
attention("not-deterministic", "dropout", forward=lambda self, x: F.dropout(Attend.forward(self, x), 0.1))
attention("mixes-pictures", "batch_norm", make=lambda self: setattr(
    self, "norm", nn.BatchNorm2d(self.dim) if self.ratio > 1 else nn.Identity()))  # fmt: skip
attention("no-return", "nothing", forward=lambda self, x: print(x.shape))
attention("wrong-gradient", "detached", small=lambda self, x: self.norm(self.shrink(x.detach())))
attention("wrong-rank", "tokens", joined=lambda self, out, x: Attend.joined(self, out, x),
          forward=lambda self, x: Attend.forward(self, x).flatten(2))  # fmt: skip
attention("name-missing", "typo", "could not run", forward=lambda self, x: self.to_q(x))

# 8.4 ------------------------------------------------------------------------------------------------------------------

TABLE = {model: {**COMMON, **sizes} for model, sizes in VARIANTS.items()}
for row in TABLE.values():
    del row["reduction_ratio"]
right_value("configurations", "tuples", TABLE)
right_value("configurations", "lists", {
    model: {name: list(value) if isinstance(value, tuple) else value for name, value in sizes.items()}
    for model, sizes in TABLE.items()
})  # fmt: skip
right_value("configurations", "one expansion for all stages", {
    model: {**sizes, "ff_expansion": 4} for model, sizes in reversed(TABLE.items())
})  # fmt: skip
for kind, model, name, value in [
    ("heads-of-powers", "b0", "heads", (1, 2, 4, 8)),
    ("heads-of-powers", "b3", "heads", [1, 2, 4, 8]),
    ("depth-of-the-paper", "b2", "num_layers", (3, 3, 6, 3)),
    ("depth-of-the-paper", "b3", "num_layers", (3, 3, 18, 3)),
    ("expansion-of-the-paper", "b0", "ff_expansion", (8, 8, 4, 4)),
    ("decoder-too-narrow", "b2", "decoder_dim", 256),
    ("decoder-too-narrow", "b5", "decoder_dim", 512),
    ("decoder-too-wide", "b1", "decoder_dim", 768),
    ("channels-of-another", "b1", "dims", (32, 64, 160, 256)),
    ("depths-of-another", "b4", "num_layers", (3, 6, 40, 3)),
    ("number-off", "b3", "num_layers", (3, 4, 28, 3)),
    ("number-off", "b1", "dims", (64, 128, 256, 512)),
]:
    wrong_value("configurations", kind, TABLE | {model: TABLE[model] | {name: value}}, f"{model} {name} {value}")
wrong_value("configurations", "entries-missing", {"b0": TABLE["b0"]})
wrong_value("configurations", "entries-missing", TABLE | {"b1": {"dims": (64, 128, 320, 512)}}, "b1 dims alone")
wrong_value("configurations", "wrong-type", list(TABLE))

# 8.5 ------------------------------------------------------------------------------------------------------------------

COPIES = {
    "channels-last memory": "exact",
    "nn.Linear on tokens": "exact",
    "GELU by tanh": "close",
    "fuse and concatenation both reversed": "exact",
    "ReLU before the BatchNorm": "other",
    "upsampled before the projection": "exact",
    "heads permuted in to_q and to_kv alone": "other",
}
right_value("copies", "words", COPIES)
right_value("copies", "capitals", {name: word.capitalize() for name, word in COPIES.items()})
right_value("copies", "another order", dict(reversed(COPIES.items())))
for kind, name, word in [
    ("not-the-memory", "channels-last memory", "close"),
    ("not-the-linear", "nn.Linear on tokens", "other"),
    ("not-the-gelu", "GELU by tanh", "exact"),
    ("not-the-gelu", "GELU by tanh", "other"),
    ("not-the-order", "fuse and concatenation both reversed", "other"),
    ("not-the-relu", "ReLU before the BatchNorm", "exact"),
    ("not-the-upsampling", "upsampled before the projection", "other"),
    ("not-the-upsampling", "upsampled before the projection", "close"),
    ("not-the-heads", "heads permuted in to_q and to_kv alone", "exact"),
    ("no-such-word", "GELU by tanh", "perhaps"),
]:
    wrong_value("copies", kind, COPIES | {name: word}, f"{name} {word}")

# Warm-ups -------------------------------------------------------------------------------------------------------------

kv = torch.arange(16.0).reshape(2, 4, 1, 2)
right_value("keys and values", "chunk", torch.stack(kv.chunk(2, 1)))
right_value("keys and values", "view", kv.view(2, 2, 2, 1, 2).movedim(1, 0))
wrong_value("keys and values", "halves-exchanged", torch.stack([kv[:, 2:], kv[:, :2]]))
wrong_value("keys and values", "halves-interleaved", torch.stack([kv[:, ::2], kv[:, 1::2]]))
wrong_value("keys and values", "split-along-the-width", torch.stack(kv.chunk(2, 3)))
wrong_value("keys and values", "side-by-side", torch.cat(kv.chunk(2, 1)))
wrong_value("keys and values", "pictures-first", kv.reshape(2, 2, 2, 1, 2))
wrong_value("keys and values", "split-along-the-batch", torch.stack(kv.chunk(2)))

branch, kept = torch.arange(1.0, 10).reshape(3, 3), torch.tensor([1.0, 0, 1])
right_value("left out", "broadcast", branch * kept[:, None] / 0.75)
right_value("left out", "by hand", [[4 / 3, 8 / 3, 4], [0, 0, 0], [28 / 3, 32 / 3, 12]])
wrong_value("left out", "columns-left-out", branch * kept / 0.75)
wrong_value("left out", "not-scaled", branch * kept[:, None])
wrong_value("left out", "scaled-by-the-rate", branch * kept[:, None] / 0.25)
wrong_value("left out", "scaled-down", branch * kept[:, None] * 0.75)
wrong_value("left out", "scaled-by-the-draw", branch * kept[:, None] * 1.5)
wrong_value("left out", "others-left-out", branch * (1 - kept)[:, None] / 0.75)
wrong_value("left out", "removed", branch[kept > 0] / 0.75)


# Found by answers that were written from the texts alone --------------------------------------------------------------


@wrong("drop_path", "super-init-missing", outcome="could not run")
class WithoutSuper(nn.Module):
    def __init__(self, rate=0.0):
        self.rate = rate

    def forward(self, x):
        return x


right("drop_path", "dropout of ones")(
    type("Ones", (Drop,), {"forward": lambda self, x: x * F.dropout(x.new_ones(len(x), 1, 1, 1), self.rate,
                                                                    self.training)}))  # fmt: skip


@wrong("drop_rates", "single-block")
def the_single_one_is_the_last(depths, last):
    return [[last]] if sum(depths) == 1 else with_linspace(depths, last)


def shrunk_by(**settings):
    def make(self):
        self.shrink = nn.Conv2d(self.dim, self.dim, self.ratio, self.ratio, **settings)
        self.shrink = self.shrink if self.ratio > 1 else nn.Identity()

    return make


attention("one-half-for-both", "k_for_both", keys_values=lambda self, x: Attend.keys_values(self, x)[:1] * 2)
attention("one-half-for-both", "v_for_both", keys_values=lambda self, x: Attend.keys_values(self, x)[1:] * 2)
attention("channels-apart", "depthwise", make=lambda self: shrunk_by(groups=self.dim)(self))
attention("shrunk-with-a-border", "padded", make=lambda self: shrunk_by(padding=self.ratio // 2)(self))
attention("activation-added", "gelu", small=lambda self, x: (
    F.gelu(Attend.small(self, x)) if self.ratio > 1 else x))  # fmt: skip
attention("activation-added", "relu", small=lambda self, x: Attend.small(self, x).relu() if self.ratio > 1 else x)
attention("output-layer-missing", "out_unused", forward=lambda self, x: self.joined(
    self.attend(*(self.heads_of(t) for t in (self.q(x), *self.keys_values(x)))), x))  # fmt: skip
attention("other-heads", "joined_c_heads", joined=lambda self, out, x: rearrange(
    out, "b a (h w) c -> b (c a) h w", h=x.shape[2]))  # fmt: skip

wrong_value("keys and values", "wrong-type", kv.chunk(2, 1), "a tuple")


# Found by an adversary ------------------------------------------------------------------------------------------------


def shared_by(copies):
    def kept(self, x):
        drawn = torch.rand(len(x) // 2 + 1, 1, 1, 1) >= self.rate
        return copies(drawn)[: len(x)]

    return kept


drop("fates-together", "pairs_of_neighbours", kept=shared_by(lambda drawn: drawn.repeat_interleave(2, 0)))
drop("fates-together", "halves", kept=lambda self, x: (torch.rand(-(-len(x) // 2), 1, 1, 1) >= self.rate).repeat(
    2, 1, 1, 1)[: len(x)])  # fmt: skip
for number, (kind, answer) in enumerate((
    ("starts-above-zero", lambda depths, last: of_all(depths, lambda j, n: last * (j + 1) / max(n - 1, 1))),
    ("last-ignored", lambda depths, last: of_all(depths, lambda j, n: 0.1 * j / max(n - 1, 1))),
    ("rounded", lambda depths, last: of_all(depths, lambda j, n: round(last * j / max(n - 1, 1), 2))),
)):  # fmt: skip
    wrong_value("drop_rates", kind, answer, f"again {number}")


def of_all(depths, rate):
    rows = torch.arange(sum(depths)).split(list(depths))
    return [[rate(int(j), sum(depths)) for j in row] for row in rows]


class OfWindows(Attend):
    """The strided convolution as a matrix, on windows that F.unfold lays out."""

    def make(self):
        super().make()
        self.shrink = nn.Linear(self.dim * self.ratio**2, self.dim) if self.ratio > 1 else nn.Identity()

    def small(self, x):
        if self.ratio == 1:
            return x
        windows = self.windows(x[..., : x.shape[2] // self.ratio * self.ratio, : x.shape[3] // self.ratio * self.ratio])
        return self.norm(self.shrink(windows).movedim(-1, 1))

    def windows(self, x):
        rows = F.unfold(x, self.ratio, stride=self.ratio).mT
        return rows.unflatten(1, (x.shape[2] // self.ratio, -1))


right("paper_attention", "a matrix on unfolded windows")(OfWindows)
right("paper_attention", "a matrix on rearranged windows")(
    type("Rearranged", (OfWindows,), {"windows": lambda self, x: rearrange(
        x, "b c (h r) (w s) -> b h w (r s c)", r=self.ratio, s=self.ratio)}))  # fmt: skip


class OwnNorm(nn.Module):
    def __init__(self, dim, root):
        super().__init__()
        self.root, self.scale, self.shift = root, nn.Parameter(torch.ones(dim)), nn.Parameter(torch.zeros(dim))

    def forward(self, x):
        spread = self.root(x.var(1, correction=0, keepdim=True))
        return (x - x.mean(1, keepdim=True)) / spread * self.scale[:, None, None] + self.shift[:, None, None]


def with_norm(root):
    def make(self):
        self.norm = OwnNorm(self.dim, root) if self.ratio > 1 else nn.Identity()

    return {"make": lambda self: (Attend.make(self), make(self))[0]}


right("paper_attention", "a norm of one's own")(
    type("Own", (Attend,), with_norm(lambda variance: (variance + 1e-5).sqrt()))
)
attention("norm-of-the-sketch", "sketchs", **with_norm(lambda variance: variance.sqrt() + 1e-5))
attention("heads-forgotten", "one", heads_of=lambda self, t: rearrange(t, "b c h w -> b 1 (h w) c"),
          joined=lambda self, out, x: rearrange(out, "b 1 (h w) c -> b c h w", h=x.shape[2]))  # fmt: skip
attention("heads-by-reshape", "reshaped", heads_of=lambda self, t: t.reshape(
    len(t), self.heads, -1, self.dim // self.heads))  # fmt: skip
attention("other-heads", "cut_c_heads", heads_of=lambda self, t: rearrange(
    t, "b (c a) h w -> b a (h w) c", a=self.heads))  # fmt: skip
attention("masked", "causal", attend=lambda self, q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True))

for half in kv.chunk(2, 1):
    wrong_value("keys and values", "keys-twice", torch.stack([half, half]))
wrong_value("left out", "columns-left-out", branch * kept, "not scaled either")
wrong_value("left out", "residual-inside", branch + branch * kept[:, None] / 0.75)
wrong_value("left out", "nothing-left-out", branch / 0.75)
wrong_value("left out", "nothing-left-out", branch.where(kept[:, None] == 0, branch / 0.75), "the middle as it was")
