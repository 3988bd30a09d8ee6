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

from segformer_edu.data.formats import LOSSY
from segformer_edu.data.labels import VOID, Labels
from segformer_edu.data.maps import note_of, read_map, turned
from segformer_edu.data.pictures import from_array, open_picture, read_array, resize, to_tensor
from segformer_edu.validation import check_positive

Size = int | tuple[int, int]


class PairedPictures(Dataset):
    """Pictures and their class maps, read from pairs of files.

    A class map of one channel holds numbers; one in colour is translated where ``classes`` tells its colours. Picture
    and map are turned as EXIF's note says that the camera was held. Where the picture alone has such a note, the map is
    turned with it if its size is that of the stored pixels, else taken as it is; where both fit, a warning says so.

    Args:
        pairs: for each item the picture's file and the class map's.
        classes: the classes; see ``Folder``.
        colours: one a class, for figures; the data set's own or colour-blind-safe ones by default.
        size: (height, width) to resize every item to, in pixels, or one number for both; each file's own by default.
        void: the number, or the colour, in the files that means "no class"; several in a list; None where there is
            none. It becomes ``ignore_index``.
        first: the number in the files of class 0: 1 where the classes are counted from 1.
        channels: of the pictures; see ``inference.as_image``.

    Attributes:
        classes: the names; class number 0 is the first.
        colours: one a class.
        ignore_index: the number in an item's class map that means "no class": 255, or -100 beyond 255 classes.

    Items: an image (channels, H, W) in [0, 1] and its class map (H, W) of int64.

    Raises:
        TypeError, ValueError: classes, sizes or pairs other than these, class maps in a lossy format; and when an item
            is read: a file that is no picture, a class map of another size than its picture, with fractions, or with a
            number or colour that is no class. A class map of 0 and 255 alone is warned of.

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
        lossy = [mask.name for _, mask in self.pairs if mask.suffix.lower() in LOSSY]
        if lossy:
            raise ValueError(
                f"{len(lossy)} class maps are in a format that changes numbers where classes meet (first: "
                f"{', '.join(lossy[:3])}); expected one that keeps them, such as PNG. Export the class maps again: "
                f"what is lost cannot be computed back."
            )

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        image_path, mask_path = self.pairs[index]
        image, note = self.read_image(image_path)
        mask = self.read_mask(mask_path, image_path, (image.shape[-2], image.shape[-1]), note)
        if image.shape[-2:] != mask.shape:
            raise ValueError(
                f"{image_path.name} is {tuple(image.shape[-2:])} pixels (height, width), its class map "
                f"{mask_path.name} {tuple(mask.shape)}; expected the same. Resize the map without smoothing (nearest)."
            )
        if self.size is not None:
            image = resize(image, self.size)
            rows, columns = (torch.arange(new) * old // new for new, old in zip(self.size, mask.shape))
            mask = mask[rows][:, columns]
        return image, mask

    def read_image(self, path: Path) -> tuple[torch.Tensor, int]:
        """Read a picture, upright, and EXIF's note of how it was held."""
        try:
            if path.suffix.lower() == ".npy":
                return from_array(read_array(path), self.channels), 1
            picture = open_picture(path)
            return to_tensor(picture, self.channels), note_of(picture)
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
        stored = read_map(path, self.labels)
        values = stored.values
        if values.ndim == 3 and not self.labels.painted:
            raise ValueError(
                f"{path} has {values.shape[-1]} channels; expected one, with a class number at each pixel. Give the "
                f"colours of the classes, classes={{name: (red, green, blue)}}; or, if all channels are the same, save "
                f"one of them."
            )
        if note > 1 and stored.note == 1:
            values = self.turned_with_picture(values, path, image_path, size, note)
        elif stored.note > 1 and note == 1:
            self.warn_once("turned", f"{path} is turned as its EXIF note says, and {image_path.name} has no such note.")
        mask = torch.from_numpy(self.labels.translate(values, path))
        black_and_white = values.ndim == 2 and self.labels.numbers.get(VOID) == VOID and (values == VOID).any()
        if black_and_white and ((values == 0) | (values == VOID)).all():
            warnings.warn(zeros_and_255(path, self.classes[0]), stacklevel=2)
        return mask

    def turned_with_picture(
        self, values: np.ndarray, path: Path, image_path: Path, size: tuple[int, int], note: int
    ) -> np.ndarray:
        """Return a class map without a note of its own, for a picture that was turned by one."""
        together = turned(values, note)
        if together.shape[:2] != size:
            return values
        if values.shape[:2] != size:
            return together  # only the stored pixels have this size
        self.warn_once(
            "orientation",
            f"{image_path} is turned as its EXIF note {note} says, and its class map {path.name} has no such note: it "
            f"is taken as it is, drawn on the picture as it is shown. If it was drawn on the pixels as they are "
            f"stored, turn it, or take the note out of the picture. Other items may be like this one.",
        )
        return values

    def warn_once(self, kind: str, text: str) -> None:
        """Warn of a kind of thing the first time that it is met."""
        if kind not in self.warned:
            self.warned.add(kind)
            warnings.warn(text, stacklevel=4)

    def item_size(self, index: int) -> tuple[int, int]:
        """Return an item's (height, width) from its file's first bytes alone.

        Raises:
            ValueError, FileNotFoundError: a picture that cannot be read.
        """
        path = self.pairs[index][0]
        if self.size is not None:
            return self.size
        if path.suffix.lower() == ".npy":
            height, width = read_array(path).shape[:2]
            return height, width
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                with Image.open(path) as picture:
                    width, height = picture.size
                    return (width, height) if note_of(picture) >= 5 else (height, width)
        except Exception:  # a damaged file raises anything; reading it to its end puts it in words
            image, _ = self.read_image(path)
            return image.shape[-2], image.shape[-1]


def checked_size(size: Size | None) -> tuple[int, int] | None:
    """Return (height, width), or None.

    Raises:
        TypeError, ValueError: anything but one or two positive whole numbers.
    """
    if size is None:
        return None
    sides = (size, size) if isinstance(size, Integral) else size
    if not isinstance(sides, Sequence | np.ndarray | torch.Size) or isinstance(sides, str) or len(sides) != 2:
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
    return Path(pair[0]), Path(pair[1])


def zeros_and_255(where: object, name: str) -> str:
    """Say what a class map of 0 and 255 alone most likely is."""
    return (
        f"{where} holds only 0 and {VOID}, which is class {name!r} and no class at all. If {VOID} was meant as a "
        f"class, divide by 255, or say classes={{0: {name!r}, 255: …}}; else a model learns to answer {name!r} "
        f"everywhere."
    )
