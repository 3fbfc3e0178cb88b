"""The same operations as a person would write them in TensorFlow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from convspec.plan import Call
from convspec.snippets import example_text, index_text, list_text

from ._arrays import MODES
from ._kernel import by_batches, channels_first, padding, spread
from ._point import per_sample


def conv(x: str, w: str, *, call: Call) -> str:
    if call.rank == 0:
        return f"tf.linalg.matmul({x}, {w})"
    if per_sample(call):
        return f"tf.linalg.matmul({w}, {x}, transpose_a=True)"
    strides = list_text(spread(call, call.stride, 1))
    depthwise = call.groups > 1 and call.group_axis == "I" and not call.transposed
    how = padding(call)
    how = f'"{how}"' if isinstance(how, str) else list_text(how)
    if by_batches(call, gradients=False):
        return f"tf.nn.convolution({x}, {w}, padding={how}, dilations={list_text(call.dilation)})"
    dilations = ""
    if any(d != 1 for d in call.dilation):
        values = call.dilation if depthwise else spread(call, call.dilation, 1)
        dilations = f", dilations={list_text(values)}"
    order = ""
    if channels_first(call):
        order = f', data_format="NC{"DHW"[-call.rank :]}"'
    if call.transposed:
        return (
            f"tf.nn.conv{call.rank}d_transpose({x}, {w}, {list_text(call.output_shape)}, "
            f"strides={strides}, padding={how}{order}{dilations})"
        )
    function = "depthwise_conv2d" if depthwise else f"conv{call.rank}d"
    stride = "strides" if call.rank > 1 else "stride"
    return f"tf.nn.{function}({x}, {w}, {stride}={strides}, padding={how}{order}{dilations})"


def pad(x: str, *, pairs: Any, mode: str) -> str:
    how = "" if mode == "zeros" else f', mode="{MODES[mode]}"'
    return f"tf.pad({x}, {list_text(pairs)}{how})"


SNIPPETS: dict[str, Callable[..., str]] = {
    "add": lambda a, b: f"{a} + {b}",
    "cast": lambda x, *, dtype: f"tf.cast({x}, tf.{dtype})",
    "concat": lambda *parts, axis: f"tf.concat([{', '.join(parts)}], axis={axis})",
    "conv": conv,
    "flip": lambda x, *, axes: f"tf.reverse({x}, {list_text(axes)})",
    "input": lambda name, shape, dtype: f"tf.cast({example_text(name, shape, 'np')}, tf.{dtype})",
    "literal": lambda values, *, dtype: f"tf.constant({values}, dtype=tf.{dtype})",
    "multiply": lambda a, b: f"{a} * {b}",
    "pad": pad,
    "part": lambda parts, *, index: f"{parts}[{index}]",
    "permute": lambda x, *, axes: f"tf.transpose({x}, {list_text(axes)})",
    "reshape": lambda x, *, shape: f"tf.reshape({x}, {list_text(shape)})",
    "slice": lambda x, *, index: f"{x}[{index_text(index)}]",
    "split": lambda x, *, axis, count: f"tf.split({x}, {count}, axis={axis})",
}
