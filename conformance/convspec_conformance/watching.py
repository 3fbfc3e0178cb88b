"""What a call must leave alone: the caller's arrays, and the memory that they lie in."""

from __future__ import annotations

from typing import Any

import numpy as np

from convspec import ConvSpec, Support

from .cases import Case
from .fillings import Array
from .targets import Target


class Watched:
    """A target whose calls are watched; ``misdeed`` says what the first wrong one did."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.name = target.name
        self.misdeed = ""

    def __getattr__(self, name: str) -> Any:
        """Whatever else a target says of itself, or can do."""
        return getattr(self.target, name)

    def claims(self, case: Case) -> Support:
        return self.target.claims(case)

    def run(self, spec: ConvSpec, x: Array, w: Array, b: Array | None, **options: Any) -> Array:
        given = {"x": x, "weight": w} if b is None else {"x": x, "weight": w, "bias": b}
        before = {name: array.copy() for name, array in given.items()}
        try:
            y = self.target.run(spec, x, w, b, **options)
        finally:  # a refusal changes nothing either
            for name, array in given.items():
                if not np.array_equal(array, before[name]):
                    self._did(f"{name} was changed by the call")
        for name, array in given.items():
            if isinstance(y, np.ndarray) and y.size and np.may_share_memory(y, array):
                self._did(f"the result lies in {name}'s memory")
        return y

    def _did(self, what: str) -> None:
        self.misdeed = self.misdeed or what
