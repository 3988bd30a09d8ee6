"""Chapter 9: published weights."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from segformer_edu.checks.core import Failure, Look, close, exercise, random, short
from segformer_edu.checks.numbers import plain, predictions, puzzle_of, which
from segformer_edu.data.pictures import IMAGENET_MEAN, IMAGENET_STD

# 9.1

PREPARE_HINTS = {
    "not-divided": "In which range are the colours when the mean is taken off, and in which range is that mean?",
    "divided-twice": "Every number is far smaller than it should be. How often is the range brought to one?",
    "divided-by-another-number": "Which is the largest number that a byte holds? What becomes of pure white?",
    "colours-reversed": "A pure red picture comes out in the wrong channel. In which order do both sides have colours?",
    "statistics-reversed": "The channels are in the right order. Which colour's mean is taken off which channel?",
    "not-normalised": "The colours are between zero and one, and stay there. Which two steps follow?",
    "mean-missing": "Black comes out as zero. What should be taken off before the division?",
    "std-missing": "The mean is taken off. By what is the rest divided?",
    "std-before-mean": "Both numbers are used. Which step comes first?",
    "std-multiplied": "What happens to the spread: should it become larger or smaller, to become about one?",
    "statistics-swapped": "Which of the two triples is taken off, and which one divides?",
    "normalised-twice": "The mean is taken off, and the spread divided by, more than once. Which line does it already?",
    "mean-added": "White comes out too large. Is the mean added, or taken off?",
    "deviation-to-a-power": "You divide by a power of the deviation. Which of the two has the unit of the colours: the "
    "variance or the deviation?",
    "other-statistics": "These are another model family's numbers. Which mean and which deviation do the published "
    "weights expect?",
    "one-mean-for-all": "All three channels are treated alike. Has each colour numbers of its own?",
    "own-statistics": "The numbers depend on what else is in the picture. Whose mean and deviation should be taken?",
    "other-axis-reversed": "The picture is upside down, or left is right in it. Which axis of the array has the "
    "colours, and which one do you reverse?",
    "numbers-reordered": "The right numbers stand at wrong pixels. Does a new shape move an axis, or only read the "
    "numbers in their old order?",
    "height-and-width": "The picture is 5 pixels high and 7 wide. What is it now?",
    "channels-last": "Where do a model's convolutions expect the channels?",
    "batch-axis-missing": "A model takes several pictures at once. Which axis counts them?",
    "batch-axis-last": "There are four axes. Which one counts the pictures?",
    "runs-backwards": "NumPy only says that it reads backwards, and moves no number. What must happen before PyTorch "
    "takes such an array?",
    "bytes-do-not-divide": "Which step needs floats, and which type has the array when it gets there?",
    "clipped": "Some numbers are cut off. Which line allows no negative ones, or none above one?",
    "resized": "The model takes any size. Who asked for another one?",
    "wrong-dtype": "The text asks for one type of number. Which line makes another one, or leaves it?",
    "rounded-down": "Almost every colour is zero. Which division gives whole numbers alone?",
    "bytes-wrap-around": "Dark colours come out as bright ones. A byte is never negative: which type has the array "
    "when something is taken off?",
}


@exercise("prepare", PREPARE_HINTS)
def prepare(look: Look, answer: Any) -> None:
    """Check ``prepare(picture)``, a function: an array (H, W, 3) as OpenCV reads it → what published weights expect."""
    look.exists(answer)
    generator = np.random.default_rng(0)
    picture = generator.integers(0, 256, (5, 7, 3), dtype=np.uint8)
    before = picture.copy()
    yours = _prepared(look, answer, picture)
    if not np.array_equal(picture, before):
        look.wrong("changes-input", "The array that went in holds other numbers after the call.")
    look.done("runs, shape, floats")
    other = _prepared(look, answer, generator.integers(90, 120, (5, 7, 3), dtype=np.uint8))
    target = _target(picture)
    if not _near(yours, target):
        _mistaken(look, picture, yours, other)
    look.done("numbers")
    for words, array in {
        "a picture of one colour": np.full((4, 9, 3), (255, 0, 128), dtype=np.uint8),
        "a picture of another size": generator.integers(0, 256, (11, 4, 3), dtype=np.uint8),
        "a dark picture": generator.integers(0, 2, (5, 7, 3), dtype=np.uint8),
        "a large picture": generator.integers(0, 256, (600, 1030, 3), dtype=np.uint8),
    }.items():
        got = _prepared(look, answer, array)
        if not _near(got, _target(array)):
            _mistaken(look, array, got, None, words)
        look.done(words)


def _target(picture: np.ndarray) -> torch.Tensor:
    colours = torch.from_numpy(picture[:, :, ::-1].copy()).permute(2, 0, 1).double() / 255
    mean, std = (torch.tensor(three, dtype=torch.float64).view(3, 1, 1) for three in (IMAGENET_MEAN, IMAGENET_STD))
    return ((colours - mean) / std)[None]


def _near(yours: torch.Tensor, target: torch.Tensor) -> bool:
    """Equal but for the rounding of 32 bits."""
    return close(yours.double(), target, 3e-6)


def _prepared(look: Look, answer: Any, picture: np.ndarray) -> torch.Tensor:
    """Call the function; end where what comes back has not the type and the shape that is asked for."""
    told = f"prepare(uint8 {picture.shape})"
    made = look.attempt(answer, picture, told=told)
    if isinstance(made, Failure):
        if "negative" in made.words or "stride" in made.words:
            look.wrong("runs-backwards", f"{told}: {made}")
        if "whole numbers" in made.words or "are torch.uint8" in made.words or "Byte" in made.words:
            look.wrong("bytes-do-not-divide", f"{told}: {made}")
    yours = made if isinstance(made, torch.Tensor) else look.output(answer, picture, told=told, dtype=None)
    height, width, _ = picture.shape
    known = {
        "batch-axis-missing": (3, height, width),
        "channels-last": ((height, width, 3), (1, height, width, 3)),
        "height-and-width": ((1, 3, width, height), (3, width, height)),
        "batch-axis-last": ((3, height, width, 1), (3, 1, height, width)),
    }
    shape = tuple(yours.shape)
    for kind, shapes in known.items():
        if shape in (shapes if isinstance(shapes[0], tuple) else (shapes,)):
            look.wrong(kind, f"{told} has the shape {shape}; expected is (1, 3, {height}, {width}).")
    if len(shape) == 4 and shape[:2] == (1, 3) and shape[2:] != (height, width):
        look.wrong("resized", f"{told} has the shape {shape}; expected is (1, 3, {height}, {width}).")
    look.shape(yours, (1, 3, height, width))
    if yours.dtype != torch.float32:
        look.wrong("wrong-dtype", f"{told} gave {short(yours.dtype)}; float32 is expected.")
    return yours.detach()


Three = tuple[float, ...]


def _mistaken(
    look: Look, picture: np.ndarray, yours: torch.Tensor, other: torch.Tensor | None, at: str = ""
) -> NoReturn:
    """Find what each output channel is of an input channel, a factor and a shift: these say what was done."""
    y = yours[0].double().flatten(1)  # (3, H·W), the reader's
    x = torch.from_numpy(picture).double().permute(2, 0, 1).flatten(1)  # (3, H·W): blue, green, red, bytes
    fits = [_fit(x, channel) for channel in y]
    target = _target(picture)
    if not bool(y.isfinite().all()):
        look.values(yours.double(), target)
    if any(fit is None for fit in fits):
        _moved(look, picture, y, target)
        look.values(yours.double(), target, at=at)
    found = [fit for fit in fits if fit is not None]
    sources, factors, shifts = (tuple(part) for part in zip(*found))
    seen = "; ".join(
        f"{name} is {factor:.4g} · {('blue', 'green', 'red')[source]} + {shift:.4g}"
        for name, source, factor, shift in zip(("first channel", "second", "third"), sources, factors, shifts)
    )
    if other is not None and not _affine_again(other, sources, factors, shifts):
        look.wrong("own-statistics", f"For this picture the {seen}; for another one these numbers are others.")
    kind = _step(sources, factors, shifts)
    if kind:
        look.wrong(kind, f"Of the byte that went in, the {seen}.")
    look.values(yours.double(), target, at=at or seen)
    raise AssertionError  # unreachable: the values differ


def _moved(look: Look, picture: np.ndarray, y: torch.Tensor, target: torch.Tensor) -> None:
    """No channel is a factor and a shift of one that went in: perhaps pixels moved, or numbers were cut off."""
    read = torch.from_numpy(picture.copy()).double()  # (H, W, 3)
    for what, axes in {"rows": [0], "columns": [1], "rows and columns": [0, 1]}.items():
        fits = [_fit(read.flip(axes).permute(2, 0, 1).flatten(1), channel) for channel in y]
        if None not in fits:
            colours = ", ".join(("blue", "green", "red")[fit[0]] for fit in fits if fit)
            look.wrong("other-axis-reversed", f"The {what} are reversed; the channels are {colours}.")
    for order in ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)):
        for sides in ((), (0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)):
            turned = read.flip(sides).permute(order).reshape(3, -1)
            if all(_fit(turned, channel) is not None for channel in y):
                look.wrong("numbers-reordered", "The numbers are those of the picture, in other places.")
    if len(y.unique()) <= 6:
        look.wrong("rounded-down", f"There are {len(y.unique())} different numbers in the whole result.")
    for source in read.permute(2, 0, 1).flatten(1):
        if any(_fit((source - number)[None] % 256, y[0]) for number in range(1, 256)):
            look.wrong("bytes-wrap-around", "The first channel goes up with the byte, and once falls to its least.")
    wanted = target[0].flatten(1)
    if close(y, wanted.clamp(0, 1), 1e-5) or close(y, wanted.clamp(-1, 1), 1e-5) or close(y, wanted.relu(), 1e-5):
        look.wrong("clipped", f"The smallest number is {float(y.min()):.3g}, the largest {float(y.max()):.3g}.")


def _fit(x: torch.Tensor, y: torch.Tensor) -> tuple[int, float, float] | None:
    """Return the input channel, the factor and the shift that give y, or None."""
    if not bool(y.isfinite().all()):
        return None
    for source, channel in enumerate(x):
        around = channel - channel.mean()
        if not bool(around.any()):
            continue
        factor = float((around * (y - y.mean())).sum() / (around * around).sum())
        shift = float(y.mean() - factor * channel.mean())
        if factor and close(y, factor * channel + shift, 1e-5):
            return source, factor, shift
    return None


def _affine_again(other: torch.Tensor, sources: Three, factors: Three, shifts: Three) -> bool:
    """Whether a second picture was treated in the same way."""
    picture = np.random.default_rng(0)
    picture.integers(0, 256, (5, 7, 3), dtype=np.uint8)
    x = torch.from_numpy(picture.integers(90, 120, (5, 7, 3), dtype=np.uint8)).double()
    made = [factor * x[..., int(source)] + shift for source, factor, shift in zip(sources, factors, shifts)]
    return close(other[0].double(), torch.stack(made), 1e-4)


def _step(sources: Three, factors: Three, shifts: Three) -> str:
    """Return the first step that was not done as it should be, read off from what it made of each channel."""
    mean, std = IMAGENET_MEAN, IMAGENET_STD
    back_mean, back_std, half = mean[::-1], std[::-1], (0.5,) * 3
    ones, noughts = (1.0,) * 3, (0.0,) * 3

    def is_done(scale: float, means: Three, stds: Three) -> bool:
        """Whether each channel is (scale · byte − mean) / std."""
        given = zip(factors, shifts, means, stds)
        return all(np.isclose(f, scale / s, rtol=1e-4) and np.isclose(b, -m / s, 1e-4, 1e-4) for f, b, m, s in given)

    def shifted(values: Three) -> Three:
        return tuple(m * s for m, s in zip(values, std))

    def over(values: Three) -> Three:
        return tuple(1 / s for s in values)

    rules: list[tuple[str, float, Three, Three]] = []
    for m, s in ((mean, std), (back_mean, back_std)):
        rules += [
            ("colours-reversed" if m == mean else "statistics-reversed", 1 / 255, m, s),
            ("not-divided", 1, m, s),
            ("not-divided", 1, noughts, s),
            ("not-divided", 1, m, ones),
            ("not-divided", 1, tuple(255 * v for v in m), s),
            ("not-divided", 1, tuple(255 * v for v in m), ones),
            ("not-divided", 1, tuple(v * d for v, d in zip(m, s)), s),
            ("divided-twice", 1 / 255**2, m, s),
            ("divided-twice", 1 / 255, tuple(255 * v for v in m), tuple(255 * v for v in s)),
            ("divided-twice", 1 / 255, m, tuple(255 * v for v in s)),
            *(("divided-by-another-number", 1 / number, m, s) for number in (256, 254, 128, 127.5, 100, 1000)),
            ("divided-by-another-number", 2 / 255, tuple(1 + v for v in m), s),
            ("not-divided", 1 / 255, tuple(255 * v for v in m), s),
            ("not-divided", 1 / 255, tuple(v / 255 for v in m), s),
            ("mean-missing", 1 / 255, noughts, s),
            ("std-missing", 1 / 255, m, ones),
            ("std-before-mean", 1 / 255, tuple(v * d for v, d in zip(m, s)), s),
            ("std-multiplied", 1 / 255, m, over(s)),
            ("std-multiplied", 1 / 255, noughts, over(s)),
            ("statistics-swapped", 1 / 255, s, m),
            ("normalised-twice", 1 / 255, tuple(v + v * d for v, d in zip(m, s)), tuple(v**2 for v in s)),
            ("mean-added", 1 / 255, tuple(-v for v in m), s),
            ("deviation-to-a-power", 1 / 255, m, tuple(v**0.5 for v in s)),
            ("deviation-to-a-power", 1 / 255, m, tuple(v**2 for v in s)),
            ("one-mean-for-all", 1 / 255, (sum(m) / 3,) * 3, (sum(s) / 3,) * 3),
            ("one-mean-for-all", 1 / 255, (sum(m) / 3,) * 3, s),
            ("one-mean-for-all", 1 / 255, m, (sum(s) / 3,) * 3),
        ]
        rules += [("one-mean-for-all", 1 / 255, (v,) * 3, (d,) * 3) for v, d in zip(m, s)]
    rules += [
        ("not-divided", 1, noughts, ones),
        ("not-normalised", 1 / 255, noughts, ones),
        ("divided-twice", 1 / 255**2, noughts, ones),
        ("other-statistics", 1 / 255, half, half),
        ("other-statistics", 1 / 255, half, (0.25,) * 3),
        ("other-statistics", 1 / 255, half, ones),
        ("other-statistics", 1 / 255, (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
        ("other-statistics", 1, (123.675, 116.28, 103.53), (1, 1, 1)),
        ("other-statistics", 1 / 127.5, ones, ones),
    ]
    right = sources == (2, 1, 0)
    for kind, scale, means, stds in rules:
        if is_done(scale, means, stds):
            if kind in ("colours-reversed", "statistics-reversed") and not right:
                return "colours-reversed"
            return kind
    if not right:
        return "colours-reversed"
    return "other-statistics" if np.allclose(factors, factors[0], 1e-4) else ""


# 9.2

CONVERT_HINTS = {
    "not-a-dict": "A model loads names and tensors. Does your function give these back, or something that holds them?",
    "prefix-left": "What stands before every name in the file, and in no name of the layer?",
    "not-renamed": "Some names are still the file's. Which ones does the layer know?",
    "query-left-inside": "One matrix of the file holds three. Which names does the layer have for its rows?",
    "key-and-value-apart": "The layer multiplies keys and values by one matrix. How many do you give it?",
    "reduction-lost": "The layer also shrinks its map before keys and values. Where did those tensors go?",
    "biases-lost": "All the matrices are there. What else does each layer of the file have?",
    "reduction-invented": "With a ratio of one the file has no reduction. Does the layer then have one?",
    "unknown-names": "Print the names of the layer's own state dict beside yours. Which ones differ?",
    "names-lost": "Print the names of the layer's own state dict beside yours. Which ones are missing?",
    "not-a-convolution": "Multiplying each pixel by a matrix: which shape does the layer keep such a matrix in?",
    "size-written-down": "A layer of another width fails. Where is a number written down that the file knows?",
    "needs-a-reduction": "Where the ratio is one, the file lacks two layers. Does your code ask for them all the same?",
    "thirds-confused": "The file's rows come in three blocks. Which block is for queries, which for keys, which for "
    "values?",
    "values-first": "Keys and values are both there. Which come first in the layer?",
    "interleaved": "The rows come in three blocks, one behind the other. Do you take every third row, or heads?",
    "rows-reordered": "The right rows are there. In which order does the file have them?",
    "transposed": "Rows and columns have changed places. Which axis of a linear layer's matrix counts its outputs?",
    "window-turned": "The window of the strided convolution is turned or mirrored. Do its height and width move?",
    "side-by-side": "Keys and values stand side by side. Along which axis of the matrix do the outputs lie?",
    "as-in-a-fresh-layer": "This is the scale of a norm that never learned anything. What has the file for it?",
    "wrong-dtype": "The numbers have another type than in the file. Which line changes it?",
    "reshaped-not-transposed": "Is the number of rows the number of outputs, in both kinds of layer?",
    "exchanged": "A tensor of the file has the name of another one. Which layer is it from?",
    "weight-for-bias": "A bias stands where a scale should, or the other way round. Which is which?",
    "changes-the-file": "After your function the file holds other names or tensors. Who needs it once more?",
    "scaled": "The numbers are not the file's. Does a conversion compute anything?",
}
_PREFIX = "module."


def _attention_file(dim: int, ratio: int, seed: int, dtype: torch.dtype = torch.float64) -> dict[str, torch.Tensor]:
    """One attention layer as mmsegmentation saves it behind a wrapper: names and tensors, all numbers different."""
    shapes = {"attn.in_proj_weight": (3 * dim, dim), "attn.in_proj_bias": (3 * dim,)}
    shapes |= {"attn.out_proj.weight": (dim, dim), "attn.out_proj.bias": (dim,)}
    if ratio > 1:
        shapes |= {"sr.weight": (dim, dim, ratio, ratio), "sr.bias": (dim,), "norm.weight": (dim,), "norm.bias": (dim,)}
    return {
        _PREFIX + name: random(*shape, seed=seed + index).to(dtype)
        for index, (name, shape) in enumerate(shapes.items())
    }


_RENAMED = {
    "to_out.weight": "attn.out_proj.weight",
    "to_out.bias": "attn.out_proj.bias",
    "reduce.0.weight": "sr.weight",
    "reduce.0.bias": "sr.bias",
    "reduce.1.weight": "norm.weight",
    "reduce.1.bias": "norm.bias",
}


def _expected(file: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    made = {}
    for kind in ("weight", "bias"):
        rows = file[f"{_PREFIX}attn.in_proj_{kind}"]
        dim = len(rows) // 3
        made[f"to_q.{kind}"], made[f"to_kv.{kind}"] = rows[:dim], rows[dim:]
    made |= {ours: file[_PREFIX + name] for ours, name in _RENAMED.items() if _PREFIX + name in file}
    return {
        name: value[:, :, None, None] if name.startswith("to_") and value.dim() == 2 else value
        for name, value in made.items()
    }


@exercise("convert", CONVERT_HINTS)
def convert(look: Look, answer: Any) -> None:
    """Check ``convert(file)``, a function of a dict: names and tensors of one layer → those of this book's layer."""
    look.exists(answer)
    for index, (dim, ratio) in enumerate(((6, 2), (10, 1), (14, 3))):
        _converted(look, answer, _attention_file(dim, ratio, 10 * index), ratio, first=not index)
        look.done(f"{dim} channels, ratio {ratio}")
    _converted(look, answer, _attention_file(6, 2, 40, torch.float32), 2, first=False)
    look.done("float32")


def _converted(look: Look, answer: Any, file: dict[str, torch.Tensor], ratio: int, first: bool) -> None:
    kept = {name: value.clone() for name, value in file.items()}
    dim = len(file[f"{_PREFIX}attn.out_proj.bias"])
    told = f"convert(file), {dim} channels, ratio {ratio}"
    made = _dict_of(look, answer, file, ratio, told, first)
    if kept.keys() != file.keys() or any(not torch.equal(kept[name], file[name]) for name in kept):
        look.wrong("changes-the-file", "After the call the dict that went in holds other names or numbers.")
    expected = _expected(file)
    _names(look, {str(name): value for name, value in made.items()}, expected, file, ratio, told)
    for name, target in expected.items():
        value = made[name]
        if not isinstance(value, torch.Tensor):
            look.wrong("wrong-type", f"{told}: `{name}` is a {type(value).__name__}; a tensor is expected.")
        _shape_of(look, name, value, target, file, told, first)
        if value.dtype not in (target.dtype, torch.float32):
            look.wrong("wrong-dtype", f"{told}: `{name}` is {short(value.dtype)}; the file's is {short(target.dtype)}.")
        if not close(value.detach().double(), target.double(), 1e-7):
            _other_tensor(look, name, value.detach().double(), target, file, told, first)


def _dict_of(
    look: Look, answer: Any, file: dict[str, torch.Tensor], ratio: int, told: str, first: bool
) -> Mapping[Any, Any]:
    """Call the function; end where it fails, or gives no dict."""
    made = look.attempt(answer, file, told=told)
    if isinstance(made, Failure):
        key = made.words.strip("'") if made.name == "KeyError" else ""
        if first and ("module" in key or _PREFIX + key in file):
            look.wrong("prefix-left", f"{told}: {made}")
        if not first and ratio == 1 and made.name in ("KeyError", "AttributeError", "StopIteration", "TypeError"):
            look.wrong("needs-a-reduction", f"{told}: {made}")
        if not first:
            look.wrong("size-written-down", f"{told}: {made}")
        made = look.call(answer, file, told=told)
    if made is None or made is Ellipsis:
        look.nothing(answer, told)
    if not isinstance(made, Mapping):
        look.wrong("not-a-dict", f"{told} gave a {type(made).__name__}; a dict is expected.")
    return made


def _names(look: Look, made: Mapping[str, Any], expected: Mapping, file: Mapping, ratio: int, told: str) -> None:
    """End where the names are not the layer's, and say what that means."""
    missing, more = sorted(expected.keys() - made.keys()), sorted(made.keys() - expected.keys())
    if not missing and not more:
        return
    seen = f"{told}: missing {', '.join(missing) or 'nothing'}; unknown to the layer {', '.join(more) or 'nothing'}."
    left = [name.removeprefix(_PREFIX) for name in more]
    if more and all(name.startswith(_PREFIX) for name in more) and set(left) & expected.keys():
        look.wrong("prefix-left", seen)
    originals = {name.removeprefix(_PREFIX) for name in file}
    if any("in_proj" in name or "qkv" in name for name in left) and len(more) <= 2 + (ratio == 1):
        look.wrong("query-left-inside", seen)
    if any(name.split(".")[-2:-1] in (["to_k"], ["to_v"], ["to_key"], ["to_value"]) for name in left):
        look.wrong("key-and-value-apart", seen)
    if more and all(name in originals for name in left):
        look.wrong("not-renamed", seen)
    if more and all(name.startswith("reduce") for name in more) and ratio == 1:
        look.wrong("reduction-invented", seen)
    if not more and all(name.startswith("reduce") for name in missing):
        look.wrong("reduction-lost", seen)
    if not more and all(name.endswith("bias") for name in missing):
        look.wrong("biases-lost", seen)
    if set(left) & originals:
        look.wrong("not-renamed", seen)
    look.wrong("unknown-names" if more else "names-lost", seen)


def _shape_of(
    look: Look, name: str, value: torch.Tensor, target: torch.Tensor, file: Mapping, told: str, first: bool
) -> None:
    found, wanted = tuple(value.shape), tuple(target.shape)
    if found == wanted:
        return
    seen = f"{told}: `{name}` has the shape {found}; expected is {wanted}."
    if not first:
        look.wrong("size-written-down", seen)
    if name == "to_kv.weight" and value.numel() == target.numel() and found[:1] == (wanted[0] // 2,):
        look.wrong("side-by-side", seen)
    if target.dim() == 4 and value.dim() < 4 and value.numel() == target.numel():
        look.wrong("not-a-convolution", seen)
    if target.dim() == 4 and value.dim() == 4 and sorted(found) == sorted(wanted):
        look.wrong("axes-exchanged", seen)
    if name.startswith(("to_q", "to_kv")) and len(found) and found[0] % (wanted[0] // (2 if "kv" in name else 1)) == 0:
        look.wrong("thirds-confused", seen)
    if name == "to_q.weight" and found[:2] == (wanted[0] // 3, 3 * wanted[1]):
        look.wrong("transposed", f"{seen} The whole matrix was turned before it was cut.")
    if any(torch.equal(value, tensor) for tensor in file.values()):
        look.wrong("exchanged", seen)
    look.wrong("wrong-shape", seen)


def _other_tensor(
    look: Look, name: str, value: torch.Tensor, target: torch.Tensor, file: Mapping, told: str, first: bool
) -> NoReturn:
    """A tensor of the right shape holds other numbers: say which tensor, rows or columns of the file they are."""
    kind = name.rsplit(".", 1)[1]
    joined = file[f"{_PREFIX}attn.in_proj_{kind}"].double()
    flat = value.flatten(1) if value.dim() > 1 else value
    if value.dim() == 1 and bool((value == value[0]).all()):
        look.wrong("as-in-a-fresh-layer" if kind == "weight" else "biases-lost", f"{told}: `{name}` is {value[0]:g}.")
    for other, tensor in file.items():
        if value.numel() == tensor.numel() and torch.equal(value.flatten(), tensor.double().flatten()):
            told_kind = "weight-for-bias" if other.split(".")[:-1] == _source(name).split(".")[:-1] else "exchanged"
            look.wrong(told_kind, f"{told}: `{name}` holds the numbers of the file's `{other}`.")
    if name.startswith(("to_q", "to_kv")) and flat.shape[1:] == joined.shape[1:]:
        rows = [_row(joined, row) for row in flat]
        if all(row is not None for row in rows):
            _rows(look, name, [int(row) for row in rows if row is not None], told, first)
    wanted = target.double()
    if wanted.dim() == 4:
        _turned_matrix(look, name, value, wanted, joined, told)
    factor = float((value * wanted).sum() / (wanted * wanted).sum())
    if factor and close(value, factor * wanted):
        look.wrong("scaled", f"{told}: `{name}` is {factor:.4g} times what the file holds.")
    look.values(value, wanted, at=name)
    raise AssertionError  # unreachable: the values differ


def _turned_matrix(
    look: Look, name: str, value: torch.Tensor, wanted: torch.Tensor, joined: torch.Tensor, told: str
) -> None:
    """End where a matrix holds the right numbers in other places."""
    flat = value.flatten(1)
    source = wanted.flatten(1)
    if torch.equal(wanted.transpose(0, 1).reshape(-1), value.flatten()):
        look.wrong("transposed", f"{told}: `{name}` has its axes exchanged.")
    for window in (wanted, wanted.transpose(2, 3)):
        if any(torch.equal(window.flip(axes), value) for axes in ((), (2,), (3,), (2, 3))):
            look.wrong("window-turned", f"{told}: `{name}` holds each window, turned or mirrored.")
    pieces = (joined[: joined.shape[1]], joined[joined.shape[1] :]) if name.startswith(("to_q", "to_kv")) else ()
    for piece in (source, *pieces, joined):
        if piece.numel() == value.numel() and torch.equal(piece.T.reshape(-1), value.flatten()):
            look.wrong("transposed", f"{told}: `{name}` is the transposed matrix, read into the new shape.")
    square = joined.unflatten(0, (3, -1)).transpose(1, 2).flatten(0, 1)  # each third transposed
    if (
        name.startswith("to_")
        and flat.shape[1:] == square.shape[1:]
        and all(_row(square, row) is not None for row in flat)
    ):
        look.wrong("transposed", f"{told}: `{name}` is made of columns of the file's matrix.")
    numbers = set(wanted.flatten().tolist())
    if set(value.flatten().tolist()) == numbers:
        look.wrong("reshaped-not-transposed", f"{told}: `{name}` holds the right numbers in other places.")
    if set(value.flatten().tolist()) <= set(joined.flatten().tolist()):
        look.wrong("rows-reordered", f"{told}: `{name}` is made of other numbers of the file's matrix.")


def _source(name: str) -> str:
    return _PREFIX + _RENAMED.get(name, "attn.in_proj.weight")


def _row(rows: torch.Tensor, row: torch.Tensor) -> int | None:
    """Return which of the rows this one is, or None."""
    same = (rows == row).flatten(1).all(1) if rows.dim() > 1 else rows == row
    return int(same.nonzero()[0]) if bool(same.any()) else None


def _rows(look: Look, name: str, rows: list[int], told: str, first: bool) -> NoReturn:
    """The right matrix, in rows that are not the right ones."""
    dim = len(rows) // (2 if "kv" in name else 1)
    seen = f"{told}: `{name}` holds the rows {rows} of the file's matrix."
    blocks = [rows[start : start + dim] for start in range(0, len(rows), dim)]
    in_blocks = all(block == list(range(block[0], block[0] + dim)) and block[0] % dim == 0 for block in blocks)
    if in_blocks and [block[0] // dim for block in blocks] == [2, 1]:
        look.wrong("values-first", seen)
    if in_blocks:
        look.wrong("thirds-confused", seen)
    if not first:
        look.wrong("size-written-down", seen)
    steps = {after - before for before, after in zip(rows, rows[1:])}
    runs = steps - {1}
    look.wrong("interleaved" if runs and min(runs) > 0 and dim > 1 and rows == sorted(rows) else "rows-reordered", seen)


# 9.3

_FAULTS = ("none", "prefix", "depth", "fuse columns", "keys and values", "statistics", "heads", "eps")
_SYMPTOMS = {
    "A": ("statistics", "not-a"),
    "B": ("prefix", "not-b"),
    "C": ("keys and values", "not-c"),
    "D": ("heads", "not-d"),
    "E": ("fuse columns", "not-e"),
    "F": ("depth", "not-f"),
    "G": ("none", "not-g"),
}

predictions(
    "checkpoints",
    title="Seven checkpoints",
    quantities=which(_SYMPTOMS, _FAULTS),
    hints={
        "not-a": "Of A, training mode shows nothing. Which layer computes something else in evaluation?",
        "not-b": "For B count: how many of the file's names were not used, and how many of the model's were not found?",
        "not-c": "Of C, even the first of the four maps differs. Which fault sits so early, in every stage?",
        "not-d": "Of D, the first map is right. What has stage 1 only one of, and the next stages more?",
        "not-e": "Of E, all four maps are right. What comes after them, in both modes?",
        "not-f": "Nothing in the file of F is left over. What has the model that the file has not?",
        "not-g": "How large is what is left of G, in 32 bits and in 64? What does that say about its cause?",
    },
)

# 9.4

SAME_HINTS = {
    "always-true": "Every pair is called the same. Try yours on two models with different random weights. What do you "
    "compare?",
    "always-false": "No pair is called the same, not even a model and its copy. Which of your tests fails for it?",
    "compares-weights": "Equal names and numbers make no equal functions, and other names no other functions. What "
    "should be compared?",
    "compares-in-training": "In which mode does dropout draw random numbers, and BatchNorm measure its batch?",
    "exact-equality": "Two right implementations differ in their last digits. How much may they?",
    "absolute-tolerance": "The logits of this pair are very large or very small. Against what is the difference held?",
    "tolerance-too-wide": "This pair differs by more than what was agreed to be rounding. How wide is your tolerance?",
    "classes-only": "Both models choose the same classes everywhere. Are their logits the same?",
    "differences-cancel": "The differences of this pair cancel each other. What is left of them when they are added?",
    "difference-without-sign": "One model's logits lie below the other's. Does a negative difference count for yours?",
    "averages-hide": "This pair differs at very few places. Does the mean of all the differences show it?",
    "border-left-out": "This pair differs at the border alone. Do you compare all pixels?",
    "some-classes-only": "This pair differs in one class alone. Do you compare all of them?",
    "shapes-differ": "The logits of this pair have different shapes. What does your comparison do then?",
    "one-size": "This pair agrees where the sides are even. Which sizes have you tried?",
    "square-only": "This pair agrees on squares. Which sizes have you tried?",
    "one-picture": "This pair agrees on one picture at a time. How many have you tried at once?",
    "flat-pictures": "This pair agrees on pictures of one colour. What do your pictures show?",
    "positive-pictures": "This pair agrees where no number of the picture is negative. Are normalised pictures so?",
    "grey-pictures": "This pair agrees on grey pictures. Does each colour of your pictures have numbers of its own?",
    "pale-pictures": "This pair agrees where all numbers are small. How far from zero can normalised colours lie?",
    "several-pictures": "This pair agrees where several pictures come at once. Have you tried one alone?",
    "one-orientation": "This pair agrees on wide pictures, or on tall ones. Have you tried both?",
    "verdict-lost": "One of your pictures shows that this pair differs, and yours says that it is the same. How do the "
    "verdicts on all pictures become one?",
    "largest-is-negative": "All logits of this pair are negative. Which of them is the largest, with its sign and "
    "without?",
    "nan-is-equal": "One model of this pair gives no numbers at all. Which comparisons with NaN are true?",
    "changes-the-models": "After your test a model is in another mode, or holds other numbers. Who will use it next?",
    "not-a-verdict": "Two answers are possible: True and False. What does yours return?",
    "unlike-twice": "Asked twice about the same pair, yours answers differently. Does the answer hang on luck?",
}


class _Pixel(nn.Module):
    """A small model: a 3×3 convolution, a ReLU, a 1×1 convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.look, self.classify = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 5, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classify(self.look(x).relu())  # type: ignore[no-any-return]


class _Changed(nn.Module):
    """A model, and what is done before it and after it."""

    def __init__(
        self, model: nn.Module, after: Callable[..., torch.Tensor] | None = None, before: Callable | None = None
    ) -> None:
        super().__init__()
        self.model, self.before, self.after = model, before, after

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.model(x if self.before is None else self.before(x))
        return y if self.after is None else self.after(y, x)


class _OtherNames(nn.Module):
    """``_Pixel`` under other names, by windows and one matrix each: equal but for rounding."""

    def __init__(self, model: _Pixel) -> None:
        super().__init__()
        self.first = nn.Linear(27, 8)
        self.second = nn.Linear(8, 5)
        first, second = model.look.state_dict(), model.classify.state_dict()
        self.first.load_state_dict({"weight": first["weight"].flatten(1), "bias": first["bias"]})
        self.second.load_state_dict({"weight": second["weight"].flatten(1), "bias": second["bias"]})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        windows = F.unfold(x, 3, padding=1).transpose(1, 2)
        y: torch.Tensor = self.second(self.first(windows).relu()).transpose(1, 2)
        return y.unflatten(2, x.shape[2:])  # type: ignore[no-any-return]


class _Norm(nn.Module):
    """A model with a BatchNorm and, where asked, dropout."""

    def __init__(self, model: nn.Module, dropout: float = 0.0, mean: float = 0.3) -> None:
        super().__init__()
        self.model, self.norm, self.dropout = model, nn.BatchNorm2d(5), nn.Dropout(dropout)
        self.norm.running_mean.fill_(mean)  # type: ignore[union-attr]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.dropout(self.norm(self.model(x)))  # type: ignore[no-any-return]


def _base() -> _Pixel:
    torch.manual_seed(3)
    return _Pixel()


def _alternate(y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Add to the first class what is taken off the second."""
    return y + y.new_tensor([1.0, -1, 0, 0, 0]).view(1, 5, 1, 1)


def _corner(y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    y = y.clone()
    y[:, 0, -1, -1] += 3e-5 * y.detach().abs().max()
    return y


def _odd(y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Other numbers in a last row or column that has no partner."""
    y = y.clone()
    height, width = x.shape[-2] // 2 * 2, x.shape[-1] // 2 * 2
    y[:, :, height:], y[:, :, :, width:] = y[:, :, height:] * 1.5, y[:, :, :, width:] * 1.5
    return y


def _square(y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Logits that a confusion of height and width moves about: nothing happens on a square."""
    return y if y.shape[2] == y.shape[3] else y.transpose(2, 3).reshape(y.shape)


def _batch(y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return y + y.mean(dim=0, keepdim=True) - y[:1]


def _alone(y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return y if len(y) > 1 else 1.5 * y


def _tall(y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Other numbers in the rows that a square as wide as the picture has not."""
    return torch.cat([y[:, :, : x.shape[3]], 1.5 * y[:, :, x.shape[3] :]], 2)


def _wide(y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return _tall(y.transpose(2, 3), x.transpose(2, 3)).transpose(2, 3)


def _pairs() -> list[tuple[str, bool, tuple[nn.Module, nn.Module]]]:
    """A name for each pair, the right verdict, and the two models."""
    a = _base()
    twin, other = copy.deepcopy(a), _OtherNames(a)
    quiet = nn.Conv2d(3, 5, 3, padding=1, padding_mode="replicate")
    noise = copy.deepcopy(a)
    noise.classify.weight.data[2] *= 1 + 2e-3
    torch.manual_seed(5)
    fresh = _Pixel()
    normed = _Norm(_base())
    shifted = _Norm(_base(), mean=0.9)

    def after(change: Callable[..., torch.Tensor], model: nn.Module = a) -> nn.Module:
        return _Changed(copy.deepcopy(model), change)

    def times(factor: float) -> tuple[nn.Module, nn.Module]:
        return after(lambda y, x: factor * y), _Changed(copy.deepcopy(other), lambda y, x: factor * y)

    large, tiny = times(1e6), times(1e-6)
    tiny_other = after(lambda y, x: 1e-6 * y.roll(1, 1))
    folded = nn.Sequential(copy.deepcopy(normed.model), nn.Conv2d(5, 5, 1, groups=5)).train()
    scale = (normed.norm.running_var + normed.norm.eps) ** -0.5  # type: ignore[operator]
    folded[1].weight.data = scale.view(5, 1, 1, 1).clone()
    folded[1].bias.data = (-0.3 * scale).clone()
    return [
        ("fresh", False, (a, fresh)),
        ("twin", True, (a, twin)),
        ("dropout", True, (_Norm(_base(), 0.5), _Norm(_base(), 0.3))),
        ("folded", True, (normed, folded)),
        ("statistics", False, (normed, shifted)),
        ("wrapped", True, (a, _Changed(copy.deepcopy(a)))),
        ("gelu", False, (a, _like(a))),
        ("rounding", True, (a, other)),
        ("large", True, large),
        ("tiny", False, (tiny[0], tiny_other)),
        ("tiny rounding", True, tiny),
        ("taller", False, (a, after(lambda y, x: F.pad(y, (0, 0, 0, 0, 0, 1))))),
        ("fewer", False, (a, after(lambda y, x: y[:, :, ::2, ::2]))),
        ("one class", False, (after(lambda y, x: 0 * y + 1), after(lambda y, x: 0 * y[:, :1] + 1))),
        ("twice", False, (a, after(lambda y, x: 2 * y))),
        ("shifted", False, (a, after(lambda y, x: y + 1))),
        ("above", False, (a, after(lambda y, x: y + 0.5))),
        ("below", False, (after(lambda y, x: y + 0.5), a)),
        ("alternating", False, (a, after(_alternate))),
        ("negative", False, (_Changed(a, None, torch.relu), _Changed(twin))),
        ("flat", False, (quiet, _sums(quiet))),
        ("batch", False, (a, after(_batch))),
        ("odd", False, (a, after(_odd))),
        ("turned", False, (a, after(_square))),
        ("corner", False, (a, after(_corner))),
        ("noise", False, (a, noise)),
        ("scaled", False, (a, after(lambda y, x: y * (1 + 9e-5)))),
        ("nearly", True, (a, after(lambda y, x: y * (1 + 3e-6)))),
        ("minus", True, (after(lambda y, x: y - 50), _Changed(twin, lambda y, x: y - 50))),
        ("grey", False, (a, _Changed(twin, None, lambda x: x.flip(1)))),
        ("pale", False, (a, _Changed(twin, None, lambda x: x.clamp(-1.5, 1.5)))),
        ("copied", False, (a, after(lambda y, x: y[:1].expand_as(y)))),
        ("alone", False, (a, after(_alone))),
        ("tall", False, (a, after(_tall))),
        ("wide", False, (a, after(_wide))),
        ("nan", False, (after(lambda y, x: y * torch.nan), a)),
    ]


class _Sharper(_Pixel):
    """``_Pixel``'s names and numbers, and another non-linearity: no weight shows it."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classify(F.gelu(self.look(x)))  # type: ignore[no-any-return]


def _like(model: _Pixel) -> _Sharper:
    made = _Sharper()
    made.load_state_dict(model.state_dict())
    return made


def _sums(model: nn.Conv2d) -> nn.Conv2d:
    """The 1×1 convolution that does the same on pictures of one colour."""
    made = nn.Conv2d(3, 5, 1)
    made.weight.data, made.bias.data = model.weight.data.sum((2, 3), keepdim=True), model.bias.data.clone()  # type: ignore[union-attr]
    return made


CAUSES: tuple[tuple[str, str, str], ...] = (
    ("always-false", "twin", ""),
    ("compares-weights", "wrapped", ""),
    ("compares-weights", "fresh, folded", ""),
    ("compares-weights", "gelu, folded", ""),
    ("compares-weights", "fresh, gelu", "flat"),
    ("always-true", "fresh", ""),
    ("classes-only", "shifted, above, below", ""),
    ("compares-in-training", "dropout", ""),
    ("compares-in-training", "folded", "rounding"),  # to fold rounds too, on some processors
    ("compares-in-training", "statistics", "scaled"),
    ("exact-equality", "rounding", ""),
    ("differences-cancel", "alternating, turned", ""),
    ("differences-cancel", "alternating, tiny", ""),
    ("absolute-tolerance", "large", ""),
    ("absolute-tolerance", "tiny", ""),
    ("absolute-tolerance", "tiny rounding", ""),
    ("shapes-differ", "taller", ""),
    ("shapes-differ", "fewer", ""),
    ("shapes-differ", "one class", ""),
    ("classes-only", "twice, scaled", "shifted"),
    ("tolerance-too-wide", "scaled, corner", "alternating"),
    ("difference-without-sign", "below", "above"),
    ("difference-without-sign", "above", "below"),
    ("border-left-out", "corner, odd", "noise"),
    ("averages-hide", "corner", ""),
    ("tolerance-too-wide", "scaled", ""),
    ("some-classes-only", "noise", ""),
    ("differences-cancel", "alternating", ""),
    ("classes-only", "twice", ""),
    ("classes-only", "shifted", ""),
    ("flat-pictures", "flat", ""),
    ("positive-pictures", "negative", ""),
    ("grey-pictures", "grey", ""),
    ("pale-pictures", "pale", ""),
    ("one-picture", "batch", ""),
    ("one-picture", "copied", ""),
    ("one-size", "odd", ""),
    ("square-only", "turned", ""),
    ("one-size", "alone, tall", ""),
    ("one-size", "alone, wide", ""),
    ("several-pictures", "alone", ""),
    ("one-orientation", "tall", ""),
    ("one-orientation", "wide", ""),
    ("compares-weights", "gelu", ""),
    ("compares-in-training", "statistics", ""),
    ("difference-without-sign", "above", ""),
    ("exact-equality", "nearly", ""),
    ("largest-is-negative", "minus", ""),
    ("nan-is-equal", "nan", ""),
)
"""A cause, the pairs that it judges wrongly, and pairs that it judges rightly; the first that fits is told."""
LOST = ("one-picture", "one-size", "square-only", "several-pictures", "one-orientation")
"""Causes that are others where the reader's own pictures did show what a pair differs in."""


@exercise("same_function", SAME_HINTS)
def same_function(look: Look, answer: Any) -> None:
    """Check ``same_function(first, second)``, a function of two models that returns True or False."""
    look.exists(answer)
    pairs = _pairs()
    logs: list[tuple[list[torch.Tensor], list[torch.Tensor]]] = [([], []) for _ in pairs]
    verdicts = [_verdict(look, answer, models, log) for (_, _, models), log in zip(pairs, logs)]
    shown = {name for (name, _, _), log in zip(pairs, logs) if any(_far(*both) for both in zip(*log))}
    wrong = {name: (truth, got) for (name, truth, _), got in zip(pairs, verdicts) if got is not truth}
    if len(set(map(str, verdicts))) == 1 and isinstance(verdicts[0], bool):
        look.wrong("always-true" if verdicts[0] else "always-false", f"Yours says {verdicts[0]} of every pair.")
    for kind, needed, absent in CAUSES:
        if set(needed.split(", ")) <= wrong.keys() and absent not in wrong:
            truth, got = wrong[needed.split(", ")[0]]
            what = f"{'are' if truth else 'are not'} the same function"
            yours = f"yours says {got}" if isinstance(got, bool) else f"yours raises {got}".rstrip(".")
            seen = f"{len(wrong)} of {len(pairs)} pairs {'is' if len(wrong) == 1 else 'are'} judged wrongly."
            if kind in LOST and got is True and set(needed.split(", ")) <= shown:
                kind = "verdict-lost"
            look.wrong(_raised(kind, got), f"{seen} The two models of one pair {what}, and {yours}.")
    look.done(f"{len(pairs)} pairs of models, {sum(truth for _, truth, _ in pairs)} of them the same")
    if [_verdict(look, answer, models) for _, _, models in pairs] != verdicts:
        look.wrong("unlike-twice", "A second round over the same pairs gave another verdict.")
    look.done("the same verdicts twice")


def _far(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.shape == b.shape and not close(a, b, 1e-3)


def _raised(kind: str, got: bool | Failure) -> str:
    """Return the kind of what is wrong with a pair; an exception often says more than the pair does."""
    if isinstance(got, Failure):
        if got.name == "AssertionError":
            return "not-a-verdict"
        if "Missing key" in got.words or "size mismatch" in got.words or got.name == "KeyError":
            return "compares-weights"
    return kind


def _verdict(
    look: Look, answer: Any, models: tuple[nn.Module, nn.Module], logs: Sequence[list[torch.Tensor]] = ()
) -> bool | Failure:
    """Ask for one verdict; the models must be afterwards as they were. ``logs`` get what they, or copies, gave."""
    for model in models:
        model.train()
    hooks = [
        model.register_forward_hook(lambda module, inputs, output, log=log: log.append(output.detach()))
        for model, log in zip(models, logs)
    ]
    before = [copy.deepcopy(model.state_dict()) for model in models]
    told = "same_function(first, second)"
    verdict = look.attempt(answer, *models, told=told)
    for hook in hooks:
        hook.remove()
    if isinstance(verdict, Failure):
        if verdict.name in ("NotImplementedError", "NameError", "TypeError", "AttributeError", "UnboundLocalError"):
            verdict = look.call(answer, *models, told=told)  # raises again, now for good
        return verdict  # type: ignore[no-any-return]
    if verdict is None or verdict is Ellipsis:
        look.nothing(answer, told)
    verdict = plain(verdict)
    if not isinstance(verdict, bool):
        look.wrong("not-a-verdict", f"{told} gave {str(verdict)[:60]!r}, a {type(verdict).__name__}.")
    for model, old in zip(models, before):
        _left_as_it_was(look, model, old)
    return verdict


def _left_as_it_was(look: Look, model: nn.Module, old: Mapping[str, torch.Tensor]) -> None:
    new = model.state_dict()
    changed = [name for name in old if new[name].dtype != old[name].dtype or not torch.equal(new[name], old[name])]
    if changed and all("running" in name or "tracked" in name for name in changed):
        look.wrong("compares-in-training", "After the call BatchNorm's running statistics are other numbers.")
    if changed:
        look.wrong("changes-the-models", "After the call a model holds other numbers, or numbers of another type.")
    if not all(part.training for part in model.modules()):
        look.wrong("changes-the-models", "Both models were in training mode; after the call one is in evaluation.")


# Warm-ups

_QUERY, _KEY, _VALUE = (torch.arange(6.0).reshape(2, 3) + 10 * number for number in (1, 2, 3))

puzzle_of(
    "joined",
    title="Keys and values in one matrix",
    target=lambda: torch.cat([_KEY, _VALUE]),
    wrong={
        "values-first": (lambda: torch.cat([_VALUE, _KEY]), "Which one comes first in the layer of this book?"),
        "side-by-side": (
            lambda: torch.cat([_KEY, _VALUE], 1),
            "Beside each other they would want twice as many inputs. Which axis of a matrix counts its outputs?",
        ),
        "stacked": (
            lambda: torch.stack([_KEY, _VALUE]),
            "There are three axes now. Should a new one arise, or an old one grow?",
        ),
        "interleaved": (
            lambda: torch.stack([_KEY, _VALUE], 1).flatten(0, 1),
            "Rows of keys and of values take turns. Which rows should stand together?",
        ),
        "query-too": (lambda: torch.cat([_QUERY, _KEY, _VALUE]), "One matrix is for something else. Which?"),
        "query-inside": (
            lambda: [torch.cat(two) for one in (_KEY, _VALUE) for two in ([_QUERY, one], [one, _QUERY])],
            "One of the two is made for asking. Which two are asked for?",
        ),
        "twice-the-same": (
            lambda: [torch.cat([one, one]) for one in (_QUERY, _KEY, _VALUE)],
            "The same rows stand there twice. Which matrix is lacking?",
        ),
        "added": (lambda: _KEY + _VALUE, "Are they one matrix in the end, or two below each other?"),
    },
)

_FUSE = torch.arange(16.0).reshape(2, 8)

puzzle_of(
    "columns",
    title="The columns of the fuse",
    target=lambda: torch.cat(_FUSE.chunk(4, 1)[::-1], 1),
    wrong={
        "every-column-turned": (
            lambda: _FUSE.flip(1),
            "Now the channels of each map run backwards too. What should change places: columns, or blocks of them?",
        ),
        "rows-turned": (lambda: _FUSE.flip(0), "The outputs have changed places. Which axis has the maps?"),
        "left-as-it-is": (lambda: _FUSE, "Nothing has moved. For which map are the first two columns of the file?"),
        "halves-swapped": (
            lambda: torch.cat(_FUSE.chunk(2, 1)[::-1], 1),
            "Two blocks have changed places. How many maps are there?",
        ),
        "blocks-on-rows": (
            lambda: torch.cat(_FUSE.chunk(4, 1)[::-1], 0),
            "The blocks stand below each other. Along which axis were they cut?",
        ),
    },
)
