"""What a call must leave alone: the caller's arrays, and the memory that they lie in."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from convspec import ConvSpec, Support

from .cases import Case
from .fillings import Array
from .targets import Target

#: The arrays that follow the spec in each method of a target.
ARRAYS = {
    "run": ("x", "weight", "bias"),
    "gradients": ("x", "weight", "bias", "the cotangent"),
    "gradients_apart": ("x", "weight", "bias", "the cotangent"),
    "second_gradients": ("x", "weight", "g", "u", "v"),
}


class Watched:
    """A target whose calls are watched; ``misdeed`` says what the first wrong one did."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.name = target.name
        self.misdeed = ""

    def __getattr__(self, name: str) -> Any:
        """Whatever else a target says of itself, or can do."""
        found = getattr(self.target, name)
        return partial(self._watch, found, ARRAYS[name]) if name in ARRAYS else found

    def claims(self, case: Case) -> Support:
        return self.target.claims(case)

    def run(self, spec: ConvSpec, x: Array, w: Array, b: Array | None, **options: Any) -> Array:
        y: Array = self._watch(self.target.run, ARRAYS["run"], spec, x, w, b, **options)
        return y

    def _watch(
        self,
        method: Callable[..., Any],
        names: tuple[str, ...],
        spec: ConvSpec,
        *arrays: Array | None,
        **options: Any,
    ) -> Any:
        given = [
            (name, a, a.tobytes()) for name, a in zip(names, arrays, strict=True) if a is not None
        ]
        try:
            found = method(spec, *arrays, **options)
        finally:  # a refusal changes nothing either
            for name, array, before in given:
                if array.tobytes() != before:
                    self._did(f"{name} was changed by the call")
        if names != ARRAYS["run"]:  # a gradient may be the cotangent itself, as a sum's is
            return found
        for y in found if isinstance(found, tuple) else (found,):
            for name, array, _ in given:
                if isinstance(y, np.ndarray) and y.size and np.may_share_memory(y, array):
                    self._did(f"the result lies in {name}'s memory")
        return found

    def _did(self, what: str) -> None:
        self.misdeed = self.misdeed or what
