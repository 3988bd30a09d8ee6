"""The widget: its states, and what moving a control does with ipywidgets 8, with 7, and in a page without a kernel."""

import base64
import io
import json
import re
import sys
from pathlib import Path

import ipywidgets
import numpy as np
import pytest
import torch
from ipywidgets.embed import embed_data
from PIL import Image
from playwright.sync_api import sync_playwright

from segformer_edu.pages import widgets

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))

from browser import OPTIONS, PATIENCE, REMEDY, find_chromium  # noqa: E402

VENDOR = ROOT / "book" / "_static" / "vendor" / "widgets"
NEEDS_STACK = pytest.mark.skipif(
    not hasattr(ipywidgets, "Stack"),
    reason="this ipywidgets is older than 8 and has no Stack: the kernel swaps pictures",
)
CONTROLS = {"ratio": (8, 1), "head": ("colour", "place"), "query": ("star", "cap", "face", "jacket")}


def draw(ratio: int, head: str, query: str) -> str:
    strength = torch.eye(8) if head == "colour" else torch.ones(8, 8)
    return widgets.layers(strength, f"seen: {head} {query} at {ratio}", mark=(0.25, 0.5), name="test")


def explorer() -> ipywidgets.VBox:
    return widgets.explore(draw, CONTROLS, before=widgets.backdrop(torch.rand(3, 16, 16), "test"))


def controls_of(box: ipywidgets.VBox) -> dict:
    return {child.description: child for child in box.children[1:-1]}


def described(page: str) -> str:
    return re.search(r'alt="([^"]*)"', page).group(1)


def links(box: ipywidgets.VBox) -> dict:
    """For every widget that a link moves: which control moves it and by what, as the browser reads it."""
    moved = {child.model_id: child for child in controls_of(box).values()}
    made = [model["state"] for model in ipywidgets.Widget.get_manager_state()["state"].values()]
    ends = [(model["source"], model["target"]) for model in made if model["_model_name"] == "LinkModel"]
    strip = "IPY_MODEL_"
    return {
        target.removeprefix(strip): (moved[source.removeprefix(strip)], trait, end)
        for (source, trait), (target, end) in ends
    }


def visible(view: ipywidgets.Widget, follow: dict) -> str:
    """The state on view, found as the browser finds it: each stack shows the page that its control's index names."""
    while not isinstance(view, ipywidgets.HTML):
        moved, trait, end = follow[view.model_id]
        assert (trait, end) == ("index", "selected_index")
        view = view.children[getattr(moved, trait)]
    return described(view.value)


@pytest.fixture(autouse=True)
def _close_widgets():
    ipywidgets.Widget.close_all()
    yield
    ipywidgets.Widget.close_all()


@NEEDS_STACK
def test_every_state_is_reached_with_ipywidgets_8():
    box = explorer()
    moved, follow = controls_of(box), links(box)
    assert list(moved) == list(CONTROLS)
    seen = set()
    for ratio, ratio_value in enumerate(CONTROLS["ratio"]):
        for head, head_value in enumerate(CONTROLS["head"]):
            for query, query_value in enumerate(CONTROLS["query"]):
                moved["ratio"].index, moved["head"].index, moved["query"].index = ratio, head, query
                shown = visible(box.children[-1], follow)
                assert shown == f"seen: {head_value} {query_value} at {ratio_value}"
                seen.add(shown)
    assert len(seen) == 16


def test_without_stack_the_kernel_swaps_the_picture(monkeypatch):
    monkeypatch.delattr(ipywidgets, "Stack", raising=False)
    box = explorer()
    page, moved = box.children[-1], controls_of(box)
    assert isinstance(page, ipywidgets.HTML)
    assert described(page.value) == "seen: colour star at 8"
    moved["query"].value = "jacket"
    assert described(page.value) == "seen: colour jacket at 8"
    moved["head"].value = "place"
    moved["ratio"].value = "1"
    assert described(page.value) == "seen: place jacket at 1"


def test_few_values_make_a_menu_and_many_a_slider_each_with_a_name():
    moved = controls_of(explorer())
    assert isinstance(moved["head"], ipywidgets.Dropdown)
    assert isinstance(moved["query"], ipywidgets.SelectionSlider)


def test_an_overlay_is_clear_where_nothing_is_and_strong_where_the_most_is():
    layer = np.array(widgets.overlay(torch.tensor([[0.0, 1.0], [0.5, 2.0]])).convert("RGBA"))
    assert layer[0, 0, 3] == 0
    assert layer[0, 1, 3] == layer[1, 1, 3] == 230
    assert 100 < layer[1, 0, 3] < 130
    assert tuple(layer[0, 1, :3]) == (255, 236, 80)


def test_the_overlay_survives_its_way_into_the_page():
    source = re.search(r'src="data:image/png;base64,([^"]+)"', draw(8, "colour", "star")).group(1)
    read = np.array(Image.open(io.BytesIO(base64.b64decode(source))).convert("RGBA"))
    assert read.shape == (8, 8, 4)
    assert np.array_equal(read[..., 3] > 0, np.eye(8, dtype=bool))


def test_alt_text_is_escaped_and_never_empty():
    assert 'alt="5 &lt; 6 &quot;keys&quot;"' in widgets.layers(torch.ones(2, 2), '5 < 6 "keys"', mark=(0, 0))
    with pytest.raises(ValueError, match="alt is empty"):
        widgets.layers(torch.ones(2, 2), "  ", mark=(0, 0))


@pytest.mark.parametrize("controls", [{}, {"head": (1,)}, {"head": (1, 1)}, {"head": (1, "1")}])
def test_controls_without_a_choice_are_refused(controls):
    with pytest.raises(ValueError, match="expected"):
        widgets.explore(lambda *_: "", controls)


def kernel_free_page(box: ipywidgets.VBox) -> str:
    """A page as the book makes it: the state as JSON, the vendored scripts, no kernel."""
    data = embed_data([box], drop_defaults=False)
    state, view = (json.dumps(part).replace("</", "<\\/") for part in (data["manager_state"], data["view_specs"][0]))
    return (
        "<!doctype html><body>"
        f'<script type="application/vnd.jupyter.widget-state+json">{state}</script>'
        f'<script type="application/vnd.jupyter.widget-view+json">{view}</script><script src="/widgets.js"></script>'
    )


@pytest.fixture
def opened():
    """Return a function that opens a page of widgets, kernel-free, in a browser of its own."""
    chromium = find_chromium()
    assert chromium, REMEDY

    def serve(route):
        file = VENDOR / route.request.url.split("/", 3)[3]
        if route.request.url == "http://book.test/":
            route.fulfill(body=page.text, content_type="text/html")
        else:
            route.fulfill(path=file) if file.is_file() else route.fulfill(status=404)

    def open_page(box):
        page.text = kernel_free_page(box)
        page.goto("http://book.test/")
        return page

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(OPTIONS), timeout=PATIENCE)
        page = browser.new_page(viewport={"width": 390, "height": 700})
        page.set_default_timeout(PATIENCE)
        page.route("**/*", serve)
        page.heard = []
        page.on("console", lambda message: page.heard.append(message.text))
        page.on("pageerror", lambda error: page.heard.append(str(error)))
        yield open_page
        browser.close()


@NEEDS_STACK
def test_the_browser_alone_moves_it(opened):
    page = opened(explorer())

    def shown(alt: str) -> None:
        page.wait_for_function(
            "alt => [...document.querySelectorAll('.layers-test img')]"
            ".filter(image => image.checkVisibility()).map(image => image.alt).join() === alt",
            arg=alt,
        )

    shown("seen: colour star at 8")
    page.get_by_label("head").select_option("place")
    shown("seen: place star at 8")
    page.get_by_role("slider").first.focus()
    page.keyboard.press("ArrowRight")
    shown("seen: place cap at 8")
    assert page.evaluate("[...document.querySelectorAll('.widget-box')].every(b => b.scrollWidth <= b.clientWidth)")
    assert page.heard == []


def stack_of(control: ipywidgets.Widget, trait: str) -> ipywidgets.Widget:
    """Four texts, of which the control shows one, by a link that the browser follows."""
    name = control.description
    stack = ipywidgets.Stack([ipywidgets.HTML(f"{name} {index}") for index in range(4)], selected_index=0)
    ipywidgets.jslink((control, trait), (stack, "selected_index"))
    return stack


@NEEDS_STACK
def test_every_kind_of_control_moves_a_stack_without_a_kernel(opened):
    play = ipywidgets.Play(min=0, max=3, interval=50, description="play")
    slider = ipywidgets.IntSlider(max=3, description="slider")
    ipywidgets.jslink((play, "value"), (slider, "value"))
    words = {"options": ["zero", "one", "two", "three"]}
    toggles = ipywidgets.ToggleButtons(description="toggles", **words)
    radios = ipywidgets.RadioButtons(description="radios", **words)
    menu = ipywidgets.Dropdown(description="menu", **words)
    stacks = [stack_of(slider, "value"), *(stack_of(control, "index") for control in (toggles, radios, menu))]
    page = opened(ipywidgets.VBox([play, slider, toggles, radios, menu, *stacks]))

    def shown(*texts: str) -> None:
        page.wait_for_function(
            "texts => [...document.querySelectorAll('.widget-html-content')]"
            ".filter(box => box.checkVisibility()).map(box => box.textContent).join() === texts.join()",
            arg=texts,
        )

    shown("slider 0", "toggles 0", "radios 0", "menu 0")
    page.get_by_role("button", name="two").click()
    shown("slider 0", "toggles 2", "radios 0", "menu 0")
    page.get_by_role("radio", name="three").check()
    page.get_by_label("menu").select_option("one")
    shown("slider 0", "toggles 2", "radios 3", "menu 1")
    page.locator(".widget-play button").first.click()
    shown("slider 3", "toggles 2", "radios 3", "menu 1")


def test_an_output_widget_says_that_it_cannot_be_shown(opened):
    page = opened(ipywidgets.VBox([ipywidgets.Output()]))
    told = "Output widgets can't be shown in this book's pages"
    if not any(told in message for message in page.heard):
        page.wait_for_event("console", lambda message: told in message.text)
