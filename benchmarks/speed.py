"""SegFormer here against the implementations that people use, in one run: `python benchmarks/speed.py`.

Both models get the same weights and the same image. Each lives in a process of its own, as in the programs that use
it, and they answer in turn; medians are compared. On a CPU each pair is compared as it comes, in two fresh processes,
and with all memory kept in both. A call of the paper's models is compared in two more ways: with the line that this
library advises, `keep_freed_memory()`, in our process alone, and in both. Written to results/speed.json, which chapter
10 reads. Nothing else should run meanwhile: about an hour on two cores of Linux (macOS has another allocator, Windows
does not count page faults). On a GPU in float32, in bfloat16, and compiled.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import shlex
import sys
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))
os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # as the chapters run: tools/chapters.py says why
os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler works without remarks
os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")

import torch  # noqa: E402 (the line above must come first)
from torch import nn  # noqa: E402

import segformer_edu as se  # noqa: E402
from results import stamp  # noqa: E402
from segformer_edu.model.fast import keep_freed_memory  # noqa: E402
from segformer_edu.model.variants import VARIANTS, build_segformer  # noqa: E402
from segformer_edu.pages.measure import milliseconds, page_faults, peak_megabytes  # noqa: E402

RESULT = ROOT / "results" / "speed.json"
ROOMS = (
    "attention",
    "convolution",
    "decoder",
    "drop_path",
    "embedding",
    "encoder",
    "fast",
    "feedforward",
    "normalization",
)
SOURCES = (
    "benchmarks/speed.py",
    "segformer_edu/pages/measure.py",
    *(f"segformer_edu/model/{room}.py" for room in ROOMS),
)
"""What is measured: the layers, not what builds, counts or describes them."""
THREADS = 2
CLASSES = 150
SIZES = {"b0": 512, "b1": 512, "b2": 512, "b3": 512, "b4": 512, "b5": 640}  # Table 1a, ADE20K
GROWTH = (128, 256, 512, 1024, 2048)
LARGE = ("b0", "b2", "b5")  # at 1024 too, where the decoder's maps are largest
KEEP = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "-1"}  # glibc gives no memory back to the system
PROCESSES: dict[str, tuple[bool, dict[str, str]]] = {
    "fresh": (False, {}),
    "block freed": (True, {}),
    "all kept": (False, KEEP),
}
"""Kinds of processes: whether `keep_freed_memory` is called first, and the variables that glibc reads."""
WAYS = {
    "all memory kept": {"ours": "all kept", "theirs": "all kept"},
    "as they come": {"ours": "fresh", "theirs": "fresh"},
    "with the line": {"ours": "block freed", "theirs": "fresh"},
    "block freed in both": {"ours": "block freed", "theirs": "block freed"},
}
"""Ways to compare: the kind of process that each model has."""
EVERYWHERE = ("all memory kept", "as they come")
"""Ways of every row, both with equal processes; the others stand beside them for a call of the paper's models."""


@dataclass(frozen=True)
class Pair:
    """Two models with the same weights: ours, and somebody's; each takes an image and returns logits."""

    peer: str
    name: str
    ours: nn.Module
    theirs: Callable[[torch.Tensor], torch.Tensor]
    their_module: nn.Module

    def difference(self, x: torch.Tensor) -> float:
        """Return the largest difference of the logits, as a share of the largest of them."""
        with torch.inference_mode():
            ours, theirs = self.ours(x), self.theirs(x)
        return ((ours - theirs).abs().max() / theirs.abs().max()).item()


def with_weights_of(theirs: nn.Module, make: Callable[..., nn.Module]) -> nn.Module:
    """Make our model with their weights, and with the eps of their layer norms."""
    converted = se.convert_state_dict(theirs.state_dict())
    ours = make() if converted.is_sketch else make(norm_eps=converted.norm_eps)
    ours.load_state_dict(converted)
    return ours.eval()


def with_transformers(variant: str, device: str) -> Pair:
    """Pair one of B0 to B5 with Hugging Face's, weights drawn at random."""
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    sizes = VARIANTS[variant]
    configuration = SegformerConfig(
        hidden_sizes=list(sizes["dims"]),
        depths=list(sizes["num_layers"]),
        decoder_hidden_size=sizes["decoder_dim"],
        num_labels=CLASSES,
    )
    theirs = SegformerForSemanticSegmentation(configuration).eval().to(device)
    ours = with_weights_of(theirs, partial(build_segformer, variant, CLASSES)).to(device)
    return Pair("transformers", variant, ours, lambda x: theirs(x).logits, theirs)


def compiled_pair(variant: str, device: str) -> Pair:
    """Pair one of B0 to B5 with Hugging Face's, both compiled."""
    pair = with_transformers(variant, device)
    ours, theirs = torch.compile(pair.ours), torch.compile(pair.their_module)
    return Pair(pair.peer, variant, ours, lambda x: theirs(x).logits, theirs)


def with_lucidrains(device: str) -> Pair:
    """Pair the sketch, in channels-last order as chapter 10 advises, with lucidrains' package."""
    from segformer_pytorch import Segformer

    theirs = Segformer().eval().to(device)
    ours = with_weights_of(theirs, se.Segformer).to(device, memory_format=torch.channels_last)
    return Pair("segformer-pytorch", "the sketch", ours, theirs, theirs)


def with_smp(variant: str, device: str) -> Pair:
    """Pair one of B0 to B5 with segmentation-models-pytorch's, less its last enlargement to the image's size."""
    import segmentation_models_pytorch as smp

    width = VARIANTS[variant]["decoder_dim"]
    theirs = smp.Segformer(f"mit_{variant}", encoder_weights=None, decoder_segmentation_channels=width, classes=CLASSES)
    theirs.segmentation_head[1] = nn.Identity()
    theirs = theirs.eval().to(device)
    ours = with_weights_of(theirs, partial(build_segformer, variant, CLASSES)).to(device)
    return Pair("segmentation-models-pytorch", variant, ours, theirs, theirs)


def training_step(module: nn.Module, logits: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor) -> Callable:
    """Return a function that computes every gradient once; the optimiser's own step is the same for both."""

    def step() -> None:
        module.zero_grad()
        logits(x).square().mean().backward()

    return step


class Candidate:
    """One of a pair, ours or theirs: what its process is asked about it."""

    def __init__(
        self, who: str, task: str, make: Callable[[], Pair], size: tuple[int, int, int], bfloat16: bool, line: bool
    ) -> None:
        torch.set_num_threads(THREADS)
        torch.manual_seed(0)
        if line:
            keep_freed_memory()
        self.pair = make()
        for module in (self.pair.ours, self.pair.their_module):
            module.train(task == "training step")
        self.device = next(self.pair.their_module.parameters()).device
        self.bfloat16, self.trains = bfloat16, task == "training step"
        self.x = torch.randn(size[0], 3, *size[1:], device=self.device)
        module, logits = {
            "ours": (self.pair.ours, self.pair.ours),
            "theirs": (self.pair.their_module, self.pair.theirs),
        }[who]
        self.call = training_step(module, logits, self.x) if self.trains else partial(logits, self.x)

    def answer(self, question: str) -> float | str:
        """Answer one question; for all but the names the model is called once."""
        autocast = torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16)
        with autocast, nullcontext() if self.trains else torch.inference_mode():
            return {
                "peer": lambda: self.pair.peer,
                "model": lambda: self.pair.name,
                "ms": lambda: milliseconds({"it": self.call}, repeats=1, warmups=0)["it"],
                "faults": lambda: page_faults(self.call),
                "MB": lambda: peak_megabytes(self.call, self.device),
                "difference": lambda: self.pair.difference(self.x),
            }[question]()


HERE: list[Candidate] = []
"""The candidate of this process."""


def prepare(*arguments: object) -> None:
    """Make the candidate of this process."""
    HERE.append(Candidate(*arguments))


def ask_here(question: str) -> float | str:
    """Ask the candidate of this process."""
    return HERE[0].answer(question)


def one_round(repeats: int, ways: Collection[str], task: str, *of_pair: object) -> dict:
    """Give each model a new process of each kind that the ways need; time all in turn, take page faults and memory."""
    alone: dict[tuple[str, str], ProcessPoolExecutor] = {}
    with ExitStack() as stack:
        for who, kind in {pair for way in ways for pair in WAYS[way].items()}:
            line, environment = PROCESSES[kind]
            with patch.dict(os.environ, environment):
                process = stack.enter_context(ProcessPoolExecutor(1, mp_context=get_context("spawn")))
                process.submit(prepare, who, task, *of_pair, line).result()
            alone[who, kind] = process

        def ask(question: str) -> dict[tuple[str, str], float | str]:
            return {which: process.submit(ask_here, question).result() for which, process in alone.items()}

        ask("ms")  # warms up
        times = [ask("ms") for _ in range(repeats)]
        found: dict = {question: ask(question) for question in ("faults", "MB")}
        found["ms"] = {which: median(each[which] for each in times) for which in alone}
        of_both = ("peer", "model") if task == "training step" else ("peer", "model", "difference")
        both = {question: process.submit(ask_here, question).result() for question in of_both}
    return {"difference": None} | found | both


def measured(
    task: str,
    make: Callable[[], Pair],
    size: tuple[int, int, int],
    repeats: int,
    rounds: int = 3,
    bfloat16: bool = False,
    ways: Collection[str] = ("as they come",),
) -> list[dict]:
    """Compare a pair in several rounds: a row of the result for each of the ways.

    How much memory a process gives back to the system, and must ask for again page by page, makes the same model faster
    or slower by a third, as long as the process lives; and another model in the same process changes it. So the models
    of every round have processes of their own. Times and page faults are medians over the rounds; the ratio is given
    with its smallest and its largest.
    """
    found = [one_round(repeats, ways, task, make, size, bfloat16) for _ in range(rounds)]
    rows = [row(task, way, size, found) for way in ways]
    for each in rows:
        short = {key: float(f"{value:.3g}") if isinstance(value, float) else value for key, value in each.items()}
        print(json.dumps(short), flush=True)
    return rows


def row(task: str, way: str, size: tuple[int, int, int], found: list[dict]) -> dict:
    """Put together what the rounds found in one of the ways."""
    sides = {who: (who, kind) for who, kind in WAYS[way].items()}
    ratios = sorted(each["ms"][sides["theirs"]] / each["ms"][sides["ours"]] for each in found)
    last, (batch, *image) = found[-1], size
    result = {
        "task": task, "way": way, "peer": last["peer"], "model": last["model"],
        "size": image, "batch": batch, "rounds": len(found),
    }  # fmt: skip
    for question in ("ms", "faults", "MB"):
        for who, which in sides.items():
            result[f"{who}_{question}"] = median(each[question][which] for each in found)
    return result | {
        "times_faster": median(ratios), "smallest": ratios[0], "largest": ratios[-1],
        "memory_ratio": result["ours_MB"] / result["theirs_MB"], "difference": last["difference"],
    }  # fmt: skip


def matrix_limit(device: str) -> dict[str, float]:
    """Return how many billion multiply-accumulates a second this machine does at most: by product, by convolution."""
    a, b = torch.randn(2, 2048, 2048, device=device)
    x = torch.randn(1, 320, 40, 40, device=device).contiguous(memory_format=torch.channels_last)  # fits a cache
    weight = torch.randn(1280, 320, 1, 1, device=device)
    with torch.inference_mode():
        times = milliseconds({"product": lambda: a @ b, "convolution": lambda: nn.functional.conv2d(x, weight)})
    macs = {"product": 2048**3, "convolution": 320 * 1280 * 40 * 40}
    return {name: macs[name] / times[name] / 1e6 for name in times}


def limits(device: str) -> list[dict]:
    """Return what each variant's arithmetic alone would take at the best rate seen in this run."""
    rows, best = [], 0.0
    for variant, side in SIZES.items():
        with torch.device("meta"):  # shapes alone
            cost = se.cost(build_segformer(variant, CLASSES), side)
        executed = cost.of("encoder").macs + cost.executed_decoder_macs
        rates = matrix_limit(device)
        best = max(best, *rates.values())
        rows.append(
            {
                "model": variant, "size": [side, side], "published_gmacs": cost.of().macs / 1e9,
                "executed_gmacs": executed / 1e9, "gmacs_per_second": rates,
            }
        )  # fmt: skip
    for row in rows:
        row["limit_ms"] = 1000 * row["executed_gmacs"] / best
    return rows


def ways_everywhere(device: str) -> Collection[str]:
    """Return the ways of every row: away from the CPU its allocator does not matter."""
    return EVERYWHERE if device == "cpu" else ("as they come",)


def against_peers(device: str, rounds: int | None) -> Iterator[dict]:
    """Every row but those of growth: forward, training step and memory, each against a peer."""
    everywhere, usual = ways_everywhere(device), rounds or 3
    for variant, side in SIZES.items():
        make = partial(with_transformers, variant, device)
        small = variant < "b3"
        more = rounds or (9 if variant == "b1" else 3)  # transformers' B1 differs most from process to process
        yield from measured(
            "forward", make, (1, side, side), 7 if small else 3, more, ways=WAYS if device == "cpu" else everywhere
        )
        if variant in LARGE:
            yield from measured("forward", make, (1, 1024, 1024), 1, usual, ways=everywhere)
        yield from measured("training step", make, (1, side, side), 3 if small else 1, usual, ways=everywhere)
    yield from measured("forward", partial(with_lucidrains, device), (1, 512, 512), 7, usual, ways=everywhere)
    yield from measured("training step", partial(with_lucidrains, device), (1, 512, 512), 3, usual, ways=everywhere)


def growth(device: str, rounds: int | None) -> Iterator[dict]:
    """B0 at sides from 128 to 2048."""
    make, ways = partial(with_transformers, "b0", device), ways_everywhere(device)
    for side in GROWTH:
        repeats, usual = (1, 1) if side > 1024 else (7, 3)
        yield from measured("growth", make, (1, side, side), repeats, rounds or usual, ways=ways)


def with_smp_if_importable(device: str, rounds: int | None) -> tuple[list[dict], str]:
    """Return smp's rows, or none and the reason."""
    try:
        importlib.import_module("segmentation_models_pytorch")
    except (ImportError, RuntimeError) as error:  # torchvision's import fails beside some builds of torch
        return [], f"segmentation-models-pytorch, not importable on that machine ({type(error).__name__}: {error})"
    variants = ("b0", "b2")
    ways = ways_everywhere(device)
    found = [
        measured("forward", partial(with_smp, v, device), (1, SIZES[v], SIZES[v]), 7, rounds or 3, ways=ways)
        for v in variants
    ]
    return [each for rows in found for each in rows], ""


def precisions(device: str) -> Iterator[dict]:
    """On a GPU: B0 and B5 in float32 and bfloat16, as they are and compiled."""
    for variant, compiled, bfloat16 in product(("b0", "b5"), (False, True), (False, True)):
        make = partial(compiled_pair if compiled else with_transformers, variant, device)
        (one,) = measured("forward", make, (1, SIZES[variant], SIZES[variant]), 9, 1, bfloat16)
        yield one | {"precision": "bfloat16" if bfloat16 else "float32", "compiled": compiled}


def about(device: str) -> dict[str, Any]:
    """Say what makes the result: see ``stamp``; on a GPU it names that."""
    stamped = stamp(shlex.join(["python", "benchmarks/speed.py", *sys.argv[1:]]), SOURCES, threads=str(THREADS))
    return stamped if device == "cpu" else stamped | {"machine": torch.cuda.get_device_name()}


def main() -> None:
    """Measure, print row by row, write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cpu or cuda")
    parser.add_argument("--out", type=Path, default=RESULT, help=f"by default {RESULT.relative_to(ROOT)}")
    parser.add_argument("--rounds", type=int, help="of each row; by default 3, for B1's calls 9, at 2048 pixels 1")
    arguments = parser.parse_args()
    if arguments.rounds is not None and arguments.rounds < 1:
        parser.error(f"--rounds is {arguments.rounds}; expected 1 or more.")
    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    device, rounds = arguments.device, arguments.rounds
    made_by = about(device)  # first: the code that runs is the code of this moment
    smp_rows, smp_reason = with_smp_if_importable(device, rounds)
    rows = [*against_peers(device, rounds), *growth(device, rounds), *smp_rows]
    rows += list(precisions(device)) if device == "cuda" else []
    result = made_by | {
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("torch", "transformers", "segformer-pytorch")},
        "left_out": [smp_reason] if smp_reason else [],
        "limit": limits(device),
        "rows": rows,
    }
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")
    print(f"Written: {arguments.out}")


if __name__ == "__main__":
    main()
