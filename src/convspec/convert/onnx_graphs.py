"""What an ONNX graph says of its initialisers: the kind of the node that each goes into."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..arguments import shown
from ..layouts import default_spatial
from ..spec import ConvSpec
from .errors import ConvertError, package
from .flow import Flow, Value
from .kinds import Kind
from .model_layers import HERE, with_told
from .names import parse

KERNELS = {"Conv": "conv", "ConvTranspose": "conv_transpose"}
NORMS = {
    "BatchNormalization": "batch_norm",
    "InstanceNormalization": "instance_norm",
    "LayerNormalization": "layer_norm",
    "GroupNormalization": "group_norm",
}
#: What the inputs of a node are; of other nodes, a weight and a bias.
PARTS = {
    "BatchNormalization": {1: "weight", 2: "bias", 3: "mean", 4: "var"},
    "Gather": {0: "weight"},
}
#: Nodes that keep all axes, and those that change sizes of positions alone.
KEEPING = (
    *(
        "Relu",
        "LeakyRelu",
        "Elu",
        "Selu",
        "Celu",
        "Gelu",
        "Mish",
        "HardSwish",
        "HardSigmoid",
        "Erf",
    ),
    *("Sigmoid", "Tanh", "Softplus", "Softmax", "LogSoftmax", "Clip", "Dropout", "Identity"),
    *("Cast", "Exp", "Abs", "Sqrt", "Neg", "LRN"),
)
RESIZING = ("MaxPool", "AveragePool", "LpPool", "Pad", "Resize", "Upsample")
POOLING = ("GlobalAveragePool", "GlobalMaxPool")
ELEMENTWISE = ("Add", "Sub", "Mul", "Div", "Max", "Min", "Sum")


def kinds_of_graph(model: Any) -> dict[str, tuple[Kind, ConvSpec | None]]:
    """Kinds by name of initialiser.

    Raises:
        ConvertError: the graph makes no sense.
    """
    try:
        model = package("onnx.shape_inference").infer_shapes(model, data_prop=True)
        graph = model.graph
    except Exception:  # a graph whose shapes cannot be told still tells its kinds
        graph = model.graph
    try:
        return _Graph(graph).kinds()
    except ConvertError:
        raise
    except Exception as error:  # a damaged graph has names, types and sizes of any kind
        raise ConvertError(f"model: is no ONNX graph that can be read: {shown(error)}.") from error


class _Graph:
    def __init__(self, graph: Any) -> None:
        self.graph = graph
        self.arrays = {tensor.name: tensor for tensor in graph.initializer}
        self.makers = {output: node for node in graph.node for output in node.output}
        self.shapes = {
            value.name: [dim.dim_value or None for dim in value.type.tensor_type.shape.dim]
            for value in (*graph.value_info, *graph.input, *graph.output)
            if value.type.tensor_type.HasField("shape")
        }
        self.flow = Flow()
        self.values: dict[str, Value] = {}

    def kinds(self) -> dict[str, tuple[Kind, ConvSpec | None]]:
        """Kinds by initialiser; exporters share equal tensors: the first place counts."""
        found: dict[str, tuple[Kind, ConvSpec | None]] = {}
        paths: dict[str, str] = {}
        for number, node in enumerate(self.graph.node):
            # Each node is a layer of its own here: the number tells them apart.
            layer = str(number)
            self._walk(layer, node)
            kind = self._kind(node)
            given = [n for name in node.input if (n := self._array(name)) in self.arrays]
            if kind is None or not given:
                continue
            place = _layer(given, node)
            parts = PARTS.get(node.op_type, {0: "weight", 1: "weight", 2: "bias"})
            for i, given_name in enumerate(node.input):
                name = self._array(given_name)
                if name in self.arrays and i in parts and name not in found:
                    found[name] = replace(kind, place=(place, parts[i])), None
                    paths[name] = layer
            self._bias_behind(node, found, place, paths, layer)
        self.flow.ended(*(self.values.get(value.name, Value()) for value in self.graph.output))
        by_layer = {f"{paths[name]}:{name}": kind for name, kind in found.items()}
        told = Flow(
            {
                f"{paths[name]}:{name}": self.flow.told[paths[name]]
                for name in found
                if paths[name] in self.flow.told
            }
        )
        complete = with_told(by_layer, told)
        return {key.partition(":")[2]: kind for key, kind in complete.items()}

    def _bias_behind(
        self,
        node: Any,
        found: dict[str, tuple[Kind, ConvSpec | None]],
        place: str,
        paths: dict[str, str],
        layer: str,
    ) -> None:
        """The bias of a MatMul, which an Add behind it has."""
        if node.op_type != "MatMul":
            return
        for other in self.graph.node:
            if other.op_type == "Add" and node.output[0] in other.input:
                for name in other.input:
                    vector = name in self.arrays and len(self.arrays[name].dims) == 1
                    if vector and name not in found:
                        kind = Kind("dense", HERE, inputs_first=True, place=(place, "bias"))
                        found[name] = kind, None
                        paths[name] = layer

    def _array(self, name: str) -> str:
        """The array behind a value to which axes of size 1 were added."""
        while name in self.makers and self.makers[name].op_type in ("Unsqueeze", "Identity"):
            name = self.makers[name].input[0]
        return name

    def _kind(self, node: Any) -> Kind | None:
        """The kind of layer that a node is; None for other nodes."""
        if node.op_type in KERNELS:
            arguments = _arguments(node)
            return Kind(KERNELS[node.op_type], HERE, arguments, complete="groups" in arguments)
        if node.op_type in NORMS:
            return Kind(NORMS[node.op_type], HERE)
        if node.op_type == "PRelu":
            return Kind("prelu", HERE)
        if node.op_type in ("Gemm", "MatMul"):
            given = _attributes(node)
            first = node.op_type == "MatMul" or not given.get("transB", 0)
            return Kind("dense", HERE, inputs_first=first, doubt=self._doubt(node, given))
        table = self.arrays.get(self._array(node.input[0])) if node.op_type == "Gather" else None
        return Kind("embedding", HERE) if table is not None and len(table.dims) == 2 else None

    def _doubt(self, node: Any, given: Mapping[str, Any]) -> str:
        """Why a matrix is not simply the weight of a dense layer."""
        if self._array(node.input[0]) in self.arrays:
            return f"{node.op_type} has it on the left of its input, as no dense layer has"
        if given.get("transA", 0):
            return f"{node.op_type} transposes its input, as no dense layer does"
        for name in ("alpha", "beta"):
            if given.get(name, 1.0) != 1.0:
                return (
                    f"{node.op_type} has {name} = {given[name]:g}, which the weights do not hold; "
                    f"scale them and set it to 1"
                )
        return ""

    # ---- values ----

    def _walk(self, layer: str, node: Any) -> None:
        """The value that a node makes."""
        inputs = [name for name in node.input if name and self._array(name) not in self.arrays]
        constants = {name for name in inputs if self._constant(name)}
        values = [self._value(name) for name in inputs if name not in constants]
        y = self._through(layer, node, values)
        for i, output in enumerate(node.output):
            shape = self.shapes.get(output)
            value = y if i == 0 else Value()
            self.values[output] = value.sized(shape[1:]) if shape and not i else value

    def _constant(self, name: str) -> bool:
        node = self.makers.get(name)
        return node is not None and node.op_type in ("Constant", "Shape", "ConstantOfShape")

    def _value(self, name: str) -> Value:
        if name in self.values:
            return self.values[name]
        shape = self.shapes.get(name)  # of an input of the graph
        return Value(tuple((("?", n),) for n in shape[1:])) if shape else Value()

    def _through(self, layer: str, node: Any, inputs: Sequence[Value]) -> Value:
        flow, given = self.flow, _attributes(node)
        x = inputs[0] if inputs else Value()
        if node.op_type in ("Shape", "Size"):
            return Value()
        weights = [self.arrays[n] for name in node.input if (n := self._array(name)) in self.arrays]
        if node.op_type in KERNELS and weights:
            dims, groups = list(weights[0].dims), given.get("group", 1)
            channels = dims[0] if node.op_type == "Conv" else dims[1] * groups
            return flow.conv(x, f"C{default_spatial(len(dims) - 2)}", int(channels))
        if node.op_type in ("BatchNormalization", "InstanceNormalization", "GroupNormalization"):
            return flow.vector(layer, x, 0)
        if node.op_type == "LayerNormalization":
            axis, count = given.get("axis", -1), len(x.axes or ()) + 1
            return flow.block(layer, x, -axis if axis < 0 else count - axis)
        if node.op_type == "PRelu":
            several = bool(weights) and max(weights[0].dims, default=1) > 1
            return flow.vector(layer, x, 0) if several else flow.scalar(layer, x)
        if node.op_type in ("Gemm", "MatMul") and weights and len(weights[0].dims) == 2:
            transposed = given.get("transB", 0)
            return flow.dense(layer, x, int(weights[0].dims[0 if transposed else 1]))
        if node.op_type == "Gather" and weights:
            return Value((*(x.axes or ()), (("F", int(weights[0].dims[-1])),))) if x.axes else x
        if node.op_type == "Flatten":
            return flow.flat(x) if given.get("axis", 1) == 1 else flow.lost(x)
        if node.op_type == "Reshape":
            sizes = self.shapes.get(node.output[0]) or self._sizes(node)
            return flow.shaped(x, sizes[1:]) if sizes and len(sizes) > 1 else flow.lost(x)
        if node.op_type == "Transpose":
            order = list(given.get("perm", []))
            return (
                flow.permuted(x, [i - 1 for i in order[1:]]) if order[:1] == [0] else flow.lost(x)
            )
        if node.op_type == "ReduceMean" and given.get("keepdims", 1) == 0:
            return flow.pooled(x)
        if node.op_type in ("Squeeze", "Unsqueeze"):
            return self._squeezed(node, x)
        if node.op_type == "Concat" and len(inputs) > 1:
            axis = given["axis"]
            return (
                flow.joined(inputs, axis - 1 if axis > 0 else axis) if axis else flow.lost(*inputs)
            )
        if node.op_type in ELEMENTWISE:
            return flow.together(*inputs) if inputs else x
        if node.op_type in (*RESIZING, *POOLING, "ReduceMean"):
            return flow.resized(x)
        return x if node.op_type in KEEPING else flow.lost(*inputs)

    def _squeezed(self, node: Any, x: Value) -> Value:
        """Axes of size 1 that come or go, where the shapes tell which are left."""
        after = self.shapes.get(node.output[0])
        if x.axes is None or after is None or node.op_type == "Unsqueeze":
            return self.flow.lost(x)
        left = tuple(axis for axis in x.axes if any(n != 1 for _, n in axis))
        return Value(left, x.makers) if len(left) == len(after) - 1 else self.flow.lost(x)

    def _sizes(self, node: Any) -> list[int | None]:
        """The sizes that a Reshape has as a constant."""
        name = node.input[1]
        maker = self.makers.get(name)
        tensor = self.arrays.get(name)
        if maker is not None and maker.op_type == "Constant":
            tensor = _attributes(maker).get("value")
        if tensor is None:
            return []
        found = package("onnx.numpy_helper").to_array(tensor).reshape(-1).tolist()
        return [int(n) if n > 0 else None for n in found]


def _layer(given: list[str], node: Any) -> str:
    """The path of a layer: that of its tensors where they have one, else the node's name."""
    parsed = [parse(name, "onnx") for name in given]
    paths = {name.path for name in parsed}
    if len(paths) == 1 and all(name.part for name in parsed):
        return ".".join(paths.pop())
    return str(node.name or node.output[0]).strip("/").replace("/", ".")


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
