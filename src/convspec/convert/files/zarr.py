"""Zarr stores in a folder: one array or a group of arrays, read and written chunk by chunk."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ConvertError, package
from ..output import flush
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
            lost = missing(found, tuple(slice(n) for n in found.shape))
            raise ConvertError(
                f"{self.path}: {name!r} lacks {found.nchunks - found.nchunks_initialized} of its "
                f"{found.nchunks} chunks ({', '.join(lost[:3])}); copy the folder anew."
            )
        self._arrays[name] = found
        self.entries[name] = Entry(check_shape(self.path, name, found.shape), dtype)

    def open(self, name: str) -> Any:
        return _Checked(self.path, name, self._arrays[name])

    def missing(self, name: str, index: Index) -> list[str]:
        return missing(self._arrays[name], index)

    def chunk_bytes(self, name: str) -> int:
        """Bytes of a chunk of an array, before compression."""
        found = self._arrays[name]
        return prod(_grid(found)) * self.entries[name].dtype.itemsize


def _grid(found: Any) -> tuple[int, ...]:
    """Sizes of what lies in a file of its own: a chunk, or a shard of several."""
    return tuple(found.shards or found.chunks)


def pieces(found: Any, index: Index) -> Iterator[tuple[Path, Index]]:
    """The files that a part of an array lies in, and which part of it in each."""
    root = Path(str(found.store.root)) / found.path
    axes = []
    for part, size, step in zip(index, found.shape, _grid(found), strict=True):
        start, stop, _ = part.indices(size)
        numbers = range(start // step, -(-stop // step)) if stop > start else range(0)
        axes.append([(i, slice(max(start, i * step), min(stop, (i + 1) * step))) for i in numbers])
    for corner in product(*axes):
        key = found.metadata.encode_chunk_key(tuple(i for i, _ in corner))
        yield root / key, tuple(part for _, part in corner)


def missing(found: Any, index: Index) -> list[str]:
    """Chunks of a part of an array that have no file, by their keys."""
    root = Path(str(found.store.root)) / found.path
    return [str(file.relative_to(root)) for file, _ in pieces(found, index) if not file.exists()]


class _Checked:
    """An array whose damage is told as such."""

    def __init__(self, path: Path, name: str, found: Any) -> None:
        self._path, self._name, self._found = path, name, found
        self.shape, self.dtype = found.shape, np.dtype(found.dtype)

    def __getitem__(self, index: Any) -> Array:
        try:
            return np.asarray(self._found[index])
        except Exception as error:  # of codecs and of files
            raise ConvertError(
                f"{self._path}: {self._name!r} is damaged{self._place(index)}: {error}."
            ) from error

    def _place(self, index: Any) -> str:
        """The first chunk that cannot be read, in words."""
        given = index if isinstance(index, tuple) else (index,)
        if len(given) != len(self.shape) or not all(isinstance(part, slice) for part in given):
            given = tuple(slice(n) for n in self.shape)
        for file, part in pieces(self._found, given):
            try:
                self._found[part]
            except Exception:
                root = Path(str(self._found.store.root)) / self._found.path
                return f" in chunk {file.relative_to(root)}"
        return ""


class ZarrWriter(Writer):
    """A store of one array or of a group of them.

    Args:
        chunks: sizes of every array's chunks; default: what :data:`CHUNK` allows.
        keep: write into a store that an earlier writer of the same entries left.
    """

    def __init__(
        self,
        path: Path,
        entries: Mapping[str, Entry],
        stamp: str,
        *,
        chunks: tuple[int, ...] | None = None,
        keep: bool = False,
    ) -> None:
        super().__init__(path, entries, stamp)
        tree_of(path, ((name, name) for name in entries), "/")  # no array is a group as well
        zarr = package("zarr")
        single = list(self.entries) == [NAME]
        self._arrays: dict[str, Any] = {}
        if keep:
            self._reopen(zarr, single)
            return
        root: Any = None if single else zarr.open_group(path, mode="w-")
        for name, entry in self.entries.items():
            if entry.dtype.kind not in "biufc":
                raise unsupported(path, name, entry.dtype, "zarr")
            options = {
                "shape": entry.shape,
                "dtype": entry.dtype,
                "chunks": chunks or _chunks(entry),
            }
            options["config"] = {"write_empty_chunks": True}
            if single:
                self._arrays[name] = root = zarr.create_array(path, **options)
            else:
                self._arrays[name] = root.create_array(name, **options)
        if stamp:
            root.attrs[STAMP] = stamp

    def _reopen(self, zarr: Any, single: bool) -> None:
        try:
            root = zarr.open(self.path, mode="r+", config={"write_empty_chunks": True})
            for name, entry in self.entries.items():
                found = self._arrays[name] = root if single else root[name]
                if (tuple(found.shape), np.dtype(found.dtype)) != (entry.shape, entry.dtype):
                    raise ValueError(f"{name!r} is {found.shape} of {found.dtype}")
        except Exception as error:  # zarr raises many kinds at damaged stores
            raise ConvertError(
                f"{self.path}: is not what was begun there: {error}; begin anew."
            ) from error

    def write(self, name: str, index: Index, block: Array) -> None:
        if prod(self.entries[name].shape):
            self._arrays[name][index] = block

    def sync(self, name: str, index: Index) -> None:
        folders: set[Path] = set()
        for file, _ in pieces(self._arrays[name], index):
            flush(file)
            folders.update(file.parents[: len(file.relative_to(self.path).parts)])
        for folder in folders:
            flush(folder)

    def lacks(self, name: str, index: Index) -> bool:
        return bool(missing(self._arrays[name], index))

    def finish(self) -> None:
        pass


def _chunks(entry: Entry) -> tuple[int, ...]:
    """Sizes of a chunk: the longest axis halved until it is small enough."""
    sizes = [max(n, 1) for n in entry.shape]
    while prod(sizes) * entry.dtype.itemsize > CHUNK:
        longest = sizes.index(max(sizes))
        sizes[longest] = (sizes[longest] + 1) // 2
    return tuple(sizes)
