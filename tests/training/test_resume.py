"""Whatever stops a training saves it first, and it goes on bit for bit as if it had not been stopped."""

from __future__ import annotations

import builtins
import errno
import os
import random
import signal
import sys
import warnings

import numpy as np
import pytest
import torch
from samples import SMALL
from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch.utils.data import ConcatDataset, Dataset, Subset

from segformer_edu import Segformer, load_pretrained, segformer_b0
from segformer_edu.data import Augmentation, InMemory, PairedPictures, Shapes
from segformer_edu.training import Recipe, fit
from segformer_edu.training.settings import digest_of

RECIPE = Recipe(steps=6, batch_size=2, warm_up=2, validate_every=4)
QUIET = {"progress": False, "device": "cpu"}


def model(seed=0):
    """B0's parts, dropout, drop path and BatchNorm, in small."""
    torch.manual_seed(seed)
    sizes = {"dims": (8, 16, 24, 32), "heads": (1, 2, 3, 4), "num_layers": (1, 1, 2, 1), "decoder_dim": 16}
    return segformer_b0(4, **sizes, drop_path=0.3, dropout=0.3)


class Draws(Dataset):
    """Items that draw from every global generator; the ``count``-th reading fails."""

    def __init__(self, length=16, count=None, error=None):
        self.shapes, self.count, self.error = Shapes(length, size=32), count, error

    def __len__(self):
        return len(self.shapes)

    def __getitem__(self, index):
        if self.count is not None:
            self.count -= 1
            if self.count < 0:
                raise self.error
        image, mask = self.shapes[index]
        darkened = image * np.random.uniform() * random.random()  # noqa: NPY002
        return darkened, (mask + torch.randint(4, ())) % 4


def darker(images, masks, generator):
    return images * torch.rand(()), masks


def run(learner, file, data=None, **options):
    options = {"augment": darker, "validation": Draws(4), **QUIET} | options
    return fit(learner, data or Draws(), RECIPE, checkpoint=file, **options)


def outcome(learner, history):
    return [value.tolist() for value in learner.state_dict().values()], history


@pytest.fixture(scope="module")
def uninterrupted():
    learner = model()
    return outcome(learner, run(learner, None))


def resumed(file, **options):
    """Go on in a process that is in another state."""
    torch.manual_seed(17)
    np.random.seed(17)  # noqa: NPY002
    random.seed(17)
    learner = model(seed=5)
    return outcome(learner, run(learner, file, **options))


def steps_in(file):
    return len(torch.load(file, weights_only=True)["history"]["losses"])


def calls(count, error):
    """A function that fails when it is called more than ``count`` times."""
    left = [count]

    def called(*_):
        left[0] -= 1
        if left[0] < 0:
            raise error

    return called


def in_data(learner, file, error, workers=0):
    run(learner, file, Draws(16, 3 if workers else 7, error), workers=workers)  # each worker counts by itself


def in_augment(learner, file, error):
    fails = calls(3, error)

    def augment(*given):
        fails()
        return darker(*given)

    run(learner, file, augment=augment)


def in_on_step(learner, file, error):
    run(learner, file, on_step=calls(2, error))


def in_forward(learner, file, error):
    norm = next(module for module in learner.modules() if isinstance(module, nn.BatchNorm2d))
    norm.register_forward_hook(calls(3, error))  # its statistics have moved
    run(learner, file)


def in_backward(learner, file, error):
    learner.mit.stages[1].register_full_backward_hook(calls(3, error))
    run(learner, file)


def in_validation(learner, file, error):
    run(learner, file, validation=Draws(4, 1, error))


def in_optimizer(learner, file, error):
    hook = register_optimizer_step_pre_hook(calls(3, error))
    try:
        run(learner, file)
    finally:
        hook.remove()


PLACES = {in_data: 3, in_augment: 3, in_on_step: 3, in_forward: 3, in_backward: 3, in_validation: 4, in_optimizer: 3}


@pytest.mark.filterwarnings("ignore:.*goes on with other settings.*augment")
@pytest.mark.parametrize("error", [OSError("broken"), KeyboardInterrupt(), SystemExit(3)], ids=repr)
@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.__name__)
def test_saved_and_taken_up_wherever_it_stops(tmp_path, capsys, uninterrupted, place, error):
    file = tmp_path / "run.pt"
    if isinstance(error, KeyboardInterrupt):
        place(model(), file, error)
        assert f"Interrupted after {PLACES[place]} of 6 steps. Saved to {file}" in capsys.readouterr().out
    else:
        with pytest.raises(type(error)):
            place(model(), file, error)
    assert steps_in(file) == PLACES[place]
    assert [path.name for path in tmp_path.iterdir()] == ["run.pt"]
    assert resumed(file) == uninterrupted


def test_global_generators_are_as_they_were():
    torch.manual_seed(3)
    states = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002
    learner = Segformer(**SMALL, decoder_dim=16)
    torch.set_rng_state(states[0])
    fit(learner, Draws(), RECIPE, augment=Augmentation(), validation=Draws(4), **QUIET)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.random.get_state()[1].tolist() == states[1]  # noqa: NPY002
    assert random.getstate() == states[2]


@pytest.mark.parametrize("workers", [(0, 2), (2, 0)])
def test_any_number_of_workers(tmp_path, uninterrupted, workers):
    file = tmp_path / "run.pt"
    with pytest.raises(OSError, match="broken"):
        in_data(model(), file, OSError("broken"), workers=workers[0])
    assert steps_in(file) > 0
    assert resumed(file, workers=workers[1]) == uninterrupted


def test_stopped_again_and_again(tmp_path, uninterrupted):
    file = tmp_path / "run.pt"
    for count in range(1, 7):
        with pytest.raises(RuntimeError):
            run(model() if count == 1 else model(seed=count), file, on_step=calls(0, RuntimeError()))
        assert steps_in(file) == count
    assert resumed(file) == uninterrupted
    assert resumed(file) == uninterrupted  # nothing left to do


def test_a_validation_that_was_missed_is_kept_once_it_is_made_up_for(tmp_path, uninterrupted):
    file = tmp_path / "run.pt"
    run(model(), file, validation=Draws(4, 5, KeyboardInterrupt()))
    history = run(model(seed=5), file)
    assert history == uninterrupted[1]
    saved = torch.load(file, weights_only=True)["history"]["validations"]
    assert saved == history.validations


def test_ctrl_c_by_a_real_signal_between_any_two_lines(tmp_path, uninterrupted):
    """The signal comes from a profiler's callback, at another line each time."""
    interrupted = 0
    for line in range(5, 1000, 13):
        file, left = tmp_path / f"{line}.pt", [line]

        def tracer(frame, event, argument, left=left):
            if not frame.f_code.co_filename.endswith(("training/run.py", "training/checkpoint.py")):
                return None
            left[0] -= frame.f_code.co_name in ("step", "rescue", "write") and event == "line"
            if left[0] == 0:
                left[0] = -1
                os.kill(os.getpid(), signal.SIGINT)
            return tracer

        before = sys.gettrace()
        sys.settrace(tracer)
        try:
            run(model(), file)
        finally:
            sys.settrace(before)
        if left[0] > 0:
            break  # there are no more lines
        interrupted += 1
        if file.exists():
            assert resumed(file) == uninterrupted
    assert interrupted > 5


class Full:
    """A file on a disk that is full after a hundred bytes."""

    def __init__(self, file):
        self.file = file

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()

    def write(self, data):
        self.file.write(data[:100])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.filterwarnings("ignore:It was written to", "ignore:Nor could it")
@pytest.mark.parametrize("good", [0, 1])
@pytest.mark.parametrize("everywhere", [False, True])
@pytest.mark.parametrize("error", [None, KeyboardInterrupt()])
def test_a_full_disk(tmp_path, monkeypatch, capsys, uninterrupted, good, everywhere, error):
    """Training goes on, the earlier file stays, and the folder for temporary files is tried."""
    folder, spare, real, count = tmp_path / "full", tmp_path / "spare", builtins.open, [good]
    spare.mkdir()
    monkeypatch.setattr("tempfile.mkdtemp", lambda prefix: str(spare))

    def opens(path, mode="r", *rest, **options):
        file = real(path, mode, *rest, **options)
        if "w" in mode and str(path).endswith(".part") and (everywhere or folder in path.parents):
            count[0] -= 1
            return Full(file) if count[0] < 0 else file
        return file

    monkeypatch.setattr(builtins, "open", opens)
    file, learner = folder / "run.pt", model()
    with pytest.warns(UserWarning, match="could not be written .*No space left on device") as told:
        history = run(learner, file, Draws(16, 11, error) if error else None)
    monkeypatch.setattr(builtins, "open", real)
    if error:
        assert "Interrupted after 5 of 6 steps. The model keeps what it has learned." in capsys.readouterr().out
    else:
        assert outcome(learner, history) == uninterrupted
    assert [path.name for path in folder.iterdir()] == ["run.pt"] * good
    saved = [path for path in (file, spare / "run.pt") if path.exists()]
    assert [path.parent.name for path in saved] == ["full"] * good + ["spare"] * (not everywhere)
    assert str(told[-1].message).startswith("Nor could it" if everywhere else "It was written to")
    for path in saved:
        assert resumed(path) == uninterrupted


@pytest.mark.parametrize("name", ["", "folder", "file/run.pt", "pipe", "a\0b.pt", "x" * 300])
def test_a_path_that_cannot_be_written_is_said_before_training(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    seen = []
    with pytest.raises(ValueError, match=r"cannot be written .*expected the name of a file"):
        run(model(), name, on_step=seen.append)
    assert not seen
    assert {path.name for path in tmp_path.iterdir()} == {"folder", "file", "pipe"}


def test_home_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    run(model(), "~/runs/a.pt")
    assert steps_in(tmp_path / "runs" / "a.pt") == 6


def test_more_steps(tmp_path):
    file = tmp_path / "run.pt"
    fit(model(), Draws(), RECIPE, checkpoint=file, **QUIET)
    longer = Recipe(**vars(RECIPE) | {"steps": 9})
    learner = model(seed=5)
    with pytest.warns(UserWarning, match="made with 6 steps, and the recipe has 9: training goes on after 6"):
        history = fit(learner, Draws(), longer, checkpoint=file, **QUIET)
    assert len(history.losses) == 9
    assert torch.equal(load_pretrained(file).state_dict()["decoder.classify.weight"], learner.decoder.classify.weight)
    with pytest.raises(ValueError, match=r"made with \{'steps': 9\}"):
        fit(model(), Draws(), RECIPE, checkpoint=file, **QUIET)


def test_numbers_of_numpy_in_a_recipe(tmp_path):
    recipe = Recipe(
        steps=np.int64(2), learning_rate=np.float32(1e-3), batch_size=np.int32(2), weight_decay=np.float64(0)
    )
    for _ in range(2):
        assert len(fit(model(), Draws(), recipe, checkpoint=tmp_path / "run.pt", **QUIET).losses) == 2


def test_other_settings_are_told(tmp_path):
    file = tmp_path / "run.pt"
    fit(model(), Draws(), Recipe(steps=1), checkpoint=file, **QUIET)
    options = {"ignore_index": 7, "class_weights": [1, 1, 1, 2], **QUIET}
    with pytest.warns(UserWarning, match=r"pairs was 16, now 8; ignore_index was 255, now 7; class_weights was None"):
        fit(model(), Draws(8), Recipe(steps=1), checkpoint=file, **options)


def half(data, first):
    return Subset(data, range(first, 4 + first))


def in_a_list(data):
    return [data[index] for index in range(len(data))]


OTHERS = {
    "folds": (half(Shapes(8, size=32), 0), half(Shapes(8, size=32), 4)),
    "folds in memory": (InMemory(half(Shapes(8, size=32), 0)), InMemory(half(Shapes(8, size=32), 4))),
    "concatenations of them": tuple(ConcatDataset([half(Shapes(8, size=32), first)]) for first in (0, 4)),
    "seeds": (Shapes(4, size=32), Shapes(4, size=32, seed=1)),
    "lists": (in_a_list(Shapes(4, size=32)), in_a_list(Shapes(4, size=32, seed=1))),
    "files": tuple(
        PairedPictures([(f"{name}{index}.png", f"masks/{index}.png") for index in range(4)], 4) for name in "ab"
    ),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_other_data_of_as_many_pairs_are_told(kind):
    one, other = OTHERS[kind]
    assert digest_of(one) == digest_of(one) != digest_of(other)


def test_data_sets_that_draw_are_the_same():
    assert digest_of(Draws()) == digest_of(Draws(8))


@pytest.mark.parametrize("stopped", [False, True])
def test_a_fold_that_goes_on_with_anothers_checkpoint_is_told(tmp_path, stopped):
    file, (one, other) = tmp_path / "run.pt", OTHERS["folds"]
    recipe = Recipe(steps=3, batch_size=2, warm_up=0)
    if stopped:
        with pytest.raises(RuntimeError, match="stopped"):
            fit(model(), one, recipe, checkpoint=file, on_step=stopping, **QUIET)
    else:
        fit(model(), one, recipe, checkpoint=file, **QUIET)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        fit(model(), other, recipe, checkpoint=file, **QUIET)
    texts = [str(warning.message) for warning in told]
    assert "goes on with other settings: what tells the pairs apart was" in texts[0]
    assert ["holds a finished training of 3 steps: nothing is trained" in text for text in texts[1:]] == (
        [] if stopped else [True]
    )


def stopping(history):
    raise RuntimeError("stopped")


def test_the_same_call_on_a_finished_training_says_one_thing(tmp_path):
    file, recipe = tmp_path / "run.pt", Recipe(steps=2, batch_size=2, warm_up=0)
    before = fit(model(), Draws(), recipe, checkpoint=file, **QUIET)
    with pytest.warns(UserWarning, match=r"run\.pt holds a finished training of 2 steps.*another file name") as told:
        assert fit(model(seed=5), Draws(), recipe, checkpoint=file, **QUIET) == before
    assert len(told) == 1


def test_statistics_are_taken_up(tmp_path):
    def made(seed=0, mean=None):
        torch.manual_seed(seed)
        learner = Segformer(**SMALL, decoder_dim=16, channels=4)
        if mean:
            learner.image_mean, learner.image_std = (mean,) * 4, (0.3,) * 4
        return learner

    data, file = [(torch.rand(4, 32, 32), torch.randint(0, 4, (32, 32))) for _ in range(4)], tmp_path / "run.pt"
    whole = made(mean=0.4)
    expected = outcome(whole, fit(whole, data, RECIPE, **QUIET))
    with pytest.raises(RuntimeError):
        fit(made(mean=0.4), data, RECIPE, checkpoint=file, on_step=calls(2, RuntimeError()), **QUIET)
    with pytest.raises(ValueError, match=r"made with image_mean \[0.4, .*, and the model has \(0.2,"):
        fit(made(mean=0.2), data, RECIPE, checkpoint=file, **QUIET)
    forgot = made(seed=5)
    assert outcome(forgot, fit(forgot, data, RECIPE, checkpoint=file, **QUIET)) == expected
    assert forgot.image_mean == load_pretrained(file).image_mean == (0.4,) * 4
