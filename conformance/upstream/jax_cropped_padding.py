"""JAX on the CPU: a 2-D convolution cropped at the start of an axis and padded at its end is wrong.

It reads on into whatever memory comes next. The same crop and padding before it, or the same in 1-D
or 3-D, is right.
"""

import jax
import jax.numpy as jnp

x = (jnp.arange(100.0) % 7 - 3).reshape(2, 2, 5, 5)
weight = (jnp.arange(36.0) % 5 - 2).reshape(2, 2, 3, 3)


cropped = jax.lax.pad(x, 0.0, [(0, 0, 0), (0, 0, 0), (-2, 2, 0), (-1, 1, 0)])
expected = jax.lax.conv_general_dilated(cropped, weight, (1, 1), "VALID")
got = jax.lax.conv_general_dilated(x, weight, (1, 1), [(-2, 2), (-1, 1)])
broken = not bool((got == expected).all())

print(f"jax {jax.__version__}: {'still broken' if broken else 'fixed'}")
print(f"expected {expected[0, 0].tolist()}, got {got[0, 0].tolist()}")
raise SystemExit(broken)
