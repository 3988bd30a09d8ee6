"""Directives of this book's prose pages: what they show is computed, so that no number on a page is typed by hand."""

from __future__ import annotations

import contextlib
import inspect
import io
import json
import re
import sys
from datetime import datetime
from pathlib import Path

import torch
import yaml
from architecture import ChapterFiles, Floors
from assignment_facts import AssignmentCounts, AssignmentResults
from chapter_facts import CODE_LINES_A_MINUTE, ROOT, WORDS_A_MINUTE, read_chapter
from docutils import nodes
from exercise_facts import ExerciseTable
from messages import Message
from model_diagram import draw_model
from myst_nb.sphinx_ import NbMetadataCollector
from speed_facts import SpeedResult
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.docutils import SphinxDirective

from segformer_edu import Segformer

sys.path.append(str(ROOT / "tools"))
from machine import machine


def defaults() -> dict:
    """Return the defaults of `Segformer`, one value a stage where they differ between stages."""
    values = {name: parameter.default for name, parameter in inspect.signature(Segformer).parameters.items()}
    return values | {"num_layers": (values["num_layers"],) * len(values["dims"])}


MODEL = defaults()  # read now: while autodoc is at work, a signature holds source text in place of values


def table(header: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


class ChapterMap(SphinxDirective):
    """The table of chapters: title, what it builds, minutes to read, seconds to run.

    The body is a YAML list of `file` (a notebook's name), `builds` and, for a chapter not yet written, its `title`.
    """

    has_content = True

    def run(self) -> list[nodes.Node]:
        rows = [self.row(entry) for entry in yaml.safe_load("\n".join(self.content))]
        text = table(["Chapter", "You build", "To read", "To run"], rows)
        text += (
            f"\n\nTo read: {WORDS_A_MINUTE} words of prose or {CODE_LINES_A_MINUTE} lines of code a minute, "
            "to the nearest five minutes. "
            f"To run: {self.machine()}"
        )
        return self.parse_text_to_nodes(text)

    def row(self, entry: dict) -> list[str]:
        number = int(entry["file"].split("_")[0])
        chapter = read_chapter(entry["file"])
        if chapter is None:
            return [f"{number}. {entry['title']}", entry["builds"], "in preparation", "–"]
        self.env.note_dependency(str(ROOT / "notebooks" / f"{chapter.name}.ipynb"))
        link = f"[{number}. {chapter.title}](/notebooks/{chapter.name}.ipynb)"
        seconds = "not yet measured" if chapter.seconds is None else f"{chapter.seconds:.0f} s"
        return [link, entry["builds"], f"{chapter.reading_minutes} min", seconds]

    def machine(self) -> str:
        path = ROOT / "results" / "chapters.json"
        if not path.is_file():
            return "not yet measured."
        self.env.note_dependency(str(path))
        measured = json.loads(path.read_text())
        return f"measured by `{measured['command']}` on {measured['machine']}."


class RunsOfThisBuild(nodes.General, nodes.Element):
    """Stands where the table of runs will be: they are known only after every chapter was read."""


class ExecutionTimes(SphinxDirective):
    """The runs whose outputs this build shows: each chapter's seconds, and when it ran; below, on which machine."""

    def run(self) -> list[nodes.Node]:
        return [RunsOfThisBuild(), *self.parse_text_to_nodes(f"This build: {machine()}.")]


class FillExecutionTimes(SphinxPostTransform):
    """Put the table of runs in its place."""

    default_priority = 8  # before references are resolved

    def run(self, **_: object) -> None:
        for place in list(self.document.findall(RunsOfThisBuild)):
            place.replace_self(self.table())

    def table(self) -> nodes.table:
        measured = NbMetadataCollector.get_doc_data(self.env)
        runs = {name: data["exec_data"] for name, data in sorted(measured.items()) if data.get("exec_data")}
        total = sum(run["runtime"] or 0 for run in runs.values())
        group = nodes.tgroup("", *(nodes.colspec(colwidth=width) for width in (3, 1, 2)), cols=3)
        group += nodes.thead("", self.row([nodes.Text("Chapter"), nodes.Text("Seconds"), nodes.Text("Executed")]))
        group += nodes.tbody("", *(self.run_row(name, run) for name, run in runs.items()))
        group[-1] += self.row([nodes.Text("All"), nodes.Text(f"{total:.0f}"), nodes.Text("")])
        return nodes.table("", group, classes=["colwidths-auto"])

    def run_row(self, name: str, run: dict) -> nodes.row:
        chapter = read_chapter(Path(name).name)
        where = self.app.builder.get_relative_uri(self.env.docname, name)
        link = nodes.reference("", f"{int(chapter.name[:2])}. {chapter.title}", refuri=where, internal=True)
        seconds = "not measured" if run["runtime"] is None else f"{run['runtime']:.0f}"
        return self.row([link, nodes.Text(seconds), nodes.Text(f"{datetime.fromtimestamp(run['mtime']):%d %B %Y}")])

    def row(self, cells: list[nodes.Node]) -> nodes.row:
        return nodes.row("", *(nodes.entry("", nodes.paragraph("", "", cell)) for cell in cells))


class StageTable(SphinxDirective):
    """The maps of the model's four stages for an image of the given height and width, as the encoder returns them."""

    required_arguments = 2

    def run(self) -> list[nodes.Node]:
        height, width = map(int, self.arguments)
        with torch.inference_mode():
            maps = Segformer().mit(torch.zeros(1, MODEL["channels"], height, width), return_layer_outputs=True)
        rows = []
        for stage, (stage_map, heads, ratio) in enumerate(zip(maps, MODEL["heads"], MODEL["reduction_ratio"]), 1):
            _, channels, rows_of_map, columns = stage_map.shape
            keys = (rows_of_map // ratio) * (columns // ratio)
            size = f"{rows_of_map} × {columns}".replace(" ", "\N{NO-BREAK SPACE}")
            cells = [stage, size, channels, rows_of_map * columns, heads, ratio, keys]
            rows.append([str(cell) for cell in cells])
        header = ["Stage", "Map $H_i × W_i$", "Channels $C_i$", "Tokens $N_i$", "Heads", "Ratio $r_i$", "Keys"]
        return self.parse_text_to_nodes(table(header, rows))


class ModelDiagram(SphinxDirective):
    """The whole model in one picture, twice: lying for wide screens, standing for narrow ones."""

    def run(self) -> list[nodes.Node]:
        names = {int(path.name[:2]): path.stem for path in (ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb")}
        links = {
            number: self.env.app.builder.get_relative_uri(self.env.docname, f"notebooks/{name}")
            for number, name in names.items()
        }
        return [nodes.raw("", draw_model(MODEL, links), format="html")]


class Prediction(SphinxDirective):
    """A measured picture: results/NAME.json has its `image`, `alt`, `caption` and the `command` that made it."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        path = ROOT / "results" / f"{self.arguments[0]}.json"
        if not path.is_file():
            return []  # tests/book/test_pages.py fails while it is missing
        self.env.note_dependency(str(path))
        about = json.loads(path.read_text())
        page = Path(self.env.doc2path(self.env.docname)).parent
        image = f"{'../' * len(page.relative_to(ROOT).parts)}results/{about['image']}"
        text = f"```{{figure}} {image}\n:alt: {' '.join(about['alt'].split())}\n\n{about['caption']}\n```"
        return self.parse_text_to_nodes(f"{text}\n\nMade by `{about['command']}`.")


class RepositoryCommand(SphinxDirective):
    """The commands that clone this repository, then those in the body."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        url = yaml.safe_load((ROOT / "_config.yml").read_text())["repository"]["url"].rstrip("/")
        lines = [f"git clone {url}", f"cd {url.rsplit('/', 1)[-1]}", *self.content]
        return self.parse_text_to_nodes("```bash\n" + "\n".join(lines) + "\n```")


class Executed(SphinxDirective):
    """Code that is run while the page is built, and what it printed. The blocks of a page share their names."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        code, printed = "\n".join(self.content), io.StringIO()
        names = self.env.temp_data.setdefault("executed", {})
        with contextlib.redirect_stdout(printed):
            exec(compile(code, f"{self.env.docname}, a block after line {self.lineno}", "exec"), names)
        blocks = [nodes.literal_block(code, code, language="python")]
        if output := printed.getvalue().rstrip():
            blocks.append(nodes.literal_block(output, output, language="text"))
        return [nodes.container("", *blocks, classes=["executed"])]


EMPTY_HEADER = re.compile(r"<th\b[^>]*>\s*(?:<p>\s*</p>)?\s*</th>")


def mend_markup(app: Sphinx, page: str, template: str, context: dict, doctree: nodes.document | None) -> None:
    """Mend what screen readers trip over: bibliography entries under a deprecated role, empty header cells."""
    body = context.get("body", "").replace('role="doc-biblioentry"', 'role="listitem"')
    context["body"] = EMPTY_HEADER.sub("<td></td>", body)


def drop_unused_math(app: Sphinx, page: str, template: str, context: dict, doctree: nodes.document | None) -> None:
    """Spare pages without formulas MathJax's script, which Jupyter Book puts on every page."""
    if 'class="math' not in context.get("body", ""):
        context["script_files"] = [file for file in context["script_files"] if "mathjax" not in str(file).lower()]


SOURCE_MAP = re.compile(r"\n?(//|/\*)[#@] *sourceMappingURL=[^\n*]*(\*/)?")


def drop_source_maps(app: Sphinx, exception: Exception | None) -> None:
    """Delete the theme's source maps and, in its scripts and styles, the lines that name them."""
    if exception is not None or app.builder.format != "html":
        return
    static = Path(app.outdir) / "_static"
    for path in static.rglob("*.map"):
        path.unlink()
    for path in (*static.rglob("*.js"), *static.rglob("*.css")):
        text = path.read_text()
        if "sourceMappingURL" in text:
            path.write_text(SOURCE_MAP.sub("", text))


def setup(app: Sphinx) -> dict:
    """Register the directives with Sphinx."""
    app.add_directive("chapter-map", ChapterMap)
    app.add_directive("stage-table", StageTable)
    app.add_directive("execution-times", ExecutionTimes)
    app.add_directive("assignment-counts", AssignmentCounts)
    app.add_directive("assignment-results", AssignmentResults)
    app.add_node(RunsOfThisBuild)
    app.add_post_transform(FillExecutionTimes)
    app.add_directive("model-diagram", ModelDiagram)
    app.add_directive("prediction", Prediction)
    app.add_directive("repository-command", RepositoryCommand)
    app.add_directive("executed", Executed)
    app.add_directive("message", Message)
    app.add_directive("floors", Floors)
    app.add_directive("chapter-files", ChapterFiles)
    app.add_directive("speed-result", SpeedResult)
    app.add_directive("exercise-table", ExerciseTable)
    app.connect("html-page-context", mend_markup)
    app.connect("html-page-context", drop_unused_math, priority=900)
    app.connect("build-finished", drop_source_maps)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
