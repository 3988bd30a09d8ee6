"""Chapter 8: drop path, whole branches left out at random while a model learns."""

from __future__ import annotations

import torch
from torch import nn


class DropPath(nn.Module):
    """While training, replace a sample's whole branch by zeros now and then; scale the others to keep the mean.

    Args:
        rate: how often, from 0 up to, but not including, 1.

    Shapes: (B, C, H, W) → (B, C, H, W).

    Raises:
        ValueError: a ``rate`` outside of [0, 1).

    Source: Huang et al., "Deep Networks with Stochastic Depth", 2016; the paper's code. Built in chapter 8.
    """

    def __init__(self, rate: float = 0.0) -> None:
        super().__init__()
        if not 0 <= rate < 1:
            raise ValueError(f"rate is {rate}; expected a probability from 0 up to, but not including, 1, such as 0.1.")
        self.rate = rate

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training or self.rate == 0:
            return x
        kept = x.new_empty(x.shape[0], 1, 1, 1).bernoulli_(1 - self.rate)
        return x * (kept / (1 - self.rate))

    def extra_repr(self) -> str:
        return f"rate={self.rate:.3g}"
