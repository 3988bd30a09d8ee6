"""What a data set may hold: every kind of picture and class map becomes one form, and anything else is named."""

from __future__ import annotations

from collections import UserDict

import numpy as np
import pytest
import torch
from PIL import Image
from samples import SMALL
from torch.utils.data import ConcatDataset, DataLoader, Dataset, IterableDataset, Subset

from segformer_edu import Segformer
from segformer_edu.data import Folder, Shapes, normalize
from segformer_edu.training import Recipe, evaluate, fit
from segformer_edu.training.items import as_pair, void_of

IMAGE = torch.rand(3, 32, 40, generator=torch.Generator().manual_seed(0))
MASK = torch.randint(0, 4, (32, 40), generator=torch.Generator().manual_seed(0))
BYTES = (IMAGE * 255).round().byte()
ROWS = BYTES.permute(1, 2, 0).numpy()  # channels last, as Pillow, OpenCV and albumentations have it
QUIET = {"progress": False, "device": "cpu"}


def model(**options):
    torch.manual_seed(0)
    return Segformer(**SMALL | {"decoder_dim": 16} | options)


class Own(Dataset):
    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]


@pytest.mark.parametrize(
    "mask",
    [
        *(MASK.to(kind) for kind in (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)),
        *(MASK.to(kind) for kind in (torch.uint16, torch.uint32, torch.uint64)),
        *(MASK.numpy().astype(name) for name in ("u1", "<u2", ">u2", "u4", "u8", ">i4", "i8")),
        MASK[None].byte(),
        MASK.numpy()[::-1].copy()[::-1],  # counts backwards
        Image.fromarray(MASK.byte().numpy()),
        Image.fromarray(MASK.byte().numpy()).convert("P"),
        Image.fromarray(MASK.numpy().astype("u2")),
    ],
    ids=lambda mask: f"{type(mask).__name__}-{getattr(mask, 'dtype', getattr(mask, 'mode', ''))}",
)
def test_class_maps_of_every_whole_type(mask):
    found = as_pair((IMAGE, mask))[1]
    assert found.dtype == torch.int64
    assert torch.equal(found, MASK)


@pytest.mark.parametrize("mask", [MASK > 1, (MASK > 1).numpy()[::-1].copy()[::-1], Image.fromarray((MASK > 1).numpy())])
def test_class_maps_of_truths(mask):
    assert torch.equal(as_pair((IMAGE, mask))[1], (MASK > 1).long())


@pytest.mark.parametrize(
    "image",
    [
        IMAGE, IMAGE.double(), IMAGE.half(), IMAGE.bfloat16(), BYTES, (IMAGE * 65535).round().to(torch.uint16),
        IMAGE.numpy(), IMAGE.numpy().astype(">f4"), IMAGE.numpy()[:, ::-1].copy()[:, ::-1],
        BYTES.numpy(), ROWS, ROWS / 255, Image.fromarray(ROWS), IMAGE * 1.0005,
    ],
    ids=lambda image: f"{type(image).__name__}-{getattr(image, 'dtype', '')}",
)  # fmt: skip
def test_pictures_of_every_kind(image):
    found = as_pair((image, MASK))[0]
    assert found.dtype in (torch.float32, torch.float64)
    torch.testing.assert_close(found.float(), IMAGE, atol=4e-3, rtol=0)


@pytest.mark.parametrize(
    "item",
    [
        {"image": IMAGE, "mask": MASK}, {"pixel_values": IMAGE, "labels": MASK}, {"image": IMAGE, "annotation": MASK},
        {"label": 3, "image": ROWS, "mask": MASK.numpy()}, UserDict(pixel_values=IMAGE, labels=MASK), [IMAGE, MASK],
    ],
)  # fmt: skip
def test_items_of_every_kind(item):
    image, mask = as_pair(item)
    torch.testing.assert_close(image, IMAGE, atol=4e-3, rtol=0)
    assert torch.equal(mask, MASK)


def test_more_than_a_pair_is_told():
    with pytest.warns(UserWarning, match="Items have 3 parts; the first two are taken"):
        assert torch.equal(as_pair((IMAGE, MASK, "a.png"))[1], MASK)


@pytest.mark.parametrize(
    ("item", "error", "message"),
    [
        ((IMAGE, MASK.float()), TypeError, r"class map is torch.float32; expected whole numbers.*mask.long\(\)"),
        ((IMAGE, MASK / 255), TypeError, "ToTensor divided by 255"),
        ((IMAGE, torch.eye(4)[MASK].permute(2, 0, 1).long()), ValueError, r"\(4, 32, 40\).*mask.argmax\(dim=0\)"),
        ((IMAGE, MASK.T), ValueError, r"\(32, 40\) pixels \(height, width\), its class map \(40, 32\)"),
        ((IMAGE, MASK.numpy().astype("O")), TypeError, "class map is an array of object"),
        ((IMAGE, torch.zeros(0, 40).long()), ValueError, r"class map has shape \(0, 40\)"),
        ((IMAGE, MASK.tolist()), TypeError, "class map is a list"),
        ((IMAGE * 255, MASK), ValueError, "run from .* to 255; expected numbers in .*: divide by 255"),
        ((normalize(IMAGE), MASK), ValueError, "run from -2.*don't normalise"),
        ((IMAGE * 2 - 1, MASK), ValueError, "don't normalise"),
        ((BYTES.long(), MASK), TypeError, r"torch.int64; expected bytes \(uint8\)"),
        ((torch.from_numpy(ROWS), MASK), ValueError, r"channels last; expected \(C, H, W\): image.permute\(2, 0, 1\)"),
        ((ROWS[..., 0], MASK), ValueError, r"shape \(32, 40\); expected \(C, H, W\)"),
        ((IMAGE[0], MASK), ValueError, r"shape \(32, 40\); expected \(C, H, W\)"),
        ((IMAGE * torch.nan, MASK), ValueError, "3840 NaN or infinite"),
        (("a.png", MASK), TypeError, "image is a str"),
        ({"x": IMAGE, "y": MASK}, TypeError, "An item has 'x', 'y'; expected a pair"),
        (IMAGE, TypeError, "An item is a Tensor; expected a pair"),
        ((IMAGE,), TypeError, "An item is a tuple"),
    ],
)
def test_what_is_no_pair(item, error, message):
    with pytest.raises(error, match=message):
        as_pair(item)
    for call in (
        lambda data: fit(model(), data, Recipe(steps=1, batch_size=1), **QUIET),
        lambda d: evaluate(model(), d),
    ):
        with pytest.raises(error, match=f"(?s)Item 0: .*{message}"):
            call(Own([item]))


class Stream(IterableDataset):
    def __iter__(self):
        return iter([(IMAGE, MASK)])

    def __len__(self):
        return 1


@pytest.mark.parametrize(
    "make",
    [lambda: DataLoader([(IMAGE, MASK)]), lambda: (pair for pair in [(IMAGE, MASK)]), Stream, lambda: {"train": []},
     lambda: "pictures", lambda: 5],
)  # fmt: skip
def test_what_is_no_data_set(make):
    for call in (
        lambda data: fit(model(), data, **QUIET),
        lambda data: fit(model(), [(IMAGE, MASK)], validation=data, **QUIET),
        lambda data: evaluate(model(), data, progress=False),
    ):
        with pytest.raises(TypeError, match="expected a data set or a list of pairs"):
            call(make())


def test_a_data_set_that_comes_to_its_end_is_no_end_of_training():
    class Exhausted(Own):
        def __getitem__(self, index):
            return next(iter(()))

    for call in (fit, evaluate):
        with pytest.raises(RuntimeError, match="came to its end"):
            call(model(), Exhausted([0, 1]), progress=False)


@pytest.fixture
def folder(tmp_path):
    for part in ("images", "masks"):
        (tmp_path / part).mkdir()
    for name, height in {"a": 32, "b": 32, "c": 48, "d": 48}.items():
        Image.new("RGB", (40, height)).save(tmp_path / "images" / f"{name}.png")
        Image.new("L", (40, height)).save(tmp_path / "masks" / f"{name}.png")
    return Folder(tmp_path / "images", tmp_path / "masks", 4)


LOW, HIGH = [(IMAGE, MASK)] * 2, [(torch.rand(3, 48, 40), torch.zeros(48, 40).long())] * 2
SEVERAL = {
    "list": lambda folder: LOW + HIGH,
    "subset of a list": lambda folder: Subset(LOW + HIGH, [0, 3]),
    "concatenation": lambda folder: ConcatDataset([LOW, HIGH]),
    "shapes": lambda folder: ConcatDataset([Shapes(2, size=32), Shapes(2, size=48)]),
    "folder": lambda folder: folder,
    "subset of a subset": lambda folder: Subset(Subset(folder, [0, 1, 2]), [0, 2]),
    "subset of a concatenation": lambda folder: Subset(ConcatDataset([folder, folder]), [1, 6]),
    "own": lambda folder: Own(LOW + HIGH),
}


@pytest.mark.parametrize("kind", SEVERAL)
def test_several_sizes_are_said_before_training(folder, kind):
    data, seen = SEVERAL[kind](folder), []
    recipe = Recipe(steps=3, batch_size=2, warm_up=0)
    with pytest.raises(ValueError, match=r"several sizes would meet in a batch: .*size=.*Recipe\(batch_size=1\)"):
        fit(model(), data, recipe, on_step=seen.append, **QUIET)
    assert kind == "own" or not seen  # one's own says it when such a batch is made


@pytest.mark.parametrize("kind", SEVERAL)
def test_several_sizes_one_by_one_and_to_validate_on(folder, kind):
    data = SEVERAL[kind](folder)
    one = fit(model(), data, Recipe(steps=2, batch_size=1, validate_every=2), validation=data, **QUIET)
    assert len(one.losses) == 2
    assert 0 <= one.validations[2] <= 1


def test_sizes_do_not_change_what_is_counted():
    data = LOW + HIGH
    alone = sum(evaluate(model(), [pair], progress=False).confusion for pair in data)
    assert torch.equal(evaluate(model(), data, batch_size=3, progress=False).confusion, alone)


def test_pictures_of_several_channels():
    data = [(IMAGE, MASK), (IMAGE[:1], MASK)]
    with pytest.raises(ValueError, match="Pictures of 1 and 3 channels met in a batch"):
        fit(model(), Own(data), Recipe(steps=1, batch_size=2), **QUIET)


@pytest.mark.parametrize("call", [lambda m, d: fit(m, d, Recipe(steps=1, batch_size=1), **QUIET), evaluate])
@pytest.mark.parametrize(("image", "mode"), [(Image.fromarray(ROWS[..., 0]), 1), (Image.new("RGBA", (40, 32)), 4)])
def test_pil_images_for_models_of_other_channels(call, image, mode):
    with pytest.warns(UserWarning, match=f"pictures of {mode} channels"):
        assert call(model(channels=mode), [(image, MASK)])


class Says(Own):
    def __init__(self, void):
        super().__init__([(IMAGE, MASK)])
        self.ignore_index = void


@pytest.mark.parametrize(
    ("data", "given", "void"),
    [
        (Own([]), "data", 255), (Says(11), "data", 11), (Says(None), "data", None), (Says(11), 7, 7),
        (Says(11), None, None), (Says(11), np.uint8(255), 255), (Subset(Subset(Says(11), [0]), [0]), "data", 11),
        (ConcatDataset([Says(11), Says(11)]), "data", 11),
    ],
)  # fmt: skip
def test_the_number_that_is_void(data, given, void):
    assert void_of(data, given) == void
    assert type(void_of(data, given)) in (int, type(None))


def test_voids_that_differ_or_are_none():
    with pytest.raises(ValueError, match="the voids 11, 255; expected one"):
        void_of(ConcatDataset([Says(11), Own([(IMAGE, MASK)])]), "data")
    for wrong in ("Data", True, 2.0, [255]):
        with pytest.raises(TypeError, match="expected a whole number, None for no void, or 'data'"):
            void_of(Own([]), wrong)
