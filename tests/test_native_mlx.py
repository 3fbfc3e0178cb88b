"""MLX's layers and calls as specs and back."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx import nn

import convspec
from convspec import ConvSpec, UnsupportedError, layer_arrays
from generators import integers, random_case
from refusals import refused

Rng = np.random.Generator
CONVS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
CALLS = (mx.conv1d, mx.conv2d, mx.conv3d)
TRANSPOSED_CALLS = (mx.conv_transpose1d, mx.conv_transpose2d, mx.conv_transpose3d)


def any_layer(rng: Rng, rank: int, transposed: bool) -> tuple[Any, np.ndarray]:
    k, s, d = (rng.integers(1, most + 1, rank).tolist() for most in (3, 3, 2))
    options: dict[str, Any] = {"stride": s, "dilation": d}
    options["padding"] = rng.integers(0, 2, rank).tolist()
    if transposed:
        options["output_padding"] = [int(rng.integers(n)) for n in s]
    options = {n: v[0] if rank == 1 else tuple(v) for n, v in options.items()}
    groups = 1
    if not transposed and rank < 3:
        groups = options["groups"] = int(rng.integers(1, 3))
    cin, cout = (groups * int(n) for n in rng.integers(1, 3, 2))
    kind = (TRANSPOSED if transposed else CONVS)[rank - 1]
    kernel = k[0] if rank == 1 else tuple(k)
    layer = kind(cin, cout, kernel, bias=bool(rng.integers(2)), **options)
    layer.weight = mx.array(integers(rng, layer.weight.shape, "float32"))
    if "bias" in layer:
        layer.bias = mx.array(integers(rng, (cout,), "float32"))
    return layer, integers(rng, (2, *rng.integers(5, 8, rank), cin), "float32")


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("transposed", [False, True], ids=["forward", "transposed"])
def test_layers_and_calls(rank: int, transposed: bool) -> None:
    rng = np.random.default_rng(rank)
    for _ in range(30):
        layer, x = any_layer(rng, rank, transposed)
        try:
            spec = ConvSpec.from_native(layer)
        except UnsupportedError as error:
            assert "crops less than the kernel's extent" in str(error)  # noqa: PT017
            continue
        weight, bias = layer_arrays(layer)
        assert weight is layer.weight
        expected = np.array(layer(mx.array(x)))
        given = (np.array(weight), None if bias is None else np.array(bias))
        np.testing.assert_array_equal(spec(x, *given), expected, repr(spec))
        torch = spec.in_convention("torch")
        kernel = spec.convert_weight(given[0], to=torch)
        again = torch.to_native("mlx", kernel, given[1])
        assert ConvSpec.from_native(again) == spec
        np.testing.assert_array_equal(np.array(again(mx.array(x))), expected)
        names = ["stride", "padding", "dilation"]
        names += ["output_padding"] if transposed else []
        options = {name: getattr(layer, name) for name in names}
        if not transposed and rank < 3:
            options["groups"] = layer.groups
        call = (TRANSPOSED_CALLS if transposed else CALLS)[rank - 1]
        told = ConvSpec.from_call(call, mx.array(x), weight, **options)
        assert told == spec.replace(bias=False)


def test_whatever_mlx_has_is_made_and_the_rest_refused() -> None:
    rng = np.random.default_rng(0)
    made = {False: 0, True: 0}
    for _ in range(250):
        case = random_case(rng)
        spec, shape = case.spec, case.input_shape
        if "N" not in spec.layout or not all(shape):
            continue
        x, w = integers(rng, shape, "float32"), integers(rng, spec.weight_shape, "float32")
        b = integers(rng, spec.bias_shape, "float32") if spec.bias else None
        target = spec.in_convention("mlx")
        native = mx.array(
            np.ascontiguousarray(convspec.convert_layout(x, spec.layout, target.layout))
        )
        for explicit in (False, True):
            try:
                layer = spec.to_native("mlx", w, b, explicit_padding=explicit)
            except UnsupportedError:
                continue
            made[explicit] += 1
            ours = convspec.convert_layout(spec(x, w, b), spec.output_layout, target.layout)
            np.testing.assert_array_equal(np.array(layer(native)), ours, repr(spec))
    assert made[False] > 30
    assert made[True] > 60


def test_what_mlx_cannot_express() -> None:
    w = np.ones((1, 1, 3), "float32")
    with refused(
        UnsupportedError, "padding[0] (axis W): mlx.nn pads both sides alike, and (0, 1) is (0, 1)."
    ):
        ConvSpec(1, 1, (3,), padding=((0, 1),)).to_native("mlx", w)
    with refused(
        UnsupportedError, "padding_mode: mlx.nn pads with zeros only, and this is 'reflect'."
    ):
        ConvSpec(1, 1, (3,), padding=1, padding_mode="reflect").to_native("mlx", w)
    with refused(UnsupportedError, "groups: mlx.nn.Conv3d has none, and there are 2."):
        spec = ConvSpec(2, 2, (1, 1, 1), groups=2)
        spec.to_native("mlx", np.ones(spec.weight_shape, "float32"))
