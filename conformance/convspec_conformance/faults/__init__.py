"""Deliberately wrong engines, by which the suite itself is tested: every one must be caught.

A fault is the NumPy engine, with gradients from the oracle, and one realistic mistake. It is
written as a function of a :class:`~.engine.Call` with the decorator :func:`~.engine.fault` (or
:func:`~.engine.gradient_fault`), in the file of its subject.
"""

# The files register their faults when they are imported.
from . import (
    answers,
    axes,
    backwards,
    calls,
    corners,
    gradients,
    memory,
    numbers,
    padding,
    transposed,
)
from .engine import (
    FAULTS,
    Call,
    Fault,
    fault,
    gradient_fault,
    right,
    right_gradients,
    second_gradient_fault,
)
from .hunt import Hunt, check, run_faults, table

__all__ = [
    "FAULTS",
    "Call",
    "Fault",
    "Hunt",
    "answers",
    "axes",
    "backwards",
    "calls",
    "check",
    "corners",
    "fault",
    "gradient_fault",
    "gradients",
    "memory",
    "numbers",
    "padding",
    "right",
    "right_gradients",
    "run_faults",
    "second_gradient_fault",
    "table",
    "transposed",
]
