"""Measure what the assignment of book/for-teachers.md asks for, so that its expected numbers are real ones.

`python tools/assignment.py` trains the sketch of chapter 7 on drawn shapes, with the library's attention and with keys
and values that are means of cells, and writes results/assignment.json.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import nn

from results import SKETCH_TRAINED, stamp
from segformer_edu import SKETCH, EfficientSelfAttention, Segformer
from segformer_edu.data import Shapes
from segformer_edu.training import Recipe, choose_device, evaluate, fit

RESULT = Path(__file__).resolve().parents[1] / "results" / "assignment.json"
SOURCES = (*SKETCH_TRAINED, "tools/assignment.py")
SEEDS = (0, 1, 2)
RECIPE = Recipe(steps=240, batch_size=16, validate_every=240)
SMALL = {"dims": (32, 64, 128, 192), "heads": (1, 2, 4, 6), "ff_expansion": 2, "num_layers": 1, "decoder_dim": 128}


class PooledAttention(nn.Module):
    """Self-attention whose keys and values come from the means of cells: task 2, solved."""

    def __init__(self, *, dim: int, heads: int, reduction_ratio: int) -> None:
        super().__init__()
        self.heads, self.reduction_ratio = heads, reduction_ratio
        self.to_q, self.to_k, self.to_v, self.to_out = (nn.Conv2d(dim, dim, 1, bias=False) for _ in range(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pooled = F.avg_pool2d(x, self.reduction_ratio)
        q, k, v = (self.to_q(x), self.to_k(pooled), self.to_v(pooled))
        q, k, v = (rearrange(t, "b (heads c) h w -> b heads (h w) c", heads=self.heads) for t in (q, k, v))
        out = F.scaled_dot_product_attention(q, k, v)
        return self.to_out(rearrange(out, "b heads (h w) c -> b (heads c) h w", h=x.shape[-2]))


def train(attention: type[nn.Module], seed: int) -> tuple[float, int]:
    """Train the small sketch with this attention from a seed; return its mIoU and its number of parameters."""
    torch.manual_seed(seed)
    model = Segformer(**SMALL, parts=replace(SKETCH, attention=attention))
    fit(model, Shapes(4000, size=64, seed=0), replace(RECIPE, seed=seed), device=choose_device(), progress=False)
    scores = evaluate(model, Shapes(100, size=64, seed=1), progress=False)
    return scores.mean_iou, sum(weight.numel() for weight in model.parameters())


def main() -> None:
    torch.set_num_threads(1)
    start, measured = time.process_time(), {}
    for name, attention in {"library": EfficientSelfAttention, "pooled": PooledAttention}.items():
        runs = [train(attention, seed) for seed in SEEDS]
        measured[name] = {"mean_iou": [round(mean_iou, 3) for mean_iou, _ in runs], "parameters": runs[0][1]}
        print(name, measured[name])
    about = stamp("python tools/assignment.py", SOURCES, threads="1") | {
        "device": str(choose_device()),
        "cpu_minutes": round((time.process_time() - start) / 60, 1),
        "recipe": asdict(RECIPE),
        "seeds": list(SEEDS),
    }
    RESULT.write_text(json.dumps(about | measured, indent=2) + "\n")


if __name__ == "__main__":
    main()
