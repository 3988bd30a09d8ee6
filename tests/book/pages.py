"""Which pages the built book has, as the table of contents says and as they lie on disk."""

from __future__ import annotations

from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
HTML = ROOT / "_build" / "html"
TOC = yaml.safe_load((ROOT / "_toc.yml").read_text())

if not (HTML / "book" / "index.html").is_file():
    raise FileNotFoundError(f"There is no built book in {HTML}: run `make book` first.")


def documents_of_toc():
    """Return every document of the table of contents, the start page first, such as "notebooks/02_layer_norm"."""
    return [TOC["root"], *(chapter["file"] for part in TOC["parts"] for chapter in part["chapters"])]


def built_pages():
    """Return the paths of all pages, below the book's folder; the redirect at its root and listings of code too."""
    return sorted(str(path.relative_to(HTML)) for path in HTML.rglob("*.html") if "_static" not in path.parts)


CHAPTERS = [document for document in documents_of_toc() if document.startswith("notebooks/")]
PAGES = [f"{document}.html" for document in documents_of_toc()] + ["search.html", "genindex.html"]
