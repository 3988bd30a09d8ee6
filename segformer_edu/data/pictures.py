"""Single pictures: reading, resizing, and what is done to every picture before a model sees it."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from segformer_edu.data.files import (
    PHOTOMETRIC,
    SAMPLE_FORMAT,
    SEPARATE,
    SIGNED,
    is_mixed_up,
    open_picture,
    read_array,
    stored,
)
from segformer_edu.data.orientation import upright
from segformer_edu.validation import check_positive

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
OTHER_MEAN, OTHER_STD = 0.5, 0.25
"""What is taken for each channel where there are not three, and nobody gave statistics."""
Statistics = tuple[tuple[float, ...], tuple[float, ...]]
GREY = (0.299, 0.587, 0.114)  # shares of red, green and blue: ITU-R BT.601, as Pillow has it
SLACK = 1e-3  # beyond [0, 1], for what rounding does
DARK = 16383  # of 65535: what 14 bits hold
IMAGE_KEYS = ("image", "images", "pixel_values", "img")
"""Names under which items that are dictionaries have their picture."""


def normalize(
    images: torch.Tensor, mean: Sequence[float] | None = None, std: Sequence[float] | None = None
) -> torch.Tensor:
    """Shift and scale colours in [0, 1] to mean 0 and standard deviation 1.

    Args:
        images: floats in [0, 1].
        mean: of each channel; by default ImageNet's of red, green and blue, as published weights expect.
        std: standard deviation of each channel, likewise.

    Shapes: (B, C, H, W) or (C, H, W) → the same.

    Raises:
        TypeError: whole numbers, bytes say, or no tensor.
        ValueError: other than three channels without ``mean`` and ``std``, one of these without the other, or another
            number of them than of channels.
    """
    if not isinstance(images, torch.Tensor):
        raise TypeError(f"The images are a {type(images).__name__}; expected a tensor (B, C, H, W).")
    if not images.is_floating_point():
        raise TypeError(f"The images are {images.dtype}; expected floats in [0, 1]. For bytes: images.float() / 255.")
    channels = images.shape[-3] if images.ndim >= 3 else 0
    if (mean is None) != (std is None):
        raise ValueError("Of mean and std one is given; expected both or neither.")
    if mean is None or std is None:
        if channels != 3:
            raise ValueError(
                f"The images have {channels} channels (shape {tuple(images.shape)}), and ImageNet's mean and standard "
                f"deviation are known for 3; expected mean= and std=, one number a channel. "
                f"mean, std = segformer_edu.data.statistics(data) measures them."
            )
        mean, std = IMAGENET_MEAN, IMAGENET_STD
    check_statistics(mean, std, channels)
    shift, scale = (images.new_tensor(list(values)).view(-1, 1, 1) for values in (mean, std))
    return (images - shift) / scale


def check_statistics(mean: Sequence[float], std: Sequence[float], channels: int) -> None:
    """Raise TypeError or ValueError unless there is a mean and a positive standard deviation for each channel."""
    for name, values in {"mean": mean, "std": std}.items():
        if isinstance(values, str) or not hasattr(values, "__len__"):
            raise TypeError(f"{name} is {values!r}; expected {channels} numbers, one a channel.")
    if len(mean) != channels or len(std) != channels:
        raise ValueError(f"mean has {len(mean)} numbers and std {len(std)}; expected {channels}, one a channel.")
    if not all(math.isfinite(value) for value in mean) or not all(0 < value < math.inf for value in std):
        raise ValueError(f"mean is {tuple(mean)} and std {tuple(std)}; expected finite numbers, those of std positive.")


def statistics(data: Any) -> Statistics:
    """Measure mean and standard deviation of each channel over all pictures of a data set.

    Args:
        data: pairs of an image (C, H, W), in [0, 1] or in bytes, and its class map; or dictionaries with an "image";
            or images alone; or batches of these, (B, C, H, W).

    Returns:
        (mean, std), each with one number a channel: ``model.image_mean, model.image_std = statistics(data)``.

    Raises:
        TypeError: no data set, or items without a picture as a tensor.
        ValueError: no data, pictures with other values or with different numbers of channels, or a channel that is the
            same everywhere.

    Source: chapter 7.
    """
    count, total, squares = 0, torch.zeros(1, dtype=torch.double), torch.zeros(1, dtype=torch.double)
    for image in pictures_of(data):
        channels = image.double().movedim(-3, 0).flatten(1)
        if count and len(channels) != len(total):
            raise ValueError(f"The pictures have {len(total)} and {len(channels)} channels; expected as many for all.")
        count += channels.shape[1]
        total, squares = total + channels.sum(1), squares + channels.square().sum(1)
    if not count:
        raise ValueError("data is empty; expected at least one picture.")
    mean = total / count
    std = (squares / count - mean.square()).clamp(min=0).sqrt()
    if not (std > 1e-6).all():
        raise ValueError(
            f"The standard deviations are {std.tolist()}; expected channels that are not the same everywhere."
        )
    return tuple(mean.tolist()), tuple(std.tolist())


def pictures_of(data: Any) -> Iterator[torch.Tensor]:
    """Yield the pictures (C, H, W) or (B, C, H, W) of a data set in [0, 1]; see ``statistics``."""
    if not hasattr(data, "__iter__") and not (hasattr(data, "__len__") and hasattr(data, "__getitem__")):
        raise TypeError(f"data is a {type(data).__name__}; expected a data set or a list of pairs.")
    items = data if hasattr(data, "__iter__") else (data[index] for index in range(len(data)))
    for item in items:
        image = item
        if isinstance(item, Mapping):
            image = next((item[key] for key in IMAGE_KEYS if key in item), None)
        elif isinstance(item, tuple | list) and item:
            image = item[0]
        if not isinstance(image, torch.Tensor) or image.ndim not in (3, 4) or not image.numel():
            raise TypeError(
                f"An item is a {type(item).__name__}; expected a pair (image, mask) with the image as a tensor "
                f"(C, H, W), a dictionary with an 'image', or such an image."
            )
        yield fractions(image)


def as_image(image: Any, channels: int = 3) -> torch.Tensor:
    """Return a picture in any of the usual forms as values (channels, H, W) in [0, 1].

    Args:
        image: a path or an address (http, https); the bytes of a file, or a file opened with "rb"; a PIL image of any
            mode; an array (H, W) or (H, W, C), also as the path of an .npy file; a tensor (C, H, W) or (1, C, H, W).
            Arrays and tensors hold bytes, 16 bits (uint16), or values in [0, 1].
        channels: of the result. 3 are red, green and blue: grey becomes all three, what is transparent lies over white.
            1 is grey: colours are weighed as the eye does. For any other number the picture must have so many.

    Shapes: → (channels, H, W), float32, upright as EXIF's note says. 16 bits that use a quarter of their range or less,
    12 bits of a sensor say, are warned of; so is a TIFF of several pages, of which the first is taken.

    Raises:
        TypeError: something else.
        ValueError: a shape or a range of values other than these, or a file that is no picture; see ``open_picture``.
        FileNotFoundError: a path where there is nothing.
        DownloadError: an address that cannot be fetched.

    Source: chapter 9.
    """
    check_positive(channels=channels)
    if isinstance(image, str | Path | bytes | bytearray | memoryview) or hasattr(image, "read"):
        if isinstance(image, str | Path) and "://" not in str(image) and str(image).lower().endswith(".npy"):
            return from_array(read_array(image), channels)
        picture = open_picture(image)
        try:
            return to_tensor(picture, channels)
        except ValueError as error:
            raise ValueError(f"{image}: {error}" if isinstance(image, str | Path) else str(error)) from error
    if isinstance(image, Image.Image):
        return to_tensor(image, channels)
    if isinstance(image, np.ndarray):
        return from_array(image, channels)
    if not isinstance(image, torch.Tensor):
        raise TypeError(
            f"The image is a {type(image).__name__}; expected a path, bytes, an open file, a PIL image, an array or a "
            f"tensor."
        )
    image = image[0] if image.ndim == 4 and len(image) == 1 else image
    if image.ndim != 3 or len(image) != channels or not image.numel():
        raise ValueError(
            f"The tensor has shape {tuple(image.shape)}; expected one image, ({channels}, H, W) or "
            f"(1, {channels}, H, W)."
        )
    return fractions(image.detach())


def from_array(array: np.ndarray, channels: int = 3) -> torch.Tensor:
    """Return an array (H, W) or (H, W, C) as values (channels, H, W) in [0, 1]; see ``as_image``."""
    expected = "(H, W, 3), (H, W, 4) or (H, W)" if channels == 3 else f"(H, W, {channels})"
    taken = {1, 2, 3, 4, channels} if channels in (1, 3) else {channels}
    values = array.reshape(*array.shape[:2], -1) if array.ndim in (2, 3) and array.size else array
    if values.ndim != 3 or values.shape[-1] not in taken or not values.size:
        raise ValueError(f"The array has shape {array.shape}; expected {expected}.")
    if values.dtype.kind not in "uifb":
        raise TypeError(f"The array holds {values.dtype}; expected bytes, 16 bits (uint16), or numbers in [0, 1].")
    values = values.astype(values.dtype.newbyteorder("="), copy=False)  # a file may have the other order
    if values.dtype in (np.uint8, np.uint16):
        if values.dtype == np.uint16:
            warn_if_dark(values.max(), "The array")
        values = values.astype(np.float32) / np.iinfo(values.dtype).max
    colours = fractions(torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32)).permute(2, 0, 1))
    if channels not in (1, 3):
        return colours
    if len(colours) in (2, 4):
        opacity = colours[-1:]
        colours = colours[:-1] * opacity + (1 - opacity)
    if channels == 3:
        return colours.expand(3, -1, -1)
    return colours if len(colours) == 1 else (colours * torch.tensor(GREY).view(3, 1, 1)).sum(0, keepdim=True)


def fractions(values: torch.Tensor) -> torch.Tensor:
    """Return bytes, 16 bits or numbers in [0, 1] as floats in [0, 1]; other numbers are refused."""
    scale = {torch.uint8: 255, torch.uint16: 65535}.get(values.dtype, 1)
    if scale == 65535:
        warn_if_dark(values.float().max().item(), "The tensor")
    values = values.float() / scale
    if not (values.min() >= -SLACK and values.max() <= 1 + SLACK):
        raise ValueError(
            f"The values run from {values.min():.3g} to {values.max():.3g}; expected bytes (uint8), 16 bits (uint16), "
            f"or numbers in [0, 1]. Don't normalise: that is done here, once."
        )
    return values.clamp(0, 1)


def to_tensor(picture: Image.Image, channels: int = 3) -> torch.Tensor:
    """Return a picture of any of Pillow's modes, the right way up, as values (channels, H, W) in [0, 1].

    Grey, palette, CMYK and 1-bit pictures become red, green and blue; 16 bits of grey are divided by 65535; what is
    transparent lies over white; the camera's note of how it was held (EXIF) is obeyed. For other than 1 or 3
    channels the picture's own bands are taken as they are, transparency among them.

    Raises:
        ValueError: a mode with no such colours, numbers beyond 16 bits or below 0, or another number of bands than
            asked for.
    """
    warn_if_cut(picture)
    raw = stored(picture).raw
    negative = getattr(picture, "tag_v2", {}).get(PHOTOMETRIC) == 0  # a TIFF in which 0 is white
    picture = upright(picture)
    check_numbers(picture)
    if channels not in (1, 3):
        return bands_of(picture, channels)
    if picture.mode[0] in "IF":  # 16 or 32 bits of grey, which convert("RGB") would clip at 255
        return grey_of(picture, negative).expand(channels, -1, -1).clone()
    try:
        colours = np.array(without_transparency(picture).convert("L" if channels == 1 else "RGB"))
    except ValueError as error:
        raise ValueError(f"The picture's mode {picture.mode} has no red, green and blue ({error}).") from error
    if ";16" in raw and (brightest := int(colours.max()) * 257) <= DARK:  # Pillow keeps the upper byte of each number
        warn_if_dark(max(brightest, 255), "The picture")
    return torch.from_numpy(colours.reshape(*colours.shape[:2], -1)).permute(2, 0, 1).float().div_(255)


def check_numbers(picture: Image.Image) -> None:
    """Raise ValueError for a TIFF of which Pillow gives other numbers than stand there."""
    if is_mixed_up(picture):
        raise ValueError(f"The picture is {SEPARATE}; read it with tifffile or rasterio, and give the array (H, W, C).")
    signed = getattr(picture, "tag_v2", {}).get(SAMPLE_FORMAT, (0,))[0] == SIGNED
    if picture.mode == "L" and signed and np.array(picture).max() > 127:
        raise ValueError("The picture holds numbers below 0; expected grey from 0 up. Bring them to 0 to 255.")


def bands_of(picture: Image.Image, channels: int) -> torch.Tensor:
    """Return a picture's own bands, those of its colours where it has a palette, as values (channels, H, W)."""
    if picture.mode in ("P", "PA"):
        picture = picture.convert("RGBA" if picture.mode == "PA" or "transparency" in picture.info else "RGB")
    bands = picture.getbands()
    if len(bands) != channels:
        raise ValueError(f"The picture has {len(bands)} channels ({', '.join(bands)}); expected {channels}.")
    return from_array(np.array(picture), channels)


def grey_of(picture: Image.Image, negative: bool) -> torch.Tensor:
    """Return a picture of 16 or 32 bits of grey, or of fractions, as values (H, W) in [0, 1]."""
    numbers = np.array(picture, dtype=np.float32)
    grey = torch.from_numpy(numbers / 65535 if picture.mode[0] == "I" else numbers)
    if not (grey.min() >= 0 and grey.max() <= 1):
        raise ValueError(
            f"The picture (mode {picture.mode}) holds numbers that are no 16 bits of grey, nor fractions from 0 to 1; "
            f"bring them to one of the two."
        )
    if negative:
        return 1 - grey
    if picture.mode[0] == "I":
        warn_if_dark(numbers.max(), "The picture")
    return grey


def warn_if_dark(brightest: float, what: str) -> None:
    """Warn of 16 bits of which a quarter or less is used: a sensor's 10 to 14 bits, say, which look almost black."""
    if 0 < brightest <= DARK:
        bits = max(8, int(brightest).bit_length())
        warnings.warn(
            f"{what} has 16 bits, and its brightest value is {brightest:.0f} of 65535: it is shown to the model almost "
            f"black. If its values have {bits} bits, multiply them by {65535 // (2**bits - 1)} first.",
            stacklevel=2,
        )


def warn_if_cut(picture: Image.Image) -> None:
    """Warn of a TIFF with more bands than Pillow reads, or with more pages than the one that is taken."""
    there = getattr(picture, "tag_v2", {}).get(277, 0)
    if there > len(picture.getbands()) and there > 4:
        warnings.warn(
            f"The TIFF has {there} bands, of which Pillow reads {len(picture.getbands())}; read it with tifffile or "
            f"rasterio, and give the array (H, W, C), if the others are wanted.",
            stacklevel=2,
        )
    if picture.format == "TIFF" and stored(picture).several:  # an animation is known to show its first picture
        warnings.warn(
            "The TIFF holds several pages; the first one is taken. If each page is a channel, read it with tifffile, "
            "and give the array (H, W, C).",
            stacklevel=2,
        )


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
