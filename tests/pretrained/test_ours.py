"""The models that come with the library."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch.utils.data import Subset

from segformer_edu import load_pretrained
from segformer_edu.data import CamVid
from segformer_edu.data.camvid import CLASSES
from segformer_edu.pretrained.ours import model_card, shipped
from segformer_edu.training import evaluate

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("camvid-b0", "camvid-small")


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_model_is_found_by_its_name(name):
    model = load_pretrained(name)
    assert model.class_names == tuple(CLASSES)
    assert {value.dtype for value in model.parameters()} == {torch.float32}
    assert not model.training
    with torch.no_grad():
        logits = model(torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(0)))
    assert logits.shape == (1, 11, 16, 24)


@pytest.mark.parametrize("name", NAMES)
def test_its_card_says_what_is_to_be_known(name):
    card = model_card(name)
    for words in ("no other data", "python -m segformer_edu train", "mIoU on val", "Not to be used", "Licence"):
        assert words in card
    command = card.split("**Recipe.** `")[1].split("`")[0]
    runs = json.loads((ROOT / "results" / "runs.json").read_text(encoding="utf-8"))["runs"]
    assert command in [run["command"] for run in runs.values()]


def test_there_is_no_other():
    assert tuple(shipped()) == NAMES
    with pytest.raises(ValueError, match="expected one of camvid-b0, camvid-small"):
        model_card("camvid-b9")


def test_a_file_of_ones_own_goes_before(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("camvid-b0").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="camvid-b0 cannot be read"):
        load_pretrained("camvid-b0")


@pytest.mark.parametrize("name", NAMES)
def test_it_knows_streets(name):
    try:
        val = CamVid("val")
    except FileNotFoundError:
        pytest.skip("CamVid is not at hand")
    scores = evaluate(load_pretrained(name), Subset(val, range(0, 101, 10)), batch_size=1, progress=False)
    assert scores.mean_iou > 0.5
