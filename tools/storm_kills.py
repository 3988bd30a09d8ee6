"""The storm of kills: trainings that write checkpoints, killed at random moments (SIGKILL) and on a disk that is full.

After each kill the same call goes on. Right is: at every moment the checkpoint is missing, if none was written yet, or
readable and at least as new as the last one seen; in the end weights, optimizer and history are those of a training
that nobody disturbed, to the last bit; and nothing else is left beside the checkpoint.
"""

from __future__ import annotations

import atexit
import dataclasses
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context, set_start_method
from pathlib import Path
from typing import Any

import torch
from storm import Result
from storm_samples import QUIET, small_model

import segformer_edu as se
from segformer_edu.data import Augmentation, Shapes
from segformer_edu.training import History, Recipe, fit

KILLS = 10  # of one training
GUARD = 600  # seconds after which a training that was killed no more hangs
STEPS = 8
ANY = resource.RLIM_INFINITY


@dataclass(frozen=True)
class Training:
    """One of the trainings that are disturbed.

    Attributes:
        name: of the row of the table.
        every: steps from one checkpoint to the next.
        options: for ``fit``.
    """

    name: str
    every: int
    options: dict[str, Any]


class Grainy(Shapes):
    """Drawn pictures with noise from the global generators, as augmentations of other libraries draw it."""

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        image, mask = super().__getitem__(index)
        return (image + 0.1 * torch.rand(image.shape) * random.random()).clamp(0, 1), mask


TRAININGS = (
    Training("saved at every step", 1, {}),
    Training("every second, validated", 2, {"augment": Augmentation(), "validation": Shapes(2, size=32)}),
    Training("every step, in a worker", 1, {"workers": 1, "augment": Augmentation()}),
    Training("every third, in a worker", 3, {"workers": 1, "class_weights": (1, 2, 3, 4, 5)}),
)


# One training, in a process of its own


def train(training: Training, folder: Path, on_step: Callable[[History], object] | None = None) -> None:
    """Train a model with drop path and dropout, from the beginning or from where its checkpoint is; keep what it is."""
    model = small_model(se.PAPER.with_dropout(0.3), drop_path=0.3).train()
    recipe = Recipe(steps=STEPS, batch_size=2, warm_up=2, validate_every=training.every)
    path = folder / "disk" / "run.pt"
    history = fit(model, Grainy(8, size=32), recipe, checkpoint=path, on_step=on_step, **QUIET, **training.options)
    resource.setrlimit(resource.RLIMIT_FSIZE, (ANY, ANY))  # where the disk was full by that
    torch.save({"model": model.state_dict(), "history": dataclasses.asdict(history)}, folder / "end.pt")


def started(training: Training, folder: Path, on_step: Callable[[History], object] | None = None) -> int:
    """Start a training in a process of its own, which has everything imported already; return its number."""
    number = os.fork()
    if number:
        return number
    code = 1
    try:
        os.environ["TMPDIR"] = tempfile.tempdir = str(folder)
        sys.stderr = (folder / "said.txt").open("a", buffering=1)
        os.dup2(sys.stderr.fileno(), 2)  # what its worker says when it finds itself alone
        warnings.showwarning = lambda message, *_, **__: print(message, file=sys.stderr)
        train(training, folder, on_step)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def ended(number: int, folder: Path) -> None:
    """Wait for a training to end well."""
    limit = time.monotonic() + GUARD
    while (found := os.waitpid(number, os.WNOHANG)) == (0, 0):
        if time.monotonic() > limit:
            os.kill(number, signal.SIGKILL)
            raise AssertionError(f"hangs: not at its end after {GUARD} s")
        time.sleep(0.005)
    if found[1]:
        raise AssertionError(f"ended with status {found[1]}: {(folder / 'said.txt').read_text()[-1500:]}")


# What a disk holds


def steps_in(path: Path) -> int:
    """Return after how many steps a checkpoint was written, 0 where there is none."""
    try:
        return len(torch.load(path, weights_only=True)["history"]["losses"])
    except FileNotFoundError:
        return 0


def alike(one: Any, other: Any) -> bool:
    """Whether two things are equal to the last bit."""
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(alike(value, other[name]) for name, value in one.items())
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(alike, one, other))
    return bool(one == other)


def check_end(folder: Path, expected: Path) -> None:
    """Raise AssertionError if a training did not end as the one that nobody disturbed."""
    for name in ("end.pt", "disk/run.pt"):
        one, other = (torch.load(each / name, weights_only=True) for each in (folder, expected))
        if wrong := [part for part in other if not alike(one.get(part), other[part])]:
            raise AssertionError(f"{name} has another {', '.join(wrong)} than without kills")
    if rest := [path.name for path in (folder / "disk").iterdir() if path.name != "run.pt"]:
        raise AssertionError(f"left beside the checkpoint: {', '.join(rest)}")


# Disturbing


class Disturbed:
    """A training that is disturbed again and again, and goes on.

    Args:
        index: its number; which of ``TRAININGS`` follows from it.
        folder: for its files.
        rng: for what happens, and when.
    """

    def __init__(self, index: int, folder: Path, rng: random.Random) -> None:
        self.index, self.folder, self.rng = index, folder, rng
        self.training = TRAININGS[index % len(TRAININGS)]
        self.disk, self.path = folder / "disk", folder / "disk" / "run.pt"
        self.disk.mkdir(parents=True)
        self.seen, self.expected, self.lasts = 0, *undisturbed(index % len(TRAININGS))

    def look(self) -> None:
        """Raise AssertionError if the checkpoint cannot be read, or is older than one that was there."""
        steps = steps_in(self.path)
        if steps < self.seen:
            raise AssertionError(f"the checkpoint was of step {self.seen}, and is of step {steps}")
        self.seen = steps

    def finish(self) -> str:
        """Let the training go on to its end, and look at what it has become; begin anew."""
        ended(started(self.training, self.folder), self.folder)
        check_end(self.folder, self.expected)
        self.path.unlink()
        self.seen = 0
        return "went on to the same end"

    def kill(self) -> str:
        """Let the training go on, and kill it; where it came to its end before, again. Say when it was."""
        number = started(self.training, self.folder)
        moment, writing = time.monotonic() + self.rng.random() * self.lasts, self.rng.random() < 0.5
        while os.waitpid(number, os.WNOHANG) == (0, 0):
            if time.monotonic() < moment:
                self.look()
                time.sleep(0.001)
            elif not writing or any(self.disk.glob("*.part")):
                time.sleep(writing * self.rng.random() * 0.002)
                os.kill(number, signal.SIGKILL)
                os.waitpid(number, 0)
                self.look()
                parts = any(self.disk.glob("*.part"))
                return f"killed {'in writing' if parts else 'later' if self.seen else 'before the first checkpoint'}"
        self.finish()
        return self.kill()

    def fill(self) -> str:
        """Let the disk be full from a random step on, until the training ends, fails or is killed; free it again."""
        full, stop = self.rng.randrange(STEPS - 1 - self.training.every), self.rng.choice(["end", "error", "kill"])
        free, mounted = self.rng.choice([0, 20_000, 100_000]), is_mounted(self.disk)

        def on_step(history: History) -> None:
            step = len(history.losses) - 1
            if step == full:
                fill_up(self.disk, free) if mounted else resource.setrlimit(resource.RLIMIT_FSIZE, (free + 20_000, ANY))
            if step == STEPS - 2 and stop == "error":
                raise ConnectionError("the server of the data is gone")
            if step == STEPS - 2 and stop == "kill":
                os.kill(os.getpid(), signal.SIGKILL)

        try:
            _, status = os.waitpid(started(self.training, self.folder, on_step), 0)
            self.look()
            said = (self.folder / "said.txt").read_text()
            if "could not be written" not in said or (status == 0) != (stop == "end"):
                raise AssertionError(f"full from step {full} on, {stop}, exit status {status}, said: {said[-1500:]}")
            (self.disk / "ballast").unlink(missing_ok=True)
            self.finish()
        finally:
            if mounted:
                subprocess.run(["umount", "--lazy", self.disk], check=True)
        return "full disk, went on to the same end"


def is_mounted(disk: Path) -> bool:
    """Mount a file system of 4 MB in memory there; say whether that was permitted."""
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


def fill_up(disk: Path, free: int) -> None:
    """Leave so many bytes free."""
    left = os.statvfs(disk)
    (disk / "ballast").write_bytes(bytes(max(0, left.f_bavail * left.f_frsize - free)))


@cache
def undisturbed(which: int) -> tuple[Path, float]:
    """Train without disturbance; return the folder, and how many seconds it took."""
    folder = Path(tempfile.mkdtemp(prefix="storm-undisturbed-"))
    atexit.register(shutil.rmtree, folder)
    (folder / "disk").mkdir()
    torch.optim.AdamW(small_model().parameters())  # imports what every training needs, before processes part
    start = time.monotonic()
    ended(started(TRAININGS[which], folder), folder)
    return folder, time.monotonic() - start


# The storm


def disturb(index: int, seed: int, kills: int) -> list[Result]:
    """Kill one training so many times, let it come to its end, and fill its disk."""
    torch.set_num_threads(1)
    set_start_method("fork", force=True)  # for the workers of trainings: another import of everything takes longer
    results: list[Result] = []
    name = TRAININGS[index % len(TRAININGS)].name
    with tempfile.TemporaryDirectory(prefix="storm-") as made:
        training = Disturbed(index, Path(made), random.Random(f"{seed}/{index}"))
        for disturbance in [*[training.kill] * kills, training.finish, training.fill]:
            how = f"after {len(results)} disturbances"
            try:
                results.append(Result(index, name, disturbance(), how))
            except Exception as error:  # from reading the checkpoint too
                words = f"{type(error).__name__}: {error}"
                return [*results, Result(index, name, "violation", f"{how}, {disturbance.__name__}", words)]
    return results


def storm(count: int, seed: int, jobs: int, rows: str) -> Iterator[Result]:
    """Disturb as many trainings as it takes for ``count`` kills, ``jobs`` at a time."""
    known = [index for index, training in enumerate(TRAININGS) if re.search(rows, training.name)]
    indices = [len(TRAININGS) * (n // len(known)) + known[n % len(known)] for n in range(-(-count // KILLS))]
    os.environ["PYTHONWARNINGS"] = "ignore:resource_tracker"  # semaphores of the killed are removed at the end
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        kills = [min(KILLS, count - KILLS * number) for number in range(len(indices))]
        for results in pool.map(disturb, indices, [seed] * len(indices), kills):
            yield from results


def repeat(index: int, seed: int, rows: str) -> int:
    """Disturb one training again; the moments are not the same to the millisecond."""
    for result in disturb(index, seed, KILLS):
        print(result)
    return 0
