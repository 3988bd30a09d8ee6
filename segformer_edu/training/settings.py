"""Chapter 7: what a training's losses depend on beside its recipe: augmentation, void, the loss."""

from __future__ import annotations

import dataclasses
import hashlib
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch.utils.data import ConcatDataset, Subset

from segformer_edu.data.crops import Crops
from segformer_edu.data.items import as_class_map, as_pair, halves_of, void_of
from segformer_edu.data.labels import WIDE_VOID
from segformer_edu.data.memory import InMemory
from segformer_edu.data.pairs import PairedPictures
from segformer_edu.data.shapes import Shapes
from segformer_edu.data.transforms import Augmentation
from segformer_edu.model.logits import class_count
from segformer_edu.training.items import Pairs, check_void, one_stack
from segformer_edu.training.losses import check_classes, segmentation_loss
from segformer_edu.training.strips import strip_loss

OWN = (Augmentation, Crops)
"""Augmentations that are told what is void, and leave the classes their numbers."""
FEW_CLASSES = 8
"""Up to which the loss is computed as chapter 7 writes it: strips gain little there."""
Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Settings:
    """What a training's losses depend on beside its recipe and its model.

    Attributes:
        augment: changes each batch.
        void: the number of pixels that do not count.
        given: what the user said of it.
        loss: called with logits of the images' size, and class maps.
        class_weights: one a class.
        described: the same in words, for the checkpoint.
    """

    augment: Callable[..., tuple[torch.Tensor, torch.Tensor]] | None
    void: int | None
    given: int | str | None
    loss: Loss | None
    class_weights: torch.Tensor | None
    described: dict[str, str]

    @classmethod
    def of(cls, data: Pairs, augment: Any, given: int | str | None, loss: Loss | None, weights: Any) -> Settings:
        """Bring a user's arguments to one form."""
        void = void_of(data, given)
        tensor = None if weights is None else checked_weights(weights)
        described = {
            "pairs": str(len(data)),
            "what tells the pairs apart": digest_of(data),
            "ignore_index": str(void),
            "augment": in_words(augment),
            "loss": in_words(loss),
            "class_weights": str(None if tensor is None else tensor.tolist()),
        }
        return cls(augment, void, given, loss, tensor, described)

    @property
    def outside(self) -> int:
        """The number of what comes into view from outside of a picture: void, or -100 where a data set has none."""
        return WIDE_VOID if self.void is None else self.void

    def prepared(self, images: torch.Tensor, masks: torch.Tensor, generator: torch.Generator) -> tuple[Any, ...]:
        """Return a batch changed by the augmentation, and its masks as they were before."""
        if self.augment is None:
            return images, masks, masks
        if isinstance(self.augment, OWN):
            return *self.augment(images, masks, generator, self.outside), masks
        changed = self.augment(images, masks, generator)
        if not isinstance(changed, tuple | list) or len(changed) != 2:
            raise TypeError(f"augment returned a {type(changed).__name__}; expected a pair (images, masks).")
        return *one_stack([as_pair(pair) for pair in zip(*changed)]), masks  # one's own may return anything

    def weight_of(self, masks: torch.Tensor) -> float:
        """Return how much a part of a batch counts in the batch's mean loss."""
        if self.loss is not None:
            return float(len(masks))
        counted = masks[masks != self.outside]
        if self.class_weights is None:
            return float(len(counted))
        known = counted[(counted >= 0) & (counted < len(self.class_weights))]  # the loss refuses others, in words
        return float(self.class_weights[known.cpu()].sum())

    def loss_of(self, logits: torch.Tensor, masks: torch.Tensor, before: torch.Tensor) -> torch.Tensor:
        """Return the loss of a batch; ``before`` are the class maps as the data set has them."""
        check_void(self.given, self.void, class_count(logits))
        if self.augment is None or isinstance(self.augment, OWN):
            check_classes(before, class_count(logits), self.void)
        else:  # one's own may have given the classes other numbers
            check_classes(masks, class_count(logits), self.outside)
        if self.loss is None:
            answers = strip_loss if logits.shape[1] > FEW_CLASSES else segmentation_loss  # the same, faster
            return answers(logits, masks, self.outside, self.class_weights)
        ignored = getattr(self.loss, "ignore_index", self.outside)  # PyTorch's losses have it, -100 unless told
        if ignored != self.outside and (masks == self.outside).any():
            raise ValueError(
                f"loss has ignore_index={ignored}, and pixels without a class are {self.outside} here; expected the "
                f"same: {type(self.loss).__name__}(ignore_index={self.outside})."
            )
        found = self.loss(F.interpolate(logits, size=masks.shape[-2:], mode="bilinear"), masks)
        if not isinstance(found, torch.Tensor) or found.ndim or not found.requires_grad:
            raise TypeError(
                f"loss returned {found!r:.60}; expected one number to go downhill on: a tensor without dimensions that "
                f"is computed from the logits."
            )
        return found


def digest_of(data: Any) -> str:
    """Return in a few letters what tells a data set from others; nothing is read from files for it."""
    return hashlib.blake2b("\n".join(marks_of(data)).encode(), digest_size=4).hexdigest()


def marks_of(data: Any) -> Iterator[str]:
    """Yield what is known of a data set without reading it; a data set of one's own, which may draw, stays unread."""
    if isinstance(data, Subset):
        yield " ".join(map(str, data.indices))
        yield from marks_of(data.dataset)
    elif isinstance(data, ConcatDataset):
        for part in data.datasets:
            yield from marks_of(part)
    elif isinstance(data, InMemory):
        yield from marks_of(data.data)
    elif isinstance(data, PairedPictures):
        yield from (picture.name for picture, _ in data.pairs)
    elif isinstance(data, Shapes):
        yield f"{data.size} {data.seed}"
    elif type(data) in (list, tuple):
        with suppress(TypeError, ValueError), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # all this is told when it is trained on
            mask = as_class_map(halves_of(data[0])[1])
            yield hashlib.blake2b(mask.cpu().numpy().tobytes()).hexdigest()


def in_words(value: Any) -> str:
    """Return what something is, alike in every process: no address in memory."""
    if value is None or dataclasses.is_dataclass(value):
        return repr(value)
    return str(getattr(value, "__qualname__", type(value).__qualname__))


def checked_weights(weights: Any) -> torch.Tensor:
    """Return the weights of classes as floats (num_classes,).

    Raises:
        TypeError, ValueError: something else, numbers below 0, or zeros alone.
    """
    try:
        tensor = torch.as_tensor(weights, dtype=torch.float32).detach().cpu()
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"class_weights is {weights!r:.60}; expected one number a class, in their order.") from error
    if tensor.ndim != 1 or not (torch.isfinite(tensor).all() and (tensor >= 0).all() and tensor.any()):
        raise ValueError(
            f"class_weights is {tensor.tolist()}; expected one number a class, finite, from 0 up, and not all 0."
        )
    return tensor
