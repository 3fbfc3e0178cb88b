"""The call of TensorFlow's own convolution."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from convspec.plan import Call

FORWARD = {1: tf.nn.conv1d, 2: tf.nn.conv2d, 3: tf.nn.conv3d}
TRANSPOSED = {1: tf.nn.conv1d_transpose, 2: tf.nn.conv2d_transpose, 3: tf.nn.conv3d_transpose}


def conv(x: Any, w: Any, *, call: Call, gradients: bool = False) -> Any:
    """x (N, space, C), w (space, I, O) or transposed (space, O, I) -> y (N, space, O)."""
    return kernel(call, gradients=gradients)(x, w)


def kernel(call: Call, *, gradients: bool = False) -> Callable[[Any, Any], Any]:
    """:func:`conv` for one call: a function of x and w alone.

    Args:
        gradients: whether it will be differentiated.
    """
    if call.rank == 0:
        return tf.linalg.matmul  # type: ignore[no-any-return]
    stride, dilation, amounts = _all_axes(call.stride), _all_axes(call.dilation), padding(call)
    if call.transposed:
        shape, run = call.output_shape, TRANSPOSED[call.rank]
        return lambda x, w: run(x, w, shape, stride, amounts, dilations=dilation)
    if call.groups > 1 and call.group_axis == "I":
        each = call.dilation
        return lambda x, w: tf.nn.depthwise_conv2d(x, w, stride, amounts, dilations=each)
    if by_batches(call, gradients=gradients):
        each = call.dilation
        return lambda x, w: tf.nn.convolution(x, w, None, amounts, dilations=each)
    forward = FORWARD[call.rank]
    if call.groups == 1:
        return lambda x, w: forward(x, w, stride, amounts, dilations=dilation)

    def grouped(x: Any, w: Any) -> Any:
        y = forward(x, w, stride, amounts, dilations=dilation)
        # Graphs fuse what follows, such as a bias, to a kernel that has no groups on the CPU; not
        # across this.
        return y if tf.executing_eagerly() else tf.ensure_shape(y, y.shape)

    return grouped


def by_batches(call: Call, *, gradients: bool) -> bool:
    """Whether a dilated call is a dense one on what lies a dilation apart, each a sample.

    On the CPU tf.nn.conv3d has no dilation, and the others have none in their gradients;
    tf.nn.convolution computes it so, without strides.
    """
    return (
        call.device == "cpu"
        and not call.transposed
        and (gradients or call.rank == 3)
        and {*call.dilation} != {1} == {*call.stride}
        and call.groups == 1
        and not explicit(call)
    )


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
