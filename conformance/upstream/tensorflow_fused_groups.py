# environment: TF_ENABLE_ONEDNN_OPTS=0
"""TensorFlow on the CPU: in a graph, a grouped conv2d followed by a bias or a batch normalisation.

The two are fused to a kernel that has no groups, and says so.
"""

import tensorflow as tf

x, weight, bias = tf.ones((1, 4, 4, 4)), tf.ones((3, 3, 2, 6)), tf.ones(6)


def run() -> tf.Tensor:
    return tf.nn.bias_add(tf.nn.conv2d(x, weight, 1, "VALID"), bias)


try:
    tf.function(run)()
    broken, text = False, "no error"
except tf.errors.UnimplementedError as error:
    broken, text = True, next(line for line in str(error).splitlines() if "Fused" in line)

print(f"tensorflow {tf.__version__}: {'still broken' if broken else 'fixed'}")
print(text)
raise SystemExit(broken)
