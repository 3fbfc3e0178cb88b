"""The numbers of a case.

``small``: integers so few and so small that every partial sum is exact in the type of the result,
so that the tolerance is zero on any engine. ``wide``: integers of which every partial sum is exact
in the accumulator only (float32 for half types; for integer types they wrap), so that a narrower
accumulator or a second rounding shows. ``real``: real numbers, judged by a bound.

``nonfinite``: small integers, and a NaN or an infinity or two (see :mod:`.special`). ``huge``: of
results in float16 many are beyond its range, and become infinities by the one rounding; so many
of the partial sums are whose results are not. ``tiny``: results, and in float16 the input, are
subnormal. float16 is summed in float32, where they are normal: nothing excuses an error. In other
types an engine may take subnormal numbers for zero, as fast CPU modes do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from math import isqrt, prod
from typing import Any

import numpy as np

from convspec import reference
from convspec.dtypes import COMPLEX, FLOAT, HALF, INTEGER

from . import oracles, special
from .cases import GRADIENTS, Case

Array = np.ndarray[Any, Any]
Arrays = tuple[Array, Array, "Array | None"]
Sums = Callable[[Case, list[Array]], list[Array]]

#: Integers up to here are exact, sums and all.
EXACT = {
    "float16": 2**11,
    "bfloat16": 2**8,
    "float32": 2**24,
    "float64": 2**53,
    "complex64": 2**23,  # a complex product adds two real ones
    "complex128": 2**52,
}
#: The largest number of the filling that is exact in any type.
SMALL = 3


def arrays(case: Case) -> Arrays:
    """Input, weight, and bias or None, as NumPy arrays; always the same for the same case."""
    spec = case.spec
    x, weight, bias = (array.copy() for array in _numbers(case))
    if case.filling == "nonfinite":
        x, weight, bias = special.spoiled(case, x, weight, bias)
    x, weight, bias = (viewed(array, case.view, case.seed) for array in (x, weight, bias))
    return x, weight, bias if spec.bias else None


def applies(case: Case) -> bool:
    """Whether a case may have its filling."""
    types = {case.dtype, case.out_dtype or case.dtype}
    if case.filling in ("small", "wide"):
        return True
    if case.filling == "real":  # rounded results are not judged for equality
        return case.judge in ("bounded", *GRADIENTS) or case.dtype in INTEGER
    if case.judge != "exact" or not types <= set(HALF + FLOAT):
        return False
    return {
        "nonfinite": True,
        "tiny": len(types) == 1,
        "huge": case.out_dtype == "float16" or types == {"float16"},
    }[case.filling]


@dataclass(frozen=True)
class Tangents:
    """What gradients are taken of and along: see :mod:`convspec_conformance.gradients`.

    Attributes:
        x, w, b: input, weight, and bias or None.
        g: cotangent of the output, in its type.
        u, v: cotangents of the gradients of input and weight.
    """

    x: Array
    w: Array
    b: Array | None
    g: Array
    u: Array
    v: Array


def tangents(case: Case) -> Tangents:
    """The arrays of a gradient's case; always the same for the same case."""
    spec = case.spec
    x, w, b, g, u, v = (array.copy() for array in _tangent_numbers(case))
    x, w, g = (viewed(a, case.view, case.seed) for a in (x, w, g))
    return Tangents(x, w, b if spec.bias else None, g, u, v)


#: How many cases' numbers are kept: who asks several targets the same, one after the other, need
#: not draw them again.
KEPT = 16


@lru_cache(maxsize=KEPT)
def _numbers(case: Case) -> list[Array]:
    """Input, weight and bias, to be copied."""
    spec = case.spec
    shapes = [case.input_shape, spec.weight_shape, spec.bias_shape]
    return _drawn(case, shapes, [case.dtype] * 3, _result)


@lru_cache(maxsize=KEPT)
def _tangent_numbers(case: Case) -> list[Array]:
    """The arrays of :class:`Tangents`, to be copied."""
    spec, out = case.spec, case.out_dtype or case.dtype
    output_shape = spec.output_shape(case.input_shape, case.output_size)
    shapes = [case.input_shape, spec.weight_shape, spec.bias_shape, output_shape]
    types = [case.dtype, case.dtype, case.dtype, out, case.dtype, case.dtype]
    return _drawn(case, [*shapes, *shapes[:2]], types, _gradients)


def _result(case: Case, arrays: list[Array]) -> list[Array]:
    """The sums that a forward case is made of."""
    given = arrays if case.spec.bias else arrays[:2]
    return [reference(case.spec, *given, output_size=case.output_size)]


def _gradients(case: Case, arrays: list[Array]) -> list[Array]:
    """The sums that gradients are made of."""
    spec, size = case.spec, case.output_size
    x, w, _, g, u, v = arrays
    first = oracles.gradients(spec, x, w, g, output_size=size)
    if case.judge == "gradient":
        return list(first)
    y = oracles.windows(spec, x, w, arrays[2], output_size=size)
    back = oracles.gradients(spec, u, v, g, output_size=size)[:2]
    forth = (oracles.windows(spec, *pair, output_size=size) for pair in ((u, w), (x, v)))
    return [*first, y, g * y, *back, *forth]


def as_dtype(values: Array, dtype: str) -> Array:
    """``values`` as the type with this name; bfloat16 is ml_dtypes'."""
    if dtype == "bfloat16":
        import ml_dtypes

        return values.astype(ml_dtypes.bfloat16)
    return values.astype(dtype)


def viewed(array: Array, view: str, seed: int = 0) -> Array:
    """The same numbers in other memory: see :data:`.cases.VIEWS`.

    The one axis of a bias has no other order; instead of permuted it is a column of a matrix.
    """
    if view in ("reversed", "flipped"):
        axes = tuple(range(array.ndim)) if view == "reversed" else (seed % array.ndim,)
        return np.flip(np.flip(array, axes).copy(), axes)
    if view == "sliced" or (view == "permuted" and array.ndim == 1):
        # What lies in between shows in any sum.
        between = 111 if array.dtype.name in INTEGER else np.nan
        whole = np.full((*array.shape[:-1], 2 * array.shape[-1] + 1), between, array.dtype)
        part = whole[..., 1::2]
        part[...] = array
        return part
    if view == "permuted":
        axes = tuple(range(array.ndim))
        # The last axis outermost, channels last in memory alone, and Fortran's order.
        orders = [(axes[-1], *axes[:-1]), (axes[0], *axes[2:], *axes[1:2]), axes[::-1]]
        for i in range(3):
            turned = orders[(seed + i) % 3]
            found = np.ascontiguousarray(array.transpose(turned)).transpose(np.argsort(turned))
            if not found.flags.c_contiguous:  # axes of size 1 may leave it as it was
                break
        return found
    return array


def _drawn(case: Case, shapes: list[Any], types: list[str], sums: Sums) -> list[Array]:
    """Arrays of these shapes and types, filled as the case says."""
    rng = np.random.default_rng([case.seed, 20])
    if case.filling == "real":
        return [_real(rng, shape, dtype) for shape, dtype in zip(shapes, types, strict=True)]
    if case.filling == "wide" and {case.dtype, case.out_dtype or case.dtype} <= set(INTEGER):
        return [_any_bits(rng, shape, dtype) for shape, dtype in zip(shapes, types, strict=True)]
    numbers = _bounded_integers(case, rng, shapes, types, sums)
    if case.filling != "tiny":
        return numbers
    least = _least(case.dtype)
    # The bias is of the products' size; of other types than float16 no factor is subnormal itself.
    steps = (
        (least, 0, least) if case.dtype == "float16" else (least // 2, least - least // 2, least)
    )
    return [
        as_dtype(np.ldexp(a.astype("float64"), step), case.dtype)
        for a, step in zip(numbers, steps, strict=True)
    ]


def _least(dtype: str) -> int:
    """The power of two that is the smallest subnormal number of a type."""
    return {"float16": -24, "bfloat16": -133, "float32": -149, "float64": -1074}[dtype]


def slack(case: Case) -> float:
    """How far a result may be off that an engine takes subnormal numbers for zero in."""
    if case.filling != "tiny" or case.dtype == "float16":
        return 0.0
    spec = case.spec
    terms = prod(spec.kernel_size) * spec.in_channels // spec.groups + 2
    significand = {"bfloat16": 7, "float32": 23, "float64": 52}[case.dtype]
    return terms * float(np.ldexp(1.0, _least(case.dtype) + significand))


def _bounded_integers(
    case: Case, rng: np.random.Generator, shapes: list[Any], types: list[str], sums: Sums
) -> list[Array]:
    """Integers, smaller and then fewer until the sums of magnitudes stay within the limit."""
    limit = _limit(case)
    most = _largest(case, limit)
    density = 1.0
    while True:
        kept = [_magnitudes(rng, shape, most, density, case.dtype) for shape in shapes]
        found = sums(case, [k.max(0) for k in kept])
        if max(bound.max(initial=0) for bound in found) <= limit:
            break
        if most > SMALL:
            most = max(most // 2, SMALL)
        else:
            density *= 0.7
    # Rounding shows in large sums: of every second wide case all numbers have one sign.
    if not case.dtype.startswith("u") and not (case.filling == "wide" and case.seed % 2):
        kept = [k * rng.choice((-1, 1), k.shape) for k in kept]
    numbers = [k[0] if len(k) == 1 else k[0] + 1j * k[1] for k in kept]
    return [as_dtype(array, dtype) for array, dtype in zip(numbers, types, strict=True)]


def _magnitudes(
    rng: np.random.Generator, shape: Any, most: int, density: float, dtype: str
) -> Array:
    """Numbers from 1 to ``most``, or 0: real parts first, then the imaginary ones if any."""
    parts = 2 if dtype in COMPLEX else 1
    drawn: Array = rng.integers(1, most + 1, (parts, *shape))
    kept: Array = drawn * (rng.random(shape) < density)
    return kept.astype("float64")


def _largest(case: Case, limit: int) -> int:
    """The largest number: such that about ``limit`` is reached, and that is exact in itself."""
    if case.filling in ("small", "nonfinite", "tiny"):
        return SMALL
    terms = prod(case.spec.kernel_size) * case.spec.in_channels // case.spec.groups
    own = np.iinfo(case.dtype).max if case.dtype in INTEGER else EXACT[case.dtype]
    return max(SMALL, min(isqrt(limit // (terms + 1)), own))


def _limit(case: Case) -> int:
    """The largest sum of magnitudes that is still exact in every type that results have."""
    types = {case.out_dtype or case.dtype}
    if case.judge in GRADIENTS:
        types.add(case.dtype)
    if types <= set(INTEGER):
        return 2**62  # integers wrap; any sum will do
    exact = min(_exact(case, dtype) for dtype in types)
    return exact // 2 if case.dtype in COMPLEX else exact


def _exact(case: Case, dtype: str) -> int:
    if case.filling == "huge":
        return EXACT["float32"]
    if case.filling == "wide" and dtype in HALF:
        return 60_000 if dtype == "float16" else EXACT["float32"]  # float16 ends at 65504
    return EXACT[dtype]


def _any_bits(rng: np.random.Generator, shape: Any, dtype: str) -> Array:
    """Any integers of a type, its least and its greatest among them."""
    raw = rng.integers(0, 256, (prod(shape), np.dtype(dtype).itemsize), dtype=np.uint8)
    numbers = raw.view(dtype)[:, 0]
    ends = rng.permutation(len(numbers))[:2]
    numbers[ends] = [np.iinfo(dtype).min, np.iinfo(dtype).max][: len(ends)]
    return numbers.reshape(shape)


def _real(rng: np.random.Generator, shape: Any, dtype: str) -> Array:
    values = rng.standard_normal(shape)
    if dtype in COMPLEX:
        values = values + 1j * rng.standard_normal(shape)
    return as_dtype(values, dtype)
