"""The gradients of a dense convolution of large kernels as convolutions, where these are faster.

With y = x * w of stride 1, dx is g, padded by what x lacks, with the kernel turned around and its
channels swapped; and dw is x, of which the channels are samples, with g as the kernel and samples
as channels (Goodfellow et al., Deep Learning, 2016, section 9.5).

TensorFlow's kernels for gradients use BLAS far worse than its forward kernel does. Measured
(TensorFlow 2.21 without oneDNN, AVX2, float32, 2 cores, medians of interleaved eager calls with
both gradients, 1 to 8 samples of 28x28 to 128x128, 16 to 256 channels): kernels of 4x4 to 7x7 are
1.2 to 3.5 times as fast so. Of 3x3, what the kernels gain goes into the copies around them (0.6 to
1.2); 8 channels lose (0.8), and so do strides, between whose elements of g there are zeros.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import tensorflow as tf

from convspec.plan import Call

from ._slow import onednn

#: From so many multiplications on: what is around the kernels takes a quarter of a millisecond.
WORTHWHILE = 2**25
#: From so many taps on.
TAPS = 16
#: From so many input channels on.
CHANNELS = 16

Run = Callable[[Any, Any], Any]


def by_convolutions(call: Call) -> bool:
    """Whether a call's gradients are computed so, in eager mode; graphs are for XLA to compile."""
    if call.device != "cpu" or call.dtype != "float32" or onednn():
        return False
    if any(type(size) is not int for size in (call.batch, *call.output_size)):
        return False  # known only when the graph runs
    dense = not call.transposed and call.groups == 1 and call.rank in (1, 2)
    if not dense or {*call.stride, *call.dilation, *call.input_dilation} != {1}:
        return False
    if call.padded and not call.same:
        return False
    return (
        prod(call.kernel_size) >= TAPS
        and call.in_channels >= CHANNELS
        and call.multiplications >= WORTHWHILE
    )


def with_gradients(run: Run, call: Call) -> Run:
    """``run``, a kernel of pictures, with these gradients in eager mode.

    x (N, H, W, C), w (KH, KW, C, O) -> y (N, H', W', O); a signal is a picture one pixel high.
    """
    high = [(0, 0)] * (2 - call.rank)
    padding = [*high, *(call.padding if call.padded else [(0, 0)] * call.rank)]
    kernel_size = [*(1 for _ in high), *call.kernel_size]
    rest = [(k - 1 - lo, k - 1 - hi) for k, (lo, hi) in zip(kernel_size, padding, strict=True)]

    def gradients(x: Any, w: Any, g: Any) -> tuple[Any, Any]:
        turned = tf.transpose(tf.reverse(w, (0, 1)), (0, 1, 3, 2))
        dx = _dense(g, turned, rest)
        dw = _dense(tf.transpose(x, (3, 1, 2, 0)), tf.transpose(g, (1, 2, 0, 3)), padding)
        return dx, tf.transpose(dw, (1, 2, 0, 3))

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def conv(x: Any, w: Any) -> Any:
        return run(x, w), lambda g: gradients(x, w, g)

    return lambda x, w: conv(x, w) if tf.executing_eagerly() else run(x, w)


def _dense(x: Any, w: Any, padding: Any) -> Any:
    """A convolution of stride 1. Amounts that a kernel is given are forgotten by pfor."""
    if any(map(any, padding)):
        x = tf.pad(x, [(0, 0), *padding, (0, 0)])
    return tf.raw_ops.Conv2D(input=x, filter=w, strides=[1, 1, 1, 1], padding="VALID")
