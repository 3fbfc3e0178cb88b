"""From the constructor's arguments to canonical fields, and from those to changed ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .arguments import (
    NAMED,
    PADDING_MODES,
    entries,
    flag,
    integer,
    one_of,
    padding_entries,
    per_axis,
)
from .conventions import Convention
from .errors import ConvSpecError, LayoutError, ShapeError, UnsupportedError
from .geometry import extent
from .layouts import (
    check_data_layout,
    check_weight_layout,
    default_spatial,
    is_format,
    reorder,
    spatial_letters,
    standard_order,
)

if TYPE_CHECKING:
    from .spec import ConvSpec

#: Arguments with one entry per spatial axis.
PER_AXIS = ("kernel_size", "stride", "padding", "dilation", "output_padding")


def fields(**given: Any) -> dict[str, Any]:
    """Checked, canonical fields of a spec, from the constructor's arguments by name."""
    in_channels = integer("in_channels", given["in_channels"], minimum=1)
    out_channels = integer("out_channels", given["out_channels"], minimum=1)
    groups = integer("groups", given["groups"], minimum=1)
    for name, channels in (("in_channels", in_channels), ("out_channels", out_channels)):
        if channels % groups:
            raise ShapeError(f"{name}: {channels} channels do not divide into {groups} groups.")
    transposed = flag("transposed", given["transposed"])

    named = layouts(given, transposed)
    letters = spatial_letters(named["layout"])
    rank = len(letters)
    group_axis = _group_axis(given, named["weight_layout"], in_channels, groups, transposed)

    kernel_size = per_axis("kernel_size", given["kernel_size"], rank, letters, minimum=1)
    stride = per_axis("stride", given["stride"], rank, letters, minimum=1)
    dilation = per_axis("dilation", given["dilation"], rank, letters, minimum=1)
    extents = [extent(k, d) for k, d in zip(kernel_size, dilation, strict=True)]
    padding = padding_entries(given["padding"], rank, letters, extents, transposed)
    output_padding = per_axis("output_padding", given["output_padding"], rank, letters, minimum=0)
    padding_mode = one_of("padding_mode", given["padding_mode"], PADDING_MODES)
    if transposed and padding_mode != "zeros":
        raise UnsupportedError(
            f"padding_mode: a transposed convolution has only zero padding, got {padding_mode!r}."
        )
    for i, extra in enumerate(output_padding):
        _check_output_padding(
            f"output_padding[{i}] (axis {letters[i]})",
            extra,
            transposed,
            max(stride[i], dilation[i]),
            padding[i] in NAMED,
        )
    return {
        "in_channels": in_channels,
        "out_channels": out_channels,
        "kernel_size": kernel_size,
        "stride": stride,
        "padding": padding,
        "dilation": dilation,
        "groups": groups,
        "bias": flag("bias", given["bias"]),
        "padding_mode": padding_mode,
        "transposed": transposed,
        "output_padding": output_padding,
        **named,
        "flip_kernel": flag("flip_kernel", given["flip_kernel"]),
        "group_axis": group_axis,
    }


def _check_output_padding(name: str, extra: int, transposed: bool, limit: int, named: bool) -> None:
    if not extra:
        return
    if not transposed:
        raise ShapeError(f"{name}: a forward convolution has none, got {extra}; leave it at 0.")
    if named:
        raise ShapeError(
            f"{name}: named padding sets the output size itself, got {extra}.\n"
            f"  Leave it at 0 and pass output_size= with the call."
        )
    if extra >= limit:
        raise ShapeError(f"{name}: must be below max(stride, dilation) = {limit}, got {extra}.")


def layouts(given: Mapping[str, Any], transposed: bool) -> dict[str, str]:
    """``layout``, ``output_layout`` and ``weight_layout``, spelled out and in agreement."""
    data = {
        name: given[name] if is_format(given[name]) else check_data_layout(name, given[name])
        for name in ("layout", "output_layout")
    }
    weight = given["weight_layout"]
    if weight is not None:
        weight = check_weight_layout("weight_layout", weight)
    spelled = [
        text for text in (data["layout"], data["output_layout"], weight) if not is_format(text)
    ]
    letters = (
        standard_order(spatial_letters(spelled[0])) if spelled else default_spatial(_rank(given))
    )
    batch = "N"
    if is_format(data["layout"]) and not is_format(data["output_layout"]):
        batch = "N" if "N" in data["output_layout"] else ""

    layout = _spell(data["layout"] or "channels_first", letters, batch)
    batch = "N" if "N" in layout else ""
    output_layout = _spell(data["output_layout"] or layout, spatial_letters(layout), batch)
    weight_layout = weight or default_weight_layout(transposed, spatial_letters(layout))

    if ("N" in output_layout) != ("N" in layout):
        raise LayoutError(
            f"output_layout: {output_layout!r} must have a batch axis N exactly when layout "
            f"{layout!r} has one."
        )
    for name, text in (("output_layout", output_layout), ("weight_layout", weight_layout)):
        if set(spatial_letters(text)) != set(letters):
            raise LayoutError(
                f"{name}: {text!r} has the spatial axes {spatial_letters(text)!r}, but "
                f"layout {layout!r} has {spatial_letters(layout)!r}."
            )
    return {"layout": layout, "output_layout": output_layout, "weight_layout": weight_layout}


def default_weight_layout(transposed: bool, letters: str) -> str:
    """PyTorch's: ``OI...``, and ``IO...`` when transposed."""
    return ("IO" if transposed else "OI") + letters


def _spell(text: str, letters: str, batch: str) -> str:
    if text == "channels_first":
        return f"{batch}C{letters}"
    if text == "channels_last":
        return f"{batch}{letters}C"
    return text


def _rank(given: Mapping[str, Any]) -> int:
    """The rank that any per-axis argument tells."""
    for name in PER_AXIS:
        values = entries(name, given[name])
        if values is not None:
            if not values:
                raise ShapeError(f"{name}: is empty; give one entry per spatial axis.")
            return len(values)
    raise LayoutError(
        "layout: nothing tells the number of spatial axes, since every size is a scalar.\n"
        "  Pass layout='NCHW' (or another), or one tuple such as kernel_size=(3, 3)."
    )


def _group_axis(
    given: Mapping[str, Any], weight_layout: str, in_channels: int, groups: int, transposed: bool
) -> str:
    """Which weight axis spans all groups: O, or I; always I beside a depthwise M."""
    axis = given["group_axis"]
    if axis is not None:
        one_of("group_axis", axis, ("O", "I"))
    if "M" not in weight_layout:
        return axis or ("I" if transposed else "O")
    if transposed:
        raise LayoutError(
            f"weight_layout: 'M' in {weight_layout!r} is for forward convolutions; a transposed "
            f"weight has 'O'."
        )
    if groups != in_channels:
        raise LayoutError(
            f"weight_layout: 'M' in {weight_layout!r} is a depthwise multiplier and needs "
            f"groups == in_channels, got groups={groups} and in_channels={in_channels}."
        )
    if axis == "O":
        raise LayoutError(
            f"group_axis: in the depthwise weight {weight_layout!r} the axis I spans all groups; "
            f"leave group_axis out."
        )
    return "I"


def replaced(spec: ConvSpec, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Constructor arguments of ``spec`` with ``changes``; defaults and axes follow."""
    names = tuple(type(spec).__dataclass_fields__)
    for name in changes:
        if name not in names:
            raise ConvSpecError(f"replace: {name!r} is no argument of ConvSpec.")
    arguments = {name: getattr(spec, name) for name in names}
    if "layout" in changes:
        _follow_layout(spec, arguments, changes["layout"])
    if "transposed" in changes or "weight_layout" in changes:
        plain = default_weight_layout(spec.transposed, spec.spatial)
        if spec.weight_layout == plain:
            arguments["weight_layout"] = None
        if spec.group_axis == ("I" if spec.transposed else "O") or "M" in spec.weight_layout:
            arguments["group_axis"] = None
    return {**arguments, **changes, "layout": arguments["layout"]}


def _follow_layout(spec: ConvSpec, arguments: dict[str, Any], layout: Any) -> None:
    """Let the output layout, the weight's letters and the order of the tuples follow ``layout``."""
    if spec.output_layout == spec.layout:
        arguments["output_layout"] = None
    if is_format(layout):
        batch = "N" if "N" in spec.layout else ""
        arguments["layout"] = _spell(layout or "channels_first", spec.spatial, batch)
        return
    arguments["layout"] = layout
    letters = spatial_letters(check_data_layout("layout", layout))
    if set(letters) == set(spec.spatial):
        for name in PER_AXIS:
            arguments[name] = reorder(arguments[name], spec.spatial, letters)
    elif len(letters) == spec.rank:  # renamed axes: the same places under other letters
        rename = dict(zip(spec.spatial, letters, strict=True))
        for name in ("output_layout", "weight_layout"):
            if arguments[name] is not None:
                arguments[name] = "".join(rename.get(c, c) for c in arguments[name])


def convention_changes(spec: ConvSpec, convention: Convention) -> dict[str, Any]:
    """What :meth:`ConvSpec.replace` has to change for a convention's orders.

    Standard letters come in the order D, H, W that frameworks use; others keep their order.
    """
    letters = standard_order(spec.spatial)
    data = convention.data.replace("*", letters)
    if "N" not in spec.layout:
        data = data.replace("N", "")
    weight = convention.transposed_weight if spec.transposed else convention.weight
    return {
        "layout": data,
        "output_layout": data,
        "weight_layout": weight.replace("*", letters),
        "flip_kernel": spec.transposed and convention.transposed_flip,
        "group_axis": convention.transposed_group_axis if spec.transposed else "O",
    }
