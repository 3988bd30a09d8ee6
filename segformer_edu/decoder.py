"""Chapter 6: the all-MLP decoder, four maps into one."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from segformer_edu.arguments import check_maps, check_positive, check_stages


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
