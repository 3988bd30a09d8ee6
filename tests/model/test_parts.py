"""Parts: each leaf can be swapped alone, and the skeleton is never touched."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from samples import SMALL, noise
from torch import nn

from segformer_edu import FAST, PAPER, SKETCH, Block, MLPDecoder, NormEps, Parts, Segformer

BLOCKS = sum(SMALL["num_layers"])


class Pooling(nn.Module):
    """In attention's place: the mean of a pixel's neighbours."""

    def __init__(self, *, dim: int, heads: int, reduction_ratio: int) -> None:
        super().__init__()
        self.asked = dim, heads, reduction_ratio

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)


class PlainMLP(nn.Sequential):
    """In the Mix-FFN's place: no 3×3 convolution."""

    def __init__(self, *, dim: int, expansion_factor: int) -> None:
        super().__init__(
            nn.Conv2d(dim, dim * expansion_factor, 1), nn.ReLU(), nn.Conv2d(dim * expansion_factor, dim, 1)
        )


class SeparatePatches(nn.Conv2d):
    """In the overlapping patches' place: patches that only touch."""

    def __init__(self, dim_in: int, dim_out: int, kernel: int, stride: int, padding: int) -> None:
        super().__init__(dim_in, dim_out, stride, stride)
        self.asked = kernel, stride, padding


class GroupNorm(nn.GroupNorm):
    """In LayerNorm's place: over all pixels and channels."""

    def __init__(self, dim: int) -> None:
        super().__init__(1, dim)


class Bilinear(MLPDecoder):
    """In the decoder's place: another upsampling."""

    def forward(self, layer_outputs: list[torch.Tensor]) -> torch.Tensor:
        size = layer_outputs[0].shape[-2:]
        fused = [F.interpolate(layer(x), size=size, mode="bilinear") for layer, x in zip(self.to_fused, layer_outputs)]
        return self.to_segmentation(torch.cat(fused, dim=1))


SWAPS: dict[str, tuple[Callable[..., nn.Module], int]] = {
    "patch_embedding": (SeparatePatches, 4),
    "norm": (GroupNorm, 2 * BLOCKS),
    "attention": (Pooling, BLOCKS),
    "feed_forward": (PlainMLP, BLOCKS),
    "stage_norm": (GroupNorm, 4),
    "decoder": (Bilinear, 1),
}


def build(parts: Parts) -> Segformer:
    torch.manual_seed(0)
    return Segformer(**SMALL, decoder_dim=16, parts=parts).eval()


def test_every_part_has_a_swap():
    assert [field.name for field in dataclasses.fields(Parts)] == list(SWAPS)


@pytest.mark.parametrize("part", SWAPS)
def test_one_part_is_swapped_and_no_other(part):
    leaf, times = SWAPS[part]
    original, swapped = build(SKETCH), build(dataclasses.replace(SKETCH, **{part: leaf}))
    assert sum(type(module) is leaf for module in swapped.modules()) == times
    assert not any(type(module) is leaf for module in original.modules())
    x = noise(1, 3, 64, 96)
    assert swapped(x).shape == original(x).shape
    assert not torch.allclose(swapped(x), original(x))
    swapped(x).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in swapped.parameters())


@pytest.mark.parametrize("part", SWAPS)
def test_weights_of_the_other_parts_keep_their_names_and_shapes(part):
    own = {
        "patch_embedding": r"mit\.stages\.\d\.embedding\.",
        "norm": r".*\.(attention|feed_forward)_norm\.",
        "attention": r".*\.attention\.",
        "feed_forward": r".*\.feed_forward\.",
        "stage_norm": r"mit\.stages\.\d\.norm\.",
        "decoder": r"decoder\.",
    }[part]

    def others(model: Segformer) -> dict[str, torch.Size]:
        return {name: value.shape for name, value in model.state_dict().items() if not re.match(own, name)}

    assert others(build(dataclasses.replace(SKETCH, **{part: SWAPS[part][0]}))) == others(build(SKETCH))


def test_leaves_get_the_arguments_of_their_stage():
    swapped = build(dataclasses.replace(SKETCH, attention=Pooling, patch_embedding=SeparatePatches))
    asked = [module.asked for module in swapped.modules() if isinstance(module, Pooling)]
    stages = zip(SMALL["dims"], SMALL["heads"], SMALL["reduction_ratio"], SMALL["num_layers"])
    assert asked == [stage[:3] for stage in stages for _ in range(stage[3])]
    patches = [module.asked for module in swapped.modules() if isinstance(module, SeparatePatches)]
    assert patches == [(7, 4, 3), (3, 2, 1), (3, 2, 1), (3, 2, 1)]


def test_norm_of_the_blocks_is_the_parts_own():
    swapped = build(dataclasses.replace(SKETCH, norm=GroupNorm))
    blocks = [module for module in swapped.modules() if isinstance(module, Block)]
    assert {type(norm) for block in blocks for norm in (block.attention_norm, block.feed_forward_norm)} == {GroupNorm}


def test_stage_norm_is_the_last_thing_in_a_stage():
    class Doubling(nn.Identity):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 2 * x

    original, swapped = build(SKETCH), build(dataclasses.replace(SKETCH, stage_norm=lambda dim: Doubling()))
    x = noise(1, 3, 64, 64)
    first = [model.mit(x, return_layer_outputs=True)[0] for model in (original, swapped)]
    torch.testing.assert_close(first[1], 2 * first[0])


def test_parts_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        SKETCH.norm = nn.Identity


def test_parts_have_no_defaults():
    """A dialect says every leaf: nothing of another dialect slips in."""
    with pytest.raises(TypeError, match="missing"):
        Parts(norm=GroupNorm)


@pytest.mark.parametrize(("name", "parts"), {"sketch": SKETCH, "paper": PAPER, "fast": FAST}.items())
def test_a_dialect_is_known_whatever_its_eps_and_dropout(name, parts):
    assert parts.dialect == name
    eps = NormEps(blocks=1e-3, stages=None if name == "sketch" else 1e-4)
    assert parts.with_norm_eps(eps).dialect == name
    assert parts.with_dropout(0.5).dialect == name
    assert dataclasses.replace(parts, norm=GroupNorm).dialect == "custom"


def test_fast_is_paper_with_two_leaves_replaced():
    changed = [
        field.name for field in dataclasses.fields(Parts) if getattr(FAST, field.name) != getattr(PAPER, field.name)
    ]
    assert changed == ["feed_forward", "decoder"]
    assert all(issubclass(getattr(FAST, name), getattr(PAPER, name)) for name in changed)


def test_eps_reaches_every_norm_of_its_kind():
    eps = NormEps(blocks=0.1, stages=0.2, patches=0.3, reductions=0.4)
    model = build(PAPER.with_norm_eps(eps))
    found = {name: module.eps for name, module in model.named_modules() if isinstance(module, nn.LayerNorm)}
    kinds = {r"_norm$": 0.1, r"stages\.\d\.norm$": 0.2, r"embedding\.norm$": 0.3, r"reduce\.1$": 0.4}
    for name, value in found.items():
        assert [expected for pattern, expected in kinds.items() if re.search(pattern, name)] == [value]
    assert set(found.values()) == set(kinds.values())
    assert model.config.norm_eps == eps
