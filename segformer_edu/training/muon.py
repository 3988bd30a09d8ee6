"""Chapter 11: Muon, steps of equal size in every direction of a matrix."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from segformer_edu.training.precision import has_bfloat16

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
EPS = 1e-7
FIXED = {
    "nesterov": True,
    "ns_coefficients": COEFFICIENTS,
    "eps": EPS,
    "ns_steps": 5,
    "adjust_lr_fn": "match_rms_adamw",
}
"""PyTorch's names of what is fixed here: a training that began on one machine goes on with either on another."""


def orthogonalized(matrix: torch.Tensor, steps: int = 5, dtype: torch.dtype = torch.bfloat16) -> torch.Tensor:
    """Bring a matrix's singular values near 1 and keep its singular vectors.

    Five steps of a polynomial of degree 5: the values end between about 0.7 and 1.2, which is near enough. So the eight
    bits of bfloat16 are enough, too.

    Args:
        matrix: (rows, columns).
        steps: of the iteration.
        dtype: to compute in; see ``has_bfloat16``.

    Returns:
        The matrix (rows, columns), of that type.

    Source: Jordan et al., "Muon", 2024 (kellerjordan.github.io/posts/muon). Built in chapter 11.
    """
    a, b, c = COEFFICIENTS
    x = matrix.to(dtype)
    is_tall = len(x) > x.shape[1]
    x = x.T if is_tall else x
    x = x / x.norm().clamp(min=EPS)  # no singular value is larger than 1
    for _ in range(steps):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if is_tall else x


class OwnMuon(torch.optim.Optimizer):
    """Muon: the mean of the last gradients, orthogonalised, is the step; for matrices alone.

    The same as ``torch.optim.Muon(…, adjust_lr_fn="match_rms_adamw")``, which PyTorch has since version 2.9.

    Args:
        params: parameters (rows, columns).
        lr: learning rate; a step's root mean square is 0.2 times it, as AdamW's is.
        weight_decay: a share of the learning rate by which the parameters shrink at each step.
        momentum: how much of the mean gradient stays from step to step.
        dtype: to orthogonalise in; PyTorch's has bfloat16 everywhere, 20 times slower on a processor without it.

    Raises:
        ValueError: parameters of other than two dimensions.

    Source: Jordan et al., "Muon", 2024; Liu et al., "Muon is scalable", 2025, for the factor.
    Built in chapter 11.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        dtype: torch.dtype = torch.bfloat16,
    ) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})
        self.dtype = dtype
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.ndim != 2:
                    raise ValueError(f"Muon steps along matrices; a parameter has shape {tuple(weight.shape)}.")

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Take a step."""
        loss = None if closure is None else torch.enable_grad()(closure)()
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                mean = state.setdefault("momentum_buffer", torch.zeros_like(weight.grad))
                mean.lerp_(weight.grad, 1 - group["momentum"])
                ahead = weight.grad.lerp(mean, group["momentum"])  # Nesterov's
                weight.mul_(1 - group["lr"] * group["weight_decay"])
                step = orthogonalized(ahead, dtype=self.dtype)
                weight.add_(step, alpha=-group["lr"] * 0.2 * max(weight.shape) ** 0.5)
        return loss


def muon(params: Iterable[torch.Tensor], lr: float, weight_decay: float) -> torch.optim.Optimizer:
    """Make PyTorch's Muon where the installed version has it and the device has bfloat16, else ``OwnMuon``."""
    params = list(params)
    theirs, fits = getattr(torch.optim, "Muon", None), all(has_bfloat16(each.device) for each in params)
    if theirs is None or not fits:
        own = OwnMuon(params, lr, weight_decay, dtype=torch.bfloat16 if fits else torch.float32)
        for group in own.param_groups:
            group.update(FIXED)
        return own
    made: torch.optim.Optimizer = theirs(params, lr=lr, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")
    return made
