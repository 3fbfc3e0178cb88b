"""PyTorch state dicts (``.pt``, ``.pth``), with ``weights_only``: no pickled code ever runs."""

from __future__ import annotations

import sys
import warnings
import zipfile
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ConvertError, package
from .hdf5 import ALWAYS_FINE
from .nested import flattened
from .npz import open_zip, start_of
from .protocol import Array, Entry, Reader, dtype_of, unsupported
from .spool import SpoolingWriter
from .stored import Stored

#: Where training scripts put the state dict, beside epoch and optimizer.
INSIDE = ("state_dict", "model_state_dict", "model")
#: Types that NumPy lacks, and the type of the same size that both have.
VIEWED = {
    "bfloat16": "int16",
    "float8_e4m3fn": "uint8",
    "float8_e5m2": "uint8",
    "float8_e4m3fnuz": "uint8",
    "float8_e5m2fnuz": "uint8",
}


def storages_of(path: Path) -> dict[int, int] | None:
    """Sizes of the members of a zip by the byte at which their data start.

    None: the bytes are not as they are in memory (another byte order, compressed, or the format
    before the zip), so that torch has to read them.

    Raises:
        ConvertError: the zip is damaged or hostile; sizes and names are checked before torch
            sees them.
    """
    with path.open("rb") as stream:
        if stream.read(4) != b"PK\x03\x04":
            return None
    with open_zip(path) as archive:
        members = archive.infolist()
        if any(member.compress_type != zipfile.ZIP_STORED for member in members):
            return None
        for member in members:
            is_order = member.filename.endswith("/byteorder") and member.file_size < 16
            if is_order and archive.read(member).decode("ascii", "replace") != sys.byteorder:
                return None
    return {start_of(path, member): member.file_size for member in members}


class TorchReader(Reader):
    format = "torch"

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._torch = package("torch")
        #: Where the storages lie in the file, and their sizes; None: torch has read them all.
        self._storages = storages_of(path)
        where = "cpu" if self._storages is None else "meta"
        try:
            loaded = self._torch.load(path, where, weights_only=True)
        except Exception as error:  # UnpicklingError, RuntimeError, EOFError, ...
            first = str(error).strip().split("\n")[0][:200]
            raise ConvertError(
                f"{path}: cannot be read without running what it holds: {first}\n"
                f"  Save tensors alone: torch.save(model.state_dict(), path)."
            ) from error
        self._tensors: dict[str, Any] = {}
        for name, leaf in flattened(path, self._state_dict(loaded), "."):
            if isinstance(leaf, self._torch.Tensor):
                self._add(name, leaf.detach())
            else:
                self.skipped[name] = f"a {type(leaf).__name__}, no tensor"

    def _state_dict(self, loaded: Any) -> Any:
        if not isinstance(loaded, dict):
            return {"tensor": loaded} if isinstance(loaded, self._torch.Tensor) else loaded
        for key in INSIDE:
            inner = loaded.get(key)
            if isinstance(inner, dict) and any(
                isinstance(value, self._torch.Tensor) for value in inner.values()
            ):
                for name in loaded:
                    if name != key:
                        self.skipped[str(name)] = f"lies beside {key}"
                return inner
        return loaded

    def _add(self, name: str, tensor: Any) -> None:
        plain = tensor.layout is self._torch.strided and not tensor.is_quantized
        if not plain or (tensor.is_meta and self._place(tensor) is None):
            raise ConvertError(
                f"{self.path}: {name!r} is sparse, quantized or without data; only plain tensors "
                f"are converted."
            )
        kind = str(tensor.dtype).removeprefix("torch.")
        try:
            dtype = dtype_of(kind)
        except TypeError as error:
            raise ConvertError(
                f"{self.path}: {name!r} is {kind}, which NumPy does not have."
            ) from error
        entry = Entry(tuple(tensor.shape), dtype)
        if entry.nbytes > max(tensor.untyped_storage().nbytes(), ALWAYS_FINE):
            raise ConvertError(
                f"{self.path}: {name!r} would grow to {entry.nbytes} bytes out of a storage of "
                f"{tensor.untyped_storage().nbytes()}."
            )
        if tensor.is_meta:
            self._check_storage(name, tensor)
        self.entries[name] = entry
        self._tensors[name] = tensor

    def _place(self, tensor: Any) -> int | None:
        """The byte of the file at which the storage of a tensor starts, as torch has found it.

        Set by ``torch.load`` for ``map_location="meta"``
        (docs.pytorch.org/docs/stable/notes/serialization.html).
        """
        place: int | None = tensor.untyped_storage()._checkpoint_offset
        return place

    def _check_storage(self, name: str, tensor: Any) -> None:
        """A storage is a member of the zip: torch computes places without looking there."""
        place, needed = self._place(tensor), tensor.untyped_storage().nbytes()
        assert place is not None
        assert self._storages is not None
        found = self._storages.get(place, 0)
        if needed and found < needed:
            raise ConvertError(
                f"{self.path}: {name!r} wants a storage of {needed} bytes at byte {place}, where "
                f"there are {found}.\n  The file is damaged; save it anew."
            )

    def open(self, name: str) -> Any:
        tensor, entry = self._tensors[name], self.entries[name]
        kind = entry.dtype.name
        if not tensor.is_meta:
            if kind in VIEWED:
                viewed: Array = tensor.view(getattr(self._torch, VIEWED[kind])).numpy()
                return viewed.view(entry.dtype)
            return tensor.resolve_conj().resolve_neg().numpy()
        size, changed = entry.dtype.itemsize, tensor.is_conj() or tensor.is_neg()
        start = (self._place(tensor) or 0) + tensor.storage_offset() * size
        if not changed and tensor.is_contiguous():
            return Stored(self.path, name, entry.dtype, entry.shape, start)
        if not changed and tensor.permute(*reversed(range(tensor.ndim))).is_contiguous():
            return Stored(self.path, name, entry.dtype, entry.shape, start, "F")
        steps = tensor.stride()
        span = sum((n - 1) * step for n, step in zip(entry.shape, steps, strict=True)) + 1
        whole = Stored(self.path, name, entry.dtype, [span if prod(entry.shape) else 0], start)[...]
        strides = [step * size for step in steps]
        array: Array = np.lib.stride_tricks.as_strided(whole, entry.shape, strides)
        array = np.conj(array) if tensor.is_conj() else array
        return np.negative(array) if tensor.is_neg() else array

    def close(self) -> None:
        self._tensors.clear()


class TorchWriter(SpoolingWriter):
    def save(self) -> None:
        torch = package("torch")
        tensors = {}
        for name, array in self.all_spooled():
            kind = array.dtype.name
            if not hasattr(torch, kind):
                raise unsupported(self.path, name, array.dtype, "torch")
            if not prod(array.shape):
                tensors[name] = torch.zeros(array.shape, dtype=getattr(torch, kind))
                continue
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)
                tensor = torch.from_numpy(array.view(VIEWED.get(kind, np.dtype(kind))))
            tensors[name] = tensor.view(getattr(torch, kind)) if kind in VIEWED else tensor
        torch.save(tensors, self.path)
