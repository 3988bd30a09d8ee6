"""Chapter 6: the all-MLP decoder, four maps into one."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from segformer_edu.arguments import check_maps, check_positive, check_stages
from segformer_edu.pieces import count_pieces


class MLPDecoder(nn.Module):
    """Project the four maps to one width, upsample them to the first one's size, fuse them, classify each pixel.

    Args:
        dims: channels of the encoder's maps, finest first.
        decoder_dim: the common width.
        num_classes: channels of the result.

    Shapes: a list of maps (B, dims[i], H_i, W_i) → (B, num_classes, H_0, W_0).

    Raises:
        TypeError, ValueError: ``dims`` that are not four positive whole numbers; anything but a list of four
            floating-point maps with ``dims`` channels.

    Source: the paper, §3.2 "Lightweight All-MLP Decoder"; the sketch (the last two parts of lucidrains'
    ``Segformer``): nearest-neighbour upsampling, and no non-linearity. Built in chapter 6.
    """

    def __init__(self, *, dims: tuple[int, ...], decoder_dim: int, num_classes: int) -> None:
        super().__init__()
        check_stages(dims=dims)
        check_positive(decoder_dim=decoder_dim, num_classes=num_classes)
        self.dims = dims
        self.to_fused = nn.ModuleList([nn.Conv2d(dim, decoder_dim, 1) for dim in dims])
        self.to_segmentation = nn.Sequential(
            nn.Conv2d(len(dims) * decoder_dim, decoder_dim, 1),
            nn.Conv2d(decoder_dim, num_classes, 1),
        )

    def forward(self, layer_outputs: list[torch.Tensor]) -> torch.Tensor:
        check_maps(layer_outputs, self.dims)
        size = layer_outputs[0].shape[-2:]
        fused = [F.interpolate(to_fused(x), size=size) for x, to_fused in zip(layer_outputs, self.to_fused)]
        return self.to_segmentation(torch.cat(fused, dim=1))


GROUP = 64
"""Channels that the paper's decoder takes at a time at least: each group reads and writes all the logits once more."""


class SegformerHead(nn.Module):
    """The paper's decoder: project the four maps, upsample them, fuse them, normalise, ReLU, classify each pixel.

    Up to its BatchNorm the decoder is linear, and bilinear upsampling commutes with a linear map of the channels. So
    projection and fusion are one matrix a scale, which works on the small map, before it is upsampled; in evaluation
    the BatchNorm is a part of it. The answer is the same; most of the arithmetic is gone.

    Args:
        dims: channels of the encoder's maps, finest first.
        decoder_dim: the common width, E in Table 6 of the paper.
        num_classes: channels of the result.
        dropout: how often a channel is left out before the classifier, while training.

    Shapes: a list of maps (B, dims[i], H_i, W_i) → (B, num_classes, H_0, W_0).

    Raises:
        TypeError, ValueError: as ``MLPDecoder``.

    Source: the paper, §3.2 "Lightweight All-MLP Decoder", and the names of its released weights. Written
    plainly in chapter 8. Built in chapter 10.
    """

    def __init__(self, *, dims: tuple[int, ...], decoder_dim: int, num_classes: int, dropout: float = 0.1) -> None:
        super().__init__()
        check_stages(dims=dims)
        check_positive(decoder_dim=decoder_dim, num_classes=num_classes)
        self.dims = dims
        self.project = nn.ModuleList([nn.Conv2d(dim, decoder_dim, 1) for dim in dims])
        self.fuse = nn.Conv2d(len(dims) * decoder_dim, decoder_dim, 1, bias=False)
        self.norm = nn.BatchNorm2d(decoder_dim)
        self.dropout = nn.Dropout2d(dropout)
        self.classify = nn.Conv2d(decoder_dim, num_classes, 1)

    def matrices(self) -> tuple[list[torch.Tensor], torch.Tensor]:
        """Return what projection and fusion are together: a matrix (decoder_dim, dims[i]) a scale, and one bias.

        In evaluation the BatchNorm is a part of them: it multiplies and shifts each channel by fixed numbers.
        """
        shares = self.fuse.weight.flatten(1).chunk(len(self.dims), dim=1)
        matrices = [share @ project.weight.flatten(1) for share, project in zip(shares, self.project)]
        bias = sum(share @ project.bias for share, project in zip(shares, self.project))
        if not self.training:
            scale = self.norm.weight * torch.rsqrt(self.norm.running_var + self.norm.eps)
            matrices = [scale[:, None] * matrix for matrix in matrices]
            bias = scale * (bias - self.norm.running_mean) + self.norm.bias
        return [matrix[:, :, None, None] for matrix in matrices], bias

    def forward(self, layer_outputs: list[torch.Tensor]) -> torch.Tensor:
        check_maps(layer_outputs, self.dims)
        matrices, bias = self.matrices()
        if self.training:
            return self.classify(self.dropout(self.norm(fuse_maps(layer_outputs, matrices, bias)).relu()))
        # ReLU works on each channel alone: a group of channels goes all the way before the next is begun, in the cache
        groups = min(count_pieces(layer_outputs[0], len(bias)), math.ceil(len(bias) / GROUP))
        weights = self.classify.weight.chunk(groups, dim=1)
        first, *others = zip(weights, *(part.chunk(groups) for part in (bias, *matrices)))
        logits = self.share(layer_outputs, first, self.classify.bias)
        for group in others:
            logits += self.share(layer_outputs, group)
        return logits

    def share(
        self, maps: Sequence[torch.Tensor], group: Sequence[torch.Tensor], bias: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return what a group of channels adds to the logits: (B, num_classes, H_0, W_0)."""
        weight, group_bias, *matrices = group
        return F.conv2d(fuse_maps(maps, matrices, group_bias).relu_(), weight, bias)


def fuse_maps(maps: Sequence[torch.Tensor], matrices: Sequence[torch.Tensor], bias: torch.Tensor) -> torch.Tensor:
    """Multiply each map's channels by its matrix, bring all to the first one's size, and add them up."""
    fused = F.conv2d(maps[0], matrices[0], bias)
    for x, matrix in zip(maps[1:], matrices[1:]):
        fused += F.interpolate(F.conv2d(x, matrix), size=fused.shape[-2:], mode="bilinear")
    return fused
