"""MixFeedForward against its layers written out."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from samples import noise

from segformer_edu import MixFeedForward


def gelu(x: torch.Tensor) -> torch.Tensor:
    return x * (1 + torch.erf(x / 2**0.5)) / 2


def by_definition(module: MixFeedForward, x: torch.Tensor) -> torch.Tensor:
    """Widen, 3×3 depthwise, mix, GELU, narrow: the three 1×1 convolutions are matrices over the channels."""
    widen, separable, _, narrow = module.net
    depthwise, pointwise = separable.net

    def matrix(layer: torch.nn.Conv2d, t: torch.Tensor) -> torch.Tensor:
        return torch.einsum("bchw,oc->bohw", t, layer.weight[..., 0, 0]) + layer.bias[:, None, None]

    wide = matrix(widen, x)
    filtered = [
        F.conv2d(wide[:, [c]], depthwise.weight[[c]], depthwise.bias[[c]], padding=1) for c in range(wide.shape[1])
    ]
    return matrix(narrow, gelu(matrix(pointwise, torch.cat(filtered, dim=1))))


@given(st.integers(1, 6), st.integers(1, 4), st.integers(1, 6), st.integers(1, 6))
def test_equals_its_definition(dim, expansion_factor, height, width):
    module = MixFeedForward(dim=dim, expansion_factor=expansion_factor).double()
    x = 3 * noise(2, dim, height, width, dtype=torch.float64)
    torch.testing.assert_close(module(x), by_definition(module, x))


@given(st.integers(1, 20), st.integers(1, 8))
def test_parameters(dim, expansion_factor):
    wide = dim * expansion_factor
    widen, depthwise, pointwise, narrow = dim * wide + wide, 9 * wide + wide, wide * wide + wide, wide * dim + dim
    module = MixFeedForward(dim=dim, expansion_factor=expansion_factor)
    assert sum(parameter.numel() for parameter in module.parameters()) == widen + depthwise + pointwise + narrow


def test_a_pixel_reaches_its_eight_neighbours():
    module, x = MixFeedForward(dim=3, expansion_factor=2), noise(1, 3, 7, 7)
    changed = x.clone()
    changed[..., 3, 4] += 1
    moved = (module(changed) - module(x)).abs().amax(dim=(0, 1)) > 0
    expected = torch.zeros(7, 7, dtype=torch.bool)
    expected[2:5, 3:6] = True
    torch.testing.assert_close(moved, expected)


def test_gradient():
    module = MixFeedForward(dim=2, expansion_factor=2).double()
    x = noise(1, 2, 3, 3, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, *_: module(x), (x, *module.parameters()))
