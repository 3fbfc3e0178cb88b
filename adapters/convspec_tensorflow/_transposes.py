"""Axes in another order.

In eager mode on the CPU they are copied by :mod:`convspec.copies`, as NumPy's arrays are. Of
TensorFlow's kernel, the call alone takes longer than a small copy, and from 16 kB on it takes 2 to
4 times as long (TensorFlow 2.21, AVX2, 2 cores, medians of interleaved calls): with channels first,
up to two thirds of an eager convolution. Graphs are TensorFlow's to optimize.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.eager import forwardprop_util, record

from convspec import copies

Permute = Callable[[Any], Any]

#: TensorFlow aborts the process when a kernel meets memory that is aligned less than this.
ALIGNMENT = 64
#: Where eager arrays of the CPU are; they are elsewhere if it was split into logical devices.
HERE = "/job:localhost/replica:0/task:0/device:CPU:0"
#: Kinds of element types that DLPack has.
KINDS = "fiuc"


@lru_cache(256)
def permute(axes: tuple[int, ...]) -> Permute:
    """A function that copies an array into another order of its axes."""
    wanted = np.array(axes, np.int32)
    back = tuple(map(int, np.argsort(wanted)))

    def run(x: Any) -> Any:
        if not tf.executing_eagerly() or x.device != HERE:
            return tf.raw_ops.Transpose(x=x, perm=wanted)
        if not isinstance(x, tf.Tensor):  # variables, gradients of tf.gather
            x = tf.convert_to_tensor(x)
        recorded = record.could_possibly_record()
        array = np.asarray(x)
        foreign = array.dtype.kind not in KINDS or array.dtype.isbuiltin != 1  # as of ml_dtypes
        if foreign or array.size == 0 or (recorded and tangents(x)):
            return tf.raw_ops.Transpose(x=x, perm=wanted)
        y = _copied(array.transpose(axes))
        if recorded and record.should_record_backprop([x]):
            record.record_operation("Transpose", [y], [x], lambda g: [permute(back)(g)])
        return y

    return run


def _copied(view: Any) -> Any:
    """A tensor of a NumPy view's elements."""
    size = view.nbytes
    memory = np.empty(size + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    out = memory[start : start + size].view(view.dtype).reshape(view.shape)
    copies.copy(out, view)
    return tf.experimental.dlpack.from_dlpack(out.__dlpack__())


def tangents(x: Any) -> bool:
    """Whether forward-mode differentiation follows ``x``."""
    return bool(forwardprop_util.pack_tangents([x]).tangents)
