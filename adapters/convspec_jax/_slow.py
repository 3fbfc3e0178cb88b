"""Which rule is faster than XLA's own convolution, or is partitioned better.

For XLA in JAX and in TensorFlow see :mod:`convspec.xla`. Gradients of depthwise calls of several
outputs for each channel are 2.8 times as fast, in the mean of 33, over those of products of one
channel with several (0.9 to 7.7; JAX 0.10.2, 2 cores with AVX-512, float32, interleaved medians of
random calls), if each channel is repeated for its outputs first. In TensorFlow's XLA 0.7 to 2
times.
"""

from __future__ import annotations

from math import prod

import jax

from convspec import xla
from convspec.algorithms import doubled
from convspec.plan import Call

from . import _ynnpack
from ._kernel import misread
from ._point import by_product

#: Of several samples these gradients, from so many multiplications on: 0.6 to 0.9 times at less.
REPEATED = 2**22


def faster(call: Call, *, gradients: bool) -> str:
    """The rule that computes a call faster than XLA's kernel, or ``""``.

    None on accelerators. Where the process has several CPU devices the arrays may be partitioned,
    even if nothing tells so while tracing: then it is the rule for what is not gathered.

    Args:
        gradients: whether what counts is the time of the gradients.
    """
    if call.device != "cpu":
        return ""
    if jax.device_count(backend="cpu") > 1:
        return _ungathered(call)
    rule = xla.faster(call, gradients=gradients)
    if rule == "taps" and gradients and _repeats(call):
        return "repeat"
    if rule or call.transposed or by_product(call):
        return rule
    return "spread" if _ynnpack.slow(call) and not misread(doubled(call)) else ""


def _repeats(call: Call) -> bool:
    """Whether the gradients of a sum of products are faster of channels that are repeated."""
    several = call.groups == call.in_channels < call.out_channels
    return several and (call.symbolic or call.batch == 1 or call.multiplications >= REPEATED)


def _ungathered(call: Call) -> str:
    """The rule for what XLA's partitioner would gather whole, or ``""``; it knows the rest best.

    That is the input of a convolution with groups (openxla/xla#47945), and both in the gradient of
    a transposed one with strides. Of depthwise ones it knows the way, but where a mesh splits the
    channels, which are last, and the weight's O is first, it gets the weight's gradient wrong (JAX
    0.10.2).
    """
    if call.transposed:
        return xla.phases(call, gradients=True)
    if call.groups == 1 or any(step != 1 for step in call.input_dilation):
        return ""
    per_group = call.in_channels // call.groups
    few = per_group * prod(call.kernel_size) <= xla.PRODUCTS
    if call.groups == call.in_channels == call.out_channels:
        return "taps" if few or call.rank == 1 else "rank"
    if call.groups <= xla.GROUP_CALLS:
        return "groups"
    return "taps" if few else ""
