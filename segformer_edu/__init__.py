"""SegFormer from scratch: the library that the book's chapters build."""

from segformer_edu.attention import EfficientSelfAttention
from segformer_edu.checkpoints import convert_state_dict, load_pretrained
from segformer_edu.convolution import DsConv2d
from segformer_edu.decoder import MLPDecoder
from segformer_edu.encoder import MiT
from segformer_edu.feedforward import MixFeedForward
from segformer_edu.inference import segment
from segformer_edu.normalization import LayerNorm, PreNorm
from segformer_edu.parts import SKETCH, Parts
from segformer_edu.segformer import Segformer

__all__ = [
    "SKETCH",
    "DsConv2d",
    "EfficientSelfAttention",
    "LayerNorm",
    "MLPDecoder",
    "MiT",
    "MixFeedForward",
    "Parts",
    "PreNorm",
    "Segformer",
    "convert_state_dict",
    "load_pretrained",
    "segment",
]
