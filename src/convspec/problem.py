"""A spec resolved against shapes: explicit amounts and sizes, all that a backend needs to know."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import TYPE_CHECKING, Any

from . import geometry
from .arguments import LARGEST_COUNT, LARGEST_SIZE, check_length, entries, integer, shown
from .errors import LayoutError, ShapeError, UnsupportedError
from .geometry import Pair
from .layouts import reorder, sized
from .symbols import Size, Symbol, known

if TYPE_CHECKING:
    from .spec import ConvSpec

Sizes = tuple[Size, ...]


@dataclass(frozen=True)
class Condition:
    """``small <= large``, which has to hold but cannot be told of symbolic sizes.

    A backend whose graphs learn the sizes when they run holds them to it there.
    """

    small: Size
    large: Size
    message: str


@dataclass(frozen=True)
class Problem:
    """One convolution with every size and amount spelled out.

    Per-axis tuples follow ``spatial``, the order of the spatial letters in ``layout``.

    Attributes:
        padding: forward, zeros (or what ``padding_mode`` reads) added at both ends, negative
            amounts crop. Transposed, positions cropped from both ends of the full output
            (n-1)*s + e, negative amounts add zeros.
        output_padding: transposed only: positions given back at the end, so that
            out = (n-1)*s + e - lo - hi + output_padding.
        kernel_size, stride, dilation, groups, padding_mode, flip_kernel, group_axis,
            transposed, in_channels, out_channels: as in the spec.
        batch: the size of N, 1 where ``layout`` has none.
        input_size, output_size: spatial sizes.
        input_shape, weight_shape, output_shape: in ``layout``, ``weight_layout``,
            ``output_layout``.
        conditions: what symbolic sizes still have to satisfy; empty for plain ones.
    """

    transposed: bool
    in_channels: int
    out_channels: int
    groups: int
    kernel_size: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[Pair, ...]
    dilation: tuple[int, ...]
    output_padding: Sizes
    padding_mode: str
    flip_kernel: bool
    group_axis: str
    layout: str
    output_layout: str
    weight_layout: str
    batch: Size
    input_size: Sizes
    output_size: Sizes
    input_shape: Sizes
    weight_shape: tuple[int, ...]
    output_shape: Sizes
    conditions: tuple[Condition, ...] = ()

    @property
    def rank(self) -> int:
        """Number of spatial axes."""
        return len(self.kernel_size)

    @property
    def spatial(self) -> str:
        """The spatial letters, in the order of every per-axis tuple."""
        return "".join(letter for letter in self.layout if letter not in "NC")


def resolve(spec: ConvSpec, input_shape: Any, output_size: Any) -> Problem:
    """The problem of ``spec`` on an input of ``input_shape`` (in ``layout``), cached.

    Raises:
        LayoutError: the number of axes is not that of ``layout``.
        ShapeError: sizes that do not fit the spec, or that give an output below 1.
    """
    wanted = wanted_size(spec, output_size)
    return _resolve_plain(spec, _plain_shape(spec, input_shape), wanted)


def _plain_shape(spec: ConvSpec, input_shape: Any) -> tuple[int, ...]:
    """``input_shape`` as plain integers; whether they fit is another question."""
    sizes = entries("input_shape", input_shape)
    if sizes is None:
        raise ShapeError(
            f"input_shape: expected one size for each letter of layout {spec.layout!r}, got "
            f"{shown(input_shape)}."
        )
    return tuple(
        size if type(size) is int else integer(f"input_shape[{i}]", size, maximum=LARGEST_SIZE)
        for i, size in enumerate(sizes)
    )


def wanted_size(
    spec: ConvSpec, output_size: Any, *, symbolic: bool = False
) -> tuple[Any, ...] | None:
    """``output_size`` as one size for each spatial axis, or None where it was not given.

    Where the input's sizes are ``symbolic``, a framework's own may be among them.

    Raises:
        ShapeError: a forward spec, one with ``output_padding``, a wrong length, or no integers.
    """
    if output_size is None:
        return None
    if not spec.transposed:
        raise ShapeError(
            f"output_size: only a transposed convolution takes one, got {shown(output_size)}."
        )
    if any(spec.output_padding):
        raise ShapeError(
            f"output_size: cannot be combined with output_padding={spec.output_padding}; "
            f"give one of them."
        )
    values = entries("output_size", output_size)
    if values is None:
        values = [output_size] * spec.rank
    check_length("output_size", values, spec.rank, spec.spatial)
    return tuple(
        value
        if symbolic and type(value).__module__ not in ("builtins", "numpy")
        else integer(f"output_size[{i}] (axis {spec.spatial[i]})", value, maximum=LARGEST_SIZE)
        for i, value in enumerate(values)
    )


def resolve_sizes(spec: ConvSpec, input_shape: Sizes, wanted: Sizes | None) -> Problem:
    """:func:`resolve`, not cached, of sizes that may be symbolic and :func:`wanted_size`'s result.

    What symbolic sizes hide is left to the problem's ``conditions``.
    """
    _check_input(spec, input_shape)
    sizes: Sizes = reorder(input_shape, spec.layout, spec.spatial)
    if spec.transposed:
        amounts = _transposed_amounts(spec, sizes, wanted or (None,) * spec.rank)
    else:
        amounts = _forward_amounts(spec, sizes)
    padding, output_padding, out, conditions = amounts
    named: dict[str, Size] = dict(zip(spec.spatial, out, strict=True))
    batch = input_shape[spec.layout.index("N")] if "N" in spec.layout else 1
    _check_count(spec, batch, sizes, padding, out)
    named.update(N=batch, C=spec.out_channels)
    return Problem(
        transposed=spec.transposed,
        in_channels=spec.in_channels,
        out_channels=spec.out_channels,
        groups=spec.groups,
        kernel_size=spec.kernel_size,
        stride=spec.stride,
        padding=padding,
        dilation=spec.dilation,
        output_padding=output_padding,
        padding_mode=spec.padding_mode,
        flip_kernel=spec.flip_kernel,
        group_axis=spec.group_axis,
        layout=spec.layout,
        output_layout=spec.output_layout,
        weight_layout=spec.weight_layout,
        batch=batch,
        input_size=sizes,
        output_size=out,
        input_shape=input_shape,
        weight_shape=spec.weight_shape,
        output_shape=tuple(named[letter] for letter in spec.output_layout),
        conditions=_simplest(conditions),
    )


def _simplest(conditions: Sequence[Condition]) -> tuple[Condition, ...]:
    """Those of symbolic sizes, each once, with as little left to compute as there can be."""
    found = []
    for condition in conditions:
        small, large = condition.small, condition.large
        if isinstance(large, Symbol) and known(small):
            large, number = large.terms
            small -= number
            large, factor = large.factors
            small = -(-small // factor)
        if not known(small, large):
            found.append(Condition(small, large, condition.message))
    return tuple(dict.fromkeys(found))


_resolve_plain = lru_cache(maxsize=4096)(resolve_sizes)


def _check_count(
    spec: ConvSpec, batch: Size, sizes: Sizes, padding: tuple[Pair, ...], out: Sizes
) -> None:
    """Neither the padded input nor the output has more elements than memory has addresses.

    Frameworks wrap around or abort on such sizes.
    """
    padded = [n + lo + hi for n, (lo, hi) in zip(sizes, padding, strict=True)]
    arrays = {"output": (spec.out_channels, *out)}
    if not spec.transposed:
        arrays["padded input"] = (spec.in_channels, *padded)
    for name, shape in arrays.items():
        if all(type(size) is int for size in (batch, *shape)):
            count = max(batch, 1) * prod(shape)
            if count > LARGEST_COUNT:
                raise ShapeError(
                    f"input_shape: the {name} would have {count} elements, but no machine "
                    f"addresses more than {LARGEST_COUNT}.\n  Its spatial axes "
                    f"({spec.spatial}) would be {shape[1:]}; pad less, or use a smaller input."
                )


def _check_input(spec: ConvSpec, shape: Sizes) -> None:
    if len(shape) != len(spec.layout):
        raise LayoutError(
            f"x: has {len(shape)} axes, but layout {spec.layout!r} names {len(spec.layout)}.\n"
            f"  x: shape {shown(shape)}"
        )
    for letter, size in zip(spec.layout, shape, strict=True):
        if letter == "C" and size != spec.in_channels:
            raise ShapeError(
                f"x: has {shown(size)} channels on axis {spec.layout.index('C')} (C), but the spec "
                f"has in_channels={spec.in_channels}.\n  x: {sized(spec.layout, shape)}\n"
                f"  Groups are never inferred; check layout={spec.layout!r} or pass groups=."
            )
        if known(size) and size < (0 if letter == "N" else 1):
            raise ShapeError(
                f"x: axis {letter} has size {shown(size)}; only the batch may be empty.\n"
                f"  x: {sized(spec.layout, shape)}"
            )


def _forward_amounts(
    spec: ConvSpec, sizes: Sizes
) -> tuple[tuple[Pair, ...], Sizes, Sizes, list[Condition]]:
    pads: list[Pair] = []
    out: list[Size] = []
    conditions: list[Condition] = []
    for i, n in enumerate(sizes):
        letter, e, s = spec.spatial[i], spec.receptive_field[i], spec.stride[i]
        entry = spec.padding[i]
        named = isinstance(entry, str)
        if isinstance(entry, str):
            lower = entry == "same_lower"
            entry = geometry.same_padding(n, e, s, lower=lower)
        conditions += _reach(spec.padding_mode, letter, n, entry)
        padded = n + entry[0] + entry[1]
        least = (1, n) if named else (e, padded)
        conditions.append(Condition(*least, f"x: no output position is left on axis {letter}"))
        if known(padded) and padded < e:
            raise ShapeError(
                f"kernel_size: on axis {letter} the kernel spans {e} positions (size "
                f"{spec.kernel_size[i]}, dilation {spec.dilation[i]}), but the padded input has "
                f"{padded}.\n  {n} + {entry[0]} + {entry[1]} = {padded}; pad more, or shrink the "
                f"kernel."
            )
        pads.append(entry)
        out.append(geometry.same_size(n, s) if named else geometry.forward_size(n, e, s, entry))
    return tuple(pads), (0,) * spec.rank, tuple(out), conditions


def _reach(mode: str, letter: str, n: Size, pair: Pair) -> list[Condition]:
    """Reflect reads up to n-1 positions beyond the edge, circular one whole turn."""
    if mode in ("zeros", "replicate"):
        return []
    limit = n - 1 if mode == "reflect" else n
    if not known(n, *pair):
        message = f"padding: {mode} on axis {letter} reaches beyond the other end"
        return [Condition(amount, limit, message) for amount in pair]
    if max(pair) > limit:
        raise ShapeError(
            f"padding: {mode!r} on axis {letter} (size {n}) reaches at most {limit} positions, "
            f"got {pair}.\n  Pad less, or use padding_mode='replicate' or 'zeros'."
        )
    return []


def _transposed_amounts(
    spec: ConvSpec, sizes: Sizes, wanted: tuple[Any, ...]
) -> tuple[tuple[Pair, ...], Sizes, Sizes, list[Condition]]:
    pads: list[Pair] = []
    extra: list[Size] = []
    out: list[Size] = []
    conditions: list[Condition] = []
    for i, n in enumerate(sizes):
        letter, e, s = spec.spatial[i], spec.receptive_field[i], spec.stride[i]
        entry = spec.padding[i]
        if isinstance(entry, str):
            size = n * s if wanted[i] is None else wanted[i]
            least, most = n * s - s + 1, n * s
            lower = entry == "same_lower"
            entry = geometry.same_padding(size, e, s, lower=lower)
            rest = s - geometry.transposed_size(1, e, s, entry, 0)
        else:
            least = geometry.transposed_size(n, e, s, entry, 0)
            most = least + s - 1
            size = least + spec.output_padding[i] if wanted[i] is None else wanted[i]
            rest = spec.output_padding[i]
        if wanted[i] is not None:
            rest = size - geometry.transposed_size(n, e, s, entry, 0)
            message = f"output_size[{i}] (axis {letter}): the input is no size that it gives"
            conditions += [Condition(least, size, message), Condition(size, most, message)]
        message = f"padding: no output position is left on axis {letter}"
        conditions.append(Condition(1, size, message))
        if known(size, least):
            if wanted[i] is not None and not max(least, 1) <= size <= most:
                raise ShapeError(
                    f"output_size[{i}] (axis {letter}): the forward convolution maps {least} to "
                    f"{most} positions onto this input's {n}, got {size}."
                )
            if size < 1:
                raise ShapeError(
                    f"padding: on axis {letter} the output would have {size} positions: "
                    f"({n}-1)*{s} - {entry[0]} - {entry[1]} + {e} + {spec.output_padding[i]}."
                    f"\n  Crop less."
                )
        pads.append(entry)
        extra.append(rest)
        out.append(size)
    return tuple(pads), tuple(extra), tuple(out), conditions


def smallest_shape(spec: ConvSpec) -> tuple[int, ...]:
    """A small input shape, in ``layout``, that the spec accepts."""
    sizes: dict[str, int] = {"N": 2, "C": spec.in_channels}
    for i, letter in enumerate(spec.spatial):
        entry, e, s = spec.padding[i], spec.receptive_field[i], spec.stride[i]
        lo, hi = (0, 0) if isinstance(entry, str) else entry
        if spec.transposed:
            # (n-1)*s - lo - hi + e >= 1
            sizes[letter] = max(2, (lo + hi - e + s) // s + 2)
        else:
            sizes[letter] = max(e - lo - hi, lo + 1, hi + 1, e, 1) + s
    return tuple(sizes[letter] for letter in spec.layout)


def adjoint_arguments(spec: ConvSpec, input_shape: Sequence[int]) -> dict[str, Any]:
    """Constructor arguments of :meth:`ConvSpec.adjoint`."""
    if spec.padding_mode != "zeros":
        raise UnsupportedError(
            f"adjoint: with padding_mode={spec.padding_mode!r} it is no convolution; pad the "
            f"input yourself and take the adjoint of the 'zeros' spec."
        )
    resolved = resolve(spec, input_shape, None)
    letters = [letter for letter in spec.output_layout if letter not in "NC"]

    def ordered(values: Sequence[Any]) -> tuple[Any, ...]:
        return reorder(values, spec.spatial, "".join(letters))

    padding, output_padding = [], []
    for i, (lo, hi) in enumerate(resolved.padding):
        e, s = spec.receptive_field[i], spec.stride[i]
        n, out = resolved.input_size[i], resolved.output_size[i]
        if spec.transposed:
            # Positions beyond s-1 are no adjoint size: leave them out at the end.
            extra = resolved.output_padding[i]
            padding.append((lo, hi if extra < s else hi - extra))
            output_padding.append(0)
        else:
            padding.append((lo, hi))
            output_padding.append(n - geometry.transposed_size(out, e, s, (lo, hi), 0))
    swap = str.maketrans("OIM", "IOI")
    return {
        "in_channels": spec.out_channels,
        "out_channels": spec.in_channels,
        "kernel_size": ordered(spec.kernel_size),
        "stride": ordered(spec.stride),
        "padding": ordered(padding),
        "dilation": ordered(spec.dilation),
        "groups": spec.groups,
        "bias": False,
        "transposed": not spec.transposed,
        "output_padding": ordered(output_padding),
        "layout": spec.output_layout,
        "output_layout": spec.layout,
        "weight_layout": spec.weight_layout.translate(swap),
        "flip_kernel": spec.flip_kernel,
        "group_axis": "I" if spec.group_axis == "O" else "O",
    }
