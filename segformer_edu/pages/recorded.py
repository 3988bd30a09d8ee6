"""The results that commands of the repository measured, for the chapters that tell of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path
from statistics import mean
from typing import Any

HERE = (Path("../results"), Path(__file__).resolve().parents[2] / "results")
"""Where results lie beside a chapter, and beside the library in a copy of the repository."""
SEEDS = 3
"""Runs on either side that a verdict needs: with three, chance alone separates them once in twenty (chapter 11)."""


def recorded(name: str) -> dict[str, Any] | None:
    """Read ``results/NAME.json``: from this copy of the repository, or, in Colab say, from where the repository is.

    Where neither has it, a sentence says so, and the chapter goes on without.

    Args:
        name: of the file, "speed" say.

    Returns:
        What the file holds; None where it cannot be read.

    Source: used in chapters 8, 10 and 11.
    """
    here = [folder / f"{name}.json" for folder in HERE if (folder / f"{name}.json").is_file()]
    try:
        found: dict[str, Any] = json.loads(here[0].read_text(encoding="utf-8")) if here else fetched(name)
    except (OSError, ValueError) as error:  # no network, no such file, or something else than JSON in its place
        print(f"The recorded results, results/{name}.json, cannot be read here: {error}")
        return None
    return found


def spread(values: Sequence[float]) -> str:
    """Return the mean of some runs' figures, and the least and the most of them, in words: "24.4 (22.9 to 25.3)"."""
    return f"{mean(values):.1f} ({min(values):.1f} to {max(values):.1f})" if values else "no run yet"


def verdict(with_it: Sequence[float], without: Sequence[float]) -> str:
    """Say whether a change helps: whether its worst run is better than the best run without it.

    Args:
        with_it: a figure of each run with the change; more is better.
        without: the same of the runs without it.

    Returns:
        "helps", "harms" (its best run is worse than the worst without), "not told apart" (from chance), or "too few
        runs" where either side has fewer than ``SEEDS``.

    Source: chapter 11, "How much is chance?"; used in chapters 8 and 11.
    """
    if min(len(with_it), len(without)) < SEEDS:
        return "too few runs"
    if min(with_it) > max(without):
        return "helps"
    return "harms" if max(with_it) < min(without) else "not told apart"


def fetched(name: str) -> Any:
    """Fetch a result from the repository.

    Raises:
        OSError, ValueError: the library does not know its repository, there is no network, or no such file.
    """
    from segformer_edu.data.download import request  # here: requests is slow to import

    folder = results_address()
    if folder is None:
        raise OSError("the file is not in this copy, and the library does not know where its repository is.")
    remedy = f"They can be seen in a browser: {folder.replace('/raw/', '/blob/')}{name}.json"
    return request(f"{folder}{name}.json", remedy=remedy).json()


def results_address() -> str | None:
    """Return the address of the folder of results, which the package's links tell; None where it has none.

    ``_config.yml`` holds the repository's address, and ``make generate`` copies it to the package's links.
    """
    try:
        links = metadata("segformer-edu").get_all("Project-URL") or []
    except PackageNotFoundError:
        return None
    found = dict(link.split(", ", 1) for link in links).get("Changelog")
    return None if found is None else found.replace("/blob/", "/raw/").removesuffix("CHANGELOG.md") + "results/"
