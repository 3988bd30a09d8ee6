"""Chapter 7: the confusion matrix, and what is read off it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from segformer_edu.data.labels import VOID
from segformer_edu.validation import check_positive


def confusion_matrix(
    prediction: torch.Tensor, target: torch.Tensor, num_classes: int, ignore_index: int | None = VOID
) -> torch.Tensor:
    """Count the pixels of each true class (row) that were given each class (column).

    Args:
        prediction: class numbers of any shape.
        target: the true class numbers, of the same shape.
        num_classes: how many classes there are.
        ignore_index: pixels with this target are not counted; None: all are.

    Returns:
        Counts (num_classes, num_classes) of int64.

    Raises:
        TypeError: something other than integer tensors.
        ValueError: different shapes, or numbers that are no class.

    Source: chapter 7.
    """
    check_positive(num_classes=num_classes)
    for name, values in (("prediction", prediction), ("target", target)):
        if not isinstance(values, torch.Tensor) or values.is_floating_point():
            raise TypeError(f"{name} is no tensor of whole numbers; expected class numbers, e.g. logits.argmax(dim=1).")
    if prediction.shape != target.shape:
        raise ValueError(
            f"prediction has shape {tuple(prediction.shape)}, target {tuple(target.shape)}; expected the same. "
            f"Logits at a quarter of the size have to be upsampled before argmax."
        )
    prediction, target = prediction.long(), target.long()
    counted = torch.ones_like(target, dtype=torch.bool) if ignore_index is None else target != ignore_index
    prediction, target = prediction[counted], target[counted]
    for name, values in (("prediction", prediction), ("target", target)):
        wrong = values[(values < 0) | (values >= num_classes)].unique().tolist()
        if wrong:
            raise ValueError(
                f"{name} holds {wrong[:8]}; expected classes 0 to {num_classes - 1}"
                + ("." if ignore_index is None else f", or ignore_index={ignore_index} in the target.")
            )
    return torch.bincount(target * num_classes + prediction, minlength=num_classes**2).view(num_classes, num_classes)


@dataclass(frozen=True)
class Scores:
    """What a confusion matrix, summed over a whole data set, says.

    A class that is neither in the truth nor predicted is absent: its IoU is NaN, and the means skip it.

    Attributes:
        confusion: counts (num_classes, num_classes), rows the truth, columns the prediction.
    """

    confusion: torch.Tensor

    @property
    def iou(self) -> torch.Tensor:
        """Intersection over union of each class, (num_classes,); NaN for an absent class."""
        right = self.confusion.diag().double()
        return right / (self.confusion.sum(0) + self.confusion.sum(1) - right)  # 0 / 0 is NaN: absent

    @property
    def mean_iou(self) -> float:
        """Mean of the IoU over the classes that are not absent (mIoU)."""
        return self.iou.nanmean().item()

    @property
    def accuracy(self) -> float:
        """Share of the pixels that were given their class."""
        return (self.confusion.diag().sum() / self.confusion.sum()).item()

    @property
    def absent(self) -> list[int]:
        """The classes that are neither in the truth nor predicted."""
        return self.iou.isnan().nonzero().flatten().tolist()

    def describe(self, classes: Sequence[str] | None = None) -> str:
        """Tell mIoU, accuracy, and which classes the mean skips, in a sentence."""
        names = classes or [f"class {index}" for index in range(len(self.confusion))]
        skipped = ", ".join(names[index] for index in self.absent)
        over = f"{len(self.confusion) - len(self.absent)} of {len(self.confusion)} classes"
        return (
            f"mIoU {self.mean_iou:.3f} over {over}, accuracy {self.accuracy:.3f}"
            + (f"; absent and skipped: {skipped}" if skipped else "")
        )  # fmt: skip
