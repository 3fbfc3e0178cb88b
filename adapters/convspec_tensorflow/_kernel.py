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
    return FORWARD[call.rank](
        x, w, _all_axes(call.stride), padding(call), dilations=_all_axes(call.dilation)
    )


def padding(call: Call) -> Any:
    """tf.nn's padding attribute: a word, or in 2-D the amounts."""
    if not call.padded:
        return "VALID"
    if call.same:
        return "SAME"
    return [(0, 0), *call.padding, (0, 0)]


def _all_axes(values: tuple[int, ...]) -> list[int]:
    """One value per axis of (N, space, C)."""
    return [1, *values, 1]
