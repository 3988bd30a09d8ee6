"""Chapter 9: the names that the same weights bear in the files of others, and what else sets each format apart.

Another format is one more table here, its special cases beside it, and one more line in ``FORMATS``.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache

import torch

from segformer_edu.model.config import NormEps

STAGES = 4
KERNELS = (7, 3, 3, 3)
Entries = dict[str, torch.Tensor]

# What stands for what in the tables: {stage} counts from 0, {number} from 1, {rank} from the last stage.
PLACES = {"stage": "[0-3]", "number": "[1-4]", "rank": "[0-3]", "block": r"\d+"}

OURS = {
    "patches": "mit.stages.{stage}.embedding.project",
    "norm of patches": "mit.stages.{stage}.embedding.norm",
    "norm before attention": "mit.stages.{stage}.blocks.{block}.attention_norm",
    "query": "mit.stages.{stage}.blocks.{block}.attention.to_q",
    "key, value": "mit.stages.{stage}.blocks.{block}.attention.to_kv",
    "output": "mit.stages.{stage}.blocks.{block}.attention.to_out",
    "reduction": "mit.stages.{stage}.blocks.{block}.attention.reduce.0",
    "norm of reduction": "mit.stages.{stage}.blocks.{block}.attention.reduce.1",
    "norm before feed-forward": "mit.stages.{stage}.blocks.{block}.feed_forward_norm",
    "widen": "mit.stages.{stage}.blocks.{block}.feed_forward.widen",
    "mix": "mit.stages.{stage}.blocks.{block}.feed_forward.mix",
    "narrow": "mit.stages.{stage}.blocks.{block}.feed_forward.narrow",
    "norm of stage": "mit.stages.{stage}.norm",
    "project": "decoder.project.{stage}",
    "fuse": "decoder.fuse",
    "norm of decoder": "decoder.norm",
    "classify": "decoder.classify",
    "classify the image": "head",
}
"""This library's names of the paper's model: what a part is for, and where it stands."""

APART = {
    "key": "mit.stages.{stage}.blocks.{block}.attention.to_k",
    "value": "mit.stages.{stage}.blocks.{block}.attention.to_v",
    "query, key, value": "mit.stages.{stage}.blocks.{block}.attention.to_qkv",
}
"""Parts that others split or join differently; ``join_key_value`` and ``split_query`` make ``to_q`` and ``to_kv``."""

SKETCH_OURS = {
    "patches": "mit.stages.{stage}.embedding",
    "norm before attention": "mit.stages.{stage}.blocks.{block}.attention_norm",
    "query": "mit.stages.{stage}.blocks.{block}.attention.to_q",
    "key": "mit.stages.{stage}.blocks.{block}.attention.to_k",
    "value": "mit.stages.{stage}.blocks.{block}.attention.to_v",
    "key, value": "mit.stages.{stage}.blocks.{block}.attention.to_kv",
    "output": "mit.stages.{stage}.blocks.{block}.attention.to_out",
    "norm before feed-forward": "mit.stages.{stage}.blocks.{block}.feed_forward_norm",
    "widen": "mit.stages.{stage}.blocks.{block}.feed_forward.net.0",
    "mix": "mit.stages.{stage}.blocks.{block}.feed_forward.net.1.net.0",
    "mix channels": "mit.stages.{stage}.blocks.{block}.feed_forward.net.1.net.1",
    "narrow": "mit.stages.{stage}.blocks.{block}.feed_forward.net.3",
    "project": "decoder.to_fused.{stage}",
    "fuse": "decoder.to_segmentation.0",
    "classify": "decoder.to_segmentation.1",
}
"""This library's names of the sketch."""

LINEAR = re.compile(r"(\.(to_q|to_kv|to_out|widen|narrow)|decoder\.(fuse|project\.\d))\.weight$")
"""Weights of the paper's model that belong to linear layers with some, and to 1×1 convolutions here."""


# Special cases: each takes a file's entries, under this library's names already, and brings one thing into its form.


def split_query(entries: Entries) -> Entries:
    """Split ``to_qkv``, of PyTorch's own attention, into the query's third and the other two."""
    done = {}
    for name, value in entries.items():
        if ".to_qkv." in name:
            third = value.shape[0] // 3
            done[name.replace("to_qkv", "to_q")], done[name.replace("to_qkv", "to_kv")] = value[:third], value[third:]
        else:
            done[name] = value
    return done


def join_key_value(entries: Entries) -> Entries:
    """Put the key's rows and the value's together: ``to_k``, ``to_v`` → ``to_kv``."""
    done = {}
    for name, value in entries.items():
        partner = name.replace(".to_k.", ".to_v.")
        if ".to_k." in name and partner in entries:
            done[name.replace(".to_k.", ".to_kv.")] = torch.cat([value, entries[partner]])
        elif not (".to_v." in name and name.replace(".to_v.", ".to_k.") in entries):
            done[name] = value
    return done


def split_key_value(entries: Entries) -> Entries:
    """Make two layers of the one that lucidrains' package has: ``to_kv`` → ``to_k``, ``to_v``."""
    done = {}
    for name, value in entries.items():
        if ".to_kv." in name:
            done[name.replace("to_kv", "to_k")], done[name.replace("to_kv", "to_v")] = value.chunk(2)
        else:
            done[name] = value
    return done


def finest_first(entries: Entries) -> Entries:
    """Turn round the order in which the fusion takes the scales: c4 … c1 → c1 … c4."""
    name = "decoder.fuse.weight"
    if name not in entries:
        return entries
    return entries | {name: torch.cat(entries[name].chunk(STAGES, dim=1)[::-1], dim=1)}


def as_convolutions(entries: Entries) -> Entries:
    """Write linear layers as 1×1 convolutions: (C_out, C_in) → (C_out, C_in, 1, 1)."""
    return {
        name: value[..., None, None] if value.ndim == 2 and LINEAR.search(name) else value
        for name, value in entries.items()
    }


def rows_as_filters(entries: Entries) -> Entries:
    """Make filters of the rows that lucidrains applies to unfolded patches."""
    done = dict(entries)
    for stage, kernel in enumerate(KERNELS):
        name = f"mit.stages.{stage}.embedding.weight"
        if name in entries:
            done[name] = entries[name].reshape(entries[name].shape[0], -1, kernel, kernel)
    return done


# NVlabs' SegFormer

NVLABS_ENCODER = {
    "patches": "patch_embed{number}.proj",
    "norm of patches": "patch_embed{number}.norm",
    "norm before attention": "block{number}.{block}.norm1",
    "query": "block{number}.{block}.attn.q",
    "key, value": "block{number}.{block}.attn.kv",
    "output": "block{number}.{block}.attn.proj",
    "reduction": "block{number}.{block}.attn.sr",
    "norm of reduction": "block{number}.{block}.attn.norm",
    "norm before feed-forward": "block{number}.{block}.norm2",
    "widen": "block{number}.{block}.mlp.fc1",
    "mix": "block{number}.{block}.mlp.dwconv.dwconv",
    "narrow": "block{number}.{block}.mlp.fc2",
    "norm of stage": "norm{number}",
}

NVLABS = NVLABS_ENCODER | {
    "project": "decode_head.linear_c{number}.proj",
    "fuse": "decode_head.linear_fuse.conv",
    "norm of decoder": "decode_head.linear_fuse.bn",
    "classify": "decode_head.linear_pred",
    "classify the image": "head",
}


# segmentation-models-pytorch

SMP = {part: f"encoder.{name}" for part, name in NVLABS_ENCODER.items()} | {
    "project": "decoder.mlp_stage.{rank}.linear",
    "fuse": "decoder.fuse_stage.0",
    "norm of decoder": "decoder.fuse_stage.1",
    "classify": "segmentation_head.0",
}


# mmsegmentation 1.x: its encoder; its decoder is another function

MMSEGMENTATION = {
    "patches": "layers.{stage}.0.projection",
    "norm of patches": "layers.{stage}.0.norm",
    "norm before attention": "layers.{stage}.1.{block}.norm1",
    "query, key, value": "layers.{stage}.1.{block}.attn.attn.in_proj",
    "output": "layers.{stage}.1.{block}.attn.attn.out_proj",
    "reduction": "layers.{stage}.1.{block}.attn.sr",
    "norm of reduction": "layers.{stage}.1.{block}.attn.norm",
    "norm before feed-forward": "layers.{stage}.1.{block}.norm2",
    "widen": "layers.{stage}.1.{block}.ffn.layers.0",
    "mix": "layers.{stage}.1.{block}.ffn.layers.1",
    "narrow": "layers.{stage}.1.{block}.ffn.layers.4",
    "norm of stage": "layers.{stage}.2",
}

MMSEGMENTATION_DECODER = (
    "The encoder is mmsegmentation's, and so is the decoder ({some}). That decoder has a BatchNorm and a ReLU after "
    "each projection, which the paper's has not: it cannot be converted exactly. Keep the encoder: {{name: value for "
    "name, value in state_dict.items() if name.startswith('{prefix}backbone.')}}, and train a new decoder."
)

# Hugging Face: the files on its hub

HUGGINGFACE = {
    "patches": "encoder.patch_embeddings.{stage}.proj",
    "norm of patches": "encoder.patch_embeddings.{stage}.layer_norm",
    "norm before attention": "encoder.block.{stage}.{block}.layer_norm_1",
    "query": "encoder.block.{stage}.{block}.attention.self.query",
    "key": "encoder.block.{stage}.{block}.attention.self.key",
    "value": "encoder.block.{stage}.{block}.attention.self.value",
    "output": "encoder.block.{stage}.{block}.attention.output.dense",
    "reduction": "encoder.block.{stage}.{block}.attention.self.sr",
    "norm of reduction": "encoder.block.{stage}.{block}.attention.self.layer_norm",
    "norm before feed-forward": "encoder.block.{stage}.{block}.layer_norm_2",
    "widen": "encoder.block.{stage}.{block}.mlp.dense1",
    "mix": "encoder.block.{stage}.{block}.mlp.dwconv.dwconv",
    "narrow": "encoder.block.{stage}.{block}.mlp.dense2",
    "norm of stage": "encoder.layer_norm.{stage}",
    "project": "decode_head.linear_c.{stage}.proj",
    "fuse": "decode_head.linear_fuse",
    "norm of decoder": "decode_head.batch_norm",
    "classify": "decode_head.classifier",
    "classify the image": "classifier",
}


# Hugging Face's transformers 5, in memory

TRANSFORMERS = {
    "patches": "stages.{stage}.patch_embeddings.proj",
    "norm of patches": "stages.{stage}.patch_embeddings.layer_norm",
    "norm before attention": "stages.{stage}.blocks.{block}.layernorm_before",
    "query": "stages.{stage}.blocks.{block}.attention.q_proj",
    "key": "stages.{stage}.blocks.{block}.attention.k_proj",
    "value": "stages.{stage}.blocks.{block}.attention.v_proj",
    "output": "stages.{stage}.blocks.{block}.attention.o_proj",
    "reduction": "stages.{stage}.blocks.{block}.attention.sequence_reduction.sequence_reduction",
    "norm of reduction": "stages.{stage}.blocks.{block}.attention.sequence_reduction.layer_norm",
    "norm before feed-forward": "stages.{stage}.blocks.{block}.layernorm_after",
    "widen": "stages.{stage}.blocks.{block}.mlp.fc1",
    "mix": "stages.{stage}.blocks.{block}.mlp.dwconv.dwconv",
    "narrow": "stages.{stage}.blocks.{block}.mlp.fc2",
    "norm of stage": "stages.{stage}.layer_norm",
    "project": "decode_head.linear_projections.{stage}.proj",
    "fuse": "decode_head.linear_fuse",
    "norm of decoder": "decode_head.batch_norm",
    "classify": "decode_head.classifier",
    "classify the image": "classifier",
}


# lucidrains' segformer-pytorch, from which the sketch comes

LUCIDRAINS = {
    "patches": "mit.stages.{stage}.1",
    "norm before attention": "mit.stages.{stage}.2.{block}.0.norm",
    "query": "mit.stages.{stage}.2.{block}.0.fn.to_q",
    "key": "mit.stages.{stage}.2.{block}.0.fn.to_k",
    "value": "mit.stages.{stage}.2.{block}.0.fn.to_v",
    "key, value": "mit.stages.{stage}.2.{block}.0.fn.to_kv",
    "output": "mit.stages.{stage}.2.{block}.0.fn.to_out",
    "norm before feed-forward": "mit.stages.{stage}.2.{block}.1.norm",
    "widen": "mit.stages.{stage}.2.{block}.1.fn.net.0",
    "mix": "mit.stages.{stage}.2.{block}.1.fn.net.1.net.0",
    "mix channels": "mit.stages.{stage}.2.{block}.1.fn.net.1.net.1",
    "narrow": "mit.stages.{stage}.2.{block}.1.fn.net.3",
    "project": "to_fused.{stage}.0",
    "fuse": "to_segmentation.0",
    "classify": "to_segmentation.1",
}


NOT_THE_ENCODERS = {"project", "fuse", "norm of decoder", "classify", "classify the image"}
KINDS = "weight|bias|running_mean|running_var|num_batches_tracked|g|b"


@dataclass(frozen=True, eq=False)
class Format:
    """How one implementation names, orders and normalises.

    Attributes:
        name: what ``convert_state_dict(…).format`` says.
        title: what to call it in a message.
        names: a name, without ".weight" or ".bias", for each part.
        prefix: what may stand before the encoder's names in a file of the whole model.
        norm_eps: of its layer norms, as its code has them, whatever its configuration files say.
        steps: its special cases, in order; each changes entries that bear this library's names already.
        ours: this library's names for the same parts.
        unused: a pattern of names that the format has and no model uses.
        decoder_refused: why its decoder cannot be converted, with places for {some} of its names and the {prefix};
            "" where it can.
    """

    name: str
    title: str
    names: Mapping[str, str]
    prefix: str
    norm_eps: NormEps
    steps: tuple[Callable[[Entries], Entries], ...] = ()
    ours: Mapping[str, str] = field(default_factory=lambda: OURS | APART)
    unused: str = "(?!)"
    decoder_refused: str = ""

    @property
    def is_sketch(self) -> bool:
        """Whether the model is the sketch, not the paper's."""
        return self.ours is SKETCH_OURS


RELEASED = NormEps(blocks=1e-6, stages=1e-6, patches=1e-5, reductions=1e-5)
MMSEGMENTATIONS = NormEps(blocks=1e-6, stages=1e-6, patches=1e-6, reductions=1e-6)
PYTORCHS = NormEps(blocks=1e-5, stages=1e-5, patches=1e-5, reductions=1e-5)
SKETCHS = NormEps(blocks=1e-5)
FROM_LINEAR = (finest_first, as_convolutions)

OWN = Format("segformer_edu", "this library's own", OURS, "mit.", RELEASED, ours=OURS)

FORMATS = (
    Format("nvlabs", "NVlabs' .pth", NVLABS, "backbone.", RELEASED, FROM_LINEAR, unused=r"decode_head\.conv_seg\."),
    Format("smp", "segmentation-models-pytorch", SMP, "", RELEASED, FROM_LINEAR),
    Format("mmsegmentation", "mmsegmentation 1.x", MMSEGMENTATION, "backbone.", MMSEGMENTATIONS,
           (split_query, as_convolutions), decoder_refused=MMSEGMENTATION_DECODER),
    Format("huggingface", "Hugging Face's files", HUGGINGFACE, "segformer.", PYTORCHS, (join_key_value, *FROM_LINEAR)),
    Format("transformers", "transformers 5 in memory", TRANSFORMERS, "segformer.", PYTORCHS,
           (join_key_value, *FROM_LINEAR)),
    Format("lucidrains", "lucidrains' segformer-pytorch", LUCIDRAINS, "mit.", SKETCHS,
           (split_key_value, rows_as_filters), SKETCH_OURS),
    OWN,
    Format("segformer_edu", "this library's own sketch", SKETCH_OURS, "mit.", SKETCHS, ours=SKETCH_OURS),
)  # fmt: skip
"""Every format that can be read."""


@dataclass(frozen=True)
class Found:
    """A name of a format, taken apart.

    Attributes:
        prefix: what stands before it.
        part: the key of the tables.
        places: what stands for {stage} and {block}.
        kind: "weight", "bias" and so on.
        ours: what it is called here.
    """

    prefix: str
    part: str
    places: Mapping[str, object]
    kind: str
    ours: str


@cache
def patterns(format: Format) -> dict[str, re.Pattern[str]]:
    """Make a regular expression of the name of each part of a format."""
    made = {}
    for part, name in format.names.items():
        pattern = re.escape(name if part in NOT_THE_ENCODERS else name.removeprefix(format.prefix))
        for place, digits in PLACES.items():
            pattern = pattern.replace(re.escape(f"{{{place}}}"), f"(?P<{place}>{digits})")
        inner = "" if part in NOT_THE_ENCODERS else f"(?:{re.escape(format.prefix)})?"
        end = rf"(?:\.|(?<=in_proj)_)(?P<kind>{KINDS})"  # PyTorch's own attention has in_proj_weight
        made[part] = re.compile(rf"(?P<before>(?:[^.]+\.)*?){inner}{pattern}{end}")
    return made


def find(format: Format, name: str) -> Found | None:
    """Take a name apart, with as little as possible before it; None if the format has no such name."""
    found = []
    for part, pattern in patterns(format).items():
        if match := pattern.fullmatch(name):
            places: dict[str, object] = dict(match.groupdict())
            before, kind = str(places.pop("before")), str(places.pop("kind"))
            if "number" in places:
                places["stage"] = int(match["number"]) - 1
            if "rank" in places:
                places["stage"] = STAGES - 1 - int(match["rank"])
            found.append(Found(before, part, places, kind, f"{format.ours[part].format(**places)}.{kind}"))
    return min(found, key=lambda one: len(one.prefix), default=None)


def recognize(names: Iterable[str]) -> tuple[Format, str]:
    """Find the format that most of the names are of, and what stands before every one of them, such as "module.".

    Raises:
        ValueError: names of which no format explains a quarter.
    """
    names = list(names)
    best: tuple[int, Format, str] = (0, FORMATS[0], "")
    for format in FORMATS:
        counts = Counter(found.prefix for name in names if (found := find(format, name)))
        for prefix, count in counts.most_common(1):
            best = max(best, (count, format, prefix), key=lambda one: one[0])
    if not names or best[0] < len(names) / 4:
        raise ValueError(
            f"no known format: names such as {', '.join(names[:3]) or '(none at all)'}, {len(names)} in all; expected "
            f"those of a SegFormer or of its encoder: {'; '.join(format.title for format in FORMATS)}."
        )
    return best[1], best[2]
