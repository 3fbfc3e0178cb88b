"""Where XLA's own convolution is slow on the CPU, and which rule is faster there.

For JAX, and for TensorFlow where XLA compiles it. Every bound here is measured (JAX 0.10.2, 2 cores
with AVX-512, float32, ratios of interleaved medians over ``lax.conv_general_dilated``, forward and
with gradients); ``convspec bench`` measures them again. In short: XLA's own CPU kernel is fast for
1-D and 2-D without groups, and for nothing else.

- 3-D: a 2-D kernel on batch * depth samples is 2 to 30 times as fast, and up to 120 times with
  gradients. With few channels its inner loop is too short, so that the taps of the depth are
  stacked into the channels; with many, copying them costs more than adding up the results.
- Groups of few channels: one fused loop over elementwise products is 4 to 30 times as fast in 2-D
  and 300 times in 3-D; with gradients, depthwise, 3 to 27 times. With 16 channels in a group it is
  slower.
- Groups of more channels, and the gradients of all that are not depthwise: one call a group. In 2-D
  1.1 to 7 times as fast, 1.0 to 3.9 along a signal of four groups or more; with gradients 6 to 100
  times, since XLA's gradient of the weight takes hundreds of milliseconds.
- Depthwise, in float64: XLA makes it a dense kernel, with zeros for the other channels, and a NaN
  of one channel spreads to all. Products know no other channels, nor does one call a group.
- Transposed, without strides, in TensorFlow, whose own is the gradient of another call: as the
  forward one of the reversed kernel 2 to 10 times as fast in 3-D, and of groups 1.3 to 85 times.
- Transposed and strided: without the zeros between the input's elements 30 to 190 times in 3-D. In
  2-D one call for all residues is 0.9 to 1.7 times as fast, but with gradients 0.5 to 5 times; a
  call for each is 0.8 to 1.3 times as fast, and with gradients 3 to 90 times. So the forward call
  goes one way, and its derivative the other. Onto few channels the residues are narrower than what
  XLA's kernel computes at a time, and to put them together takes longer than the zeros: forward
  signals are 0.2 to 2 times as fast, 0.65 in the mean of 241, and pictures of many channels 0.3
  to 1.3, 0.6 in that of 23. Not where the residues read the same inputs, as the kernel is no larger
  than the stride (1.0 to 3.7 times), and not with dilation (1.4 to 5).
"""

from __future__ import annotations

from dataclasses import replace
from math import prod

from .plan import Call
from .symbols import known

#: Up to as many input channels the depth taps are stacked. At 3: 6 times raw stacked and 2.5 times
#: added up; at 32: 3.8 and 4.8; at 512: 0.6 and 1.1.
STACKED_CHANNELS = 16
#: With more, from so many output positions on; below, the weight is most of the work, and its taps
#: are copies: 0.7 times raw at 98 positions of 512 channels, channels first.
POSITIONS = 128
#: Up to as many channels in a group, in and out, elementwise products; and as many of these in
#: all, since each is compiled. Of more output channels gradients are slow: 0.3 times raw at 16.
PRODUCT_CHANNELS = 4
PRODUCTS = 256
#: From so many multiplications on; below, a kernel takes no longer than the call around it.
WORTHWHILE = 2**16
#: Up to as many groups get a kernel call each; and in a gradient, or of much to multiply. Each
#: takes XLA 10 to 20 ms to compile.
GROUP_CALLS = 8
MANY_GROUP_CALLS = 64
#: From so many multiplications on, forward, as the calls of few groups and of many: 0.5 to 1.8
#: times at less, and 1.5 to 3 times of 4 ms for half a second of compilation.
GROUPED = 2**21
MANY_GROUPED = 2**25
#: Along a signal forward from so many groups on: 0.5 to 1.1 times with two.
SIGNAL_GROUPS = 4
#: Up to as many residues of the stride: each is some nodes of the graph.
RESIDUES = 64
#: Up to so many times as many positions one call for all residues is faster, or as fast.
LONGER = 1.3
#: Up to as many output channels of all residues are few, of a signal; and of a picture, of so many
#: input channels. One more residue of a signal: 0.9 to 1.25 times as fast by residues.
NARROW = 24
NARROW_PICTURES = 16
NARROW_IN_CHANNELS = 64


def faster(call: Call, *, gradients: bool) -> str:
    """The rule that computes a call on the CPU faster than XLA's kernel, or ``""``.

    Args:
        gradients: whether what counts is the time of the gradients.
    """
    dense = call.dtype == "float64" and 1 < call.groups == call.in_channels
    if not (dense or call.dtype == "float32"):
        return ""
    if call.transposed:
        if {*call.stride} == {1} and faster(replace(call, transposed=False), gradients=gradients):
            return "transposed"
        return phases(call, gradients=gradients) or ("groups" if dense else "")
    if any(step != 1 for step in call.input_dilation):
        return "groups" if dense else ""
    if call.groups > 1:
        return _grouped(call, gradients=gradients)
    product = call.pointwise and not call.padded
    if call.rank != 3 or product or not _worthwhile(call, WORTHWHILE) or not _merges(call):
        return ""
    if call.in_channels <= STACKED_CHANNELS:
        return "stack"
    few = not call.symbolic and call.batch * prod(call.output_size) < POSITIONS
    return "" if few else "rank"


def phases(call: Call, *, gradients: bool) -> str:
    """The rule for a transposed call with strides, or ``""``."""
    if call.least.symbolic or not 1 < prod(call.stride) <= RESIDUES:
        return ""
    if not gradients and _narrow(call):
        return ""
    # Residues that do not read the same inputs: one call computes a position more for their axis.
    axes = zip(call.stride, call.output_size, strict=True)
    longer = prod(1 + s / max(n, 1) for s, n in axes if s > 1)
    # With groups, more output channels in each would be too many for elementwise products.
    few = longer > LONGER or {*call.dilation} != {1} or call.groups > 1
    return "phases" if gradients or few else "subpixel"


def _narrow(call: Call) -> bool:
    """Whether forward to put the residues together takes longer than zeros between the inputs."""
    shared = all(k <= s for k, s in zip(call.kernel_size, call.stride, strict=True))
    if shared or call.groups > 1 or {*call.dilation} != {1}:
        return False
    channels = call.out_channels * prod(call.stride)
    if call.rank == 1:
        return channels <= NARROW
    many = call.in_channels >= NARROW_IN_CHANNELS
    return call.rank == 2 and many and channels <= NARROW_PICTURES


def _grouped(call: Call, *, gradients: bool) -> str:
    per_group = call.in_channels // call.groups
    products = per_group * prod(call.kernel_size)
    small = max(per_group, call.out_channels // call.groups) <= PRODUCT_CHANNELS
    # Few groups of several channels are the kernel's, or get a call each; and so do many in a
    # gradient, where products for each output channel of a group are 3 to 40 times as slow.
    few = call.groups <= (MANY_GROUP_CALLS if gradients else GROUP_CALLS)
    if small and products <= PRODUCTS and (per_group == 1 or not few):
        return "taps" if call.dtype != "float32" or _worthwhile(call, WORTHWHILE) else ""
    if call.dtype != "float32":
        return "groups"
    if call.rank == 3:
        return "groups" if few else "rank" if _merges(call) else ""
    if call.groups > MANY_GROUP_CALLS:
        return ""
    if not gradients and call.rank == 1 and call.groups < SIGNAL_GROUPS:
        return ""
    least = WORTHWHILE if gradients else GROUPED if few else MANY_GROUPED
    return "groups" if _worthwhile(call, least) else ""


def _worthwhile(call: Call, least: int) -> bool:
    """Whether there is as much to multiply, or may be."""
    return call.symbolic or call.multiplications >= least


def _merges(call: Call) -> bool:
    """Whether JAX can tell that batch * depth of the output is not below 0.

    Of unknown sizes it asks that before it reshapes, and of a product such as n * (d - 2) it cannot
    tell, whatever it is told of n and of d.
    """
    depth = call.output_size[0]
    if known(call.batch) or known(depth):
        return True
    term, number = depth.terms
    divided = term.expression[0] == "//"  # which JAX does not multiply out
    return bool(number >= 0 and (divided or term.sign == 1))
