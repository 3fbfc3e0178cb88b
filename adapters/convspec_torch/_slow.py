"""Where aten takes another kernel than oneDNN's on the CPU, and which rule is faster there.

Every bound here is measured (torch 2.13, AVX2, float32, one thread, ratios of interleaved
medians of processor time over ``F.conv3d``, channels first and last).

For one small volume aten's ``use_mkldnn`` says no, for the sake of pictures: it multiplies the
first four sizes, and leaves out W. Two halves of the volume as a batch of two get oneDNN: 1.9 to 6
times as fast with channels first, 2.1 to 8 times with channels last.

Nothing else that was tried was faster on the workloads of ``convspec bench``: oneDNN's own kernels
for signals, pictures, groups, dilation and transposed convolutions beat sums over taps, stacked
taps and phases.
"""

from __future__ import annotations

from math import prod

import torch

from convspec.plan import Call

#: aten's own bound (aten/src/ATen/native/Convolution.cpp, ConvParams::use_mkldnn).
SMALL = 20480
#: Up to as many input channels. At 64: 2.5 and 3.0 times; at 128: 1.5 and 1.5; at 512: 1.0 and 0.5.
CHANNELS = 128
#: From so many multiplications on. At 1.8 million 0.8 to 1.6 times, at 28 million 1.9 and 2.1.
WORTHWHILE = 2**23


def faster(call: Call) -> str:
    """The rule that computes a call faster than aten does by itself, or ``""``.

    None on accelerators. None where a process group is: the arrays may then be partitioned.
    """
    if call.device != "cpu" or call.dtype != "float32" or call.symbolic or not _alone():
        return ""
    if call.transposed or call.rank != 3 or call.groups > 1 or call.batch != 1:
        return ""
    if not torch.backends.mkldnn.is_available() or min(call.kernel_size[1:]) > 3:
        return ""
    if call.in_channels > CHANNELS or call.in_channels * prod(call.input_size[:2]) > SMALL:
        return ""
    products = prod(call.kernel_size) * call.in_channels * prod(call.output_shape)
    return "samples" if call.output_size[0] > 1 and products >= WORTHWHILE else ""


def _alone() -> bool:
    group = torch.distributed
    return not (group.is_available() and group.is_initialized())
