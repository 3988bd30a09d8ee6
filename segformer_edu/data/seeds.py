"""Random numbers that a seed and a count decide."""

from __future__ import annotations

import torch


def seeded_generator(seed: int, index: int) -> torch.Generator:
    """Return a generator of its own for every ``index`` below a million under every ``seed``.

    PyTorch's CPU generator looks at the lowest 32 bits of its seed alone, so the two must share those.
    """
    return torch.Generator().manual_seed((seed * 1_000_003 + index) % 2**32)
