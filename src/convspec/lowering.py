"""From a problem to a plan: what the framework's kernel lacks is rewritten away.

An adapter says in which orders its kernel likes the arrays, and, of any one call, the first thing
that the kernel lacks (``"bias"``, ``"groups"``, ...). There is one exact rewriting for each such
thing, and they are applied until nothing is lacking. All shape arithmetic is done here, once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Protocol

from . import dtypes, plan
from .algorithms import ALGORITHMS
from .backend import Environment
from .errors import DTypeError
from .geometry import extent, same_padding
from .layouts import permutation
from .plan import Call, Node
from .problem import Problem
from .rewrites import RULES, Rule, rearranged
from .symbols import Size, known, largest
from .weights import WeightOrder

#: What an adapter may name as lacking.
EVERY_RULE: dict[str, Rule] = {**RULES, **ALGORITHMS}


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
    pads_symbols: bool
    splits: bool

    def compute_dtype(self, dtype: str, out_dtype: str, device: str) -> str:
        """The element type that the kernel is to run in.

        Raises:
            UnsupportedError: the framework has no such type.
        """

    def orders(self, problem: Problem, device: str, *, transposed: bool) -> Orders:
        """The orders for a problem's kernel; ``transposed`` may differ from the problem's."""

    def lacks(self, call: Call) -> str:
        """The first thing the kernel lacks for this call, a key of
        :data:`convspec.rewrites.RULES`, or of :data:`convspec.algorithms.ALGORITHMS` where it is
        slow, or ``""``.

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

    def differs(self, other: Lowered) -> bool:
        """Whether two plans of a problem compute it in different ways.

        One without a kernel call says how in its notes.
        """
        return (self.calls, self.notes) != (other.calls, other.notes)

    @property
    def multiplications(self) -> Size:
        """Of all kernel calls together."""
        return sum(call.multiplications for call in self.calls)


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
    work = Lowering(problem, framework, env.device)
    y = plan.cast(work.run(x, weight, bias[0] if bias else None), env.out_dtype)
    return Lowered(work.to_output(y), tuple(inputs), tuple(dict.fromkeys(work.notes)))


class Lowering:
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
        weight = rearranged(weight, WeightOrder.of(problem), target, problem.groups)
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
            nonempty=known(problem.batch) and problem.batch > 0,
        )
        # Per-axis values follow the letters of call.x_layout from here on.
        call = call.ordered(problem.spatial)
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
        return EVERY_RULE[lack](self, call, x, w, b)

    # ---- padding modes ----

    def _pad_mode(self, x: Node) -> Node:
        """Reflect, replicate or circular padding of the input, then cropping."""
        problem, layout, mode = self.problem, self.orders.x, self.problem.padding_mode
        pairs = {
            layout.index(letter): pair
            for letter, pair in zip(problem.spatial, problem.padding, strict=True)
        }
        grow = {i: (largest(lo, 0), largest(hi, 0)) for i, (lo, hi) in pairs.items()}
        plain = known(*x.shape) or self.framework.pads_symbols
        if plain and self.framework.pads(mode, problem.rank, x.dtype):
            x = plan.pad(x, plan.on_axes(x.shape, grow), mode)
        else:
            reach = dict(
                zip(pairs, map(extent, problem.kernel_size, problem.dilation), strict=True)
            )
            for axis, (lo, hi) in grow.items():
                x = _pad_axis(x, axis, lo, hi, mode, reach[axis] - 1)
        for axis, (lo, hi) in pairs.items():
            first, last = largest(-lo, 0), largest(-hi, 0)
            x = plan.slice_axis(x, axis, first, x.shape[axis] - first - last)
        return x


def _is_same(call: Call) -> bool:
    """Whether the padding is that of "same", as far as can be told of symbolic sizes.

    Of a transposed call, whether it is that of the forward one from its output to its input.
    """
    sizes, pairs = call.input_size, call.padding
    if call.transposed:
        sizes, extras = call.output_size, call.output_padding
        pairs = tuple((lo, hi - extra) for (lo, hi), extra in zip(pairs, extras, strict=True))
    each = zip(sizes, call.extents, call.stride, pairs, strict=True)
    return all(pair == same_padding(n, e, s) for n, e, s, pair in each)


def _pad_axis(x: Node, axis: int, lo: Any, hi: Any, mode: str, most: int) -> Node:
    """One axis padded by pieces of itself, end to end; symbolic amounts are at most ``most``."""
    n = x.shape[axis]
    if mode == "replicate":
        # A symbolic number of copies cannot be asked for: the most there can be, then cropped.
        first, last = (amount if known(amount) else most for amount in (lo, hi))
        before = [plan.slice_axis(x, axis, 0, 1)] * first
        after = [plan.slice_axis(x, axis, n - 1, 1)] * last
        y = plan.concat([*before, x, *after], axis)
        return plan.slice_axis(y, axis, first - lo, lo + n + hi)
    pieces = [x]
    if lo != 0:
        start = 1 if mode == "reflect" else n - lo
        pieces.insert(0, plan.slice_axis(x, axis, start, lo))
    if hi != 0:
        start = n - 1 - hi if mode == "reflect" else 0
        pieces.append(plan.slice_axis(x, axis, start, hi))
    if mode == "reflect":
        pieces = [piece if piece is x else plan.flip(piece, (axis,)) for piece in pieces]
    return plan.concat(pieces, axis)
