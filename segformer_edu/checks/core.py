"""What all checks share.

How to add an exercise:

1. In the file of its chapter in ``segformer_edu/checks/`` (such as ``convolution.py``; a new file is found by itself,
   and no check may be called like a file):

   >>> @exercise("DsConv2d", hints={"groups-forgotten": "How many input channels does one filter see?"})
   ... def ds_conv2d(look: Look, answer: Any) -> None:
   ...     \"\"\"Check ``DsConv2d``, the class of chapter 1.\"\"\"
   ...     look.exists(answer)
   ...     module = look.construct(answer, 6, 11, 3, padding=1)  # in float64; ends with words where it can't be
   ...     look.done("constructed")
   ...     yours = look.output(module, x)  # a tensor of float64, or it ends
   ...     look.shape(yours, (2, 11, 5, 7), wrong={"stride-ignored": (2, 11, 9, 13)})
   ...     look.values(yours, target, wrong={"its-kind": its_output})  # recognises a mistake by computing it
   ...     look.wrong("groups-forgotten", "what was seen")  # ends: not yet right

   ``checks.ds_conv2d(DsConv2d)`` is then a ``Result``. The body looks in the fixed order (exists, constructed, runs,
   type, shape, determinism, parameters, values, gradient, training and evaluation, odd sizes) and ends at the first
   fault; what it says with ``look.done`` is listed as right. The reader's code runs inside ``look.call``,
   ``look.construct`` and ``look.output``, which tell in words whatever it raises, and inside ``look.attempt``, which
   returns a ``Failure`` where a probe may fail. ``look.side_effects``, ``pictures_apart``, ``same_in_eval`` and
   ``gradients`` are what most exercises look at. Kinds that every exercise has are in ``COMMON``; own ones are in
   ``hints``, each with words of its own: a place and a question, no code. Take sizes that are pairwise coprime.

2. Numbers that the reader predicts: ``predictions("costs", …)``, checked by ``checks.predict("costs", value)``.
   Warm-ups: ``puzzle_of("impulse", …)``, checked by ``checks.puzzle("impulse", yours)``. Both are in
   ``segformer_edu.checks.numbers``.

3. The text, stub, hints and solution: ``notebooks/exercises/NN.md``, then ``make generate``; ``tools/exercises.py``
   says how the file is read.

4. Right and wrong answers, as code: ``tests/checks/answers/NAME.py``; ``tests/checks/catalogue.py`` says how.
"""

from __future__ import annotations

import linecache
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FunctionType, TracebackType
from typing import Any, NoReturn

import numpy as np
import torch
from torch import nn

import segformer_edu.checks._guard as _guard
from segformer_edu.checks._result import Outcome, Result, Table

__all__ = ["COMMON", "EXERCISES", "Exercise", "Failure", "Look", "Result", "Table", "close", "exercise", "random"]

TIGHT, LOOSE = 1e-6, 1e-3
"""Largest relative difference of numbers that are equal, and of numbers that are close."""

COMMON = {
    "unknown": "The table shows where yours and the target differ most. What do these places have in common?",
    "instance-given": "The check makes its own object, with sizes of its own. Is it the class that you gave, or one "
    "object?",
    "not-callable": "The check has to call what you give. Is it a class or a function?",
    "signature": "Which names, which order and which defaults do the arguments have in the first lines of the stub?",
    "not-a-module": "What must a class inherit from, so that PyTorch finds its weights?",
    "super-init-missing": "What must `__init__` do first, before the module can keep a layer?",
    "forward-missing": "PyTorch calls one method of a module by its name. Is there one, spelt exactly so?",
    "no-return": "Your code ran to its end and gave back nothing. Which line hands the result to the caller?",
    "wrong-type": "What type of object should come out?",
    "wrong-dtype": "float64 went in. Which line makes numbers of another type?",
    "wrong-shape": "Follow the shape line by line, on paper. At which line is it another one than you expect?",
    "wrong-rank": "How many axes go in, and how many should come out?",
    "axes-exchanged": "Which axis is which? Write the letters beside each line of your code.",
    "plain-tensor": "What makes a tensor trainable, and lets it follow its module to another type or device?",
    "layers-in-a-list": "How does a module find its children? In which containers does it look?",
    "weights-in-forward": "New weights are drawn in every call. Where should they be made once?",
    "not-deterministic": "The same input gave two results. Which line draws random numbers?",
    "draws-random-numbers": "The global generator has moved. Which line draws random numbers?",
    "changes-input": "The input was another one after the call. Which operation writes into it?",
    "keeps-state": "A second call depends on the first one. What does the object remember from call to call?",
    "mixes-pictures": "A picture's result depends on the other pictures of the batch. Which axis is summed that "
    "should not be?",
    "differs-in-eval": "Training and evaluation give two results. Which layer behaves differently in the two?",
    "not-a-number": "Some results are NaN or infinite. Which line divides, or takes a root or a logarithm, of what?",
    "all-zero": "Every number is zero. Which factor is zero?",
    "close-but-not-equal": "The values are close, and not equal. Is there a small constant, an approximation, or "
    "float32?",
    "scaled-by-constant": "Yours is the target times one constant. Which factor is there once too often, or lacking?",
    "shifted-by-constant": "Yours is the target plus one constant. What is added that should not be, or lacks?",
    "sign-reversed": "Yours is the target with the other sign. Which difference is taken the wrong way round?",
    "other-places": "The right numbers stand in the wrong places. Which axis is which?",
    "no-gradient": "The gradient stops before it reaches all it should. Which line takes the tensor out of the graph?",
    "wrong-gradient": "The values are right and the gradient is not. Which line takes a part out of the graph?",
    "frozen": "A weight asks for no gradient. Which line decides that?",
    "cannot-place": "The check could not tell which of your tensors is which weight. Are the names those of the text?",
    "takes-too-long": "Is a loop waiting for something that never comes?",
    "name-missing": "Is the name spelt the same where it is made and where it is used, and is it made before?",
    "key-missing": "There is nothing under this name or key. Which names are there, spelt how?",
    "outside": "A place is asked for that is not there. How many are there, and from which number do you count?",
    "graph": "The message speaks of gradients, not of shapes. Which line leaves the graph, writes into it, or needs it "
    "once more?",
    "raises": "Read the message, then the line. Which shape does it expect, and which one does it get?",
    "check-failed": "The check cannot look at this answer. Is it what the stub asks for?",
}
"""Kinds that every exercise has, and their hints."""

_GRAPH = ("through the graph", "requires grad", "require grad", "inplace operation", "used in the graph")
"""What autograd says, and nobody else."""

_HERE, _TORCH = str(Path(__file__).parent), str(Path(torch.__file__).parent)


@dataclass(frozen=True)
class Failure:
    """An exception of the reader's code that a check wanted to see.

    Attributes:
        name: of its class.
        words: its message.
        line: the reader's line that caused it, or "".
    """

    name: str
    words: str
    line: str

    def __str__(self) -> str:
        words = f"{self.name}: {self.words}".rstrip(".:") + "."
        return words + (f" It happened at your line `{self.line}`." if self.line else "")


class _Ended(Exception):
    """Ends a check with what it found."""

    def __init__(self, result: Result) -> None:
        self.result = result


class Look:
    """One look at an answer: what is right so far, and the ways to end.

    Attributes:
        title: what is checked, as the result's first words say it.
        hints: the exercise's own kinds and their hints, over the common ones.
    """

    def __init__(self, title: str, hints: Mapping[str, str]) -> None:
        self.title = title
        self.hints = {**COMMON, **hints}
        self._done: list[str] = []
        self._remarks: list[str] = []
        self._doing = ""
        self._in_reader = False

    # Ways to go on, and to end.

    def done(self, words: str) -> None:
        """Say what is right already."""
        self._done.append(words)

    def remark(self, words: str) -> None:
        """Say something besides, about an answer that may be right."""
        self._remarks.append(words)

    def wrong(self, kind: str, seen: str, table: Table | None = None) -> NoReturn:
        """End: not yet right. ``kind`` is the mistake's name, ``seen`` what the check saw."""
        self._end("not yet right", kind, seen, table)

    def not_written(self, what: str = "") -> NoReturn:
        """End: not written yet."""
        self._end("not written yet", "", f"{what} is still as the stub left it." if what else "")

    def could_not_run(self, kind: str, seen: str) -> NoReturn:
        """End: the answer could not be run."""
        self._end("could not run", kind, seen)

    def _end(self, outcome: Outcome, kind: str, seen: str, table: Table | None = None) -> NoReturn:
        hint = self.hints[kind] if kind else ""
        raise _Ended(Result(self.title, outcome, kind, seen, hint, tuple(self._done), " ".join(self._remarks), table))

    # The reader's code is called through these.

    def call(self, function: Callable[..., Any], *args: Any, told: str = "", **kwargs: Any) -> Any:
        """Call the reader's code: what it raises, or writes into its arguments, ends the check.

        ``told`` is the call, in words.
        """
        self._doing, self._in_reader = told or call_in_words(function, args, kwargs), True
        given = [(tensor, tensor.detach().clone()) for tensor in tensors_in((*args, *kwargs.values()))]
        value = function(*args, **kwargs)
        if any(not same(tensor.detach(), before) for tensor, before in given):
            self._in_reader = False
            self.wrong("changes-input", "The tensor that went in holds other numbers after the call.")
        if isinstance(value, torch.Tensor) and type(value) not in (torch.Tensor, nn.Parameter):
            with torch._C.DisableTorchFunctionSubclass():
                value = value.as_subclass(torch.Tensor)
        self._in_reader = False
        return value

    def attempt(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call the reader's code where it may fail: return what it returns, or a ``Failure``."""
        try:
            return self.call(function, *args, **kwargs)
        except _Ended:
            raise
        except Exception as error:
            self._in_reader = False
            return Failure(type(error).__name__, safe(error), line_of(error.__traceback__))

    def exists(self, answer: Any, *, instance: bool = False) -> None:
        """End where there is no class or function yet, or something else was given."""
        if answer is None or answer is Ellipsis or answer is NotImplemented:
            self.not_written()
        if not instance and isinstance(answer, nn.Module):
            self.wrong("instance-given", f"An object of the class {type(answer).__name__} was given, not the class.")
        if not callable(answer):
            self.wrong("not-callable", f"A {type(answer).__name__} was given.")

    def construct(self, cls: Callable[..., Any], *args: Any, told: str = "", **kwargs: Any) -> nn.Module:
        """Make an object of the reader's class, in float64, from a fixed seed. Ends where that is not possible."""
        told = told or call_in_words(cls, args, kwargs)
        torch.manual_seed(0)
        made = self.call(cls, *args, told=told, **kwargs)
        if made is None or made is Ellipsis:
            self.nothing(cls, told)
        if not isinstance(made, nn.Module):
            self.wrong("not-a-module", f"{told} is a {type(made).__name__}, and no nn.Module.")
        if type(made).forward is nn.Module.forward and "forward" not in vars(made):
            self.wrong("forward-missing", f"{type(made).__name__} has no method of the name that PyTorch calls.")
        return self.call(made.double, told=f"{told}.double()")  # type: ignore[no-any-return]

    def output(
        self, function: Callable[..., Any], *args: Any, told: str = "", dtype: Any = torch.float64
    ) -> torch.Tensor:
        """Call the reader's module or function; return its tensor. Ends where it is no tensor, or of another dtype.

        It gets copies of the tensors: a later probe meets them as they were.
        """
        args = tuple(arg.clone() if isinstance(arg, torch.Tensor) else arg for arg in args)
        if isinstance(function, nn.Module):
            told = told or call_in_words(type(function), args, {}).replace("(", ".forward(", 1)
            value = self._through(function, args, told)
        else:
            told = told or call_in_words(function, args, {})
            value = self.call(function, *args, told=told)
        if value is None or value is Ellipsis:
            self.nothing(
                getattr(type(function), "forward", function) if isinstance(function, nn.Module) else function, told
            )
        if not isinstance(value, torch.Tensor):
            self.wrong("wrong-type", f"{told} gave a {type(value).__name__}; a tensor is expected.")
        if dtype is not None and value.dtype != dtype:
            self.wrong("wrong-dtype", f"{told} gave {short(value.dtype)}; {short(dtype)} is expected.")
        return value

    def _through(self, module: nn.Module, args: tuple[Any, ...], told: str) -> Any:
        """Call a module. Where float64 does not go through, say what did not become float64."""
        value = self.attempt(module, *args, told=told)
        if not isinstance(value, Failure):
            return value
        if hidden := hidden_weights(module):
            names, kind = ", ".join(f"`{name}`" for name, _ in hidden), hidden[0][1]
            self.wrong(kind, f"PyTorch does not find {names} among the weights of the module. {value}")
        if not list(module.parameters()) and "dtype" in value.words.lower().replace("type", "dtype"):
            self.wrong("weights-in-forward", f"The module owns no weights, and yet computes with some. {value}")
        return self.call(module, *args, told=told)  # raises again, now for good

    def nothing(self, function: Any, told: str) -> NoReturn:
        """End where a call gave None: not written yet where the function is the stub, else a forgotten return."""
        if is_untouched(function):
            self.not_written(f"`{getattr(function, '__name__', 'the function')}`")
        self.wrong("no-return", f"{told} gave back None.")

    # What is looked at in most exercises.

    def shape(
        self, yours: torch.Tensor, expected: Sequence[int], at: str = "", wrong: Mapping[str, Any] | None = None
    ) -> None:
        """End where the shape is another one; ``wrong`` has the shapes that known mistakes give."""
        found, expected = tuple(yours.shape), tuple(expected)
        if found == expected:
            return
        seen = f"The result has the shape {found}; expected is {expected}{f', {at}' if at else ''}."
        for kind, shape in (wrong or {}).items():
            if found == tuple(shape):
                self.wrong(kind, seen)
        if len(found) != len(expected):
            self.wrong("wrong-rank", seen)
        self.wrong("axes-exchanged" if sorted(found) == sorted(expected) else "wrong-shape", seen)

    def side_effects(self, function: Callable[..., Any], *args: Any) -> None:
        """End where a call draws random numbers, or gives two results for the same input, or one for two."""
        state = torch.get_rng_state()
        first = self.output(function, *args, dtype=None).detach().clone()
        if first.numel() and not bool(first.isfinite().any()):  # the same for every input
            self.wrong("not-a-number", "All numbers are NaN or infinite.")
        drew = not torch.equal(state, torch.get_rng_state())
        torch.manual_seed(1)
        second = self.output(function, *args, dtype=None).detach()
        if not same(first, second):
            kind = "not-deterministic"
            if isinstance(function, nn.Module):
                kind = "weights-in-forward" if not list(function.parameters()) else kind
                kind = "keeps-state" if not drew else kind
            self.wrong(kind, "Two calls with the same input gave two results.")
        numbers = [isinstance(a, torch.Tensor) and a.is_floating_point() for a in args]
        others = [a.flip(0) * 2 + 1 if number else a for a, number in zip(args, numbers)]
        if any(numbers) and bool(first.any()) and same(first, self.output(function, *others, dtype=None).detach()):
            self.wrong("keeps-state", "Another input gave the very same result.")
        if drew:
            self.wrong("draws-random-numbers", "After the call the global generator stands elsewhere than before.")

    def pictures_apart(self, function: Callable[..., Any], x: torch.Tensor, axis: int = 0) -> None:
        """End where a picture's result depends on the other pictures of the batch."""
        whole = self.output(function, x).detach()
        for index in range(x.shape[axis]):
            alone = self.output(function, x.narrow(axis, index, 1)).detach()
            if alone.shape != whole.narrow(axis, index, 1).shape or not close(alone, whole.narrow(axis, index, 1)):
                self.wrong("mixes-pictures", "A picture alone gives another result than in a batch with a second one.")

    def same_in_eval(self, module: nn.Module, x: torch.Tensor) -> None:
        """End where training and evaluation differ."""
        training = self.output(module, x).detach().clone()
        self.call(module.eval, told="eval()")
        evaluation = self.output(module, x).detach()
        self.call(module.train, told="train()")
        if not close(training, evaluation):
            self.wrong("differs-in-eval", "After `eval()` the same input gives another result.")

    def gradients(
        self, module: nn.Module, x: torch.Tensor, like: Callable[[torch.Tensor], torch.Tensor] | None = None
    ) -> None:
        """End where a weight, or the input, gets no gradient, or the input another one than that of ``like``.

        ``like`` computes the target, so a part that is taken out of the graph is seen even where others go on.
        """
        for name, parameter in module.named_parameters():
            if not parameter.requires_grad:
                self.wrong("frozen", f"`{name}` does not require a gradient.")
        x = x.detach().clone().requires_grad_()
        yours = self.output(module, x)
        named = [("the input", x), *((f"`{name}`", parameter) for name, parameter in module.named_parameters())]
        missing = [name for name, _ in named]
        if yours.requires_grad:
            weights = random(*yours.shape, seed=9)
            found = torch.autograd.grad((yours * weights).sum(), [tensor for _, tensor in named], allow_unused=True)
            missing = [name for (name, _), gradient in zip(named, found) if gradient is None]
        if missing:
            self.wrong("no-gradient", f"No gradient reaches {', '.join(missing)}.")
        if like is not None:
            (expected,) = torch.autograd.grad((like(x) * weights).sum(), x)
            if not close(found[0], expected):
                self.wrong("wrong-gradient", "The input's gradient is another one.", differences(found[0], expected))

    def values(
        self, yours: torch.Tensor, target: torch.Tensor, wrong: Mapping[str, Any] | None = None, at: str = ""
    ) -> None:
        """End where the values are not the target's.

        Args:
            yours: the reader's result; its shape is the target's.
            target: what it should be.
            wrong: for each known mistake the result that it gives: a tensor, or a function that computes it.
            at: for which input, in words.
        """
        yours, target = yours.detach(), target.detach()
        if close(yours, target):
            return
        where = f" ({at})" if at else ""
        table = differences(yours, target)
        if not bool(yours.isfinite().all()):
            self.wrong(
                "not-a-number",
                f"{int((~yours.isfinite()).sum())} of {yours.numel()} numbers are NaN or infinite{where}.",
            )
        for kind, candidate in (wrong or {}).items():
            result = candidate() if callable(candidate) else candidate
            if result.shape == yours.shape and close(yours, result):
                self.wrong(kind, f"The result is the one that this mistake gives, to the last digits{where}.", table)
        kind, seen = relation(yours, target)
        self.wrong(kind, f"{seen}{where}", table)


def relation(yours: torch.Tensor, target: torch.Tensor) -> tuple[str, str]:
    """Return how a result that is not the target relates to it: a kind, and words."""
    largest = float((yours - target).abs().max() / target.abs().max().clamp(min=1e-300))
    if largest <= LOOSE:
        return "close-but-not-equal", f"The largest difference is {largest:.1e} of the largest number"
    if not bool(yours.any()):
        return "all-zero", "All numbers are zero"
    if close(-yours, target):
        return "sign-reversed", "Every number has the other sign"
    factor = float((yours * target).sum() / (target * target).sum())
    if close(yours, factor * target):
        return "scaled-by-constant", f"Every number is {factor:.4g} times the target"
    shift = float((yours - target).mean())
    if close(yours, target + shift):
        return "shifted-by-constant", f"Every number is the target and {shift:.4g} more"
    if target.numel() > 3 and close(yours.flatten().sort().values, target.flatten().sort().values):
        return "other-places", "The numbers are the target's, in other places"
    return "unknown", f"The largest difference is {float((yours - target).abs().max()):.3g}"


@dataclass(frozen=True)
class Exercise:
    """A check that can be called with an answer.

    Attributes:
        name: under which ``checks`` has it.
        title: what is checked, in the result's words.
        hints: its own kinds of mistakes, and the hint of each.
        body: what looks.
    """

    name: str
    title: str
    hints: Mapping[str, str] = field(repr=False)
    body: Callable[..., None] = field(repr=False)
    __doc__: str = field(repr=False, default="")

    def __call__(self, *answers: Any) -> Result:
        """Look at an answer. Never raises, but for an interrupt by the user."""
        return look_at(self.title, self.hints, self.body, *answers)


EXERCISES: dict[str, Exercise] = {}
"""Every exercise that a chapter of ``segformer_edu.checks`` defines, by its name."""


def exercise(title: str, hints: Mapping[str, str]) -> Callable[[Callable[..., None]], Exercise]:
    """Make a function ``(look, answer, …) -> None`` into an ``Exercise``, under the function's name."""

    def made(body: Callable[..., None]) -> Exercise:
        name = body.__name__
        EXERCISES[name] = Exercise(name, title, dict(hints), body, body.__doc__ or "")
        return EXERCISES[name]

    return made


def look_at(title: str, hints: Mapping[str, str], body: Callable[..., None], *answers: Any) -> Result:
    """Run the body of a check. Whatever happens in it becomes a ``Result``; only the user's own Ctrl-C passes."""
    look, watch = Look(title, hints), _guard.Watch()
    with _guard.left_alone() as printed, watch.watching():
        result = _ran(look, watch, body, answers)
        watch.inside = False
    if watch.interrupted:
        raise KeyboardInterrupt
    if watch.fired:
        result = _found(
            look, "could not run", "takes-too-long", f"{look._doing} had not ended after {_guard.LIMIT:g} s."
        )
    text = printed.getvalue()
    return Result(**{**vars(result), "printed": text[:400] + (" …" if len(text) > 400 else "")})


def _ran(look: Look, watch: _guard.Watch, body: Callable[..., None], answers: tuple[Any, ...]) -> Result:
    try:
        try:
            watch.inside = True
            body(look, *answers)
        finally:
            watch.inside = False
    except _Ended as ended:
        return ended.result
    except BaseException as error:
        watch.inside = False
        return _told(look, error)
    return Result(look.title, "right", done=tuple(look._done), remark=" ".join(look._remarks))


def _told(look: Look, error: BaseException) -> Result:
    """Say what the reader's code raised: his line, and the call with the shapes that went in."""
    failure = Failure(type(error).__name__, safe(error), line_of(error.__traceback__))
    if not look._in_reader:
        return _found(look, "could not run", "check-failed", f"{look._doing} {failure}".strip())
    if isinstance(error, NotImplementedError) and "NotImplementedError" in innermost(error.__traceback__).co_names:
        return _found(look, "not written yet", "", "")
    if isinstance(error, AttributeError) and _lacks_super(failure.words):
        return _found(look, "could not run", "super-init-missing", f"{look._doing} raised {failure}")
    if isinstance(error, TypeError) and not within(error.__traceback__):
        return _found(look, "could not run", "signature", f"{look._doing} raised {failure}")
    return _found(look, "could not run", _speaks_of(error, failure.words), f"{look._doing} raised {failure}")


def _speaks_of(error: BaseException, words: str) -> str:
    """Return the kind of an exception: of names, keys, places, the graph of the gradients, or else of shapes."""
    if isinstance(error, AttributeError | NameError):
        return "name-missing"
    if isinstance(error, KeyError):
        return "key-missing"
    if isinstance(error, IndexError) and "out of" in words and not words.startswith("Dimension"):
        return "outside"
    return "graph" if isinstance(error, RuntimeError) and any(part in words for part in _GRAPH) else "raises"


def _lacks_super(words: str) -> bool:
    """Whether a message says that a module's own tables, or its mode, were never made."""
    tables = ("_modules", "_parameters", "_buffers", "training")
    return "before Module.__init__() call" in words or any(words.endswith(f"no attribute '{name}'") for name in tables)


def _found(look: Look, outcome: Outcome, kind: str, seen: str) -> Result:
    return Result(look.title, outcome, kind, seen, look.hints[kind] if kind else "", tuple(look._done))


# Helpers, for the chapters' checks too.


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    """Return normal numbers of that shape in float64, the same ones for the same seed everywhere."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def close(yours: torch.Tensor, target: torch.Tensor, tolerance: float = TIGHT) -> bool:
    """Whether two tensors of one shape are equal, up to ``tolerance`` of the largest number."""
    if yours.shape != target.shape or not bool(yours.isfinite().all()):
        return False
    if not yours.numel():
        return True
    difference = (yours.detach().double() - target.detach().double()).abs().max()
    return bool(difference <= tolerance * target.detach().double().abs().max().clamp(min=1e-12))


def same(first: torch.Tensor, second: torch.Tensor) -> bool:
    """Whether two tensors hold the same bits, NaN being equal to NaN."""
    return first.shape == second.shape and bool(((first == second) | (first.isnan() & second.isnan())).all())


def differences(yours: torch.Tensor, target: torch.Tensor, rows: int = 4) -> Table | None:
    """Return the places where two tensors of one shape differ most, or None where they are empty."""
    if yours.shape != target.shape or not yours.numel() or not yours.dim():
        return None
    distance = (yours.double() - target.double()).abs().nan_to_num(torch.inf)
    worst = distance.flatten().topk(min(rows, distance.numel())).indices
    places = [tuple(int(i) for i in np.unravel_index(int(index), distance.shape)) for index in worst]
    found = tuple((str(place), f"{float(target[place]):.5g}", f"{float(yours[place]):.5g}") for place in places)
    return Table("The largest differences", ("place", "target", "yours"), found)


def hidden_weights(module: nn.Module) -> list[tuple[str, str]]:
    """Return the attributes that hold weights which PyTorch does not find: the name, and the kind of the mistake."""
    found = []
    for prefix, part in module.named_modules():
        for name, value in vars(part).items():
            if name.startswith("_") and name in vars(nn.Module()):
                continue
            inside = (
                value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else [value]
            )
            kinds = {"layers-in-a-list" if isinstance(v, nn.Module) else "plain-tensor" for v in inside if _weighs(v)}
            found += [(f"{prefix}.{name}".strip("."), kind) for kind in sorted(kinds)]
    return found


def _weighs(value: Any) -> bool:
    tensor = isinstance(value, torch.Tensor) and value.is_floating_point() and value.dim() > 0
    return tensor or (isinstance(value, nn.Module) and any(True for _ in value.parameters()))


def is_untouched(function: Any) -> bool:
    """Whether a function's body does nothing: a docstring, ``...``, ``pass``, ``super().__init__()`` at the most."""
    while isinstance(getattr(function, "__wrapped__", None), FunctionType):  # under a decorator such as no_grad
        function = function.__wrapped__
    code = getattr(getattr(function, "__func__", function), "__code__", None)
    if not isinstance(code, CodeType):
        return False
    names = set(code.co_names) <= {"super", "__init__", "NotImplementedError"}
    return names and all(value is None or value is Ellipsis or isinstance(value, str) for value in code.co_consts)


def tensors_in(values: Any) -> list[torch.Tensor]:
    """Return the tensors among some arguments, those in lists and dicts too, whose numbers can be compared."""
    if isinstance(values, torch.Tensor):
        return [] if values.is_meta else [values]
    if isinstance(values, dict):
        values = values.values()
    elif not isinstance(values, list | tuple):
        return []
    return [tensor for value in values for tensor in tensors_in(value)]


def call_in_words(function: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    """Return a call as text: tensors by their shapes."""
    name = getattr(function, "__name__", None)
    name = name if isinstance(name, str) else type(function).__name__
    given = [in_words(value) for value in args] + [f"{key}={in_words(value)}" for key, value in kwargs.items()]
    return f"{name}({', '.join(given)})"


def in_words(value: Any) -> str:
    """Return an argument as text."""
    if isinstance(value, torch.Tensor):
        return f"{short(value.dtype)} {tuple(value.shape)}"
    if isinstance(value, nn.Module):
        return type(value).__name__
    if isinstance(value, int | float | str | bool | tuple | list | type(None)):
        return repr(value)
    name = getattr(value, "__name__", None)
    return name if isinstance(name, str) else type(value).__name__


def short(dtype: Any) -> str:
    """Return a dtype without "torch."."""
    return str(dtype).removeprefix("torch.")


def safe(error: BaseException) -> str:
    """Return an exception's message, its first lines, even where ``str`` of it fails."""
    try:
        return " ".join(str(error).split())[:300]
    except BaseException:
        return "(its message cannot be shown)"


def frames(trace: TracebackType | None) -> list[traceback.FrameSummary]:
    """Return the frames of a traceback, the outermost one first, those of the check itself left out."""
    found = traceback.extract_tb(trace, limit=200)
    return [frame for frame in found if not frame.filename.startswith(_HERE)]


def innermost(trace: TracebackType | None) -> CodeType:
    """Return the code of the innermost frame: PyTorch's own, in C++, has none, and raises NotImplementedError too."""
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return (trace.tb_frame if trace is not None else sys._getframe()).f_code


def within(trace: TracebackType | None) -> bool:
    """Whether the exception came from inside the reader's code, and not from the call of it."""
    return any(not frame.filename.startswith(_TORCH) for frame in frames(trace))


def line_of(trace: TracebackType | None) -> str:
    """Return the reader's line that an exception came from: the innermost one outside of installed packages."""
    installed = (sys.base_prefix, sys.prefix, _TORCH, "<frozen")
    for frame in reversed(frames(trace)):
        if not frame.filename.startswith(installed) and "site-packages" not in frame.filename:
            line = frame.line or linecache.getline(frame.filename, frame.lineno or 0)
            return line.strip()
    return ""
