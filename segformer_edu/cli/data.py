"""Which pictures ``train`` and ``evaluate`` read: CamVid's, or those of a folder."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

from torch.utils.data import Subset

from segformer_edu.cli.check_data import add_reading_options, given_classes, wanted_layouts
from segformer_edu.cli.command import Add
from segformer_edu.cli.terminal import UsersError
from segformer_edu.data.camvid import CamVid
from segformer_edu.data.folder import Folder
from segformer_edu.data.items import class_names
from segformer_edu.data.layouts import Layout
from segformer_edu.data.splits import hold_out

SPLITS = {"train": ("train", "training"), "val": ("val", "valid", "validation", "dev"), "test": ("test", "testing")}
"""The splits, and the names of folders that hold them."""

DATA = """--data is camvid, which is read from the folder in SEGFORMER_EDU_DATA, or from
the user's cache (CamVid("train", download=True) fetches it); or a FOLDER of
pictures and class maps, laid out as check-data finds it, with the same options.
Folders with a split in their names (train, val, test) are taken for it."""


def add_data_options(add: Add) -> None:
    """Add the options that say where the pictures are, and how their class maps are to be read."""
    add("--data", required=True, metavar="camvid|FOLDER", help="see above")
    add_reading_options(add)


def is_camvid(given: argparse.Namespace) -> bool:
    """Say whether CamVid is meant, and not a folder."""
    return given.data.lower() == "camvid" and not Path(given.data).is_dir()


def folder_of(layout: Layout, given: argparse.Namespace, size: Any = None) -> Folder:
    """Return the pictures of a layout.

    Raises:
        UsersError: nobody said what the classes are, or two have one name.
    """
    classes = given_classes(given)
    if classes is None:
        raise UsersError(
            f"What are the classes in {layout.masks}? Say how many (--classes 4), or their names "
            f"(--classes sky,road,tree). segformer-edu check-data {given.data} tells what stands in the files."
        )
    return Folder(
        layout.images,
        layout.masks,
        classes,
        void=given.void,
        first=given.first,
        names=layout.names,
        size=size,
        image_pattern=layout.image_pattern,
        mask_pattern=layout.mask_pattern,
    )


def split_of(layout: Layout) -> str | None:
    """Return the split that the folders of a layout are named after; None where they are named after none."""
    words = {word for folder in (layout.images, layout.masks) for part in folder.parts[-3:] for word in words_in(part)}
    found = [split for split, names in SPLITS.items() if words & set(names)]
    return found[0] if len(found) == 1 else None


def words_in(name: str) -> list[str]:
    """Return the words of a folder's name; trainannot is train."""
    return "".join(letter if letter.isalpha() else " " for letter in name.lower()).removesuffix("annot").split()


def folder_splits(given: argparse.Namespace, size: Any = None) -> dict[str | None, Folder]:
    """Return a folder's pictures by the splits that its own folders are named after.

    Raises:
        UsersError: several folders of one split, or of none.
    """
    given.folder = Path(given.data)
    if not given.folder.is_dir():
        raise FileNotFoundError(f"There is no folder {given.data}; expected camvid, or a folder of pictures and masks.")
    layouts = wanted_layouts(given)
    names = [split_of(layout) for layout in layouts]
    if len(set(names)) < len(names):
        listed = ", ".join(f"{layout.images} and {layout.masks}" for layout in layouts)
        raise UsersError(
            f"{given.data} holds several folders of pictures: {listed}; say which by --images and --masks."
        )
    return {name: folder_of(layout, given, size) for name, layout in zip(names, layouts)}


def training_data(given: argparse.Namespace) -> tuple[Any, Any]:
    """Return the pictures to train on, and those to judge by.

    Raises:
        UsersError: options that exclude each other, or too few pictures.
    """
    if is_camvid(given):
        held = given.hold_out
        train = CamVid("train", without=held)
        return train, CamVid("train", only=held) if held else CamVid("val")
    if given.hold_out:
        raise UsersError("--hold-out names a sequence of CamVid; of FOLDER a share is held out: --validate 0.2.")
    splits = folder_splits(given, tuple(given.size) if given.size else None)
    if "train" in splits and "val" in splits:
        return splits["train"], splits["val"]
    if len(splits) > 1 and "train" not in splits:
        raise UsersError(f"{given.data} has no folder of pictures to train on; say it by --images and --masks.")
    return parted(splits.get("train") or next(iter(splits.values())), given.validate, given.together, given.seed)


def an_expression(text: str) -> str:
    """Read ``--together``."""
    try:
        re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no regular expression ({error})") from error
    return text


def parted(data: Folder, share: float, together: str | None, seed: int) -> tuple[Subset[Any], Subset[Any]]:
    """Hold out a share of the pictures, or of the groups that their names form, drawn at random, to judge by.

    Raises:
        UsersError: too few pictures, or names that are in no group.
    """
    try:
        train, held = hold_out([picture.name for picture, _ in data.pairs], share, together, seed)
    except ValueError as error:
        raise UsersError(f"--validate, --together: {error}") from error
    return Subset(data, train), Subset(data, held)


def pairs_of(data: Any) -> list[tuple[Path, Path]]:
    """Return the files of a data set's pictures and class maps; none where it has no files."""
    if isinstance(data, Subset):
        pairs = pairs_of(data.dataset)
        return [pairs[index] for index in data.indices] if pairs else []
    return list(getattr(data, "pairs", []))


def names_of(data: Any) -> list[str]:
    """Return the names of a data set's pictures, as ``--names`` takes them; none where it has no files."""
    return [picture.as_posix() for picture, _ in pairs_of(data)]


def classes_of(data: Any) -> tuple[str, ...]:
    """Return the names of a data set's classes, of a part of one too."""
    return class_names(data) or ()


def evaluation_data(given: argparse.Namespace) -> Any:
    """Return the pictures of a split."""
    if is_camvid(given):
        return CamVid(given.split, only=given.only or "")
    splits = folder_splits(given, tuple(given.size) if given.size else None)
    if len(splits) == 1:
        return next(iter(splits.values()))
    if given.split not in splits:
        raise UsersError(
            f"{given.data} has the splits {', '.join(str(name) for name in splits)}; expected one of them in --split, "
            f"which is {given.split}."
        )
    return splits[given.split]
