"""A chain of convolutions with activations in between, as objects and as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .. import weights as orders
from ..arguments import shown
from ..convert.errors import ConvertError
from ..convert.files import CHECKPOINTS, format_of, open_file
from ..errors import ConvSpecError, LayoutError
from ..layouts import reorder
from ..problem import Problem, resolve
from ..spec import ConvSpec
from .activations import Activation

#: Version of the JSON form; what is said of :data:`convspec.serial.FORMAT_VERSION` holds here.
FORMAT_VERSION = "1.0"
#: Longest description that is read.
LARGEST = 2**24


@dataclass(frozen=True)
class Layer:
    """One convolution of a chain, and what follows it.

    Attributes:
        spec: the convolution.
        weight: name of its weight, which lies in the spec's own order.
        bias: name of its bias, or None.
        activation: what is applied to its result.
        output_size: transposed only: as in a call.
    """

    spec: ConvSpec
    weight: str = "weight"
    bias: str | None = None
    activation: Activation = field(default_factory=Activation)
    output_size: tuple[int, ...] | None = None

    def to_value(self) -> dict[str, Any]:
        """As in a description, ready for JSON."""
        return {
            "spec": self.spec.to_dict(),
            "weight": self.weight,
            "bias": self.bias,
            "activation": self.activation.to_value(),
            "output_size": None if self.output_size is None else list(self.output_size),
        }


Arrays = tuple[np.ndarray[Any, Any], "np.ndarray[Any, Any] | None"]


def read_chain(path: str | Path) -> tuple[Layer, ...]:
    """The chain that a JSON file describes.

    It holds one spec, as :meth:`ConvSpec.to_dict` gives it, or a list of layers, alone or under
    ``"layers"`` beside a ``"format_version"``. A layer has a ``"spec"``, names of its
    ``"weight"`` and ``"bias"``, an ``"activation"`` and an ``"output_size"``.

    Raises:
        ConvertError: the file cannot be read, or is no JSON.
        ConvSpecError: what it says makes no chain; the message names the layer.
    """
    path = Path(path)
    try:
        with path.open("rb") as stream:
            text = stream.read(LARGEST + 1)
        values = json.loads(text.decode()) if len(text) <= LARGEST else None
    except OSError as error:
        raise ConvertError(f"{path}: cannot be read: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise ConvertError(f"{path}: is no JSON: {error}.") from error
    try:
        return as_chain(values)
    except ConvSpecError as error:
        raise type(error)(f"{path}: {error}") from error


def as_chain(values: Any) -> tuple[Layer, ...]:
    """A chain from a spec, a layer, a sequence of them, or what JSON gives for these.

    Raises:
        ConvSpecError: it is none; the message names the layer.
    """
    if isinstance(values, Mapping) and "layers" in values:
        unknown = sorted(map(str, set(values) - {"layers", "format_version"}))
        if unknown:
            raise ConvSpecError(f"chain: unknown keys {', '.join(unknown)}.")
        version = str(values.get("format_version", FORMAT_VERSION))
        if version.split(".")[0] != FORMAT_VERSION.split(".")[0]:
            raise ConvSpecError(
                f"chain: format version {version} is not {FORMAT_VERSION}; update convspec."
            )
        values = values["layers"]
    if isinstance(values, (ConvSpec, Layer)) or _is_spec(values):
        return (_layer(values),)
    if not isinstance(values, Sequence) or isinstance(values, str) or not values:
        raise ConvSpecError(f"chain: expected a spec or a list of layers, got {shown(values)}.")
    layers = []
    for i, value in enumerate(values):
        try:
            layers.append(_layer(value))
        except ConvSpecError as error:
            raise type(error)(f"layer {i}: {error}") from error
    return tuple(layers)


def _is_spec(value: Any) -> bool:
    return isinstance(value, Mapping) and "in_channels" in value


def _layer(value: Any) -> Layer:
    if isinstance(value, Layer):
        return value
    if isinstance(value, ConvSpec) or _is_spec(value):
        spec = value if isinstance(value, ConvSpec) else ConvSpec.from_dict(value)
        return Layer(spec, bias="bias" if spec.bias else None)
    if not isinstance(value, Mapping) or "spec" not in value:
        raise ConvSpecError(f"expected a mapping with a 'spec', got {shown(value)}.")
    unknown = sorted(map(str, set(value) - set(Layer.__dataclass_fields__)))
    if unknown:
        raise ConvSpecError(
            f"unknown keys {', '.join(unknown)}; known are {', '.join(Layer.__dataclass_fields__)}."
        )
    if not _is_spec(value["spec"]) and not isinstance(value["spec"], ConvSpec):
        raise ConvSpecError(f"spec: expected what ConvSpec.to_dict gives, got {value['spec']!r}.")
    plain = _layer(value["spec"])
    weight, bias = value.get("weight", plain.weight), value.get("bias")
    for name, given in (("weight", weight), ("bias", bias)):
        if not isinstance(given, str) and not (name == "bias" and given is None):
            raise ConvSpecError(f"{name}: expected the name of an array, got {shown(given)}.")
    if (bias is not None) != plain.spec.bias:
        raise ConvSpecError(
            f"bias: the spec has bias={plain.spec.bias}, but "
            + ("no bias is named." if bias is None else f"{bias!r} is named.")
            + "\n  Name one, or set the spec's bias to false."
        )
    size = value.get("output_size")
    if size is not None and not isinstance(size, (list, tuple)):
        size = (size,) * plain.spec.rank
    activation = Activation.of(value.get("activation"))
    return Layer(plain.spec, weight, bias, activation, None if size is None else tuple(size))


def problems(layers: Sequence[Layer], input_shape: Sequence[int]) -> list[Problem]:
    """Each layer's problem, for an input of a shape in the first one's ``layout``.

    Raises:
        LayoutError: the axes of one layer's output are not those of the next one's input.
        ShapeError: sizes or channels do not fit; the message names the layer.
    """
    found: list[Problem] = []
    shape = tuple(input_shape)
    for i, layer in enumerate(layers):
        if found:
            before = found[-1].output_layout
            if sorted(before) != sorted(layer.spec.layout):
                raise LayoutError(
                    f"layer {i}: its layout is {layer.spec.layout!r}, but layer {i - 1} gives "
                    f"{before!r}; both need the same letters."
                )
            shape = reorder(found[-1].output_shape, before, layer.spec.layout)
        try:
            found.append(resolve(layer.spec, shape, layer.output_size))
        except ConvSpecError as error:
            raise type(error)(f"layer {i}: {error}") from error
    return found


def read_arrays(
    layers: Sequence[Layer], weights: str | Path | Mapping[str, Any], dtype: str | None
) -> tuple[list[Arrays], str]:
    """Weight and bias of each layer, checked and of one element type, and that type.

    A single layer's weight may have any name if it is alone in its file.

    Args:
        layers: the chain.
        weights: a file of any format of checkpoints, or arrays by name.
        dtype: element type to convert them to; default: their own.

    Raises:
        ConvertError: the file cannot be read, or lacks an array.
        ShapeError: an array has not the shape that the spec says.
        DTypeError: they are of different types, and ``dtype`` does not say which.
    """
    from ..dtypes import name_of, numpy_dtype
    from ..errors import DTypeError

    by_name = dict(weights) if isinstance(weights, Mapping) else _read_all(layers, Path(weights))
    if len(layers) == 1 and len(by_name) == 1 and layers[0].bias is None:
        by_name[layers[0].weight] = next(iter(by_name.values()))
    found: list[Arrays] = []
    types: dict[str, str] = {}
    for i, layer in enumerate(layers):
        pair: list[Any] = []
        for name in (layer.weight, layer.bias):
            if name is None:
                pair.append(None)
                continue
            if name not in by_name:
                held = ", ".join(list(by_name)[:10]) or "none"
                raise ConvertError(f"layer {i}: weights hold no array {name!r}, but: {held}.")
            array = np.asarray(by_name[name])
            types.setdefault(name_of(array.dtype, f"layer {i}: {name}"), name)
            pair.append(array)
        try:
            orders.check_shape(layer.weight, pair[0].shape, layer.spec)
            if pair[1] is not None:
                orders.check_bias(pair[1].shape, layer.spec)
        except ConvSpecError as error:
            raise type(error)(f"layer {i}: {error}") from error
        found.append((pair[0], pair[1]))
    if dtype is None and len(types) > 1:
        told = ", ".join(f"{name} is {kind}" for kind, name in types.items())
        raise DTypeError(
            f"weights: of different types: {told}.\n  Say what to compute in: dtype='float32' "
            f"(--dtype float32)."
        )
    dtype = name_of(dtype) if dtype is not None else next(iter(types))
    for i, layer in enumerate(layers):
        try:
            layer.activation.check(dtype)
        except DTypeError as error:
            raise DTypeError(f"layer {i}: {error}") from error
    into = numpy_dtype(dtype)
    return [
        tuple(None if a is None else np.ascontiguousarray(a, into) for a in pair)  # type: ignore[misc]
        for pair in found
    ], dtype


def _read_all(layers: Sequence[Layer], path: Path) -> dict[str, Any]:
    """The arrays of a file that a chain names, or the only one."""
    if path.exists() and format_of(path) not in (*CHECKPOINTS, "npy"):
        raise ConvertError(f"{path}: is no file of weights; give .safetensors, .npz, .pt or so.")
    named = {name for layer in layers for name in (layer.weight, layer.bias) if name is not None}
    with open_file(path) as reader:
        wanted = [name for name in reader.entries if name in named or len(reader.entries) == 1]
        found = {name: np.array(reader.read(name)) for name in wanted}
        return found | {name: None for name in reader.entries if name not in found}
