"""Mistakes that are made only where two or three choices meet, each in a path of its own.

In such a path the kernel is read in the wrong order; what matters is whether a case goes there.
"""

from __future__ import annotations

import numpy as np

from convspec.dtypes import COMPLEX, HALF

from ..fillings import Array
from .engine import Call, fault, right


def _astray(call: Call, *, when: bool) -> Array:
    """The weight's elements in reversed order, where the path is taken."""
    return right(call.but(w=np.flip(call.w)) if when else call)


@fault
def grouped_transposed_with_output_padding(call: Call) -> Array:
    """A transposed convolution with groups and output padding has a path of its own, which errs."""
    spec = call.spec
    return _astray(call, when=spec.transposed and spec.groups > 1 and any(spec.output_padding))


@fault
def dilated_transposed_volumes(call: Call) -> Array:
    """A dilated transposed convolution of three axes has a path of its own, which errs."""
    spec = call.spec
    return _astray(call, when=spec.transposed and spec.rank == 3 and max(spec.dilation) > 1)


@fault
def depthwise_in_one_dimension(call: Call) -> Array:
    """A depthwise convolution of one axis has a path of its own, which errs."""
    spec = call.spec
    depthwise = 1 < spec.groups == spec.in_channels
    return _astray(call, when=spec.rank == 1 and depthwise and not spec.transposed)


@fault
def strided_depthwise_with_dilation(call: Call) -> Array:
    """A depthwise convolution with a stride and a dilation has a path of its own, which errs."""
    spec = call.spec
    depthwise = 1 < spec.groups == spec.in_channels and not spec.transposed
    return _astray(call, when=depthwise and max(spec.stride) > 1 and max(spec.dilation) > 1)


@fault
def grouped_circular_volumes(call: Call) -> Array:
    """Circular padding of a grouped convolution of three axes has a path of its own, which errs."""
    spec = call.spec
    circular = spec.padding_mode == "circular" and any(a.lo > 0 or a.hi > 0 for a in call.axes)
    return _astray(call, when=circular and spec.rank == 3 and spec.groups > 1)


@fault
def unbatched_transposed_with_bias(call: Call) -> Array:
    """A transposed convolution without a batch axis but with a bias has a path that errs."""
    unbatched = "N" not in call.spec.layout
    return _astray(call, when=unbatched and call.spec.transposed and call.b is not None)


@fault
def complex_and_grouped(call: Call) -> Array:
    """A complex convolution with groups is put together of real ones, in the wrong order."""
    return _astray(call, when=call.dtype in COMPLEX and call.spec.groups > 1)


@fault
def bfloat16_volumes(call: Call) -> Array:
    """A bfloat16 convolution of three axes has a path of its own, which errs."""
    return _astray(call, when=call.dtype == "bfloat16" and call.spec.rank == 3)


@fault
def channels_last_float64_with_groups(call: Call) -> Array:
    """A channels-last float64 convolution with groups has a path of its own, which errs."""
    last = call.spec.layout.replace("N", "").endswith("C")
    return _astray(call, when=last and call.dtype == "float64" and call.spec.groups > 1)


@fault
def pointwise_groups_of_one_sample(call: Call) -> Array:
    """A grouped convolution of one sample with a 1x1 kernel reads the weight the wrong way."""
    spec = call.spec
    pointwise = set(spec.kernel_size) == {1} and spec.groups > 1
    return _astray(call, when=pointwise and call.problem.batch == 1)


@fault
def wide_integers_of_narrow_ones(call: Call) -> Array:
    """int16 that is to be widened has a path of its own, which errs."""
    return _astray(call, when=call.dtype == "int16" and call.out != "int16")


@fault
def same_with_dilation_at_a_stride(call: Call) -> Array:
    """SAME of a dilated kernel at a stride above 1 starts one position late."""
    if call.spec.transposed:
        return right(call)
    return right(
        call.starting(lambda a: a.lo - (a.entry == "same" and a.s > 1 and a.d > 1 and a.lo > 0))
    )


@fault
def kernel_as_large_as_the_input(call: Call) -> Array:
    """A kernel that covers the input is taken for a matrix product, with its axes turned round."""
    spec = call.spec
    plain = not spec.transposed and not any(a.lo or a.hi for a in call.axes) and spec.rank > 1
    return _astray(call, when=plain and all(a.e == a.n for a in call.axes))


@fault
def more_than_three_axes(call: Call) -> Array:
    """A convolution of more than three axes is put together of smaller ones, in the wrong order."""
    spec = call.spec
    if spec.rank < 4 or spec.transposed:
        return right(call)
    return right(call.but(w=np.flip(call.w, spec.weight_layout.index(spec.spatial[0]))))


@fault
def more_than_three_transposed_axes(call: Call) -> Array:
    """The same of transposed ones."""
    spec = call.spec
    if spec.rank < 4 or not spec.transposed:
        return right(call)
    return right(call.but(w=np.flip(call.w, spec.weight_layout.index(spec.spatial[0]))))


@fault
def multipliers_above_two(call: Call) -> Array:
    """A depthwise multiplier above 2 has a path of its own, which errs."""
    spec = call.spec
    depthwise = 1 < spec.groups == spec.in_channels
    return _astray(call, when=depthwise and spec.out_channels > 2 * spec.in_channels)


@fault
def wide_kernels_of_half_types(call: Call) -> Array:
    """More than four taps of an axis, in a half type, have a path of their own, which errs."""
    return _astray(call, when=max(call.spec.kernel_size) > 4 and call.dtype in HALF)


@fault
def far_dilated_volumes(call: Call) -> Array:
    """A volume with a dilation above 3 has a path of its own, which errs."""
    return _astray(call, when=call.spec.rank == 3 and max(call.spec.dilation) > 3)


@fault
def patches_of_volumes(call: Call) -> Array:
    """Volumes cut into patches, at a stride of the kernel's size, have a path that errs."""
    spec = call.spec
    patches = spec.stride == spec.kernel_size and max(spec.stride) > 1
    return _astray(call, when=patches and spec.rank == 3 and not spec.transposed)


@fault
def channels_beyond_256_transposed(call: Call) -> Array:
    """More than 256 channels of a transposed convolution have a path of their own, which errs."""
    spec = call.spec
    return _astray(call, when=spec.transposed and max(spec.in_channels, spec.out_channels) > 256)


@fault
def kernels_beyond_ten_taps(call: Call) -> Array:
    """More than ten taps of an axis have a path of their own, which errs."""
    return _astray(call, when=max(call.spec.kernel_size) > 10)


@fault
def steps_beyond_ten(call: Call) -> Array:
    """A stride or a dilation above ten has a path of its own, which errs."""
    return _astray(call, when=max(*call.spec.stride, *call.spec.dilation) > 10)


@fault
def many_small_groups_of_volumes(call: Call) -> Array:
    """More than four groups of several channels, on three axes, have a path that errs."""
    spec = call.spec
    several = spec.in_channels > spec.groups > 4
    return _astray(call, when=spec.rank == 3 and several)


@fault
def crops_beyond_two_of_both_ends(call: Call) -> Array:
    """An axis cropped at both ends, by more than two positions, has a path that errs."""
    cropped = any(max(a.lo, a.hi) < 0 and min(a.lo, a.hi) < -2 for a in call.axes)
    return _astray(call, when=cropped and not call.spec.transposed)
