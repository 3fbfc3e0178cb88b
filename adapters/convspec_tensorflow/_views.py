"""Operations that are views of an array in NumPy: other orders of its axes, slices, reversals.

In eager mode on the CPU such a view is copied by :mod:`convspec.copies`, as NumPy's arrays are. Of
TensorFlow's kernels the call alone takes longer than a small copy; from 16 kB on other orders take
them 2 to 4 times as long, and slices with steps up to ten times (TensorFlow 2.21, AVX2, 2 cores,
medians of interleaved calls). With channels first that was up to two thirds of a convolution.
Graphs are TensorFlow's to optimize.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache, partial
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.eager import context, forwardprop_util, record

from convspec import copies

Operation = Callable[[Any], Any]

#: TensorFlow aborts the process when a kernel meets memory that is aligned less than this.
ALIGNMENT = 64
#: Where eager arrays of the CPU are; they are elsewhere if it was split into logical devices.
HERE = "/job:localhost/replica:0/task:0/device:CPU:0"
#: Kinds of element types that DLPack has.
KINDS = "fiuc"


@lru_cache(256)
def permute(axes: tuple[int, ...]) -> Operation:
    """A function that gives an array with its axes in another order."""
    return _copying(
        lambda array: array.transpose(axes),
        partial(tf.raw_ops.Transpose, perm=integers(axes)),
        "x",
        lambda shape: permute(tuple(map(int, np.argsort(axes)))),
    )


@lru_cache(256)
def flip(axes: tuple[int, ...]) -> Operation:
    """A function that gives an array reversed along some axes."""
    return _copying(
        lambda array: np.flip(array, axes),
        partial(tf.raw_ops.ReverseV2, axis=integers(axes)),
        "tensor",
        lambda shape: flip(axes),
    )


def part(index: Iterable[slice]) -> Operation:
    """A function that gives a part of an array: one slice for each axis, its ends not negative."""
    index = tuple(index)
    # A bit in a mask says that the axis begins or ends where the array does.
    where = {
        "begin": integers([part.start or 0 for part in index]),
        "end": integers([part.stop or 0 for part in index]),
        "strides": integers([part.step or 1 for part in index]),
        "begin_mask": sum(1 << axis for axis, part in enumerate(index) if part.start is None),
        "end_mask": sum(1 << axis for axis, part in enumerate(index) if part.stop is None),
        "ellipsis_mask": 0,
        "new_axis_mask": 0,
        "shrink_axis_mask": 0,
    }

    def back(shape: tuple[int, ...]) -> Operation:
        return lambda g: tf.raw_ops.StridedSliceGrad(shape=integers(shape), dy=g, **where)

    return _copying(
        lambda array: array[index], partial(tf.raw_ops.StridedSlice, **where), "input", back
    )


def _copying(
    view: Callable[[Any], Any],
    operation: Callable[..., Any],
    argument: str,
    back: Callable[[tuple[int, ...]], Operation],
) -> Operation:
    """A copy of NumPy's view where that can be, TensorFlow's operation elsewhere.

    Args:
        view: of a NumPy array.
        operation: TensorFlow's.
        argument: what it calls the array.
        back: for an array of some shape, the gradient as a function of that of the result.
    """

    def run(x: Any) -> Any:
        if not tf.executing_eagerly() or x.device != HERE or not _in_place():
            return operation(**{argument: x})
        if not isinstance(x, tf.Tensor):  # variables, gradients of tf.gather
            x = tf.convert_to_tensor(x)
        recorded = recording()
        array = np.asarray(x)
        foreign = array.dtype.kind not in KINDS or array.dtype.isbuiltin != 1  # as of ml_dtypes
        seen = array if foreign else view(array)
        if foreign or seen.size == 0 or (recorded and tangents(x)):
            return operation(**{argument: x})
        if seen.size == array.size and seen.flags.c_contiguous:  # nothing moves
            return tf.raw_ops.Reshape(tensor=x, shape=integers(seen.shape))
        y = _copied(seen)
        # Whatever x is: a forward accumulator follows what no tape watches.
        if recorded:
            gradient = back(array.shape)
            record.record_operation("convspec_copy", [y], [x], lambda g: [gradient(g)])
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


def _in_place() -> bool:
    """Whether an operation would run here and now.

    Not on the device of a ``tf.device``; nor in a thread of TensorFlow's own, which asynchronous
    execution has: NumPy's memory is freed there, which waits for Python's lock, forever.
    """
    now = context.context()
    return now.device_name in (None, "", HERE) and not now.is_async()


def recording() -> bool:
    """Whether anything at all is being recorded, for gradients or forward-mode differentiation."""
    return bool(record.could_possibly_record())


def tangents(x: Any) -> bool:
    """Whether forward-mode differentiation follows ``x``."""
    return bool(forwardprop_util.pack_tangents([x]).tangents)


def integers(values: Any) -> Any:
    """In 32 bits, as ``tf`` itself hands them on, where they will do."""
    wide = np.array(values, np.int64)
    return wide.astype(np.int32) if np.abs(wide).max(initial=0) < 2**31 else wide
