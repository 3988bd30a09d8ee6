"""Answers to the exercises of chapter 1."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import torch
import torch.nn.functional as F
from catalogue import right, right_value, wrong, wrong_value
from einops import rearrange
from einops.layers.torch import Rearrange
from torch import nn

import segformer_edu as se

# 1.1 Right ------------------------------------------------------------------------------------------------------------

right("ds_conv2d", "the library's")(se.DsConv2d)


@right("ds_conv2d", "two attributes, MobileNet's names")
class TwoAttributes(nn.Module):
    def __init__(self, dim_in, dim_out, kernel_size, padding, stride=1, bias=True):
        super().__init__()
        self.pointwise = nn.Conv2d(dim_in, dim_out, 1, bias=bias)
        self.depthwise = nn.Conv2d(dim_in, dim_in, kernel_size, stride, padding, groups=dim_in, bias=bias)

    def forward(self, x):
        return self.pointwise(self.depthwise(x))


@right("ds_conv2d", "nn.Linear on tokens, einops")
class Tokens(nn.Module):
    def __init__(self, dim_in, dim_out, kernel_size, padding, stride=1, bias=True):
        super().__init__()
        self.look = nn.Conv2d(dim_in, dim_in, kernel_size, stride, padding, groups=dim_in, bias=bias)
        self.mix = nn.Linear(dim_in, dim_out, bias=bias)

    def forward(self, x):
        x = self.look(x)
        return rearrange(self.mix(rearrange(x, "b c h w -> b (h w) c")), "b (h w) c -> b c h w", h=x.shape[2])


@right("ds_conv2d", "F.unfold and plain parameters")
class Unfolded(nn.Module):
    def __init__(self, dim_in, dim_out, kernel_size, padding, stride=1, bias=True):
        super().__init__()
        self.window = dict(kernel_size=kernel_size, padding=padding, stride=stride)
        self.filters = nn.Parameter(torch.randn(dim_in, kernel_size**2) / kernel_size)
        self.mix = nn.Parameter(torch.randn(dim_out, dim_in) / dim_in**0.5)
        self.biases = nn.ParameterList([nn.Parameter(torch.randn(d, 1)) for d in (dim_in, dim_out)] if bias else [])

    def forward(self, x):
        k, p, s = self.window.values()
        height, width = ((n + 2 * p - k) // s + 1 for n in x.shape[2:])
        y = F.unfold(x, **self.window).view(x.shape[0], x.shape[1], k * k, -1)
        y = torch.einsum("bckn,ck->bcn", y, self.filters)
        y = y + self.biases[0] if len(self.biases) else y
        y = self.mix @ y
        y = y + self.biases[1] if len(self.biases) else y
        return y.view(x.shape[0], -1, height, width)


@right("ds_conv2d", "a loop of convolutions of one channel each")
class Loop(nn.Module):
    def __init__(self, dim_in, dim_out, kernel_size, padding, stride=1, bias=True):
        super().__init__()
        self.filters = nn.ModuleList(nn.Conv2d(1, 1, kernel_size, stride, padding, bias=bias) for _ in range(dim_in))
        self.mix = nn.Conv2d(dim_in, dim_out, 1, bias=bias)

    def forward(self, x):
        return self.mix(torch.cat([f(c) for f, c in zip(self.filters, x.split(1, 1))], 1))


@right("ds_conv2d", "F.pad first")
class PaddedFirst(nn.Sequential):
    def __init__(self, dim_in, dim_out, kernel_size, padding, stride=1, bias=True):
        super().__init__(
            nn.ZeroPad2d(padding),
            nn.Conv2d(dim_in, dim_in, kernel_size, stride, groups=dim_in, bias=bias),
            nn.Conv2d(dim_in, dim_out, 1, bias=bias),
        )


@right("ds_conv2d", "a function that returns a Sequential")
def sequential(dim_in, dim_out, kernel_size, padding, stride=1, bias=True):
    return nn.Sequential(
        nn.Conv2d(dim_in, dim_in, kernel_size, stride, padding, groups=dim_in, bias=bias),
        Rearrange("b c h w -> b h w c"),
        nn.Linear(dim_in, dim_out, bias),
        Rearrange("b h w c -> b c h w"),
    )


@wrong("ds_conv2d", "stride-on-the-wrong-part")
class StrideLast(nn.Module):
    def __init__(self, dim_in, dim_out, kernel_size, padding, stride=1, bias=True):
        super().__init__()
        self.a = nn.Conv2d(dim_in, dim_in, kernel_size, 1, padding, groups=dim_in, bias=bias)
        self.b = nn.Conv2d(dim_in, dim_out, 1, stride, bias=bias)

    def forward(self, x):
        return self.b(self.a(x))


# 1.1 Wrong ------------------------------------------------------------------------------------------------------------


class Pair(nn.Module):
    """A first and a second part, which the wrong answers below make in their own ways."""

    def __init__(self, dim_in, dim_out, kernel_size, padding, stride=1, bias=True):
        super().__init__()
        self.first = self.one(dim_in, dim_out, kernel_size, padding, stride, bias)
        self.second = self.two(dim_in, dim_out, kernel_size, padding, stride, bias)

    def one(self, i, o, k, p, s, b):
        return nn.Conv2d(i, i, k, s, p, groups=i, bias=b)

    def two(self, i, o, k, p, s, b):
        return nn.Conv2d(i, o, 1, bias=b)

    def forward(self, x):
        return self.second(self.first(x))


@wrong("ds_conv2d", "groups-forgotten")
class Article(Pair):
    def one(self, i, o, k, p, s, b):
        return nn.Conv2d(i, i, k, s, p, bias=b)


@wrong("ds_conv2d", "groups-of-the-output")
class GroupsOfOutput(Pair):
    def one(self, i, o, k, p, s, b):
        return nn.Conv2d(i, i, k, s, p, groups=o, bias=b)


@wrong("ds_conv2d", "groups-of-the-output")
class FirstWidensInGroups(Pair):
    def one(self, i, o, k, p, s, b):
        return nn.Conv2d(i, o, k, s, p, groups=o, bias=b)

    def two(self, i, o, k, p, s, b):
        return nn.Conv2d(o, o, 1, bias=b)


@wrong("ds_conv2d", "too-few-groups")
class HalfTheGroups(Pair):
    def one(self, i, o, k, p, s, b):
        return nn.Conv2d(i, i, k, s, p, groups=i // 2 if i % 2 == 0 else i, bias=b)


@wrong("ds_conv2d", "too-few-groups")
class TwoGroups(Pair):
    def one(self, i, o, k, p, s, b):
        return nn.Conv2d(i, i, k, s, p, groups=2 if i % 2 == 0 else 1, bias=b)


@wrong("ds_conv2d", "several-filters-a-channel")
class TwoFilters(Pair):
    def one(self, i, o, k, p, s, b):
        return nn.Conv2d(i, 2 * i, k, s, p, groups=i, bias=b)

    def two(self, i, o, k, p, s, b):
        return nn.Conv2d(2 * i, o, 1, bias=b)


@wrong("ds_conv2d", "several-filters-a-channel")
class FirstWidens(Pair):
    def one(self, i, o, k, p, s, b):
        return nn.Conv2d(i, o, k, s, p, groups=i, bias=b)

    def two(self, i, o, k, p, s, b):
        return nn.Conv2d(o, o, 1, bias=b)


@wrong("ds_conv2d", "one-dense-convolution")
class OneDense(Pair):
    def one(self, i, o, k, p, s, b):
        return nn.Conv2d(i, o, k, s, p, bias=b)

    def two(self, i, o, k, p, s, b):
        return nn.Identity()


@wrong("ds_conv2d", "one-dense-convolution")
class DenseWidens(Pair):
    def one(self, i, o, k, p, s, b):
        return nn.Conv2d(i, o, k, s, p, bias=b)

    def two(self, i, o, k, p, s, b):
        return nn.Conv2d(o, o, 1, bias=b)


@wrong("ds_conv2d", "pointwise-first")
class Reversed(Pair):
    def one(self, i, o, k, p, s, b):
        return nn.Conv2d(i, o, 1, bias=b)

    def two(self, i, o, k, p, s, b):
        return nn.Conv2d(o, o, k, s, p, groups=o, bias=b)


@wrong("ds_conv2d", "channels-do-not-mix")
class GroupsOnBoth(Pair):
    def two(self, i, o, k, p, s, b):
        return nn.Conv2d(i, o, 1, groups=i, bias=b)


@wrong("ds_conv2d", "channels-do-not-mix")
class SomeGroupsOnBoth(Pair):
    def two(self, i, o, k, p, s, b):
        return nn.Conv2d(i, o, 1, bias=b)

    def forward(self, x):
        mask = torch.zeros_like(self.second.weight)
        for index in range(len(mask)):
            mask[index, index % mask.shape[1]] = 1
        return F.conv2d(self.first(x), self.second.weight * mask, self.second.bias)


@wrong("ds_conv2d", "mixed-before-too")
class MixedTwice(Pair):
    def one(self, i, o, k, p, s, b):
        return nn.Sequential(nn.Conv2d(i, i, 1, bias=b), super().one(i, o, k, p, s, b))


@wrong("ds_conv2d", "mixed-before-too")
class InvertedBottleneck(Pair):
    def one(self, i, o, k, p, s, b):
        return nn.Sequential(nn.Conv2d(i, 4 * i, 1, bias=b), super().one(4 * i, o, k, p, s, b))

    def two(self, i, o, k, p, s, b):
        return super().two(4 * i, o, k, p, s, b)


@wrong("ds_conv2d", "weights-all-equal")
class AllOnes(Pair):
    def one(self, i, o, k, p, s, b):
        conv = super().one(i, o, k, p, s, b)
        nn.init.ones_(conv.weight)
        return conv


@wrong("ds_conv2d", "factor-inside")
class Halved(Pair):
    def forward(self, x):
        return super().forward(x) / 2


@wrong("ds_conv2d", "keeps-state")
class Remembers(Pair):
    def forward(self, x):
        if "result" not in vars(self):
            self.result = super().forward(x)
        return self.result


@wrong("ds_conv2d", "stride-one-axis")
class StepsDown(Pair):
    def one(self, i, o, k, p, s, b):
        return nn.Conv2d(i, i, k, (s, 1), p, groups=i, bias=b)


@wrong("ds_conv2d", "pointwise-missing")
class OnlyDepthwise(Pair):
    def two(self, i, o, k, p, s, b):
        return nn.Identity()


@wrong("ds_conv2d", "filter-shared")
class Shared(Pair):
    def one(self, i, o, k, p, s, b):
        return nn.Conv2d(1, 1, k, s, p, bias=b)

    def forward(self, x):
        return self.second(torch.cat([self.first(c) for c in x.split(1, 1)], 1))


@wrong("ds_conv2d", "rows-and-columns")
class RowsAndColumns(Pair):
    def one(self, i, o, k, p, s, b):
        return nn.Sequential(
            nn.Conv2d(i, i, (k, 1), (s, 1), (p, 0), groups=i, bias=False),
            nn.Conv2d(i, i, (1, k), (1, s), (0, p), groups=i, bias=b),
        )


@wrong("ds_conv2d", "window-too-large")
class LooksTwice(Pair):
    def two(self, i, o, k, p, s, b):
        return nn.Conv2d(i, o, k, padding=p, bias=b)


@wrong("ds_conv2d", "window-too-large")
class LooksFurther(Pair):
    def two(self, i, o, k, p, s, b):
        return nn.Conv2d(i, o, 3, padding=1, bias=b)


@wrong("ds_conv2d", "window-too-large")
class Dilated(Pair):
    def one(self, i, o, k, p, s, b):
        return nn.Conv2d(i, i, k, s, p + k // 2, dilation=2, groups=i, bias=b)


@wrong("ds_conv2d", "window-too-small")
class SeesNothing(Pair):
    def one(self, i, o, k, p, s, b):
        return nn.Conv2d(i, i, 1, s, p, groups=i, bias=b)


@wrong("ds_conv2d", "window-too-small")
class SeesNothingRightSize(Pair):
    def one(self, i, o, k, p, s, b):
        self.k, self.p, self.s = k, p, s
        return nn.Conv2d(i, i, 1, groups=i, bias=b)

    def forward(self, x):
        height, width = ((n + 2 * self.p - self.k) // self.s + 1 for n in x.shape[2:])
        start = self.k // 2
        x = F.pad(x, [self.p] * 4)[:, :, start :: self.s, start :: self.s][:, :, :height, :width]
        return self.second(self.first(x))


@wrong("ds_conv2d", "not-linear")
class MobileNets(Pair):
    def forward(self, x):
        return self.second(F.relu6(self.first(x)))


@wrong("ds_conv2d", "not-linear")
class GeluAfter(Pair):
    def forward(self, x):
        return F.gelu(self.second(self.first(x)))


@wrong("ds_conv2d", "not-linear")
class InstanceNorm(Pair):
    def forward(self, x):
        return self.second(F.layer_norm(self.first(x), self.first(x).shape[1:]))


@wrong("ds_conv2d", "norm-inside")
class WithBatchNorm(Pair):
    def one(self, i, o, k, p, s, b):
        return nn.Sequential(nn.Conv2d(i, i, k, s, p, groups=i, bias=b), nn.BatchNorm2d(i))


@wrong("ds_conv2d", "residual-inside")
class Residual(Pair):
    def forward(self, x):
        y = self.second(self.first(x))
        return y + x if x.shape == y.shape else y


@wrong("ds_conv2d", "padding-on-both")
class PaddingOnBoth(Pair):
    def two(self, i, o, k, p, s, b):
        return nn.Conv2d(i, o, 1, padding=p, bias=b)


@wrong("ds_conv2d", "padding-on-both")
class PaddedTwiceFirst(Pair):
    def forward(self, x):
        return self.second(self.first(F.pad(x, [self.first.padding[0]] * 4)))


@wrong("ds_conv2d", "padding-on-the-wrong-part")
class PaddingOnSecond(Pair):
    def one(self, i, o, k, p, s, b):
        self.p = p
        return nn.Conv2d(i, i, k, groups=i, bias=b)

    def two(self, i, o, k, p, s, b):
        self.s = s
        return nn.Conv2d(i, o, 1, bias=b)

    def forward(self, x):
        return self.second(F.pad(self.first(x), [self.p] * 4))[:, :, :: self.s, :: self.s]


@wrong("ds_conv2d", "padding-not-zeros")
class Reflected(Pair):
    def one(self, i, o, k, p, s, b):
        return nn.Conv2d(i, i, k, s, p, groups=i, bias=b, padding_mode="replicate")


@wrong("ds_conv2d", "padding-not-zeros")
class Circular(Pair):
    def one(self, i, o, k, p, s, b):
        return nn.Conv2d(i, i, k, s, p, groups=i, bias=b, padding_mode="circular")


@wrong("ds_conv2d", "padding-ignored")
class NoPadding(Pair):
    def one(self, i, o, k, p, s, b):
        return nn.Conv2d(i, i, k, s, groups=i, bias=b)


@wrong("ds_conv2d", "padding-fixed")
class PaddingOfTheWindow(Pair):
    def one(self, i, o, k, p, s, b):
        return nn.Conv2d(i, i, k, s, k // 2, groups=i, bias=b)


@wrong("ds_conv2d", "padding-fixed")
class PaddingOne(Pair):
    def one(self, i, o, k, p, s, b):
        return nn.Conv2d(i, i, k, s, 1, groups=i, bias=b)


@wrong("ds_conv2d", "kernel-fixed")
class KernelThree(Pair):
    def one(self, i, o, k, p, s, b):
        return nn.Conv2d(i, i, 3, s, p, groups=i, bias=b)


@wrong("ds_conv2d", "stride-ignored")
class NoStride(Pair):
    def one(self, i, o, k, p, s, b):
        return nn.Conv2d(i, i, k, padding=p, groups=i, bias=b)


@wrong("ds_conv2d", "stride-on-both")
class StrideTwice(Pair):
    def two(self, i, o, k, p, s, b):
        return nn.Conv2d(i, o, 1, s, bias=b)


@wrong("ds_conv2d", "stride-by-pooling")
class Pooled(Pair):
    def one(self, i, o, k, p, s, b):
        self.s = s
        return nn.Conv2d(i, i, k, 1, p, groups=i, bias=b)

    def forward(self, x):
        return F.avg_pool2d(self.second(self.first(x)), self.s, ceil_mode=True)


@wrong("ds_conv2d", "bias-ignored")
class AlwaysBias(Pair):
    def two(self, i, o, k, p, s, b):
        return nn.Conv2d(i, o, 1)


@wrong("ds_conv2d", "bias-ignored")
class FirstAlwaysBias(Pair):
    def one(self, i, o, k, p, s, b):
        return nn.Conv2d(i, i, k, s, p, groups=i)


@wrong("ds_conv2d", "bias-missing")
class FirstWithoutBias(Pair):
    def one(self, i, o, k, p, s, b):
        return nn.Conv2d(i, i, k, s, p, groups=i, bias=False)


@wrong("ds_conv2d", "bias-missing")
class SecondWithoutBias(Pair):
    def two(self, i, o, k, p, s, b):
        return nn.Conv2d(i, o, 1, bias=False)


@wrong("ds_conv2d", "bias-missing")
class NeverBias(Pair):
    def __init__(self, dim_in, dim_out, kernel_size, padding, stride=1, bias=True):
        super().__init__(dim_in, dim_out, kernel_size, padding, stride, False)


@wrong("ds_conv2d", "bias-not-uniform")
class BiasBeforePadding(Pair):
    def one(self, i, o, k, p, s, b):
        self.before = nn.Parameter(torch.ones(i, 1, 1)) if b else 0
        return nn.Conv2d(i, i, k, s, p, groups=i, bias=False)

    def forward(self, x):
        return self.second(self.first(x + self.before))


@wrong("ds_conv2d", "parameters")
class Unused(Pair):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x):
        return super().forward(x) * self.scale


@wrong("ds_conv2d", "wrong-dtype")
class ToFloat(Pair):
    def forward(self, x):
        return super().forward(x).float()


@wrong("ds_conv2d", "wrong-type")
class TwoResults(Pair):
    def forward(self, x):
        y = self.first(x)
        return y, self.second(y)


@wrong("ds_conv2d", "no-return")
class NoReturn(Pair):
    def forward(self, x):
        self.result = self.second(self.first(x))


@wrong("ds_conv2d", "not-deterministic")
class WithDropout(Pair):
    def forward(self, x):
        return F.dropout(super().forward(x), 0.1, self.training)


@wrong("ds_conv2d", "weights-in-forward", "not yet right")
class MadeInForward(nn.Module):
    def __init__(self, dim_in, dim_out, kernel_size, padding, stride=1, bias=True):
        super().__init__()
        self.args = dim_in, dim_out, kernel_size, padding, stride, bias

    def forward(self, x):
        return Pair(*self.args)(x)


@wrong("ds_conv2d", "layers-in-a-list")
class InAList(nn.Module):
    def __init__(self, dim_in, dim_out, kernel_size, padding, stride=1, bias=True):
        super().__init__()
        pair = Pair(dim_in, dim_out, kernel_size, padding, stride, bias)
        self.layers = [pair.first, pair.second]

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


@wrong("ds_conv2d", "plain-tensor")
class PlainTensor(Pair):
    def two(self, i, o, k, p, s, b):
        self.weight = torch.randn(o, i, 1, 1)
        self.bias = torch.randn(o) if b else None

    def forward(self, x):
        return F.conv2d(self.first(x), self.weight, self.bias)


@wrong("ds_conv2d", "no-gradient")
class Detached(Pair):
    def forward(self, x):
        return self.second(self.first(x).detach())


@wrong("ds_conv2d", "frozen")
class Frozen(Pair):
    def one(self, i, o, k, p, s, b):
        return super().one(i, o, k, p, s, b).requires_grad_(False)


@wrong("ds_conv2d", "changes-input")
class WritesIntoItsInput(Pair):
    def forward(self, x):
        x.mul_(2)
        return self.second(self.first(x))


@wrong("ds_conv2d", "super-init-missing", "could not run")
class NoSuper(nn.Module):
    def __init__(self, dim_in, dim_out, kernel_size, padding, stride=1, bias=True):
        self.a = nn.Conv2d(dim_in, dim_in, kernel_size)


@wrong("ds_conv2d", "forward-missing")
class Misspelt(nn.Module):
    def __init__(self, dim_in, dim_out, kernel_size, padding, stride=1, bias=True):
        super().__init__()
        self.a = nn.Conv2d(dim_in, dim_in, kernel_size)

    def foward(self, x):
        return self.a(x)


@wrong("ds_conv2d", "signature", "could not run")
class OtherNames(nn.Module):
    def __init__(self, in_channels, out_channels, kernel_size, padding, stride=1, bias=True):
        super().__init__()
        self.a = Pair(in_channels, out_channels, kernel_size, padding, stride, bias)

    def forward(self, x):
        return self.a(x)


@wrong("ds_conv2d", "signature", "could not run")
class NoDefaults(Pair):
    def __init__(self, dim_in, dim_out, kernel_size, padding, stride, bias):
        super().__init__(dim_in, dim_out, kernel_size, padding, stride, bias)


@wrong("ds_conv2d", "not-a-module")
class Plain:
    def __init__(self, dim_in, dim_out, kernel_size, padding, stride=1, bias=True):
        self.pair = Pair(dim_in, dim_out, kernel_size, padding, stride, bias)

    def __call__(self, x):
        return self.pair(x)


@wrong("ds_conv2d", "name-missing", "could not run")
class Typo(Pair):
    def forward(self, x):
        return self.secnod(self.first(x))


wrong_value("ds_conv2d", "instance-given", se.DsConv2d(6, 11, 3, 1))
wrong_value("ds_conv2d", "not-callable", 3)


@wrong("ds_conv2d", "axes-exchanged")
class Sideways(Pair):
    def forward(self, x):
        y = self.second(self.first(x))
        return y.transpose(2, 3)


@wrong("ds_conv2d", "wrong-rank")
class Flat(Pair):
    def forward(self, x):
        return self.second(self.first(x)).flatten(2)


# 1.2 ------------------------------------------------------------------------------------------------------------------

DENSE, SEPARABLE = 9 * 64 * 128, 9 * 64 + 64 * 128
COSTS = {
    "dense weights": DENSE,
    "separable weights": SEPARABLE,
    "dense MACs": DENSE * 56 * 56,
    "separable MACs": SEPARABLE * 56 * 56,
    "separable MACs, stride 2": SEPARABLE * 28 * 28,
}
right_value("costs", "int", COSTS)
right_value("costs", "float", {name: float(value) for name, value in COSTS.items()})
right_value("costs", "NumPy and tensors", {
    "dense weights": np.int64(DENSE),
    "separable weights": torch.tensor(SEPARABLE),
    "dense MACs": np.array([DENSE * 56 * 56]),
    "separable MACs": Fraction(SEPARABLE * 56 * 56),
    "separable MACs, stride 2": torch.tensor([SEPARABLE * 28.0**2]),
})  # fmt: skip
for kind, entry, value in [
    ("bias-counted", "dense weights", DENSE + 128),
    ("window-side-once", "dense weights", 3 * 64 * 128),
    ("window-forgotten", "dense weights", 64 * 128),
    ("swapped", "dense weights", SEPARABLE),
    ("too-large", "dense weights", 10 * DENSE),
    ("too-small", "dense weights", DENSE // 9 // 2),
    ("not-a-number-yet", "dense weights", "many"),
    ("not-whole", "dense weights", DENSE + 0.5),
    ("bias-counted", "separable weights", SEPARABLE + 64 + 128),
    ("depthwise-times-output", "separable weights", 9 * 64 * 128 + 64 * 128),
    ("depthwise-dense", "separable weights", 9 * 64 * 64 + 64 * 128),
    ("one-part-only", "separable weights", 9 * 64),
    ("parts-multiplied", "separable weights", 9 * 64 * 64 * 128),
    ("macs-doubled", "dense MACs", 2 * DENSE * 56 * 56),
    ("places-forgotten", "dense MACs", DENSE * 56),
    ("border-lost", "dense MACs", DENSE * 54 * 54),
    ("factor-of-thousand", "dense MACs", DENSE * 56 * 56 / 1e6),
    ("macs-doubled", "separable MACs", 2 * SEPARABLE * 56 * 56),
    ("depthwise-times-output", "separable MACs", (9 * 64 * 128 + 64 * 128) * 56 * 56),
    ("one-part-only", "separable MACs", 64 * 128 * 56 * 56),
    ("stride-one-axis", "separable MACs, stride 2", SEPARABLE * 56 * 28),
    ("stride-on-one-part", "separable MACs, stride 2", 9 * 64 * 56 * 56 + 64 * 128 * 28 * 28),
    ("stride-on-both", "separable MACs, stride 2", SEPARABLE * 14 * 14),
    ("swapped", "separable MACs, stride 2", SEPARABLE * 56 * 56),
    ("not-a-number", "separable MACs, stride 2", float("inf")),
]:
    wrong_value("costs", kind, COSTS | {entry: value}, f"{entry} {value}")
wrong_value("costs", "entries-missing", {"dense weights": DENSE})
wrong_value("costs", "wrong-type", DENSE)

# 1.3 ------------------------------------------------------------------------------------------------------------------

BUGS = {"A": "activation", "B": "groups", "C": "none", "D": "padding", "E": "order"}
right_value("bugs", "words", BUGS)
right_value("bugs", "capitals", {letter: bug.upper() for letter, bug in BUGS.items()})
right_value("bugs", "another order", dict(reversed(BUGS.items())))
for kind, letter, word in [
    ("not-the-activation", "A", "none"),
    ("not-the-activation", "A", "padding"),
    ("not-the-groups", "B", "shared filter"),
    ("nothing-wrong", "C", "shared filter"),
    ("not-the-padding", "D", "none"),
    ("not-the-order", "E", "groups"),
    ("no-such-word", "E", "everything"),
]:
    wrong_value("bugs", kind, BUGS | {letter: word}, f"{letter} {word}")

# 1.4 ------------------------------------------------------------------------------------------------------------------


def merged(depthwise, pointwise, weight=None, bias=..., **changed):
    """The right answer, with what is changed in it."""
    filters, mix = depthwise.weight.detach()[:, 0], pointwise.weight.detach()[:, :, 0, 0]
    has_bias = depthwise.bias is not None or pointwise.bias is not None
    settings = dict(stride=depthwise.stride, padding=depthwise.padding, bias=has_bias, dtype=filters.dtype) | changed
    layer = nn.Conv2d(depthwise.in_channels, pointwise.out_channels, depthwise.kernel_size, **settings)
    layer.weight.data = mix[:, :, None, None] * filters if weight is None else weight(filters, mix)
    if layer.bias is not None and has_bias:
        first, second = (
            torch.zeros(part.out_channels, dtype=mix.dtype) if part.bias is None else part.bias.detach()
            for part in (depthwise, pointwise)
        )
        layer.bias.data = mix @ first + second if bias is ... else bias(mix, first, second)
    return layer


right("merge", "broadcasting")(merged)


@right("merge", "impulses")
@torch.no_grad()
def by_impulses(depthwise, pointwise):
    """Asks the two parts what they do to an impulse, and reads the layer off the answers."""
    layer = merged(depthwise, pointwise)
    channels, (height, width) = depthwise.in_channels, depthwise.kernel_size
    x = torch.zeros(channels, channels, height, width, dtype=layer.weight.dtype)
    responses = []
    for place in range(height * width):
        x.zero_()
        x[range(channels), range(channels), place // width, place % width] = 1
        zero = pointwise(F.conv2d(0 * x, depthwise.weight, depthwise.bias, groups=channels))
        responses.append(pointwise(F.conv2d(x, depthwise.weight, depthwise.bias, groups=channels)) - zero)
    layer.weight.copy_(torch.stack(responses, -1)[:, :, 0, 0].transpose(0, 1).reshape(layer.weight.shape))
    if layer.bias is not None:
        layer.bias.copy_(zero[0, :, 0, 0])
    return layer


@right("merge", "one matrix product a channel")
def by_loop(depthwise, pointwise):
    layer = merged(depthwise, pointwise)
    for o in range(pointwise.out_channels):
        for i in range(depthwise.in_channels):
            layer.weight.data[o, i] = pointwise.weight.data[o, i, 0, 0] * depthwise.weight.data[i, 0]
    return layer


@right("merge", "always a bias, of zeros")
def with_a_bias_of_zeros(depthwise, pointwise):
    layer = merged(depthwise, pointwise)
    if layer.bias is None:
        layer.bias = nn.Parameter(torch.zeros(pointwise.out_channels, dtype=layer.weight.dtype))
    return layer


@wrong("merge", "not-a-convolution")
def still_two(depthwise, pointwise):
    return nn.Sequential(depthwise, pointwise)


@wrong("merge", "no-return")
def forgot(depthwise, pointwise):
    merged(depthwise, pointwise)


@wrong("merge", "still-grouped")
def grouped(depthwise, pointwise):
    return nn.Conv2d(depthwise.in_channels, depthwise.in_channels, 3, groups=depthwise.in_channels).double()


@wrong("merge", "matrices-in-wrong-order")
def wrong_order(depthwise, pointwise):
    return merged(depthwise, pointwise, weight=lambda D, P: (P.T @ D.flatten(1)).reshape(P.shape[1], P.shape[0], 3, 3))


@wrong("merge", "not-summed")
def only_filters(depthwise, pointwise):
    return merged(depthwise, pointwise, weight=lambda D, P: D.expand(P.shape[0], *D.shape).clone())


@wrong("merge", "not-summed")
def added(depthwise, pointwise):
    return merged(depthwise, pointwise, weight=lambda D, P: D + P[:, :, None, None])


@wrong("merge", "filters-flipped")
def flipped(depthwise, pointwise):
    return merged(depthwise, pointwise, weight=lambda D, P: (P[:, :, None, None] * D).flip(2, 3))


@wrong("merge", "bias-added")
def sum_of_biases(depthwise, pointwise):
    return merged(depthwise, pointwise, bias=lambda P, first, second: first + second)


@wrong("merge", "first-bias-forgotten")
def no_first_bias(depthwise, pointwise):
    return merged(depthwise, pointwise, bias=lambda P, first, second: second.clone())


@wrong("merge", "second-bias-forgotten")
def no_second_bias(depthwise, pointwise):
    return merged(depthwise, pointwise, bias=lambda P, first, second: P @ first)


@wrong("merge", "bias-of-the-first-summed")
def unweighted(depthwise, pointwise):
    return merged(depthwise, pointwise, bias=lambda P, first, second: second + first.sum())


@wrong("merge", "bias-forgotten")
def no_bias(depthwise, pointwise):
    layer = merged(depthwise, pointwise)
    layer.bias = None
    return layer


@wrong("merge", "bias-of-random-numbers")
def random_bias(depthwise, pointwise):
    fresh = nn.Conv2d(depthwise.in_channels, pointwise.out_channels, depthwise.kernel_size).double()
    return merged(depthwise, pointwise, bias=lambda P, first, second: fresh.bias.detach())


@wrong("merge", "weights-of-random-numbers")
def random_weights(depthwise, pointwise):
    fresh = nn.Conv2d(depthwise.in_channels, pointwise.out_channels, depthwise.kernel_size).double()
    return merged(depthwise, pointwise, weight=lambda D, P: fresh.weight.detach())


@wrong("merge", "fails-without-bias")
def needs_bias(depthwise, pointwise):
    layer = merged(depthwise, pointwise)
    layer.bias = nn.Parameter(pointwise.weight[:, :, 0, 0] @ depthwise.bias + pointwise.bias)
    return layer


@wrong("merge", "bias-invented")
def invents_bias(depthwise, pointwise):
    layer = merged(depthwise, pointwise)
    if layer.bias is None:
        layer.bias = nn.Parameter(torch.ones(pointwise.out_channels, dtype=torch.float64))
    return layer


@wrong("merge", "stride-lost")
def no_stride(depthwise, pointwise):
    return merged(depthwise, pointwise, stride=1)


@wrong("merge", "padding-lost")
def no_padding(depthwise, pointwise):
    return merged(depthwise, pointwise, padding=0)


@wrong("merge", "argument-fixed")
def fixed_padding(depthwise, pointwise):
    return merged(depthwise, pointwise, padding=1)


@wrong("merge", "changes-the-parts")
def in_place(depthwise, pointwise):
    depthwise.weight.data.mul_(2)
    return merged(depthwise, pointwise)


@wrong("merge", "wrong-dtype")
def float32(depthwise, pointwise):
    return merged(depthwise, pointwise).float()


@wrong("merge", "raises", "could not run")
def divides(depthwise, pointwise):
    return 1 / 0


# Warm-ups -------------------------------------------------------------------------------------------------------------

impulse = torch.zeros(1, 4, 3, 3)
impulse[0, 2, 1, 1] = 1
filters = torch.arange(36.0).reshape(4, 1, 3, 3)
answer = F.conv2d(impulse, filters, padding=1, groups=4)
right_value("impulse", "tensor", answer)
right_value("impulse", "list", answer.tolist())
right_value("impulse", "array", answer.numpy())
wrong_value("impulse", "window-not-turned", answer.flip(2, 3))
wrong_value("impulse", "padding-ignored", F.conv2d(impulse, filters, groups=4))
wrong_value("impulse", "groups-forgotten", F.conv2d(impulse, filters.repeat(1, 4, 1, 1), padding=1))
wrong_value("impulse", "too-few-groups", F.conv2d(impulse, filters.repeat(1, 2, 1, 1), padding=1, groups=2))
wrong_value("impulse", "all-zero", 0 * answer)
wrong_value("impulse", "wrong-rank", answer[0])

picture, mix = torch.arange(12.0).reshape(3, 2, 2), torch.tensor([[1.0, 0, -1], [1, 1, 1]])
right_value("mix", "einsum", torch.einsum("oi,ihw->ohw", mix, picture))
right_value("mix", "matrix product", (mix @ picture.flatten(1)).view(2, 2, 2))
right_value("mix", "double", torch.tensordot(mix.double(), picture.double(), 1))
wrong_value("mix", "pixels-summed", (mix @ picture.flatten(1)).sum(1))
wrong_value("mix", "not-summed", mix[:, :, None, None] * picture)
wrong_value("mix", "channels-last", torch.einsum("oi,ihw->hwo", mix, picture))
wrong_value("mix", "height-and-width", torch.einsum("oi,ihw->owh", mix, picture))
wrong_value("mix", "scaled-by-constant", 2 * torch.einsum("oi,ihw->ohw", mix, picture))
wrong_value("mix", "pixels-shuffled", (mix @ picture.reshape(4, 3).T).reshape(2, 2, 2))

# A second round -------------------------------------------------------------------------------------------------------


@wrong("merge", "no-return")
@torch.no_grad()
def forgot_under_no_grad(depthwise, pointwise):
    made = nn.Conv2d(depthwise.in_channels, pointwise.out_channels, depthwise.kernel_size)
    made.weight.copy_(pointwise.weight * depthwise.weight[:, 0])


@wrong("merge", "bias-through-the-window")
def through_the_window(depthwise, pointwise):
    window = depthwise.weight.detach().sum((1, 2, 3))
    return merged(depthwise, pointwise, bias=lambda mix, first, second: mix @ (window * first) + second)


@wrong("merge", "not-summed")
def first_filter_for_all(depthwise, pointwise):
    return merged(depthwise, pointwise, weight=lambda filters, mix: mix[:, :, None, None] * filters[0])


@right("ds_conv2d", "unfold, then two sums")
class UnfoldedTwoSums(nn.Module):
    def __init__(self, dim_in, dim_out, kernel_size, padding, stride=1, bias=True):
        super().__init__()
        self.window = {"kernel_size": kernel_size, "padding": padding, "stride": stride}
        self.depthwise = nn.Parameter(torch.randn(dim_in, 1, kernel_size, kernel_size))
        self.pointwise = nn.Parameter(torch.randn(dim_out, dim_in, 1, 1))
        self.first = nn.Parameter(torch.randn(dim_in)) if bias else None
        self.second = nn.Parameter(torch.randn(dim_out)) if bias else None

    def forward(self, x):
        height = (x.shape[2] + 2 * self.window["padding"] - self.window["kernel_size"]) // self.window["stride"] + 1
        patches = F.unfold(x, **self.window).unflatten(1, (x.shape[1], -1))
        filtered = torch.einsum("bckn,ck->bcn", patches, self.depthwise.flatten(1))
        filtered = filtered if self.first is None else filtered + self.first[:, None]
        mixed = torch.einsum("bcn,oc->bon", filtered, self.pointwise.flatten(1))
        mixed = mixed if self.second is None else mixed + self.second[:, None]
        return mixed.unflatten(2, (height, -1))


separable, places = 9 * 64 + 64 * 128, 56 * 56
for entry, kind, value in (
    ("separable weights", "parts-multiplied", 9 * 64 * 64 * 128),
    ("separable MACs, stride 2", "stride-one-axis", separable * places // 2),
    ("separable MACs, stride 2", "border-lost", separable * 27 * 27),
    ("dense MACs", "border-lost", 9 * 64 * 128 * 54 * 54),
):
    costs = {"dense weights": 9 * 64 * 128, "separable weights": separable, "dense MACs": 9 * 64 * 128 * places}
    costs |= {"separable MACs": separable * places, "separable MACs, stride 2": separable * places // 4, entry: value}
    wrong_value("costs", kind, costs)


# What a reader tried --------------------------------------------------------------------------------------------------


@wrong("ds_conv2d", "stride-and-padding-exchanged")
class InAnotherOrder(Pair):
    def one(self, i, o, k, p, s, b):
        return nn.Conv2d(i, i, k, p, s, groups=i, bias=b)


@wrong("merge", "one-bias-lost")
def only_if_the_first_has_one(depthwise, pointwise):
    return merged(depthwise, pointwise, bias=... if depthwise.bias is not None else lambda P, first, second: 0 * second)


@wrong("merge", "one-bias-lost")
def only_if_both_have_one(depthwise, pointwise):
    layer = merged(depthwise, pointwise)
    if depthwise.bias is None or pointwise.bias is None:
        layer.bias = None
    return layer


@wrong("merge", "fails-without-bias")
def fails_if_the_second_has_none(depthwise, pointwise):
    layer = merged(depthwise, pointwise)
    if depthwise.bias is not None:
        layer.bias.data = pointwise.weight[:, :, 0, 0].data @ depthwise.bias.data + pointwise.bias.detach()
    return layer


@wrong("merge", "height-and-width")
def width_before_height(depthwise, pointwise):
    return merged(depthwise, pointwise, weight=lambda D, P: torch.einsum("oi,ihw->oiwh", P, D))


@wrong("merge", "bias-not-mixed")
def each_by_itself(depthwise, pointwise):
    return merged(depthwise, pointwise, bias=lambda P, first, second: P.sum(1) * first + second)


wrong_value("bugs", "no-such-word", BUGS | {"B": "ReLU"}, "a word that is not in the list")


@wrong("merge", "matrices-in-wrong-order")
def turned_for_the_bias(depthwise, pointwise):
    return merged(depthwise, pointwise, bias=lambda P, first, second: P.T @ first + second)


# What an adversary tried ----------------------------------------------------------------------------------------------


class WithoutSteps(Pair):
    def __init__(self, dim_in, dim_out, kernel_size, padding, stride=1, bias=True):
        super().__init__(dim_in, dim_out, kernel_size, padding, 1, bias)
        self.s = stride


@wrong("ds_conv2d", "stride-on-the-wrong-part")
class StepsAtTheEnd(WithoutSteps):
    def forward(self, x):
        return super().forward(x)[:, :, :: self.s, :: self.s]


@wrong("ds_conv2d", "stride-on-the-wrong-part")
class StepsBetween(WithoutSteps):
    def forward(self, x):
        return self.second(self.first(x)[:, :, :: self.s, :: self.s])


@wrong("ds_conv2d", "padding-on-one-side")
class RightAndBottom(Pair):
    def one(self, i, o, k, p, s, b):
        return nn.Sequential(nn.ZeroPad2d((0, 2 * p, 0, 2 * p)), nn.Conv2d(i, i, k, s, groups=i, bias=b))


@wrong("ds_conv2d", "padding-on-one-side")
class LeftAndRight(Pair):
    def one(self, i, o, k, p, s, b):
        return nn.Sequential(nn.ZeroPad2d((p, p, 2 * p, 0)), nn.Conv2d(i, i, k, s, groups=i, bias=b))


class MixedByLinear(Pair):
    def two(self, i, o, k, p, s, b):
        return nn.Linear(i, o, bias=b)


@wrong("ds_conv2d", "axes-reshaped")
class ReshapedTwice(MixedByLinear):
    def forward(self, x):
        b, c, h, w = (y := self.first(x)).shape
        return self.second(y.reshape(b, h, w, c)).reshape(b, -1, h, w)


@wrong("ds_conv2d", "axes-reshaped")
class ReshapedBack(MixedByLinear):
    def forward(self, x):
        b, _, h, w = (y := self.first(x)).shape
        return self.second(y.permute(0, 2, 3, 1)).reshape(b, -1, h, w)


@wrong("ds_conv2d", "axes-reshaped")
class ReshapedThere(MixedByLinear):
    def forward(self, x):
        b, c, h, w = (y := self.first(x)).shape
        return self.second(y.reshape(b, h, w, c)).permute(0, 3, 1, 2)


@wrong("ds_conv2d", "groups-written-down")
class SixGroups(Pair):
    def one(self, i, o, k, p, s, b):
        return nn.Conv2d(i, i, k, s, p, groups=6 if i > 1 else 1, bias=b)


@wrong("ds_conv2d", "too-few-groups")
class HalfOfAnyNumber(Pair):
    def one(self, i, o, k, p, s, b):
        return nn.Conv2d(i, i, k, s, p, groups=max(1, i // 2), bias=b)


for entry in COSTS:
    wrong_value(
        "costs", "rounded", COSTS | {entry: round(COSTS[entry], 2 - len(str(COSTS[entry])))}, f"rounded {entry}"
    )
wrong_value("costs", "rounded", COSTS | {"dense MACs": 231200000}, "four digits")


@right("merge", "always a new bias")
def new_bias(depthwise, pointwise):
    layer = merged(depthwise, pointwise, bias=lambda P, first, second: torch.zeros_like(second))
    layer.bias = nn.Parameter(torch.zeros(pointwise.out_channels, dtype=layer.weight.dtype))
    with torch.no_grad():
        for term in (pointwise.weight.flatten(1), depthwise.bias), (None, pointwise.bias):
            if term[1] is not None:
                layer.bias += term[1] if term[0] is None else term[0] @ term[1]
    return layer


@wrong("merge", "one-side-for-both")
def first_stride(depthwise, pointwise):
    return merged(depthwise, pointwise, stride=depthwise.stride[0])


@wrong("merge", "one-side-for-both")
def first_padding(depthwise, pointwise):
    return merged(depthwise, pointwise, padding=depthwise.padding[0])


@wrong("merge", "one-side-for-both")
def second_padding(depthwise, pointwise):
    return merged(depthwise, pointwise, padding=depthwise.padding[1])


@wrong("merge", "one-side-for-both")
@torch.no_grad()
def first_side(depthwise, pointwise):
    layer = merged(depthwise, pointwise)
    square = nn.Conv2d(depthwise.in_channels, pointwise.out_channels, depthwise.kernel_size[0]).to(layer.weight)
    square.weight.copy_(layer.weight)
    layer.weight = square.weight
    return layer


@wrong("merge", "one-side-for-both")
def a_square_weight(depthwise, pointwise):
    side = depthwise.kernel_size[0]
    square = len(set(depthwise.kernel_size)) == 1
    return merged(
        depthwise,
        pointwise,
        weight=None if square else lambda D, P: (P[:, :, None, None] * D)[..., :1].repeat(1, 1, 1, side),
    )


@wrong("merge", "changes-the-parts")
def no_more_trained(depthwise, pointwise):
    depthwise.requires_grad_(False)
    return merged(depthwise, pointwise.requires_grad_(False))


@wrong("merge", "changes-the-parts")
def no_more_grouped(depthwise, pointwise):
    layer = merged(depthwise, pointwise)
    depthwise.groups = 1
    return layer


@wrong("merge", "shares-memory")
def the_same_parameter(depthwise, pointwise):
    layer = merged(depthwise, pointwise)
    if depthwise.bias is None and pointwise.bias is not None:
        layer.bias = pointwise.bias
    return layer


@wrong("merge", "shares-memory")
def the_same_numbers(depthwise, pointwise):
    layer = merged(depthwise, pointwise)
    if depthwise.bias is None and pointwise.bias is not None:
        layer.bias.data = pointwise.bias.data
    return layer


@wrong("merge", "bias-of-random-numbers")
def not_set_to_zero(depthwise, pointwise):
    fresh = nn.Conv2d(depthwise.in_channels, pointwise.out_channels, depthwise.kernel_size).double()
    return merged(depthwise, pointwise, bias=lambda P, first, second: fresh.bias.detach() + P @ first + second)


@wrong("merge", "bias-of-random-numbers")
def bias_left_as_it_was(depthwise, pointwise):
    layer = merged(depthwise, pointwise)
    if layer.bias is None:
        layer.bias = nn.Conv2d(depthwise.in_channels, pointwise.out_channels, 1).double().bias
    return layer


@wrong("merge", "padding-not-zeros")
def around_the_map(depthwise, pointwise):
    return merged(depthwise, pointwise, padding_mode="circular")


for style, made in {
    "weights summed": lambda P, first, second: P.sum(1) * first.mean() + second,
    "both summed": lambda P, first, second: P.sum(1) * first.sum() + second,
    "the mean": lambda P, first, second: first.mean() + second,
}.items():
    wrong_value("merge", "bias-averaged", lambda d, p, made=made: merged(d, p, bias=made), style)


@wrong("merge", "bias-not-mixed")
def first_channel_alone(depthwise, pointwise):
    return merged(depthwise, pointwise, bias=lambda P, first, second: P[:, 0] * first[0] + second)


@wrong("merge", "axes-reshaped")
def product_reshaped(depthwise, pointwise):
    return merged(
        depthwise,
        pointwise,
        weight=lambda D, P: torch.einsum("oi,ihw->iohw", P, D).reshape(*P.shape, *D.shape[1:]),
    )


@wrong("merge", "axes-reshaped")
def matrix_reshaped(depthwise, pointwise):
    return merged(depthwise, pointwise, weight=lambda D, P: P.T.reshape(P.shape)[:, :, None, None] * D)


@wrong("merge", "still-grouped")
def cannot_be_grouped(depthwise, pointwise):
    return merged(depthwise, pointwise, groups=depthwise.in_channels)


by_hand = torch.zeros(1, 4, 3, 3)
by_hand[0, 1] = filters[1, 0].flip(0, 1)
wrong_value("impulse", "counted-from-one", by_hand)
wrong_value("impulse", "counted-too-far", F.conv2d(impulse.roll(1, 1), filters, padding=1, groups=4))
wrong_value("impulse", "window-not-moved", impulse * filters.view(1, 4, 3, 3))
wrong_value("impulse", "filter-for-all", F.conv2d(impulse, filters.transpose(0, 1).expand(4, 4, 3, 3), padding=1))
wrong_value("impulse", "filters-in-reverse", F.conv2d(impulse, filters.flip(0), padding=1, groups=4))
wrong_value("impulse", "first-filter-for-all", F.conv2d(impulse, filters[:1].expand(4, 1, 3, 3), padding=1, groups=4))
wrong_value("impulse", "nothing-done", impulse)
wrong_value("mix", "two-letters-for-one-axis", torch.einsum("oi,chw->ohw", mix, picture))
wrong_value("mix", "channels-in-the-middle", mix @ picture.reshape(2, 3, 2))
wrong_value("mix", "mixture-reversed", torch.einsum("oi,ihw->ohw", mix.flip(1), picture))
wrong_value("mix", "signs-lost", (mix.abs() @ picture.flatten(1)).view(2, 2, 2))
