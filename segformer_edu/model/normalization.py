"""Chapters 2 and 8: layer normalisation of maps, and where it stands in a block."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.fx
from einops import rearrange
from torch import nn

torch.fx.wrap("rearrange")  # recorded as a call: einops takes no placeholder of torch.fx.symbolic_trace apart


class LayerNorm(nn.Module):
    """Normalise the channels of each pixel to mean 0 and standard deviation 1, then scale and shift every channel.

    As in the sketch, ``eps`` is added to the standard deviation; ``torch.nn.LayerNorm`` adds its own to the variance.
    Where all the channels of a pixel are equal, the result is ``b`` and the gradient is finite.

    Args:
        dim: channels of the map.
        eps: added to the standard deviation, so that nothing is divided by zero; must be positive.

    Shapes: (B, dim, H, W) → (B, dim, H, W).

    Raises:
        ValueError: an ``eps`` ≤ 0.

    Source: the sketch (lucidrains' ``LayerNorm``); Ba et al., "Layer Normalization", 2016. Built in chapter 2.
    """

    def __init__(self, dim: int, eps: float = 1e-5) -> None:
        super().__init__()
        if not eps > 0:
            raise ValueError(f"eps is {eps}; expected a small positive number, such as 1e-5: it guards a division.")
        self.dim, self.eps = dim, eps
        self.g = nn.Parameter(torch.ones(1, dim, 1, 1))
        self.b = nn.Parameter(torch.zeros(1, dim, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        centred = x - x.mean(dim=1, keepdim=True)
        # The slope of sqrt is infinite at 0, so var().sqrt() turns a constant pixel's gradient into NaN; a norm's is 0.
        std = torch.linalg.vector_norm(centred, dim=1, keepdim=True) / self.dim**0.5  # (B, 1, H, W)
        return centred / (std + self.eps) * self.g + self.b


class LayerNorm2d(nn.LayerNorm):
    """Normalise the channels of each pixel as ``torch.nn.LayerNorm`` does: ``eps`` is added to the variance.

    Args:
        dim: channels of the map.
        eps: added to the variance. The released code has 1e-6 in the blocks and after each stage, 1e-5 elsewhere.

    Shapes: (B, dim, H, W) → (B, dim, H, W), channels last in memory.

    Raises:
        RuntimeError: a map with another number of channels.

    Source: the paper's released weights. Built in chapter 8.
    """

    def __init__(self, dim: int, eps: float = 1e-6) -> None:
        super().__init__(dim, eps)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return rearrange(super().forward(rearrange(x, "b c h w -> b h w c")), "b h w c -> b c h w")


class PreNorm(nn.Module):
    """Normalise, then apply ``fn``: the branch of a residual block, ``x + PreNorm(dim, fn)(x)``.

    Args:
        dim: channels of the map.
        fn: the module that receives the normalised map.
        norm: makes the normalisation from ``dim``.

    Shapes: (B, dim, H, W) → whatever ``fn`` returns, the same shape in a residual block.

    Source: the sketch (lucidrains' ``PreNorm``); Xiong et al., "On Layer Normalization in the Transformer
    Architecture", 2020. Built in chapter 2; ``Block`` of chapter 5 has the same order without the wrapper.
    """

    def __init__(self, dim: int, fn: nn.Module, norm: Callable[[int], nn.Module] = LayerNorm) -> None:
        super().__init__()
        self.fn = fn
        self.norm = norm(dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fn(self.norm(x))
