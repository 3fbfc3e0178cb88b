"""From a problem to a plan: what the framework's kernel lacks is rewritten away.

An adapter says in which orders its kernel likes the arrays, and, of any one call, the first thing
that the kernel lacks (``"bias"``, ``"groups"``, ...). There is one exact rewriting for each such
thing, and they are applied until nothing is lacking. All shape arithmetic is done here, once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

from . import dtypes, plan
from .backend import Environment
from .errors import DTypeError
from .geometry import extent, same_padding
from .layouts import permutation
from .plan import Call, Node
from .problem import Problem
from .weights import WeightOrder, rearrange


@dataclass(frozen=True)
class Orders:
    """The orders in which a kernel takes its arrays: data with N, weights with O."""

    x: str
    weight: str
    y: str
    group_axis: str


class Framework(Protocol):
    """What the lowering asks an adapter."""

    name: str

    def compute_dtype(self, dtype: str, out_dtype: str, device: str) -> str:
        """The element type that the kernel is to run in.

        Raises:
            UnsupportedError: the framework has no such type.
        """

    def orders(self, problem: Problem, device: str, *, transposed: bool) -> Orders:
        """The orders for a problem's kernel; ``transposed`` may differ from the problem's."""

    def lacks(self, call: Call) -> str:
        """The first thing the kernel lacks for this call, a key of :data:`RULES`, or ``""``.

        Raises:
            UnsupportedError: no rewriting would help.
        """

    def pads(self, mode: str, rank: int, dtype: str) -> bool:
        """Whether the framework's own padding has a mode other than zeros."""


@dataclass(frozen=True)
class Lowered:
    """A plan, its inputs in the kernel's argument order, and why it is not one kernel call."""

    plan: Node
    inputs: tuple[Node, ...]
    notes: tuple[str, ...]

    @property
    def calls(self) -> list[Call]:
        """The kernel calls, in order."""
        lines = plan.linear(self.plan, self.inputs)
        return [line.node.params["call"] for line in lines if line.node.op == "conv"]


def lower(problem: Problem, env: Environment, framework: Framework) -> Lowered:
    """The plan of a problem on a framework.

    Raises:
        DTypeError: ``out_dtype`` would lose a part of the result.
        UnsupportedError: the framework cannot compute it; the message says why.
    """
    if env.dtype not in dtypes.ALL:
        raise DTypeError(f"x: {env.dtype} is none of {', '.join(dtypes.ALL)}.")
    dtypes.check_out(env.dtype, env.out_dtype)
    inputs = [
        plan.source("x", problem.input_shape, env.dtype),
        plan.source("weight", problem.weight_shape, env.dtype),
    ]
    if env.bias:
        inputs.append(plan.source("bias", (problem.out_channels,), env.dtype))
    dtype = framework.compute_dtype(env.dtype, env.out_dtype, env.device)
    x, weight, *bias = (plan.cast(node, dtype) for node in inputs)
    work = _Lowering(problem, framework, env.device)
    y = plan.cast(work.run(x, weight, bias[0] if bias else None), env.out_dtype)
    return Lowered(work.to_output(y), tuple(inputs), tuple(dict.fromkeys(work.notes)))


class _Lowering:
    """The rewriting of one problem; ``notes`` collects what the kernel lacked."""

    def __init__(self, problem: Problem, framework: Framework, device: str) -> None:
        self.problem = problem
        self.framework = framework
        self.device = device
        self.orders = framework.orders(problem, device, transposed=problem.transposed)
        self.notes: list[str] = []

    def run(self, x: Node, weight: Node, bias: Node | None) -> Node:
        problem, orders = self.problem, self.orders
        if "N" not in problem.layout:
            x = plan.reshape(x, (1, *x.shape))
        layout = problem.layout if "N" in problem.layout else "N" + problem.layout
        x = plan.permute(x, permutation(layout, orders.x))
        padding = problem.padding
        if problem.padding_mode != "zeros":
            x = self._pad_mode(x)
            padding = ((0, 0),) * problem.rank
        target = WeightOrder(orders.weight, orders.group_axis, flip=False)
        weight = _rearrange(weight, WeightOrder.of(problem), target, problem.groups)
        sizes = dict(zip(orders.x, x.shape, strict=True))
        call = Call(
            transposed=problem.transposed,
            x_layout=orders.x,
            w_layout=orders.weight,
            y_layout=orders.y,
            group_axis=orders.group_axis,
            batch=problem.batch,
            in_channels=problem.in_channels,
            out_channels=problem.out_channels,
            groups=problem.groups,
            input_size=problem.input_size,
            kernel_size=problem.kernel_size,
            output_size=problem.output_size,
            stride=problem.stride,
            padding=padding,
            dilation=problem.dilation,
            output_padding=problem.output_padding,
            input_dilation=(1,) * problem.rank,
            same=False,
            dtype=x.dtype,
            device=self.device,
            bias=bias is not None,
        )
        # Per-axis values follow the letters of call.x_layout from here on.
        call = _ordered(call, problem.spatial)
        call = replace(call, input_size=tuple(sizes[c] for c in call.spatial))
        return self.conv(replace(call, same=_is_same(call)), x, weight, bias)

    def to_output(self, y: Node) -> Node:
        """From the kernel's order to the problem's, the batch axis dropped if it was added."""
        layout = self.orders.y
        if "N" not in self.problem.output_layout:
            at = layout.index("N")
            y = plan.reshape(y, (*y.shape[:at], *y.shape[at + 1 :]))
            layout = layout.replace("N", "")
        return plan.permute(y, permutation(layout, self.problem.output_layout))

    def conv(self, call: Call, x: Node, w: Node, b: Node | None) -> Node:
        """The convolution ``call``, by as many kernel calls as it takes."""
        lack = self.framework.lacks(call)
        if not lack:
            return plan.conv(call, x, w, b)
        return RULES[lack](self, call, x, w, b)

    # ---- padding modes ----

    def _pad_mode(self, x: Node) -> Node:
        """Reflect, replicate or circular padding of the input, then cropping."""
        problem, layout, mode = self.problem, self.orders.x, self.problem.padding_mode
        pairs = {
            layout.index(letter): pair
            for letter, pair in zip(problem.spatial, problem.padding, strict=True)
        }
        grow = {i: (max(lo, 0), max(hi, 0)) for i, (lo, hi) in pairs.items()}
        if self.framework.pads(mode, problem.rank, x.dtype):
            x = plan.pad(x, plan.on_axes(x.shape, grow), mode)
        else:
            for axis, (lo, hi) in grow.items():
                x = _pad_axis(x, axis, lo, hi, mode)
        for axis, (lo, hi) in pairs.items():
            x = plan.slice_axis(x, axis, max(-lo, 0), x.shape[axis] - max(-lo, 0) - max(-hi, 0))
        return x

    # ---- one rule for each thing a kernel may lack ----

    def bias(self, call: Call, x: Node, w: Node, b: Node | None) -> Node:
        """Add the bias afterwards."""
        y = self.conv(replace(call, bias=False), x, w, None)
        assert b is not None
        shape = [1] * len(y.shape)
        shape[call.y_layout.index("C")] = call.out_channels
        return plan.add(y, plan.reshape(b, shape))

    def padding(self, call: Call, x: Node, w: Node, b: Node | None) -> Node:
        """Pad and crop the input beforehand; transposed, crop the full output afterwards."""
        zero = ((0, 0),) * call.rank
        if any(step != 1 for step in call.input_dilation):  # padding is counted after it
            return self.input_dilation(call, x, w, b)
        if not call.transposed:
            axes = [call.x_layout.index(letter) for letter in call.spatial]
            sizes = [n + lo + hi for n, (lo, hi) in zip(call.input_size, call.padding, strict=True)]
            x = plan.window(
                x, dict(zip(axes, call.padding, strict=True)), dict(zip(axes, sizes, strict=True))
            )
            return self.conv(
                replace(call, padding=zero, input_size=tuple(sizes), same=False), x, w, b
            )
        if call.bias:  # positions that no tap reaches hold the bias too
            return self.bias(call, x, w, b)
        full = tuple(
            (n - 1) * s + extent(k, d)
            for n, s, k, d in zip(
                call.input_size, call.stride, call.kernel_size, call.dilation, strict=True
            )
        )
        y = self.conv(
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

    def batch(self, call: Call, x: Node, w: Node, b: Node | None) -> Node:
        """An empty batch: convolve one sample of zeros and keep none of it."""
        at = call.x_layout.index("N")
        x = plan.pad(x, plan.on_axes(x.shape, {at: (0, 1)}))
        y = self.conv(replace(call, batch=1), x, w, b)
        index = [slice(None)] * len(y.shape)
        index[call.y_layout.index("N")] = slice(0, 0)
        return Node("slice", (y,), {"index": tuple(index)}, call.output_shape, y.dtype)

    def groups(self, call: Call, x: Node, w: Node, b: Node | None) -> Node:
        """One convolution for each group, end to end along the channels."""
        self.notes.append(f"groups: one kernel call for each of the {call.groups} groups")
        g = call.groups
        cin, cout = call.in_channels // g, call.out_channels // g
        part = replace(call, groups=1, in_channels=cin, out_channels=cout)
        wide = call.w_layout.index(call.group_axis)
        per_group = w.shape[wide] // g
        parts = []
        for i in range(g):
            xi = plan.slice_axis(x, call.x_layout.index("C"), i * cin, cin)
            wi = plan.slice_axis(w, wide, i * per_group, per_group)
            bi = None if b is None else plan.slice_axis(b, 0, i * cout, cout)
            parts.append(self.conv(part, xi, wi, bi))
        return plan.concat(parts, call.y_layout.index("C"))

    def dilation(self, call: Call, x: Node, w: Node, b: Node | None) -> Node:
        """A dilated kernel is the same kernel with zeros in between."""
        for letter, d in zip(call.spatial, call.dilation, strict=True):
            w = plan.stuff(w, call.w_layout.index(letter), d)
        spread = tuple(extent(k, d) for k, d in zip(call.kernel_size, call.dilation, strict=True))
        return self.conv(replace(call, kernel_size=spread, dilation=(1,) * call.rank), x, w, b)

    def stride(self, call: Call, x: Node, w: Node, b: Node | None) -> Node:
        """A strided convolution is every s-th position of the dense one."""
        if call.padded or any(step != 1 for step in call.input_dilation):
            return self.padding(call, x, w, b)
        dense = tuple((n - 1) * s + 1 for n, s in zip(call.output_size, call.stride, strict=True))
        # What lies behind the last window is left out, so that the dense output ends with it.
        for letter, n, k, d in zip(
            call.spatial, dense, call.kernel_size, call.dilation, strict=True
        ):
            x = plan.slice_axis(x, call.x_layout.index(letter), 0, n - 1 + extent(k, d))
        inner = replace(
            call,
            stride=(1,) * call.rank,
            output_size=dense,
            input_size=tuple(x.shape[call.x_layout.index(letter)] for letter in call.spatial),
        )
        y = self.conv(inner, x, w, b)
        for letter, n, s in zip(call.spatial, call.output_size, call.stride, strict=True):
            y = plan.slice_axis(y, call.y_layout.index(letter), 0, n, s)
        return y

    def transposed(self, call: Call, x: Node, w: Node, b: Node | None) -> Node:
        """The forward convolution of the zero-stuffed input with the reversed kernel."""
        orders = self.framework.orders(self.problem, self.device, transposed=False)
        x = plan.permute(x, permutation(call.x_layout, orders.x))
        source = WeightOrder(call.w_layout, call.group_axis, flip=True)
        target = WeightOrder(orders.weight, orders.group_axis, flip=False)
        w = _rearrange(w, source, target, call.groups)
        padding = []
        for (lo, hi), extra, k, d in zip(
            call.padding, call.output_padding, call.kernel_size, call.dilation, strict=True
        ):
            e = extent(k, d)
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
        y = self.conv(_ordered(forward, call.spatial), x, w, b)
        return plan.permute(y, permutation(orders.y, call.y_layout))

    def input_dilation(self, call: Call, x: Node, w: Node, b: Node | None) -> Node:
        """Put the zeros between the input's elements."""
        for letter, s in zip(call.spatial, call.input_dilation, strict=True):
            x = plan.stuff(x, call.x_layout.index(letter), s)
        sizes = tuple(
            (n - 1) * s + 1 for n, s in zip(call.input_size, call.input_dilation, strict=True)
        )
        return self.conv(replace(call, input_dilation=(1,) * call.rank, input_size=sizes), x, w, b)

    def rank(self, call: Call, x: Node, w: Node, b: Node | None) -> Node:
        """The sum, over the taps of the first spatial axis, of convolutions of one rank less."""
        if call.transposed:
            return self.transposed(call, x, w, b)
        if call.bias:
            return self.bias(call, x, w, b)
        if call.padded or any(step != 1 for step in call.input_dilation):
            return self.padding(call, x, w, b)
        letter, taps, count = call.spatial[0], call.kernel_size[0], call.output_size[0]
        self.notes.append(f"rank: one kernel call for each of the {taps} taps of axis {letter}")
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
        # One batch of batch * count samples: N first, the tapped axis behind it.
        x = plan.permute(x, permutation(call.x_layout, f"N{letter}{inner_x[1:]}"))
        at = call.w_layout.index(letter)
        w_shape = (*w.shape[:at], *w.shape[at + 1 :])
        total: Node | None = None
        for tap in range(taps):
            xs = plan.slice_axis(x, 1, tap * call.dilation[0], count, call.stride[0])
            xs = plan.reshape(xs, (inner.batch, *xs.shape[2:]))
            ws = plan.reshape(plan.slice_axis(w, at, tap, 1), w_shape)
            y = self.conv(inner, xs, ws, None)
            total = y if total is None else plan.add(total, y)
        assert total is not None
        y = plan.reshape(total, (call.batch, count, *total.shape[1:]))
        return plan.permute(y, permutation(f"N{letter}{inner_y[1:]}", call.y_layout))


Rule = Callable[[_Lowering, Call, Node, Node, "Node | None"], Node]

RULES: dict[str, Rule] = {
    "batch": _Lowering.batch,
    "bias": _Lowering.bias,
    "dilation": _Lowering.dilation,
    "groups": _Lowering.groups,
    "input_dilation": _Lowering.input_dilation,
    "padding": _Lowering.padding,
    "rank": _Lowering.rank,
    "stride": _Lowering.stride,
    "transposed": _Lowering.transposed,
}


def _rearrange(w: Node, source: WeightOrder, target: WeightOrder, groups: int) -> Node:
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


def _ordered(call: Call, letters: str) -> Call:
    """Per-axis values given in the order of ``letters``, in the order of ``call.spatial``."""
    if letters == call.spatial:
        return call
    changes: dict[str, Any] = {
        name: tuple(getattr(call, name)[letters.index(c)] for c in call.spatial)
        for name in plan.PER_AXIS
    }
    return replace(call, **changes)


def _is_same(call: Call) -> bool:
    """Whether a forward call's padding is that of "same", as far as plain sizes tell."""
    if call.transposed or not all(type(n) is int for n in call.input_size):
        return False
    return call.padding == tuple(
        same_padding(n, extent(k, d), s)
        for n, k, d, s in zip(
            call.input_size, call.kernel_size, call.dilation, call.stride, strict=True
        )
    )


def _pad_axis(x: Node, axis: int, lo: Any, hi: Any, mode: str) -> Node:
    """One axis padded by pieces of itself, end to end."""
    n = x.shape[axis]
    pieces = [x]
    if mode == "reflect":
        before = [plan.flip(plan.slice_axis(x, axis, 1, lo), (axis,))] if lo else []
        after = [plan.flip(plan.slice_axis(x, axis, n - 1 - hi, hi), (axis,))] if hi else []
    elif mode == "circular":
        before = [plan.slice_axis(x, axis, n - lo, lo)] if lo else []
        after = [plan.slice_axis(x, axis, 0, hi)] if hi else []
    else:
        before = [plan.slice_axis(x, axis, 0, 1)] * lo
        after = [plan.slice_axis(x, axis, n - 1, 1)] * hi
    return plan.concat([*before, *pieces, *after], axis)
