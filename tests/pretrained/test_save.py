"""A model in a folder: the same function again, bit for bit, here and in transformers, or a refusal."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from samples import SMALL, noise, shaken
from torch import nn
from transformers import SegformerForImageClassification, SegformerForSemanticSegmentation

import segformer_edu as se
from segformer_edu import FAST, PAPER, SKETCH, NormEps, Segformer, load_pretrained, save_pretrained
from segformer_edu.model.variants import VARIANTS, build_classifier, build_segformer

FIVE = NormEps(1e-5, 1e-5, 1e-5, 1e-5)
ODD = {
    "dims": (12, 20, 24, 30),
    "heads": (3, 2, 4, 5),
    "ff_expansion": (3, 2, 1, 2),
    "reduction_ratio": (5, 3, 2, 1),
    "num_layers": (1, 2, 1, 3),
    "channels": 4,
}
NAMES = ("road", "sky", "tree", "Straße, ”else“", "x")


def odd(**options: object) -> Segformer:
    return Segformer(**ODD | {"num_classes": 5, "decoder_dim": 18, "class_names": NAMES, "drop_path": 0.2} | options)


def drawn(model: nn.Module) -> nn.Module:
    """Weights of which none is 0 or 1, statistics that are not a fresh BatchNorm's, in evaluation."""
    shaken(model)
    for name, buffer in model.named_buffers():
        if buffer.is_floating_point():
            buffer.copy_(noise(*buffer.shape).abs() + 0.2 if name.endswith("var") else noise(*buffer.shape))
    return model.eval()


def image(model: nn.Module) -> torch.Tensor:
    return noise(2, model.config.channels, 64, 70)


MODELS = {
    "sketch": lambda: odd(),
    "sketch of other eps": lambda: odd(parts=SKETCH.with_norm_eps(NormEps(blocks=0.1))),
    "plain": lambda: odd(parts=PAPER),
    "fast, other eps, other dropout": lambda: odd(
        parts=FAST.with_norm_eps(NormEps(1e-2, 1e-3, 0.1, 1e-4)).with_dropout(0.4)
    ),
    "B0": lambda: se.segformer_b0(19),
    "B2": lambda: se.segformer_b2(3, class_names=("a", "b", "c")),
    "MiT-B0": lambda: se.mit_b0(7),
    "MiT of four channels": lambda: se.mit_b0(5, channels=4, class_names=NAMES),
    "double": lambda: odd(parts=PAPER).double(),
}


@pytest.mark.parametrize("name", MODELS)
def test_own_form_gives_the_same_function(tmp_path, name):
    model = drawn(MODELS[name]())
    assert save_pretrained(model, tmp_path / "new" / "folder") == tmp_path / "new" / "folder"
    x = image(model).to(next(model.parameters()).dtype)
    for source in (tmp_path / "new" / "folder", tmp_path / "new" / "folder" / "model.safetensors"):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            again = load_pretrained(source, parts=PAPER if model.config.dialect == "paper" else FAST)
        assert again.config == model.config
        assert type(again) is type(model)
        torch.testing.assert_close(again.state_dict(), model.state_dict(), rtol=0, atol=0)
        with torch.no_grad():
            assert torch.equal(again(x), model(x))


@pytest.mark.parametrize("variant", [*VARIANTS, "odd"])
def test_transformers_loads_hugging_faces_form(tmp_path, variant, record_property):
    """Equal logits with transformers' eps; here with any, and the names of the classes."""
    model = odd(parts=FAST.with_norm_eps(FIVE)) if variant == "odd" else build_segformer(variant, 19, norm_eps=FIVE)
    model = drawn(model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        save_pretrained(model, tmp_path, format="huggingface")
        again = load_pretrained(tmp_path)
    theirs = SegformerForSemanticSegmentation.from_pretrained(tmp_path).eval()
    x = image(model)
    with torch.no_grad():
        found, expected = model(x), theirs(x).logits
        assert torch.equal(again(x), found) or variant == "odd"
        torch.testing.assert_close(again(x), found, rtol=1e-5, atol=1e-6)
    apart = ((found - expected).abs().max() / expected.abs().max()).item()
    record_property("worst difference to transformers through save_pretrained", apart)
    assert apart < 1e-5
    assert again.config == model.config
    if variant == "odd":
        assert theirs.config.id2label == dict(enumerate(NAMES))


@pytest.mark.parametrize("variant", ["b0", "b3"])
def test_transformers_loads_a_classifier(tmp_path, variant):
    model = drawn(build_classifier(variant, 11, norm_eps=FIVE))
    save_pretrained(model, tmp_path, format="huggingface")
    theirs, x = SegformerForImageClassification.from_pretrained(tmp_path).eval(), image(model)
    with torch.no_grad():
        torch.testing.assert_close(theirs(x).logits, model(x), rtol=1e-4, atol=1e-4)
        assert torch.equal(load_pretrained(tmp_path)(x), model(x))


def test_what_transformers_then_writes_is_read_too(tmp_path):
    model = drawn(odd(parts=PAPER.with_norm_eps(FIVE)))
    save_pretrained(model, tmp_path / "ours", format="huggingface")
    SegformerForSemanticSegmentation.from_pretrained(tmp_path / "ours").save_pretrained(tmp_path / "theirs")
    again, x = load_pretrained(tmp_path / "theirs"), image(model)
    torch.testing.assert_close(again(x), model(x), rtol=1e-4, atol=1e-5)
    assert (again.config.heads, again.class_names) == (model.config.heads, NAMES)


def test_eps_that_transformers_does_not_have(tmp_path):
    """It adds 1e-5 whatever its configuration says; the difference is told, and does not exist here."""
    model = drawn(se.segformer_b0(5))
    with pytest.warns(
        UserWarning, match=r"transformers' layer norms add 1e-5 .* its logits will differ a little"
    ) as said:
        save_pretrained(model, tmp_path, format="huggingface")
    assert said[0].filename == __file__
    x = image(model)
    assert torch.equal(load_pretrained(tmp_path)(x), model(x))
    theirs = SegformerForSemanticSegmentation.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        torch.testing.assert_close(theirs(x).logits, model(x), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("model", [odd(), odd(parts=replace(PAPER, stage_norm=nn.BatchNorm2d))])
def test_hugging_faces_form_has_no_room_for_it(tmp_path, model):
    with pytest.raises(
        ValueError, match=r"room for the paper's model alone.*dialect '(sketch|custom)'.*segformer_edu'"
    ):
        save_pretrained(model, tmp_path / "folder", format="huggingface")
    assert not (tmp_path / "folder").exists()


CHANGES = {
    "another classifier": lambda model: setattr(model.decoder, "classify", nn.Conv2d(18, 9, 1)),
    "an adapter": lambda model: setattr(model.decoder, "fuse", nn.Sequential(model.decoder.fuse)),
    "one block less": lambda model: model.mit.stages[3].blocks.__delitem__(2),
    "other heads": lambda model: setattr(model.mit.stages[3].blocks[2].attention, "heads", 6),
    "another eps of the BatchNorm": lambda model: setattr(model.decoder.norm, "eps", 1.0),
    "another padding": lambda model: setattr(model.mit.stages[0].embedding.project, "padding_mode", "reflect"),
    "another dropout": lambda model: setattr(model.decoder.dropout, "p", 0.7),
    "another drop path": lambda model: setattr(model.mit.stages[3].blocks[2].drop_path, "rate", 0.9),
    "a block that does nothing": lambda model: model.mit.stages[3].blocks.__setitem__(1, nn.Identity()),
    "an empty stage": lambda model: setattr(model.mit.stages[0], "blocks", nn.Sequential()),
    "weights on meta": lambda model: model.to("meta"),
    "another eps": lambda model: setattr(model.mit.stages[1].norm, "eps", 1.0),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_model_that_is_no_longer_what_its_config_says(tmp_path, change):
    model = odd(parts=FAST)
    CHANGES[change](model)
    with pytest.raises(ValueError, match=r"changed after it was made, and model\.config does not describe|'meta'"):
        save_pretrained(model, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("thing", [nn.Linear(1, 1), None, se.segformer_b0().mit, {}])
def test_what_is_no_model_of_this_library(tmp_path, thing):
    with pytest.raises(TypeError, match="expected a Segformer or an ImageClassifier"):
        save_pretrained(thing, tmp_path)


def test_unknown_format(tmp_path):
    with pytest.raises(ValueError, match="format is 'onnx'; expected one of segformer_edu, huggingface"):
        save_pretrained(odd(), tmp_path, format="onnx")


def test_models_inside_of_something(tmp_path):
    model = drawn(odd(parts=FAST))
    for wrapped in (nn.DataParallel(model), torch.compile(model), torch.optim.swa_utils.AveragedModel(model)):
        save_pretrained(wrapped, tmp_path)
        assert torch.equal(load_pretrained(tmp_path)(image(model)), model(image(model)))


def test_a_model_on_its_way(tmp_path):
    """In training, with gradients, partly in other memory orders; nothing of it is changed."""
    model = odd(parts=FAST).train().to(memory_format=torch.channels_last)
    model(image(model)).sum().backward()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    save_pretrained(model, tmp_path)
    assert model.training
    torch.testing.assert_close(dict(model.state_dict()), before, rtol=0, atol=0)
    torch.testing.assert_close(load_pretrained(tmp_path).state_dict(), model.state_dict(), rtol=0, atol=0)


def test_the_files(tmp_path):
    model = odd(parts=FAST)
    save_pretrained(model, tmp_path)
    save_pretrained(model, tmp_path)  # what is there is replaced
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]
    described = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    assert described["model_type"] == "segformer_edu"
    assert described["segformer_edu"] == json.loads(json.dumps(model.config.to_dict()))
    with safe_open(tmp_path / "model.safetensors", framework="pt") as file:
        assert json.loads(file.metadata()["segformer_edu"]) == described["segformer_edu"]
        assert set(file.keys()) == set(model.state_dict())


def test_small_and_plain_agree(tmp_path):
    """What a fast model wrote, the plain one reads, and the other way round."""
    for parts, other in ((FAST, PAPER), (PAPER, FAST)):
        model = drawn(Segformer(**SMALL, parts=parts))
        save_pretrained(model, tmp_path)
        again = load_pretrained(tmp_path, parts=other)
        assert again.config == replace(model.config, dialect=other.dialect)
        torch.testing.assert_close(again(image(model)), model(image(model)), rtol=1e-4, atol=1e-5)


def test_what_transformers_trains_further_is_what_it_then_is(tmp_path):
    """It carries unknown keys of config.json along; a record there would outlive its truth."""
    model = drawn(se.segformer_b0(5))
    with pytest.warns(UserWarning, match="its logits will differ a little"):
        save_pretrained(model, tmp_path / "ours", format="huggingface")
    theirs = SegformerForSemanticSegmentation.from_pretrained(
        tmp_path / "ours", num_labels=4, ignore_mismatched_sizes=True
    )
    theirs.save_pretrained(tmp_path / "theirs")
    again, x = load_pretrained(tmp_path / "theirs"), image(model)
    assert (again.config.norm_eps, again.num_classes) == (FIVE, 4)
    with torch.no_grad():
        torch.testing.assert_close(again(x), theirs.eval()(x).logits, rtol=1e-4, atol=1e-5)


def test_tied_weights(tmp_path):
    model = odd(parts=FAST)
    blocks = model.mit.stages[3].blocks
    blocks[1].attention.to_q.weight = blocks[2].attention.to_q.weight
    save_pretrained(drawn(model), tmp_path)
    assert torch.equal(load_pretrained(tmp_path)(image(model)), model(image(model)))


def test_what_cannot_be_written_leaves_what_was_there(tmp_path):
    model = drawn(odd(parts=FAST))
    save_pretrained(model, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(UnicodeEncodeError):
        save_pretrained(odd(parts=FAST, class_names=("a", "b", "c", "d", "\ud800")), tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_files_of_two_models_in_one_folder(tmp_path):
    save_pretrained(odd(), tmp_path)
    other = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    other["segformer_edu"]["heads"] = [1, 1, 1, 1]
    (tmp_path / "config.json").write_text(json.dumps(other), encoding="utf-8-sig")
    with pytest.raises(ValueError, match=r"have records of two models: heads \[1, 1, 1, 1\] and \[3, 2, 4, 5\]"):
        load_pretrained(tmp_path)


def edit(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes))


@pytest.fixture(params=[NAMES, None], ids=["names", "no names"])
def hugging_faces(request, tmp_path):
    save_pretrained(odd(parts=PAPER.with_norm_eps(FIVE), class_names=request.param), tmp_path, "huggingface")
    return tmp_path


def test_what_may_be_edited_in_hugging_faces_form(hugging_faces):
    """As in this library's form, and as transformers follows it."""
    labels = dict(zip("01234", "vwxyz"))
    edit(hugging_faces, id2label=labels, drop_path_rate=0.4, classifier_dropout_prob=0.3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        config = load_pretrained(hugging_faces).config
    assert (config.class_names, config.drop_path, config.dropout) == (tuple("vwxyz"), 0.4, 0.3)
    assert config.class_names == tuple(
        SegformerForSemanticSegmentation.from_pretrained(hugging_faces).config.id2label.values()
    )


def test_no_names_any_more(hugging_faces):
    edit(hugging_faces, id2label={str(number): f"LABEL_{number}" for number in range(5)})
    assert load_pretrained(hugging_faces).class_names is None


def test_names_of_other_classes(hugging_faces):
    edit(hugging_faces, id2label={"0": "road"})
    with pytest.warns(UserWarning, match=r"id2label in config\.json has no name for 1, no name for 2"):
        assert load_pretrained(hugging_faces).class_names == tuple(f"class {number}" for number in range(5))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("num_attention_heads", [1, 1, 1, 1]),
        ("num_attention_heads", 2),
        ("hidden_sizes", [12, 20, 24, 60]),
        ("depths", [1, 1, 1, 1]),
        ("decoder_hidden_size", 20),
        ("hidden_act", "relu"),
    ],
)
def test_what_contradicts_the_record_in_hugging_faces_form(hugging_faces, name, value):
    edit(hugging_faces, **{name: value})
    with pytest.raises(ValueError, match=rf"config\.json says {name} .*, the weights beside it need .*of two models"):
        load_pretrained(hugging_faces)


def test_a_classifiers_names_are_edited(tmp_path):
    save_pretrained(build_classifier("b0", 3, norm_eps=FIVE), tmp_path, "huggingface")
    edit(tmp_path, id2label=dict(zip("012", "xyz")))
    assert load_pretrained(tmp_path).class_names == ("x", "y", "z")
    edit(tmp_path, num_attention_heads=[1, 1, 1, 1])
    with pytest.raises(ValueError, match="num_attention_heads"):
        load_pretrained(tmp_path)


@pytest.mark.parametrize("inside", ["", "run", "run/model"])
@pytest.mark.parametrize("form", ["segformer_edu", "huggingface"])
def test_a_folder_that_is_a_file(tmp_path, inside, form):
    file = tmp_path / "model.pt"
    file.write_bytes(b"kept")
    model = odd(parts=PAPER.with_norm_eps(FIVE))
    with pytest.raises(OSError, match=r"model\.pt is no folder, and the model's files need one.*Give another name"):
        save_pretrained(model, file / inside, form)
    assert file.read_bytes() == b"kept"


@pytest.mark.parametrize("room", [0, 1000, 20_000])
@pytest.mark.parametrize("form", ["segformer_edu", "huggingface"])
def test_a_full_disk(tmp_path, room, form):
    """A limit on the size of files stands for it."""
    resource = pytest.importorskip("resource")  # which Windows has not
    save_pretrained(odd(), tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    model, limits = odd(parts=PAPER.with_norm_eps(FIVE)), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
    try:
        with pytest.raises(OSError, match=r"model\.safetensors could not be written .* room on the disk for 0\.\d MB"):
            save_pretrained(model, tmp_path, form)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
