"""Arrays that a mesh of four or eight devices splits: neighbours exchange borders, exactly."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sharded_jax import SPECS, SUMMED

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def report() -> Any:
    """All of it from one process: how many devices there are is set before JAX starts."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"
    flags += " --xla_backend_optimization_level=0"  # compiling takes longest
    env = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, HERE / "sharded_jax.py"],
        env=env,
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_borders_are_exchanged_and_nothing_is_gathered(report: Any) -> None:
    """Forward and gradients in one program, for every kind of spec and axis."""
    assert len(report["table"]) == 31 + len(SUMMED)
    for name, found in report["table"].items():
        *_, axis, devices, way = name.split()
        assert found["equal"] == [True] * 4, (name, found)
        assert found["all-to-all"] == [], (name, found)
        if axis == "C" and way == "Auto" and name.removesuffix(" C 4 Auto") in SUMMED:
            assert found["all-gather"] == found["collective-permute"] == [], (name, found)
            assert 0 < sum(found["all-reduce"]) <= found["output"], (name, found)
            continue
        # Of the weight's gradient each device has a part where the channels are split.
        gathered = found["all-gather"]
        assert all(size <= found["weight"] for size in gathered), (name, found)
        assert axis == "C" or not gathered, (name, found)
        # What is summed over the devices is no larger than the weight.
        assert max(found["all-reduce"], default=0) <= found["weight"], (name, found)
        # Without an overlap there is nothing to exchange, nor where whole groups are split.
        spec = SPECS[name.removesuffix(f" {axis} {devices} {way}")]
        at = spec.spatial.find(axis)
        exchanged = (axis == "C" and spec.groups == 1) or (at >= 0 and spec.halo[at] != (0, 0))
        assert bool(found["collective-permute"]) == exchanged, (name, found)


def test_an_output_of_unequal_shards_stays_split_inside_a_program(report: Any) -> None:
    sent = report["inside"]
    assert sent["all-gather"] == sent["all-to-all"] == []
    assert sent["collective-permute"]
    assert max(sent["all-reduce"]) == 1  # the loss


def test_random_convolutions_over_two_axes(report: Any) -> None:
    assert report["random_shards"] == []


def test_other_types(report: Any) -> None:
    assert report["types"] == [True] * 2


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("axis", r"LayoutError: partition: axis N is split over 'e', but the mesh has .*'d'"),
        ("entries", "LayoutError: partition: .* has 6 entries, but layout 'NHWC' names 4"),
        ("uneven", "ShapeError: x: 8 devices cannot share axis H equally: the input has 12"),
        ("uneven output", "ShapeError: x: 8 devices .*: the output has 14 positions"),
        ("groups", "UnsupportedError: x: 8 devices cannot share the 2 groups of channels"),
        ("channels", "UnsupportedError: x: 8 devices cannot share 8 channels .* 12 of the output"),
        ("reflect", "UnsupportedError: x: 'reflect' padding and the kernel need 3 .* has 2"),
        ("weight", "ShapeError: weight: has another size than expected on axis H"),
    ],
)
def test_what_cannot_be_split(report: Any, name: str, message: str) -> None:
    told = report["refusals"].get(name, "nothing")
    assert re.match(message, told), told
