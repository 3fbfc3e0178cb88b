"""PyTorch state dicts (``.pt``, ``.pth``), with ``weights_only``: no pickled code ever runs."""

from __future__ import annotations

import warnings
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ConvertError, package
from .hdf5 import ALWAYS_FINE
from .nested import flattened
from .npz import open_zip
from .protocol import Array, Entry, Reader, dtype_of, unsupported
from .spool import SpoolingWriter

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


class TorchReader(Reader):
    format = "torch"

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._torch = package("torch")
        with path.open("rb") as stream:
            is_zip = stream.read(4) == b"PK\x03\x04"
        if is_zip:
            open_zip(path).close()  # sizes and names are checked before torch sees them
        try:
            loaded = self._torch.load(path, "cpu", weights_only=True, mmap=is_zip)
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
        if tensor.layout is not self._torch.strided or tensor.is_quantized or tensor.is_meta:
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
        self.entries[name] = entry
        self._tensors[name] = tensor

    def open(self, name: str) -> Array:
        tensor, dtype = self._tensors[name], self.entries[name].dtype
        if dtype.name in VIEWED:
            viewed: Array = tensor.view(getattr(self._torch, VIEWED[dtype.name])).numpy()
            return viewed.view(dtype)
        plain: Array = tensor.resolve_conj().resolve_neg().numpy()
        return plain

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
