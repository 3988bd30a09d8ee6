"""A model as an ONNX file, for programs without PyTorch, checked against the model."""

from __future__ import annotations

import copy
import importlib
import inspect
import json
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import nn

from segformer_edu.data.classes import class_list
from segformer_edu.model.config import unwrapped
from segformer_edu.model.logits import statistics_of
from segformer_edu.model.segformer import Segformer
from segformer_edu.model.variants import ImageClassifier

CHECKED = ((1, 64, 96), (2, 101, 70), (3, 32, 33), (1, 200, 160))
"""Batch, height and width of what the file is checked with; none of them is what it is written with."""
SEEN = (2, 128, 160)
TOLERANCE = 1e-3
"""The largest difference that is let pass, of the largest logit: that of float32 is a thousandth of it."""
INPUT, OUTPUT = "image", "logits"
SEVERAL_LOGITS = "the class is the number of the largest logit"
ONE_LOGIT = "the class is 1 where the logit is above 0, else 0"


@dataclass(frozen=True)
class Exported:
    """What was written, and how it was checked.

    Attributes:
        path: of the file.
        size: in bytes.
        shapes: (batch, height, width) of each input that it was checked with; none where it was not checked.
        difference: the largest between the model's logits and the file's; None where it was not checked.
        largest: of the model's logits.
        runtime: the version of ONNX Runtime that checked it; None where it is not installed.
    """

    path: Path
    size: int
    shapes: tuple[tuple[int, int, int], ...] = ()
    difference: float | None = None
    largest: float | None = None
    runtime: str | None = None

    def __str__(self) -> str:
        written = f"{self.path}: {self.size / 1e6:.1f} MB"
        if self.difference is None:
            return f"{written}; not checked: ONNX Runtime is not installed (pip install onnxruntime)"
        shapes = ", ".join("×".join(map(str, shape)) for shape in self.shapes)
        return (
            f"{written}; checked with ONNX Runtime {self.runtime} at {shapes} (batch, height, width): the largest "
            f"difference is {self.difference:.1e}, of logits up to {self.largest:.3g}"
        )


def export_onnx(model: nn.Module, path: str | Path) -> Exported:
    """Write a model as ONNX, in float32, for any batch and any height and width from 32 up.

    The file takes "image" (batch, channels, height, width), colours in [0, 1] less the mean, divided by the standard
    deviation, and gives "logits": (batch, classes, h, w) with h = (height - 1) // 4 + 1, or (batch, classes) of an
    ``ImageClassifier``. The largest logit's number is the class; of a model of one class, which has a single logit, it
    is 1 where that is above 0, and 0, the background, elsewhere. Its metadata say the mean, the standard deviation, the
    names of the classes and which of these rules holds, what the model is, and this library's version. Where ONNX
    Runtime is installed, it is checked against the model at several sizes.

    Args:
        model: a ``Segformer`` or ``ImageClassifier``, on any device, in training or not; it stays as it is.
        path: of the file, which is written whole or not at all.

    Returns:
        What was written, and the largest difference that was found.

    Raises:
        TypeError: something that is no model of this library.
        ImportError: onnx, or onnxscript which newer versions of PyTorch need, is not installed.
        ValueError: a model without weights; a file that computes something else than the model.

    Source: chapter 9.
    """
    inner, path = unwrapped(model), Path(path)
    if not isinstance(inner, Segformer | ImageClassifier):
        raise TypeError(
            f"The model is a {type(inner).__name__}; expected a Segformer or an ImageClassifier of this library, such "
            f"as load_pretrained makes."
        )
    if any(value.is_meta for value in inner.state_dict().values()):
        raise ValueError("The model is on the device 'meta' and has no weights; load or draw them first.")
    write = by_graph if graphs_are_usual() else by_tracing
    check_installed("onnx", "onnxscript") if write is by_graph else check_installed("onnx")
    twin = copy.deepcopy(inner).cpu().float().eval().requires_grad_(False)
    part = path.with_name(f"{path.name}.part")
    try:
        with quiet():
            write(twin, torch.zeros(SEEN[0], twin.config.channels, *SEEN[1:]), part)
        add_metadata(part, facts(inner))
        result = checked(twin, part, path)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return result


def graphs_are_usual() -> bool:
    """Whether this PyTorch exports by torch.export unless told otherwise; older ones trace."""
    parameter = inspect.signature(torch.onnx.export).parameters.get("dynamo")
    return parameter is not None and parameter.default is True


def check_installed(*names: str) -> None:
    """Raise ImportError if one of these packages is missing."""
    missing = [name for name in names if find_spec(name) is None]
    if missing:
        raise ImportError(
            f"PyTorch {torch.__version__} writes ONNX with {' and '.join(names)}, and {' and '.join(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} not installed. pip install {' '.join(names)} onnxruntime; the "
            f"last one checks the file."
        )


def by_graph(model: nn.Module, image: torch.Tensor, path: Path) -> None:
    """Write a model by torch.export."""
    batch, height, width = (
        torch.export.Dim(name, min=least, max=1 << 16) for name, least in (("batch", 1), ("height", 64), ("width", 64))
    )  # an encoder's last map of a single pixel would be taken for the only size; the file itself knows no least one
    program = torch.onnx.export(
        model,
        (image,),
        dynamo=True,
        dynamic_shapes=({0: batch, 2: height, 3: width},),
        input_names=[INPUT],
        output_names=[OUTPUT],
        verbose=False,
    )
    program.save(path)  # type: ignore[union-attr]  # None only where it is given a file's name


def by_tracing(model: nn.Module, image: torch.Tensor, path: Path) -> None:
    """Write a model by running it once and taking down what it does."""
    axes = {INPUT: {0: "batch", 2: "height", 3: "width"}, OUTPUT: {0: "batch", 2: "rows", 3: "columns"}}
    if isinstance(model, ImageClassifier):
        axes[OUTPUT] = {0: "batch"}
    model(image)  # einops gets ready for PyTorch's compiler when it is first called, which fails inside a trace
    old: dict[str, Any] = {"dynamo": False} if "dynamo" in inspect.signature(torch.onnx.export).parameters else {}
    torch.onnx.export(model, (image,), str(path), input_names=[INPUT], output_names=[OUTPUT], dynamic_axes=axes, **old)


@contextmanager
def quiet() -> Iterator[None]:
    """Let the exporters, which tell much that is of no use to a user, say nothing."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def facts(model: Segformer | ImageClassifier) -> dict[str, str]:
    """Return what a program has to know of a model besides its function; lists as JSON."""
    from segformer_edu import __version__  # here: it is the top of the house, and imports everything

    mean, std = statistics_of(model, model.config.channels)
    return {
        "segformer_edu": __version__,
        "class_names": json.dumps(names_of(model), ensure_ascii=False),
        "class_rule": ONE_LOGIT if model.num_classes == 1 else SEVERAL_LOGITS,
        "image_mean": json.dumps(mean),
        "image_std": json.dumps(std),
        "config": json.dumps(model.config.to_dict(), ensure_ascii=False),
    }


def names_of(model: Segformer | ImageClassifier) -> tuple[str, ...]:
    """Return the names of the classes that a model tells apart: with one logit, the background and its class."""
    if model.num_classes == 1:
        return ("background", model.class_names[0] if model.class_names else "class 1")
    return tuple(class_list(model.class_names or model.num_classes).names)


def add_metadata(path: Path, values: dict[str, str]) -> None:
    """Write texts into an ONNX file, where every runtime finds them."""
    onnx = importlib.import_module("onnx")  # not one of this library's dependencies
    file = onnx.load(str(path))
    onnx.helper.set_model_props(file, values)
    onnx.save(file, str(path))


def checked(model: Segformer | ImageClassifier, file: Path, path: Path) -> Exported:
    """Compare an ONNX file with its model, where ONNX Runtime is installed.

    Raises:
        ValueError: they compute different things.
    """
    size = file.stat().st_size
    if find_spec("onnxruntime") is None:
        return Exported(path, size)
    runtime = importlib.import_module("onnxruntime")  # not one of this library's dependencies
    session = runtime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    difference = largest = 0.0
    for number, (batch, height, width) in enumerate(CHECKED):
        generator = torch.Generator().manual_seed(number)
        image = torch.randn(batch, model.config.channels, height, width, generator=generator)
        (found,) = session.run(None, {INPUT: image.numpy()})
        with torch.no_grad():
            expected = model(image)
        difference = max(difference, (torch.from_numpy(found) - expected).abs().max().item())
        largest = max(largest, expected.abs().max().item())
    if not difference <= TOLERANCE * max(1.0, largest):
        raise ValueError(
            f"The ONNX file computes something else than the model: its logits differ by up to {difference:.1e}, of "
            f"{largest:.3g}. Nothing was written. Another version of torch, onnxscript or onnxruntime may do it right."
        )
    return Exported(path, size, CHECKED, difference, largest, version("onnxruntime"))
