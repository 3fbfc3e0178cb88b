"""The arithmetic of one spatial axis, on plain or symbolic integers.

Only ``+ - * //`` and :func:`~convspec.symbols.largest` are used, so that sizes which are not known
yet pass through unharmed. n input, k kernel, s stride, d dilation,
e = d*(k-1)+1 the extent of the dilated kernel.
"""

from __future__ import annotations

from collections.abc import Sequence

from .symbols import Size, largest, residue

Pair = tuple[Size, Size]


def extent(kernel: Size, dilation: Size) -> Size:
    """e: how far a dilated kernel reaches, ends included."""
    return dilation * (kernel - 1) + 1


def pointwise(kernel: Sequence[Size], stride: Sequence[Size]) -> bool:
    """Whether each output is made of the channels of one input alone, its own."""
    return all(n == 1 for n in (*kernel, *stride))


def same_padding(n: Size, e: Size, s: Size, *, lower: bool = False) -> Pair:
    """(lo, hi) such that the output has ceil(n/s) positions.

    TensorFlow's rule (https://www.tensorflow.org/api_docs/python/tf/nn#notes_on_padding_2), which
    is ONNX's SAME_UPPER; ``lower`` puts the larger half first (SAME_LOWER).

    The amounts depend on n through n mod s alone, so that they are known of a symbolic n that is
    some multiple of s and a number more.
    """
    rest = residue(n, s)
    n = n if rest is None else rest or s
    # ceil(n/s) - 1 = (n-1) // s
    total = largest((n - 1) // s * s + e - n, 0)
    half = total // 2
    rest = (total + 1) // 2
    return (rest, half) if lower else (half, rest)


def forward_size(n: Size, e: Size, s: Size, padding: Pair) -> Size:
    """floor((n + lo + hi - e) / s) + 1 (ONNX Conv, torch.nn.Conv3d)."""
    return (n + padding[0] + padding[1] - e) // s + 1


def same_size(n: Size, s: Size) -> Size:
    """ceil(n/s): what :func:`same_padding` leaves."""
    return (n - 1) // s + 1


def smallest_input(out: Size, e: Size, s: Size, padding: Pair) -> Size:
    """The smallest input from which a forward convolution gives ``out`` positions, at least 1."""
    return largest((out - 1) * s + e - padding[0] - padding[1], 1)


def transposed_size(n: Size, e: Size, s: Size, padding: Pair, output_padding: Size) -> Size:
    """(n-1)*s - lo - hi + e + output_padding (torch.nn.ConvTranspose3d)."""
    return (n - 1) * s - padding[0] - padding[1] + e + output_padding
