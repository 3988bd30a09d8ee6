"""The book's figures: what they show, and the alt text that travels along."""

from __future__ import annotations

import base64
import html
import io
import itertools
import re
from unittest.mock import Mock

import matplotlib as mpl
import numpy as np
import pytest
import torch
from PIL import Image
from samples import noise

from segformer_edu.data import photograph
from segformer_edu.pages import plots
from segformer_edu.training import History

# Linear RGB as a reader without one kind of cone sees it: Machado et al. 2009, severity 1.0.
BLINDNESS = {
    "none": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


@pytest.fixture
def shown(monkeypatch):
    """The HTML that was displayed, piece by piece."""
    pieces = []
    monkeypatch.setattr(plots, "display", lambda html, **_: pieces.append(html.data))
    return pieces


def lab(colour: str, blindness: str) -> np.ndarray:
    """CIELAB of a colour as a reader with that kind of blindness sees it."""
    rgb = np.array(mpl.colors.to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = (np.array(BLINDNESS[blindness]) @ linear).clip(0, 1)
    x, y, z = np.cbrt(np.maximum(TO_XYZ @ seen / (TO_XYZ @ np.ones(3)), 1e-9))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def picture_of(text: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(re.search(r"data:image/webp;base64,([^\"]+)", text).group(1))))


@pytest.mark.parametrize("blindness", BLINDNESS)
def test_colours_stay_apart(blindness):
    """A difference of 2.3 is just noticeable; neighbours in a figure need several times that."""
    for one, other in itertools.combinations(plots.PALETTE, 2):
        assert np.linalg.norm(lab(one, blindness) - lab(other, blindness)) > 9, (one, other)


def test_lines_differ_in_marker_as_well_as_colour():
    assert len(set(plots.MARKERS)) == len(plots.MARKERS) == len(plots.LINES) == len(set(plots.LINES))


def test_axes_are_always_a_grid():
    assert plots.figure()[1].shape == (1, 1)
    assert plots.figure(2, 3)[1].shape == (2, 3)


@pytest.mark.parametrize("alt", ["", "   ", "\n"])
def test_figure_without_alt_text_is_refused(alt, shown):
    with pytest.raises(ValueError, match="alt is empty; expected a sentence"):
        plots.show(plots.figure()[0], alt=alt)
    assert shown == []


def test_figure_is_one_image_with_its_alt_text(shown):
    alt = 'a < b, "c" & d'
    plots.show(plots.figure(width=5, height=2)[0], alt=alt)
    (text,) = shown
    assert text.count("<img") == 1
    assert html.unescape(re.search(r'alt="([^"]*)"', text).group(1)) == alt
    assert 'width="500" height="200"' in text
    picture = picture_of(text)
    assert picture.format == "WEBP"
    assert picture.width / picture.height == pytest.approx(2.5, rel=0.01)
    assert picture.width >= 500


def test_flat_colours_are_kept_without_loss_and_photographs_are_made_small():
    """The form is written in a WebP's 13th to 16th byte: VP8L without loss, VP8 with."""
    flat = plots.encoded(plots.images([noise(16, 16)]))
    photo = plots.encoded(plots.images([photograph(160, 160)[0]]))
    assert (flat[12:16], photo[12:16]) == (b"VP8L", b"VP8 ")
    assert len(flat) < len(photo) < 100_000


def test_caption_stands_under_the_figure_as_text(shown):
    plots.show(plots.figure()[0], alt="A curve.", caption="R² < 0.5 & falling")
    assert re.search(
        r"<figure[^>]*><img[^>]*><figcaption[^>]*>R² &lt; 0.5 &amp; falling</figcaption></figure>$", shown[0]
    )


def test_figure_has_the_pixels_that_a_sharp_screen_shows():
    with Image.open(io.BytesIO(plots.encoded(plots.figure(width=5, height=2)[0]))) as picture:
        assert picture.size == (900, 360)


def test_live_curve_is_drawn_in_its_own_place(monkeypatch):
    handle = Mock()
    first = Mock(return_value=handle)
    monkeypatch.setattr(plots, "display", first)
    curve = plots.LiveCurve(seconds=0)
    curve(History(steps=9))
    curve(History([2.0], steps=9))
    curve(History([2.0, 1.0], {2: 0.25}, steps=9))
    assert first.call_count == 1
    (picture,) = handle.update.call_args.args
    assert "over 2 steps, from 2.00" in picture.data
    assert "validation mIoU 0.25 after 2 steps" in picture.data


def test_live_curve_waits_between_two_drawings(monkeypatch):
    handle = Mock()
    monkeypatch.setattr(plots, "display", Mock(return_value=handle))
    curve = plots.LiveCurve(seconds=3600)
    for steps in range(1, 6):
        curve(History([1.0] * steps, steps=6))
    assert handle.update.call_count == 0
    curve(History([1.0] * 6, steps=6))
    assert handle.update.call_count == 1


def test_table_names_rows_and_columns(shown):
    plots.table(["layer", "weights", "share"], [["a<b", 12345, 0.123456], ["c", True, "x&y"]], caption="Two & two")
    (text,) = shown
    assert re.findall(r'<th scope="col">(.*?)</th>', text) == ["layer", "weights", "share"]
    assert re.findall(r'<th scope="row"[^>]*>(.*?)</th>', text) == ["a&lt;b", "c"]
    assert re.findall(r'<td style="text-align: (\w+)">(.*?)</td>', text) == [
        ("right", "12,345"),
        ("right", "0.1235"),
        ("left", "True"),
        ("left", "x&amp;y"),
    ]
    assert "<caption>Two &amp; two</caption>" in text


def test_tensors_become_pictures():
    colour = noise(3, 4, 5)
    np.testing.assert_array_equal(plots.as_picture(colour), colour.permute(1, 2, 0).clip(0, 1).numpy())
    np.testing.assert_array_equal(plots.as_picture(noise(1, 4, 5)), noise(1, 4, 5)[0].numpy())
    np.testing.assert_array_equal(plots.as_picture(noise(4, 5)), noise(4, 5).numpy())
    with_gradient = noise(4, 5).requires_grad_()
    np.testing.assert_array_equal(plots.as_picture(with_gradient), noise(4, 5).numpy())
    array = np.full((4, 5, 3), 0.5)
    np.testing.assert_array_equal(plots.as_picture(array), array)


def test_pictures_lie_in_a_grid():
    made = plots.images([noise(3, 8, 8), noise(1, 8, 8), noise(8, 8)], ["a", "b", "c"], columns=2)
    titles = [axis.get_title() for axis in made.axes]
    assert titles == ["a", "b", "c", ""]
    drawn = [axis.get_images()[0].get_array() for axis in made.axes[:3]]
    assert [picture.shape for picture in drawn] == [(8, 8, 3), (8, 8), (8, 8)]


def test_pictures_share_limits_and_show_them():
    made = plots.images([noise(8, 8), 3 * noise(8, 8)], limits=(-1, 2), bar=True)
    assert {axis.get_images()[0].get_clim() for axis in made.axes if axis.get_images()} == {(-1, 2)}
    assert len(made.axes) == 4  # two pictures, two bars


def test_lines_carry_names_units_and_scales():
    made = plots.lines({"ours": ([1, 2, 4], [1, 10, 100]), "theirs": ([1, 2, 4], [2, 3, 4])}, x_label="pixels",
                       y_label="seconds", log="xy")  # fmt: skip
    (axis,) = made.axes
    assert (axis.get_xlabel(), axis.get_ylabel(), axis.get_xscale(), axis.get_yscale()) == (
        "pixels", "seconds", "log", "log",
    )  # fmt: skip
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["ours", "theirs"]
    ours, theirs = axis.lines
    np.testing.assert_array_equal(ours.get_xydata(), [[1, 1], [2, 10], [4, 100]])
    assert ours.get_marker() != theirs.get_marker()
    assert ours.get_color() != theirs.get_color()


def test_bars_write_their_values():
    made = plots.bars({"dense": 12345.0, "separable": 7.0}, label="weights", form="{:,.0f}")
    (axis,) = made.axes
    assert [text.get_text() for text in axis.texts] == ["12,345", "7"]
    assert [bar.get_width() for bar in axis.patches] == [12345, 7]
    assert axis.get_xlabel() == "weights"
    assert axis.yaxis_inverted()  # the first on top


def test_painted_classes_and_void():
    mask = torch.tensor([[0, 1], [255, 0]])
    painted = plots.paint(mask, ["#FF0000", "#00FF00"], void="#0000FF")
    np.testing.assert_array_equal(painted, [[[1, 0, 0], [0, 1, 0]], [[0, 0, 1], [1, 0, 0]]])


def test_segmentations_are_painted_beside_their_pictures():
    columns = {"image": [noise(3, 6, 8)] * 2, "truth": [torch.zeros(6, 8, dtype=torch.long)] * 2}
    made = plots.segmentations(columns, classes=["sky", "road"], colours=["#FF0000", "#00FF00"])
    assert [axis.get_title() for axis in made.axes] == ["image", "truth", "", ""]
    assert [text.get_text() for text in made.legends[0].get_texts()] == ["sky", "road"]
    truth = made.axes[1].get_images()[0].get_array()
    np.testing.assert_array_equal(np.unique(truth.reshape(-1, 3), axis=0), [[1, 0, 0]])


def test_confusion_shows_each_rows_shares():
    made = plots.confusion(torch.tensor([[3, 1, 0], [0, 0, 0], [1, 1, 2]]), ["sky", "road", "pole"])
    axis = made.axes[0]
    assert [text.get_text() for text in axis.texts] == ["0.75", "0.25", "0.00", "0.25", "0.25", "0.50"]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["sky", "road", "pole"]
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("predicted", "true")
    assert np.isnan(axis.get_images()[0].get_array().filled(np.nan)[1]).all()


def test_principal_colours_follow_what_varies_most():
    """Two regions that differ in one strong direction get the two ends of red; a common offset changes nothing."""
    features = 0.01 * noise(1, 5, 8, 8)
    features[:, 2, :, 4:] += 1
    colours = plots.principal_colours(features)
    assert colours.shape == (3, 8, 8)
    left, right = colours[0, :, :4].mean(), colours[0, :, 4:].mean()
    assert abs(left - right) > 0.9
    torch.testing.assert_close(plots.principal_colours(features + 3), colours, rtol=0, atol=1e-3)


def test_categories_show_single_cells_as_dots():
    grid = np.zeros((30, 40), dtype=int)
    grid[2, 5], grid[7, 1], grid[10:20] = 2, 2, 1
    made = plots.categories(
        grid, range(40), range(100, 130), names=["a", "b", "c"], dots={2: (plots.BLUE, "o")}, x_label="w", y_label="h"
    )
    (axis,) = made.axes
    np.testing.assert_array_equal(axis.lines[0].get_xydata(), [[5, 102], [1, 107]])
    painted = axis.get_images()[0].get_array()
    assert painted[15, 0, 0] < painted[0, 0, 0] - 0.3  # the later category is darker
    np.testing.assert_array_equal(painted[2, 5], painted[0, 0])  # below a dot, the first shade
    assert [text.get_text() for text in made.legends[0].get_texts()] == ["a", "b", "c"]


def test_dots_show_every_value_and_the_mean():
    _, axes = plots.figure()
    plots.draw_dots(axes[0, 0], {"one": [0.0, 1.0, 5.0], "two": [3.0, 3.0, 3.0]}, label="score")
    assert [dots.get_offsets()[:, 0].tolist() for dots in axes[0, 0].collections if len(dots.get_offsets()) == 3] == [
        [0.0, 1.0, 5.0],
        [3.0, 3.0, 3.0],
    ]
    means = [
        line.get_xdata()[0] for line in axes[0, 0].lines if line.get_marker() == "|" and line.get_markersize() == 10
    ]
    assert means == [2.0, 3.0]
    assert [text.get_text() for text in axes[0, 0].get_yticklabels()] == ["one", "two"]


REGIONS = ("wall", "flag", "person", "ship")


@pytest.fixture
def regions():
    """60×80: a wall, left a flag, in it a person at rows 10 to 29 and columns 5 to 24; a pixel of a ship, some void."""
    mask = torch.zeros(60, 80, dtype=torch.int64)
    mask[:, :40] = 1
    mask[10:30, 5:25] = 2
    mask[0, 79] = 3
    mask[59, 40:] = 255
    return mask


def test_shares_are_counted_largest_first(regions):
    found = plots.shares(regions, REGIONS)
    total = 60 * 80
    assert list(found) == ["wall", "flag", "person", "ship"]
    assert found == pytest.approx(
        {"wall": 2359 / total, "flag": 2000 / total, "person": 400 / total, "ship": 1 / total}
    )
    assert sum(found.values()) == pytest.approx(1 - 40 / total)
    assert plots.shares(regions.numpy(), REGIONS) == found
    assert plots.shares(torch.full((4, 4), 255), REGIONS) == {}


def test_shares_as_words():
    found = {"wall": 0.612, "flag": 0.2, "person": 0.0995, "ship": 0.0123, "car": 0.0004}
    assert plots.list_shares(found) == "wall 61 %, flag 20 %, person 10 %, ship 1.2 %, car below 0.1 %"
    assert plots.list_shares(found, most=3) == "wall 61 %, flag 20 %, person 10 %, and 2 other classes 1.3 %"
    assert plots.list_shares(found, most=4).endswith(", and 1 other class below 0.1 %")


def test_number_stands_in_the_middle_of_its_region(regions):
    assert plots.innermost(regions == 2)[0] in (19, 20)
    assert plots.innermost(regions == 2)[1] in (14, 15)
    row, column, depth = plots.innermost(regions == 0)
    assert (depth, column, 15 <= row <= 43) == (20, 59, True)
    ring = torch.ones(31, 31, dtype=torch.bool)
    ring[3:28, 3:28] = False
    row, column, depth = plots.innermost(ring)
    assert ring[row, column]
    assert depth == 2


def test_class_map_over_its_picture(regions):
    colours = ["#888888", "#0000FF", "#FF0000", "#00FF00"]
    drawn = plots.laid_over(np.full((60, 80, 3), 0.5), regions.numpy(), colours, opacity=0.6)
    assert drawn[20, 15].tolist() == pytest.approx([0.8, 0.2, 0.2])
    assert drawn[5, 15].tolist() == pytest.approx([0.2, 0.2, 0.8])
    for row, column in ((9, 15), (29, 15), (20, 4), (20, 24), (40, 39)):
        assert drawn[row, column].max() <= 0.1, "a line where two classes meet"


def test_overlay_numbers_what_its_legend_names(regions):
    figure = plots.overlay(noise(3, 60, 80).abs(), regions, classes=REGIONS, colours=["#888888"] * 4)
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [
        "1  wall  49 %", "2  flag  42 %", "3  person  8.3 %", "4  ship  below 0.1 %",
    ]  # fmt: skip
    numbers = {text.get_text(): text.get_position() for text in figure.axes[0].texts}
    assert set(numbers) == {"1", "2", "3"}, "the ship is too small for a number"
    for number, (x, y) in numbers.items():
        assert regions[int(y), int(x)] == int(number) - 1


def test_overlay_counts_what_its_legend_leaves_out():
    mask = torch.arange(400).view(20, 20)
    names = [f"class {i}" for i in range(400)]
    figure = plots.overlay(torch.rand(3, 20, 20), mask, classes=names, colours=["#123456"] * 400, most=5)
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert len(texts) == 6
    assert texts[-1] == "and 395 more"


@pytest.mark.parametrize("size", [(1400, 1000), (40, 3000)])
def test_overlay_of_a_large_picture_is_small(size):
    mask = torch.zeros(size, dtype=torch.uint8)
    mask[:, size[1] // 2 :] = 1
    figure = plots.overlay(np.zeros((*size, 3)), mask, classes=REGIONS, colours=["#888888"] * 4)
    assert max(figure.axes[0].images[0].get_array().shape) <= 720
    assert len(figure.axes[0].texts) == (2 if size[0] > 40 else 0)
    plots.encoded(figure)


def test_overlay_wants_one_size(regions):
    with pytest.raises(ValueError, match=r"class map is \(60, 80\), its picture \(60, 79\)"):
        plots.overlay(torch.zeros(3, 60, 79), regions, classes=REGIONS, colours=["#888888"] * 4)


def test_contact_sheet_shows_pictures_their_maps_and_a_legend():
    torch.manual_seed(0)
    map_of_two = torch.zeros(40, 60, dtype=torch.int64)
    map_of_two[20:] = 2
    map_of_two[:, :5] = 255
    pairs = {
        "images/a$1$.png": (torch.rand(3, 40, 60), map_of_two),
        "images/b.png": (torch.rand(1, 800, 30), torch.zeros(800, 30, dtype=torch.int64)),
        "a very long name of a folder/c.png": (torch.rand(5, 32, 32), torch.full((32, 32), -100)),
    }
    colours = ["#112233", "#445566", "#778899"]
    made = plots.contact_sheet(pairs, classes=["ground", "sky", "7 $ crack $"], colours=colours)
    axes = np.array(made.axes).reshape(2, 4)
    drawn = [[axis.get_images()[0].get_array() for axis in pair if axis.get_images()] for pair in axes.reshape(4, 2)]
    assert [len(pair) for pair in drawn] == [2, 2, 2, 0]
    assert torch.equal(torch.as_tensor(drawn[0][0]), pairs["images/a$1$.png"][0].permute(1, 2, 0))
    right = (drawn[0][1] * 255).round().astype(int)
    assert right[0, 30].tolist() == [0x11, 0x22, 0x33]
    assert right[30, 30].tolist() == [0x77, 0x88, 0x99]
    assert right[30, 2].tolist() == [0, 0, 0]
    assert max(drawn[1][0].shape) <= 360
    assert drawn[2][0].shape == (32, 32, 3)
    assert not drawn[2][1].any()  # -100 is no class
    assert [text.get_text() for text in axes[0, 1].texts] == ["0", "2"]
    assert axes[0, 0].get_title(loc="left") == r"images/a\$1\$.png"
    assert axes[1, 0].get_title(loc="left") == f"…{'a very long name of a folder/c.png'[-29:]}"
    legend = [text.get_text() for text in made.legends[0].get_texts()]
    assert legend == ["0  ground", r"2  7 \$ crack \$", "no class"]
    plots.encoded(made)  # and it can be drawn


def test_contact_sheet_counts_what_the_legend_has_no_room_for():
    mask = torch.arange(40 * 40).reshape(40, 40) % 30
    names, colours = [f"name {n}" for n in range(30)], ["#123456"] * 30
    made = plots.contact_sheet({"a": (torch.rand(3, 40, 40), mask)}, classes=names, colours=colours, most=5)
    legend = [text.get_text() for text in made.legends[0].get_texts()]
    assert legend == [*(f"{n}  name {n}" for n in range(5)), "and 25 more"]
