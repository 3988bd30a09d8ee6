"""Small models, inputs and configurations that the tests of the model share."""

from __future__ import annotations

import torch
from hypothesis import strategies as st
from torch import nn

SMALL = {
    "dims": (8, 16, 24, 32),
    "heads": (1, 2, 3, 4),
    "ff_expansion": (2, 2, 1, 1),
    "reduction_ratio": (8, 4, 2, 1),
    "num_layers": (1, 1, 2, 1),
}


def noise(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Draw the same normal numbers for the same arguments, whatever was drawn before."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def double(*shape: int, seed: int = 0) -> torch.Tensor:
    """The same in double precision, in which rounding can hide little."""
    return noise(*shape, seed=seed, dtype=torch.float64)


MAP_DIMS = (3, 4, 5, 6)


def maps(height: int, width: int, *, seed: int = 0, gradient: bool = False) -> list[torch.Tensor]:
    """Four maps, of MAP_DIMS channels, as an encoder gives them: each half the size of the one before, rounded up."""
    made = []
    for index, dim in enumerate(MAP_DIMS):
        made.append(double(2, dim, height, width, seed=seed + index).requires_grad_(gradient))
        height, width = (height - 1) // 2 + 1, (width - 1) // 2 + 1
    return made


def shaken(module: nn.Module, seed: int = 0) -> nn.Module:
    """Move every parameter that starts as all ones or all zeros, so that no scale and no shift hides a mistake."""
    with torch.no_grad():
        for index, parameter in enumerate(module.parameters()):
            if parameter.min() == parameter.max():
                parameter.add_(0.3 * noise(*parameter.shape, seed=1000 * seed + index, dtype=parameter.dtype))
    return module


sides = st.one_of(st.integers(32, 130), st.sampled_from([32, 33, 37, 61, 64, 97, 127, 131]))
sizes = st.tuples(sides, sides)


@st.composite
def configurations(draw: st.DrawFn) -> dict:
    """Draw arguments of ``Segformer`` that fit together, small enough to run at once."""
    heads = tuple(draw(st.lists(st.integers(1, 4), min_size=4, max_size=4)))
    per_head = draw(st.lists(st.integers(1, 6), min_size=4, max_size=4))
    return {
        "dims": tuple(head * width for head, width in zip(heads, per_head)),
        "heads": heads,
        "ff_expansion": tuple(draw(st.lists(st.integers(1, 4), min_size=4, max_size=4))),
        # the largest sides of cells that every stage of a 32×32 image has room for
        "reduction_ratio": tuple(draw(st.integers(1, most)) for most in (8, 4, 2, 1)),
        "num_layers": tuple(draw(st.lists(st.integers(1, 2), min_size=4, max_size=4))),
        "channels": draw(st.integers(1, 5)),
        "decoder_dim": draw(st.integers(1, 12)),
        "num_classes": draw(st.integers(1, 7)),
    }
