"""Segformer against PyPI's segformer-pytorch 0.0.6, weights converted: logits, and the gradient of every parameter."""

from __future__ import annotations

import random
from importlib.metadata import version

import pytest
import segformer_pytorch
import torch
from samples import noise, shaken

import segformer_edu as se

TOLERANCE = 1e-5
CONFIGURATIONS = 24


def random_case(seed: int) -> tuple[dict, tuple[int, int, int]]:
    """Arguments of Segformer and (batch, height, width), sides multiples of 32, every cell with room in its stage.

    At least 4 channels: normalising 2 is close to a sign function, and there the package's own single-precision
    gradients are 1.1e-5 (of the largest) away from its double-precision ones, this library's 2.7e-6.
    """
    draw = random.Random(seed)
    heads = tuple(draw.randint(1, 5) for _ in range(4))
    height, width = (32 * draw.randint(1, 5) for _ in range(2))
    shortest = min(height, width)
    configuration = {
        "dims": tuple(count * draw.randint(4, 12) for count in heads),
        "heads": heads,
        "ff_expansion": tuple(draw.randint(1, 8) for _ in range(4)),
        "reduction_ratio": tuple(draw.randint(1, min(8, shortest // stride)) for stride in (4, 8, 16, 32)),
        "num_layers": draw.choice([1, 2, 3, tuple(draw.randint(1, 3) for _ in range(4))]),
        "channels": draw.randint(1, 4),
        "decoder_dim": draw.randint(4, 64),
        "num_classes": draw.randint(1, 12),
    }
    return configuration, (draw.randint(1, 3), height, width)


def pair(configuration: dict, seed: int = 0) -> tuple[segformer_pytorch.Segformer, se.Segformer]:
    """The package's model, its weights moved off their start, and this library's with the same weights."""
    torch.manual_seed(seed)
    theirs = shaken(segformer_pytorch.Segformer(**configuration), seed)
    ours = se.Segformer(**configuration)
    converted = se.convert_state_dict(theirs.state_dict())
    assert converted.format == "lucidrains"
    ours.load_state_dict(converted)
    return theirs, ours


def difference(ours: torch.Tensor, theirs: torch.Tensor) -> tuple[float, float]:
    """The largest difference, absolute and relative to the largest magnitude."""
    absolute = (ours - theirs).abs().max().item()
    return absolute, absolute / theirs.abs().max().item()


def gradients(model: torch.nn.Module, x: torch.Tensor, direction: torch.Tensor) -> dict[str, torch.Tensor]:
    """Gradients by name, of every parameter and of the input."""
    x = x.clone().requires_grad_()
    model(x).backward(direction)
    found = {name: parameter.grad for name, parameter in model.named_parameters()}
    if isinstance(model, segformer_pytorch.Segformer):
        found = dict(se.convert_state_dict(found))  # renamed, split and reshaped as the weights are
    return found | {"input": x.grad}


def test_package_is_the_one_meant():
    assert version("segformer-pytorch") == "0.0.6"


@pytest.mark.parametrize("seed", range(CONFIGURATIONS))
def test_logits_are_equal(seed, record_property):
    configuration, (batch, height, width) = random_case(seed)
    theirs, ours = pair(configuration, seed)
    x = noise(batch, configuration["channels"], height, width, seed=seed)
    with torch.no_grad():
        absolute, relative = difference(ours(x), theirs(x))
    record_property("worst difference of logits to segformer-pytorch 0.0.6, absolute", absolute)
    record_property("worst difference of logits to segformer-pytorch 0.0.6, of the largest magnitude", relative)
    assert max(absolute, relative) < TOLERANCE


def both_gradients(seed: int, dtype: torch.dtype) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor], float]:
    """Gradients of this library's model, of the package's, and the largest magnitude among the latter."""
    configuration, (batch, height, width) = random_case(seed)
    theirs, ours = pair(configuration, seed)
    x = noise(batch, configuration["channels"], height, width, seed=seed, dtype=dtype)
    direction = noise(batch, configuration["num_classes"], height // 4, width // 4, seed=seed + 1, dtype=dtype)
    found, expected = (gradients(model.to(dtype), x, direction) for model in (ours, theirs))
    assert found.keys() - {"input"} == dict(ours.named_parameters()).keys()
    assert found.keys() == expected.keys()
    return found, expected, max(gradient.abs().max().item() for gradient in expected.values())


@pytest.mark.parametrize("seed", range(CONFIGURATIONS))
def test_gradients_are_equal(seed, record_property):
    found, expected, largest = both_gradients(seed, torch.float32)
    worst = max((found[name] - expected[name]).abs().max().item() for name in expected) / largest
    record_property("worst difference of gradients to segformer-pytorch 0.0.6, of the largest magnitude", worst)
    assert worst < TOLERANCE


@pytest.mark.parametrize("seed", range(CONFIGURATIONS))
def test_gradients_are_equal_parameter_by_parameter_in_double_precision(seed):
    """In single precision rounding hides the smallest; where a stage has a single key, those of q and k are zero."""
    found, expected, largest = both_gradients(seed, torch.float64)
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-8, atol=1e-13 * largest)


def test_default_models_are_equal():
    theirs, ours = pair({})
    count = [sum(parameter.numel() for parameter in model.parameters()) for model in (theirs, ours)]
    assert count[0] == count[1]
    x = noise(1, 3, 64, 128)
    with torch.no_grad():
        absolute, relative = difference(ours(x), theirs(x))
    assert max(absolute, relative) < TOLERANCE


def test_maps_of_all_stages_are_equal():
    theirs, ours = pair(random_case(3)[0])
    x = noise(1, random_case(3)[0]["channels"], 160, 160)
    with torch.no_grad():
        for our_map, their_map in zip(ours.mit(x, True), theirs.mit(x, True), strict=True):
            torch.testing.assert_close(our_map, their_map, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [(32, 32), (32, 64), (64, 32), (96, 160), (256, 32)])
def test_package_accepts_multiples_of_32(size):
    theirs, ours = pair({"num_layers": 1})
    x = noise(1, 3, *size)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [(33, 61), (48, 64), (64, 48), (36, 36), (31 * 4, 32), (360, 480), (100, 100)])
def test_package_refuses_other_sizes_and_this_library_does_not(size):
    theirs, ours = pair({"num_layers": 1, "dims": (8, 16, 40, 64)})
    x = noise(1, 3, *size)
    with torch.no_grad():
        with pytest.raises(Exception, match=r"[Ss]ize|[Ss]hape"):
            theirs(x)
        assert ours(x).shape[-2:] == ((size[0] - 1) // 4 + 1, (size[1] - 1) // 4 + 1)
