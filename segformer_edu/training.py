"""Chapter 7: training, evaluation, and going on where it stopped."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from segformer_edu.arguments import check_positive
from segformer_edu.data.pairs import VOID
from segformer_edu.data.pictures import normalize
from segformer_edu.metrics import Scores, confusion_matrix
from segformer_edu.plots import LiveCurve
from segformer_edu.seeds import seeded_generator

Pairs = Sequence[tuple[torch.Tensor, torch.Tensor]]


@dataclass(frozen=True)
class Recipe:
    """How a model is trained: AdamW, a linear warm-up, then a linear decay to zero (poly with power 1).

    Attributes:
        steps: batches to train on.
        batch_size: images in a batch.
        learning_rate: at its highest, after the warm-up.
        weight_decay: AdamW's.
        warm_up: steps until the learning rate is at its highest.
        validate_every: steps between two validations.
        seed: of the order of the images and of their augmentation.

    Source: the paper, §4.1, for AdamW and poly; its learning rate, 6e-5, is for pretrained encoders.
    """

    steps: int = 400
    batch_size: int = 16
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    warm_up: int = 20
    validate_every: int = 100
    seed: int = 0

    def __post_init__(self) -> None:
        check_positive(steps=self.steps, batch_size=self.batch_size, validate_every=self.validate_every)
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate is {self.learning_rate}; expected a positive number, such as 1e-3.")

    def rate(self, step: int) -> float:
        """Return the factor on the learning rate at a step, from 0 up."""
        return min((step + 1) / max(self.warm_up, 1), (self.steps - step) / max(self.steps - self.warm_up, 1), 1.0)


@dataclass
class History:
    """What happened while a model was trained.

    Attributes:
        losses: the loss of each step.
        validations: for each step after which the model was evaluated, its mIoU.
    """

    losses: list[float] = field(default_factory=list)
    validations: dict[int, float] = field(default_factory=dict)


def choose_device() -> torch.device:
    """Return the fastest device at hand: CUDA, else Apple's MPS, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def check_data(data: Pairs) -> None:
    """Raise ValueError if there is nothing to learn from."""
    if not len(data):
        raise ValueError("data is empty; expected at least one pair of an image and a class map.")


@lru_cache(maxsize=2)
def permutation(length: int, seed: int) -> list[int]:
    """Return the numbers below ``length`` in a random order that ``seed`` alone decides."""
    return torch.randperm(length, generator=torch.Generator().manual_seed(seed)).tolist()


def batch_indices(step: int, length: int, recipe: Recipe) -> list[int]:
    """Return the images of a step's batch; every epoch goes through all images, in an order of its own."""
    positions = range(step * recipe.batch_size, (step + 1) * recipe.batch_size)
    return [permutation(length, recipe.seed + position // length)[position % length] for position in positions]


def segmentation_loss(logits: torch.Tensor, masks: torch.Tensor, ignore_index: int = VOID) -> torch.Tensor:
    """Return the mean cross-entropy over the pixels that have a class; zero where none has.

    Args:
        logits: scores (B, num_classes, h, w); upsampled once, bilinearly, to the masks' size.
        masks: class numbers (B, H, W).
        ignore_index: pixels with this number do not count.

    Raises:
        ValueError: a class that the model does not have.

    Source: chapter 7.
    """
    num_classes = logits.shape[1]
    wrong = masks[(masks != ignore_index) & ((masks < 0) | (masks >= num_classes))]
    if len(wrong):
        raise ValueError(
            f"The masks hold class {int(wrong[0])}, but the model has {num_classes} classes, 0 to {num_classes - 1}; "
            f"pixels without a class must be {ignore_index}. Make the model with more classes, or relabel."
        )
    logits = F.interpolate(logits, size=masks.shape[-2:], mode="bilinear")
    counted = (masks != ignore_index).sum().clamp(min=1)
    return F.cross_entropy(logits, masks, ignore_index=ignore_index, reduction="sum") / counted


@torch.inference_mode()
def evaluate(
    model: nn.Module,
    data: Pairs,
    *,
    batch_size: int = 8,
    ignore_index: int = VOID,
    device: torch.device | None = None,
    progress: bool = True,
) -> Scores:
    """Compare a model's predictions with the truth, all pixels of all images in one confusion matrix.

    Args:
        model: takes normalised images (B, 3, H, W), returns logits (B, num_classes, h, w).
        data: pairs of an image (3, H, W) in [0, 1] and its class map (H, W).
        batch_size: images at a time, all of one size.
        ignore_index: pixels with this number are not counted.
        device: where to compute; the model's own by default.
        progress: whether to show a bar.

    Raises:
        ValueError: no data; class numbers that the model does not have.

    Source: chapter 7.
    """
    check_data(data)
    device = device or next(model.parameters()).device
    model.to(device)
    training = model.training
    model.eval()
    total: torch.Tensor | int = 0
    try:
        for images, masks in tqdm(DataLoader(data, batch_size), desc="evaluate", leave=False, disable=not progress):
            logits = model(normalize(images.to(device)))
            prediction = F.interpolate(logits, size=masks.shape[-2:], mode="bilinear").argmax(dim=1)
            total = total + confusion_matrix(prediction.cpu(), masks, logits.shape[1], ignore_index)
    finally:
        model.train(training)
    return Scores(total)


def fit(
    model: nn.Module,
    data: Pairs,
    recipe: Recipe = Recipe(),
    *,
    validation: Pairs | None = None,
    augment: Callable[..., tuple[torch.Tensor, torch.Tensor]] | None = None,
    ignore_index: int = VOID,
    checkpoint: str | Path | None = None,
    device: torch.device | None = None,
    workers: int = 0,
    live: bool = False,
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
        live: whether to draw the curve while training, in a notebook.
        progress: whether to show a bar.

    Returns:
        The history of losses and validations.

    Raises:
        ValueError: no data, class numbers that the model does not have, a checkpoint of another recipe or model.
        FloatingPointError: a loss that is not finite.

    Source: chapter 7.
    """
    check_data(data)
    run = Run.start(model, recipe, device or choose_device(), checkpoint)
    start = len(run.history.losses)
    batches = [batch_indices(step, len(data), recipe) for step in range(start, recipe.steps)]
    loader = DataLoader(data, batch_sampler=batches, num_workers=workers)
    curve = LiveCurve() if live else None
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
            if curve is not None:
                curve.update(run.history.losses, run.history.validations)
    except KeyboardInterrupt:
        run.save()
        print(f"Interrupted after {len(run.history.losses)} of {recipe.steps} steps. {run.whereabouts()}")
    if curve is not None:
        curve.draw(run.history.losses, run.history.validations)
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
        run = cls(model, recipe, optimizer, schedule, History(), Path(checkpoint) if checkpoint else None)
        if run.path is not None and run.path.is_file():
            run.load(device)
        return run

    def step(self, images: torch.Tensor, masks: torch.Tensor, ignore_index: int) -> float:
        """Take one step down the gradient of a batch; return the loss before it.

        Raises:
            FloatingPointError: a loss that is not finite; the weights are not touched.
        """
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
        """Write the checkpoint in one move, so that an interruption leaves the earlier one."""
        if self.path is None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        part = self.path.with_name(self.path.name + ".part")
        state = {name: getattr(self, name).state_dict() for name in ("model", "optimizer", "schedule")}
        torch.save(state | {"recipe": asdict(self.recipe), "history": asdict(self.history)}, part)
        os.replace(part, self.path)

    def load(self, device: torch.device) -> None:
        """Put everything back as the checkpoint has it.

        Raises:
            ValueError: a file that is no checkpoint, or of another recipe or model.
        """
        advice = f"Give another file name to start afresh, or delete {self.path}."
        try:
            saved = torch.load(self.path, map_location=device, weights_only=True)
            recipe, history = saved["recipe"], History(**saved["history"])
        except Exception as error:
            raise ValueError(f"{self.path} is no checkpoint of fit ({error}). {advice}") from error
        wanted = asdict(self.recipe)
        if recipe != wanted:
            other = {name: value for name, value in recipe.items() if wanted.get(name) != value}
            raise ValueError(f"{self.path} was made with {other}, unlike this recipe. {advice}")
        try:
            self.model.load_state_dict(saved["model"])
        except RuntimeError as error:
            raise ValueError(f"{self.path} holds another model's weights. {advice} ({error})") from error
        self.optimizer.load_state_dict(saved["optimizer"])
        self.schedule.load_state_dict(saved["schedule"])
        self.history.losses.extend(history.losses)
        self.history.validations.update(history.validations)

    def whereabouts(self) -> str:
        """Say where the work so far is."""
        if self.path is None:
            return "The model keeps what it has learned; with checkpoint=, fit can go on later."
        return f"Saved to {self.path}: the same call goes on from there."
