"""The storm of broken files: files of every format that the library reads, each broken in its own way, then read.

Right is an error in words (of the library, naming the file) or a right result; never another exception, a hang, a dead
process, a model that is half the old and half the new one, or more than 1 GB of memory.

A right result is this. A file with checksums (torch.save's zip, this library's own .safetensors, PNG) that is read is
read as if unbroken, unless its checksums were made anew. A format without them (a pickle of before 2020, anybody else's
.safetensors, config.json, most pictures) cannot tell a changed number from another number: there a result has to be
whole, finite and of its kind.
"""

from __future__ import annotations

import os
import random
import resource
import shutil
import tempfile
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from storm import Result
from storm_breaks import BREAKS, PLAIN, SHARES
from storm_samples import CLASSES, QUIET, RECIPE, ROOT, Sample, originals, small_model, written_to

import segformer_edu as se
from segformer_edu.data import Folder, Shapes
from segformer_edu.inference import as_image
from segformer_edu.training import fit
from segformer_edu.training.checkpoint import BrokenCheckpointError

GUARD = 600  # seconds after which a file that is still being read hangs
MOST = 1 << 30  # bytes of memory above those at rest
LONGEST = 2500  # letters of an error
CONTEXT = get_context("spawn")
Read = dict[str, Any]


# Reading


def read(sample: Sample, folder: Path) -> Read:
    """Read a sample's files, that lie in a folder."""
    torch.manual_seed(0)  # where there is no decoder, one is drawn
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return READERS[sample.kind](folder / sample.source, **dict(sample.options))


def read_weights(source: Path, **options: Any) -> Read:
    """Read weights; what cannot be seen in them and changes answers counts too."""
    model = se.load_pretrained(source, **options)
    names = ("heads", "norm_eps", "image_mean", "image_std")
    return {**model.state_dict(), **{name: getattr(model.config, name) for name in names}}


def read_checkpoint(source: Path) -> Read:
    """Go on from a checkpoint; where that is refused, the model must be as it was."""
    model = small_model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    try:
        history = fit(model, Shapes(4, size=32), RECIPE, checkpoint=source, **QUIET)
    except Exception as error:
        if not all(torch.equal(value, before[name]) for name, value in model.state_dict().items()):
            raise AssertionError(f"half-loaded, before this: {error!r}") from error
        raise
    return {**model.state_dict(), "losses": torch.tensor(history.losses, dtype=torch.float64)}


def read_folder(folder: Path, **options: Any) -> Read:
    """Read the first picture and class map of a folder."""
    data = Folder(folder / "images", folder / "masks", CLASSES, **options)
    image, mask = data[0]
    return {"image": image, "mask": mask, "pairs": [path.name for pair in data.pairs for path in pair]}


READERS: dict[str, Callable[..., Read]] = {
    "weights": read_weights,
    "checkpoint": read_checkpoint,
    "picture": lambda source: {"image": as_image(source)},
    "map": read_folder,
    "names": lambda folder: read_folder(folder, names=folder / "list.txt"),
}


# Judging


def same(one: Read, other: Read) -> bool:
    """Whether two results are alike to the last bit."""
    return one.keys() == other.keys() and all(
        value.dtype == other[name].dtype and torch.equal(value, other[name])
        if isinstance(value, torch.Tensor)
        else value == other[name]
        for name, value in one.items()
    )


def flaw(result: Read) -> str:
    """Say what no right result has; "" if nothing."""
    found = [n for n, value in result.items() if isinstance(value, torch.Tensor) and not value.isfinite().all()]
    if found:
        return f"{found[0]} is not finite"
    image, mask = result.get("image"), result.get("mask")
    if image is not None:
        lowest, highest = image.aminmax()
        if image.dtype != torch.float32 or image.ndim != 3 or len(image) != 3 or lowest < 0 or highest > 1:
            return f"the picture is {image.dtype} {tuple(image.shape)} from {lowest} to {highest}"
    if image is not None and mask is not None:
        known = ((mask >= 0) & (mask < len(CLASSES))) | (mask == 255)
        if mask.dtype != torch.int64 or mask.shape != image.shape[1:] or not known.all():
            return f"the class map is {mask.dtype} {tuple(mask.shape)}"
    return ""


def wordless(error: BaseException, folder: Path) -> str:
    """Say why an error is none of the library's in words; "" if it is one."""
    text, last = str(error), traceback.extract_tb(error.__traceback__)[-1]
    own = Path(last.filename).is_relative_to(ROOT / "segformer_edu")
    kinds = (ValueError, TypeError, OSError, FileNotFoundError, BrokenCheckpointError)
    if type(error) not in kinds or not own:
        return f"{type(error).__name__} at {last.filename}:{last.lineno}: {text[:300]}"
    if str(folder) not in text and not any(path.name in text for path in folder.rglob("*")):
        return f"the error does not name the file: {text[:300]}"
    if not text.replace("\n", "").isprintable() or len(text) > LONGEST:
        return f"the error is not printable, or has {len(text)} letters: {text[:300]!r}"
    return ""


def memory(name: str) -> int:
    """Return a figure of this process's memory in bytes, such as VmHWM, the peak."""
    return 1024 * int(Path("/proc/self/status").read_text().split(f"{name}:")[1].split()[0])


def judged(sample: Sample, folder: Path, expected: Read | None, checked: bool, rest: int) -> tuple[str, str]:
    """Read a broken sample; return the outcome and what is wrong, "" if nothing."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak is measured from here
    outcome, violation = "refused", ""
    try:
        result = read(sample, folder)
        outcome = "unchanged" if expected is not None and same(result, expected) else "other"
        violation = flaw(result)
        if checked and outcome == "other":
            violation = violation or "not what was written, though there are checksums"
        del result
    except Exception as error:
        violation = wordless(error, folder)
    if (more := memory("VmHWM") - rest) > MOST:
        violation = f"{outcome}, but took {more >> 20} MB {violation}"
    return ("violation" if violation else outcome), violation


# The storm


def broken(samples: list[Sample], index: int, seed: int, folder: Path) -> tuple[Sample, str, bool]:
    """Write the files of a try, one of them broken; return the sample, what was done, and if checksums have to tell."""
    rng = random.Random(f"{seed}/{index}")
    sample = samples[index % len(samples)]
    victim = rng.choice(sample.victims)
    how = rng.choices(list(SHARES), list(SHARES.values()))[0]
    written_to(folder, sample.files | {victim: BREAKS[how](sample.files[victim], rng)})
    return sample, f"{victim}: {how}", sample.checked and BREAKS[how] in PLAIN


def whole(samples: list[Sample], made: Path) -> dict[str, Read | None]:
    """Read every sample as it is: the right results. None where the right one is an error in words."""
    results: dict[str, Read | None] = {}
    for number, sample in enumerate(samples):
        folder = written_to(made / f"whole{number}", sample.files)
        try:
            results[sample.name] = read(sample, folder)
        except Exception as error:
            if not sample.refused or wordless(error, folder):
                raise RuntimeError(f"the storm cannot start: {sample.name} is not read as it is") from error
            results[sample.name] = None
    return results


def work(connection: Any, samples: list[Sample], seed: int) -> None:
    """In a process of its own: read one broken file after the other, as they are asked for."""
    torch.set_num_threads(1)
    os.nice(10)
    with tempfile.TemporaryDirectory() as made:
        expected = whole(samples, Path(made))
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # libtiff talks
        rest = memory("VmRSS")
        most = memory("VmSize") + 4 * MOST  # so that the machine lives, whatever is asked for
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        connection.send("ready")
        while (index := connection.recv()) is not None:
            folder = Path(made) / f"try{index}"
            try:
                connection.send(attempt(samples, expected, index, seed, folder, rest))
            except Exception:
                connection.send(Result(index, "the storm itself", "violation", "", traceback.format_exc()))
            shutil.rmtree(folder)


def attempt(
    samples: list[Sample], expected: dict[str, Read | None], index: int, seed: int, folder: Path, rest: int
) -> Result:
    """Break a file and read it."""
    sample, how, checked = broken(samples, index, seed, folder)
    outcome, violation = judged(sample, folder, expected[sample.name], checked, rest)
    return Result(index, sample.name, outcome, how, violation)


class Worker:
    """A process that reads broken files; another one where it died or hangs."""

    def __init__(self, samples: list[Sample], seed: int) -> None:
        self.samples, self.seed = samples, seed
        self.start()

    def start(self) -> None:
        """Start a process, and wait until it is ready."""
        self.connection, theirs = CONTEXT.Pipe()
        self.process = CONTEXT.Process(target=work, args=(theirs, self.samples, self.seed), daemon=True)
        self.process.start()
        theirs.close()
        self.connection.recv()  # an EOFError where it could not start, and said why

    def __call__(self, index: int) -> Result:
        """Have a file broken and read."""
        try:
            self.connection.send(index)
            if self.connection.poll(GUARD):
                return self.connection.recv()
            self.process.kill()
            end = f"hangs: not read after {GUARD} s"
        except (EOFError, OSError):
            end = "died"
        self.process.join()
        end += f" (exit code {self.process.exitcode})"
        self.start()
        return Result(index, self.samples[index % len(self.samples)].name, "violation", "see by its number", end)


def storm(count: int, seed: int, jobs: int, rows: str) -> Iterator[Result]:
    """Break and read ``count`` files in ``jobs`` processes."""
    samples, workers, local = originals(rows), [], threading.local()

    def run(index: int) -> Result:
        if not hasattr(local, "worker"):
            local.worker = Worker(samples, seed)
            workers.append(local.worker)
        return local.worker(index)

    with ThreadPoolExecutor(jobs) as pool:
        yield from pool.map(run, range(count))
    for worker in workers:
        worker.connection.send(None)
        worker.process.join()


def repeat(index: int, seed: int, rows: str) -> int:
    """Do one try again in this process, leave its files there, and let an error through."""
    folder = Path(tempfile.mkdtemp())
    sample, how, _ = broken(originals(rows), index, seed, folder)
    print(f"{sample.name}, {how}, in {folder / sample.source}", flush=True)
    print(read(sample, folder))
    return 0
