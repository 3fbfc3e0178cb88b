"""The call of PyTorch's own convolution."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F  # noqa: N812  (PyTorch's own habit)

from convspec.plan import Call

FORWARD = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


def conv(x: Any, w: Any, b: Any = None, *, call: Call) -> Any:
    """x (N, C, space), w (O, I, space) or transposed (I, O, space) -> y (N, O, space)."""
    if 1 in w.shape:
        w = _row_major(w)
    if 1 not in (call.in_channels, call.out_channels):
        return _kernel(x, w, b, call)
    return _row_major(_kernel(_row_major(x), w, b, call))


def _kernel(x: Any, w: Any, b: Any, call: Call) -> Any:
    padding = [lo for lo, _ in call.padding]
    if call.transposed:
        return TRANSPOSED[call.rank](
            x, w, b, call.stride, padding, call.output_padding, call.groups, call.dilation
        )
    return FORWARD[call.rank](x, w, b, call.stride, padding, call.dilation, call.groups)


def _row_major(array: Any) -> Any:
    """``array`` with row-major strides throughout; a view where its elements lie so already.

    The stride of an axis of size 1 is arbitrary, so such a tensor may count as contiguous and as
    channels-last at once, and aten may hand oneDNN the strides of the other: grouped results, and
    strided ones of a single channel, are then wrong without a word (2.13; compare
    pytorch/pytorch#82060). Tensor.contiguous() would leave that stride as it is.

    Gradients pass through in the same order. So a result of one channel goes through it as well:
    what comes back to the kernel would otherwise have whatever strides its user gave it.
    """
    return array.reshape(-1).view(array.shape)
