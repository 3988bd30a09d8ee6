"""A folder of one's own pictures and class maps: which belong together, and what is left out."""

from __future__ import annotations

import os
import re
import unicodedata
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from segformer_edu.data.formats import PICTURES, ending_of, foreign, is_picture
from segformer_edu.data.labels import VOID
from segformer_edu.data.pairs import PairedPictures, Size

BESIDE = (".txt", ".json", ".xml", ".csv", ".md", ".yaml", ".yml", ".html", ".ini", ".db", ".cache", ".log", ".zip")
"""Endings of files that usually lie beside pictures, and are none."""
HIDDEN = ("__MACOSX", "@eaDir", "Thumbs.db", "desktop.ini")
"""Names of what operating systems put beside pictures; so are all that begin with a dot."""
UNREADABLE, ARRAY, OTHER, NOWHERE, NO_MATCH, NO_PICTURE, NOT_LISTED, TWICE = (
    "in a format that is not read",
    "arrays, which are taken where they are named",
    "of no known kind",
    "links to nothing",
    "whose names do not fit the pattern",
    "class maps without a picture",
    "not in the list of names",
    "once more in the list of names",
)
PATTERNS = (
    " image_pattern= and mask_pattern= say what names share: '*_leftImg8bit' and '*_labelTrainIds', for instance."
)
TOLD = (UNREADABLE, ARRAY, OTHER, NOWHERE, NO_PICTURE, TWICE)


class Folder(PairedPictures):
    """One's own data: a folder of pictures and a folder of class maps, paired by their names without the ending.

    Folders in folders are searched, links too; where the folders in the two differ, the names alone pair, if none
    occurs twice. What is left out stands in ``left_out``, and a warning tells it with counts; hidden files, and what
    the arguments leave out on purpose, are not warned of. In one folder for both, a file that fits both patterns
    belongs to the longer one.

    Args:
        images: the folder of pictures.
        masks: the folder of class maps; it may be the same.
        classes: what stands for what in the class maps:
            the names, class number 0 first;
            how many classes there are;
            {number: name}, for numbers with gaps, {0: "background", 255: "crack"} say; or {name: number}, a list for
            several numbers; classes are numbered anew from 0, in the order of their numbers;
            {name: colour}, for painted maps, each colour (red, green, blue) or "#804080", a list for several; or
            {colour: name}; then colours alone count, also those of palettes and shades of grey;
            "ade20k", "cityscapes", "voc", "camvid32" or a ``ClassList``, with names and colours.
        size: (height, width) to resize every item to, in pixels, or one number for both.
        void: the number or colour in the files that means "no class"; several in a list; None where there is none.
        first: the number in the files of class 0: 1 where they count from 1 (with 0 for void, as ADE20K's: void=0).
        image_pattern: names of the pictures, with one star for what they share with their class map's: the whole name
            (``"*.jpg"``), or the name without the ending (``"*_leftImg8bit"``).
        mask_pattern: names of the class maps likewise, ``"*_gtFine_labelTrainIds"`` say.
        names: those to take, in this order: a list, or a text file (UTF-8) with one a line; with or without folders,
            endings and what the pattern adds, and with the class map's name behind it or not.
        channels: of the pictures; see ``inference.as_image``.

    Attributes:
        left_out: for each reason the files that were not taken.

    Raises:
        FileNotFoundError: a folder that is missing or holds no picture, a list of names that is missing.
        PermissionError: a folder that cannot be searched.
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
        for name, folder in {"images": images, "masks": masks}.items():
            if not isinstance(folder, str | os.PathLike):
                raise TypeError(f"{name} is {folder!r}; expected the path of a folder.")
        folders = Path(images), Path(masks)
        pictures, maps = (
            Found.under(folders[0], image_pattern, folders[1]),
            Found.under(folders[1], mask_pattern, folders[0]),
        )
        if pictures.place == maps.place:
            share_out(pictures, maps)
        match_flat(pictures, maps)
        keys = sorted(pictures.files) if names is None else listed_keys(names, pictures)
        missing = [key for key in dict.fromkeys(keys) if key not in maps.files]
        if missing:
            raise ValueError(missing_text(missing, len(keys), pictures, maps))
        taken = {*pictures.files.values(), *maps.files.values()}
        self.left_out: dict[str, list[Path]] = {}
        for reason in pictures.left_out | maps.left_out:
            files = dict.fromkeys(pictures.left_out.get(reason, []) + maps.left_out.get(reason, []))
            self.note(reason, [path for path in files if path not in taken])
        self.note(NO_PICTURE, [maps.files[key] for key in sorted(maps.files.keys() - pictures.files.keys())])
        self.note(NOT_LISTED, [pictures.files[key] for key in sorted(pictures.files.keys() - set(keys))])
        self.note(TWICE, [pictures.files[key] for key, count in Counter(keys).items() if count > 1])
        pairs = [(pictures.files[key], maps.files[key]) for key in dict.fromkeys(keys)]
        super().__init__(pairs, classes, size=size, void=void, first=first, channels=channels)
        self.tell()

    def note(self, reason: str, files: list[Path]) -> None:
        """Note files that are left out."""
        if files:
            self.left_out[reason] = files

    def tell(self) -> None:
        """Warn of what was left out, unless an argument asked for it."""
        if text := words_of(self.left_out):
            warnings.warn(f"Pairs taken: {len(self)}. {text}", stacklevel=3)


def words_of(left_out: Mapping[str, Sequence[Path]]) -> str:
    """Say what was left out for reasons that nobody asked for, and what to do; "" if nothing was."""
    told = [reason for reason in TOLD if left_out.get(reason)]
    if not told:
        return ""
    parts = [told_of(reason, left_out[reason]) for reason in told]
    first = left_out[UNREADABLE][0].name if UNREADABLE in told else ""
    advice = f" As to {first}, {foreign(first)}." if first else ""
    return f"Left out: {'; '.join(parts)}.{advice}"


def told_of(reason: str, files: Sequence[Path]) -> str:
    """Return a reason with how many files have it, and the first ones' names."""
    return f"{reason}: {len(files)} ({shown(files)})"


def shown(files: Sequence[Path], count: int = 3) -> str:
    """Return the first files' names."""
    return ", ".join(path.name for path in files[:count]) + (", …" if len(files) > count else "")


@dataclass
class Found:
    """The pictures of a folder by what their names share with others, and the files that are none.

    Attributes:
        folder: where they lie.
        place: the same, less links and dots.
        pattern: of their names.
        files: for each key, the folder within the folder and what the star stands for, the file.
        left_out: for each reason the files that are not taken.
    """

    folder: Path
    place: str
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
        found, star = cls(folder, os.path.realpath(folder), pattern), star_of(pattern)
        for path in visible(folder, os.path.realpath(other)):
            match = star(path)
            reason = refusal(path) or ("" if match else NO_MATCH)
            if reason:
                found.left_out.setdefault(reason, []).append(path)
                continue
            key = unicodedata.normalize("NFC", (path.relative_to(folder).parent / str(match)).as_posix())
            if key in found.files:
                raise ValueError(
                    f"{folder} holds {found.files[key].name} and {path.name}; expected one of each name. A pattern "
                    f"chooses: '*{path.suffix}'."
                )
            found.files[key] = path
        if not found.files:
            raise FileNotFoundError(found.nothing())
        return found

    def nothing(self) -> str:
        """Say that there is no picture, and what there is."""
        if misfits := self.left_out.get(NO_MATCH):
            return (
                f"No picture in {self.folder.absolute()} has a name like {self.pattern!r}; it holds {shown(misfits)}."
            )
        others = [told_of(reason, files) for reason, files in self.left_out.items() if reason in TOLD]
        kind = foreign(self.left_out[UNREADABLE][0].name) if UNREADABLE in self.left_out else ""
        return (
            f"{self.folder.absolute()} holds no picture; expected files ending in {', '.join(PICTURES)}."
            + (f" It holds files {'; '.join(others)}." if others else "")
            + (f" As to the first, {kind}." if kind else "")
        )


def visible(folder: Path, other: str) -> Iterator[Path]:
    """Yield the files in a folder and those in it, but for hidden ones and the other folder, if that lies in it.

    Links to folders are followed, each folder is searched once.

    Raises:
        PermissionError: a folder that cannot be searched.
    """

    def refuse(error: OSError) -> None:
        raise PermissionError(f"The folder {error.filename} cannot be searched ({error.strerror}).") from error

    top = os.path.realpath(folder)
    searched = {other} - {top}
    for place, folders, files in os.walk(folder, followlinks=True, onerror=refuse):
        real = os.path.realpath(place)
        if real in searched:
            folders.clear()
            continue
        searched.add(real)
        folders[:] = sorted(name for name in folders if not is_hidden(name))
        yield from (Path(place, name) for name in sorted(files) if not is_hidden(name))


def is_hidden(name: str) -> bool:
    """Say whether a file or folder is the operating system's own."""
    return name.startswith(".") or name in HIDDEN


def refusal(path: Path) -> str:
    """Say why a file is not taken for a picture; "" if it is."""
    if is_picture(path.name):
        if path.is_file():
            return ""
        return OTHER if path.exists() else NOWHERE
    if ending_of(path.name) in BESIDE:
        return "beside the pictures"
    return UNREADABLE if foreign(path.name) else OTHER


def star_of(pattern: str) -> Callable[[Path], str | None]:
    """Return a function that says what the star in a pattern stands for in a file's name, None where it does not fit.

    Capital and small letters are the same in the rest of the pattern: ``"*.jpg"`` fits A.JPG.

    Raises:
        ValueError: other than one star.
    """
    if not isinstance(pattern, str) or pattern.count("*") != 1:
        raise ValueError(f"The pattern is {pattern!r}; expected one star in it, such as '*_mask' or '*.png'.")
    form = unicodedata.normalize("NFC", pattern)
    expression = re.compile("(.+)".join(map(re.escape, form.split("*"))), re.DOTALL | re.IGNORECASE)
    whole_name = is_picture(form)

    def star(path: Path) -> str | None:
        match = expression.fullmatch(unicodedata.normalize("NFC", path.name if whole_name else path.stem))
        return match[1] if match else None

    return star


def share_out(pictures: Found, maps: Found) -> None:
    """Where pictures and class maps lie in one folder, give each file that fits both patterns to the longer one."""
    longer, shorter = (maps, pictures) if len(maps.pattern) > len(pictures.pattern) else (pictures, maps)
    if longer.pattern == shorter.pattern:
        raise ValueError(
            f"{maps.folder} holds both pictures and class maps, and every file is taken for both; expected patterns "
            f"that tell them apart, such as image_pattern='*.jpg' and mask_pattern='*.png', or mask_pattern='*_mask'."
        )
    taken = set(longer.files.values())
    shorter.files = {key: path for key, path in shorter.files.items() if path not in taken}


def match_flat(pictures: Found, maps: Found) -> None:
    """Where the folders in the two folders differ, pair by the name alone, if no name occurs twice."""
    if pictures.files.keys() <= maps.files.keys():
        return
    flat = [{key.rsplit("/", 1)[-1]: path for key, path in found.files.items()} for found in (pictures, maps)]
    if all(len(names) == len(found.files) for names, found in zip(flat, (pictures, maps))):
        pictures.files, maps.files = flat


def listed_keys(names: Any, pictures: Found) -> list[str]:
    """Return the keys of the pictures that a list names, with or without folder, ending and the rest of the pattern.

    Raises:
        FileNotFoundError: no such list.
        TypeError: names that are no text.
        ValueError: a list that is no text, is empty, or names what is not there.
    """
    if not isinstance(names, str | Path | Iterable) or isinstance(names, Set):
        raise TypeError(f"names is {names!r}; expected a list of names, or the path of a text file with one a line.")
    given = read_names(Path(names)) if isinstance(names, str | Path) else list(names)
    if wrong := [name for name in given if not isinstance(name, str | Path)]:
        raise TypeError(f"names holds {wrong[0]!r}; expected the names of pictures.")
    lines = [line for name in given if (line := unicodedata.normalize("NFC", str(name)).strip())]
    known: dict[str, set[str]] = {}
    for key, path in pictures.files.items():
        for name in {*ends_of(key), *ends_of(path.relative_to(pictures.folder).as_posix())}:
            known.setdefault(unicodedata.normalize("NFC", name), set()).add(key)
    keys: list[str] = []
    unknown: list[str] = []
    for line in lines:
        found = next((known[name] for name in [line, *ends_of(first_name(line))] if name in known), set())
        if len(found) > 1:
            raise ValueError(
                f"The list names {line!r}, which is {' and '.join(sorted(found)[:2])}; give the folder too."
            )
        keys.extend(found)
        unknown.extend([] if found else [line])
    if unknown or not keys:
        what = f"{len(unknown)} of {len(lines)} names of the list have no picture in {pictures.folder} (first: "
        raise ValueError(
            f"{what}{', '.join(repr(name)[1:-1][:80] for name in unknown[:3])})."
            if unknown
            else f"The list of names is empty; expected names of pictures in {pictures.folder}, one a line."
        )
    return keys


def first_name(line: str) -> str:
    """Return a line of a list, or the first name where it has several: "a.jpg a.png", "a.jpg,a.png"."""
    first = re.split(r"[\s,;]", line)[0]
    return (first if is_picture(first) else line).replace("\\", "/")


def ends_of(name: str) -> list[str]:
    """Return a path, what stays of it without the first folders, and all that without the ending, longest first."""
    parts = name.split("/")
    ends = ["/".join(parts[start:]) for start in range(len(parts))]
    return [form for end in ends for form in ([end, os.path.splitext(end)[0]] if is_picture(end) else [end])]


def read_names(path: Path) -> list[str]:
    """Read the lines of a list.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a file that is no text.
    """
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text ({error}); expected UTF-8, one name a line.") from error
    except (OSError, ValueError) as error:
        raise FileNotFoundError(
            f"There is no list {path.absolute()} ({getattr(error, 'strerror', error)}); expected a text file with "
            f"one name a line, or names=[name, …]."
        ) from None


def missing_text(missing: list[str], count: int, pictures: Found, maps: Found) -> str:
    """Say which pictures have no class map, and what would pair them."""
    expected = maps.pattern.replace("*", missing[0].rsplit("/", 1)[-1])
    text = (
        f"{len(missing)} of {count} pictures in {pictures.folder} have no class map in {maps.folder} (first: "
        f"{', '.join(missing[:3])}); expected one of the same name each, such as "
        f"{expected if is_picture(expected) else f'{expected}.png'}."
    )
    for reason in (UNREADABLE, OTHER, NOWHERE):
        if files := maps.left_out.get(reason):
            text += f" Left out there, {told_of(reason, files)}."
    some = " names= takes some of the pictures alone."
    return text + advice_on(missing[0], pictures, maps, some if len(missing) < count else PATTERNS)


def advice_on(key: str, pictures: Found, maps: Found, otherwise: str) -> str:
    """Say what would give a picture its class map; ``otherwise`` if no file looks like it."""
    name = key.rsplit("/", 1)[-1]
    for whole in (pictures.files[key].name, name):
        free = (path for other, path in maps.files.items() if other not in pictures.files)
        fitting = next((path for path in free if whole in path.name), None)
        if fitting is not None and fitting.stem == name:
            return f" There is {fitting}; expected the same folders for both, since names occur more than once."
        if fitting is not None:
            pattern = fitting.name.replace(whole, "*" if whole == name else f"*{Path(whole).suffix}", 1)
            return f" There is {fitting.name}: mask_pattern={pattern!r} would pair it."
    return otherwise
