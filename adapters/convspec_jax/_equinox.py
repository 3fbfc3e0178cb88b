"""Equinox's layers, read as specs; and layers made from specs. They take one sample, no batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from convspec import ConvSpec, UnsupportedError
from convspec.arguments import Pair
from convspec.geometry import extent
from convspec.layouts import default_spatial
from convspec.natives import Layer, Native, cannot, crops, overridden, spelled_out

from ._arrays import as_array
from ._native import WORDS, padding_function


def _options(layer: Any) -> dict[str, Any]:
    letters = default_spatial(layer.num_spatial_dims)
    return {
        "in_channels": layer.in_channels,
        "out_channels": layer.out_channels,
        "kernel_size": layer.kernel_size,
        "stride": layer.stride,
        "dilation": layer.dilation,
        "groups": layer.groups,
        "bias": layer.use_bias,
        "layout": f"C{letters}",
        "weight_layout": f"OI{letters}",
        "group_axis": "O",
    }


def _layer(layer: Any, spec: ConvSpec) -> Layer:
    # The bias has an axis of size 1 for each spatial one.
    return Layer(spec, layer.weight, layer.bias.reshape(-1) if layer.use_bias else None)


def read_conv(layer: Any) -> Layer:
    overridden(layer, eqx.nn.Conv, "__call__")
    padding = layer.padding
    spec = ConvSpec(
        padding=WORDS[padding] if isinstance(padding, str) else tuple(map(tuple, padding)),
        padding_mode=layer.padding_mode.lower(),
        **_options(layer),
    )
    return _layer(layer, spec)


def read_transposed(layer: Any) -> Layer:
    overridden(layer, eqx.nn.ConvTranspose, "__call__")
    if layer.padding_mode != "ZEROS":
        raise UnsupportedError(
            f"layer: a transposed convolution has only zero padding, and this ConvTranspose has "
            f"{layer.padding_mode}, which wraps its input around."
        )
    padding, extra = layer.padding, tuple(layer.output_padding)
    if padding in ("SAME", "SAME_LOWER") and any(extra):
        # In all e - s + output_padding is cropped; below 0 it is given back at the end.
        ends = []
        for k, d, s, a in zip(layer.kernel_size, layer.dilation, layer.stride, extra, strict=True):
            total = extent(k, d) - s + a
            lo = (max(total, 0) + (padding == "SAME_LOWER")) // 2
            ends.append((lo, total - lo, 0) if total >= 0 else (0, 0, -total))
        padding, extra = tuple((lo, hi) for lo, hi, _ in ends), tuple(a for _, _, a in ends)
    spec = ConvSpec(
        padding=WORDS[padding] if isinstance(padding, str) else tuple(map(tuple, padding)),
        transposed=True,
        output_padding=extra,
        flip_kernel=True,
        **_options(layer),
    )
    return _layer(layer, spec)


class EquinoxNative(Native):
    """``equinox.nn``'s layers, of any rank."""

    name = "equinox"
    arrays_of = "jax"
    layers = {eqx.nn.Conv: read_conv, eqx.nn.ConvTranspose: read_transposed}

    def target(self, spec: ConvSpec) -> ConvSpec:
        torch = spec.in_convention("torch")
        return torch.replace(
            layout=torch.layout.removeprefix("N"),
            weight_layout=f"OI{torch.spatial}",
            flip_kernel=spec.transposed,
            group_axis="O",
        )

    def make(self, spec: ConvSpec, weight: Any, bias: Any) -> Any:
        weight = jnp.array(as_array(weight))
        padding, extra = _padding(spec)
        options: dict[str, Any] = {"output_padding": extra} if spec.transposed else {}
        kind = eqx.nn.ConvTranspose if spec.transposed else eqx.nn.Conv
        layer = kind(
            spec.rank,
            spec.in_channels,
            spec.out_channels,
            spec.kernel_size,
            spec.stride,
            padding,
            dilation=spec.dilation,
            groups=spec.groups,
            use_bias=spec.bias,
            padding_mode=spec.padding_mode.upper(),
            dtype=weight.dtype,
            key=jax.random.key(0),  # what it gives is not used
            **options,
        )
        if not spec.bias:
            return eqx.tree_at(lambda layer: layer.weight, layer, weight)
        values = jnp.zeros(spec.out_channels, weight.dtype) if bias is None else as_array(bias)
        values = jnp.array(values).reshape(layer.bias.shape)
        return eqx.tree_at(lambda layer: (layer.weight, layer.bias), layer, (weight, values))

    def padded(self, layer: Any, pairs: Sequence[Pair], mode: str, *, transposed: bool) -> Any:
        assert not transposed, "a transposed padding is never refused"
        pad = eqx.nn.Lambda(padding_function([(0, 0), *pairs], mode))
        return eqx.nn.Sequential([pad, layer])


def _padding(spec: ConvSpec) -> tuple[Any, tuple[int, ...]]:
    for word, name in WORDS.items():
        if set(spec.padding) == {name}:
            return word, spec.output_padding
    if not spec.transposed:
        padding = spelled_out(spec).padding
        for i, entry in enumerate(padding):
            place = f"padding[{i}] (axis {spec.spatial[i]})"
            if isinstance(entry, str):
                rule = (
                    f"equinox.nn has named padding on all axes or none, and {entry!r} is not on all"
                )
                raise cannot(place, rule)
            if spec.padding_mode != "zeros" and min(entry) < 0:
                rule = f"equinox.nn cannot crop where padding is {spec.padding_mode!r}"
                raise cannot(place, f"{rule}, and {entry} does", padding=True)
        return padding, spec.output_padding
    # Equinox gives back less than the stride, but it takes any crop, also a negative one.
    return tuple((lo, hi - extra) for lo, hi, extra in crops(spec)), (0,) * spec.rank


native = EquinoxNative()
