"""Other orders of axes in TensorFlow: what is copied by convspec, and that nothing tells."""

from __future__ import annotations

import itertools

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

tf = pytest.importorskip("tensorflow")

from convspec_tensorflow import _transposes  # noqa: E402

import convspec  # noqa: E402

ORDERS = {rank: list(itertools.permutations(range(rank))) for rank in (1, 2, 3, 4, 5)}
TYPES = ["float16", "bfloat16", "float32", "float64", "int8", "uint16", "int64", "bool"]
TYPES += ["complex64", "complex128", "float8_e5m2"]


def numbers(shape: tuple[int, ...], dtype: str = "float32"):
    values = np.arange(np.prod(shape), dtype="float32").reshape(shape)
    return tf.cast(tf.constant(values % 100), dtype)


@given(st.data())
def test_every_order_is_numpys(data: st.DataObject) -> None:
    axes = data.draw(st.sampled_from(ORDERS[data.draw(st.integers(1, 5))]))
    x = numbers(tuple(data.draw(st.integers(0, 9)) for _ in axes), data.draw(st.sampled_from(TYPES)))
    y = _transposes.permute(axes)(x)
    assert y.dtype == x.dtype
    assert y.numpy().tobytes() == x.numpy().transpose(axes).tobytes()


@pytest.mark.parametrize("axes", [(0, 2, 3, 1), (0, 3, 1, 2)])
def test_large_ones_are_copied_by_convspec(axes: tuple[int, ...], monkeypatch) -> None:
    x = numbers((2, 64, 48, 56))
    monkeypatch.setattr(tf.raw_ops, "Transpose", None)
    y = _transposes.permute(axes)(x)
    np.testing.assert_array_equal(y, x.numpy().transpose(axes))
    assert np.asarray(y).ctypes.data % _transposes.ALIGNMENT == 0
    assert not np.shares_memory(np.asarray(y), np.asarray(x))


def test_arrays_that_are_elsewhere_are_left_to_tensorflow(monkeypatch) -> None:
    x = numbers((2, 3, 4))
    monkeypatch.setattr(_transposes, "HERE", "/job:worker/replica:0/task:1/device:CPU:0")
    monkeypatch.setattr(_transposes.copies, "copy", None)
    np.testing.assert_array_equal(_transposes.permute((2, 0, 1))(x), x.numpy().transpose(2, 0, 1))


def test_graphs_have_tensorflows_operation() -> None:
    traced = tf.function(_transposes.permute((1, 0)))
    kinds = [op.type for op in traced.get_concrete_function(numbers((2, 3))).graph.get_operations()]
    assert "Transpose" in kinds


def weighted(x):
    """A sum that has another gradient at every element."""
    return tf.reduce_sum(x * x * numbers(x.shape, x.dtype))


@pytest.mark.parametrize("make", [tf.identity, tf.Variable])
def test_gradients(make) -> None:
    axes = (0, 2, 3, 1)
    x = make(numbers((2, 3, 4, 5)))
    with tf.GradientTape() as outer:
        with tf.GradientTape() as tape:
            for record in (outer, tape):
                record.watch(x)
            y = weighted(_transposes.permute(axes)(x))
        first = tape.gradient(y, x)
        twice = tf.reduce_sum(first * first)
    factor = np.arange(120.0).reshape(2, 4, 5, 3) % 100
    factor = factor.transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(first, 2 * factor * x.numpy())
    np.testing.assert_array_equal(outer.gradient(twice, x), 8 * factor**2 * x.numpy())


def test_a_gradient_that_is_given_as_rows() -> None:
    x = numbers((3, 4))
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = tf.gather(_transposes.permute((1, 0))(x), [2, 0, 2])
    expected = np.zeros((3, 4))
    expected[:, [0, 2]] = 1, 2
    np.testing.assert_array_equal(tape.gradient(y, x), expected)


def test_forward_mode_and_jacobians() -> None:
    permute, x, tangent = _transposes.permute((1, 0)), numbers((3, 4)), 2 + numbers((3, 4))
    with tf.autodiff.ForwardAccumulator(x, tangent) as accumulator:
        y = permute(x)
    np.testing.assert_array_equal(accumulator.jvp(y), tf.transpose(tangent))
    for pfor in (False, True):
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(x)
            y = permute(x)
        jacobian = tape.jacobian(y, x, experimental_use_pfor=pfor)
        expected = np.eye(12).reshape(3, 4, 3, 4).transpose(1, 0, 2, 3)
        np.testing.assert_array_equal(jacobian, expected)
    with tf.GradientTape() as tape, tape.stop_recording():
        tape.watch(x)
        y = permute(x)
    assert tape.gradient(y, x) is None


def test_the_result_outlives_what_it_was_made_of() -> None:
    kept = [_transposes.permute((1, 0))(numbers((300, 400)) + i) for i in range(20)]
    for i, y in enumerate(kept):
        np.testing.assert_array_equal(y, (numbers((300, 400)) + i).numpy().T)


def test_layouts_are_converted_likewise(monkeypatch) -> None:
    monkeypatch.setattr(tf.raw_ops, "Transpose", None)
    y = convspec.convert_layout(numbers((2, 3, 4, 5)), "NCHW", "NHWC")
    assert y.shape == (2, 4, 5, 3)
