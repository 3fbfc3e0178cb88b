# crashes
"""tf.experimental.dlpack.from_dlpack takes memory that TensorFlow's kernels then abort on.

They want memory at a multiple of 64 bytes and check it with CHECK, which ends the process. DLPack
leaves alignment open: dmlc/dlpack#99. The import should copy, or refuse.
"""

import numpy as np
import tensorflow as tf

memory = np.zeros(64, "float32")
offset = next(i for i in range(16) if (memory.ctypes.data + 4 * i) % 64 == 4)
x = memory[offset : offset + 32].reshape(1, 4, 4, 2)
given = tf.experimental.dlpack.from_dlpack(x.__dlpack__())
y = tf.nn.conv2d(given, np.ones((2, 2, 2, 3), "float32"), 1, "VALID")

print(f"tensorflow {tf.__version__}: fixed")
print(f"expected zeros, got {np.unique(y.numpy()).tolist()}")
