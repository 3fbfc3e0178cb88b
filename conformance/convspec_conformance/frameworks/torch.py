"""PyTorch: eager, compiled, in channels-last strides, and its own calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  (PyTorch's own habit)

from convspec import ConvSpec, Support, get_backend
from convspec.dtypes import COMPLEX, FLOAT, HALF

from ..cases import Case
from ..raw import RawTarget, amounts, named
from ..targets import Array, BackendTarget, CompiledTarget

FORWARD = (F.conv1d, F.conv2d, F.conv3d)
TRANSPOSED = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)


def _precise() -> None:
    """No TF32: float32 is judged as float32."""
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False


def eager() -> BackendTarget:
    _precise()
    return BackendTarget(get_backend("torch"))


def compiled() -> BackendTarget:
    """As users compile: Inductor's generated code."""
    return Compiled("inductor")


def traced() -> BackendTarget:
    """Everything but generated code, which is where specs and shapes go wrong."""
    return Compiled("aot_eager")


def channels_last() -> BackendTarget:
    return ChannelsLast()


def raw() -> RawTarget:
    return Raw()


class Compiled(CompiledTarget):
    """Each call compiled by itself, in one graph."""

    #: Dynamo hands on what a call raises while it is read as an error of its own.
    typed_refusals = False
    most = 1

    def __init__(self, engine: str) -> None:
        _precise()
        super().__init__(get_backend("torch"))
        self.engine = engine

    def claims(self, case: Case) -> Support:
        if case.judge == "gradient2":
            return Support(False, "none", "torch.compile differentiates once")
        if case.judge == "threads":
            return Support(False, "none", "Dynamo, which is reset here, has one thread")
        return super().claims(case)

    def compiled(self, function: Callable[..., Any]) -> Callable[..., Any]:
        # Of a second shape Dynamo would make a program for any sizes, of a ninth none.
        torch._dynamo.reset()
        program: Callable[..., Any] = torch.compile(function, backend=self.engine, fullgraph=True)
        return program


class ChannelsLast(BackendTarget):
    """Strides in the order of channels-last memory, whatever the axes are called."""

    def __init__(self) -> None:
        _precise()
        super().__init__(get_backend("torch"))

    def given(self, array: Array) -> Any:
        tensor = super().given(array)
        formats = {4: torch.channels_last, 5: torch.channels_last_3d}
        if tensor.ndim not in formats:
            return tensor
        return tensor.to(memory_format=formats[tensor.ndim])


class Raw(RawTarget):
    """torch.nn.functional's convolutions, as documented."""

    convention = "torch"
    fused_bias = True

    def __init__(self) -> None:
        _precise()
        super().__init__("raw-torch", torch.__version__)

    def lacks(self, spec: ConvSpec, dtype: str) -> str:
        # Complex types are documented for the forward calls alone.
        if dtype not in HALF + FLOAT + (() if spec.transposed else COMPLEX):
            return f"no {dtype} is documented"
        if spec.rank > 3:
            return "ranks 1 to 3"
        if spec.padding_mode != "zeros":
            return "modes belong to F.pad"
        if named(spec) == "same" and not spec.transposed:
            return "" if set(spec.stride) == {1} else "same padding at stride 1 only"
        if not amounts(spec) or any(lo != hi or lo < 0 for lo, hi in amounts(spec)):
            return "the same amount on both sides, not below 0"
        return ""

    def compute(self, spec: ConvSpec, x: Array, w: Array, b: Array | None, out_dtype: Any) -> Array:
        arrays = [None if a is None else _tensor(a) for a in (x, w, b)]
        padding = named(spec) or [lo for lo, _ in amounts(spec)]
        if spec.transposed:
            call = TRANSPOSED[spec.rank - 1]
            y = call(*arrays, spec.stride, padding, spec.output_padding, spec.groups, spec.dilation)
        else:
            call = FORWARD[spec.rank - 1]
            y = call(*arrays, spec.stride, padding, spec.dilation, spec.groups)
        result: Array = get_backend("torch").to_numpy(y)
        return result


def _tensor(array: Array) -> Any:
    """The same strides where torch has them: it has no negative ones."""
    if any(step < 0 for step in array.strides):
        array = np.array(array, order="K")
    return get_backend("torch").from_foreign(array)
