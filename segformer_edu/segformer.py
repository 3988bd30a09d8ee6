"""Chapter 6: SegFormer, the encoder and the decoder together."""

from __future__ import annotations

import torch
from torch import nn

from segformer_edu.arguments import check_positive
from segformer_edu.decoder import SegformerHead
from segformer_edu.encoder import MiT
from segformer_edu.parts import PAPER, SKETCH, Parts


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

    Attributes:
        class_names: what ``load_pretrained`` knows of the classes' names, else None.

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


VARIANTS = {
    "b0": {"dims": (32, 64, 160, 256), "num_layers": (2, 2, 2, 2), "decoder_dim": 256},
    "b1": {"dims": (64, 128, 320, 512), "num_layers": (2, 2, 2, 2), "decoder_dim": 256},
    "b2": {"dims": (64, 128, 320, 512), "num_layers": (3, 4, 6, 3), "decoder_dim": 768},
    "b3": {"dims": (64, 128, 320, 512), "num_layers": (3, 4, 18, 3), "decoder_dim": 768},
    "b4": {"dims": (64, 128, 320, 512), "num_layers": (3, 8, 27, 3), "decoder_dim": 768},
    "b5": {"dims": (64, 128, 320, 512), "num_layers": (3, 6, 40, 3), "decoder_dim": 768},
}
"""What sets B0 to B5 apart, as the released weights have it; in the paper's Table 6 some numbers differ (chapter 8)."""
COMMON = {"heads": (1, 2, 5, 8), "ff_expansion": (4, 4, 4, 4), "reduction_ratio": (8, 4, 2, 1)}
DROP_PATH = 0.1


class ImageClassifier(nn.Module):
    """The encoder with the head that it was pretrained with: the mean of its last map, and one linear layer.

    Args:
        mit: the encoder.
        dim: channels of its last map.
        num_classes: channels of the result; 1000 for ImageNet.

    Attributes:
        class_names: what ``load_pretrained`` knows of the classes' names, else None.

    Shapes: (B, channels, H, W), H and W from 32 up → logits (B, num_classes).

    Raises:
        TypeError, ValueError: see ``MiT``.

    Source: the paper, §4.1 and Table 7. Built in chapter 8.
    """

    def __init__(self, mit: MiT, dim: int, num_classes: int) -> None:
        super().__init__()
        check_positive(dim=dim, num_classes=num_classes)
        self.mit, self.num_classes = mit, num_classes
        self.head = nn.Linear(dim, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.mit(x).mean(dim=(2, 3)))


# Out here, because what stands inside is what chapters 6 and 8 build, token for token.
Segformer.class_names = ImageClassifier.class_names = None


def initialize(module: nn.Module) -> None:
    """Draw a layer's weights as the paper's code draws the encoder's: ``mit.apply(initialize)``.

    A 1×1 convolution is a linear layer and is drawn as one. Norms start at 1 and 0 by themselves.
    """
    linear = isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1))
    if linear:
        nn.init.trunc_normal_(module.weight, std=0.02)
    elif isinstance(module, nn.Conv2d):
        fan_out = module.out_channels * module.kernel_size[0] * module.kernel_size[1] // module.groups
        nn.init.normal_(module.weight, std=(2 / fan_out) ** 0.5)
    else:
        return
    if module.bias is not None:
        nn.init.zeros_(module.bias)


def initialize_head(head: SegformerHead) -> None:
    """Draw a decoder's weights as the paper's code does: fuse by Kaiming's rule, all else by PyTorch's own."""
    for module in head.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    nn.init.kaiming_normal_(head.fuse.weight, mode="fan_out", nonlinearity="relu")  # std √(2 / decoder_dim)


def schedule_drop_path(mit: MiT, rate: float = DROP_PATH) -> None:
    """Let drop path rise evenly with the depth, from 0 in the first block to ``rate`` in the last."""
    blocks = [block for _, layers, _ in mit.stages for block in layers]
    for index, block in enumerate(blocks):
        for branch in block:
            branch.fn.drop_path.rate = rate * index / max(1, len(blocks) - 1)


KEPT = 31 * 2**20
"""Bytes of the block that ``prepare_memory`` frees: with its header below 32 MiB, beyond which glibc learns nothing."""


def prepare_memory(model: nn.Module) -> nn.Module:
    """Put weights into channels-last order, and let the process keep what maps free, for those of the next call.

    glibc keeps blocks that are smaller than the largest, of at most 32 MiB, that went back to the system so far. In a
    fresh process most maps would go back, and each call would ask for them anew, page by page. So one block is freed
    here; it is never touched and takes no memory. Source: chapter 10, which measures it.
    """
    torch.empty(KEPT, dtype=torch.uint8, device="cpu")
    return model.to(memory_format=torch.channels_last)


def paper_segformer(variant: str, num_classes: int) -> Segformer:
    """Make one of ``VARIANTS`` with fresh weights."""
    model = Segformer(**VARIANTS[variant], **COMMON, num_classes=num_classes, parts=PAPER)
    model.mit.apply(initialize)
    initialize_head(model.decoder)
    schedule_drop_path(model.mit)
    return prepare_memory(model)


def paper_classifier(variant: str, num_classes: int) -> ImageClassifier:
    """Make the encoder of one of ``VARIANTS``, with a classifier of whole images and fresh weights."""
    sizes = {name: VARIANTS[variant][name] for name in ("dims", "num_layers")}
    mit = MiT(channels=3, **sizes, **COMMON, parts=PAPER)
    model = ImageClassifier(mit, sizes["dims"][-1], num_classes)
    model.apply(initialize)
    schedule_drop_path(mit)
    return prepare_memory(model)


def segformer_b0(num_classes: int = 150) -> Segformer:
    """Make SegFormer-B0 of the paper (Table 6, §3), fresh weights, for ``num_classes`` classes; 150 is ADE20K."""
    return paper_segformer("b0", num_classes)


def segformer_b1(num_classes: int = 150) -> Segformer:
    """Make SegFormer-B1 of the paper (Table 6, §3), fresh weights, for ``num_classes`` classes; 150 is ADE20K."""
    return paper_segformer("b1", num_classes)


def segformer_b2(num_classes: int = 150) -> Segformer:
    """Make SegFormer-B2 of the paper (Table 6, §3), fresh weights, for ``num_classes`` classes; 150 is ADE20K."""
    return paper_segformer("b2", num_classes)


def segformer_b3(num_classes: int = 150) -> Segformer:
    """Make SegFormer-B3 of the paper (Table 6, §3), fresh weights, for ``num_classes`` classes; 150 is ADE20K."""
    return paper_segformer("b3", num_classes)


def segformer_b4(num_classes: int = 150) -> Segformer:
    """Make SegFormer-B4 of the paper (Table 6, §3), fresh weights, for ``num_classes`` classes; 150 is ADE20K."""
    return paper_segformer("b4", num_classes)


def segformer_b5(num_classes: int = 150) -> Segformer:
    """Make SegFormer-B5 of the paper (Table 6, §3), fresh weights, for ``num_classes`` classes; 150 is ADE20K."""
    return paper_segformer("b5", num_classes)


def mit_b0(num_classes: int = 1000) -> ImageClassifier:
    """Make the encoder MiT-B0 of the paper (Table 7) with its ImageNet classifier, fresh weights."""
    return paper_classifier("b0", num_classes)


def mit_b1(num_classes: int = 1000) -> ImageClassifier:
    """Make the encoder MiT-B1 of the paper (Table 7) with its ImageNet classifier, fresh weights."""
    return paper_classifier("b1", num_classes)


def mit_b2(num_classes: int = 1000) -> ImageClassifier:
    """Make the encoder MiT-B2 of the paper (Table 7) with its ImageNet classifier, fresh weights."""
    return paper_classifier("b2", num_classes)


def mit_b3(num_classes: int = 1000) -> ImageClassifier:
    """Make the encoder MiT-B3 of the paper (Table 7) with its ImageNet classifier, fresh weights."""
    return paper_classifier("b3", num_classes)


def mit_b4(num_classes: int = 1000) -> ImageClassifier:
    """Make the encoder MiT-B4 of the paper (Table 7) with its ImageNet classifier, fresh weights."""
    return paper_classifier("b4", num_classes)


def mit_b5(num_classes: int = 1000) -> ImageClassifier:
    """Make the encoder MiT-B5 of the paper (Table 7) with its ImageNet classifier, fresh weights."""
    return paper_classifier("b5", num_classes)
