"""Mistakes with transposed convolutions."""

from __future__ import annotations

import numpy as np

from ..fillings import Array, as_dtype
from .engine import Call, fault, right


@fault
def transposed_without_the_flip(call: Call) -> Array:
    """The forward kernel runs over the zero-stuffed input without being reversed."""
    if not call.spec.transposed:
        return right(call)
    return right(call.but(flip_kernel=not call.spec.flip_kernel))


@fault
def output_padding_at_the_start(call: Call) -> Array:
    """The positions that output padding gives are put before the others."""
    return right(call.starting(lambda a: a.lo - a.extra))


@fault
def output_padding_holds_zeros(call: Call) -> Array:
    """The positions that output padding gives are filled up instead of computed."""
    y = right(call).copy()
    for a in call.axes if call.spec.transposed else []:
        whole = [slice(None)] * y.ndim
        whole[call.spec.output_layout.index(a.letter)] = slice(a.out - max(a.extra, 0), None)
        y[tuple(whole)] = 0
    return y


@fault(loud=True)
def output_size_ignored(call: Call) -> Array:
    """The output has its default size, whatever was asked for."""
    y = right(call)  # refuses what is to be refused
    return y if call.output_size is None else right(call.but(output_size=None))


@fault
def output_size_found_at_the_start(call: Call) -> Array:
    """A larger output_size is made by cropping less at the start."""
    if call.output_size is None:
        return right(call)
    return right(call.starting(lambda a: a.lo - a.extra))


@fault
def transposed_shifted_by_one(call: Call) -> Array:
    """The cropping of a transposed convolution starts one position late."""
    return right(call.starting(lambda a: a.lo + 1)) if call.spec.transposed else right(call)


@fault
def transposed_lo_and_hi_swapped(call: Call) -> Array:
    """Explicit amounts are cropped from the other ends."""
    if not call.spec.transposed:
        return right(call)
    return right(call.starting(lambda a: a.lo if isinstance(a.entry, str) else a.hi))


@fault
def transposed_same_on_the_wrong_side(call: Call) -> Array:
    """SAME of a transposed convolution crops the larger half first."""
    if not call.spec.transposed:
        return right(call)
    return right(call.starting(lambda a: a.hi if a.entry == "same" else a.lo))


@fault
def transposed_same_as_half_the_kernel(call: Call) -> Array:
    """SAME of a transposed convolution crops half of the kernel first, whatever the stride."""
    if not call.spec.transposed:
        return right(call)
    return right(call.starting(lambda a: (a.e - 1) // 2 if a.entry == "same" else a.lo))


def _unreached(call: Call) -> Array:
    """Where no tap of a transposed convolution lands, in the shape of the output."""
    landed: Array = right(_ones(call, np.ones(call.w.shape))) != 0
    return ~landed


def _ones(call: Call, w: Array) -> Call:
    """The call on an input of ones, without rounding."""
    return call.but(x=np.ones(call.x.shape), w=w, b=None, out_dtype=None)


def _filled(call: Call, value: int) -> Array:
    return as_dtype(np.asarray(value), call.out)


@fault
def unreached_positions_lack_the_bias(call: Call) -> Array:
    """Positions that no tap reaches stay zero: the bias is added with the first tap."""
    if not call.spec.transposed:
        return right(call)
    return np.where(_unreached(call), _filled(call, 0), right(call))


@fault
def unreached_positions_are_stale(call: Call) -> Array:
    """Positions that no tap reaches hold what was in memory."""
    if not call.spec.transposed:
        return right(call)
    return np.where(_unreached(call), _filled(call, 1), right(call))


@fault
def overlapping_taps_overwrite(call: Call) -> Array:
    """Taps that land on the same position replace one another instead of adding up."""
    if not call.spec.transposed:
        return right(call)
    y = right(call.but(w=np.zeros_like(call.w)))
    for tap in call.but(w=np.ones(call.w.shape, bool)).terms():
        landed = right(_ones(call, tap.w.astype("float64"))) != 0
        part = np.where(tap.w, call.w, np.zeros((), call.w.dtype))
        y = np.where(landed, right(call.but(w=part)), y)
    return y


@fault
def transposed_groups_exchanged(call: Call) -> Array:
    """The weight of each group is taken from the other end."""
    spec = call.spec
    if not spec.transposed:
        return right(call)
    at = spec.weight_layout.index(spec.group_axis)
    parts = np.split(call.w, spec.groups, at)
    return right(call.but(w=np.concatenate(parts[::-1], at)))
