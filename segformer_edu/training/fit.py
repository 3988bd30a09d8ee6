"""Chapter 7: the training loop, which goes on where it stopped."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from segformer_edu.data.items import CheckedItems
from segformer_edu.data.seeds import seeded_generator
from segformer_edu.model.logits import input_channels, modes_kept
from segformer_edu.training.chance import SeededItems, generators_kept, seed_step
from segformer_edu.training.items import Pairs, check_data, check_sizes, one_stack
from segformer_edu.training.processes import explained
from segformer_edu.training.recipe import Recipe, batch_indices
from segformer_edu.training.run import History, Run
from segformer_edu.training.settings import Loss, Settings


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
    ignore_index: int | str | None = "data",
    loss: Loss | None = None,
    class_weights: Sequence[float] | torch.Tensor | None = None,
    checkpoint: str | Path | None = None,
    keep_earlier: bool = False,
    device: torch.device | str | None = None,
    workers: int = 0,
    on_step: Callable[[History], object] | None = None,
    on_validation: Callable[[nn.Module, History], object] | None = None,
    progress: bool = True,
) -> History:
    """Train a model, in place.

    Layers that are in evaluation mode while others are in training mode were frozen on purpose, and stay so. Of a model
    in evaluation mode everything is trained, but for norms none of whose parameters learns. After training each module
    is in the mode that it was in, and the global random generators are as they were.

    Args:
        model: takes normalised images (B, C, H, W), returns logits (B, num_classes, h, w) or an output that has them;
            of float32, float64 or bfloat16. A single logit stands for two classes, 0 and 1.
        data: pairs of an image (C, H, W) in [0, 1] and its class map (H, W), all of one size unless the batch size is
            1; see ``data.items.as_pair``.
        recipe: how long and how fast.
        validation: pairs to evaluate on every ``recipe.validate_every`` steps, and at the end; of any sizes.
        augment: changes each batch: called with images, masks and a generator; see ``data.Augmentation``.
        ignore_index: pixels with this number do not count; None: all do. "data": the data set's own, or 255.
        loss: called with logits (B, num_classes, H, W) of the images' size and class maps (B, H, W), void among them;
            the mean cross-entropy by default.
        class_weights: for the default loss, how much a pixel of each class counts, one number a class.
        checkpoint: a file that is written at each validation, at the end, and when anything stops the training; where
            it is there already, training goes on from it and ends with the same weights as if never interrupted, also
            where the data set draws from the global generators of Python, NumPy and PyTorch. A recipe with more steps
            goes on too, with the learning rate of the longer recipe. Where it holds a finished training, nothing is
            trained, and a warning says so; each fold of a cross-validation needs a file of its own.
        keep_earlier: whether the checkpoint before the newest is kept beside it, as NAME.before. Where the newest is
            damaged, it is taken up, with a warning.
        device: where to compute; CUDA, MPS or CPU by default, whichever is there.
        workers: processes that prepare the images, next to this one.
        on_step: called with the history after each step: ``pages.plots.LiveCurve()`` draws it in a notebook.
        on_validation: called with the model that was evaluated, and the history, after each validation.
        progress: whether to show a bar.

    Returns:
        The history of losses and validations.

    Raises:
        TypeError, ValueError: no data, items that are no such pairs, pictures of several sizes, class numbers that the
            model does not have, nothing that learns, a checkpoint that cannot be written or is of another recipe or
            model.
        FloatingPointError: a loss that is not finite.

    Source: chapter 7.
    """
    check_arguments(model, data, recipe, validation, loss, class_weights)
    check_functions(augment=augment, loss=loss, on_step=on_step, on_validation=on_validation)
    settings = Settings.of(data, augment, ignore_index, loss, class_weights)
    with modes_kept(model), generators_kept(), torch.enable_grad():
        run = Run.start(model, recipe, torch.device(device or choose_device()), checkpoint, settings)
        run.on_validation, run.keeps_earlier, start = on_validation, keep_earlier, len(run.history.losses)
        loader = DataLoader(
            SeededItems(CheckedItems(data, input_channels(model) or 3), recipe.seed),
            batch_sampler=Batches(start, len(data), recipe),
            num_workers=workers,
            collate_fn=list,
            generator=torch.Generator().manual_seed(recipe.seed),  # of the workers' seeds
        )
        bar = tqdm(
            loader,
            desc="train",
            initial=start,
            total=recipe.steps,
            leave=False,
            disable=not (progress and run.processes.is_first),
        )
        try:
            run.pause(validation)  # where the last run was stopped before it could
            for step, pairs in enumerate(bar, start):
                seed_step(recipe.seed, step)
                run.step(*settings.prepared(*one_stack(pairs), seeded_generator(recipe.seed, step)))
                bar.set_postfix(run.told(bar.format_dict["rate"]), refresh=False)
                run.pause(validation)
                if on_step is not None:
                    on_step(run.history)
        except KeyboardInterrupt:
            run.rescue()
            print(f"Interrupted after {len(run.history.losses)} of {recipe.steps} steps. {run.whereabouts()}")
        except BaseException as error:
            run.rescue()
            raise explained(error, run.whereabouts())  # noqa: B904 (its cause is its own)
        run.finish()
    return run.history


@dataclass(frozen=True)
class Batches:
    """For each step the places in the training and the indices of its batch.

    Attributes:
        start: the first step.
        length: of the data set.
        recipe: how many steps, of how many images.
    """

    start: int
    length: int
    recipe: Recipe

    def __len__(self) -> int:
        return self.recipe.steps - self.start

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for step in range(self.start, self.recipe.steps):
            yield list(enumerate(batch_indices(step, self.length, self.recipe), step * self.recipe.batch_size))


def check_functions(**values: Any) -> None:
    """Raise TypeError for what is to be called and cannot be."""
    for name, value in values.items():
        if value is not None and not callable(value):
            raise TypeError(f"{name} is {value!r:.60}; expected a function, or None.")


def check_arguments(
    model: nn.Module, data: Pairs, recipe: Recipe, validation: Pairs | None, loss: Loss | None, class_weights: Any
) -> None:
    """Raise TypeError or ValueError for what can be known before the first step."""
    check_data(data)
    if validation is not None:
        check_data(validation)
    check_sizes(data, recipe.batch_size)
    if loss is not None and class_weights is not None:
        raise ValueError("loss and class_weights are both given; expected one: class_weights are for the default loss.")
    if not any(value.requires_grad for value in model.parameters()):
        raise ValueError("The model has no parameter that learns; expected one with requires_grad at least.")
    if any(value.dtype == torch.float16 for value in model.parameters()):
        raise TypeError(
            "The model's weights are float16, too coarse to be trained: steps round to nothing or overflow. Train in "
            "float32, model.float(), and turn to half precision afterwards; or in bfloat16."
        )
