"""What the chapters show of a model's inside is what the model computes."""

from __future__ import annotations

import pytest
import torch
from einops import rearrange
from matplotlib.figure import Figure
from torch import nn

from segformer_edu import PAPER, MiT
from segformer_edu.pages import inside, plots

SIZES = {
    "channels": 3,
    "dims": (8, 8, 16, 16),
    "heads": (1, 2, 4, 2),
    "ff_expansion": (2,) * 4,
    "reduction_ratio": (8, 4, 2, 1),
    "num_layers": (1, 2, 1, 1),
}


def encoder() -> MiT:
    torch.manual_seed(0)
    return MiT(**SIZES, parts=PAPER).eval()


def test_shares_times_values_are_the_attentions_output():
    model, x = encoder(), torch.randn(1, 3, 96, 64)
    inputs, outputs = {}, {}
    for stage, part in enumerate(model.stages, start=1):
        for layer, block in enumerate(part.blocks, start=1):

            def keep(attention, given, output, place=(stage, layer)):
                inputs[place], outputs[place] = (attention, given[0]), output

            block.attention.register_forward_hook(keep)
    seen = inside.attention_shares(model, x)
    assert list(seen) == list(outputs) == [(1, 1), (2, 1), (2, 2), (3, 1), (4, 1)]
    for place, shares in seen.items():
        attention, given = inputs[place]
        v = attention.to_kv(attention.reduce(given)).chunk(2, dim=1)[1]
        v = rearrange(v, "1 (heads c) h w -> heads (h w) c", heads=attention.heads)
        heard = shares.flatten(3).flatten(1, 2) @ v
        again = attention.to_out(rearrange(heard, "heads (h w) c -> 1 (heads c) h w", h=given.shape[-2]))
        torch.testing.assert_close(again, outputs[place], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(shares.sum(dim=(3, 4)), torch.ones(shares.shape[:3]))


def test_field_of_a_convolution_is_the_size_of_its_weights():
    """One channel in and out, and the centre of the map: the gradient is the filter itself, sign apart."""
    conv = nn.Conv2d(1, 1, 3, padding=1)
    fields = inside.receptive_fields(lambda x, return_layer_outputs: [conv(x)], torch.randn(4, 1, 9, 9))
    expected = torch.zeros(9, 9)
    expected[3:6, 3:6] = conv.weight.detach()[0, 0].abs()
    torch.testing.assert_close(fields, expected[None])


def test_fields_have_the_images_size_and_grow_from_map_to_map():
    model = encoder().requires_grad_(False)
    fields = inside.receptive_fields(model, torch.randn(2, 3, 96, 64))
    assert fields.shape == (4, 96, 64)
    assert (fields > 0).all()  # every map hears of the whole image, by its attention


@pytest.mark.parametrize(("shares", "cells"), [([1.0, 0, 0, 0], 1), ([0.25] * 4, 2), ([0.4, 0.3, 0.2, 0.1], 2)])
def test_half_counts_the_largest_cells(shares, cells):
    assert inside.half(torch.tensor(shares).reshape(2, 2)) == cells


def test_what_is_looked_at_is_lit_and_the_rest_is_dark():
    picture = inside.lit(torch.ones(3, 8, 8), torch.tensor([[1.0, 0.0]]))
    torch.testing.assert_close(picture[:, :, 4:], torch.full((3, 8, 4), 0.5))
    torch.testing.assert_close(picture[:, 0, 0], 0.05 + 0.9 * torch.tensor(inside.YELLOW))


def test_features_by_hand_are_unit_vectors_in_three_groups():
    features = inside.features_by_hand(torch.rand(1, 3, 12, 10))
    assert features.shape == (1, 12, 12, 10)
    for group in features.split(4, dim=1):
        torch.testing.assert_close(group.norm(dim=1), torch.ones(1, 12, 10))


def test_a_ring_is_drawn_where_it_is_asked_for():
    figure = plots.images([torch.zeros(3, 8, 8)])
    assert isinstance(figure, Figure)
    inside.ring(figure.axes[0], 2, 5, "A")
    assert [list(line.get_xydata()[0]) for line in figure.axes[0].lines] == [[5, 2], [5, 2]]
    assert figure.axes[0].texts[0].get_text() == "A"


def test_decades_are_powers_of_ten_below_the_maximum():
    torch.testing.assert_close(inside.decades(torch.tensor([2.0, 0.02, 0.0])), torch.tensor([0.0, -2, -5]))
