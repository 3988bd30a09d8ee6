"""ONNX files: the model's own function for any batch and size, what the metadata say, and that nothing half stays."""

from __future__ import annotations

import copy
import json
import os
from importlib.util import find_spec

import onnx
import onnxruntime
import pytest
import torch
from samples import SMALL, noise
from torch import nn

import segformer_edu as se
from segformer_edu import export
from segformer_edu.export import export_onnx
from segformer_edu.model.logits import predicted

TINY = SMALL | {"num_layers": (1, 1, 1, 1)}
NAMES = ("sky", "Straße", "tree")


def paper(**options):
    torch.manual_seed(0)
    return se.segformer_b0(3, **TINY | {"decoder_dim": 16} | options)


MAKE = {
    "fast": lambda: paper(class_names=NAMES),
    "plain": lambda: paper(parts=se.PAPER),
    "sketch": lambda: se.Segformer(**TINY, decoder_dim=16, num_classes=3),
    "classifier": lambda: se.mit_b0(3, **TINY),
}


@pytest.fixture(autouse=True)
def _tracing(monkeypatch):
    """A graph takes a quarter of a minute, a trace a second; both go through the same doors."""
    monkeypatch.setattr(export, "graphs_are_usual", lambda: False)


def run(path, image):
    (found,) = onnxruntime.InferenceSession(path).run(None, {"image": image.numpy()})
    return torch.from_numpy(found)


def assert_same(path, model):
    for shape in ((1, 32, 32), (2, 47, 190), (5, 64, 64), (1, 333, 65)):
        image = noise(shape[0], model.config.channels, *shape[1:], seed=3)
        with torch.no_grad():
            torch.testing.assert_close(run(path, image), model(image), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("name", "usual"), [("fast", True), ("classifier", True), *((name, False) for name in MAKE)])
def test_the_file_computes_what_the_model_does(name, usual, tmp_path, monkeypatch, capfd, recwarn):
    monkeypatch.setattr(export, "graphs_are_usual", lambda: usual)
    torch.manual_seed(0)
    model = MAKE[name]().eval()
    done = export_onnx(model, tmp_path / "model.onnx")
    assert capfd.readouterr() == ("", "")  # nothing of what the exporters have to say
    assert [str(warning.message) for warning in recwarn] == []
    assert_same(done.path, model)
    assert 0 < done.difference < 1e-4 < done.largest
    assert done.size == done.path.stat().st_size
    assert os.listdir(tmp_path) == ["model.onnx"]
    (given,) = onnx.load(done.path).graph.input
    assert given.name == "image"
    assert [each.dim_param or each.dim_value for each in given.type.tensor_type.shape.dim] == [
        "batch", 3, "height", "width",
    ]  # fmt: skip
    text = str(done)
    assert text.startswith(
        f"{done.path}: {done.size / 1e6:.1f} MB; checked with ONNX Runtime {onnxruntime.__version__}"
    )
    assert "1×64×96, 2×101×70" in text
    assert f"{done.difference:.1e}, of logits up to" in text


def test_a_graph_is_written_where_pytorch_writes_graphs(monkeypatch):
    """As torch.onnx.export does by itself since 2.9."""
    monkeypatch.undo()
    assert export.graphs_are_usual() == (tuple(map(int, torch.__version__.split(".")[:2])) >= (2, 9))


def facts(path):
    found = onnxruntime.InferenceSession(path).get_modelmeta().custom_metadata_map
    return found | {name: json.loads(found[name]) for name in ("class_names", "image_mean", "image_std", "config")}


def test_metadata(tmp_path):
    model = paper(class_names=NAMES)
    told = facts(export_onnx(model, tmp_path / "model.onnx").path)
    assert told["segformer_edu"] == se.__version__
    assert told["class_names"] == list(NAMES)
    assert (told["image_mean"], told["image_std"]) == ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    assert told["config"] == json.loads(json.dumps(model.config.to_dict()))


def test_metadata_of_other_channels(tmp_path):
    model = paper(channels=2)
    model.image_mean, model.image_std = (0.25, 0.5), (0.125, 1.0)
    told = facts(export_onnx(model, tmp_path / "model.onnx").path)
    assert told["class_names"] == ["class 0", "class 1", "class 2"]
    assert (told["image_mean"], told["image_std"]) == ([0.25, 0.5], [0.125, 1.0])
    assert_same(tmp_path / "model.onnx", model.eval())


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_types_become_float32_and_the_model_stays(dtype, tmp_path):
    model = paper().to(dtype).train()
    model.mit.requires_grad_(False)
    model.decoder.norm.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    export_onnx(model, tmp_path / "model.onnx")
    assert_same(tmp_path / "model.onnx", copy.deepcopy(model).float().eval())
    assert model.training
    assert not model.decoder.norm.training
    assert [value.requires_grad for value in model.decoder.parameters()] == [True] * len([*model.decoder.parameters()])
    assert not any(value.requires_grad for value in model.mit.parameters())
    for name, value in model.state_dict().items():
        assert value.dtype == before[name].dtype
        assert torch.equal(value, before[name])


def test_one_logit_inside_a_wrapper(tmp_path):
    model = se.segformer_b0(1, **TINY, decoder_dim=16).eval()
    export_onnx(nn.DataParallel(model), tmp_path / "model.onnx")
    assert run(tmp_path / "model.onnx", noise(1, 3, 64, 64)).shape == (1, 1, 16, 16)
    assert_same(tmp_path / "model.onnx", model)


def hide(monkeypatch, *names):
    """Let packages be missing."""
    monkeypatch.setattr(export, "find_spec", lambda name: None if name in names else find_spec(name))


def test_without_onnx_runtime_it_says_so(tmp_path, monkeypatch):
    hide(monkeypatch, "onnxruntime")
    done = export_onnx(paper(), tmp_path / "model.onnx")
    assert (done.difference, done.runtime, done.shapes) == (None, None, ())
    assert str(done).endswith("; not checked: ONNX Runtime is not installed (pip install onnxruntime)")
    assert_same(done.path, paper().eval())


@pytest.mark.parametrize(
    ("usual", "missing", "text"),
    [
        (
            True,
            ["onnxscript"],
            "with onnx and onnxscript, and onnxscript is not installed. pip install onnx onnxscript",
        ),
        (
            True,
            ["onnx", "onnxscript"],
            "and onnx and onnxscript are not installed. pip install onnx onnxscript onnxrun",
        ),
        (
            False,
            ["onnx", "onnxscript"],
            "writes ONNX with onnx, and onnx is not installed. pip install onnx onnxruntime",
        ),
    ],
)
def test_what_to_install(usual, missing, text, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "graphs_are_usual", lambda: usual)
    hide(monkeypatch, *missing)
    with pytest.raises(ImportError, match=text):
        export_onnx(paper(), tmp_path / "model.onnx")
    assert os.listdir(tmp_path) == []


def test_a_file_that_computes_something_else_is_not_kept(tmp_path, monkeypatch):
    torch.manual_seed(1)
    write, other = export.by_tracing, MAKE["sketch"]().eval()
    monkeypatch.setattr(export, "by_tracing", lambda model, image, path: write(other, image, path))
    (tmp_path / "model.onnx").write_text("mine")
    with pytest.raises(ValueError, match=r"computes something else than the model.*Nothing was written"):
        export_onnx(paper(), tmp_path / "model.onnx")
    assert (tmp_path / "model.onnx").read_text() == "mine"
    assert os.listdir(tmp_path) == ["model.onnx"]


def test_nothing_half_stays(tmp_path, monkeypatch):
    def stop(path, values):
        raise KeyboardInterrupt

    monkeypatch.setattr(export, "add_metadata", stop)
    with pytest.raises(KeyboardInterrupt):
        export_onnx(paper(), tmp_path / "model.onnx")
    assert os.listdir(tmp_path) == []


def test_what_is_no_model(tmp_path):
    with pytest.raises(TypeError, match="a Linear; expected a Segformer or an ImageClassifier"):
        export_onnx(nn.Linear(3, 3), tmp_path / "model.onnx")
    with torch.device("meta"):
        model = paper()
    with pytest.raises(ValueError, match="on the device 'meta' and has no weights"):
        export_onnx(model, tmp_path / "model.onnx")


@pytest.mark.parametrize("make", [paper, se.mit_b0], ids=["segmenter", "classifier"])
@pytest.mark.parametrize(("names", "told"), [(("crack",), "crack"), (None, "class 1"), (("Straße",), "Straße")])
def test_one_logit_tells_two_classes(tmp_path, make, names, told):
    """As ``segment`` names them; the number of the largest of one logit is always 0."""
    model = make(num_classes=1, **TINY, class_names=names) if make is se.mit_b0 else of_classes(1, names)
    export_onnx(model, tmp_path / "m.onnx")
    metadata = metadata_of(tmp_path / "m.onnx")
    assert json.loads(metadata["class_names"]) == ["background", told]
    assert metadata["class_rule"] == "the class is 1 where the logit is above 0, else 0"
    image = noise(1, 3, 64, 64)
    (logit,) = run(tmp_path / "m.onnx", image)
    assert torch.equal((logit[0] > 0).long(), predicted(model.eval()(image))[0]) or make is se.mit_b0


@pytest.mark.parametrize("count", [2, 3])
def test_several_logits_tell_as_many_classes(tmp_path, count):
    export_onnx(of_classes(count, NAMES[:count]), tmp_path / "m.onnx")
    metadata = metadata_of(tmp_path / "m.onnx")
    assert json.loads(metadata["class_names"]) == list(NAMES[:count])
    assert metadata["class_rule"] == "the class is the number of the largest logit"


def of_classes(count, names):
    return se.segformer_b0(count, **TINY, decoder_dim=16, class_names=names)


def metadata_of(path):
    return onnxruntime.InferenceSession(path).get_modelmeta().custom_metadata_map
