"""Depthwise convolutions by those kernels of oneDNN's that are made for them.

oneDNN computes the gradient of the weight fast for pictures whose kernel is up to three positions
wide, however high. So a wider one is computed by columns, a volume by its planes, and a signal
stands upright. That by the input of a volume, or of a dilated call, it computes far slower than the
call itself, though that gradient is a call of the same kind. And data whose rows lie end to end in
memory it pads slowly, from a certain amount on.

Of several outputs for each channel it makes a group of few, one of many: each channel as often as
it has outputs is depthwise again.

The gradients are of calls without strides; :func:`by_weight` without dilation, too. Only
:func:`padded` may be recorded. Data are (N, C, space), weights (C, 1, kernel).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812  (PyTorch's own habit)
from torch.fx.experimental.symbolic_shapes import guard_or_false

from ._few import CONV, LAST, lies_last

#: Columns that oneDNN computes at a time.
COLUMNS = 3
#: Bytes of the input at a time, by rank: what is copied of it stays in the processor's cache.
KEPT_BYTES = {2: 2**22, 3: 2**20}
#: Up to as many a sample is not cut if its channels lie last, as nothing is copied of it.
WHOLE_BYTES = 2**24
#: Channels are taken in multiples of so many, as they lie in oneDNN's vectors.
CHANNELS = 16
#: Padding of the last axis from which on oneDNN leaves data in rows to its slowest kernel.
WIDE = 7
#: Bytes of padded data up to which a dilated call gains from it.
PADDED_BYTES = 2**25

Sizes = Sequence[int]


def padded(x: Any, amount: int, dilation: int) -> Any:
    """x, with as many zeros at both ends of its last axis as its kernel had better not add."""
    if amount < WIDE or (dilation == 1 and lies_last(x)):
        return x
    size = x.element_size() * (x.numel() + 2 * amount * x[..., 0].numel())
    large = dilation > 1 and guard_or_false(size > PADDED_BYTES)
    return x if large else F.pad(x, (amount, amount))


def repeated(x: Any, times: int) -> Any:
    """Each channel so many times in a row; in the same order of memory."""
    if lies_last(x):
        return x.movedim(1, -1).repeat_interleave(times, -1).movedim(-1, 1)
    return x.repeat_interleave(times, 1)


def multiplied(
    x: Any, w: Any, b: Any, stride: Sizes, padding: Sizes, dilation: Sizes, times: int
) -> Any:
    """The call of so many outputs for each channel; w is (C * times, 1, *kernel)."""
    wide = padded(x, padding[-1], dilation[-1]) if w.dim() < 5 else x
    if wide is not x:
        padding = [*padding[:-1], 0]
    return CONV[w.dim() - 2](repeated(wide, times), w, b, stride, padding, dilation, len(w))


def by_x(g: Any, w: Any, padding: Sizes, dilation: Sizes) -> Any:
    """The gradient by the input."""
    crop = [(k - 1) * d - p for k, d, p in zip(w.shape[2:], dilation, padding, strict=True)]
    wide = padded(g, crop[-1], dilation[-1]) if w.dim() < 5 else g
    if wide is not g:
        crop[-1] = 0
    return CONV[w.dim() - 2](wide, w.flip([*range(2, w.dim())]), None, 1, crop, dilation, len(w))


def by_weight(x: Any, g: Any, kernel: Sizes, padding: Sizes) -> Any:
    """The gradient by the weight, (C, 1, *kernel)."""
    if len(kernel) == 1:
        return _pictures(x[..., None], g[..., None], (*kernel, 1), (*padding, 0))[..., 0]
    kept, each = KEPT_BYTES[len(kernel)], max(x.element_size() * x[0].numel(), 1)
    samples, channels = max(kept // each, 1), x.shape[1]
    if each > (WHOLE_BYTES if lies_last(x) else kept):
        channels = max(channels * kept // each // CHANNELS, 1) * CHANNELS
    part = _pictures if len(kernel) == 2 else _volumes
    parts = []
    for xs, gs in zip(x.split(channels, 1), g.split(channels, 1), strict=True):
        pairs = zip(xs.split(samples), gs.split(samples), strict=True)
        parts.append(sum(part(last(a), last(b), kernel, padding) for a, b in pairs))
    return torch.cat(parts)


def _volumes(x: Any, g: Any, kernel: Sizes, padding: Sizes) -> Any:
    """A picture's gradient for each tap of the first axis, the planes being samples."""
    taps = []
    for tap in range(kernel[0]):
        # Plane i of the output reads plane i + offset.
        offset = tap - padding[0]
        low, high = max(0, -offset), min(g.shape[2], x.shape[2] - offset)
        if low < high:
            planes = _planes(x[:, :, low + offset : high + offset]), _planes(g[:, :, low:high])
            taps.append(_pictures(*planes, kernel[1:], padding[1:]))
        else:
            taps.append(x.new_zeros((x.shape[1], 1, *kernel[1:])))
    return torch.stack(taps, 2)


def _planes(x: Any) -> Any:
    """(N, C, D, H, W) -> (N * D, C, H, W), a view where N is 1 and the channels lie last."""
    return x.transpose(1, 2).flatten(0, 1)


def _pictures(x: Any, g: Any, kernel: Sizes, padding: Sizes) -> Any:
    """By so many columns of the kernel at a time as oneDNN is fast at."""
    height, width = kernel
    if width <= COLUMNS:
        return _kernel(x, g, kernel, padding)
    x = F.pad(x, (padding[1], padding[1]))
    columns = []
    for at in range(0, width, COLUMNS):
        some = min(COLUMNS, width - at)
        read = last(x.narrow(3, at, g.shape[3] - 1 + some))
        columns.append(_kernel(read, g, (height, some), (padding[0], 0)))
    return torch.cat(columns, 3)


def _kernel(x: Any, g: Any, kernel: Sizes, padding: Sizes) -> Any:
    w = x.new_empty((x.shape[1], 1, *kernel))  # nothing is read of it but its shape
    rest = (1, 1), padding, (1, 1), False, (0, 0), len(w), (False, True, False)
    return torch.ops.aten.convolution_backward(g, x, w, None, *rest)[1]


def last(x: Any) -> Any:
    """The same with the channels last in memory."""
    return x.contiguous(memory_format=LAST[x.dim() - 2])
