"""Chapters 3 and 8: efficient self-attention, every pixel looking at a shrunken map."""

from __future__ import annotations

import torch
import torch.fx
import torch.nn.functional as F
from einops import rearrange
from torch import nn

from segformer_edu.model.normalization import LayerNorm2d
from segformer_edu.validation import check_divisible

torch.fx.wrap("rearrange")  # recorded as a call: einops takes no placeholder of torch.fx.symbolic_trace apart


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
        TypeError, ValueError: ``dim`` not divisible by ``heads``.
        RuntimeError: a map that is smaller than one cell.

    Source: Vaswani et al., "Attention Is All You Need", 2017 (attention, heads); Wang et al., "Pyramid Vision
    Transformer", 2021 (shrunken keys and values); the paper, §3.1 "Efficient Self-Attention"; the sketch (lucidrains'
    class of this name). Built in chapter 3.
    """

    def __init__(self, *, dim: int, heads: int, reduction_ratio: int) -> None:
        super().__init__()
        check_divisible(dim=dim, heads=heads)
        self.heads, self.reduction_ratio = heads, reduction_ratio
        self.to_q = nn.Conv2d(dim, dim, 1, bias=False)
        self.to_k = nn.Conv2d(dim, dim, reduction_ratio, stride=reduction_ratio, bias=False)
        self.to_v = nn.Conv2d(dim, dim, reduction_ratio, stride=reduction_ratio, bias=False)
        self.to_out = nn.Conv2d(dim, dim, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # The channels of a pixel side by side in memory: only then do PyTorch's kernels spare the (N, N') matrix.
        x = rearrange(rearrange(x, "b c h w -> b h w c").contiguous(), "b h w c -> b c h w")
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
        norm_eps: of the norm on the shrunken map.

    Shapes: (B, dim, H, W) → (B, dim, H, W), H and W at least ``reduction_ratio``, channels last in memory.

    Raises:
        TypeError, ValueError, RuntimeError: as ``EfficientSelfAttention``.

    Source: the paper, §3.1 "Efficient Self-Attention", and the names of its released weights; the term is that of
    Wang et al., "Pyramid Vision Transformer", 2021. Built in chapter 8.
    """

    def __init__(self, *, dim: int, heads: int, reduction_ratio: int, norm_eps: float = 1e-5) -> None:
        super().__init__()
        check_divisible(dim=dim, heads=heads)
        self.heads, self.reduction_ratio = heads, reduction_ratio
        self.reduce = nn.Sequential()
        if reduction_ratio > 1:
            self.reduce.append(nn.Conv2d(dim, dim, reduction_ratio, stride=reduction_ratio))
            self.reduce.append(LayerNorm2d(dim, eps=norm_eps))
        self.to_q = nn.Conv2d(dim, dim, 1)
        self.to_kv = nn.Conv2d(dim, 2 * dim, 1)
        self.to_out = nn.Conv2d(dim, dim, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, (k, v) = self.to_q(x), self.to_kv(self.reduce(x)).chunk(2, dim=1)
        # (B, dim, h, w) → (B, heads, N, dim / heads): in channels-last memory all of these are views
        q, k, v = (rearrange(t, "b (heads c) h w -> b heads (h w) c", heads=self.heads) for t in (q, k, v))
        out = F.scaled_dot_product_attention(q, k, v)
        out = rearrange(out, "b heads (h w) c -> b h w (heads c)", h=x.shape[-2])
        return self.to_out(rearrange(out, "b h w c -> b c h w"))
