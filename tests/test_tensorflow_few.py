"""Gradients by inputs of few channels, by TensorFlow's own kernel: exact, in every transform."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import convspec
import convspec_tensorflow._backend as adapter
from convspec import ConvSpec
from convspec_tensorflow import _few
from generators import integers

UP = {"layout": "NHWC", "weight_layout": "HWOI"}
LAST = {2: {"layout": "NHWC", "weight_layout": "HWIO"}, 3: {"layout": "NDHWC"}}
SPECS = {
    "signal": (ConvSpec(1, 4, (10,), 5, bias=False), (2, 1, 61)),
    "signal, same": (ConvSpec(2, 3, (4,), 3, "same", bias=False), (3, 2, 17)),
    "stem": (ConvSpec(3, 4, (7, 7), 2, 3, bias=False, **LAST[2]), (2, 13, 14, 3)),
    "patches": (ConvSpec(3, 5, (4, 4), 4, bias=False), (2, 3, 13, 8)),
    "same": (ConvSpec(4, 3, (3, 2), (2, 1), "same", bias=False, **LAST[2]), (1, 8, 7, 4)),
    "reflect": (ConvSpec(3, 2, (3, 3), 1, 1, padding_mode="reflect", bias=False), (2, 3, 5, 6)),
    "video": (ConvSpec(3, 4, (3, 3, 3), 2, 1, bias=False, **LAST[3]), (2, 5, 7, 6, 3)),
    "video, apart": (ConvSpec(2, 3, (2, 3, 3), (3, 1, 2), bias=False), (2, 2, 9, 5, 7)),
    "video, same": (ConvSpec(1, 3, (4, 2, 3), (1, 2, 1), "same", bias=False), (1, 1, 6, 5, 7)),
    "video, left over": (ConvSpec(1, 2, (2, 2, 2), (3, 2, 2), bias=False), (1, 1, 7, 5, 5)),
}
#: Onto few channels: spec, input shape.
ONTO = {
    "signal": (ConvSpec(5, 2, (4,), padding=1, bias=False), (2, 5, 9)),
    "same": (ConvSpec(6, 1, (4, 3), padding="same", bias=False, **LAST[2]), (2, 5, 7, 6)),
    "amounts": (ConvSpec(5, 4, (3, 4), padding=((2, 0), (1, 3)), bias=False), (1, 5, 5, 6)),
    "reflect": (ConvSpec(5, 3, (3, 3), 1, 1, padding_mode="reflect", bias=False), (2, 5, 5, 6)),
    "more than the kernel": (ConvSpec(5, 3, (2, 2), padding=3, bias=False), (2, 5, 4, 3)),
    "volume": (ConvSpec(5, 3, (3, 2, 3), padding="same", bias=False), (2, 5, 4, 5, 6)),
    "up": (ConvSpec(5, 3, (4, 4), 2, 1, transposed=True, bias=False, **UP), (2, 4, 5, 5)),
    "up, same": (ConvSpec(5, 2, (3, 2), 2, "same", transposed=True, bias=False), (2, 5, 4, 3)),
    "up, signal": (ConvSpec(5, 1, (5,), 3, transposed=True, bias=False), (2, 5, 7)),
    "up, output": (
        ConvSpec(5, 1, (3, 3), 2, 1, transposed=True, output_padding=1, bias=False),
        (1, 5, 4, 4),
    ),
}


@pytest.fixture
def everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small ones too, and where TensorFlow has no oneDNN: its own kernel is the same."""
    monkeypatch.setattr(_few, "onednn", lambda: True)
    monkeypatch.setattr(_few, "GRADIENTS", dict.fromkeys((1, 2, 3), 0))
    for bound in ("WORTHWHILE", "OTHERS", "VOLUME_OTHERS", "RATIO", "FORWARD"):
        monkeypatch.setattr(_few, bound, 0)
    monkeypatch.setattr(adapter, "DIFFERENTIABLE", adapter.DifferentiableBackend())


def arrays_of(spec: ConvSpec, shape: tuple[int, ...], seed: int = 3) -> list[tf.Tensor]:
    rng = np.random.default_rng(seed)
    shapes = (shape, spec.weight_shape, spec.output_shape(shape))
    return [tf.constant(integers(rng, s, "float32")) for s in shapes]


def gradients(call: Any, x: tf.Tensor, w: tf.Tensor, c: tf.Tensor) -> list[Any]:
    with tf.GradientTape() as tape:
        tape.watch([x, w])
        y = call(x, w)
    return [y, *tape.gradient(y, [x, w], c)]


def any_batch(spec: ConvSpec, shape: tuple[int, ...]) -> Any:
    """A graph of any number of samples: of x, w and the gradient of y."""
    backend = adapter.TensorflowBackend()
    sizes = [list(shape), list(spec.weight_shape), list(spec.output_shape(shape))]
    sizes[0][spec.layout.index("N")] = sizes[2][spec.output_layout.index("N")] = None
    run = lambda x, w, c: gradients(lambda *a: spec(*a, backend=backend), x, w, c)  # noqa: E731
    return tf.function(run, input_signature=list(map(tf.TensorSpec, sizes)))


def check(spec: ConvSpec, shape: tuple[int, ...], seed: int = 3) -> None:
    backend = adapter.TensorflowBackend()
    x, w, c = arrays_of(spec, shape, seed)
    expected = convspec.reference(spec, x.numpy(), w.numpy())
    wide = [np.asarray(a, np.float64) for a in (x, w, c)]
    found = [gradients(lambda x, w: spec(x, w, backend=backend), x, w, c) for _ in range(3)]
    traced = tf.function(lambda x, w, c: gradients(lambda *a: spec(*a, backend=backend), x, w, c))
    found += [traced(x, w, c), any_batch(spec, shape)(x, w, c)]
    others = gradients(lambda x, w: spec(x, w), *map(tf.constant, wide))  # of float64: no rule's
    for y, dx, dw in found:
        assert np.array_equal(y, expected)
        assert np.array_equal(dx, others[1])
        assert np.array_equal(dw, others[2])


@pytest.mark.usefixtures("everywhere")
@pytest.mark.parametrize("name", SPECS)
def test_gradients_are_exact(name: str) -> None:
    spec, shape = SPECS[name]
    told = spec.explain(shape, adapter.TensorflowBackend())
    assert "input: by TensorFlow's own kernel" in told
    check(spec, shape)
    # No samples, in a graph of any number, have gradients of none and of zeros.
    graph = any_batch(spec, shape)
    kinds = graph.get_concrete_function().graph.get_operations()
    own = [k for k in kinds if k.type == "Conv2DBackpropInput"]
    assert [k.get_attr("padding") for k in own] == [b"EXPLICIT"]
    x, w, c = (a[:0] if i != 1 else a for i, a in enumerate(arrays_of(spec, shape)))
    y, dx, dw = graph(x, w, c)
    assert y.shape == c.shape
    assert dx.shape == x.shape
    assert dw.shape == w.shape
    assert not np.any(dw)


@pytest.mark.usefixtures("everywhere")
@pytest.mark.parametrize("name", ONTO)
def test_onto_few_channels(name: str) -> None:
    spec, shape = ONTO[name]
    told = spec.explain(shape, adapter.TensorflowBackend())
    forward, _, backward = told.partition("with gradients")
    plain = name not in ("volume", "more than the kernel")
    assert ("few output channels: by TensorFlow's own kernel" in forward) == plain
    assert spec.transposed or "weight: as that of the call from y to x" in backward
    check(spec, shape)


@pytest.mark.usefixtures("everywhere")
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_volumes_of_any_shape(data: st.DataObject) -> None:
    """Which planes of dx each of g's comes to: any depth, step, padding and rest."""
    draw = data.draw
    taps, step = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    lo, hi = draw(st.integers(0, 4)), draw(st.integers(0, 4))
    depth = draw(st.integers(max(taps - lo - hi, 1), 7))
    channels = draw(st.integers(1, 3))
    same = draw(st.booleans())
    padding: Any = "same" if same else ((lo, hi), (0, 1), (1, 0))
    spec = ConvSpec(channels, 2, (taps, 2, 2), (step, 1, 2), padding, bias=False, **LAST[3])
    check(spec, (2, depth, 3, 4, channels), draw(st.integers(0, 9)))


@pytest.mark.usefixtures("everywhere")
@pytest.mark.parametrize(
    ("spec", "shape"),
    [
        *(SPECS[name] for name in ("stem", "video", "signal")),
        *map(ONTO.get, ("same", "volume", "up")),
    ],
)
def test_transforms(spec: ConvSpec, shape: tuple[int, ...]) -> None:
    """Jacobians, second derivatives, tangents, one gradient alone, and tf.vectorized_map."""
    backend = adapter.TensorflowBackend()
    x, w, c = arrays_of(spec, shape)

    def of_float64(run: Any) -> list[Any]:
        return run(*(tf.cast(a, "float64") for a in (x, w, c)))

    def run(x: tf.Tensor, w: tf.Tensor, c: tf.Tensor) -> list[Any]:
        def call(x: tf.Tensor, w: tf.Tensor) -> tf.Tensor:
            return spec(x, w, backend=backend)

        found = []
        with tf.GradientTape(persistent=True) as outer:
            outer.watch([x, w])
            with tf.GradientTape() as tape:
                tape.watch([x, w])
                y = call(x, w)
                loss = tf.reduce_sum(y * y * c)
            dx, dw = tape.gradient(loss, [x, w])
            total = tf.reduce_sum(dx) + 2 * tf.reduce_sum(dw)  # small enough to be exact
        found += [dx, dw, *outer.gradient(total, [x, w])]
        with tf.GradientTape(persistent=True) as tape:
            tape.watch([x, w])
            y = call(x, w)[:1, :2]
        found += [tape.jacobian(y, x), tape.jacobian(y, w)]
        for i, array in enumerate((x, w)):
            with tf.GradientTape() as tape:
                tape.watch(array)
                y = call(x, w)
            found.append(tape.gradient(y, (x, w)[i], c))
        return found

    expected = of_float64(run)
    for _ in range(2):
        for got, exact in zip(run(x, w, c), expected, strict=True):
            assert np.array_equal(got, exact)
    for got, exact in zip(tf.function(run)(x, w, c), expected, strict=True):
        assert np.array_equal(got, exact)
    several = tf.stack([x, -x])
    by_each = tf.vectorized_map(lambda x: spec(x, w, backend=backend), several)
    assert np.array_equal(by_each, [spec(x, w), spec(-x, w)])
    tangents = []
    for dtype in ("float32", "float64"):
        a, b = (tf.cast(array, dtype) for array in (x, w))
        with tf.autodiff.ForwardAccumulator([a, b], [2 * a, b]) as accumulator:
            y = spec(a, b, backend=backend)
        tangents.append(accumulator.jvp(y))
    assert np.array_equal(*tangents)


@pytest.mark.usefixtures("everywhere")
def test_unknown_sizes_and_variables() -> None:
    spec, shape = SPECS["stem"]
    backend = adapter.TensorflowBackend()
    x, w, c = arrays_of(spec, shape)
    exact = gradients(lambda x, w: spec(x, w, backend=backend), x, w, c)

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3])])
    def traced(x: tf.Tensor) -> list[Any]:
        return gradients(lambda *a: spec(*a, backend=backend), x, w, c)

    variable = tf.Variable(w)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(spec(x, variable, backend=backend) * c)
    assert np.array_equal(tape.gradient(loss, variable), exact[2])
    for got, same in zip(traced(x), exact, strict=True):
        assert np.array_equal(got, same)


@pytest.mark.usefixtures("everywhere")
@pytest.mark.parametrize(("spec", "shape"), [SPECS["video"], SPECS["signal"], ONTO["same"]])
def test_a_cotangent_of_unknown_shape(spec: ConvSpec, shape: tuple[int, ...]) -> None:
    backend = adapter.TensorflowBackend()
    x, w, c = arrays_of(spec, shape)

    @tf.custom_gradient
    def forget(y: tf.Tensor) -> tuple[tf.Tensor, Any]:
        return y, lambda g: tf.compat.v1.placeholder_with_default(g, None)

    @tf.function
    def traced(x: tf.Tensor, w: tf.Tensor) -> list[Any]:
        return gradients(lambda *a: forget(spec(*a, backend=backend)), x, w, c)

    for got, same in zip(traced(x, w), gradients(spec, x, w, c), strict=True):
        assert np.array_equal(got, same)


def test_which_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_few, "onednn", lambda: True)
    monkeypatch.setattr(adapter, "DIFFERENTIABLE", adapter.DifferentiableBackend())

    def told(spec: ConvSpec, shape: tuple[int, ...], dtype: str = "float32") -> bool:
        return "TensorFlow's own kernel" in spec.explain(shape, adapter.TensorflowBackend(), dtype)

    stem, shape = ConvSpec(3, 64, (7, 7), 2, 3), (1, 3, 224, 224)
    assert told(stem, shape)
    assert not told(stem, shape, "float64")
    assert not told(stem, (1, 3, 16, 16))
    assert not told(ConvSpec(5, 64, (7, 7), 2, 3), (1, 5, 224, 224))
    assert not told(ConvSpec(3, 16, (7, 7), 2, 3), shape)
    assert not told(stem, (1, 3, 2048, 2048))  # whose windows would be too large
    assert not told(ConvSpec(3, 64, (1, 1)), shape)
    assert not told(ConvSpec(3, 64, (3, 3), dilation=2), shape)
    assert told(ConvSpec(1, 32, (3, 3, 3)), (1, 1, 16, 56, 56))
    assert told(ConvSpec(3, 64, (3, 3, 3)), (1, 3, 16, 56, 56))
    assert not told(ConvSpec(3, 32, (3, 3, 3)), (1, 3, 16, 56, 56))
    assert told(ConvSpec(64, 3, (9, 9), padding=4), (1, 64, 224, 224))
    assert not told(ConvSpec(32, 3, (9, 9), padding=4), (1, 32, 16, 16))
    assert told(ConvSpec(64, 3, (4, 4), 2, 1, transposed=True), (1, 64, 64, 64))
    monkeypatch.setattr(_few, "onednn", lambda: False)
    monkeypatch.setattr(adapter, "DIFFERENTIABLE", adapter.DifferentiableBackend())
    assert not told(stem, shape)
