"""Permuted copies of arrays."""

from __future__ import annotations

from typing import Any

import numpy as np


def copy(x: np.ndarray[Any, Any], dtype: np.dtype[Any] | None = None) -> np.ndarray[Any, Any]:
    """A contiguous array with the elements of a view of any strides; itself if it is one."""
    return np.asarray(x, dtype, order="C")
