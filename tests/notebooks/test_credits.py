"""Credit where an idea enters: every entry of the bibliography is cited, every borrowed idea on its chapter."""

from __future__ import annotations

import json
import re
import unicodedata

import pytest
from chapter_rules import ROOT

PAGES = sorted((ROOT / "book").glob("*.md"))
CHAPTERS = sorted((ROOT / "notebooks").glob("*.ipynb"))
IDEAS = [
    ("depthwise separable convolution", "chollet2017xception", 1),
    ("layer normalisation", "ba2016layer", 2),
    ("batch normalisation", "ioffe2015batch", 2),
    ("residual connection", "he2016deep", 2),
    ("the norm before the branch", "xiong2020layer", 2),
    ("attention, its heads and its scale", "vaswani2017attention", 3),
    ("shrunken keys and values", "wang2021pyramid", 3),
    ("attention without its matrix in memory", "dao2022flashattention", 3),
    ("GELU", "hendrycks2016gelu", 4),
    ("position from zero padding", "islam2020position", 4),
    ("position from a 3×3 convolution", "chu2021conditional", 4),
    ("patches as tokens", "dosovitskiy2021image", 5),
    ("a pyramid of stages", "wang2021pyramid", 5),
    ("effective receptive field", "luo2016understanding", 5),
    ("attention alone loses rank", "dong2021attention", 5),
    ("AdamW", "loshchilov2019decoupled", 7),
    ("CamVid", "brostow2009semantic", 7),
    ("CamVid's eleven classes", "badrinarayanan2017segnet", 7),
    ("stochastic depth", "huang2016deep", 8),
    ("gradient checkpointing", "chen2016training", 10),
    ("roofline", "williams2009roofline", 10),
    ("Muon", "jordan2024muon", 11),
    ("Muon with weight decay", "liu2025muon", 11),
    ("class weights", "paszke2016enet", 11),
    ("copying objects into other pictures", "ghiasi2021simple", 11),
    ("copying half of the classes", "olsson2021classmix", 11),
    ("BatchNorm's statistics measured anew", "wu2021rethinking", 11),
    ("an untrained model beside the trained one", "adebayo2018sanity", 12),
    ("attention as an explanation", "jain2019attention", 12),
    ("linear probes", "alain2016understanding", 12),
    ("features as colours", "oquab2024dinov2", 12),
    ("accuracy near borders", "kohli2009robust", 12),
    ("covering parts of the picture", "zeiler2014visualizing", 12),
    ("noise and blur", "hendrycks2019benchmarking", 12),
    ("noise and blur in segmentation", "kamann2020benchmarking", 12),
    ("leakage", "kapoor2023leakage", 13),
    ("errors in labels", "northcutt2021pervasive", 13),
    ("training from scratch", "he2019rethinking", 13),
]  # fmt: skip


def entries(bibliography: str) -> dict[str, str]:
    """The entries of a BibTeX file by their keys."""
    return {entry[1]: entry[0] for entry in re.finditer(r"^@\w+\{(\w+),.*?^\}", bibliography, re.M | re.S)}


BIBLIOGRAPHY = entries((ROOT / "book" / "references.bib").read_text())


def field(entry: str, name: str) -> str:
    found = re.search(rf"^\s*{name}\s*=\s*\{{(.*)\}},?$", entry, re.M)
    return found[1] if found else ""


def is_cited(key: str, text: str) -> bool:
    """Whether a text cites an entry: by its key, by a link to it, or by its first author and the year."""
    entry = BIBLIOGRAPHY[key]
    text = " ".join(text.split())
    places = re.findall(r"arXiv:(\d+\.\d+)|doi:([^}\s]+)|\\url\{([^}]+)\}", entry)
    addresses = [part for place in places for part in place if part]
    if any(address in text for address in addresses) or re.search(rf"\{{cite[\w:]*\}}`[^`]*\b{key}\b", text):
        return True
    surname = re.sub(r"[{}]|\\\W", "", field(entry, "author").split(",")[0])  # J{\'e}gou is Jegou
    text = "".join(letter for letter in unicodedata.normalize("NFKD", text) if not unicodedata.combining(letter))
    return bool(re.search(rf"\b{surname}\b[^.;]{{0,60}}?(?:al\.)?[^.;]{{0,60}}\b{field(entry, 'year')}\b", text))


def words(path) -> str:
    """A chapter's text, and its code: a table may name its sources."""
    return "\n\n".join("".join(cell["source"]) for cell in json.loads(path.read_text())["cells"])


TEXTS = {path.name: path.read_text() for path in PAGES} | {path.name: words(path) for path in CHAPTERS}


def test_every_key_is_there_once():
    keys = re.findall(r"^@\w+\{(\w+),", (ROOT / "book" / "references.bib").read_text(), re.M)
    assert sorted(keys) == sorted(BIBLIOGRAPHY)


@pytest.mark.parametrize("key", BIBLIOGRAPHY)
def test_every_entry_of_the_bibliography_is_cited(key):
    assert [name for name, text in TEXTS.items() if is_cited(key, text)]


@pytest.mark.parametrize(
    ("idea", "key", "chapter"),
    [pytest.param(*each, id=f"{each[2]}, {each[0]}") for each in IDEAS],
)
def test_borrowed_idea_is_credited_where_it_enters(idea, key, chapter):
    (text,) = (text for name, text in TEXTS.items() if name.startswith(f"{chapter:02}_"))
    assert is_cited(key, text), f"Chapter {chapter} takes up {idea} without citing {key}."


@pytest.mark.parametrize(
    ("text", "cited"),
    [
        ("as in [Chu et al., 2021](https://example.org)", True),
        ("as in {cite}`wang2021pyramid, chu2021conditional`", True),
        ("as in [a paper](https://arxiv.org/abs/2102.10882)", True),
        ("Chu et al.\n(2021) found", True),
        ("Chu found it. It was 2021.", False),
        ("Churchill 2021", False),
        ("Chu et al., 2020", False),
        ("", False),
    ],
)
def test_a_citation_is_told_from_none(text, cited):
    assert is_cited("chu2021conditional", text) is cited
