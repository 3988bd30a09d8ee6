"""CamVid: the splits, the labels, what is said when it is not there; the real one where it is at hand."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from segformer_edu.data import VOID, CamVid
from segformer_edu.data.camvid import data_folder


def test_splits_and_items(small_camvid):
    assert [len(CamVid(split, small_camvid)) for split in ("train", "val", "test")] == [2, 1, 1]
    image, mask = CamVid("val", small_camvid)[0]
    assert image.shape == (3, 36, 48)
    assert image.dtype == torch.float32
    assert 0 <= image.min() < image.max() <= 1
    raw = np.array(Image.open(small_camvid / "CamVid/valannot/c.png"))
    assert torch.equal(mask == VOID, torch.from_numpy(raw == 11))
    assert torch.equal(mask[mask != VOID], torch.from_numpy(raw[raw != 11]).long())


def test_resized_together(small_camvid):
    image, mask = CamVid("train", small_camvid, size=(18, 24))[0]
    assert image.shape == (3, 18, 24)
    whole = CamVid("train", small_camvid)[0][1]
    assert torch.equal(mask, whole[1::2, 1::2])


def test_jpeg_in_place_of_png(small_camvid):
    path = small_camvid / "CamVid/val/c.png"
    Image.open(path).save(path.with_suffix(".jpg"))
    path.unlink()
    assert CamVid("val", small_camvid)[0][0].shape == (3, 36, 48)


def test_not_at_hand(tmp_path, monkeypatch):
    monkeypatch.setenv("SEGFORMER_EDU_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"download=True.*SEGFORMER_EDU_DATA"):
        CamVid("train")


def test_a_hole_in_the_copy(small_camvid):
    (small_camvid / "CamVid/val/c.png").unlink()
    with pytest.raises(ValueError, match=r"lists .*c\.png.*Fetch the data set again"):
        CamVid("val", small_camvid)


def test_no_such_split(small_camvid):
    with pytest.raises(ValueError, match=r"'trian'.*train, val, test"):
        CamVid("trian", small_camvid)


def test_data_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("SEGFORMER_EDU_DATA", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert data_folder() == tmp_path / "segformer_edu"
    monkeypatch.setenv("SEGFORMER_EDU_DATA", "/data")
    assert data_folder() == Path("/data")


REAL = (Path(os.environ.get("SEGFORMER_EDU_DATA", "/nowhere")) / "CamVid" / "train.txt").is_file()


@pytest.mark.skipif(not REAL, reason="CamVid is not at hand: SEGFORMER_EDU_DATA is not set to a folder that holds it")
def test_the_real_one():
    train, val = CamVid("train"), CamVid("val")
    assert (len(train), len(val)) == (367, 101)
    found = set()
    for index in range(0, 101, 10):
        image, mask = val[index]
        assert image.shape == (3, 360, 480)
        assert mask.shape == (360, 480)
        found |= set(mask.unique().tolist())
    assert found == {*range(11), VOID}
