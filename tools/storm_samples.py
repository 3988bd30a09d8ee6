"""What the storm of files breaks: whole, small files of every format that the library reads."""

from __future__ import annotations

import io
import json
import re
import struct
import sys
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import segformer_edu as se
from segformer_edu.data import Shapes
from segformer_edu.training import Recipe, fit

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "tests"))  # published.py and samples.py make models

CLASSES = ("a", "b", "c", "d", "e")
RECIPE = Recipe(steps=2, batch_size=2, warm_up=1, validate_every=1)
QUIET: dict[str, Any] = {"device": torch.device("cpu"), "progress": False}
INDEX = "model.safetensors.index.json"


@dataclass(frozen=True)
class Sample:
    """Whole files of one format.

    Attributes:
        name: of the format.
        kind: how they are read: a key of ``storm_files.READERS``.
        files: names to contents.
        victims: names of those that are to be broken.
        source: what is to be read; "" for the folder that holds the files.
        checked: whether the format has checksums, so that what is read must be what was written.
        refused: whether the library does not read the format, and has to say so.
        options: for the reader.
    """

    name: str
    kind: str
    files: dict[str, bytes]
    victims: tuple[str, ...]
    source: str = ""
    checked: bool = False
    refused: bool = False
    options: tuple[tuple[str, Any], ...] = ()


def originals(rows: str) -> list[Sample]:
    """Make whole files of every format in whose name the pattern ``rows`` is found, always the same."""
    made = [
        *own_weights(),
        *published_weights(),
        *hugging_face(),
        checkpoint(),
        *pictures(),
        *class_maps(),
        name_list(),
    ]
    return [sample for sample in made if re.search(rows, sample.name)]


def written_to(folder: Path, files: dict[str, bytes]) -> Path:
    """Write files into a folder, and return it."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


# Weights


def pt(content: object, zipped: bool = True) -> bytes:
    """Return what ``torch.save`` writes, in the form of before 2020 if not ``zipped``."""
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=zipped)
    return file.getvalue()


def small_model(parts: se.Parts = se.PAPER, **options: Any) -> se.Segformer:
    """Make a small model, always the same."""
    from samples import SMALL, shaken

    torch.manual_seed(0)
    own = {"decoder_dim": 16, "num_classes": 5, "class_names": CLASSES, "parts": parts}
    model = shaken(se.Segformer(**SMALL | own | options)).eval()
    model.image_mean, model.image_std = (0.4, 0.5, 0.6), (0.2, 0.2, 0.3)
    return model


def own_weights() -> Iterator[Sample]:
    """This library's own forms."""
    with tempfile.TemporaryDirectory() as made:
        folder = se.save_pretrained(small_model(), Path(made))
        files = {path.name: path.read_bytes() for path in folder.iterdir()}
    whole = files["model.safetensors"]
    yield Sample("own folder", "weights", files, ("model.safetensors", "config.json"), checked=True)
    yield Sample("own .safetensors", "weights", {"w.safetensors": whole}, ("w.safetensors",), "w.safetensors", True)
    yield from pickles("own .pt", small_model().state_dict())


def pickles(name: str, content: object, *, forms: tuple[bool, ...] = (True, False), **options: Any) -> Iterator[Sample]:
    """A file of ``torch.save``, in today's form and that of before 2020."""
    for zipped in forms:
        form, files = name if zipped else f"{name}, of before 2020", {"w.pt": pt(content, zipped)}
        yield Sample(form, "weights", files, ("w.pt",), "w.pt", zipped, options=tuple(options.items()))


def published_weights() -> Iterator[Sample]:
    """Files of others, in their names."""
    import segformer_pytorch
    from published import SMALL, mmsegmentation, nvlabs, segmenter, smp
    from samples import SMALL as SKETCH
    from samples import shaken

    state = segmenter(SMALL).state_dict()
    yield from pickles("NVlabs .pth", {"state_dict": nvlabs(state), "meta": {"epoch": 3, "note": "text"}})
    yield from pickles("smp .pt", smp(state), forms=(True,))
    yield from pickles("mmsegmentation .pth", {"state_dict": mmsegmentation(state)}, forms=(True,), num_classes=5)
    torch.manual_seed(0)
    sketch = shaken(segformer_pytorch.Segformer(**SKETCH, decoder_dim=16, num_classes=5)).state_dict()
    yield from pickles("lucidrains .pt", sketch, forms=(True,), heads=SKETCH["heads"])


def hugging_face() -> Iterator[Sample]:
    """Folders as transformers writes them, now and before, in one file and in parts."""
    from published import SMALL, segmenter
    from safetensors.torch import load, save
    from transformers.utils import logging

    logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as made:
        segmenter(SMALL).save_pretrained(made)
        files = {path.name: path.read_bytes() for path in Path(made).iterdir()}
    config = {"config.json": files["config.json"]}
    state = dict(sorted(load(files["model.safetensors"]).items()))
    parts = {f"{number}.safetensors": dict(list(state.items())[number::2]) for number in (0, 1)}
    index = json.dumps({"metadata": {}, "weight_map": {name: file for file, part in parts.items() for name in part}})
    shards = {file: save(part) for file, part in parts.items()} | {INDEX: index.encode()}
    yield Sample("Hugging Face folder", "weights", files, ("model.safetensors", "config.json"))
    old = config | {"pytorch_model.bin": pt(state)}
    yield Sample("Hugging Face .bin", "weights", old, ("pytorch_model.bin", "config.json"))
    yield Sample("Hugging Face in parts", "weights", config | shards, tuple(shards))


def checkpoint() -> Sample:
    """A checkpoint of ``fit`` after the first of two steps."""
    seen: list[bytes] = []
    with tempfile.TemporaryDirectory() as made:
        path = Path(made) / "run.pt"
        fit(small_model(), Shapes(4, size=32), RECIPE, checkpoint=path, **QUIET,
            on_step=lambda _: seen.append(path.read_bytes()) if path.is_file() else None)  # fmt: skip
    return Sample("checkpoint of fit", "checkpoint", {"run.pt": seen[0]}, ("run.pt",), "run.pt", True)


# Pictures, class maps, lists


def chunk(kind: bytes, content: bytes) -> bytes:
    """Return a piece of a PNG, with its checksum."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def grey_png(depth: int, width: int = 24, height: int = 18) -> bytes:
    """A grey PNG of 1 to 16 bits, which Pillow writes of few depths."""
    row = b"\0" + bytes(range(1, 1 + width * depth // 8))
    header = struct.pack(">IIBBBBB", width, height, depth, 0, 0, 0, 0)
    pieces = {b"IHDR": header, b"IDAT": zlib.compress(row * height), b"IEND": b""}
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*piece) for piece in pieces.items())


def written(picture: Image.Image, format: str, **options: Any) -> bytes:
    """Return a picture as Pillow writes it."""
    file = io.BytesIO()
    picture.save(file, format, **options)
    return file.getvalue()


def npy(array: np.ndarray) -> bytes:
    """Return an array as NumPy writes it."""
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def pictures() -> Iterator[Sample]:
    """Pictures of every format; the right answer to a HEIC is an error."""
    colours = np.random.default_rng(0).integers(0, 256, (18, 24, 3), dtype=np.uint8)
    rgb = Image.fromarray(colours)
    made = {f"grey{depth}.png": grey_png(depth) for depth in (1, 2, 4, 8, 16)} | {
        "rgb.png": written(rgb, "PNG"),
        "alpha.png": written(rgb.convert("RGBA"), "PNG"),
        "palette.png": written(rgb.quantize(16), "PNG"),
        "rgb.jpg": written(rgb, "JPEG"),
        "progressive.jpg": written(rgb, "JPEG", progressive=True),
        "cmyk.jpg": written(rgb.convert("CMYK"), "JPEG"),
        "raw.tif": written(rgb, "TIFF"),
        "lzw.tif": written(rgb, "TIFF", compression="tiff_lzw"),
        "deflate.tif": written(rgb, "TIFF", compression="tiff_deflate"),
        "float.tif": written(Image.fromarray(colours[:, :, 0].astype(np.float32) / 255), "TIFF"),
        "lossy.webp": written(rgb, "WEBP"),
        "lossless.webp": written(rgb, "WEBP", lossless=True),
        "animated.gif": written(rgb, "GIF", save_all=True, append_images=[rgb.rotate(180)]),
        "rgb.bmp": written(rgb, "BMP"),
        "rgb.ppm": written(rgb, "PPM"),
        "plain.ppm": b"P3 2 2 255\n" + b" ".join(b"%d" % number for number in range(12)) + b"\n",
        "rgb.npy": npy(colours),
        "photo.heic": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(range(256)) * 4,
    }
    for name, content in made.items():
        kinds = {"checked": name.endswith("png"), "refused": name.endswith("heic")}
        yield Sample(f"picture {name}", "picture", {name: content}, (name,), name, **kinds)


def class_maps() -> Iterator[Sample]:
    """A folder with one picture and its class map, in every format that maps come in."""
    numbers = (np.arange(18 * 24, dtype=np.uint8) % 5).reshape(18, 24)
    grey = Image.fromarray(numbers)
    palette = grey.copy()
    palette.putpalette(list(range(256)) * 3)
    made = {
        "grey.png": written(grey, "PNG"),
        "palette.png": written(palette, "PNG"),
        "grey16.png": written(Image.fromarray(numbers.astype(np.uint16)), "PNG"),
        "lzw.tif": written(grey, "TIFF", compression="tiff_lzw"),
        "grey.gif": written(grey, "GIF"),
        "grey.bmp": written(grey, "BMP"),
        "grey.ppm": written(grey, "PPM"),
        "int64.npy": npy(numbers.astype(np.int64)),
    }
    photo = written(Image.new("RGB", (24, 18), (9, 99, 200)), "PNG")
    for name, content in made.items():
        victim = f"masks/p{Path(name).suffix}"
        files = {"images/p.png": photo, victim: content}
        yield Sample(f"class map {name}", "map", files, (victim,), checked=name.endswith("png"))


def name_list() -> Sample:
    """A folder of pictures of which a list of names takes some."""
    photo, grey = (written(Image.new(mode, (8, 8)), "PNG") for mode in ("RGB", "L"))
    names = ("one", "two", "drei", "四")
    files = {f"images/{name}.png": photo for name in names} | {f"masks/{name}.png": grey for name in names}
    return Sample("list of names", "names", files | {"list.txt": "\n".join(names[:3]).encode()}, ("list.txt",))
