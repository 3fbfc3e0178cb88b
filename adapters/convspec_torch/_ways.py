"""Calls, and their gradients, for which there is a faster way than aten's on the CPU.

Every bound here is measured (torch 2.13, AVX-512, float32, 2 cores, ratios of interleaved medians
over aten's call, random shapes in both orders of memory; of gradients each on its own), and again
with oneDNN held to AVX2 by ``ONEDNN_MAX_CPU_ISA``; the figures are of the first, unless said.

- A convolution onto up to four channels, or the gradient by an input of so many, is 1.2 to 9 times
  as fast as a sum of shifted products (:mod:`convspec_torch._few`); by vectors of 8 onto one or two
  0.8 to 9 times, 2.0 in the mean, onto more 0.4 to 4. With strides, that differ or not, pictures
  are 2.1 times as fast in the mean of 610, 0.95 the least, volumes 1.8 in that of 138, 0.8; by
  vectors of 8 2.0 of 769, 0.9, and 1.9 of 174, 0.7. Where the sums themselves are what takes long,
  of three and four channels, 0.5 to 1.4: these are left out. So are dense volumes whose
  channels lie last where little is shared (0.4 to 1.3); the others, in both orders, are 2.1 to 2.6
  times as fast in the mean of 1370.
- The gradient by the weight of a convolution onto up to four channels, of 16 and more and without
  strides, is 0.7 to 12 times as fast with the input and the output exchanged, 2.4 in the mean of
  226; by vectors of 8 onto one or two 0.8 to 28 times, 2.3 in that of 74. Of volumes 1.9 in that of
  302, 0.35 the least; if they lie last, of one sample and few taps, 0.2 to 1.2: these are left out.
  Onto one channel that lies last 0.4 to 7 times, but there aten's would need a copy of x.
- The gradient by the weight of a depthwise signal is 2 to 9 times as fast upright, that of a
  picture whose kernel is more than three columns wide 1.2 to 10 times by three columns at a time,
  that of a volume 1.2 to 30 times by its planes, if its rows lie end to end in memory or it is one
  sample (:mod:`convspec_torch._depthwise`).
- The gradient by the input of a depthwise volume, or of a dilated signal or picture, is 1.7 to 40
  times as fast as a convolution of the same kind.
- Depthwise pictures and volumes of several outputs for each channel are 3.2 times as fast in rows,
  in the mean of 211, if each channel is repeated for them, and 1.8 in that of 187 whose channels
  lie last (0.8 to 14 times); with strides pictures in rows 2.5 in that of 30 (1.0 to 6). With
  dilation pictures are 2.7 times as fast with AVX-512 in that of 66 (0.9 to 10). So is the gradient
  by the input, 2.6 in that of 464 (0.35 to 14), and of rows that by the weight, 1.7 in that of 211
  (0.5 to 4).
- A transposed depthwise signal or picture with dilation and no strides is 3.4 times as fast, in the
  mean of 105, as the convolution that it is, of the kernel turned around (0.4 to 40).
- A 1x1 kernel that takes a picture in strides is, with its gradients, 1.8 times as fast in the mean
  of 156 as a dense one of the positions that count, forward 1.0, if rows lie end to end; with
  channels last 1.0 and 0.9.
- Depthwise signals, and pictures in rows, that are padded by 7 and more at both ends of the last
  axis are 4 to 30 times as fast if that is done beforehand, dilated ones 1.2 to 9 times.
- A volume's output of 32 MB and more costs more in page faults than in arithmetic; in pieces it is
  1.0 to 2.7 times as fast (:mod:`convspec_torch._large`).

Compilers record them as operators (:mod:`convspec_torch._operators`). What transforms, modes,
autocast and second derivatives take notice of is aten's call.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch

from convspec.plan import Call

from . import _depthwise, _few, _large
from ._autograd import convolution, noticed, watched

AVX512 = "AVX512" in torch.backends.cpu.get_cpu_capability()

#: Up to as many channels are few; without strides only as many as a vector of 16 gains from.
FEW_CHANNELS = 4
FEW_DENSE_CHANNELS = 4 if AVX512 else 2
#: Volumes whose channels lie last: onto four, from so many on the other side on; onto three and
#: four no kernel along one axis.
FEW_OTHERS = 24
#: From so many multiplications on; with strides from so many for each of the few channels.
FEW_WORTHWHILE = 2**24
STRIDED_WORTHWHILE = 2**24.5
#: With strides from so many channels on the other side on, and up to so many inputs of a window.
OTHER_CHANNELS = 32
WINDOW = 16
#: With a stride along the last axis, or one tap there, too: up to so many channels. One more, and
#: two from so many on the other side on; if they lie last one more, from so many on the other side
#: and so many taps for each position of the strides on.
STRIDED_CHANNELS = 2
STRIDED_OTHERS = 64
STRIDED_TAPS = 3
#: Gradients by the weight of few outputs, from so many inputs and multiplications on.
EXCHANGED_CHANNELS = 16
EXCHANGED_WORTHWHILE = 2**22
#: If that is one volume that lies last, of more taps for each output channel.
EXCHANGED_TAPS = 9
#: Depthwise calls, from so many multiplications on.
WORTHWHILE = 2**21
VOLUMES_WORTHWHILE = 2**22

#: Depthwise calls of several outputs for each channel, from so many multiplications and taps on.
MULTIPLIED_WORTHWHILE = 2**20
MULTIPLIED_TAPS = 8
#: Transposed depthwise calls with dilation, from so many multiplications on.
SPREAD_WORTHWHILE = 2**18

#: 1x1 kernels with strides, from so many multiplications and output positions of a sample on.
PICKED_WORTHWHILE = 2**21
PICKED_POSITIONS = 49

#: Large outputs of volumes with so many times as many channels as the input.
WIDER = 4

#: Whether torch has oneDNN.
HAS_ONEDNN = torch.backends.mkldnn.is_available()

Way = Callable[[Any, Any], Any]
#: A way, and what it does in words; None and nothing where aten's is as fast.
Choice = tuple[Callable[..., Any] | None, str]
NONE: Choice = (None, "")


@dataclass(frozen=True)
class Ways:
    """A call and its gradients.

    Attributes:
        plain: aten's call, of x, weight and bias or None.
        backward_plain: aten's gradients, of that of the output, x, weight and a mask.
        own: the call of x, weight and bias or None.
        by_x: the gradient by x, of that of the output and the weight.
        by_weight: the gradient by the weight, of x and the gradient of the output.

    These three give None where the order of the first array in memory makes aten's the faster one.
    """

    plain: Callable[..., Any]
    backward_plain: Callable[..., Any]
    own: Callable[..., Any] | None = None
    by_x: Way | None = None
    by_weight: Way | None = None

    @property
    def any(self) -> bool:
        """Whether there is any."""
        return bool(self.own or self.by_x or self.by_weight)

    def run(self, x: Any, w: Any, b: Any = None) -> Any:
        tensors = (x, w) if b is None else (x, w, b)
        recording = watched(tensors)
        if (self.own is None and not recording) or noticed(tensors):
            return self.plain(x, w, b)
        return convolution(x, w, b, self) if recording else self.forward(x, w, b)

    def forward(self, x: Any, w: Any, b: Any) -> Any:
        y = self.own(x, w, b) if self.own else None
        return self.plain(x, w, b) if y is None else y

    def backward(self, g: Any, x: Any, w: Any, needed: Sequence[bool]) -> tuple[Any, ...]:
        """The gradients by x, weight and bias, as far as they are needed."""
        if torch.is_grad_enabled() or noticed((g, x, w)):  # the second ones are aten's
            return tuple(self.backward_plain(g, x, w, needed))
        return self.gradients(g, x, w, needed)

    def gradients(self, g: Any, x: Any, w: Any, needed: Sequence[bool]) -> tuple[Any, ...]:
        """The same where nothing takes notice."""
        found = [
            self.by_x(g, w) if needed[0] and self.by_x else None,
            self.by_weight(x, g) if needed[1] and self.by_weight else None,
        ]
        missing = [want and one is None for want, one in zip(needed, found, strict=False)]
        if any(missing):
            rest = self.backward_plain(g, x, w, [*missing, needed[2]])
            dx, dw = (r if one is None else one for one, r in zip(found, rest, strict=False))
            return dx, dw, rest[2]
        return *found, g.sum((0, *range(2, g.dim()))) if needed[2] else None


def ways(call: Call, plain: Callable[..., Any], backward_plain: Callable[..., Any]) -> Ways:
    """The faster ways there are for a call."""
    return Ways(plain, backward_plain, *(choice(call)[0] for choice in (own, by_x, by_weight)))


def own(call: Call) -> Choice:
    """How the call itself is computed."""
    if not usual(call):
        return NONE
    sizes = [lo for lo, _ in call.padding], call.dilation
    if call.transposed and _spread(call):
        return _biased(lambda x, w: _depthwise.by_x(x, w, *sizes)), "depthwise: a convolution"
    if call.transposed:
        way, words = _strided(call, call.output_size, call.out_channels, call.in_channels)
        return (_biased(way), f"few: {words}") if way else NONE
    if _few_dense(call, call.out_channels):
        last = not _dense_costs_more(call, call.out_channels, call.in_channels)
        way, words = _of_orders(
            lambda x, w: _few.dense(x, w, *sizes), "few: a sum of shifted products", last=last
        )
        return (_biased(way), words) if way else NONE
    if _multiplied(call):
        dense, times = {*call.stride} == {1}, call.out_channels // call.groups
        if not dense and (call.rank == 3 or {*call.dilation} != {1}):
            return NONE
        words = f"depthwise: each channel {times} times, for its outputs"
        return _of_orders(
            lambda x, w, b: _depthwise.multiplied(x, w, b, call.stride, *sizes, times),
            words,
            last=dense,
        )
    if not _large_volume(call):
        return NONE
    steps = call.output_size, call.stride, *sizes
    return (lambda x, w, b: _large.convolved(x, w, b, *steps)), "pages: the output in pieces"


def by_x(call: Call) -> Choice:
    """How the gradient by the input is computed."""
    if not usual(call) or call.transposed:
        return NONE
    if any(lo >= e for (lo, _), e in zip(call.padding, call.extents, strict=True)):
        return NONE
    if _depthwise_of(call):
        dilated = {*call.dilation} != {1}
        slow = not dilated if call.rank == 3 else dilated
        if {*call.stride} != {1} or not slow or call.multiplications < WORTHWHILE:
            return NONE
        sizes = [lo for lo, _ in call.padding], call.dilation
        return (lambda g, w: _depthwise.by_x(g, w, *sizes)), "input: a convolution"
    if _multiplied(call):
        if {*call.stride} != {1}:
            return NONE
        sizes = [lo for lo, _ in call.padding], call.dilation
        apart = call.groups, call.out_channels // call.groups

        def added(g: Any, w: Any) -> Any:
            return _depthwise.by_x(g, w, *sizes).unflatten(1, apart).sum(2)

        return added, "input: a convolution for each output, added up"
    if call.rank > 1 and _few_dense(call, call.in_channels):
        last = not _dense_costs_more(call, call.in_channels, call.out_channels)
        words = "input: a sum of shifted products"
        return _of_orders(_onto(call, call.input_size), words, last=last)
    way, words = _strided(call, call.input_size, call.in_channels, call.out_channels)
    return (way, f"input: {words}") if way else NONE


def by_weight(call: Call) -> Choice:
    """How the gradient by the weight is computed."""
    if not usual(call) or call.transposed or {*call.stride, *call.dilation} != {1}:
        return NONE
    padding, kernel, rank = [lo for lo, _ in call.padding], call.kernel_size, call.rank
    work, width = call.multiplications, kernel[-1]
    if _exchanged(call):
        way = lambda x, g: _few.by_weight(x, g, kernel, padding)  # noqa: E731
        rows, last = (rank < 3 or not _exchange_costs_more(call, last=b) for b in (False, True))
        words = "weight: with input and output exchanged"
        return _of_orders(way, words, rows=rows, last=last)
    if _multiplied(call):
        times = call.out_channels // call.groups
        way = lambda x, g: _depthwise.by_weight(  # noqa: E731
            _depthwise.repeated(x, times), g, kernel, padding
        )
        return _of_orders(way, f"weight: each channel {times} times, for its outputs", last=False)
    if not _depthwise_of(call):
        return NONE
    if rank < 3:
        if width <= 3 or work < (WORTHWHILE if rank == 1 else 2 * WORTHWHILE):
            return NONE
        how = "upright" if rank == 1 else "by 3 columns of the kernel at a time"
        return (lambda x, g: _depthwise.by_weight(x, g, kernel, padding)), f"weight: {how}"
    if width < 3 or work < VOLUMES_WORTHWHILE:
        return NONE

    def volumes(x: Any, g: Any) -> Any:
        if _few.lies_last(x) and (call.batch > 1 or width > 3):
            return None
        return _depthwise.by_weight(x, g, kernel, padding)

    return volumes, "weight: by its planes"


def wide(call: Call) -> bool:
    """Whether zeros at the ends of the last axis had better be added beforehand, or may be."""
    if call.rank > 2 or call.transposed or not _depthwise_of(call) or not call.settled:
        return False
    return bool(call.padding[-1][0] >= _depthwise.WIDE) and usual(call)


def picks(call: Call) -> bool:
    """Whether the positions that count had better be taken beforehand, unless channels lie last."""
    single = {*call.kernel_size} == {1} != {*call.stride}
    if call.rank != 2 or not single or call.groups > 1 or call.padded or call.transposed:
        return False
    if any(type(size) is not int for size in (call.batch, *call.output_size)) or not usual(call):
        return False
    many = call.multiplications >= PICKED_WORTHWHILE
    return many and prod(call.output_size) >= PICKED_POSITIONS


def notes(call: Call) -> tuple[str, ...]:
    """What :func:`own`, :func:`wide` and :func:`picks` do, for ``explain``."""
    if picks(call):
        return ("stride: the positions that count beforehand, unless channels lie last",)
    beforehand = f"padding: zeros of axis {call.spatial[-1]} beforehand"
    if call.rank == 2 and call.dilation[-1] == 1:
        beforehand += ", unless channels lie last"
    return tuple(filter(None, (own(call)[1], beforehand if wide(call) else "")))


def gradient_notes(call: Call) -> tuple[str, ...]:
    """What :func:`by_x` and :func:`by_weight` do, for ``explain``."""
    return tuple(filter(None, (by_x(call)[1], by_weight(call)[1])))


def usual(call: Call) -> bool:
    """Whether oneDNN computes the call here alone; with a process group, it may be a part."""
    if call.device != "cpu" or call.dtype != "float32" or call.symbolic or call.rank > 3:
        return False
    plain = {*call.input_dilation} == {1} and all(lo == hi >= 0 for lo, hi in call.padding)
    return plain and HAS_ONEDNN and alone()


def alone() -> bool:
    """Whether this process computes with no others."""
    group = torch.distributed
    return not (group.is_available() and group.is_initialized())


def _large_volume(call: Call) -> bool:
    """Whether fresh memory for the output costs more than its pieces and a copy."""
    if call.rank != 3 or call.groups > 1 or WIDER * call.in_channels > call.out_channels:
        return False
    size = 4 * call.batch * call.out_channels * prod(call.output_size)
    return bool(size >= _large.LARGE) and call.batch == 1 and _large.worthwhile()


def _of_orders(way: Callable[..., Any], words: str, *, rows: bool = True, last: bool) -> Choice:
    """A way that is the faster one of arrays in rows, or whose channels lie last, or of both."""
    if rows == last:
        return (way, words) if last else NONE
    return (
        lambda x, *rest: way(x, *rest) if _few.lies_last(x) == last else None,
        f"{words}, {'if' if last else 'unless'} channels lie last",
    )


def _biased(way: Way) -> Callable[..., Any]:
    """A way of x and weight, and the bias added to what it gives."""

    def run(x: Any, w: Any, b: Any) -> Any:
        y = way(x, w)
        return y if y is None or b is None else y.add_(b.reshape(-1, *[1] * (y.dim() - 2)))

    return run


def _depthwise_of(call: Call) -> bool:
    return 1 < call.groups == call.in_channels == call.out_channels


def _spread(call: Call) -> bool:
    """Whether a transposed depthwise call without strides is slow for its dilation."""
    if call.rank == 3 or not _depthwise_of(call) or {*call.kernel_size} == {1}:
        return False
    if {*call.stride} != {1} or {*call.dilation} == {1} or {*call.output_padding} != {0}:
        return False
    if any(lo >= e for (lo, _), e in zip(call.padding, call.extents, strict=True)):
        return False
    return bool(call.multiplications >= SPREAD_WORTHWHILE)


def _multiplied(call: Call) -> bool:
    """Whether a depthwise call of several outputs for each channel is slow."""
    if call.rank == 1 or not 1 < call.groups == call.in_channels < call.out_channels:
        return False
    if prod(call.kernel_size) < MULTIPLIED_TAPS:
        return False
    if {*call.dilation} != {1} and (call.rank == 3 or not AVX512):
        return False
    return bool(call.multiplications >= MULTIPLIED_WORTHWHILE)


def _few_dense(call: Call, channels: int) -> bool:
    """Whether a convolution without strides, or its gradient, onto so many channels is slow."""
    if channels > FEW_DENSE_CHANNELS or {*call.stride, *call.dilation, call.groups} != {1}:
        return False
    if any(lo >= k for (lo, _), k in zip(call.padding, call.kernel_size, strict=True)):
        return False
    return call.kernel_size[0] >= 3 and call.multiplications >= FEW_WORTHWHILE


def _dense_costs_more(call: Call, channels: int, others: int) -> bool:
    """Whether a dense sum of shifted products takes longer than aten's volume, channels last."""
    line = channels > 2 and prod(call.kernel_size[1:]) == 1
    return call.rank == 3 and (line or (channels == FEW_CHANNELS and others < FEW_OTHERS))


def _exchanged(call: Call) -> bool:
    """Whether the gradient by the weight is faster with the input and the output exchanged."""
    if call.groups > 1 or call.out_channels > FEW_DENSE_CHANNELS:
        return False
    if any(lo >= k for (lo, _), k in zip(call.padding, call.kernel_size, strict=True)):
        return False
    many = call.in_channels >= EXCHANGED_CHANNELS and max(call.kernel_size) >= 3
    return many and bool(call.multiplications >= EXCHANGED_WORTHWHILE)


def _exchange_costs_more(call: Call, *, last: bool) -> bool:
    """Whether the gradient by a volume's weight takes longer than aten's if it is exchanged.

    Args:
        last: whether the channels of x lie last in memory.
    """
    taps, channels = prod(call.kernel_size), call.out_channels
    narrow = call.in_channels == EXCHANGED_CHANNELS
    if not last:
        return narrow and channels == FEW_CHANNELS
    if narrow or channels == 1:
        return channels > 1
    few = channels == FEW_CHANNELS or taps <= EXCHANGED_TAPS * channels
    return call.batch == 1 and few


def _strided(call: Call, size: Sequence[Any], channels: int, others: int) -> Choice:
    """A transposed convolution with strides, of so many ``others`` to so many channels."""
    if not _few_apart(call, channels, others):
        return NONE
    rows, last = (not _sums_cost_more(call, channels, others, last=b) for b in (False, True))
    return _of_orders(_onto(call, size), "a sum of shifted products", rows=rows, last=last)


def _sums_cost_more(call: Call, channels: int, others: int, *, last: bool) -> bool:
    """Whether it takes longer to add up the products where they belong than aten's call does.

    None are added up by the kernel itself along a last axis with a stride, or with one tap.

    Args:
        last: whether the channels lie last in memory.
    """
    inside = call.stride[-1] == 1 < call.kernel_size[-1]
    if call.rank == 1 or inside or channels <= STRIDED_CHANNELS:
        return False
    one_more = channels == STRIDED_CHANNELS + 1
    if others < STRIDED_OTHERS:
        return last or not one_more
    several = prod(call.kernel_size) >= STRIDED_TAPS * prod(call.stride)
    return last and not (one_more and several)


def _few_apart(call: Call, channels: int, others: int) -> bool:
    """Whether such a one is slow."""
    if call.groups > 1 or channels > FEW_CHANNELS or others < OTHER_CHANNELS:
        return False
    if {*call.stride} == {1} or {*call.dilation} != {1}:
        return False
    if any(lo >= k for (lo, _), k in zip(call.padding, call.kernel_size, strict=True)):
        return False
    window = prod(-(-k // s) for k, s in zip(call.kernel_size, call.stride, strict=True))
    return window <= WINDOW and call.multiplications >= STRIDED_WORTHWHILE * channels


def _onto(call: Call, size: Sequence[Any]) -> Way:
    """A transposed convolution of this call's kernel."""
    sizes = size, call.stride, [lo for lo, _ in call.padding], call.dilation
    return lambda x, w: _few.transposed(x, w, *sizes)
