"""EfficientSelfAttention against torch.nn.MultiheadAttention and against softmax(q kᵀ / √d) v written out."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from samples import noise
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from segformer_edu import EfficientSelfAttention


def tokens(x: torch.Tensor) -> torch.Tensor:
    return x.flatten(2).mT  # (B, C, H, W) → (B, N, C)


def cells(x: torch.Tensor, ratio: int) -> torch.Tensor:
    """The whole cells of the map, each as one long vector: (B, cells, C·ratio²)."""
    return F.unfold(x, ratio, stride=ratio).mT


def by_definition(module: EfficientSelfAttention, x: torch.Tensor) -> torch.Tensor:
    """One head after the other: similarities, softmax, weighted mean."""
    q = tokens(x) @ module.to_q.weight.flatten(1).T
    k, v = (cells(x, module.reduction_ratio) @ layer.weight.flatten(1).T for layer in (module.to_k, module.to_v))
    results = []
    for head_q, head_k, head_v in zip(*(part.chunk(module.heads, dim=-1) for part in (q, k, v))):
        similarity = torch.einsum("bic,bjc->bij", head_q, head_k) / head_q.shape[-1] ** 0.5
        weights = similarity.exp() / similarity.exp().sum(dim=-1, keepdim=True)
        results.append(torch.einsum("bij,bjc->bic", weights, head_v))
    return (torch.cat(results, dim=-1) @ module.to_out.weight.flatten(1).T).mT.unflatten(2, x.shape[-2:])


def pytorchs(module: EfficientSelfAttention) -> nn.MultiheadAttention:
    """PyTorch's attention with the module's weights; its keys and values are whole cells, ratio² pixels long."""
    dim, length = module.to_q.in_channels, module.to_q.in_channels * module.reduction_ratio**2
    theirs = nn.MultiheadAttention(dim, module.heads, bias=False, kdim=length, vdim=length, batch_first=True).double()
    q, k, v = (layer.weight.data.flatten(1) for layer in (module.to_q, module.to_k, module.to_v))
    if module.reduction_ratio == 1:
        theirs.in_proj_weight.data = torch.cat([q, k, v])
    else:
        theirs.q_proj_weight.data, theirs.k_proj_weight.data, theirs.v_proj_weight.data = q, k, v
    theirs.out_proj.weight.data = module.to_out.weight.data.flatten(1)
    return theirs


@given(st.integers(1, 4), st.integers(1, 5), st.integers(1, 4), st.integers(4, 9), st.integers(4, 9))
def test_equals_its_definition(heads, per_head, ratio, height, width):
    module = EfficientSelfAttention(dim=heads * per_head, heads=heads, reduction_ratio=ratio).double()
    x = 3 * noise(2, heads * per_head, height, width, dtype=torch.float64)
    torch.testing.assert_close(module(x), by_definition(module, x))


@pytest.mark.parametrize("heads", [1, 2, 4])
@pytest.mark.parametrize("ratio", [1, 2, 3])
def test_equals_pytorchs(heads, ratio):
    ours = EfficientSelfAttention(dim=12, heads=heads, reduction_ratio=ratio).double()
    theirs = pytorchs(ours)
    x = 2 * noise(2, 12, 7, 8, dtype=torch.float64).requires_grad_()
    their_out, _ = theirs(tokens(x), cells(x, ratio), cells(x, ratio))
    their_out = their_out.mT.unflatten(2, (7, 8))
    torch.testing.assert_close(ours(x), their_out)
    direction = noise(*their_out.shape, seed=1, dtype=torch.float64)
    (our_gradient,) = torch.autograd.grad(ours(x), x, direction)
    (their_gradient,) = torch.autograd.grad(their_out, x, direction)
    torch.testing.assert_close(our_gradient, their_gradient)


def test_pixels_beyond_the_last_whole_cell_are_not_looked_at():
    module, x = EfficientSelfAttention(dim=4, heads=2, reduction_ratio=3), noise(1, 4, 7, 8)
    changed = x.clone()
    changed[..., 6:, :] += 1
    changed[..., :, 6:] += 1
    torch.testing.assert_close(module(changed)[..., :6, :6], module(x)[..., :6, :6])
    changed[..., 0, 0] += 1
    assert not torch.allclose(module(changed)[..., 1:6, 1:6], module(x)[..., 1:6, 1:6])


def test_order_of_pixels_does_not_matter_at_ratio_one():
    module, x = EfficientSelfAttention(dim=6, heads=2, reduction_ratio=1), noise(1, 6, 4, 5)
    order = torch.randperm(20)
    shuffled = x.flatten(2)[..., order].unflatten(2, (4, 5))
    expected = module(x).flatten(2)[..., order].unflatten(2, (4, 5))
    torch.testing.assert_close(module(shuffled), expected)


@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 4))
def test_parameters(heads, per_head, ratio):
    dim = heads * per_head
    module = EfficientSelfAttention(dim=dim, heads=heads, reduction_ratio=ratio)
    assert list(module.state_dict()) == ["to_q.weight", "to_k.weight", "to_v.weight", "to_out.weight"]
    assert sum(parameter.numel() for parameter in module.parameters()) == 2 * dim**2 + 2 * dim**2 * ratio**2


@pytest.mark.parametrize("ratio", [1, 2])
def test_gradient(ratio):
    module = EfficientSelfAttention(dim=4, heads=2, reduction_ratio=ratio).double()
    x = noise(1, 4, 3, 4, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, *_: module(x), (x, *module.parameters()))


class Largest(TorchDispatchMode):
    """Remember how many numbers the largest tensor held, of all that were made inside."""

    numbers = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        sizes = [leaf.numel() for leaf in tree_leaves(made) if isinstance(leaf, torch.Tensor)]
        self.numbers = max(self.numbers, *sizes, 0)
        return made


@pytest.mark.parametrize("heads", [1, 3])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_no_tensor_is_larger_than_the_map(heads, layout):
    """PyTorch's kernel spares the (N, N') matrix only where the channels of a pixel are neighbours in memory."""
    module, x = EfficientSelfAttention(dim=12, heads=heads, reduction_ratio=1), noise(2, 12, 20, 30)
    with Largest() as largest:
        module(x.contiguous(memory_format=layout).requires_grad_()).sum().backward()
    assert largest.numbers <= x.numel()
