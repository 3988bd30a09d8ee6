"""Chapter 9: anybody's names and tensors under this library's names, in its order."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping

import torch

from segformer_edu.model.config import NormEps
from segformer_edu.pretrained.names import Format, find, recognize

EXTRAS = re.compile(
    r"(\w+_)?(criterion|criteria|loss(es)?|loss_\w+|metrics?|m?iou|accuracy|acc|f1|dice|jaccard\w*|conf\w*mat\w*|"
    r"confusion_matrix|n_averaged|total_ops|total_params)(_\w+)?",
    re.IGNORECASE,
)
"""What training leaves in a state dict beside the model: losses, metrics, the count of an average, a profiler's."""

STATISTICS = re.compile(r"((pixel|image|img|input|data|norm)_?)?(mean|std)", re.IGNORECASE)
"""What a training calls the mean and standard deviation that it normalises pictures with, beside the model."""
MOST_CHANNELS = 32


class ConvertedStateDict(dict[str, torch.Tensor]):
    """A state dict in this library's names.

    Attributes:
        format: where the names came from: the ``name`` of one of ``FORMATS``.
        title: the same for a message.
        is_sketch: whether the weights are the sketch's, not those of the paper's model.
        norm_eps: the eps that the layer norms of that implementation have; ``segformer_b0(…, norm_eps=…)`` takes it.
        left_out: names that are no part of the model, such as a loss's, and what they hold.
    """

    def __init__(
        self, entries: Mapping[str, torch.Tensor], format: Format, left_out: Mapping[str, torch.Tensor]
    ) -> None:
        super().__init__(entries)
        self.left_out = left_out
        self.format, self.title = format.name, format.title
        self.is_sketch: bool = format.is_sketch
        self.norm_eps: NormEps = format.norm_eps


def convert_state_dict(state_dict: Mapping[str, torch.Tensor]) -> ConvertedStateDict:
    """Rename, split, join and reshape a state dict so that ``load_state_dict`` of this library's model takes it.

    A prefix that stands before every name, such as "module.", is dropped. What training leaves beside a model, such as
    a loss's class weights or ``AveragedModel``'s count, is left out, with a warning that names it. A file of the
    encoder alone gives the encoder's names alone. The eps of layer norms is no weight: build the model with
    ``norm_eps=converted.norm_eps``, as ``load_pretrained`` does.

    Args:
        state_dict: of a SegFormer or its encoder, in the names of one of ``pretrained.names.FORMATS``.

    Returns:
        A dict whose ``format`` says which it was. Tensors share memory with the given ones where they can.

    Raises:
        TypeError: something that is no mapping of names to tensors.
        ValueError: names of no known format, names that the format doesn't have, and the decoder of mmsegmentation,
            which is another function.

    Source: chapter 9; names read from the code of each implementation.
    """
    done = converted(state_dict)
    if done.left_out:
        warnings.warn(what_was_left_out(done.left_out), stacklevel=2)
    return done


def what_was_left_out(left_out: Mapping[str, torch.Tensor]) -> str:
    """Say which names were left out, and what those hold that pictures may have been normalised with."""
    said = f"Left out, as no part of the model: {listed(list(left_out), 8)}."
    held = [
        f"{name} holds {', '.join(f'{number:.4g}' for number in value.flatten().tolist())}"
        for name, value in left_out.items()
        if is_statistic(name, value)
    ]
    if not held:
        return said
    return (
        f"{said} {'; '.join(held[:4])}: if the training normalised pictures with these, set model.image_mean and "
        f"model.image_std to them (divided by 255 where they are of colours up to 255)."
    )


def is_statistic(name: str, value: torch.Tensor) -> bool:
    """Whether this is a mean or standard deviation of pictures, one number a channel, whatever its dimensions."""
    is_row = 0 < value.numel() == max(value.shape, default=1) <= MOST_CHANNELS
    return bool(STATISTICS.fullmatch(name.split(".")[-1])) and is_row and not value.is_meta


def converted(state_dict: Mapping[str, torch.Tensor]) -> ConvertedStateDict:
    """Do what ``convert_state_dict`` does, and leave the warning to the caller."""
    state_dict = checked(state_dict)
    format, prefix = recognize(state_dict)
    entries, strangers = {}, {}
    for name, value in state_dict.items():
        found = find(format, name)
        if found and found.prefix == prefix and found.ours not in entries:
            entries[found.ours] = value
        elif not re.match(re.escape(prefix) + format.unused, name):
            strangers[name] = value
    check_extras(strangers, state_dict, format, prefix)
    try:
        for step in format.steps:
            entries = step(entries)
    except (RuntimeError, IndexError) as error:
        raise ValueError(f"Names of {format.title}, but shapes that no SegFormer has: {error}") from error
    return ConvertedStateDict(entries, format, dict(sorted(strangers.items())))


def checked(state_dict: object) -> dict[str, torch.Tensor]:
    """Return a state dict without the mark that torch.compile puts into names, or raise TypeError if it is none."""
    if not isinstance(state_dict, Mapping) or not all(
        isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in state_dict.items()
    ):
        raise TypeError(
            f"Got {type(state_dict).__name__}; expected a state dict, names to tensors, as model.state_dict() returns."
        )
    return {name.replace("._orig_mod.", "."): value for name, value in state_dict.items()}


def check_extras(
    strangers: Mapping[str, torch.Tensor], state_dict: Mapping[str, torch.Tensor], format: Format, prefix: str
) -> None:
    """Raise ValueError if there are other names beside the model than those that training leaves there."""
    own = {top(name) for name in state_dict.keys() - strangers.keys()} if not prefix else {prefix.split(".")[0]}
    copies = {name for name in strangers if find(format, name)}  # such as a teacher's
    others = [name for name in strangers if name in copies or not is_extra(name, strangers, prefix, own)]
    if others:
        raise ValueError(refusal(others, len(state_dict), format, prefix))


def is_extra(name: str, strangers: Mapping[str, torch.Tensor], prefix: str, own: set[str]) -> bool:
    """Whether a name is a loss's or a metric's, not a layer's: by what it is called, or since no matrix is with it."""
    *modules, last = name.removeprefix(prefix).split(".")
    if len(modules) <= 1 and is_statistic(last, strangers[name]):
        return True
    if any(EXTRAS.fullmatch(part) for part in modules) or (EXTRAS.fullmatch(last) and strangers[name].numel() == 1):
        return True
    beside = [value for other, value in strangers.items() if top(other) == top(name)]
    return top(name) not in own and all(value.ndim < 2 or not value.is_floating_point() for value in beside)


def top(name: str) -> str:
    """Return the first part of a dotted name."""
    return name.split(".")[0]


def listed(names: list[str], most: int) -> str:
    """Return the first names, and that there are more."""
    return ", ".join(names[:most]) + (", …" if len(names) > most else "")


def refusal(strangers: list[str], count: int, format: Format, prefix: str) -> str:
    """Say why a state dict of ``count`` names is refused, some of which the format does not have."""
    if format.decoder_refused and any("decode_head." in name for name in strangers):
        return format.decoder_refused.format(some=listed(strangers, 3), prefix=prefix)
    return (
        f"Most names are those of {format.title}"
        + (f" after the prefix {prefix!r}" if prefix else "")
        + f", but {len(strangers)} of {count} are not: {listed(strangers, 3)}. Expected one SegFormer, or one encoder, "
        f"and nothing else; where the file holds more (a second copy, another decoder), keep names that belong "
        f"together."
    )
