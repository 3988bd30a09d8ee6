"""What PyTorch offers for models works with these: compile, export, trace, fx, vmap, func.grad, copy, pickle."""

from __future__ import annotations

import copy
import io
import pickle
import shutil

import onnxruntime
import pytest
import torch
from samples import SMALL, noise

import segformer_edu as se
from segformer_edu import PAPER, Segformer

SHALLOW = {"num_layers": (1, 1, 1, 1)}  # every layer is there; a deeper model takes the compiler longer, and no more
MAKE = {
    "B0": lambda: se.segformer_b0(5, **SHALLOW),
    "B0 plain": lambda: se.segformer_b0(5, parts=PAPER, **SHALLOW),
    "sketch": lambda: Segformer(**{**SMALL, **SHALLOW}, decoder_dim=16, num_classes=5),
}


@pytest.fixture(params=MAKE)
def model(request):
    torch.manual_seed(0)
    return MAKE[request.param]().eval()


@pytest.fixture(autouse=True)
def _fresh_compiler():
    torch._dynamo.reset()


X = noise(2, 3, 64, 96)
OTHER = noise(1, 3, 101, 70)


@pytest.mark.parametrize("gradient", [False, True])
def test_compile_makes_one_graph(model, gradient):
    compiled = torch.compile(copy.deepcopy(model), fullgraph=True, backend="aot_eager")
    with torch.set_grad_enabled(gradient):
        torch.testing.assert_close(compiled(X), model(X))


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler, and there is no g++")
def test_compile_as_people_use_it():
    """Another size, which is compiled anew. (Only here: "aot_eager" of torch 2.13 is wrong for the sketch at OTHER.)"""
    torch.manual_seed(0)
    model = MAKE["sketch"]().eval()
    compiled = torch.compile(copy.deepcopy(model), fullgraph=True)
    with torch.no_grad():
        for x in (X, OTHER):
            torch.testing.assert_close(compiled(x), model(x), rtol=1e-4, atol=1e-5)


def test_compile_learns(model):
    plain = model.double()  # so that rounding is small beside any gradient; model is in evaluation: nothing is left out
    compiled = copy.deepcopy(plain)
    torch.compile(compiled, fullgraph=True, backend="aot_eager")(X.double()).square().mean().backward()
    plain(X.double()).square().mean().backward()
    for one, other in zip(compiled.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)


@pytest.mark.parametrize("gradient", [False, True])
def test_export_with_free_sizes(model, gradient):
    batch, height, width = (torch.export.Dim(name, min=least, max=4096) for name, least in
                            (("batch", 1), ("height", 64), ("width", 64)))  # fmt: skip
    with torch.set_grad_enabled(gradient):
        shapes = ({0: batch, 2: height, 3: width},)
        exported = torch.export.export(model, (noise(2, 3, 128, 160),), dynamic_shapes=shapes).module()
        for x in (X, OTHER, noise(3, 3, 64, 200)):
            torch.testing.assert_close(exported(x), model(x))


@pytest.mark.filterwarnings("ignore")  # the exporter's own
@pytest.mark.parametrize("name", MAKE)
def test_onnx_with_free_sizes(name, tmp_path):
    """As ONNX Runtime computes it, at sizes that the exporter did not see."""
    torch.manual_seed(0)
    model = MAKE[name]().eval()
    batch, height, width = (torch.export.Dim(name, min=least, max=4096) for name, least in
                            (("batch", 1), ("height", 64), ("width", 64)))  # fmt: skip
    torch.onnx.export(
        model,
        (noise(2, 3, 128, 160),),
        tmp_path / "model.onnx",
        dynamo=True,
        dynamic_shapes=({0: batch, 2: height, 3: width},),
        input_names=["image"],
    )
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    for x in (X, OTHER, noise(3, 3, 64, 200)):
        (found,) = session.run(None, {"image": x.numpy()})
        with torch.no_grad():
            torch.testing.assert_close(torch.from_numpy(found), model(x), rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore")  # tracing is deprecated; people's exports still use it
@pytest.mark.parametrize("gradient", [False, True])
def test_trace_for_any_size(model, gradient):
    with torch.set_grad_enabled(gradient):
        traced = torch.jit.trace(model, noise(1, 3, 80, 112))  # with its own check
        for x in (X, OTHER):
            torch.testing.assert_close(traced(x), model(x))


@pytest.mark.parametrize("training", [False, True])
def test_fx(model, training):
    """The graph of the plain model; fast leaves are recorded as their plain siblings."""
    traced = torch.fx.symbolic_trace(model.train(training))
    x = X if training else OTHER
    torch.manual_seed(1)
    found = traced(x)
    torch.manual_seed(1)
    torch.testing.assert_close(found, copy.deepcopy(model)(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("gradient", [False, True])
def test_vmap_over_pictures(model, gradient):
    with torch.set_grad_enabled(gradient):
        found = torch.func.vmap(lambda picture: model(picture[None])[0])(X)
        torch.testing.assert_close(found, model(X), rtol=1e-4, atol=1e-5)


def test_gradients_of_a_function_of_the_weights(model):
    x = X.double()
    weights, buffers = dict(model.double().named_parameters()), dict(model.named_buffers())

    def loss(weights: dict) -> torch.Tensor:
        return torch.func.functional_call(model, (weights, buffers), (x,)).square().mean()

    found = torch.func.grad(loss)(weights)
    model(x).square().mean().backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad)


def test_copies(model):
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    copies = [copy.deepcopy(model), pickle.loads(pickle.dumps(model)), torch.load(file, weights_only=False)]
    copies.append(torch.optim.swa_utils.AveragedModel(model))
    for again in copies:
        assert torch.equal(again.eval()(X), model(X))
