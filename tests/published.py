"""Models of transformers with random weights, and the same weights in the names of every published format.

The names are written anew here, from transformers' names in memory: by the public converters (transformers'
convert_segformer_original_to_pytorch.py, mmsegmentation's tools/model_converters/mit2mmseg.py) and by the code of
segmentation-models-pytorch 0.6; nothing of this library is used.
"""

from __future__ import annotations

import re

import torch
from torch import nn
from transformers import SegformerConfig, SegformerForImageClassification, SegformerForSemanticSegmentation

WIDE = {"hidden_sizes": [64, 128, 320, 512], "decoder_hidden_size": 768}
VARIANTS = {
    "b0": {},
    "b1": {"hidden_sizes": [64, 128, 320, 512]},
    "b2": WIDE | {"depths": [3, 4, 6, 3]},
    "b3": WIDE | {"depths": [3, 4, 18, 3]},
    "b4": WIDE | {"depths": [3, 8, 27, 3]},
    "b5": WIDE | {"depths": [3, 6, 40, 3]},
}
SMALL = {
    "hidden_sizes": [8, 16, 30, 48],
    "depths": [1, 2, 2, 1],
    "mlp_ratios": [4, 3, 2, 1],
    "sr_ratios": [4, 2, 2, 1],
    "decoder_hidden_size": 20,
}
OFF = {"hidden_dropout_prob": 0.0, "classifier_dropout_prob": 0.0, "drop_path_rate": 0.0}
EPS = {"nvlabs": (1e-6, 1e-5), "smp": (1e-6, 1e-5), "mmsegmentation": (1e-6, 1e-6)}


def randomized(model: nn.Module, seed: int) -> nn.Module:
    """Draw every weight anew: rows of length 1, scales and shifts that are not 1 and 0, statistics that are neither."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in model.state_dict().items():
            drawn = torch.randn(value.shape, generator=generator)
            if name.endswith("running_var"):
                value.copy_(drawn.abs() + 0.2)
            elif value.ndim > 1:
                value.copy_(drawn / value[0].numel() ** 0.5)
            elif value.is_floating_point():
                value.copy_((1.0 if "norm" in name and name.endswith("weight") else 0.0) + 0.3 * drawn)
    return model.eval()


def segmenter(options: dict, num_labels: int = 7, seed: int = 0) -> SegformerForSemanticSegmentation:
    """A segmentation model of transformers."""
    return randomized(SegformerForSemanticSegmentation(SegformerConfig(num_labels=num_labels, **OFF, **options)), seed)


def classifier(options: dict, num_labels: int = 9, seed: int = 0) -> SegformerForImageClassification:
    """A classifier of images of transformers."""
    return randomized(SegformerForImageClassification(SegformerConfig(num_labels=num_labels, **OFF, **options)), seed)


def with_eps_of(format: str, model: nn.Module) -> nn.Module:
    """Give a model of transformers the eps that another implementation's layer norms have; its own are left alone."""
    for name, module in model.named_modules():
        if isinstance(module, nn.LayerNorm) and format in EPS:
            blocks, others = EPS[format]
            module.eps = others if "patch_embeddings" in name or "sequence_reduction" in name else blocks
    return model


def faint(model: nn.Module) -> nn.Module:
    """Let every layer norm see maps whose variance is about 1e-6, so that its eps shows."""
    last = ("patch_embeddings", "sequence_reduction.sequence_reduction", "o_proj", "fc2")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if any(f"{part}." in name for part in last):
                parameter.mul_(1e-3)
    return model


def rewritten(name: str, rules: dict[str, str]) -> str:
    for pattern, replacement in rules.items():
        name = re.sub(pattern, replacement, name)
    return name


def counted(name: str) -> str:
    """Count stages from 1 where ``<stage>`` stands."""
    return re.sub(r"<(\d)>", lambda found: str(int(found[1]) + 1), name)


TO_NVLABS = {
    r"^segformer\.stages\.(\d)\.patch_embeddings\.proj": r"patch_embed<\1>.proj",
    r"^segformer\.stages\.(\d)\.patch_embeddings\.layer_norm": r"patch_embed<\1>.norm",
    r"^segformer\.stages\.(\d)\.layer_norm": r"norm<\1>",
    r"^segformer\.stages\.(\d)\.blocks\.": r"block<\1>.",
    r"layernorm_before": "norm1",
    r"layernorm_after": "norm2",
    r"attention\.q_proj": "attn.q",
    r"attention\.o_proj": "attn.proj",
    r"attention\.sequence_reduction\.sequence_reduction": "attn.sr",
    r"attention\.sequence_reduction\.layer_norm": "attn.norm",
    r"^classifier": "head",
    r"decode_head\.linear_projections\.(\d)": r"decode_head.linear_c<\1>",
    r"linear_fuse\.": "linear_fuse.conv.",
    r"batch_norm": "linear_fuse.bn",
    r"decode_head\.classifier": "decode_head.linear_pred",
}


def nvlabs(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Names of NVlabs' .pth: of the encoder alone, or with ``backbone.`` before them where there is a decoder."""
    made = {}
    for name, value in state.items():
        if "attention.k_proj" in name:
            value = torch.cat([value, state[name.replace("k_proj", "v_proj")]])
            name = name.replace("attention.k_proj", "attn.kv")
        elif "attention.v_proj" in name:
            continue
        made[counted(rewritten(name, TO_NVLABS))] = value
    if "decode_head.linear_pred.weight" not in made:
        return made
    made = {name if name.startswith("decode_head") else f"backbone.{name}": value for name, value in made.items()}
    classes, width = made["decode_head.linear_pred.weight"].shape[:2]
    return made | {  # a layer that the files have and the model doesn't use
        "decode_head.conv_seg.weight": torch.zeros(classes, width, 1, 1),
        "decode_head.conv_seg.bias": torch.zeros(classes),
    }


def smp(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Names of segmentation-models-pytorch: the encoder as NVlabs', the decoder's projections from the last stage."""
    made = {}
    for name, value in nvlabs(state).items():
        if "conv_seg" in name:
            continue
        name = re.sub(r"^backbone\.", "encoder.", name)
        name = re.sub(r"decode_head\.linear_c(\d)\.proj", lambda f: f"decoder.mlp_stage.{4 - int(f[1])}.linear", name)
        name = name.replace("decode_head.linear_fuse.conv", "decoder.fuse_stage.0")
        name = name.replace("decode_head.linear_fuse.bn", "decoder.fuse_stage.1")
        made[name.replace("decode_head.linear_pred", "segmentation_head.0")] = value
    return made


TO_MMSEGMENTATION = {
    r"^segformer\.stages\.(\d)\.patch_embeddings\.proj": r"layers.\1.0.projection",
    r"^segformer\.stages\.(\d)\.patch_embeddings\.layer_norm": r"layers.\1.0.norm",
    r"^segformer\.stages\.(\d)\.layer_norm": r"layers.\1.2",
    r"^segformer\.stages\.(\d)\.blocks\.": r"layers.\1.1.",
    r"layernorm_before": "norm1",
    r"layernorm_after": "norm2",
    r"attention\.q_proj\.": "attn.attn.in_proj_",
    r"attention\.o_proj": "attn.attn.out_proj",
    r"attention\.sequence_reduction\.sequence_reduction": "attn.sr",
    r"attention\.sequence_reduction\.layer_norm": "attn.norm",
    r"mlp\.fc1": "ffn.layers.0",
    r"mlp\.dwconv\.dwconv": "ffn.layers.1",
    r"mlp\.fc2": "ffn.layers.4",
}


def mmsegmentation(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Names of mmsegmentation 1.x, the encoder alone: one projection for q, k and v, 1×1 convolutions for layers."""
    made = {}
    for name, value in state.items():
        if not name.startswith("segformer.") or re.search(r"[kv]_proj", name):
            continue
        if "q_proj" in name:
            value = torch.cat([value, *(state[name.replace("q_proj", f"{letter}_proj")] for letter in "kv")])
        if re.search(r"mlp\.fc\d\.weight", name):
            value = value[:, :, None, None]
        made[rewritten(name, TO_MMSEGMENTATION)] = value
    return made
