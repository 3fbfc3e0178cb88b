"""MLX under its own compiler."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mlx.core as mx

from convspec import get_backend

from ..targets import CompiledTarget


def compiled() -> CompiledTarget:
    return Compiled(get_backend("mlx"))


class Compiled(CompiledTarget):
    """Each call under mx.compile."""

    def compiled(self, function: Callable[..., Any]) -> Callable[..., Any]:
        return mx.compile(function)
