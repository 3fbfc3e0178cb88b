"""Mistakes with memory and sizes: tails, views, buffers, and what is kept between calls."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from ..fillings import Array
from .engine import Call, fault, right

#: From here on a tail is what a block of vectors leaves.
WIDE, DEEP = 32, 32


def _edited(y: Array, axis: int, index: Any, value: Any) -> Array:
    """``y`` with some positions of an axis replaced."""
    y = y.copy()
    whole: list[Any] = [slice(None)] * y.ndim
    whole[axis] = index
    y[tuple(whole)] = value
    return y


# ---- sizes ----


@fault
def last_column_dropped_when_wide(call: Call) -> Array:
    """From 32 columns on, the last one is left out of the blocks."""
    y, at = right(call), call.spec.output_layout.index(call.spec.spatial[-1])
    return _edited(y, at, -1, 0) if y.shape[at] >= WIDE else y


@fault
def tail_channels_dropped(call: Call) -> Array:
    """Of more than 32 input channels, those beyond a multiple of 16 are left out."""
    at, c = call.spec.layout.index("C"), call.spec.in_channels
    if c <= DEEP or c % 16 == 0:
        return right(call)
    return right(call.but(x=_edited(call.x, at, slice(c // 16 * 16, None), 0)))


@fault
def tail_outputs_dropped(call: Call) -> Array:
    """Of more than 32 output channels, those beyond a multiple of 16 are left zero."""
    c = call.spec.out_channels
    if c <= DEEP or c % 16 == 0:
        return right(call)
    return _edited(right(call), call.channels, slice(c // 16 * 16, None), 0)


@fault
def last_column_dropped_when_very_wide(call: Call) -> Array:
    """From 1024 positions of an axis on, the last one does not fit into a block and is lost."""
    y = right(call)
    for a in call.axes:
        at = call.spec.output_layout.index(a.letter)
        y = _edited(y, at, -1, 0) if y.shape[at] >= 1024 else y
    return y


@fault
def channels_beyond_256_dropped(call: Call) -> Array:
    """An accumulator is flushed after 256 input channels of a group, and the rest overwrites it."""
    spec = call.spec
    per_group = spec.in_channels // spec.groups
    if per_group <= 256:
        return right(call)
    channel = np.arange(spec.in_channels) % per_group
    at = spec.layout.index("C")
    return right(call.but(x=_edited(call.x, at, channel < per_group // 256 * 256, 0)))


@fault
def samples_beyond_sixteen_forgotten(call: Call) -> Array:
    """A batch is cut into blocks of 16, and what is left over is not computed."""
    y = right(call)
    if "N" not in call.spec.layout:
        return y
    at = call.spec.output_layout.index("N")
    n = y.shape[at]
    return _edited(y, at, slice(n // 16 * 16, None), 0) if n > 16 else y


@fault
def every_sample_is_the_first(call: Call) -> Array:
    """The batch stride is lost: every sample's output is the first one's."""
    y = right(call)
    if "N" not in call.spec.layout or not y.size:
        return y
    at = call.spec.output_layout.index("N")
    return np.repeat(y.take([0], at), y.shape[at], at)


@fault
def third_sample_forgotten(call: Call) -> Array:
    """Samples go to threads two by two, and an odd one is left out."""
    y = right(call)
    if "N" not in call.spec.layout:
        return y
    at = call.spec.output_layout.index("N")
    return _edited(y, at, -1, 0) if y.shape[at] % 2 and y.shape[at] > 1 else y


@fault(loud=True)
def empty_batch_has_the_input_channels(call: Call) -> Array:
    """An empty batch gives an empty output with the input's channel count."""
    y = right(call)
    if y.size:
        return y
    shape = list(y.shape)
    shape[call.channels] = call.spec.in_channels
    return np.empty(shape, y.dtype)


@fault(loud=True)
def empty_batch_crashes(call: Call) -> Array:
    """An empty batch divides by zero."""
    y = right(call)
    if not y.size:
        raise ZeroDivisionError("integer division by zero")
    return y


@fault
def unbatched_input_loses_its_last_axis(call: Call) -> Array:
    """Without a batch axis, the first spatial axis is taken for one: its taps do not add up."""
    spec = call.spec
    if "N" in spec.layout:
        return right(call)
    at = spec.weight_layout.index(spec.spatial[0])
    return right(call.but(w=_edited(call.w, at, slice(1, None), 0)))


@fault
def thin_axes_are_squeezed(call: Call) -> Array:
    """An axis of size 1 is dropped, and with it the kernel taps that read its padding."""
    if call.spec.padding_mode == "zeros" or call.spec.transposed:
        return right(call)
    return right(call.reading(lambda p, a: None if a.n == 1 and p != 0 else _mode(call, p, a.n)))


def _mode(call: Call, p: int, n: int) -> int:
    if call.spec.padding_mode == "circular":
        return p % n
    if call.spec.padding_mode == "reflect" and not 0 <= p < n:
        return -p if p < 0 else 2 * (n - 1) - p
    return min(max(p, 0), n - 1)


# ---- how arrays lie in memory ----


def _in_memory(a: Array) -> Array:
    """The elements in the order of their addresses, taken for the row-major array."""
    order = np.argsort([-abs(step) for step in a.strides], kind="stable")
    forwards = a[tuple(slice(None, None, -1 if step < 0 else None) for step in a.strides)]
    return forwards.transpose(order).reshape(a.shape)


@fault
def input_strides_ignored(call: Call) -> Array:
    """The input's memory is read in order, whatever its strides."""
    return right(call.but(x=_in_memory(call.x)))


@fault
def weight_strides_ignored(call: Call) -> Array:
    """The weight's memory is read in order, whatever its strides."""
    return right(call.but(w=_in_memory(call.w)))


@fault
def negative_strides_made_positive(call: Call) -> Array:
    """An input with negative strides is read forwards."""
    backwards = tuple(slice(None, None, -1 if step < 0 else None) for step in call.x.strides)
    return right(call.but(x=call.x[backwards]))


# ---- whose memory it is ----


@fault
def result_is_left_in_the_input(call: Call) -> Array:
    """Where input and output have one shape and type, the result is written over the input."""
    y = right(call)
    if y.shape != call.x.shape or y.dtype != call.x.dtype:
        return y
    call.x[...] = y
    return y


@fault
def result_is_a_view_of_the_input(call: Call) -> Array:
    """Where input and output have one shape and type, the result is given in the input's memory."""
    y = right(call)
    if y.shape != call.x.shape or y.dtype != call.x.dtype:
        return y
    call.x[...] = y
    return call.x


@fault
def kernel_is_flipped_in_place(call: Call) -> Array:
    """A transposed convolution turns the caller's weight round and leaves it so."""
    y = right(call)
    if call.spec.transposed:
        axes = tuple(call.spec.weight_layout.index(letter) for letter in call.spec.spatial)
        call.w[...] = np.flip(call.w, axes).copy()
    return y


@fault
def output_buffer_is_kept(call: Call) -> Array:
    """The output of one call is overwritten by the next one of the same shape."""
    y = right(call)
    kept = call.memory.setdefault((y.shape, y.dtype.name), np.empty_like(y))
    kept[...] = y
    found: Array = kept
    return found


@fault
def stale_output_at_strides(call: Call) -> Array:
    """A strided output's last position is not written and holds what the last call left."""
    y = right(call)
    strided = [a for a in call.axes if a.s > 1 and a.out > 2 and not call.spec.transposed]
    for a in strided[:1]:
        at = call.spec.output_layout.index(a.letter)
        y = _edited(y, at, -1, call.memory.get(y.dtype.name, np.zeros((), y.dtype)))
    if y.size:
        call.memory[y.dtype.name] = y.flat[0]
    return y


@fault
def packed_weights_are_kept_by_shape(call: Call) -> Array:
    """Prepacked weights are looked up by spec and shape, not by what is in them."""
    key = (call.spec, call.x.shape, call.dtype)
    return right(call.but(w=call.memory.setdefault(key, call.w.copy())))


@fault
def one_call_in_ten_races(call: Call) -> Array:
    """Now and then two threads write one position, and the slower one's sum is lost."""
    call.memory["calls"] = call.memory.get("calls", 0) + 1
    y = right(call)
    if call.memory["calls"] % 10 or not y.size:
        return y
    y = y.copy()
    y.flat[0] = 0
    return y


# ---- one axis of many ----


@fault
def bias_strides_ignored(call: Call) -> Array:
    """A bias is read as if its numbers lay next to each other."""
    if call.b is None or call.b.strides[0] == call.b.itemsize:
        return right(call)
    if call.b.strides[0] < 0:
        return right(call.but(b=call.b[::-1]))
    return right(call.but(b=as_strided(call.b, strides=(call.b.itemsize,)).copy()))


@fault
def rows_are_thought_to_be_dense(call: Call) -> Array:
    """The last axis is read without its step, the others with theirs."""
    x = call.x
    if x.strides[-1] != 2 * x.itemsize:
        return right(call)
    return right(call.but(x=as_strided(x, strides=(*x.strides[:-1], x.itemsize)).copy()))


@fault
def all_axes_are_reversed_or_none(call: Call) -> Array:
    """Where the first axis that is longer than 1 runs forwards, all are taken to do."""
    steps = [step for step, n in zip(call.x.strides, call.x.shape, strict=True) if n > 1]
    if not steps or steps[0] < 0:
        return right(call)
    backwards = tuple(slice(None, None, -1 if step < 0 else None) for step in call.x.strides)
    return right(call.but(x=call.x[backwards]))


@fault
def samples_beyond_four_forgotten(call: Call) -> Array:
    """A batch is cut into blocks of four, and what is left over is not computed."""
    y = right(call)
    if "N" not in call.spec.layout:
        return y
    at = call.spec.output_layout.index("N")
    n = y.shape[at]
    return _edited(y, at, slice(n // 4 * 4, None), 0) if n > 4 else y


@fault
def samples_beyond_sixty_four_forgotten(call: Call) -> Array:
    """A batch goes to 64 threads, and the samples that are left over to none."""
    y = right(call)
    if "N" not in call.spec.layout:
        return y
    return _edited(y, call.spec.output_layout.index("N"), slice(64, None), 0)


@fault
def positions_in_sixteen_bits(call: Call) -> Array:
    """Positions of an axis are counted in 16 bits: from 65536 on it starts again."""
    y = right(call)
    for a in call.axes:
        at = call.spec.output_layout.index(a.letter)
        y = y.take(np.arange(a.out) % 2**16, at)
    return y


@fault
def channels_last_memory_is_read_in_order(call: Call) -> Array:
    """Channels-first data that lies in memory with its channels last is read as if it did not."""
    x, spec = call.x, call.spec
    at = spec.layout.index("C")
    turned = np.moveaxis(x, at, -1)
    if x.flags.c_contiguous or not turned.flags.c_contiguous:
        return right(call)
    return right(call.but(x=turned.reshape(x.shape)))


@fault
def fortran_order_is_read_in_order(call: Call) -> Array:
    """A weight that lies in memory in Fortran's order is read as if it did not."""
    if call.w.flags.c_contiguous or not call.w.flags.f_contiguous:
        return right(call)
    return right(call.but(w=call.w.T.reshape(call.w.shape)))
