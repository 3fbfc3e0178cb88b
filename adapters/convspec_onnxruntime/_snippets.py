"""The same operators as a person would run them, one at a time."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from convspec.snippets import example_text

from ._kernel import OPERATORS

PROLOGUE = '''
import numpy as np
import onnxruntime
from onnx import helper as make


def run(name, *arrays, **attributes):
    """One ONNX operator on arrays."""
    kind = make.np_dtype_to_tensor_dtype
    given = {f"x{i}": array for i, array in enumerate(arrays)}
    inputs = [make.make_tensor_value_info(key, kind(a.dtype), a.shape) for key, a in given.items()]
    output = make.make_tensor_value_info("y", attributes.get("to") or kind(arrays[0].dtype), None)
    node = make.make_node(name, list(given), ["y"], **attributes)
    graph = make.make_graph([node], "one_operator", inputs, [output])
    model = make.make_model(graph, opset_imports=[make.make_opsetid("", 18)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    return session.run(None, given)[0]
'''.strip()


def operator(op: str, *arrays: str, **params: Any) -> str:
    """A call of the prologue's ``run``."""
    made = OPERATORS[op](**params)
    arguments = [f'"{made.name}"', *arrays]
    arguments += [f"np.array({list(map(int, values))})" for values in made.tensors]
    for name, value in made.attributes.items():
        text = f'"{value}"' if isinstance(value, str) else str(value)
        arguments.append(f"{name}={text}")
    return f"run({', '.join(arguments)})"


def example(name: str, shape: Any, dtype: str) -> str:
    return f'{example_text(name, shape, "np")}.astype("{dtype}")'


SNIPPETS: dict[str, Callable[..., str]] = {
    **{op: partial(operator, op) for op in OPERATORS},
    "input": example,
    "literal": lambda values, *, dtype: f'np.array({values}, dtype="{dtype}")',
}
