"""A single logit stands for two classes; one word for void everywhere; more than 255 classes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from samples import SMALL
from torchmetrics.functional.classification import binary_confusion_matrix, multiclass_confusion_matrix

from segformer_edu import Segformer, segment
from segformer_edu.data import Augmentation, Shapes
from segformer_edu.training import Recipe, confusion_matrix, evaluate, fit, segmentation_loss

RECIPE = Recipe(steps=2, batch_size=2, warm_up=0, validate_every=2)
QUIET = {"progress": False, "device": "cpu"}


def model(num_classes=4):
    torch.manual_seed(0)
    return Segformer(**SMALL, decoder_dim=16, num_classes=num_classes)


def pairs(classes, change=lambda mask: mask):
    generator = torch.Generator().manual_seed(0)
    return [
        (torch.rand(3, 32, 32, generator=generator), change(torch.randint(0, classes, (32, 32), generator=generator)))
        for _ in range(4)
    ]


def balanced():
    """A model of one logit that answers both yes and no."""
    made = model(1).eval()
    with torch.no_grad():
        made.decoder.to_segmentation[-1].bias -= made(torch.randn(4, 3, 32, 32)).median()
    return made


@pytest.mark.parametrize("change", [lambda mask: mask, lambda mask: mask.bool(), lambda mask: mask.byte()])
def test_one_logit_is_counted_as_torchmetrics_does(change):
    made, data = balanced(), pairs(2, change)
    yes = torch.stack([segment(made, image, probabilities=True)[1] for image, _ in data])
    truth = torch.stack([mask.long() for _, mask in data])
    expected = binary_confusion_matrix(yes, truth)
    assert expected[:, 1].sum() > 100 < expected[:, 0].sum()
    assert torch.equal(evaluate(made, data, progress=False).confusion, expected)


@pytest.mark.parametrize("weights", [None, torch.tensor([0.3, 2.0])])
def test_the_loss_of_one_logit(weights):
    torch.manual_seed(0)
    logits = torch.randn(2, 1, 8, 9, dtype=torch.double, requires_grad=True)
    masks = torch.randint(0, 2, (2, 32, 36))
    masks[0, :5] = 255
    counted = masks != 255
    full = F.interpolate(logits, size=(32, 36), mode="bilinear")[:, 0][counted]
    each = torch.ones(2).double() if weights is None else weights.double()
    losses = F.binary_cross_entropy_with_logits(full, masks[counted].double(), reduction="none")
    expected = (losses * each[masks[counted]]).sum() / each[masks[counted]].sum()
    found = segmentation_loss(logits, masks, class_weights=weights)
    torch.testing.assert_close(found, expected)
    for ours, theirs in zip(torch.autograd.grad(found, logits), torch.autograd.grad(expected, logits)):
        torch.testing.assert_close(ours, theirs)


def test_one_logit_learns():
    data = [(image, mask > 0) for image, mask in (Shapes(16, size=32)[index] for index in range(16))]
    torch.manual_seed(0)
    learner = Segformer(**SMALL | {"dims": (16, 32, 32, 32), "heads": (1, 2, 2, 2)}, decoder_dim=16, num_classes=1)
    fit(learner, data, Recipe(steps=60, batch_size=4, learning_rate=5e-3, warm_up=5), **QUIET)
    scores = evaluate(learner, data, progress=False)
    assert scores.mean_iou > 0.6
    assert scores.absent == []


@pytest.mark.parametrize("classes", [1, 4])
@pytest.mark.parametrize("call", [lambda m, d: fit(m, d, RECIPE, **QUIET), evaluate])
def test_maps_of_0_and_255_are_told(call, classes, recwarn):
    masks = pairs(2, lambda mask: mask * 255)
    empty = [(image, mask * 0) for image, mask in masks]  # these leave it open
    with pytest.warns(UserWarning, match="a batch holds only 0 and 255.*divide by 255"):
        call(model(classes), empty[:2] + masks[:2])
    recwarn.clear()
    call(model(classes), pairs(2))
    call(model(classes), pairs(2, lambda mask: torch.where(torch.rand(mask.shape) < 0.3, 255, mask)))
    assert not recwarn.list


@pytest.mark.parametrize("void", [0, -100, 255, 7, np.int64(7), 10**6])
@pytest.mark.parametrize("augment", [None, Augmentation(zoom=(0.5, 0.7))])
def test_any_number_is_void(void, augment):
    """Class 3 by another name, or class 0 where that is void: the same loss as under the usual number."""
    hidden = 0 if void == 0 else 3
    usual = pairs(4, lambda mask: torch.where(mask == hidden, 255, mask))
    other = pairs(4, lambda mask: torch.where(mask == hidden, int(void), mask))
    expected = fit(model(), usual, RECIPE, augment=augment, **QUIET)
    found = fit(model(), other, RECIPE, augment=augment, ignore_index=void, validation=other, **QUIET)
    assert found.losses == expected.losses
    counted = evaluate(model(), other, ignore_index=void, progress=False).confusion
    assert torch.equal(counted, evaluate(model(), usual, progress=False).confusion)


@pytest.mark.parametrize("augment", [None, Augmentation(zoom=(0.5, 0.7))])
def test_no_void_at_all(augment):
    data = pairs(4)
    found = fit(model(), data, RECIPE, augment=augment, ignore_index=None, validation=data, **QUIET)
    assert found.losses == fit(model(), data, RECIPE, augment=augment, **QUIET).losses
    masks = torch.stack([mask for _, mask in data])
    guess = torch.randint(0, 4, masks.shape)
    expected = multiclass_confusion_matrix(guess, masks, 4)
    assert torch.equal(confusion_matrix(guess, masks, 4, None), expected)
    for wrong in (255, -100):
        bad = pairs(4, lambda mask, wrong=wrong: torch.where(mask == 3, wrong, mask))
        with pytest.raises(ValueError, match=f"hold class {wrong}, .* there is no void"):
            fit(model(), bad, RECIPE, augment=augment, ignore_index=None, **QUIET)


@pytest.mark.parametrize(("void", "given"), [(-100, -100), (65535, 65535), (None, None)])
def test_class_255_is_a_class(void, given):
    data = pairs(300)
    counted = evaluate(model(300), data, ignore_index=given, progress=False).confusion
    truth = torch.stack([mask for _, mask in data])
    assert torch.equal(counted.sum(dim=1), truth.flatten().bincount(minlength=300))
    assert counted[255].sum() > 0
    losses = fit(model(300), data, RECIPE, augment=Augmentation(), ignore_index=given, **QUIET).losses
    assert losses[0] == pytest.approx(np.log(300), abs=0.1)


@pytest.mark.parametrize("call", [lambda m, d: fit(m, d, RECIPE, **QUIET), evaluate])
def test_class_255_and_void_255_are_told_apart(call):
    with pytest.raises(ValueError, match=r"300 classes, of which 255 is one.*ignore_index=-100"):
        call(model(300), pairs(300))
