"""Permuted copies of arrays, in blocks that fit into a core's cache, on all cores.

NumPy walks the output row by row, on one core; where the input is strided then, each cache line is
fetched again for each of its elements. Blocks that keep both the input's and the output's
contiguous axis whole touch each line once. NumPy lets go of the interpreter's lock while it copies,
so that threads share the blocks.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from math import prod
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

#: Bytes of a block; input and output of one have to fit into a second-level cache.
BLOCK = 2**18
#: Below this, handing out blocks costs more than it gives.
SMALL = 2**20


def copy(x: Array, dtype: np.dtype[Any] | None = None) -> Array:
    """A contiguous array with the elements of a view of any strides; itself if it is one.

    Args:
        x: array or view.
        dtype: type of the result; default: as it is.
    """
    if x.nbytes < SMALL or x.flags.c_contiguous:
        return np.asarray(x, dtype, order="C")
    out = np.empty(x.shape, x.dtype if dtype is None else dtype)
    indices = _blocks(x)
    workers = min(_cores(), len(indices))
    if workers == 1:
        _run(out, x, indices)
        return out
    with ThreadPoolExecutor(workers) as pool:
        for done in [pool.submit(_run, out, x, indices[i::workers]) for i in range(workers)]:
            done.result()
    return out


def _cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _run(out: Array, x: Array, indices: Sequence[tuple[slice, ...]]) -> None:
    for index in indices:
        np.copyto(out[index], x[index])


def _blocks(x: Array) -> list[tuple[slice, ...]]:
    """Indices that cut a view into blocks, long in its own and in the copy's contiguous axis."""
    axes = sorted(range(x.ndim), key=lambda axis: -abs(x.strides[axis]))
    inner = max((axis for axis in range(x.ndim) if x.shape[axis] > 1), default=0)
    lengths = list(x.shape)
    # The contiguous ones last, if they alone are too long.
    for axis in [a for a in axes[:-1] if a != inner] + [axes[-1], inner]:
        others = prod(lengths) // lengths[axis] * x.itemsize
        lengths[axis] = max(min(lengths[axis], BLOCK // others), 1)
        if prod(lengths) * x.itemsize <= BLOCK:
            break
    starts = [range(0, n, length) for n, length in zip(x.shape, lengths, strict=True)]
    return [
        tuple(
            slice(r[i], r[i] + length) for r, i, length in zip(starts, corner, lengths, strict=True)
        )
        for corner in np.ndindex(*map(len, starts))
    ]
