"""The MLX adapter: the suite, what is one kernel call, snippets, gradients, arrays of others."""

from __future__ import annotations

import re

import mlx.core as mx
import numpy as np
import pytest

import convspec
import convspec_conformance as conformance
from convspec import ConvSpec, DTypeError, UnsupportedError, convert_layout, reference
from generators import integers
from test_explain import SNIPPETS, run_snippet

BACKEND = convspec.get_backend("mlx")
LAST2 = {"layout": "NHWC", "weight_layout": "OHWI"}
LAST3 = {"layout": "NDHWC", "weight_layout": "ODHWI"}


@pytest.mark.parametrize(
    ("spec", "path"),
    [
        (ConvSpec(4, 6, 3, 2, ((0, 1), 1), 2, 2, **LAST2), "native"),
        (ConvSpec(4, 6, 3, 2, 1, transposed=True, groups=2, layout="NCHW"), "native"),
        (ConvSpec(4, 6, 3, padding="causal", layout="NWC"), "native"),
        (ConvSpec(4, 6, 3, 2, 1, **LAST3), "native"),
        (ConvSpec(4, 6, 3, groups=2, **LAST3), "decomposed"),
        (ConvSpec(2, 3, (2, 2, 2, 2)), "decomposed"),
    ],
)
def test_what_is_one_kernel_call(spec: ConvSpec, path: str) -> None:
    assert spec.supports("mlx").path == path


@pytest.mark.parametrize(("groups", "calls"), [(2, 2), (8, 3)])
def test_grouped_3d_by_groups_or_by_taps(groups: int, calls: int) -> None:
    """MLX has no groups in 3-D: one call for each group, or for each of the three taps of D."""
    spec = ConvSpec(8, 8, 3, groups=groups, **LAST3)
    assert f"mx.conv_general(x, weight)  x {calls}" in re.sub(
        r", groups=\d+", "", spec.explain((1, 4, 4, 4, 8), backend="mlx")
    )
    rng = np.random.default_rng(0)
    x, w = integers(rng, (2, 4, 4, 5, 8), "float32"), integers(rng, spec.weight_shape, "float32")
    np.testing.assert_array_equal(spec(mx.array(x), mx.array(w)), reference(spec, x, w))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", SNIPPETS)
def test_snippets_run(name: str, dtype: str) -> None:
    run_snippet(SNIPPETS[name], BACKEND, dtype)


def test_gradients_are_the_adjoint() -> None:
    """Through the rewriting of grouped 3-D too: of the sum of y * g, that is the adjoint of g."""
    rng = np.random.default_rng(0)
    for options in (LAST2, LAST3):
        spec = ConvSpec(4, 6, 3, 2, 1, groups=2, bias=False, **options)
        shape = (2, *(5,) * spec.rank, 4)
        x, w = integers(rng, shape, "float32"), integers(rng, spec.weight_shape, "float32")
        g = integers(rng, spec.output_shape(shape), "float32")
        found = mx.grad(lambda a, s=spec, b=w, c=g: (s(a, mx.array(b)) * mx.array(c)).sum())(
            mx.array(x)
        )
        np.testing.assert_array_equal(found, reference(spec.adjoint(shape), g, w))


def test_arrays_of_others() -> None:
    import torch

    spec = ConvSpec(3, 4, 2, layout="NHWC")
    rng = np.random.default_rng(0)
    x, w = integers(rng, (1, 4, 5, 3), "float32"), integers(rng, spec.weight_shape, "float32")
    y = spec(torch.from_numpy(x), torch.from_numpy(w), backend="mlx")
    assert isinstance(y, torch.Tensor)
    np.testing.assert_array_equal(y, reference(spec, x, w))
    turned = convert_layout(mx.array(x), "NHWC", "NCHW")
    np.testing.assert_array_equal(turned, x.transpose(0, 3, 1, 2))
    order = spec.in_convention("jax").replace(transposed=False, flip_kernel=True)
    moved = spec.convert_weight(mx.array(w), order)
    np.testing.assert_array_equal(moved, spec.convert_weight(w, order))


def test_types_that_it_has_not() -> None:
    spec = ConvSpec(2, 2, 1, layout="NCW")
    x, w = mx.zeros((1, 2, 3), mx.int32), mx.zeros((2, 2, 1), mx.int32)
    with pytest.raises(UnsupportedError, match=r"^backend: mlx has no convolution of int32; it"):
        spec(x, w)
    with pytest.raises(DTypeError, match=r"^weight: is int32, but x is float32"):
        spec(x.astype(mx.float32), w)
    with pytest.raises(DTypeError, match="bool"):
        spec(x.astype(mx.bool_), w.astype(mx.bool_))


@pytest.mark.parametrize(
    "line",
    [
        # Padding beyond the kernel, a batch of none, and input that no window reaches: MLX's own
        # gradients have a wrong shape there, or end the process.
        "gradient float32 2x6x3x5 seed=1 size=6x14 | ConvSpec(2, 66, (4, 4), stride=(1, 2), "
        "padding=('same', (-1, 0)), groups=2, transposed=True, layout='CWNH', flip_kernel=True)",
        "gradient float32 0x3x6x3 seed=1 | ConvSpec(3, 9, (3, 3), stride=(3, 1), dilation=(3, 2), "
        "groups=3, bias=False, transposed=True, output_padding=(2, 0), layout='NCHW')",
        "gradient2 float32 2x17x2x6 seed=1 | ConvSpec(17, 2, (2, 4), stride=(1, 3), "
        "padding=((1, 1), (3, 3)), dilation=(3, 2), bias=False, padding_mode='replicate', "
        "layout='NCHW')",
        "gradient2 float32 2x3x9 seed=1 | ConvSpec(3, 2, 2, 4, bias=False, layout='NCW')",
    ],
)
def test_gradients_around_its_bugs(line: str) -> None:
    verdict = conformance.judge(conformance.parse(line), conformance.load("mlx"))
    assert verdict.status == "pass", verdict.detail
