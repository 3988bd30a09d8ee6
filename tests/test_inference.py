"""A class map for any picture in any of the usual forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from samples import SMALL

from segformer_edu import Segformer, inference, segment
from segformer_edu.data import normalize
from segformer_edu.inference import as_image, enlarged_classes, looked_at_size


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
        np.concatenate([array, np.full((45, 70, 1), 255, np.uint8)], axis=-1),
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
        (np.zeros((4, 5, 6)), ValueError, r"\(4, 5, 6\); expected \(H, W, 3\)"),
        (torch.zeros(2, 3, 8, 8), ValueError, r"expected one image"),
        (np.zeros((0, 5, 3)), ValueError, r"\(0, 5, 3\); expected"),
        (torch.zeros(8, 8), ValueError, r"expected one image"),
        (torch.zeros(3, 0, 8), ValueError, r"expected one image"),
        (torch.full((3, 8, 8), 200.0), ValueError, r"from 200 to 200; expected bytes"),
        (torch.full((3, 8, 8), float("nan")), ValueError, "expected bytes"),
        ("/nowhere/a.png", FileNotFoundError, "no picture /nowhere/a.png"),
    ],
)
def test_bad_pictures(model, image, error, message):
    with pytest.raises(error, match=message):
        segment(model, image)


def test_sixteen_bits_and_truths(array):
    colours = as_image(array)
    sixteen = array.astype(np.uint16) * 257
    for form in (sixteen, torch.from_numpy(sixteen).permute(2, 0, 1)):
        torch.testing.assert_close(as_image(form), colours)
    truths = array[..., 0] > 127
    assert torch.equal(as_image(truths)[2], torch.from_numpy(truths).float())


def test_what_is_transparent_lies_over_white(array):
    half = np.concatenate([array, np.full((45, 70, 1), 51, np.uint8)], axis=-1)  # an opacity of 0.2
    torch.testing.assert_close(as_image(half), 0.2 * as_image(array) + 0.8)
    grey = half[..., 2:]  # (45, 70, 2)
    torch.testing.assert_close(as_image(grey), 0.2 * as_image(array[..., 2]) + 0.8)
    by_pillow = as_image(Image.fromarray(half))
    torch.testing.assert_close(by_pillow, as_image(half), atol=1 / 255, rtol=0)  # it rounds to bytes


@pytest.mark.parametrize(
    ("own", "size", "expected"),
    [
        ((45, 70), None, (45, 70)),
        ((768, 1024), None, (768, 1024)),
        ((3000, 4000), None, (768, 1024)),
        ((4000, 3000), None, (1024, 768)),
        ((3000, 4000), 4000, (3000, 4000)),
        ((300, 400), 800, (600, 800)),
        ((300, 400), (512, 512), (512, 512)),
        ((20, 10_000), 640, (32, 640)),
        ((20, 10_000), None, (32, 1024)),
    ],
)
def test_size_that_the_model_looks_at(own, size, expected):
    assert looked_at_size(*own, size) == expected


@pytest.mark.parametrize("size", [0, -1, 2.5, True, (0, 5), (32.0, 32)])
def test_size_that_is_none(model, array, size):
    with pytest.raises((TypeError, ValueError), match="expected a positive whole number"):
        segment(model, array, size=size)


def test_large_picture_is_looked_at_reduced_and_says_so(model, monkeypatch, array, recwarn):
    monkeypatch.setattr(inference, "LONGEST", 64)
    seen = []
    hook = model.register_forward_pre_hook(lambda module, inputs: seen.append(tuple(inputs[0].shape)))
    assert segment(model, array).shape == (45, 70)
    (warning,) = recwarn
    assert "has 45×70 pixels (height, width); the model looks at it in 41×64" in str(warning.message)
    assert "size=70" in str(warning.message)
    assert warning.filename == __file__
    segment(model, array, size=70)
    segment(model, array, size=48)
    segment(model, array[:, :64])
    hook.remove()
    assert seen == [(1, 3, 41, 64), (1, 3, 45, 70), (1, 3, 32, 48), (1, 3, 45, 64)]
    assert len(recwarn) == 1


@pytest.mark.parametrize("at_once", [1, 3000, 7 * 45 * 70, 1 << 26])
def test_classes_are_enlarged_a_few_at_a_time(monkeypatch, at_once):
    """Whatever fits into memory at once, the result is that of all of them."""
    logits = torch.randn(2, 12, 11, 17).round(decimals=1)
    logits[:, 7] = logits[:, 3]  # of equal ones the first counts
    expected = F.interpolate(logits, size=(45, 70), mode="bilinear").argmax(1)
    monkeypatch.setattr(inference, "NUMBERS_AT_ONCE", at_once)
    assert torch.equal(enlarged_classes(logits, (45, 70)), expected)
    assert 7 not in expected


def test_memory_stays_bounded():
    """150 classes at 12 million pixels would be 7 GB at once."""
    seen = []

    def small(x, size, mode):
        seen.append((x.shape[1], size))
        return x[..., :1, :1].expand(-1, -1, *size)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(F, "interpolate", small)
        assert enlarged_classes(torch.zeros(1, 150, 2, 2), (3000, 4000)).shape == (1, 3000, 4000)
    assert sum(classes for classes, _ in seen) == 150
    assert max(classes * height * width * 4 for classes, (height, width) in seen) <= 256 << 20


@pytest.mark.parametrize("size", [(90, 140), (91, 139), (400, 37)])
def test_a_large_map_is_a_smooth_one_copied(monkeypatch, size):
    logits = torch.randn(1, 5, 11, 17)
    exact = enlarged_classes(logits, size)[0]
    monkeypatch.setattr(inference, "SMOOTH_PIXELS", size[0] * size[1] / 4)
    copied = enlarged_classes(logits, size)[0]
    assert copied.shape == size
    half = F.interpolate(logits, size=(round(size[0] / 2), round(size[1] / 2)), mode="bilinear").argmax(1)[0]
    assert torch.equal(copied, F.interpolate(half[None, None].double(), size=size, mode="nearest")[0, 0].long())
    assert (copied == exact).double().mean() > 0.7  # noise, with outlines everywhere


def test_model_of_whole_images_is_refused(array):
    model = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(3, 10))
    with pytest.raises(ValueError, match=r"shape \(1, 10\); expected logits.*whole images.*num_classes"):
        segment(model, array)
