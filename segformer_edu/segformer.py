"""Chapter 6: SegFormer, the encoder and the decoder together."""

from __future__ import annotations

import torch
from torch import nn

from segformer_edu.encoder import MiT
from segformer_edu.parts import SKETCH, Parts


def per_stage(value: int | tuple[int, ...]) -> tuple[int, ...]:
    """A single value holds for all four stages; a tuple is taken as it is."""
    return tuple(value) if isinstance(value, tuple | list) else (value,) * 4


class Segformer(nn.Module):
    """SegFormer: a Mix Transformer encoder and an all-MLP decoder; one score a class for every 4×4 pixels.

    The defaults are the sketch's. ``dims``, ``heads``, ``ff_expansion``, ``reduction_ratio`` and ``num_layers`` are
    one number for all four stages or a tuple of four.

    Args:
        dims: channels of each stage's map; each a multiple of its ``heads``.
        heads: attention heads of each stage.
        ff_expansion: how many times wider each stage's feed-forward network is in between.
        reduction_ratio: side of the cells that each stage's keys and values are taken from, in pixels.
        num_layers: transformer blocks in each stage.
        channels: channels of the image.
        decoder_dim: width of the decoder.
        num_classes: classes, which is channels of the result.
        parts: the leaves that the model is made of.

    Shapes: (B, channels, H, W), H and W from 32 up → logits (B, num_classes, (H - 1) // 4 + 1, (W - 1) // 4 + 1).

    Raises:
        TypeError, ValueError: see ``MiT``.

    Source: the paper, §3; the sketch (lucidrains' class of this name). Built in chapter 6.
    """

    def __init__(
        self,
        *,
        dims: int | tuple[int, ...] = (32, 64, 160, 256),
        heads: int | tuple[int, ...] = (1, 2, 5, 8),
        ff_expansion: int | tuple[int, ...] = (8, 8, 4, 4),
        reduction_ratio: int | tuple[int, ...] = (8, 4, 2, 1),
        num_layers: int | tuple[int, ...] = 2,
        channels: int = 3,
        decoder_dim: int = 256,
        num_classes: int = 4,
        parts: Parts = SKETCH,
    ) -> None:
        super().__init__()
        dims, heads, ff_expansion, reduction_ratio, num_layers = map(
            per_stage, (dims, heads, ff_expansion, reduction_ratio, num_layers)
        )
        self.num_classes = num_classes
        self.mit = MiT(
            channels=channels,
            dims=dims,
            heads=heads,
            ff_expansion=ff_expansion,
            reduction_ratio=reduction_ratio,
            num_layers=num_layers,
            parts=parts,
        )
        self.decoder = parts.decoder(dims=dims, decoder_dim=decoder_dim, num_classes=num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.decoder(self.mit(x, return_layer_outputs=True))
