"""Three frames of CamVid, small enough to travel with the library: streets for pages that ask for no download."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from segformer_edu.data.labels import VOID
from segformer_edu.data.pictures import as_image

FOLDER = Path(__file__).parent / "streets"
NAMES = ("0016E5_08031", "0016E5_07959", "0016E5_08103")
UNLABELLED = 11  # the number that CamVid's class maps give to pixels of no class


def street(number: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a photograph of a street and its true class map, whose classes are ``data.camvid.CLASSES``.

    The frames are from CamVid's validation split, so the models that come with this library did not learn from them.

    Args:
        number: which of the three, from 0.

    Shapes: → (3, 360, 480), values in [0, 1], and (360, 480), whole numbers, ``VOID`` where nobody gave a class.

    Raises:
        IndexError: a number that is none of theirs.

    Source: Brostow et al., "Semantic object classes in video", 2009; sizes and classes as SegNet's authors have them.
    """
    if number not in range(len(NAMES)):
        raise IndexError(f"There is no street {number!r}; expected a number from 0 to {len(NAMES) - 1}.")
    path = FOLDER / NAMES[number]
    with Image.open(path.with_suffix(".png")) as file:
        mask = torch.from_numpy(np.array(file)).long()
    return as_image(path.with_suffix(".webp")), mask.where(mask != UNLABELLED, VOID)
