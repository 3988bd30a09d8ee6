"""The sources in notebooks/exercises: as given nothing is written, solved all is right, and no hint gives it away."""

from __future__ import annotations

import ast
import io
import json
import re
import tokenize
from collections import Counter
from contextlib import suppress
from functools import cache

import exercises
import pytest
from catalogue import hints_of
from chapter_facts import ROOT

from segformer_edu import checks
from segformer_edu.checks.core import COMMON
from segformer_edu.checks.numbers import PREDICTIONS, PUZZLES

CHAPTERS = exercises.chapters()
TASKS = [(chapter.number, task) for chapter in CHAPTERS for task in (*chapter.warm_ups, *chapter.exercises)]
QUESTIONS = [(chapter.number, question) for chapter in CHAPTERS for question in chapter.questions]
tasks = pytest.mark.parametrize(
    ("number", "task"), TASKS, ids=[f"{number:02}-{task.name.replace(' ', '-')}" for number, task in TASKS]
)


def is_constant(node):
    """Whether a statement gives names to literals, such as `DIMS = (32, 64, 160, 256)`."""
    try:
        return isinstance(node, ast.Assign) and ast.literal_eval(node.value) is not None
    except ValueError:
        return False


@cache
def chapter_names(number):
    """What a chapter's cells import and define, and its constants, without running anything else of it."""
    (path,) = (ROOT / "notebooks").glob(f"{number:02}_*.ipynb")
    cells = json.loads(path.read_text())["cells"]
    names = {"checks": checks}
    for cell in cells:
        if cell["cell_type"] == "code" and cell["id"] != "setup" and not cell["id"].startswith("exercises-"):
            for node in ast.parse("".join(cell["source"])).body:
                if isinstance(node, ast.Import | ast.ImportFrom | ast.ClassDef | ast.FunctionDef) or is_constant(node):
                    with suppress(NameError):  # a definition that needs a computed value, as a default say
                        exec(compile(ast.Module([node], []), path.name, "exec"), names)
    return names


def checked(number, task, code):
    """The result of a task's check, with this code in its first cell."""
    names = dict(chapter_names(number))
    exec(code, names)
    return eval(task.check, names)


@tasks
def test_as_given_nothing_is_written_yet(number, task):
    result = checked(number, task, task.stub)
    assert (result.outcome, result.kind) == ("not written yet", ""), str(result)


@tasks
def test_solution_is_right(number, task):
    result = checked(number, task, task.solution)
    assert result.outcome == "right", str(result)
    assert not result.remark


DEFINITIONS = ast.Module | ast.ClassDef | ast.FunctionDef


def tokens(code):
    """The tokens of some code that are no layout, comments or docstrings."""
    tree = ast.parse(code)
    docstrings = {ast.get_docstring(node, clean=False) for node in ast.walk(tree) if isinstance(node, DEFINITIONS)}
    skipped = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    found = tokenize.generate_tokens(io.StringIO(code).readline)
    return [t.string for t in found if t.type not in skipped and t.string.strip("\"'") not in docstrings]


def triples(parts):
    """All runs of three, those of punctuation alone left out."""
    return {run for run in zip(parts, parts[1:], parts[2:]) if any(re.match(r"\w", part) for part in run)}


@tasks
def test_no_hint_holds_three_consecutive_tokens_of_the_solution(number, task):
    given = triples(tokens(task.stub))  # what stands in the stub may be said
    secret = triples(tokens(task.solution)) - given
    for hint in (*task.hints, *hints_of(task.name).values()):
        assert triples(re.findall(r"\w+|[^\w\s]", hint)) & secret == set(), hint


def test_common_hints_hold_no_code_at_all():
    assert [hint for hint in COMMON.values() if re.search(r"[=\[\]{}]|nn\.", hint)] == []


@tasks
def test_what_a_task_checks_is_a_check(number, task):
    assert task.name in {**checks.EXERCISES, **PREDICTIONS, **PUZZLES}
    assert task.stub != task.solution
    assert not re.search(r"```|[=({\[]\w+[)}\]]", " ".join(task.hints)), "a hint shows no code"


def test_every_check_has_a_text():
    asked = {task.name for _, task in TASKS}
    assert {**checks.EXERCISES, **PREDICTIONS, **PUZZLES}.keys() == asked | {"pooled_attention"}  # of the assignment


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda chapter: f"{chapter.number:02}")
def test_a_chapter_has_puzzles_exercises_and_five_questions(chapter):
    assert 1 <= len(chapter.warm_ups) <= 3
    assert 2 <= len(chapter.exercises) <= 5
    assert len(chapter.questions) == 5
    assert all(1 <= part <= 5 for task in chapter.exercises for part in task.effort[:2])


@pytest.mark.parametrize(("number", "question"), QUESTIONS)
def test_options_are_plain_text_and_every_number_in_them_is_computed(number, question):
    """A summary shows Markdown as it stands; a key that is typed may be wrong."""
    for option in question.options:
        assert not re.search(r"[`$*_<>&]", exercises.COMPUTED.sub("", option.text)), option.text
        typed = exercises.COMPUTED.sub("", option.text)
        assert not re.search(r"\d", typed), f"write {{{{ expression }}}} for the number in {typed!r}"
        assert len(exercises.computed(option.text)) < 120
    texts = [exercises.computed(option.text) for option in question.options]
    assert len(set(texts)) == len(texts)


def test_the_place_of_the_right_option_is_balanced():
    """In each chapter no place more than twice; over the book none much more often than another."""
    places = {
        chapter.number: [[option.right for option in q.options].index(True) for q in chapter.questions]
        for chapter in CHAPTERS
    }
    assert {number: found for number, found in places.items() if max(Counter(found).values()) > 2} == {}
    counts = Counter(place for found in places.values() for place in found)
    assert max(counts[place] for place in range(3)) <= 2 * min(counts[place] for place in range(3))


WHOLE = """Opening.

## Warm-up: One
Say it.
```python stub
yours = ...
```
```python check
checks.puzzle("mix", yours)
```
### Solution
```python
yours = 1
```

## Question
How many?
- wrong: {{ 2 + 2 }}
  No.
- right: {{ 2 * 600 }}
  Yes: {{ 1 / 3 }}.
- wrong: none
  No.
"""


def test_a_source_is_read_and_its_numbers_are_computed():
    found = exercises.parse(WHOLE, 4)
    assert found.warm_ups[0].name == "mix"
    assert found.warm_ups[0].statement == "Say it."
    cells = exercises.cells(found)
    assert [cell["id"] for cell in cells] == [
        "exercises", "exercises-import", *(f"exercises-mix-{part}" for part in ("text", "stub", "check", "help")),
        "exercises-quiz",
    ]  # fmt: skip
    quiz = "".join(cells[-1]["source"])
    assert "<summary>B. 1,200</summary>\n\n**Right.** Yes: 0.3333.\n\n</details>" in quiz


@pytest.mark.parametrize(
    ("was", "becomes", "words"),
    [
        ("## Warm-up", "## Warmup", "a part is a Warm-up"),
        ("### Solution", "### Answer", "One"),
        ("python check", "python chek", "expected a stub, a check"),
        ("- wrong: none\n  No.", "", "three or four options"),
        ("- right", "- wrong", "one of them right"),
        ("  Yes: {{ 1 / 3 }}.\n", "", "an explanation for each"),
    ],
)
def test_a_source_with_a_part_missing_is_refused(was, becomes, words):
    with pytest.raises(ValueError, match=words):
        exercises.parse(WHOLE.replace(was, becomes), 4)
