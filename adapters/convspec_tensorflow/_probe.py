"""Which kernels work here: each kind is tried once, on a few small integers.

tf.nn refuses some calls outright, and gives wrong shapes or numbers for others; which ones differs
between oneDNN and Eigen, processors and releases. So a kind of call is only used after it has
given the right answer, compared with the reference.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import tensorflow as tf

from convspec import ConvSpec, reference
from convspec.plan import Call

from ._arrays import cast
from ._kernel import conv


@dataclass(frozen=True)
class Kind:
    """What calls of tf.nn have in common that work or fail together."""

    rank: int
    transposed: bool
    dtype: str
    device: str
    grouped: bool
    depthwise: bool
    strided: bool
    dilated: bool
    same: bool
    padded: bool


def works(call: Call, **changes: Any) -> bool:
    """Whether calls of this kind, with some fields changed, give right answers here."""
    if changes:
        call = replace(call, **changes)
    plain = (1,) * call.rank
    grouped = call.groups > 1
    return _probe(
        Kind(
            rank=call.rank,
            transposed=call.transposed,
            dtype=call.dtype,
            device=call.device,
            grouped=grouped,
            depthwise=grouped and not call.transposed and call.group_axis == "I",
            strided=call.stride != plain,
            dilated=call.dilation != plain,
            same=call.same and call.padded,
            padded=call.padded and not call.same,
        )
    )


@cache
def _probe(kind: Kind) -> bool:
    spec = ConvSpec(
        4,
        8 if kind.depthwise or not kind.grouped else 6,
        (2,) * kind.rank,
        stride=2 if kind.strided else 1,
        padding="same" if kind.same else ((1, 2),) * kind.rank if kind.padded else 0,
        dilation=3 if kind.dilated else 1,
        groups=4 if kind.depthwise else 2 if kind.grouped else 1,
        transposed=kind.transposed,
        group_axis="I" if kind.transposed or kind.depthwise else "O",
        layout="channels_last",
        weight_layout="DHW"[-kind.rank :] + ("OI" if kind.transposed else "IO"),
    )
    shape = (2, *(8,) * kind.rank, 4)
    x = np.arange(np.prod(shape)).reshape(shape) % 7 - 3
    w = np.arange(np.prod(spec.weight_shape)).reshape(spec.weight_shape) % 5 - 2
    expected = reference(spec, x, w)
    with tf.init_scope():
        try:
            call = _call_of(spec, shape, expected.shape, kind)
            y = conv(cast(tf.constant(x), dtype=kind.dtype), cast(tf.constant(w), dtype=kind.dtype), call=call)
        except (tf.errors.OpError, ValueError, TypeError, NotImplementedError):
            return False
        if tuple(y.shape) != expected.shape:
            return False
        return bool((cast(y, dtype="int64").numpy() == expected).all())


def _call_of(spec: ConvSpec, shape: Any, output_shape: Any, kind: Kind) -> Call:
    """The call that :func:`conv` is to make for ``spec``, whose orders are tf.nn's own."""
    from convspec.problem import resolve

    problem = resolve(spec, shape, None)
    return Call(
        transposed=spec.transposed,
        x_layout=spec.layout,
        w_layout=spec.weight_layout,
        y_layout=spec.output_layout,
        group_axis=spec.group_axis,
        batch=shape[0],
        in_channels=spec.in_channels,
        out_channels=spec.out_channels,
        groups=spec.groups,
        input_size=problem.input_size,
        kernel_size=spec.kernel_size,
        output_size=problem.output_size,
        stride=spec.stride,
        padding=problem.padding,
        dilation=spec.dilation,
        output_padding=problem.output_padding,
        input_dilation=(1,) * spec.rank,
        same=kind.same,
        dtype=kind.dtype,
        device=kind.device,
        bias=False,
    )
