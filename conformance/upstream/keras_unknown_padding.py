# environment: KERAS_BACKEND=torch
"""keras.ops.conv on torch: any unknown word for the padding means "valid".

"same_lower" is computed by the JAX backend and refused by the TensorFlow one.
"""

import keras
import numpy as np

x, weight = np.arange(5, dtype="float32").reshape(1, 5, 1), np.ones((2, 1, 1), "float32")
try:
    got = keras.ops.convert_to_numpy(keras.ops.conv(x, weight, 1, "same_lower")).ravel().tolist()
except (ValueError, RuntimeError) as error:
    got = f"refused: {error}"
broken = not (isinstance(got, str) or got == [0.0, 1.0, 3.0, 5.0, 7.0])

print(f"keras {keras.__version__} on torch: {'still broken' if broken else 'fixed'}")
print(f"expected a refusal or [0, 1, 3, 5, 7], got {got}")
raise SystemExit(broken)
