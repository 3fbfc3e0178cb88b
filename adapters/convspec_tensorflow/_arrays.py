"""TensorFlow's array operations, under the names that plans use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf


def shape_of(x: Any) -> tuple[Any, ...]:
    """The shape; an unknown size is the scalar tensor that will hold it."""
    static = tuple(x.shape)
    if None not in static:
        return static
    dynamic = tf.shape(x)
    return tuple(dynamic[i] if size is None else size for i, size in enumerate(static))


def device_of(x: Any) -> str:
    """Kind of device; inside a graph that has not been placed, the first accelerator or the CPU."""
    device = x.device
    if device:
        return str(tf.DeviceSpec.from_string(device).device_type).lower()
    kinds = [d.device_type.lower() for d in tf.config.list_logical_devices()]
    return next((kind for kind in kinds if kind != "cpu"), "cpu")


def watched(x: Any) -> bool:
    """Whether a gradient tape records what is done with ``x``."""
    from tensorflow.python.eager import record

    return bool(record.could_possibly_record()) and record.should_record_backprop([x])


def cast(x: Any, *, dtype: str) -> Any:
    return tf.cast(x, dtype)


def from_foreign(x: Any, like: Any = None) -> Any:
    """Another framework's array, without a copy where DLPack allows."""
    if isinstance(x, np.ndarray):
        if like is not None and like.device:
            with tf.device(like.device):
                return tf.constant(x)
        return tf.constant(x)
    try:
        return tf.experimental.dlpack.from_dlpack(x.__dlpack__())
    except (tf.errors.OpError, BufferError, RuntimeError, TypeError, AttributeError, ValueError):
        return tf.constant(np.asarray(x))


OPERATIONS: dict[str, Callable[..., Any]] = {
    "add": lambda a, b: a + b,
    "cast": cast,
    "concat": lambda *parts, axis: tf.concat(parts, axis),
    "flip": lambda x, *, axes: tf.reverse(x, axes),
    "pad": lambda x, *, pairs, mode: tf.pad(x, pairs),
    "permute": lambda x, *, axes: tf.transpose(x, axes),
    "reshape": lambda x, *, shape: tf.reshape(x, shape),
    "slice": lambda x, *, index: x[index],
}
