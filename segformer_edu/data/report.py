"""What is in a data set, and what is wrong or odd in it, told before anybody trains."""

from __future__ import annotations

import hashlib
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from segformer_edu.data.items import Pair, as_pair, class_names, void_of
from segformer_edu.data.labels import VOID

SMALLEST = 32
"""Pixels of a side that a model takes at least."""
MOST = 1 << 16
"""Classes at most, where no names tell how many there are."""
SMALL = 64
ONE_CLASS = 0.95
"""The share of the pixels beyond which a class leaves too little for the others."""


@dataclass(frozen=True)
class Report:
    """What an examination of a data set gave; ``str`` of it tells all in words.

    Attributes:
        pairs: how many pairs of a picture and a class map could be read.
        sizes: for each (height, width) how many pictures have it.
        classes: the names.
        pixels: of each class.
        pictures: how many pictures each class is in.
        void: pixels without a class.
        found: for each item that could be read, its number and the classes in it.
        broken: what stops a training: for each reason the names of all the items that it holds for.
        odd: what does not stop it, and may not be meant.
        left_out: for each reason the names of files that are not taken.
    """

    pairs: int
    sizes: Mapping[tuple[int, int], int]
    classes: tuple[str, ...]
    pixels: tuple[int, ...]
    pictures: tuple[int, ...]
    void: int
    found: Mapping[int, frozenset[int]] = field(repr=False)
    broken: Mapping[str, Sequence[str]] = field(default_factory=dict)
    odd: Sequence[str] = ()
    left_out: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def sound(self) -> bool:
        """Whether nothing would stop a training."""
        return bool(self.pairs) and not self.broken

    def examples(self, count: int) -> list[int]:
        """Return the numbers of items that show as many classes as so many can, those of rare ones first."""
        chosen: list[int] = []
        for label in sorted(range(len(self.classes)), key=lambda label: self.pictures[label]):
            if not any(label in self.found[index] for index in chosen):
                chosen += [index for index, labels in self.found.items() if label in labels][:1]
        rest = [index for index in self.found if index not in chosen]
        wanted = min(max(0, count - len(chosen)), len(rest))
        chosen += [rest[place * len(rest) // wanted] for place in range(wanted)]
        return sorted(chosen[:count])

    def __str__(self) -> str:
        lines = [f"{self.pairs} {'pair' if self.pairs == 1 else 'pairs'} of a picture and a class map can be read"]
        if self.pairs:
            sizes = [f"{height}×{width} ({count})" for (height, width), count in Counter(self.sizes).most_common()]
            lines += [f"sizes (height × width): {listing(sizes, 6)}", *self.table()]
        if self.left_out:
            lines.append("left out:")
            lines += [f"  {len(names)} {reason}: {listing(names, 8)}" for reason, names in self.left_out.items()]
        lines += ["odd:", *(f"  {text}" for text in self.odd)] if self.odd else []
        if self.broken:
            lines.append("stops a training:")
            for reason, names in self.broken.items():
                lines += [f"  {len(names)} × {reason}.", f"      {', '.join(names)}"]
        lines.append("Nothing found that would stop a training." if self.sound else "Not ready to train on.")
        return "\n".join(lines)

    def table(self) -> list[str]:
        """Return a line a class: its number, its share of the pixels that have a class, and the pictures it is in."""
        total, width = sum(self.pixels), max(map(len, self.classes))
        lines = [f"{len(self.classes)} classes, with shares of the pixels that have one, and in how many pictures:"]
        for label, name in enumerate(self.classes):
            share = percent(self.pixels[label], total)
            lines.append(f"  {label:>3}  {name:<{width}}  {share:>9}  {self.pictures[label]:>6}")
        return [*lines, f"no class (void): {percent(self.void, total + self.void)} of all pixels"]


def listing(names: Sequence[str], shown: int) -> str:
    """Return names, the first ones where there are many."""
    return ", ".join(names[:shown]) + (f" and {len(names) - shown} more" if len(names) > shown else "")


def percent(part: int, whole: int) -> str:
    """Return a share in per cent: "62 %", "99.97 %", "1.23 %", "<0.01 %", "0 %"."""
    share = 100 * part / max(1, whole)
    if 0 < share < 0.01:
        return "<0.01 %"
    return f"{share:.0f} %" if not part or part == whole or 10 <= share < 99 else f"{share:.2f} %"


def in_short(path: Path) -> str:
    """Return a file's name behind its folder's, which tells pictures and class maps apart."""
    return "/".join(path.parts[-2:])


def about(text: str, pair: Sequence[Path]) -> tuple[str, str]:
    """Return a message less the files that it is of, so that it is the same for others, and the first of these.

    Args:
        text: of an error or a warning.
        pair: the files of a picture and its class map.
    """
    text = " ".join(text.split())
    named = next((path for path in pair if str(path) in text), pair[0])
    for name in [*map(str, pair), *(path.name for path in pair)]:
        text = text.replace(name, "…")
    return text.rstrip("."), in_short(named)


def counts_of(mask: torch.Tensor) -> dict[int, int]:
    """Return how often each number stands in a class map."""
    low, high = (int(value) for value in mask.aminmax())
    if high - low > 1 << 20:  # no classes; to sort is slow, and a table would be large
        labels, counts = mask.unique(return_counts=True)
        return dict(zip(labels.tolist(), counts.tolist()))
    table = (mask.flatten().long() - low).bincount().tolist()
    return {low + place: count for place, count in enumerate(table) if count}


def examine(data: Any, *, progress: bool = False) -> Report:
    """Read every item of a data set, and tell what is in it, what is odd, and what would stop a training.

    No item that cannot be read stops the examination: all of them are named, each with its reason.

    Args:
        data: pairs of an image (C, H, W) and a class map (H, W), by number: a ``Folder``, or any other that ``fit``
            takes.
        progress: whether to show a bar.

    Returns:
        What was found; print it.

    Raises:
        ValueError: data sets with several voids in one.

    Source: chapter 7.
    """
    examination = Examination(data)
    for index in tqdm(range(len(data)), desc="examine", unit="pair", leave=False, disable=not progress):
        examination.look_at(index)
    return examination.report()


class Examination:
    """Counts while a data set is read.

    Args:
        data: see ``examine``.
    """

    def __init__(self, data: Any) -> None:
        self.data = data
        self.names = class_names(data)
        self.void = void_of(data, "data")
        self.channels = 0
        self.sizes: Counter[tuple[int, int]] = Counter()
        self.pixels: Counter[int] = Counter()
        self.found: dict[int, frozenset[int]] = {}
        self.broken: dict[str, list[str]] = {}
        self.noted: dict[str, list[str]] = {}
        self.alike: dict[bytes, list[tuple[int, bytes]]] = {}

    def look_at(self, index: int) -> None:
        """Read one item, and note what is wrong with it."""
        getattr(self.data, "warned", set()).clear()  # what a data set warns of once is to be told of each item
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            try:
                self.count(index, *self.pair(index))
            except Exception as error:  # a damaged item may raise anything
                kind = "" if isinstance(error, ValueError | OSError) else f"{type(error).__name__}: "
                self.note(self.broken, index, f"{kind}{error}")
        for warning in told:
            self.note(self.noted, index, str(warning.message))

    def pair(self, index: int) -> Pair:
        """Return an item as ``fit`` reads it.

        Raises:
            ValueError: an item that is no pair.
        """
        item = self.data[index]
        try:
            return as_pair(item)
        except TypeError as error:  # one of the data set's own is told by its name
            raise ValueError(str(error)) from error

    def files(self, index: int) -> Sequence[Path]:
        """Return the files of an item; what stands for them where a data set has none."""
        pairs = getattr(self.data, "pairs", None)
        return [Path(path) for path in pairs[index]] if pairs else [Path(f"item {index}")]

    def note(self, place: dict[str, list[str]], index: int, text: str) -> None:
        """Note a reason; the same one of several items is noted once, with their names."""
        reason, name = about(text, self.files(index))
        place.setdefault(reason, []).append(name)

    def count(self, index: int, image: torch.Tensor, mask: torch.Tensor) -> None:
        """Count one item.

        Raises:
            ValueError: sizes, channels, or numbers in the class map, that no training takes.
        """
        size = (int(image.shape[-2]), int(image.shape[-1]))
        here = counts_of(mask)
        most = len(self.names) if self.names else VOID if self.void == VOID else MOST
        if wrong := [label for label in here if label != self.void and not 0 <= label < most]:
            void = "" if self.void is None else f", or {self.void} for no class"
            raise ValueError(f"the class map holds {wrong[:8]}; expected 0 to {most - 1}{void}")
        if min(size) < SMALLEST:
            raise ValueError(f"it is {size[0]}×{size[1]} pixels; a model takes {SMALLEST}×{SMALLEST} at least. Enlarge")
        self.channels = self.channels or len(image)
        if len(image) != self.channels:
            raise ValueError(f"it has {len(image)} channels, and pictures before it {self.channels}; expected as many")
        self.sizes[size] += 1
        self.pixels.update(here)
        self.found[index] = frozenset(label for label in here if label != self.void)
        pixels, classes = (hashlib.blake2b(each.contiguous().numpy().tobytes()).digest() for each in (image, mask))
        self.alike.setdefault(pixels, []).append((index, classes))

    def report(self) -> Report:
        """Sum up."""
        void = 0 if self.void is None else self.pixels.pop(self.void, 0)
        names = tuple(self.names or (f"class {label}" for label in range(max(self.pixels, default=0) + 1)))
        pixels = tuple(self.pixels[label] for label in range(len(names)))
        pictures = tuple(sum(label in here for here in self.found.values()) for label in range(len(names)))
        left_out = {reason: [in_short(path) for path in files] for reason, files in self.left_out().items()}
        odd = [*self.odd_classes(names, pixels, void), *self.odd_pictures()]
        odd += [f"{len(items)} × {text} ({listing(items, 8)})" for text, items in self.noted.items()]
        counts = (len(self.found), self.sizes, names, pixels, pictures, void)
        return Report(*counts, found=self.found, broken=self.broken, odd=odd, left_out=left_out)

    def left_out(self) -> Mapping[str, Sequence[Path]]:
        """Return what a ``Folder`` left out."""
        files: Mapping[str, Sequence[Path]] = getattr(self.data, "left_out", {})
        return files

    def odd_classes(self, names: Sequence[str], pixels: Sequence[int], void: int) -> Iterator[str]:
        """Yield what is odd in the classes."""
        total = sum(pixels)
        if total and (never := [name for name, count in zip(names, pixels) if not count]):
            yield f"{len(never)} of {len(names)} classes never occur: {listing(never, 20)}"
        if total and max(pixels) > ONE_CLASS * total:
            yield (
                f"class {names[pixels.index(max(pixels))]!r} has {percent(max(pixels), total)} of the pixels: a model "
                f"that answers it everywhere is right as often. Look at the other classes' IoU"
            )
        if void > total:
            yield f"{percent(void, total + void)} of the pixels have no class: is that number meant to be void?"
        if empty := [in_short(self.files(index)[-1]) for index, here in self.found.items() if not here]:
            yield f"{len(empty)} class maps hold no class at all: {listing(empty, 8)}"

    def odd_pictures(self) -> Iterator[str]:
        """Yield what is odd in the pictures."""
        if len(self.sizes) > 1:
            low, *_, high = sorted(self.sizes, key=lambda size: size[0] * size[1])
            yield (
                f"pictures of {len(self.sizes)} sizes, from {low[0]}×{low[1]} to {high[0]}×{high[1]}, and a batch "
                f"takes one: give size=(height, width), resize the items, or train with batch_size=1"
            )
        if small := sum(count for size, count in self.sizes.items() if min(size) < SMALL):
            yield f"{small} pictures have a side below {SMALL} pixels: a model's last map is a 32nd of that"
        for same in (group for group in self.alike.values() if len(group) > 1):
            names = [in_short(self.files(index)[0]) for index, _ in same]
            differ = ", with different class maps" if len({classes for _, classes in same}) > 1 else ""
            yield f"{len(same)} pictures are the same{differ}: {listing(names, 8)}"
