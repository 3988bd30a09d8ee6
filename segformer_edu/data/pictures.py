"""Single pictures: reading, resizing, and what is done to every picture before a model sees it."""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps

from segformer_edu.data.formats import CONVERT, RAW_ENDINGS, foreign

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
LARGEST_DOWNLOAD = 64 << 20  # bytes
BY_HAND = "Check the address in a browser; or save the picture from there, and give its path."


OTHER_MEAN, OTHER_STD = 0.5, 0.25
"""What is taken for each channel where there are not three, and nobody gave statistics."""
Statistics = tuple[tuple[float, ...], tuple[float, ...]]
GREY = (0.299, 0.587, 0.114)  # shares of red, green and blue: ITU-R BT.601, as Pillow has it
HEAD = 256  # bytes that tell a format


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
        TypeError: whole numbers, bytes say.
        ValueError: other than three channels without ``mean`` and ``std``, or another number of these than of channels.
    """
    if not images.is_floating_point():
        raise TypeError(f"The images are {images.dtype}; expected floats in [0, 1]. For bytes: images.float() / 255.")
    channels = images.shape[-3] if images.ndim >= 3 else 0
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
    """Raise ValueError unless there is a mean and a positive standard deviation for each channel."""
    if len(mean) != channels or len(std) != channels:
        raise ValueError(f"mean has {len(mean)} numbers and std {len(std)}; expected {channels}, one a channel.")
    if not all(math.isfinite(value) for value in mean) or not all(0 < value < math.inf for value in std):
        raise ValueError(f"mean is {tuple(mean)} and std {tuple(std)}; expected finite numbers, those of std positive.")


def statistics(data: Iterable[Any]) -> Statistics:
    """Measure mean and standard deviation of each channel over all pictures of a data set.

    Args:
        data: pairs of an image (C, H, W) in [0, 1] and its class map, or images alone.

    Returns:
        (mean, std), each with one number a channel: ``model.image_mean, model.image_std = statistics(data)``.

    Raises:
        ValueError: no data, pictures with different numbers of channels, or a channel that is the same everywhere.

    Source: chapter 7.
    """
    count, total, squares = 0, torch.zeros(1, dtype=torch.double), torch.zeros(1, dtype=torch.double)
    for item in data:
        image = (item if isinstance(item, torch.Tensor) else item[0]).double()
        if count and len(image) != len(total):
            raise ValueError(f"The pictures have {len(total)} and {len(image)} channels; expected the same for all.")
        count += image[0].numel()
        total, squares = total + image.sum(dim=(1, 2)), squares + image.square().sum(dim=(1, 2))
    if not count:
        raise ValueError("data is empty; expected at least one picture.")
    mean = total / count
    std = (squares / count - mean.square()).clamp(min=0).sqrt()
    if not (std > 1e-6).all():
        raise ValueError(
            f"The standard deviations are {std.tolist()}; expected channels that are not the same everywhere."
        )
    return tuple(mean.tolist()), tuple(std.tolist())


def as_image(image: Any, channels: int = 3) -> torch.Tensor:
    """Return a picture in any of the usual forms as values (channels, H, W) in [0, 1].

    Args:
        image: a path or an address (http, https); the bytes of a file, or a file opened with "rb"; a PIL image of any
            mode; an array (H, W) or (H, W, C); a tensor (C, H, W) or (1, C, H, W). Arrays and tensors hold bytes,
            16 bits (uint16), or values in [0, 1].
        channels: of the result. 3 are red, green and blue: grey becomes all three, what is transparent lies over white.
            1 is grey: colours are weighed as the eye does. For any other number the picture must have so many.

    Raises:
        TypeError: something else.
        ValueError: a shape or a range of values other than these, or a file that is no picture; see ``open_picture``.
        FileNotFoundError: a path where there is nothing.
        DownloadError: an address that cannot be fetched.

    Source: chapter 9.
    """
    if isinstance(image, str | Path | bytes | bytearray | memoryview) or hasattr(image, "read"):
        if isinstance(image, str | Path) and str(image).lower().endswith(".npy"):
            return from_array(read_array(image), channels)
        image = open_picture(image)
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
    if values.dtype in (np.uint8, np.uint16):
        warn_if_dark(values, "The array")
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
    values = values.float() / scale
    if not (values.min() >= 0 and values.max() <= 1):
        raise ValueError(
            f"The values run from {values.min():.3g} to {values.max():.3g}; expected bytes, or numbers in [0, 1]. "
            f"Don't normalise: segment does."
        )
    return values


def read_array(path: str | Path) -> np.ndarray:
    """Read an array of numbers from a file that ends in .npy.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a file that holds no array of numbers.
    """
    try:
        array = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise FileNotFoundError(f"There is no file {path}; check the name and the folder.") from None
    except Exception as error:  # a damaged header raises anything
        raise ValueError(f"{path} cannot be read as an array ({error}); save it again with numpy.save.") from error
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "buif":
        raise ValueError(f"{path} holds no array of numbers; save it again with numpy.save.")
    return array


def open_picture(source: Any) -> Image.Image:
    """Open a picture and read it to its end; the first one of an animation.

    Args:
        source: a path, an address that begins with http:// or https://, a file's bytes, or a file opened with "rb".

    Returns:
        The picture; its ``info["maximum"]`` is what Pillow made 255 (or 65535) of, where the file has fewer shades.

    Raises:
        FileNotFoundError: no such file.
        DownloadError: an address that does not answer, or with more than 64 MB.
        ValueError: what is no picture, is cut short, or has more pixels than Pillow takes for harmless (179 million).
    """
    scheme = re.match(r"(\w[\w+.-]*)://", str(source)) if isinstance(source, str | Path) else None
    if scheme and scheme[1].lower() not in ("http", "https"):
        raise ValueError(f"{source} begins with {scheme[0]}; expected a path, or an address with http:// or https://.")
    name = str(source) if isinstance(source, str | Path) else str(getattr(source, "name", "The picture"))
    file = fetch_picture(str(source)) if scheme else source
    file = io.BytesIO(file) if isinstance(file, bytes | bytearray | memoryview) else file
    if name.lower().endswith(RAW_ENDINGS):  # Pillow would read the preview, as a TIFF
        raise ValueError(f"{name} cannot be read as a picture: {foreign(name)}.")
    picture: Image.Image
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's: many pixels, yet below its limit; odd notes beside them
            with Image.open(file) as picture:
                maximum = stored_maximum(picture)
                picture.load()
                picture.info["maximum"] = maximum
                return picture
    except Exception as error:  # a damaged file raises anything
        raise told(error, name, file) from error


def told(error: Exception, name: str, file: Any) -> Exception:
    """Put into words why a picture could not be read."""
    if isinstance(error, FileNotFoundError):
        return FileNotFoundError(f"There is no picture {name}; check the name and the folder.")
    if isinstance(error, IsADirectoryError) or (isinstance(file, str | Path) and Path(file).is_dir()):
        return ValueError(f"{name} is a folder; expected one picture.")
    if isinstance(error, Image.DecompressionBombError):
        return ValueError(
            f"{name} has too many pixels ({error}). Make it smaller with another program first; or, if you trust the "
            f"file and have the memory, set PIL.Image.MAX_IMAGE_PIXELS higher."
        )
    if isinstance(error, PermissionError):
        return ValueError(f"{name} cannot be read ({error}); ask for the right to read it.")
    if kind := foreign(name, head_of(file)):
        return ValueError(f"{name} cannot be read as a picture: {kind}.")
    if isinstance(error, NotImplementedError):
        return ValueError(f"{name} is a picture of a kind that is not supported ({error}); {CONVERT}.")
    remedy = "copy the address of the picture itself" if "://" in name else "it may be cut short: fetch it again"
    return ValueError(f"{name} cannot be read as a picture ({error or type(error).__name__}); {remedy}.")


def head_of(file: Any) -> bytes:
    """Return a file's first bytes, none where they cannot be had."""
    try:
        if isinstance(file, str | Path):
            with open(file, "rb") as opened:
                return opened.read(HEAD)
        file.seek(0)
        return bytes(file.read(HEAD))
    except (OSError, AttributeError, TypeError, ValueError):
        return b""


def stored_maximum(picture: Image.Image) -> int:
    """Return the largest number that a grey file can hold where Pillow spreads its numbers over 0 to 255; else 0.

    A PNG or TIFF of 2 or 4 bits, and a PGM that names another maximum: in a picture shades are to be spread, in a class
    map 1 would become 17 or 85.
    """
    tiles: list[Any] = getattr(picture, "tile", [])
    arguments = tiles[0][3] if tiles else None
    parts = arguments if isinstance(arguments, tuple) else (arguments,)
    if picture.format == "PPM" and len(parts) > 1 and isinstance(parts[1], int) and picture.mode in "LI":
        return parts[1]
    raw = next((part for part in parts if isinstance(part, str)), "")
    found = re.match(r"L;([24])", raw)
    return 2 ** int(found[1]) - 1 if found else 0


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


def to_tensor(picture: Image.Image, channels: int = 3) -> torch.Tensor:
    """Return a picture of any of Pillow's modes, the right way up, as values (channels, H, W) in [0, 1].

    Grey, palette, CMYK and 1-bit pictures become red, green and blue; 16 bits of grey are divided by 65535; what is
    transparent lies over white; the camera's note of how it was held (EXIF) is obeyed. For other than 1 or 3
    channels the picture's own bands are taken as they are, transparency among them.

    Raises:
        ValueError: a mode with no such colours, numbers beyond 16 bits, or another number of bands than asked for.
    """
    warn_if_cut(picture)
    picture = ImageOps.exif_transpose(picture)
    if channels not in (1, 3):
        return from_array(np.array(picture), channels)
    if picture.mode[0] in "IF":  # 16 or 32 bits of grey, which convert("RGB") would clip at 255
        numbers = np.array(picture, dtype=np.float32)
        grey = torch.from_numpy(numbers / 65535 if picture.mode[0] == "I" else numbers)
        if not (grey.min() >= 0 and grey.max() <= 1):
            raise ValueError(
                f"The picture (mode {picture.mode}) holds numbers that are no 16 bits of grey, nor fractions from 0 to "
                f"1; bring them to one of the two."
            )
        if picture.mode[0] == "I":
            warn_if_dark(numbers, "The picture")
        return grey.expand(channels, -1, -1).clone()
    try:
        colours = np.array(without_transparency(picture).convert("L" if channels == 1 else "RGB"))
    except ValueError as error:
        raise ValueError(f"The picture's mode {picture.mode} has no red, green and blue ({error}).") from error
    return torch.from_numpy(colours.reshape(*colours.shape[:2], -1)).permute(2, 0, 1).float().div_(255)


def warn_if_dark(numbers: np.ndarray, what: str) -> None:
    """Warn of 16 bits of which an eighth or less is used: a sensor's 10 to 12 bits, say, which look almost black."""
    brightest = numbers.max()
    if numbers.dtype.itemsize > 1 and 0 < brightest <= 8191:
        bits = max(8, int(brightest).bit_length())
        warnings.warn(
            f"{what} has 16 bits, and its brightest value is {brightest:.0f} of 65535: it is shown to the model almost "
            f"black. If its values have {bits} bits, multiply them by {65535 // (2**bits - 1)} first.",
            stacklevel=2,
        )


def warn_if_cut(picture: Image.Image) -> None:
    """Warn of a TIFF with more bands than Pillow reads."""
    stored = getattr(picture, "tag_v2", {}).get(277, 0)
    if stored > len(picture.getbands()) and stored > 4:
        warnings.warn(
            f"The TIFF has {stored} bands, of which Pillow reads {len(picture.getbands())}; read it with tifffile or "
            f"rasterio, and give the array (H, W, C), if the others are wanted.",
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
