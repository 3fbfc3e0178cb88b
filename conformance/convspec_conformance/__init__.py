"""The conformance suite: any convolution backend, held to one reference.

convspec conformance run --backend torch
convspec conformance run --backend package.module:object
convspec conformance faults
"""

from .cases import Case, parse
from .generate import LEVELS, suite
from .judges import Verdict, judge
from .targets import BackendTarget, Target, load

__all__ = [
    "LEVELS",
    "BackendTarget",
    "Case",
    "Target",
    "Verdict",
    "cases",
    "judge",
    "load",
    "parse",
    "suite",
]
