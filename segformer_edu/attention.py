"""Chapter 3: efficient self-attention, every pixel looking at a shrunken map."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import nn

from segformer_edu.arguments import check_divisible, check_map, check_positive
from segformer_edu.normalization import LayerNorm2d
from segformer_edu.regularization import DropPath


class EfficientSelfAttention(nn.Module):
    """Self-attention whose keys and values come from a map shrunk ``reduction_ratio`` times in height and in width.

    Every pixel (query) looks at every cell of the shrunken map: (H·W) × (H·W / reduction_ratio²) similarities in
    place of (H·W)². Rows and columns beyond the last whole cell are not looked at.

    Args:
        dim: channels of the map; a multiple of ``heads``.
        heads: how many attentions run side by side, each on dim / heads channels.
        reduction_ratio: side of a cell, in pixels. The paper's R is its square (§3.1).

    Shapes: (B, dim, H, W) → (B, dim, H, W), H and W at least ``reduction_ratio``.

    Raises:
        TypeError, ValueError: ``dim`` not divisible by ``heads``; an input that is no floating-point map with ``dim``
            channels, or smaller than one cell.

    Source: the paper, §3.1 "Efficient Self-Attention"; the sketch (lucidrains' class of this name). Built in chapter 3.
    """

    def __init__(self, *, dim: int, heads: int, reduction_ratio: int) -> None:
        super().__init__()
        check_divisible(dim=dim, heads=heads)
        check_positive(reduction_ratio=reduction_ratio)
        self.dim, self.heads, self.reduction_ratio = dim, heads, reduction_ratio
        self.to_q = nn.Conv2d(dim, dim, 1, bias=False)
        self.to_k = nn.Conv2d(dim, dim, reduction_ratio, stride=reduction_ratio, bias=False)
        self.to_v = nn.Conv2d(dim, dim, reduction_ratio, stride=reduction_ratio, bias=False)
        self.to_out = nn.Conv2d(dim, dim, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        check_map(x, self.dim, smallest=self.reduction_ratio)
        # The channels of a pixel side by side in memory: only then do PyTorch's kernels spare the (N, N') matrix.
        x = x.contiguous(memory_format=torch.channels_last)
        q, k, v = (self.to_q(x), self.to_k(x), self.to_v(x))
        # (B, dim, h, w) → (B, heads, N, dim / heads): one pattern for a large map and for two small ones
        q, k, v = (rearrange(t, "b (heads c) h w -> b heads (h w) c", heads=self.heads) for t in (q, k, v))
        out = F.scaled_dot_product_attention(q, k, v)  # softmax(q kᵀ / √(dim / heads)) v
        out = rearrange(out, "b heads (h w) c -> b (heads c) h w", h=x.shape[-2])
        return self.to_out(out)


class SpatialReductionAttention(nn.Module):
    """The paper's efficient self-attention: ``EfficientSelfAttention`` with biases, and a norm on the shrunken map.

    Keys and values come from one linear layer, applied to a map that a strided convolution shrank ``reduction_ratio``
    times in height and in width; where that is 1, from the map itself.

    Args:
        dim: channels of the map; a multiple of ``heads``.
        heads: how many attentions run side by side, each on dim / heads channels.
        reduction_ratio: side of a cell, in pixels. The paper's R is its square (§3.1).

    Shapes: (B, dim, H, W) → (B, dim, H, W), H and W at least ``reduction_ratio``, channels last in memory.

    Raises:
        TypeError, ValueError: as ``EfficientSelfAttention``.

    Source: the paper, §3.1 "Efficient Self-Attention", and the names of its released weights; the term is that of
    Wang et al., "Pyramid Vision Transformer", 2021. Built in chapter 8.
    """

    def __init__(self, *, dim: int, heads: int, reduction_ratio: int) -> None:
        super().__init__()
        check_divisible(dim=dim, heads=heads)
        check_positive(reduction_ratio=reduction_ratio)
        self.dim, self.heads, self.reduction_ratio = dim, heads, reduction_ratio
        self.reduce = nn.Sequential()
        if reduction_ratio > 1:
            self.reduce.append(nn.Conv2d(dim, dim, reduction_ratio, stride=reduction_ratio))
            self.reduce.append(LayerNorm2d(dim, eps=1e-5))
        self.to_q = nn.Conv2d(dim, dim, 1)
        self.to_kv = nn.Conv2d(dim, 2 * dim, 1)
        self.to_out = nn.Conv2d(dim, dim, 1)
        self.drop_path = DropPath()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        check_map(x, self.dim, smallest=self.reduction_ratio)
        q, (k, v) = self.to_q(x), self.to_kv(self.reduce(x)).chunk(2, dim=1)
        # (B, dim, h, w) → (B, heads, N, dim / heads): in channels-last memory all of these are views
        q, k, v = (rearrange(t, "b (heads c) h w -> b heads (h w) c", heads=self.heads) for t in (q, k, v))
        out = F.scaled_dot_product_attention(q, k, v)
        out = rearrange(out, "b heads (h w) c -> b h w (heads c)", h=x.shape[-2])
        return self.drop_path(self.to_out(rearrange(out, "b h w c -> b c h w")))
