"""Convolution by matrix products: windows are gathered block by block, never all at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import product
from math import prod
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from convspec.plan import Call

#: Bytes that one block of gathered windows may take.
BLOCK_BYTES = 64 * 2**20


def conv(x: Any, w: Any, *, call: Call) -> Any:
    """x (N, space, C), w (space, I, O) with the groups on O -> y (N, space, O)."""
    return kernel(call)(x, w)


def kernel(call: Call) -> Callable[[Any, Any], Any]:
    """:func:`conv` for one call: a function of x and w alone."""
    return _transposed(call) if call.transposed else _forward(call)


def _forward(call: Call) -> Callable[[Any, Any], Any]:
    rank, groups = call.rank, call.groups
    extents, space = call.extents, tuple(range(1, rank + 1))
    steps = [slice(None, None, s) for s in call.stride]
    taps = [slice(None, None, d) for d in call.dilation]
    chosen = (slice(None), *steps, slice(None), *taps)
    i_channels, o_channels = call.in_channels // groups, call.out_channels // groups
    inner = prod(call.kernel_size) * i_channels

    def run(x: Any, w: Any) -> Any:
        # (N, positions, C, taps), a view
        windows = np.moveaxis(sliding_window_view(x, extents, axis=space)[chosen], rank + 1, -1)
        # (G, taps * I, O/G)
        matrix = w.reshape(inner, groups, o_channels).transpose(1, 0, 2)
        y = np.empty((x.shape[0], *call.output_size, call.out_channels), np.result_type(x, w))
        for n in range(x.shape[0]):
            for box in _boxes(call.output_size, inner * groups * x.itemsize):
                block = windows[(n, *box)]
                out = y[(n, *box)].reshape(-1, groups, o_channels)
                if groups == 1:
                    np.matmul(block.reshape(-1, inner), matrix[0], out=out[:, 0])
                    continue
                # (positions, taps, G, I) -> (G, positions, taps * I)
                split: Any = block.reshape(out.shape[0], -1, groups, i_channels)
                split = split.transpose(2, 0, 1, 3).reshape(groups, out.shape[0], inner)
                np.matmul(split, matrix, out=out.transpose(1, 0, 2))
        return y

    return run


def _boxes(sizes: Sequence[int], position: int) -> Iterator[tuple[int | slice, ...]]:
    """Indices of boxes that cover ``sizes``, each contiguous and of at most ``BLOCK_BYTES``.

    ``position`` is how many bytes one position takes; a box has at least one.
    """
    row = prod(sizes[1:]) * position
    if row > BLOCK_BYTES and len(sizes) > 1:
        for i in range(sizes[0]):
            yield from ((i, *rest) for rest in _boxes(sizes[1:], position))
        return
    rows = max(1, BLOCK_BYTES // max(row, 1))
    for start in range(0, sizes[0], rows):
        yield (slice(start, start + rows),)


def _transposed(call: Call) -> Callable[[Any, Any], Any]:
    groups = call.groups
    i_channels, o_channels = call.in_channels // groups, call.out_channels // groups
    targets = {}
    for tap in product(*map(range, call.kernel_size)):
        targets[tap] = (
            slice(None),
            *(
                slice(k * d, k * d + (n - 1) * s + 1, s)
                for k, d, n, s in zip(tap, call.dilation, call.input_size, call.stride, strict=True)
            ),
        )

    def run(x: Any, w: Any) -> Any:
        y = np.zeros((x.shape[0], *call.output_size, call.out_channels), np.result_type(x, w))
        # (G, N * positions, I)
        rows = np.ascontiguousarray(x.reshape(-1, groups, i_channels).transpose(1, 0, 2))
        for tap, target in targets.items():
            # (G, I, O/G)
            matrix = w[tap].reshape(-1, groups, o_channels).transpose(1, 0, 2)
            part = np.matmul(rows, matrix).transpose(1, 0, 2)
            y[target] += part.reshape(*x.shape[:-1], call.out_channels)
        return y

    return run
