"""Which kernels work here: each kind of call is tried once, in miniature.

tf.nn refuses some calls outright, and gives wrong shapes or numbers for others; which ones differs
between oneDNN and Eigen, processors and releases. So a call is only made after its miniature, with
the same strides, dilations and degenerate axes, has given the right answer: the reference's.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from itertools import product
from typing import Any

import numpy as np
import tensorflow as tf

from convspec import ConvSpec, reference
from convspec.geometry import smallest_input
from convspec.plan import Call
from convspec.problem import resolve

from ._arrays import cast
from ._kernel import by_batches, channels_first, conv
from ._slow import onednn


def works(call: Call, **changes: Any) -> bool:
    """Whether a call like this one, with some fields changed, gives right answers here."""
    call = replace(call, **changes)
    if not call.transposed and _mistaken(call):
        return False
    graph = not tf.executing_eagerly()
    if graph and _mixed_up(call):
        return False
    return all(_probe(kind) and (not graph or _infers(kind)) for kind in _miniatures(call))


def _mistaken(call: Call) -> bool:
    """One channel, strides that differ, and one output column, or perhaps one.

    oneDNN takes such an input's strides for another's and reads other memory, which may hold the
    right numbers by chance; so a trial proves nothing.
    """
    channels, size = call.in_channels, call.output_size
    if call.transposed:  # its gradient by the input is a forward call
        channels, size = call.out_channels, call.input_size
    several = all(isinstance(columns, int) and columns > 1 for columns in size[-1:])
    return channels == 1 and len(set(call.stride)) > 1 and not several


def differentiates(call: Call) -> bool:
    """Whether a call like this one, which works, has gradients here, and the right ones.

    In graphs, too: an eager tape may form them in one, as for Jacobians.
    """
    if call.rank == 0:
        return True
    if call.transposed and _mistaken(call):
        return False
    return all(_probe_gradients(kind) and _infers_gradients(kind) for kind in _miniatures(call))


def works_in_graphs(call: Call) -> bool:
    """Whether a graph knows the shapes of a call like this one, which works, and its gradients."""
    if call.rank == 0:
        return True
    if _mixed_up(call):
        return False
    return all(_infers(kind) and _infers_gradients(kind) for kind in _miniatures(call))


def writes_elsewhere(call: Call) -> bool:
    """Whether the kernel that computes the gradient of the weight spoils memory that is others'.

    oneDNN's does so for one position of the kernel and pictures taken in strides, of less than 16
    channels (uxlfoundation/oneDNN#6035); of how many depends on the processor, and a dense call is
    as fast with more. Nothing is tried: it ends the process much later.
    """
    single = {*call.kernel_size} == {1} != {*call.stride}
    mine = call.device in ("cpu", "custom")  # of DTensors
    return mine and onednn() and single and call.rank in (1, 2)


def _mixed_up(call: Call) -> bool:
    """A volume's dilations that differ, which change places where graphs infer its shape.

    What that comes to depends on the sizes, so that a miniature proves nothing.
    """
    differ = call.rank == 3 and len({*call.dilation}) > 1
    return differ and not call.transposed and not by_batches(call, gradients=False)


def _miniatures(call: Call) -> list[Call]:
    """The smallest calls of the same kind: one for all that sizes may be which are not known yet.

    A size of 1 is another kind than any other.
    """
    sizes = call.input_size if call.transposed else call.output_size
    choices = [(min(size, 2),) if isinstance(size, int) else (1, 2) for size in sizes]
    return [_miniature(call, chosen) for chosen in product(*choices)]


def _miniature(call: Call, sizes: tuple[int, ...]) -> Call:
    """The smallest call of the same kind; what is 1 stays 1.

    Sizes follow from the spec in :func:`_trial`; those of the call that must not matter are
    replaced by what stands for their kind, so that like calls share one trial.
    """
    groups = min(call.groups, 2)
    space = "DHW"[-call.rank :]
    layout = f"NC{space}" if channels_first(call) else f"N{space}C"
    return replace(
        call,
        x_layout=layout,
        w_layout="DHW"[-call.rank :] + ("OI" if call.transposed else "IO"),
        y_layout=layout,
        batch=2,
        nonempty=True,
        groups=groups,
        in_channels=groups * min(call.in_channels // call.groups, 2),
        out_channels=groups * min(call.out_channels // call.groups, 2),
        kernel_size=tuple(min(k, 3) for k in call.kernel_size),
        output_size=sizes,
        input_size=_left_over(call),
        padding=((1, 2),) * call.rank if call.padded and not call.same else ((0, 0),) * call.rank,
        output_padding=(0,) * call.rank,
        same=call.same and call.padded,
    )


def _left_over(call: Call) -> tuple[int, ...]:
    """On each axis 1 if the input ends behind the last window, else 0; 1 if that is not known.

    With one channel and one output column oneDNN takes such an input's strides for another's.
    """
    if call.transposed:
        return (0,) * call.rank
    extents = (1,) * call.rank if call.same else call.extents
    found = []
    for n, m, s, e, (lo, hi) in zip(
        call.input_size, call.output_size, call.stride, extents, call.padding, strict=True
    ):
        rest = n - ((m - 1) * s + e) + (0 if call.same else lo + hi)
        found.append(min(rest, 1) if isinstance(rest, int) else min(s - 1, 1))
    return tuple(found)


def _trial(kind: Call) -> tuple[Call, Any, Any, Any]:
    """A call of this kind, its input and weight as small integers, and what it has to give."""
    spec = ConvSpec(
        kind.in_channels,
        kind.out_channels,
        kind.kernel_size,
        stride=kind.stride,
        padding="same" if kind.same else kind.padding,
        dilation=kind.dilation,
        groups=kind.groups,
        transposed=kind.transposed,
        group_axis=kind.group_axis,
        layout=kind.x_layout,
        weight_layout=kind.w_layout,
    )
    sizes = tuple(
        size if kind.transposed else smallest_input(size, 1 if kind.same else e, s, pair) + rest
        for size, s, e, pair, rest in zip(
            kind.output_size,
            kind.stride,
            spec.receptive_field,
            kind.padding,
            kind.input_size,
            strict=True,
        )
    )
    by_letter = dict(zip(spec.spatial, sizes, strict=True), N=2, C=kind.in_channels)
    shape = tuple(by_letter[letter] for letter in spec.layout)
    x = np.arange(np.prod(shape)).reshape(shape) % 7 - 3
    w = np.arange(np.prod(spec.weight_shape)).reshape(spec.weight_shape) % 5 - 2
    expected = reference(spec, x, w)
    positions = tuple(expected.shape[spec.layout.index(letter)] for letter in spec.spatial)
    call = replace(kind, input_size=sizes, output_size=positions)
    if kind.same:
        call = replace(call, padding=resolve(spec, shape, None).padding)
    return call, x, w, expected


@cache
def _probe(kind: Call) -> bool:
    call, x, w, expected = _trial(kind)
    with tf.init_scope():
        arrays = [cast(tf.constant(array), dtype=kind.dtype) for array in (x, w)]
        try:
            y = conv(*arrays, call=call)
        except (tf.errors.OpError, ValueError, TypeError, NotImplementedError):
            return False
        if tuple(y.shape) != expected.shape:
            return False
        return bool((cast(y, dtype="int64").numpy() == expected).all())


@cache
def _probe_gradients(kind: Call) -> bool:
    """In a thread of its own, which neither a graph under construction nor a tape reaches."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(_gradients_are_right, kind).result()


def _gradients_are_right(kind: Call) -> bool:
    """The call is linear in x and in w, so <g, y> is what <x, dx> and <w, dw> have to be."""
    call, x, w, expected = _trial(kind)
    g = np.arange(expected.size).reshape(expected.shape) % 3 - 1
    x, w, g = (cast(tf.constant(array), dtype=kind.dtype) for array in (x, w, g))
    with tf.GradientTape() as tape:
        tape.watch([x, w])
        y = conv(x, w, call=call, gradients=True)
    try:
        dx, dw = tape.gradient(y, [x, w], output_gradients=g)
    except (tf.errors.OpError, LookupError, ValueError, TypeError, NotImplementedError):
        return False
    whole = tf.reduce_sum(g * y)
    return all(bool(tf.reduce_sum(a * da) == whole) for a, da in ((x, dx), (w, dw)))


@cache
def _infers_gradients(kind: Call) -> bool:
    """Whether a graph knows the shapes of the gradients: a transposed call's is a forward call."""
    call, *arrays, expected = _trial(kind)
    with tf.Graph().as_default():
        x, w, g = (tf.zeros(array.shape, kind.dtype) for array in (*arrays, expected))
        try:
            y = conv(x, w, call=call, gradients=True)
            gradients = tf.gradients(y, [x, w], g)
        except (tf.errors.OpError, LookupError, ValueError, TypeError, NotImplementedError):
            return False
        return all(da.shape == a.shape for a, da in zip((x, w), gradients, strict=True))


@cache
def _infers(kind: Call) -> bool:
    """Whether a graph knows the shape of the result: of unequal dilations in 3-D it knows one."""
    call, x, w, expected = _trial(kind)
    with tf.Graph().as_default():
        arrays = [tf.zeros(array.shape, kind.dtype) for array in (x, w)]
        try:
            y = conv(*arrays, call=call)
        except (tf.errors.OpError, ValueError, TypeError, NotImplementedError):
            return False
        return bool(tuple(y.shape) == expected.shape)
