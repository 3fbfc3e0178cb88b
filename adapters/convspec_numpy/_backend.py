"""The NumPy backend: what its kernel likes, what it lacks, and whose arrays it takes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from convspec import copies, dtypes
from convspec.backend import Capabilities, Guard, Kernel
from convspec.lowering import Lowered, Orders
from convspec.plan import Call, Step
from convspec.problem import Problem
from convspec.toolkit import PlanBackend

from . import _arrays, _snippets
from ._kernel import conv, kernel, takes_padding

#: Channels times taps that lie side by side, below which channels first is faster to gather.
SHORT = 32


class NumpyBackend(PlanBackend):
    """NumPy arrays of any rank, on the CPU."""

    name = "numpy"
    operations = {**_arrays.OPERATIONS, "conv": conv}
    snippets = _snippets.SNIPPETS
    views = frozenset({"permute", "reshape", "slice", "flip"})

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(np.__version__, dtypes.ALL, None, ("cpu",), gradients=False)

    def owns(self, x: Any) -> bool:
        return isinstance(x, np.ndarray)

    def unwrap(self, x: Any) -> Any:
        if type(x) is np.ndarray:
            return x
        if isinstance(x, np.ma.MaskedArray):
            raise TypeError("it hides elements; make a dense one of it first.")
        return np.asarray(x)  # a matrix has two axes whatever is done with it

    def describe(self, x: Any) -> tuple[tuple[Any, ...], str, str]:
        return x.shape, _name(x.dtype), "cpu"

    def shortcut(self, kernel: Kernel, arrays: Sequence[Any]) -> tuple[Guard, Kernel] | None:
        return (_arrays.guard_of(*arrays), kernel) if all(map(_plain, arrays)) else None

    def orders(self, problem: Problem, device: str, *, transposed: bool) -> Orders:
        space = problem.spatial
        first, last = f"NC{space}", f"N{space}C"
        if transposed:
            return Orders(last, f"{space}IO", last, "O")
        x = last if problem.layout[-1] == "C" else first
        if 1 < problem.groups == problem.in_channels:
            return Orders(x, f"{space}IO", x, "O")
        if x == last and problem.in_channels // problem.groups * problem.kernel_size[-1] < SHORT:
            x = first
        if x == last:
            return Orders(last, f"{space}IO", last, "O")
        return Orders(first, f"OI{space}", last if problem.output_layout[-1] == "C" else first, "O")

    def lacks(self, call: Call) -> str:
        if call.bias:
            return "bias"
        return "padding" if call.padded and not takes_padding(call) else ""

    def pads(self, mode: str, rank: int, dtype: str) -> bool:
        return True

    def bound(self, op: str, params: dict[str, Any]) -> Step:
        return Step(kernel(params["call"])) if op == "conv" else super().bound(op, params)

    def prologue(self, lowered: Lowered) -> str:
        return _snippets.prologue(lowered.calls, {lowered.plan.dtype, lowered.inputs[0].dtype})

    def from_foreign(self, x: Any, like: Any = None) -> Any:
        return x if isinstance(x, np.ndarray) else np.from_dlpack(x)

    def to_numpy(self, x: Any) -> Any:
        return x

    def contiguous(self, x: Any) -> Any:
        return copies.contiguous(x)


@lru_cache(256)
def _name(dtype: np.dtype[Any]) -> str:
    return dtype.name  # which NumPy puts together each time


def _plain(x: Any) -> bool:
    return type(x) is np.ndarray
