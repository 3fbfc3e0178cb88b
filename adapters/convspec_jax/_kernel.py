"""The call of JAX's own convolution, and those that XLA cannot compile."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import jax

from convspec.geometry import Pair, extent
from convspec.plan import Call
from convspec.symbols import Size, known


def conv(x: Any, w: Any, *, call: Call) -> Any:
    """x, w and y in whatever orders the call names; w with the groups on O."""
    space = call.spatial
    numbers = jax.lax.ConvDimensionNumbers(
        lhs_spec=tuple(call.x_layout.index(c) for c in "NC" + space),
        rhs_spec=tuple(call.w_layout.index(c) for c in "OI" + space),
        out_spec=tuple(call.y_layout.index(c) for c in "NC" + space),
    )
    return jax.lax.conv_general_dilated(
        x,
        w,
        window_strides=call.stride,
        padding=call.padding,
        lhs_dilation=call.input_dilation,
        rhs_dilation=call.dilation,
        dimension_numbers=numbers,
        feature_group_count=call.groups,
    )


def sized(call: Call) -> bool:
    """Whether all sizes are plain numbers, neither a plan's symbols nor an exported program's."""
    return all(isinstance(n, int) for n in (call.batch, *call.input_size, *call.output_size))


def misread(call: Call) -> bool:
    """Whether XLA may end the process while it compiles a forward call, or a gradient of any order.

    Where a kernel is larger than its input, XLA lets the two change places. An axis that it takes
    for one of groups it leaves as it was: one whose input is spread by the kernel's size, with
    strides one less. So may any axis be (kernel 2, stride 2, transposed), and then has a window of
    another size than the array in the kernel's place: conformance/upstream/jax_swapped_operands.py.
    """
    spread = any(step != 1 for step in call.input_dilation)
    if call.rank == 1 or not (spread or call.padded):  # the equations below have no solution then
        return False
    axes = zip(
        zip(call.input_size, call.input_dilation, strict=True),
        zip(call.kernel_size, call.dilation, strict=True),
        zip(call.output_size, call.stride, strict=True),
        call.padding,
        strict=True,
    )
    return any(_like_groups(arrays, padding) for *arrays, padding in axes)


def _like_groups(arrays: list[tuple[Size, int]], padding: Pair) -> bool:
    """One axis, by the sizes and steps of x, w and y: y at o sums w at t times x at i where
    i*step + lo = o*step + t*step, each with its own step.

    Each of the three arrays comes of the two others in a gradient of some order: c is a convolution
    of a, which its step spreads, with b, strided by the step of c.
    """
    reach = [extent(*array) for array in arrays]
    for a, b, c in permutations(range(3)):
        (size, spread), (kernel, dilation), (_, stride) = (arrays[i] for i in (a, b, c))
        lo = padding[0] if a == 0 else reach[3 - a] - 1 - padding[0]
        hi = padding[1] if (a, b) == (0, 1) else reach[c] - reach[a] + reach[b] - 1 - lo
        equations = ((lo, 0), (hi, 0), (dilation, 1), (spread, kernel), (stride, kernel - 1))
        # A size that is not known in the kernel's place would have to turn out as small as a step:
        # that cannot be ruled out, but to refuse all unknown sizes for it would be worse.
        may_hold = all(p == q or not known(p, q) for p, q in equations)
        if known(kernel) and may_hold and size != kernel:
            return True
    return False
