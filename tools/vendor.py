"""Fetch what the pages of the book load, so that no page asks another host for anything.

Run by hand, when a version changes: `.venv/bin/python tools/vendor.py`. It needs `npm` and the registry that npm is
set up with; the files it writes to book/_static/vendor/ are committed, so that building the book needs neither.
The script of the widgets is bundled here, from the packages that tools/widgets/package-lock.json pins.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pydata_sphinx_theme
from fontTools.subset import Options, Subsetter
from fontTools.ttLib import TTFont

ROOT = Path(__file__).resolve().parent.parent
VENDOR = ROOT / "book" / "_static" / "vendor"
WIDGETS = ROOT / "tools" / "widgets"
FONTS = "es5/output/chtml/fonts"
ICONS = {
    "solid-900": (
        "angle-down angle-left angle-right arrow-up bars bell caret-down caret-right check circle-check "
        "circle-exclamation circle-half-stroke circle-info circle-xmark download expand file file-code file-pdf "
        "lightbulb list magnifying-glass magnifying-glass-minus moon pause pencil play print retweet rocket share stop "
        "sun triangle-exclamation up-right-from-square xmark"
    ),
    "brands-400": "github",
}
BUNDLE = (
    "--bundle",
    "--minify",
    "--format=iife",
    "--target=es2020",
    "--legal-comments=none",  # the notices are in LICENSES.txt
    "--alias:sanitize-html=./no-sanitizer.js",
    "--loader:.svg=dataurl",
    "--log-level=warning",
    "--metafile=meta.json",
)


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
            # Its parts: the one file for all has a menu, 40% of it, that the book does without.
            ("es5/startup.js", "mathjax"),
            ("es5/core.js", "mathjax"),
            ("es5/input/tex.js", "mathjax/input"),
            ("es5/output/chtml.js", "mathjax/output"),
            ("es5/a11y/assistive-mml.js", "mathjax/a11y"),
            (f"{FONTS}/tex.js", "mathjax/output/chtml/fonts"),
            (f"{FONTS}/woff-v2/*.woff", "mathjax/output/chtml/fonts/woff-v2"),
            ("LICENSE", "mathjax"),
        ),
    ),
    # Its licence alone: draw_icons takes the faces from the theme, which brings this version.
    Package("@fortawesome/fontawesome-free", "6.5.2", "OFL-1.1", (("LICENSE.txt", "icons"),)),
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


def bundle(folder: Path) -> list[dict]:
    """Bundle tools/widgets/page.js with npm and esbuild in `folder`; return the package.json of each package in it."""
    shutil.copytree(WIDGETS, folder, dirs_exist_ok=True)
    subprocess.run(["npm", "ci", "--silent", "--no-audit", "--no-fund"], cwd=folder, check=True)
    esbuild = folder / "node_modules" / ".bin" / "esbuild"
    subprocess.run(
        [esbuild, "page.js", *BUNDLE, f"--outfile={VENDOR / 'widgets' / 'widgets.js'}"], cwd=folder, check=True
    )
    files = json.loads((folder / "meta.json").read_text())["inputs"]
    names = {re.match(r"node_modules/((?:@[^/]+/)?[^/]+)/", path) for path in files}
    places = [folder / "node_modules" / name for name in sorted(match[1] for match in names if match)]
    (VENDOR / "widgets" / "LICENSES.txt").write_text("\n\n".join(dict.fromkeys(map(notice, places))) + "\n")
    return [json.loads((place / "package.json").read_text()) for place in places]


def notice(place: Path) -> str:
    """Return what a bundled package says of its licence: its own file, else the line that its package.json has."""
    about = json.loads((place / "package.json").read_text())
    texts = [path.read_text().strip() for path in sorted(place.glob("LICENSE*"))]
    return "\n\n".join([f"{about['name']} {about['version']}: {about['license']}", *texts])


def draw_icons() -> None:
    """Write Font Awesome's faces with the icons of this book alone, from those that the theme brings.

    book.css declares them after the theme's, so that an icon they lack still comes from there: 0.3 MB more, and
    tests/book/test_weight.py tells. They bear another name, as the fonts' licence asks of what was changed.
    """
    theme = Path(pydata_sphinx_theme.__file__).parent / "theme" / "pydata_sphinx_theme" / "static"
    css = (theme / "styles" / "pydata-sphinx-theme.css").read_text()
    rules = re.findall(r'((?:\.fa-[\w-]+:before,?)+)\{content:"\\([0-9a-f]+)"', css)
    codes = {name: int(code, 16) for names, code in rules for name in re.findall(r"\.fa-([\w-]+):", names)}
    for face, names in ICONS.items():
        font = TTFont(theme / "vendor" / "fontawesome" / "webfonts" / f"fa-{face}.ttf", recalcTimestamp=False)
        subset = Subsetter(Options(layout_features=[], name_IDs=["*"], notdef_outline=True))
        subset.populate(unicodes=[codes[name] for name in names.split()])
        subset.subset(font)
        for record in font["name"].names:
            if record.nameID in {1, 3, 4, 6, 16}:
                record.string = "BookIcons"
        font.flavor = "woff"
        font.save(VENDOR / "icons" / f"{face}.woff")


def main() -> None:
    for name in ("icons", "mathjax", "widgets"):
        shutil.rmtree(VENDOR / name, ignore_errors=True)
    with tempfile.TemporaryDirectory() as folder:
        for package in PACKAGES:
            copy(package, fetch(package, Path(folder)))
        bundled = bundle(Path(folder) / "widgets")
    draw_icons()
    versions = {package.name: {"version": package.version, "licence": package.licence} for package in PACKAGES}
    versions |= {about["name"]: {"version": about["version"], "licence": about["license"]} for about in bundled}
    (VENDOR / "versions.json").write_text(json.dumps(versions, indent=2) + "\n")


if __name__ == "__main__":
    main()
