"""Weights from files: recognised, whole, or refused with a reason."""

from __future__ import annotations

import pytest
import segformer_pytorch
import torch
from samples import SMALL, noise, shaken

from segformer_edu import Segformer, convert_state_dict, load_pretrained

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
    again = load_pretrained(str(tmp_path / "own.pt"), heads=HEADS)
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
    with pytest.warns(UserWarning, match="has 5 classes; the last layer is drawn anew for 3"):
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
    with pytest.raises(ValueError, match=r"are of no known format; expected those of a SegFormer"):
        convert_state_dict(names)


@pytest.mark.parametrize("thing", [[1], {"a": 3}, None])
def test_no_state_dict(thing):
    with pytest.raises(TypeError, match="expected a state dict"):
        convert_state_dict(thing)


def test_wrong_heads(file):
    with pytest.raises(ValueError, match="cannot be shared by heads"):
        load_pretrained(file, heads=(1, 2, 5, 8))
