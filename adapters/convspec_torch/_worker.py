"""What one process of many does for a convolution in shards, by the plan of the core."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch.distributed.device_mesh import DeviceMesh

from convspec import get_backend
from convspec.shards import Part, Shards, Step
from convspec.tiles import joined

from . import _arrays
from ._exchange import Attach, Cut, Exchange, Finish, Shared, Start

Index = tuple[int, ...]


class Grid:
    """The processes of some dimensions of a mesh, those of this process on the others.

    Attributes:
        axes: the letter of the axis that each of the dimensions splits.
        ranks: of the world, an array with one axis for each of ``axes``.
        coordinate: of this process in it.
        groups: a process group for each of ``axes``.
        device: kind of device that messages lie on.
    """

    def __init__(
        self, mesh: DeviceMesh, groups: Sequence[Any], dims: Sequence[int], axes: str
    ) -> None:
        at = mesh.get_coordinate()
        others = tuple(slice(None) if i in dims else at[i] for i in range(mesh.ndim))
        kept = [i for i in range(mesh.ndim) if i in dims]
        self.axes = axes
        self.ranks = mesh.mesh[others].permute([kept.index(i) for i in dims])
        self.coordinate = tuple(at[i] for i in dims)
        self.groups = [groups[i] for i in dims]
        self.device = mesh.device_type

    def shard(self, layout: str, coordinate: Sequence[int]) -> Index:
        """The index of a process's shard, for each axis of ``layout``."""
        at = dict(zip(self.axes, coordinate, strict=True))
        return tuple(at.get(letter, 0) for letter in layout)

    def rank(self, layout: str, shard: Index) -> int:
        """Whose shard it is."""
        at = dict(zip(layout, shard, strict=True))
        return int(self.ranks[tuple(at[letter] for letter in self.axes)])


class Worker:
    """One process's part of a convolution in shards.

    Attributes:
        part: what it computes.
        receives: how many elements come from which rank.
    """

    def __init__(self, shards: Shards, grid: Grid, timeout: float | None) -> None:
        layout = shards.problem.layout
        index = grid.shard(layout, grid.coordinate)
        self.part: Part = shards.part(index)
        self.receives: dict[int, int] = {}
        for piece in self.part.received:
            rank = grid.rank(layout, piece.shard)
            self.receives[rank] = self.receives.get(rank, 0) + prod(piece.shape)
        sends = shards.sends(index)
        self._sends = [grid.rank(layout, other) for other in sends]
        self._counts = [len(pieces) for pieces in sends.values()]
        #: For each piece the rank that has it, None for this process itself.
        self._owners = [
            None if piece.shard == index else grid.rank(layout, piece.shard)
            for piece in self.part.pieces
        ]
        # Of its shard, first a box of nothing, by which all results hang together with x.
        self._cuts = [((0, 0),) * len(layout)]
        self._cuts += [piece.box for pieces in sends.values() for piece in pieces]
        self._cuts += [piece.box for piece in self.part.pieces if piece.shard == index]
        self._groups = grid.groups
        self._timeout = timeout

    def __call__(
        self, x: Any, weight: Any, bias: Any = None, *, out_dtype: str | None = None
    ) -> Any:
        """This process's shard of the output; all of ``grid`` have to call theirs."""
        weight = Shared.apply(weight, self._groups)
        bias = None if bias is None else Shared.apply(bias, self._groups)
        rest = (weight, bias, out_dtype)
        nothing, *cuts = Cut.apply(x, self._cuts)
        exchange = Exchange(self._sends, self.receives, self._timeout)
        token = Start.apply(exchange, nothing.sum().to(x.dtype), *self._messages(cuts))
        own = iter(cuts[sum(self._counts) :])
        pieces = [next(own) if owner is None else None for owner in self._owners]
        part = self.part
        y = None if part.interior is None else _run(part.interior, pieces, *rest)
        token, *arrived = Finish.apply(exchange, token)
        self._unpack(pieces, arrived)
        for border in part.borders:
            ends = [step and _run(step, pieces, *rest) for step in (border.before, border.after)]
            around = [array for array in (ends[0], y, ends[1]) if array is not None]
            y = around[0] if len(around) == 1 else torch.cat(around, border.axis)
        return Attach.apply(self._empty(x, *rest) if y is None else y, token)

    def _messages(self, cuts: Sequence[Any]) -> list[Any]:
        """One flat message for each process that gets one."""
        rest = iter(cuts)
        return [torch.cat([next(rest).reshape(-1) for _ in range(count)]) for count in self._counts]

    def _unpack(self, pieces: list[Any], arrived: Sequence[Any]) -> None:
        """Put what has come among the pieces, in the order in which the sender had them."""
        for rank, message in zip(self.receives, arrived, strict=True):
            places = [i for i, owner in enumerate(self._owners) if owner == rank]
            shapes = [self.part.pieces[i].shape for i in places]
            flat = message.split([prod(shape) for shape in shapes])
            for i, values, shape in zip(places, flat, shapes, strict=True):
                pieces[i] = values.view(shape)

    def _empty(self, x: Any, weight: Any, bias: Any, out_dtype: Any) -> Any:
        """No outputs; but the gradients of weight and bias are summed here too."""
        name = out_dtype or get_backend("torch").promoted(_arrays.name_of(x.dtype), x.device.type)
        dtype = _arrays.TYPES[name]
        y = x.new_zeros(self.part.output_shape, dtype=dtype)
        for array in (weight, bias):
            y = y if array is None else y + array.reshape(-1)[:0].sum().to(dtype)
        return y


def _run(step: Step, pieces: Sequence[Any], weight: Any, bias: Any, out_dtype: Any) -> Any:
    parts = [
        pieces[number][tuple(slice(start, stop) for start, stop in box)]
        for number, box in step.reads
    ]
    return step.spec(joined(parts, step.grid, torch.cat), weight, bias, out_dtype=out_dtype)
