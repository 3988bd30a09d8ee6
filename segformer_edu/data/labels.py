"""What the numbers or colours in the files of class maps mean."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from numbers import Integral
from typing import Any

import numpy as np

from segformer_edu.data.classes import CLASS_LISTS, ClassList, class_list, named_list, spare_colours
from segformer_edu.validation import check_positive

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
        numbers: for each number in a file its class.
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

    @classmethod
    def of(cls, classes: Any, void: Any = VOID, first: int = 0) -> Labels:
        """Read what a user said of the classes; see ``Folder`` for the forms.

        Raises:
            TypeError, ValueError: something else.
        """
        names, numbers, painted, shared, colours = parts_of(classes, first)
        known = cls(names, colours, numbers, painted, shared)
        voids = void_values(void)
        if isinstance(classes, Mapping) and VOID in numbers:
            voids = [value for value in voids if value != VOID]  # black and white, say: {0: "background", 255: "crack"}
        elif VOID in voids and VOID in numbers:
            raise ValueError(
                f"void is {VOID}, which is the number of class {names[numbers[VOID]]!r} among {len(names)} classes; "
                f"expected the number that stands for no class, such as void=65535, or void=None if there is none."
            )
        for value in voids:
            label = painted.get(value) if isinstance(value, tuple) else numbers.get(value)
            if label is not None and names[label].lower() not in VOID_NAMES:
                warnings.warn(
                    f"void is {value}, which also stands for class {names[label]!r}: no pixel will have that class. If "
                    f"the classes in the files count from 1, say so: first=1. If it means no class, call it 'void'.",
                    stacklevel=4,
                )
        table: dict[Any, int] = dict.fromkeys(voids, known.void)
        if voids and known.void == VOID and VOID not in numbers:
            table.setdefault(VOID, VOID)
        listed = classes if isinstance(classes, ClassList) else CLASS_LISTS.get(str(classes).lower())
        if listed and listed.void and void is not None:
            table.setdefault(colour_of(listed.void), known.void)
        numbers |= {value: label for value, label in table.items() if not isinstance(value, tuple)}
        painted |= {value: label for value, label in table.items() if isinstance(value, tuple)}
        return cls(names, colours, numbers, painted, shared)

    def translate(self, values: np.ndarray, where: object) -> np.ndarray:
        """Return the classes (H, W) of what a file holds: numbers (H, W), or colours (H, W, 3).

        Args:
            values: as read; whole numbers.
            where: the file, for the message.

        Raises:
            ValueError: numbers or colours that stand for no class.
        """
        if values.ndim == 3:
            packed = values.astype(np.int64) @ np.array([65536, 256, 1])
            known = {red * 65536 + green * 256 + blue: label for (red, green, blue), label in self.painted.items()}
        else:
            packed, known = values, dict(self.numbers)
        found, places = distinct(packed)
        unknown = [number for number in found.tolist() if number not in known]
        if unknown:
            raise ValueError(self.refusal(unknown, values.ndim == 3, where))
        twice = [name for number in found.tolist() if (name := self.shared.get(unpacked(number)))]
        if twice and values.ndim == 3:
            raise ValueError(f"{where} holds a colour that stands for {twice[0]}: nothing tells which is meant.")
        targets = np.array([known[number] for number in found.tolist()], dtype=np.int64)
        labels: np.ndarray = targets[places].reshape(packed.shape)
        return labels

    def refusal(self, unknown: Sequence[int], in_colour: bool, where: object) -> str:
        """Say which numbers or colours in a file stand for no class."""
        shown = f"{', '.join(self.names[:4])}{', …' if len(self.names) > 4 else ''}"
        if in_colour:
            colours = ", ".join(str(unpacked(number)) for number in unknown[:8])
            more = f" and {len(unknown) - 8} more" if len(unknown) > 8 else ""
            return (
                f"{where} holds the colours {colours}{more}, which stand for no class; expected those of the "
                f"{len(self.names)} classes {shown}. Add them to classes={{name: colour}}, or give void=(red, green, "
                f"blue). Many colours more than classes come from smoothing, a JPEG say: start from the original."
            )
        numbers = sorted(number for number, label in self.numbers.items() if label != self.void)
        whole = numbers == list(range(numbers[0], numbers[-1] + 1))
        expected = f"{numbers[0]} to {numbers[-1]}" if whole else ", ".join(map(str, numbers[:12]))
        void = sorted(number for number, label in self.numbers.items() if label == self.void)
        advice = ""
        if unknown == [numbers[-1] + 1] and 0 in numbers:
            advice = " If the files count from 1: first=1."
        elif unknown == [0]:
            advice = " If 0 means no class: void=0."
        return (
            f"{where} holds {unknown[:8]}; expected {expected} for the {len(self.names)} classes {shown}"
            + (
                f", or {' or '.join(map(str, void))} for no class."
                if void
                else "; void=None says that there is no void."
            )
            + advice
        )


def distinct(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the different numbers in an array, and for each of its places which of them stands there."""
    flat = values.ravel()
    if flat.dtype == np.uint8:  # a hundred times as fast as to sort
        found = np.flatnonzero(np.bincount(flat, minlength=256))
        table = np.zeros(256, dtype=np.int64)
        table[found] = np.arange(len(found))
        return found, table[flat]
    found, places = np.unique(flat, return_inverse=True)
    return found, places.ravel()


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
    elif isinstance(value, Sequence | np.ndarray) and len(value) == 3 and all(map(is_byte, value)):
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


def void_values(void: Any) -> list[Any]:
    """Return the numbers and colours that mean "no class".

    Raises:
        TypeError: something else.
    """
    if void is None:
        return []
    if isinstance(void, Integral) and not isinstance(void, bool):
        return [int(void)]
    if isinstance(void, str) or (isinstance(void, tuple) and len(void) == 3):
        return [colour_of(void)]
    if isinstance(void, list | tuple | Set):
        return [value for item in void for value in void_values(item)]
    raise TypeError(f"void is {void!r}; expected a whole number, a colour, a list of such, or None for no void.")


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
    elif isinstance(classes, Set) or not isinstance(classes, Iterable):
        raise TypeError(f"classes is {classes!r}, which has no order of names; {EXAMPLE}, in a list, or their number.")
    else:
        names = tuple(classes)
        if wrong := [name for name in names if not isinstance(name, str)]:
            raise TypeError(f"classes holds {wrong[0]!r}; {EXAMPLE}, {{number: name}} or {{name: colour}}.")
    if not names:
        raise ValueError(f"classes is empty; {EXAMPLE}.")
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
    if all(isinstance(key, str) and not key.strip().lstrip("-").isdigit() for key in classes):
        pairs = [(value, name) for name, values in classes.items() for value in several(values)]
    else:
        pairs = list(classes.items())
    if wrong := [name for _, name in pairs if not isinstance(name, str)]:
        raise TypeError(f"classes holds {wrong[0]!r}; expected {{number: name}} or {{name: colour}}.")
    if all(is_colour(value) for value, _ in pairs):
        names = tuple(dict.fromkeys(name for _, name in pairs))
        painted = {colour_of(value): names.index(name) for value, name in pairs}
        if len(painted) < len(pairs):
            raise ValueError("classes has a colour twice; expected each colour to stand for one class.")
        shown = {label: "#{:02X}{:02X}{:02X}".format(*colour) for colour, label in reversed(painted.items())}
        return names, counted(len(names), 0), painted, {}, tuple(shown[label] for label in range(len(names)))
    try:
        numbered = sorted((int(value), name) for value, name in pairs)  # JSON's keys are texts
    except (TypeError, ValueError):
        raise TypeError(
            f"classes is {dict(classes)!r}; expected {{number: name}}, {{name: number}} or {{name: colour}}."
        ) from None
    names = tuple(dict.fromkeys(name for _, name in numbered))
    numbers = {number: names.index(name) for number, name in numbered}
    if len(numbers) < len(numbered):
        raise ValueError("classes has a number twice; expected each number to stand for one class.")
    return names, numbers, {}, {}, spare_colours(len(names))


def several(values: Any) -> list[Any]:
    """Return a list of the colours or numbers of one name."""
    return list(values) if isinstance(values, list) and not is_colour(values) else [values]
