"""Mistakes with questions: refusing what is right, accepting what is wrong, claiming too much."""

from __future__ import annotations

import os
import threading
from math import prod
from typing import Any

import numpy as np

from convspec import ConvSpecError, ShapeError, Support, UnsupportedError
from convspec.dtypes import COMPLEX

from ..cases import Case
from ..fillings import Array
from .engine import Call, fault, right

# ---- refusing ----


@fault(loud=True)
def empty_batch_refused(call: Call) -> Array:
    """An empty batch is called a wrong shape."""
    y = right(call)
    if not y.size:
        raise ShapeError("x: axis N has size 0.")
    return y


@fault(loud=True)
def stride_with_dilation_refused(call: Call) -> Array:
    """A stride and a dilation above 1 in one call are refused, though claimed."""
    y = right(call)
    if max(call.spec.stride) > 1 and max(call.spec.dilation) > 1:
        raise UnsupportedError("stride: not together with a dilation.")
    return y


@fault(loud=True)
def claims_all_but_has_no_complex(call: Call) -> Array:
    """Complex arrays are claimed, and refused when they come."""
    y = right(call)
    if call.dtype in COMPLEX:
        raise UnsupportedError("x: complex numbers are not supported.")
    return y


@fault(loud=True)
def raises_whatever_happens(call: Call) -> Array:
    """Nothing works, and everything is claimed."""
    raise RuntimeError("could not create a primitive descriptor")


@fault(loud=True, claim=lambda case: Support(False, "none", "nothing is claimed"))
def claims_nothing(call: Call) -> Array:
    """Nothing is claimed, so that nothing can fail."""
    return right(call)


def _no_volumes(case: Case) -> Support:
    return Support(case.spec.rank < 3, "native" if case.spec.rank < 3 else "none", "no 3-D")


@fault(loud=True, claim=_no_volumes)
def volumes_unclaimed(call: Call) -> Array:
    """Three spatial axes are not claimed, though they would work."""
    return right(call)


# ---- accepting ----


def _zeros(call: Call) -> Array:
    """Numbers of some shape, as an engine gives that does not look."""
    return np.zeros(call.x.shape, call.out)


def _refused(call: Call) -> str:
    """The message with which the right engine refuses, or an empty text."""
    try:
        right(call)
    except ConvSpecError as error:
        return str(error)
    return ""


def _accepting(call: Call, *words: str) -> Array:
    """The right answer, and zeros where it is a refusal that speaks of all ``words``."""
    message = _refused(call)
    return _zeros(call) if message and all(word in message for word in words) else right(call)


@fault(loud=True)
def groups_inferred_from_channels(call: Call) -> Array:
    """Too many input channels are taken for more groups."""
    if call.x.ndim != len(call.spec.layout):
        return right(call)
    factor, rest = divmod(call.x.shape[call.spec.layout.index("C")], call.spec.in_channels)
    return right(call) if factor < 2 or rest else _zeros(call)


@fault(loud=True)
def missing_axes_are_added(call: Call) -> Array:
    """An input with one axis too many is squeezed until it fits."""
    if call.x.ndim != len(call.spec.layout) + 1 or 1 not in call.x.shape:
        return right(call)
    return right(call.but(x=call.x.reshape(call.x.shape[:-1])))


@fault(loud=True)
def a_missing_batch_axis_is_added(call: Call) -> Array:
    """A sample without its batch axis is taken for a batch of one."""
    layout = call.spec.layout
    if call.x.ndim != len(layout) - 1 or "N" not in layout:
        return right(call)
    return right(call.but(x=np.expand_dims(call.x, layout.index("N"))))


@fault(loud=True)
def types_are_promoted(call: Call) -> Array:
    """Arrays of different types are cast to the widest."""
    arrays: list[Any] = [a for a in (call.x, call.w, call.b) if a is not None]
    if len({a.dtype for a in arrays}) == 1:
        return right(call)
    return right(call.cast(np.result_type(*arrays).name))


@fault(loud=True)
def bias_is_broadcast(call: Call) -> Array:
    """A bias of any length is cut to the number of channels."""
    if call.b is None or len(call.b) == call.spec.out_channels:
        return right(call)
    return right(call.but(b=np.resize(call.b, call.spec.out_channels)))


@fault(loud=True)
def single_biases_are_broadcast(call: Call) -> Array:
    """One number as bias is added everywhere."""
    if call.b is None or call.b.size != 1:
        return right(call)
    return right(call.but(b=np.resize(call.b, call.spec.out_channels)))


@fault(loud=True)
def single_filters_are_broadcast(call: Call) -> Array:
    """A weight of one output channel serves all of them."""
    shape = call.spec.weight_shape
    if call.w.ndim != len(shape) or not all(
        m in (n, 1) for n, m in zip(shape, call.w.shape, strict=True)
    ):
        return right(call)
    return right(call.but(w=np.broadcast_to(call.w, shape)))


@fault(loud=True)
def unwanted_bias_is_added(call: Call) -> Array:
    """A bias is added although the spec says that there is none."""
    return right(call.but(bias=True) if call.b is not None else call)


@fault(loud=True)
def weights_are_cut_to_fit(call: Call) -> Array:
    """A weight with an axis too long is read as far as it is needed."""
    shape = call.spec.weight_shape
    if call.w.ndim != len(shape):
        return right(call)
    return right(call.but(w=call.w[tuple(map(slice, shape))]))


@fault(loud=True)
def weight_axes_are_squeezed(call: Call) -> Array:
    """A weight with one axis too many is reshaped."""
    shape = call.spec.weight_shape
    return right(call.but(w=call.w.reshape(shape)) if call.w.size == prod(shape) else call)


@fault(loud=True)
def empty_axes_give_something(call: Call) -> Array:
    """An axis without positions gives an output that nobody wrote."""
    return _zeros(call) if 0 in call.x.shape else right(call)


@fault(loud=True)
def large_kernels_give_something(call: Call) -> Array:
    """A kernel larger than its input gives an empty output."""
    return _accepting(call, "kernel_size:")


@fault(loud=True)
def far_reflections_are_clamped(call: Call) -> Array:
    """A reflection beyond the input's other end stops there."""
    return _accepting(call, "padding:", "'reflect'")


@fault(loud=True)
def circles_go_round_twice(call: Call) -> Array:
    """Circular padding may be larger than the input."""
    return _accepting(call, "padding:", "'circular'")


@fault(loud=True)
def overcropping_gives_something(call: Call) -> Array:
    """Cropping the whole output of a transposed convolution gives an empty one."""
    return _accepting(call, "padding:", "Crop less")


@fault(loud=True)
def lossy_results_are_given(call: Call) -> Array:
    """A real result of complex arrays is the real part."""
    if call.dtype not in COMPLEX or call.out in COMPLEX:
        return right(call)
    return right(call.but(out_dtype=None)).real.astype(call.out)


@fault(loud=True)
def impossible_output_size_is_given(call: Call) -> Array:
    """Any output_size is answered, with zeros where nothing is computed."""
    return _accepting(call, "output_size")


@fault(loud=True)
def booleans_are_numbers(call: Call) -> Array:
    """Boolean arrays are taken for integers."""
    if call.dtype != "bool":
        return right(call)
    return right(call.cast("int8"))


@fault(loud=True)
def errors_have_no_type(call: Call) -> Array:
    """Bad input is refused by a plain ValueError."""
    try:
        return right(call)
    except ConvSpecError as error:
        raise ValueError(str(error)) from None


@fault(loud=True)
def every_error_is_a_shape_error(call: Call) -> Array:
    """Types and layouts that are wrong are called wrong shapes."""
    try:
        return right(call)
    except ConvSpecError as error:
        raise ShapeError(str(error)) from None


# ---- never coming back ----


@fault(fatal=True)
def dilated_volumes_abort(call: Call) -> Array:
    """A dilated kernel on three axes ends the process."""
    if call.spec.rank == 3 and max(call.spec.dilation) > 1:
        os.abort()
    return right(call)


@fault(fatal=True)
def empty_batch_exits(call: Call) -> Array:
    """An empty batch ends the process with status 0, as if all were well."""
    if not right(call).size:
        os._exit(0)
    return right(call)


@fault(fatal=True)
def circular_padding_hangs(call: Call) -> Array:
    """Circular padding waits for a thread that never comes."""
    if call.spec.padding_mode == "circular":
        threading.Event().wait()
    return right(call)
