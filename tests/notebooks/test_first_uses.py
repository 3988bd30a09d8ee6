"""Where a chapter first uses a term of the glossary, it links to it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest
from chapter_rules import ROOT, Chapter

CHAPTERS = [Chapter(path.name, path.read_text()) for path in sorted((ROOT / "notebooks").glob("*.ipynb"))]
TERMS = re.findall(r"^### (.+)$", (ROOT / "book" / "glossary.md").read_text(), re.M)
# Their everyday meaning is spelt the same, or the book opens with them before any chapter.
EVERYDAY = {
    "Article", "Block", "Branch", "Cell", "Checkpoint", "Head", "Leak", "Map", "Nearest", "Package", "Paper", "Parity",
    "Pixel", "Scale", "Seed", "Sketch", "Stage", "Stride", "Void",
}  # fmt: skip
SPELLINGS = {
    "MAC and FLOP": r"MACs?|FLOPs?|multiply-accumulates?",
    "Permutation equivariance": r"permutation[- ]equivarian(?:ce|t)",
    "Pretraining": r"pretrain(?:ing|ed)",
    "Query, key and value": r"quer(?:y|ies)",
    "Warm-up": r"warm-?up",
    "Weight decay": r"weight decay",
    "MLP": r"MLPs?|multi-layer perceptrons?",
    "Class map": r"class maps?",
    "Confusion matrix": r"confusion matri(?:x|ces)",
}


def spelling(term: str) -> re.Pattern:
    """How a term is found in a text, whole words only: its plural too, in capitals or not."""
    letters = SPELLINGS.get(term) or re.escape(term).replace(r"\ ", r"[ -]") + "s?"
    return re.compile(rf"(?<![\w-])(?:{letters})(?![\w-])", re.IGNORECASE if term[1:].islower() else 0)


def slug(term: str) -> str:
    return re.sub(r"[^\w\- ]", "", term.lower()).replace(" ", "-")


def paragraphs(chapter: Chapter) -> Iterator[tuple[str, str, set[str]]]:
    """Yield cell, words and targets of each paragraph and list item: code, formulas and links' words left out."""
    for cell, tokens in chapter.markdown.items():
        for before, token in zip([None, *tokens], tokens):
            if token.type != "inline" or (before is not None and before.type == "heading_open"):
                continue
            inside, words, targets = "", [], set()
            for child in token.children or []:
                if child.type == "link_open":
                    inside = str(child.attrs["href"])
                    targets.add(inside.partition("glossary.md#")[2])
                elif child.type == "link_close":
                    inside = ""
                elif child.type in {"text", "softbreak"} and not inside:
                    words.append(child.content or " ")
            yield cell, "".join(words), targets


def first_use(term: str, chapters: list[Chapter]) -> str | None:
    """Return the cell that uses a term before any paragraph that links to its entry; None where there is none."""
    found = spelling(term)
    for chapter in chapters:
        for cell, words, targets in paragraphs(chapter):
            if slug(term) in targets:
                return None
            if found.search(words):
                return f"{chapter.name}, cell {cell}: {words[:100]}"
    return None


@pytest.mark.parametrize("term", [term for term in TERMS if term not in EVERYDAY])
def test_first_use_of_a_term_links_to_the_glossary(term):
    assert first_use(term, CHAPTERS) is None


def test_everyday_words_and_spellings_are_the_glossarys():
    assert set(TERMS) >= EVERYDAY | set(SPELLINGS)


@pytest.mark.parametrize(
    ("text", "fine"),
    [
        ("The [softmax](../book/glossary.md#softmax) of it. Softmax again.", True),
        ("Softmax, or [shares](../book/glossary.md#softmax).", True),
        ("Softmaxing, `softmax`, $softmax$, and [softmax](other.ipynb).\n\n# Softmax", True),
        ("A softmax.\n\nThe [softmax](../book/glossary.md#softmax).", False),
        ("Two softmaxes? No: one\nSoftmax.", False),
    ],
)
def test_a_first_use_is_found(text, fine):
    cell = {"cell_type": "markdown", "id": "text", "source": text.splitlines(keepends=True)}
    assert (first_use("Softmax", [Chapter("01_x.ipynb", json.dumps({"cells": [cell]}))]) is None) is fine
