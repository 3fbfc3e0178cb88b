"""Where aten takes another kernel than oneDNN's on the CPU, and what is faster there.

Every bound here is measured (torch 2.13, AVX2, float32, ratios of interleaved medians over
``F.conv3d``, channels first and last).

For one small volume aten's ``use_mkldnn`` says no, for the sake of pictures: it multiplies the
first four sizes, and leaves out W. Asked by name, oneDNN takes 1/1.7 to 1/12 of the time. That
operator has neither forward gradients nor a shape without data, and aten decides anew for its
backward pass. So what is recorded, by autograd, a transform, a mode or a compiler, goes another
way: two halves of the volume, as a batch of two, get oneDNN in both directions, 1.9 to 6 times as
fast with channels first, 2.1 to 8 times with channels last.

A transposed call without strides is also a forward one, with the kernel reversed. Where oneDNN has
for the transposed one but its most general kernel, or aten none of oneDNN's, that is, forward and
with gradients: 3.7 and 2.4 times as fast in the mean of 52 such small volumes (0.5 to 32), 4.6 and
1.3 in that of 115 depthwise volumes (0.5 to 24), 2.4 and 1.5 in that of 587 depthwise calls of
several outputs for each channel (0.4 to 28), 2.7 and 2.5 in that of 147 of up to four channels onto
more (0.5 to 110): AVX-512 and AVX2, both orders, numbers equal.

What is slow for other reasons is in :mod:`convspec_torch._ways`. Of the rest of the workloads of
``convspec bench`` nothing that was tried was faster: oneDNN's own kernels for signals, pictures,
groups, dilation and transposed convolutions beat sums over taps, stacked taps and phases.
"""

from __future__ import annotations

from math import prod
from typing import Any

from convspec.backend import Kernel
from convspec.plan import Call

from ._autograd import recorded
from ._ways import usual

#: aten's own bound (aten/src/ATen/native/Convolution.cpp, ConvParams::use_mkldnn).
SMALL = 20480
#: Up to as many input channels. At 64: 2.5 and 3.0 times; at 128: 1.5 and 1.5; at 512: 1.0 and 0.5.
CHANNELS = 128
#: From so many multiplications on. At 1.8 million 0.8 to 1.6 times, at 28 million 1.9 and 2.1.
WORTHWHILE = 2**23
#: Transposed calls as forward ones, from so many multiplications on: depthwise; of up to so many
#: channels onto so many more; and small volumes onto so many, of up to so many times as many.
DEPTHWISE_WORTHWHILE = 2**18
FEW_WORTHWHILE = 2**20
FEW_CHANNELS = 4
SMALL_WORTHWHILE = 2**22
SEVERAL_CHANNELS = 8
SMALL_WIDE = 2


def small(call: Call) -> bool:
    """Whether aten computes a call that is worth it without oneDNN, for being one small volume.

    Not on accelerators. Not where a process group is: the arrays may then be partitioned.
    """
    if call.transposed or not usual(call) or not _without_onednn(call):
        return False
    many = call.multiplications >= WORTHWHILE
    return bool(call.in_channels <= CHANNELS and call.output_size[0] > 1 and many)


def backwards(call: Call) -> bool:
    """Whether a transposed call is faster as the forward one of the reversed kernel."""
    if not call.transposed or {*call.stride} != {1} or not usual(call):
        return False
    work, channels = call.multiplications, (call.in_channels, call.out_channels)
    if {*call.kernel_size} == {1}:
        return False
    if 1 < call.groups == call.in_channels:
        slow = channels[1] > call.groups or (call.rank == 3 and {*call.dilation} == {1})
        return slow and bool(work >= DEPTHWISE_WORTHWHILE)
    if call.groups > 1 or channels[1] < SEVERAL_CHANNELS:
        return False
    if channels[0] <= FEW_CHANNELS:
        return bool(work >= FEW_WORTHWHILE)
    wide = channels[0] > SMALL_WIDE * channels[1]
    return not wide and _without_onednn(call) and bool(work >= SMALL_WORTHWHILE)


def _without_onednn(call: Call) -> bool:
    """Whether aten takes a volume for too small for oneDNN."""
    if call.rank != 3 or call.groups > 1 or call.batch != 1 or min(call.kernel_size[1:]) > 3:
        return False
    return bool(call.in_channels * prod(call.input_size[:2]) <= SMALL)


def either(direct: Kernel, recording: Kernel) -> Kernel:
    """``direct`` for arrays whose call nothing records, ``recording`` for all others."""

    def run(*arrays: Any) -> Any:
        return (recording if recorded(arrays) else direct)(*arrays)

    return run
