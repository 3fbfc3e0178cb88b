# environment: TF_ENABLE_ONEDNN_OPTS=1
# crashes
"""TensorFlow with oneDNN: conv2d whose result does not fit into memory ends the process.

A segmentation fault; without oneDNN it raises ResourceExhaustedError. The result is to have 2**47
bytes, which no process can address.
"""

import tensorflow as tf

try:
    tf.nn.conv2d(tf.zeros((1, 2**13, 2**10, 1)), tf.zeros((1, 1, 1, 2**22)), 1, "VALID")
except tf.errors.ResourceExhaustedError as error:
    print(f"tensorflow {tf.__version__}: fixed")
    print(str(error)[:80])
