"""NumPy's array operations, under the names that plans use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy import ndarray

from convspec.backend import Guard
from convspec.dtypes import numpy_dtype

MODES = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}


def cast(x: Any, *, dtype: str) -> Any:
    with np.errstate(over="ignore"):
        return x.astype(numpy_dtype(dtype), copy=False)


def pad(x: Any, *, pairs: Any, mode: str) -> Any:
    if mode == "zeros":  # np.pad takes twenty times as long to start
        y = np.zeros([n + lo + hi for n, (lo, hi) in zip(x.shape, pairs, strict=True)], x.dtype)
        y[tuple([slice(lo, lo + n) for n, (lo, _) in zip(x.shape, pairs, strict=True)])] = x
        return y
    return np.pad(x, pairs, mode=MODES[mode])  # type: ignore[call-overload]


def guard_of(x: Any, w: Any, b: Any = None) -> Guard:
    """True of arrays with the shapes and element types of these."""
    x_shape, w_shape, x_dtype, w_dtype = x.shape, w.shape, x.dtype, w.dtype

    def guard(x: Any, w: Any) -> bool:
        return (
            type(x) is type(w) is ndarray
            and x.shape == x_shape
            and w.shape == w_shape
            and x.dtype == x_dtype
            and w.dtype == w_dtype
        )

    if b is None:
        return guard
    b_shape, b_dtype = b.shape, b.dtype
    return lambda x, w, b: (
        guard(x, w) and type(b) is ndarray and b.shape == b_shape and b.dtype == b_dtype
    )


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
