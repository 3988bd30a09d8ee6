"""Class maps in files: the numbers that stand there in every format that keeps them, and words for all that do not."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from rasters import pgm, png, tiff, wide_tiff

from segformer_edu.data.labels import VOID, Labels
from segformer_edu.data.maps import read_map

NUMBERS = Labels.of(19)
BLACK, RED, LIME, WHITE = (0, 0, 0), (255, 0, 0), (0, 255, 0), (255, 255, 255)
PAINTED = Labels.of({"bg": BLACK, "a": RED, "b": LIME})


def drawn(count: int) -> np.ndarray:
    """A map (7, 9) with all numbers below ``count`` in it."""
    values = np.random.default_rng(0).integers(0, count, (7, 9))
    values.ravel()[:count] = np.arange(count)
    return values


def read(path, labels: Labels = NUMBERS) -> np.ndarray:
    return labels.translate(read_map(path, labels).values, path)


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_grey_png(tmp_path, bits):
    for count in {2, min(2**bits, 19)}:
        values = drawn(count)
        assert np.array_equal(read(png(tmp_path / "m.png", values, bits)), values)


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16, 32])
def test_grey_tiff(tmp_path, bits):
    values = drawn(min(2**bits, 19))
    assert np.array_equal(read(tiff(tmp_path / "m.tif", values, bits)), values)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_grey_tiff_in_which_0_is_white(tmp_path, bits):
    with pytest.raises(ValueError, match=r"m\.tif is a grey TIFF in which 0 is white, and nothing tells.*as PNG"):
        read(tiff(tmp_path / "m.tif", drawn(2), bits, zero_is_white=True))
    assert np.array_equal(read(tiff(tmp_path / "m.tif", drawn(19), 16, zero_is_white=True)), drawn(19))


@pytest.mark.parametrize("compression", ["raw", "group4", "tiff_lzw"])
def test_one_bit_tiff_in_which_0_is_white(tmp_path, compression):
    """tifffile writes truths so, without a word; Pillow does where it is asked to, and never by itself."""
    values = drawn(2).astype(bool)
    Image.fromarray(values).save(tmp_path / "m.tif", compression=compression, tiffinfo={262: 0})
    with pytest.raises(ValueError, match=r"m\.tif is a grey TIFF in which 0 is white, and nothing tells"):
        read(tmp_path / "m.tif")
    labels = Labels.of({"crack": WHITE, "background": BLACK})  # shades alone count
    assert np.array_equal(read(tmp_path / "m.tif", labels), np.where(values, 0, 1))
    Image.fromarray(values).save(tmp_path / "m.tif", compression=compression)
    assert np.array_equal(read(tmp_path / "m.tif"), values)


@pytest.mark.parametrize("plain", [False, True])
def test_pbm(tmp_path, plain):
    """In a PBM 1 is black: its numbers and its shades are opposite."""
    values = drawn(2)
    text = "\n".join(" ".join(map(str, row)) for row in values.tolist()).encode()
    packed = np.packbits(values.astype(np.uint8), axis=1).tobytes()
    (tmp_path / "m.pbm").write_bytes(b"P%d\n9 7\n" % (1 if plain else 4) + (text if plain else packed))
    with pytest.raises(ValueError, match=r"m\.pbm is a PBM in which 0 is white, and nothing tells.*as PNG"):
        read(tmp_path / "m.pbm")
    assert np.array_equal(read(tmp_path / "m.pbm", Labels.of({"ink": BLACK, "paper": WHITE})), 1 - values)


@pytest.mark.parametrize(("bits", "kind"), [(8, 2), (16, 2), (32, 2), (32, 3)])
def test_numbers_below_0(tmp_path, bits, kind):
    values = drawn(5) - 1
    path = tiff(tmp_path / "m.tif", values, bits, kind=kind)
    assert np.array_equal(read(path, Labels.of(4, void=-1)), np.where(values < 0, VOID, values))
    with pytest.raises(ValueError, match=r"holds \[-1\]"):
        read(path)


@pytest.mark.parametrize("lowest", [-128, -3, -1, 0, 100])
@pytest.mark.parametrize("compression", ["raw", "tiff_lzw"])
def test_tiff_of_signed_bytes(tmp_path, lowest, compression):
    """Pillow gives -1 as 255, which is no class."""
    values = drawn(5) + lowest
    Image.fromarray(values.astype(np.int8).view(np.uint8)).save(
        tmp_path / "m.tif", compression=compression, tiffinfo={339: 2}
    )
    labels = Labels.of({lowest + number: f"class {number}" for number in range(5)})
    assert np.array_equal(read(tmp_path / "m.tif", labels), drawn(5))


@pytest.mark.parametrize(("bits", "channels", "shown"), [(16, 3, 2), (16, 4, 2), (16, 1, 1), (2, 1, 1), (4, 1, 1)])
def test_channels_that_pillow_mixes_up(tmp_path, bits, channels, shown):
    values = np.stack([drawn(3)] * channels, -1)
    with pytest.raises(
        ValueError, match=r"m\.tif is a picture of a kind that is not supported .*which Pillow mixes up"
    ):
        read(wide_tiff(tmp_path / "m.tif", values, bits, planar=2, shown=shown))
    assert np.array_equal(read(wide_tiff(tmp_path / "m.tif", values[..., :1], 8, planar=2, shown=1)), drawn(3))
    assert np.array_equal(read(wide_tiff(tmp_path / "m.tif", values[..., :1], 32, planar=2, shown=1)), drawn(3))
    colours = np.array([BLACK, RED, LIME])[drawn(3)]
    assert np.array_equal(read(wide_tiff(tmp_path / "m.tif", colours, 8, planar=2), PAINTED), drawn(3))


def test_numbers_of_32_bits(tmp_path):
    values = np.where(drawn(5) == 4, 2**32 - 1, drawn(5))
    path = tiff(tmp_path / "m.tif", values, 32)
    assert np.array_equal(read(path, Labels.of(4, void=2**32 - 1)), np.where(values > 4, VOID, values))


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("maximum", [1, 15, 99, 100, 255, 1000, 65535])
def test_pgm_of_any_maximum(tmp_path, maximum, plain):
    values = drawn(min(maximum + 1, 19))
    assert np.array_equal(read(pgm(tmp_path / "m.pgm", values, maximum, plain=plain)), values)


@pytest.mark.parametrize("compression", ["tiff_lzw", "packbits", "group4"])
def test_compressed_tiff(tmp_path, compression):
    values = drawn(2).astype(bool) if compression == "group4" else drawn(19).astype(np.uint8)
    Image.fromarray(values).save(tmp_path / "m.tif", compression=compression)
    assert np.array_equal(read(tmp_path / "m.tif"), values)


@pytest.mark.parametrize("dtype", ["?", "u1", "i1", ">u2", "<i4", ">i8", "u8", "f2", ">f4", "f8"])
def test_array_of_any_type(tmp_path, dtype):
    values = drawn(2 if dtype == "?" else 19).astype(dtype)
    for array in (values, values[..., None], values[None], np.asfortranarray(values)):
        np.save(tmp_path / "m.NPY", array)
        (tmp_path / "m.NPY.npy").rename(tmp_path / "m.NPY")
        assert np.array_equal(read(tmp_path / "m.NPY"), values.astype(int))


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((5, 7, 9)), r"shape \(5, 7, 9\); expected \(H, W\).*array\.argmax\(0\)"),
        (np.zeros((7, 9, 5)), r"shape \(7, 9, 5\)"),
        (np.zeros(9), r"shape \(9,\)"),
        (np.array(3), r"shape \(\)"),
        (np.zeros((0, 9)), r"shape \(0, 9\)"),
        (np.full((7, 9), 0.5), "holds fractions, from 0.5 to 0.5"),
        (np.full((7, 9), np.nan), "holds NaN, infinite or huge numbers"),
        (np.full((7, 9), -np.inf), "holds NaN, infinite or huge numbers"),
        (np.full((7, 9), 1e30), "holds NaN, infinite or huge numbers"),
        (np.full((7, 9, 3), 256), "holds colours from 256 to 256; expected 0 to 255"),
        (np.full((7, 9, 3), -1), "holds colours from -1 to -1"),
        (np.full((7, 9), "a"), "holds no single array of numbers"),
        (np.full((7, 9), 1j), "holds no single array of numbers"),
        (np.full((7, 9), None), "cannot be read as an array .*expected what numpy.save makes"),
    ],
)
def test_array_that_is_no_map(tmp_path, array, message):
    np.save(tmp_path / "m.npy", array, allow_pickle=True)
    with pytest.raises(ValueError, match=rf"m\.npy .*{message}"):
        read(tmp_path / "m.npy", PAINTED if array.shape[-1:] == (3,) else NUMBERS)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (drawn(5) / 5, r"holds fractions, from 0 to 0\.8; expected whole numbers.*multiply them back"),
        (np.where(drawn(5) == 1, np.nan, drawn(5)), "holds NaN, infinite or huge numbers; expected whole numbers"),
    ],
)
def test_tiff_of_fractions(tmp_path, values, message):
    with pytest.raises(ValueError, match=message):
        read(tiff(tmp_path / "m.tif", values, 32, kind=3))
    assert np.array_equal(read(tiff(tmp_path / "m.tif", drawn(5), 32, kind=3)), drawn(5))
    with pytest.raises(ValueError, match=r"numbers that Pillow does not read.*class numbers as PNG or \.npy"):
        read(tiff(tmp_path / "m.tif", values, 64, kind=3))


SMOOTHED = {"m.jpg": {}, "m.webp": {}, "m.jp2": {}, "m.tif": {"compression": "jpeg"}}


@pytest.mark.parametrize("name", SMOOTHED)
@pytest.mark.parametrize("renamed", [False, True])
def test_formats_that_change_numbers(tmp_path, name, renamed):
    path = tmp_path / name
    Image.fromarray(drawn(5).astype(np.uint8)).save(path, **SMOOTHED[name])
    path = path.rename(tmp_path / "m.png") if renamed else path
    with pytest.raises(ValueError, match=rf"{path.name} is in a format, .*, that changes numbers.*such as PNG"):
        read(path)


def test_webp_without_loss(tmp_path):
    Image.fromarray(np.array([[BLACK, RED, LIME]] * 4, np.uint8)).save(tmp_path / "m.webp", lossless=True)
    assert np.array_equal(read(tmp_path / "m.webp", PAINTED), [[0, 1, 2]] * 4)


def palette_picture(values: np.ndarray, palette: list[tuple[int, int, int]]) -> Image.Image:
    picture = Image.new("P", values.shape[::-1])
    picture.putdata(values.ravel().tolist())
    picture.putpalette(np.array(palette, np.uint8).tobytes())
    return picture


@pytest.mark.parametrize("ending", ["png", "bmp", "tif", "gif"])
@pytest.mark.parametrize("count", [2, 4, 16, 19])
def test_palette_of_any_colours(tmp_path, ending, count):
    colours = np.random.default_rng(1).integers(1, 255, (count, 3))
    palette_picture(drawn(count), list(map(tuple, colours))).save(tmp_path / f"m.{ending}")
    assert np.array_equal(read(tmp_path / f"m.{ending}"), drawn(count))


@pytest.mark.parametrize("shades", [[0, 5, 10], [1, 2, 3], [0, 1, 255], [0, 7, 8, 9, 18], [3]])
@pytest.mark.parametrize("ending", ["gif", "png"])
def test_grey_made_small_as_a_palette(tmp_path, shades, ending):
    """Pillow does so with grey GIFs, optimisers do with PNGs: the numbers are the shades."""
    values = np.array(shades, np.uint8)[drawn(len(shades))]
    if ending == "gif":
        Image.fromarray(values).save(tmp_path / "m.gif")
    else:
        palette_picture(drawn(len(shades)), [(shade,) * 3 for shade in shades]).save(tmp_path / "m.png")
    assert np.array_equal(read(tmp_path / f"m.{ending}"), values)


def test_grey_palette_for_the_eye(tmp_path):
    """Black, grey, white: these shades are no classes, so the numbers are."""
    palette_picture(drawn(3), [(0,) * 3, (127,) * 3, (255,) * 3]).save(tmp_path / "m.png")
    assert np.array_equal(read(tmp_path / "m.png"), drawn(3))
    palette_picture(drawn(2), [(0,) * 3, (255,) * 3]).save(tmp_path / "m.png")
    assert np.array_equal(read(tmp_path / "m.png", Labels.of(2)), drawn(2))
    assert np.array_equal(read(tmp_path / "m.png", Labels.of({0: "bg", 255: "crack"})), drawn(2))


@pytest.mark.parametrize("ending", ["png", "tif", "gif"])
@pytest.mark.parametrize("shades", [(255, 0), (254, 1), (255, 127, 0), (255, 0, 127), (127, 0, 255)])
def test_grey_palette_that_a_program_numbered(tmp_path, shades, ending):
    """Pillow's quantize begins with white: what is read is what the file held before it was reduced."""
    values = drawn(len(shades))
    palette_picture(values, [(shade,) * 3 for shade in shades]).save(tmp_path / f"m.{ending}")
    assert np.array_equal(read_map(tmp_path / f"m.{ending}", Labels.of(len(shades))).values, np.array(shades)[values])
    labels = Labels.of({shade: f"class {shade}" for shade in shades}, void=None)
    assert np.array_equal(read(tmp_path / f"m.{ending}", labels), np.argsort(np.argsort(shades))[values])
    with pytest.raises(ValueError, match=r"holds \[.*\]; expected 0 to"):
        read(tmp_path / f"m.{ending}", Labels.of(len(shades), void=None))


@pytest.mark.parametrize("method", [0, 1])
@pytest.mark.parametrize("share", [0, 0.1, 0.9, 1])
def test_black_and_white_reduced_by_pillow(tmp_path, method, share):
    values = np.uint8(255) * (np.random.default_rng(0).random((20, 30)) < share)
    Image.fromarray(values).convert("RGB").quantize(2, method=method).save(tmp_path / "m.png")
    assert np.array_equal(read_map(tmp_path / "m.png", Labels.of(2)).values > 0, values > 0)
    assert np.array_equal(read(tmp_path / "m.png", Labels.of({0: "bg", 255: "crack"})), values > 0)
    assert np.array_equal(read(tmp_path / "m.png", Labels.of({"bg": BLACK, "crack": WHITE})), values > 0)


@pytest.mark.parametrize("number", [0, 1])
def test_black_and_white_palette_of_which_one_is_used(tmp_path, number):
    """A picture that is nothing but crack is read as its neighbours with both are."""
    palette_picture(np.full((7, 9), number), [BLACK, WHITE]).save(tmp_path / "m.png")
    assert set(read(tmp_path / "m.png", Labels.of(2)).ravel()) == {number}
    palette_picture(np.full((7, 9), number), [WHITE, BLACK]).save(tmp_path / "m.png")
    assert set(read_map(tmp_path / "m.png", Labels.of(2)).values.ravel()) == {255 - 255 * number}


def test_palette_that_is_all_black(tmp_path):
    palette_picture(drawn(4), [BLACK] * 4).save(tmp_path / "m.tif")
    assert np.array_equal(read(tmp_path / "m.tif"), drawn(4))


PICTURE = np.array([[BLACK, RED, LIME, LIME, RED]] * 4, np.uint8)
EXPECTED = np.array([[0, 1, 2, 2, 1]] * 4)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "quantised"])
@pytest.mark.parametrize("ending", ["png", "bmp", "tif"])
def test_painted(tmp_path, mode, ending):
    picture = Image.fromarray(PICTURE)
    picture = picture.quantize(8) if mode == "quantised" else picture.convert(mode)
    picture.save(tmp_path / f"m.{ending}")
    assert np.array_equal(read(tmp_path / f"m.{ending}", PAINTED), EXPECTED)


@pytest.mark.parametrize("mode", ["1", "L", "LA"])
def test_painted_in_black_and_white(tmp_path, mode):
    """White is the first class: that 1 stands for it in a file of one bit tells nothing."""
    values = np.array([[0, 255, 255]] * 4, np.uint8)
    Image.fromarray(values).convert(mode).save(tmp_path / "m.png")
    labels = Labels.of({"crack": WHITE, "background": BLACK})
    assert np.array_equal(read(tmp_path / "m.png", labels), [[1, 0, 0]] * 4)


def wide(folder, kind, values):
    """Write colours (H, W, 3) with 16 bits."""
    if kind == "ppm":
        (folder / "m").write_bytes(b"P6\n5 4\n65535\n" + values.astype(">u2").tobytes())
        return folder / "m"
    if kind == "rgba":
        return png(folder / "m", np.concatenate([values, np.full((4, 5, 1), 65535)], -1), 16)
    return png(folder / "m", values, 16) if kind == "png" else wide_tiff(folder / "m", values, 16, order=kind)


@pytest.mark.parametrize("kind", ["png", "rgba", "<", ">", "ppm"])
def test_painted_with_16_bits(tmp_path, kind):
    """Pillow keeps the upper half of each number: all of 0 to 255 would be black."""
    with pytest.raises(ValueError, match=r"m has 16 bits, of which Pillow reads the upper 8.*Save it again with 8"):
        read(wide(tmp_path, kind, PICTURE.astype(int)), PAINTED)
    assert np.array_equal(read(wide(tmp_path, kind, PICTURE.astype(int) * 257), PAINTED), EXPECTED)


def test_numbers_of_16_bits_and_opacity(tmp_path):
    for values in (drawn(5), drawn(5) + 300):
        path = png(tmp_path / "m.png", np.stack([values, np.full((7, 9), 65535)], -1), 16)
        with pytest.raises(ValueError, match=r"m\.png has 16 bits, of which Pillow reads the upper 8"):
            read(path, Labels.of(400, void=None))


def test_array_painted(tmp_path):
    np.save(tmp_path / "m.npy", PICTURE.astype(np.int64))
    assert np.array_equal(read(tmp_path / "m.npy", PAINTED), EXPECTED)


@pytest.mark.parametrize(("name", "colours"), [
    ("voc", {0: BLACK, 1: (128, 0, 0), 20: (0, 64, 128), VOID: (224, 224, 192)}),
    ("cityscapes", {0: (128, 64, 128), 18: (119, 11, 32), VOID: BLACK}),
    ("camvid32", {0: (64, 128, 64), 17: (128, 64, 128), 30: (64, 192, 0), VOID: BLACK}),
    ("ade20k", {0: (120, 120, 120), 2: (6, 230, 230), 149: (92, 0, 255), VOID: BLACK}),
])  # fmt: skip
def test_painted_as_a_known_data_set(tmp_path, name, colours):
    values = np.array([list(colours.values())] * 3, np.uint8)
    for picture in (Image.fromarray(values), Image.fromarray(values).quantize(16)):
        picture.save(tmp_path / "m.png")
        assert np.array_equal(read(tmp_path / "m.png", Labels.of(name)), [list(colours)] * 3)


def test_palette_of_another_data_set_tells_nothing(tmp_path):
    """labelme draws every data set in VOC's colours."""
    palette_picture(drawn(4), [BLACK, (128, 0, 0), (0, 128, 0), (128, 128, 0)]).save(tmp_path / "m.png")
    for name in ("cityscapes", "voc", "camvid32"):
        assert np.array_equal(read(tmp_path / "m.png", Labels.of(name)), drawn(4))


def test_palette_of_grey_numbers_and_known_colours(tmp_path):
    """(120, 120, 120) is ADE20K's wall, and number 120 the shower."""
    palette_picture(np.full((7, 9), 120), [(shade,) * 3 for shade in range(256)]).save(tmp_path / "m.png")
    assert set(read(tmp_path / "m.png", Labels.of("ade20k")).ravel()) == {120}


def test_quantised_with_an_unknown_colour(tmp_path):
    values = np.array([[BLACK, RED, (9, 9, 9), WHITE]] * 4, np.uint8)
    Image.fromarray(values).quantize(8).save(tmp_path / "m.png")
    with pytest.raises(ValueError, match=r"holds the colours \[\(9, 9, 9\), \(255, 255, 255\)\], which stand for no"):
        read(tmp_path / "m.png", PAINTED)


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_opacity(tmp_path, mode):
    picture = Image.fromarray(drawn(5).astype(np.uint8)).convert(mode)
    picture.save(tmp_path / "m.png")
    values = read_map(tmp_path / "m.png", NUMBERS).values
    assert np.array_equal(values if mode == "LA" else values[..., 1], drawn(5))
    picture.putpixel((0, 0), (0,) * (len(mode) - 1) + (254,))
    picture.save(tmp_path / "m.png")
    with pytest.raises(ValueError, match=rf"m\.png has {len(mode)} channels \({mode}\); expected one.*opaque"):
        read(tmp_path / "m.png")


@pytest.mark.parametrize("mode", ["CMYK", "LAB"])
def test_colours_of_other_kinds(tmp_path, mode):
    Image.new(mode, (9, 7)).save(tmp_path / "m.tif")
    with pytest.raises(ValueError, match=rf"m\.tif has {len(mode)} channels \({mode}\)"):
        read(tmp_path / "m.tif", PAINTED)


@pytest.mark.parametrize("ending", ["gif", "tif", "png"])
def test_several_maps_in_a_file(tmp_path, ending):
    first, second = (Image.fromarray(np.full((7, 9), number, np.uint8)) for number in (1, 2))
    first.save(tmp_path / f"m.{ending}")
    assert not read_map(tmp_path / f"m.{ending}", NUMBERS).several
    first.save(tmp_path / f"m.{ending}", save_all=True, append_images=[second])
    assert read_map(tmp_path / f"m.{ending}", NUMBERS).several


@pytest.mark.parametrize("name", ["m.png", "m.npy"])
def test_nothing_there(tmp_path, name):
    with pytest.raises(FileNotFoundError, match=rf"{name}; check the name and the folder"):
        read(tmp_path / name)
    (tmp_path / name).mkdir()
    with pytest.raises(ValueError, match=name):
        read(tmp_path / name)
