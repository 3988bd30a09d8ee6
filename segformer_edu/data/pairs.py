"""Pictures and class maps that lie in pairs of files."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset

from segformer_edu.data.files import head_of, open_picture, read_array, stored
from segformer_edu.data.formats import LOSSY
from segformer_edu.data.labels import VOID, Labels
from segformer_edu.data.maps import read_map
from segformer_edu.data.orientation import BACK, turned, upright_size
from segformer_edu.data.pictures import from_array, resize, to_tensor
from segformer_edu.validation import check_positive

Size = int | tuple[int, int]


class PairedPictures(Dataset):
    """Pictures and their class maps, read from pairs of files.

    A class map of one channel holds numbers; one in colour is translated where ``classes`` tells its colours. Picture
    and map are turned as EXIF's notes say that the camera was held. Where one of them alone has such a note, the map is
    turned so that its size fits the picture's; where both ways fit, it is shown as its own file says, and a warning
    tells it.

    Args:
        pairs: for each item the picture's file and the class map's, as paths; .npy files hold arrays, of pictures
            (H, W, C), of maps (H, W).
        classes: the classes; see ``Folder``.
        colours: one a class, for figures; the data set's own or colour-blind-safe ones by default.
        size: (height, width) to resize every item to, in pixels, or one number for both; each file's own by default.
        void: the number, or the colour, in the files that means "no class"; several in a list; None where there is
            none. It becomes ``ignore_index``.
        first: the number in the files of class 0: 1 where the classes are counted from 1.
        channels: of the pictures; see ``inference.as_image``.

    Attributes:
        pairs: paths of pictures and class maps.
        classes: the names; class number 0 is the first.
        colours: one a class.
        ignore_index: the number in an item's class map that means "no class": 255, or -100 beyond 255 classes.

    Items: an image (channels, H, W) in [0, 1] and its class map (H, W) of int64.

    Raises:
        TypeError, ValueError: classes, sizes or pairs other than these, class maps in a lossy format; and when an item
            is read: a file that is no picture, a class map of another size than its picture, with fractions, or with a
            number or colour that is no class.
        FileNotFoundError: when an item is read, a file that is not there.

    Warns, once each, of class maps of 0 and 255 alone, of files with several class maps, and of ADE20K's classes read
    with ``first`` 0.

    Source: chapter 7.
    """

    def __init__(
        self,
        pairs: Sequence[tuple[str | Path, str | Path]],
        classes: Any,
        *,
        colours: Sequence[str] | None = None,
        size: Size | None = None,
        void: Any = VOID,
        first: int = 0,
        channels: int = 3,
    ) -> None:
        self.size = checked_size(size)
        check_positive(channels=channels)
        self.pairs, self.channels, self.void = [checked_pair(pair) for pair in pairs], int(channels), void
        self.labels = Labels.of(classes, void, first)
        self.classes = self.labels.names
        self.colours = tuple(colours or self.labels.colours)
        self.ignore_index = self.labels.void
        self.warned: set[str] = set()
        lossy = [mask.name for _, mask in self.pairs if smooths(mask)]
        if lossy:
            raise ValueError(
                f"{len(lossy)} of {len(self.pairs)} class maps are in a format that changes numbers where classes meet "
                f"(first: {', '.join(lossy[:3])}); expected one that keeps them, such as PNG. Export the class maps "
                f"again: what is lost cannot be computed back."
            )

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        image_path, mask_path = self.pairs[index]
        image, note = self.read_image(image_path)
        mask = self.read_mask(mask_path, image_path, (image.shape[-2], image.shape[-1]), note)
        if self.size is not None:
            image = resize(image, self.size)
            rows, columns = (middles(new, old) for new, old in zip(self.size, mask.shape))
            mask = mask[rows][:, columns]
        return image, mask

    def read_image(self, path: Path) -> tuple[torch.Tensor, int]:
        """Read a picture, upright, and EXIF's note of how it was held."""
        try:
            if path.suffix.lower() == ".npy":
                return from_array(read_array(path), self.channels), 1
            picture = open_picture(path)
            return to_tensor(picture, self.channels), stored(picture).note
        except (TypeError, ValueError) as error:
            raise ValueError(str(error) if str(path) in str(error) else f"{path}: {error}") from error

    def read_mask(self, path: Path, image_path: Path, size: tuple[int, int], note: int) -> torch.Tensor:
        """Read a class map (H, W), every value a class or ``ignore_index``.

        Args:
            path: of the class map.
            image_path: of its picture.
            size: (height, width) of the picture, upright.
            note: EXIF's, of the picture.
        """
        found = read_map(path, self.labels)
        values = found.values
        if values.ndim == 3 and not self.labels.painted:
            raise ValueError(
                f"{path} has {values.shape[-1]} channels; expected one, with a class number at each pixel. Give the "
                f"colours of the classes, classes={{name: (red, green, blue)}}; or, if all channels are the same, save "
                f"one of them."
            )
        if (found.note > 1) != (note > 1):
            values = self.turned_alike(values, found.note, note, size, (path, image_path))
        if values.shape[:2] != size:
            raise ValueError(sizes_differ(image_path, size, path, values.shape[:2], max(note, found.note)))
        mask = torch.from_numpy(self.labels.translate(values, path))
        if values.ndim == 2:
            self.warn_of_numbers(values, path)
        if found.several:
            self.warn_once("several", f"{path} holds several class maps, pages or frames; the first one is taken.")
        return mask

    def turned_alike(
        self, values: np.ndarray, map_note: int, note: int, size: tuple[int, int], paths: tuple[Path, Path]
    ) -> np.ndarray:
        """Return a class map as its picture lies, where one of the two files has a note of how it was held.

        Args:
            values: of the map, turned by its own note.
            map_note: 1 if it has none.
            note: the picture's, likewise.
            size: of the picture, upright.
            paths: of the map and of the picture.
        """
        other = turned(values, note if map_note == 1 else BACK.get(map_note, map_note))
        if other.shape[:2] != size or values.shape[:2] != size:
            return other if other.shape[:2] == size else values  # the sizes tell
        if map_note == 1:
            self.warn_once(
                "orientation",
                f"{paths[1]} is turned as its EXIF note {note} says, and its class map {paths[0].name} has no such "
                f"note: it is taken as it is, drawn on the picture as it is shown. If it was drawn on the pixels as "
                f"they are stored, turn it, or take the note out of the picture. Other items may be like this one.",
            )
        else:
            self.warn_once(
                "map's orientation",
                f"{paths[0]} is turned as its EXIF note {map_note} says, and its picture {paths[1].name} has no such "
                f"note. If the two lie alike as they are stored, take the note out of the class map. Other items may "
                f"be like this one.",
            )
        return values

    def warn_of_numbers(self, values: np.ndarray, path: Path) -> None:
        """Warn of what class numbers (H, W) most likely do not mean."""
        numbers = self.labels.numbers
        ends = values.min() == 0 and values.max() == VOID == numbers.get(VOID) and numbers.get(0) != VOID
        if ends and ((values == 0) | (values == VOID)).all():
            self.warn_once("0 and 255", zeros_and_255(path, self.classes[numbers[0]]))
        if self.labels.shifted_benchmark:
            self.warn_once(
                "ADE20K",
                f"{path}: 0 is taken for 'wall', class 0. ADE20K's own files count from 1, with 0 for no class: if "
                f"these are such files, first=1 and void=0.",
            )

    def warn_once(self, kind: str, text: str) -> None:
        """Warn of a kind of thing the first time that it is met."""
        if kind not in self.warned:
            self.warned.add(kind)
            warnings.warn(text, stacklevel=5)

    def item_size(self, index: int) -> tuple[int, int]:
        """Return an item's (height, width) from its file's first bytes alone.

        Raises:
            ValueError, FileNotFoundError: a picture that cannot be read.
        """
        path = self.pairs[index][0]
        if self.size is not None:
            return self.size
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                with Image.open(path) as picture:
                    return upright_size(picture)
        except Exception:  # an array, or a damaged file, which raises anything; reading it puts it in words
            pass
        image, _ = self.read_image(path)
        return image.shape[-2], image.shape[-1]


def checked_size(size: Size | None) -> tuple[int, int] | None:
    """Return (height, width), or None.

    Raises:
        TypeError, ValueError: anything but one or two positive whole numbers.
    """
    if size is None:
        return None
    given = size.tolist() if isinstance(size, np.ndarray | torch.Tensor) else size
    sides = (given, given) if isinstance(given, Integral) else given
    if not isinstance(sides, Sequence) or isinstance(sides, str) or len(sides) != 2:
        raise TypeError(f"size is {size!r}; expected (height, width) in pixels, one number for both, or None.")
    check_positive(height=sides[0], width=sides[1])
    return int(sides[0]), int(sides[1])


def checked_pair(pair: Any) -> tuple[Path, Path]:
    """Return two paths.

    Raises:
        TypeError: something else.
    """
    if not isinstance(pair, tuple | list) or len(pair) != 2 or not all(isinstance(path, str | Path) for path in pair):
        raise TypeError(f"pairs holds {pair!r}; expected the paths of a picture and of its class map.")
    if Path(pair[0]) == Path(pair[1]):
        raise ValueError(f"{pair[0]} is both a picture and its own class map; expected two files.")
    return Path(pair[0]), Path(pair[1])


def smooths(path: Path) -> bool:
    """Say whether a file is in a format that changes numbers, by its ending, unless it is a PNG under a wrong one."""
    return path.suffix.lower() in LOSSY and not head_of(path).startswith(b"\x89PNG")


def middles(new: int, old: int) -> torch.Tensor:
    """Return which of ``old`` pixels in a row the middle of each of ``new`` ones lies in, where they are as long."""
    return (2 * torch.arange(new) + 1) * old // (2 * new)


def sizes_differ(picture: Path, size: tuple[int, int], mask: Path, other: tuple[int, ...], note: int) -> str:
    """Say that a class map is of another size than its picture, and what to do."""
    if other == size[::-1]:
        advice = "One of them lies on its side: turn it by a quarter."
    elif note > 1:
        advice = f"EXIF's note {note} turned them already: the sizes are those of the upright ones."
    else:
        advice = "Resize the map without smoothing (nearest)."
    return (
        f"{picture.name} is {size} pixels (height, width), its class map {mask.name} {other}; expected the same. "
        f"{advice}"
    )


def zeros_and_255(where: object, name: str) -> str:
    """Say what a class map of 0 and 255 alone most likely is."""
    return (
        f"{where} holds only 0 and {VOID}, which is class {name!r} and no class at all. If {VOID} was meant as a "
        f"class, divide by 255, or say classes={{0: {name!r}, 255: …}}; else a model learns to answer {name!r} "
        f"everywhere."
    )
