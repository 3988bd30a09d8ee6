"""Augmentation: picture and class map move together, and what comes into view is void."""

from __future__ import annotations

import pytest
import torch

from segformer_edu.data import VOID, Augmentation, Shapes, normalize


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def batch(size=32, count=6):
    items = [Shapes(count, size=size)[index] for index in range(count)]
    return torch.stack([image for image, _ in items]), torch.stack([mask for _, mask in items])


def test_nothing_to_do_changes_nothing():
    images, masks = batch()
    moved, labels = Augmentation(zoom=(1, 1), flip=0, light=0)(images, masks, seeded())
    torch.testing.assert_close(moved, images, atol=1e-5, rtol=0)
    assert torch.equal(labels, masks)


def test_one_zoom_is_both():
    assert Augmentation(zoom=1.5) == Augmentation(zoom=[1.5, 1.5]) == Augmentation(zoom=(1.5, 1.5))


@pytest.mark.parametrize("zoom", [0, -1.0, (0, 1), (1,), None, "1", (1, None), float("nan")])
def test_zooms_that_are_none(zoom):
    with pytest.raises((TypeError, ValueError), match=r"zoom is .*; expected two positive numbers"):
        Augmentation(zoom=zoom)


def test_flip_mirrors_both():
    images, masks = batch()
    moved, labels = Augmentation(zoom=(1, 1), flip=1, light=0)(images, masks, seeded())
    torch.testing.assert_close(moved, images.flip(-1), atol=1e-5, rtol=0)
    assert torch.equal(labels, masks.flip(-1))


def test_picture_and_map_move_together():
    """A class map painted as a picture has to land where the class map lands."""
    _, masks = batch(size=64)
    painted = (masks[:, None] / 3).expand(-1, 3, -1, -1)
    moved, labels = Augmentation(light=0)(painted, masks, seeded())
    seen = labels != VOID
    agree = ((moved[:, 0] * 3).round() == labels)[seen].double().mean()
    assert agree > 0.93  # all but the pixels that bilinear sampling blends at the outlines


def test_outside_is_void():
    images, masks = batch()
    moved, labels = Augmentation(zoom=(0.5, 0.5), flip=0, light=0)(images, masks, seeded())
    assert 0.70 < (labels == VOID).double().mean() < 0.80  # three quarters of the view
    assert moved[:, 0][labels == VOID].abs().mean() < 0.05
    inside = Augmentation(zoom=(1, 2), flip=0.5, light=0)(images, masks, seeded())[1]
    assert not (inside == VOID).any()


def test_repeatable():
    images, masks = batch()
    first, again = (Augmentation()(images, masks, seeded(3)) for _ in range(2))
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[0], Augmentation()(images, masks, seeded(4))[0])


def test_normalize_is_imagenets():
    grey = torch.full((2, 3, 4, 4), 0.5)
    expected = torch.tensor([(0.5 - 0.485) / 0.229, (0.5 - 0.456) / 0.224, (0.5 - 0.406) / 0.225])
    torch.testing.assert_close(normalize(grey)[1, :, 2, 3], expected)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("numbers", [torch.int64, torch.int32, torch.uint16])
def test_class_numbers_are_exact_in_every_type(kind, numbers):
    """A bfloat16 has no 257."""
    images, _ = batch()
    masks = torch.randint(0, 60_000, (6, 32, 32))
    expected = Augmentation()(images, masks, seeded(), 65_535)
    moved, labels = Augmentation()(images.to(kind), masks.to(numbers), seeded(), 65_535)
    assert torch.equal(labels, expected[1]) or kind == torch.float64  # which rounds other pixels
    assert set(labels.unique().tolist()) <= {*masks.unique().tolist(), 65_535}
    torch.testing.assert_close(moved.float(), expected[0], atol=1e-2, rtol=0)


def test_bytes_with_another_void_keep_their_classes():
    images, masks = batch()
    labels = Augmentation(zoom=(0.5, 0.5))(images, masks.byte(), seeded(), -100)[1]
    assert torch.equal(labels, Augmentation(zoom=(0.5, 0.5))(images, masks, seeded(), -100)[1])
    assert set(labels.unique().tolist()) == {-100, 0, 1, 2, 3}


def test_pictures_of_bytes():
    with pytest.raises(TypeError, match=r"torch.uint8; expected floats.*images.float\(\) / 255"):
        Augmentation()(torch.zeros(2, 3, 8, 8, dtype=torch.uint8), torch.zeros(2, 8, 8).long(), seeded())
