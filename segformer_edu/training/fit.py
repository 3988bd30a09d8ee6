"""Chapter 7: the training loop, and going on where it stopped."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from segformer_edu.data.labels import VOID
from segformer_edu.data.pictures import normalize
from segformer_edu.data.seeds import seeded_generator
from segformer_edu.model.config import SegformerConfig
from segformer_edu.training.checkpoint import load_model, read_checkpoint, write_checkpoint
from segformer_edu.training.evaluation import Pairs, check_data, evaluate
from segformer_edu.training.losses import segmentation_loss
from segformer_edu.training.recipe import Recipe, batch_indices
from segformer_edu.validation import check_finite


@dataclass
class History:
    """What happened while a model was trained.

    Attributes:
        losses: the loss of each step.
        validations: for each step after which the model was evaluated, its mIoU.
        steps: how many there will be in all.
    """

    losses: list[float] = field(default_factory=list)
    validations: dict[int, float] = field(default_factory=dict)
    steps: int = 0

    @property
    def finished(self) -> bool:
        """Whether all steps were taken."""
        return len(self.losses) >= self.steps


def choose_device() -> torch.device:
    """Return the fastest device at hand: CUDA, else Apple's MPS, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def fit(
    model: nn.Module,
    data: Pairs,
    recipe: Recipe = Recipe(),  # noqa: B008 (frozen)
    *,
    validation: Pairs | None = None,
    augment: Callable[..., tuple[torch.Tensor, torch.Tensor]] | None = None,
    ignore_index: int = VOID,
    checkpoint: str | Path | None = None,
    device: torch.device | None = None,
    workers: int = 0,
    on_step: Callable[[History], object] | None = None,
    progress: bool = True,
) -> History:
    """Train a model, in place.

    Args:
        model: takes normalised images (B, 3, H, W), returns logits (B, num_classes, h, w).
        data: pairs of an image (3, H, W) in [0, 1] and its class map (H, W), all of one size.
        recipe: how long and how fast.
        validation: pairs to evaluate on every ``recipe.validate_every`` steps, and at the end.
        augment: changes each batch: called with images, masks and a generator; see ``data.Augmentation``.
        ignore_index: pixels with this number do not count.
        checkpoint: a file that is written at each validation, at the end, and when the reader interrupts; where it
            is there already, training goes on from it and ends with the same weights as if never interrupted.
        device: where to compute; CUDA, MPS or CPU by default, whichever is there.
        workers: processes that prepare the images, next to this one.
        on_step: called with the history after each step: ``pages.plots.LiveCurve()`` draws it in a notebook.
        progress: whether to show a bar.

    Returns:
        The history of losses and validations.

    Raises:
        ValueError: no data, images that are not finite, class numbers that the model does not have, a checkpoint of
            another recipe or model.
        FloatingPointError: a loss that is not finite.

    Source: chapter 7.
    """
    check_data(data)
    run = Run.start(model, recipe, device or choose_device(), checkpoint)
    start = len(run.history.losses)
    batches = [batch_indices(step, len(data), recipe) for step in range(start, recipe.steps)]
    loader = DataLoader(cast(Any, data), batch_sampler=batches, num_workers=workers)
    bar = tqdm(loader, desc="train", initial=start, total=recipe.steps, leave=False, disable=not progress)
    try:
        for step, (images, masks) in enumerate(bar, start):
            if augment is not None:
                images, masks = augment(images, masks, seeded_generator(recipe.seed, step))
            loss = run.step(images, masks, ignore_index)
            bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
            if (step + 1) % recipe.validate_every == 0 or step + 1 == recipe.steps:
                run.validate(validation, ignore_index)
                run.save()
            if on_step is not None:
                on_step(run.history)
    except KeyboardInterrupt:
        run.save()
        print(f"Interrupted after {len(run.history.losses)} of {recipe.steps} steps. {run.whereabouts()}")
    return run.history


@dataclass(frozen=True)
class Run:
    """A training in progress: everything that it has to find again in order to go on.

    Attributes:
        model: what is trained.
        recipe: how long and how fast.
        optimizer: AdamW.
        schedule: of the learning rate.
        history: of the losses and validations so far.
        path: of the checkpoint, if there is to be one.
    """

    model: nn.Module
    recipe: Recipe
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    history: History
    path: Path | None

    @classmethod
    def start(cls, model: nn.Module, recipe: Recipe, device: torch.device, checkpoint: str | Path | None) -> Run:
        """Start a training, or go on with the one in ``checkpoint``."""
        model.to(device).train()
        optimizer = torch.optim.AdamW(model.parameters(), recipe.learning_rate, weight_decay=recipe.weight_decay)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, recipe.rate)
        history, path = History(steps=recipe.steps), Path(checkpoint) if checkpoint else None
        run = cls(model, recipe, optimizer, schedule, history, path)
        if run.path is not None and run.path.is_file():
            run.load(run.path, device)
        return run

    def step(self, images: torch.Tensor, masks: torch.Tensor, ignore_index: int) -> float:
        """Take one step down the gradient of a batch; return the loss before it.

        Raises:
            ValueError: images that are not finite.
            FloatingPointError: a loss that is not finite; the weights are not touched.
        """
        check_finite(images)
        device = next(self.model.parameters()).device
        loss = segmentation_loss(self.model(normalize(images.to(device))), masks.to(device), ignore_index)
        if not torch.isfinite(loss):
            raise FloatingPointError(
                f"The loss is {loss.item()} at step {len(self.history.losses)}; expected a finite number. A lower "
                f"learning rate or a longer warm-up helps most often. The weights are those before this step."
            )
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.schedule.step()
        self.history.losses.append(loss.item())
        return loss.item()

    def validate(self, validation: Pairs | None, ignore_index: int) -> None:
        """Note the mIoU on ``validation``, if there is any."""
        if validation is not None:
            scores = evaluate(self.model, validation, ignore_index=ignore_index, progress=False)
            self.history.validations[len(self.history.losses)] = scores.mean_iou

    def save(self) -> None:
        """Write the checkpoint, if there is to be one."""
        if self.path is None:
            return
        state = {name: getattr(self, name).state_dict() for name in ("model", "optimizer", "schedule")}
        config = getattr(self.model, "config", None)
        state["config"] = config.to_dict() if isinstance(config, SegformerConfig) else None
        write_checkpoint(self.path, state | {"recipe": asdict(self.recipe), "history": asdict(self.history)})

    def load(self, path: Path, device: torch.device) -> None:
        """Put everything back as the checkpoint in ``path`` has it.

        Raises:
            ValueError: a file that is no checkpoint, or of another recipe or model.
        """
        saved = read_checkpoint(path, asdict(self.recipe), device)
        load_model(self.model, saved, path)
        self.optimizer.load_state_dict(saved["optimizer"])
        self.schedule.load_state_dict(saved["schedule"])
        self.history.losses.extend(saved["history"]["losses"])
        self.history.validations.update(saved["history"]["validations"])

    def whereabouts(self) -> str:
        """Say where the work so far is."""
        if self.path is None:
            return "The model keeps what it has learned; with checkpoint=, fit can go on later."
        return f"Saved to {self.path}: the same call goes on from there."
