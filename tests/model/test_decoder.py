"""MLPDecoder against project, repeat, concatenate, fuse, classify, written out."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from samples import MAP_DIMS, maps

from segformer_edu import MLPDecoder


def decoder() -> MLPDecoder:
    return MLPDecoder(dims=MAP_DIMS, decoder_dim=7, num_classes=2).double()


def by_definition(module: MLPDecoder, layer_outputs: list[torch.Tensor]) -> torch.Tensor:
    """Every pixel of the finest map takes the value of the coarser pixel that lies over it: row · h // H."""
    height, width = layer_outputs[0].shape[-2:]
    fused = []
    for x, layer in zip(layer_outputs, module.to_fused):
        projected = torch.einsum("bchw,oc->bohw", x, layer.weight[..., 0, 0]) + layer.bias[:, None, None]
        rows = torch.arange(height) * x.shape[-2] // height
        columns = torch.arange(width) * x.shape[-1] // width
        fused.append(projected[:, :, rows][..., columns])
    fused = torch.cat(fused, dim=1)
    for layer in module.to_segmentation:
        fused = torch.einsum("bchw,oc->bohw", fused, layer.weight[..., 0, 0]) + layer.bias[:, None, None]
    return fused


@given(st.integers(8, 90), st.integers(8, 90))
def test_equals_its_definition(height, width):
    module, layer_outputs = decoder(), maps(height, width)
    assert module(layer_outputs).shape == (2, 2, height, width)
    torch.testing.assert_close(module(layer_outputs), by_definition(module, layer_outputs))


def test_has_no_non_linearity():
    """The sketch's decoder is one affine map: f(a + b) + f(0) = f(a) + f(b)."""
    module, a, b = decoder(), maps(9, 12), maps(9, 12, seed=10)
    both = module([x + y for x, y in zip(a, b)]) + module([0 * x for x in a])
    torch.testing.assert_close(both, module(a) + module(b))


def test_parameters():
    expected = sum(dim * 7 + 7 for dim in MAP_DIMS) + (4 * 7 * 7 + 7) + (7 * 2 + 2)
    assert sum(parameter.numel() for parameter in decoder().parameters()) == expected


def test_gradient():
    module = decoder()
    layer_outputs = [x[:1].clone().requires_grad_() for x in maps(3, 4)]
    inputs = (*layer_outputs, *module.parameters())
    assert torch.autograd.gradcheck(lambda *inputs: module(list(inputs[:4])), inputs)
