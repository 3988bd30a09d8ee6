"""The loss of many classes in strips against the plain one: `python benchmarks/loss.py`.

Each row is the loss and its gradient in the small logits. Both are called in turn, again and again, and medians are
compared; the least times too, which other programs on the machine touch least. Memory is the most that PyTorch holds at
any moment beyond what it held before. Written to results/loss.json. A few minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))
os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # as the chapters run: tools/chapters.py says why
os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler works without remarks
os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")

import torch  # noqa: E402 (the lines above must come first)

from results import stamp  # noqa: E402
from segformer_edu.pages.measure import milliseconds, peak_megabytes  # noqa: E402
from segformer_edu.training.losses import segmentation_loss  # noqa: E402
from segformer_edu.training.strips import strip_loss  # noqa: E402

RESULT = ROOT / "results" / "loss.json"
SOURCES = (
    "benchmarks/loss.py",
    "segformer_edu/pages/measure.py",
    *(f"segformer_edu/training/{room}.py" for room in ("losses", "strips")),
)
"""What is measured: both losses."""
LOSSES = {"strips": strip_loss, "plain": segmentation_loss}
ROWS = (
    (150, 2, 256, 256),
    (150, 1, 512, 512),
    (150, 2, 512, 512),
    (150, 1, 1024, 1024),
    (19, 1, 1024, 2048),
    (11, 8, 360, 480),
    (4, 2, 512, 512),
)
"""Classes, images, height and width: ADE20K's, Cityscapes', CamVid's, and so few that little is to be gained."""
SCALE = 4  # how many times larger the pictures are than the logits, along each side
COLUMNS = (
    "classes", "batch", "size", "plain_ms", "strips_ms", "times_faster", "least_plain_ms", "least_strips_ms",
    "plain_MB", "strips_MB", "memory_ratio", "difference",
)  # fmt: skip


def compared(classes: int, batch: int, height: int, width: int, repeats: int, device: str) -> dict[str, Any]:
    """Measure both losses at one size: a row of the result."""
    small = (batch, classes, height // SCALE, width // SCALE)
    logits = torch.randn(small, device=device).requires_grad_()
    masks = torch.randint(0, classes, (batch, height, width), device=device)

    def gradient(name: str) -> torch.Tensor:
        return torch.autograd.grad(LOSSES[name](logits, masks), logits)[0]

    calls: dict[str, Callable[[], torch.Tensor]] = {name: (lambda name=name: gradient(name)) for name in LOSSES}
    milliseconds(calls, repeats=1, warmups=1)
    times = [milliseconds(calls, repeats=1, warmups=0) for _ in range(repeats)]
    megabytes = {name: peak_megabytes(call, device) for name, call in calls.items()}
    strips, plain = (call() for call in calls.values())
    row: dict[str, Any] = {"classes": classes, "batch": batch, "size": [height, width], "repeats": repeats}
    for name in LOSSES:
        row[f"{name}_ms"] = median(each[name] for each in times)
        row[f"least_{name}_ms"] = min(each[name] for each in times)
        row[f"{name}_MB"] = megabytes[name]
    return row | {
        "times_faster": row["plain_ms"] / row["strips_ms"],
        "memory_ratio": megabytes["strips"] / megabytes["plain"],
        "difference": ((strips - plain).abs().max() / plain.abs().max()).item(),
    }


def line(cells: list[str]) -> str:
    """Return a line of the table."""
    return "  ".join(f"{cell:>{len(name)}}" for cell, name in zip(cells, COLUMNS))


def main() -> None:
    """Measure, print row by row, write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cpu or cuda")
    parser.add_argument("--out", type=Path, default=RESULT, help=f"by default {RESULT.relative_to(ROOT)}")
    parser.add_argument("--repeats", type=int, default=15, help="timed calls of each loss at each size; by default 15")
    parser.add_argument("--threads", type=int, default=2, help="by default 2; with 1, other programs disturb least")
    arguments = parser.parse_args()
    for name in ("repeats", "threads"):
        if getattr(arguments, name) < 1:
            parser.error(f"--{name} is {getattr(arguments, name)}; expected 1 or more.")
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    command = shlex.join(["python", "benchmarks/loss.py", *sys.argv[1:]])
    made_by = stamp(command, SOURCES, threads=str(arguments.threads))  # first: the code that runs is of this moment
    if arguments.device == "cuda":
        made_by["machine"] = torch.cuda.get_device_name()
    print(line(list(COLUMNS)))
    rows = []
    for size in ROWS:
        rows.append(compared(*size, arguments.repeats, arguments.device))
        cells = [rows[-1][name] for name in COLUMNS]
        print(line([f"{cell:.3g}" if isinstance(cell, float) else str(cell) for cell in cells]), flush=True)
    arguments.out.write_text(json.dumps(made_by | {"torch": torch.__version__, "rows": rows}, indent=1) + "\n")
    print(f"Written: {arguments.out}")


if __name__ == "__main__":
    main()
