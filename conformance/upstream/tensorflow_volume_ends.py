# environment: TF_ENABLE_ONEDNN_OPTS=1
# needs: avx512f
# crashes
"""TensorFlow with oneDNN: the gradient by the weight of conv3d with strides and few planes, SAME.

Where windows begin in the zeros before the data and others end in those behind it, and the former
are as many or more, the kernel writes beyond its memory, or is wrong, or never ends.
"""

import tensorflow as tf

tf.config.threading.set_intra_op_parallelism_threads(1)  # more may wait for each other for ever
x, g = tf.ones((2, 5, 8, 8, 16)), tf.ones((2, 3, 4, 4, 4))
for _ in range(1000):
    got = tf.raw_ops.Conv3DBackpropFilterV2(
        input=x,
        filter_sizes=[7, 3, 3, 16, 4],
        out_backprop=g,
        strides=[1, 2, 2, 2, 1],
        padding="SAME",
    )

# The tap at the centre of all axes reads every second element of each.
centre, expected = float(got[3, 1, 1, 0, 0]), 2 * 3 * 4 * 4
print(f"tensorflow {tf.__version__}: {'fixed' if centre == expected else 'still broken'}")
print(f"expected {expected}, got {centre:g}")
raise SystemExit(centre != expected)
