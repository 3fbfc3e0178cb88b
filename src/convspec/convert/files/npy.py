"""``.npy``: one array, read and written in parts."""

from __future__ import annotations

import io
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy

from ..errors import ConvertError
from ..output import allocate, flush
from .protocol import (
    Array,
    Entry,
    Index,
    Reader,
    Writer,
    check_kept,
    check_place,
    check_shape,
    is_number,
    size_of,
    unsupported,
)
from .stored import Stored

#: What the array of a .npy file is called, which has no name there.
NAME = "array"
#: NumPy's own limit for headers of unknown origin.
LARGEST_HEADER = 10_000


def header(path: Path, name: str, stream: BinaryIO) -> tuple[Entry, str]:
    """The entry that a .npy stream starts with, and its order in memory, ``C`` or ``F``.

    Raises:
        ConvertError: it is none, or holds Python objects.
    """
    try:
        # Version 3 differs in the names of records, which are refused below.
        old = npy.read_magic(stream) == (1, 0)
        read = npy.read_array_header_1_0 if old else npy.read_array_header_2_0
        shape, fortran, dtype = read(stream, max_header_size=LARGEST_HEADER)
    except Exception as error:  # numpy parses the header with ast, which raises many kinds
        raise ConvertError(f"{path}: {name!r} is no array of NumPy's format: {error}.") from error
    if not is_number(dtype):
        raise ConvertError(
            f"{path}: {name!r} holds {str(dtype)[:40]}; only numbers are read, no objects."
        )
    return Entry(check_shape(path, name, shape), dtype), "F" if fortran else "C"


class NpyReader(Reader):
    format = "npy"

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        with path.open("rb") as stream:
            entry, self._order = header(path, NAME, stream)
            self._start = stream.tell()
        check_place(path, NAME, self._start, self._start + entry.nbytes, size_of(path))
        self.entries = {NAME: entry}

    def open(self, name: str) -> Any:
        entry = self.entries[name]
        return Stored(self.path, name, entry.dtype, entry.shape, self._start, self._order)


def header_bytes(entry: Entry) -> bytes:
    """The start of a .npy file."""
    stream = io.BytesIO()
    fields = {
        "descr": npy.dtype_to_descr(entry.dtype),
        "fortran_order": False,
        "shape": entry.shape,
    }
    npy.write_array_header_1_0(stream, fields)
    return stream.getvalue()


def check_type(path: Path, name: str, entry: Entry, format: str) -> None:
    if entry.dtype.kind not in "biufc":
        raise unsupported(path, name, entry.dtype, format)


class NpyWriter(Writer):
    """One array; with ``keep`` in a file that an earlier writer of the same entry left."""

    def __init__(
        self, path: Path, entries: Mapping[str, Entry], stamp: str, *, keep: bool = False
    ) -> None:
        super().__init__(path, entries, stamp)
        if len(self.entries) != 1:
            raise ConvertError(
                f"{path}: a .npy file holds one array, not {len(entries)}; write .npz instead."
            )
        ((name, entry),) = self.entries.items()
        check_type(path, name, entry, ".npy")
        start = header_bytes(entry)
        if keep:
            check_kept(path, start, len(start) + entry.nbytes)
        else:
            allocate(path, len(start) + entry.nbytes)
            with path.open("r+b") as stream:
                stream.write(start)
        self._start = len(start)

    def write(self, name: str, index: Index, block: Array) -> None:
        entry = self.entries[name]
        if prod(entry.shape):
            # Mapped anew for each block: what was written leaves the process's memory.
            whole = np.memmap(self.path, entry.dtype, "r+", self._start, entry.shape)
            whole[index] = block

    def sync(self, name: str, index: Index) -> None:
        flush(self.path)

    def finish(self) -> None:
        pass
