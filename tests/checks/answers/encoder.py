"""Answers to the exercises of chapter 5."""

from __future__ import annotations

import copy
import math

import numpy as np
import torch
import torch.nn.functional as F
import torch.utils.checkpoint
from catalogue import right, right_value, wrong, wrong_value
from einops import rearrange
from torch import nn

# 5.1 ------------------------------------------------------------------------------------------------------------------


@right("out_size", "whole division")
def by_division(n, kernel, stride, padding):
    return (n + 2 * padding - kernel) // stride + 1


@right("out_size", "PyTorch's documentation")
def documented(n, kernel, stride, padding):
    return math.floor((n + 2 * padding - 1 * (kernel - 1) - 1) / stride + 1)


@right("out_size", "len of a range")
def counted(n, kernel, stride, padding):
    return len(range(-padding, n + padding - kernel + 1, stride))


@right("out_size", "ask a convolution")
def asked(n, kernel, stride, padding):
    return F.conv1d(torch.zeros(1, 1, n), torch.zeros(1, 1, kernel), stride=stride, padding=padding).shape[-1]


@right("out_size", "NumPy's floor, a float")
def floored(n, kernel, stride, padding):
    return np.floor((n + 2 * padding - kernel) / stride) + 1


@right("out_size", "a tensor")
def as_tensor(n, kernel, stride, padding):
    return torch.tensor(n + 2 * padding - kernel).div(stride, rounding_mode="floor") + 1


def walked(n, kernel, stride, padding):
    """Walks along the row."""
    count, begin = 0, -padding
    while begin + kernel <= n + padding:
        count, begin = count + 1, begin + stride
    return count


right("out_size", "a loop")(walked)

for kind, rule in [
    ("rounded-up", lambda n, kernel, stride, padding: math.ceil((n + 2 * padding - kernel) / stride) + 1),
    ("rounded-up", lambda n, kernel, stride, padding: math.ceil((n + 2 * padding - kernel) / stride + 1)),
    ("rounded-to-nearest", lambda n, kernel, stride, padding: round((n + 2 * padding - kernel) / stride + 1)),
    ("rounded-to-nearest", lambda n, kernel, stride, padding: round((n + 2 * padding - kernel) / stride) + 1),
    ("not-rounded", lambda n, kernel, stride, padding: (n + 2 * padding - kernel) / stride + 1),
    ("first-window-forgotten", lambda n, kernel, stride, padding: (n + 2 * padding - kernel) // stride),
    ("first-window-forgotten", lambda n, kernel, stride, padding: len(range(-padding, n + padding - kernel, stride))),
    ("one-inside", lambda n, kernel, stride, padding: (n + 2 * padding - kernel + 1) // stride),
    ("padding-forgotten", lambda n, kernel, stride, padding: (n - kernel) // stride + 1),
    ("padding-once", lambda n, kernel, stride, padding: (n + padding - kernel) // stride + 1),
    ("padding-subtracted", lambda n, kernel, stride, padding: (n - 2 * padding - kernel) // stride + 1),
    ("window-ignored", lambda n, kernel, stride, padding: (n + 2 * padding) // stride),
    ("window-ignored", lambda n, kernel, stride, padding: n // stride),
    ("window-once-too-often", lambda n, kernel, stride, padding: (n + 2 * padding - (kernel - 1)) // stride + 1),
    ("first-window-forgotten", lambda n, kernel, stride, padding: (n + 2 * padding - kernel - 1) // stride + 1),
    ("special-case", lambda n, kernel, stride, padding: (n - 1) // stride + 1),
    ("special-case", lambda n, kernel, stride, padding: math.ceil(n / stride)),
    ("kernel-and-stride-exchanged", lambda n, kernel, stride, padding: (n + 2 * padding - stride) // kernel + 1),
    ("stride-ignored", lambda n, kernel, stride, padding: n + 2 * padding - kernel + 1),
    ("wrong-for-some-sizes", lambda n, kernel, stride, padding: (n + 2 * padding - kernel) // stride + n % 2),
    ("not-rounded", lambda n, kernel, stride, padding: (n + 2 * padding) / stride - kernel),
    ("no-return", lambda n, kernel, stride, padding: print(end="")),
    ("wrong-type", lambda n, kernel, stride, padding: str(n)),
]:
    wrong_value("out_size", kind, rule)
wrong_value("out_size", "signature", lambda n, kernel, stride: 1, outcome="could not run")
wrong_value("out_size", "not-callable", 12)
wrong_value("out_size", "raises", lambda n, kernel, stride, padding: n // (padding - padding), outcome="could not run")

# 5.2 ------------------------------------------------------------------------------------------------------------------


def seen_columns(layers, pixel=30, width=1000):
    """Count by a gradient the columns that one pixel sees through convolutions (kernel, stride); the first of them."""
    image = torch.ones(1, 1, 1, width, dtype=torch.float64, requires_grad=True)
    x = image
    for kernel, stride in layers:
        x = F.conv2d(x, torch.ones(1, 1, 1, kernel, dtype=torch.float64), stride=stride, padding=(0, kernel // 2))
    (gradient,) = torch.autograd.grad(x[0, 0, 0, pixel], image)
    seen = gradient.flatten().nonzero().flatten()
    return len(seen), int(seen[0])


EMBEDDINGS, BLOCK = [(7, 4), (3, 2), (3, 2), (3, 2)], (3, 1)
REACH = {
    "map 1, embeddings": seen_columns(EMBEDDINGS[:1])[0],
    "map 2, embeddings": seen_columns(EMBEDDINGS[:2])[0],
    "map 3, embeddings": seen_columns(EMBEDDINGS[:3])[0],
    "map 3, first column of pixel 10": seen_columns(EMBEDDINGS[:3], 10)[1],
    "map 1, one block": seen_columns([EMBEDDINGS[0], BLOCK])[0],
    "map 3, one block a stage": seen_columns([step for e in EMBEDDINGS[:3] for step in (e, BLOCK)])[0],
}
right_value("reach", "measured by gradients", REACH)
right_value("reach", "floats", {name: float(value) for name, value in REACH.items()})
right_value("reach", "tensors", {name: torch.tensor([value]) for name, value in REACH.items()})
for kind, entry, value in [
    ("stride-for-window", "map 1, embeddings", 4),
    ("too-large", "map 1, embeddings", 49),
    ("step-in-the-image", "map 2, embeddings", 9),
    ("new-step-for-old", "map 2, embeddings", 23),
    ("windows-multiplied", "map 2, embeddings", 21),
    ("one-side-only", "map 2, embeddings", 11),
    ("window-counted-whole", "map 2, embeddings", 19),
    ("swapped", "map 2, embeddings", 31),
    ("step-of-map-1", "map 3, embeddings", 23),
    ("new-step-for-old", "map 3, embeddings", 47),
    ("windows-multiplied", "map 3, embeddings", 63),
    ("stride-for-window", "map 3, embeddings", 16),
    ("window-begins-at-the-pixel", "map 3, first column of pixel 10", 160),
    ("middle-of-a-stamp", "map 3, first column of pixel 10", 153),
    ("padding-of-the-first-only", "map 3, first column of pixel 10", 157),
    ("one-too-many", "map 3, first column of pixel 10", 144),
    ("first-border-forgotten", "map 3, first column of pixel 10", 148),
    ("border-added", "map 3, first column of pixel 10", 175),
    ("too-small", "map 1, one block", 13),
    ("last-block-only", "map 3, one block a stage", 47),
    ("a-block-forgotten", "map 3, one block a stage", 71),
    ("too-large", "map 3, one block a stage", 111),
    ("counted-from-one", "map 3, first column of pixel 10", 129),
    ("block-in-image-pixels", "map 1, one block", 9),
    ("block-forgotten", "map 1, one block", 7),
    ("two-windows-a-block", "map 1, one block", 23),
    ("block-forgotten", "map 3, one block a stage", 31),
    ("last-block-only", "map 3, one block a stage", 63),
    ("last-block-forgotten", "map 3, one block a stage", 55),
    ("embeddings-forgotten", "map 3, one block a stage", 56),
    ("last-step-for-all", "map 3, one block a stage", 127),
    ("one-side-only", "map 3, one block a stage", 59),
    ("too-small", "map 3, one block a stage", 50),
    ("not-whole", "map 3, one block a stage", 87.5),
    ("not-a-number-yet", "map 3, one block a stage", "the whole image"),
]:
    wrong_value("reach", kind, REACH | {entry: value}, f"{entry} {value}")
wrong_value("reach", "entries-missing", {"map 1, embeddings": 7})

# 5.3 ------------------------------------------------------------------------------------------------------------------


def sizes(x, weight, stride, padding):
    return [(n + 2 * padding - weight.shape[-1]) // stride + 1 for n in x.shape[2:]]


def embedded(x, weight, bias, stride, padding, matrix=None, kernel=None):
    """The right answer, with what is changed in it."""
    kernel = kernel or weight.shape[-1]
    columns = F.unfold(x, kernel, stride=stride, padding=padding)
    height, width = [(n + 2 * padding - kernel) // stride + 1 for n in x.shape[2:]]
    matrix = weight.flatten(1) if matrix is None else matrix
    return (matrix @ columns + bias[:, None]).unflatten(2, (height, width))


right("embed", "unfold and a matrix product")(embedded)


@right("embed", "nn.Linear on tokens, einops")
def on_tokens(x, weight, bias, stride, padding):
    height, _ = sizes(x, weight, stride, padding)
    tokens = rearrange(F.unfold(x, weight.shape[-1], stride=stride, padding=padding), "b c n -> b n c")
    y = F.linear(tokens, rearrange(weight, "o i h w -> o (i h w)"), bias)
    return rearrange(y, "b (h w) o -> b o h w", h=height)


@right("embed", "the article's 1×1 convolution of the columns")
def one_by_one(x, weight, bias, stride, padding):
    columns = F.unfold(x, weight.shape[-1], stride=stride, padding=padding)
    y = F.conv1d(columns, weight.flatten(1)[..., None], bias)
    return y.view(len(x), -1, *sizes(x, weight, stride, padding))


@right("embed", "Tensor.unfold and einsum")
def strided_views(x, weight, bias, stride, padding):
    k = weight.shape[-1]
    windows = F.pad(x, (padding,) * 4).unfold(2, k, stride).unfold(3, k, stride)  # (B, C, H', W', k, k)
    return torch.einsum("bchwij,ocij->bohw", windows, weight) + bias[:, None, None]


@right("embed", "a loop over the window's places")
def by_places(x, weight, bias, stride, padding):
    height, width = sizes(x, weight, stride, padding)
    x, y = F.pad(x, (padding,) * 4), bias[:, None, None]
    for i in range(weight.shape[2]):
        for j in range(weight.shape[3]):
            shifted = x[:, :, i : i + stride * (height - 1) + 1 : stride, j : j + stride * (width - 1) + 1 : stride]
            y = y + torch.einsum("oc,bchw->bohw", weight[:, :, i, j], shifted)
    return y


@wrong("embed", "window-first")
def place_by_place(x, weight, bias, stride, padding):
    return embedded(x, weight, bias, stride, padding, rearrange(weight, "o i h w -> o (h w i)"))


@wrong("embed", "window-first")
def place_by_place_turned(x, weight, bias, stride, padding):
    return embedded(x, weight, bias, stride, padding, rearrange(weight, "o i h w -> o (w h i)"))


@wrong("embed", "rows-and-columns")
def columns_first(x, weight, bias, stride, padding):
    return embedded(x, weight, bias, stride, padding, rearrange(weight, "o i h w -> o (i w h)"))


@wrong("embed", "windows-turned")
def turned(x, weight, bias, stride, padding):
    return embedded(x, weight, bias, stride, padding, weight.flip(2, 3).flatten(1))


@wrong("embed", "weights-shuffled")
def shuffled(x, weight, bias, stride, padding):
    return embedded(x, weight, bias, stride, padding, weight.reshape(-1, len(weight)).T)


@wrong("embed", "bias-forgotten")
def unbiased(x, weight, bias, stride, padding):
    return embedded(x, weight, 0 * bias, stride, padding)


@wrong("embed", "bias-added-twice")
def biased_twice(x, weight, bias, stride, padding):
    return embedded(x, weight, 2 * bias, stride, padding)


def options(args, **changed):
    return dict(zip(("x", "weight", "bias", "stride", "padding"), args)) | changed


wrong_value("embed", "padding-forgotten", lambda *a: embedded(**options(a, padding=0)), "no border at all")
wrong_value("embed", "stride-forgotten", lambda *a: embedded(**options(a, stride=1)), "steps of one")
wrong_value("embed", "argument-fixed", lambda *a: embedded(**options(a, stride=4, padding=3)), "both fixed")
wrong_value("embed", "argument-fixed", lambda *a: embedded(**options(a, stride=4)), "stride fixed")
wrong_value("embed", "argument-fixed", lambda *a: embedded(**options(a, padding=a[1].shape[-1] // 2)), "same padding")


@wrong("embed", "argument-fixed")
def fixed_kernel(x, weight, bias, stride, padding):
    return embedded(x, weight, bias, stride, padding, kernel=7)


@wrong("embed", "padding-not-zeros")
def mirrored(x, weight, bias, stride, padding):
    return embedded(F.pad(x, (padding,) * 4, mode="reflect") if padding else x, weight, bias, stride, 0)


@wrong("embed", "padding-not-zeros")
def ones_around(x, weight, bias, stride, padding):
    return embedded(F.pad(x, (padding,) * 4, value=1.0), weight, bias, stride, 0)


@wrong("embed", "kernel-and-stride-exchanged")
def exchanged(x, weight, bias, stride, padding):
    k = weight.shape[-1]
    matrix = weight[:, :, :stride, :stride].flatten(1)
    return embedded(x, weight, bias, k, padding, matrix, kernel=stride)


@wrong("embed", "map-not-rebuilt")
def one_row(x, weight, bias, stride, padding):
    return embedded(x, weight, bias, stride, padding).flatten(2)


@wrong("embed", "map-not-rebuilt")
def tokens_only(x, weight, bias, stride, padding):
    return embedded(x, weight, bias, stride, padding).flatten(2).mT


@wrong("embed", "channels-left-last")
def channels_last(x, weight, bias, stride, padding):
    return embedded(x, weight, bias, stride, padding).permute(0, 2, 3, 1)


@wrong("embed", "channels-left-last")
def viewed(x, weight, bias, stride, padding):
    y = embedded(x, weight, bias, stride, padding)
    return y.flatten(2).mT.reshape(y.shape)


@wrong("embed", "height-and-width")
def columns_of_patches(x, weight, bias, stride, padding):
    y = embedded(x, weight, bias, stride, padding)
    return rearrange(y.flatten(2), "b c (w h) -> b c h w", h=y.shape[2])


@wrong("embed", "axes-exchanged")
def sideways(x, weight, bias, stride, padding):
    return embedded(x, weight, bias, stride, padding).mT


@wrong("embed", "square-only")
def root(x, weight, bias, stride, padding):
    columns = F.unfold(x, weight.shape[-1], stride=stride, padding=padding)
    side = int(columns.shape[-1] ** 0.5)
    return (weight.flatten(1) @ columns + bias[:, None]).view(len(x), -1, side, side)


@wrong("embed", "square-only")
def height_twice(x, weight, bias, stride, padding):
    height, _ = sizes(x, weight, stride, padding)
    columns = F.unfold(x, weight.shape[-1], stride=stride, padding=padding)
    return (weight.flatten(1) @ columns + bias[:, None]).view(len(x), -1, height, height)


@wrong("embed", "convolution-used")
def convolved(x, weight, bias, stride, padding):
    return F.conv2d(x, weight, bias, stride, padding)


@wrong("embed", "one-picture-only")
def first_picture(x, weight, bias, stride, padding):
    return embedded(x[:1], weight, bias, stride, padding)


@wrong("embed", "one-picture-only")
def squeezed(x, weight, bias, stride, padding):
    return embedded(x, weight, bias, stride, padding)[0]


@wrong("embed", "no-gradient")
def detached(x, weight, bias, stride, padding):
    return embedded(x, weight.detach(), bias, stride, padding)


@wrong("embed", "no-gradient")
@torch.no_grad()
def without_graph(x, weight, bias, stride, padding):
    return embedded(x, weight, bias, stride, padding)


@wrong("embed", "raises", "could not run")
def not_flattened(x, weight, bias, stride, padding):
    return weight @ F.unfold(x, weight.shape[-1], stride=stride, padding=padding)


@wrong("embed", "no-return")
def nothing(x, weight, bias, stride, padding):
    embedded(x, weight, bias, stride, padding)


@wrong("embed", "wrong-dtype")
def single(x, weight, bias, stride, padding):
    return embedded(x, weight, bias, stride, padding).float()


@wrong("embed", "changes-input")
def writes(x, weight, bias, stride, padding):
    weight *= 1.01
    return embedded(x, weight / 1.01, bias, stride, padding)


wrong_value("embed", "scaled-by-constant", lambda *a: 2 * embedded(*a), "doubled")


# 5.4 ------------------------------------------------------------------------------------------------------------------

PATCHES = ((7, 4, 3), (3, 2, 1), (3, 2, 1), (3, 2, 1))


@right("encoder_loop", "nested ModuleLists")
class Nested(nn.Module):
    """The right answer, whose steps the wrong ones below change."""

    patches = PATCHES

    def __init__(self, channels, dims, num_layers, block):
        super().__init__()
        widths = (channels, *dims)
        self.stages = nn.ModuleList([])
        for *pair, depth, patch in zip(widths[:-1], widths[1:], num_layers, self.patches):
            self.stages.append(nn.ModuleList([self.embedding(*pair, *patch), self.blocks(pair[1], depth, block)]))

    def embedding(self, dim_in, dim_out, kernel, stride, padding):
        return nn.Conv2d(dim_in, dim_out, kernel, stride, padding)

    def blocks(self, dim, depth, block):
        return nn.ModuleList([nn.ModuleList(block(dim)) for _ in range(depth)])

    def work(self, x, attention, feed_forward):
        x = attention(x) + x
        return feed_forward(x) + x

    def stage(self, x, blocks):
        for both in blocks:
            x = self.work(x, *both)
        return x

    def forward(self, image):
        x, maps = image, []
        for embedding, blocks in self.stages:
            x = self.stage(embedding(x), blocks)
            maps.append(x)
        return maps


class Residual(nn.Module):
    def __init__(self, branch):
        super().__init__()
        self.fn = branch

    def forward(self, x):
        return x + self.fn(x)


@right("encoder_loop", "Sequential stages and a residual wrapper")
class Wrapped(nn.Module):
    def __init__(self, channels, dims, num_layers, block):
        super().__init__()
        self.layers = nn.ModuleList()
        for dim_in, dim_out, depth, (k, s, p) in zip([channels, *dims], dims, num_layers, PATCHES):
            branches = [Residual(branch) for _ in range(depth) for branch in block(dim_out)]
            self.layers.append(nn.Sequential(nn.Conv2d(dim_in, dim_out, k, s, p), *branches))

    def forward(self, x):
        return [x := layer(x) for layer in self.layers]


@right("encoder_loop", "mmsegmentation's and timm's names, written out")
class MixVisionTransformer(nn.Module):
    def __init__(self, channels, dims, num_layers, block):
        super().__init__()
        self.depths = num_layers
        for i in range(4):
            k, s, p = PATCHES[i]
            setattr(self, f"patch_embed{i + 1}", nn.Conv2d(dims[i - 1] if i else channels, dims[i], k, s, p))
            pairs = [block(dims[i]) for _ in range(num_layers[i])]
            setattr(self, f"attn{i + 1}", nn.ModuleList([attn for attn, _ in pairs]))
            setattr(self, f"mlp{i + 1}", nn.ModuleList([mlp for _, mlp in pairs]))

    def forward(self, x):
        outs = []
        for i in range(1, 5):
            x = getattr(self, f"patch_embed{i}")(x)
            for attn, mlp in zip(getattr(self, f"attn{i}"), getattr(self, f"mlp{i}")):
                x = x + attn(x)
                x = x + mlp(x)
            outs.append(x)
        return tuple(outs)


class Patches(nn.Module):
    """The article's way, with the height computed."""

    def __init__(self, dim_in, dim_out, kernel, stride, padding):
        super().__init__()
        self.window = dict(kernel_size=kernel, stride=stride, padding=padding)
        self.linear = nn.Linear(dim_in * kernel**2, dim_out)

    def forward(self, x):
        columns = F.unfold(x, **self.window)
        height = (x.shape[2] + 2 * self.window["padding"] - self.window["kernel_size"]) // self.window["stride"] + 1
        return rearrange(self.linear(columns.mT), "b (h w) c -> b c h w", h=height)


@right("encoder_loop", "unfold and nn.Linear on tokens")
class Unfolding(Nested):
    def embedding(self, *patch):
        return Patches(*patch)


@right("encoder_loop", "deep copies of one block")
class Copies(Nested):
    def blocks(self, dim, depth, block):
        one = nn.ModuleList(block(dim))
        return nn.ModuleList([copy.deepcopy(one) for _ in range(depth)])


@right("encoder_loop", "recursion, and a sum in place of what nobody needs")
class Recursive(Nested):
    def work(self, x, attention, feed_forward):
        y = attention(x)
        y += x
        z = feed_forward(y)
        z += y
        return z

    def forward(self, image, stages=None):
        (embedding, blocks), *rest = stages or self.stages
        x = self.stage(embedding(image), blocks)
        return [x, *(self.forward(x, rest) if rest else [])]


# The blocks


@wrong("encoder_loop", "block-width")
class BlocksOfTheOldWidth(Nested):
    def __init__(self, channels, dims, num_layers, block):
        super().__init__(channels, dims, num_layers, lambda dim: block((channels, *dims)[dims.index(dim)]))


@wrong("encoder_loop", "too-few-blocks")
class OneBlock(Nested):
    def blocks(self, dim, depth, block):
        return super().blocks(dim, 1, block)


@wrong("encoder_loop", "too-few-blocks")
class OneLess(Nested):
    def blocks(self, dim, depth, block):
        return super().blocks(dim, max(1, depth - 1), block)


@wrong("encoder_loop", "too-many-blocks")
class OneMore(Nested):
    def blocks(self, dim, depth, block):
        return super().blocks(dim, depth + 1, block)


@wrong("encoder_loop", "one-block-repeated")
class Multiplied(Nested):
    def blocks(self, dim, depth, block):
        return nn.ModuleList([nn.ModuleList(block(dim))] * depth)


@wrong("encoder_loop", "one-block-repeated")
class CalledAgain(Nested):
    def blocks(self, dim, depth, block):
        self.depth = max(depth, getattr(self, "depth", 0))
        return nn.ModuleList(block(dim))

    def stage(self, x, blocks):
        for _ in range(self.depth):
            x = self.work(x, *blocks)
        return x


@wrong("encoder_loop", "blocks-made-in-forward")
class MadeAnew(Nested):
    def blocks(self, dim, depth, block):
        self.block, self.depths = block, {**getattr(self, "depths", {}), dim: depth}
        return nn.ModuleList()

    def stage(self, x, blocks):
        return super().stage(x, super().blocks(x.shape[1], self.depths[x.shape[1]], self.block))


@wrong("encoder_loop", "branch-never-called")
class NoFeedForward(Nested):
    def work(self, x, attention, feed_forward):
        return attention(x) + x


@wrong("encoder_loop", "branch-never-called")
class FirstBlockOnly(Nested):
    def stage(self, x, blocks):
        return self.work(x, *blocks[0])


@wrong("encoder_loop", "branch-never-called")
class LastBlockLeftOut(Nested):
    def stage(self, x, blocks):
        for both in list(blocks)[: max(1, len(blocks) - 1)]:
            x = self.work(x, *both)
        return x


@wrong("encoder_loop", "feed-forward-first")
class Turned(Nested):
    def work(self, x, attention, feed_forward):
        return super().work(x, feed_forward, attention)


@wrong("encoder_loop", "branches-sorted")
class Sorted(Nested):
    def stage(self, x, blocks):
        for kind in (0, 1):
            for both in blocks:
                x = both[kind](x) + x
        return x


@wrong("encoder_loop", "layers-in-a-list")
class PlainLists(Nested):
    def __init__(self, channels, dims, num_layers, block):
        super().__init__(channels, dims, num_layers, block)
        stages = [[embedding, [list(both) for both in blocks]] for embedding, blocks in self.stages]
        del self.stages
        self.stages = stages


@wrong("encoder_loop", "layers-in-a-list")
class BlocksInPlainLists(nn.Module):
    def __init__(self, channels, dims, num_layers, block):
        super().__init__()
        pairs = zip((channels, *dims), dims, PATCHES)
        self.embeddings = nn.ModuleList([nn.Conv2d(i, o, *patch) for i, o, patch in pairs])
        self.blocks = [[block(dim) for _ in range(depth)] for dim, depth in zip(dims, num_layers)]

    def forward(self, x):
        maps = []
        for embedding, blocks in zip(self.embeddings, self.blocks):
            x = embedding(x)
            for attention, feed_forward in blocks:
                x = x + attention(x)
                x = x + feed_forward(x)
            maps.append(x)
        return maps


# The sums


@wrong("encoder_loop", "residual-missing")
class NoSums(Nested):
    def work(self, x, attention, feed_forward):
        return feed_forward(attention(x))


@wrong("encoder_loop", "residual-missing-once")
class SecondSumMissing(Nested):
    def work(self, x, attention, feed_forward):
        return feed_forward(attention(x) + x)


@wrong("encoder_loop", "residual-missing-once")
class FirstSumMissing(Nested):
    def work(self, x, attention, feed_forward):
        x = attention(x)
        return feed_forward(x) + x


@wrong("encoder_loop", "residual-twice")
class Doubled(Nested):
    def work(self, x, attention, feed_forward):
        return x + super().work(x, attention, feed_forward)


@wrong("encoder_loop", "residual-twice")
class DoubledFirst(Nested):
    def work(self, x, attention, feed_forward):
        x = x + x + attention(x)
        return feed_forward(x) + x


@wrong("encoder_loop", "residual-from-the-beginning")
class OldMap(Nested):
    def work(self, x, attention, feed_forward):
        y = attention(x) + x
        return feed_forward(y) + x


@wrong("encoder_loop", "residual-from-the-beginning")
class OneSumForAll(Nested):
    def stage(self, x, blocks):
        y = x
        for attention, feed_forward in blocks:
            y = attention(y) + x
            y = feed_forward(y) + x
        return y


@wrong("encoder_loop", "branches-in-parallel")
class Parallel(Nested):
    def work(self, x, attention, feed_forward):
        return x + attention(x) + feed_forward(x)


@wrong("encoder_loop", "result-lost")
class AttentionLost(Nested):
    def work(self, x, attention, feed_forward):
        attention(x) + x
        return feed_forward(x) + x


@wrong("encoder_loop", "result-lost")
class FeedForwardLost(Nested):
    def work(self, x, attention, feed_forward):
        x = attention(x) + x
        feed_forward(x) + x
        return x


@wrong("encoder_loop", "multiplied")
class Product(Nested):
    def work(self, x, attention, feed_forward):
        x = attention(x) * x
        return feed_forward(x) * x


@wrong("encoder_loop", "multiplied")
class Difference(Nested):
    def work(self, x, attention, feed_forward):
        x = x - attention(x)
        return x - feed_forward(x)


@wrong("encoder_loop", "in-place")
class InPlace(Nested):
    def work(self, x, attention, feed_forward):
        x += attention(x)
        x += feed_forward(x)
        return x


@wrong("encoder_loop", "in-place")
class AddUnderscore(Nested):
    def work(self, x, attention, feed_forward):
        return x.add_(attention(x)).add_(feed_forward(x))


@wrong("encoder_loop", "norm-at-the-end")
class StageNorm(Nested):
    def stage(self, x, blocks):
        x = super().stage(x, blocks)
        return F.layer_norm(x.movedim(1, -1), x.shape[1:2]).movedim(-1, 1)


@wrong("encoder_loop", "norm-at-the-end")
class StageBatchNorm(Nested):
    def stage(self, x, blocks):
        return F.batch_norm(super().stage(x, blocks), None, None, training=True)


@wrong("encoder_loop", "changed-behind-the-blocks")
class ReluLast(Nested):
    def stage(self, x, blocks):
        return super().stage(x, blocks).relu()


@wrong("encoder_loop", "changed-before-the-branch")
class PostNorm(Nested):
    def work(self, x, attention, feed_forward):
        x = F.layer_norm(attention(x) + x, x.shape[2:])
        return feed_forward(x) + x


@wrong("encoder_loop", "changed-before-the-branch")
class Activated(Nested):
    def work(self, x, attention, feed_forward):
        return feed_forward(F.gelu(x := attention(x) + x)) + x


# The maps


@wrong("encoder_loop", "last-map-only")
class LastMap(Nested):
    def forward(self, image):
        return super().forward(image)[-1]


@wrong("encoder_loop", "last-map-only")
class LastMapInAList(Nested):
    def forward(self, image):
        return super().forward(image)[-1:]


@wrong("encoder_loop", "a-map-a-block")
class AMapABlock(Nested):
    def forward(self, image):
        x, maps = image, []
        for embedding, blocks in self.stages:
            x = embedding(x)
            for both in blocks:
                x = self.work(x, *both)
                maps.append(x)
        return maps


@wrong("encoder_loop", "image-among-the-maps")
class WithImage(Nested):
    def forward(self, image):
        return [image, *super().forward(image)]


@wrong("encoder_loop", "maps-reversed")
class CoarsestFirst(Nested):
    def forward(self, image):
        return super().forward(image)[::-1]


@wrong("encoder_loop", "same-map-four-times")
class FourTimes(Nested):
    def forward(self, image):
        return 4 * super().forward(image)[-1:]


@wrong("encoder_loop", "maps-kept-too-early")
class KeptEarly(Nested):
    def forward(self, image):
        x, maps = image, []
        for embedding, blocks in self.stages:
            x = embedding(x)
            maps.append(x)
            x = self.stage(x, blocks)
        return maps


@wrong("encoder_loop", "stages-get-the-image")
class ImageAgain(Nested):
    def __init__(self, channels, dims, num_layers, block):
        super().__init__(channels, dims, num_layers, block)
        for (stage, dim), patch in zip(zip(self.stages, dims), PATCHES):
            stage[0] = nn.Conv2d(channels, dim, *patch)

    def forward(self, image):
        return [self.stage(embedding(image), blocks) for embedding, blocks in self.stages]


@wrong("encoder_loop", "stages-get-the-image")
class ImageInTheLoop(Nested):
    def forward(self, image):
        return [self.stage(embedding(image), blocks) for embedding, blocks in self.stages]


@wrong("encoder_loop", "blocks-skipped")
class Skipped(Nested):
    def forward(self, image):
        x, maps = image, []
        for embedding, blocks in self.stages:
            x = embedding(x)
            maps.append(self.stage(x, blocks))
        return maps


@wrong("encoder_loop", "wrong-type")
class Dictionary(Nested):
    def forward(self, image):
        return dict(enumerate(super().forward(image)))


@wrong("encoder_loop", "no-return")
class Forgotten(Nested):
    def forward(self, image):
        super().forward(image)


@wrong("encoder_loop", "no-gradient")
class KeptDetached(Nested):
    def stage(self, x, blocks):
        return super().stage(x, blocks).detach()


@wrong("encoder_loop", "keeps-state")
class GrowingList(Nested):
    count = 1

    def forward(self, image):
        self.count += 1
        return [x * self.count / (self.count + 1e-3) for x in super().forward(image)]


# The patches

for kind, patches in [
    ("padding-forgotten", ((7, 4, 0), (3, 2, 0), (3, 2, 0), (3, 2, 0))),
    ("padding-forgotten", ((7, 4, 3), (3, 2, 0), (3, 2, 0), (3, 2, 0))),
    ("kernel-and-stride-exchanged", ((4, 7, 3), (2, 3, 1), (2, 3, 1), (2, 3, 1))),
    ("same-patches-everywhere", ((7, 4, 3),) * 4),
    ("same-patches-everywhere", ((3, 2, 1),) * 4),
    ("patches-do-not-overlap", ((4, 4, 0), (2, 2, 0), (2, 2, 0), (2, 2, 0))),
    ("stride-forgotten", ((7, 4, 3), (3, 1, 1), (3, 1, 1), (3, 1, 1))),
    ("window-too-small", ((5, 4, 2), (3, 2, 1), (3, 2, 1), (3, 2, 1))),
    ("window-too-small", ((7, 4, 3), (1, 2, 0), (1, 2, 0), (1, 2, 0))),
    ("window-too-large", ((7, 4, 3), (5, 2, 2), (5, 2, 2), (5, 2, 2))),
    ("other-patches", ((7, 4, 2), (3, 2, 1), (3, 2, 1), (3, 2, 1))),
    ("same-patches-everywhere", ((7, 2, 3), (3, 2, 1), (3, 2, 1), (3, 2, 1))),
]:
    wrong_value("encoder_loop", kind, type("Patched", (Nested,), {"patches": patches}), str(patches))


@wrong("encoder_loop", "size-guessed")
class Article(Nested):
    """The article's square root."""

    def forward(self, image):
        h, w = image.shape[2:]
        x, maps = image, []
        for (embedding, blocks), _ in zip(self.stages, PATCHES):
            x = embedding(x)
            ratio = int(math.sqrt(h * w / (x.shape[2] * x.shape[3])))
            x = self.stage(rearrange(x.flatten(2), "b c (h w) -> b c h w", h=h // ratio), blocks)
            maps.append(x)
        return maps


@wrong("encoder_loop", "size-guessed")
class Quotient(Nested):
    def forward(self, image):
        x, maps = image, []
        for (embedding, blocks), shrink in zip(self.stages, (4, 8, 16, 32)):
            x = embedding(x).flatten(2)
            x = self.stage(rearrange(x, "b c (h w) -> b c h w", w=image.shape[3] // shrink), blocks)
            maps.append(x)
        return maps


@wrong("encoder_loop", "axes-exchanged")
class Sideways(Nested):
    def forward(self, image):
        return [x.mT for x in super().forward(image)]


@wrong("encoder_loop", "embedding-not-linear")
class NormInTheEmbedding(Nested):
    def embedding(self, *patch):
        return nn.Sequential(super().embedding(*patch), nn.GroupNorm(1, patch[1]))


@wrong("encoder_loop", "embedding-not-linear")
class ReluInTheEmbedding(Nested):
    def embedding(self, *patch):
        return nn.Sequential(super().embedding(*patch), nn.ReLU())


@wrong("encoder_loop", "embedding-without-bias")
class Unbiased(Nested):
    def embedding(self, dim_in, dim_out, *patch):
        return nn.Conv2d(dim_in, dim_out, *patch, bias=False)


@wrong("encoder_loop", "padding-not-zeros")
class Mirrored(Nested):
    def embedding(self, dim_in, dim_out, *patch):
        return nn.Conv2d(dim_in, dim_out, *patch, padding_mode="reflect")


@wrong("encoder_loop", "parameters")
class DenseAndPointwise(Nested):
    def embedding(self, dim_in, dim_out, *patch):
        return nn.Sequential(nn.Conv2d(dim_in, dim_out, *patch), nn.Conv2d(dim_out, dim_out, 1))


@wrong("encoder_loop", "parameters")
class LeftOver(Nested):
    def __init__(self, channels, dims, num_layers, block):
        super().__init__(channels, dims, num_layers, block)
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, image):
        return [x * self.scale for x in super().forward(image)]


@wrong("encoder_loop", "places-not-alike")
class Gated(Nested):
    """Every second place is halved."""

    def embedding(self, *patch):
        class Halved(nn.Conv2d):
            def forward(self, x):
                y = super().forward(x)
                return (y - self.bias[:, None, None]) * torch.tensor([1.0, 0.5]).repeat(99)[: y.shape[3]] + self.bias[
                    :, None, None
                ]

        return Halved(*patch)


# Arguments


@wrong("encoder_loop", "depth-fixed")
class FixedDepths(Nested):
    def __init__(self, channels, dims, num_layers, block):
        super().__init__(channels, dims, (2, 1, 3, 2), block)


@wrong("encoder_loop", "width-fixed")
class FixedChannels(Nested):
    def __init__(self, channels, dims, num_layers, block):
        super().__init__(2, dims, num_layers, block)


@wrong("encoder_loop", "width-fixed")
class FixedDims(Nested):
    def __init__(self, channels, dims, num_layers, block):
        super().__init__(channels, (5, 3, 7, 4), num_layers, block)


@wrong("encoder_loop", "signature", "could not run")
class NoBlock(Nested):
    def __init__(self, channels, dims, num_layers):
        super().__init__(channels, dims, num_layers, None)


@wrong("encoder_loop", "super-init-missing", "could not run")
class NoSuper(nn.Module):
    def __init__(self, channels, dims, num_layers, block):
        self.stages = nn.ModuleList([])


wrong_value("encoder_loop", "not-callable", [1, 2])

# 5.5 ------------------------------------------------------------------------------------------------------------------

FAULTS = {"A": "shared block", "B": "none", "C": "in place", "D": "plain list", "E": "no residual"}
right_value("stages", "words", FAULTS)
right_value("stages", "capitals", {letter: fault.title() for letter, fault in FAULTS.items()})
right_value("stages", "hyphens", {letter: fault.replace(" ", "-") for letter, fault in FAULTS.items()})
right_value("stages", "another order", dict(reversed(FAULTS.items())))
for kind, letter, word in [
    ("not-the-shared-block", "A", "none"),
    ("not-the-shared-block", "A", "depth ignored"),
    ("nothing-wrong", "B", "no residual"),
    ("not-in-place", "C", "none"),
    ("not-the-list", "D", "shared block"),
    ("not-the-residual", "E", "in place"),
    ("no-such-word", "E", "everything"),
]:
    wrong_value("stages", kind, FAULTS | {letter: word}, f"{letter} {word}")

# Warm-ups -------------------------------------------------------------------------------------------------------------

numbers = torch.arange(35.0).reshape(1, 1, 7, 5)
right_value("patches", "unfold", F.unfold(numbers, 3, stride=2))
right_value("patches", "einops", rearrange(numbers.unfold(2, 3, 2).unfold(3, 3, 2), "b c h w i j -> b (c i j) (h w)"))
wrong_value("patches", "kernel-and-stride-exchanged", F.unfold(numbers, 2, stride=3))
wrong_value("patches", "stride-forgotten", F.unfold(numbers, 3))
wrong_value("patches", "border-added", F.unfold(numbers, 3, stride=2, padding=1))
wrong_value("patches", "one-patch-a-row", F.unfold(numbers, 3, stride=2).mT)
wrong_value("patches", "no-overlap", F.unfold(numbers, 2, stride=2))
wrong_value("patches", "other-places", F.unfold(numbers.mT, 3, stride=2)[..., [0, 2, 4, 1, 3, 5]])

widths = (3, 32, 64, 160, 256)
right_value("steps", "zip", list(zip(widths[:-1], widths[1:])))
right_value("steps", "zip ends with the shorter", torch.tensor(list(zip(widths, widths[1:]))))
right_value("steps", "unfold", torch.tensor(widths).unfold(0, 2, 1))
wrong_value("steps", "not-shifted", list(zip(widths, widths)))
wrong_value("steps", "not-shifted-and-cut", list(zip(widths[:-1], widths[:-1])))
wrong_value("steps", "out-before-in", list(zip(widths[1:], widths[:-1])))
wrong_value("steps", "every-second", list(zip(widths[::2], widths[1::2])))
wrong_value("steps", "two-long-rows", [widths[:-1], widths[1:]])
wrong_value("steps", "last-left-out", list(zip(widths[:-2], widths[1:-1])))
right_value("steps", "a zip that is not unrolled", zip(widths, widths[1:]))
wrong_value("steps", "all-from-the-image", [(3, width) for width in widths[1:]])

# A second round -------------------------------------------------------------------------------------------------------


@wrong("embed", "padding-on-one-side")
def padded_in_front(x, weight, bias, stride, padding):
    return embedded(F.pad(x, (padding, 0, padding, 0)), weight, bias, stride, 0)


@wrong("embed", "one-bias-for-all")
def first_bias(x, weight, bias, stride, padding):
    return embedded(x, weight, bias[:1].expand_as(bias), stride, padding)


@wrong("embed", "biases-joined")
def sum_of_biases(x, weight, bias, stride, padding):
    return embedded(x, weight, bias.sum().expand_as(bias), stride, padding)


@right("out_size", "length of a range")
def ranged(n, kernel, stride, padding):
    return len(range(-padding, n + padding - kernel + 1, stride))


@wrong("out_size", "first-window-forgotten")
def range_too_short(n, kernel, stride, padding):
    return len(range(-padding, n + padding - kernel, stride))


@right("embed", "Tensor.unfold twice")
def unfolded_twice(x, weight, bias, stride, padding):
    kernel = weight.shape[-1]
    windows = F.pad(x, (padding,) * 4).unfold(2, kernel, stride).unfold(3, kernel, stride)
    return torch.einsum("bchwij,ocij->bohw", windows, weight) + bias.view(1, -1, 1, 1)


# What a reader tried --------------------------------------------------------------------------------------------------


@wrong("out_size", "stride-ignored")
def side_by_side(n, kernel, stride, padding):
    return (n + 2 * padding) // kernel


@wrong("embed", "rows-guessed")
def height_by_stride(x, weight, bias, stride, padding):
    columns = F.unfold(x, weight.shape[-1], stride=stride, padding=padding)
    return rearrange(weight.flatten(1) @ columns + bias[:, None], "b c (h w) -> b c h w", h=x.shape[2] // stride)


@wrong("embed", "map-with-gaps")
def folded(x, weight, bias, stride, padding):
    columns = F.unfold(x, weight.shape[-1], stride=stride, padding=padding)
    return F.fold(weight.flatten(1) @ columns + bias[:, None], x.shape[2:], 1, stride=stride)


@right("encoder_loop", "widths that a first run finds")
class Lazy(nn.Module):
    def __init__(self, channels, dims, num_layers, block):
        super().__init__()
        self.embeddings = nn.ModuleList(
            nn.LazyConv2d(dim, *patch) for dim, patch in zip(dims, ((7, 4, 3), *((3, 2, 1),) * 3))
        )
        self.stages = nn.ModuleList(
            nn.ModuleList(branch for _ in range(depth) for branch in block(dim)) for dim, depth in zip(dims, num_layers)
        )
        self(torch.zeros(1, channels, 32, 32))

    def given(self, x):
        return x

    def forward(self, x):
        maps = []
        for embedding, branches in zip(self.embeddings, self.stages):
            x = embedding(self.given(x))
            for branch in branches:
                x = x + branch(x)
            maps.append(x)
        return maps


@wrong("encoder_loop", "too-few-maps")
class ThreeStages(Lazy):
    def __init__(self, channels, dims, num_layers, block):
        super().__init__(channels, dims[:3], num_layers, block)


@wrong("encoder_loop", "image-padded")
class PaddedImage(Lazy):
    def forward(self, x):
        return super().forward(F.pad(x, (0, -x.shape[3] % 32, 0, -x.shape[2] % 32)))


@wrong("encoder_loop", "image-padded")
class PaddedMaps(Lazy):
    def given(self, x):
        return F.pad(x, (0, -x.shape[3] % 32, 0, -x.shape[2] % 32))


@wrong("encoder_loop", "stride-and-padding-exchanged")
class InAnotherOrder(Lazy):
    def __init__(self, channels, dims, num_layers, block):
        super().__init__(channels, dims, num_layers, block)
        for embedding in self.embeddings:
            embedding.stride, embedding.padding = embedding.padding, embedding.stride


# What an adversary tried ----------------------------------------------------------------------------------------------

for kind, rule in [
    ("single-window", lambda n, kernel, stride, padding: max(2, by_division(n, kernel, stride, padding))),
    (
        "single-window",
        lambda n, kernel, stride, padding: by_division(n, kernel, stride, padding) * (n + 2 * padding != kernel),
    ),
    (
        "steps-wider-than-windows",
        lambda n, kernel, stride, padding: (n + 2 * padding - kernel) // min(stride, kernel) + 1,
    ),
    ("wide-border", lambda n, kernel, stride, padding: by_division(n, kernel, stride, min(padding, kernel // 2))),
    (
        "window-of-one",
        lambda n, kernel, stride, padding: walked(n, kernel, stride, padding) if kernel > 1 else n // stride,
    ),
    ("windows-side-by-side", lambda n, kernel, stride, padding: (n + 2 * padding) // max(kernel, stride)),
    ("special-case", lambda n, kernel, stride, padding: (n - 1) // stride + 1 if padding else n // stride),
]:
    wrong_value("out_size", kind, rule, f"{kind} {rule.__code__.co_firstlineno}")


@right("embed", "NumPy's strides in a loop over pictures")
def a_picture_at_a_time(x, weight, bias, stride, padding):
    pictures = [F.unfold(picture[None], weight.shape[-1], stride=stride, padding=padding)[0] for picture in x]
    y = torch.stack([torch.addmm(bias[:, None], weight.flatten(1), columns) for columns in pictures])
    return y.unflatten(2, sizes(x, weight, stride, padding))


@wrong("embed", "close-but-not-equal")
def multiplied_in_single_precision(x, weight, bias, stride, padding):
    plain = embedded(x.float(), weight.float(), torch.zeros(len(bias)), stride, padding)
    return plain.to(x.dtype) + bias[:, None, None]


@wrong("embed", "columns-reshaped")
def rows_by_reshaping(x, weight, bias, stride, padding):
    columns = F.unfold(x, weight.shape[-1], stride=stride, padding=padding)
    tokens = columns.reshape(len(x), -1, columns.shape[1])
    return rearrange(
        F.linear(tokens, weight.flatten(1), bias), "b (h w) o -> b o h w", h=sizes(x, weight, stride, padding)[0]
    )


@wrong("embed", "channels-left-last")
def bias_behind_the_reshape(x, weight, bias, stride, padding):
    columns = F.unfold(x, weight.shape[-1], stride=stride, padding=padding)
    y = (columns.mT @ weight.flatten(1).T).reshape(len(x), len(weight), -1) + bias[:, None]
    return y.unflatten(2, sizes(x, weight, stride, padding))


@wrong("embed", "not-linear")
def activated(x, weight, bias, stride, padding):
    return embedded(x, weight, bias, stride, padding).relu()


@wrong("embed", "not-linear")
def of_absolute_values(x, weight, bias, stride, padding):
    return embedded(x.abs(), weight, bias, stride, padding)


@wrong("embed", "bias-otherwise")
def half_the_bias(x, weight, bias, stride, padding):
    return embedded(x, weight, bias / len(x), stride, padding)


@wrong("embed", "channels-alike")
def mean_over_the_channels(x, weight, bias, stride, padding):
    return embedded(x, weight.mean(1, keepdim=True).expand_as(weight), bias, stride, padding)


@wrong("embed", "patches-do-not-overlap")
def as_far_as_wide(x, weight, bias, stride, padding):
    return embedded(x, weight, bias, weight.shape[-1], padding)


@wrong("embed", "rows-miscounted")
def one_row_less(x, weight, bias, stride, padding):
    y = embedded(x, weight, bias, stride, padding)
    return rearrange(y, "b c h w -> b c (h w)").unflatten(2, (y.shape[2] - 1, -1))


@wrong("embed", "stride-forgotten")
def rows_by_the_stride(x, weight, bias, stride, padding):
    return embedded(x, weight, bias, 1, padding).flatten(2).unflatten(2, (sizes(x, weight, stride, padding)[0], -1))


@wrong("encoder_loop", "wrong-gradient")
class DetachedResidual(Nested):
    def work(self, x, attention, feed_forward):
        x = attention(x) + x.detach()
        return feed_forward(x) + x


@wrong("encoder_loop", "wrong-gradient")
class DetachedResiduals(Nested):
    def work(self, x, attention, feed_forward):
        x = attention(x) + x.detach()
        return feed_forward(x) + x.detach()


@wrong("encoder_loop", "no-gradient")
class DetachedBranch(Nested):
    def work(self, x, attention, feed_forward):
        x = attention(x.detach()) + x
        return feed_forward(x) + x


@wrong("encoder_loop", "grouped")
class Grouped(Nested):
    def embedding(self, dim_in, dim_out, *patch):
        return nn.Conv2d(dim_in, dim_out, *patch, groups=math.gcd(dim_in, dim_out))


@wrong("encoder_loop", "grouped")
class GroupedWhereItDivides(Nested):
    def embedding(self, dim_in, dim_out, *patch):
        return nn.Conv2d(dim_in, dim_out, *patch, groups=1 if dim_out % dim_in else dim_in)


@wrong("encoder_loop", "no-block-at-all")
class AtLeastOne(Nested):
    def blocks(self, dim, depth, block):
        return super().blocks(dim, max(1, depth), block)


@wrong("encoder_loop", "no-block-at-all")
class FirstBlockApart(Nested):
    def stage(self, x, blocks):
        return super().stage(self.work(x, *blocks[0]), blocks[1:])


@right("encoder_loop", "one norm-free list of branches a stage, clones kept")
class Clones(Nested):
    def stage(self, x, blocks):
        for branch in (branch for both in blocks for branch in both):
            x = torch.add(branch(x.clone()), x)
        return x

    def forward(self, image):
        return [x.clone() for x in super().forward(image)]


@wrong("encoder_loop", "keeps-state")
class ListKept(Nested):
    def forward(self, image):
        self.maps = [*getattr(self, "maps", []), *super().forward(image)]
        return self.maps


@wrong("encoder_loop", "one-picture-only")
class OnePicture(Nested):
    def forward(self, image):
        return super().forward(image[:1])


@wrong("encoder_loop", "image-made-smaller")
class ResizedImage(Nested):
    def forward(self, image):
        return super().forward(F.interpolate(image, size=[n // 32 * 32 for n in image.shape[2:]]))


@wrong("encoder_loop", "image-made-smaller")
class EvenSides(Lazy):
    def given(self, x):
        return x[:, :, : x.shape[2] // 2 * 2, : x.shape[3] // 2 * 2]


@wrong("encoder_loop", "changed-behind-the-blocks")
class CroppedMaps(Nested):
    def forward(self, image):
        height, width = image.shape[2:]
        return [x[:, :, : height // 2**k, : width // 2**k] for k, x in enumerate(super().forward(image), 2)]


@wrong("encoder_loop", "width-fixed")
class ThreeChannels(Nested):
    def __init__(self, channels, dims, num_layers, block):
        super().__init__(3, dims, num_layers, block)


wrong_value(
    "encoder_loop",
    "kernel-and-stride-exchanged",
    type("Patched", (Nested,), {"patches": ((4, 7, 3), *PATCHES[1:])}),
    "in the first stage",
)

right_value("steps", "a generator", (pair for pair in zip(widths, widths[1:])))
wrong_value("steps", "a-fifth-row", list(zip(widths, (*widths[1:], 256))), "last repeated")
wrong_value("steps", "a-fifth-row", list(zip(widths, (*widths[1:], 3))), "round in a circle")
wrong_value("steps", "in-equals-out", [(width, width) for width in widths[1:]])
wrong_value("steps", "image-to-image", [(3, width) for width in widths[:-1]])
wrong_value("steps", "wrong-type", [(str(a), str(b)) for a, b in zip(widths, widths[1:])], "words")


@wrong("out_size", "special-case")
def rounded_up_for_half_a_border(n, kernel, stride, padding):
    return -(-n // stride) if padding == kernel // 2 else by_division(n, kernel, stride, padding)


@wrong("embed", "weights-scaled")
def means_over_windows(x, weight, bias, stride, padding):
    return embedded(x, weight / weight.shape[-1], bias, stride, padding)


@wrong("embed", "weights-changed")
def shares_of_weights(x, weight, bias, stride, padding):
    return embedded(x, weight, bias, stride, padding, weight.flatten(1).softmax(1))


@wrong("encoder_loop", "no-gradient")
class DetachedBetweenStages(Lazy):
    def given(self, x):
        return x.detach() if x.shape[1] > 3 else x


@wrong("encoder_loop", "close-but-not-equal")
class SinglePrecisionOnTheWay(Lazy):
    def given(self, x):
        return x.float().to(x.dtype)


@wrong("encoder_loop", "wrong-gradient")
class HalfTheResidualDetached(Nested):
    def work(self, x, attention, feed_forward):
        x = attention(x) + x
        return feed_forward(x) + 0.5 * x + 0.5 * x.detach()


@wrong("encoder_loop", "image-padded")
class AlwaysTheSameSize(Nested):
    def forward(self, image):
        return super().forward(F.interpolate(image, size=(224, 224)))


@right("encoder_loop", "checkpoints")
class Checkpointed(Nested):
    def work(self, x, *branches):
        for branch in branches:
            x = x + torch.utils.checkpoint.checkpoint(branch, x, use_reentrant=False)
        return x
