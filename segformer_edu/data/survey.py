"""A folder of one's own, examined as it lies there: also one that ``Folder`` refuses, or without known classes."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from segformer_edu.data.classes import CLASS_LISTS
from segformer_edu.data.folder import NO_PICTURE, Folder, Found, listed_keys, match_flat, share_out
from segformer_edu.data.labels import VOID, Labels, colour_of
from segformer_edu.data.maps import read_map
from segformer_edu.data.pairs import PairedPictures, smooths
from segformer_edu.data.report import Report, examine, in_short, listing

MOST = 256
"""Numbers or colours in class maps beyond which they are taken for something else than classes."""
LOSSY = (
    "a class map in a format that changes numbers where classes meet, such as JPEG; expected one that keeps them, such "
    "as PNG. Export the class maps again: what is lost cannot be computed back"
)
Options = Mapping[str, Any]
Taken = tuple[PairedPictures, dict[str, list[str]], dict[str, list[Path]]]


def examine_folder(
    images: str | Path, masks: str | Path, classes: Any = None, *, progress: bool = False, **options: Any
) -> tuple[Report, PairedPictures]:
    """Examine a folder of one's own, also one that ``Folder`` refuses for some of its files.

    Args:
        images: the folder of pictures.
        masks: the folder of class maps.
        classes: as ``Folder`` takes them; None for what stands in the class maps, whatever it is.
        progress: whether to show a bar.
        options: of ``Folder``.

    Returns:
        What was found, and the pairs that can be taken, for figures.

    Raises:
        FileNotFoundError, TypeError, ValueError: what ``Folder`` refuses as a whole: folders without pictures, names
            that pair nothing, classes that are none.

    Source: chapter 7.
    """
    odd: list[str] = []
    if classes is None:
        classes, odd = classes_in(images, masks, options)
        options = {name: value for name, value in options.items() if name != "first"}
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        data, broken, left_out = what_pairs(images, masks, classes, options)
    odd += [text for warning in told if "Left out: " not in (text := str(warning.message)) and text not in odd]
    report = examine(data, progress=progress)
    names = {reason: [in_short(path) for path in files] for reason, files in left_out.items()}
    return replace(report, left_out=names, broken={**broken, **report.broken}, odd=[*odd, *report.odd]), data


def search(images: str | Path, masks: str | Path, options: Options) -> tuple[Found, Found]:
    """Find pictures and class maps as ``Folder`` does, whether they pair or not."""
    folders = Path(images), Path(masks)
    pictures = Found.under(folders[0], options.get("image_pattern", "*"), folders[1])
    maps = Found.under(folders[1], options.get("mask_pattern", "*"), folders[0])
    if pictures.place == maps.place:
        share_out(pictures, maps)
    match_flat(pictures, maps)
    return pictures, maps


def what_pairs(images: str | Path, masks: str | Path, classes: Any, options: Options) -> Taken:
    """Return the pairs that can be taken of a folder, what is wrong with the others, and what is left out."""
    try:
        folder = Folder(images, masks, classes, **options)
        return folder, {}, folder.left_out
    except ValueError as error:
        return in_spite_of(error, images, masks, classes, options)


def in_spite_of(error: ValueError, images: str | Path, masks: str | Path, classes: Any, options: Options) -> Taken:
    """Return the same of a folder that was refused.

    Raises:
        ValueError: classes that are none; or the error that it was refused with, where nothing pairs.
    """
    rest = {name: options[name] for name in ("size", "void", "first", "channels") if name in options}
    PairedPictures([], classes, **rest)
    pictures, maps = search(images, masks, options)
    names = options.get("names")
    keys = sorted(pictures.files) if names is None else list(dict.fromkeys(listed_keys(names, pictures)))
    pairs = [(pictures.files[key], maps.files[key]) for key in keys if key in maps.files]
    if not pairs:
        raise error
    broken = {
        f"no class map of this name in {masks}": [
            in_short(pictures.files[key]) for key in keys if key not in maps.files
        ],
        LOSSY: [in_short(mask) for _, mask in pairs if smooths(mask)],
    }
    left_out: dict[str, list[Path]] = {}
    used = {*pictures.files.values(), *maps.files.values()}
    for reason, files in [*pictures.left_out.items(), *maps.left_out.items()]:
        left_out[reason] = [*dict.fromkeys(left_out.get(reason, []) + [path for path in files if path not in used])]
    left_out[NO_PICTURE] = [path for key, path in sorted(maps.files.items()) if key not in pictures.files]
    data = PairedPictures([pair for pair in pairs if not smooths(pair[1])], classes, **rest)
    return (
        data,
        {reason: items for reason, items in broken.items() if items},
        {reason: files for reason, files in left_out.items() if files},
    )


def classes_in(images: str | Path, masks: str | Path, options: Options) -> tuple[dict[Any, Any], list[str]]:
    """Return the numbers or colours that stand in class maps, each as a class, and notes that say so.

    Raises:
        ValueError: more of them than there can be classes.
    """
    _, maps = search(images, masks, options)
    numbers: set[int] = set()
    colours: set[tuple[int, int, int]] = set()
    for path in maps.files.values():
        try:
            values = read_map(path, Labels.of(1, None)).values
        except Exception:  # whatever a damaged file raises, the examination will name it
            continue
        if values.ndim == 2:
            numbers.update(np.unique(values).tolist())
        else:
            packed = np.unique(values.astype(np.int64) @ np.array([65536, 256, 1])).tolist()
            colours.update((number >> 16, number >> 8 & 255, number & 255) for number in packed)
        check_few(max(len(numbers), len(colours)), path)
    if colours and not numbers:
        return painted_classes(colours)
    void = options.get("void", VOID)
    voids = set(void) if isinstance(void, list | tuple) else {void}
    named = {number: f"class {number}" for number in sorted(numbers if numbers <= {0, VOID} else numbers - voids)}
    notes = [as_they_stand(named, sorted(numbers - named.keys()))] if named else []
    if numbers == {0, VOID}:
        notes.append(
            f"the class maps hold only 0 and {VOID}, and {VOID} means no class unless you say that it is one: by a "
            f"file of classes with the lines '0 background' and '{VOID} crack', say, or by classes={{0: …, {VOID}: …}} "
            f"of Folder"
        )
    return named or {0: "class 0"}, notes


def painted_classes(colours: Iterable[tuple[int, int, int]]) -> tuple[dict[Any, Any], list[str]]:
    """Return colours as classes, named by themselves, and notes that say so."""
    named = {"#{:02x}{:02x}{:02x}".format(*colour): colour for colour in sorted(colours)}
    notes = [as_they_stand(named, [])]
    for name, known in CLASS_LISTS.items():
        if {*named.values()} <= {colour_of(colour) for colour in (*known.colours, known.void) if colour}:
            notes.append(f"these colours are all among those of {known.data}; if they are meant: --classes {name}")
    return named, notes


def check_few(count: int, path: Path) -> None:
    """Raise ValueError if there are more numbers or colours than there can be classes."""
    if count > MOST:
        raise ValueError(
            f"The class maps hold more than {MOST} numbers or colours, up to {path}; expected as many as there are "
            f"classes. Are pictures and class maps mistaken for each other? Colours that run into each other come from "
            f"JPEG or from resizing; many numbers are instances, or depths. If they are classes, say which: --classes."
        )


def as_they_stand(found: Iterable[Any], void: Sequence[int]) -> str:
    """Say that nobody said what the classes are."""
    no_class = f", and {' and '.join(map(str, void))} for no class" if void else ""
    return (
        f"nobody said what the classes are, so what stands in the class maps is taken: "
        f"{listing([str(one) for one in found], 20)}{no_class}. Say it with --classes (classes= of Folder)"
    )
