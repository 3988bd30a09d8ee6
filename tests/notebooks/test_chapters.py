"""Every chapter keeps every rule; the comparison with the library catches a class that is not the library's."""

from __future__ import annotations

import json

import chapter_rules as rules
import pytest
import yaml
from chapter_rules import ROOT, RULES, Chapter

CHAPTERS = [Chapter(path.name, path.read_text()) for path in sorted((ROOT / "notebooks").glob("*.ipynb"))]
NUMBERS = [int(chapter.name[:2]) for chapter in CHAPTERS]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda chapter: chapter.name)
def test_chapter_keeps_the_rule(chapter, rule):
    faults = list(rule(chapter))
    assert not faults, f"{chapter.name} {rule.__name__}:\n" + "\n".join(faults)


def test_chapters_are_there_and_numbered_once():
    assert {1, 2, 3, 7} <= set(NUMBERS)
    assert len(set(NUMBERS)) == len(NUMBERS)


def test_book_lists_every_chapter():
    parts = yaml.safe_load((ROOT / "_toc.yml").read_text())["parts"]
    listed = [
        entry["file"].split("/")[1] for part in parts for entry in part["chapters"] if "notebooks/" in entry["file"]
    ]
    assert listed == [chapter.name.removesuffix(".ipynb") for chapter in CHAPTERS]


def test_rooms_of_the_first_chapters_say_what_is_built_there():
    """Otherwise the comparison of chapter and library would compare nothing."""
    assert {number: sorted(rules.built_in(number)) for number in range(1, 7)} == {
        1: ["DsConv2d"],
        2: ["LayerNorm", "PreNorm"],
        3: ["EfficientSelfAttention"],
        4: ["MixFeedForward"],
        5: ["Block", "MiT", "Stage"],
        6: ["MLPDecoder", "Segformer"],
    }


LIBRARYS = (ROOT / "segformer_edu" / "model" / "convolution.py").read_text().split("class DsConv2d")[1]
FINAL = f"class DsConv2d{LIBRARYS}"


def faults(code: str, rule=rules.ends_on_the_librarys_classes) -> str:
    """What a rule, first of all the comparison with the library, has against chapter 1 with this code."""
    cell = {"cell_type": "code", "id": "final", "source": code.splitlines(keepends=True)}
    return "\n".join(rule(Chapter("01_x.ipynb", json.dumps({"cells": [cell]}))))


def test_final_class_may_have_another_docstring_and_earlier_versions():
    for code in (FINAL, FINAL.replace("A depthwise separable", "Another"), f"class DsConv2d: pass\n\n\n{FINAL}"):
        assert faults(code) == ""


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("x = 1", "does not define DsConv2d"),
        (FINAL.replace("stride=stride, groups=dim_in,", "stride=stride,"), "its last DsConv2d is not the library's"),
        (f"{FINAL}\n\nclass DsConv2d(nn.Module): pass", "its last DsConv2d is not the library's"),
    ],
)
def test_class_that_is_not_the_librarys_is_found(code, words):
    assert words in faults(code)


@pytest.mark.parametrize(
    ("code", "fine"),
    [
        ("recipe = Recipe(steps=240 if device.type == 'cpu' else 1500)", False),
        ("on_cpu = device.type == 'cpu'", False),
        ("if torch.cuda.is_available():\n    steps = 1500", False),
        ("while time.perf_counter() < end:\n    step()", False),
        ("device = choose_device()\nfit(model, data, Recipe(steps=240), device=device)\nprint(device.type)", True),
        ("def trained(model):\n    fit(model, data, Recipe(steps=240 if model.device == CPU else 1500))", False),
        ("class DsConv2d:\n    def forward(self, x):\n        return x if x.is_cuda else 2 * x", True),
    ],
)
def test_a_choice_by_device_or_time_is_found(code, fine):
    assert (faults(code, rules.does_the_same_everywhere) == "") is fine


@pytest.mark.parametrize(
    ("code", "fine"),
    [
        ("plots.show(figure, 'Two lines.', caption=f'The loss ends at {loss:.2f}.')", True),
        ("plots.show(figure, 'Two lines.', 'The loss of two runs.')", True),
        ("caption = 'The loss.'\nplots.show(figure, alt='Two lines.', caption=caption)", True),
        ("plots.table(header, rows, 'The loss')", True),
        ("plots.show(figure, 'Two lines.')", False),
        ("plots.show(figure, alt='Two lines.', caption='')", False),
        ("plots.show(figure, 'Two lines.', ' ')", False),
        ("if shown:\n    plots.show(figure, alt='Two lines.', caption=None)", False),
    ],
)
def test_a_figure_without_a_caption_is_found(code, fine):
    assert (faults(code, rules.shows_figures_with_a_caption) == "") is fine


@pytest.mark.parametrize(
    ("metadata", "fine"),
    [
        ({}, True),
        ({"cellView": "form", "tags": ["hide-input"]}, True),
        ({"tags": ["hide-input"]}, False),
        ({"cellView": "form"}, False),
    ],
)
def test_what_the_book_folds_colab_folds(metadata, fine):
    generate = rules.load(ROOT / "tools" / "generate.py")
    cell = {"cell_type": "code", "id": "figure", "metadata": metadata, "source": []}
    assert (generate.folded(cell) == cell) is fine
