"""``tf.nn``'s calls as specs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from convspec import ConvSpec, ShapeError, UnsupportedError
from generators import integers
from refusals import refused
from tensorflow_kernels import errs_on_some_processors

Rng = np.random.Generator
Drawn = tuple[Any, tuple[Any, ...], dict[str, Any]]
CALLS = (tf.nn.conv1d, tf.nn.conv2d, tf.nn.conv3d)
TRANSPOSED = (tf.nn.conv1d_transpose, tf.nn.conv2d_transpose, tf.nn.conv3d_transpose)


def explicit(rng: Rng, rank: int) -> list[list[int]]:
    return [[0, 0], *rng.integers(0, 3, (rank, 2)).tolist(), [0, 0]]


def spelled(rng: Rng, values: list[int]) -> Any:
    """Strides as TensorFlow takes them: for each axis, for all axes of the data, or one."""
    if len(set(values)) == 1 and rng.random() < 0.5:
        return values[0] if rng.random() < 0.5 else values[:1]
    return values if rng.random() < 0.5 else [1, *values, 1]


def forward(rng: Rng, rank: int) -> Drawn:
    k = rng.integers(1, 4, rank).tolist()
    s, d = ([int(rng.integers(1, most + 1))] * rank for most in (3, 2))
    if s[0] > 1:
        d = [1] * rank
    groups = int(rng.integers(1, 3)) if rank < 3 else 1
    cin, cout = (groups * int(n) for n in rng.integers(1, 3, 2))
    padding: Any = ("SAME", "VALID")[rng.integers(2)]
    if rank == 2 and rng.random() < 0.4:
        padding = explicit(rng, rank)
    if errs_on_some_processors(k, s, same=padding == "SAME"):
        return forward(rng, rank)
    x = integers(rng, (2, *rng.integers(6, 9, rank), cin), "float32")
    w = integers(rng, (*k, cin // groups, cout), "float32")
    # conv3d alone wants all axes of the data.
    strides = [1, *s, 1] if rank == 3 else spelled(rng, s)
    dilations = [1, *d, 1] if rank == 3 else spelled(rng, d)
    if rng.random() < 0.2 and isinstance(padding, str):
        return tf.nn.convolution, (x, w, s, padding), {"dilations": d}
    return CALLS[rank - 1], (x, w, strides, padding), {"dilations": dilations}


def transposed(rng: Rng, rank: int) -> Drawn:
    k = rng.integers(1, 4, rank).tolist()
    s = rng.integers(1, 4, rank).tolist()
    groups = int(rng.integers(1, 3)) if rank < 3 else 1
    cin, cout = (groups * int(n) for n in rng.integers(1, 3, 2))
    n = rng.integers(2, 5, rank).tolist()
    padding: Any = ("SAME", "VALID")[rng.integers(2)]
    if rank == 2 and rng.random() < 0.3:
        padding = explicit(rng, rank)
    pads = [sum(pair) for pair in padding[1:-1]] if isinstance(padding, list) else [0] * rank
    # The largest of the s sizes that the forward convolution maps to n.
    most = [
        a * b if padding == "SAME" else a * b + e - 1 - p
        for a, b, e, p in zip(n, s, k, pads, strict=True)
    ]
    out = [m - int(rng.integers(b)) for m, b in zip(most, s, strict=True)]
    x = integers(rng, (2, *n, cin), "float32")
    w = integers(rng, (*k, cout // groups, cin), "float32")
    shape = [2, *out, cout]
    given = (x, w, tf.constant(shape) if rng.random() < 0.3 and rank > 1 else shape)
    if rng.random() < 0.2 and isinstance(padding, str):
        return tf.nn.conv_transpose, (*given, s, padding), {}
    return TRANSPOSED[rank - 1], (*given, [1, *s, 1], padding), {}


def depthwise(rng: Rng, rank: int) -> Drawn:
    cin, multiplier = rng.integers(1, 4, 2).tolist()
    x = integers(rng, (2, *rng.integers(6, 9, 2), cin), "float32")
    w = integers(rng, (*rng.integers(1, 4, 2), cin, multiplier), "float32")
    s, d = ((1, 2), (2, 1), (1, 1))[rng.integers(3)]
    padding = ("SAME", "VALID", explicit(rng, 2))[rng.integers(3)]
    return tf.nn.depthwise_conv2d, (x, w, [1, s, s, 1], padding), {"dilations": [d, d]}


def atrous(rng: Rng, rank: int) -> Drawn:
    x, w = (integers(rng, shape, "float32") for shape in ((1, 7, 8, 2), (3, 2, 2, 3)))
    rate, padding = int(rng.integers(1, 4)), ("SAME", "VALID")[rng.integers(2)]
    return tf.nn.atrous_conv2d, (x, w, rate, padding), {}


KINDS = [(draw, rank) for draw in (forward, transposed) for rank in (1, 2, 3)]


@pytest.mark.parametrize(("draw", "rank"), [*KINDS, (depthwise, 2), (atrous, 2)])
def test_calls(draw: Any, rank: int) -> None:
    rng = np.random.default_rng(rank)
    done = 0
    for _ in range(60):
        call, given, options = draw(rng, rank)
        try:
            expected = call(*given, **options)
        except (tf.errors.OpError, ValueError):  # what this build lacks, or nothing left over
            continue
        if not expected.numpy().size:
            continue
        spec = ConvSpec.from_call(call, *given, **options)
        np.testing.assert_array_equal(spec(*given[:2]), expected, f"{spec!r} {options}")
        done += 1
    assert done >= 20


def test_channels_first() -> None:
    x, w = np.zeros((1, 3, 8, 9), "float32"), np.zeros((3, 2, 3, 4), "float32")
    pads = [[0, 0], [0, 0], [1, 2], [0, 1]]
    spec = ConvSpec.from_call(tf.nn.conv2d, x, w, [1, 1, 2, 3], pads, "NCHW")
    assert spec == ConvSpec(
        *(3, 4, (3, 2), (2, 3), ((1, 2), (0, 1))),
        bias=False,
        layout="NCHW",
        weight_layout="HWIO",
    )
    x, w = np.zeros((1, 3, 8), "float32"), np.zeros((2, 3, 4), "float32")
    narrow = ConvSpec.from_call(tf.nn.conv1d, x, w, 2, "SAME", data_format="NCW")
    assert (narrow.layout, narrow.groups, narrow.stride) == ("NCW", 1, (2,))


def test_a_separable_call_is_two_convolutions() -> None:
    rng = np.random.default_rng(0)
    x, first, second = (
        integers(rng, shape, "float32") for shape in ((1, 6, 7, 3), (3, 2, 3, 2), (1, 1, 6, 4))
    )
    given = (x, first, second, [1, 2, 2, 1], "SAME")
    depthwise, pointwise = ConvSpec.from_call(tf.nn.separable_conv2d, *given)
    assert depthwise.weight_layout == "HWIM"
    expected = tf.nn.separable_conv2d(*given)
    np.testing.assert_array_equal(pointwise(depthwise(x, first), second), expected)


def test_a_call_is_read_from_shapes_alone() -> None:
    x, w = tf.TensorSpec((None, None, 8, 3)), tf.TensorSpec((3, 3, 3, 4))
    expected = ConvSpec(3, 4, (3, 3), 1, "same", 2, bias=False).in_convention("tensorflow")
    assert ConvSpec.from_call(tf.nn.conv2d, x, w, 1, "SAME", dilations=2) == expected
    with refused(
        ShapeError, "input: axis C has size None, and the spec of the call depends on it."
    ):
        ConvSpec.from_call(tf.nn.conv2d, tf.TensorSpec((1, 8, 8, None)), w, 1, "SAME")
    with refused(
        ShapeError, "input: axis H has size None, and the spec of the call depends on it."
    ):
        ConvSpec.from_call(tf.nn.conv2d_transpose, x, w, (1, 15, 16, 3), 2)
    with pytest.raises(ShapeError, match="input: expected something with a shape"):
        ConvSpec.from_call(tf.nn.conv2d, tf.TensorSpec(None), w, 1, "SAME")


def test_calls_that_no_spec_says() -> None:
    x, w = np.zeros((1, 8, 8, 3)), np.zeros((3, 3, 3, 4))
    with refused(
        UnsupportedError,
        "strides: [2, 1, 1, 1] steps over the batch or the channels, which no spec does.",
    ):
        ConvSpec.from_call(tf.nn.conv2d, x, w, [2, 1, 1, 1], "SAME")
    with refused(UnsupportedError, "padding: 'CAUSAL' is none of SAME, VALID."):
        ConvSpec.from_call(tf.nn.conv2d, x, w, 1, "CAUSAL")
    with refused(ShapeError, "strides: [1, 1, 1] should have 1, 2 or 4 entries."):
        ConvSpec.from_call(tf.nn.conv2d, x, w, [1, 1, 1], "SAME")
    with refused(ShapeError, "input: 3 channels are no multiple of the weight's 2."):
        ConvSpec.from_call(tf.nn.conv2d, x, w[:, :, :2], 1, "SAME")
    with refused(
        ShapeError,
        "output_shape: axis H has 20, which a stride of 2 does not map to the input's 8.",
    ):
        ConvSpec.from_call(tf.nn.conv2d_transpose, x, w.swapaxes(2, 3), (1, 20, 16, 4), 2)


def test_the_port_of_a_strided_convolution() -> None:
    """The classic: TensorFlow's SAME at stride 2 is not padding 1, and only diff says why."""
    import torch

    x, w = np.zeros((1, 8, 8, 3)), np.zeros((3, 3, 3, 4))
    theirs = ConvSpec.from_call(tf.nn.conv2d, x, w, 2, "SAME")
    ours = ConvSpec.from_call(
        torch.nn.functional.conv2d, torch.zeros(1, 3, 8, 8), torch.zeros(4, 3, 3, 3), None, 2, 1
    )
    assert theirs.diff(ours, input_shape=x.shape) == [
        "H shifted by one pixel: padding (0, 1) became (1, 1)",
        "W shifted by one pixel: padding (0, 1) became (1, 1)",
        "layout: NHWC became NCHW",
        "output_layout: NHWC became NCHW",
        "weight_layout: HWIO became OIHW",
    ]
