"""``keras.ops.conv``, on whichever backend Keras has in this process."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from convspec import ConvSpec
from convspec.problem import Problem

from .base import Framework, Function, amounts, says_same


def calls(
    engine: Framework, spec: ConvSpec, problem: Problem, weight: Any
) -> dict[str, tuple[Function, Any]]:
    """The call by its name, and the kernel in Keras's order; none where Keras has no such call."""
    same = says_same(spec, problem)
    padded = not same and any(map(any, problem.padding))
    if spec.transposed and (padded or any(spec.output_padding)):
        return {}  # it crops by its own words alone
    last = spec.layout == f"N{spec.spatial}C"
    options: dict[str, Any] = {
        "strides": spec.stride,
        "padding": "same" if same else "valid",
        "data_format": "channels_last" if last else "channels_first",
        "dilation_rate": spec.dilation,
    }
    name = "conv_transpose" if spec.transposed else "conv"
    conv, pairs = getattr(keras.ops, name), amounts(spec, problem)
    mode = {"zeros": "constant"}.get(spec.padding_mode, spec.padding_mode)

    def run(x: Any, w: Any) -> Any:
        if padded:
            x = keras.ops.pad(x, pairs, mode)
        return conv(x, w, **options)

    numbers = engine.backend.to_numpy(spec.convert_weight(weight, to="keras"))
    return {f"keras.ops.{name}": (run, engine.array(np.ascontiguousarray(numbers)))}
