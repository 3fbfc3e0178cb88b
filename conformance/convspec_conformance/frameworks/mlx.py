"""MLX under its own compiler."""

from __future__ import annotations

from typing import Any

import mlx.core as mx

from convspec import ConvSpec, get_backend

from ..targets import BackendTarget


def compiled() -> BackendTarget:
    return Compiled(get_backend("mlx"))


class Compiled(BackendTarget):
    """Each call under mx.compile."""

    def call(self, spec: ConvSpec, *arrays: Any, **options: Any) -> Any:
        given = [array for array in arrays if array is not None]

        def one(*traced: Any) -> Any:
            return super(Compiled, self).call(spec, *traced, **options)

        return mx.compile(one)(*given)
