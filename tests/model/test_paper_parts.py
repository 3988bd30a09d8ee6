"""The paper's leaves against PyTorch's own modules, what they refuse, and how fresh weights are drawn."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from samples import MAP_DIMS, SMALL, double, maps, noise, shaken
from torch import nn

from segformer_edu import (
    PAPER,
    DepthwiseMixFeedForward,
    DropPath,
    ImageClassifier,
    LayerNorm2d,
    MiT,
    OverlapPatchEmbedding,
    SegformerHead,
    SpatialReductionAttention,
    segformer_b0,
)
from segformer_edu.model.variants import DROP_PATH, VARIANTS, build_classifier, build_segformer, initialize

ENCODER = {name: value for name, value in SMALL.items() if name != "decoder_dim"}


def tokens(x: torch.Tensor) -> torch.Tensor:
    """(B, C, H, W) → (B, H·W, C)."""
    return x.flatten(2).mT


def matrix(layer: nn.Module) -> torch.Tensor:
    """The weight of a linear layer or of a 1×1 convolution, (out, in)."""
    return layer.weight.flatten(1)


# LayerNorm2d


@pytest.mark.parametrize("size", [(1, 1), (3, 4), (5, 2)])
@pytest.mark.parametrize("eps", [1e-6, 1e-5, 0.1])
def test_layer_norm_is_pytorchs_on_the_channels(eps, size):
    ours = shaken(LayerNorm2d(6, eps=eps).double())
    theirs = nn.LayerNorm(6, eps=eps).double()
    theirs.load_state_dict(ours.state_dict())
    x = (0.01 * double(2, 6, *size)).requires_grad_()
    expected = theirs(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    torch.testing.assert_close(ours(x), expected)
    direction = double(2, 6, *size, seed=1)
    for one, other in zip(
        torch.autograd.grad(ours(x), (x, *ours.parameters()), direction),
        torch.autograd.grad(expected, (x, *theirs.parameters()), direction),
    ):
        torch.testing.assert_close(one, other)


def test_layer_norms_of_the_model_have_the_released_epsilons():
    """1e-6 in the blocks and after each stage; 1e-5 behind the embedding and on the shrunken map."""
    model = segformer_b0()
    found = {name: module.eps for name, module in model.named_modules() if isinstance(module, nn.LayerNorm)}
    embeddings = {f"mit.stages.{stage}.embedding.norm" for stage in range(4)}
    at_1e_5 = {name for name, eps in found.items() if eps == 1e-5}
    assert at_1e_5 == embeddings | {name for name in found if ".reduce." in name}
    assert {eps for name, eps in found.items() if name not in at_1e_5} == {1e-6}
    assert len(found) == 4 + 3 * 2 + 8 * 2 + 4


# OverlapPatchEmbedding


@pytest.mark.parametrize("size", [(32, 32), (33, 47), (9, 61)])
def test_patch_embedding_is_convolution_and_norm(size):
    ours = shaken(OverlapPatchEmbedding(3, 8, 7, 4, 3).double())
    conv, norm = nn.Conv2d(3, 8, 7, stride=4, padding=3).double(), nn.LayerNorm(8, eps=1e-5).double()
    conv.load_state_dict(ours.project.state_dict())
    norm.load_state_dict(ours.norm.state_dict())
    x = double(2, 3, *size)
    expected = norm(conv(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    torch.testing.assert_close(ours(x), expected)
    assert expected.shape[-2:] == ((size[0] - 1) // 4 + 1, (size[1] - 1) // 4 + 1)


# SpatialReductionAttention


def pytorchs(ours: SpatialReductionAttention) -> nn.MultiheadAttention:
    """PyTorch's attention with the same weights: queries, keys and values side by side."""
    theirs = nn.MultiheadAttention(ours.to_q.in_channels, ours.heads, batch_first=True).double()
    theirs.in_proj_weight.data = torch.cat([matrix(ours.to_q), matrix(ours.to_kv)])
    theirs.in_proj_bias.data = torch.cat([ours.to_q.bias, ours.to_kv.bias])
    theirs.out_proj.weight.data, theirs.out_proj.bias.data = matrix(ours.to_out), ours.to_out.bias
    return theirs


@pytest.mark.parametrize("size", [(7, 8), (6, 6), (5, 11)])
@pytest.mark.parametrize("ratio", [1, 2, 3])
@pytest.mark.parametrize("heads", [1, 2, 6])
def test_attention_is_pytorchs_on_a_shrunken_map(heads, ratio, size):
    """At ratio 1 the map itself; above, a strided convolution and a LayerNorm before the keys and the values."""
    ours = shaken(SpatialReductionAttention(dim=12, heads=heads, reduction_ratio=ratio).double())
    theirs, x = pytorchs(ours), double(2, 12, *size).requires_grad_()
    seen = tokens(x)
    if ratio > 1:
        conv, norm = ours.reduce
        shrunk = F.conv2d(x, conv.weight, conv.bias, stride=ratio)
        seen = F.layer_norm(tokens(shrunk), (12,), norm.weight, norm.bias, eps=1e-5)
    expected, _ = theirs(tokens(x), seen, seen)
    expected = expected.mT.unflatten(2, size)
    torch.testing.assert_close(ours(x), expected)
    direction = double(2, 12, *size, seed=1)
    (one,), (other,) = (torch.autograd.grad(y, x, direction) for y in (ours(x), expected))
    torch.testing.assert_close(one, other)


def test_attention_has_the_released_weights():
    module = SpatialReductionAttention(dim=8, heads=2, reduction_ratio=4)
    names = ["reduce.0", "reduce.1", "to_q", "to_kv", "to_out"]
    assert [f"{n}.{kind}" for n in names for kind in ("weight", "bias")] == list(module.state_dict())
    assert not any(
        "reduce" in name for name in SpatialReductionAttention(dim=8, heads=2, reduction_ratio=1).state_dict()
    )


# DepthwiseMixFeedForward


@pytest.mark.parametrize("size", [(1, 1), (2, 5), (7, 6)])
@pytest.mark.parametrize("expansion", [1, 4])
def test_feed_forward_is_linear_depthwise_gelu_linear(expansion, size):
    ours = shaken(DepthwiseMixFeedForward(dim=5, expansion_factor=expansion).double())
    x = (2 * double(2, 5, *size)).requires_grad_()
    wide = F.linear(x.permute(0, 2, 3, 1), matrix(ours.widen), ours.widen.bias).permute(0, 3, 1, 2)
    mixed = torch.cat(
        [F.conv2d(wide[:, [c]], ours.mix.weight[[c]], ours.mix.bias[[c]], padding=1) for c in range(wide.shape[1])], 1
    )
    bent = mixed * (1 + torch.erf(mixed / 2**0.5)) / 2
    expected = F.linear(bent.permute(0, 2, 3, 1), matrix(ours.narrow), ours.narrow.bias).permute(0, 3, 1, 2)
    torch.testing.assert_close(ours(x), expected)
    inputs = (x, *ours.parameters())
    direction = double(2, 5, *size, seed=1)
    pairs = (torch.autograd.grad(y, inputs, direction) for y in (ours(x), expected))
    for one, other in zip(*pairs):
        torch.testing.assert_close(one, other)


# DropPath


def test_drop_path_drops_whole_samples_and_keeps_the_mean():
    module, x = DropPath(0.3).train(), torch.ones(20_000, 2, 2, 3)
    kept = module(x)
    assert set(kept.flatten(1).amax(dim=1).tolist()) == {0.0, torch.tensor(1 / 0.7).item()}
    torch.testing.assert_close(kept.flatten(1).amin(dim=1), kept.flatten(1).amax(dim=1))
    # a fair draw of 20 000 strays by more than 5 standard deviations, 0.0162, once in two million times
    assert abs((kept[:, 0, 0, 0] == 0).double().mean().item() - 0.3) < 0.0162
    assert abs(kept.double().mean().item() - 1) < 0.0162 / 0.7


def test_drop_path_passes_on_gradients_of_what_it_keeps():
    module, x = DropPath(0.5).train(), noise(64, 2, 1, 1).requires_grad_()
    y = module(x)
    y.sum().backward()
    torch.testing.assert_close(x.grad, torch.where(y == 0, 0.0, 2.0))


@pytest.mark.parametrize("module", [DropPath(0.9).eval(), DropPath(0).train(), DropPath()])
def test_drop_path_leaves_alone(module):
    x = noise(5, 2, 3, 3)
    assert module(x) is x


def test_drop_path_stays_in_half_precision():
    assert DropPath(0.5).train()(noise(4, 1, 1, 1).bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize("rate", [-0.1, 1, 1.5, float("nan")])
def test_drop_path_takes_a_probability(rate):
    with pytest.raises(ValueError, match=rf"rate is {rate}; expected a probability .* 0\.1"):
        DropPath(rate)


@pytest.mark.parametrize("variant", VARIANTS)
def test_drop_path_rises_evenly(variant):
    """As linspace from 0 to 0.1 over all blocks."""
    with torch.device("meta"):
        mits = [build_segformer(variant, 2).mit, build_classifier(variant, 2).mit]
    for mit in mits:
        rates = [block.drop_path.rate for stage in mit.stages for block in stage.blocks]
        depth = sum(VARIANTS[variant]["num_layers"])
        expected = [DROP_PATH * index / (depth - 1) for index in range(depth)]
        torch.testing.assert_close(torch.tensor(rates), torch.tensor(expected))


# SegformerHead


@pytest.mark.parametrize("size", [(8, 8), (9, 13), (23, 30)])
@pytest.mark.parametrize("training", [False, True])
def test_head_is_linear_upsample_linear_batchnorm_relu_linear(training, size):
    """Written out with PyTorch's functions on tokens: project, upsample, put together, fuse, normalise, classify."""
    module = shaken(SegformerHead(dims=MAP_DIMS, decoder_dim=70, num_classes=4, dropout=0.0).double()).train(training)
    module.norm.running_mean.copy_(double(70, seed=5))
    module.norm.running_var.copy_(double(70, seed=6).exp())
    layer_outputs, projected = maps(*size, gradient=True), []
    for x, layer in zip(layer_outputs, module.project):
        y = F.linear(x.permute(0, 2, 3, 1), matrix(layer), layer.bias).permute(0, 3, 1, 2)
        projected.append(F.interpolate(y, size=size, mode="bilinear", align_corners=False))
    fused = F.linear(torch.cat(projected, dim=1).permute(0, 2, 3, 1), matrix(module.fuse)).permute(0, 3, 1, 2)
    statistics = (None, None) if training else (module.norm.running_mean.clone(), module.norm.running_var.clone())
    bent = F.batch_norm(fused, *statistics, module.norm.weight, module.norm.bias, training=training).relu()
    expected = F.linear(bent.permute(0, 2, 3, 1), matrix(module.classify), module.classify.bias).permute(0, 3, 1, 2)
    torch.testing.assert_close(module(layer_outputs), expected)


def test_head_drops_whole_channels():
    """With dropout p, logits are a sum over the channels that stay, each 1 / (1 - p) times as large."""
    module = SegformerHead(dims=MAP_DIMS, decoder_dim=1, num_classes=1, dropout=0.5).train()
    nn.init.ones_(module.classify.weight), nn.init.zeros_(module.classify.bias)
    nn.init.ones_(module.norm.bias)
    layer_outputs = [x.float().repeat(50, 1, 1, 1) for x in maps(4, 4)]
    off = (module(layer_outputs) == 0).flatten(1).all(dim=1).double().mean()
    assert 0.3 < off < 0.7


# ImageClassifier


def test_classifier_is_a_mean_and_a_linear_layer():
    model = ImageClassifier(MiT(channels=3, **ENCODER, parts=PAPER), 7).eval()
    x = noise(2, 3, 64, 96)
    expected = F.linear(model.mit(x).flatten(2).mean(dim=2), model.head.weight, model.head.bias)
    torch.testing.assert_close(model(x), expected)
    assert expected.shape == (2, 7)


# What they refuse


@pytest.mark.parametrize("make", [lambda: ImageClassifier(MiT(channels=3, **ENCODER), 0), lambda: segformer_b0(0)])
def test_a_number_of_classes_that_is_none(make):
    with pytest.raises(ValueError, match="num_classes is 0; expected a positive whole number"):
        make()


# Fresh weights


def is_drawn(values: torch.Tensor, std: float, kind: str) -> None:
    """Mean, spread and shape of a distribution, each within five standard errors of a fair draw's."""
    values, count = values.detach().double().flatten(), values.numel()
    fourth = {"normal": 3.0, "uniform": 1.8}[kind]  # E x⁴ / (E x²)²
    assert values.mean().abs() < 5 * std / count**0.5
    assert abs(values.square().mean() / std**2 - 1) < 5 * ((fourth - 1) / count) ** 0.5
    largest = values.abs().max() / std
    assert largest <= 3**0.5 + 1e-3 if kind == "uniform" else largest > 3 or count < 2000


@pytest.mark.parametrize("make", [lambda: build_segformer("b1", 150).mit, lambda: build_classifier("b1", 1000)])
def test_encoder_is_drawn_as_the_released_code_draws_it(make):
    """Linear layers (also those written as 1×1 convolutions) 0.02, convolutions √(2 / fan-out), norms 1 and 0."""
    seen = set()
    for module in make().modules():
        kernel = getattr(module, "kernel_size", (1, 1))
        if isinstance(module, nn.LayerNorm):
            assert (module.weight == 1).all()
        elif isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and kernel == (1, 1)):
            is_drawn(module.weight, 0.02, "normal")
        elif isinstance(module, nn.Conv2d):
            is_drawn(module.weight, (2 / (kernel[0] ** 2 * module.out_channels / module.groups)) ** 0.5, "normal")
        else:
            continue
        assert (module.bias == 0).all()
        seen.add((kernel, getattr(module, "groups", 1) > 1))
    assert seen == {((k, k), False) for k in (1, 2, 3, 4, 7, 8)} | {((3, 3), True)}


def test_decoder_is_drawn_as_the_released_code_draws_it():
    """Projections and classifier as PyTorch draws them, uniform to ±1/√fan-in; the fusion normal, √(2 / fan-out)."""
    decoder = build_segformer("b2", 150).decoder
    for layer in (*decoder.project, decoder.classify):
        fan_in = matrix(layer).shape[1]
        is_drawn(layer.weight, (3 * fan_in) ** -0.5, "uniform")
        is_drawn(layer.bias, (3 * fan_in) ** -0.5, "uniform")
    is_drawn(decoder.fuse.weight, (2 / 768) ** 0.5, "normal")
    assert decoder.fuse.bias is None
    norm = decoder.norm
    for values, expected in ((norm.weight, 1), (norm.bias, 0), (norm.running_mean, 0), (norm.running_var, 1)):
        assert (values == expected).all()


def test_a_layer_without_bias_is_drawn_too():
    layer = nn.Linear(50, 60, bias=False)
    initialize(layer)
    is_drawn(layer.weight, 0.02, "normal")


def test_fresh_models_differ_by_the_seed_alone():
    torch.manual_seed(1)
    one = segformer_b0().state_dict()
    torch.manual_seed(1)
    same, other = segformer_b0().state_dict(), segformer_b0().state_dict()
    assert all(torch.equal(value, same[name]) for name, value in one.items())
    assert any(not torch.equal(value, other[name]) for name, value in one.items())
