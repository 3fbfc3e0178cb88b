"""Tiles put together are the whole, bit for bit; the plan itself is plain integers."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import convspec
from convspec import ConvSpec, LayoutError, ShapeError
from generators import Case, integers, random_case


def drawn(seed: int) -> tuple[Case, tuple[Any, ...], np.random.Generator]:
    """A random convolution, and chunks for its output: even, uneven or whole."""
    rng = np.random.default_rng(seed)
    case = random_case(rng)
    shape = case.spec.output_shape(case.input_shape, case.output_size)
    return (
        case,
        tuple(chunks(rng, c, n) for c, n in zip(case.spec.output_layout, shape, strict=True)),
        rng,
    )


def chunks(rng: np.random.Generator, letter: str, size: int) -> Any:
    kind = rng.integers(4)
    if letter == "C" or size == 0 or kind == 0:
        return None if kind % 2 else -1
    if kind == 1:
        return int(rng.integers(1, size + 1))
    ends = {*rng.integers(1, size + 1, 3).tolist(), size}
    return tuple(int(n) for n in np.diff([0, *sorted(ends)]))


def assembled(case: Case, plan: Any, x: np.ndarray, *rest: Any) -> np.ndarray:
    y = np.full(plan.output_shape, -777, x.dtype)
    for tile in plan:
        slab = tile.read(x)
        assert slab.shape == tile.input_shape
        part = tile.spec(slab, *rest)
        assert part.shape == tile.output_shape
        y[tile.where] = part
    return y


@settings(max_examples=400, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_assembled_tiles_are_the_whole(seed: int) -> None:
    case, parts, rng = drawn(seed)
    spec = case.spec
    x = integers(rng, case.input_shape, "int64")
    w = integers(rng, spec.weight_shape, "int64")
    b = integers(rng, spec.bias_shape, "int64") if spec.bias else None
    plan = spec.tiles(case.input_shape, parts, case.output_size)
    whole = spec(x, w, b, output_size=case.output_size)
    np.testing.assert_array_equal(assembled(case, plan, x, w, b), whole)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_tiles_cover_the_output_once_and_stay_inside(seed: int) -> None:
    case, parts, _ = drawn(seed)
    plan = case.spec.tiles(case.input_shape, parts, case.output_size)
    count = np.zeros(plan.output_shape, int)
    for tile in plan:
        count[tile.where] += 1
        for ranges, n in zip(tile.input, case.input_shape, strict=True):
            assert len(ranges) <= 2
            assert all(0 <= a < b <= n for a, b in ranges) or n == 0
    assert (count == 1).all()


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_a_slab_reaches_no_further_than_the_halo(seed: int) -> None:
    """And some chunk needs all of it, in the middle of an input of every size modulo the stride."""
    spec = random_case(np.random.default_rng(seed)).spec
    if spec.padding_mode != "zeros":
        return
    spec = spec.replace(output_padding=0)  # beside one, no other output_size may be asked for
    needed = [[0, 0] for _ in spec.spatial]
    # A chunk that owns one input position: one output, or transposed a stride of them.
    chunks, shares = (spec.stride, (1,) * spec.rank) if spec.transposed else (1, spec.stride)
    for more in range(max(spec.stride)):
        named = dict.fromkeys(spec.spatial, 40 + more) | {"N": 1, "C": spec.in_channels}
        shape = [named[letter] for letter in spec.layout]
        plan = spec.tiles(shape, chunks, size_of_another(spec, shape, more))
        for axis, letter in enumerate(spec.spatial):
            at = spec.output_layout.index(letter)
            index = [0] * len(plan.grid)
            index[at] = plan.grid[at] // 2
            ((a, b),) = plan[tuple(index)].input[spec.layout.index(letter)]
            needed[axis][0] = max(needed[axis][0], index[at] * shares[axis] - a)
            needed[axis][1] = max(needed[axis][1], b - (index[at] + 1) * shares[axis])
    assert tuple(map(tuple, needed)) == spec.halo


def size_of_another(spec: ConvSpec, shape: list[int], less: int) -> tuple[int, ...] | None:
    """Of a transposed spec, a size for which named padding has other amounts."""
    if not spec.transposed:
        return None
    sizes = dict(zip(spec.output_layout, spec.output_shape(shape), strict=True))
    for letter, s, entry in zip(spec.spatial, spec.stride, spec.padding, strict=True):
        sizes[letter] -= min(less, s - 1) if isinstance(entry, str) else 0
    return tuple(sizes[letter] for letter in spec.spatial)


def test_every_framework_reads_its_slabs(backend: convspec.Backend) -> None:
    spec = ConvSpec(2, 3, 3, padding=2, padding_mode="circular", layout="NDHWC")
    rng = np.random.default_rng(0)
    x, w = integers(rng, (1, 5, 4, 4, 2), "float32"), integers(rng, spec.weight_shape, "float32")
    whole = spec(x, w)
    joined = {"torch": "cat", "tensorflow": "concat", "jax": "numpy"}.get(backend.name)
    module: Any = np if joined is None else __import__(backend.name, fromlist=["numpy"])
    concatenate = module.concatenate if joined is None else getattr(module, joined)
    if backend.name == "jax":
        concatenate = concatenate.concatenate
    given_x, given_w = backend.from_foreign(x), backend.from_foreign(w)
    for tile in spec.tiles(x.shape, (4, 3, 6)):
        part = tile.spec(tile.read(given_x, concatenate), given_w)
        np.testing.assert_array_equal(backend.to_numpy(part), whole[tile.where])


def test_one_slab_by_hand() -> None:
    spec = ConvSpec(1, 1, 3, stride=2, padding="same", layout="NWC")
    first, last = spec.tiles((1, 6, 1), 2)
    assert first.padding == ((0, 0),)
    assert first.input == (((0, 1),), ((0, 5),), ((0, 1),))
    assert last.input == (((0, 1),), ((4, 6),), ((0, 1),))
    assert last.padding == ((0, 1),)
    assert last.padding_mode == "zeros"
    assert (first.output, last.output) == (
        ((0, 1), (0, 2), (0, 1)),
        ((0, 1), (2, 3), (0, 1)),
    )
    assert spec.halo == ((1, 1),)  # "same" pads (0, 1) on even sizes, (1, 1) on odd ones


def test_circular_padding_wraps_in_two_ranges() -> None:
    spec = ConvSpec(1, 1, 3, padding=1, padding_mode="circular", layout="WC")
    tiles = spec.tiles((8, 1), 4)
    assert [tile.input[0] for tile in tiles] == [((7, 8), (0, 5)), ((3, 8), (0, 1))]
    assert all(tile.padding == ((0, 0),) for tile in tiles)


def test_millions_of_tiles_are_not_held() -> None:
    spec = ConvSpec(1, 1, 3, padding=1, layout="NCDHW")
    plan = spec.tiles((1, 1, 4096, 4096, 4096), 4)
    assert len(plan) == 1024**3
    assert plan[-1].output[2:] == ((4092, 4096),) * 3
    assert plan[(0, 0, 1, 0, 1023)].index == (0, 0, 1, 0, 1023)
    assert plan[1024**2 + 1023] == plan[(0, 0, 1, 0, 1023)]
    assert len(list(itertools.islice(plan, 1000))) == 1000
    assert [tile.index[-1] for tile in plan[2:8:3]] == [2, 5]
    with pytest.raises(IndexError):
        plan[len(plan)]
    with pytest.raises(IndexError):
        plan[(0, 0, 0, 0, 1024)]
    with pytest.raises(IndexError, match="one chunk for each axis"):
        plan[(0, 0, 0)]


def test_an_empty_batch_has_no_tiles() -> None:
    assert list(ConvSpec(1, 1, 3, layout="NCW").tiles((0, 1, 8), 2)) == []


@pytest.mark.parametrize(
    ("chunks", "message"),
    [
        ((2, 2), "one entry for each spatial axis (HWD)"),
        (0, "at least 1"),
        (-2, "at least 1"),
        (2.5, "expected an integer"),
        (True, "got the bool"),
        (((4, 4), 2, 2), "(axis H): (4, 4) makes 8, the axis has 9"),
        (((4, 6, -1), 2, 2), "at least 1"),
        ((1, 2, 2, 2, 1), "axis C has to stay whole, all 2 channels"),
    ],
    ids=str,
)
def test_chunks_that_do_not_fit(chunks: Any, message: str) -> None:
    spec = ConvSpec(3, 2, 3, padding=1, layout="NHWDC")
    with pytest.raises(ShapeError, match="output_chunks") as caught:
        spec.tiles((1, 9, 9, 9, 3), chunks)
    assert message in str(caught.value)


def test_the_shape_is_checked_at_once() -> None:
    with pytest.raises(LayoutError):
        ConvSpec(3, 2, 3, layout="NHWC").tiles((9, 9, 3), 2)
