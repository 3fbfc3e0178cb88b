"""NumPy's kernel gathers windows in blocks: its memory stays bounded whatever the shape."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

import convspec_numpy._kernel as kernel
from convspec import ConvSpec, reference
from generators import integers


@pytest.mark.parametrize("shape", [(1, 2, 40, 40, 8), (1, 1, 1, 400, 8), (2, 9, 5, 3, 8)], ids=str)
def test_blocks_split_any_axis(monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...]) -> None:
    spec = ConvSpec(8, 3, 3, padding=1, layout="NDHWC")
    rng = np.random.default_rng(0)
    x, w = integers(rng, shape, "float32"), integers(rng, spec.weight_shape, "float32")
    expected = reference(spec, x, w)
    for limit in (1, 5_000, 100_000, 2**26):
        monkeypatch.setattr(kernel, "BLOCK_BYTES", limit)
        np.testing.assert_array_equal(spec(x, w), expected)


def test_extra_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "BLOCK_BYTES", 2**20)
    spec = ConvSpec(16, 4, 3, layout="NDHWC")  # no padding, so that nothing but windows is copied
    x = np.zeros((1, 5, 96, 96, 16), "float32")
    w = np.zeros(spec.weight_shape, "float32")
    tracemalloc.start()
    y = spec(x, w)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # One row of the first axis would gather 94*94 windows of 27*16 floats: 15 MB.
    assert peak < y.nbytes + 2 * 2**20 + 2**19
