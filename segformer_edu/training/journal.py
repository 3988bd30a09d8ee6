"""Chapter 11: what happens in a training, written down as it happens."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from segformer_edu.training.recipe import Recipe
from segformer_edu.training.run import History


@dataclass
class Journal:
    """A file of JSON lines: the mean loss of the last steps, time, and each validation.

    A training that goes on where it stopped goes on in its file. ``fit(…, on_step=journal)``.

    Attributes:
        path: of the file.
        recipe: of the training.
        every: steps to a line.
        writer: of TensorBoard, which is given the same numbers.
    """

    path: Path
    recipe: Recipe
    every: int = 50
    writer: Any = None
    before: dict[str, float] = field(default_factory=lambda: {"seconds": 0.0, "cpu_seconds": 0.0})
    started: tuple[float, float] | None = None
    step: int = 0

    def open(self, step: int = 0) -> None:
        """Read what was written until a step, and drop what came after it."""
        lines = [line for line in read_lines(self.path) if line["step"] <= step]
        self.before = {name: lines[-1][name] for name in self.before} if lines else self.before
        self.path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        self.started, self.step = (time.perf_counter(), time.process_time()), step

    def __call__(self, history: History) -> None:
        """Take down a step."""
        step = len(history.losses)
        if self.started is None:
            self.open(step - 1)
        if step % self.every == 0 or history.finished:
            since = history.losses[self.step : step]
            self.write(step, {"loss": sum(since) / len(since), "rate": self.recipe.rate(step - 1)}) if since else None
            self.step = step
        if step in history.validations and step in history.ious:
            self.write(step, {"miou": history.validations[step], "iou": history.ious[step]})

    def times(self) -> dict[str, float]:
        """Return the seconds that the training took so far, by the clock and of all cores, over all its parts."""
        began = self.started or (time.perf_counter(), time.process_time())
        passed = (time.perf_counter() - began[0], time.process_time() - began[1])
        return {name: round(old + new, 1) for (name, old), new in zip(self.before.items(), passed)}

    def write(self, step: int, values: dict[str, Any]) -> None:
        """Add a line."""
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **values, **self.times()}) + "\n")
        for name, value in values.items():
            if self.writer is not None and isinstance(value, float):
                self.writer.add_scalar(name, value, step)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Read a file of JSON lines; the last one may be cut off, by a kill say."""
    lines = []
    for text in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            lines.append(json.loads(text))
        except ValueError:
            break
    return lines
