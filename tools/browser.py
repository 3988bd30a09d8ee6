"""Find Chromium for the browser tests, or install playwright's own. `make test` begins here, to fail early.

The environment variable CHROMIUM, the path of a Chromium or Chrome, is preferred to what is found.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from playwright.sync_api import Error, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
OPTIONS = (
    "--headless=new",
    "--no-sandbox",  # Chromium refuses to run as root with it, as it does in most containers
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
PATIENCE = 300_000  # milliseconds to wait for a page, or for a start: it ends the wait for what is broken, not slow
REMEDY = (
    "No Chromium was found, and playwright could not install its own. Install one (Debian, Ubuntu: `apt-get install "
    "chromium`; macOS: `brew install --cask chromium`), or set the environment variable CHROMIUM to its path."
)


def playwrights_own() -> Path | None:
    """Return the path of the Chromium that `playwright install chromium` put in place, or None."""
    with sync_playwright() as playwright:
        path = Path(playwright.chromium.executable_path)
    return path if path.is_file() else None


def find_chromium() -> Path | None:
    """Return the path of a Chromium, or None where there is none.

    Raises:
        FileNotFoundError: CHROMIUM is set to something that is no file.
    """
    named = os.environ.get("CHROMIUM")
    if named:
        if not Path(named).is_file():
            raise FileNotFoundError(f"CHROMIUM is {named!r}; expected the path of a Chromium's executable file.")
        return Path(named)
    found = next((path for path in map(shutil.which, NAMES) if path), None)
    return Path(found) if found else playwrights_own()


def check_starts(path: Path) -> str:
    """Start the Chromium at `path` and return its version; raise playwright's Error where it does not start."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(OPTIONS), timeout=PATIENCE)
        version = browser.version
        browser.close()
    return version


def main() -> None:
    path = find_chromium()
    if path is None:
        print("No Chromium here: installing playwright's own.")
        subprocess.run([sys.executable, "-m", "playwright", "install", "chromium"], check=False)
        path = playwrights_own()
    if path is None:
        sys.exit(REMEDY)
    try:
        print(f"Chromium {check_starts(path)}: {path}")
    except Error as error:
        sys.exit(f"{path} does not start:\n{error}\n{REMEDY}")


if __name__ == "__main__":
    main()
