"""The messages that the page of troubles quotes are the ones that really come, and each of ours here is quoted there.

A quoted message stands in a block marked `text`, its lines broken anywhere; `…` stands for what differs from machine to
machine, such as a path.
"""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from types import SimpleNamespace

import chapters
import numpy as np
import pytest
import torch
from browser import REMEDY
from nbclient.exceptions import CellTimeoutError
from PIL import Image
from published import mmsegmentation, segmenter
from torch import nn

import book
import segformer_edu as se
from segformer_edu.data import CamVid, Folder, camvid, download
from segformer_edu.metrics import confusion_matrix
from segformer_edu.training import Recipe, fit, segmentation_loss

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "book" / "troubleshooting.md"
SMALL = {"dims": (8, 16, 24, 32), "heads": (1, 2, 3, 4), "ff_expansion": 1, "num_layers": 1, "decoder_dim": 8}
CLASSES = ("road", "house")


def small(**changes):
    torch.manual_seed(0)
    return se.Segformer(**SMALL | {"num_classes": 2} | changes)


def pair(mask=1, size=32):
    return torch.zeros(3, size, size), torch.full((size, size), mask)


def folders(place, mask=None, picture=(32, 32)):
    """A folder of one picture and one of its class map, and the two as a data set."""
    (place / "images").mkdir()
    (place / "masks").mkdir()
    Image.new("RGB", picture).save(place / "images" / "street.png")
    mask = np.zeros((32, 32), dtype=np.uint8) if mask is None else mask
    Image.fromarray(mask).save(place / "masks" / "street.png")
    return Folder(place / "images", place / "masks", CLASSES)


def saved(place, entries):
    torch.save(entries, place / "weights.pt")
    return place / "weights.pt"


def normalised_twice(place):
    se.segment(small(), np.full((40, 40, 3), -1.2))


def packages_size(place):
    from segformer_pytorch import Segformer

    Segformer(dims=(32, 64, 160, 256), num_layers=1)(torch.zeros(1, 3, 360, 480))


def no_camvid(place):
    CamVid("val", root=place)


def half_a_camvid(place):
    (place / "CamVid").mkdir()
    (place / "CamVid" / "val.txt").write_text("/SegNet/CamVid/val/a.png /SegNet/CamVid/valannot/a.png\n")
    CamVid("val", root=place)


def unreachable(place):
    camvid.download_camvid(place, listing="http://127.0.0.1:9/listing")


def picture_cut_short(place):
    data = folders(place)
    path = place / "images" / "street.png"
    path.write_bytes(path.read_bytes()[:40])
    data[0]


def map_missing(place):
    folders(place)
    (place / "masks" / "street.png").unlink()
    Image.new("L", (8, 8)).save(place / "masks" / "lane.png")
    Folder(place / "images", place / "masks", CLASSES)


def one_name_twice(place):
    folders(place)
    Image.new("RGB", (8, 8)).save(place / "images" / "street.jpg")
    Folder(place / "images", place / "masks", CLASSES)


def loss_not_finite(place):
    model = small()
    with torch.no_grad():
        model.decoder.to_segmentation[1].bias.fill_(torch.inf)
    fit(model, [pair()], Recipe(steps=2), progress=False)


def other_recipe(place):
    fit(small(), [pair()], Recipe(steps=1, batch_size=1), checkpoint=place / "run.pt", progress=False)
    fit(small(), [pair()], Recipe(steps=1, batch_size=2), checkpoint=place / "run.pt", progress=False)


def other_model(place):
    recipe = Recipe(steps=1, batch_size=1)
    fit(small(), [pair()], recipe, checkpoint=place / "run.pt", progress=False)
    fit(small(decoder_dim=16), [pair()], recipe, checkpoint=place / "run.pt", progress=False)


def other_names(place):
    from segformer_pytorch import Segformer

    small().load_state_dict(Segformer(**SMALL | {"num_classes": 2}).state_dict())


def other_classes(place):
    se.load_pretrained(saved(place, small().state_dict()), num_classes=5, heads=SMALL["heads"])


def more_than_one(place):
    se.load_pretrained(saved(place, small().state_dict() | {"loss.weight": torch.ones(2)}))


def whole_of_mmsegmentation(place):
    encoder = mmsegmentation(segmenter({}).state_dict())
    entries = {f"backbone.{name}": value for name, value in encoder.items()}
    se.load_pretrained(saved(place, entries | {"decode_head.convs.0.conv.weight": torch.ones(2, 2, 1, 1)}))


def encoder_alone(place):
    se.load_pretrained(saved(place, mmsegmentation(segmenter({}).state_dict())))


def incomplete(place):
    entries = {name: value for name, value in small().state_dict().items() if not name.startswith("mit")}
    se.load_pretrained(saved(place, entries))


def names_do_not_fit(place):
    theirs = segmenter({})
    theirs.config.id2label = {7 if number == 2 else number: f"thing {number}" for number in range(7)}
    theirs.save_pretrained(place / "folder")
    se.load_pretrained(place / "folder")


def cut_weights(place):
    path = saved(place, small().state_dict())
    path.write_bytes(path.read_bytes()[:1000])
    se.load_pretrained(path)


def stale_cache(place):
    book.CACHE.mkdir()
    book.drop_stale_cache()


def slow_chapter(place):
    print(*chapters.complaints(ROOT / "notebooks" / "02_layer_norm.ipynb", 75))


def cell_timeout(place):
    cell = SimpleNamespace(source="history = fit(model, train, recipe, device=device, live=True)")
    raise CellTimeoutError.error_from_timeout_and_cell("Timeout", 170, cell)


PROVOCATIONS = {
    "array": lambda place: small()(np.zeros((64, 64, 3))),
    "no batch": lambda place: small()(torch.zeros(3, 64, 64)),
    "bytes": lambda place: small()(torch.zeros(1, 3, 64, 64, dtype=torch.uint8)),
    "channels last": lambda place: small()(torch.zeros(1, 64, 64, 3)),
    "too small": lambda place: small()(torch.zeros(1, 3, 28, 28)),
    "not finite": lambda place: small()(torch.full((1, 3, 32, 32), torch.nan)),
    "heads": lambda place: small(dims=(32, 64, 160, 256), heads=(1, 2, 6, 8)),
    "stages": lambda place: small(num_layers=(2, 2, 2)),
    "maps": lambda place: small().decoder(torch.zeros(1, 8, 8, 8)),
    "package's size": packages_size,
    "normalised twice": normalised_twice,
    "no CamVid": no_camvid,
    "half a CamVid": half_a_camvid,
    "no connection": unreachable,
    "picture cut short": picture_cut_short,
    "sizes differ": lambda place: folders(place, picture=(48, 32))[0],
    "map in colour": lambda place: folders(place, mask=np.zeros((32, 32, 3), dtype=np.uint8))[0],
    "no such class": lambda place: folders(place, mask=np.full((32, 32), 7, dtype=np.uint8))[0],
    "0 and 255": lambda place: folders(place, mask=np.full((32, 32), 255, dtype=np.uint8))[0],
    "map missing": map_missing,
    "one name twice": one_name_twice,
    "no folder": lambda place: Folder(place / "pictures", place / "masks", CLASSES),
    "class too large": lambda place: segmentation_loss(torch.zeros(1, 4, 8, 8), torch.full((1, 32, 32), 11)),
    "PyTorch's class too large": lambda place: nn.functional.cross_entropy(torch.zeros(1, 4), torch.tensor([4])),
    "loss not finite": loss_not_finite,
    "no data": lambda place: fit(small(), [], progress=False),
    "other recipe": other_recipe,
    "other model": other_model,
    "shapes of a metric": lambda place: confusion_matrix(torch.zeros(1, 8, 8).long(), torch.zeros(1, 32, 32).long(), 2),
    "floats in a metric": lambda place: confusion_matrix(torch.zeros(1, 8, 8), torch.zeros(1, 8, 8).long(), 2),
    "one value a channel": lambda place: nn.BatchNorm2d(6)(torch.zeros(1, 6, 1, 1)),
    "other names": other_names,
    "no known names": lambda place: se.load_pretrained(
        saved(place, {"conv1.weight": torch.ones(2), "fc.bias": torch.ones(2)})
    ),
    "more than one": more_than_one,
    "mmsegmentation": whole_of_mmsegmentation,
    "encoder alone": encoder_alone,
    "no decoder": lambda place: se.load_pretrained(saved(place, se.mit_b0().state_dict()), num_classes=19),
    "no weights": lambda place: se.load_pretrained(place / "weights.pt"),
    "cut weights": cut_weights,
    "incomplete": incomplete,
    "other classes": other_classes,
    "names do not fit": names_do_not_fit,
    "stale cache": stale_cache,
    "slow chapter": slow_chapter,
    "cell timeout": cell_timeout,
    "no Chromium": lambda place: print(REMEDY),
}


def message(name, place, capsys):
    """What a reader sees who makes this mistake: an error, as the last lines of its traceback, a warning or a line."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            PROVOCATIONS[name](place)
        except Exception as error:
            return f"{type(error).__name__}: {error}"
    if caught:
        return f"{caught[0].category.__name__}: {caught[0].message}"
    return capsys.readouterr().out


def quoted():
    """The page's quoted messages, one space between words."""
    return [" ".join(block.split()) for block in re.findall(r"^```text\n(.+?)^```$", PAGE.read_text(), re.M | re.S)]


def pattern(block):
    return ".*".join(re.escape(part.strip()) for part in block.split("…"))


@pytest.mark.parametrize("name", PROVOCATIONS)
def test_a_message_is_quoted_as_it_comes(name, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(download, "ATTEMPTS", 1)
    monkeypatch.setattr(book, "BUILD", tmp_path)
    monkeypatch.setattr(book, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(book, "FINGERPRINT", tmp_path / "fingerprint")
    said = " ".join(message(name, tmp_path, capsys).split())
    assert said, "the mistake went unnoticed"
    found = [block for block in quoted() if re.fullmatch(pattern(block), said)]
    assert len(found) == 1, f"{PAGE.name} quotes {len(found)} messages that fit this one:\n{said}"


def test_nothing_else_is_quoted():
    """One block for each provocation: a block that none of them fits would make the counts differ."""
    assert len(quoted()) == len(PROVOCATIONS)
