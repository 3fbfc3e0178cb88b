"""Each operation of a plan as an ONNX operator, and a whole plan as a model to run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import onnxruntime
from onnx import helper as make
from onnx import numpy_helper

from convspec.backend import Kernel
from convspec.plan import Call, Node, linear

from ._arrays import NUMBERS

#: Pad has a list of amounts in bfloat16 too since 18; a model is no newer than it must be.
OPSET = 18
IR_VERSION = 8
#: Sessions that are kept: each has threads and memory of its own.
SESSIONS = 256
MODES = {"zeros": "constant", "reflect": "reflect", "replicate": "edge"}


@dataclass(frozen=True)
class Operator:
    """An ONNX operator: its name, the integer tensors behind its arrays, and its attributes."""

    name: str
    tensors: tuple[tuple[int, ...], ...] = ()
    attributes: dict[str, Any] = field(default_factory=dict)


def conv(*, call: Call) -> Operator:
    """x (N, C, space), w (O, I, space) or transposed (I, O, space) -> y (N, O, space)."""
    attributes: dict[str, Any] = {"kernel_shape": call.kernel_size}
    if any(step != 1 for step in call.stride):
        attributes["strides"] = call.stride
    if any(step != 1 for step in call.dilation):
        attributes["dilations"] = call.dilation
    if any(lo != 0 or hi != 0 for lo, hi in call.padding):
        attributes["pads"] = (*(lo for lo, _ in call.padding), *(hi for _, hi in call.padding))
    if any(call.output_padding):
        attributes["output_padding"] = call.output_padding
    if call.groups > 1:
        attributes["group"] = call.groups
    return Operator("ConvTranspose" if call.transposed else "Conv", (), attributes)


def flip(*, axes: tuple[int, ...]) -> Operator:
    """From the last element to before the first, whatever the size."""
    last, before_first = (-1,) * len(axes), (np.iinfo(np.int64).min,) * len(axes)
    return Operator("Slice", (last, before_first, axes, (-1,) * len(axes)))


def pad(*, pairs: Sequence[Any], mode: str) -> Operator:
    amounts = (*(lo for lo, _ in pairs), *(hi for _, hi in pairs))
    return Operator("Pad", (amounts,), {"mode": MODES[mode]})


def part(*, index: Sequence[slice]) -> Operator:
    """The axes that are not taken whole."""
    axes = tuple(axis for axis, s in enumerate(index) if s != slice(None))
    cuts = [index[axis] for axis in axes]
    starts, steps = tuple(s.start or 0 for s in cuts), tuple(s.step or 1 for s in cuts)
    stops = tuple(np.iinfo(np.int64).max if s.stop is None else s.stop for s in cuts)
    return Operator("Slice", (starts, stops, axes, steps))


OPERATORS: dict[str, Callable[..., Operator]] = {
    "add": lambda: Operator("Add"),
    "cast": lambda *, dtype: Operator("Cast", (), {"to": NUMBERS[dtype]}),
    "concat": lambda *, axis: Operator("Concat", (), {"axis": axis}),
    "conv": conv,
    "flip": flip,
    "multiply": lambda: Operator("Mul"),
    "pad": pad,
    "permute": lambda *, axes: Operator("Transpose", (), {"perm": axes}),
    "reshape": lambda *, shape: Operator("Reshape", (tuple(shape),), {"allowzero": 1}),
    "slice": part,
}


def model(plan: Node, inputs: Sequence[Node]) -> bytes:
    """A plan as an ONNX model: its inputs keep their names, its output is ``y``."""
    lines = linear(plan, inputs)
    names = [node.params["name"] for node in inputs]
    names += [f"y{line.target}" for line in lines[:-1]] + ["y"] * bool(lines)
    nodes, tensors = [], []
    for line in lines:
        operator = OPERATORS[line.node.op](**line.node.params)
        given = [names[i] for i in line.args]
        for position, values in enumerate(operator.tensors):
            given.append(f"{names[line.target]}_{position}")
            tensors.append(numpy_helper.from_array(np.array(values, np.int64), given[-1]))
        nodes.append(
            make.make_node(operator.name, given, [names[line.target]], **operator.attributes)
        )
    graph = make.make_graph(
        nodes,
        "convspec",
        [make.make_tensor_value_info(n.params["name"], NUMBERS[n.dtype], n.shape) for n in inputs],
        [make.make_tensor_value_info("y", NUMBERS[plan.dtype], plan.shape)],
        tensors,
    )
    built = make.make_model(
        graph, opset_imports=[make.make_opsetid("", OPSET)], ir_version=IR_VERSION
    )
    data: bytes = built.SerializeToString()
    return data


def kernel(plan: Node, inputs: Sequence[Node]) -> Kernel:
    """A plan as a callable of values; its session is made at the first call."""
    if plan in inputs:
        return lambda x, *_: x
    data = model(plan, inputs)
    names = tuple(node.params["name"] for node in inputs)

    def run(*values: Any) -> Any:
        return session(data).run_with_ort_values(["y"], dict(zip(names, values, strict=True)))[0]

    return run


@lru_cache(maxsize=SESSIONS)
def session(data: bytes) -> Any:
    """The session of a model, on the CPU."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors: warnings are about models made by hand
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
