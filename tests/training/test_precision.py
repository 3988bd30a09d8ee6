"""Half precision where a device has arithmetic for it, and nowhere else."""

import platform
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from segformer_edu import segformer_b0
from segformer_edu.data import Shapes
from segformer_edu.training import Recipe, fit, precision
from segformer_edu.training import muon as room
from segformer_edu.training.muon import OwnMuon, muon, orthogonalized

RECIPE = Recipe(steps=3, batch_size=2, warm_up=1, matrix_rate=3e-3, precision="bfloat16")
SIZES = {"dims": (8, 16, 24, 32), "heads": (1, 2, 3, 4), "num_layers": (1, 1, 1, 1), "decoder_dim": 16}
CPUINFO = Path("/proc/cpuinfo")


def losses(recipe):
    torch.manual_seed(0)
    data = Shapes(8, size=48)
    return fit(segformer_b0(4, drop_path=0.0, dropout=0.0, **SIZES), data, recipe, progress=False, device="cpu").losses


@pytest.mark.skipif(not CPUINFO.is_file() or platform.machine() != "x86_64", reason="asks Linux on an x86 processor")
def test_what_the_system_says_of_the_processor():
    flags = CPUINFO.read_text().split("flags", 1)[1].split("\n", 1)[0].split()
    assert precision.has_bfloat16("cpu") == bool({"avx512_bf16", "amx_bf16"} & set(flags))


@pytest.mark.parametrize(("capability", "has"), [((7, 0), False), ((7, 5), False), ((8, 0), True), ((9, 0), True)])
def test_gpus(monkeypatch, capability, has):
    """Colab's T4 is (7, 5)."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert precision.has_bfloat16("cuda") == has


@pytest.mark.parametrize("mkldnn", [True, False])
def test_an_older_torch(monkeypatch, mkldnn):
    """It has no list of capabilities; oneDNN knows, where it is there."""
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: mkldnn)
    found = precision.has_bfloat16("cpu")
    assert found == (mkldnn and torch.ops.mkldnn._is_mkldnn_bf16_supported())


def test_where_it_would_be_imitated_training_is_in_float32_and_says_so(monkeypatch):
    for module in (precision, room):
        monkeypatch.setattr(module, "has_bfloat16", lambda device: False)
    with pytest.warns(UserWarning, match="float32"):
        found = losses(RECIPE)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert losses(replace(RECIPE, precision="float32")) == found


def test_where_it_is_there_nothing_is_said(monkeypatch):
    for module in (precision, room):
        monkeypatch.setattr(module, "has_bfloat16", lambda device: True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert losses(RECIPE) != losses(replace(RECIPE, precision="float32"))


@pytest.mark.parametrize("began", [True, False])
def test_a_training_goes_on_where_bfloat16_is_otherwise(monkeypatch, tmp_path, began):
    """With PyTorch's Muon on one machine, ours on the other."""

    def stop(history):
        if len(history.losses) == 2:
            raise RuntimeError("stopped")

    def on(has, **options):
        for module in (precision, room):
            monkeypatch.setattr(module, "has_bfloat16", lambda device: has)
        torch.manual_seed(0)
        learner = segformer_b0(4, drop_path=0.0, dropout=0.0, **SIZES)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            data, file = Shapes(8, size=48), tmp_path / "run.pt"
            return fit(learner, data, RECIPE, checkpoint=file, progress=False, device="cpu", **options).losses

    with pytest.raises(RuntimeError, match="stopped"):
        on(began, on_step=stop)
    assert len(on(not began)) == RECIPE.steps


@pytest.mark.parametrize("has", [True, False])
def test_which_muon(monkeypatch, has):
    monkeypatch.setattr(room, "has_bfloat16", lambda device: has)
    weight = nn.Parameter(torch.randn(6, 9))
    made = muon([weight], 0.1, 0.0)
    if has and hasattr(torch.optim, "Muon"):
        assert isinstance(made, torch.optim.Muon)
    else:
        assert isinstance(made, OwnMuon)
        assert made.dtype == (torch.bfloat16 if has else torch.float32)
    weight.grad = torch.randn(6, 9)
    made.step()
    assert weight.dtype == torch.float32


@pytest.mark.parametrize("shape", [(64, 96), (96, 64), (8, 200)])
def test_both_types_take_nearly_the_same_step(shape):
    torch.manual_seed(0)
    matrix = torch.randn(shape)
    single, half = orthogonalized(matrix, dtype=torch.float32), orthogonalized(matrix)
    assert single.dtype == torch.float32
    assert half.dtype == torch.bfloat16
    assert torch.cosine_similarity(single.flatten(), half.float().flatten(), dim=0) > 0.99
