"""Products of matrices: windows are gathered block by block, never all at once.

Blocks are small enough to stay in a cache, and shared by all cores: while one is multiplied by
BLAS, others are gathered. A gathered block has the order that keeps the input's contiguous axis
whole: channels first, a row for each tap with the positions along it; channels last, a row for
each position with taps and channels along it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import prod
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from convspec.copies import contiguous
from convspec.plan import Call
from convspec.threads import cores, share

from . import _blocks


def rows(call: Call) -> Callable[[Any, Any], Any]:
    """x (N, space, C), w (space, I, O) -> y (N, space, O)."""
    rank, groups = call.rank, call.groups
    inner, each, channels = _inner(call), call.out_channels // groups, call.in_channels // groups
    windows_of, pointwise = _windows(call, 1), call.pointwise
    order = (*range(rank + 1), *range(rank + 2, 2 * rank + 2), rank + 1)
    copies = 1 if groups == 1 else 2
    size = inner * groups * copies * _blocks.itemsize(call)
    boxes = list(_blocks.boxes((call.batch, *call.output_size), size, _limit()))
    shape = (call.batch, *call.output_size, call.out_channels)

    def run(x: Any, w: Any) -> Any:
        windows = windows_of(x).transpose(order)  # (N, positions, taps, C)
        # (G, taps * I, O/G)
        matrix = contiguous(w).reshape(inner, groups, each).transpose(1, 0, 2)
        y = np.empty(shape, np.result_type(x, w))

        def work(boxes: Iterator[tuple[int | slice, ...]]) -> None:
            gather = _Gather(pointwise)
            for box in boxes:
                out = y[box].reshape(-1, groups, each)
                block = gather(windows[box]).reshape(-1, inner * groups)
                if groups == 1:
                    np.matmul(block, matrix[0], out=out[:, 0])
                    continue
                # (positions, taps, G, I) -> (G, positions, taps * I)
                split: Any = block.reshape(out.shape[0], -1, groups, channels)
                split = split.transpose(2, 0, 1, 3).reshape(groups, out.shape[0], inner)
                np.matmul(split, matrix, out=out.transpose(1, 0, 2))

        share(work, boxes)
        return y

    return run


def columns(call: Call) -> Callable[[Any, Any], Any]:
    """x (N, C, space), w in any order -> y (N, O, space) or (N, space, O)."""
    rank, groups = call.rank, call.groups
    inner, each = _inner(call), call.out_channels // groups
    windows_of, pointwise = _windows(call, 2), call.pointwise
    order = (0, 1, *range(rank + 2, 2 * rank + 2), *range(2, rank + 2))
    w_order = [call.w_layout.index(letter) for letter in f"OI{call.spatial}"]
    size = inner * groups * _blocks.itemsize(call)
    boxes = list(_blocks.boxes(call.output_size, size, _limit()))
    everywhere = [(n, *box) for n in range(call.batch) for box in boxes]
    shape, last = call.output_shape, call.y_layout[-1] == "C"
    whole = (slice(None),) * (rank + 1)

    def run(x: Any, w: Any) -> Any:
        windows = windows_of(x).transpose(order)  # (N, C, taps, positions)
        matrix = contiguous(w.transpose(w_order)).reshape(groups, each, inner)
        y = np.empty(shape, np.result_type(x, w))

        def work(boxes: Iterator[tuple[int | slice, ...]]) -> None:
            gather = _Gather(pointwise)
            for n, *box in boxes:
                block = gather(windows[(n, *whole, *box)]).reshape(groups, inner, -1)
                if last:
                    out = y[(n, *box)].reshape(-1, groups, each).transpose(1, 0, 2)
                    np.matmul(block.transpose(0, 2, 1), matrix.transpose(0, 2, 1), out=out)
                else:
                    out = y[(n, slice(None), *box)].reshape(groups, each, -1)
                    np.matmul(matrix, block, out=out)

        share(work, everywhere)
        return y

    return run


class _Gather:
    """Copies windows into the same memory again and again: fresh memory costs page faults."""

    def __init__(self, pointwise: bool) -> None:
        self.pointwise = pointwise
        self.spare: Any = None

    def __call__(self, windows: Any) -> Any:
        if self.pointwise:  # no two windows overlap: a view, where the strides allow
            return windows
        if self.spare is None or self.spare.size < windows.size:
            self.spare = np.empty(windows.size, windows.dtype)
        block = self.spare[: windows.size].reshape(windows.shape)
        np.copyto(block, windows)
        return block


def _inner(call: Call) -> int:
    """The length of the sum for one output: taps times input channels of a group."""
    return prod(call.kernel_size) * (call.in_channels // call.groups)


def _windows(call: Call, first: int) -> Callable[[Any], Any]:
    """Gives the windows at every position, from axis ``first`` on; the axes of taps come last."""
    spatial = tuple(range(first, first + call.rank))
    # Of which axis of x, and in how large steps of it, each axis of the windows is.
    axes = [*range(2 + call.rank), *spatial]
    steps = [1] * (2 + call.rank) + list(call.dilation)
    steps[first : first + call.rank] = call.stride
    shape = [call.batch, call.in_channels, *call.kernel_size]
    shape[first:first] = call.output_size

    def windows(x: Any) -> Any:
        strides = [x.strides[axis] * step for axis, step in zip(axes, steps, strict=True)]
        if x.flags.c_contiguous:  # the same in a tenth of the time, which small problems notice
            return np.ndarray(shape, x.dtype, x, 0, strides)
        return as_strided(x, shape, strides, writeable=False)

    return windows


def _limit() -> int:
    """Bytes of one worker's block."""
    return min(_blocks.CACHED, _blocks.BLOCK_BYTES // cores())
