"""tf.nn.conv2d: too many input channels are silently taken for groups.

Four channels and a kernel of two: the documentation says that the kernel's in_channels are the
input's, and has no word of groups.
"""

import numpy as np
import tensorflow as tf

x, weight = np.ones((1, 3, 3, 4), "float32"), np.ones((2, 2, 2, 6), "float32")
try:
    got: object = tuple(tf.nn.conv2d(x, weight, 1, "VALID").shape)
except (ValueError, tf.errors.InvalidArgumentError) as error:
    got = f"refused: {error}"
broken = not isinstance(got, str)

print(f"tensorflow {tf.__version__}: {'still broken' if broken else 'fixed'}")
print(f"expected a refusal, got {got}")
raise SystemExit(broken)
