"""Deliberately wrong engines, by which the suite itself is tested: every one must be caught.

A fault is the NumPy engine with one realistic mistake, written as a function of a
:class:`~.engine.Call` with the decorator :func:`~.engine.fault`, in the file of its subject.
"""

# The files register their faults when they are imported.
from . import answers, axes, memory, numbers, padding, transposed
from .engine import FAULTS, Call, Fault, fault, right
from .hunt import Hunt, check, run_faults, table

__all__ = [
    "FAULTS",
    "Call",
    "Fault",
    "Hunt",
    "answers",
    "axes",
    "check",
    "fault",
    "memory",
    "numbers",
    "padding",
    "right",
    "run_faults",
    "table",
    "transposed",
]
