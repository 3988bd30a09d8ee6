"""Between a reader's code and the notebook: what is left as it was, how long it may take, and who interrupts."""

from __future__ import annotations

import contextlib
import ctypes
import io
import random
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from types import FrameType
from typing import Any

import numpy as np
import torch

LIMIT = 20.0
"""So many seconds a check may take."""


class OutOfTime(BaseException):
    """Raised inside a reader's code that takes too long. Not an Exception: ``except Exception`` lets it pass."""


class Watch:
    """Stops code that takes longer than ``LIMIT``, and knows an interrupt by the user from one that code raises.

    In the main thread, by SIGALRM; elsewhere, and where there is none (Windows), by another thread. The alarm comes
    again and again, since the code may catch the first one. One operation in C that never returns is not stopped; nor
    is, where another thread watches, a loop that catches everything around a call.
    """

    def __init__(self) -> None:
        self.inside = False  # whether an alarm may be raised here and now
        self.fired = False
        self.interrupted = False

    def _alarm(self, number: int, frame: FrameType | None) -> None:
        self.fired = True
        if self.inside:
            raise OutOfTime

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        self.interrupted = True
        raise KeyboardInterrupt

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Watch what is done inside."""
        main = threading.current_thread() is threading.main_thread()
        with contextlib.ExitStack() as stack:
            if main and signal.getsignal(signal.SIGINT) not in (None, signal.SIG_IGN):
                stack.callback(signal.signal, signal.SIGINT, signal.signal(signal.SIGINT, self._interrupt))
            if main and hasattr(signal, "setitimer") and signal.getsignal(signal.SIGALRM) is not None:
                stack.callback(signal.signal, signal.SIGALRM, signal.signal(signal.SIGALRM, self._alarm))
                before = signal.setitimer(signal.ITIMER_REAL, LIMIT, 0.0005)
                stack.callback(signal.setitimer, signal.ITIMER_REAL, *before)
            else:
                stack.enter_context(self._thread())
            yield

    @contextlib.contextmanager
    def _thread(self) -> Iterator[None]:
        stopped, watched = threading.Event(), ctypes.c_ulong(threading.get_ident())
        raise_in = ctypes.pythonapi.PyThreadState_SetAsyncExc

        def pester() -> None:
            done = stopped.wait(LIMIT)
            while not done:
                self.fired = True
                if self.inside:
                    raise_in(watched, ctypes.py_object(OutOfTime))
                done = stopped.wait(0.01)

        other = threading.Thread(target=pester, daemon=True)
        other.start()
        try:
            yield
        finally:
            stopped.set()
            other.join()
            if self.fired:
                # One may still be on its way. It cannot be called back: CPython would go on to look for it in every
                # thread, and a debugger would hang. So let one arrive here.
                with contextlib.suppress(OutOfTime):
                    raise_in(watched, ctypes.py_object(OutOfTime))
                    for _ in range(1000):
                        pass


@contextlib.contextmanager
def left_alone() -> Iterator[io.StringIO]:
    """Seed the generators, and leave every global state afterwards as it was before. Yields what was printed inside."""
    printed = io.StringIO()
    with contextlib.ExitStack() as stack:
        for restore, *state in _states():
            stack.callback(restore, *state)
        stack.enter_context(warnings.catch_warnings())
        stack.enter_context(contextlib.redirect_stdout(printed))
        stack.enter_context(contextlib.redirect_stderr(printed))
        warnings.simplefilter("ignore")
        torch.set_default_dtype(torch.float32)
        torch.manual_seed(0)
        np.random.seed(0)  # noqa: NPY002 the reader's code may use the global one
        random.seed(0)
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        yield printed


def _deterministic(on: bool, warn: bool) -> None:
    """Set the flag back where it was changed; to set it takes a second, since PyTorch imports its compiler for that."""
    if (on, warn) != (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    ):
        torch.use_deterministic_algorithms(on, warn_only=warn)


def _states() -> list[tuple[Any, ...]]:
    """Return the global states: for each, what sets it, and what it is now."""
    torch_flags = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    backend = torch.backends.cudnn
    states = [
        (torch.set_rng_state, torch.get_rng_state()),
        (np.random.set_state, np.random.get_state()),  # noqa: NPY002
        (random.setstate, random.getstate()),
        (torch.set_default_dtype, torch.get_default_dtype()),
        (torch.set_grad_enabled, torch.is_grad_enabled()),
        (_deterministic, *torch_flags),
        (setattr, backend, "deterministic", backend.deterministic),
        (setattr, backend, "benchmark", backend.benchmark),
        (torch.autograd.set_detect_anomaly, torch.is_anomaly_enabled()),
        (lambda errors: np.seterr(**errors), np.geterr()),
        (sys.setrecursionlimit, sys.getrecursionlimit()),
        (torch.set_num_threads, torch.get_num_threads()),
    ]
    if torch.cuda.is_initialized():
        states.append((torch.cuda.set_rng_state_all, torch.cuda.get_rng_state_all()))
    return states
