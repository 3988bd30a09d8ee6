"""Chapter 7: a training on disk, written whole or not at all, and taken up again."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from torch import nn

from segformer_edu.model.config import SegformerConfig, record_differs


def write_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint in one move, so that an interruption leaves the earlier one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    torch.save(state, part)
    os.replace(part, path)


def read_checkpoint(path: Path, recipe: dict[str, Any], device: torch.device) -> dict[str, Any]:
    """Read what ``write_checkpoint`` wrote for a training by this recipe.

    Raises:
        ValueError: a file that is no checkpoint, or of another recipe.
    """
    try:
        saved: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
        missing = {"model", "optimizer", "schedule", "recipe", "history"} - saved.keys()
    except Exception as error:  # a damaged pickle raises anything
        raise ValueError(f"{path} is no checkpoint of fit ({error}). {advice(path)}") from error
    if missing:
        raise ValueError(f"{path} is no checkpoint of fit (it lacks {', '.join(sorted(missing))}). {advice(path)}")
    if saved["recipe"] != recipe:
        other = {name: value for name, value in saved["recipe"].items() if recipe.get(name) != value}
        raise ValueError(f"{path} was made with {other}, unlike this recipe. {advice(path)}")
    return saved


def load_model(model: nn.Module, saved: dict[str, Any], path: Path) -> None:
    """Give a model the weights of a checkpoint.

    Raises:
        ValueError: weights of another model, or of one that computes something else with them.
    """
    config = getattr(model, "config", None)
    if isinstance(config, SegformerConfig) and saved.get("config"):
        difference = record_differs(saved["config"], config)
        if difference:
            raise ValueError(f"{path} holds weights of another model: {difference}. {advice(path)}")
    try:
        model.load_state_dict(saved["model"])
    except RuntimeError as error:
        raise ValueError(f"{path} holds another model's weights. {advice(path)} ({error})") from error


def advice(path: Path) -> str:
    """Say what to do where a checkpoint cannot be taken up."""
    return f"Give another file name to start afresh, or delete {path}."
