"""Training: it learns, it goes on where it stopped, it says what is wrong."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from samples import SMALL
from torch import nn

from segformer_edu import Segformer
from segformer_edu.data import VOID, Augmentation, Shapes, normalize
from segformer_edu.training import Recipe, Scores, confusion_matrix, evaluate, fit, segmentation_loss
from segformer_edu.training.recipe import batch_indices

RECIPE = Recipe(steps=6, batch_size=2, warm_up=2, validate_every=3)
QUIET = {"progress": False, "device": torch.device("cpu")}


def model(seed=0, **options):
    torch.manual_seed(seed)
    return Segformer(**SMALL | {"decoder_dim": 16} | options)


def weights(module):
    return torch.cat([parameter.detach().flatten() for parameter in module.parameters()])


class Stops:
    """Pairs that fail at the ``count``-th reading."""

    def __init__(self, data, count, error):
        self.data, self.count, self.error = data, count, error

    def __len__(self):
        return len(self.data)

    def __getitem__(self, index):
        self.count -= 1
        if self.count < 0:
            raise self.error
        return self.data[index]


def test_learns_one_batch_by_heart():
    data = Shapes(2, size=32)
    learner = model(dims=(16, 32, 32, 32), heads=(1, 2, 2, 2))
    before = evaluate(learner, data, progress=False)
    history = fit(learner, data, Recipe(steps=60, batch_size=2, learning_rate=5e-3, warm_up=5), **QUIET)
    assert history.losses[-1] < 0.5 * history.losses[0]
    assert evaluate(learner, data, progress=False).accuracy > before.accuracy + 0.1


def test_repeatable_but_for_the_seed():
    runs = []
    for seed in (0, 0, 1):
        learner = model()
        recipe = Recipe(steps=3, batch_size=2, seed=seed)
        fit(learner, Shapes(8, size=32), recipe, augment=Augmentation(), **QUIET)
        runs.append(weights(learner))
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


def test_history_and_validations():
    data = Shapes(8, size=32)
    history = fit(model(), data, RECIPE, validation=Shapes(2, size=32, seed=1), **QUIET)
    assert len(history.losses) == 6
    assert list(history.validations) == [3, 6]
    assert all(0 <= value <= 1 for value in history.validations.values())


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError("the disk is gone")])
def test_goes_on_as_if_never_interrupted(tmp_path, capsys, error):
    data, options = Shapes(8, size=32), {"augment": Augmentation(), **QUIET}
    whole = model()
    expected = fit(whole, data, RECIPE, **options)

    file = tmp_path / "run" / "state.pt"
    try:
        fit(model(), Stops(data, 9, error), RECIPE, checkpoint=file, **options)
    except OSError:
        pass
    else:
        assert "Interrupted after" in capsys.readouterr().out
    again = model(seed=5)  # whatever it holds is replaced
    history = fit(again, data, RECIPE, checkpoint=file, **options)
    assert history == expected
    assert torch.equal(weights(again), weights(whole))
    assert [path.name for path in file.parent.iterdir()] == ["state.pt"]
    assert fit(again, data, RECIPE, checkpoint=file, **options) == expected  # nothing left to do


def test_a_checkpoint_of_something_else(tmp_path):
    data, file = Shapes(4, size=32), tmp_path / "state.pt"
    fit(model(), data, RECIPE, checkpoint=file, **QUIET)
    with pytest.raises(ValueError, match=r"made with \{'seed': 0\}"):
        fit(model(), data, Recipe(**vars(RECIPE) | {"seed": 7}), checkpoint=file, **QUIET)
    with pytest.raises(ValueError, match="another model's weights"):
        fit(model(decoder_dim=8), data, RECIPE, checkpoint=file, **QUIET)
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"no checkpoint of fit .* delete"):
        fit(model(), data, RECIPE, checkpoint=file, **QUIET)


def test_rate():
    recipe = Recipe(steps=10, warm_up=4)
    rates = [recipe.rate(step) for step in range(11)]
    assert rates[:4] == [0.25, 0.5, 0.75, 1.0]
    assert rates[4:] == pytest.approx([1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6, 0])


def test_every_epoch_sees_every_image_once():
    recipe = Recipe(batch_size=3)
    drawn = [index for step in range(14) for index in batch_indices(step, 7, recipe)]
    epochs = [drawn[start : start + 7] for start in range(0, 42, 7)]
    assert all(sorted(epoch) == list(range(7)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1


def test_loss_is_pytorchs_over_the_pixels_that_count():
    torch.manual_seed(0)
    logits, masks = torch.randn(2, 4, 8, 9), torch.randint(0, 4, (2, 32, 36))
    masks[0, :5] = VOID
    full = F.interpolate(logits, size=(32, 36), mode="bilinear", align_corners=False)
    expected = F.cross_entropy(full, masks, ignore_index=VOID)
    torch.testing.assert_close(segmentation_loss(logits, masks), expected)
    changed = logits.clone().requires_grad_()
    nothing = segmentation_loss(changed, torch.full_like(masks, VOID))
    nothing.backward()
    assert nothing == 0
    assert (changed.grad == 0).all()


def test_evaluate_sums_before_it_divides():
    data = Shapes(5, size=32)
    learner = model().eval()
    total = 0
    with torch.no_grad():
        for image, mask in data:
            logits = F.interpolate(learner(normalize(image)[None]), size=mask.shape, mode="bilinear")
            total = total + confusion_matrix(logits.argmax(1)[0], mask, 4)
    learner.train()
    scores = evaluate(learner, data, batch_size=2, progress=False)
    assert torch.equal(scores.confusion, Scores(total).confusion)
    assert learner.training  # as it was


@pytest.mark.parametrize("num_classes", [2, 3])
def test_too_few_classes(num_classes):
    with pytest.raises(ValueError, match=f"model has {num_classes} classes"):
        fit(model(num_classes=num_classes), Shapes(4, size=32), RECIPE, **QUIET)


def test_no_data():
    for call in (fit, evaluate):
        with pytest.raises(ValueError, match="data is empty"):
            call(model(), [])


@pytest.mark.parametrize("bad", [{"steps": 0}, {"learning_rate": -1}, {"batch_size": 0}])
def test_bad_recipe(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        Recipe(**bad)


@pytest.mark.parametrize("name", ["weight_decay", "head_factor", "matrix_rate", "power"])
@pytest.mark.parametrize("value", [-1, -1e-9, float("nan"), float("inf")])
def test_factors_below_zero(name, value):
    with pytest.raises(ValueError, match=f"{name} is {value}; expected a (finite )?number"):
        Recipe(**{name: value})


@pytest.mark.parametrize(
    "name",
    ["seed", "steps", "learning_rate", "weight_decay", "head_factor", "matrix_rate", "power", "average"],
)
@pytest.mark.parametrize("value", [None, "3", [1], True])
def test_numbers_of_a_recipe_that_are_none(name, value):
    with pytest.raises(TypeError, match=f"{name} is .*; expected a"):
        Recipe(**{name: value})


@pytest.mark.parametrize("seed", [0, -1, np.int64(7), 2**40])
def test_any_whole_number_is_a_seed(seed):
    assert type(Recipe(seed=seed).seed) is int


def test_half_a_seed():
    with pytest.raises(TypeError, match=r"seed is 1\.5 \(float\); expected a whole number"):
        Recipe(seed=1.5)


def test_a_loss_that_is_not_finite_keeps_the_weights(tmp_path):
    class Explodes(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Conv2d(3, 4, 1)

        def forward(self, x):
            return self.layer(x) * math.inf

    learner = Explodes()
    before = weights(learner)
    with pytest.raises(FloatingPointError, match="lower learning rate"):
        fit(learner, Shapes(4, size=32), RECIPE, **QUIET)
    assert torch.equal(weights(learner), before)


def test_a_callback_sees_every_step(capsys):
    seen = []
    fit(
        model(),
        Shapes(4, size=32),
        RECIPE,
        validation=Shapes(2, size=32),
        on_step=lambda history: seen.append((len(history.losses), len(history.validations), history.finished)),
        device=torch.device("cpu"),
    )
    assert seen == [(1, 0, False), (2, 0, False), (3, 1, False), (4, 1, False), (5, 1, False), (6, 2, True)]
    assert "train:" in capsys.readouterr().err


def test_a_live_curve_is_drawn_at_the_end(monkeypatch):
    from segformer_edu.pages import plots

    drawn = []
    monkeypatch.setattr(plots, "display", lambda *_, **__: drawn.append("new"))
    fit(model(), Shapes(4, size=32), RECIPE, on_step=plots.LiveCurve(seconds=1000), **QUIET)
    assert len(drawn) == 2  # the first step, and the last


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_pictures_that_are_not_finite(value):
    data = [(torch.full((3, 32, 32), value), torch.zeros(32, 32, dtype=torch.long))]
    for call in (lambda: fit(model(), data, RECIPE, **QUIET), lambda: evaluate(model(), data, progress=False)):
        with pytest.raises(ValueError, match=r"3072 NaN or infinite values|6144 NaN or infinite"):
            call()


def test_a_checkpoint_of_other_heads(tmp_path):
    """Every weight has the same shape, and the function is another."""
    data, file = Shapes(4, size=32), tmp_path / "state.pt"
    fit(model(), data, RECIPE, checkpoint=file, **QUIET)
    with pytest.raises(ValueError, match=r"weights of another model: heads \(1, 2, 3, 4\) against \(1, 1, 1, 1\)"):
        fit(model(heads=1), data, RECIPE, checkpoint=file, **QUIET)
