"""convspec on JAX arrays: lax.conv_general_dilated, hence XLA."""

from ._backend import JaxBackend

backend = JaxBackend()

__all__ = ["JaxBackend", "backend"]
