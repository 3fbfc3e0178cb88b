"""The arithmetic of one spatial axis, on plain or symbolic integers.

Only ``+ - * //`` and the injected ``maximum`` are used, so that torch SymInts, JAX dimension
variables and TensorFlow scalars pass through unharmed. n input, k kernel, s stride, d dilation,
e = d*(k-1)+1 the extent of the dilated kernel.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable
from typing import Any

Size = Any  # an int, or a framework's symbolic one
Pair = tuple[Size, Size]
Maximum = Callable[[Size, Size], Size]


def extent(kernel: Size, dilation: Size) -> Size:
    """e: how far a dilated kernel reaches, ends included."""
    return dilation * (kernel - 1) + 1


def same_padding(
    n: Size, e: Size, s: Size, *, lower: bool = False, maximum: Maximum = builtins.max
) -> Pair:
    """(lo, hi) such that the output has ceil(n/s) positions.

    TensorFlow's rule (https://www.tensorflow.org/api_docs/python/tf/nn#notes_on_padding_2), which
    is ONNX's SAME_UPPER; ``lower`` puts the larger half first (SAME_LOWER).
    """
    total = maximum(((n + s - 1) // s - 1) * s + e - n, 0)
    half = total // 2
    return (total - half, half) if lower else (half, total - half)


def forward_size(n: Size, e: Size, s: Size, padding: Pair) -> Size:
    """floor((n + lo + hi - e) / s) + 1 (ONNX Conv, torch.nn.Conv3d)."""
    return (n + padding[0] + padding[1] - e) // s + 1


def smallest_input(out: Size, e: Size, s: Size, padding: Pair) -> Size:
    """The smallest input from which a forward convolution gives ``out`` positions, at least 1."""
    return builtins.max((out - 1) * s + e - padding[0] - padding[1], 1)


def transposed_size(n: Size, e: Size, s: Size, padding: Pair, output_padding: Size) -> Size:
    """(n-1)*s - lo - hi + e + output_padding (torch.nn.ConvTranspose3d)."""
    return (n - 1) * s - padding[0] - padding[1] + e + output_padding


def differs(size: Size, expected: int) -> bool:
    """Whether a size is another one; a symbolic one whose framework cannot tell yet is not."""
    return size != expected if type(size) is int else (size == expected) is False
