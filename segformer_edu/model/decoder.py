"""Chapters 6 and 8: the all-MLP decoder, four maps into one."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class MLPDecoder(nn.Module):
    """Project the four maps to one width, upsample them to the first one's size, fuse them, classify each pixel.

    Args:
        dims: channels of the encoder's maps, finest first.
        decoder_dim: the common width.
        num_classes: channels of the result.

    Shapes: a list of maps (B, dims[i], H_i, W_i) → (B, num_classes, H_0, W_0).

    Source: the paper, §3.2 "Lightweight All-MLP Decoder"; the sketch (the last two parts of lucidrains'
    ``Segformer``): nearest-neighbour upsampling, and no non-linearity. Built in chapter 6.
    """

    def __init__(self, *, dims: tuple[int, ...], decoder_dim: int, num_classes: int) -> None:
        super().__init__()
        self.to_fused = nn.ModuleList([nn.Conv2d(dim, decoder_dim, 1) for dim in dims])
        self.to_segmentation = nn.Sequential(
            nn.Conv2d(len(dims) * decoder_dim, decoder_dim, 1),
            nn.Conv2d(decoder_dim, num_classes, 1),
        )

    def forward(self, layer_outputs: list[torch.Tensor]) -> torch.Tensor:
        size = layer_outputs[0].shape[-2:]
        fused = [F.interpolate(to_fused(x), size=size) for x, to_fused in zip(layer_outputs, self.to_fused)]
        return self.to_segmentation(torch.cat(fused, dim=1))


class SegformerHead(nn.Module):
    """The released decoder: project the four maps, upsample them, fuse them, normalise, ReLU, classify each pixel.

    Args:
        dims: channels of the encoder's maps, finest first.
        decoder_dim: the common width, C in §3.2 of the paper.
        num_classes: channels of the result.
        dropout: how often a channel is left out before the classifier, while training.

    Shapes: a list of maps (B, dims[i], H_i, W_i) → (B, num_classes, H_0, W_0).

    Source: the paper, §3.2 "Lightweight All-MLP Decoder", and the names of its released weights; BatchNorm, ReLU and
    dropout are the released code's. Built in chapter 8; ``FastSegformerHead`` of chapter 10 computes the same with
    less.
    """

    def __init__(self, *, dims: tuple[int, ...], decoder_dim: int, num_classes: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.project = nn.ModuleList([nn.Conv2d(dim, decoder_dim, 1) for dim in dims])
        self.fuse = nn.Conv2d(len(dims) * decoder_dim, decoder_dim, 1, bias=False)
        self.norm = nn.BatchNorm2d(decoder_dim)
        self.dropout = nn.Dropout2d(dropout)
        self.classify = nn.Conv2d(decoder_dim, num_classes, 1)

    def forward(self, layer_outputs: list[torch.Tensor]) -> torch.Tensor:
        size = layer_outputs[0].shape[-2:]
        maps = [
            F.interpolate(project(x), size=size, mode="bilinear") for x, project in zip(layer_outputs, self.project)
        ]
        fused = self.fuse(torch.cat(maps, dim=1))
        return self.classify(self.dropout(self.norm(fused).relu()))
