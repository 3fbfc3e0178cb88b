"""Which of NumPy's ways computes a call; and inputs that are too large for a padded copy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np

from convspec.plan import Call

from . import _blocks
from ._depthwise import depthwise
from ._products import columns, rows
from ._transposed import transposed


def conv(x: Any, w: Any, *, call: Call) -> Any:
    """The convolution in the orders of the call, with the groups on the weight's O.

    Forward, x is (N, C, space) or (N, space, C), and so is y; w is in any order where x has the
    channels first, (space, I, O) where it has them last or the call is depthwise.
    Transposed, x and y are (N, space, C), w (space, I, O).
    """
    return kernel(call)(x, w)


def kernel(call: Call) -> Callable[[Any, Any], Any]:
    """:func:`conv` for one call: a function of x and w alone."""
    if call.padded:
        return _padded(call)
    if call.transposed:
        return transposed(call)
    if 1 < call.groups == call.in_channels:
        return depthwise(call)
    return columns(call) if call.x_layout[1] == "C" else rows(call)


def takes_padding(call: Call) -> bool:
    """Whether padding is the kernel's own work: a padded copy of the whole would be too large."""
    padded = zip(call.input_size, call.padding, strict=True)
    elements = call.batch * call.in_channels * prod(n + lo + hi for n, (lo, hi) in padded)
    return not call.transposed and elements * _blocks.itemsize(call) > _blocks.BLOCK_BYTES


def _padded(call: Call) -> Callable[[Any, Any], Any]:
    """In slabs along the first spatial axis of each sample, padded one after the other."""
    y_axis, channels = call.y_layout.index(call.spatial[0]) - 1, call.x_layout.index("C") - 1
    sizes = tuple(n + lo + hi for n, (lo, hi) in zip(call.input_size, call.padding, strict=True))
    row = call.in_channels * prod(sizes[1:]) * _blocks.itemsize(call)
    step, extent, count = call.stride[0], call.extents[0], call.output_size[0]
    each = min(count, max(1, (_blocks.BLOCK_BYTES // 2 // max(row, 1) - extent) // step + 1))
    none = ((0, 0),) * call.rank
    slabs = []
    for start in range(0, count, each):
        stop = min(start + each, count)
        reach = (stop - start - 1) * step + extent
        inner = replace(
            call,
            batch=1,
            padding=none,
            same=False,
            input_size=(reach, *sizes[1:]),
            output_size=(stop - start, *call.output_size[1:]),
        )
        shape = list(inner.input_size)
        shape.insert(channels, call.in_channels)
        # Where the input's rows and columns lie in the slab.
        source, target = [slice(None)] * (call.rank + 1), [slice(None)] * (call.rank + 1)
        firsts = (start * step - call.padding[0][0], *(-lo for lo, _ in call.padding[1:]))
        for letter, first, n, m in zip(
            call.spatial, firsts, call.input_size, inner.input_size, strict=True
        ):
            at = call.x_layout.index(letter) - 1
            begin, end = max(first, 0), max(min(first + m, n), max(first, 0))
            source[at] = slice(begin, end)
            target[at] = slice(begin - first, end - first)
        rows = (slice(None),) * y_axis + (slice(start, stop),)
        slabs.append((tuple(shape), tuple(source), tuple(target), rows, kernel(inner)))

    def run(x: Any, w: Any) -> Any:
        y = np.empty(call.output_shape, np.result_type(x, w))
        for n in range(call.batch):
            for shape, source, target, rows, inner in slabs:
                slab = np.zeros(shape, x.dtype)
                slab[target] = x[n][source]
                y[n][rows] = inner(slab[None], w)[0]
        return y

    return run
