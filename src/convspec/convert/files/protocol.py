"""What a file format has to offer: named arrays, read in parts and written in parts."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ..errors import ConvertError, package

Array = np.ndarray[Any, Any]
Index = tuple[slice, ...]

#: The key under which written files carry what is known of their tensors.
STAMP = "convspec"
#: Longest stamp that is read.
LARGEST_STAMP = 2**26


@dataclass(frozen=True)
class Entry:
    """Shape and element type of one array in a file."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def nbytes(self) -> int:
        return prod(self.shape) * self.dtype.itemsize


class Reader(ABC):
    """An open file. Opening checks it; reading never executes anything that it holds.

    Attributes:
        path: the file or folder.
        entries: what it holds, in the file's order where that has a meaning.
        stamp: the text that a writer of this library left, or ``""``.
        skipped: what else it holds, by name, and why it is left out.
        layers: where the format tells them, the layer that each entry belongs to: its name and
            its class, as in ``("block1", "conv2d")``.
    """

    format: str

    def __init__(self, path: Path) -> None:
        self.path = path
        self.entries: dict[str, Entry] = {}
        self.stamp = ""
        self.skipped: dict[str, str] = {}
        self.layers: dict[str, tuple[str, str]] = {}

    @abstractmethod
    def open(self, name: str) -> Any:
        """An array, or what gives one when indexed by slices, as an HDF5 data set."""

    def close(self) -> None:  # noqa: B027 (most formats have nothing to let go of)
        """Let go of the file."""

    def missing(self, name: str, index: Index) -> list[str]:
        """Chunks of that part of an array that are not there, by name, and read as zeros."""
        return []

    def read(self, name: str) -> Array:
        """One array; perhaps read-only."""
        opened = self.open(name)
        return opened if isinstance(opened, np.ndarray) else np.asarray(opened[...])

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class Writer(ABC):
    """A file in the making; all of its entries are known from the start.

    Attributes:
        in_order: whether blocks have to come in C order, entry after entry.
    """

    in_order: ClassVar[bool] = False

    def __init__(self, path: Path, entries: Mapping[str, Entry], stamp: str) -> None:
        self.path = path
        self.entries = dict(entries)
        self.stamp = stamp

    @abstractmethod
    def write(self, name: str, index: Index, block: Array) -> None:
        """Set one block of one array."""

    def sync(self, name: str, index: Index) -> None:
        """What was written to that part of an array is on the disk.

        Raises:
            OSError: it is not.
        """
        raise NotImplementedError(f"{type(self).__name__} is written as a whole")

    def lacks(self, name: str, index: Index) -> bool:
        """Whether something of that part of an array was never written, as far as can be seen."""
        return False

    @abstractmethod
    def finish(self) -> None:
        """Write what is left, and close."""

    def close(self) -> None:  # noqa: B027 (most formats have nothing to let go of)
        """Let go of the file; what was not finished is of no use."""


def native(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The type in this machine's byte order."""
    order: np.dtype[Any] = dtype.newbyteorder("=") if dtype.kind in "iufc" else dtype
    return order


def is_number(dtype: np.dtype[Any]) -> bool:
    """Whether elements are numbers, bfloat16 and 8-bit floats included: no objects, no records."""
    return dtype.kind in "biufc" or (dtype.kind == "V" and dtype.name in EXTENDED)


#: Types of the package ml_dtypes, which NumPy lacks.
EXTENDED = ("bfloat16", "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz")


def dtype_of(name: str) -> np.dtype[Any]:
    """A type by its name, those of ml_dtypes included.

    Raises:
        ConvertError: ml_dtypes is needed and not installed.
    """
    if name in EXTENDED:
        extended: np.dtype[Any] = np.dtype(getattr(package("ml_dtypes"), name))
        return extended
    plain: np.dtype[Any] = np.dtype(name)
    return plain


def blocks(shape: tuple[int, ...], itemsize: int, limit: int) -> Iterator[Index]:
    """An array cut into blocks of at most ``limit`` bytes, in C order, each contiguous."""
    if not shape or prod(shape) * itemsize <= limit:
        yield (slice(None),) * len(shape)
        return
    row = max(prod(shape[1:]) * itemsize, 1)
    if row > limit:
        for i in range(shape[0]):
            for rest in blocks(shape[1:], itemsize, limit):
                yield (slice(i, i + 1), *rest)
        return
    step = limit // row
    for start in range(0, shape[0], step):
        yield (slice(start, min(start + step, shape[0])), *((slice(None),) * (len(shape) - 1)))


def check_place(path: Path, name: str, start: int, end: int, size: int) -> None:
    """An array lies inside its file.

    Raises:
        ConvertError: it does not: the file was cut short, or was never whole.
    """
    if not 0 <= start <= end <= size:
        raise ConvertError(
            f"{path}: {name!r} should lie at bytes {start} to {end}, but the file has {size}.\n"
            f"  It is cut short or damaged; copy it anew."
        )


def check_shape(path: Path, name: str, shape: Any) -> tuple[int, ...]:
    """A shape out of a file: a list of sizes that can be meant.

    Raises:
        ConvertError: it is not.
    """
    fine = isinstance(shape, (list, tuple)) and len(shape) <= 32
    fine = fine and all(type(n) is int and 0 <= n < 2**62 for n in shape)
    if not fine or prod(n or 1 for n in shape) >= 2**62:
        raise ConvertError(f"{path}: {name!r} has the impossible shape {str(shape)[:60]}.")
    return tuple(shape)


def check_kept(path: Path, start: bytes, size: int) -> None:
    """A file that an earlier writer of the same entries left is as it made it.

    Raises:
        ConvertError: it is not.
    """
    with path.open("rb") as stream:
        same = stream.read(len(start)) == start
    if not same or size_of(path) != size:
        raise ConvertError(f"{path}: is not what was begun there; begin anew.")


def size_of(path: Path) -> int:
    return os.stat(path).st_size


def unsupported(path: Path, name: str, dtype: Any, format: str) -> ConvertError:
    """The error for a type that a format cannot hold."""
    error: ConvertError = ConvertError(
        f"{path}: {name!r} is {dtype}, which {format} files cannot hold.\n"
        f"  Write another format, such as safetensors, or, of a checkpoint, pass dtype='float32' "
        f"(--dtype float32)."
    )
    return error
