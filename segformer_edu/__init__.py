"""SegFormer from scratch: the library that the book's chapters build."""

from importlib.metadata import PackageNotFoundError, version

from segformer_edu.inference import segment
from segformer_edu.model.attention import EfficientSelfAttention, SpatialReductionAttention
from segformer_edu.model.config import NormEps, SegformerConfig
from segformer_edu.model.convolution import DsConv2d
from segformer_edu.model.cost import Cost, cost
from segformer_edu.model.decoder import MLPDecoder, SegformerHead
from segformer_edu.model.drop_path import DropPath
from segformer_edu.model.embedding import OverlapPatchEmbedding
from segformer_edu.model.encoder import Block, MiT, Stage
from segformer_edu.model.fast import FastMixFeedForward, FastSegformerHead
from segformer_edu.model.feedforward import DepthwiseMixFeedForward, MixFeedForward
from segformer_edu.model.normalization import LayerNorm, LayerNorm2d, PreNorm
from segformer_edu.model.parts import FAST, PAPER, SKETCH, Parts
from segformer_edu.model.segformer import Segformer
from segformer_edu.model.variants import (
    ImageClassifier,
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
from segformer_edu.pretrained.convert import convert_state_dict
from segformer_edu.pretrained.load import load_pretrained
from segformer_edu.pretrained.save import save_pretrained

try:
    __version__ = version("segformer-edu")
except PackageNotFoundError:
    __version__ = "(not installed)"  # a checkout runs without it

__all__ = [
    "FAST",
    "PAPER",
    "SKETCH",
    "Block",
    "Cost",
    "DepthwiseMixFeedForward",
    "DropPath",
    "DsConv2d",
    "EfficientSelfAttention",
    "FastMixFeedForward",
    "FastSegformerHead",
    "ImageClassifier",
    "LayerNorm",
    "LayerNorm2d",
    "MLPDecoder",
    "MiT",
    "MixFeedForward",
    "NormEps",
    "OverlapPatchEmbedding",
    "Parts",
    "PreNorm",
    "Segformer",
    "SegformerConfig",
    "SegformerHead",
    "SpatialReductionAttention",
    "Stage",
    "convert_state_dict",
    "cost",
    "load_pretrained",
    "mit_b0",
    "mit_b1",
    "mit_b2",
    "mit_b3",
    "mit_b4",
    "mit_b5",
    "save_pretrained",
    "segformer_b0",
    "segformer_b1",
    "segformer_b2",
    "segformer_b3",
    "segformer_b4",
    "segformer_b5",
    "segment",
]
