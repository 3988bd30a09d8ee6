"""Diagrams of the book: boxes with shapes, arrows, maps of cells, in one style, upright so that a phone shows them.

A figure is drawn at 100 pixels an inch. At the widths here, at most 3.7 inches, a screen of 390 pixels shows it without
shrinking it, and its text stays at 14 pixels and more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyBboxPatch, Polygon, Rectangle

WIDTH = 3.7
"""Inches: the widest diagram that a phone shows in full size."""

FILLS = {"part": "#eef5fa", "strong": "#cfe4f2", "warm": "#fbe9cf", "plain": "#ffffff"}
"""The kinds of box: a part, the part that the chapter is about, one that stands apart, and an empty frame."""

LINE, ACCENT, INK, MUTED = "#6f8193", "#0072B2", "#1a222b", "#4a5866"
TEXT = 11.0  # points: 15 pixels


@dataclass(frozen=True)
class Box:
    """A layer in a flow.

    Attributes:
        title: what it is, in one line or several.
        note: a smaller line under it, such as the shape of its weights; empty for none.
        kind: one of ``FILLS``.
    """

    title: str
    note: str = ""
    kind: str = "part"


Row = str | Box | Sequence[str | Box]
"""A row of a flow: data, named by its shape; a layer; or several of them side by side."""


class Canvas:
    """A sheet of ``width`` × ``height`` pixels, y downwards, on which a diagram is drawn shape by shape.

    Attributes:
        figure: what ``plots.show`` shows.
        axis: matplotlib's, in pixels.
    """

    def __init__(self, width: float, height: float) -> None:
        self.figure = Figure(figsize=(width / 100, height / 100))
        FigureCanvasAgg(self.figure)
        self.axis: Axes = self.figure.add_axes((0, 0, 1, 1))
        self.axis.set(xlim=(0, width), ylim=(height, 0))
        self.axis.set_axis_off()

    def text(
        self, x: float, y: float, words: str, *, size: float = TEXT, colour: str = INK, anchor: str = "center"
    ) -> None:
        """Write words; (x, y) is their middle, or with ``anchor`` "left" or "right" the middle of that end."""
        self.axis.text(x, y, words, fontsize=size, color=colour, ha=anchor, va="center", linespacing=1.25)

    def box(self, x: float, y: float, width: float, height: float, kind: str = "part", *, dashed: bool = False) -> None:
        """Draw a box with its upper left corner at (x, y)."""
        edge = ACCENT if kind == "strong" else LINE
        style = "round,pad=0,rounding_size=6"
        self.axis.add_patch(
            FancyBboxPatch(
                (x, y), width, height, style, facecolor=FILLS[kind], edgecolor=edge, linestyle="--" if dashed else "-"
            )
        )

    def arrow(self, *points: tuple[float, float], head: bool = True) -> None:
        """Draw an arrow through the points, with its head at the last one."""
        self.axis.plot(*zip(*points), color=LINE, linewidth=1.5, solid_joinstyle="round", zorder=1)
        if head:
            (x0, y0), (x1, y1) = points[-2:]
            along = np.array([x1 - x0, y1 - y0]) / max(1e-9, np.hypot(x1 - x0, y1 - y0))
            across = np.array([-along[1], along[0]])
            tip = np.array([x1, y1])
            corners = [tip, tip - 8 * along + 4 * across, tip - 8 * along - 4 * across]
            self.axis.add_patch(Polygon(np.array(corners), facecolor=LINE, edgecolor=LINE, zorder=2))

    def plus(self, x: float, y: float) -> None:
        """Draw the sign of a sum."""
        self.axis.add_patch(Circle((x, y), 11, facecolor="white", edgecolor=LINE, linewidth=1.5, zorder=3))
        for dx, dy in ((6, 0), (0, 6)):
            self.axis.plot((x - dx, x + dx), (y - dy, y + dy), color=LINE, linewidth=1.5, zorder=4)

    def cells(
        self, x: float, y: float, colours: Sequence[Sequence[str]], *, side: float = 14, edge: str = "white"
    ) -> None:
        """Draw a map or a matrix: a row of squares for each row of ``colours``, upper left corner at (x, y)."""
        for row, line in enumerate(colours):
            for column, colour in enumerate(line):
                corner = (x + side * column, y + side * row)
                self.axis.add_patch(Rectangle(corner, side, side, facecolor=colour, edgecolor=edge, linewidth=0.8))

    def sheets(self, x: float, y: float, colours: Sequence[str], *, side: float = 46, cells: int = 4) -> None:
        """Draw the channels of a map as squares behind each other, each ruled into cells; the first one in front."""
        for index, colour in reversed(list(enumerate(colours))):
            left, top, depth = x + 9 * index, y - 9 * index, 3 - 0.01 * index
            self.axis.add_patch(Rectangle((left, top), side, side, facecolor=colour, edgecolor="white", zorder=depth))
            for i in range(1, cells):
                at = side * i / cells
                for xs, ys in (((at, at), (0, side)), ((0, side), (at, at))):
                    line = np.add(left, xs), np.add(top, ys)
                    self.axis.plot(*line, color="white", linewidth=0.6, zorder=depth + 0.005)


def height_of(row: Row) -> float:
    """The height of a row of a flow, in pixels."""
    if isinstance(row, str):
        return 20.0 * (1 + row.count("\n"))
    if isinstance(row, Box):
        return 20.0 * (1 + row.title.count("\n")) + (18.0 * (1 + row.note.count("\n")) if row.note else 0) + 14
    return max(height_of(part) for part in row)


def draw_row(canvas: Canvas, row: Row, left: float, right: float, y: float) -> list[float]:
    """Draw a row between two edges, its top at y; return the middle of each of its parts."""
    parts = [row] if isinstance(row, str | Box) else list(row)
    height, gap = height_of(row), 10.0
    width = (right - left - gap * (len(parts) - 1)) / len(parts)
    middles = [left + width / 2 + (width + gap) * index for index in range(len(parts))]
    for part, x in zip(parts, middles):
        if isinstance(part, Box):
            canvas.box(x - width / 2, y, width, height, part.kind)
            own = height_of(part) - 14
            lines = 20.0 * (1 + part.title.count("\n"))
            top = y + (height - own) / 2
            canvas.text(x, top + lines / 2, part.title)
            if part.note:
                canvas.text(x, top + lines + (own - lines) / 2, part.note, size=10, colour=MUTED)
        else:
            canvas.text(x, y + height / 2, part, colour=MUTED)
    return middles


def joined(above: list[float], below: list[float], box_above: bool, box_below: bool) -> list[tuple[float, float]]:
    """Where the arrows between two rows begin and end: straight down, but where data without a box fan out or meet."""
    if len(above) == 1 and box_above:
        above = below
    if len(below) == 1 and box_below:
        below = above
    return list(zip(above, below)) if len(above) == len(below) else [(a, b) for a in above for b in below]


def flow(rows: Sequence[Row], *, sums: Sequence[tuple[int, int]] = (), width: float = WIDTH, gap: float = 26) -> Figure:
    """A path of data through layers, from top to bottom, an arrow from each row to the next.

    Between two rows of as many parts each arrow goes straight down; one part fans out to several, and several meet in
    one.

    Args:
        rows: a string for data ("B, C, H, W" say), a ``Box`` for a layer, a sequence of them for branches.
        sums: for each residual path its start and its end: the row whose data go around, and the row behind which
            they are added.
        width: in inches; at most ``WIDTH`` if a phone is to show the text in full size.
        gap: the length of an arrow, in pixels.

    Raises:
        ValueError: a residual path that does not lead downwards within the rows.
    """
    for start, end in sums:
        if not 0 <= start < end < len(rows) - 1:
            raise ValueError(f"A sum goes from row {start} to behind row {end} of {len(rows)}; expected a later one.")
    behind = {end for _, end in sums}
    lengths = [gap + 30 * (index in behind) for index in range(len(rows) - 1)]
    canvas = Canvas(100 * width, 16 + sum(map(height_of, rows)) + sum(lengths))
    left, right, y = (26.0 if sums else 8.0), 100 * width - 8, 8.0
    tops, middles = [], []
    for row, length in zip(rows, [*lengths, 0]):
        tops.append(y)
        middles.append(draw_row(canvas, row, left, right, y))
        y += height_of(row) + length
    for index in range(len(lengths)):
        top, bottom = tops[index] + height_of(rows[index]) + 2, tops[index + 1] - 2
        above, below = middles[index], middles[index + 1]
        for a, b in joined(above, below, isinstance(rows[index], Box), isinstance(rows[index + 1], Box)):
            canvas.arrow((a, top), (b, bottom))
    for begin, end in sums:
        middle, plus = (left + right) / 2, tops[end] + height_of(rows[end]) + 2 + (lengths[end] - 4) / 2 - 4
        from_y = tops[begin] + height_of(rows[begin]) / 2
        edge = left if isinstance(rows[begin], Box) else middle - 5.0 * max(map(len, str(rows[begin]).split("\n")))
        canvas.arrow((edge, from_y), (12, from_y), (12, plus), (middle - 12, plus))
        canvas.plus(middle, plus)
    return canvas.figure


def depthwise_and_pointwise() -> Figure:
    """What the two convolutions of chapter 1 connect: places within a channel, and channels within a pixel."""
    canvas = Canvas(100 * WIDTH, 444)
    colours = (("#E69F00", "#fbe9cf"), ("#009E73", "#d3ede5"), ("#0072B2", "#cfe4f2"))
    canvas.text(185, 14, "depthwise: one filter for each channel")
    for index, (dark, light) in enumerate(colours):
        y = 34 + 54 * index
        window = [[dark if row < 3 and column < 3 else light for column in range(4)] for row in range(4)]
        one = [[dark if (row, column) == (1, 1) else light for column in range(4)] for row in range(4)]
        canvas.cells(24, y, window, side=11)
        canvas.arrow((76, y + 22), (152, y + 22))
        canvas.cells(162, y + 4, [[dark] * 3] * 3, side=12)
        canvas.arrow((208, y + 22), (288, y + 22))
        canvas.cells(298, y, one, side=11)
    canvas.text(180, 202, r"$K^2\,C_{in}$ weights", size=11, colour=MUTED)
    canvas.text(185, 236, "pointwise: the channels of one pixel, mixed")
    outputs = (("#CC79A7", "#f5e3ed", 287), ("#4a5866", "#e3e7eb", 341))
    for index, (dark, light) in enumerate(colours):
        y = 260 + 54 * index
        canvas.cells(
            24, y, [[dark if (row, column) == (1, 1) else light for column in range(4)] for row in range(4)], side=11
        )
        for *_, y_out in outputs:
            canvas.arrow((76, y + 17), (288, y_out + 17))
    for dark, light, y in outputs:
        canvas.cells(
            298, y, [[dark if (row, column) == (1, 1) else light for column in range(4)] for row in range(4)], side=11
        )
    canvas.text(180, 428, r"$C_{in}\,C_{out}$ weights", size=11, colour=MUTED)
    return canvas.figure


def attention_shapes() -> Figure:
    """Chapter 3: one head of efficient self-attention, with the shape of everything that goes through it."""
    canvas = Canvas(100 * WIDTH, 474)
    columns, whole, pair = (67.0, 185.0, 303.0), 185.0, 126.0  # middles: of three boxes, of the sheet, of q and k
    layers = (
        ("to_q", "1×1", "q: N × d"),
        ("to_k", "r×r, stride r", "k: N′ × d"),
        ("to_v", "r×r, stride r", "v: N′ × d"),
    )
    for x, (name, window, result) in zip(columns, layers):
        canvas.arrow((whole, 28), (x, 50))
        canvas.box(x - 54, 52, 108, 52, "part" if name == "to_q" else "strong")
        canvas.text(x, 68, name)
        canvas.text(x, 88, window, size=10, colour=MUTED)
        canvas.arrow((x, 106), (x, 126))
        canvas.text(x, 137, result, colour=MUTED)
    boxes = ((13, 172, 226, 52), (13, 292, 344, 34), (13, 392, 344, 34))
    for x, y, width, height in boxes:
        canvas.box(x, y, width, height)
    downward = ((67, 149, 170), (185, 149, 170), (303, 149, 290), (pair, 226, 246), (pair, 269, 290),
                (whole, 328, 348), (whole, 371, 390), (whole, 428, 448))  # fmt: skip
    for x, start, end in downward:
        canvas.arrow((x, start), (x, end))
    canvas.text(pair, 208, "along each row", size=10, colour=MUTED)
    for x, y, words in (
        (pair, 188, "softmax(q kᵀ / √d)"),
        (whole, 309, "weighted sums: shares · v"),
        (whole, 409, "the heads side by side, then to_out, 1×1"),
    ):
        canvas.text(x, y, words)
    for x, y, words in (
        (whole, 16, "the map: C × H × W"),
        (pair, 257, "shares: N × N′"),
        (whole, 359, "of each head: N × d"),
        (whole, 459, "C × H × W"),
    ):
        canvas.text(x, y, words, colour=MUTED)
    return canvas.figure


def encoder_pyramid(dims: Sequence[int], layers: Sequence[int]) -> Figure:
    """Chapter 5: the four stages of the encoder, and beside each its map, drawn to scale.

    Args:
        dims: channels of the four maps.
        layers: blocks in each stage.
    """
    canvas = Canvas(100 * WIDTH, 530)
    canvas.text(95, 16, "the image: 3 × H × W", colour=MUTED)
    for index, (dim, blocks) in enumerate(zip(dims, layers)):
        top = 46.0 + 130 * index
        canvas.arrow((95, 28) if index == 0 else (95, top - 44), (95, top - 2))
        canvas.box(8, top, 174, 84, "part")
        kernel, stride = (7, 4) if index == 0 else (3, 2)
        canvas.text(95, top + 15, f"stage {index + 1}")
        canvas.box(20, top + 28, 150, 22, "strong")
        canvas.text(95, top + 39, f"{kernel}×{kernel}, stride {stride}", size=10)
        canvas.box(20, top + 55, 150, 22, "plain")
        canvas.text(95, top + 66, f"{blocks} blocks" if blocks > 1 else "1 block", size=10)
        side, step = 112.0 / 2**index, 4 * 2**index
        canvas.arrow((184, top + 42), (226, top + 42))
        cells = range(16 // 2**index)
        colours = [[("#9fc9e6", "#cfe4f2")[(row + column) % 2] for column in cells] for row in cells]
        canvas.cells(292 - side / 2, top + 42 - side / 2, colours, side=7, edge="none")
        canvas.text(292, top + 42 + side / 2 + 12, f"{dim} × H/{step} × W/{step}", size=10, colour=MUTED)
    return canvas.figure


def decoder_flow(dims: Sequence[int], decoder_dim: int, num_classes: int) -> Figure:
    """Chapter 6: the path of the four maps through the decoder.

    Args:
        dims: channels of the four maps.
        decoder_dim: the width to which each is brought.
        num_classes: scores for each pixel.
    """
    maps = [f"{dim}\nH/{4 * 2**i}" for i, dim in enumerate(dims)]
    wide = [f"{decoder_dim}\nH/{4 * 2**i}" for i in range(4)]
    return flow(
        [
            maps,
            [Box("1×1", f"{dim}→{decoder_dim}") for dim in dims],
            wide,
            [Box("as it is" if i == 0 else "to H/4", "" if i == 0 else f"×{2**i}", "strong") for i in range(4)],
            f"side by side: {4 * decoder_dim} × H/4 × W/4",
            Box("fuse: 1×1", f"{4 * decoder_dim} → {decoder_dim}"),
            f"{decoder_dim} × H/4 × W/4",
            Box("classify: 1×1", f"{decoder_dim} → {num_classes}"),
            f"logits: {num_classes} × H/4 × W/4",
        ]
    )


PALE, GROUP, EXTRA = "#dde4ea", "#0072B2", "#E69F00"
"""Cells that wait, cells at work, and cells that are only looked at."""


def channel_groups() -> Figure:
    """One group of channels in chapter 10's decoder: from the maps of the four scales to its part of the logits."""
    channels, group = 6, range(2, 4)
    canvas = Canvas(370, 520)
    canvas.text(185, 14, "maps of four scales", colour=MUTED)
    centres, sides, widths = (52, 142, 228, 312), (64, 48, 36, 24), (2, 3, 4, 5)
    for index, (x, side, width) in enumerate(zip(centres, sides, widths), start=1):
        canvas.cells(x - side / 2, 96 - side, [[PALE]], side=side)
        canvas.text(x, 96 - side / 2, f"$x_{index}$")
        canvas.arrow((x, 102), (x, 124))
        rows = [[GROUP if channel in group else PALE] * width for channel in range(channels)]
        canvas.cells(x - 6 * width, 128, rows, side=12)
        canvas.arrow((x, 206), (x, 222), (185, 238), head=False)
    canvas.text(185, 252, "matrices: the rows of one group", colour=MUTED)
    canvas.arrow((185, 266), (185, 290))
    canvas.text(198, 278, "upsample, add, ReLU", anchor="left", colour=MUTED)
    left, step = 66, 40
    for channel in range(channels):
        colour = GROUP if channel in group else "none"
        canvas.cells(left + step * channel, 298, [[colour]], side=36, edge="white" if channel in group else LINE)
    canvas.text(185, 352, "its channels, at the finest size", colour=MUTED)
    canvas.arrow((185, 366), (185, 388))
    columns = [[GROUP if channel in group else PALE for channel in range(channels)] for _ in range(3)]
    canvas.cells(185 - 6 * channels, 394, columns, side=12)
    canvas.text(185, 446, "classifier: the columns of the group", colour=MUTED)
    canvas.arrow((185, 460), (185, 482))
    canvas.text(198, 470, "add", anchor="left", colour=MUTED)
    canvas.text(185, 500, "logits")
    return canvas.figure


def row_strips() -> Figure:
    """One strip of rows in chapter 10's Mix-FFN, with the rows above and below that its 3×3 convolution looks at."""
    rows, strip = 12, range(4, 8)
    extra = (strip.start - 1, strip.stop)
    canvas = Canvas(370, 300)
    side, top = 13, 44
    colours = [GROUP if row in strip else EXTRA if row in extra else PALE for row in range(rows)]
    canvas.text(40, 20, "input: C", colour=MUTED)
    canvas.cells(14, top, [[colour] * 4 for colour in colours], side=side)
    canvas.text(185, 20, "in between: 4C", colour=MUTED)
    wide = top + side * extra[0]
    canvas.cells(120, wide, [[colour] * 10 for colour in colours if colour != PALE], side=side)
    canvas.text(330, 20, "output: C", colour=MUTED)
    canvas.cells(304, top, [[GROUP if row in strip else "none"] * 4 for row in range(rows)], side=side, edge=LINE)
    middle = top + side * (strip.start + strip.stop) / 2
    canvas.arrow((72, middle), (114, middle))
    canvas.arrow((256, middle), (298, middle))
    canvas.text(93, middle - 14, "widen", size=10, colour=MUTED)
    canvas.text(277, middle - 14, "narrow", size=10, colour=MUTED)
    canvas.text(185, wide + 6 * side + 16, "3×3, GELU", size=10, colour=MUTED)
    canvas.cells(14, 226, [[GROUP]], side=side)
    canvas.text(36, 233, "the strip's own rows", anchor="left")
    canvas.cells(14, 256, [[EXTRA]], side=side)
    canvas.text(36, 263, "one more row above and below: the 3×3\nneeds them, the output leaves them out", anchor="left")
    return canvas.figure
