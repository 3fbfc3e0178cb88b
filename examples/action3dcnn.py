"""The 3-D CNN for action recognition of Ji et al. 2013, with its hard-wired first layer.

Seven grey frames of 60x40 become 33 maps: grey, two gradients, and the optical flow between
adjacent frames. Each kind of map has convolutions of its own; one 2-D convolution over all of them
ends in 128 features.

    python examples/action3dcnn.py

The paper leaves the optical flow open. Here it is Lucas and Kanade's (1981) in closed form, made
of convolutions: gradients a, b and the change c between two frames, then for each pixel the flow
(u, v) that minimises sum((a u + b v + c)**2) + r (u**2 + v**2) over a window of 5x5. Pooling takes
the largest value, where the paper has LeNet's trained means.
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

KINDS = ("grey", "gradient x", "gradient y", "flow x", "flow y")
#: r above, which keeps the flow at rest where a window shows next to nothing.
REGULARISER = 0.01
CLASSES = 3  # the paper's: CellToEar, ObjectPut, Pointing

_DERIVATIVE = np.array([-0.5, 0, 0.5])
_ONE = np.array([0, 1.0, 0])


def hardwired() -> dict[str, Layer]:
    """The fixed filters of H1; all coefficients are powers of two or zero, so exact."""
    at = {"padding": (0, 1, 1), "padding_mode": "replicate", "bias": False, "layout": "NCDHW"}
    maps = ConvSpec(1, 3, (1, 3, 3), **at)
    planes = [np.outer(_ONE, _ONE), np.outer(_ONE, _DERIVATIVE), np.outer(_DERIVATIVE, _ONE)]
    changes = ConvSpec(1, 3, (2, 3, 3), **at)
    halves = [np.stack([plane / 2] * 2) for plane in planes[1:]]
    difference = np.stack([-planes[0], planes[0]])
    sums = ConvSpec(5, 5, (1, 5, 5), groups=5, **at | {"padding": (0, 2, 2)})
    return {
        "maps": _fixed(maps, [plane[None] for plane in planes]),
        "changes": _fixed(changes, [*halves, difference]),
        "sums": _fixed(sums, [np.ones((1, 5, 5))] * 5),
    }


def _fixed(spec: ConvSpec, filters: list[np.ndarray]) -> Layer:
    weight = np.stack(filters).astype(np.float32)[:, None]
    return Layer(spec, weight, random=False)


def specs() -> dict[str, ConvSpec]:
    """The trained convolutions; each of the five kinds has its own weights in C2 and C4."""
    c2 = ConvSpec(1, 2, (3, 7, 7), layout="NCDHW")
    c4 = ConvSpec(2, 6, (3, 7, 6), groups=2, layout="NCDHW")  # three filters for each of two maps
    c6 = ConvSpec(78, 128, (7, 4), layout="NCHW")
    return {f"C2 {kind}": c2 for kind in KINDS} | {f"C4 {kind}": c4 for kind in KINDS} | {"C6": c6}


def layers(seed: int = 0) -> dict[str, Layer]:
    """All layers, the trained ones with random weights."""
    rng = np.random.default_rng(seed)
    trained = specs() | {"classes": (128, CLASSES)}
    return hardwired() | {name: drawn(spec, rng) for name, spec in trained.items()}


def flow(net: Framework, x: Any) -> tuple[Any, Any]:
    """Frames (N, 1, D, H, W) to pixels moved right and down, each (N, 1, D-1, H, W)."""
    a, b, c = net.split(net.conv("changes", x), "C")
    products = net.concat([a * a, a * b, b * b, a * c, b * c], "C")
    aa, ab, bb, ac, bc = net.split(net.conv("sums", products), "C")
    aa, bb = aa + REGULARISER, bb + REGULARISER
    # The sums obey aa * bb >= ab**2, so this is at least r**2.
    determinant = aa * bb - ab * ab
    return (ab * bc - bb * ac) / determinant, (ab * ac - aa * bc) / determinant


def network(net: Framework, x: Any) -> Iterator[tuple[str, Any]]:
    """Frames (N, 1, 7, 60, 40) to scores (N, 3); tanh after each convolution."""
    maps = [*net.split(net.conv("maps", x), "C"), *flow(net, x)]
    yield "H1", net.concat(maps, "D")
    sets = [net.tanh(net.conv(f"C2 {kind}", m)) for kind, m in zip(KINDS, maps, strict=True)]
    yield "C2", net.concat(sets, "D")
    sets = [net.pool(m, (1, 2, 2)) for m in sets]
    yield "S3", net.concat(sets, "D")
    sets = [net.tanh(net.conv(f"C4 {kind}", m)) for kind, m in zip(KINDS, sets, strict=True)]
    yield "C4", net.concat(sets, "D")
    sets = [net.pool(m, (1, 3, 3)) for m in sets]
    yield "S5", net.concat(sets, "D")
    # 13 maps x 6 as the 78 channels of one image
    x = net.concat([image for m in sets for image in net.images(m)], "C")
    x = net.tanh(net.conv("C6", x))
    yield "C6", x
    yield "classes", net.dense("classes", net.flatten(x))


def example_clip(picture: np.ndarray) -> np.ndarray:
    """Seven grey frames of 60x40: a camera that moves a pixel right and down each frame."""
    return clip(shrunk(picture, 4).mean(-1, keepdims=True), 7, (60, 40), step=(1, 1))


if __name__ == "__main__":
    options = arguments("A 3-D CNN for action recognition on every framework.").parse_args()
    picture, source = photograph()
    title = f"3-D CNN for action recognition (Ji et al. 2013) on a pan over: {source}"
    sys.exit(main(title, network, layers(), example_clip(picture), options.frameworks))
