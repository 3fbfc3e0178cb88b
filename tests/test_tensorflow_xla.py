"""What XLA compiles on the CPU: other ways round its slow kernels, and the same numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import convspec
from convspec import ConvSpec, xla
from generators import integers

LAST = {"layout": "NDHWC", "weight_layout": "DHWIO"}
#: A spec and the shape of an input.
SPECS = {
    "few channels": (ConvSpec(2, 4, 3, padding=1, bias=False, **LAST), (2, 6, 7, 8, 2)),
    "channels first": (ConvSpec(17, 3, (2, 3, 3), padding=1, layout="NCDHW"), (1, 17, 5, 9, 8)),
    "strided": (ConvSpec(2, 4, 3, 2, "same", **LAST), (2, 7, 8, 9, 2)),
    "dilated": (ConvSpec(3, 4, 2, 1, 1, 2, **LAST), (2, 5, 6, 7, 3)),
    "groups": (ConvSpec(20, 8, (2, 3, 1), groups=4, layout="NCDHW"), (1, 20, 4, 6, 5)),
    "depthwise": (
        ConvSpec(8, 8, 3, padding=1, groups=8, layout="NHWC", weight_layout="HWIM"),
        (2, 12, 11, 8),
    ),
    "depthwise, channels first": (
        ConvSpec(8, 16, 3, 2, padding=1, groups=8, layout="NCHW", weight_layout="HWIM"),
        (2, 8, 12, 11),
    ),
    "other orders": (
        ConvSpec(8, 8, 3, padding=1, groups=8, bias=False, layout="CHW", output_layout="HWC"),
        (8, 12, 11),
    ),
    "transposed": (ConvSpec(3, 4, 3, 2, 1, transposed=True, **LAST), (1, 4, 5, 6, 3)),
    "transposed, no strides": (ConvSpec(3, 4, 3, 1, 1, transposed=True, **LAST), (1, 4, 5, 6, 3)),
    "transposed, depthwise": (
        ConvSpec(8, 8, 3, padding=1, dilation=2, transposed=True, groups=8, layout="NCHW"),
        (2, 8, 6, 5),
    ),
}


@pytest.fixture(autouse=True)
def everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rules for all sizes."""
    monkeypatch.setattr(xla, "WORTHWHILE", 0)


def arrays(spec: ConvSpec, shape: tuple[int, ...]) -> list[np.ndarray]:
    rng = np.random.default_rng(5)
    shapes = (shape, spec.weight_shape, spec.bias_shape)[: 2 + spec.bias]
    return [integers(rng, size, "float32") for size in shapes]


def kinds(run: Any, *given: Any) -> list[str]:
    graph = tf.function(run, jit_compile=True).get_concrete_function(*given).graph
    return [operation.type for operation in graph.get_operations()]


@pytest.mark.parametrize("name", SPECS)
def test_the_same_numbers_and_gradients(name: str) -> None:
    spec, shape = SPECS[name]
    given = arrays(spec, shape)
    expected = convspec.reference(spec, *given)
    c = integers(np.random.default_rng(6), expected.shape, "float32")
    tensors = list(map(tf.constant, given))

    def both(*tensors: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(tensors)
            y = spec(*tensors)
        return y, tape.gradient(y, tensors, tf.constant(c))

    y, gradients = tf.function(both, jit_compile=True)(*tensors)
    np.testing.assert_array_equal(y, expected)
    for found, right in zip(gradients, both(*tensors)[1], strict=True):
        np.testing.assert_array_equal(found, right)
    slow = {"Conv3DBackpropInputV2", "Conv2DBackpropInput", "DepthwiseConv2dNative"}
    slow |= set() if spec.transposed else {"Conv3D"}  # of a residue with one tap it is a product
    assert not slow & set(kinds(lambda *a: spec(*a), *tensors))


@pytest.mark.parametrize("name", ["few channels", "strided", "depthwise"])
def test_unknown_sizes(name: str) -> None:
    """XLA knows them when it compiles; the graph does not yet."""
    spec, shape = SPECS[name]
    given = arrays(spec, shape)
    data = [spec.in_channels if letter == "C" else None for letter in spec.layout]
    signature = [tf.TensorSpec(data), *(tf.TensorSpec(a.shape) for a in given[1:])]
    run = tf.function(lambda *a: spec(*a), input_signature=signature, jit_compile=True)
    np.testing.assert_array_equal(run(*given), convspec.reference(spec, *given))


def test_weights_from_outside_of_the_graph() -> None:
    """Captured tensors and variables are on the same device as what comes in."""
    spec, shape = SPECS["few channels"]
    x, w = arrays(spec, shape)
    expected = convspec.reference(spec, x, w)
    for weight in (tf.constant(w), tf.Variable(w)):
        run = tf.function(lambda x, weight=weight: spec(x, weight), jit_compile=True)
        np.testing.assert_array_equal(run(tf.constant(x)), expected)
        np.testing.assert_array_equal(tf.function(run)(tf.constant(x)), expected)
        np.testing.assert_array_equal(spec(tf.constant(x), weight), expected)


def test_graphs_that_xla_does_not_compile_keep_the_kernel() -> None:
    spec, shape = SPECS["depthwise"]
    given = list(map(tf.constant, arrays(spec, shape)))
    graph = tf.function(lambda *a: spec(*a)).get_concrete_function(*given).graph
    assert "DepthwiseConv2dNative" in [operation.type for operation in graph.get_operations()]


def test_data_stay_in_their_order_where_there_is_no_kernel() -> None:
    """One loop computes elementwise products of any order; copies into another took up to 12 ms."""
    spec, shape = SPECS["depthwise, channels first"]
    given = list(map(tf.constant, arrays(spec, shape)))

    def gradient(x: Any, *rest: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = spec(x, *rest)
        return tape.gradient(y, x)

    for run in (lambda *a: spec(*a), gradient):
        graph = tf.function(run, jit_compile=True).get_concrete_function(*given).graph
        moved = [node.inputs[0] for node in graph.get_operations() if node.type == "Transpose"]
        weight = given[1].shape.num_elements()
        assert all(x.shape.num_elements() == weight for x in moved)


def test_a_nan_stays_in_its_channel() -> None:
    """XLA makes a dense kernel, with zeros, of a depthwise one in float64."""
    spec = ConvSpec(3, 3, 1, groups=3, bias=False, layout="NHWC")
    x = np.ones((1, 2, 2, 3))
    x[..., 1] = np.nan
    w = np.ones(spec.weight_shape)
    y = tf.function(lambda x, w: spec(x, w), jit_compile=True)(tf.constant(x), tf.constant(w))
    np.testing.assert_array_equal(y, x)
