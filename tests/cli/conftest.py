"""A folder to run commands in, with a photograph and weights."""

from __future__ import annotations

import numpy as np
import published
import pytest
import torch
from PIL import Image
from samples import SMALL

import segformer_edu as se
from segformer_edu.cli import main


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a photograph and weights of 19 classes and of 5."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("place")
    array = np.random.default_rng(0).integers(0, 256, (45, 70, 3), dtype=np.uint8)
    Image.fromarray(array).save(folder / "photo.png")
    for count in (19, 5):
        model = se.Segformer(
            **SMALL | {"heads": (1, 2, 5, 8), "dims": (8, 16, 20, 32)}, decoder_dim=16, num_classes=count
        )
        torch.save(model.state_dict(), folder / f"{count}.pt")
    published.segmenter(
        published.SMALL | {"num_attention_heads": [1, 2, 5, 8], "hidden_sizes": [8, 16, 20, 32]}, 150
    ).save_pretrained(folder / "hub")
    return folder


@pytest.fixture
def run(place, tmp_path, monkeypatch, capsys):
    """Run a command in a folder of its own; return its exit code, what it printed, and its complaints."""
    for name in ("photo.png", "19.pt", "5.pt", "hub"):
        (tmp_path / name).symlink_to(place / name)
    monkeypatch.chdir(tmp_path)

    def call(text: str) -> tuple[int, str, str]:
        code = main(text.split())
        return code, *capsys.readouterr()

    return call
