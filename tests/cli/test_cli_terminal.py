"""Whatever a terminal or a pipe can show, and whoever reads it: everything is done, and the exit code says so."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import segformer_edu as se
from segformer_edu.cli import main
from segformer_edu.cli.terminal import Output, any_output, explained

ENCODINGS = ["cp1251", "cp437", "cp932", "ascii", "latin-1", "utf-16", "utf-8"]
COMMAND = [sys.executable, "-m", "segformer_edu"]
SEGMENT = ["segment", "photo.png", "--weights", "5.pt", "--out", "drawn.png", "--map", "map.png"]


@pytest.fixture
def streams(monkeypatch):
    """Let this process print as into a pipe of some encoding; return what arrived there, stdout and stderr."""

    def arrange(encoding):
        pipes = [io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="strict") for _ in range(2)]
        monkeypatch.setattr(sys, "stdout", pipes[0])
        monkeypatch.setattr(sys, "stderr", pipes[1])
        return lambda: [pipe.buffer.getvalue().decode(encoding) for pipe in pipes]

    return arrange


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_segment_writes_everything(run, streams, encoding):
    told = streams(encoding)
    code = main([*SEGMENT, "--size", "64"])
    out, err = told()
    assert (code, err) == (0, "")
    assert re_spelled("photo.png: 45×70 pixels (height, width), shown to the model in 41×64", encoding) in out
    assert np.array_equal(np.array(Image.open("map.png")), se.segment(se.load_pretrained("5.pt"), "photo.png", size=64))
    assert Path("drawn.png").read_bytes()[1:4] == b"PNG"


def re_spelled(text, encoding):
    """The text with what an encoding lacks in simpler letters."""
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return text.replace("×", "x")
    return text


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("text", [["segment", "--help"], ["--help"], ["cost", "b0", "--size", "512"]])
def test_helps_and_tables(streams, capsys, encoding, text):
    told = streams(encoding)
    try:
        code = main(text)
    except SystemExit as stop:
        code = stop.code
    out, err = told()
    assert (code, err) == (0, "")
    assert "segformer-edu" in out or "SegFormer-B0, 150 classes" in out
    assert "?" not in out  # what stands in these texts has simpler letters


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_errors_and_notes_and_bars(run, streams, encoding):
    told = streams(encoding)
    Image.new("RGB", (40, 40)).save("Größe–猫.png")
    os.mkdir("leer")
    code = main(
        [
            "segment",
            "Größe–猫.png",
            "猫×.png",
            "leer",
            "photo.png",
            "--weights",
            "5.pt",
            "--out",
            "drawn",
            "--map",
            "map",
        ]
    )
    out, err = told()
    assert code == 1
    assert "2 of 4 photographs are done, in drawn" in out
    assert "2 of 4 photographs failed:" in err
    assert "%|" in err
    assert sorted(os.listdir("drawn")) == ["Größe–猫.png", "photo.png"] == sorted(os.listdir("map"))


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_names_that_are_no_text(run, streams, encoding):
    told = streams(encoding)
    name = b"caf\xe9.png".decode("utf-8", "surrogateescape")
    os.link(os.path.realpath("photo.png"), name)
    assert main(["segment", name, "--weights", "5.pt", "--out", "drawn"]) == 0
    assert (Path("drawn") / name).is_file()
    assert main(["segment", f"{name}.gone", "--weights", "5.pt", "--out", "drawn"]) == 1
    out, err = told()
    assert out.startswith("caf?.png: 45")
    assert "There is no picture caf?.png.gone; check" in err


def test_no_streams_at_all(run, monkeypatch):
    """As under pythonw."""
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    assert main(SEGMENT) == 0
    assert Path("map.png").is_file()
    assert main(SEGMENT) == 1
    assert main(["segment", "photo.png", "5.pt", "--weights", "5.pt", "--out", "several"]) == 1
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    with pytest.raises(SystemExit) as stop:
        main(["segmnet"])
    assert stop.value.code == 2
    assert sys.stdout is sys.stderr is None


def test_streams_are_put_back_as_they_were(streams):
    streams("ascii")
    before = sys.stdout, sys.stderr
    main(["cost", "b0", "--size", "32"])
    assert (sys.stdout, sys.stderr) == before
    assert before[0].errors == "strict"


class Closed(io.StringIO):
    """A pipe whose reader has gone, or a disk that is full."""

    def __init__(self, error):
        super().__init__()
        self.error = error

    def write(self, text):
        raise self.error


def test_a_reader_who_has_gone_stops_nothing(run, monkeypatch):
    monkeypatch.setattr(sys, "stdout", Closed(BrokenPipeError()))
    assert main(["segment", "photo.png", "hub/../photo.png", "5.pt", "--weights", "5.pt", "--out", "drawn"]) == 1
    assert main(SEGMENT) == 0
    assert Path("drawn/photo.png").is_file()


def test_a_full_disk_is_told(run, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdout", Closed(OSError(28, "No space left on device")))
    assert main(["cost", "b0", "--size", "32"]) == 1
    assert "segformer-edu: error: [Errno 28] No space left on device\n" in capsys.readouterr().err


ENVIRONMENTS = {
    "Russian Windows": {"PYTHONIOENCODING": "cp1251", "PYTHONUTF8": "0"},
    "C": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "utf-16": {"PYTHONIOENCODING": "utf-16"},
}


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_in_a_process_of_its_own(run, name):
    done = subprocess.run([*COMMAND, *SEGMENT], capture_output=True, env=os.environ | ENVIRONMENTS[name], check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert Path("map.png").is_file()
    assert "45" in done.stdout.decode("utf-16" if name == "utf-16" else "ascii")


@pytest.mark.parametrize("options", [[], ["-u"]])
def test_head(run, options):
    """``| head -0``, with and without a buffer between."""
    command = [sys.executable, *options, "-m", "segformer_edu", *SEGMENT]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        err = process.stderr.read()
    assert (process.returncode, err) == (0, b"")
    assert Path("map.png").is_file()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
def test_dev_full(run):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*COMMAND, "cost", "b0", "--size", "32"], stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert (done.returncode, done.stderr.count(b"\n")) == (1, 1)
    assert b"No space left" in done.stderr


def test_output_writes_around_what_it_lacks():
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    output = Output(stream)
    assert output.write("3×4 – ’naïve‘ → 猫…") == len("3×4 – ’naïve‘ → 猫…")
    output.flush()
    assert stream.buffer.getvalue() == b"3x4 - 'na?ve? -> ?..."
    assert output.encoding == "ascii"


def test_only_known_mistakes_are_explained():
    assert explained(ValueError("a\n b")) == "a b"
    assert explained(MemoryError()).startswith("not enough memory")
    assert explained(RuntimeError("CUDA out of memory")).startswith("not enough memory")
    assert explained(RuntimeError("shapes")) is None
    assert explained(KeyError("x")) is None


def test_any_output_puts_back_after_an_error():
    before = sys.stdout
    with pytest.raises(KeyError), any_output():
        raise KeyError
    assert sys.stdout is before
