"""The second oracle: the same convolutions by another construction than the reference's.

The reference adds up kernel taps and scatters transposed ones. Here the input is padded by index
arrays made in one go, windows are a strided view, and one einsum contracts them all; a transposed
convolution is the forward one of the zero-stuffed input with the reversed kernel.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from convspec import ConvSpec
from convspec.dtypes import COMPLEX, INTEGER
from convspec.problem import resolve

Array = np.ndarray[Any, Any]


def windows(
    spec: ConvSpec, x: Array, w: Array, b: Array | None = None, *, output_size: Any = None
) -> Array:
    """The output in a wide type (int64 modulo 2**64, longdouble, complex longdouble), unrounded.

    Args, shapes and orders are those of :func:`convspec.reference`.
    """
    wide = _wide(x.dtype.name)
    seen = _seen(spec, x.astype(wide), output_size)
    y = np.einsum(_indices(spec.rank), seen, _taps(spec, w.astype(wide)))
    y = y.reshape(len(y), spec.out_channels, *y.shape[3:])
    if b is not None:
        y = y + b.astype(wide).reshape(-1, *[1] * spec.rank)
    return canonical(y, "NC" + spec.spatial, spec.output_layout)


def gradients(
    spec: ConvSpec, x: Array, w: Array, g: Array, *, output_size: Any = None
) -> tuple[Array, Array, Array]:
    """What ``<g, y>`` changes by for each element of the input, the weight and the bias.

    The windows of :func:`windows`, made of the numbers of the elements in place of the elements,
    say where each of them was read from; that is where the gradient of the window goes, and what
    was read several times (windows that overlap, padding modes) sums up. Nothing is conjugated.

    Args:
        spec: the convolution.
        x: the input.
        w: the weight.
        g: the cotangent, in the shape and order of the output.
        output_size: as in a call.

    Returns:
        The gradients of input, weight and bias, in their shapes and in a wide type.
    """
    wide = _wide(x.dtype.name)
    seen = _seen(spec, x.astype(wide), output_size)
    taps = _taps(spec, w.astype(wide))
    g = canonical(g.astype(wide), spec.output_layout, "NC" + spec.spatial)
    g = g.reshape(len(g), *taps.shape[:2], *g.shape[2:])
    inputs, output = _indices(spec.rank).split("->")
    windows, kernel = inputs.split(",")
    # Element 0 is none of the array's: the zeros of padding and stuffing.
    x_read = _seen(spec, 1 + np.arange(x.size).reshape(x.shape), output_size)
    w_read = _taps(spec, 1 + np.arange(w.size).reshape(w.shape))
    dx = _scattered(x_read, np.einsum(f"{output},{kernel}->{windows}", g, taps), x.shape)
    dw = _scattered(w_read, np.einsum(f"{windows},{output}->{kernel}", seen, g), w.shape)
    return dx, dw, g.sum((0, *range(3, g.ndim))).reshape(-1)


def _scattered(read: Array, values: Array, shape: tuple[int, ...]) -> Array:
    """``values`` added up at the elements that they were read from."""
    total = np.zeros(1 + prod(shape), values.dtype)
    np.add.at(total, read.ravel(), values.ravel())
    return total[1:].reshape(shape)


def _wide(dtype: str) -> Any:
    if dtype in INTEGER:
        return np.int64
    return np.clongdouble if dtype in COMPLEX else np.longdouble


def _indices(rank: int) -> str:
    """The einsum of windows (n, g, i, places, taps) with kernels (g, o, i, taps)."""
    places, taps = "defhjklmp"[:rank], "qrstuvwxy"[:rank]
    return f"ngi{places}{taps},goi{taps}->ngo{places}"


def _seen(spec: ConvSpec, x: Array, output_size: Any) -> Array:
    """The windows of the input: (N, groups, inputs of a group, places, taps)."""
    problem = resolve(spec, x.shape, output_size)
    x = canonical(x, spec.layout, "NC" + spec.spatial)
    if spec.transposed:
        x = _stuffed(x, spec.stride)
        pads = [
            (e - 1 - lo, e - 1 - hi + extra)
            for e, (lo, hi), extra in zip(
                spec.receptive_field, problem.padding, problem.output_padding, strict=True
            )
        ]
        steps = (1,) * spec.rank
    else:
        pads, steps = list(problem.padding), spec.stride
    x = _padded(x, pads, spec.padding_mode)
    seen: Any = sliding_window_view(x, spec.receptive_field, axis=tuple(range(2, x.ndim)))
    strided = (slice(None), slice(None), *(slice(None, None, s) for s in steps))
    seen = seen[(*strided, *(slice(None, None, d) for d in spec.dilation))]
    per_group = spec.in_channels // spec.groups
    windows: Array = seen.reshape(len(x), spec.groups, per_group, *seen.shape[2:])
    return windows


def _taps(spec: ConvSpec, w: Array) -> Array:
    """The kernels: (groups, outputs of a group, inputs of a group, taps)."""
    w = per_group(spec, w)
    return np.flip(w, tuple(range(3, w.ndim))) if spec.transposed else w


def canonical(x: Array, source: str, target: str) -> Array:
    if "N" not in source:
        x, source = x[None], "N" + source
    if "N" not in target:
        x, source = x.take(0, source.index("N")), source.replace("N", "")
    return x.transpose([source.index(letter) for letter in target])


def per_group(spec: ConvSpec, w: Array) -> Array:
    """(groups, outputs, inputs, space) of a group."""
    order = spec.weight_layout.replace("M", "O")
    w = w.transpose([order.index(letter) for letter in "OI" + spec.spatial])
    if spec.flip_kernel:
        w = np.flip(w, tuple(range(2, w.ndim)))
    axis = "OI".index(spec.group_axis)
    return np.stack(np.split(w, spec.groups, axis))


def _stuffed(x: Array, steps: tuple[int, ...]) -> Array:
    """Zeros between the elements."""
    sizes = [(n - 1) * s + 1 for n, s in zip(x.shape[2:], steps, strict=True)]
    y = np.zeros((*x.shape[:2], *sizes), x.dtype)
    y[(slice(None), slice(None), *(slice(None, None, s) for s in steps))] = x
    return y


def _padded(x: Array, pads: list[tuple[int, int]], mode: str) -> Array:
    """All axes read through one index array each; -1 reads a zero."""
    indices = [
        [_position(p, n, mode) for p in range(-lo, n + hi)]
        for n, (lo, hi) in zip(x.shape[2:], pads, strict=True)
    ]
    x = np.pad(x, [(0, 0), (0, 0), *[(0, 1)] * (x.ndim - 2)])  # position n is a zero
    for axis, index in enumerate(indices):
        x = x.take(index, axis + 2)
    return x


def _position(p: int, n: int, mode: str) -> int:
    """Where padded position ``p`` reads an axis of size ``n``, on which position n is a zero."""
    if 0 <= p < n:
        return p
    if mode == "zeros":
        return n
    if mode == "replicate":
        return 0 if p < 0 else n - 1
    if mode == "circular":
        return p + n if p < 0 else p - n
    return -p if p < 0 else 2 * (n - 1) - p
