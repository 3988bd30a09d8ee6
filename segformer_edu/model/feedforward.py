"""Chapters 4 and 8: the Mix-FFN, a feed-forward network that mixes each pixel with its neighbours."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from segformer_edu.model.convolution import DsConv2d


class MixFeedForward(nn.Module):
    """Widen the channels, mix each pixel with its 3×3 neighbours, apply GELU, narrow again.

    Args:
        dim: channels of the map.
        expansion_factor: how many times wider the channels become in between.

    Shapes: (B, dim, H, W) → (B, dim, H, W).

    Source: the paper, §3.1 "Mix-FFN"; the sketch (lucidrains' class of this name), whose middle convolution is
    depthwise separable, where the paper's is depthwise alone. Built in chapter 4.
    """

    def __init__(self, *, dim: int, expansion_factor: int) -> None:
        super().__init__()
        hidden_dim = dim * expansion_factor
        self.net = nn.Sequential(
            nn.Conv2d(dim, hidden_dim, 1),
            DsConv2d(hidden_dim, hidden_dim, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(hidden_dim, dim, 1),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x)


class DepthwiseMixFeedForward(nn.Module):
    """The paper's Mix-FFN: ``MixFeedForward`` whose middle convolution is depthwise alone.

    Args:
        dim: channels of the map.
        expansion_factor: how many times wider the channels become in between.

    Shapes: (B, dim, H, W) → (B, dim, H, W), channels last in memory where the input has them so.

    Source: the paper, §3.1 "Mix-FFN", and the names of its released weights. Built in chapter 8;
    ``FastMixFeedForward`` of chapter 10 computes the same with less memory.
    """

    def __init__(self, *, dim: int, expansion_factor: int) -> None:
        super().__init__()
        hidden_dim = dim * expansion_factor
        self.widen = nn.Conv2d(dim, hidden_dim, 1)
        self.mix = nn.Conv2d(hidden_dim, hidden_dim, 3, padding=1, groups=hidden_dim)
        self.narrow = nn.Conv2d(hidden_dim, dim, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.narrow(F.gelu(self.mix(self.widen(x))))
