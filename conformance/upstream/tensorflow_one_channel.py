# environment: TF_ENABLE_ONEDNN_OPTS=1
# needs: avx512f
"""TensorFlow with oneDNN: conv2d of one channel, unequal strides and one output column is wrong.

With a batch of two or more; conv3d likewise, even with one sample. Some elements are numbers that
were in memory before. Without oneDNN (TF_ENABLE_ONEDNN_OPTS=0) all are right, and so they
are from its kernels for AVX2.
"""

import numpy as np
import tensorflow as tf

x = (np.arange(40) % 7 - 3).reshape(2, 5, 4, 1).astype("float32")
weight = (np.arange(6) % 5 - 2).reshape(2, 3, 1, 1).astype("float32")

windows = np.lib.stride_tricks.sliding_window_view(x[..., 0], (2, 3), (1, 2))[:, :, ::3]
expected = (windows * weight[..., 0, 0]).sum((-2, -1))
got = tf.nn.conv2d(x, weight, [1, 1, 3, 1], "VALID").numpy()[..., 0]
broken = not np.array_equal(got, expected)

print(f"tensorflow {tf.__version__}: {'still broken' if broken else 'fixed'}")
print(f"expected {expected.ravel().tolist()}, got {got.ravel().tolist()}")
raise SystemExit(broken)
