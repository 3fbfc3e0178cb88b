"""Element types by name: which accumulate in which, and which may come out of which."""

from __future__ import annotations

from typing import Any

import numpy as np

from .arguments import shown
from .errors import DTypeError

HALF = ("float16", "bfloat16")
FLOAT = ("float32", "float64")
COMPLEX = ("complex64", "complex128")
INTEGER = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
ALL = HALF + FLOAT + COMPLEX + INTEGER


def check(argument: str, dtype: str) -> None:
    """``dtype`` is one that convolutions have.

    Raises:
        DTypeError: it is not.
    """
    if dtype not in ALL:
        raise DTypeError(f"{argument}: {dtype} is none of {', '.join(ALL)}.")


def name_of(dtype: Any, argument: str = "dtype") -> str:
    """The name of an element type given as a name, a NumPy dtype or a framework's own.

    Raises:
        DTypeError: it is none that convolutions have.
    """
    if isinstance(dtype, str):
        text = dtype
    elif isinstance(getattr(dtype, "name", None), str):
        text = dtype.name
    else:
        try:
            text = np.dtype(dtype).name
        except (TypeError, ValueError):  # a framework's own, which prints as module.float32
            text = str(dtype)
    name = text.rsplit(".", 1)[-1]
    check(argument, name if name in ALL else shown(dtype))
    return name


def _kind(name: str) -> int:
    return 0 if name in INTEGER else 2 if name in COMPLEX else 1


def numpy_dtype(name: str) -> np.dtype[Any]:
    """NumPy's dtype of this name; bfloat16 is ml_dtypes'."""
    if name == "bfloat16":
        import ml_dtypes

        name = ml_dtypes.bfloat16
    dtype: np.dtype[Any] = np.dtype(name)
    return dtype


def check_out(dtype: str, out: str) -> None:
    """``out`` may hold what a convolution of ``dtype`` gives.

    Raises:
        DTypeError: it would drop an imaginary part or a fraction.
    """
    if _kind(out) < _kind(dtype):
        raise DTypeError(f"out_dtype: {dtype} arrays cannot give {out}; that would lose a part.")


def accumulator(dtype: str, out: str) -> str:
    """The type that sums are formed in: half types in float32, the rest at least as wide as both.

    >>> accumulator("float16", "float16"), accumulator("int8", "int32")
    ('float32', 'int32')
    """
    a, b = ("float32" if name in HALF else name for name in (dtype, out))
    if a == b or (_kind(a) == _kind(b) == 0 and np.dtype(b).itemsize <= np.dtype(a).itemsize):
        return a
    if _kind(a) == _kind(b) == 0:
        return b
    return np.result_type(a, b).name
