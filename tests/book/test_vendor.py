"""What is committed under book/_static/vendor is what tools/vendor.py says it is."""

from __future__ import annotations

import json
import re
from pathlib import Path

import vendor
from fontTools.ttLib import TTFont

ROOT = Path(__file__).resolve().parents[2]
VENDOR = ROOT / "book" / "_static" / "vendor"
VERSIONS = json.loads((VENDOR / "versions.json").read_text())


def test_the_recorded_versions_are_the_pinned_ones():
    pinned = {package.name: package.version for package in vendor.PACKAGES}
    pinned |= json.loads((ROOT / "tools" / "widgets" / "package.json").read_text())["dependencies"]
    assert {name: VERSIONS[name]["version"] for name in pinned} == pinned
    lock = json.loads((ROOT / "tools" / "widgets" / "package-lock.json").read_text())["packages"]
    locked = {name: lock[f"node_modules/{name}"]["version"] for name in VERSIONS if f"node_modules/{name}" in lock}
    assert len(locked) > 10
    assert {name: VERSIONS[name]["version"] for name in locked} == locked


def test_the_lock_names_no_registry():
    """npm writes the address of the registry it is set up with, which is nobody else's, unless told not to."""
    assert '"resolved"' not in (ROOT / "tools" / "widgets" / "package-lock.json").read_text()


def test_the_files_that_were_copied_are_there_and_no_others():
    expected = {f"{place}/{Path(pattern).name}" for package in vendor.PACKAGES for pattern, place in package.files}
    expected |= {f"icons/{face}.woff" for face in vendor.ICONS} | {"versions.json", "LICENSES.md"}
    expected |= {f"widgets/{name}" for name in ("widgets.js", "widgets.css", "LICENSES.txt")}
    found = {str(path.relative_to(VENDOR)) for path in VENDOR.rglob("*") if path.is_file()}
    fonts = {name for name in found if name.endswith(".woff") and "woff-v2" in name}
    assert len(fonts) > 20
    assert found - fonts == {name for name in expected if "*" not in name}


def test_the_icons_are_drawn_alike_again(tmp_path, monkeypatch):
    monkeypatch.setattr(vendor, "VENDOR", tmp_path)
    (tmp_path / "icons").mkdir()
    vendor.draw_icons()
    for face in vendor.ICONS:
        drawn, kept = (TTFont(place / "icons" / f"{face}.woff") for place in (tmp_path, VENDOR))
        assert drawn.getBestCmap() == kept.getBestCmap()
        assert [drawn["glyf"][name] for name in drawn.getGlyphOrder()] == [
            kept["glyf"][name] for name in kept.getGlyphOrder()
        ]


def test_every_bundled_package_has_its_licence_told():
    notices = (VENDOR / "widgets" / "LICENSES.txt").read_text()
    copied = {package.name for package in vendor.PACKAGES}
    for name, about in VERSIONS.items():
        assert name in copied or f"{name} {about['version']}: {about['licence']}" in notices
    assert re.search(r"SIL OPEN FONT LICENSE\s+Version 1.1", (VENDOR / "icons" / "LICENSE.txt").read_text())
