"""Convolutions onto few channels, transposed ones and dense ones, as a sum of shifted products.

oneDNN computes 8 or 16 output channels at a time, and for one or three of them takes as long. So is
the gradient by a picture, and the last layer of a decoder or of a segmentation. Here all that the
taps of the first axes contribute, ``channels * taps`` rows, comes from one call of a kernel, and is
then added up where it belongs (Vasudevan, Anderson and Gregg, "Parallel multi channel convolution
using general matrix multiplication", ASAP 2017, section III: kn2row). The gradient by the weight of
such a layer is that of one whose input is y and whose output is x, turned around: of few inputs, at
which oneDNN is fast.

Nothing here is recorded.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from math import prod
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812  (PyTorch's own habit)
from torch.fx.experimental.symbolic_shapes import guard_or_false, guard_or_true

CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
#: oneDNN by its name, of rank 2 and 3: x, weight, bias or None, padding, stride, dilation, groups.
#: For one small volume aten takes another kernel (:mod:`convspec_torch._slow`).
ONEDNN = torch.ops.aten.mkldnn_convolution
LAST = {2: torch.channels_last, 3: torch.channels_last_3d}

#: Rows up to which the taps of one more axis are taken apart: as many as oneDNN's vectors hold.
ROWS = 16
#: Bytes of what is kept at a time before it is added up.
KEPT_BYTES = 2**23

Sizes = Sequence[int]


def dense(x: Any, w: Any, padding: Sizes, dilation: Sizes) -> Any:
    """x (N, C, n...), w (O, C, k...) -> y (N, O, m...), without strides.

    It is the transposed one of the kernel turned around.
    """
    extents = [(k - 1) * d + 1 for k, d in zip(w.shape[2:], dilation, strict=True)]
    size = [n + 2 * p - e + 1 for n, p, e in zip(x.shape[2:], padding, extents, strict=True)]
    crop = [e - 1 - p for e, p in zip(extents, padding, strict=True)]
    w = w.flip([*range(2, w.dim())]).transpose(0, 1)
    return transposed(x, w, size, [1] * len(size), crop, dilation)


def transposed(x: Any, w: Any, size: Sizes, stride: Sizes, padding: Sizes, dilation: Sizes) -> Any:
    """x (N, C, m...), w (C, O, k...) -> y (N, O, *size).

    Position p of y is the sum of x[i] * w[t] for i * stride + t * dilation = p + padding. An axis
    with a stride has no dilation, and the padding is less than the extent.
    """
    rank, channels = len(size), w.shape[1]
    lead = _leading(w, stride)
    taps, steps = w.shape[2 : 2 + lead], stride[:lead]
    rows = prod(taps) * channels
    # Of the last axes a dense kernel, turned around; of the first ones each tap's own outputs.
    w = w.flip([*range(2 + lead, 2 + rank)])
    w = w.permute(*range(2, 2 + lead), 1, 0, *range(2 + lead, 2 + rank))
    w = w.reshape(rows, x.shape[1], *[1] * lead, *w.shape[2 + lead :])
    inner = [0] * lead, [1] * lead
    for k, p, d in zip(w.shape[2 + lead :], padding[lead:], dilation[lead:], strict=True):
        inner[0].append((k - 1) * d - p)
        inner[1].append(d)
    # Position p + padding is number (p + padding) // stride of its residue.
    counts = [
        ((m - 1) * s + (k - 1) * d) // s + 1
        for m, k, s, d in zip(x.shape[2:], taps, steps, dilation, strict=False)
    ]
    y = _zeros(x, (x.shape[0], channels, *size))
    bytes_each = x.element_size() * rows * prod(x.shape[2:])
    at_once = max(1, KEPT_BYTES // max(bytes_each, 1))
    slab = max(1, min(x.shape[2], KEPT_BYTES * x.shape[2] // max(bytes_each, 1)))
    for first in range(0, x.shape[0], at_once):
        xs, ys = x[first : first + at_once], y[first : first + at_once]
        sums = x.new_zeros((xs.shape[0], *steps, channels, *counts, *size[lead:]))
        for start in range(0, x.shape[2], slab):
            part = xs.narrow(2, start, min(slab, x.shape[2] - start))
            z = _contributions(part, w, *inner)
            z = z.reshape(xs.shape[0], *taps, channels, *part.shape[2 : 2 + lead], *size[lead:])
            _add(sums, z, start, steps, dilation)
        _crop(sums, ys, lead, padding)
    return y


def by_weight(x: Any, g: Any, kernel: Sizes, padding: Sizes) -> Any:
    """The gradient by the weight, (O, C, *kernel), of :func:`dense` without dilation.

    dw[k] is the sum of x[i + k - padding] * g[i], and so of g[j + (padding - k)] * x[j].
    """
    ones, zeros = [1] * len(kernel), [0] * len(kernel)
    rest = [k - 1 - p for k, p in zip(kernel, padding, strict=True)], ones, False, zeros, 1
    w = x.new_empty((x.shape[1], g.shape[1], *kernel))  # nothing is read of it but its shape
    only_weight = (False, True, False)
    dw = torch.ops.aten.convolution_backward(x, g, w, None, ones, *rest, only_weight)[1]
    return dw.flip([*range(2, dw.dim())]).transpose(0, 1).contiguous()


def _leading(w: Any, stride: Sizes) -> int:
    """How many of the first axes have their taps taken apart; those with strides must have."""
    count = max([1, *(i + 1 for i, s in enumerate(stride) if s > 1)])
    while count < len(stride) and prod(w.shape[1 : 3 + count]) <= ROWS:
        count += 1
    return count


def _contributions(x: Any, w: Any, padding: Sizes, dilation: Sizes) -> Any:
    """(N, rows, space): the dense convolution; a matrix product where it has no axis left.

    The product's rows lie end to end, whatever the order of x in memory.
    """
    if {*w.shape[2:]} != {1}:
        ones = [1] * len(padding)
        if len(padding) == 1:
            return F.conv1d(x, w, None, ones, padding, dilation)
        return ONEDNN(x, w, None, padding, ones, dilation, 1)
    x, matrix = x.flatten(2), w.flatten(1)
    if len(x) == 1:
        return torch.mm(matrix, x[0])[None]
    return torch.bmm(matrix.expand(len(x), -1, -1), x)


def _add(sums: Any, z: Any, start: int, steps: Sizes, dilation: Sizes) -> None:
    """Add (N, taps, C, space) to the sums (N, residues, C, counts, rest).

    As many taps at once as there are residues: they go to different ones.
    """
    lead = len(steps)
    taps = z.shape[1 : 1 + lead]
    blocks = [range(-(-k // s)) for k, s in zip(taps, steps, strict=True)]
    for block in product(*blocks):
        source, target = z, sums
        for i, (number, k, s) in enumerate(zip(block, taps, steps, strict=True)):
            some = min(s, k - number * s)
            source = source.narrow(1 + i, number * s, some)
            at = number * dilation[i] + (0 if i else start)
            target = target.narrow(1 + i, 0, some).narrow(2 + lead + i, at, z.shape[2 + lead + i])
        target += source


def _crop(sums: Any, y: Any, lead: int, padding: Sizes) -> None:
    """The sums (N, residues, C, counts, rest) of the positions that count, into y (N, C, space)."""
    order = [0, 1 + lead]
    for i in range(lead):
        order += [2 + lead + i, 1 + i]
    order += range(2 + 2 * lead, sums.dim())
    residues, counts = sums.shape[1 : 1 + lead], sums.shape[2 + lead : 2 + 2 * lead]
    sizes = [s * count for s, count in zip(residues, counts, strict=True)]
    whole = sums.permute(order).reshape(*y.shape[:2], *sizes, *y.shape[2 + lead :])
    for i in range(lead):
        size = min(y.shape[2 + i], sizes[i] - padding[i])
        whole, y = whole.narrow(2 + i, padding[i], size), y.narrow(2 + i, 0, size)
    y.copy_(whole)


def _zeros(like: Any, shape: Sizes) -> Any:
    """Zeros in the same order in memory."""
    order = LAST[len(shape) - 2] if lies_last(like) else torch.contiguous_format
    return torch.empty(shape, dtype=like.dtype, memory_format=order).zero_()


def lies_last(x: Any) -> bool:
    """Whether the channels lie last in memory; of signals, which oneDNN gets in rows, never.

    ``is_contiguous`` would tell it, but raises where a compiler can't know what there is.
    """
    if x.dim() < 4 or not guard_or_false(x.stride(1) == 1):
        return False
    channels, *space = x.shape[1:]
    return guard_or_true(channels != 1) and any(guard_or_true(n != 1) for n in space)
