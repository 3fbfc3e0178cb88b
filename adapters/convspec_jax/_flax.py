"""Flax NNX's layers, read as specs; and layers made from specs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from convspec import ConvSpec, UnsupportedError
from convspec.arguments import Pair
from convspec.geometry import extent
from convspec.layouts import default_spatial
from convspec.natives import Layer, Native, cannot, crops, overridden, spelled_out

from ._arrays import as_array
from ._native import WORDS, amounts_of_dilated, padding_function, transposed_words
from ._nnx import Conv

#: Flax pads by e-1 in all before a convolution without padding: ((e-1)//2, e//2).
MODES = {"CIRCULAR": "circular", "REFLECT": "reflect"}


def _each(value: Any, rank: int) -> tuple[int, ...]:
    """Flax takes None for 1, and one value for all axes."""
    if value is None or isinstance(value, int):
        return (1 if value is None else value,) * rank
    return tuple(value)


def _padding(padding: Any, rank: int) -> Any:
    """A word, or one pair for each axis (``flax.linen.linear.canonicalize_padding``)."""
    if isinstance(padding, str):
        return padding
    entries = [padding] * rank if isinstance(padding, int) else padding
    return tuple((p, p) if isinstance(p, int) else tuple(p) for p in entries)


def _options(layer: Any) -> dict[str, Any]:
    """What both kinds of layer have, after refusing what no spec says."""
    if layer.mask is not None:
        raise UnsupportedError(
            "layer: has a mask, which no spec has; multiply it into the kernel and drop it."
        )
    rank = len(layer.kernel_size)
    letters = default_spatial(rank)
    return {
        "in_channels": layer.in_features,
        "out_channels": layer.out_features,
        "kernel_size": layer.kernel_size,
        "stride": _each(layer.strides, rank),
        "dilation": _each(layer.kernel_dilation, rank),
        "bias": layer.bias is not None,
        "layout": f"N{letters}C",
    }


def read_conv(layer: Any) -> Layer:
    overridden(layer, nnx.Conv, "__call__")
    options = _options(layer)
    rank = len(layer.kernel_size)
    if set(_each(layer.input_dilation, rank)) != {1}:
        raise UnsupportedError(
            f"layer: has input_dilation={layer.input_dilation}; a convolution of an input with "
            f"zeros in between is a transposed one: use nnx.ConvTranspose."
        )
    if layer.conv_general_dilated is not jax.lax.conv_general_dilated:
        raise UnsupportedError("layer: has a convolution function of its own, which is not read.")
    padding = _padding(layer.padding, rank)
    mode = MODES.get(padding, "zeros") if isinstance(padding, str) else "zeros"
    if mode != "zeros":
        extents = [
            extent(k, d) for k, d in zip(layer.kernel_size, options["dilation"], strict=True)
        ]
        padding = tuple(((e - 1) // 2, e // 2) for e in extents)
    elif isinstance(padding, str):
        padding = "causal" if padding == "CAUSAL" else _word(padding)
    spec = ConvSpec(
        padding=padding,
        padding_mode=mode,
        groups=layer.feature_group_count,
        weight_layout=f"{default_spatial(rank)}IO",
        **options,
    )
    return Layer(spec, layer.kernel, layer.bias)


def _word(padding: str) -> str:
    if padding.upper() not in WORDS:
        raise UnsupportedError(
            f"layer: padding {padding!r} is none of {', '.join([*WORDS, *MODES, 'CAUSAL'])}."
        )
    return WORDS[padding.upper()]


def read_transposed(layer: Any) -> Layer:
    overridden(layer, nnx.ConvTranspose, "__call__")
    options = _options(layer)
    rank = len(layer.kernel_size)
    extents = [extent(k, d) for k, d in zip(layer.kernel_size, options["dilation"], strict=True)]
    padding, extra = _padding(layer.padding, rank), (0,) * rank
    if padding == "CIRCULAR":
        raise UnsupportedError(
            "layer: a CIRCULAR ConvTranspose wraps its output around, adding up what falls on the "
            "same place; no spec does that, since a transposed one has only zero padding."
        )
    if isinstance(padding, str):
        if padding not in ("SAME", "VALID"):
            raise UnsupportedError(f"layer: padding {padding!r} is none of SAME, VALID.")
        padding, extra = transposed_words(padding, extents, options["stride"])
    else:
        padding = amounts_of_dilated(padding, extents)
    letters = default_spatial(rank)
    spec = ConvSpec(
        padding=padding,
        transposed=True,
        output_padding=extra,
        weight_layout=f"{letters}OI" if layer.transpose_kernel else f"{letters}IO",
        flip_kernel=not layer.transpose_kernel,
        group_axis="I" if layer.transpose_kernel else "O",
        **options,
    )
    return Layer(spec, layer.kernel, layer.bias)


class FlaxNative(Native):
    """``flax.nnx``'s layers, of any rank."""

    name = "flax"
    convention = "flax"
    arrays_of = "jax"
    layers = {Conv: Conv.read, nnx.Conv: read_conv, nnx.ConvTranspose: read_transposed}

    def make(self, spec: ConvSpec, weight: Any, bias: Any) -> Any:
        kernel = jnp.array(as_array(weight))
        options: dict[str, Any] = {
            "in_features": spec.in_channels,
            "out_features": spec.out_channels,
            "kernel_size": spec.kernel_size,
            "strides": spec.stride,
            "kernel_dilation": spec.dilation,
            "use_bias": spec.bias,
            "param_dtype": kernel.dtype,
            "kernel_init": lambda key, shape, dtype: kernel,
            "bias_init": lambda key, shape, dtype: (
                jnp.zeros(shape, dtype) if bias is None else jnp.array(as_array(bias))
            ),
            "rngs": nnx.Rngs(0),  # what it gives is not used
        }
        if not spec.transposed:
            options["feature_group_count"] = spec.groups
            return nnx.Conv(padding=_forward_padding(spec), **options)
        if spec.groups > 1:
            raise cannot("groups", f"nnx.ConvTranspose has none, and there are {spec.groups}")
        return nnx.ConvTranspose(padding=_transposed_padding(spec), **options)

    def padded(self, layer: Any, pairs: Sequence[Pair], mode: str, *, transposed: bool) -> Any:
        assert not transposed, "a transposed padding is never refused"
        return nnx.Sequential(padding_function([(0, 0), *pairs, (0, 0)], mode), layer)


def _forward_padding(spec: ConvSpec) -> Any:
    spelled = spelled_out(spec)
    mode = spec.padding_mode if any(map(any, spelled.padding)) else "zeros"
    for word, name in WORDS.items():
        if mode == "zeros" and set(spec.padding) == {name}:
            return word
    own = {mode: word for word, mode in MODES.items()}
    for i, entry in enumerate(spelled.padding):
        place, e = f"padding[{i}] (axis {spec.spatial[i]})", spec.receptive_field[i]
        if isinstance(entry, str):
            rule = f"nnx.Conv has named padding on all axes or none, and {entry!r} is not on all"
            raise cannot(place, rule)
        if mode != "zeros" and (mode not in own or entry != ((e - 1) // 2, e // 2)):
            rule = (
                f"beside zeros nnx.Conv has {' and '.join(MODES)}, by e-1 positions in all, and "
                f"this is {mode!r} by {entry}"
            )
            raise cannot(place, rule, padding=True)
    return spelled.padding if mode == "zeros" else own[mode]


def _transposed_padding(spec: ConvSpec) -> Any:
    if set(spec.padding) == {"same"}:
        return "SAME"
    ends = zip(spec.receptive_field, crops(spec), strict=True)
    return tuple((e - 1 - lo, e - 1 - hi + extra) for e, (lo, hi, extra) in ends)


native = FlaxNative()
