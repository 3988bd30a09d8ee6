"""Chapter 9: everybody's weights in this library's models.

The weights that NVIDIA published are under a licence of their own, which allows research and evaluation, not commercial
use; files converted from them stay under it. This library holds none of them, and none of NVIDIA's code.
"""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from segformer_edu.arguments import check_positive
from segformer_edu.encoder import MiT
from segformer_edu.formats import STAGES, Format, find, recognize
from segformer_edu.normalization import LayerNorm2d
from segformer_edu.parts import PAPER, SKETCH, Parts
from segformer_edu.segformer import (
    VARIANTS,
    ImageClassifier,
    Segformer,
    initialize_head,
    prepare_memory,
    schedule_drop_path,
)
from segformer_edu.weight_files import read_weights

KERNELS = (7, 3, 3, 3)
HEADS = (1, 2, 5, 8)
LINEAR = re.compile(r"(\.(to_q|to_kv|to_qkv|to_k|to_v|to_out|widen|narrow)|decoder\.(fuse|project\.\d))\.weight$")
LAST = ("decoder.classify.", "decoder.to_segmentation.1.")
WIDTH = 256


class ConvertedStateDict(dict):
    """A state dict in this library's names.

    Attributes:
        format: where the names came from: "nvlabs", "smp", "mmsegmentation", "huggingface" (files), "transformers"
            (5.x in memory), "lucidrains" (segformer-pytorch 0.0.6 and the article's listing) or "segformer_edu".
        title: the same for a message.
        is_sketch: whether the weights are the sketch's, not those of the paper's model.
        norm_eps: the eps that the format's layer norms have: in the blocks and after the stages, in the patch
            embeddings, on the shrunken maps.
    """

    def __init__(self, entries: Mapping[str, torch.Tensor], format: Format) -> None:
        super().__init__(entries)
        self.format, self.title = format.name, format.title
        self.is_sketch, self.norm_eps = format.is_sketch, format.norm_eps


def convert_state_dict(state_dict: Mapping[str, torch.Tensor]) -> ConvertedStateDict:
    """Rename, split, join and reshape a state dict so that ``load_state_dict`` of this library's model takes it.

    A prefix that stands before every name, such as "module.", is dropped. A file of the encoder alone gives the
    encoder's names alone. The eps of layer norms is no weight: ``load_pretrained`` sets it; after ``load_state_dict``
    call ``set_norm_eps(model, converted.norm_eps)``.

    Args:
        state_dict: of a SegFormer or its encoder, in the names of NVlabs, mmsegmentation 1.x (encoder), Hugging Face's
            files, transformers 5.x, segmentation-models-pytorch, lucidrains or this library.

    Returns:
        A dict whose ``format`` says which it was. Tensors share memory with the given ones where they can.

    Raises:
        TypeError: something that is no mapping of names to tensors.
        ValueError: names of no known format, names that the format doesn't have, and the decoder of mmsegmentation,
            which is another function.

    Source: chapter 9; names read from the code of each, see ``FORMATS``.
    """
    if not isinstance(state_dict, Mapping) or not all(
        isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in state_dict.items()
    ):
        raise TypeError(
            f"Got {type(state_dict).__name__}; expected a state dict, names to tensors, as model.state_dict() returns."
        )
    format, prefix = recognize(state_dict)
    entries, strangers = {}, []
    for name, value in state_dict.items():
        found = find(format, name)
        if found and found.prefix == prefix and found.ours not in entries:
            entries[found.ours] = value
        elif not re.match(re.escape(prefix) + format.unused, name):
            strangers.append(name)
    refuse(strangers, len(state_dict), format, prefix)
    try:
        entries = sketch_entries(entries, format) if format.is_sketch else paper_entries(entries, format)
    except (RuntimeError, IndexError) as error:
        raise ValueError(f"Names of {format.title}, but shapes that no SegFormer has: {error}") from error
    return ConvertedStateDict(entries, format)


def refuse(strangers: list[str], count: int, format: Format, prefix: str) -> None:
    """Raise ValueError if among ``count`` names there are some that the format does not have."""
    if not strangers:
        return
    some = ", ".join(strangers[:3]) + (", …" if len(strangers) > 3 else "")
    if format.name == "mmsegmentation" and any("decode_head." in name for name in strangers):
        raise ValueError(
            f"The encoder is mmsegmentation's, and so is the decoder ({some}). That decoder has a BatchNorm and a ReLU "
            f"after each projection, which the paper's has not: it cannot be converted exactly. Keep the encoder: "
            f"{{name: value for name, value in state_dict.items() if name.startswith('{prefix}backbone.')}}, and train "
            f"a new decoder."
        )
    raise ValueError(
        f"Most names are those of {format.title}"
        + (f" after the prefix {prefix!r}" if prefix else "")
        + f", but {len(strangers)} of {count} are not: {some}. Expected one SegFormer, or one encoder, and nothing "
        f"else; where the file holds more (a second copy, another decoder, a loss), keep names that belong together."
    )


def paper_entries(entries: Mapping[str, torch.Tensor], format: Format) -> dict[str, torch.Tensor]:
    """Bring what is apart together and what is in another order into this library's."""
    done = {}
    for name, value in entries.items():
        if ".to_qkv." in name:
            third = value.shape[0] // 3
            done[name.replace("to_qkv", "to_q")], done[name.replace("to_qkv", "to_kv")] = value[:third], value[third:]
        elif ".to_k." in name and (other := name.replace("to_k", "to_v")) in entries:
            done[name.replace("to_k", "to_kv")] = torch.cat([value, entries[other]])
        elif ".to_v." in name and name.replace("to_v", "to_k") in entries:
            continue
        elif name == "decoder.fuse.weight" and format.coarsest_first:
            done[name] = torch.cat(value.chunk(STAGES, dim=1)[::-1], dim=1)  # c4 … c1 → c1 … c4
        else:
            done[name] = value
    return {  # a linear layer is a 1×1 convolution: (C_out, C_in) → (C_out, C_in, 1, 1)
        name: value[..., None, None] if value.ndim == 2 and LINEAR.search(name) else value
        for name, value in done.items()
    }


def sketch_entries(entries: Mapping[str, torch.Tensor], format: Format) -> dict[str, torch.Tensor]:
    """Make filters of the rows that lucidrains applies to unfolded patches, and two layers of its ``to_kv``."""
    done = {}
    for name, value in entries.items():
        if ".to_kv." in name:
            done[name.replace("to_kv", "to_k")], done[name.replace("to_kv", "to_v")] = value.chunk(2)
        elif format.name == "lucidrains" and (found := re.match(r"mit\.stages\.(\d)\.0\.weight$", name)):
            kernel = KERNELS[int(found[1])]
            done[name] = value.reshape(value.shape[0], -1, kernel, kernel)  # a row of the unfolded patch is a filter
        else:
            done[name] = value
    return done


def configuration_of(state_dict: Mapping[str, torch.Tensor], is_sketch: bool) -> dict[str, object]:
    """Read the sizes of a model, all but its heads, off the shapes of a converted state dict.

    Returns:
        Arguments of ``Segformer``; without ``decoder_dim`` where there is no decoder, and without ``num_classes`` where
        there is no classifier of images either.

    Raises:
        KeyError: a name that every file has to have is missing.
    """
    patches, widen = ("", "net.0") if is_sketch else (".project", "widen")
    keys = "to_k" if is_sketch else "reduce.0"

    def shapes(pattern: str) -> list[torch.Size]:
        return [state_dict[pattern.format(stage)].shape for stage in range(STAGES)]

    blocks = {tuple(found.groups()) for name in state_dict if (found := re.match(r"mit\.stages\.(\d)\.1\.(\d+)", name))}
    dims = tuple(shape[0] for shape in shapes(f"mit.stages.{{}}.0{patches}.weight"))
    reductions = [state_dict.get(f"mit.stages.{stage}.1.0.0.fn.{keys}.weight") for stage in range(STAGES)]
    hidden = [shape[0] for shape in shapes(f"mit.stages.{{}}.1.0.1.fn.{widen}.weight")]
    sizes = {
        "channels": shapes(f"mit.stages.{{}}.0{patches}.weight")[0][1],
        "dims": dims,
        "num_layers": tuple(sum(stage == str(index) for stage, _ in blocks) for index in range(STAGES)),
        "reduction_ratio": tuple(1 if weight is None else weight.shape[-1] for weight in reductions),
        "ff_expansion": tuple(max(1, wide // max(1, dim)) for wide, dim in zip(hidden, dims)),
    }
    if any(name.startswith("decoder.") for name in state_dict):
        project, classify = ("to_fused.0", "to_segmentation.1") if is_sketch else ("project.0", "classify")
        sizes["decoder_dim"] = state_dict[f"decoder.{project}.weight"].shape[0]
        sizes["num_classes"] = state_dict[f"decoder.{classify}.weight"].shape[0]
    elif "head.weight" in state_dict:
        sizes["num_classes"] = state_dict["head.weight"].shape[0]
    return sizes


def check_numbers(state_dict: Mapping[str, torch.Tensor]) -> None:
    """Raise ValueError if a weight is not of finite floating-point numbers."""
    for name, value in state_dict.items():
        if name.endswith("num_batches_tracked"):
            continue
        if not value.is_floating_point():
            raise ValueError(f"{name} is {value.dtype}; expected floating point. Quantised weights cannot be read.")
        if not torch.isfinite(value).all():
            raise ValueError(f"{name} holds NaN or infinite values: corrupt, or of a training that failed.")


def check_configuration(configuration: Mapping[str, object], sizes: Mapping[str, object]) -> None:
    """Raise ValueError if config.json of transformers describes another model than the weights beside it."""
    told = {
        "hidden_sizes": sizes["dims"],
        "depths": sizes["num_layers"],
        "sr_ratios": sizes["reduction_ratio"],
        "mlp_ratios": sizes["ff_expansion"],
        "num_channels": sizes["channels"],
        "patch_sizes": KERNELS,
        "strides": (4, 2, 2, 2),
        "hidden_act": "gelu",
    } | ({"decoder_hidden_size": sizes["decoder_dim"]} if "decoder_dim" in sizes else {})
    for name, expected in told.items():
        given = configuration.get(name, expected)
        if (tuple(given) if isinstance(given, list) else given) != expected:
            raise ValueError(
                f"config.json says {name} {given}, the weights beside it need {expected}: files of two models in one "
                f"place, or a model that this library does not have. Fetch both anew, or give the weights' own path."
            )


def told_class_names(configuration: Mapping[str, object], count: int, source: str | Path) -> tuple[str, ...] | None:
    """Read the names of ``count`` classes off config.json of transformers, each of them another.

    Returns:
        The names; None where there are none, or transformers' own "LABEL_0", "LABEL_1", …. With names that do not fit
        the weights, "class 0", "class 1", … and a warning: None would let 19 classes pass for Cityscapes'.
    """
    told = configuration.get("id2label") or {}
    entries = told if isinstance(told, Mapping) else {}
    if entries == told and all(name == f"LABEL_{number}" for number, name in entries.items()):
        return None
    names = {number: "" if name is None else " ".join(str(name).split()) for number, name in entries.items()}
    numbers = [str(number) for number in range(count)]
    wrong = [f"no name for {number}" for number in numbers if not names.get(number)]
    wrong += [f"one for {number}" for number in names if number not in numbers]
    if wrong:
        warnings.warn(
            f"{source}: id2label in config.json has {', '.join(wrong[:4])}{', …' if wrong[4:] else ''}; expected names "
            f"for 0 to {count - 1}, the classes of these weights. They are called by number until you correct it.",
            stacklevel=3,
        )
        return tuple(f"class {number}" for number in numbers)
    times = Counter(names.values())  # ImageNet's crane is a bird and a machine
    return tuple(f"{names[n]} ({n})" if times[names[n]] > 1 else names[n] for n in numbers)


def fresh_decoder(sizes: Mapping[str, object], is_sketch: bool) -> dict[str, torch.Tensor]:
    """Draw a decoder's weights."""
    decoder = (SKETCH if is_sketch else PAPER).decoder(
        **{name: sizes[name] for name in ("dims", "decoder_dim", "num_classes")}
    )
    if not is_sketch:
        initialize_head(decoder)
    return {f"decoder.{name}": value for name, value in decoder.state_dict().items()}


def adapt(
    state_dict: ConvertedStateDict, sizes: dict[str, object], num_classes: int | None
) -> tuple[dict[str, torch.Tensor], str]:
    """Draw anew what ``num_classes`` asks for and the file hasn't; change ``sizes`` with it.

    Returns:
        The weights, and what was drawn anew in words, "" if nothing was.

    Raises:
        ValueError: an encoder alone, and no ``num_classes``.
    """
    own = sizes.get("num_classes")
    if own is None and num_classes is None:
        raise ValueError(
            "an encoder alone, with neither decoder nor classifier. For a new decoder say how many classes it is to "
            "have: load_pretrained(source, num_classes=…)."
        )
    if num_classes in (None, own):
        return dict(state_dict), ""
    sizes["num_classes"] = num_classes
    if "decoder_dim" in sizes:
        fresh = fresh_decoder(sizes, state_dict.is_sketch)
        last = {name: value for name, value in fresh.items() if name.startswith(LAST)}
        return state_dict | last, f"has {own} classes; the last layer is drawn anew for {num_classes}."
    variant = variant_of(sizes)
    sizes["decoder_dim"] = VARIANTS[variant]["decoder_dim"] if variant else WIDTH
    encoder = {name: value for name, value in state_dict.items() if not name.startswith("head.")}
    left = "" if own is None else f" (its classifier of whole images, {own} classes, is left out)"
    return encoder | fresh_decoder(sizes, state_dict.is_sketch), (
        f"has no decoder{left}; one of width {sizes['decoder_dim']} is drawn anew for {num_classes} classes, to be "
        f"trained before it says anything."
    )


def variant_of(sizes: Mapping[str, object]) -> str | None:
    """Say which of ``VARIANTS`` has these sizes, as far as they are known: "b0" to "b5", or None."""
    for variant, expected in VARIANTS.items():
        if all(sizes.get(name, value) == value for name, value in expected.items()):
            return variant
    return None


def build(state_dict: Mapping[str, torch.Tensor], sizes: Mapping[str, object], parts: Parts) -> nn.Module:
    """Make a model of these sizes with these weights, all of them, and nothing but them.

    Raises:
        ValueError: weights that are missing, left over, or of other shapes.
    """
    with torch.device("meta"):  # shapes alone: nothing is drawn, and a mistake costs no memory
        if "decoder_dim" in sizes:
            model = Segformer(**sizes, parts=parts)
        else:
            rest = {name: value for name, value in sizes.items() if name != "num_classes"}
            model = ImageClassifier(MiT(**rest, parts=parts), sizes["dims"][-1], sizes["num_classes"])
    expected = model.state_dict()
    if "decoder.norm.running_var" in state_dict:  # how many batches it is of: not in every file, and not used
        state_dict = {"decoder.norm.num_batches_tracked": torch.tensor(0)} | dict(state_dict)
    problems = [f"lacks {name}" for name in expected if name not in state_dict]
    problems += [f"has {name}, which the model has not" for name in state_dict if name not in expected]
    problems += [
        f"has {name} of shape {tuple(state_dict[name].shape)} where the model has {tuple(value.shape)}"
        for name, value in expected.items()
        if name in state_dict and state_dict[name].shape != value.shape
    ]
    if problems:
        raise ValueError(
            f"does not fit the model that its shapes describe ({variant_of(sizes) or 'no published size'}: dims "
            f"{sizes['dims']}, layers {sizes['num_layers']}): it {'; it '.join(problems[:5])}"
            + (f"; and {len(problems) - 5} more" if len(problems) > 5 else "")
            + ". The file is incomplete or of another model; nothing was loaded."
        )
    model = model.to_empty(device="cpu")
    model.load_state_dict(state_dict)
    return model


def set_norm_eps(model: nn.Module, norm_eps: tuple[float, float, float]) -> None:
    """Give the layer norms of the paper's model the eps of the implementation that its weights come from.

    Args:
        model: a ``Segformer`` or ``ImageClassifier`` of ``PAPER`` parts.
        norm_eps: in the blocks and after the stages, in the patch embeddings, on the shrunken maps.
    """
    blocks, patches, shrunken = norm_eps
    for name, module in model.named_modules():
        if isinstance(module, LayerNorm2d):
            module.eps = patches if re.search(r"stages\.\d\.0\.norm$", name) else blocks
            module.eps = shrunken if name.endswith(".reduce.1") else module.eps


def load_pretrained(
    source: str | Path,
    num_classes: int | None = None,
    *,
    heads: tuple[int, ...] | None = None,
    norm_eps: tuple[float, float, float] | None = None,
) -> Segformer | ImageClassifier:
    """Make a model from a file of weights, or leave you with an error and no model.

    The format is recognised by its names, and the sizes are read off the shapes: B0 to B5, or any other SegFormer. The
    weights that NVIDIA published, in whatever format, may be used for research and evaluation, not commercially.

    Args:
        source: a file (.pth, .pt, .bin, .safetensors); a folder as transformers writes it; or the id of such a one on
            Hugging Face, such as "nvidia/segformer-b0-finetuned-ade-512-512", which is downloaded once. The names may
            be NVlabs', mmsegmentation's (encoder), Hugging Face's, those of transformers 5 in memory,
            segmentation-models-pytorch's, lucidrains' or this library's; see ``convert_state_dict``.
        num_classes: None, or the file's own number, for what the file holds: a ``Segformer``, or an
            ``ImageClassifier`` where it has an encoder and a classifier of images. Another number gives a
            ``Segformer`` whose last layer is drawn anew; whose whole decoder is, where the file has none. A warning
            says so.
        heads: attention heads of each stage, which no shape tells; None for what config.json says, else (1, 2, 5, 8),
            which all published sizes have.
        norm_eps: see ``set_norm_eps``; None for the format's. A file of this library's own does not tell where its
            weights came from, and there None is NVlabs' eps: for what you trained on from Hugging Face's weights give
            (1e-5, 1e-5, 1e-5).

    Returns:
        The model in evaluation mode and in float32, every weight from the file but those of which a warning speaks.
        ``model.class_names`` are the classes' names in a folder's config.json (``id2label``), and None where it has
        none, for a file on its own, and where ``num_classes`` asks for other classes; ``class_list`` adds colours.

    Raises:
        FileNotFoundError: no such file, folder or model.
        ConnectionError: a download that failed.
        ValueError: a file that is corrupt, of no known format, incomplete, or more than one model; an encoder alone
            and no ``num_classes``. No half-loaded model is ever returned.

    Source: chapter 9.
    """
    if num_classes is not None:
        check_positive(num_classes=num_classes)
    loaded, configuration = read_weights(source)
    configuration = configuration if configuration.get("model_type") == "segformer" else {}  # not another library's
    try:
        state_dict = convert_state_dict(loaded)
        check_numbers(state_dict)
        sizes = configuration_of(state_dict, state_dict.is_sketch)
        check_configuration(configuration, sizes)
        sizes["heads"] = heads or configuration.get("num_attention_heads", HEADS)
        weights, news = adapt(state_dict, sizes, num_classes)
        model = build(weights, sizes, SKETCH if state_dict.is_sketch else PAPER)
    except KeyError as error:
        raise ValueError(f"{source} lacks {error}: names of {state_dict.title}, not a whole SegFormer.") from error
    except (TypeError, ValueError, IndexError, RuntimeError) as error:
        raise ValueError(f"{source}: {error}") from error
    if not state_dict.is_sketch:
        set_norm_eps(model, norm_eps or state_dict.norm_eps)
        schedule_drop_path(model.mit)
        model = prepare_memory(model)
    if news:
        warnings.warn(f"{source} {news}", stacklevel=2)
    else:
        model.class_names = told_class_names(configuration, model.num_classes, source)
    return model.eval()
