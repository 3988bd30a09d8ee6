"""Chapter 7: a training on disk, written whole or not at all, and taken up again."""

from __future__ import annotations

import io
import os
import shutil
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from segformer_edu.model.config import SegformerConfig, record_differs, unwrapped
from segformer_edu.pretrained.read import in_words, read_pickle
from segformer_edu.training.processes import Processes


class BrokenCheckpointError(ValueError):
    """A file that is no checkpoint, or a damaged one."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"{path} is no checkpoint of fit ({why}). {advice(path)}")


CONTENTS = {"model", "optimizer", "recipe", "history"}


def check_writable(path: Path) -> None:
    """Raise ValueError if a checkpoint cannot be written there, before anything takes time."""
    try:
        if path.exists() and not path.is_file():
            raise OSError("it is a folder" if path.is_dir() else "it is no file")
        path.parent.mkdir(parents=True, exist_ok=True)
        part_of(path).touch()
        part_of(path).unlink()
        part_of(before(path)).unlink(missing_ok=True)  # of a process that was killed
    except (OSError, ValueError) as error:  # a name with a zero byte, say
        raise ValueError(
            f"The checkpoint {path} cannot be written ({error}); expected the name of a file in a folder that can be "
            f"written to, such as checkpoint='run.pt'."
        ) from error


def part_of(path: Path) -> Path:
    """Return where a checkpoint grows until it is complete; each of several processes has a place of its own."""
    rank = Processes.here().rank
    return path.with_name(f"{path.name}.{rank}.part" if rank else f"{path.name}.part")


def before(path: Path) -> Path:
    """Return where the checkpoint before the newest is kept."""
    return path.with_name(path.name + ".before")


def keep_earlier(path: Path) -> None:
    """Keep the checkpoint that is about to be replaced; ``path`` is there all the time."""
    if not path.is_file():
        before(path).unlink(missing_ok=True)  # of another training, whose newest somebody deleted
        return
    link = part_of(before(path))
    link.unlink(missing_ok=True)
    try:
        os.link(path, link)
    except OSError:  # a file system without links
        shutil.copyfile(path, link)
    os.replace(link, before(path))


def write_checkpoint(path: Path, state: Mapping[str, Any], keeps_earlier: bool = False) -> None:
    """Write a checkpoint in one move, so that an interruption or a full disk leaves the earlier one.

    With ``keeps_earlier`` that one stays beside it, should the newest be damaged later.

    Raises:
        OSError: it cannot be written, on a full disk say; the earlier one is untouched.
    """
    buffer, part = io.BytesIO(), part_of(path)
    torch.save(dict(state), buffer)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(part, "wb") as file:
            file.write(buffer.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        if keeps_earlier:
            keep_earlier(path)
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def read_checkpoint(path: Path, device: torch.device) -> dict[str, Any]:
    """Read what ``write_checkpoint`` wrote.

    Raises:
        BrokenCheckpointError: a file that is no checkpoint.
    """
    try:
        saved: dict[str, Any] = read_pickle(path, device)
        missing = CONTENTS - saved.keys()
    except Exception as error:  # a damaged pickle raises anything
        raise BrokenCheckpointError(path, in_words(error, 200)) from error
    if missing:
        raise BrokenCheckpointError(path, f"it lacks {', '.join(sorted(missing))}")
    if not all(isinstance(saved[name], dict) for name in CONTENTS):
        raise BrokenCheckpointError(path, "its parts are no dictionaries")
    return saved


def check_model(model: nn.Module, saved: Mapping[str, Any], path: Path) -> None:
    """Raise ValueError if a checkpoint's weights are of another model, or of one that computes something else.

    Before anything is copied: no model is ever half loaded.
    """
    config = getattr(unwrapped(model), "config", None)
    if isinstance(config, SegformerConfig) and saved.get("config"):
        difference = record_differs(saved["config"], config)
        if difference:
            raise ValueError(f"{path} holds weights of another model: {difference}. {advice(path)}")
    own = model.state_dict()
    weights = saved["model"]
    wrong = [name for name in own if name not in weights or getattr(weights[name], "shape", None) != own[name].shape]
    wrong += [name for name in weights if name not in own]
    if wrong:
        raise ValueError(f"{path} holds another model's weights (first: {wrong[0]}). {advice(path)}")


def advice(path: Path) -> str:
    """Say what to do where a checkpoint cannot be taken up."""
    return f"Give another file name to start afresh, or delete {path}."


@contextmanager
def undivided() -> Iterator[None]:
    """Hold Ctrl-C, and SIGTERM where somebody handles it, back until the block is done: no step is half taken."""
    handlers = {kind: signal.getsignal(kind) for kind in (signal.SIGINT, signal.SIGTERM)}
    handlers = {kind: handler for kind, handler in handlers.items() if callable(handler)}
    if threading.current_thread() is not threading.main_thread() or not handlers:
        yield
        return
    pressed: list[Any] = []
    for kind in handlers:
        signal.signal(kind, lambda *given: pressed.append(given))
    try:
        yield
    finally:
        for kind, handler in handlers.items():
            signal.signal(kind, handler)
    if pressed:
        cast(Any, handlers[pressed[0][0]])(*pressed[0])
