"""A folder of one's own pictures and class maps: which belong together, and what is left out."""

from __future__ import annotations

import re
import unicodedata
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from segformer_edu.data.formats import PICTURES, foreign
from segformer_edu.data.labels import VOID
from segformer_edu.data.pairs import PairedPictures, Size

BESIDE = (".txt", ".json", ".xml", ".csv", ".md", ".yaml", ".yml", ".html", ".ini", ".db", ".cache", ".log", ".zip")
"""Endings of files that usually lie beside pictures, and are none."""
UNREADABLE, OTHER, NO_MATCH, NO_PICTURE, NOT_LISTED = (
    "in a format that is not read",
    "of no known kind",
    "whose names do not fit the pattern",
    "class maps without a picture",
    "not in the list of names",
)


class Folder(PairedPictures):
    """One's own data: a folder of pictures and a folder of class maps, paired by their names without the ending.

    Folders in folders are searched. What is left out stands in ``left_out``, and a warning tells it with counts; hidden
    files, and what the arguments leave out on purpose, are not warned of.

    Args:
        images: the folder of pictures.
        masks: the folder of class maps; it may be the same.
        classes: what stands for what in the class maps:
            the names, class number 0 first;
            how many classes there are;
            {number: name}, for numbers with gaps, {0: "background", 255: "crack"} say; or {name: number};
            {name: colour}, for painted maps, each colour (red, green, blue) or "#804080", a list for several; or
            {colour: name};
            "ade20k", "cityscapes", "voc", "camvid32" or a ``ClassList``, with names and colours.
        size: (height, width) to resize every item to, in pixels, or one number for both.
        void: the number or colour in the files that means "no class"; several in a list; None where there is none.
        first: the number in the files of class 0: 1 where they count from 1 (with 0 for void, as ADE20K's: void=0).
        image_pattern: names of the pictures, with one star for what they share with their class map's: the whole name
            ("*.jpg"), or the name without the ending ("*_leftImg8bit").
        mask_pattern: names of the class maps likewise, "*_gtFine_labelTrainIds" say.
        names: those to take, in this order: a list, or a text file with one a line.
        channels: of the pictures; see ``inference.as_image``.

    Attributes:
        left_out: for each reason the files that were not taken.

    Raises:
        FileNotFoundError: a folder that is missing or holds no picture, a list of names that is missing.
        TypeError, ValueError: pictures without class maps, names that occur twice or that no picture has; and see
            ``PairedPictures``.

    Source: chapter 7.
    """

    def __init__(
        self,
        images: str | Path,
        masks: str | Path,
        classes: Any,
        *,
        size: Size | None = None,
        void: Any = VOID,
        first: int = 0,
        image_pattern: str = "*",
        mask_pattern: str = "*",
        names: str | Path | Sequence[str] | None = None,
        channels: int = 3,
    ) -> None:
        pictures = Found.under(Path(images), image_pattern, Path(masks))
        maps = Found.under(Path(masks), mask_pattern, Path(images))
        match_flat(pictures, maps)
        keys = sorted(pictures.files) if names is None else listed_keys(names, pictures)
        missing = [key for key in keys if key not in maps.files]
        if missing:
            raise ValueError(missing_text(missing, len(keys), pictures, maps, f"{images}", f"{masks}"))
        self.left_out = pictures.left_out | {
            reason: pictures.left_out.get(reason, []) + files for reason, files in maps.left_out.items()
        }
        self.note(NO_PICTURE, [maps.files[key] for key in sorted(maps.files.keys() - pictures.files.keys())])
        self.note(NOT_LISTED, [pictures.files[key] for key in sorted(pictures.files.keys() - set(keys))])
        pairs = [(pictures.files[key], maps.files[key]) for key in keys]
        super().__init__(pairs, classes, size=size, void=void, first=first, channels=channels)
        self.tell()

    def note(self, reason: str, files: list[Path]) -> None:
        """Note files that are left out."""
        if files:
            self.left_out[reason] = files

    def tell(self) -> None:
        """Warn of what was left out, unless an argument asked for it."""
        told = [reason for reason in (UNREADABLE, OTHER, NO_PICTURE) if self.left_out.get(reason)]
        if told:
            parts = [f"{len(self.left_out[reason])} files {reason} ({shown(self.left_out[reason])})" for reason in told]
            first = self.left_out[UNREADABLE][0].name if UNREADABLE in told else ""
            advice = f" As to {first}, {foreign(first)}." if first else ""
            warnings.warn(f"{len(self)} pairs are taken. Left out: {'; '.join(parts)}.{advice}", stacklevel=3)


def shown(files: Sequence[Path], count: int = 3) -> str:
    """Return the first files' names."""
    return ", ".join(path.name for path in files[:count]) + (", …" if len(files) > count else "")


@dataclass
class Found:
    """The pictures of a folder by what their names share with others, and the files that are none.

    Attributes:
        folder: where they lie.
        pattern: of their names.
        files: for each key, the folder within the folder and what the star stands for, the file.
        left_out: for each reason the files that are not taken.
    """

    folder: Path
    pattern: str
    files: dict[str, Path] = field(default_factory=dict)
    left_out: dict[str, list[Path]] = field(default_factory=dict)

    @classmethod
    def under(cls, folder: Path, pattern: str, other: Path) -> Found:
        """Search a folder and those in it, but for the other one of the two.

        Raises:
            FileNotFoundError: no folder, or none of its files is taken.
            ValueError: a pattern without one star, two files of one name.
        """
        if not folder.is_dir():
            raise FileNotFoundError(f"There is no folder {folder.absolute()}; check the path.")
        found, star = cls(folder, pattern), star_of(pattern)
        for path in visible(folder, other):
            reason = refusal(path)
            match = star(path)
            if not reason and match is None:
                reason = NO_MATCH
            if reason:
                found.left_out.setdefault(reason, []).append(path)
                continue
            key = unicodedata.normalize("NFC", (path.relative_to(folder).parent / str(match)).as_posix())
            if key in found.files:
                other = found.files[key]
                raise ValueError(
                    f"{folder} holds {other.name} and {path.name}; expected one of each name. A pattern chooses: "
                    f"'*{path.suffix}'."
                )
            found.files[key] = path
        if not found.files:
            raise FileNotFoundError(found.nothing())
        return found

    def nothing(self) -> str:
        """Say that there is no picture, and what there is."""
        unread = self.left_out.get(UNREADABLE, [])
        advice = f" It holds {shown(unread)}: {foreign(unread[0].name)}." if unread else ""
        if misfits := self.left_out.get(NO_MATCH):
            return (
                f"No picture in {self.folder.absolute()} has a name like {self.pattern!r}; it holds {shown(misfits)}."
            )
        return (
            f"{self.folder.absolute()} holds no picture; expected files ending in {', '.join(PICTURES)}.{advice}"
        )  # fmt: skip


def visible(folder: Path, other: Path) -> Iterator[Path]:
    """Yield the files in a folder and those in it, but for hidden ones and the other folder, if that lies in it."""
    inner = other.absolute() if folder.absolute() in other.absolute().parents else None
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        hidden = any(part.startswith(".") or part in ("__MACOSX", "Thumbs.db", "desktop.ini") for part in parts)
        if path.is_file() and not hidden and inner not in path.absolute().parents:
            yield path


def refusal(path: Path) -> str:
    """Say why a file is not taken for a picture; "" if it is."""
    suffix = path.suffix.lower()
    if suffix in PICTURES:
        return ""
    if foreign(path.name):
        return UNREADABLE
    return "beside the pictures" if suffix in BESIDE else OTHER


def star_of(pattern: str) -> Any:
    """Return a function that says what the star in a pattern stands for in a file's name, None where it does not fit.

    Raises:
        ValueError: other than one star.
    """
    if not isinstance(pattern, str) or pattern.count("*") != 1:
        raise ValueError(f"The pattern is {pattern!r}; expected one star in it, such as '*_mask' or '*.png'.")
    form = unicodedata.normalize("NFC", pattern)
    expression = re.compile("(.+)".join(map(re.escape, form.split("*"))), re.DOTALL)
    whole_name = Path(form).suffix.lower() in PICTURES

    def star(path: Path) -> str | None:
        match = expression.fullmatch(unicodedata.normalize("NFC", path.name if whole_name else path.stem))
        return match[1] if match else None

    return star


def match_flat(pictures: Found, maps: Found) -> None:
    """Where the folders in the two folders differ, pair by the name alone, if no name occurs twice."""
    if pictures.files.keys() <= maps.files.keys():
        return
    flat = [{key.rsplit("/", 1)[-1]: path for key, path in found.files.items()} for found in (pictures, maps)]
    if all(len(names) == len(found.files) for names, found in zip(flat, (pictures, maps))):
        pictures.files, maps.files = flat


def listed_keys(names: str | Path | Sequence[str], pictures: Found) -> list[str]:
    """Return the keys of the pictures that a list names, with or without folder, ending and the rest of the pattern.

    Raises:
        FileNotFoundError: no such list.
        ValueError: a list that is no text, is empty, or names what is not there.
    """
    lines = [name.strip() for name in (read_names(Path(names)) if isinstance(names, str | Path) else names)]
    lines = [unicodedata.normalize("NFC", line) for line in lines if line]
    known: dict[str, set[str]] = {}
    for key, path in pictures.files.items():
        full = path.relative_to(pictures.folder)
        for name in {
            key,
            key.rsplit("/", 1)[-1],
            full.as_posix(),
            full.with_suffix("").as_posix(),
            path.name,
            path.stem,
        }:
            known.setdefault(unicodedata.normalize("NFC", name), set()).add(key)
    keys: list[str] = []
    unknown: list[str] = []
    for line in lines:
        options = [line, line.split()[0], Path(line.split()[0]).name, Path(line.split()[0]).stem]
        found = next((known[name] for name in options if name in known), set())
        if len(found) > 1:
            raise ValueError(
                f"The list names {line!r}, which is {' and '.join(sorted(found)[:2])}; give the folder too."
            )
        keys.extend(found)
        unknown.extend([] if found else [line])
    if unknown or not keys:
        what = f"{len(unknown)} of {len(lines)} names of the list have no picture in {pictures.folder} (first: "
        raise ValueError(f"{what}{', '.join(unknown[:3])})." if unknown else "The list of names is empty.")
    return list(dict.fromkeys(keys))


def read_names(path: Path) -> list[str]:
    """Read the lines of a list.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a file that is no text.
    """
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except (FileNotFoundError, IsADirectoryError):
        raise FileNotFoundError(
            f"There is no list {path.absolute()}; expected a text file with one name a line."
        ) from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text ({error}); expected UTF-8, one name a line.") from error


def missing_text(missing: list[str], count: int, pictures: Found, maps: Found, images: str, masks: str) -> str:
    """Say which pictures have no class map, and what would pair them."""
    text = (
        f"{len(missing)} of {count} pictures in {images} have no class map in {masks} (first: "
        f"{', '.join(missing[:3])}); expected one of the same name each, such as {missing[0]}.png."
    )
    name = missing[0].rsplit("/", 1)[-1]
    for whole in (pictures.files[missing[0]].name, name):
        fitting = next(
            (path for key, path in maps.files.items() if whole in path.name and key not in pictures.files), None
        )
        if fitting is not None:
            pattern = fitting.name.replace(whole, "*" if whole == name else f"*{Path(whole).suffix}", 1)
            return f"{text} There is {fitting.name}: mask_pattern={pattern!r} would pair it."
    if len(missing) < count:
        text += " names= takes some of the pictures alone."
    return text
