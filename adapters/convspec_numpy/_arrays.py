"""NumPy's array operations, under the names that plans use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from convspec.dtypes import numpy_dtype

MODES = {"zeros": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


def cast(x: Any, *, dtype: str) -> Any:
    with np.errstate(over="ignore"):
        return x.astype(numpy_dtype(dtype), copy=False)


def pad(x: Any, *, pairs: Any, mode: str) -> Any:
    return np.pad(x, pairs, mode=MODES[mode])  # type: ignore[call-overload]


OPERATIONS: dict[str, Callable[..., Any]] = {
    "add": lambda a, b: a + b,
    "cast": cast,
    "concat": lambda *parts, axis: np.concatenate(parts, axis),
    "flip": lambda x, *, axes: np.flip(x, axes),
    "multiply": lambda a, b: a * b,
    "pad": pad,
    "permute": lambda x, *, axes: x.transpose(axes),
    "reshape": lambda x, *, shape: x.reshape(shape),
    "slice": lambda x, *, index: x[index],
}
