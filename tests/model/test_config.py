"""What a model knows of itself, and that it goes with its weights."""

from __future__ import annotations

import copy
import dataclasses
import io
import json
import pickle
import warnings

import pytest
import torch
from hypothesis import given, settings
from samples import SMALL, configurations, noise

import segformer_edu as se
from segformer_edu import FAST, PAPER, SKETCH, MiT, NormEps, Segformer, SegformerConfig
from segformer_edu.model.variants import VARIANTS, build_classifier, build_segformer

NAMES = ("road", "sky", "else")


@settings(max_examples=10)
@given(configurations())
def test_config_has_what_the_model_was_made_with(configuration):
    config = Segformer(**configuration).config
    assert {name: getattr(config, name) for name in configuration} == configuration
    assert (config.dialect, config.drop_path, config.dropout, config.class_names) == ("sketch", 0.0, None, None)
    assert config.norm_eps == NormEps(blocks=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_config_of_the_papers_models(variant):
    with torch.device("meta"):
        models = [build_segformer(variant, 3, class_names=NAMES), build_classifier(variant, 3, class_names=NAMES)]
    for model in models:
        config = model.config
        assert (config.dims, config.num_layers) == (VARIANTS[variant]["dims"], VARIANTS[variant]["num_layers"])
        assert (config.heads, config.ff_expansion) == ((1, 2, 5, 8), (4, 4, 4, 4))
        assert config.norm_eps == NormEps(blocks=1e-6, stages=1e-6, patches=1e-5, reductions=1e-5)
        assert (config.dialect, config.drop_path) == ("fast", 0.1)
        assert (config.num_classes, config.class_names, model.class_names) == (3, NAMES, NAMES)
    assert [model.config.dropout for model in models] == [0.1, None]
    assert [model.config.decoder_dim for model in models] == [VARIANTS[variant]["decoder_dim"], None]


def test_builders_are_open():
    eps = NormEps(1e-3, 1e-4, 1e-5, 1e-2)
    model = se.segformer_b0(
        2, channels=5, parts=PAPER, drop_path=0.3, dropout=0.4, decoder_dim=24, norm_eps=eps, heads=(2, 4, 5, 8)
    )
    config = model.config
    assert (config.channels, config.drop_path, config.dropout, config.decoder_dim) == (5, 0.3, 0.4, 24)
    assert (config.norm_eps, config.heads, config.dialect) == (eps, (2, 4, 5, 8), "paper")
    assert model.decoder.dropout.p == 0.4
    assert model(noise(2, 5, 64, 64)).shape == (2, 2, 16, 16)
    assert se.mit_b0(7, channels=4, drop_path=0).config.channels == 4
    assert se.segformer_b0(2, parts=SKETCH)(noise(1, 3, 64, 64)).shape == (1, 2, 16, 16)
    with pytest.raises(TypeError, match="width"):
        se.segformer_b0(2, width=3)


def test_config_is_frozen_and_travels():
    model = se.segformer_b0(3, class_names=NAMES)
    with pytest.raises(dataclasses.FrozenInstanceError):
        model.config.heads = (1, 1, 1, 1)
    for again in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)), model.to(torch.float16)):
        assert again.config == model.config


@pytest.mark.parametrize("parts", [SKETCH, PAPER, FAST], ids=lambda parts: parts.dialect)
def test_config_through_json(parts):
    config = Segformer(**SMALL, num_classes=3, class_names=NAMES, parts=parts).config
    assert SegformerConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_a_record_that_is_none():
    good = Segformer(**SMALL).config.to_dict()
    with pytest.raises(ValueError, match="The configuration has width; expected channels"):
        SegformerConfig.from_dict(good | {"width": 3})
    with pytest.raises(ValueError, match="dialect is 'other'; expected one of sketch"):
        SegformerConfig.from_dict(good | {"dialect": "other"})
    with pytest.raises(TypeError, match="dims is 'x'"):
        SegformerConfig.from_dict(good | {"dims": "x"})


@pytest.mark.parametrize(("names", "error"), [(("a",), ValueError), ("abc", TypeError), ((1, 2, 3), TypeError)])
def test_names_that_are_not_the_classes(names, error):
    with pytest.raises(error, match="class_names"):
        Segformer(**SMALL, num_classes=3, class_names=names)


def through_a_file(state_dict: object) -> object:
    file = io.BytesIO()
    torch.save(state_dict, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize("model", [Segformer(**SMALL), se.segformer_b0(3), se.mit_b0(3), MiT(channels=3, **SMALL)])
def test_a_state_dict_carries_the_config(model):
    state = through_a_file(model.state_dict())
    assert SegformerConfig.from_dict(state._metadata[""]["config"]) == model.config


def test_weights_of_another_function_are_told():
    """The same shapes, other heads or eps: another function, which load_state_dict alone would not notice."""
    one, other = Segformer(**SMALL | {"heads": (1, 1, 1, 1)}), Segformer(**SMALL)
    with pytest.warns(UserWarning, match=r"heads \(1, 1, 1, 1\) against \(1, 2, 3, 4\).*load_pretrained") as said:
        other.load_state_dict(through_a_file(one.state_dict()))
    assert len(said) == 1
    with pytest.warns(UserWarning, match="norm_eps NormEps"):
        se.segformer_b0(norm_eps=NormEps(1e-5, 1e-5, 1e-5, 1e-5)).load_state_dict(se.segformer_b0().state_dict())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        se.segformer_b0(parts=PAPER).load_state_dict(se.segformer_b0().state_dict())
        other.load_state_dict(dict(one.state_dict()))  # a plain dict says nothing
