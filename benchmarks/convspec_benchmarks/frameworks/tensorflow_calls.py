"""``tf.nn``'s calls: eager, in ``tf.function`` and under XLA; in both data formats.

On the CPU all of them have been computed when they return.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from convspec import ConvSpec
from convspec.layouts import permutation
from convspec.problem import Problem

from .base import ANY_BATCH, Framework, Function, amounts, says_same

FORMATS = {1: ("NWC", "NCW"), 2: ("NHWC", "NCHW"), 3: ("NDHWC", "NCDHW")}
MODES = {"zeros": "CONSTANT", "reflect": "REFLECT"}


class TensorFlow(Framework):
    differentiates = True

    def wait(self, result: Any) -> None:
        """On the CPU it has been computed already."""

    def threads(self) -> int:
        return tf.config.threading.get_intra_op_parallelism_threads() or super().threads()

    def raw(self, spec: ConvSpec, problem: Problem, weight: Any) -> dict[str, tuple[Function, Any]]:
        if spec.rank not in FORMATS:
            return {}
        if spec.transposed and not says_same(spec, problem) and any(map(any, problem.padding)):
            return {}  # tf.nn crops by its own words alone
        found = {}
        for layout in FORMATS[spec.rank]:
            how = "" if layout == spec.layout else "permuted to "
            found[f"tf.nn, {how}{layout}"] = (_call(spec, problem, layout), weight)
        if spec.rank == 2 and spec.groups == spec.in_channels > 1 and not spec.transposed:
            h, w, _, out = weight.shape
            by_channel = tf.reshape(weight, (h, w, spec.groups, out // spec.groups))
            call = _call(spec, problem, "NHWC", depthwise=True)
            found["tf.nn.depthwise_conv2d"] = (call, by_channel)
        return found

    def ways(self, function: Function, *, gradients: bool) -> dict[str, Function]:
        if gradients:
            traced = function = _differentiated(function)
        else:  # tf.function looks at each argument at each call, at those that a spec may have too
            traced = lambda x, w: function(x, w)  # noqa: E731
        return {
            "eager": function,
            "compiled": tf.function(traced),
            "compiled, XLA": tf.function(traced, jit_compile=True),
            ANY_BATCH: _of_any_batch(traced),
        }

    def raw_ways(self, function: Function, *, gradients: bool) -> dict[str, Function]:
        if gradients:
            function = _differentiated(function)
        return {
            "eager": function,
            "tf.function": tf.function(function),
            "XLA": tf.function(function, jit_compile=True),
        }


def _of_any_batch(function: Function) -> Function:
    """As a graph of any number of samples, which Keras's training loop makes, too."""
    graph: Function | None = None

    def run(x: Any, w: Any, *cotangents: Any) -> Any:
        nonlocal graph
        if graph is None:
            data = [tf.TensorSpec((None, *a.shape[1:]), a.dtype) for a in (x, *cotangents)]
            weight = tf.TensorSpec(w.shape, w.dtype)
            signature = [data[0], weight, *data[1:]]
            named = (
                (lambda x, w, c: function(x, w, c)) if cotangents else (lambda x, w: function(x, w))
            )
            graph = tf.function(named, input_signature=signature)
        return graph(x, w, *cotangents)

    return run


def _differentiated(function: Function) -> Function:
    def run(x: Any, w: Any, cotangent: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch((x, w))
            y = function(x, w)
        return *tape.gradient(y, (x, w), cotangent), y

    return run


def _call(spec: ConvSpec, problem: Problem, layout: str, *, depthwise: bool = False) -> Function:
    to, back = permutation(spec.layout, layout), permutation(layout, spec.layout)
    pairs = dict(zip(problem.spatial, problem.padding, strict=True))
    padding = "SAME" if says_same(spec, problem) else "VALID"
    padded = amounts(spec, problem) if padding == "VALID" and any(map(any, pairs.values())) else []
    shape = tuple(problem.output_shape[i] for i in to)
    spread = [1, *spec.stride, 1] if layout.endswith("C") else [1, 1, *spec.stride]

    def run(x: Any, w: Any) -> Any:
        if padded:
            x = tf.pad(x, padded, MODES[spec.padding_mode])
        if to != tuple(range(len(to))):
            x = tf.transpose(x, to)
        if depthwise:
            y = tf.nn.depthwise_conv2d(x, w, spread, padding, layout, spec.dilation)
        elif spec.transposed:
            conv = getattr(tf.nn, f"conv{spec.rank}d_transpose")
            y = conv(x, w, shape, spec.stride, padding, layout, spec.dilation)
        else:
            y = tf.nn.convolution(x, w, spec.stride, padding, layout, spec.dilation)
        return tf.transpose(y, back) if back != tuple(range(len(back))) else y

    return run
