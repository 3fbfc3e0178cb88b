"""The gradients of a repeated eager call, which are one graph."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from convspec import ConvSpec
from convspec_tensorflow import _backward
from traced_specs import SPECS, integers

#: Of a shape of its own in each test, so that none has been called before.
SPEC = ConvSpec(3, 4, 3, padding=1, layout="NHWC", weight_layout="HWIO")


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Which arrays each graph that is made has gradients by."""
    found: list[tuple[int, ...]] = []
    graph = _backward._graph

    def counted(function: Any, wanted: tuple[int, ...], *rest: Any, **options: Any) -> Any:
        found.append(wanted)
        return graph(function, wanted, *rest, **options)

    monkeypatch.setattr(_backward, "_graph", counted)
    return found


def given(spec: ConvSpec, size: int = 5) -> list[tf.Tensor]:
    return list(map(tf.constant, integers(spec, size, 2)))


def gradients(spec: ConvSpec, arrays: list[Any], wanted: tuple[int, ...]) -> list[Any]:
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        watched = [arrays[i] for i in wanted]
        tape.watch(watched)
        loss = tf.reduce_sum(spec(*arrays) ** 2)
    found: list[Any] = tape.gradient(loss, watched)
    return found


@pytest.mark.parametrize("name", SPECS)
def test_repeated_gradients(name: str) -> None:
    """By each of the arrays, alone and together, the first time, as a graph, and once more."""
    spec = SPECS[name]
    arrays = given(spec)
    with tf.GradientTape() as tape:
        tape.watch(arrays)
        loss = tf.reduce_sum(spec(*arrays) ** 2)
    expected = tape.gradient(loss, arrays)
    for wanted in (w for count in (3, 2, 1) for w in combinations(range(3), count)):
        for _ in range(2):
            found = gradients(spec, arrays, wanted)
            for i, da in zip(wanted, found, strict=True):
                np.testing.assert_array_equal(da, expected[i])


def test_a_graph_from_the_second_time_on(made: list[tuple[int, ...]]) -> None:
    """One for each choice of the arrays: of a first layer there is no gradient by the input."""
    arrays = given(SPEC, 17)
    gradients(SPEC, arrays, (0, 1, 2))
    assert made == []
    for wanted in ((0, 1, 2), (1, 2), (1, 2), (0, 1, 2)):
        gradients(SPEC, arrays, wanted)
    assert made == [(0, 1, 2), (1, 2)]


def test_no_graph_without_gradients(made: list[tuple[int, ...]]) -> None:
    arrays = given(SPEC, 19)
    for _ in range(3):
        SPEC(*arrays)
        with tf.GradientTape() as tape:
            tape.watch(tf.ones(()))
            y = SPEC(*arrays)  # what is watched is something else
        assert tape.gradient(y, arrays) == [None] * 3
    assert made == []


def test_variables_are_watched() -> None:
    arrays = given(SPEC, 21)
    x, w, b = (tf.Variable(array) for array in arrays)
    for _ in range(3):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(SPEC(x, w, b) ** 2)
        for found, expected in zip(
            tape.gradient(loss, [x, w, b]), gradients(SPEC, arrays, (0, 1, 2)), strict=True
        ):
            np.testing.assert_array_equal(found, expected)


def test_one_tape_for_two_calls_of_a_kind() -> None:
    """As of two layers, with a tape that is asked more than once."""
    x, w, b = given(SPEC.replace(out_channels=3), 23)
    spec = SPEC.replace(out_channels=3)
    expected: list[Any] = []
    for _ in range(3):
        with tf.GradientTape(persistent=True) as tape:
            tape.watch([x, w, b])
            y = spec(tf.sign(spec(x, w, b)) + x, w, b)
        for _ in range(2):
            found = tape.gradient(y, [x, w, b])
            expected = expected or found
            for a, c in zip(found, expected, strict=True):
                np.testing.assert_array_equal(a, c)


def test_the_tangent_of_a_cotangent() -> None:
    """Forward mode over a tape, of which only what comes back has a tangent."""
    arrays = given(SPEC, 25)
    g = tf.ones(SPEC.output_shape(arrays[0].shape))
    for _ in range(3):
        with tf.autodiff.ForwardAccumulator(g, 2 * g) as forward:
            with tf.GradientTape() as tape:
                tape.watch(arrays)
                y = SPEC(*arrays)
            dx, dw, _ = tape.gradient(y, arrays, output_gradients=g)
        np.testing.assert_array_equal(forward.jvp(dx), 2 * dx)
        np.testing.assert_array_equal(forward.jvp(dw), 2 * dw)


def test_one_tensor_as_input_and_weight() -> None:
    """A Jacobian by it counts each of the two once."""
    spec = ConvSpec(3, 3, 3, bias=False, layout="NHWC", weight_layout="HWIO")
    a = tf.reshape(tf.range(81.0), (3, 3, 3, 3)) % 5
    for pfor in (True, True, True, False):
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(a)
            y = spec(a, a)
        jacobian = tape.jacobian(y, a, experimental_use_pfor=pfor)
        np.testing.assert_array_equal(tf.tensordot(jacobian, a, 4), 2 * y)  # of degree two


@pytest.mark.parametrize("groups", [1, 2])
def test_slices_as_cotangents(groups: int) -> None:
    spec = ConvSpec(4, 4, 3, groups=groups, bias=False, layout="NHWC")
    x, w = given(spec, 6)[:2]
    for _ in range(3):
        with tf.GradientTape(persistent=True) as tape:
            tape.watch([x, w])
            y = spec(x, w)
            rows, twice = tf.gather(y, [1, 1]), 2 * y[1:]
        for found, expected in zip(
            tape.gradient(rows, [x, w]), tape.gradient(twice, [x, w]), strict=True
        ):
            np.testing.assert_array_equal(found, expected)


def test_cotangents_of_a_wrong_shape() -> None:
    """They are refused, and spoil nothing; TensorFlow's kernel would end the process."""
    arrays = given(SPEC, 27)
    for _ in range(3):
        for wrong in ((4,), (1, 1, 1, 4)):
            with tf.GradientTape() as tape:
                tape.watch(arrays)
                y = SPEC(*arrays)
            with pytest.raises((tf.errors.InvalidArgumentError, ValueError)):
                tape.gradient(y, arrays[:2], output_gradients=tf.ones(wrong))
        assert len(gradients(SPEC, arrays, (0, 1, 2))) == 3


def test_kernels_that_graphs_do_not_know() -> None:
    """The shapes of a dilated volume with strides: its gradients stay the tape's."""
    spec = ConvSpec(2, 2, 2, (1, 1, 3), dilation=(2, 2, 1), groups=2, bias=False, layout="NDHWC")
    x, w = (tf.ones(shape) for shape in ((2, 6, 7, 8, 2), spec.weight_shape))
    first = gradients(spec, [x, w], (0, 1))
    for _ in range(2):
        for found, expected in zip(gradients(spec, [x, w], (0, 1)), first, strict=True):
            np.testing.assert_array_equal(found, expected)


def test_threads_of_tensorflow(made: list[tuple[int, ...]]) -> None:
    """In tf.py_function a graph could wait for a thread that waits for it."""
    arrays = given(SPEC, 29)
    first = gradients(SPEC, arrays, (0, 1, 2))

    @tf.function
    def graph() -> Any:
        run = lambda *arrays: gradients(SPEC, list(arrays), (0, 1, 2))  # noqa: E731
        return tf.py_function(run, arrays, [tf.float32] * 3)

    for _ in range(2):
        for found, expected in zip(graph(), first, strict=True):
            np.testing.assert_array_equal(found, expected)
    assert made == []
