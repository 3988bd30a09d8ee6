"""``segformer-edu doctor``: what is here, what is missing, what is broken; to be pasted into an issue."""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata as metadata
import locale
import os
import platform
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from PIL import features

import segformer_edu
from segformer_edu.cli.command import Add, Command
from segformer_edu.cli.terminal import one_line, tell
from segformer_edu.data.camvid import SPLITS, CamVid, data_folder
from segformer_edu.model.variants import segformer_b0
from segformer_edu.training.precision import has_bfloat16

USAGE = "segformer-edu doctor"

TEXT = """Tell what this machine has, what is missing and how to get it, and what is
broken: versions, devices, data, caches, disks, encodings. It takes some seconds
and asks nobody in the network.

The text can be pasted into an issue: your home folder is written as ~, and of
tokens it says only whether they are set."""

EXAMPLES = """examples:
  segformer-edu doctor
  segformer-edu doctor > doctor.txt

exit codes: 0 nothing is broken, though something may be missing; 1 something
is broken"""

MODULES = {"pillow": "PIL", "ipython": "IPython"}
OPTIONAL = {
    "transformers": "compares with Hugging Face's models",
    "onnx": "writes ONNX files",
    "onnxscript": "writes ONNX files with newer versions of PyTorch",
    "onnxruntime": "checks ONNX files",
    "pillow-heif": "reads HEIC, an iPhone's photographs",
}
"""What the library can do without, and what it would be good for."""
CAMVID = {"train": 367, "val": 101, "test": 233}
SECONDS = 2.0  # for the size of a cache
SECRETS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_ENDPOINT", "HTTPS_PROXY", "HF_HUB_OFFLINE")
"""Of these variables it is told whether they are set: even an address may hold a password."""


@dataclass
class Findings:
    """What a look at something gave.

    Attributes:
        rows: names and values.
        missing: what is not here, and how to get it.
        broken: what does not work.
    """

    rows: list[tuple[str, str]] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)


def look_at_versions(found: Findings) -> None:
    """Look at Python and the system."""
    bits = 64 if sys.maxsize > 1 << 32 else 32
    inside = "in a virtual environment" if sys.prefix != sys.base_prefix else "not in a virtual environment"
    found.rows += [
        ("segformer-edu", f"{segformer_edu.__version__} in {Path(segformer_edu.__file__).parent}"),
        ("Python", f"{platform.python_version()} ({platform.python_implementation()}, {bits} bits), {inside}"),
        ("system", f"{platform.platform()}, {platform.machine()}"),
    ]


def look_at_packages(found: Findings) -> None:
    """Look whether what the library needs is there, new enough, and can be imported; and what else it can use."""
    for name, least in required():
        try:
            there = metadata.version(name)
            module = importlib.import_module(MODULES.get(name, name))
            there = str(getattr(module, "__version__", there))  # PyTorch's own tells CPU or CUDA
        except metadata.PackageNotFoundError:
            found.rows.append((name, "not installed"))
            found.broken.append(f"{name} is not installed: pip install '{name}>={least}'")
            continue
        except Exception as error:  # a package that is half there raises anything
            found.broken.append(f"{name} {there} cannot be imported ({one_line(error)}): pip install -U {name}")
        found.rows.append((name, there))
        if numbers(there) < numbers(least):
            found.broken.append(f"{name} is {there}; expected {least} or later: pip install -U {name}")
    for name, use in OPTIONAL.items():
        try:
            found.rows.append((name, metadata.version(name)))
        except metadata.PackageNotFoundError:
            found.rows.append((name, "not installed"))
            found.missing.append(f"{name}, which {use}: pip install {name}")
    formats = {"jpg": "JPEG", "webp": "WebP", "libtiff": "TIFF", "avif": "AVIF"}
    with suppress(ValueError):  # an older Pillow does not know the name
        read = [f"{name} {'yes' if features.check(key) else 'no'}" for key, name in formats.items()]
        found.rows.append(("Pillow reads", ", ".join(read)))


def required() -> Iterator[tuple[str, str]]:
    """Yield the packages that the library needs, each with the least version."""
    try:
        lines = metadata.requires("segformer-edu") or []
    except metadata.PackageNotFoundError:  # a checkout that is not installed
        lines = ["torch>=2.3", "numpy>=1.24", "pillow>=9.4"]
    for line in lines:
        if match := re.fullmatch(r"([\w.-]+)\s*>=\s*([\d.]+)", line):  # not those with a marker, which are for tests
            yield match[1], match[2]


def numbers(version: str) -> list[int]:
    """Return what can be compared of a version."""
    return [int(part) for part in re.findall(r"\d+", version.split("+")[0])[:3]]


def look_at_devices(found: Findings) -> None:
    """Look what can compute, and whether it does."""
    memory = "of unknown size" if (size := memory_bytes()) is None else in_words(size)
    threads = f"{torch.get_num_threads()} threads of {os.cpu_count()}"
    found.rows.append(("CPU", f"{platform.processor() or platform.machine()}, {threads}, memory {memory}"))
    devices = ["cpu"]
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            told = torch.cuda.get_device_properties(index)
            found.rows.append((f"cuda:{index}", f"{told.name}, {in_words(told.total_memory)}, {torch.version.cuda}"))
            devices.append(f"cuda:{index}")
    else:
        why = "no GPU that it can use" if torch.version.cuda or torch.version.hip else "this PyTorch is without it"
        found.rows.append(("CUDA", f"no ({why})"))
    found.rows.append(("MPS", "yes" if torch.backends.mps.is_available() else "no"))
    devices += ["mps"] if torch.backends.mps.is_available() else []
    for device in devices:
        try:
            half = "bfloat16" if has_bfloat16(device) else "bfloat16 only imitated"
            found.rows.append((f"model on {device}", f"computes, {1000 * seconds_of_a_model(device):.0f} ms; {half}"))
        except Exception as error:  # whatever a driver raises
            found.rows.append((f"model on {device}", "fails"))
            found.broken.append(f"a small model on {device} fails: {type(error).__name__}: {one_line(error)[:200]}")


def seconds_of_a_model(device: str) -> float:
    """Compute a small model's logits, and return how long it took.

    Raises:
        ValueError: they are not what a CPU computes.
    """
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(1, 3, 64, 64, generator=generator)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        sizes: dict[str, Any] = {"dims": (8, 16, 24, 32), "heads": (1, 2, 3, 4), "num_layers": (1, 1, 1, 1)}
        model = segformer_b0(4, **sizes, decoder_dim=16).eval()
        expected = model(image)
        start = time.perf_counter()
        logits = model.to(device)(image.to(device)).cpu()
        taken = time.perf_counter() - start
    if not torch.allclose(logits, expected, atol=1e-2):
        raise ValueError(f"its logits differ from the CPU's by {(logits - expected).abs().max():.2g}")
    return taken


def memory_bytes() -> int | None:
    """Return how much memory there is: the machine's, or the container's where that is less; None where nobody says."""
    sizes = []
    with suppress(AttributeError, ValueError, OSError):  # Windows
        sizes.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    with suppress(OSError, ValueError):
        sizes.append(int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return min(sizes, default=None)


def look_at_data(found: Findings) -> None:
    """Look where data sets are looked for, and whether CamVid is there and whole."""
    source = "SEGFORMER_EDU_DATA" if os.environ.get("SEGFORMER_EDU_DATA") else "SEGFORMER_EDU_DATA not set"
    found.rows.append(("data folder", f"{data_folder()} ({source}), {free_at(data_folder())}"))
    for split in SPLITS:
        try:
            data = CamVid(split)
            empty = [path.name for pair in data.pairs for path in pair if not path.stat().st_size]
        except FileNotFoundError:
            found.rows.append((f"CamVid {split}", "not here"))
            found.missing.append(f"CamVid {split}: in Python, segformer_edu.data.CamVid({split!r}, download=True)")
            continue
        except (ValueError, OSError) as error:
            found.rows.append((f"CamVid {split}", "incomplete"))
            found.broken.append(f"CamVid {split}: {one_line(error)}")
            continue
        found.rows.append((f"CamVid {split}", f"{len(data)} pairs"))
        if empty:
            found.broken.append(f"CamVid {split}: {len(empty)} files are empty (first: {empty[0]}); fetch them again")
        if len(data) < CAMVID[split]:
            found.missing.append(f"CamVid {split}: {len(data)} of {CAMVID[split]} pairs are listed; fetch it again")


def look_at_caches(found: Findings) -> None:
    """Look at what is kept of downloads."""
    constants = importlib.import_module("huggingface_hub.constants")
    folder = Path(constants.HF_HUB_CACHE)
    if not folder.is_dir():
        state = "not there yet"
    else:
        models = sum(path.name.startswith("models--") for path in folder.iterdir())
        state = f"{size_of(folder)}, {models} models"
    writable = os.access(existing(folder), os.W_OK)
    found.rows.append(("Hugging Face", f"{folder}: {state}, {'' if writable else 'not '}writable, {free_at(folder)}"))
    if not writable:
        found.broken.append(f"nothing may be written into {existing(folder)}: set HF_HOME to another folder")
    found.rows += [(name, "set" if os.environ.get(name) else "not set") for name in SECRETS]
    found.rows.append(("hf auth login", "a token is kept" if Path(constants.HF_TOKEN_PATH).is_file() else "no token"))


def size_of(folder: Path) -> str:
    """Return how large a folder is, or at least is, after some seconds."""
    end, size = time.monotonic() + SECONDS, 0
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                size += os.lstat(os.path.join(place, name)).st_size  # links not followed: each file counts once
        if time.monotonic() > end:
            return f"more than {in_words(size)}"
    return in_words(size)


def existing(path: Path) -> Path:
    """Return a folder, or the nearest one above it that exists."""
    return next(folder for folder in (path.absolute(), *path.absolute().parents) if folder.exists())


def free_at(path: Path) -> str:
    """Return how much room a disk has."""
    return f"{in_words(shutil.disk_usage(existing(path)).free)} free"


def in_words(size: int) -> str:
    """Return a number of bytes in MB or GB."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


def look_at_places(found: Findings) -> None:
    """Look at the disks, and at how text is written."""
    found.rows += [
        ("here", free_at(Path())),
        ("temporary files", f"{tempfile.gettempdir()}, {free_at(Path(tempfile.gettempdir()))}"),
        ("stdout, stderr", f"{encoding_of(sys.stdout)}, {encoding_of(sys.stderr)}"),
        ("file names", f"{sys.getfilesystemencoding()}; files {locale.getpreferredencoding(False)}"),
        ("UTF-8 mode", "on" if sys.flags.utf8_mode else "off"),
    ]
    if shutil.disk_usage(existing(Path())).free < 100e6:
        found.missing.append("room: the disk here has less than 100 MB free")


def encoding_of(stream: object) -> str:
    """Return a stream's encoding, and whether it is a terminal."""
    kind = "a terminal" if getattr(stream, "isatty", lambda: False)() else "no terminal"
    return f"{getattr(stream, 'encoding', None) or 'none'} ({kind})"


LOOKS: dict[str, Callable[[Findings], None]] = {
    "Versions": look_at_versions,
    "Packages": look_at_packages,
    "Devices": look_at_devices,
    "Data": look_at_data,
    "Caches": look_at_caches,
    "Disks and text": look_at_places,
}


def without_home(text: str) -> str:
    """Write ~ for the user's home folder, which has a name in it."""
    with suppress(RuntimeError):  # nobody says where it is
        homes = {str(Path.home()), os.path.realpath(Path.home())}
        for home in sorted(homes, key=len, reverse=True):
            if len(home) > 1:
                text = re.sub(rf"{re.escape(home)}(?![\w.-])", "~", text)
    return text


def add_options(add: Add) -> None:
    """Add no options: there are none."""


def run(given: argparse.Namespace) -> int:
    """Look at everything and tell it; return 1 if something is broken."""
    lines: list[str] = []
    missing: list[str] = []
    broken: list[str] = []
    for title, look in LOOKS.items():
        found = Findings()
        try:
            look(found)
        except Exception as error:  # a look that fails is a finding
            found.broken.append(f"{title}: {type(error).__name__}: {one_line(error)[:200]}")
        lines += [title, *(f"  {name:<20} {value}" for name, value in found.rows), ""]
        missing, broken = missing + found.missing, broken + found.broken
    lines += ["Missing", *(f"  {text}" for text in missing or ["nothing"]), ""]
    lines += ["Broken", *(f"  {text}" for text in broken or ["nothing"])]
    tell(without_home("\n".join(lines)))
    return 1 if broken else 0


COMMAND = Command("tell what is here, missing and broken, for an issue", USAGE, TEXT, EXAMPLES, add_options, run)
