"""LayerNorm against its formula, PyTorch's own and the seed's; PreNorm against what it says."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from samples import noise, shaken
from torch import nn

from segformer_edu import LayerNorm, PreNorm


def seeds_formula(x: torch.Tensor, eps: float = 1e-5) -> torch.Tensor:
    """The seed's: the root of the variance, eps beside the root, no scale or shift."""
    deviation = torch.var(x, dim=1, unbiased=False, keepdim=True).sqrt()
    return (x - x.mean(dim=1, keepdim=True)) / (deviation + eps)


@given(st.integers(2, 33), st.sampled_from([1e-3, 1.0, 1e3]), st.sampled_from([1e-8, 1e-5, 0.1]))
def test_equals_the_formula_in_double_precision(dim, scale, eps):
    module = shaken(LayerNorm(dim, eps=eps).double())
    x = scale * noise(2, dim, 3, 4, dtype=torch.float64) + scale
    torch.testing.assert_close(module(x), seeds_formula(x, eps) * module.g + module.b)


@given(st.integers(2, 33), st.sampled_from([1e-3, 1.0, 1e3]))
def test_equals_the_formula_in_single_precision(dim, scale):
    module = LayerNorm(dim)
    x = scale * noise(2, dim, 3, 4)
    torch.testing.assert_close(module(x), seeds_formula(x.double()).float(), rtol=1e-4, atol=1e-5)


@given(st.integers(2, 33), st.sampled_from([1e-2, 1.0, 1e2]))
def test_differs_from_pytorchs_by_where_eps_stands(dim, scale):
    """Ours: (x - mean) / (std + eps). PyTorch's: (x - mean) / sqrt(variance + eps). Their ratio is known exactly."""
    ours, theirs = shaken(LayerNorm(dim).double()), nn.LayerNorm(dim, eps=1e-5).double()
    theirs.weight.data, theirs.bias.data = ours.g.data.flatten(), torch.zeros(dim, dtype=torch.float64)
    x = scale * noise(2, dim, 3, 4, dtype=torch.float64)
    variance = x.var(dim=1, unbiased=False, keepdim=True)
    ratio = (variance + 1e-5).sqrt() / (variance.sqrt() + 1e-5)
    channels_last = theirs(x.movedim(1, -1)).movedim(-1, 1)
    torch.testing.assert_close(ours(x), channels_last * ratio + ours.b)


def test_equals_pytorchs_where_eps_does_not_matter():
    ours, theirs = LayerNorm(16), nn.LayerNorm(16)
    x = 100 * noise(2, 16, 5, 7)
    torch.testing.assert_close(ours(x), theirs(x.movedim(1, -1)).movedim(-1, 1))


def constant_pixel() -> torch.Tensor:
    """A map whose pixel (0, 0) has the same value in all channels."""
    x = noise(1, 8, 2, 2)
    x[:, :, 0, 0] = 3.0
    return x.requires_grad_()


def test_seeds_formula_gives_nan_for_a_constant_pixel():
    x = constant_pixel()
    seeds_formula(x).square().sum().backward()
    assert x.grad[:, :, 0, 0].isnan().all()


def test_constant_pixel_has_a_finite_gradient():
    x, seeds = constant_pixel(), constant_pixel()
    module = shaken(LayerNorm(8))
    module(x).square().sum().backward()
    assert x.grad.isfinite().all()
    assert module.g.grad.isfinite().all()
    (seeds_formula(seeds) * module.g + module.b).square().sum().backward()
    others = torch.tensor([[False, True], [True, True]])
    torch.testing.assert_close(x.grad[..., others], seeds.grad[..., others])


def test_constant_pixel_becomes_the_shift():
    module = shaken(LayerNorm(8))
    torch.testing.assert_close(module(constant_pixel())[0, :, 0, 0], module.b.flatten())


@pytest.mark.parametrize("dim", [1, 3, 64])
def test_map_of_one_value_has_a_finite_gradient(dim):
    x = torch.full((2, dim, 3, 3), 0.1, requires_grad=True)
    LayerNorm(dim)(x).sum().backward()
    assert x.grad.isfinite().all()


def test_pixels_do_not_see_each_other():
    module, x = shaken(LayerNorm(6)), noise(1, 6, 3, 4)
    changed = x.clone()
    changed[..., 1, 2] += noise(1, 6, seed=1)
    moved = (module(changed) - module(x)).abs().amax(dim=(0, 1)) > 0
    assert moved.nonzero().tolist() == [[1, 2]]


@pytest.mark.parametrize("eps", [0, -1e-5, float("nan")])
def test_eps_guards_a_division(eps):
    with pytest.raises(ValueError, match=r"eps is .*expected a small positive number, such as 1e-5"):
        LayerNorm(8, eps=eps)


def test_gradient():
    module = shaken(LayerNorm(4).double())
    x = noise(1, 4, 2, 3, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, *_: module(x), (x, module.g, module.b))


def test_prenorm_normalises_first():
    module = PreNorm(6, nn.Conv2d(6, 4, 3))
    shaken(module)
    x = noise(2, 6, 5, 5)
    torch.testing.assert_close(module(x), module.fn(module.norm(x)))
    assert isinstance(module.norm, LayerNorm)
    assert list(module.state_dict()) == ["fn.weight", "fn.bias", "norm.g", "norm.b"]


def test_prenorm_takes_another_norm():
    module = PreNorm(6, nn.Identity(), lambda dim: nn.GroupNorm(1, dim))
    x = noise(2, 6, 5, 5)
    torch.testing.assert_close(module(x), nn.functional.group_norm(x, 1))
