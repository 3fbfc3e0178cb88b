"""1x1 kernels as matrix products: exact, in every order, transform and kind of graph."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import convspec
import convspec_tensorflow._backend as adapter
from convspec import ConvSpec
from convspec.backend import Environment
from convspec.problem import resolve
from convspec_tensorflow import _point
from generators import integers

ENV = Environment("float32", "float32", "cpu", bias=False, traced=False)
#: spec, input shape
CASES: dict[str, tuple[ConvSpec, tuple[int, ...]]] = {
    "signal": (ConvSpec(3, 5, (1,)), (2, 3, 7)),
    "picture": (ConvSpec(3, 5, (1, 1)), (2, 3, 4, 6)),
    "picture, last": (ConvSpec(3, 5, (1, 1), layout="NHWC"), (2, 4, 6, 3)),
    "volume": (ConvSpec(2, 3, (1, 1, 1)), (2, 2, 3, 4, 5)),
    "volume, last": (ConvSpec(2, 3, (1, 1, 1), layout="NDHWC"), (2, 3, 4, 5, 2)),
    "rank 4": (ConvSpec(2, 3, (1,) * 4, layout="NCABDE"), (2, 2, 2, 3, 2, 3)),
    "one position": (ConvSpec(4, 6, (1, 1)), (3, 4, 1, 1)),
    "wide": (ConvSpec(40, 50, (1, 1)), (3, 40, 2, 1)),
    "wide, last": (ConvSpec(40, 50, (1, 1), layout="NHWC"), (3, 2, 1, 40)),
    "dilated": (ConvSpec(3, 5, (1, 1), dilation=2), (2, 3, 4, 6)),
    "padded": (ConvSpec(3, 5, (1, 1), padding=((1, 0), (0, 2))), (2, 3, 4, 6)),
    "reflected": (
        ConvSpec(3, 5, (1, 1), padding=1, padding_mode="reflect", layout="NHWC"),
        (2, 4, 6, 3),
    ),
    "transposed": (ConvSpec(3, 5, (1, 1), transposed=True), (2, 3, 4, 6)),
    "transposed, cropped": (
        ConvSpec(3, 5, (1, 1), padding=1, transposed=True, layout="NHWC"),
        (2, 4, 6, 3),
    ),
    "unbatched": (ConvSpec(3, 5, (1, 1), layout="CHW"), (3, 4, 6)),
    "samples within": (ConvSpec(3, 5, (1, 1), layout="CNHW"), (3, 2, 4, 6)),
    "to the end": (ConvSpec(3, 5, (1, 1), output_layout="NHWC"), (2, 3, 4, 6)),
    "strided": (ConvSpec(3, 5, (1, 1), (2, 3), layout="NHWC"), (2, 5, 7, 3)),
    "empty": (ConvSpec(3, 5, (1, 1)), (0, 3, 4, 6)),
}


@pytest.fixture(params=[True, False], ids=["oneDNN", "Eigen"], autouse=True)
def small_too(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rules on small problems, by the bounds of both."""
    monkeypatch.setattr(_point, "onednn", lambda: request.param)
    for bound in ("EIGEN_POSITIONS", "VOLUMES", "WEIGHTS"):
        monkeypatch.setattr(_point, bound, 0)
    monkeypatch.setattr(adapter, "DIFFERENTIABLE", adapter.DifferentiableBackend())
    monkeypatch.setattr(adapter, "CHANNELS_FIRST", adapter.ChannelsFirstBackend())


def prepared(spec: ConvSpec, shape: tuple[int, ...], *, traced: bool = False) -> Any:
    env = replace(ENV, traced=traced, bias=spec.bias)
    return adapter.TensorflowBackend().prepare(resolve(spec, shape, None), env)


def some(spec: ConvSpec, shape: tuple[int, ...]) -> list[tf.Tensor]:
    """x, weight, bias, and what y's gradient is to be."""
    rng = np.random.default_rng(0)
    sizes = (shape, spec.weight_shape, spec.bias_shape, spec.output_shape(shape))
    return [tf.constant(integers(rng, size, "float32")) for size in sizes]


def gradients(run: Any, *given: Any) -> tuple[Any, ...]:
    *arrays, g = given
    with tf.GradientTape() as tape:
        tape.watch(arrays)
        y = run(*arrays)
    return (y, *tape.gradient(y, arrays, output_gradients=g))


def without(spec: ConvSpec, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> Any:
    """What is computed by tf.nn's kernels."""
    with monkeypatch.context() as patch:
        patch.setattr(adapter, "by_product", lambda *_, **__: False)
        patch.setattr(adapter, "stays_first", lambda *_, **__: False)
        return prepared(spec, shape)


@pytest.mark.parametrize("name", CASES)
def test_the_same_numbers(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    spec, shape = CASES[name]
    arrays = some(spec, shape)
    expected = gradients(without(spec, shape, monkeypatch), *arrays)
    assert np.array_equal(expected[0], convspec.reference(spec, *arrays[:3]))
    eager, traced = prepared(spec, shape), prepared(spec, shape, traced=True)
    graph = tf.function(lambda *given: gradients(traced, *given))
    for _ in range(3):
        assert np.array_equal(eager(*arrays[:3]), expected[0])
        for run in (lambda *given: gradients(eager, *given), graph):
            for one, other in zip(run(*arrays), expected, strict=True):
                assert np.array_equal(one, other)


@pytest.mark.parametrize("name", [name for name in CASES if name != "strided"])
def test_it_is_products(name: str) -> None:
    """No kernel of tf.nn's is left where gradients are wanted."""
    spec, shape = CASES[name]
    calls = adapter.DIFFERENTIABLE.plan(resolve(spec, shape, None), ENV).calls
    assert all(call.rank == 0 or _point.per_sample(call) for call in calls)
    first = spec.layout.replace("N", "")[0] == spec.output_layout.replace("N", "")[0] == "C"
    matrices = first and name not in ("wide", "one position")
    assert [call.rank for call in calls] == [int(matrices)]


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_any_number_of_samples(layout: str) -> None:
    """In one graph, which does not compute the call again for its gradients."""
    spec = ConvSpec(3, 5, (1, 1), layout=layout)
    like = [None if c == "N" else {"C": 3}.get(c, 4) for c in layout]
    grown = [None if c == "N" else {"C": 5}.get(c, 4) for c in layout]
    sizes = [like, spec.weight_shape, spec.bias_shape, grown]

    @tf.function(input_signature=list(map(tf.TensorSpec, sizes)))
    def run(*given: tf.Tensor) -> tuple[tf.Tensor, ...]:
        return gradients(spec, *given)

    for batch in (3, 0, 1):
        shape = tuple(batch if n is None else n for n in like)
        arrays = some(spec, shape)
        for one, other in zip(run(*arrays), gradients(spec, *arrays), strict=True):
            assert one.shape == other.shape
            assert np.array_equal(one, other)


@pytest.mark.parametrize("name", ["picture", "wide", "picture, last", "volume"])
def test_transforms(name: str) -> None:
    """Jacobians at once and one by one, second derivatives, tangents, and the whole by XLA."""
    spec, shape = CASES[name]
    x, w, b, g = some(spec, shape)
    run = prepared(spec, shape)

    def loss(x: tf.Tensor, w: tf.Tensor) -> tf.Tensor:
        return tf.reduce_sum(run(x, w, b) ** 2 * g)

    with tf.GradientTape(persistent=True) as tape:
        tape.watch((x, w))
        y = run(x, w, b)
    for array in (x, w):
        slow = tape.jacobian(y, array, experimental_use_pfor=False)
        assert np.array_equal(tape.jacobian(y, array), slow)
        assert np.array_equal(
            tf.tensordot(g, slow, g.shape.rank), tape.gradient(y, array, output_gradients=g)
        )
    with tf.GradientTape() as outer:
        outer.watch((x, w))
        with tf.GradientTape() as inner:
            inner.watch((x, w))
            value = loss(x, w)
        first = inner.gradient(value, (x, w))
        whole = sum(tf.reduce_sum(one) for one in first)
    second = outer.gradient(whole, (x, w))
    # Of third order in both: by differences of integers, exact.
    for i, (one, array) in enumerate(zip(second, (x, w), strict=True)):
        step = tf.reshape(tf.one_hot(1, tf.size(array)), array.shape)
        sides = []
        for sign in (1, -1):
            at = [x, w]
            at[i] = array + sign * step
            with tf.GradientTape() as inner:
                inner.watch(at)
                value = loss(*at)
            sides.append(sum(tf.reduce_sum(one) for one in inner.gradient(value, at)))
        # A polynomial of degree two in each, whose central difference is its derivative.
        assert (sides[0] - sides[1]) / 2 == tf.reduce_sum(one * step)
    with tf.autodiff.ForwardAccumulator(x, x) as forward:
        y = run(x, w, tf.zeros_like(b))
    assert np.array_equal(forward.jvp(y), y)
    compiled = tf.function(lambda *given: gradients(spec, *given), jit_compile=True)
    for one, other in zip(compiled(x, w, b, g), gradients(run, x, w, b, g), strict=True):
        assert np.array_equal(one, other)


def test_where(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the bounds as they are: what was measured to be slower is left to tf.nn."""
    for bound, value in (("EIGEN_POSITIONS", 784), ("VOLUMES", 2**20), ("WEIGHTS", 2**19)):
        monkeypatch.setattr(_point, bound, value)

    def products(spec: ConvSpec, *shape: int, **env: Any) -> list[int]:
        calls = (
            adapter.TensorflowBackend().plan(resolve(spec, shape, None), replace(ENV, **env)).calls
        )
        return [call.rank for call in calls if call.rank == 0 or _point.per_sample(call)]

    first, last = ConvSpec(64, 32, (1, 1)), ConvSpec(64, 32, (1, 1), layout="NHWC")
    assert products(first, 2, 64, 28, 28, traced=True) == [1]
    assert products(last, 2, 28, 28, 64, traced=True) == []
    assert products(first, 2, 64, 28, 28, device="gpu") == []
    small = [1] if _point.onednn() else []
    assert products(first, 2, 64, 27, 27, traced=True) == small
    # A weight that is larger than a sample has no gradient for each.
    problem = resolve(ConvSpec(64, 256, (1, 1)), (2, 64, 6, 6), None)
    assert adapter.DIFFERENTIABLE.plan(problem, ENV).calls[0].rank == 0
    wide = ConvSpec(512, 2048, (1, 1))
    assert products(wide, 1, 512, 7, 7, traced=True) == []
    assert products(wide, 8, 512, 7, 7, traced=True) == ([0] if _point.onednn() else [])


def test_copies_pay_for_a_much_larger_weight_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside oneDNN's kernel for channels first: else 1.4 times as long as that."""
    monkeypatch.setattr(_point, "WEIGHTS", 2**19)
    problem = resolve(ConvSpec(512, 256, (1, 1), layout="NHWC"), (32, 4, 4, 512), None)
    (call,) = adapter.TensorflowBackend().plan(problem, replace(ENV, device="gpu")).calls
    assert _point.by_rows(call, gradients=False) == _point.onednn()
    assert not _point.worth_copies(call)
    wide = replace(call, out_channels=2048, output_size=(2, 2))
    assert _point.worth_copies(wide) == _point.onednn()
