"""The second oracle: the same convolutions by another construction than the reference's.

The reference adds up kernel taps and scatters transposed ones. Here the input is padded by index
arrays made in one go, windows are a strided view, and one einsum contracts them all; a transposed
convolution is the forward one of the zero-stuffed input with the reversed kernel.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from convspec import ConvSpec
from convspec.dtypes import COMPLEX, INTEGER
from convspec.problem import resolve

from .fillings import Array


def windows(
    spec: ConvSpec, x: Array, w: Array, b: Array | None = None, *, output_size: Any = None
) -> Array:
    """The output in a wide type (int64 modulo 2**64, longdouble, complex longdouble), unrounded.

    Args, shapes and orders are those of :func:`convspec.reference`.
    """
    problem = resolve(spec, x.shape, output_size)
    name = x.dtype.name
    wide: Any = np.longdouble
    if name in INTEGER or name in COMPLEX:
        wide = np.int64 if name in INTEGER else np.clongdouble
    x = _canonical(x.astype(wide), spec.layout, "NC" + spec.spatial)
    w = _per_group(spec, w.astype(wide))
    space = tuple(range(2, x.ndim))
    if spec.transposed:
        x, w = _stuffed(x, spec.stride), np.flip(w, tuple(range(3, w.ndim)))
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
    seen: Any = sliding_window_view(x, spec.receptive_field, axis=space)
    strided = (slice(None), slice(None), *(slice(None, None, s) for s in steps))
    seen = seen[(*strided, *(slice(None, None, d) for d in spec.dilation))]
    per_group = spec.in_channels // spec.groups
    seen = seen.reshape(len(x), spec.groups, per_group, *seen.shape[2:])
    places, taps = "defhjklmp"[: spec.rank], "qrstuvwxy"[: spec.rank]
    y = np.einsum(f"ngi{places}{taps},goi{taps}->ngo{places}", seen, w)
    y = y.reshape(len(x), spec.out_channels, *y.shape[3:])
    if b is not None:
        y = y + b.astype(wide).reshape(-1, *[1] * spec.rank)
    return _canonical(y, "NC" + spec.spatial, spec.output_layout)


def _canonical(x: Array, source: str, target: str) -> Array:
    if "N" not in source:
        x, source = x[None], "N" + source
    if "N" not in target:
        x, source = x.take(0, source.index("N")), source.replace("N", "")
    return x.transpose([source.index(letter) for letter in target])


def _per_group(spec: ConvSpec, w: Array) -> Array:
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
