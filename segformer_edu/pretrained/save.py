"""Chapter 9: a model becomes a folder that says what it is, in this library's form or in Hugging Face's."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import nn

from segformer_edu.model.config import SegformerConfig, unwrapped
from segformer_edu.model.parts import FAST, PAPER
from segformer_edu.model.segformer import Segformer
from segformer_edu.model.variants import ImageClassifier
from segformer_edu.pretrained.load import differences, make
from segformer_edu.pretrained.names import HUGGINGFACE, KERNELS, LINEAR, OWN, PYTORCHS, find, finest_first
from segformer_edu.pretrained.processor import processor_of
from segformer_edu.pretrained.read import CHECKSUM, CONFIGURATION, PREPROCESSOR, RECORD, WHOLE, checksum

Weights = dict[str, torch.Tensor]
Texts = dict[str, dict[str, Any]]  # what files of JSON hold, under their names


def save_pretrained(model: Segformer | ImageClassifier, folder: str | Path, format: str = "segformer_edu") -> Path:
    """Write a model into a folder from which ``load_pretrained`` makes the same function again, bit for bit.

    model.safetensors and config.json are written. What the model is, with sizes, heads, eps and class names, stands in
    the header of the first, and in this library's form in the second too. A folder in Hugging Face's form can also be
    read by transformers, whose AutoImageProcessor finds the pictures' mean and standard deviation in a third file,
    preprocessor_config.json. What stood there under these names is replaced once all are complete.

    Args:
        model: a ``Segformer`` or ``ImageClassifier``, in training or not, also inside DataParallel or torch.compile.
        folder: is made where it is missing.
        format: "segformer_edu", this library's names; or "huggingface".

    Returns:
        The folder.

    Raises:
        TypeError: something that is no model of this library.
        ValueError: an unknown format; a model that was changed after it was made, so that ``model.config`` no longer
            describes it; in Hugging Face's form, a sketch or a model of parts of its own.
        OSError: a folder that is a file, or files that could not be written, on a full disk for one.

    Source: chapter 9; names as transformers' converter for SegFormer writes them.
    """
    model = checked(model)
    if format not in FORMS:
        raise ValueError(f"format is {format!r}; expected one of {', '.join(FORMS)}.")
    check_described(model)
    weights, texts = FORMS[format](model)
    folder = made(Path(folder))
    parts = [folder / f"{name}.part" for name in (WHOLE[0], *texts)]
    # each on its own: safetensors takes no two names of one tensor
    apart = {n: value.detach().cpu().clone(memory_format=torch.contiguous_format) for n, value in weights.items()}
    try:
        record = json.dumps(model.config.to_dict())
        save_file(apart, parts[0], metadata={"format": "pt", RECORD: record, CHECKSUM: checksum(apart, record)})
        for part, said in zip(parts[1:], texts.values()):
            part.write_text(json.dumps(said, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        for part in parts:
            os.replace(part, part.with_suffix(""))
    except SafetensorError as error:  # what it makes of whatever the system says
        raise OSError(
            f"{folder / WHOLE[0]} could not be written ({error}). Is there room on the disk for "
            f"{sum(value.nbytes for value in apart.values()) / 1e6:.1f} MB? What stood there is as it was."
        ) from error
    finally:
        for part in parts:
            part.unlink(missing_ok=True)
    return folder


def made(folder: Path) -> Path:
    """Return a folder that is there, whether or not it was before.

    Raises:
        FileExistsError, NotADirectoryError: it is a file, or lies in one.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        place = next((path for path in (folder, *folder.parents) if path.is_file()), folder)
        raise type(error)(
            f"{place} is no folder, and the model's files need one{'' if place == folder else f', {folder}'}. Give "
            f"another name; a folder that is missing is made."
        ) from error
    return folder


def checked(model: Any) -> Segformer | ImageClassifier:
    """Return a model of this library, taken out of what may be round it.

    Raises:
        TypeError: something else.
    """
    model = unwrapped(model) if isinstance(model, nn.Module) else model
    if not isinstance(model, Segformer | ImageClassifier):
        raise TypeError(
            f"The model is a {type(model).__name__}; expected a Segformer or an ImageClassifier of this library. An "
            f"encoder alone: torch.save(mit.state_dict(), path) keeps its record too."
        )
    return model


def check_described(model: Segformer | ImageClassifier) -> None:
    """Raise ValueError if a model's record no longer says what the model is."""
    if any(value.is_meta for value in model.state_dict().values()):
        raise ValueError("The model is on the device 'meta' and has no weights; load or draw them first.")
    problems = [] if model.config.dialect == "custom" else changes(model)
    if problems:
        raise ValueError(
            f"The model was changed after it was made, and model.config does not describe it: it "
            f"{'; it '.join(problems[:3])}{', …' if problems[3:] else ''}. Make a model with these sizes and give it "
            f"the weights, or keep your own code and torch.save(model.state_dict(), path)."
        )


def changes(model: Segformer | ImageClassifier) -> list[str]:
    """Say what sets a model apart from one that is made by its record."""
    config = model.config
    twin = make(config, PAPER if config.dialect == "paper" else FAST)
    found, expected = ({name: told_of(module) for name, module in each.named_modules()} for each in (model, twin))
    problems = differences(model.state_dict(), twin.state_dict())
    problems += [f"has other layers: {name}" for name in found.keys() ^ expected.keys()]
    return problems + [
        f"has {name} as {found[name]}, not {expected[name]}"
        for name in found.keys() & expected.keys()
        if found[name] != expected[name]
    ]


def told_of(module: nn.Module) -> str:
    """Return what a module is besides its weights."""
    own = {name: getattr(module, name) for name in ("heads", "eps") if hasattr(module, name)}
    return f"{type(module).__name__}({module.extra_repr()}) {own or ''}".strip()


def own_form(model: Segformer | ImageClassifier) -> tuple[Weights, Texts]:
    """Return a model's weights under this library's names, and config.json with its record."""
    return dict(model.state_dict()), {CONFIGURATION: {"model_type": RECORD, RECORD: model.config.to_dict()}}


def hugging_face_form(model: Segformer | ImageClassifier) -> tuple[Weights, Texts]:
    """Return a model's weights under the names of Hugging Face's files, and the JSON that transformers reads.

    Raises:
        ValueError: a sketch, or a model of parts of its own.
    """
    config = model.config
    if config.dialect not in ("paper", "fast"):
        raise ValueError(
            f"Hugging Face's form has room for the paper's model alone, and this one is of the dialect "
            f"{config.dialect!r}: its layers are others, so transformers would compute something else. Save it with "
            f"format='segformer_edu'."
        )
    if config.norm_eps != PYTORCHS:
        warnings.warn(
            f"transformers' layer norms add 1e-5 whatever config.json says, and this model has {config.norm_eps}: "
            f"there its logits will differ a little. load_pretrained reads the right ones from the same folder.",
            stacklevel=3,
        )
    weights: Weights = {}
    for name, value in finest_first(dict(model.state_dict())).items():  # turned round, it is coarsest first
        weights |= theirs(name, value)
    return weights, {CONFIGURATION: description_of(config), PREPROCESSOR: processor_of(config)}


def theirs(name: str, value: torch.Tensor) -> Weights:
    """Return one weight of ours under the name, or the two names, that Hugging Face's files have for it."""
    found = find(OWN, name)
    if found is None:
        raise ValueError(f"{name} has no name in Hugging Face's files; save with format='segformer_edu'.")
    part = found.part
    if LINEAR.search(name) and part != "fuse":
        value = value.flatten(1)
    halves = {"key": value.chunk(2)[0], "value": value.chunk(2)[1]} if part == "key, value" else {part: value}
    named = {f"{HUGGINGFACE[each].format(**found.places)}.{found.kind}": tensor for each, tensor in halves.items()}
    return {f"segformer.{key}" if key.startswith("encoder.") else key: tensor for key, tensor in named.items()}


def description_of(config: SegformerConfig) -> dict[str, Any]:
    """Return the config.json that transformers reads."""
    kind = "ImageClassification" if config.decoder_dim is None else "SemanticSegmentation"
    names = config.class_names or tuple(f"LABEL_{number}" for number in range(config.num_classes or 0))
    described = {
        "architectures": [f"SegformerFor{kind}"],
        "model_type": "segformer",
        "num_channels": config.channels,
        "num_encoder_blocks": len(config.dims),
        "hidden_sizes": list(config.dims),
        "depths": list(config.num_layers),
        "num_attention_heads": list(config.heads),
        "sr_ratios": list(config.reduction_ratio),
        "mlp_ratios": list(config.ff_expansion),
        "patch_sizes": list(KERNELS),
        "strides": [4, 2, 2, 2],
        "hidden_act": "gelu",
        "drop_path_rate": config.drop_path,
        "layer_norm_eps": config.norm_eps.blocks,
        "id2label": {str(number): name for number, name in enumerate(names)},
        "label2id": {name: number for number, name in enumerate(names)},
    }
    if config.decoder_dim is None:
        return described
    return described | {"decoder_hidden_size": config.decoder_dim, "classifier_dropout_prob": config.dropout or 0.0}


FORMS: dict[str, Callable[[Segformer | ImageClassifier], tuple[Weights, Texts]]] = {
    "segformer_edu": own_form,
    "huggingface": hugging_face_form,
}
"""What can be written."""
