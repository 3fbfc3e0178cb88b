"""TensorFlow: the Jacobian of conv2d by its weight, vectorised, raises with explicit padding.

pfor leaves out the attribute explicit_paddings.
"""

import tensorflow as tf

x, weight = tf.ones((1, 3, 3, 1)), tf.ones((2, 2, 1, 1))
with tf.GradientTape() as tape:
    tape.watch(weight)
    y = tf.nn.conv2d(x, weight, 1, [(0, 0), (1, 1), (1, 1), (0, 0)])
try:
    tape.jacobian(y, weight)
    broken, text = False, "no error"
except tf.errors.InvalidArgumentError as error:
    text = next(line for line in str(error).splitlines() if "explicit_paddings" in line)
    broken = True

print(f"tensorflow {tf.__version__}: {'still broken' if broken else 'fixed'}")
print(text)
raise SystemExit(broken)
