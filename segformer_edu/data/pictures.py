"""Single pictures: reading, resizing, and what is done to every picture before a model sees it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib import cbook
from PIL import Image, ImageOps, UnidentifiedImageError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def normalize(images: torch.Tensor) -> torch.Tensor:
    """Shift and scale colours in [0, 1] to ImageNet's mean 0 and standard deviation 1, as published weights expect.

    Shapes: (B, 3, H, W) or (3, H, W) → the same.
    """
    mean, std = (images.new_tensor(values).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    return (images - mean) / std


def open_picture(path: str | Path) -> Image.Image:
    """Open a picture and read it to its end.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a file that is no picture, or is cut short.
    """
    try:
        with Image.open(path) as picture:
            picture.load()
            return picture
    except FileNotFoundError:
        raise FileNotFoundError(f"There is no picture {path}; check the name and the folder.") from None
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise ValueError(
            f"{path} cannot be read as a picture ({error}); it may be cut short: fetch it again."
        ) from error


def to_tensor(picture: Image.Image) -> torch.Tensor:
    """Return a picture of any mode (grey, RGBA, 16-bit, rotated by EXIF) as colours (3, H, W) in [0, 1]."""
    picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith("I"):  # 16 or 32 bits of grey, which convert("RGB") would clip at 255
        grey = torch.from_numpy(np.array(picture, dtype=np.float32))
        return (grey / 65535).clamp(0, 1).expand(3, -1, -1).clone()
    return torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1).float() / 255  # (H, W, 3) → (3, H, W)


def resize(image: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Resize colours (3, H, W) smoothly to (3, *size)."""
    return F.interpolate(image[None], size=size, mode="bilinear", antialias=True)[0].clamp(0, 1)


def photograph(height: int = 256, width: int = 256) -> torch.Tensor:
    """Return a real photograph that every installation has: Grace Hopper in 1984, values in [0, 1].

    The picture (U.S. Navy, public domain) comes with matplotlib. Its top 512×512 pixels are taken and resized.

    Args:
        height: of the result, in pixels.
        width: of the result, in pixels.

    Shapes: → (1, 3, height, width).
    """
    with cbook.get_sample_data("grace_hopper.jpg") as file:
        image = to_tensor(Image.open(file))[:, :512, :512]
    return resize(image, (height, width))[None]
