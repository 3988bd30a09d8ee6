"""Pictures into any model, logits out of it: channels, statistics, outputs of other libraries."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from samples import SMALL
from torch import nn
from torch.optim.swa_utils import AveragedModel
from transformers import SegformerConfig, SegformerForSemanticSegmentation

from segformer_edu import Segformer, load_pretrained, save_pretrained, segment
from segformer_edu.data import normalize
from segformer_edu.data.pictures import IMAGENET_MEAN, IMAGENET_STD, statistics
from segformer_edu.model.logits import class_logits, logits_in, probabilities_of, statistics_of
from segformer_edu.training import Recipe, evaluate, fit

MEAN, STD = (0.1, 0.2, 0.3, 0.4), (0.5, 0.6, 0.7, 0.8)
PICTURE = torch.rand(4, 40, 48, generator=torch.Generator().manual_seed(0))


def model(channels=4, told=True):
    torch.manual_seed(0)
    made = Segformer(**SMALL, decoder_dim=16, channels=channels)
    if told:
        made.image_mean, made.image_std = MEAN, STD
    return made


def theirs(classes=4):
    torch.manual_seed(0)
    sizes = {"hidden_sizes": [8, 16, 20, 16], "depths": [1] * 4, "decoder_hidden_size": 16}
    return SegformerForSemanticSegmentation(SegformerConfig(num_labels=classes, **sizes)).eval()


def after_a_checkpoint(made, folder):
    fit(made, [(PICTURE, torch.zeros(40, 48).long())], Recipe(steps=1), checkpoint=folder / "c.pt", progress=False)
    return load_pretrained(folder / "c.pt")


def after_a_state_dict(made, folder):
    torch.save(made.state_dict(), folder / "s.pt")
    return load_pretrained(folder / "s.pt")


def after_saving(made, folder):
    save_pretrained(made, folder / "saved")
    return load_pretrained(folder / "saved")


@pytest.mark.parametrize(
    "again",
    [
        lambda made, folder: copy.deepcopy(made),
        lambda made, folder: pickle.loads(pickle.dumps(made)),
        lambda made, folder: nn.DataParallel(made),
        lambda made, folder: AveragedModel(made),
        lambda made, folder: torch.compile(made, backend="eager"),
        after_a_state_dict,
        after_saving,
        after_a_checkpoint,
    ],
)
def test_statistics_are_kept(tmp_path, again, recwarn):
    made = model()
    other = again(made, tmp_path)
    assert statistics_of(other, 4) == (MEAN, STD)
    found = segment(other, PICTURE, probabilities=True)
    torch.testing.assert_close(found, segment(made, PICTURE, probabilities=True))
    with torch.no_grad():
        logits = made.eval()(normalize(PICTURE[None], MEAN, STD))
    torch.testing.assert_close(class_logits(made, PICTURE[None], (MEAN, STD)), logits)
    assert not [warning for warning in recwarn if "Nobody said" in str(warning.message)]


@pytest.mark.parametrize("wrap", [nn.DataParallel, AveragedModel, lambda m: torch.compile(m, backend="eager")])
def test_statistics_that_are_set_on_a_wrapper_reach_the_model(wrap):
    wrapped = wrap(model(told=False))
    wrapped.image_mean, wrapped.image_std = MEAN, STD
    assert statistics_of(wrapped, 4) == (MEAN, STD)
    inner = getattr(wrapped, "module", None) or wrapped._orig_mod
    assert (inner.config.image_mean, inner.config.image_std) == (MEAN, STD)


class Own(nn.Module):
    def __init__(self, channels=4):
        super().__init__()
        self.layer = nn.Conv2d(channels, 2, 1)

    def forward(self, x):
        return self.layer(x)


def test_a_model_of_ones_own_may_have_statistics():
    made = Own()
    made.image_mean, made.image_std = torch.tensor(MEAN).view(1, 4, 1, 1), list(STD)
    mean, std = statistics_of(made, 4)
    assert (mean, std) == (pytest.approx(MEAN), STD)
    array = (PICTURE.permute(1, 2, 0) * 255).byte().numpy()
    assert segment(made, array).shape == (40, 48)  # four channels, not colours over white


@pytest.mark.parametrize("channels", [1, 2, 4, 6])
def test_channels_from_data_to_segment(channels):
    data = [(torch.rand(channels, 32, 32), torch.randint(0, 4, (32, 32))) for _ in range(2)]
    made = model(channels, told=False)
    for call in (
        lambda: fit(made, data, Recipe(steps=1, batch_size=2), progress=False),
        lambda: evaluate(made, data, progress=False),
        lambda: segment(made, data[0][0]),
    ):
        with pytest.warns(UserWarning, match=f"pictures of {channels} channels.*segformer_edu.data.statistics"):
            call()
    made.image_mean, made.image_std = statistics(data)
    assert statistics_of(made, channels) == statistics(data)
    assert segment(made, data[0][0]).shape == (32, 32)


def test_three_channels_are_red_green_and_blue(recwarn):
    assert statistics_of(model(3, told=False), 3) == (IMAGENET_MEAN, IMAGENET_STD)
    assert not recwarn.list


@pytest.mark.parametrize("made", [model(), theirs()], ids=["ours", "theirs"])
def test_another_number_of_channels(made):
    data = [(torch.rand(6, 32, 32), torch.zeros(32, 32).long())]
    for call in (lambda: fit(made, data, Recipe(steps=1), progress=False), lambda: evaluate(made, data)):
        with pytest.raises(ValueError, match=r"images have 6 channels, and the model takes [34]; expected the same"):
            call()


def test_one_statistic_alone():
    made = model(told=False)
    made.image_mean = MEAN
    with pytest.raises(ValueError, match="expected both, or neither"):
        statistics_of(made, 4)


@pytest.mark.parametrize("classes", [1, 5])
def test_a_model_of_transformers(classes):
    made = theirs(classes)
    picture = torch.rand(3, 45, 70)
    with torch.no_grad():
        logits = nn.functional.interpolate(made(normalize(picture)[None]).logits, size=(45, 70), mode="bilinear")[0]
    expected = (logits[0] > 0).long() if classes == 1 else logits.argmax(0)
    assert torch.equal(segment(made, picture), expected)
    yes = segment(made, picture, probabilities=True)
    torch.testing.assert_close(
        yes[1:] if classes == 1 else yes, logits.sigmoid() if classes == 1 else logits.softmax(0)
    )
    data = [(picture, expected)]
    assert evaluate(made, data, progress=False).accuracy == 1
    assert len(fit(made, data, Recipe(steps=1), progress=False).losses) == 1


@pytest.mark.parametrize("output", [{"out": torch.ones(1), "aux": 0}, {"logits": torch.ones(1)}, (torch.ones(1), 0)])
def test_outputs_of_other_libraries(output):
    assert logits_in(output) == 1


@pytest.mark.parametrize("output", [None, {}, {"masks": torch.ones(1)}, (), "out"])
def test_outputs_without_logits(output):
    with pytest.raises(TypeError, match=f"The model returns a {type(output).__name__}; expected logits"):
        logits_in(output)


def test_probabilities():
    logits = torch.randn(2, 3, 4, 5)
    torch.testing.assert_close(probabilities_of(logits), logits.softmax(1))
    two = probabilities_of(logits[:, :1])
    assert two.shape == (2, 2, 4, 5)
    torch.testing.assert_close(two, torch.cat([torch.zeros_like(logits[:, :1]), logits[:, :1]], dim=1).softmax(1))


class Answers(nn.Module):
    """Gives the same logits for any picture."""

    def __init__(self, values):
        super().__init__()
        self.values = nn.Parameter(torch.tensor(values))

    def forward(self, x):
        return self.values[:, None, None].expand(len(x), -1, x.shape[-2] // 4, x.shape[-1] // 4)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("options", [{}, {"probabilities": True}, {"window": 32}])
def test_no_class_for_what_is_no_number(bad, options):
    """The largest of NaN is the first class, and nobody would know."""
    with pytest.raises(FloatingPointError, match="NaN or infinite at 100%"):
        segment(Answers([0.0, bad, 1.0]), PICTURE[:3], **options)
    with pytest.raises(FloatingPointError):
        evaluate(Answers([0.0, bad, 1.0]), [(PICTURE[:3], torch.zeros(40, 48).long())], progress=False)


def test_a_class_may_be_forbidden():
    assert segment(Answers([0.0, 1.0, -1e9]), PICTURE[:3]).unique().tolist() == [1]


def test_half_precision_that_overflows():
    made = model(channels=3, told=False).eval()
    with torch.no_grad():
        list(made.parameters())[-1].fill_(1e6)
    assert segment(made, PICTURE[:3]).shape == (40, 48)
    with pytest.raises(FloatingPointError, match="float16"):
        segment(made.half(), PICTURE[:3])


@pytest.mark.parametrize("average", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("steps", [2, 5])
def test_a_checkpoint_of_an_average_loads_as_what_was_validated(tmp_path, average, steps):
    data = [(PICTURE[:3], torch.randint(4, (40, 48), generator=torch.Generator().manual_seed(1)))] * 2
    recipe = Recipe(steps=steps, batch_size=2, warm_up=0, learning_rate=1e-2, average=average)
    made = model(channels=3, told=False)
    fit(made, data, recipe, checkpoint=tmp_path / "run.pt", progress=False, device="cpu")
    loaded = load_pretrained(tmp_path / "run.pt")
    assert loaded.config == made.config
    with torch.no_grad():
        x = normalize(PICTURE[None, :3])
        torch.testing.assert_close(loaded(x), made.eval()(x), rtol=0, atol=0)
