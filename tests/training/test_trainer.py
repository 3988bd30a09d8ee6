"""The trainer of chapter 11: averages, parts of a batch, half precision, several processes, journals."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace

import pytest
import torch
from launched import in_processes
from torch import nn

from segformer_edu import segformer_b0
from segformer_edu.data import Shapes, normalize
from segformer_edu.data.crops import Crops
from segformer_edu.data.memory import InMemory, class_counts
from segformer_edu.training import Recipe, evaluate, fit, precision
from segformer_edu.training.checkpoint import before
from segformer_edu.training.journal import Journal, read_lines
from segformer_edu.training.norms import recompute_statistics
from segformer_edu.training.plans import OURS, PAPER_PLAN, balanced_weights
from segformer_edu.training.processes import joined

QUIET = {"progress": False, "device": "cpu"}
RECIPE = Recipe(steps=6, batch_size=4, warm_up=2, validate_every=2, matrix_rate=3e-3, decay_all=False)
SIZES = {"dims": (8, 16, 24, 32), "heads": (1, 2, 3, 4), "num_layers": (1, 1, 2, 1), "decoder_dim": 16}


def model(seed=0, **options):
    torch.manual_seed(seed)
    return segformer_b0(4, **{**SIZES, "drop_path": 0.0, "dropout": 0.0, **options})


def weights(learner):
    return torch.cat([value.detach().flatten().double() for value in learner.state_dict().values()])


@pytest.mark.parametrize(
    "changes",
    [{}, {"average": 0.9}, {"precision": "bfloat16"}, {"accumulate": 2}, {"power": 0.9, "head_factor": 10.0}],
    ids=str,
)
def test_stopped_anywhere_the_same_weights(tmp_path, changes, monkeypatch):
    monkeypatch.setattr(precision, "has_bfloat16", lambda device: True)  # imitated, where it is not there
    recipe, options = replace(RECIPE, **changes), {"validation": Shapes(4, size=48), **QUIET}
    whole = model(drop_path=0.3, dropout=0.3)
    history = fit(whole, Shapes(16, size=48), recipe, augment=Crops(size=(32, 32), mix=0.5), **options)
    for stop in (1, 3, 6):

        def stopping(so_far, stop=stop):
            if len(so_far.losses) == stop:
                raise RuntimeError("stopped")

        file, data = tmp_path / f"{stop}.pt", Shapes(16, size=48)
        options |= {"augment": Crops(size=(32, 32), mix=0.5), "checkpoint": file}
        with pytest.raises(RuntimeError, match="stopped"):
            fit(model(drop_path=0.3, dropout=0.3), data, recipe, on_step=stopping, **options)
        learner = model(seed=3, drop_path=0.3, dropout=0.3)
        assert fit(learner, data, recipe, **options) == history
        assert torch.equal(weights(learner), weights(whole))


def test_parts_of_a_batch_add_up_to_it():
    """Without BatchNorm, which sees each part alone."""
    runs = []
    for parts in (1, 2, 4):
        learner = model()
        learner.decoder.norm.eval()  # frozen on purpose, as fit understands it
        recipe = replace(RECIPE, accumulate=parts, matrix_rate=0.0)
        history = fit(learner, Shapes(16, size=48), recipe, class_weights=[1, 2, 3, 4], **QUIET)
        runs.append((torch.tensor(history.losses), weights(learner)))
    for other in runs[1:]:
        torch.testing.assert_close(other[0], runs[0][0], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(other[1], runs[0][1], rtol=1e-3, atol=1e-4)


def test_the_average_is_what_pytorch_averages():
    learner, kept = model(), []
    recipe = replace(RECIPE, average=0.8, matrix_rate=0.0)
    plain = model()
    fit(
        plain,
        Shapes(16, size=48),
        replace(recipe, average=0.0),
        on_step=lambda _: kept.append(weights(plain).clone()),
        **QUIET,
    )
    fit(learner, Shapes(16, size=48), recipe, **QUIET)
    mean = kept[0]
    for value in kept[1:]:
        mean = 0.8 * mean + 0.2 * value
    found = weights(learner)
    differs = (found - mean).abs() > 1e-5
    assert differs.sum() <= 1  # BatchNorm's counter of batches, a whole number


def test_half_precision_comes_near(monkeypatch):
    monkeypatch.setattr(precision, "has_bfloat16", lambda device: True)  # imitated, where it is not there
    losses = [
        fit(model(), Shapes(16, size=48), replace(RECIPE, precision=kind), **QUIET).losses
        for kind in ("float32", "bfloat16")
    ]
    assert losses[0] != losses[1]
    assert losses[1] == pytest.approx(losses[0], rel=0.05)


def test_a_broken_newest_checkpoint_is_said_and_the_one_before_taken(tmp_path):
    file, data = tmp_path / "run.pt", Shapes(16, size=48)
    whole = model()
    fit(whole, data, RECIPE, **QUIET)
    fit(model(), data, RECIPE, checkpoint=file, keep_earlier=True, **QUIET)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    learner = model(seed=3)
    with pytest.warns(UserWarning, match="The one before"):
        history = fit(learner, data, RECIPE, checkpoint=file, **QUIET)
    assert history.finished
    assert torch.equal(weights(learner), weights(whole))
    file.write_bytes(b"broken")
    before(file).write_bytes(b"broken too")
    with pytest.warns(UserWarning, match="The one before"), pytest.raises(ValueError, match="no checkpoint"):
        fit(model(), data, RECIPE, checkpoint=file, **QUIET)


def test_a_journal_goes_on_where_the_training_does(tmp_path):
    data = Shapes(16, size=48)

    def stopping(so_far):
        journal(so_far)
        if len(so_far.losses) == 3:
            raise RuntimeError("stopped")

    for name, calls in (("whole", 1), ("stopped", 2)):
        journal = Journal(tmp_path / f"{name}.jsonl", RECIPE, every=2)
        options = {"validation": Shapes(4, size=48), "checkpoint": tmp_path / f"{name}.pt", **QUIET}
        if calls == 2:
            with pytest.raises(RuntimeError, match="stopped"):
                fit(model(), data, RECIPE, on_step=stopping, **options)
            with open(journal.path, "a", encoding="utf-8") as file:
                file.write('{"step": 4, "loss": 9.0, "seconds": 1, "cpu_seconds": 1}\n{"step": 5, "lo')  # killed
            journal = Journal(journal.path, RECIPE, every=2)
        fit(model(), data, RECIPE, on_step=journal, **options)
    whole, stopped = (read_lines(tmp_path / f"{name}.jsonl") for name in ("whole", "stopped"))
    assert [line["step"] for line in whole] == [2, 2, 4, 4, 6, 6]
    assert [line["step"] for line in stopped] == [line["step"] for line in whole]
    assert [line.get("miou") for line in stopped] == [line.get("miou") for line in whole]
    assert all(after["seconds"] >= line["seconds"] for line, after in zip(stopped, stopped[1:]))


def test_batch_norm_learns_the_statistics_of_whole_pictures():
    learner, data = model(), Shapes(6, size=48)
    seen = []
    learner.decoder.norm.register_forward_pre_hook(lambda _, given: seen.append(given[0].detach()))
    recompute_statistics(learner, data, batch_size=3, progress=False)
    means = torch.stack([batch.mean(dim=(0, 2, 3)) for batch in seen]).mean(dim=0)
    variances = torch.stack([batch.var(dim=(0, 2, 3)) for batch in seen]).mean(dim=0)
    torch.testing.assert_close(learner.decoder.norm.running_mean, means, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(learner.decoder.norm.running_var, variances, rtol=1e-4, atol=1e-6)
    assert learner.decoder.norm.momentum == 0.1
    assert learner.training


class Damaged(Shapes):
    """The third picture cannot be read."""

    def __getitem__(self, index):
        if index == 2:
            raise self.error
        return super().__getitem__(index)


@pytest.mark.parametrize("error", [ValueError("damaged"), KeyboardInterrupt(), None])
def test_statistics_of_what_cannot_be_read_leave_the_model_as_it_was(error):
    learner = model()
    fit(learner, Shapes(4, size=32), replace(RECIPE, steps=2), **QUIET)
    before, momentum = weights(learner), learner.decoder.norm.momentum
    data = Damaged(4, size=32) if error else []
    if error:
        data.error = error
    with pytest.raises(type(error) if error else ValueError):
        recompute_statistics(learner, data, batch_size=1, progress=False)
    assert torch.equal(weights(learner), before)
    assert learner.decoder.norm.momentum == momentum


@pytest.mark.parametrize("scales", [1.0, 1, (1,), [1.0], torch.ones(1)])
def test_one_scale_is_one(scales):
    data, learner = Shapes(1, size=32), model()
    usual = evaluate(learner, data, progress=False).confusion
    assert torch.equal(evaluate(learner, data, scales=scales, progress=False).confusion, usual)


@pytest.mark.parametrize("scales", [None, "large", (1, None), (), 0, -1.0, (1, 0), float("nan")])
def test_scales_that_are_none(scales):
    with pytest.raises((TypeError, ValueError), match=r"scales is .*; expected positive numbers"):
        evaluate(model(), Shapes(1, size=32), scales=scales, progress=False)


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize(
    ("label", "given", "message"),
    [(7, [1, 1, 1, 1], "hold class 7, but the model has 4"), (-2, [1, 1, 1, 1], "hold class -2"),
     (3, [1, 1, 1], r"shape \(3,\)"), (3, [1] * 5, r"shape \(5,\)")],
)  # fmt: skip
def test_classes_without_a_weight_are_told_in_parts_too(accumulate, label, given, message):
    data = [(image, mask.where(mask < 3, label)) for image, mask in (Shapes(9, size=48)[index] for index in (4, 5))]
    assert any((mask == label).any() for _, mask in data)
    recipe = Recipe(steps=1, batch_size=2, accumulate=accumulate)
    with pytest.raises(ValueError, match=message):
        fit(model(), data, recipe, class_weights=given, **QUIET)


@pytest.mark.parametrize("ways", [{"flip": True}, {"scales": (0.75, 1.5)}, {"flip": True, "scales": (1.0,)}])
def test_views_are_averaged(ways):
    learner, data = model().eval(), Shapes(3, size=64)
    scores = evaluate(learner, data, progress=False, **ways)
    total = torch.zeros(4, 4, dtype=torch.long)
    for image, mask in data:
        views = []
        for scale in ways.get("scales", (1.0,)):
            for mirrored in (False, True) if ways.get("flip") else (False,):
                side = round(64 * scale)
                seen = nn.functional.interpolate(image[None], size=side, mode="bilinear", antialias=scale < 1)
                logits = learner(normalize(seen.flip(-1) if mirrored else seen))
                logits = logits.flip(-1) if mirrored else logits
                views.append(nn.functional.interpolate(logits, size=64, mode="bilinear").softmax(dim=1))
        found = torch.stack(views).mean(dim=0).argmax(dim=1)[0]
        total += torch.bincount(mask.flatten() * 4 + found.flatten(), minlength=16).view(4, 4)
    assert (scores.confusion - total).abs().sum() <= 4  # a tie may fall either way
    with pytest.raises(ValueError, match="scales"):
        evaluate(learner, data, scales=(), progress=False)


def test_a_data_set_in_memory_is_the_same_to_a_255th():
    data = Shapes(3, size=48)
    kept = InMemory(data)
    for (image, mask), (small, same) in zip(data, kept):
        assert small.dtype == torch.uint8
        torch.testing.assert_close(small / 255, image, rtol=0, atol=0.5 / 255 + 1e-6)
        assert torch.equal(mask, same)
    assert class_counts(kept, 4).sum() == 3 * 48 * 48


def test_enets_weights():
    found = balanced_weights([90, 9, 1])
    expected = 1 / torch.log(1.02 + torch.tensor([0.9, 0.09, 0.01]))
    torch.testing.assert_close(found, expected / expected.mean())
    torch.testing.assert_close(balanced_weights([90, 9, 1], 0), torch.ones(3))


@pytest.mark.parametrize("plan", [OURS, PAPER_PLAN])
def test_a_plan_is_plain_and_counts_its_steps(plan):
    made = plan.of(367, torch.tensor([500, 470, 19, 11, 0]), seed=4, validate_every=10)
    assert made.augment.rare == ((2, 3) if plan.rare_share else ())
    assert made.recipe.steps == round(plan.epochs * 367 / plan.recipe.batch_size)
    assert made.recipe.seed == 4
    assert json.loads(json.dumps(made.to_dict()))["name"] == plan.name


SCRIPT = """
import json, sys, torch
from segformer_edu import segformer_b0
from segformer_edu.data import Shapes
from segformer_edu.data.crops import Crops
from segformer_edu.training import Recipe, evaluate, fit, precision
from segformer_edu.training.processes import joined
torch.set_num_threads(1)
torch.manual_seed(0)
options = json.loads(sys.argv[1])
with joined() as processes:
    sizes = {"dims": (8, 16, 24, 32), "heads": (1, 2, 3, 4), "num_layers": (1, 1, 2, 1), "decoder_dim": 16}
    model = segformer_b0(4, **sizes, drop_path=0.0, dropout=0.0)
    def dying(history):
        import os, signal
        if processes.rank == options.get("dies") and len(history.losses) == 3:
            os.kill(os.getpid(), signal.SIGKILL)
    recipe = Recipe(steps=options.get("steps", 5), batch_size=4, warm_up=2, validate_every=options.get("every", 5),
                    accumulate=options.get("accumulate", 1))
    history = fit(model, Shapes(16, size=48), recipe, validation=Shapes(5, size=48), class_weights=[1, 2, 3, 4],
                  augment=Crops(size=(32, 32), scale=(0.5, 1.0)), device="cpu", progress=False,
                  checkpoint=options.get("checkpoint"), on_step=dying)
    total = sum(value.double().abs().sum().item() for value in model.state_dict().values())
    scores = evaluate(model, Shapes(5, size=48), progress=False)
    if processes.is_first:
        print(json.dumps([history.losses, history.validations, total, scores.confusion.tolist()]))
"""


def started(tmp_path, count, **options):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    return in_processes(count, str(script), json.dumps(options))


def test_two_processes_are_one(tmp_path):
    """The same losses, mIoU and weights at the same total batch; parts of a batch are each process's own."""
    one, two = started(tmp_path, 1), started(tmp_path, 2)
    assert two.returncode == 0, two.stderr
    alone, together = json.loads(one.stdout.splitlines()[-1]), json.loads(two.stdout.splitlines()[-1])
    assert together[0] == pytest.approx(alone[0], rel=1e-5)
    assert together[1]["5"] == pytest.approx(alone[1]["5"], abs=1e-3)
    assert together[2] == pytest.approx(alone[2], rel=1e-5)
    assert sum(map(sum, together[3])) == sum(map(sum, alone[3])) == 5 * 48 * 48
    assert started(tmp_path, 2, accumulate=2).returncode == 0


@pytest.mark.parametrize("dies", [0, 1])
def test_a_process_that_dies_ends_the_run_and_what_was_learned_is_kept(tmp_path, dies):
    file = tmp_path / "run.pt"
    done = started(tmp_path, 2, dies=dies, steps=500, checkpoint=str(file))
    assert done.returncode != 0
    assert "another process" in done.stderr
    saved = torch.load(file, weights_only=True)
    assert len(saved["history"]["losses"]) == 3


def test_a_message_is_not_cut_off_by_torchrun(tmp_path):
    """Torchrun ends the processes that are left; on a busy machine they have not yet said what happened."""
    script = tmp_path / "script.py"
    script.write_text(
        """
import os, signal, sys, time
from segformer_edu.training.processes import joined
try:
    with joined() as processes:
        if processes.rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        raise RuntimeError("the other one is gone")
except RuntimeError as error:
    time.sleep(5)
    sys.exit(f"told: {error}")
"""
    )
    assert "told: the other one is gone" in in_processes(2, str(script)).stderr


def test_a_batch_that_cannot_be_shared(tmp_path):
    done = started(tmp_path, 3)
    assert done.returncode != 0
    assert "batch_size=3" in done.stderr


def test_no_parts_more_than_pictures():
    with pytest.raises(ValueError, match="accumulate is 5"):
        Recipe(batch_size=4, accumulate=5)
    with pytest.raises(ValueError, match="precision is 'half'"):
        Recipe(precision="half")
    with pytest.raises(ValueError, match="average is 1"):
        Recipe(average=1.0)


def test_sigterm_saves_first(tmp_path):
    file = tmp_path / "run.pt"

    def told(history):
        if len(history.losses) == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit, match="SIGTERM"), joined("cpu"):
        fit(model(), Shapes(16, size=48), replace(RECIPE, validate_every=6), checkpoint=file, on_step=told, **QUIET)
    assert len(torch.load(file, weights_only=True)["history"]["losses"]) == 3
    assert signal.getsignal(signal.SIGTERM) == before
