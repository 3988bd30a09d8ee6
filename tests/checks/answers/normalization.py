"""Answers to the exercises of chapter 2."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from catalogue import right, right_value, wrong, wrong_value
from einops import rearrange, reduce
from torch import nn

import segformer_edu as se

# 2.1 Right


class Norm(nn.Module):
    """The chapter's formula, in parts that the wrong answers below change."""

    unbiased = False

    def __init__(self, dim, eps=1e-5):
        super().__init__()
        self.eps = eps
        self.g = nn.Parameter(torch.ones(1, dim, 1, 1))
        self.b = nn.Parameter(torch.zeros(1, dim, 1, 1))

    def mean(self, x):
        return x.mean(1, keepdim=True)

    def var(self, x):
        return x.var(1, unbiased=self.unbiased, keepdim=True)

    def normal(self, x):
        return (x - self.mean(x)) / (self.var(x).sqrt() + self.eps)

    def forward(self, x):
        return self.normal(x) * self.g + self.b


right("layer_norm", "the library's")(se.LayerNorm)
right("layer_norm", "the first version", remark=True)(Norm)


@right("layer_norm", "channels last, weight and bias of shape (C,)")
class ChannelsLast(nn.Module):
    def __init__(self, dim, eps=1e-5):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(dim))
        self.weight = nn.Parameter(torch.ones(dim))
        self.eps = eps

    def forward(self, x):
        x = x.permute(0, 2, 3, 1)
        x = x - x.mean(-1, keepdim=True)
        return (x / (x.std(-1, correction=0, keepdim=True) + self.eps) * self.weight + self.bias).permute(0, 3, 1, 2)


@right("layer_norm", "einops, a scale of 1 + gamma", remark=True)
class Einops(nn.Module):
    def __init__(self, dim, eps=1e-5):
        super().__init__()
        self.gamma, self.beta, self.eps = nn.Parameter(torch.zeros(dim)), nn.Parameter(torch.zeros(dim)), eps

    def forward(self, x):
        x = x - reduce(x, "b c h w -> b 1 h w", "mean")
        std = reduce(x**2, "b c h w -> b 1 h w", "mean").sqrt()
        return x / (std + self.eps) * rearrange(1 + self.gamma, "c -> c 1 1") + rearrange(self.beta, "c -> c 1 1")


@right("layer_norm", "F.layer_norm without its eps")
class Rescaled(nn.Module):
    def __init__(self, dim, eps=1e-5):
        super().__init__()
        self.affine = nn.Conv2d(dim, dim, 1, groups=dim)
        nn.init.ones_(self.affine.weight)
        nn.init.zeros_(self.affine.bias)
        self.eps = eps

    def forward(self, x):
        std = x.std(1, correction=0, keepdim=True)
        return self.affine((x - x.mean(1, keepdim=True)) / (std + self.eps))


# 2.1 Wrong


def norm(kind, outcome="not yet right", **changed):
    """Announce a wrong answer: `Norm` with other parts."""
    wrong("layer_norm", kind, outcome)(type(f"Norm{'_'.join(changed)}", (Norm,), changed))


norm("n-minus-one", unbiased=True)
for kind, axes in [
    ("last-axis", (3,)),
    ("last-axis", (2,)),
    ("whole-picture", (1, 2, 3)),
    ("each-channel-alone", (2, 3)),
    ("over-the-batch", (0, 2, 3)),
    ("over-the-batch", (0, 1, 2, 3)),
    ("several-pixels", (1, 3)),
]:
    norm(
        kind,
        mean=lambda self, x, axes=axes: x.mean(axes, keepdim=True),
        var=lambda self, x, axes=axes: x.var(axes, unbiased=False, keepdim=True),
    )
norm("mean-and-spread-apart", var=lambda self, x: x.var((1, 2, 3), unbiased=False, keepdim=True))
norm("mean-and-spread-apart", mean=lambda self, x: x.mean((2, 3), keepdim=True))
norm("eps-under-the-root", normal=lambda self, x: (x - self.mean(x)) / (self.var(x) + self.eps).sqrt())
norm(
    "eps-under-the-root",
    normal=lambda self, x: F.layer_norm(x.movedim(1, -1), x.shape[1:2], eps=self.eps).movedim(-1, 1),
)
norm("n-minus-one", normal=lambda self, x: (x - self.mean(x)) / (x.var(1, keepdim=True) + self.eps).sqrt())
norm("eps-missing", normal=lambda self, x: (x - self.mean(x)) / self.var(x).sqrt())
norm("eps-ignored", normal=lambda self, x: (x - self.mean(x)) / (self.var(x).sqrt() + 1e-5))
norm("eps-ignored", normal=lambda self, x: (x - self.mean(x)) / (self.var(x).sqrt() + 1e-8))
norm("eps-clamped", normal=lambda self, x: (x - self.mean(x)) / self.var(x).sqrt().clamp(min=self.eps))
norm("eps-elsewhere", normal=lambda self, x: (x - self.mean(x)) / self.var(x).sqrt() + self.eps)
norm("mean-not-subtracted", normal=lambda self, x: x / (self.var(x).sqrt() + self.eps))
norm("mean-not-subtracted", normal=lambda self, x: x / (x.square().mean(1, keepdim=True) + self.eps).sqrt())
norm("not-divided", normal=lambda self, x: x - self.mean(x))
norm("root-forgotten", normal=lambda self, x: (x - self.mean(x)) / (self.var(x) + self.eps))
norm("length-not-divided", normal=lambda self, x: (c := x - self.mean(x)) / (c.norm(dim=1, keepdim=True) + self.eps))
norm("other-spread", normal=lambda self, x: (c := x - self.mean(x)) / (c.abs().mean(1, keepdim=True) + self.eps))
norm("other-spread", normal=lambda self, x: x.softmax(1))
norm("scale-before-norm", forward=lambda self, x: self.normal(x * self.g + self.b))
norm("shift-scaled", forward=lambda self, x: (self.normal(x) + self.b) * self.g)
norm("weight-unused", forward=lambda self, x: self.normal(x) * self.g)
norm("weight-unused", forward=lambda self, x: self.normal(x))
norm("two-scales", forward=lambda self, x: self.normal(x) * self.g * (1 + self.b))
norm("two-shifts", forward=lambda self, x: self.normal(x) + self.g + self.b - 1)
norm(
    "statistics-detached", normal=lambda self, x: (x - self.mean(x).detach()) / (self.var(x).detach().sqrt() + self.eps)
)
norm("statistics-detached", normal=lambda self, x: (x - self.mean(x)) / (self.var(x).sqrt().detach() + self.eps))
norm("statistics-detached", mean=lambda self, x: x.data.mean(1, keepdim=True))
norm("no-gradient", forward=lambda self, x: Norm.forward(self, x.detach()))
norm("changes-input", forward=lambda self, x: Norm.forward(self, x.sub_(1)))
norm("no-return", forward=lambda self, x: [Norm.forward(self, x), None][1])
norm("wrong-dtype", forward=lambda self, x: Norm.forward(self, x).float())
norm("not-deterministic", forward=lambda self, x: Norm.forward(self, x + 0.1 * torch.randn_like(x)))
norm("single-channel", normal=lambda self, x: Norm.normal(self, x) if x.shape[1] > 1 else x)
norm("axes-exchanged", forward=lambda self, x: Norm.forward(self, x).movedim(1, -1))


norm("input-added", forward=lambda self, x: x + Norm.forward(self, x))
norm("input-added", forward=lambda self, x: self.mean(x) + Norm.forward(self, x))
norm(
    "spread-not-centred", normal=lambda self, x: (x - self.mean(x)) / (x.norm(dim=1, keepdim=True) / 6**0.5 + self.eps)
)
norm("multiplied", normal=lambda self, x: (x - self.mean(x)) * self.var(x).sqrt())
norm("brackets", normal=lambda self, x: x - self.mean(x) / (self.var(x).sqrt() + self.eps))
norm("normalised-twice", normal=lambda self, x: Norm.normal(self, Norm.normal(self, x)))
norm("changed-afterwards", normal=lambda self, x: Norm.normal(self, x).tanh())
norm("changed-afterwards", normal=lambda self, x: Norm.normal(self, x).clamp(-2.3, 2.3))
norm("changed-afterwards", normal=lambda self, x: Norm.normal(self, x).abs())
norm("mean-not-subtracted", mean=lambda self, x: x.sum(1, keepdim=True))
norm("mean-not-subtracted", mean=lambda self, x: x.median(1, keepdim=True).values)
norm("over-the-batch", normal=lambda self, x: (x - self.mean(x)) / (x.std() + self.eps))
norm("eps-elsewhere", normal=lambda self, x: (x - self.mean(x)) / (self.var(x).sqrt() + self.eps**2))
norm("scaled-by-constant", normal=lambda self, x: Norm.normal(self, x) / 2)


def made(kind, init, forward=Norm.forward):
    """Announce a wrong answer that sets up other things."""

    def __init__(self, dim, eps=1e-5):
        nn.Module.__init__(self)
        self.eps = eps
        init(self, dim)

    wrong("layer_norm", kind)(type(kind.replace("-", "_"), (Norm,), {"__init__": __init__, "forward": forward}))


def own(
    g=torch.ones, b=torch.zeros, shape=lambda dim: (1, dim, 1, 1), keep=lambda self, name, value: nn.Parameter(value)
):
    def init(self, dim):
        self.g, self.b = keep(self, "g", g(shape(dim))), keep(self, "b", b(shape(dim)))

    return init


def as_buffers(self, dim):
    self.register_buffer("g", torch.ones(1, dim, 1, 1))
    self.register_buffer("b", torch.zeros(1, dim, 1, 1))


made("g-starts-at-zero", own(g=torch.zeros))
made("b-starts-elsewhere", own(b=torch.ones))
made("weights-start-elsewhere", own(g=torch.randn, b=torch.randn))
made("plain-tensor", own(keep=lambda self, name, value: value))
made("not-parameters", as_buffers)
made("no-weights", lambda self, dim: None, lambda self, x: self.normal(x))
made("one-weight-missing", lambda self, dim: setattr(self, "g", nn.Parameter(torch.ones(1, dim, 1, 1))),
     lambda self, x: self.normal(x) * self.g)  # fmt: skip
made("scalar-weights", own(shape=lambda dim: 1))
made("parameters", own(shape=lambda dim: (1, dim, 5 if dim > 1 else 1, 7 if dim > 1 else 1)))
made("weights-on-the-last-axis", own(shape=lambda dim: dim))
made("frozen", own(keep=lambda self, name, value: nn.Parameter(value, requires_grad=False)))


@wrong("layer_norm", "last-axis")
class Misused(nn.LayerNorm):
    def __init__(self, dim, eps=1e-5):
        super().__init__(dim, eps)


@wrong("layer_norm", "eps-default")
class OtherDefault(Norm):
    def __init__(self, dim, eps=1e-6):
        super().__init__(dim, eps)


@wrong("layer_norm", "over-the-batch")
class Batch(nn.BatchNorm2d):
    def __init__(self, dim, eps=1e-5):
        super().__init__(dim, eps, track_running_stats=False)


@wrong("layer_norm", "each-channel-alone")
class Instance(nn.InstanceNorm2d):
    def __init__(self, dim, eps=1e-5):
        super().__init__(dim, eps, affine=True)


@wrong("layer_norm", "whole-picture")
class Group(nn.GroupNorm):
    def __init__(self, dim, eps=1e-5):
        super().__init__(1, dim, eps)


@wrong("layer_norm", "signature", "could not run")
class NoEps(Norm):
    def __init__(self, dim):
        super().__init__(dim)


wrong_value("layer_norm", "instance-given", Norm(6))

# 2.2


@right("deviation", "the library's way")
def by_length(x):
    centred = x - x.mean(1, keepdim=True)
    return centred.norm(dim=1, keepdim=True) / x.shape[1] ** 0.5


@right("deviation", "torch.std, whose gradient is defined so")
def by_std(x):
    return x.std(1, correction=0, keepdim=True)


@right("deviation", "where, twice")
def by_where(x):
    variance = x.var(1, unbiased=False, keepdim=True)
    flat = variance == 0
    return torch.where(flat, 0.0, torch.where(flat, 1.0, variance).sqrt())


@wrong("deviation", "constant-pixel-moved")
def by_tiny(x):
    return (x.var(1, unbiased=False, keepdim=True) + 1e-30).sqrt()


@wrong("deviation", "gradient-still-nan")
def naive(x):
    return x.var(1, unbiased=False, keepdim=True).sqrt()


@wrong("deviation", "mended-behind-the-root")
def nan_to_num(x):
    return naive(x).nan_to_num()


@wrong("deviation", "mended-behind-the-root")
def where_once(x):
    variance = x.var(1, unbiased=False, keepdim=True)
    return torch.where(variance == 0, 0.0, variance.sqrt())


@wrong("deviation", "gradient-still-nan")
def power(x):
    return (x - x.mean(1, keepdim=True)).square().mean(1, keepdim=True) ** 0.5


@wrong("deviation", "eps-inside-the-root")
def inside(x):
    return (x.var(1, unbiased=False, keepdim=True) + 1e-5).sqrt()


@wrong("deviation", "eps-inside-the-root")
def little_inside(x):
    return (x.var(1, unbiased=False, keepdim=True) + 1e-12).sqrt()


@wrong("deviation", "cut-off-below")
def clamped(x):
    return x.var(1, unbiased=False, keepdim=True).clamp(min=1e-8).sqrt()


@wrong("deviation", "faint-pixels-moved")
def beside(x):
    return by_length(x) + 1e-5


@wrong("deviation", "n-minus-one")
def unbiased(x):
    return x.std(1, keepdim=True)


@wrong("deviation", "variance-returned")
def variance(x):
    return x.var(1, unbiased=False, keepdim=True)


@wrong("deviation", "length-not-divided")
def length(x):
    return (x - x.mean(1, keepdim=True)).norm(dim=1, keepdim=True)


@wrong("deviation", "other-axes")
def of_a_channel(x):
    return x.std((2, 3), correction=0, keepdim=True)


@wrong("deviation", "axis-lost")
def flat(x):
    return by_length(x)[:, 0]


@wrong("deviation", "mean-not-subtracted")
def rms(x):
    return x.norm(dim=1, keepdim=True) / x.shape[1] ** 0.5


@wrong("deviation", "other-spread")
def absolute(x):
    return (x - x.mean(1, keepdim=True)).abs().mean(1, keepdim=True)


@wrong("deviation", "faint-pixels-moved")
def root_taken_back(x):
    return (x.var(1, unbiased=False, keepdim=True) + 1e-5).sqrt() - 1e-5**0.5


@wrong("deviation", "other-axes")
def of_everything(x):
    return x.std(correction=0).expand(x.shape[0], 1, *x.shape[2:])


@wrong("deviation", "gradient-cut")
def cut(x):
    return by_length(x.detach())


@wrong("deviation", "gradient-cut")
def without_grad(x):
    with torch.no_grad():
        return naive(x)


@wrong("deviation", "no-return")
def forgotten(x):
    by_length(x)


# 2.3


class TwoBranches(nn.Module):
    def __init__(self, dim, attention, feed_forward):
        super().__init__()
        self.n, self.m = se.LayerNorm(dim), se.LayerNorm(dim)
        self.a, self.f = attention, feed_forward

    def forward(self, x):
        x = x + self.a(self.n(x))
        return x + self.f(self.m(x))


right("block", "written out")(TwoBranches)


@right("block", "PreNorm")
class WithPreNorm(nn.Module):
    def __init__(self, dim, attention, feed_forward):
        super().__init__()
        self.branches = nn.ModuleList([se.PreNorm(dim, attention), se.PreNorm(dim, feed_forward)])

    def forward(self, x):
        for branch in self.branches:
            x = branch(x) + x
        return x


@right("block", "PyTorch's norm, channels last")
class Tokens(nn.Module):
    def __init__(self, dim, attention, feed_forward):
        super().__init__()
        self.norms = nn.ModuleList([nn.LayerNorm(dim), nn.LayerNorm(dim)])
        self.layers = nn.ModuleList([attention, feed_forward])

    def forward(self, x):
        for norm, layer in zip(self.norms, self.layers):
            x = x + layer(norm(x.movedim(1, -1)).movedim(-1, 1))
        return x


def wired(kind, forward, outcome="not yet right"):
    wrong("block", kind, outcome)(type(kind.replace("-", "_"), (TwoBranches,), {"forward": forward}))


wired("residual-missing", lambda s, x: s.f(s.m(s.a(s.n(x)))))
wired("one-residual-missing", lambda s, x: s.f(s.m(x + s.a(s.n(x)))))
wired("one-residual-missing", lambda s, x: (y := s.a(s.n(x))) + s.f(s.m(y)))
wired("residual-twice", lambda s, x: 2 * (y := 2 * x + s.a(s.n(x))) + s.f(s.m(y)))
wired("residual-twice", lambda s, x: (y := x + s.n(x) + s.a(s.n(x))) + s.m(y) + s.f(s.m(y)))
wired("main-path-normalised", lambda s, x: (z := s.m((y := s.n(x)) + s.a(y))) + s.f(z))
wired("post-norm", lambda s, x: s.m((y := s.n(x + s.a(x))) + s.f(y)))
wired("norm-behind-the-branch", lambda s, x: (y := x + s.n(s.a(x))) + s.m(s.f(y)))
wired("norm-missing", lambda s, x: (y := x + s.a(x)) + s.f(y))
wired("one-norm-missing", lambda s, x: (y := x + s.a(x)) + s.f(s.m(y)))
wired("one-norm-missing", lambda s, x: (y := x + s.a(s.n(x))) + s.f(y))
wired("order-exchanged", lambda s, x: (y := x + s.f(s.n(x))) + s.a(s.m(y)))
wired("parallel", lambda s, x: x + s.a(s.n(x)) + s.f(s.m(x)))
wired("first-branch-lost", lambda s, x: x + s.f(s.m(x + s.a(s.n(x)))))
wired("same-branch-twice", lambda s, x: (y := x + s.a(s.n(x))) + s.a(s.m(y)))
wired("extra-norm", lambda s, x: s.n((y := x + s.a(s.n(x))) + s.f(s.m(y))))
wired("changes-input", lambda s, x: TwoBranches.forward(s, x.mul_(2)))
wired("no-return", lambda s, x: [TwoBranches.forward(s, x), None][1])
wired("no-gradient", lambda s, x: TwoBranches.forward(s, x.detach()))
wired("name-missing", lambda s, x: s.attention(x), "could not run")


@wrong("block", "norm-shared")
class Shared(TwoBranches):
    def __init__(self, dim, attention, feed_forward):
        super().__init__(dim, attention, feed_forward)
        self.m = self.n


@wrong("block", "branches-not-kept")
class InATuple(TwoBranches):
    def __init__(self, dim, attention, feed_forward):
        nn.Module.__init__(self)
        self.n, self.m = se.LayerNorm(dim), se.LayerNorm(dim)
        self.layers = (attention, feed_forward)

    a, f = property(lambda self: self.layers[0]), property(lambda self: self.layers[1])


@wrong("block", "other-norm")
class Groups(TwoBranches):
    def __init__(self, dim, attention, feed_forward):
        super().__init__(dim, attention, feed_forward)
        self.n, self.m = nn.GroupNorm(1, dim), nn.GroupNorm(1, dim)


# 2.4

CHANGES = {
    "add 3 to every channel of the pixel": lambda x: x[:, :, 0, 0].add_(3),
    "multiply every channel of the pixel by 10": lambda x: x[:, :, 0, 0].mul_(10),
    "add 3 to one channel of the pixel": lambda x: x[:, 2, 0, 0].add_(3),
    "turn the sign of every channel of the pixel": lambda x: x[:, :, 0, 0].neg_(),
    "put the channels of the pixel in another order": lambda x: x[:, :, 0, 0].copy_(x[:, :, 0, 0].flip(1).clone()),
    "double a neighbouring pixel": lambda x: x[:, :, 0, 1].mul_(2),
}


def moved(change):
    """Whether the library's norm gives the first pixel another result, by more than a thousandth."""
    x = torch.randn(1, 6, 2, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    touched = x.clone()
    change(touched)
    norm = se.LayerNorm(6).double()
    with torch.no_grad():
        return bool((norm(touched) - norm(x))[:, :, 0, 0].abs().max() > 1e-3)


MOVED = {name: moved(change) for name, change in CHANGES.items()}
right_value("changes", "computed", MOVED)
right_value("changes", "NumPy", {name: np.bool_(value) for name, value in MOVED.items()})
right_value("changes", "tensors", {name: torch.tensor(value) for name, value in MOVED.items()})
for name, kind in zip(MOVED, [
    "shift-taken-for-change", "scale-taken-for-change", "one-channel-taken-for-nothing", "sign-taken-for-nothing",
    "order-taken-for-nothing", "neighbour-taken-for-change",
]):  # fmt: skip
    wrong_value("changes", kind, MOVED | {name: not MOVED[name]}, name)
wrong_value("changes", "not-a-number-yet", MOVED | {"double a neighbouring pixel": "no"})
wrong_value("changes", "wrong-type", [True] * 6)

# Warm-ups

pixels = torch.tensor([[1.0, 2], [3, 4], [5, 12]])
right_value("centre", "mean", pixels - pixels.mean(0))
wrong_value("centre", "other-axis", pixels - pixels.mean(1, keepdim=True))
wrong_value("centre", "one-mean-for-all", pixels - pixels.mean())
wrong_value("centre", "mean-itself", pixels.mean(0, keepdim=True))
wrong_value("centre", "divided", pixels / pixels.mean(0))
wrong_value("centre", "normalised", F.layer_norm(pixels.T, (3,)).T)
wrong_value("centre", "spread-taken-too", (pixels - pixels.mean(0)) / pixels.std(0, unbiased=False))
wrong_value("centre", "sign-reversed", pixels.mean(0) - pixels)

right_value("spread", "std", pixels.std(0, correction=0, keepdim=True))
wrong_value("spread", "n-minus-one", pixels.std(0, keepdim=True))
wrong_value("spread", "variance", pixels.var(0, correction=0, keepdim=True))
wrong_value("spread", "variance-with-n-minus-one", pixels.var(0, keepdim=True))
wrong_value("spread", "axis-lost", pixels.std(0, correction=0))
wrong_value("spread", "spread-of-the-channels", pixels.std(1))
wrong_value("spread", "other-axis", pixels.std(1, correction=0, keepdim=True))
wrong_value("centre", "sum-taken-off", pixels - pixels.sum(0))
wrong_value("spread", "mean-distance", (pixels - pixels.mean(0)).abs().mean(0, keepdim=True))

# A second round -------------------------------------------------------------------------------------------------------


@wrong("deviation", "eps-inside-the-root")
def machine_epsilon(x):
    return (x.var(1, correction=0, keepdim=True) + torch.finfo(x.dtype).eps).sqrt()


@wrong("deviation", "no-return")
@torch.no_grad()
def forgotten_under_no_grad(x):
    x.var(1, correction=0, keepdim=True).sqrt()


@right("deviation", "a hook that cleans the gradient")
def with_a_hook(x):
    x = x.clone()
    if x.requires_grad:
        x.register_hook(lambda gradient: gradient.nan_to_num(0, 0, 0))
    return x.var(1, correction=0, keepdim=True).sqrt()


class TwoNorms(nn.Module):
    def __init__(self, dim, attention, feed_forward):
        super().__init__()
        self.attention, self.feed_forward = se.PreNorm(dim, attention), se.PreNorm(dim, feed_forward)


@wrong("block", "one-residual-missing")
class AroundBoth(TwoNorms):
    def forward(self, x):
        return x + self.feed_forward(self.attention(x))


@wrong("block", "residual-twice")
class InputTwice(TwoNorms):
    def forward(self, x):
        y = x + self.attention(x)
        return x + y + self.feed_forward(y)


@right("block", "a loop over a ModuleList")
class Looped(nn.Module):
    def __init__(self, dim, attention, feed_forward):
        super().__init__()
        self.branches = nn.ModuleList([nn.Sequential(se.LayerNorm(dim), part) for part in (attention, feed_forward)])

    def forward(self, x):
        for branch in self.branches:
            x = branch(x).add(x)
        return x


# What a reader tried --------------------------------------------------------------------------------------------------


@right("deviation", "with a mask before the root and behind it")
def masked_twice(x):
    variance = x.var(1, unbiased=False, keepdim=True)
    return variance.masked_fill(variance == 0, 1).sqrt() * (variance != 0)


@wrong("deviation", "constant-pixel-moved")
def cut_off_far_below(x):
    return x.var(1, unbiased=False, keepdim=True).clamp(min=1e-30).sqrt()


@wrong("deviation", "in-place")
def written_into(x):
    std = x.var(1, unbiased=False, keepdim=True).sqrt()
    std[std == 0] = 0
    return std


@wrong("layer_norm", "nan-hidden")
class Tidy(Norm):
    def forward(self, x):
        return super().forward(x).nan_to_num()


@wrong("block", "same-branch-twice")
class AroundOne(WithPreNorm):
    def __init__(self, dim, attention, feed_forward):
        super().__init__(dim, attention, attention)


@wrong("block", "branches-not-kept")
class OneInATuple(TwoBranches):
    def __init__(self, dim, attention, feed_forward):
        super().__init__(dim, attention, nn.Identity())
        del self.f
        self.hidden = (feed_forward,)

    def forward(self, x):
        x = x + self.a(self.n(x))
        return x + self.hidden[0](self.m(x))


# What an adversary tried ----------------------------------------------------------------------------------------------

norm("cancellation", var=lambda self, x: x.square().mean(1, keepdim=True) - self.mean(x).square())
norm("cancellation", var=lambda self, x: (x.square().mean(1, keepdim=True) - self.mean(x).square()).clamp_min(0))
norm("cancellation", var=lambda self, x: (x.square().mean(1, keepdim=True) - self.mean(x).square()).abs())
norm("wrong-dtype", normal=lambda self, x: Norm.normal(self, x.float()))
norm("eps-only-at-zero", normal=lambda self, x: (x - self.mean(x)) / where_zero(self.var(x).sqrt(), self.eps))
made("sizes-fixed", own(shape=lambda dim: (1, dim, 8, 8)))


def where_zero(std, eps):
    return std.masked_fill(std == 0, eps)


def remembers(self, x):
    """The norm with the mean of the first map that it has seen."""
    if "last" not in vars(self):
        self.last = self.mean(x).detach()
    return (x - self.last) / (self.var(x).sqrt() + self.eps)


def reshaped_there(self, x):
    b, c, h, w = x.shape
    return Norm.normal(self, x.reshape(b, h * w, c).mT[..., None]).squeeze(-1).mT.reshape(b, c, h, w)


def reshaped_and_moved_back(self, x):
    b, c, h, w = x.shape
    return Norm.normal(self, x.reshape(b, h * w, c).mT[..., None]).reshape(b, c, h, w)


def reshaped_back(self, x):
    return Norm.normal(self, x).permute(0, 2, 3, 1).reshape(x.shape)


norm("keeps-state", normal=remembers)
norm("axes-reshaped", normal=reshaped_there)
norm("axes-reshaped", normal=reshaped_and_moved_back)
norm("axes-reshaped", normal=reshaped_back)


@wrong("layer_norm", "axes-reshaped")
class PyTorchsReshaped(nn.LayerNorm):
    def __init__(self, dim, eps=1e-5):
        super().__init__(dim, eps)

    def forward(self, x):
        b, c, h, w = x.shape
        return super().forward(x.reshape(b, h * w, c)).reshape(b, c, h, w)


@right("layer_norm", "var_mean and addcmul", remark=True)
class VarMean(Norm):
    def forward(self, x):
        variance, mean = torch.var_mean(x, 1, correction=0, keepdim=True)
        return torch.addcmul(self.b, (x - mean) / (variance.sqrt() + self.eps), self.g)


def threshold(bound):
    def masked(x):
        variance = x.var(1, unbiased=False, keepdim=True)
        ordinary = variance > bound(x)
        return torch.where(ordinary, torch.where(ordinary, variance, 1.0).sqrt(), 0.0)

    return masked


wrong_value("deviation", "faint-pixels-lost", threshold(lambda x: 1e-12), "below a millionth")
wrong_value("deviation", "faint-pixels-lost", threshold(lambda x: 1e-14), "below a tenth of that")
wrong_value("deviation", "faint-pixels-lost", threshold(lambda x: 1e-20), "far below")
wrong_value("deviation", "faint-pixels-lost", threshold(lambda x: 1e-12 * x.square().mean(1, keepdim=True)), "relative")
right_value("deviation", "a bound of zero", threshold(lambda x: 0.0))


@wrong("deviation", "cut-off-below")
def cut_off(x):
    return x.var(1, unbiased=False, keepdim=True).clamp_min(1e-12).sqrt()


@wrong("deviation", "cancellation")
def from_moments(x):
    variance = x.square().mean(1, keepdim=True) - x.mean(1, keepdim=True).square()
    return torch.where(variance > 0, torch.where(variance > 0, variance, 1.0).sqrt(), 0.0)


@right("deviation", "a gradient of its own")
def own_gradient(x):
    class Spread(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            std = x.var(1, unbiased=False, keepdim=True).sqrt()
            ctx.save_for_backward(x, std)
            return std

        @staticmethod
        def backward(ctx, gradient):
            x, std = ctx.saved_tensors
            slope = (x - x.mean(1, keepdim=True)) / (std * x.shape[1])
            return gradient * torch.where(std > 0, slope, 0.0)

    return Spread.apply(x)


wired("wrong-gradient", lambda s, x: (y := x.detach() + s.a(s.n(x))) + s.f(s.m(y)))
wired("wrong-gradient", lambda s, x: (y := x + s.a(s.n(x))).detach() + s.f(s.m(y)))
wired("wrong-gradient", lambda s, x: (y := x + s.a(s.n(x.detach()))) + s.f(s.m(y)))
wired("wrong-gradient", lambda s, x: (y := x + s.a(s.n(x))) + s.f(s.m(y.detach())))
wired("subtracted", lambda s, x: (y := x + s.a(s.n(x))) - s.f(s.m(y)))
wired("subtracted", lambda s, x: (y := x - s.a(s.n(x))) + s.f(s.m(y)))
wired("second-branch-alone", lambda s, x: x + (y := s.a(s.n(x))) + s.f(s.m(y)))
wired("post-norm", lambda s, x: (y := x + s.n(x + s.a(x))) + s.m(y + s.f(y)))
wired("post-norm", lambda s, x: (y := x + s.n(x + s.a(x))) + s.f(s.m(y)))
wired("post-norm", lambda s, x: (y := x + s.a(s.n(x))) + s.m(y + s.f(y)))
wired("norm-behind-the-branch", lambda s, x: (y := x + s.n(s.a(x))) + s.f(s.m(y)))
wired("norm-behind-the-branch", lambda s, x: (y := x + s.a(s.n(x))) + s.m(s.f(y)))
wired("weights-in-forward", lambda s, x: (y := x + se.PreNorm(x.shape[1], s.a)(x)) + s.f(s.m(y)))


def over_channels(x):
    return F.layer_norm(x.movedim(1, -1), x.shape[1:2]).movedim(-1, 1)


wired("norm-unused", lambda s, x: (y := x + s.a(over_channels(x))) + s.f(s.m(y)))
wired("no-gradient", lambda s, x: (y := x + s.a(s.n(x)).detach()) + s.f(s.m(y)))


@wrong("block", "norm-unused")
class OneMore(TwoBranches):
    def __init__(self, dim, attention, feed_forward):
        super().__init__(dim, attention, feed_forward)
        self.norm = se.LayerNorm(dim)


@wrong("block", "too-many-norms")
class NormsInFrontOfPreNorm(TwoNorms):
    def __init__(self, dim, attention, feed_forward):
        super().__init__(dim, attention, feed_forward)
        self.norm1, self.norm2 = se.LayerNorm(dim), se.LayerNorm(dim)

    def forward(self, x):
        x = x + self.attention(self.norm1(x))
        return x + self.feed_forward(self.norm2(x))


@wrong("block", "too-many-norms")
class PreNormInPreNorm(WithPreNorm):
    def __init__(self, dim, attention, feed_forward):
        super().__init__(dim, se.PreNorm(dim, attention), feed_forward)


@wrong("block", "too-many-norms")
class Scaled(TwoBranches):
    def __init__(self, dim, attention, feed_forward):
        super().__init__(dim, attention, feed_forward)
        self.scale = nn.Parameter(torch.ones(dim, 1, 1))

    def forward(self, x):
        x = x + self.scale * self.a(self.n(x))
        return x + self.f(self.m(x))


@wrong("block", "norm-without-weights")
class Bare(nn.Module):
    def __init__(self, dim, attention, feed_forward):
        super().__init__()
        self.a, self.f = attention, feed_forward

    def forward(self, x):
        x = x + self.a(over_channels(x))
        return x + self.f(over_channels(x))


@wrong("block", "norm-without-weights")
class BareOnce(TwoBranches):
    def __init__(self, dim, attention, feed_forward):
        super().__init__(dim, attention, feed_forward)
        del self.n

    def forward(self, x):
        x = x + self.a(over_channels(x))
        return x + self.f(self.m(x))


class OtherNorms(nn.Module):
    """The right wiring, with other norms."""

    def norms(self, dim):
        return se.LayerNorm(dim), se.LayerNorm(dim)

    def __init__(self, dim, attention, feed_forward):
        super().__init__()
        first, second = self.norms(dim)
        self.branches = nn.ModuleList([nn.Sequential(first, attention), nn.Sequential(second, feed_forward)])

    forward = WithPreNorm.forward


@wrong("block", "eps-large")
class AThousandth(OtherNorms):
    def norms(self, dim):
        return se.LayerNorm(dim, eps=1e-3), se.LayerNorm(dim)


@wrong("block", "eps-large")
class AHundredth(OtherNorms):
    def norms(self, dim):
        return se.LayerNorm(dim, eps=1e-2), se.LayerNorm(dim)


@wrong("block", "eps-large")
class TwoHundredths(OtherNorms):
    def norms(self, dim):
        return se.LayerNorm(dim, eps=1e-2), se.LayerNorm(dim, eps=1e-2)


@right("block", "eps of a millionth")
class AMillionth(OtherNorms):
    def norms(self, dim):
        return se.LayerNorm(dim, eps=1e-6), se.LayerNorm(dim, eps=1e-6)


@wrong("block", "other-norm")
class OneGroupOnce(OtherNorms):
    def norms(self, dim):
        return nn.GroupNorm(1, dim), se.LayerNorm(dim)


@wrong("block", "other-norm")
class LastAxisOnce(OtherNorms):
    def norms(self, dim):
        return nn.LayerNorm(dim), se.LayerNorm(dim)


wrong_value("centre", "mean-everywhere", pixels.mean(0, keepdim=True).expand(3, 2))
wrong_value("centre", "divided-too", (pixels - pixels.mean(0)) / pixels.std(0))
wrong_value("centre", "mean-added", pixels + pixels.mean(0))
wrong_value("centre", "n-minus-one", pixels - pixels.sum(0) / 2)
wrong_value("centre", "nothing-done", pixels)
wrong_value("centre", "median-taken-off", pixels - pixels.median(0).values)
wrong_value("centre", "smallest-taken-off", pixels - pixels.min(0).values)
wrong_value("centre", "largest-taken-off", pixels - pixels.max(0).values)
wrong_value("spread", "not-centred", pixels.norm(dim=0, keepdim=True) / 3**0.5)
wrong_value("spread", "sum-of-squares", ((pixels - pixels.mean(0)) ** 2).sum(0, keepdim=True))
wrong_value("spread", "one-spread-for-all", pixels.std(correction=0).expand(1, 2))
wrong_value("spread", "one-spread-for-all-with-n-minus-one", pixels.std().expand(1, 2))
wrong_value("spread", "largest-less-smallest", pixels.amax(0, keepdim=True) - pixels.amin(0, keepdim=True))
