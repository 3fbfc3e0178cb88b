"""Weight orders: shapes, and the steps from one order to another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

from .errors import LayoutError, ShapeError
from .layouts import permutation, reorder

if TYPE_CHECKING:
    from .problem import Problem
    from .spec import ConvSpec


@dataclass(frozen=True)
class WeightOrder:
    """Everything that decides how a weight lies in memory.

    Attributes:
        layout: axis letters, M read as O.
        group_axis: the axis, O or I, that spans all groups.
        flip: whether the spatial axes are stored reversed.
    """

    layout: str
    group_axis: str
    flip: bool

    @classmethod
    def of(cls, spec: ConvSpec | Problem) -> WeightOrder:
        return cls(spec.weight_layout.replace("M", "O"), spec.group_axis, spec.flip_kernel)


def shape(spec: ConvSpec) -> tuple[int, ...]:
    """Shape of the weight of a spec, in its ``weight_layout``."""
    order = WeightOrder.of(spec)
    sizes = dict(zip(spec.spatial, spec.kernel_size, strict=True))
    sizes["O"] = spec.out_channels // (spec.groups if order.group_axis == "I" else 1)
    sizes["I"] = spec.in_channels // (spec.groups if order.group_axis == "O" else 1)
    return tuple(sizes[letter] for letter in order.layout)


def rearrange(
    weight: Any,
    shape: tuple[int, ...],
    source: WeightOrder,
    target: WeightOrder,
    groups: int,
    *,
    permute: Callable[[Any, tuple[int, ...]], Any],
    reshape: Callable[[Any, tuple[int, ...]], Any],
    flip: Callable[[Any, tuple[int, ...]], Any],
) -> Any:
    """A weight in another order, by the three operations handed over.

    Where the axis that spans the groups changes, it is split into (group, rest), the group moves
    over to the other axis, and the two merge there: group-major on both sides.
    """
    if source.flip != target.flip:
        axes = [i for i, c in enumerate(source.layout) if c not in "OI" and shape[i] > 1]
        if axes:
            weight = flip(weight, tuple(axes))
    if groups == 1 or source.group_axis == target.group_axis:
        axes = list(permutation(source.layout, target.layout))
        return weight if axes == sorted(axes) else permute(weight, tuple(axes))
    at = source.layout.index(source.group_axis)
    sizes = (*shape[:at], groups, shape[at] // groups, *shape[at + 1 :])
    order = _places(source.layout, at, target.layout, target.group_axis)
    weight = reshape(weight, sizes)
    if list(order) != sorted(order):
        weight = permute(weight, order)
    by_place = [sizes[i] for i in order]
    at = target.layout.index(target.group_axis)
    return reshape(weight, (*by_place[:at], by_place[at] * by_place[at + 1], *by_place[at + 2 :]))


def _places(source: str, at: int, target: str, group_axis: str) -> tuple[int, ...]:
    """Axes of the split source (group inserted at ``at``) in the order of the split target."""
    place = {letter: i + (i >= at) for i, letter in enumerate(source)}
    order = []
    for letter in target:
        if letter == group_axis:
            order.append(at)
        order.append(place[letter])
    return tuple(order)


def check_same(source: ConvSpec, target: ConvSpec) -> None:
    """Two specs whose weights can be converted into each other.

    Raises:
        LayoutError: other spatial letters.
        ShapeError: other channels, groups, direction or kernel.
    """
    letters = source.spatial
    if set(letters) != set(target.spatial):
        raise LayoutError(
            f"to: has the spatial axes {target.spatial!r}, but this spec has {letters!r}."
        )
    kernel = reorder(target.kernel_size, target.spatial, letters)
    pairs = {
        "transposed": (source.transposed, target.transposed),
        "in_channels": (source.in_channels, target.in_channels),
        "out_channels": (source.out_channels, target.out_channels),
        "groups": (source.groups, target.groups),
        f"kernel_size ({letters})": (source.kernel_size, kernel),
    }
    for name, (ours, theirs) in pairs.items():
        if ours != theirs:
            raise ShapeError(
                f"to: has {name} {theirs}, but this spec has {ours}; a weight can only go to "
                f"another order of the same convolution."
            )


def fits(given: tuple[Any, ...], expected: tuple[int, ...]) -> bool:
    """Whether an array has this shape."""
    return tuple(given) == expected


def check_shape(name: str, given: tuple[Any, ...], spec: ConvSpec) -> None:
    """``given`` is the weight's shape.

    Raises:
        ShapeError: it is not; the message names the axes.
    """
    expected = spec.weight_shape
    if fits(given, expected):
        return
    if len(given) != len(expected):
        detail = (
            f"has {len(given)} axes, but weight_layout {spec.weight_layout!r} names {len(expected)}"
        )
    else:
        sizes = zip(spec.weight_layout, given, expected, strict=True)
        wrong = [letter for letter, a, b in sizes if a != b]
        detail = f"has another size than expected on axis {', '.join(wrong)}"
    hint = ""
    if all(type(n) is int for n in given) and prod(given) == prod(expected):
        hint = "\n  The number of elements fits: is the array in another order than weight_layout?"
    raise ShapeError(
        f"{name}: {detail}.\n  given {given}, expected {expected} for {spec.weight_layout!r}"
        f" (groups={spec.groups}, group_axis={spec.group_axis!r}){hint}"
    )


def check_bias(given: tuple[Any, ...], spec: ConvSpec) -> None:
    """``given`` is the shape of a bias, and the spec has one.

    Raises:
        ShapeError: it is not, or ``bias`` is False.
    """
    if not spec.bias:
        raise ShapeError(
            "bias: the spec says bias=False, but the call has one; drop it, or use "
            "spec.replace(bias=True)."
        )
    if not fits(given, spec.bias_shape):
        raise ShapeError(
            f"bias: has shape {given}, expected {spec.bias_shape}: one per output channel."
        )
