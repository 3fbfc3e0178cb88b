"""Which rule is faster than XLA's own convolution, or is partitioned better."""

from __future__ import annotations

from math import prod

import jax

from convspec import xla
from convspec.algorithms import doubled
from convspec.plan import Call

from . import _ynnpack
from ._kernel import misread
from ._point import by_product


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
    if rule or call.transposed or by_product(call):
        return rule
    return "spread" if _ynnpack.slow(call) and not misread(doubled(call)) else ""


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
