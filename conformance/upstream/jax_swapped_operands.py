# crashes
"""XLA ends the process where a kernel larger than its input has an axis like one of groups.

XLA's simplifier lets the two operands of such a convolution change places. It leaves alone an axis
whose input is spread by the kernel's size, with a stride of one less, for one of groups, without a
look at the input's size. The gradient of this plain convolution by its input has such an axis.
"""

import jax
import jax.numpy as jnp

x, weight = jnp.ones((1, 1, 4, 4)), jnp.ones((1, 1, 2, 3))
y, gradients = jax.vjp(
    lambda x: jax.lax.conv_general_dilated(x, weight, (2, 1), [(1, 1), (0, 0)]), x
)
(got,) = gradients(y)

print(f"jax {jax.__version__}: fixed")
print(f"expected {[3.0, 9.0, 9.0, 6.0]} in a row, got {got[0, 0].tolist()}")
