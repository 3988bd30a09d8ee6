"""``segformer-edu check-data``: a folder of pictures and class maps, told before anybody trains."""

from __future__ import annotations

import argparse
import io
import json
import re
import sys
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from segformer_edu.cli.command import Add, Command, check_free, write_whole
from segformer_edu.cli.terminal import UsersError, complain, explained, tell
from segformer_edu.data.classes import CLASS_LISTS, spare_colours
from segformer_edu.data.layouts import Layout, find_layouts, with_patterns
from segformer_edu.data.pairs import PairedPictures
from segformer_edu.data.report import Report
from segformer_edu.data.survey import examine_folder

SHEETS = (".png", ".jpg", ".jpeg", ".webp", ".pdf")
SHOWN = 12
COLOUR = r"#?([0-9a-fA-F]{6})"
THREE = r"(\d{1,3})[\s,;]+(\d{1,3})[\s,;]+(\d{1,3})"
FORMS = (
    (rf"{THREE}[\s,;]+(\S.*)", lambda found: (found[4], tuple(map(int, found.groups()[:3])))),
    (rf"(.*[^\s,;:])[\s,;:]+{THREE}", lambda found: (found[1], tuple(map(int, found.groups()[1:])))),
    (rf"(.*[^\s,;:])[\s,;:]+#{COLOUR[2:]}", lambda found: (found[1], f"#{found[2]}")),
    (r"(\d+)[\s,;:]+(\S.*)", lambda found: (found[2], int(found[1]))),
)
"""How a line of a file of classes may be written, and what it says: a name, and its colour or its number."""

USAGE = """segformer-edu check-data FOLDER [--images SUB --masks SUB]
           [--classes NAMES | --classes-file FILE] [--void NUMBER|COLOUR|none]
           [--first NUMBER] [--image-pattern NAME] [--mask-pattern NAME]
           [--names LIST] [--sheet FILE] [--overwrite]"""

TEXT = f"""Examine pictures and their class maps before anybody trains on them: pairs,
sizes, classes with their shares of the pixels and in how many pictures they
are, what is void, what is left out and why, what is odd, and every file that
would stop a training, with its reason.

FOLDER holds the data as usual data sets do: images and masks, JPEGImages and
SegmentationClass, leftImg8bit and gtFine, images and annotations, train and
trainannot (or _masks, _labels), a.jpg beside a.png or a_mask.png. Where there
are several of these, one a split, each is examined. --images and --masks say it
where it is not found.

--classes says what stands in the class maps: how many classes; names in their
order, with commas ("sky,road,tree"); or {", ".join(CLASS_LISTS)}.
--classes-file is a file with a name a line, alone or with its number (7 road)
or its colour (road 128 64 128; road #804080); or JSON as Folder takes it.
Without either, whatever stands in the files is taken.

--void is what means "no class": 255 by default, none where there is no such.
--first is the number of the first class: 1 where the files count from 1.
A pattern has one star for what a picture's name shares with its class map's:
*_leftImg8bit and *_gtFine_labelTrainIds.

--sheet draws pictures and class maps side by side, as many classes as they can
show: look whether they belong together."""

EXAMPLES = """examples:
  segformer-edu check-data my-data --classes background,crack --sheet sheet.png
  segformer-edu check-data VOCdevkit/VOC2012 --classes voc
  segformer-edu check-data potsdam --images rgb --masks painted \\
      --classes-file colours.txt --mask-pattern "*_label"

exit codes: 0 nothing was found that would stop a training; 1 something was, or
the folder is not as it should be; 2 wrong usage"""


def a_void(text: str) -> Any:
    """Read ``--void``."""
    if text.lower() == "none":
        return None
    if re.fullmatch(r"-?\d+", text):
        return int(text)
    if found := re.fullmatch(COLOUR, text):
        return f"#{found[1]}"
    raise argparse.ArgumentTypeError(f"{text!r} is no void; expected a number, a colour such as #000000, or none")


def some_classes(text: str) -> Any:
    """Read ``--classes``."""
    if text.isdigit():
        return int(text)
    return text if text.lower() in CLASS_LISTS else [name.strip() for name in text.split(",") if name.strip()]


def a_number(text: str) -> int:
    """Read ``--first``."""
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is no number; expected 0, 1, …")
    return int(text)


def add_reading_options(add: Add) -> None:
    """Add the options that say where in a folder the pictures are, and how their class maps are to be read."""
    add("--images", metavar="SUB", help="the folder of pictures, in FOLDER")
    add("--masks", metavar="SUB", help="the folder of class maps, in FOLDER")
    add("--classes", type=some_classes, metavar="NAMES", help="a number, names with commas, or a data set")
    add("--classes-file", type=Path, metavar="FILE", help="the classes in a file")
    add("--void", type=a_void, default=255, metavar="VALUE", help='what means "no class"; 255 by default, or none')
    add("--first", type=a_number, default=0, metavar="NUMBER", help="of the first class in the files; 0 by default")
    add("--image-pattern", metavar="NAME", help="of the pictures, with one star")
    add("--mask-pattern", metavar="NAME", help="of the class maps, with one star")
    add("--names", type=Path, metavar="LIST", help="a text file with the names of those to take, one a line")


def add_options(add: Add) -> None:
    """Add the options of ``check-data``."""
    add("folder", metavar="FOLDER", type=Path, help="where the data lie")
    add_reading_options(add)
    add("--sheet", type=Path, metavar="FILE", help=f"also draw some of them: {', '.join(SHEETS)}")
    add("--overwrite", action="store_true", help="replace the sheet if it exists; otherwise it is never touched")


def run(given: argparse.Namespace) -> int:
    """Examine the folder, tell what is in it, and draw a sheet."""
    if given.sheet and given.sheet.suffix.lower() not in SHEETS:
        raise UsersError(f"--sheet {given.sheet} has the ending {given.sheet.suffix!r}; expected {', '.join(SHEETS)}.")
    classes = given_classes(given)
    layouts = wanted_layouts(given)
    sheets = sheets_of(given.sheet, layouts)
    check_free([path for path in sheets if path], given.overwrite)
    code = 0
    for layout, sheet in zip(layouts, sheets):
        try:
            report, data = examine_layout(layout, classes, given)
        except (OSError, ValueError, TypeError) as error:
            complain(explained(error) or "")
            code = 1
            continue
        tell(f"{report}\n")
        code = code if report.sound else 1
        if sheet and report.pairs:
            draw_sheet(sheet, report, data)
            tell(f"written: {sheet}")
    return code


def wanted_layouts(given: argparse.Namespace) -> list[Layout]:
    """Return where pictures and class maps are: as told, or as found.

    Raises:
        UsersError: one of the two folders alone.
        FileNotFoundError: no folder, or no layout that is known.
    """
    if bool(given.images) != bool(given.masks):
        raise UsersError("--images and --masks go together; one of them alone does not say where the other is.")
    if given.images:
        folders = given.folder / given.images, given.folder / given.masks
        if gone := [folder for folder in folders if not folder.is_dir()]:
            raise UsersError(f"There is no folder {gone[0]}; --images and --masks name folders in {given.folder}.")
        layouts = [with_patterns(*folders)]
    else:
        layouts = find_layouts(given.folder)
    said = {"image_pattern": given.image_pattern, "mask_pattern": given.mask_pattern, "names": given.names}
    return [replace(layout, **{name: value for name, value in said.items() if value}) for layout in layouts]


def sheets_of(sheet: Path | None, layouts: Sequence[Layout]) -> list[Path | None]:
    """Return the file of each layout's sheet: where there are several, with a number behind its name."""
    if sheet is None or len(layouts) == 1:
        return [sheet] * len(layouts)
    return [sheet.with_name(f"{sheet.stem}-{number}{sheet.suffix}") for number in range(1, len(layouts) + 1)]


def examine_layout(layout: Layout, classes: Any, given: argparse.Namespace) -> tuple[Report, PairedPictures]:
    """Say which folders are examined, and examine them."""
    options = {"image_pattern": layout.image_pattern, "mask_pattern": layout.mask_pattern}
    patterns = [f", {name}={value!r}" for name, value in options.items() if value != "*"]
    names = f", names={str(layout.names)!r}" if layout.names else ""
    tell(f"Folder({str(layout.images)!r}, {str(layout.masks)!r}, …{''.join(patterns)}{names})")
    return examine_folder(
        layout.images,
        layout.masks,
        classes,
        void=given.void,
        first=given.first,
        names=layout.names,
        progress=sys.stderr.isatty(),
        **options,
    )


def given_classes(given: argparse.Namespace) -> Any:
    """Return what ``--classes`` or ``--classes-file`` says; None where neither is given.

    Raises:
        FileNotFoundError: no such file.
        UsersError: both are given, two classes have one name, or the file cannot be read.
    """
    if given.classes is not None and given.classes_file:
        raise UsersError("--classes and --classes-file exclude each other.")
    classes = read_classes(given.classes_file) if given.classes_file else given.classes
    if isinstance(classes, list):
        check_names([name for name in classes if isinstance(name, str)])
    return classes


def check_names(names: Sequence[str]) -> None:
    """Raise UsersError if two classes have one name."""
    if twice := [name for name in names if names.count(name) > 1]:
        raise UsersError(
            f"{names.count(twice[0])} classes have the name {twice[0]!r}; expected a name of its own each."
        )


def by_name(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """Return the values by their names, of which a dictionary would silently lose the first of two."""
    check_names([name for name, _ in pairs])
    return dict(pairs)


def read_classes(path: Path) -> Any:
    """Read a file of classes.

    Raises:
        FileNotFoundError: no such file.
        UsersError: lines of several forms, two classes of one name, or JSON that holds something else.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (FileNotFoundError, IsADirectoryError):
        raise FileNotFoundError(f"There is no file of classes {path}; check the name and the folder.") from None
    except UnicodeDecodeError as error:
        raise UsersError(f"{path} is no text ({error}); expected UTF-8, a class a line, or JSON.") from error
    if path.suffix.lower() == ".json" or text.lstrip().startswith(("[", "{")):
        try:
            return json.loads(text, object_pairs_hook=by_name)
        except ValueError as error:
            raise UsersError(f"{path} is no JSON ({error}).") from error
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if line and not line.startswith(("# ", "//")) and line.lower() != "name,r,g,b"]
    if not lines:
        raise UsersError(f"{path} is empty; expected a class a line.")
    for form, said in FORMS:
        found = [re.fullmatch(form, line) for line in lines]
        if all(found):
            return by_name([said(each) for each in found if each])
        if any(found) and len(lines) > 1:
            odd = lines[found.index(None)]
            raise UsersError(
                f"{path} has lines of several forms, such as {odd!r}; expected one, names and colours say."
            )
    return lines


def draw_sheet(path: Path, report: Report, data: PairedPictures) -> None:
    """Draw pictures and class maps side by side."""
    from segformer_edu.pages import plots  # here: matplotlib is slow to import

    pairs = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # all that is odd has been told; and matplotlib lacks some letters
        for index in report.examples(SHOWN):
            image = data.pairs[index][0]
            pairs[f"{image.parent.name}/{image.name}"] = data[index]
        colours = spare_colours(len(data.classes))  # those of a data set are often not safe for colour-blind readers
        figure = plots.contact_sheet(pairs, classes=data.classes, colours=colours)
        buffer = io.BytesIO()
        figure.savefig(buffer, format=path.suffix[1:].lower(), dpi=130, facecolor="white")
    write_whole(path, buffer.getvalue())


COMMAND = Command(
    "tell what is in a folder of pictures and class maps, and what is wrong with it",
    USAGE, TEXT, EXAMPLES, add_options, run,
)  # fmt: skip
