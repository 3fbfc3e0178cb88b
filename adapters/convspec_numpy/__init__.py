"""convspec on NumPy arrays: matrix products by BLAS over bounded blocks of windows."""

from ._backend import NumpyBackend

backend = NumpyBackend()

__all__ = ["NumpyBackend", "backend"]
