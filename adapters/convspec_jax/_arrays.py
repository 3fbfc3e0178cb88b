"""JAX's array operations, under the names that plans use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

MODES = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}


def platform_of(x: Any) -> str:
    """Kind of device of an array; of a tracer, the one that it will run on by default."""
    if isinstance(x, jax.core.Tracer):
        return str(jax.default_backend())
    return str(next(iter(x.devices())).platform)


def at_hand(x: Any) -> bool:
    """Whether there is an array already, behind the tracers of derivatives: no program is made."""
    while isinstance(x, jax.core.Tracer):
        x = getattr(x, "primal", None)
    return isinstance(x, jax.Array)


def pad(x: Any, *, pairs: Any, mode: str) -> Any:
    if any(type(amount) is not int for pair in pairs for amount in pair):
        return _pad_symbolic(x, pairs)
    if mode == "zeros":
        return jax.lax.pad(x, jnp.zeros((), x.dtype), [(lo, hi, 0) for lo, hi in pairs])
    return jnp.pad(x, pairs, mode=MODES[mode])


def _pad_symbolic(x: Any, pairs: Any) -> Any:
    """Zeros end to end: amounts that are dimension variables cannot be asked of lax.pad."""
    for axis, pair in enumerate(pairs):
        shapes = [(*x.shape[:axis], amount, *x.shape[axis + 1 :]) for amount in pair]
        before, after = (jnp.zeros(shape, x.dtype) for shape in shapes)
        x = jnp.concatenate([before, x, after], axis)
    return x


def from_foreign(x: Any, *, traced: bool = False) -> Any:
    """A NumPy array or, by DLPack, another framework's, without a copy where that is possible."""
    if not isinstance(x, np.ndarray):
        return jnp.from_dlpack(x)
    x = x.astype(x.dtype.newbyteorder("="), copy=False)
    # Outside of traces jnp.asarray compiles a program for each shape that copies it.
    return jnp.asarray(x) if traced else jax.device_put(x, may_alias=False)


def as_array(x: Any) -> Any:
    """A JAX array as it is, in a variable or not; a NumPy array as one."""
    if hasattr(type(x), "__jax_array__"):
        x = x.__jax_array__()
    return x if isinstance(x, jax.Array) else from_foreign(x)


def to_numpy(x: Any) -> Any:
    """An array as a NumPy array."""
    return np.asarray(x)


def vjp(function: Callable[..., Any], arrays: Any, cotangent: Any) -> tuple[Any, ...]:
    """Gradients by JAX's own transform, compiled in one piece."""

    def gradients(arrays: Any, cotangent: Any) -> Any:
        return jax.vjp(function, *arrays)[1](cotangent)

    return tuple(jax.jit(gradients)(tuple(arrays), cotangent))


def concat(*parts: Any, axis: int) -> Any:
    """The parts end to end. Often the same one position is a broadcast, as its gradient is a sum.

    That sum XLA computes once; the gradients of parts it may compute anew for each position.
    """
    first = parts[0]
    if first.shape[axis] == 1 and all(part is first for part in parts):
        return jnp.broadcast_to(first, (*first.shape[:axis], len(parts), *first.shape[axis + 1 :]))
    return jnp.concatenate(parts, axis)


OPERATIONS: dict[str, Callable[..., Any]] = {
    "add": lambda a, b: a + b,
    "cast": lambda x, *, dtype: x.astype(dtype),
    "concat": concat,
    "flip": lambda x, *, axes: jax.lax.rev(x, axes),
    "multiply": lambda a, b: a * b,
    "pad": pad,
    "part": lambda parts, *, index: parts[index],
    "permute": lambda x, *, axes: jnp.transpose(x, axes),
    "reshape": lambda x, *, shape: jnp.reshape(x, shape),
    "slice": lambda x, *, index: x[index],
    "split": lambda x, *, axis, count: jax.lax.split(x, [x.shape[axis] // count] * count, axis),
}
