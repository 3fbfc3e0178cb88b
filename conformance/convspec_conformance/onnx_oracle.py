"""The ONNX operators as an oracle: the standard's own evaluator, and onnxruntime.

A case becomes one model, Pad for the modes and Conv or ConvTranspose, written from the operators'
specification (https://onnx.ai/onnx/operators/). What an engine is known to get wrong or to lack is
listed with the reason; all other cases it has to answer as the reference does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from convspec import ConvSpec
from convspec.problem import Problem, resolve

from . import oracles
from .cases import Case
from .fillings import Array

ENGINES = ("onnx.reference", "onnxruntime")
#: The element types that the operators have.
TYPES = ("float16", "bfloat16", "float32", "float64")
MODES = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}
AUTO = {"same": "SAME_UPPER", "same_lower": "SAME_LOWER"}


@dataclass(frozen=True)
class Exclusion:
    """Cases that an engine gets wrong or does not compute.

    Attributes:
        engine: one of :data:`ENGINES`.
        reason: what it does instead.
        example: the line of a case of this kind.
        covers: whether a case is one of them.
    """

    engine: str
    reason: str
    example: str
    covers: Callable[[Case, Problem], bool]


def _crops(problem: Problem) -> bool:
    return not problem.transposed and min(map(min, problem.padding)) < 0


def _automatic(case: Case, problem: Problem, *names: str) -> bool:
    """Whether the model says one of these names in place of the amounts."""
    return problem.padding_mode == "zeros" and set(case.spec.padding) in [{name} for name in names]


def _automatic_below_stride(case: Case, problem: Problem) -> bool:
    extents = zip(case.spec.receptive_field, problem.stride, strict=True)
    return (
        problem.transposed and _automatic(case, problem, *AUTO) and any(e < s for e, s in extents)
    )


EXCLUSIONS = (
    Exclusion(
        "onnx.reference",
        "ConvTranspose with groups raises, or is wrong",
        "exact float32 1x4x3 seed=1 | ConvSpec(4, 4, (2,), groups=2, transposed=True)",
        lambda case, problem: problem.transposed and problem.groups > 1,
    ),
    Exclusion(
        "onnx.reference",
        "ConvTranspose raises at an empty batch",
        "exact float32 0x2x3 seed=1 | ConvSpec(2, 3, (2,), transposed=True)",
        lambda case, problem: problem.transposed and problem.batch == 0,
    ),
    Exclusion(
        "onnx.reference",
        "ConvTranspose with auto_pad shifts the output of a kernel below the stride",
        "exact float32 1x1x2 seed=1 | "
        "ConvSpec(1, 1, (1,), stride=2, padding='same', transposed=True)",
        _automatic_below_stride,
    ),
    Exclusion(
        "onnx.reference",
        "Pad raises at negative amounts",
        "exact float32 1x1x5 seed=1 | ConvSpec(1, 1, (2,), padding=((-1, 2),))",
        lambda case, problem: _crops(problem),
    ),
    Exclusion(
        "onnxruntime",
        "has no Conv and ConvTranspose of float64 on the CPU",
        "exact float64 1x1x3 seed=1 | ConvSpec(1, 1, (2,))",
        lambda case, problem: case.dtype == "float64",
    ),
    Exclusion(
        "onnxruntime",
        "has no Conv and ConvTranspose of bfloat16 on the CPU",
        "exact bfloat16 1x1x3 seed=1 | ConvSpec(1, 1, (2,))",
        lambda case, problem: case.dtype == "bfloat16",
    ),
    Exclusion(
        "onnxruntime",
        "Conv has no dilation beside auto_pad",
        "exact float32 1x1x5 seed=1 | ConvSpec(1, 1, (2,), padding='same', dilation=2)",
        lambda case, problem: (
            not problem.transposed
            and max(problem.dilation) > 1
            and _automatic(case, problem, *AUTO)
        ),
    ),
    Exclusion(
        "onnxruntime",
        "ConvTranspose with auto_pad gives a kernel below the stride another shape",
        "exact float32 1x1x2 seed=1 | "
        "ConvSpec(1, 1, (1,), stride=2, padding='same', transposed=True)",
        _automatic_below_stride,
    ),
    Exclusion(
        "onnxruntime",
        "Pad in its mode wrap raises at an empty batch",
        "exact float32 0x1x3 seed=1 | ConvSpec(1, 1, (2,), padding=1, padding_mode='circular')",
        lambda case, problem: problem.padding_mode == "circular" and problem.batch == 0,
    ),
    Exclusion(
        "onnxruntime",
        "Pad crops first, and reads what is left of the input",
        "exact float32 1x1x5 seed=1 | "
        "ConvSpec(1, 1, (2,), padding=((-2, 3),), padding_mode='circular')",
        lambda case, problem: problem.padding_mode != "zeros" and _crops(problem),
    ),
)


def excluded(case: Case, engine: str) -> Exclusion | None:
    """The first exclusion that covers a case, or None."""
    problem = _problem(case)
    for exclusion in EXCLUSIONS:
        if exclusion.engine == engine and exclusion.covers(case, problem):
            return exclusion
    return None


def expressible(case: Case) -> bool:
    """Whether the operators have a meaning for a case: one type, at least one of everything."""
    problem = _problem(case)
    if case.dtype not in TYPES or case.out_dtype not in (None, case.dtype):
        return False
    if not case.spec.transposed:
        return True
    strides = zip(problem.output_padding, problem.stride, strict=True)
    return all(extra < s for extra, s in strides) and min(map(min, problem.padding)) >= 0


def answer(case: Case, engine: str, arrays: tuple[Array, Array, Array | None]) -> Array:
    """What an engine computes for a case that is :func:`expressible`."""
    spec = case.spec
    x, w, b = arrays
    feeds = {"x": oracles.canonical(x, spec.layout, "NC" + spec.spatial), "w": weight(spec, w)}
    if b is not None:
        feeds["b"] = b
    feeds = {name: np.ascontiguousarray(array) for name, array in feeds.items()}
    y = _run(_model(case, feeds), engine, feeds)
    return oracles.canonical(y, "NC" + spec.spatial, spec.output_layout)


def weight(spec: ConvSpec, w: Array) -> Array:
    """A weight in the operators' order: (O, I/groups, space), transposed (I, O/groups, space)."""
    taps = oracles.per_group(spec, w)
    if spec.transposed:
        taps = taps.swapaxes(1, 2)
    return taps.reshape(-1, *taps.shape[2:])


def _problem(case: Case) -> Problem:
    return resolve(case.spec, case.input_shape, case.output_size)


def _run(model: Any, engine: str, feeds: dict[str, Array]) -> Array:
    if engine == "onnx.reference":
        from onnx.reference import ReferenceEvaluator

        y: Array = ReferenceEvaluator(model).run(None, feeds)[0]
        return y
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    found: Array = session.run(None, feeds)[0]
    return found


def _model(case: Case, feeds: dict[str, Array]) -> Any:
    from onnx import helper, numpy_helper

    problem = _problem(case)
    attributes: dict[str, Any] = {
        "kernel_shape": problem.kernel_size,
        "strides": problem.stride,
        "dilations": problem.dilation,
        "group": problem.groups,
    }
    nodes, tensors, data = [], [], "x"
    ends = [lo for lo, _ in problem.padding] + [hi for _, hi in problem.padding]
    if _automatic(case, problem, *AUTO):
        attributes["auto_pad"] = AUTO[str(case.spec.padding[0])]
        if case.output_size is not None:
            attributes["output_shape"] = problem.output_size
    elif problem.padding_mode == "zeros" and min(ends) >= 0:
        attributes["pads"] = ends
        if problem.transposed:
            attributes["output_padding"] = problem.output_padding
    else:
        half = len(ends) // 2
        amounts = np.array([0, 0, *ends[:half], 0, 0, *ends[half:]], "int64")
        tensors.append(numpy_helper.from_array(amounts, "amounts"))
        mode = MODES.get(problem.padding_mode, "constant")
        nodes.append(helper.make_node("Pad", ["x", "amounts"], ["padded"], mode=mode))
        data = "padded"
    operator = "ConvTranspose" if problem.transposed else "Conv"
    inputs = [data, *[name for name in feeds if name != "x"]]
    nodes.append(helper.make_node(operator, inputs, ["y"], **attributes))
    kinds = {name: helper.np_dtype_to_tensor_dtype(array.dtype) for name, array in feeds.items()}
    graph = helper.make_graph(
        nodes,
        "case",
        [helper.make_tensor_value_info(name, kinds[name], feeds[name].shape) for name in feeds],
        [helper.make_tensor_value_info("y", kinds["x"], None)],
        tensors,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)], ir_version=10)
