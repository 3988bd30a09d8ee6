"""Build the book: `make book`. Chapters that were not run with the library as it is now are run, the rest are kept."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time

from chapters import BUILD, CACHE, ROOT, environment, run_missing
from jupyter_cache import get_cache


def render() -> None:
    """Build the HTML from nothing but the cache; a warning, a failing cell among them, is an error."""
    for name in ("html", ".doctrees", "jupyter_execute"):
        shutil.rmtree(BUILD / name, ignore_errors=True)
    surroundings = environment()
    program = shutil.which("jupyter-book", path=surroundings["PATH"])
    command = [program, "build", ROOT, "-W", "-n", "--keep-going", "--all", "-q"]
    if subprocess.run(command, env=surroundings, check=False).returncode != 0:
        sys.exit("The book was not built: see the warnings above. Each of them counts as an error.")


def main() -> None:
    start = time.perf_counter()
    run_missing()
    print("Rendering the pages ...", flush=True)
    records = len(get_cache(str(CACHE)).list_cache_records())
    try:
        render()
    except KeyboardInterrupt:
        print("\nInterrupted. All chapters have run and are kept: the next time they are only rendered.")
        sys.exit(130)
    if len(get_cache(str(CACHE)).list_cache_records()) != records:
        sys.exit("A chapter was executed again, though tools/chapters.py had run it.")
    print(f"The book was built in {time.perf_counter() - start:.0f} s.")
    print(f"Open {(BUILD / 'html' / 'book' / 'index.html').as_uri()}")


if __name__ == "__main__":
    main()
