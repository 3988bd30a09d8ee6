"""Make results/prediction.webp, for the README and the book's first page: streets, as the shipped model sees them.

The pictures come with the library, and no training saw them: ``pages.frames``.
"""

from __future__ import annotations

import base64
import json
import re

import torch

from results import ROOT, stamp
from segformer_edu import load_pretrained, segment
from segformer_edu.data import VOID
from segformer_edu.data.camvid import CLASSES
from segformer_edu.pages import plots
from segformer_edu.pages.frames import street
from segformer_edu.training import Scores, confusion_matrix

MODEL, RUNS = "camvid-b0", ("b0", "b0-more-full")
"""The shipped model, and the first and the last stage of its training."""
SHOWN = (0, 1)
SOURCES = (
    *(
        f"segformer_edu/{file}.py"
        for file in ("inference", "model/fast", "pages/frames", "pages/plots", "pretrained/ours")
    ),
    f"segformer_edu/pretrained/shipped/{MODEL}.safetensors",
    "tools/prediction.py",
)


def main() -> None:
    """Draw it, and say what it shows."""
    model = load_pretrained(MODEL)
    pictures, truths = zip(*map(street, SHOWN))
    maps = [segment(model, picture) for picture in pictures]
    rows = {"street": pictures, "class map": maps, "drawn by hand": truths}
    figure = plots.segmentations(rows, classes=list(CLASSES), colours=list(CLASSES.values()), width=6.4)
    right = [(found == truth)[truth != VOID].double().mean() for found, truth in zip(maps, truths)]
    scores = Scores(confusion_matrix(torch.stack(maps), torch.stack(truths), len(CLASSES)))
    alt = (
        f"{len(SHOWN)} pictures of a street, the class maps that the book's model computes for them, and those that "
        f"people drew. {100 * torch.stack(right).mean():.0f} % of the pixels with a class have the same one in both."
    )
    runs = json.loads((ROOT / "results" / "runs.json").read_text(encoding="utf-8"))["runs"]
    first, last = runs[RUNS[0]]["data"], runs[RUNS[1]]
    (picture,) = re.findall(r"base64,([^\"]+)", plots.to_html(figure, alt))
    (ROOT / "results" / "prediction.webp").write_bytes(base64.b64decode(picture))
    record = stamp("python tools/prediction.py", SOURCES) | {
        "image": "prediction.webp",
        "alt": alt,
        "caption": (
            f"What you will have built: SegFormer-B0, trained from nothing on {first['training']} pictures of three "
            f"drives, gives each pixel one of {len(CLASSES)} classes. On the {last['data']['judging']} pictures of "
            f"CamVid's validation split its mIoU is {100 * last['judged']['plain']['miou']:.1f} %. No training saw the "
            "pictures above, which are CamVid's, too (Brostow et al., 2009)."
        ),
        "miou": round(scores.mean_iou, 4),
    }
    (ROOT / "results" / "prediction.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
