# environment: TF_ENABLE_ONEDNN_OPTS=1
"""TensorFlow with oneDNN: a VALID convolution without any output gives uninitialised memory.

The input has two rows, the kernel three: no output position. The result has the input's shape and
whatever was in memory. Compare tensorflow/tensorflow#112639 (the same of conv1d, closed).
"""

import numpy as np
import tensorflow as tf

x, weight = np.ones((1, 2, 5, 3), "float32"), np.ones((3, 3, 3, 4), "float32")
try:
    got: object = tuple(tf.nn.conv2d(x, weight, 1, "VALID").shape)
except (ValueError, tf.errors.InvalidArgumentError) as error:
    got = f"refused: {error}"
broken = got == (1, 2, 5, 3)

print(f"tensorflow {tf.__version__}: {'still broken' if broken else 'fixed'}")
print(f"expected a refusal or (1, 0, 3, 4), got {got}")
raise SystemExit(broken)
