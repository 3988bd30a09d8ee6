"""Pictures that change when a control is moved, in a notebook and in a page of the book, which has no kernel.

Every state is drawn beforehand. With ipywidgets 8 the browser alone switches between them, so a page needs no Python;
with ipywidgets 7 (Google Colab has 7.7.1), which lacks ``Stack``, the kernel swaps one picture for another.
"""

from __future__ import annotations

import base64
import html
import io
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ipywidgets
import numpy as np
import torch
from PIL import Image

SHADES = 16
"""How many strengths of colour an overlay knows: 4 bits a pixel, so that hundreds of them fit into a page."""

STYLE = """<style>
.layers-{name} {{position: relative; width: 100%; max-width: {width}px; aspect-ratio: {columns} / {rows};
  background: url({address}) 0 0 / 100% 100%}}
.layers-{name} img {{position: absolute; inset: 0; width: 100%; height: 100%; margin: 0; image-rendering: pixelated;
  background: none !important; border-radius: 0 !important; filter: none !important; padding: 0 !important}}
.layers-{name} i {{position: absolute; width: 14px; height: 14px; margin: -9px; border: 2px solid #fff;
  border-radius: 50%; box-shadow: 0 0 0 2px #000, inset 0 0 0 2px #000}}
</style>"""


def picture(pixels: torch.Tensor | np.ndarray) -> Image.Image:
    """Turn a tensor (3, H, W) or (H, W), values in [0, 1], into a picture."""
    values = torch.as_tensor(pixels).detach().cpu().clamp(0, 1).mul(255).round().to(torch.uint8)
    return Image.fromarray(values.movedim(0, -1).numpy() if values.ndim == 3 else values.numpy())


def overlay(strength: torch.Tensor | np.ndarray, colour: Sequence[int] = (255, 236, 80)) -> Image.Image:
    """Turn strengths (H, W) in [0, 1] into a layer of one ``colour``: nothing at 0, nearly opaque at 1."""
    levels = torch.as_tensor(strength).detach().cpu().clamp(0, 1).mul(SHADES - 1).round().to(torch.uint8)
    made = Image.fromarray(levels.numpy()).convert("P")
    made.putpalette(bytes(colour) * SHADES)
    made.info["transparency"] = bytes(round(230 * level / (SHADES - 1)) for level in range(SHADES))
    return made


def address(image: Image.Image, form: str = "png") -> str:
    """Return the picture as a data URI, which needs no file and no network."""
    buffer = io.BytesIO()
    image.save(buffer, form, **({"optimize": True, "bits": 4} if form == "png" else {"quality": 80, "method": 6}))
    return f"data:image/{form};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def layers(
    strength: torch.Tensor | np.ndarray, alt: str, *, mark: tuple[float, float], name: str = "", caption: str = ""
) -> str:
    """Return the HTML of one state: an overlay, a ring at ``mark``, and below the backdrop called ``name``.

    Args:
        strength: (H, W), values in [0, 1].
        alt: what the state shows, for a reader who cannot see it.
        mark: where the ring is: fractions of the height and of the width.
        name: of the backdrop, as ``backdrop`` was given it.
        caption: one line below the picture.

    Raises:
        ValueError: an empty ``alt``.
    """
    if not alt.strip():
        raise ValueError("alt is empty; expected a sentence that tells a reader who cannot see what the state shows.")
    top, left = (f"{100 * fraction:.1f}%" for fraction in mark)
    return (
        f'<div class="layers-{name}"><img alt="{html.escape(alt)}" src="{address(overlay(strength))}">'
        f'<i style="top: {top}; left: {left}"></i></div>{html.escape(caption)}'
    )


def backdrop(pixels: torch.Tensor | np.ndarray, name: str, *, width: int = 384) -> str:
    """Return the HTML, invisible itself, that puts a picture (3, H, W) below all the ``layers`` of this ``name``."""
    image = picture(pixels)
    columns, rows = image.size
    return STYLE.format(name=name, address=address(image, "webp"), width=width, columns=columns, rows=rows)


def control(name: str, labels: Sequence[str]) -> ipywidgets.Widget:
    """Return a slider over many labels, a menu over few; both have a name, and answer to the keyboard."""
    kind = ipywidgets.SelectionSlider if len(labels) > 3 else ipywidgets.Dropdown
    return kind(options=labels, value=labels[0], description=name, style={"description_width": "initial"})


def explore(draw: Callable[..., str], controls: Mapping[str, Sequence[Any]], *, before: str = "") -> ipywidgets.VBox:
    """Let a reader move through pictures with one control for each thing that can be chosen.

    Args:
        draw: called with one value of each control, in their order; returns the HTML of that state, whose pictures
            have alt text (``layers`` makes it). It is called once for every combination, beforehand.
        controls: for each control's name its values. Put the one with the most values last: the page is then smallest.
        before: HTML that stands before all states, such as a ``backdrop``.

    Raises:
        ValueError: no control, or a control with fewer than two values or with two that read the same.
    """
    check_controls(controls)
    moved = [control(name, [str(value) for value in values]) for name, values in controls.items()]
    indices = itertools.product(*(range(len(values)) for values in controls.values()))
    states = dict(zip(indices, itertools.starmap(draw, itertools.product(*controls.values()))))
    view = nested(states, moved) if hasattr(ipywidgets, "Stack") else swapped(states, moved)
    return ipywidgets.VBox([ipywidgets.HTML(before), *moved, view])


def check_controls(controls: Mapping[str, Sequence[Any]]) -> None:
    """Raise ValueError unless every control leaves a choice, between values that can be told apart."""
    if not controls:
        raise ValueError('controls is empty; expected for each control\'s name its values, e.g. {"head": (1, 2)}.')
    for name, values in controls.items():
        if len({str(value) for value in values}) < max(2, len(values)):
            raise ValueError(f"The control {name!r} has the values {values!r}; expected two or more, all different.")


def nested(states: Mapping[tuple[int, ...], str], controls: Sequence[ipywidgets.Widget]) -> ipywidgets.Widget:
    """Return a ``Stack`` of further ones, one depth a control, joined to the controls by links the browser follows.

    The states share one layout and one style, which keeps the page small.
    """
    shared = ipywidgets.HTML(layout={"width": "100%", "margin": "0"})

    def build(chosen: tuple[int, ...]) -> ipywidgets.Widget:
        if len(chosen) == len(controls):
            return ipywidgets.HTML(states[chosen], layout=shared.layout, style=shared.style)
        moved = controls[len(chosen)]
        pages = [build((*chosen, index)) for index in range(len(moved.options))]
        stack = ipywidgets.Stack(pages, selected_index=0, layout=shared.layout)
        ipywidgets.jslink((moved, "index"), (stack, "selected_index"))
        return stack

    return build(())


def swapped(states: Mapping[tuple[int, ...], str], controls: Sequence[ipywidgets.Widget]) -> ipywidgets.HTML:
    """Return one picture that the kernel replaces whenever a control moves, for an ipywidgets without ``Stack``."""
    page = ipywidgets.HTML(layout={"width": "100%", "margin": "0"})

    def update(_: object = None) -> None:
        page.value = states[tuple(moved.index for moved in controls)]

    for moved in controls:
        moved.observe(update, "index")
    update()
    return page
