"""Every wrong answer gets its own hint and no other's; every right one passes, in whatever style."""

from __future__ import annotations

import random
import time
from collections import Counter

import numpy as np
import pytest
import torch
from catalogue import answers, check, hints_of

from segformer_edu import checks
from segformer_edu.checks.core import COMMON
from segformer_edu.checks.numbers import PREDICTIONS, PUZZLES, WORDS

ALL = {**checks.EXERCISES, **PREDICTIONS, **PUZZLES}


def state():
    """Every global state that a check could move."""
    return (
        torch.get_rng_state().tolist(),
        str(np.random.get_state()),  # noqa: NPY002
        random.getstate(),
        torch.get_default_dtype(),
        torch.is_grad_enabled(),
        torch.are_deterministic_algorithms_enabled(),
        torch.get_num_threads(),
    )


@pytest.mark.parametrize("answer", answers(), ids=str)
def test_answer_gets_its_own_hint(answer, record_property):
    before, start = state(), time.process_time()
    result = check(answer.exercise, answer.value)
    seconds = time.process_time() - start
    assert state() == before
    record_property("diagnosis", [answer.exercise, answer.kind or "right", result.kind or result.outcome, seconds])
    assert (result.outcome, result.kind) == (answer.outcome, answer.kind), str(result)
    known = {**WORDS, **COMMON, **hints_of(answer.exercise)} if answer.exercise in PREDICTIONS else None
    assert result.hint == (known or {**COMMON, **hints_of(answer.exercise)}).get(answer.kind, "")
    assert bool(result.remark) is answer.remark


@pytest.mark.parametrize("name", sorted(ALL))
def test_hints_of_an_exercise_are_different_from_each_other(name):
    hints = [*hints_of(name).values(), *COMMON.values()]
    assert [hint for hint, count in Counter(hints).items() if count > 1] == []
    assert all(hint.endswith("?") or "?" in hint for hint in hints), "a hint asks"


@pytest.mark.parametrize("name", sorted(ALL))
def test_exercise_has_right_answers_in_three_styles_and_a_wrong_one_for_each_of_its_kinds(name):
    own = [answer for answer in answers() if answer.exercise == name]
    assert len({answer.style for answer in own if not answer.kind}) >= (1 if name in PUZZLES else 3)
    assert hints_of(name).keys() - {answer.kind for answer in own} == set()


def test_the_docstring_of_a_check_says_what_it_takes():
    assert [name for name, exercise in checks.EXERCISES.items() if not exercise.__doc__.startswith("Check `")] == []
    assert set(checks.EXERCISES) < set(dir(checks))
