"""Chapter 12: where a head looks, what a unit depends on, and where the mistakes lie."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import wraps
from itertools import chain, product
from typing import Any

import torch
from torch import nn

from segformer_edu.checks._candidates import tell
from segformer_edu.checks.core import Failure, Look, close, exercise, random
from segformer_edu.checks.numbers import Quantity, plain, predictions, puzzle_of
from segformer_edu.data.labels import VOID

Tensor = torch.Tensor

# 12.1

_CELLS, _OWN, _STRONG = 11 * 15, 33, 5
_ON_OWN = 0.5 + (_OWN - _STRONG) * 0.5 / (_CELLS - _STRONG)
_EQUAL = _OWN / _CELLS

predictions(
    "looks",
    title="A head in numbers",
    quantities={
        "cells for half": Quantity(
            _STRONG, {"half-of-the-cells": (83, 82, 82.5), "count-off-by-one": (4, 6), "one-cell": 1}
        ),
        "cells for half, equal shares": Quantity(
            83, {"count-off-by-one": (82, 84), "all-cells": 165, "cells-halved": 82.5, "strong-cells": 5}
        ),
        "own class": Quantity(
            _ON_OWN / _EQUAL,
            {
                "not-compared": _ON_OWN,
                "weak-cells-forgotten": (0.5 / _EQUAL, 0.5),
                "cells-counted-twice": (0.5 + _OWN * 0.5 / (_CELLS - _STRONG)) / _EQUAL,
                "half-spread-over-all": (0.5 + (_OWN - _STRONG) * 0.5 / _CELLS) / _EQUAL,
                "strong-cells-also-weak": (0.5 + _OWN * 0.5 / _CELLS) / _EQUAL,
                "weak-cells-alone": ((_OWN - _STRONG) * 0.5 / (_CELLS - _STRONG) / _EQUAL, 28 * 0.5 / 160),
                "mean-of-a-cell": (_ON_OWN / _OWN, _ON_OWN / _CELLS),
                "wrong-way-round": (_EQUAL / _ON_OWN, _ON_OWN * _EQUAL),
            },
            tolerance=2e-3,
        ),
        "own class, equal shares": Quantity(1.0, {"not-compared": _EQUAL, "wrong-way-round": 1 / _EQUAL}),
        "reach, equal shares": Quantity(1.0, {"reach-of-nothing": 0.0, "half-of-the-way": 0.5}),
    },
    hints={
        "half-of-the-cells": "That is half of the cells. Half of what should they hold?",
        "count-off-by-one": "Add up the shares from the largest on. At which cell is half of the attention reached?",
        "one-cell": "How much attention has the strongest cell alone?",
        "all-cells": "These hold all of the attention. How much is asked for?",
        "cells-halved": "A cell is counted as a whole. How many are needed to reach half?",
        "strong-cells": "With equal shares no cell is strong. How many hold half then?",
        "not-compared": "That is a share. With what does the measure of this chapter compare it?",
        "weak-cells-forgotten": "The class has more cells than the strong ones. What do the others get?",
        "cells-counted-twice": "How many cells of the class are left when the strong ones are taken away?",
        "half-spread-over-all": "The other half is spread over the cells that are left. How many are these?",
        "strong-cells-also-weak": "The strong cells get nothing of the other half. How many cells share it?",
        "weak-cells-alone": "The strong cells are of the pixel's own class too. How much lies on them?",
        "mean-of-a-cell": "You divide by a number of cells. What does the class get in all, and what would it get "
        "from equal shares?",
        "wrong-way-round": "A head that finds its class should have more than 1. What is divided by what?",
        "reach-of-nothing": "A head with equal shares looks far and near alike. With which head is it compared?",
        "half-of-the-way": "The measure is a ratio. What stands above the line, and what below, for equal shares?",
    },
)

# 12.2

FIELD_HINTS = {
    "root-missing": "Twice the gradient gives four times your field. What comes last?",
    "root-too-early": "The root is taken before all has been added up. Over what are the squares averaged first?",
    "channels-cancel": "Two channels with opposite gradients leave nothing. What should be done to each gradient "
    "before they are added?",
    "pictures-cancel": "Two pictures with opposite gradients leave nothing. What is averaged over the pictures?",
    "colours-cancel": "Red and blue with opposite gradients leave nothing. At which step do the three colours meet?",
    "absolute-values": "You add up absolute values. Which power of the gradient does the text average?",
    "pictures-added": "Twice as many pictures give a stronger field. Is it a sum over the pictures?",
    "channels-averaged": "The channels' squares are averaged. Which of the three axes has a mean, and which have sums?",
    "colours-averaged": "The colours' squares are averaged. Which of the three axes has a mean, and which have sums?",
    "channels-missing": "Not all channels of the unit have a say. How many has it here?",
    "averaged-too-early": "The pictures were averaged before the model saw them. What is averaged over the pictures?",
    "one-channel": "Only one channel of the unit has a say. How many has it?",
    "one-picture": "Only one picture has a say. Where do you collect what the others give?",
    "largest-channel": "You keep the largest gradient of several. What does the text do with all of them?",
    "signs-drawn": "With random signs the field is right on average only. What can you compute for each channel on "
    "its own instead?",
    "positive-part": "Negative gradients are cut off, as another method has it. Does a pixel that lowers the unit "
    "not matter?",
    "whole-map": "The field belongs to all places of the map together. Which place is asked for?",
    "other-unit": "The field is right for another place of the map. Which row and which column has the centre in "
    "the text?",
    "rows-and-columns": "The centre is at the right number in the wrong axis. Which of the two last axes is the "
    "height?",
    "scaled-to-one": "The field is divided by its own maximum or sum. Is that asked for?",
    "gradient-accumulated": "From the second channel on, the gradient holds what was there before. Where is it "
    "added up unasked?",
    "times-the-input": "The gradient is multiplied by the picture. What is asked for: the size of the gradient, or "
    "of a part of the unit?",
    "colours-left": "There are three fields, one for each colour. How does one number for each pixel come out?",
    "pictures-left": "There is a field for each picture. How are several made into one?",
    "unit-changed": "The gradient is that of something made of the channels. Of which numbers does the text take it?",
    "gradients-left": "After the call a gradient is left, or a picture asks for one. Which way to compute a gradient "
    "hands it back, and stores it nowhere?",
    "logarithm-taken": "That is the field as it is drawn. Who takes the logarithm in this chapter?",
}


class Unit(nn.Module):
    """A small model (B, 3, H, W) → (B, 4, h, w) at half of the size, whose gradients depend on the picture."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 5, 5, stride=2, padding=2, dtype=torch.float64)
        self.second = nn.Conv2d(5, 4, 3, padding=1, dtype=torch.float64)

    def forward(self, x: Tensor) -> Tensor:
        """Compute the map."""
        result: Tensor = self.second(torch.tanh(2 * self.first(x)))
        return result


def gradients(model: nn.Module, images: Tensor, row: int, column: int) -> Tensor:
    """Return the gradient of each channel at a place, for each picture: (B, C, 3, H, W)."""
    x = images.clone().requires_grad_()
    unit = model(x)[:, :, row, column].sum(0)
    each = [torch.autograd.grad(channel, x, retain_graph=True)[0] for channel in unit]
    return torch.stack(each, dim=1)


def field(gradient: Tensor) -> Tensor:
    """Return the field that the text defines, from gradients (B, C, 3, H, W)."""
    return gradient.square().sum((1, 2)).mean(0).sqrt()


def _fields(g: Tensor, images: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Yield the fields of known mistakes."""
    square, right = g.square(), field(g)
    positive = [g.clamp(min=0), g.clamp(min=0).sum(1, keepdim=True), g.sum(1, keepdim=True).clamp(min=0)]
    many = {
        "root-missing": [square.sum((1, 2)).mean(0)],
        "pictures-added": [
            square.sum((0, 1, 2)).sqrt(), square.sum((0, 1, 2)), square.sum((0, 1, 2)).sqrt() / len(g),
        ],
        "channels-averaged": [
            mean**power for mean in (square.mean((0, 1, 2)), square.sum(2).mean((0, 1))) for power in (0.5, 1)
        ],
        "colours-averaged": [square.sum(1).mean((0, 1)) ** power for power in (0.5, 1)],
        "one-channel": [
            *(one for channel in square.unbind(1) for one in _of_channel(channel)),
            *((one.sum(0) / divided).sqrt() for one in square.flatten(0, 1) for divided in (1, len(g))),
        ],
        "channels-missing": [
            some.sum((1, 2)).mean(0).sqrt() for some in (square[:, :2], square[:, :3], square[:, 1:], square[:, 2:])
        ],
        "one-picture": [(one.sum((0, 1)) / divided).sqrt() for one in square for divided in (1, len(g))],
        "scaled-to-one": [
            *(right / scale for scale in (right.max(), right.sum(), right.norm(), right.mean())),
            (right - right.min()) / (right.max() - right.min()), right.square() / right.square().max(),
        ],
        "logarithm-taken": [(right / right.max()).clamp(min=1e-4).log10(), right.log10(), right.log1p()],
        "root-too-early": _early_roots(square),
        "channels-cancel": [made for together in (g.sum(1), g.mean(1)) for made in _cancelled(together)],
        "pictures-cancel": [
            made for together in (g.mean(0), g.sum(0)) for made in (
                together.square().sum((0, 1)).sqrt(), together.square().sum((0, 1)), together.abs().sum((0, 1)),
            )
        ],
        "colours-cancel": [made for together in (g.sum(2), g.mean(2)) for made in _of_channel(together.square(), 1)],
        "absolute-values": [
            made for together in (g.abs().sum((1, 2)), g.abs().mean((1, 2)), g.abs().sum(1).mean(1),
                                  g.abs().mean(1).sum(1))
            for made in (together.mean(0), together.sum(0), together.square().mean(0).sqrt(), together.mean(0).sqrt())
        ],
        "largest-channel": [
            square.sum(2).amax(1).mean(0).sqrt(), square.amax((1, 2)).mean(0).sqrt(),
            square.sum(1).amax(1).mean(0).sqrt(), square.sum((1, 2)).amax(0).sqrt(), g.abs().amax((1, 2)).mean(0),
            square.amax(2).sum(1).mean(0).sqrt(), g.abs().amax(2).sum(1).mean(0),
        ],
        "positive-part": [
            made for part in positive for made in (
                field(part), part.sum((1, 2)).mean(0), part.sum((0, 1, 2)), part.square().sum((1, 2)).mean(0),
            )
        ],
        "gradient-accumulated": [
            made for axis in (1, 0) for made in (field(g.cumsum(axis)), field(g.cumsum(axis)).square())
        ] + [field(g.flatten(0, 1).cumsum(0).view_as(g))],
        "times-the-input": [field(g * images[:, None]), (g * images[:, None]).abs().sum((1, 2)).mean(0)],
        "signs-drawn": _drawn(g),
    }  # fmt: skip
    for kind, fields in many.items():
        for made in fields:
            yield kind, made


def _of_channel(square: Tensor, axis: int = 1) -> list[Tensor]:
    """Return what may be made of the squares of one channel: (B, 3, H, W)."""
    return [square.sum(axis).mean(0).sqrt(), square.sum(axis).mean(0), square.sqrt().sum(axis).mean(0)]


def _early_roots(square: Tensor) -> list[Tensor]:
    """Return fields whose root comes before a sum."""
    channels, colours = square.sum(2), square.sum(1)
    return [
        square.sum((1, 2)).sqrt().mean(0),
        square.sum((1, 2)).sqrt().sum(0),
        *(made for part in (channels, colours) for made in (
            part.sqrt().sum(1).mean(0), part.sqrt().mean((0, 1)),
            part.mean(0).sqrt().sum(0), part.mean(0).sqrt().mean(0),
        )),
    ]  # fmt: skip


def _cancelled(together: Tensor) -> list[Tensor]:
    """Return what may be made of gradients whose channels were added first: (B, 3, H, W)."""
    sizes = [together.abs().sum(1), together.abs().mean(1), together.abs().amax(1), together.sum(1), together.mean(1)]
    return [
        together.square().sum(1).mean(0).sqrt(),
        together.square().sum(1).mean(0),
        together.square().mean((0, 1)).sqrt(),
        together.square().sum((0, 1)).sqrt(),
        together.square().sum(1).sqrt().mean(0),
        *(size.mean(0) for size in sizes),
        *(size.sum(0) for size in sizes),
        together.mean(0).square().sum(0).sqrt(),
        together.sum(1).abs().mean(0),
        together.sum(1).square().mean(0).sqrt(),
    ]


def _drawn(g: Tensor) -> list[Tensor]:
    """Return the fields of all random signs of the channels."""
    signs = torch.tensor(list(product((1.0, -1.0), repeat=g.shape[1] - 1)), dtype=g.dtype)
    signs = torch.cat([torch.ones_like(signs[:, :1]), signs], dim=1)
    mixed = [torch.einsum("sc,cdhw->sdhw", signs, picture).square().sum(1) for picture in g]
    return [torch.stack(chosen).mean(0).sqrt() for chosen in product(*mixed)]


def _other_units(model: nn.Module, images: Tensor, centre: tuple[int, int]) -> Iterator[tuple[str, Tensor]]:
    """Yield the fields of numbers that are made of the unit's channels, and of a mean of the pictures."""
    row, column = centre
    yield "averaged-too-early", field(gradients(model, images.mean(0, keepdim=True), row, column))
    for made in (
        lambda unit: unit.norm(dim=1, keepdim=True),
        lambda unit: unit.square().sum(1, keepdim=True),
        lambda unit: unit.softmax(1),
        lambda unit: unit.log_softmax(1),
        lambda unit: unit.amax(1, keepdim=True),
        lambda unit: unit.relu(),
        lambda unit: unit.abs().sum(1, keepdim=True),
        lambda unit: unit.square(),
    ):
        x = images.clone().requires_grad_()
        each = made(model(x)[:, :, row, column]).sum(0)
        g = torch.stack([torch.autograd.grad(channel, x, retain_graph=True)[0] for channel in each], dim=1)
        yield "unit-changed", field(g)
        yield "unit-changed", g.abs().sum((1, 2)).mean(0)
        yield "unit-changed", g.square().sum((1, 2)).mean(0)


def _units(model: nn.Module, images: Tensor, centre: tuple[int, int]) -> Iterator[tuple[str, Tensor]]:
    """Yield the fields of other places of the map."""
    with torch.no_grad():
        rows, columns = model(images).shape[-2:]
    every = {place: gradients(model, images, *place) for place in product(range(rows), range(columns))}
    for together in (sum(every.values()), sum(every.values()) / len(every)):
        yield "whole-map", field(torch.as_tensor(together))
        yield "whole-map", field(torch.as_tensor(together).sum(1, keepdim=True))
    yield "whole-map", torch.stack([found.square().sum((1, 2)).mean(0) for found in every.values()]).sum(0).sqrt()
    yield "whole-map", torch.stack([found.square().sum((1, 2)).mean(0) for found in every.values()]).mean(0).sqrt()
    for place, found in every.items():
        kind = "rows-and-columns" if place == (min(columns // 2, rows - 1), rows // 2) else "other-unit"
        if place != centre:
            yield kind, field(found)
            yield kind, found.sum(1).square().sum(1).mean(0).sqrt()
            yield kind, found.square().sum((1, 2)).mean(0)


@exercise("An effective receptive field", FIELD_HINTS)
def effective_field(look: Look, answer: Any) -> None:
    """Check `effective_field(model, images)`, a function."""
    look.exists(answer)
    torch.manual_seed(3)
    model, images = Unit(), random(2, 3, 9, 14)
    g = gradients(model, images, 2, 3)
    yours = look.output(answer, model, images.clone(), dtype=None).detach().double()
    look.done("runs")
    shapes = {"colours-left": (3, 9, 14), "pictures-left": (2, 9, 14)}
    look.shape(yours, (9, 14), "one number for each pixel", shapes)
    look.done("shape")
    state = torch.get_rng_state()
    look.call(answer, model, images.clone())
    if not torch.equal(state, torch.get_rng_state()) and not close(yours, field(g)):
        look.wrong("signs-drawn", "Two calls may give two results: random numbers were drawn.")
    look.side_effects(answer, model, images.clone())
    look.done("no side effects")
    candidates = chain(
        _fields(g, images),
        _other_units(model, images, (2, 3)),
        _units(model, images, (2, 3)),
    )
    tell(look, yours, field(g), candidates, "two pictures of 9×14")
    look.done("two pictures")
    other = random(3, 3, 12, 7, seed=4)
    yours = look.output(answer, model, other, dtype=None).detach().double()
    look.shape(yours, (12, 7))
    tell(look, yours, field(gradients(model, other, 3, 2)), _units(model, other, (3, 2)), "three pictures of 12×7")
    look.done("three of another size")
    _nothing_left(look, answer, model, images.clone())


def _nothing_left(look: Look, answer: Callable[..., Any], model: nn.Module, images: Tensor) -> None:
    """End where the weights or the pictures hold a gradient after the call."""
    model.zero_grad(set_to_none=True)
    look.call(answer, model, images)
    if frozen := [f"`{name}`" for name, weight in model.named_parameters() if not weight.requires_grad]:
        look.wrong("frozen", f"After the call these ask for no gradient: {', '.join(frozen)}.")
    held = [f"`{name}`" for name, weight in model.named_parameters() if weight.grad is not None]
    if images.grad is not None or images.requires_grad:
        held.append("`images`")
    if held:
        what = "require a gradient" if held == ["`images`"] and images.grad is None else "hold a gradient"
        look.wrong("gradients-left", f"After the call these {what}: {', '.join(held)}.")
    look.done("no gradient left behind")


# 12.3

RATE_HINTS = {
    "starts-at-zero": "Your first number is that of the pixels without a class. At which distance does the list begin?",
    "starts-too-late": "Your first number is that of distance 2. At which distance does the list begin?",
    "moved-by-one": "Mistakes and pixels were counted at two distances that differ by one. Which of them was moved?",
    "void-in-the-total": "Pixels without a class are in the number that you divide by. Can one of them be right?",
    "empty-distance-dropped": "The distances without any pixel are not in your list. How many numbers should it have "
    "all the same?",
    "share-of-all-mistakes": "Your numbers add up to one. Is the share asked for that lies at a distance, or the "
    "share that is wrong there?",
    "share-of-all-pixels": "You divide by all pixels. Of which pixels is the error rate a share?",
    "bands-not-rings": "Each of your numbers holds the nearer ones too. Is the rate asked for at a distance, or up "
    "to it?",
    "right-not-wrong": "You have the share that is right. Which one is asked for?",
    "far-pixels-added": "The last number holds the pixels beyond it too. What number has a pixel that is further "
    "away than the last one?",
    "counts": "These are numbers of pixels. By what is each of them divided?",
    "no-far-pixel": "No pixel of this map is far from a border. How many distances do you count all the same?",
    "empty-distance": "At some distance there is no pixel, and the division fails there. Which number does the "
    "exercise ask for then?",
    "pictures-averaged": "Each picture has the same say, however few pixels it has at a distance. What should be "
    "added up first?",
    "inverted": "A rate is at most 1. What is divided by what?",
    "iou-not-rate": "You compare sets of classes. What does the exercise count: classes or pixels?",
    "far-pixels-last": "Your list has one number too many, its last one. What does it say, and of which pixels?",
    "too-long": "There are more numbers than distances asked for. Which two do not belong to the list?",
    "rounded-away": "Each rate is 0 or 1. What kind of division makes whole numbers?",
    "void-is-wrong": "Pixels without a class are counted as mistakes. How can a pixel be wrong that has no class?",
    "one-picture": "Only one picture has a say. Where do the others come in?",
    "other-void": "You leave out another number than void. Which number has a pixel without a class?",
    "wrong-over-right": "You divide by the pixels that are right. Of which pixels is the rate a share?",
    "last-distance-missing": "The list ends too early. Is the distance that `most` names part of it?",
    "guard-in-every-rate": "What guards the division changes all rates a little. Where alone should it act?",
    "per-cent": "Your numbers are per cent. What did the exercise ask for?",
}


def _street() -> tuple[Tensor, Tensor, Tensor]:
    """A prediction, class maps and distances (2, 9, 11), one distance without a pixel, some void, some far away."""
    generator = torch.Generator().manual_seed(5)
    distance = torch.randint(1, 8, (2, 9, 11), generator=generator)
    distance[distance == 4] = 2
    distance[0][distance[0] == 3] = 1
    masks = torch.randint(0, 4, (2, 9, 11), generator=generator)
    chance = torch.tensor([0, 0.7, 0.55, 0.35, 0.3, 0.25, 0.45, 0.4])[distance]
    chance[1] = chance[1] / 2
    wrong = torch.rand(2, 9, 11, generator=generator) < chance
    prediction = torch.where(wrong, (masks + 1) % 4, masks)
    void = torch.rand(2, 9, 11, generator=generator) < 0.15
    return prediction, masks.masked_fill(void, VOID), distance.masked_fill(void, 0)


MOST = 6


def _rates(prediction: Tensor, masks: Tensor, distance: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mistakes and the pixels at the distances 0 to MOST + 1."""
    wrong = (prediction != masks) & (masks != VOID)
    both = distance[wrong], distance[masks != VOID]
    mistakes, pixels = (found.bincount(minlength=MOST + 2).double() for found in both)
    return mistakes, pixels


def _target(prediction: Tensor, masks: Tensor, distance: Tensor) -> Tensor:
    """Return the rates that are asked for."""
    mistakes, pixels = _rates(prediction, masks, distance)
    return (mistakes / pixels.clamp(min=1))[1:-1]


def _wrong_rates(prediction: Tensor, masks: Tensor, distance: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Yield the rates of known mistakes."""
    mistakes, pixels = _rates(prediction, masks, distance)
    m, p = mistakes[1:-1], pixels[1:-1]
    wrong_at = distance[prediction != masks].bincount(minlength=MOST + 2).double()
    every = distance.flatten().bincount(minlength=MOST + 2).double()
    rate, wide = m / p.clamp(min=1), mistakes / pixels.clamp(min=1)
    far_m, far_p = (torch.cat([part[1:-2], part[-2:].sum()[None]]) for part in (mistakes, pixels))
    totals = [p.sum(), pixels.sum(), torch.tensor(float(masks.numel()))]
    outside = [(all_m.flip(0).cumsum(0) / all_p.flip(0).cumsum(0)).flip(0) for all_m, all_p in ((mistakes, pixels),)]
    many = {
        "starts-at-zero": [
            *((top / below.clamp(min=1))[:-2] for top, below in
              ((mistakes, pixels), (wrong_at, every), (mistakes, every))),
        ],
        "starts-too-late": [wide[2:]],
        "moved-by-one": [
            top / below.clamp(min=1)
            for top, below in ((m, pixels[2:]), (m, pixels[:-2]), (mistakes[2:], p), (mistakes[:-2], p))
        ],
        "share-of-all-mistakes": [
            made / total for made in (m, m.cumsum(0)) for total in (m.sum(), mistakes.sum())
        ],
        "share-of-all-pixels": [made / total for made in (m, m.cumsum(0), p, p.cumsum(0)) for total in totals],
        "bands-not-rings": [
            m.cumsum(0) / p.cumsum(0),
            m / p.cumsum(0),
            m / pixels.flip(0).cumsum(0).flip(0)[1:-1],
            *(made[1:-1] for made in outside),
        ],
        "right-not-wrong": [1 - rate, (p - m) / p.clamp(min=1)],
        "far-pixels-added": [far_m / far_p.clamp(min=1)],
        "counts": [m, p - m, p],
        "empty-distance": [rate.where(p > 0, number) for number in (1.0, -1.0, 0.5)],
        "pictures-averaged": _of_each(prediction, masks, distance),
        "inverted": [p / m.clamp(min=1), (p / m).nan_to_num(0)],
        "rounded-away": [rate.floor(), rate.round()],
        "per-cent": [100 * rate],
        "one-picture": [part for one in zip(prediction, masks, distance) for part in _of_each(*(t[None] for t in one))],
        "other-void": [_other_void(prediction, masks, distance, label) for label in (0, 1, 2, 3)],
        "wrong-over-right": [m / (p - m).clamp(min=1), (m / (p - m)).nan_to_num(0)],
        "last-distance-missing": [torch.cat([rate[:-1], torch.zeros(1)])],
        "guard-in-every-rate": [m / (p + small) for small in (1.0, 0.1, 0.01, 1e-3, 1e-4)],
        "iou-not-rate": _ious(prediction, masks, distance),
    }  # fmt: skip
    for kind, rates in many.items():
        for made in rates:
            yield kind, made


def _of_each(prediction: Tensor, masks: Tensor, distance: Tensor) -> list[Tensor]:
    """Return means of the pictures' rates."""
    each = [_rates(*one) for one in zip(prediction, masks, distance)]
    rates = torch.stack([(mistakes / pixels.clamp(min=1))[1:-1] for mistakes, pixels in each])
    there = torch.stack([pixels[1:-1] > 0 for _, pixels in each])
    return [rates.mean(0), rates.sum(0) / there.sum(0).clamp(min=1), rates.sum(0)]


def _other_void(prediction: Tensor, masks: Tensor, distance: Tensor, label: int) -> Tensor:
    """Return the rates where another class than void is left out."""
    known = masks != label
    mistakes, pixels = (
        distance[where].bincount(minlength=MOST + 2)[1:-1].double() for where in (known & (prediction != masks), known)
    )
    return mistakes / pixels.clamp(min=1)


def _ious(prediction: Tensor, masks: Tensor, distance: Tensor) -> list[Tensor]:
    """Return what the mIoU of the pixels at each distance gives."""
    found = []
    for step in range(1, MOST + 1):
        at = (distance == step) & (masks != VOID)
        shared = [
            (((prediction == k) & (masks == k) & at).sum(), (((prediction == k) | (masks == k)) & at).sum())
            for k in range(4)
        ]
        known = [float(both) / float(either) for both, either in shared if either]
        found.append(sum(known) / len(known) if known else torch.nan)
    ious = torch.tensor(found, dtype=torch.float64)
    return [ious.nan_to_num(0), 1 - ious.nan_to_num(0), (1 - ious).nan_to_num(0)]


@exercise("Error rate by distance", RATE_HINTS)
def error_by_distance(look: Look, answer: Any) -> None:
    """Check `error_by_distance(prediction, masks, distance, most)`, a function."""
    look.exists(answer)
    answer = _as_tensor(answer)
    given = _street()
    yours = look.output(answer, *(part.clone() for part in given), MOST, dtype=None)
    look.done("runs")
    if yours.is_complex() or yours.dtype == torch.bool:
        look.wrong("wrong-dtype", f"The rates are {yours.dtype}.")
    if tuple(yours.shape) == (MOST + 1,) and close(yours[:-1].double().nan_to_num(0), _target(*given)):
        look.wrong("far-pixels-last", f"The result has the shape ({MOST + 1},); its first {MOST} numbers are right.")
    there = _rates(*given)[1][1:-1] > 0
    if yours.shape == _target(*given)[there].shape and close(yours.double(), _target(*given)[there]):
        look.wrong("empty-distance-dropped", f"There are {len(yours)} numbers, and {MOST} distances.")
    look.shape(
        yours,
        (MOST,),
        "one rate for each distance",
        {"too-long": (MOST + 2,), "last-distance-missing": (MOST - 1,), "starts-at-zero": (MOST + 1,)},
    )
    look.side_effects(answer, *(part.clone() for part in given), MOST)
    look.done("shape, no side effects")
    target, pixels = _target(*given), _rates(*given)[1]
    yours = yours.detach().double()
    if not bool(yours[pixels[1:-1] == 0].isfinite().all()):
        look.wrong("empty-distance", "At a distance without any pixel the rate is NaN or infinite.")
    tell(look, yours, target, _wrong_rates(*given), "two pictures, distances 1 to 6")
    look.done("rates at six distances")
    _void_at_a_distance(look, answer, *given)
    _no_far_pixel(look, answer, *given)
    look.done("a map without far pixels")


def _as_tensor(answer: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that gives a tensor also where the answer gives a list of numbers."""

    @wraps(answer)
    def made(*given: Any) -> Any:
        value = answer(*given)
        rates = [plain(rate) for rate in value] if isinstance(value, list | tuple) else [None]
        known = rates and all(isinstance(rate, int | float) for rate in rates)
        return torch.tensor(rates, dtype=torch.float64) if known else value

    return made


def _no_far_pixel(look: Look, answer: Callable[..., Any], *given: Tensor) -> None:
    """A map in which all distances are short: counts that follow the largest one are too short."""
    prediction, masks, distance = (part[:1, :3].clone() for part in given)
    made = look.attempt(answer, prediction, masks, distance.clamp(max=3), MOST)
    if isinstance(made, Failure) or tuple(made.shape) != (MOST,):
        words = made if isinstance(made, Failure) else f"the shape is {tuple(made.shape)}."
        look.wrong("no-far-pixel", f"With a map in which no distance is above 3: {words}")


def _void_at_a_distance(
    look: Look, answer: Callable[..., Any], prediction: Tensor, masks: Tensor, distance: Tensor
) -> None:
    """Give the pixels without a class a distance too: they must not count there either."""
    distance = distance.where(masks != VOID, 1)
    yours = look.output(answer, prediction.clone(), masks.clone(), distance, MOST, dtype=None).detach().double()
    mistakes, pixels = (part[1:-1] for part in _rates(prediction, masks, distance))
    target, at = mistakes / pixels.clamp(min=1), distance == 1
    candidates = []
    for kind, count in (("void-in-the-total", mistakes[0]), ("void-is-wrong", ((prediction != masks) & at).sum())):
        made = target.clone()
        made[0] = count / at.sum()
        candidates.append((kind, made))
    made = target.clone()
    made[0] = ((prediction != masks) & at).sum() / pixels[0]
    candidates.append(("void-is-wrong", made))
    tell(look, yours, target, candidates, "pixels without a class at distance 1")
    look.done("pixels without a class left out")


# Warm-up

_SHARES = torch.tensor([[0.5, 0.5, 0.0, 0.0], [0.1, 0.2, 0.3, 0.4]])
_DISTANCE = torch.tensor([[0.0, 1, 2, 3], [2, 1, 0, 1]])


def _reach() -> Tensor:
    return (_SHARES * _DISTANCE).sum(1) / _DISTANCE.mean(1)


puzzle_of(
    "reach of a head",
    title="How far each query looks",
    target=_reach,
    wrong={
        "not-compared": (
            lambda: (_SHARES * _DISTANCE).sum(1),
            "That is the distance itself. What would it be with equal shares?",
        ),
        "mean-of-products": (
            lambda: (_SHARES * _DISTANCE).mean(1) / _DISTANCE.mean(1),
            "The shares of a query add up to one already. What is left to divide by a number of keys?",
        ),
        "difference-taken": (
            lambda: (_SHARES * _DISTANCE).sum(1) - _DISTANCE.mean(1),
            "You subtract what equal shares would give. How does this chapter compare the two?",
        ),
        "strongest-key": (
            lambda: [
                _DISTANCE[torch.arange(2), _SHARES.argmax(1)],
                _DISTANCE[torch.arange(2), _SHARES.argmax(1)] / _DISTANCE.mean(1),
            ],
            "That is how far the strongest key lies. What do the shares of the other keys do?",
        ),
        "shares-ignored": (
            lambda: _DISTANCE.mean(1),
            "That is the distance that equal shares would give. Where do the shares come in?",
        ),
        "one-mean-for-all": (
            lambda: (_SHARES * _DISTANCE).sum(1) / _DISTANCE.mean(),
            "Both queries are compared with the same number. Does a key in the middle have the same mean distance as "
            "one at the edge?",
        ),
        "queries-summed": (
            lambda: (_SHARES * _DISTANCE).sum(0),
            "There is a number for each key. Over which axis is the sum taken?",
        ),
        "wrong-way-round": (
            lambda: _DISTANCE.mean(1) / (_SHARES * _DISTANCE).sum(1),
            "A query that looks near should have a small number. What is divided by what?",
        ),
    },
)
