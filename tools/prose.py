"""Spelling and grammar of the pages and of the chapters' text: `make lint`.

[Harper](https://writewithharper.com) (Apache-2.0) reads each paragraph, heading, list item and cell of a table, and
leaves out code and formulas. Words that it does not know and that are right stand in tools/words.txt, one a line.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from harper import Dialect, Lint, Linter
from markdown_it import MarkdownIt
from markdown_it.token import Token
from mdit_py_plugins.dollarmath import dollarmath_plugin
from mdit_py_plugins.front_matter import front_matter_plugin

ROOT = Path(__file__).resolve().parents[1]
WORDS = Path(__file__).with_name("words.txt")
MARKDOWN = MarkdownIt("commonmark").enable("table").use(front_matter_plugin).use(dollarmath_plugin)
TABLES = ("list-table",)  # the directives whose content is Markdown
STAND_IN = "Alice"  # for code and formulas: a noun
ATTRIBUTES = r"\{[\w:.-]+\}$|^\{\.[^}]*\}\n?"  # MyST's roles, such as {doc}, and classes of a paragraph
# What these rules ask for is not this book's style, or is mostly wrong about its subject.
NOT_OURS = frozenset({
    "AvoidAndAlso", "BuiltIn", "CommaFixes", "CompoundNouns", "CondenseAllThe", "DiscourseMarkers",
    "DisjointPrefixes", "DoToDueTo", "Everyone", "ExpandControl", "ExpandMemoryShorthands", "ExpandWith", "FindOut",
    "InDemandInDepth", "ItsContraction", "LongSentences", "MassNouns", "MissingPreposition", "MissingTo",
    "NounVerbConfusion", "OneOfTheSingular", "OrthographicConsistency", "Overall", "OxfordComma",
    "PhrasalVerbAsCompoundNoun", "PluralDecades", "QuantifierNumeralConflict", "RegularIrregulars",
    "SentenceCapitalization", "SingleBe", "SomeOfThe", "ThenThan", "ThereIsAgreement", "TheyToThem", "ToTwoToo",
    "UseTitleCase", "WhomSubjectOfVerb", "WrongNegative",
})  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """What is wrong, and where.

    Attributes:
        place: file and line, in a notebook file and cell.
        found: the words in question.
        said: what Harper says about them.
        rule: Harper's name of the rule.
    """

    place: str
    found: str
    said: str
    rule: str

    def __str__(self) -> str:
        return f"{self.place}: {self.found!r}: {self.said} ({self.rule})"


class Reader:
    """Reads prose with a vocabulary of one's own; making one takes a second."""

    def __init__(self, words: Iterable[str]) -> None:
        self.words = frozenset(words)
        self.linter = Linter(Dialect.BRITISH)
        self.linter.set_lint_config(self.linter.get_default_lint_config() | dict.fromkeys(NOT_OURS, False))
        self.linter.import_words([form for word in self.words for form in (word, f"{word}'s")])

    def read(self, text: str, place: str) -> Iterator[Finding]:
        """Yield what is wrong in a Markdown text; place is the file, or the file and its cell."""
        for line, paragraph in paragraphs(text):
            for rule, lints in self.linter.organized_lints(paragraph, language="plaintext").items():
                for lint in lints:
                    if not self.is_fine(rule, lint, paragraph):
                        yield Finding(f"{place}:{line}", lint.problem_text, lint.message, rule)

    def is_fine(self, rule: str, lint: Lint, paragraph: str) -> bool:
        """Whether a finding is about a stand-in, a single letter or a word of the vocabulary."""
        found = lint.problem_text.replace("’", "'").removesuffix("'s").rstrip(".")
        if rule == "AnA":  # A may be a name; how a number or an abbreviation sounds, Harper does not know
            is_article = found in {"a", "an", "An"} and not paragraph[lint.span.start - 1 : lint.span.start].isalnum()
            return not is_article or not re.match(r"\s*[a-z]", paragraph[lint.span.end :])
        if len(found) == 1 or {found, found[:1].lower() + found[1:]} & self.words or found.startswith(STAND_IN):
            return True
        around = paragraph[max(0, lint.span.start - len(STAND_IN) - 1) : lint.span.end + len(STAND_IN) + 1]
        return STAND_IN in around


def paragraphs(text: str, above: int = 0) -> Iterator[tuple[int, str]]:
    """Yield line and words of each paragraph, heading, list item and cell of a Markdown text."""
    line = 0
    for token in MARKDOWN.parse(text):
        line = token.map[0] if token.map else line
        if token.type == "inline":
            yield above + line + 1, "".join(words(token.children or []))
        elif token.type == "fence" and re.match(r"\{([\w-]+)\}|", token.info.strip())[1] in TABLES:
            yield from paragraphs(token.content, above + line + 1)


def words(tokens: list[Token]) -> Iterator[str]:
    """Yield what is read of a paragraph: its text, with a stand-in for code and formulas."""
    for token in tokens:
        if token.type == "text":
            yield re.sub(ATTRIBUTES, "", token.content)
        elif token.type in {"code_inline", "math_inline", "math_inline_double"}:
            yield STAND_IN
        elif token.type in {"softbreak", "hardbreak"}:
            yield " "
        elif token.type == "image":
            yield from words(token.children or [])


def texts(root: Path) -> Iterator[tuple[str, str]]:
    """Yield place and Markdown of each page and of each cell of a chapter that is text."""
    for path in (*sorted(root.glob("*.md")), *sorted(root.glob("book/*.md"))):
        yield str(path.relative_to(root)), path.read_text(encoding="utf-8")
    for path in sorted(root.glob("notebooks/*.ipynb")):
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            if cell["cell_type"] == "markdown":
                yield f"{path.relative_to(root)}, cell {cell['id']}", "".join(cell["source"])


def main() -> None:
    reader = Reader(WORDS.read_text(encoding="utf-8").split())
    findings = [finding for place, text in texts(ROOT) for finding in reader.read(text, place)]
    if findings:
        print(*findings, sep="\n")
        sys.exit(f"{len(findings)} findings; a word that is right goes into tools/words.txt")


if __name__ == "__main__":
    main()
