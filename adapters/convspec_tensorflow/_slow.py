"""Where TensorFlow's own kernel is slow on the CPU, and which rule is faster there.

Every bound here is measured (TensorFlow 2.21 without oneDNN, AVX2, float32, 2 cores, ratios of
interleaved medians over ``tf.nn.conv3d`` and its transpose, eager, channels last). oneDNN, which
TensorFlow takes by itself on processors with AVX-512 and elsewhere if ``TF_ENABLE_ONEDNN_OPTS=1``
was set before it was imported, has none of these problems but that of groups. With it, gradients of
one channel are 1.1 to 2.9 times as fast with the taps stacked, of two or three 1.0 to 2.1 times, if
there is much to compute; of more channels 0.3 to 1.1 times.

- Eigen's 3-D kernel is slow on a few channels: as 2-D pictures with the taps of the depth stacked
  into the channels 1.3 to 5 times as fast, with gradients 1.5 to 3.7 times.
- The gradients of a volume gather all windows at once, and where these take more than 32 MB
  (kMaxTempAllocationOverhead in tensorflow/core/kernels/conv_grad_ops_3d.cc) they are left to a
  kernel without BLAS: pictures are 1.1 to 5 times as fast then, and with half as much already.
  With strides in the plane they are not.
- So are the gradients of a transposed convolution with strides, which are 2.5 to 3.7 times as fast
  as dense convolutions of each residue of the stride.
- Volumes of groups of 16 channels and more are 1.0 to 2.1 times as fast by a volume for each group
  as by a picture of all groups for each tap of the depth, with oneDNN with gradients too (1.2 to
  1.7), with less 0.3 to 1.2; without it, with gradients, 0.04 to 1.7.
- Volumes with dilation and strides have no kernel at all. With gradients, a picture for each tap of
  the depth is 3 to 8 times as fast as zeros between the taps; forward, 0.5 to 1.5 times.
"""

from __future__ import annotations

from functools import cache
from math import prod

from convspec.plan import Call

#: Up to as many input channels the forward kernel is slow.
FEW_CHANNELS = 4
#: From so many multiplications on: rules cost some tens of microseconds for each of their nodes.
WORTHWHILE = 2**25
#: Bytes of all windows, from which on the gradients of volumes are slow.
WINDOWS = 2**24
#: The same where transposed: of all windows of the output, one for each position of the input.
TRANSPOSED_WINDOWS = 2**21
#: With gradients, up to as many channels the taps are stacked; of more, the results are added up.
STACKED_CHANNELS = 16
#: With oneDNN and gradients, up to as many channels, from so many output channels on, and from so
#: many multiplications of a channel on, times the channels' square.
ONEDNN_CHANNELS = 3
ONEDNN_OUT_CHANNELS = 8
ONEDNN_WORTHWHILE = 2**26
#: Up to as many residues of the stride.
RESIDUES = 64
#: From so many input channels of a group on.
GROUP_CHANNELS = 16


def faster(call: Call, *, gradients: bool) -> str:
    """The rule that computes a call faster than TensorFlow's kernel, or ``""``; never elsewhere.

    Args:
        gradients: whether what counts is the time of the call and its gradients together.
    """
    if call.device != "cpu" or call.dtype != "float32" or call.symbolic or call.rank != 3:
        return ""
    if call.groups > 1 or any(step != 1 for step in call.input_dilation):
        return ""
    if onednn():
        return "stack" if gradients and _few_channels(call) else ""
    if call.transposed:
        windows = 4 * prod(call.kernel_size) * call.out_channels * prod(call.input_size)
        strided = 1 < prod(call.stride) <= RESIDUES
        return "phases" if gradients and strided and windows >= TRANSPOSED_WINDOWS else ""
    if {*call.dilation} != {1}:
        return "rank" if {*call.stride} != {1} and gradients else ""
    if {*call.stride[1:]} != {1}:
        return ""
    if gradients and 4 * _products(call) >= WINDOWS:
        return "stack" if call.in_channels <= STACKED_CHANNELS else "rank"
    work = call.batch * call.out_channels * _products(call)
    return "stack" if call.in_channels <= FEW_CHANNELS and work >= WORTHWHILE else ""


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


def _products(call: Call) -> int:
    """Elements of all windows of one sample."""
    return prod(call.kernel_size) * call.in_channels * prod(call.output_size)


@cache
def onednn() -> bool:
    """Whether TensorFlow uses oneDNN on this processor, or may: nothing public tells."""
    try:
        from tensorflow.python.util import _pywrap_util_port

        return bool(_pywrap_util_port.IsMklEnabled())
    except (ImportError, AttributeError):
        return True
