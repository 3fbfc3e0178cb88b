"""Convolution by matrix products: windows are gathered block by block, never all at once.

Blocks are small enough to stay in a cache, and shared by all cores: while one is multiplied by
BLAS, others are gathered. A gathered block has the order that keeps the input's contiguous axis
whole: channels first, a row for each tap with the positions along it; channels last, a row for
each position with taps and channels along it. Depthwise, where a product of matrices would have one
row, the taps are summed as elementwise products, in blocks too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import product
from math import prod
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from convspec.copies import contiguous
from convspec.dtypes import numpy_dtype
from convspec.plan import Call
from convspec.threads import cores, share

#: Bytes that all blocks of gathered windows may take together.
BLOCK_BYTES = 64 * 2**20
#: Bytes of one: of 1, 4, 16 and 32 MB the fastest where others use the machine too. Smaller ones
#: fit better into a cache, but each product waits for all threads of BLAS.
CACHED = 16 * 2**20
#: The same of elementwise products, for a second-level cache: the block is passed for each tap.
CACHED_PRODUCTS = 2**17


def conv(x: Any, w: Any, *, call: Call) -> Any:
    """The convolution in the orders of the call, with the groups on the weight's O.

    Forward, x is (N, C, space) or (N, space, C), and so is y; w is in any order where x has the
    channels first, (space, I, O) where it has them last or the call is depthwise.
    Transposed, x and y are (N, space, C), w (space, I, O).
    """
    return kernel(call)(x, w)


def kernel(call: Call) -> Callable[[Any, Any], Any]:
    """:func:`conv` for one call: a function of x and w alone."""
    if call.transposed:
        return _transposed(call)
    if 1 < call.groups == call.in_channels:
        return _depthwise(call)
    return _columns(call) if call.x_layout[1] == "C" else _rows(call)


def _rows(call: Call) -> Callable[[Any, Any], Any]:
    """x (N, space, C), w (space, I, O) -> y (N, space, O)."""
    rank, groups = call.rank, call.groups
    inner, each, channels = _inner(call), call.out_channels // groups, call.in_channels // groups
    windows_of, pointwise = _windows(call, 1), _pointwise(call)
    copies = 1 if groups == 1 else 2
    size = inner * groups * copies * numpy_dtype(call.dtype).itemsize
    boxes = list(_boxes((call.batch, *call.output_size), size, _limit()))
    shape = (call.batch, *call.output_size, call.out_channels)

    def run(x: Any, w: Any) -> Any:
        windows = np.moveaxis(windows_of(x), rank + 1, -1)  # (N, positions, taps, C)
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


def _columns(call: Call) -> Callable[[Any, Any], Any]:
    """x (N, C, space), w in any order -> y (N, O, space) or (N, space, O)."""
    rank, groups = call.rank, call.groups
    inner, each = _inner(call), call.out_channels // groups
    windows_of, pointwise = _windows(call, 2), _pointwise(call)
    order = (0, 1, *range(rank + 2, 2 * rank + 2), *range(2, rank + 2))
    w_order = [call.w_layout.index(letter) for letter in f"OI{call.spatial}"]
    size = inner * groups * numpy_dtype(call.dtype).itemsize
    boxes = list(_boxes(call.output_size, size, _limit()))
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


def _pointwise(call: Call) -> bool:
    return all(k == s == 1 for k, s in zip(call.kernel_size, call.stride, strict=True))


def _windows(call: Call, first: int) -> Callable[[Any], Any]:
    """Gives the windows at every position, from axis ``first`` on; the axes of taps come last."""
    axes, extents = tuple(range(first, first + call.rank)), call.extents
    index = [slice(None)] * (2 + 2 * call.rank)
    for i, axis in enumerate(axes):
        index[axis] = slice(None, None, call.stride[i])
        index[i - call.rank] = slice(None, None, call.dilation[i])
    chosen = tuple(index)
    return lambda x: sliding_window_view(x, extents, axis=axes)[chosen]


def _limit() -> int:
    """Bytes of one worker's block."""
    return min(CACHED, BLOCK_BYTES // cores())


def _boxes(sizes: Sequence[int], position: int, limit: int) -> Iterator[tuple[int | slice, ...]]:
    """Indices of boxes that cover ``sizes``, each contiguous and of at most ``limit`` bytes.

    ``position`` is how many bytes one position takes; a box has at least one.
    """
    row = prod(sizes[1:]) * position
    if row > limit and len(sizes) > 1:
        for i in range(sizes[0]):
            yield from ((i, *rest) for rest in _boxes(sizes[1:], position, limit))
        return
    rows = max(1, limit // max(row, 1))
    for start in range(0, sizes[0], rows):
        yield (slice(start, start + rows),)


def _depthwise(call: Call) -> Callable[[Any, Any], Any]:
    """x and y both (N, C, space) or both (N, space, C); w (space, 1, O)."""
    multiplier = call.out_channels // call.groups
    c = call.x_layout.index("C")
    y_shape = call.output_shape
    split_shape = (*y_shape[:c], call.groups, multiplier, *y_shape[c + 1 :])
    first = 1 + 2 * (c == 1)  # of the spatial axes
    ones = (1,) * call.rank
    shape = (1, call.groups, multiplier, *ones) if c == 1 else (1, *ones, call.groups, multiplier)
    taps = list(product(*map(range, call.kernel_size)))
    dilation, stride = call.dilation, call.stride
    itemsize = numpy_dtype(call.dtype).itemsize
    boxes = list(_boxes(split_shape, itemsize, CACHED_PRODUCTS))

    def run(x: Any, w: Any) -> Any:
        kernels = {tap: w[tap].reshape(shape) for tap in taps}
        y = np.empty(y_shape, np.result_type(x, w))
        split = y.reshape(split_shape)
        x = np.expand_dims(x, c + 1)

        def work(boxes: Iterator[tuple[int | slice, ...]]) -> None:
            for box in boxes:
                at = [slice(i, i + 1) if isinstance(i, int) else i for i in box]
                at += [slice(None)] * (split.ndim - len(at))
                out = split[tuple(at)]
                part: Any = None
                for tap, kernel in kernels.items():
                    source = list(at)
                    source[c + 1] = slice(None)
                    for i, (k, d, s) in enumerate(zip(tap, dilation, stride, strict=True), first):
                        start, stop, _ = at[i].indices(split.shape[i])
                        source[i] = slice(k * d + start * s, k * d + (stop - 1) * s + 1, s)
                    places = [at[i] if kernel.shape[i] > 1 else slice(None) for i in range(len(at))]
                    values = x[tuple(source)], kernel[tuple(places)]
                    if part is None:
                        np.multiply(*values, out=out)
                        part = np.empty_like(out)
                    else:
                        np.multiply(*values, out=part)
                        np.add(out, part, out=out)

        share(work, boxes)
        return y

    return run


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
