"""The diagram of the whole model, drawn as SVG from the model's own defaults, in two layouts: lying and standing.

Colours and fonts are classes; book/_static/book.css sets them for light and dark mode and shows the layout that fits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from html import escape

ATTENTION = "efficient self-attention"
MIX_FFN = ("Mix-FFN", "with DsConv2d")
STAGE_STRIDES = (4, 8, 16, 32)


@dataclass
class Canvas:
    """An SVG in the making: shapes are added one by one, then `svg` closes it."""

    name: str
    width: int
    height: int
    links: dict[int, str]
    shapes: list[str] = field(default_factory=list)

    def box(self, x: float, y: float, width: float, height: float, kind: str = "part", radius: float = 6) -> None:
        self.shapes.append(f'<rect class="md-{kind}" x="{x}" y="{y}" width="{width}" height="{height}" rx="{radius}"/>')

    def text(self, x: float, y: float, words: str, kind: str = "label", anchor: str = "middle") -> None:
        self.shapes.append(f'<text class="md-{kind}" x="{x}" y="{y}" text-anchor="{anchor}">{escape(words)}</text>')

    def part(self, x: float, y: float, width: float, height: float, lines: tuple[str, ...], kind: str = "part") -> None:
        """Draw a box with one or two lines of text in its middle."""
        self.box(x, y, width, height, kind)
        first = y + height / 2 + 5 - 10 * (len(lines) - 1)
        for index, words in enumerate(lines):
            self.text(x + width / 2, first + 20 * index, words)

    def chapter(self, x: float, y: float, number: int, anchor: str = "middle", before: str = "") -> None:
        """Write which chapter builds a part, as a link where that chapter can be read."""
        words = f"{before}chapter {number}"
        if number not in self.links:
            self.text(x, y, words, "chapter", anchor)
            return
        self.shapes.append(f'<a class="md-link" href="{escape(self.links[number])}">')
        self.text(x, y, words, "chapter", anchor)
        self.shapes.append("</a>")

    def arrow(self, *points: tuple[float, float], head: bool = True) -> None:
        path = " ".join(f"{x},{y}" for x, y in points)
        end = f' marker-end="url(#{self.name}-head)"' if head else ""
        self.shapes.append(f'<polyline class="md-arrow" points="{path}"{end}/>')

    def plus(self, x: float, y: float) -> None:
        self.shapes.append(f'<circle class="md-plus" cx="{x}" cy="{y}" r="12"/>')
        self.shapes.append(f'<path class="md-arrow" d="M{x - 6},{y}h12M{x},{y - 6}v12"/>')

    def feature_map(self, x: float, y: float, width: float, cells: int) -> None:
        """Draw a stack of three sheets, its corner at (x, y), the first one ruled into cells."""
        height = width * 0.75
        for shift in (12, 6):
            self.box(x + shift, y - shift, width, height, "sheet", 1)
        self.box(x, y, width, height, "sheet", 1)
        ruled = [f"M{x + width * i / cells:.1f},{y}v{height}" for i in range(1, cells)]
        rows = max(2, round(cells * 0.75))
        ruled += [f"M{x},{y + height * i / rows:.1f}h{width}" for i in range(1, rows)]
        self.shapes.append(f'<path class="md-grid" d="{"".join(ruled)}"/>')

    def street(self, x: float, y: float, kind: str) -> None:
        """Draw a street of 112×84: as the picture that goes in (kind "photo") or as the classes that come out."""
        self.shapes.append(
            f'<g class="md-{kind}" transform="translate({x} {y})"><rect class="md-sky" width="112" height="84"/>'
            '<path class="md-house" d="M0,58V18l20,-9l20,9V58zM78,58V28h34V58z"/>'
            '<path class="md-road" d="M0,84V62l46,-8h22l44,8V84z"/>'
            '<path class="md-tree" d="M58,56V44a11,12 0 1 1 5,0V56z"/>'
            '<path class="md-car" d="M72,74v-9l5,-8h19l6,8v9z"/></g>'
        )

    def svg(self, title: str, description: str) -> str:
        head = (
            f'<svg class="model-diagram model-diagram-{self.name}" viewBox="0 0 {self.width} {self.height}" '
            f'role="group" aria-labelledby="{self.name}-title {self.name}-desc" xmlns="http://www.w3.org/2000/svg">'
            f'<title id="{self.name}-title">{escape(title)}</title>'
            f'<desc id="{self.name}-desc">{escape(description)}</desc>'
            f'<defs><marker id="{self.name}-head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" '
            'markerHeight="7" orient="auto"><path class="md-head" d="M0,0.5L10,5L0,9.5z"/></marker></defs>'
        )
        return head + "".join(self.shapes) + "</svg>"


def describe(model: dict) -> str:
    """Say in words what the picture shows."""
    stages = "; ".join(
        f"stage {stage}, H/{stride} by W/{stride} with {dim} channels"
        for stage, (stride, dim) in enumerate(zip(STAGE_STRIDES, model["dims"]), 1)
    )
    return (
        f"An image goes through four stages: {stages}. Each stage is an overlapping patch embedding, then n blocks of "
        f"LayerNorm, {ATTENTION}, addition of the block's input, LayerNorm, Mix-FFN with a depthwise separable "
        "convolution, DsConv2d, inside it, addition. The all-MLP decoder "
        f"projects each stage's map to {model['decoder_dim']} channels, upsamples it to H/4 by W/4, concatenates the "
        "four, fuses them and classifies every pixel: logits at H/4 by W/4."
    )


def stage_texts(model: dict, stage: int) -> tuple[str, str]:
    """Return a stage's two captions: the size of its map, and what its attention is set to."""
    stride = STAGE_STRIDES[stage]
    heads, ratio, layers = (model[name][stage] for name in ("heads", "reduction_ratio", "num_layers"))
    size = f"H/{stride} × W/{stride} × {model['dims'][stage]}"
    return size, f"n = {layers}, heads {heads}, r {ratio}"


def wide_encoder(canvas: Canvas, model: dict) -> None:
    """Draw the image and the four stages, from left to right."""
    canvas.text(0, 20, "Encoder: four stages", "title", "start")
    canvas.chapter(218, 20, 5, "start")
    canvas.street(4, 82, "photo")
    canvas.text(60, 188, "image")
    canvas.text(60, 208, "H × W × 3", "size")
    for stage, (side, cells) in enumerate(zip((100, 78, 60, 46), (16, 8, 4, 2))):
        x = 160 + 204 * stage
        canvas.box(x, 36, 180, 180, "stage")
        canvas.text(x + 14, 60, f"Stage {stage + 1}", "strong", "start")
        canvas.feature_map(x + 84 - side / 2, 116 - side * 0.375 + 6, side, cells)
        for y, words, kind in zip((186, 206), stage_texts(model, stage), ("label", "size")):
            canvas.text(x + 90, y, words, kind)
        canvas.arrow((x - (38 if stage == 0 else 24), 122), (x - 3, 122))


def wide_decoder(canvas: Canvas, model: dict) -> None:
    """Draw the decoder, under the stages, and the logits."""
    canvas.text(0, 268, "All-MLP decoder", "title", "start")
    canvas.chapter(0, 290, 6, "start")
    for stage in range(4):
        middle = 250 + 204 * stage
        canvas.arrow((middle, 216), (middle, 245))
        canvas.part(middle - 84, 248, 168, 36, (f"1×1, {model['dims'][stage]} → {model['decoder_dim']}",), "decoder")
        canvas.arrow((middle, 284), (middle, 301))
        canvas.part(middle - 84, 304, 168, 36, ("upsample to H/4" if stage else "already at H/4",), "decoder")
        canvas.arrow((middle, 340), (middle, 357))
    total = len(model["dims"]) * model["decoder_dim"]
    canvas.part(160, 360, 792, 36, (f"concatenate: H/4 × W/4 × {total}",), "decoder")
    canvas.arrow((862, 396), (862, 427))
    canvas.part(770, 430, 182, 52, ("fuse: 1×1,", f"{total} → {model['decoder_dim']}"), "decoder")
    canvas.arrow((770, 456), (743, 456))
    canvas.part(558, 430, 182, 52, ("classify: 1×1,", f"{model['decoder_dim']} → classes"), "decoder")
    canvas.arrow((558, 456), (503, 456))
    canvas.street(386, 414, "classes")
    canvas.text(370, 446, "logits", "label", "end")
    canvas.text(370, 466, "H/4 × W/4 × classes", "size", "end")
    canvas.chapter(370, 488, 7, "end", "trained in ")


def wide_block(canvas: Canvas) -> None:
    """Draw what is inside a stage, from left to right."""
    canvas.box(0, 540, 958, 220, "stage")
    canvas.text(18, 568, "Inside a stage", "strong", "start")
    canvas.part(12, 622, 154, 56, ("overlapping", "patch embedding"))
    canvas.box(190, 580, 694, 160, "repeat")
    canvas.text(874, 600, "n times", "size", "end")
    middle = 650
    boxes = ((216, 104, ("LayerNorm",), (2,)), (344, 130, tuple(ATTENTION.rsplit(" ", 1)), (3,)))
    for x, width, lines, chapters in (*boxes, (560, 104, ("LayerNorm",), ()), (682, 138, MIX_FFN, (4, 1))):
        canvas.part(x, 622, width, 56, lines, "attention" if 3 in chapters else "part")
        for line, number in enumerate(chapters):
            canvas.chapter(x + width / 2, 702 + 22 * line, number)
    for start, end in ((166, 213), (320, 341), (474, 492), (522, 557), (664, 679), (820, 830), (860, 908)):
        canvas.arrow((start, middle), (end, middle))
    for start, end in ((202, 507), (540, 845)):
        canvas.plus(end, middle)
        canvas.arrow((start, middle), (start, 608), (end, 608), (end, middle - 15))
    canvas.text(913, 655, "map", "label", "start")


def narrow_encoder(canvas: Canvas, model: dict) -> None:
    """Draw the image and the four stages, from top to bottom."""
    canvas.text(0, 18, "Encoder: four stages", "title", "start")
    canvas.chapter(300, 18, 5, "end")
    canvas.street(10, 34, "photo")
    canvas.text(140, 72, "image", "label", "start")
    canvas.text(140, 92, "H × W × 3", "size", "start")
    for stage, (side, cells) in enumerate(zip((84, 66, 50, 38), (16, 8, 4, 2))):
        y = 140 + 112 * stage
        canvas.arrow((66, y - (22 if stage == 0 else 20)), (66, y - 3))
        canvas.box(0, y, 300, 92, "stage")
        canvas.feature_map(60 - side / 2, y + 52 - side * 0.375, side, cells)
        canvas.text(124, y + 28, f"Stage {stage + 1}", "strong", "start")
        for shift, words, kind in zip((52, 74), stage_texts(model, stage), ("label", "size")):
            canvas.text(124, y + shift, words, kind, "start")
        canvas.arrow((300, y + 46), (332, y + 46), head=False)
    canvas.arrow((332, 186), (332, 644), (303, 644))


def narrow_decoder(canvas: Canvas, model: dict) -> None:
    """Draw the decoder, under the stages, and the logits."""
    canvas.text(0, 606, "All-MLP decoder", "title", "start")
    canvas.chapter(300, 606, 6, "end")
    width, total = model["decoder_dim"], len(model["dims"]) * model["decoder_dim"]
    steps = (
        f"each map: 1×1 → {width} channels",
        "upsample to H/4 × W/4",
        f"concatenate: {total} channels",
        f"fuse: 1×1, {total} → {width}",
        f"classify: 1×1, {width} → classes",
    )
    for index, words in enumerate(steps):
        y = 624 + 58 * index
        canvas.part(0, y, 300, 40, (words,), "decoder")
        canvas.arrow((66, y + 40), (66, y + 55))
    canvas.street(10, 914, "classes")
    canvas.text(140, 942, "logits", "label", "start")
    canvas.text(140, 962, "H/4 × W/4 × classes", "size", "start")
    canvas.chapter(140, 986, 7, "start", "trained in ")


def narrow_block(canvas: Canvas) -> None:
    """Draw what is inside a stage, from top to bottom."""
    canvas.box(0, 1026, 358, 526, "stage")
    canvas.text(16, 1052, "Inside a stage", "strong", "start")
    canvas.part(56, 1068, 190, 46, ("overlapping", "patch embedding"))
    canvas.box(14, 1132, 330, 372, "repeat")
    canvas.text(332, 1154, "n times", "size", "end")
    parts = ((1164, ("LayerNorm",), (2,)), (1228, tuple(ATTENTION.rsplit(" ", 1)), (3,)))
    for y, lines, chapters in (*parts, (1342, ("LayerNorm",), ()), (1406, MIX_FFN, (4, 1))):
        canvas.part(56, y, 190, 46, lines, "attention" if 3 in chapters else "part")
        for line, number in enumerate(chapters):  # one beside the box, or one beside each of its lines
            canvas.chapter(258, y + 38 - 10 * len(chapters) + 20 * line, number, "start")
    inner = ((1210, 1225), (1274, 1287), (1317, 1339), (1388, 1403), (1452, 1465))
    for start, end in ((1114, 1161), *inner, (1495, 1521)):
        canvas.arrow((151, start), (151, end))
    for start, end in ((1148, 1302), (1326, 1480)):
        canvas.plus(151, end)
        canvas.arrow((151, start), (34, start), (34, end), (136, end))
    canvas.text(151, 1540, "the stage's map")


LAYOUTS: dict[str, tuple[int, int, tuple[Callable[..., None], ...]]] = {
    "wide": (960, 764, (wide_encoder, wide_decoder, wide_block)),
    "narrow": (360, 1556, (narrow_encoder, narrow_decoder, narrow_block)),
}


def draw_model(model: dict, links: dict[int, str]) -> str:
    """Return both layouts of the diagram as HTML.

    Args:
        model: the arguments of `Segformer`, one value a stage where they differ between stages.
        links: where each chapter that exists is, by its number.
    """
    drawings = []
    for name, (width, height, painters) in LAYOUTS.items():
        canvas = Canvas(name, width, height, links)
        for paint in painters:
            paint(canvas) if paint in (wide_block, narrow_block) else paint(canvas, model)
        drawings.append(canvas.svg("SegFormer, the whole model", describe(model)))
    return f'<div class="model-diagrams">{"".join(drawings)}</div>'
