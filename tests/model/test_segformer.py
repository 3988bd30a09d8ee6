"""Segformer as a whole: any size from 32 up, any configuration, and what a module must be able to do."""

from __future__ import annotations

import copy
import inspect
import io

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import SMALL, configurations, noise, shaken, sizes

from segformer_edu import SKETCH, MiT, Segformer

ODD_SIZES = [(32, 32), (33, 61), (37, 301), (32, 1024), (1024, 32), (35, 36), (127, 131), (360, 480), (97, 97)]


def model(**changes) -> Segformer:
    torch.manual_seed(0)
    return shaken(Segformer(**SMALL | {"decoder_dim": 16} | changes)).eval()


def expected_size(height: int, width: int) -> tuple[int, int]:
    return (height - 1) // 4 + 1, (width - 1) // 4 + 1


@given(sizes, st.integers(1, 3))
def test_any_size(size, batch):
    with torch.no_grad():
        logits = model()(noise(batch, 3, *size))
    assert logits.shape == (batch, 4, *expected_size(*size))
    assert logits.isfinite().all()


@pytest.mark.parametrize("size", ODD_SIZES)
def test_odd_prime_and_oblong_sizes(size):
    with torch.no_grad():
        assert model()(noise(1, 3, *size)).shape == (1, 4, *expected_size(*size))


@given(configurations(), sizes)
def test_any_configuration(configuration, size):
    module = Segformer(**configuration)
    with torch.no_grad():
        logits = module(noise(1, configuration["channels"], *size))
    assert logits.shape == (1, configuration["num_classes"], *expected_size(*size))
    assert logits.isfinite().all()


def test_defaults_are_the_seeds():
    """As the seed's listing has them, and the paper's dims, heads and ratios (Table 6, B0)."""
    defaults = {name: parameter.default for name, parameter in inspect.signature(Segformer).parameters.items()}
    assert (defaults.pop("parts"), defaults.pop("drop_path"), defaults.pop("class_names")) == (SKETCH, 0.0, None)
    assert defaults == {
        "dims": (32, 64, 160, 256),
        "heads": (1, 2, 5, 8),
        "ff_expansion": (8, 8, 4, 4),
        "reduction_ratio": (8, 4, 2, 1),
        "num_layers": 2,
        "channels": 3,
        "decoder_dim": 256,
        "num_classes": 4,
    }
    with torch.no_grad():
        assert Segformer()(noise(1, 3, 64, 32)).shape == (1, 4, 16, 8)


@pytest.mark.parametrize("keywords_only", [Segformer, MiT])
def test_arguments_are_named(keywords_only):
    parameters = inspect.signature(keywords_only).parameters.values()
    assert all(parameter.kind is inspect.Parameter.KEYWORD_ONLY for parameter in parameters)


def test_one_number_holds_for_all_stages():
    numbers = {"dims": 12, "heads": 3, "ff_expansion": 2, "reduction_ratio": 1, "num_layers": 2}
    tuples = {name: (value,) * 4 for name, value in numbers.items()}
    a, b, c = model(**numbers), model(**tuples), model(**{name: list(value) for name, value in tuples.items()})
    x = noise(1, 3, 40, 50)
    torch.testing.assert_close(a(x), b(x), rtol=0, atol=0)
    torch.testing.assert_close(a(x), c(x), rtol=0, atol=0)


@settings(max_examples=8)
@given(sizes, st.integers(2, 4))
def test_images_of_a_batch_do_not_see_each_other(size, batch):
    module, x = model(), noise(batch, 3, *size)
    with torch.no_grad():
        together, apart = module(x), torch.cat([module(image[None]) for image in x])
    torch.testing.assert_close(together, apart, rtol=1e-4, atol=1e-5)


def test_changing_one_image_leaves_the_others():
    module, x = model(), noise(3, 3, 40, 64)
    changed = x.clone()
    changed[1] = noise(3, 40, 64, seed=1)
    with torch.no_grad():
        moved = (module(changed) - module(x)).abs().amax(dim=(1, 2, 3))
    assert (moved > 0).tolist() == [False, True, False]


def test_every_pixel_reaches_every_logit():
    """Attention is global: one corner moves the opposite corner's logits."""
    module, x = model(), noise(1, 3, 128, 96)
    changed = x.clone()
    changed[..., :4, :4] += 3
    with torch.no_grad():
        assert (module(changed) - module(x))[..., -1, -1].abs().min() > 0


@pytest.mark.parametrize("size", [(96, 64), (65, 99)])
def test_gradients_reach_every_parameter(size):
    module = model().train()
    x = noise(2, 3, *size).requires_grad_()
    module(x).square().mean().backward()
    silent = [name for name, p in module.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    broken = [name for name, p in module.named_parameters() if not p.grad.isfinite().all()]
    assert (silent, broken) == ([], [])
    assert (x.grad.abs().amax(dim=1) > 0).float().mean() > 0.99


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_image_of_one_colour_has_finite_gradients(value):
    module = model()
    module(torch.full((1, 3, 48, 64), value)).square().mean().backward()
    assert all(parameter.grad.isfinite().all() for parameter in module.parameters())


def test_black_image_through_a_model_without_biases_gives_no_nan():
    """All maps are zero then, and every pixel is constant over its channels: where the seed's LayerNorm gives NaN.

    In double precision: LayerNorm's true slope there is 1 / eps = 1e5, and ten of them in a row overflow float32.
    """
    module = Segformer(**SMALL).double()
    for name, parameter in module.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.zeros_(parameter)
    module(torch.zeros(1, 3, 48, 64, dtype=torch.float64)).sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in module.parameters())


def test_state_dict_round_trip():
    trained, fresh, x = model(), Segformer(**SMALL, decoder_dim=16).eval(), noise(1, 3, 45, 64)
    assert not torch.allclose(trained(x), fresh(x))
    file = io.BytesIO()
    torch.save(trained.state_dict(), file)
    file.seek(0)
    fresh.load_state_dict(torch.load(file, weights_only=True))
    torch.testing.assert_close(fresh(x), trained(x), rtol=0, atol=0)


def test_copies_and_modes_give_the_same():
    module, x = model(), noise(1, 3, 45, 64)
    expected = module(x)
    torch.testing.assert_close(copy.deepcopy(module)(x), expected, rtol=0, atol=0)
    torch.testing.assert_close(module.train()(x), expected, rtol=0, atol=0)


def test_memory_format_does_not_matter():
    module, x = model(), noise(2, 3, 45, 64)
    expected = module(x)
    last = module.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last))
    torch.testing.assert_close(last, expected, rtol=1e-4, atol=1e-5)


def test_single_precision_is_close_to_double():
    single, x = model(), noise(1, 3, 61, 47)
    double = copy.deepcopy(single).double()
    torch.testing.assert_close(single(x).double(), double(x.double()), rtol=1e-4, atol=1e-5)


def test_bfloat16_runs():
    module, x = model(), noise(1, 3, 61, 47)
    half = copy.deepcopy(module).bfloat16()(x.bfloat16())
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), module(x), rtol=0.1, atol=0.1)


def test_can_be_exported():
    module, x = model(), noise(2, 3, 64, 96)
    exported = torch.export.export(module, (x,)).module()
    other = noise(2, 3, 64, 96, seed=1)
    torch.testing.assert_close(exported(other), module(other))
