"""Watching a call: which operations run, and whether an array leaves its framework."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np
import pytest
import tensorflow as tf
import torch
from tensorflow.python.framework import op_callbacks
from tensorflow.python.framework.ops import _EagerTensorBase
from torch.utils._python_dispatch import TorchDispatchMode

#: What counts as a convolution kernel; without a kernel for integers, TensorFlow multiplies
#: matrices, one for each tap.
KERNELS = {
    "torch": {"aten.convolution.default"},
    "tensorflow": {
        *("Conv2D", "Conv3D", "DepthwiseConv2dNative"),
        *("Conv2DBackpropInput", "Conv3DBackpropInputV2"),
        *("MatMul", "BatchMatMulV2"),
    },
    "jax": {"conv_general_dilated"},
}


class Record:
    """Operations by name, and which arrays come from x, with a kernel on the way or without."""

    def __init__(self, framework: str, x: Any) -> None:
        self.kernels = KERNELS[framework]
        self.names: list[str] = []
        self.from_x = {id(x): x}  # arrays are kept alive, so that an id stands for one of them
        self.through_kernel: dict[int, Any] = {}

    def add(self, name: str, inputs: Iterable[Any], outputs: Iterable[Any]) -> None:
        self.names.append(name)
        read = {id(array) for array in inputs}
        made = {id(array): array for array in outputs}
        if read & self.from_x.keys():
            self.from_x |= made
            if name in self.kernels or read & self.through_kernel.keys():
                self.through_kernel |= made

    @property
    def calls(self) -> int:
        """How many kernels ran."""
        return sum(name in self.kernels for name in self.names)

    def explains(self, y: Any) -> bool:
        """Whether recorded operations lead from x over a kernel to y, without a gap."""
        return id(y) in self.through_kernel


@contextmanager
def recording(framework: str, x: Any) -> Iterator[Record]:
    """Record what a framework that runs operation by operation does."""
    record = Record(framework, x)
    if framework == "torch":
        with _TorchRecorder(record):
            yield record
        return

    def callback(op_type: Any, inputs: Any, attrs: Any, outputs: Any, *_: Any) -> None:
        record.add(tf.compat.as_str(op_type), inputs, outputs)

    op_callbacks.add_op_callback(callback)
    try:
        yield record
    finally:
        op_callbacks.remove_op_callback(callback)


class _TorchRecorder(TorchDispatchMode):
    def __init__(self, record: Record) -> None:
        super().__init__()
        self.record = record

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        y = func(*args, **(kwargs or {}))
        # torch.cat takes a list of tensors, split gives one.
        inputs = [item for arg in args for item in (arg if isinstance(arg, list) else [arg])]
        self.record.add(str(func), inputs, y if isinstance(y, (list, tuple)) else [y])
        return y


# ---- no way to NumPy ----

CONVERTERS = ("array", "asanyarray", "ascontiguousarray", "asarray", "from_dlpack")
COMPUTERS = ("dot", "einsum", "matmul", "tensordot")
WAYS_OUT = {
    torch.Tensor: ("__array__", "__dlpack__", "numpy", "tolist"),
    _EagerTensorBase: ("__array__", "__dlpack__", "numpy"),
    type(jax.numpy.zeros(())): ("__array__", "__dlpack__", "tolist"),
}


class LeftError(BaseException):
    """A framework's array was about to become NumPy's; no fallback may catch this."""


@contextmanager
def no_numpy() -> Iterator[None]:
    """Block every way from a framework's array to NumPy, and what NumPy would convolve with.

    Vectors may pass: tf.nn.depthwise_conv2d reads its own dilations back.
    """

    def guarded(convert: Callable[..., Any]) -> Callable[..., Any]:
        def call(given: Any, *args: Any, **options: Any) -> Any:
            if isinstance(given, tuple(WAYS_OUT)) and given.ndim > 1:
                raise LeftError
            return convert(given, *args, **options)

        return call

    def refuse(*_: Any, **__: Any) -> Any:
        raise LeftError

    with pytest.MonkeyPatch.context() as patch:
        for owner, names in WAYS_OUT.items():
            for name in names:
                patch.setattr(owner, name, guarded(getattr(owner, name)))
        # The memory of JAX and TensorFlow arrays is also open by the buffer protocol, which cannot
        # be taken from them; so the readers are blocked as well.
        for name in CONVERTERS:
            patch.setattr(np, name, guarded(getattr(np, name)))
        for name in COMPUTERS:
            patch.setattr(np, name, refuse)
        yield
