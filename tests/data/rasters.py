"""Files that Pillow does not write: grey PNGs and TIFFs of any number of bits, PGMs of any maximum."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

ORIENTATION = 0x0112


def packed(values: np.ndarray, bits: int) -> bytes:
    """Pack numbers (H, W) of 1 to 16 bits, each row to whole bytes, the highest bit first."""
    digits = (values.astype(np.int64)[..., None] >> np.arange(bits)[::-1]) & 1
    return np.packbits(digits.reshape(len(values), -1).astype(np.uint8), axis=1).tobytes()


def png(path: Path, values: np.ndarray, bits: int) -> Path:
    """Write a PNG of 1 to 16 bits: grey (H, W); or (H, W, C), grey and opacity, colours, colours and opacity."""
    height, width = values.shape[:2]
    rows = np.frombuffer(packed(values.reshape(height, -1), bits), np.uint8).reshape(height, -1)
    chunks = {
        b"IHDR": struct.pack(
            ">IIBBBBB", width, height, bits, {2: 4, 3: 2, 4: 6}.get(values.size // (height * width), 0), 0, 0, 0
        ),
        b"IDAT": zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows)),
        b"IEND": b"",
    }
    parts = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks.items()
    ]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    return path


def tiff(path: Path, values: np.ndarray, bits: int, *, zero_is_white: bool = False, kind: int = 1) -> Path:
    """Write a grey TIFF; kind is 1 for numbers from 0 up, 2 for those below too, 3 for fractions."""
    whole = values.astype(f"<{' uif'[kind]}{bits // 8}").tobytes() if bits >= 16 else packed(values, bits)
    height, width = values.shape
    tags = {
        256: width, 257: height, 258: bits, 259: 1, 262: 0 if zero_is_white else 1, 273: 0, 277: 1, 278: height,
        279: len(whole), 339: kind,
    }  # fmt: skip
    tags[273] = 8 + 2 + 12 * len(tags) + 4
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    path.write_bytes(b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + whole)
    return path


def wide_tiff(
    path: Path, values: np.ndarray, bits: int, *, planar: int = 1, kind: int = 1, order: str = "<", shown: int = 2
) -> Path:
    """Write a TIFF of several channels, (H, W, C), which lie side by side (planar 1) or one after the other (2).

    ``shown`` is its photometric; ``order`` "<" or ">".
    """
    height, width, count = values.shape
    planes = np.moveaxis(values, -1, 0) if planar == 2 else [values.reshape(height, -1)]
    strips = [
        plane.astype(f"{order}{' uif'[kind]}{bits // 8}").tobytes() if bits >= 16 else packed(plane, bits)
        for plane in planes
    ]
    end = 8 + 2 + 12 * 11 + 4  # of the tags; lists of several numbers follow them
    lists = {258: [bits] * count, 273: [0] * len(strips), 279: [len(strips[0])] * len(strips), 339: [kind] * count}
    start = end + 4 * sum(map(len, lists.values()))
    lists[273] = [start + index * len(strips[0]) for index in range(len(strips))]
    tags = {256: width, 257: height, 259: 1, 262: shown, 277: count, 278: height, 284: planar}
    for tag, numbers in lists.items():
        tags[tag] = numbers[0] if len(numbers) == 1 else end
        end += 4 * len(numbers)
    entries = b"".join(struct.pack(f"{order}HHII", tag, 4, len(lists.get(tag, [0])), tags[tag]) for tag in sorted(tags))
    numbers = b"".join(struct.pack(f"{order}{len(part)}I", *part) for part in lists.values())
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, len(tags))
    path.write_bytes(head + entries + bytes(4) + numbers + b"".join(strips))
    return path


def pgm(path: Path, values: np.ndarray, maximum: int, *, plain: bool = False) -> Path:
    """Write a PGM whose white is ``maximum``, in bytes or plain text."""
    height, width = values.shape
    numbers = values.astype(">u2" if maximum > 255 else "u1").tobytes()
    text = b" ".join(b"%d" % value for value in values.ravel().tolist())
    path.write_bytes(b"P%d\n%d %d\n%d\n" % (2 if plain else 5, width, height, maximum) + (text if plain else numbers))
    return path


def noted(path: Path, values: np.ndarray, note: int) -> Path:
    """Write a picture with EXIF's note of how the camera was held; 0 for no note."""
    if path.suffix == ".tif":
        options: dict = {"tiffinfo": {ORIENTATION: note}}
    else:
        exif = Image.Exif()
        exif[ORIENTATION] = note
        options = {"exif": exif}
    better = {"quality": 100, "subsampling": 0} if path.suffix == ".jpg" else {}
    Image.fromarray(values).save(path, **(options if note else {}), **better)
    return path
