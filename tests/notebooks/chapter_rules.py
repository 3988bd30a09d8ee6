"""The rules that every chapter keeps. Each takes a chapter and returns what is wrong in it, one sentence a fault."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import nbformat
from IPython.core.inputtransformer2 import TransformerManager
from markdown_it import MarkdownIt
from markdown_it.token import Token
from mdit_py_plugins.dollarmath import dollarmath_plugin

ROOT = Path(__file__).resolve().parents[2]
LIBRARY = ROOT / "segformer_edu"
LAST_SECTIONS = ["What the paper says, what the code does", "Style worth imitating", "Exercises", "What you now have"]
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
TRAINS = {"trains": True}  # for tools/chapters.py: the chapter may take longer
COMMONMARK = MarkdownIt("commonmark").use(dollarmath_plugin)
# Marks that one of Jupyter Book, Colab, VS Code and GitHub understands and another shows as they stand.
MARKS = {
    "a MyST fence": r"^\s*(:::|(```+|~~~+)\s*\{)",
    "a MyST target": r"^\s*\([\w-]+\)=\s*$",
    "a MyST substitution": r"\{\{.*\}\}",
    "a MyST comment": r"^%\s",
    "a footnote": r"\[\^\w+\]",
    "a table": r"^\s*\|?\s*:?-{2,}:?\s*\|",
    "a task list": r"^\[[ xX]\] ",
    "text struck through": r"~~\S",
    "a GitHub alert": r"^\[!\w+\]",
    "mathematics in \\( or \\[": r"\\\\?[(\[]",
    "a LaTeX environment outside $$": r"^\s*\\begin\{",
    "a dollar sign on its own": r"(?<!\\)\$",
}
DEPENDS = re.compile(r"cuda|\bmps\b|\bcpu\b|device|is_available|perf_counter|monotonic|time\(\)")
FIGURE_MAKERS = {
    f"plots.{name}" for name in ("figure", "images", "lines", "bars", "segmentations", "categories", "overlay")
}


@dataclass(frozen=True)
class Chapter:
    """A notebook as its file has it.

    Attributes:
        name: of the file, such as 01_depthwise_separable_conv.ipynb.
        text: what the file holds.
    """

    name: str
    text: str

    @cached_property
    def notebook(self) -> dict:
        return json.loads(self.text)

    @property
    def number(self) -> int:
        return int(self.name[:2])

    def cells(self, kind: str) -> Iterator[tuple[str, str]]:
        """Yield id and source of each cell of that kind."""
        for cell in self.notebook["cells"]:
            if cell["cell_type"] == kind:
                yield cell.get("id", "?"), "".join(cell["source"])

    @cached_property
    def code(self) -> dict[str, ast.Module]:
        """The syntax tree of each code cell; magics are turned into Python as IPython does."""
        return {name: ast.parse(TransformerManager().transform_cell(source)) for name, source in self.cells("code")}

    @cached_property
    def markdown(self) -> dict[str, list[Token]]:
        """The CommonMark tokens of each Markdown cell, inline ones among them."""
        return {name: list(flattened(COMMONMARK.parse(source))) for name, source in self.cells("markdown")}

    @cached_property
    def headings(self) -> list[tuple[int, str]]:
        """Level and text of each heading, from the top."""
        return [
            (int(token.tag[1:]), tokens[index + 1].content)
            for tokens in self.markdown.values()
            for index, token in enumerate(tokens)
            if token.type == "heading_open"
        ]


def flattened(tokens: list[Token]) -> Iterator[Token]:
    for token in tokens:
        yield token
        yield from flattened(token.children or [])


def is_a_valid_file(chapter: Chapter) -> Iterator[str]:
    """A notebook of format 4.5 with the same short metadata everywhere, written as `make generate` writes it."""
    try:
        nbformat.validate(chapter.notebook)
    except nbformat.ValidationError as error:
        yield f"not a valid notebook: {error.message}"
    if (chapter.notebook["nbformat"], chapter.notebook["nbformat_minor"]) != (4, 5):
        yield "its format is not 4.5"
    metadata = {name: value for name, value in chapter.notebook["metadata"].items() if name != "segformer_edu"}
    if metadata != METADATA or chapter.notebook["metadata"].get("segformer_edu", TRAINS) != TRAINS:
        yield f"its metadata are {chapter.notebook['metadata']}; expected {METADATA}, besides 'segformer_edu'"
    if chapter.text != json.dumps(chapter.notebook, indent=1, ensure_ascii=False) + "\n":
        yield "not written with indent=1, ensure_ascii=False and a newline at the end"


def has_no_outputs(chapter: Chapter) -> Iterator[str]:
    """Outputs, execution counts and attached pictures stay out of the repository; so do pictures inside a source."""
    for cell in chapter.notebook["cells"]:
        if cell.get("outputs") or cell.get("execution_count") is not None:
            yield f"cell {cell.get('id')} has outputs or an execution count: run nbstripout"
        if cell.get("attachments") or re.search(r"data:\w+/[\w.+-]+;base64", "".join(cell["source"])):
            yield f"cell {cell.get('id')} embeds a picture"


def has_readable_ids(chapter: Chapter) -> Iterator[str]:
    """Every cell has an id of its own, of letters, digits, - and _."""
    ids = [cell.get("id", "") for cell in chapter.notebook["cells"]]
    for name in sorted({name for name in ids if ids.count(name) > 1}):
        yield f"{ids.count(name)} cells have the id {name!r}"
    for name in ids:
        if not re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", name):
            yield f"the id {name!r} is not made of letters, digits, - and _"


def is_plain_markdown(chapter: Chapter) -> Iterator[str]:
    """CommonMark, $math$ and <details>, so that a chapter reads the same everywhere."""
    for name, tokens in chapter.markdown.items():
        for before, token in zip([None, *tokens], tokens):
            if token.type in {"html_block", "html_inline"}:
                rest = re.sub(r"</?details>|<details open>|</?summary>", "", token.content)
                if found := re.search(r"<[/!?a-zA-Z][^>]*>?", rest):
                    yield f"cell {name} has the HTML {found[0]}; only <details> and <summary> are allowed"
            if token.type == "fence" and token.info.strip().startswith("{"):
                yield f"cell {name} has the MyST directive {token.info}"
            if token.type == "code_inline" and before.type == "text" and re.search(r"\{[\w:-]+\}$", before.content):
                yield f"cell {name} has the MyST role {before.content.split()[-1]}"
            if token.type == "math_inline" and token.content != token.content.strip():
                yield f"cell {name} has ${token.content}$, which GitHub shows as it stands: no space inside the dollars"
        for what, pattern in MARKS.items():
            if found := re.search(pattern, prose(tokens), re.MULTILINE):
                yield f"cell {name} has {what}: {found[0].strip()}"


def prose(tokens: list[Token]) -> str:
    """The source of a cell's headings, paragraphs and list items, less code and mathematics."""
    text = "\n".join(token.content for token in tokens if token.type == "inline")
    text = re.sub(r"(`+).+?\1", "", text, flags=re.DOTALL)
    return re.sub(r"\$\$.+?\$\$|(?<!\\)\$.+?(?<!\\)\$", "", text, flags=re.DOTALL)


def has_whole_details(chapter: Chapter) -> Iterator[str]:
    """Each <details> has its <summary>, then an empty line (Markdown begins again), and is closed in its cell."""
    for name, source in chapter.cells("markdown"):
        counts = {tag: len(re.findall(tag, source)) for tag in ("<details", "</details>", "<summary>", "</summary>")}
        if len(set(counts.values())) > 1:
            yield f"cell {name} has unequal numbers of tags: {counts}"
        if re.search(r"</summary>(?!\s*\n\s*\n)", source):
            yield f"cell {name} needs an empty line after </summary>"
        if re.search(r"(?<!\n)\n</details>", source):
            yield f"cell {name} needs an empty line before </details>"


def has_the_generated_cells(chapter: Chapter) -> Iterator[str]:
    """The badge and the setup cell are what tools/generate.py writes, once each, after the title."""
    generate = load(ROOT / "tools" / "generate.py")
    if generate.with_generated_cells(chapter.notebook, chapter.name) != chapter.notebook:
        yield "its badge or its setup cell is not the generated one: run make generate"
    for name, source in (*chapter.cells("code"), *chapter.cells("markdown")):
        if name not in {"badge", "setup"} and re.search(
            r"^\s*[!%]|\.system\(|colab\.research|google\.colab", source, re.M
        ):
            yield f"cell {name} runs a command or speaks to Colab; only the generated cells do"


def load(path: Path) -> object:
    """Import a file that is in no package."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def without_docstrings(node: ast.AST) -> str:
    """The syntax tree as text, docstrings taken out."""
    node = ast.parse(ast.unparse(node))
    for part in ast.walk(node):
        if isinstance(part, ast.ClassDef | ast.FunctionDef) and ast.get_docstring(part) is not None:
            part.body = part.body[1:]
    return ast.dump(node)


def built_in(number: int) -> dict[str, ast.AST]:
    """The library's classes and functions whose docstring says "Built in chapter N."."""
    found = {}
    for path in sorted(LIBRARY.rglob("*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef):
                words = " ".join((ast.get_docstring(node) or "").split())
                if re.search(rf"Built in chapter {number}\b", words):
                    found[node.name] = node
    return found


def last_definitions(chapter: Chapter) -> dict[str, ast.AST]:
    """The last class or function of each name that stands at the top level of a cell, before the exercises' stubs."""
    built = (tree for name, tree in chapter.code.items() if not name.startswith("exercises-"))
    nodes = (node for tree in built for node in tree.body)
    return {node.name: node for node in nodes if isinstance(node, ast.ClassDef | ast.FunctionDef)}


def ends_on_the_librarys_classes(chapter: Chapter) -> Iterator[str]:
    """What the library says is built in this chapter is defined in it, in the end token for token."""
    defined = last_definitions(chapter)
    for name, node in built_in(chapter.number).items():
        if name not in defined:
            yield f"does not define {name}, which the library says is built in chapter {chapter.number}"
        elif without_docstrings(defined[name]) != without_docstrings(node):
            yield f"its last {name} is not the library's"


def called(node: ast.AST) -> str:
    """The dotted name of what a call calls: plots.show."""
    return ast.unparse(node.func) if isinstance(node, ast.Call) else ""


def shows_figures_with_alt_text(chapter: Chapter) -> Iterator[str]:
    """Figures are shown through plots.show, with a text for those who cannot see them, and in no other way."""
    for name, tree in chapter.code.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Import | ast.ImportFrom) and re.search(r"pyplot|pylab", ast.unparse(node)):
                yield f"cell {name} imports pyplot, whose figures have no alt text"
            if re.search(r"(^|\.)(show|savefig)$", called(node)) and called(node) != "plots.show":
                yield f"cell {name} calls {called(node)}; figures are shown with plots.show(figure, alt=…)"
            if called(node) == "plots.show" and not has_words(node, "alt", 1):
                yield f"cell {name} calls plots.show without alt text"
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                for tag in re.findall(r"<img\b[^>]*", node.value):
                    if not re.search(r"""\balt=["'{]""", tag):
                        yield f"cell {name} writes an <img> without alt text"
            if isinstance(node, ast.Expr) and called(node.value) in FIGURE_MAKERS:
                yield f"cell {name} makes a figure with {called(node.value)} and does not show it"


def has_words(call: ast.Call, name: str, place: int) -> bool:
    """Whether a call has this argument, by name or at this place, and it is not an empty string."""
    given = [keyword.value for keyword in call.keywords if keyword.arg == name] or call.args[place : place + 1]
    return bool(given) and not (isinstance(given[0], ast.Constant) and not str(given[0].value or "").strip())


def shows_figures_with_a_caption(chapter: Chapter) -> Iterator[str]:
    """Under each figure stands what it shows: the alt text is for those who cannot see the figure, and is not seen."""
    for name, tree in chapter.code.items():
        for node in ast.walk(tree):
            if called(node) == "plots.show" and not has_words(node, "caption", 2):
                yield f"cell {name} calls plots.show without a caption"


def shows_pictures_with_alt_text(chapter: Chapter) -> Iterator[str]:
    """A picture in Markdown has alt text, is a file of the repository, and asks no other host."""
    for name, tokens in chapter.markdown.items():
        for token in tokens:
            if token.type == "image":
                address = str(token.attrs["src"])
                if not token.content.strip():
                    yield f"cell {name} shows {address} without alt text"
                if re.match(r"\w+:|//", address):
                    yield f"cell {name} shows {address}, which is not in the repository"
                elif not (ROOT / "notebooks" / address).is_file():
                    yield f"cell {name} shows {address}, and there is no such file"


def has_no_dead_links(chapter: Chapter) -> Iterator[str]:
    """A link to a file of the repository leads to one."""
    for name, tokens in chapter.markdown.items():
        for token in tokens:
            address = str(token.attrs.get("href", "")) if token.type == "link_open" else ""
            local = address.split("#")[0] if not re.match(r"https?:|mailto:", address) else ""
            if local and not (ROOT / "notebooks" / local).exists():
                yield f"cell {name} links to {address}, and there is no such file"


def does_the_same_everywhere(chapter: Chapter) -> Iterator[str]:
    """No choice depends on the device or on the time it takes: steps and sizes are the text's, on any machine.

    What the chapter builds for the library may, as the library does: there it is a matter of speed.
    """
    own = built_in(chapter.number)
    for name, tree in chapter.code.items():
        others = ast.Module([node for node in tree.body if getattr(node, "name", "") not in own], [])
        for node in ast.walk(others):
            test = getattr(node, "test", node if isinstance(node, ast.Compare) else None)
            if test is not None and DEPENDS.search(ast.unparse(test)):
                yield f"cell {name} chooses by {ast.unparse(test)!r}; a chapter does the same on every machine"


def has_ordered_headings(chapter: Chapter) -> Iterator[str]:
    """One title, "N · …", in the first cell; below it no level is skipped and no heading is empty or said twice."""
    levels = [level for level, _ in chapter.headings]
    first = next(chapter.cells("markdown"))[1]
    if levels.count(1) != 1 or not re.match(rf"# {chapter.number} · \S", first):
        yield f"expected one title, '# {chapter.number} · …', at the very top; found {levels.count(1)}"
    for before, (level, text) in zip(levels, chapter.headings[1:]):
        if level > before + 1:
            yield f"the heading {text!r} skips from level {before} to {level}"
    texts = [text for _, text in chapter.headings]
    for text in sorted({text for text in texts if texts.count(text) > 1}):
        yield f"the heading {text!r} stands there twice, so a link to it is ambiguous"


def has_the_whole_anatomy(chapter: Chapter) -> Iterator[str]:
    """The title says what is built, what one needs and how long it takes; the last four sections are the same."""
    opening = next(chapter.cells("markdown"))[1]
    for words in ("you will build", "you need to know", "minutes to read"):
        if words not in opening:
            yield f"its first cell does not say {words!r}"
    sections = [text for level, text in chapter.headings if level == 2]
    if sections[-4:] != LAST_SECTIONS:
        yield f"its last sections are {sections[-4:]}; expected {LAST_SECTIONS}"
    if len(sections) < 7:
        yield f"it has {len(sections)} sections; a chapter asks, builds, looks, checks and breaks before the last four"


RULES: list[Callable[[Chapter], Iterator[str]]] = [
    is_a_valid_file,
    has_no_outputs,
    has_readable_ids,
    is_plain_markdown,
    has_whole_details,
    has_the_generated_cells,
    ends_on_the_librarys_classes,
    shows_figures_with_alt_text,
    shows_figures_with_a_caption,
    shows_pictures_with_alt_text,
    has_no_dead_links,
    does_the_same_everywhere,
    has_ordered_headings,
    has_the_whole_anatomy,
]
