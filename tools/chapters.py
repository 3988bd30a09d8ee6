"""Run the chapters that were not run since they, the library or the data changed: part of `make book` and `make test`.

One after the other, each under nbmake (tools/execute.py). Each run is put into the book's cache at once, so that what
is done stays done, however this ends. A chapter may take as long as it needs: times are budgets, for a machine with
two free cores, and `--check-budgets` runs every chapter anew and fails where one takes longer. `--record` runs every
chapter anew and writes results/chapters.json, for the book's map of chapters. `--pairs`, for `make test`, first runs
those that measure no time, two at a time with a thread each: small models gain little from a second thread.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import nbformat
from jupyter_cache import get_cache
from jupyter_cache.base import CacheBundleIn
from machine import THREADS

from results import stamp

ROOT = Path(__file__).resolve().parents[1]
EXECUTE = Path(__file__).resolve().with_name("execute.py")
BUILD = ROOT / "_build"
CACHE = BUILD / ".jupyter_cache"
FINGERPRINT = BUILD / ".jupyter_cache.fingerprint"
RUNS = BUILD / "chapters"  # what each run said, and the notebook that it left
TIMES = ROOT / "results" / "chapters.json"  # this and the next are read by pages; no chapter does
ASSIGNMENT = ROOT / "results" / "assignment.json"
CODE = ("segformer_edu/**/*.py", "requirements.txt", "pyproject.toml", "results/**/*")
BUDGET, BUDGET_OF_TRAINING = 60, 180  # seconds
MEASURES = re.compile(r"pages\.measure|median\(")  # in a chapter that compares times
STORING = threading.Lock()
PROGRESS_BAR = re.compile(r"%\||(it/s|s/it)\b|\?it/s|^\s*$")


@dataclass(frozen=True)
class Run:
    """A chapter with its outputs, and the seconds that these took, the start of Python included."""

    notebook: nbformat.NotebookNode
    seconds: float


def environment(count: str = THREADS) -> dict[str, str]:
    """Return the environment that chapters run in: this environment's kernel, so many threads, files in UTF-8.

    A thread that waits for another spins briefly, then sleeps. To spin long, the default, makes training five times
    slower where another program wants the cores; never to spin costs a third where none does.
    """
    paths = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), count)
    python = {"PYTHONUTF8": "1", "JUPYTER_PREFER_ENV_PATH": "1", "PYDEVD_DISABLE_FILE_VALIDATION": "1"}
    return os.environ | threads | python | {"GOMP_SPINCOUNT": "10000", "PATH": paths}


def fingerprint() -> str:
    """Return a hash of everything, beside its own code, that a chapter's output depends on."""
    digest = hashlib.sha256(f"{platform.python_version()} {platform.machine()}".encode())
    for path in sorted({path for pattern in CODE for path in ROOT.glob(pattern)} - {TIMES, ASSIGNMENT}):
        if path.is_file():
            digest.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes())
    data = os.environ.get("SEGFORMER_EDU_DATA")
    if data:
        for path in sorted(Path(data).rglob("*")):
            digest.update(f"{path} {path.stat().st_size if path.is_file() else ''}\0".encode())
    return digest.hexdigest()


def drop_stale_runs() -> None:
    """Drop the runs when the library, its requirements or the data changed: the cache looks at none."""
    now = fingerprint()
    if FINGERPRINT.is_file() and FINGERPRINT.read_text() == now:
        return
    if CACHE.exists():
        print("The library, its requirements or the data changed: every chapter will run again.")
        shutil.rmtree(CACHE)
    BUILD.mkdir(exist_ok=True)
    FINGERPRINT.write_text(now)


def chapters() -> list[Path]:
    """Return the chapters' notebooks, in the order of the book."""
    return sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))


def run_of(path: Path) -> Run | None:
    """Return the run of a chapter as it is now that the cache holds; None without a whole one."""
    cache = get_cache(str(CACHE))
    try:
        number, notebook = cache.merge_match_into_notebook(nbformat.read(path, as_version=4))
    except (KeyError, ValueError):  # the latter where the program was killed while it wrote
        return None
    return Run(notebook, cache.get_cache_record(number).data["execution_seconds"])


def run_missing(pairs: bool = False) -> None:
    """Run each chapter that has no run, and say how it goes. Ends the program where one fails, after the last."""
    paths = chapters()
    if not paths:
        sys.exit(f"No chapters in {ROOT / 'notebooks'}: expected notebooks named like 01_name.ipynb.")
    try:
        drop_stale_runs()
        if pairs:
            free = [path for path in paths if not MEASURES.search(path.read_text(encoding="utf-8"))]
            run_in_pairs([path for path in free if run_of(path) is None])
        failures = run_all([path for path in paths if run_of(path) is None])
    except KeyboardInterrupt:
        done = sum(run_of(path) is not None for path in paths)
        print(f"\nInterrupted. {done} of {len(paths)} chapters have run and are kept; the same command runs the rest.")
        sys.exit(130)
    if failures:
        sys.exit("\n".join([*failures, "Chapters that ran are kept. Mend this, and the same command runs the rest."]))


def run_in_pairs(paths: list[Path]) -> None:
    """Run chapters two at a time, with a thread each. One that fails has no run: whoever runs the rest tells of it."""
    with ThreadPoolExecutor(2) as pool:
        for path, failure in zip(paths, pool.map(partial(run, threads="1"), paths), strict=True):
            print(f"{path.stem}, beside another: {'failed' if failure else 'has run'}", flush=True)


def run_all(missing: list[Path]) -> list[str]:
    """Run these chapters, say how long each took and how long the rest may take; return what failed."""
    paths, pace, failures = chapters(), Pace(missing), []
    for number, path in enumerate(paths, 1):
        print(f"[{number}/{len(paths)}] {path.stem} ... ", end="", flush=True)
        if path not in missing:
            print("has run already", flush=True)
            continue
        start = time.perf_counter()
        failure = run(path)
        pace.took[path.stem] = time.perf_counter() - start
        print(f"{'failed after ' if failure else ''}{pace}", flush=True)
        failures += failure
    return failures


class Pace:
    """How long chapters take here, and how long the rest may take, by the times that were recorded elsewhere."""

    def __init__(self, missing: list[Path]) -> None:
        recorded = json.loads(TIMES.read_text())["chapters"] if TIMES.is_file() else {}
        self.usual = {path.stem: recorded.get(path.stem, {"seconds": BUDGET})["seconds"] for path in missing}
        self.took: dict[str, float] = {}

    def __str__(self) -> str:
        """Say how long the last one took, and how long the others may take."""
        *_, last = self.took.values()
        slower = sum(self.took.values()) / sum(self.usual[name] for name in self.took)
        left = slower * sum(seconds for name, seconds in self.usual.items() if name not in self.took)
        told = f"{left / 60:.0f} min" if left > 90 else f"{left:.0f} s"
        return f"{last:.0f} s" + (f"; about {told} left" if left else "")


def run(path: Path, threads: str = THREADS) -> list[str]:
    """Run a chapter and put the run into the cache; where it fails, say in two lines where, and where to read on."""
    RUNS.mkdir(parents=True, exist_ok=True)
    executed, said = RUNS / path.name, RUNS / f"{path.stem}.txt"
    start = time.perf_counter()
    with said.open("w", encoding="utf-8") as log:
        command = [sys.executable, EXECUTE, path, executed]
        done = subprocess.run(command, env=environment(threads), stdout=log, stderr=subprocess.STDOUT, check=False)
    if done.returncode == 0:
        with STORING:
            store(path, Run(nbformat.read(executed, as_version=4), time.perf_counter() - start))
        return []
    *_, last = said.read_text(encoding="utf-8").splitlines() or [f"its process ended with {done.returncode}."]
    return [f"{path.stem} failed: {last}", f"The whole message is in {said}"]


def store(path: Path, run: Run) -> None:
    """Put the run of a chapter in the cache, where the book looks for it: the chapter with the run's outputs."""
    notebook = nbformat.read(path, as_version=4)
    for cell, executed in zip(notebook.cells, run.notebook.cells, strict=True):
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = executed.outputs, executed.execution_count
    for key in {"language_info", "widgets"} & run.notebook.metadata.keys():
        notebook.metadata[key] = run.notebook.metadata[key]
    cache = get_cache(str(CACHE))
    shutil.rmtree(CACHE / "executed" / cache.create_hashed_notebook(notebook)[1], ignore_errors=True)  # cut off before
    bundle = CacheBundleIn(notebook, str(path), data={"execution_seconds": run.seconds})
    cache.cache_notebook_bundle(bundle, check_validity=False, overwrite=True)


def over_budget(name: str, run: Run) -> list[str]:
    """Say so where a chapter took longer than it may on two free cores."""
    trains = run.notebook.metadata.get("segformer_edu", {}).get("trains", False)
    budget = BUDGET_OF_TRAINING if trains else BUDGET
    return [f"over budget: {name} took {run.seconds:.0f} s; {budget} s on two free cores."] * (run.seconds > budget)


def written_to_stderr(notebook: nbformat.NotebookNode, name: str) -> list[str]:
    """Return, for each cell that wrote something other than a progress bar to stderr, what it wrote."""
    found = []
    for number, cell in enumerate(notebook.cells):
        for output in cell.get("outputs", []):
            if output.get("name") == "stderr":
                lines = [line for line in re.split(r"[\r\n]+", output.text) if not PROGRESS_BAR.search(line)]
                found += [f"{name}, cell {number}, wrote to stderr: {lines[0]}"] if lines else []
    return found


def record(runs: dict[str, Run]) -> None:
    """Write results/chapters.json. The times are of no code in particular: a changed word asks for no new ones."""
    about = stamp("python tools/chapters.py --record", sources=()) | {
        "note": "Times as of this commit; they are not measured again whenever a chapter or the library changes.",
        "chapters": {name: {"seconds": round(run.seconds, 1)} for name, run in runs.items()},
    }
    TIMES.parent.mkdir(exist_ok=True)
    TIMES.write_text(json.dumps(about, indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check-budgets", action="store_true", help="run all anew; fail where one takes too long")
    parser.add_argument("--record", action="store_true", help="run all anew; write the times to results/chapters.json")
    parser.add_argument("--pairs", action="store_true", help="first run two at a time, if they measure no time")
    given = parser.parse_args()
    if given.check_budgets or given.record:
        shutil.rmtree(CACHE, ignore_errors=True)
    run_missing(given.pairs)
    found = {path.stem: run_of(path) for path in chapters()}
    if changed := [name for name, run in found.items() if run is None]:
        sys.exit(f"Changed while the chapters ran: {', '.join(changed)}. Run it again: these alone will be executed.")
    runs = {name: run for name, run in found.items() if run is not None}
    late = [line for name, run in runs.items() for line in over_budget(name, run)]
    print(*late or ["Every chapter kept to its budget."], sep="\n")
    faults = [line for name, run in runs.items() for line in written_to_stderr(run.notebook, name)]
    if faults or (late and given.check_budgets):
        sys.exit("\n".join(faults) or "A chapter is too long, or this machine is slow or busy.")
    if given.record:
        record(runs)


if __name__ == "__main__":
    main()
