"""onnxruntime's values (OrtValue) from and to NumPy arrays."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import onnxruntime
from onnx import TensorProto

#: The word in ``tensor(...)`` for each element type, where it is not NumPy's.
WORDS = {"float": "float32", "double": "float64"}
#: ONNX's number of each element type that OrtValue and convspec both have.
NUMBERS: dict[str, int] = {
    "float16": TensorProto.FLOAT16,
    "bfloat16": TensorProto.BFLOAT16,
    "float32": TensorProto.FLOAT,
    "float64": TensorProto.DOUBLE,
    "int8": TensorProto.INT8,
    "int16": TensorProto.INT16,
    "int32": TensorProto.INT32,
    "int64": TensorProto.INT64,
    "uint8": TensorProto.UINT8,
    "uint16": TensorProto.UINT16,
    "uint32": TensorProto.UINT32,
    "uint64": TensorProto.UINT64,
}


def name_of(x: Any) -> str:
    """NumPy's name of a value's element type."""
    word = str(x.data_type()).removeprefix("tensor(").removesuffix(")")
    return WORDS.get(word, word)


def from_foreign(x: Any) -> Any:
    """A NumPy array or, by DLPack, another framework's; row-major memory is not copied."""
    if not isinstance(x, np.ndarray):
        x = np.from_dlpack(x)
    x = np.ascontiguousarray(x.astype(x.dtype.newbyteorder("="), copy=False)).reshape(x.shape)
    if x.dtype.name == "bfloat16":  # NumPy cannot name it to others: the same 16 bits
        return onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type(
            x.view(np.uint16), TensorProto.BFLOAT16
        )
    return onnxruntime.OrtValue.ortvalue_from_numpy(x)


def to_numpy(x: Any) -> Any:
    """A value as a NumPy array."""
    if name_of(x) != "bfloat16":
        return x.numpy()
    import ml_dtypes

    shape = tuple(x.shape())
    bits = np.empty(shape, np.uint16)
    ctypes.memmove(bits.ctypes.data, x.data_ptr(), bits.nbytes)
    return bits.view(ml_dtypes.bfloat16)
