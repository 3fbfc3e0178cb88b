"""How much is worked on at a time, so that it stays in a cache and memory stays bounded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod

from convspec.dtypes import numpy_dtype
from convspec.plan import Call

#: Bytes that all blocks of gathered windows may take together.
BLOCK_BYTES = 64 * 2**20
#: Bytes of one: of 1/4 to 16 MB the best compromise (32 MB of third-level cache), 1 to 2 times as
#: fast as 16. Smaller ones fit better into a cache, but each product waits for all threads of BLAS.
CACHED = 4 * 2**20
#: The same of elementwise products, each over so many bytes: they have to stay in the cache for the
#: next tap, but two threads that hand shorter ones over to NumPy wait for each other (at 2**17 2 to
#: 3 times as slow, depthwise, on 2 cores with 1 MB of second-level cache).
CACHED_PRODUCTS = 2**19


def boxes(sizes: Sequence[int], position: int, limit: int) -> Iterator[tuple[int | slice, ...]]:
    """Indices of boxes that cover ``sizes``, each contiguous and of at most ``limit`` bytes.

    ``position`` is how many bytes one position takes; a box has at least one.
    """
    row = prod(sizes[1:]) * position
    if row > limit and len(sizes) > 1:
        for i in range(sizes[0]):
            yield from ((i, *rest) for rest in boxes(sizes[1:], position, limit))
        return
    rows = max(1, limit // max(row, 1))
    for start in range(0, sizes[0], rows):
        yield (slice(start, start + rows),)


def itemsize(call: Call) -> int:
    """Bytes of one element."""
    return numpy_dtype(call.dtype).itemsize
