"""A CamVid of four pictures, in the layout of the real one."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image


def png(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def camvid_files() -> dict[str, bytes]:
    random = np.random.default_rng(0)
    files = {}
    for split, names in {"train": "ab", "val": "c", "test": "d"}.items():
        lines = []
        for name in names:
            files[f"CamVid/{split}/{name}.png"] = png(random.integers(0, 256, (36, 48, 3), dtype=np.uint8))
            files[f"CamVid/{split}annot/{name}.png"] = png(random.integers(0, 12, (36, 48), dtype=np.uint8))
            lines.append(f"/SegNet/CamVid/{split}/{name}.png /SegNet/CamVid/{split}annot/{name}.png")
        files[f"CamVid/{split}.txt"] = "\n".join(lines).encode() + b"\n"
    return files


@pytest.fixture
def small_camvid(camvid_files, tmp_path):
    for path, content in camvid_files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(content)
    return tmp_path
