"""The same weights in the names of every published format, read back: the same function, to the eps of its norms."""

from __future__ import annotations

import published
import pytest
import torch
from published import SMALL, VARIANTS, classifier, faint, segmenter, with_eps_of
from safetensors.torch import load_file, save_file
from samples import noise
from transformers import SegformerConfig, SegformerForSemanticSegmentation, SegformerModel

import segformer_edu as se
import segformer_edu.model.variants as sizes
from segformer_edu.pretrained.names import FORMATS, OURS

WHOLE = ("nvlabs", "smp", "huggingface", "huggingface bin", "transformers")
ENCODERS = ("nvlabs", "mmsegmentation", "huggingface", "transformers")


def save(theirs, format, folder):
    """Write a model of transformers in a published format, and return what to load."""
    path = folder / "weights.pth"
    if format == "huggingface":
        theirs.save_pretrained(folder)
        return folder
    if format == "huggingface bin":
        theirs.save_pretrained(folder)
        torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
        (folder / "model.safetensors").unlink()
        return folder
    state = theirs.state_dict()
    if format == "transformers":
        torch.save(state, path)
    else:
        names = getattr(published, format)(state)
        torch.save(
            {"meta": {"CLASSES": ["a", "b"], "epoch": 3}, "state_dict": names} if format == "nvlabs" else names, path
        )
    return path


def relative(found, expected):
    assert found.shape == expected.shape
    return ((found - expected).abs().max() / expected.abs().max()).item()


@pytest.mark.parametrize("options", [SMALL, {}], ids=["small", "b0"])
@pytest.mark.parametrize("format", WHOLE)
def test_whole_model(format, options, tmp_path, record_property):
    theirs = with_eps_of(format, segmenter(options))
    ours = se.load_pretrained(save(theirs, format, tmp_path))
    assert not ours.training
    worst = 0.0
    for batch, (height, width) in zip((1, 3, 1), [(32, 32), (33, 61), (97, 130)]):
        x = noise(batch, 3, height, width)
        with torch.no_grad():
            worst = max(worst, relative(ours(x), theirs(x).logits))
    record_property(f"worst difference of logits through a file of {format}", worst)
    assert worst < 1e-5


@pytest.mark.parametrize("format", WHOLE)
def test_eps_is_the_formats(format, tmp_path):
    """Where maps are nearly constant, eps decides; another format's would show."""
    theirs = with_eps_of(format, faint(segmenter(SMALL)))
    ours = se.load_pretrained(save(theirs, format, tmp_path))
    x = noise(2, 3, 64, 40)
    with torch.no_grad():
        assert relative(ours(x), theirs(x).logits) < 1e-5
        for other in {"nvlabs", "mmsegmentation"} - {format}:
            if format != "smp" or other != "nvlabs":
                assert relative(ours(x), with_eps_of(other, theirs)(x).logits) > 1e-3


@pytest.mark.parametrize("format", ENCODERS)
def test_encoder_with_a_classifier_of_images(format, tmp_path):
    theirs = with_eps_of(format, faint(classifier(SMALL)))
    x = noise(2, 3, 50, 64)
    with torch.no_grad():
        expected = theirs(x, output_hidden_states=True)
    path = save(theirs, format, tmp_path)
    if format == "mmsegmentation":  # it has no classifier
        with pytest.warns(UserWarning, match="has no decoder; one of width 256 is drawn anew for 4 classes"):
            ours = se.load_pretrained(path, num_classes=4)
    else:
        ours = se.load_pretrained(path)
        assert isinstance(ours, se.ImageClassifier)
        with torch.no_grad():
            assert relative(ours.eval()(x), expected.logits) < 1e-5
    with torch.no_grad():
        for found, map_ in zip(ours.mit(x, True), expected.hidden_states, strict=True):
            assert relative(found, map_) < 1e-5


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_name_of_every_variant(variant):
    """All formats come to the same names and numbers, and to those of this library's model."""
    with torch.device("meta"):
        ours = se.Segformer(**sizes.VARIANTS[variant], **sizes.COMMON, num_classes=150, parts=se.PAPER)
        state = SegformerForSemanticSegmentation(SegformerConfig(num_labels=150, **VARIANTS[variant])).state_dict()
    expected = {name: value.shape for name, value in ours.state_dict().items()}
    for format in ("nvlabs", "smp", "transformers"):
        converted = se.convert_state_dict(getattr(published, format, dict)(state))
        assert converted.format == format
        assert {name: value.shape for name, value in converted.items()} == expected
    converted = se.convert_state_dict(published.mmsegmentation(state))
    assert converted.format == "mmsegmentation"
    assert converted.keys() == {name for name in expected if name.startswith("mit.")}


def test_own_names():
    for model in (se.segformer_b0(3), se.mit_b0(3), se.Segformer()):
        converted = se.convert_state_dict(model.state_dict())
        assert converted.format == "segformer_edu"
        assert converted.keys() == model.state_dict().keys()
    assert se.convert_state_dict(se.segformer_b0(3).mit.state_dict()).keys() < se.segformer_b0(3).state_dict().keys()


@pytest.mark.parametrize("prefix", ["module.", "model.net.", "_orig_mod."])
@pytest.mark.parametrize("format", ["nvlabs", "smp", "transformers", "lucidrains"])
def test_prefix_of_all_names(format, prefix):
    if format == "lucidrains":
        import segformer_pytorch

        state = segformer_pytorch.Segformer().state_dict()
    else:
        state = getattr(published, format, dict)(segmenter(SMALL).state_dict())
    expected = se.convert_state_dict(state)
    converted = se.convert_state_dict({prefix + name: value for name, value in state.items()})
    assert converted.format == expected.format == format
    assert converted.keys() == expected.keys()
    assert all(torch.equal(converted[name], expected[name]) for name in expected)


def test_encoder_of_transformers_alone(tmp_path):
    theirs = published.randomized(SegformerModel(SegformerConfig(**SMALL)), 0)
    theirs.save_pretrained(tmp_path)
    for state in (theirs.state_dict(), load_file(tmp_path / "model.safetensors")):
        converted = se.convert_state_dict(state)
        assert converted.keys() == {name for name in converted if name.startswith("mit.")}
    assert converted.format == "huggingface"


def test_two_copies_are_refused():
    state = published.nvlabs(segmenter(SMALL).state_dict())
    two = {prefix + name: value for prefix in ("student.", "teacher.") for name, value in state.items()}
    with pytest.raises(ValueError, match=r"after the prefix 'student\.', but \d+ of \d+ are not: teacher\..*second"):
        se.convert_state_dict(two)


def test_a_stranger_is_refused():
    state = published.smp(segmenter(SMALL).state_dict()) | {"extra.weight": torch.ones(7, 7)}
    with pytest.raises(ValueError, match=r"those of segmentation-models-pytorch, but 1 of \d+ are not: extra\.weight"):
        se.convert_state_dict(state)


def test_a_prefix_of_some_names_is_left_alone():
    state = published.nvlabs(segmenter(SMALL).state_dict())
    mixed = {("module." if index % 3 == 0 else "") + name: state[name] for index, name in enumerate(state)}
    with pytest.raises(ValueError, match=r"but \d+ of \d+ are not: module\."):
        se.convert_state_dict(mixed)


def test_decoder_of_mmsegmentation_is_refused():
    state = {
        f"backbone.{name}": value for name, value in published.mmsegmentation(segmenter(SMALL).state_dict()).items()
    }
    assert se.convert_state_dict(state).format == "mmsegmentation"
    state |= {"decode_head.convs.0.conv.weight": torch.ones(20, 8, 1, 1), "decode_head.conv_seg.bias": torch.ones(7)}
    with pytest.raises(ValueError, match=r"BatchNorm and a ReLU.*cannot be .*startswith\('backbone\.'\)"):
        se.convert_state_dict(state)


def test_shapes_that_no_model_has():
    state = published.mmsegmentation(segmenter(SMALL).state_dict())
    state["layers.0.1.0.attn.attn.in_proj_weight"] = torch.tensor(1.0)
    with pytest.raises(ValueError, match=r"Names of mmsegmentation 1\.x, but shapes that no SegFormer has"):
        se.convert_state_dict(state)


def test_tables_name_the_same_parts():
    paper = [format for format in FORMATS if not format.is_sketch]
    assert {format.name for format in FORMATS} == {*WHOLE, *ENCODERS, "lucidrains", "segformer_edu"} - {
        "huggingface bin"
    }
    for format in paper:
        assert set(format.names) <= set(format.ours)
        assert set(OURS) - set(format.names) <= {
            "query", "key, value", "project", "fuse", "norm of decoder", "classify", "classify the image"
        }  # fmt: skip


def test_safetensors_file_with_another_suffix(tmp_path):
    theirs = segmenter(SMALL)
    save_file(published.smp(theirs.state_dict()), tmp_path / "weights.bin")
    x = noise(1, 3, 40, 40)
    with torch.no_grad():
        assert relative(se.load_pretrained(tmp_path / "weights.bin")(x), theirs(x).logits) < 1e-4
