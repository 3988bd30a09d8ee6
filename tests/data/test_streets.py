"""Drawn streets: always the same, different by index, with every class of CamVid and perspective as it should be."""

from __future__ import annotations

import pytest
import torch

from segformer_edu.data.camvid import CLASSES
from segformer_edu.data.streets import drawn_street

NAMES = list(CLASSES)


def test_items():
    image, mask = drawn_street(3, size=(60, 80))
    assert image.shape == (3, 60, 80)
    assert mask.shape == (60, 80)
    assert (image.dtype, mask.dtype) == (torch.float32, torch.int64)
    assert 0 <= image.min() < image.max() <= 1


def test_repeatable_and_different():
    before = torch.get_rng_state()
    first, again, other = drawn_street(0), drawn_street(0), drawn_street(1)
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[1], other[1])
    assert torch.equal(torch.get_rng_state(), before)


def test_every_class_is_drawn():
    """In the twelve streets that chapter 12 looks at."""
    pixels = torch.stack([drawn_street(index)[1] for index in range(12)]).flatten().bincount(minlength=len(NAMES))
    assert len(pixels) == len(NAMES)
    assert pixels.min() > 100


def test_sky_is_above_and_road_below():
    for index in range(5):
        _, mask = drawn_street(index)
        heights = [(mask == NAMES.index(name)).nonzero()[:, 0].double().mean() for name in ("sky", "building", "road")]
        assert heights == sorted(heights)


@pytest.mark.parametrize("size", [(0, 480), (360, 48.5)])
def test_bad_sizes(size):
    with pytest.raises((TypeError, ValueError), match=r"height|width"):
        drawn_street(0, size)
