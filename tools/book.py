"""Build the book: `make book`. Every chapter is executed unless it was already, with the library as it is now.

With `--from-chapters` no chapter is executed: each must have been run by `tools/chapters.py`, as `make test` does.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path

import nbformat
from jupyter_cache import get_cache
from machine import THREADS

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "_build"
CACHE = BUILD / ".jupyter_cache"
FINGERPRINT = BUILD / ".jupyter_cache.fingerprint"
TIMES = ROOT / "results" / "chapters.json"  # this and the next are read by pages; no chapter does
ASSIGNMENT = ROOT / "results" / "assignment.json"
CODE = ("segformer_edu/**/*.py", "requirements.txt", "pyproject.toml", "results/**/*")


def environment() -> dict[str, str]:
    """Return the environment that chapters run in: this environment's kernel, two threads.

    A thread that waits for another spins briefly, then sleeps. To spin long, the default, makes training five times
    slower where another program wants the cores; never to spin costs a third where none does.
    """
    paths = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), THREADS)
    threads["GOMP_SPINCOUNT"] = "10000"
    return os.environ | threads | {"PATH": paths, "JUPYTER_PREFER_ENV_PATH": "1", "PYDEVD_DISABLE_FILE_VALIDATION": "1"}


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


def drop_stale_cache() -> None:
    """Drop the executed chapters when the library, its requirements or the data changed: the cache looks at none."""
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


def not_executed() -> list[str]:
    """Return the names of the chapters that the cache holds no run of."""
    cache = get_cache(str(CACHE))
    missing = []
    for path in chapters():
        try:
            cache.match_cache_notebook(nbformat.read(path, as_version=4))
        except KeyError:
            missing.append(path.name)
    return missing


def render() -> None:
    """Build the HTML from nothing but the cache; a warning, a failing cell among them, is an error."""
    for name in ("html", ".doctrees", "jupyter_execute"):
        shutil.rmtree(BUILD / name, ignore_errors=True)
    command = [Path(sys.executable).parent / "jupyter-book", "build", ROOT, "-W", "-n", "--keep-going", "--all"]
    done = subprocess.run(command, env=environment(), check=False)
    if done.returncode != 0:
        sys.exit("The book was not built: see the warnings above. Each of them counts as an error.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--from-chapters", action="store_true", help="execute nothing; fail if a chapter has not run")
    from_chapters = parser.parse_args().from_chapters
    start = time.perf_counter()
    drop_stale_cache()
    if from_chapters and (missing := not_executed()):
        sys.exit(f"Not executed as they are now: {', '.join(missing)}. Run tools/chapters.py first.")
    records = len(get_cache(str(CACHE)).list_cache_records())
    render()
    if from_chapters and len(get_cache(str(CACHE)).list_cache_records()) != records:
        sys.exit("A chapter was executed again, though tools/chapters.py had run it.")
    print(f"The book was built in {time.perf_counter() - start:.0f} s.")
    print(f"Open {(BUILD / 'html' / 'book' / 'index.html').as_uri()}")


if __name__ == "__main__":
    main()
