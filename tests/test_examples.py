"""The example networks: shapes of the papers' tables, and agreement of all frameworks."""

from __future__ import annotations

import dataclasses
import importlib
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest

import convspec

EXAMPLES = Path(__file__).parents[1] / "examples"


def example(name):
    """A module of ``examples/``, which is no package: as running one of its scripts finds it."""
    sys.path.insert(0, str(EXAMPLES))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(EXAMPLES))


agreement, bounds, portable, scenes = map(example, ("agreement", "bounds", "portable", "scenes"))
c3d, action, autoencoder = map(example, ("c3d", "action3dcnn", "autoencoder3d"))
FRAMEWORKS = portable.available()

#: Every layer's shape, without the batch, at a sixteenth of C3D's channels.
C3D_SHAPES = {
    "conv1a": (4, 16, 112, 112),
    "pool1": (4, 16, 56, 56),
    "conv2a": (8, 16, 56, 56),
    "pool2": (8, 8, 28, 28),
    "conv3a": (16, 8, 28, 28),
    "conv3b": (16, 8, 28, 28),
    "pool3": (16, 4, 14, 14),
    "conv4a": (32, 4, 14, 14),
    "conv4b": (32, 4, 14, 14),
    "pool4": (32, 2, 7, 7),
    "conv5a": (32, 2, 7, 7),
    "conv5b": (32, 2, 7, 7),
    "pool5": (32, 1, 4, 4),
    "flatten": (512,),
    "fc6": (256,),
    "fc7": (256,),
    "fc8": (10,),
}
ACTION_SHAPES = {
    "H1": (1, 33, 60, 40),
    "C2": (2, 23, 54, 34),
    "S3": (2, 23, 27, 17),
    "C4": (6, 13, 21, 12),
    "S5": (6, 13, 7, 4),
    "C6": (128, 1, 1),
    "classes": (3,),
}
CUBE = (1, 1, 15, 22, 17)
AUTOENCODER_SHAPES = {
    "down1": (16, 8, 11, 9),
    "down2": (32, 4, 6, 5),
    "down3": (64, 2, 3, 3),
    "up3": (32, 4, 6, 5),
    "up2": (16, 8, 11, 9),
    "up1": (1, 15, 22, 17),
}


@cache
def case(name):
    """A network, its layers, an input, the float64 results with their bounds, and its shapes."""
    picture = scenes.waves(512)
    if name == "c3d":
        network, layers, shapes = c3d.network, c3d.layers(4, classes=10), C3D_SHAPES
        x = c3d.example_clip(picture)
    elif name == "action3dcnn":
        network, layers, shapes = action.network, action.layers(), ACTION_SHAPES
        x = action.example_clip(picture)
    else:
        network, layers = autoencoder.network, autoencoder.layers(CUBE)
        x, shapes = autoencoder.example_cube(picture, CUBE), AUTOENCODER_SHAPES
    exact = agreement.expected(network, layers, x, compute=convspec.reference)
    return network, layers, x, exact, shapes


def shares(name, framework, layers=None):
    """Each layer's largest share of its limit, with other weights than those of the bound."""
    network, own, x, exact, _ = case(name)
    rows = agreement.measure(framework, network, layers or own, x, exact)
    return {row.layer: row.share for row in rows}


# ---- the tables ---------------------------------------------------------------------------------


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("name", ["c3d", "action3dcnn", "autoencoder3d"])
def test_every_layer_has_its_shape_and_agrees_with_the_reference(name, framework):
    network, layers, x, exact, shapes = case(name)
    rows = agreement.measure(framework, network, layers, x, exact)
    assert {row.layer: row.shape for row in rows} == {
        layer: (1, *shape) for layer, shape in shapes.items()
    }
    assert all(row.share <= 1 for row in rows), rows


def test_c3d_has_the_shapes_of_the_paper():
    shape, seen = (1, 3, 16, 112, 112), {}
    specs = c3d.specs()
    for name in c3d.ORDER:
        if name in specs:
            shape = specs[name].output_shape(shape)
        else:
            window, padding = c3d.POOLS[name]
            space = zip(shape[2:], window, padding, strict=True)
            shape = (*shape[:2], *((n + 2 * p) // k for n, k, p in space))
        seen[name] = shape[1:]
    assert seen == {
        "conv1a": (64, 16, 112, 112),
        "pool1": (64, 16, 56, 56),
        "conv2a": (128, 16, 56, 56),
        "pool2": (128, 8, 28, 28),
        "conv3a": (256, 8, 28, 28),
        "conv3b": (256, 8, 28, 28),
        "pool3": (256, 4, 14, 14),
        "conv4a": (512, 4, 14, 14),
        "conv4b": (512, 4, 14, 14),
        "pool4": (512, 2, 7, 7),
        "conv5a": (512, 2, 7, 7),
        "conv5b": (512, 2, 7, 7),
        "pool5": (512, 1, 4, 4),
    }
    assert np.prod(shape) == 8192


def test_the_action_network_has_the_parameters_of_the_paper():
    count = {"C2": 0, "C4": 0}
    for name, spec in action.specs().items():
        if name != "C6":
            count[name[:2]] += spec.num_parameters
    assert count == {"C2": 1480, "C4": 3810}


@pytest.mark.parametrize("size", [(1, 1, 1), (2, 3, 4), (31, 85, 85), (32, 64, 63), (7, 16, 9)])
def test_the_autoencoder_gives_back_any_shape(size):
    shape = (2, 1, *size)
    for spec in autoencoder.specs(shape).values():
        shape = spec.output_shape(shape)
    assert shape == (2, 1, *size)


# ---- the hard-wired layer -----------------------------------------------------------------------


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_optical_flow_finds_the_motion_of_the_clip(framework):
    _, layers, x, _, _ = case("action3dcnn")
    net = portable.Framework(framework, layers)
    u, v = (net.leave(part) for part in action.flow(net, net.enter(x)))
    # The camera moves a pixel right and down, so the picture a pixel left and up.
    assert (np.median(u), np.median(v)) == (pytest.approx(-1, abs=0.25),) * 2


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_gradients_of_a_ramp(framework):
    net = portable.Framework(framework, action.hardwired())
    y, x = np.mgrid[:6, :8].astype(np.float32)
    ramp = np.broadcast_to(3 * x + 5 * y, (1, 1, 7, 6, 8))
    maps = net.leave(net.conv("maps", net.enter(ramp)))
    assert np.array_equal(maps[0, 0], ramp[0, 0])
    assert (maps[0, 1, :, :, 1:-1] == 3).all()
    assert (maps[0, 2, :, 1:-1] == 5).all()
    assert (maps[0, 1, :, :, [0, -1]] == 1.5).all()  # the edge is repeated


# ---- what is no convolution ---------------------------------------------------------------------


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("padding", [(0, 0, 0), (0, 1, 1)])
def test_pooling_takes_the_largest_of_each_window(framework, padding):
    x = np.random.default_rng(0).random((2, 3, 5, 7, 6), dtype=np.float32)
    net = portable.Framework(framework, {})
    y = net.leave(net.pool(net.enter(x), (2, 2, 3), padding))

    padded = np.pad(x, [(0, 0), (0, 0), *((p, p) for p in padding)])
    whole = padded[..., : padded.shape[3] // 2 * 2, : padded.shape[4] // 3 * 3][:, :, :4]
    d, h, w = whole.shape[2:]
    blocks = whole.reshape(2, 3, d // 2, 2, h // 2, 2, w // 3, 3)
    assert np.array_equal(y, blocks.max((3, 5, 7)))


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_flattening_is_channels_first_everywhere(framework):
    x = np.arange(48, dtype=np.float32).reshape(2, 2, 2, 2, 3)
    net = portable.Framework(framework, {})
    assert np.array_equal(net.leave(net.flatten(net.enter(x))), x.reshape(2, 24))


# ---- the bound ----------------------------------------------------------------------------------


def test_the_bound_is_narrow_enough_to_mean_something():
    for name in ("c3d", "autoencoder3d"):
        for layer, y in case(name)[3].items():
            assert np.median(y.error) < 1e-5 * abs(y.value).max(), layer


def test_float32_arithmetic_stays_within_the_bound():
    rng = np.random.default_rng(0)
    exact = [rng.uniform(0.5, 2, 4000) for _ in range(2)]
    near = [a.astype(np.float32) for a in exact]
    a, b = (bounds.Bounded(e, abs(n - e)) for e, n in zip(exact, near, strict=True))
    for operation in (
        lambda a, b: a + b,
        lambda a, b: a - b,
        lambda a, b: a * b,
        lambda a, b: a / b,
        lambda a, b: (a * b - b * b) / (a * a + 0.01),
    ):
        bounded = operation(a, b)
        off = abs(operation(*near) - bounded.value)
        assert (off <= bounded.error).all()
        assert off.max() > 0


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_one_weight_off_by_a_thousandth_is_noticed(framework):
    layers = dict(case("c3d")[1])
    layer = layers["conv2a"]
    weight = layer.weight.copy()
    weight[3, 2, 1, 1, 1] += np.abs(weight).max() * np.float32(1e-3)
    layers["conv2a"] = dataclasses.replace(layer, weight=weight)
    found = shares("c3d", framework, layers)
    assert found["pool1"] <= 1
    assert found["conv2a"] > 1


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("layer", ["down2", "up2"])
def test_a_kernel_with_two_axes_exchanged_is_noticed_to_the_end(framework, layer):
    layers = dict(case("autoencoder3d")[1])
    weight = layers[layer].weight.swapaxes(3, 4).copy()
    layers[layer] = dataclasses.replace(layers[layer], weight=weight)
    found = shares("autoencoder3d", framework, layers)
    assert found[layer] > 1
    assert found["up1"] > 1


def test_a_nan_is_out_of_bound():
    exact = bounds.Bounded(np.zeros(3), np.ones(3))
    _, share = agreement._compare(np.array([0, np.nan, 0]), exact)
    assert not share <= 1


def test_a_difference_where_none_is_allowed_is_out_of_bound():
    exact = bounds.Bounded(np.zeros(2), np.zeros(2))
    assert agreement._compare(np.zeros(2), exact) == (0, 0)
    assert agreement._compare(np.array([0, 1e-9]), exact) == (1e-9, np.inf)


# ---- the command line ---------------------------------------------------------------------------


def test_an_example_runs_as_a_script():
    script = [sys.executable, EXAMPLES / "autoencoder3d.py", "--frameworks", "numpy"]
    done = subprocess.run(script, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "1 x 31 x 85 x 85" in done.stdout
    assert "All layers are within the bound." in done.stdout


def test_the_exit_status_says_that_a_layer_is_out_of_bound(monkeypatch, capsys):
    network, layers, x, _, _ = case("autoencoder3d")
    monkeypatch.setattr(bounds, "U", 2.0**-40)
    assert agreement.main("title", network, layers, x, ["numpy"]) == 1
    assert "Out of bound: numpy: down1, numpy: down2" in capsys.readouterr().out
