"""Gradients, for which XLA's own kernels are slow on the CPU.

That of the weight takes the output's gradient for a kernel, which is as large as the output: from
some 30000 positions on it takes 5 to 10 times as long as the forward call. It is also the sum over
parts of the output, some samples each or some rows of one. Measured (JAX 0.10.2, 2 cores with
AVX-512, float32, interleaved, the gradient of the weight alone, 127 random pictures), by parts of
4096 positions, of 24 output channels and more: 1.09 to 1.3 times as fast from 16000 positions on,
1.3 and 2.1 of one and more samples from 24000 on, 2.0 and 3.5 from 40000 on, up to 18; at worst
0.86. With 16 output channels or less it takes 1.1 to 6 times as long, as it does along one axis.
Where the kernel has one position, and the call itself is not a matrix product already
(:mod:`convspec_jax._point`), one of that is 1.1 to 7 times as fast; along one axis XLA makes it.

Of a call whose steps are doubled (:mod:`convspec_jax._ynnpack`) the gradient by x is fast if there
are no strides, and that of the weight is slow: 5 times as slow as that of the call itself, which
YNNPACK computes well.

A rule may suit the forward call and not its derivative (:mod:`convspec.xla`): then they are
those of two plans. In both cases every transform of JAX goes through (docs.jax.dev, "Custom
derivative rules").
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from math import prod
from typing import Any, cast

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from convspec.algorithms import doubled, halved, mirrored
from convspec.backend import Kernel
from convspec.plan import Call

from . import _ynnpack
from ._kernel import conv, misread, sized
from ._point import by_product, is_product, product

#: From so many output positions on; and of so many a part, if there are not too many parts.
POSITIONS = 2**14
PART = 2**12
#: From so many output channels on: 0.2 to 1.2 times as fast at 16, 1.0 to 18 at 24.
CHANNELS = 24
#: Each part is some nodes of the graph.
PARTS = 32
#: Multiplications from which on a product pays for what is around it: 0.7 to 1.3 times at less.
WORTHWHILE = 2**23


def differentiated_by(kernel: Kernel, other: Kernel) -> Kernel:
    """``kernel``, whose derivative is that of ``other``, which computes the same.

    Besides arrays they take what their symbols stand for, of which nothing is a derivative.
    """
    plain = _differentiated_by(kernel, other)

    def run(*arrays: Any, **sizes: Any) -> Any:
        if not sizes:
            return plain(*arrays)
        return _differentiated_by(partial(kernel, **sizes), partial(other, **sizes))(*arrays)

    return run


def _differentiated_by(kernel: Kernel, other: Kernel) -> Kernel:
    """:func:`differentiated_by` of arrays alone."""

    run: Any = jax.custom_jvp(kernel)

    @partial(jax.jit, static_argnums=0)  # which leaves out what other gives beside
    def tangent(live: tuple[int, ...], primals: Any, tangents: Any) -> Any:
        def some(*arrays: Any) -> Any:
            given = dict(zip(live, arrays, strict=True))
            return other(*(given.get(i, array) for i, array in enumerate(primals)))

        return jax.jvp(some, tuple(primals[i] for i in live), tangents)[1]

    @partial(run.defjvp, symbolic_zeros=True)
    def jvp(primals: Any, tangents: Any) -> Any:
        live = tuple(i for i, part in enumerate(tangents) if type(part) is not SymbolicZero)
        return run(*primals), tangent(live, primals, tuple(tangents[i] for i in live))

    return cast(Kernel, run)


def note(call: Call) -> str:
    """How the gradients of a call are computed, if not as XLA does by its forward call."""
    if _partitioned(call) or by_product(call):
        return ""
    single = halved(call)
    names = {_parts: "a sum over parts of the output", product: "a matrix product"}
    rule = _rule(single)
    told = [f"weight: {names[rule]}"] if rule else []
    if _by_x(single) != single:
        told.append("input: every step along an axis doubled")
    return "; ".join(told)


def differentiable(x: Any, w: Any, *, call: Call) -> Any:
    """The kernel's call, with the faster gradients where there are some."""
    if _partitioned(call):
        # Perhaps a mesh splits the channels of x. An argument that is whole stays so, and then
        # XLA's partitioner gathers x; of what is computed it splits the channels alike, for
        # nothing, and sums the output.
        return conv(x, jax.lax.optimization_barrier(w), call=call)
    if by_product(call):
        return product(x, w, call)
    single = halved(call)
    if _rule(single) is None and call == single == _by_x(single):
        return conv(x, w, call=call)
    return _conv(x, w, call)


def _partitioned(call: Call) -> bool:
    """Whether a mesh of CPU devices may split the arrays."""
    return call.device == "cpu" and jax.device_count(backend="cpu") > 1


def _rule(call: Call) -> Any:
    """How the tangent of the weight is computed, as a function of x, w and the call, or None.

    None on accelerators.
    """
    if call.device != "cpu" or call.dtype != "float32" or call.groups > 1:
        return None
    if is_product(call):
        return product if call.rank > 1 and call.multiplications >= WORTHWHILE else None
    if not sized(call):
        return None
    positions = call.batch * prod(call.output_size)
    plain = all(step == 1 for step in call.input_dilation)
    if call.rank == 1 or not plain or call.out_channels < CHANNELS:
        return None
    divides = call.batch > 1 or _overlaps(call)
    return _parts if divides and positions > POSITIONS else None


def _by_x(call: Call) -> Call:
    """The call whose gradient by x is the faster one, with every step of an axis doubled or not.

    That gradient is a call with the channels exchanged, which YNNPACK does not get if the call's
    strides are steps between its inputs, or if its output is the larger one.
    """
    if call.transposed or {*call.stride, *call.input_dilation} != {1} or not call.settled:
        return call
    return doubled(call) if _ynnpack.slow(mirrored(call)) and not misread(doubled(call)) else call


@partial(jax.custom_jvp, nondiff_argnums=(2,))
def _conv(x: Any, w: Any, call: Call) -> Any:
    return conv(x, w, call=call)


@partial(_conv.defjvp, symbolic_zeros=True)
def _conv_jvp(call: Call, primals: Any, tangents: Any) -> Any:
    (x, w), (dx, dw) = primals, tangents
    y = _conv(x, w, call)
    single = halved(call)
    terms = []
    if type(dx) is not SymbolicZero:
        terms.append(conv(dx, w, call=_by_x(single)))
    if type(dw) is not SymbolicZero:
        rule = _rule(single)
        terms.append(conv(x, dw, call=single) if rule is None else rule(x, dw, single))
    return y, sum(terms) if terms else jnp.zeros_like(y)


def _parts(x: Any, w: Any, call: Call) -> Any:
    """The call for a part of the output at a time; the gradient of w is the sum of theirs.

    A part is some samples, or rows of one sample, and reads the rows of x that its windows cover.
    """
    rows, each = call.output_size[0], prod(call.output_size[1:])
    # Positions are counted in rows, of which a sample has as many as its first axis is long.
    taken = max(PART // each, -(-call.batch * rows // PARTS), 1)
    if taken >= rows or not _overlaps(call):
        return _by_samples(x, w, call, max(taken // rows, 1))
    n, axis = call.x_layout.index("N"), call.x_layout.index(call.spatial[0])
    y_n, y_axis = call.y_layout.index("N"), call.y_layout.index(call.spatial[0])
    samples = []
    for sample in range(call.batch):
        one = jax.lax.slice_in_dim(x, sample, sample + 1, axis=n)
        results = []
        for start in range(0, rows, taken):
            part, ends = _window(call, start, min(start + taken, rows))
            piece = jax.lax.slice_in_dim(one, *ends, axis=axis)
            results.append(conv(piece, w, call=part))
        samples.append(jax.lax.concatenate(results, y_axis))
    return jax.lax.concatenate(samples, y_n)


def _by_samples(x: Any, w: Any, call: Call, samples: int) -> Any:
    """:func:`_parts` of whole samples."""
    samples = max(samples, -(-call.batch // PARTS))
    axis = call.x_layout.index("N")
    parts = [
        jax.lax.slice_in_dim(x, start, min(start + samples, call.batch), axis=axis)
        for start in range(0, call.batch, samples)
    ]
    results = [conv(part, w, call=call) for part in parts]
    return jax.lax.concatenate(results, call.y_layout.index("N"))


def _overlaps(call: Call) -> bool:
    """Whether each window meets the input along the first axis, so that no part reads nothing."""
    return bool(max(call.padding[0]) < call.extents[0])


def _window(call: Call, start: int, stop: int) -> tuple[Call, tuple[int, int]]:
    """The call for output rows ``start`` to ``stop``, and from where to where it reads x."""
    (lo, _), size, stride = call.padding[0], call.input_size[0], call.stride[0]
    first, last = start * stride - lo, (stop - 1) * stride - lo + call.extents[0]
    pair = (max(-first, 0), max(last - size, 0))
    return replace(call, padding=(pair, *call.padding[1:])), (max(first, 0), min(last, size))
