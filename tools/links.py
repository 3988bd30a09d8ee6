"""Ask every external link whether it still leads somewhere: `make links`. It needs the network, and a few minutes.

Sphinx's linkcheck reads the book, the docstrings on its API page among it, and then the pages beside it, such as
README.md. Links inside the book need no network: `make test` checks them.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from chapters import ROOT
from jupyter_book.sphinx import build_sphinx

OUTSIDE = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")
SETTINGS = {
    "linkcheck_anchors_ignore_for_url": ["https://github.com/.*"],  # a script draws GitHub's anchors
    "linkcheck_report_timeouts_as_broken": False,  # a status of their own
}
MOVED = {301, 308}  # what a server answers for a page that moved for good; other redirections lead on for a while
DEAD = {"broken", "timeout"}


def check_book() -> list[dict]:
    """Check the pages of the book as they are written: no chapter is executed for it."""
    own = {"external_toc_path": str(ROOT / "_toc.yml"), "latex_individualpages": False, "nb_execution_mode": "off"}
    config = {"noconfig": True, "path_config": ROOT / "_config.yml", "confoverrides": SETTINGS | own}
    with tempfile.TemporaryDirectory() as place:
        out = Path(place) / "linkcheck"
        done = build_sphinx(ROOT, out, builder="linkcheck", really_quiet=True, **config)
        if isinstance(done, Exception):
            raise done
        return read_results(out)


def check_files(folder: Path, names: tuple[str, ...]) -> list[dict]:
    """Check Markdown files that are no pages of the book, in a process of its own: Sphinx runs once in each."""
    own = {"extensions": "myst_parser", "root_doc": Path(names[0]).stem, "include_patterns": ",".join(names)}
    options = [f"-D{name}={value}" for name, value in (own | {"linkcheck_report_timeouts_as_broken": "0"}).items()]
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-m", "sphinx", "-C", "-Q", "-b", "linkcheck", *options, folder, out]
        subprocess.run(command, check=False)
        return read_results(Path(out))


def read_results(out: Path) -> list[dict]:
    """Return what linkcheck found: for each link its `uri`, `status`, `code`, `info`, `filename` and `lineno`."""
    return [json.loads(line) for line in (out / "output.json").read_text().splitlines()]


def place_of(result: dict) -> str:
    """Say where a link stands; MyST-NB counts 10000 lines to a cell."""
    cell, line = divmod(result["lineno"], 10000)
    return f"{result['filename']}, cell {cell}" if cell else f"{result['filename']}:{line}"


def summary(results: list[dict]) -> str:
    """Say how many external links there are, which moved for good and which are dead."""
    external = [result for result in results if result["uri"].startswith("http")]
    lines = [f"{len(external)} external links, {len([link for link in external if link['status'] in DEAD])} dead"]
    for result in sorted(external, key=place_of):
        if result["status"] in DEAD:
            lines.append(f"dead: {result['uri']} ({place_of(result)}): {result['info']}")
        elif result["status"] == "redirected" and result["code"] in MOVED:
            lines.append(f"moved: {result['uri']} ({place_of(result)}) to {result['info']}")
    return "\n".join(lines)


def main() -> None:
    results = check_book() + check_files(ROOT, OUTSIDE)
    print(summary(results))
    if any(result["status"] in DEAD for result in results):
        sys.exit("Mend the dead links.")


if __name__ == "__main__":
    main()
