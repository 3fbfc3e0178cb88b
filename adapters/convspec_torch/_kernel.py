"""The call of PyTorch's own convolution."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812  (PyTorch's own habit)

from convspec.plan import Call, Step

from ._arrays import copied, row_major
from ._depthwise import padded
from ._few import CONV, ONEDNN, lies_last
from ._slow import small
from ._uneven import counts, evened, of_evened, plain_sizes, uneven
from ._ways import Ways, picks, ways, wide

#: Channels of a block of oneDNN's with AVX-512.
BLOCK = 16

Recorded = Callable[[Call, Ways], Callable[..., Any] | None]

TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


def conv(x: Any, w: Any, b: Any = None, *, call: Call) -> Any:
    """x (N, C, space), w (O, I, space) or transposed (I, O, space) -> y (N, O, space)."""
    if wide(call):
        more = padded_for(x, call)
        x, call = more, call if more is x else of_padded(call)
    if uneven(call) and counts(call):
        call = plain_sizes(call)
        return evened(call, partial(conv, call=of_evened(call)))(x, w, b)
    function, rest = _plain(call)
    if 1 in w.shape:
        w = row_major(w)
    if not _ambiguous(call):
        return function(x, w, b, *rest)
    # Copies: of a view of unknown strides as the result of a program Inductor can't tell the order.
    return copied(function(copied(x), w, b, *rest))


def step(call: Call, *, direct: bool, recorded: Recorded) -> Step:
    """:func:`conv` for one call of known sizes.

    Args:
        direct: whether oneDNN may be asked by name.
        recorded: the function of a call that has ways of its own, or None.
    """
    chosen = partial(_chosen, direct=direct, recorded=recorded)
    plain = chosen(call)
    if uneven(call):
        even, odd = evened(call, _whole(chosen(of_evened(call)))), _whole(plain)
        return Step(lambda *given: (even if counts(call) else odd)(*given))
    if picks(call):
        before, left = picked(call), of_picked(call)
    elif wide(call):
        before, left = partial(padded_for, call=call), of_padded(call)
    else:
        return plain
    function, inner = _whole(plain), _whole(chosen(left))

    def run(x: Any, w: Any, b: Any = None) -> Any:
        other = before(x)
        return (function if other is x else inner)(other, w, b)

    return Step(run)


def _chosen(call: Call, *, direct: bool, recorded: Recorded) -> Step:
    plain = _plain_step(call, direct=direct)
    function = recorded(call, _ways_beside(call, plain))
    return plain if function is None else Step(function)


def _whole(step: Step) -> Callable[..., Any]:
    """The function of x, weight and bias or None."""
    function, rest = step
    return lambda x, w, b=None: function(x, w, *(() if b is None else (b,)), *rest)


def ways_of(call: Call) -> Ways:
    """aten's call and its gradients, and the faster ways that there are."""
    return _ways_beside(call, _plain_step(call, direct=False))


def _ways_beside(call: Call, plain: Step) -> Ways:
    function, rest = plain
    biased = call.bias

    def run(x: Any, w: Any, b: Any) -> Any:
        return function(x, w, b, *rest) if biased else function(x, w, *rest)

    return ways(call, run, partial(gradients, call))


def gradients(call: Call, g: Any, x: Any, w: Any, mask: Sequence[bool]) -> Sequence[Any]:
    """aten's gradients by x, weight and bias, those of the mask, for that of the output."""
    if 1 in w.shape:
        w = row_major(w)
    if _ambiguous(call):
        g = row_major(g)
        if mask[1]:
            x = row_major(x)
        else:  # of x nothing counts but its shape, and without strides its order (random calls)
            dense = not call.transposed and {*call.stride} == {1}
            x = torch.empty_like(x) if dense else x.new_empty(x.shape)
    padding, extra = [lo for lo, _ in call.padding], list(call.output_padding)
    rest = call.stride, padding, call.dilation, call.transposed, extra, call.groups, [*mask]
    bias = [call.out_channels] if mask[2] else None
    found: Sequence[Any] = torch.ops.aten.convolution_backward(g, x, w, bias, *rest)
    return found


def _plain_step(call: Call, *, direct: bool) -> Step:
    function, rest = _plain(call)
    if direct and small(call):
        amounts = [lo for lo, _ in call.padding]
        function, rest = ONEDNN, (amounts, call.stride, call.dilation, call.groups)
    many, few = call.in_channels, call.out_channels // call.groups
    if not call.transposed:
        many, few = call.out_channels, call.in_channels // call.groups
    w_shape = (many, few, *call.kernel_size)
    ambiguous = _ambiguous(call)
    if not ambiguous and 1 not in w_shape:
        return Step(function, rest if call.bias else (None, *rest))
    w_strides = _strides(w_shape)
    x_strides = _strides((call.batch, call.in_channels, *call.input_size))

    def careful(x: Any, w: Any, b: Any = None) -> Any:
        if w.stride() != w_strides:
            w = row_major(w)
        if not ambiguous:
            return function(x, w, b, *rest)
        y = function(x if x.stride() == x_strides else row_major(x), w, b, *rest)
        return row_major(y) if torch.is_grad_enabled() else y

    return Step(careful)


def picked(call: Call) -> Callable[[Any], Any]:
    """The positions of x that a 1x1 kernel with strides takes, or x where its channels lie last."""
    index = (..., *(slice(None, None, step) for step in call.stride))
    return lambda x: x if lies_last(x) else x[index]


def of_picked(call: Call) -> Call:
    """The dense call of these."""
    return replace(call, stride=(1,) * call.rank, input_size=call.output_size)


def padded_for(x: Any, call: Call) -> Any:
    """x, of a wide call, perhaps padded along its last axis."""
    return padded(x, call.padding[-1][0], call.dilation[-1])


def of_padded(call: Call) -> Call:
    """What is left of a wide call."""
    size = call.input_size[-1] + sum(call.padding[-1])
    return replace(
        call,
        input_size=(*call.input_size[:-1], size),
        padding=(*call.padding[:-1], (0, 0)),
        same=False,
    )


def _plain(call: Call) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """PyTorch's function, and what it takes behind x, w and b.

    One number for all axes, and nothing where it is the default: PyTorch takes a microsecond to
    read all of it at every call.
    """
    given: list[tuple[Any, int]] = [(call.stride, 1), ([lo for lo, _ in call.padding], 0)]
    if call.transposed:
        given += [(call.output_padding, 0), (call.groups, 1), (call.dilation, 1)]
    else:
        given += [(call.dilation, 1), (call.groups, 1)]
    values = [(_short(value), default) for value, default in given]
    while values and values[-1][0] == values[-1][1]:
        values.pop()
    function = (TRANSPOSED if call.transposed else CONV)[call.rank]
    return function, tuple(value for value, _ in values)


def _short(values: Any) -> Any:
    """One number where all axes have the same."""
    if isinstance(values, int) or any(type(value) is not int for value in values):
        return values
    return values[0] if len(set(values)) == 1 else values


def writes_elsewhere(call: Call) -> bool:
    """Whether the kernel that computes the gradient of the weight spoils memory that is others'.

    oneDNN's does so for one position of the kernel and pictures taken in strides, of less than 16
    channels, if they lie channels last: it has memory for these, and counts in blocks of 16, with
    AVX2 of 8 (uxlfoundation/oneDNN#6035). Then it is a dense call on the positions that count, or
    whose result these are; a transposed call's pictures are what it gives. Signals, volumes,
    groups and padding get other kernels (random ones, each allocation before a page that may not be
    touched).

    Not where a program is exported: it could not prove that the positions are there.
    """
    channels = call.out_channels if call.transposed else call.in_channels
    single = {*call.kernel_size} == {1} != {*call.stride} and channels < BLOCK
    dense = call.groups == 1 and all(pair == (0, 0) for pair in call.padding)
    exported = call.symbolic and torch.compiler.is_exporting()
    return call.rank == 2 and call.device == "cpu" and single and dense and not exported


def _ambiguous(call: Call) -> bool:
    """Whether the kernel may be wrong about the memory order of arrays of a single channel.

    Not about an input of one channel, without strides (random calls on AVX2, exact): it is taken as
    it lies, since with channels last its gradients take a half to a quarter of what they take in
    row-major memory.
    """
    if 1 not in (call.in_channels, call.out_channels):
        return False
    plain = not call.transposed and call.out_channels > 1 and set(call.stride) == {1}
    return not (plain and all(type(n) is int and n > 1 for n in call.input_size))


def _strides(shape: Sequence[int]) -> tuple[int, ...]:
    """Those of row-major memory."""
    strides = [1]
    for size in reversed(shape[1:]):
        strides.insert(0, strides[0] * size)
    return tuple(strides)
