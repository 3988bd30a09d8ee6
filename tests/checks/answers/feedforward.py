"""Answers to the exercises of chapter 4."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from catalogue import right, right_value, wrong, wrong_value
from einops import rearrange
from einops.layers.torch import Rearrange
from torch import nn

import segformer_edu as se

# 4.1 Right ------------------------------------------------------------------------------------------------------------

right("mix_feed_forward", "the library's")(se.MixFeedForward)


class Parts(nn.Module):
    """The right class in parts, which the wrong answers below make in their own ways."""

    padding_mode = "zeros"

    def __init__(self, *, dim, expansion_factor):
        super().__init__()
        self.dim, self.h = dim, self.width(dim, expansion_factor)
        self.fc1, self.fc2 = nn.Conv2d(dim, self.h, 1), nn.Conv2d(self.h, dim, 1)
        self.depthwise, self.pointwise = self.middle(self.h)

    def width(self, dim, factor):
        return dim * factor

    def middle(self, h):
        return nn.Conv2d(h, h, 3, padding=1, groups=h, padding_mode=self.padding_mode), nn.Conv2d(h, h, 1)

    def look(self, t):
        return self.pointwise(self.depthwise(t))

    def act(self, t):
        return F.gelu(t)

    def forward(self, x):
        return self.fc2(self.act(self.look(self.fc1(x))))


right("mix_feed_forward", "in parts, F.gelu")(Parts)


@right("mix_feed_forward", "nn.Linear on tokens, transformers' names")
class Tokens(nn.Module):
    def __init__(self, dim, expansion_factor):
        super().__init__()
        h = dim * expansion_factor
        self.dense2, self.dense1, self.mix = nn.Linear(h, dim), nn.Linear(dim, h), nn.Linear(h, h)
        self.dwconv = nn.Conv2d(h, h, 3, 1, 1, bias=True, groups=h)

    def forward(self, x):
        B, C, H, W = x.shape
        x = self.dense1(x.flatten(2).transpose(1, 2))
        x = self.dwconv(x.transpose(1, 2).view(B, -1, H, W)).flatten(2).transpose(1, 2)
        return self.dense2(F.gelu(self.mix(x))).transpose(1, 2).reshape(B, C, H, W)


@right("mix_feed_forward", "F.unfold, plain parameters, the GELU written out")
class Unfolded(nn.Module):
    def __init__(self, *, dim, expansion_factor):
        super().__init__()
        h = dim * expansion_factor
        self.a, self.filters, self.b, self.c = (
            nn.Parameter(torch.randn(*size) / size[0] ** 0.5) for size in ((dim, h), (h, 9), (h, h), (h, dim))
        )
        self.biases = nn.ParameterList(torch.randn(n) for n in (h, h, h, dim))

    def forward(self, x):
        t = torch.einsum("bchw,ck->bkhw", x, self.a) + self.biases[0][:, None, None]
        t = rearrange(F.unfold(t, 3, padding=1), "b (c k) n -> b n c k", k=9)
        t = ((t * self.filters).sum(-1) + self.biases[1]) @ self.b + self.biases[2]
        t = 0.5 * t * (1 + torch.erf(t / math.sqrt(2)))
        return rearrange(t @ self.c + self.biases[3], "b (h w) c -> b c h w", h=x.shape[2])


@right("mix_feed_forward", "a function that returns a Sequential, channels last")
def sequential(*, dim, expansion_factor):
    h = dim * expansion_factor
    return nn.Sequential(
        Rearrange("b c h w -> b h w c"), nn.Linear(dim, h), Rearrange("b h w c -> b c h w"),
        nn.ZeroPad2d(1), nn.Conv2d(h, h, 3, groups=h), Rearrange("b c h w -> b h w c"),
        nn.Linear(h, h), nn.GELU(), nn.Linear(h, dim), Rearrange("b h w c -> b c h w"),
    )  # fmt: skip


# 4.1 Wrong ------------------------------------------------------------------------------------------------------------


def variant(kind, name, outcome="not yet right", **methods):
    wrong_value("mix_feed_forward", kind, type(name, (Parts,), methods), name, outcome)


def forward(function):
    return {"forward": function}


variant("gelu-too-early", "Early", **forward(lambda s, x: s.fc2(s.look(F.gelu(s.fc1(x))))))
variant("gelu-too-early", "EarlyRelu", **forward(lambda s, x: s.fc2(s.look(F.relu(s.fc1(x))))))
variant("gelu-twice", "Both", **forward(lambda s, x: s.fc2(F.gelu(s.look(F.gelu(s.fc1(x)))))))
variant("gelu-twice", "AlsoAtTheEnd", **forward(lambda s, x: F.gelu(s.fc2(F.gelu(s.look(s.fc1(x)))))))
variant("gelu-twice", "AlsoInside", **forward(lambda s, x: s.fc2(F.gelu(s.pointwise(F.gelu(s.depthwise(s.fc1(x))))))))
variant("gelu-missing", "Linear", **forward(lambda s, x: s.fc2(s.look(s.fc1(x)))))
variant("gelu-too-late", "Late", **forward(lambda s, x: F.gelu(s.fc2(s.look(s.fc1(x))))))
variant("gelu-between-the-parts", "Inside", **forward(lambda s, x: s.fc2(s.pointwise(F.gelu(s.depthwise(s.fc1(x)))))))
variant("parts-exchanged", "MixFirst", look=lambda s, t: s.depthwise(s.pointwise(t)))
variant("approximate-gelu", "Tanh", act=lambda s, t: F.gelu(t, approximate="tanh"))
for name, act in {
    "Relu": F.relu, "Silu": F.silu, "Leaky": F.leaky_relu, "Elu": F.elu, "Sigmoid": torch.sigmoid,
    "Tanhs": torch.tanh, "Quick": lambda t: t * torch.sigmoid(1.702 * t), "Mish": F.mish, "Relu6": F.relu6,
}.items():  # fmt: skip
    variant("other-activation", name, act=lambda s, t, act=act: act(t))
variant("other-activation", "Celu", act=lambda s, t: F.celu(t, 2.0))
variant("other-activation", "GeluAndRelu", act=lambda s, t: F.relu(F.gelu(t)))
variant("gelu-twice", "AlsoInFront", **forward(lambda s, x: Parts.forward(s, F.gelu(x))))
variant("middle-added", "Inner", look=lambda s, t: t + Parts.look(s, t))
variant("residual-inside", "Residual", **forward(lambda s, x: x + Parts.forward(s, x)))
for mode in ("reflect", "circular", "replicate"):
    variant("padding-not-zeros", mode.title(), padding_mode=mode)
variant("padding-missing", "NoPadding", middle=lambda s, h: (nn.Conv2d(h, h, 3, groups=h), nn.Conv2d(h, h, 1)))
variant("pointwise-missing", "Papers", middle=lambda s, h: (nn.Conv2d(h, h, 3, padding=1, groups=h), nn.Identity()))
variant("dense-middle", "Dense", middle=lambda s, h: (nn.Conv2d(h, h, 3, padding=1), nn.Identity()))
variant("middle-missing", "Plain", middle=lambda s, h: (nn.Identity(), nn.Identity()))
variant("hidden-width", "Divided", width=lambda s, d, f: max(d // f, 1))
variant("hidden-width", "Added", width=lambda s, d, f: d + f)
variant("hidden-width", "Factor", width=lambda s, d, f: f)
variant("hidden-width", "NotWidened", width=lambda s, d, f: d)
variant("hidden-width", "TwiceWidened", width=lambda s, d, f: d * f * f)
variant("arguments-fixed", "AlwaysThree", width=lambda s, d, f: 3 * d)
variant("arguments-fixed", "AlwaysFifteen", width=lambda s, d, f: 15)
variant(
    "biases-missing",
    "NoBias",
    middle=lambda s, h: (nn.Conv2d(h, h, 3, padding=1, groups=h, bias=False), nn.Conv2d(h, h, 1)),
)
variant(
    "biases-missing",
    "NoBiases",
    middle=lambda s, h: tuple(nn.Conv2d(h, h, k, padding=k // 2, groups=g, bias=False) for k, g in ((3, h), (1, 1))),
)
variant(
    "parameters",
    "ThreeByThreeTwice",
    middle=lambda s, h: (nn.Conv2d(h, h, 3, padding=1, groups=h), nn.Conv2d(h, h, 3, padding=1)),
)
variant(
    "parameters",
    "Groups",
    middle=lambda s, h: (nn.Conv2d(h, h, 3, padding=1, groups=h // 5 if h % 5 == 0 else 1), nn.Conv2d(h, h, 1)),
)
variant(
    "norm-inside",
    "Norm",
    middle=lambda s, h: (
        nn.Conv2d(h, h, 3, padding=1, groups=h),
        nn.Sequential(nn.Conv2d(h, h, 1), nn.GroupNorm(1, h)),
    ),
)
variant(
    "norm-inside",
    "BatchNorm",
    middle=lambda s, h: (nn.Conv2d(h, h, 3, padding=1, groups=h), nn.Sequential(nn.Conv2d(h, h, 1), nn.BatchNorm2d(h))),
)
variant(
    "window-too-large",
    "Dilated",
    middle=lambda s, h: (nn.Conv2d(h, h, 3, padding=2, dilation=2, groups=h), nn.Conv2d(h, h, 1)),
)
variant("window-too-large", "Again", look=lambda s, t: s.pointwise(s.depthwise(s.depthwise(t))))
variant(
    "rows-and-columns",
    "Columns",
    look=lambda s, t: s.pointwise(s.depthwise(t.reshape(*t.shape[:2], t.shape[3], t.shape[2]))).reshape(t.shape),
)
variant(
    "tokens-not-turned",
    "View",
    look=lambda s, t: s.look2(t.flatten(2).mT.reshape(t.shape)),
    look2=lambda s, t: Parts.look(s, t).reshape(len(t), -1, s.h).mT.reshape(t.shape),
)
variant(
    "only-square",
    "Root",
    look=lambda s, t: Parts.look(s, t.flatten(2).unflatten(2, (math.isqrt(t.shape[2] * t.shape[3]),) * 2)),
)
variant("not-deterministic", "Dropout", act=lambda s, t: F.dropout(F.gelu(t), 0.1))
variant("no-gradient", "Detached", act=lambda s, t: F.gelu(t.detach()))
variant("no-return", "NoReturn", **forward(lambda s, x: None if s.look(s.fc1(x)) is not None else x))
variant("wrong-dtype", "Single", **forward(lambda s, x: Parts.forward(s, x).float()))
variant("name-missing", "Typo", "could not run", act=lambda s, t: s.gleu(t))
wrong_value("mix_feed_forward", "instance-given", Parts(dim=4, expansion_factor=2))
wrong_value("mix_feed_forward", "signature", nn.Linear, "another class", "could not run")


@wrong("mix_feed_forward", "middle-before-widening")
class Narrow(nn.Module):
    def __init__(self, *, dim, expansion_factor):
        super().__init__()
        self.net = nn.Sequential(
            se.DsConv2d(dim, dim, 3, padding=1),
            nn.Conv2d(dim, dim * expansion_factor, 1),
            nn.GELU(),
            nn.Conv2d(dim * expansion_factor, dim, 1),
        )

    def forward(self, x):
        return self.net(x)


@wrong("mix_feed_forward", "cannot-place")
class Shared(Parts):
    def middle(self, h):
        self.one = nn.Parameter(torch.randn(5 * h))
        self.rest = nn.Parameter(torch.randn(4 * h))
        return nn.Identity(), nn.Conv2d(h, h, 1)

    def look(self, t):
        window = torch.cat([self.one, self.rest]).view(self.h, 1, 3, 3)
        bias = 0 * self.extra[0]
        return self.pointwise(F.conv2d(t, window * 1.5, padding=1, groups=self.h) + bias)

    def __init__(self, *, dim, expansion_factor):
        super().__init__(dim=dim, expansion_factor=expansion_factor)
        self.extra = nn.Parameter(torch.randn(self.h))


# 4.2 ------------------------------------------------------------------------------------------------------------------


def on_tokens(tokens, height, width, widen, mix, narrow):
    t = rearrange(widen(tokens), "b (h w) c -> b c h w", h=height)
    return narrow(F.gelu(rearrange(mix(t), "b c h w -> b (h w) c")))


right("mix_on_tokens", "einops")(on_tokens)


@right("mix_on_tokens", "NVlabs' DWConv")
def nvlabs(x, H, W, fc1, dwconv, fc2):
    x = fc1(x)
    B, _, C = x.shape
    x = dwconv(x.transpose(1, 2).view(B, C, H, W)).flatten(2).transpose(1, 2)
    return fc2(nn.GELU()(x))


@right("mix_on_tokens", "1×1 convolutions on the map")
def as_map(tokens, height, width, widen, mix, narrow):
    x = tokens.mT.unflatten(2, (height, width))
    x = mix(F.conv2d(x, widen.weight[..., None, None], widen.bias))
    return F.conv2d(F.gelu(x), narrow.weight[..., None, None], narrow.bias).flatten(2).mT


def tokens_of(kind, outcome="not yet right", **functions):
    for name, function in functions.items():
        wrong_value("mix_on_tokens", kind, function, name, outcome)


def to_map(t, h, w):
    return t.mT.reshape(len(t), -1, h, w)


tokens_of("gelu-too-early", early=lambda t, h, w, a, m, b: b(m(to_map(F.gelu(a(t)), h, w)).flatten(2).mT))
tokens_of("gelu-twice", twice=lambda t, h, w, a, m, b: b(F.gelu(m(to_map(F.gelu(a(t)), h, w)).flatten(2).mT)))
tokens_of("gelu-missing", linear=lambda t, h, w, a, m, b: b(m(to_map(a(t), h, w)).flatten(2).mT))
tokens_of("gelu-too-late", late=lambda t, h, w, a, m, b: F.gelu(b(m(to_map(a(t), h, w)).flatten(2).mT)))
tokens_of(
    "approximate-gelu", tanh=lambda t, h, w, a, m, b: b(F.gelu(m(to_map(a(t), h, w)).flatten(2).mT, approximate="tanh"))
)
tokens_of("other-activation", relu=lambda t, h, w, a, m, b: b(F.relu(m(to_map(a(t), h, w)).flatten(2).mT)))
tokens_of("other-activation", silu=lambda t, h, w, a, m, b: b(F.silu(m(to_map(a(t), h, w)).flatten(2).mT)))
tokens_of("residual-inside", residual=lambda t, h, w, a, m, b: t + on_tokens(t, h, w, a, m, b))
tokens_of("rows-and-columns", exchanged=lambda t, h, w, a, m, b: on_tokens(t, w, h, a, m, b))
tokens_of(
    "read-by-columns",
    columns=lambda t, h, w, a, m, b: b(
        F.gelu(rearrange(m(rearrange(a(t), "b (w h) c -> b c h w", h=h)), "b c h w -> b (w h) c"))
    ),
)
tokens_of(
    "tokens-not-turned", viewed=lambda t, h, w, a, m, b: b(F.gelu(m(a(t).reshape(len(t), -1, h, w)).flatten(2).mT))
)
tokens_of(
    "tokens-not-turned",
    viewed_twice=lambda t, h, w, a, m, b: b(F.gelu(m(a(t).reshape(len(t), -1, h, w)).reshape(len(t), h * w, -1))),
)
tokens_of(
    "not-turned-back", viewed_back=lambda t, h, w, a, m, b: b(F.gelu(m(to_map(a(t), h, w)).reshape(len(t), h * w, -1)))
)
tokens_of("not-turned-back", turned_at_the_end=lambda t, h, w, a, m, b: on_tokens(t, h, w, a, m, b).mT)
tokens_of("mix-missing", plain=lambda t, h, w, a, m, b: b(F.gelu(a(t))))
tokens_of("still-a-map", a_map=lambda t, h, w, a, m, b: to_map(on_tokens(t, h, w, a, m, b), h, w))
tokens_of("second-layer-missing", wide=lambda t, h, w, a, m, b: F.gelu(m(to_map(a(t), h, w)).flatten(2).mT))
tokens_of("width-guessed", three=lambda t, h, w, a, m, b: on_tokens(t, 3, 7, a, m, b))
tokens_of("only-square", root=lambda t, h, w, a, m, b: on_tokens(t, math.isqrt(t.shape[1]), None, a, m, b))
tokens_of(
    "padding-not-zeros",
    circular=lambda t, h, w, a, m, b: b(
        F.gelu(F.conv2d(F.pad(to_map(a(t), h, w), (1,) * 4, mode="circular"), m.weight, m.bias, groups=8).flatten(2).mT)
    ),
)
tokens_of("no-gradient", detached=lambda t, h, w, a, m, b: on_tokens(t.detach(), h, w, a, m, b).detach())
tokens_of("no-return", nothing=lambda t, h, w, a, m, b: [][:0] or None if a(t) is not None else t)
tokens_of("raises", "could not run", no_map=lambda t, h, w, a, m, b: b(F.gelu(m(a(t)))))

# 4.3 ------------------------------------------------------------------------------------------------------------------

NEWS = {
    "sorts after 2 blocks": 25,
    "sorts after 7 blocks": 12 * 15,
    "blocks until every pixel is one of its kind": 10,
    "sorts after 2 blocks, two 3×3 in each": 81,
    "sorts after 2 blocks, circular padding": 1,
    "pixels of the image, stage 4, 2 blocks": 64,
}
right_value("news", "int", NEWS)
right_value("news", "float", {name: float(value) for name, value in NEWS.items()})
right_value("news", "NumPy", {name: np.int32(value) for name, value in NEWS.items()})
names = list(NEWS)
for kind, place, value in [
    ("one-border-only", 0, 9),
    ("one-border-only", 0, 4),
    ("middle-forgotten", 0, 16),
    ("one-axis-only", 0, 5),
    ("every-pixel", 0, 240),
    ("pixels-for-sorts", 0, 112),
    ("symmetric", 0, 6),
    ("sheet-too-small", 1, 225),
    ("one-border-only", 1, 64),
    ("every-pixel", 1, 240),
    ("one-axis-only", 1, 15),
    ("one-border-only", 2, 20),
    ("short-side", 2, 6),
    ("one-block-short", 2, 9),
    ("both-sides-added", 2, 16),
    ("corner-to-corner", 2, 12),
    ("not-whole", 2, 9.5),
    ("one-block-only", 3, 25),
    ("one-block-only", 3, 49),
    ("one-axis-only", 3, 9),
    ("both-sides-of-a-pixel", 5, 5 * 32),
    ("sorts-doubled", 3, 50),
    ("padding-forgotten", 4, 25),
    ("blank-is-one-sort", 4, 0),
    ("pixels-of-the-map", 5, 2),
    ("one-block-only", 5, 32),
    ("stride-of-the-stage", 5, 4),
    ("both-borders", 5, 128),
]:
    wrong_value("news", kind, NEWS | {names[place]: value}, f"{names[place]} {value}")

# 4.4 ------------------------------------------------------------------------------------------------------------------

BUGS = {"a": "order", "b": "padding", "c": "none", "d": "activation", "e": "groups"}
right_value("network bugs", "words", BUGS)
right_value("network bugs", "capitals", {letter: bug.upper() for letter, bug in BUGS.items()})
right_value("network bugs", "another order", dict(reversed(BUGS.items())))
for kind, letter, word in [
    ("not-the-order", "a", "activation"),
    ("not-the-padding", "b", "none"),
    ("nothing-wrong-with-c", "c", "order"),
    ("not-the-activation", "d", "none"),
    ("not-the-groups", "e", "width"),
    ("no-such-word", "e", "all"),
]:
    wrong_value("network bugs", kind, BUGS | {letter: word}, f"{letter} {word}")

# 4.5 ------------------------------------------------------------------------------------------------------------------


def in_slices(
    x,
    widen,
    depthwise,
    narrow,
    size,
    *,
    act=F.gelu,
    biases=(1, 1),
    once=True,
    each=False,
    starts=None,
    roll=0,
    padding=1,
):
    """The right answer, with what is changed in it."""
    h = widen.out_channels
    result = narrow.bias[:, None, None] if once else 0
    for start in range(0, h, size) if starts is None else starts(h, size):
        part = slice(start, min(start + size, h))
        t = F.conv2d(x, widen.weight[part], widen.bias[part] * biases[0])
        t = F.conv2d(
            t,
            depthwise.weight.roll(roll, 0)[part],
            depthwise.bias[part] * biases[1],
            padding=padding,
            groups=t.shape[1],
        )
        result = result + F.conv2d(act(t), narrow.weight[:, part], narrow.bias if each else None)
    return result


right("mix_in_slices", "slices of the weights")(in_slices)


@right("mix_in_slices", "torch.split")
def by_split(x, widen, depthwise, narrow, size):
    out = 0
    parts = (widen.weight, widen.bias, depthwise.weight, depthwise.bias)
    for W, b, D, d, N in zip(*(p.split(size) for p in parts), narrow.weight.split(size, dim=1)):
        out = out + F.conv2d(F.gelu(F.conv2d(F.conv2d(x, W, b), D, d, padding=1, groups=len(D))), N)
    return out + narrow.bias.view(1, -1, 1, 1)


@right("mix_in_slices", "einsum, written into one result")
def into_one(x, widen, depthwise, narrow, size):
    out = narrow.bias.view(1, -1, 1, 1).expand(x.shape[0], -1, *x.shape[2:]).clone()
    for channels in torch.arange(widen.out_channels).split(size):
        t = torch.einsum("oi,bihw->bohw", widen.weight[channels, :, 0, 0], x) + widen.bias[channels, None, None]
        t = F.conv2d(t, depthwise.weight[channels], depthwise.bias[channels], padding=1, groups=len(channels))
        out += torch.einsum("oi,bihw->bohw", narrow.weight[:, channels, 0, 0], F.gelu(t))
    return out


def slices(kind, outcome="not yet right", **functions):
    for name, function in functions.items():
        wrong_value("mix_in_slices", kind, function, name, outcome)


slices("wide-map", whole=lambda x, a, d, b, size: b(F.gelu(d(a(x)))))
slices("size-ignored", ten=lambda x, a, d, b, size: in_slices(x, a, d, b, 10))
slices("bias-of-each-slice", each=lambda x, a, d, b, size: in_slices(x, a, d, b, size, once=False, each=True))
slices("last-bias-forgotten", none=lambda x, a, d, b, size: in_slices(x, a, d, b, size, once=False))
slices("hidden-bias-forgotten", first=lambda x, a, d, b, size: in_slices(x, a, d, b, size, biases=(0, 1)))
slices("hidden-bias-forgotten", second=lambda x, a, d, b, size: in_slices(x, a, d, b, size, biases=(1, 0)))
slices(
    "last-slice-lost",
    whole_slices=lambda x, a, d, b, size: in_slices(
        x, a, d, b, size, starts=lambda h, s: range(0, max(h - h % s, 1), s)
    ),
)
slices("one-slice-only", first_slice=lambda x, a, d, b, size: in_slices(x, a, d, b, size, starts=lambda h, s: [0]))
slices(
    "mean-for-sum",
    mean=lambda x, a, d, b, size: in_slices(x, a, d, b, size, once=False) / -(-14 // size) + b.bias[:, None, None],
)
slices("wrong-channels", rolled=lambda x, a, d, b, size: in_slices(x, a, d, b, size, roll=3))
slices(
    "approximate-gelu",
    tanh=lambda x, a, d, b, size: in_slices(x, a, d, b, size, act=lambda t: F.gelu(t, approximate="tanh")),
)
slices("other-activation", relu=lambda x, a, d, b, size: in_slices(x, a, d, b, size, act=F.relu))
slices("gelu-missing", linear=lambda x, a, d, b, size: in_slices(x, a, d, b, size, act=lambda t: t))
slices(
    "gelu-of-the-sum",
    last=lambda x, a, d, b, size: (
        F.gelu(in_slices(x, a, d, b, size, act=lambda t: t, once=False)) + b.bias[:, None, None]
    ),
)
slices("padding-missing", unpadded=lambda x, a, d, b, size: in_slices(x, a, d, b, size, padding=0))


@wrong("mix_in_slices", "slices-kept")
def kept(x, widen, depthwise, narrow, size):
    parts = (widen.weight, widen.bias, depthwise.weight, depthwise.bias)
    wide = [
        F.gelu(F.conv2d(F.conv2d(x, W, b), D, d, padding=1, groups=len(D)))
        for W, b, D, d in zip(*(p.split(size) for p in parts))
    ]
    return sum(F.conv2d(t, N) for t, N in zip(wide, narrow.weight.split(size, 1))) + narrow.bias[:, None, None]


@wrong("mix_in_slices", "size-must-divide")
def unflattened(x, widen, depthwise, narrow, size):
    widen.weight.unflatten(0, (-1, min(size, 14)))
    return in_slices(x, widen, depthwise, narrow, size)


@wrong("mix_in_slices", "changes-the-layers")
def written(x, widen, depthwise, narrow, size):
    result = in_slices(x, widen, depthwise, narrow, size)
    narrow.bias.data.zero_()
    return result


# Warm-ups -------------------------------------------------------------------------------------------------------------

listed = 10 * torch.arange(1, 7.0)[:, None] + torch.arange(4.0)
right_value("map", "rearrange", rearrange(listed, "(h w) c -> c h w", h=2))
right_value("map", "views", listed.T.reshape(4, 2, 3))
wrong_value("map", "tokens-not-turned", listed.reshape(4, 2, 3))
wrong_value("map", "height-for-width", listed.T.reshape(4, 3, 2))
wrong_value("map", "rows-and-columns", rearrange(listed, "(w h) c -> c h w", h=2))
wrong_value("map", "channels-last", listed.reshape(2, 3, 4))
wrong_value("map", "wrong-rank", listed.T)

ones, window = torch.ones(1, 1, 4, 5), torch.ones(1, 1, 3, 3)
right_value("blank", "conv2d", F.conv2d(ones, window, padding=1))
right_value("blank", "by hand", [[[[4, 6, 6, 6, 4], [6, 9, 9, 9, 6], [6, 9, 9, 9, 6], [4, 6, 6, 6, 4]]]])
wrong_value("blank", "padding-missing", F.conv2d(ones, window))
wrong_value("blank", "padding-not-zeros", 9 * ones)
wrong_value("blank", "averaged", F.avg_pool2d(ones, 3, 1, 1))
wrong_value("blank", "padding-of-ones", ones)

# A second round -------------------------------------------------------------------------------------------------------


@wrong("mix_on_tokens", "middle-added")
def added_to_the_middle(tokens, height, width, widen, mix, narrow):
    hidden = widen(tokens)
    looked = mix(rearrange(hidden, "b (h w) c -> b c h w", h=height))
    return narrow(F.gelu(hidden + rearrange(looked, "b c h w -> b (h w) c")))


@right("mix_on_tokens", "movedim")
def moved(tokens, height, width, widen, mix, narrow):
    picture = widen(tokens).unflatten(1, (height, width)).movedim(-1, 1)
    return narrow(F.gelu(mix(picture)).movedim(1, -1).flatten(1, 2))


class Windows(nn.Module):
    def __init__(self, dim, hidden_dim, first, last):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(dim, hidden_dim, first, padding=first // 2),
            se.DsConv2d(hidden_dim, hidden_dim, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(hidden_dim, dim, last, padding=last // 2),
        )

    def forward(self, x):
        return self.net(x)


@wrong("mix_feed_forward", "second-window")
class WideNarrowing(Windows):
    def __init__(self, *, dim, expansion_factor):
        super().__init__(dim, dim * expansion_factor, 1, 3)


@wrong("mix_feed_forward", "second-window")
class WideWidening(Windows):
    def __init__(self, *, dim, expansion_factor):
        super().__init__(dim, dim * expansion_factor, 3, 1)


# What a reader tried --------------------------------------------------------------------------------------------------


def of_slices(x, layers, size, *, before=torch.clone, act=F.gelu, behind=sum):
    """The sum of the slices' results, with what is changed in it."""
    widen, depthwise, narrow = layers
    parts = []
    for start in range(0, widen.out_channels, size):
        s = slice(start, start + size)
        t = before(F.conv2d(x, widen.weight[s], widen.bias[s]))
        t = F.conv2d(t, depthwise.weight[s], depthwise.bias[s], padding=1, groups=t.shape[1])
        parts.append(F.conv2d(act(t), narrow.weight[:, s]))
    return behind(parts) + narrow.bias[:, None, None]


@wrong("mix_in_slices", "results-kept")
def stacked(x, widen, depthwise, narrow, size):
    return of_slices(x, (widen, depthwise, narrow), size, behind=lambda parts: torch.stack(parts).sum(0))


@wrong("mix_in_slices", "results-kept")
def listed(x, widen, depthwise, narrow, size):
    return of_slices(x, (widen, depthwise, narrow), size, behind=sum)


@wrong("mix_in_slices", "results-kept")
def listed_as_views(x, widen, depthwise, narrow, size):
    return of_slices(x, (widen, depthwise, narrow), size, behind=lambda parts: sum(part[:, :] for part in parts))


@wrong("mix_in_slices", "gelu-too-early")
def bent_before_the_window(x, widen, depthwise, narrow, size):
    return of_slices(x, (widen, depthwise, narrow), size, before=F.gelu, act=torch.clone)


@wrong("mix_in_slices", "gelu-twice")
def bent_twice(x, widen, depthwise, narrow, size):
    return of_slices(x, (widen, depthwise, narrow), size, before=F.gelu)


@wrong("mix_in_slices", "gelu-of-the-sum")
def bent_in_the_end(x, widen, depthwise, narrow, size):
    return F.gelu(of_slices(x, (widen, depthwise, narrow), size, act=torch.clone))


@wrong("mix_in_slices", "added-to-the-input")
def with_the_input(x, widen, depthwise, narrow, size):
    return x + of_slices(x, (widen, depthwise, narrow), size)


@wrong("mix_on_tokens", "read-by-columns")
def by_columns(tokens, height, width, widen, mix, narrow):
    t = mix(rearrange(widen(tokens), "b (w h) c -> b c h w", h=height))
    return narrow(F.gelu(rearrange(t, "b c h w -> b (w h) c")))


@wrong("mix_on_tokens", "read-by-columns")
def back_by_columns(tokens, height, width, widen, mix, narrow):
    t = mix(rearrange(widen(tokens), "b (h w) c -> b c h w", h=height))
    return narrow(F.gelu(rearrange(t, "b c h w -> b (w h) c")))


@wrong("mix_on_tokens", "bias-forgotten")
def without_its_bias(tokens, height, width, widen, mix, narrow):
    t = rearrange(widen(tokens), "b (h w) c -> b c h w", h=height)
    t = F.conv2d(t, mix.weight, padding=1, groups=t.shape[1])
    return narrow(F.gelu(rearrange(t, "b c h w -> b (h w) c")))


# What an adversary tried ----------------------------------------------------------------------------------------------

corners = F.conv2d(ones, window, padding=1)
wrong_value("blank", "corners-of-five", torch.where(corners == 4, 5, corners))
wrong_value("blank", "corners-of-six", torch.where(corners == 4, 6, corners))
wrong_value("blank", "cross", [[[[3, 4, 4, 4, 3], [4, 5, 5, 5, 4], [4, 5, 5, 5, 4], [3, 4, 4, 4, 3]]]])
wrong_value("blank", "dilated", F.conv2d(ones, window, padding=2, dilation=2))

variant("changes-input", "RectifiesItsInput", **forward(lambda s, x: Parts.forward(s, x.relu_())))
variant("gelu-twice", "ReluInFront", **forward(lambda s, x: Parts.forward(s, F.relu(x))))
variant("gelu-twice", "ReluAtTheEnd", **forward(lambda s, x: F.relu(Parts.forward(s, x))))
variant("tokens-not-turned", "There", look=lambda s, t: Parts.look(s, t.flatten(2).mT.reshape(t.shape)))
variant("tokens-not-turned", "Back", look=lambda s, t: Parts.look(s, t).reshape(len(t), -1, s.h).mT.reshape(t.shape))
variant(
    "padded-too-early",
    "NarrowMapPadded",
    middle=lambda s, h: (nn.Conv2d(h, h, 3, groups=h), nn.Conv2d(h, h, 1)),
    **forward(lambda s, x: Parts.forward(s, F.pad(x, (1, 1, 1, 1)))),
)
variant("norm-inside", "NormInForward", **forward(lambda s, x: Parts.forward(s, se.LayerNorm(x.shape[1])(x))))
variant(
    "norm-inside",
    "NormOfTheMiddle",
    look=lambda s, t: Parts.look(s, F.layer_norm(t.movedim(1, -1), (s.h,)).movedim(-1, 1)),
)
variant(
    "second-window",
    "SeparableTwice",
    middle=lambda s, h: (nn.Conv2d(h, h, 3, padding=1, groups=h), nn.Sequential(nn.Conv2d(h, h, 1), separable(h))),
)
variant(
    "second-window",
    "DepthwiseTwice",
    middle=lambda s, h: (nn.Sequential(depthwise(h), depthwise(h)), nn.Conv2d(h, h, 1)),
)
variant("wrong-gradient", "HalfCut", act=lambda s, t: F.gelu(0.5 * (t + t.detach())))


def depthwise(h):
    return nn.Conv2d(h, h, 3, padding=1, groups=h)


def separable(h):
    return nn.Sequential(depthwise(h), nn.Conv2d(h, h, 1))


@wrong("mix_feed_forward", "keeps-state")
class FirstHeight(Parts):
    def look(self, t):
        self.height = getattr(self, "height", t.shape[2])
        return super().look(t.flatten(2).unflatten(2, (self.height, -1))).view(t.shape)


@right("mix_feed_forward", "the border added to the wide map")
class WideMapPadded(Parts):
    def middle(self, h):
        return nn.Conv2d(h, h, 3, groups=h), nn.Conv2d(h, h, 1)

    def look(self, t):
        return super().look(F.pad(t, (1, 1, 1, 1)))


tokens_of(
    "changes-input",
    rectified=lambda t, *rest: on_tokens(t.relu_(), *rest),
    made_positive=lambda t, *rest: on_tokens(t.abs_(), *rest),
    centred=lambda t, *rest: on_tokens(t.sub_(t.mean(-1, keepdim=True)), *rest),
    sorted_in_place=lambda t, *rest: on_tokens(t.copy_(t.clone().sort(1).values), *rest),
    doubled=lambda t, *rest: on_tokens(t.mul_(2) / 2, *rest),
    one_more=lambda t, *rest: on_tokens(t.add_(1), *rest),
    zeroed=lambda t, *rest: on_tokens(t.zero_(), *rest),
)
tokens_of(
    "changes-the-layers",
    frozen=lambda t, h, w, a, m, b: on_tokens(t, h, w, a, m.requires_grad_(False), b),
    written=lambda t, h, w, a, m, b: on_tokens(t, h, w, a, m, b) + 0 * b.bias.data.mul_(2),
)
tokens_of("size-written-down", four=lambda t, h, w, *layers: on_tokens(t, 4, w, *layers))
tokens_of(
    "map-turned",
    on_its_side=lambda t, h, w, a, m, b: b(
        F.gelu(rearrange(m(rearrange(a(t), "b (h w) c -> b c w h", h=h)), "b c w h -> b (h w) c"))
    ),
)
tokens_of(
    "bias-forgotten",
    of_the_first=lambda t, h, w, a, m, b: on_tokens(t, h, w, lambda t: t @ a.weight.T, m, b),
    of_the_last=lambda t, h, w, a, m, b: on_tokens(t, h, w, a, m, lambda t: t @ b.weight.T),
    of_both=lambda t, h, w, a, m, b: on_tokens(t, h, w, lambda t: t @ a.weight.T, m, lambda t: t @ b.weight.T),
)
tokens_of("mixed-twice", again=lambda t, h, w, a, m, b: on_tokens(t, h, w, a, lambda t: m(m(t)), b))
tokens_of(
    "norm-inside",
    in_front=lambda t, *rest: on_tokens(F.layer_norm(t, t.shape[-1:]), *rest),
    behind=lambda t, *rest: F.layer_norm(on_tokens(t, *rest), t.shape[-1:]),
    wide=lambda t, h, w, a, m, b: on_tokens(t, h, w, lambda t: F.layer_norm(a(t), (8,)), m, b),
)
tokens_of(
    "padding-missing",
    weights_alone=lambda t, h, w, a, m, b: on_tokens(t, h, w, a, lambda t: F.conv2d(t, m.weight, m.bias, groups=8), b),
)
tokens_of(
    "wrong-gradient",
    half_cut=lambda t, h, w, a, m, b: on_tokens(t, h, w, lambda t: 0.5 * (a(t) + a(t).detach()), m, b),
)
tokens_of(
    "no-gradient",
    weights_cut=lambda t, h, w, a, m, b: on_tokens(t, h, w, lambda t: F.linear(t, a.weight.detach(), a.bias), m, b),
)


def of_parts(x, widen, depthwise, narrow, parts, *, step=torch.add, start=None):
    """The sum over the given slices of the hidden channels, with what is changed in a step."""
    result = narrow.bias[:, None, None] if start is None else start
    for part in parts:
        t = F.conv2d(x, widen.weight[part], widen.bias[part])
        t = F.conv2d(t, depthwise.weight[part], depthwise.bias[part], padding=1, groups=t.shape[1])
        result = step(result, F.conv2d(F.gelu(t), narrow.weight[:, part]))
    return result


def inside(i, x):
    """1 for each of three rows around row i that the map has, 0 beyond its border."""
    rows = torch.arange(i - 1, i + 2)
    return ((rows >= 0) & (rows < x.shape[2])).to(x.dtype)[:, None]


def parts_of(h, size):
    return [slice(start, start + size) for start in range(0, h, size)]


slices("changes-input", rectified=lambda x, a, d, b, size: in_slices(x.data.relu_(), a, d, b, size))
slices(
    "size-ignored",
    twice=lambda x, a, d, b, size: in_slices(x, a, d, b, 2 * size),
    nearly_twice=lambda x, a, d, b, size: in_slices(x, a, d, b, 2 * size - 1),
    one_more=lambda x, a, d, b, size: in_slices(x, a, d, b, size + 1),
)
slices(
    "size-ignored",
    row_by_row=lambda x, a, d, b, size: torch.cat(
        [
            b(F.gelu(F.conv2d(F.pad(a(rows), (1, 1)) * inside(i, x), d.weight, d.bias, groups=d.groups)))
            for i, rows in enumerate(F.pad(x, (0, 0, 1, 1)).unfold(2, 3, 1).movedim(-1, 3).unbind(2))
        ],
        2,
    ),
)
slices(
    "one-slice-only",
    overwritten=lambda x, a, d, b, size: of_parts(x, a, d, b, parts_of(14, size), step=lambda old, new: new),
)
slices(
    "channels-lost",
    end_too_early=lambda x, a, d, b, size: of_parts(
        x, a, d, b, [slice(i, i + max(size - 1, 1)) for i in range(0, a.out_channels, size)]
    ),
)
slices(
    "channels-twice",
    end_too_late=lambda x, a, d, b, size: of_parts(
        x, a, d, b, [slice(i, i + size + 1) for i in range(0, a.out_channels, size)]
    ),
    last_begins_earlier=lambda x, a, d, b, size: of_parts(
        x, a, d, b, [slice(min(i, 14 - size), min(i, 14 - size) + size) for i in range(0, 14, size)]
    ),
)
slices(
    "later-channels-lost",
    as_many_as_go_in=lambda x, a, d, b, size: of_parts(x, a, d, b, parts_of(x.shape[1], size)),
)
slices("bias-of-each-slice", once_more=lambda x, a, d, b, size: in_slices(x, a, d, b, size, each=True))
slices("not-a-number", divided=lambda x, a, d, b, size: in_slices(x, a, d, b, size) + (0 * x[:1]) / 0 * (x > 1))
slices("scaled-by-constant", doubled=lambda x, a, d, b, size: 2 * in_slices(x, a, d, b, size))
slices("mean-for-sum", of_all=lambda x, a, d, b, size: in_slices(x, a, d, b, size) / -(-14 // size))
slices(
    "gelu-of-the-sum",
    of_each_share=lambda x, a, d, b, size: of_slices(
        x, (a, d, b), size, act=torch.clone, behind=lambda parts: sum(map(F.gelu, parts))
    ),
)


@wrong("mix_in_slices", "changes-the-layers")
def frozen(x, widen, depthwise, narrow, size):
    for layer in (widen, depthwise, narrow):
        layer.requires_grad_(False)
    return in_slices(x, widen, depthwise, narrow, size)


@wrong("mix_in_slices", "changes-the-layers")
def regrouped(x, widen, depthwise, narrow, size):
    result = narrow.bias[:, None, None]
    for part in parts_of(widen.out_channels, size):
        hidden = F.conv2d(x, widen.weight[part], widen.bias[part])
        depthwise.groups = hidden.shape[1]
        hidden = depthwise._conv_forward(hidden, depthwise.weight[part], depthwise.bias[part])
        result = result + F.conv2d(F.gelu(hidden), narrow.weight[:, part])
    return result


right("mix_in_slices", "without gradients", remark=True)(torch.no_grad()(in_slices))


@right("mix_in_slices", "F.unfold for the 3×3")
def unfolded(x, widen, depthwise, narrow, size):
    out = narrow.bias.view(1, -1, 1).repeat(len(x), 1, x.shape[2] * x.shape[3])
    for i in range(0, narrow.in_channels, size):
        j = min(i + size, narrow.in_channels)
        h = torch.einsum("oi,bihw->bohw", widen.weight[i:j, :, 0, 0], x) + widen.bias[i:j, None, None]
        u = F.unfold(h, 3, padding=1).unflatten(1, (j - i, 9))
        h = torch.einsum("bckn,ck->bcn", u, depthwise.weight[i:j].flatten(1)) + depthwise.bias[i:j, None]
        out = out + narrow.weight[:, i:j, 0, 0] @ F.gelu(h)
    return out.view_as(x)


@right("mix_in_slices", "windows as views")
def windows(x, widen, depthwise, narrow, size):
    out = narrow.bias[:, None, None].expand_as(x)
    for i in range(0, narrow.in_channels, size):
        h = F.conv2d(x, widen.weight[i : i + size], widen.bias[i : i + size])
        seen = F.pad(h, (1, 1, 1, 1)).unfold(2, 3, 1).unfold(3, 3, 1)
        h = torch.einsum("bchwij,cij->bchw", seen, depthwise.weight[i : i + size, 0])
        h = F.gelu(h + depthwise.bias[i : i + size, None, None])
        out = out + F.conv2d(h, narrow.weight[:, i : i + size])
    return out


@right("mix_in_slices", "the 3×3 as nine shifted maps, one channel at a time")
def shifted(x, widen, depthwise, narrow, size):
    result = torch.zeros_like(x) + narrow.bias.view(1, -1, 1, 1)
    for i in range(widen.out_channels):
        hidden = F.pad((widen.weight[i] * x).sum(1) + widen.bias[i], (1, 1, 1, 1))
        looked = depthwise.bias[i].clone()
        for row in range(3):
            for column in range(3):
                window = hidden[:, row : row + x.shape[2], column : column + x.shape[3]]
                looked = looked + depthwise.weight[i, 0, row, column] * window
        result = result + F.gelu(looked)[:, None] * narrow.weight[:, i]
    return result


@right("mix_in_slices", "layers made of the slices")
def layers_of_slices(x, widen, depthwise, narrow, size):
    result = torch.zeros_like(x)
    for first in range(0, widen.out_channels, size):
        n = min(size, widen.out_channels - first)
        part = torch.arange(first, first + n)
        hidden = torch.func.functional_call(
            nn.utils.skip_init(nn.Conv2d, widen.in_channels, n, 1),
            {"weight": widen.weight[part], "bias": widen.bias[part]},
            (x,),
        )
        hidden = torch.func.functional_call(
            nn.utils.skip_init(nn.Conv2d, n, n, 3, padding=1, groups=n),
            {"weight": depthwise.weight[part], "bias": depthwise.bias[part]},
            (hidden,),
        )
        result += F.conv2d(F.gelu(hidden), narrow.weight.index_select(1, part))
    return result + narrow.bias.reshape(-1, 1, 1)
