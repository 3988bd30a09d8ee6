"""Chapter 10: the released model's two expensive leaves, computed with less; the same layers, the same answers.

Each is a subclass of its plain sibling and steps aside for it, by ``super().forward``, wherever a layer is more than
its own product of weights: hooked, wrapped, of another class, parametrised or pruned.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.fx
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from segformer_edu.model.decoder import SegformerHead
from segformer_edu.model.feedforward import DepthwiseMixFeedForward

AT_ONCE = 16 * 2**20
"""Bytes of a map that are made at once: half of the largest block that glibc ever keeps, and a cache may hold it."""
GROUP = 64
"""Channels that the decoder takes at a time at least: each group reads and writes all the logits once more."""
KEPT = 31 * 2**20
"""Bytes of the block that ``keep_freed_memory`` frees: below 32 MiB, beyond which glibc learns nothing."""
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def count_pieces(x: torch.Tensor, channels: int) -> int:
    """In how many pieces to make a map with ``x``'s batch, height and width and this many channels.

    One away from the CPU, whose cache and allocator this is for; and one while a graph is recorded, which has to hold
    for other sizes too.

    Args:
        x: a map (B, C, H, W).
        channels: of the map to be made.

    Returns:
        As many as leave each at most ``AT_ONCE`` bytes.

    Built in chapter 10.
    """
    if x.device.type != "cpu" or torch.compiler.is_compiling() or torch.jit.is_tracing():
        return 1
    return max(1, math.ceil(x[:, 0].numel() * x.element_size() * channels / AT_ONCE))


def is_untouched(layer: nn.Module, kind: type[nn.Module]) -> bool:
    """Whether calling a layer is its kind's own computation and nothing else.

    An adapter or a parametrised layer is of another class; pruning, and all that watches a layer, is a hook.

    Built in chapter 10.
    """
    everywhere = torch.nn.modules.module  # which also holds the hooks on all modules
    hooked = any(getattr(layer, name) or getattr(everywhere, f"_global{name}") for name in HOOKS)
    return type(layer) is kind and not hooked and "forward" not in vars(layer)


def is_pointwise(layer: nn.Module) -> bool:
    """Whether a layer is an untouched 1×1 convolution: one matrix, the same at every pixel.

    Built in chapter 10.
    """
    if not (isinstance(layer, nn.Conv2d) and is_untouched(layer, nn.Conv2d)):
        return False
    return layer.kernel_size == layer.stride == (1, 1) and layer.groups == 1 and layer.padding == (0, 0)


def is_followed(x: object) -> bool:
    """Whether a tool of PyTorch follows each operation on ``x``: ``torch.jit.trace``, ``torch.fx`` or ``torch.func``.

    It has to see the plain computation: for any size, without results that are overwritten or computed again.

    Built in chapter 10.
    """
    if torch.compiler.is_compiling():
        return False
    in_func = torch._C._functorch.peek_interpreter_stack() is not None
    return in_func or torch.jit.is_tracing() or isinstance(x, torch.fx.Proxy)


def activate_and_narrow(
    hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, version: int | None = None
) -> torch.Tensor:
    """The second half of a Mix-FFN: GELU, and the matrix that narrows.

    Args:
        hidden: (B, dim · expansion_factor, H, W).
        weight: (dim, dim · expansion_factor, 1, 1).
        bias: (dim,), or None.
        version: how often the weight had been changed in place when this was computed first.

    Returns:
        (B, dim, H, W).

    Raises:
        RuntimeError: a weight that was changed in place since; its gradient would be another's.

    Built in chapter 10.
    """
    if version is not None and version != weight._version:
        raise RuntimeError("The weight of narrow was changed in place between the forward and the backward pass.")
    return F.conv2d(F.gelu(hidden), weight, bias)


class FastMixFeedForward(DepthwiseMixFeedForward):
    """The ``DepthwiseMixFeedForward`` in strips of rows; while it learns, GELU's result is computed again, not kept.

    Args:
        dim: channels of the map.
        expansion_factor: how many times wider the channels become in between.

    Shapes: (B, dim, H, W) → (B, dim, H, W), channels last in memory where the input has them so.

    Source: Chen et al., "Training Deep Nets with Sublinear Memory Cost", 2016 (computing again). Built in chapter 10.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if is_followed(x) or not self.is_as_made():
            return super().forward(x)
        if not torch.is_grad_enabled():
            return self.in_strips(x)
        # GELU is cheap, its result large: it is computed again when a gradient needs it, not kept
        hidden = self.mix(self.widen(x))
        weight, bias = self.narrow.weight, self.narrow.bias  # those of now: later others may stand in their place
        version = None if torch.compiler.is_compiling() or not weight.requires_grad else weight._version
        given = (hidden, weight, bias, version)
        return checkpoint(activate_and_narrow, *given, use_reentrant=False, preserve_rng_state=False)

    def is_as_made(self) -> bool:
        """Whether the layers are as they were made: two matrices, and between them neighbours within one row."""
        mix = self.mix
        is_3x3 = is_untouched(mix, nn.Conv2d) and (mix.kernel_size, mix.padding) == ((3, 3), (1, 1))
        is_same_size = is_3x3 and mix.stride == mix.dilation == (1, 1) and mix.padding_mode == "zeros"
        return is_same_size and is_pointwise(self.widen) and is_pointwise(self.narrow)

    def in_strips(self, x: torch.Tensor) -> torch.Tensor:
        """The whole, image by image and in strips of rows where the map in between is large."""
        strips, last = count_pieces(x, self.widen.out_channels), (self.narrow.weight, self.narrow.bias)
        if strips == 1:
            return activate_and_narrow(self.mix(self.widen(x)), *last)
        if x.shape[0] > 1:
            return torch.cat([self.in_strips(image) for image in x.split(1)])
        rows, out = math.ceil(x.shape[-2] / strips), []
        for first in range(0, x.shape[-2], rows):
            above = min(first, 1)  # the 3×3 convolution looks at one row above the strip and at one below
            strip = x[:, :, first - above : first + rows + 1]
            out.append(activate_and_narrow(self.mix(self.widen(strip))[:, :, above : above + rows], *last))
        return torch.cat(out, dim=2)


class FastSegformerHead(SegformerHead):
    """The ``SegformerHead`` collapsed: one small matrix a scale, applied before the map is upsampled.

    Up to its BatchNorm the decoder is linear, and bilinear upsampling commutes with a linear map of the channels. So
    projection and fusion are one matrix a scale, which works on the small map; in evaluation the BatchNorm is a part of
    it. The answer is the same; most of the arithmetic is gone.

    Args:
        dims: channels of the encoder's maps, finest first.
        decoder_dim: the common width.
        num_classes: channels of the result.
        dropout: how often a channel is left out before the classifier, while training.

    Shapes: a list of maps (B, dims[i], H_i, W_i) → (B, num_classes, H_0, W_0).

    Source: derived in chapters 6 and 10. Built in chapter 10.
    """

    def forward(self, layer_outputs: list[torch.Tensor]) -> torch.Tensor:
        if self.steps_aside(layer_outputs[0]):
            return super().forward(layer_outputs)
        if self.training:
            matrices, bias = self.matrices()
            return self.classify(self.dropout(self.norm(fuse_maps(layer_outputs, matrices, bias)).relu()))
        if not self.can_fold():
            return super().forward(layer_outputs)
        matrices, bias = self.folded()
        # ReLU works on each channel alone: a group of channels goes all the way before the next is begun, in the cache
        groups = min(count_pieces(layer_outputs[0], len(bias)), math.ceil(len(bias) / GROUP))
        weights = self.classify.weight.chunk(groups, dim=1)
        first, *others = zip(weights, *(part.chunk(groups) for part in (bias, *matrices)))
        logits = self.share(layer_outputs, first, self.classify.bias)
        for group in others:
            logits += self.share(layer_outputs, group)
        return logits

    def steps_aside(self, x: torch.Tensor) -> bool:
        """Whether the plain head has to answer; a graph of torch.jit.trace may be the collapsed one."""
        return not self.can_collapse() or (is_followed(x) and not torch.jit.is_tracing())

    def can_collapse(self) -> bool:
        """Whether projections and fusion are as they were made: products of matrices."""
        projections = all(is_pointwise(layer) and layer.bias is not None for layer in self.project)
        return projections and is_pointwise(self.fuse) and self.fuse.bias is None

    def matrices(self) -> tuple[list[torch.Tensor], torch.Tensor]:
        """Return what projection and fusion are together: a matrix (decoder_dim, dims[i], 1, 1) a scale, one bias."""
        shares = self.fuse.weight.flatten(1).split([layer.out_channels for layer in self.project], dim=1)
        matrices = [share @ layer.weight.flatten(1) for share, layer in zip(shares, self.project)]
        bias = sum(share @ layer.bias for share, layer in zip(shares, self.project))
        return [matrix[:, :, None, None] for matrix in matrices], bias

    def can_fold(self) -> bool:
        """Whether all that follows the fusion is as it was made: a BatchNorm of fixed numbers, a ReLU, a matrix."""
        norm, dropout = self.norm, self.dropout
        is_fixed = is_untouched(norm, nn.BatchNorm2d) and norm.affine and not norm.training
        if not is_fixed or norm.running_var is None or norm.running_var.dtype != self.fuse.weight.dtype:
            return False  # it measures each batch, or is kept in float32 beside layers of bfloat16
        return is_untouched(dropout, nn.Dropout2d) and not dropout.training and is_pointwise(self.classify)

    def folded(self) -> tuple[list[torch.Tensor], torch.Tensor]:
        """Return ``matrices`` with the BatchNorm in them: it multiplies and shifts each channel by fixed numbers."""
        matrices, bias = self.matrices()
        scale = self.norm.weight / (self.norm.running_var + self.norm.eps) ** 0.5
        bias = scale * (bias - self.norm.running_mean) + self.norm.bias
        return [scale[:, None, None, None] * matrix for matrix in matrices], bias

    def share(
        self, maps: Sequence[torch.Tensor], group: Sequence[torch.Tensor], bias: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return what a group of channels adds to the logits: (B, num_classes, H_0, W_0)."""
        weight, group_bias, *matrices = group
        return F.conv2d(fuse_maps(maps, matrices, group_bias).relu_(), weight, bias)


def fuse_maps(maps: Sequence[torch.Tensor], matrices: Sequence[torch.Tensor], bias: torch.Tensor) -> torch.Tensor:
    """Multiply each map's channels by its matrix, bring all to the first one's size, and add them up.

    Built in chapter 10.
    """
    fused = F.conv2d(maps[0], matrices[0], bias)
    for x, matrix in zip(maps[1:], matrices[1:]):
        fused += F.interpolate(F.conv2d(x, matrix), size=fused.shape[-2:], mode="bilinear")
    return fused


def keep_freed_memory() -> None:
    """Let the process keep what maps free, for those of the next call: a line for programs that run a model often.

    glibc keeps blocks that are smaller than the largest, of at most 32 MiB, that went back to the system so far. In a
    fresh process most maps would go back, and each call would ask for them anew, page by page. So one block is freed
    here; it is never touched and takes no memory. It changes the whole process, so no model calls it. Elsewhere than
    on Linux with glibc it does nothing.

    Source: measured on the page "How the benchmark measures".
    """
    torch.empty(KEPT, dtype=torch.uint8, device="cpu")
