"""Leaves: what is drawn, that it is the same again, and what is spoiled."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from segformer_edu.data import Folder
from segformer_edu.data.leaves import CLASSES, COLOURS, UNSURE, write_leaves
from segformer_edu.data.survey import examine_folder


@pytest.fixture(scope="module")
def leaves(tmp_path_factory):
    return write_leaves(tmp_path_factory.mktemp("leaves"), plants=8, views=2, size=64)


def read(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*.*"))}


def test_a_folder_like_anybodys(leaves):
    data = Folder(leaves / "images", leaves / "masks", CLASSES)
    assert [picture.name for picture, _ in data.pairs[:3]] == ["plant00-1.jpg", "plant00-2.jpg", "plant01-1.jpg"]
    masks = torch.stack([mask for _, mask in data])
    assert masks.shape == (16, 64, 64)
    shares = masks.flatten().bincount(minlength=len(CLASSES)) / masks.numel()
    assert shares[0] > shares[1] > 0.15
    assert (shares[2:] > 0.001).all()
    assert (shares[2:] < 0.1).all()
    assert len(COLOURS) == len(CLASSES)


def test_what_ails_a_leaf_is_on_it(leaves):
    """On the outline of the sick parts there may be ground; inside of the leaf's outline there is none but a few."""
    for path in sorted((leaves / "masks").iterdir()):
        mask = torch.from_numpy(np.array(Image.open(path)))
        sick = (mask >= 2).float()[None, None]
        ground = torch.nn.functional.max_pool2d((mask == 0).float()[None, None], 3, 1, 1)
        assert (sick * ground).sum() <= 0.5 * sick.sum()


def test_views_of_a_plant_differ_in_place_and_light_alone(leaves):
    one, other = (torch.from_numpy(np.array(Image.open(leaves / "images" / f"plant00-{view}.jpg"))) for view in (1, 2))
    assert not torch.equal(one, other)
    classes = [set(np.unique(np.array(Image.open(leaves / "masks" / f"plant00-{view}.png")))) for view in (1, 2)]
    assert classes[0] & classes[1] >= {0, 1}


def test_the_same_again_and_others_of_another_seed(leaves, tmp_path):
    same = read(write_leaves(tmp_path / "same", plants=8, views=2, size=64))
    other = read(write_leaves(tmp_path / "other", plants=1, views=1, size=64, seed=1))
    assert same == read(leaves)
    assert all(content not in same.values() for content in other.values())


def test_spoiled_files(leaves, tmp_path):
    folder = write_leaves(tmp_path, plants=8, views=2, size=64, spoiled=True)
    report, _ = examine_folder(folder / "images", folder / "masks", CLASSES)
    assert {reason[:12]: len(names) for reason, names in report.broken.items()} == {
        "no class map": 1,
        "a class map ": 1,
        "… is (64, 64": 1,
        "… holds [9];": 1,
    }
    assert any(f"[{UNSURE}]" in reason for reason in report.broken)
    before, after = read(leaves), read(folder)
    changed = [name for name in before if name.startswith("masks") and after.get(name) != before[name]]
    assert len(changed) == 5
    assert sum(name in after for name in changed) == 3  # one is deleted, one is a JPEG
    assert {name: content for name, content in after.items() if name.startswith("images")} == {
        name: content for name, content in before.items() if name.startswith("images")
    }


@pytest.mark.parametrize("wrong", [{"plants": 0}, {"views": 1.5}, {"size": 16}, {"plants": 3, "spoiled": True}])
def test_what_cannot_be_drawn(tmp_path, wrong):
    with pytest.raises((TypeError, ValueError), match=next(iter(wrong))):
        write_leaves(tmp_path, **wrong)
