"""TensorFlow's array operations, under the names that plans use."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.eager import forwardprop_util, record

from convspec.errors import LayoutError
from convspec.plan import Step
from convspec.problem import Condition
from convspec.symbols import Sizes


def shape_of(x: Any) -> tuple[Any, ...]:
    """The shape; an unknown size is the scalar tensor that will hold it."""
    if x.shape.rank is None:
        raise LayoutError(
            "shape: how many axes a tensor has must be known while tracing; see tf.ensure_shape."
        )
    static = tuple(x.shape)
    if None not in static:
        return static
    dynamic = tf.unstack(tf.shape(x))
    return tuple(dynamic[i] if size is None else size for i, size in enumerate(static))


def device_of(x: Any) -> str:
    """Kind of device; inside a graph that has not been placed, the first accelerator or the CPU."""
    device = x.device
    if device:
        kind = str(tf.DeviceSpec.from_string(device).device_type).lower()
    else:
        kinds = [d.device_type.lower() for d in tf.config.list_logical_devices()]
        kind = next((kind for kind in kinds if kind != "cpu"), "cpu")
    return XLA if kind == "cpu" and under_xla() else kind


#: The CPU, in what XLA compiles: its kernels are others.
XLA = "xla_cpu"
CPU = ("cpu", XLA)


def _compiled() -> bool:
    """Whether XLA will compile the graph under construction; nothing public tells."""
    try:
        from tensorflow.python.ops.control_flow_util import GraphOrParentsInXlaContext
    except ImportError:
        return False
    return bool(GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph()))


def under_xla() -> bool:
    return not tf.executing_eagerly() and _compiled()


def recording() -> bool:
    """Whether anything at all is recorded, for gradients or forward-mode differentiation."""
    return bool(record.could_possibly_record())


def watched(x: Any) -> bool:
    """Whether a gradient tape records what is done with ``x``, or a tangent goes with it."""
    return recording() and (record.should_record_backprop([x]) or tangents(x))


def tangents(*arrays: Any) -> bool:
    """Whether forward-mode differentiation follows any of them."""
    return bool(forwardprop_util.pack_tangents(arrays).tangents)


def ensure_shape(x: Any, shape: tuple[Any, ...]) -> Any:
    """``x``, whose unknown sizes are held to ``shape`` when the graph runs."""
    known = all(want is None or n is not None for n, want in zip(x.shape, shape, strict=True))
    return x if known else tf.ensure_shape(x, shape)


def checks(conditions: Iterable[Condition], sizes: Sizes | None) -> list[Any]:
    """Sizes that are unknown while tracing are held to the conditions when the graph runs.

    Returns:
        The operations that do so, for those that must not run before them.
    """
    found = []
    for condition in conditions:
        assert sizes is not None
        small, large = sizes(condition.small), sizes(condition.large)
        told = [condition.message, "Condition x <= y did not hold:", small, large]
        found.append(tf.debugging.Assert(small <= large, told))
    return found


def tied(a: Any, b: Any) -> Any:
    """``a``, as something that depends on ``b``: where pfor has many of ``b``, it has as many.

    What both have is then computed one by one. On the CPU a slice of all that there is costs
    nothing; accelerators would have to wait for where it begins.
    """
    nothing = tf.reduce_sum(b[:0])
    if not _only_cpu() or a.shape.rank is None or under_xla():
        return a + tf.cast(nothing, a.dtype)
    begin = [tf.cast(nothing, tf.int32), *[0] * (a.shape.rank - 1)]
    return tf.slice(a, begin, shape_of(a))


@tf.custom_gradient  # type: ignore[untyped-decorator]
def apart(x: Any) -> Any:
    """``x``, as something that graphs fuse to nothing around it, nor its gradients of any order."""
    return tf.ensure_shape(x, x.shape), apart


def vjp(function: Callable[..., Any], arrays: Any, cotangent: Any) -> tuple[Any, ...]:
    """Gradients by a tape, whose own are conjugated."""
    with tf.GradientTape() as tape:
        tape.watch(list(arrays))
        y = function(*arrays)
    found = tape.gradient(
        y,
        list(arrays),
        output_gradients=tf.math.conj(cotangent),
        unconnected_gradients=tf.UnconnectedGradients.ZERO,
    )
    return tuple(map(tf.math.conj, found))


def cast(x: Any, *, dtype: str) -> Any:
    return tf.cast(x, dtype)


def from_foreign(x: Any, like: Any = None) -> Any:
    """A NumPy array copied to where ``like`` is, or another framework's by DLPack, not copied.

    Raises:
        BufferError: TensorFlow cannot take the memory as it is.
    """
    if isinstance(x, np.ndarray):
        with tf.device(like.device if like is not None and like.device else None):
            return tf.constant(x)
    capsule = x.__dlpack__()
    if _address(capsule) % ALIGNMENT:
        raise BufferError(f"tensorflow: wants memory at a multiple of {ALIGNMENT} bytes.")
    return tf.experimental.dlpack.from_dlpack(capsule)


#: TensorFlow aborts the process when a kernel meets memory that is aligned less than this.
ALIGNMENT = 64


def _address(capsule: Any) -> int:
    """Where the data of a DLPack capsule begins.

    A DLManagedTensor begins with a DLTensor: data, device (2 x int32), ndim (int32), dtype (4
    bytes), shape, strides, byte_offset (https://dmlc.github.io/dlpack/latest/c_api.html).
    """
    read = ctypes.pythonapi.PyCapsule_GetPointer
    read.restype, read.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    fields = ctypes.cast(read(capsule, b"dltensor"), ctypes.POINTER(ctypes.c_uint64))
    return int(fields[0] + fields[5])


#: tf.pad's words.
MODES = {"zeros": "CONSTANT", "reflect": "REFLECT"}


def pad(x: Any, *, pairs: Any, mode: str) -> Any:
    # MirrorPad refuses what has no elements, and so has nothing to reflect.
    return tf.pad(x, pairs, MODES["zeros" if x.shape.num_elements() == 0 else mode])


def _slice(x: Any, *, index: tuple[slice, ...]) -> Any:
    """Of sizes that are known when the graph runs; what is known before stays so."""
    if any(part.step not in (None, 1) for part in index) or under_xla():
        return x[index]
    begin = [0 if part.start is None else part.start for part in index]
    ends = zip(begin, (part.stop for part in index), strict=True)
    size = [-1 if stop is None else stop - start for start, stop in ends]
    y = tf.slice(x, begin, size)
    kept = zip(x.shape, index, strict=True)
    y.set_shape([n if part == slice(None) else None for n, part in kept])
    return y


def bound(op: str, params: dict[str, Any]) -> Step | None:
    """Operations whose axes and sizes are known, without what TensorFlow makes of these at each
    call: it would take up to four times as long. None for others.
    """
    made = BOUND.get(op)
    return Step(made(**params)) if made is not None else None


def _bound_pad(pairs: Any, mode: str) -> Callable[[Any], Any]:
    amounts = _integers(pairs)
    if mode == "zeros":
        return lambda x: tf.raw_ops.Pad(input=x, paddings=amounts)

    def mirrored(x: Any) -> Any:
        if x.shape.num_elements() == 0:
            return pad(x, pairs=pairs, mode=mode)
        return tf.raw_ops.MirrorPad(input=x, paddings=amounts, mode=MODES[mode])

    return mirrored


def _bound_slice(index: tuple[slice, ...]) -> Callable[[Any], Any]:
    """By the operation Slice, whose gradient is a Pad: that of StridedSlice, which ``x[index]`` is,
    takes 5 to 25 times as long on the CPU (TensorFlow 2.21, float32, 2 cores, 5 to 50 MB). In what
    XLA compiles it is another, which has no gradient of its own; there ``x[index]`` is as fast.
    """
    begin = [part.start or 0 for part in index]
    size = [-1 if p.stop is None else p.stop - (p.start or 0) for p in index]
    ends = [part.stop is not None and part.stop <= (part.start or 0) for part in index]
    if min(begin) < 0 or any(ends):
        return lambda x: x[index]  # from the end; or nothing, of whose Pad XLA ends the process
    stepped = [axis for axis, part in enumerate(index) if part.step not in (None, 1)]
    if not stepped:
        where = {"begin": _integers(begin), "size": _integers(size)}
        return lambda x: x[index] if under_xla() else tf.raw_ops.Slice(input=x, **where)
    axis, part = stepped[0], index[stepped[0]]
    alone = all(other == slice(None) for other in (*index[:axis], *index[axis + 1 :]))
    if not alone or part.step < 0 or part.stop is None:
        return lambda x: x[index]
    return _bound_every(axis, range(begin[axis], part.stop, part.step))


def _bound_every(axis: int, positions: range) -> Callable[[Any], Any]:
    """Every few elements along an axis.

    StridedSlice takes them one by one on the CPU, 7 to 20 times as long as Slice. A gather takes
    less than that, but its gradient is a sum over segments; so where there may be one they are the
    first of each few, which get an axis of their own.
    """
    chosen = _integers(positions)

    def every(x: Any) -> Any:
        eager, unknown = tf.executing_eagerly(), tuple(x.shape).count(None)
        if eager and not recording() and _only_cpu():
            return tf.raw_ops.GatherV2(params=x, indices=chosen, axis=axis)
        known = x.shape[axis] is not None and unknown <= 1
        if known and _only_cpu() and not under_xla():
            return _first_of_each(x, axis, positions)
        return x[(*[slice(None)] * axis, slice(positions.start, positions.stop, positions.step))]

    return every


def _first_of_each(x: Any, axis: int, positions: range) -> Any:
    count, step = len(positions), positions.step
    whole = count * step
    before, size, after = list(x.shape[:axis]), x.shape[axis], list(x.shape[axis + 1 :])
    if size < whole:
        end = [(0, whole - size if i == axis else 0) for i in range(x.shape.rank)]
        x, size = tf.raw_ops.Pad(input=x, paddings=_integers(end)), whole
    first = min(positions.start, size - whole)
    x = _bound_slice(_along(axis, x.shape.rank, first, whole))(x)
    x = _bound_reshape([*_sizes(before), count, step, *_sizes(after)])(x)
    x = _bound_slice(_along(axis + 1, x.shape.rank, positions.start - first, 1))(x)
    return _bound_reshape([*_sizes(before), count, *_sizes(after)])(x)


def _along(axis: int, rank: int, first: int, count: int) -> tuple[slice, ...]:
    index = [slice(None)] * rank
    index[axis] = slice(first, first + count)
    return tuple(index)


def _sizes(shape: list[int | None]) -> list[int]:
    """For a reshape, which finds out one of them."""
    return [-1 if size is None else size for size in shape]


@cache
def _only_cpu() -> bool:
    return {device.device_type for device in tf.config.list_logical_devices()} == {"CPU"}


def _bound_flip(axes: Any) -> Callable[[Any], Any]:
    axes = _integers(axes)
    return lambda x: tf.raw_ops.ReverseV2(tensor=x, axis=axes)


def _bound_permute(axes: Any) -> Callable[[Any], Any]:
    axes = _integers(axes)
    return lambda x: tf.raw_ops.Transpose(x=x, perm=axes)


def _bound_reshape(shape: Any) -> Callable[[Any], Any]:
    shape = _integers(shape)
    return lambda x: tf.raw_ops.Reshape(tensor=x, shape=shape)


def _integers(values: Any) -> Any:
    """In 32 bits, as ``tf`` itself hands them on, where they will do."""
    wide = np.array(values, np.int64)
    return wide.astype(np.int32) if np.abs(wide).max(initial=0) < 2**31 else wide


BOUND: dict[str, Callable[..., Callable[[Any], Any]]] = {
    "flip": _bound_flip,
    "pad": _bound_pad,
    "permute": _bound_permute,
    "reshape": _bound_reshape,
    "slice": _bound_slice,
}
OPERATIONS: dict[str, Callable[..., Any]] = {
    "add": lambda a, b: a + b,
    "cast": cast,
    "concat": lambda *parts, axis: tf.concat(parts, axis),
    "flip": lambda x, *, axes: tf.reverse(x, axes),
    "multiply": lambda a, b: a * b,
    "pad": pad,
    "part": lambda parts, *, index: parts[index],
    "permute": lambda x, *, axes: tf.transpose(x, axes),
    "reshape": lambda x, *, shape: tf.reshape(x, shape),
    "slice": _slice,
    "split": lambda x, *, axis, count: tf.raw_ops.Split(axis=axis, value=x, num_split=count),
}
