"""The functional forms: channels and kernel size are read off the weight."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, TypeVar

from . import canonical, dispatch
from .arguments import integer, one_of
from .backend import Backend
from .errors import LayoutError, ShapeError
from .layouts import spatial_letters
from .spec import ConvSpec

Array = TypeVar("Array")


def conv(
    x: Array,
    weight: Any,
    bias: Any = None,
    *,
    stride: int | Sequence[int] = 1,
    padding: Any = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    padding_mode: str = "zeros",
    layout: str | None = None,
    output_layout: str | None = None,
    weight_layout: str | None = None,
    flip_kernel: bool = False,
    group_axis: str | None = None,
    out_dtype: Any = None,
    backend: str | Backend | None = None,
) -> Array:
    """A forward convolution; channels and kernel size are the weight's.

    Args:
        x: array in ``layout`` (default: channels first, with a batch).
        weight: array in ``weight_layout`` (default ``OI...``).
        bias: array of shape ``(out_channels,)``, or None.
        stride, padding, dilation, groups, padding_mode, output_layout, flip_kernel, group_axis:
            as in :class:`ConvSpec`.
        out_dtype, backend: as in a call of a spec.

    Raises:
        ConvSpecError: as the constructor and the call of a spec.
    """
    given = {
        "stride": stride,
        "padding": padding,
        "dilation": dilation,
        "groups": groups,
        "padding_mode": padding_mode,
        "layout": layout,
        "output_layout": output_layout,
        "weight_layout": weight_layout,
        "flip_kernel": flip_kernel,
        "group_axis": group_axis,
    }
    spec = _spec_of(weight, False, given)
    return spec(x, weight, bias, out_dtype=out_dtype, backend=backend)


def conv_transpose(
    x: Array,
    weight: Any,
    bias: Any = None,
    *,
    stride: int | Sequence[int] = 1,
    padding: Any = 0,
    output_padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    layout: str | None = None,
    output_layout: str | None = None,
    weight_layout: str | None = None,
    flip_kernel: bool = False,
    group_axis: str | None = None,
    output_size: int | Sequence[int] | None = None,
    out_dtype: Any = None,
    backend: str | Backend | None = None,
) -> Array:
    """A transposed convolution; channels and kernel size are the weight's.

    Args:
        x: array in ``layout`` (default: channels first, with a batch).
        weight: array in ``weight_layout`` (default ``IO...``).
        bias: array of shape ``(out_channels,)``, or None.
        stride, padding, output_padding, dilation, groups, output_layout, flip_kernel,
            group_axis: as in :class:`ConvSpec`.
        output_size, out_dtype, backend: as in a call of a spec.

    Raises:
        ConvSpecError: as the constructor and the call of a spec.
    """
    given = {
        "stride": stride,
        "padding": padding,
        "output_padding": output_padding,
        "dilation": dilation,
        "groups": groups,
        "layout": layout,
        "output_layout": output_layout,
        "weight_layout": weight_layout,
        "flip_kernel": flip_kernel,
        "group_axis": group_axis,
    }
    spec = _spec_of(weight, True, given)
    return spec(x, weight, bias, output_size=output_size, out_dtype=out_dtype, backend=backend)


conv.__dict__["autograph_info__"] = conv_transpose.__dict__["autograph_info__"] = dispatch.OPAQUE


def _spec_of(weight: Any, transposed: bool, given: dict[str, Any]) -> ConvSpec:
    backend, weight = dispatch.held(weight, "weight")
    shape = tuple(backend.plain(n) for n in backend.describe(weight)[0])
    items = tuple((name, _hashable(value)) for name, value in given.items())
    if backend.recording():
        return spec_of_shape(shape, transposed, items)
    try:
        return _cached_spec(shape, transposed, items, _types(items))
    except TypeError:  # a value without a hash: an array is fine, the rest has its message
        return spec_of_shape(shape, transposed, items)


def _hashable(value: Any) -> Any:
    return tuple(map(_hashable, value)) if isinstance(value, list) else value


def _types(value: Any) -> Any:
    return tuple(map(_types, value)) if isinstance(value, tuple) else type(value)


@lru_cache(maxsize=1024)
def _cached_spec(shape: Any, transposed: bool, given: Any, types: Any) -> ConvSpec:
    """``types`` keep True and 1.0, which equal 1, from finding what 1 gave."""
    return spec_of_shape(shape, transposed, given)


def spec_of_shape(
    shape: tuple[Any, ...], transposed: bool, given: tuple[tuple[str, Any], ...]
) -> ConvSpec:
    """The spec whose weight has this shape; ``given`` are further arguments, by name."""
    unknown = [i for i, size in enumerate(shape) if size is None]
    if unknown:
        raise ShapeError(
            f"weight: the size of axis {unknown[0]} is unknown while tracing, and the channels and "
            f"the kernel size are read off it.\n  Make it known, or call a ConvSpec."
        )
    arguments: dict[str, Any] = {**dict(given), "kernel_size": (1,) * max(len(shape) - 2, 1)}
    layouts = canonical.layouts(arguments, transposed)
    layout = layouts["weight_layout"]
    if len(shape) != len(layout):
        raise LayoutError(
            f"weight: has {len(shape)} axes, but weight_layout {layout!r} names {len(layout)}.\n"
            f"  weight: shape {shape}"
        )
    sizes = dict(zip(layout.replace("M", "O"), shape, strict=True))
    groups = integer("groups", arguments["groups"], minimum=1)
    axis = arguments["group_axis"]
    if axis is None:
        axis = "I" if transposed or "M" in layout else "O"
    one_of("group_axis", axis, ("O", "I"))
    arguments.update(
        in_channels=sizes["I"] * (groups if axis == "O" else 1),
        out_channels=sizes["O"] * (groups if axis == "I" else 1),
        kernel_size=tuple(sizes[letter] for letter in spatial_letters(layouts["layout"])),
        transposed=transposed,
    )
    return ConvSpec(**arguments)
