"""Layout strings, and moving arrays and weights between them, on every framework."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import convspec
from convspec import ConvSpec, LayoutError
from convspec.layouts import permutation
from generators import random_case


def test_worked_permutations() -> None:
    assert permutation("NDCHW", "NDHWC") == (0, 1, 3, 4, 2)
    assert permutation("ODIHW", "DHWIO") == (1, 3, 4, 2, 0)


@given(st.permutations("NCDHW"), st.permutations("NCDHW"), st.permutations("NCDHW"))
def test_permutations_compose(a: list[str], b: list[str], c: list[str]) -> None:
    a, b, c = map("".join, (a, b, c))
    x = np.arange(2 * 3 * 4 * 5 * 6).reshape(2, 3, 4, 5, 6)
    direct = convspec.convert_layout(x, a, c)
    assert np.array_equal(convspec.convert_layout(convspec.convert_layout(x, a, b), b, c), direct)
    assert np.array_equal(convspec.convert_layout(direct, c, a), x)


def test_views_where_the_framework_can() -> None:
    import torch

    x = np.zeros((2, 3, 4, 5), "float32")
    assert np.shares_memory(convspec.convert_layout(x, "NCHW", "NHWC"), x)
    t = torch.from_numpy(x)
    assert convspec.convert_layout(t, "NCHW", "HWCN").data_ptr() == t.data_ptr()
    assert convspec.convert_layout(t, "NCHW", "NCHW") is t


def test_every_framework_moves_alike(backend: convspec.Backend) -> None:
    x = np.arange(120, dtype="float32").reshape(2, 3, 4, 5)
    y = convspec.convert_layout(backend.from_foreign(x), "NCHW", "WNHC")
    assert backend.owns(y)
    assert np.array_equal(backend.to_numpy(y), x.transpose(3, 0, 2, 1))


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        ("NCHW", "NCDHW", "layout: 'NCHW' and 'NCDHW' do not name the same axes"),
        ("NCHW", "NCHX", "layout: 'NCHW' and 'NCHX' do not name the same axes; only one of them"),
        ("NCHH", "NCHW", "source: 'H' stands twice in 'NCHH'; name each axis once."),
        ("NcHW", "NCHW", "source: 'c' in 'NcHW' is no axis letter; use capitals A to Z."),
        ("NHW", "NHW", "source: 'NHW' has no channel axis"),
        ("NC", "NC", "source: 'NC' has no spatial axis"),
        ("OIHW", "NCHW", "source: 'O' in 'OIHW' is an axis of a weight, not of data."),
        (5, "NCHW", "source: expected a string of axis letters such as 'NCHW', got 5."),
    ],
)
def test_bad_layouts(source: str, target: str, message: str) -> None:
    with pytest.raises(LayoutError, match=re.escape(message)):
        convspec.convert_layout(np.zeros((1, 2, 3, 4)), source, target)


def test_wrong_number_of_axes() -> None:
    with pytest.raises(LayoutError, match="x: has 3 axes, but source 'NCHW' names 4"):
        convspec.convert_layout(np.zeros((1, 2, 3)), "NCHW", "NHWC")


def test_weights_go_and_come_back_bit_for_bit() -> None:
    rng = np.random.default_rng(5)
    names = sorted(convspec.conventions.CONVENTIONS)
    for _ in range(300):
        spec = random_case(rng).spec
        w = rng.standard_normal(spec.weight_shape)
        other = spec.in_convention(names[rng.integers(len(names))])
        moved = spec.convert_weight(w, other)
        assert moved.shape == other.weight_shape
        assert np.array_equal(other.convert_weight(moved, spec), w)


def test_converted_weights_compute_the_same() -> None:
    """The reference reads both orders by itself, so this ties orders to meanings."""
    rng = np.random.default_rng(6)
    for _ in range(150):
        case = random_case(rng)
        spec = case.spec
        other = spec.in_convention(["torch", "jax", "mlx", "matconvnet"][rng.integers(4)])
        x = rng.integers(-3, 4, case.input_shape).astype("float64")
        w = rng.integers(-3, 4, spec.weight_shape).astype("float64")
        y = convspec.reference(spec, x, w)
        moved = convspec.convert_layout(x, spec.layout, other.layout)
        z = convspec.reference(other, moved, spec.convert_weight(w, other))
        assert np.array_equal(
            convspec.convert_layout(z, other.output_layout, spec.output_layout), y
        )


def test_weights_on_every_framework(backend: convspec.Backend) -> None:
    spec = ConvSpec(4, 6, (3, 2), groups=2, transposed=True)
    w = np.arange(4 * 3 * 6, dtype="float32").reshape(spec.weight_shape)
    moved = spec.convert_weight(backend.from_foreign(w), "jax")
    assert backend.owns(moved)
    assert np.array_equal(backend.to_numpy(moved), spec.convert_weight(w, "jax"))


def test_weight_of_another_convolution() -> None:
    spec = ConvSpec(2, 4, (3, 3))
    w = np.zeros(spec.weight_shape)
    with pytest.raises(convspec.ShapeError, match=re.escape("to: has out_channels 8, but this")):
        spec.convert_weight(w, ConvSpec(2, 8, (3, 3)))
    with pytest.raises(LayoutError, match=re.escape("to: has the spatial axes 'TW', but this")):
        spec.convert_weight(w, ConvSpec(2, 4, 3, layout="NCTW"))
    with pytest.raises(convspec.ShapeError, match="weight: has another size than expected on axis"):
        spec.convert_weight(np.zeros((3, 3, 2, 4)), "tensorflow")
