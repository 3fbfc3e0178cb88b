"""The input's framework, device and dtype stay, and a kernel of that framework does the work.

Three proofs for each framework: every operation of a call is recorded, and the result comes from
the input by way of a convolution kernel; where a framework can compute on shapes alone, it does;
and while every way from its arrays to NumPy is blocked, the numbers are still right.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import jax
import numpy as np
import pytest
import tensorflow as tf
import torch
from jax.extend.core import jaxprs_in_params

from convspec import ConvSpec, get_backend, reference
from generators import Case, arrays
from watching import CONVERTERS, LeftError, Record, no_numpy, recording

exact = partial(Case, "exact")
CASES = {
    "1-D causal": exact(ConvSpec(4, 6, 3, padding="causal", dilation=2, layout="NCW"), (2, 4, 9)),
    "1-D unbatched, replicate": exact(
        ConvSpec(2, 3, 4, padding=((2, -1),), padding_mode="replicate", layout="WC"), (9, 2)
    ),
    "2-D same": exact(
        ConvSpec(3, 5, 3, 2, "same", layout="NHWC", weight_layout="HWIO"), (2, 7, 6, 3)
    ),
    "2-D grouped, asymmetric": exact(
        ConvSpec(4, 6, (3, 2), padding=((1, 2), (0, 1)), groups=2), (2, 4, 6, 5)
    ),
    "2-D depthwise": exact(
        ConvSpec(3, 6, 3, groups=3, layout="NHWC", weight_layout="HWIM"), (2, 5, 6, 3)
    ),
    "2-D circular, to channels last": exact(
        ConvSpec(3, 2, 3, padding=2, padding_mode="circular", layout="NCHW", output_layout="NHWC"),
        (2, 3, 5, 4),
    ),
    "3-D strided": exact(ConvSpec(3, 4, 3, 2, 1, layout="NCDHW"), (2, 3, 5, 6, 7)),
    "3-D grouped, channels last": exact(
        ConvSpec(4, 4, 2, groups=2, padding="same", layout="NDHWC"), (1, 3, 4, 5, 4)
    ),
    "3-D reflect": exact(
        ConvSpec(2, 3, (1, 3, 2), padding=1, padding_mode="reflect", layout="NDHWC"),
        (1, 3, 4, 4, 2),
    ),
    "1-D transposed": exact(
        ConvSpec(4, 2, 3, 2, 1, transposed=True, output_padding=1, layout="NWC"), (2, 5, 4)
    ),
    "2-D transposed, grouped": exact(
        ConvSpec(4, 6, 3, 2, "same", groups=2, transposed=True, layout="NCHW"),
        (2, 4, 3, 4),
        (5, 8),
    ),
    "3-D transposed": exact(
        ConvSpec(3, 2, 3, 2, padding=((1, 0), 1, 0), transposed=True, layout="NDHWC"),
        (1, 2, 3, 2, 3),
    ),
    "4-D": exact(ConvSpec(2, 3, 2, padding=((0, 1), 0, 1, 0), layout="NCTDHW"), (2, 2, 2, 3, 3, 4)),
    "empty batch": exact(ConvSpec(2, 3, 3, layout="NDHWC"), (0, 4, 5, 4, 2)),
    "float16": exact(ConvSpec(3, 4, 3, padding=1, layout="NHWC"), (2, 5, 5, 3), dtype="float16"),
    "bfloat16 transposed": exact(
        ConvSpec(3, 4, 2, 2, transposed=True, layout="NCDHW"), (1, 3, 2, 3, 2), dtype="bfloat16"
    ),
    "int8 to int32": exact(
        ConvSpec(3, 4, 3, padding=1, layout="NHWC"), (2, 5, 5, 3), dtype="int8", out_dtype="int32"
    ),
    "int32 3-D": exact(ConvSpec(2, 3, 2, layout="NCDHW"), (1, 2, 3, 3, 3), dtype="int32"),
    "complex64": exact(ConvSpec(2, 3, 2, layout="NCHW"), (1, 2, 3, 4), dtype="complex64"),
}
FRAMEWORKS = ("torch", "tensorflow", "jax")
each_case = pytest.mark.parametrize("name", CASES)
each_framework = pytest.mark.parametrize("framework", FRAMEWORKS)


def numpy_arrays(case: Case) -> tuple[Any, ...]:
    return arrays(np.random.default_rng(0), case)


def native_arrays(framework: str, case: Case) -> list[Any]:
    backend = get_backend(framework)
    return [a if a is None else backend.from_foreign(a) for a in numpy_arrays(case)]


def run(case: Case, given: Iterable[Any], **options: Any) -> Any:
    return case.spec(*given, output_size=case.output_size, out_dtype=case.out_dtype, **options)


def check_result(framework: str, case: Case, x: Any, y: Any) -> None:
    """Framework, device, dtype and numbers of ``y``."""
    assert type(y) is type(x)
    assert y.device == x.device
    backend = get_backend(framework)
    assert backend.describe(y)[1] == (case.out_dtype or case.dtype)
    expected = reference(
        case.spec, *numpy_arrays(case), output_size=case.output_size, out_dtype=case.out_dtype
    )
    np.testing.assert_array_equal(backend.to_numpy(y), expected)


# ---- what ran ----


@each_case
@pytest.mark.parametrize("framework", ["torch", "tensorflow"])
def test_eager_calls_run_the_frameworks_kernel(framework: str, name: str) -> None:
    case = CASES[name]
    given = native_arrays(framework, case)
    run(case, given)  # what works is tried out once, and those trials are not this call
    with recording(framework, given[0]) as record:
        y = run(case, given)
    assert record.explains(y), record.names
    # Of one complex convolution torch makes three real ones.
    if not (framework == "torch" and case.dtype == "complex64"):
        support = case.spec.supports(framework, case.input_shape, case.dtype, case.output_size)
        assert support.path == ("native" if record.calls == 1 else "decomposed")
    check_result(framework, case, given[0], y)


@pytest.mark.parametrize("framework", ["torch", "tensorflow"])
def test_the_record_notices_a_call_that_leaves_the_framework(framework: str) -> None:
    case = CASES["2-D same"]
    given = native_arrays(framework, case)
    with recording(framework, given[0]) as record:
        y = run(case, given, backend="numpy")
    check_result(framework, case, given[0], y)
    assert record.calls == 0
    assert not record.explains(y)


def test_the_record_notices_a_kernel_whose_result_is_not_used() -> None:
    x, w = torch.ones(1, 1, 3, 3), torch.ones(1, 1, 2, 2)
    with recording("torch", x) as record:
        torch.nn.functional.conv2d(x, w)
        y = x + 1
    assert record.calls == 1
    assert not record.explains(y)


@each_case
def test_a_tensorflow_graph_is_made_of_kernels(name: str) -> None:
    case = CASES[name]
    given = native_arrays("tensorflow", case)
    function = tf.function(lambda *given: run(case, given), autograph=False)
    graph = function.get_concrete_function(*given).graph
    assert not [op.type for op in graph.get_operations() if "Py" in op.type]
    record = Record("tensorflow", graph.inputs[0])
    for op in graph.get_operations():  # in the order in which they were made
        record.add(op.type, op.inputs, op.outputs)
    assert record.explains(graph.outputs[0]), record.names
    check_result("tensorflow", case, given[0], function(*given))


def primitives(function: Callable[..., Any], *given: Any) -> list[str]:
    """Names of the primitives that a function traces to, inner programs included."""

    def names(jaxpr: Any) -> Iterator[str]:
        for equation in jaxpr.eqns:
            yield equation.primitive.name
            for inner in jaxprs_in_params(equation.params):
                yield from names(inner)

    return list(names(jax.make_jaxpr(function)(*given).jaxpr))


def callbacks(names: Iterable[str]) -> list[str]:
    return [name for name in names if "callback" in name]


@each_case
def test_jax_traces_to_its_kernel(name: str) -> None:
    case = CASES[name]
    names = primitives(lambda *given: run(case, given), *native_arrays("jax", case))
    # The trace is all that a call computes. XLA has a kernel for everything, but is slow at some of
    # it on the CPU: several calls then. (Small ones as these are always have one.)
    assert "conv_general_dilated" in names
    assert not callbacks(names)


def test_a_trace_shows_callbacks() -> None:
    x = jax.numpy.ones(3)
    outside = jax.jit(lambda x: jax.pure_callback(np.negative, x, x))
    assert callbacks(primitives(lambda x: outside(x) + 1, x))


# ---- shapes alone ----


@each_case
def test_torch_computes_on_the_meta_device(name: str) -> None:
    # A meta tensor has no numbers, so none can have gone through NumPy.
    case = CASES[name]
    given = [a if a is None else a.to("meta") for a in native_arrays("torch", case)]
    y = run(case, given)
    assert y.is_meta
    assert tuple(y.shape) == case.spec.output_shape(case.input_shape, case.output_size)
    assert y.dtype == getattr(torch, case.out_dtype or case.dtype)


@each_case
def test_jax_computes_on_shapes(name: str) -> None:
    case = CASES[name]
    given = native_arrays("jax", case)
    y = jax.eval_shape(lambda given: run(case, given), given)
    assert y.shape == case.spec.output_shape(case.input_shape, case.output_size)
    assert y.dtype.name == (case.out_dtype or case.dtype)


# ---- no way to NumPy ----


@each_case
@each_framework
def test_nothing_goes_through_numpy(framework: str, name: str) -> None:
    case = CASES[name]
    given = native_arrays(framework, case)
    run(case, given)  # TensorFlow's trials read their tiny results
    # The guard forbids JAX, too, to take anything from the host.
    with no_numpy(), jax.transfer_guard("disallow_explicit"):
        y = run(case, given)
    check_result(framework, case, given[0], y)


@each_framework
def test_the_block_notices_a_call_that_goes_through_numpy(framework: str) -> None:
    case = CASES["2-D same"]
    given = native_arrays(framework, case)
    run(case, given, backend="numpy")
    with no_numpy(), pytest.raises(LeftError):
        run(case, given, backend="numpy")
    with no_numpy():
        for convert in (getattr(np, name) for name in CONVERTERS):
            with pytest.raises(LeftError):
                convert(given[0])


# ---- NumPy itself ----


@each_case
def test_numpy_multiplies_matrices(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case = CASES[name]
    x, w, b = numpy_arrays(case)
    matmul, multiply, flops, types = np.matmul, np.multiply, 0, set()

    def spy(a: Any, b: Any, **options: Any) -> Any:
        nonlocal flops
        y = matmul(a, b, **options)
        flops += 2 * y.size * a.shape[-1]
        types.add(y.dtype.name)
        return y

    def product_spy(a: Any, b: Any, **options: Any) -> Any:
        nonlocal flops
        y = multiply(a, b, **options)
        flops += 2 * y.size
        types.add(y.dtype.name)
        return y

    monkeypatch.setattr(np, "matmul", spy)
    if 1 < case.spec.groups == case.spec.in_channels:  # a product of matrices would have one row
        monkeypatch.setattr(np, "multiply", product_spy)
    y = run(case, (x, w, b))
    monkeypatch.undo()
    # Every multiplication is a matrix product's, or one of whole blocks where a matrix would be a
    # row, and there are none beside those of the formula.
    assert flops == case.spec.flops(case.input_shape)
    accumulator = {"float16": "float32", "bfloat16": "float32"}.get(case.dtype, case.dtype)
    assert types <= {case.out_dtype or accumulator}
    assert type(y) is np.ndarray
    check_result("numpy", case, x, y)
