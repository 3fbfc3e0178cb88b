"""The call of PyTorch's own convolution."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch.nn.functional as F  # noqa: N812  (PyTorch's own habit)

from convspec.plan import Call

FORWARD = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


def conv(x: Any, w: Any, b: Any = None, *, call: Call) -> Any:
    """x (N, C, space), w (O, I, space) or transposed (I, O, space) -> y (N, O, space)."""
    function, arguments = _function(call)
    if 1 in w.shape:
        w = _row_major(w)
    if 1 not in (call.in_channels, call.out_channels):
        return function(x, w, b, *arguments)
    return _row_major(function(_row_major(x), w, b, *arguments))


def kernel(call: Call) -> Callable[..., Any]:
    """:func:`conv` for one call: a function of x, w and b alone."""
    inner = call.out_channels if call.transposed else call.in_channels
    if 1 in (call.in_channels, call.out_channels, inner // call.groups, *call.kernel_size):
        return partial(conv, call=call)
    function, arguments = _function(call)
    return lambda x, w, b=None: function(x, w, b, *arguments)


def _function(call: Call) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """PyTorch's function, and what it takes behind x, w and b."""
    padding = [lo for lo, _ in call.padding]
    if call.transposed:
        arguments = (call.stride, padding, call.output_padding, call.groups, call.dilation)
        return TRANSPOSED[call.rank], arguments
    return FORWARD[call.rank], (call.stride, padding, call.dilation, call.groups)


def _row_major(array: Any) -> Any:
    """``array`` with row-major strides throughout; a view where its elements lie so already.

    The stride of an axis of size 1 is arbitrary, so such a tensor may count as contiguous and as
    channels-last at once, and aten may hand oneDNN the strides of the other: grouped results, and
    strided ones of a single channel, are then wrong without a word (2.13; compare
    pytorch/pytorch#82060). Tensor.contiguous() would leave that stride as it is.

    Gradients pass through in the same order. So a result of one channel goes through it as well:
    what comes back to the kernel would otherwise have whatever strides its user gave it.
    """
    return array.reshape(-1).reshape(array.shape)
