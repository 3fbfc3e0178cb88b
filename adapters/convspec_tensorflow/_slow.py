"""Where TensorFlow's own kernel is slow on the CPU, and which rule is faster there.

Every bound here is measured (TensorFlow 2.21 without oneDNN, AVX2 and AVX-512, float32, 2 cores,
ratios of interleaved medians over ``tf.nn.conv3d`` and its transpose, channels last). oneDNN, which
TensorFlow takes by itself on processors with AVX-512 and elsewhere if ``TF_ENABLE_ONEDNN_OPTS=1``
was set before it was imported, has none of these problems but that of groups. With it, gradients of
one channel are 1.1 to 2.9 times as fast with the taps stacked, of two or three 1.0 to 2.1 times, if
there is much to compute; of more channels 0.3 to 1.1 times.

- Eigen's 3-D kernel is slow on a few channels: as 2-D pictures with the taps of the depth stacked
  into the channels 1.3 to 5 times as fast.
- The gradients of a volume gather the windows of as many samples as the L3 cache would hold, if
  there were so many, one sample or not; and where these windows have more than 25 times as many
  elements as all tensors (kMaxTempAllocationOverhead in tensorflow/core/kernels/
  conv_grad_ops_3d.cc), which is so for all that are small, they are left to a kernel that computes
  0.3 to 3 GFLOP/s, with strides and few channels 0.02. Pictures are 0.7 to 36 times as fast, 2.6
  in the mean of 315 volumes, with strides 0.7 to 320 times, 6.5 in that of 269; of 24 and more
  times as many input channels as output channels, if there is much to compute, 0.4 to 2.2 times;
  and 0.15 to 1.5 times of more output channels than half the positions, where there is no such
  kernel.
- The gradients of a transposed convolution with strides, likewise, are 0.5 to 38 times as fast as
  pictures of each residue of the stride, 2.0 in the mean of 93.
- The transposed convolution itself is the gradient of another one, and of two samples and more 1.0
  to 180 times as fast by the residues where TensorFlow's own is left to that kernel, 14 times in
  the mean of 44; of others 0.2 to 1.5 times.
- A transposed convolution without strides is also a forward one, with the kernel reversed.
  Depthwise, it has TensorFlow's own kernel then, 1.1 to 18 times as fast in 28 random calls of
  pictures and volumes, and with oneDNN, of volumes, 1.0 to 10 times in 42; with gradients 1.3 to 18
  times, and with oneDNN 0.8 to 36. With dilation it is 2.1 times as fast in the mean of 22 others,
  3.1 times with gradients (0.7 to 6); with oneDNN 0.2 to 1.5 times.
- Transposed and strided, depthwise: by residues, which have that kernel too, 1.5 to 60 times as
  fast as by a call for each group, in 20 random calls of channels enough for the kernel calls it
  takes; of fewer 0.2 to 1.0 times.
- Volumes of groups of 16 channels and more are 1.0 to 2.1 times as fast by a volume for each group
  as by a picture of all groups for each tap of the depth, with oneDNN with gradients too (1.2 to
  1.7), with less 0.3 to 1.2; without it, with gradients, 0.04 to 1.7.
- Volumes with dilation and strides have no kernel at all. With gradients, a picture for each tap of
  the depth is 3 to 8 times as fast as zeros between the taps; forward, 0.5 to 1.5 times. With
  dilation alone, pictures are 1.33 times as fast in the mean of 16, three of them 0.8.
"""

from __future__ import annotations

import os
import platform
from functools import cache
from math import prod
from pathlib import Path

from convspec.plan import Call

#: Up to as many input channels the forward kernel is slow, and with gradients the taps are stacked;
#: of more, the results are added up.
FEW_CHANNELS = 4
#: From so many multiplications on: rules cost some tens of microseconds for each of their nodes.
WORTHWHILE = 2**25
#: With so many times as many input channels as output channels, and so many multiplications.
WIDE = 24
WIDE_WORTHWHILE = 2**23
#: Transposed calls, from so many multiplications on, those with zeros too, and with gradients up to
#: so many times as many input channels.
TRANSPOSED_WORTHWHILE = 2**20
TRANSPOSED_WIDE = 16
#: Transposed calls without strides, from so many multiplications on, or with oneDNN from so many
#: channels on; and with oneDNN and dilation, forward, from more multiplications on.
BACKWARDS_WORTHWHILE = 2**20
BACKWARDS_CHANNELS = 16
DILATED_BACKWARDS = 2**22
#: Elements of all windows, times those of all tensors, from which on none are gathered.
GATHERED = 25
#: With oneDNN and gradients, up to as many channels, from so many output channels on, and from so
#: many multiplications of a channel on, times the channels' square.
ONEDNN_CHANNELS = 3
ONEDNN_OUT_CHANNELS = 8
ONEDNN_WORTHWHILE = 2**26
#: Depthwise, from so many channels on for each kernel call that the residues take.
RESIDUE_CHANNELS = 2
#: Up to as many residues of the stride.
RESIDUES = 64
#: From so many input channels of a group on.
GROUP_CHANNELS = 16
#: What oneDNN may be held to that is less than AVX-512 (uxlfoundation.github.io/oneDNN, "CPU
#: Dispatcher Control").
NARROWER = ("SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2")


def faster(call: Call, *, gradients: bool) -> str:
    """The rule that computes a call faster than TensorFlow's kernel, or ``""``; never elsewhere.

    Args:
        gradients: whether what counts is the time of the call and its gradients together.
    """
    call = call.least
    if call.device != "cpu" or call.dtype != "float32" or call.symbolic:
        return ""
    if call.transposed and {*call.stride} == {1} and _backwards(call, gradients=gradients):
        return "transposed"
    if call.transposed and _depthwise_apart(call, gradients=gradients):
        return "phases"
    if call.rank != 3:
        return ""
    if call.groups > 1 or any(step != 1 for step in call.input_dilation):
        return ""
    if onednn():
        return "stack" if gradients and _few_channels(call) else ""
    if call.transposed:
        return "phases" if _strided_apart(call, gradients=gradients) else ""
    if {*call.dilation} != {1}:
        return "rank" if gradients else ""
    flat = {*call.stride[1:]} == {1}
    few = call.in_channels <= FEW_CHANNELS and flat
    if not gradients:
        return "stack" if few and call.multiplications >= WORTHWHILE else ""
    wide = call.in_channels >= WIDE * call.out_channels
    if wide and flat and call.multiplications >= WIDE_WORTHWHILE:
        return ""
    if 2 * call.out_channels > call.batch * prod(call.output_size) and not _gathers_too_much(call):
        return ""
    return "stack" if few else "rank"


def _backwards(call: Call, *, gradients: bool) -> bool:
    """Whether a transposed call without strides is faster as the forward one of the same output."""
    depthwise, dilated = 1 < call.groups == call.in_channels, {*call.dilation} != {1}
    if onednn():
        if call.rank != 3 or not depthwise:
            return False
        if dilated and not gradients:
            return bool(call.multiplications >= DILATED_BACKWARDS)
        return bool(
            call.in_channels >= BACKWARDS_CHANNELS or call.multiplications >= BACKWARDS_WORTHWHILE
        )
    if call.rank < 2 or not (depthwise or dilated):
        return False
    pictures = call.rank == 2 and call.groups > 1 and not gradients
    return depthwise or (not pictures and bool(call.multiplications >= BACKWARDS_WORTHWHILE))


def _depthwise_apart(call: Call, *, gradients: bool) -> bool:
    """Whether a strided transposed depthwise call is faster by the residues of its stride, which
    are depthwise calls, than by a call for each group.
    """
    if not 1 < call.groups == call.in_channels or {*call.dilation} != {1}:
        return False
    if not 1 < prod(call.stride) <= RESIDUES or call.rank < 2 or (call.rank == 2 and onednn()):
        return False
    if call.rank == 2:
        return bool(call.in_channels >= RESIDUE_CHANNELS * prod(call.stride))
    if not onednn() and (gradients or call.batch > 1):
        return True
    pictures = max(call.kernel_size[0], call.stride[0]) * prod(call.stride[1:])
    return bool(call.in_channels >= RESIDUE_CHANNELS * pictures)


def _strided_apart(call: Call, *, gradients: bool) -> bool:
    """Whether a transposed call is faster by the residues of its stride."""
    if not 1 < prod(call.stride) <= RESIDUES or call.multiplications < TRANSPOSED_WORTHWHILE:
        return False
    if gradients and call.in_channels < TRANSPOSED_WIDE * call.out_channels:
        return True
    return call.batch > 1 and _gathers_too_much(call)


def _gathers_too_much(call: Call) -> bool:
    """Whether TensorFlow leaves the weight's gradient to the slow kernel, and of a transposed call
    of several samples the call itself.
    """
    taps, windows = prod(call.kernel_size), (call.in_channels, prod(call.input_size))
    others = call.out_channels, prod(call.output_size)
    if call.transposed:
        windows, others = others, windows
    channels, positions = others
    gathered, weight = positions * taps * windows[0], taps * windows[0] * channels
    samples = -(-l3_bytes() // 4 // (gathered + weight + positions * channels))
    tensors = weight + call.batch * (positions * channels + prod(windows))
    return bool(samples * gathered // tensors > GATHERED)


def _few_channels(call: Call) -> bool:
    """Whether the gradients of a volume are faster by pictures than oneDNN's."""
    if call.transposed or {*call.dilation, *call.stride[1:]} != {1}:
        return False
    if call.in_channels > ONEDNN_CHANNELS or call.out_channels < ONEDNN_OUT_CHANNELS:
        return False
    return bool(call.multiplications >= ONEDNN_WORTHWHILE * call.in_channels**2)


def by_taps(call: Call, *, gradients: bool) -> bool:
    """Whether a volume of groups is computed by pictures of all groups, one for each tap of the
    first axis, rather than by a volume for each group: where these are more, and no faster.
    """
    if call.rank != 3 or call.transposed or call.groups <= call.kernel_size[0]:
        return False
    if call.in_channels < GROUP_CHANNELS * call.groups:
        return True
    return call.kernel_size[0] == 1 if onednn() else gradients


@cache
def l3_bytes() -> int:
    """What Eigen takes the L3 cache to have: on AMD that of the package, here a large server's."""
    try:
        amd = "AuthenticAMD" in Path("/proc/cpuinfo").read_text()
    except OSError:
        amd = "AuthenticAMD" in platform.processor()
    return 3 * 2**27 if amd else 2**25


@cache
def avx512() -> bool:
    """Whether oneDNN finds AVX-512, as far as Linux and oneDNN's own setting tell."""
    if os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper() in NARROWER:
        return False
    try:
        return "avx512bw" in Path("/proc/cpuinfo").read_text()
    except OSError:
        return False


@cache
def onednn() -> bool:
    """Whether TensorFlow uses oneDNN on this processor, or may: nothing public tells."""
    try:
        from tensorflow.python.util import _pywrap_util_port

        return bool(_pywrap_util_port.IsMklEnabled())
    except (ImportError, AttributeError):
        return True
