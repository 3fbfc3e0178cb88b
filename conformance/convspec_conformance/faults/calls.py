"""Mistakes that show over several calls, and with numbers that are seldom tried."""

from __future__ import annotations

import time
import weakref
from typing import Any

import numpy as np

from convspec.dtypes import HALF

from ..fillings import Array, as_dtype
from .engine import Call, fault, right

#: The largest number of float16, and its smallest that is normal.
LARGEST, NORMAL = 65504.0, 2.0**-14

# ---- between calls ----


@fault
def packed_weights_are_kept_with_their_array(call: Call) -> Array:
    """Prepacked weights are looked up by the array they were made of, which has changed since."""
    kept = call.memory.get(id(call.w))
    if kept is None or kept[0]() is not call.w:  # another array of the same address
        kept = call.memory[id(call.w)] = weakref.ref(call.w), call.w.copy()
    return right(call.but(w=kept[1]))


@fault
def plans_are_kept_without_the_dilation(call: Call) -> Array:
    """A plan is looked up by all that there is to a call but its dilation."""
    key = (call.spec.replace(dilation=1), call.x.shape, call.dtype)
    return right(call.but(dilation=call.memory.setdefault(key, call.spec.dilation)))


@fault
def plans_are_kept_without_the_bias(call: Call) -> Array:
    """A plan is looked up by the spec but for its bias: one without serves calls that have one."""
    key = (call.spec.replace(bias=True), call.x.shape, call.dtype)
    kept = call.memory.setdefault(key, call.b is not None)
    return right(call if kept else call.but(b=None))


@fault
def scratch_memory_is_shared_by_threads(call: Call) -> Array:
    """The input is packed into memory that all threads share."""
    key = (call.x.shape, call.dtype)
    call.memory[key] = call.x
    time.sleep(0.0005)
    return right(call.but(x=call.memory[key]))


# ---- NaN and infinities ----


@fault
def nan_is_taken_for_zero(call: Call) -> Array:
    """A NaN of the input is taken for a missing number, and left out."""
    return right(call.but(x=np.where(np.isnan(call.x), np.zeros((), call.x.dtype), call.x)))


@fault
def groups_in_one_dense_kernel(call: Call) -> Array:
    """Groups are one kernel with zeros between them, which a NaN of another group meets."""
    spec = call.spec
    if spec.groups == 1:
        return right(call)
    order = spec.weight_layout.replace("M", "O")
    one = call.but(groups=1, weight_layout=order, group_axis="O", b=None)
    return _plus(call, one.but(w=np.zeros(one.spec.weight_shape, call.w.dtype)))


@fault
def stride_by_a_dense_matrix(call: Call) -> Array:
    """Each row of the output is a product with a matrix of the whole row, most of it zeros."""
    if call.spec.transposed or np.isfinite(call.x).all():
        return right(call)
    at = call.spec.layout.index(call.spec.spatial[-1])
    spoils = np.where(np.isfinite(call.x), np.zeros((), call.x.dtype), call.x).sum(
        at, keepdims=True
    )
    x = call.x + (spoils * np.zeros((), call.x.dtype)).astype(call.x.dtype)
    return right(call.but(x=x))


def _plus(call: Call, other: Call) -> Array:
    y = right(call)
    return as_dtype(y + right(other).astype(y.dtype), call.out)


# ---- the ends of a type's range ----


@fault
def small_halves_are_zero(call: Call) -> Array:
    """float16 numbers below the normal ones are taken for zero when they are read."""
    if call.dtype != "float16":
        return right(call)
    small = np.abs(call.x.astype("float32")) < NORMAL
    return right(call.but(x=np.where(small, np.zeros((), call.x.dtype), call.x)))


@fault
def small_half_results_are_zero(call: Call) -> Array:
    """float16 results below the normal ones are flushed to zero."""
    y = right(call)
    if call.out != "float16":
        return y
    return np.where(np.abs(y.astype("float32")) < NORMAL, np.zeros((), y.dtype), y)


@fault
def halves_stop_at_the_largest(call: Call) -> Array:
    """Sums beyond float16's range become its largest number instead of infinity."""
    if call.out != "float16" or call.dtype not in HALF:
        return right(call)
    y = right(call.but(out_dtype="float32"))
    return as_dtype(np.clip(y, -LARGEST, LARGEST), "float16")


@fault
def half_sums_overflow_on_the_way(call: Call) -> Array:
    """A partial sum beyond float16's range is infinite, though the rest would bring it back."""
    terms: list[Any] = list(call.terms()) if call.dtype == call.out == "float16" else []
    if len(terms) < 2:
        return right(call)
    first = np.sum([term.w.astype("float32") for term in terms[: len(terms) // 2]], 0)
    part = right(call.but(w=as_dtype(first, "float16"), b=None, out_dtype="float32"))
    beyond = (np.abs(part) > LARGEST) & np.isfinite(part)
    return np.where(beyond, as_dtype(np.sign(part) * np.inf, "float16"), right(call))
