"""Mistakes with numbers: rounding, accumulation, wrapping, complex parts, and the bias."""

from __future__ import annotations

import numpy as np

from convspec.dtypes import COMPLEX, FLOAT, HALF, INTEGER

from ..fillings import Array, as_dtype
from .engine import Call, fault, right

# ---- accumulation and rounding ----


def _added_up(call: Call, dtype: str) -> Array:
    """The sum of all products and the bias, rounded to ``dtype`` after each addition."""
    wide = call.wide
    total = right(wide.but(w=np.zeros_like(wide.w), b=None))
    for term in wide.terms():
        total = as_dtype(as_dtype(total + right(term), dtype), total.dtype.name)
    zero = right(wide.but(w=np.zeros_like(wide.w)))  # the bias alone
    return as_dtype(as_dtype(total + zero, dtype), call.out)


@fault
def float16_accumulates(call: Call) -> Array:
    """float16 sums are rounded to float16 at every step."""
    return _added_up(call, "float16") if call.dtype == call.out == "float16" else right(call)


@fault
def bfloat16_accumulates(call: Call) -> Array:
    """bfloat16 sums are rounded to bfloat16 at every step."""
    return _added_up(call, "bfloat16") if call.dtype == call.out == "bfloat16" else right(call)


@fault
def half_sums_in_two_parts(call: Call) -> Array:
    """Each half of a sum of half type is rounded before the two are added."""
    if call.dtype not in HALF or call.out != call.dtype:
        return right(call)
    terms = [term.w for term in call.terms()]
    first = np.sum([w.astype("float32") for w in terms[: len(terms) // 2]], 0)
    if len(terms) < 2:
        return right(call)
    first = as_dtype(first, call.dtype)
    rest = np.where(first != 0, np.zeros((), call.w.dtype), call.w)
    a, b = right(call.but(w=first, b=None)), right(call.but(w=rest))
    return as_dtype(a.astype("float32") + b.astype("float32"), call.out)


@fault
def bias_added_after_rounding(call: Call) -> Array:
    """A sum of half type is rounded, and rounded again after the bias."""
    if call.b is None or call.out not in HALF:
        return right(call)
    y = right(call.but(b=None))
    zero = right(call.but(w=np.zeros_like(call.w)))
    return as_dtype(y.astype("float32") + zero.astype("float32"), call.out)


@fault
def bfloat16_truncated(call: Call) -> Array:
    """A float32 sum becomes bfloat16 by cutting off its lower half."""
    if call.out != "bfloat16" or call.dtype not in HALF:
        return right(call)
    y = right(call.but(out_dtype="float32"))
    return as_dtype((y.view("uint32") & 0xFFFF0000).view("float32"), "bfloat16")


@fault
def tensor_float_32(call: Call) -> Array:
    """float32 factors are rounded to TF32's ten bits."""
    if call.dtype != "float32":
        return right(call)

    def rounded(a: Array) -> Array:
        bits = np.ascontiguousarray(a).view("uint32")
        return ((bits + np.uint32(0x1000)) & np.uint32(0xFFFFE000)).view("float32")

    return right(call.but(x=rounded(call.x), w=rounded(call.w)))


@fault
def float32_in_bfloat16(call: Call) -> Array:
    """float32 factors are rounded to bfloat16, as fast-math modes do."""
    if call.dtype != "float32":
        return right(call)
    return right(call.cast("bfloat16").cast("float32").but(out_dtype=call.out_dtype))


@fault
def float64_in_float32(call: Call) -> Array:
    """float64 is computed in float32."""
    if call.dtype != "float64":
        return right(call)
    return right(call.cast("float32")).astype(call.out)


@fault
def complex128_in_complex64(call: Call) -> Array:
    """complex128 is computed in complex64."""
    if call.dtype != "complex128":
        return right(call)
    return right(call.cast("complex64")).astype(call.out)


@fault
def float_widened_after_rounding(call: Call) -> Array:
    """A wider float result is computed in the input's type and cast."""
    if call.dtype not in HALF + FLOAT:
        return right(call)
    return as_dtype(right(call.but(out_dtype=None)), call.out)


# ---- integers ----


@fault
def integers_saturate(call: Call) -> Array:
    """Integer sums stop at the type's limits instead of wrapping."""
    if call.out not in INTEGER:
        return right(call)
    limits = np.iinfo(call.out)
    y = right(call.cast("float64"))
    clipped = np.where(y < limits.min, limits.min, np.where(y > limits.max, limits.max, 0))
    return np.where((y < limits.min) | (y > limits.max), clipped.astype(call.out), right(call))


@fault
def integers_widened_after_wrapping(call: Call) -> Array:
    """A wider integer result is computed in the input's type and cast."""
    if call.dtype not in INTEGER:
        return right(call)
    return as_dtype(right(call.but(out_dtype=None)), call.out)


@fault
def bytes_in_float32(call: Call) -> Array:
    """8-bit integers are summed in float32, which loses units beyond 2**24."""
    if call.dtype not in ("int8", "uint8") or call.out not in INTEGER:
        return right(call)
    return right(call.cast("float32")).astype("int64").astype(call.out)


@fault
def integers_in_float64(call: Call) -> Array:
    """Integers are summed in float64, which loses units beyond 2**53."""
    if call.out not in INTEGER:
        return right(call)
    y = right(call.cast("float64"))
    limit = 2.0**63
    return np.where(np.abs(y) < limit, y, 0).astype("int64").astype(call.out)


@fault
def unsigned_read_as_signed(call: Call) -> Array:
    """uint8 goes through an int8 kernel."""
    if call.dtype != "uint8":
        return right(call)
    b = None if call.b is None else call.b.view("int8")
    signed = call.but(x=call.x.view("int8"), w=call.w.view("int8"), b=b, out_dtype=call.out)
    return right(signed)


# ---- complex numbers ----


@fault
def complex_kernel_conjugated(call: Call) -> Array:
    """The kernel is conjugated, as a correlation of signal processing would have it."""
    return right(call.but(w=call.w.conj())) if call.dtype in COMPLEX else right(call)


@fault
def transposed_kernel_conjugated(call: Call) -> Array:
    """A transposed convolution is the Hermitian adjoint instead of the transpose."""
    if call.dtype not in COMPLEX or not call.spec.transposed:
        return right(call)
    return right(call.but(w=call.w.conj()))


@fault
def imaginary_part_dropped(call: Call) -> Array:
    """Complex weights lose their imaginary part."""
    if call.dtype not in COMPLEX:
        return right(call)
    return right(call.but(w=call.w.real.astype(call.dtype)))


# ---- the result's type ----


@fault
def half_result_left_in_float32(call: Call) -> Array:
    """A half-type result comes in the accumulator's type."""
    return right(call.but(out_dtype="float32")) if call.out in HALF else right(call)


@fault
def out_dtype_ignored(call: Call) -> Array:
    """The result has the input's type, whatever was asked for."""
    return right(call.but(out_dtype=None))


# ---- bias ----


@fault
def bias_dropped(call: Call) -> Array:
    """The bias is not added."""
    return right(call.but(b=None))


@fault
def bias_dropped_when_grouped(call: Call) -> Array:
    """The bias is not added where there are groups."""
    return right(call.but(b=None)) if call.spec.groups > 1 else right(call)


@fault
def bias_added_twice(call: Call) -> Array:
    """The bias goes into the kernel and is added again afterwards."""
    return right(call) if call.b is None else right(call.but(b=call.b + call.b))


@fault
def bias_added_per_group(call: Call) -> Array:
    """Every group gets the first group's bias."""
    if call.b is None:
        return right(call)
    g = call.spec.groups
    return right(call.but(b=np.tile(call.b[: len(call.b) // g], g)))


@fault
def bias_along_the_last_axis(call: Call) -> Array:
    """The bias is broadcast along the last axis where its length fits, whichever axis that is."""
    y = right(call.but(b=None))
    if call.b is None or y.shape[-1:] != call.b.shape:
        return right(call)
    with np.errstate(over="ignore"):
        return as_dtype(y + as_dtype(call.b, call.out), call.out)


@fault
def first_bias_for_all(call: Call) -> Array:
    """Every output channel gets the first channel's bias: a stride of 0 in the bias's memory."""
    if call.b is None:
        return right(call)
    return right(call.but(b=np.repeat(call.b[:1], len(call.b))))
