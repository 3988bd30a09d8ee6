"""Checks of arguments where they enter: what came in, what was expected, what to do about it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any

import torch
import torch.fx


def check_positive(**values: int) -> None:
    """Raise TypeError or ValueError unless every value is a positive whole number."""
    check_whole(1, "a positive whole number, e.g. 32", values)


def check_not_negative(**values: int) -> None:
    """Raise TypeError or ValueError unless every value is a whole number from 0 up."""
    check_whole(0, "a whole number from 0 up", values)


def check_whole(smallest: int, expected: str, values: Mapping[str, int]) -> None:
    """Raise TypeError or ValueError unless every value is a whole number from ``smallest`` up."""
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, Integral):  # NumPy's whole numbers are such
            raise TypeError(f"{name} is {value!r} ({type(value).__name__}); expected {expected}.")
        if value < smallest:
            raise ValueError(f"{name} is {value}; expected {expected}.")


def check_numbers(**values: float) -> None:
    """Raise TypeError unless every value is a number, ValueError unless it is finite."""
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, Real):
            raise TypeError(f"{name} is {value!r} ({type(value).__name__}); expected a number.")
        if not math.isfinite(value):
            raise ValueError(f"{name} is {value}; expected a finite number.")


def check_from_zero(**values: float) -> None:
    """Raise TypeError or ValueError unless every value is a finite number from 0 up."""
    check_numbers(**values)
    for name, value in values.items():
        if value < 0:
            raise ValueError(f"{name} is {value}; expected a number from 0 up.")


def check_shares(**values: float) -> None:
    """Raise TypeError or ValueError unless every value is a number from 0 to 1."""
    check_from_zero(**values)
    for name, value in values.items():
        if value > 1:
            raise ValueError(f"{name} is {value}; expected a share from 0 to 1.")


def span(name: str, value: Any) -> tuple[float, float]:
    """Return the smallest and largest factor of a range; one number stands for both.

    Raises:
        TypeError, ValueError: anything but one or two positive numbers.
    """
    parts: Any = (value, value) if isinstance(value, Real) else value
    expected = f"expected two positive numbers, the smallest and the largest, such as {name}=(0.5, 2.0)"
    if not isinstance(parts, tuple | list) or not all(isinstance(part, Real) for part in parts):
        raise TypeError(f"{name} is {value!r}; {expected}.")
    if len(parts) != 2 or not all(0 < part < math.inf for part in parts):
        raise ValueError(f"{name} is {value!r}; {expected}.")
    return parts[0], parts[1]


def check_divisible(*, dim: int, heads: int) -> None:
    """Raise ValueError unless the heads share the channels evenly."""
    check_positive(dim=dim, heads=heads)
    if dim % heads:
        raise ValueError(
            f"dim={dim} cannot be shared by heads={heads}: {dim} / {heads} is not whole. "
            f"Every head takes the same number of channels; choose dim as a multiple of {heads}, or other heads."
        )


def check_stages(*, stages: int = 4, **values: Any) -> None:
    """Raise TypeError or ValueError unless every value is a tuple with one positive whole number a stage."""
    for name, value in values.items():
        if not isinstance(value, tuple | list):
            raise TypeError(f"{name} is {value!r}; expected a tuple of {stages} whole numbers, one a stage.")
        if len(value) != stages:
            raise ValueError(
                f"{name}={value!r} has {len(value)} values; expected {stages}, one for each of the {stages} stages "
                f"(Segformer also takes a single number, which then holds for all of them)."
            )
        check_positive(**{f"{name}[{index}]": item for index, item in enumerate(value)})


def check_map(x: torch.Tensor, channels: int, smallest: int = 1) -> None:
    """Raise TypeError or ValueError unless ``x`` is a map of floats, (B, channels, H, W), H and W ≥ ``smallest``."""
    if isinstance(x, torch.fx.Proxy):
        return  # torch.fx.symbolic_trace records what is done with a map, and has none
    if not isinstance(x, torch.Tensor):
        raise TypeError(
            f"The input is a {type(x).__module__}.{type(x).__name__}; expected a torch.Tensor (B, {channels}, H, W). "
            f"For an array (H, W, C): torch.from_numpy(array).permute(2, 0, 1)[None].float() / 255."
        )
    if x.ndim != 4:
        raise ValueError(
            f"The input has shape {tuple(x.shape)}, {x.ndim} dimensions; expected four, (B, {channels}, H, W). "
            f"A single map needs a batch dimension: x[None]."
        )
    if not x.is_floating_point():
        raise TypeError(
            f"The input is {x.dtype}; expected floating point, such as torch.float32. "
            f"For an image of bytes: x.float() / 255, then segformer_edu.data.normalize(x)."
        )
    if x.shape[1] != channels:
        hint = " It looks channels-last: x.permute(0, 3, 1, 2)." if x.shape[-1] == channels else ""
        raise ValueError(
            f"The input has {x.shape[1]} channels (shape {tuple(x.shape)}); expected {channels}, "
            f"the number that this module was made for.{hint}"
        )
    if x.shape[0] < 1 or min(x.shape[-2:]) < smallest:
        raise ValueError(
            f"The input's shape is {tuple(x.shape)}; expected at least one image, with height and width of at least "
            f"{smallest}. Resize the image first, e.g. with torch.nn.functional.interpolate."
        )


def check_finite(x: torch.Tensor) -> None:
    """Raise ValueError if ``x`` holds a NaN or an infinity. It waits for a GPU, so no forward pass calls it."""
    if not torch.isfinite(x).all():
        count = int((~torch.isfinite(x)).sum())
        raise ValueError(
            f"The input holds {count} NaN or infinite values among {x.numel()}; expected finite numbers. "
            f"Look at how it was read and normalised (a division by zero, a corrupt file); x.nan_to_num() hides them."
        )
