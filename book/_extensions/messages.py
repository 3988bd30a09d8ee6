"""What goes wrong, and what the reader is then told: code is run while the page is built, and its message shown.

So no message is typed by hand. On GitHub, where nothing is run, the code stands in its place.
"""

from __future__ import annotations

import contextlib
import io
import re
import tempfile
import warnings
from pathlib import Path

import numpy as np
import torch
from docutils import nodes
from PIL import Image
from sphinx.util.docutils import SphinxDirective

import segformer_edu as se
from segformer_edu.data import CamVid, Folder
from segformer_edu.training import Recipe, confusion_matrix, fit, segmentation_loss

SMALL = {"dims": (8, 16, 24, 32), "heads": (1, 2, 3, 4), "ff_expansion": 1, "num_layers": 1, "decoder_dim": 8}
CLASSES = ("road", "house")
LONGEST = 500


def small(**changes: object) -> se.Segformer:
    """Make a sketch that is small, with two classes."""
    return se.Segformer(**SMALL | {"num_classes": 2} | changes)


def pair(image: float = 0.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Make an image of one value, and a class map of houses."""
    return torch.full((3, 32, 32), image), torch.ones(32, 32, dtype=torch.int64)


def write_pair(place: Path, mask: np.ndarray | None = None, size: tuple[int, int] = (32, 32)) -> None:
    """Write street.png, a picture and its class map, into the folders images and masks."""
    for folder in ("images", "masks"):
        (place / folder).mkdir()
    Image.new("RGB", size).save(place / "images" / "street.png")
    Image.fromarray(np.zeros((32, 32), np.uint8) if mask is None else mask).save(place / "masks" / "street.png")


def read_pair(place: Path, mask: np.ndarray | None = None, size: tuple[int, int] = (32, 32)) -> object:
    """Write the pair, and read it as a reader's own data."""
    write_pair(place, mask, size)
    return Folder(place / "images", place / "masks", CLASSES)[0]


def saved(place: Path, entries: dict) -> Path:
    """Write weights.pt."""
    torch.save(entries, place / "weights.pt")
    return place / "weights.pt"


OWN = (small, pair, write_pair, read_pair, saved)
LIBRARY = (CamVid, Folder, Recipe, confusion_matrix, fit, segmentation_loss)
KNOWN = {each.__name__: each for each in (*OWN, *LIBRARY)}
KNOWN |= {"CLASSES": CLASSES, "Image": Image, "SMALL": SMALL, "np": np, "se": se, "torch": torch}
"""What the code on a page can use without an import."""


def message_of(code: str) -> str:
    """Run code that makes a mistake; return its error, as the last line of a traceback, or its warnings, or its output.

    Args:
        code: may call what stands in ``KNOWN``, and write into the folder ``place``; that folder's name becomes "…" in
            the message, and so do the names after the first of a list.

    Raises:
        ValueError: nothing came of it.
    """
    printed = io.StringIO()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:  # Windows keeps files that are open
        with warnings.catch_warnings(record=True) as caught, contextlib.redirect_stdout(printed):
            warnings.simplefilter("always", UserWarning)
            try:
                exec(compile(code, "a mistake", "exec"), KNOWN | {"place": Path(folder)})
                said = "\n".join(f"{each.category.__name__}: {each.message}" for each in caught) or printed.getvalue()
            except Exception as error:
                said = f"{type(error).__name__}: {error}"
        said = said.replace(folder, "…")
    said = re.sub(r'("[^"]+")(?:, "[^"]+")+', r"\1, …", " ".join(said.split()))
    if not said:
        raise ValueError(f"Nothing goes wrong here, or nobody is told: {code}")
    return said if len(said) <= LONGEST else f"{said[:LONGEST].rsplit(' ', 1)[0]} …"


class Message(SphinxDirective):
    """The message that comes of the code in the body."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        try:
            said = message_of("\n".join(self.content))
        except ValueError as error:
            raise self.error(str(error)) from error
        return [nodes.literal_block(said, said, language="text", classes=["message"])]
