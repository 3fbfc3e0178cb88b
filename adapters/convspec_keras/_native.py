"""Keras's layers and calls, read as specs; and layers made from specs.

Keras computes the same on each of its backends or fails, but for "same" paddings of its torch
backend: what is read here is what its documentation and its JAX and TensorFlow backends say.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import layers

from convspec import ConvSpec, ShapeError, UnsupportedError
from convspec.arguments import Pair, shown
from convspec.geometry import extent
from convspec.layouts import default_spatial
from convspec.natives import (
    Layer,
    Native,
    Reading,
    cannot,
    crops,
    groups_of,
    known,
    overridden,
    pointwise,
    sizes_of,
    spelled_out,
)

from ._layer import Conv
from ._operation import Convolution

CONVS = (layers.Conv1D, layers.Conv2D, layers.Conv3D)
TRANSPOSED = (layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose)
DEPTHWISE = (layers.DepthwiseConv1D, layers.DepthwiseConv2D)
SEPARABLE = (layers.SeparableConv1D, layers.SeparableConv2D)
PADS = (layers.ZeroPadding1D, layers.ZeroPadding2D, layers.ZeroPadding3D)
CROPS = (layers.Cropping1D, layers.Cropping2D, layers.Cropping3D)


def _data(letters: str, data_format: str | None) -> str:
    first = (data_format or keras.config.image_data_format()) == "channels_first"
    return f"NC{letters}" if first else f"N{letters}C"


def transposed_amounts(
    padding: str,
    extra: Sequence[int] | None,
    extents: Sequence[int],
    strides: Sequence[int],
) -> tuple[Any, tuple[int, ...]]:
    """Padding and output padding of a transposed call, in our terms.

    Without output padding "valid" has n*s + max(e-s, 0) positions and "same" n*s. With it, "same"
    has (n-1)*s + e % 2 + output_padding, of which the larger half of what the dilated input needs
    goes to the start (keras/src/backend/common/backend_utils.py).
    """
    if padding == "valid":
        if extra is None:
            extra = [max(s - e, 0) for e, s in zip(extents, strides, strict=True)]
        return "valid", tuple(extra)
    if extra is None:
        return "same", (0,) * len(extents)
    pairs, given = [], []
    for e, more in zip(extents, extra, strict=True):
        total = e + e % 2 - 2 + more
        start = min((total + 1) // 2, e - 1)
        lo, hi = e - 1 - start, e - 1 - (total - start)
        pairs.append((lo, max(hi, 0)))
        given.append(max(-hi, 0))
    return tuple(pairs), tuple(given)


# ---- layers ----


def _options(layer: Any, rank: int) -> dict[str, Any]:
    if not layer.built:
        raise UnsupportedError(
            f"layer: {layer.name} is not built, so it does not know its channels; call it once, or "
            f"layer.build(input_shape)."
        )
    letters = default_spatial(rank)
    return {
        "kernel_size": layer.kernel_size,
        "stride": layer.strides,
        "padding": layer.padding,
        "dilation": layer.dilation_rate,
        "bias": layer.bias is not None,
        "layout": _data(letters, layer.data_format),
        "weight_layout": f"{letters}IO",
    }


def _conv(base: type, rank: int) -> Callable[[Any], Reading]:
    def read(layer: Any) -> Layer:
        overridden(layer, base, "call", "convolution_op")
        options = _options(layer, rank)
        channels = layer.kernel.shape[-2] * layer.groups
        spec = ConvSpec(channels, layer.filters, groups=layer.groups, **options)
        return Layer(spec, layer.kernel, layer.bias)

    return read


def _transposed(base: type, rank: int) -> Callable[[Any], Reading]:
    def read(layer: Any) -> Layer:
        overridden(layer, base, "call")
        options = _options(layer, rank)
        extents = [
            extent(k, d) for k, d in zip(layer.kernel_size, layer.dilation_rate, strict=True)
        ]
        options["padding"], extra = transposed_amounts(
            layer.padding, layer.output_padding, extents, layer.strides
        )
        options["weight_layout"] = f"{default_spatial(rank)}OI"
        spec = ConvSpec(
            layer.kernel.shape[-1],
            layer.filters,
            transposed=True,
            output_padding=extra,
            **options,
        )
        return Layer(spec, layer.kernel, layer.bias)

    return read


def _depthwise(base: type, rank: int) -> Callable[[Any], Reading]:
    def read(layer: Any) -> Layer:
        overridden(layer, base, "call")
        options = _options(layer, rank)
        spec = _depthwise_spec(layer.kernel.shape, **options)
        return Layer(spec, layer.kernel, layer.bias)

    return read


def _depthwise_spec(sizes: Sequence[Any], **options: Any) -> ConvSpec:
    channels, multiplier = (known("kernel", c, n) for c, n in zip("IM", sizes[-2:], strict=True))
    options["weight_layout"] = options["weight_layout"].replace("O", "M")
    return ConvSpec(channels, channels * multiplier, groups=channels, **options)


def _separable(base: type, rank: int) -> Callable[[Any], Reading]:
    def read(layer: Any) -> tuple[Layer, Layer]:
        overridden(layer, base, "call")
        options = {**_options(layer, rank), "bias": False}
        first = _depthwise_spec(layer.depthwise_kernel.shape, **options)
        second = pointwise(
            first, "pointwise_kernel", layer.pointwise_kernel, bias=layer.bias is not None
        )
        return (
            Layer(first, layer.depthwise_kernel),
            Layer(second, layer.pointwise_kernel, layer.bias),
        )

    return read


# ---- calls ----


def _each(value: Any, rank: int) -> tuple[int, ...]:
    return (value,) * rank if isinstance(value, int) else tuple(value)


class _Call:
    """The sizes that a call reads off its arrays."""

    def __init__(self, inputs: Any, kernel: Any, data_format: str | None) -> None:
        shape, self.sizes = sizes_of("inputs", inputs), sizes_of("kernel", kernel)
        self.rank = len(shape) - 2
        if self.rank < 1 or len(self.sizes) != len(shape):
            raise ShapeError(
                f"inputs: expected as many axes as the kernel has, and at least 3, got shapes "
                f"{shape} and {self.sizes}."
            )
        self.letters = default_spatial(self.rank)
        self.layout = _data(self.letters, data_format)
        self.channels = known("inputs", "C", shape[self.layout.index("C")])
        self.kernel = tuple(
            known("kernel", c, n) for c, n in zip(self.letters, self.sizes, strict=False)
        )

    def options(self, strides: Any, padding: str, dilation_rate: Any) -> dict[str, Any]:
        if padding not in ("valid", "same"):
            raise UnsupportedError(f"padding: {shown(padding)} is none of valid, same.")
        return {
            "kernel_size": self.kernel,
            "stride": _each(strides, self.rank),
            "padding": padding,
            "dilation": _each(dilation_rate, self.rank),
            "bias": False,
            "layout": self.layout,
            "weight_layout": f"{self.letters}IO",
        }


def conv(
    inputs: Any,
    kernel: Any,
    strides: Any = 1,
    padding: str = "valid",
    data_format: str | None = None,
    dilation_rate: Any = 1,
) -> ConvSpec:
    call = _Call(inputs, kernel, data_format)
    groups = groups_of(call.channels, known("kernel", "I", call.sizes[-2]), "inputs")
    out = known("kernel", "O", call.sizes[-1])
    options = call.options(strides, padding, dilation_rate)
    return ConvSpec(call.channels, out, groups=groups, **options)


def depthwise_conv(
    inputs: Any,
    kernel: Any,
    strides: Any = 1,
    padding: str = "valid",
    data_format: str | None = None,
    dilation_rate: Any = 1,
) -> ConvSpec:
    call = _Call(inputs, kernel, data_format)
    return _depthwise_spec(call.sizes, **call.options(strides, padding, dilation_rate))


def separable_conv(
    inputs: Any,
    depthwise_kernel: Any,
    pointwise_kernel: Any,
    strides: Any = 1,
    padding: str = "valid",
    data_format: str | None = None,
    dilation_rate: Any = 1,
) -> tuple[ConvSpec, ConvSpec]:
    first = depthwise_conv(inputs, depthwise_kernel, strides, padding, data_format, dilation_rate)
    return first, pointwise(first, "pointwise_kernel", pointwise_kernel)


def conv_transpose(
    inputs: Any,
    kernel: Any,
    strides: Any = 1,
    padding: str = "valid",
    output_padding: Any = None,
    data_format: str | None = None,
    dilation_rate: Any = 1,
) -> ConvSpec:
    call = _Call(inputs, kernel, data_format)
    options = call.options(strides, padding, dilation_rate)
    extents = [extent(k, d) for k, d in zip(call.kernel, options["dilation"], strict=True)]
    extra = None if output_padding is None else _each(output_padding, call.rank)
    options["padding"], extra = transposed_amounts(padding, extra, extents, options["stride"])
    options["weight_layout"] = f"{call.letters}OI"
    out = known("kernel", "O", call.sizes[-2])
    return ConvSpec(call.channels, out, transposed=True, output_padding=extra, **options)


# ---- making layers ----


class KerasNative(Native):
    """Keras's layers and ``keras.ops``' calls."""

    name = "keras"
    convention = "keras"
    layers = {
        Conv: Conv.read,
        **{base: _conv(base, rank) for rank, base in enumerate(CONVS, 1)},
        **{base: _transposed(base, rank) for rank, base in enumerate(TRANSPOSED, 1)},
        **{base: _depthwise(base, rank) for rank, base in enumerate(DEPTHWISE, 1)},
        **{base: _separable(base, rank) for rank, base in enumerate(SEPARABLE, 1)},
    }
    calls = {
        keras.ops.conv: conv,
        keras.ops.conv_transpose: conv_transpose,
        keras.ops.depthwise_conv: depthwise_conv,
        keras.ops.separable_conv: separable_conv,
    }

    def stands_for_array(self, x: Any) -> bool:
        return isinstance(x, keras.KerasTensor)

    def record(
        self,
        spec: ConvSpec,
        arrays: Sequence[Any],
        output_size: Any,
        out_dtype: Any,
        backend: Any,
    ) -> Any:
        if backend is not None:
            raise UnsupportedError(
                f"backend: {shown(backend)} cannot take part in a symbolic Keras model, which runs "
                f"on {keras.backend.backend()}; leave out backend=."
            )
        return Convolution(spec, output_size=output_size, out_dtype=out_dtype)(*arrays)

    def target(self, spec: ConvSpec) -> ConvSpec:
        target = super().target(spec)
        if "M" in spec.weight_layout and spec.rank <= len(DEPTHWISE):
            return target.replace(weight_layout=f"{target.spatial}IM")
        return target

    def make(self, spec: ConvSpec, weight: Any, bias: Any) -> Any:
        if spec.rank > 3:
            raise cannot("kernel_size", f"Keras has ranks 1 to 3, not {spec.rank}")
        if max(spec.stride) > 1 and max(spec.dilation) > 1:
            rule = f"Keras has none beside a stride, got {spec.dilation} and {spec.stride}"
            raise cannot("dilation", rule)
        options: dict[str, Any] = {
            "kernel_size": spec.kernel_size,
            "strides": spec.stride,
            "dilation_rate": spec.dilation,
            "use_bias": spec.bias,
            "data_format": "channels_last",
            "dtype": weight.dtype.name,
        }
        if spec.transposed:
            if spec.groups > 1:
                rule = f"Keras has none when transposed, and there are {spec.groups}"
                raise cannot("groups", rule)
            options["padding"], options["output_padding"] = _transposed_words(spec)
            layer = TRANSPOSED[spec.rank - 1](spec.out_channels, **options)
        elif "M" in spec.weight_layout:
            options["padding"] = _word(spec, causal=False)
            multiplier = spec.out_channels // spec.in_channels
            layer = DEPTHWISE[spec.rank - 1](depth_multiplier=multiplier, **options)
        else:
            options["padding"] = _word(spec, causal=spec.rank == 1)
            layer = CONVS[spec.rank - 1](spec.out_channels, groups=spec.groups, **options)
        layer.build((None,) * (spec.rank + 1) + (spec.in_channels,))
        if spec.transposed and max(spec.dilation) > 1 and not _runs(layer, spec):
            rule = (
                f"Keras on {keras.backend.backend()} has none here when transposed, and this is "
                f"{spec.dilation}"
            )
            raise cannot("dilation", rule)
        layer.kernel.assign(weight)
        if bias is not None:
            layer.bias.assign(bias)
        return layer

    def padded(self, layer: Any, pairs: Sequence[Pair], mode: str, *, transposed: bool) -> Any:
        if mode != "zeros":
            raise cannot("padding_mode", f"Keras has no layer that pads by {mode!r}")
        if transposed:
            return keras.Sequential([layer, _beside(CROPS, pairs)])
        before = [_beside(PADS, pairs)]
        cropped = [(-lo, -hi) for lo, hi in pairs]
        if max(map(max, cropped)) > 0:
            before.append(_beside(CROPS, cropped))
        return keras.Sequential([*before, layer])


def _runs(layer: Any, spec: ConvSpec) -> bool:
    """Whether Keras's backend has the kernel: TensorFlow has some only with oneDNN or on a GPU."""
    try:
        layer(keras.ops.zeros((1,) * (spec.rank + 1) + (spec.in_channels,), layer.dtype))
    except Exception:  # each backend raises its own
        return False
    return True


def _beside(kinds: Sequence[Any], pairs: Sequence[Pair]) -> Any:
    """A layer that pads or crops by the amounts above 0."""
    amounts = tuple((max(lo, 0), max(hi, 0)) for lo, hi in pairs)
    if len(amounts) == 1:  # channels last alone, and the pair itself
        return kinds[0](amounts[0])
    return kinds[len(amounts) - 1](amounts, data_format="channels_last")


def _word(spec: ConvSpec, *, causal: bool) -> str:
    """Keras's word for the padding of a forward spec; equal amounts will do."""
    if spec.padding_mode != "zeros" and any(map(any, spelled_out(spec).padding)):
        rule = f"Keras pads with zeros only, and this is {spec.padding_mode!r}"
        raise cannot("padding_mode", rule)
    if set(spec.padding) == {"same"}:
        return "same"
    spelled = spelled_out(spec)
    words = {"valid": spec.replace(padding="valid")}
    if set(spec.stride) == {1}:
        words["same"] = spelled_out(spec.replace(padding="same"))
    if causal:
        words["causal"] = spec.replace(padding="causal")
    for word, other in words.items():
        if other.padding == spelled.padding:
            return word
    rule = f"Keras has only valid, same and, in 1-D, causal, and this is {spec.padding}"
    raise cannot("padding", rule, padding=True)


def _transposed_words(spec: ConvSpec) -> tuple[str, tuple[int, ...] | None]:
    """Keras's word and output padding for the crops of a transposed spec."""
    wanted = crops(spec)
    if crops(spec.replace(padding="same", output_padding=0)) == wanted:
        return "same", None
    extra = tuple(more for _, _, more in wanted)
    if any(lo or hi for lo, hi, _ in wanted):
        rule = f"Keras has only valid and same, and this crops {[pair[:2] for pair in wanted]}"
        raise cannot("padding", rule, padding=True)
    for i, (more, s) in enumerate(zip(extra, spec.stride, strict=True)):
        if more >= s:
            rule = f"Keras gives back less than the stride {s}, not {more}"
            raise cannot(f"output_padding[{i}] (axis {spec.spatial[i]})", rule)
    return "valid", extra


native = KerasNative()
