"""What the page on measuring tells of results/speed.json."""

from __future__ import annotations

import json
from collections.abc import Callable

from chapter_facts import ROOT
from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from segformer_edu.pages import speed

RESULT = ROOT / "results" / "speed.json"


def machine(result: speed.Row) -> str:
    """Say where, when and with what the result was measured."""
    versions = ", ".join(f"{name} {number}" for name, number in result["versions"].items())
    return f"Measured by `{result['command']}` on {result['date'][:10]}: {result['machine']}; {versions}."


def as_markdown(table: speed.Table) -> str:
    """A table in Markdown, its caption above."""
    lines = [table.header, ["---"] * len(table.header), *table.rows]
    return f"*{table.caption}.*\n\n" + "\n".join("| " + " | ".join(line) + " |" for line in lines)


def times_of_kinds(result: speed.Row) -> str:
    """Milliseconds in the three kinds of processes."""
    named = {"theirs_ms": "transformers, ms", "ours_ms": "ours, ms"}
    return as_markdown(renamed(speed.kinds(result, list(named), "{:.0f}"), named))


def faults_of_kinds(result: speed.Row) -> str:
    """Page faults in the three kinds of processes."""
    named = {"theirs_faults": "transformers, page faults", "ours_faults": "ours, page faults"}
    return as_markdown(renamed(speed.kinds(result, list(named), "{:,.0f}"), named))


def renamed(table: speed.Table, names: dict[str, str]) -> speed.Table:
    """A table whose columns have names for readers."""
    return table._replace(header=[names.get(name, name) for name in table.header])


def limits(result: speed.Row) -> str:
    """Each variant beside the limit of its machine."""
    return as_markdown(speed.limits(result))


SHOWN: dict[str, Callable[[speed.Row], str]] = {
    "machine": machine,
    "times": times_of_kinds,
    "page-faults": faults_of_kinds,
    "limits": limits,
}


class SpeedResult(SphinxDirective):
    """One part of results/speed.json, by its name in ``SHOWN``."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        self.env.note_dependency(str(RESULT))
        return self.parse_text_to_nodes(SHOWN[self.arguments[0]](json.loads(RESULT.read_text(encoding="utf-8"))))
