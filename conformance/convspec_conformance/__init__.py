"""The conformance suite: any convolution backend, held to one reference.

convspec conformance run --backend torch
convspec conformance run --backend package.module:object
convspec conformance faults
pytest --pyargs convspec_conformance --convspec-backend torch
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .cases import Case, parse
    from .generate import LEVELS, suite
    from .judges import Verdict, judge
    from .runner import Limits, Result, Run, run
    from .targets import BackendTarget, Target, load

__all__ = [
    "LEVELS",
    "BackendTarget",
    "Case",
    "Limits",
    "Result",
    "Run",
    "Target",
    "Verdict",
    "judge",
    "load",
    "parse",
    "run",
    "suite",
]

#: Where each public name lives. pytest imports this package at every start, for the plugin in it,
#: and must not pay for NumPy and the core each time: a name is imported when it is asked for.
_PLACES = {
    "LEVELS": "generate",
    "BackendTarget": "targets",
    "Case": "cases",
    "Limits": "runner",
    "Result": "runner",
    "Run": "runner",
    "Target": "targets",
    "Verdict": "judges",
    "judge": "judges",
    "load": "targets",
    "parse": "cases",
    "run": "runner",
    "suite": "generate",
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_PLACES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
