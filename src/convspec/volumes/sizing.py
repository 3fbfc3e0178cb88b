"""Tiles that fit into the memory there is."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from ..arguments import shown
from ..errors import ConvSpecError
from ..problem import Problem
from ..tiles import Range
from . import slabs

#: Tiles of more bytes than these gain nothing, but a run that is stopped loses more.
LARGEST_TILE = 2**30
#: Most bytes of one call of the engine, and the part of a tile's bytes that is set aside for it.
LARGEST_WORKSPACE, WORKSPACE_SHARE = 2**29, 2
#: Work that is little more than other; multiply-adds in the time that an element takes to be read.
LITTLE, READING = 1.02, 30
#: Tiles are cut at multiples of this, so that the chunks of a zarr store divide them.
STEP = 16
UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def bytes_of(memory: int | str, name: str = "memory") -> int:
    """A number of bytes, from one or from text such as ``1.5GB`` (of 1024 MB each).

    Raises:
        ConvSpecError: it is none.
    """
    if isinstance(memory, int) and not isinstance(memory, bool) and memory > 0:
        return memory
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)i?B?\s*", str(memory), re.IGNORECASE)
    if isinstance(memory, str) and found and float(found[1]) > 0:
        return int(float(found[1]) * UNITS[found[2].upper()])
    raise ConvSpecError(f"{name}: expected bytes, such as 1GB or 500MB, got {shown(memory)}.")


def in_words(size: int) -> str:
    """Bytes as text: ``1.5 GB``."""
    for unit, step in (("GB", 2**30), ("MB", 2**20), ("kB", 2**10)):
        if size >= step:
            return (
                f"{size / step:.3g} {unit}" if size < 1000 * step else f"{size / step:.0f} {unit}"
            )
    return f"{size} bytes"


@dataclass(frozen=True)
class Plan:
    """How a result is cut.

    Attributes:
        tile: size of a tile on each axis of the last ``output_layout``; C is whole.
        workspace: bytes of one call of the engine.
        bytes: what a worker needs for a tile at most.
    """

    tile: tuple[int, ...]
    workspace: int
    bytes: int


@dataclass(frozen=True)
class Costs:
    """What a tile costs beside the layers.

    Attributes:
        itemsize: bytes of an element that is computed with.
        read_itemsize: bytes of an element of the volume.
        read_beside: bytes that reading takes besides, such as a decoded chunk.
    """

    itemsize: int
    read_itemsize: int
    read_beside: int = 0


def plan_for(problems: Sequence[Problem], tile: Sequence[int], costs: Costs, limit: int) -> Plan:
    """The plan of given tiles, its calls of the engine within a share of ``limit``."""
    smallest = max(_one(problem, costs.itemsize) for problem in problems)
    workspace = max(min(limit // WORKSPACE_SHARE, LARGEST_WORKSPACE), smallest)
    return Plan(tuple(tile), workspace, _bytes(problems, tile, costs, workspace))


def choose(
    problems: Sequence[Problem], costs: Costs, limit: int, *, at_least: int = 1
) -> Plan | None:
    """Tiles that need at most ``limit`` bytes each, and compute little twice; None if none do.

    The whole is halved, again and again on the axis where that costs least; where others cost
    little more, on the outermost, so that what is read lies together.

    Args:
        problems: the chain's.
        costs: what reading and writing take.
        limit: bytes for one tile.
        at_least: how many tiles there should be, if the output has as many positions.
    """
    limit = min(limit, LARGEST_TILE)
    letters = problems[-1].output_layout
    full = problems[-1].output_shape
    tile = [max(n, 1) for n in full]
    while True:
        plan = plan_for(problems, tile, costs, limit)
        count = prod(-(-max(n, 1) // t) for n, t in zip(full, tile, strict=True))
        if plan.bytes <= limit and count >= at_least:
            return plan
        smaller = []
        for i, letter in enumerate(letters):
            if letter != "C" and tile[i] > 1:
                candidate = [*tile]
                candidate[i] = _halved(tile[i])
                smaller.append((_work(problems, candidate), candidate))
        if not smaller:
            return plan if plan.bytes <= limit else None
        enough = LITTLE * min(work for work, _ in smaller)
        tile = next(candidate for work, candidate in smaller if work <= enough)


def smallest(problems: Sequence[Problem], costs: Costs) -> Plan:
    """The plan whose tiles are one position."""
    letters = problems[-1].output_layout
    tile = [problems[-1].out_channels if c == "C" else 1 for c in letters]
    return plan_for(problems, tile, costs, 1)


def _halved(n: int) -> int:
    half = -(-n // 2)
    return -(-half // STEP) * STEP if half > STEP else half


def _one(problem: Problem, itemsize: int) -> int:
    return slabs.needed(problem, dict.fromkeys(problem.output_layout, 1), itemsize)


def _bytes(problems: Sequence[Problem], tile: Sequence[int], costs: Costs, workspace: int) -> int:
    """What the largest tile takes at its worst moment."""
    needs = _largest(problems, tile)
    sizes = [prod(need.values()) for need in needs]
    moments = [sizes[0] * (costs.read_itemsize + costs.itemsize) + costs.read_beside]
    for problem, need, have, want in zip(problems, needs[1:], sizes, sizes[1:], strict=False):
        part = slabs.parts(problem, need, workspace, costs.itemsize)
        moments.append((have + want) * costs.itemsize + slabs.needed(problem, part, costs.itemsize))
    moments.append(3 * sizes[-1] * costs.itemsize)  # in the file's order, and encoded
    return max(moments)


def _work(problems: Sequence[Problem], tile: Sequence[int]) -> float:
    """Multiply-adds of a tile for each position of it, reading included."""
    needs = _largest(problems, tile)
    total = READING * prod(needs[0].values())
    for problem, have, want in zip(problems, needs, needs[1:], strict=False):
        positions = prod((have if problem.transposed else want)[c] for c in problem.spatial)
        channels = problem.in_channels * problem.out_channels // problem.groups
        total += positions * channels * prod(problem.kernel_size)
    return total / prod(tile)


def _largest(problems: Sequence[Problem], tile: Sequence[int]) -> list[dict[str, int]]:
    """The most positions that a tile needs of each axis, of the volume and of each layer."""
    last = problems[-1]
    found: list[dict[str, int]] = [{} for _ in range(len(problems) + 1)]
    for letter, step, n in zip(last.output_layout, tile, last.output_shape, strict=True):
        for start in _starts(n, step):
            box: dict[str, Range] = dict.fromkeys(last.output_layout, (0, 1))
            box[letter] = (start, min(start + step, max(n, 1)))
            for sizes, need in zip(found, slabs.needs(problems, box), strict=True):
                sizes[letter] = max(sizes.get(letter, 0), slabs.size(need[letter]))
    return found


def _starts(n: int, step: int) -> list[int]:
    """Starts of tiles on an axis: all of them, or of very many the first, the middle, the last."""
    starts = range(0, max(n, 1), step)
    some = 12
    if len(starts) <= 3 * some:
        return list(starts)
    middle = len(starts) // 2
    return [*starts[:some], *starts[middle : middle + some], *starts[-some:]]


def cuts(shape: Sequence[int], tile: Sequence[int], itemsize: int, limit: int) -> tuple[int, ...]:
    """Chunks of at most ``limit`` bytes, if that can be, that divide the tiles; see :data:`STEP`.

    On an axis that one tile covers, any chunk will do.
    """
    sizes = list(tile)
    while prod(sizes) * itemsize > limit:
        able = [
            i
            for i, (n, t) in enumerate(zip(shape, tile, strict=True))
            if sizes[i] > 1 and (t >= n or sizes[i] % 2 == 0)
        ]
        if not able:
            break
        longest = max(able, key=lambda i: sizes[i])
        sizes[longest] = -(-sizes[longest] // 2)
    return tuple(sizes)


def named(layout: str, index: Sequence[Any]) -> str:
    """A box in words: ``D 0:64, H 64:128``."""
    return ", ".join(f"{c} {a}:{b}" for c, (a, b) in zip(layout, index, strict=True))
