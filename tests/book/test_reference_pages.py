"""The pages of reference: what they show of this build, and that their links lead where GitHub and the book agree."""

from __future__ import annotations

import json
import re
from collections import Counter

import floors
import pytest
from assignment import PooledAttention
from bs4 import BeautifulSoup
from chapter_facts import source
from pages import CHAPTERS, HTML, ROOT

GLOSSARY = ROOT / "book" / "glossary.md"
LINK = re.compile(r"\]\((?:\.\./book/)?glossary\.md#([^)\s]+)\)")


def github_slug(heading):
    """The anchor that GitHub gives a heading: small letters, spaces to hyphens, punctuation dropped."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def terms():
    return re.findall(r"^### (.+)$", GLOSSARY.read_text(), flags=re.M)


def prose_of_chapters():
    """The text around the code of each chapter."""
    notebooks = {chapter: json.loads((ROOT / f"{chapter}.ipynb").read_text()) for chapter in CHAPTERS}
    return {
        name: "\n".join(source(cell) for cell in notebook["cells"] if cell["cell_type"] == "markdown")
        for name, notebook in notebooks.items()
    }


def links():
    """The terms that each chapter and page links to."""
    pages = {path.name: path.read_text() for path in (ROOT / "book").glob("*.md") if path != GLOSSARY}
    return {name: LINK.findall(text) for name, text in (prose_of_chapters() | pages).items()}


def test_terms_stand_in_order_under_their_letters():
    entries = re.findall(r"^(##+) (.+)$", GLOSSARY.read_text(), flags=re.M)
    letters = [title for marks, title in entries if marks == "##"]
    assert letters == sorted(set(letters))
    letter = None
    for marks, title in entries:
        letter = title if marks == "##" else letter
        assert title[0].upper() == letter
    assert terms() == sorted(terms(), key=str.lower)


@pytest.mark.parametrize("term", terms())
def test_a_term_is_linked_from_a_chapter_or_a_page(term):
    assert any(github_slug(term) in found for found in links().values())


def test_links_lead_to_terms_on_github_too():
    known = {github_slug(term) for term in terms()}
    assert {name: set(found) - known for name, found in links().items() if set(found) - known} == {}


def test_a_chapter_links_to_a_term_once_at_most_and_to_some():
    for name, found in links().items():
        if name in CHAPTERS:
            assert [term for term, count in Counter(found).items() if count > 1] == [], name
            assert found, f"{name} links to no term of the glossary"


def test_no_heading_of_a_chapter_holds_a_link():
    assert not re.search(r"^#+ .*\]\(", "\n".join(prose_of_chapters().values()), flags=re.M)


def test_the_table_of_times_has_every_chapter_of_this_build():
    page = BeautifulSoup((HTML / "book" / "execution-times.html").read_text(), "html.parser")
    *rows, last = [[cell.text for cell in row.find_all("td")] for row in page.find("tbody").find_all("tr")]
    targets = [row.find("a")["href"] for row in page.find("tbody").find_all("tr")[:-1]]
    assert targets == [f"../{chapter}.html" for chapter in CHAPTERS]
    seconds = [int(row[1]) for row in rows]
    assert all(seconds)
    assert abs(sum(seconds) - int(last[1])) <= len(seconds)
    assert all(re.fullmatch(r"\d\d [A-Z][a-z]+ \d{4}", row[2]) for row in rows)


def test_the_page_of_architecture_shows_each_floor_and_each_class_that_a_chapter_builds():
    page = BeautifulSoup((HTML / "book" / "architecture.html").read_text(), "html.parser")
    picture = page.find("figure", class_="model-diagrams")
    assert [text.text for text in picture.find_all("text", class_="md-strong")] == list(floors.imports())
    assert all(f"{floor}, " in picture.find("desc").text for floor in floors.imports())
    assert picture.find("figcaption").text
    rows = [[cell.text for cell in row.find_all("td")] for row in page.find("table").find("tbody").find_all("tr")]
    assert [int(chapter.split(".")[0]) for chapter, _ in rows] == list(range(1, len(CHAPTERS) + 1))
    for number, built in {1: "DsConv2d", 5: "Block, Stage, MiT", 8: "SegformerHead", 10: "FastSegformerHead"}.items():
        assert built in rows[number - 1][1]


def blocks(page, words):
    """The page's Python blocks that hold these words."""
    found = re.findall(r"^```python\n(.+?)^```$", (ROOT / "book" / page).read_text(), flags=re.M | re.S)
    return [block for block in found if words in block]


def test_the_assignments_model_is_the_one_that_was_measured():
    (block,) = blocks("for-teachers.md", "parts=replace(SKETCH")
    names = {"seed": 0, "PooledAttention": PooledAttention}
    exec(block, names)
    measured = json.loads((ROOT / "results" / "assignment.json").read_text())
    assert sum(weight.numel() for weight in names["model"].parameters()) == measured["pooled"]["parameters"]
    assert f"{measured['pooled']['parameters']:,}" in (HTML / "book" / "for-teachers.html").read_text()


def test_the_assignments_counts_follow_from_the_shapes():
    page = BeautifulSoup((HTML / "book" / "for-teachers.html").read_text(), "html.parser")
    table = next(table for table in page.find_all("table") if "similarities" in table.text)
    shown = [int(row.find_all("td")[1].text.replace(",", "")) for row in table.find("tbody").find_all("tr")]
    sides, dims, heads, ratios = (64, 32, 16, 8), (32, 64, 160, 256), (1, 2, 5, 8), (8, 4, 2, 1)
    assert shown == [
        sum(2 * h * side**2 * (side // r) ** 2 for h, side, r in zip(heads, sides, ratios)),
        sum(2 * h * side**4 for h, side in zip(heads, sides)),
        sum(2 * (2 + 2 * r * r) * dim**2 for dim, r in zip(dims, ratios)),
        sum(2 * 4 * dim**2 for dim in dims),
    ]
