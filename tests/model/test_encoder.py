"""MiT: sizes, patch embeddings, residual blocks."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from samples import SMALL, noise, sizes
from torch import nn

from segformer_edu import SKETCH, EfficientSelfAttention, MiT, MixFeedForward


def encoder(**changes) -> MiT:
    configuration = {name: value for name, value in SMALL.items()} | {"channels": 3} | changes
    return MiT(**configuration).eval()


def halved(side: int, times: int) -> int:
    for _ in range(times):
        side = (side - 1) // 2 + 1
    return side


@given(sizes, st.integers(1, 3))
def test_sizes(size, batch):
    height, width = size
    with torch.no_grad():
        maps = encoder()(noise(batch, 3, height, width), return_layer_outputs=True)
    first = ((height - 1) // 4 + 1, (width - 1) // 4 + 1)
    expected = [(batch, dim, *(halved(side, stage) for side in first)) for stage, dim in enumerate(SMALL["dims"])]
    assert [tuple(x.shape) for x in maps] == expected


def test_last_map_is_the_result():
    module, x = encoder(), noise(2, 3, 50, 33)
    maps = module(x, return_layer_outputs=True)
    assert isinstance(maps, list)
    torch.testing.assert_close(module(x), maps[-1])


def seeds_rows(height: int, width: int) -> list[tuple[int, int]]:
    """For each stage: the seed's rows, height // int(sqrt(height·width / patches)), and the real ones."""
    rows = []
    for stage in range(4):
        h, w = (halved((side - 1) // 4 + 1, stage) for side in (height, width))
        rows.append((height // int((height * width / (h * w)) ** 0.5), h))
    return rows


def test_size_where_the_seeds_square_root_fails():
    computed, real = zip(*seeds_rows(360, 480))
    assert computed[2] == 24
    assert real[2] == 23
    with torch.no_grad():
        assert encoder()(noise(1, 3, 360, 480), return_layer_outputs=True)[2].shape[-2:] == (23, 30)


@pytest.mark.parametrize("stage", range(4))
def test_patch_embedding_is_the_seeds_unfold_and_matrix(stage):
    module = encoder()
    embedding = module.stages[stage].embedding
    kernel, stride, padding = ((7, 4, 3), (3, 2, 1), (3, 2, 1), (3, 2, 1))[stage]
    x = noise(2, embedding.in_channels, 33, 45)
    patches = nn.functional.unfold(x, kernel, stride=stride, padding=padding)
    matrix = nn.Conv2d(patches.shape[1], embedding.out_channels, 1)
    matrix.weight.data = embedding.weight.data.flatten(1)[..., None, None]
    matrix.bias.data = embedding.bias.data
    height = (33 - 1) // stride + 1
    expected = matrix(patches.unflatten(2, (height, -1)))
    torch.testing.assert_close(embedding(x), expected, rtol=1e-5, atol=1e-5)


def test_blocks_add_to_what_they_are_given():
    """With every branch silenced, what is left of an encoder is its four patch embeddings."""
    module, x = encoder(), noise(1, 3, 64, 48)
    for part in module.modules():
        if isinstance(part, EfficientSelfAttention):
            nn.init.zeros_(part.to_out.weight)
        if isinstance(part, MixFeedForward):
            nn.init.zeros_(part.net[-1].weight)
            nn.init.zeros_(part.net[-1].bias)
    expected = x
    for stage in module.stages:
        expected = stage.embedding(expected)
    torch.testing.assert_close(module(x), expected)


def test_blocks_attend_first_then_feed_forward():
    module, x = encoder(), noise(1, 3, 64, 48)
    seen = []
    for name, part in module.named_modules():
        if isinstance(part, EfficientSelfAttention | MixFeedForward):
            part.register_forward_hook(lambda part, *_, name=name: seen.append(name))
    module(x)
    expected = [
        f"stages.{stage}.blocks.{block}.{branch}"
        for stage, depth in enumerate(SMALL["num_layers"])
        for block in range(depth)
        for branch in ("attention", "feed_forward")
    ]
    assert seen == expected


def test_a_block_is_two_residual_branches():
    module, x = encoder(), noise(1, 3, 64, 48)
    first = module.stages[0]
    inside, (block,) = first.embedding(x), first.blocks
    middle = inside + block.attention(block.attention_norm(inside))
    expected = middle + block.feed_forward(block.feed_forward_norm(middle))
    torch.testing.assert_close(module(x, return_layer_outputs=True)[0], expected)


def test_arguments_reach_their_stage():
    module = encoder(ff_expansion=(1, 2, 3, 4), num_layers=(1, 2, 3, 4))
    assert [len(stage.blocks) for stage in module.stages] == [1, 2, 3, 4]
    for index, stage in enumerate(module.stages):
        for block in stage.blocks:
            assert block.attention.heads == SMALL["heads"][index]
            assert block.attention.reduction_ratio == SMALL["reduction_ratio"][index]
            assert block.feed_forward.net[0].out_channels == SMALL["dims"][index] * (index + 1)


def test_names_say_what_they_are():
    names = list(encoder().state_dict())
    assert names[:3] == ["stages.0.embedding.weight", "stages.0.embedding.bias", "stages.0.blocks.0.attention_norm.g"]
    assert "stages.2.blocks.1.attention.to_q.weight" in names
    assert "stages.3.blocks.0.feed_forward.net.3.bias" in names


def test_drop_path_goes_past_both_branches_of_a_block():
    """With all branches left out, what remains of an encoder is its four patch embeddings."""
    module, x = encoder(), noise(2, 3, 64, 48)
    expected = x
    for stage in module.stages:
        expected = stage.embedding(expected)
        for block in stage.blocks:
            block.drop_path.rate = 1 - 1e-12
    torch.manual_seed(0)
    torch.testing.assert_close(module.train()(x), expected)


@pytest.mark.parametrize("depths", [(1, 1, 1, 1), (1, 2, 3, 1), (3, 6, 40, 3)])
def test_drop_path_rises_evenly(depths):
    with torch.device("meta"):
        module = encoder(num_layers=depths, drop_path=0.3)
    rates = [block.drop_path.rate for stage in module.stages for block in stage.blocks]
    torch.testing.assert_close(torch.tensor(rates), torch.linspace(0, 0.3, sum(depths)))


def test_the_sketch_has_no_drop_path():
    assert {block.drop_path.rate for stage in encoder().stages for block in stage.blocks} == {0}


@pytest.mark.parametrize("rate", [1, 1.5, -0.5, "a", None])
def test_drop_path_is_checked_where_it_enters(rate):
    with pytest.raises(ValueError, match=rf"drop_path is {rate!r}; expected a probability below 1"):
        encoder(drop_path=rate)


def test_attention_of_ones_own_may_have_any_attribute():
    class Own(nn.Module):
        def __init__(self, *, dim: int, heads: int, reduction_ratio: int) -> None:
            super().__init__()
            self.reduce = nn.Conv2d(dim, dim, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.reduce(x)

    module = encoder(parts=dataclasses.replace(SKETCH, attention=Own))
    assert module.config.dialect == "custom"
    assert module(noise(1, 3, 32, 32)).isfinite().all()
