"""What a model says its layers are: a live one, an ONNX graph, or a Keras configuration."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ..arguments import shown
from ..errors import ConvSpecError
from ..layouts import default_spatial
from ..spec import ConvSpec
from .errors import ConvertError, package
from .files.hdf5 import KerasReader
from .files.onnx import load_graph
from .kinds import KERNELS, Flatten, Kind
from .onnx_graphs import kinds_of_graph

#: Kinds and specs by layer or tensor.
Found = dict[str, tuple[Kind, ConvSpec | None]]
HERE = "model"

#: Classes of layers of all frameworks, and their kinds. Names, not types: nothing is imported.
CLASSES = {
    **{f"Conv{rank}d": "conv" for rank in (1, 2, 3)},
    **{f"ConvTranspose{rank}d": "conv_transpose" for rank in (1, 2, 3)},
    **{f"Conv{rank}D": "conv" for rank in (1, 2, 3)},
    **{f"Conv{rank}DTranspose": "conv_transpose" for rank in (1, 2, 3)},
    **{f"DepthwiseConv{rank}D": "depthwise" for rank in (1, 2)},
    "Conv": "conv",
    "ConvTranspose": "conv_transpose",
    **dict.fromkeys(("Linear", "Dense"), "dense"),
    **{f"BatchNorm{rank}d": "batch_norm" for rank in (1, 2, 3)},
    **dict.fromkeys(("BatchNorm", "BatchNormalization", "SyncBatchNorm"), "batch_norm"),
    **dict.fromkeys(("LayerNorm", "LayerNormalization"), "layer_norm"),
    **dict.fromkeys(("GroupNorm", "GroupNormalization"), "group_norm"),
    **{f"InstanceNorm{rank}d": "instance_norm" for rank in (1, 2, 3)},
    **dict.fromkeys(("RMSNorm", "RMSNormalization"), "rms_norm"),
    "PReLU": "prelu",
    **dict.fromkeys(("Embedding", "Embed"), "embedding"),
}
#: Layers between a convolution and a flatten, or a flatten and a dense layer, that keep the order
#: of all elements and the number of channels.
KEEPING = (
    *("ReLU", "ReLU6", "LeakyReLU", "PReLU", "ELU", "SELU", "GELU", "SiLU", "Sigmoid", "Tanh"),
    *("Identity", "Activation", "Softmax", "Hardswish"),
    *(f"{name}{rank}d" for name in ("Dropout", "BatchNorm", "InstanceNorm") for rank in (1, 2, 3)),
    *("Dropout", "GroupNorm", "BatchNormalization", "SpatialDropout2D"),
    *(f"{name}Pool{rank}d" for name in ("Max", "Avg") for rank in (1, 2, 3)),
    *(f"{name}Pooling{rank}D" for name in ("Max", "Average") for rank in (1, 2, 3)),
    *(f"{name}{rank}D" for name in ("ZeroPadding", "UpSampling", "Cropping") for rank in (1, 2, 3)),
    *(f"Adaptive{name}Pool{rank}d" for name in ("Max", "Avg") for rank in (1, 2, 3)),
)


def kinds(model: Any) -> Found:
    """Kinds and specs by layer or tensor, as a model tells them.

    Args:
        model: None; the path of an ``.onnx`` or ``.keras`` file; an ONNX model; a
            ``torch.nn.Module``; a Keras model; a Flax NNX module.

    Raises:
        ConvertError: it is none of these, or cannot be read.
    """
    if model is None:
        return {}
    if isinstance(model, (str, Path)):
        return _of_file(Path(model))
    roots = [base.__module__.split(".")[0] for base in type(model).__mro__]
    for root, read in READERS.items():
        if root in roots:
            return read(model)
    raise ConvertError(
        f"model: expected a path or a model of {', '.join(READERS)}, got {shown(model)}."
    )


def _of_file(path: Path) -> Found:
    if path.suffix == ".onnx":
        return kinds_of_graph(load_graph(path))
    if path.suffix == ".keras":
        reader = KerasReader(path)
        reader.close()
        return _of_config(reader.config)
    raise ConvertError(f"model: {path} is neither an .onnx nor a .keras file.")


def _class(layer: Any) -> str:
    """The first class of a layer, or of its bases, that is known."""
    names = [base.__name__ for base in type(layer).__mro__]
    return next((name for name in names if name in CLASSES), names[0])


def _live(layer: Any, class_: str) -> tuple[Kind, ConvSpec | None]:
    """Kind and spec of a live layer."""
    name = CLASSES[class_]
    if name not in KERNELS:
        return Kind(name, HERE), None
    try:
        spec = ConvSpec.from_native(layer)
    except ConvSpecError:  # known by its class alone
        return Kind(name, HERE), None
    if not isinstance(spec, ConvSpec):
        return Kind(name, HERE), None
    return Kind(name, HERE, complete=True), spec


# ---- torch ----


def _of_torch(model: Any) -> Found:
    found: Found = {}
    for path, module in model.named_modules():
        class_ = _class(module)
        if class_ in CLASSES:
            found[path] = _live(module, class_)
    for path, module in model.named_modules():
        if type(module).__name__ == "Sequential":
            found |= _flattened(list(_leaves(path, module)), found)
    return found


def _leaves(path: str, module: Any) -> Iterator[tuple[str, Any]]:
    """The layers of a Sequential, of those inside it too, in the order they run in."""
    for name, child in module.named_children():
        inner = f"{path}.{name}" if path else name
        if type(child).__name__ == "Sequential":
            yield from _leaves(inner, child)
        else:
            yield inner, child


def _flattened(leaves: list[tuple[str, Any]], found: Found) -> Found:
    """Dense layers of a Sequential that stand behind a Flatten, and those that do not."""
    told: Found = {}
    channels: int | None = None
    flattened = False
    for path, layer in leaves:
        class_ = _class(layer)
        if CLASSES.get(class_) in KERNELS:
            channels, flattened = int(layer.out_channels), False
        elif class_ == "Flatten":
            flattened = True
        elif class_ == "Linear":
            if flattened and channels is not None:
                told[path] = Kind("dense", HERE, flatten=channels), None
            elif not flattened and path in found and told:
                told[path] = Kind("dense", HERE, flatten=False), None
            channels, flattened = None, False
        elif class_ not in KEEPING:
            channels = None
    return told


# ---- Keras ----


def _of_keras(model: Any) -> Found:
    import json

    return _of_config(json.loads(model.to_json()))


def _of_config(config: Any) -> Found:
    """Kinds of the layers of a Keras configuration, by name.

    Raises:
        ConvertError: it is none.
    """
    try:
        return dict(_config_layers(config, ""))
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ConvertError(f"model: is no Keras configuration: {shown(error)}.") from error


def _config_layers(config: Any, start: str) -> Iterator[tuple[str, tuple[Kind, None]]]:
    layers = config["config"]["layers"]
    inputs = _inputs(layers)
    by_name = {layer["config"]["name"]: layer for layer in layers}
    for layer in layers:
        settings, name = layer["config"], layer["config"]["name"]
        if "layers" in settings:
            yield from _config_layers(layer, f"{start}{name}.")
            continue
        kind = CLASSES.get(layer["class_name"])
        if kind in KERNELS:
            yield start + name, (_kernel_kind(kind, settings), None)
        elif kind == "dense":
            flatten = _flatten_before(name, inputs, by_name)
            yield start + name, (Kind("dense", HERE, flatten=flatten), None)
        elif kind == "batch_norm":
            parts = [p for p, key in (("weight", "scale"), ("bias", "center")) if settings[key]]
            yield start + name, (Kind(kind, HERE, parts=(*parts, "mean", "var")), None)
        elif kind == "layer_norm":
            parts = [p for p, key in (("weight", "scale"), ("bias", "center")) if settings[key]]
            yield start + name, (Kind(kind, HERE, parts=tuple(parts)), None)
        elif kind is not None:
            yield start + name, (Kind(kind, HERE), None)


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


def _inputs(layers: list[Any]) -> dict[str, list[str]]:
    """The layers in front of each layer."""
    found: dict[str, list[str]] = {}
    before: str | None = None
    for layer in layers:
        name = layer["config"]["name"]
        if "inbound_nodes" in layer:
            text = repr(layer["inbound_nodes"])
            others = [other["config"]["name"] for other in layers]
            found[name] = [other for other in others if f"'keras_history': ['{other}'," in text]
        else:
            found[name] = [] if before is None else [before]
        before = name
    return found


def _flatten_before(
    name: str, inputs: Mapping[str, list[str]], layers: Mapping[str, Any]
) -> Flatten | int | bool | None:
    """The flatten in front of a dense layer; False if there is none, None if that is unclear."""
    for _ in layers:
        before = inputs.get(name, [])
        if len(before) != 1:
            return None
        name = before[0]
        class_ = layers[name]["class_name"]
        if class_ in ("Dense", "GlobalAveragePooling2D", "GlobalMaxPooling2D", "InputLayer"):
            return False
        if class_ == "Flatten":
            shape = (layers[name].get("build_config") or {}).get("input_shape") or ()
            sizes = tuple(shape[1:])
            if len(sizes) == 1:
                return False
            if not sizes or not all(isinstance(n, int) for n in sizes):
                return _channels_before(name, inputs, layers)
            last = layers[name]["config"].get("data_format") != "channels_first"
            spatial = default_spatial(len(sizes) - 1)
            return Flatten(f"{spatial}C" if last else f"C{spatial}", sizes)
        if class_ not in KEEPING:
            return None
    return None


def _channels_before(
    name: str, inputs: Mapping[str, list[str]], layers: Mapping[str, Any]
) -> int | None:
    """The channels that reach a flatten, where the configuration does not keep its shape."""
    for _ in layers:
        before = inputs.get(name, [])
        if len(before) != 1:
            return None
        name = before[0]
        class_ = layers[name]["class_name"]
        if CLASSES.get(class_) in ("conv", "conv_transpose"):
            return int(layers[name]["config"]["filters"])
        if class_ not in KEEPING:
            return None
    return None


# ---- Flax ----


def _of_flax(model: Any) -> Found:
    nnx = package("flax.nnx")
    found: Found = {}
    for path, module in nnx.iter_modules(model):
        class_ = _class(module)
        if class_ in CLASSES:
            found[".".join(map(str, path))] = _live(module, class_)
    return found


def _of_onnx(model: Any) -> Found:
    return kinds_of_graph(model)


#: Who reads a model, by the package that its class, or one of its bases, is from.
READERS: dict[str, Callable[[Any], Found]] = {
    "onnx": _of_onnx,
    "keras": _of_keras,
    "torch": _of_torch,
    "flax": _of_flax,
}
