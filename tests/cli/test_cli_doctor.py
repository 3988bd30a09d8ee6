"""``doctor``: what it finds, that it calls broken what is broken, and that it keeps secrets."""

from __future__ import annotations

import importlib.metadata as metadata
import os
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub import constants
from PIL import Image

from segformer_edu.cli import doctor


def rows(out):
    """The names and values of what was told."""
    return {line[2:22].strip(): line[22:].strip() for line in out.splitlines() if line.startswith("  ")}


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home folder without anything."""
    folder = tmp_path / "anna.secret"
    folder.mkdir()
    for name in (*doctor.SECRETS, "SEGFORMER_EDU_DATA", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder / "hub"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(folder / "token"))
    return folder


@pytest.fixture
def camvid(tmp_path, monkeypatch):
    """CamVid's train split, of two small pairs."""
    root = tmp_path / "data" / "CamVid"
    for folder in ("train", "trainannot"):
        (root / folder).mkdir(parents=True)
        for name in ("a.png", "b.png"):
            Image.fromarray(np.zeros((8, 8), dtype=np.uint8)).save(root / folder / name)
    lines = [f"/SegNet/CamVid/train/{name} /SegNet/CamVid/trainannot/{name}" for name in ("a.png", "b.png")]
    (root / "train.txt").write_text("\n".join(lines))
    monkeypatch.setenv("SEGFORMER_EDU_DATA", str(root.parent))
    return root


def test_what_is_here(run, home):
    code, out, err = run("doctor")
    assert (code, err) == (0, "")
    told = rows(out)
    assert told["torch"] == torch.__version__
    assert told["transformers"] == metadata.version("transformers")
    assert told["Python"].startswith(platform.python_version())
    assert told["model on cpu"].startswith("computes, ")
    assert told["data folder"].startswith("~/.cache/segformer_edu (SEGFORMER_EDU_DATA not set), ")
    assert told["CamVid train"] == "not here"
    assert "CamVid('train', download=True)" in out
    assert told["Hugging Face"].startswith("~/hub: not there yet, writable, ")
    assert {told[name] for name in doctor.SECRETS if len(name) < 20} == {"not set"}
    assert out.endswith("Broken\n  nothing\n")


def test_camvid_and_a_cache(run, home, camvid):
    snapshot = home / "hub" / "models--nvidia--b0" / "blobs"
    snapshot.mkdir(parents=True)
    (snapshot / "weights").write_bytes(bytes(2_500_000))
    (snapshot / "again").symlink_to(snapshot / "weights")
    code, out, _ = run("doctor")
    assert code == 0
    told = rows(out)
    assert told["CamVid train"] == "2 pairs"
    assert "CamVid train: 2 of 367 pairs are listed; fetch it again" in out
    assert told["Hugging Face"].startswith("~/hub: 2.5 MB, 1 models, writable")


@pytest.mark.parametrize("damage", ["gone", "empty"])
def test_a_damaged_data_set_is_broken(run, home, camvid, damage):
    (camvid / "trainannot" / "b.png").unlink() if damage == "gone" else (camvid / "train" / "b.png").write_bytes(b"")
    code, out, _ = run("doctor")
    assert code == 1
    broken = out[out.index("\nBroken\n") :]
    assert (
        "lists /SegNet/CamVid/trainannot/b.png" if damage == "gone" else "1 files are empty (first: b.png)"
    ) in broken


def test_secrets_are_kept(run, home, monkeypatch):
    for name in doctor.SECRETS:
        monkeypatch.setenv(name, "https://anna:hf_abcdef@example.org")
    (home / "token").write_text("hf_ghijkl")
    monkeypatch.setenv("SEGFORMER_EDU_DATA", str(home / "data"))
    monkeypatch.setenv("TMPDIR", str(home))
    code, out, err = run("doctor")
    assert (code, err) == (0, "")
    assert "hf_" not in out
    assert "anna" not in out
    assert "example.org" not in out
    assert rows(out)["HF_TOKEN"] == "set"
    assert rows(out)["hf auth login"] == "a token is kept"
    assert "~/data (SEGFORMER_EDU_DATA)" in out


def test_home_is_a_tilde(monkeypatch):
    monkeypatch.setenv("HOME", "/home/anna")
    text = doctor.without_home("/home/anna /home/anna/x /home/annabel /home/anna.b (/home/anna) '/home/anna'")
    assert text == "~ ~/x /home/annabel /home/anna.b (~) '~'"
    monkeypatch.setenv("HOME", "/")
    assert doctor.without_home("/usr") == "/usr"


def test_packages_that_are_missing_old_or_damaged(monkeypatch):
    versions = {"torch": "2.2.1+cu118", "pillow": "10.0.0", "numpy": "2.0", "onnx": "1.17.0"}

    def version(name):
        if name not in versions:
            raise metadata.PackageNotFoundError(name)
        return versions[name]

    def damaged(name):
        if name == "PIL":
            raise ImportError("DLL load failed\nwhile importing _imaging")

    needed = ["torch>=2.3", "pillow>=9.4", "numpy>=1.24", "tqdm>=4.60", "onnx; extra == 'test'"]
    monkeypatch.setattr(doctor.metadata, "version", version)
    monkeypatch.setattr(doctor.metadata, "requires", lambda name: needed)
    monkeypatch.setattr(doctor.importlib, "import_module", damaged)
    found = doctor.Findings()
    doctor.look_at_packages(found)
    assert found.broken == [
        "torch is 2.2.1+cu118; expected 2.3 or later: pip install -U torch",
        "pillow 10.0.0 cannot be imported (DLL load failed while importing _imaging): pip install -U pillow",
        "tqdm is not installed: pip install 'tqdm>=4.60'",
    ]
    assert "onnxruntime, which checks ONNX files: pip install onnxruntime" in found.missing
    assert not any(text.startswith("onnx,") for text in found.missing)


def test_a_device_that_computes_something_else(monkeypatch):
    monkeypatch.setattr(torch, "allclose", lambda *_, **options: False)
    found = doctor.Findings()
    doctor.look_at_devices(found)
    assert found.broken[0].startswith("a small model on cpu fails: ValueError: its logits differ from the CPU's by ")


def test_a_cache_that_nobody_may_write_into(run, home, monkeypatch):
    monkeypatch.setattr(doctor.os, "access", lambda *_: False)
    code, out, _ = run("doctor")
    assert code == 1
    assert rows(out)["Hugging Face"].startswith("~/hub: not there yet, not writable")
    assert "nothing may be written into ~: set HF_HOME to another folder" in out


def test_a_look_that_fails_does_not_stop_the_others(run, home, monkeypatch):
    def fail(found):
        found.rows.append(("seen", "before"))
        raise KeyError("odd")

    monkeypatch.setitem(doctor.LOOKS, "Devices", fail)
    code, out, _ = run("doctor")
    assert code == 1
    assert "Devices: KeyError: 'odd'" in out
    assert {"seen", "data folder", "here"} <= rows(out).keys()


def test_a_large_cache_takes_no_longer(tmp_path, monkeypatch):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_bytes(bytes(1_000_000))
    assert doctor.size_of(tmp_path) == "2.0 MB"
    monkeypatch.setattr(doctor, "SECONDS", -1)
    assert doctor.size_of(tmp_path).startswith("more than ")


def test_in_ascii_with_an_odd_folder(tmp_path):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SEGFORMER")}
    environment |= {"PYTHONIOENCODING": "ascii", "HF_HOME": str(tmp_path / "größer"), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "segformer_edu", "doctor"]
    done = subprocess.run(command, capture_output=True, env=environment, cwd=tmp_path, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    text = done.stdout.decode("ascii")
    assert "gr??er/hub: not there yet" in text
    assert "stdout, stderr       ascii (no terminal)" in text
    assert not Path(tmp_path / "größer").exists()
