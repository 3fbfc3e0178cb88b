"""Where aten takes another kernel than oneDNN's on the CPU, and what is faster there.

Every bound here is measured (torch 2.13, AVX2, float32, ratios of interleaved medians over
``F.conv3d``, channels first and last).

For one small volume aten's ``use_mkldnn`` says no, for the sake of pictures: it multiplies the
first four sizes, and leaves out W. Asked by name, oneDNN takes 1/1.7 to 1/12 of the time. That
operator has neither forward gradients nor a shape without data, and aten decides anew for its
backward pass. So what is recorded, by autograd, a transform, a mode or a compiler, goes another
way: two halves of the volume, as a batch of two, get oneDNN in both directions, 1.9 to 6 times as
fast with channels first, 2.1 to 8 times with channels last.

What is slow for other reasons is in :mod:`convspec_torch._ways`. Of the rest of the workloads of
``convspec bench`` nothing that was tried was faster: oneDNN's own kernels for signals, pictures,
groups, dilation and transposed convolutions beat sums over taps, stacked taps and phases.
"""

from __future__ import annotations

from math import prod
from typing import Any

import torch

from convspec.backend import Kernel
from convspec.plan import Call

from ._autograd import recorded
from ._ways import alone

#: aten's own bound (aten/src/ATen/native/Convolution.cpp, ConvParams::use_mkldnn).
SMALL = 20480
#: Up to as many input channels. At 64: 2.5 and 3.0 times; at 128: 1.5 and 1.5; at 512: 1.0 and 0.5.
CHANNELS = 128
#: From so many multiplications on. At 1.8 million 0.8 to 1.6 times, at 28 million 1.9 and 2.1.
WORTHWHILE = 2**23


def small(call: Call) -> bool:
    """Whether aten computes a call that is worth it without oneDNN, for being one small volume.

    Not on accelerators. Not where a process group is: the arrays may then be partitioned.
    """
    if call.device != "cpu" or call.dtype != "float32" or call.symbolic or not alone():
        return False
    if call.transposed or call.rank != 3 or call.groups > 1 or call.batch != 1:
        return False
    if not torch.backends.mkldnn.is_available() or min(call.kernel_size[1:]) > 3:
        return False
    if any(lo != hi or lo < 0 for lo, hi in call.padding) or set(call.input_dilation) != {1}:
        return False
    if call.in_channels > CHANNELS or call.in_channels * prod(call.input_size[:2]) > SMALL:
        return False
    return bool(call.output_size[0] > 1 and call.multiplications >= WORTHWHILE)


def either(direct: Kernel, recording: Kernel) -> Kernel:
    """``direct`` for arrays whose call nothing records, ``recording`` for all others."""

    def run(*arrays: Any) -> Any:
        return (recording if recorded(arrays) else direct)(*arrays)

    return run
