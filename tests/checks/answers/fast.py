"""Answers to the exercises of chapter 10."""

from __future__ import annotations

import copy
import statistics
import time

import numpy as np
import torch
import torch.nn.functional as F
from catalogue import right, right_value, wrong, wrong_value
from einops import einsum
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

# 10.1 -----------------------------------------------------------------------------------------------------------------


@right("stopwatch", "statistics")
def with_statistics(call, repeats, wait, clock):
    for _ in range(2):
        call()
    times = []
    for _ in range(repeats):
        wait()
        start = clock()
        call()
        wait()
        times.append(clock() - start)
    return 1000 * statistics.median(times)


@right("stopwatch", "NumPy, waits after each call alone")
def with_numpy(call, repeats, wait, clock):
    call(), call(), wait()
    times = np.empty(repeats)
    for number in range(repeats):
        begin = clock()
        call()
        wait()
        times[number] = clock() - begin
    return np.median(times) * 1e3


@right("stopwatch", "moments, then differences, a tensor")
def with_torch(call, repeats, wait, clock):
    def once():
        wait()
        before = clock()
        call()
        wait()
        return clock() - before

    return torch.tensor([once() for _ in range(repeats + 2)], dtype=torch.float64)[2:].median() * 1000


@right("stopwatch", "more warm-ups than asked for")
def three_warm_ups(call, repeats, wait, clock):
    for _ in range(3):
        call()
        wait()
    times = []
    for _ in range(repeats):
        wait()
        start = clock()
        call()
        wait()
        times.append(clock() - start)
    return 1000 * sorted(times)[len(times) // 2]


def watch(warmups=2, before=True, after=True, summary=statistics.median, unit=1000, settle=False):
    def answer(call, repeats, wait, clock):
        for _ in range(warmups):
            call()
            if settle:
                wait()
        times = []
        for _ in range(repeats):
            if before:
                wait()
            start = clock()
            call()
            if after:
                wait()
            times.append(clock() - start)
        return unit * summary(times)

    return answer


for kind, style, answer in (
    ("no-warm-up", "", watch(0)),
    ("no-warm-up", "and the mean", watch(0, summary=statistics.fmean)),
    ("one-warm-up", "", watch(1)),
    ("not-waited-for-the-end", "", watch(after=False)),
    ("not-waited-for-the-end", "and seconds", watch(after=False, unit=1)),
    ("not-waited-for-the-start", "", watch(before=False)),
    ("never-waits", "", watch(before=False, after=False)),
    ("mean", "", watch(summary=statistics.fmean)),
    ("minimum", "", watch(summary=min)),
    ("minimum", "settled", watch(summary=min, settle=True, before=False)),
    ("mean", "trimmed", watch(summary=lambda times: statistics.fmean(sorted(times)[1:-1] or times))),
    ("not-sorted", "", watch(summary=lambda times: times[len(times) // 2])),
    ("rounded", "whole milliseconds", watch(summary=lambda times: round(statistics.median(times), 3))),
    ("sign-reversed", "", watch(unit=-1000)),
    ("maximum", "", watch(summary=max)),
    ("sum", "", watch(summary=sum)),
    ("last-only", "", watch(summary=lambda times: times[-1])),
    ("seconds", "", watch(unit=1)),
    ("seconds", "micro", watch(unit=1e6)),
    ("seconds", "divided", watch(unit=1e-3)),
    ("not-a-number", "a list", watch(summary=lambda times: times, unit=1)),
    ("not-a-number", "words", lambda *given: f"{watch()(*given):.1f} ms"),
    ("no-return", "", lambda *given: print(watch()(*given))),
):
    wrong_value("stopwatch", kind, answer, style)


@wrong("stopwatch", "whole-loop")
def one_watch(call, repeats, wait, clock):
    call(), call(), wait()
    start = clock()
    for _ in range(repeats):
        call()
    wait()
    return 1000 * (clock() - start) / repeats


@wrong("stopwatch", "whole-loop")
def one_watch_waiting_inside(call, repeats, wait, clock):
    call(), call(), wait()
    start = clock()
    for _ in range(repeats):
        call()
        wait()
    return 1000 * (clock() - start) / repeats


@wrong("stopwatch", "own-clock")
def python_clock(call, repeats, wait, clock):
    return watch()(call, repeats, wait, time.perf_counter)


@wrong("stopwatch", "repeats-ignored")
def always_nine(call, repeats, wait, clock):
    return watch()(call, 9, wait, clock)


@wrong("stopwatch", "one-call-too-few")
def last_left_out(call, repeats, wait, clock):
    times = []
    for _ in range(repeats - 1):
        wait()
        start = clock()
        call()
        wait()
        times.append(clock() - start)
    return 1000 * statistics.median(times or [0.0])


@wrong("stopwatch", "whole-loop")
def since_the_start(call, repeats, wait, clock):
    call(), call(), wait()
    start, times = clock(), []
    for _ in range(repeats):
        call()
        wait()
        times.append(clock() - start)
    return 1000 * statistics.median(times)


@wrong("stopwatch", "no-warm-up")
def warm_ups_counted(call, repeats, wait, clock):
    return watch(0)(call, repeats + 2, wait, clock)


@wrong("stopwatch", "call-inside-out")
def calls_first(call, repeats, wait, clock):
    for _ in range(repeats + 2):
        call()
    times = []
    for _ in range(repeats):
        start = clock()
        wait()
        times.append(clock() - start)
    return 1000 * statistics.median(times)


@wrong("stopwatch", "call-twice")
def twice(call, repeats, wait, clock):
    call(), call()
    times = []
    for _ in range(repeats):
        wait()
        start = clock()
        call(), call()
        wait()
        times.append(clock() - start)
    return 1000 * statistics.median(times)


@wrong("stopwatch", "signature", outcome="could not run")
def without_clock(call, repeats=9):
    return 1.0


# 10.2 Right -----------------------------------------------------------------------------------------------------------

right("fold", "PyTorch's own")(fuse_conv_bn_eval)


def settings(convolution):
    names = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups", "padding_mode")
    return {name: getattr(convolution, name) for name in names}


def layer(convolution, weight, bias):
    made = nn.Conv2d(**settings(convolution), bias=bias is not None, dtype=weight.dtype)
    made.weight.data = weight.detach().clone()
    if bias is not None:
        made.bias.data = bias.detach().clone()
    return made


@right("fold", "a new layer, einsum")
def new_layer(convolution, norm):
    factor = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    b = torch.zeros_like(norm.running_mean) if convolution.bias is None else convolution.bias
    weight = einsum(factor, convolution.weight, "o, o i h w -> o i h w")
    return layer(convolution, weight, (b - norm.running_mean) * factor + norm.bias)


@right("fold", "a diagonal matrix, YOLO's way")
def yolo(convolution, norm):
    made = nn.Conv2d(**settings(convolution), bias=True).requires_grad_(False).double()
    matrix = torch.diag(norm.weight.div(torch.sqrt(norm.eps + norm.running_var)))
    made.weight.copy_(torch.mm(matrix, convolution.weight.flatten(1)).view(made.weight.shape))
    b = torch.zeros(len(matrix)).double() if convolution.bias is None else convolution.bias
    shift = norm.bias - norm.weight.mul(norm.running_mean).div(torch.sqrt(norm.running_var + norm.eps))
    made.bias.copy_(torch.mm(matrix, b.reshape(-1, 1)).reshape(-1) + shift)
    return made


@right("fold", "measured with zeros and the norm itself")
@torch.no_grad()
def by_measuring(convolution, norm):
    zero = torch.zeros(1, len(norm.bias), 1, 1).double()
    shift, scale = norm(zero), norm(zero + 1) - norm(zero)
    made = copy.deepcopy(convolution)
    made.weight *= scale.view(-1, 1, 1, 1)
    b = 0 if convolution.bias is None else convolution.bias
    made.bias = nn.Parameter(b * scale.flatten() + shift.flatten())
    return made


# 10.2 Wrong -----------------------------------------------------------------------------------------------------------


def bias_of(convolution, norm):
    return torch.zeros_like(norm.bias) if convolution.bias is None else convolution.bias


def folded(scale=None, bias=None):
    """The right fold but for the factors, or the bias."""

    def answer(convolution, norm):
        right_scale = norm.weight / (norm.running_var + norm.eps).sqrt()
        b, m, shift = bias_of(convolution, norm), norm.running_mean, norm.bias
        s = right_scale if scale is None else scale(norm)
        made = (b - m) * s + shift if bias is None else bias(b, m, s, shift, norm)
        return layer(convolution, convolution.weight * s.view(-1, 1, 1, 1), made)

    return answer


def setting(**changed):
    def answer(convolution, norm):
        made = new_layer(convolution, norm)
        wanted = settings(convolution) | changed
        other = nn.Conv2d(**wanted, dtype=torch.float64)
        if other.weight.shape == made.weight.shape:
            other.load_state_dict(made.state_dict())
        return other

    return answer


for kind, style, answer in (
    ("running-mean-forgotten", "", folded(bias=lambda b, m, s, t, n: b * s + t)),
    ("running-mean-forgotten", "and the bias not scaled", folded(bias=lambda b, m, s, t, n: b + t)),
    ("own-bias-forgotten", "", folded(bias=lambda b, m, s, t, n: t - m * s)),
    ("own-bias-not-scaled", "", folded(bias=lambda b, m, s, t, n: b - m * s + t)),
    ("mean-not-scaled", "", folded(bias=lambda b, m, s, t, n: b * s - m + t)),
    ("mean-not-scaled", "without gamma", folded(bias=lambda b, m, s, t, n: b * s - m * s / n.weight + t)),
    ("mean-with-the-wrong-sign", "", folded(bias=lambda b, m, s, t, n: (b + m) * s + t)),
    ("shift-forgotten", "", folded(bias=lambda b, m, s, t, n: (b - m) * s)),
    ("shift-scaled", "", folded(bias=lambda b, m, s, t, n: (b - m + t) * s)),
    ("running-mean-forgotten", "shift alone", folded(bias=lambda b, m, s, t, n: t)),
    ("no-bias-in-the-layer", "", folded(bias=lambda b, m, s, t, n: None)),
    ("scale-forgotten", "", folded(lambda n: 1 / (n.running_var + n.eps).sqrt())),
    ("not-divided", "", folded(lambda n: n.weight)),
    ("weights-not-scaled", "", folded(lambda n: torch.ones_like(n.weight))),
    ("eps-forgotten", "", folded(lambda n: n.weight / n.running_var.sqrt())),
    ("eps-outside-the-root", "", folded(lambda n: n.weight / (n.running_var.sqrt() + n.eps))),
    ("eps-fixed", "1e-5", folded(lambda n: n.weight / (n.running_var + 1e-5).sqrt())),
    ("eps-fixed", "1e-6", folded(lambda n: n.weight / (n.running_var + 1e-6).sqrt())),
    ("variance-for-deviation", "", folded(lambda n: n.weight / (n.running_var + n.eps))),
    ("variance-for-deviation", "no eps", folded(lambda n: n.weight / n.running_var)),
    ("multiplied-by-deviation", "", folded(lambda n: n.weight * (n.running_var + n.eps).sqrt())),
    ("not-a-convolution", "a Sequential", nn.Sequential),
    ("not-a-convolution", "a weight", lambda convolution, norm: new_layer(convolution, norm).weight),
    ("not-a-convolution", "a function", lambda convolution, norm: lambda x: norm(convolution(x))),
    ("groups-lost", "", setting(groups=1)),
    ("stride-lost", "", setting(stride=(1, 1))),
    ("other-setting-lost", "padding", setting(padding=(0, 0))),
    ("other-setting-lost", "dilation", setting(dilation=(1, 1))),
    ("other-setting-lost", "padding_mode", setting(padding_mode="zeros")),
    ("wrong-dtype", "float32", lambda convolution, norm: new_layer(convolution, norm).float()),
    ("no-return", "", lambda convolution, norm: print(new_layer(convolution, norm))),
    (
        "fails-without-bias",
        "",
        lambda convolution, norm: layer(
            convolution,
            new_layer(convolution, norm).weight,
            (convolution.bias - norm.running_mean) * norm.weight / (norm.running_var + norm.eps).sqrt() + norm.bias,
        ),
    ),
    ("bias-of-random-numbers", "", lambda convolution, norm: folded_without_bias(convolution, norm)),
    ("weights-of-random-numbers", "", lambda convolution, norm: nn.Conv2d(**settings(convolution)).double()),
):
    wrong_value("fold", kind, answer, style)


def folded_without_bias(convolution, norm):
    made = nn.Conv2d(**settings(convolution)).double()
    made.weight.data = new_layer(convolution, norm).weight.data
    return made


@wrong("fold", "inputs-scaled")
def along_the_inputs(convolution, norm):
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    made = new_layer(convolution, norm)
    made.weight.data = convolution.weight.detach() * scale.view(1, -1, 1, 1)
    return made


@wrong("fold", "changes-the-parts")
def in_place(convolution, norm):
    made = new_layer(convolution, norm)
    convolution.load_state_dict(made.state_dict(), strict=False)
    return convolution


@wrong("fold", "batch-measured")
def measured(convolution, norm):
    x = torch.randn(16, convolution.in_channels, 12, 12, dtype=torch.float64)
    y = convolution(x)
    mean, var = y.mean((0, 2, 3)), y.var((0, 2, 3))
    scale = norm.weight / (var + norm.eps).sqrt()
    made = convolution.weight * scale.view(-1, 1, 1, 1)
    return layer(convolution, made, (bias_of(convolution, norm) - mean) * scale + norm.bias)


# 10.3 Right -----------------------------------------------------------------------------------------------------------


@right("in_strips", "padded first, neighbours always there")
def padded(convolution, x, rows):
    x = F.pad(x, (0, 0, 1, 1))
    strips = [x[:, :, start : start + rows + 2] for start in range(0, x.shape[2] - 2, rows)]
    return torch.cat([convolution(strip)[:, :, 1:-1] for strip in strips], 2)


@right("in_strips", "written into a result")
def into_a_result(convolution, x, rows):
    batch, _, height, width = x.shape
    out = x.new_empty(batch, convolution.out_channels, height, width)
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        low, high = max(top - 1, 0), min(bottom + 1, height)
        y = convolution(x[:, :, low:high])
        out[:, :, top:bottom] = y[:, :, top - low : top - low + bottom - top]
    return out


@right("in_strips", "the functional convolution, padded by hand, strips by split")
def functional(convolution, x, rows):
    x, made, start = F.pad(x, (1, 1, 1, 1)), [], 0
    for count in [len(part) for part in torch.arange(x.shape[2] - 2).split(rows)]:
        made.append(
            F.conv2d(
                x[:, :, start : start + count + 2], convolution.weight, convolution.bias, groups=convolution.groups
            )
        )
        start += count
    return torch.cat(made, dim=-2)


@right("in_strips", "F.unfold and one matrix")
def unfolded(convolution, x, rows):
    made = []
    for top in range(0, x.shape[2], rows):
        strip = F.pad(x, (1, 1, 1, 1))[:, :, top : top + rows + 2]
        weight = convolution.weight.flatten(1).unflatten(0, (convolution.groups, -1))
        y = (weight @ F.unfold(strip, 3).unflatten(1, (convolution.groups, -1))).flatten(1, 2) + convolution.bias[
            :, None
        ]
        made.append(y.unflatten(2, (-1, x.shape[3])))
    return torch.cat(made, 2)


# 10.3 Wrong -----------------------------------------------------------------------------------------------------------


def strips(above=1, below=1, skip=None, keep=None, order=1, dim=2, pad=None):
    """Strips with some rows above and below; of the result, `keep` of those from `skip` on."""

    def answer(convolution, x, rows):
        made = []
        for top in range(0, x.shape[2], rows):
            over = min(above, top)
            y = convolution(x[:, :, top - over : top + rows + below])
            first = over if skip is None else skip
            made.append(y[:, :, first : first + (rows if keep is None else keep(rows))])
        return torch.cat(made[::order], dim)

    return answer


def border(mode):
    """Neighbours at the cuts, and something else than zeros beyond the outermost rows."""

    def answer(convolution, x, rows):
        x = F.pad(x, (0, 0, 1, 1), mode=mode) if mode != "ones" else F.pad(x, (0, 0, 1, 1), value=1.0)
        tops = range(0, x.shape[2] - 2, rows)
        return torch.cat([convolution(x[:, :, top : top + rows + 2])[:, :, 1:-1] for top in tops], 2)

    return answer


for kind, style, answer in (
    ("no-neighbours", "", strips(0, 0)),
    ("no-neighbours", "chunks by split", lambda c, x, rows: torch.cat([c(part) for part in x.split(rows, 2)], 2)),
    (
        "no-neighbours",
        "cuts reflected",
        lambda c, x, rows: torch.cat(
            [c(F.pad(part, (0, 0, 1, 1), "replicate"))[:, :, 1:-1] for part in x.split(rows, 2)], 2
        ),
    ),
    (
        "no-neighbours",
        "chunks of another height",
        lambda c, x, rows: torch.cat([c(part) for part in x.chunk(rows, 2)], 2),
    ),
    ("joined-along-another-axis", "columns", lambda c, x, rows: torch.cat([c(part) for part in x.split(rows, 3)], 3)),
    ("bias-lost", "", lambda c, x, rows: strips()(c, x, rows) - c.bias.view(1, -1, 1, 1)),
    ("no-neighbour-above", "", strips(0, 1)),
    ("no-neighbour-below", "", strips(1, 0)),
    ("neighbours-kept", "", strips(keep=lambda rows: rows + 2, skip=0)),
    ("neighbours-kept", "above", strips(keep=lambda rows: rows + 1, skip=0, below=0)),
    ("wrong-rows-kept", "from the first on", strips(skip=0)),
    ("first-row-lost", "", strips(skip=1)),
    (
        "neighbours-cut-twice",
        "both ends always",
        lambda c, x, rows: torch.cat([c(part)[:, :, 1:-1] for part in x.split(rows, 2) if part.shape[2] > 2], 2),
    ),
    ("strips-out-of-order", "", strips(order=-1)),
    (
        "joined-along-another-axis",
        "batch",
        lambda c, x, rows: (
            torch.cat([c(part) for part in x.split(rows, 2)], 0) if x.shape[2] % rows == 0 else strips()(c, x, rows)
        ),
    ),
    ("joined-along-another-axis", "width", strips(dim=3)),
    ("joined-along-another-axis", "stacked", lambda c, x, rows: torch.stack([c(part) for part in x.split(rows, 2)])),
    ("outer-border", "reflected", border("reflect")),
    ("outer-border", "replicated", border("replicate")),
    ("outer-border", "ones", border("ones")),
    ("outer-border", "wrapped", border("circular")),
    ("whole-at-once", "", lambda c, x, rows: c(x)),
    ("whole-at-once", "cut afterwards", lambda c, x, rows: torch.cat(c(x).split(rows, 2), 2)),
    ("strips-too-large", "two rows each side", lambda c, x, rows: wide(c, x, rows)),
    ("rows-ignored", "always four", lambda c, x, rows: strips()(c, x, 4)),
    ("no-gradient", "", torch.no_grad()(strips())),
    ("no-gradient", "detached", lambda c, x, rows: strips()(c, x.detach(), rows).detach()),
    (
        "wrong-gradient",
        "neighbours detached",
        lambda c, x, rows: torch.cat(
            [
                c(
                    torch.cat(
                        [
                            F.pad(x, (0, 0, 1, 1))[:, :, top : top + 1].detach(),
                            x[:, :, top : top + rows],
                            F.pad(x, (0, 0, 1, 1))[:, :, top + rows + 1 : top + rows + 2].detach(),
                        ],
                        2,
                    )
                )[:, :, 1 : 1 + min(rows, x.shape[2] - top)]
                for top in range(0, x.shape[2], rows)
            ],
            2,
        ),
    ),
    ("wrong-dtype", "float32", lambda c, x, rows: strips()(c, x, rows).float()),
    ("no-return", "", lambda c, x, rows: print(strips()(c, x, rows).shape)),
    ("wrong-type", "a list", lambda c, x, rows: [c(part) for part in x.split(rows, 2)]),
):
    wrong_value("in_strips", kind, answer, style)


def wide(convolution, x, rows):
    made = []
    for top in range(0, x.shape[2], rows):
        above = min(top, 2)
        made.append(convolution(x[:, :, top - above : top + rows + 2])[:, :, above : above + rows])
    return torch.cat(made, 2)


@wrong("in_strips", "last-strip-lost")
def whole_strips_alone(convolution, x, rows):
    made = []
    for number in range(x.shape[2] // rows):
        top = number * rows
        above = min(top, 1)
        made.append(convolution(x[:, :, top - above : top + rows + 1])[:, :, above : above + rows])
    return torch.cat(made, 2)


@wrong("in_strips", "overlaps-added")
def adding(convolution, x, rows):
    out = torch.zeros_like(convolution(x))
    for top in range(0, x.shape[2], rows):
        low, high = max(top - 1, 0), min(top + rows + 1, x.shape[2])
        wider = x[:, :, max(low - 1, 0) : high + 1]
        y = convolution(wider)
        out[:, :, low:high] += y[:, :, low - max(low - 1, 0) :][:, :, : high - low]
    return out


@wrong("in_strips", "fails-for-one-row")
def inner_rows_alone(convolution, x, rows):
    if rows == 1:
        raise ValueError("a strip needs two rows")
    return strips()(convolution, x, rows)


@wrong("in_strips", "fails-for-a-tall-strip")
def last_row_asked_for(convolution, x, rows):
    x[:, :, rows - 1].sum()
    return strips()(convolution, x, rows)


@wrong("in_strips", "changes-input")
def pads_in_place(convolution, x, rows):
    y = strips()(convolution, x, rows)
    x.data[:, :, 0] = 0
    return y


# 10.4 -----------------------------------------------------------------------------------------------------------------

DIMS, SIDES, D = (32, 64, 160, 256), (128, 64, 32, 16), 256
PROJECTED = sum(s * s * c * D for s, c in zip(SIDES, DIMS))
KEY = {
    "projections": PROJECTED,
    "fusion": 128 * 128 * 1024 * 256,
    "one matrix a scale": PROJECTED,
    "making the matrices": 256 * 256 * sum(DIMS),
}
right_value("collapsed", "whole numbers", KEY)
right_value("collapsed", "NumPy", {name: np.float64(value) for name, value in KEY.items()})
right_value("collapsed", "tensors", {name: torch.tensor(value) for name, value in KEY.items()})
for kind, entry, value in (
    ("macs-doubled", "projections", 2 * PROJECTED),
    ("all-at-the-finest", "projections", 128 * 128 * sum(DIMS) * D),
    ("places-forgotten", "projections", sum(DIMS) * D),
    ("image-for-map", "projections", sum((512 >> i) ** 2 * c * D for i, c in enumerate(DIMS))),
    ("side-once", "projections", sum(s * c * D for s, c in zip(SIDES, DIMS))),
    ("factor-of-thousand", "projections", PROJECTED / 1e6),
    ("one-map-of-four", "fusion", 128 * 128 * 256 * 256),
    ("channels-before-projection", "fusion", 128 * 128 * sum(DIMS) * 256),
    ("each-at-its-size", "fusion", sum(s * s for s in SIDES) * 256 * 256),
    ("image-for-map", "fusion", 512 * 512 * 1024 * 256),
    ("swapped", "fusion", PROJECTED),
    ("both-still-done", "one matrix a scale", PROJECTED + KEY["fusion"]),
    ("all-at-the-finest", "one matrix a scale", 128 * 128 * sum(DIMS) * D),
    ("wide-matrices", "one matrix a scale", sum(s * s for s in SIDES) * 256 * 256),
    ("with-the-making", "one matrix a scale", PROJECTED + 256 * 256 * sum(DIMS)),
    ("size-of-the-result", "making the matrices", 256 * sum(DIMS)),
    ("for-every-pixel", "making the matrices", sum(s * s * 256 * 256 * c for s, c in zip(SIDES, DIMS))),
    ("wide-matrices", "making the matrices", 4 * 256**3),
    ("whole-fuse-for-each", "making the matrices", 1024 * 256 * sum(DIMS)),
    ("too-small", "making the matrices", 12345),
):
    wrong_value("collapsed", kind, KEY | {entry: value}, f"{entry} {value}")

# Warm-ups -------------------------------------------------------------------------------------------------------------

ROWS = torch.arange(24.0).reshape(8, 3)
right_value("strip", "slice", ROWS[2:6])
right_value("strip", "narrow", ROWS.narrow(0, 2, 4))
wrong_value("strip", "no-neighbours", ROWS[3:5])
wrong_value("strip", "one-neighbour", ROWS[3:6])
wrong_value("strip", "one-neighbour", ROWS[2:5])
wrong_value("strip", "two-neighbours", ROWS[1:7])
wrong_value("strip", "columns-for-rows", ROWS[:, 2:6])
wrong_value("strip", "strip-moved", ROWS[3:7], "one too far")
wrong_value("strip", "strip-moved", ROWS[1:5], "one too early")

PROJECT, FUSE = torch.tensor([[1.0, 2, 0], [0, 1, 3]]), torch.tensor([[1.0, 1], [2, 0], [0, 5], [1, 4]])
right_value("one matrix", "product", FUSE @ PROJECT)
right_value("one matrix", "einsum", einsum(FUSE, PROJECT, "o d, d i -> o i"))
wrong_value("one matrix", "transposed", PROJECT.T @ FUSE.T)
wrong_value("one matrix", "projection-alone", PROJECT)
wrong_value("one matrix", "fusion-alone", FUSE)
wrong_value("one matrix", "middle-exchanged", FUSE @ PROJECT.flip(0))
wrong_value("one matrix", "summed-separately", einsum(FUSE, PROJECT, "o a, b i -> o i"))


# Found by answers that were written from the texts alone --------------------------------------------------------------


def beside_the_middle(place):
    def stopwatch(call, repeats, wait, clock):
        times = []
        for number in range(2 + repeats):
            wait()
            start = clock()
            call()
            wait()
            if number >= 2:
                times.append(1000 * (clock() - start))
        return sorted(times)[place(repeats)]

    return stopwatch


wrong_value("stopwatch", "beside-the-middle", beside_the_middle(lambda count: count // 2 - 1), "one below")
wrong_value("stopwatch", "beside-the-middle", beside_the_middle(lambda n: min(n // 2 + 1, n - 1)), "one above")


# Found by an adversary ------------------------------------------------------------------------------------------------


def warm_ups_each_time(call, repeats, wait, clock):
    times = []
    for _ in range(repeats):
        call()
        call()
        wait()
        start = clock()
        call()
        wait()
        times.append(1000 * (clock() - start))
    return statistics.median(times)


wrong_value("stopwatch", "warm-up-in-the-loop", warm_ups_each_time)
for kind, summary in (
    ("rounded", lambda times: int(1000 * statistics.median(times)) / 1000),
    ("rounded", lambda times: round(statistics.median(times), 3)),
    ("mean", lambda times: statistics.fmean(sorted(times)[:-1] or times)),
    ("mean", lambda times: sum(sorted(times)[:-1]) / max(1, len(times) - 1)),
):
    wrong_value("stopwatch", kind, watch(summary=summary))

for kind, style, answer in (
    ("sign-lost", "", folded(lambda n: n.weight.abs() / (n.running_var + n.eps).sqrt())),
    (
        "one-scale-for-all",
        "the mean",
        folded(lambda n: (n.weight / (n.running_var + n.eps).sqrt()).mean() + 0 * n.bias),
    ),
    (
        "scale-and-shift-exchanged",
        "",
        folded(lambda n: n.bias / (n.running_var + n.eps).sqrt(), lambda b, m, s, t, n: (b - m) * s + n.weight),
    ),
    ("momentum-used", "", folded(lambda n: n.weight / (n.running_var * n.momentum + n.eps).sqrt())),
    ("other-setting-lost", "one dilation for both sides", lambda c, n: setting(dilation=c.dilation[0])(c, n)),
):
    wrong_value("fold", kind, answer, style)


def last_row_cut(convolution, x, rows):
    made = []
    for top in range(0, x.shape[2], rows):
        above = min(top, 1)
        made.append(convolution(x[:, :, top - above : top + rows + 1])[:, :, above:-1])
    return torch.cat(made, 2)


def pads_the_width_alone(convolution, x, rows):
    convolution.padding = (0, 1)
    return padded(convolution, x, rows)


for kind, style, answer in (
    ("groups-lost", "", lambda c, x, rows: strips()(lambda part: F.conv2d(part, c.weight, c.bias, padding=1), x, rows)),
    ("strips-too-small", "", lambda c, x, rows: strips()(c, x, max(rows - 2, 1))),
    ("strips-too-small", "one row", lambda c, x, rows: strips()(c, x, 1)),
    ("last-row-lost", "", last_row_cut),
    ("changes-the-layer", "", pads_the_width_alone),
    ("changes-the-layer", "its weights", lambda c, x, rows: (c.weight.data.mul_(1.5), strips()(c, x, rows))[1]),
    ("no-gradient", "of the map", lambda c, x, rows: strips()(c, x.detach(), rows)),
):
    wrong_value("in_strips", kind, answer, style)
