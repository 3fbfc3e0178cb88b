"""A box of a chain's result, from the slab of the volume that it reads, nothing else being kept.

The tile plan of each layer is walked backwards: what the box reads of the layer before, what that
reads of the one before, down to the volume. Then it is computed forwards. What a layer lacks at the
volume's edges is its own padding, zeros of the intermediate array and not of the volume, as the
tile plan of that layer says.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate, pairwise, product
from math import prod
from typing import Any

import numpy as np

from ..backend import Backend
from ..layouts import permutation
from ..problem import Problem
from ..tiles import Range, reads, tile
from .activations import Activation
from .chain import Arrays

Array = np.ndarray[Any, Any]
#: For each letter the ranges that are needed, sorted, no two of them touching.
Need = dict[str, tuple[Range, ...]]


def needs(problems: Sequence[Problem], output: Mapping[str, Range]) -> list[Need]:
    """What a box of the result needs: of the volume, of each layer's output, and itself.

    Several ranges of an axis come from circular padding, whose slabs wrap.

    Args:
        problems: the chain's.
        output: ``(start, stop)`` for each letter of the last output.
    """
    found: list[Need] = [{letter: (ends,) for letter, ends in output.items()}]
    for problem in reversed(problems):
        wanted = found[0]
        need: Need = {"C": ((0, problem.in_channels),)}
        if "N" in wanted:
            need["N"] = wanted["N"]
        for axis, letter in enumerate(problem.spatial):
            need[letter] = _merged(
                ends
                for start, stop in wanted[letter]
                for ends in reads(problem, axis, start, stop)[0]
            )
        found.insert(0, need)
    return found


def _merged(ranges: Iterator[Range]) -> tuple[Range, ...]:
    joined: list[Range] = []
    for start, stop in sorted(ranges):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(stop, joined[-1][1]))
        else:
            joined.append((start, stop))
    return tuple(joined)


def size(ranges: Sequence[Range]) -> int:
    return sum(stop - start for start, stop in ranges)


def shape(need: Need, layout: str) -> tuple[int, ...]:
    """Shape of an array that holds what is needed, range after range."""
    return tuple(size(need[letter]) for letter in layout)


def within(ranges: Sequence[Range], start: int, stop: int) -> Range:
    """Where a part of one of the ranges lies in an array that holds range after range."""
    before = accumulate((b - a for a, b in ranges), initial=0)
    for (a, b), at in zip(ranges, before, strict=False):
        if a <= start and stop <= b:
            return at + start - a, at + stop - a
    raise AssertionError(f"{start}:{stop} is not in {ranges}")


def compute(
    problems: Sequence[Problem],
    arrays: Sequence[Arrays],
    activations: Sequence[Activation],
    engine: str | Backend,
    x: Array,
    needed: Sequence[Need],
    workspace: int,
) -> Array:
    """The box that ``needed`` ends with.

    Args:
        problems: the chain's.
        arrays: weight and bias of each layer.
        activations: of each layer.
        engine: the backend that computes.
        x: what is needed of the volume, in the first ``layout``.
        needed: see :func:`needs`.
        workspace: bytes that one call of the engine may take beside its arrays; a layer is
            computed in parts that keep to it.

    Returns:
        An array in the last ``output_layout``.
    """
    before = problems[0].layout
    steps = zip(problems, arrays, activations, pairwise(needed), strict=True)
    for problem, (weight, bias), activation, (have, want) in steps:
        x = x.transpose(permutation(before, problem.layout))
        x = activation(_layer(problem, weight, bias, engine, x, have, want, workspace))
        before = problem.output_layout
    return x


def _layer(
    problem: Problem,
    weight: Array,
    bias: Array | None,
    engine: str | Backend,
    x: Array,
    have: Need,
    want: Need,
    workspace: int,
) -> Array:
    y: Array | None = None
    for box in _boxes(problem, want, workspace, x.dtype.itemsize):
        part = tile(problem, tuple(box[letter] for letter in problem.output_layout))
        local = tuple(
            tuple(within(have[letter], *ends) for ends in ranges)
            for letter, ranges in zip(problem.layout, part.input, strict=True)
        )
        slab = np.ascontiguousarray(replace(part, input=local).read(x))
        result: Array = part.spec(slab, weight, bias, backend=engine)
        full = shape(want, problem.output_layout)
        if result.shape == full:  # the only part
            return result
        if y is None:
            y = np.empty(full, result.dtype)
        y[tuple(slice(*within(want[c], *box[c])) for c in problem.output_layout)] = result
    if y is None:
        raise AssertionError("no part of the output is wanted")
    return y


def _boxes(
    problem: Problem, want: Need, workspace: int, itemsize: int
) -> Iterator[dict[str, Range]]:
    """The boxes that a layer is computed in, one call of the engine each."""
    letters = problem.output_layout
    sizes = {c: max(stop - start for start, stop in want[c]) for c in letters}
    steps = parts(problem, sizes, workspace, itemsize)
    cut = [
        [(at, min(at + steps[c], stop)) for a, stop in want[c] for at in range(a, stop, steps[c])]
        for c in letters
    ]
    for box in product(*cut):
        yield dict(zip(letters, box, strict=True))


# ---- memory ----


def parts(
    problem: Problem, sizes: Mapping[str, int], workspace: int, itemsize: int
) -> dict[str, int]:
    """Sizes of the parts that a layer is computed in: the longest axis halved until they fit."""
    sizes = dict(sizes)
    while needed(problem, sizes, itemsize) > workspace:
        letter = max((c for c in sizes if c != "C"), key=lambda c: sizes[c])
        if sizes[letter] <= 1:
            break
        sizes[letter] = -(-sizes[letter] // 2)
    return sizes


def needed(problem: Problem, sizes: Mapping[str, int], itemsize: int) -> int:
    """Bytes that computing a box of a layer's output takes, its slab and result among them.

    It is a bound for what engines do: unfold all windows, and reorder the slab and the result with
    their channels padded to 8. Half types are widened.
    """
    out = prod(sizes[c] for c in problem.spatial)
    x = y = sizes.get("N", 1)
    for axis, letter in enumerate(problem.spatial):
        s = problem.stride[axis]
        e = problem.dilation[axis] * (problem.kernel_size[axis] - 1) + 1
        n = sizes[letter]
        slab = (n + e - 2) // s + 2 if problem.transposed else (n - 1) * s + e
        x *= min(slab, problem.input_size[axis] + sum(map(abs, problem.padding[axis])))
    y *= out
    taps = prod(problem.kernel_size)
    columns = x * problem.out_channels if problem.transposed else y * problem.in_channels
    reordered = x * _padded(problem.in_channels) + y * _padded(problem.out_channels)
    return (taps * columns + reordered) * max(itemsize, 4)


def _padded(channels: int) -> int:
    return -(-channels // 8) * 8
