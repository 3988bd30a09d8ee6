"""The exercises of some chapters as a table, for whoever plans a lecture."""

from __future__ import annotations

import re

import exercises
from chapter_facts import ROOT
from docutils import nodes
from sphinx.util.docutils import SphinxDirective


class ExerciseTable(SphinxDirective):
    """The exercises from one chapter to another, with what their own first line says of them."""

    required_arguments = 2

    def run(self) -> list[nodes.Node]:
        first, last = map(int, self.arguments)
        found = [chapter for chapter in exercises.chapters() if first <= chapter.number <= last]
        lines = ["| Exercise | Importance, of 5 | Difficulty, of 5 | Minutes |", "| --- | --- | --- | --- |"]
        for chapter in found:
            self.env.note_dependency(str(exercises.FOLDER / f"{chapter.number:02}.md"))
            (path,) = (ROOT / "notebooks").glob(f"{chapter.number:02}_*.ipynb")
            for number, task in enumerate(chapter.exercises, 1):
                title = f"{chapter.number}.{number} {task.title}"
                link = f"[{title}](../notebooks/{path.name}#{slug(title)})"
                lines.append(f"| {link} | {' | '.join(map(str, task.effort))} |")
        total = sum(task.effort[2] for chapter in found for task in chapter.exercises)
        lines.append(f"| **together** | | | **{total}** |")
        return self.parse_text_to_nodes("\n".join(lines))


def slug(title: str) -> str:
    """Return the anchor that MyST gives a heading: GitHub's rule."""
    return re.sub(r"[^\w\- ]", "", title.replace("`", "").lower()).replace(" ", "-")
