"""The call of TensorFlow's own convolution."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from convspec.plan import Call

FORWARD = {1: tf.nn.conv1d, 2: tf.nn.conv2d, 3: tf.nn.conv3d}
TRANSPOSED = {1: tf.nn.conv1d_transpose, 2: tf.nn.conv2d_transpose, 3: tf.nn.conv3d_transpose}


def conv(x: Any, w: Any, *, call: Call) -> Any:
    """x (N, space, C), w (space, I, O) or transposed (space, O, I) -> y (N, space, O)."""
    return kernel(call)(x, w)


def kernel(call: Call) -> Callable[[Any, Any], Any]:
    """:func:`conv` for one call: a function of x and w alone."""
    if call.rank == 0:
        return tf.linalg.matmul  # type: ignore[no-any-return]
    stride, dilation = _all_axes(call.stride), _all_axes(call.dilation)
    if call.transposed:
        shape, run = call.output_shape, TRANSPOSED[call.rank]
        return lambda x, w: run(x, w, shape, stride, "VALID", dilations=dilation)
    amounts = padding(call)
    if call.groups > 1 and call.group_axis == "I":
        each = call.dilation
        return lambda x, w: tf.nn.depthwise_conv2d(x, w, stride, amounts, dilations=each)
    forward = FORWARD[call.rank]
    if call.groups == 1:
        return lambda x, w: forward(x, w, stride, amounts, dilations=dilation)

    def grouped(x: Any, w: Any) -> Any:
        y = forward(x, w, stride, amounts, dilations=dilation)
        # Graphs fuse what follows, such as a bias, to a kernel that has no groups on the CPU; not
        # across this.
        return y if tf.executing_eagerly() else tf.ensure_shape(y, y.shape)

    return grouped


def padding(call: Call) -> Any:
    """tf.nn's padding attribute: a word, or in 2-D the amounts."""
    if explicit(call):
        return [(0, 0), *call.padding, (0, 0)]
    return "SAME" if call.padded else "VALID"


def explicit(call: Call) -> bool:
    """Whether the kernel is given amounts of padding."""
    return call.padded and not call.same


def _all_axes(values: tuple[int, ...]) -> list[int]:
    """One value per axis of (N, space, C)."""
    return [1, *values, 1]
