"""Random numbers that a seed and a count decide."""

from __future__ import annotations

from dataclasses import dataclass

import torch


def seeded_generator(seed: int, index: int) -> torch.Generator:
    """Return a generator of its own for every ``index`` below a million under every ``seed``.

    PyTorch's CPU generator looks at the lowest 32 bits of its seed alone, so the two must share those.
    """
    return torch.Generator().manual_seed((seed * 1_000_003 + index) % 2**32)


@dataclass(frozen=True)
class Draw:
    """Random numbers out of one generator."""

    generator: torch.Generator

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        """Return a number between ``low`` and ``high``."""
        return low + (high - low) * torch.rand((), generator=self.generator).item()

    def chance(self, probability: float) -> bool:
        """Return whether something of this probability happens."""
        return self.uniform() < probability

    def below(self, count: int) -> int:
        """Return a whole number from 0 to below ``count``."""
        return min(int(self.uniform() * count), count - 1)
