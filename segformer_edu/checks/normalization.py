"""Chapter 2: layer normalisation of maps, and where it stands in a block."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain, product
from typing import Any

import torch
from torch import nn

from segformer_edu.checks.core import LOOSE, Failure, Look, close, differences, exercise, hidden_weights, random
from segformer_edu.checks.numbers import Quantity, predictions, puzzle_of
from segformer_edu.model.normalization import LayerNorm

Tensor = torch.Tensor

# 2.1

HINTS = {
    "last-axis": "The pixels of one row are brought to a common scale. Where do the channels stand in (B, C, H, W)?",
    "whole-picture": "One pixel changes with another one. Which numbers belong together: those of a pixel, or of a "
    "map?",
    "each-channel-alone": "A channel is normalised over its places. Should the channels or the places have the "
    "common scale?",
    "over-the-batch": "One picture changes with another one. Over which axes is the mean taken?",
    "several-pixels": "Some pixels share their mean or their spread. Which axes have you named, and which one is "
    "meant?",
    "mean-and-spread-apart": "The mean and the spread are taken over different numbers. Which axes has each?",
    "n-minus-one": "By how many numbers do you divide the sum of the squares? Try it by hand with two channels.",
    "eps-under-the-root": "There are two conventions for eps. Which one has this chapter: beside the root or under it?",
    "eps-missing": "Give it a pixel whose channels are all equal. What guards the division there?",
    "eps-ignored": "The argument `eps` makes no difference. Which number stands in its place?",
    "eps-clamped": "Adding a small number and cutting off below it are not the same. Which one is asked for?",
    "eps-elsewhere": "The small number is added to something else. To what should it be added before the division?",
    "eps-default": "With no `eps` given, a faint pixel comes out too faint or too strong. Which value is the default?",
    "mean-not-subtracted": "The result of a pixel does not have the mean 0. What happens before the division?",
    "not-divided": "The spread of a pixel is what it was. What should it be afterwards?",
    "root-forgotten": "Ten times the input gives a tenth of the result. Is it the variance or its root that you "
    "divide by?",
    "length-not-divided": "You divide by a length. How does the length of a vector grow with the number of channels?",
    "other-spread": "The spread is measured in another way. Which measure stands in the formula?",
    "input-added": "The normalised map is there, and the input, or its mean, is in the result too. Who adds it?",
    "spread-not-centred": "The mean is taken off the result, but the spread still knows of it. Of which numbers is "
    "it the spread?",
    "multiplied": "Ten times the input gives a hundred times the result. Is the spread on the right side of the line?",
    "brackets": "Only the mean is divided. What should be finished before the division?",
    "normalised-twice": "What is normalised is normalised again. How often does eps come in?",
    "changed-afterwards": "Something is done to the normalised numbers that no scale and no shift does. Which line "
    "comes after?",
    "g-starts-at-zero": "A fresh norm gives zeros, whatever comes in. At which value should a scale begin?",
    "b-starts-elsewhere": "A fresh norm adds something. At which value should a shift begin?",
    "weights-start-elsewhere": "A fresh norm should only normalise. At which values do its scale and its shift begin?",
    "not-parameters": "A buffer moves with the module, and is not trained. What makes a tensor trainable?",
    "no-weights": "The formula ends with two learned numbers a channel. Where are they kept?",
    "one-weight-missing": "The formula ends with a scale and a shift for each channel. Which of them is missing?",
    "scalar-weights": "All channels share one scale and one shift. How many of each should there be?",
    "parameters": "Each channel has one scale and one shift. How many numbers are that in all, and how many have you?",
    "weights-on-the-last-axis": "The learned numbers belong to channels. To which axis does broadcasting put them?",
    "weight-unused": "A weight changes, and the result does not. In which line should it appear?",
    "two-scales": "Both weights multiply. Which one should be added?",
    "two-shifts": "Both weights are added. Which one should multiply?",
    "shift-scaled": "The shift is multiplied by the scale. In which order do they come in the formula?",
    "scale-before-norm": "The weights act on what is normalised, not on the result. Where do they stand in the "
    "formula?",
    "statistics-detached": "The values are right, the gradient is not. Does it pass through the mean and the spread "
    "too?",
    "nan-hidden": "A pixel of NaN went in and an ordinary one came out. Which line replaces it, and who will find the "
    "cause then?",
    "axes-reshaped": "Numbers of several pixels have a common scale, or stand at other places. Were axes moved there, "
    "or were the numbers only written into another shape?",
    "sizes-fixed": "A weight has as many numbers as one picture has rows or columns. What becomes of it when a picture "
    "of another size comes?",
    "eps-only-at-zero": "The small number comes in at constant pixels alone. To which pixels does the formula add it?",
    "cancellation": "With channels near a million the spread is lost. Which two large numbers are subtracted there, "
    "and could the mean be taken off earlier?",
    "single-channel": "With one channel the result should be the shift alone. What does your spread become there?",
}

AXES = {
    "last-axis": ((3,), (2,)),
    "whole-picture": ((1, 2, 3),),
    "each-channel-alone": ((2, 3),),
    "over-the-batch": ((0, 2, 3), (0, 1, 2, 3), (0, 1), (0,)),
    "several-pixels": ((1, 3), (1, 2)),
}
"""The axes that are normalised together by known mistakes."""


def normalised(
    x: Tensor, axes: tuple[int, ...] = (1,), spread_axes: tuple[int, ...] | None = None
) -> tuple[Tensor, Tensor]:
    """Return the centred map and its variance, over those axes."""
    mean = x.mean(axes, keepdim=True)
    return x - mean, x.var(spread_axes or axes, unbiased=False, keepdim=True)


def reference(x: Tensor, eps: float) -> Tensor:
    """The norm of this chapter, before scale and shift."""
    centred, variance = normalised(x)
    return centred / (variance.sqrt() + eps)


def divisions(centred: Tensor, variance: Tensor, eps: float) -> Iterator[tuple[str, Tensor]]:
    """Yield what known mistakes divide by: a kind ("" for what is right), and the result."""
    std = variance.sqrt()
    yield "", centred / (std + eps)
    for small in (eps, eps**2):
        yield "eps-under-the-root", centred / (variance + small).sqrt()
    yield "eps-missing", centred / std
    for fixed in (1e-5, 1e-6, 1e-4, 1e-3):
        yield "eps-ignored", centred / (std + fixed)
        yield "eps-under-the-root", centred / (variance + fixed).sqrt()
    yield "eps-clamped", centred / std.clamp(min=eps)
    yield "eps-clamped", centred / variance.clamp(min=eps).sqrt()
    yield "eps-clamped", centred / variance.clamp(min=eps**2).sqrt()
    yield "eps-elsewhere", centred / std + eps
    yield "eps-elsewhere", (centred + eps) / std
    yield "eps-elsewhere", (centred + eps) / (std + eps)
    for small in (2 * eps, eps**2, eps**0.5, -eps):
        yield "eps-elsewhere", centred / (std + small)
    yield "eps-elsewhere", centred / ((variance + eps).sqrt() + eps)
    for small in (eps, 0.0):
        yield "root-forgotten", centred / (variance + small)
    yield "not-divided", centred


def candidates(x: Tensor, eps: float) -> Iterator[tuple[str, Tensor]]:
    """Yield the results of known mistakes and of pairs of them: the axes first, then the spread, then eps."""
    channels = x.shape[1]
    axes = {"": ((1,),), **AXES}
    for (kind, many), (other, spreads) in product(axes.items(), axes.items()):
        name = kind if kind == other else "mean-and-spread-apart"
        for one, another in product(many, spreads):
            centred, variance = normalised(x, one, another)
            count = variance.new_tensor([x.shape[axis] for axis in another]).prod()
            factors = {"": count / count, "n-minus-one": count / (count - 1), "length-not-divided": count}
            for changed, factor in list(factors.items())[: 3 if kind == other else 1]:
                for division, result in divisions(centred, factor * variance, eps):
                    yield name or changed or division, result
    centred, variance = normalised(x)
    mean, std = x - centred, variance.sqrt()
    for result in (x / (std + eps), x / std, x / (variance + eps).sqrt(), mean / (std + eps)):
        yield "mean-not-subtracted", result
    square = x.square().mean(1, keepdim=True)
    for result in (
        x / square.sqrt(),
        x / (square.sqrt() + eps),
        x / (square + eps).sqrt(),
        x / (x.norm(dim=1, keepdim=True) + eps),
    ):
        yield "mean-not-subtracted", result
    yield "mean-not-subtracted", x / x.norm(dim=1, keepdim=True)
    for small in (eps, 0.0):
        yield "spread-not-centred", centred / (square.sqrt() + small)
        yield "brackets", x - mean / (std + small)
        yield "multiplied", centred * (std + small)
    yield "spread-not-centred", centred / (square + eps).sqrt()
    yield "normalised-twice", reference(reference(x, eps), eps)
    yield "length-not-divided", centred / (std * channels + eps)
    yield "length-not-divided", centred / (std / channels**0.5 + eps)
    yield "other-spread", centred / (centred.abs().mean(1, keepdim=True) + eps)
    yield "other-spread", centred / (centred.abs().amax(1, keepdim=True) + eps)
    extent = x.amax(1, keepdim=True) - x.amin(1, keepdim=True)
    for result in (centred / (extent + eps), (x - x.amin(1, keepdim=True)) / (extent + eps), x.softmax(1)):
        yield "other-spread", result


def reshapes(x: Tensor, eps: float) -> Iterator[tuple[str, Tensor]]:
    """Yield what comes out where the channels are written onto the last axis, or back from it, and not moved."""
    flat = x.reshape(len(x), -1, x.shape[1]).mT  # channels in front again: what `divisions` wants
    for _, result in divisions(*normalised(flat), eps):
        yield "axes-reshaped", result.mT.reshape(x.shape)
        yield "axes-reshaped", result.reshape(x.shape)
    for _, result in divisions(*normalised(x), eps):
        yield "axes-reshaped", result.movedim(1, -1).reshape(x.shape)


def _map(seed: int = 0) -> Tensor:
    """Return a map whose channels, pixels and pictures have means and spreads of their own; some pixels are faint."""
    x = random(2, 6, 5, 7, seed=seed) * random(2, 1, 5, 7, seed=seed + 1).exp() + random(1, 6, 1, 1, seed=seed + 2)
    x = x + 2 * random(2, 1, 1, 7, seed=seed + 3)
    x[:, :, 1, 2] = x[:, :1, 1, 2] + 0.03 * random(2, 6, seed=seed + 4)
    return x


@exercise("LayerNorm", HINTS)
def layer_norm(look: Look, answer: Any) -> None:
    """Check ``LayerNorm(dim, eps=1e-5)``, a class: the sketch's norm, over the channels of each pixel."""
    look.exists(answer)
    fresh = look.construct(answer, 6)
    module = look.construct(answer, dim=6, eps=0.3)
    look.done("constructed")
    x = _map()
    _runs(look, module, x)
    look.done("runs, float64 stays float64")
    look.shape(look.output(module, x), x.shape)
    look.done("shape")
    look.side_effects(module, x)
    _remembers(look, answer, module, 2 * x.flip(0) + 1)
    look.same_in_eval(module, x)
    look.done("no side effects")
    _owned(look, fresh)
    look.done("a scale and a shift for each channel")
    _fresh_values(look, module, fresh, x)
    look.done("normalises as the formula says")
    _scale_and_shift(look, module, x)
    look.done("scale and shift")
    _gradient(look, module, x)
    look.done("gradient")
    _special(look, answer, fresh)
    look.done("one channel, one pixel, equal channels")


def _remembers(look: Look, answer: Any, module: nn.Module, other: Tensor) -> None:
    """A norm that has seen a map gives for another one what a new norm gives."""
    unused = look.construct(answer, dim=6, eps=0.3)
    if not close(look.output(module, other).detach(), look.output(unused, other).detach()):
        look.wrong("keeps-state", "A new norm gives another result than one that has been called before.")


def _runs(look: Look, module: nn.Module, x: Tensor) -> None:
    """Run; tell from the message where the channels are looked for on the wrong axis."""
    made = look.attempt(module, x)
    if isinstance(made, Failure) and ("normalized_shape" in made.words or "size of tensor a (7)" in made.words):
        kind = "last-axis" if "normalized_shape" in made.words else "weights-on-the-last-axis"
        kind = "sizes-fixed" if any(parameter.numel() > 6 for parameter in module.parameters()) else kind
        look.wrong(kind, f"The map has 6 channels, a height of 5 and a width of 7. {made}")
    look.output(module, x)


def _owned(look: Look, module: nn.Module) -> None:
    """End where the module does not own one scale and one shift for each of its 6 channels."""
    sizes = [parameter.numel() for parameter in module.parameters()]
    seen = f"The module has {sum(sizes)} parameters; expected are 12 for 6 channels."
    if sizes == [6, 6]:
        if any(not parameter.requires_grad for parameter in module.parameters()):
            look.wrong("frozen", "A weight does not require a gradient.")
        return
    if hidden := [kind for _, kind in hidden_weights(module) if kind == "plain-tensor"]:
        look.wrong(hidden[0], seen)
    if any(buffer.numel() == 6 for buffer in module.buffers()) and sum(sizes) < 12:
        look.wrong("not-parameters", seen)
    if not sizes:
        look.wrong("no-weights", seen)
    look.wrong({(6,): "one-weight-missing", (1, 1): "scalar-weights"}.get(tuple(sizes), "parameters"), seen)


def _fresh_values(look: Look, module: nn.Module, fresh: nn.Module, x: Tensor) -> None:
    """Compare a fresh norm, whose scale is 1 and whose shift is 0, with the formula and with what mistakes give."""
    yours, target = look.output(module, x).detach(), reference(x, 0.3)
    if not close(yours, target):
        if not bool(yours.any()):
            look.wrong("g-starts-at-zero", "A fresh norm gives zeros.")
        shift = (yours - target).mean((0, 2, 3), keepdim=True)
        if close(yours, target + shift):
            look.wrong("b-starts-elsewhere", "A fresh norm gives the normalised map, and something is added to it.")
        for kind, result in chain(candidates(x, 0.3), reshapes(x, 0.3)):
            if close(yours, result.expand_as(yours)):
                if kind == "eps-missing" and bool(look.output(module, torch.ones_like(x)).isfinite().all()):
                    kind = "eps-ignored"  # a very small number guards the division, everywhere or where it must
                    if close(look.output(module, 1e-12 * x).detach(), yours):
                        kind = "eps-only-at-zero"
                look.wrong(
                    kind,
                    "The result is the one that this mistake gives, to the last digits.",
                    differences(yours, target),
                )
        _affine(look, module, yours, target)
        _other_values(look, module, yours, target, x)
        look.values(yours, target)
    if not close(yours, target, 1e-10):
        look.wrong("wrong-dtype", "The values are right to six digits, and in float64 there should be fifteen.")
    faint = 1e-5 * x
    if not close(look.output(fresh, faint).detach(), reference(faint, 1e-5)):
        look.wrong(
            "eps-default", "With eps given the values are right; with the default they are not, for a faint map."
        )


def _affine(look: Look, module: nn.Module, yours: Tensor, target: Tensor) -> None:
    """End where the result is the normalised map, close to it, or a multiple of it, channel by channel."""
    if float((yours - target).abs().max()) <= LOOSE * float(target.abs().max()):
        look.values(yours, target)
    factor = float((yours * target).sum() / target.square().sum())
    begins = any(close(parameter.detach(), torch.full_like(parameter, factor)) for parameter in module.parameters())
    if close(yours, factor * target) and not begins:
        look.wrong("scaled-by-constant", f"Every number is {factor:.4g} times the target.", differences(yours, target))
    places = (0, 2, 3)
    flat = target - target.mean(places, keepdim=True)
    scale = (yours * flat).sum(places, keepdim=True) / flat.square().sum(places, keepdim=True)
    if close(yours, scale * flat + yours.mean(places, keepdim=True)):
        look.wrong("weights-start-elsewhere", "A fresh norm scales or shifts the normalised map by numbers of its own.")


def _other_values(look: Look, module: nn.Module, yours: Tensor, target: Tensor, x: Tensor) -> None:
    """The values are those of no known mistake: ask what they depend on."""
    table, added = differences(yours, target), yours - target
    for part in (x, x - normalised(x)[0]):
        if close(added, (added * part).sum() / part.square().sum() * part):
            look.wrong(
                "input-added", "The result is the normalised map, and the input or its mean is added to it.", table
            )
    with torch.no_grad():
        one, pixel = x.clone(), x.clone()
        one[1] = one[1] * 3 + 1
        pixel[:, :, 2, 3] = pixel[:, :, 2, 3] * 3 + 1
        others, neighbours = look.output(module, one) - yours, look.output(module, pixel) - yours
        shifted, scaled = look.output(module, x + 5), look.output(module, 10 * x)
    if not close(others[0] + 1, torch.ones_like(others[0])):
        look.wrong("over-the-batch", "Another picture of the batch changes the result of the first one.", table)
    neighbours[:, :, 2, 3] = 0
    if not close(neighbours + 1, torch.ones_like(neighbours)):
        look.wrong("several-pixels", "Another pixel changes the result of this one.", table)
    _invariances(look, yours, target, shifted, scaled)


def _invariances(look: Look, yours: Tensor, target: Tensor, shifted: Tensor, scaled: Tensor) -> None:
    """Each pixel stands for itself: ask what a shift and a factor of its channels do."""
    mean, table = float(yours.mean(1).abs().max()), differences(yours, target)
    order = target.flatten().argsort()
    if close(yours.abs(), target.abs()) or (
        bool((yours.flatten()[order].diff() >= 0).all()) and not close(scaled, 10 * yours)
    ):
        look.wrong("changed-afterwards", "The result follows from the normalised map, number by number.", table)
    if not close(shifted, yours):
        kind = "mean-not-subtracted" if mean > 1e-6 else "spread-not-centred"
        look.wrong(kind, "Adding the same number to all channels of every pixel changes the result.", table)
    if close(scaled, 10 * yours):
        look.wrong("not-divided", "Ten times the input gives ten times the result.", table)
    if float(scaled.abs().max()) > 20 * float(yours.abs().max()):
        look.wrong("multiplied", "Ten times the input gives far more than ten times the result.", table)
    if mean > 1e-6:
        look.wrong("mean-not-subtracted", "The mean of a pixel's result is not 0.", table)


def _scale_and_shift(look: Look, module: nn.Module, x: Tensor) -> None:
    """Change one weight after the other, and see what each does; no name is needed for that."""
    normal, effects = look.output(module, x).detach(), []
    for index, (name, parameter) in enumerate(module.named_parameters()):
        delta = random(6, seed=20 + index)
        with torch.no_grad():
            parameter.add_(delta.view(parameter.shape))
            change = look.output(module, x) - normal
            parameter.sub_(delta.view(parameter.shape))
        column = delta.view(1, 6, 1, 1)
        known = {"shift": column.expand_as(x), "scale": column * normal, "nothing": torch.zeros_like(x)}
        effect = next((word for word, result in known.items() if close(change + 1, result + 1)), "")
        if effect == "nothing":
            look.wrong("weight-unused", f"Other numbers in `{name}` do not change the result.")
        if not effect:
            look.wrong(
                "scale-before-norm", f"A change of `{name}` neither scales nor shifts the channels of the result."
            )
        effects.append(effect)
    if len(set(effects)) == 1:
        look.wrong(f"two-{effects[0]}s", f"Both weights {effects[0]} the channels.")
    first, second = (random(6, seed=s) for s in (20, 21))
    deltas = dict(zip(effects, (first, second)))
    with torch.no_grad():
        for parameter, delta in zip(module.parameters(), (first, second)):
            parameter.add_(delta.view(parameter.shape))
    scale, shift = 1 + deltas["scale"].view(1, 6, 1, 1), deltas["shift"].view(1, 6, 1, 1)
    look.values(look.output(module, x), normal * scale + shift, {"shift-scaled": (normal + shift) * scale})


def _gradient(look: Look, module: nn.Module, x: Tensor) -> None:
    """Compare the gradient of a weighted sum with the formula's, and with what a detached mean or spread gives."""
    look.gradients(module, x)
    weights = random(*x.shape, seed=30)

    def of(function: Callable[[Tensor], Tensor]) -> Tensor:
        leaf = x.clone().requires_grad_()
        (found,) = torch.autograd.grad((function(leaf) * weights).sum(), leaf)
        return found

    def formula(leaf: Tensor, mean: bool = False, std: bool = False) -> Tensor:
        centred, variance = normalised(leaf)
        middle, spread = leaf - centred, variance.sqrt()
        return (leaf - (middle.detach() if mean else middle)) / ((spread.detach() if std else spread) + 0.3)

    with torch.no_grad():  # a scale of 1 for all channels: what the fresh norm had
        for parameter, delta in zip(module.parameters(), (random(6, seed=20), random(6, seed=21))):
            parameter.sub_(delta.view(parameter.shape))
    yours, target = of(lambda leaf: look.output(module, leaf)), of(formula)
    if close(yours, target):
        return
    for mean, std in ((True, True), (True, False), (False, True)):
        if close(yours, of(lambda leaf, mean=mean, std=std: formula(leaf, mean, std))):  # type: ignore[misc]
            parts = " and ".join(word for word, cut in (("mean", mean), ("spread", std)) if cut)
            look.wrong("statistics-detached", f"The gradient is the one that misses the {parts}.")
    look.wrong("wrong-gradient", "The gradient is not that of the formula.", differences(yours, target))


def _special(look: Look, answer: Any, fresh: nn.Module) -> None:
    """One channel; one pixel; a pixel whose channels are equal, whose gradient may be NaN as yet."""
    single = look.output(look.construct(answer, 1), random(2, 1, 3, 4)).detach()
    if not bool(single.isfinite().all()) or bool(single.abs().max() > 1e-9):
        look.wrong("single-channel", "With one channel the result of a fresh norm should be 0 everywhere.")
    x = random(1, 6, 1, 1, seed=3)
    look.values(look.output(fresh, x), reference(x, 1e-5), at="one pixel")
    spike = torch.zeros(1, 37, 2, 1, dtype=torch.float64)
    spike[:, 3] = 1000
    yours = look.output(look.construct(answer, 37), spike).detach()
    if not close(yours, reference(spike, 1e-5)):
        kind = "changed-afterwards" if close(yours[:, :3], reference(spike, 1e-5)[:, :3]) else "unknown"
        look.wrong(kind, "A pixel with one very large channel among 37 gives something else.")
    look.values(look.output(fresh, 1e6 + x), reference(1e6 + x, 1e-5), {"cancellation": look.output(fresh, 1e6 + x)})
    x = random(1, 6, 1, 2, seed=3)
    x[0, 2, 0, 0] = torch.nan
    if not bool(look.output(fresh, x)[..., 0].isnan().all()):
        look.wrong("nan-hidden", "A pixel with a channel of NaN gives numbers that are not NaN.")
    flat = torch.full((1, 6, 1, 1), 2.0, dtype=torch.float64, requires_grad=True)
    yours = look.output(fresh, flat)
    if not bool(yours.isfinite().all()):
        look.wrong("eps-missing", "A pixel whose channels are all equal gives NaN.")
    (gradient,) = torch.autograd.grad(yours.sum(), flat)
    if not bool(gradient.isfinite().all()):
        look.remark(
            "At a pixel whose channels are all equal, the gradient is NaN, as in the first version of the chapter. The "
            "next exercise repairs that."
        )


# 2.2

SAFE_HINTS = {
    "gradient-still-nan": "The values are fine, and the gradient of a constant pixel is NaN. Where does the NaN "
    "arise: on the "
    "way forwards, or backwards? Which function has an infinite slope there?",
    "eps-inside-the-root": "The gradient is finite, but the values have moved. Can the root of a sum of squares be "
    "had without "
    "adding anything to it?",
    "faint-pixels-moved": "Ordinary pixels are right, faint ones are not. What is cut off, or added, that is larger "
    "than they?",
    "cut-off-below": "All spreads below some bound became the same number. What should become of a pixel that is "
    "fainter than that?",
    "faint-pixels-lost": "Pixels whose channels differ a little have the spread 0. From which spread on is a pixel no "
    "longer a constant one?",
    "cancellation": "Far from zero the spread of a faint pixel is wrong, near zero it is right. Which two large "
    "numbers are subtracted there?",
    "constant-pixel-moved": "The spread of a constant pixel is tiny, and should be 0. What is added under the root, or "
    "cut off there?",
    "mended-behind-the-root": "A NaN of the gradient arises in the root's slope. On the way back, does it come before "
    "or after what you do to the root's result?",
    "in-place": "The gradient needs a result that was overwritten. Which line writes into it?",
    "n-minus-one": "By how many numbers do you divide the sum of the squares? Try it by hand with two channels.",
    "variance-returned": "Ten times the input gives a hundred times the result. What is still to be taken?",
    "length-not-divided": "The length of a vector grows with its number of channels. What is it divided by in the "
    "formula?",
    "other-axes": "The spread is that of other numbers. Which axis holds the channels of one pixel?",
    "axis-lost": "The numbers are right, and an axis of length 1 is missing. What keeps it for the division "
    "afterwards?",
    "mean-not-subtracted": "A constant pixel should have the spread 0. What is taken off before squaring?",
    "gradient-cut": "The gradient of an ordinary pixel is not what the formula gives. Which line takes it out of the "
    "graph, or replaces it?",
    "other-spread": "The spread is measured in another way. Which measure stands in the formula?",
}


@exercise("deviation", SAFE_HINTS)
def deviation(look: Look, answer: Any) -> None:
    """Check ``deviation(x)``, a function: the spread over the channels, (B, C, H, W) → (B, 1, H, W), safe to derive."""
    look.exists(answer)
    x = random(2, 6, 5, 7)
    yours = look.output(answer, x)
    look.done("runs, float64 stays float64")
    centred, variance = normalised(x)
    target = variance.sqrt()
    if yours.shape == target[:, 0].shape:
        look.wrong("axis-lost", f"The result has the shape {tuple(yours.shape)}; expected is {tuple(target.shape)}.")
    others = [axes for many in AXES.values() for axes in many]
    if yours.shape in [x.std(axes, keepdim=keep).shape for axes in others for keep in (True, False)]:
        look.wrong("other-axes", f"The result has the shape {tuple(yours.shape)}; expected is {tuple(target.shape)}.")
    look.shape(yours, target.shape)
    look.done("shape")
    look.side_effects(answer, x)
    look.done("no side effects")
    wrong = {
        "n-minus-one": x.std(1, keepdim=True),
        "variance-returned": variance,
        "length-not-divided": centred.norm(dim=1, keepdim=True),
        "mean-not-subtracted": x.square().mean(1, keepdim=True).sqrt(),
        "other-spread": centred.abs().mean(1, keepdim=True),
    }
    _spread_values(look, answer, x, yours.detach(), target, variance, wrong)
    _faint(look, answer)
    look.done("values, of faint pixels too")
    _safe_gradient(look, answer, x)
    look.done("gradients, that of a constant pixel too")


def _spread_values(
    look: Look, answer: Any, x: Tensor, yours: Tensor, target: Tensor, variance: Tensor, wrong: dict[str, Tensor]
) -> None:
    moved = yours.square() - variance
    if not close(yours, target) and float(moved.std()) < 1e-9 < float(moved.mean()):
        look.wrong("eps-inside-the-root", "The square of each result is larger than the variance, by the same number.")
    added = yours - target
    if not close(yours, target) and float(added.std()) < 1e-9 and float(added.abs().max()) < 0.1:
        look.wrong("faint-pixels-moved", "A small number is added to every result.")
    if close(yours, target):
        return
    for kind, result in wrong.items():
        if close(yours, result):
            look.wrong(kind, "The result is the one that this mistake gives.", differences(yours, target))
    ratio = yours / target
    if float(ratio.std()) > 1e-9:
        _depends(look, answer, x, yours, target)
    look.values(yours, target)


def _depends(look: Look, answer: Any, x: Tensor, yours: Tensor, target: Tensor) -> None:
    """The spread is that of no known mistake: ask what it depends on."""
    table, other = differences(yours, target), x.clone()
    other[:, :, 2, 3] = other[:, :, 2, 3] * 3 + 1
    change = look.output(answer, other).detach() - yours
    change[:, :, 2, 3] = 0
    if bool((change.abs() > 1e-9).any()):
        look.wrong("other-axes", "Another pixel changes the result of this one.", table)
    shifted, scaled = look.output(answer, x + 5).detach(), look.output(answer, 10 * x).detach()
    if not close(shifted, yours):
        look.wrong(
            "mean-not-subtracted", "Adding the same number to all channels of a pixel changes the result.", table
        )
    if close(scaled, 10 * yours):
        look.wrong("other-spread", "It grows with the input as a spread does, and is another one.", table)
    if float((yours - target).abs().max()) < 0.1 * float(target.abs().max()):
        look.wrong("faint-pixels-moved", "Ten times the input does not give ten times the result.", table)


def _faint(look: Look, answer: Any) -> None:
    """Compare pixels of spreads down to 1e-12, around 0 and far from it, each with its own spread."""
    for middle, scale in ((0, 1), (0, 1e-3), (0, 1e-5), (0, 1e-7), (0, 1e-12), (3, 1e-5), (30, 1e-5), (100, 1e-5)):
        x = middle + scale * random(1, 6, 3, 4, seed=5)
        target = normalised(x)[1].sqrt()
        yours = look.output(answer, x).detach()
        if not bool(yours.isfinite().all()):
            look.wrong("not-a-number", f"Pixels of spread {scale:g} around {middle} give NaN.")
        if float(((yours - target) / target).abs().max()) > 1e-5:
            look.wrong(
                _fault(yours, target, middle),
                f"The spread of pixels whose channels differ by about {scale:g}, around {middle}, is wrong.",
                differences(yours, target),
            )
    largest = float(look.output(answer, torch.full((1, 6, 3, 4), 3.0, dtype=torch.float64)).detach().abs().max())
    if largest:
        kind = "eps-inside-the-root" if largest > 5e-9 else "constant-pixel-moved"
        look.wrong(kind, f"Pixels whose channels are all equal have the spread {largest:.1e}, not 0.")


def _fault(yours: Tensor, target: Tensor, middle: float) -> str:
    """Say what was done to faint pixels: their spreads are 0, or one number, or moved by one in the square."""
    if not bool(yours.all()):
        return "faint-pixels-lost"
    if int((yours == yours.min()).sum()) > 1:
        return "cut-off-below"
    moved = yours.square() - target.square()
    if float(moved.std()) < 1e-3 * float(moved.mean()):
        return "eps-inside-the-root"
    return "cancellation" if middle else "faint-pixels-moved"


def _backward(look: Look, total: Tensor, leaf: Tensor) -> Tensor:
    try:
        (found,) = torch.autograd.grad(total, leaf, allow_unused=True)
    except RuntimeError as error:
        look.wrong("in-place" if "inplace" in str(error) else "gradient-cut", f"backward: {str(error)[:200]}")
    return torch.zeros_like(leaf) if found is None else found


def _safe_gradient(look: Look, answer: Any, x: Tensor) -> None:
    """The gradient of an ordinary pixel is the formula's; that of a constant pixel is finite."""
    flat = x.clone()
    flat[0, :, 1, 2] = 0.5
    weights = random(2, 1, 5, 7, seed=7)

    def of(function: Callable[[Tensor], Tensor]) -> Tensor:
        leaf = flat.clone().requires_grad_()
        result = function(leaf)
        if not result.requires_grad:
            look.wrong("gradient-cut", "The result has no gradient at all.")
        made.append(type(result.grad_fn).__name__)
        return _backward(look, (result * weights).sum(), leaf)

    made: list[str] = []  # the last step of each function
    yours = of(lambda leaf: look.output(answer, leaf))
    target = of(lambda leaf: torch.linalg.vector_norm(leaf - leaf.mean(1, keepdim=True), dim=1, keepdim=True) / 6**0.5)
    ordinary = torch.ones_like(flat, dtype=torch.bool)
    ordinary[0, :, 1, 2] = False
    if not bool(yours[ordinary].isfinite().all()):
        look.wrong("gradient-still-nan", "Even ordinary pixels have a gradient of NaN.")
    if not close(yours[ordinary], target[ordinary]):
        look.wrong("gradient-cut", "The gradient of an ordinary pixel is not that of the formula.")
    if not bool(yours.isfinite().all()):
        mended = made[0].startswith(("Where", "NanToNum", "MaskedFill", "IndexPut", "CopySlices", "Clamp", "Maximum"))
        look.wrong(
            "mended-behind-the-root" if mended else "gradient-still-nan",
            "The gradient of a pixel whose channels are all equal is NaN or infinite.",
        )


# 2.3

BLOCK_HINTS = {
    "residual-missing": "With branches that give zeros, what came in should come out. Who carries it past the branch?",
    "one-residual-missing": "One of the two branches replaces what came in. Which sum lacks a term?",
    "residual-twice": "With branches that give zeros, a multiple of the input comes out. Who adds it, and who adds "
    "it again?",
    "main-path-normalised": "A thousand times the input should leave by the main path a thousand times as large. "
    "What must stay "
    "untouched there?",
    "post-norm": "The norm stands behind the sum. On which side of the branch does PreNorm have it?",
    "norm-behind-the-branch": "The branch is normalised when it is done. Should its input or its output have a "
    "common scale?",
    "norm-missing": "A branch receives the numbers as they are. What should stand in front of it?",
    "one-norm-missing": "One of the two branches receives the numbers as they are. Which one?",
    "norm-shared": "Both branches share the weights of one norm. How many norms does the block have?",
    "order-exchanged": "Which of the two branches comes first in a transformer?",
    "parallel": "Both branches see the input of the block. What should the second one see?",
    "first-branch-lost": "The second sum begins with the input of the block again. What became of the first sum?",
    "same-branch-twice": "One branch is called twice, and the other one never. Which names stand in your two lines?",
    "extra-norm": "At the end the sum is normalised once more. Who does that in a block of the sketch?",
    "branches-not-kept": "The weights of the branches are not among those of the block. How does a module find its "
    "children?",
    "norm-without-weights": "A norm of this chapter has a scale and a shift for each channel. Which norm of the block "
    "lacks them?",
    "norm-unused": "A norm of the block has weights, and no result depends on them. Where should it be called?",
    "too-many-norms": "Besides its branches the block needs the weights of two norms. What else has weights, or stands "
    "in front of a branch a second time?",
    "subtracted": "A branch is taken away from what came in. Which sign has it in a residual block?",
    "second-branch-alone": "The second branch is given the first branch's result, without what came in. What should it "
    "see?",
    "eps-large": "The norm's small number is large enough to be seen. Which value has it by default?",
    "other-norm": "The wiring is right, but for the norm. Over which axis does it normalise?",
}


Norm = Callable[[Tensor], Tensor]


def _wired(x: Tensor, norms: tuple[Norm, Norm], a: Norm, f: Norm) -> Tensor:
    """Return what the right wiring gives, with these two norms."""
    first = x + a(norms[0](x))
    return first + f(norms[1](first))


def _over(axes: tuple[int, ...]) -> Norm:
    """Return the norm over other axes."""

    def norm(z: Tensor) -> Tensor:
        centred, variance = normalised(z, axes)
        return centred / (variance.sqrt() + 1e-5)

    return norm


def _with_eps(small: float) -> tuple[Norm, Norm]:
    """Return the norms that add this number: beside the root, and under it."""

    def under(z: Tensor) -> Tensor:
        centred, variance = normalised(z)
        return centred / (variance + small).sqrt()

    return (lambda z: reference(z, small)), under


def _wirings(x: Tensor, n: Callable[[Tensor], Tensor], a: Any, f: Any) -> list[tuple[str, Tensor]]:
    """Return what known mistakes compute, from the norm and the two branches."""
    normal, bare, swapped, behind, after = n(x), x + a(x), x + f(n(x)), x + n(a(x)), n(x + a(x))
    first, main, less = x + a(normal), normal + a(normal), x - a(normal)
    twice = [2 * x + a(normal), x + normal + a(normal)]  # added in the branch and outside: x, or what the norm gives
    return [
        ("residual-missing", f(n(a(normal)))),
        ("residual-missing", f(n(first)) - first),
        ("one-residual-missing", x + f(n(a(normal)))),
        ("one-residual-missing", f(n(first))),
        ("one-residual-missing", a(normal) + f(n(a(normal)))),
        ("one-residual-missing", first),
        *(("residual-twice", 2 * start + f(n(start))) for start in (*twice, first)),
        *(("residual-twice", start + n(start) + f(n(start))) for start in (*twice, first)),
        *(("residual-twice", start + f(n(start))) for start in twice),
        ("residual-twice", x + first + f(n(first))),
        ("main-path-normalised", n(main) + f(n(main))),
        ("main-path-normalised", n(first) + f(n(first))),
        ("main-path-normalised", main + f(n(main))),
        ("main-path-normalised", main + f(main)),
        ("post-norm", n(after + f(after))),
        *(("post-norm", start + n(start + f(start))) for start in (x + after, first)),
        ("post-norm", x + after + f(n(x + after))),
        ("norm-behind-the-branch", behind + n(f(behind))),
        ("norm-behind-the-branch", behind + f(n(behind))),
        ("norm-behind-the-branch", first + n(f(first))),
        ("subtracted", first - f(n(first))),
        *(("subtracted", less + sign * f(n(less))) for sign in (1, -1)),
        ("second-branch-alone", first + f(n(a(normal)))),
        ("second-branch-alone", first + f(a(normal))),
        ("norm-missing", bare + f(bare)),
        ("one-norm-missing", bare + f(n(bare))),
        ("one-norm-missing", first + f(first)),
        ("order-exchanged", swapped + a(n(swapped))),
        ("parallel", first + f(normal)),
        ("first-branch-lost", x + f(n(first))),
        ("same-branch-twice", first + a(n(first))),
        ("same-branch-twice", swapped + f(n(swapped))),
        ("extra-norm", n(first + f(n(first)))),
    ]


@exercise("Block", BLOCK_HINTS)
def block(look: Look, answer: Any) -> None:
    """Check ``Block(dim, attention, feed_forward)``, a class: two residual branches, each with a norm in front."""
    look.exists(answer)
    attention, feed_forward = (nn.Sequential(nn.Conv2d(6, 6, 1), nn.Tanh()).double() for _ in range(2))
    module = look.construct(answer, 6, attention, feed_forward)
    look.done("constructed")
    x = 2 * random(2, 6, 5, 7, seed=4) + random(1, 6, 1, 1, seed=5)
    yours = _block_runs(look, module, x)
    look.done("runs, float64 stays float64")
    look.shape(yours, x.shape)
    look.done("shape")
    look.side_effects(module, x)
    look.same_in_eval(module, x)
    look.done("no side effects")
    norm = LayerNorm(6).double()
    _keeps_branches(look, module, yours, x, norm, attention, feed_forward)
    look.done("keeps its branches")
    _wiring(look, yours, x, norm, attention, feed_forward)
    look.done("wired as PreNorm")
    _two_norms(look, module, {*attention.parameters(), *feed_forward.parameters()}, x)
    look.done("two norms")
    target = partial(_wired, norms=(norm, norm), a=attention, f=feed_forward)
    look.gradients(module, 100 * x, like=target)  # so large that no small number in a norm counts
    look.done("gradients")


def _block_runs(look: Look, module: nn.Module, x: Tensor) -> Tensor:
    """Run; tell from the message where a norm looks for the channels on the last axis."""
    made = look.attempt(module, x)
    if isinstance(made, Failure) and "normalized_shape" in made.words:
        look.wrong("other-norm", f"The map has 6 channels and a width of 7. {made}")
    return look.output(module, x).detach()


def _keeps_branches(
    look: Look, module: nn.Module, yours: Tensor, x: Tensor, norm: nn.Module, a: nn.Module, f: nn.Module
) -> None:
    """End where the block does not own the weights of its branches."""
    branches, kept = {*a.parameters(), *f.parameters()}, set(module.parameters())
    if not branches <= kept:
        if branches & kept:  # one of the two: is it called twice?
            _wiring(look, yours, x, norm, a, f)
        look.wrong("branches-not-kept", "The block's `parameters()` do not hold those of its branches.")


@torch.no_grad()
def _wiring(look: Look, yours: Tensor, x: Tensor, norm: nn.Module, a: nn.Module, f: nn.Module) -> None:
    """Compare with the right wiring and with the wrong ones; either place of eps is right here."""
    target = _wired(x, (norm, norm), a, f)
    if close(yours, target, LOOSE):
        _small_number(look, yours, x, a, f)
        return
    for kind, result in _wirings(x, norm, a, f):
        if close(yours, result, LOOSE):
            look.wrong(kind, "The result is the one of this wiring.")
    others = [("other-norm", _over(axes)) for many in AXES.values() for axes in many]
    others += [("eps-large", large) for small in (1e-3, 1e-2, 0.1, 1.0) for large in _with_eps(small)]
    for kind, other in others:
        if any(close(yours, _wired(x, pair, a, f), LOOSE) for pair in ((other, other), (other, norm), (norm, other))):
            look.wrong(kind, "The wiring is right. A norm is not the one of this chapter.")
    look.values(yours, target)


def _small_number(look: Look, yours: Tensor, x: Tensor, a: Norm, f: Norm) -> None:
    """End where the norms add more than any of the usual small numbers does."""
    exact, usual = (_wired(x, (norm, norm), a, f) for norm in (_with_eps(0.0)[0], _with_eps(1e-5)[0]))
    if float((yours - exact).abs().max()) > 10 * float((usual - exact).abs().max()):
        look.wrong("eps-large", "The wiring is right. The norm adds a number that is larger than 1e-5.")


def _two_norms(look: Look, module: nn.Module, branches: set[nn.Parameter], x: Tensor) -> None:
    """End where the block does not own two norms of a scale and a shift each, or does not use them."""
    own = [parameter for parameter in module.parameters() if parameter not in branches]
    count, owners = sum(parameter.numel() for parameter in own), _called(look, module, set(own), x)
    seen = f"Besides those of the branches the block has {count} weights; two norms of 6 channels have 24."
    if count == 12 and (owners in ([], [module]) or len(owners) > len(set(owners))):
        look.wrong("norm-shared", seen)
    if count < 24:
        look.wrong("norm-without-weights", seen)
    unused = _unused(look, module, x)
    if unused and not unused & branches:
        look.wrong("norm-unused", f"The result does not depend on {len(unused)} of the block's weights.")
    if count > 24:
        look.wrong("too-many-norms", seen)


def _unused(look: Look, module: nn.Module, x: Tensor) -> set[nn.Parameter]:
    """Return the trained weights that no gradient reaches."""
    total, trained = look.output(module, x).square().sum(), [p for p in module.parameters() if p.requires_grad]
    if not total.requires_grad:
        return set(trained)
    found = torch.autograd.grad(total, trained, allow_unused=True)
    return {parameter for parameter, gradient in zip(trained, found) if gradient is None}


def _called(look: Look, module: nn.Module, own: set[nn.Parameter], x: Tensor) -> list[nn.Module]:
    """Return the modules that hold the block's own weights, as often as they are called; end where some are made."""
    called: list[nn.Module] = []
    made: list[str] = []
    parts = [part for part in module.modules() if own & set(part.parameters(recurse=False))]
    hooks = [part.register_forward_hook(lambda part, *_: called.append(part)) for part in parts]
    hooks.append(nn.modules.module.register_module_parameter_registration_hook(lambda _, name, __: made.append(name)))
    try:
        look.output(module, x)
    finally:
        for hook in hooks:
            hook.remove()
    if made:
        look.wrong("weights-in-forward", f"Each call makes {len(made)} new weights.")
    return called


# 2.4

_CHANGES = {
    "add 3 to every channel of the pixel": (
        False,
        "shift-taken-for-change",
        "What does adding 3 to all do to the mean?",
    ),
    "multiply every channel of the pixel by 10": (
        False,
        "scale-taken-for-change",
        "What does the factor 10 do to the spread that everything is divided by?",
    ),
    "add 3 to one channel of the pixel": (
        True,
        "one-channel-taken-for-nothing",
        "When one of several numbers moves, does their mean move as far?",
    ),
    "turn the sign of every channel of the pixel": (
        True,
        "sign-taken-for-nothing",
        "The spread has no sign. Has the difference to the mean one?",
    ),
    "put the channels of the pixel in another order": (
        True,
        "order-taken-for-nothing",
        "Mean and spread do not know of an order. Does the result of one channel?",
    ),
    "double a neighbouring pixel": (
        False,
        "neighbour-taken-for-change",
        "Which numbers go into the mean of this pixel?",
    ),
}

predictions(
    "changes",
    title="What changes the result of a pixel",
    quantities={change: Quantity(moves, {kind: not moves}) for change, (moves, kind, _) in _CHANGES.items()},
    hints={kind: hint for _, kind, hint in _CHANGES.values()},
)

# Warm-ups

_PIXELS = torch.tensor([[1.0, 2], [3, 4], [5, 12]])

puzzle_of(
    "centre",
    title="Take the mean off each pixel",
    target=lambda: _PIXELS - _PIXELS.mean(0),
    wrong={
        "other-axis": (
            lambda: _PIXELS - _PIXELS.mean(1, keepdim=True),
            "Each row adds up to 0. Should a row or a column?",
        ),
        "one-mean-for-all": (
            lambda: _PIXELS - _PIXELS.mean(),
            "There is one mean for all the pixels. How many pixels are there?",
        ),
        "mean-itself": (
            lambda: _PIXELS.mean(0, keepdim=True),
            "This is what should be taken off. From what?",
        ),
        "mean-everywhere": (
            lambda: _PIXELS.mean(0).expand(3, 2),
            "Every number of a pixel became its mean. What is asked for: the mean, or the distance from it?",
        ),
        "mean-added": (lambda: _PIXELS + _PIXELS.mean(0), "The mean was added. Which way should it go?"),
        "n-minus-one": (
            lambda: _PIXELS - _PIXELS.sum(0) / 2,
            "The sum was divided by one less than the number of channels. By what is it divided for a mean?",
        ),
        "nothing-done": (lambda: _PIXELS, "These are the pixels as they came. What is subtracted?"),
        "median-taken-off": (
            lambda: _PIXELS - _PIXELS.median(0).values,
            "The middle number of each pixel was taken off. Is it the mean?",
        ),
        "smallest-taken-off": (
            lambda: _PIXELS - _PIXELS.amin(0),
            "The smallest number of each pixel became 0. What should add up to 0 instead?",
        ),
        "largest-taken-off": (
            lambda: _PIXELS - _PIXELS.amax(0),
            "The largest number of each pixel became 0. What should add up to 0 instead?",
        ),
        "divided-too": (
            lambda: (_PIXELS - _PIXELS.mean(0)) / _PIXELS.std(0),
            "The mean is off, and then everything was divided. Which of the two steps is asked for?",
        ),
        "sum-taken-off": (
            lambda: _PIXELS - _PIXELS.sum(0),
            "The sum of each pixel was taken off. What makes a mean of it?",
        ),
        "divided": (lambda: _PIXELS / _PIXELS.mean(0), "Each column has the mean 1. What should it be?"),
        "spread-taken-too": (
            lambda: (_PIXELS - _PIXELS.mean(0)) / _PIXELS.std(0, unbiased=False),
            "Each column adds up to 0, and all have one spread. Was that asked for, too?",
        ),
        "normalised": (
            lambda: nn.functional.layer_norm(_PIXELS.T, (3,)).T,
            "A whole layer norm was used. Which of its steps is asked for?",
        ),
    },
)

puzzle_of(
    "spread",
    title="The spread of each pixel",
    target=lambda: _PIXELS.std(0, unbiased=False, keepdim=True),
    wrong={
        "n-minus-one": (
            lambda: _PIXELS.std(0, keepdim=True),
            "The squares are added up and divided by a number. Is it the number of channels?",
        ),
        "mean-distance": (
            lambda: (_PIXELS - _PIXELS.mean(0)).abs().mean(0, keepdim=True),
            "This is the mean distance to the mean. What is done to each distance before they are added up?",
        ),
        "variance": (
            lambda: _PIXELS.var(0, unbiased=False, keepdim=True),
            "This is the square of what is asked for. What is missing?",
        ),
        "variance-with-n-minus-one": (
            lambda: _PIXELS.var(0, keepdim=True),
            "Two things are not yet right: is there a root, and by how many numbers do you divide?",
        ),
        "not-centred": (
            lambda: _PIXELS.square().mean(0, keepdim=True).sqrt(),
            "This is the root of the mean square. What is taken off each number before it is squared?",
        ),
        "sum-of-squares": (
            lambda: (_PIXELS - _PIXELS.mean(0)).square().sum(0, keepdim=True),
            "The squares are added up, and that is all. Which two steps follow?",
        ),
        "one-spread-for-all": (
            lambda: _PIXELS.std(unbiased=False).expand(1, 2),
            "Both pixels have the same spread. Over which numbers is each taken?",
        ),
        "one-spread-for-all-with-n-minus-one": (
            lambda: _PIXELS.std().expand(1, 2),
            "All six numbers have one spread here, divided by five. Whose spread is asked for?",
        ),
        "largest-less-smallest": (
            lambda: _PIXELS.amax(0, keepdim=True) - _PIXELS.amin(0, keepdim=True),
            "This is the distance of the largest number from the smallest. How many numbers count for a deviation?",
        ),
        "axis-lost": (
            lambda: _PIXELS.std(0, unbiased=False),
            "The numbers are right, and an axis is missing. What keeps it?",
        ),
        "spread-of-the-channels": (
            lambda: _PIXELS.std(1),
            "These are the spreads of the channels. Which axis are the channels of one pixel?",
        ),
        "other-axis": (
            lambda: _PIXELS.std(1, unbiased=False, keepdim=True),
            "There are as many spreads as channels. Should there be as many as pixels?",
        ),
    },
)
