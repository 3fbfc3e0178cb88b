"""The gradients of a dense convolution as convolutions, where these are faster.

With y = x * w of stride 1, dx is g, padded by what x lacks, with the kernel turned around and its
channels swapped; and dw is x, of which the channels are samples, with g as the kernel and samples
as channels (Goodfellow et al., Deep Learning, 2016, section 9.5). With a dilation d the kernel of
dx is as far apart, and dw is every d-th position.

TensorFlow's kernels for gradients use BLAS far worse than its forward kernel does, and with a
dilation they are calls on smaller pictures around which everything is moved. Measured (TensorFlow
2.21 without oneDNN, AVX2, float32, 2 cores, medians of interleaved eager calls, 1 to 8 samples of
7x7 to 112x112, 3 to 256 channels): from the bounds below on both gradients of 3x3 are 0.95 to 3
times as fast so, of 5x5 1.1 to 8 times, and dilated ones, with the forward call, 1.5 to 5 times. Of
1x1 dx alone is, 1.0 to 1.5 times. Small single samples lose, and so do strides, between whose
elements of g there are zeros. Around g there are zeros as well, as around x in a forward call: with
an infinite weight the border of dx is NaN.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.eager import record

from convspec.plan import Call

from ._slow import onednn
from ._views import flip, permute, recording

#: From so many multiplications on: what is around the kernels takes a quarter of a millisecond.
WORTHWHILE = 2**26
#: The same of a dilated call.
DILATED = 2**20
#: From so many taps on dw is computed so, too.
TAPS = 4
#: From so many input channels on.
CHANNELS = 16
#: From so many output positions of a single sample on.
POSITIONS = 2**10

Run = Callable[[Any, Any], Any]
Pairs = list[tuple[int, int]]


def by_convolutions(call: Call) -> bool:
    """Whether a call's gradients are computed so, in eager mode; graphs are for XLA to compile."""
    if call.device != "cpu" or call.dtype != "float32" or onednn():
        return False
    if any(type(size) is not int for size in (call.batch, *call.output_size)):
        return False
    dense = not call.transposed and call.groups == 1 and call.rank in (1, 2)
    if not dense or {*call.stride, *call.input_dilation} != {1} or (call.padded and not call.same):
        return False
    positions, channels = prod(call.output_size), call.in_channels * call.out_channels
    work = call.batch * positions * prod(call.kernel_size) * channels
    if {*call.dilation} != {1}:
        return bool(work >= DILATED)
    large = call.in_channels >= CHANNELS and (call.batch > 1 or positions >= POSITIONS)
    return bool(large and work >= WORTHWHILE)


def with_gradients(run: Run, call: Call) -> Run:
    """``run``, a kernel of pictures, with these gradients; for eager mode.

    x (N, H, W, C), w (KH, KW, C, O) -> y (N, H', W', O); a signal is a picture one pixel high.
    """
    high = 2 - call.rank
    padding = [(0, 0)] * high + list(call.padding if call.padded else [(0, 0)] * call.rank)
    dilation = (*(1,) * high, *call.dilation)
    extents = (*(1,) * high, *call.extents)
    rest = [(n - 1 - lo, n - 1 - hi) for n, (lo, hi) in zip(extents, padding, strict=True)]

    def gradients(x: Any, w: Any, g: Any) -> tuple[Any, Any]:
        turned = permute((0, 1, 3, 2))(flip((0, 1))(w))
        dx = _dense(g, turned, rest, dilations=dilation)
        if prod(call.kernel_size) < TAPS and {*dilation} == {1}:
            word = "SAME" if call.padded else "VALID"
            return dx, tf.raw_ops.Conv2DBackpropFilter(
                input=x, filter_sizes=tf.shape(w), out_backprop=g, strides=[1] * 4, padding=word
            )
        # Padded before it is moved, where rows are longest.
        samples = permute((3, 1, 2, 0))(_padded(x, padding))
        dw = _dense(samples, permute((1, 2, 0, 3))(g), [(0, 0), (0, 0)], strides=dilation)
        return dx, permute((1, 2, 0, 3))(dw)

    def conv(x: Any, w: Any) -> Any:
        with record.stop_recording():  # a kernel with a dilation has no gradients
            y = run(x, w)
        return y, lambda g: gradients(x, w, g)

    differentiated: Run = tf.custom_gradient(conv)
    return differentiated


def _dense(
    x: Any,
    w: Any,
    padding: Pairs,
    *,
    strides: tuple[int, ...] = (1, 1),
    dilations: tuple[int, ...] = (1, 1),
) -> Any:
    """A convolution of pictures."""
    if tf.executing_eagerly() and not recording():
        amounts = [0, 0, *np.ravel(padding).tolist(), 0, 0]
        where = {"padding": "EXPLICIT", "explicit_paddings": amounts}
        return tf.raw_ops.Conv2D(
            input=x,
            filter=w,
            strides=[1, *strides, 1],
            dilations=[1, *dilations, 1],
            **(where if any(amounts) else {"padding": "VALID"}),
        )
    # To be differentiated: the kernel has no gradients with a dilation, and pfor, which makes a
    # graph of what is recorded, forgets amounts of padding.
    return tf.nn.convolution(
        _padded(x, padding),
        w,
        strides,
        "VALID",
        dilations=dilations,
        data_format="NHWC",  # read by third gradients, which fail without
    )


def _padded(x: Any, padding: Pairs) -> Any:
    return tf.pad(x, [(0, 0), *padding, (0, 0)]) if any(map(any, padding)) else x
