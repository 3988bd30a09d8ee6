"""The book's diagrams: every word is inside the sheet and its box, and no two rows cover each other."""

from __future__ import annotations

import pytest
from matplotlib.patches import FancyBboxPatch

from segformer_edu.pages.diagrams import (
    WIDTH,
    Box,
    Canvas,
    attention_shapes,
    channel_groups,
    decoder_flow,
    depthwise_and_pointwise,
    encoder_pyramid,
    flow,
    row_strips,
)

BRANCHES = ["x: N × C", (Box("to_q"), Box("to_k"), Box("to_v")), ("q", "k", "v"), Box("softmax", "heads"), "N × C"]
RESIDUAL = ["B, C, H, W", Box("LayerNorm"), Box("attention\nwith heads", "N × N′", kind="strong"), "B, C, H, W"]


def extents(figure):
    """The places of all texts and of all boxes, in pixels."""
    renderer = figure.canvas.get_renderer()
    axis = figure.axes[0]
    texts = {text.get_text(): text.get_window_extent(renderer) for text in axis.texts}
    boxes = [p.get_window_extent(renderer) for p in axis.patches if isinstance(p, FancyBboxPatch)]
    return texts, boxes


@pytest.mark.parametrize(("rows", "sums"), [(BRANCHES, ()), (RESIDUAL, [(0, 2)])])
def test_words_fit_and_rows_stand_apart(rows, sums):
    figure = flow(rows, sums=sums)
    width, height = figure.canvas.get_width_height()
    assert width <= 100 * WIDTH
    texts, boxes = extents(figure)
    assert {"softmax", "heads"} <= set(texts) or "attention\nwith heads" in texts
    for words, place in texts.items():
        assert min(place.x0, place.y0) >= 0, words
        assert place.x1 <= width, words
        assert place.y1 <= height, words
        for box in boxes:  # inside a box or clear of it
            apart = not place.overlaps(box)
            inside = box.x0 <= place.x0 and place.x1 <= box.x1 and box.y0 <= place.y0 and place.y1 <= box.y1
            assert apart or inside, words
    for i, one in enumerate(boxes):
        assert not any(one.overlaps(other) for other in boxes[i + 1 :])


def test_branches_go_straight_into_a_wide_box():
    """Three data, one box: each arrow ends where it began; from data without a box they fan out."""
    lines = [line.get_xdata() for line in flow(BRANCHES).axes[0].lines]
    straight = [a == b for a, b in lines]
    assert straight.count(False) == 2  # from x to to_q and to to_v


@pytest.mark.parametrize("path", [(2, 1), (0, 3), (-1, 2)])
def test_residual_path_leads_downwards(path):
    with pytest.raises(ValueError, match=f"from row {path[0]} to behind row {path[1]} of 4"):
        flow(RESIDUAL, sums=[path])


def test_depthwise_stays_in_its_channel_and_pointwise_does_not():
    figure = depthwise_and_pointwise()
    width, height = figure.canvas.get_width_height()
    assert width <= 100 * WIDTH
    texts, _ = extents(figure)
    for words, place in texts.items():
        assert min(place.x0, place.y0) >= 0, words
        assert place.x1 <= width, words
        assert place.y1 <= height, words
    level = [line.get_ydata()[0] == line.get_ydata()[1] for line in figure.axes[0].lines]
    assert level.count(True) == 6  # three channels, to the filter and from it
    assert level.count(False) == 6  # three channels to two


def test_the_first_channel_is_in_front():
    canvas = Canvas(120, 120)
    canvas.sheets(20, 60, ["#D55E00", "#009E73", "#0072B2"])
    front = max(canvas.axis.patches, key=lambda patch: patch.get_zorder())
    assert front.get_xy() == (20, 60)


@pytest.mark.parametrize("diagram", [channel_groups, row_strips])
def test_words_of_a_drawing_stand_apart_and_inside(diagram):
    figure = diagram()
    width, height = figure.canvas.get_width_height()
    assert width <= 100 * WIDTH
    places = list(extents(figure)[0].values())
    assert places
    assert min(min(place.x0, place.y0) for place in places) >= 0
    assert max(place.x1 for place in places) <= width
    assert max(place.y1 for place in places) <= height
    for i, one in enumerate(places):
        assert not any(one.overlaps(other) for other in places[i + 1 :])


@pytest.mark.parametrize(
    ("figure", "words"),
    [
        (attention_shapes(), {"q: N × d", "k: N′ × d", "shares: N × N′"}),
        (encoder_pyramid((32, 64, 160, 256), (1, 2, 3, 4)), {"160 × H/16 × W/16", "1 block", "4 blocks"}),
        (decoder_flow((32, 64, 160, 256), 128, 19), {"512 → 128", "128 → 19", "64→128"}),
    ],
    ids=["attention", "encoder", "decoder"],
)
def test_diagrams_of_the_parts_name_their_shapes(figure, words):
    texts, _ = extents(figure)
    assert words <= set(texts)
    width, height = figure.canvas.get_width_height()
    assert width <= 100 * WIDTH
    for place in texts.values():
        assert 0 <= place.x0 < place.x1 <= width
        assert 0 <= place.y0 < place.y1 <= height
