"""Transposed: the product of the input with each tap, added to the output where it goes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product
from math import prod
from typing import Any

import numpy as np

from convspec.plan import Call
from convspec.threads import share

from . import _blocks


def transposed(call: Call) -> Callable[[Any, Any], Any]:
    """x (N, space, I), w (space, I, O) -> y (N, space, O): each tap's product, added where it goes.

    Samples are shared by all cores. Of one sample, so many rows along the first spatial axis are
    multiplied at a time that a product stays in the cache while it is added.
    """
    groups = call.groups
    i_channels, o_channels = call.in_channels // groups, call.out_channels // groups
    taps = list(product(*map(range, call.kernel_size)))
    limit = _blocks.CACHED // (prod(call.input_size[1:]) * _blocks.itemsize(call))
    rows = max(1, limit // max(call.in_channels, call.out_channels))

    def target(tap: tuple[int, ...], start: int, stop: int) -> tuple[slice, ...]:
        """Where the products of rows from ``start`` on with a tap go."""
        firsts = (start, *(0,) * (call.rank - 1))
        counts = (stop - start, *call.input_size[1:])
        each = zip(tap, call.dilation, call.stride, firsts, counts, strict=True)
        return tuple(slice(k * d + a * s, k * d + (a + n - 1) * s + 1, s) for k, d, s, a, n in each)

    blocks = []
    for start in range(0, call.input_size[0], rows):
        stop = min(start + rows, call.input_size[0])
        blocks.append((slice(start, stop), {tap: target(tap, start, stop) for tap in taps}))

    def run(x: Any, w: Any) -> Any:
        y = np.zeros(call.output_shape, np.result_type(x, w))
        # (G, I, O/G) each
        matrices = {
            tap: w[tap].reshape(i_channels, groups, o_channels).transpose(1, 0, 2) for tap in taps
        }

        def work(samples: Iterator[int]) -> None:
            for n in samples:
                for rows, targets in blocks:
                    block = x[n, rows]
                    # (G, positions, I)
                    points = block.reshape(-1, groups, i_channels).transpose(1, 0, 2)
                    points = np.ascontiguousarray(points)
                    part = np.empty((points.shape[1], groups, o_channels), y.dtype)
                    values = part.reshape(*block.shape[:-1], call.out_channels)
                    for tap, matrix in matrices.items():
                        np.matmul(points, matrix, out=part.transpose(1, 0, 2))
                        place = y[n][targets[tap]]
                        np.add(place, values, out=place)

        share(work, range(call.batch))
        return y

    return run
