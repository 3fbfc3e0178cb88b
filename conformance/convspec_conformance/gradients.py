"""Gradients, first and second, against the adjoint by its definition.

With y = conv(x, w) + b, a gradient is what ``<g, y>`` changes by: dx by the input, dw by the
weight, db by the bias. The second ones are those of ``<u, dx>`` by w and g, and of ``<v, dw>`` by x
and g; as dx does not depend on x nor dw on w, they are

    d<u, dx>/dw = the weight's gradient at u      d<u, dx>/dg = conv(u, w)
    d<v, dw>/dx = the input's gradient at v       d<v, dw>/dg = conv(x, v)

Nothing is conjugated: the products are bilinear, of complex numbers too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

import numpy as np

from convspec import UnsupportedError, bounds
from convspec.dtypes import COMPLEX, INTEGER, accumulator

from . import fillings, oracles
from .cases import Case
from .fillings import Array, Tangents
from .targets import Differentiable, Target

#: What is judged beside gradients: the result itself while they are recorded.
RECORDED = "g times the result while gradients are recorded"

Rule = Callable[[Case, Tangents], dict[str, Array]]


@dataclass(frozen=True)
class Gradient:
    """One gradient of a case.

    Attributes:
        name: by what, and of what.
        got: what the target gave, None if nothing.
        exact: what it should be, in a wide type.
        dtype: the type that it should have.
        terms: of each element, how many products it sums up.
        sums: of each element, the sum of the products' magnitudes.
    """

    name: str
    got: Any
    exact: Array
    dtype: str
    terms: Array
    sums: Array

    @property
    def rounded(self) -> Array:
        """What it should be, in the type that it should have."""
        wide = "complex128" if self.dtype in COMPLEX else "float64"
        return fillings.as_dtype(self.exact.astype(wide), self.dtype)

    def bound(self, case: Case) -> Array:
        """How far each element may be off."""
        summed = accumulator(case.dtype, case.out_dtype or case.dtype)
        limit: Array = bounds.of_sums(self.terms, self.sums, self.exact, summed, self.dtype)
        return limit


def applies(case: Case) -> bool:
    """Whether there are gradients: of real or of complex numbers throughout."""
    types = {case.dtype, case.out_dtype or case.dtype}
    return not types & set(INTEGER) and len({dtype in COMPLEX for dtype in types}) == 1


def computed(case: Case, target: Target) -> Iterator[Gradient]:
    """The gradients of a case, as the target computes them and as they should be.

    Where the second ones are asked for, the first come before them: of the same kernels, at little
    cost more, and each array's by itself where the target has them so.

    Raises:
        UnsupportedError: the target has no such gradients.
    """
    t = fillings.tangents(case)
    options: dict[str, Any] = {"output_size": case.output_size, "out_dtype": case.out_dtype}
    second = case.judge == "gradient2"
    for method in ("gradients", "second_gradients")[: 1 + second]:
        if not hasattr(target, method):
            raise UnsupportedError(f"{method}: {target.name} offers none.")
    engine = cast(Differentiable, target)
    first = engine.gradients
    if second:
        first = getattr(target, "gradients_apart", first)
    got = first(case.spec, t.x, t.w, t.b, t.g, **options)
    count = 2 if t.b is None else 3
    yield from _compared(case, _first, got[:count])
    if got[count:] and case.filling == "small":  # of which y is exact in every type
        yield from _compared(case, _recorded, got[count:])
    if second:
        got = engine.second_gradients(case.spec, t.x, t.w, t.g, t.u, t.v, **options)
        yield from _compared(case, _second, got)


def _compared(case: Case, rule: Rule, got: Sequence[Any]) -> Iterator[Gradient]:
    out = case.out_dtype or case.dtype
    exact, sums, terms = _expected(case, rule)
    for (name, value), given in zip(exact.items(), got, strict=True):
        dtype = out if name.endswith("by g") or name == RECORDED else case.dtype
        yield Gradient(name, given, value, dtype, terms[name], sums[name])


@lru_cache(maxsize=fillings.KEPT)
def _expected(case: Case, rule: Rule) -> tuple[dict[str, Array], ...]:
    """What a rule gives: exactly, of magnitudes, and of ones, which counts the products."""
    t = fillings.tangents(case)
    return tuple(rule(case, _each(t, change)) for change in (_same, np.abs, _ones))


def _first(case: Case, t: Tangents) -> dict[str, Array]:
    dx, dw, db = oracles.gradients(case.spec, t.x, t.w, t.g, output_size=case.output_size)
    found = {"the gradient by x": dx, "the gradient by the weight": dw}
    return found if t.b is None else {**found, "the gradient by the bias": db}


def _recorded(case: Case, t: Tangents) -> dict[str, Array]:
    y = oracles.windows(case.spec, t.x, t.w, t.b, output_size=case.output_size)
    return {RECORDED: t.g.astype(y.dtype) * y}


def _second(case: Case, t: Tangents) -> dict[str, Array]:
    spec, size = case.spec, case.output_size
    dx, dw, _ = oracles.gradients(spec, t.u, t.v, t.g, output_size=size)
    return {
        "the gradient of <u, dx> by the weight": dw,
        "the gradient of <u, dx> by g": oracles.windows(spec, t.u, t.w, output_size=size),
        "the gradient of <v, dw> by x": dx,
        "the gradient of <v, dw> by g": oracles.windows(spec, t.x, t.v, output_size=size),
    }


def _each(t: Tangents, change: Any) -> Tangents:
    b = None if t.b is None else change(t.b)
    return Tangents(change(t.x), change(t.w), b, change(t.g), change(t.u), change(t.v))


def _same(array: Array) -> Array:
    return array


def _ones(array: Array) -> Array:
    return np.ones(array.shape)
