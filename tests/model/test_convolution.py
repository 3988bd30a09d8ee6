"""DsConv2d against its definition, written out with einsum."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from samples import noise

from segformer_edu import DsConv2d

small = st.integers(1, 7)


def by_definition(module: DsConv2d, x: torch.Tensor, kernel: int, padding: int, stride: int) -> torch.Tensor:
    """One filter a channel, then a matrix over the channels, from patches that ``unfold`` cuts out."""
    depthwise, pointwise = module.net
    patches = F.unfold(x, kernel, padding=padding, stride=stride).unflatten(1, (x.shape[1], kernel**2))
    filtered = torch.einsum("bckn,ck->bcn", patches, depthwise.weight.flatten(1))
    mixed = torch.einsum("bcn,oc->bon", filtered + bias_of(depthwise), pointwise.weight.flatten(1))
    side = (x.shape[-2] + 2 * padding - kernel) // stride + 1
    return (mixed + bias_of(pointwise)).unflatten(2, (side, -1))


def bias_of(convolution: torch.nn.Conv2d) -> torch.Tensor | int:
    return 0 if convolution.bias is None else convolution.bias[:, None]


@given(small, small, st.sampled_from([(1, 0), (3, 1), (5, 2), (3, 0)]), st.integers(1, 3), st.booleans())
def test_equals_its_definition(dim_in, dim_out, kernel_padding, stride, bias):
    kernel, padding = kernel_padding
    module = DsConv2d(dim_in, dim_out, kernel, padding, stride=stride, bias=bias).double()
    x = noise(2, dim_in, 7, 10, dtype=torch.float64)
    torch.testing.assert_close(module(x), by_definition(module, x, kernel, padding, stride))


@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from([1, 3, 5, 7]), st.booleans())
def test_has_one_filter_a_channel(dim_in, dim_out, kernel, bias):
    """The seed's listing lacks ``groups=dim_in``: kernel²·C² weights where kernel²·C are meant."""
    module = DsConv2d(dim_in, dim_out, kernel, padding=0, bias=bias)
    expected = kernel**2 * dim_in + dim_in * dim_out + (dim_in + dim_out) * bias
    assert sum(parameter.numel() for parameter in module.parameters()) == expected


def test_depthwise_part_keeps_channels_apart():
    module = DsConv2d(4, 6, 3, padding=1)
    x = noise(1, 4, 5, 5)
    changed = x.clone()
    changed[:, 2] += 1
    moved = (module.net[0](changed) - module.net[0](x)).abs().amax(dim=(0, 2, 3)) > 0
    assert moved.tolist() == [False, False, True, False]


def test_default_is_stride_one_with_bias():
    module = DsConv2d(3, 5, 3, 1)
    assert module(noise(1, 3, 6, 7)).shape == (1, 5, 6, 7)
    assert all(layer.bias is not None for layer in module.net)


def test_names_are_the_sketchs():
    names = ["net.0.weight", "net.0.bias", "net.1.weight", "net.1.bias"]
    assert list(DsConv2d(3, 5, 3, 1).state_dict()) == names


@pytest.mark.parametrize("stride", [1, 2])
def test_gradient(stride):
    module = DsConv2d(3, 2, 3, 1, stride=stride).double()
    x = noise(1, 3, 4, 5, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, *_: module(x), (x, *module.parameters()))
