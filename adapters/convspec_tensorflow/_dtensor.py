"""TensorFlow's DTensors, which lie on a device of their own, ``CUSTOM``."""

from __future__ import annotations

from typing import Any

from convspec.backend import Kernel
from convspec.errors import UnsupportedError
from convspec.problem import Problem


def refusing_split_space(kernel: Kernel, problem: Problem) -> Kernel:
    """``kernel``, for inputs of which nothing but the batch is split.

    TensorFlow exchanges borders on TPUs alone, and elsewhere fails in its compiler; inside of a
    ``tf.function`` it is left to say so itself.
    """

    from tensorflow.experimental import dtensor

    def run(x: Any, *rest: Any, **options: Any) -> Any:
        layout = dtensor.fetch_layout(x)
        split = [
            f"{letter} over {layout.mesh.dim_size(name)}"
            for letter, name in zip(problem.layout, layout.sharding_specs, strict=True)
            if name != dtensor.UNSHARDED and letter != "N"
        ]
        if split:
            raise UnsupportedError(
                f"x: its DTensor layout splits {', '.join(split)} devices; TensorFlow convolves "
                f"what is split along the batch N, since it exchanges borders on TPUs alone.\n"
                f"  Relayout it, or split space with PyTorch or JAX: docs/distributed.md."
            )
        return kernel(x, *rest, **options)

    return run
