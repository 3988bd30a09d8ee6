"""Weights from files: recognised, whole, or refused with a reason."""

from __future__ import annotations

import dataclasses
import json
import warnings
from functools import partial

import published
import pytest
import segformer_pytorch
import torch
from published import classifier, segmenter
from samples import SMALL, noise, shaken
from transformers import SegformerConfig, SegformerForSemanticSegmentation

from segformer_edu import (
    FAST,
    PAPER,
    SKETCH,
    FastSegformerHead,
    ImageClassifier,
    NormEps,
    Segformer,
    SegformerHead,
    convert_state_dict,
    load_pretrained,
    mit_b0,
    segformer_b0,
)
from segformer_edu.pretrained.load import variant_of
from segformer_edu.training import Recipe, fit

OPTIONS = SMALL | {"decoder_dim": 16, "num_classes": 5, "channels": 4}
HEADS = SMALL["heads"]


@pytest.fixture
def theirs():
    torch.manual_seed(0)
    return shaken(segformer_pytorch.Segformer(**OPTIONS)).eval()


@pytest.fixture
def file(theirs, tmp_path):
    path = tmp_path / "weights.pt"
    torch.save(theirs.state_dict(), path)
    return path


def test_loads_lucidrains(theirs, file):
    model = load_pretrained(file, heads=HEADS)
    x = noise(2, 4, 64, 64)
    torch.testing.assert_close(model(x), theirs(x), atol=1e-5, rtol=0)
    assert not model.training
    assert convert_state_dict(theirs.state_dict()).format == "lucidrains"


def test_loads_its_own(tmp_path):
    model = shaken(Segformer(**OPTIONS)).eval()
    torch.save({"state_dict": model.state_dict(), "step": 3}, tmp_path / "own.pt")
    again = load_pretrained(str(tmp_path / "own.pt"))
    x = noise(1, 4, 40, 56)
    assert torch.equal(again(x), model(x))
    assert convert_state_dict(model.state_dict()).format == "segformer_edu"


def test_the_articles_two_projections(theirs):
    """The article has to_k and to_v where the package has to_kv."""
    listed = {}
    for name, value in theirs.state_dict().items():
        if name.endswith("to_kv.weight"):
            listed[name.replace("to_kv", "to_k")], listed[name.replace("to_kv", "to_v")] = value.chunk(2)
        else:
            listed[name] = value
    expected = convert_state_dict(theirs.state_dict())
    converted = convert_state_dict(listed)
    assert converted.keys() == expected.keys()
    assert all(torch.equal(converted[name], expected[name]) for name in expected)


def test_another_number_of_classes(theirs, file):
    with pytest.warns(UserWarning, match="the file has 5 classes; the last layer is drawn anew for 3"):
        model = load_pretrained(file, num_classes=3, heads=HEADS)
    assert model(noise(1, 4, 32, 32)).shape == (1, 3, 8, 8)
    kept = convert_state_dict(theirs.state_dict())
    for name, value in model.state_dict().items():
        assert name.startswith("decoder.to_segmentation.1.") or torch.equal(value, kept[name])


def test_dense_weights_of_the_articles_listing_do_not_fit(theirs, tmp_path):
    """Without `groups`, its depthwise weights are (C, C, 3, 3): another function, so it is refused."""
    state = theirs.state_dict()
    name = "mit.stages.0.2.0.1.fn.net.1.net.0.weight"
    state[name] = state[name].expand(-1, state[name].shape[0], -1, -1).clone()
    torch.save(state, tmp_path / "dense.pt")
    with pytest.raises(ValueError, match=r"(?s)does not fit.*net\.0\.weight"):
        load_pretrained(tmp_path / "dense.pt", heads=HEADS)


@pytest.mark.parametrize("lost", ["to_segmentation.1.weight", "mit.stages.2.2.0.1.norm.b", "mit.stages.3.1.weight"])
def test_incomplete(theirs, tmp_path, lost):
    state = theirs.state_dict()
    del state[lost]
    torch.save(state, tmp_path / "part.pt")
    with pytest.raises(ValueError, match=r"lacks|does not fit"):
        load_pretrained(tmp_path / "part.pt", heads=HEADS)


def test_truncated(file):
    file.write_bytes(file.read_bytes()[:5000])
    with pytest.raises(ValueError, match=r"5000 bytes\): truncated, corrupt"):
        load_pretrained(file)


def test_a_pickle_that_runs_code_is_refused(tmp_path):
    class Runs:
        def __reduce__(self):
            return (print, ("ran",))

    torch.save({"to_fused.0.0.weight": Runs()}, tmp_path / "bad.pt")
    with pytest.raises(ValueError, match="more than tensors"):
        load_pretrained(tmp_path / "bad.pt")


def test_no_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file .*none\.pt"):
        load_pretrained(tmp_path / "none.pt")


@pytest.mark.parametrize("names", [{}, {"backbone.layer1.0.conv1.weight": torch.zeros(1), "fc.bias": torch.zeros(1)}])
def test_unknown_names(names):
    with pytest.raises(ValueError, match=r"no known format: names such as .* in all; expected those of a SegFormer"):
        convert_state_dict(names)


@pytest.mark.parametrize("thing", [[1], {"a": 3}, None])
def test_no_state_dict(thing):
    with pytest.raises(TypeError, match="expected a state dict"):
        convert_state_dict(thing)


def test_wrong_heads(file):
    with pytest.raises(ValueError, match="cannot be shared by heads"):
        load_pretrained(file, heads=(1, 2, 5, 8))


@pytest.fixture
def folder(tmp_path):
    segmenter(published.SMALL).save_pretrained(tmp_path / "folder")
    return tmp_path / "folder"


def change(folder, **entries):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))


def test_nothing_is_said_where_nothing_is_new(folder):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_pretrained(folder)
        load_pretrained(folder, num_classes=7)


def test_published_weights_with_other_classes(folder):
    whole = load_pretrained(folder).state_dict()
    with pytest.warns(UserWarning, match=r"folder: the file has 7 classes; the last .* for 3\.") as said:
        model = load_pretrained(folder, num_classes=3)
    assert said[0].filename == __file__
    assert model(noise(1, 3, 32, 32)).shape == (1, 3, 8, 8)
    assert model.num_classes == 3
    for name, value in model.state_dict().items():
        assert name.startswith("decoder.classify.") or torch.equal(value, whole[name])
    assert 0 < model.decoder.classify.weight.std() < 1


@pytest.mark.parametrize("wrong", [0, -1, 2.5, "3", True])
def test_classes_that_are_no_number_of_classes(folder, wrong):
    with pytest.raises((TypeError, ValueError), match="num_classes"):
        load_pretrained(folder, num_classes=wrong)


def test_encoder_with_a_classifier_of_images(tmp_path):
    torch.save(published.nvlabs(classifier({}, num_labels=1000).state_dict()), tmp_path / "mit_b0.pth")
    for num_classes in (None, 1000):
        model = load_pretrained(tmp_path / "mit_b0.pth", num_classes)
        assert isinstance(model, ImageClassifier)
        assert model.state_dict().keys() == mit_b0().state_dict().keys()
    words = r"no decoder \(its classifier of whole images, 1000 classes, is left out\); one of width 256 .* 11 classes"
    with pytest.warns(UserWarning, match=words):
        fresh = load_pretrained(tmp_path / "mit_b0.pth", num_classes=11)
    assert fresh.state_dict().keys() == segformer_b0(11).state_dict().keys()
    assert all(torch.equal(value, model.mit.state_dict()[name]) for name, value in fresh.mit.state_dict().items())
    assert (fresh.decoder.norm.running_var == 1).all()
    assert fresh.decoder.fuse.weight.std().item() == pytest.approx((2 / 256) ** 0.5, rel=0.02)  # as a fresh model's


def test_encoder_alone(tmp_path):
    torch.save(published.mmsegmentation(segmenter(published.VARIANTS["b2"]).state_dict()), tmp_path / "mit_b2.pth")
    with pytest.raises(ValueError, match=r"mit_b2\.pth: an encoder alone.*load_pretrained\(source, num_classes=…\)"):
        load_pretrained(tmp_path / "mit_b2.pth")
    with pytest.warns(UserWarning, match="no decoder; one of width 768 is drawn anew for 5 classes"):
        model = load_pretrained(tmp_path / "mit_b2.pth", num_classes=5)
    assert model.decoder.classify.in_channels == 768
    assert not model.training


def test_fresh_decoder_comes_from_the_seed(tmp_path):
    torch.save(published.nvlabs(classifier(published.SMALL).state_dict()), tmp_path / "mit.pth")
    drawn = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        with pytest.warns(UserWarning, match="no decoder"):
            drawn.append(load_pretrained(tmp_path / "mit.pth", num_classes=4).decoder.fuse.weight)
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_a_model_from_weights_learns_as_a_fresh_one(folder, tmp_path):
    """Drop path rises with the depth, and every parameter takes gradients."""
    segmenter({}).save_pretrained(tmp_path)
    change(tmp_path, drop_path_rate=0.1)  # as the published folders say
    model, fresh = load_pretrained(tmp_path), segformer_b0(7)
    rates = [[module.rate for module in each.modules() if hasattr(module, "rate")] for each in (model, fresh)]
    assert rates[0] == rates[1]
    assert max(rates[0]) == pytest.approx(0.1)
    assert model.decoder.fuse.weight.stride() == fresh.decoder.fuse.weight.stride()  # channels last
    model.train()(noise(2, 3, 64, 64)).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_heads_from_the_configuration(tmp_path):
    options = published.SMALL | {"hidden_sizes": [8, 12, 20, 24], "num_attention_heads": [4, 3, 2, 1]}
    theirs = segmenter(options)
    theirs.save_pretrained(tmp_path)
    x = noise(1, 3, 64, 64)
    with torch.no_grad():
        expected = theirs(x).logits
        torch.testing.assert_close(load_pretrained(tmp_path)(x), expected, atol=1e-5, rtol=1e-5)
        by_hand = load_pretrained(tmp_path / "model.safetensors", heads=(4, 3, 2, 1))
        torch.testing.assert_close(by_hand(x), expected, atol=1e-5, rtol=1e-5)
        assert (load_pretrained(tmp_path, heads=(1, 1, 1, 1))(x) - expected).abs().max() > 1e-3
    with pytest.raises(ValueError, match=r"model\.safetensors: dim=24 cannot be shared by heads=|dim=12 .* heads="):
        load_pretrained(tmp_path / "model.safetensors", heads=(1, 5, 2, 1))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("depths", [3, 4, 6, 3]),
        ("hidden_sizes", [64, 128, 320, 512]),
        ("sr_ratios", [8, 4, 2, 1]),
        ("mlp_ratios", [4, 4, 4, 4]),
        ("num_channels", 4),
        ("decoder_hidden_size", 768),
        ("strides", [4, 2, 2, 1]),
        ("hidden_act", "relu"),
    ],
)
def test_configuration_of_another_variant(folder, name, value):
    change(folder, **{name: value})
    with pytest.raises(ValueError, match=rf"config\.json says {name} .*, the weights beside it need"):
        load_pretrained(folder)


def test_configuration_of_another_library_is_not_read(folder):
    expected = load_pretrained(folder).state_dict()
    change(folder, model_type="other", depths=[9], num_attention_heads=12)
    torch.testing.assert_close(load_pretrained(folder).state_dict(), expected, rtol=0, atol=0)


def test_broken_configuration(folder):
    (folder / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config\.json is no JSON"):
        load_pretrained(folder)


PARTS = ("background", "neck", "skin", "left brow", "right brow", "left eye", "nose")


def test_names_of_the_classes(folder, tmp_path):
    """JSON's keys are strings, in any order; the names are not always neat."""
    entries = {str(number): f" {name}\n" for number, name in enumerate(PARTS)}
    change(folder, id2label=dict(sorted(entries.items(), reverse=True)))
    assert load_pretrained(folder).class_names == PARTS
    assert load_pretrained(folder, num_classes=7).class_names == PARTS
    assert load_pretrained(folder / "model.safetensors").class_names is None
    with pytest.warns(UserWarning, match="drawn anew for 3"):
        assert load_pretrained(folder, num_classes=3).class_names is None
    change(folder, model_type="other")
    assert load_pretrained(folder).class_names is None
    assert segformer_b0().class_names is None


def test_names_that_transformers_wrote(tmp_path):
    """More than ten, which strings sort in another order than numbers."""
    names = tuple(f"part {number}" for number in range(19))
    config = SegformerConfig(**published.SMALL, id2label=dict(enumerate(names)))
    SegformerForSemanticSegmentation(config).save_pretrained(tmp_path)
    assert load_pretrained(tmp_path).class_names == names


def test_classes_of_an_image_classifier(tmp_path):
    theirs = classifier(published.SMALL, num_labels=3)
    theirs.config.id2label = {0: "crane", 1: "tench, Tinca tinca", 2: "crane"}
    theirs.save_pretrained(tmp_path)
    assert load_pretrained(tmp_path).class_names == ("crane (0)", "tench, Tinca tinca", "crane (2)")
    with pytest.warns(UserWarning, match="is left out"):
        assert load_pretrained(tmp_path, num_classes=5).class_names is None
    assert mit_b0().class_names is None


@pytest.mark.parametrize("told", [None, {}, {str(n): f"LABEL_{n}" for n in range(7)}, {"0": "LABEL_0", "1": "LABEL_1"}])
def test_names_that_tell_nothing(folder, told):
    change(folder, id2label=told)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_pretrained(folder).class_names is None


NAMED = {str(number): name for number, name in enumerate(PARTS)}


@pytest.mark.parametrize(
    ("told", "wrong"),
    [
        ({number: name for number, name in NAMED.items() if number != "2"}, "no name for 2"),
        (NAMED | {"7": "more", "9": "more"}, "one for 7, one for 9"),
        (NAMED | {"1": " ", "3": None}, "no name for 1, no name for 3"),
        ({str(int(number) + 1): name for number, name in NAMED.items()}, "no name for 0, one for 7"),
        ({name: number for number, name in NAMED.items()}, "no name for 0, no name for 1, .*no name for 3, …"),
        (list(PARTS), "no name for 0, no name for 1, .*no name for 3, …"),
        ("labels.json", "no name for 0, no name for 1, .*no name for 3, …"),
    ],
)
def test_names_that_do_not_fit(folder, told, wrong):
    change(folder, id2label=told)
    words = rf"folder: id2label in config\.json has {wrong}; expected names for 0 to 6, the classes of these weights\."
    with pytest.warns(UserWarning, match=words) as said:
        model = load_pretrained(folder)
    assert said[0].filename == __file__
    assert model.class_names == tuple(f"class {number}" for number in range(7))


def saved(tmp_path, change_state):
    state = published.nvlabs(segmenter(published.SMALL).state_dict())
    change_state(state)
    torch.save(state, tmp_path / "changed.pth")
    return tmp_path / "changed.pth"


@pytest.mark.parametrize(
    "lost",
    [
        "backbone.block3.0.norm1.weight",
        "backbone.patch_embed1.proj.weight",
        "backbone.norm4.bias",
        "backbone.block1.0.attn.sr.weight",
        "decode_head.linear_fuse.bn.running_var",
        "decode_head.linear_pred.weight",
        "decode_head.linear_c2.proj.bias",
    ],
)
def test_a_name_is_missing(tmp_path, lost):
    path = saved(tmp_path, lambda state: state.pop(lost))
    with pytest.raises(
        ValueError, match=r"changed\.pth: it (does not fit .*: it (lacks|has) .*incomplete|lacks '(mit|decoder)\.)"
    ):
        load_pretrained(path)


def misshapen(value):
    """The same numbers, or some of them, in shapes that they should not have."""
    yield torch.tensor(1.0)
    yield value[:0]
    yield value[None]
    yield value[:1].clone() if value.shape[0] > 1 else torch.cat([value, value])
    yield value.flatten() if value.ndim > 1 else value[:, None]


def test_any_one_shape_is_wrong(tmp_path):
    """Whatever is wrong with one entry: the error says which file, and nothing else is raised."""
    state = published.nvlabs(segmenter(published.SMALL | {"depths": [1, 1, 1, 1]}).state_dict())
    path = tmp_path / "odd.pth"
    for index, (name, value) in enumerate(state.items()):
        if "num_batches" in name or "conv_seg" in name:
            continue
        for wrong in list(misshapen(value))[index % 2 :: 2]:
            torch.save(state | {name: wrong}, path)
            with pytest.raises(ValueError, match=r"odd\.pth:"):
                load_pretrained(path)


def test_eps_can_be_given(folder, tmp_path):
    """A bare dict of this library's names says neither eps nor heads; a state dict says both."""
    state = load_pretrained(folder).state_dict()
    torch.save(state, tmp_path / "own.pt")
    torch.save(dict(state), tmp_path / "bare.pt")
    x = 1e-4 * noise(1, 3, 64, 64)
    expected = load_pretrained(folder)(x)
    eps, heads = NormEps(1e-5, 1e-5, 1e-5, 1e-5), load_pretrained(folder).config.heads
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(load_pretrained(tmp_path / "own.pt")(x), expected)
        assert torch.equal(load_pretrained(tmp_path / "bare.pt", heads=heads, norm_eps=eps)(x), expected)
    assumed = r"bare\.pt: the file does not say everything; assumed: heads=\(1, 2, 5, 8\).* and norm_eps=NormEps"
    with pytest.warns(UserWarning, match=assumed) as said:
        assert not torch.equal(load_pretrained(tmp_path / "bare.pt")(x), expected)
    assert said[0].filename == __file__


def test_checkpoint_of_a_training(tmp_path):
    model = Segformer(**OPTIONS | {"channels": 3})
    pair = torch.zeros(3, 32, 32), torch.ones(32, 32, dtype=torch.long)
    fit(model, [pair], Recipe(steps=1, batch_size=1), checkpoint=tmp_path / "run.pt", progress=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = load_pretrained(tmp_path / "run.pt")
    assert again.config == model.config
    assert torch.equal(again(noise(1, 3, 32, 32)), model.eval()(noise(1, 3, 32, 32)))


def test_number_of_batches_is_not_needed(tmp_path):
    path = saved(tmp_path, lambda state: state.pop("decode_head.linear_fuse.bn.num_batches_tracked"))
    assert load_pretrained(path).decoder.norm.num_batches_tracked == 0


def test_half_a_file(tmp_path):
    def halve(state):
        for name in list(state)[: len(state) // 2]:
            del state[name]

    with pytest.raises(ValueError, match=r"changed\.pth: it lacks 'mit\.stages\.0.*names of NVlabs"):
        load_pretrained(saved(tmp_path, halve))


def test_a_stage_of_another_variant(tmp_path):
    def swap(state):
        other = published.nvlabs(segmenter(published.SMALL | {"hidden_sizes": [8, 16, 40, 48]}).state_dict())
        state.update({name: value for name, value in other.items() if ".block3." in name})

    expected = r"does not fit .* shapes describe \(no published size: dims \(8, 16, 30, 48\).*of shape .* more"
    with pytest.raises(ValueError, match=expected):
        load_pretrained(saved(tmp_path, swap))


def test_a_block_in_the_middle_is_missing(tmp_path):
    def lose(state):
        for name in [name for name in state if ".block2.0." in name]:
            del state[name]

    with pytest.raises(ValueError, match=r"changed\.pth"):
        load_pretrained(saved(tmp_path, lose))


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (float("nan"), "holds NaN or infinite"),
        (float("inf"), "holds NaN or infinite"),
        (None, r"is torch\.int8; expected floating point"),
    ],
)
def test_numbers_that_are_none(tmp_path, value, reason):
    def spoil(state):
        name = "backbone.block1.0.mlp.fc1.weight"
        if value is None:
            state[name] = state[name].to(torch.int8)
        else:
            state[name][0, 0] = value

    with pytest.raises(ValueError, match=rf"mit\.stages\.0\.blocks\.0\.feed_forward\.widen\.weight {reason}"):
        load_pretrained(saved(tmp_path, spoil))


def test_half_precision_becomes_single(tmp_path):
    def halve(state):
        state.update({name: value.half() for name, value in state.items() if value.is_floating_point()})

    model = load_pretrained(saved(tmp_path, halve))
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert model(noise(1, 3, 32, 32)).isfinite().all()


@pytest.mark.parametrize("variant", published.VARIANTS)
def test_variants_are_recognised(variant):
    options = published.VARIANTS[variant]
    config = mit_b0().config
    sizes = {"dims": config.dims, "num_layers": config.num_layers}
    sizes |= {"dims": tuple(options["hidden_sizes"])} if "hidden_sizes" in options else {}
    sizes |= {"num_layers": tuple(options["depths"])} if "depths" in options else {}
    assert variant_of(dataclasses.replace(config, **sizes)) == variant
    assert variant_of(dataclasses.replace(config, **sizes, decoder_dim=77)) is None


def test_own_models_of_the_paper(tmp_path):
    for model in (shaken(segformer_b0(3)).eval(), shaken(mit_b0(3)).eval()):
        torch.save(model.state_dict(), tmp_path / "own.pt")
        again = load_pretrained(tmp_path / "own.pt")
        x = noise(1, 3, 40, 50)
        assert type(again) is type(model)
        assert torch.equal(again(x), model(x))


# What travels with the weights, and what has to be assumed


@pytest.mark.parametrize("heads", [(1, 1, 1, 1), (2, 2, 6, 4), (4, 8, 8, 8)])
@pytest.mark.parametrize("parts", [SKETCH, PAPER], ids=["sketch", "paper"])
def test_a_file_of_a_state_dict_gives_the_same_function(tmp_path, parts, heads):
    """Heads and eps, which no shape shows; in a file of the state dict, of a training, behind another module's name."""
    eps = NormEps(blocks=1e-2) if parts is SKETCH else NormEps(1e-2, 1e-3, 1e-4, 0.1)
    options = SMALL | {"heads": heads, "parts": parts.with_norm_eps(eps), "class_names": ("a", "b", "c")}
    model = shaken(Segformer(**options, num_classes=3)).eval()
    wrapped = torch.nn.DataParallel(model)
    files = {
        "own": model.state_dict(),
        "run": {"epoch": 3, "model_state": model.state_dict(), "optimizer": {}},
        "net": {"net": wrapped.state_dict()},
        "nested": {"network": {"state_dict": model.state_dict()}},
        "bare": {"state_dict": dict(model.state_dict()), "config": model.config.to_dict()},
        "averaged": torch.optim.swa_utils.AveragedModel(model).state_dict(),
    }
    x = noise(1, 3, 40, 50)
    for name, content in files.items():
        torch.save(content, tmp_path / f"{name}.pt")
        with warnings.catch_warnings():
            warnings.simplefilter("default" if name == "averaged" else "error")
            again = load_pretrained(tmp_path / f"{name}.pt", parts=PAPER)
        assert again.config == model.config
        assert torch.equal(again(x), model(x))


@pytest.mark.parametrize(
    "extras",
    [
        {"criterion.weight": torch.ones(7)},
        {"n_averaged": torch.tensor(3)},
        {"train_iou.confmat": torch.zeros(7, 7, dtype=torch.long), "val_metrics.accuracy.tp": torch.zeros(7)},
        {"loss_fn.lpips.net.0.weight": torch.zeros(3, 3, 3, 3)},
        {"backbone.block1.0.mlp.fc1.total_ops": torch.zeros(1)},
        {"ema.decay": torch.tensor(0.9)},
    ],
    ids=lambda extras: next(iter(extras)),
)
@pytest.mark.parametrize("prefix", ["", "model.", "module."])
def test_what_training_leaves_beside_a_model_is_left_out(tmp_path, extras, prefix):
    theirs = segmenter(published.SMALL)
    state = published.nvlabs(theirs.state_dict())
    names = {f"{prefix}{name}": value for name, value in state.items()} | extras
    torch.save({"state_dict": names}, tmp_path / "last.ckpt")
    with pytest.warns(UserWarning, match=rf"last\.ckpt: Left out, as no part of the model: {sorted(extras)[0]}"):
        model = load_pretrained(tmp_path / "last.ckpt", heads=(1, 2, 5, 8))
    with pytest.warns(UserWarning, match="Left out") as said:
        converted = convert_state_dict(names)
    assert said[0].filename == __file__
    torch.testing.assert_close(model.state_dict(), dict(converted), rtol=0, atol=0)


@pytest.mark.parametrize(
    "strangers",
    [
        {"decode_head.extra.weight": torch.zeros(3, 3)},
        {"auxiliary_head.conv.weight": torch.zeros(3, 3)},
        {"backbone.block1.0.mlp.fc3.bias": torch.zeros(3)},
        {"teacher.backbone.norm1.weight": torch.zeros(8)},
        {"mean": torch.zeros(3, 3)},
        {"std": torch.zeros(1, 300, 1, 1)},
        {"backbone.block1.0.mean": torch.zeros(3, 1, 1)},
    ],
    ids=lambda strangers: next(iter(strangers)),
)
def test_what_could_be_a_part_of_the_model_is_not_left_out(strangers):
    state = published.nvlabs(segmenter(published.SMALL).state_dict())
    with pytest.raises(ValueError, match=f"1 of {len(state) + 1} are not: {next(iter(strangers))}"):
        convert_state_dict(state | strangers)


ROW = torch.tensor([0.5, 0.25, 0.1])


@pytest.mark.parametrize("shape", [(3,), (3, 1, 1), (1, 3, 1, 1)], ids=str)
@pytest.mark.parametrize("names", [("mean", "std"), ("pixel_mean", "pixel_std"), ("normalize.mean", "normalize.std")])
@pytest.mark.parametrize("prefix", ["", "model."])
def test_the_normalisation_beside_a_model_is_told(tmp_path, shape, names, prefix):
    """As tutorials keep it, in buffers of the module around a model."""
    state = published.nvlabs(segmenter(published.SMALL).state_dict())
    for place in {"", prefix}:
        entries = {f"{prefix}{name}": value for name, value in state.items()}
        entries |= {f"{place}{name}": ROW.reshape(shape) for name in names}
        torch.save({"state_dict": entries}, tmp_path / "last.ckpt")
        with pytest.warns(
            UserWarning, match=rf"part of the model: .*{names[0]} holds 0\.5, 0\.25, 0\.1; .*set model\.im"
        ):
            assert load_pretrained(tmp_path / "last.ckpt", heads=(1, 2, 5, 8)).image_mean is None


@pytest.mark.parametrize("name", published.EPS)
def test_heads_that_no_file_tells_are_said(tmp_path, name):
    state = getattr(published, name)(segmenter(published.SMALL).state_dict())
    torch.save(state, tmp_path / "weights.pth")
    with pytest.warns(
        UserWarning, match=r"weights\.pth: the file does not say everything; assumed: heads=\(1, 2, 5, 8\)"
    ):
        load_pretrained(tmp_path / "weights.pth", num_classes=7)


def test_parts(folder):
    """The same file, computed plainly and fast; another model's leaves are refused."""
    fast, plain = load_pretrained(folder), load_pretrained(folder, parts=PAPER)
    assert (type(fast.decoder), type(plain.decoder)) == (FastSegformerHead, SegformerHead)
    x = noise(1, 3, 64, 50)
    torch.testing.assert_close(fast(x), plain(x), rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match=r"weights of the paper's model, and parts=SKETCH is another"):
        load_pretrained(folder, parts=SKETCH)


def test_a_model_of_parts_of_its_own(tmp_path):
    own = dataclasses.replace(SKETCH, stage_norm=torch.nn.BatchNorm2d)
    model = Segformer(**SMALL, parts=own).eval()
    torch.save(torch.nn.DataParallel(model).state_dict(), tmp_path / "own.pt")
    with pytest.raises(ValueError, match=r"parts of its own, which no file holds; give the same"):
        load_pretrained(tmp_path / "own.pt")
    again = load_pretrained(tmp_path / "own.pt", parts=own)
    assert torch.equal(again(noise(1, 3, 40, 40)), model(noise(1, 3, 40, 40)))


# Channels


@pytest.mark.parametrize("name", ["nvlabs", "lucidrains"])
@pytest.mark.parametrize("channels", [1, 2, 4, 6])
def test_other_channels(tmp_path, name, channels):
    model = shaken(Segformer(**SMALL, parts=SKETCH if name == "lucidrains" else FAST)).eval()
    torch.save(model.state_dict(), tmp_path / "own.pt")
    with pytest.warns(UserWarning, match=rf"the file takes 3 channels; .* {channels}") as said:
        adapted = load_pretrained(tmp_path / "own.pt", channels=channels)
    assert said[0].filename == __file__
    assert adapted.config.channels == channels
    if channels > 3:  # what is more changes nothing at first, and learns
        x = noise(2, channels, 40, 50)
        torch.testing.assert_close(adapted(x), model(x[:, :3]), rtol=1e-4, atol=1e-5)
        adapted(x).square().mean().backward()
        first = next(iter(adapted.mit.parameters()))
        assert first.grad[:, 3:].abs().max() > 0
    else:  # as if the mean of the channels were shown in all three
        x = noise(2, 1, 40, 50).expand(-1, channels, -1, -1)
        torch.testing.assert_close(adapted(x), model(x[:, :1].expand(-1, 3, -1, -1)), rtol=1e-4, atol=1e-5)


def test_channels_and_classes_together(folder):
    with pytest.warns(UserWarning, match="the file takes 3 channels|the file has 7 classes") as said:
        model = load_pretrained(folder, 3, channels=4)
    assert len(said) == 2
    assert model(noise(1, 4, 64, 64)).shape == (1, 3, 16, 16)
    with pytest.raises(ValueError, match="channels is 0"):
        load_pretrained(folder, channels=0)


class Nearest(SegformerHead):
    """A decoder of one's own, with other layers."""

    def __init__(self, *, dims: tuple[int, ...], decoder_dim: int, num_classes: int) -> None:
        super().__init__(dims=dims, decoder_dim=decoder_dim, num_classes=num_classes)
        self.extra = torch.nn.Conv2d(num_classes, num_classes, 3, padding=1)

    def forward(self, layer_outputs: list[torch.Tensor]) -> torch.Tensor:
        return self.extra(super().forward(layer_outputs))


@pytest.mark.parametrize("classes", [3, 7])
def test_a_decoder_of_ones_own_on_published_weights(folder, classes):
    """The experiment that a new decoder is made for: the encoder's weights stay, the decoder is drawn anew."""
    with pytest.warns(UserWarning, match=rf"the file has another decoder; one of width 20 is drawn anew for {classes}"):
        model = load_pretrained(folder, classes, parts=dataclasses.replace(FAST, decoder=Nearest))
    assert type(model.decoder) is Nearest
    assert model(noise(1, 3, 64, 64)).shape == (1, classes, 16, 16)
    known = load_pretrained(folder).mit.state_dict()
    assert all(torch.equal(value, known[name]) for name, value in model.mit.state_dict().items())


def test_names_of_the_classes_that_are_to_be_learned(folder):
    with pytest.warns(UserWarning, match="the file has 7 classes"):
        assert load_pretrained(folder, 2, class_names=("crack", "none")).class_names == ("crack", "none")
    with pytest.raises(ValueError, match=r"3 class_names; expected 7"):
        load_pretrained(folder, class_names=("a", "b", "c"))


def test_parts_of_ones_own_keep_what_no_state_dict_has(tmp_path):
    class Scaled(torch.nn.Identity):
        def __init__(self, dim: int) -> None:
            super().__init__()
            self.register_buffer("scale", torch.full((1,), 0.5), persistent=False)
            self.shift = torch.full((1,), 0.1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.scale * x + self.shift

    own = dataclasses.replace(SKETCH, stage_norm=Scaled)
    model = Segformer(**SMALL, parts=own).eval()
    torch.save(torch.optim.swa_utils.AveragedModel(model).state_dict(), tmp_path / "own.pt")
    with pytest.warns(UserWarning, match="Left out, as no part of the model: n_averaged"):
        again = load_pretrained(tmp_path / "own.pt", parts=own)
    assert torch.equal(again(noise(1, 3, 40, 40)), model(noise(1, 3, 40, 40)))


def test_a_leaf_that_was_given_more_than_eps_is_ones_own(tmp_path):
    reflecting = partial(torch.nn.Conv2d, padding_mode="reflect")
    own = dataclasses.replace(SKETCH, patch_embedding=reflecting)
    model = Segformer(**SMALL, parts=own).eval()
    assert model.config.dialect == "custom"
    torch.save(model.state_dict(), tmp_path / "own.pt")
    with pytest.raises(ValueError, match="parts of its own"):
        load_pretrained(tmp_path / "own.pt")
    again = load_pretrained(tmp_path / "own.pt", 4, parts=own)  # its own number: nothing is drawn anew
    assert torch.equal(again(noise(1, 3, 40, 40)), model(noise(1, 3, 40, 40)))


def test_records_of_two_models_in_one_file(tmp_path):
    """An encoder that was put into another model: one of the records must be wrong."""
    model = Segformer(**SMALL)
    model.mit = Segformer(**SMALL | {"heads": (1, 1, 1, 1)}).mit
    torch.save(model.state_dict(), tmp_path / "own.pt")
    with pytest.raises(ValueError, match=r"own\.pt has records of two models: heads"):
        load_pretrained(tmp_path / "own.pt")


def test_a_compiled_encoder(tmp_path):
    model = shaken(Segformer(**SMALL)).eval()
    expected = model(noise(1, 3, 40, 40))
    model.mit = torch.compile(model.mit, backend="eager")
    torch.save(model.state_dict(), tmp_path / "own.pt")
    assert torch.equal(load_pretrained(tmp_path / "own.pt")(noise(1, 3, 40, 40)), expected)


def test_a_record_of_another_version_does_not_stop_load_state_dict():
    model = Segformer(**SMALL)
    state = model.state_dict()
    for each in state._metadata.values():
        if "config" in each:
            each["config"] = each["config"] | {"new": 1}
    with pytest.warns(UserWarning, match="a record that this version cannot read"):
        model.load_state_dict(state)


@pytest.mark.parametrize(
    "bad", [{"norm_eps": (1e-6, 1e-5, 1e-5)}, {"norm_eps": 1e-6}, {"parts": None}, {"parts": "fast"}], ids=repr
)
def test_options_of_the_wrong_kind(folder, bad):
    with pytest.raises(TypeError, match="expected a Parts, and a NormEps or None"):
        load_pretrained(folder, **bad)


@pytest.mark.parametrize(
    ("bad", "words"), [({"class_names": "abcdefg"}, "class_names"), ({"heads": ()}, "heads"), ({"heads": 0}, "heads")]
)
def test_options_that_describe_no_model(folder, bad, words):
    with pytest.raises(ValueError, match=words):
        load_pretrained(folder, **bad)


@pytest.mark.parametrize("source", ["~nosuchuser/x.pt", "a" * 300 + ".pt"])
def test_names_that_no_file_can_have(source):
    with pytest.raises(FileNotFoundError, match="There is no file"):
        load_pretrained(source)


@pytest.mark.parametrize("eps", [-1, 0, float("nan"), "1e-6", True])
def test_eps_that_is_none(eps):
    with pytest.raises(ValueError, match="expected a small positive number"):
        NormEps(blocks=eps)
