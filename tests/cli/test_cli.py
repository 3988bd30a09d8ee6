"""The command as a whole: its usage, its help, and how it is started."""

from __future__ import annotations

import importlib
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from segformer_edu.cli import main

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10, where pytest brings it under its old name
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "arguments are required: {segment,check-data,train,evaluate,export,cost,capstone,grade,doctor}"),
        ("segmnet", "invalid choice: 'segmnet'"),
        ("segment photo.png", "required: --weights, --out"),
        ("segment photo.png --weights 5.pt --out a.png --size 16", "'16' is no size; expected one or two numbers"),
        ("segment --weights 5.pt --out a.png --size 64 photo.png", "(PHOTO or MODEL stands first)"),
        ("segment photo.png --weights 5.pt --out a.png --classes coco", "no classes of 'coco'"),
        ("segment photo.png --weights 5.pt --out a.png --classes 0", "classes is 0"),
    ],
)
def test_wrong_usage(capsys, text, message):
    with pytest.raises(SystemExit) as stop:
        main(text.split())
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("segment", ("examples:", "not commercially", "longer side", "exit codes", "ade20k (150)", "id2label")),
        ("check-data", ("examples:", "leftImg8bit and gtFine", "one star", "128 64 128", "exit codes")),
        ("train", ("examples:", "--set changes one", "torchrun", "goes on from the last checkpoint", "exit codes")),
        ("evaluate", ("examples:", "--flip looks at it in the mirror", "exit codes")),
        ("export", ("examples:", "not commercially", "onnxruntime", "image_mean", "exit codes")),
        ("doctor", ("examples:", "pasted into an issue", "exit codes")),
        ("cost", ("examples:", "FLOPs", "height and width", "one of b0, b1")),
    ],
)
def test_help_teaches(capsys, monkeypatch, command, expected):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    for words in expected:
        assert words in text
    assert max(map(len, text.splitlines())) <= 80


def test_as_a_module(place, tmp_path):
    command = [sys.executable, "-m", "segformer_edu"]
    done = subprocess.run([*command, "--help"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("usage: segformer-edu ")
    wrong = [*command, "segment", place / "photo.png", "--weights", tmp_path / "none.pt", "--out", tmp_path / "a.png"]
    done = subprocess.run(wrong, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)


def test_the_hubs_retries_are_not_told():
    code = "import logging, segformer_edu.cli as cli; cli.main(['cost', 'b0', '--size', '32'])"
    code += "; from huggingface_hub import hf_hub_download"
    code += "; print(logging.getLogger('huggingface_hub').level == logging.ERROR)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("True\n")


def test_version(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert (stop.value.code, capsys.readouterr().out) == (0, f"segformer-edu {version('segformer-edu')}\n")


def test_a_checkout_that_is_not_installed_runs():
    code = (
        "import sys\n"
        "import importlib.metadata as metadata\n"
        "known = metadata.version\n"
        "def version(name):\n"
        "    if name == 'segformer-edu':\n"
        "        raise metadata.PackageNotFoundError(name)\n"
        "    return known(name)\n"
        "metadata.version = version\n"
        "from segformer_edu.cli import main\n"
        "sys.exit(main(['cost', 'b0', '--size', '32']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, "SegFormer-B0" in done.stdout) == (0, True), done.stderr


def test_the_installed_command_is_main():
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    module, name = scripts["segformer-edu"].split(":")
    assert getattr(importlib.import_module(module), name) is main
