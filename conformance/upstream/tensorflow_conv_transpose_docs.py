"""tf.nn.conv_transpose: the documented order of its filters' channels is the wrong way round.

It says spatial_filter_shape + [in_channels, out_channels]; it takes [out_channels, in_channels],
as conv2d_transpose says.
"""

import numpy as np
import tensorflow as tf

x, documented = np.ones((1, 4, 2), "float32"), np.ones((3, 2, 5), "float32")
says = "spatial_filter_shape + [in_channels, out_channels]" in str(tf.nn.conv_transpose.__doc__)
try:
    got: object = tuple(tf.nn.conv_transpose(x, documented, (1, 6, 5), 1, "VALID").shape)
except (ValueError, tf.errors.InvalidArgumentError) as error:
    got = f"refused: {error}"
broken = says and got != (1, 6, 5)

print(f"tensorflow {tf.__version__}: {'still broken' if broken else 'fixed'}")
print(f"expected (1, 6, 5), as documented, got {got}")
raise SystemExit(broken)
