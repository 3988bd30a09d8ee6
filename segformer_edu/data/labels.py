"""What the numbers or colours in the files of class maps mean."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, KeysView, Mapping, Sequence, Set
from dataclasses import dataclass, field
from numbers import Integral
from typing import Any

import numpy as np

from segformer_edu.data.classes import ADE20K, CLASS_LISTS, ClassList, class_list, named_list, spare_colours
from segformer_edu.validation import check_not_negative, check_positive

VOID = 255
"""The label of pixels that neither the loss nor a metric looks at."""
WIDE_VOID = -100
"""The same where there are more than 255 classes, of which 255 is one: PyTorch's own default."""
VOID_NAMES = ("void", "unlabeled", "unlabelled", "ignore", "ignored", "other", "none")
EXAMPLE = 'expected names such as ["background", "crack"]'
Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Labels:
    """The classes of a data set, and what stands for them in its files.

    Attributes:
        names: of the classes; class number 0 is the first.
        colours: one a class, for figures.
        numbers: for each number in a file its class; none where colours alone tell the classes.
        painted: for each colour in a file its class.
        shared: for a colour that stands for two classes, their names.
    """

    names: tuple[str, ...]
    colours: tuple[str, ...]
    numbers: Mapping[int, int]
    painted: Mapping[Colour, int] = field(default_factory=dict)
    shared: Mapping[Colour, str] = field(default_factory=dict)

    @property
    def void(self) -> int:
        """The number that means "no class" once read: 255, or -100 beyond 255 classes."""
        return VOID if len(self.names) <= VOID else WIDE_VOID

    @property
    def by_colour(self) -> bool:
        """Whether colours alone tell the classes, and no number does."""
        return not self.numbers

    @property
    def shifted_benchmark(self) -> bool:
        """Whether these are ADE20K's classes, counted from 0 in files: the benchmark's own count from 1."""
        return self.names == ADE20K.names and self.numbers.get(0) == 0

    @classmethod
    def of(cls, classes: Any, void: Any = VOID, first: int = 0) -> Labels:
        """Read what a user said of the classes; see ``Folder`` for the forms.

        Args:
            classes: names, their number, a mapping, or a data set's name.
            void: numbers or colours that mean "no class"; None for none.
            first: the number of class 0 in the files.

        Raises:
            TypeError, ValueError: something else.
        """
        check_not_negative(first=first)
        names, numbers, painted, shared, colours = parts_of(classes, int(first))
        known = cls(names, colours, numbers, painted, shared)
        voids = void_values(void, known)
        if VOID in voids and VOID in numbers and names[numbers[VOID]].lower() not in VOID_NAMES:
            if not isinstance(classes, Mapping):
                raise ValueError(
                    f"void is {VOID}, which is the number of class {names[numbers[VOID]]!r} among {len(names)} "
                    f"classes; expected the number that stands for no class, such as void=65535, or void=None if there "
                    f"is none."
                )
            voids = [value for value in voids if value != VOID]  # black and white, say: {0: "background", 255: "crack"}
        known.warn_of_lost_classes(voids)
        table: dict[Any, int] = dict.fromkeys(voids, known.void)
        if voids and known.void == VOID and VOID not in numbers:
            table.setdefault(VOID, VOID)
        listed = classes if isinstance(classes, ClassList) else CLASS_LISTS.get(str(classes).lower())
        if listed and listed.void and void is not None:
            table.setdefault(colour_of(listed.void), known.void)
        if not known.by_colour:
            numbers |= {value: label for value, label in table.items() if not isinstance(value, tuple)}
        painted |= {value: label for value, label in table.items() if isinstance(value, tuple)}
        return cls(names, colours, numbers, painted, shared)

    def warn_of_lost_classes(self, voids: Sequence[Any]) -> None:
        """Warn of classes that no pixel will have, since void is what stands for them too."""
        for value in voids:
            label = self.painted.get(value) if isinstance(value, tuple) else self.numbers.get(value)
            if label is not None and self.names[label].lower() not in VOID_NAMES:
                warnings.warn(
                    f"void is {value}, which also stands for class {self.names[label]!r}: no pixel will have that "
                    f"class. If the classes in the files count from 1, say so: first=1. If it means no class, call it "
                    f"'void'.",
                    stacklevel=5,
                )

    def translate(self, values: np.ndarray, where: object) -> np.ndarray:
        """Return the classes (H, W) of what a file holds: numbers (H, W), or colours (H, W, 3).

        Args:
            values: as read; whole numbers, colours from 0 to 255.
            where: the file, for the message.

        Raises:
            ValueError: numbers or colours that stand for no class.
        """
        if values.ndim == 2:
            if self.by_colour:
                raise ValueError(
                    f"{where} holds numbers, and classes tells colours; expected a class map in colour. For numbers: "
                    f"classes=[name, …], or {{number: name}}."
                )
            labels, unknown = look_up(values, self.numbers)
            if unknown:
                raise ValueError(self.refusal(unknown, where))
            return labels
        packed = values.astype(np.int64) @ np.array([65536, 256, 1])
        labels, unknown = look_up(packed, {packed_colour(colour): label for colour, label in self.painted.items()})
        if unknown:
            raise ValueError(self.refusal_of_colours([unpacked(number) for number in unknown], where))
        for colour, names in self.shared.items():
            if (packed == packed_colour(colour)).any():
                raise ValueError(f"{where} holds {colour}, the colour of {names}: nothing tells which is meant.")
        return labels

    def shown(self) -> str:
        """Return how many classes there are, and the first ones' names."""
        return f"{len(self.names)} classes {', '.join(self.names[:4])}{', …' if len(self.names) > 4 else ''}"

    def refusal(self, unknown: Sequence[int], where: object) -> str:
        """Say which numbers in a file stand for no class."""
        numbers = sorted(number for number, label in self.numbers.items() if label != self.void)
        void = sorted(number for number, label in self.numbers.items() if label == self.void)
        whole = numbers and numbers == list(range(numbers[0], numbers[-1] + 1))
        expected = f"{numbers[0]} to {numbers[-1]}" if whole else ", ".join(map(str, numbers[:12]))
        none = f", or {' or '.join(map(str, void))} for no class" if void else "; void=None says that there is no void"
        advice = ""
        if list(unknown) == [len(numbers)] and numbers and numbers[0] == 0:
            advice = " If the files count from 1: first=1, and void=0 if 0 means no class."
        elif len(unknown) == 1:
            advice = f" If {unknown[0]} means no class: void={unknown[0]}."
        return f"{where} holds {first_of(unknown)}; expected {expected} for the {self.shown()}{none}.{advice}"

    def refusal_of_colours(self, unknown: Sequence[Colour], where: object) -> str:
        """Say which colours in a file stand for no class."""
        if self.by_colour and all(len(set(colour)) == 1 and colour[0] < len(self.names) for colour in unknown):
            advice = "These look like class numbers: for them, classes=[name, …]."
        else:
            advice = "Many more colours than classes come from smoothing, a JPEG say: start from the original."
        return (
            f"{where} holds the colours {first_of(unknown)}, which stand for no class; expected those of the "
            f"{self.shown()}. Add them to classes={{name: colour}}, or give void=(red, green, blue). {advice}"
        )


def first_of(values: Sequence[Any], count: int = 8) -> str:
    """Return the first values as a list, and how many more there are."""
    return f"{list(values[:count])}" + (f" and {len(values) - count} more" if len(values) > count else "")


def look_up(values: np.ndarray, table: Mapping[int, int]) -> tuple[np.ndarray, list[int]]:
    """Return what a table has for each whole number in an array (H, W), and the numbers that it does not have."""
    missing = np.iinfo(np.int64).min
    keys = np.array(sorted(table), dtype=np.int64)
    targets = np.array([table[key] for key in keys.tolist()], dtype=np.int64)
    if values.dtype == np.uint8:  # ten times as fast as to search
        bytes_of = np.full(256, missing)
        inside = (keys >= 0) & (keys < 256)
        bytes_of[keys[inside]] = targets[inside]
        labels = bytes_of.take(values)
    else:
        places = np.searchsorted(keys, values).clip(max=len(keys) - 1)
        labels = np.where(keys[places] == values, targets[places], missing)
    lost = labels == missing
    return labels, np.unique(values[lost]).tolist() if lost.any() else []


def packed_colour(colour: Colour) -> int:
    """Return a colour as one number."""
    return colour[0] << 16 | colour[1] << 8 | colour[2]


def unpacked(number: int) -> Colour:
    """Return a colour that was made one number."""
    return number >> 16, number >> 8 & 255, number & 255


def colour_of(value: Any) -> Colour:
    """Read a colour: "#804080", or three numbers from 0 to 255.

    Raises:
        ValueError: something else.
    """
    if isinstance(value, str):
        digits = value.strip().removeprefix("#")
        try:
            if len(digits) == 6:
                red, green, blue = bytes.fromhex(digits)
                return red, green, blue
        except ValueError:
            pass
    elif isinstance(value, list | tuple | np.ndarray) and len(value) == 3 and all(map(is_byte, value)):
        red, green, blue = (int(part) for part in value)
        return red, green, blue
    raise ValueError(f"{value!r} is no colour; expected '#804080', or three whole numbers from 0 to 255.")


def is_byte(value: Any) -> bool:
    """Say whether something is a whole number from 0 to 255."""
    return isinstance(value, Integral) and not isinstance(value, bool) and 0 <= int(value) <= 255


def is_colour(value: Any) -> bool:
    """Say whether something is a colour."""
    try:
        return bool(colour_of(value))
    except ValueError:
        return False


def whole_number(value: Any) -> int | None:
    """Return a whole number, also one in a text, as the keys of JSON are; None for something else."""
    if isinstance(value, str):
        return int(value) if re.fullmatch(r"\s*[+-]?\d+\s*", value) else None
    return int(value) if isinstance(value, Integral | float | np.floating) and value == value // 1 else None


def void_values(void: Any, known: Labels) -> list[Any]:
    """Return the numbers and colours that mean "no class".

    Three numbers in a tuple are a colour where classes have colours, in a list where they have nothing else.

    Raises:
        TypeError: something else.
    """
    if void is None:
        return []
    if isinstance(void, str) and is_colour(void):
        return [colour_of(void)]
    if not isinstance(void, bool) and (number := whole_number(void)) is not None:
        return [number]
    if isinstance(void, list | tuple | Set | np.ndarray):
        if known.painted and is_colour(void) and (isinstance(void, tuple) or known.by_colour):
            return [colour_of(void)]
        return [value for item in void for value in void_values(item, known)]
    raise TypeError(
        f"void is {void!r}; expected a whole number, a colour ('#804080', or three numbers), a list of such, or None "
        f"for no void."
    )


Parts = tuple[tuple[str, ...], dict[int, int], dict[Colour, int], dict[Colour, str], tuple[str, ...]]


def parts_of(classes: Any, first: int) -> Parts:
    """Return names, numbers, painted colours, those that two classes share, and colours for figures."""
    if isinstance(classes, Mapping):
        return parts_of_mapping(classes, first)
    if isinstance(classes, str) and classes.lower() not in CLASS_LISTS:
        raise ValueError(
            f"classes is the word {classes!r}; {EXAMPLE}, one of {', '.join(map(repr, CLASS_LISTS))}, or their number."
        )
    if isinstance(classes, str | ClassList):
        listed = classes if isinstance(classes, ClassList) else class_list(classes)
        painted: dict[Colour, int] = {}
        shared: dict[Colour, str] = {}
        for label, colour in enumerate(map(colour_of, listed.colours)):
            if colour in painted:
                shared[colour] = f"{listed.names[painted[colour]]} and {listed.names[label]}"
            painted.setdefault(colour, label)
        return listed.names, counted(len(listed), first), painted, shared, listed.colours
    if isinstance(classes, Integral) and not isinstance(classes, bool):
        check_positive(classes=int(classes))
        names = tuple(f"class {number}" for number in range(int(classes)))
    elif isinstance(classes, Set) and not isinstance(classes, KeysView):
        raise TypeError(f"classes is {classes!r}, which has no order; {EXAMPLE}, in a list.")
    elif not isinstance(classes, Iterable):
        raise TypeError(f"classes is {classes!r}; {EXAMPLE}, or their number.")
    else:
        names = tuple(classes)
        if wrong := [name for name in names if not isinstance(name, str)]:
            raise TypeError(f"classes holds {wrong[0]!r}; {EXAMPLE}, {{number: name}} or {{name: colour}}.")
    if not names:
        raise ValueError(f"classes is empty; {EXAMPLE}.")
    names = tuple(map(str, names))  # some may be NumPy's
    return names, counted(len(names), first), {}, {}, named_list(names).colours


def counted(count: int, first: int) -> dict[int, int]:
    """Return the numbers in files of so many classes, the first of which has the number ``first``."""
    return {first + label: label for label in range(count)}


def parts_of_mapping(classes: Mapping[Any, Any], first: int) -> Parts:
    """Read a mapping between names and numbers, or names and colours, either way round."""
    if not classes:
        raise ValueError(f"classes is empty; {EXAMPLE}.")
    if first:
        raise ValueError(f"first is {first}, and classes says itself what stands in the files; leave first out.")
    marks = marks_of(classes)
    if all(is_colour(mark) for mark, _ in marks):
        names = tuple(dict.fromkeys(name for _, name in marks))
        painted = {colour_of(mark): names.index(name) for mark, name in marks}
        if len(painted) < len(marks):
            raise ValueError("classes has a colour twice; expected each colour to stand for one class.")
        shown = {label: "#{:02X}{:02X}{:02X}".format(*colour) for colour, label in reversed(painted.items())}
        return names, {}, painted, {}, tuple(shown[label] for label in range(len(names)))
    numbers: dict[int, str] = {}
    for part, name in [(part, name) for mark, name in marks for part in numbers_in(mark)]:
        number = whole_number(part)
        if number is None:
            raise ValueError(
                f"classes gives {part!r} for {name!r}; expected for each class a whole number, or for each a colour: "
                f"'#804080', or three whole numbers from 0 to 255."
            )
        if number in numbers:
            raise ValueError(f"classes has {number} twice; expected each number to stand for one class.")
        numbers[number] = name
    names = tuple(dict.fromkeys(numbers[number] for number in sorted(numbers)))
    return names, {number: names.index(name) for number, name in numbers.items()}, {}, {}, spare_colours(len(names))


def marks_of(classes: Mapping[Any, Any]) -> list[tuple[Any, str]]:
    """Return what stands in the files, numbers or colours, each with the name of its class.

    Raises:
        TypeError: neither keys nor values are names.
    """
    keys, values = list(classes), list(classes.values())
    forward = all(isinstance(value, str) for value in values) and all(map(is_mark, keys))
    backward = all(isinstance(key, str) for key in keys) and all(map(is_mark, values))
    if backward and (not forward or all(value.startswith("#") for value in values)):
        return [(mark, name) for name, value in classes.items() for mark in colours_in(value)]
    if forward:
        return list(classes.items())
    odd = next((item for item in classes.items() if not any(map(is_mark, item))), next(iter(classes.items())))
    raise TypeError(
        f"classes holds {odd[0]!r}: {odd[1]!r}; expected {{number: name}}, {{name: number}} or {{name: colour}}, a "
        f"colour being '#804080', or three whole numbers from 0 to 255."
    )


def is_mark(value: Any) -> bool:
    """Say whether something is a number or a colour, or several of them."""
    parts = colours_in(value)
    return bool(parts) and all(whole_number(part) is not None or is_colour(part) for part in parts)


def numbers_in(mark: Any) -> list[Any]:
    """Return the numbers of one class; a tuple stays what it is, a colour."""
    return [mark] if isinstance(mark, tuple) else several(mark)


def several(value: Any) -> list[Any]:
    """Return the parts of a list or the like; of anything else nothing but itself."""
    return list(value) if isinstance(value, list | tuple | Set | range | np.ndarray) else [value]


def colours_in(value: Any) -> list[Any]:
    """Return the colours of one name, or its numbers; what is a colour, or a tuple like one, stays one."""
    like_one = isinstance(value, tuple) and len(value) in (3, 4) and not any(map(is_colour, value))
    return [value] if like_one or is_colour(value) else several(value)
