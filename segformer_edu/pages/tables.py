"""Tables as HTML, for a notebook and for a page of the book."""

from __future__ import annotations

import html
from collections.abc import Sequence


def table_html(header: Sequence[str], rows: Sequence[Sequence[object]], caption: str) -> str:
    """A table as HTML: the first column names the rows, numbers stand right; ``caption`` says what it compares."""

    def cell(value: object) -> str:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        text = f"{value:,}" if isinstance(value, int) and number else f"{value:.4g}" if number else str(value)
        return f'<td style="text-align: {"right" if number else "left"}">{html.escape(text)}</td>'

    head = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in header)
    body = "".join(
        f'<tr><th scope="row" style="text-align: left">{html.escape(str(first))}</th>{"".join(map(cell, rest))}</tr>'
        for first, *rest in rows
    )
    return (
        f'<table class="segformer-table"><caption>{html.escape(caption)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    )
