"""From what the arrays of a call are like to the prepared kernel: checked, decided, and kept."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from . import dtypes, weights
from .backend import Backend, Environment, Kernel
from .errors import ConvSpecError, DTypeError, UnsupportedError, first_line
from .problem import resolve_sizes
from .symbols import symbols

if TYPE_CHECKING:
    from .spec import ConvSpec

#: Shape and element type of a weight or bias.
Described = tuple[tuple[Any, ...], str]


def prepare(
    spec: ConvSpec,
    backend: Backend,
    shape: tuple[Any, ...],
    dtype: str,
    device: str,
    weight: Described,
    bias: Described | None,
    output_size: Any,
    out_dtype: Any,
    traced: bool,
) -> Kernel:
    """The kernel for arrays of these descriptions, after checking that they fit the spec.

    Sizes that are not known are None.
    """
    wanted = None if output_size is None else symbols("output_size", output_size)
    problem = resolve_sizes(spec, symbols("x", shape), wanted)
    weights.check_shape("weight", weight[0], spec)
    if bias is not None:
        weights.check_bias(bias[0], spec)
    for name, described in (("weight", weight), ("bias", bias)):
        if described is not None and described[1] != dtype:
            raise DTypeError(
                f"{name}: is {described[1]}, but x is {dtype}; all arrays of a call have one type."
                f"\n  Convert one of them, or ask for another result type with out_dtype=."
            )
    out = dtype if out_dtype is None else dtypes.name_of(out_dtype, "out_dtype")
    dtypes.check("x", dtype)
    dtypes.check_out(dtype, out)
    env = Environment(
        dtype=dtype,
        out_dtype=out,
        device=device,
        bias=bias is not None,
        traced=traced,
    )
    try:
        return backend.prepare(problem, env)
    except ConvSpecError:
        raise
    except Exception as error:
        unknown = [c for c, n in zip(spec.layout, shape, strict=True) if n is None]
        if not unknown:
            raise
        raise UnsupportedError(
            f"x: {backend.name} cannot do this with unknown sizes on the axes {''.join(unknown)}.\n"
            f"  {first_line(error)}\n  Make the spatial ones known."
        ) from error


#: The same, once for each; a TypeError where a description has no hash.
prepared = lru_cache(maxsize=4096)(prepare)


def found(spec: ConvSpec, *key: Any) -> Kernel:
    """The prepared kernel for arrays of these descriptions."""
    try:
        return prepared(spec, *key)
    except TypeError:  # an out_dtype without a hash: its message comes from the same, uncached
        return prepare(spec, *key)
