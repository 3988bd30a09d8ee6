"""Chapter 7: chance without a history: every random number follows from the recipe's seed and the step."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

ITEMS = 1_000_003  # apart from the seeds of augmentation, which count steps
DRAWS = 2_000_003
VALIDATIONS = 3_000_017


def seed_all(seed: int) -> None:
    """Set every global generator: Python's, NumPy's, PyTorch's on each device."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 (users' data sets draw from it)
    torch.manual_seed(seed)


@contextmanager
def generators_kept() -> Iterator[None]:
    """Put the global generators back as they were found."""
    python, numpy, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    mps = torch.mps.get_rng_state() if torch.backends.mps.is_available() else None
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002
        torch.set_rng_state(cpu)
        if cuda:
            torch.cuda.set_rng_state_all(cuda)
        if mps is not None:
            torch.mps.set_rng_state(mps)


class SeededItems(Dataset):
    """A data set whose items draw the same random numbers whenever they are read for the same place in a training.

    So an interrupted run goes on as if it had not been, whichever process reads the items.

    Args:
        data: the data set.
        seed: of the training.
    """

    def __init__(self, data: Any, seed: int) -> None:
        self.data, self.seed = data, seed

    def __getitem__(self, key: tuple[int, int]) -> Any:
        """Read an item; ``key`` is its place in the training, counted from 0, and its index."""
        place, index = key
        seed_all(mixed(self.seed, ITEMS, place))
        return self.data[index]


def seed_step(seed: int, step: int) -> None:
    """Set every global generator for a step: for dropout, drop path, and what an augmentation draws globally."""
    seed_all(mixed(seed, DRAWS, step))


def seed_validation(seed: int, step: int) -> None:
    """Set every global generator for the validation after so many steps."""
    seed_all(mixed(seed, VALIDATIONS, step))


def mixed(seed: int, kind: int, count: int) -> int:
    """Return a seed of 32 bits that follows from three numbers."""
    return (seed * kind + count * 2_654_435_761 + kind) % 2**32
