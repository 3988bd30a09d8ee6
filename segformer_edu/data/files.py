"""Files of pictures and arrays: opened, read to their end, and put in words why they cannot be."""

from __future__ import annotations

import io
import os
import re
import struct
import warnings
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from segformer_edu.data.formats import CONVERT, HEAD, RAW, RAW_ENDINGS, foreign
from segformer_edu.data.orientation import load, note_of

LARGEST_DOWNLOAD = 64 << 20  # bytes
BY_HAND = "Check the address in a browser; or save the picture from there, and give its path."
STORED = "segformer_edu"
PNG = b"\x89PNG\r\n\x1a\n"
DNG_VERSION, KIND_OF_PAGE, SUB_PAGES, PHOTOMETRIC = 50706, 254, 330, 262  # tags of TIFF
BITS, COMPRESSION, PLANAR, SAMPLE_FORMAT = 258, 259, 284, 339
SIGNED = 2  # the sample format of numbers below 0 too
SEPARATE = "a TIFF whose channels lie one after the other, not compressed, which Pillow mixes up"
MANY_PIXELS, USUAL_LIMIT = 80_000_000, Image.MAX_IMAGE_PIXELS
REDUCED = 1  # the kind of page that is a preview
MISSING_PART = re.compile("not available|cannot find loader|Unable to locate")
"""How Pillow says that it lacks another library for a format."""


@dataclass(frozen=True)
class Stored:
    """What stands in a picture's file and is not seen once Pillow has read it.

    Attributes:
        maximum: what Pillow made 255 (or 65535) of, where the file has fewer shades; else 0.
        raw: Pillow's name of how the numbers are stored, "RGB;16B" say.
        note: EXIF's of how the camera was held, 1 to 8.
        several: whether it holds more pictures, pages or frames, of which this is the first.
    """

    maximum: int = 0
    raw: str = ""
    note: int = 1
    several: bool = False


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
        raise ValueError(
            f"{path} cannot be read as an array ({error}); expected what numpy.save makes of an array of numbers."
        ) from error
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "buif":
        raise ValueError(f"{path} holds no single array of numbers; expected what numpy.save makes of one.")
    return array


def open_picture(source: Any) -> Image.Image:
    """Open a picture and read it to its end; the first one of an animation.

    Args:
        source: a path, an address that begins with http:// or https://, a file's bytes, or a file opened with "rb".

    Returns:
        The picture as Pillow reads it, not turned yet (``orientation.upright``). ``stored`` tells more of its file.

    Raises:
        FileNotFoundError: no such file.
        DownloadError: an address that does not answer, or with more than 64 MB.
        ValueError: what is no picture, is cut short, or has more pixels than Pillow takes for harmless (179 million).
    """
    scheme = re.match(r"(\w[\w+.-]*)://", str(source)) if isinstance(source, str | Path) else None
    if scheme and scheme[1].lower() not in ("http", "https"):
        raise ValueError(f"{source} begins with {scheme[0]}; expected a path, or an address with http:// or https://.")
    name = name_of(source)
    if name.lower().endswith(RAW_ENDINGS):  # Pillow would read the preview, as a TIFF
        raise ValueError(f"{name} cannot be read as a picture: {foreign(name)}.")
    file = fetch_picture(str(source)) if scheme else source
    try:
        file = io.BytesIO(file) if isinstance(file, bytes | bytearray | memoryview) else at_its_start(file)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's: many pixels, yet below its limit; odd notes beside them
            with Image.open(file) as picture:
                check_density(picture, file)
                if picture.format == "PNG":
                    check_chunks(file)
                return loaded(picture)
    except Exception as error:  # a damaged file raises anything
        raise told(error, name, file) from error


def name_of(source: Any) -> str:
    """Return what to call a picture in a message."""
    name = source if isinstance(source, str | Path) else getattr(source, "name", None)
    return str(name) if isinstance(name, str | Path) else "The file"


def at_its_start(file: Any) -> Any:
    """Return an open file at its start; what cannot be wound back, a pipe say, is read first."""
    if isinstance(file, str | Path):
        return file
    try:
        file.seek(0)
    except (AttributeError, OSError):
        return io.BytesIO(file.read())
    return file


def check_density(picture: Image.Image, file: Any) -> None:
    """Refuse a small file that unfolds into gigabytes, before it does; no photograph is such, and few drawings are.

    Raises:
        DecompressionBombError: more than 80 million pixels, of which more than fifty stand in each byte.
    """
    pixels = picture.width * picture.height
    if pixels <= MANY_PIXELS or Image.MAX_IMAGE_PIXELS != USUAL_LIMIT:  # whoever changed that knows what he does
        return
    size = os.path.getsize(file) if isinstance(file, str | Path) else file.seek(0, os.SEEK_END)
    if pixels > 50 * size:
        raise Image.DecompressionBombError(f"{pixels} in a file of {size} bytes, as in a decompression bomb")


def check_chunks(file: Any) -> None:
    """Compare the checksums in a PNG with what the picture is made of: Pillow looks at no checksum of its pixels.

    Raises:
        ValueError: one that is wrong.
    """
    if isinstance(file, str | Path):
        content = Path(file).read_bytes()
    else:
        at = file.tell()
        file.seek(0)
        content = file.read()
        file.seek(at)
    start = len(PNG)
    while start + 12 <= len(content):
        size, kind = struct.unpack(">I4s", content[start : start + 8])
        end = start + 8 + size
        if end + 4 > len(content) and kind != b"IEND":
            raise ValueError("image file is truncated: it ends before its last part does")
        is_needed = kind[:1].isupper()  # texts and dates are not
        if is_needed and zlib.crc32(content[start + 4 : end]) != int.from_bytes(content[end : end + 4], "big"):
            name = f" {kind.decode()}" if kind.isalpha() else ""
            raise ValueError(f"the checksum of its part{name} is wrong")
        if kind == b"IEND":
            return
        start = end + 4


def loaded(picture: Image.Image) -> Image.Image:
    """Read a picture's pixels, and note what of its file is not seen in them.

    Raises:
        NotImplementedError: a sensor's own numbers, of which Pillow reads the preview; channels that it mixes up.
    """
    tags = getattr(picture, "tag_v2", {})
    if DNG_VERSION in tags or (tags.get(KIND_OF_PAGE, 0) == REDUCED and SUB_PAGES in tags):
        raise NotImplementedError(f"camera raw: {RAW}")
    if is_mixed_up(picture):
        raise NotImplementedError(SEPARATE)
    maximum, raw = shades(picture)
    several = bool(getattr(picture, "is_animated", False))
    note = note_of(picture) if picture.format == "TIFF" else 1
    load(picture)
    picture.info[STORED] = Stored(maximum, raw, note if picture.format == "TIFF" else note_of(picture), several)
    return picture


def is_mixed_up(picture: Image.Image) -> bool:
    """Say whether Pillow misreads a TIFF in which each channel lies by itself, not compressed.

    It reads each as the first letter of a format says, "R" of "RGB;16L": right for 8 bits and a few others alone.
    """
    tags: Any = getattr(picture, "tag_v2", {})
    if tags.get(PLANAR) != 2 or tags.get(COMPRESSION, 1) != 1:
        return False
    bits = tags.get(BITS, (1,))[0]
    usual = bits in (1, 8) and tags.get(PHOTOMETRIC) in (1, 2, 3, 5)  # grey, RGB, a palette, CMYK
    return not usual and not (bits == 32 and tags.prefix == b"II")


def stored(picture: Image.Image) -> Stored:
    """Return what ``open_picture`` noted of a picture's file."""
    told: Stored = picture.info.get(STORED, Stored())
    return told


def told(error: Exception, name: str, file: Any) -> Exception:
    """Put into words why a picture could not be read."""
    if isinstance(error, FileNotFoundError) and isinstance(file, str | Path) and not os.path.exists(file):
        return FileNotFoundError(f"There is no picture {name}; check the name and the folder.")
    if isinstance(error, IsADirectoryError) or (isinstance(file, str | Path) and os.path.isdir(file)):
        return ValueError(f"{name} is a folder; expected one picture.")
    if isinstance(error, Image.DecompressionBombError):
        return ValueError(
            f"{name} has too many pixels ({error}). Make it smaller with another program first; or, if you trust the "
            f"file and have the memory, set PIL.Image.MAX_IMAGE_PIXELS higher."
        )
    if isinstance(file, io.TextIOBase):
        return ValueError(f'{name} is opened as a text; expected a file opened with "rb".')
    head = head_of(file)
    if kind := foreign(name, head):
        return ValueError(f"{name} cannot be read as a picture: {kind}.")
    if isinstance(error, OSError) and error.errno:
        remedy = "ask for the right to read it" if isinstance(error, PermissionError) else "check the path"
        return ValueError(f"{name:.300} cannot be opened ({error.strerror}); {remedy}.")
    if isinstance(error, NotImplementedError) or MISSING_PART.search(str(error)):
        return ValueError(f"{name} is a picture of a kind that is not supported ({error}); {CONVERT}.")
    remedy = "copy the address of the picture itself" if "://" in name else "it may be cut short: fetch it again"
    if isinstance(error, UnidentifiedImageError):
        if unknown := kind_of_tiff(file, head):
            return ValueError(
                f"{name} is a TIFF with numbers that Pillow does not read ({unknown}), many bands or 64 bits say; read "
                f"it with tifffile or rasterio. Then give a picture as an array (H, W, C), and save class numbers as "
                f"PNG or .npy."
            )
        error = ValueError("Pillow finds no picture in it")  # its own message names an address in memory
    return ValueError(f"{name} cannot be read as a picture ({error or type(error).__name__}); {remedy}.")


def kind_of_tiff(file: Any, head: bytes) -> str:
    """Return Pillow's reason for not reading a TIFF that is whole, "" for anything else."""
    if not head.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
        return ""
    from PIL.TiffImagePlugin import TiffImageFile  # here: Image.open alone keeps the reason to itself

    try:
        TiffImageFile(at_its_start(file))
    except SyntaxError as error:
        return str(error) if "pixel" in str(error) else ""
    except Exception:  # a damaged file raises anything
        return ""
    return ""


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


def shades(picture: Image.Image) -> tuple[int, str]:
    """Return the largest number that a grey file can hold where Pillow spreads its numbers over 0 to 255, and how.

    A PNG or TIFF of 2 or 4 bits, and a PGM that names another maximum: in a picture shades are to be spread, in a class
    map 1 would become 17 or 85.

    Returns:
        The number, 0 where nothing is spread; and Pillow's name of how the numbers are stored, "" if there is none.
    """
    tiles: list[Any] = getattr(picture, "tile", [])
    arguments = tiles[0][3] if tiles else None
    parts = arguments if isinstance(arguments, tuple) else (arguments,)
    raw = next((part for part in parts if isinstance(part, str)), "")
    if picture.format == "PPM" and len(parts) > 1 and isinstance(parts[1], int):
        if picture.mode in "LI":
            return parts[1], raw
        return 0, f"{raw};16" if parts[1] == 65535 else raw
    found = re.match(r"L;([24])", raw)
    return 2 ** int(found[1]) - 1 if found else 0, raw


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
