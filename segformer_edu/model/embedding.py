"""Chapter 8: the paper's overlapping patch embedding, a strided convolution and a norm."""

from __future__ import annotations

import torch
import torch.fx
from einops import rearrange
from torch import nn

from segformer_edu.model.normalization import LayerNorm2d

torch.fx.wrap("rearrange")  # recorded as a call: einops takes no placeholder of torch.fx.symbolic_trace apart


class OverlapPatchEmbedding(nn.Module):
    """Shrink a map by overlapping patches, each a linear function of its pixels, and normalise the result.

    Args:
        dim_in: channels of the map.
        dim_out: channels of the result.
        kernel_size: side of a patch, in pixels.
        stride: how far apart patches begin, in pixels.
        padding: rows and columns of zeros added on each side, in pixels.
        norm_eps: of the norm.

    Shapes: (B, dim_in, H, W) → (B, dim_out, H', W') with H' = (H + 2·padding - kernel_size) // stride + 1, channels
    last in memory.

    Source: the paper, §3.1 "Overlapped Patch Merging", and the names of its released weights. Built in chapter 8.
    """

    def __init__(
        self, dim_in: int, dim_out: int, kernel_size: int, stride: int, padding: int, norm_eps: float = 1e-5
    ) -> None:
        super().__init__()
        self.project = nn.Conv2d(dim_in, dim_out, kernel_size, stride, padding)
        self.norm = LayerNorm2d(dim_out, eps=norm_eps)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # from here on the channels of a pixel lie side by side in memory: maps are tokens, with nothing copied
        x = rearrange(rearrange(x, "b c h w -> b h w c").contiguous(), "b h w c -> b c h w")
        return self.norm(self.project(x))
