"""Make results/prediction.webp, for the README and the book's first page: the sketch, trained here and now.

Shapes alone: CamVid's pictures are not this project's to publish; chapter 7 shows the streets to whoever has them.
"""

from __future__ import annotations

import base64
import json
import re
import time
from pathlib import Path

import torch

from results import SKETCH_TRAINED, stamp
from segformer_edu import Segformer, segment
from segformer_edu.data import Shapes
from segformer_edu.pages import plots
from segformer_edu.training import Recipe, evaluate, fit

RESULTS = Path(__file__).resolve().parents[1] / "results"
SOURCES = (*SKETCH_TRAINED, "segformer_edu/inference.py", "segformer_edu/pages/plots.py", "tools/prediction.py")
STEPS = 600
SHOWN = (7, 23)


def main() -> None:
    torch.manual_seed(0)
    model, validation = Segformer(), Shapes(200, seed=1)
    start = time.perf_counter()
    fit(model, Shapes(10000), Recipe(steps=STEPS))
    minutes = (time.perf_counter() - start) / 60
    reached = evaluate(model, validation).mean_iou
    images, truths = zip(*[validation[index] for index in SHOWN])
    predictions = [segment(model, image) for image in images]
    figure = plots.segmentations(
        {"picture": images, "prediction": predictions, "truth": truths},
        classes=Shapes.classes,
        colours=Shapes.colours,
        width=6.4,
    )
    about = f"{STEPS} steps ({minutes:.1f} minutes on {torch.get_num_threads()} CPU cores)"
    shown = f"{len(SHOWN)} drawn scenes, the class maps that the sketch predicts for them after {about}"
    alt = f"{shown}, and the true ones."
    picture = re.search(r"base64,([^\"]+)", plots.to_html(figure, alt)).group(1)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "prediction.webp").write_bytes(base64.b64decode(picture))
    threads = str(torch.get_num_threads())
    record = stamp("python tools/prediction.py", SOURCES, threads) | {
        "image": "prediction.webp",
        "alt": alt,
        "caption": f"The model of this book after {about} of training from nothing; validation mIoU {reached:.2f}.",
    }
    (RESULTS / "prediction.json").write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
