"""Keras's own calls, on the backend that KERAS_BACKEND names."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from convspec import ConvSpec
from convspec.dtypes import FLOAT, HALF

from ..raw import RawTarget, amounts, named
from ..targets import Array


def raw() -> RawTarget:
    return Raw()


class Raw(RawTarget):
    """keras.ops.conv, conv_transpose and depthwise_conv, as documented."""

    convention = "keras"

    def __init__(self) -> None:
        backend = keras.config.backend()
        super().__init__(f"raw-keras-{backend}", f"{keras.__version__} on {backend}")

    def lacks(self, spec: ConvSpec, dtype: str) -> str:
        if dtype not in HALF + FLOAT:
            return f"no {dtype} is documented"
        if spec.rank > 3:
            return "ranks 1 to 3"
        if spec.padding_mode != "zeros":
            return "modes belong to keras.ops.pad"
        if spec.groups > 1 and (
            spec.transposed or spec.rank > 2 or spec.groups != spec.in_channels
        ):
            return "groups are documented for depthwise_conv in 1-D and 2-D alone"
        if named(spec) == "same":
            return ""
        if not amounts(spec) or any(map(any, amounts(spec))):
            return "valid or same"
        if any(extra >= s for extra, s in zip(spec.output_padding, spec.stride, strict=True)):
            return "output_padding is below the stride"
        return ""

    def compute(self, spec: ConvSpec, x: Array, w: Array, b: Array | None, out_dtype: Any) -> Array:
        x, w = (keras.ops.convert_to_tensor(np.ascontiguousarray(a)) for a in (x, w))
        words: dict[str, Any] = {
            "strides": spec.stride,
            "padding": named(spec) or "valid",
            "data_format": "channels_last",
            "dilation_rate": spec.dilation,
        }
        if spec.transposed:
            # Left out, it makes "valid" mean n*s + max(e-s, 0), and "same" n*s.
            words["output_padding"] = None if named(spec) else spec.output_padding
            y = keras.ops.conv_transpose(x, w, **words)
        elif spec.groups > 1:
            multiplier = spec.out_channels // spec.in_channels
            # (space, 1, I*M) in the order of i*M + m
            w = keras.ops.reshape(w, (*spec.kernel_size, spec.in_channels, multiplier))
            y = keras.ops.depthwise_conv(x, w, **words)
        else:
            y = keras.ops.conv(x, w, **words)
        y = y if b is None else y + keras.ops.convert_to_tensor(b)
        result: Array = keras.ops.convert_to_numpy(y)
        return result
