"""The dask backend: whose arrays it takes, and which backend computes their chunks."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import dask
import dask.array as da
import numpy as np

from convspec import Backend, get_backend
from convspec.backend import Capabilities, Environment, Kernel, Support
from convspec.errors import UnsupportedError
from convspec.problem import Problem

from ._graph import conv


class DaskBackend(Backend):
    """Dask arrays of NumPy chunks; the result is lazy, and has a chunk for each of the input's.

    Args:
        engine: name of the backend that computes a chunk. It is looked up where the chunk is
            computed, in another process as well.

    >>> spec(x, weight)  # by NumPy
    >>> spec(x, weight, backend=DaskBackend(engine="torch"))
    """

    name = "dask"

    def __init__(self, engine: str = "numpy") -> None:
        if engine == self.name:
            raise UnsupportedError("engine: 'dask' cannot compute its own chunks; name another.")
        self.engine = engine

    def __repr__(self) -> str:
        return f"DaskBackend(engine={self.engine!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DaskBackend) and other.engine == self.engine

    def __hash__(self) -> int:
        return hash((DaskBackend, self.engine))

    @property
    def capabilities(self) -> Capabilities:
        inner = get_backend(self.engine).capabilities
        return Capabilities(
            dask.__version__, inner.dtypes, inner.max_rank, ("cpu",), gradients=False
        )

    def owns(self, x: Any) -> bool:
        return isinstance(x, da.Array)

    def unwrap(self, x: Any) -> Any:
        if any(math.isnan(size) for size in x.shape):
            raise TypeError("its chunk sizes are unknown; call x.compute_chunk_sizes() first.")
        return x

    def describe(self, x: Any) -> tuple[tuple[Any, ...], str, str]:
        return x.shape, x.dtype.name, "cpu"

    def supports(self, problem: Problem, env: Environment) -> Support:
        return get_backend(self.engine).supports(problem, env)

    def prepare(self, problem: Problem, env: Environment) -> Kernel:
        support = self.supports(problem, env)
        if not support:
            raise UnsupportedError(f"backend: {self.engine}, on every chunk: {support.reason}")
        return partial(conv, problem, env, self.engine)

    def from_foreign(self, x: Any, like: Any = None) -> Any:
        array = x if isinstance(x, np.ndarray) else np.from_dlpack(x)
        return da.from_array(array, chunks=-1)

    def to_numpy(self, x: Any) -> Any:
        return x.compute()

    def permute(self, x: Any, axes: tuple[int, ...]) -> Any:
        return x.transpose(axes)

    def reshape(self, x: Any, shape: tuple[int, ...]) -> Any:
        return x.reshape(shape)

    def flip(self, x: Any, axes: tuple[int, ...]) -> Any:
        return da.flip(x, axes)
