"""Chapters 5, 8 and 10: the leaves of the one skeleton; a dialect of SegFormer is one value of ``Parts``."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from torch import nn

from segformer_edu.model.attention import EfficientSelfAttention, SpatialReductionAttention
from segformer_edu.model.config import NormEps
from segformer_edu.model.decoder import MLPDecoder, SegformerHead
from segformer_edu.model.embedding import OverlapPatchEmbedding
from segformer_edu.model.fast import FastMixFeedForward, FastSegformerHead
from segformer_edu.model.feedforward import DepthwiseMixFeedForward, MixFeedForward
from segformer_edu.model.normalization import LayerNorm, LayerNorm2d


@dataclass(frozen=True)
class Parts:
    """What makes each leaf of the model; ``dataclasses.replace`` swaps one of them.

    Every leaf takes and returns maps (B, C, H, W).

    Attributes:
        patch_embedding: called with (dim_in, dim_out, kernel_size, stride, padding); shrinks the map as a stage begins.
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

    @property
    def dialect(self) -> str:
        """Which of the dialects these are, whatever eps and dropout they were given: "custom" for none of them."""
        known = {"sketch": SKETCH, "paper": PAPER, "fast": FAST}
        return next((name for name, parts in known.items() if leaves(parts) == leaves(self)), "custom")

    def with_norm_eps(self, eps: NormEps) -> Parts:
        """Return the same leaves whose layer norms have these eps, where they are not None."""
        arguments = {
            "norm": {"eps": eps.blocks},
            "stage_norm": {"eps": eps.stages},
            "patch_embedding": {"norm_eps": eps.patches},
            "attention": {"norm_eps": eps.reductions},
        }
        changed = {
            leaf: partial(getattr(self, leaf), **options)
            for leaf, options in arguments.items()
            if None not in options.values()
        }
        return dataclasses.replace(self, **changed)

    def with_dropout(self, rate: float) -> Parts:
        """Return the same leaves whose decoder leaves out channels this often while it learns."""
        return dataclasses.replace(self, decoder=partial(self.decoder, dropout=rate))


def leaves(parts: Parts) -> list[Callable[..., nn.Module]]:
    """Return what makes each leaf, without the eps and the dropout that it was given."""
    made = [getattr(parts, field.name) for field in dataclasses.fields(parts)]
    return [leaf.func if isinstance(leaf, partial) and is_tuned(leaf) else leaf for leaf in made]


def is_tuned(leaf: partial[nn.Module]) -> bool:
    """Whether nothing but eps and dropout was fixed beforehand."""
    return not leaf.args and leaf.keywords.keys() <= {"eps", "norm_eps", "dropout"}


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
"""The model of the paper's released weights, written plainly; its sizes are in ``VARIANTS``."""

FAST = dataclasses.replace(PAPER, feed_forward=FastMixFeedForward, decoder=FastSegformerHead)
"""``PAPER`` with its two expensive leaves replaced by siblings that compute the same with less (chapter 10)."""
