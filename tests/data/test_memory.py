"""A data set in memory takes what ``fit`` takes, refuses what it refuses, and forgets nothing that is said of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import ConcatDataset, Dataset, Subset

from segformer_edu.data import Folder, InMemory, class_counts, normalize

IMAGE = torch.rand(3, 32, 40, generator=torch.Generator().manual_seed(0))
MASK = torch.randint(0, 4, (32, 40), generator=torch.Generator().manual_seed(0))
BYTES = (IMAGE * 255).round().byte()
ROWS = BYTES.permute(1, 2, 0).numpy()


class Own(Dataset):
    classes = ("void", "a", "b", "c")

    def __init__(self, void=0):
        self.ignore_index = void

    def __len__(self):
        return 3

    def __getitem__(self, index):
        return IMAGE, MASK


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ((normalize(IMAGE), MASK), "don't normalise"), ((IMAGE * 255, MASK), "divide by 255"),
        ((IMAGE * torch.nan, MASK), "NaN"), ((IMAGE * 1.02, MASK), "clamp"), ((BYTES.long(), MASK), "torch.int64"),
        ((IMAGE, MASK / 4), "class map is torch.float32"), ((IMAGE, MASK.T), "its class map"), (IMAGE, "is a Tensor"),
    ],
)  # fmt: skip
def test_what_fit_refuses_is_refused(item, message):
    with pytest.raises((TypeError, ValueError), match=f"Item 1: .*{message}"):
        InMemory([(IMAGE, MASK), item])


@pytest.mark.parametrize(
    "item",
    [
        (IMAGE, MASK), (BYTES, MASK), (BYTES / 255, MASK.byte()), {"image": IMAGE, "mask": MASK}, (ROWS, MASK.numpy()),
        (Image.fromarray(ROWS), Image.fromarray(MASK.byte().numpy())), (IMAGE.double(), MASK[None]),
        (BYTES.float().mul(257).to(torch.uint16), MASK),
    ],
)  # fmt: skip
def test_what_fit_takes_is_kept(item):
    image, mask = InMemory([item])[0]
    assert torch.equal(image, BYTES)
    assert torch.equal(mask, MASK)
    assert mask.dtype == torch.int64


def test_what_overshoots_by_rounding_stays_white():
    assert InMemory([(torch.full((3, 32, 40), 1.0005), MASK)])[0][0].unique().tolist() == [255]


@pytest.mark.parametrize("label", [-100, 255, 32767, 32768, 65535, 2**31, -(2**40)])
def test_class_numbers_of_any_size(label):
    assert InMemory([(IMAGE, MASK.where(MASK > 0, label))])[0][1].min() == min(label, 1)
    assert torch.equal(InMemory([(IMAGE, torch.full((32, 40), label))])[0][1], torch.full((32, 40), label))


@pytest.mark.parametrize("void", [0, 3, None])
@pytest.mark.parametrize(
    "part", [lambda own: own, lambda own: Subset(own, [0, 2]), lambda own: Subset(Subset(own, [0, 2]), [1]),
             lambda own: ConcatDataset([own, own]), lambda own: Subset(ConcatDataset([own, own]), [0, 5])],
)  # fmt: skip
def test_parts_say_what_the_whole_says(part, void):
    data = part(Own(void))
    kept = InMemory(data)
    assert (kept.ignore_index, kept.classes) == (void, Own.classes)
    expected = [0 if label == void else len(data) * int(MASK.eq(label).sum()) for label in range(4)]
    assert class_counts(data, 4).tolist() == class_counts(kept, 4).tolist() == expected


def test_several_voids_in_one():
    with pytest.raises(ValueError, match="the voids"):
        InMemory(ConcatDataset([Own(0), Own(3)]))


def test_classes_of_items_of_any_form_are_counted():
    items = [{"image": IMAGE, "mask": MASK}, (ROWS, np.zeros((32, 40), dtype=np.uint8))]
    assert class_counts(items, 4).tolist() == (torch.bincount(MASK.flatten()) + torch.tensor([1280, 0, 0, 0])).tolist()


def test_parts_of_more_than_255_classes(tmp_path):
    values = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64) % 300
    values[:8] = 65535
    for part, array in {"images": np.zeros((64, 64, 3), dtype=np.uint8), "masks": values}.items():
        (tmp_path / part).mkdir()
        for name in "abc":
            Image.fromarray(array).save(tmp_path / part / f"{name}.png")
    data = Subset(Folder(tmp_path / "images", tmp_path / "masks", 300, void=65535), [0, 2])
    kept = InMemory(data)
    assert kept.ignore_index == -100
    assert kept[0][1].unique().tolist() == [-100, *range(300)]
    assert class_counts(data, 300).sum() == class_counts(kept, 300).sum() == 2 * 56 * 64
