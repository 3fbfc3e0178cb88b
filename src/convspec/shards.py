"""A convolution whose input lies in shards on several processes: what each computes from what.

Each process owns a box of the input and computes a box of the output. Here is which parts of which
shards that takes, and which outputs its own shard suffices for, so that they can be computed while
the rest is on its way. All of it is plain integers; nothing is computed or sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, product
from math import prod

from .errors import ShapeError
from .problem import Problem, resolve
from .spec import ConvSpec
from .tiles import Pair, Range, Tile, owned_chunks, reads, tile

Index = tuple[int, ...]
Box = tuple[Range, ...]


@dataclass(frozen=True, slots=True)
class Piece:
    """A box of a shard, for each axis of ``layout`` as ``(start, stop)`` within it."""

    shard: Index
    box: Box

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the box."""
        return tuple(stop - start for start, stop in self.box)


@dataclass(frozen=True, slots=True)
class Step:
    """Some of a shard's outputs: what to put together, and the spec to run on it.

    Attributes:
        spec: the convolution to run.
        reads: ``(number of a piece, box within the piece)``, row-major in ``grid``.
        grid: how many of them lie end to end along each axis of ``layout``.
        output_shape: of what comes out, in ``output_layout``.
    """

    spec: ConvSpec
    reads: tuple[tuple[int, Box], ...]
    grid: tuple[int, ...]
    output_shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Border:
    """What lies before and after the rest along an axis of the output; None for nothing."""

    axis: int
    before: Step | None
    after: Step | None


@dataclass(frozen=True, slots=True)
class Part:
    """What one process computes.

    Attributes:
        index: of its shard, one number for each axis of ``layout``.
        output: ``(start, stop)`` for each axis of ``output_layout``.
        pieces: what it reads, of its own shard and of others'.
        interior: the outputs that its own shard suffices for; None where there are none.
        borders: the others, from the inside to the outside: each goes around what is there
            already. Without an interior the first of them has all outputs as its ``after``. None
            at all and no interior: this part has no outputs.
    """

    index: Index
    output: Box
    pieces: tuple[Piece, ...]
    interior: Step | None
    borders: tuple[Border, ...]

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of its output, in ``output_layout``."""
        return tuple(stop - start for start, stop in self.output)

    @property
    def received(self) -> tuple[Piece, ...]:
        """The pieces of others' shards."""
        return tuple(piece for piece in self.pieces if piece.shard != self.index)


class Shards:
    """One convolution in shards.

    Args:
        problem: the whole.
        input_sizes: for each axis of ``layout`` the sizes of all shards in turn, 0 among them;
            that of C is one.
        output_sizes: likewise for each axis of ``output_layout``, with as many shards for each
            letter. By default an output lies with the input position that it starts from
            (:func:`~convspec.tiles.owned_chunks`).

    Raises:
        ShapeError: sizes that do not make the axis, or another number of shards.
    """

    def __init__(
        self,
        problem: Problem,
        input_sizes: Sequence[Sequence[int]],
        output_sizes: Sequence[Sequence[int]] | None = None,
    ) -> None:
        self.problem = problem
        self.input_sizes = _checked("input_sizes", problem.layout, input_sizes, problem.input_shape)
        if output_sizes is None:
            output_sizes = owned_chunks(problem, self.input_sizes, empty=True)
        self.output_sizes = _checked(
            "output_sizes", problem.output_layout, output_sizes, problem.output_shape
        )
        counts = dict(zip(problem.layout, map(len, self.input_sizes), strict=True))
        for letter, sizes in zip(problem.output_layout, self.output_sizes, strict=True):
            if len(sizes) != counts[letter] or (letter == "C" and len(sizes) > 1):
                raise ShapeError(
                    f"output_sizes (axis {letter}): expected {counts[letter]} shards, as the "
                    f"input has on it, and one on C; got {tuple(sizes)}."
                )
        self._edges = [tuple(accumulate(sizes, initial=0)) for sizes in self.input_sizes]
        self._output_edges = [tuple(accumulate(sizes, initial=0)) for sizes in self.output_sizes]

    @property
    def grid(self) -> Index:
        """How many shards each axis of ``layout`` has."""
        return tuple(map(len, self.input_sizes))

    def part(self, index: Index) -> Part:
        """What the process with this shard computes."""
        problem = self.problem
        at = dict(zip(problem.layout, index, strict=True))
        output = tuple(
            (edges[at[letter]], edges[at[letter] + 1])
            for letter, edges in zip(problem.output_layout, self._output_edges, strict=True)
        )
        if any(start == stop for start, stop in output):
            return Part(index, output, (), None, ())
        whole = tile(problem, output)
        by_axis = whole.pieces(self._edges)
        pieces = tuple(
            Piece(tuple(p[0] for p in chosen), tuple(p[1:] for p in chosen))
            for chosen in product(*by_axis)
        )
        bounds = [tuple(accumulate((b - a for _, a, b in ps), initial=0)) for ps in by_axis]
        inner = resolve(whole.spec, whole.input_shape, None)
        interior, borders = _steps(inner, bounds, _own_runs(by_axis, bounds, index))
        return Part(index, output, pieces, interior, borders)

    def sends(self, index: Index) -> dict[Index, tuple[Piece, ...]]:
        """For each other shard that needs some of this one, what it needs."""
        needed = {
            other: tuple(piece for piece in self.part(other).pieces if piece.shard == index)
            for other in product(*map(range, self.grid))
            if other != index
        }
        return {other: pieces for other, pieces in needed.items() if pieces}

    def halo_elements(self) -> int:
        """How many elements all processes together receive from others."""
        parts = map(self.part, product(*map(range, self.grid)))
        return sum(prod(piece.shape) for part in parts for piece in part.received)


def even_sizes(size: int, count: int) -> tuple[int, ...]:
    """The sizes of shards that are alike, ceil(size/count), as long as there is something left."""
    each = -(-size // count)
    return tuple(max(min(each, size - i * each), 0) for i in range(count))


def _checked(
    name: str, layout: str, sizes: Sequence[Sequence[int]], shape: Sequence[int]
) -> tuple[tuple[int, ...], ...]:
    for letter, given, size in zip(layout, sizes, shape, strict=True):
        if sum(given) != size or any(n < 0 for n in given):
            raise ShapeError(
                f"{name} (axis {letter}): {tuple(given)} makes {sum(given)}, the axis has {size}."
            )
    return tuple(map(tuple, sizes))


# ---- equal shards, which all run one program ----


@dataclass(frozen=True, slots=True)
class Window:
    """What each of an axis's equal shards computes, in steps that are the same for all.

    ``before`` positions of the input, the shard and ``after`` positions lie end to end; from
    ``starts`` on, ``size`` of them are the slab that is convolved with ``padding``. Of what that
    gives, ``outputs`` positions from ``crops`` on are the shard's.

    Attributes:
        starts, crops: for each shard.
        padding: transposed, what the spec crops; forward there is none left.
    """

    before: int
    after: int
    starts: tuple[int, ...]
    size: int
    padding: Pair
    crops: tuple[int, ...]
    outputs: int


def uncut(problem: Problem, axis: int) -> Pair:
    """The padding of an axis that is not split, for a spec without output padding."""
    lo, hi = problem.padding[axis]
    return lo, hi - problem.output_padding[axis]


def window(problem: Problem, axis: int, count: int) -> Window:
    """The window of ``count`` equal shards of a spatial axis.

    Positions outside of the input are zeros, or what ``padding_mode`` reads there.

    Raises:
        ShapeError: the shards, of the input or of the output, cannot be equal.
    """
    letter, n, out = problem.spatial[axis], problem.input_size[axis], problem.output_size[axis]
    for name, size in (("input", n), ("output", out)):
        if size % count:
            raise ShapeError(
                f"x: {count} devices cannot share axis {letter} equally: the {name} has {size} "
                f"positions on it.\n  Pad it, or split it over a number that divides {size}."
            )
    m, o = n // count, out // count
    s, lo = problem.stride[axis], problem.padding[axis][0]
    e = problem.dilation[axis] * (problem.kernel_size[axis] - 1) + 1
    firsts = [r * o for r in range(count)]
    if problem.transposed:
        # Input position i reaches outputs i*s - lo to i*s - lo + e - 1.
        lows = [-((e - 1 - lo - first) // s) for first in firsts]
        size = max((f + o - 1 + lo) // s + 1 - a for f, a in zip(firsts, lows, strict=True))
        size = max(size, 1)
        crops = [first + lo - low * s for first, low in zip(firsts, lows, strict=True)]
        least, most = min(crops), max(crops)
        padding = (least, (size - 1) * s + e - most - o)
        crops = [crop - least for crop in crops]
    else:
        lows = [first * s - lo for first in firsts]
        size, padding, crops = (o - 1) * s + e, (0, 0), [0] * count
    starts = [low - r * m for r, low in enumerate(lows)]
    before = max(0, -min(starts))
    return Window(
        before=before,
        after=max(0, max(starts) + size - m),
        starts=tuple(start + before for start in starts),
        size=size,
        padding=padding,
        crops=tuple(crops),
        outputs=o,
    )


# ---- the interior, and what goes around it ----


def _own_runs(
    by_axis: Sequence[Sequence[tuple[int, int, int]]],
    bounds: Sequence[Sequence[int]],
    index: Index,
) -> list[Range]:
    """For each axis the longest run of the slab that this shard has itself."""
    runs = []
    for pieces, edges, own in zip(by_axis, bounds, index, strict=True):
        best = (0, 0)
        start = 0
        for (shard, _, _), end in zip(pieces, edges[1:], strict=True):
            if shard != own:
                start = end
            elif end - start > best[1] - best[0]:
                best = (start, end)
        runs.append(best)
    return runs


def _steps(
    problem: Problem, bounds: Sequence[Sequence[int]], runs: Sequence[Range]
) -> tuple[Step | None, tuple[Border, ...]]:
    """The interior of a slab's outputs, and the borders around it."""

    def step(box: dict[str, Range]) -> Step:
        ranges = tuple(box[letter] for letter in problem.output_layout)
        return _step(tile(problem, ranges), bounds)

    whole = {c: (0, n) for c, n in zip(problem.output_layout, problem.output_shape, strict=True)}
    own = dict(zip(problem.layout, runs, strict=True))
    found = [_suffices(problem, i, own[letter]) for i, letter in enumerate(problem.spatial)]
    batch = "N" not in own or own["N"] == whole["N"]
    if not batch or any(start == stop for start, stop in found):
        return None, (Border(0, None, step(whole)),)
    inside = whole | dict(zip(problem.spatial, found, strict=True))
    interior = step(inside)
    borders = []
    around = dict(inside)
    for letter in problem.spatial:
        (start, stop), (_, size) = inside[letter], whole[letter]
        before = step(around | {letter: (0, start)}) if start > 0 else None
        after = step(around | {letter: (stop, size)}) if stop < size else None
        if before or after:
            borders.append(Border(problem.output_layout.index(letter), before, after))
        around[letter] = whole[letter]
    return interior, tuple(borders)


def _suffices(problem: Problem, axis: int, run: Range) -> Range:
    """The outputs of an axis that read nothing but a run of the input; (0, 0) for none."""

    def inside(start: int, stop: int) -> bool:
        ranges, _ = reads(problem, axis, start, stop)
        return all(run[0] <= a and b <= run[1] for a, b in ranges)

    size = problem.output_size[axis]
    start, stop = 0, size
    while start < stop and not inside(start, start + 1):
        start += 1
    while start < stop and not inside(stop - 1, stop):
        stop -= 1
    return (start, stop) if start < stop and inside(start, stop) else (0, 0)


def _step(part: Tile, bounds: Sequence[Sequence[int]]) -> Step:
    """A tile of a slab as what it takes from the pieces of the slab."""
    by_axis = part.pieces(bounds)
    counts = [len(edges) - 1 for edges in bounds]
    found = []
    for chosen in product(*by_axis):
        number = 0
        for (i, _, _), count in zip(chosen, counts, strict=True):
            number = number * count + i
        found.append((number, tuple((start, stop) for _, start, stop in chosen)))
    return Step(part.spec, tuple(found), tuple(map(len, by_axis)), part.output_shape)
