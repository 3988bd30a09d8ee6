"""Where pictures and class maps lie in the layouts that data sets have, and that Folder takes what was found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segformer_edu.data import Folder
from segformer_edu.data.layouts import find_layouts

LAYOUTS = {
    "plain": ["images/a.jpg masks/a.png", "images/b.jpg masks/b.png"],
    "capital letters": ["Imgs/a.jpg GT/a.png"],
    "VOC": ["JPEGImages/2007_1.jpg SegmentationClass/2007_1.png"],
    "VOC in its archive": ["VOCdevkit/VOC2012/JPEGImages/2007_1.jpg VOCdevkit/VOC2012/SegmentationClass/2007_1.png"],
    "Cityscapes": [
        "leftImg8bit/train/ulm/ulm_1_2_leftImg8bit.png gtFine/train/ulm/ulm_1_2_gtFine_labelTrainIds.png",
        "leftImg8bit/val/bonn/bonn_1_2_leftImg8bit.png gtFine/val/bonn/bonn_1_2_gtFine_labelTrainIds.png",
        " gtFine/train/ulm/ulm_1_2_gtFine_color.png",
        " gtFine/train/ulm/ulm_1_2_gtFine_labelIds.png",
        " gtFine/train/ulm/ulm_1_2_gtFine_instanceIds.png",
    ],
    "Cityscapes as it is delivered": [
        "leftImg8bit/train/ulm/ulm_1_leftImg8bit.png gtFine/train/ulm/ulm_1_gtFine_labelIds.png"
    ],
    "ADE20K": [
        "images/training/ADE_1.jpg annotations/training/ADE_1.png",
        "images/validation/ADE_2.jpg annotations/validation/ADE_2.png",
    ],
    "CamVid": ["train/a.png trainannot/a.png", "val/b.png valannot/b.png"],
    "CamVid of Kaggle": ["train/a.png train_labels/a_L.png"],
    "Carvana": ["train/a_01.jpg train_masks/a_01_mask.gif"],
    "ISIC": ["images/ISIC_1.jpg masks/ISIC_1_segmentation.png"],
    "splits first": ["train/images/a.jpg train/masks/a.png", "valid/images/b.jpg valid/masks/b.png"],
    "names with two endings": ["img/a.jpg annotation/a.jpg.png", "img/b.jpg annotation/b.jpg.png"],
    "side by side": ["a.jpg a.png", "b.JPG b.png"],
    "side by side with a suffix": ["a.png a_mask.png", "b.png b_mask.png"],
    "side by side, JPEG and a suffix": ["a.jpg a_label.png"],
    "side by side, two endings": ["a.jpg a.jpg.png"],
    "prefix": ["images/a.jpg labels/mask_a.png"],
    "arrays": ["images/a.jpg SegmentationClassNpy/a.npy"],
}  # fmt: skip


def lay(root, lines):
    """Lay out pictures and class maps as the lines say; those without a picture are no pairs."""
    pairs = set()
    for line in lines:
        picture, mask = line.split(" ")
        for name in filter(None, (picture, mask)):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            if name.endswith(".npy"):
                np.save(root / name, np.zeros((40, 40), dtype=np.uint8))
            else:
                Image.new("RGB" if name == picture else "L", (40, 40)).save(root / name)
        pairs |= {(root / picture, root / mask)} if picture else set()
    return pairs


@pytest.mark.parametrize("name", LAYOUTS)
def test_layout_is_found_and_taken(name, tmp_path):
    pairs = lay(tmp_path, LAYOUTS[name])
    found = set()
    for layout in find_layouts(tmp_path):
        patterns = {"image_pattern": layout.image_pattern, "mask_pattern": layout.mask_pattern}
        found |= set(Folder(layout.images, layout.masks, 3, **patterns).pairs)
    assert found == pairs


def test_a_split_on_its_own(tmp_path):
    pairs = lay(tmp_path, LAYOUTS["CamVid"])
    (layout,) = find_layouts(tmp_path / "train")
    assert {(layout.images, layout.masks)} == {(one.parent, other.parent) for one, other in pairs if "a." in one.name}


def test_the_list_of_voc(tmp_path):
    lay(tmp_path, LAYOUTS["VOC"])
    lists = tmp_path / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("2007_1\n")
    assert find_layouts(tmp_path)[0].names == lists / "train.txt"
    (lists / "trainval.txt").write_text("2007_1\n")
    assert find_layouts(tmp_path)[0].names == lists / "trainval.txt"


def test_what_has_no_layout(tmp_path):
    (tmp_path / "holidays").mkdir()
    Image.new("RGB", (9, 9)).save(tmp_path / "holidays" / "beach.jpg")
    with pytest.raises(
        FileNotFoundError, match=r"in no way that is known: it holds holidays; expected two folders such"
    ):
        find_layouts(tmp_path)
    with pytest.raises(FileNotFoundError, match="There is no folder"):
        find_layouts(Path(tmp_path / "gone"))
