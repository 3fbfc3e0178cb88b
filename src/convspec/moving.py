"""Arrays moved from one framework to another, and from one order of axes to another."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from . import weights
from .backend import Backend
from .dispatch import get_backend, held
from .errors import LayoutError, UnsupportedError, first_line
from .layouts import check_data_layout, permutation
from .recording import pattern_of
from .weights import WeightOrder

if TYPE_CHECKING:
    from .spec import ConvSpec

Array = TypeVar("Array")


def to_framework(array: Any, name: str) -> Any:
    """An array handed over to another framework, without a copy where DLPack allows.

    Args:
        array: of any framework and shape; a variable is taken as what it holds.
        name: the backend that takes it, as in :func:`get_backend`.

    Returns:
        An array of that framework with the same shape, element type and values.

    Raises:
        BackendNotFoundError: the framework is not installed, or nothing owns the array.
        UnsupportedError: gradients or a trace would be lost, or the element type, as of 64-bit
            arrays in JAX without ``jax_enable_x64``.
    """
    target = get_backend(name)
    own, array = held(array, "array")
    if own is target:
        return array
    if own.differentiable(array) or own.traced(array):
        raise UnsupportedError(
            f"array: takes part in {own.name}'s gradients or tracing, which would be lost; "
            f"detach it first."
        )
    return handed(own, target, array, "array")


def convert_layout(x: Array, source: str, target: str, *, contiguous: bool = False) -> Array:
    """``x`` with its axes in the order ``target`` instead of ``source``.

    Works on arrays of every framework, and gives a view where the framework can.

    Args:
        x: array with one axis per letter of ``source``.
        source: data layout, such as ``"NDCHW"``.
        target: data layout with the same letters.
        contiguous: copy the elements into that order too, where the result would be a strided
            view; NumPy's arrays on all cores, and fastest where numba is installed.

    Raises:
        LayoutError: malformed layouts, other letters, or another number of axes.
    """
    axes = permutation(check_data_layout("source", source), check_data_layout("target", target))
    backend, array = held(x, "x")
    shape = backend.describe(array)[0]
    if len(shape) != len(source):
        raise LayoutError(
            f"x: has {len(shape)} axes, but source {source!r} names {len(source)}.\n"
            f"  x: shape {tuple(shape)}"
        )
    moved: Array = array if axes == tuple(range(len(axes))) else backend.permute(array, axes)
    return backend.contiguous(moved) if contiguous else moved


def convert_weight(
    spec: ConvSpec, target: ConvSpec, weight: Any, *, contiguous: bool = False
) -> Any:
    """A weight of ``spec`` in the order of ``target``: see :meth:`ConvSpec.convert_weight`."""
    weights.check_same(spec, target)
    backend, weight = held(weight, "weight")
    shape = pattern_of(backend, backend.describe(weight)[0], spec.weight_shape)
    weights.check_shape("weight", shape, spec)
    operations: dict[str, Callable[..., Any]] = {
        "permute": backend.permute,
        "reshape": backend.reshape,
        "flip": backend.flip,
    }
    moved = weights.rearrange(
        weight,
        spec.weight_shape,
        WeightOrder.of(spec),
        WeightOrder.of(target),
        spec.groups,
        **operations,
    )
    return backend.contiguous(moved) if contiguous else moved


def handed(own: Backend, target: Backend, array: Any, name: str, like: Any = None) -> Any:
    """``array`` handed over to another backend, by DLPack or else by NumPy, its type unchanged."""
    dtype = own.describe(array)[1]
    moved = _moved(own, target, array, name, like)
    if target.describe(moved)[1] != dtype:
        raise UnsupportedError(
            f"{name}: {dtype} does not survive the way from {own.name} to {target.name}.\n"
            f"  Convert it to a type that {target.name} has."
        )
    return moved


def _moved(own: Backend, target: Backend, array: Any, name: str, like: Any = None) -> Any:
    try:
        return target.from_foreign(array, like=like)
    except Exception:  # whatever the frameworks raise at types or strides that DLPack lacks
        try:
            return target.from_foreign(own.to_numpy(array), like=like)
        except Exception as error:
            if own.out_of_memory(error) or target.out_of_memory(error):
                raise
            _, dtype, device = own.describe(array)
            raise UnsupportedError(
                f"{name}: {dtype} on {device} cannot be handed from {own.name} to {target.name}: "
                f"{first_line(error)}"
            ) from error
