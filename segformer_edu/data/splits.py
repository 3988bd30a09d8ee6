"""Chapter 13: which pictures a model learns from, and which it is judged by."""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch


def hold_out(
    names: Sequence[str], share: float, together: str | None = None, seed: int = 0
) -> tuple[list[int], list[int]]:
    r"""Part the items of a data set into those to learn from and those to judge by, at random.

    Args:
        names: one an item, such as those of its files.
        share: of the items, or of the groups of them, to hold out.
        together: a regular expression: items in whose names it finds the same text form a group, which stays on one
            side; r"plant\d+" for plant07-1.jpg and plant07-2.jpg. None: each item is a group of its own.
        seed: of the choice.

    Returns:
        The indices to learn from, and those to judge by, each in order.

    Raises:
        ValueError: a name in which the expression finds nothing, or a side that would be empty.

    Source: Kapoor and Narayanan, "Leakage and the reproducibility crisis in machine-learning-based science", 2023, on
    what leaks; the groups are scikit-learn's (GroupShuffleSplit). Built in chapter 13.
    """
    groups = []
    for place, name in enumerate(names):
        found = re.search(together, name) if together is not None else None
        if together is not None and found is None:
            raise ValueError(f"In the name {name!r} the expression {together!r} finds nothing to tell its group by.")
        groups.append(str(place) if found is None else found[0])
    each = list(dict.fromkeys(groups))
    count = round(len(each) * share)
    if not 0 < count < len(each):
        what = "items" if together is None else "groups"
        raise ValueError(
            f"Of {len(each)} {what}, a share of {share} to hold out is {count}; expected one at least, and one left."
        )
    order = torch.randperm(len(each), generator=torch.Generator().manual_seed(seed)).tolist()
    held = {each[place] for place in order[:count]}
    train = [place for place, group in enumerate(groups) if group not in held]
    return train, [place for place, group in enumerate(groups) if group in held]
