"""What a kernel lacks, rewritten away: one exact rule for each such thing.

A rule takes a call that the framework's kernel does not have, and gives a node that computes the
same by calls which lack one thing less.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from . import plan
from .layouts import permutation
from .plan import Call, Node
from .symbols import largest
from .weights import WeightOrder, rearrange

if TYPE_CHECKING:
    from .lowering import Lowering, Orders


def bias(work: Lowering, call: Call, x: Node, w: Node, b: Node | None) -> Node:
    """Add the bias afterwards."""
    y = work.conv(replace(call, bias=False), x, w, None)
    assert b is not None
    shape = [1] * len(y.shape)
    shape[call.y_layout.index("C")] = call.out_channels
    return plan.add(y, plan.reshape(b, shape))


def padding(work: Lowering, call: Call, x: Node, w: Node, b: Node | None) -> Node:
    """Pad and crop the input beforehand; transposed, crop the full output afterwards."""
    zero = ((0, 0),) * call.rank
    if any(step != 1 for step in call.input_dilation):  # padding is counted after it
        return input_dilation(work, call, x, w, b)
    if not call.transposed:
        axes = [call.x_layout.index(letter) for letter in call.spatial]
        sizes = [n + lo + hi for n, (lo, hi) in zip(call.input_size, call.padding, strict=True)]
        x = plan.window(
            x, dict(zip(axes, call.padding, strict=True)), dict(zip(axes, sizes, strict=True))
        )
        return work.conv(replace(call, padding=zero, input_size=tuple(sizes), same=False), x, w, b)
    if call.bias:  # positions that no tap reaches hold the bias too
        return bias(work, call, x, w, b)
    full = tuple(
        (n - 1) * s + e for n, s, e in zip(call.input_size, call.stride, call.extents, strict=True)
    )
    y = work.conv(
        replace(
            call,
            padding=zero,
            output_padding=(0,) * call.rank,
            output_size=full,
            same=False,
        ),
        x,
        w,
        None,
    )
    ends, sizes_by_axis = {}, {}
    for letter, (lo, hi), extra, size in zip(
        call.spatial, call.padding, call.output_padding, call.output_size, strict=True
    ):
        axis = call.y_layout.index(letter)
        ends[axis] = (-lo, extra - hi)
        sizes_by_axis[axis] = size
    return plan.window(y, ends, sizes_by_axis)


def batch(work: Lowering, call: Call, x: Node, w: Node, b: Node | None) -> Node:
    """At least one sample: zeros where the batch is empty, and none of their result kept."""
    count = largest(call.batch, 1)
    # As one of three axes: a Pad right before a convolution is, to TensorFlow's graph optimizer,
    # padding of space, whatever axis it pads.
    x = plan.pad_axis(x, call.x_layout.index("N"), (0, count - call.batch))
    y = work.conv(replace(call, batch=count, nonempty=True), x, w, b)
    index = [slice(None)] * len(y.shape)
    index[call.y_layout.index("N")] = slice(0, call.batch)
    return Node("slice", (y,), {"index": tuple(index)}, call.output_shape, y.dtype)


def groups(work: Lowering, call: Call, x: Node, w: Node, b: Node | None) -> Node:
    """One convolution for each group, end to end along the channels."""
    work.notes.append(f"groups: one kernel call for each of the {call.groups} groups")
    g = call.groups
    cin, cout = call.in_channels // g, call.out_channels // g
    part = replace(call, groups=1, in_channels=cin, out_channels=cout)
    cut = partial(plan.equal_parts, count=g, at_once=work.framework.splits)
    xs = cut(x, call.x_layout.index("C"))
    ws = cut(w, call.w_layout.index(call.group_axis))
    bs = [None] * g if b is None else cut(b, 0)
    parts = [work.conv(part, *arrays) for arrays in zip(xs, ws, bs, strict=True)]
    return plan.concat(parts, call.y_layout.index("C"))


def dilation(work: Lowering, call: Call, x: Node, w: Node, b: Node | None) -> Node:
    """A dilated kernel is the same kernel with zeros in between."""
    axes = map(call.w_layout.index, call.spatial)
    w = plan.stuff(w, dict(zip(axes, call.dilation, strict=True)))
    return work.conv(replace(call, kernel_size=call.extents, dilation=(1,) * call.rank), x, w, b)


def stride(work: Lowering, call: Call, x: Node, w: Node, b: Node | None) -> Node:
    """A strided convolution is every s-th position of the dense one.

    Along an axis on which the kernel has one tap, it is the dense one of every s-th position.
    """
    if call.padded or any(step != 1 for step in call.input_dilation):
        return padding(work, call, x, w, b)
    axes = list(zip(call.spatial, call.output_size, call.stride, call.extents, strict=True))
    dense = tuple(n if e == 1 else (n - 1) * s + 1 for _, n, s, e in axes)
    # What lies behind the last window is left out, so that the dense output ends with it.
    for letter, n, s, e in axes:
        count, step = (n, s) if e == 1 else ((n - 1) * s + e, 1)
        x = plan.slice_axis(x, call.x_layout.index(letter), 0, count, step)
    inner = replace(
        call,
        stride=(1,) * call.rank,
        output_size=dense,
        input_size=tuple(x.shape[call.x_layout.index(letter)] for letter in call.spatial),
    )
    y = work.conv(inner, x, w, b)
    for letter, n, s, e in axes:
        if e != 1:
            y = plan.slice_axis(y, call.y_layout.index(letter), 0, n, s)
    return y


def transposed(work: Lowering, call: Call, x: Node, w: Node, b: Node | None) -> Node:
    """The forward convolution of the zero-stuffed input with the reversed kernel."""
    work.notes.append("transposed: the forward call of the reversed kernel")
    orders, x, w = forward_arrays(work, call, x, w)
    padding = []
    for (lo, hi), extra, e in zip(call.padding, call.output_padding, call.extents, strict=True):
        padding.append((e - 1 - lo, e - 1 - hi + extra))
    forward = replace(
        call,
        transposed=False,
        stride=(1,) * call.rank,
        input_dilation=call.stride,
        padding=tuple(padding),
        output_padding=(0,) * call.rank,
        same=False,
        x_layout=orders.x,
        w_layout=orders.weight,
        y_layout=orders.y,
        group_axis=orders.group_axis,
    )
    y = work.conv(forward.ordered(call.spatial), x, w, b)
    return plan.permute(y, permutation(orders.y, call.y_layout))


def forward_arrays(work: Lowering, call: Call, x: Node, w: Node) -> tuple[Orders, Node, Node]:
    """The arrays of a transposed call as a forward kernel likes them, the weight reversed."""
    orders = work.framework.orders(work.problem, work.device, transposed=False)
    x = plan.permute(x, permutation(call.x_layout, orders.x))
    source = WeightOrder(call.w_layout, call.group_axis, flip=True)
    target = WeightOrder(orders.weight, orders.group_axis, flip=False)
    return orders, x, rearranged(w, source, target, call.groups)


def input_dilation(work: Lowering, call: Call, x: Node, w: Node, b: Node | None) -> Node:
    """Put the zeros between the input's elements."""
    axes = map(call.x_layout.index, call.spatial)
    x = plan.stuff(x, dict(zip(axes, call.input_dilation, strict=True)))
    sizes = tuple(
        (n - 1) * s + 1 for n, s in zip(call.input_size, call.input_dilation, strict=True)
    )
    return work.conv(replace(call, input_dilation=(1,) * call.rank, input_size=sizes), x, w, b)


def rank(work: Lowering, call: Call, x: Node, w: Node, b: Node | None) -> Node:
    """The sum, over the taps of the first spatial axis, of convolutions of one rank less."""
    if call.transposed:
        return transposed(work, call, x, w, b)
    if call.bias:
        return bias(work, call, x, w, b)
    if any(step != 1 for step in call.input_dilation):
        return input_dilation(work, call, x, w, b)
    letter, taps = call.spatial[0], call.kernel_size[0]
    work.notes.append(f"rank: one kernel call for each of the {taps} taps of axis {letter}")
    inner, parts, unfolded = along_first(call, x)
    at = call.w_layout.index(letter)
    total: Node | None = None
    for tap, xs in enumerate(parts):
        ws = plan.slice_axis(w, at, tap, 1)
        ws = plan.reshape(ws, (*w.shape[:at], *w.shape[at + 1 :]))
        y = work.conv(inner, xs, ws, None)
        total = y if total is None else plan.add(total, y)
    assert total is not None
    return unfolded(total)


def along_first(call: Call, x: Node) -> tuple[Call, list[Node], Callable[[Node], Node]]:
    """A forward call by the taps of its first spatial axis.

    Returns:
        The call of one rank less on a batch of batch * count samples, count the output positions
        of that axis; what each tap reads, as such a batch; and what turns the result of such a
        call, on whatever channels, into the result of this one.
    """
    letter, count = call.spatial[0], call.output_size[0]
    rest_x, rest_w, rest_y = (
        text.replace(letter, "") for text in (call.x_layout, call.w_layout, call.y_layout)
    )
    inner_x, inner_y = ("N" + text.replace("N", "") for text in (rest_x, rest_y))
    inner = replace(
        call,
        x_layout=inner_x,
        w_layout=rest_w,
        y_layout=inner_y,
        batch=call.batch * count,
        **{name: getattr(call, name)[1:] for name in plan.PER_AXIS},
    )
    lo, hi = call.padding[0]
    axis = call.x_layout.index(letter)
    x = plan.window(x, {axis: (lo, hi)}, {axis: call.input_size[0] + lo + hi})
    # N first, the axis of the taps behind it.
    x = plan.permute(x, permutation(call.x_layout, f"N{letter}{inner_x[1:]}"))
    parts = []
    for tap in range(call.kernel_size[0]):
        xs = plan.slice_axis(x, 1, tap * call.dilation[0], count, call.stride[0])
        parts.append(plan.reshape(xs, (inner.batch, *xs.shape[2:])))

    def unfolded(y: Node) -> Node:
        y = plan.reshape(y, (call.batch, count, *y.shape[1:]))
        return plan.permute(y, permutation(f"N{letter}{inner_y[1:]}", call.y_layout))

    return inner, parts, unfolded


Rule = Callable[["Lowering", Call, Node, Node, "Node | None"], Node]

RULES: dict[str, Rule] = {
    "batch": batch,
    "bias": bias,
    "dilation": dilation,
    "groups": groups,
    "input_dilation": input_dilation,
    "padding": padding,
    "rank": rank,
    "stride": stride,
    "transposed": transposed,
}


def rearranged(w: Node, source: WeightOrder, target: WeightOrder, groups: int) -> Node:
    """A weight in another order."""
    node: Node = rearrange(
        w,
        w.shape,
        source,
        target,
        groups,
        permute=plan.permute,
        reshape=plan.reshape,
        flip=plan.flip,
    )
    return node
