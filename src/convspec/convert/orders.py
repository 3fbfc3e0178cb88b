"""Weights between conventions: the order of a kernel by name or by letters.

An order is a convention (``torch``, ``keras``, ``tflite``, ...) or a weight layout (``OIHW``,
``HWIM``, ``1HWO``). TFLite's are those of its schema: Conv2D and TransposeConv have OHWI,
DepthwiseConv2D has 1HWO, whose last axis counts input channels times multiplier.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..arguments import integer, shown
from ..conventions import CONVENTIONS, Convention
from ..errors import LayoutError, ShapeError
from ..functional import spec_of_shape
from ..layouts import check_weight_layout, default_spatial, spatial_letters, standard_order
from ..spec import ConvSpec

#: What a kernel may be. ``depthwise`` is a forward one with a group for each input channel, which
#: some frameworks keep in an order of its own.
KINDS = ("conv", "conv_transpose", "depthwise")

_TFLITE = Convention("tflite", "N*C", "O*I", "O*I", transposed_group_axis="O")
#: The conventions that the converter knows. Flax Linen's arrays are NNX's; its files wrap them in
#: collections (``params``, ``batch_stats``).
KNOWN = {
    **CONVENTIONS,
    "linen": replace(CONVENTIONS["flax"], name="linen"),
    "tflite": _TFLITE,
}

#: Depthwise kernels with an order of their own: tf.nn.depthwise_conv2d, keras.layers.
#: DepthwiseConv2D, TFLite's DepthwiseConv2D. The others keep them like grouped ones.
DEPTHWISE = {"tensorflow": "*IM", "keras": "*IM", "tflite": "I*O"}


@dataclass(frozen=True)
class Order:
    """How a kernel lies in memory, before its rank is known.

    Attributes:
        name: a convention's name, or a weight layout. A leading ``1`` as in ``1HWO`` stands for I
            of a depthwise kernel.
        flip: whether the spatial axes are stored reversed; None for the convention's habit.
        group_axis: the axis that spans all groups, O or I; None for the convention's habit.
    """

    name: str
    flip: bool | None = None
    group_axis: str | None = None

    def arguments(self, kind: str, letters: str) -> dict[str, Any]:
        """Layouts, flip and group axis, as arguments of :class:`ConvSpec`."""
        found = _of_convention if self.name in KNOWN else _of_letters
        given = found(self.name, kind, letters)
        if self.flip is not None:
            given["flip_kernel"] = self.flip
        if self.group_axis is not None:
            given["group_axis"] = self.group_axis
        return given

    def letters(self, rank: int) -> str:
        """The spatial letters of a kernel of this order.

        Raises:
            LayoutError: the layout has another rank.
        """
        if self.name in KNOWN:
            return default_spatial(rank)
        letters = spatial_letters(_spelled(self.name))
        if len(letters) != rank:
            raise LayoutError(
                f"order: {self.name!r} names {len(letters) + 2} axes, but the weight has "
                f"{rank + 2}."
            )
        return letters


def _of_convention(name: str, kind: str, letters: str) -> dict[str, Any]:
    convention = KNOWN[name]
    given: dict[str, Any] = {"layout": convention.data.replace("*", letters)}
    if kind == "depthwise" and name in DEPTHWISE:
        given["weight_layout"] = DEPTHWISE[name].replace("*", letters)
    elif kind == "conv_transpose":
        given["weight_layout"] = convention.transposed_weight.replace("*", letters)
        given["flip_kernel"] = convention.transposed_flip
        given["group_axis"] = convention.transposed_group_axis
    else:
        given["weight_layout"] = convention.weight.replace("*", letters)
    return given


def _of_letters(name: str, kind: str, letters: str) -> dict[str, Any]:
    layout = _spelled(name)
    if name[0] == "1" and kind != "depthwise":
        raise LayoutError(
            f"order: {name!r} is a depthwise kernel; say so with kind='depthwise' (--depthwise)."
        )
    return {"layout": f"NC{letters}", "weight_layout": layout}


def _spelled(name: object) -> str:
    """A weight layout in this library's letters: ``1HWO`` is ``IHWO``."""
    if isinstance(name, str) and not name.isupper() and name.isalpha():
        known = ", ".join(KNOWN)
        raise LayoutError(
            f"order: {shown(name)} is neither a convention ({known}) nor a weight layout "
            f"such as 'OIHW'."
        )
    if isinstance(name, str) and name.startswith("1") and "I" not in name:
        name = "I" + name[1:]
    return check_weight_layout("order", name)


def as_order(order: str | Order) -> Order:
    """An order given as itself, or by its name or letters."""
    return order if isinstance(order, Order) else Order(order)


def weight_spec(
    shape: Sequence[int],
    order: str | Order,
    *,
    kind: str = "conv",
    groups: int | None = None,
    **given: Any,
) -> ConvSpec:
    """The convolution whose weight has a shape, in an order.

    Args:
        shape: of the weight.
        order: a convention's name, a weight layout, or an :class:`Order`.
        kind: ``"conv"``, ``"conv_transpose"`` or ``"depthwise"``.
        groups: default 1; of a depthwise kernel, what its shape tells.
        given: further arguments of :class:`ConvSpec`, such as ``stride``.

    Raises:
        LayoutError: the order is none, or has another number of axes.
        ShapeError: the shape does not fit.

    >>> weight_spec((3, 3, 8, 2), "keras", kind="depthwise").out_channels
    16
    """
    _check_kind(kind)
    order = as_order(order)
    if len(shape) < 3:
        raise ShapeError(
            f"weight: a kernel has at least 3 axes, got shape {tuple(shape)}; not a matrix."
        )
    named = order.arguments(kind, order.letters(len(shape) - 2))
    if kind == "depthwise" or "M" in named["weight_layout"]:
        groups = _depthwise_groups(tuple(shape), named, groups)
    elif groups is None:
        groups = 1
    items = {"output_layout": None, "group_axis": None, **named, **given, "groups": groups}
    return spec_of_shape(tuple(shape), kind == "conv_transpose", tuple(items.items()))


def _depthwise_groups(shape: tuple[int, ...], named: dict[str, Any], groups: int | None) -> int:
    sizes = dict(zip(named["weight_layout"], shape, strict=True))
    told: int
    on_input = "M" in named["weight_layout"] or named.get("group_axis") == "I"
    if on_input:
        told = sizes["I"]
    elif sizes["I"] != 1:
        raise ShapeError(
            f"weight: a depthwise kernel in {named['weight_layout']!r} has 1 input channel a "
            f"group, but I={sizes['I']} in shape {shape}."
        )
    else:
        told = sizes["O"] if groups is None else groups
    if groups is not None and integer("groups", groups, minimum=1) != told:
        raise ShapeError(
            f"groups: a depthwise kernel of shape {shape} in {named['weight_layout']!r} has "
            f"{told} groups, got {groups}."
        )
    return told


def in_order(spec: ConvSpec, order: str | Order, kind: str) -> ConvSpec:
    """The same convolution in another order; ``kind`` as in :func:`weight_spec`.

    Raises:
        LayoutError: the order is none, or does not fit the spec.
    """
    order = as_order(order)
    known = order.name in KNOWN
    letters = standard_order(spec.spatial) if known else order.letters(spec.rank)
    named = order.arguments(kind, letters)
    if not known:  # letters say nothing of data
        named["layout"] = spec.layout
    named.setdefault("flip_kernel", False)
    named.setdefault("group_axis", None)
    if named["group_axis"] is None and "M" not in named["weight_layout"]:
        named["group_axis"] = "I" if spec.transposed else "O"
    return spec.replace(output_layout=None, **named)


def kind_of(spec: ConvSpec) -> str:
    """Which of :data:`KINDS` a spec is, as far as frameworks keep kernels apart by it."""
    if spec.transposed:
        return "conv_transpose"
    return "depthwise" if "M" in spec.weight_layout else "conv"


def convert_weight(
    weight: Any,
    source: str | Order,
    target: str | Order,
    *,
    kind: str = "conv",
    groups: int | None = None,
) -> Any:
    """A kernel in another order; a view where the framework of the array can.

    Args:
        weight: array of any framework, in the order ``source``.
        source: a convention's name, a weight layout, or an :class:`Order`.
        target: likewise.
        kind: ``"conv"``, ``"conv_transpose"`` or ``"depthwise"``.
        groups: default 1; of a depthwise kernel, what its shape tells. Where the shape cannot, as
            in ``1HWO``, one group for each output channel.

    Raises:
        LayoutError: an order is none, or has another number of axes.
        ShapeError: the shape does not fit.
    """
    spec = weight_spec(tuple(weight.shape), source, kind=kind, groups=groups)
    return spec.convert_weight(weight, in_order(spec, target, kind))


def _check_kind(kind: object) -> None:
    if kind not in KINDS:
        raise LayoutError(f"kind: {shown(kind)} is none of {', '.join(KINDS)}.")
