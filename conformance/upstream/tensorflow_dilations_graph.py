"""tf.nn.conv3d in a graph: shape inference takes the dilations for H and W the other way round.

Eagerly the shape is right.
"""

import tensorflow as tf

with tf.Graph().as_default():
    x, weight = tf.zeros((1, 9, 9, 9, 2)), tf.zeros((2, 2, 2, 2, 3))
    y = tf.nn.conv3d(x, weight, [1] * 5, "VALID", dilations=[1, 1, 2, 3, 1])
expected = (1, 8, 7, 6, 3)
got = tuple(y.shape)
broken = got != expected

print(f"tensorflow {tf.__version__}: {'still broken' if broken else 'fixed'}")
print(f"expected {expected}, got {got}")
raise SystemExit(broken)
