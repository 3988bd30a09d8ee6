"""The numbers that the assignment for teachers tells: counted while the page is built, or read from results/."""

from __future__ import annotations

import json

import torch
from chapter_facts import ROOT
from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from segformer_edu import EfficientSelfAttention, Segformer

RESULT = ROOT / "results" / "assignment.json"


def attention_layers(model: Segformer, size: int) -> list[tuple[EfficientSelfAttention, int, int]]:
    """Return each attention layer of a model, with its tokens and its keys for an image of size × size."""
    seen = []

    def note(layer: EfficientSelfAttention, inputs: tuple[torch.Tensor]) -> None:
        height, width = inputs[0].shape[-2:]
        seen.append((layer, height * width, (height // layer.reduction_ratio) * (width // layer.reduction_ratio)))

    hooks = [m.register_forward_pre_hook(note) for m in model.modules() if isinstance(m, EfficientSelfAttention)]
    with torch.inference_mode():
        model(torch.zeros(1, 3, size, size))
    for hook in hooks:
        hook.remove()
    return seen


class AssignmentCounts(SphinxDirective):
    """The totals of task 1 for a square image of the given side."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        layers = attention_layers(Segformer(), int(self.arguments[0]))
        strided = sum(weight.numel() for layer, _, _ in layers for weight in layer.parameters())
        rows = {
            "similarities, all layers and heads": sum(layer.heads * n * keys for layer, n, keys in layers),
            "the same at ratio 1": sum(layer.heads * n * n for layer, n, _ in layers),
            "attention parameters, strided convolutions": strided,
            "attention parameters, means": sum(4 * layer.to_q.in_channels**2 for layer, _, _ in layers),
        }
        lines = ["| Total | Expected |", "| --- | --- |", *(f"| {name} | {count:,} |" for name, count in rows.items())]
        return self.parse_text_to_nodes("\n".join(lines))


class AssignmentResults(SphinxDirective):
    """What the trainings of task 3 gave when they were measured."""

    def run(self) -> list[nodes.Node]:
        self.env.note_dependency(str(RESULT))
        about = json.loads(RESULT.read_text())
        lines = ["| Attention | Parameters | mIoU of the seeds | Mean |", "| --- | --- | --- | --- |"]
        for name, label in {"library": "the library's", "pooled": "means of cells"}.items():
            values = about[name]["mean_iou"]
            runs = ", ".join(f"{value:.3f}" for value in values)
            lines.append(f"| {label} | {about[name]['parameters']:,} | {runs} | {sum(values) / len(values):.3f} |")
        lines.append(
            f"\nMeasured by `{about['command']}` on {about['machine']} ({about['device']}): "
            f"{about['recipe']['steps']} steps with batches of {about['recipe']['batch_size']}, seeds "
            f"{', '.join(map(str, about['seeds']))}; the {2 * len(about['seeds'])} trainings took "
            f"{about['cpu_minutes']:.0f} minutes of CPU time."
        )
        return self.parse_text_to_nodes("\n".join(lines))
