"""Specs of every kind for tests of compilers and transforms, and small integers for them."""

from __future__ import annotations

import numpy as np

from convspec import ConvSpec

SPECS = {
    "plain": ConvSpec(4, 6, 3, padding=1, layout="NCHW"),
    "channels last": ConvSpec(
        4, 6, (3, 2), 2, "same", groups=2, layout="NHWC", weight_layout="HWIO"
    ),
    "pairs": ConvSpec(4, 6, (2, 3), padding=((0, 1), (2, -1)), layout="NCHW"),
    "circular": ConvSpec(4, 6, 3, padding=1, padding_mode="circular", layout="NCHW"),
    "circular same": ConvSpec(4, 6, 4, 3, "same_lower", padding_mode="circular", layout="NHWC"),
    "reflect same": ConvSpec(4, 6, 3, 2, "same", padding_mode="reflect", layout="NCHW"),
    "replicate": ConvSpec(4, 6, 3, 3, "same", padding_mode="replicate", layout="NCHW"),
    "transposed": ConvSpec(4, 6, 3, 2, 1, transposed=True, output_padding=1, layout="NHWC"),
    "transposed same": ConvSpec(4, 6, 4, 3, "same_lower", transposed=True, layout="NCHW"),
    "flipped": ConvSpec(
        4, 6, 3, 2, groups=2, transposed=True, flip_kernel=True, group_axis="O", layout="NCHW"
    ),
    "depthwise": ConvSpec(4, 8, 3, groups=4, layout="NHWC", weight_layout="HWIM"),
    "depthwise pairs": ConvSpec(
        4, 8, (3, 2), padding=((1, 1), (0, 2)), groups=4, layout="NHWC", weight_layout="HWIM"
    ),
    "dilated": ConvSpec(4, 6, 3, 2, "same", dilation=2, layout="NHWC"),
    "unbatched": ConvSpec(4, 6, 3, 2, "same", layout="HWC"),
    "causal": ConvSpec(4, 6, 3, padding="causal", dilation=2, layout="NWC"),
    "volume": ConvSpec(4, 6, 3, (1, 2, 2), "same", layout="NDHWC"),
    "volume groups": ConvSpec(4, 6, 3, 2, "same", dilation=2, groups=2, layout="NCDHW"),
    "rank 4": ConvSpec(2, 3, (2, 3, 2, 1), padding="same", layout="NTDHWC"),
}


def integers(spec: ConvSpec, size: int = 7, batch: int = 2) -> list[np.ndarray]:
    """Input, weight and bias as small integers, so that results are compared with tolerance zero.

    The spatial sizes are ``size``, ``size + 1``, ...
    """
    rng = np.random.default_rng(size * 10 + batch)
    sizes = {"N": batch, "C": spec.in_channels}
    sizes.update({letter: size + i for i, letter in enumerate(spec.spatial)})
    shapes = [[sizes[c] for c in spec.layout], spec.weight_shape, spec.bias_shape]
    return [rng.integers(-3, 4, shape).astype("float32") for shape in shapes]
