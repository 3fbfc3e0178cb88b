"""The functional forms: channels and kernel size are read off the weight."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, TypeVar

from . import dispatch
from .backend import Backend
from .canonical import default_weight_layout
from .errors import LayoutError
from .layouts import (
    FORMATS,
    check_data_layout,
    check_weight_layout,
    default_spatial,
    spatial_letters,
)
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


def _spec_of(weight: Any, transposed: bool, given: dict[str, Any]) -> ConvSpec:
    backend = dispatch.owner(weight, "weight")
    shape = tuple(backend.describe(backend.unwrap(weight))[0])
    hashable = {k: _hashable(v) for k, v in given.items()}
    return _cached_spec(shape, transposed, tuple(hashable.items()))


def _hashable(value: Any) -> Any:
    return tuple(map(_hashable, value)) if isinstance(value, list) else value


@lru_cache(maxsize=1024)
def _cached_spec(
    shape: tuple[int, ...], transposed: bool, given: tuple[tuple[str, Any], ...]
) -> ConvSpec:
    arguments = dict(given)
    groups = arguments["groups"]
    layout = arguments["weight_layout"]
    if layout is None:
        letters = default_spatial(max(len(shape) - 2, 1))
        for name in ("layout", "output_layout"):
            if arguments[name] not in (None, *FORMATS):
                letters = spatial_letters(check_data_layout(name, arguments[name]))
                break
        layout = default_weight_layout(transposed, letters)
    check_weight_layout("weight_layout", layout)
    if len(shape) != len(layout):
        raise LayoutError(
            f"weight: has {len(shape)} axes, but weight_layout {layout!r} names {len(layout)}.\n"
            f"  weight: shape {shape}"
        )
    sizes = dict(zip(layout, shape, strict=True))
    axis = arguments["group_axis"] or ("I" if transposed or "M" in layout else "O")
    out_axis = "M" if "M" in layout else "O"
    letters = spatial_letters(layout)
    for name in ("layout", "output_layout"):  # tuples follow the data's order
        if arguments[name] not in (None, *FORMATS):
            data = spatial_letters(check_data_layout(name, arguments[name]))
            # Where they disagree, the constructor says so.
            letters = data if set(data) == set(letters) else letters
            break
    arguments.update(
        in_channels=sizes["I"] * (groups if axis == "O" else 1),
        out_channels=sizes[out_axis] * (groups if axis == "I" else 1),
        kernel_size=tuple(sizes[letter] for letter in letters),
        weight_layout=layout,
        transposed=transposed,
    )
    return ConvSpec(**arguments)
