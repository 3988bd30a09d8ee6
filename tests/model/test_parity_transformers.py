"""The paper's model against transformers, weights drawn at random and loaded from a file: logits and gradients."""

from __future__ import annotations

import sys
from importlib.metadata import version

import pytest
import torch
from published import SMALL, VARIANTS, segmenter
from samples import noise

import segformer_edu as se

TOLERANCE = 1e-5
SMALLS = [
    SMALL,
    SMALL | {"depths": [2, 1, 1, 2], "num_channels": 1, "hidden_sizes": [4, 8, 20, 32]},
    SMALL | {"sr_ratios": [8, 2, 1, 1], "mlp_ratios": [1, 2, 3, 4], "decoder_hidden_size": 9},
]
SIZES = {
    "b0": [(32, 32), (33, 61), (64, 64), (37, 100), (160, 96), (97, 131), (128, 128), (45, 224)],
    "b1": [(32, 32), (33, 61), (64, 64), (160, 96), (97, 131)],
    "b2": [(32, 32), (33, 61), (64, 128), (97, 131)],
    "b3": [(32, 32), (33, 61), (64, 96)],
    "b4": [(32, 32), (33, 61), (64, 96)],
    "b5": [(32, 32), (33, 61), (64, 96)],
}
PROPERTY = f"worst difference to transformers {version('transformers')}"


@pytest.fixture(scope="module", params=VARIANTS)
def both(request, tmp_path_factory):
    """A variant's name, transformers' model, and this library's, from the file that transformers saved it to."""
    theirs = segmenter(VARIANTS[request.param])
    folder = tmp_path_factory.mktemp(request.param)
    theirs.save_pretrained(folder)
    return request.param, theirs, se.load_pretrained(folder)


def training(model: torch.nn.Module) -> torch.nn.Module:
    """Training mode without anything drawn at random."""
    for module in model.modules():
        if isinstance(module, se.DropPath):
            module.rate = 0.0
        elif isinstance(module, torch.nn.Dropout | torch.nn.Dropout2d):
            module.p = 0.0
    return model.train()


def outcome(
    model: torch.nn.Module, x: torch.Tensor, direction: torch.Tensor
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Logits in training mode, and the gradient of every parameter, in this library's names, and of the input."""
    model.zero_grad()
    x = x.clone().requires_grad_()
    result = training(model)(x)
    logits = getattr(result, "logits", result)
    logits.backward(direction)
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    return logits.detach(), dict(se.convert_state_dict(gradients)) | {"input": x.grad}


def direction_off_the_kinks(theirs: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Draw what the logits' gradient is to be: 0 at pixels where rounding decides on which side of a ReLU a value is.

    There the two derivatives differ by as much as they please, and both are right.
    """
    normalized = []
    hook = theirs.decode_head.batch_norm.register_forward_hook(lambda *called: normalized.append(called[-1]))
    with torch.no_grad():
        logits = training(theirs)(x).logits
    hook.remove()
    size = normalized[0].abs()
    clear = (size > TOLERANCE * size.max()).all(dim=1, keepdim=True)
    assert clear.float().mean() > 0.8
    return noise(*logits.shape, seed=5, dtype=x.dtype) * clear


def test_transformers_is_the_one_meant():
    assert version("transformers").startswith("5.23." if sys.version_info >= (3, 11) else "5.20.")


def test_logits_are_equal(both, record_property):
    variant, theirs, ours = both
    worst = 0.0
    for batch, (height, width) in zip((1, 3) * 4, SIZES[variant]):
        x = noise(batch, 3, height, width, seed=height)
        with torch.no_grad():
            expected, found = theirs.eval()(x).logits, ours.eval()(x)
        assert found.shape == (batch, 7, (height - 1) // 4 + 1, (width - 1) // 4 + 1)
        worst = max(worst, ((found - expected).abs().max() / expected.abs().max()).item())
    record_property(f"{PROPERTY}, logits of {variant}, of the largest magnitude", worst)
    assert worst < TOLERANCE


def test_gradients_are_equal(both, record_property):
    variant, theirs, ours = both
    x = noise(2, 3, 33, 48)
    direction = direction_off_the_kinks(theirs, x)
    logits, found = outcome(ours, x, direction)
    their_logits, expected = outcome(theirs, x, direction)
    assert found.keys() == expected.keys() == dict(ours.named_parameters()).keys() | {"input"}
    largest = max(gradient.abs().max() for gradient in expected.values())
    worst = max((found[name] - expected[name]).abs().max() / largest for name in expected).item()
    record_property(f"{PROPERTY}, gradients of {variant} in training, of the largest magnitude", worst)
    assert worst < TOLERANCE
    assert (logits - their_logits).abs().max() / their_logits.abs().max() < TOLERANCE


@pytest.mark.parametrize("options", SMALLS, ids=["one", "two", "three"])
@pytest.mark.parametrize(("batch", "size"), [(1, (32, 32)), (3, (33, 61)), (2, (96, 50))])
def test_gradients_are_equal_parameter_by_parameter_in_double_precision(options, batch, size, tmp_path):
    """In single precision rounding hides the smallest."""
    theirs = segmenter(options).double()
    theirs.save_pretrained(tmp_path)
    ours = se.load_pretrained(tmp_path).double()
    ours.load_state_dict(se.convert_state_dict(theirs.state_dict()))
    x = noise(batch, theirs.config.num_channels, *size, dtype=torch.float64)
    before = {name: value.clone() for name, value in theirs.state_dict().items()}
    direction = direction_off_the_kinks(theirs, x)
    theirs.load_state_dict(before)
    logits, found = outcome(ours, x, direction)
    their_logits, expected = outcome(theirs, x, direction)
    torch.testing.assert_close(ours.decoder.norm.running_mean, theirs.decode_head.batch_norm.running_mean)
    torch.testing.assert_close(ours.decoder.norm.running_var, theirs.decode_head.batch_norm.running_var)
    torch.testing.assert_close(logits, their_logits, rtol=1e-9, atol=1e-12)
    largest = max(gradient.abs().max() for gradient in expected.values())
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-8, atol=1e-12 * largest.item())
