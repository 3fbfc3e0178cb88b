"""Other ways to the same sum, for kernels that have a problem but are slow at it.

They are rules like those of :mod:`convspec.rewrites`, as exact, and asked for in the same way: an
adapter names one as what its kernel lacks. When to ask is the adapter's to measure.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import product
from math import gcd, prod
from typing import TYPE_CHECKING, Any

from . import dtypes, plan
from .geometry import Pair, extent
from .layouts import permutation
from .plan import Call, Node
from .rewrites import Rule, along_first, bias, forward_arrays, input_dilation, padding, transposed
from .symbols import Size

if TYPE_CHECKING:
    from .lowering import Lowering


def stack(work: Lowering, call: Call, x: Node, w: Node, b: Node | None) -> Node:
    """The taps of the first spatial axis stacked into the channels: one call of one rank less.

    groups == 1. The input is copied once for each tap.
    """
    if call.transposed:
        return transposed(work, call, x, w, b)
    if any(step != 1 for step in call.input_dilation):
        return input_dilation(work, call, x, w, b)
    letter, taps = call.spatial[0], call.kernel_size[0]
    work.notes.append(f"stack: the {taps} taps of axis {letter} as channels of one kernel call")
    inner, parts, unfolded = along_first(call, x)
    x = plan.concat(parts, inner.x_layout.index("C"))
    before_i = inner.w_layout.replace("I", f"{letter}I")
    w = plan.permute(w, permutation(call.w_layout, before_i))
    at = before_i.index(letter)
    channels = taps * call.in_channels
    w = plan.reshape(w, (*w.shape[:at], channels, *w.shape[at + 2 :]))
    return unfolded(work.conv(replace(inner, in_channels=channels), x, w, b))


def point(work: Lowering, call: Call, x: Node, w: Node, b: Node | None) -> Node:
    """A kernel of one position, without strides: a matrix product for all positions at once.

    Where channels are last, every position is a sample of a call without space. Otherwise space
    becomes one axis, behind the channels. groups == 1, no padding, not transposed.
    """
    positions: Size = 1
    for size in call.input_size:
        positions = positions * size
    batch, letters = (call.batch, "W") if call.x_layout[1] == "C" else (call.batch * positions, "")
    work.notes.append("point: a matrix product" + " for each sample" * len(letters))
    space = (positions,) * len(letters)
    ones, zeros = (1,) * len(letters), ((0, 0),) * len(letters)
    inner = replace(
        call,
        x_layout="NC" + letters,
        w_layout=letters + "IO",
        y_layout="NC" + letters,
        batch=batch,
        input_size=space,
        output_size=space,
        kernel_size=ones,
        stride=ones,
        dilation=ones,
        input_dilation=ones,
        padding=zeros,
        output_padding=(0,) * len(letters),
    )
    x = plan.reshape(x, (batch, call.in_channels, *space))
    w = plan.permute(w, permutation(call.w_layout, call.spatial + "IO"))
    w = plan.reshape(w, (*ones, call.in_channels, call.out_channels))
    sizes = dict(zip(call.y_layout, call.output_shape, strict=True))
    y = plan.reshape(work.conv(inner, x, w, b), [sizes[letter] for letter in call.x_layout])
    return plan.permute(y, permutation(call.x_layout, call.y_layout))


#: Larger results of a kernel, in bytes, are not kept: C libraries give so much memory back to the
#: system when it is freed, and fetching it again page by page costs more than the arithmetic.
#: glibc: DEFAULT_MMAP_THRESHOLD_MAX, 4 * 1024**2 * sizeof(long), is twice as much.
KEPT_BYTES = 2**24


def samples(work: Lowering, call: Call, x: Node, w: Node, b: Node | None) -> Node:
    """The output in pieces along its first spatial axis, which the kernel takes for a batch.

    The same products are added up in the same kernel; what differs is what it makes of a batch.
    Where the problem's channels are last, the pieces lie end to end in memory, so that one call
    computes them all; otherwise they are copied, and computed in pairs small enough to be kept.

    The sizes are plain numbers.
    """
    if call.bias:
        return bias(work, call, x, w, b)
    letter, count = call.spatial[0], call.output_size[0]
    adjacent = work.problem.layout.endswith("C")
    size = prod(call.output_shape) * dtypes.numpy_dtype(call.dtype).itemsize
    pieces = 2 if adjacent else min(count, 2 * -(-size // KEPT_BYTES))
    each = -(-count // pieces)  # output positions of a piece
    pieces = -(-count // each)
    # What the pieces read, and zeros behind it for what the last one has too many.
    step, (lo, _) = call.stride[0], call.padding[0]
    reach = (each - 1) * step + call.extents[0]
    after = (pieces - 1) * each * step + reach - lo - call.input_size[0]
    axis = call.x_layout.index(letter)
    x = plan.window(x, {axis: (lo, after)}, {axis: call.input_size[0] + lo + after})
    parts = [plan.slice_axis(x, axis, i * each * step, reach) for i in range(pieces)]
    at_once = pieces if adjacent else 2
    groups = [parts[i : i + at_once] for i in range(0, pieces, at_once)]
    calls = f"{len(groups)} kernel call{'s' * (len(groups) > 1)}"
    work.notes.append(f"samples: {pieces} pieces of axis {letter} as a batch, {calls}")
    results = []
    for group in groups:
        inner = replace(
            call,
            batch=call.batch * len(group),
            input_size=(reach, *call.input_size[1:]),
            output_size=(each, *call.output_size[1:]),
            padding=((0, 0), *call.padding[1:]),
            same=False,
        )
        y = work.conv(inner, plan.concat(group, call.x_layout.index("N")), w, None)
        results.append(y)
    n, axis = call.y_layout.index("N"), call.y_layout.index(letter)
    if adjacent:
        y = _end_to_end(results[0], n, axis, call.batch)
    else:
        y = plan.concat(
            [
                plan.slice_axis(y, n, i, call.batch)
                for y in results
                for i in range(0, y.shape[n], call.batch)
            ],
            axis,
        )
    return plan.slice_axis(y, axis, 0, count)


def _end_to_end(y: Node, n: int, axis: int, batch: int) -> Node:
    """Pieces that are samples, outermost of the batch axis ``n``, along ``axis``."""
    pieces = y.shape[n] // batch
    y = plan.reshape(y, (*y.shape[:n], pieces, batch, *y.shape[n + 1 :]))
    order = [i for i in range(len(y.shape)) if i != n]
    order.insert(order.index(axis + 1), n)
    y = plan.permute(y, order)
    at = order.index(n)
    return plan.reshape(y, (*y.shape[:at], pieces * y.shape[at + 1], *y.shape[at + 2 :]))


def spread(work: Lowering, call: Call, x: Node, w: Node, b: Node | None) -> Node:
    """The same call with every step along its longest axis doubled, that between inputs too.

    Where the input has zeros in between, the windows and their taps step over them: the same
    products are added up. A library that has no step between inputs then leaves the call to others.
    """
    inner = doubled(call)
    axis = inner.spatial[inner.input_dilation.index(2)]
    work.notes.append(f"spread: every step along axis {axis} doubled, that between inputs too")
    return work.conv(inner, x, w, b)


def doubled(call: Call) -> Call:
    """What :func:`spread` makes of a call that is not transposed."""
    at = max(range(call.rank), key=lambda i: call.input_size[i])
    lo, hi = call.padding[at]
    return _stepping(call, at, call.stride[at] * 2, call.dilation[at] * 2, 2, (lo * 2, hi * 2))


def halved(call: Call) -> Call:
    """The call that :func:`spread` made this one of; any other call as it is."""
    for at, (step, gap) in enumerate(zip(call.stride, call.input_dilation, strict=True)):
        if gap == 2 and step % 2 == 0:  # others that have gaps have no strides
            lo, hi = call.padding[at]
            return _stepping(call, at, step // 2, call.dilation[at] // 2, 1, (lo // 2, hi // 2))
    return call


def _stepping(call: Call, at: int, step: int, taps: int, gap: int, pair: Pair) -> Call:
    """A call with other steps along the axis ``at``: of windows, of taps and between inputs."""

    def with_axis(values: tuple[Any, ...], value: Any) -> tuple[Any, ...]:
        return (*values[:at], value, *values[at + 1 :])

    return replace(
        call,
        stride=with_axis(call.stride, step),
        dilation=with_axis(call.dilation, taps),
        input_dilation=with_axis(call.input_dilation, gap),
        padding=with_axis(call.padding, pair),
        same=False,
    )


def mirrored(call: Call) -> Call:
    """Of a dense call without strides, the one that its gradient by the input is, of what was y.

    Its kernel is turned around, with the channels exchanged; and its own gradient by the input is
    ``call`` (Goodfellow et al., Deep Learning, 2016, section 9.5).
    """
    pairs = zip(call.extents, call.padding, strict=True)
    return replace(
        call,
        in_channels=call.out_channels,
        out_channels=call.in_channels,
        input_size=call.output_size,
        output_size=call.input_size,
        padding=tuple((reach - 1 - lo, reach - 1 - hi) for reach, (lo, hi) in pairs),
        same=False,
    )


def repeat(work: Lowering, call: Call, x: Node, w: Node, b: Node | None) -> Node:
    """Each channel as often as it has outputs: depthwise with one output for each, by products."""
    if call.transposed:
        return transposed(work, call, x, w, b)
    g, times = call.groups, call.out_channels // call.groups
    work.notes.append(f"repeat: each channel {times} times, for its outputs")
    c = call.x_layout.index("C")
    apart = plan.reshape(x, (*x.shape[:c], g, 1, *x.shape[c + 1 :]))
    many = plan.concat([apart] * times, c + 1)
    x = plan.reshape(many, (*x.shape[:c], g * times, *x.shape[c + 1 :]))
    return taps(work, replace(call, in_channels=g * times, groups=g * times), x, w, b)


def taps(work: Lowering, call: Call, x: Node, w: Node, b: Node | None) -> Node:
    """Without a kernel: the sum, over all taps and channels of a group, of elementwise products.

    Depthwise that is one product for each tap.
    """
    if call.transposed:
        return transposed(work, call, x, w, b)
    if call.bias:
        return bias(work, call, x, w, b)
    if call.padded or any(step != 1 for step in call.input_dilation):
        return padding(work, call, x, w, b)
    g, per_group = call.groups, call.in_channels // call.groups
    count = prod(call.kernel_size) * per_group
    work.notes.append(f"taps: the sum of {count} elementwise products, without a kernel call")
    # x as (..., g, I, ...), and of the weight each (g, O/g) in the same place.
    c = call.x_layout.index("C")
    x = plan.reshape(x, (*x.shape[:c], g, per_group, *x.shape[c + 1 :]))
    axes = [call.x_layout.index(letter) for letter in call.spatial]
    axes = [axis + (axis > c) for axis in axes]
    w = plan.permute(w, permutation(call.w_layout, f"{call.spatial}IO"))
    w_shape = [1] * len(x.shape)
    w_shape[c : c + 2] = [g, call.out_channels // g]
    total: Node | None = None
    for *tap, channel in product(*map(range, call.kernel_size), range(per_group)):
        xs, ws = plan.slice_axis(x, c + 1, channel, 1), w
        for i, axis in enumerate(axes):
            start = tap[i] * call.dilation[i]
            xs = plan.slice_axis(xs, axis, start, call.output_size[i], call.stride[i])
            ws = plan.slice_axis(ws, i, tap[i], 1)
        ws = plan.slice_axis(ws, call.rank, channel, 1)
        term = plan.multiply(xs, plan.reshape(ws, w_shape))
        total = term if total is None else plan.add(total, term)
    assert total is not None
    y = plan.reshape(total, (*total.shape[:c], call.out_channels, *total.shape[c + 2 :]))
    return plan.permute(y, permutation(call.x_layout, call.y_layout))


@dataclass(frozen=True)
class _Phase:
    """The output positions c, c+s, c+2s, ... of one axis: a dense convolution with some taps.

    Attributes:
        first, count, step: its taps, counted in the reversed kernel.
        dilation, padding: of the dense convolution.
    """

    first: int
    count: int
    step: int
    dilation: int
    padding: Pair


def phases(work: Lowering, call: Call, x: Node, w: Node, b: Node | None) -> Node:
    """A transposed convolution without zeros between the input's elements.

    For each residue modulo the stride, the outputs there are a dense convolution of the input with
    the taps that reach them; the results are interleaved. Residues whose taps read the same inputs
    are computed by one call, end to end along the channels: where the kernel is as large as the
    stride, that is all of them, and the call is a matrix product.

    The sizes are plain numbers.
    """
    return _by_residues(work, call, x, w, b, "phases", anywhere=False)


def subpixel(work: Lowering, call: Call, x: Node, w: Node, b: Node | None) -> Node:
    """:func:`phases`, with one call for all residues that have as many taps.

    Where these do not read the same inputs, each is a part of what a call gives that reads them
    all. It is the sub-pixel convolution of Shi et al., "Real-time single image and video
    super-resolution", CVPR 2016, section 3.2.
    """
    return _by_residues(work, call, x, w, b, "subpixel", anywhere=True)


def _by_residues(
    work: Lowering, call: Call, x: Node, w: Node, b: Node | None, name: str, *, anywhere: bool
) -> Node:
    """One call for residues that have as many taps, and read the same inputs or ``anywhere``."""
    if call.bias:  # positions that no tap reaches hold the bias too
        return bias(work, call, x, w, b)
    orders, x, w = forward_arrays(work, call, x, w)
    each = tuple(-(-size // s) for size, s in zip(call.output_size, call.stride, strict=True))
    by_axis = [_phases_of(call, i, each[i]) for i in range(call.rank)]
    everything = list(product(*by_axis))
    # Those that differ in nothing but which taps they have, and perhaps where they read.
    alike: dict[tuple[tuple[int, Pair | None], ...], list[tuple[_Phase, ...]]] = defaultdict(list)
    for combined in dict.fromkeys(everything):
        if all(phase.count for phase in combined):
            kind = tuple((phase.count, None if anywhere else phase.padding) for phase in combined)
            alike[kind].append(combined)
    calls = f"{len(alike)} kernel call{'s' * (len(alike) > 1)}"
    work.notes.append(f"{name}: {calls} for the {len(everything)} residues of the stride")
    dense = replace(
        call,
        transposed=False,
        stride=(1,) * call.rank,
        output_size=each,
        output_padding=(0,) * call.rank,
        same=False,
        x_layout=orders.x,
        w_layout=orders.weight,
        y_layout=orders.y,
        group_axis=orders.group_axis,
    )
    found: dict[tuple[_Phase, ...], Node] = {}
    for members in alike.values():
        amounts = [[phase.padding for phase in along] for along in zip(*members, strict=True)]
        most = [(max(lo for lo, _ in pairs), max(hi for _, hi in pairs)) for pairs in amounts]
        part = replace(
            dense,
            kernel_size=tuple(phase.count for phase in members[0]),
            dilation=tuple(phase.dilation for phase in members[0]),
            padding=tuple(most),
            output_size=tuple(
                size + sum(pair) - sum(pairs[0])
                for size, pair, pairs in zip(each, most, amounts, strict=True)
            ),
            out_channels=call.out_channels * len(members),
        )
        kernels = [_taps_of(w, orders.weight, call.spatial, member) for member in members]
        groups = call.groups if orders.group_axis == "O" else 1
        ws = _joined(kernels, orders.weight.index("O"), groups)
        y = work.conv(part.ordered(call.spatial), x, ws, None)
        results = _parted(y, orders.y.index("C"), call.groups, len(members))
        for member, result in zip(members, results, strict=True):
            for i, letter in enumerate(call.spatial):
                start = most[i][0] - member[i].padding[0]
                result = plan.slice_axis(result, 1 + orders.y.index(letter), start, each[i])
            found[member] = result
    some = next(iter(found.values()))
    nothing = plan.pad_axis(plan.slice_axis(some, 0, 0, 0), 0, (0, 1))
    y = plan.concat([found.get(combined, nothing) for combined in everything], 0)
    return plan.permute(_interleaved(call, y, orders.y, each), permutation(orders.y, call.y_layout))


def _phases_of(call: Call, axis: int, size: int) -> list[_Phase]:
    """The phases of one axis, ``size`` positions each.

    Output p gets x[i] * w[t] where p + lo = i*s + t*d. With p = m*s + c that is i = m - a for
    a = (t*d - c - lo) / s, where the division is exact.
    """
    n, k, s, d = (
        getattr(call, name)[axis] for name in ("input_size", "kernel_size", "stride", "dilation")
    )
    lo = call.padding[axis][0]
    step = s // gcd(s, d)
    found = []
    for c in range(s):
        reaching = [t for t in range(k) if (t * d - c - lo) % s == 0]
        if not reaching:
            found.append(_Phase(0, 0, 1, 1, (0, 0)))
            continue
        # The last tap reads the earliest input, so it is the first of the dense kernel.
        before = (reaching[-1] * d - c - lo) // s
        count = len(reaching)
        dilation = step * d // s if count > 1 else 1
        after = size - n - before + extent(count, dilation) - 1
        found.append(_Phase(k - 1 - reaching[-1], count, step, dilation, (before, after)))
    return found


def _taps_of(w: Node, layout: str, spatial: str, phases: Iterable[_Phase]) -> Node:
    for letter, phase in zip(spatial, phases, strict=True):
        w = plan.slice_axis(w, layout.index(letter), phase.first, phase.count, phase.step)
    return w


def _joined(kernels: list[Node], axis: int, groups: int) -> Node:
    """Kernels end to end along the output channels of each group."""
    shape = kernels[0].shape
    split = (*shape[:axis], groups, shape[axis] // groups, *shape[axis + 1 :])
    w = plan.concat([plan.reshape(kernel, split) for kernel in kernels], axis + 1)
    return plan.reshape(w, (*shape[:axis], shape[axis] * len(kernels), *shape[axis + 1 :]))


def _parted(y: Node, axis: int, groups: int, count: int) -> list[Node]:
    """What kernels that were joined give: one result each, along a new first axis."""
    shape = y.shape
    per_group = shape[axis] // count // groups
    y = plan.reshape(y, (*shape[:axis], groups, count, per_group, *shape[axis + 1 :]))
    rest = [i for i in range(len(y.shape)) if i != axis + 1]
    y = plan.permute(y, (axis + 1, *rest))
    y = plan.reshape(y, (count, *shape[:axis], groups * per_group, *shape[axis + 1 :]))
    return [plan.slice_axis(y, 0, i, 1) for i in range(count)]


def _interleaved(call: Call, y: Node, layout: str, each: tuple[int, ...]) -> Node:
    """(residues, *layout) -> the output in ``layout``."""
    y = plan.reshape(y, (*call.stride, *y.shape[1:]))
    axes: list[int] = []
    for i, letter in enumerate(layout):
        axes.append(call.rank + i)
        if letter in call.spatial:
            axes.append(call.spatial.index(letter))
    y = plan.permute(y, axes)
    sizes = {"N": call.batch, "C": call.out_channels}
    sizes.update({c: m * s for c, m, s in zip(call.spatial, each, call.stride, strict=True)})
    y = plan.reshape(y, tuple(sizes[letter] for letter in layout))
    for letter, size in zip(call.spatial, call.output_size, strict=True):
        y = plan.slice_axis(y, layout.index(letter), 0, size)
    return y


ALGORITHMS: dict[str, Rule] = {
    "phases": phases,
    "point": point,
    "samples": samples,
    "spread": spread,
    "stack": stack,
    "subpixel": subpixel,
    "repeat": repeat,
    "taps": taps,
}
