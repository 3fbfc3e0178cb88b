"""tf.nn.depthwise_conv2d: a stride beside a dilation gives a wrong shape after a mere warning.

The documentation says that strides must be 1 then. It should raise, or compute it.
"""

import warnings

import numpy as np
import tensorflow as tf

x, weight = np.ones((1, 11, 11, 3), "float32"), np.ones((3, 3, 3, 1), "float32")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    try:
        y = tf.nn.depthwise_conv2d(x, weight, [1, 2, 2, 1], "SAME", dilations=[3, 3])
        got: object = tuple(y.shape)
    except ValueError as error:
        got = f"refused: {error}"
broken = not (isinstance(got, str) or got == (1, 6, 6, 3))

print(f"tensorflow {tf.__version__}: {'still broken' if broken else 'fixed'}")
print(f"expected a refusal or (1, 6, 6, 3), got {got}")
raise SystemExit(broken)
