"""ONNX's nodes, read as specs; and models of one node made from specs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from convspec import ConvSpec, ShapeError, UnsupportedError
from convspec.arguments import Pair
from convspec.geometry import extent, transposed_size
from convspec.layouts import default_spatial
from convspec.natives import Layer, Native, cannot, crops, known, spelled_out

from ._models import Convolution, convolutions

OPSET, IR_VERSION = 22, 10
WORDS = {"VALID": "valid", "SAME_UPPER": "same", "SAME_LOWER": "same_lower"}
MODES = {"zeros": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


# ---- reading ----


def read(convolution: Convolution) -> Layer:
    """The spec of a node (https://onnx.ai/onnx/operators/onnx__ConvTranspose.html, version 22)."""
    node, weight = convolution.node, convolution.weight
    given = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    sizes = convolution.weight_shape if weight is None else tuple(np.shape(weight))
    if sizes is None:
        raise ShapeError(
            f"weight: nothing tells its shape for node {convolution.name!r}.\n"
            f"  Give convspec_onnx.Convolution the weight, or its weight_shape."
        )
    rank = len(sizes) - 2
    letters = default_spatial(rank)
    transposed = node.op_type == "ConvTranspose"
    first, second, *kernel = (
        known("weight", letter, size)
        for letter, size in zip(("IO" if transposed else "OI") + letters, sizes, strict=True)
    )
    if "kernel_shape" in given and tuple(given["kernel_shape"]) != tuple(kernel):
        raise ShapeError(
            f"kernel_shape: node {convolution.name!r} says {tuple(given['kernel_shape'])}, but its "
            f"weight has {tuple(kernel)}."
        )
    groups = given.get("group", 1)
    options: dict[str, Any] = {
        "stride": tuple(given.get("strides", (1,) * rank)),
        "dilation": tuple(given.get("dilations", (1,) * rank)),
        "groups": groups,
        "bias": len(node.input) > 2 and bool(node.input[2]),
        "layout": f"NC{letters}",
    }
    word = given.get("auto_pad", b"NOTSET").decode()
    if word not in ("NOTSET", *WORDS):
        raise UnsupportedError(f"auto_pad: {word!r} is none of NOTSET, {', '.join(WORDS)}.")
    if transposed:
        padding, extra = _transposed(convolution, given, word, kernel, options)
        spec = ConvSpec(
            *(first, second * groups, tuple(kernel)),
            padding=padding,
            transposed=True,
            output_padding=extra,
            **options,
        )
    else:
        padding = _pads(given, rank) if word == "NOTSET" else WORDS[word]
        spec = ConvSpec(second * groups, first, tuple(kernel), padding=padding, **options)
    return Layer(spec, weight, convolution.bias)


def _pads(given: dict[str, Any], rank: int) -> tuple[Pair, ...]:
    pads = given.get("pads", (0,) * 2 * rank)
    return tuple(zip(pads[:rank], pads[rank:], strict=True))


def _transposed(
    convolution: Convolution,
    given: dict[str, Any],
    word: str,
    kernel: Sequence[int],
    options: dict[str, Any],
) -> tuple[Any, tuple[int, ...]]:
    """Padding and output padding of a ``ConvTranspose`` in our terms.

    With ``output_shape`` the amounts follow from it; with "SAME" it is n*s. What is cropped in all
    then goes to the end by its larger half for SAME_UPPER, and to the start for the rest.
    """
    rank = len(kernel)
    extra = tuple(given.get("output_padding", (0,) * rank))
    wanted = given.get("output_shape")
    if wanted is None and not word.startswith("SAME"):
        return _pads(given, rank) if word == "NOTSET" else "valid", extra
    if wanted is None and not any(extra):
        return WORDS[word], extra
    if wanted is not None and len(wanted) != rank:
        raise ShapeError(
            f"output_shape: node {convolution.name!r} says {tuple(wanted)}, but there are {rank} "
            f"spatial axes."
        )
    letters = default_spatial(rank)
    sizes = (convolution.input_shape or (None,) * (rank + 2))[2:]
    pairs, back = [], []
    for i in range(rank):
        s, e = options["stride"][i], extent(kernel[i], options["dilation"][i])
        # "SAME" is the same for every n, so it is read off n = 1.
        n = 1 if wanted is None else known("input_shape", letters[i], sizes[i])
        out = s if wanted is None else wanted[i]
        total = transposed_size(n, e, s, (0, 0), extra[i]) - out
        half = max(total, 0) // 2
        pair = (half, max(total, 0) - half)
        pairs.append(pair if word == "SAME_UPPER" else pair[::-1])
        more = extra[i] - min(total, 0)
        if more >= max(s, options["dilation"][i]):  # positions that no input reaches
            pairs[-1], more = (0, extra[i] - more), extra[i]
        back.append(more)
    return tuple(pairs), tuple(back)


def read_node(node: onnx.NodeProto) -> Layer:
    raise UnsupportedError(
        f"layer: a {node.op_type} node alone does not tell its channels.\n"
        f"  Pass convspec_onnx.Convolution(node, weight), or one that convolutions(model) of "
        f"convspec_onnx lists."
    )


def read_model(model: onnx.ModelProto) -> Layer:
    found = convolutions(model)
    if len(found) != 1:
        names = ", ".join(convolution.name for convolution in found) or "none"
        raise UnsupportedError(
            f"layer: an ONNX model with {len(found)} convolutions: {names}.\n"
            f"  Pass one of those that convspec_onnx.convolutions(model) lists."
        )
    node = found[0].node
    for other in model.graph.node:
        if other.op_type == "Pad" and {node.input[0], *node.output} & {*other.input, *other.output}:
            raise UnsupportedError(
                f"layer: beside the convolution {found[0].name!r} the model has a Pad node "
                f"{other.name or other.output[0]!r}, which is no part of it.\n"
                f"  convspec_onnx.convolutions(model)[0] is the convolution alone."
            )
    return read(found[0])


# ---- making models ----


class OnnxNative(Native):
    """``Conv`` and ``ConvTranspose`` nodes; what is made is a model of one, ``x`` to ``y``."""

    name = "onnx"
    convention = "onnx"
    layers = {Convolution: read, onnx.NodeProto: read_node, onnx.ModelProto: read_model}

    def make(self, spec: ConvSpec, weight: Any, bias: Any) -> Any:
        if spec.padding_mode != "zeros" and any(map(any, spelled_out(spec).padding)):
            rule = f"ONNX's Conv pads with zeros only, and this is {spec.padding_mode!r}"
            raise cannot("padding_mode", rule, padding=True)
        attributes: dict[str, Any] = {
            "kernel_shape": spec.kernel_size,
            "strides": spec.stride,
            "dilations": spec.dilation,
            "group": spec.groups,
        }
        if spec.transposed:
            attributes["output_padding"] = [extra for _, _, extra in crops(spec)]
        word = _word(spec)
        attributes.update({"auto_pad": word} if word else {"pads": _amounts(spec)})
        arrays = {"weight": np.ascontiguousarray(weight)}
        if spec.bias:
            zeros = np.zeros(spec.out_channels, weight.dtype)
            arrays["bias"] = zeros if bias is None else np.asarray(bias)
        kind = "ConvTranspose" if spec.transposed else "Conv"
        node = helper.make_node(kind, ["x", *arrays], ["y"], name="conv", **attributes)
        return _model([node], arrays, spec)

    def padded(self, layer: Any, pairs: Sequence[Pair], mode: str, *, transposed: bool) -> Any:
        sign = -1 if transposed else 1
        before = [(max(lo, 0), max(hi, 0)) for lo, hi in pairs]
        cropped = [(min(lo, 0), min(hi, 0)) for lo, hi in pairs]
        steps = [(before, "zeros" if transposed else mode), (cropped, "zeros")]
        conv = layer.graph.node[0]
        place, name = ("y", conv.output) if transposed else ("x", conv.input)
        pads: list[tuple[str, str]] = []
        for amounts, kind in steps:
            if not any(map(any, amounts)):
                continue
            values = [0, 0, *(lo for lo, _ in amounts), 0, 0, *(hi for _, hi in amounts)]
            amount = f"pads{len(pads)}"
            tensor = np.array(values, "int64") * sign
            layer.graph.initializer.append(numpy_helper.from_array(tensor, amount))
            pads.append((amount, MODES[kind]))
        # x -> padded0 -> padded1 -> conv, or conv -> padded0 -> y
        inner = [f"padded{i}" for i in range(len(pads))]
        chain = [*inner, place] if transposed else [place, *inner]
        nodes = [
            helper.make_node("Pad", [chain[i], amount], [chain[i + 1]], mode=kind)
            for i, (amount, kind) in enumerate(pads)
        ]
        name[0] = chain[0] if transposed else chain[-1]
        conv = onnx.NodeProto.FromString(conv.SerializeToString())
        del layer.graph.node[:]
        layer.graph.node.extend([conv, *nodes] if transposed else [*nodes, conv])
        onnx.checker.check_model(layer)
        return layer


def _word(spec: ConvSpec) -> str:
    """The word for named padding, where amounts would not do better.

    Dilated beside a word is legal, but onnxruntime refuses it.
    """
    words = [word for word, name in WORDS.items() if set(spec.padding) == {name}]
    if spec.transposed or not words:
        return ""
    sized = any(isinstance(entry, str) for entry in spelled_out(spec).padding)
    return words[0] if sized or max(spec.dilation) == 1 else ""


def _amounts(spec: ConvSpec) -> list[int]:
    pairs = spelled_out(spec).padding
    for i, entry in enumerate(pairs):
        place = f"padding[{i}] (axis {spec.spatial[i]})"
        if isinstance(entry, str):
            rule = f"ONNX has named padding on all axes or none, and {entry!r} is not on all"
            raise cannot(place, rule)
        if min(entry) < 0:
            raise cannot(place, f"ONNX's {entry} would crop", padding=True)
    return [int(pair[side]) for side in (0, 1) for pair in pairs]


def _model(nodes: Sequence[Any], arrays: dict[str, Any], spec: ConvSpec) -> Any:
    kind = helper.np_dtype_to_tensor_dtype(arrays["weight"].dtype)
    graph = helper.make_graph(
        nodes,
        "convspec",
        [helper.make_tensor_value_info("x", kind, ["N", spec.in_channels, *spec.spatial])],
        [
            helper.make_tensor_value_info(
                "y", kind, ["N", spec.out_channels, *(f"{letter}_out" for letter in spec.spatial)]
            )
        ],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    opsets = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
    onnx.checker.check_model(model)
    return model


native = OnnxNative()
