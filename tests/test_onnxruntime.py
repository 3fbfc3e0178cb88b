"""The onnxruntime adapter: the suite, the models that it builds, snippets, arrays of others."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

import convspec
from convspec import ConvSpec, UnsupportedError, convert_layout, reference, to_framework
from convspec.backend import Environment
from convspec.plan import source
from convspec.problem import resolve
from convspec_onnxruntime import _kernel
from generators import integers
from test_explain import SNIPPETS, run_snippet

BACKEND: Any = convspec.get_backend("onnxruntime")


def operators(spec: ConvSpec, shape: tuple[int, ...], dtype: str = "float32") -> list[str]:
    """The operators of the model for a spec, in order."""
    lowered = BACKEND.plan(resolve(spec, shape, None), Environment(dtype, dtype, bias=spec.bias))
    model = onnx.load_from_string(_kernel.model(lowered.plan, lowered.inputs))
    onnx.checker.check_model(model, full_check=True)
    return [node.op_type for node in model.graph.node]


def test_a_problem_is_one_model() -> None:
    first = ConvSpec(4, 6, 3, 2, ((0, 1), 2), 2, 2, layout="NCHW")
    assert operators(first, (2, 4, 9, 9)) == ["Conv"]
    assert operators(first, (2, 4, 9, 9), "float16") == ["Cast"] * 3 + ["Conv", "Cast"]
    up = ConvSpec(4, 6, 3, 2, 1, output_padding=1, transposed=True, layout="NCHW")
    assert operators(up, (2, 4, 9, 9)) == ["ConvTranspose"]
    last = ConvSpec(4, 6, 3, layout="NHWC", weight_layout="HWIO", padding=1, bias=False)
    mode = last.replace(padding_mode="reflect", flip_kernel=True)
    assert operators(last, (2, 9, 9, 4)) == ["Transpose", "Transpose", "Conv", "Transpose"]
    assert sorted(operators(mode, (2, 9, 9, 4))) == sorted(
        ["Transpose", "Pad", "Transpose", "Slice", "Conv", "Transpose"]
    )


class OnNumpy:
    """Snippets run operators on NumPy arrays."""

    name = "onnxruntime"

    def to_numpy(self, x: Any) -> Any:
        return x


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("name", SNIPPETS)
def test_snippets_run(name: str, dtype: str) -> None:
    run_snippet(SNIPPETS[name], OnNumpy(), dtype)


def test_values_and_arrays_of_others() -> None:
    spec = ConvSpec(3, 4, 2, layout="NHWC")
    rng = np.random.default_rng(0)
    x, w = integers(rng, (1, 4, 5, 3), "float32"), integers(rng, spec.weight_shape, "float32")
    expected = reference(spec, x, w)
    np.testing.assert_array_equal(spec(x, w, backend="onnxruntime"), expected)
    y = spec(to_framework(x, "onnxruntime"), w)
    assert isinstance(y, onnxruntime.OrtValue)
    np.testing.assert_array_equal(y.numpy(), expected)
    turned = convert_layout(to_framework(x, "onnxruntime"), "NHWC", "NCHW")
    np.testing.assert_array_equal(turned.numpy(), x.transpose(0, 3, 1, 2))
    order = spec.in_convention("tensorflow").replace(flip_kernel=True)
    moved = spec.convert_weight(to_framework(w, "onnxruntime"), order)
    np.testing.assert_array_equal(moved.numpy(), spec.convert_weight(w, order))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64", "int8", "uint64"])
def test_values_keep_their_type(dtype: str) -> None:
    import ml_dtypes

    kind: Any = ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype
    x = np.arange(6).reshape(2, 3).astype(kind)
    value = BACKEND.from_foreign(x[:, ::-1])
    assert BACKEND.describe(value) == ((2, 3), dtype, "cpu")
    np.testing.assert_array_equal(BACKEND.to_numpy(value), x[:, ::-1])


def test_gradients_are_not_lost() -> None:
    import torch

    x, w = torch.zeros(1, 2, 3, requires_grad=True), torch.zeros(2, 2, 1)
    with pytest.raises(UnsupportedError, match=r"^backend: x takes part in torch's gradients"):
        ConvSpec(2, 2, 1, layout="NCW")(x, w, backend="onnxruntime")


def test_types_that_it_has_not() -> None:
    x, w = (to_framework(np.zeros(s), "onnxruntime") for s in ((1, 2, 3), (2, 2, 1)))
    message = "^backend: onnxruntime has no convolution of float64; it has float16, bfloat16, flo"
    with pytest.raises(UnsupportedError, match=message):
        ConvSpec(2, 2, 1, layout="NCW")(x, w)


def test_a_plan_that_does_nothing() -> None:
    x = source("x", (2, 3), "float32")
    value = to_framework(np.ones((2, 3), "float32"), "onnxruntime")
    assert _kernel.kernel(x, [x])(value) is value
