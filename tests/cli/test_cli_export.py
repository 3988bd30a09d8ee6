"""``export``: a file that ONNX Runtime runs, and what it says."""

from __future__ import annotations

from pathlib import Path

import onnxruntime
import pytest
import torch
from samples import noise

import segformer_edu as se


def test_export_writes_the_model(run):
    code, out, err = run("export 5.pt --out model.onnx")
    assert (code, err) == (0, "")
    first, second = out.splitlines()
    assert first == f"model.onnx: {Path('model.onnx').stat().st_size / 1e6:.1f} MB"
    assert second.startswith("checked with ONNX Runtime ")
    image = noise(2, 3, 70, 45)
    (found,) = onnxruntime.InferenceSession("model.onnx").run(None, {"image": image.numpy()})
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(found), se.load_pretrained("5.pt")(image), rtol=1e-4, atol=1e-5)


def test_export_of_a_published_folder_without_onnx_runtime(run, monkeypatch):
    monkeypatch.setattr("segformer_edu.export.graphs_are_usual", lambda: False)  # a trace is quicker
    monkeypatch.setattr("segformer_edu.export.find_spec", lambda name: None if name == "onnxruntime" else 1)
    code, out, _ = run("export hub --out model.onnx")
    assert code == 0
    assert "not checked: ONNX Runtime is not installed" in out
    session = onnxruntime.InferenceSession("model.onnx")
    assert '"wall"' in session.get_modelmeta().custom_metadata_map["class_names"]


def test_export_never_replaces_a_file_unasked(run, monkeypatch):
    monkeypatch.setattr("segformer_edu.export.graphs_are_usual", lambda: False)
    Path("model.onnx").write_text("mine")
    with monkeypatch.context() as patched:
        patched.setattr("segformer_edu.cli.export.load_pretrained", None)
        code, _, err = run("export 5.pt --out model.onnx")
    assert (code, err.count("\n")) == (1, 1)
    assert "model.onnx exists; choose another name, or replace it with --overwrite." in err
    assert Path("model.onnx").read_text() == "mine"
    assert run("export 5.pt --out model.onnx --overwrite")[0] == 0
    onnxruntime.InferenceSession("model.onnx")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("export none.pt --out a.onnx", "none.pt"),
        ("export photo.png --out a.onnx", "photo.png cannot be read as weights"),
        ("export 5.pt --out a.pt", "--out a.pt has the ending '.pt'; expected .onnx."),
        ("export 5.pt --out no/a.onnx", "no is no folder"),
        ("export 5.pt --out a.onnx --revision v1", "Leave revision out"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(run, tmp_path, text, message):
    before = sorted(tmp_path.rglob("*"))
    code, out, err = run(text)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert message in err
    assert sorted(tmp_path.rglob("*")) == before


def test_a_missing_package(run, monkeypatch):
    monkeypatch.setattr("segformer_edu.export.find_spec", lambda name: None)
    code, _, err = run("export 5.pt --out a.onnx")
    assert (code, err.count("\n")) == (1, 1)
    assert "not installed. pip install onnx" in err
