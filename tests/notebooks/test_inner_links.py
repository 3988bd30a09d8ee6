"""Links inside the repository as a reader of its sources follows them, on GitHub, in Colab or in an editor.

Those of the built book, which leads elsewhere in part, are followed in tests/book/test_pages.py.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from urllib.parse import unquote

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token
from mdit_py_plugins.dollarmath import dollarmath_plugin

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("book/*.md"), *ROOT.glob("notebooks/*.ipynb")])
CODE = {"{code-block}", "{code-cell}", "{eval-rst}", "{executed}", "{repository-command}"}  # they hold no Markdown
MARKDOWN = MarkdownIt("commonmark").use(dollarmath_plugin)


@lru_cache
def texts(document: Path) -> list[str]:
    """The document's Markdown: as it is, less its front matter, or cell by cell."""
    text = document.read_text()
    if document.suffix == ".ipynb":
        return ["".join(cell["source"]) for cell in json.loads(text)["cells"] if cell["cell_type"] == "markdown"]
    return [re.sub(r"\A---\n.*?\n---\n", "", text, flags=re.DOTALL)]


def tokens(text: str) -> Iterator[Token]:
    """The tokens of some Markdown, inline ones among them, and those inside MyST's directives."""
    for token in MARKDOWN.parse(text):
        yield token
        yield from token.children or []
        if token.type == "fence" and token.info.startswith("{") and token.info.split()[0] not in CODE:
            yield from tokens(token.content)


def links(document: Path) -> Iterator[str]:
    """Every address that the document links to or shows as a picture."""
    for text in texts(document):
        for token in tokens(text):
            if token.type in {"link_open", "image"}:
                yield str(token.attrs.get("href") or token.attrs.get("src"))
            elif token.type in {"html_block", "html_inline"}:
                yield from re.findall(r'<(?:a|area|img)\b[^>]*?\b(?:href|src)="([^"]*)"', token.content)


@lru_cache
def anchors(document: Path) -> set[str]:
    """The anchors that GitHub makes of the document's headings."""
    found, seen = set(), Counter()
    for text in texts(document):
        parsed = MARKDOWN.parse(text)
        for before, token in zip(parsed, parsed[1:]):
            if before.type == "heading_open":
                name = slug("".join(part.content for part in token.children))
                found.add(f"{name}-{seen[name]}" if seen[name] else name)
                seen[name] += 1
    return found


def slug(heading: str) -> str:
    """GitHub's rule: small letters, no punctuation but - and _, a hyphen for each space."""
    return re.sub(r"[^\w\- ]", "", heading.lower().strip()).replace(" ", "-")


def dead_links(document: Path, root: Path = ROOT) -> list[str]:
    """The addresses in the document that lead to no file of the repository, or to no heading of one."""
    dead = []
    for address in links(document):
        if re.match(r"[a-z][a-z+.-]*:", address):
            continue
        path, _, anchor = unquote(address).partition("#")
        target = root / path.lstrip("/") if path.startswith("/") else document.parent / path if path else document
        if not target.exists() or (anchor and target.suffix in {".md", ".ipynb"} and anchor not in anchors(target)):
            dead.append(address)
    return dead


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_in_the_sources_lead_somewhere(document):
    assert dead_links(document) == []


def test_there_are_links_to_follow():
    """The test above can't pass for want of links: into files, and to headings of other documents."""
    local = [address for document in DOCUMENTS for address in links(document) if not re.match(r"[a-z]+:", address)]
    assert len([address for address in local if "#" in address]) > 10
    assert len([address for address in local if ".ipynb" in address]) > 10


def test_dead_links_are_found(tmp_path):
    (tmp_path / "book").mkdir()
    cells = [{"cell_type": "markdown", "source": ["# 1 · Why $d$, and `x_y`?\n", "\n", "## Twice\n", "\n", "## Twice"]}]
    (tmp_path / "01.ipynb").write_text(json.dumps({"cells": cells}))
    page = tmp_path / "book" / "page.md"
    alive = (
        "../01.ipynb",
        "/01.ipynb#twice",
        "../01.ipynb#twice-1",
        "../01.ipynb#1--why-d-and-x_y",
        "#here",
        "https://a.b",
    )
    dead = ("01.ipynb", "../02.ipynb", "../01.ipynb#twice-2", "#there", "page.html")
    told = " ".join(f"[words]({address})" for address in (*alive, *dead))
    page.write_text(
        f"---\ntitle: none\n---\n# Here\n\n{told}\n\n```{{note}}\n[words](in-a-note.md)\n```\n\n"
        '<a href="in-html.md">words</a>\n\n```\n[words](in-code.md)\n```\n\n$[a](b)$\n'
    )
    assert dead_links(page, tmp_path) == [*dead, "in-a-note.md", "in-html.md"]
