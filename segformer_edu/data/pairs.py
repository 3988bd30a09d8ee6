"""Pictures and class maps that lie in files, and a folder of your own."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset

from segformer_edu.data.pictures import open_picture, resize, to_tensor
from segformer_edu.validation import check_positive

VOID = 255
"""The label of pixels that neither the loss nor a metric looks at."""
PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
SPARE_COLOURS = (
    "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00",
    "#F0E442", "#999999", "#332288", "#882255", "#44AA99", "#661100",
)  # fmt: skip


class PairedPictures(Dataset):
    """Pictures and their class maps, read from pairs of files.

    Args:
        pairs: for each item the picture's file and the class map's, a picture of one channel that holds class numbers.
        classes: the classes' names; class number 0 is the first.
        colours: one a class, for figures; colour-blind-safe ones by default.
        size: (height, width) to resize every item to, in pixels; each file's own by default.
        void: the number in the files that means "no class"; it becomes 255.

    Items: an image (3, H, W) in [0, 1] and its class map (H, W) of int64, void 255.

    Raises:
        ValueError: when an item is read: a file that is no picture, a class map in colour, of another size than its
            picture, or with a number that is no class. A class map of 0 and 255 alone is warned of.

    Source: chapter 7.
    """

    def __init__(
        self,
        pairs: Sequence[tuple[Path, Path]],
        classes: Sequence[str],
        *,
        colours: Sequence[str] | None = None,
        size: tuple[int, int] | None = None,
        void: int = VOID,
    ) -> None:
        if size is not None:
            check_positive(height=size[0], width=size[1])
        self.pairs, self.classes, self.size, self.void = list(pairs), tuple(classes), size, void
        repeats = -(-len(self.classes) // len(SPARE_COLOURS))
        self.colours = tuple(colours or (SPARE_COLOURS * repeats)[: len(self.classes)])

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        image_path, mask_path = self.pairs[index]
        image, mask = to_tensor(open_picture(image_path)), self.read_mask(mask_path)
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

    def read_mask(self, path: Path) -> torch.Tensor:
        """Read a class map (H, W), every value a class or 255."""
        values = np.array(open_picture(path))
        if values.ndim != 2:
            raise ValueError(
                f"{path} has {values.shape[-1]} channels; expected one, with a class number at each pixel. "
                f"Translate colours to numbers first, and save as a PNG of mode 'L' or 'P'."
            )
        mask = torch.from_numpy(values.astype(np.int64))
        if self.void == VOID and (mask == VOID).any() and ((mask == 0) | (mask == VOID)).all():
            warnings.warn(
                f"{path} holds only 0 and {VOID}, which is class {self.classes[0]!r} and no class at all. If {VOID} "
                f"was meant as a class, divide by 255; else a model learns to answer {self.classes[0]!r} everywhere.",
                stacklevel=2,
            )
        mask[mask == self.void] = VOID
        wrong = mask[(mask >= len(self.classes)) & (mask != VOID)].unique().tolist()
        if wrong:
            raise ValueError(
                f"{path} holds {wrong[:8]}; expected 0 to {len(self.classes) - 1} for the {len(self.classes)} classes "
                f"{', '.join(self.classes[:4])}{', …' if len(self.classes) > 4 else ''}, or {VOID} for no class."
            )
        return mask


class Folder(PairedPictures):
    """One's own data: a folder of pictures and a folder of class maps, paired by their names without the ending.

    Args:
        images: the folder of pictures.
        masks: the folder of class maps: class numbers, one channel, PNG.
        classes: the classes' names; class number 0 is the first.
        size: (height, width) to resize every item to, in pixels.
        void: the number in the files that means "no class".

    Raises:
        FileNotFoundError: a folder that is missing or holds no picture.
        ValueError: pictures without class maps, or names that occur twice; and see ``PairedPictures``.

    Source: chapter 7.
    """

    def __init__(
        self,
        images: str | Path,
        masks: str | Path,
        classes: Sequence[str],
        *,
        size: tuple[int, int] | None = None,
        void: int = VOID,
    ) -> None:
        pictures, maps = pictures_by_name(Path(images)), pictures_by_name(Path(masks))
        missing = sorted(pictures.keys() - maps.keys())
        if missing:
            raise ValueError(
                f"{len(missing)} of {len(pictures)} pictures in {images} have no class map in {masks} "
                f"(first: {', '.join(missing[:3])}); expected one of the same name each, such as {missing[0]}.png."
            )
        super().__init__([(pictures[name], maps[name]) for name in sorted(pictures)], classes, size=size, void=void)


def pictures_by_name(folder: Path) -> dict[str, Path]:
    """Find a folder's pictures by their names without the ending."""
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {folder.absolute()}; check the path.")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in PICTURES and not path.name.startswith("."):
            if path.stem in found:
                raise ValueError(f"{folder} holds {found[path.stem].name} and {path.name}; expected one of each name.")
            found[path.stem] = path
    if not found:
        raise FileNotFoundError(
            f"{folder.absolute()} holds no picture; expected files ending in {', '.join(PICTURES)}."
        )
    return found
