"""Contiguous copies of permuted arrays, in blocks that fit into a core's cache, on all cores.

NumPy walks the output row by row, on one core; where the input is strided then, each cache line is
fetched again for each of its elements. Here a block is long along the axis that is contiguous in
the input and along the one that is contiguous in the output, so that whole lines are read and
written. Rows that lie a power of two apart would push each other out of the cache; they are first
gathered in a spare block, whose rows do not. NumPy lets go of the interpreter's lock while it
copies, so that threads share the blocks.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from math import isqrt, prod
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from .threads import share

Array = np.ndarray[Any, Any]

#: Bytes of a block: of 32, 64, 128 and 256 kB the fastest where a core has 512 kB of second-level
#: cache. Smaller ones fit better, but Python's lock changes hands more often.
BLOCK = 2**18
#: Bytes of a cache line.
LINE = 64
#: Below this, handing out blocks costs more than it gives.
SMALL = 2**19
#: NumPy's inner loop runs along the output's contiguous axis; a shorter one is taken apart.
SHORT = 8


def contiguous(x: Array, dtype: np.dtype[Any] | None = None) -> Array:
    """A C-contiguous array with the elements of a view of any strides; itself if it is one.

    Args:
        x: array or view.
        dtype: type of the result; default: as it is.
    """
    dtype = x.dtype if dtype is None else dtype
    if x.nbytes < SMALL or x.dtype.hasobject or (x.flags.c_contiguous and dtype == x.dtype):
        return np.asarray(x, dtype, order="C")
    out = np.empty(x.shape, dtype)
    _fill(out, x)
    return out


def _fill(out: Array, x: Array) -> None:
    """Copy ``x`` into a contiguous array of its shape."""
    if out.dtype == x.dtype and x.itemsize in (
        1,
        2,
        4,
        8,
    ):  # types that NumPy does not know are copied one by one
        out, x = (a.view(f"u{a.itemsize}") for a in (out, x))
    shape, strides = _merged(x)
    out, x = out.reshape(shape), as_strided(x, shape, strides, writeable=False)
    # The input's contiguous axis next to the output's.
    if (first := min(range(x.ndim), key=lambda i: abs(strides[i]))) != x.ndim - 1:
        out, x = (np.moveaxis(a, first, -2) for a in (out, x))
    lengths = _lengths(x)
    strided = abs(x.strides[-1]) != x.itemsize

    def work(corners: Iterator[tuple[int, ...]]) -> None:
        spare = None
        for corner in corners:
            index = tuple(slice(i, i + n) for i, n in zip(corner, lengths, strict=True))
            target, block = out[index], x[index]
            if not strided:
                np.copyto(target, block)
            elif x.shape[-1] <= SHORT:
                for i in range(block.shape[-1]):
                    np.copyto(target[..., i], block[..., i])
            elif abs(x.strides[-1]) <= prod(lengths[:-1]) * x.itemsize:  # one piece
                np.copyto(target, block)
            else:
                spare = _spare(x, lengths) if spare is None else spare
                part = spare[tuple(map(slice, block.shape))]
                np.copyto(part, block)
                np.copyto(target, part)

    steps = (range(0, n, step) for n, step in zip(x.shape, lengths, strict=True))
    share(work, product(*steps))


def _spare(x: Array, lengths: list[int]) -> Array:
    """A block in the input's order, a line longer from one step of the last axis to the next."""
    order = sorted(range(x.ndim), key=lambda axis: -abs(x.strides[axis]))
    at = order.index(x.ndim - 1) + 1
    sizes = [lengths[axis] for axis in order]
    row = prod(sizes[at:])
    rows = np.empty((*sizes[:at], row + LINE // x.itemsize), x.dtype)[..., :row]
    return rows.reshape(sizes).transpose(np.argsort(order))


def _merged(x: Array) -> tuple[list[int], list[int]]:
    """Shape and strides with neighbours merged that lie end to end, and axes of 1 left out."""
    shape, strides = [1], [x.itemsize]
    for n, stride in zip(reversed(x.shape), reversed(x.strides), strict=True):
        if n == 1:
            continue
        if shape[0] == 1:
            shape[0], strides[0] = n, stride
        elif stride == shape[0] * strides[0]:
            shape[0] *= n
        else:
            shape.insert(0, n)
            strides.insert(0, stride)
    return shape, strides


def _lengths(x: Array) -> list[int]:
    """How long a block is on each axis.

    First as long as wide on the last two axes, the contiguous ones of input and output, then
    longer in the input's order. Where that cuts an axis, the parts are equal, of whole lines.
    """
    count, line = BLOCK // x.itemsize, max(LINE // x.itemsize, 1)
    lengths = [1] * max(x.ndim - 2, 0) + [min(n, isqrt(count)) for n in x.shape[-2:]]
    for axis in sorted(range(x.ndim), key=lambda axis: abs(x.strides[axis])):
        others = prod(lengths) // lengths[axis]
        longest = max(lengths[axis], min(x.shape[axis], count // others))
        parts = -(-x.shape[axis] // longest)
        lengths[axis] = -(-x.shape[axis] // parts)
        if parts > 1 and axis >= x.ndim - 2:
            lengths[axis] = -(-lengths[axis] // line) * line
    return lengths
