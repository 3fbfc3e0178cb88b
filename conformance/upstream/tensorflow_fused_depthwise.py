# environment: TF_ENABLE_ONEDNN_OPTS=1
# crashes
"""TensorFlow with oneDNN: depthwise_conv2d with amounts of padding, then a bias, in a graph.

The graph optimizer fuses the two, and the fused kernel ends the process: "Check failed: index >= 0
&& index < num_total_dims" in tensor_format.h.
"""

import tensorflow as tf

PADDING = [(0, 0), (1, 1), (1, 1), (0, 0)]
depthwise = tf.function(
    lambda x, weight, bias: tf.nn.bias_add(
        tf.nn.depthwise_conv2d(x, weight, [1] * 4, PADDING), bias
    )
)
got = depthwise(tf.ones((1, 4, 4, 2)), tf.ones((3, 3, 2, 1)), tf.ones(2))

print(f"tensorflow {tf.__version__}: fixed")
print(f"expected 10 inside, got {got[0, 1, 1].numpy().tolist()}")
