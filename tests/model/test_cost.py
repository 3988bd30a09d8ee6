"""What a model costs, against counters that know nothing of ``cost``: PyTorch's own, and sums by hand."""

from __future__ import annotations

import copy
import dataclasses
from unittest.mock import patch

import pytest
import segformer_pytorch
import torch
import transformers
from samples import SMALL, noise
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import segformer_edu as se
from segformer_edu import FAST, PAPER, SKETCH, Segformer, cost
from segformer_edu.model.encoder import MiT
from segformer_edu.model.variants import COMMON, VARIANTS, build_classifier, build_segformer

SIZES = [(512, 512), (360, 480), (97, 131), (33, 61)]


def counted(model: nn.Module, x: torch.Tensor) -> int:
    """MACs that PyTorch's counter sees while the model runs; two FLOPs are one MAC.

    It hooks all modules, at which the fast leaves step aside; here they are to be counted as they run.
    """
    unseen = patch("segformer_edu.model.fast.HOOKS", ())
    with FlopCounterMode(display=False) as counter, torch.no_grad(), unseen:
        model(x)
    return counter.get_total_flops() // 2


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def transformers_model(variant: str, num_classes: int, kind: str) -> nn.Module:
    """The same model as transformers writes it: plain attention, plain decoder; shapes without numbers."""
    sizes = VARIANTS[variant]
    config = transformers.SegformerConfig(
        depths=list(sizes["num_layers"]),
        hidden_sizes=list(sizes["dims"]),
        decoder_hidden_size=sizes["decoder_dim"],
        num_labels=num_classes,
        attn_implementation="eager",
    )
    with torch.device("meta"):
        return getattr(transformers, kind)(config).eval()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("variant", VARIANTS)
def test_as_pytorchs_counter_sees_transformers_model(variant, size):
    theirs = transformers_model(variant, 150, "SegformerForSemanticSegmentation")
    ours = cost(build_segformer(variant, 150), size)
    assert ours.macs == counted(theirs, torch.empty(1, 3, *size, device="meta"))
    assert ours.parameters == parameters(theirs)
    assert ours.of("encoder").parameters == parameters(theirs.segformer)
    assert ours.of("decoder").parameters == parameters(theirs.decode_head)


@pytest.mark.parametrize("variant", ["b0", "b2"])
def test_classifier_as_pytorchs_counter_sees_transformers_model(variant):
    theirs = transformers_model(variant, 1000, "SegformerForImageClassification")
    ours = cost(build_classifier(variant, 1000), 224)
    assert ours.macs == counted(theirs, torch.empty(1, 3, 224, 224, device="meta"))
    assert ours.parameters == parameters(theirs)
    assert ours.of("head").size == (1, 1)


@pytest.mark.parametrize("size", [(64, 96), (128, 32)])
def test_sketch_as_pytorchs_counter_sees_lucidrains_package(size):
    """Sizes that are multiples of 32: of others the package makes no maps."""
    theirs, ours = segformer_pytorch.Segformer(num_classes=5), cost(Segformer(num_classes=5), size)
    assert ours.macs == counted(theirs, noise(1, 3, *size))
    assert ours.parameters == parameters(theirs)


@pytest.mark.parametrize("size", [(64, 64), (45, 100)])
@pytest.mark.parametrize("parts", [SKETCH, PAPER])
def test_attention_products_by_hand(parts, size):
    ours = cost(Segformer(**SMALL, parts=parts), size)
    for stage, (dim, ratio, depth) in enumerate(zip(SMALL["dims"], SMALL["reduction_ratio"], SMALL["num_layers"]), 1):
        row = ours.of(f"stage {stage}", "attention")
        height, width = row.size
        pixels, cells = height * width, (height // ratio) * (width // ratio)
        assert row.attention_macs == depth * 2 * pixels * cells * dim
    assert ours.attention_macs == ours.of(part="attention").attention_macs


def test_activations_by_hand():
    """The first stage of B0 at 64×64: 256 pixels of 32 channels, two blocks, 4 cells."""
    ours = cost(build_segformer("b0", 150), 64)
    pixels, cells, dim = 256, 4, 32
    assert ours.of("stage 1", "patch embedding").activations == pixels * dim
    # queries, shrunken map, keys and values, similarities, what is heard, the output
    attention = pixels * dim + cells * dim + 2 * cells * dim + pixels * cells + 2 * pixels * dim
    assert ours.of("stage 1", "attention").activations == 2 * attention
    assert ours.of("stage 1", "feed-forward").activations == 2 * (2 * 4 * pixels * dim + pixels * dim)
    assert ours.of("decoder", "project").activations == 256 * (256 + 64 + 16 + 4)
    assert ours.of("decoder", "fuse").activations == 256 * 256
    assert ours.of("decoder", "classify").activations == 150 * 256


@pytest.mark.parametrize("parts", [SKETCH, PAPER])
def test_rows_add_up(parts):
    ours = cost(Segformer(**SMALL, parts=parts), (64, 96))
    for name in ("parameters", "macs", "attention_macs", "activations"):
        total = sum(getattr(row, name) for row in ours.parts)
        assert getattr(ours, name) == total
        assert getattr(ours.of("encoder"), name) + getattr(ours.of("decoder"), name) == total
    assert [row.stage for row in ours.parts] == [f"stage {1 + i // 4}" for i in range(16)] + ["decoder"] * 3


@pytest.mark.parametrize("parts", [SKETCH, PAPER, FAST])
@pytest.mark.parametrize("training", [False, True])
def test_executed_decoder_is_what_runs(parts, training):
    model = Segformer(**SMALL, parts=parts).train(training)
    maps = [noise(1, dim, *size) for dim, size in zip(SMALL["dims"], [(16, 24), (8, 12), (4, 6), (2, 3)])]
    ours = cost(model, (64, 96))
    assert ours.executed_decoder_macs == counted(model.decoder, maps)
    assert (ours.executed_decoder_macs < ours.of("decoder").macs) == (parts is FAST)


def test_any_leaf_is_counted_as_it_runs():
    class Gate(nn.Module):
        """Linear layers on tokens, which PyTorch may turn into products of batches, and no attention."""

        def __init__(self, *, dim: int, heads: int, reduction_ratio: int) -> None:
            super().__init__()
            self.gate = nn.Linear(dim, dim)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * self.gate(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2).sigmoid()

    class OneMap(nn.Module):
        def __init__(self, *, dims: tuple[int, ...], decoder_dim: int, num_classes: int) -> None:
            super().__init__()
            self.classify = nn.Conv2d(dims[0], num_classes, 3, padding=1)

        def forward(self, maps: list[torch.Tensor]) -> torch.Tensor:
            return self.classify(maps[0])

    model = Segformer(**SMALL, parts=dataclasses.replace(SKETCH, attention=Gate, decoder=OneMap))
    ours = cost(model, (33, 64))
    assert ours.macs == counted(model, noise(1, 3, 33, 64))
    assert ours.parameters == parameters(model)
    assert ours.attention_macs == 0
    assert ours.of("decoder").macs == ours.executed_decoder_macs == 9 * 16 * 8 * 4 * 9


def test_encoder_alone():
    sizes = {name: VARIANTS["b0"][name] for name in ("dims", "num_layers")}
    alone = cost(MiT(channels=3, **sizes, **COMMON, parts=PAPER), 224)
    assert alone.of() == dataclasses.replace(cost(se.mit_b0(), 224).of("encoder"), stage="all")
    assert alone.executed_decoder_macs is None


@pytest.mark.parametrize("training", [False, True])
def test_model_is_left_as_it_was(training):
    model = Segformer(**SMALL, parts=PAPER).train(training)
    before = copy.deepcopy(model)
    cost(model, 512)
    assert model.training == training
    for name, value in before.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], value, rtol=0, atol=0)
    model.eval(), before.eval()
    torch.testing.assert_close(model(noise(1, 3, 40, 64)), before(noise(1, 3, 40, 64)), rtol=0, atol=0)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float64])
def test_precision_does_not_matter(kind):
    model = Segformer(**SMALL, parts=PAPER)
    assert cost(copy.deepcopy(model).to(kind), 64) == cost(model, 64)


def test_model_without_numbers_is_counted_too():
    with torch.device("meta"):
        model = Segformer(**SMALL, parts=PAPER)
    assert cost(model, 64) == cost(Segformer(**SMALL, parts=PAPER), (64, 64))


def test_sizes_grow_without_memory():
    """An image of 100 gigapixels would not fit; its shapes do."""
    assert cost(se.segformer_b0(), 320_000).macs > 1e15


def test_table_says_what_it_counts():
    ours = cost(se.segformer_b0(19), (512, 1024))
    assert all(f"{value:,}" in str(ours) for value in (ours.macs, ours.parameters, ours.activations))
    assert all(f">{value / 1e6:.4g}<" in ours._repr_html_() for value in (ours.macs, ours.activations))
    for text in (str(ours), ours._repr_html_()):
        assert f"{ours.parameters:,}" in text
        assert "512×1024" in text
        assert "1 MAC is a product and a sum" in text
        assert f"{ours.executed_decoder_macs / 1e9:.2f}" in text
    assert {len(line) for line in str(ours).splitlines()[:21]} == {len(str(ours).splitlines()[0])}
    assert "as the paper writes it" not in str(cost(Segformer(), 64))


def test_unknown_row():
    with pytest.raises(ValueError, match=r"stage='stage 5'.*expected a stage among 'encoder', 'stage 1'.*'fuse'"):
        cost(Segformer(**SMALL), 64).of("stage 5")


@pytest.mark.parametrize("model", [nn.Linear(2, 2), Segformer, None, "b0"])
def test_wrong_model(model):
    with pytest.raises(TypeError, match="expected a Segformer, an ImageClassifier or a MiT"):
        cost(model, 64)


@pytest.mark.parametrize(
    ("size", "kind", "words"),
    [
        ((64, 31), ValueError, "at least 32"),
        (16, ValueError, "at least 32"),
        ((64, 0), ValueError, "width is 0"),
        ((64, 64.5), TypeError, "width is 64.5"),
        ((64,), TypeError, "height is"),
        ("large", TypeError, "height is 'large'"),
    ],
)
def test_wrong_size(size, kind, words):
    with pytest.raises(kind, match=words):
        cost(Segformer(**SMALL), size)


def test_counts_are_the_same_in_inference_mode():
    model = build_segformer("b0", 5)
    with torch.inference_mode():
        inside = cost(model, 64)
    assert inside == cost(model, 64)
    assert inside.of("encoder").macs > 0
