"""Array operations in graphs that do not know all sizes, with gradients that ask no array for its.

TensorFlow's own gradients of a reshape, slice, sum or concatenation do so where sizes are not known
before; a kernel call whose result is asked for nothing else is then computed for its shape alone.
And one size can be left to the operation, where the others are known. Second derivatives are those
of what the gradients are made of.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from . import _arrays


def shaping(shape: Sequence[Any]) -> Callable[[Any], Any]:
    """A function that gives arrays, and their gradients of any order, this shape but for the first
    axis, that of the samples.

    oneDNN gives the result of no samples the shape of its input. Graphs leave out what changes no
    shape that they know, so they are not to know it meanwhile; where they know that there are no
    samples, as of a gradient that was given, they get nothing of that shape.
    """
    sizes: Any = [-1, *shape[1:]]
    known = all(isinstance(size, int) for size in sizes)
    sizes = np.array(sizes, np.int32) if known else tf.stack(sizes)

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def shaped(y: Any) -> Any:
        if y.shape.rank and y.shape[0] == 0:
            return tf.zeros(tf.concat([[0], sizes[1:]], 0), y.dtype), shaped
        unknown = tf.raw_ops.PlaceholderWithDefault(input=y, shape=tf.TensorShape(None))
        return tf.raw_ops.Reshape(tensor=unknown, shape=sizes), shaped

    return shaped  # type: ignore[no-any-return]


def given(x: Any) -> Any:
    """x, whose gradients get its shape, if it is not known how many samples it has."""
    return x if x.shape.rank is None or x.shape[0] is not None else _given(x)


@tf.custom_gradient  # type: ignore[untyped-decorator]
def _given(x: Any) -> Any:
    sizes = tf.unstack(tf.shape(x)) if None in x.shape[1:] else x.shape
    return x, shaping([size if n is None else n for n, size in zip(x.shape, sizes, strict=True)])


def reshape(x: Any, *, shape: Sequence[Any]) -> Any:
    before, after = _inferred(x.shape), _inferred(shape)
    if not _plain_graph() or before is None or after is None:
        return tf.reshape(x, shape)
    return _reshaping(before, after)(x)


def _reshaping(before: list[int], after: list[int]) -> Callable[[Any], Any]:
    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def reshaped(x: Any) -> Any:
        return tf.reshape(x, after), _reshaping(after, before)

    return reshaped  # type: ignore[no-any-return]


def _inferred(shape: Sequence[Any]) -> list[int] | None:
    """The sizes, -1 for the one that is not known; None if a reshape could not tell it."""
    sizes = [size if isinstance(size, int) else -1 for size in shape]
    return sizes if sizes.count(-1) == 1 and 0 not in sizes else None


def add(a: Any, b: Any) -> Any:
    """``b`` has the shape of ``a``, or ones, which are known."""
    alike = None in a.shape and a.shape.as_list() == b.shape.as_list()
    return tf.add_n([a, b]) if alike and _plain_graph() else a + b


def concat(*parts: Any, axis: int) -> Any:
    sizes = [part.shape[axis] for part in parts]
    if None in sizes or not _plain_graph():
        return tf.concat(parts, axis)

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def joined(*parts: Any) -> Any:
        return tf.concat(parts, axis), lambda g: tf.split(g, sizes, axis)

    return joined(*parts)


def slice_(x: Any, *, index: tuple[slice, ...]) -> Any:
    """Along axes whose sizes are known; others whole."""
    plain = _arrays.OPERATIONS["slice"]
    if not all(isinstance(n, int | None) for part in index for n in (part.start, part.stop)):
        return plain(x, index=index)
    if any(part.step not in (None, 1) for part in index):
        return _arrays.BOUND["slice"](index=index)(x)
    ends, sizes = [], []
    for part, n in zip(index, x.shape, strict=True):
        start, stop = part.start or 0, n if part.stop is None else part.stop
        whole = part == slice(None)
        if not (whole or (n is not None and 0 <= start < stop <= n)):
            return plain(x, index=index)
        ends.append((0, 0) if whole else (start, n - stop))
        sizes.append(-1 if whole else stop - start)
    return _cropping(ends, sizes)(x) if _plain_graph() else plain(x, index=index)


def pad(x: Any, *, pairs: Sequence[Any], mode: str = "zeros") -> Any:
    """Along axes whose sizes are known; others not at all."""
    known = all(isinstance(amount, int) for pair in pairs for amount in pair)
    if mode != "zeros" or not (known and _plain_graph()):
        return _arrays.pad(x, pairs=pairs, mode=mode)
    ends = [*map(tuple, pairs)]
    sizes = [-1 if pair == (0, 0) else n for n, pair in zip(x.shape, ends, strict=True)]
    return _padding(ends, sizes)(x) if None not in sizes else tf.pad(x, ends)


def _cropping(ends: list[tuple[int, int]], sizes: list[int]) -> Callable[[Any], Any]:
    """What leaves so many positions at both ends of each axis out, and so many over: -1 for all."""

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def cropped(x: Any) -> Any:
        return tf.slice(x, [lo for lo, _ in ends], sizes), _padding(ends, sizes)

    return cropped  # type: ignore[no-any-return]


def _padding(ends: list[tuple[int, int]], sizes: list[int]) -> Callable[[Any], Any]:
    """Its gradient."""

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def padded(x: Any) -> Any:
        return tf.pad(x, ends), _cropping(ends, sizes)

    return padded  # type: ignore[no-any-return]


def _plain_graph() -> bool:
    """Whether what is called goes into a graph that is run as it is."""
    return not tf.executing_eagerly() and not _arrays.under_xla()


OPERATIONS: dict[str, Callable[..., Any]] = {
    "add": add,
    "concat": concat,
    "pad": pad,
    "reshape": reshape,
    "slice": slice_,
}
