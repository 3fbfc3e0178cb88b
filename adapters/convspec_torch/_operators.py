"""Calls with ways of their own, as operators: compilers record these, and run them as they are.

``convspec::convolution`` and ``convspec::convolution_backward`` have all their numbers in their
arguments, and find the ways (:mod:`convspec_torch._ways`) from these. Second derivatives are
aten's. Compilers keep on disk what they were told of an operator's results: other orders in memory
need another name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.compiler import is_exporting

from convspec.dispatch import fixed
from convspec.geometry import extent, forward_size, transposed_size
from convspec.plan import Call
from convspec.symbols import known

from ._arrays import name_of
from ._few import LAST, lies_last
from ._guards import PLAIN
from ._kernel import conv, gradients, of_padded, padded_for, ways_of
from ._uneven import uneven
from ._ways import WORTHWHILE, Ways, alone, wide

Gradients = tuple[Tensor, Tensor, Tensor]

#: What follows the tensors.
NUMBERS = (
    "int[] stride, int[] padding, int[] dilation, bool transposed, int[] output_padding, int groups"
)


#: As large as a size can be that is not known.
LARGE = 2**20


@dataclass(frozen=True)
class Gains:
    """What an operator gains of: the call itself, its gradient by x, and that by the weight."""

    own: bool
    by_x: bool
    by_weight: bool
    numbers: tuple[Any, ...]

    def __bool__(self) -> bool:
        return self.own or self.by_x or self.by_weight

    def used(self, x: Any, w: Any) -> bool:
        """Whether an operator is recorded of x and a weight, asked by what a compiler reads.

        Not where a program is exported, which others run, with autocast, within transforms and
        forward-mode gradients, and of tensors that are more than that.
        """
        if is_exporting() or torch.is_autocast_enabled("cpu") or _in_transform():
            return False
        if forward_ad._current_level >= 0:  # read here, a compiler asks for it again at each call
            return False
        if type(x) not in PLAIN or type(w) not in PLAIN:
            return False
        better = (self.by_x and x.requires_grad) or (self.by_weight and w.requires_grad)
        return bool(self.own or (better and torch.is_grad_enabled()))


def _gains(call: Call, ways: Ways) -> Gains:
    copied = _copied(call)
    padding, extra = [lo for lo, _ in call.padding], [*call.output_padding]
    numbers = [*call.stride], padding, [*call.dilation], call.transposed, extra, call.groups
    own, by_x, by_weight = (way is not None for way in (ways.own, ways.by_x, ways.by_weight))
    return Gains(own, by_x or copied, by_weight or copied, numbers)


def recorded(call: Call, ways: Ways) -> Callable[..., Any] | None:
    """The call of x, weight and bias or None, for a compiler that reads this very code.

    None where it is always aten's.
    """
    gains, plain = _gains(call, ways), ways.plain
    if not gains:
        return None

    def run(x: Any, w: Any, b: Any = None) -> Any:
        return convolution(x, w, b, *gains.numbers) if gains.used(x, w) else plain(x, w, b)

    return run


def of_any_size(call: Call) -> Callable[..., Any]:
    """:func:`~convspec_torch._kernel.conv` for a call with symbols, by operators, too.

    They are recorded where they may gain, and choose when they are run.
    """
    if not call.settled:
        return conv
    sizes = {name: _large(getattr(call, name)) for name in ("batch", "input_size", "output_size")}
    call = replace(call, **sizes)
    gains = _gains(call, ways_of(call))
    beforehand = wide(call)
    inner = of_padded(call) if beforehand else call
    gains_padded = _gains(inner, ways_of(inner))
    if not (gains or gains_padded):
        return conv

    def run(x: Any, w: Any, b: Any = None, *, call: Call) -> Any:
        if uneven(call):
            return conv(x, w, b, call=call)
        more = padded_for(x, call) if beforehand else x
        found = gains if more is x else gains_padded
        if found and found.used(more, w):
            return convolution(more, w, b, *found.numbers)
        return conv(x, w, b, call=call)

    return run


def _large(size: Any) -> Any:
    """Sizes with large ones for symbols."""
    if isinstance(size, tuple):
        return tuple(map(_large, size))
    return size if known(size) else LARGE


def _copied(call: Call) -> bool:
    """Whether Inductor copies what aten computes the gradients of into another order, and back.

    It does so of depthwise pictures and volumes, with strides and transposed ones, too: gradients
    then take 1.1 to 6 times as long as in eager mode (2.13, both orders, 15 shapes). Signals are
    taken as they lie.
    """
    if call.rank < 2 or call.device != "cpu" or call.dtype != "float32" or call.symbolic:
        return False
    worthwhile = call.multiplications >= WORTHWHILE
    return worthwhile and 1 < call.groups == call.in_channels and alone()


@fixed
def _in_transform() -> bool:
    return bool(torch._C._are_functorch_transforms_active())


def _call_of(x: Tensor, w: Tensor, numbers: Sequence[Any], *, bias: bool) -> Call:
    """The call of tensors like these, whose sizes may be symbols of torch's."""
    plain = tuple(tuple(n) if isinstance(n, Sequence) else n for n in numbers)
    kind = name_of(x.dtype), x.device.type
    return _call(tuple(x.shape), tuple(w.shape), plain, bias, kind)


def _ways(x: Tensor, w: Tensor, numbers: Sequence[Any], *, bias: bool) -> Ways:
    """The ways of a call of tensors like these."""
    plain = tuple(tuple(n) if isinstance(n, Sequence) else n for n in numbers)
    kind = name_of(x.dtype), x.device.type
    return _found(tuple(x.shape), tuple(w.shape), plain, bias, kind)


@lru_cache(maxsize=1024)
def _found(*described: Any) -> Ways:
    return ways_of(_call(*described))


def _call(
    x_shape: tuple[Any, ...],
    w_shape: tuple[Any, ...],
    numbers: tuple[Any, ...],
    bias: bool,
    kind: tuple[str, str],
) -> Call:
    stride, padding, dilation, transposed, output_padding, groups = numbers
    rank, kernel = len(x_shape) - 2, w_shape[2:]
    extents = [extent(k, d) for k, d in zip(kernel, dilation, strict=True)]
    pairs = tuple((p, p) for p in padding)
    axes = zip(x_shape[2:], extents, stride, pairs, strict=True)
    if transposed:
        extra = zip(axes, output_padding, strict=True)
        size = tuple(transposed_size(*axis, more) for axis, more in extra)
    else:
        size = tuple(forward_size(*axis) for axis in axes)
    data, order = "NC" + "DHW"[-rank:], "IO" if transposed else "OI"
    return Call(
        transposed=transposed,
        x_layout=data,
        w_layout=order + data[2:],
        y_layout=data,
        group_axis=order[0],
        batch=x_shape[0],
        in_channels=x_shape[1],
        out_channels=w_shape[1] * groups if transposed else w_shape[0],
        groups=groups,
        input_size=x_shape[2:],
        kernel_size=kernel,
        output_size=size,
        stride=stride,
        padding=pairs,
        dilation=dilation,
        output_padding=output_padding,
        input_dilation=(1,) * rank,
        same=False,
        dtype=kind[0],
        device=kind[1],
        bias=bias,
    )


# ---- the operators ----


def _forward(x: Tensor, w: Tensor, b: Tensor | None, *numbers: Any) -> Tensor:
    ways = _ways(x, w, numbers, bias=b is not None)
    with torch.autocast("cpu", enabled=False):
        return ways.forward(x, w, b).contiguous(memory_format=_order(x, w))


def _forward_shape(x: Tensor, w: Tensor, b: Tensor | None, *numbers: Any) -> Tensor:
    call = _call_of(x, w, numbers, bias=b is not None)
    return x.new_empty(call.output_shape).contiguous(memory_format=_order(x, w))


def _backward(g: Tensor, x: Tensor, w: Tensor, needed: list[bool], *numbers: Any) -> Gradients:
    """The gradients by x, weight and bias, without elements where they are not needed."""
    ways = _ways(x, w, numbers, bias=needed[2])
    with torch.autocast("cpu", enabled=False):
        found = zip(ways.gradients(g, x, w, needed), _orders(x, w), needed, strict=True)
        dx, dw, db = (
            one.contiguous(memory_format=order) if need else x.new_empty(0)
            for one, order, need in found
        )
    return dx, dw, db


def _backward_shape(
    g: Tensor, x: Tensor, w: Tensor, needed: list[bool], *numbers: Any
) -> Gradients:
    shapes = zip((x.shape, w.shape, g.shape[1:2]), _orders(x, w), needed, strict=True)
    dx, dw, db = (
        x.new_empty(shape).contiguous(memory_format=order) if need else x.new_empty(0)
        for shape, order, need in shapes
    )
    return dx, dw, db


def _order(x: Tensor, w: Tensor) -> torch.memory_format:
    """The order of the output in memory, and of the gradient by the input: aten's."""
    return LAST[x.dim() - 2] if lies_last(x) or lies_last(w) else torch.contiguous_format


def _orders(x: Tensor, w: Tensor) -> tuple[torch.memory_format, ...]:
    """Those of the gradients by x, weight and bias."""
    return _order(x, w), torch.contiguous_format, torch.contiguous_format


def _operator(
    name: str, schema: str, function: Callable[..., Any], shape: Callable[..., Any]
) -> Any:
    """An operator of tensors with data, and of those without.

    Not by torch.library.custom_op, whose operators look for aliases at each call, for 30 us.
    """
    full = f"convspec::{name}"
    tags = torch.Tag.pt2_compliant_tag, torch.Tag.needs_exact_strides
    torch.library.define(full, schema, tags=tags)
    torch.library.impl(full, "default", function)
    torch.library.register_fake(full, shape)
    return getattr(torch.ops.convspec, name).default


convolution = _operator(
    "convolution",
    f"(Tensor x, Tensor w, Tensor? b, {NUMBERS}) -> Tensor",
    _forward,
    _forward_shape,
)
convolution_backward = _operator(
    "convolution_backward",
    f"(Tensor g, Tensor x, Tensor w, bool[3] needed, {NUMBERS}) -> (Tensor, Tensor, Tensor)",
    _backward,
    _backward_shape,
)


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, w, b, *ctx.numbers = inputs
    ctx.save_for_backward(x, w)
    ctx.bias = b is not None


def _gradients(ctx: Any, g: Tensor) -> tuple[Any, ...]:
    x, w = ctx.saved_tensors
    needed = [*ctx.needs_input_grad[:3]]
    if torch.is_grad_enabled():  # the second ones are aten's
        call = _call_of(x, w, ctx.numbers, bias=ctx.bias)
        found = gradients(call, g, x, w, needed)
    else:
        each = zip(convolution_backward(g, x, w, needed, *ctx.numbers), needed, strict=True)
        found = [one if need else None for one, need in each]
    return *found, *[None] * len(ctx.numbers)


torch.library.register_autograd(convolution, _gradients, setup_context=_save)
