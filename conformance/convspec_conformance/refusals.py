"""Calls that a target must refuse, each with one thing wrong and the error that says so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from convspec import ConvSpec, DTypeError, LayoutError, ShapeError

from . import fillings
from .cases import Case


@dataclass(frozen=True)
class Refusal:
    """A wrong call: the arguments of ``target.run``, and the error that it must raise."""

    arguments: tuple[Any, ...]
    error: type[Exception]
    options: dict[str, Any] = field(default_factory=dict)


#: Wrong calls that forward convolutions alone have, and transposed ones alone.
FORWARD = (
    *("kernel_too_large", "dilation_too_large"),
    *("padding_reach", "circular_reach", "named_reach"),
)
TRANSPOSED = ("output_size_near", "output_size_twice", "output_size_axes", "output_size_float")


def applies(case: Case) -> bool:
    """Whether the wrong call can be made of a case's spec."""
    spec = case.spec
    if case.wrong in (TRANSPOSED if not spec.transposed else FORWARD):
        return False
    single = {
        "one_channel": spec.in_channels == 1,
        "bias_single": spec.out_channels == 1,
        "weight_single": spec.weight_shape[_outputs(spec)] == 1,
    }
    if single.get(case.wrong):  # right as it is
        return False
    plain = case.output_size is None and case.out_dtype is None and 0 not in case.input_shape
    return plain and case.dtype == "float32"


def call(case: Case) -> Refusal:
    """The wrong call of a case whose judge is ``refusal``."""
    x, w, b = fillings.arrays(case)
    return WRONG[case.wrong](case.spec, x, w, b)


def _axes(spec: ConvSpec, x: Any, w: Any, b: Any) -> Refusal:
    return Refusal((spec, x[..., None], w, b), LayoutError)


def _leading_axis(spec: ConvSpec, x: Any, w: Any, b: Any) -> Refusal:
    """A batch of batches, which some engines flatten."""
    return Refusal((spec, x[None], w, b), LayoutError)


def _missing_axis(spec: ConvSpec, x: Any, w: Any, b: Any) -> Refusal:
    """A sample without its batch axis (or a line of a sample), which some engines batch again."""
    return Refusal((spec, x.take(0, max(spec.layout.find("N"), 0)), w, b), LayoutError)


def _channels(spec: ConvSpec, x: Any, w: Any, b: Any) -> Refusal:
    """Twice the channels, which many engines take for two groups."""
    return Refusal((spec, np.concatenate([x, x], spec.layout.index("C")), w, b), ShapeError)


def _one_channel(spec: ConvSpec, x: Any, w: Any, b: Any) -> Refusal:
    """The first channel alone, which would broadcast."""
    return Refusal((spec, x.take([0], spec.layout.index("C")), w, b), ShapeError)


def _no_channels(spec: ConvSpec, x: Any, w: Any, b: Any) -> Refusal:
    return Refusal((spec, x.take([], spec.layout.index("C")), w, b), ShapeError)


def _weight_axes(spec: ConvSpec, x: Any, w: Any, b: Any) -> Refusal:
    return Refusal((spec, x, w[..., None], b), ShapeError)


def _weight_order(spec: ConvSpec, x: Any, w: Any, b: Any) -> Refusal:
    """One axis too long, as in a weight of another order."""
    return Refusal((spec, x, np.concatenate([w, w], 0), b), ShapeError)


def _weight_taps(spec: ConvSpec, x: Any, w: Any, b: Any) -> Refusal:
    """One tap more than kernel_size says."""
    at = spec.weight_layout.index(spec.spatial[-1])
    return Refusal((spec, x, np.concatenate([w, w.take([0], at)], at), b), ShapeError)


def _weight_single(spec: ConvSpec, x: Any, w: Any, b: Any) -> Refusal:
    """The first output channel alone, which would broadcast."""
    return Refusal((spec, x, w.take([0], _outputs(spec)), b), ShapeError)


def _outputs(spec: ConvSpec) -> int:
    """The weight's axis of output channels."""
    return spec.weight_layout.replace("M", "O").index("O")


def _bias_length(spec: ConvSpec, x: Any, w: Any, b: Any) -> Refusal:
    bias = np.zeros(spec.out_channels + 1, x.dtype)
    return Refusal((spec.replace(bias=True), x, w, bias), ShapeError)


def _bias_single(spec: ConvSpec, x: Any, w: Any, b: Any) -> Refusal:
    """One number, which would broadcast."""
    return Refusal((spec.replace(bias=True), x, w, np.zeros(1, x.dtype)), ShapeError)


def _bias_axes(spec: ConvSpec, x: Any, w: Any, b: Any) -> Refusal:
    """One row of numbers, which would broadcast."""
    bias = np.zeros((1, spec.out_channels), x.dtype)
    return Refusal((spec.replace(bias=True), x, w, bias), ShapeError)


def _bias_unwanted(spec: ConvSpec, x: Any, w: Any, b: Any) -> Refusal:
    bias = np.zeros(spec.out_channels, x.dtype)
    return Refusal((spec.replace(bias=False), x, w, bias), ShapeError)


def _weight_dtype(spec: ConvSpec, x: Any, w: Any, b: Any) -> Refusal:
    other = "float16" if x.dtype == np.float32 else "float32"
    return Refusal((spec, x, w.astype(other), b), DTypeError)


def _bias_dtype(spec: ConvSpec, x: Any, w: Any, b: Any) -> Refusal:
    other = "float16" if x.dtype == np.float32 else "float32"
    bias = np.zeros(spec.out_channels, other)
    return Refusal((spec.replace(bias=True), x, w, bias), DTypeError)


def _empty_axis(spec: ConvSpec, x: Any, w: Any, b: Any) -> Refusal:
    """No position on the first spatial axis, which TensorFlow answers with stale memory."""
    return Refusal((spec, x.take([], spec.layout.index(spec.spatial[0])), w, b), ShapeError)


def _kernel_too_large(spec: ConvSpec, x: Any, w: Any, b: Any) -> Refusal:
    plain = spec.replace(padding=0, transposed=False, output_padding=0, bias=False)
    at = plain.layout.index(plain.spatial[0])
    large = plain.replace(kernel_size=(x.shape[at] + 1, *plain.kernel_size[1:]))
    return Refusal((large, x, np.ones(large.weight_shape, x.dtype), None), ShapeError)


def _dilation_too_large(spec: ConvSpec, x: Any, w: Any, b: Any) -> Refusal:
    """A kernel of two on the first axis, with as many steps between them as there are positions."""
    plain = spec.replace(padding=0, bias=False)
    n = x.shape[plain.layout.index(plain.spatial[0])]
    large = plain.replace(
        kernel_size=(2, *plain.kernel_size[1:]), dilation=(n, *plain.dilation[1:])
    )
    return Refusal((large, x, np.ones(large.weight_shape, x.dtype), None), ShapeError)


def _padding_reach(spec: ConvSpec, x: Any, w: Any, b: Any) -> Refusal:
    """Reflecting by as many positions as there are."""
    n = x.shape[spec.layout.index(spec.spatial[0])]
    padding = ((n, 0), *[(0, 0)] * (spec.rank - 1))
    return Refusal((spec.replace(padding=padding, padding_mode="reflect"), x, w, b), ShapeError)


def _circular_reach(spec: ConvSpec, x: Any, w: Any, b: Any) -> Refusal:
    """Going round more than once."""
    n = x.shape[spec.layout.index(spec.spatial[0])]
    padding = ((n + 1, 0), *[(0, 0)] * (spec.rank - 1))
    return Refusal((spec.replace(padding=padding, padding_mode="circular"), x, w, b), ShapeError)


def _named_reach(spec: ConvSpec, x: Any, w: Any, b: Any) -> Refusal:
    """Amounts that "same" comes to, and that no reflection reaches."""
    n = x.shape[spec.layout.index(spec.spatial[0])]
    rest = (1,) * (spec.rank - 1)
    wide = spec.replace(
        kernel_size=(2 * n + 1, *rest),
        stride=1,
        dilation=1,
        padding=("same", *[(0, 0)] * (spec.rank - 1)),
        padding_mode="reflect",
        bias=False,
    )
    return Refusal((wide, x, np.ones(wide.weight_shape, x.dtype), None), ShapeError)


def _overcropped(spec: ConvSpec, x: Any, w: Any, b: Any) -> Refusal:
    """Cropping all that there is on the first axis: the input's, transposed the output's."""
    n = x.shape[spec.layout.index(spec.spatial[0])]
    all_of_it = (n - 1) * spec.stride[0] + spec.receptive_field[0] if spec.transposed else -n
    padding = ((all_of_it, 0), *[(0, 0)] * (spec.rank - 1))
    cropped = spec.replace(padding=padding, output_padding=0, padding_mode="zeros")
    return Refusal((cropped, x, w, b), ShapeError)


def _output_size(spec: ConvSpec, x: Any, w: Any, b: Any) -> Refusal:
    """On a forward convolution; on a transposed one, far too large."""
    return Refusal((spec, x, w, b), ShapeError, {"output_size": (10_000,) * spec.rank})


def _without_extra(spec: ConvSpec) -> ConvSpec:
    """Without output padding, and without crops that it made up for."""
    return spec.replace(output_padding=0, padding=0) if any(spec.output_padding) else spec


def _sizes(spec: ConvSpec, x: Any) -> list[int]:
    """The spatial size of the output by default."""
    shape = dict(zip(spec.output_layout, spec.output_shape(x.shape), strict=True))
    return [shape[letter] for letter in spec.spatial]


def _output_size_near(spec: ConvSpec, x: Any, w: Any, b: Any) -> Refusal:
    """On the first axis one position more than any that the forward convolution maps here."""
    plain = _without_extra(spec)
    first, *rest = _sizes(plain, x)
    named = isinstance(plain.padding[0], str)  # of which the default is the largest
    size = (first + (1 if named else spec.stride[0]), *rest)
    return Refusal((plain, x, w, b), ShapeError, {"output_size": size})


def _output_size_twice(spec: ConvSpec, x: Any, w: Any, b: Any) -> Refusal:
    """Beside an output padding that says the same."""
    strided = spec.replace(stride=2, padding=0, output_padding=1)
    size = tuple(_sizes(strided, x))
    return Refusal((strided, x, w, b), ShapeError, {"output_size": size})


def _output_size_axes(spec: ConvSpec, x: Any, w: Any, b: Any) -> Refusal:
    """The whole shape instead of the spatial sizes."""
    plain = _without_extra(spec)
    return Refusal((plain, x, w, b), ShapeError, {"output_size": plain.output_shape(x.shape)})


def _output_size_float(spec: ConvSpec, x: Any, w: Any, b: Any) -> Refusal:
    """The right sizes, as floats."""
    plain = _without_extra(spec)
    size = tuple(map(float, _sizes(plain, x)))
    return Refusal((plain, x, w, b), ShapeError, {"output_size": size})


def _bool_array(spec: ConvSpec, x: Any, w: Any, b: Any) -> Refusal:
    return Refusal((spec.replace(bias=False), x.astype(bool), w.astype(bool), None), DTypeError)


def _lossy_out_dtype(spec: ConvSpec, x: Any, w: Any, b: Any) -> Refusal:
    """A real result of complex arrays."""
    given = (None if a is None else a.astype("complex64") for a in (x, w, b))
    return Refusal((spec, *given), DTypeError, {"out_dtype": "float32"})


def _integer_out_dtype(spec: ConvSpec, x: Any, w: Any, b: Any) -> Refusal:
    """An integer result of real numbers."""
    return Refusal((spec, x, w, b), DTypeError, {"out_dtype": "int32"})


WRONG: dict[str, Callable[[ConvSpec, Any, Any, Any], Refusal]] = {
    "axes": _axes,
    "leading_axis": _leading_axis,
    "missing_axis": _missing_axis,
    "channels": _channels,
    "one_channel": _one_channel,
    "no_channels": _no_channels,
    "weight_axes": _weight_axes,
    "weight_order": _weight_order,
    "weight_taps": _weight_taps,
    "weight_single": _weight_single,
    "bias_length": _bias_length,
    "bias_single": _bias_single,
    "bias_axes": _bias_axes,
    "bias_unwanted": _bias_unwanted,
    "weight_dtype": _weight_dtype,
    "bias_dtype": _bias_dtype,
    "empty_axis": _empty_axis,
    "kernel_too_large": _kernel_too_large,
    "dilation_too_large": _dilation_too_large,
    "padding_reach": _padding_reach,
    "circular_reach": _circular_reach,
    "named_reach": _named_reach,
    "overcropped": _overcropped,
    "output_size": _output_size,
    "output_size_near": _output_size_near,
    "output_size_twice": _output_size_twice,
    "output_size_axes": _output_size_axes,
    "output_size_float": _output_size_float,
    "bool_array": _bool_array,
    "lossy_out_dtype": _lossy_out_dtype,
    "integer_out_dtype": _integer_out_dtype,
}
