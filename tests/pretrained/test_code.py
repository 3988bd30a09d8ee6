"""Pickles that would run code are refused, by every way in, and do not run."""

from __future__ import annotations

import io
import pickle
import re
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image
from storm_samples import CLASSES, QUIET, RECIPE, pt, small_model

import segformer_edu as se
from segformer_edu.data import Folder, Shapes
from segformer_edu.inference import as_image
from segformer_edu.training import fit


class Writes:
    """Unpickled, it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


class Code(torch.nn.Module):
    def forward(self, x):
        return x + 1


def torch_script(folder, evil):
    torch.jit.script(Code()).save(folder / "w.pt")
    return lambda: se.load_pretrained(folder / "w.pt")


def file(content):
    """A way in: a file whose bytes are made of something evil."""

    def way(folder, evil):
        (folder / "w.pt").write_bytes(content(evil))
        return lambda: se.load_pretrained(folder / "w.pt")

    return way


def protocol_4(evil):
    made = io.BytesIO()
    torch.save({"a": evil}, made, pickle_protocol=4, _use_new_zipfile_serialization=False)
    return made.getvalue()


def in_a_zip(evil):
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("archive/data.pkl", pt({"a": evil}))
        archive.writestr("archive/version", "3")
    return made.getvalue()


def hugging_face(folder, evil):
    (folder / "config.json").write_text("{}")
    (folder / "pytorch_model.bin").write_bytes(pt({"a": evil}))
    return lambda: se.load_pretrained(folder)


def hugging_face_in_parts(folder, evil):
    (folder / "pytorch_model.bin.index.json").write_text('{"weight_map": {"a": "1.bin"}}')
    (folder / "1.bin").write_bytes(pt({"a": evil}))
    return lambda: se.load_pretrained(folder)


def safetensors_by_name(folder, evil):
    (folder / "model.safetensors").write_bytes(pt({"a": evil}))
    return lambda: se.load_pretrained(folder)


def checkpoint(zipped):
    def way(folder, evil):
        path = folder / "run.pt"
        fit(small_model(), Shapes(4, size=32), RECIPE, checkpoint=path, **QUIET)
        path.write_bytes(pt(torch.load(path, weights_only=True) | {"settings": evil}, zipped))
        return lambda: fit(small_model(), Shapes(4, size=32), RECIPE, checkpoint=path, **QUIET)

    return way


def array_picture(folder, evil):
    np.save(folder / "p.npy", np.array([evil, evil], dtype=object), allow_pickle=True)
    return lambda: as_image(folder / "p.npy")


def array_map(folder, evil):
    for kind in ("images", "masks"):
        (folder / kind).mkdir()
    Image.new("RGB", (2, 1)).save(folder / "images" / "p.png")
    np.save(folder / "masks" / "p.npy", np.array([[evil, evil]], dtype=object), allow_pickle=True)
    return lambda: Folder(folder / "images", folder / "masks", CLASSES)[0]


@pytest.mark.parametrize(
    "way",
    [
        file(lambda evil: pt({"to_fused.0.0.weight": evil})),
        file(lambda evil: pt({"a": evil}, zipped=False)),
        file(protocol_4),
        file(pickle.dumps),
        file(in_a_zip),
        torch_script,
        hugging_face,
        hugging_face_in_parts,
        safetensors_by_name,
        checkpoint(zipped=True),
        checkpoint(zipped=False),
        array_picture,
        array_map,
    ],
    ids=[
        *("zip", "before 2020", "protocol 4", "bare pickle", "pickle in a zip", "TorchScript", "Hugging Face .bin"),
        *("in parts", "as .safetensors", "checkpoint", "checkpoint before 2020", "picture .npy", "class map .npy"),
    ],
)
def test_a_pickle_that_would_run_code_is_refused(tmp_path, way):
    evil = Writes(tmp_path / "it ran")
    folder = tmp_path / "files"
    folder.mkdir()
    use = way(folder, evil)
    (tmp_path / "it ran").unlink(missing_ok=True)
    with pytest.raises((ValueError, TypeError), match=re.escape(str(folder))):
        use()
    assert not (tmp_path / "it ran").exists()


def test_the_evil_pickle_is_one(tmp_path):
    pickle.loads(pickle.dumps(Writes(tmp_path / "it ran")))
    assert (tmp_path / "it ran").exists()
