"""The convolutions of a model, each with what its node needs from around it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import onnx
from onnx import inliner, numpy_helper, shape_inference

KINDS = ("Conv", "ConvTranspose")


@dataclass(frozen=True, eq=False)
class Convolution:
    """A ``Conv`` or ``ConvTranspose`` node with its arrays: what ``ConvSpec.from_native`` reads.

    A node alone does not tell its channels, and with ``output_shape`` not its padding either.

    Attributes:
        node: the node.
        weight: NumPy array, or None where the model computes it or is given it.
        bias: NumPy array of shape (O,), or None.
        weight_shape: that of the weight; default: read off ``weight``.
        input_shape: sizes in N, C and spatial order, as far as they are known (None where not);
            only ``output_shape`` needs the spatial ones.
    """

    node: onnx.NodeProto
    weight: Any = None
    bias: Any = None
    weight_shape: tuple[int | None, ...] | None = None
    input_shape: tuple[int | None, ...] | None = None

    @property
    def name(self) -> str:
        """The node's name, or that of its output."""
        return str(self.node.name or self.node.output[0])


def convolutions(
    model: onnx.ModelProto | str | os.PathLike[str], base_dir: str | os.PathLike[str] = ""
) -> list[Convolution]:
    """Every ``Conv`` and ``ConvTranspose`` of a model, those of inner graphs included.

    Weights come from initialisers, external ones too, and from ``Constant`` nodes, perhaps by way
    of ``Identity``.

    Args:
        model: a model, or the path of one.
        base_dir: where the external data of a model lies that was loaded without it.

    >>> from convspec import ConvSpec, layer_arrays
    >>> import numpy as np
    >>> model = ConvSpec(1, 2, (3, 3)).to_native("onnx", np.ones((2, 1, 3, 3), "float32"))
    >>> [(c.name, c.weight.shape) for c in convolutions(model)]
    [('conv', (2, 1, 3, 3))]
    """
    if not isinstance(model, onnx.ModelProto):
        model = onnx.load(model)
    if model.functions:
        model = inliner.inline_local_functions(model)
    return list(_Reader(model, os.fspath(base_dir)).graph(model.graph, {}))


class _Reader:
    def __init__(self, model: onnx.ModelProto, base_dir: str) -> None:
        self.model = model
        self.base_dir = base_dir

    def graph(
        self, graph: onnx.GraphProto, outer: Mapping[str, onnx.TensorProto]
    ) -> Iterator[Convolution]:
        """Those of one graph, which sees the constants of the graphs around it."""
        constants = {**outer, **{tensor.name: tensor for tensor in graph.initializer}}
        for node in graph.node:
            if node.op_type == "Constant" and node.attribute[0].name == "value":
                constants[node.output[0]] = node.attribute[0].t
            elif node.op_type == "Identity" and node.input[0] in constants:
                constants[node.output[0]] = constants[node.input[0]]
            elif node.op_type in KINDS and node.domain in ("", "ai.onnx"):
                yield self.convolution(node, constants)
            for attribute in node.attribute:
                for inner in (attribute.g, *attribute.graphs):
                    yield from self.graph(inner, constants)

    def convolution(
        self, node: onnx.NodeProto, constants: Mapping[str, onnx.TensorProto]
    ) -> Convolution:
        weight, bias = (
            numpy_helper.to_array(constants[name], self.base_dir) if name in constants else None
            for name in (*node.input[1:], "", "")[:2]
        )
        needs_sizes = any(attribute.name == "output_shape" for attribute in node.attribute)
        return Convolution(
            node,
            weight,
            bias,
            weight_shape=self.shapes.get(node.input[1]) if weight is None else None,
            input_shape=self.shapes.get(node.input[0]) if needs_sizes else None,
        )

    @cached_property
    def shapes(self) -> dict[str, tuple[int | None, ...]]:
        """What shape inference finds, which is only asked where a node does not tell enough."""
        graph = shape_inference.infer_shapes(self.model).graph
        found = {}
        for value in (*graph.input, *graph.value_info, *graph.output):
            if value.type.tensor_type.HasField("shape"):
                dims = value.type.tensor_type.shape.dim
                found[value.name] = tuple(
                    dim.dim_value if dim.HasField("dim_value") else None for dim in dims
                )
        return found
