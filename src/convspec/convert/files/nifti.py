"""NIfTI volumes (``.nii``, ``.nii.gz``): axes as nibabel gives them, x, y, z and time."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ConvertError, package
from ..output import allocate, flush
from .npy import NAME
from .protocol import (
    Array,
    Entry,
    Index,
    Reader,
    Writer,
    check_kept,
    check_shape,
    size_of,
    unsupported,
)

TYPES = (
    *("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64"),
    *("float32", "float64", "complex64", "complex128"),
)
#: Header of NIfTI-1 and its end mark: where the voxels start.
START = 352


class NiftiReader(Reader):
    format = "nifti"

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        nibabel = package("nibabel")
        try:
            self._image = nibabel.load(path)
            data = self._image.dataobj
            scaled = (data.slope, data.inter) != (1, 0)
            dtype = np.dtype(np.float64) if scaled else data.dtype
            shape = check_shape(path, NAME, [int(n) for n in data.shape])
            self.affine = np.asarray(self._image.affine)
        except ConvertError:
            raise
        except Exception as error:  # nibabel raises many kinds at damaged headers
            raise ConvertError(f"{path}: is no readable NIfTI file: {error}.") from error
        if dtype.name not in TYPES:
            raise ConvertError(f"{path}: holds {dtype}; only numbers are read.")
        if path.name.endswith(".nii"):
            end = int(data.offset) + prod(shape) * data.dtype.itemsize
            if end > size_of(path):
                raise ConvertError(
                    f"{path}: the voxels should end at byte {end}, but the file has "
                    f"{size_of(path)}; it is cut short."
                )
        elif prod(shape) * data.dtype.itemsize > 2000 * size_of(path):
            raise ConvertError(f"{path}: cannot hold {shape} voxels; it is cut short or damaged.")
        self.entries = {NAME: Entry(shape, dtype)}

    def open(self, name: str) -> Any:
        return _Checked(self.path, self.entries[name], self._image.dataobj)


class _Checked:
    """Voxels whose damage is told as such."""

    def __init__(self, path: Path, entry: Entry, found: Any) -> None:
        self._path, self._found = path, found
        self.shape, self.dtype = entry.shape, entry.dtype

    def __getitem__(self, index: Any) -> Array:
        try:
            return np.asarray(self._found[index], self.dtype)
        except Exception as error:  # of gzip and of short files
            raise ConvertError(f"{self._path}: the voxels are damaged: {error}.") from error


class NiftiWriter(Writer):
    """A single-file NIfTI-1 image; blocks come in Fortran order, as the voxels lie."""

    def __init__(
        self,
        path: Path,
        entries: Mapping[str, Entry],
        stamp: str,
        affine: Array | None = None,
        compressed: bool = False,
        *,
        keep: bool = False,
    ) -> None:
        super().__init__(path, entries, stamp)
        ((name, entry),) = self.entries.items()
        if entry.dtype.name not in TYPES:
            raise unsupported(path, name, entry.dtype, "NIfTI")
        if not 1 <= len(entry.shape) <= 7 or max(entry.shape) > 2**15 - 1:
            raise ConvertError(
                f"{path}: NIfTI holds 1 to 7 axes of at most 32767, not {entry.shape}."
            )
        header = package("nibabel").Nifti1Header()
        header.set_data_dtype(entry.dtype)
        header.set_data_shape(entry.shape)
        header.set_slope_inter(1, 0)
        header.set_sform(np.eye(4) if affine is None else affine, code=1)
        header.set_xyzt_units("mm")
        header["vox_offset"] = START
        self._plain = path.with_name(path.name + ".nii") if compressed else path
        start = header.binaryblock + bytes(4)
        if keep:
            check_kept(self._plain, start, START + entry.nbytes)
        else:
            allocate(self._plain, START + entry.nbytes)
            with self._plain.open("r+b") as stream:
                stream.write(start)
        self._keep = keep
        self._entry, self._dtype = entry, header.get_data_dtype()

    def write(self, name: str, index: Index, block: Array) -> None:
        if prod(self._entry.shape):
            whole = np.memmap(self._plain, self._dtype, "r+", START, self._entry.shape, "F")
            whole[index] = block

    def sync(self, name: str, index: Index) -> None:
        flush(self._plain)

    def finish(self) -> None:
        if self._plain is not self.path:
            self.path.unlink(missing_ok=True)
            with (
                self._plain.open("rb") as source,
                self.path.open("xb") as raw,
                gzip.GzipFile("", "wb", 6, raw, mtime=0) as target,
            ):
                while chunk := source.read(2**24):
                    target.write(chunk)
            self._plain.unlink()

    def close(self) -> None:
        if self._plain is not self.path and not self._keep:
            self._plain.unlink(missing_ok=True)
