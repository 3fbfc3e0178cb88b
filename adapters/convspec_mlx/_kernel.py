"""The call of MLX's own convolution."""

from __future__ import annotations

from typing import Any

import mlx.core as mx

from convspec.plan import Call


def conv(x: Any, w: Any, *, call: Call) -> Any:
    """x (N, space, C), w (O, space, I) with the groups on O -> y (N, space, O)."""
    if call.covered != call.input_size:  # MLX's second gradients have a wrong size with the rest
        x = x[(slice(None), *map(slice, call.covered))]
    return mx.conv_general(
        x,
        w,
        stride=call.stride,
        padding=([lo for lo, _ in call.padding], [hi for _, hi in call.padding]),
        kernel_dilation=call.dilation,
        input_dilation=call.input_dilation,
        groups=call.groups,
    )
