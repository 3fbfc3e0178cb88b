"""Keras's layers and calls as specs and back, and our own layer for it.

Keras runs on TensorFlow here; what has to hold on its other backends, too, runs in a process each.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import convspec
from convspec import ConvSpec, DTypeError, ShapeError, UnsupportedError, layer_arrays
from convspec.errors import LayoutError
from convspec_keras import Conv
from generators import integers
from refusals import refused
from tensorflow_kernels import errs_on_some_processors

Rng = np.random.Generator
layers, ops = keras.layers, keras.ops
CONVS = (layers.Conv1D, layers.Conv2D, layers.Conv3D)
TRANSPOSED = (layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose)
DEPTHWISE = (layers.DepthwiseConv1D, layers.DepthwiseConv2D)
SEPARABLE = (layers.SeparableConv1D, layers.SeparableConv2D)


def any_layer(rng: Rng, rank: int, kind: str) -> tuple[Any, np.ndarray]:
    k = rng.integers(1, 4, rank).tolist()
    s, d = ([int(rng.integers(1, most + 1))] * rank for most in (3, 2))
    if s[0] > 1:
        d = [1] * rank
    options: dict[str, Any] = {
        "strides": s,
        "dilation_rate": d,
        "padding": ("valid", "same")[rng.integers(2)],
        "use_bias": bool(rng.integers(2)),
    }
    groups = 1
    if kind == "forward":
        groups = options["groups"] = int(rng.integers(1, 3)) if rank < 3 else 1
        if rank == 1 and rng.random() < 0.3:
            options["padding"] = "causal"
        if errs_on_some_processors(k, s, same=options["padding"] == "same"):
            return any_layer(rng, rank, kind)
    if kind == "transposed":
        options["dilation_rate"] = 1
        if rng.random() < 0.5:
            options["output_padding"] = [int(rng.integers(n)) for n in s]
    cin, cout = (groups * int(n) for n in rng.integers(1, 3, 2))
    if kind == "depthwise":
        layer = DEPTHWISE[rank - 1](k, depth_multiplier=cout, **options)
    else:
        table = {"forward": CONVS, "transposed": TRANSPOSED, "separable": SEPARABLE}[kind]
        layer = table[rank - 1](cout, k, **options)
    shape = (2, *rng.integers(5, 8, rank), cin)
    layer.build(shape)
    for weight in layer.weights:
        weight.assign(integers(rng, weight.shape, "float32"))
    return layer, integers(rng, shape, "float32")


KINDS = [(kind, rank) for kind in ("forward", "transposed") for rank in (1, 2, 3)]
KINDS += [(kind, rank) for kind in ("depthwise", "separable") for rank in (1, 2)]
CALLS = {
    "forward": ops.conv,
    "transposed": ops.conv_transpose,
    "depthwise": ops.depthwise_conv,
    "separable": ops.separable_conv,
}


@pytest.mark.parametrize(("kind", "rank"), KINDS)
def test_layers_and_calls(kind: str, rank: int) -> None:
    rng = np.random.default_rng(rank)
    done = 0
    for _ in range(24):
        layer, x = any_layer(rng, rank, kind)
        try:
            expected = ops.convert_to_numpy(layer(x))
        except Exception:  # what TensorFlow's kernels lack on this machine
            continue
        y = x
        specs, arrays = ConvSpec.from_native(layer), layer_arrays(layer)
        pairs = zip(specs, arrays, strict=True) if kind == "separable" else [(specs, arrays)]
        for spec, (weight, bias) in pairs:
            bias = None if bias is None else bias.numpy()
            y = spec(y, weight.numpy(), bias)
        np.testing.assert_array_equal(y, expected, f"{specs} {layer.get_config()}")
        done += 1
        if layer.padding != "causal":
            check_call(kind, layer, x, specs)
        if kind != "separable":
            check_back(layer, specs, arrays, x, expected)
    assert done >= 12


def check_call(kind: str, layer: Any, x: np.ndarray, specs: Any) -> None:
    """The call that the layer makes reads as the layer does, but for the bias."""
    kernels = layer.weights[: 2 if kind == "separable" else 1]
    options = {name: getattr(layer, name) for name in ("strides", "padding", "dilation_rate")}
    if kind == "transposed":
        options["output_padding"] = layer.output_padding
    told = ConvSpec.from_call(CALLS[kind], x, *kernels, **options)
    plain = tuple(spec.replace(bias=False) for spec in specs) if kind == "separable" else None
    assert told == (plain or specs.replace(bias=False))


def check_back(layer: Any, spec: ConvSpec, arrays: Any, x: np.ndarray, expected: Any) -> None:
    torch = spec.in_convention("torch")
    kernel = arrays[0].numpy()
    if "M" in spec.weight_layout:
        again = spec.to_native("keras", kernel, arrays[1])
    else:
        try:
            again = torch.to_native("keras", spec.convert_weight(kernel, to=torch), arrays[1])
        except UnsupportedError as error:  # the output padding of "same"
            assert layer.output_padding is not None, error  # noqa: PT017
            return
    assert type(again) is type(layer)
    np.testing.assert_array_equal(ops.convert_to_numpy(again(x)), expected)


def test_arrays_are_live() -> None:
    layer = layers.Conv2D(3, 2)
    layer.build((None, 4, 4, 2))
    assert layer_arrays(layer) == (layer.kernel, layer.bias)
    first, second = layer_arrays(build(layers.SeparableConv2D(3, 2)))
    assert first[1] is None
    assert second[1] is not None


def build(layer: Any) -> Any:
    layer.build((None, 6, 6, 2))
    return layer


def test_channels_first_and_valid_below_the_stride() -> None:
    layer = layers.Conv2DTranspose(3, 2, 3, data_format="channels_first")
    layer.build((None, 2, 6, 6))
    # e < s: Keras keeps n*s positions, which is an output padding of s - e.
    assert ConvSpec.from_native(layer) == ConvSpec(
        *(2, 3, (2, 2), 3),
        transposed=True,
        output_padding=1,
        weight_layout="HWOI",
    )


def test_layers_that_are_not_read() -> None:
    with refused(
        UnsupportedError,
        "layer: unbuilt is not built, so it does not know its channels; call it once, or "
        "layer.build(input_shape).",
    ):
        ConvSpec.from_native(layers.Conv2D(3, 2, name="unbuilt"))
    with pytest.raises(UnsupportedError, match=r"keras: Conv, Conv1D, .*SeparableConv2D"):
        ConvSpec.from_native(layers.Dense(2))

    class Wrapped(layers.Conv2D):
        def call(self, inputs: Any) -> Any:
            return 2 * super().call(inputs)

    with pytest.raises(UnsupportedError, match=r"Wrapped has a call\(\) of its own"):
        ConvSpec.from_native(build(Wrapped(3, 2)))


def test_a_call_is_read_from_shapes_alone() -> None:
    x, w = keras.KerasTensor((None, 3, None, 8)), keras.KerasTensor((3, 3, 3, 4))
    spec = ConvSpec.from_call(ops.conv, x, w, 2, "same", "channels_first")
    assert spec == ConvSpec(
        *(3, 4, (3, 3), 2, "same"), bias=False, layout="NCHW", weight_layout="HWIO"
    )
    with refused(
        ShapeError, "inputs: axis C has size None, and the spec of the call depends on it."
    ):
        ConvSpec.from_call(ops.conv, keras.KerasTensor((None, None, 3, None)), w)
    with refused(UnsupportedError, "padding: 'same_lower' is none of valid, same."):
        ConvSpec.from_call(ops.conv, x, w, 2, "same_lower", "channels_first")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            ConvSpec(1, 1, (3, 3), padding=((1, 1), (0, 1))),
            "padding: Keras has only valid, same and, in 1-D, causal, and this is "
            "((1, 1), (0, 1)).",
        ),
        (
            ConvSpec(1, 1, (3, 3), padding=1, padding_mode="reflect"),
            "padding_mode: Keras pads with zeros only, and this is 'reflect'.",
        ),
        (
            ConvSpec(1, 1, (3, 3), 2, dilation=2),
            "dilation: Keras has none beside a stride, got (2, 2) and (2, 2).",
        ),
        (
            ConvSpec(2, 2, (3, 3), groups=2, transposed=True),
            "groups: Keras has none when transposed, and there are 2.",
        ),
        (
            ConvSpec(1, 1, (3,), 2, 1, transposed=True),
            "padding: Keras has only valid and same, and this crops [(1, 1)].",
        ),
        (ConvSpec(1, 1, (1,) * 4), "kernel_size: Keras has ranks 1 to 3, not 4."),
    ],
    ids=["amounts", "mode", "dilation", "groups", "crops", "rank"],
)
def test_what_keras_cannot_express(spec: ConvSpec, message: str) -> None:
    with refused(UnsupportedError, message):
        spec.to_native("keras", np.ones(spec.weight_shape, "float32"))


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_a_layer_that_keras_could_not_run_is_refused(rank: int) -> None:
    """TensorFlow has dilated transposed kernels on GPUs, and on CPUs some with oneDNN."""
    spec = ConvSpec(2, 3, (3,) * rank, dilation=2, transposed=True, bias=False).in_convention(
        "keras"
    )
    x, w = np.ones((1, *(4,) * rank, 2), "float32"), np.ones(spec.weight_shape, "float32")
    layer = TRANSPOSED[rank - 1](3, 3, dilation_rate=2, use_bias=False, kernel_initializer="ones")
    try:
        expected = ops.convert_to_numpy(layer(x))
    except Exception:
        rule = f"Keras on tensorflow has none here when transposed, and this is {spec.dilation}"
        with pytest.raises(UnsupportedError, match=re.escape(f"dilation: {rule}")):
            spec.to_native("keras", w)
    else:
        np.testing.assert_array_equal(spec.to_native("keras", w)(x), expected)


@pytest.mark.parametrize(
    "spec",
    [
        ConvSpec(2, 3, (3, 2), 2, ((1, 2), (0, 1)), layout="NHWC"),
        ConvSpec(2, 3, (3,), 2, ((-1, 2),), layout="NWC"),
        ConvSpec(2, 3, (3, 2, 1), padding=((1, -1), 0, 1), layout="NDHWC"),
        ConvSpec(2, 3, (3, 4), (2, 3), 1, transposed=True, output_padding=1, layout="NHWC"),
        ConvSpec(2, 3, (5,), 2, ((1, 2),), transposed=True, layout="NWC"),
    ],
    ids=repr,
)
def test_a_padding_layer_beside_it(spec: ConvSpec) -> None:
    rng = np.random.default_rng(0)
    x = integers(rng, (2, *(7, 6, 5)[: spec.rank], 2), "float32")
    w, b = integers(rng, spec.weight_shape, "float32"), integers(rng, (3,), "float32")
    model = spec.to_native("keras", w, b, explicit_padding=True)
    np.testing.assert_array_equal(ops.convert_to_numpy(model(x)), spec(x, w, b))


def test_equal_amounts_have_a_word() -> None:
    w = np.ones((1, 1, 3), "float32")
    make = ConvSpec(1, 1, (3,), padding=1).to_native
    assert make("keras", w).padding == "same"
    assert ConvSpec(1, 1, (3,), padding="causal").to_native("keras", w).padding == "causal"
    reflecting = ConvSpec(1, 1, (3,), padding_mode="reflect").to_native("keras", w)
    assert reflecting.padding == "valid"


# ---- our own layer ----

SPEC = ConvSpec(4, 6, 3, 2, "same", groups=2, layout="NCHW", output_layout="NHWC")


def test_it_starts_as_kerass_layer() -> None:
    keras.utils.set_random_seed(3)
    native = layers.Conv2D(6, 3, 2, "same", groups=2)
    native.build((None, 5, 5, 4))
    keras.utils.set_random_seed(3)
    layer = Conv(SPEC)
    layer.build((None, 4, 5, 5))
    expected = SPEC.in_convention("keras").convert_weight(native.kernel, to=SPEC)
    np.testing.assert_array_equal(layer.kernel, expected)
    assert not layer.bias.numpy().any()
    assert [w.name for w in layer.weights] == [w.name for w in native.weights]


def test_it_starts_from_a_seed() -> None:
    layer = Conv(SPEC, seed=5)
    layer.build((None, 4, 5, 5))
    for ours, theirs in zip(layer.weights, convspec.initial_arrays(SPEC, 5), strict=True):
        np.testing.assert_array_equal(ours, theirs)


# Keras's own conversion of a tensor, with an argument that TensorFlow has not.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_it_lives_in_a_model(tmp_path: Path) -> None:
    inputs = keras.Input((4, None, 5))
    layer = Conv(SPEC, name="front")
    outputs = layer(inputs)
    assert outputs.shape == (None, None, 3, 6)
    model = keras.Model(inputs, outputs)
    x = np.random.default_rng(0).random((2, 4, 7, 5), dtype="float32")
    expected = model.predict(x, verbose=0)
    assert expected.shape == (2, 4, 3, 6)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert again.get_layer("front").spec == SPEC
    np.testing.assert_array_equal(again.predict(x, verbose=0), expected)
    copy = Conv.from_config(layer.get_config())
    assert (copy.spec, copy.name, copy.seed) == (SPEC, "front", None)
    assert ConvSpec.from_native(layer) == SPEC
    assert layer_arrays(layer) == (layer.kernel, layer.bias)
    model.compile("sgd", "mse")
    before = layer.kernel.numpy().copy()
    model.fit(x, np.zeros_like(expected), epochs=1, verbose=0)
    assert (layer.kernel.numpy() != before).any()


def test_shapes_that_do_not_fit() -> None:
    with refused(
        LayoutError,
        "input_shape: (None, 4, 5) should have one size for each letter of layout 'NCHW'.",
    ):
        Conv(SPEC).build((None, 4, 5))
    with pytest.raises(ShapeError, match="has 5 channels on axis 1"):
        Conv(SPEC)(np.zeros((1, 5, 6, 6), "float32"))


# ---- symbolic inputs ----


def test_an_unknown_size_stays_unknown_whatever_the_stride() -> None:
    """Keras tries 83 and 89 for it, of which a stride of 100 makes the same output."""
    spec = ConvSpec(3, 4, 3, 100, "same", layout="NHWC")
    y = spec(keras.Input((None, 8, 3)), np.ones(spec.weight_shape, "float32"))
    assert y.shape == (None, None, 1, 4)
    assert y.dtype == "float32"


def test_symbolic_calls_take_what_other_calls_take() -> None:
    up = ConvSpec(2, 3, 3, 2, 1, layout="NCW", transposed=True)
    w = integers(np.random.default_rng(0), up.weight_shape, "float32")
    x = integers(np.random.default_rng(1), (2, 2, 5), "float32")
    inputs, weight = keras.Input((2, 5)), keras.Input(batch_shape=w.shape)
    model = keras.Model([inputs, weight], up(inputs, weight, output_size=10))
    assert model.output_shape == (None, 3, 10)
    expected = convspec.reference(up, x, w, output_size=10)
    np.testing.assert_array_equal(model([x, w]), expected)
    model = keras.Model(weight, up(x, weight))  # the kernel alone is symbolic
    np.testing.assert_array_equal(model(w), convspec.reference(up, x, w))
    y = up(keras.Input((2, 5), dtype="int8"), np.ones(w.shape, "int8"), out_dtype="int32")
    assert y.dtype == "int32"


def test_symbolic_calls_that_are_refused() -> None:
    up = ConvSpec(2, 3, 3, 2, 1, layout="NCW", transposed=True)
    x, w = keras.Input((2, None)), np.ones(up.weight_shape, "float32")
    message = (
        "backend: 'jax' cannot take part in a symbolic Keras model, which runs on tensorflow; "
        "leave out backend=."
    )
    with refused(UnsupportedError, message):
        up(x, w, backend="jax")
    with pytest.raises(UnsupportedError, match=r"sizes on the axes W\.\n  Make them known"):
        up(x, w, output_size=10)
    with pytest.raises(DTypeError, match="weight: is float64, but x is float32"):
        up(x, w.astype("float64"))
    with pytest.raises(ShapeError, match="weight: has another size than expected on axis O"):
        up(x, w[:, :2])
    with pytest.raises(LayoutError, match="x: has 2 axes, but layout 'NCW' names 3"):
        up(keras.Input((2,)), w)


SYMBOLIC = """
import keras, numpy as np, sys
from convspec import ConvSpec, DTypeError, reference
assert keras.backend.backend() == sys.argv[1]
spec = ConvSpec(4, 6, 3, 2, "same", groups=2, layout="NHWC")
x = np.arange(2 * 5 * 6 * 4, dtype="float32").reshape(2, 5, 6, 4) % 5 - 2
weight = np.arange(6 * 2 * 3 * 3, dtype="float32").reshape(6, 2, 3, 3) % 5 - 2
inputs = keras.Input((None, 6, 4))
model = keras.Model(inputs, spec(inputs, weight, np.arange(6, dtype="float32")))
assert model.output_shape == (None, None, 3, 6)
expected = reference(spec, x, weight, np.arange(6, dtype="float32"))
np.testing.assert_array_equal(model.predict(x, verbose=0), expected)
model.save(sys.argv[2])
np.testing.assert_array_equal(keras.models.load_model(sys.argv[2]).predict(x, verbose=0), expected)
try:
    spec(inputs, weight.astype("float64"))
except DTypeError:
    pass
else:
    raise AssertionError("float64 weights were taken")
"""


def test_a_functional_model_runs_saves_and_loads(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(sys, "argv", ["", "tensorflow", str(tmp_path / "model.keras")])
    exec(SYMBOLIC, {})


ELSEWHERE = """
import keras, numpy as np, sys
from convspec import ConvSpec, layer_arrays, reference
from convspec_keras import Conv
assert keras.backend.backend() == sys.argv[1]
spec = ConvSpec(4, 6, 3, 2, "same", groups=2, layout="NHWC")
x = np.arange(2 * 5 * 6 * 4, dtype="float32").reshape(2, 5, 6, 4) % 5 - 2
layer = Conv(spec, seed=1)
model = keras.Sequential([keras.Input((5, 6, 4)), layer])
layer.set_weights([np.round(9 * w) for w in layer.get_weights()])  # integers, so sums are exact
expected = reference(spec, x, *map(keras.ops.convert_to_numpy, (layer.kernel, layer.bias)))
y = model.predict(x, verbose=0)
np.testing.assert_array_equal(y, expected)
model.save(sys.argv[2])
np.testing.assert_array_equal(keras.models.load_model(sys.argv[2]).predict(x, verbose=0), y)
model.compile("sgd", "mse")
model.fit(x, np.zeros_like(y), epochs=1, verbose=0)
assert (keras.ops.convert_to_numpy(model(x)) != y).any()
y = spec(keras.Variable(x), keras.Variable(np.ones(spec.weight_shape, "float32")), layer.bias)
assert keras.ops.is_tensor(y)

native = keras.layers.Conv2DTranspose(3, 3, 2, padding="same")
native.build((None, 5, 6, 4))
kernel = np.arange(3 * 3 * 3 * 4, dtype="float32").reshape(3, 3, 3, 4) % 7 - 3
native.kernel.assign(kernel)
told = ConvSpec.from_native(native)
y = keras.ops.convert_to_numpy(native(x))
np.testing.assert_array_equal(told(x, kernel), y)
weight, bias = layer_arrays(native)
again = told.to_native("keras", weight, bias)
np.testing.assert_array_equal(keras.ops.convert_to_numpy(again(x)), y)
"""


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_other_backends_of_kerass(backend: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE + SYMBOLIC, backend, str(tmp_path / "model.keras")],
        env={**os.environ, "KERAS_BACKEND": backend},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
