"""Chapter 7: how a model is trained, and in which order it sees the images."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch

from segformer_edu.validation import check_from_zero, check_not_negative, check_numbers, check_positive, check_whole

PRECISIONS = ("float32", "bfloat16")


@dataclass(frozen=True)
class Recipe:
    """How a model is trained: AdamW, a linear warm-up, then a linear decay to zero (poly with power 1).

    Attributes:
        steps: batches to train on.
        batch_size: images in a batch, over all processes.
        learning_rate: at its highest, after the warm-up.
        weight_decay: AdamW's.
        warm_up: steps until the learning rate is at its highest.
        validate_every: steps between two validations.
        seed: of the order of the images and of their augmentation.
        power: of the decay, (1 − progress)^power.
        decay_all: whether weight decay takes hold of norms and biases too; the paper's code spares them.
        head_factor: on the learning rate of the decoder; 10 in the paper's code.
        matrix_rate: where it is not 0, Muon trains the matrices, at this learning rate, and AdamW all else; see
            ``optimizers``.
        precision: of the forward pass: "float32"; or "bfloat16" where that is harmless (autocast), on devices that have
            arithmetic for it. On others it stays float32, which is several times faster there, and a warning says so.
        accumulate: parts that a batch is cut into, one after the other, where memory is short.
        average: where it is not 0, the weights are averaged over the steps, the older ones counting less by this factor
            at each; validations and the result are the average's.

    Source: the paper, §4.1, for AdamW and poly; its learning rate, 6e-5, is for pretrained encoders. Built in chapters
    7 and 11.
    """

    steps: int = 400
    batch_size: int = 16
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    warm_up: int = 20
    validate_every: int = 100
    seed: int = 0
    power: float = 1.0
    decay_all: bool = True
    head_factor: float = 1.0
    matrix_rate: float = 0.0
    precision: str = "float32"
    accumulate: int = 1
    average: float = 0.0

    def __post_init__(self) -> None:
        check_positive(steps=self.steps, batch_size=self.batch_size, validate_every=self.validate_every)
        check_positive(accumulate=self.accumulate)
        check_not_negative(warm_up=self.warm_up)
        check_whole(-(2**63), "a whole number", {"seed": self.seed})
        check_from_zero(weight_decay=self.weight_decay, head_factor=self.head_factor, matrix_rate=self.matrix_rate)
        check_from_zero(power=self.power)
        check_numbers(learning_rate=self.learning_rate, average=self.average)
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate is {self.learning_rate}; expected a positive number, such as 1e-3.")
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision is {self.precision!r}; expected one of {', '.join(PRECISIONS)}.")
        if not 0 <= self.average < 1:
            raise ValueError(f"average is {self.average}; expected a number from 0 to below 1, such as 0.999.")
        if self.accumulate > self.batch_size:
            raise ValueError(f"accumulate is {self.accumulate}, batch_size {self.batch_size}; expected no more parts.")
        for name, value in vars(self).items():  # NumPy's numbers become plain ones, as a checkpoint has them
            object.__setattr__(self, name, type(getattr(Recipe, name))(value))

    def rate(self, step: int) -> float:
        """Return the factor on the learning rate at a step, from 0 up."""
        left = min((self.steps - step) / max(self.steps - self.warm_up, 1), 1.0)
        return min((step + 1) / max(self.warm_up, 1), float(left**self.power))


@lru_cache(maxsize=2)
def permutation(length: int, seed: int) -> list[int]:
    """Return the numbers below ``length`` in a random order that ``seed`` alone decides."""
    return torch.randperm(length, generator=torch.Generator().manual_seed(seed)).tolist()


def batch_indices(step: int, length: int, recipe: Recipe) -> list[int]:
    """Return the images of a step's batch; every epoch goes through all images, in an order of its own."""
    positions = range(step * recipe.batch_size, (step + 1) * recipe.batch_size)
    return [permutation(length, recipe.seed + position // length)[position % length] for position in positions]
