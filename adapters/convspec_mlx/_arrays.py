"""MLX's array operations, under the names that plans use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mlx.core as mx
import numpy as np

from convspec import dtypes

#: All that are convspec's but complex128, which MLX has not; bool, to be refused by its name.
TYPES = {name: getattr(mx, name) for name in dtypes.ALL if hasattr(mx, name)} | {"bool": mx.bool_}
NAMES = {dtype: name for name, dtype in TYPES.items()}
MODES: dict[str, Any] = {"zeros": "constant", "reflect": "reflect", "replicate": "edge"}


def name_of(dtype: Any) -> str:
    """NumPy's name of a dtype; MLX's own where NumPy has none."""
    return NAMES.get(dtype) or str(dtype).removeprefix("mlx.core.")


def device_kind() -> str:
    """Kind of the device that computes: an array has none of its own."""
    if mx.default_device().type == mx.DeviceType.cpu:
        return "cpu"
    return "mps" if mx.metal.is_available() else "cuda"


def from_foreign(x: Any) -> Any:
    """A NumPy array or, by DLPack, another framework's, its type unchanged."""
    if isinstance(x, np.ndarray):
        name = x.dtype.name
        if name not in TYPES:
            raise TypeError(f"MLX has no {name}")
        # Row-major, since MLX takes no negative strides; typed, else float64 becomes float32.
        return mx.array(x.astype(x.dtype.newbyteorder("="), "C"), dtype=TYPES[name])
    return mx.from_dlpack(x)


def to_numpy(x: Any) -> Any:
    """An array as a NumPy array."""
    if x.dtype == mx.bfloat16:  # NumPy cannot name it: the same 16 bits
        import ml_dtypes

        return np.array(x.view(mx.uint16)).view(ml_dtypes.bfloat16)
    return np.array(x)


OPERATIONS: dict[str, Callable[..., Any]] = {
    "add": lambda a, b: a + b,
    "cast": lambda x, *, dtype: x.astype(TYPES[dtype]),
    "concat": lambda *parts, axis: mx.concatenate(list(parts), axis),
    "flip": lambda x, *, axes: mx.flip(x, axes),
    "multiply": lambda a, b: a * b,
    "pad": lambda x, *, pairs, mode: mx.pad(x, list(pairs), mode=MODES[mode]),
    "permute": lambda x, *, axes: x.transpose(axes),
    "reshape": lambda x, *, shape: x.reshape(shape),
    "slice": lambda x, *, index: x[index],
}
