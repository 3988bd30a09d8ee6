# ruff: noqa: E501
"""The capstone: a complete solution, files with one mistake each, and files that misbehave."""

from __future__ import annotations

import random
import re
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import segformer_pytorch
import torch
from chapter_facts import ROOT

import segformer_edu as se
from segformer_edu import checks
from segformer_edu.checks import _guard
from segformer_edu.checks.whole import HINTS, STEPS, lucidrains_file

FILE = Path(__file__).parent / "capstone" / "my_segformer.py"
RIGHT = FILE.read_text(encoding="utf-8")
TITLES = [step.title for step in STEPS]
TOP = "import math\n"


@pytest.fixture
def written(tmp_path):
    """Write a file, and return its path."""

    def write(code):
        path = tmp_path / "my_segformer.py"
        path.write_text(code, encoding="utf-8")
        return path

    return write


def changed(*pairs):
    """The solution with some pieces of its code replaced."""
    code = RIGHT
    for old, new in pairs:
        assert old in code, old
        code = code.replace(old, new)
    return code


def test_a_complete_solution_passes_every_step_and_leaves_all_as_it_was():
    states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate(), set(sys.modules)  # noqa: NPY002
    found = checks.capstone(FILE)
    assert (found.outcome, found.count) == ("right", f"{len(STEPS)} of {len(STEPS)}"), str(found)
    assert f"{len(STEPS)} of {len(STEPS)}" in str(found).splitlines()[0]
    assert torch.equal(states[0], torch.get_rng_state())
    assert (states[1] == np.random.get_state()[1]).all()  # noqa: NPY002
    assert states[2] == random.getstate()
    assert not {name for name in set(sys.modules) - states[3] if "my_segformer" in name}


def test_an_empty_file_has_no_step(written):
    found = checks.capstone(written(""))
    assert (found.count, found.outcome) == (f"0 of {len(STEPS)}", "not written yet")
    assert found.result.exercise == TITLES[0]
    assert found._repr_html_().count("<tr>") >= len(STEPS)


def test_names_come_as_a_file_a_module_or_a_dict(written):
    code = RIGHT.split("class EfficientSelfAttention")[0]
    names = {}
    exec(code, names)
    module = ModuleType("mine")
    vars(module).update(names)
    for answers in (str(written(code)), names, module):
        found = checks.capstone(answers)
        assert (found.right, found.outcome) == (3, "not written yet"), str(found)
        assert found.result.exercise == TITLES[3]


LOADING = "        for target, part in zip(targets, value.chunk(len(targets))):"
BROKEN = {
    "groups forgotten": (1, "", ('"padding": padding, "groups": dim_in}', '"padding": padding}'),
                         ("weight(dim_in, 1, kernel_size, kernel_size)", "weight(dim_in, dim_in, kernel_size, kernel_size)")),
    "norm over the places": (2, "", ("x.mean(1, keepdim=True)", "x.mean((2, 3), keepdim=True)")),
    "norm after": (3, "norm-after", ("self.layer(self.before(x))", "self.before(self.layer(x))")),
    "another norm": (3, "another-norm", ("self.layer(self.before(x))", "self.layer(F.group_norm(x, 1) + 0 * self.before(x))")),
    "norm missing": (3, "norm-missing", ("self.layer(self.before(x))", "self.layer(x + 0 * self.before(x))")),
    "scale forgotten": (4, "", (" / math.sqrt(apart[1])).softmax(-1)\n        return", ").softmax(-1)\n        return")),
    "ReLU": (5, "", ("return mix(F.gelu(x), self.down", "return mix(F.relu(x), self.down")),
    "only the last map": (6, "not-four-maps", ("maps if return_layer_outputs else x", "x")),
    "maps reversed in the encoder": (6, "coarsest-first", ("maps if return_layer_outputs", "maps[::-1] if return_layer_outputs")),
    "maps from before the blocks": (6, "last-map-differs", ("            x = shrink(x)\n", "            x = shrink(x)\n            maps.append(x)\n"), ("            maps.append(x)\n        return maps if", "        return maps if")),
    "dropout in a block": (6, "not-deterministic", ("x = x + attention(x)", "x = x + F.dropout(attention(x), 0.5)")),
    "no padding": (6, "sizes-of-maps", ("(3, 2, 1) if i", "(3, 2, 0) if i")),
    "only multiples of 32": (6, "only-multiples", ("        maps = []\n        for shrink", "        x.view(*x.shape[:2], x.shape[2] // 32, 32, -1)\n        maps = []\n        for shrink")),
    "residual missing": (7, "residual-missing", ("x = x + attention(x)", "x = attention(x)")),
    "second residual missing": (7, "residual-missing", ("x = x + feeder(x)", "x = feeder(x)")),
    "norm behind the embedding": (7, "normalised-residual", ("            x = shrink(x)\n", "            x = shrink(x)\n            x = F.layer_norm(x.movedim(1, -1), x.shape[1:2]).movedim(-1, 1)\n")),
    "parallel": (7, "parallel", ("                x = x + attention(x)\n                x = x + feeder(x)", "                x = x + attention(x) + feeder(x)")),
    "feed-forward first": (7, "order-exchanged", ("                x = x + attention(x)\n                x = x + feeder(x)", "                x = x + feeder(x)\n                x = x + attention(x)")),
    "blocks shared": (7, "blocks-shared", ("                EfficientSelfAttention(dim=dim, heads=heads[i], reduction_ratio=reduction_ratio[i])\n                for _ in range(num_layers[i])\n            ]", "                EfficientSelfAttention(dim=dim, heads=heads[i], reduction_ratio=reduction_ratio[i])\n            ] * num_layers[i]")),
    "no norms": (7, "norm-missing", ("PreNorm(dim, layer) for layer in attentions", "layer for layer in attentions")),
    "a norm too many": (7, "extra-norm", ("maps.append(x)\n        return maps if", "x = F.layer_norm(x.movedim(1, -1), x.shape[1:2]).movedim(-1, 1)\n            maps.append(x)\n        return maps if")),
    "frozen": (8, "frozen", ("weight(dim_out, dim_in, kernel, kernel), zeros(dim_out)", "weight(dim_out, dim_in, kernel, kernel).requires_grad_(False), zeros(dim_out)")),
    "a layer that nobody uses": (8, "parameter-count", ("self.shrink, self.look, self.think =", "self.spare = weight(3, 3)\n        self.shrink, self.look, self.think =")),
    "logits as large as the image": (9, "quarter", ("size = maps[0].shape[-2:]\n        maps = [F.interpolate(mix(", "size = x.shape[-2:]\n        maps = [F.interpolate(mix(")),
    "numbers refused": (12, "one-number", ("(value,) * 4 if isinstance(value, int) else value", "value")),
    "other defaults": (12, "default-sizes", ("ff_expansion=(8, 8, 4, 4)", "ff_expansion=(4, 4, 4, 4)")),
    "bilinear": (13, "bilinear", ("F.interpolate(mix(y, w, b), size)", "F.interpolate(mix(y, w, b), size, mode='bilinear')")),
    "nearest-exact": (13, "nearest-exact", ("F.interpolate(mix(y, w, b), size)", "F.interpolate(mix(y, w, b), size, mode='nearest-exact')")),
    "maps reversed": (13, "maps-in-another-order", ("torch.cat(maps, 1), self.fuse,", "torch.cat(maps[::-1], 1), self.fuse,")),
    "ReLU in the decoder": (13, "relu-between", ("mix(mix(torch.cat(maps, 1), self.fuse, self.fuse_shift), self", "mix(mix(torch.cat(maps, 1), self.fuse, self.fuse_shift).relu(), self")),
    "softmax": (13, "softmax-at-the-end", ("self.name_it, self.name_shift)\n\n\n@torch", "self.name_it, self.name_shift).softmax(1)\n\n\n@torch")),
    "spare weight": (10, "parameter-count", ("        self.encoder = MiT", "        self.spare = zeros(3)\n        self.encoder = MiT")),
    "dropout": (11, "not-deterministic", ("mix(mix(torch.cat(maps, 1), self.fuse", "mix(mix(F.dropout(torch.cat(maps, 1), 0.5, self.training), self.fuse")),
    "not written": (14, "", ("def load_weights", "def load_weight")),
    "nothing loaded": (14, "nothing-loaded", ("target.copy_(part", "target.clone().copy_(part")),
    "keys and values exchanged": (14, "keys-and-values-exchanged", ("attention.layer.find, attention.layer.tell)", "attention.layer.tell, attention.layer.find)")),
    "norms exchanged": (14, "norms-exchanged", ('put_norm(f"{here}.0.norm"', 'put_norm(f"{here}.9.norm"'), ('put_norm(f"{here}.1.norm"', 'put_norm(f"{here}.0.norm"'), ('put_norm(f"{here}.9.norm"', 'put_norm(f"{here}.1.norm"')),
    "shifts forgotten": (14, "not-all-loaded", ('        put(f"{name}.b", norm.shift)\n', "")),
    "a copy filled": (14, "another-model-filled", ("    mit = model.encoder\n", "    import copy\n    model = copy.deepcopy(model)\n    mit = model.encoder\n"), ("model.name_it, model.name_shift)\n", "model.name_it, model.name_shift)\n    return model\n")),
    "rows and columns of a patch": (14, "patch-numbers-permuted", ("        put_both(f\"mit.stages.{i}.1\", mit.shrink[i].filters, mit.shrink[i].shift)", "        put_both(f\"mit.stages.{i}.1\", mit.shrink[i].filters, mit.shrink[i].shift)\n        mit.shrink[i].filters.copy_(mit.shrink[i].filters.mT.clone())")),
    "g for both": (14, "g-and-b-exchanged", ("put(f\"{name}.b\", norm.shift)", "put(f\"{name}.g\", norm.shift)")),
    "b for both": (14, "g-and-b-exchanged", ("put(f\"{name}.g\", norm.scale)", "put(f\"{name}.b\", norm.scale)")),
    "fuse reversed": (14, "fuse-permuted", ('put_both("to_segmentation.0", model.fuse, model.fuse_shift)', 'put_both("to_segmentation.0", model.fuse, model.fuse_shift)\n    model.fuse.copy_(torch.cat(model.fuse.chunk(4, 1)[::-1], 1))')),
    "file emptied": (14, "file-changed", ("value = state_dict[name]", "value = state_dict.pop(name)")),
    "two blocks everywhere": (14, "", ("enumerate(zip(mit.look[i], mit.think[i]))", "enumerate([(mit.look[i][j], mit.think[i][j]) for j in range(2)])")),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_one_broken_step_is_where_it_stops(written, name):
    step, kind, *pairs = BROKEN[name]
    found = checks.capstone(written(changed(*pairs)))
    assert found.outcome != "right"
    assert (found.right + 1, found.result.exercise) == (step, TITLES[step - 1]), str(found)
    if kind:
        assert found.result.kind == kind, str(found)
    if found.outcome == "not yet right":
        assert found.result.kind != "unknown", str(found)
    assert found.result.hint or found.outcome == "not written yet"


@pytest.mark.parametrize(("code", "words"), [
    ("raise ValueError('a reason')", "a reason"),
    ("import no_such_library", "no_such_library"),
    ("def broken(:", "SyntaxError"),
    ("import sys\nsys.exit(3)", "SystemExit"),
    ("raise KeyboardInterrupt", "KeyboardInterrupt"),
    ("x = 1 / 0  # mine", "x = 1 / 0"),
])  # fmt: skip
def test_a_file_that_cannot_be_run(written, code, words):
    found = checks.capstone(written(f"print('before')\n{code}\n{RIGHT}"))
    assert (found.right, found.outcome, found.result.exercise) == (0, "could not run", "Your file")
    assert words in found.result.seen
    if "def" not in code:
        assert "before" in str(found)


@pytest.mark.parametrize(("code", "kind"), [
    ("print('hello')", "prints-at-import"),
    ("made = Segformer(num_layers=1, dims=8, heads=1)\nmade(torch.randn(1, 3, 32, 32)).sum().backward()\n"
     "torch.optim.SGD(made.parameters(), 0.1).step()", "learns-at-import"),
    ("from segformer_edu import DsConv2d as Theirs", "the-librarys"),
    ("from segformer_edu import DsConv2d as Theirs\nclass DsConv2d(Theirs): ...\ndel Theirs", "the-librarys"),
    ("import segformer_edu as se\nclass MiT(MiT):\n    def __init__(self, **sizes):\n        super().__init__(**sizes)\n"
     "        self.spare = se.LayerNorm(2)", "the-librarys"),
])  # fmt: skip
def test_a_file_that_breaks_a_rule(written, code, kind):
    found = checks.capstone(written(f"{RIGHT}\n{code}\n"))
    assert (found.outcome, found.result.kind) == ("not yet right", kind), str(found)


def test_what_the_rules_allow(written):
    allowed = "from segformer_edu import SegformerConfig, checks\nif __name__ == '__main__':\n    print(3)\n"
    assert checks.capstone(written(f"{allowed}{RIGHT}")).outcome == "right"


def test_a_file_that_loops_is_stopped(written, monkeypatch):
    monkeypatch.setattr(_guard, "LIMIT", 0.5)
    found = checks.capstone(written("while True:\n    pass"))
    assert (found.outcome, found.result.kind) == ("could not run", "takes-too-long")


def test_what_stands_under_main_does_not_run_and_dataclasses_do(written):
    more = "from dataclasses import dataclass\n@dataclass\nclass Sizes:\n    dims: 'ClassVar' = 3\n"
    last = "\nif __name__ == '__main__':\n    raise ValueError\n"
    code = RIGHT.split("class EfficientSelfAttention")[0]
    assert checks.capstone(written(code.replace(TOP, TOP + more) + last)).right == 3


def test_a_file_that_is_not_there_and_answers_that_are_none(tmp_path):
    assert checks.capstone(tmp_path / "none.py").result.kind == "no-file"
    for answers in (None, 3, [1]):
        assert checks.capstone(answers).result.kind == "no-answers"


def test_the_librarys_classes_are_no_answer():
    found = checks.capstone(vars(se))
    assert (found.right, found.result.kind) == (0, "the-librarys")


def test_the_second_look_sees_what_changed(written):
    path = written("raise ValueError('first')")
    assert "first" in checks.capstone(path).result.seen
    path.write_text("y = 1\nraise ValueError('second')  # here")
    assert "# here" in checks.capstone(path).result.seen


@pytest.mark.parametrize("sizes", [
    {}, {"dims": (6, 10, 12, 15), "heads": (1, 2, 3, 5), "num_layers": (1, 3, 1, 2), "channels": 4, "decoder_dim": 9},
], ids=["default", "other"])  # fmt: skip
def test_the_file_is_lucidrains(sizes):
    torch.manual_seed(0)
    ours = se.Segformer(**sizes).eval()
    theirs = segformer_pytorch.Segformer(**sizes).eval()
    file, wanted = lucidrains_file(ours), theirs.state_dict()
    assert [(name, value.shape) for name, value in file.items()] == [(n, v.shape) for n, v in wanted.items()]
    theirs.load_state_dict(file)
    image = torch.rand(2, sizes.get("channels", 3), 64, 96)
    with torch.no_grad():
        torch.testing.assert_close(ours(image), theirs(image), rtol=1e-4, atol=1e-5)
    back = se.convert_state_dict(file)
    assert all(torch.equal(value, back[name]) for name, value in ours.state_dict().items())


# The street


def test_the_street_is_the_librarys():
    found = checks.street(FILE)
    assert found.outcome == "right", str(found)
    assert "labelled pixels" in found.remark


@pytest.fixture(scope="module")
def mine():
    names = {}
    exec(RIGHT, names)
    return names


@pytest.mark.parametrize(("old", "new", "kind"), [
    ("conv(small, f\"{here}.attention.to_kv\").chunk(2, 1)", "conv(small, f\"{here}.attention.to_kv\").chunk(2, 1)[::-1]",
     "keys-and-values-exchanged"),
    ("torch.cat(maps, 1), \"decoder.fuse\"", "torch.cat(maps[::-1], 1), \"decoder.fuse\"", "fuse-permuted"),
    ("eps.patches", "1e-6", "other-eps"),
    ("y = F.gelu(conv(y", "y = F.gelu(approximate='tanh', input=conv(y", "gelu-approximated"),
    ("maps[0].shape[-2:], mode=\"bilinear\"", "maps[0].shape[-2:]", "nearest"),
    ("F.batch_norm(x, *moments", "F.batch_norm(x, moments[0] * 0, moments[1] * 0 + 1", "statistics-forgotten"),
    ("conv(x.relu(), \"decoder.classify\")", "conv(x, \"decoder.classify\")", "relu-missing"),
    ("F.batch_norm(x, *moments, w[f\"{d}.weight\"], w[f\"{d}.bias\"])\n        return conv(x.relu()",
     "F.batch_norm(x.relu(), *moments, w[f\"{d}.weight\"], w[f\"{d}.bias\"])\n        return conv(x", "relu-before-norm"),
    ("x = F.batch_norm(x, *moments, w[f\"{d}.weight\"], w[f\"{d}.bias\"])", "pass", "batch-norm-missing"),
    ("x = norm(x, f\"{stage}.norm\", eps.stages)", "pass", "stage-norm-missing"),
    ("x = norm(x, f\"{stage}.embedding.norm\", eps.patches)", "pass", "embedding-norm-missing"),
    ("small = norm(small, f\"{here}.attention.reduce.1\", eps.reductions)", "pass", "reduction-norm-missing"),
    ("norm(x, f\"{here}.feed_forward_norm\", eps.blocks), f", "x, f", "norm-missing"),
    ("x = x + conv(y, f\"{here}.attention.to_out\")", "x = conv(y, f\"{here}.attention.to_out\")", "residual-missing"),
    ("x = x + conv(y, f\"{here}.feed_forward.narrow\")", "x = conv(y, f\"{here}.feed_forward.narrow\")", "residual-missing"),
    ("return conv(x.relu(), \"decoder.classify\")", "return conv(x.relu(), \"decoder.classify\").softmax(1)",
     "softmax-at-the-end"),
    ("        w, config = dict(zip(self.names, self.numbers)), self.config\n",
     "        w, config = dict(zip(self.names, self.numbers)), self.config\n"
     "        mean, spread = (torch.tensor(t).view(3, 1, 1) for t in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))\n"
     "        x = (x - mean) / spread\n", "normalised-twice"),
    ("nn.Parameter(value.float(), requires_grad=False)", "nn.Parameter(torch.randn_like(value.float()))", "nothing-loaded"),
    ("apart = (config.heads[i], config.dims[i] // config.heads[i])", "apart = (1, config.dims[i])", "heads"),
    ("return conv(x.relu(), \"decoder.classify\")", "return conv(x.relu(), \"decoder.classify\").argmax(1)", None),
    ("    return Street(weights, config)", "    pass", "no-return"),
])  # fmt: skip
def test_a_street_with_one_mistake(written, old, new, kind):
    found = checks.street(written(changed((old, new))))
    assert found.outcome in ("not yet right", "not written yet"), str(found)
    if kind and found.outcome == "not yet right":
        assert found.kind == kind, str(found)


def test_a_street_model_is_taken_as_it_is(mine):
    shipped = se.load_pretrained("camvid-small")
    model = mine["street_model"](shipped.state_dict(), shipped.config).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert checks.street(model).outcome == "right"
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert next(model.parameters()).dtype == torch.float32
    assert checks.street(shipped).kind == "the-librarys"


def test_no_street_yet(written):
    assert checks.street(written("")).outcome == "not written yet"
    assert checks.street(written("def street_model(weights, config): ...")).outcome == "not written yet"
    assert checks.street(written("raise ValueError")).outcome == "could not run"


# The page


PAGE = (ROOT / "book" / "capstone.md").read_text(encoding="utf-8")


def test_the_shapes_on_the_page_are_the_librarys():
    rows = re.findall(r"^\| (.+?) \| \(([\d, ]+)\) \| \(([\d, ]+)\) \|$", PAGE, re.MULTILINE)
    assert len(rows) == 10
    with torch.no_grad():
        for told, given, back in rows:
            stage = re.fullmatch(r"stage (\d) of `MiT`", told)
            made = se.Segformer().mit.stages[int(stage[1]) - 1] if stage else eval(told.strip("`"), dict(vars(se)))
            x = torch.zeros(tuple(map(int, given.split(","))))
            assert tuple(made(x).shape) == tuple(map(int, back.split(","))), told


def test_the_page_has_every_step():
    assert f"through {len(STEPS)} steps" in PAGE
    for step in STEPS:
        for name in step.names:
            assert f" {name}" in PAGE, name


def test_every_hint_can_be_given():
    code = Path(sys.modules["segformer_edu.checks.whole"].__file__).read_text(encoding="utf-8")
    code += Path(sys.modules["segformer_edu.checks._progress"].__file__).read_text(encoding="utf-8")
    assert [kind for kind in HINTS if code.count(f'"{kind}"') < 2] == []
