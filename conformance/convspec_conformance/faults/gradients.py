"""Mistakes with gradients: right forwards, wrong backwards."""

from __future__ import annotations

import numpy as np

from convspec.dtypes import COMPLEX, HALF

from ..fillings import Array, as_dtype
from .engine import Call, Gradients, gradient_fault, right_gradients

# ---- by the input ----


@gradient_fault
def input_gradient_without_the_flip(call: Call, g: Array) -> Gradients:
    """The kernel of the input's gradient is not turned round."""
    _, dw, db = right_gradients(call, g)
    turned = call.but(flip_kernel=not call.spec.flip_kernel)
    return right_gradients(turned, g)[0], dw, db


@gradient_fault
def input_gradient_knows_no_padding_mode(call: Call, g: Array) -> Gradients:
    """What was read beyond the edge is not added to where it was read from."""
    _, dw, db = right_gradients(call, g)
    return right_gradients(call.but(padding_mode="zeros"), g)[0], dw, db


@gradient_fault
def input_gradient_of_the_other_half(call: Call, g: Array) -> Gradients:
    """The input's gradient is padded where the forward pass cropped: lo and hi are exchanged."""
    _, dw, db = right_gradients(call, g)
    return right_gradients(call.starting(lambda a: a.hi - a.extra), g)[0], dw, db


@gradient_fault
def input_gradient_stale_behind_the_last_window(call: Call, g: Array) -> Gradients:
    """Elements that no window reads hold what was in memory."""
    dx, dw, db = right_gradients(call, g)
    ones = call.but(x=np.ones(call.x.shape), w=np.ones(call.w.shape), b=None, out_dtype=None)
    unread = right_gradients(ones, np.ones(g.shape))[0] == 0
    return np.where(unread, as_dtype(np.ones(()), call.dtype), dx), dw, db


@gradient_fault
def input_gradient_of_the_first_group(call: Call, g: Array) -> Gradients:
    """All groups' input gradients are made with the first group's weights."""
    dx, dw, db = right_gradients(call, g)
    spec = call.spec
    if "M" in spec.weight_layout:
        return dx, dw, db
    at = spec.weight_layout.index(spec.group_axis)
    w = np.concatenate([np.split(call.w, spec.groups, at)[0]] * spec.groups, at)
    return right_gradients(call.but(w=w), g)[0], dw, db


# ---- by the weight ----


@gradient_fault
def weight_gradient_without_the_group_split(call: Call, g: Array) -> Gradients:
    """Every group's weight gradient is made with the first group's inputs."""
    dx, _, db = right_gradients(call, g)
    at = call.spec.layout.index("C")
    parts = np.split(call.x, call.spec.groups, at)
    x = np.concatenate([parts[0]] * call.spec.groups, at)
    return dx, right_gradients(call.but(x=x), g)[1], db


@gradient_fault
def weight_gradient_of_the_last_sample(call: Call, g: Array) -> Gradients:
    """Samples replace one another's weight gradient instead of adding up."""
    dx, dw, db = right_gradients(call, g)
    if "N" not in call.spec.layout or not g.size:
        return dx, dw, db
    last = call.but(x=call.x.take([-1], call.spec.layout.index("N")))
    return dx, right_gradients(last, g.take([-1], call.spec.output_layout.index("N")))[1], db


@gradient_fault
def weight_gradient_left_flipped(call: Call, g: Array) -> Gradients:
    """The gradient of a kernel that is flipped comes in the order of the flipped one."""
    dx, dw, db = right_gradients(call, g)
    if not call.spec.flip_kernel:
        return dx, dw, db
    axes = tuple(call.spec.weight_layout.index(letter) for letter in call.spec.spatial)
    return dx, np.flip(dw, axes), db


@gradient_fault
def weight_gradient_reshaped_not_permuted(call: Call, g: Array) -> Gradients:
    """The weight's gradient is brought from OI order into the weight's by reshape."""
    dx, dw, db = right_gradients(call, g)
    layout = call.spec.weight_layout.replace("M", "O")
    order = [layout.index(letter) for letter in "OI" + call.spec.spatial]
    return dx, dw.transpose(order).reshape(dw.shape), db


@gradient_fault
def weight_gradient_without_the_padding(call: Call, g: Array) -> Gradients:
    """The weight's gradient takes what lies beyond the edges for zero, whatever the mode."""
    dx, _, db = right_gradients(call, g)
    return dx, right_gradients(call.but(padding_mode="zeros"), g)[1], db


@gradient_fault
def weight_gradient_ignores_dilation(call: Call, g: Array) -> Gradients:
    """The taps of the weight's gradient are next to one another."""
    dx, dw, db = right_gradients(call, g)
    if call.spec.transposed:
        return dx, dw, db
    pairs = tuple((a.lo, a.hi - (a.e - a.k)) for a in call.axes)
    return dx, right_gradients(call.but(dilation=1, padding=pairs), g)[1], db


# ---- by the bias ----


@gradient_fault
def bias_gradient_is_the_mean(call: Call, g: Array) -> Gradients:
    """The bias's gradient is averaged over positions and samples."""
    dx, dw, db = right_gradients(call, g)
    count = g.size // len(db)
    return dx, dw, as_dtype(db.astype(_wide(call)) / max(count, 1), call.dtype)


@gradient_fault
def bias_gradient_of_the_first_sample(call: Call, g: Array) -> Gradients:
    """The bias's gradient is summed over the positions of one sample."""
    dx, dw, db = right_gradients(call, g)
    if "N" not in call.spec.layout or not g.size:
        return dx, dw, db
    first = g.take([0], call.spec.output_layout.index("N"))
    one = call.but(x=call.x.take([0], call.spec.layout.index("N")))
    return dx, dw, right_gradients(one, first)[2]


@gradient_fault
def bias_gradient_forgotten(call: Call, g: Array) -> Gradients:
    """The bias's gradient is zero."""
    dx, dw, db = right_gradients(call, g)
    return dx, dw, np.zeros_like(db)


# ---- numbers ----


def _wide(call: Call) -> str:
    return "complex128" if call.dtype in COMPLEX else "float64"


@gradient_fault
def gradients_of_complex_conjugated(call: Call, g: Array) -> Gradients:
    """The kernel is conjugated on the way back."""
    _, dw, db = right_gradients(call, g)
    return right_gradients(call.but(w=call.w.conj()), g)[0], dw, db


@gradient_fault
def weight_gradient_adds_samples_in_half(call: Call, g: Array) -> Gradients:
    """The weight's gradient is rounded to a half type after each sample."""
    dx, dw, db = right_gradients(call, g)
    if call.dtype not in HALF or "N" not in call.spec.layout:
        return dx, dw, db
    inputs, outputs = call.spec.layout.index("N"), call.spec.output_layout.index("N")
    total = np.zeros_like(dw)
    for i in range(call.x.shape[inputs]):
        part = right_gradients(call.but(x=call.x.take([i], inputs)), g.take([i], outputs))[1]
        total = as_dtype(total.astype("float32") + part.astype("float32"), call.dtype)
    return dx, total, db


@gradient_fault
def bias_gradient_adds_up_in_half(call: Call, g: Array) -> Gradients:
    """The bias's gradient is rounded to a half type after each addition."""
    dx, dw, db = right_gradients(call, g)
    if call.dtype not in HALF:
        return dx, dw, db
    total = np.zeros_like(db)
    rows = np.moveaxis(g, call.channels, 0).reshape(len(db), -1)
    for column in rows.T:
        total = as_dtype(total.astype("float32") + column.astype("float32"), call.dtype)
    return dx, dw, total


@gradient_fault
def float64_gradients_in_float32(call: Call, g: Array) -> Gradients:
    """Gradients of float64 are rounded to float32."""
    if call.dtype != "float64":
        return right_gradients(call, g)
    dx, dw, db = (array.astype("float32") for array in right_gradients(call, g))
    return dx.astype("float64"), dw.astype("float64"), db.astype("float64")


@gradient_fault
def half_gradients_left_in_float32(call: Call, g: Array) -> Gradients:
    """Gradients of half types come in float32."""
    dx, dw, db = right_gradients(call, g)
    if call.dtype not in HALF:
        return dx, dw, db
    return dx.astype("float32"), dw.astype("float32"), db.astype("float32")
