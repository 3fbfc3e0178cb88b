"""Layers and calls across frameworks: live arrays, weights from anywhere, third parties."""

from __future__ import annotations

import importlib.metadata
import sys
import types
from collections.abc import Iterator
from itertools import product
from typing import Any

import flax.nnx
import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest
import tensorflow as tf
import torch

from convspec import ConvSpec, UnsupportedError, get_backend, layer_arrays, natives
from convspec.errors import BackendNotFoundError, LayoutError
from convspec.natives import Layer, Native
from refusals import refused

SPEC = ConvSpec(2, 3, (3, 2), 2, ((0, 0), (1, 1)), layout="NHWC", weight_layout="HWIO")
X = np.arange(2 * 5 * 6 * 2, dtype="float32").reshape(2, 5, 6, 2) % 7 - 3
W = np.arange(36, dtype="float32").reshape(SPEC.weight_shape) % 5 - 2
B = np.array([1, -2, 3], "float32")
HOLDERS: dict[str, Any] = {
    "numpy": lambda a: a,
    "torch": lambda a: torch.nn.Parameter(torch.tensor(a)),
    "tensorflow": tf.Variable,
    "jax": jnp.asarray,
    "keras": keras.Variable,
    "flax": lambda a: flax.nnx.Param(jnp.asarray(a)),
}


@pytest.mark.parametrize(("source", "target"), list(product(HOLDERS, ["torch", "flax", "onnx"])))
def test_weights_from_anywhere_go_into_layers(source: str, target: str) -> None:
    hold = HOLDERS[source]
    layer = SPEC.to_native(target, hold(W), hold(B))
    weight, bias = (
        np.asarray(jax.device_get(a)) if target == "flax" else a for a in layer_arrays(layer)
    )
    if target == "torch":
        weight, bias = weight.detach().numpy(), bias.detach().numpy()
    told = ConvSpec.from_native(layer)
    np.testing.assert_array_equal(SPEC.convert_weight(W, to=told), weight)
    np.testing.assert_array_equal(bias, B)


@pytest.mark.parametrize(
    ("framework", "make"),
    [
        ("torch", lambda: SPEC.to_native("torch", W, B)),
        ("tensorflow", lambda: SPEC.to_native("keras", W, B, explicit_padding=True).layers[-1]),
        ("jax", lambda: SPEC.to_native("flax", W, B)),
    ],
)
def test_live_arrays_are_taken_as_they_are(framework: str, make: Any) -> None:
    layer = make()
    spec = ConvSpec.from_native(layer)
    backend = get_backend(framework)
    x = backend.from_foreign(np.ascontiguousarray(np.moveaxis(X, -1, spec.layout.index("C"))))
    y = spec(x, *layer_arrays(layer))
    assert backend.owns(y)
    np.testing.assert_array_equal(backend.to_numpy(y), backend.to_numpy(layer(x)))


def test_weights_under_a_trace() -> None:
    with pytest.raises(UnsupportedError, match=r"^weight: of jax cannot be read out: "):
        jax.jit(lambda w: SPEC.to_native("torch", w))(W)


# ---- the port of a call ----


def test_two_calls_that_differ_are_told_apart_in_words() -> None:
    x, w = np.zeros((1, 8, 8, 3)), np.zeros((3, 3, 3, 4))
    theirs = ConvSpec.from_call(jax.lax.conv_transpose, x, w, (2, 2), "SAME")
    ours = ConvSpec.from_call(
        torch.nn.functional.conv_transpose2d,
        *(torch.zeros(1, 3, 8, 8), torch.zeros(3, 4, 3, 3), torch.zeros(4), 2, 1, 1),
    )
    words = theirs.diff(ours, x.shape)
    assert "bias added" in words
    assert "kernel flipped" in words
    assert "groups on I instead of O" in words
    assert "H shifted by one pixel: padding (0, 1) became (1, 1)" in words
    assert ours.diff(theirs)[2] == "groups on O instead of I"


def test_diff_of_named_padding() -> None:
    same = ConvSpec(3, 4, (3, 3), 2, "same")
    one = same.replace(padding=1)
    assert same.diff(one)[0] == "padding on H: same became (1, 1)"
    assert same.diff(one, (1, 3, 8, 8))[0] == (
        "H shifted by one pixel: padding (0, 1) became (1, 1)"
    )
    # 7 = 2*3 + 1: both pad one on either side.
    assert same.diff(one, (1, 3, 7, 7)) == []
    last = one.in_convention("keras")
    assert same.diff(last, (1, 3, 7, 8))[0] == (
        "W shifted by one pixel: padding (0, 1) became (1, 1)"
    )
    more = same.replace(padding=(3, "same"))
    assert same.diff(more, (1, 3, 8, 8)) == ["padding on H: (0, 1) became (3, 3)"]
    with refused(
        LayoutError, "input_shape: (8, 8) should have one size for each letter of layout 'NCHW'."
    ):
        same.diff(one, (8, 8))


# ---- readers of third parties ----


class Blur:
    """A third party's layer: every channel by itself, by a kernel of ones."""

    channels = 2


class BlurNative(Native):
    name = "blurry"
    layers = {Blur: lambda layer: Layer(ConvSpec(2, 2, (3,), groups=2), np.ones((2, 1, 3)), None)}


@pytest.fixture
def blurry(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A framework of a third party with its entry point, imported already."""
    module = types.ModuleType("blurry")
    module.native, module.broken = BlurNative(), "no Native"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "blurry", module)
    monkeypatch.setitem(sys.modules, "shards", types.ModuleType("shards"))
    points = {
        name: importlib.metadata.EntryPoint(name, value, natives.GROUP)
        for name, value in {
            "blurry": "blurry:native",
            "caffe": "caffe:native",
            "shards": "blurry:broken",
        }.items()
    }
    monkeypatch.setattr(natives, "entry_points", lambda: points)
    natives._load.cache_clear()
    yield
    natives._load.cache_clear()


def test_a_third_partys_layers_are_read(blurry: None) -> None:
    assert ConvSpec.from_native(Blur()) == ConvSpec(2, 2, (3,), groups=2)
    assert layer_arrays(Blur())[0].shape == (2, 1, 3)
    with pytest.raises(UnsupportedError) as caught:
        ConvSpec.from_native(object())
    assert str(caught.value) == (
        "layer: builtins.object is none that convspec reads.\n"
        "  It reads blurry: Blur.\n"
        "  Not loaded, so not looked at: caffe, shards."
    )
    with refused(UnsupportedError, "to_native: blurry has no layers, only calls."):
        SPEC.to_native("blurry", W)


def test_broken_registrations(blurry: None) -> None:
    with refused(
        BackendNotFoundError, "to_native: 'caffe' could not be loaded: No module named 'caffe'."
    ):
        SPEC.to_native("caffe", W)
    with refused(
        BackendNotFoundError, "to_native: 'shards' is registered, but is no convspec Native."
    ):
        SPEC.to_native("shards", W)
    with refused(
        BackendNotFoundError,
        "to_native: 7 has no layers that convspec makes; there are: blurry, caffe, shards.",
    ):
        SPEC.to_native(7, W)
