"""TensorFlow: eager, as a graph, under XLA, and its own calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from convspec import ConvSpec, get_backend
from convspec.dtypes import FLOAT, HALF

from ..raw import RawTarget, amounts, named
from ..targets import Array, BackendTarget, CompiledTarget

FORWARD = (tf.nn.conv1d, tf.nn.conv2d, tf.nn.conv3d)
TRANSPOSED = (tf.nn.conv1d_transpose, tf.nn.conv2d_transpose, tf.nn.conv3d_transpose)


def _precise() -> None:
    """No TF32: float32 is judged as float32."""
    tf.config.experimental.enable_tensor_float_32_execution(False)


def eager() -> BackendTarget:
    _precise()
    return BackendTarget(get_backend("tensorflow"))


def graph() -> BackendTarget:
    return Function(jit_compile=False)


def xla() -> BackendTarget:
    return Function(jit_compile=True)


def raw() -> RawTarget:
    return Raw()


class Function(CompiledTarget):
    """Each call a tf.function of its own."""

    def __init__(self, *, jit_compile: bool) -> None:
        _precise()
        super().__init__(get_backend("tensorflow"))
        self.jit_compile = jit_compile

    def compiled(self, function: Callable[..., Any]) -> Callable[..., Any]:
        program: Callable[..., Any] = tf.function(
            function, jit_compile=self.jit_compile, autograph=False
        )
        return program


class Raw(RawTarget):
    """tf.nn's convolutions, as documented: no groups, but depthwise_conv2d."""

    convention = "tensorflow"

    def __init__(self) -> None:
        _precise()
        super().__init__("raw-tensorflow", tf.__version__)

    def lacks(self, spec: ConvSpec, dtype: str) -> str:
        # conv1d lists no bfloat16, and the transposed calls say "float".
        documented = ("float32",) if spec.transposed else FLOAT + HALF[: spec.rank]
        if dtype not in documented:
            return f"no {dtype} is documented"
        if spec.rank > 3:
            return "ranks 1 to 3"
        if spec.padding_mode != "zeros":
            return "modes belong to tf.pad"
        if spec.groups > 1:
            if spec.rank != 2 or spec.groups != spec.in_channels or spec.transposed:
                return "groups are documented for depthwise_conv2d alone"
            if set(spec.dilation) != {1} and set(spec.stride) != {1}:
                return "depthwise_conv2d has no stride beside a dilation"
        if named(spec) == "same":
            return ""
        pairs = amounts(spec)
        if not pairs or any(min(pair) < 0 for pair in pairs):
            return "SAME, VALID or amounts not below 0"
        if spec.rank != 2 and any(map(any, pairs)):
            return "explicit amounts are documented in 2-D alone"
        if any(extra >= s for extra, s in zip(spec.output_padding, spec.stride, strict=True)):
            return "an output shape that the forward convolution has"
        return ""

    def compute(self, spec: ConvSpec, x: Array, w: Array, b: Array | None, out_dtype: Any) -> Array:
        strides, dilations = [1, *spec.stride, 1], [1, *spec.dilation, 1]
        padding: Any = named(spec).upper() or [(0, 0), *amounts(spec), (0, 0)]
        if not any(map(any, amounts(spec))) and padding != "SAME":
            padding = "VALID"
        x, w = tf.constant(x), tf.constant(w)
        if spec.transposed:
            shape = spec.output_shape(x.shape)
            y = TRANSPOSED[spec.rank - 1](x, w, shape, strides, padding, dilations=dilations)
        elif spec.groups > 1:
            multiplier = spec.out_channels // spec.in_channels
            # (H, W, 1, I*M) in the order of i*M + m
            w = tf.reshape(w, (*spec.kernel_size, spec.in_channels, multiplier))
            y = tf.nn.depthwise_conv2d(x, w, strides, padding, dilations=spec.dilation)
        else:
            y = FORWARD[spec.rank - 1](x, w, strides, padding, dilations=dilations)
        result: Array = (y if b is None else tf.nn.bias_add(y, tf.constant(b))).numpy()
        return result
