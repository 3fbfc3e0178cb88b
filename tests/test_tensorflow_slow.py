"""TensorFlow on the CPU: volumes as pictures where its kernel is slow, or missing, exactly."""

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
from convspec.onednn import ends_meet
from convspec.problem import resolve
from convspec_tensorflow import _gradients, _point, _probe, _slow
from generators import integers

ORDERS = {"layout": "NDHWC", "weight_layout": "DHWIO"}
BACK: dict[str, Any] = {"transposed": True, "bias": False}
SPECS = {
    "plain": ConvSpec(5, 5, (3, 3, 3), padding=1, groups=5, **ORDERS),
    "multiplied, strided": ConvSpec(5, 10, (3, 2, 3), 2, "same", groups=5, **ORDERS),
    "dilated": ConvSpec(4, 4, (2, 3, 3), (2, 1, 1), 2, (1, 2, 2), groups=4, layout="NCDHW"),
    "fewer channels than taps": ConvSpec(2, 4, (3, 3, 3), groups=2, **ORDERS),
    "unequal strides": ConvSpec(5, 5, (3, 3, 3), (1, 1, 2), groups=5, **ORDERS),
}


@pytest.mark.parametrize("name", SPECS)
def test_depthwise_volumes(name: str) -> None:
    spec = SPECS[name]
    shape = (
        (2, spec.in_channels, 7, 6, 8) if spec.layout == "NCDHW" else (2, 7, 6, 8, spec.in_channels)
    )
    rng = np.random.default_rng(7)
    x, w = (integers(rng, s, "float32") for s in (shape, spec.weight_shape))
    c = integers(rng, spec.output_shape(shape), "float32")
    arrays = [tf.constant(x), tf.constant(w)]
    with tf.GradientTape() as tape:
        tape.watch(arrays)
        y = spec(*arrays)
    expected = convspec.reference(spec, x, w)
    assert np.array_equal(y, expected)
    # The result is linear in x and in w.
    for a, da in zip((x, w), tape.gradient(y, arrays, tf.constant(c)), strict=True):
        assert (a * da.numpy()).sum() == (c * expected).sum()
    traced = tf.function(lambda x, w: spec(x, w), input_signature=[tf.TensorSpec([None] * 5)] * 2)
    assert np.array_equal(traced(*arrays), expected)


def test_depthwise_volumes_take_depthwise_kernels() -> None:
    text = SPECS["plain"].explain((1, 7, 6, 8, 5), "tensorflow")
    assert "rank: one kernel call for each of the 3 taps of axis D" in text
    assert "tf.nn.depthwise_conv2d" in text


@pytest.fixture
def everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rules on small problems too, and wherever oneDNN would have none of it."""
    for bound in ("WORTHWHILE", "WIDE_WORTHWHILE", "TRANSPOSED_WORTHWHILE"):
        monkeypatch.setattr(_slow, bound, 0)
    monkeypatch.setattr(_slow, "onednn", lambda: False)
    monkeypatch.setattr(_point, "onednn", lambda: False)
    monkeypatch.setattr(_point, "VOLUMES", 0)
    monkeypatch.setattr(adapter, "DIFFERENTIABLE", adapter.DifferentiableBackend())


def prepared(spec: ConvSpec, shape: tuple[int, ...], *, traced: bool = False) -> Any:
    env = replace(ENV, traced=traced)
    return adapter.TensorflowBackend().prepare(resolve(spec, shape, None), env)


ENV = Environment("float32", "float32", "cpu", bias=False, traced=False)
#: spec, input shape, the rule forward, and with gradients
RULES: dict[str, tuple[ConvSpec, tuple[int, ...], str, str]] = {
    "few channels": (
        ConvSpec(3, 8, (3, 2, 3), padding=1, bias=False, **ORDERS),
        (2, 5, 7, 6, 3),
        "stack",
        "stack",
    ),
    "cropped, channels first": (
        ConvSpec(2, 4, (3, 3, 3), (2, 1, 1), ((2, -1), (-1, 1), 0), bias=False),
        (2, 2, 8, 7, 6),
        "stack",
        "stack",
    ),
    "more channels": (
        ConvSpec(9, 4, (2, 3, 3), padding="same", bias=False, **ORDERS),
        (1, 5, 6, 7, 9),
        "",
        "rank",
    ),
    "many more inputs": (
        ConvSpec(24, 1, (2, 3, 3), padding="same", bias=False, **ORDERS),
        (1, 5, 6, 7, 24),
        "",
        "",
    ),
    "strided": (
        ConvSpec(3, 4, (3, 3, 2), (2, 3, 2), padding=1, bias=False, **ORDERS),
        (2, 6, 7, 8, 3),
        "",
        "rank",
    ),
    "many channels": (
        ConvSpec(17, 5, (3, 3, 3), padding=1, bias=False, **ORDERS),
        (2, 4, 6, 5, 17),
        "",
        "rank",
    ),
    "dilated": (
        ConvSpec(5, 6, (3, 3, 2), dilation=(2, 3, 2), padding="same", bias=False, **ORDERS),
        (2, 7, 8, 9, 5),
        "",
        "rank",
    ),
    "dilated and strided": (
        ConvSpec(5, 6, (3, 3, 2), (1, 2, 2), 2, (2, 2, 1), bias=False),
        (1, 5, 6, 9, 8),
        "",
        "rank",
    ),
    "transposed": (
        ConvSpec(4, 3, (3, 2, 2), 2, 1, transposed=True, output_padding=1, bias=False),
        (1, 4, 3, 4, 5),
        "",
        "phases",
    ),
    "transposed samples": (
        ConvSpec(4, 3, (2, 2, 2), 2, 0, transposed=True, bias=False, **ORDERS),
        (2, 3, 4, 5, 4),
        "phases",
        "phases",
    ),
    "transposed, depthwise": (
        ConvSpec(8, 16, (2, 2), 2, transposed=True, groups=8, layout="NCHW", bias=False),
        (2, 8, 5, 4),
        "phases",
        "phases",
    ),
    "transposed, depthwise volumes": (
        ConvSpec(3, 3, (2, 2, 2), 2, transposed=True, groups=3, bias=False, **ORDERS),
        (2, 3, 4, 5, 3),
        "phases",
        "phases",
    ),
    "transposed, depthwise volume": (
        ConvSpec(3, 3, (2, 3, 2), (2, 2, 1), 1, transposed=True, groups=3, bias=False),
        (1, 3, 3, 4, 5),
        "groups",
        "phases",
    ),
    "transposed, many more inputs": (
        ConvSpec(16, 1, (2, 2, 2), 2, 0, transposed=True, bias=False, **ORDERS),
        (1, 3, 4, 5, 16),
        "",
        "",
    ),
}


@pytest.mark.usefixtures("everywhere")
@pytest.mark.parametrize("name", RULES)
def test_the_same_numbers_and_gradients(name: str) -> None:
    spec, shape, forward, backward = RULES[name]
    for plans, rule in ((adapter.TensorflowBackend(), forward), (adapter.DIFFERENTIABLE, backward)):
        notes = plans.plan(resolve(spec, shape, None), ENV).notes
        rules = [note.split(":")[0] for note in notes if not note.startswith("dilation")]
        assert rules[:1] == ([rule] if rule else []), notes
    text = spec.explain(shape, adapter.TensorflowBackend())
    assert ("\nwith gradients\n  one function" not in text) == (forward != backward)
    rng = np.random.default_rng(3)
    x, w = (integers(rng, s, "float32") for s in (shape, spec.weight_shape))
    c = integers(rng, spec.output_shape(shape), "float32")
    expected = convspec.reference(spec, x, w)
    arrays, g = (tf.constant(x), tf.constant(w)), tf.constant(c)
    eager = prepared(spec, shape)
    assert np.array_equal(eager(*arrays), expected)

    def both(run: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(arrays)
            y = run(*arrays)
        return y, *tape.gradient(y, arrays, g)

    y, *gradients = both(eager)
    assert np.array_equal(y, expected)
    for a, da in zip((x, w), gradients, strict=True):
        assert (a * da.numpy()).sum() == (c * expected).sum()
    traced = prepared(spec, shape, traced=True)
    # XLA is slow to compile: once is enough.
    found = tf.function(lambda: both(traced), jit_compile=name == "many channels")()
    for one, other in zip(found, (y, *gradients), strict=True):
        assert np.array_equal(one, other)
    # A graph of any number of samples gives the same.
    of_any = [None if c == "N" else n for c, n in zip(spec.layout, shape, strict=True)]
    g_shape = [None if c == "N" else n for c, n in zip(spec.output_layout, c.shape, strict=True)]
    backend = adapter.TensorflowBackend()

    @tf.function(input_signature=[*map(tf.TensorSpec, (of_any, w.shape, g_shape))])
    def graph(x: tf.Tensor, w: tf.Tensor, g: tf.Tensor) -> list[Any]:
        with tf.GradientTape() as tape:
            tape.watch((x, w))
            y = spec(x, w, backend=backend)
        return [y, *tape.gradient(y, (x, w), output_gradients=g)]

    for one, other in zip(graph(*arrays, g), (y, *gradients), strict=True):
        assert np.array_equal(one, other)


def native_call(monkeypatch: pytest.MonkeyPatch, spec: ConvSpec, shape: tuple[int, ...]) -> Any:
    """The one call of TensorFlow's own kernel."""
    with monkeypatch.context() as patched:
        patched.setattr(adapter, "faster", lambda call, gradients: "")
        (call,) = adapter.DIFFERENTIABLE.plan(resolve(spec, shape, None), ENV).calls
    return call


def test_native_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    spec, shape, *_ = RULES["few channels"]
    own = native_call(monkeypatch, spec, shape)
    large = replace(own, output_size=(64, 64, 64), out_channels=64)
    monkeypatch.setattr(_slow, "onednn", lambda: False)
    assert _slow.faster(large, gradients=True) == _slow.faster(large, gradients=False) == "stack"
    others = {"device": "gpu", "dtype": "float64", "groups": 3}
    for field, value in others.items():
        call = replace(large, **{field: value})
        assert _slow.faster(call, gradients=True) == _slow.faster(call, gradients=False) == ""
    others["stride"] = (1, 2, 2)
    for field, value, rule in (("stride", (1, 2, 2), "rank"), ("output_size", (2, 4, 4), "stack")):
        call = replace(large, **{field: value})
        assert _slow.faster(call, gradients=True) == rule
        assert _slow.faster(call, gradients=False) == ""
    monkeypatch.setattr(_slow, "onednn", lambda: True)
    assert _slow.faster(large, gradients=False) == ""
    assert _slow.faster(large, gradients=True) == "stack"
    for field, value in (*others.items(), ("in_channels", 4), ("output_size", (9, 9, 9))):
        assert _slow.faster(replace(large, **{field: value}), gradients=True) == ""


@pytest.mark.parametrize("transposed", [False, True])
def test_same_padding_with_a_stride_beyond_the_kernel(transposed: bool) -> None:
    """Eigen's volumes begin within the data there, where what is lacking comes to be negative."""
    order = "DHWOI" if transposed else "DHWIO"
    rest: dict[str, Any] = {"padding": "same", "bias": False, "transposed": transposed}
    spec = ConvSpec(1, 2, (1, 2, 2), (3, 1, 2), **rest, layout="NDHWC", weight_layout=order)
    shape = (2, 3, 3, 4, 1)
    assert "SAME" not in spec.explain(shape, "tensorflow")
    assert "SAME" in spec.replace(stride=(1, 1, 2)).explain(shape, "tensorflow")
    rng = np.random.default_rng(1)
    x, w = (integers(rng, s, "float32") for s in (shape, spec.weight_shape))
    g = integers(rng, spec.output_shape(shape), "float32")
    expected = convspec.reference(spec, x, w)
    arrays = [tf.constant(x), tf.constant(w)]
    for run in (spec, spec, tf.function(lambda x, w: spec(x, w))):
        with tf.GradientTape() as tape:
            tape.watch(arrays)
            y = run(*arrays)
        assert np.array_equal(y, expected)
        for a, da in zip((x, w), tape.gradient(y, arrays, tf.constant(g)), strict=True):
            assert (a * da.numpy()).sum() == (g * expected).sum()


@pytest.mark.parametrize(("l3", "rule"), [(3 * 2**27, "phases"), (2**25, "")])
def test_transposed_volumes_of_several_samples(
    monkeypatch: pytest.MonkeyPatch, l3: int, rule: str
) -> None:
    """Their windows are gathered for as many samples as the cache would hold."""
    spec = ConvSpec(32, 24, (3, 3, 3), 3, transposed=True, bias=False, **ORDERS)
    call = native_call(monkeypatch, spec, (3, 7, 7, 7, 32))
    assert call.transposed
    monkeypatch.setattr(_slow, "onednn", lambda: False)
    monkeypatch.setattr(_slow, "l3_bytes", lambda: l3)
    assert _slow.faster(call, gradients=False) == rule
    assert _slow.faster(call, gradients=True) == "phases"
    assert _slow.faster(replace(call, batch=1), gradients=False) == ""
    assert _slow.faster(replace(call, batch=300), gradients=False) == ""


BACKWARDS: dict[str, tuple[ConvSpec, tuple[int, ...], bool]] = {
    "depthwise": (ConvSpec(8, 8, (3, 2), groups=8, layout="NHWC", **BACK), (2, 7, 6, 8), False),
    "depthwise, cropped": (
        ConvSpec(8, 16, (3, 3), padding=(2, 1), groups=8, dilation=2, layout="NCHW", **BACK),
        (2, 8, 9, 6),
        False,
    ),
    "dilated": (
        ConvSpec(4, 6, (3, 2), padding=1, dilation=(1, 2), layout="NHWC", **BACK),
        (2, 7, 6, 4),
        False,
    ),
    "depthwise volumes": (
        ConvSpec(8, 8, (2, 3, 3), padding=1, groups=8, layout="NDHWC", **BACK),
        (2, 3, 7, 6, 8),
        True,
    ),
    "depthwise volumes, channels first": (
        ConvSpec(3, 6, (3, 3, 2), padding=1, groups=3, dilation=2, layout="NCDHW", **BACK),
        (1, 3, 5, 7, 6),
        True,
    ),
}


@pytest.mark.parametrize("name", BACKWARDS)
def test_transposed_without_strides_are_forward_calls(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TensorFlow's own are the gradients of others, up to 36 times as slow; oneDNN's of volumes."""
    spec, shape, with_onednn = BACKWARDS[name]
    for bound in ("BACKWARDS_WORTHWHILE", "DILATED_BACKWARDS"):
        monkeypatch.setattr(_slow, bound, 0)

    def transposed(spec: ConvSpec) -> set[bool]:
        plans = (adapter.TensorflowBackend(), adapter.DifferentiableBackend())
        problem = resolve(spec, shape, None)
        return {c.transposed for plan in plans for c in plan.plan(problem, ENV).calls}

    rng = np.random.default_rng(4)
    x, w = (integers(rng, s, "float32") for s in (shape, spec.weight_shape))
    expected = convspec.reference(spec, x, w)
    g = integers(rng, expected.shape, "float32")
    arrays = (tf.constant(x), tf.constant(w))

    def both(run: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(arrays)
            y = run(*arrays)
        return y, *tape.gradient(y, arrays, tf.constant(g))

    traced = prepared(spec, shape, traced=True)
    for y, *gradients in (both(prepared(spec, shape)), tf.function(lambda: both(traced))()):
        assert np.array_equal(y, expected)
        for a, da in zip((x, w), gradients, strict=True):
            assert (a * da.numpy()).sum() == (g * expected).sum()
    for onednn in (False, True):
        monkeypatch.setattr(_slow, "onednn", lambda onednn=onednn: onednn)
        assert transposed(spec) == {onednn and not with_onednn}


def test_what_the_l3_cache_has() -> None:
    assert _slow.l3_bytes() in {2**25, 3 * 2**27}


def test_volumes_of_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """A volume for each group, or a picture for each tap, whichever is faster; exactly."""
    spec = ConvSpec(64, 8, (3, 2, 3), (2, 1, 1), 1, groups=4, bias=False, **ORDERS)
    shape = (1, 6, 5, 4, 64)
    rng = np.random.default_rng(11)
    x, w = (integers(rng, s, "float32") for s in (shape, spec.weight_shape))
    g = tf.constant(integers(rng, spec.output_shape(shape), "float32"))
    expected = convspec.reference(spec, x, w)
    found = []
    each = 1 if _slow.onednn() else 4  # without it, pictures of groups have no gradients
    for onednn in (False, True):
        monkeypatch.setattr(_slow, "onednn", lambda onednn=onednn: onednn)
        plans = (adapter.TensorflowBackend(), adapter.DifferentiableBackend())
        own, other = (len(plan.plan(resolve(spec, shape, None), ENV).calls) for plan in plans)
        assert (own, other) == (4, 4 if onednn else 3 * each)
        monkeypatch.setattr(adapter, "DIFFERENTIABLE", plans[1])
        arrays = [tf.constant(x), tf.constant(w)]
        with tf.GradientTape() as tape:
            tape.watch(arrays)
            y = prepared(spec, shape)(*arrays)
        assert np.array_equal(y, expected)
        found.append(tape.gradient(y, arrays, g))
        call = replace(plans[0].plan(resolve(spec, shape, None), ENV).calls[0], groups=4)
        call = replace(call, in_channels=64, out_channels=8, kernel_size=(3, 2, 3))
        for changed, taps in (
            ({"in_channels": 32}, True),
            ({"groups": 3, "in_channels": 3}, False),
            ({"kernel_size": (1, 2, 3)}, onednn),
        ):
            assert _slow.by_taps(replace(call, **changed), gradients=False) is taps
    for one, other_way, a in zip(*found, (x, w), strict=True):
        assert np.array_equal(one, other_way)
        assert (a * one.numpy()).sum() == (g.numpy() * expected).sum()


def test_dilated_calls_are_dense_ones_on_samples() -> None:
    """Also in Jacobians, and where the sizes are not known before the graph runs."""
    spec = ConvSpec(2, 3, (2, 2, 2), dilation=(2, 1, 3), padding="same", bias=False, **ORDERS)
    shape = (1, 3, 2, 4, 2)
    assert "tf.nn.convolution" in spec.code("tensorflow", shape)
    rng = np.random.default_rng(5)
    x, w = (tf.constant(integers(rng, s, "float32")) for s in (shape, spec.weight_shape))
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        y = spec(x, w)
    found, slowly = (tape.jacobian(y, x, experimental_use_pfor=pfor) for pfor in (True, False))
    assert np.array_equal(found, slowly)
    # Linear: the Jacobian times the input is the output.
    size = np.prod(y.shape), np.prod(shape)
    assert np.array_equal(np.reshape(found, size) @ np.ravel(x), np.ravel(y))
    traced = tf.function(
        spec, input_signature=[tf.TensorSpec([None] * 5), tf.TensorSpec([None] * 5)]
    )
    assert np.array_equal(traced(x, w), convspec.reference(spec, x.numpy(), w.numpy()))


def test_pictures_dilated_have_gradients_of_dense_ones() -> None:
    spec = ConvSpec(2, 3, (3, 2), dilation=2, padding=1, bias=False)
    shape = (2, 2, 6, 7)
    rng = np.random.default_rng(6)
    x, w = (tf.constant(integers(rng, s, "float32")) for s in (shape, spec.weight_shape))
    g = tf.constant(integers(rng, spec.output_shape(shape), "float32"))
    with tf.GradientTape() as tape:
        tape.watch([x, w])
        y = spec(x, w)
    assert np.array_equal(y, convspec.reference(spec, x.numpy(), w.numpy()))
    for a, da in zip((x, w), tape.gradient(y, [x, w], g), strict=True):
        assert np.sum(a * da) == np.sum(g * y)
    assert "with gradients\n  dilation: a dense call" in spec.explain(shape, "tensorflow")
    plan = adapter.DIFFERENTIABLE.plan(resolve(spec, shape, None), ENV)
    assert [call.dilation for call in plan.calls] == [(2, 2)]  # no zeros between the taps


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "pads", "extra"),
    [((5, 4), (4, 3), 2, ((1, 1), (0, 1)), 0), ((5, 4), (3, 3), (2, 1), ((0, 2), (1, 1)), (1, 0))],
    ids=["as spelled", "with output padding"],
)
def test_transposed_with_the_padding_of_same_is_not_cropped(
    size: tuple[int, ...], kernel: tuple[int, ...], stride: Any, pads: Any, extra: Any
) -> None:
    spec = ConvSpec(
        2, 3, kernel, stride, pads, transposed=True, output_padding=extra, bias=False, layout="NHWC"
    )
    shape = (2, *size, 2)
    assert 'padding="SAME"' in spec.code("tensorflow", shape)
    rng = np.random.default_rng(8)
    x, w = (integers(rng, s, "float32") for s in (shape, spec.weight_shape))
    assert np.array_equal(spec(tf.constant(x), tf.constant(w)), convspec.reference(spec, x, w))


@pytest.mark.parametrize("batch", [0, 2])
@pytest.mark.parametrize("dtype", ["float32", "float16", "int8", "uint64"])
def test_reflection_is_one_operation(batch: int, dtype: str) -> None:
    spec = ConvSpec(
        2, 2, (3, 2), padding=((2, 1), (0, 3)), padding_mode="reflect", bias=False, layout="NHWC"
    )
    shape = (batch, 4, 5, 2)
    assert 'mode="REFLECT"' in spec.code("tensorflow", shape)
    rng = np.random.default_rng(9)
    x, w = (integers(rng, s, dtype) for s in (shape, spec.weight_shape))
    assert np.array_equal(spec(tf.constant(x), tf.constant(w)), convspec.reference(spec, x, w))


#: Specs whose gradients are convolutions, and the input's shape.
LARGE_KERNELS: dict[str, tuple[ConvSpec, tuple[int, ...]]] = {
    "padding of same": (
        ConvSpec(16, 3, (5, 5), padding=2, layout="NHWC", weight_layout="HWIO"),
        (2, 7, 9, 16),
    ),
    "even, uneven sizes": (
        ConvSpec(16, 4, (4, 5), padding="same", layout="NHWC", weight_layout="HWIO"),
        (3, 6, 7, 16),
    ),
    "no padding": (
        ConvSpec(17, 5, (6, 3), bias=False, layout="NHWC", weight_layout="HWIO"),
        (2, 8, 9, 17),
    ),
    "cropped and padded, other orders": (
        ConvSpec(16, 4, (4, 5), padding=((3, -1), (0, 4)), output_layout="NHWC", layout="NCHW"),
        (2, 16, 8, 7),
    ),
    "a signal": (
        ConvSpec(16, 2, (17,), padding="causal", layout="NWC", weight_layout="WIO"),
        (3, 20, 16),
    ),
}


@pytest.mark.parametrize("name", LARGE_KERNELS)
def test_gradients_of_large_kernels_are_convolutions(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of integers, so that first and second gradients are exact whichever way they are computed."""
    spec, shape = LARGE_KERNELS[name]
    rng = np.random.default_rng(0)
    sizes = (shape, spec.weight_shape, spec.bias_shape)[: 2 + spec.bias]
    arrays = [tf.constant(integers(rng, size, "float32")) for size in sizes]
    g = tf.constant(integers(rng, spec.output_shape(shape), "float32"))
    counted: list[int] = []
    dense = _gradients._dense

    def counting(*arguments: Any) -> Any:
        counted.append(1)
        return dense(*arguments)

    monkeypatch.setattr(_gradients, "_dense", counting)
    monkeypatch.setattr(_gradients, "onednn", lambda: False)
    found = []
    for bound in (0, 2**60):
        monkeypatch.setattr(_gradients, "WORTHWHILE", bound)
        monkeypatch.setattr(adapter, "DIFFERENTIABLE", adapter.DifferentiableBackend())
        env = replace(ENV, bias=spec.bias)
        run = adapter.TensorflowBackend().prepare(resolve(spec, shape, None), env)
        derived = all_derived(run, arrays, g)
        found.append([part.numpy() for part in tf.nest.flatten(derived)])
        assert bool(counted) == (bound == 0)
        counted.clear()
    for quick, plain in zip(*found, strict=True):
        np.testing.assert_array_equal(quick, plain)


def all_derived(run: Any, arrays: list[Any], g: Any) -> list[Any]:
    """The result, its gradients, the gradients of these, a Jacobian and a forward tangent."""
    with tf.GradientTape() as outer:
        outer.watch([*arrays, g])
        with tf.GradientTape() as tape:
            tape.watch(arrays)
            y = run(*arrays)
        first = tape.gradient(y, arrays, output_gradients=g)
        total = tf.add_n([tf.reduce_sum(a * da) for a, da in zip(arrays, first, strict=True)])
    second = outer.gradient(total, [*arrays[:2], g])
    with tf.GradientTape() as tape:
        tape.watch(arrays)
        parts = tf.reduce_sum(tf.reshape(run(*arrays) * g, (g.shape[0], -1)), 1)
    jacobian = tape.jacobian(parts, arrays)
    with tf.autodiff.ForwardAccumulator(arrays, list(map(tf.ones_like, arrays))) as accumulator:
        y = run(*arrays)
    return [y, first, second, jacobian, accumulator.jvp(y)]


@pytest.mark.parametrize("rank", [1, 2])
def test_gradients_of_dilated_calls_of_unknown_batch(rank: int) -> None:
    spec = ConvSpec(2, 3, (3,) * rank, dilation=2, padding="same", bias=False)
    shape = (2, 2, *(7, 6)[:rank])
    rng = np.random.default_rng(2)
    x, w = (tf.constant(integers(rng, size, "float32")) for size in (shape, spec.weight_shape))

    def gradients(x: Any, w: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch((x, w))
            y = tf.reduce_sum(spec(x, w) ** 2)
        return tape.gradient(y, (x, w))

    signature = [tf.TensorSpec([None, *shape[1:]]), tf.TensorSpec(spec.weight_shape)]
    traced = tf.function(gradients, input_signature=signature)
    for found, expected in zip(traced(x, w), gradients(x, w), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_graphs_keep_the_kernels_own_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    """XLA compiles them well, and nothing but the kernel shall be in a graph."""
    spec, shape = LARGE_KERNELS["padding of same"]
    monkeypatch.setattr(_gradients, "onednn", lambda: False)
    monkeypatch.setattr(_gradients, "WORTHWHILE", 0)
    arrays = [tf.ones(size) for size in (shape, spec.weight_shape, spec.bias_shape)]

    @tf.function
    def graph(*arrays: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(arrays)
            y = spec(*arrays)
        return tape.gradient(y, arrays)

    operations = graph.get_concrete_function(*arrays).graph.get_operations()
    types = [operation.type for operation in operations]
    assert "Conv2DBackpropFilter" in types
    assert "IdentityN" not in types


@pytest.mark.parametrize(
    ("spec", "shape"),
    [
        (ConvSpec(4, 6, 3, padding=1, layout="NCHW"), (2, 4, 5, 6)),
        (ConvSpec(4, 6, (3, 2), 2, padding=((1, 0), (2, 1)), layout="NCHW"), (2, 4, 7, 6)),
        (ConvSpec(4, 6, 3, dilation=2, groups=2, layout="NCW"), (2, 4, 9)),
        (ConvSpec(4, 6, 3, padding="same", layout="CDHW"), (4, 5, 6, 7)),
        (ConvSpec(4, 6, 4, 2, 1, transposed=True, layout="NCHW"), (2, 4, 5, 6)),
    ],
)
def test_channels_first_as_they_are(spec: ConvSpec, shape: tuple[int, ...]) -> None:
    """One call on the axes as they are where oneDNN is used; and gradients on channels last."""
    text = spec.code("tensorflow", shape)
    assert ("data_format=" in text) == _slow.onednn()
    assert text.count("tf.transpose") == (1 if _slow.onednn() else 3)  # the weight's alone
    rng = np.random.default_rng(0)
    x, w = (integers(rng, s, "float32") for s in (shape, spec.weight_shape))
    c = integers(rng, spec.output_shape(shape), "float32")
    arrays = [tf.constant(x), tf.constant(w)]
    expected = convspec.reference(spec, x, w)
    assert np.array_equal(spec(*arrays), expected)
    with tf.GradientTape() as tape:
        tape.watch(arrays)
        y = spec(*arrays)
    assert np.array_equal(y, expected)
    for a, da in zip((x, w), tape.gradient(y, arrays, tf.constant(c)), strict=True):
        assert (a * da.numpy()).sum() == (c * expected).sum()  # linear in each


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_strided_points_are_dense_with_gradients(
    groups: int, transposed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """oneDNN's gradient by the weight would write beyond its memory (KNOWN_UPSTREAM.md)."""
    monkeypatch.setattr(_probe, "onednn", lambda: True)
    monkeypatch.setattr(adapter, "DIFFERENTIABLE", adapter.DifferentiableBackend())
    spec = ConvSpec(
        4, 4, 1, (2, 3), groups=groups, transposed=transposed, bias=False, layout="NHWC"
    )
    shape = (2, 7, 8, 4)
    for device in ("custom", "cpu"):
        env = replace(ENV, device=device)
        calls = adapter.DIFFERENTIABLE.plan(resolve(spec, shape, None), env).calls
        assert all({*call.stride} <= {1} for call in calls)  # products have none
    rng = np.random.default_rng(2)
    x, w = (integers(rng, s, "float32") for s in (shape, spec.weight_shape))
    expected = convspec.reference(spec, x, w)
    arrays = [tf.constant(x), tf.constant(w)]
    run = prepared(spec, shape)
    for _ in range(3):
        with tf.GradientTape() as tape:
            tape.watch(arrays)
            y = run(*arrays)
        assert np.array_equal(y, expected)
        for a, da in zip((x, w), tape.gradient(y, arrays), strict=True):
            assert (a * da.numpy()).sum() == expected.sum()


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("padding", ["same", (3, 1, 1)])
def test_volumes_whose_ends_meet_are_padded_beforehand(
    padding: Any, transposed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """oneDNN's gradient by the weight would write beyond its memory (KNOWN_UPSTREAM.md)."""
    monkeypatch.setattr(adapter, "onednn", lambda: True)
    monkeypatch.setattr(adapter, "DIFFERENTIABLE", adapter.DifferentiableBackend())
    steps = (7, 3, 3), 2, padding
    spec = ConvSpec(8, 4, *steps, transposed=transposed, bias=False, layout="NDHWC")
    shape = (2, 3 if transposed else 5, 5, 6, 8)
    calls = adapter.DIFFERENTIABLE.plan(resolve(spec, shape, None), ENV).calls
    assert not any(map(ends_meet, calls))
    rng = np.random.default_rng(2)
    x, w = (integers(rng, s, "float32") for s in (shape, spec.weight_shape))
    expected = convspec.reference(spec, x, w)
    arrays = [tf.constant(x), tf.constant(w)]
    run = prepared(spec, shape)

    @tf.function
    def in_graph(x: Any, w: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch([x, w])
            y = run(x, w)
        return y, tape.gradient(y, [x, w])

    for call in (in_graph.python_function, in_graph):
        for _ in range(10):
            y, gradients = call(*arrays)
            assert np.array_equal(y, expected)
            for a, da in zip((x, w), gradients, strict=True):
                assert (a * da.numpy()).sum() == expected.sum()


@pytest.mark.parametrize("column", [1, 2])
def test_one_channel_and_one_column_transposed(
    column: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whose gradient by the input is the forward call that oneDNN mistakes; a trial may not see."""
    monkeypatch.setattr(_slow, "_depthwise_apart", lambda call, gradients: False)
    spec = ConvSpec(2, 2, (1, 2, 7), (1, 1, 2), groups=2, transposed=True, bias=False)
    shape = (2, 2, 1, 3, column)
    calls = adapter.DIFFERENTIABLE.plan(resolve(spec, shape, None), ENV).calls
    assert all(call.transposed for call in calls) == (column > 1)
    rng = np.random.default_rng(2)
    x, w = (integers(rng, s, "float32") for s in (shape, spec.weight_shape))
    expected = convspec.reference(spec, x, w)
    arrays = [tf.constant(x), tf.constant(w)]
    for _ in range(3):
        with tf.GradientTape() as tape:
            tape.watch(arrays)
            y = spec(*arrays)
        for a, da in zip((x, w), tape.gradient(y, arrays), strict=True):
            assert (a * da.numpy()).sum() == expected.sum()


@pytest.mark.parametrize(
    ("spec", "shape"),
    [
        (ConvSpec(3, 4, (3, 3), bias=False), (1, 3, 9, 9)),
        (ConvSpec(3, 4, (1, 1), 2, bias=False), (1, 3, 9, 9)),
        (ConvSpec(3, 4, (3,), padding="same", bias=False), (1, 3, 9)),
        (ConvSpec(3, 4, (3, 3), bias=False, layout="CHW"), (3, 9, 9)),
    ],
    ids=str,
)
def test_one_sample_without_avx512(
    spec: ConvSpec, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With channels first oneDNN has its reference kernel alone: up to 550 times as slow."""

    def first(shape: tuple[int, ...]) -> bool:
        calls = adapter.TensorflowBackend().plan(resolve(spec, shape, None), ENV).calls
        return all(call.x_layout[1] == "C" for call in calls)

    for wide in (True, False):
        monkeypatch.setattr(adapter, "avx512", lambda wide=wide: wide)
        assert first(shape) == (wide and _slow.onednn())  # others take channels last alone
        if "N" in spec.layout:
            assert first((2, *shape[1:])) == _slow.onednn()
    rng = np.random.default_rng(0)
    x, w = (integers(rng, size, "float32") for size in (shape, spec.weight_shape))
    y = prepared(spec, shape)(tf.constant(x), tf.constant(w))
    assert np.array_equal(y, convspec.reference(spec, x, w))


def test_what_onednn_is_held_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "avx2")
    assert not _slow.avx512.__wrapped__()
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_AMX")
    limited = _slow.avx512.__wrapped__()
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA")
    assert _slow.avx512.__wrapped__() == limited
