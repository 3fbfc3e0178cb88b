"""Mistakes with padding: the named amounts, the explicit ones, and what the modes read."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..fillings import Array
from .engine import Axis, Call, fault, right

# ---- named amounts of a forward convolution ----


def _named(call: Call, name: str, start: Callable[[Axis], int]) -> Array:
    """Axes padded by ``name`` start elsewhere; transposed ones are another file's."""
    if call.spec.transposed:
        return right(call)
    return right(call.starting(lambda a: start(a) if a.entry == name else a.lo))


@fault
def same_as_same_lower(call: Call) -> Array:
    """SAME puts the larger half first."""
    return _named(call, "same", lambda a: a.hi)


@fault
def same_lower_as_same(call: Call) -> Array:
    """SAME_LOWER puts the larger half last: the name is not known to the kernel."""
    return _named(call, "same_lower", lambda a: a.hi)


@fault
def same_as_half_the_kernel(call: Call) -> Array:
    """SAME pads k // 2 on both sides, whatever the stride and the size."""
    return _named(call, "same", lambda a: a.k // 2)


@fault
def same_swapped_at_stride(call: Call) -> Array:
    """SAME puts the larger half first at strides above 1."""
    return _named(call, "same", lambda a: a.hi if a.s > 1 else a.lo)


@fault
def same_ignores_dilation(call: Call) -> Array:
    """SAME takes half of what the kernel without its dilation would need."""
    return _named(call, "same", lambda a: max((a.out - 1) * a.s + a.k - a.n, 0) // 2)


@fault
def same_ignores_stride(call: Call) -> Array:
    """SAME starts at half the kernel's extent, as at stride 1."""
    return _named(call, "same", lambda a: (a.e - 1) // 2)


@fault
def causal_on_the_wrong_side(call: Call) -> Array:
    """Causal padding is put at the end: outputs see the future."""
    return right(call.starting(lambda a: a.hi if _causal(call, a) else a.lo))


@fault
def causal_ignores_dilation(call: Call) -> Array:
    """Causal padding is k - 1 at the start, and the rest at the end."""
    return right(call.starting(lambda a: a.k - 1 if _causal(call, a) else a.lo))


def _causal(call: Call, a: Axis) -> bool:
    """A spec stores "causal" as its pair."""
    return not call.spec.transposed and a.e > 1 and a.entry == (a.e - 1, 0)


# ---- explicit amounts ----


def _pairs(call: Call, start: Callable[[Axis], int]) -> Array:
    if call.spec.transposed:
        return right(call)
    return right(call.starting(lambda a: a.lo if isinstance(a.entry, str) else start(a)))


@fault
def padding_of_the_wrong_axis(call: Call) -> Array:
    """The amounts are taken from the last axis to the first."""
    starts = dict(zip(call.spec.spatial, [a.lo for a in reversed(call.axes)], strict=True))
    return _pairs(call, lambda a: starts[a.letter])


@fault
def padding_lo_and_hi_swapped(call: Call) -> Array:
    """The amount at the end is put at the start."""
    return _pairs(call, lambda a: a.hi)


@fault
def padding_made_symmetric(call: Call) -> Array:
    """Both sides get half of the total."""
    return _pairs(call, lambda a: (a.lo + a.hi) // 2)


@fault
def negative_padding_ignored(call: Call) -> Array:
    """An input that is to be cropped is read from its first element."""
    return _pairs(call, lambda a: max(a.lo, 0))


@fault
def negative_padding_made_positive(call: Call) -> Array:
    """A crop at the start is taken for as much padding."""
    return _pairs(call, lambda a: abs(a.lo))


@fault
def zero_padding_is_the_edge(call: Call) -> Array:
    """Zero padding repeats the edge instead."""
    if call.spec.transposed or call.spec.padding_mode != "zeros":
        return right(call)
    return right(call.reading(_nearest))


# ---- modes ----


def _nearest(p: int, a: Axis) -> int:
    return min(max(p, 0), a.n - 1)


def _read(p: int, a: Axis, mode: str) -> int | None:
    """The rule of DESIGN section 3."""
    if 0 <= p < a.n:
        return p
    if mode == "reflect":
        return -p if p < 0 else 2 * (a.n - 1) - p
    if mode == "circular":
        return p % a.n
    return _nearest(p, a) if mode == "replicate" else None


def _mode(call: Call, mode: str, read: Callable[[int, Axis], int | None]) -> Array:
    return right(call.reading(read) if call.spec.padding_mode == mode else call)


@fault
def reflect_repeats_the_edge(call: Call) -> Array:
    """Reflection includes the edge, as NumPy's "symmetric" does."""
    return _mode(call, "reflect", lambda p, a: -p - 1 if p < 0 else min(p, 2 * a.n - 1 - p))


@fault
def reflect_as_replicate(call: Call) -> Array:
    """Reflection repeats the edge instead."""
    return _mode(call, "reflect", _nearest)


@fault
def reflect_only_at_the_start(call: Call) -> Array:
    """Reflection at the end repeats the edge."""
    return _mode(call, "reflect", lambda p, a: -p if p < 0 else _nearest(p, a))


@fault
def replicate_as_reflect(call: Call) -> Array:
    """The edge is reflected instead of repeated, where the input is large enough."""
    return _mode(call, "replicate", lambda p, a: min(max(_read(p, a, "reflect") or 0, 0), a.n - 1))


@fault
def replicate_as_zeros(call: Call) -> Array:
    """An unknown mode is taken for zeros."""
    return _mode(call, "replicate", lambda p, a: _read(p, a, "zeros"))


@fault
def circular_off_by_one(call: Call) -> Array:
    """Circular padding leaves out the last element on its way round."""
    return _mode(call, "circular", lambda p, a: (p - 1) % a.n if p < 0 else p % a.n)


@fault
def circular_as_reflect(call: Call) -> Array:
    """Circular padding at the start is reversed."""
    return _mode(call, "circular", lambda p, a: (-p - 1) % a.n if p < 0 else p % a.n)


@fault
def only_the_last_axis_has_a_mode(call: Call) -> Array:
    """The other axes of a padding mode are padded by zeros."""
    mode, last = call.spec.padding_mode, call.spec.spatial[-1]
    if mode == "zeros":
        return right(call)
    return right(call.reading(lambda p, a: _read(p, a, mode if a.letter == last else "zeros")))


@fault
def cropped_before_reflecting(call: Call) -> Array:
    """A reflection reads the input that the other side's crop has left."""
    if call.spec.padding_mode != "reflect":
        return right(call)

    def read(p: int, a: Axis) -> int:
        first, last = max(-a.lo, 0), a.n - 1 - max(-a.hi, 0)
        if p < first:
            p = 2 * first - p
        if p > last:
            p = 2 * last - p
        return int(np.clip(p, 0, a.n - 1))

    return right(call.reading(read))


@fault
def corners_are_zero(call: Call) -> Array:
    """Each axis of a padding mode is padded on its own, and what lies beyond two edges is zero."""
    spec, mode = call.spec, call.spec.padding_mode
    if mode == "zeros" or spec.rank == 1:
        return right(call)
    padded = call.reading(lambda p, a: _read(p, a, mode))
    beyond = np.zeros(padded.x.shape, int)
    for a in call.axes:
        at = spec.layout.index(a.letter)
        outside = [not 0 <= p < a.n for p in range(-a.lo, a.n + a.hi)]
        beyond = beyond + np.expand_dims(outside, tuple(i for i in range(beyond.ndim) if i != at))
    return right(padded.but(x=np.where(beyond > 1, np.zeros((), call.x.dtype), padded.x)))
