"""Run every chapter once, under nbmake, measure its time, hand the runs to the book's cache: part of `make test`.

With `--record`, results/chapters.json gets the seconds of each chapter, for the book's map of chapters.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from pathlib import Path

import nbformat
from jupyter_cache import get_cache
from jupyter_cache.base import CacheBundleIn

from book import BUILD, CACHE, ROOT, TIMES, chapters, drop_stale_cache, environment
from results import stamp

EXECUTED = BUILD / "executed"
REPORT = "report.xml"
CELL_LIMIT = 170
CHAPTER_LIMIT = 60
TRAINING_LIMIT = 180
PROGRESS_BAR = re.compile(r"%\||(it/s|s/it)\b|\?it/s|^\s*$")


def execute() -> dict[str, float]:
    """Run a copy of each chapter; return the seconds that each took. Ends the program where one fails."""
    shutil.rmtree(EXECUTED, ignore_errors=True)
    with tempfile.TemporaryDirectory() as place:  # nbmake passes over whatever lies in a folder named _build
        folder = Path(place) / "notebooks"
        folder.mkdir()
        (Path(place) / "results").symlink_to(ROOT / "results")
        copies = [Path(shutil.copy(path, folder)) for path in chapters()]
        if not copies:
            sys.exit(f"No chapters in {ROOT / 'notebooks'}: expected notebooks named like 01_name.ipynb.")
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--nbmake", "--overwrite", "--verbose"]
        options = [f"--nbmake-timeout={CELL_LIMIT}", "--nbmake-kernel=python3", f"--junitxml={folder / REPORT}"]
        done = subprocess.run([*command, *options, *copies], cwd=ROOT, env=environment(), check=False)
        shutil.copytree(folder, EXECUTED)
    if done.returncode != 0:
        sys.exit(f"Chapters failed (pytest ended with {done.returncode}): see nbmake's report above.")
    return seconds_of(EXECUTED / REPORT)


def seconds_of(report: Path) -> dict[str, float]:
    """Read from pytest's report how long each chapter took, kernel included."""
    return {Path(case.get("name")).stem: float(case.get("time")) for case in ET.parse(report).iter("testcase")}


def complaints(path: Path, seconds: float) -> list[str]:
    """Return what is wrong with an executed chapter: too slow, or text on stderr, which the book does not show."""
    notebook = nbformat.read(path, as_version=4)
    trains = notebook.metadata.get("segformer_edu", {}).get("trains", False)
    limit = TRAINING_LIMIT if trains else CHAPTER_LIMIT
    found = [] if seconds <= limit else [f"{path.name} took {seconds:.0f} s; the limit is {limit} s."]
    return found + written_to_stderr(notebook, path.name)


def written_to_stderr(notebook: nbformat.NotebookNode, name: str) -> list[str]:
    """Return, for each cell that wrote something other than a progress bar to stderr, what it wrote."""
    found = []
    for number, cell in enumerate(notebook.cells):
        for output in cell.get("outputs", []):
            if output.get("name") == "stderr":
                lines = [line for line in re.split(r"[\r\n]+", output.text) if not PROGRESS_BAR.search(line)]
                found += [f"{name}, cell {number}, wrote to stderr: {lines[0]}"] if lines else []
    return found


def store(source: Path, seconds: float) -> None:
    """Put the run of a chapter in the cache, where the book looks for it: the source with the run's outputs."""
    notebook = nbformat.read(source, as_version=4)
    executed = nbformat.read(EXECUTED / source.name, as_version=4)
    for cell, run in zip(notebook.cells, executed.cells, strict=True):
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = run.outputs, run.execution_count
    for key in {"language_info", "widgets"} & executed.metadata.keys():
        notebook.metadata[key] = executed.metadata[key]
    bundle = CacheBundleIn(notebook, str(source), data={"execution_seconds": seconds})
    get_cache(str(CACHE)).cache_notebook_bundle(bundle, check_validity=False, overwrite=True)


def record(seconds: dict[str, float]) -> None:
    """Write results/chapters.json. The times are of no code in particular: a changed word asks for no new ones."""
    about = stamp("python tools/chapters.py --record", sources=()) | {
        "note": "Times as of this commit; they are not measured again whenever a chapter or the library changes.",
        "chapters": {name: {"seconds": round(took, 1)} for name, took in sorted(seconds.items())},
    }
    TIMES.parent.mkdir(exist_ok=True)
    TIMES.write_text(json.dumps(about, indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--record", action="store_true", help="write the times to results/chapters.json")
    wants_record = parser.parse_args().record
    drop_stale_cache()
    seconds = execute()
    for path in chapters():
        print(f"{path.stem}: {seconds[path.stem]:.1f} s")
        store(path, seconds[path.stem])
    wrong = [line for path in chapters() for line in complaints(EXECUTED / path.name, seconds[path.stem])]
    if wrong:
        sys.exit("\n".join(wrong))
    if wants_record:
        record(seconds)


if __name__ == "__main__":
    main()
