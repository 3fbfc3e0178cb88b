"""Faults of oneDNN's, which frameworks have from it."""

from __future__ import annotations

from .dtypes import HALF
from .plan import Call
from .symbols import Size, known

#: Memory of a thread is rounded up to so many elements.
PAGE = 4096


def ends_meet(call: Call) -> bool:
    """Whether the gradient by the weight of a volume is wrong, or spoils memory that is others'.

    With AVX-512 it is where windows are taken in strides along the first axis, are padded there by
    more than a stride, and those that begin in these zeros are as many as those that end before
    the zeros behind the data, or more: among others of a 7x7x7 kernel with stride 2 and padding 3
    for up to five planes. Random calls of any other kind, 900 of them, were right (oneDNN of torch
    2.13 and TensorFlow 2.21). If the padding is the input's own, so is the gradient.

    A transposed call's is that of the forward one from its output to its input.
    """
    if call.rank != 3 or call.stride[0] == 1:
        return False
    step, reach, low = call.stride[0], call.extents[0] - 1, call.padding[0][0]
    size = (call.output_size if call.transposed else call.input_size)[0]
    if not known(low):
        return (reach // 2 if call.same else reach) > step
    if low <= step:
        return False
    return not known(size) or -(-(size + low - reach) // step) <= -(-low // step)


def overrun(call: Call) -> Size:
    """More than zero where the gradient by the input spoils what another thread reads.

    If the stride along the last axis does not divide the input's size, each thread copies the
    gradient of the output, between zeros, into memory of its own, and behind the last row it may
    write more of them than there is room for. That memory is rounded up, which hides it but for one
    call in two hundred. A transposed call is such a gradient, by an input of its output's size.

    So the source has it (jit_brgemm_conv_bwd_strided and jit_brgemm_conv_bwd_trans_kernel, of AVX2
    and AVX-512, oneDNN 3.7 to 3.13), and so it is with torch 2.13: of 7100 random calls of those
    named here 1300 went wrong within a dozen runs on two threads, of 85000 others none (ranks 1 to
    3, float32 and bfloat16). TensorFlow 2.21 has the same kernel, and was right in 4600.

    Args:
        call: of known padding; its sizes may be a framework's own numbers.
    """
    if {*call.dilation, *call.input_dilation} != {1}:
        return 0  # other kernels compute these
    wide, narrow, channels = call.input_size, call.output_size, call.out_channels
    if call.transposed:
        wide, narrow, channels = call.output_size, call.input_size, call.in_channels
    depth = channels // call.groups
    if call.dtype in HALF:
        depth += depth % 2
    room: Size = call.groups * depth
    last: Size = 0  # position of the output, with an overhang at both ends of each axis
    for n, m, k, s, (p, _) in zip(
        wide, narrow, call.kernel_size, call.stride, call.padding, strict=True
    ):
        before = max(k - 1 - p, 0) // s
        width = before + m + max(n + p - 1 - (m - 1) * s, 0) // s
        room *= width
        last = last * width + m - 1
    # The last axis as one block, from the first window on: a whole one where that begins before
    # the output.
    start = p - (k - 1) + (k - 1 - p) % s
    block = -(-n // s) * s if start < 0 else start + n
    end = before + -(-(block + p % s) // s) + (k - 1 - p % s) // s
    written = (last - (m - 1) + end) * depth
    return n % s * (written - -(-room // PAGE) * PAGE)
