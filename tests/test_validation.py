"""Bad arguments and inputs: a ValueError or TypeError that says what came, what was expected, and what to do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from samples import noise
from torch import nn

from segformer_edu import (
    EfficientSelfAttention,
    LayerNorm,
    MiT,
    Segformer,
    SpatialReductionAttention,
)
from segformer_edu.validation import check_finite

STAGES = {
    "dims": (6, 6, 6, 6),
    "heads": (1, 2, 3, 6),
    "ff_expansion": (1, 1, 1, 1),
    "reduction_ratio": (8, 4, 2, 1),
    "num_layers": (1, 1, 1, 1),
}
GOOD: dict[type[nn.Module], dict[str, Any]] = {
    MiT: {"channels": 6, **STAGES},
    Segformer: {"channels": 6, **STAGES, "decoder_dim": 8, "num_classes": 2},
}

NUMBERS = [
    (made, name) for made, arguments in GOOD.items() for name, value in arguments.items() if isinstance(value, int)
]
TUPLES = [
    (made, name) for made, arguments in GOOD.items() for name, value in arguments.items() if isinstance(value, tuple)
]


def build(made: type[nn.Module], **changes: Any) -> nn.Module:
    return made(**GOOD[made] | changes)


def complaint(kind: type[Exception], action: Callable[[], object]) -> str:
    """The message of the error that ``action`` raises, of exactly this kind."""
    with pytest.raises(kind) as caught:
        action()
    assert caught.type is kind
    return str(caught.value)


def says(message: str, *words: str) -> None:
    missing = [word for word in (*words, "expected") if word not in message]
    assert not missing, f"{missing} not in: {message}"


@pytest.mark.parametrize("made", GOOD)
def test_good_arguments_are_good(made):
    build(made)(noise(1, 6, 32, 33))


@pytest.mark.parametrize("value", [0, -3])
@pytest.mark.parametrize(("made", "name"), NUMBERS)
def test_number_that_is_not_positive(made, name, value):
    message = complaint(ValueError, lambda: build(made, **{name: value}))
    says(message, f"{name} is {value}", "positive whole number", "e.g. 32")


@pytest.mark.parametrize("value", [2.0, True, "3", None, (4, 4), np.float32(4)])
@pytest.mark.parametrize(("made", "name"), NUMBERS)
def test_number_of_the_wrong_kind(made, name, value):
    message = complaint(TypeError, lambda: build(made, **{name: value}))
    says(message, f"{name} is {value!r}", type(value).__name__, "positive whole number", "e.g. 32")


@pytest.mark.parametrize("value", [(6, 6, 6), (6, 6, 6, 6, 6), ()])
@pytest.mark.parametrize(("made", "name"), TUPLES)
def test_tuple_of_the_wrong_length(made, name, value):
    message = complaint(ValueError, lambda: build(made, **{name: value}))
    says(message, f"{name}={value!r} has {len(value)} values", "expected 4", "single number")


@pytest.mark.parametrize(("item", "kind"), [(0, ValueError), (-1, ValueError), (1.5, TypeError), (True, TypeError)])
@pytest.mark.parametrize(("made", "name"), TUPLES)
def test_tuple_with_a_wrong_item(made, name, item, kind):
    message = complaint(kind, lambda: build(made, **{name: (6, 6, item, 6)}))
    says(message, f"{name}[2] is {item}", "positive whole number")


@pytest.mark.parametrize("name", STAGES)
def test_encoder_takes_no_single_numbers(name):
    message = complaint(TypeError, lambda: build(MiT, **{name: 6}))
    says(message, f"{name} is 6", "tuple of 4 whole numbers")


@pytest.mark.parametrize("value", [0, 2.5, "6"])
@pytest.mark.parametrize("name", STAGES)
def test_single_number_for_all_stages_is_checked(name, value):
    message = complaint(ValueError if value == 0 else TypeError, lambda: build(Segformer, **{name: value}))
    says(message, f"{name}[0] is {value!r}", "positive whole number")


@pytest.mark.parametrize("made", GOOD)
def test_heads_that_do_not_share_the_channels(made):
    with pytest.raises(ValueError, match=r"dim=6 cannot be shared by heads=4.*multiple of 4, or other heads"):
        build(made, heads=(1, 2, 4, 6))


@pytest.mark.parametrize("attention", [EfficientSelfAttention, SpatialReductionAttention])
def test_heads_of_an_attention_alone(attention):
    with pytest.raises(ValueError, match=r"dim=6 cannot be shared by heads=4.*multiple of 4, or other heads"):
        attention(dim=6, heads=4, reduction_ratio=1)


@pytest.mark.parametrize("eps", [0, -1e-5, float("nan")])
def test_eps_that_guards_no_division(eps):
    says(complaint(ValueError, lambda: LayerNorm(6, eps=eps)), f"eps is {eps}", "positive")


# What a module of 6 channels is given, the error, and what the error says.
BAD_MAPS = {
    "array": (np.zeros((1, 6, 32, 32), np.float32), TypeError, ["numpy.ndarray", "torch.Tensor", "from_numpy"]),
    "list": ([[1.0]], TypeError, ["builtins.list", "torch.Tensor", "from_numpy"]),
    "none": (None, TypeError, ["NoneType", "torch.Tensor"]),
    "no batch": (torch.zeros(6, 32, 32), ValueError, ["(6, 32, 32)", "3 dimensions", "(B, 6, H, W)", "x[None]"]),
    "five dimensions": (torch.zeros(1, 1, 6, 32, 32), ValueError, ["5 dimensions", "(B, 6, H, W)"]),
    "bytes": (torch.zeros(1, 6, 32, 32, dtype=torch.uint8), TypeError, ["torch.uint8", "torch.float32", "/ 255"]),
    "integers": (torch.zeros(1, 6, 32, 32, dtype=torch.int64), TypeError, ["torch.int64", "torch.float32"]),
    "truths": (torch.zeros(1, 6, 32, 32, dtype=torch.bool), TypeError, ["torch.bool", "torch.float32"]),
    "complex": (torch.zeros(1, 6, 32, 32, dtype=torch.complex64), TypeError, ["torch.complex64", "floating point"]),
    "too few channels": (torch.zeros(1, 3, 32, 32), ValueError, ["3 channels", "(1, 3, 32, 32)", "expected 6"]),
    "channels last": (torch.zeros(1, 32, 32, 6), ValueError, ["32 channels", "expected 6", "permute(0, 3, 1, 2)"]),
    "empty batch": (torch.zeros(0, 6, 32, 32), ValueError, ["(0, 6, 32, 32)", "at least one image"]),
    "no height": (torch.zeros(1, 6, 0, 32), ValueError, ["(1, 6, 0, 32)", "height and width", "interpolate"]),
    "no width": (torch.zeros(1, 6, 32, 0), ValueError, ["(1, 6, 32, 0)", "height and width", "interpolate"]),
}


@pytest.mark.parametrize("made", GOOD)
@pytest.mark.parametrize("case", BAD_MAPS)
def test_bad_map(made, case):
    x, kind, words = BAD_MAPS[case]
    says(complaint(kind, lambda: build(made)(x)), *words)


@pytest.mark.parametrize("made", GOOD)
@pytest.mark.parametrize("size", [(31, 32), (32, 31), (1, 500), (16, 16)])
def test_image_that_is_too_small(made, size):
    message = complaint(ValueError, lambda: build(made)(noise(1, 6, *size)))
    says(message, str((1, 6, *size)), "at least 32", "interpolate")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_values_that_are_no_numbers(value):
    x = noise(1, 6, 32, 40)
    check_finite(x)
    x[0, 2, 3, 4:7] = value
    message = complaint(ValueError, lambda: check_finite(x))
    says(message, "3 NaN or infinite values", str(x.numel()), "nan_to_num")


@pytest.mark.parametrize("made", GOOD)
def test_a_forward_pass_asks_no_number(made):
    """Nothing in it waits for a GPU: a map full of NaN goes through."""
    assert build(made)(torch.full((1, 6, 32, 40), float("nan"))).isnan().all()
