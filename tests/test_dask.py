"""dask arrays: lazy, chunked as the input is, and whatever the chunks the same numbers."""

from __future__ import annotations

import re
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import convspec
from convspec import ConvSpec, DTypeError, ShapeError, UnsupportedError
from convspec_dask import DaskBackend
from generators import integers, random_case


def random_chunks(rng: np.random.Generator, shape: tuple[int, ...]) -> tuple[Any, ...]:
    """Any chunks, those of one position and uneven ones among them."""
    ends = ({*rng.integers(1, max(size, 1) + 1, 3).tolist(), size} for size in shape)
    return tuple(
        tuple(int(n) for n in np.diff([0, *sorted(e)])) if size else (0,)
        for e, size in zip(ends, shape, strict=True)
    )


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_any_chunks_give_the_whole(seed: int) -> None:
    rng = np.random.default_rng(seed)
    case = random_case(rng)
    spec = case.spec
    x = integers(rng, case.input_shape, case.dtype)
    w = integers(rng, spec.weight_shape, case.dtype)
    b = integers(rng, spec.bias_shape, case.dtype) if spec.bias else None
    options: dict[str, Any] = {"output_size": case.output_size, "out_dtype": case.out_dtype}
    expected = spec(x, w, b, **options)
    y = spec(da.from_array(x, chunks=random_chunks(rng, x.shape)), w, b, **options)
    assert isinstance(y, da.Array)
    assert (y.shape, y.dtype) == (expected.shape, expected.dtype)
    assert y._meta.dtype == expected.dtype
    with dask.config.set(scheduler="synchronous"):
        found = y.compute()
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)
    for axis, sizes in enumerate(y.chunks):
        assert sum(sizes) == expected.shape[axis]
        assert all(sizes) or not expected.size


SPEC = ConvSpec(2, 3, 3, padding="same", layout="NCDHW")


def volume(chunks: Any = (1, 2, 8, 8, 8)) -> tuple[np.ndarray, Any, np.ndarray]:
    rng = np.random.default_rng(0)
    x = integers(rng, (1, 2, 32, 16, 16), "float32")
    return x, da.from_array(x, chunks=chunks), integers(rng, SPEC.weight_shape, "float32")


def test_nothing_is_computed_before_it_is_asked_for() -> None:
    calls = []

    def load(block_id: Any) -> np.ndarray:
        calls.append(block_id)
        return np.ones((1, 2, 8, 8, 8), "float32")

    x = da.map_blocks(load, chunks=((1,), (2,), (8,) * 4, (8,) * 2, (8,) * 2), meta=np.empty(0))
    x = x.astype("float32")
    y = SPEC(x, volume()[2])
    assert calls == []
    first = y[:, :, :4].compute(scheduler="synchronous")
    assert first.shape == (1, 3, 4, 16, 16)
    assert len(calls) == 8  # of 16: the first layer of chunks and its neighbours


def test_chunks_are_the_inputs() -> None:
    _, lazy, w = volume()
    assert SPEC(lazy, w).chunks == ((1,), (3,), (8,) * 4, (8,) * 2, (8,) * 2)
    strided = SPEC.replace(stride=3, padding=1)
    assert strided(lazy, w).chunks[2:] == ((3, 3, 2, 3), (3, 3), (3, 3))
    up = ConvSpec(2, 3, 2, 2, transposed=True, layout="NCDHW")
    weight = np.ones(up.weight_shape, "float32")
    assert up(lazy, weight).chunks[2:] == ((16,) * 4, (16,) * 2, (16,) * 2)
    whole = SPEC.replace(padding="valid", kernel_size=(30, 1, 1))  # outputs 0 to 2
    assert whole(lazy, np.ones(whole.weight_shape, "float32")).chunks[2] == (3,)


@pytest.mark.parametrize("size", [16, 8, 4])
def test_tasks_are_proportional_to_chunks(size: int) -> None:
    x = da.zeros((1, 2, 64, 64, 64), chunks=(1, 2, size, size, size), dtype="float32")
    y = SPEC(x, volume()[2])
    tasks = len(dict(y.__dask_graph__())) - len(dict(x.__dask_graph__()))
    # A tile, and a cut out of each of its up to 26 neighbours.
    assert tasks <= 27 * y.npartitions + 2


@pytest.mark.parametrize("engine", ["numpy", "torch", "tensorflow", "jax"])
def test_any_engine_computes_the_chunks(engine: str) -> None:
    x, lazy, w = volume()
    y = SPEC(lazy, w, backend=DaskBackend(engine))
    np.testing.assert_array_equal(y.compute(), SPEC(x, w))


def test_weights_may_be_lazy_too() -> None:
    x, lazy, w = volume()
    bias = np.arange(3, dtype="float32")
    y = SPEC(lazy, da.from_array(w, chunks=1), da.from_array(bias, chunks=2))
    np.testing.assert_array_equal(y.compute(), SPEC(x, w, bias))


def test_calls_are_chained_without_computing() -> None:
    x, lazy, w = volume((1, 1, 7, 5, 16))
    down, up = SPEC.replace(stride=2), SPEC.replace(stride=2).adjoint((1, 2, 32, 16, 16))
    y = up(da.maximum(down(lazy, w), 0), w)
    np.testing.assert_array_equal(y.compute(), up(np.maximum(down(x, w), 0), w))


def test_equal_calls_are_one_computation() -> None:
    _, lazy, w = volume()
    lazy_w = da.from_array(w)
    assert SPEC(lazy, lazy_w).name == SPEC(lazy, lazy_w).name
    assert SPEC(lazy, lazy_w).name != SPEC.replace(stride=2)(lazy, lazy_w).name


def test_processes_and_a_cluster() -> None:
    from distributed import Client, LocalCluster

    x, lazy, w = volume()
    expected = SPEC(x, w)
    y = SPEC(lazy, w, backend=DaskBackend("torch"))
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster),
    ):
        np.testing.assert_array_equal(y.compute(), expected)
        check_that_a_short_chunk_is_named()


def test_handed_over_and_back() -> None:
    x, lazy, w = volume()
    y = SPEC(x, w, backend="dask")
    assert type(y) is np.ndarray
    np.testing.assert_array_equal(y, SPEC(x, w))
    moved = convspec.to_framework(lazy, "torch")
    assert moved.shape == x.shape
    assert convspec.convert_layout(lazy, "NCDHW", "NDHWC").shape == (1, 32, 16, 16, 2)


def test_supports_is_the_engines() -> None:
    assert SPEC.supports("dask")
    assert "dask" in convspec.backends()
    assert SPEC.supports(DaskBackend("torch"), dtype="int8")


def test_bad_input() -> None:
    _, lazy, w = volume()
    with pytest.raises(UnsupportedError, match="compute_chunk_sizes"):
        ConvSpec(1, 1, 1, layout="WC")(lazy[0, :, 0, 0].T[lazy[0, 0, 0, 0] > 0][:, :1], w)
    with pytest.raises(DTypeError, match="float64"):
        SPEC(lazy, w.astype("float64"))
    with pytest.raises(UnsupportedError, match="its own chunks"):
        DaskBackend("dask")


def test_a_chunk_that_fails_is_named() -> None:
    with dask.config.set(scheduler="synchronous"):
        check_that_a_short_chunk_is_named()


def check_that_a_short_chunk_is_named() -> None:
    """A chunk that is smaller than the array says would shift all that comes after it."""
    _, lazy, w = volume()
    y = SPEC(lazy.map_blocks(shortened, dtype=lazy.dtype, meta=lazy._meta), w)
    with pytest.raises(ShapeError, match=r"promise \(1, 2, 9, 9, 9\)") as caught:
        y.compute()
    assert re.search(r"in chunk \(0, 0, \d, \d, \d\) of the output", str(caught.value.__notes__))


def shortened(block: np.ndarray, block_id: Any = None) -> np.ndarray:
    return block[:, :, :7] if block_id[2] == 3 else block
