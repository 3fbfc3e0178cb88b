# environment: TF_ENABLE_ONEDNN_OPTS=1
# needs: avx512f
# crashes
"""TensorFlow with oneDNN: the gradient by the weight of a 1x1 kernel with strides, few channels.

The kernel writes beyond its memory. What that spoils differs: mostly the allocator's own notes, and
the process ends sooner or later.
"""

import tensorflow as tf

tf.config.threading.set_intra_op_parallelism_threads(1)  # more may wait for each other for ever
for width in range(33, 97):
    for channels in (1, 2, 3, 5):
        x, g = tf.ones((1, width, width, channels)), tf.ones((1, -(-width // 2), -(-width // 2), 1))
        got = tf.raw_ops.Conv2DBackpropFilter(
            input=x,
            filter_sizes=[1, 1, channels, 1],
            out_backprop=g,
            strides=[1, 2, 2, 1],
            padding="VALID",
        )

print(f"tensorflow {tf.__version__}: fixed")
print(f"expected {g.shape.num_elements()}, got {float(got[0, 0, 0, 0]):g}")
