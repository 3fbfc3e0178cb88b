"""TensorFlow's orders of axes, slices and reversals, which convspec copies, and nothing tells."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

tf = pytest.importorskip("tensorflow")

import convspec  # noqa: E402
from convspec_tensorflow import _views  # noqa: E402

ORDERS = {rank: list(itertools.permutations(range(rank))) for rank in (1, 2, 3, 4, 5)}
TYPES = ["float16", "bfloat16", "float32", "float64", "int8", "uint16", "int64", "bool"]
TYPES += ["complex64", "complex128", "float8_e5m2"]
#: Each operation on an array of shape (2, 3, 4, 5), and the same of NumPy.
EACH: dict[str, tuple[Any, Callable[[Any], Any]]] = {
    "permute": (_views.permute((0, 2, 3, 1)), lambda x: x.transpose(0, 2, 3, 1)),
    "flip": (_views.flip((1, 3)), lambda x: x[:, ::-1, :, ::-1]),
    "part": (
        _views.part((slice(None), slice(1, None), slice(0, 4, 3), slice(1, 5, 2))),
        lambda x: x[:, 1:, 0:4:3, 1:5:2],
    ),
}
each = pytest.mark.parametrize("name", EACH)


def numbers(shape: tuple[int, ...], dtype: str = "float32") -> Any:
    values = np.arange(np.prod(shape), dtype="float32").reshape(shape)
    return tf.cast(tf.constant(values % 100), dtype)


def same(y: Any, expected: Any) -> bool:
    return y.shape == expected.shape and y.numpy().tobytes() == expected.tobytes()


@given(st.data())
def test_every_view_is_numpys(data: st.DataObject) -> None:
    axes = data.draw(st.sampled_from(ORDERS[data.draw(st.integers(1, 5))]))
    dtype = data.draw(st.sampled_from(TYPES))
    x = numbers(tuple(data.draw(st.integers(0, 9)) for _ in axes), dtype)
    assert same(_views.permute(axes)(x), x.numpy().transpose(axes))
    some = tuple(data.draw(st.sets(st.sampled_from(axes))))
    if dtype != "float8_e5m2":  # tf.reverse has no such type
        assert same(_views.flip(some)(x), np.flip(x.numpy(), some))
    index = []
    for n in x.shape:
        start, stop = (data.draw(st.none() | st.integers(0, n)) for _ in "ab")
        index.append(slice(start, stop, data.draw(st.none() | st.integers(1, 3))))
    assert same(_views.part(index)(x), x.numpy()[tuple(index)])


@each
def test_large_ones_are_copied_by_convspec(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    operation, expected = EACH[name]
    x = numbers((2, 64, 48, 56))
    copied = []
    copy = _views.copies.copy
    monkeypatch.setattr(
        _views.copies, "copy", lambda out, view: (copied.append(out), copy(out, view))
    )
    y = operation(x)
    assert same(y, expected(x.numpy()))
    assert np.shares_memory(copied[0], np.asarray(y))
    assert np.asarray(y).ctypes.data % _views.ALIGNMENT == 0


def test_what_does_not_move_is_not_copied() -> None:
    x = numbers((1, 1, 40, 50))
    y = _views.permute((0, 2, 3, 1))(x)
    assert y.shape == (1, 40, 50, 1)
    assert np.shares_memory(np.asarray(x), np.asarray(y))


@each
def test_arrays_that_are_elsewhere_are_left_to_tensorflow(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    operation, expected = EACH[name]
    monkeypatch.setattr(_views, "HERE", "/job:worker/replica:0/task:1/device:CPU:0")
    monkeypatch.setattr(_views.copies, "copy", None)
    x = numbers((2, 3, 4, 5))
    assert same(operation(x), expected(x.numpy()))


def test_graphs_have_tensorflows_operations() -> None:
    def all_of_them(x: Any) -> list[Any]:
        return [operation(x) for operation, _ in EACH.values()]

    traced = tf.function(all_of_them).get_concrete_function(numbers((2, 3, 4, 5)))
    kinds = {op.type for op in traced.graph.get_operations()}
    assert {"Transpose", "ReverseV2", "StridedSlice"} <= kinds


@each
@pytest.mark.parametrize("make", [tf.identity, tf.Variable])
def test_gradients(name: str, make: Any) -> None:
    operation, view = EACH[name]
    x = make(numbers((2, 3, 4, 5)))
    factor = np.arange(120.0, dtype="float32").reshape(2, 3, 4, 5) % 7
    with tf.GradientTape() as outer:
        with tf.GradientTape() as tape:
            for record in (outer, tape):
                record.watch(x)
            y = operation(x)
            y = tf.reduce_sum(y * y * view(factor))
        first = tape.gradient(y, x)
        twice = tf.reduce_sum(first * first)
    taken = np.zeros((2, 3, 4, 5))
    view(taken)[...] = 1
    factor = factor * taken
    np.testing.assert_array_equal(first, 2 * factor * x.numpy())
    np.testing.assert_array_equal(outer.gradient(twice, x), 8 * factor**2 * x.numpy())


def test_a_gradient_that_is_given_as_rows() -> None:
    x = numbers((3, 4))
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = tf.gather(_views.permute((1, 0))(x), [2, 0, 2])
    expected = np.zeros((3, 4))
    expected[:, [0, 2]] = 1, 2
    np.testing.assert_array_equal(tape.gradient(y, x), expected)


@each
def test_forward_mode_and_jacobians(name: str) -> None:
    operation, view = EACH[name]
    x, tangent = numbers((2, 3, 4, 5)), 2 + numbers((2, 3, 4, 5))
    with tf.autodiff.ForwardAccumulator(x, tangent) as accumulator:
        y = operation(x)
    np.testing.assert_array_equal(accumulator.jvp(y), view(tangent.numpy()))
    positions = view(np.arange(120).reshape(x.shape))
    for pfor in (False, True):
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(x)
            y = operation(x)
        jacobian = tape.jacobian(y, x, experimental_use_pfor=pfor)
        expected = np.eye(120)[positions.ravel()]
        np.testing.assert_array_equal(np.reshape(jacobian, (-1, 120)), expected)
    with tf.GradientTape() as tape, tape.stop_recording():
        tape.watch(x)
        y = operation(x)
    assert tape.gradient(y, x) is None


def test_the_result_outlives_what_it_was_made_of() -> None:
    kept = [_views.permute((1, 0))(numbers((300, 400)) + i) for i in range(20)]
    for i, y in enumerate(kept):
        np.testing.assert_array_equal(y, (numbers((300, 400)) + i).numpy().T)


def test_layouts_are_converted_likewise(monkeypatch: pytest.MonkeyPatch) -> None:
    copied: list[Any] = []
    monkeypatch.setattr(_views.copies, "copy", lambda out, view: copied.append(view))
    assert convspec.convert_layout(numbers((2, 3, 4, 5)), "NCHW", "NHWC").shape == (2, 4, 5, 3)
    assert copied


def test_forward_mode_through_a_gradient_of_ones_own() -> None:
    """A forward accumulator transposes the gradient function, in which no tape watches anything."""

    @tf.custom_gradient
    def moved(x: Any) -> Any:
        return tf.transpose(x, (0, 2, 3, 1)), _views.permute((0, 3, 1, 2))

    x = numbers((2, 3, 4, 5))
    with tf.autodiff.ForwardAccumulator(x, x + 1) as accumulator:
        y = moved(x)
    np.testing.assert_array_equal(accumulator.jvp(y), tf.transpose(x + 1, (0, 2, 3, 1)))


def test_where_an_operation_would_run_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """On another device, or later, in a thread that cannot have Python's lock."""
    monkeypatch.setattr(_views.copies, "copy", None)
    x = numbers((2, 3, 4, 5))
    permute = _views.permute((0, 2, 3, 1))
    with tf.device("/device:CPU:0"), pytest.raises(TypeError, match="NoneType"):
        permute(x)
    monkeypatch.setattr(_views, "HERE", "/job:localhost/replica:0/task:0/device:CPU:1")
    with tf.device("/device:CPU:0"):
        assert same(permute(x), x.numpy().transpose(0, 2, 3, 1))
    monkeypatch.undo()
    monkeypatch.setattr(_views.copies, "copy", None)
    tf.config.experimental.set_synchronous_execution(False)
    try:
        assert same(permute(x), x.numpy().transpose(0, 2, 3, 1))
    finally:
        tf.config.experimental.set_synchronous_execution(True)
