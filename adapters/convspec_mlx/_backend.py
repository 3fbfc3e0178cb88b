"""The MLX backend: what its kernel likes, what it lacks, and whose arrays it takes."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import mlx.core as mx

from convspec import dtypes
from convspec.backend import Capabilities
from convspec.lowering import Lowered, Orders
from convspec.plan import Call
from convspec.problem import Problem
from convspec.toolkit import PlanBackend

from . import _arrays, _snippets
from ._kernel import conv


class MlxBackend(PlanBackend):
    """MLX arrays of floating-point types: ranks 1 to 3 by one kernel, but for grouped 3-D."""

    name = "mlx"
    operations = {**_arrays.OPERATIONS, "conv": conv}
    snippets = _snippets.SNIPPETS
    views = frozenset({"permute", "reshape", "slice"})

    @property
    def capabilities(self) -> Capabilities:
        types = (*dtypes.HALF, "float32")
        return Capabilities(version("mlx"), types, None, (_arrays.device_kind(),), gradients=True)

    def owns(self, x: Any) -> bool:
        return isinstance(x, mx.array)

    def describe(self, x: Any) -> tuple[tuple[Any, ...], str, str]:
        return x.shape, _arrays.name_of(x.dtype), _arrays.device_kind()

    def vjp(self, function: Any, arrays: Any, cotangent: Any) -> tuple[Any, ...]:
        return tuple(mx.vjp(function, list(arrays), [cotangent])[1])

    def orders(self, problem: Problem, device: str, *, transposed: bool) -> Orders:
        data = f"N{problem.spatial}C"
        return Orders(data, f"O{problem.spatial}I", data, "O")

    def lacks(self, call: Call) -> str:
        if not call.nonempty:
            return "batch"  # the gradient by the weight would end the process
        if call.bias:
            return "bias"
        if call.transposed:
            return "transposed"
        if call.rank > 3:
            return "rank"
        if call.rank == 3 and call.groups > 1:
            # Many groups cost fewer kernel calls as taps of the first axis, each with its groups.
            return "rank" if call.groups > call.kernel_size[0] else "groups"
        # Negative amounts are not documented, and give wrong sizes beside an input dilation. So do
        # those of the kernel's own gradient, where padding reaches further than the kernel.
        fits = all(
            min(pair) >= 0 and max(pair) < extent
            for pair, extent in zip(call.padding, call.extents, strict=True)
        )
        return "" if fits else "padding"

    def pads(self, mode: str, rank: int, dtype: str) -> bool:
        return mode in _arrays.MODES

    def compute_dtype(self, dtype: str, out_dtype: str, device: str) -> str:
        chosen = super().compute_dtype(dtype, out_dtype, device)
        if device != "cpu" and dtype == out_dtype:
            return dtype  # accelerators accumulate half types in float32 themselves
        return chosen

    def prologue(self, lowered: Lowered) -> str:
        return "import mlx.core as mx"

    def from_foreign(self, x: Any, like: Any = None) -> Any:
        return _arrays.from_foreign(x)

    def to_numpy(self, x: Any) -> Any:
        return _arrays.to_numpy(x)
