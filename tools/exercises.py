"""Read the exercises of a chapter from ``notebooks/exercises/NN.md``, and make the cells that the chapter ends with.

The file is Markdown, with a heading of the second level for each part and one of the third for what belongs to it:

    Words before the first heading open the section.

    ## Warm-up: An impulse through groups      (one to three; no hints, a solution)
    ## Exercise: Write `DsConv2d`              (numbered N.1, N.2 … in the chapter)
    importance 5, difficulty 2, minutes 10     (its first line)

    The statement, any Markdown that a chapter may have.

    ```python stub
    the cell that the reader changes; as given the check says "not written yet"
    ```
    ```python check
    checks.ds_conv2d(DsConv2d)
    ```
    ### Hint
    ### Hint
    ### Hint                                   (three: what you see, where to look, which fact to use; no code)
    ### Solution
    words if they are needed, and one ```python fence, which replaces the stub

    ## Question                                (five)
    The question.
    - right: the option, in plain text: no code, no mathematics
      Why it is right, any Markdown.
    - wrong: …                                 (three or four options in all)

``{{ expression }}`` in an option or an explanation becomes its value, computed when the cells are made: every number of
a key is. The names ``math``, ``torch``, ``nn``, ``F``, ``se`` and ``parameters`` (of a module) are there. Whole numbers
get commas.

``tools/generate.py`` writes the cells; their ids begin with "exercises".
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parents[1] / "notebooks" / "exercises"
FENCE = re.compile(r"^```python(?: (\w+))?\n(.*?)^```\n?", re.M | re.S)
COMPUTED = re.compile(r"\{\{(.+?)\}\}")
LETTERS = "ABCD"
ASSIGNMENT = {
    "chapter": 0,
    "name": "pooled_attention",
    "title": "Assignment: cheaper keys, task 2",
    "call": "checks.pooled_attention(PooledAttention)",
}
"""Of the page for teachers, which is no chapter."""


@dataclass(frozen=True)
class Exercise:
    """An exercise or a warm-up.

    Attributes:
        title: Markdown.
        effort: importance, difficulty (of 5) and minutes; empty for a warm-up.
        statement: Markdown.
        stub: the cell that the reader changes.
        check: the cell that checks it.
        hints: three, or none for a warm-up.
        words: what the solution says before its code.
        solution: the code that replaces the stub.
    """

    title: str
    effort: tuple[int, ...]
    statement: str
    stub: str
    check: str
    hints: tuple[str, ...]
    words: str
    solution: str

    @property
    def name(self) -> str:
        """The check's own name, or the name that `predict` or `puzzle` gets."""
        return re.search(r'checks\.(?:predict|puzzle)\("([^"]+)"|checks\.(\w+)', self.check).expand(r"\1\2")


@dataclass(frozen=True)
class Option:
    """One answer to a question: whether it is right, its words and why."""

    right: bool
    text: str
    why: str


@dataclass(frozen=True)
class Question:
    """A question of the quiz."""

    text: str
    options: tuple[Option, ...]


@dataclass(frozen=True)
class Exercises:
    """What a chapter ends with."""

    number: int
    opening: str
    warm_ups: tuple[Exercise, ...]
    exercises: tuple[Exercise, ...]
    questions: tuple[Question, ...]


def parse(text: str, number: int) -> Exercises:
    """Read the exercises of a chapter.

    Raises:
        ValueError: a part is missing, or has an unknown name.
    """
    opening, *parts = re.split(r"^## ", text, flags=re.M)
    found: dict[str, list[Any]] = {"Warm-up": [], "Exercise": [], "Question": []}
    for part in parts:
        heading, body = part.split("\n", 1)
        kind, _, title = heading.partition(": ")
        if kind not in found:
            raise ValueError(f"chapter {number}: '## {heading}'; a part is a Warm-up, an Exercise or a Question")
        try:
            found[kind].append(question(body) if kind == "Question" else exercise(title, body))
        except (TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"chapter {number}, '## {heading}': {error}") from error
    return Exercises(number, opening.strip(), *(tuple(found[kind]) for kind in found))


def exercise(title: str, body: str) -> Exercise:
    effort = re.match(r"\s*importance (\d), difficulty (\d), minutes (\d+)\n", body)
    statement, *rest = re.split(r"^### ", body[effort.end() if effort else 0 :], flags=re.M)
    code = {kind: source.rstrip("\n") for kind, source in FENCE.findall(statement)}
    sections = [section.split("\n", 1) for section in rest]
    hints = tuple(text.strip() for name, text in sections if name == "Hint")
    (answer,) = (text for name, text in sections if name == "Solution")
    ((_, solution),) = FENCE.findall(answer)
    if set(code) != {"stub", "check"} or (effort and len(hints) != 3):
        raise ValueError(f"it has {sorted(code)} and {len(hints)} hints; expected a stub, a check and three hints")
    return Exercise(
        title,
        tuple(map(int, effort.groups())) if effort else (),
        FENCE.sub("", statement).strip(),
        code["stub"],
        code["check"],
        hints,
        FENCE.sub("", answer).strip(),
        solution.rstrip("\n"),
    )


def question(body: str) -> Question:
    text, *options = re.split(r"^- (?=right: |wrong: )", body, flags=re.M)
    read = []
    for option in options:
        first, _, why = option.partition("\n")
        kind, _, words = first.partition(": ")
        read.append(Option(kind == "right", words.strip(), re.sub(r"^  ", "", why, flags=re.M).strip()))
    if sum(option.right for option in read) != 1 or not 3 <= len(read) <= 4 or not all(option.why for option in read):
        raise ValueError("a question has three or four options, one of them right, and an explanation for each")
    return Question(text.strip(), tuple(read))


def read(number: int) -> Exercises | None:
    """Return the exercises of a chapter, or None where it has no file."""
    path = FOLDER / f"{number:02}.md"
    return parse(path.read_text(encoding="utf-8"), number) if path.is_file() else None


def chapters() -> list[Exercises]:
    """Return the exercises of all chapters that have a file."""
    return [parse(path.read_text(encoding="utf-8"), int(path.stem)) for path in sorted(FOLDER.glob("[0-9][0-9].md"))]


@cache
def names() -> dict[str, Any]:
    """Return what an expression in a question may use; torch is loaded only where there is one."""
    import math

    import torch
    import torch.nn.functional as F
    from torch import nn

    import segformer_edu as se

    def parameters(module: nn.Module) -> int:
        return sum(parameter.numel() for parameter in module.parameters())

    return {"math": math, "torch": torch, "nn": nn, "F": F, "se": se, "parameters": parameters}


def value_of(expression: str) -> Any:
    """Compute an expression of a question."""
    return eval(expression, dict(names()))


def computed(text: str) -> str:
    """Return a text with each ``{{ expression }}`` replaced by its value."""

    def value(found: re.Match) -> str:
        result = value_of(found[1].strip())
        return (
            f"{result:,}" if isinstance(result, int) else f"{result:.4g}" if isinstance(result, float) else str(result)
        )

    return COMPUTED.sub(value, text)


# The cells ------------------------------------------------------------------------------------------------------------


def cells(found: Exercises) -> list[dict]:
    """Return the cells of the section "Exercises"."""
    made = [markdown("", f"## Exercises\n\n{found.opening}"), code("import", "from segformer_edu import checks")]
    for warm_up in found.warm_ups:
        made += cells_of(warm_up, f"### Warm-up: {warm_up.title}\n\n{warm_up.statement}")
    for index, task in enumerate(found.exercises, 1):
        importance, difficulty, minutes = task.effort
        effort = f"*importance {importance} of 5 · difficulty {difficulty} of 5 · {minutes} minutes*"
        made += cells_of(task, f"### {found.number}.{index} {task.title}\n\n{effort}\n\n{task.statement}")
    return [*made, markdown("quiz", quiz(found.questions))]


def cells_of(task: Exercise, statement: str) -> Iterator[dict]:
    name = re.sub(r"\W+", "-", task.name)
    hints = [folded(f"Hint {number}", hint) for number, hint in enumerate(task.hints, 1)]
    solution = f"{task.words}\n\n```python\n{task.solution}\n```".strip()
    yield markdown(f"{name}-text", statement)
    yield code(f"{name}-stub", task.stub)
    yield code(f"{name}-check", task.check)
    yield markdown(f"{name}-help", "\n\n".join([*hints, folded("Solution", solution)]))


def quiz(questions: tuple[Question, ...]) -> str:
    """Return the quiz: each option is a summary that opens on why it is right or wrong."""
    text = "### Quiz\n\nChoose an answer and open it: it says whether it is right, and why."
    for number, asked in enumerate(questions, 1):
        text += f"\n\n**Question {number}.** {computed(asked.text)}"
        for letter, option in zip(LETTERS, asked.options):
            verdict = "**Right.**" if option.right else "**Wrong.**"
            text += f"\n\n{folded(f'{letter}. {computed(option.text)}', f'{verdict} {computed(option.why)}')}"
    return text


def folded(summary: str, body: str) -> str:
    return f"<details><summary>{summary}</summary>\n\n{body}\n\n</details>"


def calls() -> list[dict[str, Any]]:
    """Return the exercises that can be handed in, and the call that checks each: for `segformer-edu grade`."""
    return [
        {
            "chapter": found.number,
            "name": task.name,
            "title": f"{found.number}.{index} {task.title}",
            "call": task.check,
        }
        for found in chapters()
        for index, task in enumerate(found.exercises, 1)
    ] + [ASSIGNMENT]


def markdown(name: str, text: str) -> dict:
    return {"cell_type": "markdown", "id": cell_id(name), "metadata": {}, "source": lines(text)}


def code(name: str, text: str) -> dict:
    return {
        "cell_type": "code",
        "execution_count": None,
        "id": cell_id(name),
        "metadata": {},
        "outputs": [],
        "source": lines(text),
    }


def cell_id(name: str) -> str:
    return f"exercises-{name}"[:64].rstrip("-")


def lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)


def with_exercises(notebook: dict, found: Exercises | None) -> dict:
    """Return a chapter with its generated exercises in place of those that stand in it."""
    if found is None:
        return notebook
    old = [str(cell.get("id")).startswith("exercises") for cell in notebook["cells"]]
    place = old.index(True)
    kept = [cell for cell, replaced in zip(notebook["cells"], old) if not replaced]
    return notebook | {"cells": kept[:place] + cells(found) + kept[place:]}
