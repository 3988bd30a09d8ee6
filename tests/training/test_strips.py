"""The loss in strips is the plain one, in value and in gradient, with less memory; and it steps aside where it must."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from segformer_edu.pages.measure import peak_megabytes
from segformer_edu.training import strips
from segformer_edu.training.losses import segmentation_loss
from segformer_edu.training.strips import StripLoss, strip_loss

SIZES = {
    "four times": ((8, 9), (32, 36)),
    "uneven": ((17, 24), (65, 93)),
    "CamVid's": ((30, 40), (120, 160)),
    "barely": ((7, 9), (8, 10)),
    "thirty times": ((2, 3), (60, 91)),
    "one pixel": ((1, 1), (6, 7)),
    "one row": ((1, 5), (9, 23)),
    "one row of many": ((4, 5), (1, 60)),
    "wider and lower": ((12, 5), (7, 40)),
    "higher and narrower": ((5, 12), (40, 7)),
    "equal": ((16, 18), (16, 18)),
    "smaller": ((33, 21), (16, 10)),
}
AT_ONCE = {"strips": 1, "several images": 150_000, "whole": 1 << 30}


def draw(small, large, batch=3, classes=5, void=255):
    """Logits, and masks of which a corner is void."""
    logits = 3 * torch.randn(batch, classes, *small, dtype=torch.double)
    masks = torch.randint(0, max(2, classes), (batch, *large))
    masks[0, : large[0] // 3 + 1, : large[1] // 2] = void
    return logits.requires_grad_(), masks


def of_both(logits, masks, *options):
    """The losses, and their gradients."""
    losses = [loss(logits, masks, *options) for loss in (strip_loss, segmentation_loss)]
    return losses, [torch.autograd.grad(3 * loss, logits)[0] for loss in losses]


def assert_equal(logits, masks, *options, **tolerance):
    for ours, plain in of_both(logits, masks, *options):
        torch.testing.assert_close(ours, plain, **(tolerance or {"rtol": 1e-11, "atol": 1e-13}))


@pytest.fixture
def no_plain_loss(monkeypatch):
    """Without the plain loss: what the strips return is theirs, of two classes too."""
    monkeypatch.setattr(strips, "segmentation_loss", None)
    monkeypatch.setattr(strips, "FEW", 1)


@pytest.mark.parametrize("at_once", AT_ONCE)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_is_the_plain_one_in_value_and_gradient(monkeypatch, size, weighted, at_once):
    monkeypatch.setattr(strips, "AT_ONCE", AT_ONCE[at_once])
    monkeypatch.setattr(strips, "LEAST_ROWS", 3)
    assert_equal(*draw(*SIZES[size]), 255, torch.tensor([1, 0, 2, 1e-3, 1e3]) if weighted else None)


@pytest.mark.parametrize("rows", range(1, 9))
@pytest.mark.parametrize("size", ["four times", "uneven", "barely", "wider and lower"])
def test_wherever_the_strips_begin(no_plain_loss, monkeypatch, size, rows):
    monkeypatch.setattr(strips, "AT_ONCE", 1)
    monkeypatch.setattr(strips, "LEAST_ROWS", rows)
    logits, masks = draw(*SIZES[size])
    (gradient,) = torch.autograd.grad(strip_loss(logits, masks), logits)
    expected = segmentation_loss(logits, masks)
    torch.testing.assert_close(strip_loss(logits, masks), expected, rtol=1e-11, atol=0)
    torch.testing.assert_close(gradient, torch.autograd.grad(expected, logits)[0], rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("large", range(1, 40))
def test_a_strip_has_all_the_rows_that_it_is_made_of(monkeypatch, large):
    monkeypatch.setattr(strips, "AT_ONCE", 1)
    monkeypatch.setattr(strips, "LEAST_ROWS", 3)
    for small in range(1, 12):
        matrix, seen = strips.enlargement(small, large), torch.zeros(small, large)
        for _, rows, used in strips.strips(torch.empty(1, 2, small, 4), torch.empty(1, large, 16)):
            seen[used, rows] += 1
        assert (seen[matrix > 1e-9] == 1).all()
        assert seen.max() == 1


@pytest.mark.parametrize("classes", [2, 3, 150, 1000])
@pytest.mark.parametrize("batch", [1, 2, 7])
def test_any_number_of_classes_and_images(no_plain_loss, classes, batch):
    logits, masks = draw((4, 5), (16, 20), batch, classes, void=-100)
    expected = segmentation_loss(logits, masks, -100)
    torch.testing.assert_close(strip_loss(logits, masks, -100), expected, rtol=1e-11, atol=0)


@pytest.mark.parametrize("kind", [torch.uint8, torch.int16, torch.int32, torch.uint16])
def test_masks_of_every_whole_type(kind):
    logits, masks = draw((8, 9), (32, 36))
    assert strip_loss(logits, masks.to(kind)) == strip_loss(logits, masks)


@pytest.mark.parametrize("weights", [None, torch.tensor([1.0, 2, 3, 4, 5]), torch.tensor([0.0, 0, 0, 1, 1])])
def test_no_void_and_nothing_but_void(weights):
    logits, masks = draw((8, 9), (32, 36))
    assert_equal(logits, masks.clamp(max=2), None, weights)  # where the last weights leave nothing
    losses, gradients = of_both(logits, torch.full_like(masks, 255), 255, weights)
    assert [loss.item() for loss in losses] == [0, 0]
    assert not any(gradient.any() for gradient in gradients)


@pytest.mark.parametrize("classes", [1, 2, 3])
def test_a_single_logit_and_few_classes_have_the_plain_loss(classes):
    logits, masks = draw((8, 9), (32, 36), classes=classes)
    for weights in (None, torch.arange(1.0, max(2, classes) + 1)):
        assert_equal(logits, masks, 255, weights, rtol=0, atol=0)


@pytest.mark.parametrize("size", SIZES)
def test_in_single_precision_as_near_the_truth_as_the_plain_one(size, record_property):
    logits, masks = draw(*SIZES[size], classes=20)
    truth, gradient = (found[1] for found in of_both(logits, masks))
    losses, gradients = of_both(logits.float(), masks)
    errors = [(found - gradient).abs().max() / gradient.abs().max() for found in gradients]
    record_property("worst error of a gradient in strips, float32", errors[0].item())
    assert losses[0].item() == pytest.approx(truth.item(), rel=2e-6)
    assert errors[0] < max(2e-6, 2 * errors[1])


@pytest.mark.parametrize("scale", [1e-3, 100, 1e4])
def test_large_and_small_logits(no_plain_loss, scale):
    """Where the likeliest class is far from the true one, and where it changes from a pixel to the next."""
    logits, masks = draw((8, 9), (32, 36))
    logits = (scale * logits).detach().float().requires_grad_()
    found = strip_loss(logits, masks)
    torch.testing.assert_close(found, segmentation_loss(logits, masks), rtol=1e-5, atol=0)
    assert torch.autograd.grad(found, logits)[0].isfinite().all()


@pytest.mark.parametrize("number", [torch.nan, torch.inf, -torch.inf])
def test_what_is_not_finite_spreads_no_further(number):
    logits, masks = draw((8, 9), (32, 36))
    logits.data[0, 2, 0, 0] = number  # where all is void
    assert segmentation_loss(logits, masks).isfinite()
    assert_equal(logits, masks, equal_nan=True, rtol=0, atol=0)
    logits.data[1, 2, 3, 4] = torch.nan
    assert strip_loss(logits, masks).isnan()


LAYOUTS = {
    "channels last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "transposed": lambda x: x.mT.contiguous().mT,
    "a part": lambda x: torch.cat([x, x], dim=3)[..., : x.shape[3]],
    "turned": lambda x: x.flip(3).flip(3),
    "one image for all": lambda x: x[:1].expand(3, -1, -1, -1),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_order_in_memory(layout):
    logits, masks = draw((8, 9), (32, 36))
    assert_equal(LAYOUTS[layout](logits.detach()).requires_grad_(), masks)
    losses = [loss(LAYOUTS[layout](logits), masks.mT.contiguous().mT) for loss in (strip_loss, segmentation_loss)]
    gradients = [torch.autograd.grad(loss, logits)[0] for loss in losses]
    torch.testing.assert_close(*gradients, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16, torch.float32])
def test_logits_of_sixteen_bits_are_enlarged_in_thirty_two(kind, autocast):
    logits, masks = draw((8, 9), (32, 36))
    logits = logits.detach().to(kind).requires_grad_()
    for weights in (None, torch.tensor([1.0, 2, 3, 4, 5])):
        expected = segmentation_loss(logits.float(), masks, 255, weights)
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            found = strip_loss(logits, masks, 255, weights)
        torch.testing.assert_close(found, expected)
        gradient = torch.autograd.grad(found, logits)[0]
        assert gradient.dtype == kind
        torch.testing.assert_close(gradient, torch.autograd.grad(expected, logits)[0])


def test_devices_without_autocast():
    with torch.autocast("cpu"), strips.without_autocast("meta"):
        assert torch.is_autocast_enabled("cpu")  # another device's is left as it was
    with torch.autocast("cpu"), strips.without_autocast("cpu"):
        assert not torch.is_autocast_enabled("cpu")


def test_gradcheck(no_plain_loss, monkeypatch):
    monkeypatch.setattr(strips, "AT_ONCE", 1)
    logits, masks = draw((3, 4), (11, 13), batch=2, classes=3)
    weights = torch.tensor([1, 2, 0.5], dtype=torch.double)
    assert torch.autograd.gradcheck(lambda x: 5 * strip_loss(x, masks, 255, weights), logits)


def test_backward_twice_and_a_gradient_of_the_gradient():
    logits, masks = draw((8, 9), (32, 36))
    loss = strip_loss(logits, masks)
    first, again = (torch.autograd.grad(loss, logits, retain_graph=True)[0] for _ in range(2))
    assert torch.equal(first, again)
    for through in (loss, loss.square()):
        with pytest.raises(RuntimeError, match=r"no gradient of its gradient .* segmentation_loss"):
            torch.autograd.grad(through, logits, create_graph=True)


class Large(TorchDispatchMode):
    """Count the results of at least so many numbers."""

    def __init__(self, numbers):
        super().__init__()
        self.numbers, self.found = numbers, 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        self.found += sum(leaf.numel() >= self.numbers for leaf in tree_leaves(made) if isinstance(leaf, torch.Tensor))
        return made


def test_without_a_gradient_none_is_computed():
    logits, masks = draw((8, 9), (32, 36))
    counts, losses = [], []
    for given, enabled in ((logits, True), (logits, False), (logits.detach(), True)):
        with torch.set_grad_enabled(enabled), Large(masks.numel() * 5) as large:
            losses.append(strip_loss(given, masks))
        counts.append(large.found)
    assert counts[0] > counts[1] == counts[2]
    assert [loss.requires_grad for loss in losses] == [True, False, False]
    assert len({loss.item() for loss in losses}) == 1


@pytest.mark.parametrize(("side", "batch"), [(256, 2), (512, 1)])
def test_a_fifth_of_the_memory(side, batch, record_property):
    logits, masks = torch.randn(batch, 150, side // 4, side // 4), torch.randint(0, 150, (batch, side, side))
    logits.requires_grad_()
    ours, plain = (
        peak_megabytes(lambda loss=loss: loss(logits, masks).backward()) for loss in (strip_loss, segmentation_loss)
    )
    record_property("worst share of the plain loss's memory, 150 classes", ours / plain)
    assert ours < plain / 5


@pytest.mark.parametrize("at_once", [1, 1 << 16, 1 << 20])
def test_no_strip_is_larger_than_said(monkeypatch, at_once):
    monkeypatch.setattr(strips, "AT_ONCE", at_once)
    logits, masks = torch.empty(5, 7, 16, 24), torch.empty(5, 61, 93)
    count = torch.zeros(5, 61)
    for images, rows, _ in strips.strips(logits, masks):
        count[images, rows] += 1
        pixels = count[images, rows].numel()
        assert pixels * 93 * 7 * 4 <= at_once or pixels <= strips.LEAST_ROWS
    assert (count == 1).all()


WRONG = {
    "masks of floats": lambda logits, masks: (logits, masks.float()),
    "masks with channels": lambda logits, masks: (logits, masks[:, None]),
    "one mask": lambda logits, masks: (logits, masks[0]),
    "too few masks": lambda logits, masks: (logits, masks[:1]),
    "another class": lambda logits, masks: (logits, masks + 1),
    "no void": lambda logits, masks: (logits, masks, None),
    "too few weights": lambda logits, masks: (logits, masks, 255, torch.ones(4)),
    "whole logits": lambda logits, masks: (logits.detach().long(), masks),
    "no logits": lambda logits, masks: (logits[..., :0], masks),
    "logits of one image": lambda logits, masks: (logits[0], masks),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_errors_are_the_plain_ones(wrong):
    arguments = WRONG[wrong](*draw((8, 9), (32, 36)))
    with pytest.raises(Exception) as plain:  # noqa: PT011 (whatever it is)
        segmentation_loss(*arguments)
    with pytest.raises(plain.type) as ours:
        strip_loss(*arguments)
    assert str(ours.value) == str(plain.value)


def test_steps_aside_where_products_are_rounded(monkeypatch):
    logits, masks = draw((8, 9), (32, 36))
    assert not strips.steps_aside(logits.float(), masks, None)
    monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: "high")
    assert strips.steps_aside(logits.float(), masks, None)
    assert strips.steps_aside(logits.bfloat16(), masks, None)
    assert not strips.steps_aside(logits, masks, None)

    def mixed():
        raise RuntimeError("mix of the legacy and new APIs")

    monkeypatch.setattr(torch, "get_float32_matmul_precision", mixed)
    assert strips.steps_aside(logits.float(), masks, None)


def test_steps_aside_for_tools_and_for_weights_that_learn():
    logits, masks = draw((8, 9), (32, 36))
    weights = torch.ones(5, dtype=torch.double, requires_grad=True)
    torch.autograd.grad(strip_loss(logits, masks, 255, weights), weights)
    gradient = torch.func.grad(strip_loss)(logits.detach(), masks)
    torch.testing.assert_close(gradient, torch.autograd.grad(strip_loss(logits, masks), logits)[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the masks were looked at, which the plain loss does too
        traced = torch.jit.trace(strip_loss, (logits.detach(), masks))
    torch.testing.assert_close(traced(2 * logits, masks), segmentation_loss(2 * logits, masks))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu():
    logits, masks = draw((17, 24), (65, 93))
    expected = segmentation_loss(logits, masks)
    found = strip_loss(logits.cuda(), masks.cuda(), 255, torch.ones(5))
    torch.testing.assert_close(found.cpu(), expected)
    torch.testing.assert_close(torch.autograd.grad(found, logits), torch.autograd.grad(expected, logits))


def test_is_one_step_of_the_graph():
    logits, masks = draw((8, 9), (32, 36))
    assert StripLoss.__name__ in strip_loss(logits, masks).grad_fn.name()
