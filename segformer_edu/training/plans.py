"""Chapter 11: everything that decides a training but the data and the model, as one value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from segformer_edu.data.crops import Crops
from segformer_edu.training.recipe import Recipe


@dataclass(frozen=True)
class Plan:
    """How a model is trained in earnest: the recipe, the augmentation, and what is done before and after.

    Attributes:
        name: of the plan.
        epochs: how often each picture is seen.
        recipe: how fast, and with what; its steps follow from ``epochs``.
        augment: what is changed in each picture.
        balance: exponent of the classes' weights; see ``balanced_weights``. 0: all weigh the same.
        rare_share: classes with a smaller share of the pixels are those that ``augment`` takes for rare, unless it
            names some.
        drop_path: of the model.
        dropout: of the model's decoder.
        recompute_norms: whether BatchNorm's statistics are computed again at the end, from whole pictures.
    """

    name: str
    epochs: float
    recipe: Recipe
    augment: Crops
    balance: float = 0.0
    rare_share: float = 0.0
    drop_path: float = 0.1
    dropout: float = 0.1
    recompute_norms: bool = False

    def of(
        self, pictures: int, counts: torch.Tensor | None = None, *, seed: int = 0, validate_every: float | None = None
    ) -> Plan:
        """Return the plan for a data set: with its number of steps, and its rare classes.

        Args:
            pictures: how many there are.
            counts: pixels of each class, (num_classes,); see ``data.class_counts``.
            seed: of the training.
            validate_every: epochs between two validations; None: one at the end.
        """
        if not self.epochs > 0:
            raise ValueError(f"epochs is {self.epochs}; expected a positive number.")
        each = pictures / self.recipe.batch_size
        steps = max(1, round(self.epochs * each))
        every = steps if validate_every is None else max(1, round(validate_every * each))
        warm_up = min(self.recipe.warm_up, steps // 2)
        recipe = replace(self.recipe, steps=steps, seed=seed, validate_every=every, warm_up=warm_up)
        if counts is None or self.augment.rare:
            return replace(self, recipe=recipe)
        return replace(self, recipe=recipe, augment=replace(self.augment, rare=rare_classes(counts, self.rare_share)))

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as plain values."""
        return asdict(self)


def balanced_weights(counts: torch.Tensor | Sequence[int], exponent: float = 1.0) -> torch.Tensor:
    """Return a weight for each class: 1/ln(1.02 + its share of the pixels), to a power, with a mean of 1.

    Args:
        counts: pixels of each class, (num_classes,).
        exponent: 1 for ENet's weights, 0 for equal ones.

    Source: Paszke et al., "ENet", 2016. Built in chapter 11.
    """
    shares = torch.as_tensor(counts, dtype=torch.float64)
    shares = shares / shares.sum()
    weights = (1 / torch.log(1.02 + shares)) ** exponent
    return (weights / weights.mean()).float()


def rare_classes(counts: torch.Tensor | Sequence[int], share: float = 0.02) -> tuple[int, ...]:
    """Return the classes that are there, and have less than this share of the pixels.

    Args:
        counts: pixels of each class, (num_classes,).
        share: 0.02 for CamVid's five.

    Source: chapter 13.
    """
    shares = torch.as_tensor(counts, dtype=torch.float64)
    shares = shares / shares.sum()
    return tuple(((shares > 0) & (shares < share)).nonzero().flatten().tolist())


PAPER_PLAN = Plan(
    name="paper",
    epochs=160,
    recipe=Recipe(batch_size=8, learning_rate=6e-5, weight_decay=0.01, warm_up=1500, decay_all=False, head_factor=10.0),
    augment=Crops(size=(192, 256)),
)
"""The paper's (§4.1, and its code's configurations), made for pretrained encoders; crops and batch as we can afford."""

OURS = Plan(
    name="ours",
    epochs=240,
    recipe=Recipe(
        batch_size=8,
        learning_rate=1e-3,
        matrix_rate=3e-3,
        weight_decay=0.01,
        warm_up=100,
        decay_all=False,
        precision="bfloat16",
    ),
    augment=Crops(light="strong", aim=0.3, paste=0.3),
    balance=0.5,
    rare_share=0.02,
    drop_path=0.0,
    dropout=0.1,
    recompute_norms=True,
)
"""The recipe of the book's street models: from nothing, on few pictures; chapter 11 judges its pieces."""

PLANS = {plan.name: plan for plan in (PAPER_PLAN, OURS)}
