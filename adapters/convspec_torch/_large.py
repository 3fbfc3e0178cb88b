"""Volumes whose output is so large that its fresh memory costs more than the arithmetic.

glibc gives 32 MB and more back to the system as soon as they are freed, which clears the next
output anew, page by page. Pages of 2 MB cost far less, and Linux has them if it is asked, but
no kernel of torch's writes into memory that it is given. So the output is computed in pieces, whose
memory is kept, and copied.

Measured (torch 2.13, AVX-512, ratios of interleaved medians, 33 to 60 MB): 1.5 to 4.1 times as fast
as aten's call where it uses oneDNN, or would if the volume were not small, in rows 1.4 to 2.7 times
oneDNN asked by name, with the channels last 1.0 to 1.7; of 26 MB, 0.8 times. Where the allocator is
told to keep its memory, or is another one, there is nothing to gain.

Nothing here is recorded.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Sequence
from functools import cache
from typing import Any

import torch

from ._few import LAST, lies_last

#: Bytes of an output that glibc's allocator never keeps (DEFAULT_MMAP_THRESHOLD_MAX).
LARGE = 2**25
#: Bytes of a piece.
KEPT_BYTES = 2**22
#: madvise(2) of Linux: huge pages for this range.
HUGE = 14

Sizes = Sequence[int]


def convolved(
    x: Any, w: Any, b: Any, size: Sizes, stride: Sizes, padding: Sizes, dilation: Sizes
) -> Any:
    """x (N, C, D, H, W), w (O, C, kernel), b (O,) or None -> y (N, O, *size), groups == 1."""
    y = _empty((len(x), len(w), *size), x)
    x = torch.nn.functional.pad(x, (0, 0, 0, 0, padding[0], padding[0]))
    rest = [0, *padding[1:]], stride, dilation, 1
    reach = (w.shape[2] - 1) * dilation[0] + 1
    each = max(1, KEPT_BYTES * size[0] * len(x) // (y.element_size() * y.numel()))
    for first in range(0, size[0], each):
        count = min(each, size[0] - first)
        part = x.narrow(2, first * stride[0], (count - 1) * stride[0] + reach)
        piece = torch.ops.aten.mkldnn_convolution(part, w, b, *rest)
        y.narrow(2, first, count).copy_(piece)
    return y


@cache
def worthwhile() -> bool:
    """Whether this process has glibc's allocator as it is, on Linux."""
    told = os.environ.get("GLIBC_TUNABLES", "") + os.environ.get("LD_PRELOAD", "")
    return (
        sys.platform == "linux" and not told and hasattr(ctypes.CDLL(None), "gnu_get_libc_version")
    )


def _empty(shape: Sizes, like: Any) -> Any:
    """Memory in the same order, in huge pages where the system has them."""
    order = LAST[3] if lies_last(like) else torch.contiguous_format
    y = torch.empty(shape, dtype=like.dtype, memory_format=order)
    page = os.sysconf("SC_PAGESIZE")
    start = -(-y.data_ptr() // page) * page
    length = y.data_ptr() + y.element_size() * y.numel() - start
    advise = ctypes.CDLL(None).madvise  # what it answers does not matter
    advise(ctypes.c_void_p(start), ctypes.c_size_t(length), ctypes.c_int(HUGE))
    return y
