"""Every page in a real Chromium, wide and narrow, light and dark."""

from __future__ import annotations

from pathlib import Path

import axe_playwright_python
import pytest
from pages import HTML, PAGES
from visits import STATE, VIEW, Visit

AXE = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text()
IMPLEMENTATIONS = ("paper", "NVlabs", "transformers", "mmsegmentation", "smp", "lucidrains")  # columns of a table


@pytest.fixture(scope="module", params=[(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")], ids=str)
def screen(request):
    return request.param


@pytest.fixture(params=PAGES)
def visit(request, browser, address, screen):
    visit = Visit(browser, address, request.param, *screen)
    yield visit
    visit.context.close()


def test_a_page_is_sound(visit, screen):
    page = visit.page
    assert page.locator("html").get_attribute("data-theme") == screen[1]
    assert not visit.foreign
    assert not visit.failed
    assert not visit.console
    assert page.evaluate("() => document.documentElement.scrollWidth") <= screen[0]
    assert math_not_set(page) == []
    assert page.locator(f'script[type="{VIEW}"]').count() == page.locator(".widget-subarea > *").count()
    assert violations(page, contrast=screen[0] == 1280) == []


def math_not_set(page):
    """Return the formulas that MathJax left as they were, or could not read."""
    return page.evaluate(
        """() => [...document.querySelectorAll('.bd-article .math, .bd-article mjx-merror')]
            .filter(box => !box.querySelector('mjx-container') || box.matches('mjx-merror') )
            .map(box => box.textContent)"""
    )


def violations(page, contrast=True):
    """Return what axe-core finds, a line a rule and the first element that breaks it.

    Contrast takes most of the time, the words of code one by one, and a page has the same colours at each width.
    """
    page.evaluate(AXE)
    options = {"resultTypes": ["violations"], "rules": {"color-contrast": {"enabled": contrast}}}
    found = page.evaluate("options => axe.run(options).then(result => result.violations)", options)
    return [f"{rule['id']}: {rule['nodes'][0]['html'][:200]}" for rule in found]


def test_math_is_there_to_be_set():
    """The test above can't pass for want of formulas."""
    assert 'class="math notranslate nohighlight"' in (HTML / "book" / "notation.html").read_text()


def pages_with_widgets():
    return [page for page in PAGES if (HTML / page).is_file() and STATE in (HTML / page).read_text()]


SHOWN = """[...document.querySelectorAll('.widget-subarea .widget-html-content')]
    .filter(box => box.offsetParent).map(box => box.innerHTML).join()"""  # pictures and texts of the widgets


def wait_for_change(page, before):
    page.wait_for_function(f"before => {SHOWN} !== before", arg=before)


@pytest.mark.parametrize("name", pages_with_widgets())
def test_widgets_answer_to_keys_without_a_kernel(browser, address, name):
    visit = Visit(browser, address, name, 1280, "light")
    page = visit.page
    handles = page.locator(".widget-subarea .noUi-handle:visible")
    selects = page.locator(".widget-subarea select:visible")
    assert handles.count() + selects.count() > 0
    for index in range(handles.count()):
        assert handles.nth(index).get_attribute("aria-label")
        before = page.evaluate(SHOWN)
        handles.nth(index).press("ArrowRight")
        wait_for_change(page, before)
    for index in range(selects.count()):
        before = page.evaluate(SHOWN)
        selects.nth(index).select_option(index=1)
        wait_for_change(page, before)
    assert not visit.console
    visit.context.close()


def test_widgets_are_there_to_be_moved():
    """The test above can't pass for want of widgets: chapter 3 has one."""
    assert "notebooks/03_efficient_attention.html" in pages_with_widgets()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_widgets_layer_lies_on_its_backdrop(browser, address, theme):
    """Both have the same size; dark mode gives other pictures an edge."""
    visit = Visit(browser, address, "notebooks/03_efficient_attention.html", 1280, theme)
    layer, backdrop = visit.page.evaluate(
        """() => { const images = [...document.querySelectorAll('.layers-photograph img')];
            const image = images.find(image => image.checkVisibility()), box = image.parentElement;
            return [[image.width, image.height], [box.clientWidth, box.clientHeight]]; }"""
    )
    assert layer == backdrop
    visit.context.close()


@pytest.mark.parametrize("page", ["book/index.html", "book/architecture.html"])
def test_the_diagram_can_be_read_on_a_phone(browser, address, page):
    """Its letters are at least 11 pixels high on the smallest of our screens."""
    visit = Visit(browser, address, page, 390, "light")
    smallest = visit.page.evaluate(
        """() => { const svg = [...document.querySelectorAll('.model-diagram')].find(e => e.getClientRects().length);
            const scale = svg.getBoundingClientRect().width / svg.viewBox.baseVal.width;
            const sizes = [...svg.querySelectorAll('text')].map(text => parseFloat(getComputedStyle(text).fontSize));
            return Math.min(...sizes) * scale; }"""
    )
    assert smallest >= 11
    visit.context.close()


@pytest.mark.parametrize(("width", "stacked"), [(390, True), (1280, False)])
def test_a_table_with_many_columns_stacks_its_cells_where_it_does_not_fit(browser, address, width, stacked):
    visit = Visit(browser, address, "book/paper-against-code.html", width, "light")
    row = visit.page.locator("table.stacks tbody tr").first.locator("td")
    lefts = row.evaluate_all("cells => cells.map(cell => cell.getBoundingClientRect().left)")
    names = row.evaluate_all("cells => cells.map(cell => getComputedStyle(cell, '::before').content)")
    assert len(set(lefts)) == (1 if stacked else 6)
    assert names == [f'"{name}"' if stacked else "none" for name in IMPLEMENTATIONS]
    visit.context.close()


def test_a_page_can_be_walked_by_keyboard(browser, address):
    """The first Tab leads to "skip to main content"; the theme's switch and the search answer to keys."""
    visit = Visit(browser, address, "book/notation.html", 1280, "light")
    page = visit.page
    page.keyboard.press("Tab")
    assert page.evaluate("() => document.activeElement.getAttribute('href')") == "#main-content"
    page.locator("button.theme-switch-button:visible").press("Enter")
    assert page.locator("html").get_attribute("data-theme") == "dark"
    page.keyboard.press("Control+k")
    page.keyboard.type("attention")
    page.keyboard.press("Enter")
    page.wait_for_url("**/search.html?q=attention")
    page.wait_for_selector("#search-results li")
    visit.context.close()
