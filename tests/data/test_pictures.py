"""A photograph of a reader: every mode that Pillow writes, whichever way up, from a file or an address."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image
from servers import serving

from segformer_edu.data import download, files
from segformer_edu.data.download import DownloadError
from segformer_edu.data.files import open_picture
from segformer_edu.data.pictures import to_tensor


@pytest.fixture
def array():
    return np.random.default_rng(0).integers(0, 256, (45, 70, 3), dtype=np.uint8)


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(download, "PAUSE", 0)
    with serving() as running:
        yield running


def colours(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(array.astype(np.float32) / 255).permute(2, 0, 1)


def encoded(picture: Image.Image, form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, form, **options)
    return buffer.getvalue()


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
    got = read(tmp_path / name, first, save_all=True, append_images=[second])
    assert Image.open(tmp_path / name).n_frames == 2
    torch.testing.assert_close(got[:, 5, 5], torch.tensor([1.0, 0.0, 0.0]), atol=0.02, rtol=0)


def test_picture_with_too_many_pixels(tmp_path, monkeypatch, recwarn):
    Image.new("1", (300, 300)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 60_000)
    assert open_picture(tmp_path / "a.png").size == (300, 300)  # above the limit, below twice: Pillow would warn
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(ValueError, match=r"a.png has too many pixels.*90000.*smaller.*MAX_IMAGE_PIXELS"):
        open_picture(tmp_path / "a.png")
    assert len(recwarn) == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "cannot be read as a picture"), (b"hello", "cannot be read as a picture"), (None, "is a folder")],
)
def test_file_that_is_no_picture(tmp_path, content, message):
    path = tmp_path / "a.png"
    path.mkdir() if content is None else path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        open_picture(path)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "TIFF", "GIF", "WEBP"])
def test_file_cut_short(tmp_path, array, form):
    content = encoded(Image.fromarray(array), form)
    (tmp_path / "a").write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match="cut short"):
        open_picture(tmp_path / "a")


def test_address(server, array):
    server.files["/a.png"] = encoded(Image.fromarray(array), "PNG")
    server.moods["/a.png"] = [503]
    torch.testing.assert_close(to_tensor(open_picture(server.url + "/a.png?width=70")), colours(array))
    assert server.asked["/a.png"] == 2
    assert "segformer_edu" in server.told[0]["User-Agent"]


def test_address_of_a_page(server):
    server.files["/a"], server.kinds["/a"] = b"<html><img src='a.png'>", "text/html; charset=utf-8"
    with pytest.raises(ValueError, match=r"/a is not a picture but text/html.*address of the picture itself"):
        open_picture(server.url + "/a")


def test_address_of_something_else(server):
    server.files["/a.zip"], server.kinds["/a.zip"] = b"PK", "application/zip"
    with pytest.raises(ValueError, match=r"a.zip cannot be read as a picture.*copy the address of the picture"):
        open_picture(server.url + "/a.zip")


@pytest.mark.parametrize("status", [403, 404, 500])
def test_address_that_refuses(server, status):
    server.moods["/a.png"] = [status] * 9
    with pytest.raises(DownloadError, match=f"answered {status}.*browser.*give its path") as caught:
        open_picture(server.url + "/a.png")
    assert "SEGFORMER_EDU_DATA" not in str(caught.value)


def test_address_that_breaks_off(server, array):
    server.files["/a.png"] = encoded(Image.fromarray(array), "PNG")
    server.moods["/a.png"] = ["cut"]
    with pytest.raises(DownloadError, match="the connection broke"):
        open_picture(server.url + "/a.png")


def test_address_with_too_much(server, monkeypatch):
    monkeypatch.setattr(files, "LARGEST_DOWNLOAD", 1 << 20)
    server.files["/a.png"] = bytes(3 << 20)
    with pytest.raises(DownloadError, match="more than 1 MB"):
        open_picture(server.url + "/a.png")


def test_address_that_takes_too_long(server):
    server.files["/a.png"] = bytes(1 << 20)
    with pytest.raises(DownloadError, match=r"not complete after 0 seconds\. Patience"):
        download.fetch_bytes(server.url + "/a.png", limit=1 << 30, remedy="Patience.", seconds=0)


@pytest.mark.parametrize("source", ["ftp://example.org/a.png", "file:///etc/passwd", "s3://a/b.png"])
def test_address_of_another_kind(source):
    with pytest.raises(ValueError, match=r"begins with \w+://; expected a path, or an address with http"):
        open_picture(source)
