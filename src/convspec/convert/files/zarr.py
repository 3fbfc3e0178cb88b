"""Zarr stores in a folder: one array or a group of arrays, read and written chunk by chunk."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ConvertError, package
from .nested import tree_of
from .npy import NAME
from .protocol import (
    LARGEST_STAMP,
    STAMP,
    Array,
    Entry,
    Index,
    Reader,
    Writer,
    check_shape,
    is_number,
    unsupported,
)

#: Bytes of a chunk that is written, before compression; zarr's own default.
CHUNK = 2**24


class ZarrReader(Reader):
    format = "zarr"

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        zarr = package("zarr")
        for inner in path.rglob("*"):
            if inner.is_symlink():
                raise ConvertError(f"{path}: {inner} is a link, which is not followed.")
        self._arrays: dict[str, Any] = {}
        try:
            root = zarr.open(path, mode="r")
            single = isinstance(root, zarr.Array)
            self.stamp = str(root.attrs.get(STAMP, ""))[:LARGEST_STAMP]
            members = [(NAME, root)] if single else root.members(max_depth=None)
            for name, found in members:
                if isinstance(found, zarr.Array):
                    self._add(name, found)
        except ConvertError:
            raise
        except Exception as error:  # zarr raises many kinds at damaged stores
            raise ConvertError(f"{path}: is no readable zarr store: {error}.") from error

    def _add(self, name: str, found: Any) -> None:
        dtype = np.dtype(found.dtype)
        if not is_number(dtype):
            self.skipped[name] = f"{dtype}, no numbers"
            return
        # Chunks that are not there read as zeros. That is zarr's way to keep zeros; not ours.
        if self.stamp and found.nchunks_initialized < found.nchunks:
            raise ConvertError(
                f"{self.path}: {name!r} lacks {found.nchunks - found.nchunks_initialized} of its "
                f"{found.nchunks} chunks; copy the folder anew."
            )
        self._arrays[name] = found
        self.entries[name] = Entry(check_shape(self.path, name, found.shape), dtype)

    def open(self, name: str) -> Any:
        return _Checked(self.path, name, self._arrays[name])


class _Checked:
    """An array whose damage is told as such."""

    def __init__(self, path: Path, name: str, found: Any) -> None:
        self._path, self._name, self._found = path, name, found
        self.shape, self.dtype = found.shape, np.dtype(found.dtype)

    def __getitem__(self, index: Any) -> Array:
        try:
            return np.asarray(self._found[index])
        except Exception as error:  # of codecs and of files
            raise ConvertError(f"{self._path}: {self._name!r} is damaged: {error}.") from error


class ZarrWriter(Writer):
    def __init__(self, path: Path, entries: Mapping[str, Entry], stamp: str) -> None:
        super().__init__(path, entries, stamp)
        tree_of(path, ((name, name) for name in entries), "/")  # no array is a group as well
        zarr = package("zarr")
        single = list(self.entries) == [NAME]
        root: Any = None if single else zarr.open_group(path, mode="w-")
        self._arrays: dict[str, Any] = {}
        for name, entry in self.entries.items():
            if entry.dtype.kind not in "biufc":
                raise unsupported(path, name, entry.dtype, "zarr")
            options = {"shape": entry.shape, "dtype": entry.dtype, "chunks": _chunks(entry)}
            options["config"] = {"write_empty_chunks": True}
            if single:
                self._arrays[name] = root = zarr.create_array(path, **options)
            else:
                self._arrays[name] = root.create_array(name, **options)
        if stamp:
            root.attrs[STAMP] = stamp

    def write(self, name: str, index: Index, block: Array) -> None:
        if prod(self.entries[name].shape):
            self._arrays[name][index] = block

    def finish(self) -> None:
        pass


def _chunks(entry: Entry) -> tuple[int, ...]:
    """Sizes of a chunk: the longest axis halved until it is small enough."""
    sizes = [max(n, 1) for n in entry.shape]
    while prod(sizes) * entry.dtype.itemsize > CHUNK:
        longest = sizes.index(max(sizes))
        sizes[longest] = (sizes[longest] + 1) // 2
    return tuple(sizes)
