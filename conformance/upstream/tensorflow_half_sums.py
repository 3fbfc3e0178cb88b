"""TensorFlow on the CPU: conv3d and depthwise_conv2d of float16 round partial sums to float16.

Every partial sum is an integer that float32 has, so the only right answer is the exact sum,
rounded to float16 once. Without oneDNN the same holds for conv2d, and for bfloat16.
"""

import numpy as np
import tensorflow as tf

x = (np.arange(256) * 37 % 121 - 60).reshape(1, 4, 4, 1, 16).astype("float32")
weight = (np.arange(144) * 29 % 61 - 30).reshape(3, 3, 1, 16, 1).astype("float32")
steps = [1, 1, 1, 1, 1]

expected = tf.nn.conv3d(x, weight, steps, "VALID").numpy().astype("float16").ravel()
half = tf.nn.conv3d(x.astype("float16"), weight.astype("float16"), steps, "VALID")
got = half.numpy().ravel()
broken = not np.array_equal(got, expected)

print(f"tensorflow {tf.__version__}: {'still broken' if broken else 'fixed'}")
print(f"expected {expected.tolist()}, got {got.tolist()}")
raise SystemExit(broken)
