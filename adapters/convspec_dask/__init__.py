"""convspec on dask arrays: lazy, chunk by chunk, each chunk on another backend."""

from ._backend import DaskBackend

backend = DaskBackend()

__all__ = ["DaskBackend", "backend"]
