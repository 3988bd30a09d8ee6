"""Chapter 9: from a file, a folder or a Hugging Face id to names and tensors, without running anybody's code."""

from __future__ import annotations

import hashlib
import json
import os
import re
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from segformer_edu.pretrained.ours import shipped

WHOLE = ("model.safetensors", "pytorch_model.bin")
INDEX = tuple(f"{name}.index.json" for name in WHOLE)
KINDS = (WHOLE[0], INDEX[0], WHOLE[1], INDEX[1])
"""What weights lie in, in the order in which transformers looks for them: of several kinds one may be out of date."""
CONFIGURATION = "config.json"
PREPROCESSOR = "preprocessor_config.json"
"""What transformers does to a picture before a model sees it."""
RECORD = "segformer_edu"
"""Under this name a safetensors header, and config.json in this library's form, hold what a model of it is."""
EDITABLE = ("class_names", "drop_path", "dropout")
"""What somebody may change of a record in config.json, and the model answers as before."""
CHECKSUM = "crc32"
"""Under this name a safetensors header holds the ``checksum`` of the record and of all numbers."""
AVERAGES = ("ema", "ema_state_dict", "state_dict_ema", "model_ema", "ema_model")
WRAPPERS = ("state_dict", "model_state_dict", "model_state", "model", "network", "net", "module", "weights", *AVERAGES)
"""Under these names trainings put a state dict among other things; an average is taken where there is nothing else."""
NESTED = 4
"""How deep wrappers are looked into; a mapping may hold itself."""
OF_FIT = {"model", "recipe", "history", "settings"}
"""What a checkpoint of ``training.fit`` holds. Where weights were averaged, the average is what was validated."""
HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")
SUFFIXES = {".bin", ".ckpt", ".json", ".pt", ".pth", ".safetensors"}
FOLDER = 0x10
"""The mark of a folder in a zip, of which PyTorch reads nothing, and leaves what stood in memory before."""
BEGINNINGS = {
    b"version https://git-lfs": "a pointer of git-lfs, not the file itself: `git lfs pull` fetches that",
    b"<": "a web page, such as a site sends in place of a file that it wants a login for",
}


@dataclass(frozen=True)
class WeightFile:
    """What was read, as it was written.

    Attributes:
        entries: names to tensors.
        config: the record of this library's models (``SegformerConfig.to_dict``) that lies in the file or beside it;
            None where there is none.
        description: config.json of transformers; {} where there is none.
        preprocessor: preprocessor_config.json of transformers, likewise.
    """

    entries: Mapping[str, torch.Tensor]
    config: Mapping[str, Any] | None
    description: Mapping[str, Any]
    preprocessor: Mapping[str, Any] = field(default_factory=dict)


def read_weights(source: str | Path, **hub: Any) -> WeightFile:
    """Read names and tensors, and what lies in the file or beside it to say what model they are of.

    Args:
        source: a file of ``torch.save`` or of safetensors; a folder as ``save_pretrained`` or transformers writes it;
            the name of a model that comes with the library; or the id of such a folder on Hugging Face, "owner/name",
            which is downloaded, and kept where huggingface_hub keeps its files.
        hub: ``revision``, ``token`` and ``cache_dir``, as huggingface_hub has them; None is its default.

    Raises:
        FileNotFoundError: nothing there.
        ConnectionError: a download that failed.
        ValueError: a file that is truncated, corrupt, or holds more than tensors and plain values; a revision of what
            is not on Hugging Face.
        OSError: a file or folder that must not be read.
    """
    try:
        path = Path(source).expanduser()
        is_file, is_folder = path.is_file(), path.is_dir()
    except (OSError, RuntimeError):  # no such user, or a name that no file can have
        is_file = is_folder = False
    if (is_file or is_folder) and hub.get("revision") is not None:
        raise ValueError(
            f"revision is {hub['revision']!r}, and {source} is a {'file' if is_file else 'folder'} on this machine; "
            f"expected the id of a model on Hugging Face. Leave revision out."
        )
    if not (is_file or is_folder) and str(source) in shipped():
        path, is_file = shipped()[str(source)], True
    if is_file:
        entries, config = read_file(path)
        return WeightFile(entries, config, {})
    return read_folder(path if is_folder else fetch(source, **hub))


def read_file(path: Path) -> tuple[Mapping[str, torch.Tensor], Mapping[str, Any] | None]:
    """Read one file; what it is, its first bytes tell. A pickle that wants to run code is refused."""
    with path.open("rb") as file:
        start = file.read(64)
    try:
        check_digest(path)
        if start[8:9] == b"{":
            return read_safetensors(path)
        loaded = read_pickle(path)
    except Exception as error:  # a damaged pickle raises anything
        reasons = [reason for beginning, reason in BEGINNINGS.items() if start.startswith(beginning)]
        reasons.append(f"truncated, corrupt, or more than tensors ({in_words(str(error).split('. ')[0], 120)})")
        raise ValueError(
            f"{path} cannot be read as weights ({path.stat().st_size} bytes): {reasons[0]}. Fetch it again; "
            f"where you trust what made it, save it anew there with torch.save(model.state_dict(), path). Only tensors "
            f"and plain values are read: a pickle can run code."
        ) from error
    entries, record = unwrap(loaded, path)
    check_bulk(entries, path)
    return entries, record


def read_safetensors(path: Path) -> tuple[Mapping[str, torch.Tensor], Mapping[str, Any] | None]:
    """Read names, tensors and the record that ``save_pretrained`` writes into the header."""
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
        names = file.keys()  # the file itself is not iterable in every version
        entries = {name: file.get_tensor(name) for name in names}
    record = metadata.get(RECORD, "")
    if metadata.get(CHECKSUM) not in (None, checksum(entries, record)):
        raise ValueError("its checksum is wrong: a number or its record is not what was saved")
    loaded = json.loads(record) if record else None
    if loaded is not None and not is_record(loaded):
        raise ValueError("the record in its header describes no model")
    return entries, loaded


def checksum(entries: Mapping[str, torch.Tensor], record: str) -> str:
    """Return the CRC-32 of a record and of tensors with their names and shapes: safetensors has none of its own."""
    total = zlib.crc32(record.encode())
    for name in sorted(entries):
        value = entries[name]
        total = zlib.crc32(f"{name} {value.dtype} {tuple(value.shape)}".encode(), total)
        total = zlib.crc32(value.reshape(-1).view(torch.uint8).numpy().data, total)
    return f"{total:08x}"


def read_pickle(path: Path, device: torch.device | str = "cpu") -> Any:
    """Read what ``torch.save`` wrote, as it was written: tensors and plain values, no code.

    PyTorch alone is not enough: it does not look at the checksums that it wrote, it unpacks gigabytes from a small
    file, and before 2.6 it ran what a TorchScript archive says.

    Raises:
        Exception: of any kind, for a file that is anything else.
    """
    with path.open("rb") as file:
        start = file.read(2)
    if start == b"PK":
        check_zip(path)
    elif start[:1] != b"\x80":
        raise ValueError("it does not begin as what torch.save writes")
    return torch.load(path, map_location=device, weights_only=True)


def check_zip(path: Path) -> None:
    """Raise an exception if a zip is damaged, or is none of those that ``torch.save`` writes."""
    with zipfile.ZipFile(path) as archive:
        names, parts = archive.namelist(), archive.infolist()
        if any(name.endswith("/constants.pkl") for name in names):
            raise ValueError("it is TorchScript, which is code")
        if any(part.external_attr & FOLDER for part in parts):
            raise ValueError("a part of it is marked as a folder")
        if len(names) > len(set(names)) or sum(part.file_size for part in parts) > path.stat().st_size:
            raise ValueError("it unpacks to more than it holds; torch.save does not compress")
        if wrong := archive.testzip():
            raise ValueError(f"the checksum of {wrong} in it is wrong")


def check_bulk(entries: Any, path: Path) -> None:
    """Raise ValueError if tensors have no numbers, or many more than their file has room for."""
    values = (
        [each for each in entries.values() if isinstance(each, torch.Tensor)] if isinstance(entries, Mapping) else []
    )
    if any(value.is_meta or value.layout != torch.strided for value in values):
        raise ValueError(f"{path} holds tensors that are sparse, or have no numbers; expected whole ones.")
    total, size = sum(value.numel() * value.element_size() for value in values), path.stat().st_size
    if total > 4 * size:
        raise ValueError(f"{path} has {size} bytes, and its shapes need {total}: it is corrupt. Fetch it again.")


def in_words(text: object, most: int = 1000) -> str:
    """Return a text that can be shown anywhere, whatever a damaged file put into it, and is not too long."""
    shown = "".join(letter if letter.isprintable() or letter == "\n" else "?" for letter in str(text)[: most + 1])
    return shown if len(shown) <= most else f"{shown[:most]}…"


def unwrap(loaded: Any, path: Path) -> tuple[Any, Mapping[str, Any] | None]:
    """Find the state dict in what a training wrote around it, and the record that came with it.

    Raises:
        ValueError: records of several models, of which one must be wrong.
    """
    written = None
    for _ in range(8):  # a mapping may hold itself
        if not isinstance(loaded, Mapping):
            break
        written = written or (loaded["config"] if is_record(loaded.get("config")) else None)
        if loaded.keys() >= OF_FIT and isinstance(loaded.get("average"), Mapping):
            loaded = {name.removeprefix("module."): value for name, value in loaded["average"].items()}
            loaded.pop("n_averaged", None)
            break
        inner = next((loaded[key] for key in WRAPPERS if holds_tensors(loaded.get(key))), None)
        if inner is None:
            break
        loaded = inner
    # where ConfiguredModule puts it, under the name of the module, "" for the whole
    metadata = getattr(loaded, "_metadata", None)
    entries = metadata.items() if isinstance(metadata, Mapping) else ()
    records = {
        name: each["config"] for name, each in entries if isinstance(each, Mapping) and is_record(each.get("config"))
    }
    for record in records.values():
        check_one_function(record, records[min(records, key=len)], f"{path} has")
    return loaded, records[min(records, key=len)] if records else written


def holds_tensors(value: object, depth: int = NESTED) -> bool:
    """Whether this has tensors, or a wrapper that does; settings, which may bear the same name, have none."""
    if not isinstance(value, Mapping) or not depth:
        return False
    if any(isinstance(each, torch.Tensor) for each in value.values()):
        return True
    return any(holds_tensors(value[key], depth - 1) for key in WRAPPERS if key in value)


def check_one_function(
    one: Mapping[str, Any], other: Mapping[str, Any], where: str, names: Iterable[str] = ("heads", "norm_eps")
) -> None:
    """Raise ValueError if two records, of the same weights, are of two functions."""
    for name in names:
        first, second = plain(one.get(name)), plain(other.get(name))
        if first != second:
            raise ValueError(
                f"{where} records of two models: {name} {first} and {second}. Was a part exchanged, or a file "
                f"replaced? Save the model anew with save_pretrained."
            )


def plain(value: Any) -> Any:
    """Return a value as JSON has it."""
    return list(value) if isinstance(value, tuple) else value


def is_record(value: object) -> bool:
    """Whether this is what ``SegformerConfig.to_dict`` returns; another program may have a "config" of its own."""
    return isinstance(value, Mapping) and {"dims", "heads", "norm_eps", "dialect"} <= value.keys()


def check_digest(path: Path) -> None:
    """Raise ValueError if a file in huggingface_hub's cache, whose name is its sha256, is not what its name says."""
    name = path.resolve().name
    if re.fullmatch("[0-9a-f]{64}", name) and hashlib.sha256(path.read_bytes()).hexdigest() != name:
        raise ValueError(f"its sha256 is not {name}, as Hugging Face says")


def read_folder(folder: Path) -> WeightFile:
    """Read a folder as ``save_pretrained`` and transformers write it: weights, in one file or several, and the JSON."""
    kind = next((name for name in KINDS if (folder / name).is_file()), None)
    if kind is None:
        there = ", ".join(sorted(path.name for path in folder.iterdir())[:8]) or "nothing"
        raise FileNotFoundError(
            f"There are no weights in the folder {folder} (but {there}); expected {' or '.join(WHOLE)}. Another file: "
            f"give its own path."
        )
    description = read_json(folder / CONFIGURATION) if (folder / CONFIGURATION).is_file() else {}
    is_own = description.get("model_type") == RECORD
    # only in this library's own form: transformers would carry a record along that its next training makes untrue
    record = told if is_own and is_record(told := description.get(RECORD)) else None
    entries, inside = read_file(folder / kind) if kind in WHOLE else (read_shards(folder, kind), None)
    if record is not None and inside is not None:
        names = [key for key in inside if key not in EDITABLE]
        check_one_function(record, inside, f"{folder / kind} and {CONFIGURATION} have", names)
    # likewise: this library's own form has no such file, so one that lies there is of another model
    is_told = not is_own and (folder / PREPROCESSOR).is_file()
    return WeightFile(entries, record or inside, description, read_json(folder / PREPROCESSOR) if is_told else {})


def read_json(path: Path) -> dict:
    """Read an object of JSON."""
    try:
        loaded = json.loads(path.read_text(encoding="utf-8-sig"))  # Windows' editors write a mark before it
        json.dumps(loaded, ensure_ascii=False).encode()  # half a letter, which JSON can have, could never be shown
    except (ValueError, RecursionError) as error:
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
    if missing := [name for name in names if not os.path.isfile(folder / name)]:  # whatever a name: no exception
        told = in_words(", ".join(missing), 200)
        raise FileNotFoundError(f"{folder / index} speaks of {told}, not in the folder. Fetch the rest.")
    loaded: dict[str, torch.Tensor] = {}
    for name in names:
        part, _ = read_file(folder / name)
        if not isinstance(part, Mapping):
            raise ValueError(
                f"{folder / name} holds a {type(part).__name__}; expected names to tensors. Fetch it again."
            )
        loaded |= part
    return loaded


def fetch(source: str | Path, **hub: Any) -> Path:
    """Download what ``read_folder`` needs from Hugging Face, or find it where an earlier download left it."""
    if not isinstance(source, str) or not HUB_ID.fullmatch(source) or Path(source).suffix in SUFFIXES:
        raise FileNotFoundError(
            f"There is no file {source}, and no such folder; expected one, or the id of a model on Hugging Face, such "
            f"as 'nvidia/segformer-b0-finetuned-ade-512-512'."
        )
    from huggingface_hub import try_to_load_from_cache  # here: it is slow to import, and most files are local

    try:
        return download_folder(source, **hub)
    except ConnectionError:
        place = {name: hub.get(name) for name in ("revision", "cache_dir")}
        for name in KINDS:
            if isinstance(path := try_to_load_from_cache(source, name, **place), str):
                return Path(path).parent
        raise


def download_folder(repository: str, **hub: Any) -> Path:
    """Download the weights, of one kind alone, and the JSON; what is there already is asked for, not sent."""
    for name in KINDS:
        if (path := download(repository, name, **hub)) is not None:
            for other in shards(path) if name in INDEX else ():
                download(repository, other, **hub)
            for other in (CONFIGURATION, PREPROCESSOR):
                download(repository, other, **hub)
            return path.parent
    raise FileNotFoundError(
        f"{repository} on Hugging Face has none of {', '.join(WHOLE + INDEX)}. Download the file that you mean "
        f"yourself, and give its path."
    )


def download(repository: str, name: str, **hub: Any) -> Path | None:
    """Download a file from Hugging Face, None if it has no such file; a transfer that was cut goes on."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import (
        EntryNotFoundError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        return Path(hf_hub_download(repository, name, **hub))
    except RepositoryNotFoundError as error:
        raise FileNotFoundError(
            f"There is no file or folder {repository}, and Hugging Face shows no model of that id: misspelt, private, "
            f"or gated (then log in first, `hf auth login`, or give a token)."
        ) from error
    except RevisionNotFoundError as error:
        raise FileNotFoundError(
            f"{repository} on Hugging Face has no revision {hub.get('revision')!r}; expected a branch, a tag or a "
            f"commit of it. Leave revision out for the newest."
        ) from error
    except Exception as error:  # what a failed connection raises depends on the version of its HTTP library
        if isinstance(error, EntryNotFoundError) and not isinstance(error, LocalEntryNotFoundError):
            return None
        raise ConnectionError(
            f"{name} of {repository} could not be downloaded from Hugging Face ({type(error).__name__}: {error}). Try "
            f"again: what has arrived is kept. Without a connection, fetch the files elsewhere and give their folder."
        ) from error
