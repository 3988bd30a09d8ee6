"""A class map for any picture in any of the usual forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from samples import SMALL

from segformer_edu import Segformer, segment
from segformer_edu.data import normalize
from segformer_edu.inference import as_image


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return Segformer(**SMALL, decoder_dim=16)


@pytest.fixture
def array():
    return np.random.default_rng(0).integers(0, 256, (45, 70, 3), dtype=np.uint8)


def test_is_the_upsampled_logits_argmax(model, array):
    image = torch.from_numpy(array).permute(2, 0, 1)[None] / 255
    with torch.no_grad():
        logits = F.interpolate(model.eval()(normalize(image)), size=(45, 70), mode="bilinear", align_corners=False)
    expected = logits.argmax(1)[0]
    assert len(expected.unique()) > 1
    assert torch.equal(segment(model, array), expected)


def test_every_form_gives_the_same(model, array, tmp_path):
    expected = segment(model, array)
    Image.fromarray(array).save(tmp_path / "a.png")
    image = torch.from_numpy(array).permute(2, 0, 1)
    forms = [
        tmp_path / "a.png", str(tmp_path / "a.png"), Image.fromarray(array), array / 255, image, image / 255,
        image[None],
        np.concatenate([array, np.full((45, 70, 1), 9, np.uint8)], axis=-1),
    ]  # fmt: skip
    for form in forms:
        assert torch.equal(segment(model, form), expected)
    assert expected.dtype == torch.int64


def test_grey_is_three_times_the_same(array):
    grey = array[..., 0]
    colour = as_image(np.repeat(grey[..., None], 3, axis=-1))
    for form in (grey, grey[..., None], Image.fromarray(grey)):
        assert torch.equal(as_image(form), colour)


def test_looks_at_another_size(model, array):
    seen = []
    hook = model.register_forward_pre_hook(lambda module, inputs: seen.append(tuple(inputs[0].shape)))
    assert segment(model, array, size=(32, 64)).shape == (45, 70)
    hook.remove()
    assert seen == [(1, 3, 32, 64)]


def test_leaves_the_model_as_it_was(model, array):
    for training in (True, False):
        model.train(training)
        segment(model, array)
        assert model.training is training


@pytest.mark.parametrize(
    ("image", "error", "message"),
    [
        (None, TypeError, "NoneType; expected a path"),
        (np.zeros((4, 5, 2)), ValueError, r"\(4, 5, 2\); expected \(H, W, 3\)"),
        (torch.zeros(2, 3, 8, 8), ValueError, r"expected one image"),
        (torch.zeros(8, 8), ValueError, r"expected one image"),
        (torch.full((3, 8, 8), 200.0), ValueError, r"from 200 to 200; expected bytes"),
        (torch.full((3, 8, 8), float("nan")), ValueError, "expected bytes"),
        ("/nowhere/a.png", FileNotFoundError, "no picture /nowhere/a.png"),
        (np.zeros((8, 8, 3), np.uint8), ValueError, "at least 32"),
    ],
)
def test_bad_pictures(model, image, error, message):
    with pytest.raises(error, match=message):
        segment(model, image)
