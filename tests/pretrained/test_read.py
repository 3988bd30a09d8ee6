"""Files, folders and ids of weights: whole ones are read, all others refused with a reason and something to do."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
import sys
import threading
import zipfile
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from huggingface_hub import constants
from published import SMALL, nvlabs, segmenter
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from samples import SMALL as OWN_SIZES
from samples import noise, shaken

import segformer_edu as se
from segformer_edu.pretrained.read import read_weights

ID = "somebody/segformer"


@pytest.fixture(scope="module")
def theirs():
    return segmenter(SMALL)


@pytest.fixture
def folder(theirs, tmp_path):
    theirs.save_pretrained(tmp_path / "folder")
    return tmp_path / "folder"


def assert_same(model, theirs):
    x = noise(1, 3, 40, 52)
    with torch.no_grad():
        torch.testing.assert_close(model(x), theirs(x).logits, atol=1e-5, rtol=1e-5)


def split(folder, suffix):
    """Write a folder's weights as two files and an index."""
    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    places = {}
    for number in (1, 2):
        part = {name: state[name] for name in sorted(state)[number - 1 :: 2]}
        file = f"part-{number}-of-2.{suffix}"
        torch.save(part, folder / file) if suffix == "bin" else save_file(part, folder / file)
        places |= dict.fromkeys(part, file)
    index = "pytorch_model.bin.index.json" if suffix == "bin" else "model.safetensors.index.json"
    (folder / index).write_text(json.dumps({"metadata": {}, "weight_map": places}))


@pytest.mark.parametrize("suffix", ["bin", "safetensors"])
def test_folder_of_several_files(folder, theirs, suffix):
    split(folder, suffix)
    assert_same(se.load_pretrained(folder), theirs)
    (folder / f"part-2-of-2.{suffix}").unlink()
    with pytest.raises(FileNotFoundError, match=r"speaks of part-2-of-2\.\w+, not in the folder"):
        se.load_pretrained(folder)


@pytest.mark.parametrize("text", ["{", "[1]", '{"weight_map": [1]}', '{"weight_map": {"a": 3}}'])
def test_index_that_is_none(folder, text):
    split(folder, "bin")
    (folder / "pytorch_model.bin.index.json").write_text(text)
    with pytest.raises(ValueError, match=r"index\.json (is no JSON|holds a list|has no weight_map)"):
        se.load_pretrained(folder)


def test_a_part_that_is_none(folder):
    split(folder, "bin")
    torch.save([1], folder / "part-2-of-2.bin")
    with pytest.raises(ValueError, match=r"part-2-of-2\.bin holds a list; expected names to tensors"):
        se.load_pretrained(folder)


def test_an_index_does_not_lead_out_of_its_folder(folder, tmp_path):
    split(folder, "bin")
    torch.save({}, tmp_path / "outside.bin")
    (folder / "pytorch_model.bin.index.json").write_text('{"weight_map": {"a": "../outside.bin"}}')
    with pytest.raises(FileNotFoundError, match=r"speaks of outside\.bin, not in the folder"):
        se.load_pretrained(folder)


def test_folder_without_weights(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(FileNotFoundError, match=r"no weights in the folder .* \(but notes\.txt\); expected model\.saf"):
        se.load_pretrained(str(tmp_path))


KINDS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")


@pytest.mark.parametrize("best", range(4))
def test_the_order_of_transformers(folder, theirs, best):
    """Where weights of several kinds lie in a folder, some may be of an earlier model."""
    state = theirs.state_dict()
    for number, name in enumerate(KINDS):
        (folder / name).unlink(missing_ok=True)
        if number == best:
            part = folder / ("shard" if "index" in name else name)
            save_file(state, part) if "safetensors" in name else torch.save(state, part)
            if "index" in name:
                (folder / name).write_text(json.dumps({"weight_map": {"a": "shard"}}))
        elif number > best:
            (folder / name).write_bytes(b"not read")
    assert_same(se.load_pretrained(folder), theirs)


def test_the_order_of_transformers_in_a_download(hub, folder, theirs):
    """The shards are newer than the one file."""
    split(folder, "safetensors")
    (folder / "pytorch_model.bin").write_bytes(b"not read")
    hub.serve_folder(folder)
    assert_same(se.load_pretrained(ID), theirs)
    assert hub.asked["pytorch_model.bin"] == 0


def test_a_download_with_statistics_of_pictures(hub, folder):
    told = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.2, 0.1]}
    (folder / "preprocessor_config.json").write_text(json.dumps(told))
    hub.serve_folder(folder)
    model = se.load_pretrained(ID)
    assert (model.image_mean, model.image_std) == ((0.5, 0.4, 0.3), (0.2, 0.2, 0.1))


@pytest.mark.parametrize("share", [0.999, 0.5, 0.01, 0])
@pytest.mark.parametrize("name", ["model.safetensors", "weights.pth", "legacy.pth"])
def test_truncated(folder, theirs, name, share):
    path = folder / name
    if name != "model.safetensors":
        torch.save(nvlabs(theirs.state_dict()), path, _use_new_zipfile_serialization=name == "weights.pth")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ValueError, match=r"cannot be read as weights \(\d+ bytes\): truncated.*Fetch it again"):
        se.load_pretrained(path)


@pytest.mark.parametrize("share", [0.0005, 0.2, 0.5, 0.8])
def test_one_bit_of_a_pth(tmp_path, theirs, share):
    """torch.load does not look at the checksums that torch.save wrote."""
    path = tmp_path / "weights.pth"
    torch.save(nvlabs(theirs.state_dict()), path)
    content = bytearray(path.read_bytes())
    content[int(share * len(content))] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="truncated, corrupt"):
        se.load_pretrained(path)


@pytest.mark.parametrize("share", [0.0, 0.02, 0.05])
def test_one_bit_of_the_header_of_safetensors(folder, share):
    path = folder / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[int(share * len(content))] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"model\.safetensors"):
        se.load_pretrained(path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "git lfs pull"),
        (b"<!DOCTYPE html><html>Sign in</html>", "a web page"),
        (b"<html>", "a web page"),
        (b"PK\x03\x04" + bytes(100), "truncated"),
        (bytes(64), "truncated"),
    ],
)
@pytest.mark.parametrize("name", ["weights.pth", "model.safetensors"])
def test_something_else_under_the_name(tmp_path, name, content, reason):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=reason):
        se.load_pretrained(tmp_path / name)


@pytest.fixture
def own(tmp_path):
    model = shaken(se.Segformer(**OWN_SIZES, decoder_dim=16, num_classes=3, class_names=("a", "b", "c"))).eval()
    return se.save_pretrained(model, tmp_path / "own")


@pytest.mark.parametrize("share", [0.1, 0.3, 0.7, 0.9999])
def test_one_bit_of_a_number_in_own_safetensors(own, share):
    """safetensors has no checksum; this library's own files have."""
    path = own / "model.safetensors"
    content = bytearray(path.read_bytes())
    start = 8 + int.from_bytes(content[:8], "little")
    content[start + int(share * (len(content) - start))] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"model\.safetensors cannot be read .* \(its checksum is wrong: a number or"):
        se.load_pretrained(own)


@pytest.mark.parametrize(("old", "new"), [(b"[1, 2, 3, 4]", b"[1, 2, 3, 2]"), (b'\\"a\\"', b'\\"o\\"')])
def test_another_record_in_own_safetensors(own, old, new):
    path = own / "model.safetensors"
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new))
    with pytest.raises(ValueError, match="checksum is wrong"):
        se.load_pretrained(path)


def test_other_statistics_in_own_config(own):
    """They change what the model sees; names and rates of dropping may be edited there."""
    path = own / "config.json"
    described = json.loads(path.read_text())
    path.write_text(
        json.dumps(described | {"segformer_edu": described["segformer_edu"] | {"class_names": list("xyz")}})
    )
    assert se.load_pretrained(own).class_names == ("x", "y", "z")
    statistics = {"image_mean": [0.1, 0.1, 0.1], "image_std": [1, 1, 1]}
    path.write_text(json.dumps(described | {"segformer_edu": described["segformer_edu"] | statistics}))
    with pytest.raises(ValueError, match=r"records of two models: image_mean \[0\.1, 0\.1, 0\.1\] and None"):
        se.load_pretrained(own)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_record_of_a_hundred_million_blocks(own, tmp_path, zipped):
    """Refused before they are made, in each of the places that have a record."""
    path = own / "config.json"
    described = json.loads(path.read_text())
    many = described["segformer_edu"] | {"num_layers": [1, 1, 2, 10**8]}
    path.write_text(json.dumps(described | {"segformer_edu": many}))
    with pytest.raises(
        ValueError, match=r"records of two models: num_layers \[1, 1, 2, 100000000\] and \[1, 1, 2, 1\]"
    ):
        se.load_pretrained(own)
    bare = {"state_dict": dict(load_file(own / "model.safetensors")), "config": many}
    torch.save(bare, tmp_path / "w.pt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(
        ValueError, match=r"w\.pt: its record has \(1, 1, 2, 100000000\) blocks, and the file \d+ weights"
    ):
        se.load_pretrained(tmp_path / "w.pt")


def test_own_safetensors_without_a_checksum(own, tmp_path):
    """As versions before this one wrote them, and as another program leaves them."""
    path = own / "model.safetensors"
    with safe_open(path, framework="pt") as file:
        record = file.metadata()["segformer_edu"]
    save_file(load_file(path), tmp_path / "old.safetensors", metadata={"segformer_edu": record})
    x = noise(1, 3, 40, 52)
    with torch.no_grad():
        assert torch.equal(se.load_pretrained(tmp_path / "old.safetensors")(x), se.load_pretrained(own)(x))


@pytest.mark.parametrize(
    "record", ["[]", "3", "{}", "[" * 100_000, '{"dims": 1, "heads": 2, "norm_eps": 3, "dialect": 4}']
)
def test_a_record_that_is_none(own, tmp_path, record):
    save_file(load_file(own / "model.safetensors"), tmp_path / "w.safetensors", metadata={"segformer_edu": record})
    with pytest.raises(ValueError, match=r"w\.safetensors"):
        se.load_pretrained(tmp_path / "w.safetensors")


def rezipped(path, new, compression=zipfile.ZIP_STORED, more=()):
    """Write a zip of torch.save anew: compressed, with more in its first tensor."""
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(new, "w", compression, compresslevel=1) as written:
        for name in archive.namelist():
            with written.open(name, "w", force_zip64=True) as part:
                part.write(archive.read(name))
                for piece in more if name.endswith("/data/0") else ():
                    part.write(piece)
    return new


def test_a_zip_written_anew_is_read(tmp_path, theirs):
    torch.save(nvlabs(theirs.state_dict()), tmp_path / "weights.pth")
    assert_same(se.load_pretrained(rezipped(tmp_path / "weights.pth", tmp_path / "again.pth")), theirs)


def test_a_zip_that_unpacks_to_gigabytes(tmp_path, theirs):
    torch.save(nvlabs(theirs.state_dict()), tmp_path / "weights.pth")
    zeros = [bytes(1 << 24)] * 80
    bomb = rezipped(tmp_path / "weights.pth", tmp_path / "bomb.pth", zipfile.ZIP_DEFLATED, zeros)
    with pytest.raises(ValueError, match=r"bomb\.pth cannot .* \(it unpacks to more than it holds"):
        se.load_pretrained(bomb)


def test_a_part_of_a_zip_that_is_marked_as_a_folder(tmp_path, theirs):
    """PyTorch's reader takes nothing of it, and gives the numbers that stood in that memory before."""
    path = tmp_path / "weights.pth"
    torch.save(nvlabs(theirs.state_dict()), path)
    with zipfile.ZipFile(path) as archive:
        start = archive.start_dir
    content = bytearray(path.read_bytes())
    entry = content.index(b"PK\x01\x02", content.index(b"weights/data/7", start))
    content[entry + 38] |= 0x10
    path.write_bytes(content)
    with pytest.raises(ValueError, match="a part of it is marked as a folder"):
        se.load_pretrained(path)


@pytest.mark.parametrize("name", ["9" * 5000, "\x7f", "\0", "", ".", "/"])
def test_an_index_with_names_that_no_file_has(folder, name):
    split(folder, "bin")
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": {"a": name}}))
    with pytest.raises(FileNotFoundError, match=r"index\.json speaks of") as caught:
        se.load_pretrained(folder)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 600


def test_two_parts_of_one_name_in_a_zip(tmp_path, theirs):
    torch.save(nvlabs(theirs.state_dict()), tmp_path / "weights.pth")
    with zipfile.ZipFile(tmp_path / "weights.pth", "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("weights/data/0", b"other")
    with pytest.raises(ValueError, match="unpacks to more than it holds"):
        se.load_pretrained(tmp_path / "weights.pth")


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (torch.ones(1).expand(1 << 18, 1 << 18), "and its shapes need 27487"),
        (torch.empty(4, 4, device="meta"), "sparse, or have no numbers"),
        (torch.eye(4).to_sparse(), "sparse, or have no numbers"),
        (torch.full((8,), 1e300, dtype=torch.double), "holds NaN or infinite values"),
        (torch.ones(8, dtype=torch.complex64), "expected floating point"),
        (torch.full((8,), float("nan")), "holds NaN or infinite values"),
    ],
    ids=["expanded", "meta", "sparse", "too large for float32", "complex", "NaN"],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_tensors_that_are_no_weights(tmp_path, theirs, value, reason, zipped):
    state = nvlabs(theirs.state_dict()) | {"backbone.patch_embed1.norm.weight": value}
    torch.save({"state_dict": state}, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match=rf"w\.pth.*{reason}"):
        se.load_pretrained(tmp_path / "w.pth")


@pytest.mark.parametrize("name", ["\ud800", "\x1b[2J", "a" * 9000, "\0"])
def test_what_a_file_says_can_be_shown(tmp_path, theirs, name):
    torch.save(nvlabs(theirs.state_dict()) | {f"backbone.{name}": torch.ones(2, 2)}, tmp_path / "w.pth")
    with pytest.raises(ValueError, match="names are those of NVlabs") as caught:
        se.load_pretrained(tmp_path / "w.pth")
    text = str(caught.value).removeprefix(str(tmp_path))
    assert text.isprintable()
    assert len(text) < 1100


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a": "\\ud800"}', "9" * 5000, '{"id2label": {"0": "\\udfff"}}'])
def test_a_configuration_that_is_none(folder, text):
    (folder / "config.json").write_text(text)
    with pytest.raises(ValueError, match=r"config\.json (is no JSON|holds a)"):
        se.load_pretrained(folder)


@pytest.mark.parametrize(
    "start", [b"\x80", b"\x80\x02", b"ustar", bytes(257) + b"ustar", b"PK", b"PK\x05\x06" + bytes(18)]
)
def test_beginnings_of_other_files(tmp_path, start):
    (tmp_path / "w.pt").write_bytes(start + bytes(600))
    with pytest.raises(ValueError, match=r"w\.pt cannot be read as weights"):
        se.load_pretrained(tmp_path / "w.pt")


@pytest.mark.parametrize("container", ["state_dict", "model", "model_state_dict"])
def test_weights_inside_of_something(tmp_path, theirs, container):
    torch.save({container: nvlabs(theirs.state_dict()), "epoch": 3, "note": "text"}, tmp_path / "run.pt")
    assert_same(se.load_pretrained(tmp_path / "run.pt"), theirs)


@pytest.mark.parametrize(
    "beside",
    [
        {},
        {"model": {"name": "segformer", "lr": 1e-3}},
        {"state_dict": {}, "model_state": {"backbone": "b0"}},
        {"model": {"net": {"depth": 3}}},
    ],
    ids=str,
)
@pytest.mark.parametrize("container", ["net", "module", "weights", "ema", "ema_state_dict", "state_dict_ema"])
def test_settings_under_the_name_of_weights(tmp_path, theirs, container, beside):
    torch.save(beside | {container: nvlabs(theirs.state_dict())}, tmp_path / "run.pt")
    with pytest.warns(UserWarning, match="assumed: heads"):
        assert_same(se.load_pretrained(tmp_path / "run.pt"), theirs)


@pytest.mark.parametrize("container", ["model", "net", "state_dict"])
def test_an_average_is_not_taken_for_the_model(tmp_path, theirs, container):
    torch.manual_seed(7)
    average = nvlabs(segmenter(SMALL).state_dict())
    torch.save({"ema": average, container: {"module": nvlabs(theirs.state_dict())}}, tmp_path / "run.pt")
    with pytest.warns(UserWarning, match="assumed: heads"):
        assert_same(se.load_pretrained(tmp_path / "run.pt"), theirs)


def test_a_mapping_that_holds_itself(tmp_path):
    thing = {"lr": 0.1}
    thing |= dict.fromkeys(("model", "net", "state_dict", "module", "weights", "ema"), thing)
    torch.save(thing, tmp_path / "thing.pt")
    with pytest.raises(ValueError, match=r"thing\.pt: Got dict; expected a state dict"):
        se.load_pretrained(tmp_path / "thing.pt")


@pytest.mark.parametrize(
    "thing", [[1, 2], {"weights": 3}, torch.ones(3), {"state_dict": {"a": [1]}}, {1: torch.ones(1)}]
)
def test_no_state_dict(tmp_path, thing):
    torch.save(thing, tmp_path / "thing.pt")
    with pytest.raises(ValueError, match=r"thing\.pt: Got .*; expected a state dict"):
        se.load_pretrained(tmp_path / "thing.pt")


def test_a_whole_model_is_refused_without_running_it(tmp_path):
    """torch.save(model) writes code to run; so would a stranger."""
    torch.save(se.Segformer(), tmp_path / "model.pt")
    with pytest.raises(ValueError, match=r"more than tensors.*torch\.save\(model\.state_dict\(\), path\)"):
        se.load_pretrained(tmp_path / "model.pt")


@pytest.mark.parametrize("source", ["none.pt", "some/none.pth", "a/b/c", "plain", "https://somewhere/w.pth", "a b/c"])
def test_nothing_there(source):
    with pytest.raises(FileNotFoundError, match=r"There is no file .*, and no such folder; expected one, or the id"):
        se.load_pretrained(source)


class Hub(ThreadingHTTPServer):
    """Answers as Hugging Face does, for files of one model; ``cuts`` says how often a file breaks off half way."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), HubHandler)
        self.files, self.cuts, self.asked, self.ranges, self.etags = {}, Counter(), Counter(), [], {}
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def serve_folder(self, folder):
        self.files = {f"/{ID}/resolve/main/{path.name}": path.read_bytes() for path in folder.iterdir()}


class HubHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def begin(self) -> bytes | None:
        content = self.server.files.get(self.path)
        if content is None:
            self.send_response(404)
            self.send_header("X-Error-Code", "EntryNotFound" if self.path.startswith(f"/{ID}/") else "RepoNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return None
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").split("-")[0])
        self.send_response(206 if start else 200)
        self.send_header("X-Repo-Commit", "0" * 40)
        self.send_header("ETag", f'"{self.server.etags.get(self.path) or hashlib.sha256(content).hexdigest()}"')
        self.send_header("Content-Length", str(len(content) - start))
        if start:
            self.server.ranges.append(start)
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        return content[start:]

    def do_HEAD(self):
        self.begin()

    def do_GET(self):
        name = self.path.split("/")[-1]
        self.server.asked[name] += 1
        if (content := self.begin()) is None:
            return
        cut = self.server.cuts[name] > 0
        self.server.cuts[name] -= cut
        self.wfile.write(content[: len(content) // 2] if cut else content)
        self.close_connection = cut

    def log_message(self, *_):
        pass


@pytest.fixture
def hub(monkeypatch, tmp_path):
    with Hub() as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        monkeypatch.setattr(constants, "ENDPOINT", running.url)
        template = f"{running.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr("time.sleep", lambda seconds: None)
        yield running
        running.shutdown()


def test_id(hub, folder, theirs):
    hub.serve_folder(folder)
    assert_same(se.load_pretrained(ID), theirs)
    assert_same(se.load_pretrained(ID), theirs)
    assert {name: hub.asked[name] for name in ("model.safetensors", "config.json")} == {
        "model.safetensors": 1,
        "config.json": 1,
    }  # the second time nothing was sent


def test_id_through_the_environment(hub, folder, tmp_path):
    """As a reader of a mirror does it, in a process of its own."""
    hub.serve_folder(folder)
    settings = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_TELEMETRY": "1"}
    code = f"import segformer_edu as se; print(se.load_pretrained({ID!r}).num_classes)"
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | settings, capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "7", done.stderr


@pytest.mark.parametrize("suffix", ["bin", "safetensors"])
def test_id_of_several_files(hub, folder, theirs, suffix):
    split(folder, suffix)
    hub.serve_folder(folder)
    assert_same(se.load_pretrained(ID), theirs)


def test_id_with_a_bin_alone_and_no_configuration(hub, folder, theirs):
    torch.save(theirs.state_dict(), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    (folder / "config.json").unlink()
    hub.serve_folder(folder)
    assert_same(se.load_pretrained(ID), theirs)
    hub.shutdown()
    hub.server_close()
    assert_same(se.load_pretrained(ID), theirs)  # without a connection, from where the download left it


def test_a_transfer_that_is_cut_goes_on(hub, folder, theirs, monkeypatch):
    hub.serve_folder(folder)
    hub.cuts["model.safetensors"] = 2
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 4096)  # what has arrived is kept in pieces of this size
    assert_same(se.load_pretrained(ID), theirs)
    size = (folder / "model.safetensors").stat().st_size
    assert len(hub.ranges) == 2
    assert 0 < hub.ranges[0] < hub.ranges[1] < size


def test_a_transfer_that_is_always_cut(hub, folder):
    hub.serve_folder(folder)
    hub.cuts["model.safetensors"] = 10**6
    hub.files = {name: content[:1] if "safetensors" in name else content for name, content in hub.files.items()}
    with pytest.raises(
        ConnectionError, match=r"model\.safetensors of somebody/segformer could not be downloaded.*Try aga"
    ):
        se.load_pretrained(ID)


def test_a_download_that_is_not_what_it_should_be(hub, folder):
    hub.serve_folder(folder)
    hub.etags[f"/{ID}/resolve/main/model.safetensors"] = "0" * 64
    with pytest.raises(ValueError, match=r"corrupt.*\(its sha256 is not 000.*Fetch it again"):
        se.load_pretrained(ID)


def test_id_without_weights(hub, folder):
    (folder / "model.safetensors").unlink()
    hub.serve_folder(folder)
    with pytest.raises(FileNotFoundError, match=r"has none of model\.safetensors, pytorch_model\.bin.*Download"):
        se.load_pretrained(ID)


def test_unknown_id(hub):
    with pytest.raises(FileNotFoundError, match=r"no file or folder nobody/nothing, and Hugging Face shows no model"):
        se.load_pretrained("nobody/nothing")


def test_no_connection(hub):
    hub.shutdown()
    hub.server_close()
    with pytest.raises(ConnectionError, match=r"Without a connection, fetch the files elsewhere and give their folder"):
        se.load_pretrained(ID)


def test_a_path_is_no_id(hub, tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no file"):
        read_weights(tmp_path / "somebody" / "segformer")
    assert not hub.asked


class HubOfRevisions(HubHandler):
    """Knows one revision beside main, sees who asks, and says so where it has no such revision."""

    def begin(self) -> bytes | None:
        if "/resolve/" in self.path:  # huggingface_hub also asks for other things, without a token
            self.server.tokens.add(self.headers.get("Authorization"))
        if self.path not in self.server.files and "/resolve/v9/" in self.path:
            self.send_response(404)
            self.send_header("X-Error-Code", "RevisionNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return None
        return super().begin()


@pytest.fixture
def revisions(hub, folder, theirs):
    """The model at main, and another one at the tag v1."""
    hub.RequestHandlerClass, hub.tokens = HubOfRevisions, set()
    hub.serve_folder(folder)
    torch.manual_seed(7)
    other = segmenter(SMALL)
    other.save_pretrained(folder)
    hub.files |= {f"/{ID}/resolve/v1/{path.name}": path.read_bytes() for path in folder.iterdir()}
    return hub, other


def test_revision_token_and_folder_of_a_download(revisions, theirs, tmp_path):
    hub, other = revisions
    options = {"token": "hf_secret", "cache_dir": tmp_path / "elsewhere"}
    assert_same(se.load_pretrained(ID, revision="v1", **options), other)
    assert hub.tokens == {"Bearer hf_secret"}
    assert (tmp_path / "elsewhere").is_dir()
    assert not (tmp_path / "cache").exists()
    assert_same(se.load_pretrained(ID), theirs)
    hub.shutdown()
    hub.server_close()
    assert_same(se.load_pretrained(ID, revision="v1", cache_dir=tmp_path / "elsewhere"), other)  # from where it lies


def test_a_revision_that_is_not_there(revisions):
    with pytest.raises(FileNotFoundError, match=r"somebody/segformer on Hugging Face has no revision 'v9'; expected a"):
        se.load_pretrained(ID, revision="v9")


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_revision_of_what_lies_here(folder, kind):
    source = folder if kind == "folder" else folder / "model.safetensors"
    with pytest.raises(ValueError, match=rf"revision is 'v1', and .* is a {kind} on this machine.*Leave revision out"):
        se.load_pretrained(source, revision="v1")
    with pytest.warns(UserWarning, match="assumed: heads") if kind == "file" else contextlib.nullcontext():
        se.load_pretrained(source, token="hf_secret", cache_dir=folder)  # which no download needs
