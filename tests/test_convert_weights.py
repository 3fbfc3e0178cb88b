"""Weights between every pair of conventions: bit for bit, against native layers' own orders."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from convspec import LayoutError, ShapeError
from convspec.convert import Order, convert_weight, weight_spec
from convspec.convert.orders import KINDS, KNOWN, in_order


@st.composite
def kernels(draw: st.DrawFn) -> dict[str, Any]:
    """A kernel of any rank, kind and convention, with all elements different."""
    kind = draw(st.sampled_from(KINDS))
    rank = draw(st.integers(1, 3))
    groups = draw(st.integers(1, 3))
    per_group = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    kernel = tuple(draw(st.integers(1, 3)) for _ in range(rank))
    inputs = 1 if kind == "depthwise" else per_group[0]
    # In torch's order, whose shape is the plainest.
    if kind == "conv_transpose":
        shape = (groups * inputs, per_group[1], *kernel)
    else:
        shape = (groups * per_group[1], inputs, *kernel)
    names = st.sampled_from(sorted(KNOWN))
    return {
        "weight": np.arange(np.prod(shape), dtype="float32").reshape(shape),
        "kind": kind,
        "groups": groups,
        "source": draw(names),
        "target": draw(names),
        "flips": (draw(st.sampled_from([None, False, True])), draw(st.booleans())),
    }


@settings(deadline=None, max_examples=300)
@given(kernels())
def test_there_and_back_is_the_identity(case: dict[str, Any]) -> None:
    kind, groups = case["kind"], case["groups"]
    source = Order(case["source"], flip=case["flips"][0])
    target = Order(case["target"], flip=case["flips"][1])
    first = convert_weight(case["weight"], "torch", source, kind=kind, groups=groups)
    second = convert_weight(first, source, target, kind=kind, groups=groups)
    back = convert_weight(second, target, source, kind=kind, groups=groups)
    assert back.dtype == first.dtype
    np.testing.assert_array_equal(back, first, strict=True)
    straight = convert_weight(case["weight"], "torch", target, kind=kind, groups=groups)
    np.testing.assert_array_equal(second, straight, strict=True)


@settings(deadline=None, max_examples=60)
@given(kernels())
def test_the_convolution_stays_the_same(case: dict[str, Any]) -> None:
    kind, groups = case["kind"], case["groups"]
    spec = weight_spec(case["weight"].shape, "torch", kind=kind, groups=groups)
    other = in_order(spec, case["target"], kind)
    weight = convert_weight(case["weight"], "torch", case["target"], kind=kind, groups=groups)
    spatial = tuple(n + 1 for n in spec.kernel_size)
    rng = np.random.default_rng(0)
    x = rng.integers(-3, 4, (1, spec.in_channels, *spatial)).astype("float32")
    order = [spec.layout.index(letter) for letter in other.layout]
    out = [other.layout.index(letter) for letter in spec.layout]
    y = other(x.transpose(order), weight).transpose(out)
    np.testing.assert_array_equal(y, spec(x, case["weight"]))


def test_every_pair() -> None:
    weight = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)  # O=2, I=3, H=4, W=5
    shapes = {"OI": (2, 3, 4, 5), "*IO": (4, 5, 3, 2), "O*I": (2, 4, 5, 3)}
    rows = {"torch": "OI", "onnx": "OI", "mxnet": "OI", "mlx": "O*I", "tflite": "O*I"}
    for source in KNOWN:
        there = convert_weight(weight, "torch", source)
        assert there.shape == shapes[rows.get(source, "*IO")]
        for target in KNOWN:
            converted = convert_weight(there, source, target)
            assert converted.shape == shapes[rows.get(target, "*IO")]
            np.testing.assert_array_equal(convert_weight(converted, target, "torch"), weight)


def test_depthwise_with_multiplier() -> None:
    """Output channel i*M + m, as TensorFlow and TFLite define it."""
    weight = np.arange(3 * 3 * 4 * 2).reshape(3, 3, 4, 2)  # H W I M
    flat = convert_weight(weight, "keras", "tflite", kind="depthwise")
    np.testing.assert_array_equal(flat, weight.reshape(1, 3, 3, 8))
    grouped = convert_weight(flat, "1HWO", "torch", kind="depthwise", groups=4)
    assert grouped.shape == (8, 1, 3, 3)
    for i in range(4):
        for m in range(2):
            np.testing.assert_array_equal(grouped[i * 2 + m, 0], weight[:, :, i, m])
    back = convert_weight(grouped, "torch", "HWIM", kind="depthwise", groups=4)
    np.testing.assert_array_equal(back, weight)


def test_transposed_kernels_of_jax_are_reversed() -> None:
    weight = np.arange(2 * 3 * 2).reshape(2, 3, 2)  # I=2, O=3, W
    there = convert_weight(weight, "torch", "jax", kind="conv_transpose")
    np.testing.assert_array_equal(there, weight.transpose(2, 0, 1)[::-1])
    tflite = convert_weight(weight, "torch", "tflite", kind="conv_transpose")
    np.testing.assert_array_equal(tflite, weight.transpose(1, 2, 0))


def test_letters_with_flip_and_group_axis() -> None:
    weight = np.arange(4 * 3 * 2).reshape(4, 3, 2)
    flipped = convert_weight(weight, "OIW", Order("WIO", flip=True))
    np.testing.assert_array_equal(flipped, weight.transpose(2, 1, 0)[::-1])
    moved = convert_weight(weight, "OIW", Order("OIW", group_axis="I"), groups=2)
    assert moved.shape == (2, 6, 2)
    np.testing.assert_array_equal(moved[:, 3:], weight[2:])


@pytest.mark.parametrize(
    ("shape", "order", "options", "error", "message"),
    [
        ((2, 3), "torch", {}, ShapeError, "weight: a kernel has at least 3 axes, got shape"),
        ((2, 3, 3), "OIHW", {}, LayoutError, "order: 'OIHW' names 4 axes, but the weight has 3"),
        ((2, 3, 3), "troch", {}, LayoutError, "order: 'troch' is neither a convention"),
        ((1, 3, 3, 2), "1HWO", {}, LayoutError, "order: '1HWO' is a depthwise kernel"),
        ((4, 2, 3), "torch", {"kind": "depthwise"}, ShapeError, "has 1 input channel a group"),
        ((2, 3, 3), "torch", {"kind": "dense"}, LayoutError, "kind: 'dense' is none of conv"),
        ((3, 4, 2), "keras", {"kind": "depthwise", "groups": 2}, ShapeError, "4 groups, got 2"),
    ],
)
def test_refusals(
    shape: Any, order: str, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        convert_weight(np.zeros(shape), order, "torch", **options)
