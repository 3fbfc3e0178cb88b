"""``jax.lax``'s calls, read as specs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax

from convspec import ConvSpec, ShapeError, UnsupportedError
from convspec.arguments import Pair, shown
from convspec.geometry import extent, same_padding
from convspec.layouts import default_spatial, reorder, spatial_letters
from convspec.natives import Native, known, sizes_of

from ._arrays import pad

WORDS = {"VALID": "valid", "SAME": "same", "SAME_LOWER": "same_lower"}


def amounts_of_dilated(
    pairs: Sequence[Sequence[int]], extents: Sequence[int]
) -> tuple[tuple[int, int], ...]:
    """What JAX pads the dilated input by, as what is cropped from the full output."""
    return tuple((e - 1 - lo, e - 1 - hi) for e, (lo, hi) in zip(extents, pairs, strict=True))


def transposed_words(
    word: str, extents: Sequence[int], strides: Sequence[int]
) -> tuple[Any, tuple[int, ...]]:
    """Padding and output padding of JAX's named paddings, transposed.

    "VALID" has n*s + max(e-s, 0) positions, so that no output is smaller than "SAME"'s n*s.
    """
    if word == "VALID":
        return "valid", tuple(max(s - e, 0) for e, s in zip(extents, strides, strict=True))
    return "same", (0,) * len(extents)


def padding_function(pairs: Sequence[Pair], mode: str) -> Callable[[Any], Any]:
    """A function that pads all axes of an array by the amounts above 0, and crops by the rest."""
    added = tuple((max(lo, 0), max(hi, 0)) for lo, hi in pairs)
    cropped = tuple((min(lo, 0), min(hi, 0)) for lo, hi in pairs)
    return lambda x: pad(pad(x, pairs=added, mode=mode), pairs=cropped, mode="zeros")


class _Numbers:
    """The axes that ``dimension_numbers`` names, as layouts of the usual letters.

    JAX counts spatial axes in the order of the kernel's; a spec in that of its input.
    """

    def __init__(self, lhs: Any, rhs: Any, numbers: Any) -> None:
        x, w = sizes_of("lhs", lhs), sizes_of("rhs", rhs)
        if len(x) != len(w) or len(x) < 3:
            raise ShapeError(
                f"lhs: expected as many axes as rhs has, and at least 3, got shapes {x} and {w}."
            )
        dims = jax.lax.conv_dimension_numbers(x, w, numbers)
        self.letters = default_spatial(len(x) - 2)
        self.lhs = self._layout(dims.lhs_spec, "NC")
        self.rhs = self._layout(dims.rhs_spec, "OI")
        self.out = self._layout(dims.out_spec, "NC")
        self.channels = known("lhs", "C", x[dims.lhs_spec[1]])
        self.sizes = {c: known("rhs", c, w[i]) for i, c in enumerate(self.rhs)}
        self.kernel = tuple(self.sizes[c] for c in self.letters)

    def _layout(self, places: Sequence[int], special: str) -> str:
        order = dict(zip(places, special + self.letters, strict=True))
        return "".join(order[i] for i in range(len(order)))

    def spec(self, **options: Any) -> ConvSpec:
        """A spec whose per-axis tuples are given in JAX's order."""
        for name, value in options.items():
            if isinstance(value, tuple):
                options[name] = reorder(value, self.letters, spatial_letters(self.lhs))
        return ConvSpec(
            kernel_size=reorder(self.kernel, self.letters, spatial_letters(self.lhs)),
            bias=False,
            layout=self.lhs,
            output_layout=self.out,
            **options,
        )

    def per_axis(self, name: str, value: Any) -> tuple[Any, ...]:
        values = (1,) * len(self.letters) if value is None else tuple(value)
        if len(values) != len(self.letters):
            raise ShapeError(
                f"{name}: {shown(value)} should have one entry for each of the axes {self.letters}."
            )
        return values


def _word(padding: str) -> str:
    word = WORDS.get(padding.upper())
    if word is None:
        raise UnsupportedError(f"padding: {padding!r} is none of {', '.join(WORDS)}.")
    return word


def _pairs(padding: Any) -> tuple[tuple[int, int], ...]:
    return tuple((int(lo), int(hi)) for lo, hi in padding)


def conv_general_dilated(
    lhs: Any,
    rhs: Any,
    window_strides: Any,
    padding: Any,
    lhs_dilation: Any = None,
    rhs_dilation: Any = None,
    dimension_numbers: Any = None,
    feature_group_count: int = 1,
    batch_group_count: int = 1,
    precision: Any = None,
    preferred_element_type: Any = None,
    out_sharding: Any = None,
) -> ConvSpec:
    numbers = _Numbers(lhs, rhs, dimension_numbers)
    strides = numbers.per_axis("window_strides", window_strides)
    dilated = numbers.per_axis("lhs_dilation", lhs_dilation)
    dilation = numbers.per_axis("rhs_dilation", rhs_dilation)
    if batch_group_count != 1:
        raise UnsupportedError(
            f"batch_group_count: a spec has no groups of the batch, got {batch_group_count}."
        )
    named = isinstance(padding, str)
    options: dict[str, Any] = {
        "in_channels": numbers.channels,
        "out_channels": numbers.sizes["O"],
        "dilation": dilation,
        "groups": feature_group_count,
        "weight_layout": numbers.rhs,
    }
    if set(dilated) == {1}:
        entry = _word(padding) if named else numbers.per_axis("padding", _pairs(padding))
        return numbers.spec(stride=strides, padding=entry, **options)
    if set(strides) != {1} or named:
        raise UnsupportedError(
            f"lhs_dilation: {dilated} is a transposed convolution of that stride, which has "
            f"explicit padding and no window_strides, got {shown(padding)} and {strides}."
        )
    extents = [extent(k, d) for k, d in zip(numbers.kernel, dilation, strict=True)]
    pairs = numbers.per_axis("padding", _pairs(padding))
    return numbers.spec(
        stride=dilated,
        padding=amounts_of_dilated(pairs, extents),
        transposed=True,
        flip_kernel=True,
        group_axis="O",
        **options,
    )


def conv_with_general_padding(
    lhs: Any,
    rhs: Any,
    window_strides: Any,
    padding: Any,
    lhs_dilation: Any,
    rhs_dilation: Any,
    precision: Any = None,
    preferred_element_type: Any = None,
) -> ConvSpec:
    return conv_general_dilated(lhs, rhs, window_strides, padding, lhs_dilation, rhs_dilation)


def conv(
    lhs: Any,
    rhs: Any,
    window_strides: Any,
    padding: str,
    precision: Any = None,
    preferred_element_type: Any = None,
) -> ConvSpec:
    return conv_general_dilated(lhs, rhs, window_strides, padding)


def conv_transpose(
    lhs: Any,
    rhs: Any,
    strides: Any,
    padding: Any,
    rhs_dilation: Any = None,
    dimension_numbers: Any = None,
    transpose_kernel: bool = False,
    precision: Any = None,
    preferred_element_type: Any = None,
    use_consistent_padding: bool = False,
) -> ConvSpec:
    if dimension_numbers is None:
        letters = default_spatial(max(len(sizes_of("lhs", lhs)) - 2, 1))
        dimension_numbers = (f"N{letters}C", f"{letters}IO", f"N{letters}C")
    numbers = _Numbers(lhs, rhs, dimension_numbers)
    strides = numbers.per_axis("strides", strides)
    dilation = numbers.per_axis("rhs_dilation", rhs_dilation)
    extents = [extent(k, d) for k, d in zip(numbers.kernel, dilation, strict=True)]
    extra = (0,) * len(extents)
    entry: Any
    if isinstance(padding, str) and padding in ("SAME", "VALID"):
        entry, extra = transposed_words(padding, extents, strides)
    elif isinstance(padding, str):
        # JAX leaves other words to the forward rule, which has them at stride 1 only.
        if set(strides) != {1}:
            raise UnsupportedError(
                f"padding: JAX takes SAME or VALID when it strides, not {padding!r}."
            )
        word = _word(padding)
        lower = word == "same_lower"
        pairs = [(0, 0) if word == "valid" else same_padding(1, e, 1, lower=lower) for e in extents]
        entry = amounts_of_dilated(pairs, extents)
    else:
        entry = numbers.per_axis("padding", _pairs(padding))
        if not use_consistent_padding:
            entry = amounts_of_dilated(entry, extents)
    # With transpose_kernel the kernel is the forward convolution's: its O is our I.
    swap = str.maketrans("OI", "IO") if transpose_kernel else {}
    return numbers.spec(
        in_channels=numbers.channels,
        out_channels=numbers.sizes["I" if transpose_kernel else "O"],
        stride=strides,
        padding=entry,
        dilation=dilation,
        transposed=True,
        output_padding=extra,
        weight_layout=numbers.rhs.translate(swap),
        flip_kernel=not transpose_kernel,
        group_axis="I" if transpose_kernel else "O",
    )


class JaxNative(Native):
    """``jax.lax``'s calls. JAX itself has no layers."""

    name = "jax"
    calls = {
        jax.lax.conv: conv,
        jax.lax.conv_general_dilated: conv_general_dilated,
        jax.lax.conv_transpose: conv_transpose,
        jax.lax.conv_with_general_padding: conv_with_general_padding,
    }


native = JaxNative()
