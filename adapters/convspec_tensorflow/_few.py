"""The gradient by an input of few channels, where oneDNN's is slow: by TensorFlow's own kernel.

oneDNN computes it at some 10 GFLOP/s a channel. TensorFlow's own kernel, Eigen's matrix product
and a sum over windows, is as fast for few channels as for many; TensorFlow keeps it for amounts of
padding, even of zeros (tensorflow/core/common_runtime/eager/mkl_eager_op_rewrite.cc and
mkl_layout_pass.cc). Measured (TensorFlow 2.21, AVX-512, float32, 2 cores, medians of interleaved
eager calls, 2000 random pictures of 8 million multiplications and more): of one to four channels
2.6, 2.3, 2.1 and 1.7 times as fast in the mean, at least 0.85, with 32 output channels and more;
with 16 or less 0.3 to 1.4 times, and of eight channels 0.5 to 6 times, 1.3 in the mean. Volumes'
calls with both gradients, in graphs, 480 random ones: of one channel 1.9 times as fast, at least
0.9, of two or three, with 64 output channels and more, 1.6 and 1.3 times, at least 0.84; with less
the taps of the depth are stacked into the channels (:mod:`convspec_tensorflow._slow`), which is
slower where this is for (0.6 to 0.8 times as fast).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from math import prod
from typing import Any

import tensorflow as tf

from convspec.plan import PER_AXIS, Call

from ._slow import onednn

#: Up to so many input channels, and from so many output channels on.
CHANNELS = 4
OUT_CHANNELS = 32
#: From so many multiplications on.
WORTHWHILE = 2**20
#: The same of volumes of several channels, whose pictures have those of some planes.
VOLUME_CHANNELS = 3
VOLUME_OUT_CHANNELS = 64

BY_INPUT, BY_WEIGHT = tf.raw_ops.Conv2DBackpropInput, tf.raw_ops.Conv2DBackpropFilter

Run = Callable[[Any, Any], Any]


def few_inputs(call: Call) -> bool:
    """Whether the gradient of a call by its input is computed so."""
    if call.device != "cpu" or call.dtype != "float32" or not onednn():
        return False
    if any(type(size) is not int for size in (call.batch, *call.input_size, *call.output_size)):
        return False  # known only when the graph runs
    dense = not call.transposed and call.groups == 1 and call.rank in (1, 2, 3)
    if not dense or {*call.dilation, *call.input_dilation} != {1}:
        return False
    if call.padded and not call.same:
        return False
    worthwhile = prod(call.kernel_size) > 1 and call.multiplications >= WORTHWHILE
    return worthwhile and _few(call)


def _few(call: Call) -> bool:
    """Whether input channels are few, and output channels enough."""
    channels, others = call.in_channels, call.out_channels
    if call.rank < 3 or channels == 1:
        return channels <= CHANNELS and others >= OUT_CHANNELS
    return channels <= VOLUME_CHANNELS and others >= VOLUME_OUT_CHANNELS


def by_columns(run: Run, call: Call, attributes: Mapping[str, Any]) -> Run:
    """``run``, a kernel of pictures or volumes, channels last, with this gradient.

    x (N, space, C), w (space, C, O) -> y (N, space, O); a signal is a picture one pixel high.

    Args:
        attributes: the operation's.
    """
    high = [1] * (2 - call.rank)
    w_shape = [*high, *call.kernel_size, call.in_channels, call.out_channels]
    by_weight = tf.raw_ops.Conv3DBackpropFilterV2 if call.rank == 3 else BY_WEIGHT
    by_input = _of_volumes(call) if call.rank == 3 else _of_pictures(call)

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def conv(x: Any, w: Any) -> Any:
        def gradients(g: Any) -> tuple[Any, Any]:
            dw = by_weight(input=x, filter_sizes=w_shape, out_backprop=g, **attributes)
            return by_input(w, g), dw

        return run(x, w), gradients

    return lambda x, w: conv(x, w)  # whose signature is looked at while tracing


def _of_pictures(call: Call) -> Run:
    """w (KH, KW, C, O), g (N, H', W', O) -> dx (N, H, W, C)."""
    high = 2 - call.rank
    nothing = [(0, 0)]
    pairs = [*nothing * high, *(call.padding if call.padded else nothing * call.rank)]
    attributes: dict[str, Any] = {
        "input_sizes": [call.batch, *[1] * high, *call.input_size, call.in_channels],
        "strides": [1, *[1] * high, *call.stride, 1],
        "padding": "EXPLICIT",
        "explicit_paddings": [0, 0, *(amount for pair in pairs for amount in pair), 0, 0],
    }
    return lambda w, g: BY_INPUT(filter=w, out_backprop=g, **attributes)


def _of_volumes(call: Call) -> Run:
    """w (KD, KH, KW, C, O), g (N, D', H', W', O) -> dx (N, D, H, W, C).

    By pictures, whose channels are those of all planes that one of g comes from; in these the
    planes that are the same one are added up.
    """
    (planes, *size), (taps, *kernel_size) = call.input_size, call.kernel_size
    outputs, step, lo = call.output_size[0], call.stride[0], call.padding[0][0]
    channels, each = call.in_channels, prod(size) * call.in_channels
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
        dx = pictures(w, tf.reshape(g, (call.batch * outputs, *g.shape[2:])))
        parts = tf.split(tf.reshape(dx, (-1, taps * channels)), taps, axis=1)
        found = []
        for tap, part in enumerate(parts):
            # Its plane o is the volume's o*step + tap - lo, if that is one.
            first = max(-((tap - lo) // step), 0)
            count = min((planes - 1 + lo - tap) // step + 1, outputs) - first
            if count > 0:
                part = tf.reshape(part, (call.batch, outputs, each))
                part = tf.slice(part, (0, first, 0), (call.batch, count, each))
                found.append(_placed(part, first * step + tap - lo, step, planes))
        return tf.reshape(tf.add_n(found), (call.batch, *call.input_size, channels))

    return run


def _placed(part: Any, start: int, step: int, size: int) -> Any:
    """part (N, P, E) at every ``step``-th position from ``start`` on of (N, size, E), else 0."""
    batch, count, each = part.shape
    if step > 1:
        spread = tf.reshape(part, (batch, count, 1, each))
        part = tf.pad(spread, [(0, 0), (0, 0), (0, step - 1), (0, 0)])
        count = min(count * step, size - start)
        part = tf.slice(tf.reshape(part, (batch, -1, each)), (0, 0, 0), (batch, count, each))
    return tf.pad(part, [(0, 0), (start, size - start - count), (0, 0)])
