"""What tests/test_tf_distributed.py runs in a process with two logical devices: a JSON report."""

from __future__ import annotations

import json
import os
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
from tensorflow.experimental import dtensor

from convspec import ConvSpec, ConvSpecError
from convspec_keras import Conv
from generators import integers

SPEC = ConvSpec(2, 4, 3, 2, "same", groups=2, layout="NDHWC", weight_layout="DHWIO")
UP = SPEC.replace(transposed=True)
RNG = np.random.default_rng(0)
X = integers(RNG, (4, 4, 5, 3, 2), "float32")
NAMES = ("CPU:0", "CPU:1")


def arrays(spec: ConvSpec) -> tuple[np.ndarray, np.ndarray]:
    return integers(RNG, spec.weight_shape, "float32"), integers(RNG, spec.bias_shape, "float32")


def step(spec: ConvSpec, x: Any, variables: Any, reduce: Any) -> None:
    """One of gradient descent; exact, as all numbers are small multiples of powers of two."""
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(spec(x, *variables) ** 2)
    for variable, gradient in zip(variables, tape.gradient(loss, variables), strict=True):
        variable.assign_sub(0.5 * reduce(gradient))


def replicas(strategy: Any, spec: ConvSpec, compiled: bool) -> bool:
    """A step of two replicas with half a batch each is that of one with the whole batch."""
    start = arrays(spec)
    alone = [tf.Variable(array) for array in start]
    step(spec, tf.constant(X), alone, lambda gradient: gradient)
    with strategy.scope():
        mirrored = [tf.Variable(array) for array in start]

    def replica(x: Any) -> Any:
        context = tf.distribute.get_replica_context()
        step(spec, x, mirrored, lambda gradient: context.all_reduce("sum", gradient))
        return tf.shape(x)[0]

    def run(x: Any) -> Any:
        return strategy.run(replica, args=(x,))

    data = tf.data.Dataset.from_tensor_slices(X).batch(4)
    for batch in strategy.experimental_distribute_dataset(data):
        parts = (tf.function(run) if compiled else run)(batch)
        assert [int(n) for n in strategy.experimental_local_results(parts)] == [2, 2]
    pairs = zip(mirrored, alone, strict=True)
    return all(np.array_equal(ours.numpy(), theirs.numpy()) for ours, theirs in pairs)


def layer(strategy: Any) -> bool:
    """Keras's own loop, under a strategy's scope."""

    def trained(model: Any) -> list[np.ndarray]:
        model.layers[0].set_weights(start)
        model.compile(
            keras.optimizers.SGD(0.5), loss=lambda y, p: tf.reduce_sum(p**2, [1, 2, 3, 4])
        )
        data = tf.data.Dataset.from_tensor_slices((X, X)).batch(4)
        model.fit(data, verbose=0)
        return list(model.layers[0].get_weights())

    start = list(arrays(SPEC))
    with strategy.scope():
        mirrored = keras.Sequential([keras.Input(X.shape[1:]), Conv(SPEC)])
        found = trained(mirrored)
    expected = trained(keras.Sequential([keras.Input(X.shape[1:]), Conv(SPEC)]))
    return all(np.array_equal(a, e) for a, e in zip(found, expected, strict=True))


def dtensors() -> dict[str, Any]:
    """A split batch is convolved; split space is refused."""
    mesh = dtensor.create_mesh([("d", 2)], devices=list(NAMES))
    w = integers(RNG, SPEC.weight_shape, "float32")
    weight = dtensor.copy_to_mesh(tf.constant(w), dtensor.Layout.replicated(mesh, rank=5))

    def split(axis: int) -> Any:
        specs = ["d" if i == axis else dtensor.UNSHARDED for i in range(5)]
        return dtensor.pack(tf.split(X, 2, axis), dtensor.Layout(specs, mesh))

    y = SPEC(split(0), weight)
    parts = np.concatenate([part.numpy() for part in dtensor.unpack(y)])
    told = ""
    try:
        SPEC(split(1), weight)
    except ConvSpecError as error:
        told = f"{type(error).__name__}: {error}"
    return {"batch": bool(np.array_equal(parts, SPEC(X, w))), "space": told}


if __name__ == "__main__":
    cpu = tf.config.list_physical_devices("CPU")[0]
    two = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(cpu, two)
    # One for all: the collectives of two of them in one process would have the same keys.
    strategy = tf.distribute.MirroredStrategy(NAMES)
    report = {
        "replicas": [
            replicas(strategy, spec, compiled) for spec in (SPEC, UP) for compiled in (False, True)
        ],
        "layer": layer(strategy),
        "dtensors": dtensors(),
    }
    print(json.dumps(report))
