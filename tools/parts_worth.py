"""What each part of the model is worth, in short trainings on CamVid: results/parts.json.

    python tools/parts_worth.py            # those that have no result yet, then the table
    python tools/parts_worth.py NAME …     # these alone
    python tools/parts_worth.py --record   # write down what is done, train nothing

Every training has the same steps, crops and rates, three seeds each. A model of half of B0's width learns crops of
128×160 pixels, and is judged on val at 360×480: at a size that training did not see.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from results import ROOT, stamp
from segformer_edu.data import CamVid, InMemory, class_counts
from segformer_edu.model.embedding import OverlapPatchEmbedding
from segformer_edu.model.normalization import LayerNorm2d
from segformer_edu.model.parts import FAST, SKETCH, Parts
from segformer_edu.model.segformer import Segformer
from segformer_edu.model.variants import COMMON, SMALL, initialize
from segformer_edu.training import evaluate, fit
from segformer_edu.training.plans import OURS, balanced_weights
from segformer_edu.training.precision import precision_on

CROP = (128, 160)
EPOCHS = 12
SEEDS = (0, 1, 2)
FLOAT32 = ", float32"
"""Ends the name of a variation that is trained in float32: on a processor without bfloat16."""
SIZES = {"128×160": (128, 160), "256×320": (256, 320), "360×480": None}
"""At which the pictures of val are shown: a whole picture in the size of a training crop, larger, and as it is."""
FOLDER = ROOT / "runs" / "parts"
TARGET = ROOT / "results" / "parts.json"
SOURCES = ("tools/parts_worth.py",)
"""Of which it is a result; an hour and a half is too long for each change of the library."""


class Patches(nn.Module):
    """Patches beside each other, without overlap, as in PVT: each pixel belongs to one."""

    def __init__(self, dim_in: int, dim_out: int, kernel_size: int, stride: int, padding: int) -> None:
        super().__init__()
        self.project = nn.Conv2d(dim_in, dim_out, stride, stride)
        self.norm = LayerNorm2d(dim_out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        missing = [-side % self.project.stride[0] for side in x.shape[-2:]]
        return self.norm(self.project(F.pad(x, (0, missing[1], 0, missing[0]))))


class Positions(nn.Module):
    """The overlapping patch embedding with a learned embedding of positions, as PVT adds one at each stage.

    At another size than that of the crops it is enlarged, bilinearly, as ViT and PVT do it.
    """

    def __init__(self, sides: list[int], dim_in: int, dim_out: int, kernel: int, stride: int, padding: int) -> None:
        super().__init__()
        sides[:] = [-(-side // stride) for side in sides]  # of this stage's map
        self.patches = OverlapPatchEmbedding(dim_in, dim_out, kernel, stride, padding)
        self.positions = nn.Parameter(nn.init.trunc_normal_(torch.empty(1, dim_out, *sides), std=0.02))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.patches(x)
        return x + F.interpolate(self.positions, size=x.shape[-2:], mode="bilinear")


class PlainFeedForward(nn.Module):
    """The feed-forward network of a transformer, without the 3×3 convolution: it knows no neighbours."""

    def __init__(self, *, dim: int, expansion_factor: int) -> None:
        super().__init__()
        self.widen = nn.Conv2d(dim, dim * expansion_factor, 1)
        self.narrow = nn.Conv2d(dim * expansion_factor, dim, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.narrow(F.gelu(self.widen(x)))


def with_positions() -> Parts:
    """Return the paper's parts with positions in place of the Mix-FFN's convolution."""
    return replace(FAST, patch_embedding=partial(Positions, list(CROP)), feed_forward=PlainFeedForward)


VARIATIONS: dict[str, Callable[[], dict[str, Any]]] = {
    "paper": dict,
    "sketch": lambda: {"parts": SKETCH, "ff_expansion": (8, 8, 4, 4)},
    **{
        f"sketch's {leaf.replace('_', ' ')}": partial(
            lambda leaf: {"parts": replace(FAST, **{leaf: getattr(SKETCH, leaf)})}, leaf
        )
        for leaf in ("patch_embedding", "norm", "attention", "feed_forward", "stage_norm", "decoder")
    },
    "patches without overlap": lambda: {"parts": replace(FAST, patch_embedding=Patches)},
    "positions, no convolution": lambda: {"parts": with_positions()},
    "neither": lambda: {"parts": replace(FAST, feed_forward=PlainFeedForward)},
    "reduction 16, 8, 4, 2": lambda: {"reduction_ratio": (16, 8, 4, 2)},
    "decoder of 32": lambda: {"decoder_dim": 32},
    "decoder of 256": lambda: {"decoder_dim": 256},
    f"paper{FLOAT32}": dict,
    f"sketch's norm{FLOAT32}": lambda: {"parts": replace(FAST, norm=SKETCH.norm)},
    f"reduction 4, 2, 1, 1{FLOAT32}": lambda: {"reduction_ratio": (4, 2, 1, 1)},
}
"""What is changed of the paper's model, one thing at a time; the last three are to be compared with each other."""


def build(name: str, classes: int) -> Segformer:
    """Make the model of a variation, all drawn by the same rule."""
    options = {**SMALL, **COMMON, "parts": FAST, **VARIATIONS[name]()}
    model = Segformer(**options, num_classes=classes)
    model.mit.apply(initialize)
    return model


def measure(name: str, seed: int, train: InMemory, judge: InMemory) -> dict[str, Any]:
    """Train a variation, and judge it at several sizes."""
    classes = len(train.classes or ())
    counts = class_counts(train, classes)
    plan = replace(OURS, epochs=EPOCHS, augment=replace(OURS.augment, size=CROP)).of(len(train), counts, seed=seed)
    precision = "float32" if name.endswith(FLOAT32) else precision_on("cpu", plan.recipe.precision)
    torch.manual_seed(seed)
    model = build(name, classes)
    start = time.process_time()
    weights = balanced_weights(counts, plan.balance)
    history = fit(
        model,
        train,
        replace(plan.recipe, precision=precision),
        augment=plan.augment,
        class_weights=weights,
        device="cpu",
        progress=sys.stderr.isatty(),
    )
    seconds = time.process_time() - start
    judged = {}
    for label, size in SIZES.items():
        shown = judge if size is None else Resized(judge, size)
        judged[label] = round(evaluate(model, shown, batch_size=4, progress=False).mean_iou, 4)
    parameters = sum(weight.numel() for weight in model.parameters())
    loss = sum(history.losses[-100:]) / len(history.losses[-100:])
    return {
        "miou": judged,
        "loss": round(loss, 4),
        "parameters": parameters,
        "cpu_seconds": round(seconds),
        "precision": precision,
    }


class Resized:
    """Pairs brought to another size."""

    def __init__(self, data: InMemory, size: tuple[int, int]) -> None:
        self.data, self.size, self.ignore_index = data, size, data.ignore_index

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        image, mask = self.data[index]
        image = F.interpolate(image[None].float() / 255, self.size, mode="bilinear", antialias=True)[0].clamp(0, 1)
        return image, F.interpolate(mask[None, None].double(), self.size, mode="nearest-exact")[0, 0].long()


def record() -> None:
    """Write down what is done, beside what was written down before."""
    found = recorded()
    for name in VARIATIONS:
        for seed in SEEDS:
            path = FOLDER / f"{name}-{seed}.json"
            if path.is_file():
                found.setdefault(name, {})[str(seed)] = json.loads(path.read_text(encoding="utf-8"))
    settings = {"crop": CROP, "epochs": EPOCHS, "sizes": list(SIZES), "recipe": OURS.to_dict()}
    variations = {name: found[name] for name in VARIATIONS if name in found}
    content = {**stamp("python tools/parts_worth.py", SOURCES, "1"), **settings, "variations": variations}
    TARGET.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(f"{sum(map(len, found.values()))} trainings in {TARGET.relative_to(ROOT)}")


def recorded() -> dict[str, dict[str, Any]]:
    """Return what is written down, by variation and seed: a new clone has no folder of trainings."""
    return json.loads(TARGET.read_text(encoding="utf-8"))["variations"] if TARGET.is_file() else {}


def main() -> None:
    """Train what is missing, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--record", action="store_true")
    given = parser.parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    if not given.record:
        torch.set_num_threads(1)  # two of these may run side by side
        train, judge = InMemory(CamVid("train")), InMemory(CamVid("val"))
        known = recorded()
        for seed in SEEDS:
            for name in given.names or VARIATIONS:
                path = FOLDER / f"{name}-{seed}.json"
                if not path.is_file() and str(seed) not in known.get(name, {}):
                    result = measure(name, seed, train, judge)
                    path.write_text(json.dumps(result), encoding="utf-8")
                    print(name, seed, result, flush=True)
    record()


if __name__ == "__main__":
    main()
