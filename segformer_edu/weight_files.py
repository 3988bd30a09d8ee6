"""Chapter 9: from a file, a folder or a Hugging Face id to names and tensors, without running anybody's code."""

from __future__ import annotations

import hashlib
import json
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file

WHOLE = ("model.safetensors", "pytorch_model.bin")
INDEX = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
CONFIGURATION = "config.json"
HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")
SUFFIXES = {".bin", ".ckpt", ".json", ".pt", ".pth", ".safetensors"}
BEGINNINGS = {
    b"version https://git-lfs": "a pointer of git-lfs, not the file itself: `git lfs pull` fetches that",
    b"<": "a web page, such as a site sends in place of a file that it wants a login for",
}


def read_weights(source: str | Path) -> tuple[Mapping[str, torch.Tensor], dict]:
    """Read names and tensors, and the configuration that lies beside them in a folder, {} if there is none.

    Args:
        source: a file of ``torch.save`` or of safetensors; a folder as transformers writes it; or the id of such a
            folder on Hugging Face, "owner/name", which is downloaded, and kept where huggingface_hub keeps its files.

    Raises:
        FileNotFoundError: nothing there.
        ConnectionError: a download that failed.
        ValueError: a file that is truncated, corrupt, or holds more than tensors and plain values.
    """
    path = Path(source).expanduser()
    if path.is_file():
        return read_file(path), {}
    return read_folder(path if path.is_dir() else fetch(source))


def read_file(path: Path) -> Mapping[str, torch.Tensor]:
    """Read one file; what it is, its first bytes tell. A pickle that wants to run code is refused."""
    with path.open("rb") as file:
        start = file.read(64)
    try:
        check_digest(path)
        if start[8:9] == b"{":
            return load_file(path)
        if start.startswith(b"PK") and (part := zipfile.ZipFile(path).testzip()):
            raise ValueError(f"the checksum of {part} in it is wrong")
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle raises anything
        reasons = [reason for beginning, reason in BEGINNINGS.items() if start.startswith(beginning)]
        reasons.append(f"truncated, corrupt, or more than tensors ({str(error).split('. ')[0][:120]})")
        raise ValueError(
            f"{path} cannot be read as weights ({path.stat().st_size} bytes): {reasons[0]}. Fetch it again; "
            f"where you trust what made it, save it anew there with torch.save(model.state_dict(), path). Only tensors "
            f"and plain values are read: a pickle can run code."
        ) from error
    for key in ("state_dict", "model", "model_state_dict"):
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            return loaded[key]
    return loaded


def check_digest(path: Path) -> None:
    """Raise ValueError if a file in huggingface_hub's cache, whose name is its sha256, is not what its name says."""
    name = path.resolve().name
    if re.fullmatch("[0-9a-f]{64}", name) and hashlib.sha256(path.read_bytes()).hexdigest() != name:
        raise ValueError(f"its sha256 is not {name}, as Hugging Face says")


def read_folder(folder: Path) -> tuple[Mapping[str, torch.Tensor], dict]:
    """Read a folder as transformers writes it: weights in one file, or in several and an index, and config.json."""
    configuration = read_json(folder / CONFIGURATION) if (folder / CONFIGURATION).is_file() else {}
    for name in WHOLE:
        if (folder / name).is_file():
            return read_file(folder / name), configuration
    for name in INDEX:
        if (folder / name).is_file():
            return read_shards(folder, name), configuration
    there = ", ".join(sorted(path.name for path in folder.iterdir())[:8]) or "nothing"
    raise FileNotFoundError(
        f"There are no weights in the folder {folder} (but {there}); expected {' or '.join(WHOLE)}. Another file: "
        f"give its own path."
    )


def read_json(path: Path) -> dict:
    """Read an object of JSON."""
    try:
        loaded = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is no JSON ({error}): truncated or corrupt. Fetch it again.") from error
    if not isinstance(loaded, dict):
        raise ValueError(f"{path} holds a {type(loaded).__name__}; expected an object, names to values.")
    return loaded


def shards(index: Path) -> list[str]:
    """Read the names of the files that an index speaks of."""
    places = read_json(index).get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(name, str) for name in places.values()):
        raise ValueError(f"{index} has no weight_map, names of weights to names of files: it is no index.")
    return sorted({Path(name).name for name in places.values()})


def read_shards(folder: Path, index: str) -> dict[str, torch.Tensor]:
    """Read the files of an index into one state dict."""
    names = shards(folder / index)
    if missing := [name for name in names if not (folder / name).is_file()]:
        raise FileNotFoundError(f"{folder / index} speaks of {', '.join(missing)}, not in the folder. Fetch the rest.")
    loaded: dict[str, torch.Tensor] = {}
    for name in names:
        part = read_file(folder / name)
        if not isinstance(part, Mapping):
            raise ValueError(
                f"{folder / name} holds a {type(part).__name__}; expected names to tensors. Fetch it again."
            )
        loaded |= part
    return loaded


def fetch(source: str | Path) -> Path:
    """Download what ``read_folder`` needs from Hugging Face, or find it where an earlier download left it."""
    if not isinstance(source, str) or not HUB_ID.fullmatch(source) or Path(source).suffix in SUFFIXES:
        raise FileNotFoundError(
            f"There is no file {source}, and no such folder; expected one, or the id of a model on Hugging Face, such "
            f"as 'nvidia/segformer-b0-finetuned-ade-512-512'."
        )
    from huggingface_hub import try_to_load_from_cache  # here: it is slow to import, and most files are local

    try:
        return download_folder(source)
    except ConnectionError:
        for name in (*WHOLE, *INDEX):
            if isinstance(path := try_to_load_from_cache(source, name), str):
                return Path(path).parent
        raise


def download_folder(repository: str) -> Path:
    """Download the weights, of one kind alone, and the configuration; what is there already is asked for, not sent."""
    for name in (*WHOLE, *INDEX):
        if (path := download(repository, name)) is not None:
            for other in shards(path) if name in INDEX else ():
                download(repository, other)
            download(repository, CONFIGURATION)
            return path.parent
    raise FileNotFoundError(
        f"{repository} on Hugging Face has none of {', '.join(WHOLE + INDEX)}. Download the file that you mean "
        f"yourself, and give its path."
    )


def download(repository: str, name: str) -> Path | None:
    """Download a file from Hugging Face, None if it has no such file; a transfer that was cut goes on."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError, RepositoryNotFoundError

    try:
        return Path(hf_hub_download(repository, name))
    except RepositoryNotFoundError as error:
        raise FileNotFoundError(
            f"There is no file or folder {repository}, and Hugging Face shows no model of that id: misspelt, private, "
            f"or gated (then log in first: `hf auth login`)."
        ) from error
    except Exception as error:  # what a failed connection raises depends on the version of its HTTP library
        if isinstance(error, EntryNotFoundError) and not isinstance(error, LocalEntryNotFoundError):
            return None
        raise ConnectionError(
            f"{name} of {repository} could not be downloaded from Hugging Face ({type(error).__name__}: {error}). Try "
            f"again: what has arrived is kept. Without a connection, fetch the files elsewhere and give their folder."
        ) from error
