"""Targets that go wrong at one width of the input, for the tests of the conformance runner.

Everywhere else they are the NumPy adapter.
"""

from __future__ import annotations

import ctypes
import os
import signal
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import convspec
from convspec import ConvSpecError, Support
from convspec_conformance.cases import Case
from convspec_conformance.targets import BackendTarget

#: What happens at each width.
SEGFAULT, HANG, EXIT, ABORT, MEMORY, KILLED, RAISES, WRONG, UNCLAIMED = range(11, 20)


def _hang() -> None:
    time.sleep(1000)


def _exhaust() -> None:
    """As a kernel that asks for an output of four times the machine's memory."""
    np.ones(2**37, "uint8")


def _raise() -> None:
    raise RuntimeError("an internal error of the framework")


def _killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


ACTIONS: dict[int, Callable[[], Any]] = {
    SEGFAULT: lambda: ctypes.string_at(0),
    HANG: _hang,
    EXIT: lambda: os._exit(3),
    ABORT: os.abort,
    MEMORY: _exhaust,
    KILLED: _killed,
    RAISES: _raise,
}


def _width(shape: tuple[int, ...]) -> int:
    """Of one signal, as the tests' own cases are: cases that are drawn may have any size."""
    return shape[-1] if len(shape) == 3 and shape[0] == 1 else 0


class Fragile(BackendTarget):
    """The NumPy adapter, but for some widths."""

    version = "7.1"

    def __init__(self) -> None:
        super().__init__(convspec.get_backend("numpy"))
        self.name = "fragile"

    def claims(self, case: Case) -> Support:
        if _width(case.input_shape) == UNCLAIMED:
            return Support(False, "none", "width 19 is unlucky")
        return super().claims(case)

    def run(self, spec: Any, x: Any, w: Any, b: Any, **options: Any) -> Any:
        width = _width(x.shape)
        if width in ACTIONS:
            ACTIONS[width]()
        y = super().run(spec, x, w, b, **options)
        return y + (width == WRONG)


def fragile() -> Fragile:
    """The target above."""
    return Fragile()


class Slow(BackendTarget):
    """The NumPy adapter, at leisure."""

    def run(self, spec: Any, x: Any, w: Any, b: Any, **options: Any) -> Any:
        time.sleep(0.02)
        return super().run(spec, x, w, b, **options)


def slow() -> Slow:
    """The target above."""
    return Slow(convspec.get_backend("numpy"), "slow")


def dies_loading() -> None:
    """A target whose framework cannot be imported without ending the process."""
    os.abort()


def refuses_loading() -> None:
    """A target that says why it cannot be."""
    raise ConvSpecError("backend: no licence found.")
