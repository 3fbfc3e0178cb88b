"""Specs as text and as JSON-ready values."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .arguments import shown
from .canonical import default_weight_layout
from .errors import ConvSpecError

if TYPE_CHECKING:
    from .spec import ConvSpec

#: A newer minor version adds keys, which older readers refuse one by one; a newer major version
#: changes what keys mean, and is refused as a whole.
FORMAT_VERSION = "1.0"


def to_repr(spec: ConvSpec) -> str:
    """A constructor call that gives an equal spec; what is at its default is left out."""
    r = spec.rank
    plain = default_weight_layout(spec.transposed, spec.spatial)
    axis = "I" if spec.transposed or "M" in spec.weight_layout else "O"
    parts = [f"{spec.in_channels}, {spec.out_channels}, {spec.kernel_size}"]
    defaults = {
        "stride": (1,) * r,
        "padding": ((0, 0),) * r,
        "dilation": (1,) * r,
        "groups": 1,
        "bias": True,
        "padding_mode": "zeros",
        "transposed": False,
        "output_padding": (0,) * r,
        "layout": None,
        "output_layout": spec.layout,
        "weight_layout": plain,
        "flip_kernel": False,
        "group_axis": axis,
    }
    for name, default in defaults.items():
        if getattr(spec, name) != default:
            parts.append(f"{name}={getattr(spec, name)!r}")
    return f"ConvSpec({', '.join(parts)})"


def to_dict(spec: ConvSpec) -> dict[str, Any]:
    """All fields, tuples as lists, and the format version."""
    values = {name: _listed(getattr(spec, name)) for name in type(spec).__dataclass_fields__}
    return {"format_version": FORMAT_VERSION, **values}


def arguments(values: Mapping[str, Any]) -> dict[str, Any]:
    """Constructor arguments out of what :func:`to_dict` gave, checked.

    Raises:
        ConvSpecError: no mapping, no or a newer version, unknown or missing keys.
    """
    from .spec import ConvSpec

    if not isinstance(values, Mapping):
        raise ConvSpecError(f"from_dict: expected a mapping, got {type(values).__name__}.")
    version = values.get("format_version")
    if not isinstance(version, str) or not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})*", version):
        raise ConvSpecError(
            f"from_dict: 'format_version' should be like {FORMAT_VERSION!r}, got {shown(version)}."
        )
    if int(version.split(".")[0]) > int(FORMAT_VERSION.split(".")[0]):
        raise ConvSpecError(
            f"from_dict: format version {version} is newer than {FORMAT_VERSION}; update convspec."
        )
    names = set(ConvSpec.__dataclass_fields__)
    unknown = sorted(map(str, set(values) - names - {"format_version"}))
    if unknown:
        raise ConvSpecError(f"from_dict: unknown keys {', '.join(unknown)}.")
    missing = sorted({"in_channels", "out_channels", "kernel_size"} - set(values))
    if missing:
        raise ConvSpecError(f"from_dict: missing keys {', '.join(missing)}.")
    return {key: _tupled(value) for key, value in values.items() if key != "format_version"}


def _listed(value: Any) -> Any:
    return [_listed(item) for item in value] if isinstance(value, tuple) else value


def _tupled(value: Any) -> Any:
    return tuple(_tupled(item) for item in value) if isinstance(value, list) else value
