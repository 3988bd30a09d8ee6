"""The fast leaves against their plain siblings: the same function, forward and backward, and when they step aside."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from unittest.mock import patch

import pytest
import torch
import torch.nn.utils.prune
from samples import MAP_DIMS, SMALL, double, maps, noise, shaken
from torch import nn

import segformer_edu as se
from segformer_edu import (
    FAST,
    PAPER,
    DepthwiseMixFeedForward,
    FastMixFeedForward,
    FastSegformerHead,
    Segformer,
    SegformerHead,
)
from segformer_edu.model import fast
from segformer_edu.model.fast import AT_ONCE, activate_and_narrow, count_pieces
from segformer_edu.model.variants import VARIANTS, build_classifier, build_segformer


@contextmanager
def limit(bytes_at_once: int) -> Iterator[None]:
    """Make maps in pieces of this many bytes."""
    with patch("segformer_edu.model.fast.AT_ONCE", bytes_at_once):
        yield


def pair(kind: type[nn.Module], sibling: type[nn.Module], **arguments: object) -> tuple[nn.Module, nn.Module]:
    """A fast leaf and its plain sibling in double precision, with the same weights, none of them 0 or 1."""
    ours, theirs = shaken(kind(**arguments).double()), sibling(**arguments).double()
    if isinstance(ours, SegformerHead):
        ours.norm.running_mean.copy_(double(70, seed=5))
        ours.norm.running_var.copy_(double(70, seed=6).exp())
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


def heads() -> tuple[FastSegformerHead, SegformerHead]:
    return pair(FastSegformerHead, SegformerHead, dims=MAP_DIMS, decoder_dim=70, num_classes=4, dropout=0.3)


def feed_forwards(dim: int = 5, factor: int = 4) -> tuple[FastMixFeedForward, DepthwiseMixFeedForward]:
    return pair(FastMixFeedForward, DepthwiseMixFeedForward, dim=dim, expansion_factor=factor)


def assert_equal(ours: nn.Module, theirs: nn.Module, inputs: list[torch.Tensor], call: Callable) -> None:
    """Results, gradients of inputs and weights, and buffers, from the same random draws."""
    torch.manual_seed(1)
    one = call(ours)
    torch.manual_seed(1)
    other = call(theirs)
    torch.testing.assert_close(one, other)
    direction = double(*other.shape, seed=9)
    weights = [[p for p in module.parameters() if p.requires_grad] for module in (ours, theirs)]
    gradients = [torch.autograd.grad(y, (*inputs, *w), direction) for y, w in zip((one, other), weights)]
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b)
    for (name, a), b in zip(ours.named_buffers(), theirs.buffers(), strict=True):
        torch.testing.assert_close(a, b, msg=name)


# Leaves


@pytest.mark.parametrize("at_once", [1, AT_ONCE])  # two groups of channels, and one
@pytest.mark.parametrize("size", [(8, 8), (9, 13), (23, 30), (25, 11)])
@pytest.mark.parametrize("training", [False, True])
def test_head_is_the_plain_one(training, size, at_once):
    ours, theirs = (head.train(training) for head in heads())
    layer_outputs = maps(*size, gradient=True)
    with limit(at_once):
        assert_equal(ours, theirs, layer_outputs, lambda head: head(layer_outputs))
    assert int(ours.norm.num_batches_tracked) == int(training)


@pytest.mark.parametrize(("room", "groups"), [(200, 1), (70, 1), (69, 2), (1, 2)])  # of 64 channels at least
def test_head_takes_few_groups(room, groups):
    """``room`` is for how many channels the limit leaves room."""
    (ours, theirs), layer_outputs = (head.eval() for head in heads()), maps(8, 9, gradient=True)
    with limit(8 * 2 * 8 * 9 * room), patch.object(ours, "share", wraps=ours.share) as share:
        torch.testing.assert_close(ours(layer_outputs), theirs(layer_outputs))
    assert share.call_count == groups


@pytest.mark.parametrize("at_once", [1, AT_ONCE])
def test_head_in_single_precision(at_once):
    (ours, theirs), layer_outputs = (head.eval() for head in heads()), maps(23, 30, gradient=True)
    expected = theirs(layer_outputs)
    with limit(at_once):
        single = ours.float()([x.float() for x in layer_outputs])
    assert (single - expected).abs().max() < 1e-5 * expected.abs().max()


def test_head_goes_on_learning_after_an_evaluation():
    """Nothing that evaluation works out is kept while the weights change."""
    (ours, theirs), layer_outputs = (head.eval() for head in heads()), maps(8, 9, gradient=True)
    before = ours(layer_outputs)
    with torch.no_grad():
        for head in (ours, theirs):
            for parameter in head.parameters():
                parameter.mul_(1.5)
            head.norm.running_var.mul_(2)
    assert not torch.allclose(ours(layer_outputs), before)
    torch.testing.assert_close(ours(layer_outputs), theirs(layer_outputs))


@pytest.mark.parametrize("expansion", [1, 4])
@pytest.mark.parametrize("size", [(1, 1), (2, 5), (7, 6)])
def test_feed_forward_is_the_plain_one(size, expansion):
    ours, theirs = feed_forwards(factor=expansion)
    x = (2 * double(2, 5, *size)).requires_grad_()
    assert_equal(ours, theirs, [x], lambda module: module(x))


@pytest.mark.parametrize("rows", [1, 2, 3, 7, 100])
@pytest.mark.parametrize("size", [(1, 1, 5), (1, 7, 6), (3, 7, 6), (2, 12, 1)])
def test_feed_forward_in_strips_is_the_whole(size, rows):
    """``rows`` is how many rows of a map the limit leaves room for."""
    batch, height, width = size
    (ours, theirs), x = feed_forwards(), double(batch, 5, height, width)
    seen: list[int] = []

    def note(hidden: torch.Tensor, *rest: object) -> torch.Tensor:
        seen.append(hidden.shape[-2])
        return activate_and_narrow(hidden, *rest)

    noting = patch("segformer_edu.model.fast.activate_and_narrow", note)
    with torch.no_grad(), limit(8 * 20 * width * rows), noting:
        torch.testing.assert_close(ours(x), theirs(x))
    at_once = math.ceil(height / math.ceil(height / rows))
    strips = [min(at_once, height - first) for first in range(0, height, at_once)]
    assert seen == ([height] if batch * height <= rows else strips * batch)


def test_feed_forward_in_strips_stays_channels_last():
    x = noise(2, 8, 12, 6).contiguous(memory_format=torch.channels_last)
    module = FastMixFeedForward(dim=8, expansion_factor=4).to(memory_format=torch.channels_last)
    with torch.no_grad(), limit(2000):
        assert module(x).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("training", [False, True])
def test_feed_forward_recorded_for_any_size(training):
    """What is exported holds for other sizes, smaller or larger than the one it was recorded with."""
    module, rows = shaken(FastMixFeedForward(dim=5, expansion_factor=4)).train(training), torch.export.Dim("rows")
    with torch.no_grad(), limit(2000):
        exported = torch.export.export(module, (noise(1, 5, 12, 6),), dynamic_shapes=[{2: rows}]).module()
        for height in (3, 12, 40):
            x = noise(1, 5, height, 6)
            torch.testing.assert_close(exported(x), module(x))


def test_while_it_learns_gelus_result_is_not_kept():
    """Of the three wide maps two are kept for the backward pass."""
    kept = []
    for module in feed_forwards():
        sizes: list[int] = []

        def pack(tensor: torch.Tensor, sizes: list[int] = sizes) -> torch.Tensor:
            sizes.append(tensor.shape[1] if tensor.ndim == 4 else 0)
            return tensor

        x = double(2, 5, 7, 6).requires_grad_()
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            module(x)
        kept.append(sizes.count(20))
    assert kept[0] < kept[1]


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


# Whole models


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_fast_and_plain(variant, training, record_property):
    """Logits and gradients in double precision, with strips and groups, the same channels and branches left out."""
    torch.manual_seed(0)
    ours = build_segformer(variant, 19).double().train(training)
    theirs = build_segformer(variant, 19, parts=PAPER).double().train(training)
    theirs.load_state_dict(ours.state_dict())
    results = []
    for model in (ours, theirs):
        torch.manual_seed(3)
        x = double(2, 3, 64, 96).requires_grad_()
        with limit(20_000):
            logits = model(x)
        logits.square().mean().backward()
        results.append([logits.detach(), x.grad, torch.cat([p.grad.flatten() for p in model.parameters()])])
    apart = max(((a - b).abs().max() / b.abs().max()).item() for a, b in zip(*results, strict=True))
    record_property("worst difference of fast and plain in double precision", apart)
    assert apart < 1e-8
    with torch.no_grad(), limit(20_000):
        torch.testing.assert_close(ours.eval()(double(1, 3, 64, 96)), theirs.eval()(double(1, 3, 64, 96)))


def test_builders_give_the_fast_leaves_and_take_others():
    kinds = [{type(m) for m in build().modules()} for build in (se.segformer_b0, lambda: se.segformer_b0(parts=PAPER))]
    assert {FastMixFeedForward, FastSegformerHead} <= kinds[0]
    assert not {FastMixFeedForward, FastSegformerHead} & kinds[1]
    assert {DepthwiseMixFeedForward, SegformerHead} <= kinds[1]
    assert FastMixFeedForward in {type(m) for m in build_classifier("b0", 10).modules()}
    assert se.segformer_b0().state_dict().keys() == se.segformer_b0(parts=PAPER).state_dict().keys()


# Stepping aside: each changes a leaf so that it is more than its own products


class Adapter(nn.Module):
    """LoRA's form: what the layer gives, and a small correction that learns."""

    def __init__(self, layer: nn.Conv2d) -> None:
        super().__init__()
        torch.manual_seed(4)
        self.layer = layer.requires_grad_(False)
        self.down = nn.Conv2d(layer.in_channels, 2, 1, bias=False).double()
        self.up = nn.Conv2d(2, layer.out_channels, 1, bias=False).double()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x) + self.up(self.down(x))


class Doubling(nn.Conv2d):
    """A subclass with the same attributes and another forward."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * super().forward(x)


def subclassed(layer: nn.Conv2d) -> nn.Conv2d:
    changed = copy.deepcopy(layer)
    changed.__class__ = Doubling
    return changed


def convolution(layer: nn.Conv2d, *arguments: object, **options: object) -> nn.Conv2d:
    torch.manual_seed(4)
    return nn.Conv2d(layer.in_channels, layer.out_channels, *arguments, **options).double()


class Doubled(nn.Module):
    """A parametrisation."""

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return 2 * weight


def patched(layer: nn.Module) -> nn.Module:
    """As libraries that replace ``forward`` of an instance do."""
    own = layer.forward
    layer.forward = lambda x: 2 * own(x)
    return layer


def hooked(layer: nn.Module) -> nn.Module:
    layer.register_forward_hook(lambda module, inputs, result: 2 * result)
    return layer


def hooked_before(layer: nn.Module) -> nn.Module:
    layer.register_forward_pre_hook(lambda module, inputs: (2 * inputs[0],))
    return layer


def hooked_backwards(layer: nn.Module) -> nn.Module:
    layer.register_full_backward_hook(lambda module, into, out: tuple(None if g is None else 2 * g for g in into))
    return layer


def parametrised(layer: nn.Module) -> nn.Module:
    nn.utils.parametrize.register_parametrization(layer, "weight", Doubled())
    return layer


def pruned(layer: nn.Module) -> nn.Module:
    return nn.utils.prune.l1_unstructured(layer, "weight", amount=0.5)


def spectral(layer: nn.Module) -> nn.Module:
    torch.manual_seed(4)
    return nn.utils.spectral_norm(layer).double()


ANY_LAYER: dict[str, Callable[[nn.Module], nn.Module]] = {
    "hook": hooked,
    "hook before": hooked_before,
    "hook of the backward pass": hooked_backwards,
    "forward of the instance": patched,
}
CONVOLUTIONS: dict[str, Callable[[nn.Module], nn.Module]] = ANY_LAYER | {
    "adapter": Adapter,
    "subclass": subclassed,
    "Sequential": lambda layer: nn.Sequential(layer, nn.GELU()),
    "3×3": lambda layer: convolution(layer, 3, padding=1),
    "3×3 with padding that is no zeros": lambda layer: convolution(layer, 3, padding=1, padding_mode="circular"),
    "parametrised": parametrised,
    "pruned": pruned,
    "spectral norm": spectral,
}
BIASES = {"no bias": lambda layer: convolution(layer, 1, bias=False), "bias": lambda layer: convolution(layer, 1)}
HEAD = {
    (place, name): change
    for place, changes in {
        "project.2": CONVOLUTIONS | BIASES,
        "fuse": CONVOLUTIONS | BIASES,
        "classify": CONVOLUTIONS | BIASES,
        "norm": ANY_LAYER
        | {
            "Identity": lambda layer: nn.Identity(),
            "GroupNorm": lambda layer: nn.GroupNorm(5, 70).double(),
            "BatchNorm without statistics": lambda layer: nn.BatchNorm2d(70, track_running_stats=False).double(),
            "BatchNorm without scale": lambda layer: nn.BatchNorm2d(70, affine=False).double(),
            "BatchNorm that learns": lambda layer: layer.train(),
            "frozen BatchNorm": lambda layer: layer.eval(),
        },
        "dropout": ANY_LAYER
        | {
            "Identity": lambda layer: nn.Identity(),
            "single numbers": lambda layer: nn.Dropout(0.5),
            "also in evaluation": lambda layer: layer.train(),
        },
    }.items()
    for name, change in changes.items()
}
FEED_FORWARD = {
    (place, name): change
    for place in ("widen", "mix", "narrow")
    for name, change in (CONVOLUTIONS | BIASES).items()
    if place != "mix" or name not in BIASES
} | {
    ("mix", "5×5"): lambda layer: convolution(layer, 5, padding=2, groups=20),
    ("mix", "dilated"): lambda layer: convolution(layer, 3, padding=2, dilation=2, groups=20),
    ("mix", "reflect"): lambda layer: convolution(layer, 3, padding=1, padding_mode="reflect", groups=20),
}


def change_in(module: nn.Module, place: str, change: Callable[[nn.Module], nn.Module]) -> None:
    *path, name = place.split(".")
    parent = module.get_submodule(".".join(path))
    setattr(parent, name, change(getattr(parent, name)))


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(("place", "name"), HEAD)
def test_head_steps_aside(place, name, training):
    ours, theirs = (head.train(training) for head in heads())
    for head in (ours, theirs):
        change_in(head, place, HEAD[place, name])
    layer_outputs = maps(9, 13, gradient=True)
    with limit(1):
        assert_equal(ours, theirs, layer_outputs, lambda head: head(layer_outputs))


@pytest.mark.parametrize("gradient", [False, True])
@pytest.mark.parametrize(("place", "name"), FEED_FORWARD)
def test_feed_forward_steps_aside(place, name, gradient):
    ours, theirs = feed_forwards()
    for module in (ours, theirs):
        change_in(module, place, FEED_FORWARD[place, name])
    x = double(2, 5, 9, 8).requires_grad_()
    with limit(2000), torch.set_grad_enabled(gradient):
        if gradient:
            assert_equal(ours, theirs, [x], lambda module: module(x))
        else:
            torch.testing.assert_close(ours(x), theirs(x))


def test_every_layer_that_is_watched_is_called():
    """As tools for features and for Grad-CAM watch them, in evaluation and in training."""
    model, seen = Segformer(**SMALL, decoder_dim=16, parts=FAST), []
    layers = {name: module for name, module in model.named_modules() if not list(module.children())}
    for name, module in layers.items():
        module.register_forward_hook(lambda module, *_, name=name: seen.append(name))
    for training in (False, True):
        seen.clear()
        model.train(training)(noise(2, 3, 64, 64))
        assert set(seen) == {name for name, module in layers.items()}


def test_a_hook_on_all_modules_is_called():
    model, seen = Segformer(**SMALL, decoder_dim=16, parts=FAST).eval(), []
    handle = nn.modules.module.register_module_forward_hook(lambda module, *_: seen.append(module))
    try:
        model(noise(1, 3, 64, 64))
    finally:
        handle.remove()
    assert model.decoder.fuse in seen


def test_an_adapter_learns_and_counts():
    model = Segformer(**SMALL, decoder_dim=16, parts=FAST).double()
    x = double(2, 3, 64, 64)
    before = model.eval()(x)
    model.decoder.fuse = Adapter(model.decoder.fuse)
    model.decoder.classify = Adapter(model.decoder.classify)
    assert not torch.allclose(model(x), before)
    model.train()(x).square().mean().backward()
    adapters = [model.decoder.fuse, model.decoder.classify]
    assert all(layer.weight.grad.abs().max() > 0 for adapter in adapters for layer in (adapter.down, adapter.up))


def test_memory_is_kept_by_a_call_and_by_no_constructor():
    with patch("segformer_edu.model.fast.torch.empty", wraps=torch.empty) as empty:
        se.segformer_b0(2)
        assert not any(call.args == (fast.KEPT,) for call in empty.call_args_list)
        fast.keep_freed_memory()
        assert empty.call_args.args == (fast.KEPT,)


def test_weights_that_were_put_in_place_for_one_call():
    """As functional_call does for meta-learning; the backward pass comes when the model's own stand there again."""
    model, plain = (Segformer(**SMALL, decoder_dim=16, parts=parts).double() for parts in (FAST, PAPER))
    plain.load_state_dict(model.state_dict())
    others = {name: (0.9 * value).detach().requires_grad_() for name, value in model.named_parameters()}
    gradients = []
    for each in (model, plain):
        loss = torch.func.functional_call(each.eval(), others, (double(2, 3, 64, 64),)).square().mean()
        gradients.append(torch.autograd.grad(loss, others.values()))
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


def test_a_weight_that_changes_before_the_backward_pass():
    for module in feed_forwards():
        y = module(double(2, 5, 7, 6)).sum()
        with torch.no_grad():
            module.narrow.weight.mul_(2)
        with pytest.raises(RuntimeError, match=r"changed in place|modified by an inplace operation"):
            y.backward()


@pytest.mark.parametrize("batch", [0, 1])
def test_no_picture_at_all(batch):
    x, layer_outputs = double(batch, 5, 7, 6), [x[:batch] for x in maps(8, 9)]
    with torch.no_grad():
        for (ours, theirs), given in ((feed_forwards(), x), (heads(), layer_outputs)):
            torch.testing.assert_close(ours.eval()(given), theirs.eval()(given))


def test_batch_norm_kept_in_single_precision():
    ours, theirs = (head.float().eval() for head in heads())
    layer_outputs = [x.bfloat16() for x in maps(8, 9)]
    for head in (ours, theirs):
        for layer in (*head.project, head.fuse, head.classify):
            layer.bfloat16()
    torch.testing.assert_close(ours(layer_outputs), theirs(layer_outputs))


def test_an_ensemble_by_vmap_over_the_weights():
    models = [Segformer(**SMALL, decoder_dim=16, parts=FAST).double().eval() for _ in range(2)]
    weights, buffers = torch.func.stack_module_state(models)
    x = double(1, 3, 64, 64)
    call = lambda w, b: torch.func.functional_call(models[0], (w, b), (x,))  # noqa: E731
    found = torch.func.vmap(call)(weights, buffers)
    for one, model in zip(found, models, strict=True):
        torch.testing.assert_close(one, model(x))
    found.square().mean().backward()
    assert all(value.grad is not None for value in weights.values())


def test_a_model_made_and_used_in_inference_mode():
    """Its weights have no count of changes, which must not be asked for."""
    with torch.inference_mode():
        model = Segformer(**SMALL, decoder_dim=16, parts=FAST).eval()
        assert model(noise(1, 3, 64, 64)).isfinite().all()
