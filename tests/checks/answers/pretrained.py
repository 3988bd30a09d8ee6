"""Answers to the exercises of chapter 9."""

from __future__ import annotations

import copy

import numpy as np
import torch
import torch.nn.functional as F
from catalogue import right, right_value, wrong, wrong_value
from einops import rearrange

import segformer_edu as se
from segformer_edu.data import normalize

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def three(values):
    return torch.tensor(values).view(3, 1, 1)


# 9.1 Right ------------------------------------------------------------------------------------------------------------


@right("prepare", "the library's normalize")
def with_library(picture):
    return normalize(torch.from_numpy(picture[..., ::-1].copy()).permute(2, 0, 1)[None] / 255)


@right("prepare", "NumPy to the end")
def in_numpy(picture):
    colours = picture[:, :, [2, 1, 0]].astype(np.float32) / 255
    colours = (colours - np.float32(MEAN)) / np.float32(STD)
    return torch.from_numpy(np.ascontiguousarray(colours.transpose(2, 0, 1)[None]))


@right("prepare", "einops, mmcv's numbers in bytes")
def mmcv(picture):
    colours = rearrange(torch.tensor(picture, dtype=torch.float32), "h w c -> 1 c h w")[:, [2, 1, 0]]
    return (colours - 255 * three(MEAN)) / (255 * three(STD))


@right("prepare", "normalised in blue, green, red, then turned, float64 until the end")
def turned_last(picture):
    colours = torch.from_numpy(picture).double() / 255
    colours = (colours - torch.tensor(MEAN).double().flip(0)) / torch.tensor(STD).double().flip(0)
    return colours.flip(-1).permute(2, 0, 1).unsqueeze(0).float()


# 9.1 Wrong ------------------------------------------------------------------------------------------------------------


def rgb(picture):
    return torch.from_numpy(picture[:, :, ::-1].copy()).permute(2, 0, 1)[None].float()


def steps(scale=255.0, mean=MEAN, std=STD, source=rgb):
    return lambda picture: (source(picture) / scale - three(mean)) / three(std)


def bgr(picture):
    return torch.from_numpy(picture).permute(2, 0, 1)[None].float()


ONES, NOUGHTS = (1.0,) * 3, (0.0,) * 3
for kind, style, answer in (
    ("not-divided", "bytes", steps(1)),
    ("not-divided", "no normalisation at all", rgb),
    ("not-divided", "std alone", steps(1, NOUGHTS)),
    ("not-divided", "bytes, blue green red", steps(1, source=bgr)),
    ("not-divided", "mean in bytes", steps(1, tuple(255 * m for m in MEAN))),
    ("divided-twice", "both steps", steps(255**2)),
    ("divided-twice", "std in bytes too", steps(255, MEAN, tuple(255 * s for s in STD))),
    ("divided-by-another-number", "256", steps(256)),
    ("divided-by-another-number", "127.5", steps(127.5)),
    ("colours-reversed", "as read", steps(source=bgr)),
    ("colours-reversed", "red and green", lambda p: steps(source=lambda p: rgb(p)[:, [1, 0, 2]])(p)),
    ("colours-reversed", "grey", lambda p: steps(source=lambda p: rgb(p)[:, [1, 1, 1]])(p)),
    ("statistics-reversed", "mean and std as OpenCV", steps(255, MEAN[::-1], STD[::-1])),
    ("not-normalised", "0 to 1", steps(255, NOUGHTS, ONES)),
    ("not-normalised", "0 to 1 and blue green red", steps(255, NOUGHTS, ONES, bgr)),
    ("mean-missing", "", steps(255, NOUGHTS)),
    ("std-missing", "", steps(255, MEAN, ONES)),
    ("std-before-mean", "", lambda p: rgb(p) / 255 / three(STD) - three(MEAN)),
    ("std-multiplied", "", lambda p: (rgb(p) / 255 - three(MEAN)) * three(STD)),
    ("normalised-twice", "", lambda p: normalize(steps()(p))),
    ("statistics-swapped", "", steps(255, STD, MEAN)),
    ("mean-added", "", lambda p: (rgb(p) / 255 + three(MEAN)) / three(STD)),
    ("other-statistics", "halves", steps(255, (0.5,) * 3, (0.5,) * 3)),
    ("deviation-to-a-power", "root", steps(255, MEAN, tuple(s**0.5 for s in STD))),
    ("deviation-to-a-power", "variance", steps(255, MEAN, tuple(s**2 for s in STD))),
    ("other-statistics", "TensorFlow's", lambda p: rgb(p) / 127.5 - 1),
    (
        "other-statistics",
        "CLIP's",
        steps(255, (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
    ),
    ("one-mean-for-all", "average", steps(255, (sum(MEAN) / 3,) * 3, (sum(STD) / 3,) * 3)),
    ("one-mean-for-all", "first", steps(255, (MEAN[0],) * 3, (STD[0],) * 3)),
    ("not-divided", "divided at the end", lambda p: (rgb(p) - three(MEAN)) / three(STD) / 255),
    ("not-divided", "the mean in bytes", lambda p: (rgb(p) / 255 - 255 * three(MEAN)) / three(STD)),
    ("other-statistics", "128", lambda p: (rgb(p) - 128) / 128),
    ("own-statistics", "by channel", lambda p: F.instance_norm(rgb(p))),
    ("own-statistics", "largest number", lambda p: (rgb(p) / rgb(p).max().clamp(max=250) - three(MEAN)) / three(STD)),
    ("own-statistics", "smallest and largest", lambda p: (rgb(p) - rgb(p).min()) / (rgb(p).max() - rgb(p).min())),
    ("numbers-reordered", "view", lambda p: steps(source=lambda p: torch.tensor(p.copy()).view(1, 3, *p.shape[:2]))(p)),
    (
        "numbers-reordered",
        "view of red green blue",
        lambda p: steps(source=lambda p: torch.tensor(p[..., ::-1].copy()).reshape(1, 3, *p.shape[:2]).float())(p),
    ),
    (
        "other-axis-reversed",
        "first axis",
        lambda p: normalize(torch.tensor(p[::-1] / 255).permute(2, 0, 1)[None].float()),
    ),
    (
        "other-axis-reversed",
        "columns",
        lambda p: normalize(torch.tensor(p[:, ::-1] / 255).permute(2, 0, 1)[None].float()),
    ),
    (
        "other-axis-reversed",
        "whole array turned",
        lambda p: steps(source=lambda p: torch.tensor(p[::-1, :, ::-1].copy()).permute(2, 0, 1)[None].float())(p),
    ),
    ("height-and-width", "permute 2 1 0", lambda p: steps()(p).transpose(2, 3)),
    ("height-and-width", ".T", lambda p: normalize(torch.tensor(p[..., ::-1].copy()).T / 255)[None]),
    ("channels-last", "", lambda p: steps()(p).permute(0, 2, 3, 1)),
    ("channels-last", "no batch either", lambda p: steps()(p)[0].permute(1, 2, 0)),
    ("batch-axis-missing", "", lambda p: steps()(p)[0]),
    ("batch-axis-last", "", lambda p: steps()(p)[0, ..., None]),
    ("clipped", "0 to 1", lambda p: steps()(p).clamp(0, 1)),
    ("clipped", "relu", lambda p: steps()(p).relu()),
    ("resized", "512", lambda p: F.interpolate(steps()(p), (512, 512))),
    ("resized", "multiples of 32", lambda p: F.interpolate(steps()(p), (32, 32))),
    ("wrong-dtype", "bytes again", lambda p: steps()(p).to(torch.uint8)),
    ("wrong-dtype", "half", lambda p: steps()(p).half()),
    ("wrong-dtype", "double", lambda p: steps()(p).double()),
    ("resized", "cut to 224", lambda p: steps()(p)[:, :, :224, :224]),
    ("rounded-down", "//", lambda p: normalize(torch.tensor(p[..., ::-1] // 255).permute(2, 0, 1)[None].float())),
    ("rounded-down", "int", lambda p: normalize((rgb(p) / 255).int().float())),
    ("bytes-wrap-around", "PyTorch", lambda p: (rgb(p).to(torch.uint8) - 124).float() / 58),
    (
        "bytes-wrap-around",
        "a mean for each",
        lambda p: (
            torch.tensor((p[..., ::-1] - np.array([124, 116, 104], np.uint8)) / 58).permute(2, 0, 1)[None].float()
        ),
    ),
    ("wrong-type", "array", lambda p: steps()(p).numpy()),
    ("wrong-rank", "two batch axes", lambda p: steps()(p)[None]),
    ("no-return", "", lambda p: print(steps()(p).shape)),
):
    wrong_value("prepare", kind, answer, style)


@wrong("prepare", "runs-backwards")
def negative_strides(picture):
    return normalize(torch.from_numpy(picture[:, :, ::-1]).permute(2, 0, 1)[None] / 255)


@wrong("prepare", "bytes-do-not-divide")
def bytes_to_normalize(picture):
    return normalize(torch.tensor(picture[:, :, ::-1].copy()).permute(2, 0, 1)[None])


@wrong("prepare", "changes-input")
def in_place(picture):
    picture[:] = picture[:, :, ::-1].copy()
    return normalize(torch.tensor(picture).permute(2, 0, 1)[None] / 255)


@wrong("prepare", "raises", outcome="could not run")
def channels_at_the_end(picture):
    return normalize(torch.tensor(picture / 255)[None])


# 9.2 Right ------------------------------------------------------------------------------------------------------------


@right("convert", "name by name")
def by_name(file):
    p, C = "module.", file["module.attn.out_proj.bias"].shape[0]
    w, b = file[p + "attn.in_proj_weight"], file[p + "attn.in_proj_bias"]
    new = {
        "to_q.weight": w[:C].reshape(C, C, 1, 1),
        "to_q.bias": b[:C],
        "to_kv.weight": w[C:].reshape(2 * C, C, 1, 1),
        "to_kv.bias": b[C:],
        "to_out.weight": file[p + "attn.out_proj.weight"].unsqueeze(-1).unsqueeze(-1),
        "to_out.bias": file[p + "attn.out_proj.bias"],
    }
    if p + "sr.weight" in file:
        for kind in ("weight", "bias"):
            new[f"reduce.0.{kind}"] = file[f"{p}sr.{kind}"]
            new[f"reduce.1.{kind}"] = file[f"{p}norm.{kind}"]
    return new


@right("convert", "replacements, then the layer's own shapes")
def by_replacement(file):
    dim = len(file["module.norm.bias"] if "module.norm.bias" in file else file["module.attn.out_proj.bias"])
    ratio = file["module.sr.weight"].shape[-1] if "module.sr.weight" in file else 1
    layer = se.SpatialReductionAttention(dim=dim, heads=1, reduction_ratio=ratio)
    shapes = {name: value.shape for name, value in layer.state_dict().items()}
    made = {}
    for name, value in file.items():
        for old, new in (
            ("module.", ""),
            ("attn.out_proj", "to_out"),
            ("sr", "reduce.0"),
            ("norm", "reduce.1"),
            ("attn.in_proj_", "qkv."),
        ):
            name = name.replace(old, new)
        made[name] = value.clone()
    for kind in ("weight", "bias"):
        q, kv = made.pop(f"qkv.{kind}").split([dim, 2 * dim])
        made |= {f"to_q.{kind}": q, f"to_kv.{kind}": kv}
    return {name: value.view(shapes[name]) for name, value in made.items()}


@right("convert", "through a loaded layer")
def through_a_layer(file):
    file = {name.split(".", 1)[1]: value for name, value in file.items()}
    dim = file["attn.out_proj.weight"].shape[0]
    ratio = file["sr.weight"].shape[-1] if "sr.weight" in file else 1
    layer = se.SpatialReductionAttention(dim=dim, heads=2, reduction_ratio=ratio).to(file["attn.in_proj_bias"].dtype)
    with torch.no_grad():
        q, k, v = file["attn.in_proj_weight"].chunk(3)
        layer.to_q.weight[:, :, 0, 0] = q
        layer.to_kv.weight[:, :, 0, 0] = torch.cat((k, v), 0)
        q, k, v = file["attn.in_proj_bias"].chunk(3)
        layer.to_q.bias.copy_(q)
        layer.to_kv.bias.copy_(torch.cat((k, v), 0))
        layer.to_out.weight.copy_(file["attn.out_proj.weight"][..., None, None])
        layer.to_out.bias.copy_(file["attn.out_proj.bias"])
        for place, name in enumerate(("sr", "norm") if ratio > 1 else ()):
            layer.reduce[place].weight.copy_(file[f"{name}.weight"])
            layer.reduce[place].bias.copy_(file[f"{name}.bias"])
    return layer.state_dict()


# 9.2 Wrong ------------------------------------------------------------------------------------------------------------


def changed(change):
    """The right dict after a change of it."""

    def answer(file):
        made = by_name(file)
        change(made, {name.removeprefix("module."): value for name, value in file.items()})
        return made

    return answer


def joined(order):
    """q, k, v from the file's rows in another order of the thirds, or of the rows."""

    def change(made, file):
        for kind in ("weight", "bias"):
            q, k, v = order(file[f"attn.in_proj_{kind}"])
            made[f"to_q.{kind}"] = q.reshape(made[f"to_q.{kind}"].shape)
            made[f"to_kv.{kind}"] = torch.cat([k, v]).reshape(made[f"to_kv.{kind}"].shape)

    return changed(change)


def renamed(old, new):
    return lambda file: {name.replace(old, new): value for name, value in by_name(file).items()}


def heads(rows, count=2):
    """As if the rows were (heads, 3, c): the order of timm's and Megatron's joined matrices."""
    return [part.flatten(0, 1) for part in rows.unflatten(0, (count, 3, -1)).unbind(1)]


def put(name, make):
    """Another tensor under one of the names."""

    def change(made, file):
        if name in made:
            made[name] = make(made, file).reshape(made[name].shape)

    return changed(change)


def exchanges(file):
    places = {"reduce.0": "reduce.1", "reduce.1": "reduce.0"}
    return {places.get(n[:8], n[:8]) + n[8:]: v for n, v in by_name(file).items()}


def cut_along(axis):
    """Keys and values joined along another axis, or cut after the matrix was turned."""

    def answer(file):
        made = by_name(file)
        rows = file["module.attn.in_proj_weight"]
        if axis:
            made["to_kv.weight"] = torch.cat(rows[:, :, None, None].chunk(3)[1:], dim=axis)
        else:
            q, k, v = rows.T[:, :, None, None].chunk(3)
            made |= {"to_q.weight": q, "to_kv.weight": torch.cat([k, v])}
        return made

    return answer


def turned(name):
    return put(
        name, lambda made, file: made[name].flatten(1).T if name.startswith("to") else made[name].transpose(0, 1)
    )


for kind, style, answer in (
    ("prefix-left", "all", lambda file: {f"module.{name}": value for name, value in by_name(file).items()}),
    ("not-renamed", "the file itself", lambda file: dict(file)),
    ("not-renamed", "prefix off alone", lambda file: {n.removeprefix("module."): v for n, v in file.items()}),
    ("not-renamed", "norm", renamed("reduce.1", "norm")),
    ("not-renamed", "the output", renamed("to_out", "attn.out_proj")),
    ("unknown-names", "lucidrains' output", renamed("to_out", "to_out.0")),
    ("unknown-names", "timm's", renamed("to_out", "proj")),
    ("unknown-names", "behind a prefix of its own", renamed("to_", "attention.to_")),
    ("unknown-names", "the reduction without numbers", renamed("reduce.0", "reduce")),
    ("names-lost", "no output", lambda file: {n: v for n, v in by_name(file).items() if "out" not in n}),
    (
        "names-lost",
        "weights of the convolutions alone",
        lambda file: {n: v for n, v in by_name(file).items() if v.dim() == 4 and "q" in n},
    ),
    ("reduction-lost", "", lambda file: {n: v for n, v in by_name(file).items() if "reduce" not in n}),
    ("reduction-lost", "norm alone", lambda file: {n: v for n, v in by_name(file).items() if "reduce.1" not in n}),
    ("biases-lost", "", lambda file: {n: v for n, v in by_name(file).items() if "bias" not in n}),
    (
        "biases-lost",
        "of linear layers",
        lambda file: {n: v for n, v in by_name(file).items() if not ("to_" in n and "bias" in n)},
    ),
    (
        "reduction-invented",
        "",
        lambda file: (
            {
                "reduce.0.weight": torch.ones(1),
                "reduce.0.bias": torch.zeros(1),
                "reduce.1.weight": torch.ones(1),
                "reduce.1.bias": torch.zeros(1),
            }
            | by_name(file)
        ),
    ),
    (
        "not-a-convolution",
        "all",
        lambda file: {n: v.flatten(1) if n.startswith("to") and v.dim() == 4 else v for n, v in by_name(file).items()},
    ),
    (
        "not-a-convolution",
        "nn.Conv1d",
        lambda file: {n: v[..., 0] if n.startswith("to") and v.dim() == 4 else v for n, v in by_name(file).items()},
    ),
    (
        "axes-exchanged",
        "ones first",
        lambda file: {
            n: v.permute(2, 3, 0, 1) if n.startswith("to") and v.dim() == 4 else v for n, v in by_name(file).items()
        },
    ),
    ("values-first", "", joined(lambda rows: [rows.chunk(3)[i] for i in (0, 2, 1)])),
    ("thirds-confused", "k q v", joined(lambda rows: [rows.chunk(3)[i] for i in (1, 0, 2)])),
    ("thirds-confused", "v k q", joined(lambda rows: rows.chunk(3)[::-1])),
    ("thirds-confused", "keys twice", joined(lambda rows: [rows.chunk(3)[i] for i in (0, 1, 1)])),
    ("thirds-confused", "k v q", joined(lambda rows: [rows.chunk(3)[i] for i in (2, 0, 1)])),
    ("thirds-confused", "q k, v forgotten", joined(lambda rows: [rows.chunk(3)[i] for i in (0, 0, 1)])),
    ("interleaved", "every third", joined(lambda rows: [rows[0::3], rows[1::3], rows[2::3]])),
    ("interleaved", "by heads", joined(heads)),
    ("rows-reordered", "turned", joined(lambda rows: [part.flip(0) for part in rows.chunk(3)])),
    (
        "rows-reordered",
        "keys and values by turns",
        joined(lambda rows: [rows.chunk(3)[0], *torch.stack(rows.chunk(3)[1:], 1).flatten(0, 1).chunk(2)]),
    ),
    ("transposed", "output", turned("to_out.weight")),
    ("transposed", "queries", turned("to_q.weight")),
    ("transposed", "keys and values, whole", turned("to_kv.weight")),
    (
        "transposed",
        "each third",
        joined(lambda rows: [part.T.contiguous() if part.dim() == 2 else part for part in rows.chunk(3)]),
    ),
    ("transposed", "strided convolution", turned("reduce.0.weight")),
    ("transposed", "before it is cut", cut_along(0)),
    ("side-by-side", "inputs", cut_along(1)),
    ("side-by-side", "last axis", cut_along(-1)),
    ("window-turned", "mirrored", put("reduce.0.weight", lambda made, file: file["sr.weight"].flip(3))),
    (
        "window-turned",
        "strided convolution, height and width",
        put("reduce.0.weight", lambda made, file: file["sr.weight"].transpose(2, 3)),
    ),
    (
        "reshaped-not-transposed",
        "output by heads",
        put("to_out.weight", lambda made, file: rearrange(file["attn.out_proj.weight"], "o (n c) -> o (c n)", n=2)),
    ),
    ("exchanged", "bias of the other", put("reduce.0.bias", lambda made, file: file["norm.bias"])),
    ("exchanged", "norm and output", put("to_out.bias", lambda made, file: file["norm.bias"])),
    ("weight-for-bias", "norm", put("reduce.1.weight", lambda made, file: file["norm.bias"])),
    ("weight-for-bias", "norm's bias", put("reduce.1.bias", lambda made, file: file["norm.weight"])),
    ("scaled", "scale in the queries", put("to_q.weight", lambda made, file: made["to_q.weight"] * 3**-0.5)),
    ("biases-lost", "norm's bias is zero", put("reduce.1.bias", lambda made, file: 0 * file["norm.bias"])),
    (
        "biases-lost",
        "all zero",
        lambda file: {n: torch.zeros_like(v) if "bias" in n else v for n, v in by_name(file).items()},
    ),
    ("as-in-a-fresh-layer", "", put("reduce.1.weight", lambda made, file: torch.ones_like(made["reduce.1.weight"]))),
    ("exchanged", "norm before convolution", exchanges),
    (
        "shifted-by-constant",
        "norm's scale from zero",
        put("reduce.1.weight", lambda made, file: file["norm.weight"] + 1),
    ),
    ("wrong-dtype", "always float64", lambda file: {n: v.double() for n, v in by_name(file).items()}),
    ("not-a-dict", "pairs", lambda file: list(by_name(file).items())),
    ("not-a-dict", "names alone", lambda file: set(by_name(file))),
    ("no-return", "", lambda file: print(len(by_name(file)))),
    ("wrong-type", "arrays", lambda file: {n: v.numpy() for n, v in by_name(file).items()}),
):
    wrong_value("convert", kind, answer, style)


@wrong("convert", "query-left-inside")
def one_matrix(file):
    made = by_name(file)
    for kind in ("weight", "bias"):
        del made[f"to_kv.{kind}"], made[f"to_q.{kind}"]
        made[f"to_qkv.{kind}"] = file[f"module.attn.in_proj_{kind}"]
    return made


@wrong("convert", "query-left-inside")
def in_proj_kept(file):
    made = {n: v for n, v in by_name(file).items() if n.split(".")[0] not in ("to_q", "to_kv")}
    return made | {n.removeprefix("module."): v for n, v in file.items() if "in_proj" in n}


@wrong("convert", "key-and-value-apart")
def three_matrices(file):
    made = by_name(file)
    for kind in ("weight", "bias"):
        made[f"to_k.{kind}"], made[f"to_v.{kind}"] = made.pop(f"to_kv.{kind}").chunk(2)
    return made


@wrong("convert", "changes-the-file")
def popping(file):
    made = by_name(file)
    file.pop("module.attn.in_proj_weight")
    return made


@wrong("convert", "changes-the-file")
def another_tensor(file):
    made = by_name(file)
    file["module.attn.in_proj_bias"] = 2 * file["module.attn.in_proj_bias"]
    return made


@wrong("convert", "changes-input")
def gains_axes(file):
    made = by_name(file)
    file["module.attn.out_proj.weight"].unsqueeze_(-1)
    return made


@wrong("convert", "changes-input")
def scales_in_place(file):
    file["module.attn.in_proj_bias"] *= 2
    return by_name(file)


@wrong("convert", "size-written-down")
def six_rows(file):
    made = by_name(file)
    for kind in ("weight", "bias"):
        rows = file[f"module.attn.in_proj_{kind}"]
        made[f"to_q.{kind}"], made[f"to_kv.{kind}"] = rows[:6], rows[6:]
    return {n: v.reshape(*v.shape, 1, 1) if n.startswith("to") and v.dim() == 2 else v for n, v in made.items()}


@wrong("convert", "size-written-down")
def six_reshaped(file):
    return by_name(file) | {"to_out.weight": file["module.attn.out_proj.weight"].view(6, 6, 1, 1)}


@wrong("convert", "needs-a-reduction")
def always_reduced(file):
    return by_name(file) | {"reduce.0.bias": file["module.sr.bias"]}


@wrong("convert", "thirds-confused")
def everything_in_kv(file):
    made = by_name(file)
    for kind in ("weight", "bias"):
        value = file[f"module.attn.in_proj_{kind}"]
        made[f"to_kv.{kind}"] = value[..., None, None] if kind == "weight" else value
    return made


@wrong("convert", "prefix-left")
def prefix_forgotten(file):
    return {"to_q.weight": file["attn.in_proj_weight"]}


@wrong("convert", "prefix-left")
def prefix_in_a_table(file):
    names = {"attn.out_proj": "to_out", "sr": "reduce.0", "norm": "reduce.1"}
    return {names[name.rsplit(".", 1)[0]]: value for name, value in file.items()}


@wrong("convert", "key-missing", outcome="could not run")
def nine_letters(file):
    names = {"attn.out_proj": "to_out", "sr": "reduce.0", "norm": "reduce.1"}
    return {names[name[9:].rsplit(".", 1)[0]]: value for name, value in file.items()}


@right("convert", "a layer of float32, whatever the file has")
def in_32_bits(file):
    return {name: value.float() for name, value in by_name(file).items()}


@wrong("convert", "not-a-dict")
def a_layer(file):
    layer = se.SpatialReductionAttention(dim=6, heads=3, reduction_ratio=2).double()
    layer.load_state_dict(by_name(file))
    return layer


# 9.3 ------------------------------------------------------------------------------------------------------------------

KEY = {
    "A": "statistics",
    "B": "prefix",
    "C": "keys and values",
    "D": "heads",
    "E": "fuse columns",
    "F": "depth",
    "G": "none",
}
right_value("checkpoints", "as the stub has it", KEY)
right_value("checkpoints", "capitals", {letter: word.title() for letter, word in KEY.items()})
right_value("checkpoints", "another order", dict(reversed(KEY.items())))
for letter, word in (
    ("A", "fuse columns"),
    ("A", "none"),
    ("B", "depth"),
    ("C", "heads"),
    ("C", "eps"),
    ("C", "prefix"),
    ("D", "keys and values"),
    ("D", "depth"),
    ("E", "statistics"),
    ("E", "keys and values"),
    ("F", "prefix"),
    ("F", "heads"),
    ("G", "eps"),
    ("G", "statistics"),
):
    wrong_value("checkpoints", f"not-{letter.lower()}", KEY | {letter: word}, f"{letter} {word}")
right_value("checkpoints", "None for none", KEY | {"G": None})
wrong_value("checkpoints", "no-such-word", KEY | {"A": "batch norm"}, "a word of one's own")
wrong_value("checkpoints", "entries-missing", {"A": "statistics"}, "one alone")
wrong_value("checkpoints", "wrong-type", list(KEY.values()), "a list")


# 9.4 ------------------------------------------------------------------------------------------------------------------

SIZES = ((1, 3, 16, 16), (3, 3, 17, 24), (2, 3, 32, 21))


@torch.no_grad()
def results(first, second, sizes=SIZES, draw=torch.randn, evaluate=True):
    """Pairs of logits, the models left as they were."""
    first, second = copy.deepcopy(first), copy.deepcopy(second)
    if evaluate:
        first.eval(), second.eval()
    torch.manual_seed(0)
    for size in sizes:
        x = draw(*size)
        yield first(x), second(x)


def close(a, b, tolerance=1e-5):
    return a.shape == b.shape and bool((a - b).abs().max() <= tolerance * b.abs().max())


@right("same_function", "copies")
def with_copies(first, second):
    return all(close(a, b) for a, b in results(first, second))


@right("same_function", "float64, allclose")
def in_64_bits(first, second):
    first, second = copy.deepcopy(first).double().eval(), copy.deepcopy(second).double().eval()
    for batch, height, width in ((4, 31, 33), (1, 50, 8), (2, 64, 64)):
        x = torch.randn(batch, 3, height, width, dtype=torch.float64)
        a, b = first(x), second(x)
        if a.shape != b.shape or not torch.allclose(a, b, rtol=1e-5, atol=1e-6 * b.abs().max().item()):
            return False
    return True


@right("same_function", "assert_close inside try, a tensor of one truth value")
def with_assert_close(first, second):
    try:
        for a, b in results(first, second):
            torch.testing.assert_close(a / b.abs().max(), b / b.abs().max(), rtol=0, atol=1e-5)
    except AssertionError:
        return torch.tensor(False)
    return torch.tensor(True)


@right("same_function", "NumPy, modes put back")
def with_numpy(first, second):
    modes = first.training, second.training
    first.eval()
    second.eval()
    verdict = True
    for seed, size in enumerate(SIZES):
        x = torch.from_numpy(np.random.default_rng(seed).normal(size=size).astype(np.float32))
        with torch.inference_mode():
            a, b = first(x).numpy(), second(x).numpy()
        verdict = verdict and a.shape == b.shape and np.abs(a - b).max() / np.abs(b).max() < 1e-5
    first.train(modes[0])
    second.train(modes[1])
    return np.bool_(verdict)


def judged(compare, sizes=SIZES, **how):
    return lambda first, second: all(compare(a, b) for a, b in results(first, second, sizes, **how))


def flat(*size):
    return torch.randn(size[0], size[1], 1, 1).expand(size)


def grey(*size):
    return torch.randn(size[0], 1, *size[2:]).expand(size)


WIDE = ((1, 3, 16, 16), (3, 3, 17, 24), (2, 3, 21, 32))
TALL = ((1, 3, 16, 16), (3, 3, 24, 17), (2, 3, 32, 21))


def shaped(compare):
    return lambda a, b: a.shape == b.shape and bool(compare(a, b))


for kind, style, answer in (
    ("always-true", "", lambda first, second: True),
    ("always-true", "wide as a barn", judged(lambda a, b: True)),
    ("always-true", "the first with itself", lambda first, second: all(close(a, b) for a, b in results(first, first))),
    ("always-false", "", lambda first, second: False),
    ("always-false", "the objects", lambda first, second: first is second),
    ("always-false", "equality of modules", lambda first, second: first == second),
    (
        "compares-weights",
        "shapes of weights",
        lambda first, second: (
            [p.shape for p in first.parameters()] == [p.shape for p in second.parameters()]
            and all(torch.equal(p, q) for p, q in zip(first.parameters(), second.parameters()))
        ),
    ),
    (
        "compares-weights",
        "state dicts",
        lambda first, second: (
            first.state_dict().keys() == second.state_dict().keys()
            and all(torch.equal(v, second.state_dict()[n]) for n, v in first.state_dict().items())
        ),
    ),
    ("compares-weights", "classes", lambda first, second: type(first) is type(second) and with_copies(first, second)),
    (
        "compares-weights",
        "numbers of weights",
        lambda first, second: sum(p.numel() for p in first.parameters()) == sum(p.numel() for p in second.parameters()),
    ),
    (
        "compares-weights",
        "strict loading",
        lambda first, second: not any(copy.deepcopy(first).load_state_dict(second.state_dict(), strict=False)),
    ),
    (
        "compares-weights",
        "as many weights and the same logits",
        lambda first, second: (
            len(list(first.parameters())) == len(list(second.parameters()))
            and first.state_dict().keys() == second.state_dict().keys()
            and with_copies(first, second)
        ),
    ),
    ("compares-in-training", "copies", judged(close, evaluate=False)),
    (
        "compares-in-training",
        "seeded",
        lambda first, second: all(close(a, b) for a, b in results(first, second, evaluate=False)),
    ),
    ("exact-equality", "torch.equal", judged(torch.equal)),
    ("exact-equality", "mean of ==", judged(shaped(lambda a, b: (a == b).all()))),
    ("exact-equality", "1e-12", judged(lambda a, b: close(a, b, 1e-12))),
    ("absolute-tolerance", "1e-5", judged(shaped(lambda a, b: (a - b).abs().max() < 1e-5))),
    ("absolute-tolerance", "assert_close's own", judged(shaped(lambda a, b: torch.allclose(a, b, 1.3e-6, 1e-5)))),
    ("absolute-tolerance", "atol 1e-4", judged(shaped(lambda a, b: torch.allclose(a, b, atol=1e-4)))),
    ("absolute-tolerance", "1e-5, norms", judged(shaped(lambda a, b: (a - b).norm() < 1e-4))),
    ("tolerance-too-wide", "1e-4", judged(lambda a, b: close(a, b, 1e-4))),
    ("exact-equality", "1e-6", judged(lambda a, b: close(a, b, 1e-6))),
    ("largest-is-negative", "", judged(shaped(lambda a, b: (a - b).abs().max() <= 1e-5 * b.max()))),
    ("verdict-lost", "first picture of a batch", judged(shaped(lambda a, b: close(a[0], b[0])))),
    (
        "some-classes-only",
        "first",
        judged(shaped(lambda a, b: (a - b)[:, 0].abs().max() <= 1e-5 * b.abs().max())),
    ),
    (
        "border-left-out",
        "inside",
        judged(shaped(lambda a, b: (a - b)[..., 1:-1, 1:-1].abs().max() <= 1e-5 * b.abs().max())),
    ),
    ("differences-cancel", "of classes", judged(lambda a, b: close(a.sum(1), b.sum(1)))),
    ("grey-pictures", "", judged(close, draw=grey)),
    ("pale-pictures", "almost flat", judged(close, draw=lambda *size: 0.01 * torch.randn(size))),
    ("pale-pictures", "-1 to 1", judged(close, draw=lambda *size: 2 * torch.rand(size) - 1)),
    ("one-orientation", "wide", judged(close, WIDE)),
    ("one-orientation", "tall", judged(close, TALL)),
    ("several-pictures", "", judged(close, ((2, 3, 16, 16), (3, 3, 17, 24), (2, 3, 32, 21)))),
    ("one-size", "one, wide and odd", judged(close, ((3, 3, 17, 24),))),
    ("one-size", "one, tall and odd", judged(close, ((3, 3, 24, 17),))),
    ("verdict-lost", "the last", lambda first, second: [close(a, b) for a, b in results(first, second)][-1]),
    ("verdict-lost", "any", lambda first, second: any([close(a, b) for a, b in results(first, second)])),
    ("averages-hide", "norms", judged(shaped(lambda a, b: (a - b).norm() <= 1e-5 * b.norm()))),
    ("nan-is-equal", "not larger", judged(shaped(lambda a, b: not (a - b).abs().max() > 1e-5 * b.abs().max()))),
    ("tolerance-too-wide", "one per mille", judged(lambda a, b: close(a, b, 1e-3))),
    ("tolerance-too-wide", "one per cent", judged(lambda a, b: close(a, b, 1e-2))),
    ("tolerance-too-wide", "half", judged(lambda a, b: close(a, b, 0.4))),
    ("classes-only", "argmax", judged(lambda a, b: torch.equal(a.argmax(1), b.argmax(1)))),
    ("classes-only", "argmax, shapes", judged(shaped(lambda a, b: (a.argmax(1) == b.argmax(1)).float().mean() > 0.99))),
    ("classes-only", "softmax", judged(lambda a, b: close(a.softmax(1), b.softmax(1)))),
    ("difference-without-sign", "max", judged(shaped(lambda a, b: (a - b).max() <= 1e-5 * b.abs().max()))),
    ("difference-without-sign", "all below", judged(shaped(lambda a, b: ((a - b) / b.abs().max() < 1e-5).all()))),
    ("differences-cancel", "mean", judged(shaped(lambda a, b: (a - b).mean().abs() <= 1e-5 * b.abs().max()))),
    ("differences-cancel", "sums", judged(shaped(lambda a, b: (a.sum() - b.sum()).abs() <= 1e-4 * b.abs().sum()))),
    (
        "averages-hide",
        "mean of the differences",
        judged(shaped(lambda a, b: (a - b).abs().mean() <= 1e-5 * b.abs().max())),
    ),
    ("averages-hide", "median", judged(shaped(lambda a, b: (a - b).abs().median() <= 1e-5 * b.abs().max()))),
    ("averages-hide", "mean square", judged(shaped(lambda a, b: (a - b).pow(2).mean().sqrt() <= 1e-5 * b.abs().max()))),
    ("shapes-differ", "not asked", judged(lambda a, b: (a - b).abs().max() <= 1e-5 * b.abs().max())),
    ("shapes-differ", "allclose", judged(lambda a, b: torch.allclose(a / b.abs().max(), b / b.abs().max(), 0, 1e-5))),
    (
        "shapes-differ",
        "cut to size",
        judged(
            lambda a, b: close(
                a[:, : b.shape[1], : b.shape[2], : b.shape[3]], b[:, : a.shape[1], : a.shape[2], : a.shape[3]]
            )
        ),
    ),
    ("one-size", "even", judged(close, ((2, 3, 16, 16), (3, 3, 32, 48)))),
    ("square-only", "even and odd squares", judged(close, ((2, 3, 16, 16), (3, 3, 33, 33)))),
    ("one-picture", "several sizes", judged(close, ((1, 3, 16, 17), (1, 3, 33, 48)))),
    ("one-picture", "one even square", judged(close, ((1, 3, 32, 32),))),
    ("one-size", "one batch of squares", judged(close, ((4, 3, 32, 32),))),
    ("flat-pictures", "zeros", judged(close, draw=torch.zeros)),
    ("flat-pictures", "ones", judged(close, draw=torch.ones)),
    ("flat-pictures", "one colour", judged(close, draw=flat)),
    ("positive-pictures", "rand", judged(close, draw=torch.rand)),
    ("positive-pictures", "bytes", judged(close, draw=lambda *size: torch.randint(0, 256, size).float())),
    (
        "not-a-verdict",
        "a number",
        lambda first, second: max(
            float((a - b).abs().max()) if a.shape == b.shape else 9.0 for a, b in results(first, second)
        ),
    ),
    ("not-a-verdict", "words", lambda first, second: "same" if with_copies(first, second) else "different"),
    ("not-a-verdict", "an int", lambda first, second: int(with_copies(first, second))),
    ("no-return", "", lambda first, second: print(with_copies(first, second))),
):
    wrong_value("same_function", kind, answer, style)


@wrong("same_function", "not-a-verdict")
def asserts(first, second):
    for a, b in results(first, second):
        torch.testing.assert_close(a / b.abs().max(), b / b.abs().max(), rtol=0, atol=1e-5)
    return True


@wrong("same_function", "changes-the-models")
def left_in_eval(first, second):
    first.eval(), second.eval()
    return with_copies(first, second)


@wrong("same_function", "changes-the-models")
def left_in_64_bits(first, second):
    return in_64_bits(first.double(), second.double())


@wrong("same_function", "changes-the-models")
def weights_written_over(first, second):
    verdict = with_copies(first, second)
    for parameter in second.parameters():
        parameter.data.mul_(1.5)
    return verdict


@wrong("same_function", "compares-in-training")
def in_place_training(first, second):
    torch.manual_seed(0)
    x = torch.randn(2, 3, 17, 24)
    torch.manual_seed(1)
    a = first(x)
    torch.manual_seed(1)
    return close(a, second(x))


@wrong("same_function", "compares-weights")
def loads_strictly(first, second):
    copy.deepcopy(first).load_state_dict(second.state_dict())
    return with_copies(first, second)


@wrong("same_function", "unlike-twice")
class Remembers:
    calls = 0

    def __new__(cls, first, second):
        cls.calls += 1
        return with_copies(first, second) if cls.calls <= 36 else False


# Warm-ups -------------------------------------------------------------------------------------------------------------

QUERY, KEYS, VALUES = (torch.arange(6.0).reshape(2, 3) + 10 * number for number in (1, 2, 3))
right_value("joined", "cat", torch.cat([KEYS, VALUES]))
right_value("joined", "vstack", torch.vstack([KEYS, VALUES]))
right_value("joined", "lists", [*KEYS.tolist(), *VALUES.tolist()])
wrong_value("joined", "values-first", torch.cat([VALUES, KEYS]))
wrong_value("joined", "side-by-side", torch.cat([KEYS, VALUES], dim=1))
wrong_value("joined", "stacked", torch.stack([KEYS, VALUES]))
wrong_value("joined", "interleaved", torch.stack([KEYS, VALUES], dim=1).reshape(4, 3))
wrong_value("joined", "query-too", torch.cat([QUERY, KEYS, VALUES]))
wrong_value("joined", "added", KEYS + VALUES)
wrong_value("joined", "query-inside", torch.cat([QUERY, KEYS]))
wrong_value("joined", "query-inside", torch.cat([QUERY, VALUES]))
wrong_value("joined", "twice-the-same", torch.cat([KEYS, KEYS]))

FUSE = torch.arange(16.0).reshape(2, 8)
right_value("columns", "chunks", torch.cat(FUSE.chunk(4, dim=1)[::-1], dim=1))
right_value("columns", "einops", rearrange(rearrange(FUSE, "o (m c) -> o m c", m=4).flip(1), "o m c -> o (m c)"))
right_value("columns", "index", FUSE[:, [6, 7, 4, 5, 2, 3, 0, 1]])
wrong_value("columns", "every-column-turned", FUSE.flip(1))
wrong_value("columns", "rows-turned", FUSE.flip(0))
wrong_value("columns", "left-as-it-is", FUSE)
wrong_value("columns", "halves-swapped", FUSE.roll(4, 1))
wrong_value("columns", "blocks-on-rows", torch.cat(FUSE.chunk(4, dim=1)[::-1]))
wrong_value("columns", "other-places", FUSE.roll(2, 1))


wrong_value("columns", "wrong-type", torch.arange(16.0).reshape(2, 8).chunk(4, dim=1)[::-1], "a tuple")
