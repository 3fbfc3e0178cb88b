"""What a live PyTorch model says its layers are, and what its graph says of their features."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from ..layouts import default_spatial
from ..spec import ConvSpec
from .errors import package
from .flow import Flow, Value
from .kinds import KERNELS, NORMS, Kind
from .model_layers import CLASSES, HERE, class_of, live, with_told

#: Layers and functions that keep all axes, and those that change sizes of positions alone.
KEEPING = (
    *("ReLU", "ReLU6", "LeakyReLU", "ELU", "SELU", "CELU", "GELU", "SiLU", "Mish", "Softplus"),
    *(
        "Sigmoid",
        "Tanh",
        "Hardtanh",
        "Hardswish",
        "Hardsigmoid",
        "Identity",
        "Softmax",
        "LogSoftmax",
    ),
    *(
        "Dropout",
        "Dropout1d",
        "Dropout2d",
        "Dropout3d",
        "AlphaDropout",
        "relu",
        "leaky_relu",
        "elu",
    ),
    *("gelu", "silu", "mish", "sigmoid", "tanh", "hardswish", "hardtanh", "softmax", "log_softmax"),
    *("dropout", "dropout2d", "contiguous", "clone", "detach", "float", "half", "to", "clamp"),
    *("relu6", "softplus", "exp", "abs", "sqrt", "neg", "relu_", "sigmoid_", "tanh_", "normalize"),
)
RESIZING = (
    *(f"{name}Pool{rank}d" for name in ("Max", "Avg", "LP") for rank in (1, 2, 3)),
    *(f"{name}Pad{rank}d" for name in ("Zero", "Reflection", "Replication") for rank in (1, 2, 3)),
    *("Upsample", "UpsamplingNearest2d", "UpsamplingBilinear2d", "interpolate"),
    *(f"{name}_pool{rank}d" for name in ("max", "avg") for rank in (1, 2, 3)),
)
ADAPTIVE = (
    *(f"Adaptive{name}Pool{rank}d" for name in ("Max", "Avg") for rank in (1, 2, 3)),
    *(f"adaptive_{name}_pool{rank}d" for name in ("max", "avg") for rank in (1, 2, 3)),
)
ELEMENTWISE = ("add", "sub", "mul", "truediv", "iadd", "imul", "isub", "add_", "mul_", "div")


def kinds_of_torch(model: Any) -> dict[str, tuple[Kind, ConvSpec | None]]:
    """Kinds and specs by the path of a layer."""
    found: dict[str, tuple[Kind, ConvSpec | None]] = {}
    for path, module in model.named_modules():
        kind = _kind(module)
        if kind is not None:
            found[path] = kind
    flow = Flow()
    if not _traced(model, flow, set(found)):
        for path, module in model.named_modules():
            if type(module).__name__ == "Sequential" and not _within_another(model, path):
                _chain(flow, _leaves(path, module))
    return with_told(found, flow)


def _kind(module: Any) -> tuple[Kind, ConvSpec | None] | None:
    """The kind of a layer; of one with weights of its own whose class is unknown, a doubt."""
    class_ = class_of(module)
    weight = getattr(module, "weight", None)
    shape = tuple(getattr(weight, "shape", ()))
    if class_ == "Conv1D" and len(shape) == 2:  # GPT-2's
        return Kind("dense", HERE, inputs_first=True), None
    if class_ in CLASSES:
        return live(module, class_)
    if len(shape) > 1 and not any(module.children()):
        return Kind(
            "", HERE, doubt=f"the class {class_} is none whose weight has a known order"
        ), None
    return None


def _within_another(model: Any, path: str) -> bool:
    parents = [path.rpartition(".")[0]] if path else []
    return any(type(model.get_submodule(p)).__name__ == "Sequential" for p in parents)


def _leaves(path: str, module: Any) -> Iterator[tuple[str, Any]]:
    """The layers of a Sequential, of those inside it too, in the order they run in."""
    for name, child in module.named_children():
        inner = f"{path}.{name}" if path else name
        if type(child).__name__ == "Sequential":
            yield from _leaves(inner, child)
        else:
            yield inner, child


def _chain(flow: Flow, leaves: Iterator[tuple[str, Any]]) -> None:
    """A Sequential in a model whose graph cannot be told."""
    x = Value()
    for path, layer in leaves:
        x = _through(flow, path, layer, [x])
    flow.lost(x)


def _traced(model: Any, flow: Flow, layers: set[str]) -> bool:
    """Walk through the graph of a model, if torch.fx can trace it without running it."""
    fx = package("torch.fx")

    class Tracer(fx.Tracer):  # type: ignore[misc, name-defined]
        def is_leaf_module(self, module: Any, name: str) -> bool:
            inside = type(module).__name__ == "Sequential"
            return not inside and (name in layers or super().is_leaf_module(module, name))

    try:
        graph = Tracer().trace(model)
    except Exception:  # whatever the model's own code does with what is no tensor
        return False
    values: dict[Any, Value] = {}
    try:
        for node in graph.nodes:
            values[node] = _node(flow, model, node, values)
    except (TypeError, ValueError, IndexError, KeyError, AttributeError):  # arguments of any kind
        flow.told.clear()
        return False
    return True


def _node(flow: Flow, model: Any, node: Any, values: dict[Any, Value]) -> Value:
    inputs = [values[n] for n in node.all_input_nodes]
    if node.op == "call_module":
        return _through(flow, node.target, model.get_submodule(node.target), inputs)
    if node.op in ("call_function", "call_method"):
        name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
        return _call(flow, name, node, inputs, values)
    if node.op == "output":
        flow.ended(*inputs)
    return Value()


def _through(flow: Flow, path: str, layer: Any, inputs: Sequence[Value]) -> Value:
    """Through a layer."""
    class_ = class_of(layer)
    kind = CLASSES.get(class_, "")
    if len(inputs) != 1:
        return flow.lost(*inputs)
    x = inputs[0]
    if class_ == "Conv1D" and getattr(layer, "nf", None):
        return flow.dense(path, x, int(layer.nf))
    if kind in KERNELS:
        rank = len(layer.kernel_size)
        return flow.conv(x, f"C{default_spatial(rank)}", int(layer.out_channels))
    if kind == "dense":
        return flow.dense(path, x, int(layer.out_features))
    if kind == "prelu":
        return flow.vector(path, x, 0) if layer.num_parameters > 1 else flow.scalar(path, x)
    if class_ in ("LayerNorm", "RMSNorm"):
        return flow.block(path, x, len(layer.normalized_shape))
    if kind in NORMS:
        return flow.vector(path, x, 0)
    if class_ == "Embedding" and x.axes is not None:
        return Value((*x.axes, (("F", int(layer.embedding_dim)),)))
    if class_ == "Flatten":
        return _flat(flow, x, layer.start_dim, layer.end_dim)
    if class_ == "Unflatten":
        if layer.dim == 1 and not isinstance(layer.unflattened_size[0], tuple):
            return flow.shaped(x, [int(n) for n in layer.unflattened_size])
    elif class_ in RESIZING:
        return flow.resized(x)
    elif class_ in ADAPTIVE:
        return _adapted(flow, x, layer.output_size)
    elif class_ in KEEPING:
        return x
    return flow.lost(x)


def _flat(flow: Flow, x: Value, start: int, end: int) -> Value:
    """torch.flatten, whose axes count the batch."""
    if start < 1 or (end != -1 and end < start):
        return flow.lost(x)
    return flow.flat(x, start - 1, -1 if end == -1 else end - 1)


def _adapted(flow: Flow, x: Value, size: Any) -> Value:
    """To a size that is told, one number for all axes of positions or one for each."""
    x = flow.resized(x)
    if x.axes is None or len(x.axes) < 2:
        return x
    sizes = size if isinstance(size, (tuple, list)) else [size] * (len(x.axes) - 1)
    return x.sized([None, *sizes]) if len(sizes) == len(x.axes) - 1 else x


def _call(
    flow: Flow, name: str, node: Any, inputs: Sequence[Value], values: dict[Any, Value]
) -> Value:
    """Through a function, or a method of a tensor."""
    constant = [a for a in node.args[1:] if not hasattr(a, "op")]
    if name in ("size", "getattr", "dim", "getitem") and name != "getitem":
        return Value()
    if name == "getitem":
        return flow.lost(*inputs)
    if not inputs:
        return Value()
    x = inputs[0]
    reader: Callable[..., Any] = node.kwargs.get
    if name == "flatten":
        start = constant[0] if constant else reader("start_dim", 0)
        end = constant[1] if len(constant) > 1 else reader("end_dim", -1)
        return _flat(flow, x, start, end)
    if name in ("view", "reshape"):
        sizes = node.args[1:]
        if len(sizes) == 1 and isinstance(sizes[0], (tuple, list)):
            sizes = sizes[0]
        return flow.shaped(x, [n if isinstance(n, int) else None for n in sizes[1:]])
    if name == "permute":
        order = constant[0] if len(constant) == 1 else constant
        if order and order[0] == 0:
            return flow.permuted(x, [i - 1 for i in order[1:]])
    elif name == "transpose" and len(constant) == 2 and x.axes is not None:
        count = len(x.axes) + 1
        a, b = (i % count for i in constant)
        order = list(range(count))
        order[a], order[b] = b, a
        if order[0] == 0:
            return flow.permuted(x, [i - 1 for i in order[1:]])
    elif (
        name in ("mean", "sum", "amax", "amin")
        and (constant or reader("dim"))
        and x.axes is not None
    ):
        dims = constant[0] if constant else reader("dim")
        keep = reader("keepdim", constant[1] if len(constant) > 1 else False)
        count = len(x.axes) + 1
        whole = {d % count for d in (dims if isinstance(dims, (tuple, list)) else [dims])}
        if not keep and 0 not in whole:
            return replace(x, axes=tuple(a for i, a in enumerate(x.axes, 1) if i not in whole))
        if keep:
            return flow.resized(x)
    elif name == "cat":
        given = node.args[0]
        dim = node.args[1] if len(node.args) > 1 else reader("dim", 0)
        if isinstance(given, (tuple, list)) and dim != 0:
            parts = [values[n] for n in given]
            return flow.joined(parts, dim - 1 if dim > 0 else dim)
    elif name in ELEMENTWISE:
        return flow.together(*inputs)
    elif name in RESIZING:
        return flow.resized(x)
    elif name in ADAPTIVE:
        return _adapted(flow, x, constant[0] if constant else reader("output_size"))
    elif name in KEEPING:
        return x
    return flow.lost(*inputs)
