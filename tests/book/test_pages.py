"""The built pages as files: all are there, none asks another host for anything, what is computed is right."""

from __future__ import annotations

import json
import re
from functools import lru_cache
from html import unescape
from urllib.parse import unquote

import pytest
import torch
import yaml
from bs4 import BeautifulSoup
from chapter_facts import read_chapter
from pages import CHAPTERS, HTML, PAGES, ROOT, built_pages, documents_of_toc

import segformer_edu

LINKS = {"a": "href", "area": "href", "link": "href", "form": "action", "img": "src", "script": "src", "iframe": "src"}
RESOURCES = {"script": "src", "link": "href", "img": "src", "iframe": "src", "source": "src", "video": "src"}
REPOSITORY = yaml.safe_load((ROOT / "_config.yml").read_text())["repository"]


def read(page):
    return BeautifulSoup((HTML / page).read_text(), "html.parser")


def test_every_document_of_the_toc_was_built():
    missing = [document for document in documents_of_toc() if not (HTML / f"{document}.html").is_file()]
    assert not missing


def test_every_notebook_is_in_the_toc():
    notebooks = {f"notebooks/{path.stem}" for path in (ROOT / "notebooks").glob("*.ipynb")}
    assert notebooks == set(CHAPTERS)


def test_the_root_leads_to_the_start_page():
    assert "book/index.html" in (HTML / "index.html").read_text()


@pytest.mark.parametrize("page", built_pages())
def test_a_page_loads_nothing_from_another_host(page):
    soup = read(page)
    foreign = [
        tag[attribute]
        for name, attribute in RESOURCES.items()
        for tag in soup.find_all(name)
        if re.match(r"(https?:)?//", tag.get(attribute, ""))
    ]
    in_styles = re.findall(r"url\(\s*['\"]?(?:https?:)?//[^)]*", " ".join(tag.text for tag in soup.find_all("style")))
    assert not foreign + in_styles


def test_no_stylesheet_loads_from_another_host():
    found = [
        f"{path.relative_to(HTML)}: {address}"
        for path in (HTML / "_static").rglob("*.css")
        for address in re.findall(r"(?:url\(\s*['\"]?|@import\s+['\"])((?:https?:)?//[^)'\"]*)", path.read_text())
    ]
    assert not found


@pytest.mark.parametrize("page", PAGES)
def test_a_page_loads_mathjax_where_it_has_formulas_and_only_there(page):
    soup = read(page)
    loads = any("mathjax" in script["src"] for script in soup.find_all("script", src=True))
    assert loads == bool(soup.find(class_="math"))


@lru_cache
def anchors(path):
    """Return every id and name in a page, as an anchor leads to them."""
    return {unescape(name) for name in re.findall(r'<[^>]*?\s(?:id|name)="([^"]*)"', path.read_text())}


def dead_links(page, html=HTML):
    """Return what a page links to or loads by a relative address, and is not there: files and anchors."""
    dead = []
    for tag in BeautifulSoup((html / page).read_text(), "html.parser").find_all(list(LINKS)):
        address = tag.get(LINKS[tag.name], "").strip()
        if not address or re.match(r"[a-z][a-z+.-]*:|//", address):
            continue
        path, _, anchor = unquote(address).partition("#")
        path = path.split("?")[0]
        target = (html / page).parent / path if path else html / page
        if not target.is_file() or (anchor and target.suffix == ".html" and anchor not in anchors(target)):
            dead.append(address)
    return dead


@pytest.mark.parametrize("page", built_pages())
def test_a_page_links_only_to_what_is_there(page):
    assert dead_links(page) == []


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_chapter_opens_in_colab(chapter):
    slug = "/".join(REPOSITORY["url"].rstrip("/").split("/")[-2:])
    expected = f"https://colab.research.google.com/github/{slug}/blob/{REPOSITORY['branch']}/{chapter}.ipynb"
    links = {link["href"] for link in read(f"{chapter}.html").find_all("a", href=True) if "colab" in link["href"]}
    assert links == {expected}
    assert (ROOT / f"{chapter}.ipynb").is_file()


@pytest.mark.parametrize("page", PAGES)
def test_every_picture_says_what_it_shows(page):
    for image in read(page).find_all("img"):
        alt = image.get("alt", "").strip()
        assert alt, str(image)[:200]
        assert not re.search(r"\.(png|jpe?g|svg|webp|gif)$|_build|_images", alt), alt


def test_the_start_page_shows_a_prediction():
    pictures = [image for image in read("book/index.html").find_all("img") if "_images" in image["src"]]
    assert pictures, "results/prediction.json is missing: the start page has no picture of a real prediction."


def test_the_map_of_chapters_has_each_chapter_with_its_times():
    rows = {
        row.find("a")["href"]: [cell.text for cell in row.find_all("td")]
        for row in read("book/index.html").find("table").find_all("tr")
        if row.find("a")
    }
    seconds = json.loads((ROOT / "results" / "chapters.json").read_text())["chapters"]
    assert set(rows) == {f"../{chapter}.html" for chapter in CHAPTERS}
    for link, (_, _, reading, running) in rows.items():
        name = link.removeprefix("../notebooks/").removesuffix(".html")
        assert re.fullmatch(r"\d+ min", reading)
        assert running == f"{seconds[name]['seconds']:.0f} s"


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_chapter_and_the_map_agree_on_its_minutes(chapter):
    head = read(f"{chapter}.html").find("article").text.split("Open this chapter", 1)[0]
    minutes = read_chapter(chapter.removeprefix("notebooks/")).reading_minutes
    assert re.search(rf"\b{minutes} minutes to read", head), f"expected '{minutes} minutes to read' under the title"


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_chapter_takes_45_minutes_to_read_at_most(chapter):
    about = read_chapter(chapter.removeprefix("notebooks/"))
    assert about.reading_minutes <= 45, f"{about.words} words and {about.code_lines} lines of code: split it"


@pytest.mark.parametrize(("number", "size"), [(0, (512, 512)), (1, (360, 480))])
def test_the_table_of_stages_follows_the_rule_on_the_page(number, size):
    table = [table for table in read("book/notation.html").find_all("table") if "Stage" in table.text][number]
    rows = [[cell.text.strip() for cell in row.find_all("td")] for row in table.find("tbody").find_all("tr")]
    sizes = [[(side - 1) // 4 + 1 for side in size]]
    for _ in range(3):
        sizes.append([(side - 1) // 2 + 1 for side in sizes[-1]])
    assert [re.findall(r"\d+", row[1]) for row in rows] == [[str(side) for side in pair] for pair in sizes]
    for row, (height, width), ratio in zip(rows, sizes, (8, 4, 2, 1)):
        assert row[3] == str(height * width)
        assert row[6] == str((height // ratio) * (width // ratio))


def test_the_diagram_has_the_models_own_numbers():
    text = read("book/index.html").find("svg", class_="model-diagram-wide").text
    model = segformer_edu.Segformer()
    maps = model.mit(torch.zeros(1, 3, 32, 32), return_layer_outputs=True)
    for stride, stage_map in zip((4, 8, 16, 32), maps):
        assert f"H/{stride} × W/{stride} × {stage_map.shape[1]}" in text


@pytest.mark.parametrize("layout", ["wide", "narrow"])
def test_the_diagram_names_each_chapter_of_part_one_once_and_links_to_those_there_are(layout):
    drawing = read("book/index.html").find("svg", class_=f"model-diagram-{layout}")
    named = [int(number) for text in drawing.find_all("text") for number in re.findall(r"chapter (\d+)", text.text)]
    assert sorted(named) == [1, 2, 3, 4, 5, 6, 7]
    linked = {link["href"].removeprefix("../").removesuffix(".html") for link in drawing.find_all("a")}
    assert linked == {chapter for chapter in CHAPTERS if int(chapter.split("/")[1][:2]) in named}


def test_the_api_has_every_public_name():
    ids = {tag["id"] for tag in read("book/api.html").find_all("dt", id=True)}
    names = {
        getattr(segformer_edu, name)
        for name in segformer_edu.__all__
        if hasattr(getattr(segformer_edu, name), "__qualname__")
    }
    missing = {f"{name.__module__}.{name.__qualname__}" for name in names} - ids
    assert not missing


def test_every_cell_of_the_table_of_implementations_leads_to_a_chapter():
    table = read("book/paper-against-code.html").find("table", class_="stacks")
    rows = [row.find_all("td") for row in table.find("tbody").find_all("tr")]
    assert rows
    for row in rows:
        assert len(row) == 6
        assert all(cell.a["href"].startswith("../notebooks/") and "#" in cell.a["href"] for cell in row)


@pytest.mark.parametrize("page", ["book/paper-tables.html", "book/seed-annotated.html"])
def test_code_that_ran_when_a_page_was_built_shows_what_it_printed(page):
    blocks = [[pre.text.strip() for pre in block.find_all("pre")] for block in read(page).select(".executed")]
    assert blocks
    assert all(len(block) == 2 and block[1] for block in blocks)
