"""Chapter 4: the Mix-FFN, a feed-forward network that knows its neighbours."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from segformer_edu.arguments import check_map, check_positive
from segformer_edu.convolution import DsConv2d
from segformer_edu.pieces import count_pieces
from segformer_edu.regularization import DropPath


class MixFeedForward(nn.Module):
    """Widen the channels, mix each pixel with its 3×3 neighbours, apply GELU, narrow again.

    Args:
        dim: channels of the map.
        expansion_factor: how many times wider the channels become in between.

    Shapes: (B, dim, H, W) → (B, dim, H, W).

    Raises:
        TypeError, ValueError: an input that is no floating-point map with ``dim`` channels.

    Source: the paper, §3.1 "Mix-FFN"; the sketch (lucidrains' class of this name), whose middle convolution is
    depthwise separable, where the paper's is depthwise alone. Built in chapter 4.
    """

    def __init__(self, *, dim: int, expansion_factor: int) -> None:
        super().__init__()
        check_positive(dim=dim, expansion_factor=expansion_factor)
        self.dim = dim
        hidden_dim = dim * expansion_factor
        self.net = nn.Sequential(
            nn.Conv2d(dim, hidden_dim, 1),
            DsConv2d(hidden_dim, hidden_dim, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(hidden_dim, dim, 1),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        check_map(x, self.dim)
        return self.net(x)


class DepthwiseMixFeedForward(nn.Module):
    """The paper's Mix-FFN: ``MixFeedForward`` whose middle convolution is depthwise alone.

    Args:
        dim: channels of the map.
        expansion_factor: how many times wider the channels become in between.

    Shapes: (B, dim, H, W) → (B, dim, H, W), channels last in memory.

    Raises:
        TypeError, ValueError: an input that is no floating-point map with ``dim`` channels.

    Source: the paper, §3.1 "Mix-FFN", and the names of its released weights. Written plainly in
    chapter 8. Built in chapter 10.
    """

    def __init__(self, *, dim: int, expansion_factor: int) -> None:
        super().__init__()
        check_positive(dim=dim, expansion_factor=expansion_factor)
        self.dim, self.hidden_dim = dim, dim * expansion_factor
        self.widen = nn.Conv2d(dim, self.hidden_dim, 1)
        self.mix = nn.Conv2d(self.hidden_dim, self.hidden_dim, 3, padding=1, groups=self.hidden_dim)
        self.narrow = nn.Conv2d(self.hidden_dim, dim, 1)
        self.drop_path = DropPath()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        check_map(x, self.dim)
        if not torch.is_grad_enabled():
            return self.drop_path(self.in_strips(x))
        # GELU is cheap, its result large: it is computed again when a gradient needs it, not kept
        hidden = self.mix(self.widen(x))
        return self.drop_path(
            checkpoint(self.activate_and_narrow, hidden, use_reentrant=False, preserve_rng_state=False)
        )

    def activate_and_narrow(self, hidden: torch.Tensor) -> torch.Tensor:
        """The second half: (B, dim · expansion_factor, H, W) → (B, dim, H, W)."""
        return self.narrow(F.gelu(hidden))

    def in_strips(self, x: torch.Tensor) -> torch.Tensor:
        """The whole, image by image and in strips of rows where the map in between is large."""
        strips = count_pieces(x, self.hidden_dim)
        if strips == 1:
            return self.activate_and_narrow(self.mix(self.widen(x)))
        if len(x) > 1:
            return torch.cat([self.in_strips(image) for image in x.split(1)])
        rows, out = math.ceil(x.shape[-2] / strips), []
        for first in range(0, x.shape[-2], rows):
            above = min(first, 1)  # the 3×3 convolution looks at one row above the strip and at one below
            strip = x[:, :, first - above : first + rows + 1]
            out.append(self.activate_and_narrow(self.mix(self.widen(strip))[:, :, above : above + rows]))
        return torch.cat(out, dim=2)
