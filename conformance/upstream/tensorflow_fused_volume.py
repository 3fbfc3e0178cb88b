# environment: TF_ENABLE_ONEDNN_OPTS=1
# crashes
"""TensorFlow with oneDNN: a volume that is padded, a dilated conv3d, and a bias, in a graph.

The graph optimizer fuses the three, and the fused kernel ends the process (SIGSEGV).
"""

import tensorflow as tf

PADDING = [(0, 0), (4, 1), (0, 0), (2, 2), (0, 0)]


def volume(x: tf.Tensor, weight: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
    x = tf.pad(x, PADDING)
    y = tf.nn.conv3d(x, weight, [1, 1, 1, 3, 1], "VALID", dilations=[1, 2, 1, 3, 1])
    return tf.nn.bias_add(y, bias)


got = tf.function(volume)(tf.ones((1, 3, 3, 1, 2)), tf.ones((3, 1, 1, 2, 2)), tf.ones(2))

print(f"tensorflow {tf.__version__}: fixed")
print(f"expected shape [1, 4, 3, 2, 2], got {got.shape.as_list()}")
