"""Arrays that lie in a file as they do in memory, read in parts.

They are read, not mapped: where somebody cuts the file short meanwhile, a map kills the process.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ConvertError

Array = np.ndarray[Any, Any]
#: Runs of fewer bytes are read together with what lies between them, as long as that is at most
#: ``TOGETHER`` bytes: each read costs as much as copying about ``SHORT``.
SHORT, TOGETHER = 2**14, 2**20


class Stored:
    """An array in a file, which gives parts of it when indexed by slices of step 1.

    Attributes:
        shape, dtype: of the array.
    """

    def __init__(
        self, path: Path, name: str, dtype: np.dtype[Any], shape: Sequence[int], start: int,
        order: str = "C",
    ) -> None:  # fmt: skip
        self.shape, self.dtype = tuple(shape), dtype
        self._path, self._name, self._start = path, name, start
        self._reversed = order == "F"

    def __getitem__(self, index: Any) -> Array:
        given = () if index is ... else index if isinstance(index, tuple) else (index,)
        slices = (*given, *[slice(None)] * (len(self.shape) - len(given)))
        ends = [s.indices(n)[:2] for s, n in zip(slices, self.shape, strict=True)]
        if self._reversed:
            return self._read(self.shape[::-1], ends[::-1]).T
        return self._read(self.shape, ends)

    def _read(self, shape: Sequence[int], ends: Sequence[tuple[int, int]]) -> Array:
        lengths = [max(hi - lo, 0) for lo, hi in ends]
        out: Array = np.empty(lengths, self.dtype)
        if not out.size:
            return out
        # A run: a part of ``axis``, with everything of the axes behind it.
        axis = len(shape)
        while axis and lengths[axis - 1] == shape[axis - 1]:
            axis -= 1
        axis = exact = max(axis - 1, 0)
        sizes = [prod(shape[i + 1 :]) * self.dtype.itemsize for i in range(len(shape))]
        if shape and lengths[axis] * sizes[axis] < SHORT:
            while axis and lengths[axis - 1] * sizes[axis - 1] <= TOGETHER:
                axis -= 1
        within = tuple(slice(*end) for end in ends[axis + 1 :])
        run = [*lengths[axis : axis + 1], *shape[axis + 1 :]]
        spare = None if axis == exact else np.empty(run, self.dtype)
        with self._path.open("rb", buffering=0) as stream:
            for corner in product(*(range(*end) for end in ends[:axis])):
                first = [*corner, *(end[0] for end in ends[axis : axis + 1])]
                place = self._start + sum(i * n for i, n in zip(first, sizes, strict=False))
                there: Any = tuple(i - end[0] for i, end in zip(corner, ends, strict=False))
                if spare is None:
                    self._fill(stream, out[(*there, ...)], place)
                else:
                    self._fill(stream, spare, place)
                    out[there] = spare[(slice(None), *within)]
        return out

    def _fill(self, stream: Any, into: Array, place: int) -> None:
        """Read a contiguous array from a place in the file."""
        data = into.reshape(-1).view(np.uint8).data
        stream.seek(place)
        while data:
            count = stream.readinto(data)
            if not count:
                raise ConvertError(
                    f"{self._path}: {self._name!r} was cut short while it was read: there is "
                    f"nothing at byte {place}.\n  Convert it again when the file is complete."
                )
            data, place = data[count:], place + count
