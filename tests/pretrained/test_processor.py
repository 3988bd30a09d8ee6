"""preprocessor_config.json: pictures are normalised here as transformers normalises them, or a warning says why not."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
import torch
from published import SMALL, segmenter
from transformers import AutoImageProcessor, SegformerForSemanticSegmentation

import segformer_edu as se
from segformer_edu.data.pictures import IMAGENET_MEAN, IMAGENET_STD, normalize
from segformer_edu.model.logits import statistics_of

FILE = "preprocessor_config.json"
HALF = {"image_mean": [0.5] * 3, "image_std": [0.25] * 3}
SIZES = {"dims": (8, 16, 20, 32), "num_layers": (1, 1, 1, 1), "decoder_dim": 16, "norm_eps": se.NormEps(*[1e-5] * 4)}
OWN = ((0.1, 0.2, 0.3), (0.5, 0.6, 0.7))


@pytest.fixture
def folder(tmp_path):
    segmenter(SMALL).save_pretrained(tmp_path)
    return tmp_path


def write(folder, **told):
    (folder / FILE).write_text(json.dumps({"image_processor_type": "SegformerImageProcessor", **told}))


def loaded(folder):
    """Load without any warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return se.load_pretrained(folder)


def assert_normalised_alike(folder, statistics):
    """Compare the pixels that transformers' processor of a folder makes with those of this library."""
    picture = np.random.default_rng(0).integers(0, 256, (32, 40, 3), dtype=np.uint8)
    theirs = AutoImageProcessor.from_pretrained(folder)(picture, return_tensors="pt", do_resize=False)["pixel_values"]
    ours = normalize(torch.from_numpy(picture).permute(2, 0, 1)[None] / 255, *statistics)
    torch.testing.assert_close(ours, theirs.float(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "told",
    [
        {},
        HALF,
        HALF | {"image_mean": [0.1, 0.2, 0.3]},
        HALF | {"rescale_factor": 2 / 255},
        HALF | {"do_rescale": False},
        {"do_normalize": False},
        {"do_normalize": False, "do_rescale": False},
        {"image_std": [1.0, 1.0, 1.0]},
    ],
    ids=str,
)
def test_as_transformers_normalises(folder, told):
    write(folder, **told)
    assert_normalised_alike(folder, statistics_of(loaded(folder), 3))


@pytest.mark.parametrize("told", [None, {"do_reduce_labels": True}, {"image_mean": list(IMAGENET_MEAN)}])
def test_nothing_but_the_usual(folder, told):
    if told is not None:
        write(folder, **told)
    assert (loaded(folder).image_mean, loaded(folder).image_std) == (None, None)


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        ({"image_mean": [0.5, 0.5]}, "mean has 2 numbers and std 3; expected 3"),
        ({"image_mean": []}, "mean has 0 numbers"),
        ({"image_std": [0, 1, 1]}, "those of std positive"),
        ({"image_std": [0.2, 0.2, -0.2]}, "those of std positive"),
        ({"image_mean": "imagenet"}, "image_mean is 'imagenet'; expected a number"),
        ({"image_mean": ["0.5", "0.5", "0.5"]}, "image_mean is '0.5'; expected a number"),
        ({"image_std": [float("nan")] * 3}, "expected finite numbers"),
        ({"image_mean": [10**400, 0, 0]}, "too large"),
        ({"image_mean": {"r": 0.5}}, "image_mean is {'r': 0.5}; expected a number"),
        ({"rescale_factor": 0}, "rescale_factor is 0.0; expected a positive number"),
        ({"rescale_factor": "1/255"}, "rescale_factor is '1/255'; expected a number"),
    ],
    ids=str,
)
def test_what_cannot_be_taken_is_told(folder, told, reason):
    write(folder, **HALF | told)
    with pytest.warns(UserWarning, match=rf"{FILE} is left out, and pictures are normalised with \(\(0\.485.*{reason}"):
        model = se.load_pretrained(folder)
    assert statistics_of(model, 3) == (IMAGENET_MEAN, IMAGENET_STD)


@pytest.mark.parametrize("text", ["{", "[1]"])
def test_a_file_that_is_no_such_thing(folder, text):
    (folder / FILE).write_text(text)
    with pytest.raises(ValueError, match=r"preprocessor_config\.json (is no JSON|holds a list)"):
        se.load_pretrained(folder)


def test_other_classes_keep_it_and_other_channels_do_not(folder):
    write(folder, **HALF)
    with pytest.warns(UserWarning, match="drawn anew for 3"):
        assert se.load_pretrained(folder, 3).image_mean == (0.5,) * 3
    with pytest.warns(UserWarning, match="takes 3 channels"):
        assert se.load_pretrained(folder, channels=4).image_mean is None


@pytest.mark.parametrize("statistics", [OWN, (None, None)], ids=["own", "ImageNet's"])
def test_saved_for_transformers(tmp_path, statistics):
    model = se.segformer_b0(3, **SIZES)
    model.image_mean, model.image_std = statistics
    se.save_pretrained(model, tmp_path, "huggingface")
    assert_normalised_alike(tmp_path, statistics_of(model, 3))
    assert loaded(tmp_path).config == model.config
    SegformerForSemanticSegmentation.from_pretrained(tmp_path).save_pretrained(tmp_path)  # without our record
    assert (loaded(tmp_path).image_mean, loaded(tmp_path).image_std) == statistics


@pytest.mark.parametrize("statistics", [None, OWN])
def test_saved_with_other_channels(tmp_path, statistics):
    model = se.segformer_b0(3, channels=5, **SIZES)
    if statistics:
        model.image_mean, model.image_std = ((*values, 0.4, 0.4) for values in statistics)
    se.save_pretrained(model, tmp_path, "huggingface")
    assert len(json.loads((tmp_path / FILE).read_text())["image_std"]) == 5
    assert loaded(tmp_path).config == model.config


def test_the_weights_own_record_is_taken(tmp_path):
    model = se.segformer_b0(3, **SIZES)
    model.image_mean, model.image_std = OWN
    se.save_pretrained(model, tmp_path, "huggingface")
    write(tmp_path, **HALF)
    with pytest.warns(UserWarning, match=rf"{FILE} says mean and std \(\(0\.5, .*own record \(\(0\.1, .*is taken"):
        assert se.load_pretrained(tmp_path).image_mean == OWN[0]


def test_this_librarys_form_has_no_such_file(tmp_path):
    """One that lies there is left from another model."""
    write(tmp_path, **HALF)
    model = se.segformer_b0(3, **SIZES)
    se.save_pretrained(model, tmp_path)
    assert loaded(tmp_path).config == model.config
