"""The leaves that the skeleton of chapters 5 and 6 is built from; a dialect of SegFormer is one value of ``Parts``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from segformer_edu.attention import EfficientSelfAttention, SpatialReductionAttention
from segformer_edu.decoder import MLPDecoder, SegformerHead
from segformer_edu.embedding import OverlapPatchEmbedding
from segformer_edu.feedforward import DepthwiseMixFeedForward, MixFeedForward
from segformer_edu.normalization import LayerNorm, LayerNorm2d


@dataclass(frozen=True)
class Parts:
    """What makes each leaf of the model; ``dataclasses.replace`` swaps one of them.

    Every leaf takes and returns maps (B, C, H, W).

    Attributes:
        patch_embedding: called with (dim_in, dim_out, kernel_size, stride, padding); shrinks the map at a stage's door.
        norm: called with (dim); stands before each attention and feed-forward network.
        attention: called with (dim=, heads=, reduction_ratio=).
        feed_forward: called with (dim=, expansion_factor=).
        stage_norm: called with (dim); the last thing in a stage.
        decoder: called with (dims=, decoder_dim=, num_classes=); takes the list of the stages' maps.
    """

    patch_embedding: Callable[..., nn.Module]
    norm: Callable[[int], nn.Module]
    attention: Callable[..., nn.Module]
    feed_forward: Callable[..., nn.Module]
    stage_norm: Callable[[int], nn.Module]
    decoder: Callable[..., nn.Module]


SKETCH = Parts(
    patch_embedding=nn.Conv2d,  # the same map as the seed's Unfold and 1×1 convolution
    norm=LayerNorm,
    attention=EfficientSelfAttention,
    feed_forward=MixFeedForward,
    stage_norm=nn.Identity,
    decoder=MLPDecoder,
)
"""The seed's model: lucidrains' segformer-pytorch (MIT), as the annotated article shows it."""

PAPER = Parts(
    patch_embedding=OverlapPatchEmbedding,
    norm=LayerNorm2d,
    attention=SpatialReductionAttention,
    feed_forward=DepthwiseMixFeedForward,
    stage_norm=LayerNorm2d,
    decoder=SegformerHead,
)
"""The model of the paper's released weights; its sizes are in ``VARIANTS``."""
