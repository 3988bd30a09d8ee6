"""Answers to the exercises of chapter 12."""

from __future__ import annotations

import numpy as np
import torch
from catalogue import right, right_value, wrong, wrong_value
from einops import reduce

VOID = 255

# 12.1

LOOKS = {
    "cells for half": 5,
    "cells for half, equal shares": 83,
    "own class": 2.9375,
    "own class, equal shares": 1,
    "reach, equal shares": 1,
}
right_value("looks", "numbers", LOOKS)
right_value("looks", "expressions", LOOKS | {"own class": (0.5 + 28 * 0.5 / 160) * 5, "reach, equal shares": 1.0})
right_value("looks", "NumPy, rounded", LOOKS | {"own class": np.float64(2.94), "cells for half": np.int64(5)})
for entry, kind, values in (
    ("cells for half", "half-of-the-cells", (83, 82.5)),
    ("cells for half", "count-off-by-one", (4, 6)),
    ("cells for half", "one-cell", (1,)),
    ("cells for half", "too-small", (0,)),
    ("cells for half, equal shares", "count-off-by-one", (82, 84)),
    ("cells for half, equal shares", "cells-halved", (82.5,)),
    ("cells for half, equal shares", "all-cells", (165,)),
    ("cells for half, equal shares", "strong-cells", (5,)),
    ("own class", "not-compared", (0.5875,)),
    ("own class", "weak-cells-forgotten", (2.5, 0.5)),
    ("own class", "cells-counted-twice", ((0.5 + 33 * 0.5 / 160) * 5,)),
    ("own class", "half-spread-over-all", ((0.5 + 28 * 0.5 / 165) * 5,)),
    ("own class", "strong-cells-also-weak", (3.0,)),
    ("own class", "weak-cells-alone", (0.0875, 0.4375)),
    ("own class", "mean-of-a-cell", (0.5875 / 33,)),
    ("own class", "wrong-way-round", (1 / 2.9375,)),
    ("own class, equal shares", "not-compared", (0.2,)),
    ("own class, equal shares", "wrong-way-round", (5,)),
    ("reach, equal shares", "reach-of-nothing", (0,)),
    ("reach, equal shares", "half-of-the-way", (0.5,)),
):
    for value in values:
        wrong_value("looks", kind, LOOKS | {entry: value})

# 12.2 Right


def centre_of(maps):
    return maps[..., maps.shape[-2] // 2, maps.shape[-1] // 2]


def gradients(model, images, unit=centre_of):
    """For each picture and channel the gradient in the picture: (B, C, 3, H, W)."""
    x = images.clone().requires_grad_()
    values = unit(model(x))
    return torch.stack([torch.autograd.grad(v.sum(), x, retain_graph=True)[0] for v in values.unbind(1)], 1)


@right("effective_field", "picture by picture, autograd.grad")
def by_picture(model, images):
    squares = torch.zeros(images.shape[-2:], dtype=images.dtype)
    for image in images:
        x = image[None].clone().requires_grad_()
        for value in centre_of(model(x)[0]):
            (gradient,) = torch.autograd.grad(value, x, retain_graph=True)
            squares += gradient[0].square().sum(0) / len(images)
    return squares.sqrt()


@right("effective_field", "backward, gradients put back to None")
def by_backward(model, images):
    total = 0
    for channel in range(centre_of(model(images)).shape[1]):
        x = images.detach().clone().requires_grad_()
        centre_of(model(x))[:, channel].sum().backward()
        total = total + (x.grad**2).sum(1)
    model.zero_grad()
    return total.mean(0) ** 0.5


@right("effective_field", "jacobian")
def by_jacobian(model, images):
    found = [torch.autograd.functional.jacobian(lambda x: centre_of(model(x[None])[0]), image) for image in images]
    return torch.stack(found).pow(2).sum((1, 2)).mean(0).sqrt()


@right("effective_field", "torch.func and einops")
def by_func(model, images):
    jacobians = torch.func.vmap(torch.func.jacrev(lambda x: centre_of(model(x[None])[0])))(images)
    return reduce(jacobians.detach() ** 2, "b k c h w -> h w", "sum").div(len(images)).sqrt()


# 12.2 Wrong


def field_with(made, unit=centre_of):
    return lambda model, images: made(gradients(model, images, unit))


def field(g):
    return g.square().sum((1, 2)).mean(0).sqrt()


def plain_saliency(model, images):
    x = images.clone().requires_grad_()
    centre_of(model(x)).sum().backward()
    return x.grad.abs().mean((0, 1))


def forgets_to_reset(model, images):
    x = images.clone().requires_grad_()
    total = 0
    for value in centre_of(model(x)).unbind(1):
        value.sum().backward(retain_graph=True)
        total = total + x.grad.square().sum(1)
    return total.mean(0).sqrt()


def signs(generator):
    def made(model, images):
        own = torch.Generator().manual_seed(0) if generator else None
        squares = 0
        for image in images:
            x = image[None].clone().requires_grad_()
            centre = centre_of(model(x)[0])
            drawn = 2.0 * torch.randint(2, centre.shape, generator=own) - 1
            squares = squares + torch.autograd.grad((drawn * centre).sum(), x)[0][0].square().sum(0) / len(images)
        return squares.sqrt()

    return made


def last_only(model, images):
    for image in images:
        result = by_picture(model, image[None])
    return result


FIELDS = {
    "root-missing": [field_with(lambda g: g.square().sum((1, 2)).mean(0))],
    "root-too-early": [
        field_with(lambda g: g.square().sum((1, 2)).sqrt().mean(0)),
        field_with(lambda g: g.norm(dim=2).sum(1).mean(0)),
        field_with(lambda g: g.norm(dim=2).mean((0, 1))),
    ],
    "channels-cancel": [
        plain_saliency,
        field_with(lambda g: g.sum(1).square().sum(1).mean(0).sqrt()),
        field_with(lambda g: g.mean(1).square().sum(1).mean(0).sqrt()),
        field_with(lambda g: g.sum(1).abs().amax(1).mean(0)),
        field_with(lambda g: g.sum(1).norm(dim=1).mean(0)),
        field_with(lambda g: g.sum((1, 2)).mean(0)),
    ],
    "pictures-cancel": [field_with(lambda g: g.mean(0).square().sum((0, 1)).sqrt())],
    "colours-cancel": [field_with(lambda g: g.sum(2).square().sum(1).mean(0).sqrt()),
                       field_with(lambda g: g.mean(2).square().sum(1).mean(0).sqrt())],
    "absolute-values": [field_with(lambda g: g.abs().sum((1, 2)).mean(0)),
                        field_with(lambda g: g.abs().mean((0, 1, 2)))],
    "pictures-added": [field_with(lambda g: g.square().sum((0, 1, 2)).sqrt())],
    "channels-averaged": [field_with(lambda g: g.square().mean((0, 1, 2)).sqrt()),
                          field_with(lambda g: g.square().sum(2).mean((0, 1)).sqrt())],
    "colours-averaged": [field_with(lambda g: g.square().sum(1).mean((0, 1)).sqrt())],
    "channels-missing": [field_with(lambda g: field(g[:, :3])), field_with(lambda g: field(g[:, 1:]))],
    "averaged-too-early": [lambda model, images: by_picture(model, images.mean(0, keepdim=True))],
    "one-channel": [field_with(lambda g: field(g[:, :1])), field_with(lambda g: field(g[:, -1:]))],
    "one-picture": [last_only, lambda model, images: by_picture(model, images[:1])],
    "largest-channel": [field_with(lambda g: g.square().sum(2).amax(1).mean(0).sqrt()),
                        field_with(lambda g: g.abs().amax((1, 2)).mean(0))],
    "signs-drawn": [signs(False), signs(True)],
    "positive-part": [field_with(lambda g: g.clamp(min=0).sum((1, 2)).mean(0)), field_with(lambda g: field(g.relu()))],
    "whole-map": [field_with(field, lambda maps: maps.sum((2, 3))), field_with(field, lambda maps: maps.mean((2, 3)))],
    "other-unit": [
        field_with(field, lambda maps: maps[..., 0, 0]),
        field_with(field, lambda maps: maps[..., -1, -1]),
        field_with(field, lambda maps: maps[..., maps.shape[-2] // 2 - 1, maps.shape[-1] // 2]),
        field_with(field, lambda maps: maps[..., (maps.shape[-2] - 1) // 2, (maps.shape[-1] - 1) // 2]),
    ],
    "rows-and-columns": [field_with(field, lambda maps: maps[..., maps.shape[-1] // 2, maps.shape[-2] // 2])],
    "scaled-to-one": [field_with(lambda g: field(g) / field(g).max()), field_with(lambda g: field(g) / field(g).sum())],
    "gradient-accumulated": [forgets_to_reset],
    "times-the-input": [lambda model, images: field(gradients(model, images) * images[:, None])],
    "colours-left": [field_with(lambda g: g.square().sum(1).mean(0).sqrt())],
    "pictures-left": [field_with(lambda g: g.square().sum((1, 2)).sqrt())],
    "logarithm-taken": [field_with(lambda g: (field(g) / field(g).max()).clamp(min=1e-4).log10())],
    "unit-changed": [
        field_with(field, lambda maps: centre_of(maps).norm(dim=1, keepdim=True)),
        field_with(field, lambda maps: centre_of(maps.softmax(1))),
    ],
    "all-zero": [field_with(lambda g: 0 * field(g))],
}  # fmt: skip
for kind, functions in FIELDS.items():
    for number, function in enumerate(functions):
        wrong_value("effective_field", kind, function, str(number))


@wrong("effective_field", "graph", "could not run")
def without_graph(model, images):
    with torch.no_grad():
        return torch.autograd.grad(centre_of(model(images)).sum(), images)[0]


@wrong("effective_field", "no-return")
def no_field(model, images):
    by_picture(model, images)


@wrong("effective_field", "gradients-left")
def through_the_weights(model, images):
    x = images.clone().requires_grad_()
    total = 0
    for channel in centre_of(model(x)).sum(0):
        x.grad = None
        channel.backward(retain_graph=True)
        total = total + x.grad.square().sum(1)
    return total.mean(0).sqrt()


@wrong("effective_field", "gradients-left")
def pictures_that_ask(model, images):
    images.requires_grad_()
    found = [torch.autograd.grad(channel, images, retain_graph=True)[0] for channel in centre_of(model(images)).sum(0)]
    return torch.stack(found).square().sum((0, 2)).mean(0).sqrt()


# 12.3 Right


@right("error_by_distance", "bincount")
def by_bincount(prediction, masks, distance, most):
    known = masks != VOID
    mistakes = distance[known & (prediction != masks)].bincount(minlength=most + 2)[1 : most + 1]
    return mistakes / distance[known].bincount(minlength=most + 2)[1 : most + 1].clamp(min=1)


@right("error_by_distance", "a loop over distances")
def by_loop(prediction, masks, distance, most):
    rates = []
    for step in range(1, most + 1):
        at = (distance == step) & (masks != VOID)
        rates.append((prediction[at] != masks[at]).double().mean().item() if at.any() else 0.0)
    return torch.tensor(rates)


@right("error_by_distance", "a list of numbers")
def as_a_list(*given):
    return by_loop(*given).tolist()


@right("error_by_distance", "a list of tensors")
def as_tensors(*given):
    return list(by_loop(*given))


@right("error_by_distance", "NumPy's histogram")
def by_histogram(prediction, masks, distance, most):
    known = (masks != VOID).numpy()
    wrong_at = (prediction != masks).numpy()[known]
    pixels, edges = np.histogram(distance.numpy()[known], bins=np.arange(0.5, most + 1))
    mistakes, _ = np.histogram(distance.numpy()[known][wrong_at], bins=edges)
    return torch.from_numpy(np.divide(mistakes, pixels, out=np.zeros(most), where=pixels > 0))


@right("error_by_distance", "broadcast")
def by_broadcast(prediction, masks, distance, most):
    at = distance[..., None].eq(torch.arange(1, most + 1)) & (masks != VOID)[..., None]
    wrong_at = at & (prediction != masks)[..., None]
    return (wrong_at.sum((0, 1, 2)) / at.sum((0, 1, 2))).nan_to_num(0)


# 12.3 Wrong


def counted(prediction, masks, distance, most):
    known = masks != VOID
    wrong_at = distance[known & (prediction != masks)].bincount(minlength=most + 2).double()
    return wrong_at, distance[known].bincount(minlength=most + 2).double()


def rates_with(made):
    return lambda prediction, masks, distance, most: made(*counted(prediction, masks, distance, most))


def ring(m, p):
    return m[1:-1], p[1:-1].clamp(min=1)


def of_each(prediction, masks, distance, most):
    return torch.stack([by_bincount(*one, most) for one in zip(prediction, masks, distance)]).mean(0)


def of_each_there(prediction, masks, distance, most):
    rates = []
    for one in zip(prediction, masks, distance):
        m, p = (part[1:-1] for part in counted(*one, most))
        rates.append(m / p)
    return torch.stack(rates).nanmean(0).nan_to_num(0)


def by_iou(prediction, masks, distance, most):
    rates = []
    for step in range(1, most + 1):
        at = (distance == step) & (masks != VOID)
        found = [
            ((prediction == k) & (masks == k) & at).sum() / (((prediction == k) | (masks == k)) & at).sum()
            for k in range(4)
        ]
        rates.append(torch.stack(found).nanmean().nan_to_num(1))
    return 1 - torch.stack(rates)


def far_at_the_end(prediction, masks, distance, most):
    return by_bincount(prediction, masks, distance.clamp(max=most), most)


def with_void(prediction, masks, distance, most):
    at = distance[..., None].eq(torch.arange(1, most + 1))
    return ((at & (prediction != masks)[..., None]).sum((0, 1, 2)) / at.sum((0, 1, 2))).nan_to_num(0)


def void_in_the_total(prediction, masks, distance, most):
    known = masks != VOID
    mistakes = distance[known & (prediction != masks)].bincount(minlength=most + 2)[1 : most + 1]
    return mistakes / distance.flatten().bincount(minlength=most + 2)[1 : most + 1].clamp(min=1)


RATES = {
    "starts-at-zero": [
        rates_with(lambda m, p: (m / p.clamp(min=1))[:-2]),
        rates_with(lambda m, p: (m / p.clamp(min=1))[:-1]),
        lambda prediction, masks, distance, most: torch.stack(
            [(prediction != masks)[distance == step].double().mean().nan_to_num(0) for step in range(most)]),
    ],
    "far-pixels-last": [rates_with(lambda m, p: m[1:] / p[1:].clamp(min=1)), rates_with(lambda m, p: m[1:] / p[1:])],
    "too-long": [rates_with(lambda m, p: m / p.clamp(min=1))],
    "share-of-all-mistakes": [rates_with(lambda m, p: m[1:-1] / m.sum()),
                              rates_with(lambda m, p: m[1:-1] / m[1:-1].sum()),
                              rates_with(lambda m, p: m[1:-1].cumsum(0) / m.sum())],
    "share-of-all-pixels": [rates_with(lambda m, p: m[1:-1] / p.sum()), rates_with(lambda m, p: p[1:-1] / p.sum())],
    "bands-not-rings": [rates_with(lambda m, p: m[1:-1] / p.flip(0).cumsum(0).flip(0)[1:-1]),
                        rates_with(lambda m, p: m[1:-1].cumsum(0) / p[1:-1].cumsum(0))],
    "right-not-wrong": [rates_with(lambda m, p: 1 - ring(m, p)[0] / ring(m, p)[1]),
                        rates_with(lambda m, p: (p - m)[1:-1] / ring(m, p)[1])],
    "far-pixels-added": [far_at_the_end],
    "counts": [rates_with(lambda m, p: m[1:-1])],
    "empty-distance": [rates_with(lambda m, p: m[1:-1] / p[1:-1]),
                       rates_with(lambda m, p: (m[1:-1] / p[1:-1]).nan_to_num(1))],
    "pictures-averaged": [of_each, of_each_there],
    "inverted": [rates_with(lambda m, p: (p[1:-1] / m[1:-1]).nan_to_num(0))],
    "iou-not-rate": [by_iou],
    "rounded-away": [rates_with(lambda m, p: ring(m, p)[0] // ring(m, p)[1])],
    "starts-too-late": [rates_with(lambda m, p: (m / p.clamp(min=1))[2:])],
    "moved-by-one": [
        rates_with(lambda m, p: m[1:-1] / p[2:].clamp(min=1)), rates_with(lambda m, p: m[2:] / p[1:-1].clamp(min=1)),
    ],
    "empty-distance-dropped": [rates_with(lambda m, p: (m / p)[1:-1][p[1:-1] > 0])],
    "void-is-wrong": [with_void],
    "void-in-the-total": [void_in_the_total, lambda prediction, masks, distance, most: with_void(
        prediction.where(masks != VOID, VOID), masks, distance, most)],
    "one-picture": [lambda *given: by_bincount(*(part[:1] for part in given[:3]), given[3])],
    "other-void": [lambda prediction, masks, distance, most: by_bincount(
        prediction, masks.where(masks != VOID, 99).where(masks != 0, VOID), distance, most)],
    "wrong-over-right": [rates_with(lambda m, p: m[1:-1] / (p - m)[1:-1].clamp(min=1))],
    "last-distance-missing": [rates_with(lambda m, p: (m / p.clamp(min=1))[1:-2]),
                              rates_with(lambda m, p: torch.cat([(m / p.clamp(min=1))[1:-2], torch.zeros(1)]))],
    "guard-in-every-rate": [rates_with(lambda m, p: (m / (p + 1))[1:-1])],
    "per-cent": [rates_with(lambda m, p: 100 * ring(m, p)[0] / ring(m, p)[1])],
}  # fmt: skip
for kind, functions in RATES.items():
    for number, function in enumerate(functions):
        wrong_value("error_by_distance", kind, function, str(number))


@wrong("error_by_distance", "wrong-type")
def a_dict(prediction, masks, distance, most):
    return dict(enumerate(by_loop(prediction, masks, distance, most).tolist(), 1))


@wrong("error_by_distance", "changes-input")
def overwrites(prediction, masks, distance, most):
    rates = by_bincount(prediction, masks, distance, most)
    distance[masks == VOID] = 99
    return rates


# Warm-up

SHARES = torch.tensor([[0.5, 0.5, 0, 0], [0.1, 0.2, 0.3, 0.4]])
DISTANCE = torch.tensor([[0.0, 1, 2, 3], [2, 1, 0, 1]])
TOGETHER = (SHARES * DISTANCE).sum(1)
right_value("reach of a head", "einsum", torch.einsum("qk,qk->q", SHARES, DISTANCE) / DISTANCE.mean(1))
for kind, value in {
    "not-compared": TOGETHER,
    "mean-of-products": TOGETHER / DISTANCE.sum(1),
    "one-mean-for-all": TOGETHER / DISTANCE.mean(),
    "queries-summed": (SHARES * DISTANCE).sum(0),
    "wrong-way-round": DISTANCE.mean(1) / TOGETHER,
    "difference-taken": TOGETHER - DISTANCE.mean(1),
    "strongest-key": torch.tensor([0.0, 1]),
    "shares-ignored": DISTANCE.mean(1),
}.items():
    wrong_value("reach of a head", kind, value)


@wrong("error_by_distance", "no-far-pixel")
def counts_without_minlength(prediction, masks, distance, most):
    known = masks != 255
    mistakes = distance[known & (prediction != masks)].bincount()
    return (mistakes / distance[known].bincount().clamp(min=1))[1 : most + 1]


# Found by an adversary ------------------------------------------------------------------------------------------------


@wrong("effective_field", "one-channel")
def the_last_gradient_alone(model, images):
    for image in images:
        x = image[None].clone().requires_grad_()
        for value in centre_of(model(x)[0]):
            (gradient,) = torch.autograd.grad(value, x, retain_graph=True)
    return (gradient[0].square().sum(0) / len(images)).sqrt()


@wrong("effective_field", "frozen")
def freezes_the_weights(model, images):
    model.requires_grad_(False)
    return by_picture(model, images)


@wrong("effective_field", "graph", "could not run")
def graph_thrown_away(model, images):
    x = images.clone().requires_grad_()
    found = [torch.autograd.grad(channel, x)[0] for channel in centre_of(model(x)).sum(0)]
    return torch.stack(found).square().sum((0, 2)).mean(0).sqrt()
