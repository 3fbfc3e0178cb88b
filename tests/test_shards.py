"""Shards put together are the whole, and each is computed from what the plan says it receives."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convspec import ConvSpec, ShapeError
from convspec.problem import resolve
from convspec.shards import Part, Shards, Step, uncut, window
from convspec.tiles import joined, part_of
from generators import integers, random_case


def parts_of(rng: np.random.Generator, size: int, count: int) -> tuple[int, ...]:
    """``count`` sizes that make an axis, some of them perhaps 0."""
    ends = sorted(rng.integers(0, size + 1, count - 1).tolist())
    return tuple(int(n) for n in np.diff([0, *ends, size]))


def drawn(rng: np.random.Generator) -> tuple[Any, Shards]:
    case = random_case(rng)
    problem = resolve(case.spec, case.input_shape, case.output_size)
    letters = [c for c in case.spec.layout if c != "C"]
    split = dict.fromkeys(rng.choice(letters, min(len(letters), 2), replace=False).tolist())
    counts = {c: int(rng.integers(1, 5)) if c in split else 1 for c in case.spec.layout}
    inputs = [
        parts_of(rng, n, counts[c]) for c, n in zip(case.spec.layout, case.input_shape, strict=True)
    ]
    outputs = None
    if rng.random() < 0.5:
        outputs = [
            parts_of(rng, n, counts[c])
            for c, n in zip(problem.output_layout, problem.output_shape, strict=True)
        ]
        if "N" in case.spec.layout and counts["N"] > 1 and rng.random() < 0.5:
            outputs[problem.output_layout.index("N")] = inputs[case.spec.layout.index("N")]
    return case, Shards(problem, inputs, outputs)


def shard(x: np.ndarray, shards: Shards, index: tuple[int, ...]) -> np.ndarray:
    where = []
    for sizes, i in zip(shards.input_sizes, index, strict=True):
        start = sum(sizes[:i])
        where.append(slice(start, start + sizes[i]))
    return x[tuple(where)]


def ran(step: Step, pieces: list[np.ndarray], *rest: Any) -> np.ndarray:
    parts = [pieces[i][tuple(slice(a, b) for a, b in box)] for i, box in step.reads]
    y = step.spec(joined(parts, step.grid), *rest)
    assert y.shape == step.output_shape
    return y


def computed(part: Part, x: np.ndarray, shards: Shards, *rest: Any) -> np.ndarray:
    pieces: list[Any] = [
        shard(x, shards, piece.shard)[tuple(slice(a, b) for a, b in piece.box)]
        for piece in part.pieces
    ]
    # The interior is computed before anything has come.
    own = [a if p.shard == part.index else None for a, p in zip(pieces, part.pieces, strict=True)]
    y = ran(part.interior, own, *rest) if part.interior else None
    for border in part.borders:
        ends = (border.before, border.after)
        before, after = (ran(step, pieces, *rest) if step else None for step in ends)
        y = np.concatenate([a for a in (before, y, after) if a is not None], border.axis)
    return np.empty(part.output_shape, x.dtype) if y is None else y


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_assembled_shards_are_the_whole(seed: int) -> None:
    rng = np.random.default_rng(seed)
    case, shards = drawn(rng)
    spec = case.spec
    x = integers(rng, case.input_shape, "int64")
    w = integers(rng, spec.weight_shape, "int64")
    b = integers(rng, spec.bias_shape, "int64") if spec.bias else None
    whole = spec(x, w, b, output_size=case.output_size)
    y = np.full(whole.shape, -777, "int64")
    sent: dict[Any, int] = {}
    for index in product(*map(range, shards.grid)):
        part = shards.part(index)
        y[tuple(slice(a, b) for a, b in part.output)] = computed(part, x, shards, w, b)
        for other, pieces in shards.sends(index).items():
            assert other != index
            sent[other, index] = len(pieces)
    np.testing.assert_array_equal(y, whole)
    # What one expects of another is what that one sends.
    for index in product(*map(range, shards.grid)):
        for piece in shards.part(index).received:
            sent[index, piece.shard] -= 1
    assert not any(sent.values())


def test_the_interior_is_as_large_as_it_can_be() -> None:
    spec = ConvSpec(1, 1, (5, 3), padding="same", layout="NHWC")
    shards = Shards(resolve(spec, (1, 24, 10, 1), None), [(1,), (8, 8, 8), (10,), (1,)])
    part = shards.part((0, 1, 0, 0))
    assert part.output == ((0, 1), (8, 16), (0, 10), (0, 1))
    assert part.interior is not None
    assert part.interior.output_shape == (1, 4, 10, 1)
    (border,) = part.borders
    assert (border.axis, border.before.output_shape) == (1, (1, 2, 10, 1))
    # Two rows from either neighbour, and nothing else.
    assert [(p.shard[1], p.box[1]) for p in part.received] == [(0, (6, 8)), (2, (0, 2))]
    assert shards.halo_elements() == 4 * 2 * 10
    assert set(shards.sends((0, 1, 0, 0))) == {(0, 0, 0, 0), (0, 2, 0, 0)}


def test_a_halo_wider_than_the_neighbour() -> None:
    spec = ConvSpec(1, 1, 9, padding="same", layout="NWC")
    shards = Shards(resolve(spec, (1, 8, 1), None), [(1,), (2, 2, 2, 2), (1,)])
    part = shards.part((0, 1, 0))
    assert [p.shard[1] for p in part.pieces] == [0, 1, 2, 3]
    assert part.interior is None


@pytest.mark.parametrize(
    ("inputs", "outputs", "message"),
    [
        ([(1,), (4, 5), (1,)], None, "input_sizes (axis W): (4, 5) makes 9, the axis has 8"),
        ([(1,), (9, -1), (1,)], None, "input_sizes (axis W)"),
        ([(1,), (4, 4), (1,)], [(1,), (8,), (1,)], "output_sizes (axis W): expected 2 shards"),
        ([(1,), (4, 4), (1,)], [(1,), (5, 2), (1,)], "makes 7, the axis has 8"),
        ([(1,), (8,), (1, 0)], [(1,), (8,), (1, 0)], "output_sizes (axis C)"),
    ],
)
def test_shards_that_do_not_fit(inputs: Any, outputs: Any, message: str) -> None:
    problem = resolve(ConvSpec(1, 1, 3, padding=1, layout="NWC"), (1, 8, 1), None)
    with pytest.raises(ShapeError) as caught:
        Shards(problem, inputs, outputs)
    assert message in str(caught.value)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_equal_shards_in_equal_steps_give_the_whole(seed: int) -> None:
    """One axis, whose every shard does the same but for where it starts."""
    rng = np.random.default_rng(seed)
    case = random_case(rng)
    spec = case.spec.replace(padding_mode="zeros")
    problem = resolve(spec, case.input_shape, case.output_size)
    axis = int(rng.integers(spec.rank))
    n, out = problem.input_size[axis], problem.output_size[axis]
    counts = [c for c in range(1, n + 1) if n % c == 0 and out % c == 0]
    count = counts[-1] if rng.random() < 0.5 else counts[len(counts) // 2]
    found = window(problem, axis, count)
    x = integers(rng, case.input_shape, "int64")
    w = integers(rng, spec.weight_shape, "int64")
    b = integers(rng, spec.bias_shape, "int64") if spec.bias else None
    at, to = (layout.index(spec.spatial[axis]) for layout in (spec.layout, spec.output_layout))
    around = [(0, 0)] * x.ndim
    around[at] = (found.before, found.after)
    padded = np.pad(x, around)
    padding = [found.padding if i == axis else uncut(problem, i) for i in range(problem.rank)]
    local = part_of(problem, tuple(padding))
    ends = []
    for i in range(count):
        start = i * (n // count) + found.starts[i]
        slab = padded.take(range(start, start + found.size), at)
        y = local(slab, w, b)
        ends.append(y.take(range(found.crops[i], found.crops[i] + found.outputs), to))
    whole = spec(x, w, b, output_size=case.output_size)
    np.testing.assert_array_equal(np.concatenate(ends, to), whole)


def test_devices_that_cannot_share_equally() -> None:
    problem = resolve(ConvSpec(1, 1, 3, layout="NWC"), (1, 8, 1), None)
    with pytest.raises(ShapeError, match="4 devices cannot share axis W equally: the output has 6"):
        window(problem, 0, 4)
