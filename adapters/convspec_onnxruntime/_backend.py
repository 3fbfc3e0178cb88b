"""The onnxruntime backend: what its kernels like, what they lack, and whose arrays it takes."""

from __future__ import annotations

from typing import Any

import onnxruntime

from convspec import plan
from convspec.backend import Capabilities, Environment, Kernel
from convspec.errors import UnsupportedError
from convspec.lowering import Lowered, Orders
from convspec.plan import Call, Node
from convspec.problem import Problem
from convspec.toolkit import PlanBackend

from . import _arrays, _snippets
from ._kernel import kernel


class OnnxruntimeBackend(PlanBackend):
    """OrtValues on the CPU, for inference: the whole plan is one model, which it optimizes.

    Its Conv and ConvTranspose have float32 alone on the CPU; half types are cast inside the model.
    """

    name = "onnxruntime"
    snippets = _snippets.SNIPPETS

    @property
    def capabilities(self) -> Capabilities:
        types = ("float16", "bfloat16", "float32")
        return Capabilities(onnxruntime.__version__, types, None, ("cpu",), gradients=False)

    def owns(self, x: Any) -> bool:
        return isinstance(x, onnxruntime.OrtValue)

    def unwrap(self, x: Any) -> Any:
        if not x.is_tensor():
            raise TypeError("it is no tensor.")
        return x

    def describe(self, x: Any) -> tuple[tuple[Any, ...], str, str]:
        return tuple(x.shape()), _arrays.name_of(x), x.device_name().lower()

    def out_of_memory(self, error: Exception) -> bool:
        return isinstance(error, MemoryError) or "Failed to allocate memory" in str(error)

    def orders(self, problem: Problem, device: str, *, transposed: bool) -> Orders:
        data = f"NC{problem.spatial}"
        if transposed:
            return Orders(data, f"IO{problem.spatial}", data, "I")
        return Orders(data, f"OI{problem.spatial}", data, "O")

    def lacks(self, call: Call) -> str:
        if any(step != 1 for step in call.input_dilation):
            return "input_dilation"
        if call.rank > 3:
            return "rank"
        if any(lo < 0 or hi < 0 for lo, hi in call.padding):
            return "padding"
        if any(extra >= s for extra, s in zip(call.output_padding, call.stride, strict=True)):
            return "padding"
        return ""

    def pads(self, mode: str, rank: int, dtype: str) -> bool:
        return mode != "circular"  # Pad fails on an empty batch in its mode "wrap"

    def compute_dtype(self, dtype: str, out_dtype: str, device: str) -> str:
        if device != "cpu":
            raise UnsupportedError(
                f"backend: convspec runs onnxruntime on the CPU alone, x is on {device}."
            )
        return super().compute_dtype(dtype, out_dtype, device)

    def prepare(self, problem: Problem, env: Environment) -> Kernel:
        lowered = self.plan(problem, env)
        return kernel(lowered.plan, lowered.inputs)

    def prologue(self, lowered: Lowered) -> str:
        return _snippets.PROLOGUE

    def from_foreign(self, x: Any, like: Any = None) -> Any:
        return _arrays.from_foreign(x)

    def to_numpy(self, x: Any) -> Any:
        return _arrays.to_numpy(x)

    def permute(self, x: Any, axes: tuple[int, ...]) -> Any:
        given = self._given(x)
        return kernel(plan.permute(given, axes), [given])(x)

    def reshape(self, x: Any, shape: tuple[int, ...]) -> Any:
        given = self._given(x)
        return kernel(plan.reshape(given, shape), [given])(x)

    def flip(self, x: Any, axes: tuple[int, ...]) -> Any:
        given = self._given(x)
        return kernel(plan.flip(given, axes), [given])(x)

    def _given(self, x: Any) -> Node:
        shape, dtype, _ = self.describe(x)
        return plan.source("x", shape, dtype)
