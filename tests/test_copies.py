"""Contiguous copies: every element in its place, whatever the strides."""

from __future__ import annotations

import ctypes
import mmap
import multiprocessing
import time
import weakref
from collections import deque
from collections.abc import Iterator
from math import prod
from threading import Barrier
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from convspec import ConvSpec, ConvSpecError, convert_layout, copies, threads

TYPES = ["int8", "uint16", "float32", "float64", "complex128", ">f4"]
LENGTHS = st.one_of(st.integers(0, 20), st.sampled_from([128, 131, 300]))


@settings(deadline=None, max_examples=100)
@given(data=st.data())
def test_every_element_is_in_its_place(data: st.DataObject) -> None:
    shape = data.draw(st.lists(LENGTHS, min_size=1, max_size=6).filter(lambda n: prod(n) < 10**5))
    dtype = data.draw(st.sampled_from(TYPES))
    x = (np.arange(np.prod(shape)) % 101).astype(dtype).reshape(shape)
    steps = tuple(slice(None, None, data.draw(st.sampled_from([1, -1, 2]))) for _ in shape)
    view = x.transpose(data.draw(st.permutations(range(len(shape)))))[steps]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(copies, "SMALL", 1)
        size = max(data.draw(st.integers(16, 5000)), 2 * prod(shape) // 100)
        patched.setattr(copies, "BLOCK", size)
        patched.setattr(copies, "COMPILED", size)
        if data.draw(st.booleans()):  # as where numba is not installed
            patched.setattr(copies, "_kernel", lambda: None)
        copy = copies.contiguous(view)
        np.testing.assert_array_equal(copy, view, strict=True)
        assert copy.flags.c_contiguous
        wide = copies.contiguous(view, np.dtype("complex128"))
        np.testing.assert_array_equal(wide, view.astype("complex128"), strict=True)


def test_bits_of_nan_and_bfloat16_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    monkeypatch.setattr(copies, "SMALL", 1)
    for dtype, bits in (("float32", "u4"), (ml_dtypes.bfloat16, "u2")):
        rng = np.random.default_rng(0)
        x = rng.integers(0, 2**16, (50, 60)).astype(bits) << (8 * np.dtype(bits).itemsize - 16)
        copy = copies.contiguous(x.view(dtype).T)
        np.testing.assert_array_equal(copy.view(bits), x.T)
        assert copy.dtype == dtype


@pytest.mark.parametrize("rows", [1, 3, 7, 8, 9, 16, 17])
@pytest.mark.parametrize("columns", [2, 5, 8, 11, 200])
def test_the_compiled_kernel_writes_nothing_beside_its_block(rows: int, columns: int) -> None:
    """Vectors that reach beyond a row are for the next store to set right, inside the block."""
    pytest.importorskip("numba")
    rng = np.random.default_rng(0)
    x = rng.integers(0, 100, (2, rows, columns)).astype("float32")
    around = np.full(x.size + 64, -1, "float32")
    out = around[32:-32].reshape(2, columns, rows)
    assert copies.compiled(out, x.transpose(0, 2, 1))
    np.testing.assert_array_equal(out, x.transpose(0, 2, 1))
    assert (around[:32] == -1).all()
    assert (around[-32:] == -1).all()
    # The view ends where a page ends that may not be read beyond.
    page = -(-x[0].nbytes // mmap.PAGESIZE) * mmap.PAGESIZE
    memory = mmap.mmap(-1, 2 * page)
    libc = ctypes.CDLL(None, use_errno=True)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    last = np.frombuffer(memory, "uint8", page)[-x[0].nbytes :].view("float32")
    last = last.reshape(rows, columns)
    last[...] = x[0]
    assert libc.mprotect(ctypes.c_void_p(start + page), page, 0) == 0
    try:
        for way in (1, -1):
            out = np.empty((columns, rows), "float32")
            assert copies.compiled(out, last[::way].T)
            np.testing.assert_array_equal(out, x[0, ::way].T)
    finally:
        libc.mprotect(ctypes.c_void_p(start + page), page, mmap.PROT_READ | mmap.PROT_WRITE)


def test_a_contiguous_array_is_itself() -> None:
    x = np.zeros((2**10, 2**10), "float32")
    assert copies.contiguous(x) is x


def test_convert_layout_and_weight_copy_on_request() -> None:
    x = np.arange(2 * 3 * 4 * 5, dtype="float32").reshape(2, 3, 4, 5)
    view = convert_layout(x, "NCHW", "NHWC")
    assert np.shares_memory(view, x)
    copy = convert_layout(x, "NCHW", "NHWC", contiguous=True)
    assert copy.flags.c_contiguous
    np.testing.assert_array_equal(copy, view)
    spec = ConvSpec(3, 2, (4, 5))
    weight = spec.convert_weight(x, to="tensorflow", contiguous=True)
    assert weight.flags.c_contiguous
    np.testing.assert_array_equal(weight, spec.convert_weight(x, to="tensorflow"))


def test_an_error_in_a_worker_reaches_the_caller() -> None:
    def work(items: Iterator[int]) -> None:
        for item in items:
            if item == 40:
                raise ConvSpecError("forty")

    with pytest.raises(ConvSpecError, match=r"^forty$"):
        threads.share(work, range(100))


def test_work_may_share_work_and_nothing_is_done_twice() -> None:
    done: list[tuple[int, int]] = []

    def work(items: Iterator[int]) -> None:
        for i in items:
            threads.share(lambda inner, i=i: done.extend((i, j) for j in inner), range(20))

    threads.share(work, range(20))
    assert sorted(done) == [(i, j) for i in range(20) for j in range(20)]


def test_nothing_is_kept_of_work_that_is_done() -> None:
    array = np.zeros(8)
    kept = weakref.ref(array)
    threads.share(lambda items, array=array: deque(items, 0), range(100))
    del array
    end = time.monotonic() + 60  # a helper that came too late is dropped when a thread looks at it
    while kept() is not None and time.monotonic() < end:
        time.sleep(0.001)
    assert kept() is None


def test_every_worker_has_the_callers_error_state(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "cores", lambda: 2)
    both, found = Barrier(2), []

    def work(items: Iterator[int]) -> None:
        for _ in items:
            both.wait(timeout=60)
            found.append(np.geterr()["invalid"])

    with np.errstate(invalid="ignore"):
        threads.share(work, range(2))
    assert found == ["ignore", "ignore"]


@pytest.mark.skipif(not hasattr(threads.os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "cores", lambda: 2)
    x = np.arange(2**20, dtype="float32").reshape(2**10, 2**10)
    copies.contiguous(x.T)  # the parent's threads are running now
    receiver, sender = multiprocessing.Pipe(duplex=False)
    child = multiprocessing.get_context("fork").Process(target=_child, args=(x, sender))
    child.start()
    assert receiver.poll(60)
    assert receiver.recv()
    child.join()


def _child(x: Any, sender: Any) -> None:
    sender.send(bool((copies.contiguous(x.T) == x.T).all()))
