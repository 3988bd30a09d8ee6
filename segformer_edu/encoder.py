"""Chapter 5: the Mix Transformer, four stages of overlapping patches, attention and Mix-FFN."""

from __future__ import annotations

import torch
from torch import nn

from segformer_edu.arguments import check_divisible, check_finite, check_map, check_positive, check_stages
from segformer_edu.normalization import PreNorm
from segformer_edu.parts import SKETCH, Parts

SMALLEST_IMAGE = 32
"""Side of the smallest image, in pixels: the fourth stage then has one pixel."""


class MiT(nn.Module):
    """The Mix Transformer encoder: an image becomes four maps, of 1/4, 1/8, 1/16 and 1/32 of its height and width.

    Args:
        channels: channels of the image.
        dims: channels of each stage's map.
        heads: attention heads of each stage.
        ff_expansion: how many times wider each stage's feed-forward network is in between.
        reduction_ratio: side of the cells that each stage's keys and values are taken from, in pixels.
        num_layers: transformer blocks in each stage.
        parts: the leaves that the stages are made of.

    Shapes: (B, channels, H, W), H and W from 32 up → the last map (B, dims[3], H_4, W_4), or, with
    ``return_layer_outputs``, the list of all four, H_1 = (H - 1) // 4 + 1 and H_{i+1} = (H_i - 1) // 2 + 1.

    Raises:
        TypeError, ValueError: tuples that do not have four positive whole numbers, ``dims`` not divisible by
            ``heads``; an input that is no finite floating-point image with ``channels`` channels, at least 32×32.

    Source: the paper, §3.1 and Table 6; the sketch (lucidrains' class of this name). Built in chapter 5.
    """

    def __init__(
        self,
        *,
        channels: int,
        dims: tuple[int, ...],
        heads: tuple[int, ...],
        ff_expansion: tuple[int, ...],
        reduction_ratio: tuple[int, ...],
        num_layers: tuple[int, ...],
        parts: Parts = SKETCH,
    ) -> None:
        super().__init__()
        check_positive(channels=channels)
        check_stages(
            dims=dims, heads=heads, ff_expansion=ff_expansion, reduction_ratio=reduction_ratio, num_layers=num_layers
        )
        self.channels = channels
        stage_kernel_stride_pad = ((7, 4, 3), (3, 2, 1), (3, 2, 1), (3, 2, 1))
        dims = (channels, *dims)
        dim_pairs = list(zip(dims[:-1], dims[1:]))

        self.stages = nn.ModuleList([])
        for (dim_in, dim_out), (kernel, stride, padding), depth, expansion, head_count, ratio in zip(
            dim_pairs, stage_kernel_stride_pad, num_layers, ff_expansion, heads, reduction_ratio
        ):
            check_divisible(dim=dim_out, heads=head_count)
            layers = nn.ModuleList([])
            for _ in range(depth):
                attention = parts.attention(dim=dim_out, heads=head_count, reduction_ratio=ratio)
                feed_forward = parts.feed_forward(dim=dim_out, expansion_factor=expansion)
                layers.append(
                    nn.ModuleList([PreNorm(dim_out, attention, parts.norm), PreNorm(dim_out, feed_forward, parts.norm)])
                )
            patch_embedding = parts.patch_embedding(dim_in, dim_out, kernel, stride, padding)
            self.stages.append(nn.ModuleList([patch_embedding, layers, parts.stage_norm(dim_out)]))

    def forward(self, x: torch.Tensor, return_layer_outputs: bool = False) -> torch.Tensor | list[torch.Tensor]:
        check_map(x, self.channels, smallest=SMALLEST_IMAGE)
        check_finite(x)
        layer_outputs = []
        for patch_embedding, layers, stage_norm in self.stages:
            x = patch_embedding(x)
            for attention, feed_forward in layers:
                x = attention(x) + x
                x = feed_forward(x) + x
            x = stage_norm(x)
            layer_outputs.append(x)
        return layer_outputs if return_layer_outputs else x
