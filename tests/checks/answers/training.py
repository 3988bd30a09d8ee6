"""Answers to the exercises of chapter 7."""

from __future__ import annotations

import math
import random

import numpy as np
import torch
import torch.nn.functional as F
from catalogue import right, right_value, wrong, wrong_value
from einops import rearrange
from torch.utils.checkpoint import checkpoint

from segformer_edu.training import Scores, confusion_matrix
from segformer_edu.training import segmentation_loss as librarys

# 7.1 Right ------------------------------------------------------------------------------------------------------------


def up(logits, masks, mode="bilinear", **options):
    return F.interpolate(logits, size=masks.shape[-2:], mode=mode, **options)


def loss_of(full, masks):
    return F.cross_entropy(full, masks, ignore_index=255, reduction="sum") / (masks != 255).sum().clamp(min=1)


right("segmentation_loss", "the library's")(librarys)


@right("segmentation_loss", "log_softmax and gather")
def by_gather(logits, masks):
    logs = up(logits, masks).log_softmax(1)
    counted = masks != 255
    chosen = logs.gather(1, masks.where(counted, 0)[:, None])[:, 0]
    return -(chosen * counted).sum() / max(int(counted.sum()), 1)


@right("segmentation_loss", "rows of logits, einops, labelled pixels alone")
def by_rows(logits, masks):
    rows, labels = rearrange(up(logits, masks), "b c h w -> (b h w) c"), masks.flatten()
    labelled = labels != 255
    if not labelled.any():
        return logits.sum() * 0
    return F.cross_entropy(rows[labelled], labels[labelled])


@right("segmentation_loss", "transformers' idiom, and a test for void")
def like_transformers(logits, labels):
    upsampled_logits = torch.nn.functional.interpolate(
        logits, size=labels.shape[-2:], mode="bilinear", align_corners=False
    )
    if (labels == 255).all():
        return upsampled_logits.mean() * 0.0
    return torch.nn.CrossEntropyLoss(ignore_index=255)(upsampled_logits, labels)


@right("segmentation_loss", "one hot and logsumexp")
def by_one_hot(logits, masks):
    full, void = up(logits, masks), masks == 255
    truth = F.one_hot(masks.masked_fill(void, 0), full.shape[1]).permute(0, 3, 1, 2)
    losses = torch.logsumexp(full, 1) - (full * truth).sum(1)
    return losses.masked_fill(void, 0).sum() / (~void).sum().clamp_min(1)


@right("segmentation_loss", "log_softmax twice, which changes nothing")
def log_softmax_first(logits, masks):
    return loss_of(up(logits, masks).log_softmax(1), masks)


@right("segmentation_loss", "zero without a graph", remark=True)
def no_graph(logits, masks):
    if (masks == 255).all():
        return torch.zeros((), dtype=logits.dtype)
    return loss_of(up(logits, masks), masks)


# 7.1 Wrong ------------------------------------------------------------------------------------------------------------

small = {"mode": "nearest"}
for kind, answer in {
    "not-enlarged": lambda logits, masks: F.cross_entropy(logits, masks, ignore_index=255),
    "scale-factor": lambda logits, masks: loss_of(F.interpolate(logits, scale_factor=4, mode="bilinear"), masks),
    "corners-aligned": lambda logits, masks: loss_of(up(logits, masks, align_corners=True), masks),
    "softmax-twice": lambda logits, masks: loss_of(up(logits, masks).softmax(1), masks),
    "softmax-before-enlarging": lambda logits, masks: F.nll_loss(
        up(logits.softmax(1), masks).log(), masks, ignore_index=255
    ),
    "sigmoid": lambda logits, masks: loss_of(up(logits, masks).sigmoid(), masks),
    "wrong-axis": lambda logits, masks: F.nll_loss(up(logits, masks).log_softmax(-1), masks, ignore_index=255),
    "axes-not-moved": lambda logits, masks: F.cross_entropy(
        up(logits, masks).reshape(-1, logits.shape[1]), masks.flatten(), ignore_index=255
    ),
    "channels-last": lambda logits, masks: F.cross_entropy(
        up(logits, masks).permute(0, 2, 3, 1), masks, ignore_index=255
    ),
    "other-logarithm": lambda logits, masks: loss_of(up(logits, masks), masks) / math.log(2),
    "labels-smoothed": lambda logits, masks: F.cross_entropy(
        up(logits, masks), masks, ignore_index=255, label_smoothing=0.1
    ),
    "not-averaged": lambda logits, masks: F.cross_entropy(up(logits, masks), masks, ignore_index=255, reduction="none"),
    "summed": lambda logits, masks: F.cross_entropy(up(logits, masks), masks, ignore_index=255, reduction="sum"),
    "void-is-a-class": lambda logits, masks: F.cross_entropy(up(logits, masks), masks),
    "void-as-class": lambda logits, masks: F.cross_entropy(up(logits, masks), masks.masked_fill(masks == 255, 0)),
    "void-in-the-mean": lambda logits, masks: F.cross_entropy(
        up(logits, masks), masks, ignore_index=255, reduction="none"
    ).mean(),
    "nan-when-all-void": lambda logits, masks: F.cross_entropy(up(logits, masks), masks, ignore_index=255),
    "class-ignored": lambda logits, masks: F.cross_entropy(up(logits, masks), masks, ignore_index=0),
    "labels-shifted": lambda logits, masks: F.cross_entropy(
        up(logits, masks), torch.where(masks == 0, 255, masks - 1), ignore_index=255
    ),
    "sign-reversed": lambda logits, masks: -loss_of(up(logits, masks), masks),
    "close-but-not-equal": lambda logits, masks: loss_of(up(logits, masks), masks) * 1.0001,
    "scaled-by-constant": lambda logits, masks: loss_of(up(logits, masks), masks) * 0.5,
    "all-zero": lambda logits, masks: loss_of(up(logits, masks), masks) * 0,
    "wrong-type": lambda logits, masks: loss_of(up(logits, masks), masks).item(),
    "wrong-dtype": lambda logits, masks: loss_of(up(logits, masks).float(), masks),
    "no-gradient": lambda logits, masks: loss_of(up(logits, masks), masks).detach(),
    "no-return": lambda logits, masks: print(loss_of(up(logits, masks), masks)),
    "not-deterministic": lambda logits, masks: loss_of(F.dropout(up(logits, masks), 0.1), masks),
}.items():
    wrong_value("segmentation_loss", kind, answer, "lambda")

for kind, mode in [("nearest-logits", "nearest"), ("nearest-logits", "bicubic")]:
    wrong_value("segmentation_loss", kind, lambda logits, masks, m=mode: loss_of(up(logits, masks, m), masks), mode)


@wrong("segmentation_loss", "scale-factor")
def by_four_and_cut(logits, masks):
    full = F.interpolate(logits, scale_factor=4, mode="bilinear")
    return loss_of(full[:, :, : masks.shape[1], : masks.shape[2]], masks)


@wrong("segmentation_loss", "not-enlarged")
def zeros_around(logits, masks):
    below, beside = (masks.shape[axis] - logits.shape[axis + 1] for axis in (1, 2))
    return loss_of(F.pad(logits, (0, beside, 0, below)), masks)


@wrong("segmentation_loss", "axes-exchanged")
def width_first(logits, masks):
    return loss_of(F.interpolate(logits, size=masks.shape[:0:-1], mode="bilinear"), masks)


@wrong("segmentation_loss", "fails-on-two-classes")
def eleven_classes(logits, masks):
    kept = masks != 255
    truth = F.one_hot(masks.where(kept, 0), 11).permute(0, 3, 1, 2)
    return -(up(logits, masks).log_softmax(1) * truth).sum(1)[kept].sum() / kept.sum().clamp(min=1)


@wrong("segmentation_loss", "class-ignored")
def zero_not_in_the_divisor(logits, masks):
    summed = F.cross_entropy(up(logits, masks), masks, ignore_index=255, reduction="sum")
    return summed / ((masks != 255) & (masks > 0)).sum().clamp(min=1)


@wrong("segmentation_loss", "void-as-class")
def clamped_right_divisor(logits, masks):
    summed = F.cross_entropy(up(logits, masks), masks.clamp(max=logits.shape[1] - 1), reduction="sum")
    return summed / (masks != 255).sum().clamp(min=1)


@wrong("segmentation_loss", "void-as-class")
def zero_right_divisor(logits, masks):
    kept = masks != 255
    return F.cross_entropy(up(logits, masks), masks.where(kept, 0), reduction="sum") / kept.sum().clamp(min=1)


@wrong("segmentation_loss", "masks-shrunk")
def shrinks_nearest(logits, masks):
    masks = F.interpolate(masks[:, None].double(), size=logits.shape[-2:], mode="nearest")[:, 0].long()
    return loss_of(logits, masks)


@wrong("segmentation_loss", "masks-shrunk")
def every_fourth(logits, masks):
    return loss_of(logits, masks[:, ::4, ::4])


@wrong("segmentation_loss", "masks-averaged")
def shrinks_bilinear(logits, masks):
    masks = F.interpolate(masks[:, None].double(), size=logits.shape[-2:], mode="bilinear")[:, 0].long()
    return loss_of(logits, masks)


@wrong("segmentation_loss", "masks-averaged")
def pools(logits, masks):
    masks = F.adaptive_avg_pool2d(masks[:, None].double(), logits.shape[-2:])[:, 0].round().long()
    return loss_of(logits, masks)


@wrong("segmentation_loss", "masks-not-whole", "not yet right")
def float_masks(logits, masks):
    return F.cross_entropy(up(logits, masks), masks.double(), ignore_index=255)


@wrong("segmentation_loss", "softmax-twice")
def softmax_before(logits, masks):
    return loss_of(up(logits.softmax(1), masks), masks)


@wrong("segmentation_loss", "softmax-twice")
def softmax_and_per_picture(logits, masks):
    return F.cross_entropy(up(logits, masks).softmax(dim=1), masks, ignore_index=255)


@wrong("segmentation_loss", "sigmoid")
def binary(logits, masks):
    truth = F.one_hot(masks.masked_fill(masks == 255, 0), logits.shape[1]).permute(0, 3, 1, 2).double()
    return F.binary_cross_entropy_with_logits(up(logits, masks), truth)


@wrong("segmentation_loss", "no-logarithm")
def shares(logits, masks):
    chosen = up(logits, masks).softmax(1).gather(1, masks.where(masks != 255, 0)[:, None])[:, 0]
    return 1 - chosen[masks != 255].mean()


@wrong("segmentation_loss", "no-logarithm")
def nll_of_shares(logits, masks):
    return F.nll_loss(up(logits, masks).softmax(1), masks, ignore_index=255)


@wrong("segmentation_loss", "no-logarithm")
def nll_of_logits(logits, masks):
    return F.nll_loss(up(logits, masks), masks, ignore_index=255)


@wrong("segmentation_loss", "other-loss")
def squares(logits, masks):
    truth = F.one_hot(masks.masked_fill(masks == 255, 0), logits.shape[1]).permute(0, 3, 1, 2)
    return F.mse_loss(up(logits, masks).softmax(1), truth.double())


@wrong("segmentation_loss", "other-loss")
def focal(logits, masks):
    losses = F.cross_entropy(up(logits, masks), masks, ignore_index=255, reduction="none")
    return ((1 - (-losses).exp()) ** 2 * losses).sum() / (masks != 255).sum()


@wrong("segmentation_loss", "classes-weighted")
def balanced(logits, masks):
    losses = F.cross_entropy(up(logits, masks), masks, ignore_index=255, reduction="none")
    return torch.stack([losses[masks == label].mean() for label in masks.unique() if label != 255]).mean()


@wrong("segmentation_loss", "mean-of-means")
def picture_by_picture(logits, masks):
    losses = [F.cross_entropy(up(x[None], y[None]), y[None], ignore_index=255) for x, y in zip(logits, masks)]
    return sum(losses) / len(losses)


@wrong("segmentation_loss", "not-averaged")
def one_a_picture(logits, masks):
    return F.cross_entropy(up(logits, masks), masks, ignore_index=255, reduction="none").mean((1, 2))


@wrong("segmentation_loss", "not-averaged")
def mean_over_classes_too(logits, masks):
    truth = F.one_hot(masks.masked_fill(masks == 255, 0), logits.shape[1]).permute(0, 3, 1, 2)
    return -(truth * up(logits, masks).log_softmax(1)).mean()


@wrong("segmentation_loss", "summed")
def divided_by_the_batch(logits, masks):
    return F.cross_entropy(up(logits, masks), masks, ignore_index=255, reduction="sum") / len(logits)


@wrong("segmentation_loss", "void-as-class")
def clamped(logits, masks):
    return F.cross_entropy(up(logits, masks), masks.clamp(max=logits.shape[1] - 1))


@wrong("segmentation_loss", "void-as-class")
def modulo(logits, masks):
    return F.cross_entropy(up(logits, masks), masks % logits.shape[1])


@wrong("segmentation_loss", "changes-input")
def writes_void(logits, masks):
    counted = masks != 255
    masks[~counted] = 0
    losses = F.cross_entropy(up(logits, masks), masks, reduction="none")
    return (losses * counted).sum() / counted.sum().clamp(min=1)


@wrong("segmentation_loss", "void-is-a-class")
def gathers_void(logits, masks):
    chosen = up(logits, masks).log_softmax(1).gather(1, masks[:, None])[:, 0]
    return -chosen[masks != 255].mean()


@wrong("segmentation_loss", "logarithm-of-zero")
def two_steps(logits, masks):
    counted = masks != 255
    chosen = up(logits, masks).softmax(1).gather(1, masks.where(counted, 0)[:, None])[:, 0]
    return -chosen.log()[counted].sum() / counted.sum().clamp(min=1)


@wrong("segmentation_loss", "logarithm-of-zero")
def with_epsilon(logits, masks):
    counted = masks != 255
    chosen = up(logits, masks).softmax(1).gather(1, masks.where(counted, 0)[:, None])[:, 0]
    return -(chosen + 1e-12).log()[counted].sum() / counted.sum().clamp(min=1)


@wrong("segmentation_loss", "fails-on-two-classes")
def five_classes(logits, masks):
    rows = up(logits, masks).movedim(1, -1).reshape(masks.numel(), 5)
    return loss_of(rows, masks.flatten())


@wrong("segmentation_loss", "wrong-gradient")
def partly_detached(logits, masks):
    full, counted = up(logits, masks), masks != 255
    chosen = full.gather(1, masks.where(counted, 0)[:, None])[:, 0]
    losses = full.detach().logsumexp(1) - chosen
    return losses[counted].sum() / counted.sum().clamp(min=1)


@wrong("segmentation_loss", "all-void-not-zero")
def sure_of_nothing(logits, masks):
    if (masks == 255).all():
        return logits.sum() * 0 + 1
    return loss_of(up(logits, masks), masks)


@wrong("segmentation_loss", "nan-gradient")
def nan_to_num(logits, masks):
    return torch.nan_to_num(F.cross_entropy(up(logits, masks), masks, ignore_index=255) * up(logits, masks).mean() / up(
        logits, masks).mean())  # fmt: skip


wrong_value("segmentation_loss", "not-callable", 0.5)


@wrong("segmentation_loss", "raises", "could not run")
def divides(logits, masks):
    return 1 / 0


@wrong("segmentation_loss", "signature", "could not run")
def one_argument(logits):
    return logits.mean()


@wrong("segmentation_loss", "not-imported", outcome="could not run")
def with_a_layer(logits, masks):
    return loss_of(nn.Upsample(size=masks.shape[-2:], mode="bilinear")(logits), masks)  # noqa: F821


# 7.2 Right ------------------------------------------------------------------------------------------------------------


@right("mean_iou", "the library's")
def with_scores(batches, num_classes):
    return Scores(sum(confusion_matrix(p, t, num_classes) for p, t in batches)).mean_iou


@right("mean_iou", "sets of pixels")
def with_sets(batches, num_classes):
    prediction = torch.cat([p.flatten() for p, _ in batches])
    target = torch.cat([t.flatten() for _, t in batches])
    prediction, target = prediction[target != 255], target[target != 255]
    values = []
    for label in range(num_classes):
        both, either = (target == label) & (prediction == label), (target == label) | (prediction == label)
        if either.any():
            values.append(both.sum() / either.sum().double())
    return torch.stack(values).mean()


@right("mean_iou", "NumPy, columns are the truth")
def with_numpy(batches, num_classes):
    table = np.zeros((num_classes, num_classes), int)
    for p, t in batches:
        keep = (t != 255).numpy()
        np.add.at(table, (p.numpy()[keep], t.numpy()[keep]), 1)
    with np.errstate(invalid="ignore"):
        return np.nanmean(np.diag(table) / (table.sum(0) + table.sum(1) - np.diag(table)))


@right("mean_iou", "mmsegmentation's histograms")
def with_histograms(results, num_classes):
    inter, pred, label = (torch.zeros(num_classes, dtype=torch.float64) for _ in range(3))
    for p, t in results:
        mask = t != 255
        p, t = p[mask], t[mask]
        inter += torch.histc(p[p == t].double(), bins=num_classes, min=0, max=num_classes - 1)
        pred += torch.histc(p.double(), bins=num_classes, min=0, max=num_classes - 1)
        label += torch.histc(t.double(), bins=num_classes, min=0, max=num_classes - 1)
    return float((inter / (pred + label - inter)).nanmean())


@right("mean_iou", "loops over pixels")
def with_loops(batches, num_classes):
    inter, union = [0] * num_classes, [0] * num_classes
    for prediction, target in batches:
        for p, t in zip(prediction.flatten().tolist(), target.flatten().tolist()):
            if t == 255:
                continue
            inter[t] += p == t
            union[t] += 1
            union[p] += p != t
    values = [i / u for i, u in zip(inter, union) if u]
    return sum(values) / len(values)


# 7.2 Wrong ------------------------------------------------------------------------------------------------------------


def table_of(batches, n, ignore=255):
    table = torch.zeros(n, n, dtype=torch.float64)
    for p, t in batches:
        keep = t != ignore
        table += torch.bincount(t[keep] * n + p[keep], minlength=n * n).view(n, n)
    return table


def iou_of(table):
    return table.diag() / (table.sum(0) + table.sum(1) - table.diag())


for kind, answer in {
    "averaged-over-batches": lambda b, n: sum(iou_of(table_of([one], n)).nanmean().nan_to_num() for one in b) / len(b),
    "one-batch-only": lambda b, n: iou_of(table_of(b[-1:], n)).nanmean(),
    "overlap-counted-twice": lambda b, n: (
        (table_of(b, n).diag() / (table_of(b, n).sum(0) + table_of(b, n).sum(1))).nanmean().item()
    ),
    "only-the-truth": lambda b, n: (table_of(b, n).diag() / table_of(b, n).sum(1)).nanmean().item(),
    "only-the-claim": lambda b, n: (table_of(b, n).diag() / table_of(b, n).sum(0)).nanmean().item(),
    "dice": lambda b, n: (2 * table_of(b, n).diag() / (table_of(b, n).sum(0) + table_of(b, n).sum(1))).nanmean().item(),
    "larger-of-the-two": lambda b, n: (
        (table_of(b, n).diag() / torch.maximum(table_of(b, n).sum(0), table_of(b, n).sum(1))).nanmean().item()
    ),
    "absent-is-zero": lambda b, n: iou_of(table_of(b, n)).nan_to_num(0).mean().item(),
    "absent-is-one": lambda b, n: iou_of(table_of(b, n)).nan_to_num(1).mean().item(),
    "absent-spreads": lambda b, n: iou_of(table_of(b, n)).mean().item(),
    "claimed-class-skipped": lambda b, n: iou_of(table_of(b, n))[table_of(b, n).sum(1) > 0].mean().item(),
    "missed-class-skipped": lambda b, n: iou_of(table_of(b, n))[table_of(b, n).sum(0) > 0].mean().item(),
    "accuracy": lambda b, n: (table_of(b, n).diag().sum() / table_of(b, n).sum()).item(),
    "weighted-by-size": lambda b, n: (
        (iou_of(table_of(b, n)).nan_to_num() * table_of(b, n).sum(1)).sum() / table_of(b, n).sum()
    ).item(),
    "first-class-skipped": lambda b, n: iou_of(table_of(b, n))[1:].nanmean().item(),
    "smoothed": lambda b, n: (
        ((table_of(b, n).diag() + 1) / (table_of(b, n).sum(0) + table_of(b, n).sum(1) - table_of(b, n).diag() + 1))
        .mean()
        .item()
    ),
    "last-class-skipped": lambda b, n: iou_of(table_of(b, n))[:-1].nanmean().item(),
    "not-averaged": lambda b, n: iou_of(table_of(b, n)),
    "one-class-only": lambda b, n: iou_of(table_of(b, n)).nan_to_num(0).max().item(),
    "in-per-cent": lambda b, n: 100 * iou_of(table_of(b, n)).nanmean().item(),
    "summed": lambda b, n: iou_of(table_of(b, n)).nansum().item(),
    "no-return": lambda b, n: print(iou_of(table_of(b, n)).nanmean()),
    "wrong-type": lambda b, n: f"{iou_of(table_of(b, n)).nanmean():.3f}",
}.items():
    wrong_value("mean_iou", kind, answer, "lambda")


@wrong("mean_iou", "averaged-over-batches")
def nanmean_of_batches(batches, num_classes):
    return torch.stack([iou_of(table_of([one], num_classes)).nanmean() for one in batches]).nanmean().item()


@wrong("mean_iou", "averaged-over-batches")
def class_by_class_over_batches(batches, num_classes):
    return torch.stack([iou_of(table_of([one], num_classes)) for one in batches]).nanmean(0).nanmean().item()


@wrong("mean_iou", "averaged-over-pictures")
def of_pictures(batches, num_classes):
    single = [(p, t) for ps, ts in batches for p, t in zip(ps, ts)]
    return torch.stack([iou_of(table_of([one], num_classes)).nanmean() for one in single]).nanmean().item()


@wrong("mean_iou", "void-counted")
def void_in_the_union(batches, num_classes):
    prediction, target = torch.cat([p.flatten() for p, _ in batches]), torch.cat([t.flatten() for _, t in batches])
    values = []
    for label in range(num_classes):
        truth, claim = target == label, prediction == label
        if (truth | claim).any():
            values.append((truth & claim).sum().item() / (truth | claim).sum().item())
    return sum(values) / len(values)


@wrong("mean_iou", "void-counted")
def void_in_bincount(batches, num_classes):
    return iou_of(table_of(batches, num_classes, ignore=-1)).nanmean().item()


@wrong("mean_iou", "void-as-class")
def void_is_zero(batches, num_classes):
    return iou_of(table_of([(p, t.where(t != 255, 0)) for p, t in batches], num_classes)).nanmean().item()


@wrong("mean_iou", "minlength")
def no_minlength(batches, num_classes):
    total = 0
    for p, t in batches:
        keep = t != 255
        total = total + torch.bincount(t[keep] * num_classes + p[keep]).view(num_classes, num_classes)
    return iou_of(total.double()).nanmean().item()


@wrong("mean_iou", "absent-spreads")
def divides_by_zero(batches, num_classes):
    table = table_of(batches, num_classes)
    right, union = table.diag().tolist(), (table.sum(0) + table.sum(1) - table.diag()).tolist()
    return sum(r / u for r, u in zip(right, union)) / num_classes


@wrong("mean_iou", "absent-is-zero")
def epsilon(batches, num_classes):
    table = table_of(batches, num_classes)
    return (table.diag() / (table.sum(0) + table.sum(1) - table.diag() + 1e-9)).mean().item()


@wrong("mean_iou", "absent-is-one")
def epsilon_twice(batches, num_classes):
    table = table_of(batches, num_classes)
    return ((table.diag() + 1e-9) / (table.sum(0) + table.sum(1) - table.diag() + 1e-9)).mean().item()


@wrong("mean_iou", "first-class-skipped")
def zero_is_void(batches, num_classes):
    return iou_of(table_of([(p, t.where(t > 0, 255)) for p, t in batches], num_classes)).nanmean().item()


@wrong("mean_iou", "first-picture-only")
def first_picture(batches, num_classes):
    return iou_of(table_of([(p[0], t[0]) for p, t in batches], num_classes)).nanmean().item()


@wrong("mean_iou", "pairs-mixed-up")
def sums_as_pairs(batches, num_classes):
    table = torch.zeros(num_classes, num_classes)
    for p, t in batches:
        pairs = t[t != 255] + p[t != 255]
        table += torch.bincount(pairs, minlength=num_classes**2).view(num_classes, num_classes)
    return iou_of(table.double()).nanmean().item()


KEPT = {}


@wrong("mean_iou", "keeps-state")
def counts_kept(batches, num_classes):
    table = KEPT.setdefault(num_classes, torch.zeros(num_classes, num_classes, dtype=torch.float64))
    table += table_of(batches, num_classes)
    return iou_of(table).nanmean().item()


@wrong("mean_iou", "classes-fixed")
def eleven_for_all(batches, num_classes):
    return iou_of(table_of(batches, 11)).nanmean().item()


def class_by_class(batches, num_classes, own=False, everywhere=False):
    both, either, seen = torch.zeros(3, num_classes, dtype=torch.float64)
    for p, t in batches:
        kept = t != 255
        for label in t[kept].unique().tolist() if own else range(num_classes):
            claim, truth = (p == label) & kept, t == label
            both[label] += (claim & truth).sum()
            either[label] += (claim | truth).sum()
            seen[label] += ((p == label) | truth).sum() if everywhere else (claim | truth).sum()
    return (both / either.clamp(min=1))[seen > 0].mean().item()


right("mean_iou", "class by class, what was seen")(class_by_class)
wrong_value("mean_iou", "claimed-in-another-batch", lambda b, n: class_by_class(b, n, own=True), "own classes")
wrong_value("mean_iou", "claimed-at-void", lambda b, n: class_by_class(b, n, everywhere=True), "seen at void")


@wrong("mean_iou", "changes-input")
def writes(batches, num_classes):
    for p, t in batches:
        p[t == 255] = 255
    return with_scores(batches, num_classes)


@wrong("mean_iou", "raises", "could not run")
def misses(batches, num_classes):
    return batches["prediction"]


# 7.3 Right ------------------------------------------------------------------------------------------------------------


@right("crop_and_flip", "Python's random, slices, padding on all sides")
def with_random(image, mask, size):
    below, beside = max(size - mask.shape[0], 0), max(size - mask.shape[1], 0)
    pad = (beside // 2, beside - beside // 2, below // 2, below - below // 2)
    image, mask = F.pad(image, pad), F.pad(mask, pad, value=255)
    y, x = random.randint(0, mask.shape[0] - size), random.randint(0, mask.shape[1] - size)
    image, mask = image[:, y : y + size, x : x + size], mask[y : y + size, x : x + size]
    return (image.flip(2), mask.flip(1)) if random.random() < 0.5 else (image, mask)


@right("crop_and_flip", "put together, then indexed")
def with_indices(image, mask, size):
    both = torch.cat([image, mask[None].to(image.dtype) - 255])
    canvas = both.new_zeros(len(both), max(size, mask.shape[0]), max(size, mask.shape[1]))
    canvas[:, : mask.shape[0], : mask.shape[1]] = both
    rows, columns = (torch.randint(n - size + 1, (1,)) + torch.arange(size) for n in canvas.shape[1:])
    columns = columns if torch.rand(1) > 0.5 else columns.flip(0)
    piece = canvas[:, rows][:, :, columns]
    return piece[:-1], (piece[-1] + 255).to(mask.dtype)


@right("crop_and_flip", "NumPy, flipped first, a list")
def with_numpy_draws(image, mask, size):
    if np.random.rand() < 0.5:  # noqa: NPY002
        image, mask = torch.flip(image, [-1]), torch.flip(mask, [-1])
    new_image = image.new_zeros(image.shape[0], size, size)
    new_mask = mask.new_full((size, size), 255)
    height, width = mask.shape
    y = np.random.randint(max(height - size, 0) + 1)  # noqa: NPY002
    x = np.random.randint(max(width - size, 0) + 1)  # noqa: NPY002
    h, w = min(size, height), min(size, width)
    new_image[:, :h, :w], new_mask[:h, :w] = image[:, y : y + h, x : x + w], mask[y : y + h, x : x + w]
    return [new_image, new_mask]


@right("crop_and_flip", "narrow, a random place on the canvas")
def with_narrow(image, mask, size):
    more = [max(size - n, 0) for n in mask.shape]
    top, left = (int(torch.randint(0, m + 1, ())) for m in more)
    pad = (left, more[1] - left, top, more[0] - top)
    image, mask = F.pad(image, pad), F.pad(mask, pad, value=255)
    for axis in (0, 1):
        start = int(torch.randint(0, mask.shape[axis] - size + 1, ()))
        image, mask = image.narrow(axis + 1, start, size), mask.narrow(axis, start, size)
    flip = torch.rand(()) < 0.5
    return (torch.fliplr(image.movedim(0, -1)).movedim(-1, 0), torch.fliplr(mask)) if flip else (image, mask)


# 7.3 Wrong ------------------------------------------------------------------------------------------------------------


class Crop:
    """The right answer in steps, which the wrong ones below change."""

    __name__ = "crop"

    def pad(self, image, mask, size):
        border = (0, max(size - mask.shape[1], 0), 0, max(size - mask.shape[0], 0))
        return F.pad(image, border), F.pad(mask, border, value=255)

    def place(self, height, width, size):
        return int(torch.randint(height - size + 1, ())), int(torch.randint(width - size + 1, ()))

    def cut(self, image, mask, size):
        y, x = self.place(*mask.shape, size)
        return image[:, y : y + size, x : x + size], mask[y : y + size, x : x + size]

    def flip(self, image, mask):
        return (image.flip(-1), mask.flip(-1)) if torch.rand(()) < 0.5 else (image, mask)

    def __call__(self, image, mask, size):
        image, mask = self.pad(image, mask, size)
        return self.flip(*self.cut(image, mask, size))


def crop(kind, name, outcome="not yet right", **steps):
    """Announce a wrong answer that differs in these steps."""
    made = type(name, (Crop,), {step: staticmethod(function) for step, function in steps.items()})
    wrong_value("crop_and_flip", kind, made(), name, outcome)


def coin():
    return bool(torch.rand(()) < 0.5)


def resized(image, mask, size, mode="bilinear"):
    return (
        F.interpolate(image[None], size=(size, size), mode="bilinear")[0],
        F.interpolate(mask[None, None].double(), size=(size, size), mode=mode)[0, 0].long(),
    )


def twice(image, mask, size):
    draw = Crop().place
    (y, x), (v, u) = draw(*mask.shape, size), draw(*mask.shape, size)
    return image[:, y : y + size, x : x + size], mask[v : v + size, u : u + size]


def window(image, mask, size, y, x):
    return image[:, y : y + size, x : x + size], mask[y : y + size, x : x + size]


crop("picture-alone-flipped", "picture_flip", flip=lambda i, m: (i.flip(-1), m) if coin() else (i, m))
crop("map-alone-flipped", "map_flip", flip=lambda i, m: (i, m.flip(-1)) if coin() else (i, m))
crop("upside-down", "rows", flip=lambda i, m: (i.flip(1), m.flip(0)) if coin() else (i, m))
crop("upside-down", "map_rows", flip=lambda i, m: (i, m.flip(0)) if coin() else (i, m))
crop("turned", "transposed", flip=lambda i, m: (i.transpose(1, 2), m.T) if coin() else (i, m))
crop("turned", "half_turn_of_the_map", flip=lambda i, m: (i, m.rot90(2)) if coin() else (i, m))
crop("drawn-twice", "two_places", cut=twice)
crop("resized", "both_resized", cut=lambda i, m, s: (i[:, ::2, ::2][:, :s, :s], m[::2, ::2][:s, :s]))
crop("resized", "interpolated", cut=resized)
crop("classes-invented", "map_interpolated", cut=lambda i, m, s: (
    window(i, m, s, 0, 0)[0], resized(i, m.double() + 0.3, s)[1].double() + 0.3))  # fmt: skip
crop("map-became-floats", "floats", flip=lambda i, m: (i, m.double()))
crop(
    "runs-over-the-border", "whole_range", place=lambda h, w, s: (int(torch.randint(h, ())), int(torch.randint(w, ())))
)
crop("runs-over-the-border", "width_for_both", place=lambda h, w, s: (
    int(torch.randint(w - s + 1, ())), int(torch.randint(w - s + 1, ()))))  # fmt: skip
crop("always-the-same", "middle", place=lambda h, w, s: ((h - s) // 2, (w - s) // 2), flip=lambda i, m: (i, m))
crop("place-fixed", "middle_and_flips", place=lambda h, w, s: ((h - s) // 2, (w - s) // 2))
crop("place-fixed", "columns_alone", place=lambda h, w, s: (0, int(torch.randint(w - s + 1, ()))))
crop("a-place-never", "last_left_out", place=lambda h, w, s: (
    int(torch.randint(max(h - s, 1), ())), int(torch.randint(max(w - s, 1), ()))))  # fmt: skip
crop("a-place-never", "height_for_both", place=lambda h, w, s: (
    int(torch.randint(h - s + 1, ())), int(torch.randint(min(h, w) - s + 1, ()))))  # fmt: skip
crop("one-draw-for-both-axes", "square", place=lambda h, w, s: (int(torch.randint(min(h, w) - s + 1, ())),) * 2)
crop("one-draw-for-both-axes", "share", place=lambda h, w, s: (
    lambda share: (int(share * (h - s + 1)), int(share * (w - s + 1))))(float(torch.rand(()))))  # fmt: skip
crop("never-flips", "no_flip", flip=lambda i, m: (i, m))
crop("always-flips", "flip_each", flip=lambda i, m: (i.flip(-1), m.flip(-1)))
crop("flips-not-half", "normal_numbers", flip=lambda i, m: (i.flip(-1), m.flip(-1)) if torch.randn(()) > 1 else (i, m))
crop("small-picture", "no_padding", pad=lambda i, m, s: (i, m))
crop("small-picture", "slices_alone", pad=lambda i, m, s: (i, m), place=lambda h, w, s: (
    int(torch.randint(max(h - s, 0) + 1, ())), int(torch.randint(max(w - s, 0) + 1, ()))))  # fmt: skip
crop("map-padded-with-a-class", "zeros", pad=lambda i, m, s: (Crop().pad(i, m, s)[0], F.pad(
    m, (0, max(s - m.shape[1], 0), 0, max(s - m.shape[0], 0)))))  # fmt: skip
crop("picture-padded-otherwise", "white", pad=lambda i, m, s: (F.pad(
    i, (0, max(s - m.shape[1], 0), 0, max(s - m.shape[0], 0)), value=1.0), Crop().pad(i, m, s)[1]))  # fmt: skip
crop("border-repeated", "replicated", pad=lambda i, m, s: (F.pad(
    i[None], (0, max(s - m.shape[1], 0), 0, max(s - m.shape[0], 0)), mode="replicate")[0],
    Crop().pad(i, m, s)[1]))  # fmt: skip
crop("padded-without-need", "always_padded", pad=lambda i, m, s: (F.pad(i, (2,) * 4), F.pad(m, (2,) * 4, value=255)))
crop("padded-too-much", "both_sides", pad=lambda i, m, s: tuple(
    F.pad(t, (0, max(s - m.shape[1], 0)) + (2 * max(s - m.shape[0], 0),) * 2, value=v)
    for t, v in ((i, 0), (m, 255))))  # fmt: skip
crop("flips-not-half", "two_of_five", flip=lambda i, m: (
    (i.flip(-1), m.flip(-1)) if torch.rand(()) < 0.4 else (i, m)))  # fmt: skip
crop("uneven-chances", "rounded", place=lambda h, w, s: (
    round(torch.rand(()).item() * (h - s)), round(torch.rand(()).item() * (w - s))))  # fmt: skip
crop("uneven-chances", "rounded_rows", place=lambda h, w, s: (
    round(torch.rand(()).item() * (h - s)), int(torch.randint(w - s + 1, ()))))  # fmt: skip
crop("uneven-chances", "mean_of_two", place=lambda h, w, s: (
    int(torch.rand(2).mean() * (h - s + 1)), int(torch.rand(2).mean() * (w - s + 1))))  # fmt: skip
crop("small-one-way", "negative_border", pad=lambda i, m, s: (i, m) if min(m.shape) >= s else tuple(
    F.pad(t, (0, s - m.shape[1], 0, s - m.shape[0]), value=v) for t, v in ((i, 0), (m, 255))))  # fmt: skip


def zeros_below(m, s):
    return 0, max(s - m.shape[1], 0), 0, max(s - m.shape[0], 0)


def zeros_above(m, s):
    return max(s - m.shape[1], 0), 0, max(s - m.shape[0], 0), 0


def stretch(i, m, s):
    size = [max(s, n) for n in m.shape]
    return F.interpolate(i[None], size)[0], F.interpolate(m[None, None].double(), size)[0, 0].long()


def rolled(i, m, s):
    y, x = (int(torch.randint(n, ())) for n in m.shape)
    return i.roll((-y, -x), (1, 2))[:, :s, :s], m.roll((-y, -x), (0, 1))[:s, :s]


def exchanged_in_one(i, m, s):
    y, x = (int(torch.randint(min(m.shape) - s + 1, ())) for _ in range(2))
    return window(i, m, s, x, y)[0], window(i, m, s, y, x)[1]


def blackens(i, m, s):
    i, m = Crop().pad(i, m, s)
    return i.masked_fill(m == 255, 0), m


crop("stretched", "nearest", pad=stretch)
crop("wraps-round", "roll", cut=rolled)
crop("axes-exchanged", "in_the_picture", cut=exchanged_in_one)
crop("void-blackened", "black", pad=blackens)
crop("padded-apart", "two_sides", pad=lambda i, m, s: (
    F.pad(i, zeros_below(m, s)), F.pad(m, zeros_above(m, s), value=255)))  # fmt: skip
crop("picture-padded-otherwise", "mean", pad=lambda i, m, s: (
    F.pad(i, zeros_below(m, s), value=float(i.mean())), F.pad(m, zeros_below(m, s), value=255)))  # fmt: skip
crop("picture-padded-otherwise", "mean_of_each_channel", pad=lambda i, m, s: (
    F.pad(i - i.mean((1, 2), keepdim=True), zeros_below(m, s)) + i.mean((1, 2), keepdim=True),
    F.pad(m, zeros_below(m, s), value=255)))  # fmt: skip
crop("padding-axes", "height_first", pad=lambda i, m, s: tuple(
    F.pad(t, (0, max(s - m.shape[0], 0), 0, max(s - m.shape[1], 0)), value=v) for t, v in ((i, 0), (m, 255))
))  # fmt: skip
crop("first-place-never", "from_one", place=lambda h, w, s: (
    int(torch.randint(min(1, h - s), h - s + 1, ())), int(torch.randint(w - s + 1, ()))))  # fmt: skip


@wrong("crop_and_flip", "flip-tied-to-place")
def one_number(image, mask, size):
    image, mask = Crop().pad(image, mask, size)
    share = float(torch.rand(()))
    y, x = int(share * (mask.shape[0] - size + 1)), int(torch.randint(mask.shape[1] - size + 1, ()))
    image, mask = window(image, mask, size, y, x)
    return (image.flip(-1), mask.flip(-1)) if share < 0.5 else (image, mask)


@wrong("crop_and_flip", "always-the-same")
def seeded(image, mask, size):
    torch.manual_seed(0)
    return Crop()(image, mask, size)


@wrong("crop_and_flip", "not-two-results")
def picture_alone(image, mask, size):
    return Crop()(image, mask, size)[0]


@wrong("crop_and_flip", "not-two-results")
def map_first(image, mask, size):
    return Crop()(image, mask, size)[::-1]


@wrong("crop_and_flip", "wrong-rank")
def as_batch(image, mask, size):
    image, mask = Crop()(image, mask, size)
    return image[None], mask[None]


@wrong("crop_and_flip", "wrong-dtype")
def to_float(image, mask, size):
    image, mask = Crop()(image, mask, size)
    return image.float(), mask


@wrong("crop_and_flip", "no-return")
def forgets(image, mask, size):
    image, mask = Crop()(image, mask, size)


@wrong("crop_and_flip", "changes-input")
def flips_in_place(image, mask, size):
    image.copy_(image.flip(-1))
    mask.copy_(mask.flip(-1))
    return Crop()(image, mask, size)


# 7.4 ------------------------------------------------------------------------------------------------------------------

LOOPS = {
    "A": "stays in evaluation",
    "B": "gradients add up",
    "C": "none",
    "D": "softmax twice",
    "E": "chosen on the test split",
}
right_value("loops", "words", LOOPS)
right_value("loops", "capitals", {letter: word.upper() for letter, word in LOOPS.items()})
right_value("loops", "another order, and spaces", {letter: f" {word} " for letter, word in reversed(LOOPS.items())})
right_value("loops", "None for none", LOOPS | {"C": None})
for kind, letter, word in [
    ("not-the-mode", "A", "none"),
    ("not-the-mode", "A", "chosen on the test split"),
    ("not-the-sums", "B", "none"),
    ("not-the-sums", "B", "stays in evaluation"),
    ("nothing-wrong", "C", "gradients add up"),
    ("nothing-wrong", "C", "stays in evaluation"),
    ("not-the-softmax", "D", "none"),
    ("not-the-choice", "E", "none"),
    ("not-the-choice", "E", "stays in evaluation"),
    ("no-such-word", "E", "overfits"),
]:
    wrong_value("loops", kind, LOOPS | {letter: word}, f"{letter} {word}")

# 7.5 ------------------------------------------------------------------------------------------------------------------


@right("accumulate", "shares of the labelled pixels")
def by_shares(model, images, masks, parts):
    counted = (masks != 255).sum()
    for x, y in zip(images.chunk(parts), masks.chunk(parts)):
        (librarys(model(x), y) * (y != 255).sum() / counted).backward()


@right("accumulate", "sums, tensor_split")
def by_sums(model, images, masks, parts):
    total = (masks != 255).sum().item()
    for x, y in zip(torch.tensor_split(images, parts), torch.tensor_split(masks, parts)):
        full = F.interpolate(model(x), size=y.shape[-2:], mode="bilinear")
        (F.cross_entropy(full, y, ignore_index=255, reduction="sum") / total).backward()


@right("accumulate", "one picture at a time, divided at the end")
def divided_at_the_end(model, images, masks, parts):
    for x, y in zip(images, masks):
        (librarys(model(x[None]), y[None]) * (y != 255).sum()).backward()
    for weight in model.parameters():
        weight.grad /= (masks != 255).sum()
    return model


@right("accumulate", "autograd.grad")
def with_autograd(model, images, masks, parts):
    weights = list(model.parameters())
    sums = [torch.zeros_like(weight) for weight in weights]
    size = math.ceil(len(images) / parts)
    for start in range(0, len(images), size):
        x, y = images[start : start + size], masks[start : start + size]
        found = torch.autograd.grad(librarys(model(x), y), weights)
        for total, gradient in zip(sums, found):
            total += gradient * (y != 255).sum() / (masks != 255).sum()
    for weight, total in zip(weights, sums):
        weight.grad = total


def parts_of(images, masks, parts):
    return zip(images.chunk(parts), masks.chunk(parts))


@wrong("accumulate", "means-averaged")
def averages(model, images, masks, parts):
    for x, y in parts_of(images, masks, parts):
        (librarys(model(x), y) / parts).backward()


@wrong("accumulate", "means-added")
def adds(model, images, masks, parts):
    for x, y in parts_of(images, masks, parts):
        librarys(model(x), y).backward()


@wrong("accumulate", "void-weighs")
def pictures_weigh(model, images, masks, parts):
    for x, y in parts_of(images, masks, parts):
        (librarys(model(x), y) * len(x) / len(images)).backward()


@wrong("accumulate", "divided-by-all-pixels")
def all_pixels(model, images, masks, parts):
    for x, y in parts_of(images, masks, parts):
        (librarys(model(x), y) * (y != 255).sum() / masks.numel()).backward()


@wrong("accumulate", "not-divided")
def sums_alone(model, images, masks, parts):
    for x, y in parts_of(images, masks, parts):
        (librarys(model(x), y) * (y != 255).sum()).backward()


@wrong("accumulate", "whole-at-once")
def whole(model, images, masks, parts):
    librarys(model(images), masks).backward()


@wrong("accumulate", "size-not-number")
def split_into_sizes(model, images, masks, parts):
    for x, y in zip(images.split(parts), masks.split(parts)):
        (librarys(model(x), y) * (y != 255).sum() / (masks != 255).sum()).backward()


@wrong("accumulate", "size-not-number")
def steps_of_parts(model, images, masks, parts):
    for start in range(0, len(images), parts):
        x, y = images[start : start + parts], masks[start : start + parts]
        (librarys(model(x), y) * (y != 255).sum() / (masks != 255).sum()).backward()


@wrong("accumulate", "graphs-kept")
def one_backward(model, images, masks, parts):
    losses = [librarys(model(x), y) * (y != 255).sum() for x, y in parts_of(images, masks, parts)]
    (sum(losses) / (masks != 255).sum()).backward()


@wrong("accumulate", "old-gradients-dropped")
def clears(model, images, masks, parts):
    for x, y in parts_of(images, masks, parts):
        model.zero_grad()
        (librarys(model(x), y) / parts).backward()


@wrong("accumulate", "part-lost")
def rounds_down(model, images, masks, parts):
    size = len(images) // parts
    counted = (masks[: parts * size] != 255).sum()
    for part in range(parts):
        x, y = images[part * size : (part + 1) * size], masks[part * size : (part + 1) * size]
        (librarys(model(x), y) * (y != 255).sum() / counted).backward()


@wrong("accumulate", "takes-a-step")
def steps(model, images, masks, parts):
    by_shares(model, images, masks, parts)
    torch.optim.SGD(model.parameters(), lr=0.1).step()


@wrong("accumulate", "no-backward")
def forwards_alone(model, images, masks, parts):
    return sum(librarys(model(x), y) for x, y in parts_of(images, masks, parts))


@right("accumulate", "PyTorch's mean: NaN times 0 of a void part never reaches a weight")
def means_of_nothing(model, images, masks, parts):
    for x, y in parts_of(images, masks, parts):
        full = F.interpolate(model(x), size=y.shape[-2:], mode="bilinear")
        share = (y != 255).sum() / (masks != 255).sum()
        (F.cross_entropy(full, y, ignore_index=255) * share).backward()


@wrong("accumulate", "sign-reversed")
def climbs(model, images, masks, parts):
    for x, y in parts_of(images, masks, parts):
        (-librarys(model(x), y) * (y != 255).sum() / (masks != 255).sum()).backward()


@wrong("accumulate", "graphs-kept")
def retains(model, images, masks, parts):
    for x, y in parts_of(images, masks, parts):
        loss = librarys(model(x), y) * (y != 255).sum() / (masks != 255).sum()
        loss.backward(retain_graph=True)


@right("accumulate", "a running sum of the losses, for printing")
def adds_losses(model, images, masks, parts):
    total = 0
    for x, y in parts_of(images, masks, parts):
        logits = model(x)
        loss = librarys(logits, y) * (y != 255).sum() / (masks != 255).sum()
        loss.backward()
        total += loss
    return total


@right("accumulate", "checkpoints")
def checkpoints(model, images, masks, parts):
    for x, y in parts_of(images, masks, parts):
        loss = checkpoint(lambda x, y: librarys(model(x), y), x, y, use_reentrant=False)
        (loss * (y != 255).sum() / (masks != 255).sum()).backward()


@wrong("accumulate", "clipped")
def clips_length(model, images, masks, parts):
    by_shares(model, images, masks, parts)
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)


@wrong("accumulate", "clipped")
def clips_numbers(model, images, masks, parts):
    by_shares(model, images, masks, parts)
    torch.nn.utils.clip_grad_value_(model.parameters(), 0.5)


@wrong("accumulate", "rest-in-one-part")
def rest_in_the_last(model, images, masks, parts):
    size = len(images) // parts
    for part in range(parts):
        start, end = part * size, (part + 1) * size if part + 1 < parts else len(images)
        x, y = images[start:end], masks[start:end]
        (librarys(model(x), y) * (y != 255).sum() / (masks != 255).sum()).backward()


@wrong("accumulate", "parts-skipped")
def without_any_void(model, images, masks, parts):
    for x, y in parts_of(images, masks, parts):
        if not (y == 255).any():
            (librarys(model(x), y) * (y != 255).sum() / (masks != 255).sum()).backward()


@right("accumulate", "parts that are void everywhere left out")
def without_void_parts(model, images, masks, parts):
    for x, y in parts_of(images, masks, parts):
        if (y != 255).any():
            (librarys(model(x), y) * (y != 255).sum() / (masks != 255).sum()).backward()


@wrong("accumulate", "parts-skipped")
def returns_early(model, images, masks, parts):
    for x, y in parts_of(images, masks, parts):
        (librarys(model(x), y) * (y != 255).sum() / (masks != 255).sum()).backward()
        return


@wrong("accumulate", "gradients-gone")
def clears_at_the_end(model, images, masks, parts):
    by_shares(model, images, masks, parts)
    model.zero_grad()


@wrong("accumulate", "gradients-gone")
def not_put_down(model, images, masks, parts):
    for x, y in parts_of(images, masks, parts):
        torch.autograd.grad(librarys(model(x), y), list(model.parameters()))


@wrong("accumulate", "no-gradient")
def detaches(model, images, masks, parts):
    for x, y in parts_of(images, masks, parts):
        librarys(model(x).detach().requires_grad_(), y).backward()


@wrong("accumulate", "another-loss")
def at_the_logits_size(model, images, masks, parts):
    for x, y in parts_of(images, masks, parts):
        loss = F.cross_entropy(model(x), y[:, ::4, ::4], ignore_index=255, reduction="sum")
        (loss / (masks != 255).sum()).backward()


@wrong("accumulate", "maps-of-other-pictures")
def backwards_maps(model, images, masks, parts):
    for x, y in zip(images.chunk(parts), masks.chunk(parts)[::-1]):
        (librarys(model(x), y) * (y != 255).sum() / (masks != 255).sum()).backward()


@wrong("accumulate", "graph", "could not run")
def graph_freed(model, images, masks, parts):
    total = 0
    for x, y in parts_of(images, masks, parts):
        total = total + librarys(model(x), y) * (y != 255).sum() / (masks != 255).sum()
        total.backward()


# Warm-ups -------------------------------------------------------------------------------------------------------------

truth, claim = torch.tensor([0, 1, 2, 1, 0, 1]), torch.tensor([0, 1, 1, 1, 0, 0])
table = confusion_matrix(claim, truth, 3)
right_value("confusion", "bincount", table)
right_value("confusion", "one hot", F.one_hot(truth, 3).T @ F.one_hot(claim, 3))
right_value("confusion", "by hand", [[2, 0, 0], [1, 2, 0], [0, 1, 0]])
wrong_value("confusion", "rows-and-columns", table.T)
wrong_value("confusion", "not-a-square", table.flatten())
wrong_value("confusion", "minlength", torch.bincount(truth * 3 + claim))
wrong_value("confusion", "pairs-mixed-up", torch.bincount(truth + claim, minlength=9).view(3, 3))
wrong_value("confusion", "not-counted", torch.zeros(3, 3).index_put_((truth, claim), torch.tensor(1.0)))
wrong_value("confusion", "pairs-mixed-up", torch.bincount(truth * claim, minlength=9).view(3, 3))
wrong_value("confusion", "pairs-mixed-up", torch.bincount(truth * 2 + claim, minlength=9).view(3, 3))
wrong_value("confusion", "pairs-left-out", table.diag().diag())
wrong_value("confusion", "pairs-left-out", table - table.diag().diag())
wrong_value("confusion", "shares", F.normalize(table.double(), p=1))
wrong_value("confusion", "scaled-by-constant", table / 6)

counts = torch.tensor([[4.0, 2, 0], [1, 6, 3], [2, 1, 1]])
right_value("iou from counts", "the library's", Scores(counts).iou)
right_value("iou from counts", "list", [4 / 9, 6 / 13, 1 / 7])
wrong_value("iou from counts", "overlap-counted-twice", counts.diag() / (counts.sum(0) + counts.sum(1)))
wrong_value("iou from counts", "only-the-truth", counts.diag() / counts.sum(1))
wrong_value("iou from counts", "only-the-claim", counts.diag() / counts.sum(0))
wrong_value("iou from counts", "dice", 2 * counts.diag() / (counts.sum(0) + counts.sum(1)))
wrong_value("iou from counts", "one-number", Scores(counts).iou.mean())
wrong_value("iou from counts", "one-number", counts.diag().sum() / counts.sum())
union = counts.sum(0) + counts.sum(1) - counts.diag()
wrong_value("iou from counts", "overlap-not-once", counts.diag() / (union + 2 * counts.diag()))
wrong_value("iou from counts", "overlap-not-once", counts.diag() / (union - counts.diag()))
wrong_value("iou from counts", "one-axis-twice", counts.diag() / (2 * counts.sum(1) - counts.diag()))
wrong_value("iou from counts", "constant-added", counts.diag() / (union + 0.01))
wrong_value("iou from counts", "all-pixels-below", counts.diag() / counts.sum())


# Found by answers that were written from the texts alone --------------------------------------------------------------


@wrong("mean_iou", "summed-before-dividing")
def one_fraction_for_all(batches, num_classes):
    table = sum(confusion_matrix(prediction, truth, num_classes) for prediction, truth in batches).double()
    union = table.sum(0) + table.sum(1) - table.diag()
    return (table.diag().sum() / union.sum()).item()


TURNS = iter(range(10**6))


@wrong("crop_and_flip", "flips-in-turn")
def in_turn(image, mask, size):
    height, width = mask.shape
    border = (0, max(size - width, 0), 0, max(size - height, 0))
    image, mask = F.pad(image, border), F.pad(mask, border, value=255)
    top, left = random.randint(0, mask.shape[0] - size), random.randint(0, mask.shape[1] - size)
    image, mask = image[:, top : top + size, left : left + size], mask[top : top + size, left : left + size]
    return (image.flip(-1), mask.flip(-1)) if next(TURNS) % 2 else (image, mask)


@wrong("accumulate", "mode-changed")
def in_evaluation(model, images, masks, parts):
    model.eval()
    for x, y in zip(images.chunk(parts), masks.chunk(parts)):
        (librarys(model(x), y) * (y != 255).sum() / (masks != 255).sum()).backward()


@wrong("accumulate", "part-lost")
def lost_but_divided_by_all(model, images, masks, parts):
    size = len(images) // parts
    for part in range(parts):
        x, y = images[part * size : (part + 1) * size], masks[part * size : (part + 1) * size]
        (librarys(model(x), y) * (y != 255).sum() / (masks != 255).sum()).backward()


@wrong("accumulate", "graph", outcome="could not run")
@torch.no_grad()
def without_gradients(model, images, masks, parts):
    for x, y in zip(images.chunk(parts), masks.chunk(parts)):
        (librarys(model(x), y) * (y != 255).sum() / (masks != 255).sum()).backward()


@right("accumulate", "decorated")
@torch.enable_grad()
def decorated(model, images, masks, parts):
    for x, y in zip(images.chunk(parts), masks.chunk(parts)):
        (librarys(model(x), y) * (y != 255).sum() / (masks != 255).sum()).backward()
