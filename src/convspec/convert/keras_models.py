"""What a Keras configuration says its layers are, and what its graph says of their features.

A configuration is JSON: nothing is built of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..arguments import shown
from ..layouts import default_spatial
from ..spec import ConvSpec
from .errors import ConvertError
from .flow import Flow, Value
from .kinds import KERNELS, Kind
from .model_layers import CLASSES, HERE, with_told

#: Layers that keep all axes, and those that change sizes of positions alone.
KEEPING = (
    *("Activation", "ReLU", "LeakyReLU", "ELU", "Softmax", "Dropout", "GaussianNoise", "Identity"),
    *("SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D", "GaussianDropout", "Rescaling"),
    *("AlphaDropout", "ActivityRegularization", "InputLayer", "UnitNormalization"),
)
RESIZING = (
    *(f"{name}Pooling{rank}D" for name in ("Max", "Average") for rank in (1, 2, 3)),
    *(f"{name}{rank}D" for name in ("ZeroPadding", "UpSampling", "Cropping") for rank in (1, 2, 3)),
)
POOLING = tuple(f"Global{name}Pooling{rank}D" for name in ("Max", "Average") for rank in (1, 2, 3))
ELEMENTWISE = ("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum")

Found = dict[str, tuple[Kind, ConvSpec | None]]


def kinds_of_config(config: Any) -> Found:
    """Kinds of the layers of a Keras configuration, by name.

    Raises:
        ConvertError: it is none.
    """
    found: Found = {}
    flow = Flow()
    try:
        flow.ended(*_Graph(config, "", flow, found).run([]))
    except (KeyError, TypeError, AttributeError, IndexError, ValueError, RecursionError) as error:
        raise ConvertError(f"model: is no Keras configuration: {shown(error)}.") from error
    return with_told(found, flow)


class _Graph:
    """A model inside a model, or the outermost one."""

    def __init__(self, config: Any, start: str, flow: Flow, found: Found) -> None:
        self.start, self.flow, self.found = start, flow, found
        self.config = config["config"]
        self.layers = self.config["layers"]
        self.values: dict[tuple[str, int], Value] = {}

    def run(self, inputs: Sequence[Value]) -> list[Value]:
        """Values that come out, of those that go in; the input layers' own where none do."""
        for layer in self.layers:
            self._note(layer)
        if any("inbound_nodes" in layer for layer in self.layers):
            return self._functional(inputs)
        x = inputs[0] if inputs else Value()
        for layer in self.layers:
            shape = (layer.get("build_config") or {}).get("input_shape")
            if layer["class_name"] == "InputLayer":
                x = x if inputs else _input(layer)
                continue
            if isinstance(shape, (list, tuple)) and not any(
                isinstance(n, (list, dict)) for n in shape
            ):
                x = x.sized(shape[1:])
            x = self._through(layer, [x])
        return [x]

    def _functional(self, inputs: Sequence[Value]) -> list[Value]:
        given = _ends(self.config.get("input_layers", []))
        for (name, _, _), value in zip(given, inputs, strict=False):
            self.values[name, 0] = value
        waiting = [
            (layer, i, node)
            for layer in self.layers
            for i, node in enumerate(layer["inbound_nodes"] or [None])
            if not (
                layer["class_name"] == "InputLayer" and (layer["config"]["name"], 0) in self.values
            )
        ]
        while waiting:
            left = []
            for layer, i, node in waiting:
                name = layer["config"]["name"]
                if node is None:
                    known = layer["class_name"] == "InputLayer"
                    self.values[name, i] = _input(layer) if known else Value()
                    continue
                sources = list(_tensors(node))
                if all((source, at) in self.values for source, at, _ in sources):
                    xs = [self.values[s, at].sized(shape[1:]) for s, at, shape in sources]
                    self.values[name, i] = self._through(layer, xs)
                else:
                    left.append((layer, i, node))
            if len(left) == len(waiting):
                break
            waiting = left
        ends = _ends(self.config.get("output_layers", []))
        return [self.values.get((name, i), Value()) for name, i, _ in ends]

    def _note(self, layer: Any) -> None:
        """The kind of a layer."""
        settings = layer["config"]
        path = self.start + settings["name"]
        kind = CLASSES.get(layer["class_name"])
        if kind in KERNELS:
            self.found[path] = _kernel_kind(kind, settings), None
        elif kind in ("batch_norm", "layer_norm"):
            parts = [p for p, key in (("weight", "scale"), ("bias", "center")) if settings[key]]
            parts += ["mean", "var"] if kind == "batch_norm" else []
            self.found[path] = Kind(kind, HERE, parts=tuple(parts)), None
        elif kind is not None:
            self.found[path] = Kind(kind, HERE), None

    def _through(self, layer: Any, inputs: list[Value]) -> Value:
        flow, settings, class_ = self.flow, layer["config"], layer["class_name"]
        path = self.start + settings["name"]
        if "layers" in settings:
            (y, *others) = _Graph(layer, f"{path}.", flow, self.found).run(inputs) or [Value()]
            return flow.lost(y, *others) if others else y
        if class_ in ELEMENTWISE:
            return flow.together(*inputs)
        if class_ == "Concatenate":
            axis = settings.get("axis", -1)
            return flow.joined(inputs, axis - 1 if axis > 0 else axis) if axis else Value()
        if len(inputs) != 1:
            return flow.lost(*inputs)
        x = inputs[0]
        kind = CLASSES.get(class_, "")
        if kind in KERNELS or class_.startswith("SeparableConv"):
            return flow.conv(x, *_conv(settings, x))
        if kind == "dense":
            return flow.dense(path, x, settings["units"])
        if class_ == "Embedding":
            return Value((*(x.axes or ()), (("F", settings["output_dim"]),))) if x.axes else Value()
        if kind == "prelu":
            alone = x.axes is not None and len(x.axes) == 1
            return flow.vector(path, x, -1) if alone or settings.get("shared_axes") else x
        if kind:
            axis = settings.get("axis", -1)
            axes = axis if isinstance(axis, list) else [axis]
            if len(axes) > 1:
                return flow.block(path, x, len(axes))
            return flow.vector(path, x, axes[0] - 1 if axes[0] > 0 else axes[0])
        if class_ in RESIZING:
            return flow.resized(x)
        if class_ in POOLING:
            return flow.resized(x) if settings.get("keepdims") else flow.pooled(x)
        if class_ == "Flatten":
            if settings.get("data_format") == "channels_first" and x.axes is not None:
                x = flow.permuted(x, [*range(1, len(x.axes)), 0])  # Keras moves channels last
            return flow.flat(x)
        if class_ == "Permute":
            return flow.permuted(x, [n - 1 for n in settings["dims"]])
        if class_ == "Reshape":
            return flow.shaped(x, settings["target_shape"])
        return x if class_ in KEEPING else flow.lost(x)


def _conv(settings: Mapping[str, Any], x: Value) -> tuple[str, int | None]:
    """Letters of a convolution's output, and its channels."""
    rank = len(settings["kernel_size"])
    first = settings.get("data_format") == "channels_first"
    letters = default_spatial(rank)
    channels = settings.get("filters")
    if channels is None and x.axes:
        before = x.axes[0 if first else -1][0][1]
        channels = None if before is None else before * settings["depth_multiplier"]
    return (f"C{letters}" if first else f"{letters}C"), channels


def _input(layer: Any) -> Value:
    shape = layer["config"].get("batch_shape") or layer["config"].get("batch_input_shape") or []
    return Value(tuple((("?", n),) for n in shape[1:])) if shape else Value()


def _ends(found: Any) -> list[Any]:
    """Input or output layers: one, or a list of them, each a name and two numbers."""
    if found and isinstance(found[0], str):
        return [found]
    return [end for end in found if isinstance(end, (list, tuple)) and len(end) == 3]


def _tensors(node: Any) -> list[tuple[str, int, Any]]:
    """The tensors that a node takes: layer, number of the call, shape."""
    found: list[tuple[str, int, Any]] = []
    waiting = [node.get("args", []), node.get("kwargs", {})]
    while waiting:
        item = waiting.pop(0)
        if isinstance(item, Mapping):
            if item.get("class_name") == "__keras_tensor__":
                name, number, _ = item["config"]["keras_history"]
                found.append((name, number, item["config"]["shape"]))
            else:
                waiting = [*item.values(), *waiting]
        elif isinstance(item, (list, tuple)):
            waiting = [*item, *waiting]
    return found


def _kernel_kind(kind: str, settings: Mapping[str, Any]) -> Kind:
    arguments: dict[str, Any] = {
        "stride": tuple(settings["strides"]),
        "padding": settings["padding"],
        "dilation": tuple(settings["dilation_rate"]),
    }
    if kind == "conv" and settings.get("groups", 1) != 1:
        arguments["groups"] = settings["groups"]
    if kind == "conv_transpose":  # Keras' valid output is longer where the stride is
        return Kind(kind, HERE)
    return Kind(kind, HERE, arguments, complete=True)
