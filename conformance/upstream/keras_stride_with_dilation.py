# environment: KERAS_BACKEND=tensorflow
"""keras.ops.conv on TensorFlow refuses a stride beside a dilation, which tf.nn.conv2d computes.

So do Keras's JAX and torch backends; the documentation of the function has no such limit.
"""

import keras
import numpy as np

x, weight = np.ones((1, 9, 9, 2), "float32"), np.ones((2, 2, 2, 3), "float32")
try:
    got: object = tuple(keras.ops.conv(x, weight, 2, "valid", dilation_rate=2).shape)
except ValueError as error:
    got = f"refused: {error}"
broken = got != (1, 4, 4, 3)

print(f"keras {keras.__version__} on tensorflow: {'still broken' if broken else 'fixed'}")
print(f"expected (1, 4, 4, 3), got {got}")
raise SystemExit(broken)
