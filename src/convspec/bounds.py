"""How far a correct result may be from the exact one: a bound for each output element.

Standard forward error analysis (Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed.,
sections 3.1 and 3.6): a sum of n products, added in any order in a format of unit roundoff u_acc,
is off by at most (n + c) * u_acc * sum |x||w|, and rounding it to the output format by
u_out * |y| more, or by the smallest subnormal where that is larger.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from .dtypes import COMPLEX, accumulator
from .reference import reference
from .spec import ConvSpec

Array = np.ndarray[Any, Any]

#: Unit roundoff and smallest subnormal, by name.
UNIT = {"float16": 2.0**-11, "bfloat16": 2.0**-8, "float32": 2.0**-24, "float64": 2.0**-53}
SUBNORMAL = {
    "float16": 2.0**-24,
    "bfloat16": 2.0**-133,
    "float32": 2.0**-149,
    "float64": 2.0**-1074,
}
#: The bias's addition, and second-order terms.
EXTRA = 2


def elementwise(
    spec: ConvSpec,
    x: Array,
    w: Array,
    b: Array | None,
    expected: Array,
    dtype: str,
    *,
    out_dtype: str | None = None,
    output_size: Any = None,
    factor: float = 1.0,
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The bound of each element of ``expected``, which is the result in a wide type.

    Args:
        spec: the convolution.
        x, w, b: what it is computed on.
        expected: the result, in a wide type.
        dtype: type that the arrays are computed in; not an integer one, which rounds nothing.
        out_dtype: type of the result, default ``dtype``.
        output_size: as in a call of the spec.
        factor: how much the accumulation's term is amplified by the engine's algorithm.
    """
    n = prod(spec.kernel_size) * spec.in_channels // spec.groups
    magnitudes = [None if a is None else np.abs(a.astype(_wide(dtype))) for a in (x, w, b)]
    sums = reference(spec, *magnitudes, output_size=output_size)
    out = out_dtype or dtype
    return of_sums(n, sums, expected, accumulator(dtype, out), out, factor=factor)


def of_sums(
    n: Any, sums: Array, expected: Array, summed: str, out: str, *, factor: float = 1.0
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The bound of each of some sums of ``n`` products.

    Args:
        n: how many products, for all of the sums or for each.
        sums: the sums of the products' magnitudes.
        expected: the sums, in a wide type.
        summed: type that they are formed in.
        out: type that they are rounded to.
        factor: as above.
    """
    if summed in COMPLEX:
        n = 4 * n  # four real products for a complex one, and sqrt(2) of their bound twice
    u_acc, u_out = UNIT[_real(summed)], UNIT[_real(out)]
    bound: np.ndarray[Any, np.dtype[np.float64]] = (
        factor * (n + EXTRA) * u_acc * sums + u_out * np.abs(expected) + SUBNORMAL[_real(out)]
    )
    return bound


def _real(dtype: str) -> str:
    return {"complex64": "float32", "complex128": "float64"}.get(dtype, dtype)


def _wide(dtype: str) -> str:
    return "complex128" if dtype in COMPLEX else "float64"
