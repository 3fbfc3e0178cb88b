"""The call of JAX's own convolution."""

from __future__ import annotations

from typing import Any

import jax

from convspec.plan import Call


def conv(x: Any, w: Any, *, call: Call) -> Any:
    """x, w and y in whatever orders the call names; w with the groups on O."""
    space = call.spatial
    numbers = jax.lax.ConvDimensionNumbers(
        lhs_spec=tuple(call.x_layout.index(c) for c in "NC" + space),
        rhs_spec=tuple(call.w_layout.index(c) for c in "OI" + space),
        out_spec=tuple(call.y_layout.index(c) for c in "NC" + space),
    )
    return jax.lax.conv_general_dilated(
        x,
        w,
        window_strides=call.stride,
        padding=call.padding,
        lhs_dilation=call.input_dilation,
        rhs_dilation=call.dilation,
        dimension_numbers=numbers,
        feature_group_count=call.groups,
    )
