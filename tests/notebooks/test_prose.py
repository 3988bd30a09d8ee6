"""The checker of prose finds planted mistakes, in a page and in a chapter, and leaves code and formulas alone."""

from __future__ import annotations

import json

import prose
import pytest

READER = prose.Reader(["softmax", "mIoU"])


def found(text):
    """Line and words of each finding."""
    return [(finding.place, finding.found.split()[0]) for finding in READER.read(text, "page")]


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("A wrong attantion.", "attantion"),
        ("The mean of the the pixels.", "the"),
        ("This is an picture.", "an"),
        ("# A wrong haeding", "haeding"),
        ("- One\n- A wrong itme", "itme"),
        ("| a | b |\n| - | - |\n| a wrong celll | c |", "celll"),
        ("A [wrong linkk](page.md).", "linkk"),
        ("```{list-table}\n- - A wrong celll\n```", "celll"),
    ],
)
def test_mistake_is_found(text, word):
    assert [words for _, words in found(text)] == [word]


def test_finding_tells_the_line():
    assert found("# Title\n\nFine here.\n\nA wrong attantion.") == [("page:5", "attantion")]


@pytest.mark.parametrize(
    "text",
    [
        "The `attantion` of $xqz$ and $$qzx$$ is fine.",
        "```python\nattantion = 1\n```",
        "The softmax's shares, and the mIoU. Softmax is fine too.",
        "See {doc}`attantion`, then {cite:t}`qzx2020`.",
        "An `x`, a `y`, and pixel A in Table 1a is fine.",
        "---\nfrontmater: attantion\n---\nFine.",
        "A [link](attantion.md) is fine.",
    ],
)
def test_code_formulas_and_known_words_are_left_alone(text):
    assert found(text) == []


def test_pages_and_cells_of_chapters_are_read(tmp_path):
    (tmp_path / "book").mkdir()
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "README.md").write_text("one")
    (tmp_path / "book" / "page.md").write_text("two")
    cells = [{"cell_type": kind, "id": kind, "source": ["three"]} for kind in ("markdown", "code")]
    (tmp_path / "notebooks" / "01_x.ipynb").write_text(json.dumps({"cells": cells}))
    assert [text for _, text in prose.texts(tmp_path)] == ["one", "two", "three"]


def test_the_vocabulary_is_sorted_and_has_no_word_twice():
    words = prose.WORDS.read_text().split()
    assert words == sorted(set(words), key=lambda word: (word.lower(), word))
