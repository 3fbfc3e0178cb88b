"""What a model says its layers are: a live one, an ONNX graph, or a Keras configuration."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..arguments import shown
from ..spec import ConvSpec
from .errors import ConvertError, package
from .files.hdf5 import KerasReader
from .files.onnx import load_graph
from .keras_models import kinds_of_config
from .kinds import Flatten, Kind
from .layers import channels_last
from .model_layers import CLASSES, class_of, live
from .onnx_graphs import kinds_of_graph
from .orders import Order
from .torch_models import kinds_of_torch

#: Kinds and specs by layer or tensor.
Found = dict[str, tuple[Kind, ConvSpec | None]]


def kinds(model: Any, source: str) -> Found:
    """Kinds and specs by layer or tensor, as a model tells them.

    Args:
        model: None; the path of an ``.onnx`` or ``.keras`` file; an ONNX model; a
            ``torch.nn.Module``; a Keras model; a Flax NNX module.
        source: convention of the tensors. A model of a framework that has the channels elsewhere
            knows the kinds, and not the order in which the source's own model flattens: what it
            says of that is kept as a proposal.

    Raises:
        ConvertError: it is none of these, or cannot be read.
    """
    if model is None:
        return {}
    if isinstance(model, (str, Path)):
        found = _of_file(Path(model))
        first = Path(model).suffix == ".onnx"
    else:
        found = READERS[framework(model)](model)
        first = framework(model) in ("torch", "onnx")
    if first != channels_last(source):
        return found
    return {name: (_proposed(kind, first), spec) for name, (kind, spec) in found.items()}


def _proposed(kind: Kind, first: bool) -> Kind:
    """Without the orders that are the model's framework's own, not the source's."""
    orders = [kind.flatten, kind.unflatten]
    likely = [0, 0]
    for i, order in enumerate(orders):
        if isinstance(order, Flatten) and "C" in order.layout:
            at = order.layout.index("C")
            if len(order.layout) > 1 and (at == 0) == first:
                orders[i], likely[i] = None, order.shape[at]
    known = kind.axes[:1] != "C" if first else kind.axes[-1:] != "C"
    return replace(
        kind,
        flatten=orders[0],
        unflatten=orders[1],
        likely=(likely[0], likely[1]),
        axes=kind.axes if known or len(kind.axes) < 2 else "",
    )


def framework(model: Any) -> str:
    """The package that a live model's class, or one of its bases, is from.

    Raises:
        ConvertError: it is no model.
    """
    roots = [base.__module__.split(".")[0] for base in type(model).__mro__]
    for root in READERS:
        if root in roots:
            return root
    raise ConvertError(
        f"model: expected a path or a model of {', '.join(READERS)}, got {shown(model)}."
    )


def _of_file(path: Path) -> Found:
    if path.suffix == ".onnx":
        return kinds_of_graph(load_graph(path))
    if path.suffix == ".keras":
        reader = KerasReader(path)
        reader.close()
        return kinds_of_config(reader.config)
    raise ConvertError(f"model: {path} is neither an .onnx nor a .keras file.")


def _of_keras(model: Any) -> Found:
    try:
        text = model.to_json()
    except NotImplementedError as error:  # a model that is a class, without get_config
        raise ConvertError(
            f"model: {type(model).__name__} is a class of its own, whose graph Keras does not "
            f"know; hand over a functional or Sequential model, or use rules."
        ) from error
    return kinds_of_config(json.loads(text))


def _of_flax(model: Any) -> Found:
    nnx = package("flax.nnx")
    if not isinstance(model, nnx.Module):
        raise ConvertError(
            f"model: {type(model).__name__} is no flax.nnx module; a Linen module knows its layers "
            f"only while it runs. Use rules."
        )
    found: Found = {}
    for path, module in nnx.iter_modules(model):
        class_ = class_of(module)
        if class_ not in CLASSES:
            continue
        kind, spec = live(module, class_)
        if getattr(module, "transpose_kernel", False) and spec is not None:
            kind = replace(kind, order=Order(spec.weight_layout, spec.flip_kernel, spec.group_axis))
        found[".".join(map(str, path))] = kind, spec
    return found


#: Who reads a model, by the package that its class, or one of its bases, is from.
READERS: dict[str, Callable[[Any], Found]] = {
    "onnx": kinds_of_graph,
    "keras": _of_keras,
    "torch": kinds_of_torch,
    "flax": _of_flax,
}
