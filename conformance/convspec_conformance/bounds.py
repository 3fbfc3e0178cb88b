"""The error bound of a case: :mod:`convspec.bounds`, with profiles for engines that round more."""

from __future__ import annotations

from typing import Any

import numpy as np

from convspec import bounds
from convspec.dtypes import INTEGER

from .cases import Case
from .fillings import Array

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
    return bounds.elementwise(
        case.spec,
        x,
        w,
        b,
        expected,
        case.dtype,
        out_dtype=case.out_dtype,
        output_size=case.output_size,
        factor=PROFILES[profile],
    )
