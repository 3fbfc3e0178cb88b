"""convspec on MLX arrays: mlx.core.conv_general, on the CPU, Metal or CUDA."""

from ._backend import MlxBackend

backend = MlxBackend()

__all__ = ["MlxBackend", "backend"]
