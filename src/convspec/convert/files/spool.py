"""For formats whose packages want every array at once: arrays wait in a file, not in memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from ..output import allocate
from .protocol import Array, Entry, Index, Writer

ALIGNED = 64


class SpoolingWriter(Writer):
    """A writer whose blocks go to a scratch file beside the target until all are there."""

    def __init__(self, path: Path, entries: Mapping[str, Entry], stamp: str) -> None:
        super().__init__(path, entries, stamp)
        self._scratch = path.with_name(path.name + ".scratch")
        self._starts: dict[str, int] = {}
        at = 0
        for name, entry in self.entries.items():
            self._starts[name] = at
            at += -(-entry.nbytes // ALIGNED) * ALIGNED
        allocate(self._scratch, at)

    def write(self, name: str, index: Index, block: Array) -> None:
        self._map(name, "r+")[index] = block

    def spooled(self, name: str) -> Array:
        """One array, all of it, as a memory map whose changes would be private."""
        return self._map(name, "c")

    def all_spooled(self) -> Iterable[tuple[str, Array]]:
        return ((name, self.spooled(name)) for name in self.entries)

    def _map(self, name: str, mode: str) -> Array:
        entry = self.entries[name]
        if not prod(entry.shape):
            return np.zeros(entry.shape, entry.dtype)
        mode_: Any = mode
        mapped = np.memmap(self._scratch, entry.dtype, mode_, self._starts[name], entry.shape)
        plain: Array = mapped.view(np.ndarray)
        return plain

    def finish(self) -> None:
        self.save()
        self.close()

    def save(self) -> None:
        """Write everything at once."""
        raise NotImplementedError

    def close(self) -> None:
        self._scratch.unlink(missing_ok=True)
