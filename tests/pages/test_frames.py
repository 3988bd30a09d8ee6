"""The frames that travel with the library: real pictures, with class maps that fit them."""

from __future__ import annotations

import pytest
import torch

from segformer_edu.data import VOID
from segformer_edu.data.camvid import CLASSES
from segformer_edu.pages import frames


@pytest.mark.parametrize("number", range(len(frames.NAMES)))
def test_street_has_a_class_map_of_its_size(number):
    image, mask = frames.street(number)
    assert image.shape == (3, 360, 480)
    assert mask.shape == (360, 480)
    assert image.min() >= 0
    assert 0.2 < image.max() <= 1
    labels = set(mask.unique().tolist())
    assert VOID in labels
    assert labels - {VOID} <= set(range(len(CLASSES)))
    names = list(CLASSES)
    colours = {name: image[:, mask == names.index(name)].mean() for name in ("sky", "road")}
    assert colours["sky"] > colours["road"] + 0.2  # the map belongs to the picture


def test_streets_differ():
    assert not torch.equal(frames.street(0)[0], frames.street(1)[0])


@pytest.mark.parametrize("number", [-1, 3])
def test_another_number_is_refused(number):
    with pytest.raises(IndexError, match=rf"no street {number}; expected a number from 0 to 2"):
        frames.street(number)


def test_frames_are_credited():
    assert "Brostow" in (frames.FOLDER / "CREDITS.md").read_text()
