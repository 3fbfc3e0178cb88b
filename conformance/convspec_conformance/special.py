"""NaN, infinities and subnormal numbers: where they are put, and what may come of them.

A result is what IEEE arithmetic gives for the products that a convolution is made of, in any order:
NaN if one of the factors is NaN, if an infinity meets a zero, or if infinities of both signs meet;
an infinity if there is one; and where no window reaches, exactly the number that comes without
them. So a NaN must not spread: not to another group, sample or channel, nor to a window that only
comes near it.

One thing is left open: zeros that a convolution is said to have in between. Where a tap that is not
finite lies on the zeros of padding, or on those between the elements of a transposed convolution's
input, or where a number that is not finite lies between the taps of a dilated kernel, an engine may
multiply (NaN) or leave the zeros out (the rest of the sum). Both are what somebody means by these
words, frameworks do the one or the other by size, and so both are right.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from convspec import reference
from convspec.problem import resolve

from . import oracles
from .cases import Case

Array = np.ndarray[Any, Any]

VALUES = (np.nan, np.inf, -np.inf)
#: How often the weight has such a number, and the bias; the input nearly always has.
IN_WEIGHT, IN_BIAS = 0.35, 0.2
#: The share of zeros among the others: who leaves their products out loses a NaN.
ZEROS = 0.2


def spoiled(case: Case, x: Array, w: Array, b: Array) -> tuple[Array, Array, Array]:
    """The arrays with a few numbers that are not finite."""
    rng = np.random.default_rng([case.seed, 30])
    for array in (x, w):
        array[rng.random(array.shape) < ZEROS] = 0
    in_weight = rng.random() < IN_WEIGHT
    _put(rng, x, int(rng.integers(0, 2)) if in_weight else int(rng.integers(1, 3)))
    _put(rng, w, int(in_weight))
    _put(rng, b, int(rng.random() < IN_BIAS))
    return x, w, b


def _put(rng: np.random.Generator, array: Array, count: int) -> None:
    for _ in range(count if array.size else 0):
        array.flat[int(rng.integers(array.size))] = VALUES[int(rng.integers(3))]


def expected(case: Case, x: Array, w: Array, b: Array | None) -> tuple[Array, Array]:
    """What comes of arrays with such numbers, and where it may be NaN as well."""
    spec = case.spec.replace(bias=False)
    size = {"output_size": case.output_size}
    finite = [
        None if a is None else np.where(np.isfinite(a), a, np.zeros((), a.dtype)) for a in (x, w, b)
    ]
    y = reference(case.spec, *finite, **size, out_dtype=case.out_dtype)

    def count(u: Array, v: Array) -> Array:
        """Of each result, how many of its products have a factor in u and the other in v."""
        return reference(spec, u.astype("float64"), v.astype("float64"), **size)

    x, w = x.astype("float64"), w.astype("float64")
    any_x, any_w = np.ones(x.shape), np.ones(w.shape)
    infinite_x, infinite_w = np.isinf(x), np.isinf(w)
    none = count(np.isnan(x), any_w) + count(any_x, np.isnan(w))
    none += count(infinite_x, w == 0) + count(x == 0, infinite_w)
    above, below = (
        count(x == np.inf, sign * w > 0)
        + count(x == -np.inf, sign * w < 0)
        + count(np.isfinite(x) & (sign * x > 0), w == np.inf)
        + count(np.isfinite(x) & (sign * x < 0), w == -np.inf)
        for sign in (1, -1)
    )
    per_channel = [-1 if c == "C" else 1 for c in spec.output_layout]
    if b is not None:
        b = b.astype("float64").reshape(per_channel)
        none, above, below = none + np.isnan(b), above + (b == np.inf), below + (b == -np.inf)
    spoils = ~np.isfinite(w)
    taps = oracles.per_group(case.spec, spoils).reshape(spec.out_channels, -1).sum(1)
    on_zeros = count(any_x, spoils) < taps.reshape(per_channel)
    spoiled_x = ~np.isfinite(x)
    on_zeros |= _reached(case, spoiled_x) > count(spoiled_x, any_w)  # the rest, between the taps
    y = np.where(above > 0, np.inf, np.where(below > 0, -np.inf, y.astype("float64")))
    return np.where((none > 0) | ((above > 0) & (below > 0)), np.nan, y), on_zeros


def _reached(case: Case, of_x: Array) -> Array:
    """How many of these elements of the input each window has, with those between its taps."""
    spec = case.spec
    problem = resolve(spec, of_x.shape, case.output_size)
    # Output padding may be more than a kernel without dilation allows: the end is cropped less.
    padding = tuple(
        (lo, hi - extra)
        for (lo, hi), extra in zip(problem.padding, problem.output_padding, strict=True)
    )
    whole = spec.replace(
        kernel_size=spec.receptive_field,
        dilation=1,
        padding=padding,
        output_padding=0,
        bias=False,
    )
    return reference(whole, of_x.astype("float64"), np.ones(whole.weight_shape))
