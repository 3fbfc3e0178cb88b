"""Few channels, where oneDNN is slow: by TensorFlow's own kernel, or with sides exchanged.

oneDNN computes the gradient by an input of few channels at some 10 GFLOP/s for each of them, and so
it does a transposed call onto few. TensorFlow's own kernel, Eigen's matrix product and a sum over
windows, is as fast for few channels as for many; TensorFlow keeps it for amounts of padding, even
of zeros (tensorflow/core/common_runtime/eager/mkl_eager_op_rewrite.cc and mkl_layout_pass.cc). A
call onto few channels without strides is such a gradient of another, its mirror image; and its own
gradient by the weight that of the mirror image, from few channels, where oneDNN is fast.

Measured (TensorFlow 2.21, AVX-512, float32, 2 cores, medians of interleaved calls, with 32 channels
and more on the other side, the mean of each kind, and the least):

- the gradient by pictures of one to four channels, eager, of 559: 3.0, 2.6, 2.2 and 1.9 times as
  fast, 0.85; with 16 channels on the other side 0.3 to 1.4, of eight channels 0.5 to 6, 1.3 in the
  mean;
- both gradients of a volume, in graphs, of 284: of one channel 1.9 times, 0.93; of two or three,
  with 64 channels on the other side, 1.5 and 1.3, 0.84. With less the taps of the depth are stacked
  into the channels (:mod:`convspec_tensorflow._slow`), which here is 0.6 to 0.8 times as fast;
- pictures onto one to four channels, eager, of 105 from 2**24 multiplications and 20 channels for
  each of them on: 2.0, 1.7, 1.6 and 1.6 times, 0.9; with less 0.3 to 1.3, since the kernel is
  turned around first;
- both gradients of these, in graphs, from 2**22 on, of 216: 3.5, 2.8, 2.5 and 2.2 times, 0.92;
- the gradient by the weight of a volume onto so few, eager, of 192 from 2**25 on: 2.5 times, 0.82.

Of an unknown number of samples, calls onto few channels are left to oneDNN: there would be no shape
that is right for none of them, in second derivatives.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from math import prod
from typing import Any

import tensorflow as tf

from convspec.algorithms import mirrored
from convspec.plan import PER_AXIS, Call

from ._arrays import apart
from ._slow import onednn
from ._unknown import given

#: Up to so many channels on one side, and from so many on the other on.
CHANNELS = 4
OTHERS = 32
#: From so many multiplications on.
WORTHWHILE = 2**20
#: The same of volumes of several channels, whose pictures have those of some planes.
VOLUME_CHANNELS = 3
VOLUME_OTHERS = 64
#: Up to so many elements of the windows of one picture, which TensorFlow's kernel keeps: 128 MB.
WINDOWS = 2**25
#: From so many input channels and multiplications on for each of few output channels, forward
#: without strides.
RATIO = 20
FORWARD = 2**24
#: From so many on with gradients, by rank.
GRADIENTS = {1: 2**22, 2: 2**22, 3: 2**25}

#: The operations of rank 2 and 3 that are gradients by the input, and by the weight.
OPERATIONS = {
    2: (tf.raw_ops.Conv2DBackpropInput, tf.raw_ops.Conv2DBackpropFilter),
    3: (tf.raw_ops.Conv3DBackpropInputV2, tf.raw_ops.Conv3DBackpropFilterV2),
}

Run = Callable[[Any, Any], Any]


def few_inputs(call: Call) -> bool:
    """Whether the gradient of a call by its input is computed so."""
    return _dense(call) and (call.same or not call.padded) and _few(call)


def few_outputs(call: Call) -> bool:
    """Whether a call onto few channels is computed as the gradient by the input of another."""
    if call.rank == 3 or (not call.transposed and {*call.stride} != {1}):
        return False
    if not isinstance(call.batch, int):
        return False
    other = _other(call)
    inside = all(min(pair) >= 0 for pair in (*call.padding, *other.padding))
    if not (inside and _dense(other) and _few(other)):
        return False
    enough = call.in_channels >= RATIO * call.out_channels
    return call.transposed or (enough and call.multiplications >= FORWARD * call.out_channels)


def sides_exchanged(call: Call) -> bool:
    """Whether the gradient by the weight of a call onto few channels is its mirror image's."""
    if not (_dense(call) and isinstance(call.batch, int)) or {*call.stride} != {1}:
        return False
    few = call.out_channels <= CHANNELS and call.in_channels >= OTHERS
    inside = all(min(pair) >= 0 for pair in mirrored(call).padding)
    return few and inside and call.multiplications >= GRADIENTS[call.rank]


def _other(call: Call) -> Call:
    """The call of which this one is the gradient by the input."""
    if not call.transposed:
        return mirrored(call)
    return replace(
        call,
        transposed=False,
        in_channels=call.out_channels,
        out_channels=call.in_channels,
        input_size=call.output_size,
        output_size=call.input_size,
    )


def _dense(call: Call) -> bool:
    """Whether oneDNN computes a call that TensorFlow's own kernel may compute faster."""
    if call.device != "cpu" or call.dtype != "float32" or not onednn():
        return False
    if any(type(size) is not int for size in (*call.input_size, *call.output_size)):
        return False  # known only when the graph runs
    if call.transposed or call.groups > 1 or call.rank not in (1, 2, 3):
        return False
    if {*call.dilation, *call.input_dilation} != {1} or prod(call.kernel_size) == 1:
        return False
    return bool(call.least.multiplications >= WORTHWHILE)


def _few(call: Call) -> bool:
    """Whether input channels are few, and output channels enough."""
    channels, others = call.in_channels, call.out_channels
    windows = prod(call.output_size[-2:]) * prod(call.kernel_size) * channels
    if windows > WINDOWS:
        return False
    if call.rank < 3 or channels == 1:
        return channels <= CHANNELS and others >= OTHERS
    return channels <= VOLUME_CHANNELS and others >= VOLUME_OTHERS


def by_columns(run: Run, call: Call, attributes: Mapping[str, Any]) -> Run:
    """``run``, a kernel of pictures or volumes, channels last, with this gradient.

    x (N, space, C), w (space, C, O) -> y (N, space, O); a signal is a picture one pixel high.

    Args:
        attributes: the operation's.
    """
    high = [1] * (2 - call.rank)
    w_shape = [*high, *call.kernel_size, call.in_channels, call.out_channels]
    _, by_weight = OPERATIONS[max(call.rank, 2)]
    by_input = _of_volumes(call) if call.rank == 3 else _of_pictures(call)

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def conv(x: Any, w: Any) -> Any:
        def gradients(g: Any) -> tuple[Any, Any]:
            dw = by_weight(input=x, filter_sizes=w_shape, out_backprop=given(g), **attributes)
            return by_input(w, given(g)), dw

        return run(x, w), gradients

    return lambda x, w: conv(x, w)  # whose signature is looked at while tracing


def onto_few(call: Call) -> Run:
    """A call of pictures onto few channels: x (N, H, W, C), w (KH, KW, C, O), or transposed
    (KH, KW, O, C) -> y (N, H', W', O).
    """
    columns = _of_pictures(_other(call))
    if call.transposed:
        return lambda x, w: columns(w, x)
    return lambda x, w: columns(_turned(w), x)


def by_sides(run: Run, call: Call, attributes: Mapping[str, Any]) -> Run:
    """``run``, a kernel onto few channels, channels last, with its gradient by the weight as that
    of few channels in, which is fast: y's and x's sides are exchanged.

    Args:
        attributes: the operation's.
    """
    other, high = mirrored(call), [1] * (2 - call.rank)
    x_shape = [call.batch, *high, *call.input_size, call.in_channels]
    turned = [*high, *call.kernel_size, call.out_channels, call.in_channels]
    pairs = [(0, 0), *[(0, 0) for _ in high], *other.padding, (0, 0)]
    by_input, by_weight = OPERATIONS[max(call.rank, 2)]
    valid = {"strides": [1] * len(pairs), "padding": "VALID"}

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def conv(x: Any, w: Any) -> Any:
        def gradients(g: Any) -> tuple[Any, Any]:
            dx = by_input(input_sizes=x_shape, filter=w, out_backprop=g, **attributes)
            wide = tf.pad(g, pairs) if tf.executing_eagerly() else apart(tf.pad(g, pairs))
            dw = by_weight(input=wide, filter_sizes=turned, out_backprop=x, **valid)
            return dx, _turned(dw)

        return run(x, w), gradients

    return lambda x, w: conv(x, w)


def _turned(w: Any) -> Any:
    """w (space, I, O) -> (space, O, I), the other way round in space."""
    *space, i, o = range(w.shape.rank)
    return tf.transpose(tf.reverse(w, space), (*space, o, i))


def _of_pictures(call: Call) -> Run:
    """w (KH, KW, C, O), g (N, H', W', O) -> dx (N, H, W, C)."""
    high = 2 - call.rank
    pairs = [*[(0, 0)] * high, *call.padding]
    attributes: dict[str, Any] = {
        "input_sizes": [call.batch, *[1] * high, *call.input_size, call.in_channels],
        "strides": [1, *[1] * high, *call.stride, 1],
        "padding": "EXPLICIT",
        "explicit_paddings": [0, 0, *(amount for pair in pairs for amount in pair), 0, 0],
    }
    by_input, _ = OPERATIONS[2]
    return lambda w, g: by_input(filter=w, out_backprop=g, **attributes)


def _of_volumes(call: Call) -> Run:
    """w (KD, KH, KW, C, O), g (N, D', H', W', O) -> dx (N, D, H, W, C).

    By pictures, whose channels are those of all planes that one of g comes from; in these the
    planes that are the same one are added up.
    """
    (planes, *size), (taps, *kernel_size) = call.input_size, call.kernel_size
    outputs, step, lo = call.output_size[0], call.stride[0], call.padding[0][0]
    channels, each = call.in_channels, prod(size) * call.in_channels
    g_shape = (call.batch * outputs, *call.output_size[1:], call.out_channels)
    pictures = _of_pictures(
        replace(
            call,
            x_layout=call.x_layout.replace(call.spatial[0], ""),
            batch=call.batch * outputs,
            in_channels=taps * channels,
            **{name: getattr(call, name)[1:] for name in PER_AXIS},
        )
    )

    def run(w: Any, g: Any) -> Any:
        w = tf.reshape(tf.transpose(w, (1, 2, 0, 3, 4)), (*kernel_size, taps * channels, -1))
        dx = pictures(w, tf.reshape(g, g_shape))
        parts = tf.split(tf.reshape(dx, (-1, taps * channels)), taps, axis=1)
        found = []
        for tap, part in enumerate(parts):
            # Its plane o is the volume's o*step + tap - lo, if that is one.
            first = max(-((tap - lo) // step), 0)
            count = min((planes - 1 + lo - tap) // step + 1, outputs) - first
            if count > 0:
                part = tf.reshape(part, (call.batch, outputs, each))
                part = tf.slice(part, (0, first, 0), (-1, count, each))
                found.append(_placed(part, first * step + tap - lo, step, planes))
        return tf.reshape(tf.add_n(found), (call.batch, *call.input_size, channels))

    return run


def _placed(part: Any, start: int, step: int, size: int) -> Any:
    """part (N, P, E) at every ``step``-th position from ``start`` on of (N, size, E), else 0."""
    _, count, each = part.shape
    if step > 1:
        spread = tf.reshape(part, (-1, count, 1, each))
        part = tf.pad(spread, [(0, 0), (0, 0), (0, step - 1), (0, 0)])
        longer, count = count * step, min(count * step, size - start)
        part = tf.slice(tf.reshape(part, (-1, longer, each)), (0, 0, 0), (-1, count, each))
    return tf.pad(part, [(0, 0), (start, size - start - count), (0, 0)])
