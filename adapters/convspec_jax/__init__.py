"""convspec on JAX arrays: lax.conv_general_dilated, hence XLA."""

from typing import TYPE_CHECKING, Any

from ._backend import JaxBackend
from ._layer import apply, init
from ._sharded import sharded

if TYPE_CHECKING:
    from ._nnx import Conv

backend = JaxBackend()

__all__ = ["Conv", "JaxBackend", "apply", "backend", "init", "sharded"]


def __getattr__(name: str) -> Any:
    if name == "Conv":  # JAX users need not have Flax
        from ._nnx import Conv

        return Conv
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
