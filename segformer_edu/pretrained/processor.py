"""Chapter 9: the mean and standard deviation of pictures, as preprocessor_config.json of transformers has them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from segformer_edu.data.pictures import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    OTHER_MEAN,
    OTHER_STD,
    Statistics,
    check_statistics,
)
from segformer_edu.model.config import SegformerConfig
from segformer_edu.pretrained.read import PREPROCESSOR

BRIGHTEST = 255
"""The largest colour where transformers begins; this library's pictures have 1."""


def with_processor(config: SegformerConfig, told: Mapping[str, Any], notes: list[str]) -> SegformerConfig:
    """Take the mean and standard deviation that lie beside a model's weights into its record.

    Args:
        config: what it says itself is kept.
        told: preprocessor_config.json of transformers; {} where there is none.
        notes: gets a sentence where that file says something else than the record, or what cannot be taken.

    Returns:
        The record; as it was where the file says what is taken in any case.
    """
    if not told:
        return config
    own = (config.image_mean, config.image_std)
    try:
        found = told_statistics(told, config.channels)
    except (TypeError, ValueError, OverflowError) as error:
        left = f"pictures are normalised with {usual(config) if None in own else own}"
        notes.append(f"{PREPROCESSOR} is left out, and {left}: {error} Correct it, or set model.image_mean, image_std.")
        return config
    if all_close(found, usual(config) if None in own else own):
        return config
    if None in own:
        return replace(config, image_mean=found[0], image_std=found[1])
    notes.append(f"{PREPROCESSOR} says mean and std {found}, and the weights' own record {own}, which is taken.")
    return config


def told_statistics(told: Mapping[str, Any], channels: int) -> Statistics:
    """Read the mean and standard deviation, for colours from 0 to 1, out of what transformers does to a picture.

    It multiplies colours from 0 to 255 by ``rescale_factor`` and then normalises; either may be switched off, and what
    is missing is as its SegformerImageProcessor has it.

    Raises:
        TypeError, ValueError: values that are no such numbers.
    """
    factor = number(told, "rescale_factor", 1 / BRIGHTEST) if told.get("do_rescale", True) else 1.0
    if not 0 < factor < math.inf:
        raise ValueError(f"rescale_factor is {factor}; expected a positive number, such as 1/255.")
    mean, std = (0.0,) * channels, (1.0,) * channels
    if told.get("do_normalize", True):
        mean = numbers(told, "image_mean", IMAGENET_MEAN, channels)
        std = numbers(told, "image_std", IMAGENET_STD, channels)
    check_statistics(mean, std, channels)
    scale = 1.0 if math.isclose(factor * BRIGHTEST, 1) else factor * BRIGHTEST
    return tuple(value / scale for value in mean), tuple(value / scale for value in std)


def number(told: Mapping[str, Any], name: str, otherwise: float) -> float:
    """Return a number of the file."""
    value = told.get(name, otherwise)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} is {value!r:.60}; expected a number.")
    return float(value)


def numbers(told: Mapping[str, Any], name: str, otherwise: tuple[float, ...], channels: int) -> tuple[float, ...]:
    """Return numbers of the file, one a channel; a single one is of all channels."""
    values = otherwise if told.get(name) is None else told[name]
    values = values if isinstance(values, list | tuple) else [values] * channels
    return tuple(number({name: value}, name, 0) for value in values)


def usual(config: SegformerConfig) -> Statistics:
    """Return what pictures are normalised with where nobody says it; see ``model.logits.statistics_of``."""
    if config.channels == len(IMAGENET_MEAN):
        return IMAGENET_MEAN, IMAGENET_STD
    return (OTHER_MEAN,) * config.channels, (OTHER_STD,) * config.channels


def all_close(one: Any, other: Any) -> bool:
    """Whether two pairs of mean and standard deviation are the same to six digits."""
    return all(math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-9) for i in (0, 1) for a, b in zip(one[i], other[i]))


def processor_of(config: SegformerConfig) -> dict[str, Any]:
    """Return the preprocessor_config.json that transformers reads: the model's normalisation, of any size."""
    own = config.image_mean, config.image_std
    mean, std = usual(config) if None in own else own
    return {
        "image_processor_type": "SegformerImageProcessor",
        "do_resize": False,
        "do_rescale": True,
        "rescale_factor": 1 / BRIGHTEST,
        "do_normalize": True,
        "image_mean": mean,
        "image_std": std,
        "do_reduce_labels": False,
    }
