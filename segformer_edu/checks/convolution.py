"""Chapter 1: the depthwise separable convolution."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NoReturn

import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import TorchFunctionMode

from segformer_edu.checks.core import Failure, Look, close, exercise, random, short
from segformer_edu.checks.numbers import Quantity, predictions, puzzle_of, which

# 1.1

Case = tuple[int, int, int, int, int, int, int]
CASES: tuple[Case, ...] = (  # dim_in, dim_out, kernel_size, padding, stride, H, W
    (6, 11, 3, 1, 1, 5, 7),
    (6, 11, 5, 0, 1, 9, 13),
    (6, 11, 3, 0, 2, 9, 13),
    (6, 11, 5, 2, 3, 11, 8),
    (5, 3, 1, 0, 1, 4, 7),
    (1, 1, 3, 2, 1, 5, 9),
)

HINTS = {
    "groups-of-the-output": "The first part keeps its channels. How many groups are there then?",
    "groups-forgotten": "How many input channels does one filter of the first part see? Which argument of a "
    "convolution "
    "decides that?",
    "too-few-groups": "A filter of the first part sees several channels, not all. How many channels are in one group?",
    "several-filters-a-channel": "The first part has more channels at its end than at its beginning. How many "
    "filters does "
    "one channel need?",
    "one-dense-convolution": "There is one convolution that looks around and mixes at once. Which two jobs should be "
    "apart?",
    "pointwise-first": "Both parts are there. Which comes first: looking around, or mixing?",
    "channels-do-not-mix": "Some outputs depend on a few input channels alone. Which part lets all the channels meet?",
    "pointwise-missing": "Each filter's result comes out as it is. Who mixes the channels, and makes their number "
    "another?",
    "mixed-before-too": "The channels are mixed before they are filtered, and again afterwards. Which mixture is "
    "asked for?",
    "weights-all-equal": "All weights begin with the same number, so all filters learn the same. Who set them so?",
    "factor-inside": "There is a factor that is no weight. Which line scales the result, or changes the number of "
    "channels?",
    "stride-one-axis": "The map shrinks along one axis alone. How many axes has a step?",
    "filter-shared": "Every channel meets the same filter. How many filters should there be?",
    "rows-and-columns": "A filter is split into a column and a row. Which two things does a separable convolution "
    "take apart?",
    "window-too-large": "A changed number reaches further than the window. How far should the second part see?",
    "window-too-small": "No neighbour is looked at. Which argument decides how far the first part sees?",
    "not-linear": "Something between, before or behind the two parts is not linear. MobileNet has such a thing; is "
    "it here?",
    "norm-inside": "There is a norm in the module. Does the sketch put one between the two parts?",
    "stride-and-padding-exchanged": "How far a window steps was taken for how wide the border is. In which order does "
    "PyTorch's layer take the two, and could they be named?",
    "residual-inside": "The input comes through unchanged, beside the convolution. Who adds it, and is it asked for?",
    "padding-on-both": "A filter of one pixel needs no border. Which of the two parts needs one?",
    "padding-on-the-wrong-part": "At the border only a bias is left. Which part's window reaches over the border?",
    "padding-not-zeros": "Inside all is right; at the border something other than zeros was added. Which padding is "
    "asked for?",
    "padding-ignored": "The map comes out as if nothing were added at its border. Where does that argument go?",
    "padding-fixed": "The padding does not follow the argument. Is it computed from the window instead, or written "
    "down?",
    "kernel-fixed": "The window does not follow the argument. Where is its side written down?",
    "stride-ignored": "The map comes out as large as without a stride. Where does that argument go?",
    "stride-on-both": "The map shrinks twice. How many of the two parts should take steps?",
    "stride-by-pooling": "The size is right, and the values are those of neighbours together. What does a stride do "
    "with the "
    "places between?",
    "stride-on-the-wrong-part": "The numbers are right, and most of the first part's results are thrown away. Which "
    "part could take the steps, so that this work is never done?",
    "padding-on-one-side": "The window sees more of one side than of the other. On how many sides of the map does a "
    "border belong?",
    "axes-reshaped": "A changed number comes out at places that do not lie around it. Were axes moved there, or were "
    "the numbers only written into another shape?",
    "groups-written-down": "With 6 channels all is right, with 5 it cannot be made. Which number is written down?",
    "bias-ignored": "Without biases, an input of zeros must give zeros. Do both parts get that argument?",
    "bias-missing": "Biases are asked for, unless the argument says otherwise. Does each part have one?",
    "bias-not-uniform": "An input of zeros gives another result at the border than inside. In which order are bias and "
    "padding applied?",
    "parameters": "Count the weights and biases of each part on paper, then those of your module. Which part has too "
    "many?",
}


@exercise("DsConv2d", HINTS)
def ds_conv2d(look: Look, answer: Any) -> None:
    """Check ``DsConv2d(dim_in, dim_out, kernel_size, padding, stride=1, bias=True)``, a class."""
    look.exists(answer)
    module = _constructed(look, answer)
    look.done("constructed")
    x = random(2, 6, 5, 7)
    look.output(module, x)
    look.done("runs, float64 stays float64")
    _shapes(look, answer)
    look.done(f"shape right for {len(CASES)} sizes")
    if norms := [type(part).__name__ for part in list(module.modules())[1:] if "norm" in type(part).__name__.lower()]:
        look.wrong("norm-inside", f"Among its parts is a {norms[0]}.")
    look.side_effects(module, x)
    look.pictures_apart(module, x)
    look.same_in_eval(module, x)
    look.done("no side effects")
    for words, part in {
        "linear": lambda: _linear(look, module, x),
        "random weights": lambda: _random_weights(look, module),
        "the same at every place": lambda: _moves_along(look, module),
        "one filter a channel, then a mixture": lambda: _structure(look, answer, module),
        "values at the border and inside": lambda: _border(look, module, x),
        "biases": lambda: _biases(look, answer),
        "number of parameters": lambda: _count(look, answer),
        "gradients": lambda: look.gradients(module, x),
        "stride": lambda: _strided(look, answer),
    }.items():
        part()
        look.done(words)


def _constructed(look: Look, answer: Any) -> nn.Module:
    """Construct the class in all the ways that the check needs; say which groups do not fit."""
    made = look.attempt(answer, 6, 11, 3, padding=1)
    if isinstance(made, Failure) and "divisible by groups" in made.words:
        if all(isinstance(look.attempt(answer, 6, dim, 3, padding=1), Failure) for dim in (12, 24)):
            look.wrong("groups-of-the-output", f"With 6 channels in and 11 out: {made}")
        module = look.construct(answer, 6, 12, 3, padding=1)
        weight, _ = _impulse(look, module, 6, 3, 1)
        mixed = int((weight.abs().amax((2, 3)) > 1e-12).sum(1).max())
        kind = "channels-do-not-mix" if mixed == 1 else "several-filters-a-channel"
        look.wrong(kind, f"6 channels in and 11 out cannot be made. {made}")
    module = look.construct(answer, 6, 11, 3, padding=1)
    odd = look.attempt(answer, 5, 3, 1, padding=0)
    if isinstance(odd, Failure) and "divisible by groups" in odd.words:
        alone = _rank(_impulse(look, module, 6, 3, 1)[0].flatten(2).transpose(0, 1)) == 1
        look.wrong("groups-written-down" if alone else "too-few-groups", f"5 channels in cannot be made. {odd}")
    look.construct(answer, dim_in=6, dim_out=11, kernel_size=3, padding=1, stride=2, bias=False)
    return module


def _size(n: int, kernel: int, padding: int, stride: int) -> int:
    return (n + 2 * padding - kernel) // stride + 1


SIZES: dict[str, Callable[[int, int, int, int], int]] = {
    "padding-on-both": lambda n, k, p, s: _size(n, k, p, s) + 2 * p,
    "padding-ignored": lambda n, k, p, s: _size(n, k, 0, s),
    "padding-fixed": lambda n, k, p, s: _size(n, k, k // 2, s),
    "stride-ignored": lambda n, k, p, s: _size(n, k, p, 1),
    "stride-on-both": lambda n, k, p, s: _size(_size(n, k, p, s), 1, 0, s),
    "window-too-large": lambda n, k, p, s: _size(_size(n, k, p, s), k, p, 1),
    "window-too-small": lambda n, k, p, s: _size(n, 1, p, s),
    "kernel-fixed": lambda n, k, p, s: _size(n, 3, p, s),
}
"""How long a side becomes by known mistakes; tried on all cases together."""
MORE_SIZES: dict[str, tuple[Callable[[int, int, int, int], int], ...]] = {
    "padding-on-both": (lambda n, k, p, s: _size(_size(n, k, p, s), 1, p, s), lambda n, k, p, s: _size(n, k, 2 * p, s)),
    "padding-fixed": (lambda n, k, p, s: _size(n, k, 1, s), lambda n, k, p, s: -(-n // s)),
    "window-too-large": (
        lambda n, k, p, s: _size(_size(n, k, p, s), k, 0, 1),
        lambda n, k, p, s: _size(_size(n, k, p, s), k, p, s),
    ),
    "kernel-fixed": (lambda n, k, p, s: _size(n, 3, 1, s),),
    "stride-ignored": (lambda n, k, p, s: _size(n, k, p, 2),),
}


def _shapes(look: Look, answer: Any) -> None:
    """Run every case; recognise what decides the sizes from all of them together."""
    found, wanted, told = [], [], ""
    for dim_in, dim_out, kernel, padding, stride, height, width in CASES:
        module = look.construct(answer, dim_in, dim_out, kernel, padding, stride)
        shape = _shape(look, module, random(2, dim_in, height, width), padding)
        expected = (2, dim_out, _size(height, kernel, padding, stride), _size(width, kernel, padding, stride))
        if shape != expected and not told:
            told = (
                f"DsConv2d({dim_in}, {dim_out}, {kernel}, padding={padding}, stride={stride}) makes {shape} of "
                f"{(2, dim_in, height, width)}; expected is {expected}."
            )
        found.append(shape)
        wanted.append(expected)
    if found == wanted:
        return
    if any(len(shape) != 4 for shape in found):
        look.wrong("wrong-rank", told)
    if [shape[1] for shape in found] == [case[0] for case in CASES]:
        look.wrong("pointwise-missing", told)
    rules = [(kind, rule) for kind, rule in SIZES.items()]
    rules += [(kind, rule) for kind, more in MORE_SIZES.items() for rule in more]
    for kind, rule in rules:
        sizes = [(rule(h, k, p, s), rule(w, k, p, s)) for _, _, k, p, s, h, w in CASES]
        if sizes == [tuple(shape[2:]) for shape in found]:
            look.wrong(kind, told)
    for axis in (2, 3):
        steps = [case[4] if a == axis else 1 for case in CASES for a in (2, 3)]
        lengths = [_size(n, k, p, s) for n, k, p, s in _sides(steps)]
        if lengths == [n for shape in found for n in shape[2:]]:
            look.wrong("stride-one-axis", told)
    exchanged = all(sorted(shape) == sorted(expected) for shape, expected in zip(found, wanted))
    look.wrong("axes-exchanged" if exchanged else "wrong-shape", told)


def _shape(look: Look, module: nn.Module, x: torch.Tensor, padding: int) -> tuple[int, ...]:
    made = look.attempt(module, x)
    if isinstance(made, Failure) and "stride" in made.words and not padding:
        look.wrong("stride-and-padding-exchanged", f"With padding=0: {made}")
    return tuple(look.output(module, x).shape)


def _sides(steps: list[int]) -> list[tuple[int, int, int, int]]:
    """Return length, kernel, padding and step of each side of each case."""
    sides = [(n, kernel, padding) for _, _, kernel, padding, _, *size in CASES for n in size]
    return [(*side, step) for side, step in zip(sides, steps)]


def _linear(look: Look, module: nn.Module, x: torch.Tensor) -> None:
    """f(a + b) + f(0) = f(a) + f(b) for what is linear but for biases."""
    a, b = 3 * x, 2 * random(*x.shape, seed=1)
    both, zero = look.output(module, a + b), look.output(module, torch.zeros_like(a))
    one, other = look.output(module, a), look.output(module, b)
    if not close((both + zero).detach(), (one + other).detach()):
        look.wrong("not-linear", "f(a + b) − f(a) − f(b) + f(0) is not zero.")


def _impulse(
    look: Look, module: nn.Module, channels: int, kernel: int, padding: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the weight (C_out, C_in, K + 4, K + 4) of the dense convolution that equals the module; its result for 0.

    The window is two pixels larger on each side than the kernel: a part that looks further shows there.
    """
    side = 2 * kernel + 9
    x = torch.zeros(channels, channels, side, side, dtype=torch.float64)
    x[range(channels), range(channels), side // 2, side // 2] = 1
    with torch.no_grad():
        zero = look.output(module, torch.zeros(1, channels, side, side, dtype=torch.float64))
        y = look.output(module, x) - zero  # (C_in, C_out, H', W')
    middle, reach = side // 2 + padding - kernel // 2, kernel // 2 + 2  # output place of the impulse, for an odd kernel
    around = slice(middle - reach, middle + reach + 1)
    return y[:, :, around, around].flip(2, 3).transpose(0, 1), zero


def _ones(look: Look, answer: Any) -> torch.Tensor:
    """Return the equal dense convolution's weight when each weight of the module is 1."""
    plain = look.construct(answer, 6, 11, 3, padding=1, bias=False)
    with torch.no_grad():
        for parameter in plain.parameters():
            parameter.fill_(1)
    return _impulse(look, plain, 6, 3, 1)[0][:, :, 2:-2, 2:-2]


def _rank(matrices: torch.Tensor) -> int:
    """Return the largest rank of some matrices (…, rows, columns)."""
    return int(torch.linalg.matrix_rank(matrices, rtol=1e-9).max())


def _random_weights(look: Look, module: nn.Module) -> None:
    """End where a weight begins with one number for all: impulses tell nothing then."""
    for name, parameter in module.named_parameters():
        if parameter.numel() > 17 and bool((parameter == parameter.flatten()[0]).all()):
            look.wrong("weights-all-equal", f"All numbers of `{name}` are {float(parameter.flatten()[0].detach()):g}.")


def _structure(look: Look, answer: Any, module: nn.Module) -> None:
    """Tell from impulse responses which of the two parts is not what it should be."""
    window, _ = _impulse(look, module, 6, 3, 1)  # (11, 6, 7, 7)
    weight = window[:, :, 2:-2, 2:-2]
    largest = float(window.abs().max())
    if float((window - F.pad(weight, (2, 2, 2, 2))).abs().max()) > 1e-9 * largest:
        _too_far(look, window)
    if float(weight.abs().sum((0, 1)).flatten()[[0, 1, 2, 3, 5, 6, 7, 8]].max()) <= 1e-9 * largest:
        look.wrong("window-too-small", "A changed number reaches its own pixel alone.")
    reached = (weight.abs().amax((2, 3)) > 1e-9 * largest).sum(0)  # outputs that each input channel reaches
    if int(reached.min()) < 11:
        seen = f"A changed number in one input channel reaches {int(reached.min())} of the 11 output channels."
        look.wrong("channels-do-not-mix", seen)
    matrices = weight.flatten(2)  # (11, 6, 9)
    filters, mixtures = _rank(matrices.transpose(0, 1)), _rank(matrices)
    if filters > 1:
        _not_separable(look, module, filters, mixtures)
    if not close(_ones(look, answer), torch.ones(11, 6, 3, 3, dtype=torch.float64)):
        look.wrong(
            "factor-inside", "With every weight set to 1, a changed number should come out as it is, in nine places."
        )
    equal = look.construct(answer, 6, 6, 3, padding=1, bias=False)
    if _rank(_impulse(look, equal, 6, 3, 1)[0].flatten(2).transpose(0, 1)) > 1:
        look.wrong("residual-inside", "With as many channels out as in, one channel is filtered in more than one way.")
    if _rank(matrices.flatten(0, 1)) == 1:
        look.wrong("filter-shared", "An impulse has the same form behind every input channel, but for its strength.")
    if _rank(weight) == 1:
        look.wrong("rows-and-columns", "Each filter is a column times a row: its matrix of 3×3 has rank 1.")


def _moves_along(look: Look, module: nn.Module) -> None:
    """When a changed number moves by a pixel, the result moves with it, unless axes were reshaped."""
    x, zero = torch.zeros(2, 1, 6, 15, 15, dtype=torch.float64)
    x[0, 2, 7, 7] = 1
    zero = look.output(module, zero).detach()
    one = look.output(module, x).detach() - zero
    other = look.output(module, x.roll(1, 3)).detach() - zero
    if not close(other[..., 1:-1], one.roll(1, 3)[..., 1:-1]):
        look.wrong("axes-reshaped", "When the changed number moves by a pixel, the result does not move with it.")


def _too_far(look: Look, window: torch.Tensor) -> NoReturn:
    """A changed number reaches pixels outside of its window: say whether the window lies beside its middle."""
    for moved in ((1, 1), (1, 0), (0, 1), (-1, -1), (-1, 0), (0, -1)):
        rolled = window.roll(moved, (2, 3))
        if close(rolled, F.pad(rolled[:, :, 2:-2, 2:-2], (2, 2, 2, 2))):
            look.wrong("padding-on-one-side", "The window lies a pixel beside its middle.")
    look.wrong("window-too-large", "A changed number reaches pixels outside of the 3×3 window.")


def _not_separable(look: Look, module: nn.Module, filters: int, mixtures: int) -> None:
    """One input channel is filtered in several ways: say why."""
    count = sum(p.numel() for p in module.parameters())
    seen = f"One input channel is filtered in {filters} ways, and should be in one. {count} parameters; 137 are enough."
    if mixtures == 1:
        look.wrong("pointwise-first", f"The mixed channels are filtered: each output has one filter. {seen}")
    depthwise = [
        m for m in module.modules() if isinstance(m, nn.Conv2d) and m.groups == m.in_channels == m.out_channels
    ]
    if any(m.groups > 1 and m.kernel_size != (1, 1) for m in depthwise) or (filters == 6 and count < 9 * 36):
        look.wrong("mixed-before-too", seen)
    if filters > 6:
        look.wrong("one-dense-convolution", seen)
    if filters == 6:
        look.wrong("groups-forgotten", seen)
    multiple = count in {6 * m * (9 + b) + 11 * (6 * m + b) for m in range(2, 10) for b in (0, 1)}
    look.wrong("several-filters-a-channel" if multiple else "too-few-groups", seen)


def _biases(look: Look, answer: Any) -> None:
    """Without biases f(0) is 0; with them it is the same number everywhere, and not 0."""
    x = torch.zeros(2, 6, 5, 7, dtype=torch.float64)
    without = look.output(look.construct(answer, 6, 11, 3, padding=1, bias=False), x)
    if bool(without.any()):
        look.wrong("bias-ignored", "With bias=False an input of zeros gives numbers other than zero.")
    module = look.construct(answer, 6, 11, 3, padding=1)
    with torch.no_grad():  # biases may begin at zero
        for number, parameter in enumerate(module.parameters()):
            if not bool(parameter.any()):
                parameter.copy_(random(*parameter.shape, seed=number))
    zero = look.output(module, x).detach()
    if not bool(zero.any()):
        look.wrong("bias-missing", "With biases an input of zeros gives zeros.")
    if not close(zero, zero[:, :, 2:3, 3:4].expand_as(zero)):
        inside = zero[:, :, 1:-1, 1:-1]
        if close(inside, zero[:, :, 2:3, 3:4].expand_as(inside)):
            look.wrong("bias-not-uniform", "An input of zeros gives other numbers at the border than inside.")
        look.wrong("bias-not-uniform", "An input of zeros gives different numbers at different places.")


def _count(look: Look, answer: Any) -> None:
    """The weights k²·dim_in + dim_in·dim_out, the biases dim_in + dim_out."""
    for bias in (False, True):
        module = look.construct(answer, 6, 11, 3, padding=1, bias=bias)
        count, expected = sum(p.numel() for p in module.parameters()), 6 * 9 + 6 * 11 + bias * (6 + 11)
        seen = f"With bias={bias}: {count} parameters; {expected} are enough (6 → 11 channels, 3×3)."
        if count in (expected - 6, expected - 11) and bias:
            look.wrong("bias-missing", seen)
        if count in (expected + 6, expected + 11, expected + 17) and not bias:
            look.wrong("bias-ignored", seen)
        if count != expected:
            look.wrong("parameters", seen)


def _border(look: Look, module: nn.Module, x: torch.Tensor) -> None:
    """Compare with the dense convolution that the impulses found: what is added at the border must be zeros."""
    window, _ = _impulse(look, module, 6, 3, 1)
    target = F.conv2d(x, window[:, :, 2:-2, 2:-2], padding=1)
    yours = (look.output(module, x) - look.output(module, torch.zeros_like(x))).detach()
    if close(yours, target):
        return
    if close(yours[:, :, 1:-1, 1:-1], target[:, :, 1:-1, 1:-1]):
        kind = "padding-not-zeros" if bool(yours[:, :, 0].any()) else "padding-on-the-wrong-part"
        look.wrong(kind, "Inside, the values are right; in the outermost rows and columns they are not.")
    look.values(yours, target)


def _strided(look: Look, answer: Any) -> None:
    """A stride leaves out places, and changes no value; nobody computes those places first."""
    for stride, kernel, padding in ((2, 3, 1), (3, 5, 2)):
        whole, strided = (look.construct(answer, 6, 11, kernel, padding, s) for s in (1, stride))
        look.call(strided.load_state_dict, whole.state_dict(), told="load_state_dict of a module with another stride")
        x = random(2, 6, 12, 19)
        target = look.output(whole, x).detach()[:, :, ::stride, ::stride]
        yours = look.output(strided, x).detach()
        if not close(yours, target):
            look.wrong(
                "stride-by-pooling", f"With stride {stride} the values are not those at every {stride}nd or rd place."
            )
    if _work(look, strided, x) > 0.25 * _work(look, whole, x):
        look.wrong("stride-on-the-wrong-part", "The first part computes every place, and a part of them is used.")


class _Numbers(TorchFunctionMode):
    """Counts the numbers that convolutions and products give: what of it is thrown away, somebody has computed."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and re.search("conv|unfold|einsum|mul|mm|linear|dot", func.__name__):
            self.count += result.numel()
        return result


def _work(look: Look, module: nn.Module, x: torch.Tensor) -> int:
    with _Numbers() as numbers, torch.no_grad():
        look.output(module, x)
    return int(numbers.count)


# 1.2

_IN, _OUT, _K, _SIDE = 64, 128, 3, 56
_PLACES, _FEWER = _SIDE**2, (_SIDE // 2) ** 2
_SEPARABLE = _K**2 * _IN + _IN * _OUT


def _or_rounded(quantity: Quantity) -> Quantity:
    """Add what a whole number becomes with two digits or more, as a kind of its own."""
    digits = range(1, len(str(quantity.value)) - 1)
    return replace(quantity, wrong={**quantity.wrong, "rounded": tuple(round(quantity.value, -d) for d in digits)})


_COSTS = {
    "dense weights": Quantity(
        _K**2 * _IN * _OUT,
        {
            "bias-counted": _K**2 * _IN * _OUT + _OUT,
            "window-side-once": _K * _IN * _OUT,
            "window-forgotten": _IN * _OUT,
        },
    ),
    "separable weights": Quantity(
        _SEPARABLE,
        {
            "bias-counted": (_SEPARABLE + _IN + _OUT, _SEPARABLE + _OUT),
            "depthwise-times-output": (_K**2 * _IN * _OUT + _IN * _OUT, _K**2 * _OUT + _IN * _OUT),
            "depthwise-dense": _K**2 * _IN * _IN + _IN * _OUT,
            "one-part-only": (_K**2 * _IN, _IN * _OUT),
            "parts-multiplied": _K**2 * _IN * _IN * _OUT,
            "window-side-once": _K * _IN + _IN * _OUT,
        },
    ),
    "dense MACs": Quantity(
        _K**2 * _IN * _OUT * _PLACES,
        {
            "places-forgotten": (_K**2 * _IN * _OUT, _K**2 * _IN * _OUT * _SIDE),
            "window-side-once": _K * _IN * _OUT * _PLACES,
            "border-lost": _K**2 * _IN * _OUT * (_SIDE - 2) ** 2,
            "bias-counted": (_K**2 * _IN + 1) * _OUT * _PLACES,
        },
        unit="MACs",
    ),
    "separable MACs": Quantity(
        _SEPARABLE * _PLACES,
        {
            "depthwise-times-output": ((_K**2 * _IN * _OUT + _IN * _OUT) * _PLACES, (_K**2 + _IN) * _OUT * _PLACES),
            "depthwise-dense": (_K**2 * _IN * _IN + _IN * _OUT) * _PLACES,
            "one-part-only": (_K**2 * _IN * _PLACES, _IN * _OUT * _PLACES),
            "places-forgotten": (_SEPARABLE, _SEPARABLE * _SIDE),
            "border-lost": _SEPARABLE * (_SIDE - 2) ** 2,
            "window-side-once": (_K * _IN + _IN * _OUT) * _PLACES,
        },
        unit="MACs",
    ),
    "separable MACs, stride 2": Quantity(
        _SEPARABLE * _FEWER,
        {
            "stride-one-axis": _SEPARABLE * _SIDE * (_SIDE // 2),
            "stride-on-one-part": (
                _K**2 * _IN * _PLACES + _IN * _OUT * _FEWER,
                _K**2 * _IN * _FEWER + _IN * _OUT * _PLACES,
            ),
            "depthwise-times-output": (_K**2 * _IN * _OUT + _IN * _OUT) * _FEWER,
            "depthwise-dense": (_K**2 * _IN * _IN + _IN * _OUT) * _FEWER,
            "one-part-only": (_K**2 * _IN * _FEWER, _IN * _OUT * _FEWER),
            "border-lost": _SEPARABLE * (_SIDE // 2 - 1) ** 2,
            "stride-on-both": _SEPARABLE * (_SIDE // 4) ** 2,
        },
        unit="MACs",
    ),
}

predictions(
    "costs",
    title="Weights and MACs, 64 → 128 channels, 3×3, 56×56",
    quantities={entry: _or_rounded(quantity) for entry, quantity in _COSTS.items()},
    hints={
        "rounded": "The first digits are right. What is the whole number, or the product that gives it?",
        "bias-counted": "Weights alone are asked for. What else have you counted?",
        "window-side-once": "The window is a square. How many places has it?",
        "window-forgotten": "A filter looks at a window, not at one pixel. How many places does it see?",
        "depthwise-times-output": "The first part has one filter a channel, not one a pair. Which channels does it "
        "know of?",
        "depthwise-dense": "In the first part a filter sees one channel. How often does the number of channels come "
        "in?",
        "one-part-only": "There are two parts. Which one have you left out?",
        "parts-multiplied": "The parts stand one after the other. Do their numbers multiply or add?",
        "places-forgotten": "Every weight is used again at each place of the output. How many places are there?",
        "border-lost": "With padding 1 a 3×3 window keeps the map's size. How many places has the output?",
        "stride-one-axis": "A stride is taken along the rows and along the columns. How many places are left?",
        "stride-on-one-part": "Which part takes the steps, and on how many places does the other one work afterwards?",
        "stride-on-both": "How often is the step taken: once, or by each part?",
    },
)

# 1.3

_BUGS = ("none", "groups", "order", "padding", "activation", "shared filter")
_FOUND = {
    "A": ("activation", "not-the-activation"),
    "B": ("groups", "not-the-groups"),
    "C": ("none", "nothing-wrong"),
    "D": ("padding", "not-the-padding"),
    "E": ("order", "not-the-order"),
}

predictions(
    "bugs",
    title="Five convolutions",
    quantities=which(_FOUND, _BUGS),
    hints={
        "not-the-activation": "Add two inputs before A, and two results behind it. Are they equal, and should they be?",
        "not-the-groups": "Print the shape of each weight of B. How many input channels does one filter see?",
        "nothing-wrong": "Count the parameters of C and change one input number. Does it do anything that it should "
        "not?",
        "not-the-padding": "Send a map through D and print both shapes. Which rows are new, and who made them?",
        "not-the-order": "Write down the kernel of each part of E in the order of its calls. Which job is done first?",
    },
)

# 1.4

MERGE_HINTS = {
    "not-a-convolution": "One single layer is asked for, which does it all. What does your function give back?",
    "still-grouped": "The merged layer must let every output see every input. How many groups does it have?",
    "matrices-in-wrong-order": "Which index do the two weights share, and over which one is summed?",
    "not-summed": "For one output and one input there is exactly one product of a number and a filter. Which is it?",
    "filters-flipped": "The windows are turned round. PyTorch's convolution does not turn them; does your code?",
    "bias-added": "The first bias passes through the second part too. What does that part do with it?",
    "first-bias-forgotten": "What comes out for an input of zeros? Which of the two biases have you kept?",
    "second-bias-forgotten": "The second part adds a bias after mixing. Where is it in your sum?",
    "bias-forgotten": "What comes out for an input of zeros, before and after merging?",
    "bias-of-random-numbers": "A new layer starts with random numbers. Which of them have you not overwritten?",
    "weights-of-random-numbers": "A new layer starts with random numbers. Have you overwritten them with the product?",
    "fails-without-bias": "A layer may have no bias at all. What stands there in its place?",
    "one-bias-lost": "One part has a bias, the other one has none. What is left of that bias in the merged layer?",
    "height-and-width": "Each window is mirrored at its diagonal. In which order do the last two axes of a weight "
    "stand?",
    "bias-not-mixed": "Each result depends on one first bias alone. How many channels does the second part mix?",
    "bias-invented": "Neither part has a bias. Should the merged layer add one?",
    "stride-lost": "The two parts make a smaller map than yours. Which argument says how far the window moves?",
    "padding-lost": "The two parts make a larger map than yours. Which argument says how wide the border is?",
    "argument-fixed": "The merged layer does not follow the first part's own sizes. Which number is written down?",
    "changes-the-parts": "After your function the two parts hold other weights than before. Into what does it write?",
    "bias-through-the-window": "The first bias was multiplied by its filter. Is it added before the filter or after?",
    "bias-averaged": "The first biases are put together before the second part weights them. Has each a weight of its "
    "own there?",
    "one-side-for-both": "A window, a step and a border have a height and a width. Which line takes one for both?",
    "axes-reshaped": "The numbers of a matrix, or of the product, were written into another shape. Which axis is the "
    "output's, and does reshaping move it?",
    "padding-not-zeros": "The merged layer puts something else around its map. What stands there for the first part?",
    "shares-memory": "The merged layer holds the very weights of a part. What happens to the part when the layer is "
    "trained?",
    "bias-of-the-first-summed": "The first biases are weighted before they are added up. Weighted by what?",
}
Sides = int | tuple[int, int]
MERGED: tuple[tuple[int, int, Sides, Sides, Sides, tuple[bool, bool]], ...] = (
    (6, 11, 3, 1, 1, (True, True)),
    (5, 7, 5, 0, 2, (True, True)),
    (6, 11, 3, 2, 3, (False, False)),
    (7, 4, 1, 0, 1, (True, True)),
    (3, 3, 3, 1, 1, (True, True)),
    (5, 4, 3, 1, 1, (False, True)),
    (5, 4, 3, 1, 1, (True, False)),
    (5, 4, (5, 3), (2, 1), (3, 2), (True, True)),
)
"""dim_in, dim_out, kernel, padding, stride, which of the two parts has a bias."""


@exercise("merge", MERGE_HINTS)
def merge(look: Look, answer: Any) -> None:
    """Check ``merge(depthwise, pointwise)``: a function of two ``nn.Conv2d`` that returns one dense one."""
    look.exists(answer)
    for dim_in, dim_out, kernel, padding, stride, (first, second) in MERGED:
        torch.manual_seed(dim_in)
        parts = (
            nn.Conv2d(dim_in, dim_in, kernel, stride=stride, padding=padding, groups=dim_in, bias=first).double(),
            nn.Conv2d(dim_in, dim_out, 1, bias=second).double(),
        )
        _merged(look, answer, parts)
        what = f"{dim_in} → {dim_out} channels, window {kernel}, stride {stride}"
        which = {(True, True): "", (False, False): ", without biases", (True, False): ", a first bias alone"}
        look.done(what + which.get((first, second), ", a second bias alone"))


def _held(part: nn.Conv2d) -> tuple[Any, ...]:
    """Return what a part is: its settings, its weights, and whether they are trained."""
    weights = [(name, p.requires_grad, p.dtype, p.detach().tolist()) for name, p in part.named_parameters()]
    return repr(part), part.training, weights


def _merged(look: Look, answer: Any, parts: tuple[nn.Conv2d, nn.Conv2d]) -> None:
    depthwise, pointwise = parts
    told = f"merge({depthwise}, {pointwise})"
    before = [_held(part) for part in parts]
    torch.manual_seed(1)
    made = look.attempt(answer, *parts)
    if isinstance(made, Failure):
        _not_merged(look, answer, made, parts)
        made = look.call(answer, *parts, told=told)
    if made is None or made is Ellipsis:
        look.nothing(answer, told)
    if [_held(part) for part in parts] != before:
        look.wrong("changes-the-parts", "The two parts are other ones after the call: their weights or settings.")
    if not isinstance(made, nn.Conv2d):
        look.wrong("not-a-convolution", f"The function gave a {type(made).__name__}; an nn.Conv2d is expected.")
    if made.groups != 1:
        look.wrong("still-grouped", f"The layer has {made.groups} groups.")
    torch.manual_seed(2)
    _compare_merged(look, made, parts, look.call(answer, *parts, told=told))
    storage = {p.untyped_storage().data_ptr() for part in parts for p in part.parameters()}
    if any(p.untyped_storage().data_ptr() in storage for p in made.parameters()):
        look.wrong("shares-memory", "A weight of the merged layer and one of a part are the same numbers in memory.")


def _not_merged(look: Look, answer: Any, made: Failure, parts: tuple[nn.Conv2d, nn.Conv2d]) -> None:
    """The answer raised something: say what, where the message or the sizes tell."""
    lacking = [name for name, part in zip(("depthwise", "pointwise"), parts) if part.bias is None]
    if lacking and "None" in made.words:
        look.wrong("fails-without-bias", f"No bias has the {' nor the '.join(lacking)} part: {made}")
    if len(set(parts[0].kernel_size)) > 1:
        look.wrong("one-side-for-both", f"With a window of {parts[0].kernel_size}: {made}")
    if "divisible by groups" in made.words:
        look.wrong("still-grouped", f"With {parts[0].in_channels} channels in and {parts[1].out_channels} out: {made}")
    if re.search(
        "cannot be multiplied|must match|expand|invalid for input|size mismatch|Subscript|does not match", made.words
    ):
        _square(look, answer, made)


def _square(look: Look, answer: Any, failure: Failure) -> NoReturn:
    """Sizes do not fit: with as many channels out as in they do, and the values tell what was done."""
    parts = nn.Conv2d(3, 3, 3, groups=3).double(), nn.Conv2d(3, 3, 1).double()
    made = look.attempt(answer, *parts)
    if isinstance(made, nn.Conv2d):
        _compare_merged(look, made, parts)
    kind = "bias-added" if "bias" in failure.line else "matrices-in-wrong-order"
    look.wrong(kind, f"With 6 channels in and 11 out: {failure}")


def _compare_merged(look: Look, made: nn.Conv2d, parts: tuple[nn.Conv2d, nn.Conv2d], again: Any = None) -> None:
    """The layer's weight and bias against the product; then its result against the two parts'.

    ``again`` is a second layer made of the same parts: what differs in it is random.
    """
    depthwise, pointwise = parts
    D, P = depthwise.weight.detach()[:, 0], pointwise.weight.detach()[:, :, 0, 0]  # (C_in, K, K), (C_out, C_in)
    weight = P[:, :, None, None] * D
    if made.weight.dtype != torch.float64:
        look.wrong("wrong-dtype", f"The parts hold float64, the merged layer {short(made.weight.dtype)}.")
    squares = [(*P.shape, side, side) for side in depthwise.kernel_size if len(set(depthwise.kernel_size)) > 1]
    found = tuple(made.weight.shape)
    wrong = {"one-side-for-both": found} if found in squares else {}
    look.shape(made.weight, weight.shape, "for the weight of the merged layer", wrong)
    _compare_settings(look, made, depthwise)
    if again is not None and not torch.equal(made.weight, again.weight):
        look.wrong("weights-of-random-numbers", "A second call with the same two parts gave other weights.")
    if not close(made.weight.detach(), weight):
        _other_weights(look, made.weight.detach(), weight, D, P)
    if again is not None and made.bias is not None and not torch.equal(made.bias, again.bias):
        look.wrong("bias-of-random-numbers", "A second call with the same two parts gave other biases.")
    _compare_biases(look, made, parts)
    x = random(2, P.shape[1], 11, 13)
    look.values(look.output(made, x), pointwise(depthwise(x)), at="for a random map")


def _compare_settings(look: Look, made: nn.Conv2d, depthwise: nn.Conv2d) -> None:
    """The layer's stride and padding are the first part's."""
    for kind in ("stride", "padding"):
        yours, target = tuple(getattr(made, kind)), tuple(getattr(depthwise, kind))
        if yours != target:
            lost = yours == ((1, 1) if kind == "stride" else (0, 0))
            one = len(set(target)) > 1 and len(set(yours)) == 1 and yours[0] in target
            found = "one-side-for-both" if one else f"{kind}-lost" if lost else "argument-fixed"
            look.wrong(found, f"The layer has the {kind} {yours}; the first part has {target}.")
    if made.padding_mode != "zeros":
        look.wrong("padding-not-zeros", f"The layer has the padding mode {made.padding_mode!r}.")


def _other_weights(look: Look, yours: torch.Tensor, weight: torch.Tensor, D: torch.Tensor, P: torch.Tensor) -> NoReturn:
    """The merged layer's weight is not the product of each number of P with its filter of D: say what it is."""
    mix = P[:, :, None, None]
    for candidate in (
        D,
        mix,
        D + mix,
        P.sum(1)[:, None, None, None] * D,
        D.sum(0),
        mix * D.sum(0),
        mix * D[0],
        mix * D.mean((1, 2))[:, None, None],
    ):
        if close(yours, candidate.expand_as(weight)):
            look.wrong("not-summed", "The weights are not the products of one number and one filter each.")
    if P.shape[0] == P.shape[1] and close(yours, P.T[:, :, None, None] * D):
        look.wrong("matrices-in-wrong-order", "The weights are those of the transposed matrix.")
    if close(yours, weight.transpose(2, 3)):
        look.wrong("height-and-width", "The weights are right, but rows of each window are its columns.")
    if close(yours, weight.flip(2, 3)):
        look.wrong("filters-flipped", "The weights are right, and each window is turned.")
    if any(close(yours, other) for other in (weight.transpose(0, 1).reshape(weight.shape), _reshaped(P) * D)):
        look.wrong("axes-reshaped", "The numbers were written into another shape, and stand at other places.")
    look.values(yours, weight, at="weights of the merged layer")
    raise AssertionError  # unreachable: the values differ


def _reshaped(P: torch.Tensor) -> torch.Tensor:
    """Return the matrix that is transposed and written into its old shape again, with two axes for the window."""
    return P.T.reshape(P.shape)[:, :, None, None]


def _compare_biases(look: Look, made: nn.Conv2d, parts: tuple[nn.Conv2d, nn.Conv2d]) -> None:
    depthwise, pointwise = parts
    P = pointwise.weight.detach()[:, :, 0, 0]
    yours = torch.zeros(P.shape[0], dtype=torch.float64) if made.bias is None else made.bias.detach()
    if depthwise.bias is None and pointwise.bias is None:
        if bool(yours.any()):
            look.wrong("bias-invented", "The two parts give zeros for an input of zeros; the merged layer does not.")
        return
    first, second = (
        torch.zeros(part.out_channels, dtype=torch.float64) if part.bias is None else part.bias.detach()
        for part in parts
    )
    if (depthwise.bias is None or pointwise.bias is None) and not bool(yours.any()):
        which = "second" if depthwise.bias is None else "first"
        look.wrong("one-bias-lost", f"The {which} part alone has a bias; the merged layer has none, or zeros.")
    through = P @ first
    target = through + second
    if close(yours, target):
        return
    for one in (P.sum(1) * first.mean(), P.sum(1) * first.sum(), first.mean()):
        if close(yours, second + one):
            look.wrong("bias-averaged", "One number stands for all the first biases: their sum, or their mean.")
    if close(yours, second + P[:, 0] * first[0]):
        look.wrong("bias-not-mixed", "The bias is the one that the first channel alone would give.")
    if close(yours, through * second):
        look.wrong("bias-added", "For an input of zeros the result is another one than that of the two parts.")
    wrong = {
        "bias-forgotten": torch.zeros_like(second),
        "first-bias-forgotten": second,
        "second-bias-forgotten": through,
        "bias-of-the-first-summed": second + first.sum(),
        "bias-through-the-window": second + P @ (first * depthwise.weight.detach().sum((1, 2, 3))),
    }
    if len(first) == len(second):
        wrong |= {"bias-added": second + first, "bias-not-mixed": second + P.sum(1) * first}
        wrong["matrices-in-wrong-order"] = second + P.T @ first
    look.values(yours, target, wrong, "biases of the merged layer")


# Warm-ups


_IMPULSE = F.one_hot(torch.tensor([22]), 36).float().reshape(1, 4, 3, 3)  # a 1 at (0, 2, 1, 1)
_FILTERS = torch.arange(36.0).reshape(4, 1, 3, 3)


def _filtered(x: torch.Tensor, filters: torch.Tensor, groups: int = 4, padding: int = 1) -> torch.Tensor:
    return F.conv2d(x, filters, padding=padding, groups=groups)


def _groups(groups: int, padding: int = 1) -> torch.Tensor:
    return _filtered(_IMPULSE, _FILTERS.repeat(1, 4 // groups, 1, 1), groups, padding)


puzzle_of(
    "impulse",
    title="An impulse through groups",
    target=lambda: _groups(4),
    wrong={
        "groups-forgotten": (lambda: _groups(1), "The impulse reaches all four outputs. Which ones should?"),
        "too-few-groups": (lambda: _groups(2), "The impulse reaches two outputs. How many channels are in one group?"),
        "window-not-turned": (
            lambda: _groups(4).flip(2, 3),
            "The numbers run the other way. At which place of the window does each output see the impulse?",
        ),
        "filter-for-all": (
            lambda: _filtered(_IMPULSE, _FILTERS.view(1, 4, 3, 3).repeat(4, 1, 1, 1), 1),
            "All four outputs hold the same numbers. Does one filter look at every channel here, or at one?",
        ),
        "first-filter-for-all": (
            lambda: _filtered(_IMPULSE, _FILTERS[:1].expand(4, 1, 3, 3)),
            "These are the numbers of the first filter. Which of the four does the impulse meet?",
        ),
        "filters-in-reverse": (
            lambda: _filtered(_IMPULSE, _FILTERS.flip(0)),
            "These are the numbers of the second filter, and the third was met. In which order do the filters stand?",
        ),
        "counted-from-one": (
            lambda: _filtered(_IMPULSE.roll(-1, 1), _FILTERS),
            "The numbers stand in the second of the four channels. Does counting begin at 0 or at 1?",
        ),
        "counted-too-far": (
            lambda: _filtered(_IMPULSE.roll(1, 1), _FILTERS),
            "The numbers stand in the last of the four channels. Which channel has the impulse?",
        ),
        "window-not-moved": (
            lambda: _IMPULSE * _FILTERS.view(1, 4, 3, 3),
            "The filter was laid on the map once. At how many places does a window see the impulse?",
        ),
        "nothing-done": (lambda: _IMPULSE, "This is the map as it came in. Who looks at it?"),
        "padding-ignored": (lambda: _groups(4, 0), "One place is left of nine. What stands around the map?"),
    },
)

_PICTURE = torch.arange(12.0).reshape(3, 2, 2)
_MIX = torch.tensor([[1.0, 0, -1], [1, 1, 1]])

puzzle_of(
    "mix",
    title="Mix the channels of each pixel",
    target=lambda: torch.einsum("oi,ihw->ohw", _MIX, _PICTURE),
    wrong={
        "pixels-summed": (
            lambda: torch.einsum("oi,ihw->o", _MIX, _PICTURE),
            "The pixels are gone. Which letters may be summed over, and which must stay?",
        ),
        "pixels-shuffled": (
            lambda: (_MIX @ _PICTURE.reshape(4, 3).T).reshape(2, 2, 2),
            "The picture was reshaped before the mixing. Which numbers stand together then: one pixel's?",
        ),
        "two-letters-for-one-axis": (
            lambda: torch.einsum("oi,chw->ohw", _MIX, _PICTURE),
            "Each factor is summed by itself, and the sums are multiplied. Which axis have the two in common?",
        ),
        "channels-in-the-middle": (
            lambda: _MIX @ _PICTURE.reshape(2, 3, 2),
            "Three numbers of each half of the picture were mixed. Are they the three channels of one pixel?",
        ),
        "mixture-reversed": (
            lambda: torch.einsum("oi,ihw->ohw", _MIX.flip(1), _PICTURE),
            "The first number of each row met the last channel. Which channel should it meet?",
        ),
        "signs-lost": (
            lambda: torch.einsum("oi,ihw->ohw", _MIX.abs(), _PICTURE),
            "The first mixture is a sum here. What does its negative number ask for?",
        ),
        "not-summed": (
            lambda: torch.einsum("oi,ihw->oihw", _MIX, _PICTURE),
            "Nothing was summed. Which letter should be missing on the right of the arrow?",
        ),
        "channels-last": (
            lambda: torch.einsum("oi,ihw->hwo", _MIX, _PICTURE),
            "The numbers are right. In which order does a map have its axes?",
        ),
        "height-and-width": (
            lambda: torch.einsum("oi,ihw->owh", _MIX, _PICTURE),
            "Two pixels have changed places. Which two letters?",
        ),
    },
)
