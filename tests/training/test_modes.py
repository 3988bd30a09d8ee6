"""Whatever fit, evaluate and segment do to a model's modes and number types is undone, through any wrapper."""

from __future__ import annotations

import pytest
import torch
from samples import SMALL
from torch import nn
from torch.optim.swa_utils import AveragedModel

from segformer_edu import PAPER, Segformer, segment
from segformer_edu.training import Recipe, evaluate, fit

RECIPE = Recipe(steps=2, batch_size=2, warm_up=0, validate_every=1)
QUIET = {"progress": False, "device": "cpu"}


class Wrapped(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.net = model

    def forward(self, x):
        return self.net(x)


class Norms(nn.Module):
    """Two BatchNorms and a dropout, to be frozen one by one."""

    def __init__(self):
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.Dropout(0.5))
        self.second = nn.Sequential(nn.Conv2d(8, 4, 1), nn.BatchNorm2d(4))

    def forward(self, x):
        return self.second(self.first(x))


@pytest.fixture(scope="module")
def one_process(tmp_path_factory):
    file = tmp_path_factory.mktemp("gloo") / "store"
    torch.distributed.init_process_group("gloo", init_method=f"file://{file}", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def pairs():
    generator = torch.Generator().manual_seed(0)
    return [
        (torch.rand(3, 32, 32, generator=generator), torch.randint(0, 4, (32, 32), generator=generator))
        for _ in range(4)
    ]


class Broken(list):
    def __getitem__(self, index):
        if index == 2:
            raise OSError("broken")
        return super().__getitem__(index)


def modes(model):
    return [module.training for module in model.modules()]


def frozen_norm(model):
    model.train()
    model.first[1].eval()


def part_by_part(model):
    model.train()
    for module in list(model.modules())[::2]:
        module.training = False


WRAPPERS = {
    "none": lambda model: model,
    "own": Wrapped,
    "DataParallel": nn.DataParallel,
    "DistributedDataParallel": nn.parallel.DistributedDataParallel,
    "AveragedModel": AveragedModel,
    "compile": lambda model: torch.compile(model, backend="eager"),
}


@pytest.mark.parametrize("wrap", WRAPPERS)
@pytest.mark.parametrize("freeze", [nn.Module.train, nn.Module.eval, frozen_norm, part_by_part])
def test_modes_are_as_they_were_found(one_process, wrap, freeze):
    torch.compiler.reset()
    inner = Norms()
    model = WRAPPERS[wrap](inner)
    freeze(inner)
    before = modes(model)
    segment(model, torch.rand(3, 40, 48))
    assert modes(model) == before
    evaluate(model, pairs(), progress=False)
    assert modes(model) == before
    with pytest.raises(OSError, match="broken"):
        evaluate(model, Broken(pairs()), progress=False)
    assert modes(model) == before
    with pytest.raises(OSError, match="broken"):
        fit(model, Broken(pairs()), Recipe(steps=4, batch_size=1), **QUIET)
    assert modes(model) == before
    fit(model, pairs(), RECIPE, validation=pairs(), **QUIET)
    assert modes(model) == before


@pytest.mark.parametrize("wrap", WRAPPERS)
def test_a_frozen_norm_does_not_move_and_others_do(one_process, wrap):
    torch.compiler.reset()
    inner = Norms()
    model = WRAPPERS[wrap](inner)
    inner = getattr(model, "module", inner)  # AveragedModel copies
    frozen_norm(inner)
    still, moving = inner.first[1].running_mean.clone(), inner.second[1].running_mean.clone()
    evaluate(model, pairs(), progress=False)
    assert torch.equal(inner.second[1].running_mean, moving)
    fit(model, pairs(), RECIPE, **QUIET)
    assert torch.equal(inner.first[1].running_mean, still)
    assert not torch.equal(inner.second[1].running_mean, moving)


@pytest.mark.parametrize("wrap", [lambda model: model, Wrapped])
def test_a_model_in_evaluation_mode_is_trained_but_for_what_does_not_learn(wrap):
    inner = Norms().eval()
    inner.first.requires_grad_(False)
    model = wrap(inner)
    still, moving = inner.first[1].running_mean.clone(), inner.second[1].running_mean.clone()
    fit(model, pairs(), RECIPE, **QUIET)
    assert torch.equal(inner.first[1].running_mean, still)
    assert not torch.equal(inner.second[1].running_mean, moving)


def test_a_frozen_encoder_keeps_its_weights():
    model = Segformer(**SMALL, decoder_dim=16)
    model.mit.requires_grad_(False)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    fit(model, pairs(), RECIPE, **QUIET)
    moved = {name.split(".")[0] for name, weight in model.state_dict().items() if not torch.equal(weight, before[name])}
    assert moved == {"decoder"}


class Merges(nn.Module):
    """Adds an adapter to its weights for evaluation, and takes it away again, as LoRA does."""

    def __init__(self):
        super().__init__()
        self.layer, self.merged = nn.Conv2d(3, 4, 1), False

    def train(self, mode=True):
        if self.merged is mode:
            self.layer.weight.data += 0.5 * (1 if self.merged else -1)
            self.merged = not mode
        return super().train(mode)

    def forward(self, x):
        return self.layer(x)


def test_what_modules_do_when_their_mode_changes_is_done_both_ways():
    model = nn.Sequential(Merges(), nn.Dropout())
    before = model[0].layer.weight.clone()
    segment(model, torch.rand(3, 32, 32))
    assert not model[0].merged
    torch.testing.assert_close(model[0].layer.weight, before)


@pytest.mark.parametrize("parts", [{}, {"parts": PAPER}])
@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_numbers_of_every_type(kind, parts):
    def made():
        torch.manual_seed(0)
        return Segformer(**SMALL, decoder_dim=16, **parts).eval()

    image = torch.rand(3, 40, 48)
    expected = segment(made(), image, probabilities=True)
    model = made().to(kind)
    found = segment(model, image, probabilities=True)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, atol=3e-3, rtol=0)
    counts = evaluate(model, pairs(), progress=False).confusion - evaluate(made(), pairs(), progress=False).confusion
    assert not counts.sum(dim=1).any()  # every pixel is counted
    assert kind == torch.bfloat16 or counts.abs().sum() < 50  # its eight bits turn what is nearly as likely
    if kind == torch.float16:
        with pytest.raises(TypeError, match=r"weights are float16, too coarse to be trained.*model.float\(\)"):
            fit(model, pairs(), RECIPE, **QUIET)
    else:
        plain = fit(made(), pairs(), RECIPE, **QUIET).losses
        assert fit(model, pairs(), RECIPE, **QUIET).losses == pytest.approx(plain, abs=2e-2)
    assert all(weight.dtype == kind for weight in model.parameters())


@pytest.mark.parametrize("model", [nn.AvgPool2d(2), nn.Conv2d(3, 4, 1).requires_grad_(False)])
def test_nothing_to_train(model):
    with pytest.raises(ValueError, match="no parameter that learns"):
        fit(model, pairs(), RECIPE, **QUIET)
    three = [(image, mask.clamp(max=2)) for image, mask in pairs()]
    assert evaluate(model, three, progress=False).confusion.sum() == 4 * 32 * 32


def test_gradients_are_computed_wherever_fit_is_called():
    model = Norms()
    with torch.no_grad():
        fit(model, pairs(), RECIPE, **QUIET)
        assert not torch.is_grad_enabled()
