"""Chapter 10: speed without changing the answer."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from segformer_edu.checks.core import Failure, Look, close, exercise, random, short
from segformer_edu.checks.numbers import Quantity, plain, predictions, puzzle_of

# 10.1

STOPWATCH_HINTS = {
    "no-warm-up": "The first calls take longer than all that follow. What else happens in them, and should it count?",
    "one-warm-up": "The second call is slow as well. How many calls should not be counted?",
    "not-waited-for-the-end": "A device is told what to do, and the call is over. Has the work been done by then?",
    "not-waited-for-the-start": "Work of earlier calls is still being done when your watch starts. Whose time is it?",
    "never-waits": "Nothing asks the device whether it has finished. What do you measure then?",
    "mean": "One call was interrupted, and your result has moved. Which number do interruptions not move?",
    "minimum": "Yours is the shortest time of all. Which call in the middle would speak for most of them?",
    "maximum": "Yours is the longest time of all. Who may have interrupted it?",
    "not-sorted": "The middle of the list is taken. In which order do its numbers stand?",
    "beside-the-middle": "The times are in order, and yours is next to the middle one. From which number do lists "
    "count?",
    "last-only": "One call is measured. What became of the others?",
    "sum": "Several calls are added up. How long does one take?",
    "whole-loop": "One watch runs over all the calls. Which number needs the time of each one?",
    "seconds": "The digits are right. In which unit does the clock count, and in which one is asked for?",
    "own-clock": "The time is taken from another clock than the one that was handed over. Which one is it?",
    "repeats-ignored": "As many calls are made, whatever number is asked for. Where is it written down?",
    "one-call-too-few": "Fewer calls are timed than are asked for. How often does your loop run?",
    "call-inside-out": "Nothing is called between the two looks at the clock. What is it that takes time?",
    "call-twice": "Between two looks at the clock the function is called more than once. How often should it be?",
    "warm-up-in-the-loop": "Calls that do not count are made before each one that does. How often does a device "
    "have to wake up?",
    "rounded": "Digits are missing at the end of yours. Which line takes them away?",
    "not-a-number": "How many milliseconds: which kind of answer is that?",
}


class _Device:
    """A device whose time stands still unless it is used: calls take a moment to hand over, and later to be done."""

    LAUNCH = 0.001
    SLOW = (0.21, 0.17)
    WORK = (0.0231, 0.0253, 0.1951, 0.0217, 0.0262, 0.0248, 0.0225, 0.0239, 0.0271)

    def __init__(self) -> None:
        self.now, self.pending, self.calls = 100.0, 0.0441, 0  # something is being done already
        self.log: list[str] = []

    def call(self) -> None:
        self.log.append("call")
        self.now += self.LAUNCH
        later = self.calls - len(self.SLOW)
        self.pending += self.WORK[later % len(self.WORK)] if later >= 0 else self.SLOW[self.calls]
        self.calls += 1

    def wait(self) -> None:
        self.log.append("wait")
        self.now += self.pending
        self.pending = 0.0

    def clock(self) -> float:
        self.log.append("clock")
        return self.now


REPEATS = (1, 3, 5, 7)
SUMMARIES: dict[str, Callable[[list[float]], float]] = {
    "": statistics.median,
    "mean": statistics.fmean,
    "minimum": min,
    "maximum": max,
    "sum": sum,
    "last-only": lambda times: times[-1],
    "not-sorted": lambda times: times[len(times) // 2],
    "beside-the-middle": lambda times: sorted(times)[len(times) // 2 - 1],
    "beside-the-middle ": lambda times: sorted(times)[min(len(times) // 2 + 1, len(times) - 1)],
    "mean ": lambda times: statistics.fmean(sorted(times)[1:-1] or times),
    "mean  ": lambda times: statistics.fmean(sorted(times)[:-1] or times),
    "mean   ": lambda times: sum(sorted(times)[:-1]) / max(1, len(times) - 1),
}


def _measured(repeats: int, warmups: int, before: bool, after: bool, summary: str, whole: bool, settle: bool) -> float:
    """Return the seconds that a stopwatch with these properties measures."""
    device = _Device()
    times: list[float] = []
    for _ in range(warmups):
        device.call()
    if settle:
        device.wait()
    start = device.clock()
    for _ in range(repeats):
        if before:
            device.wait()
        start = start if whole and times else device.clock()
        device.call()
        if after:
            device.wait()
        times.append(device.clock() - start)
    if whole:
        device.wait() if after else None
        return (device.clock() - start) / repeats
    return float(SUMMARIES[summary](times))


@exercise("stopwatch", STOPWATCH_HINTS)
def stopwatch(look: Look, answer: Any) -> None:
    """Check ``stopwatch(call, repeats, wait, clock)``, a function that returns milliseconds."""
    look.exists(answer)
    results, logs = [], []
    for repeats in REPEATS:
        device = _Device()
        told = f"stopwatch(call, {repeats}, wait, clock)"
        value = look.call(answer, device.call, repeats, device.wait, device.clock, told=told)
        if value is None or value is Ellipsis:
            look.nothing(answer, told)
        value = plain(value)
        if isinstance(value, bool) or not isinstance(value, int | float):
            look.wrong("not-a-number", f"{told} gave a {type(value).__name__}.")
        results.append(float(value))
        logs.append(device.log)
    look.done("runs, gives a number")
    _how_called(look, logs)
    look.done("calls, looks at the clock")
    target = [1000 * _measured(repeats, 2, True, True, "", False, True) for repeats in REPEATS]
    if not _equal(results, target):
        _recognised(look, results, target, logs)
    look.done(f"milliseconds for {', '.join(map(str, REPEATS))} calls, one of them interrupted")


def _equal(first: Sequence[float], second: Sequence[float]) -> bool:
    return all(math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-9) for a, b in zip(first, second))


def _how_called(look: Look, logs: list[list[str]]) -> None:
    """End where the calls, or the looks at the clock, are not what a measurement is made of."""
    counts = [log.count("call") for log in logs]
    seen = f"For {', '.join(map(str, REPEATS))} repeats it called {', '.join(map(str, counts))} times."
    if not any("clock" in log for log in logs):
        look.wrong("own-clock", f"The clock was never asked. {seen}")
    if len(set(counts)) == 1:
        look.wrong("repeats-ignored", seen)
    if all(count < repeats for count, repeats in zip(counts, REPEATS)):
        look.wrong("one-call-too-few", seen)
    if not any("wait" in log for log in logs):
        look.wrong("never-waits", f"`wait` was never called. {seen}")


def _recognised(look: Look, results: list[float], target: list[float], logs: list[list[str]]) -> None:
    """Compute what stopwatches with one fault, with two and so on measure; tell the first fault of the nearest."""
    found = ", ".join(f"{value:.6g}" for value in results)
    seen = f"For {', '.join(map(str, REPEATS))} calls it measured {found} ms; right is " + ", ".join(
        f"{value:.6g}" for value in target
    )
    best: tuple[str, ...] | None = None
    whole = len({log.count("clock") for log in logs}) == 1  # as many looks at the clock, however many calls
    for number, before, after, summary, settle in itertools.product(
        (2, 0, 1, 3, 5, -2, -1), (True, False), (True, False), [""] if whole else SUMMARIES, (True, False)
    ):
        warmups, more = max(number, 0), max(-number, 0)  # below zero: so many warm-ups are counted
        made = [_measured(repeats + more, warmups, before, after, summary, whole, settle) for repeats in REPEATS]
        unit = min(
            (1000, 1, 1e6, 1e9),
            key=lambda unit: abs(math.log(max(abs(results[0] / (unit * made[0] or 1e-300)), 1e-300))),
        )
        if _equal(results, [unit * value for value in made]):
            faults = (
                ("whole-loop" if whole else "",),
                ("not-waited-for-the-end" if not after else "",),
                ({0: "no-warm-up", 1: "one-warm-up"}.get(warmups, ""),),
                ("not-waited-for-the-start" if not before and not settle else "",),
                (summary.strip(),),
                ("seconds" if unit != 1000 else "",),
            )
            kinds = tuple(kind for (kind,) in faults if kind)
            best = kinds if best is None or len(kinds) < len(best) else best
    if best == ():
        return  # more warm-ups than asked for
    if best:
        look.wrong(best[0], f"{seen}.")
    for log in logs:
        inside = [
            sum(1 for _ in run) for kind, run in itertools.groupby(e for e in log if e != "wait") if kind == "call"
        ]
        if inside and inside[0] >= log.count("call"):
            look.wrong("call-inside-out", f"{seen}.")
        if inside and max(inside[1:], default=0) > 1:
            look.wrong("warm-up-in-the-loop" if _one_at_a_time(log) else "call-twice", f"{seen}.")
    for factor, kind in ((1e-3, "seconds"), (1e3, "seconds"), (1e-6, "seconds")):
        if _equal(results, [factor * value for value in target]):
            look.wrong(kind, f"{seen}.")
    _otherwise(look, results, target, logs, seen)


def _one_at_a_time(log: list[str]) -> bool:
    """Whether one call is made between each first and second look at the clock."""
    between = " ".join(event for event in log if event != "wait").split("clock")
    return all(part.split() == ["call"] for part in between[1::2])


def _otherwise(look: Look, results: list[float], target: list[float], logs: list[list[str]], seen: str) -> NoReturn:
    """No combination of faults gives these numbers: what else can be said of them?"""
    if all(log.count("clock") <= repeats + 1 for log, repeats in zip(logs, REPEATS)):
        look.wrong("whole-loop", f"{seen}.")
    if _equal(results, [-value for value in target]):
        look.wrong("sign-reversed", f"{seen}.")
    for digits in range(4):
        if all(abs(value - right) < 10**-digits and math.isclose(value, round(value, digits))
               for value, right in zip(results, target)):  # fmt: skip
            look.wrong("rounded", f"{seen}.")
    near = all(math.isclose(value, right, rel_tol=0.05) for value, right in zip(results, target))
    look.wrong("close-but-not-equal" if near else "unknown", f"{seen}.")


# 10.2

FOLD_HINTS = {
    "not-a-convolution": "One layer is asked for, that does the work of two. What does your function give back?",
    "changes-the-parts": "After your function one of the two holds other numbers. Into what does it write?",
    "running-mean-forgotten": "Each channel is off by a constant. What does the norm take off before it divides?",
    "own-bias-forgotten": "The convolution adds something of its own. What does the norm do with it?",
    "own-bias-not-scaled": "The norm works on all that the convolution gives, with its bias. Which part did you leave "
    "as it was?",
    "mean-not-scaled": "What is taken off first is divided as well. In which order are the steps done?",
    "shift-forgotten": "Each channel is off by a constant. What does the norm add at its end?",
    "shift-scaled": "The norm's last step is an addition. Is anything multiplied after it?",
    "mean-with-the-wrong-sign": "Is the mean added to what comes in, or taken off it?",
    "bias-of-random-numbers": "A new layer starts with random numbers. Which of them have you not overwritten?",
    "weights-of-random-numbers": "A new layer starts with random numbers. Have you overwritten its filters?",
    "weights-not-scaled": "The filters are as they were. What does the norm multiply each channel by?",
    "scale-forgotten": "Between its division and its addition the norm does one thing more. Which?",
    "not-divided": "The norm's own scale is in the filters. By what does the norm divide?",
    "variance-for-deviation": "Is a norm's division by the variance, or by something of the same unit as the numbers?",
    "multiplied-by-deviation": "Should a channel that varies a lot become smaller or larger?",
    "eps-forgotten": "Where the variance is tiny, yours is too large. What keeps the norm from dividing by zero?",
    "eps-outside-the-root": "Where the variance is tiny, yours differs. To what is the small constant added, and when?",
    "eps-fixed": "Where the variance is tiny, yours differs. Which norm decides how large the small constant is?",
    "sign-lost": "In some channels the norm's own scale is below zero. Which line takes its sign away?",
    "one-scale-for-all": "All filters are multiplied by the same number. How many factors has the norm?",
    "scale-and-shift-exchanged": "The norm has two numbers of its own for each channel. Which of them multiplies?",
    "momentum-used": "One of the norm's numbers says how fast it learns its statistics. Is anything learned here?",
    "inputs-scaled": "The norm comes after the convolution. Which axis of the filters counts what comes out?",
    "no-bias-in-the-layer": "The convolution had no bias. Does the norm shift its channels all the same?",
    "fails-without-bias": "A convolution may have no bias. What stands there in its place?",
    "stride-lost": "The layer makes another number of places. Which of the convolution's settings are yours?",
    "groups-lost": "The filters see one group of channels. Which of the convolution's settings says so?",
    "other-setting-lost": "The layer steps over its map in another way than the convolution. Which setting is not "
    "handed on?",
    "batch-measured": "In evaluation a norm measures nothing. Which numbers does it use instead?",
}
FOLDED: tuple[dict[str, Any], ...] = (
    {"in_channels": 6, "out_channels": 11, "kernel_size": 3, "padding": 1},
    {"in_channels": 5, "out_channels": 5, "kernel_size": 1},
    {"in_channels": 6, "out_channels": 11, "kernel_size": 3, "padding": 1, "bias": False},
    {"in_channels": 6, "out_channels": 6, "kernel_size": 3, "padding": 1, "groups": 6},
    {
        "in_channels": 4,
        "out_channels": 7,
        "kernel_size": (3, 5),
        "padding": (2, 1),
        "stride": (2, 3),
        "dilation": (2, 1),
    },
    {"in_channels": 4, "out_channels": 7, "kernel_size": 3, "padding": 1, "padding_mode": "reflect", "bias": False},
)


def _pair(options: dict[str, Any], seed: int) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
    """A convolution and a norm in evaluation, nothing of which is zero or one; some variances are tiny."""
    torch.manual_seed(seed)
    convolution = nn.Conv2d(**options).double()
    channels = convolution.out_channels
    norm = nn.BatchNorm2d(channels, eps=3e-4 if seed else 1e-5).double().eval()
    with torch.no_grad():
        norm.weight.copy_(random(channels, seed=seed + 1).abs() + 0.6)
        norm.weight[1::3] *= -1
        norm.bias.copy_(random(channels, seed=seed + 2))
        norm.running_mean.copy_(random(channels, seed=seed + 3))  # type: ignore[union-attr]
        norm.running_var.copy_(random(channels, seed=seed + 4).abs() + 0.3)  # type: ignore[union-attr]
        norm.running_var[::2] *= 1e-4  # type: ignore[index]
    return convolution.eval(), norm


@exercise("fold", FOLD_HINTS)
def fold(look: Look, answer: Any) -> None:
    """Check ``fold(convolution, norm)``: a function that returns one ``nn.Conv2d`` with the results of both."""
    look.exists(answer)
    for seed, options in enumerate(FOLDED):
        pair = _pair(options, seed)
        _folded(look, answer, *pair)
        words = [f"{options['in_channels']} → {options['out_channels']}"]
        words += [name for name in ("groups", "stride", "padding_mode") if name in options]
        words += ["no bias"] if not options.get("bias", True) else []
        look.done(", ".join(words))


def _folded(look: Look, answer: Any, convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    told = f"fold({convolution}, {norm})"
    before = [value.clone() for part in (convolution, norm) for value in part.state_dict().values()]
    torch.manual_seed(7)
    made = look.attempt(answer, convolution, norm, told=told)
    if isinstance(made, Failure):
        if convolution.bias is None and "None" in made.words:
            look.wrong("fails-without-bias", f"With a convolution that has no bias: {made}")
        if convolution.groups > 1 and ("shape" in made.words or "size" in made.words):
            look.wrong("groups-lost", f"With a depthwise convolution: {made}")
        if convolution.in_channels != convolution.out_channels and "size" in made.words:
            equal = look.attempt(answer, *_pair(FOLDED[1], 1))
            if isinstance(equal, nn.Conv2d):
                _compare(look, answer, equal, *_pair(FOLDED[1], 1))
        made = look.call(answer, convolution, norm, told=told)
    if made is None or made is Ellipsis:
        look.nothing(answer, told)
    after = [value for part in (convolution, norm) for value in part.state_dict().values()]
    if any(not torch.equal(a, b) for a, b in zip(before, after)) or norm.training:
        look.wrong("changes-the-parts", "The convolution or the norm holds other numbers after the call.")
    if not isinstance(made, nn.Conv2d):
        look.wrong("not-a-convolution", f"The function gave a {type(made).__name__}; an nn.Conv2d is expected.")
    _compare(look, answer, made, convolution, norm)


def _compare(look: Look, answer: Any, made: nn.Conv2d, convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    if made.weight.dtype != torch.float64:
        look.wrong("wrong-dtype", f"The layers hold float64, the folded one {short(made.weight.dtype)}.")
    for setting, kind in {
        "groups": "groups-lost", "stride": "stride-lost", "padding": "other-setting-lost",
        "dilation": "other-setting-lost", "padding_mode": "other-setting-lost",
    }.items():  # fmt: skip
        yours, target = getattr(made, setting), getattr(convolution, setting)
        if yours != target:
            look.wrong(kind, f"The layer has the {setting} {yours}; the convolution has {target}.")
    look.shape(made.weight, convolution.weight.shape, "for the filters")
    parts = _compare_filters(look, answer, made, convolution, norm)
    _compare_bias(look, made, convolution, parts)
    x = random(2, convolution.in_channels, 11, 13)
    with torch.no_grad():
        target = norm(convolution(x))
    look.values(look.call(made, x).detach(), target, at="for a random map")


def _compare_filters(
    look: Look, answer: Any, made: nn.Conv2d, convolution: nn.Conv2d, norm: nn.BatchNorm2d
) -> tuple[torch.Tensor, ...]:
    """Each output's filter is multiplied by one factor. Which one? Returns the norm's numbers."""
    W, yours = convolution.weight.detach(), made.weight.detach()
    eps, gamma, beta = norm.eps, norm.weight.detach(), norm.bias.detach()
    mean, var = norm.running_mean, norm.running_var
    if mean is None or var is None:
        raise TypeError("The check's norm has statistics.")
    sigma = (var + eps).sqrt()
    scale = gamma / sigma
    factors = {
        "sign-lost": (scale.abs(),),
        "one-scale-for-all": tuple(number.expand_as(scale) for number in (scale.mean(), *scale)),
        "scale-and-shift-exchanged": (beta / sigma,),
        "momentum-used": (gamma / (var * (norm.momentum or 0) + eps).sqrt(),),
        "weights-not-scaled": (torch.ones_like(scale),),
        "scale-forgotten": (1 / sigma,),
        "not-divided": (gamma,),
        "eps-forgotten": (gamma / var.sqrt(),),
        "eps-outside-the-root": (gamma / (var.sqrt() + eps), gamma / (var.sqrt() + eps**0.5)),
        "eps-fixed": tuple(gamma / (var + other).sqrt() for other in (1e-5, 1e-6, 1e-3, 1e-8, 1e-12)),
        "variance-for-deviation": (gamma / (var + eps), gamma / var, 1 / (var + eps)),
        "multiplied-by-deviation": (gamma * sigma, sigma, gamma * var, gamma * var.sqrt(), sigma / gamma),
    }
    target = W * scale.view(-1, 1, 1, 1)
    if not close(yours, target):
        _other_factors(look, yours, W, target, {"": (scale,), **factors})
        again = look.call(answer, convolution, norm)
        if isinstance(again, nn.Conv2d) and _is_scaled(yours, W) and not close(again.weight.detach(), yours):
            look.wrong("batch-measured", "A second call gives other filters: the factors hang on random numbers.")
        if float(yours.abs().max()) <= W[0].numel() ** -0.5 and not _is_scaled(yours, W):
            look.wrong("weights-of-random-numbers", "The filters have nothing to do with those of the convolution.")
        look.values(yours, target, at="filters")
    return scale, gamma, beta, mean, sigma


def _is_scaled(yours: torch.Tensor, W: torch.Tensor) -> bool:
    """Whether each output's filter is the convolution's times one number."""
    ratios = (yours / W).flatten(1)
    return close(ratios, ratios[:, :1].expand_as(ratios))


def _other_factors(
    look: Look, yours: torch.Tensor, W: torch.Tensor, target: torch.Tensor, factors: dict[str, tuple[torch.Tensor, ...]]
) -> None:
    """End where the filters have a known wrong factor, or a factor along the wrong axis."""
    for kind, candidates in factors.items():
        if kind and any(close(yours, W * factor.view(-1, 1, 1, 1)) for factor in candidates):
            look.wrong(kind, "The filters are those that this mistake gives, to the last digits.")
    every = itertools.chain(*factors.values())
    if W.shape[0] == W.shape[1] and any(close(yours, W * factor.view(1, -1, 1, 1)) for factor in every):
        look.wrong("inputs-scaled", "The filters are multiplied by the norm's factors along their inputs.")


def _compare_bias(look: Look, made: nn.Conv2d, convolution: nn.Conv2d, parts: tuple[torch.Tensor, ...]) -> None:
    """The bias is (b − mean) · scale + shift. Which of its four parts is missing, or treated in another way?"""
    scale, gamma, beta, mean, sigma = parts
    has_bias = convolution.bias is not None
    b = convolution.bias.detach() if convolution.bias is not None else torch.zeros_like(beta)
    target = (b - mean) * scale + beta
    if made.bias is None:
        look.wrong("no-bias-in-the-layer", "The folded layer has no bias.")
    yours = made.bias.detach()
    if close(yours, target):
        return
    nothing = torch.zeros_like(b)
    own = {"": b * scale, "own-bias-not-scaled": b, "own-bias-forgotten": nothing}
    if not has_bias:
        own = {"": nothing}
    means = {
        "": -mean * scale,
        "running-mean-forgotten": nothing,
        "mean-with-the-wrong-sign": mean * scale,
        "mean-not-scaled": -mean,
        "mean-not-scaled ": -mean / sigma,
        "mean-not-scaled  ": -mean * gamma,
    }
    shifts = {"": beta, "shift-forgotten": nothing, "shift-scaled": beta * scale, "shift-scaled ": beta / sigma}
    best: tuple[str, ...] = ()
    for (kind, first), (other, second), (last, third) in itertools.product(own.items(), means.items(), shifts.items()):
        if close(yours, first + second + third):
            faults = tuple(word.strip() for word in (other, kind, last) if word)
            best = faults if not best or len(faults) < len(best) else best
    if best:
        look.wrong(best[0], "The bias is the one that this mistake gives, to the last digits.")
    if float(yours.abs().max()) <= convolution.weight[0].numel() ** -0.5:
        look.wrong("bias-of-random-numbers", "The bias has nothing to do with the two layers.")
    look.values(yours, target, at="bias")


# 10.3

STRIP_HINTS = {
    "whole-at-once": "All rows go through the convolution at once. How many should it see in one call?",
    "strips-too-large": "A call sees more rows than its own and two neighbours. Where does the strip end?",
    "strips-too-small": "More strips are made than the map needs. How many rows of the result does each of them make?",
    "last-row-lost": "The last strip has no row below it. What is cut away from it all the same?",
    "changes-the-layer": "The convolution is another one after the call. Which line sets something of it, and who uses "
    "it next?",
    "groups-lost": "This convolution is depthwise. Which of its settings have you not handed on?",
    "no-neighbours": "The rows on both sides of every cut are wrong. What does the window see there, and what should "
    "it see?",
    "no-neighbour-above": "The first row of every strip but one is wrong. Which row does its window miss?",
    "no-neighbour-below": "The last row of every strip but one is wrong. Which row does its window miss?",
    "neighbours-kept": "There are more rows than went in. Which rows of a strip's result are its own?",
    "neighbours-cut-twice": "There are fewer rows than went in, some at every cut. How often are the extra rows taken "
    "away?",
    "last-strip-lost": "The last rows are missing. What remains where the height is not a multiple?",
    "first-row-lost": "The first strip has no row above it. What is cut away from it all the same?",
    "wrong-rows-kept": "The right rows are computed, and others are kept. At which row of its result does a strip's "
    "own part begin?",
    "outer-border": "The outermost rows alone are wrong. What stands beyond the border of the picture?",
    "strips-out-of-order": "The strips are right, and stand in another order. In which order are they joined?",
    "joined-along-another-axis": "Along which axis were the strips cut, and along which one are they joined?",
    "overlaps-added": "Rows at the cuts hold sums. Does each row belong to one strip, or to two?",
    "fails-for-a-tall-strip": "One strip may hold the whole picture. What do your bounds become then?",
    "fails-for-one-row": "A strip may be a single row. What do your bounds become then?",
    "bias-lost": "Every number of a channel is off by the same amount. What does the convolution add at its end?",
    "rows-ignored": "The strips have the same height, whatever is asked for. Where is it written down?",
}
STRIPS = ((12, 4), (12, 5), (11, 3), (7, 1), (6, 9), (9, 9))  # rows of the picture, rows of a strip


class _Heights(TorchDispatchMode):
    """Notes how many rows go into each convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[int] = []

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if "convolution" in str(operation) or "im2col" in str(operation):
            self.rows.append(args[0].shape[-2])
        return operation(*args, **(kwargs or {}))


@exercise("in_strips", STRIP_HINTS)
def in_strips(look: Look, answer: Any) -> None:
    """Check ``in_strips(convolution, x, rows)``: a function that gives ``convolution(x)``, strip by strip."""
    look.exists(answer)
    torch.manual_seed(0)
    convolution = nn.Conv2d(3, 5, 3, padding=1).double()
    for height, rows in STRIPS:
        _one_picture(look, answer, convolution, height, rows)
        look.done(f"{height} rows in strips of {rows}")
    depthwise = nn.Conv2d(6, 6, 3, padding=1, groups=6).double()
    x = random(2, 6, 11, 7)
    yours = look.attempt(answer, depthwise, x, 3)
    if not isinstance(yours, torch.Tensor) or not close(yours, depthwise(x)):
        words = yours if isinstance(yours, Failure) else "The values are others."
        look.wrong("groups-lost", f"With {depthwise}: {words}")
    look.done("a depthwise convolution")
    x = random(2, 3, 11, 7).requires_grad_()
    target = convolution(x)
    yours = look.output(answer, convolution, x, 3)
    if not yours.requires_grad:
        look.wrong("no-gradient", "The result of the strips has no gradient.")
    weights = random(*target.shape, seed=4)
    first, second = (torch.autograd.grad((y * weights).sum(), x, allow_unused=True)[0] for y in (yours, target))
    if first is None:
        look.wrong("no-gradient", "No gradient reaches the map that went in.")
    if not close(first, second):
        look.wrong("wrong-gradient", "The gradient at the input is another one than that of the whole.")
    look.done("gradient")


def _one_picture(look: Look, answer: Any, convolution: nn.Conv2d, height: int, rows: int) -> None:
    """One height of the map and of its strips."""
    x = random(2, 3, height, 7, seed=height)
    told = f"in_strips(convolution, {height} rows, {rows})"
    before, weights = str(convolution), [value.detach().clone() for value in convolution.parameters()]
    with _Heights() as seen, torch.no_grad():
        made = look.attempt(answer, convolution, x, rows, told=told)
    if isinstance(made, Failure):
        kinds = {(7, 1): "fails-for-one-row", (6, 9): "fails-for-a-tall-strip", (9, 9): "fails-for-a-tall-strip"}
        if (height, rows) in kinds:
            look.wrong(kinds[height, rows], f"{told}: {made}")
        made = look.call(answer, convolution, x, rows, told=told)
    if not isinstance(made, torch.Tensor):
        look.output(answer, convolution, x, rows, told=told)
    after = str(convolution)
    if before != after or not all(map(close, convolution.parameters(), weights)):
        look.wrong("changes-the-layer", f"{told}: before it was {before}, and now it is {after}.")
    with torch.no_grad():
        target = convolution(x)
    _strips_right(look, made, target, convolution, x, rows, told)
    _heights(look, seen.rows, height, rows, told)


def _heights(look: Look, found: list[int], height: int, rows: int, told: str) -> None:
    """The strips must be strips."""
    if len(found) > -(-height // rows):
        seen = f"{told}: the convolution was called {len(found)} times"
        look.wrong("strips-too-small", f"{seen}; {-(-height // rows)} strips are enough.")
    if rows >= height or not found:
        return
    seen = f"{told}: the convolution saw {', '.join(map(str, found[:12]))} rows; at most {rows + 2} are expected."
    if max(found) >= height and len(found) <= 2:
        look.wrong("whole-at-once", seen)
    if max(found) > rows + 2:
        look.wrong("strips-too-large" if (height, rows) == STRIPS[0] else "rows-ignored", seen)


def _strips_right(
    look: Look, yours: torch.Tensor, target: torch.Tensor, convolution: nn.Conv2d, x: torch.Tensor, rows: int, told: str
) -> None:
    """Compare row by row; the rows that differ say what was forgotten."""
    if yours.dtype != torch.float64:
        look.wrong("wrong-dtype", f"{told} gave {short(yours.dtype)}; float64 is expected.")
    height = target.shape[2]
    cuts = list(range(rows, height, rows))
    if yours.shape != target.shape:
        _other_height(look, yours, target, rows, cuts, told)
    if close(yours, target):
        return
    differs = ((yours - target).abs().amax((0, 1, 3)) > 1e-9).nonzero().flatten().tolist()
    seen = f"{told}: the rows {', '.join(map(str, differs))} differ."
    order = [target[:, :, start : start + rows] for start in range(0, height, rows)]
    if len(order) > 1 and height % rows == 0 and _permuted(yours, order):
        look.wrong("strips-out-of-order", seen)
    if close(yours, torch.cat(order[::-1], 2)):
        look.wrong("strips-out-of-order", seen)
    _seams(look, yours, target, convolution, differs, rows, seen)
    starts = [row for row in differs if row - 1 not in differs]
    if differs == sorted([*starts, *(row + 1 for row in starts)]):
        look.wrong("no-neighbours", seen)
    if sum(_is_row(yours[:, :, row], target, row) for row in differs) >= len(differs) / 2:
        look.wrong("wrong-rows-kept", seen)
    look.values(yours, target, at=seen)


def _seams(
    look: Look,
    yours: torch.Tensor,
    target: torch.Tensor,
    convolution: nn.Conv2d,
    differs: list[int],
    rows: int,
    seen: str,
) -> None:
    """End where the rows that differ are those at the cuts, or at the border."""
    height = target.shape[2]
    above = set(range(rows, height, rows))
    below = {row - 1 for row in above}
    inner = set(differs) - {0, height - 1}
    if convolution.bias is not None and close(yours, target - convolution.bias.detach().view(1, -1, 1, 1)):
        look.wrong("bias-lost", seen)
    columns = (yours - target).abs().amax((0, 1, 2)) > 1e-9
    if not bool(columns.all()) and len(differs) == height:
        look.wrong("joined-along-another-axis", seen)
    if not inner:
        look.wrong("outer-border", seen)
    if set(differs) <= set(range(rows)) and close(yours[:, :, 0], target[:, :, 1]):
        look.wrong("first-row-lost", seen)
    if inner <= above | below:
        at, bias = sorted(inner), convolution.bias.detach().view(1, -1, 1, 1)  # type: ignore[union-attr]
        if any(close(yours[:, :, at], 2 * target[:, :, at] - b) for b in (0, bias)):
            look.wrong("overlaps-added", seen)
        parts = {"no-neighbour-above": above, "no-neighbour-below": below, "no-neighbours": above | below}
        for kind, affected in parts.items():
            if inner <= affected:
                look.wrong(kind, seen)


def _is_row(row: torch.Tensor, target: torch.Tensor, at: int) -> bool:
    """Whether it is a row of the target near that place."""
    return any(close(row, target[:, :, r]) for r in range(max(at - 3, 0), min(at + 4, target.shape[2])))


def _permuted(yours: torch.Tensor, strips: list[torch.Tensor]) -> bool:
    """Whether these are the strips, in another order."""
    parts = yours.split(strips[0].shape[2], 2)
    return all(any(close(part, strip) for strip in strips if strip.shape == part.shape) for part in parts)


def _other_height(
    look: Look, yours: torch.Tensor, target: torch.Tensor, rows: int, cuts: list[int], told: str
) -> NoReturn:
    """The result has another shape."""
    found, wanted = tuple(yours.shape), tuple(target.shape)
    seen = f"{told} has the shape {found}; expected is {wanted}."
    if len(found) == 4 and found[:2] == wanted[:2] and found[3] == wanted[3]:
        height, got = wanted[2], found[2]
        if got == height // rows * rows and got < height:
            look.wrong("last-strip-lost", seen)
        if got in (height + len(cuts), height + 2 * len(cuts), height + 2 * len(cuts) + 2):
            look.wrong("neighbours-kept", seen)
        if got == height - 1 and close(yours, target[:, :, :got]):
            look.wrong("last-row-lost", seen)
        if got == height - 1 or got == height - 2:
            look.wrong("first-row-lost" if len(cuts) > 1 else "neighbours-cut-twice", seen)
        look.wrong("neighbours-cut-twice" if got < height else "neighbours-kept", seen)
    if len(found) == 4 and found[2] in (rows, rows + 1, rows + 2) and found.count(wanted[3]) <= 1:
        look.wrong("joined-along-another-axis", seen)
    if len(found) == 5 or (len(found) == 4 and math.prod(found) >= math.prod(wanted)):
        look.wrong("joined-along-another-axis", seen)
    look.shape(yours, target.shape, told)
    raise AssertionError  # unreachable: the shapes differ


# 10.4

_DIMS, _SIDES, _WIDE = (32, 64, 160, 256), (128, 64, 32, 16), 256
_PROJECTED = sum(side**2 * dim * _WIDE for side, dim in zip(_SIDES, _DIMS))
_FUSED = _SIDES[0] ** 2 * 4 * _WIDE * _WIDE
_MADE = sum(_WIDE * _WIDE * dim for dim in _DIMS)

predictions(
    "collapsed",
    title="B0's decoder up to its BatchNorm, 512×512",
    quantities={
        "projections": Quantity(
            _PROJECTED,
            {
                "all-at-the-finest": sum(_SIDES[0] ** 2 * dim * _WIDE for dim in _DIMS),
                "places-forgotten": sum(dim * _WIDE for dim in _DIMS),
                "image-for-map": (sum((512 // 2**i) ** 2 * dim * _WIDE for i, dim in enumerate(_DIMS))),
                "side-once": sum(side * dim * _WIDE for side, dim in zip(_SIDES, _DIMS)),
            },
            unit="MACs",
        ),
        "fusion": Quantity(
            _FUSED,
            {
                "one-map-of-four": _SIDES[0] ** 2 * _WIDE * _WIDE,
                "channels-before-projection": _SIDES[0] ** 2 * sum(_DIMS) * _WIDE,
                "each-at-its-size": sum(side**2 for side in _SIDES) * _WIDE * _WIDE,
                "image-for-map": 512**2 * 4 * _WIDE * _WIDE,
                "places-forgotten": 4 * _WIDE * _WIDE,
                "side-once": _SIDES[0] * 4 * _WIDE * _WIDE,
            },
            unit="MACs",
        ),
        "one matrix a scale": Quantity(
            _PROJECTED,
            {
                "all-at-the-finest": sum(_SIDES[0] ** 2 * dim * _WIDE for dim in _DIMS),
                "both-still-done": (_PROJECTED + _FUSED, _PROJECTED + sum(s**2 for s in _SIDES) * _WIDE * _WIDE),
                "wide-matrices": sum(side**2 for side in _SIDES) * _WIDE * _WIDE,
                "places-forgotten": sum(dim * _WIDE for dim in _DIMS),
                "with-the-making": _PROJECTED + _MADE,
            },
            unit="MACs",
        ),
        "making the matrices": Quantity(
            _MADE,
            {
                "size-of-the-result": sum(dim * _WIDE for dim in _DIMS),
                "for-every-pixel": sum(side**2 * _WIDE * _WIDE * dim for side, dim in zip(_SIDES, _DIMS)),
                "wide-matrices": (4 * _WIDE**3, _WIDE**3),
                "whole-fuse-for-each": 4 * _MADE,
            },
            unit="MACs",
        ),
    },
    hints={
        "all-at-the-finest": "Each map is multiplied at its own size. Which of them are smaller than the first?",
        "places-forgotten": "Those are the weights. How often is each one used?",
        "image-for-map": "The first map is smaller than the image. How much, on each side?",
        "side-once": "A map has two sides. How many places are that?",
        "one-map-of-four": "How many numbers meet at each place, when four maps of the same width are put together?",
        "channels-before-projection": "The projections come first. How wide is each map behind them?",
        "each-at-its-size": "The plain decoder fuses after it has enlarged the maps. To which size?",
        "both-still-done": "Two matrices in a row have become one. Which multiplication is then left?",
        "wide-matrices": "A matrix takes what a scale has. How many channels does each of the four have?",
        "with-the-making": "The making is asked for on its own. What is left without it?",
        "size-of-the-result": "Those are the numbers in the results. How many products go into each of them?",
        "for-every-pixel": "The matrices are made once a call. Does any pixel take part in that?",
        "whole-fuse-for-each": "Each projection meets its own columns of the fuse. How many are those?",
    },
)

# Warm-ups

_ROWS = torch.arange(24.0).reshape(8, 3)

puzzle_of(
    "strip",
    title="A strip with its neighbours",
    target=lambda: _ROWS[2:6],
    wrong={
        "no-neighbours": (lambda: _ROWS[3:5], "A 3×3 window in the third row looks at which rows?"),
        "one-neighbour": (
            lambda: _ROWS[3:6],
            "Two rows are asked for, and each has a window of three rows. Which rows are these together?",
        ),
        "two-neighbours": (lambda: _ROWS[1:7], "How far does a 3×3 window look?"),
        "strip-moved": (
            lambda: [_ROWS[1:5], _ROWS[3:7]],
            "The strip is as high as it should be, and lies a row too early or too late. Which rows does the first "
            "window see?",
        ),
        "columns-for-rows": (lambda: _ROWS[:, 2:6], "Which axis counts the rows?"),
    },
)

_PROJECT, _FUSE = torch.tensor([[1.0, 2, 0], [0, 1, 3]]), torch.tensor([[1.0, 1], [2, 0], [0, 5], [1, 4]])

puzzle_of(
    "one matrix",
    title="Two matrices in a row are one",
    target=lambda: _FUSE @ _PROJECT,
    wrong={
        "transposed": (lambda: (_FUSE @ _PROJECT).T, "How many rows has a matrix that gives four numbers?"),
        "middle-exchanged": (
            lambda: _FUSE.flip(1) @ _PROJECT,
            "The two numbers in between have changed places. Which column of `fuse` belongs to which row of `project`?",
        ),
        "summed-separately": (
            lambda: _FUSE.sum(1)[:, None] * _PROJECT.sum(0),
            "Each matrix is summed by itself. Which axis do the two share?",
        ),
        "projection-alone": (lambda: _PROJECT, "One of the two is missing. Which?"),
        "fusion-alone": (lambda: _FUSE, "Only the second one is there. What does it get?"),
    },
)
