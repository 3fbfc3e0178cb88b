"""Mistakes that show over several calls, and with numbers that are seldom tried."""

from __future__ import annotations

import time
import weakref
from typing import Any

import numpy as np

from convspec import ConvSpecError
from convspec.dtypes import FLOAT, HALF

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
def plans_are_kept_without_the_type_of_results(call: Call) -> Array:
    """A plan is looked up by the spec, sizes and type of a call, not by its result's type."""
    key = (call.spec, call.x.shape, call.dtype)
    return right(call.but(out_dtype=call.memory.setdefault(key, call.out)))


@fault
def plans_are_kept_without_the_types(call: Call) -> Array:
    """A plan is looked up by spec and sizes: its results have the first call's type."""
    key = (call.spec, call.x.shape, call.output_size)
    return as_dtype(right(call), call.memory.setdefault(key, call.out))


@fault(loud=True)
def plans_are_kept_without_the_batch(call: Call) -> Array:
    """A plan is looked up by all sizes but the batch's, and cut to the first one."""
    y = right(call)
    if "N" not in call.spec.layout:
        return y
    at = call.spec.output_layout.index("N")
    rest = (*y.shape[:at], *y.shape[at + 1 :])
    key = (call.spec, rest, call.dtype, call.out)
    return y.take(range(call.memory.setdefault(key, y.shape[at])), at, mode="clip")


@fault(loud=True)
def plans_are_kept_without_the_output_padding(call: Call) -> Array:
    """A plan is looked up by all but what is added at the end of a transposed output."""
    padding = call.problem.output_padding
    key = (call.spec.replace(output_padding=0), call.x.shape, call.dtype)
    kept = call.memory.setdefault(key, padding)
    return right(call if kept == padding else call.but(output_padding=kept, output_size=None))


@fault(loud=True)
def plans_are_kept_without_the_output_size(call: Call) -> Array:
    """A plan is looked up by all but the size that is asked of a transposed convolution."""
    key = (call.spec, call.x.shape, call.dtype, call.out)
    return right(call.but(output_size=call.memory.setdefault(key, call.output_size)))


@fault(loud=True)
def repeated_calls_are_known_by_their_input(call: Call) -> Array:
    """A spec that has been called answers the next input like it without a look at the rest."""
    key = (call.spec, call.x.shape, call.dtype)
    try:
        y = right(call)
    except ConvSpecError:
        if key not in call.memory:
            raise
        return np.zeros(call.memory[key], call.out)
    call.memory[key] = y.shape
    return y


@fault
def depthwise_results_share_a_buffer(call: Call) -> Array:
    """A depthwise result is overwritten by the next one of the same shape."""
    y = right(call)
    if not 1 < call.spec.groups == call.spec.in_channels:
        return y
    kept = call.memory.setdefault((y.shape, y.dtype.name), np.empty_like(y))
    kept[...] = y
    found: Array = kept
    return found


@fault
def packed_weights_of_groups_are_kept_with_their_place(call: Call) -> Array:
    """Prepacked weights of groups are looked up by where in memory the weight lies."""
    if call.spec.groups == 1:
        return right(call)
    key = (call.w.ctypes.data, call.w.shape, call.dtype)
    return right(call.but(w=call.memory.setdefault(key, call.w.copy())))


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
def zero_weights_are_left_out(call: Call) -> Array:
    """Pruned weights are not multiplied: a NaN of the input that meets zeros alone is lost."""
    y = right(call)
    if call.dtype not in FLOAT or np.isfinite(call.x).all():
        return y
    clean = call.but(x=np.where(np.isfinite(call.x), call.x, np.zeros((), call.dtype)))
    spoils = (~np.isfinite(call.x)).astype("float64")
    meets = call.but(x=spoils, w=(call.w != 0).astype("float64"), b=None, out_dtype=None)
    return np.where(right(meets) > 0, y, right(clean))


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
    return np.where(beyond, as_dtype(np.copysign(np.inf, part), "float16"), right(call))
