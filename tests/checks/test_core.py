"""What no answer, however broken or malicious, can do to the notebook; and how a result is shown."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import torch
from catalogue import check

import segformer_edu as se
from segformer_edu import checks
from segformer_edu.checks import _guard, core


def answer(forward, init=None):
    """A class like the library's with another forward."""
    body = {"forward": forward} | ({"__init__": init} if init else {})
    return type("DsConv2d", (se.DsConv2d,), body)


def raises(error):
    def forward(self, x):
        raise error

    return forward


class Rude(Exception):
    def __str__(self):
        raise SystemExit

    __repr__ = __str__


@pytest.mark.parametrize(
    "error",
    [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), ValueError("odd"), Rude(), RecursionError(), MemoryError()],
)
def test_whatever_is_raised_inside_becomes_a_result(error):
    result = checks.ds_conv2d(answer(raises(error)))
    assert (result.outcome, result.kind) == ("could not run", "raises")
    assert type(error).__name__ in result.seen
    assert "raise error" in result.seen  # the reader's own line
    assert "float64 (2, 6, 5, 7)" in result.seen  # what went in
    assert "constructed" in str(result)


@pytest.mark.parametrize(("error", "kind"), [
    (KeyError("prefix.weight"), "key-missing"),
    (IndexError("list index out of range"), "outside"),
    (IndexError("index 5 is out of bounds for dimension 0 with size 5"), "outside"),
    (IndexError("Dimension out of range (expected to be in range of [-4, 3], but got 4)"), "raises"),
    (IndexError("too many indices for tensor of dimension 2"), "raises"),
    (AttributeError("no attribute 'gleu'"), "name-missing"),
    (RuntimeError("Trying to backward through the graph a second time"), "graph"),
    (RuntimeError("element 0 of tensors does not require grad and does not have a grad_fn"), "graph"),
    (RuntimeError("a leaf Variable that requires grad is being used in an in-place operation."), "graph"),
    (RuntimeError("one of the variables needed has been modified by an inplace operation"), "graph"),
    (RuntimeError("One of the differentiated Tensors appears to not have been used in the graph."), "graph"),
    (RuntimeError("mat1 and mat2 shapes cannot be multiplied (2x3 and 4x5)"), "raises"),
])  # fmt: skip
def test_what_an_exception_speaks_of(error, kind):
    assert checks.ds_conv2d(answer(raises(error))).kind == kind


class Evil:
    """Whatever is done with it, it raises."""

    def _no(self, *args):
        raise RuntimeError("no")

    __eq__ = __ne__ = __repr__ = __str__ = __bool__ = __len__ = __iter__ = __call__ = __getattr__ = _no
    __hash__ = None
    __class__ = property(_no)


class EvilMeta(type):
    def __getattribute__(cls, name):
        raise RuntimeError(name)


class EvilClass(metaclass=EvilMeta):
    pass


EVIL = {
    "object": lambda: Evil(),
    "class": lambda: EvilClass,
    "nothing in particular": object,
    "complex": lambda: 1j,
    "text": lambda: "text",
    "in a list": lambda: [Evil()],
    "in a dict": lambda: {"A": Evil()},
    "as entries": lambda: {name: Evil() for name in "ABCDE"},
}


@pytest.mark.parametrize("evil", EVIL)
@pytest.mark.parametrize("name", ["ds_conv2d", "merge", "costs", "bugs", "mix"])
def test_an_object_that_raises_at_every_touch_is_answered(name, evil):
    result = check(name, EVIL[evil]())
    assert result.outcome in {"not yet right", "could not run"}
    assert result.kind
    assert str(result)
    assert result._repr_html_()


def test_a_module_that_returns_an_evil_object_is_answered():
    assert checks.ds_conv2d(answer(lambda self, x: Evil())).outcome != "right"
    assert checks.merge(lambda depthwise, pointwise: Evil()).outcome != "right"


class Liar(torch.Tensor):
    """Says that it equals everything."""

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        if func.__name__ in {"allclose", "equal", "__eq__", "eq", "sub", "__sub__", "abs"}:
            return torch.zeros(())
        return super().__torch_function__(func, types, args, kwargs or {})


def test_a_tensor_that_lies_about_its_values_does_not_pass():
    wrong = answer(lambda self, x: torch.relu(se.DsConv2d.forward(self, x)).as_subclass(Liar))
    assert checks.ds_conv2d(wrong).kind == "not-linear"


def test_a_loop_is_stopped_and_said_so(monkeypatch):
    monkeypatch.setattr(_guard, "LIMIT", 0.3)

    def forever(self, x):
        while True:
            pass

    result = checks.ds_conv2d(answer(forever))
    assert (result.outcome, result.kind) == ("could not run", "takes-too-long")
    assert "0.3 s" in result.seen


def test_a_loop_that_catches_everything_is_stopped(monkeypatch):
    monkeypatch.setattr(_guard, "LIMIT", 0.3)

    def stubborn(self, x):
        while True:
            try:  # noqa: SIM105
                x = x + 1
            except BaseException:
                pass

    assert checks.ds_conv2d(answer(stubborn)).kind == "takes-too-long"


def test_a_loop_is_stopped_in_another_thread(monkeypatch):
    monkeypatch.setattr(_guard, "LIMIT", 0.3)

    def forever(self, x):
        while True:
            time.sleep(0.01)

    results = []
    thread = threading.Thread(target=lambda: results.append(checks.ds_conv2d(answer(forever))))
    thread.start()
    thread.join(20)
    assert results[0].kind == "takes-too-long"


def test_what_is_not_written_yet_is_a_line_and_no_table_without_cells():
    """Such a table is as narrow as a word, and its caption has a line for each."""
    page = checks.ds_conv2d(...)._repr_html_()
    assert "<table" not in page
    assert "not written yet" in page


DEBUGGED = """
import sys, threading, time
import segformer_edu as se
from segformer_edu import checks
from segformer_edu.checks import _guard

class Slow(se.DsConv2d):
    def forward(self, x):
        while {slow}:
            time.sleep(0.001)
        return super().forward(x)

_guard.LIMIT = 0.3 if {slow} else 20
results = []
thread = threading.Thread(target=lambda: results.append(checks.ds_conv2d(Slow)))
thread.start()
thread.join()
print(results[0].outcome)
sys.settrace(lambda *_: None)
(lambda: None)()
"""


@pytest.mark.parametrize("slow", [False, True])
def test_a_debugger_works_after_a_check_in_another_thread(slow):
    """CPython would hang in the first traced call if an exception were still on its way to a thread that has ended."""
    code = DEBUGGED.format(slow=slow)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600)
    assert done.stdout == ("could not run\n" if slow else "right\n"), done.stderr


def test_the_users_own_interrupt_passes_through():
    def slow(self, x):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(5)

    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        checks.ds_conv2d(answer(slow))
    assert signal.getsignal(signal.SIGINT) is handler
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_what_an_answer_changes_everywhere_is_put_back(capsys):
    def vandal(self, x):
        torch.manual_seed(7)
        np.random.seed(7)  # noqa: NPY002
        random.seed(7)
        torch.set_default_dtype(torch.float64)
        torch.set_grad_enabled(False)
        torch.use_deterministic_algorithms(True)
        np.seterr(all="raise")
        sys.setrecursionlimit(5000)
        print("here")
        return se.DsConv2d.forward(self, x)

    limit, errors, generator = sys.getrecursionlimit(), np.geterr(), torch.get_rng_state()
    with torch.no_grad():
        result = checks.ds_conv2d(answer(vandal))
        assert not torch.is_grad_enabled()
    assert result.outcome == "not yet right"
    assert result.printed.startswith("here")
    assert capsys.readouterr().out == ""
    assert torch.is_grad_enabled()
    assert torch.get_default_dtype() == torch.float32
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.equal(generator, torch.get_rng_state())
    assert (limit, errors) == (sys.getrecursionlimit(), np.geterr())


def test_an_answer_is_checked_alike_in_any_mode():
    with torch.inference_mode():
        assert checks.ds_conv2d(se.DsConv2d).outcome == "right"
    torch.set_default_dtype(torch.float64)
    try:
        assert checks.ds_conv2d(se.DsConv2d).outcome == "right"
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("value", [None, ..., NotImplemented])
def test_a_placeholder_is_not_written_yet(value):
    for name in ("ds_conv2d", "merge"):
        assert check(name, value).outcome == "not written yet"


def test_stubs_are_told_from_a_forgotten_return():
    def stub(depthwise, pointwise):
        """Words."""

    def other_stub(depthwise, pointwise):
        raise NotImplementedError("later")

    def forgot(depthwise, pointwise):
        depthwise.weight.sum()

    assert [checks.merge(f).outcome for f in (stub, other_stub)] == ["not written yet"] * 2
    assert checks.merge(forgot).kind == "no-return"


def test_a_missing_operation_of_torch_is_no_stub():
    """PyTorch too raises NotImplementedError."""
    result = checks.ds_conv2d(answer(lambda self, x: x.to(torch.int64).to(torch.complex64).fmod(2)))
    assert result.outcome == "could not run"


TABLE = core.Table("C", ("a",), (("1",),))


def test_result_is_text_and_an_escaped_table():
    result = checks.Result("A & B", "not yet right", "unknown", "x < y", "Why?", ("one",), table=TABLE)
    assert (
        str(result)
        == repr(result)
        == "A & B: not yet right.\nRight so far: one\nSeen: x < y\nLook at: Why?\nC\n  a\n  1"
    )
    html = result._repr_html_()
    assert "A &amp; B: not yet right." in html
    assert "x &lt; y" in html
    assert 'scope="row"' in html
    assert "background: transparent" in html


def test_values_say_how_they_relate():
    target = core.random(3, 5)
    for kind, yours in {
        "close-but-not-equal": target * (1 + 1e-5),
        "scaled-by-constant": 2 * target,
        "shifted-by-constant": target + 1,
        "sign-reversed": -target,
        "all-zero": 0 * target,
        "other-places": target.flip(0),
        "unknown": target**2,
    }.items():
        assert core.relation(yours, target)[0] == kind


def test_an_unknown_name_is_said_with_those_that_there_are():
    with pytest.raises(AttributeError, match="ds_conv2d"):
        getattr(checks, "ds_conv")  # noqa: B009
    for ask in (checks.predict, checks.puzzle):
        with pytest.raises(KeyError, match="there are"):
            ask("nothing", 1)
