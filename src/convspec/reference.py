"""The reference: what every backend is held to. Slow, short and obvious, in NumPy.

It works in one order only (batch, channels, space and group, output, input, space), adds up one
kernel tap after another in a wide type, and rounds once at the end. It shares no code with any
adapter.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from . import dtypes, weights
from .problem import Problem, resolve

if TYPE_CHECKING:
    from .spec import ConvSpec


def reference(
    spec: ConvSpec,
    x: Any,
    weight: Any,
    bias: Any = None,
    *,
    output_size: int | Sequence[int] | None = None,
    out_dtype: Any = None,
) -> np.ndarray[Any, Any]:
    """What ``spec`` gives on NumPy arrays, by the definition.

    Floats are summed in float64 (complex in complex128) and rounded once; integers modulo
    2**bits of the wider of x's and the result's type.

    Args:
        x: array in ``spec.layout``.
        weight: array of ``spec.weight_shape``.
        bias: array of shape ``(out_channels,)``, or None.
        output_size: transposed only, as in a call.
        out_dtype: element type of the result, default x's.

    Returns:
        The output in ``spec.output_layout``.

    Raises:
        ConvSpecError: as a call of the spec.
    """
    x, weight = np.asarray(x), np.asarray(weight)
    problem = resolve(spec, x.shape, output_size)
    weights.check_shape("weight", weight.shape, spec)
    if bias is not None:
        weights.check_bias(np.shape(bias), spec)
    dtypes.check("x", x.dtype.name)
    wanted = x.dtype.name if out_dtype is None else dtypes.name_of(out_dtype, "out_dtype")
    out = dtypes.numpy_dtype(wanted)
    dtypes.check_out(x.dtype.name, out.name)
    wide = np.dtype(_wide(dtypes.accumulator(x.dtype.name, out.name)))
    with np.errstate(over="ignore", invalid="ignore"):  # integers wrap, inf - inf is nan
        compute = _transposed if spec.transposed else _forward
        y = compute(
            problem, _canonical_input(problem, x.astype(wide)), _taps(problem, weight.astype(wide))
        )
        if bias is not None:
            y = y + np.asarray(bias).astype(wide).reshape(-1, *[1] * problem.rank)
        layout = "NC" + problem.spatial
        if "N" not in problem.output_layout:
            y, layout = y[0], layout[1:]
        y = y.transpose([layout.index(letter) for letter in problem.output_layout])
        return np.ascontiguousarray(y.astype(out))


def _wide(dtype: str) -> str:
    return {"float32": "float64", "complex64": "complex128"}.get(dtype, dtype)


def _canonical_input(problem: Problem, x: Any) -> Any:
    """As (N, C, space)."""
    layout = problem.layout
    if "N" not in layout:
        x, layout = x[None], "N" + layout
    return x.transpose([layout.index(letter) for letter in "NC" + problem.spatial])


def _taps(problem: Problem, weight: Any) -> Any:
    """As (groups, outputs per group, inputs per group, space), unflipped."""
    g = problem.groups
    layout = problem.weight_layout.replace("M", "O")
    w = weight.transpose([layout.index(letter) for letter in "OI" + problem.spatial])
    space = w.shape[2:]
    if problem.group_axis == "O":
        w = w.reshape(g, w.shape[0] // g, w.shape[1], *space)
    else:
        w = w.reshape(w.shape[0], g, w.shape[1] // g, *space).swapaxes(0, 1)
    if problem.flip_kernel:
        w = np.flip(w, tuple(range(3, w.ndim)))
    return w


def _forward(problem: Problem, x: Any, w: Any) -> Any:
    for axis, (n, (lo, hi)) in enumerate(zip(problem.input_size, problem.padding, strict=True)):
        x = _padded(x, axis + 2, n, np.arange(-lo, n + hi), problem.padding_mode)
    g = problem.groups
    x = x.reshape(x.shape[0], g, x.shape[1] // g, *x.shape[2:])
    y = np.zeros((x.shape[0], g, w.shape[1], *problem.output_size), x.dtype)
    for tap in product(*map(range, problem.kernel_size)):
        seen = x
        for axis, (k, d, s, m) in enumerate(
            zip(tap, problem.dilation, problem.stride, problem.output_size, strict=True)
        ):
            seen = seen.take(np.arange(m) * s + k * d, axis + 3)
        y += np.einsum("ngi...,goi->ngo...", seen, w[(..., *tap)])
    return y.reshape(y.shape[0], problem.out_channels, *problem.output_size)


def _padded(x: Any, axis: int, n: int, positions: Any, mode: str) -> Any:
    """``x`` read at ``positions``, of which [0, n) are its own."""
    inside = (positions >= 0) & (positions < n)
    if mode == "reflect":
        read = np.abs(positions)
        read = np.where(read >= n, 2 * (n - 1) - read, read)
    elif mode == "circular":
        read = positions % n
    else:
        read = np.clip(positions, 0, n - 1)
    x = x.take(read, axis)
    if mode == "zeros":
        shape = [1] * x.ndim
        shape[axis] = -1
        x = np.where(inside.reshape(shape), x, np.zeros((), x.dtype))
    return x


def _transposed(problem: Problem, x: Any, w: Any) -> Any:
    g = problem.groups
    x = x.reshape(x.shape[0], g, x.shape[1] // g, *x.shape[2:])
    y = np.zeros((x.shape[0], g, w.shape[1], *problem.output_size), x.dtype)
    for tap in product(*map(range, problem.kernel_size)):
        part = np.einsum("ngi...,goi->ngo...", x, w[(..., *tap)])
        to = []
        for axis, (k, d, s, m, (lo, _)) in enumerate(
            zip(
                tap,
                problem.dilation,
                problem.stride,
                problem.output_size,
                problem.padding,
                strict=True,
            )
        ):
            target = np.arange(problem.input_size[axis]) * s + k * d - lo
            kept = (target >= 0) & (target < m)
            part = part.compress(kept, axis + 3)
            to.append(target[kept])
        y[np.ix_(*map(np.arange, y.shape[:3]), *to)] += part
    return y.reshape(y.shape[0], problem.out_channels, *problem.output_size)
