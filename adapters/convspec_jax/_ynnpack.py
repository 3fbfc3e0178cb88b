"""YNNPACK, to which XLA gives pictures on the CPU, and where XLA's own kernel is faster.

Since jaxlib 0.10 XLA hands a 2-D convolution to YNNPACK if it can express it: channels last once
the axes are in the kernel's order, and no step between inputs (IsConvolutionOpSupportedByYnn in
xla/backends/cpu/ynn_support.cc). Without padding YNNPACK copies all windows into new memory first;
with padding it often runs on one core. XLA's own kernel (Eigen's) does neither. It is what XLA uses
if there is a step between inputs, and steps that are all doubled along an axis compute the same
(:func:`convspec.algorithms.spread`).

Measured (JAX 0.10.2, 2 cores with AVX-512, float32, interleaved, random pictures in both orders,
over the faster of XLA's call in that order and in the other): with padding 1.24 times as fast in
the mean of 715, less than 0.9 in 34; without 2.1 in that of 291, less in 4. XLA held to AVX2, with
padding 1.28 times. Where few channels are an inner loop too short for Eigen, or where there is
little to compute, 0.2 to 0.9 times.
"""

from __future__ import annotations

from functools import cache
from math import prod

import jax

from convspec.plan import Call

from ._kernel import sized

#: From so many input channels on: 0.7 times at 12, 1.1 at 16, 1.2 to 1.9 above. Of as few, and no
#: more output channels, XLA's own kernel has the call anyway: 0.67 to 0.83 times in each of 80.
IN_CHANNELS = 16
#: From so many output channels on, with padding: 0.9 times at 16, 1.16 at 32 of channels that lie
#: last. Others XLA copies there and back, for either kernel: 1.03 at 32, 1.21 at 48.
OUT_CHANNELS = 32
COPIED_OUT_CHANNELS = 48
#: From so many multiplications on: 0.8 times at 10 million, 1.0 at 24 million, 1.1 to 1.3 above.
WORTHWHILE = 2**25
#: Padded pictures of so many positions, and inputs of a window, YNNPACK computes on all cores: 0.95
#: times in the mean.
LARGE_POSITIONS = 2**13
LARGE_WINDOW = 2**9


def slow(call: Call) -> bool:
    """Whether YNNPACK would get a forward call without groups and be slower than XLA's kernel."""
    if call.rank != 2 or call.dtype != "float32" or call.groups > 1 or not sized(call):
        return False
    if call.in_channels < IN_CHANNELS or max(call.in_channels, call.out_channels) == IN_CHANNELS:
        return False
    if any(step != 1 for step in call.input_dilation):
        return False
    sizes = zip(call.input_size, call.output_size, call.kernel_size, strict=True)
    if any(max(out, kernel) > n for n, out, kernel in sizes):
        return False  # which YNNPACK leaves to XLA
    if call.multiplications < WORTHWHILE or any(min(pair) < 0 for pair in call.padding):
        return False
    if call.padded:
        window = call.in_channels * prod(call.kernel_size)
        large = window >= LARGE_WINDOW and prod(call.output_size) >= LARGE_POSITIONS
        last = call.x_layout.endswith("C")
        if call.out_channels < (OUT_CHANNELS if last else COPIED_OUT_CHANNELS) or large:
            return False
    return used()


@cache
def used() -> bool:
    """Whether XLA gives convolutions to YNNPACK, in this version and with its flags.

    Nothing public tells: a small one is compiled, in some 15 ms. A runtime that does not show what
    it has compiled is taken for one without.
    """
    x = jax.ShapeDtypeStruct((1, 4, 4, 32), "float32")
    w = jax.ShapeDtypeStruct((1, 1, 32, 32), "float32")

    def conv(x: jax.Array, w: jax.Array) -> jax.Array:
        orders = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(x, w, (1, 1), "VALID", dimension_numbers=orders)

    try:
        with jax.default_device(jax.local_devices(backend="cpu")[0]):
            program = jax.jit(conv).lower(x, w).compile().as_text()
    except (NotImplementedError, jax.errors.JaxRuntimeError):
        return False
    return "__ynn_fusion" in (program or "")
