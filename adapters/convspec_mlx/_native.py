"""MLX's layers and calls, read as specs; and layers made from specs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import mlx.core as mx
from mlx import nn

from convspec import ConvSpec, ShapeError
from convspec.arguments import Pair
from convspec.layouts import default_spatial
from convspec.natives import (
    Layer,
    Native,
    cannot,
    crops,
    even_padding,
    known,
    overridden,
    sizes_of,
    spelled_out,
)

from ._arrays import MODES, from_foreign

CONVS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def _spec(
    weight: Any, rank: int, groups: int, transposed: bool, bias: bool, **options: Any
) -> ConvSpec:
    """Weights are ``O...I`` in both directions, and O spans all groups."""
    letters = default_spatial(rank)
    sizes = sizes_of("weight", weight)
    if len(sizes) != rank + 2:
        raise ShapeError(f"weight: a {rank}-D call takes {rank + 2} axes, got shape {sizes}.")
    out, *kernel, per_group = (
        known("weight", letter, n) for letter, n in zip(f"O{letters}I", sizes, strict=True)
    )
    spec = ConvSpec(
        per_group * groups,
        out,
        tuple(kernel),
        groups=groups,
        bias=bias,
        transposed=transposed,
        layout=f"N{letters}C",
        weight_layout=f"O{letters}I",
        group_axis="O",
        **options,
    )
    _check_crops(spec)
    return spec


def _check_crops(spec: ConvSpec) -> None:
    """MLX 0.32 gives outputs of wrong sizes where it crops beyond the kernel's extent."""
    if not spec.transposed:
        return
    for i, (lo, _, _) in enumerate(crops(spec)):
        e = spec.receptive_field[i]
        if lo >= e:
            rule = f"MLX crops less than the kernel's extent {e} rightly, and this is {lo}"
            raise cannot(f"padding[{i}] (axis {spec.spatial[i]})", rule)


def _reader(base: type, rank: int) -> Callable[[Any], Layer]:
    transposed = base in TRANSPOSED

    def read(layer: Any) -> Layer:
        overridden(layer, base, "__call__")
        names = ("stride", "padding", "dilation", *(("output_padding",) if transposed else ()))
        bias = layer.bias if "bias" in layer else None
        spec = _spec(
            layer.weight,
            rank,
            getattr(layer, "groups", 1),
            transposed,
            bias is not None,
            **{name: getattr(layer, name) for name in names},
        )
        return Layer(spec, layer.weight, bias)

    return read


def _conv(rank: int) -> Callable[..., ConvSpec]:
    def read(
        input: Any,
        weight: Any,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        *,
        stream: Any = None,
    ) -> ConvSpec:
        options = {"stride": stride, "padding": padding, "dilation": dilation}
        return _spec(weight, rank, groups, False, False, **options)

    return read


def _conv_transpose(rank: int) -> Callable[..., ConvSpec]:
    def read(
        input: Any,
        weight: Any,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        output_padding: Any = 0,
        groups: int = 1,
        *,
        stream: Any = None,
    ) -> ConvSpec:
        options = {"stride": stride, "padding": padding, "dilation": dilation}
        options["output_padding"] = output_padding
        return _spec(weight, rank, groups, True, False, **options)

    return read


class MlxNative(Native):
    """``mlx.nn``'s layers and ``mlx.core``'s calls."""

    name = "mlx"
    convention = "mlx"
    arrays_of = "mlx"
    layers = {
        base: _reader(base, rank)
        for kinds in (CONVS, TRANSPOSED)
        for rank, base in enumerate(kinds, 1)
    }
    calls = {
        mx.conv1d: _conv(1),
        mx.conv2d: _conv(2),
        mx.conv3d: _conv(3),
        mx.conv_transpose1d: _conv_transpose(1),
        mx.conv_transpose2d: _conv_transpose(2),
        mx.conv_transpose3d: _conv_transpose(3),
    }

    def make(self, spec: ConvSpec, weight: Any, bias: Any) -> Any:
        if spec.rank > 3:
            raise cannot("kernel_size", f"mlx.nn has ranks 1 to 3, not {spec.rank}")
        if spec.padding_mode != "zeros" and any(map(any, spelled_out(spec).padding)):
            rule = f"mlx.nn pads with zeros only, and this is {spec.padding_mode!r}"
            raise cannot("padding_mode", rule, padding=True)
        kind = (TRANSPOSED if spec.transposed else CONVS)[spec.rank - 1]
        padding, extra = even_padding(spec, "mlx.nn", spec.stride)
        _check_crops(spec)
        options: dict[str, Any] = {
            "kernel_size": spec.kernel_size,
            "stride": spec.stride,
            "padding": padding,
            "dilation": spec.dilation,
        }
        if spec.transposed:
            options["output_padding"] = extra
        if spec.rank == 1:  # where MLX takes no tuples
            options = {name: values[0] for name, values in options.items()}
        if spec.groups > 1:
            if spec.transposed or spec.rank == 3:
                rule = f"mlx.nn.{kind.__name__} has none, and there are {spec.groups}"
                raise cannot("groups", rule)
            options["groups"] = spec.groups
        layer = kind(spec.in_channels, spec.out_channels, bias=spec.bias, **options)
        layer.weight = _array(weight)
        if spec.bias:
            layer.bias = mx.zeros(spec.bias_shape, layer.weight.dtype)
            if bias is not None:
                layer.bias = _array(bias)
        return layer

    def padded(self, layer: Any, pairs: Sequence[Pair], mode: str, *, transposed: bool) -> Any:
        if mode not in MODES:
            raise cannot("padding_mode", f"MLX pads by {', '.join(MODES)} only, not {mode!r}")
        if transposed:
            return nn.Sequential(layer, Pad([(-lo, -hi) for lo, hi in pairs], mode))
        return nn.Sequential(Pad(pairs, mode), layer)


class Pad(nn.Module):  # type: ignore[misc]  # MLX's types are not looked at here
    """Pads the spatial axes of (N, space, C) by the amounts above 0, crops by those below."""

    def __init__(self, pairs: Sequence[Pair], mode: str) -> None:
        super().__init__()
        self.pairs, self.mode = tuple(pairs), mode

    def __call__(self, x: Any) -> Any:
        added = [(max(lo, 0), max(hi, 0)) for lo, hi in self.pairs]
        x = mx.pad(x, [(0, 0), *added, (0, 0)], mode=MODES[self.mode])
        sizes = zip(self.pairs, x.shape[1:-1], strict=True)
        inner = tuple(slice(max(-lo, 0), n + min(hi, 0)) for (lo, hi), n in sizes)
        return x[(slice(None), *inner)]


def _array(array: Any) -> Any:
    """A copy in row-major order."""
    return mx.array(array if isinstance(array, mx.array) else from_foreign(array))


native = MlxNative()
