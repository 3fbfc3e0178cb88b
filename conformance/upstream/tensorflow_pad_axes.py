"""tf.pad takes six axes at most, which its documentation does not say.

Every other operation of a convolution in pieces (reshape, transpose, slice) takes more.
"""

import numpy as np
import tensorflow as tf

try:
    got: object = tuple(tf.pad(np.ones((1,) * 7, "float32"), [(1, 1)] * 7).shape)
except tf.errors.InvalidArgumentError as error:
    got = f"refused: {error}"
broken = got != (3,) * 7

print(f"tensorflow {tf.__version__}: {'still broken' if broken else 'fixed'}")
print(f"expected {(3,) * 7}, got {got}")
raise SystemExit(broken)
