"""TensorFlow has no groups in 3-D: depthwise volumes are sums of depthwise pictures, exactly."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

import convspec
from convspec import ConvSpec
from generators import integers

ORDERS = {"layout": "NDHWC", "weight_layout": "DHWIO"}
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
