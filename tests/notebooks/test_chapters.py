"""Every chapter keeps every rule, and every rule catches what it is there for."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable

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


# A chapter that keeps every rule, and below it the same chapter with one fault at a time.
TITLE = "# 90 · Good\n\n**What you will build:** x. **What you need to know:** y. **How long:** 5 minutes to read."
SECTIONS = ("A question", "An answer", "A picture", *rules.LAST_SECTIONS)
TEXT = """
Text with `code {a}`, $a < b$, $$c > \\begin{matrix}d\\end{matrix}$$ and a [link](https://example.org), for \\$5.

<details><summary>Answer</summary>

Forty-two.

</details>

```python
x = "<b>"
```
"""
CODE = """from segformer_edu.pages import plots
figure = plots.lines({}, x_label='x', y_label='y')
plots.show(figure, alt='it')"""


def cell(kind: str, name: str, source: str) -> dict:
    made = {"cell_type": kind, "id": name, "metadata": {}, "source": source.splitlines(keepends=True)}
    if kind == "code":
        made = {"cell_type": kind, "execution_count": None, "id": name, "metadata": {}, "outputs": []} | {
            "source": source.splitlines(keepends=True)
        }
    return made


def notebook(text: str = TEXT, code: str = CODE, title: str = TITLE, sections: tuple[str, ...] = SECTIONS) -> dict:
    cells = [cell("markdown", "title", title), cell("markdown", "text", text), cell("code", "code", code)]
    cells += [cell("markdown", f"section-{index}", f"## {name}") for index, name in enumerate(sections)]
    return {"cells": cells, "metadata": rules.METADATA, "nbformat": 4, "nbformat_minor": 5}


def chapter(made: dict, name: str = "90_good.ipynb", generated: bool = True) -> Chapter:
    if generated:
        made = rules.load(ROOT / "tools" / "generate.py").with_generated_cells(made, name)
    return Chapter(name, json.dumps(made, indent=1, ensure_ascii=False) + "\n")


def changed(change: Callable[[dict], object]) -> Chapter:
    """The good chapter after ``change`` has worked on its notebook."""
    made = copy.deepcopy(chapter(notebook()).notebook)
    change(made)
    return chapter(made, generated=False)


BAD_CODE = {
    "plt.show()": "calls plt.show",
    "figure.savefig('x.png')": "calls figure.savefig",
    "import matplotlib.pyplot as plt": "imports pyplot",
    "from matplotlib import pyplot": "imports pyplot",
    "plots.show(figure)": "without alt text",
    "plots.show(figure, alt='')": "without alt text",
    "plots.show(figure, '  ')": "without alt text",
    "plots.show(figure, alt=None)": "without alt text",
    "plots.images([x])": "does not show it",
    "display(HTML('<img src=x.png>'))": "<img> without alt",
}
BAD_TEXT = {
    "```{note}\nx\n```": "MyST directive",
    "~~~{note}\nx\n~~~": "MyST directive",
    "- a list\n\n  ```{warning}\n  x\n  ```": "MyST directive",
    ":::{note}\nx\n:::": "MyST fence",
    "See {ref}`there`.": "MyST role",
    "(label)=\n": "MyST target",
    "a {{ name }} b": "MyST substitution",
    "% hidden": "MyST comment",
    "a note[^1]": "footnote",
    "|a|b|\n|--|--|\n|1|2|": "table",
    "- [ ] to do": "task list",
    "~~gone~~": "struck through",
    "> [!NOTE]\n> x": "GitHub alert",
    "so \\\\(a\\\\) is": "mathematics in",
    "\\begin{align}a\\end{align}": "LaTeX environment",
    "it costs $5": "dollar sign",
    "so $ a $ is": "no space inside",
    "a <b>bold</b> word": "HTML <b>",
    "<div align=center>\n\nx\n\n</div>": "HTML <div",
    "<details><summary>a</summary><img src=x></details>": "HTML <img",
    "<!-- hidden -->": "HTML <!--",
    "<details class=x>": "HTML <details class",
}
BAD_DETAILS = {
    "<details><summary>a</summary>\n\nb": "unequal",
    "<details>\n\nb\n\n</details>": "unequal",
    "<details><summary>a</summary>\nb\n\n</details>": "after </summary>",
    "<details><summary>a</summary>\n\nb\n</details>": "before </details>",
}
BAD_PICTURES = {
    "![](00_missing.png)": "without alt text",
    "![a dog](00_missing.png)": "no such file",
    "![a dog](https://example.org/dog.png)": "not in the repository",
}
BAD_HEADINGS = {"### Three\n\n##### Five": "skips from level 3 to 5", "# Two": "found 2", "## A question": "twice"}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_good_chapter_passes(rule):
    assert list(rule(chapter(notebook()))) == []


@pytest.mark.parametrize(
    ("rule", "made", "words"),
    [(rules.shows_figures_with_alt_text, notebook(code=code), words) for code, words in BAD_CODE.items()]
    + [(rules.is_plain_markdown, notebook(text), words) for text, words in BAD_TEXT.items()]
    + [(rules.has_whole_details, notebook(text), words) for text, words in BAD_DETAILS.items()]
    + [(rules.shows_pictures_with_alt_text, notebook(text), words) for text, words in BAD_PICTURES.items()]
    + [(rules.has_ordered_headings, notebook(text), words) for text, words in BAD_HEADINGS.items()]
    + [
        (rules.has_ordered_headings, notebook(title="# 8 · Good"), "one title, '# 90 · …'"),
        (rules.has_no_dead_links, notebook("[there](00_missing.ipynb#here)"), "no such file"),
        (rules.has_the_whole_anatomy, notebook(title="# 90 · Good"), "minutes to read"),
        (rules.has_the_whole_anatomy, notebook(sections=SECTIONS[:-1]), "its last sections are"),
        (rules.has_the_whole_anatomy, notebook(sections=SECTIONS[2:]), "has 5 sections"),
        (rules.has_the_generated_cells, notebook(code="!pip install x"), "runs a command"),
        (rules.has_the_generated_cells, notebook(code="get_ipython().system('x')"), "runs a command"),
        (rules.has_the_generated_cells, notebook("[x](https://colab.research.google.com/y)"), "speaks to Colab"),
        (rules.has_no_outputs, notebook("![x](data:image/png;base64,AAAA)"), "embeds a picture"),
    ],
)
def test_fault_is_found(rule, made, words):
    assert words in "\n".join(rule(chapter(made)))


@pytest.mark.parametrize(
    ("rule", "change", "words"),
    [
        (rules.is_a_valid_file, lambda made: made["cells"][0].pop("metadata"), "not a valid notebook"),
        (rules.is_a_valid_file, lambda made: made.update(nbformat_minor=4), "format is not 4.5"),
        (rules.is_a_valid_file, lambda made: made.update(metadata={"widgets": {}}), "its metadata are"),
        (rules.has_no_outputs, lambda made: made["cells"][3].update(execution_count=1), "execution count"),
        (rules.has_no_outputs, lambda made: made["cells"][4].update(outputs=[{"x": 1}]), "has outputs"),
        (rules.has_no_outputs, lambda made: made["cells"][0].update(attachments={"a.png": {}}), "embeds a picture"),
        (rules.has_readable_ids, lambda made: made["cells"][0].update(id="text"), "2 cells have the id 'text'"),
        (rules.has_readable_ids, lambda made: made["cells"][0].update(id="a b"), "the id 'a b'"),
        (rules.has_the_generated_cells, lambda made: made["cells"].pop(1), "make generate"),
        (rules.has_the_generated_cells, lambda made: made["cells"].pop(2), "make generate"),
        (rules.has_the_generated_cells, lambda made: made["cells"].reverse(), "make generate"),
        (rules.has_the_generated_cells, lambda made: made["cells"].append(made["cells"][2]), "make generate"),
        (rules.has_the_generated_cells, lambda made: made["cells"][2]["source"].append("#"), "make generate"),
    ],
)
def test_fault_of_the_file_is_found(rule, change, words):
    assert words in "\n".join(rule(changed(change)))


def test_untidy_file_is_found():
    tidy = chapter(notebook())
    assert "indent=1" in "\n".join(rules.is_a_valid_file(Chapter(tidy.name, json.dumps(tidy.notebook))))


LIBRARYS = (ROOT / "segformer_edu" / "model" / "convolution.py").read_text().split("class DsConv2d")[1]
FINAL = f"class DsConv2d{LIBRARYS}"


def test_final_class_may_have_another_docstring_and_earlier_versions():
    for code in (FINAL, FINAL.replace("A depthwise separable", "Another"), f"class DsConv2d: pass\n\n\n{FINAL}"):
        assert list(rules.ends_on_the_librarys_classes(chapter(notebook(code=code), "01_x.ipynb"))) == []


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("x = 1", "does not define DsConv2d"),
        (FINAL.replace("class DsConv2d", "class DsConv3d"), "does not define DsConv2d"),
        (FINAL.replace("stride=stride, groups=dim_in,", "stride=stride,"), "its last DsConv2d is not the library's"),
        (FINAL.replace("bias: bool = True", "bias: bool = False"), "its last DsConv2d is not the library's"),
        (f"{FINAL}\n\nclass DsConv2d(nn.Module): pass", "its last DsConv2d is not the library's"),
    ],
)
def test_class_that_is_not_the_librarys_is_found(code, words):
    assert words in "\n".join(rules.ends_on_the_librarys_classes(chapter(notebook(code=code), "01_x.ipynb")))
