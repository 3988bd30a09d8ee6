"""Chapter 11: the loss of many classes, strip by strip; the plain loss's answer, without logits of the picture's size.

Enlarged logits of 150 classes are larger than any map in the model, and the plain loss makes four such maps. Here a
strip of rows is enlarged, its loss and its gradient are computed while a cache holds it, and the gradient is brought
back to the small logits' size at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F

from segformer_edu.data.labels import VOID
from segformer_edu.model.fast import is_followed
from segformer_edu.model.logits import class_count
from segformer_edu.training.losses import check_classes, segmentation_loss

AT_ONCE = 8 * 2**20
"""Bytes of enlarged logits that are made at once on a CPU: few calls, and most of it stays in a cache."""
AT_ONCE_ELSEWHERE = 256 * 2**20
"""The same on a GPU, where each strip costs a dozen calls whatever its size."""
LEAST_ROWS = 8
"""Rows of a strip at least: its first and its last need rows of the small logits that its neighbours widen again."""
MOST_ROWS = 128
"""Rows of a strip at most: each is made by a product with all the rows of the small logits that the strip needs."""
FEW = 3
"""Classes up to which the plain loss answers: their maps are small, and many short calls cost what strips gain."""


class Strip(NamedTuple):
    """What of a batch is enlarged at once.

    Attributes:
        images: these of the batch.
        rows: these rows of the class maps.
        used: the rows of the small logits that they are made of.

    Built in chapter 11.
    """

    images: slice
    rows: slice
    used: slice


def strip_loss(
    logits: torch.Tensor,
    masks: torch.Tensor,
    ignore_index: int | None = VOID,
    class_weights: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return what ``segmentation_loss`` returns, in less time and memory where the logits are enlarged.

    The gradient is computed along with the loss, and has no gradient of its own. A few classes, logits that are
    not enlarged or not finite, and those that a tool of PyTorch follows have the plain loss.

    Args:
        logits: scores (B, num_classes, h, w), in any order in memory.
        masks: class numbers (B, H, W).
        ignore_index: pixels with this number do not count; None: all do.
        class_weights: how much a pixel of each class counts, (num_classes,).

    Returns:
        The loss, in float32 at least: logits of 16 bits are enlarged in 32.

    Raises:
        TypeError, ValueError: those of ``segmentation_loss``.
        RuntimeError: in a backward pass that is to be differentiated itself.

    Source: derived here; the plain loss is chapter 7's. Built in chapter 11.
    """
    if steps_aside(logits, masks, class_weights):
        return segmentation_loss(logits, masks, ignore_index, class_weights)
    masks = masks.long()
    check_classes(masks, class_count(logits), ignore_index)
    with without_autocast(logits.device.type):  # it would enlarge by products of 16 bits
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        if not torch.is_grad_enabled():
            logits = logits.detach()
        counted = torch.ones_like(masks, dtype=torch.bool) if ignore_index is None else masks != ignore_index
        targets = masks.where(counted, 0)
        shares = counted.to(logits.dtype) if class_weights is None else class_weights.to(logits)[targets] * counted
        shares = shares / shares.sum().clamp(min=torch.finfo(shares.dtype).tiny)
        loss: torch.Tensor = StripLoss.apply(logits, targets, shares)
    return loss


def steps_aside(logits: torch.Tensor, masks: torch.Tensor, class_weights: torch.Tensor | None) -> bool:
    """Whether the plain loss has to answer: where strips gain nothing or cannot follow, and to say what is wrong."""
    if torch.compiler.is_compiling() or is_followed(logits) or not logits.is_floating_point():
        return True
    if logits.ndim != 4 or masks.ndim != 3 or masks.is_floating_point() or len(masks) != len(logits):
        return True
    if logits.shape[1] <= FEW or not 0 < logits[:, 0].numel() < masks.numel():
        return True
    if class_weights is not None and (class_weights.shape != (class_count(logits),) or class_weights.requires_grad):
        return True
    wide = torch.promote_types(logits.dtype, torch.float32)
    if wide == torch.float32 and not multiplies_exactly():
        return True
    return not logits.detach().sum(dtype=wide).isfinite()  # a product of matrices spreads what is not finite


def multiplies_exactly() -> bool:
    """Whether products of float32 are of float32: the user may have allowed TF32 or bfloat16, which is faster."""
    try:
        return torch.get_float32_matmul_precision() == "highest"
    except RuntimeError:  # set by backend, in the newer way, which this cannot read
        return False


def without_autocast(device_type: str) -> AbstractContextManager[object]:
    """Return a block in which nothing is cast; older versions of PyTorch have no autocast for some devices."""
    try:
        return torch.autocast(device_type, enabled=False)
    except RuntimeError:
        return nullcontext()


class StripLoss(torch.autograd.Function):
    """The weighted sum of the pixels' cross-entropies, and its gradient, strip by strip. Built in chapter 11."""

    @staticmethod
    def forward(ctx: Any, logits: torch.Tensor, targets: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
        """Compute both: logits (B, K, h, w), targets and shares (B, H, W) → one number."""
        down, across = (enlargement(*sizes).to(logits.dtype) for sizes in zip(logits.shape[2:], targets.shape[1:]))
        down, across = down.to(logits.device), across.to(logits.device)
        gradient = torch.zeros_like(logits) if ctx.needs_input_grad[0] else None
        losses = []
        for images, rows, used in strips(logits, targets):
            pixels = targets[images, rows, None], shares[images, rows, None]
            matrices = down[used, rows], across
            loss, part = loss_of_strip(logits[images, :, used], *pixels, *matrices, gradient is not None)
            losses.append(loss)
            if gradient is not None:
                gradient[images, :, used] += part
        ctx.save_for_backward(gradient)
        return torch.stack(losses).sum()

    @staticmethod
    def backward(ctx: Any, upstream: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        """Multiply the gradient that forward computed."""
        if torch.is_grad_enabled():  # once_differentiable would let a penalty on the gradient be a constant, unsaid
            raise RuntimeError(
                "strip_loss has no gradient of its gradient (create_graph=True); expected one backward pass. For more, "
                "call segmentation_loss, the same written plainly."
            )
        (gradient,) = ctx.saved_tensors
        return gradient * upstream, None, None


def enlargement(small: int, large: int) -> torch.Tensor:
    """Return bilinear enlargement along one side as a matrix (small, large): what it makes of each unit vector.

    On the CPU, in float64: not every device has such numbers. Built in chapter 11.
    """
    return F.interpolate(torch.eye(small, dtype=torch.float64, device="cpu")[None], size=large, mode="linear")[0]


def strips(logits: torch.Tensor, targets: torch.Tensor) -> Iterator[Strip]:
    """Divide a batch into strips that take ``AT_ONCE`` bytes when enlarged; several images at a time if they are small.

    Args:
        logits: (B, K, h, w).
        targets: (B, H, W).

    Built in chapter 11.
    """
    (batch, classes, small, _), (large, width) = logits.shape, targets.shape[1:]
    at_once = AT_ONCE if logits.device.type == "cpu" else AT_ONCE_ELSEWHERE
    fitting = at_once // (classes * width * logits.element_size())  # rows, of however many images
    rows = min(max(LEAST_ROWS, min(fitting, MOST_ROWS)), large)
    images = max(1, fitting // rows)
    for image in range(0, batch, images):
        for row in range(0, large, rows):
            end = min(row + rows, large)
            # the middle of row i lies at (i + 1/2) · small / large - 1/2, between two rows of the small logits
            first, last = (((2 * at + 1) * small - large) // (2 * large) for at in (row, end - 1))
            yield Strip(slice(image, image + images), slice(row, end), slice(max(first, 0), last + 2))


def loss_of_strip(
    logits: torch.Tensor,
    targets: torch.Tensor,
    shares: torch.Tensor,
    down: torch.Tensor,
    across: torch.Tensor,
    with_gradient: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a strip's share of the loss, and its gradient in the logits.

    Args:
        logits: the rows of the small logits that the strip is made of, (b, K, n, w).
        targets: its classes, (b, r, 1, W).
        shares: how much each pixel counts, (b, r, 1, W).
        down: how n rows make r, (n, r).
        across: how w columns make W, (w, W).
        with_gradient: else it is not computed.

    Returns:
        One number; (b, K, n, w), or empty.

    Built in chapter 11.
    """
    (images, classes, small, width), (rows, _, columns) = logits.shape, targets.shape[1:]
    wide = logits.transpose(1, 2).reshape(-1, width) @ across  # (b · n · K, W)
    down = down.expand(images, -1, -1)
    scores = (down.mT @ wide.view(images, small, -1)).view(images, rows, classes, columns)
    # all in place from here on: another map of this size would drive this one out of the cache
    scores -= scores.amax(dim=2, keepdim=True)
    losses = -scores.gather(2, targets)
    sums = scores.exp_().sum(dim=2, keepdim=True)
    loss = ((losses + sums.log()) * shares).sum()
    if not with_gradient:
        return loss, logits[:0]
    scores *= shares / sums
    scores.scatter_(2, targets, scores.gather(2, targets) - shares)
    torch.bmm(down, scores.view(images, rows, -1), out=wide.view(images, small, -1))
    return loss, (wide @ across.T).view(images, small, classes, width).transpose(1, 2)
