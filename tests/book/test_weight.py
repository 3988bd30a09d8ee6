"""What a first visit to each page loads, and whether its pictures fit their places.

`pytest tests/book/test_weight.py -rP` prints the weight of every page with its heaviest parts.
"""

from __future__ import annotations

import gzip

import pytest
from pages import HTML, PAGES
from visits import Visit

FIRST_PAGE, OTHER_PAGE = 600, 1500  # KB of 1000 bytes, gzipped
SHARP = 2.2  # the most pixels of a picture for one of the screen's, along a side: some screens have two


@pytest.fixture(scope="module", params=PAGES)
def visit(request, browser, address):
    visit = Visit(browser, address, request.param, 1280, "light")
    visit.name = request.param
    yield visit
    visit.context.close()


def weights(visit):
    """Return the KB of each file that the page loaded: gzipped, or as it is where that is less."""
    bodies = {url: answer.body() for url, answer in visit.answers.items() if url.startswith(visit.address)}
    return {
        url.removeprefix(visit.address): min(len(body), len(gzip.compress(body))) / 1000 for url, body in bodies.items()
    }


def test_a_page_is_light(visit):
    parts = weights(visit)
    heaviest = sorted(parts, key=parts.get, reverse=True)[:6]
    told = ", ".join(f"{part} {parts[part]:.0f}" for part in heaviest)
    report = f"{visit.name}: {sum(parts.values()):.0f} KB; the heaviest: {told}"
    print(report)
    assert f"/{visit.name}" in parts
    assert sum(parts.values()) <= (FIRST_PAGE if visit.name == PAGES[0] else OTHER_PAGE), report


def test_icons_come_from_the_books_own_faces(visit):
    """An icon that they lack makes a page load the theme's: name it in tools/vendor.py, and run that."""
    faces = [url for url in visit.answers if "fontawesome/webfonts" in url]
    assert faces == []
    assert any("vendor/icons" in url for url in visit.answers)


def test_pictures_fit_their_places(visit):
    """None has far more pixels than a sharp screen shows, none is blown up; drawn ones and cells to be seen may be."""
    pictures = visit.page.evaluate(
        """() => [...document.images]
            .filter(image => image.checkVisibility() && image.width > 0 && !/\\.svg|image\\/svg/.test(image.src))
            .filter(image => getComputedStyle(image).imageRendering !== 'pixelated')
            .map(image => [image.alt.slice(0, 60), image.width, image.naturalWidth])"""
    )
    assert [picture for picture in pictures if not 1 <= picture[2] / picture[1] <= SHARP] == []


def test_chapters_have_pictures_to_be_fitted():
    """The test above can't pass for want of pictures."""
    assert 'class="segformer-figure"' in (HTML / "notebooks" / "03_efficient_attention.html").read_text()


def test_no_source_map_is_shipped():
    assert [str(path) for path in HTML.rglob("*.map")] == []
    scripts = [path for kind in ("js", "mjs", "css") for path in HTML.rglob(f"*.{kind}")]
    assert len(scripts) > 10
    assert [str(path) for path in scripts if "sourceMappingURL" in path.read_text()] == []
