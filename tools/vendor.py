"""Fetch what the pages of the book load, so that no page asks another host for anything.

Run by hand, when a version changes: `.venv/bin/python tools/vendor.py`. It needs `npm` and the registry that npm is
set up with; the files it writes to book/_static/vendor/ are committed, so that building the book needs neither.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENDOR = ROOT / "book" / "_static" / "vendor"
FONTS = "es5/output/chtml/fonts/woff-v2"


@dataclass(frozen=True)
class Package:
    """One package of the npm registry and the files of it that the book loads.

    `files` maps a path (or a glob) inside the package to a folder of book/_static/vendor. A file may go to several.
    """

    name: str
    version: str
    licence: str
    files: tuple[tuple[str, str], ...]


PACKAGES = (
    Package(
        "mathjax",
        "3.2.2",
        "Apache-2.0",
        (
            ("es5/tex-mml-chtml.js", "mathjax"),
            (f"{FONTS}/*.woff", "mathjax/output/chtml/fonts/woff-v2"),
            ("LICENSE", "mathjax"),
        ),
    ),
    Package("requirejs", "2.3.8", "MIT", (("require.js", "widgets"),)),
    Package(
        "@jupyter-widgets/html-manager",
        "1.0.15",
        "BSD-3-Clause",
        (
            ("dist/embed-amd.js", "widgets"),
            # Font Awesome's faces, for the buttons of Play: the script looks for them in both places.
            ("dist/1551f4f60c37af51121f.woff2", "widgets/@jupyter-widgets/html-manager/dist"),
            ("dist/1551f4f60c37af51121f.woff2", "widgets/@jupyter-widgets"),
            ("dist/d878b0a6a1144760244f.woff2", "widgets/@jupyter-widgets/html-manager/dist"),
            ("dist/d878b0a6a1144760244f.woff2", "widgets/@jupyter-widgets"),
            ("dist/embed.js.LICENSE.txt", "widgets"),
        ),
    ),
)


def fetch(package: Package, folder: Path) -> Path:
    """Download `package` with npm into `folder`; return the folder it was unpacked to."""
    command = ["npm", "pack", "--silent", f"{package.name}@{package.version}"]
    archive = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout.split()[-1]
    with tarfile.open(folder / archive) as tar:
        tar.extractall(folder / archive.removesuffix(".tgz"), filter="data")
    return folder / archive.removesuffix(".tgz") / "package"


def copy(package: Package, unpacked: Path) -> None:
    """Copy the files of `package` that the book loads; raise FileNotFoundError when one is not in it."""
    for pattern, place in package.files:
        found = sorted(unpacked.glob(pattern))
        if not found:
            raise FileNotFoundError(f"{package.name} {package.version} holds no {pattern}")
        (VENDOR / place).mkdir(parents=True, exist_ok=True)
        for path in found:
            shutil.copyfile(path, VENDOR / place / path.name)


def main() -> None:
    for name in ("mathjax", "widgets"):
        shutil.rmtree(VENDOR / name, ignore_errors=True)
    with tempfile.TemporaryDirectory() as folder:
        for package in PACKAGES:
            copy(package, fetch(package, Path(folder)))
    versions = {package.name: {"version": package.version, "licence": package.licence} for package in PACKAGES}
    (VENDOR / "versions.json").write_text(json.dumps(versions, indent=2) + "\n")


if __name__ == "__main__":
    main()
