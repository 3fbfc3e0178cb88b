"""keras.ops.conv: too many input channels are silently taken for groups, on every backend.

The documentation says that the kernel's input channels should match the input's.
"""

import keras
import numpy as np

x, weight = np.ones((1, 3, 3, 4), "float32"), np.ones((2, 2, 2, 6), "float32")
try:
    got: object = tuple(keras.ops.conv(x, weight, 1, "valid").shape)
except Exception as error:  # each backend has its own
    got = f"refused: {error}"
broken = not isinstance(got, str)

backend = keras.config.backend()
print(f"keras {keras.__version__} on {backend}: {'still broken' if broken else 'fixed'}")
print(f"expected a refusal, got {got}")
raise SystemExit(broken)
