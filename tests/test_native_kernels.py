"""The input's framework, device and dtype stay, and a kernel of that framework does the work.

Three proofs for each framework: every operation of a call is recorded, and the result comes from
the input by way of a convolution kernel; where a framework can compute on shapes alone, it does;
and while every way from its arrays to NumPy is blocked, the numbers are still right.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np
import pytest
import tensorflow as tf
import torch
from tensorflow.python.framework import op_callbacks
from tensorflow.python.framework.ops import _EagerTensorBase
from torch.utils._python_dispatch import TorchDispatchMode

from convspec import ConvSpec, convert_layout, get_backend, reference
from generators import Case, arrays

CASES = {
    "1-D causal": Case(ConvSpec(4, 6, 3, padding="causal", dilation=2, layout="NCW"), (2, 4, 9)),
    "1-D unbatched, replicate": Case(
        ConvSpec(2, 3, 4, padding=((2, -1),), padding_mode="replicate", layout="WC"), (9, 2)
    ),
    "2-D same": Case(
        ConvSpec(3, 5, 3, 2, "same", layout="NHWC", weight_layout="HWIO"), (2, 7, 6, 3)
    ),
    "2-D grouped, asymmetric": Case(
        ConvSpec(4, 6, (3, 2), padding=((1, 2), (0, 1)), groups=2), (2, 4, 6, 5)
    ),
    "2-D depthwise": Case(
        ConvSpec(3, 6, 3, groups=3, layout="NHWC", weight_layout="HWIM"), (2, 5, 6, 3)
    ),
    "2-D circular, to channels last": Case(
        ConvSpec(3, 2, 3, padding=2, padding_mode="circular", layout="NCHW", output_layout="NHWC"),
        (2, 3, 5, 4),
    ),
    "3-D strided": Case(ConvSpec(3, 4, 3, 2, 1, layout="NCDHW"), (2, 3, 5, 6, 7)),
    "3-D grouped, channels last": Case(
        ConvSpec(4, 4, 2, groups=2, padding="same", layout="NDHWC"), (1, 3, 4, 5, 4)
    ),
    "3-D reflect": Case(
        ConvSpec(2, 3, (1, 3, 2), padding=1, padding_mode="reflect", layout="NDHWC"),
        (1, 3, 4, 4, 2),
    ),
    "1-D transposed": Case(
        ConvSpec(4, 2, 3, 2, 1, transposed=True, output_padding=1, layout="NWC"), (2, 5, 4)
    ),
    "2-D transposed, grouped": Case(
        ConvSpec(4, 6, 3, 2, "same", groups=2, transposed=True, layout="NCHW"),
        (2, 4, 3, 4),
        (5, 8),
    ),
    "3-D transposed": Case(
        ConvSpec(3, 2, 3, 2, padding=((1, 0), 1, 0), transposed=True, layout="NDHWC"),
        (1, 2, 3, 2, 3),
    ),
    "4-D": Case(ConvSpec(2, 3, 2, padding=((0, 1), 0, 1, 0), layout="NCTDHW"), (2, 2, 2, 3, 3, 4)),
    "empty batch": Case(ConvSpec(2, 3, 3, layout="NDHWC"), (0, 4, 5, 4, 2)),
    "float16": Case(ConvSpec(3, 4, 3, padding=1, layout="NHWC"), (2, 5, 5, 3), dtype="float16"),
    "bfloat16 transposed": Case(
        ConvSpec(3, 4, 2, 2, transposed=True, layout="NCDHW"), (1, 3, 2, 3, 2), dtype="bfloat16"
    ),
    "int8 to int32": Case(
        ConvSpec(3, 4, 3, padding=1, layout="NHWC"), (2, 5, 5, 3), dtype="int8", out_dtype="int32"
    ),
    "int32 3-D": Case(ConvSpec(2, 3, 2, layout="NCDHW"), (1, 2, 3, 3, 3), dtype="int32"),
    "complex64": Case(ConvSpec(2, 3, 2, layout="NCHW"), (1, 2, 3, 4), dtype="complex64"),
}
FRAMEWORKS = ("torch", "tensorflow", "jax")
each_case = pytest.mark.parametrize("name", CASES)
each_framework = pytest.mark.parametrize("framework", FRAMEWORKS)

#: What counts as a convolution kernel; without a kernel for integers, TensorFlow multiplies
#: matrices, one for each tap.
KERNELS = {
    "torch": {"aten.convolution.default"},
    "tensorflow": {
        *("Conv2D", "Conv3D", "DepthwiseConv2dNative"),
        *("Conv2DBackpropInput", "Conv3DBackpropInputV2"),
        *("MatMul", "BatchMatMulV2"),
    },
    "jax": {"conv_general_dilated"},
}


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


class Record:
    """Operations by name, and which arrays come from x, with a kernel on the way or without."""

    def __init__(self, framework: str, x: Any) -> None:
        self.kernels = KERNELS[framework]
        self.names: list[str] = []
        self.from_x = {id(x): x}  # arrays are kept alive, so that an id stands for one of them
        self.through_kernel: dict[int, Any] = {}

    def add(self, name: str, inputs: Iterable[Any], outputs: Iterable[Any]) -> None:
        self.names.append(name)
        read = {id(array) for array in inputs}
        made = {id(array): array for array in outputs}
        if read & self.from_x.keys():
            self.from_x |= made
            if name in self.kernels or read & self.through_kernel.keys():
                self.through_kernel |= made

    @property
    def calls(self) -> int:
        """How many kernels ran."""
        return sum(name in self.kernels for name in self.names)

    def explains(self, y: Any) -> bool:
        """Whether recorded operations lead from x over a kernel to y, without a gap."""
        return id(y) in self.through_kernel


@contextmanager
def recording(framework: str, x: Any) -> Iterator[Record]:
    """Record what a framework that runs operation by operation does."""
    record = Record(framework, x)
    if framework == "torch":
        with _TorchRecorder(record):
            yield record
        return

    def callback(op_type: Any, inputs: Any, attrs: Any, outputs: Any, *_: Any) -> None:
        record.add(str(op_type), inputs, outputs)

    op_callbacks.add_op_callback(callback)
    try:
        yield record
    finally:
        op_callbacks.remove_op_callback(callback)


class _TorchRecorder(TorchDispatchMode):
    def __init__(self, record: Record) -> None:
        super().__init__()
        self.record = record

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        y = func(*args, **(kwargs or {}))
        # torch.cat takes a list of tensors, split gives one.
        inputs = [item for arg in args for item in (arg if isinstance(arg, list) else [arg])]
        self.record.add(str(func), inputs, y if isinstance(y, (list, tuple)) else [y])
        return y


@each_case
@pytest.mark.parametrize("framework", ["torch", "tensorflow"])
def test_eager_calls_run_the_frameworks_kernel(framework: str, name: str) -> None:
    case = CASES[name]
    given = native_arrays(framework, case)
    run(case, given)  # what works is tried out once, and those trials are not this call
    with recording(framework, given[0]) as record:
        y = run(case, given)
    assert record.explains(y), record.names
    if not (
        framework == "torch" and case.dtype == "complex64"
    ):  # torch makes it of three real ones
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


def jaxpr_of(case: Case, given: list[Any], **options: Any) -> list[str]:
    """Names of the primitives that a call traces to, inner programs included."""

    def names(jaxpr: Any) -> Iterator[str]:
        for equation in jaxpr.eqns:
            yield equation.primitive.name
            for inner in jax.core.jaxprs_in_params(equation.params):
                yield from names(inner)

    return list(names(jax.make_jaxpr(lambda given: run(case, given, **options))(given).jaxpr))


@each_case
def test_jax_traces_to_its_kernel(name: str) -> None:
    case = CASES[name]
    given = native_arrays("jax", case)
    names = jaxpr_of(case, given)
    # XLA has a kernel for everything, so one is enough. The trace is all that a call computes.
    assert names.count("conv_general_dilated") == 1
    assert not [primitive for primitive in names if "callback" in primitive]


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

CONVERTERS = ("array", "asanyarray", "ascontiguousarray", "asarray", "from_dlpack")
COMPUTERS = ("dot", "einsum", "matmul", "tensordot")
WAYS_OUT = {
    torch.Tensor: ("__array__", "__dlpack__", "numpy", "tolist"),
    _EagerTensorBase: ("__array__", "__dlpack__", "numpy"),
    type(jax.numpy.zeros(())): ("__array__", "__dlpack__", "tolist"),
}


class LeftError(AssertionError):
    """A framework's array was about to become NumPy's."""


@pytest.fixture
def no_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Block every way from a framework's array to NumPy, and what NumPy would convolve with."""

    def refuse(*_: Any, **__: Any) -> Any:
        raise LeftError

    def converter(convert: Callable[..., Any]) -> Callable[..., Any]:
        # The memory of JAX and TensorFlow arrays is also open by the buffer protocol, which
        # cannot be taken from them; so the readers are blocked as well.
        def guarded(given: Any, *args: Any, **options: Any) -> Any:
            if isinstance(given, tuple(WAYS_OUT)):
                raise LeftError
            return convert(given, *args, **options)

        return guarded

    for owner, names in WAYS_OUT.items():
        for name in names:
            monkeypatch.setattr(owner, name, refuse)
    for name in CONVERTERS:
        monkeypatch.setattr(np, name, converter(getattr(np, name)))
    for name in COMPUTERS:
        monkeypatch.setattr(np, name, refuse)


@each_case
@each_framework
def test_nothing_goes_through_numpy(
    framework: str, name: str, request: pytest.FixtureRequest
) -> None:
    case = CASES[name]
    given = native_arrays(framework, case)
    run(case, given)  # TensorFlow's trials read their tiny results
    monkeypatch = request.getfixturevalue("monkeypatch")
    request.getfixturevalue("no_numpy")
    # Also nothing that is on the host for JAX alone, as constants of a kernel would be.
    with jax.transfer_guard("disallow_explicit"):
        y = run(case, given)
    monkeypatch.undo()
    check_result(framework, case, given[0], y)


@each_framework
def test_the_block_notices_a_call_that_goes_through_numpy(
    framework: str, request: pytest.FixtureRequest
) -> None:
    case = CASES["2-D same"]
    given = native_arrays(framework, case)
    run(case, given, backend="numpy")
    request.getfixturevalue("no_numpy")
    with pytest.raises(LeftError):
        run(case, given, backend="numpy")
    for convert in (getattr(np, name) for name in CONVERTERS):
        with pytest.raises(LeftError):
            convert(given[0])


# ---- NumPy itself ----


@each_case
def test_numpy_multiplies_matrices(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case = CASES[name]
    x, w, b = numpy_arrays(case)
    matmul, flops, types = np.matmul, 0, set()

    def spy(a: Any, b: Any, **options: Any) -> Any:
        nonlocal flops
        y = matmul(a, b, **options)
        flops += 2 * y.size * a.shape[-1]
        types.add(y.dtype.name)
        return y

    monkeypatch.setattr(np, "matmul", spy)
    y = run(case, (x, w, b))
    monkeypatch.undo()
    # Every multiplication is a matrix product's, and there are none beside those of the formula.
    assert flops == case.spec.flops(case.input_shape)
    accumulator = {"float16": "float32", "bfloat16": "float32"}.get(case.dtype, case.dtype)
    assert types <= {case.out_dtype or accumulator}
    assert type(y) is np.ndarray
    check_result("numpy", case, x, y)


def test_layouts_and_weights_convert_as_views() -> None:
    x, w = torch.ones(1, 2, 3, 4), torch.ones(5, 2, 3, 3)
    spec = ConvSpec(2, 5, 3, layout="NCHW")
    assert convert_layout(x, "NCHW", "NHWC").data_ptr() == x.data_ptr()
    assert spec.convert_weight(w, "tensorflow").data_ptr() == w.data_ptr()
