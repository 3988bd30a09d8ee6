"""Muon: against PyTorch's own, and which parameters it trains."""

import pytest
import torch
from torch import nn

from segformer_edu.model.variants import build_segformer
from segformer_edu.training.muon import OwnMuon, muon, orthogonalized
from segformer_edu.training.optimizers import Matrix, Optimizers
from segformer_edu.training.recipe import Recipe


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="PyTorch has Muon since version 2.9")
@pytest.mark.parametrize("shape", [(8, 8), (5, 40), (40, 5), (64, 96)])
def test_the_same_as_pytorchs(shape):
    torch.manual_seed(0)
    start = torch.randn(shape)
    ours, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    optimizers = [
        OwnMuon([ours], lr=0.02, weight_decay=0.1),
        torch.optim.Muon([theirs], lr=0.02, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"),
    ]
    for step in range(5):
        gradient = torch.randn(shape, generator=torch.Generator().manual_seed(step))
        for weight, optimizer in zip((ours, theirs), optimizers):
            weight.grad = gradient.clone()
            optimizer.step()
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)
    assert (ours - start).abs().max() > 0.01


def test_singular_values_end_near_one():
    torch.manual_seed(0)
    matrix = torch.randn(30, 50) @ torch.diag(torch.logspace(-1, 1, 50))
    values = torch.linalg.svdvals(orthogonalized(matrix).float())
    assert 0.5 < values.min() <= values.max() < 1.3


def test_ours_where_pytorch_has_none(monkeypatch):
    monkeypatch.delattr(torch.optim, "Muon", raising=False)
    assert isinstance(muon([nn.Parameter(torch.ones(2, 3))], 0.1, 0.0), OwnMuon)


def test_no_vectors():
    with pytest.raises(ValueError, match="matrices"):
        OwnMuon([nn.Parameter(torch.ones(3))])


@pytest.mark.parametrize("form", [torch.contiguous_format, torch.channels_last])
def test_a_filter_is_seen_as_a_matrix_in_the_same_memory(form):
    weight = nn.Parameter(torch.randn(6, 4, 3, 3).to(memory_format=form))
    matrix = Matrix.of(weight)
    weight.grad = torch.randn(6, 4, 3, 3)
    matrix.take_gradient()
    assert matrix.view.shape == (6, 36)
    assert (matrix.view.grad * matrix.view).sum().item() == pytest.approx((weight.grad * weight).sum().item(), rel=1e-5)
    with torch.no_grad():
        matrix.view.zero_()
    assert not weight.any()


def test_which_parameters_muon_trains():
    model = build_segformer("b0", 11)
    made = Optimizers.of(model, Recipe(matrix_rate=3e-3))
    names = {id(weight): name for name, weight in model.named_parameters()}
    taken = {names[id(matrix.weight)] for matrix in made.matrices}
    assert "mit.stages.0.embedding.project.weight" in taken
    assert "decoder.fuse.weight" in taken
    assert "decoder.classify.weight" not in taken  # the classifier is AdamW's
    assert not any("depthwise" in name or name.endswith("bias") or "norm" in name for name in taken)
    adamw = {id(weight) for group in made.parts[0].param_groups for weight in group["params"]}
    assert adamw | {id(matrix.weight) for matrix in made.matrices} == names.keys()
    assert not adamw & {id(matrix.weight) for matrix in made.matrices}


def test_the_papers_groups():
    model = build_segformer("b0", 11)
    made = Optimizers.of(model, Recipe(learning_rate=6e-5, weight_decay=0.01, decay_all=False, head_factor=10.0))
    names = {id(weight): name for name, weight in model.named_parameters()}
    for group in made.groups:
        for weight in group["params"]:
            name = names[id(weight)]
            assert group["lr"] == pytest.approx(6e-4 if name.startswith("decoder.") else 6e-5)
            assert group["weight_decay"] == (0.01 if weight.ndim > 1 else 0.0)
    made.step(0.5)
    assert sorted({group["lr"] for group in made.groups}) == pytest.approx([3e-5, 3e-4])
