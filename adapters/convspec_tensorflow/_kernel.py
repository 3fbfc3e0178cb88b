"""The call of TensorFlow's own convolution.

The operations are those of ``tf.nn``, which takes 15 to 35 microseconds to check what has been
checked and to put arguments into another form.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf

from convspec.plan import Call
from convspec.symbols import known

from ._arrays import CPU, apart
from ._few import by_columns, by_sides, few_inputs, few_outputs, onto_few, sides_exchanged
from ._gradients import by_convolutions, with_gradients
from ._point import per_sample
from ._slow import onednn
from ._unknown import given, reshape, shaping

#: Operations of rank 2 and 3; signals are pictures one pixel high.
FORWARD = {2: tf.raw_ops.Conv2D, 3: tf.raw_ops.Conv3D}
TRANSPOSED = {2: tf.raw_ops.Conv2DBackpropInput, 3: tf.raw_ops.Conv3DBackpropInputV2}


def conv(x: Any, w: Any, *, call: Call, gradients: bool = False) -> Any:
    """x (N, space, C), w (space, I, O) or transposed (space, O, I) -> y (N, space, O).

    x and y have their channels first if the call says so.
    """
    return kernel(call, gradients=gradients)(x, w)


def kernel(call: Call, *, gradients: bool = False) -> Callable[[Any, Any], Any]:
    """:func:`conv` for one call: a function of x and w alone.

    Args:
        gradients: whether it will be differentiated.
    """
    if call.rank == 0:
        return tf.linalg.matmul  # type: ignore[no-any-return]
    if per_sample(call):
        return lambda x, w: tf.linalg.matmul(w, x, transpose_a=True)
    run = _operation(call, gradients=gradients)
    depthwise = call.group_axis == "I" and call.groups > 1 and not call.transposed
    fuses = fuses_pad(call) and not (depthwise or by_batches(call, gradients=gradients))
    # Of a dilated one graphs know no shape of the result that is right.
    before = fuses and not call.transposed and (gradients or {*call.dilation} != {1})
    if before:
        run = _after_pad(run)
    empty = not call.nonempty and onednn()
    if empty and not call.transposed:
        return _shaped(run, call)
    if fuses and call.transposed:
        run = _before_pad(run)
    elif depthwise:
        run = _unfused(run) if explicit(call) and {*call.dilation} == {1} else run
    elif (fuses and not before) or (call.groups > 1 and not fuses):
        run = _unfused(run)
    return (lambda x, w: run(given(x), w)) if empty else run


def takes_none(call: Call) -> bool:
    """Whether :func:`kernel` is right about no samples, should there turn out to be none.

    Not on accelerators, where it was not tried; nor for the gradient by a depthwise weight, which
    without oneDNN is memory as it was found.
    """
    if call.device != "cpu" or known(call.batch):
        return False
    return onednn() or call.group_axis != "I" or call.transposed


def _shaped(run: Callable[[Any, Any], Any], call: Call) -> Callable[[Any, Any], Any]:
    """The result with its own shape, if of no samples, too.

    Like :func:`_unfused`, it keeps what follows the call apart from it.
    """
    shaped = shaping(call.output_shape)
    return lambda x, w: shaped(run(x, w))


def _operation(call: Call, *, gradients: bool) -> Callable[[Any, Any], Any]:
    """The operations that compute a call."""
    if call.transposed:
        run = onto_few(call) if few_outputs(call) and not gradients else _transposed(call)
    elif call.groups > 1 and call.group_axis == "I":
        return _depthwise(call)
    elif by_batches(call, gradients=gradients):
        amounts, each = padding(call), [*[1] * (call.rank == 1), *call.dilation]
        run = lambda x, w: tf.nn.convolution(x, w, None, amounts, dilations=each)  # noqa: E731
    else:
        attributes = _attributes(call)
        operation = partial(FORWARD[max(call.rank, 2)], **attributes)
        run = lambda x, w: operation(input=x, filter=w)  # noqa: E731
        if gradients and by_convolutions(call):
            run = with_gradients(run, call)
        if few_outputs(call):
            run = onto_few(call)
        if gradients and sides_exchanged(call):
            run = by_sides(run, call, attributes)
        elif gradients and few_inputs(call):
            run = by_columns(run, call, attributes)
    return _as_picture(run, call) if call.rank == 1 else run


def _transposed(call: Call) -> Callable[[Any, Any], Any]:
    """As the gradient that it is."""
    shape: Any = call.output_shape
    if call.rank == 1:
        at = _first_axis(call)
        shape = (*shape[:at], 1, *shape[at:])
    if not call.symbolic and all(type(size) is int for size in shape):
        shape = np.array(shape, np.int32)
    operation = partial(TRANSPOSED[max(call.rank, 2)], **_attributes(call))
    return lambda x, w: operation(input_sizes=shape, filter=w, out_backprop=x)


def _depthwise(call: Call) -> Callable[[Any, Any], Any]:
    """w (space, I, M)."""
    if any(step != 1 for step in call.dilation):  # tf.nn makes other positions of it
        amounts, each = padding(call), call.dilation
        stride = [1, *call.stride, 1]
        return lambda x, w: tf.nn.depthwise_conv2d(x, w, stride, amounts, dilations=each)
    operation = partial(tf.raw_ops.DepthwiseConv2dNative, **_attributes(call))
    return lambda x, w: operation(input=x, filter=w)


def _as_picture(run: Callable[[Any, Any], Any], call: Call) -> Callable[[Any, Any], Any]:
    """A kernel of rank 2 on signals: the height comes before the width."""
    grow, shrink, at = tf.raw_ops.ExpandDims, tf.raw_ops.Squeeze, _first_axis(call)
    shape = call.output_shape

    def picture(x: Any, w: Any) -> Any:
        y = run(grow(input=x, axis=at), grow(input=w, axis=0))
        if call.nonempty:
            return shrink(input=y, axis=[at])
        return reshape(y, shape=shape) if _plain(call) else flat(y)

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def flat(y: Any) -> Any:
        return tf.reshape(y, shape), lambda g: grow(input=g, axis=at)

    return picture


def _unfused(run: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """Graphs fuse what follows, such as a bias, to a kernel that on the CPU has no groups, and that
    ends the process if a depthwise one has amounts of padding; not across this, which says what
    shape the result has.
    """

    def grouped(x: Any, w: Any) -> Any:
        y = run(x, w)
        return y if tf.executing_eagerly() else tf.ensure_shape(y, y.shape)

    return grouped


def _after_pad(run: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """Nor is a Pad fused across this to what follows."""
    return lambda x, w: run(x if tf.executing_eagerly() else apart(x), w)


def _before_pad(run: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """Nor the Pad that is the gradient of what crops the result to the kernel's own gradient."""

    def cropped(x: Any, w: Any) -> Any:
        y = run(x, w)
        return y if tf.executing_eagerly() else apart(y)

    return cropped


def fuses_pad(call: Call) -> bool:
    """Whether graphs may fuse a Pad before the call to it, as they do with oneDNN for volumes.

    Then they take the output for as small as without, and lose a transpose behind it, if that does
    nothing on axes of size 1; and with dilation and a bias the fused kernel ends the process.
    """
    return call.rank == 3 and not call.padded and onednn()


def by_batches(call: Call, *, gradients: bool) -> bool:
    """Whether a dilated call is a dense one on what lies a dilation apart, each a sample.

    On the CPU tf.nn.conv3d has no dilation, and the others have none in their gradients;
    tf.nn.convolution computes it so, without strides.
    """
    return (
        call.device in CPU
        and not call.transposed
        and (gradients or call.rank == 3)
        and {*call.dilation} != {1} == {*call.stride}
        and call.groups == 1
        and not explicit(call)
    )


def _attributes(call: Call) -> dict[str, Any]:
    """The operation's attributes."""
    high = [1] * (call.rank == 1)
    attributes: dict[str, Any] = {
        "strides": spread(call, [*high, *call.stride], 1),
        "dilations": spread(call, [*high, *call.dilation], 1),
        "padding": padding(call),
    }
    if channels_first(call):
        attributes["data_format"] = data_format(call)
    if isinstance(attributes["padding"], list):
        amounts = [amount for pair in attributes["padding"] for amount in pair]
        attributes.update(padding="EXPLICIT", explicit_paddings=amounts)
    return attributes


def padding(call: Call) -> Any:
    """tf.nn's padding: a word, or in 2-D the amounts."""
    if explicit(call):
        return spread(call, call.padding, (0, 0))
    return "SAME" if call.padded else "VALID"


def explicit(call: Call) -> bool:
    """Whether the kernel is given amounts of padding."""
    return call.padded and not call.same


def spread(call: Call, values: Iterable[Any], other: Any) -> list[Any]:
    """A value for each axis of the data: ``other`` for samples and channels."""
    return [other, other, *values] if channels_first(call) else [other, *values, other]


def channels_first(call: Call) -> bool:
    """Whether channels come before space."""
    return call.rank > 0 and call.x_layout[1] == "C"


def data_format(call: Call) -> str:
    """TensorFlow's word for the order of the kernel's axes."""
    space = "DHW" if call.rank == 3 else "HW"
    return f"NC{space}" if channels_first(call) else f"N{space}C"


def _plain(call: Call) -> bool:
    """Whether the size of space is known before the graph runs."""
    return all(isinstance(size, int) for size in call.output_size)


def _first_axis(call: Call) -> int:
    """Where the first axis of space is."""
    return 2 if channels_first(call) else 1
