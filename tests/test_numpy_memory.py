"""NumPy's kernel works in blocks: its memory stays bounded whatever the shape."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest

import convspec_numpy._blocks as blocks
from convspec import ConvSpec, reference
from convspec.backend import Environment
from convspec.problem import resolve
from convspec_numpy import NumpyBackend
from generators import integers


def prepared(spec: ConvSpec, shape: tuple[int, ...]) -> Any:
    """The kernel, which is cut into blocks when it is prepared: not one that was kept."""
    env = Environment("float32", "float32", "cpu", bias=False, traced=False)
    return NumpyBackend().prepare(resolve(spec, shape, None), env)


SPECS = {
    "volume": (ConvSpec(8, 3, 3, padding=1, layout="NDHWC", bias=False), (1, 2, 40, 40, 8)),
    "row": (ConvSpec(8, 3, 3, padding=1, layout="NDHWC", bias=False), (1, 1, 1, 400, 8)),
    "batch": (ConvSpec(8, 3, 3, padding=1, layout="NDHWC", bias=False), (2, 9, 5, 3, 8)),
    "channels first": (ConvSpec(4, 6, (3, 2), groups=2, padding=1, bias=False), (2, 4, 13, 9)),
    "cropped": (ConvSpec(2, 3, 3, stride=2, padding=((2, -3), (-1, 4)), bias=False), (2, 2, 23, 9)),
    "far outside": (ConvSpec(1, 1, 2, padding=((9, 5),), bias=False), (1, 1, 3)),
    "depthwise": (ConvSpec(6, 12, (3, 2), groups=6, padding="same", bias=False), (2, 6, 11, 14)),
    "depthwise, channels last": (
        ConvSpec(5, 10, (2, 3, 2), dilation=(1, 2, 1), groups=5, layout="NDHWC", bias=False),
        (2, 7, 9, 8, 5),
    ),
    "depthwise, strides": (
        ConvSpec(3, 3, 3, stride=(1, 2), groups=3, layout="NHWC", bias=False),
        (2, 12, 11, 3),
    ),
    "transposed": (
        ConvSpec(4, 6, (3, 3), stride=2, padding=1, groups=2, transposed=True, bias=False),
        (3, 4, 8, 7),
    ),
}


@pytest.mark.parametrize("name", SPECS)
def test_blocks_split_any_axis(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    spec, shape = SPECS[name]
    rng = np.random.default_rng(0)
    x, w = integers(rng, shape, "float32"), integers(rng, spec.weight_shape, "float32")
    expected = reference(spec, x, w)
    for limit in (1, 100, 1_000, 5_000, 100_000, 2**26):
        for bound in ("BLOCK_BYTES", "CACHED", "CACHED_PRODUCTS"):
            monkeypatch.setattr(blocks, bound, limit)
        np.testing.assert_array_equal(prepared(spec, shape)(x, w), expected)


MEMORY = {
    # One row of the first axis would gather 94*94 windows of 27*16 floats: 15 MB.
    "windows": (ConvSpec(16, 4, 3, layout="NDHWC", bias=False), (1, 5, 96, 96, 16)),
    "padding": (ConvSpec(16, 4, 3, padding=1, layout="NDHWC", bias=False), (1, 40, 30, 30, 16)),
    "depthwise": (ConvSpec(64, 64, (3, 3), padding=1, groups=64, bias=False), (2, 64, 80, 80)),
    "transposed": (
        ConvSpec(8, 16, 2, stride=2, transposed=True, layout="NHWC", bias=False),
        (1, 200, 200, 8),
    ),
}


@pytest.mark.parametrize("name", MEMORY)
def test_extra_memory_is_bounded(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    for bound in ("BLOCK_BYTES", "CACHED", "CACHED_PRODUCTS"):
        monkeypatch.setattr(blocks, bound, 2**20)
    spec, shape = MEMORY[name]
    x, w = np.zeros(shape, "float32"), np.zeros(spec.weight_shape, "float32")
    run = prepared(spec, shape)
    tracemalloc.start()
    y = run(x, w)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # What is beside the output, and less than the input, which is 2 MB at least.
    assert x.nbytes > 2**20
    assert peak < y.nbytes + 2 * 2**20 + 2**19
