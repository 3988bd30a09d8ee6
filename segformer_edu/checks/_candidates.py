"""A result against the results of many known mistakes, several for one kind."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from segformer_edu.checks.core import TIGHT, Look, close, differences

Candidates = Iterable[tuple[str, torch.Tensor]]


def tell(
    look: Look, yours: torch.Tensor, target: torch.Tensor, candidates: Candidates, at: str, tolerance: float = TIGHT
) -> None:
    """End where ``yours`` is not the target, with the first kind whose tensor it is; ``at`` says for which input."""
    if close(yours, target, tolerance):
        return
    if bool(yours.isfinite().all()):
        for kind, made in candidates:
            if made.shape == yours.shape and bool(made.isfinite().all()) and close(yours, made, tolerance):
                seen = f"The result is the one that this mistake gives ({at})."
                look.wrong(kind, seen, differences(yours, target))
    look.values(yours, target, at=at)
