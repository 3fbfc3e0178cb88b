"""A 3-D convolutional autoencoder for hyperspectral images: the bands are the depth axis.

Three strided convolutions go down, their adjoints come up: `spec.adjoint(shape)` is the transposed
convolution that gives back the very shape the spec was given, here with odd sizes on every axis.
The weights are random: what is shown is the arithmetic, not a trained code.

    python examples/autoencoder3d.py
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from agreement import arguments, main
from convspec import ConvSpec
from portable import Framework, Layer, drawn
from scenes import cube, photograph, shrunk

#: 31 bands, every 10 nm from 400 to 700, and an odd number of rows and columns.
SHAPE = (1, 1, 31, 85, 85)
CHANNELS = (1, 16, 32, 64)


def specs(shape: Sequence[int] = SHAPE) -> dict[str, ConvSpec]:
    """The convolutions down and the transposed ones up, for an input (N, 1, bands, H, W)."""
    down, up = {}, {}
    for i, (before, after) in enumerate(pairwise(CHANNELS), 1):
        spec = ConvSpec(before, after, kernel_size=3, stride=2, padding=1, layout="NCDHW")
        down[f"down{i}"] = spec
        up[f"up{i}"] = spec.adjoint(shape).replace(bias=True)
        shape = spec.output_shape(shape)
    return down | dict(reversed(up.items()))


def layers(shape: Sequence[int] = SHAPE, seed: int = 0) -> dict[str, Layer]:
    """All layers with random weights."""
    rng = np.random.default_rng(seed)
    return {name: drawn(spec, rng) for name, spec in specs(shape).items()}


def network(net: Framework, x: Any) -> Iterator[tuple[str, Any]]:
    """Image (N, 1, bands, H, W) to one of the same shape; ReLU after all but the last."""
    for name in ("down1", "down2", "down3", "up3", "up2"):
        x = net.relu(net.conv(name, x))
        yield name, x
    yield "up1", net.conv("up1", x)


def example_cube(picture: np.ndarray, shape: Sequence[int] = SHAPE) -> np.ndarray:
    """The middle of a picture, spread over bands."""
    return np.ascontiguousarray(cube(shrunk(picture, 6), shape[2])[..., : shape[3], : shape[4]])


if __name__ == "__main__":
    options = arguments("A 3-D autoencoder on every framework.").parse_args()
    picture, source = photograph()
    title = f"3-D autoencoder on 31 bands interpolated from the colours of: {source}"
    sys.exit(main(title, network, layers(), example_cube(picture), options.frameworks))
