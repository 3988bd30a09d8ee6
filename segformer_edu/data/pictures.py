"""Single pictures, and what is done to every picture before a model sees it."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib import cbook
from PIL import Image


def photograph(height: int = 256, width: int = 256) -> torch.Tensor:
    """Return a real photograph that every installation has: Grace Hopper in 1984, values in [0, 1].

    The picture (U.S. Navy, public domain) comes with matplotlib. Its top 512×512 pixels are taken and resized.

    Args:
        height: of the result, in pixels.
        width: of the result, in pixels.

    Shapes: → (1, 3, height, width).
    """
    with cbook.get_sample_data("grace_hopper.jpg") as file:
        pixels = np.array(Image.open(file).convert("RGB"))[:512, :512]
    image = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255  # (H, W, 3) → (1, 3, H, W)
    return F.interpolate(image, size=(height, width), mode="bilinear", antialias=True).clamp(0, 1)
