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
        # The stride of an axis of size 1 is arbitrary, so such a weight may count as channels-last
        # while its strides say something else; aten then hands oneDNN the wrong ones, and grouped
        # results are wrong without a word (seen in 2.13; compare pytorch/pytorch#82060).
        w = w.contiguous()
    padding = [lo for lo, _ in call.padding]
    if call.transposed:
        return TRANSPOSED[call.rank](
            x, w, b, call.stride, padding, call.output_padding, call.groups, call.dilation
        )
    return FORWARD[call.rank](x, w, b, call.stride, padding, call.dilation, call.groups)
