"""ONNX's nodes and models as specs and back, held against onnxruntime and ONNX's reference."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

import convspec
from convspec import ConvSpec, ShapeError, UnsupportedError, layer_arrays
from convspec_onnx import Convolution, convolutions
from generators import integers, random_case
from refusals import refused

Rng = np.random.Generator
FLOAT = onnx.TensorProto.FLOAT


def run(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(None, {session.get_inputs()[0].name: np.ascontiguousarray(x)})[0]


def model_of(nodes: list[Any], arrays: dict[str, np.ndarray], shape: Any) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", FLOAT, shape)],
        [helper.make_tensor_value_info("y", FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)], ir_version=10)


def any_node(rng: Rng, rank: int, transposed: bool) -> tuple[Any, dict[str, Any], Any]:
    """A node with every attribute that onnxruntime computes as ONNX's document says."""
    k, s, d = (rng.integers(1, most + 1, rank) for most in (4, 3, 2))
    e = d * (k - 1) + 1
    groups = int(rng.integers(1, 3))
    cin, cout = (groups * int(n) for n in rng.integers(1, 3, 2))
    n = rng.integers(5, 8, rank)
    attributes: dict[str, Any] = {"strides": s.tolist(), "dilations": d.tolist(), "group": groups}
    if rng.random() < 0.5:
        attributes["kernel_shape"] = k.tolist()
    kind = ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER")[rng.integers(4)]
    if kind == "NOTSET":
        attributes["pads"] = rng.integers(0, 3, 2 * rank).tolist()
    else:
        attributes["auto_pad"] = kind
    shape = (cout, cin // groups, *k)
    if transposed:
        shape = (cin, cout // groups, *k)
        extra = rng.integers(0, s) if rng.random() < 0.5 else 0 * s
        if extra.any():
            attributes["output_padding"] = extra.tolist()
        # Below the stride onnxruntime's "SAME" is not n*s, as the document has it.
        if kind.startswith("SAME") and (e + extra < s).any():
            return any_node(rng, rank, transposed)
        if kind != "VALID" and rng.random() < 0.4:
            attributes.pop("pads", None)
            full = (n - 1) * s + e + extra
            attributes["output_shape"] = (full - rng.integers(0, np.minimum(full, 4))).tolist()
    arrays = {"w": integers(rng, shape, "float32")}
    if rng.random() < 0.5:
        arrays["b"] = integers(rng, (cout,), "float32")
    name = "ConvTranspose" if transposed else "Conv"
    node = helper.make_node(name, ["x", *arrays], ["y"], **attributes)
    return node, arrays, (2, cin, *n.tolist())


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("transposed", [False, True], ids=["Conv", "ConvTranspose"])
def test_nodes(rank: int, transposed: bool) -> None:
    rng = np.random.default_rng(rank)
    done = 0
    for _ in range(60):
        node, arrays, shape = any_node(rng, rank, transposed)
        x = integers(rng, shape, "float32")
        model = model_of([node], arrays, shape)
        try:
            expected = run(model, x)
        except Exception:  # nothing left of the output, or dilated beside a word
            continue
        spec = ConvSpec.from_native(model)
        weight, bias = layer_arrays(model)
        np.testing.assert_array_equal(spec(x, weight, bias), expected, f"{node} {spec!r}")
        alone = Convolution(node, arrays["w"], arrays.get("b"), input_shape=shape)
        assert ConvSpec.from_native(alone) == spec
        again = spec.to_native("onnx", weight, bias)
        assert ConvSpec.from_native(again).output_shape(shape) == expected.shape
        np.testing.assert_array_equal(run(again, x), expected)
        done += 1
    assert done > 30


def test_the_document_on_same_below_the_stride() -> None:
    """ONNX: n*s positions. Its reference puts the missing ones first, onnxruntime leaves them."""
    node = helper.make_node("ConvTranspose", ["x", "w"], ["y"], strides=[3], auto_pad="SAME_UPPER")
    w = np.array([[[1, 2]]], "float32")
    x = np.array([[[1, 10, 100]]], "float32")
    model = model_of([node], {"w": w}, x.shape)
    assert ConvSpec.from_native(model)(x, w).ravel().tolist() == [1, 2, 0, 10, 20, 0, 100, 200, 0]
    assert run(model, x).ravel().tolist() == [1, 2, 0, 10, 20, 0, 100, 200]
    theirs = ReferenceEvaluator(model).run(None, {"x": x})[0]
    assert theirs.ravel().tolist() == [0, 1, 2, 0, 10, 20, 0, 100, 200]


def test_whatever_onnx_has_is_made_and_the_rest_refused() -> None:
    rng = np.random.default_rng(0)
    made = {False: 0, True: 0}
    for _ in range(250):
        case = random_case(rng)
        spec, shape = case.spec, case.input_shape
        if "N" not in spec.layout or not all(shape):
            continue
        x, w = integers(rng, shape, "float32"), integers(rng, spec.weight_shape, "float32")
        b = integers(rng, spec.bias_shape, "float32") if spec.bias else None
        target = spec.in_convention("onnx")
        native = convspec.convert_layout(x, spec.layout, target.layout)
        for explicit in (False, True):
            try:
                model = spec.to_native("onnx", w, b, explicit_padding=explicit)
            except UnsupportedError:
                continue
            told = {a.name: a.ints for n in model.graph.node for a in n.attribute}
            extra = zip(told.get("output_padding", ()), told["strides"], strict=False)
            if any(p >= s for p, s in extra):
                continue  # ONNX has it, onnxruntime refuses it
            if max(spec.dilation) > 1 and "same" in str(spec.padding) and max(spec.stride) > 1:
                continue  # as is this
            made[explicit] += 1
            ours = convspec.convert_layout(spec(x, w, b), spec.output_layout, target.layout)
            np.testing.assert_array_equal(run(model, native), ours, repr(spec))
    assert made[False] > 40
    assert made[True] > 80


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            ConvSpec(1, 1, (3,), padding=1, padding_mode="reflect"),
            "padding_mode: ONNX's Conv pads with zeros only, and this is 'reflect'.",
        ),
        (
            ConvSpec(1, 1, (3, 3), 2, padding=("same", 0)),
            "padding[0] (axis H): ONNX has named padding on all axes or none, and 'same' is not "
            "on all.",
        ),
        (ConvSpec(1, 1, (3,), padding=-1), "padding[0] (axis W): ONNX's (-1, -1) would crop."),
    ],
    ids=["mode", "mixed", "crop"],
)
def test_what_onnx_cannot_express(spec: ConvSpec, message: str) -> None:
    with refused(UnsupportedError, message):
        spec.to_native("onnx", np.ones(spec.weight_shape, "float32"))


# ---- whole models ----


def branches(arrays: dict[str, np.ndarray]) -> onnx.ModelProto:
    """Four convolutions: in the graph, by Constant and Identity, given from outside, and inside."""
    constant = helper.make_node(
        "Constant", [], ["k"], value=numpy_helper.from_array(arrays["w"], "k")
    )
    inner = helper.make_graph(
        [helper.make_node("Conv", ["b", "w"], ["inside"], name="in a branch")],
        "then",
        [],
        [helper.make_tensor_value_info("inside", FLOAT, None)],
    )
    other = helper.make_graph(
        [helper.make_node("Identity", ["b"], ["outside"])],
        "else",
        [],
        [helper.make_tensor_value_info("outside", FLOAT, None)],
    )
    nodes = [
        helper.make_node("Conv", ["x", "w", "bias"], ["a"], name="first"),
        constant,
        helper.make_node("Identity", ["k"], ["same_k"]),
        helper.make_node("Conv", ["a", "same_k"], ["b"]),
        helper.make_node("Conv", ["b", "given"], ["c"], name="not constant"),
        helper.make_node("If", ["flag"], ["y"], then_branch=inner, else_branch=other),
    ]
    model = model_of(nodes, {"w": arrays["w"], "bias": arrays["bias"]}, (1, 2, 9, 9))
    model.graph.input.append(helper.make_tensor_value_info("given", FLOAT, (5, 2, 3, 1)))
    model.graph.input.append(helper.make_tensor_value_info("flag", onnx.TensorProto.BOOL, ()))
    return model


ARRAYS = {
    "w": np.arange(36, dtype="float32").reshape(2, 2, 3, 3),
    "bias": np.array([1, 2], "float32"),
}


def test_every_convolution_of_a_model() -> None:
    found = convolutions(branches(ARRAYS))
    assert [c.name for c in found] == ["first", "b", "not constant", "in a branch"]
    plain = ConvSpec(2, 2, (3, 3), bias=False)
    assert [ConvSpec.from_native(c) for c in found] == [
        plain.replace(bias=True),
        plain,
        ConvSpec(2, 5, (3, 1), bias=False),
        plain,
    ]
    weights = [layer_arrays(c)[0] for c in found]
    assert weights[2] is None
    for i in (0, 1, 3):
        np.testing.assert_array_equal(weights[i], ARRAYS["w"])
    np.testing.assert_array_equal(layer_arrays(found[0])[1], [1, 2])
    with refused(
        UnsupportedError,
        "layer: an ONNX model with 4 convolutions: first, b, not constant, in a branch.",
    ):
        ConvSpec.from_native(branches(ARRAYS))


def test_external_data(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(branches(ARRAYS), path, save_as_external_data=True, location="data", size_threshold=0)
    apart = onnx.load(path, load_external_data=False)
    for found in (convolutions(path), convolutions(str(path)), convolutions(apart, tmp_path)):
        np.testing.assert_array_equal(found[0].weight, ARRAYS["w"])


def test_functions_of_a_model() -> None:
    opsets = [helper.make_opsetid("", 22)]
    body = [helper.make_node("Conv", ["p", "q"], ["r"])]
    function = helper.make_function("own", "block", ["p", "q"], ["r"], body, opsets)
    model = model_of(
        [helper.make_node("block", ["x", "w"], ["y"], domain="own")],
        {"w": ARRAYS["w"]},
        (1, 2, 9, 9),
    )
    model.functions.append(function)
    model.opset_import.append(helper.make_opsetid("own", 1))
    (found,) = convolutions(model)
    np.testing.assert_array_equal(found.weight, ARRAYS["w"])


def test_nodes_that_do_not_tell_enough() -> None:
    node = helper.make_node("Conv", ["x", "w"], ["y"])
    with refused(UnsupportedError, "layer: a Conv node alone does not tell its channels."):
        ConvSpec.from_native(node)
    with refused(ShapeError, "weight: nothing tells its shape for node 'y'."):
        ConvSpec.from_native(Convolution(node))
    assert ConvSpec.from_native(Convolution(node, weight_shape=(4, 3, 5))).kernel_size == (5,)
    with refused(
        ShapeError, "weight: axis O has size None, and the spec of the call depends on it."
    ):
        ConvSpec.from_native(Convolution(node, weight_shape=(None, 3, 5)))
    sized = helper.make_node("ConvTranspose", ["x", "w"], ["y"], output_shape=[9])
    with refused(
        ShapeError, "input_shape: axis W has size None, and the spec of the call depends on it."
    ):
        ConvSpec.from_native(Convolution(sized, ARRAYS["w"][:, :, 0]))
    wrong = helper.make_node("Conv", ["x", "w"], ["y"], kernel_shape=[2, 2])
    with refused(ShapeError, "kernel_shape: node 'y' says (2, 2), but its weight has (3, 3)."):
        ConvSpec.from_native(Convolution(wrong, ARRAYS["w"]))
    word = helper.make_node("Conv", ["x", "w"], ["y"], auto_pad="SAME")
    with pytest.raises(UnsupportedError, match="auto_pad: 'SAME' is none of NOTSET, VALID"):
        ConvSpec.from_native(Convolution(word, ARRAYS["w"]))


@pytest.mark.parametrize(
    "spec",
    [
        ConvSpec(1, 1, (3,), padding=1, padding_mode="reflect"),
        ConvSpec(1, 1, (3,), 2, ((1, -1),), transposed=True),
    ],
)
def test_a_pad_beside_the_convolution_is_not_passed_over(spec: ConvSpec) -> None:
    w = np.ones(spec.weight_shape, "float32")
    model = spec.to_native("onnx", w, explicit_padding=True)
    other = "y" if spec.transposed else "padded0"
    with refused(
        UnsupportedError,
        f"layer: beside the convolution 'conv' the model has a Pad node {other!r}, which is no "
        "part of it.",
    ):
        ConvSpec.from_native(model)
    (found,) = convolutions(model)
    alone = spec.replace(padding=0, padding_mode="zeros", output_padding=int(spec.transposed))
    assert ConvSpec.from_native(found) == alone
