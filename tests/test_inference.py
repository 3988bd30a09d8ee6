"""A class map for any picture in any of the usual forms."""

from __future__ import annotations

import io
import pickle

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from samples import SMALL

from segformer_edu import Segformer, inference, segment
from segformer_edu.data import Shapes, normalize
from segformer_edu.inference import as_image, enlarged_classes, looked_at_size
from segformer_edu.training import Recipe, fit


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
    assert torch.equal(copied, F.interpolate(half[None, None].double(), size=size, mode="nearest-exact")[0, 0].long())
    assert (copied == exact).double().mean() > 0.7  # noise, with outlines everywhere


def test_model_of_whole_images_is_refused(array):
    model = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(3, 10))
    with pytest.raises(ValueError, match=r"shape \(1, 10\); expected logits.*whole images.*num_classes"):
        segment(model, array)


def test_results_are_ordinary_tensors(model, array):
    for found in (segment(model, array), segment(model, array, probabilities=True)):
        found[found == 2] = 0
        found += found.clone()
        assert not found.is_inference()
        assert pickle.loads(pickle.dumps(found)).equal(found)
        assert found.view(-1).shape == (found.numel(),)
    weight = torch.ones((), requires_grad=True)
    (weight * segment(model, array, probabilities=True)).sum().backward()
    assert weight.grad == pytest.approx(45 * 70)


def test_probabilities_are_the_enlarged_logits_softmax(model, array):
    image = torch.from_numpy(array).permute(2, 0, 1)[None] / 255
    with torch.no_grad():
        logits = F.interpolate(model.eval()(normalize(image)), size=(45, 70), mode="bilinear")[0]
    found = segment(model, array, probabilities=True)
    torch.testing.assert_close(found, logits.softmax(0))
    torch.testing.assert_close(found.sum(0), torch.ones(45, 70))
    assert torch.equal(found.argmax(0), segment(model, array))


def test_bytes_open_files_and_several_pictures(model, array, tmp_path):
    expected = segment(model, array)
    Image.fromarray(array).save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    with open(tmp_path / "a.png", "rb") as file:
        found = segment(model, [content, io.BytesIO(content), file, array, tmp_path / "a.png"])
    assert len(found) == 5
    assert all(torch.equal(each, expected) for each in found)
    assert segment(model, []) == []
    both = segment(model, (array, array[:40]), probabilities=True)
    assert [tuple(each.shape) for each in both] == [(4, 45, 70), (4, 40, 70)]


@pytest.mark.parametrize("size", [(1, 1), (16, 16), (5, 900), (31, 200)])
def test_small_pictures_are_enlarged_and_it_is_said(model, size):
    for options in ({}, {"window": 64}):
        with pytest.warns(UserWarning, match=f"has {size[0]}×{size[1]} pixels.*32 is the least"):
            assert segment(model, torch.rand(3, *size), **options).shape == size


@pytest.mark.parametrize("size", [(32,), (1, 2, 3), []])
def test_sizes_of_other_lengths(model, array, size):
    with pytest.raises(ValueError, match=r"expected \(height, width\), or one number"):
        segment(model, array, size=size)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"window": 31}, ValueError, "at least 32 pixels"),
        ({"window": (64, 64, 64)}, ValueError, r"expected \(height, width\)"),
        ({"window": "64"}, TypeError, "expected a positive whole number"),
        ({"window": 32, "overlap": 1}, ValueError, "overlap is 1; expected a fraction"),
        ({"window": 32, "overlap": -0.1}, ValueError, "overlap is -0.1"),
    ],
)
def test_windows_that_are_none(model, array, options, error, message):
    with pytest.raises(error, match=message):
        segment(model, array, **options)


class Mean(torch.nn.Module):
    """Each logit is the mean of the pixels that it stands for: parts of a picture give what the whole gives."""

    def __init__(self, side):
        super().__init__()
        self.side, self.seen = side, []

    def forward(self, x):
        self.seen.append(tuple(x.shape[-2:]))
        return F.avg_pool2d(x, self.side, ceil_mode=True) if self.side > 1 else x


@pytest.mark.parametrize("side", [1, 2, 4])
@pytest.mark.parametrize("overlap", [0, 1 / 3, 0.9])
def test_windows_of_a_local_model_give_what_the_whole_gives(side, overlap):
    picture = torch.rand(3, 96, 120)
    whole, parts = Mean(side), Mean(side)
    expected = segment(whole, picture, probabilities=True)
    found = segment(parts, picture, window=(40, 64), overlap=overlap, probabilities=True)
    assert whole.seen == [(96, 120)]
    assert set(parts.seen) == {(40, 64)}
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def slide(model, picture, window, overlap):
    """Enlarge each part's logits to the part's size, average, take the largest: mmsegmentation's slide mode."""
    sides = picture.shape[-2:]
    corners = []
    for side, part in zip(sides, window):
        step = int(part * (1 - overlap))
        starts = range(0, max(side - part + step - 1, 0) // step * step + 1, step)
        corners.append([min(start, side - part) for start in starts])
    total, count = torch.zeros(4, *sides), torch.zeros(sides)
    for top in corners[0]:
        for left in corners[1]:
            place = ..., slice(top, top + window[0]), slice(left, left + window[1])
            with torch.no_grad():
                logits = model(normalize(picture[place])[None])
            total[place] += F.interpolate(logits, size=window, mode="bilinear")[0]
            count[place] += 1
    return (total / count).argmax(0)


@pytest.fixture(scope="module")
def trained():
    """A model whose outlines are where the shapes' are."""
    torch.manual_seed(0)
    learner = Segformer(**SMALL | {"dims": (16, 32, 32, 32), "heads": (1, 2, 2, 2)}, decoder_dim=16)
    fit(learner, Shapes(256, size=64), Recipe(steps=60, batch_size=8, learning_rate=5e-3), progress=False, device="cpu")
    return learner.eval()


def tiles(rows, columns):
    items = [Shapes(rows * columns, size=64, seed=3)[index] for index in range(rows * columns)]
    picture, mask = ([item[part] for item in items] for part in (0, 1))
    lines = range(0, rows * columns, columns)
    return (torch.cat([torch.cat(each[line : line + columns], -1) for line in lines], -2) for each in (picture, mask))


@pytest.mark.parametrize("size", [(128, 192), (127, 189), (125, 161)])
@pytest.mark.parametrize("overlap", [0, 0.5])
def test_windows_are_close_to_mmsegmentations(trained, size, overlap):
    picture, mask = tiles(2, 3)
    picture, mask = picture[:, : size[0], : size[1]], mask[: size[0], : size[1]]
    found, expected = segment(trained, picture, window=64, overlap=overlap), slide(trained, picture, (64, 64), overlap)
    assert (found == expected).double().mean() > 0.95
    assert (found == mask).double().mean() > (expected == mask).double().mean() - 0.02  # as right, at odd sizes too


@pytest.mark.parametrize("size", [(64, 96), (61, 90), (33, 35)])
@pytest.mark.parametrize("window", [96, (64, 100)])
def test_a_window_that_covers_the_picture_is_the_picture(model, size, window):
    picture = torch.rand(3, *size)
    assert torch.equal(segment(model, picture, window=window), segment(model, picture))


def test_a_window_looks_at_a_large_picture_in_its_own_size(model, monkeypatch, recwarn):
    monkeypatch.setattr(inference, "LONGEST", 64)
    seen = []
    hook = model.register_forward_pre_hook(lambda module, inputs: seen.append(tuple(inputs[0].shape[-2:])))
    assert segment(model, torch.rand(3, 90, 130), window=64).shape == (90, 130)
    assert set(seen) == {(64, 64)}
    assert len(seen) == 2 * 3
    seen.clear()
    assert segment(model, torch.rand(3, 90, 130), window=32, size=(45, 65), overlap=0).shape == (90, 130)
    hook.remove()
    assert seen == [(32, 32)] * 6
    assert not recwarn.list


def test_channels_of_a_model_that_does_not_say():
    assert segment(torch.nn.Conv2d(3, 2, 1), torch.rand(3, 40, 50)).shape == (40, 50)
    with pytest.warns(UserWarning, match="pictures of 4 channels"):
        assert segment(torch.nn.Conv2d(4, 2, 1), torch.rand(4, 40, 50)).shape == (40, 50)
    with pytest.raises(ValueError, match=r"\(40, 50, 3\); expected one image"):
        segment(torch.nn.Conv2d(3, 2, 1), torch.rand(40, 50, 3))


def test_a_model_without_parameters():
    picture = torch.rand(3, 40, 50)
    assert torch.equal(segment(torch.nn.Identity(), picture), normalize(picture).argmax(0))
