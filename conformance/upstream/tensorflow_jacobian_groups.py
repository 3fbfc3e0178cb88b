"""TensorFlow: the Jacobian of a grouped conv2d by its weight, vectorised, is wrong.

pfor puts the loop's axis before the groups of the channels, not behind it. XLA is where the
gradient of a grouped conv2d exists on a CPU; on a GPU it exists everywhere.
"""

import numpy as np
import tensorflow as tf

x = (np.arange(36) % 7 - 3).reshape(1, 3, 3, 4).astype("float32")
weight = (np.arange(64) % 5 - 2).reshape(2, 2, 2, 8).astype("float32")


def jacobian(x: tf.Tensor, weight: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    with tf.GradientTape() as tape:
        tape.watch(weight)
        y = tf.nn.conv2d(x, weight, 1, "VALID")
    return y, tape.jacobian(y, weight)


# y is linear in the weight, so that the Jacobian times the weight is y.
run = tf.function(jacobian, jit_compile=True)
y, found = run(tf.constant(x), tf.constant(weight))
got = tf.tensordot(found, weight, 4)
broken = not np.array_equal(got, y)

print(f"tensorflow {tf.__version__}: {'still broken' if broken else 'fixed'}")
print(f"expected {y.numpy().ravel()[:6]}, got {got.numpy().ravel()[:6]}")
raise SystemExit(broken)
