"""Put a trained model into the library, in half precision, with its card.

python tools/ship.py runs/b0-full camvid-b0
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from segformer_edu import load_pretrained, save_pretrained
from segformer_edu.cli.evaluate import figures
from segformer_edu.data import CamVid
from segformer_edu.pretrained.ours import FOLDER
from segformer_edu.training import evaluate

CARD = """# {name}

SegFormer-{model} ({parameters} parameters, weights in float16), trained from scratch by segformer-edu: no other data,
no pretrained weights. `load_pretrained("{name}")`

- **Task.** Semantic segmentation of street pictures of 360×480 pixels into {count} classes: {classes}.
- **Data.** CamVid (Brostow et al., 2009) as SegNet's authors prepared it (360×480, 11 classes), the {training}
  pictures of its split "train".
- **Recipe.** {commands}, commit {commit}, PyTorch {torch}, {hours} CPU-hours. The recipe's every number stands in
  `results/runs.json`.
- **Figures.** mIoU on val (101 pictures), each picture seen once in its own size: {miou}. Seen also in the mirror:
  {flip}. By class: {ious}. Split val is seven seconds of one street whose other pictures are in train: it overstates
  what the model can. Split test was not looked at while the recipe was chosen:
  `segformer-edu evaluate --weights {name} --data camvid --split test`.

**Not to be used** for driving, for surveillance, or for any decision about people. It learned from three drives
through one English town, two by day and one at dusk, with one camera. Poles, signs and pedestrians
are often missed; see the figures by class. Expect much less with other cameras, cities, weather, and at
night; chapter 12 measures a part of it.

**Licence.** The weights are this project's own, MIT as its code. CamVid's pictures are not part of it; its authors
offer them for research: cite them.
"""


def card(name: str, result: dict[str, Any], commit: str, parameters: int, judged: dict[str, Any]) -> str:
    """Return a model's card."""
    data, stages = result["data"], stages_of(result)
    size = stages[0]["data"]["model"]
    return CARD.format(
        name=name,
        model=size.upper() if size.startswith("b") else f"“{size}”",
        parameters=f"{parameters:,}",
        count=len(data["classes"]),
        classes=", ".join(data["classes"]),
        training=data["training"],
        commands=", then ".join(f"`{stage['command']}`" for stage in stages),
        commit=commit[:12],
        torch=result["torch"],
        hours=f"{sum(stage['cpu_seconds'] for stage in stages) / 3600:.1f}",
        miou=f"{100 * judged['miou']:.1f}",
        flip=f"{100 * result['judged']['flip']['miou']:.1f}",
        ious=", ".join(f"{label} {100 * value:.0f}" for label, value in judged["iou"].items()),
    )


def stages_of(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the results of a training's stages, the first one first: of the run that it started from, and so on."""
    source = result["data"]["from"]
    if source is None:
        return [result]
    return [*stages_of(json.loads((Path(source).parent / "result.json").read_text(encoding="utf-8"))), result]


def main() -> None:
    """Ship a run's model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="the folder of a run, such as runs/b0")
    parser.add_argument("name", help="of the model in the library, such as camvid-b0")
    given = parser.parse_args()
    result = json.loads((given.run / "result.json").read_text(encoding="utf-8"))
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        save_pretrained(load_pretrained(given.run / "model").half(), folder)
        shutil.copyfile(Path(folder) / "model.safetensors", FOLDER / f"{given.name}.safetensors")
    shipped = load_pretrained(given.name)
    judged = figures(evaluate(shipped, CamVid("val"), batch_size=2), tuple(result["data"]["classes"]))
    began = (given.run / "commit.txt").read_text(encoding="utf-8").strip()
    parameters = sum(weight.numel() for weight in shipped.parameters())
    text = card(given.name, result, began, parameters, judged)
    (FOLDER / f"{given.name}.md").write_text(text, encoding="utf-8")
    print(f"{given.name}: mIoU on val {judged['miou']:.4f}, {result['judged']['plain']['miou']:.4f} before")


if __name__ == "__main__":
    main()
