"""Files of pictures: whatever form they come in, and what is said of those that cannot be read."""

from __future__ import annotations

import io
import os
import tempfile

import numpy as np
import pytest
import torch
from PIL import Image
from servers import serving

from segformer_edu.data import download, files
from segformer_edu.data.download import DownloadError
from segformer_edu.data.files import open_picture, read_array
from segformer_edu.data.formats import foreign, is_picture
from segformer_edu.data.pictures import as_image, to_tensor


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


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
@pytest.mark.skipif(not is_picture("a.avif"), reason="this Pillow reads no AVIF")
def test_avif_cut_short_is_not_called_foreign(tmp_path, array, share):
    content = encoded(Image.fromarray(array), "AVIF")
    (tmp_path / "a.avif").write_bytes(content[: int(share * len(content))])
    for source in (tmp_path / "a.avif", (tmp_path / "a.avif").read_bytes()):
        with pytest.raises(ValueError, match=r"cannot be read as a picture \(.*\); it may be cut short") as caught:
            as_image(source)
        assert "not supported" not in str(caught.value)


def test_formats_that_need_a_package_are_foreign_without_it(monkeypatch):
    for ending in (".avif", ".heic", ".jxl"):
        monkeypatch.setitem(Image.EXTENSION, ending, "nothing")
        assert "not supported here" in foreign(f"a{ending}")
        monkeypatch.setitem(Image.EXTENSION, ending, "PNG")  # as such a package does, but for the format
        assert foreign(f"a{ending}") == ""


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


def piped(content: bytes):
    reading, writing = os.pipe()
    os.write(writing, content)
    os.close(writing)
    return os.fdopen(reading, "rb")


def spooled(content: bytes):
    file = tempfile.SpooledTemporaryFile()  # noqa: SIM115  the test closes it
    file.write(content)
    return file


def wound_on(content: bytes):
    file = io.BytesIO(content)
    file.seek(50)
    return file


@pytest.mark.parametrize("form", [bytes, bytearray, memoryview, io.BytesIO, wound_on, piped, spooled])
def test_uploads(array, form):
    source = form(encoded(Image.fromarray(array), "PNG"))
    torch.testing.assert_close(as_image(source), colours(array))
    if hasattr(source, "close"):
        source.close()


def test_name_without_an_ending_and_link(tmp_path, array):
    (tmp_path / "a").write_bytes(encoded(Image.fromarray(array), "BMP"))
    (tmp_path / "link.png").symlink_to(tmp_path / "a")
    for name in ("a", "link.png"):
        torch.testing.assert_close(as_image(tmp_path / name), colours(array))


def test_files_that_cannot_be_opened(tmp_path, monkeypatch):
    (tmp_path / "a.png").write_bytes(b"x")
    (tmp_path / "broken.png").symlink_to(tmp_path / "nothing.png")
    with pytest.raises(FileNotFoundError, match=r"There is no picture .*broken\.png; check the name and the folder"):
        open_picture(tmp_path / "broken.png")
    with (tmp_path / "a.png").open() as text, pytest.raises(ValueError, match=r'a\.png is opened as a text.*"rb"'):
        open_picture(text)
    with pytest.raises(ValueError, match=r"x{200} cannot be opened \(File name too long\); check the path"):
        open_picture("x" * 5000)

    def missing(*_: object) -> None:
        raise FileNotFoundError(2, "No such file or directory: 'gs'")  # a program that Pillow calls

    monkeypatch.setattr(Image, "open", missing)
    with pytest.raises(ValueError, match=r"a\.png cannot be opened .*'gs'"):
        open_picture(tmp_path / "a.png")

    def forbidden(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Image, "open", forbidden)
    with pytest.raises(ValueError, match=r"a\.png cannot be opened \(Permission denied\); ask for the right"):
        open_picture(tmp_path / "a.png")


FOREIGN = {
    "a.heic": (b"\0\0\0\x18ftypheic", "HEIC.*pillow-heif"),
    "b.heic": (b"\0\0\0\x18ftypmif1", "HEIC"),
    "a.dng": (b"II*\0", "camera raw.*develop it to JPEG"),
    "a.cr2": (b"II*\0\x10\0\0\0CR\x02\0", "camera raw"),
    "a.svg": (b"<?xml version='1.0'?>\n<!-- x -->\n<svg></svg>", "SVG"),
    "b.svg": (b"\xef\xbb\xbf <svg/>", "SVG"),
    "a.xml": (b"<?xml version='1.0'?><Error>Denied</Error>", "web page or an answer of a server"),
    "a.html": (b"<!DOCTYPE html>", "web page"),
    "a.pdf": (b"%PDF-1.7", "PDF"),
    "a.eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", "EPS"),
    "a.dcm": (bytes(128) + b"DICM", "DICOM.*pydicom"),
    "a.nii": (b"", "NIfTI.*nibabel"),
    "a.nii.gz": (b"\x1f\x8b", "unpack it first"),
    "a.mp4": (b"\0\0\0\x20ftypisom", "video.*ffmpeg"),
    "a.mov": (b"\0\0\0\x14ftypqt  ", "video"),
    "a.avi": (b"RIFF\0\0\0\0AVI LIST", "video"),
    "a.jxl": (b"\xff\x0a", "JPEG XL"),
    "a.npz": (b"PK\x03\x04", "file of arrays"),
    "a.h5": (b"\x89HDF\r\n\x1a\n", "file of arrays"),
    "a.exr": (b"\x76\x2f\x31\x01", "OpenEXR"),
    "a.xcf": (b"gimp xcf v011", "GIMP"),
    "a.lfs": (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_formats_that_pillow_does_not_read(tmp_path, name):
    head, message = FOREIGN[name]
    content = head + bytes(600)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=rf"{name} cannot be read as a picture: it is .*{message}") as caught:
        as_image(tmp_path / name)
    assert "cut short" not in str(caught.value)
    if head and name != "a.dng":  # which begins as a TIFF does
        (tmp_path / "a.png").write_bytes(content)
        with (tmp_path / "a.png").open("rb") as opened:
            for source in (tmp_path / "a.png", content, io.BytesIO(content), opened, piped(content)):
                with pytest.raises(ValueError, match=message):
                    as_image(source)


def test_preview_of_a_raw_file_is_not_taken_for_the_picture(array):
    content = encoded(Image.fromarray(array), "TIFF", tiffinfo={50706: b"\1\4\0\0"})
    with pytest.raises(ValueError, match=r"camera raw: it holds the sensor's own numbers.*develop it"):
        as_image(content)


def test_kind_that_pillow_does_not_know(tmp_path):
    """A DDS with flags that mean nothing, which is a NotImplementedError of Pillow's."""
    header = np.zeros(31, "<u4")
    header[:4], header[18:20] = (124, 0x1007, 16, 16), (32, 8)
    (tmp_path / "a.dds").write_bytes(b"DDS " + header.tobytes() + bytes(1024))
    with pytest.raises(ValueError, match=r"a\.dds is a picture of a kind that is not supported .*save it as JPEG"):
        as_image(tmp_path / "a.dds")


def test_tiff_with_numbers_that_pillow_does_not_know(array):
    content = encoded(Image.fromarray(array), "TIFF").replace(b"\x02\x01\x03\0\x03\0\0\0", b"\x02\x01\x03\0\x01\0\0\0")
    with pytest.raises(ValueError, match=r"TIFF with numbers that Pillow does not read .*tifffile"):
        as_image(content)


def test_array_of_numpy_in_bytes():
    buffer = io.BytesIO()
    np.save(buffer, np.zeros((4, 4)))
    with pytest.raises(ValueError, match=r"array of NumPy's.*numpy\.load"):
        as_image(buffer)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "cannot be read as an array"), (b"PK\x03\x04", "cannot be read as an array"), (None, "no single array")],
)
def test_array_that_is_none(tmp_path, content, message):
    if content is None:
        np.savez(tmp_path / "a.npz", np.zeros(3))
        content = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(ValueError, match=rf"a\.npy .*{message}"):
        read_array(tmp_path / "a.npy")


def test_a_pixel_that_was_changed_in_a_png_is_noticed(tmp_path):
    """Pillow does not look at the checksum of the pixels, and may stop before zlib's own."""
    numbers = np.random.default_rng(0).integers(0, 256, (18, 24, 4), dtype=np.uint8)
    path = tmp_path / "alpha.png"
    Image.fromarray(numbers).save(path)
    content = bytearray(path.read_bytes())
    at = content.index(b"IDAT") + 4 + 1500
    content[at : at + 4] = b"\1\0\0\0"
    path.write_bytes(content)
    for source in (path, str(path), bytes(content), io.BytesIO(content)):
        with pytest.raises(ValueError, match="checksum of its part IDAT is wrong"):
            open_picture(source)
    opened = io.BytesIO()
    Image.fromarray(numbers).save(opened, format="png")
    assert np.array_equal(np.asarray(open_picture(opened)), numbers)
