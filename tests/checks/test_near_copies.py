"""Exercise 8.5: the seven changes of B0 are made, and each is what the check says that it is."""

from __future__ import annotations

from copy import deepcopy
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import segformer_edu as se
from segformer_edu.checks.numbers import PREDICTIONS
from segformer_edu.model.attention import SpatialReductionAttention
from segformer_edu.model.feedforward import DepthwiseMixFeedForward


@pytest.fixture(scope="module")
def trained():
    """B0 in double precision whose norms and biases are no longer those of a new model."""
    torch.manual_seed(0)
    model = se.segformer_b0(num_classes=5, parts=se.PAPER).double()
    for name, weight in model.named_parameters():
        if weight.ndim == 1:
            nn.init.uniform_(weight, 0.5 if name.endswith("weight") else -0.5, 1.5 if name.endswith("weight") else 0.5)
    norm = model.decoder.norm
    nn.init.uniform_(norm.running_mean, -0.5, 0.5), nn.init.uniform_(norm.running_var, 0.5, 1.5)
    return model.eval()


def channels_last(model):
    return model.to(memory_format=torch.channels_last)


class OnTokens(nn.Module):
    def __init__(self, conv):
        super().__init__()
        self.linear = nn.Linear(conv.in_channels, conv.out_channels, conv.bias is not None, dtype=conv.weight.dtype)
        self.linear.weight.data = conv.weight.data.flatten(1)
        if conv.bias is not None:
            self.linear.bias.data = conv.bias.data

    def forward(self, x):
        return self.linear(x.movedim(1, -1)).movedim(-1, 1)


def linear_on_tokens(model):
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.Conv2d) and child.kernel_size == (1, 1):
                setattr(module, name, OnTokens(child))
    return model


def gelu_by_tanh(model):
    for network in (m for m in model.modules() if isinstance(m, DepthwiseMixFeedForward)):
        network.forward = lambda x, own=network: own.narrow(F.gelu(own.mix(own.widen(x)), approximate="tanh"))
    return model


def decoded(model, maps, *, coarsest_first=False, upsample_first=False, relu_first=False):
    own, size = model.decoder, maps[0].shape[-2:]
    up = partial(F.interpolate, size=size, mode="bilinear")
    parts = [project(up(x)) if upsample_first else up(project(x)) for x, project in zip(maps, own.project)]
    fuse = own.fuse.weight.chunk(4, dim=1)
    if coarsest_first:
        parts, fuse = parts[::-1], fuse[::-1]
    fused = F.conv2d(torch.cat(parts, 1), torch.cat(fuse, 1))
    return own.classify(own.norm(fused.relu()) if relu_first else own.norm(fused).relu())


def with_decoder(model, **change):
    model.forward = lambda x: decoded(model, list(model.mit(x, return_layer_outputs=True)), **change)
    return model


def heads_permuted(model):
    for attention in (m for m in model.mit.stages[3].modules() if isinstance(m, SpatialReductionAttention)):
        order = torch.randperm(attention.heads, generator=torch.Generator().manual_seed(0))
        for layer, parts in ((attention.to_q, 1), (attention.to_kv, 2)):
            for values in layer.parameters():
                pieces = values.data.unflatten(0, (parts, attention.heads, -1))
                values.data = pieces[:, order].flatten(0, 2)
    return model


CHANGES = {
    "channels-last memory": channels_last,
    "nn.Linear on tokens": linear_on_tokens,
    "GELU by tanh": gelu_by_tanh,
    "fuse and concatenation both reversed": partial(with_decoder, coarsest_first=True),
    "ReLU before the BatchNorm": partial(with_decoder, relu_first=True),
    "upsampled before the projection": partial(with_decoder, upsample_first=True),
    "heads permuted in to_q and to_kv alone": heads_permuted,
}


def test_each_of_the_changes_is_made():
    assert CHANGES.keys() == PREDICTIONS["copies"].quantities.keys()


@torch.no_grad()
@pytest.mark.parametrize("name", CHANGES)
def test_what_is_said_of_a_change_is_so(trained, name):
    image = torch.rand(1, 3, 96, 128, dtype=torch.double)
    expected = trained(image)
    difference = float((CHANGES[name](deepcopy(trained))(image) - expected).abs().max() / expected.abs().max())
    found = "exact" if difference < 1e-12 else "close" if difference < 1e-2 else "other"
    assert found == PREDICTIONS["copies"].quantities[name].value, difference
