"""The two storms in small, and that they would notice."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time

import pytest
import torch
from PIL import Image

import segformer_edu as se

if sys.platform != "linux":
    pytest.skip("the storms measure memory, and limit it, by Linux's means", allow_module_level=True)

import storm_files
import storm_kills
from storm_files import judged, memory
from storm_samples import Sample, originals, written


@pytest.mark.parametrize(("kind", "count"), [("files", 100), ("kills", 5)])
def test_a_small_storm(kind, count):
    command = [sys.executable, "tools/storm.py", kind, "--count", str(count)]
    done = subprocess.run(command, cwd=storm_files.ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "violation " not in done.stdout
    assert f"{100 if kind == 'files' else 7} in " in done.stdout


def test_every_format_is_broken_in_every_way(tmp_path):
    """The same for the same seed, and never the whole file."""
    for number, sample in enumerate(originals("smp|own folder|grey8.png|list")):
        for how, breaker in storm_files.BREAKS.items():
            content = sample.files[sample.victims[0]]
            if how != "bomb":
                one, other = (breaker(content, random.Random(number)) for _ in range(2))
                assert one == other != content, (sample.name, how)


# That the storms notice


@pytest.mark.parametrize(
    ("reader", "expected"),
    [
        (lambda source: {}["a"], "KeyError at"),
        (lambda source: int(source.read_text()), "ValueError at"),  # in words, but not in the library's
        (lambda source: se.load_pretrained("nobodys.pt"), "does not name the file"),
        (lambda source: {"weight": torch.tensor(float("nan"))}, "weight is not finite"),
        (lambda source: {"image": torch.full((3, 4, 4), 1.5)}, "the picture is torch.float32"),
        (lambda source: {"image": torch.ones(3, 4, 4), "mask": torch.full((4, 4), 9)}, "the class map is torch.int64"),
        (lambda source: {"image": torch.ones(3 << 27).mean().expand(3, 1, 1)}, "but took 1"),
        (lambda source: {"weight": torch.ones(2)}, "not what was written"),
    ],
    ids=["another exception", "another's words", "no name", "NaN", "range", "no class", "memory", "checksum"],
)
def test_what_is_wrong_with_a_file_is_noticed(tmp_path, monkeypatch, reader, expected):
    monkeypatch.setitem(storm_files.READERS, "weights", reader)
    (tmp_path / "w.pt").write_text("x")
    sample = Sample("s", "weights", {}, (), "w.pt")
    outcome, violation = judged(sample, tmp_path, {"weight": torch.ones(1)}, True, memory("VmRSS"))
    assert outcome == "violation"
    assert expected in violation


def test_a_right_result_is_no_violation(tmp_path, monkeypatch):
    monkeypatch.setitem(storm_files.READERS, "weights", lambda source: {"weight": torch.ones(1)})
    sample = Sample("s", "weights", {}, (), "w.pt")
    assert judged(sample, tmp_path, {"weight": torch.ones(1)}, True, memory("VmRSS")) == ("unchanged", "")
    assert judged(sample, tmp_path, {"weight": torch.zeros(1)}, False, memory("VmRSS")) == ("other", "")


def test_a_half_loaded_model_is_noticed(tmp_path, monkeypatch):
    def halfway(model, *rest, **options):
        next(model.parameters()).data.zero_()
        raise ValueError("broken")

    monkeypatch.setattr(storm_files, "fit", halfway)
    sample = Sample("s", "checkpoint", {}, (), "run.pt")
    assert "half-loaded, before this" in judged(sample, tmp_path, None, True, memory("VmRSS"))[1]


class Fatal(Sample):
    """A picture that can be read, and that ends or holds its process where it is to be broken."""

    def __getattribute__(self, name):
        if name == "victims":
            time.sleep(60 if self.name == "hangs" else 0)
            os.kill(os.getpid(), signal.SIGSEGV)
        return super().__getattribute__(name)


def test_a_process_that_dies_or_hangs_is_noticed_and_replaced(monkeypatch):
    monkeypatch.setattr(storm_files, "GUARD", 2)
    files = {"p.png": written(Image.new("L", (4, 4)), "PNG")}
    worker = storm_files.Worker([Fatal(name, "picture", files, (), "p.png") for name in ("died", "hangs")], seed=0)
    for index, expected in enumerate(["died (exit code -11)", "hangs: not read after 2 s (exit code -9)"]):
        result = worker(index)
        assert (result.outcome, result.violation) == ("violation", expected)
    worker.connection.send(None)
    worker.process.join()
    assert worker.process.exitcode == 0


def disturbed(tmp_path):
    return storm_kills.Disturbed(0, tmp_path, random.Random(0))


def test_an_older_or_broken_checkpoint_is_noticed(tmp_path):
    torch.set_num_threads(1)
    training = disturbed(tmp_path)
    storm_kills.ended(storm_kills.started(training.training, tmp_path), tmp_path)
    training.look()
    assert training.seen == storm_kills.STEPS
    end = tmp_path / "end.pt"
    whole = torch.load(end, weights_only=True)
    storm_kills.check_end(tmp_path, training.expected)
    for part in ("model", "history"):
        other = whole | {part: changed_last(whole[part])}
        torch.save(other, end)
        with pytest.raises(AssertionError, match=f"another {part} than"):
            storm_kills.check_end(tmp_path, training.expected)
    torch.save(whole, end)
    (training.disk / "run.pt.part").touch()
    with pytest.raises(AssertionError, match=r"left beside the checkpoint: run\.pt\.part"):
        storm_kills.check_end(tmp_path, training.expected)
    training.path.unlink()
    with pytest.raises(AssertionError, match="was of step 8, and is of step 0"):
        training.look()


def changed_last(part):
    name = list(part)[-1]
    value = part[name]
    return part | {name: value + 1 if isinstance(value, torch.Tensor | int) else value[:-1]}


def test_a_training_that_is_not_the_same_again_is_noticed(tmp_path, monkeypatch):
    """What the storm is for: a resumed training whose random numbers are others."""
    torch.set_num_threads(1)
    training = disturbed(tmp_path)
    monkeypatch.setattr(sys.modules["segformer_edu.training.fit"], "seed_step", lambda seed, step: torch.manual_seed(7))
    with pytest.raises(AssertionError, match=r"end\.pt has another model, history than without kills"):
        training.finish()


@pytest.mark.parametrize("mounts", [True, False])
def test_a_full_disk(tmp_path, monkeypatch, mounts):
    """On a file system of its own where that is permitted, and by a limit of the process."""
    torch.set_num_threads(1)
    if not mounts:
        monkeypatch.setattr(storm_kills, "is_mounted", lambda disk: False)
    assert disturbed(tmp_path).fill() == "full disk, went on to the same end"


def test_silence_about_a_full_disk_is_noticed(tmp_path, monkeypatch):
    torch.set_num_threads(1)
    training = disturbed(tmp_path)
    monkeypatch.setattr(storm_kills, "is_mounted", lambda disk: False)
    monkeypatch.setattr("segformer_edu.training.run.warnings.warn", lambda *rest, **options: None)
    with pytest.raises(AssertionError, match=r"full from step \d on"):
        training.fill()
