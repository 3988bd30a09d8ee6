"""Shapes: always the same, different by seed, and no class told by anything but its outline."""

from __future__ import annotations

import math

import pytest
import torch

from segformer_edu.data import Shapes
from segformer_edu.data.shapes import CLASSES, SIDES, inside_polygon


def test_items():
    image, mask = Shapes(3, size=48)[2]
    assert image.shape == (3, 48, 48)
    assert mask.shape == (48, 48)
    assert (image.dtype, mask.dtype) == (torch.float32, torch.int64)
    assert 0 <= image.min() < image.max() <= 1


def test_repeatable_and_different():
    first, again, other = Shapes(5), Shapes(9), Shapes(5, seed=1)
    for index in range(5):
        assert torch.equal(first[index][0], again[index][0])
        assert torch.equal(first[index][1], again[index][1])
        assert not torch.equal(first[index][0], other[index][0])


def test_every_class_is_common():
    data = Shapes(200)
    counts = torch.bincount(torch.cat([mask.flatten() for _, mask in data]), minlength=4)
    assert (counts / counts.sum() > 0.08).all()
    assert len(counts) == len(CLASSES)


@pytest.mark.parametrize("sides", SIDES[1:])
def test_all_outlines_have_the_area_of_the_disc(sides):
    axis = torch.linspace(-1, 1, 801)
    grid = torch.stack(torch.meshgrid(axis, axis, indexing="ij"))
    area = inside_polygon(grid, sides, 0.5, 0.3).double().mean() * 4
    assert area.item() == pytest.approx(math.pi * 0.25, rel=0.01)


def test_stops():
    assert len(list(Shapes(4, size=32))) == 4
    with pytest.raises(IndexError, match="4 is out of range"):
        Shapes(4)[4]


@pytest.mark.parametrize(("arguments", "message"), [({"size": 31}, "at least 32"), ({"length": 0}, "length is 0")])
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        Shapes(**arguments)
