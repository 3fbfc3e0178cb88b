"""Weights to start a training from, the same in every framework."""

from __future__ import annotations

from math import prod, sqrt
from typing import TYPE_CHECKING, Any

import numpy as np

from .arguments import LARGEST_SIZE, integer

if TYPE_CHECKING:
    from .spec import ConvSpec


def initial_arrays(spec: ConvSpec, seed: int) -> tuple[Any, Any]:
    """A weight and a bias drawn from ``seed``, the same function whatever the spec's orders.

    They follow the law of PyTorch's layers (``torch.nn.modules.conv._ConvNd.reset_parameters``):
    uniform within ±1/sqrt(fan_in), where fan_in is the size of a PyTorch weight without its first
    axis: kernel * in_channels/groups, transposed kernel * out_channels/groups.

    Args:
        spec: the convolution; its orders only decide how the weight lies.
        seed: of ``numpy.random.default_rng``; not below 0.

    Returns:
        NumPy arrays of float32: the weight in the spec's order, and the bias or None.

    Raises:
        ShapeError: ``seed`` is no such integer.

    >>> from convspec import ConvSpec
    >>> spec = ConvSpec(3, 8, (5, 5))
    >>> w, b = initial_arrays(spec, seed=0)
    >>> other, _ = initial_arrays(spec.in_convention("tensorflow"), seed=0)
    >>> (w.transpose(2, 3, 1, 0) == other).all()
    np.True_
    """
    rng = np.random.default_rng(integer("seed", seed, minimum=0, maximum=LARGEST_SIZE))
    torch = spec.in_convention("torch")
    bound = 1 / sqrt(prod(torch.weight_shape[1:]))
    weight = rng.uniform(-bound, bound, torch.weight_shape).astype(np.float32)
    bias = rng.uniform(-bound, bound, spec.bias_shape).astype(np.float32) if spec.bias else None
    return torch.convert_weight(weight, to=spec), bias
