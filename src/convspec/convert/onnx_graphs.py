"""What an ONNX graph says of its initialisers: the kind of the node that each goes into."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..layouts import default_spatial
from ..spec import ConvSpec
from .errors import package
from .kinds import Flatten, Kind
from .names import parse

HERE = "model"
KERNELS = {"Conv": "conv", "ConvTranspose": "conv_transpose"}
NORMS = {
    "BatchNormalization": "batch_norm",
    "InstanceNormalization": "instance_norm",
    "LayerNormalization": "layer_norm",
    "GroupNormalization": "group_norm",
}
#: What the inputs of a node are; of other nodes, a weight and a bias.
PARTS = {"BatchNormalization": {1: "weight", 2: "bias", 3: "mean", 4: "var"}}
#: Nodes that keep the order of all elements.
KEEPING = ("Relu", "PRelu", "LeakyRelu", "Dropout", "Identity", "Sigmoid", "Tanh", "Clip", "Cast")
#: Nodes whose output has channels alone.
CHANNELS_ALONE = ("Gemm", "MatMul", "GlobalAveragePool", "GlobalMaxPool", "ReduceMean", "Add")


def kinds_of_graph(model: Any) -> dict[str, tuple[Kind, ConvSpec | None]]:
    """Kinds by name of initialiser."""
    try:
        model = package("onnx.shape_inference").infer_shapes(model)
        graph = model.graph
    except Exception:  # a graph whose shapes cannot be told still tells its kinds
        graph = model.graph
    arrays = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    makers = {output: node for node in graph.node for output in node.output}
    shapes = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*graph.value_info, *graph.input)
    }
    found: dict[str, tuple[Kind, ConvSpec | None]] = {}
    for node in graph.node:
        kind = _kind(node, makers, shapes)
        given = [n for name in node.input if (n := _initializer(name, makers)) in arrays]
        if kind is None or not given:
            continue
        layer = _layer(given, node)
        parts = PARTS.get(node.op_type, {0: "weight", 1: "weight", 2: "bias"})
        for i, given_name in enumerate(node.input):
            name = _initializer(given_name, makers)
            if name in arrays and i in parts:
                # Exporters share equal tensors; the first place counts.
                found.setdefault(name, (replace(kind, place=(layer, parts[i])), None))
    return found


def _initializer(name: str, makers: Mapping[str, Any]) -> str:
    """The array behind a value to which axes of size 1 were added."""
    while name in makers and makers[name].op_type in ("Unsqueeze", "Identity"):
        name = makers[name].input[0]
    return name


def _layer(given: list[str], node: Any) -> str:
    """The path of a layer: that of its tensors where they have one, else the node's name."""
    parsed = [parse(name, "onnx") for name in given]
    paths = {name.path for name in parsed}
    if len(paths) == 1 and all(name.part for name in parsed):
        return ".".join(paths.pop())
    return str(node.name or node.output[0]).strip("/").replace("/", ".")


def _kind(node: Any, makers: Mapping[str, Any], shapes: Mapping[str, list[int]]) -> Kind | None:
    """The kind of layer that a node is; None for other nodes."""
    if node.op_type in KERNELS:
        arguments = _arguments(node)
        return Kind(KERNELS[node.op_type], HERE, arguments, complete="groups" in arguments)
    if node.op_type in NORMS:
        return Kind(NORMS[node.op_type], HERE)
    if node.op_type == "PRelu":
        return Kind("prelu", HERE)
    if node.op_type in ("Gemm", "MatMul"):
        first = node.op_type == "MatMul" or not _attributes(node).get("transB", 0)
        flatten = _flatten(node.input[0], makers, shapes)
        return Kind("dense", HERE, flatten=flatten, inputs_first=first)
    if node.op_type == "Gather":
        return Kind("embedding", HERE)
    return None


def _attributes(node: Any) -> dict[str, Any]:
    value = package("onnx.helper").get_attribute_value
    return {attribute.name: value(attribute) for attribute in node.attribute}


def _arguments(node: Any) -> dict[str, Any]:
    """Arguments of ConvSpec, as far as they mean the same."""
    given = _attributes(node)
    arguments: dict[str, Any] = {"groups": given.get("group", 1)}
    if "strides" in given:
        arguments["stride"] = tuple(given["strides"])
    if "dilations" in given:
        arguments["dilation"] = tuple(given["dilations"])
    word = given.get("auto_pad", b"NOTSET").decode()
    pads = given.get("pads")
    if word in ("SAME_UPPER", "SAME_LOWER"):
        arguments["padding"] = "same" if word == "SAME_UPPER" else "same_lower"
    elif pads:
        half = len(pads) // 2
        arguments["padding"] = tuple(zip(pads[:half], pads[half:], strict=True))
    return arguments


def _flatten(
    name: str, makers: Mapping[str, Any], shapes: Mapping[str, list[int]]
) -> Flatten | bool | None:
    """The flatten that made a value; False if none did, None if that is unclear."""
    for _ in makers:
        node = makers.get(name)
        if node is None:
            return None
        if node.op_type in CHANNELS_ALONE:
            return False
        if node.op_type in ("Flatten", "Reshape"):
            return _flattened(node, makers, shapes)
        if node.op_type not in KEEPING:
            return None
        name = node.input[0]
    return None


def _flattened(
    node: Any, makers: Mapping[str, Any], shapes: Mapping[str, list[int]]
) -> Flatten | bool | None:
    """The axes that a node flattens, by their letters before any transpose."""
    shape = shapes.get(node.input[0], [])
    if len(shape) < 3 or not all(shape[1:]):
        return None
    letters = "NC" + default_spatial(len(shape) - 2)
    before = makers.get(node.input[0])
    while before is not None and before.op_type in KEEPING:
        before = makers.get(before.input[0])
    if before is not None and before.op_type == "Transpose":
        letters = "".join(letters[i] for i in _attributes(before)["perm"])
        if letters[0] != "N":
            return None
    return Flatten(letters[1:], tuple(shape[1:]))
