# environment: TF_ENABLE_ONEDNN_OPTS=1
"""TensorFlow with oneDNN: a convolution of an empty batch has the input's shape.

Its size and its channels; of every rank. Without oneDNN the shape is right.
"""

import numpy as np
import tensorflow as tf

x, weight = np.ones((0, 4, 4, 4, 3), "float32"), np.ones((2, 2, 2, 3, 5), "float32")
expected = (0, 3, 3, 3, 5)
got = tuple(tf.nn.conv3d(x, weight, [1, 1, 1, 1, 1], "VALID").shape)
broken = got != expected

print(f"tensorflow {tf.__version__}: {'still broken' if broken else 'fixed'}")
print(f"expected {expected}, got {got}")
raise SystemExit(broken)
