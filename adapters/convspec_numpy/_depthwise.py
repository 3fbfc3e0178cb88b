"""Depthwise, where a product of matrices would have one row: sums of elementwise products.

Blocks stay in a cache while all taps are added up, and are shared by all cores. Without a stride
the products run over whole planes, as if their rows had no ends, and what lies across an end is
left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product
from math import prod
from typing import Any

import numpy as np

from convspec.plan import Call
from convspec.threads import share

from . import _blocks


def depthwise(call: Call) -> Callable[[Any, Any], Any]:
    """x and y both (N, C, space) or both (N, space, C); w (space, 1, O)."""
    flat = {*call.stride} == {1} and prod(call.input_size) <= 2 * prod(call.output_size)
    return _flat(call) if flat else _strided(call)


def _flat(call: Call) -> Callable[[Any, Any], Any]:
    """Without a stride: a tap is one offset into the flattened input, the same everywhere.

    So each product is over one long run of memory. Of the results, those whose window crosses the
    end of a row, at most as many as the others, are not copied to the output.
    """
    last, groups = call.x_layout[-1] == "C", call.groups
    multiplier = call.out_channels // groups
    sizes, reach, out_size = call.input_size, call.extents[0] - 1, call.output_size
    unit = groups if last else 1  # elements of one position
    steps = [unit * prod(sizes[i + 1 :]) for i in range(call.rank)]
    taps = list(product(*map(range, call.kernel_size)))
    offsets = [
        sum(k * d * s for k, d, s in zip(tap, call.dilation, steps, strict=True)) for tap in taps
    ]
    limit = _blocks.CACHED_PRODUCTS // _blocks.itemsize(call)
    rows = max(1, limit // steps[0])
    channels = groups if last else max(1, limit // (min(rows, out_size[0]) * steps[0]))
    chunk = max(1, limit // (1 if last else min(channels, groups)) // unit) * unit
    jobs = [
        (n, slice(c, c + channels), start, min(start + rows, out_size[0]))
        for n in range(call.batch)
        for c in range(0, groups, channels)
        for start in range(0, out_size[0], rows)
    ]
    inside = tuple(slice(size) for size in out_size[1:])
    y_split = (call.batch, *out_size, groups, multiplier)
    if not last:
        y_split = (call.batch, groups, multiplier, *out_size)

    def run(x: Any, w: Any) -> Any:
        y = np.empty(call.output_shape, np.result_type(x, w))
        split = y.reshape(y_split)
        kernels = w.reshape(len(taps), groups, multiplier)
        if last:  # repeated along a chunk: (taps, multiplier, chunk)
            kernels = np.tile(kernels.transpose(0, 2, 1), (1, 1, chunk // unit))

        def work(jobs: Iterator[tuple[int, slice, int, int]]) -> None:
            for n, c, start, stop in jobs:
                block = x[n, start : stop + reach] if last else x[n, c, start : stop + reach]
                block = np.ascontiguousarray(block)
                shape = block.shape
                block = block.reshape(1 if last else shape[0], -1)
                total = np.empty(block.shape, y.dtype)
                spare = np.empty((len(block), chunk), y.dtype)
                length = block.shape[1] - offsets[-1]
                for m in range(multiplier):
                    for a in range(0, length, chunk):
                        b = min(a + chunk, length)
                        out, part = total[:, a:b], spare[:, : b - a]
                        for i, offset in enumerate(offsets):
                            kernel = kernels[i, m, : b - a] if last else kernels[i, c, m, None]
                            np.multiply(
                                block[:, a + offset : b + offset], kernel, part if i else out
                            )
                            if i:
                                np.add(out, part, out)
                    valid = total.reshape(shape)
                    if last:
                        split[(n, slice(start, stop), ..., m)] = valid[
                            (slice(stop - start), *inside)
                        ]
                    else:
                        split[n, c, m, start:stop] = valid[
                            (slice(None), slice(stop - start), *inside)
                        ]

        share(work, jobs)
        return y

    return run


def _strided(call: Call) -> Callable[[Any, Any], Any]:
    """With strides, or windows much longer than the output: products of strided boxes."""
    multiplier = call.out_channels // call.groups
    c = call.x_layout.index("C")
    y_shape = call.output_shape
    split_shape = (*y_shape[:c], call.groups, multiplier, *y_shape[c + 1 :])
    first = 1 + 2 * (c == 1)  # of the spatial axes
    ones = (1,) * call.rank
    shape = (1, call.groups, multiplier, *ones) if c == 1 else (1, *ones, call.groups, multiplier)
    taps = list(product(*map(range, call.kernel_size)))
    dilation, stride = call.dilation, call.stride
    itemsize = _blocks.itemsize(call)
    boxes = list(_blocks.boxes(split_shape, itemsize, _blocks.CACHED_PRODUCTS))

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
