"""Chapter 8: the six sizes whose weights were published, and how their weights start."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypedDict

import torch
from torch import nn

from segformer_edu.model.config import ConfiguredModule, NormEps
from segformer_edu.model.decoder import SegformerHead
from segformer_edu.model.encoder import MiT
from segformer_edu.model.parts import FAST, Parts
from segformer_edu.model.segformer import Segformer
from segformer_edu.validation import check_positive

if TYPE_CHECKING:
    from typing_extensions import Unpack

VARIANTS: Mapping[str, dict[str, Any]] = {
    "b0": {"dims": (32, 64, 160, 256), "num_layers": (2, 2, 2, 2), "decoder_dim": 256},
    "b1": {"dims": (64, 128, 320, 512), "num_layers": (2, 2, 2, 2), "decoder_dim": 256},
    "b2": {"dims": (64, 128, 320, 512), "num_layers": (3, 4, 6, 3), "decoder_dim": 768},
    "b3": {"dims": (64, 128, 320, 512), "num_layers": (3, 4, 18, 3), "decoder_dim": 768},
    "b4": {"dims": (64, 128, 320, 512), "num_layers": (3, 8, 27, 3), "decoder_dim": 768},
    "b5": {"dims": (64, 128, 320, 512), "num_layers": (3, 6, 40, 3), "decoder_dim": 768},
}
"""What sets B0 to B5 apart, as the released weights have it; in the paper's Table 6 some numbers differ (chapter 8)."""
SMALL: Mapping[str, Any] = {"dims": (16, 32, 80, 144), "num_layers": (2, 2, 2, 2), "decoder_dim": 128}
"""Our own: B0 at half of its width, for browsers and telephones; see chapter 11."""
SIZES: Mapping[str, Mapping[str, Any]] = {**VARIANTS, "small": SMALL}
COMMON: Mapping[str, Any] = {"heads": (1, 2, 5, 8), "ff_expansion": (4, 4, 4, 4), "reduction_ratio": (8, 4, 2, 1)}
DROP_PATH = 0.1


class ImageClassifier(ConfiguredModule):
    """The encoder with the head that it was pretrained with: the mean of its last map, and one linear layer.

    Args:
        mit: the encoder.
        num_classes: channels of the result; 1000 for ImageNet.
        class_names: one a class, to be kept with the weights.

    Attributes:
        config: what the model is; see ``SegformerConfig``.
        class_names: the classes' names, None where nobody told them.

    Shapes: (B, channels, H, W), H and W from 32 up → logits (B, num_classes).

    Raises:
        TypeError, ValueError: see ``MiT``; a number of classes that is no positive whole number.

    Source: the paper, §4.1 and Table 7. Built in chapter 8.
    """

    def __init__(self, mit: MiT, num_classes: int = 1000, class_names: tuple[str, ...] | None = None) -> None:
        super().__init__()
        check_positive(num_classes=num_classes)
        self.mit, self.num_classes = mit, num_classes
        self.head = nn.Linear(mit.config.dims[-1], num_classes)
        self.config = replace(mit.config, num_classes=num_classes, class_names=class_names)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.mit(x).mean(dim=(2, 3)))


def initialize(module: nn.Module) -> None:
    """Draw a layer's weights as the paper's code draws the encoder's: ``mit.apply(initialize)``.

    A 1×1 convolution is a linear layer and is drawn as one. Norms start at 1 and 0 by themselves.

    Source: the released code. Built in chapter 8.
    """
    if not isinstance(module, nn.Linear | nn.Conv2d):
        return
    if isinstance(module, nn.Linear) or module.kernel_size == (1, 1):
        nn.init.trunc_normal_(module.weight, std=0.02)
    else:
        fan_out = module.out_channels * module.kernel_size[0] * module.kernel_size[1] // module.groups
        nn.init.normal_(module.weight, std=(2 / fan_out) ** 0.5)
    if module.bias is not None:
        nn.init.zeros_(module.bias)


def initialize_head(head: SegformerHead) -> None:
    """Draw a decoder's weights as the paper's code does: fuse by Kaiming's rule, all else by PyTorch's own.

    Source: the released code. Built in chapter 8.
    """
    for module in head.modules():
        if isinstance(module, nn.Conv2d | nn.BatchNorm2d):
            module.reset_parameters()
    nn.init.kaiming_normal_(head.fuse.weight, mode="fan_out", nonlinearity="relu")  # std √(2 / decoder_dim)


class CommonOptions(TypedDict, total=False):
    """What every builder takes besides the number of classes; those that ``MiT`` has too mean what they mean there.

    Attributes:
        channels: of the image; 3 by default.
        parts: ``FAST`` by default; ``PAPER`` is the same function, plainly; or leaves of your own.
        drop_path: 0.1 by default.
        norm_eps: of the layer norms; those of the released code by default.
        class_names: one a class, to be kept with the weights.
        dims: instead of the variant's.
        num_layers: instead of the variant's.
        heads: instead of (1, 2, 5, 8).
        ff_expansion: instead of (4, 4, 4, 4).
        reduction_ratio: instead of (8, 4, 2, 1).
    """

    channels: int
    parts: Parts
    drop_path: float
    norm_eps: NormEps
    class_names: tuple[str, ...] | None
    dims: tuple[int, ...]
    num_layers: tuple[int, ...]
    heads: tuple[int, ...]
    ff_expansion: tuple[int, ...]
    reduction_ratio: tuple[int, ...]


class SegformerOptions(CommonOptions, total=False):
    """What ``segformer_b0`` to ``segformer_b5`` take: ``CommonOptions`` and those of the decoder.

    Attributes:
        decoder_dim: instead of the variant's.
        dropout: how often a channel is left out before the classifier while training; 0.1 by default.
    """

    decoder_dim: int
    dropout: float


def build_segformer(
    variant: str,
    num_classes: int,
    *,
    parts: Parts = FAST,
    drop_path: float = DROP_PATH,
    dropout: float | None = None,
    norm_eps: NormEps | None = None,
    **sizes: Any,
) -> Segformer:
    """Make one of ``SIZES`` with fresh weights; what the others take is said in ``SegformerOptions``.

    Raises:
        TypeError, ValueError: see ``Segformer``; a ``dropout`` or ``norm_eps`` for parts that have no such thing.
    """
    parts = parts if norm_eps is None else parts.with_norm_eps(norm_eps)
    parts = parts if dropout is None else parts.with_dropout(dropout)
    chosen = {**SIZES[variant], **COMMON, **sizes}
    model = Segformer(**chosen, num_classes=num_classes, drop_path=drop_path, parts=parts)
    model.mit.apply(initialize)
    if isinstance(model.decoder, SegformerHead):
        initialize_head(model.decoder)
    return model.to(memory_format=torch.channels_last)


def build_classifier(
    variant: str,
    num_classes: int,
    *,
    parts: Parts = FAST,
    drop_path: float = DROP_PATH,
    norm_eps: NormEps | None = None,
    class_names: tuple[str, ...] | None = None,
    channels: int = 3,
    **sizes: Any,
) -> ImageClassifier:
    """Make the encoder of one of ``VARIANTS`` with a classifier of whole images; see ``CommonOptions``.

    Raises:
        TypeError, ValueError: see ``MiT``; a ``norm_eps`` for parts that have no such thing.
    """
    parts = parts if norm_eps is None else parts.with_norm_eps(norm_eps)
    own = {name: VARIANTS[variant][name] for name in ("dims", "num_layers")}
    mit = MiT(**{**own, **COMMON, **sizes}, channels=channels, drop_path=drop_path, parts=parts)
    model = ImageClassifier(mit, num_classes, class_names)
    model.apply(initialize)
    return model.to(memory_format=torch.channels_last)


def segformer_b0(num_classes: int = 150, **options: Unpack[SegformerOptions]) -> Segformer:
    """Make SegFormer-B0 of the paper (§3, Table 6), fresh weights; 150 classes: ADE20K; see ``SegformerOptions``."""
    return build_segformer("b0", num_classes, **options)


def segformer_b1(num_classes: int = 150, **options: Unpack[SegformerOptions]) -> Segformer:
    """Make SegFormer-B1 of the paper (§3, Table 6), fresh weights; 150 classes: ADE20K; see ``SegformerOptions``."""
    return build_segformer("b1", num_classes, **options)


def segformer_b2(num_classes: int = 150, **options: Unpack[SegformerOptions]) -> Segformer:
    """Make SegFormer-B2 of the paper (§3, Table 6), fresh weights; 150 classes: ADE20K; see ``SegformerOptions``."""
    return build_segformer("b2", num_classes, **options)


def segformer_b3(num_classes: int = 150, **options: Unpack[SegformerOptions]) -> Segformer:
    """Make SegFormer-B3 of the paper (§3, Table 6), fresh weights; 150 classes: ADE20K; see ``SegformerOptions``."""
    return build_segformer("b3", num_classes, **options)


def segformer_b4(num_classes: int = 150, **options: Unpack[SegformerOptions]) -> Segformer:
    """Make SegFormer-B4 of the paper (§3, Table 6), fresh weights; 150 classes: ADE20K; see ``SegformerOptions``."""
    return build_segformer("b4", num_classes, **options)


def segformer_b5(num_classes: int = 150, **options: Unpack[SegformerOptions]) -> Segformer:
    """Make SegFormer-B5 of the paper (§3, Table 6), fresh weights; 150 classes: ADE20K; see ``SegformerOptions``."""
    return build_segformer("b5", num_classes, **options)


def mit_b0(num_classes: int = 1000, **options: Unpack[CommonOptions]) -> ImageClassifier:
    """Make MiT-B0 of the paper (Table 7) with its classifier of ImageNet, fresh weights; see ``CommonOptions``."""
    return build_classifier("b0", num_classes, **options)


def mit_b1(num_classes: int = 1000, **options: Unpack[CommonOptions]) -> ImageClassifier:
    """Make MiT-B1 of the paper (Table 7) with its classifier of ImageNet, fresh weights; see ``CommonOptions``."""
    return build_classifier("b1", num_classes, **options)


def mit_b2(num_classes: int = 1000, **options: Unpack[CommonOptions]) -> ImageClassifier:
    """Make MiT-B2 of the paper (Table 7) with its classifier of ImageNet, fresh weights; see ``CommonOptions``."""
    return build_classifier("b2", num_classes, **options)


def mit_b3(num_classes: int = 1000, **options: Unpack[CommonOptions]) -> ImageClassifier:
    """Make MiT-B3 of the paper (Table 7) with its classifier of ImageNet, fresh weights; see ``CommonOptions``."""
    return build_classifier("b3", num_classes, **options)


def mit_b4(num_classes: int = 1000, **options: Unpack[CommonOptions]) -> ImageClassifier:
    """Make MiT-B4 of the paper (Table 7) with its classifier of ImageNet, fresh weights; see ``CommonOptions``."""
    return build_classifier("b4", num_classes, **options)


def mit_b5(num_classes: int = 1000, **options: Unpack[CommonOptions]) -> ImageClassifier:
    """Make MiT-B5 of the paper (Table 7) with its classifier of ImageNet, fresh weights; see ``CommonOptions``."""
    return build_classifier("b5", num_classes, **options)
