"""What tells the arrays of a repeated call from others."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import jax

from convspec.backend import Guard, Kernel


def shortcut(kernel: Kernel, arrays: Sequence[Any]) -> tuple[Guard, Kernel] | None:
    """A guard on arrays and Flax's variables like these, and the kernel."""
    held = [array.get_raw_value() if _is_plain_variable(array) else array for array in arrays]
    if any(not isinstance(a, jax.Array) or isinstance(a, jax.core.Tracer) for a in held):
        return None
    guard = _guard(*held)
    if all(a is array for a, array in zip(held, arrays, strict=True)):
        return guard, kernel
    return _of_variables(guard, kernel, arrays)


def _guard(x: Any, w: Any, b: Any = None) -> Guard:
    """True of arrays with the avals and shardings of these."""
    kind = type(x)
    x_like, w_like = _like(x), _like(w)

    def guard(x: Any, w: Any) -> bool:
        return type(x) is type(w) is kind and _like(x) == x_like and _like(w) == w_like

    if b is None:
        return guard
    b_like = _like(b)
    return lambda x, w, b: guard(x, w) and type(b) is kind and _like(b) == b_like


def _like(x: Any) -> Any:
    return x.aval, x.sharding


def _of_variables(guard: Guard, kernel: Kernel, like: Sequence[Any]) -> tuple[Guard, Kernel]:
    """The same for arrays some of which are variables, as they are in ``like``.

    What these hold is read as it is: ``__jax_array__`` gives the same in a hundred times as long.
    """
    kinds = tuple(map(type, like))
    reads = [_is_plain_variable(array) for array in like]

    def held(arrays: Sequence[Any]) -> list[Any]:
        pairs = zip(arrays, reads, strict=True)
        return [array.get_raw_value() if read else array for array, read in pairs]

    def guard_held(*arrays: Any) -> bool:
        if tuple(map(type, arrays)) != kinds:
            return False
        return not any(map(_has_hook, arrays)) and guard(*held(arrays))

    return guard_held, lambda *arrays: kernel(*held(arrays))


def _is_plain_variable(array: Any) -> bool:
    """Whether it is a variable of Flax, of a type that gives what it holds when it is read."""
    nnx: Any = sys.modules.get("flax.nnx")
    return (
        nnx is not None
        and isinstance(array, nnx.Variable)
        and type(array).get_value is nnx.Variable.get_value
        and type(array).__jax_array__ is nnx.Variable.__jax_array__
        and not _has_hook(array)
    )


def _has_hook(array: Any) -> bool:
    has: Any = getattr(type(array), "has_metadata", None)
    return has is not None and bool(has(array, "on_get_value"))
