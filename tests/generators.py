"""Random convolutions and small integers for them.

The cases are the conformance suite's. The numbers are integers, so that every sum is exact in the
type it is formed in and results are compared with tolerance zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import ml_dtypes
import numpy as np

from convspec.dtypes import COMPLEX, INTEGER
from convspec_conformance.cases import Case
from convspec_conformance.drawing import random_case

__all__ = ["Case", "arrays", "integers", "random_case", "reference_dtype"]

Rng = np.random.Generator
Arrays = tuple[np.ndarray, np.ndarray, "np.ndarray | None"]


def integers(rng: Rng, shape: Sequence[int], dtype: str, *, wide: bool = False) -> np.ndarray:
    """Integers from -3 to 3 as ``dtype``; unsigned types wrap, complex ones have both parts.

    Args:
        rng: where they come from.
        shape: shape of the array.
        dtype: by name, bfloat16 included.
        wide: integer types only: from the whole range instead, so that sums wrap.
    """
    if wide and dtype in INTEGER:
        raw = rng.integers(0, 256, (prod(shape), np.dtype(dtype).itemsize), dtype=np.uint8)
        return raw.view(dtype).reshape(shape)
    values: np.ndarray = rng.integers(-3, 4, shape)
    if dtype in COMPLEX:
        values = values + 1j * rng.integers(-3, 4, shape)
    return values.astype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)


def arrays(rng: Rng, case: Case) -> Arrays:
    """Input, weight and bias (None without one) for a case; now and then as views.

    A view has negative strides, or axes that lie in memory in another order than they are named.
    Integer types are wide half the time, unless the result is to be a float.
    """
    spec, out = case.spec, case.out_dtype or case.dtype
    wide = out in INTEGER and bool(rng.random() < 0.5)
    x = integers(rng, case.input_shape, case.dtype, wide=wide)
    weight = integers(rng, spec.weight_shape, case.dtype, wide=wide)
    bias = integers(rng, spec.bias_shape, case.dtype, wide=wide) if spec.bias else None
    return _maybe_view(rng, x), _maybe_view(rng, weight), bias


def reference_dtype(case: Case) -> np.dtype[Any]:
    """The NumPy dtype of the case's result."""
    name = case.out_dtype or case.dtype
    return np.dtype(ml_dtypes.bfloat16 if name == "bfloat16" else name)


def _maybe_view(rng: Rng, array: np.ndarray) -> np.ndarray:
    """The same numbers, one time in four in memory that is not row-major."""
    kind = rng.random()
    if kind < 0.1:
        axes = tuple(np.flatnonzero(rng.random(array.ndim) < 0.5))
        return np.flip(np.flip(array, axes).copy(), axes)
    if kind < 0.25:
        order = rng.permutation(array.ndim)
        return np.ascontiguousarray(array.transpose(order)).transpose(np.argsort(order))
    return array
