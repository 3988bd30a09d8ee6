"""Single pictures: reading, resizing, and what is done to every picture before a model sees it."""

from __future__ import annotations

import io
import re
import warnings
from pathlib import Path
from typing import IO, cast

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps, UnidentifiedImageError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
LARGEST_DOWNLOAD = 64 << 20  # bytes
BY_HAND = "Check the address in a browser; or save the picture from there, and give its path."


def normalize(images: torch.Tensor) -> torch.Tensor:
    """Shift and scale colours in [0, 1] to ImageNet's mean 0 and standard deviation 1, as published weights expect.

    Shapes: (B, 3, H, W) or (3, H, W) → the same.
    """
    mean, std = (images.new_tensor(values).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    return (images - mean) / std


def open_picture(source: str | Path) -> Image.Image:
    """Open a picture and read it to its end; the first one of an animation.

    Args:
        source: a path, or an address that begins with http:// or https://.

    Raises:
        FileNotFoundError: no such file.
        DownloadError: an address that does not answer, or with more than 64 MB.
        ValueError: what is no picture, is cut short, or has more pixels than Pillow takes for harmless (179 million).
    """
    scheme = re.match(r"(\w[\w+.-]*)://", str(source))
    if scheme and scheme[1].lower() not in ("http", "https"):
        raise ValueError(f"{source} begins with {scheme[0]}; expected a path, or an address with http:// or https://.")
    file = io.BytesIO(fetch_picture(str(source))) if scheme else source
    picture: Image.Image
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # large, and below Pillow's limit
            with Image.open(file) as picture:
                picture.load()
                return picture
    except FileNotFoundError:
        raise FileNotFoundError(f"There is no picture {source}; check the name and the folder.") from None
    except IsADirectoryError:
        raise ValueError(f"{source} is a folder; expected one picture.") from None
    except Image.DecompressionBombError as error:
        raise ValueError(
            f"{source} has too many pixels ({error}). Make it smaller with another program first; or, if you trust the "
            f"file and have the memory, set PIL.Image.MAX_IMAGE_PIXELS higher."
        ) from None
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        remedy = "copy the address of the picture itself" if scheme else "it may be cut short: fetch it again"
        raise ValueError(f"{source} cannot be read as a picture ({error}); {remedy}.") from error


def fetch_picture(url: str) -> bytes:
    """Fetch what lies at an address, unless it is a page rather than a picture."""
    from segformer_edu.data.download import fetch_bytes  # here: requests is slow to import, and most files are local

    content, kind = fetch_bytes(url, limit=LARGEST_DOWNLOAD, remedy=BY_HAND)
    if kind.startswith("text/"):
        raise ValueError(
            f"{url} is not a picture but {kind}, a page perhaps that shows one; expected the address of the picture "
            f"itself, which a browser's menu copies (right click)."
        )
    return content


def to_tensor(picture: Image.Image) -> torch.Tensor:
    """Return a picture of any of Pillow's modes, the right way up, as colours (3, H, W) in [0, 1].

    Grey, palette, CMYK and 1-bit pictures become red, green and blue; 16 bits of grey are divided by 65535; what is
    transparent lies over white; the camera's note of how it was held (EXIF) is obeyed.

    Raises:
        ValueError: a mode with no such colours, or numbers beyond 16 bits.
    """
    picture = ImageOps.exif_transpose(picture)
    if picture.mode[0] in "IF":  # 16 or 32 bits of grey, which convert("RGB") would clip at 255
        grey = torch.from_numpy(np.array(picture, dtype=np.float32))
        grey = grey / 65535 if picture.mode[0] == "I" else grey
        if not (grey.min() >= 0 and grey.max() <= 1):
            raise ValueError(
                f"The picture (mode {picture.mode}) holds numbers that are no 16 bits of grey, nor fractions from 0 to "
                f"1; bring them to one of the two."
            )
        return grey.expand(3, -1, -1).clone()
    try:
        colours = np.array(without_transparency(picture).convert("RGB"))  # (H, W, 3)
    except ValueError as error:
        raise ValueError(f"The picture's mode {picture.mode} has no red, green and blue ({error}).") from error
    return torch.from_numpy(colours).permute(2, 0, 1).float().div_(255)  # (H, W, 3) → (3, H, W)


def without_transparency(picture: Image.Image) -> Image.Image:
    """Lay a picture that is transparent somewhere over white; return any other as it is."""
    if "transparency" not in picture.info and picture.getbands()[-1] not in "Aa":
        return picture
    white = Image.new("RGBA", picture.size, "white")
    return Image.alpha_composite(white, picture.convert("RGBA"))


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
    from matplotlib import cbook  # here: it is slow to import, and nothing else of the library's core needs it

    with cast("IO[bytes]", cbook.get_sample_data("grace_hopper.jpg")) as file:
        image = to_tensor(Image.open(file))[:, :512, :512]
    return resize(image, (height, width))[None]
