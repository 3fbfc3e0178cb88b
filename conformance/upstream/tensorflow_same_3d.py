"""TensorFlow's Eigen kernel of conv3d: SAME with a stride above the kernel starts too far in.

float64 always, float32 without oneDNN. A kernel of one element with stride 3 reads the first of
three elements, as conv2d does and as the documentation says; conv3d reads the second, as if its
padding were -1. Compare tensorflow/tensorflow#1991 (merged), which mended it in 2-D.
"""

import numpy as np
import tensorflow as tf

x = np.arange(3.0).reshape(1, 1, 1, 3, 1)
expected = [0.0]
got = tf.nn.conv3d(x, np.ones((1, 1, 1, 1, 1)), [1, 1, 1, 3, 1], "SAME").numpy().ravel().tolist()
broken = got != expected

print(f"tensorflow {tf.__version__}: {'still broken' if broken else 'fixed'}")
print(f"expected {expected}, got {got}")
raise SystemExit(broken)
