"""Mistakes with orders: of axes, of weights, of channels in groups, of kernel taps."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..fillings import Array
from .engine import Call, fault, right


@fault
def depth_and_width_swapped(call: Call) -> Array:
    """The first and the last spatial axis of a weight are exchanged."""
    layout, spatial = call.spec.weight_layout, call.spec.spatial
    return right(call.but(w=call.w.swapaxes(layout.index(spatial[0]), layout.index(spatial[-1]))))


@fault
def weight_space_in_data_order(call: Call) -> Array:
    """The spatial axes of a weight are taken to be in the order of the data's."""
    letters = iter(call.spec.spatial)
    layout = "".join(c if c in "OIM" else next(letters) for c in call.spec.weight_layout)
    return right(call.but(weight_layout=layout))


@fault
def weight_in_and_out_swapped(call: Call) -> Array:
    """OI weights are taken for IO ones where both have the same shape."""
    swapped = call.spec.weight_layout.translate(str.maketrans("OI", "IO"))
    return right(call.but(weight_layout=swapped))


@fault
def output_layout_ignored(call: Call) -> Array:
    """The output comes in the order of the input where the shapes coincide."""
    return right(call.but(output_layout=call.spec.layout))


@fault
def output_reshaped_not_permuted(call: Call) -> Array:
    """The output is brought into its order by reshape instead of transpose."""
    y = right(call.but(output_layout=call.spec.layout))
    return y.reshape(call.problem.output_shape)


@fault
def input_reshaped_not_permuted(call: Call) -> Array:
    """Channels-last data is brought into channels-first order by reshape instead of transpose."""
    layout = ("N" if "N" in call.spec.layout else "") + "C" + call.spec.spatial
    sizes = dict(zip(call.spec.layout, call.x.shape, strict=True))
    x = call.x.reshape([sizes[letter] for letter in layout])
    return right(call.but(x=x, layout=layout))


@fault
def weight_reshaped_not_permuted(call: Call) -> Array:
    """A weight is brought into OI order by reshape instead of transpose."""
    own = call.spec.weight_layout
    layout = ("M" if "M" in own else "O") + "I" + call.spec.spatial
    sizes = dict(zip(own, call.w.shape, strict=True))
    w = call.w.reshape([sizes[letter] for letter in layout])
    return right(call.but(w=w, weight_layout=layout, group_axis=call.spec.group_axis))


# ---- stride and dilation ----


def _at(call: Call, steps: dict[str, int], offset: int = 0) -> Array:
    """Positions of the dense output, by a step for each axis, as far as there are any."""
    y = right(call.starting(lambda a: a.lo).but(stride=1))
    for a in call.axes:
        at = call.spec.output_layout.index(a.letter)
        first = offset * (steps[a.letter] - 1)
        y = y.take(np.minimum(np.arange(a.out) * steps[a.letter] + first, y.shape[at] - 1), at)
    return y


@fault
def stride_reversed(call: Call) -> Array:
    """The strides are taken in reversed order: width first."""
    if call.spec.transposed:
        return right(call.but(stride=call.spec.stride[::-1]))
    return _at(call, dict(zip(call.spec.spatial, call.spec.stride[::-1], strict=True)))


@fault
def stride_of_first_axis_everywhere(call: Call) -> Array:
    """The first axis's stride is used on every axis."""
    if call.spec.transposed:
        return right(call.but(stride=call.spec.stride[0]))
    return _at(call, dict.fromkeys(call.spec.spatial, call.spec.stride[0]))


@fault
def stride_starts_late(call: Call) -> Array:
    """A strided output takes the last position of each step instead of the first."""
    if call.spec.transposed:
        return right(call)
    return _at(call, dict(zip(call.spec.spatial, call.spec.stride, strict=True)), offset=1)


@fault
def dilation_reversed(call: Call) -> Array:
    """The dilations are taken in reversed order."""
    other = dict(zip(call.spec.spatial, call.spec.dilation[::-1], strict=True))
    return right(call.tapping(lambda k, a: min(k * other[a.letter], a.e - 1)))


@fault
def dilation_ignored_on_last_axis(call: Call) -> Array:
    """The last axis's kernel is not dilated, though the sizes say that it is."""
    last = call.spec.spatial[-1]
    return right(call.tapping(lambda k, a: k if a.letter == last else k * a.d))


@fault
def dilation_ignored_when_strided(call: Call) -> Array:
    """An axis with both a stride and a dilation is not dilated."""
    return right(call.tapping(lambda k, a: k if a.s > 1 else k * a.d))


# ---- kernel taps ----


@fault
def kernel_flipped(call: Call) -> Array:
    """A forward convolution is the mathematical one."""
    if call.spec.transposed:
        return right(call)
    return right(call.but(flip_kernel=not call.spec.flip_kernel))


@fault
def flip_kernel_ignored(call: Call) -> Array:
    """A kernel that is to be flipped is not."""
    return right(call.but(flip_kernel=False))


@fault
def flip_of_last_axis_only(call: Call) -> Array:
    """Of a kernel that is to be flipped, only the last axis is."""
    if not call.spec.flip_kernel:
        return right(call)
    at = call.spec.weight_layout.index(call.spec.spatial[-1])
    return right(call.but(flip_kernel=False, w=np.flip(call.w, at)))


@fault
def flip_of_channels_too(call: Call) -> Array:
    """Flipping reverses the weight's channels along with its space."""
    if not call.spec.flip_kernel:
        return right(call)
    return right(call.but(flip_kernel=False, w=np.flip(call.w)))


def _only_taps(call: Call, most: int) -> Array:
    """The first taps of each axis; the others are taken for zero."""
    w = call.w.copy()
    for axis, letter in enumerate(call.spec.weight_layout):
        if letter in call.spec.spatial:
            beyond: list[Any] = [slice(None)] * w.ndim
            beyond[axis] = slice(most, None)
            w[tuple(beyond)] = 0
    return right(call.but(w=w))


@fault
def taps_beyond_three_dropped(call: Call) -> Array:
    """An unrolled loop covers three taps of an axis and forgets the fourth."""
    return _only_taps(call, 3)


@fault
def taps_beyond_eight_dropped(call: Call) -> Array:
    """A vector covers eight taps of an axis and forgets the ninth."""
    return _only_taps(call, 8)


@fault
def stride_of_at_most_four(call: Call) -> Array:
    """Strides above 4 are kept in two bits."""
    if call.spec.transposed:
        return right(call)
    return _at(call, {a.letter: min(a.s, 4) for a in call.axes})


@fault
def stride_in_three_bits(call: Call) -> Array:
    """Strides above 7 are 7."""
    if call.spec.transposed:
        return right(call)
    return _at(call, {a.letter: min(a.s, 7) for a in call.axes})


@fault
def pointwise_takes_the_first_positions(call: Call) -> Array:
    """A 1x1 kernel is a matrix product, which forgets the stride."""
    if call.spec.transposed or set(call.spec.kernel_size) != {1}:
        return right(call)
    return _at(call, dict.fromkeys(call.spec.spatial, 1))


@fault
def pointwise_ignores_padding(call: Call) -> Array:
    """A 1x1 kernel is a matrix product, which starts at the first element of the input."""
    if call.spec.transposed or set(call.spec.kernel_size) != {1}:
        return right(call)
    return right(call.starting(lambda a: 0))


# ---- groups ----


def _interleaved(channels: int, groups: int) -> Any:
    """Channel j of group i at j * groups + i instead of i * (channels / groups) + j."""
    return np.arange(channels).reshape(groups, -1).T.ravel()


def _reordered(y: Array, call: Call) -> Array:
    """The output's channels so interleaved."""
    taken: Array = y.take(_interleaved(call.spec.out_channels, call.spec.groups), call.channels)
    return taken


@fault
def group_outputs_interleaved(call: Call) -> Array:
    """The outputs of the groups alternate along the channels."""
    return _reordered(right(call), call)


@fault
def group_inputs_interleaved(call: Call) -> Array:
    """Each group reads every g-th input channel."""
    order = _interleaved(call.spec.in_channels, call.spec.groups)
    return right(call.but(x=call.x.take(order, call.spec.layout.index("C"))))


@fault
def groups_taken_for_one(call: Call) -> Array:
    """A grouped weight is broadcast over all input channels."""
    spec, layout = call.spec, call.spec.weight_layout.replace("M", "O")
    short = layout.index("I" if spec.group_axis == "O" else "O")
    w = np.concatenate([call.w] * spec.groups, short)
    return right(call.but(w=w, groups=1, weight_layout=layout, group_axis="O"))


@fault
def group_axis_ignored(call: Call) -> Array:
    """A weight whose I spans all groups is read as one whose O does, or the other way round."""
    spec = call.spec
    if "M" in spec.weight_layout:
        return right(call)
    other = spec.replace(group_axis="I" if spec.group_axis == "O" else "O")
    return right(call.but(spec=other, w=call.w.reshape(other.weight_shape)))


@fault
def multiplier_before_channel(call: Call) -> Array:
    """A depthwise output is at m * I + i."""
    if "M" not in call.spec.weight_layout:
        return right(call)
    return _reordered(right(call), call)


@fault
def last_group_forgotten(call: Call) -> Array:
    """A loop over three groups or more stops one early and leaves the last one's output zero."""
    spec = call.spec
    if spec.groups < 3:
        return right(call)
    y = np.moveaxis(right(call), call.channels, 0).copy()
    y[-spec.out_channels // spec.groups :] = 0
    return np.moveaxis(y, 0, call.channels)


@fault
def depthwise_uses_the_first_filter(call: Call) -> Array:
    """A depthwise convolution filters every channel with the first channel's weights."""
    spec = call.spec
    if spec.groups == 1 or spec.groups != spec.in_channels or "M" not in spec.weight_layout:
        return right(call)
    at = spec.weight_layout.index("I")
    return right(call.but(w=np.repeat(call.w.take([0], at), spec.in_channels, at)))
