"""C3D (Tran et al. 2015, Learning Spatiotemporal Features with 3D Convolutional Networks).

Eight convolutions of 3x3x3 and three dense layers, for clips of 16 frames. The network is written
once; NumPy, PyTorch, TensorFlow and JAX run it with the same weights.

    python examples/c3d.py
    python examples/c3d.py --frameworks numpy torch --width 16
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

from agreement import arguments, main
from convspec import ConvSpec
from portable import Framework, Layer, drawn
from scenes import clip, photograph, shrunk

#: Window and padding (D, H, W) of each pooling.
POOLS = {
    "pool1": ((1, 2, 2), (0, 0, 0)),
    "pool2": ((2, 2, 2), (0, 0, 0)),
    "pool3": ((2, 2, 2), (0, 0, 0)),
    "pool4": ((2, 2, 2), (0, 0, 0)),
    "pool5": ((2, 2, 2), (0, 1, 1)),
}
ORDER = [
    *("conv1a", "pool1", "conv2a", "pool2", "conv3a", "conv3b", "pool3"),
    *("conv4a", "conv4b", "pool4", "conv5a", "conv5b", "pool5"),
]


def specs(width: int = 64) -> dict[str, ConvSpec]:
    """The convolutions; ``width`` is the number of filters of the first one, 64 in the paper."""
    channels = {
        "conv1a": (3, width),
        "conv2a": (width, 2 * width),
        "conv3a": (2 * width, 4 * width),
        "conv3b": (4 * width, 4 * width),
        "conv4a": (4 * width, 8 * width),
        "conv4b": (8 * width, 8 * width),
        "conv5a": (8 * width, 8 * width),
        "conv5b": (8 * width, 8 * width),
    }
    return {
        name: ConvSpec(*pair, kernel_size=3, padding=1, layout="NCDHW")
        for name, pair in channels.items()
    }


def layers(width: int = 64, classes: int = 487, seed: int = 0) -> dict[str, Layer]:
    """All layers with random weights; 487 classes are those of Sports-1M."""
    rng = np.random.default_rng(seed)
    dense = {
        "fc6": (128 * width, 64 * width),  # 8192 in the paper: 8*width channels of 1x4x4
        "fc7": (64 * width, 64 * width),
        "fc8": (64 * width, classes),
    }
    return {name: drawn(spec, rng) for name, spec in (specs(width) | dense).items()}


def network(net: Framework, x: Any) -> Iterator[tuple[str, Any]]:
    """Clip (N, 3, 16, 112, 112) to scores (N, classes); ReLU after all but the last."""
    for name in ORDER:
        x = net.pool(x, *POOLS[name]) if name in POOLS else net.relu(net.conv(name, x))
        yield name, x
    x = net.flatten(x)
    yield "flatten", x
    for name in ("fc6", "fc7"):
        x = net.relu(net.dense(name, x))
        yield name, x
    yield "fc8", net.dense("fc8", x)


def example_clip(picture: np.ndarray) -> np.ndarray:
    """16 frames of 112x112 that pan over a picture, with mean zero."""
    x = clip(shrunk(picture, 2), frames=16, size=(112, 112), step=(3, 4))
    return x - x.mean()


if __name__ == "__main__":
    parser = arguments("C3D on every framework, with the same random weights.")
    parser.add_argument("--width", type=int, default=64, help="filters of conv1a (default 64)")
    options = parser.parse_args()
    picture, source = photograph()
    title = f"C3D, width {options.width}, on a pan over: {source}"
    sys.exit(main(title, network, layers(options.width), example_clip(picture), options.frameworks))
