"""Chapter 5: the Mix Transformer, four stages of overlapping patches, attention and Mix-FFN."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import islice

import torch
from torch import nn

from segformer_edu.model.config import ConfiguredModule, NormEps, SegformerConfig
from segformer_edu.model.drop_path import DropPath
from segformer_edu.model.parts import SKETCH, Parts
from segformer_edu.validation import check_map

SMALLEST_IMAGE = 32
"""Side of the smallest image, in pixels: the fourth stage then has one pixel."""


class Block(nn.Module):
    """A transformer block: attention, then Mix-FFN, each behind a norm and added to what it was given.

    Args:
        dim: channels of the map.
        heads: of the attention.
        reduction_ratio: side of the cells that keys and values are taken from, in pixels.
        expansion_factor: how many times wider the Mix-FFN is in between.
        drop_path: how often, while training, a sample goes past a branch.
        parts: the leaves.

    Shapes: (B, dim, H, W) → (B, dim, H, W).

    Raises:
        TypeError, ValueError: what its leaves refuse, such as ``dim`` not divisible by ``heads``.

    Source: Vaswani et al., 2017 (the two branches); Xiong et al., 2020 (the norm before each); the paper, Figure 2.
    Built in chapter 5.
    """

    def __init__(
        self,
        *,
        dim: int,
        heads: int,
        reduction_ratio: int,
        expansion_factor: int,
        drop_path: float = 0.0,
        parts: Parts = SKETCH,
    ) -> None:
        super().__init__()
        self.attention_norm = parts.norm(dim)
        self.attention = parts.attention(dim=dim, heads=heads, reduction_ratio=reduction_ratio)
        self.feed_forward_norm = parts.norm(dim)
        self.feed_forward = parts.feed_forward(dim=dim, expansion_factor=expansion_factor)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.drop_path(self.attention(self.attention_norm(x))) + x
        return self.drop_path(self.feed_forward(self.feed_forward_norm(x))) + x


class Stage(nn.Module):
    """A stage: overlapping patches shrink the map, blocks work on it, a norm ends it.

    Args:
        dim_in: channels of the map that comes in.
        dim_out: channels of the map that goes out.
        kernel_size: side of a patch, in pixels.
        stride: how far apart patches begin, in pixels.
        padding: rows and columns of zeros added on each side, in pixels.
        heads: of each attention.
        reduction_ratio: side of the cells that keys and values are taken from, in pixels.
        expansion_factor: how many times wider each Mix-FFN is in between.
        drop_path: for each block how often, while training, a sample goes past a branch.
        parts: the leaves.

    Shapes: (B, dim_in, H, W) → (B, dim_out, H', W') with H' = (H + 2·padding - kernel_size) // stride + 1.

    Raises:
        TypeError, ValueError: see ``Block``.

    Source: the paper, §3.1 and Figure 2. Built in chapter 5.
    """

    def __init__(
        self,
        dim_in: int,
        dim_out: int,
        *,
        kernel_size: int,
        stride: int,
        padding: int,
        heads: int,
        reduction_ratio: int,
        expansion_factor: int,
        drop_path: Sequence[float] = (0.0, 0.0),
        parts: Parts = SKETCH,
    ) -> None:
        super().__init__()
        self.embedding = parts.patch_embedding(dim_in, dim_out, kernel_size, stride, padding)
        self.blocks = nn.Sequential(
            *(
                Block(
                    dim=dim_out,
                    heads=heads,
                    reduction_ratio=reduction_ratio,
                    expansion_factor=expansion_factor,
                    drop_path=rate,
                    parts=parts,
                )
                for rate in drop_path
            )
        )
        self.norm = parts.stage_norm(dim_out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.blocks(self.embedding(x)))


class MiT(ConfiguredModule):
    """The Mix Transformer encoder: an image becomes four maps, of 1/4, 1/8, 1/16 and 1/32 of its height and width.

    Args:
        channels: channels of the image.
        dims: channels of each stage's map.
        heads: attention heads of each stage.
        ff_expansion: how many times wider each stage's feed-forward network is in between.
        reduction_ratio: side of the cells that each stage's keys and values are taken from, in pixels.
        num_layers: transformer blocks in each stage.
        drop_path: how often the last block's branches are left out in training; it rises evenly from 0 in the first.
        parts: the leaves that the stages are made of.

    Shapes: (B, channels, H, W), H and W from 32 up → the last map (B, dims[3], H_4, W_4), or, with
    ``return_layer_outputs``, the list of all four, H_1 = (H - 1) // 4 + 1 and H_{i+1} = (H_i - 1) // 2 + 1.

    Raises:
        TypeError, ValueError: tuples that do not have four positive whole numbers, ``dims`` not divisible by
            ``heads``; an input that is no floating-point image with ``channels`` channels, at least 32×32.

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
        drop_path: float = 0.0,
        parts: Parts = SKETCH,
    ) -> None:
        super().__init__()
        config = SegformerConfig(  # raises an error for bad sizes
            channels=channels,
            dims=dims,
            heads=heads,
            ff_expansion=ff_expansion,
            reduction_ratio=reduction_ratio,
            num_layers=num_layers,
            drop_path=drop_path,
            dialect=parts.dialect,
        )
        stage_kernel_stride_pad = ((7, 4, 3), (3, 2, 1), (3, 2, 1), (3, 2, 1))
        all_dims = (channels, *dims)
        dim_pairs = list(zip(all_dims[:-1], all_dims[1:]))
        depth = sum(num_layers)
        rates = iter([drop_path * index / max(1, depth - 1) for index in range(depth)])

        self.stages = nn.ModuleList([])
        for (dim_in, dim_out), (kernel, stride, padding), layers, expansion, head_count, ratio in zip(
            dim_pairs, stage_kernel_stride_pad, num_layers, ff_expansion, heads, reduction_ratio
        ):
            patch = {"kernel_size": kernel, "stride": stride, "padding": padding}
            block = {"heads": head_count, "reduction_ratio": ratio, "expansion_factor": expansion}
            own_rates = list(islice(rates, layers))
            self.stages.append(Stage(dim_in, dim_out, **patch, **block, drop_path=own_rates, parts=parts))
        self.config = replace(config, norm_eps=NormEps.of(self.stages))

    def forward(self, x: torch.Tensor, return_layer_outputs: bool = False) -> torch.Tensor | list[torch.Tensor]:
        check_map(x, self.config.channels, smallest=SMALLEST_IMAGE)
        layer_outputs = []
        for stage in self.stages:
            x = stage(x)
            layer_outputs.append(x)
        return layer_outputs if return_layer_outputs else x
