"""What the book says about its chapters, read from the notebooks themselves and from results/."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WORDS_A_MINUTE = 200
CODE_LINES_A_MINUTE = 30


@dataclass(frozen=True)
class Chapter:
    """One chapter's notebook, and the seconds it took to run, or None where they were not measured."""

    name: str
    title: str
    words: int
    code_lines: int
    seconds: float | None

    @property
    def reading_minutes(self) -> int:
        """Minutes to read prose and code at the rates above, to the nearest five."""
        minutes = self.words / WORDS_A_MINUTE + self.code_lines / CODE_LINES_A_MINUTE
        return max(5, 5 * round(minutes / 5))


def source(cell: dict) -> str:
    """Return a cell's text, which a notebook holds as one string or as a list of lines."""
    return "".join(cell["source"])


def is_an_exercise(cell: dict) -> bool:
    """Whether a cell is one that tools/exercises.py made: it says itself how many minutes it takes."""
    return str(cell.get("id")).startswith("exercises-")


def read_chapter(name: str, root: Path = ROOT) -> Chapter | None:
    """Read chapter `name`, such as "02_layer_norm"; None while there is no such notebook."""
    path = root / "notebooks" / f"{name}.ipynb"
    if not path.is_file():
        return None
    cells = [cell for cell in json.loads(path.read_text())["cells"] if not is_an_exercise(cell)]
    prose = "\n".join(source(cell) for cell in cells if cell["cell_type"] == "markdown")
    code = "\n".join(source(cell) for cell in cells if cell["cell_type"] == "code")
    heading = re.search(r"^# +(.+)$", prose, flags=re.MULTILINE)
    if heading is None:
        raise ValueError(f"{path}: no heading. Expected a Markdown cell with a line '# Title', the chapter's title.")
    title = re.sub(r"^\d+\s*[.·:]?\s*", "", heading[1]).replace("`", "")
    code_lines = sum(bool(line.strip()) for line in code.splitlines())
    words = len(re.findall(r"\w+", re.sub(r"\]\([^)]*\)", "]", prose)))  # nobody reads where a link leads
    return Chapter(name, title, words, code_lines, running_seconds(root).get(name))


def running_seconds(root: Path = ROOT) -> dict[str, float]:
    """Return the seconds that each chapter took when `tools/chapters.py --record` measured it."""
    path = root / "results" / "chapters.json"
    if not path.is_file():
        return {}
    return {name: chapter["seconds"] for name, chapter in json.loads(path.read_text())["chapters"].items()}
