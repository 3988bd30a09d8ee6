"""Chapter 6: SegFormer, the encoder and the decoder together."""

from __future__ import annotations

from dataclasses import replace

import torch

from segformer_edu.model.config import ConfiguredModule
from segformer_edu.model.encoder import MiT
from segformer_edu.model.parts import SKETCH, Parts
from segformer_edu.validation import check_positive


def per_stage(value: int | tuple[int, ...]) -> tuple[int, ...]:
    """A single value holds for all four stages; a tuple is taken as it is."""
    return tuple(value) if isinstance(value, tuple | list) else (value,) * 4


class Segformer(ConfiguredModule):
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
        drop_path: see ``MiT``.
        class_names: one a class, to be kept with the weights.
        parts: the leaves that the model is made of.

    Attributes:
        config: what the model is; see ``SegformerConfig``.
        class_names: the classes' names, None where nobody told them.

    Shapes: (B, channels, H, W), H and W from 32 up → logits (B, num_classes, (H - 1) // 4 + 1, (W - 1) // 4 + 1).

    Raises:
        TypeError, ValueError: see ``MiT``; a width or a number of classes that is no positive whole number; a number of
            names that is not the number of classes.

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
        drop_path: float = 0.0,
        class_names: tuple[str, ...] | None = None,
        parts: Parts = SKETCH,
    ) -> None:
        super().__init__()
        check_positive(decoder_dim=decoder_dim, num_classes=num_classes)
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
            drop_path=drop_path,
            parts=parts,
        )
        self.decoder = parts.decoder(dims=dims, decoder_dim=decoder_dim, num_classes=num_classes)
        self.config = replace(
            self.mit.config,
            decoder_dim=decoder_dim,
            dropout=getattr(getattr(self.decoder, "dropout", None), "p", None),
            num_classes=num_classes,
            class_names=class_names,
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.decoder(self.mit(x, return_layer_outputs=True))
