"""PyTorch's own layers and calls, read as specs; and layers made from specs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812  (PyTorch's own habit)
from torch import nn

from convspec import ConvSpec, ShapeError, UnsupportedError
from convspec.arguments import Pair
from convspec.layouts import default_spatial
from convspec.natives import Layer, Native, cannot, even_padding, known, overridden, sizes_of

from ._arrays import from_foreign
from ._layer import Conv

CONVS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
PADS: dict[str, Sequence[Any]] = {
    "zeros": (nn.ConstantPad1d, nn.ConstantPad2d, nn.ConstantPad3d),
    "reflect": (nn.ReflectionPad1d, nn.ReflectionPad2d, nn.ReflectionPad3d),
    "replicate": (nn.ReplicationPad1d, nn.ReplicationPad2d, nn.ReplicationPad3d),
    "circular": (nn.CircularPad1d, nn.CircularPad2d, nn.CircularPad3d),
}


# ---- layers ----


def _reader(base: type) -> Callable[[Any], Layer]:
    rank = int(base.__name__[-2])
    transposed = base in TRANSPOSED

    def read(layer: Any) -> Layer:
        overridden(layer, base, "forward", *(() if transposed else ("_conv_forward",)))
        if isinstance(layer.weight, nn.parameter.UninitializedParameter):
            raise UnsupportedError(
                f"layer: a {type(layer).__name__} does not know its channels yet; run one batch "
                f"through it first."
            )
        spec = ConvSpec(
            layer.in_channels,
            layer.out_channels,
            layer.kernel_size,
            layer.stride,
            layer.padding,
            layer.dilation,
            layer.groups,
            layer.bias is not None,
            layer.padding_mode,
            transposed=transposed,
            output_padding=layer.output_padding,
            layout=f"NC{default_spatial(rank)}",
        )
        return Layer(spec, layer.weight, layer.bias)

    return read


# ---- calls ----


def _spec(rank: int, transposed: bool, x: Any, weight: Any, bias: Any, **options: Any) -> ConvSpec:
    shape, sizes = sizes_of("input", x), sizes_of("weight", weight)
    if len(sizes) != rank + 2 or len(shape) not in (rank + 1, rank + 2):
        raise ShapeError(
            f"input: a {rank}-D convolution takes {rank + 1} or {rank + 2} axes and a weight of "
            f"{rank + 2}, got shapes {shape} and {sizes}."
        )
    # The first axis spans all groups: forward O, transposed I.
    first = known("weight", "I" if transposed else "O", sizes[0])
    second = known("weight", "O" if transposed else "I", sizes[1]) * options["groups"]
    for name in ("stride", "padding", "dilation", "output_padding"):
        options[name] = _each(options.get(name, 0), rank)
    _check_padding(options["padding"], options["stride"], transposed)
    return ConvSpec(
        first if transposed else second,
        second if transposed else first,
        tuple(known("weight", "space", n) for n in sizes[2:]),
        bias=bias is not None,
        transposed=transposed,
        layout=("NC" if len(shape) == rank + 2 else "C") + default_spatial(rank),
        **options,
    )


def _each(value: Any, rank: int) -> Any:
    """PyTorch takes a sequence of one for all axes."""
    if isinstance(value, (int, str)):
        return value
    return tuple(value) * rank if len(value) == 1 else tuple(value)


def _conv(rank: int) -> Callable[..., ConvSpec]:
    def read(
        input: Any,
        weight: Any,
        bias: Any = None,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
    ) -> ConvSpec:
        return _spec(
            *(rank, False, input, weight, bias),
            stride=stride,
            padding=padding,
            dilation=dilation,
            groups=groups,
        )

    return read


def _conv_transpose(rank: int) -> Callable[..., ConvSpec]:
    def read(
        input: Any,
        weight: Any,
        bias: Any = None,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        groups: int = 1,
        dilation: Any = 1,
    ) -> ConvSpec:
        return _spec(
            *(rank, True, input, weight, bias),
            stride=stride,
            padding=padding,
            output_padding=output_padding,
            dilation=dilation,
            groups=groups,
        )

    return read


def _check_padding(padding: Any, stride: Any, transposed: bool) -> None:
    """Refuse what a spec may say of padding and these calls may not."""
    if isinstance(padding, str) and not transposed:
        steps = (stride,) if isinstance(stride, int) else stride
        if padding not in ("same", "valid"):
            raise UnsupportedError(
                f"padding: torch.nn.functional has 'same' and 'valid', not {padding!r}."
            )
        if padding == "same" and any(step != 1 for step in steps):
            raise UnsupportedError(
                f"padding: torch.nn.functional has 'same' at stride 1 only, got stride {stride}.\n"
                f"  A ConvSpec with padding='same' has TensorFlow's, at every stride."
            )
        return
    amounts = (padding,) if isinstance(padding, (int, str)) else padding
    if any(isinstance(amount, (tuple, list, str)) or amount < 0 for amount in amounts):
        raise UnsupportedError(
            f"padding: torch.nn.functional takes amounts from 0 on, one for both ends of an axis; "
            f"got {padding!r}."
        )


# ---- making layers ----


class TorchNative(Native):
    """``torch.nn``'s layers and ``torch.nn.functional``'s calls."""

    name = "torch"
    convention = "torch"
    arrays_of = "torch"
    layers = {Conv: Conv.read, **{base: _reader(base) for base in (*CONVS, *TRANSPOSED)}}
    calls = {
        F.conv1d: _conv(1),
        F.conv2d: _conv(2),
        F.conv3d: _conv(3),
        F.conv_transpose1d: _conv_transpose(1),
        F.conv_transpose2d: _conv_transpose(2),
        F.conv_transpose3d: _conv_transpose(3),
    }

    def make(self, spec: ConvSpec, weight: Any, bias: Any) -> Any:
        if spec.rank > 3:
            raise cannot("kernel_size", f"torch.nn has ranks 1 to 3, not {spec.rank}")
        padding: Any = "same"
        output_padding = spec.output_padding
        if spec.transposed or set(spec.padding) != {"same"} or set(spec.stride) != {1}:
            limits = tuple(map(max, spec.stride, spec.dilation))
            padding, output_padding = even_padding(spec, "torch.nn", limits)
        options: dict[str, Any] = {
            "stride": spec.stride,
            "padding": padding,
            "dilation": spec.dilation,
            "groups": spec.groups,
            "bias": spec.bias,
        }
        if spec.transposed:
            options["output_padding"] = output_padding
        else:
            options["padding_mode"] = spec.padding_mode
        kind = (TRANSPOSED if spec.transposed else CONVS)[spec.rank - 1]
        values = _tensor(weight)
        # On the meta device nothing is drawn from the user's random numbers.
        layer = kind(
            spec.in_channels, spec.out_channels, spec.kernel_size, device="meta", **options
        )
        layer.weight = _parameter(values)
        if spec.bias:
            layer.bias = _parameter(
                values.new_zeros(spec.out_channels) if bias is None else _tensor(bias)
            )
        return layer

    def padded(self, layer: Any, pairs: Sequence[Pair], mode: str, *, transposed: bool) -> Any:
        if transposed:
            return nn.Sequential(layer, _pad([(-lo, -hi) for lo, hi in pairs], "zeros"))
        # Torch crops before it wraps around or reflects, so cropping is another layer's.
        added = [(max(lo, 0), max(hi, 0)) for lo, hi in pairs]
        cropped = [(min(lo, 0), min(hi, 0)) for lo, hi in pairs]
        before = [_pad(added, mode), _pad(cropped, "zeros")]
        return nn.Sequential(*(pad for pad in before if any(pad.padding)), layer)


def _pad(pairs: Sequence[Pair], mode: str) -> Any:
    amounts = tuple(amount for pair in reversed(pairs) for amount in pair)
    constant = (0.0,) if mode == "zeros" else ()
    return PADS[mode][len(pairs) - 1](amounts, *constant)


def _tensor(array: Any) -> torch.Tensor:
    """A copy that is a leaf of its own."""
    tensor = array if isinstance(array, torch.Tensor) else from_foreign(array)
    return tensor.detach().clone(memory_format=torch.contiguous_format)


def _parameter(values: torch.Tensor) -> nn.Parameter:
    """Integers cannot be trained, but they can be computed with."""
    return nn.Parameter(values, values.is_floating_point() or values.is_complex())


native = TorchNative()
