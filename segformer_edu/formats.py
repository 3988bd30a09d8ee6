"""Chapter 9: the names that the same weights bear in the files of others, and how they become this library's."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache

STAGES = 4

# What stands for what in the tables: {stage} counts from 0, {number} from 1, {rank} from the last stage.
PLACES = {"stage": "[0-3]", "number": "[1-4]", "rank": "[0-3]", "block": r"\d+"}

OURS = {
    "patches": "mit.stages.{stage}.0.project",
    "norm of patches": "mit.stages.{stage}.0.norm",
    "norm before attention": "mit.stages.{stage}.1.{block}.0.norm",
    "query": "mit.stages.{stage}.1.{block}.0.fn.to_q",
    "key, value": "mit.stages.{stage}.1.{block}.0.fn.to_kv",
    "output": "mit.stages.{stage}.1.{block}.0.fn.to_out",
    "reduction": "mit.stages.{stage}.1.{block}.0.fn.reduce.0",
    "norm of reduction": "mit.stages.{stage}.1.{block}.0.fn.reduce.1",
    "norm before feed-forward": "mit.stages.{stage}.1.{block}.1.norm",
    "widen": "mit.stages.{stage}.1.{block}.1.fn.widen",
    "mix": "mit.stages.{stage}.1.{block}.1.fn.mix",
    "narrow": "mit.stages.{stage}.1.{block}.1.fn.narrow",
    "norm of stage": "mit.stages.{stage}.2",
    "project": "decoder.project.{stage}",
    "fuse": "decoder.fuse",
    "norm of decoder": "decoder.norm",
    "classify": "decoder.classify",
    "classify the image": "head",
}
"""This library's names of the paper's model: what a part is for, and where it stands."""

APART = {
    "key": "mit.stages.{stage}.1.{block}.0.fn.to_k",
    "value": "mit.stages.{stage}.1.{block}.0.fn.to_v",
    "query, key, value": "mit.stages.{stage}.1.{block}.0.fn.to_qkv",
}
"""Parts that others split or join differently; ``join`` makes ``to_q`` and ``to_kv`` of them."""

SKETCH_OURS = {
    "patches": "mit.stages.{stage}.0",
    "norm before attention": "mit.stages.{stage}.1.{block}.0.norm",
    "query": "mit.stages.{stage}.1.{block}.0.fn.to_q",
    "key": "mit.stages.{stage}.1.{block}.0.fn.to_k",
    "value": "mit.stages.{stage}.1.{block}.0.fn.to_v",
    "key, value": "mit.stages.{stage}.1.{block}.0.fn.to_kv",
    "output": "mit.stages.{stage}.1.{block}.0.fn.to_out",
    "norm before feed-forward": "mit.stages.{stage}.1.{block}.1.norm",
    "widen": "mit.stages.{stage}.1.{block}.1.fn.net.0",
    "mix": "mit.stages.{stage}.1.{block}.1.fn.net.1.net.0",
    "mix channels": "mit.stages.{stage}.1.{block}.1.fn.net.1.net.1",
    "narrow": "mit.stages.{stage}.1.{block}.1.fn.net.3",
    "project": "decoder.to_fused.{stage}",
    "fuse": "decoder.to_segmentation.0",
    "classify": "decoder.to_segmentation.1",
}
"""This library's names of the sketch."""

LUCIDRAINS = {part: re.sub(r"stage\}\.1\.", "stage}.2.", name) for part, name in SKETCH_OURS.items()} | {
    "patches": "mit.stages.{stage}.1",
    "project": "to_fused.{stage}.0",
    "fuse": "to_segmentation.0",
    "classify": "to_segmentation.1",
}

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

SMP = {part: f"encoder.{name}" for part, name in NVLABS_ENCODER.items()} | {
    "project": "decoder.mlp_stage.{rank}.linear",
    "fuse": "decoder.fuse_stage.0",
    "norm of decoder": "decoder.fuse_stage.1",
    "classify": "segmentation_head.0",
}

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


NOT_THE_ENCODERS = {"project", "fuse", "norm of decoder", "classify", "classify the image"}
KINDS = "weight|bias|running_mean|running_var|num_batches_tracked|g|b"


@dataclass(frozen=True, eq=False)
class Format:
    """How one implementation names, orders and normalises.

    Attributes:
        name: what ``convert_state_dict(…).format`` says.
        title: what to call it in a message.
        names: a name, without ".weight" or ".bias", for each part.
        ours: this library's names for the same parts.
        prefix: what may stand before the encoder's names in a file of the whole model.
        coarsest_first: whether the maps are fused from the last stage to the first; this library's are from the first.
        norm_eps: of the layer norms in the blocks and after the stages, of patches, and of shrunken maps.
        unused: a pattern of names that the format has and no model uses.
    """

    name: str
    title: str
    names: Mapping[str, str]
    prefix: str
    ours: Mapping[str, str] = field(default_factory=lambda: OURS | APART)
    coarsest_first: bool = True
    norm_eps: tuple[float, float, float] = (1e-6, 1e-5, 1e-5)
    unused: str = "(?!)"

    @property
    def is_sketch(self) -> bool:
        """Whether the model is the sketch, not the paper's."""
        return self.ours is SKETCH_OURS


FORMATS = (
    Format("nvlabs", "NVlabs' .pth", NVLABS, "backbone.", unused=r"decode_head\.conv_seg\."),
    Format("smp", "segmentation-models-pytorch", SMP, ""),
    Format("mmsegmentation", "mmsegmentation 1.x", MMSEGMENTATION, "backbone.", norm_eps=(1e-6, 1e-6, 1e-6)),
    Format("huggingface", "Hugging Face's files", HUGGINGFACE, "segformer.", norm_eps=(1e-5, 1e-5, 1e-5)),
    Format("transformers", "transformers 5 in memory", TRANSFORMERS, "segformer.", norm_eps=(1e-5, 1e-5, 1e-5)),
    Format("lucidrains", "lucidrains' segformer-pytorch", LUCIDRAINS, "mit.", SKETCH_OURS),
    Format("segformer_edu", "this library's own", OURS, "mit.", OURS, coarsest_first=False),
    Format("segformer_edu", "this library's own sketch", SKETCH_OURS, "mit.", SKETCH_OURS),
)
"""Every format that can be read. ``norm_eps`` as the code of each has it, whatever its configuration files say."""


@dataclass(frozen=True)
class Found:
    """A name of a format, taken apart: what stands before it, and what it is called here."""

    prefix: str
    ours: str


@cache
def patterns(format: Format) -> list[tuple[re.Pattern[str], str]]:
    """Make a regular expression of every name of a format; with it, this library's name, places still open."""
    made = []
    for part, name in format.names.items():
        pattern = re.escape(name if part in NOT_THE_ENCODERS else name.removeprefix(format.prefix))
        for place, digits in PLACES.items():
            pattern = pattern.replace(re.escape(f"{{{place}}}"), f"(?P<{place}>{digits})")
        inner = "" if part in NOT_THE_ENCODERS else f"(?:{re.escape(format.prefix)})?"
        end = rf"(?:\.|(?<=in_proj)_)(?P<kind>{KINDS})"  # PyTorch's own attention has in_proj_weight
        made.append((re.compile(rf"(?P<before>(?:[^.]+\.)*?){inner}{pattern}{end}"), format.ours[part]))
    return made


def find(format: Format, name: str) -> Found | None:
    """Take a name apart, with as little as possible before it; None if the format has no such name."""
    found = []
    for pattern, ours in patterns(format):
        if match := pattern.fullmatch(name):
            places = match.groupdict()
            if "number" in places:
                places["stage"] = int(places["number"]) - 1
            if "rank" in places:
                places["stage"] = STAGES - 1 - int(places["rank"])
            found.append(Found(places["before"], f"{ours.format(**places)}.{places['kind']}"))
    return min(found, key=lambda one: len(one.prefix), default=None)


def recognize(names: Iterable[str]) -> tuple[Format, str]:
    """Find the format that most of the names are of, and what stands before every one of them, such as "module.".

    Raises:
        ValueError: names of which no format explains a quarter.
    """
    names = list(names)
    best = (0, FORMATS[0], "")
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
