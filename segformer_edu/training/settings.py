"""Chapter 7: what a training's losses depend on beside its recipe: augmentation, void, the loss."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F

from segformer_edu.data.labels import WIDE_VOID
from segformer_edu.data.transforms import Augmentation
from segformer_edu.model.logits import class_count
from segformer_edu.training.items import Pairs, check_void, void_of
from segformer_edu.training.losses import check_classes, segmentation_loss

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
        tensor = None if weights is None else torch.as_tensor(weights, dtype=torch.float32).flatten()
        if tensor is not None and not (torch.isfinite(tensor).all() and (tensor >= 0).all() and tensor.any()):
            raise ValueError(f"class_weights is {tensor.tolist()}; expected finite numbers from 0 up, not all 0.")
        described = {
            "pairs": str(len(data)),
            "ignore_index": str(void),
            "augment": in_words(augment),
            "loss": in_words(loss),
            "class_weights": str(None if tensor is None else tensor.tolist()),
        }
        if isinstance(augment, Augmentation):
            augment = partial(augment, void=WIDE_VOID if void is None else void)
        return cls(augment, void, given, loss, tensor, described)

    def prepared(self, images: torch.Tensor, masks: torch.Tensor, generator: torch.Generator) -> tuple[Any, ...]:
        """Return a batch changed by the augmentation, and its masks as they were before."""
        changed = (images, masks) if self.augment is None else self.augment(images, masks, generator)
        return *changed, masks

    def loss_of(self, logits: torch.Tensor, masks: torch.Tensor, before: torch.Tensor) -> torch.Tensor:
        """Return the loss of a batch; ``before`` are the class maps as the data set has them."""
        check_void(self.given, self.void, class_count(logits))
        check_classes(before, class_count(logits), self.void)
        if self.loss is not None:
            found = self.loss(F.interpolate(logits, size=masks.shape[-2:], mode="bilinear"), masks)
            if not isinstance(found, torch.Tensor) or found.ndim:
                raise TypeError(f"loss returned {found!r:.60}; expected one number, a tensor without dimensions.")
            return found
        void = WIDE_VOID if self.void is None else self.void  # what came into view from outside, where there is no void
        return segmentation_loss(logits, masks, void, self.class_weights)


def in_words(value: Any) -> str:
    """Return what something is, alike in every process: no address in memory."""
    if value is None or dataclasses.is_dataclass(value):
        return repr(value)
    return str(getattr(value, "__qualname__", type(value).__qualname__))
