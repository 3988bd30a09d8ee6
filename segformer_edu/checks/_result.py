"""What a check found, and how it is shown: as text everywhere, as one small table in a notebook."""

from __future__ import annotations

import html
import textwrap
from dataclasses import dataclass, field
from typing import Literal

Outcome = Literal["not written yet", "right", "not yet right", "could not run"]


@dataclass(frozen=True)
class Table:
    """Numbers that belong to a result: usually the target beside yours.

    Attributes:
        caption: what the numbers are.
        header: a word for each column.
        rows: as many words or numbers in each.
    """

    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def __str__(self) -> str:
        widths = [max(len(row[column]) for row in (self.header, *self.rows)) for column in range(len(self.header))]
        lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths)) for row in (self.header, *self.rows)]
        return "\n".join([self.caption, *(f"  {line}" for line in lines)])

    def html(self) -> str:
        """Return the table as HTML."""
        head = "".join(f'<th scope="col" style="{_CELL}">{html.escape(cell)}</th>' for cell in self.header)
        body = "".join(
            "<tr>"
            + "".join(f'<td style="{_CELL}; text-align: right">{html.escape(cell)}</td>' for cell in row)
            + "</tr>"
            for row in self.rows
        )
        caption = f'<caption style="{_CAPTION}; font-weight: normal">{html.escape(self.caption)}</caption>'
        return f'<table style="{_TABLE}">{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'


@dataclass(frozen=True)
class Result:
    """What a check found.

    Attributes:
        exercise: what was checked.
        outcome: "not written yet", "right", "not yet right" or "could not run".
        kind: the name of the mistake that was recognised; "unknown" for another one, "" where there is none.
        seen: what the check saw.
        hint: a place and a question.
        done: what is right already, in the order in which it was looked at.
        remark: what a right answer deserves to be told besides.
        table: numbers, mostly the target beside yours.
        printed: what the answer printed while it was checked, or its beginning.
    """

    exercise: str
    outcome: Outcome
    kind: str = ""
    seen: str = ""
    hint: str = ""
    done: tuple[str, ...] = ()
    remark: str = ""
    table: Table | None = field(default=None, repr=False)
    printed: str = ""

    def rows(self) -> list[tuple[str, str]]:
        """Return what there is to say: a name and words for each."""
        said = [
            ("Checked" if self.outcome == "right" else "Right so far", ", ".join(self.done)),
            ("Seen", self.seen),
            ("Look at", self.hint),
            ("Remark", self.remark),
            ("Your code printed", self.printed),
        ]
        return [(name, words) for name, words in said if words]

    def __str__(self) -> str:
        lines = [f"{self.exercise}: {self.outcome}."]
        for name, words in self.rows():
            lines += textwrap.wrap(f"{name}: {words}", 100, subsequent_indent="  ", break_long_words=False)
        return "\n".join([*lines, *([str(self.table)] if self.table else [])])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        body = "".join(
            f'<tr><th scope="row" style="{_CELL}; white-space: nowrap">{html.escape(name)}</th>'
            f'<td style="{_CELL}; white-space: pre-line">{html.escape(words)}</td></tr>'
            for name, words in self.rows()
        )
        words = html.escape(f"{self.exercise}: {self.outcome}.")
        if not body:  # a table without cells is as wide as the longest word of its caption
            return f'<p style="{_CAPTION}">{words}</p>'
        caption = f'<caption style="{_CAPTION}">{words}</caption>'
        return (
            f'<table style="{_TABLE}">{caption}<tbody>{body}</tbody></table>{self.table.html() if self.table else ""}'
        )


# No colours of its own: whatever page it stands on, light or dark, decides.
_TABLE = "border-collapse: collapse; background: transparent; color: inherit; margin: 0.5em 0; max-width: 50em"
_CELL = "border: 1px solid; border-color: currentColor; padding: 0.2em 0.6em; text-align: left; vertical-align: top"
_CAPTION = "caption-side: top; text-align: left; font-weight: bold; color: inherit; padding: 0.2em 0"
