"""Every figure of the book: one look, colours that colour-blind readers can tell apart, alt text that travels along."""

from __future__ import annotations

import base64
import html
import io
import time
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from einops import rearrange
from IPython.display import HTML, display
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from PIL import Image

from segformer_edu.pages.tables import table_html

# Okabe and Ito's palette: eight colours that stay apart for every kind of colour blindness.
BLACK, ORANGE, SKY, GREEN, YELLOW, BLUE, VERMILION, PINK = PALETTE = (
    "#000000", "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7",
)  # fmt: skip
LINES = (BLUE, VERMILION, GREEN, PINK, ORANGE, SKY, BLACK)
MARKERS = "os^Dvx*"

STYLE: dict[Any, Any] = {  # matplotlib has a type of its own for the keys, with hundreds of names
    "font.size": 11,
    "axes.titlesize": 11,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": "#dddddd",
    "image.cmap": "cividis",
    "legend.frameon": False,
    "lines.linewidth": 2,
}


def figure(
    rows: int = 1, columns: int = 1, *, width: float = 7.0, height: float = 3.2, **options: Any
) -> tuple[Figure, np.ndarray]:
    """A figure in the book's look and its axes, always an array (rows, columns). Sizes in inches, 100 pixels each."""
    with mpl.rc_context(STYLE):
        made = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(made)
        return made, made.subplots(rows, columns, squeeze=False, **options)


def encoded(figure: Figure) -> bytes:
    """The figure as WebP with 1.8 times the pixels of its place, for sharp screens, in the smaller of two forms.

    Curves and maps of flat cells are smaller without loss; photographs at quality 80, which looks the same at twice
    their size.
    """
    drawn = io.BytesIO()
    with mpl.rc_context(STYLE):
        figure.savefig(drawn, format="png", dpi=180, facecolor="white", pil_kwargs={"compress_level": 1})
    picture = Image.open(drawn).convert("RGB")
    forms = []
    for options in ({"lossless": True}, {"quality": 80}):
        buffer = io.BytesIO()
        picture.save(buffer, "webp", method=6, **options)
        forms.append(buffer.getvalue())
    return min(forms, key=len)


def to_html(figure: Figure, alt: str) -> str:
    """The figure as one `<img>` that carries its picture and its alt text, wherever the notebook is read."""
    if not alt.strip():
        raise ValueError("alt is empty; expected a sentence that tells a reader who cannot see what the figure shows.")
    width, height = (round(100 * inches) for inches in figure.get_size_inches())
    data = base64.b64encode(encoded(figure)).decode()
    return (
        f'<img class="segformer-figure" alt="{html.escape(alt)}" width="{width}" height="{height}" '
        f'style="max-width: 100%; height: auto" src="data:image/webp;base64,{data}">'
    )


def show(figure: Figure, alt: str, caption: str = "") -> None:
    """Show the figure with its alt text and, under it, a caption: what it shows, and the number that matters.

    Raises:
        ValueError: an empty ``alt``.
    """
    picture = to_html(figure, alt)
    if caption:
        words = f'<figcaption style="max-width: 44rem; margin-top: 0.3rem">{html.escape(caption)}</figcaption>'
        picture = f'<figure style="margin: 0.5rem 0">{picture}{words}</figure>'
    display(HTML(picture))


def table(header: Sequence[str], rows: Sequence[Sequence[object]], caption: str) -> None:
    """Show a table; see ``table_html``."""
    display(HTML(table_html(header, rows, caption)))


def as_picture(image: torch.Tensor | np.ndarray) -> np.ndarray:
    """A tensor (3, H, W), (1, H, W) or (H, W) as the array that matplotlib draws; arrays pass as they are."""
    array = image.detach().cpu().numpy() if isinstance(image, torch.Tensor) else image
    if isinstance(image, torch.Tensor) and array.ndim == 3:
        array = array.transpose(1, 2, 0)  # (C, H, W) → (H, W, C)
    array = array[..., 0] if array.ndim == 3 and array.shape[-1] == 1 else array
    return array.clip(0, 1) if array.ndim == 3 else array


def images(
    pictures: Sequence[torch.Tensor | np.ndarray],
    titles: Sequence[str] = (),
    *,
    columns: int | None = None,
    width: float = 7.0,
    colour_map: str = "cividis",
    limits: tuple[float, float] | None = None,
    bar: bool = False,
) -> Figure:
    """Pictures side by side: colour (3, H, W) as it is, one channel through ``colour_map``.

    Args:
        pictures: tensors (3, H, W), (1, H, W) or (H, W), or arrays as matplotlib takes them.
        titles: one a picture, or none.
        columns: pictures in a row; all of them by default.
        width: of the figure, in inches.
        colour_map: for pictures of one channel; a diverging one such as "RdBu_r" for signed values.
        limits: the values at the two ends of the colour map, the same for all; each picture's own by default.
        bar: whether a colour bar tells the values.
    """
    columns = min(columns or len(pictures), len(pictures))
    rows = -(-len(pictures) // columns)
    shape = as_picture(pictures[0]).shape
    height = rows * (width / columns * shape[0] / shape[1] * (0.86 if bar else 1) + 0.35)
    made, axes = figure(rows, columns, width=width, height=height)
    for axis in axes.flat:
        axis.set_axis_off()
    low, high = limits or (None, None)
    for index, (axis, picture) in enumerate(zip(axes.flat, pictures)):
        drawn = axis.imshow(as_picture(picture), cmap=colour_map, vmin=low, vmax=high, interpolation="nearest")
        if bar and as_picture(picture).ndim == 2:
            made.colorbar(drawn, ax=axis, shrink=0.8)
        if titles:
            axis.set_title(titles[index])
    return made


def principal_colours(features: torch.Tensor) -> torch.Tensor:
    """A map's three directions of largest variation as red, green and blue, its middle 96 % stretched to [0, 1].

    Shapes: (1, C, H, W), C of at least 3 → (3, H, W).
    """
    tokens = rearrange(features.detach()[0], "c h w -> (h w) c")
    tokens = tokens - tokens.mean(dim=0)
    directions = torch.linalg.eigh(tokens.T @ tokens).eigenvectors[:, -3:].flip(-1)  # (C, 3), the largest first
    colours = tokens @ directions
    low, high = colours.quantile(colours.new_tensor([0.02, 0.98]), dim=0)
    stretched: torch.Tensor = (colours - low) / (high - low)
    return rearrange(stretched, "(h w) c -> c h w", h=features.shape[-2]).clamp(0, 1)


def categories(
    grid: np.ndarray,
    x: Sequence[float],
    y: Sequence[float],
    *,
    names: Sequence[str],
    dots: Mapping[int, tuple[str, str]],
    x_label: str,
    y_label: str,
) -> Figure:
    """A square chart of which category each pair (x, y) has; rare ones are drawn as dots, so that one cell is seen.

    Args:
        grid: (len(y), len(x)), whole numbers from 0, the categories.
        x: the values of the columns, a step of 1 apart.
        y: the values of the rows, likewise.
        names: one a category.
        dots: for each category drawn as dots its colour and matplotlib's marker; the others are shades of grey.
        x_label: what the columns are.
        y_label: what the rows are.
    """
    shaded = [category for category in range(len(names)) if category not in dots]
    greys = {category: str(0.9 * (1 - i / max(1, len(shaded) - 1)) ** 0.6) for i, category in enumerate(shaded)}
    made, axes = figure(width=5.2, height=5.9)
    axis = axes[0, 0]
    colours = [mpl.colors.to_hex(greys.get(category, greys[shaded[0]])) for category in range(len(names))]
    extent = (x[0] - 0.5, x[-1] + 0.5, y[0] - 0.5, y[-1] + 0.5)
    axis.imshow(paint(grid, colours), origin="lower", extent=extent, interpolation="nearest")
    for category, (colour, marker) in dots.items():
        rows, columns = np.nonzero(grid == category)
        axis.plot(np.asarray(x)[columns], np.asarray(y)[rows], marker, color=colour, markersize=1.9, markeredgewidth=0)
    legend = {names[category]: (grey, "s") for category, grey in greys.items()}
    legend |= {names[category]: dot for category, dot in dots.items()}
    handles = [axis.plot([], [], m, color=c, markersize=9, label=name)[0] for name, (c, m) in legend.items()]
    axis.set(xlabel=x_label, ylabel=y_label)
    axis.grid(visible=False)
    made.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False)
    return made


def draw_lines(
    axis: Axes,
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    *,
    x_label: str,
    y_label: str,
    log: str = "",
) -> None:
    """Draw each name's (x, y) as a line with its own marker; ``log`` names the logarithmic axes: "x", "y", "xy"."""
    with mpl.rc_context(STYLE):
        for (name, (x, y)), colour, marker in zip(series.items(), LINES, MARKERS):
            axis.plot(x, y, color=colour, marker=marker if len(x) < 30 else None, label=name)
        axis.set(xlabel=x_label, ylabel=y_label)
        if "x" in log:
            axis.set_xscale("log", base=2)
        if "y" in log:
            axis.set_yscale("log")
        if len(series) > 1:
            axis.legend()


def lines(
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    *,
    x_label: str,
    y_label: str,
    log: str = "",
    width: float = 6.4,
    height: float = 3.4,
) -> Figure:
    """A figure of lines; see ``draw_lines``."""
    made, axes = figure(width=width, height=height)
    draw_lines(axes[0, 0], series, x_label=x_label, y_label=y_label, log=log)
    return made


def bars(
    values: Mapping[str, float], *, label: str, form: str = "{:,.3g}", width: float = 6.4, log: bool = False
) -> Figure:
    """Horizontal bars, one a name, each with its value written at its end through ``form``."""
    made, axes = figure(width=width, height=0.9 + 0.38 * len(values))
    axis = axes[0, 0]
    with mpl.rc_context(STYLE):
        drawn = axis.barh(list(values), list(values.values()), color=BLUE)
        axis.bar_label(drawn, [form.format(value) for value in values.values()], padding=4)
        axis.set_xlabel(label)
        axis.invert_yaxis()
        axis.grid(axis="y", visible=False)
        axis.margins(x=0.18)
        if log:
            axis.set_xscale("log")
    return made


def draw_dots(axis: Axes, groups: Mapping[str, Sequence[float]], *, label: str) -> None:
    """Draw each name's values as dots in a row of their own, a black cross line at mean ± standard deviation above."""
    with mpl.rc_context(STYLE):
        for row, values in enumerate(groups.values()):
            axis.scatter(values, [row + 0.12] * len(values), color=BLUE, s=34, alpha=0.6, linewidth=0)
            axis.errorbar(
                np.mean(values),
                row - 0.18,
                xerr=np.std(values, ddof=1),
                color=BLACK,
                marker="|",
                markersize=10,
                capsize=3,
            )
        axis.set(xlabel=label, yticks=range(len(groups)), yticklabels=list(groups), ylim=(len(groups) - 0.5, -0.5))


def paint(mask: torch.Tensor | np.ndarray, colours: Sequence[str], void: str = "#000000") -> np.ndarray:
    """A class map (H, W) as a picture (H, W, 3), values in [0, 1]; what is no class (255, say) gets ``void``."""
    mask = mask.detach().cpu().numpy() if isinstance(mask, torch.Tensor) else np.asarray(mask)
    palette = np.array([mpl.colors.to_rgb(colour) for colour in (*colours, void)])
    return palette[np.where(mask < len(colours), mask, len(colours))]


def segmentations(
    columns: Mapping[str, Sequence[torch.Tensor | np.ndarray]],
    *,
    classes: Sequence[str],
    colours: Sequence[str],
    width: float = 7.0,
) -> Figure:
    """One row an image: pictures, class maps painted with ``colours``, and a legend of the ``classes`` below.

    Args:
        columns: for each column's title its pictures, (3, H, W) or class maps (H, W) of integers.
        classes: the classes' names.
        colours: the classes' colours.
        width: of the figure, in inches.
    """
    rows = len(next(iter(columns.values())))
    shape = as_picture(next(iter(columns.values()))[0]).shape
    names_in_a_row = max(2, int(width / 1.6))
    height = rows * width / len(columns) * shape[0] / shape[1] + 0.4 + 0.28 * -(-len(classes) // names_in_a_row)
    made, axes = figure(rows, len(columns), width=width, height=height)
    for column, (title, pictures) in enumerate(columns.items()):
        axes[0, column].set_title(title)
        for axis, picture in zip(axes[:, column], pictures):
            drawn = as_picture(picture)
            axis.imshow(drawn if drawn.ndim == 3 else paint(drawn, colours), interpolation="nearest")
            axis.set_axis_off()
    patches = [Patch(facecolor=colour, edgecolor="#444444", label=name) for name, colour in zip(classes, colours)]
    made.legend(handles=patches, loc="outside lower center", ncols=names_in_a_row, frameon=False)
    return made


def confusion(counts: torch.Tensor | np.ndarray, classes: Sequence[str], *, width: float = 5.6) -> Figure:
    """A confusion matrix: a row for each true class, and in it the share of its pixels that each class was given.

    Args:
        counts: (K, K), rows the truth; a class without a pixel has an empty row.
        classes: the classes' names.
        width: of the figure, in inches.
    """
    numbers = np.asarray(counts, dtype=float)
    shown = numbers / np.where(numbers.sum(axis=1) > 0, numbers.sum(axis=1), np.nan)[:, None]
    made, axes = figure(width=width, height=0.75 * width)
    axis = axes[0, 0]
    with mpl.rc_context(STYLE):
        drawn = axis.imshow(shown, cmap="cividis", vmin=0, vmax=1)
        made.colorbar(drawn, ax=axis, label="share of the true class's pixels")
        axis.set(xlabel="predicted", ylabel="true", xticks=range(len(classes)), yticks=range(len(classes)))
        axis.set_xticklabels(classes, rotation=30, ha="right")
        axis.set_yticklabels(classes)
        axis.grid(visible=False)
    for (row, column), share in np.ndenumerate(shown):
        if not np.isnan(share):
            axis.text(column, row, f"{share:.2f}", ha="center", va="center", color="black" if share > 0.5 else "white")
    return made


def shares(mask: torch.Tensor | np.ndarray, classes: Sequence[str]) -> dict[str, float]:
    """The share of a class map's pixels that each class has: of those present, the largest first. Void has no entry."""
    values, counts = torch.as_tensor(mask).flatten(), torch.zeros(len(classes), dtype=torch.int64)
    for part in values.split(1 << 22):  # a large photograph would not fit into memory several times
        counts += part[(part >= 0) & (part < len(classes))].long().bincount(minlength=len(classes)).cpu()
    order = counts.argsort(descending=True, stable=True)
    return {classes[i]: counts[i].item() / len(values) for i in order.tolist() if counts[i]}


def list_shares(found: Mapping[str, float], most: int = 8) -> str:
    """Shares as words, "wall 62 %, flag 20 %, and 3 other classes 1.2 %", for an alt text or a line of output."""
    told = [f"{name} {percent(share)}" for name, share in list(found.items())[:most]]
    rest = list(found.values())[most:]
    if rest:
        told.append(f"and {len(rest)} other {'class' if len(rest) == 1 else 'classes'} {percent(sum(rest))}")
    return ", ".join(told)


def percent(share: float) -> str:
    """A share in per cent, with two digits where it is small: "62 %", "1.2 %", "below 0.1 %"."""
    if share < 0.001:
        return "below 0.1 %"
    return f"{100 * share:.0f} %" if share >= 0.0995 else f"{100 * share:.1f} %"


def innermost(region: torch.Tensor) -> tuple[int, int, int]:
    """The row and column of the point of a region (H, W) that is furthest from its edge, and how far that is.

    The region is worn down by a pixel from all sides, again and again; the point is the last to go.
    """
    left, depth = region[None, None].float(), torch.zeros(region.shape)
    while left.any():
        depth += left[0, 0]
        left = -torch.nn.functional.max_pool2d(-torch.nn.functional.pad(left, (1, 1, 1, 1)), 3, stride=1)
    row, column = divmod(int(depth.argmax()), region.shape[1])
    return row, column, int(depth.max())


def laid_over(picture: np.ndarray, mask: np.ndarray, colours: Sequence[str], opacity: float) -> np.ndarray:
    """The class map's colours over the picture in grey, a dark line wherever two classes meet: (H, W, 3)."""
    grey = (picture.mean(axis=-1) if picture.ndim == 3 else picture)[..., None]
    painted = opacity * paint(mask, colours) + (1 - opacity) * grey
    edge = np.zeros(mask.shape, dtype=bool)
    edge[:-1] |= mask[:-1] != mask[1:]
    edge[:, :-1] |= mask[:, :-1] != mask[:, 1:]
    painted[edge] = 0.1
    return painted.clip(0, 1)


def overlay(
    picture: torch.Tensor | np.ndarray,
    mask: torch.Tensor | np.ndarray,
    *,
    classes: Sequence[str],
    colours: Sequence[str],
    opacity: float = 0.6,
    most: int = 12,
    width: float = 5.6,
) -> Figure:
    """A class map laid over its picture; a legend says which classes there are, and the picture's share of each.

    Colour is not the only cue: lines run where classes meet, and the legend's numbers stand in the regions.

    Args:
        picture: (3, H, W) or (H, W), values in [0, 1].
        mask: class numbers (H, W), the picture's size; any number that is no class (255) is black.
        classes: the classes' names.
        colours: the classes' colours.
        opacity: of the class map, from 0 to 1.
        most: classes in the legend, the largest ones; it counts the rest.
        width: of the figure, in inches.

    Raises:
        ValueError: a class map of another size than its picture.
    """
    mask = torch.as_tensor(mask).cpu()
    size = tuple(picture.shape[-2:] if isinstance(picture, torch.Tensor) else picture.shape[:2])
    if size != tuple(mask.shape):
        raise ValueError(f"The class map is {tuple(mask.shape)}, its picture {size}; expected the same size.")
    step = -(-max(size) // 720)  # as many pixels as the figure has room for
    places = (slice(None, None, step), slice(None, None, step))
    picture = as_picture(picture[..., places[0], places[1]] if isinstance(picture, torch.Tensor) else picture[places])
    small, found = mask[places], shares(mask, classes)
    shown = list(found)[:most]
    patches = [Patch(label=f"{i}  {name}  {percent(found[name])}") for i, name in enumerate(shown, start=1)]
    columns = max(1, int(width / 2.4))
    height = width * mask.shape[0] / mask.shape[1] + 0.2 + 0.24 * -(-(len(patches) + 1) // columns)
    made, axes = figure(width=width, height=height)
    axes[0, 0].imshow(laid_over(picture, small.numpy(), colours, opacity))
    axes[0, 0].set_axis_off()
    for patch, (number, name) in zip(patches, enumerate(shown, start=1)):
        patch.set(facecolor=colours[classes.index(name)], edgecolor="#222222")
        draw_number(axes[0, 0], number, small == classes.index(name))
    if len(found) > most:
        patches.append(Patch(label=f"and {len(found) - most} more", facecolor="none", edgecolor="none"))
    made.legend(handles=patches, loc="outside lower center", ncols=columns, frameon=False)
    return made


def draw_number(axis: Axes, number: int, region: torch.Tensor) -> None:
    """Write a number into the middle of a region, where there is room for it."""
    step = -(-max(region.shape) // 180)  # a coarser grid: a number is larger than its cells
    row, column, depth = innermost(region[::step, ::step])
    if depth >= 4:
        box = {"boxstyle": "circle,pad=0.2", "facecolor": "white", "edgecolor": "#222222", "linewidth": 0.8}
        axis.text(
            column * step, row * step, str(number), ha="center", va="center", fontsize=10, color="black", bbox=box
        )


def contact_sheet(
    pairs: Mapping[str, tuple[torch.Tensor | np.ndarray, torch.Tensor | np.ndarray]],
    *,
    classes: Sequence[str],
    colours: Sequence[str],
    columns: int = 2,
    most: int = 24,
    width: float = 9.0,
) -> Figure:
    """Pictures and their class maps side by side, to see whether they belong together; a legend below.

    Colour is not the only cue: the numbers of the classes stand in their regions. What is no class is black.

    Args:
        pairs: for each name a picture, (C, H, W) with values in [0, 1], and its class map (H, W).
        classes: the classes' names.
        colours: the classes' colours; they may repeat.
        columns: pairs in a row.
        most: classes in the legend, those of the largest regions; it counts the rest.
        width: of the figure, in inches.
    """
    columns = min(columns, len(pairs))
    rows = -(-len(pairs) // columns)
    shrunk = {name: shrink(*pair, classes=len(classes)) for name, pair in pairs.items()}
    tallest = max(mask.shape[0] / mask.shape[1] for _, mask in shrunk.values())
    patches = key([mask for _, mask in shrunk.values()], classes, colours, most)
    in_a_row = max(1, int(width / 2.2))
    cell = width / (2 * columns)
    height = rows * (cell * min(tallest, 2) + 0.3) + 0.3 + 0.24 * -(-len(patches) // in_a_row)
    made, axes = figure(rows, 2 * columns, width=width, height=height)
    for axis in axes.flat:
        axis.set_axis_off()
    for place, (name, (picture, mask)) in enumerate(shrunk.items()):
        left, right = axes[place // columns, 2 * (place % columns) :][:2]
        left.set_title(plain(name if len(name) <= 30 else f"…{name[-29:]}"), fontsize=8, loc="left")
        left.imshow(picture, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        right.imshow(paint(mask, colours[: len(classes)]), interpolation="nearest")
        for label in mask[mask < len(classes)].bincount().nonzero().flatten().tolist():
            draw_number(right, label, mask == label)
    made.legend(handles=patches, loc="outside lower center", ncols=in_a_row, frameon=False, fontsize=9)
    return made


def key(masks: Sequence[torch.Tensor], classes: Sequence[str], colours: Sequence[str], most: int) -> list[Patch]:
    """The entries of a legend for class maps in which the number ``len(classes)`` is no class."""
    pixels = torch.cat([mask.flatten() for mask in masks]).bincount(minlength=len(classes) + 1)
    *classed, void = pixels.tolist()
    seen = sorted((label for label, count in enumerate(classed) if count), key=lambda label: -classed[label])
    patches = [
        Patch(facecolor=colours[label], edgecolor="#222222", label=plain(f"{label}  {classes[label]}"))
        for label in sorted(seen[:most])
    ]
    patches += [Patch(facecolor="black", label="no class")] if void else []
    rest = f"and {len(seen) - most} more"
    return patches + ([Patch(label=rest, facecolor="none", edgecolor="none")] if len(seen) > most else [])


def shrink(
    picture: torch.Tensor | np.ndarray, mask: torch.Tensor | np.ndarray, *, classes: int, longest: int = 360
) -> tuple[np.ndarray, torch.Tensor]:
    """A picture that can be drawn, and its class map, both with fewer pixels; no class has the number ``classes``."""
    labels = torch.as_tensor(mask).cpu().long()
    labels = torch.where((labels < 0) | (labels > classes), classes, labels)
    step = -(-max(labels.shape) // longest)
    drawn = as_picture(picture)
    if drawn.ndim == 3:  # more than three channels, or two
        drawn = drawn[..., :3] if drawn.shape[-1] >= 3 else drawn[..., 0]
    return drawn[::step, ::step], labels[::step, ::step]


def plain(text: str) -> str:
    """A text as it stands, in which matplotlib would take dollar signs for formulas, and which an encoding can hold."""
    return text.encode(errors="replace").decode().replace("$", r"\$")


def training_curve(losses: Sequence[float], validations: Mapping[int, float], *, width: float = 6.4) -> Figure:
    """The loss of each step, grey, its running mean, blue, and the validation mIoU beside them."""
    made, axes = figure(1, 2, width=width, height=2.8)
    steps = np.arange(1, len(losses) + 1)
    window = max(1, len(losses) // 25)
    with mpl.rc_context(STYLE):
        axes[0, 0].plot(steps, losses, color="#BBBBBB", linewidth=1)
        smooth = np.convolve(losses, np.ones(window) / window, mode="valid")
        axes[0, 0].plot(steps[window - 1 :], smooth, color=BLUE)
        axes[0, 0].set(xlabel="step", ylabel="training loss", ylim=(0, None))
        axes[0, 1].plot(list(validations), list(validations.values()), color=VERMILION, marker="o")
        axes[0, 1].set(xlabel="step", ylabel="validation mIoU", ylim=(0, 1), xlim=(0, None))
    return made


class LiveCurve:
    """A training curve that is drawn again in its own place every few seconds: ``fit(…, on_step=LiveCurve())``.

    Args:
        seconds: between two drawings.
    """

    def __init__(self, seconds: float = 4.0) -> None:
        self.seconds, self.due = seconds, 0.0
        self.handle: Any = None

    def __call__(self, history: Any) -> None:
        """Draw the curve of a history if the last drawing is old enough, and at the end."""
        if history.finished or time.monotonic() >= self.due:
            self.draw(history.losses, history.validations)
            self.due = time.monotonic() + self.seconds

    def draw(self, losses: Sequence[float], validations: Mapping[int, float]) -> None:
        """Draw the curve, with what it shows as alt text."""
        if not losses:
            return
        alt = f"Training loss over {len(losses)} steps, from {losses[0]:.2f} to {np.mean(losses[-10:]):.2f}"
        if validations:
            told = ", ".join(f"{value:.2f} after {step}" for step, value in validations.items())
            alt += f"; validation mIoU {told} steps"
        picture = HTML(to_html(training_curve(losses, validations), alt + "."))
        if self.handle is None:
            self.handle = display(picture, display_id=True)
        else:
            self.handle.update(picture)
