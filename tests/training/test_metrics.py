"""The confusion matrix and what is read off it, against torchmetrics."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchmetrics.functional.classification import (
    multiclass_accuracy,
    multiclass_confusion_matrix,
    multiclass_jaccard_index,
)

from segformer_edu.data import VOID
from segformer_edu.training.metrics import Scores, confusion_matrix


@given(
    seed=st.integers(0, 10**6),
    num_classes=st.integers(2, 12),
    used=st.integers(1, 12),
    void=st.floats(0, 0.9),
    skill=st.floats(0, 1),
)
def test_equals_torchmetrics(seed, num_classes, used, void, skill):
    generator = torch.Generator().manual_seed(seed)
    shape = (2, 13, 17)
    used = min(used, num_classes)  # classes beyond are absent
    target = torch.randint(0, used, shape, generator=generator)
    guess = torch.randint(0, used, shape, generator=generator)
    prediction = torch.where(torch.rand(shape, generator=generator) < skill, target, guess)
    target[torch.rand(shape, generator=generator) < void] = VOID
    target[0, 0, 0] = 0  # at least one pixel counts
    scores = Scores(confusion_matrix(prediction, target, num_classes))
    options = {"num_classes": num_classes, "ignore_index": VOID}
    assert torch.equal(scores.confusion, multiclass_confusion_matrix(prediction, target, **options))
    per_class = multiclass_jaccard_index(prediction, target, average="none", **options)
    torch.testing.assert_close(scores.iou.nan_to_num(0).float(), per_class)
    expected = multiclass_jaccard_index(prediction, target, average="macro", **options)
    assert scores.mean_iou == pytest.approx(expected.item(), abs=1e-6)
    expected = multiclass_accuracy(prediction, target, average="micro", **options)
    assert scores.accuracy == pytest.approx(expected.item(), abs=1e-6)


def test_by_hand():
    target = torch.tensor([[0, 0, 1, 1], [1, VOID, VOID, 0]])
    prediction = torch.tensor([[0, 1, 1, 1], [0, 0, 1, 0]])
    scores = Scores(confusion_matrix(prediction, target, 3))
    assert scores.confusion.tolist() == [[2, 1, 0], [1, 2, 0], [0, 0, 0]]
    assert scores.iou[:2].tolist() == [2 / 4, 2 / 4]
    assert scores.absent == [2]
    assert scores.mean_iou == 0.5
    assert scores.accuracy == pytest.approx(4 / 6)
    assert "2 of 3 classes" in scores.describe()
    assert "absent and skipped: sky" in scores.describe(("road", "tree", "sky"))


def test_a_class_predicted_but_not_there_counts_as_zero():
    scores = Scores(confusion_matrix(torch.tensor([0, 1]), torch.tensor([0, 0]), 2))
    assert scores.iou.tolist() == [0.5, 0.0]
    assert scores.absent == []


def test_mean_over_batches_is_another_number():
    prediction, target = torch.tensor([[0, 0, 0, 1], [1, 1, 1, 1]]), torch.tensor([[0, 0, 0, 0], [1, 1, 1, 0]])
    matrices = [confusion_matrix(p, t, 2) for p, t in zip(prediction, target)]
    batches = sum(Scores(matrix).mean_iou for matrix in matrices) / 2
    assert Scores(sum(matrices)).mean_iou != pytest.approx(batches, abs=0.01)


@pytest.mark.parametrize(
    ("prediction", "target", "error", "message"),
    [
        (torch.zeros(2), torch.zeros(2, dtype=torch.long), TypeError, "argmax"),
        ([0, 1], torch.zeros(2, dtype=torch.long), TypeError, "prediction is no tensor"),
        (torch.zeros(2, dtype=torch.long), torch.zeros(3, dtype=torch.long), ValueError, "upsampled before argmax"),
        (torch.tensor([5]), torch.tensor([0]), ValueError, r"prediction holds \[5\]; expected classes 0 to 2"),
        (torch.tensor([0]), torch.tensor([254]), ValueError, r"target holds \[254\].*ignore_index=255"),
        (torch.tensor([-1]), torch.tensor([0]), ValueError, r"prediction holds \[-1\]"),
    ],
)
def test_bad_input(prediction, target, error, message):
    with pytest.raises(error, match=message):
        confusion_matrix(prediction, target, 3)
