"""The paper's leaves against PyTorch's own modules, what they refuse, and how fresh weights are drawn."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from unittest.mock import patch

import pytest
import torch
import torch.nn.functional as F
from samples import SMALL, noise, shaken
from test_arguments import BAD_MAPS, complaint, says
from torch import nn

from segformer_edu import (
    PAPER,
    DepthwiseMixFeedForward,
    DropPath,
    ImageClassifier,
    LayerNorm2d,
    MiT,
    OverlapPatchEmbedding,
    Segformer,
    SegformerHead,
    SpatialReductionAttention,
    segformer_b0,
)
from segformer_edu.pieces import AT_ONCE, count_pieces
from segformer_edu.segformer import DROP_PATH, VARIANTS, initialize, paper_classifier, paper_segformer

DIMS = (3, 4, 5, 6)
ENCODER = {name: value for name, value in SMALL.items() if name != "decoder_dim"}


def double(*shape: int, seed: int = 0) -> torch.Tensor:
    return noise(*shape, seed=seed, dtype=torch.float64)


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
    inner = {name: eps for name, eps in found.items() if ".reduce." in name or name.endswith(".0.norm")}
    embeddings = {f"mit.stages.{stage}.0.norm" for stage in range(4)}
    at_1e_5 = {name for name, eps in found.items() if eps == 1e-5}
    assert at_1e_5 == embeddings | {name for name in inner if ".reduce." in name}
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
    theirs = nn.MultiheadAttention(ours.dim, ours.heads, batch_first=True).double()
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


@pytest.mark.parametrize("rows", [1, 2, 3, 7, 100])
@pytest.mark.parametrize("size", [(1, 1, 5), (1, 7, 6), (3, 7, 6), (2, 12, 1)])
def test_feed_forward_in_strips_is_the_whole(size, rows):
    """``rows`` is how many rows of a map the limit leaves room for."""
    batch, height, width = size
    ours, x = shaken(DepthwiseMixFeedForward(dim=5, expansion_factor=4).double()), double(batch, 5, height, width)
    seen: list[int] = []
    ours.widen.register_forward_hook(lambda module, inputs, wide: seen.append(wide.shape[-2]))
    expected, whole = ours(x), [height]
    assert seen == whole
    with torch.no_grad(), patch("segformer_edu.pieces.AT_ONCE", 8 * 20 * width * rows):
        torch.testing.assert_close(ours(x), expected)
    at_once = math.ceil(height / math.ceil(height / rows))
    strips = [len(range(max(0, a - 1), min(height, a + at_once + 1))) for a in range(0, height, at_once)]
    assert seen[1:] == (whole if batch * height <= rows else strips * batch)


def test_feed_forward_in_strips_stays_channels_last():
    x = noise(2, 8, 12, 6).contiguous(memory_format=torch.channels_last)
    with torch.no_grad(), patch("segformer_edu.pieces.AT_ONCE", 2000):
        y = DepthwiseMixFeedForward(dim=8, expansion_factor=4).to(memory_format=torch.channels_last)(x)
    assert y.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("training", [False, True])
def test_feed_forward_recorded_for_any_size(training):
    """What is exported holds for other sizes, smaller or larger than the one it was recorded with."""
    module, rows = shaken(DepthwiseMixFeedForward(dim=5, expansion_factor=4)).train(training), torch.export.Dim("rows")
    with torch.no_grad(), patch("segformer_edu.pieces.AT_ONCE", 2000):
        exported = torch.export.export(module, (noise(1, 5, 12, 6),), dynamic_shapes=[{2: rows}]).module()
        for height in (3, 12, 40):
            x = noise(1, 5, height, 6)
            torch.testing.assert_close(exported(x), module(x))


@pytest.mark.filterwarnings("ignore")  # tracing is deprecated; people's exports still use it
def test_feed_forward_traced_for_any_size():
    module, x = shaken(DepthwiseMixFeedForward(dim=5, expansion_factor=4)).eval(), noise(1, 5, 40, 6)
    with torch.no_grad(), patch("segformer_edu.pieces.AT_ONCE", 2000):
        traced = torch.jit.trace(module, noise(1, 5, 12, 6), check_trace=False)
        torch.testing.assert_close(traced(x), module(x))


# Pieces


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("shape", [(1, 3, 8, 8), (2, 1, 512, 512), (1, 4, 1000, 333)])
def test_pieces_are_few_and_no_larger_than_the_limit(shape, dtype):
    x, channels = torch.empty(shape, dtype=dtype), 100
    whole, pieces = torch.empty(shape[0], channels, *shape[2:], dtype=dtype).nbytes, count_pieces(x, channels)
    assert whole / pieces <= AT_ONCE
    assert pieces == 1 or whole / (pieces - 1) > AT_ONCE


def test_one_piece_without_a_cpu():
    assert count_pieces(torch.empty(1, 3, 10_000, 10_000, device="meta"), 64) == 1


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
    says(complaint(ValueError, lambda: DropPath(rate)), f"rate is {rate}", "probability", "0.1")


@pytest.mark.parametrize("variant", VARIANTS)
def test_drop_path_rises_evenly(variant):
    """As linspace from 0 to 0.1 over all blocks, the same for both branches of one."""
    with torch.device("meta"):
        mits = [paper_segformer(variant, 2).mit, paper_classifier(variant, 2).mit]
    for mit in mits:
        blocks = [block for _, layers, _ in mit.stages for block in layers]
        rates = [[branch.fn.drop_path.rate for branch in block] for block in blocks]
        depth = sum(VARIANTS[variant]["num_layers"])
        expected = [DROP_PATH * index / (depth - 1) for index in range(depth)]
        torch.testing.assert_close(torch.tensor(rates), torch.tensor(expected)[:, None].expand(-1, 2))


# SegformerHead


def maps(height: int, width: int, batch: int = 2) -> list[torch.Tensor]:
    """Four maps as an encoder gives them: each half the size of the one before, rounded up."""
    made = []
    for index, dim in enumerate(DIMS):
        made.append(double(batch, dim, height, width, seed=index).requires_grad_())
        height, width = (height - 1) // 2 + 1, (width - 1) // 2 + 1
    return made


def plain(head: SegformerHead, layer_outputs: list[torch.Tensor]) -> torch.Tensor:
    """The decoder as the paper writes it: project, upsample, put together, fuse, normalise, ReLU, classify."""
    size, projected = layer_outputs[0].shape[-2:], []
    for x, layer in zip(layer_outputs, head.project):
        y = F.linear(x.permute(0, 2, 3, 1), matrix(layer), layer.bias).permute(0, 3, 1, 2)
        projected.append(F.interpolate(y, size=size, mode="bilinear", align_corners=False))
    fused = F.conv2d(torch.cat(projected, dim=1), matrix(head.fuse)[:, :, None, None])
    return head.classify(head.dropout(head.norm(fused).relu()))


def head(training: bool) -> SegformerHead:
    """A decoder whose BatchNorm is not the identity; dropout off, since it draws at random."""
    made = shaken(SegformerHead(dims=DIMS, decoder_dim=70, num_classes=4, dropout=0.0).double())
    made.norm.running_mean.copy_(double(70, seed=5))
    made.norm.running_var.copy_(double(70, seed=6).exp())
    return made.train(training)


@pytest.mark.parametrize("at_once", [1, AT_ONCE])  # two groups of channels, and one
@pytest.mark.parametrize("size", [(8, 8), (9, 13), (23, 30), (25, 11)])
@pytest.mark.parametrize("training", [False, True])
def test_head_gives_the_plain_decoders_logits_gradients_and_statistics(training, size, at_once):
    ours = head(training)
    theirs, layer_outputs = copy.deepcopy(ours), maps(*size)
    with patch("segformer_edu.pieces.AT_ONCE", at_once):
        logits = ours(layer_outputs)
    expected = plain(theirs, layer_outputs)
    assert logits.shape == (2, 4, *size)
    torch.testing.assert_close(logits, expected)
    direction = double(*expected.shape, seed=9)
    one = torch.autograd.grad(logits, (*layer_outputs, *ours.parameters()), direction)
    other = torch.autograd.grad(expected, (*layer_outputs, *theirs.parameters()), direction)
    for a, b in zip(one, other, strict=True):
        torch.testing.assert_close(a, b)
    for name, value in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value)
    assert int(ours.norm.num_batches_tracked) == int(training)


@pytest.mark.parametrize(("room", "groups"), [(200, 1), (70, 1), (69, 2), (1, 2)])  # of 64 channels at least
def test_head_takes_few_groups(room, groups):
    """``room`` is for how many channels the limit leaves room."""
    ours, layer_outputs = head(training=False), [x.detach() for x in maps(8, 9)]
    with (
        patch("segformer_edu.pieces.AT_ONCE", 8 * 2 * 8 * 9 * room),
        patch.object(ours, "share", wraps=ours.share) as share,
    ):
        torch.testing.assert_close(ours(layer_outputs), plain(ours, layer_outputs))
    assert share.call_count == groups


@pytest.mark.parametrize("at_once", [1, AT_ONCE])
def test_head_in_single_precision(at_once):
    ours, layer_outputs = head(training=False), maps(23, 30)
    expected = plain(ours, layer_outputs)
    with patch("segformer_edu.pieces.AT_ONCE", at_once):
        single = copy.deepcopy(ours).float()([x.float() for x in layer_outputs])
    assert (single - expected).abs().max() < 1e-5 * expected.abs().max()


def test_head_goes_on_learning_after_an_evaluation():
    """Nothing that evaluation works out is kept while the weights change."""
    module, layer_outputs = head(training=False), [x.detach() for x in maps(8, 9)]
    before = module(layer_outputs)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(1.5)
        module.norm.running_var.mul_(2)
    assert not torch.allclose(module(layer_outputs), before)
    torch.testing.assert_close(module(layer_outputs), plain(module, layer_outputs))


def test_head_drops_whole_channels():
    """With dropout p, logits are a sum over the channels that stay, each 1 / (1 - p) times as large."""
    module = SegformerHead(dims=DIMS, decoder_dim=1, num_classes=1, dropout=0.5).train()
    nn.init.ones_(module.classify.weight), nn.init.zeros_(module.classify.bias)
    nn.init.ones_(module.norm.bias)
    layer_outputs = [x.detach().float().repeat(50, 1, 1, 1) for x in maps(4, 4)]
    off = (module(layer_outputs) == 0).flatten(1).all(dim=1).double().mean()
    assert 0.3 < off < 0.7


# ImageClassifier


def test_classifier_is_a_mean_and_a_linear_layer():
    model = ImageClassifier(MiT(channels=3, **ENCODER, parts=PAPER), ENCODER["dims"][-1], 7).eval()
    x = noise(2, 3, 64, 96)
    expected = F.linear(model.mit(x).flatten(2).mean(dim=2), model.head.weight, model.head.bias)
    torch.testing.assert_close(model(x), expected)
    assert expected.shape == (2, 7)


# What they refuse

TAKE_A_MAP: dict[str, Callable[[], nn.Module]] = {
    "norm": lambda: LayerNorm2d(6),
    "embedding": lambda: OverlapPatchEmbedding(6, 8, 3, 2, 1),
    "attention": lambda: SpatialReductionAttention(dim=6, heads=2, reduction_ratio=2),
    "feed-forward": lambda: DepthwiseMixFeedForward(dim=6, expansion_factor=2),
    "model": lambda: Segformer(**SMALL, channels=6, parts=PAPER),
    "classifier": lambda: ImageClassifier(MiT(channels=6, **ENCODER, parts=PAPER), ENCODER["dims"][-1], 2),
}


@pytest.mark.parametrize("case", BAD_MAPS)
@pytest.mark.parametrize("make", TAKE_A_MAP.values(), ids=TAKE_A_MAP)
def test_bad_map(make, case):
    x, kind, words = BAD_MAPS[case]
    says(complaint(kind, lambda: make()(x)), *words)


@pytest.mark.parametrize("case", BAD_MAPS)
def test_bad_map_among_the_heads(case):
    x, kind, words = BAD_MAPS[case]
    module = SegformerHead(dims=(6, 6, 6, 6), decoder_dim=8, num_classes=2)
    says(complaint(kind, lambda: module([noise(1, 6, 8, 8)] * 3 + [x])), *words)


@pytest.mark.parametrize("count", [0, 3, 5])
def test_head_wants_four_maps(count):
    module = SegformerHead(dims=(6, 6, 6, 6), decoder_dim=8, num_classes=2)
    says(complaint(ValueError, lambda: module([noise(1, 6, 8, 8)] * count)), f"list of {count}", "expected 4 maps")


def test_map_smaller_than_a_cell():
    module = SpatialReductionAttention(dim=6, heads=2, reduction_ratio=5)
    says(complaint(ValueError, lambda: module(noise(1, 6, 4, 9))), "(1, 6, 4, 9)", "at least 5")


@pytest.mark.parametrize(
    "make",
    [
        lambda: LayerNorm2d(0),
        lambda: DepthwiseMixFeedForward(dim=8, expansion_factor=0),
        lambda: SpatialReductionAttention(dim=8, heads=2, reduction_ratio=0),
        lambda: SegformerHead(dims=(1, 2, 3), decoder_dim=8, num_classes=2),
        lambda: SegformerHead(dims=(1, 2, 3, 4), decoder_dim=0, num_classes=2),
        lambda: ImageClassifier(nn.Identity(), 8, 0),
        lambda: segformer_b0(0),
    ],
)
def test_bad_number(make):
    says(complaint(ValueError, make))


def test_heads_that_do_not_share_the_channels():
    with pytest.raises(ValueError, match=r"dim=8 cannot be shared by heads=3"):
        SpatialReductionAttention(dim=8, heads=3, reduction_ratio=1)


# Fresh weights


def is_drawn(values: torch.Tensor, std: float, kind: str) -> None:
    """Mean, spread and shape of a distribution, each within five standard errors of a fair draw's."""
    values, count = values.detach().double().flatten(), values.numel()
    fourth = {"normal": 3.0, "uniform": 1.8}[kind]  # E x⁴ / (E x²)²
    assert values.mean().abs() < 5 * std / count**0.5
    assert abs(values.square().mean() / std**2 - 1) < 5 * ((fourth - 1) / count) ** 0.5
    largest = values.abs().max() / std
    assert largest <= 3**0.5 + 1e-3 if kind == "uniform" else largest > 3 or count < 2000


@pytest.mark.parametrize("make", [lambda: paper_segformer("b1", 150).mit, lambda: paper_classifier("b1", 1000)])
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
    decoder = paper_segformer("b2", 150).decoder
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
