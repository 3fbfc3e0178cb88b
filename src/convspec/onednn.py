"""Faults of oneDNN's that more than one framework has."""

from __future__ import annotations

from .plan import Call
from .symbols import known


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
