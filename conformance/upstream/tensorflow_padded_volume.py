# environment: TF_ENABLE_ONEDNN_OPTS=1
"""TensorFlow with oneDNN: a volume that is padded, convolved and transposed, in a graph.

The graph optimizer fuses the padding to the kernel, and then takes its output for as small as
without: here of size 1 on three axes, which a transpose may as well leave where they are.
"""

import tensorflow as tf

PADDING = [(0, 0), (2, 0), (2, 2), (0, 1), (0, 0)]


def transposed(x: tf.Tensor, weight: tf.Tensor) -> tf.Tensor:
    y = tf.nn.conv3d(tf.pad(x, PADDING), weight, [1, 1, 3, 2, 1], "VALID")
    return tf.transpose(y, (0, 2, 4, 3, 1))


arrays = tf.ones((2, 1, 5, 5, 1)), tf.ones((1, 3, 2, 1, 1))
got, expected = (run(*arrays).shape.as_list() for run in (tf.function(transposed), transposed))
broken = got != expected

print(f"tensorflow {tf.__version__}: {'still broken' if broken else 'fixed'}")
print(f"expected shape {expected}, got {got}")
raise SystemExit(broken)
