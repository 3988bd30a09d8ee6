"""The loss is PyTorch's, weighted or not, whatever the types; and any other may be given."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from samples import SMALL
from torch import nn

from segformer_edu import Segformer
from segformer_edu.data import Augmentation
from segformer_edu.training import Recipe, fit, segmentation_loss

RECIPE = Recipe(steps=2, batch_size=2, warm_up=0)
QUIET = {"progress": False, "device": "cpu"}


def model(num_classes=4):
    torch.manual_seed(0)
    return Segformer(**SMALL, decoder_dim=16, num_classes=num_classes)


@pytest.fixture
def pairs():
    generator = torch.Generator().manual_seed(0)
    masks = torch.randint(0, 4, (4, 32, 32), generator=generator)
    return [(torch.rand(3, 32, 32, generator=generator), torch.where(mask == 3, 255, mask)) for mask in masks]


@pytest.fixture
def logits():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 4, 8, 9, dtype=torch.double, generator=generator).requires_grad_()


def masks():
    drawn = torch.randint(0, 4, (2, 32, 36), generator=torch.Generator().manual_seed(0))
    drawn[0, :5] = 255
    return drawn


@pytest.mark.parametrize("weights", [None, (1, 2, 3, 4), (0, 1, 0, 2), (1e-3, 1, 1, 1e3)])
def test_is_pytorchs_in_value_and_gradient(logits, weights):
    weights = None if weights is None else torch.tensor(weights, dtype=torch.double)
    full = F.interpolate(logits, size=(32, 36), mode="bilinear")
    expected = F.cross_entropy(full, masks(), weight=weights, ignore_index=255)
    found = segmentation_loss(logits, masks(), class_weights=weights)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(torch.autograd.grad(found, logits), torch.autograd.grad(expected, logits))


@pytest.mark.parametrize("kind", [torch.uint8, torch.int16, torch.int32, torch.uint16])
def test_masks_of_every_whole_type(logits, kind):
    assert segmentation_loss(logits, masks().to(kind)) == segmentation_loss(logits, masks())
    assert segmentation_loss(logits, masks().clamp(max=3).to(kind), -100) > 1


@pytest.mark.parametrize("wrong", [masks().float(), masks()[:, None], masks()[0], masks()[:1]])
def test_other_masks(logits, wrong):
    with pytest.raises(TypeError, match=r"expected class numbers, whole ones, of shape \(2, H, W\)"):
        segmentation_loss(logits, wrong)


@pytest.mark.parametrize("form", [list, tuple, np.array, torch.tensor, lambda w: torch.tensor(w).double()])
def test_class_weights_of_every_form(pairs, form):
    numbers = [1.0, 2.0, 3.0, 4.0]
    expected = fit(model(), pairs, RECIPE, loss=nn.CrossEntropyLoss(torch.tensor(numbers), ignore_index=255), **QUIET)
    assert expected.losses != pytest.approx(fit(model(), pairs, RECIPE, **QUIET).losses)
    assert fit(model(), pairs, RECIPE, class_weights=form(numbers), **QUIET).losses == pytest.approx(expected.losses)


@pytest.mark.parametrize(
    ("weights", "error"),
    [([1, 2], ValueError), ([1, -1, 1, 1], ValueError), ([0] * 4, ValueError), ([1, torch.nan, 1, 1], ValueError),
     (3, ValueError), ([[1] * 4], ValueError), ({0: 1.0}, TypeError), ("balanced", TypeError), ([None] * 4, TypeError)],
)  # fmt: skip
def test_class_weights_that_are_none(pairs, weights, error):
    with pytest.raises(error, match=r"class_weights .*expected .*(one a class|one number a class)"):
        fit(model(), pairs, RECIPE, class_weights=weights, **QUIET)


class Dice(nn.Module):
    def forward(self, logits, masks):
        counted = masks != 255
        truth = F.one_hot(masks.where(counted, 0), logits.shape[1]).permute(0, 3, 1, 2) * counted[:, None]
        guess = logits.softmax(1) * counted[:, None]
        return 1 - (2 * (guess * truth).sum((0, 2, 3)) / (guess + truth).sum((0, 2, 3))).mean()


def test_any_loss(pairs):
    default = fit(model(), pairs, RECIPE, **QUIET).losses
    assert fit(model(), pairs, RECIPE, loss=nn.CrossEntropyLoss(ignore_index=255), **QUIET).losses == default
    learner, before = model(), model().state_dict()
    assert 0.5 < fit(learner, pairs, RECIPE, loss=Dice(), **QUIET).losses[0] < 1
    assert any(not torch.equal(weight, before[name]) for name, weight in learner.state_dict().items())


@pytest.mark.parametrize(
    "loss",
    [nn.CrossEntropyLoss(ignore_index=255, reduction="none"), lambda logits, masks: 1.0, lambda logits, masks: None,
     lambda logits, masks: torch.tensor(1.0), lambda logits, masks: logits.detach().sum()],
)  # fmt: skip
def test_losses_that_lead_nowhere(pairs, loss):
    with pytest.raises(TypeError, match=r"(?s)loss returned .*expected one number to go downhill on"):
        fit(model(), pairs, RECIPE, loss=loss, **QUIET)


def test_a_loss_with_another_void(pairs):
    with pytest.raises(ValueError, match=r"ignore_index=-100, .* 255 here; .*CrossEntropyLoss\(ignore_index=255\)"):
        fit(model(), pairs, RECIPE, loss=nn.CrossEntropyLoss(), **QUIET)
    without = [(image, mask.clamp(max=3)) for image, mask in pairs]
    options = {"ignore_index": None, "augment": Augmentation(zoom=(0.5, 0.6)), **QUIET}  # -100 comes into view
    found = fit(model(), without, RECIPE, loss=nn.CrossEntropyLoss(), **options).losses
    assert found == pytest.approx(fit(model(), without, RECIPE, **options).losses)


def test_arguments_that_exclude_each_other_or_cannot_be_called(pairs):
    with pytest.raises(ValueError, match="loss and class_weights are both given"):
        fit(model(), pairs, RECIPE, loss=Dice(), class_weights=[1] * 4, **QUIET)
    for name in ("loss", "augment", "on_step"):
        with pytest.raises(TypeError, match=f"{name} is 'dice'; expected a function"):
            fit(model(), pairs, RECIPE, **{name: "dice"}, **QUIET)


@pytest.mark.parametrize(
    ("augment", "message"),
    [
        (lambda images, masks, generator: None, "augment returned a NoneType"),
        (lambda images, masks, generator: ((images - 0.5) / 0.25, masks), "don't normalise"),
        (lambda images, masks, generator: (images * 255, masks), "divide by 255"),
        (lambda images, masks, generator: (images, masks.float()), "expected whole numbers"),
        (lambda images, masks, generator: (images[..., :32, :16], masks), "its class map"),
    ],
)
def test_augmentations_of_ones_own_are_checked(pairs, augment, message):
    with pytest.raises((TypeError, ValueError), match=message):
        fit(model(), pairs, RECIPE, augment=augment, **QUIET)


def test_an_augmentation_of_ones_own_may_change_types_and_classes(pairs):
    def bytes_of(images, masks, generator):
        return (images * 255).round().byte(), masks.byte()

    plain = fit(model(), pairs, RECIPE, augment=lambda images, masks, generator: (images, masks), **QUIET).losses
    assert fit(model(), pairs, RECIPE, augment=bytes_of, **QUIET).losses == pytest.approx(plain, abs=1e-3)
    joined = fit(
        model(2), [(i, m.clamp(max=3)) for i, m in pairs], RECIPE, augment=lambda i, m, g: (i, m // 2), **QUIET
    )
    assert all(0 < loss < 2 for loss in joined.losses)
