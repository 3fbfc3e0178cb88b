"""Mistakes of gradients that are made only where two or three choices meet.

As in :mod:`.corners`, each has a path of its own, in which the weight is read in the wrong order
and its gradient written in it; what matters is whether a case goes there.
"""

from __future__ import annotations

import numpy as np

from ..fillings import Array
from .engine import Call, Gradients, gradient_fault, right_gradients, second_gradient_fault


def _astray(call: Call, g: Array, *, when: bool) -> Gradients:
    """The weight's elements in reversed order, and those of its gradient, where the path is."""
    if not when:
        return right_gradients(call, g)
    dx, dw, db = right_gradients(call.but(w=np.flip(call.w)), g)
    return dx, np.flip(dw), db


def _depthwise(call: Call) -> bool:
    return 1 < call.spec.groups == call.spec.in_channels


@gradient_fault
def gradients_of_extra_positions(call: Call, g: Array) -> Gradients:
    """Output padding as large as the stride, which a dilation allows, has a path that errs."""
    spec = call.spec
    pairs = zip(spec.output_padding, spec.stride, strict=True)
    return _astray(call, g, when=any(extra >= step for extra, step in pairs))


@gradient_fault
def gradients_of_same_with_gaps(call: Call, g: Array) -> Gradients:
    """SAME in a volume, at a stride above the kernel, has a path of its own, which errs."""
    spec = call.spec
    axes = zip(spec.padding, spec.stride, spec.kernel_size, strict=True)
    gaps = any(entry == "same" and step > taps for entry, step, taps in axes)
    return _astray(call, g, when=gaps and spec.rank == 3 and not spec.transposed)


@gradient_fault
def gradients_of_reflected_groups(call: Call, g: Array) -> Gradients:
    """Reflected volumes in groups have a path of their own, which errs."""
    spec = call.spec
    reflected = spec.padding_mode == "reflect" and spec.rank == 3
    return _astray(call, g, when=reflected and spec.groups > 1)


@gradient_fault
def gradients_of_many_groups(call: Call, g: Array) -> Gradients:
    """Four groups or more, of several channels each, have a path of their own, which errs."""
    spec = call.spec
    several = min(spec.in_channels, spec.out_channels) > spec.groups
    return _astray(call, g, when=spec.groups >= 4 and several)


@gradient_fault
def gradients_of_multipliers(call: Call, g: Array) -> Gradients:
    """A depthwise multiplier above 2 has a path of its own, which errs."""
    spec = call.spec
    return _astray(call, g, when=_depthwise(call) and spec.out_channels > 2 * spec.in_channels)


@gradient_fault
def gradients_of_wide_dilated_kernels(call: Call, g: Array) -> Gradients:
    """More than four taps of a dilated axis have a path of their own, which errs."""
    axes = zip(call.spec.kernel_size, call.spec.dilation, strict=True)
    return _astray(call, g, when=any(taps > 4 and step > 1 for taps, step in axes))


@gradient_fault
def gradients_of_kernels_beyond_seven(call: Call, g: Array) -> Gradients:
    """More than seven taps of an axis have a path of their own, which errs."""
    return _astray(call, g, when=max(call.spec.kernel_size) > 7)


@gradient_fault
def gradients_of_long_axes(call: Call, g: Array) -> Gradients:
    """More than a thousand positions of an axis have a path of their own, which errs."""
    return _astray(call, g, when=max(a.n for a in call.axes) > 1000)


@gradient_fault
def gradients_of_patches(call: Call, g: Array) -> Gradients:
    """Volumes cut into patches, at a stride of the kernel's size, have a path that errs."""
    spec = call.spec
    patches = spec.stride == spec.kernel_size and max(spec.stride) > 1
    return _astray(call, g, when=patches and spec.rank == 3 and not spec.transposed)


@gradient_fault
def gradients_of_cropped_circles(call: Call, g: Array) -> Gradients:
    """Circular padding at one end of an axis that is cropped at the other has a path that errs."""
    pairs = [entry for entry in call.spec.padding if not isinstance(entry, str)]
    cropped = any(min(pair) < 0 < max(pair) for pair in pairs)
    return _astray(call, g, when=cropped and call.spec.padding_mode == "circular")


@gradient_fault
def gradients_of_grouped_higher_ranks(call: Call, g: Array) -> Gradients:
    """More than three axes with groups have a path of their own, which errs."""
    return _astray(call, g, when=call.spec.rank > 3 and call.spec.groups > 1)


@gradient_fault
def gradients_of_large_batches_transposed(call: Call, g: Array) -> Gradients:
    """More than four samples of a transposed convolution have a path of their own, which errs."""
    spec = call.spec
    batch = call.x.shape[spec.layout.index("N")] if "N" in spec.layout else 1
    return _astray(call, g, when=spec.transposed and batch > 4)


@gradient_fault
def gradients_of_signals_in_circles(call: Call, g: Array) -> Gradients:
    """A signal with circular padding has a path of its own, which errs."""
    return _astray(call, g, when=call.spec.rank == 1 and call.spec.padding_mode == "circular")


# ---- the second ones ----

Seconds = tuple[Array, ...]


def _twice_astray(found: Seconds, *, when: bool) -> Seconds:
    """The gradient of <u, dx> by the weight in reversed order, where the path is."""
    return (np.flip(found[0]), *found[1:]) if when else found


@second_gradient_fault
def second_gradients_by_g_forgotten_at_strides(call: Call, g: Array, found: Seconds) -> Seconds:
    """With a stride, <v, dw> is taken not to depend on g."""
    return (*found[:3], np.zeros_like(found[3])) if max(call.spec.stride) > 1 else found


@second_gradient_fault
def second_gradients_of_depthwise_multipliers(call: Call, g: Array, found: Seconds) -> Seconds:
    """A depthwise multiplier above 2 has a path of its own, which errs."""
    spec = call.spec
    return _twice_astray(found, when=_depthwise(call) and spec.out_channels > 2 * spec.in_channels)


@second_gradient_fault
def second_gradients_of_replicated_signals(call: Call, g: Array, found: Seconds) -> Seconds:
    """A signal padded with its ends has a path of its own, which errs."""
    spec = call.spec
    return _twice_astray(found, when=spec.rank == 1 and spec.padding_mode == "replicate")


@second_gradient_fault
def second_gradients_of_higher_ranks(call: Call, g: Array, found: Seconds) -> Seconds:
    """More than three axes have a path of their own, which errs."""
    return _twice_astray(found, when=call.spec.rank > 3)


@second_gradient_fault
def second_gradients_of_transposed_doubles(call: Call, g: Array, found: Seconds) -> Seconds:
    """A transposed convolution in float64 has a path of its own, which errs."""
    return _twice_astray(found, when=call.spec.transposed and call.dtype == "float64")
