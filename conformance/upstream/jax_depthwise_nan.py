"""JAX on the CPU: in a float64 depthwise convolution, a NaN of one channel spreads to the others.

XLA makes the kernel a dense one, with zeros that the NaN is multiplied by. float32 is right, and so
are groups of several channels.
"""

import jax
import jax.numpy as jnp

with jax.enable_x64(True):
    x = jnp.ones((1, 2, 4), "float64").at[0, 0, 0].set(jnp.nan)
    w = jnp.ones((2, 1, 2), "float64")
    got = jax.lax.conv_general_dilated(x, w, (1,), "VALID", feature_group_count=2)
    broken = bool(jnp.isnan(got[0, 1]).any())

print(f"jax {jax.__version__}: {'still broken' if broken else 'fixed'}")
print(f"expected [2.0, 2.0, 2.0], got {got[0, 1].tolist()}")
raise SystemExit(broken)
