"""Chapters 7 and 11: which optimizer trains which of a model's parameters."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from segformer_edu.training.muon import muon
from segformer_edu.training.recipe import Recipe

NEEDED = {"params", "lr", "initial_lr", "weight_decay", "betas", "eps", "momentum"}
"""Of a group's settings those without which no step is that of the training that was saved."""


@dataclass
class Matrix:
    """A weight as Muon takes it: a matrix (outputs, inputs) in the same memory.

    Attributes:
        weight: of a layer.
        order: of its dimensions, so that they follow each other in memory.
        view: the matrix.
    """

    weight: nn.Parameter
    order: tuple[int, ...]
    view: nn.Parameter

    @classmethod
    def of(cls, weight: nn.Parameter) -> Matrix | None:
        """Look at a weight as a matrix; None where it is none: a vector, or one filter for each channel."""
        if weight.ndim < 2 or min(len(weight), weight.shape[1]) == 1:
            return None
        for order in (range(weight.ndim), (0, *range(2, weight.ndim), 1)):  # channels last
            if (moved := weight.detach().permute(*order)).is_contiguous():
                return cls(weight, tuple(order), nn.Parameter(moved.view(len(weight), -1)))
        return None

    def take_gradient(self) -> None:
        """Give the matrix the weight's gradient."""
        gradient = self.weight.grad
        self.view.grad = None if gradient is None else gradient.permute(self.order).reshape(self.view.shape)


@dataclass
class Optimizers:
    """The optimizers of a training, which take their steps together.

    Attributes:
        parts: the optimizers.
        matrices: weights that one of them sees as matrices.
    """

    parts: list[torch.optim.Optimizer]
    matrices: list[Matrix] = field(default_factory=list)

    @classmethod
    def of(cls, model: nn.Module, recipe: Recipe) -> Optimizers:
        """Make the optimizers of a model's parameters."""
        matrices: list[Matrix] = []
        if recipe.matrix_rate:
            candidates = [weight for weight in model.parameters() if weight.ndim > 1][:-1]  # the last one classifies
            matrices = [found for weight in candidates if weight.requires_grad and (found := Matrix.of(weight))]
        taken = {id(matrix.weight) for matrix in matrices}
        groups = [group for group in groups_of(model, recipe, taken) if group["params"]]
        parts: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(groups, recipe.learning_rate, weight_decay=recipe.weight_decay)
        ]
        if matrices:
            parts.append(muon([each.view for each in matrices], recipe.matrix_rate, recipe.weight_decay))
        made = cls(parts, matrices)
        for group in made.groups:
            group["initial_lr"] = group["lr"]
        return made

    @property
    def groups(self) -> list[dict[str, Any]]:
        """The groups of parameters of all optimizers."""
        return [group for part in self.parts for group in part.param_groups]

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for part in self.parts:
            part.zero_grad()
        for matrix in self.matrices:
            matrix.weight.grad = None

    def step(self, rate: float) -> None:
        """Take a step, at this factor on the learning rates."""
        for matrix in self.matrices:
            matrix.take_gradient()
        for group in self.groups:
            group["lr"] = group["initial_lr"] * rate
        for part in self.parts:
            part.step()

    def state_dict(self) -> dict[str, Any]:
        """Return the states of the optimizers."""
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up the states of the optimizers."""
        for part, saved in zip(self.parts, state["parts"], strict=True):
            part.load_state_dict(saved)

    def fits(self, state: dict[str, Any]) -> bool:
        """Say whether a state is of optimizers of parameters of the same shapes."""
        return len(state["parts"]) == len(self.parts) and all(map(fits, self.parts, state["parts"]))


def fits(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> bool:
    """Say whether a state is of an optimizer of parameters of the same shapes."""
    groups = [group["params"] for group in optimizer.param_groups]
    if [len(group["params"]) for group in state["param_groups"]] != [len(group) for group in groups]:
        return False
    if not all(map(same_settings, optimizer.param_groups, state["param_groups"])):
        return False
    weights = [weight for group in groups for weight in group]
    named = {"exp_avg", "exp_avg_sq"} if isinstance(optimizer, torch.optim.AdamW) else {"momentum_buffer"}
    return all(
        {moments[name].shape for name in named} == {weights[number].shape} and is_sound(moments)
        for number, moments in state["state"].items()
    )


def is_sound(moments: dict[str, Any]) -> bool:
    """Say whether a parameter's moments are numbers that a training can have: a step from others ends in NaN."""
    return all(bool(value.isfinite().all()) for value in moments.values()) and not any(
        bool((moments[name] < 0).any()) for name in ("exp_avg_sq", "step") if name in moments
    )


def same_settings(own: dict[str, Any], saved: dict[str, Any]) -> bool:
    """Say whether two groups are trained alike, but for the learning rate of the moment; versions add settings."""
    names = (own.keys() & saved.keys()) - {"params", "lr"}
    return NEEDED & own.keys() <= saved.keys() and all(
        type(own[name]) is type(saved[name]) and own[name] == saved[name] for name in names
    )


def groups_of(model: nn.Module, recipe: Recipe, taken: set[int]) -> list[dict[str, Any]]:
    """Return AdamW's groups: all in one; or the decoder apart, and what does not decay, by the recipe."""
    if recipe.decay_all and recipe.head_factor == 1:
        return [{"params": [weight for weight in model.parameters() if id(weight) not in taken]}]
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, weight in model.named_parameters():
        if id(weight) not in taken:
            in_head = "decoder." in name or "decode_head." in name
            groups.setdefault((in_head, recipe.decay_all or weight.ndim > 1), []).append(weight)
    return [
        {
            "params": weights,
            "lr": recipe.learning_rate * (recipe.head_factor if in_head else 1),
            "weight_decay": recipe.weight_decay if decays else 0.0,
        }
        for (in_head, decays), weights in groups.items()
    ]
