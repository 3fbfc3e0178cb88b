"""Contiguous copies of permuted arrays, in blocks that fit into a core's cache, on all cores.

NumPy walks the output row by row, on one core; where the input is strided then, each cache line is
fetched again for each of its elements. Here a block is long along the axis that is contiguous in
the input and along the one that is contiguous in the output, so that whole lines are read and
written. A kernel compiled by numba copies it, where that is installed; else NumPy does, and rows
that lie a power of two apart, which would push each other out of the cache, are first gathered in a
spare block, whose rows do not. Both let go of the interpreter's lock, so that threads share blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import product
from math import isqrt, prod
from operator import mul, sub
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from .threads import share

Array = np.ndarray[Any, Any]
Numbers = tuple[int, ...]

#: Bytes of a block: of 32, 64, 128 and 256 kB the fastest where a core has 512 kB of second-level
#: cache. Smaller ones fit better, but Python's lock changes hands more often.
BLOCK = 2**18
#: The same of the compiled kernel, which has tiles of its own: a share of work for one core.
COMPILED = 2**20
#: Fewer such shares stay with the calling thread: it has copied one before another core is awake.
SHARES = 2
#: More are made larger: two cores that are close together reach a new page of 2 MB at once, and
#: each clears one. With blocks of 1 MB that took half the time of a copy of 4 GB.
MOST = 256
#: Bytes of a cache line.
LINE = 64
#: Elements of these sizes are copied as integers, whatever they are.
UNSIGNED = {size: np.dtype(f"u{size}") for size in (1, 2, 4, 8)}
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
    if not compiled(out, x):
        by_numpy(out, x)
    return out


def engine() -> str:
    """What copies large arrays here: ``"numba"``, or ``"numpy"`` where that is not installed."""
    return "numpy" if _kernel() is None else "numba"


# ---- what is decided from shape and strides ----


@dataclass(frozen=True)
class Axes:
    """The axes of a copy: the last is contiguous in the output, the one before it in the input.

    If one axis is contiguous in both, it is the last.

    Attributes:
        shape: lengths of the axes, neighbours that lie end to end in both being one.
        x_steps: how far apart neighbours lie in the input, in elements; may be negative.
        out_steps: the same in the output.
    """

    shape: Numbers
    x_steps: Numbers
    out_steps: Numbers

    def lengths(self, count: int, line: int) -> list[int]:
        """How long a block of about ``count`` elements is on each axis.

        First as long as wide on the last two axes, then longer in the input's order. Where that
        cuts one of them, the parts are equal, of whole cache lines of ``line`` elements.
        """
        last = len(self.shape) - 2
        lengths = [1] * last + [min(n, isqrt(count)) for n in self.shape[last:]]
        for axis in sorted(range(last + 2), key=lambda axis: abs(self.x_steps[axis])):
            others = prod(lengths) // lengths[axis]
            longest = max(lengths[axis], min(self.shape[axis], count // others))
            parts = -(-self.shape[axis] // longest)
            lengths[axis] = -(-self.shape[axis] // parts)
            if parts > 1 and axis >= last:
                lengths[axis] = -(-lengths[axis] // line) * line
        return lengths

    def corners(self, lengths: list[int]) -> Iterator[Numbers]:
        """Where each block begins."""
        return product(*(range(0, n, step) for n, step in zip(self.shape, lengths, strict=True)))


@lru_cache(64)
def _axes(shape: Numbers, steps: Numbers) -> Axes:
    """The axes of a contiguous copy of a view, at least five; ``steps`` are in elements."""
    merged: list[tuple[int, int]] = []
    for n, step in zip(reversed(shape), reversed(steps), strict=True):
        if merged and step == merged[-1][0] * merged[-1][1]:
            merged[-1] = n * merged[-1][0], merged[-1][1]
        elif n != 1:
            merged.append((n, step))
    merged += [(1, 0)] * (5 - len(merged))
    sizes, x_steps = zip(*reversed(merged), strict=True)
    out_steps = tuple(prod(sizes[i + 1 :]) for i in range(len(sizes)))
    order = list(range(len(sizes)))
    # Not an axis of one element: its step says nothing.
    first = min(order, key=lambda i: (sizes[i] == 1, abs(x_steps[i])))
    if first != order[-1]:
        order.insert(-1, order.pop(first))
    moved = (tuple(values[i] for i in order) for values in (sizes, x_steps, out_steps))
    return Axes(*moved)


# ---- compiled ----


@dataclass(frozen=True)
class Plan:
    """A copy as calls of the compiled kernel.

    Attributes:
        blocks: for each, where it begins in the output and in the input, and its lengths.
        end: behind the last element of the input.
        out_steps: of the last five axes.
        x_steps: likewise.
    """

    blocks: list[tuple[int, int, Numbers]]
    end: int
    out_steps: Numbers
    x_steps: Numbers


@lru_cache(64)
def _plan(shape: Numbers, strides: Numbers, itemsize: int, limit: int) -> Plan | None:
    """Calls of the compiled kernel, or None where neither of the last two axes is contiguous."""
    if any(step % itemsize for step in strides):
        return None
    axes = _axes(shape, tuple(step // itemsize for step in strides))
    sizes, x_steps, out_steps = axes.shape, axes.x_steps, axes.out_steps
    to = at = 0
    if x_steps[-2] == -1 and x_steps[-1] != 1:  # from its end, in both
        to, at = (sizes[-2] - 1) * out_steps[-2], 1 - sizes[-2]
        x_steps, out_steps = ((*s[:-2], -s[-2], s[-1]) for s in (x_steps, out_steps))
    if 1 not in x_steps[-2:]:
        return None
    lengths = axes.lengths(limit // itemsize, max(LINE // itemsize, 1))
    lengths[:-5] = [1] * (len(lengths) - 5)
    blocks = []
    for corner in axes.corners(lengths):
        block = tuple(map(min, lengths, map(sub, sizes, corner)))
        o, s = to + sum(map(mul, corner, out_steps)), at + sum(map(mul, corner, x_steps))
        blocks.append((o, s, block[-5:]))
    end = at + sum((n - 1) * step for n, step in zip(sizes, x_steps, strict=True) if step > 0) + 1
    return Plan(blocks, end, out_steps[-5:], x_steps[-5:])


@cache
def _kernel() -> Callable[..., None] | None:
    """The compiled copy of one block, where numba is installed and can be used."""
    try:
        from .transposes import copy
    except (ImportError, RuntimeError):  # numba refuses this NumPy, or finds no place for its cache
        return None
    kernel: Callable[..., None] = copy
    return kernel


def compiled(out: Array, x: Array) -> bool:
    """Copy ``x`` into a contiguous array of its shape; False if the kernel is not for it."""
    if out.dtype != x.dtype or x.itemsize not in UNSIGNED or not x.flags.aligned:
        return False
    if (kernel := _kernel()) is None:
        return False
    whole = x.nbytes < SHARES * COMPILED
    limit = x.nbytes if whole else max(COMPILED, x.nbytes // MOST)
    if (plan := _plan(x.shape, x.strides, x.itemsize, limit)) is None:
        return False
    flat = out.reshape(-1).view(UNSIGNED[out.itemsize])
    address = x.__array_interface__["data"][0]

    def work(blocks: Iterator[tuple[int, int, Numbers]]) -> None:
        for to, at, lengths in blocks:
            kernel(flat, to, plan.out_steps, address, at, plan.x_steps, plan.end, lengths)

    share(work, plan.blocks)
    return True


# ---- by NumPy alone ----


def by_numpy(out: Array, x: Array) -> None:
    """Copy ``x`` into a contiguous array of its shape."""
    if out.dtype == x.dtype and x.itemsize in UNSIGNED:
        # Types that NumPy does not know would be copied one by one.
        out, x = (a.view(UNSIGNED[a.itemsize]) for a in (out, x))
    axes = _axes(x.shape, x.strides)
    size = out.itemsize
    out = as_strided(out, axes.shape, tuple(step * size for step in axes.out_steps))
    x = as_strided(x, axes.shape, axes.x_steps, writeable=False)
    lengths = axes.lengths(BLOCK // x.itemsize, max(LINE // x.itemsize, 1))
    strided = abs(x.strides[-1]) != x.itemsize

    def work(corners: Iterator[Numbers]) -> None:
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

    share(work, axes.corners(lengths))


def _spare(x: Array, lengths: list[int]) -> Array:
    """A block in the input's order, a line longer from one step of the last axis to the next."""
    order = sorted(range(x.ndim), key=lambda axis: -abs(x.strides[axis]))
    at = order.index(x.ndim - 1) + 1
    sizes = [lengths[axis] for axis in order]
    row = prod(sizes[at:])
    rows = np.empty((*sizes[:at], row + LINE // x.itemsize), x.dtype)[..., :row]
    return rows.reshape(sizes).transpose(np.argsort(order))
