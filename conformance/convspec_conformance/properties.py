"""What must hold of any convolution, whatever the numbers: no oracle is needed.

Each property gives two arrays that must be equal, both computed by the target alone, on integer
data whose sums are exact.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from convspec import ConvSpec, Support, UnsupportedError, convert_layout
from convspec.dtypes import COMPLEX, FLOAT, HALF

from . import fillings
from .cases import Case
from .fillings import Array
from .targets import Target

Sides = tuple[Array, Array]


class Claimed:
    """A target whose claims are asked before each call that is not the case's own.

    A property asks for related convolutions, too: of other padding, in other orders, transposed.
    """

    def __init__(self, case: Case, target: Target) -> None:
        self.case = case
        self.target = target
        self.name = target.name

    def claims(self, case: Case) -> Support:
        return self.target.claims(case)

    def run(self, spec: ConvSpec, x: Array, w: Array, b: Array | None, **options: Any) -> Array:
        if (spec, x.shape) != (self.case.spec, self.case.input_shape):
            asked = {"output_size": None, "out_dtype": None} | options
            claim = self.claims(
                replace(self.case, judge="exact", spec=spec, input_shape=x.shape, **asked)
            )
            if not claim:
                raise UnsupportedError(claim.reason)
        return self.target.run(spec, x, w, b, **options)


def applies(case: Case) -> bool:
    """Whether the property that is a case's judge says anything about it."""
    spec = case.spec
    if case.dtype in HALF or case.out_dtype is not None or 0 in case.input_shape:
        return False
    named = any(isinstance(entry, str) for entry in spec.padding)
    return {
        "linearity": not spec.bias,
        "shift": not named and spec.padding_mode == "zeros" and min(_space(case)) > 1,
        "groups": spec.groups > 1,
        "dilation": any(d > 1 for d in spec.dilation)
        and not any(spec.output_padding)
        and "M" not in spec.weight_layout,
        "stride": not spec.transposed and not named and any(s > 1 for s in spec.stride),
        "layout": True,
        "adjoint": case.dtype in FLOAT + COMPLEX  # sums modulo 2**bits are not compared here
        and spec.padding_mode == "zeros"
        and case.output_size is None
        and not spec.bias,
        "batch": "N" in spec.layout and case.input_shape[spec.layout.index("N")] > 1,
    }[case.judge]


def _space(case: Case) -> list[int]:
    shape = case.spec.output_shape(case.input_shape, case.output_size)
    return [n for n, c in zip(shape, case.spec.output_layout, strict=True) if c not in "NC"]


def _run(
    case: Case, target: Target, spec: ConvSpec, x: Array, w: Array, b: Array | None = None
) -> Array:
    return target.run(spec, x, w, b, output_size=case.output_size, out_dtype=case.out_dtype)


def linearity(case: Case, target: Target) -> Sides:
    """f(u + v) = f(u) + f(v)."""
    x, w, _ = fillings.arrays(case)
    u = np.where(np.random.default_rng(case.seed).random(x.shape) < 0.5, x, np.zeros((), x.dtype))
    whole = _run(case, target, case.spec, x, w)
    return whole, _run(case, target, case.spec, u, w) + _run(case, target, case.spec, x - u, w)


def shift(case: Case, target: Target) -> Sides:
    """One step less of padding at the start is the same output without its first position."""
    spec = case.spec
    x, w, b = fillings.arrays(case)
    step = [1] * spec.rank if spec.transposed else [-s for s in spec.stride]
    amounts: Any = spec.padding  # pairs: see applies()
    padding = tuple((lo + s, hi) for (lo, hi), s in zip(amounts, step, strict=True))
    whole = _run(case, target, spec, x, w, b)
    rest = tuple(slice(None) if c in "NC" else slice(1, None) for c in spec.output_layout)
    moved = target.run(
        spec.replace(padding=padding),
        x,
        w,
        b,
        output_size=None
        if case.output_size is None
        else tuple(size - 1 for size in case.output_size),
        out_dtype=case.out_dtype,
    )
    return moved, whole[rest]


def groups(case: Case, target: Target) -> Sides:
    """The groups apart, end to end along the channels."""
    spec, g = case.spec, case.spec.groups
    x, w, b = fillings.arrays(case)
    layout = spec.weight_layout.replace("M", "O")
    one = spec.replace(
        in_channels=spec.in_channels // g,
        out_channels=spec.out_channels // g,
        groups=1,
        weight_layout=layout,
        group_axis="O",
    )
    xs = np.split(x, g, spec.layout.index("C"))
    ws = np.split(w, g, layout.index(spec.group_axis))
    bs = [None] * g if b is None else np.split(b, g)
    parts = [_run(case, target, one, *part) for part in zip(xs, ws, bs, strict=True)]
    return _run(case, target, spec, x, w, b), np.concatenate(parts, spec.output_layout.index("C"))


def dilation(case: Case, target: Target) -> Sides:
    """The kernel with zeros in between, not dilated."""
    spec = case.spec
    x, w, b = fillings.arrays(case)
    sizes = dict(zip(spec.spatial, spec.receptive_field, strict=True))
    steps = dict(zip(spec.spatial, spec.dilation, strict=True))
    shape = [sizes.get(c, n) for c, n in zip(spec.weight_layout, w.shape, strict=True)]
    stuffed = np.zeros(shape, w.dtype)
    stuffed[tuple(slice(None, None, steps.get(c)) for c in spec.weight_layout)] = w
    plain = spec.replace(kernel_size=spec.receptive_field, dilation=1)
    return _run(case, target, spec, x, w, b), _run(case, target, plain, x, stuffed, b)


def stride(case: Case, target: Target) -> Sides:
    """Every s-th position of the dense output."""
    spec = case.spec
    x, w, b = fillings.arrays(case)
    steps = dict(zip(spec.spatial, spec.stride, strict=True))
    dense = _run(case, target, spec.replace(stride=1), x, w, b)
    every = tuple(slice(None, None, steps.get(c)) for c in spec.output_layout)
    return _run(case, target, spec, x, w, b), dense[every]


def layout(case: Case, target: Target) -> Sides:
    """The same convolution in other orders of the data, the output and the weight."""
    spec = case.spec
    x, w, b = fillings.arrays(case)
    letters = spec.layout[::-1]
    order = spec.weight_layout if "M" in spec.weight_layout else spec.weight_layout[::-1]
    turned = {"layout": letters, "output_layout": spec.layout}
    other = spec.replace(**turned, weight_layout=order, group_axis=spec.group_axis)
    moved = spec.convert_weight(w, other)
    size = case.output_size if case.output_size is None else case.output_size[::-1]
    there = target.run(
        other,
        convert_layout(x, spec.layout, letters),
        moved,
        b,
        output_size=size,
        out_dtype=case.out_dtype,
    )
    here = _run(case, target, spec, x, w, b)
    return here, convert_layout(there, spec.layout, spec.output_layout)


def adjoint(case: Case, target: Target) -> Sides:
    """<A x, y> = <x, A' y>, both sides computed by the target, summed here without rounding."""
    spec = case.spec
    x, w, _ = fillings.arrays(case)
    back = spec.adjoint(case.input_shape)
    out_shape = spec.output_shape(case.input_shape)
    rng = np.random.default_rng(case.seed)
    y = rng.integers(-1, 2, out_shape) * (rng.random(out_shape) < 0.3)
    y = fillings.as_dtype(y, case.dtype)
    there = target.run(spec, x, w, None).astype("complex128")
    here = target.run(back, y, w, None).astype("complex128")
    left = np.asarray((there * y.astype("complex128")).sum())
    return left, np.asarray((here * x.astype("complex128")).sum())


def batch(case: Case, target: Target) -> Sides:
    """Each sample alone, end to end along the batch."""
    spec = case.spec
    x, w, b = fillings.arrays(case)
    at = spec.layout.index("N")
    parts = [_run(case, target, spec, x.take([i], at), w, b) for i in range(x.shape[at])]
    whole = _run(case, target, spec, x, w, b)
    return whole, np.concatenate(parts, spec.output_layout.index("N"))


PROPERTIES: dict[str, Callable[[Case, Target], Sides]] = {
    "linearity": linearity,
    "shift": shift,
    "groups": groups,
    "dilation": dilation,
    "stride": stride,
    "layout": layout,
    "adjoint": adjoint,
    "batch": batch,
}
