"""How the storm breaks a file: functions of its content and a random generator, which return another content."""

from __future__ import annotations

import io
import json
import random
import struct
import zipfile
import zlib
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from storm_samples import chunk, pt

NUMBERS = (0, 1, 0xFFFF, 30_000, 1 << 20, (1 << 31) - 1, (1 << 32) - 1, 1 << 40, (1 << 63) - 1, (1 << 64) - 1)
DIGITS = (b"9" * 4, b"9" * 12, b"9" * 5000, b"-1", b"1e400", b"0")
ODD = (None, True, [], {}, "", "x", "\ud800", -1, 0, 3, 1e308, 10**30, [[[]]], ["a", 3, None], {"a": {}}, [1, 2, 5, 8])
ODD_JSON = (b"[" * 100_000, b'{"a":' * 100_000, b"9" * 5000)
PIECE = bytes(1 << 24)


# Without knowing what it is


def flip(content: bytes, rng: random.Random) -> bytes:
    """Change one bit, or some bytes."""
    broken = bytearray(content)
    for _ in range(rng.choice([1, 1, 1, 2, 8, 64])):
        broken[place(content, rng)] ^= rng.choice([1 << rng.randrange(8), rng.randrange(1, 256)])
    return bytes(broken)


def place(content: bytes, rng: random.Random) -> int:
    """Choose a byte; half of the time of the beginning, where headers are, or of the end."""
    length, near = len(content), min(len(content), 200)
    return rng.choice(
        [rng.randrange(length), rng.randrange(length), rng.randrange(near), length - 1 - rng.randrange(near)]
    )


def cut(content: bytes, rng: random.Random) -> bytes:
    """Leave out the end, the beginning, something between, or almost all."""
    start, end = sorted(rng.randrange(len(content) + 1) for _ in range(2))
    return rng.choice([content[:end], content[start:], content[:start] + content[end:], content[: rng.randrange(9)]])


def exchange(content: bytes, rng: random.Random) -> bytes:
    """Exchange two blocks."""
    size = min(rng.choice([1, 4, 16, 512, 4096]), len(content) // 2)
    first = rng.randrange(len(content) - 2 * size + 1)
    second = rng.randrange(first + size, len(content) - size + 1)
    one, other = content[first : first + size], content[second : second + size]
    return content[:first] + other + content[first + size : second] + one + content[second + size :]


def grow(content: bytes, rng: random.Random) -> bytes:
    """Put rubbish, zeros or a second copy somewhere."""
    size = rng.choice([1, 7, 512, 70_000])
    more = rng.choice([rng.randbytes(size), bytes(size), content])
    at = rng.choice([0, len(content), rng.randrange(len(content))])
    return content[:at] + more + content[at:]


def huge(content: bytes, rng: random.Random) -> bytes:
    """Write a large number, a zero or a negative one where a size may stand, in bytes or in digits."""
    digits = [at for at, byte in enumerate(content[:4000]) if 48 <= byte < 58]
    if digits and rng.random() < 0.3:
        at = rng.choice(digits)
        return content[:at] + rng.choice(DIGITS) + content[at + 1 :]
    width = rng.choice([2, 4, 8])
    number = min(rng.choice(NUMBERS), (1 << 8 * width) - 1).to_bytes(width, rng.choice(["little", "big"]))
    at = place(content, rng)
    return content[:at] + number + content[at + width :]


PLAIN = (flip, cut, exchange, grow, huge)


# Behind the checksums


def inside(content: bytes, rng: random.Random) -> bytes:
    """Break what is inside of a container, and make checksums and lengths anew; or change a value of what it holds."""
    if content.startswith(b"PK"):
        return rng.choice([inside_zip, inside_pickle])(content, rng)
    if content.startswith(b"\x80\x02"):
        return inside_pickle(content, rng)
    if content.startswith(b"\x89PNG"):
        return inside_png(content, rng)
    if content[8:9] == b"{":
        size = int.from_bytes(content[:8], "little")
        header = inside_json(content[8 : 8 + size], rng)
        return len(header).to_bytes(8, "little") + header + content[8 + size :]
    return inside_json(content, rng) if content.startswith(b"{") else flip(content, rng)


def inside_json(content: bytes, rng: random.Random) -> bytes:
    """Change a value; also of the record in the header of a .safetensors, which is JSON in JSON."""
    if rng.random() < 0.05:
        return rng.choice(ODD_JSON)
    loaded = json.loads(content)
    metadata = loaded.get("__metadata__", {})
    if metadata and rng.random() < 0.3:
        name = rng.choice(list(metadata))
        metadata[name] = inside_json(metadata[name].encode(), rng).decode() if metadata[name].startswith("{") else "x"
        return json.dumps(loaded).encode()
    return json.dumps(changed(loaded, rng, list(ODD))).encode()


def inside_zip(content: bytes, rng: random.Random) -> bytes:
    """Break a part of a zip."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(file, "w") as new:
        names = old.namelist()
        victim = rng.choice([names[0], rng.choice(names)])  # the first is the pickle
        for name in names:
            part = old.read(name)
            new.writestr(name, rng.choice(PLAIN)(part, rng) if name == victim and part else part)
    return file.getvalue()


def inside_pickle(content: bytes, rng: random.Random) -> bytes:
    """Change a value of what ``torch.save`` wrote."""
    loaded = torch.load(io.BytesIO(content), weights_only=True)
    return pt(changed(loaded, rng, [*ODD, *odd_tensors()]), content.startswith(b"PK"))


def inside_png(content: bytes, rng: random.Random) -> bytes:
    """Break a piece of a PNG; of the pixels, what they were compressed from."""
    pieces = pieces_of(content)
    victim, breaker = rng.randrange(len(pieces) - 1), rng.choice(PLAIN)  # the last is empty
    kind, data = pieces[victim]
    data = zlib.compress(breaker(zlib.decompress(data), rng)) if kind == b"IDAT" else breaker(data, rng)
    pieces[victim] = kind, data
    return content[:8] + b"".join(chunk(*piece) for piece in pieces)


def pieces_of(png: bytes) -> list[tuple[bytes, bytes]]:
    """Take a PNG apart: names and contents of its pieces."""
    pieces, at = [], 8
    while at < len(png):
        size = int.from_bytes(png[at : at + 4], "big")
        pieces.append((png[at + 4 : at + 8], png[at + 8 : at + 8 + size]))
        at += size + 12
    return pieces


def changed(thing: Any, rng: random.Random, odd: list[Any]) -> Any:
    """Return nested mappings and lists with one value, anywhere in them, another, left out, or under another name."""
    if not isinstance(thing, dict | list) or not thing or rng.random() < 0.1:
        return rng.choice(variants(thing) if isinstance(thing, torch.Tensor) and rng.random() < 0.5 else odd)
    copy, how = thing.copy(), rng.random()
    key = rng.choice(list(thing) if isinstance(thing, dict) else range(len(thing)))
    if how < 0.8:
        copy[key] = changed(thing[key], rng, odd)
        return copy
    value = copy.pop(key)
    if how > 0.9 and isinstance(copy, dict):
        copy[rng.choice([f"{key}x", "", "a." * 9, "\ud800", "x" * 9000])] = value
    return copy


def variants(value: torch.Tensor) -> list[torch.Tensor]:
    """Return tensors of another shape or type, with other or with too large numbers."""
    return [value[..., None], value.flatten()[:1], value.double() * 1e300, value.half(), value.long(), -value]


def odd_tensors() -> list[torch.Tensor]:
    """Return tensors that are no weights: of other types, without numbers, and with more than any memory holds."""
    one = torch.ones(1)
    return [
        torch.ones(0),
        torch.tensor(3),
        torch.tensor(float("nan")),
        torch.full((3,), 1e308, dtype=torch.double),
        torch.ones(5, dtype=torch.bfloat16),
        torch.ones(2, dtype=torch.complex64),
        torch.ones(4, 4).to(torch.float8_e5m2),
        one.expand(3, 3),
        one.expand(1 << 18, 1 << 18),
        torch.empty(1 << 20, 1 << 20, device="meta"),
        torch.sparse_coo_tensor(torch.zeros(2, 1, dtype=torch.long), one, (1 << 30, 1 << 30)),
    ]


# Small files that unpack to gigabytes


def bomb(content: bytes, rng: random.Random) -> bytes:
    """Fill a format that compresses with more than a gigabyte of zeros."""
    if content.startswith(b"PK"):
        return zip_bomb(content, rng)
    if content.startswith(b"\x89PNG"):
        size = rng.choice([(13_000, 13_000), (9_000, 9_000), (1 << 30, 1), (60_000, 60_000), (178_000_000, 1)])
        pieces = dict(pieces_of(content))
        pieces |= {b"IHDR": struct.pack(">II", *size) + pieces[b"IHDR"][8:], b"IDAT": zeros(1 << 30)}
        if rng.random() < 0.3:
            pieces = {b"IHDR": pieces.pop(b"IHDR"), b"zTXt": b"Comment\0\0" + zeros(5 << 28), **pieces}
        return content[:8] + b"".join(chunk(*piece) for piece in pieces.items())
    return huge(content, rng)


@cache
def zeros(count: int) -> bytes:
    """Return zeros, compressed to a thousandth."""
    packer = zlib.compressobj()
    return b"".join(packer.compress(PIECE) for _ in range(count // len(PIECE))) + packer.flush()


def zip_bomb(content: bytes, rng: random.Random) -> bytes:
    """Compress a zip, with 1.3 GB of zeros behind one of its parts."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, True, 1) as new:
        victim = rng.choice(old.namelist())
        for name in old.namelist():
            with new.open(name, "w", force_zip64=True) as part:
                part.write(old.read(name))
                for _ in range(80 if name == victim else 0):
                    part.write(PIECE)
    return file.getvalue()


BREAKS: dict[str, Callable[[bytes, random.Random], bytes]] = {
    **{breaker.__name__: breaker for breaker in PLAIN},
    "inside": inside,
    "bomb": bomb,
}
SHARES = {"flip": 30, "cut": 15, "exchange": 10, "grow": 10, "huge": 15, "inside": 18, "bomb": 2}
"""Of a hundred files, how many are broken how."""
