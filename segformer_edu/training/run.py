"""Chapter 7: a training in progress, from one step to the next, and to and from the disk."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from segformer_edu.data.pictures import Statistics
from segformer_edu.model.config import ConfiguredModule, SegformerConfig, unwrapped
from segformer_edu.model.logits import class_logits, modes_kept, said, statistics_of
from segformer_edu.pretrained.read import in_words
from segformer_edu.training.chance import seed_step, seed_validation
from segformer_edu.training.checkpoint import (
    BrokenCheckpointError,
    advice,
    before,
    check_model,
    check_writable,
    read_checkpoint,
    undivided,
    write_checkpoint,
)
from segformer_edu.training.evaluation import evaluate
from segformer_edu.training.items import Pairs, warned_of_255
from segformer_edu.training.optimizers import Optimizers
from segformer_edu.training.precision import precision_on, warn_of_imitation
from segformer_edu.training.processes import Processes, norms_apart
from segformer_edu.training.recipe import Recipe
from segformer_edu.training.settings import Settings


@dataclass
class History:
    """What happened while a model was trained.

    Attributes:
        losses: the loss of each step.
        validations: for each step after which the model was evaluated, its mIoU.
        ious: for each validation the IoU of each class, None of an absent one.
        steps: how many there will be in all.
    """

    losses: list[float] = field(default_factory=list)
    validations: dict[int, float] = field(default_factory=dict)
    ious: dict[int, list[float | None]] = field(default_factory=dict)
    steps: int = 0

    @property
    def finished(self) -> bool:
        """Whether all steps were taken."""
        return len(self.losses) >= self.steps


@dataclass
class Run:
    """A training in progress: everything that it has to find again in order to go on.

    Attributes:
        model: what is trained.
        recipe: how long and how fast.
        optimizer: what takes the steps.
        history: of the losses and validations so far.
        path: of the checkpoint, if there is to be one.
        settings: what the losses depend on beside these.
        saved: after how many steps the checkpoint was written.
        statistics: mean and standard deviation of each channel, known once the first batch is.
        settled: whether class maps of 0 and 255 were warned of, or are known to be others.
        buffers: the model's while a step is taken, as they were before it.
        average: of the weights over the steps, if the recipe wants one.
        on_validation: called after each validation.
        keeps_earlier: whether the checkpoint before the newest is kept too.
        processes: that share the training.
        forward: the model, wrapped where several processes share the training.
    """

    model: nn.Module
    recipe: Recipe
    optimizer: Optimizers
    history: History
    path: Path | None
    settings: Settings
    saved: int = 0
    statistics: Statistics | None = None
    settled: bool = False
    buffers: list[tuple[nn.Module, str, torch.Tensor]] = field(default_factory=list)
    average: AveragedModel | None = None
    on_validation: Callable[[nn.Module, History], object] | None = None
    keeps_earlier: bool = False
    processes: Processes = field(default_factory=Processes.here)
    forward: nn.Module | None = None

    @classmethod
    def start(
        cls, model: nn.Module, recipe: Recipe, device: torch.device, checkpoint: str | Path | None, settings: Settings
    ) -> Run:
        """Start a training, or go on with the one in ``checkpoint``."""
        path = None if checkpoint is None else Path(checkpoint).expanduser()
        if path is not None:
            check_writable(path)
        train(model.to(device))
        warn_of_imitation(device, recipe.precision)
        run = cls(model, recipe, Optimizers.of(model, recipe), History(steps=recipe.steps), path, settings)
        if recipe.average:
            with modes_kept(model):
                run.average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(recipe.average), use_buffers=True)
        if path is not None and path.is_file():
            run.take_up(path, device)
        run.processes.check(recipe.batch_size)
        run.forward = run.processes.wrapped(model)
        return run

    def step(self, images: torch.Tensor, masks: torch.Tensor, before: torch.Tensor) -> Run:
        """Take one step down the gradient of a batch, and note the loss before it.

        A step is taken whole or, with ``rescue``, not at all: Ctrl-C may come between any two lines.

        Raises:
            ValueError: class numbers that the model does not have.
            FloatingPointError: a loss that is not finite.
        """
        self.buffers = [  # BatchNorm's statistics move with the forward pass
            (module, name, buffer.clone())
            for module in self.model.modules()
            for name, buffer in module.named_buffers(recurse=False)
        ]
        self.optimizer.zero_grad()
        loss = self.gradient(images, masks, before)
        with undivided():
            self.optimizer.step(self.recipe.rate(len(self.history.losses)))
            if self.average is not None:
                self.average.update_parameters(self.model)
            self.history.losses.append(loss)
            self.buffers = []
        return self

    def gradient(self, images: torch.Tensor, masks: torch.Tensor, before: torch.Tensor) -> float:
        """Compute the gradient of a batch's loss, part by part where the recipe wants it; return the loss."""
        count, processes = self.recipe.accumulate, self.processes
        if count == processes.count == 1:
            loss = self.loss(images, masks, before)
            loss.backward()
            return loss.item()
        if processes.count > 1:  # each drops other channels and paths
            seed_step(self.recipe.seed + processes.rank, len(self.history.losses))
        batch = [processes.share(values) for values in (images, masks, before)]
        parts = list(zip(*(values.chunk(count) for values in batch)))
        weights = [self.settings.weight_of(part[1]) for part in parts]
        whole = processes.total(torch.tensor(sum(weights), dtype=torch.float64)).item()
        mean = 0.0
        for number, (weight, part) in enumerate(zip(weights, parts), 1):
            with added_up(self.forward, last=number == len(parts)):
                loss = self.loss(*part) * (weight / max(whole, 1e-12))
                (loss * processes.count).backward()  # their gradients' mean is taken
            mean += loss.item()
        return processes.total(torch.tensor(mean, dtype=torch.float64)).item()

    def loss(self, images: torch.Tensor, masks: torch.Tensor, before: torch.Tensor) -> torch.Tensor:
        """Return the loss of a batch."""
        self.statistics = self.statistics or statistics_of(self.model, images.shape[1])
        self.settled = self.settled or warned_of_255(before, self.settings.given, self.settings.void)
        with computing_in(self.recipe.precision, self.model):
            logits = class_logits(self.model if self.forward is None else self.forward, images, self.statistics)
        loss = self.settings.loss_of(logits, masks.to(logits.device), before.to(logits.device))
        if not torch.isfinite(loss):
            raise FloatingPointError(
                f"The loss is {loss.item()} at step {len(self.history.losses)}; expected a finite number. A lower "
                f"learning rate or a longer warm-up helps most often. The weights are those before this step."
            )
        return loss

    def pause(self, validation: Pairs | None) -> None:
        """Evaluate the model on ``validation``, if there is any, and save, if it is time and not done yet."""
        done = len(self.history.losses)
        if not done or (done % self.recipe.validate_every and not self.history.finished):
            return
        is_missed = done not in self.history.validations
        if validation is not None and is_missed:
            seed_validation(self.recipe.seed, done)
            scores = evaluate(self.judged, validation, ignore_index=self.settings.given, progress=False)
            self.history.validations[done] = scores.mean_iou
            self.history.ious[done] = [None if iou != iou else iou for iou in scores.iou.tolist()]
        if validation is not None and is_missed and self.on_validation is not None:
            with self.processes.apart(self.model):
                self.on_validation(self.judged, self.history)
        if self.saved < done or (validation is not None and is_missed):
            self.save()

    def told(self, steps_per_second: float | None) -> dict[str, str]:
        """Return what a progress bar shows."""
        words = {"loss": f"{self.history.losses[-1]:.3f}"}
        if self.history.validations:
            words["mIoU"] = f"{list(self.history.validations.values())[-1]:.3f}"
        if steps_per_second is not None:
            words["pictures/s"] = f"{steps_per_second * self.recipe.batch_size:.1f}"
        return words

    @property
    def judged(self) -> nn.Module:
        """The model that is evaluated, and that is the result: the average, if there is one."""
        return self.model if self.average is None else self.average.module

    def finish(self) -> None:
        """Give the model the weights of the average, if there is one."""
        if self.processes.count > 1:
            norms_apart(self.model)
        if self.average is not None and self.history.finished:
            self.model.load_state_dict(self.average.module.state_dict())

    def save(self) -> None:
        """Write the checkpoint, if there is to be one; a full disk does not stop the training."""
        if self.path is None:
            return
        if not self.processes.is_first:
            self.saved = len(self.history.losses)
            return
        try:
            self.write(self.path)
            self.saved = len(self.history.losses)
        except OSError as error:
            last = self.history.finished
            what = "the training is done" if last else "training goes on, and tries again at the next validation"
            warnings.warn(
                f"The checkpoint {self.path} could not be written ({error}); the earlier one is untouched, and {what}.",
                stacklevel=4,
            )
            if last:
                self.elsewhere()

    def rescue(self) -> None:
        """Undo a step that was not taken whole, and save the others, whatever it was that stopped the training."""
        with undivided():
            for module, name, value in self.buffers:
                getattr(module, name).copy_(value)
            self.buffers = []
            if self.path is None or len(self.history.losses) <= self.saved:
                return
            try:
                self.write(self.path)
                self.saved = len(self.history.losses)
            except Exception as error:  # what stopped the training is told, not this
                warnings.warn(f"The checkpoint {self.path} could not be written ({error}).", stacklevel=3)
                self.elsewhere()

    def elsewhere(self) -> None:
        """Write the checkpoint into the folder for temporary files, where its own cannot be written to."""
        try:
            path = Path(tempfile.mkdtemp(prefix="segformer-edu-")) / cast(Path, self.path).name
            self.write(path)
            warnings.warn(f"It was written to {path} instead; move it to {self.path} to go on from it.", stacklevel=4)
        except OSError as error:
            warnings.warn(
                f"Nor could it be written into the folder for temporary files ({error}); the model in memory holds "
                f"what was learned.",
                stacklevel=4,
            )

    def write(self, path: Path) -> None:
        """Write everything that the training has to find again.

        Raises:
            OSError: it cannot be written.
        """
        config = getattr(unwrapped(self.model), "config", None)
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "config": config.to_dict() if isinstance(config, SegformerConfig) else None,
            "recipe": asdict(self.recipe),
            "history": asdict(self.history),
            "settings": self.settings.described,
        }
        if self.average is not None:
            state["average"] = self.average.state_dict()
        write_checkpoint(path, state, self.keeps_earlier)

    def take_up(self, path: Path, device: torch.device) -> None:
        """Go on with the checkpoint in ``path``, or, where that is broken, with the one before.

        Raises:
            ValueError: neither is a checkpoint, or of another recipe or model.
        """
        try:
            self.load(path, device)
        except BrokenCheckpointError as error:
            earlier = before(path)
            if not earlier.is_file():
                raise
            warnings.warn(f"{error} The one before, {earlier}, is taken up instead.", stacklevel=5)
            self.load(earlier, device)
        if self.history.finished:
            warnings.warn(
                f"The checkpoint {path} holds a finished training of {self.recipe.steps} steps: nothing is trained. "
                f"For another training, with other data say, give another file name, or delete {path}.",
                stacklevel=5,
            )

    def load(self, path: Path, device: torch.device) -> None:
        """Put everything back as the checkpoint in ``path`` has it.

        Raises:
            ValueError: a file that is no checkpoint, or of another recipe or model.
        """
        saved = read_checkpoint(path, device)
        try:
            history = history_of(saved["history"])
        except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            raise BrokenCheckpointError(path, f"its history: {in_words(error, 200)}") from error
        try:
            self.check_recipe(saved["recipe"], len(history.losses), path)
            self.compare(saved.get("settings") or {}, path)
            check_model(self.model, saved, path)
            self.check_optimizer(saved["optimizer"], path)
            self.check_average(saved, path)
            self.take_statistics(saved.get("config") or {}, path)
            self.model.load_state_dict(saved["model"])
            self.optimizer.load_state_dict(saved["optimizer"])
            if self.average is not None:
                self.average.load_state_dict(saved["average"])
            self.history = replace(history, steps=self.recipe.steps)
        except (KeyError, IndexError, TypeError, AttributeError, RuntimeError) as error:
            raise BrokenCheckpointError(path, in_words(error, 200)) from error
        self.saved = len(history.losses)

    def check_average(self, saved: dict[str, Any], path: Path) -> None:
        """Raise ValueError if a checkpoint lacks the average that the recipe wants, or has another model's."""
        wanted = {} if self.average is None else shapes(self.average.state_dict())
        if wanted and shapes(saved.get("average") or {}) != wanted:
            raise ValueError(f"{path} holds no average of this model's weights. {advice(path)}")

    def check_optimizer(self, saved: dict[str, Any], path: Path) -> None:
        """Raise ValueError if a checkpoint's moments are not those of the model's parameters."""
        if not self.optimizer.fits(saved):
            raise ValueError(f"{path} holds the optimizer's state for another model. {advice(path)}")

    def check_recipe(self, saved: dict[str, Any], done: int, path: Path) -> None:
        """Raise ValueError if a checkpoint was made by another recipe than one with fewer steps."""
        own = asdict(self.recipe)
        other = {name: value for name, value in saved.items() if own.get(name) != value}
        if other.keys() == {"steps"} and done <= self.recipe.steps and saved["steps"] < self.recipe.steps:
            warnings.warn(
                f"{path} was made with {saved['steps']} steps, and the recipe has {self.recipe.steps}: training goes "
                f"on after {done}, at {self.recipe.rate(done):.2f} of the full learning rate. The result is not that "
                f"of {self.recipe.steps} steps from the start.",
                stacklevel=5,
            )
        elif other:
            raise ValueError(f"{path} was made with {other}, unlike this recipe. {advice(path)}")

    def compare(self, saved: dict[str, str], path: Path) -> None:
        """Warn of settings that a checkpoint was made with, and that are others now."""
        now = self.settings.described
        other = [
            f"{name} was {saved[name]}, now {now[name]}" for name in now if saved.get(name, now[name]) != now[name]
        ]
        if other:
            warnings.warn(f"{path} goes on with other settings: {'; '.join(other)}.", stacklevel=5)

    def take_statistics(self, config: dict[str, Any], path: Path) -> None:
        """Take up the mean and standard deviation that a training's pictures were normalised with.

        Raises:
            ValueError: the model says others.
        """
        model = unwrapped(self.model)
        for name in ("image_mean", "image_std") if isinstance(model, ConfiguredModule) else ():
            own, kept = said(self.model, name), config.get(name)
            if own is None:
                setattr(model, name, kept)
            elif kept is None or list(own) != list(kept):
                raise ValueError(f"{path} was made with {name} {kept}, and the model has {own}. {advice(path)}")

    def whereabouts(self) -> str:
        """Say where the work so far is."""
        if self.path is None:
            return "The model keeps what it has learned; with checkpoint=, fit can go on later."
        if self.saved < len(self.history.losses):
            return "The model keeps what it has learned."
        if not self.saved:
            return "There is nothing to save yet."
        return f"Saved to {self.path}: the same call goes on from there."


def train(model: nn.Module) -> None:
    """Put a model into training mode, but for what was frozen; see ``fit``."""
    layers = [module for module in model.modules() if list(module.parameters(recurse=False))]
    if unwrapped(model).training and any(layer.training for layer in layers):
        return  # what is in evaluation mode inside was put there
    frozen = [module for module in model.modules() if isinstance(module, _NormBase) and is_frozen(module)]
    model.train()
    for module in frozen:
        module.eval()


def computing_in(precision: str, model: nn.Module) -> torch.autocast:
    """Let a model compute in numbers of half the size where that is harmless and fast, if that is the precision."""
    device = next(model.parameters()).device
    return torch.autocast(device.type, torch.bfloat16, enabled=precision_on(device, precision) == "bfloat16")


def shapes(weights: dict[str, Any]) -> dict[str, Any]:
    """Return the shape of each tensor."""
    return {name: getattr(value, "shape", None) for name, value in weights.items()}


def history_of(saved: dict[str, Any]) -> History:
    """Return the history that a checkpoint holds.

    Raises:
        KeyError, TypeError, ValueError, RuntimeError: it holds something else.
    """
    ious = {int(step): list(map(maybe, each)) for step, each in dict(saved.get("ious", {})).items()}
    validations = {int(step): float(value) for step, value in dict(saved["validations"]).items()}
    return History([float(loss) for loss in saved["losses"]], validations, ious=ious)


def maybe(value: Any) -> float | None:
    """Return a number, or None."""
    return None if value is None else float(value)


@contextmanager
def added_up(model: nn.Module | None, last: bool) -> Iterator[None]:
    """Let processes exchange their gradients after the last part of a batch alone."""
    with nullcontext() if last or not isinstance(model, DistributedDataParallel) else model.no_sync():
        yield


def is_frozen(module: nn.Module) -> bool:
    """Say whether a module has parameters, and none that learns."""
    learns = [weight.requires_grad for weight in module.parameters()]
    return bool(learns) and not any(learns)
