"""Which part of the input each part of the output needs: a convolution in tiles.

A tile is a box of the output. It comes with the slab of the input that it reads, and with a spec
that, run on the slab, gives the tile, bit for bit what the whole would have there. All of it is
plain integers; nothing is computed and no framework is needed.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate, pairwise, product
from math import prod
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from .arguments import entries, integer, shown
from .errors import ShapeError

if TYPE_CHECKING:
    from .problem import Problem
    from .spec import ConvSpec

Range = tuple[int, int]
Piece = tuple[int, int, int]
Pair = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Tile:
    """One box of the output, and what to compute it from.

    Attributes:
        index: which chunk of each axis of ``output_layout``.
        output: ``(start, stop)`` for each axis of ``output_layout``.
        input: for each axis of ``layout`` the ranges to read, end to end: one ``(start, stop)``,
            or two where circular padding wraps.
        spec: the convolution to run on the slab; its ``padding`` and ``padding_mode`` say what
            the slab still lacks on each side, negative amounts what it has too much.
    """

    index: tuple[int, ...]
    output: tuple[Range, ...]
    input: tuple[tuple[Range, ...], ...]
    spec: ConvSpec

    @property
    def padding(self) -> tuple[Pair, ...]:
        """``(lo, hi)`` for each spatial axis, as in ``spec``."""
        return self.spec.padding  # type: ignore[return-value]  # tiles have no named padding

    @property
    def padding_mode(self) -> str:
        """What is read beyond the slab, as in ``spec``."""
        return self.spec.padding_mode

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of the slab, in ``layout``."""
        return tuple(sum(stop - start for start, stop in ranges) for ranges in self.input)

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of the tile, in ``output_layout``."""
        return tuple(stop - start for start, stop in self.output)

    def pieces(self, edges: Sequence[Sequence[int]]) -> list[list[Piece]]:
        """What the slab takes from each chunk of the input, for each axis of ``layout``.

        Args:
            edges: for each axis of ``layout`` where its chunks start, and the size at the end.

        Returns:
            For each axis, end to end, ``(chunk, start, stop)`` with the range within the chunk.
        """
        return [
            [piece for start, stop in ranges for piece in _within(ends, start, stop)]
            for ranges, ends in zip(self.input, edges, strict=True)
        ]

    @property
    def where(self) -> tuple[slice, ...]:
        """Index of the tile in the output."""
        return tuple(slice(start, stop) for start, stop in self.output)

    def read(self, x: Any, concatenate: Callable[[list[Any], int], Any] = np.concatenate) -> Any:
        """The slab of ``x``: a view, but where two ranges of an axis are put end to end.

        Args:
            x: anything that is indexed by slices, in ``layout``.
            concatenate: joins a list of such arrays along an axis, as ``torch.cat`` does.
        """
        x = x[tuple(slice(r[0][0], r[0][1]) if len(r) == 1 else slice(None) for r in self.input)]
        for axis, ranges in enumerate(self.input):
            if len(ranges) > 1:
                before = (slice(None),) * axis
                x = concatenate([x[(*before, slice(a, b))] for a, b in ranges], axis)
        return x


class Tiles(Sequence[Tile]):
    """The tiles of one output in row-major order, made when asked for.

    Attributes:
        grid: how many chunks each axis of ``output_layout`` has.
        input_shape, output_shape: of the whole.
    """

    def __init__(self, problem: Problem, chunks: Any) -> None:
        self._problem = problem
        self.input_shape: tuple[int, ...] = problem.input_shape
        self.output_shape: tuple[int, ...] = problem.output_shape
        self._starts = _boundaries(problem, chunks)
        self.grid = tuple(len(starts) for starts in self._starts)

    def __len__(self) -> int:
        return prod(self.grid)

    def __iter__(self) -> Iterator[Tile]:
        return map(self._tile, product(*map(range, self.grid)))

    @overload
    def __getitem__(self, at: int | tuple[int, ...]) -> Tile: ...
    @overload
    def __getitem__(self, at: slice) -> list[Tile]: ...
    def __getitem__(self, at: int | tuple[int, ...] | slice) -> Tile | list[Tile]:
        """A tile by its number, or by its chunk on each axis of ``output_layout``."""
        if isinstance(at, slice):
            return [self[i] for i in range(*at.indices(len(self)))]
        if isinstance(at, tuple):
            if len(at) != len(self.grid):
                raise IndexError(f"tile {at}: expected one chunk for each axis, grid {self.grid}")
            return self._tile(tuple(range(n)[i] for i, n in zip(at, self.grid, strict=True)))
        number = range(len(self))[at]
        index = []
        for count in reversed(self.grid):
            number, i = divmod(number, count)
            index.append(i)
        return self._tile(tuple(reversed(index)))

    def _tile(self, index: tuple[int, ...]) -> Tile:
        output = tuple(
            (starts[i], starts[i + 1] if i + 1 < len(starts) else size)
            for i, starts, size in zip(index, self._starts, self.output_shape, strict=True)
        )
        return tile(self._problem, output, index)


def tile(problem: Problem, output: tuple[Range, ...], index: tuple[int, ...] = ()) -> Tile:
    """The tile of any box of the output.

    Args:
        problem: the whole convolution.
        output: ``(start, stop)`` for each axis of ``output_layout``, none of them empty but N.
        index: what the tile is to be known by.
    """
    named = dict(zip(problem.output_layout, output, strict=True))
    read: dict[str, tuple[Range, ...]] = {"C": ((0, problem.in_channels),)}
    if "N" in named:
        read["N"] = (named["N"],)
    padding = []
    for axis, letter in enumerate(problem.spatial):
        read[letter], amounts = reads(problem, axis, *named[letter])
        padding.append(amounts)
    return Tile(
        index,
        output,
        tuple(read[letter] for letter in problem.layout),
        part_of(problem, tuple(padding)),
    )


@lru_cache(maxsize=1024)  # inner tiles all have the same
def part_of(problem: Problem, padding: tuple[Pair, ...]) -> ConvSpec:
    """The problem's convolution with other amounts of padding."""
    from .spec import ConvSpec

    return ConvSpec(
        problem.in_channels,
        problem.out_channels,
        problem.kernel_size,
        problem.stride,
        padding,
        problem.dilation,
        problem.groups,
        padding_mode=problem.padding_mode,
        transposed=problem.transposed,
        layout=problem.layout,
        output_layout=problem.output_layout,
        weight_layout=problem.weight_layout,
        flip_kernel=problem.flip_kernel,
        group_axis=problem.group_axis,
    )


def joined(
    parts: list[Any],
    grid: Sequence[int],
    concatenate: Callable[[list[Any], int], Any] = np.concatenate,
) -> Any:
    """Arrays in row-major order of ``grid``, put end to end along every axis."""
    for axis in reversed(range(len(grid))):
        n = grid[axis]
        parts = [
            parts[i] if n == 1 else concatenate(parts[i : i + n], axis)
            for i in range(0, len(parts), n)
        ]
    return parts[0]


# ---- one axis ----


def reads(problem: Problem, axis: int, start: int, stop: int) -> tuple[tuple[Range, ...], Pair]:
    """What output positions ``start`` to ``stop`` of a spatial axis read.

    Returns:
        Ranges of the input, and the amounts of padding that they still lack on each side
        (transposed, the amounts that are to be cropped).
    """
    part = _transposed if problem.transposed else _forward
    return part(problem, axis, start, stop)


def _within(edges: Sequence[int], start: int, stop: int) -> Iterator[Piece]:
    """(chunk, start, stop) for each chunk that lies between ``start`` and ``stop``."""
    for i in range(bisect_right(edges, start) - 1, len(edges) - 1):
        low, high = max(start, edges[i]), min(stop, edges[i + 1])
        if low < high:
            yield i, low - edges[i], high - edges[i]
        if edges[i + 1] >= stop:
            return


def _forward(problem: Problem, axis: int, start: int, stop: int) -> tuple[tuple[Range, ...], Pair]:
    """What output positions ``start`` to ``stop`` read: ranges, and the padding that is left.

    They read positions a to b of the input, some of which may lie outside of it.
    """
    n, s, lo = problem.input_size[axis], problem.stride[axis], problem.padding[axis][0]
    e = problem.dilation[axis] * (problem.kernel_size[axis] - 1) + 1
    a, b = start * s - lo, (stop - 1) * s - lo + e
    if problem.padding_mode == "circular":
        if a >= n or b <= 0:  # one turn further is all inside, or wraps once
            turn = n if a >= n else -n
            a, b = a - turn, b - turn
        if a >= 0 and b <= n:
            return ((a, b),), (0, 0)
        if a >= 0:
            return ((a, n), (0, b - n)), (0, 0)
        if b <= n:
            return ((n + a, n), (0, b)), (0, 0)
        return ((0, n),), (-a, b - n)
    low, high = max(a, 0), min(b, n)
    if problem.padding_mode == "reflect":
        # Position p below 0 reads -p, and position p from n on reads 2*(n-1) - p.
        low = min(low, 2 * (n - 1) - (b - 1)) if b > n else low
        high = max(high, 1 - a) if a < 0 else high
    # A tile that reads nothing but padding still has a slab of one position, all of it cropped.
    low, high = min(low, n - 1), max(high, 1)
    return ((low, high),), (low - a, b - high)


def _transposed(
    problem: Problem, axis: int, start: int, stop: int
) -> tuple[tuple[Range, ...], Pair]:
    """What output positions ``start`` to ``stop`` read, and how to crop what the slab gives.

    Input position i reaches outputs i*s - lo to i*s - lo + e - 1.
    """
    n, s, lo = problem.input_size[axis], problem.stride[axis], problem.padding[axis][0]
    e = problem.dilation[axis] * (problem.kernel_size[axis] - 1) + 1
    low, high = max(-((e - 1 - lo - start) // s), 0), min((stop - 1 + lo) // s + 1, n)
    # A tile that no position reaches still has a slab of one, all of what it gives cropped.
    low = min(low, max(high - 1, 0))
    high = max(high, low + 1)
    crop = start + lo - low * s
    full = (high - low - 1) * s + e
    return ((low, high),), (crop, full - crop - (stop - start))


# ---- chunks ----


def _boundaries(problem: Problem, chunks: Any) -> list[Sequence[int]]:
    """Where the chunks of each axis of ``output_layout`` start."""
    letters = problem.output_layout
    given = entries("output_chunks", chunks)
    if given is None:
        given = [chunks] * problem.rank
    if len(given) == problem.rank:
        by_letter = dict(zip(problem.spatial, given, strict=True))
    elif len(given) == len(letters):
        by_letter = dict(zip(letters, given, strict=True))
    else:
        raise ShapeError(
            f"output_chunks: expected one entry for each spatial axis ({problem.spatial}) or for "
            f"each axis of the output ({letters}), got {shown(chunks)}."
        )
    sizes = dict(zip(letters, problem.output_shape, strict=True))
    starts = [_starts(letter, by_letter.get(letter), sizes[letter]) for letter in letters]
    if len(starts[letters.index("C")]) > 1:
        raise ShapeError(
            f"output_chunks: axis C has to stay whole, all {sizes['C']} channels of it; a part of "
            f"the output channels is a convolution with a part of the weight."
        )
    return starts


def _starts(letter: str, chunk: Any, size: int) -> Sequence[int]:
    name = f"output_chunks (axis {letter})"
    if chunk is None:
        return range(0, size, max(size, 1))
    listed = entries(name, chunk)
    if listed is None:
        width = integer(name, chunk)
        if width == -1:
            return range(0, size, max(size, 1))
        return range(0, size, integer(name, width, minimum=1))
    widths = [integer(name, width, minimum=1) for width in listed]
    if sum(widths) != size:
        raise ShapeError(f"{name}: {shown(chunk)} makes {sum(widths)}, the axis has {size}.")
    return tuple(accumulate(widths, initial=0))[:-1]


def owned_chunks(
    problem: Problem, input_chunks: Sequence[Sequence[int]], *, empty: bool = False
) -> tuple[tuple[int, ...], ...]:
    """Chunks of the output that follow those of the input.

    An output lies in the chunk of the input position that it starts from: o*stride for output o
    (transposed, o // stride). So with "same" padding and no stride they are the input's own.

    Args:
        problem: the whole convolution.
        input_chunks: the sizes of all chunks, for each axis of ``layout``.
        empty: keep a chunk that owns no output, as 0; otherwise it is left out.

    Returns:
        The sizes of all chunks, for each axis of ``output_layout``; C is one.
    """
    given = dict(zip(problem.layout, input_chunks, strict=True))
    sizes = dict(zip(problem.output_layout, problem.output_shape, strict=True))
    found: dict[str, tuple[int, ...]] = {"C": (problem.out_channels,)}
    if "N" in given:
        found["N"] = tuple(given["N"])
    for letter, s in zip(problem.spatial, problem.stride, strict=True):
        ends = list(accumulate(given[letter]))
        ends = [end * s if problem.transposed else -(-end // s) for end in ends]
        ends[-1] = sizes[letter]
        edges = [0, *(min(end, sizes[letter]) for end in ends)]
        found[letter] = tuple(b - a for a, b in pairwise(edges) if b > a or empty)
    return tuple(found[letter] for letter in problem.output_layout)


# ---- overlap ----


def halo(spec: ConvSpec) -> tuple[Pair, ...]:
    """See :attr:`ConvSpec.halo`."""
    amounts = []
    for s, e, entry in zip(spec.stride, spec.receptive_field, spec.padding, strict=True):
        if isinstance(entry, str):
            # The amounts follow from the size: total is e - s where s divides it, up to e - 1.
            totals = {max(e - rest, 0) for rest in range(1, s + 1)}
            halves = [(total // 2, total - total // 2) for total in totals]
            pads = [lo if entry == "same" else hi for lo, hi in halves]
        else:
            pads = [entry[0]]
        if spec.transposed:
            sides = [((e - 1 - lo) // s, (s - 1 + lo) // s) for lo in pads]
        else:
            sides = [(lo, e - s - lo) for lo in pads]
        amounts.append((max(0, *(a for a, _ in sides)), max(0, *(b for _, b in sides))))
    return tuple(amounts)
