"""The call of TensorFlow's own convolution."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from convspec.plan import Call

FORWARD = {1: tf.nn.conv1d, 2: tf.nn.conv2d, 3: tf.nn.conv3d}
TRANSPOSED = {1: tf.nn.conv1d_transpose, 2: tf.nn.conv2d_transpose, 3: tf.nn.conv3d_transpose}


def conv(x: Any, w: Any, *, call: Call) -> Any:
    """x (N, space, C), w (space, I, O) or transposed (space, O, I) -> y (N, space, O)."""
    if call.rank == 0:
        return tf.linalg.matmul(x, w)
    if call.transposed:
        return TRANSPOSED[call.rank](
            x,
            w,
            call.output_shape,
            _all_axes(call.stride),
            "VALID",
            dilations=_all_axes(call.dilation),
        )
    if call.groups > 1 and call.group_axis == "I":
        return tf.nn.depthwise_conv2d(
            x, w, _all_axes(call.stride), padding(call), dilations=call.dilation
        )
    y = FORWARD[call.rank](
        x, w, _all_axes(call.stride), padding(call), dilations=_all_axes(call.dilation)
    )
    if call.groups > 1 and not tf.executing_eagerly():
        # Graphs fuse what follows, such as a bias, to a kernel that has no groups on the CPU; not
        # across this.
        return tf.ensure_shape(y, y.shape)
    return y


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
