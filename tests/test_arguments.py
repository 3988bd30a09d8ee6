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
    DsConv2d,
    EfficientSelfAttention,
    LayerNorm,
    MiT,
    MixFeedForward,
    MLPDecoder,
    PreNorm,
    Segformer,
)

STAGES = {
    "dims": (6, 6, 6, 6),
    "heads": (1, 2, 3, 6),
    "ff_expansion": (1, 1, 1, 1),
    "reduction_ratio": (8, 4, 2, 1),
    "num_layers": (1, 1, 1, 1),
}
GOOD: dict[type[nn.Module], dict[str, Any]] = {
    DsConv2d: {"dim_in": 6, "dim_out": 4, "kernel_size": 3, "padding": 1, "stride": 1},
    LayerNorm: {"dim": 6},
    PreNorm: {"dim": 6, "fn": nn.Identity()},
    EfficientSelfAttention: {"dim": 6, "heads": 2, "reduction_ratio": 2},
    MixFeedForward: {"dim": 6, "expansion_factor": 2},
    MiT: {"channels": 6, **STAGES},
    Segformer: {"channels": 6, **STAGES, "decoder_dim": 8, "num_classes": 2},
    MLPDecoder: {"dims": (6, 6, 6, 6), "decoder_dim": 8, "num_classes": 2},
}
UNCHECKED = {(DsConv2d, "padding")}  # zero is a good padding; tests/test_convolution.py has the bad ones
TAKES_A_MAP = [made for made in GOOD if made is not MLPDecoder]
TAKES_AN_IMAGE = [MiT, Segformer]

NUMBERS = [
    (made, name)
    for made, arguments in GOOD.items()
    for name, value in arguments.items()
    if isinstance(value, int) and (made, name) not in UNCHECKED
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
    x = noise(1, 6, 32, 33)
    build(made)([x] * 4 if made is MLPDecoder else x)


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


@pytest.mark.parametrize("made", [EfficientSelfAttention, MiT, Segformer])
def test_heads_that_do_not_share_the_channels(made):
    heads = 4 if made is EfficientSelfAttention else (1, 2, 4, 6)
    with pytest.raises(ValueError, match=r"dim=6 cannot be shared by heads=4.*multiple of 4, or other heads"):
        build(made, heads=heads)


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


@pytest.mark.parametrize("made", TAKES_A_MAP)
@pytest.mark.parametrize("case", BAD_MAPS)
def test_bad_map(made, case):
    x, kind, words = BAD_MAPS[case]
    says(complaint(kind, lambda: build(made)(x)), *words)


@pytest.mark.parametrize("place", range(4))
@pytest.mark.parametrize("case", BAD_MAPS)
def test_bad_map_among_the_decoders(case, place):
    x, kind, words = BAD_MAPS[case]
    maps = [noise(1, 6, 8, 8)] * 4
    maps[place] = x
    says(complaint(kind, lambda: build(MLPDecoder)(maps)), *words)


@pytest.mark.parametrize("maps", [noise(1, 6, 8, 8), None, {}])
def test_decoder_wants_a_list(maps):
    message = complaint(TypeError, lambda: build(MLPDecoder)(maps))
    says(message, type(maps).__name__, "list of 4 maps", "return_layer_outputs=True")


@pytest.mark.parametrize("count", [0, 3, 5])
def test_decoder_wants_four_maps(count):
    message = complaint(ValueError, lambda: build(MLPDecoder)([noise(1, 6, 8, 8)] * count))
    says(message, f"list of {count}", "expected 4 maps", "(6, 6, 6, 6)", "return_layer_outputs=True")


@pytest.mark.parametrize("made", TAKES_AN_IMAGE)
@pytest.mark.parametrize("size", [(31, 32), (32, 31), (1, 500), (16, 16)])
def test_image_that_is_too_small(made, size):
    message = complaint(ValueError, lambda: build(made)(noise(1, 6, *size)))
    says(message, str((1, 6, *size)), "at least 32", "interpolate")


def test_map_smaller_than_a_cell():
    message = complaint(ValueError, lambda: build(EfficientSelfAttention, reduction_ratio=5)(noise(1, 6, 4, 9)))
    says(message, "(1, 6, 4, 9)", "at least 5", "smaller reduction_ratio")


@pytest.mark.parametrize("made", TAKES_AN_IMAGE)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_image_with_values_that_are_no_numbers(made, value):
    x = noise(1, 6, 32, 40)
    x[0, 2, 3, 4:7] = value
    message = complaint(ValueError, lambda: build(made)(x))
    says(message, "3 NaN or infinite values", str(x.numel()), "nan_to_num")
