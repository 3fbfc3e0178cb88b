"""TensorFlow's array operations as plans have them: what they give, and their gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from convspec_tensorflow import _arrays

#: Operations as plans have them, with what NumPy makes of a 3 x 4 x 5 array.
BOUND: dict[str, tuple[str, dict[str, Any], Callable[[Any], Any]]] = {
    "slice": (
        "slice",
        {"index": (slice(None), slice(1, 3), slice(0, None, 2))},
        lambda x: x[:, 1:3, ::2],
    ),
    "slice from the end": (
        "slice",
        {"index": (slice(-2, None), slice(None, -1), slice(None, None, -1))},
        lambda x: x[-2:, :-1, ::-1],
    ),
    "slice of nothing": ("slice", {"index": (slice(2, 2),) + (slice(None),) * 2}, lambda x: x[2:2]),
    "pad": (
        "pad",
        {"pairs": ((0, 2), (1, 0), (0, 0)), "mode": "zeros"},
        lambda x: np.pad(x, ((0, 2), (1, 0), (0, 0))),
    ),
    "reflect": (
        "pad",
        {"pairs": ((0, 2), (1, 0), (0, 4)), "mode": "reflect"},
        lambda x: np.pad(x, ((0, 2), (1, 0), (0, 4)), mode="reflect"),
    ),
    "flip": ("flip", {"axes": (0, 2)}, lambda x: x[::-1, :, ::-1]),
    "permute": ("permute", {"axes": (2, 0, 1)}, lambda x: x.transpose(2, 0, 1)),
    "reshape": ("reshape", {"shape": (2, 6, 5)}, lambda x: x.reshape(2, 6, 5)),
}


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8", "uint64", "bool"])
@pytest.mark.parametrize("name", BOUND)
def test_bound_operations(name: str, dtype: str) -> None:
    op, params, expected = BOUND[name]
    x = np.arange(60).reshape(3, 4, 5).astype(dtype)
    step = _arrays.bound(op, params)
    assert step is not None
    np.testing.assert_array_equal(step.function(tf.constant(x)).numpy(), expected(x))


@pytest.mark.parametrize(
    ("axis", "part"),
    [
        (0, slice(0, 3, 2)),
        (1, slice(0, 3, 2)),
        (1, slice(1, 3)),
        (1, slice(1, 4, 2)),
        (1, slice(0, 4, 3)),
        (2, slice(0, 5, 2)),
        (2, slice(2, 3, 4)),
        (2, slice(1, 5, 3)),
        (2, slice(3, 4, 3)),
    ],
)
def test_gradients_of_slices(axis: int, part: slice) -> None:
    """Those of StridedSlice are slow; here they are padding, also of an unknown batch."""
    index = tuple(part if i == axis else slice(None) for i in range(3))
    step = _arrays.bound("slice", {"index": index})
    assert step is not None
    x = tf.reshape(tf.range(60.0), (3, 4, 5))

    def gradient(run: Callable[[Any], Any], x: Any) -> tuple[Any, Any]:
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = run(x)
            z = tf.reduce_sum(y**2)
        return y, tape.gradient(z, x)

    expected = gradient(lambda x: x[index], x)
    shape = [None if axis else 3, 4, 5]
    graph = tf.function(lambda x: gradient(step.function, x))
    traced = graph.get_concrete_function(tf.TensorSpec(shape))
    kinds = {operation.type for operation in traced.graph.get_operations()}
    assert "Slice" in kinds
    assert "StridedSliceGrad" not in kinds
    for found in (gradient(step.function, x), traced(x)):
        for one, other in zip(found, expected, strict=True):
            assert np.array_equal(one, other)
    assert np.array_equal(step.function(x), expected[0])


def test_sizes_of_more_than_32_bits() -> None:
    """Nothing is computed: the shape is inferred."""
    step = _arrays.bound("reshape", {"shape": (1 << 33, 1)})
    assert step is not None
    with tf.Graph().as_default():
        assert step.function(tf.zeros((1 << 16, 1 << 17), tf.int8)).shape == (1 << 33, 1)
