"""The page of architecture: the library's floors, drawn from its imports, and which chapter builds which file."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Mapping
from html import escape

from chapter_facts import ROOT, read_chapter
from docutils import nodes
from model_diagram import Canvas
from sphinx.util.docutils import SphinxDirective

sys.path.append(str(ROOT / "tools"))
import floors

WIDTH, FLOOR, HEIGHT, GAP = 360, 266, 54, 10  # of the picture, a floor and what is between two


def draw_floors(imports: Mapping[str, set[str]]) -> str:
    """Draw the floors as a house, the top one first; from each a line runs down to those that it imports from."""
    canvas = Canvas("floors", WIDTH, len(imports) * (HEIGHT + GAP), links={})
    tops = {floor: index * (HEIGHT + GAP) + 1 for index, floor in enumerate(imports)}
    users = [floor for floor in imports if imports[floor]]
    for floor, top in tops.items():
        canvas.box(1, top, FLOOR, HEIGHT, "attention" if floor == "model" else "part")
        canvas.text(12, top + 21, floor, "strong", "start")
        canvas.text(12, top + 40, floors.FLOORS[floor], "size", "start")
    for number, floor in enumerate(users):  # the longest way down runs furthest out
        rail, start = WIDTH - 8 - number * (WIDTH - FLOOR - 24) / len(users), tops[floor] + HEIGHT - 6
        below = []
        for other in filter(imports[floor].__contains__, imports):
            arriving = [user for user in users if other in imports[user]]
            below.append(tops[other] + 7 + arriving.index(floor) * min(9, (HEIGHT - 14) / len(arriving)))
        canvas.arrow((FLOOR + 1, start), (rail, start), (rail, below[-1]), head=False)
        for y in below:
            canvas.arrow((rail, y), (FLOOR + 3, y))
    return canvas.svg("The floors of segformer_edu", describe_floors(imports))


def describe_floors(imports: Mapping[str, set[str]]) -> str:
    """Say in words what the picture shows."""
    told = [
        f"{floor}, {floors.FLOORS[floor]}, imports from {' and '.join(listed) if listed else 'none'}"
        for floor, listed in ((floor, [other for other in imports if other in used]) for floor, used in imports.items())
    ]
    return f"{len(imports)} floors, one above the other, from the top down: {'; '.join(told)}."


class Floors(SphinxDirective):
    """The picture of the floors, and its caption in the body."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        try:
            drawing = draw_floors(floors.imports())
        except ValueError as error:
            raise self.error(str(error)) from error
        caption = escape(" ".join(self.content))
        html = f'<figure class="model-diagrams">{drawing}<figcaption>{caption}</figcaption></figure>'
        return [nodes.raw("", html, format="html")]


def chapters_of(tree: ast.Module) -> dict[int, list[str]]:
    """Return the chapters that a file is of, by its first line, each with the names that are built in it."""
    first = re.match(r"Chapters? ([\d, and]+):", ast.get_docstring(tree) or "")
    found: dict[int, list[str]] = {int(number): [] for number in re.findall(r"\d+", first[1] if first else "")}
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            words = " ".join((ast.get_docstring(node) or "").split())
            if built := re.search(r"[Bb]uilt in chapter (\d+)", words):
                found.setdefault(int(built[1]), []).append(node.name)
    return found


def built_files() -> dict[int, dict[str, list[str]]]:
    """Return for each chapter the files that are of it, as dotted names, and what is built in each."""
    found: dict[int, dict[str, list[str]]] = {}
    for path, tree in floors.syntax().items():
        for chapter, names in chapters_of(tree).items():
            found.setdefault(chapter, {})[".".join(path.relative_to(ROOT).with_suffix("").parts)] = names
    return dict(sorted(found.items()))


class ChapterFiles(SphinxDirective):
    """The table of chapters and the files that they build."""

    def run(self) -> list[nodes.Node]:
        names = {int(path.name[:2]): path.stem for path in (ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb")}
        lines = ["| Chapter | Files, and what it builds in them |", "| --- | --- |"]
        for number, files in built_files().items():
            chapter = read_chapter(names[number])
            told = [f"{self.link(module)}{self.listed(built)}" for module, built in files.items()]
            lines.append(f"| [{number}. {chapter.title}](/notebooks/{chapter.name}.ipynb) | {'; '.join(told)} |")
        return self.parse_text_to_nodes("\n".join(lines))

    def link(self, module: str) -> str:
        path = f"{module.removeprefix('segformer_edu.').replace('.', '/')}.py"
        if path.startswith("checks/"):  # a chapter's checks have no entry on the API page: they are called, not read
            return f"`{path}`"
        return f"{{py:mod}}`{path} <{module}>`"

    def listed(self, built: list[str]) -> str:
        return f": {', '.join(f'`{name}`' for name in built)}" if built else ""
