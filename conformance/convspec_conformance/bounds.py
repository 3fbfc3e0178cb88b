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

from convspec import reference
from convspec.dtypes import COMPLEX, INTEGER, accumulator

from .cases import Case
from .fillings import Array

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
#: Looser profiles for engines that say so, as factors of the accumulation's term: Winograd's
#: F(4x4, 3x3) amplifies by its transforms (Barabasz et al., 2020), TF32 has an 11-bit significand.
PROFILES = {"standard": 1.0, "winograd": 64.0, "tf32": 2.0**13}


def applies(case: Case) -> bool:
    """Whether there is rounding to bound."""
    return not {case.dtype, case.out_dtype or case.dtype} & set(INTEGER)


def elementwise(
    case: Case, x: Array, w: Array, b: Array | None, expected: Array, profile: str = "standard"
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The bound of each element of ``expected``, which is the result in a wide type."""
    out = case.out_dtype or case.dtype
    spec = case.spec
    n = prod(spec.kernel_size) * spec.in_channels // spec.groups
    if case.dtype in COMPLEX:
        n *= 4  # four real products for a complex one, and sqrt(2) of their bound twice
    magnitudes = [None if a is None else np.abs(a.astype(_wide(case.dtype))) for a in (x, w, b)]
    sums = reference(spec, *magnitudes, output_size=case.output_size)
    u_acc, u_out = UNIT[_real(accumulator(case.dtype, out))], UNIT[_real(out)]
    bound: np.ndarray[Any, np.dtype[np.float64]] = (
        PROFILES[profile] * (n + EXTRA) * u_acc * sums
        + u_out * np.abs(expected)
        + SUBNORMAL[_real(out)]
    )
    return bound


def _real(dtype: str) -> str:
    return {"complex64": "float32", "complex128": "float64"}.get(dtype, dtype)


def _wide(dtype: str) -> str:
    return "complex128" if dtype in COMPLEX else "float64"
