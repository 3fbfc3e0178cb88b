"""``.npz``: a zip of ``.npy`` members; stored ones are read in parts, none is ever extracted."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ..errors import ConvertError
from .npy import check_type, header, header_bytes
from .protocol import Array, Entry, Index, Reader, Writer, check_place, size_of
from .stored import Stored

#: Deflate makes zeros 1000 times smaller, and real arrays hardly 20 times.
LARGEST_RATIO, ALWAYS_FINE = 200, 2**28
#: Local header of a zip member: 30 bytes, then a name and an extra field whose lengths it tells.
LOCAL, LOCAL_LENGTHS = 30, 26


def open_zip(path: Path) -> zipfile.ZipFile:
    """A zip whose members can be meant.

    Raises:
        ConvertError: it is no zip, or a member is encrypted, twice there, or explodes.
    """
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OverflowError) as error:
        raise ConvertError(f"{path}: is no readable zip: {error}.") from error
    seen: set[str] = set()
    for member in archive.infolist():
        why = ""
        if member.filename in seen:
            why = "is there twice"
        elif member.flag_bits & 1:
            why = "is encrypted"
        elif member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            why = f"is compressed by method {member.compress_type}; zip it by deflate"
        elif member.file_size > max(ALWAYS_FINE, LARGEST_RATIO * member.compress_size):
            why = (
                f"would grow from {member.compress_size} to {member.file_size} bytes; "
                f"if that is meant, unpack it and store it without compression"
            )
        seen.add(member.filename)
        if why:
            archive.close()
            raise ConvertError(f"{path}: member {member.filename!r} {why}.")
    return archive


def start_of(path: Path, member: zipfile.ZipInfo) -> int:
    """The byte of the file at which a member's data start."""
    with path.open("rb") as stream:
        stream.seek(member.header_offset + LOCAL_LENGTHS)
        lengths = stream.read(LOCAL - LOCAL_LENGTHS)
    name, extra = (int.from_bytes(lengths[i : i + 2], "little") for i in (0, 2))
    return member.header_offset + LOCAL + name + extra


class NpzReader(Reader):
    format = "npz"

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._archive = open_zip(path)
        self._places: dict[str, tuple[zipfile.ZipInfo, int, str]] = {}
        try:
            for member in self._archive.infolist():
                self._add(member)
        except BaseException:
            self._archive.close()
            raise

    def _add(self, member: zipfile.ZipInfo) -> None:
        name = member.filename.removesuffix(".npy")
        if name == member.filename:
            self.skipped[name] = "no .npy member"
            return
        with self._member(member) as stream:
            entry, order = header(self.path, name, stream)
            start = stream.tell()
        if start + entry.nbytes != member.file_size:
            raise ConvertError(
                f"{self.path}: {name!r} has {member.file_size - start} bytes, but shape "
                f"{entry.shape} of {entry.dtype} takes {entry.nbytes}."
            )
        self.entries[name] = entry
        self._places[name] = member, start, order

    def _member(self, member: zipfile.ZipInfo) -> Any:
        try:
            return self._archive.open(member)
        except (zipfile.BadZipFile, ValueError, RuntimeError, EOFError) as error:  # names, too
            raise ConvertError(f"{self.path}: {member.filename!r}: {error}.") from error

    def open(self, name: str) -> Any:
        entry = self.entries[name]
        member, start, order = self._places[name]
        if member.compress_type == zipfile.ZIP_STORED:
            place = start_of(self.path, member) + start
            check_place(self.path, name, place, place + entry.nbytes, size_of(self.path))
            return Stored(self.path, name, entry.dtype, entry.shape, place, order)
        with self._member(member) as stream:
            return self._inflated(stream, name, entry, start, order)

    def _inflated(self, stream: BinaryIO, name: str, entry: Entry, start: int, order: str) -> Array:
        try:
            stream.read(start)
            data = stream.read(entry.nbytes + 1)
        except Exception as error:  # zlib.error, BadZipFile, EOFError
            raise ConvertError(f"{self.path}: {name!r} is damaged: {error}.") from error
        if len(data) != entry.nbytes:
            raise ConvertError(
                f"{self.path}: {name!r} unpacks to {len(data)} bytes, not {entry.nbytes}."
            )
        flat = np.frombuffer(data, entry.dtype)
        return flat.reshape(entry.shape, order="F" if order == "F" else "C")

    def close(self) -> None:
        self._archive.close()


class NpzWriter(Writer):
    in_order = True

    def __init__(self, path: Path, entries: Mapping[str, Entry], stamp: str) -> None:
        super().__init__(path, entries, stamp)
        for name, entry in self.entries.items():
            check_type(path, name, entry, ".npz")
        self._archive = zipfile.ZipFile(path, "x", zipfile.ZIP_STORED, allowZip64=True)
        self._open: tuple[str, Any] | None = None

    def write(self, name: str, index: Index, block: Array) -> None:
        if self._open is None or self._open[0] != name:
            self._finish_member()
            stream = self._archive.open(
                # The same bytes for the same arrays, whatever the clock says.
                zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0)),
                "w",
                force_zip64=True,
            )
            stream.write(header_bytes(self.entries[name]))
            self._open = name, stream
        block = np.ascontiguousarray(block, self.entries[name].dtype)
        self._open[1].write(block.reshape(-1).view(np.uint8).data)

    def _finish_member(self) -> None:
        if self._open is not None:
            self._open[1].close()
            self._open = None

    def finish(self) -> None:
        self._finish_member()
        self._archive.close()

    def close(self) -> None:
        if self._open is not None:
            self._open[1].close()
            self._open = None
        self._archive.close()
