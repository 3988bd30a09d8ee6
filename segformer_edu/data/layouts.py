"""How folders of pictures and class maps are usually laid out: which folders belong together, and which names."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from segformer_edu.data.formats import is_picture

IMAGES = (
    "images", "image", "imgs", "img", "jpegimages", "leftimg8bit", "photos", "pictures", "pics", "rgb", "inputs",
    "input", "original", "originals", "data", "x",
)  # fmt: skip
"""Names of folders of pictures, in small letters; of two the earlier one is taken."""
MASKS = (
    "masks", "mask", "labeltrainids", "labels", "label", "annotations", "annotation", "annots", "annot",
    "segmentationclass", "segmentationclasspng", "segmentationclassnpy", "gtfine", "ground_truth", "groundtruth",
    "ground-truth", "gt", "segmentations", "segmentation", "segs", "seg", "labelsapproved", "targets", "target", "y",
)  # fmt: skip
"""The same of class maps."""
BESIDE = ("annot", "_annot", "_masks", "_mask", "_labels", "_label", "-masks", "-labels", "_gt", "masks", "labels")
"""What follows the name of the folder of pictures in that of its class maps: train and trainannot."""
IMAGE_ENDS = ("", "_leftImg8bit", "_image", "_img", "_rgb", "_sat")
"""What follows the common part in the names of pictures, less the ending; before, what stands in front of it."""
MAP_ENDS = (
    "", "_gtFine_labelTrainIds", "_gtFine_labelIds", "_mask", "_masks", "_label", "_labels", "_seg", "_segmentation",
    "_annotation", "_gt", "_L", "_lab", "-mask", "-label", "_manual1", "_GT",
)  # fmt: skip
MAP_STARTS = ("mask_", "label_", "gt_", "seg_")
LISTS = ("ImageSets/Segmentation/trainval.txt", "ImageSets/Segmentation/train.txt")
"""Lists that say which of more pictures have class maps."""
DEPTH = 3
"""Folders within each other that are searched for a layout."""


@dataclass(frozen=True)
class Layout:
    """Arguments of ``Folder``.

    Attributes:
        images: the folder of pictures.
        masks: the folder of class maps.
        image_pattern: of the pictures' names.
        mask_pattern: of the class maps' names.
        names: a list of those to take, None for all.
    """

    images: Path
    masks: Path
    image_pattern: str = "*"
    mask_pattern: str = "*"
    names: Path | None = None


def find_layouts(folder: Path) -> list[Layout]:
    """Find pictures and their class maps in a folder: those highest up, which may be several, one a split.

    Raises:
        FileNotFoundError: no such folder, or no layout that is known.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {folder}; check the path.")
    level = [folder]
    for _ in range(DEPTH):
        if found := [layout for place in level for layout in layouts_of(place)]:
            return found
        level = [inner for place in level for inner in folders_in(place)]
    there = ", ".join(sorted(path.name for path in folders_in(folder))[:8]) or "no folder"
    raise FileNotFoundError(
        f"{folder} is laid out in no way that is known: it holds {there}; expected two folders such as images and "
        f"masks. Say which: --images SUB --masks SUB (images= and masks= of Folder)."
    )


def layouts_of(folder: Path) -> list[Layout]:
    """Return the layouts that begin right in this folder."""
    inner = {path.name.lower(): path for path in folders_in(folder)}
    images = next((inner[name] for name in IMAGES if name in inner), None)
    masks = next((inner[name] for name in MASKS if name in inner), None)
    if images and masks:
        names = next((folder / name for name in LISTS if (folder / name).is_file()), None)
        return [with_patterns(images, masks, names)]
    pairs = [
        (path, inner[name + end]) for name, path in inner.items() for end in BESIDE if inner.keys() >= {name + end}
    ]
    if pairs:
        return [with_patterns(*pair) for pair in pairs]
    beside = [folder.with_name(folder.name + end) for end in BESIDE]
    if sibling := next((path for path in beside if path.is_dir() and pictures_in(folder)), None):
        return [with_patterns(folder, sibling)]
    return in_one_folder(folder)


def in_one_folder(folder: Path) -> list[Layout]:
    """Return the layout of pictures and class maps that lie side by side, a.jpg and a.png or a_mask.png, if any do."""
    parts = [os.path.splitext(name) for name in pictures_in(folder)]
    photos = [part for part in parts if part[1].lower() in (".jpg", ".jpeg")]
    others = [part for part in parts if part not in photos]
    patterns = best_pattern({stem for stem, _ in photos}, {stem for stem, _ in others})
    matched = shared_by(patterns, {stem for stem, _ in photos}, {stem for stem, _ in others})
    if matched:
        image_pattern, mask_pattern = (
            pattern if is_picture(pattern) else f"{pattern}{Counter(end for _, end in group).most_common(1)[0][0]}"
            for pattern, group in zip(patterns, (photos, others))
        )
        return [Layout(folder, folder, image_pattern, mask_pattern)]
    stems = {stem for stem, _ in parts}
    for end in MAP_ENDS[1:]:
        maps = {stem for stem in stems if stem.endswith(end)}
        if shared(stems - maps, maps, "", ("", end)):
            return [Layout(folder, folder, "*", f"*{end}")]
    return []


def with_patterns(images: Path, masks: Path, names: Path | None = None) -> Layout:
    """Return the layout of two folders, with the patterns that pair the most of their files."""
    stems = [{os.path.splitext(name)[0] for name in pictures_in(folder, within=True)} for folder in (images, masks)]
    return Layout(images, masks, *best_pattern(*stems), names)


def best_pattern(pictures: set[str], maps: set[str]) -> tuple[str, str]:
    """Return the patterns of pictures and class maps that pair the most of these names, the plainest of equal ones."""
    if pictures <= maps:
        return "*", "*"
    pieces = [(image_end, ("", end)) for image_end in IMAGE_ENDS for end in MAP_ENDS]
    pieces += [(image_end, (start, "")) for image_end in IMAGE_ENDS for start in MAP_STARTS]
    endings = {os.path.splitext(name)[1] for name in maps}  # photo.jpg.png
    pieces += [("", ("", ending)) for ending in sorted(endings) if is_picture(ending)]
    image_end, (start, end) = max(pieces, key=lambda piece: shared(pictures, maps, *piece))
    return f"*{image_end}", f"{start}*{end}" + (".png" if is_picture(end) else "")


def shared_by(patterns: tuple[str, str], pictures: Iterable[str], maps: Iterable[str]) -> int:
    """Return how many pictures have a class map by these patterns."""
    start, end = patterns[1].removesuffix(".png").split("*")
    return shared(pictures, maps, patterns[0][1:], (start, end))


def shared(pictures: Iterable[str], maps: Iterable[str], image_end: str, around: Sequence[str]) -> int:
    """Return how many pictures have a class map where these pieces stand around the common part of their names."""
    start, end = around
    one = {name[: len(name) - len(image_end)] for name in pictures if name.endswith(image_end)}
    other = {name[len(start) : len(name) - len(end)] for name in maps if name.startswith(start) and name.endswith(end)}
    return len((one & other) - {""})


def folders_in(folder: Path) -> list[Path]:
    """Return the folders in a folder, hidden ones left out."""
    return [path for path in sorted(folder.iterdir()) if path.is_dir() and not path.name.startswith((".", "__"))]


def pictures_in(folder: Path, within: bool = False) -> list[str]:
    """Return the names of the pictures in a folder, and, if asked for, in those within."""
    found: list[str] = []
    for _, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if within and not name.startswith(".")]
        found += [name for name in names if is_picture(name) and not name.startswith(".")]
    return found
