"""Answers to the exercises of chapter 6."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from catalogue import right, right_value, wrong, wrong_value
from einops import rearrange
from torch import nn

import segformer_edu as se

# 6.1 ------------------------------------------------------------------------------------------------------------------

right("mlp_decoder", "the library's")(se.MLPDecoder)


@right("mlp_decoder", "written out")
class Head(nn.Module):
    """The right answer, whose steps the wrong ones below change."""

    def __init__(self, *, dims, decoder_dim, num_classes):
        super().__init__()
        self.project = nn.ModuleList(self.projections(dims, decoder_dim))
        self.fuse, self.classify = self.last(dims, decoder_dim, num_classes)

    def projections(self, dims, width):
        return [nn.Conv2d(dim, width, 1) for dim in dims]

    def last(self, dims, width, classes):
        return nn.Conv2d(4 * width, width, 1), nn.Conv2d(width, classes, 1)

    def enlarge(self, x, first):
        return F.interpolate(x, size=first.shape[2:])

    def join(self, maps):
        return torch.cat(maps, 1)

    def end(self, x):
        return self.classify(self.fuse(x))

    def forward(self, maps):
        fused = [self.enlarge(project(x), maps[0]) for project, x in zip(self.project, maps)]
        return self.end(self.join(fused))


@right("mlp_decoder", "transformers' MLPs: nn.Linear on tokens")
class Linears(nn.Module):
    def __init__(self, dims, decoder_dim, num_classes):
        super().__init__()
        self.linear_c = nn.ModuleList([nn.Linear(dim, decoder_dim) for dim in dims])
        self.linear_fuse = nn.Linear(len(dims) * decoder_dim, decoder_dim)
        self.linear_pred = nn.Linear(decoder_dim, num_classes)

    def forward(self, encoder_hidden_states):
        height, width = encoder_hidden_states[0].shape[-2:]
        states = []
        for x, mlp in zip(encoder_hidden_states, self.linear_c):
            tokens = mlp(x.flatten(2).transpose(1, 2))
            tokens = rearrange(tokens, "b (h w) c -> b c h w", h=x.shape[2])
            states.append(F.interpolate(tokens, size=(height, width)).movedim(1, -1))
        return self.linear_pred(self.linear_fuse(torch.cat(states, -1))).movedim(-1, 1)


@right("mlp_decoder", "four numbered layers, nn.Upsample, the first map as it is")
class Numbered(nn.Module):
    def __init__(self, *, dims, decoder_dim, num_classes):
        super().__init__()
        self.linear_c1, self.linear_c2, self.linear_c3, self.linear_c4 = (nn.Conv2d(d, decoder_dim, 1) for d in dims)
        self.linear_pred = nn.Conv2d(decoder_dim, num_classes, 1)
        self.linear_fuse = nn.Conv2d(4 * decoder_dim, decoder_dim, 1)

    def forward(self, maps):
        c1, c2, c3, c4 = maps
        up = nn.Upsample(size=c1.shape[2:])
        joined = [self.linear_c1(c1), up(self.linear_c2(c2)), up(self.linear_c3(c3)), up(self.linear_c4(c4))]
        return self.linear_pred(self.linear_fuse(torch.cat(joined, dim=1)))


@right("mlp_decoder", "enlarged first, pieces of the fuse added")
class Pieces(nn.Module):
    def __init__(self, *, dims, decoder_dim, num_classes):
        super().__init__()
        self.project = nn.ModuleList([nn.Conv2d(dim, decoder_dim, 1) for dim in dims])
        self.pieces = nn.ModuleList([nn.Conv2d(decoder_dim, decoder_dim, 1, bias=i == 0) for i in range(4)])
        self.classify = nn.Conv2d(decoder_dim, num_classes, 1)

    def forward(self, maps):
        size = maps[0].shape[2:]
        large = [F.interpolate(x, size) for x in maps]
        return self.classify(sum(piece(p(x)) for piece, p, x in zip(self.pieces, self.project, large)))


@right("mlp_decoder", "indices in place of interpolate")
class Indexed(Head):
    def enlarge(self, x, first):
        rows, columns = (torch.arange(n) * m // n for n, m in zip(first.shape[2:], x.shape[2:]))
        return x[:, :, rows][..., columns]


@wrong("mlp_decoder", "scale-factor")
class Factors(Head):
    """The article's."""

    def forward(self, maps):
        fused = [F.interpolate(p(x), scale_factor=2**i) for i, (p, x) in enumerate(zip(self.project, maps))]
        return self.end(self.join(fused))


@wrong("mlp_decoder", "scale-factor")
class DoubledStepByStep(Head):
    def forward(self, maps):
        fused = [project(x) for project, x in zip(self.project, maps)]
        for i in range(4):
            for _ in range(i):
                fused[i] = F.interpolate(fused[i], scale_factor=2)
        return self.end(self.join(fused))


@wrong("mlp_decoder", "not-enlarged")
class AsTheyCome(Head):
    def enlarge(self, x, first):
        return x


@wrong("mlp_decoder", "projections-exchanged")
class Reversed(Head):
    def projections(self, dims, width):
        return super().projections(dims[::-1], width)


@wrong("mlp_decoder", "widths-do-not-fit")
class NarrowFuse(Head):
    def last(self, dims, width, classes):
        return nn.Conv2d(width, width, 1), nn.Conv2d(width, classes, 1)


@wrong("mlp_decoder", "widths-do-not-fit")
class FuseOfTheDims(Head):
    def last(self, dims, width, classes):
        return nn.Conv2d(sum(dims), width, 1), nn.Conv2d(width, classes, 1)


@wrong("mlp_decoder", "enlarged-to-the-image")
class ImageSize(Head):
    def enlarge(self, x, first):
        return F.interpolate(x, size=[4 * n for n in first.shape[2:]])


@wrong("mlp_decoder", "enlarged-to-the-image")
class EnlargedAtTheEnd(Head):
    def end(self, x):
        return F.interpolate(super().end(x), scale_factor=4, mode="bilinear")


@wrong("mlp_decoder", "size-of-a-coarse-map")
class Shrunk(Head):
    def forward(self, maps):
        return self.end(self.join([self.enlarge(p(x), maps[-1]) for p, x in zip(self.project, maps)]))


@wrong("mlp_decoder", "batch-longer")
class OverTheBatch(Head):
    def last(self, dims, width, classes):
        return nn.Conv2d(width, width, 1), nn.Conv2d(width, classes, 1)

    def join(self, maps):
        return torch.cat(maps)


@wrong("mlp_decoder", "not-the-classes")
class NoClassifier(Head):
    def end(self, x):
        return self.fuse(x)


@wrong("mlp_decoder", "softmax-at-the-end")
class Shares(Head):
    def end(self, x):
        return super().end(x).softmax(1)


@wrong("mlp_decoder", "softmax-at-the-end")
class LogShares(Head):
    def end(self, x):
        return super().end(x).log_softmax(1)


@wrong("mlp_decoder", "softmax-at-the-end")
class Sigmoid(Head):
    def end(self, x):
        return super().end(x).sigmoid()


@wrong("mlp_decoder", "classes-not-scores")
class Decided(Head):
    def end(self, x):
        return super().end(x).argmax(1)


@wrong("mlp_decoder", "not-linear")
class Relu(Head):
    """The released decoder's, without its norm."""

    def end(self, x):
        return self.classify(self.fuse(x).relu())


@wrong("mlp_decoder", "not-linear")
class ReluBehindTheProjections(Head):
    def enlarge(self, x, first):
        return super().enlarge(x.relu(), first)


@wrong("mlp_decoder", "differs-in-eval")
class LargerInTraining(Head):
    def end(self, x):
        return super().end(2 * x if self.training else x)


@wrong("mlp_decoder", "norm-inside")
class Normalised(Head):
    def last(self, dims, width, classes):
        fuse, classify = super().last(dims, width, classes)
        return nn.Sequential(fuse, nn.InstanceNorm2d(width, track_running_stats=True, momentum=0.0)), classify


@wrong("mlp_decoder", "not-deterministic")
class Dropped(Head):
    def end(self, x):
        return self.classify(F.dropout2d(self.fuse(x), 0.5, self.training))


@wrong("mlp_decoder", "map-ignored")
class ThreeMaps(Head):
    def join(self, maps):
        return torch.cat([*maps[:3], maps[2]], 1)


@wrong("mlp_decoder", "looks-at-neighbours")
class WideFuse(Head):
    def last(self, dims, width, classes):
        return nn.Conv2d(4 * width, width, 3, padding=1), nn.Conv2d(width, classes, 1)


@wrong("mlp_decoder", "bilinear")
class Bilinear(Head):
    def enlarge(self, x, first):
        return F.interpolate(x, size=first.shape[2:], mode="bilinear", align_corners=False)


@wrong("mlp_decoder", "bilinear-corners")
class Corners(Head):
    def enlarge(self, x, first):
        return F.interpolate(x, size=first.shape[2:], mode="bilinear", align_corners=True)


@wrong("mlp_decoder", "bicubic")
class Bicubic(Head):
    def enlarge(self, x, first):
        return F.interpolate(x, size=first.shape[2:], mode="bicubic")


@wrong("mlp_decoder", "other-nearest")
class Exact(Head):
    def enlarge(self, x, first):
        return F.interpolate(x, size=first.shape[2:], mode="nearest-exact")


@wrong("mlp_decoder", "means-of-areas")
class Pooled(Head):
    def enlarge(self, x, first):
        return F.adaptive_avg_pool2d(x, first.shape[2:])


@wrong("mlp_decoder", "maps-flipped")
class Flipped(Head):
    def enlarge(self, x, first):
        return x if x.shape == first.shape else super().enlarge(x, first).flip(3)

    def forward(self, maps):
        fused = [self.enlarge(p(x), maps[0]) if i else p(x) for i, (p, x) in enumerate(zip(self.project, maps))]
        return self.end(self.join(fused))


@wrong("mlp_decoder", "axes-exchanged")
class Sideways(Head):
    def enlarge(self, x, first):
        return F.interpolate(x, size=first.shape[:1:-1])


@wrong("mlp_decoder", "concatenated-backwards")
class LastFirst(Head):
    """The released code's order."""

    def join(self, maps):
        return torch.cat(maps[::-1], 1)


@wrong("mlp_decoder", "added-not-concatenated")
class Added(Head):
    def last(self, dims, width, classes):
        return nn.Conv2d(width, width, 1), nn.Conv2d(width, classes, 1)

    def join(self, maps):
        return sum(maps)


@wrong("mlp_decoder", "fuse-missing")
class StraightOn(Head):
    def last(self, dims, width, classes):
        return nn.Identity(), nn.Conv2d(4 * width, classes, 1)


@wrong("mlp_decoder", "fuse-missing")
class SumStraightOn(Head):
    def last(self, dims, width, classes):
        return nn.Identity(), nn.Conv2d(width, classes, 1)

    def join(self, maps):
        return sum(maps)


@wrong("mlp_decoder", "projection-missing")
class Unprojected(Head):
    def projections(self, dims, width):
        return [nn.Identity() for _ in dims]

    def last(self, dims, width, classes):
        return nn.Conv2d(sum(dims), width, 1), nn.Conv2d(width, classes, 1)


@wrong("mlp_decoder", "bias-missing")
class ReleasedFuse(Head):
    def last(self, dims, width, classes):
        return nn.Conv2d(4 * width, width, 1, bias=False), nn.Conv2d(width, classes, 1)


@wrong("mlp_decoder", "bias-missing")
class NoBiases(Head):
    def projections(self, dims, width):
        return [nn.Conv2d(dim, width, 1, bias=False) for dim in dims]


@wrong("mlp_decoder", "width-ignored")
class WidthOfTheClasses(Head):
    def __init__(self, *, dims, decoder_dim, num_classes):
        super().__init__(dims=dims, decoder_dim=num_classes, num_classes=num_classes)


@wrong("mlp_decoder", "width-ignored")
class FixedWidth(Head):
    def __init__(self, *, dims, decoder_dim, num_classes):
        super().__init__(dims=dims, decoder_dim=256, num_classes=num_classes)


@wrong("mlp_decoder", "parameters")
class TwoLayersAProjection(Head):
    def projections(self, dims, width):
        return [nn.Sequential(nn.Conv2d(dim, width, 1), nn.Conv2d(width, width, 1)) for dim in dims]


@wrong("mlp_decoder", "changes-the-list")
class Popped(Head):
    def forward(self, maps):
        size = maps[0].shape[2:]
        return self.end(self.join([F.interpolate(p(maps.pop(0)), size) for p in self.project]))


@wrong("mlp_decoder", "changes-the-list")
class Overwritten(Head):
    def forward(self, maps):
        for i, project in enumerate(self.project):
            maps[i] = self.enlarge(project(maps[i]), maps[0])
        return self.end(self.join(maps))


@wrong("mlp_decoder", "arguments-fixed")
class FixedDims(Head):
    def projections(self, dims, width):
        return super().projections((5, 3, 7, 4), width)


@wrong("mlp_decoder", "arguments-fixed")
class FixedClasses(Head):
    def last(self, dims, width, classes):
        return super().last(dims, width, 9)


@wrong("mlp_decoder", "layers-in-a-list")
class InAList(Head):
    def __init__(self, *, dims, decoder_dim, num_classes):
        super().__init__(dims=dims, decoder_dim=decoder_dim, num_classes=num_classes)
        layers = list(self.project)
        del self.project
        self.project = layers


@wrong("mlp_decoder", "no-gradient")
class Detached(Head):
    def enlarge(self, x, first):
        return super().enlarge(x, first).detach()


@wrong("mlp_decoder", "no-return")
class NoReturn(Head):
    def forward(self, maps):
        super().forward(maps)


@wrong("mlp_decoder", "signature", "could not run")
class OtherNames(Head):
    def __init__(self, in_channels, embed_dim, num_labels):
        super().__init__(dims=in_channels, decoder_dim=embed_dim, num_classes=num_labels)


wrong_value("mlp_decoder", "instance-given", se.MLPDecoder(dims=(1, 2, 3, 4), decoder_dim=2, num_classes=2))

# 6.2 ------------------------------------------------------------------------------------------------------------------

PLACES = 128 * 128


def decoder(dims, width, places=PLACES):
    return (
        sum(places // 4**i * dim * width for i, dim in enumerate(dims)),
        places * 4 * width * width,
        places * width * 150,
    )


B0, B2 = decoder((32, 64, 160, 256), 256), decoder((64, 128, 320, 512), 768)
SHARES = {
    "B0, fuse": B0[1],
    "B0, projections": B0[0],
    "B0, classifier": B0[2],
    "B0, share of 8.4 billion": sum(B0) / 8.4e9,
    "B2, fuse by B0's": 9,
    "B2, share of 62.4 billion": sum(B2) / 62.4e9,
}
right_value("decoder-macs", "exact", SHARES)
right_value(
    "decoder-macs", "rounded shares", SHARES | {"B0, share of 8.4 billion": 0.617, "B2, share of 62.4 billion": 0.668}
)
right_value("decoder-macs", "NumPy", {name: np.float64(value) for name, value in SHARES.items()})
for kind, entry, value in [
    ("a-quarter", "B0, fuse", PLACES * 256 * 256),
    ("places-of-the-image", "B0, fuse", 512 * 512 * 1024 * 256),
    ("places-forgotten", "B0, fuse", 1024 * 256),
    ("unprojected", "B0, fuse", PLACES * 512 * 256),
    ("coarse-places", "B0, fuse", (128**2 + 64**2 + 32**2 + 16**2) * 256 * 256),
    ("both-widths-four-times", "B0, fuse", PLACES * 1024 * 1024),
    ("macs-doubled", "B0, fuse", 2 * B0[1]),
    ("factor-of-thousand", "B0, fuse", B0[1] / 1e9),
    ("all-at-the-fine-size", "B0, projections", PLACES * 512 * 256),
    ("halved-once-a-stage", "B0, projections", PLACES * 256 * (32 + 64 / 2 + 160 / 4 + 256 / 8)),
    ("one-map-only", "B0, projections", PLACES * 32 * 256),
    ("unfused", "B0, classifier", PLACES * 1024 * 150),
    ("bias-counted", "B0, classifier", PLACES * 257 * 150),
    ("places-of-the-image", "B0, classifier", 512 * 512 * 256 * 150),
    ("fuse-alone", "B0, share of 8.4 billion", 0.511),
    ("decoder-by-encoder", "B0, share of 8.4 billion", sum(B0) / (8.4e9 - sum(B0))),
    ("percent", "B0, share of 8.4 billion", 61.7),
    ("encoder-share", "B0, share of 8.4 billion", 0.383),
    ("width-once", "B2, fuse by B0's", 3),
    ("width-cubed", "B2, fuse by B0's", 27),
    ("maps-wider-too", "B2, fuse by B0's", 18),
    ("inverted", "B2, fuse by B0's", 1 / 9),
    ("narrow-decoder", "B2, share of 62.4 billion", sum(decoder((64, 128, 320, 512), 256)) / 62.4e9),
    ("fuse-alone", "B2, share of 62.4 billion", B2[1] / 62.4e9),
    ("too-large", "B2, share of 62.4 billion", 0.9),
    ("too-small", "B2, share of 62.4 billion", 0.5),
]:
    wrong_value("decoder-macs", kind, SHARES | {entry: value}, f"{entry} {value:g}")

# 6.3 ------------------------------------------------------------------------------------------------------------------


def rewritten():
    """Compute the eight: which of the rewritings give the same logits."""
    torch.manual_seed(0)
    dims, sizes = (5, 3, 7, 4), ((12, 18), (6, 9), (3, 5), (2, 3))
    head = Head(dims=dims, decoder_dim=6, num_classes=9).double()
    maps = [torch.randn(2, dim, *size, dtype=torch.float64) for dim, size in zip(dims, sizes)]
    projected = [project(x) for project, x in zip(head.project, maps)]
    large = [F.interpolate(x, sizes[0]) for x in projected]
    weight, bias = head.fuse.weight, head.fuse.bias
    pieces = weight.chunk(4, 1)
    fused = F.conv2d(torch.cat(large, 1), weight, bias)
    both = torch.einsum("ko,oi->ki", head.classify.weight[..., 0, 0], weight[..., 0, 0])[..., None, None]
    constants = sum(piece[..., 0, 0] @ project.bias for piece, project in zip(pieces, head.project))
    bare = [F.interpolate(F.conv2d(x, project.weight), sizes[0]) for x, project in zip(maps, head.project)]
    ways = {
        "project after enlarging": head.end(
            torch.cat([project(F.interpolate(x, sizes[0])) for project, x in zip(head.project, maps)], 1)
        ),
        "four pieces of the fuse, then a sum": head.classify(
            sum(F.conv2d(x, piece) for x, piece in zip(large, pieces)) + bias[:, None, None]
        ),
        "last map first, pieces permuted": head.classify(
            F.conv2d(torch.cat(large[::-1], 1), torch.cat(pieces[::-1], 1), bias)
        ),
        "last map first, pieces as they were": head.classify(F.conv2d(torch.cat(large[::-1], 1), weight, bias)),
        "a ReLU behind the fuse": head.classify(fused.relu()),
        "bilinear in place of nearest": head.end(
            torch.cat([F.interpolate(x, sizes[0], mode="bilinear") for x in projected], 1)
        ),
        "fuse and classifier as one layer": F.conv2d(
            torch.cat(large, 1), both, head.classify.weight[..., 0, 0] @ bias + head.classify.bias
        ),
        "no biases in the projections, a new one in the fuse": head.classify(
            F.conv2d(torch.cat(bare, 1), weight, bias + constants)
        ),
    }
    return {name: bool(torch.allclose(y, head(maps))) for name, y in ways.items()}


SAME = rewritten()
right_value("same-logits", "computed", SAME)
right_value("same-logits", "another order", dict(reversed(SAME.items())))
right_value("same-logits", "NumPy's truth values", {name: np.bool_(same) for name, same in SAME.items()})
for kind, entry in [
    ("enlarging-and-mixing", "project after enlarging"),
    ("pieces", "four pieces of the fuse, then a sum"),
    ("permutation", "last map first, pieces permuted"),
    ("permutation-forgotten", "last map first, pieces as they were"),
    ("a-relu", "a ReLU behind the fuse"),
    ("another-way", "bilinear in place of nearest"),
    ("two-linear-layers", "fuse and classifier as one layer"),
    ("constants", "no biases in the projections, a new one in the fuse"),
]:
    wrong_value("same-logits", kind, SAME | {entry: not SAME[entry]}, entry)
wrong_value("same-logits", "not-a-number-yet", SAME | {"a ReLU behind the fuse": "no"})

# 6.4 ------------------------------------------------------------------------------------------------------------------


@right("class_map", "interpolate and argmax")
def enlarged(logits, size):
    return F.interpolate(logits, size=size, mode="bilinear").argmax(1)


@right("class_map", "nn.Upsample, softmax and max")
def upsampled(logits, size):
    return nn.Upsample(size, mode="bilinear")(logits).softmax(1).max(1).indices


@right("class_map", "two matrices, a picture at a time")
def by_matrices(logits, size):
    def weights(small, large):
        return F.interpolate(torch.eye(small, dtype=logits.dtype)[None], size=large, mode="linear")[0]

    rows, columns = (weights(small, large) for small, large in zip(logits.shape[2:], size))
    return torch.stack([torch.einsum("hH,khw,wW->HWk", rows, picture, columns).argmax(-1) for picture in logits])


@right("class_map", "NumPy's argmax, 32-bit numbers")
def by_numpy(logits, size):
    return torch.from_numpy(F.interpolate(logits, size, mode="bilinear").numpy().argmax(1).astype(np.int32))


def large(logits, size, mode="bilinear", **options):
    return F.interpolate(logits, size=size, mode=mode, **options)


for kind, style, function in [
    (
        "enlarged-by-copying",
        "nearest",
        lambda x, size: large(x.argmax(1, True).double(), size, "nearest")[:, 0].long(),
    ),
    ("chosen-before-enlarged", "mixed", lambda x, size: large(x.argmax(1, True).double(), size)[:, 0].long()),
    ("chosen-before-enlarged", "mixed floats", lambda x, size: large(x.argmax(1, True).double(), size)[:, 0]),
    ("enlarged-by-copying", "the default", lambda x, size: F.interpolate(x, size).argmax(1)),
    ("corners-pinned", "True", lambda x, size: large(x, size, align_corners=True).argmax(1)),
    ("bicubic", "bicubic", lambda x, size: large(x, size, "bicubic").argmax(1)),
    ("shares-first", "softmax", lambda x, size: large(x.softmax(1), size).argmax(1)),
    ("shares-first", "sigmoid", lambda x, size: large(x.sigmoid(), size).argmax(1)),
    ("smallest-chosen", "argmin", lambda x, size: large(x, size).argmin(1)),
    ("scores-not-classes", "max", lambda x, size: large(x, size).max(1).values),
    ("scores-not-classes", "logits", large),
    ("scores-not-classes", "softmax", lambda x, size: large(x, size).softmax(1)),
    ("wrong-axis", "pictures", lambda x, size: large(x, size).argmax(0)),
    ("wrong-axis", "columns", lambda x, size: large(x, size).argmax(-1)),
    ("wrong-axis", "rows", lambda x, size: large(x, size).argmax(2)),
    ("axis-kept", "keepdim", lambda x, size: large(x, size).argmax(1, keepdim=True)),
    ("one-of-many", "one-hot", lambda x, size: F.one_hot(large(x, size).argmax(1), x.shape[1]).movedim(-1, 1)),
    ("not-enlarged", "no size", lambda x, size: x.argmax(1)),
    ("times-four", "factor", lambda x, size: large(x, None, scale_factor=4).argmax(1)),
    ("size-ignored", "fixed", lambda x, size: large(x, (360, 480)).argmax(1)),
    ("size-ignored", "factor of 2", lambda x, size: large(x, None, scale_factor=2).argmax(1)),
    ("height-and-width", "turned", lambda x, size: large(x, size[::-1]).argmax(1)),
    ("height-and-width", "turned back", lambda x, size: large(x, size[::-1]).argmax(1).mT),
    ("numbers-from-one", "plus one", lambda x, size: large(x, size).argmax(1) + 1),
    ("cropped", "factor and cut", lambda x, size: large(x, None, scale_factor=4)[..., : size[0], : size[1]].argmax(1)),
    ("thresholded", "above one half", lambda x, size: large(x, size)[:, 0] > 0.5),
    ("not-whole-numbers", "floats", lambda x, size: enlarged(x, size).float()),
    ("no-return", "nothing", lambda x, size: None if enlarged(x, size) is None else [][:0] or None),
    ("wrong-type", "array", lambda x, size: enlarged(x, size).numpy()),
    ("changes-input", "in place", lambda x, size: large(x.mul_(2), size).argmax(1)),
]:
    wrong_value("class_map", kind, function, style)
wrong_value("class_map", "signature", lambda logits: logits, outcome="could not run")

# 6.5 ------------------------------------------------------------------------------------------------------------------


def collapsed(project, fuse, pieces=None, bias=...):
    """The right answer, with what is changed in it."""
    pieces = fuse.weight.detach().flatten(1).chunk(4, 1)[::-1] if pieces is None else pieces
    matrices = [piece @ layer.weight.detach().flatten(1) for piece, layer in zip(pieces, project)]
    own = 0 if fuse.bias is None else fuse.bias.detach()
    constant = sum(piece @ layer.bias.detach() for piece, layer in zip(pieces, project)) + own
    return matrices, constant if bias is ... else bias


right("collapse_head", "chunks, reversed")(collapsed)


@right("collapse_head", "einops")
def by_einops(project, fuse):
    pieces = rearrange(fuse.weight, "o (i d) 1 1 -> i o d", i=4).flip(0)
    matrices = [torch.einsum("od,dc->oc", piece, p.weight[..., 0, 0]) for piece, p in zip(pieces, project)]
    constant = torch.einsum("iod,id->o", pieces, torch.stack([p.bias for p in project]))
    return tuple(matrices), constant if fuse.bias is None else constant + fuse.bias


@right("collapse_head", "asks the layers: impulses and zeros")
@torch.no_grad()
def by_asking(project, fuse):
    def head(vectors):
        return fuse(torch.cat([p(x) for p, x in zip(project, vectors)][::-1], 1))[..., 0, 0]

    zeros = [torch.zeros(1, p.in_channels, 1, 1, dtype=fuse.weight.dtype) for p in project]
    constant, matrices = head(zeros)[0], []
    for i, p in enumerate(project):
        ones = torch.eye(p.in_channels, dtype=fuse.weight.dtype)[..., None, None]
        vectors = [x.expand(p.in_channels, -1, 1, 1) for x in zeros]
        matrices.append((head([*vectors[:i], ones, *vectors[i + 1 :]]) - constant).T)
    return [matrices, constant]


def flat(layer):
    return layer.weight.detach().flatten(1)


for kind, style, function in [
    ("pieces-in-the-other-order", "not reversed", lambda p, f: collapsed(p, f, flat(f).chunk(4, 1))),
    ("pieces-interleaved", "every fourth", lambda p, f: collapsed(p, f, [flat(f)[:, i::4] for i in range(4)])),
    ("list-reversed", "last first", lambda p, f: (collapsed(p, f)[0][::-1], collapsed(p, f)[1])),
    ("transposed", "columns out", lambda p, f: ([M.T for M in collapsed(p, f)[0]], collapsed(p, f)[1])),
    ("fuse-forgotten", "projections", lambda p, f: ([flat(layer) for layer in p], collapsed(p, f)[1])),
    ("projections-forgotten", "pieces", lambda p, f: (list(flat(f).chunk(4, 1)), collapsed(p, f)[1])),
    ("factors-exchanged", "the other way", lambda p, f: ([flat(a) @ b for a, b in zip(p, flat(f).chunk(4, 1))], 0)),
    ("not-a-pair", "matrices", lambda p, f: collapsed(p, f)[0]),
    ("not-a-pair", "a layer", lambda p, f: f),
    ("not-four", "three", lambda p, f: (collapsed(p, f)[0][:3], collapsed(p, f)[1])),
    ("one-wide-matrix", "cat", lambda p, f: (torch.cat(collapsed(p, f)[0], 1), collapsed(p, f)[1])),
    ("still-a-kernel", "1×1", lambda p, f: ([M[..., None, None] for M in collapsed(p, f)[0]], collapsed(p, f)[1])),
    ("bias-forgotten", "zeros", lambda p, f: collapsed(p, f, bias=torch.zeros(f.out_channels).double())),
    ("bias-forgotten", "None", lambda p, f: collapsed(p, f, bias=None)),
    ("bias-of-the-fuse-only", "the fuse's", lambda p, f: collapsed(p, f, bias=f.bias.detach())),
    ("bias-of-the-projections-only", "not the fuse's", lambda p, f: collapsed(p, f, bias=collapsed(p, f)[1] - f.bias)),
    ("bias-added-as-it-is", "sum", lambda p, f: collapsed(p, f, bias=sum(q.bias for q in p) + f.bias)),
    (
        "bias-met-the-wrong-piece",
        "not reversed",
        lambda p, f: collapsed(p, f, bias=collapsed(p, f, flat(f).chunk(4, 1))[1]),
    ),
    ("bias-a-list", "four", lambda p, f: collapsed(p, f, bias=[q.bias for q in p])),
    ("fails-without-bias", "adds None", lambda p, f: collapsed(p, f, bias=collapsed(p, f)[1] + 0 * f.bias)),
    ("changes-the-layers", "in place", lambda p, f: (f.weight.data.mul_(2), collapsed(p, f))[1]),
    ("wrong-dtype", "float32", lambda p, f: ([M.float() for M in collapsed(p, f)[0]], collapsed(p, f)[1])),
    ("wrong-type", "words", lambda p, f: ("four", collapsed(p, f)[1])),
    ("no-return", "nothing", lambda p, f: [][:0] or None if collapsed(p, f) else 1),
    ("scaled-by-constant", "doubled", lambda p, f: ([2 * M for M in collapsed(p, f)[0]], collapsed(p, f)[1])),
]:
    wrong_value("collapse_head", kind, function, style)
wrong_value("collapse_head", "signature", lambda decoder: decoder, outcome="could not run")

# Warm-ups -------------------------------------------------------------------------------------------------------------

small = torch.tensor([[0.0, 6], [12, 18]])[None, None]
right_value("enlarge", "interpolate", F.interpolate(small, size=(4, 6), mode="bilinear"))
right_value(
    "enlarge",
    "by hand",
    [[[[0, 0, 2, 4, 6, 6], [3, 3, 5, 7, 9, 9], [9, 9, 11, 13, 15, 15], [12, 12, 14, 16, 18, 18]]]],
)
wrong_value("enlarge", "nearest", F.interpolate(small, size=(4, 6)))
wrong_value("enlarge", "corners-pinned", F.interpolate(small, size=(4, 6), mode="bilinear", align_corners=True))
wrong_value("enlarge", "bicubic", F.interpolate(small, size=(4, 6), mode="bicubic"))
wrong_value("enlarge", "height-and-width", F.interpolate(small, size=(6, 4), mode="bilinear"))

scores = torch.tensor(
    [[[5.0, 1, 2], [0, 3, 3]], [[4, 2, 9], [1, 2, 8]], [[0, 7, 1], [6, 4, 0]], [[1, 3, 2], [5, 9, 7]]]
)[None]
right_value("classes", "argmax", scores.argmax(dim=1))
right_value("classes", "max", scores.max(1).indices.tolist())
right_value("classes", "softmax first", scores.softmax(1).argmax(1).numpy())
wrong_value("classes", "scores-not-classes", scores.amax(1))
wrong_value("classes", "among-the-rows", scores.argmax(2))
wrong_value("classes", "among-the-columns", scores.argmax(3))
wrong_value("classes", "among-the-pictures", scores.argmax(0))
wrong_value("classes", "axis-kept", scores.argmax(1, keepdim=True))
wrong_value("classes", "smallest-chosen", scores.argmin(1))
wrong_value("classes", "numbers-from-one", scores.argmax(1) + 1)
wrong_value("classes", "shares", scores.softmax(1))
wrong_value("classes", "reshaped", scores.reshape(1, 2, 3, 4).argmax(-1))
wrong_value("enlarge", "tiled", small.repeat(1, 1, 2, 3))

# A second round -------------------------------------------------------------------------------------------------------


class SixLayers(nn.Module):
    def __init__(self, *, dims, decoder_dim, num_classes):
        super().__init__()
        self.project = nn.ModuleList([nn.Conv2d(dim, decoder_dim, 1) for dim in dims])
        self.fuse = nn.Conv2d(4 * decoder_dim, decoder_dim, 1)
        self.classify = nn.Conv2d(decoder_dim, num_classes, 1)


@wrong("mlp_decoder", "fuse-unused")
class AddedWithoutFuse(SixLayers):
    def forward(self, maps):
        size = maps[0].shape[2:]
        return self.classify(sum(F.interpolate(layer(x), size=size) for layer, x in zip(self.project, maps)))


@wrong("mlp_decoder", "fuse-unused")
class MeanOfScores(SixLayers):
    def forward(self, maps):
        size = maps[0].shape[2:]
        scores = [self.classify(F.interpolate(layer(x), size=size)) for layer, x in zip(self.project, maps)]
        return torch.stack(scores).mean(0)


@right("mlp_decoder", "rows and columns by index, the fuse in pieces")
class ByIndex(SixLayers):
    def forward(self, maps):
        height, width = maps[0].shape[2:]
        total = self.fuse.bias[:, None, None]
        for layer, x, piece in zip(self.project, maps, self.fuse.weight.chunk(4, 1)):
            rows, columns = torch.arange(height) * x.shape[2] // height, torch.arange(width) * x.shape[3] // width
            total = total + F.conv2d(layer(x)[:, :, rows][..., columns], piece)
        return self.classify(total)


@wrong("class_map", "enlarged-twice")
def in_two_steps(logits, size):
    return large(F.interpolate(logits, scale_factor=4, mode="bilinear"), size).argmax(1)


@wrong("collapse_head", "no-return")
@torch.no_grad()
def forgot_under_no_grad(project, fuse):
    collapsed(project, fuse)


@wrong("collapse_head", "bias-counted-otherwise")
def fuse_bias_for_each_map(project, fuse):
    matrices, bias = collapsed(project, fuse)
    return matrices, bias if fuse.bias is None else bias + 3 * fuse.bias


@wrong("collapse_head", "bias-counted-otherwise")
def mean_of_biases(project, fuse):
    matrices, bias = collapsed(project, fuse)
    own = 0 if fuse.bias is None else fuse.bias
    return matrices, (bias - own) / 4 + own


# What a reader tried --------------------------------------------------------------------------------------------------

for kind, entry, value in [
    ("one-digit", "B0, share of 8.4 billion", 0.6),
    ("one-digit", "B2, share of 62.4 billion", 0.7),
    ("not-divided", "B2, fuse by B0's", decoder((64, 128, 320, 512), 768)[1]),
    (
        "whole-decoders",
        "B2, fuse by B0's",
        sum(decoder((64, 128, 320, 512), 768)) / sum(decoder((32, 64, 160, 256), 256)),
    ),
    ("whole-decoders", "B2, fuse by B0's", 8.12),
]:
    wrong_value("decoder-macs", kind, SHARES | {entry: value}, f"{entry} {value:g} tried")


@wrong("class_map", "picture-axis-lost")
def squeezed(logits, size):
    return large(logits, size).argmax(1).squeeze()


@wrong("class_map", "chosen-before-enlarged")
def rounded_classes(logits, size):
    return large(logits.argmax(1, keepdim=True).float(), size).round().long()[:, 0]


@wrong("class_map", "scores-rounded")
def rounded_scores(logits, size):
    return large(logits, size).round().argmax(1)


@wrong("collapse_head", "columns-reversed")
def columns_turned(project, fuse):
    return collapsed(project, fuse, pieces=fuse.weight.flatten(1).flip(1).chunk(4, 1))


@wrong("collapse_head", "reshaped-not-cut")
def dealt_out(project, fuse):
    return collapsed(project, fuse, pieces=list(fuse.weight.reshape(4, len(fuse.weight), -1)))


@wrong("collapse_head", "reshaped-not-cut")
def dealt_out_backwards(project, fuse):
    return collapsed(project, fuse, pieces=list(fuse.weight.reshape(4, len(fuse.weight), -1).flip(0)))


@wrong("collapse_head", "cut-the-wrong-way")
def rows_cut(project, fuse):
    return collapsed(project, fuse, pieces=fuse.weight.flatten(1).chunk(4, 0)[::-1])


@wrong("collapse_head", "bias-on-the-other-side")
def bias_from_the_left(project, fuse):
    pieces = fuse.weight.flatten(1).chunk(4, 1)[::-1]
    own = 0 if fuse.bias is None else fuse.bias
    return collapsed(project, fuse, bias=sum(layer.bias @ piece for piece, layer in zip(pieces, project)) + own)


# What an adversary tried ----------------------------------------------------------------------------------------------

for kind, value in [
    ("rows-copied", large(small.repeat_interleave(2, 2), (4, 6))),
    ("columns-copied", large(small.repeat_interleave(3, 3), (4, 6))),
    ("continued-outside", [[[[r + c for c in (-2.0, 0, 2, 4, 6, 8)] for r in (-3, 3, 9, 15)]]]),
    ("equal-steps", [[[[r + c for c in range(6)] for r in (0, 4, 8, 12)]]]),
    ("in-two-steps", large(large(small, (4, 4)), (4, 6))),
    ("one-mean", torch.full((1, 1, 4, 6), 9.0)),
    ("turned-over", F.interpolate(small, size=(6, 4), mode="bilinear").mT),
    ("in-one-corner", F.pad(small, (0, 4, 0, 2))),
]:
    wrong_value("enlarge", kind, value)
for kind, value in [
    ("second-best", scores.topk(2, 1).indices[:, 1]),
    ("ranked", scores.argsort(1)),
    ("marks", (scores >= scores.amax(1, keepdim=True)).long()),
    ("marks", scores.softmax(1).round()),
]:
    wrong_value("classes", kind, value)


@wrong("mlp_decoder", "wrong-gradient")
class LastMapDetached(Head):
    def forward(self, maps):
        return super().forward([*maps[:3], maps[3].detach()])


@wrong("mlp_decoder", "wrong-gradient")
class FirstMapDetached(Numbered):
    def forward(self, maps):
        return super().forward([maps[0].detach(), *maps[1:]])


@wrong("mlp_decoder", "factor-rounded")
class FactorsOfSizes(Head):
    def enlarge(self, x, first):
        return F.interpolate(x, scale_factor=tuple(n / m for n, m in zip(first.shape[2:], x.shape[2:])))


@right("mlp_decoder", "nearest by rounding down a grid of places")
class Gathered(Head):
    def enlarge(self, x, first):
        for axis in (2, 3):
            places = torch.arange(first.shape[axis]) * (x.shape[axis] / first.shape[axis])
            x = x.index_select(axis, places.float().floor().long())
        return x


@wrong("mlp_decoder", "batch-shorter")
class OnePicture(Head):
    def join(self, maps):
        return super().join(maps)[:1]


@wrong("mlp_decoder", "batch-shorter")
class AsManyAsAtFirst(Head):
    def join(self, maps):
        self.pictures = getattr(self, "pictures", len(maps[0]))
        return super().join(maps)[: self.pictures]


@wrong("mlp_decoder", "keeps-state")
class FirstSizeKept(Head):
    def forward(self, maps):
        self.first = getattr(self, "first", maps[0])
        return self.end(self.join([self.enlarge(p(x), self.first) for p, x in zip(self.project, maps)]))


@wrong("mlp_decoder", "norm-inside")
class BatchNormInside(Head):
    def last(self, dims, width, classes):
        fuse, classify = super().last(dims, width, classes)
        return nn.Sequential(fuse, nn.BatchNorm2d(width), nn.ReLU()), classify


@wrong("mlp_decoder", "norm-inside")
class LayerNormInside(Head):
    def last(self, dims, width, classes):
        fuse, classify = super().last(dims, width, classes)
        return nn.Sequential(fuse, se.LayerNorm(width)), classify


@wrong("mlp_decoder", "reshaped-not-moved")
class TokensReshaped(Linears):
    def forward(self, maps):
        size, found = maps[0].shape[2:], []
        for x, mlp in zip(maps, self.linear_c):
            tokens = mlp(x.flatten(2).mT)
            found.append(F.interpolate(tokens.reshape(len(x), -1, *x.shape[2:]), size=size).movedim(1, -1))
        return self.linear_pred(self.linear_fuse(torch.cat(found, -1))).movedim(-1, 1)


@wrong("mlp_decoder", "reshaped-not-moved")
class MapsReshaped(Linears):
    def forward(self, maps):
        size, found = maps[0].shape[2:], []
        for x, mlp in zip(maps, self.linear_c):
            b, c, h, w = x.shape
            found.append(F.interpolate(mlp(x.reshape(b, h, w, c)).movedim(-1, 1), size=size).movedim(1, -1))
        return self.linear_pred(self.linear_fuse(torch.cat(found, -1))).movedim(-1, 1)


@wrong("mlp_decoder", "looks-at-neighbours")
class WideClassifier(Head):
    def last(self, dims, width, classes):
        return nn.Conv2d(4 * width, width, 1), nn.Conv2d(width, classes, 5, padding=2)


@wrong("mlp_decoder", "enlarged-in-steps")
class StageByStage(Head):
    def forward(self, maps):
        found = [project(x) for project, x in zip(self.project, maps)]
        for i in (3, 2, 1):
            found[i:] = [F.interpolate(x, size=maps[i - 1].shape[2:]) for x in found[i:]]
        return self.end(self.join(found))


@wrong("mlp_decoder", "cropped")
class RepeatedAndCut(Head):
    def enlarge(self, x, first):
        for axis in (2, 3):
            times = -(-first.shape[axis] // x.shape[axis])
            x = x.repeat_interleave(times, axis).narrow(axis, 0, first.shape[axis])
        return x


@wrong("mlp_decoder", "bilinear")
class LastMapBilinear(Head):
    def forward(self, maps):
        found = [self.enlarge(project(x), maps[0]) for project, x in zip(self.project, maps)]
        return self.end(self.join([*found[:3], large(self.project[3](maps[3]), maps[0].shape[2:])]))


@wrong("mlp_decoder", "interleaved")
class Stacked(Head):
    def join(self, maps):
        return torch.stack(maps, dim=2).flatten(1, 2)


@wrong("mlp_decoder", "concatenated-backwards")
class FirstTwoExchanged(Head):
    def join(self, maps):
        return torch.cat([maps[1], maps[0], *maps[2:]], 1)


@wrong("mlp_decoder", "added-beside-the-fuse")
class SumOfMapsBeside(Head):
    def end(self, x):
        return self.classify(self.fuse(x) + sum(x.chunk(4, 1)))


@wrong("mlp_decoder", "added-beside-the-fuse")
class FirstMapBeside(Head):
    def end(self, x):
        return self.classify(self.fuse(x) + x.chunk(4, 1)[0])


@wrong("mlp_decoder", "another-way-to-the-fuse")
class MeanForTheFirstProjection(Head):
    def forward(self, maps):
        found = [self.enlarge(project(x), maps[0]) for project, x in zip(self.project, maps)]
        return self.end(self.join([0 * found[0] + maps[0].mean(1, keepdim=True), *found[1:]]))


@wrong("mlp_decoder", "fuse-width")
class FuseKeepsAll(Head):
    def last(self, dims, width, classes):
        return nn.Conv2d(4 * width, 4 * width, 1), nn.Conv2d(4 * width, classes, 1)


@wrong("mlp_decoder", "fuse-width")
class FuseToTheClasses(Head):
    def last(self, dims, width, classes):
        return nn.Conv2d(4 * width, classes, 1), nn.Conv2d(classes, classes, 1)


@wrong("mlp_decoder", "grouped")
class FuseInGroups(Head):
    def last(self, dims, width, classes):
        return nn.Conv2d(4 * width, width, 1, groups=width), nn.Conv2d(width, classes, 1)


for kind, entry, value in [
    ("a-quarter", "B0, fuse", 64 * 64 * 1024 * 256),
    ("bias-counted", "B0, projections", B0[0] + 4 * 256),
    ("bias-counted", "B0, projections", decoder((33, 65, 161, 257), 256)[0]),
    ("inverted", "B0, share of 8.4 billion", 8.4e9 / sum(B0)),
    ("inverted", "B2, share of 62.4 billion", 1.48),
    ("part-missing", "B0, share of 8.4 billion", (B0[0] + B0[2]) / 8.4e9),
    ("part-missing", "B0, share of 8.4 billion", (B0[1] + B0[2]) / 8.4e9),
    ("part-missing", "B0, share of 8.4 billion", (B0[0] + B0[1]) / 8.4e9),
    ("part-alone", "B2, share of 62.4 billion", B2[2] / 62.4e9),
]:
    wrong_value("decoder-macs", kind, SHARES | {entry: value}, f"{entry} {value:g} by an adversary")


def of(change):
    """A class map of scores that have been changed first."""
    return lambda logits, size: large(change(logits), size).argmax(1)


for kind, style, function in [
    (
        "factor-rounded",
        "pair",
        lambda x, size: large(x, None, scale_factor=(size[0] / x.shape[2], size[1] / x.shape[3])).argmax(1),
    ),
    ("one-factor-for-both", "rows", lambda x, size: large(x, None, scale_factor=size[0] / x.shape[2]).argmax(1)),
    ("one-factor-for-both", "columns", lambda x, size: large(x, None, scale_factor=size[1] / x.shape[3]).argmax(1)),
    ("type-too-small", "int8", lambda x, size: enlarged(x, size).to(torch.int8)),
    ("marks-enlarged", "one-hot", of(lambda x: F.one_hot(x.argmax(1), x.shape[1]).movedim(-1, 1).double())),
    ("class-left-out", "without class 0", of(lambda x: x[:, 1:])),
    ("class-left-out", "clamped", lambda x, size: enlarged(x, size).clamp(max=x.shape[1] - 2)),
    ("scores-changed", "exp", of(torch.exp)),
    ("scores-changed", "relu", of(torch.relu)),
    ("scores-changed", "length one", of(F.normalize)),
    ("scores-changed", "centred", of(lambda x: x - x.mean((2, 3), keepdim=True))),
    ("scores-rounded", "half precision", of(lambda x: x.half().double())),
    ("one-picture-only", "first of the batch", lambda x, size: enlarged(x, size)[0]),
    ("one-picture-only", "first logits", lambda x, size: enlarged(x[:1], size)),
    ("enlarged-twice", "then copied", lambda x, size: large(large(x, None, scale_factor=4), size, "nearest").argmax(1)),
    (
        "enlarged-by-copying",
        "columns copied",
        lambda x, size: F.interpolate(large(x, (size[0], x.shape[3])), size).argmax(1),
    ),
]:
    wrong_value("class_map", kind, function, style)


@right("class_map", "bytes, which count to 255")
def in_bytes(logits, size):
    return enlarged(logits, size).to(torch.uint8)


def without_graph(change):
    """The right answer, changed."""

    @torch.no_grad()
    def answer(project, fuse):
        return change(*collapsed(project, fuse))

    return answer


for kind, style, change in [
    ("bias-with-more-axes", "column", lambda M, b: (M, b[:, None])),
    ("bias-with-more-axes", "row", lambda M, b: (M, b[None])),
    ("bias-with-more-axes", "map", lambda M, b: (M, b[None, :, None, None])),
    ("wrong-dtype", "bias in float32", lambda M, b: (M, b.float())),
    ("relu-applied", "matrices", lambda M, b: ([one.relu() for one in M], b)),
    ("relu-applied", "bias", lambda M, b: (M, b.relu())),
]:
    wrong_value("collapse_head", kind, without_graph(change), style)


@wrong("collapse_head", "relu-applied")
def relu_behind_the_projections(project, fuse):
    pieces = fuse.weight.detach().flatten(1).chunk(4, 1)[::-1]
    own = 0 if fuse.bias is None else fuse.bias
    return collapsed(project, fuse, bias=sum(piece @ p.bias.relu() for piece, p in zip(pieces, project)) + own)


@wrong("collapse_head", "bias-of-one-map")
def constant_of_the_first_map(project, fuse):
    own = 0 if fuse.bias is None else fuse.bias
    return collapsed(project, fuse, bias=flat(fuse).chunk(4, 1)[-1] @ project[0].bias + own)


@wrong("collapse_head", "piece-width-written-down")
def eight_columns(project, fuse):
    return collapsed(project, fuse, pieces=flat(fuse).split(8, dim=1)[::-1])


@wrong("collapse_head", "pieces-in-the-other-order")
def two_pieces_exchanged(project, fuse):
    first, second, third, last = flat(fuse).chunk(4, 1)
    return collapsed(project, fuse, pieces=(last, second, third, first))


@wrong("mlp_decoder", "bias-otherwise")
class BiasesAddedAgain(Head):
    def enlarge(self, x, first):
        return super().enlarge(x + self.project[0].bias[:, None, None], first)


@wrong("mlp_decoder", "mean-taken-away")
class Centred(Head):
    def enlarge(self, x, first):
        return super().enlarge(x - x.mean((2, 3), keepdim=True), first)


@wrong("mlp_decoder", "close-but-not-equal")
class EnlargedInSinglePrecision(Head):
    def enlarge(self, x, first):
        return super().enlarge(x.float(), first).to(x.dtype)


wrong_value("class_map", "second-best", lambda x, size: large(x, size).topk(2, 1).indices[:, 1], "of two")
wrong_value("class_map", "classes-renamed", of(lambda x: x.flip(1)), "counted backwards")


@wrong("collapse_head", "frozen")
def freezes(project, fuse):
    for layer in (*project, fuse):
        layer.requires_grad_(False)
    return collapsed(project, fuse)


@wrong("collapse_head", "changes-the-layers")
def takes_the_bias_away(project, fuse):
    result = collapsed(project, fuse)
    fuse.bias = None
    return result


@wrong("collapse_head", "close-but-not-equal")
def multiplied_in_single_precision(project, fuse):
    matrices, bias = collapsed(project, fuse)
    return [M.float().double() for M in matrices], bias


@wrong("collapse_head", "bias-counted-otherwise")
def fuse_bias_subtracted(project, fuse):
    matrices, bias = collapsed(project, fuse)
    return matrices, bias if fuse.bias is None else bias - 2 * fuse.bias


@wrong("collapse_head", "bias-left-out")
def first_constant_forgotten(project, fuse):
    matrices, bias = collapsed(project, fuse)
    return matrices, bias - flat(fuse).chunk(4, 1)[-1] @ project[0].bias
