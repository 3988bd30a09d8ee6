"""A photograph of a reader: every mode that Pillow writes, whichever way up, with any number of channels."""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import pytest
import torch
from PIL import Image
from rasters import pgm, png, tiff, wide_tiff

from segformer_edu.data import Shapes, normalize, statistics
from segformer_edu.data.files import open_picture
from segformer_edu.data.pictures import as_image, to_tensor


@pytest.fixture
def array():
    return np.random.default_rng(0).integers(0, 256, (45, 70, 3), dtype=np.uint8)


def colours(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(array.astype(np.float32) / 255).permute(2, 0, 1)


def read(path, picture: Image.Image, **options: object) -> torch.Tensor:
    picture.save(path, **options)
    return to_tensor(open_picture(path))


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.bmp", "a.webp"])
def test_colour_in_every_format(tmp_path, array, name):
    options = {"lossless": True} if name == "a.webp" else {}
    torch.testing.assert_close(read(tmp_path / name, Image.fromarray(array), **options), colours(array))


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.jpg"])
def test_grey(tmp_path, array, name):
    got = read(tmp_path / name, Image.fromarray(array[..., 0]), **({"quality": 100} if name == "a.jpg" else {}))
    expected = colours(array[..., :1]).expand(3, -1, -1)
    torch.testing.assert_close(got, expected, atol=0.02 if name == "a.jpg" else 1e-6, rtol=0)


def test_one_bit(tmp_path, array):
    truths = array[..., 0] > 127
    got = read(tmp_path / "a.png", Image.fromarray(truths))
    assert open_picture(tmp_path / "a.png").mode == "1"
    assert torch.equal(got[1], torch.from_numpy(truths).float())


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_sixteen_bits_of_grey(tmp_path, name):
    sixteen = np.random.default_rng(0).integers(0, 65536, (45, 70), dtype=np.uint16)
    got = read(tmp_path / name, Image.fromarray(sixteen))
    torch.testing.assert_close(got[0], torch.from_numpy(sixteen.astype(np.float32) / 65535))
    assert got.shape == (3, 45, 70)


def test_sixteen_bits_the_other_way_round(tmp_path):
    sixteen = np.arange(32 * 40, dtype=np.uint16).reshape(32, 40) * 50
    got = to_tensor(Image.frombytes("I;16B", (40, 32), sixteen.astype(">u2").tobytes()))
    torch.testing.assert_close(got[2], torch.from_numpy(sixteen.astype(np.float32) / 65535))


def test_fractions_of_grey(tmp_path):
    values = np.linspace(0, 1, 45 * 70, dtype=np.float32).reshape(45, 70)
    torch.testing.assert_close(read(tmp_path / "a.tif", Image.fromarray(values))[0], torch.from_numpy(values))


@pytest.mark.parametrize("values", [np.full((32, 32), 70_000, np.int32), np.full((32, 32), 200, np.float32)])
def test_grey_beyond_its_range(values):
    with pytest.raises(ValueError, match=r"mode [IF]\) holds numbers that are no 16 bits of grey, nor fractions"):
        to_tensor(Image.fromarray(values))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "RGBa"])
def test_what_is_transparent_lies_over_white(array, mode):
    picture = Image.fromarray(array).convert("L").convert("RGBA" if mode != "LA" else "LA")
    picture.putalpha(Image.fromarray(np.repeat(np.array([[0], [51], [255]], np.uint8), 15, 0).repeat(70, 1)))
    grey = colours(np.array(Image.fromarray(array).convert("L"))[..., None])[0]
    got = to_tensor(picture.convert(mode) if mode != "PA" else picture.convert("P").convert("PA"))
    if mode == "PA":  # Pillow drops the opacity on its way to a palette
        assert got.shape == (3, 45, 70)
        return
    torch.testing.assert_close(got[0, :15], torch.ones(15, 70))
    torch.testing.assert_close(got[0, 15:30], 0.2 * grey[15:30] + 0.8, atol=0.02, rtol=0)
    torch.testing.assert_close(got[0, 30:], grey[30:], atol=0.01, rtol=0)


def test_palette(tmp_path, array):
    picture = Image.fromarray(array).quantize(16)
    assert torch.equal(read(tmp_path / "a.png", picture), colours(np.array(picture.convert("RGB"))))
    clear = picture.getpixel((3, 4))
    got = read(tmp_path / "b.png", picture, transparency=clear)
    assert torch.equal(got[:, 4, 3], torch.ones(3))
    assert torch.equal(got == 1, (got == 1) | torch.from_numpy(np.array(picture) == clear))


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr"])
def test_inks_and_television_colours(tmp_path, mode):
    flat = np.full((32, 48, 3), (200, 60, 120), np.uint8)
    got = read(tmp_path / "a.jpg", Image.fromarray(flat).convert(mode), quality=100)
    torch.testing.assert_close(got, colours(flat), atol=0.02, rtol=0)


def test_mode_without_red_green_and_blue():
    with pytest.raises(ValueError, match="mode La has no red, green and blue"):
        to_tensor(Image.new("La", (32, 32)))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_right_way_up(tmp_path, orientation):
    """A camera held sideways stores the picture as it lies, and says so: a white corner must come out upper left."""
    upright = np.zeros((40, 60, 3), np.uint8)
    upright[:20, :30] = 255
    turned = {
        1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1], 5: upright.transpose(1, 0, 2),
        6: np.rot90(upright), 7: upright[::-1, ::-1].transpose(1, 0, 2), 8: np.rot90(upright, -1),
    }  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    got = read(tmp_path / "a.jpg", Image.fromarray(np.ascontiguousarray(turned[orientation])), exif=exif, quality=95)
    torch.testing.assert_close(got, colours(upright), atol=0.1, rtol=0)


@pytest.mark.parametrize("name", ["a.gif", "a.png", "a.webp", "a.tif"])
def test_animation_shows_its_first_picture(tmp_path, name):
    first, second = (Image.new("RGB", (40, 32), colour) for colour in ("red", "blue"))
    first.save(tmp_path / name, save_all=True, append_images=[second])
    with pytest.warns(UserWarning, match="several pages") if name == "a.tif" else nullcontext():
        got = as_image(tmp_path / name)
    assert Image.open(tmp_path / name).n_frames == 2
    torch.testing.assert_close(got[:, 5, 5], torch.tensor([1.0, 0.0, 0.0]), atol=0.02, rtol=0)


@pytest.mark.parametrize("mode", ["L", "RGB", "I;16"])
def test_pages_of_a_tiff_are_warned_of(tmp_path, mode, recwarn):
    """A channel may be a page; an animation is known to show its first picture."""
    first, second = (Image.new(mode, (40, 32), 200 if mode == "L" else None) for _ in range(2))
    for path in (tmp_path / "a.gif", tmp_path / "a.png", tmp_path / "a.tif"):
        if path.suffix == ".tif" or mode != "I;16":
            first.save(path)
            as_image(path)
    if mode != "I;16":
        second.putpixel((0, 0), 9)
        first.save(tmp_path / "a.gif", save_all=True, append_images=[second])
        as_image(tmp_path / "a.gif")
    assert len(recwarn) == 0
    first.save(tmp_path / "a.tif", save_all=True, append_images=[second])
    for channels in (1, 3, len(first.getbands())):
        with pytest.warns(UserWarning, match=r"TIFF holds several pages; the first one is taken\. .*tifffile"):
            as_image(tmp_path / "a.tif", channels)


@pytest.mark.parametrize("lowest", [-128, -1])
def test_grey_below_0(tmp_path, lowest):
    values = np.full((32, 40), lowest, np.int8)
    Image.fromarray(values.view(np.uint8)).save(tmp_path / "a.tif", tiffinfo={339: 2})
    for source in (tmp_path / "a.tif", Image.open(tmp_path / "a.tif")):
        for channels in (1, 3):
            with pytest.raises(ValueError, match="holds numbers below 0; expected grey from 0 up"):
                as_image(source, channels)
    Image.fromarray((-1 - values).view(np.uint8)).save(tmp_path / "a.tif", tiffinfo={339: 2})
    assert as_image(tmp_path / "a.tif").max() <= 0.5


@pytest.mark.parametrize(
    ("bits", "channels", "order", "shown", "kind"),
    [
        (16, 3, "<", 2, 1), (16, 3, ">", 2, 1), (16, 4, "<", 2, 1), (16, 4, ">", 5, 1), (16, 1, "<", 1, 1),
        (4, 1, "<", 1, 1), (8, 1, "<", 0, 1), (1, 1, "<", 0, 1), (32, 1, ">", 1, 3),
    ],
)  # fmt: skip
def test_channels_one_after_the_other(tmp_path, bits, channels, order, shown, kind):
    """Pillow takes the letters of RGB;16L for the formats of the channels: what it shows of them is rubbish."""
    values = np.random.default_rng(0).integers(0, 2 if kind == 3 else 2**bits, (32, 40, channels))
    path = wide_tiff(tmp_path / "a.tif", values, bits, planar=2, kind=kind, order=order, shown=shown)
    for take in (as_image, open_picture):
        with pytest.raises(ValueError, match=r"a\.tif is a picture of a kind .*\(a TIFF whose channels lie one after"):
            take(path)
    if bits * channels in (8, 48, 64) or kind == 3:  # of the others Pillow itself says something
        with pytest.raises(ValueError, match=r"The picture is a TIFF whose channels .*; read it with tifffile"):
            to_tensor(Image.open(path))


@pytest.mark.parametrize("order", ["<", ">"])
def test_channels_one_after_the_other_that_pillow_reads(tmp_path, order):
    for channels, shown in {1: 1, 3: 2}.items():
        values = np.random.default_rng(0).integers(0, 256, (32, 40, channels))
        path = wide_tiff(tmp_path / "a.tif", values, 8, planar=2, order=order, shown=shown)
        torch.testing.assert_close(as_image(path, channels), colours(values))
    values = np.random.default_rng(0).random((32, 40, 1))
    path = wide_tiff(tmp_path / "a.tif", values, 32, planar=2, kind=3, shown=1)
    torch.testing.assert_close(as_image(path, 1), torch.from_numpy(values[None, ..., 0]).float())


@pytest.mark.parametrize("dtype", [">u2", "<u2", ">f4", ">f8", "<f8", ">f2"])
def test_array_of_either_byte_order(tmp_path, dtype):
    values = np.random.default_rng(0).random((45, 70, 3))
    array = (values * (65535 if "u" in dtype else 1)).astype(dtype)
    np.save(tmp_path / "a.npy", array)
    for source in (array, tmp_path / "a.npy"):
        torch.testing.assert_close(
            as_image(source), torch.from_numpy(values).permute(2, 0, 1).float(), atol=1e-3, rtol=0
        )


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "CMYK"])
def test_any_number_of_channels(tmp_path, mode, channels):
    depth = len(mode)
    values = np.random.default_rng(0).integers(0, 256, (45, 70, depth), dtype=np.uint8)
    bands = [Image.fromarray(np.ascontiguousarray(values[..., band])) for band in range(depth)]
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    Image.merge(mode, bands).save(path)
    if channels in (1, 3):
        assert as_image(path, channels).shape == (channels, 45, 70)
    elif channels == depth:
        torch.testing.assert_close(as_image(path, channels), colours(values))
    else:
        with pytest.raises(ValueError, match=rf"The picture has {depth} channels \({mode[0]}.*\); expected {channels}"):
            as_image(path, channels)


@pytest.mark.parametrize("channels", [2, 4, 5, 7])
def test_array_of_any_number_of_channels(tmp_path, channels):
    values = np.random.default_rng(0).random((45, 70, channels), dtype=np.float32)
    np.save(tmp_path / "a.npy", values)
    for source in (values, tmp_path / "a.npy", str(tmp_path / "a.npy"), torch.from_numpy(values).permute(2, 0, 1)):
        torch.testing.assert_close(as_image(source, channels), torch.from_numpy(values).permute(2, 0, 1))
    with pytest.raises(ValueError, match=rf"shape \(45, 70, {channels}\); expected \(H, W, 6\)"):
        as_image(values, 6)
    for wrong in (0, True, "3"):
        with pytest.raises((TypeError, ValueError), match=r"channels is .*; expected a positive whole number"):
            as_image(values, wrong)


def test_colour_as_one_channel_is_weighed(array):
    expected = (colours(array) * torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(0, keepdim=True)
    torch.testing.assert_close(as_image(array, 1), expected)
    torch.testing.assert_close(as_image(Image.fromarray(array), 1), expected, atol=1 / 255, rtol=0)  # rounded to bytes


def test_palette_with_transparency_has_four_channels(tmp_path, array):
    picture = Image.fromarray(array).quantize(16)
    picture.save(tmp_path / "a.png", transparency=3)
    got = as_image(tmp_path / "a.png", 4)
    assert torch.equal(got[:3], colours(np.array(picture.convert("RGB"))))
    assert torch.equal(got[3] == 0, torch.from_numpy(np.array(picture) == 3))


def test_more_bands_than_pillow_reads(tmp_path):
    picture = Image.new("RGB", (32, 32), (9, 99, 199))
    picture.save(tmp_path / "a.tif")
    opened = Image.open(tmp_path / "a.tif")
    opened.tag_v2[277] = 5
    with pytest.warns(UserWarning, match=r"The TIFF has 5 bands, of which Pillow reads 3; read it with tifffile"):
        to_tensor(opened)


@pytest.mark.parametrize(("brightest", "bits"), [(255, 8), (1023, 10), (4095, 12), (8191, 13), (16383, 14)])
@pytest.mark.parametrize("kind", ["grey", "colour", "tiff", "array"])
def test_dark_sixteen_bits_are_warned_of(tmp_path, kind, brightest, bits):
    values = np.full((32, 40, 3) if kind == "colour" else (32, 40), brightest, np.uint16)
    if kind == "array":
        source = values
    else:
        source = tiff(tmp_path / "a.tif", values, 16) if kind == "tiff" else png(tmp_path / "a.png", values, 16)
    with pytest.warns(UserWarning, match=rf"brightest value is .* of 65535.*If its values have {bits} bits, multiply"):
        as_image(source)


@pytest.mark.parametrize("brightest", [0, 20_000, 65535])
def test_other_sixteen_bits_are_not_warned_of(tmp_path, brightest, recwarn):
    values = np.full((32, 40), brightest, np.uint16)
    for source in (values, png(tmp_path / "a.png", values, 16)):
        torch.testing.assert_close(as_image(source), torch.full((3, 32, 40), brightest / 65535))
    assert len(recwarn) == 0


@pytest.mark.parametrize(("bits", "value", "expected"), [(2, 1, 2 / 3), (4, 3, 0.8), (8, 51, 0.8), (16, 52428, 0.2)])
def test_grey_tiff_in_which_0_is_white(tmp_path, bits, value, expected):
    path = tiff(tmp_path / "a.tif", np.full((32, 40), value), bits, zero_is_white=True)
    torch.testing.assert_close(as_image(path), torch.full((3, 32, 40), expected), atol=1e-4, rtol=0)


@pytest.mark.parametrize("maximum", [15, 100, 255, 1000, 65535])
def test_pgm_is_spread_to_its_maximum(tmp_path, maximum):
    values = np.tile([[0, maximum]], (32, 20))
    got = as_image(pgm(tmp_path / "a.pgm", values, maximum))
    assert got[0].unique().tolist() == [0, 1]


@pytest.mark.parametrize("bits", [2, 4])
def test_few_shades_are_spread(tmp_path, bits):
    got = as_image(png(tmp_path / "a.png", np.tile([[0, 2**bits - 1]], (32, 20)), bits))
    assert got[0].unique().tolist() == [0, 1]


def test_rounding_beyond_one_is_cut_off():
    assert as_image(np.full((4, 4, 3), 1 + 1e-6)).max() == 1
    with pytest.raises(ValueError, match=r"run from -2 to 1\.5; expected bytes \(uint8\), .*Don't normalise"):
        as_image(np.array([[-2.0, 1.5]]))


PICTURES = [torch.rand(3, 8, 9, generator=torch.Generator().manual_seed(seed)) for seed in range(4)]


class MapStyle:
    """A data set that has a length, and raises no IndexError beyond it."""

    def __len__(self) -> int:
        return len(PICTURES)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        assert index < len(PICTURES)
        return PICTURES[index], 0


@pytest.mark.parametrize(
    "data",
    [
        PICTURES,
        iter(PICTURES),
        torch.stack(PICTURES),
        [(picture, 0) for picture in PICTURES],
        [{"image": picture} for picture in PICTURES],
        [{"pixel_values": picture, "labels": 0} for picture in PICTURES],
        torch.utils.data.DataLoader([(picture, 0) for picture in PICTURES], batch_size=3),
        MapStyle(),
        [(picture * 255).round().byte() for picture in PICTURES],
    ],
    ids=["images", "iterator", "tensor", "pairs", "dicts", "hugging face", "batches", "map style", "bytes"],
)
def test_statistics(data):
    mean, std = statistics(data)
    whole = torch.stack(PICTURES)
    torch.testing.assert_close(torch.tensor(mean), whole.mean((0, 2, 3)), atol=1e-3, rtol=0)
    torch.testing.assert_close(torch.tensor(std), whole.std((0, 2, 3), correction=0), atol=1e-3, rtol=0)


def test_statistics_make_normal_pictures_of_any_number_of_channels():
    data = [torch.rand(5, 8, size) * torch.arange(1, 6).view(5, 1, 1) / 5 for size in (8, 20)]
    normal = torch.cat([normalize(picture, *statistics(data)).flatten(1) for picture in data], dim=1)
    torch.testing.assert_close(normal.mean(1), torch.zeros(5), atol=1e-4, rtol=0)
    torch.testing.assert_close(normal.std(1, correction=0), torch.ones(5), atol=1e-4, rtol=0)
    assert len(statistics(Shapes(3))[0]) == 3


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        ([], ValueError, "data is empty"),
        (5, TypeError, "data is a int; expected a data set"),
        ([1], TypeError, "An item is a int; expected a pair"),
        ([{"x": 1}], TypeError, "An item is a dict; expected a pair .*a dictionary with an 'image'"),
        ([torch.rand(4, 4)], TypeError, "An item is a Tensor; expected"),
        ([PICTURES[0] * 255], ValueError, "The values run from .*expected bytes"),
        ([torch.full((3, 4, 4), float("nan"))], ValueError, "The values run from nan"),
        ([PICTURES[0], torch.rand(4, 5, 5)], ValueError, "have 3 and 4 channels"),
        ([torch.ones(3, 4, 4)], ValueError, r"standard deviations are \[0.0, 0.0, 0.0\]"),
    ],
)
def test_statistics_of_nothing(data, error, message):
    with pytest.raises(error, match=message):
        statistics(data)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((PICTURES[0].byte(),), TypeError, r"torch.uint8; expected floats in \[0, 1\]. For bytes: images.float"),
        ((PICTURES[0] > 0,), TypeError, "torch.bool; expected floats"),
        ((PICTURES[0].numpy(),), TypeError, "are a ndarray; expected a tensor"),
        ((torch.rand(2, 4, 5, 5),), ValueError, "have 4 channels .*data.statistics"),
        ((PICTURES[0], [0.5] * 3), ValueError, "one is given; expected both or neither"),
        ((PICTURES[0], None, [0.5] * 3), ValueError, "one is given; expected both or neither"),
        ((PICTURES[0], [0.5] * 2, [0.5] * 2), ValueError, "mean has 2 numbers and std 2; expected 3"),
        ((PICTURES[0], 0.5, 0.5), TypeError, "mean is 0.5; expected 3 numbers, one a channel"),
        ((PICTURES[0], [0.5] * 3, [0, 1, 1]), ValueError, "those of std positive"),
    ],
)
def test_normalize_refuses(arguments, error, message):
    with pytest.raises(error, match=message):
        normalize(*arguments)


@pytest.mark.parametrize("kind", [tuple, np.array, torch.tensor])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_normalize_takes_statistics_of_any_kind(kind, dtype):
    image = torch.full((2, 4, 5, 5), 0.75, dtype=dtype)
    got = normalize(image, kind([0.5] * 4), kind([0.25] * 4))
    assert (got.dtype, got.unique().tolist()) == (dtype, [1.0])
