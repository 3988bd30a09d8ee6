"""SegFormer from scratch: the library that the book's chapters build."""

from segformer_edu.attention import EfficientSelfAttention, SpatialReductionAttention
from segformer_edu.checkpoints import convert_state_dict, load_pretrained
from segformer_edu.convolution import DsConv2d
from segformer_edu.cost import Cost, cost
from segformer_edu.decoder import MLPDecoder, SegformerHead
from segformer_edu.embedding import OverlapPatchEmbedding
from segformer_edu.encoder import MiT
from segformer_edu.feedforward import DepthwiseMixFeedForward, MixFeedForward
from segformer_edu.inference import segment
from segformer_edu.normalization import LayerNorm, LayerNorm2d, PreNorm
from segformer_edu.parts import PAPER, SKETCH, Parts
from segformer_edu.regularization import DropPath
from segformer_edu.segformer import (
    ImageClassifier,
    Segformer,
    mit_b0,
    mit_b1,
    mit_b2,
    mit_b3,
    mit_b4,
    mit_b5,
    segformer_b0,
    segformer_b1,
    segformer_b2,
    segformer_b3,
    segformer_b4,
    segformer_b5,
)

__all__ = [
    "PAPER",
    "SKETCH",
    "Cost",
    "DepthwiseMixFeedForward",
    "DropPath",
    "DsConv2d",
    "EfficientSelfAttention",
    "ImageClassifier",
    "LayerNorm",
    "LayerNorm2d",
    "MLPDecoder",
    "MiT",
    "MixFeedForward",
    "OverlapPatchEmbedding",
    "Parts",
    "PreNorm",
    "Segformer",
    "SegformerHead",
    "SpatialReductionAttention",
    "convert_state_dict",
    "cost",
    "load_pretrained",
    "mit_b0",
    "mit_b1",
    "mit_b2",
    "mit_b3",
    "mit_b4",
    "mit_b5",
    "segformer_b0",
    "segformer_b1",
    "segformer_b2",
    "segformer_b3",
    "segformer_b4",
    "segformer_b5",
    "segment",
]
