"""Convolutions whose input lies in shards on the processes of a ``torch.distributed`` mesh.

Each process holds a box of the input and computes a box of the output. What it lacks is on its way
while it computes what it can. Which parts those are, :mod:`convspec.shards` says.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh

from convspec import ConvSpec, calls
from convspec.arguments import shown
from convspec.dtypes import name_of
from convspec.errors import ConvSpecError, DTypeError, LayoutError, ShapeError
from convspec.problem import resolve
from convspec.shards import Shards

from . import _arrays
from ._exchange import GREETING, Exchange
from ._worker import Grid, Worker

__all__ = ["ShardedConv"]


class ShardedConv:
    """A convolution of an input that is split over a mesh along some of its axes.

    All processes of the mesh make it together, once for each shape, and compare what they were
    given. Then all of them call it together, as ``spec`` would be called, each with its shard.

    The results are the whole's. So are the gradients: that of the input comes in the same shards;
    those of weight and bias are summed over the mesh, so that each process has all of them. Weight
    and bias have to be the same everywhere.

    Args:
        spec: the convolution, the same on every process.
        input_shape: of this process's shard, in ``layout``. Along the split axes the shards may
            differ in size, and be empty.
        mesh: a ``DeviceMesh`` with one dimension for each of ``axes``; for one axis, a process
            group will do.
        axes: the letters of the split axes, as ``"D"`` or ``"HW"``, the mesh's first dimension
            first. The batch, ``"N"``, may be among them.
        dtype: of the input.
        output_sizes: for each of ``axes`` the sizes of the output's shards in turn. By default an
            output is computed where the input position lies that it starts from: o*stride for
            output o, transposed o // stride.
        output_size: as in a call of a transposed spec, of the whole.
        timeout: seconds to wait for another process, None for the process group's own.

    Attributes:
        input_sizes, output_sizes: the sizes of all shards, for each of ``axes``.
        input_shape, output_shape: of this process's shards.
        halo_bytes: how much this process receives in one call; as much leaves it backwards.

    Raises:
        ConvSpecError: the processes were given different things, or one does not answer.
        LayoutError, ShapeError: ``axes`` and ``mesh`` do not fit, or the shards make no whole.

    >>> conv = ShardedConv(spec, x.shape, mesh, "D")
    >>> y = conv(x, weight, bias)
    """

    def __init__(
        self,
        spec: ConvSpec,
        input_shape: Sequence[int],
        mesh: Any,
        axes: str,
        *,
        dtype: torch.dtype = torch.float32,
        output_sizes: Sequence[Sequence[int]] | None = None,
        output_size: int | Sequence[int] | None = None,
        timeout: float | None = None,
    ) -> None:
        self.spec = spec
        self.input_shape = tuple(map(int, input_shape))
        if len(self.input_shape) != len(spec.layout):
            raise LayoutError(
                f"input_shape: has {len(self.input_shape)} axes, but layout {spec.layout!r} names "
                f"{len(spec.layout)}.\n  input_shape: {shown(self.input_shape)}"
            )
        grid = _grid(spec, mesh, axes)
        given = {
            "axes": axes,
            "dtype": _arrays.name_of(dtype),
            "output_sizes": output_sizes,
            "output_size": output_size,
        }
        told = greetings(
            grid, {"spec": spec.to_dict(), "shape": self.input_shape, **given}, timeout
        )
        check_same_spec(spec, {rank: ConvSpec.from_dict(t["spec"]) for rank, t in told.items()})
        for name in given:
            check_same(name, {rank: t[name] for rank, t in told.items()})
        sizes = _sizes(spec, grid, {rank: t["shape"] for rank, t in told.items()})
        self.input_sizes = tuple(sizes[letter] for letter in axes)
        inputs = [sizes[letter] for letter in spec.layout]
        self._whole = tuple(map(sum, inputs))
        self._output_size = output_size
        problem = resolve(spec, self._whole, output_size)
        outputs = None
        if output_sizes is not None:
            outputs = _output_sizes(axes, output_sizes, problem.output_layout, problem.output_shape)
        shards = Shards(problem, inputs, outputs)
        at = [problem.output_layout.index(letter) for letter in axes]
        self.output_sizes = tuple(shards.output_sizes[i] for i in at)
        self._dtype = dtype
        self._work = Worker(shards, grid, timeout)
        self.output_shape = self._work.part.output_shape
        self.halo_bytes = sum(self._work.receives.values()) * dtype.itemsize

    def __call__(
        self, x: torch.Tensor, weight: Any, bias: Any = None, *, out_dtype: Any = None
    ) -> torch.Tensor:
        """This process's shard of the output.

        Args:
            x: its shard of the input; on all processes or on none it requires a gradient.
            weight, bias: whole, and the same on every process.
            out_dtype: as in a call of ``spec``.

        Raises:
            ShapeError, DTypeError: ``x`` is not what this was made for; or as ``spec``.
            ConvSpecError: another process does not answer; the message says which.
        """
        if tuple(x.shape) != self.input_shape:
            raise ShapeError(
                f"x: has shape {tuple(x.shape)}, but on this process the ShardedConv was made for "
                f"{self.input_shape}.\n  Make another one, on all processes."
            )
        if x.dtype != self._dtype:
            raise DTypeError(
                f"x: is {_arrays.name_of(x.dtype)}, but the ShardedConv was made for "
                f"{_arrays.name_of(self._dtype)}; make one with dtype=."
            )
        out = None if out_dtype is None else name_of(out_dtype, "out_dtype")
        x, weight, bias = calls.checked(
            self.spec, self._whole, x, weight, bias, self._output_size, out
        )
        return self._work(x, weight, bias, out_dtype=out)


def _grid(spec: ConvSpec, mesh: Any, axes: str) -> Grid:
    if isinstance(mesh, dist.ProcessGroup):
        backend = dist.get_backend(mesh)
        mesh = DeviceMesh.from_group(mesh, "cuda" if backend == "nccl" else "cpu")
    if not isinstance(mesh, DeviceMesh):
        raise LayoutError(f"mesh: expected a DeviceMesh or a process group, got {shown(mesh)}.")
    allowed = spec.spatial + ("N" if "N" in spec.layout else "")
    if not axes or len(set(axes)) != len(axes) or not set(axes) <= set(allowed):
        raise LayoutError(
            f"axes: expected different letters of {allowed!r}, got {shown(axes)}; channels are "
            f"not split."
        )
    if mesh.ndim != len(axes):
        raise LayoutError(
            f"mesh: expected one dimension for each of the axes {axes!r}, but its shape is "
            f"{tuple(mesh.mesh.shape)}."
        )
    if mesh.get_coordinate() is None:
        raise LayoutError(f"mesh: this process, rank {dist.get_rank()}, is not in it.")
    dims = range(mesh.ndim)
    return Grid(mesh, [mesh.get_group(dim) for dim in dims], dims, axes)


def _output_sizes(
    axes: str, given: Sequence[Sequence[int]], layout: str, shape: Sequence[int]
) -> list[tuple[int, ...]]:
    if len(given) != len(axes):
        raise ShapeError(
            f"output_sizes: expected the sizes of all shards for each of the axes {axes!r}, got "
            f"{shown(given)}."
        )
    by_letter = {letter: tuple(sizes) for letter, sizes in zip(axes, given, strict=True)}
    return [by_letter.get(letter, (n,)) for letter, n in zip(layout, shape, strict=True)]


# ---- what the processes tell each other ----


def greetings(grid: Grid, mine: dict[str, Any], timeout: float | None) -> dict[int, Any]:
    """What each process of the grid has to tell, by rank: values that JSON has."""
    me = dist.get_rank()
    others = [rank for rank in grid.ranks.flatten().tolist() if rank != me]
    text = json.dumps(mine, default=int)
    letter = torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8).to(grid.device)
    length = torch.tensor([letter.numel()], device=grid.device)
    sizes = _exchanged(others, length, dict.fromkeys(others, 1), timeout)
    counts = {rank: int(size) for rank, size in zip(others, sizes, strict=True)}
    letters = _exchanged(others, letter, counts, timeout)
    told = {
        rank: json.loads(bytes(other.tolist())) for rank, other in zip(others, letters, strict=True)
    }
    return dict(sorted({me: json.loads(text), **told}.items()))


def _exchanged(
    others: list[int], message: torch.Tensor, counts: dict[int, int], timeout: float | None
) -> list[torch.Tensor]:
    exchange = Exchange(others, counts, timeout)
    exchange.start([message] * len(others), message, GREETING)
    return exchange.finish()


def check_same(name: str, told: dict[int, Any]) -> None:
    """All ranks were given the same.

    Raises:
        ConvSpecError: on every rank; the message names one that differs.
    """
    me = dist.get_rank()
    for rank, value in told.items():
        if value != told[me]:
            raise ConvSpecError(
                f"{name}: rank {rank} has {shown(value)}, rank {me} has {shown(told[me])}; give "
                f"all processes the same."
            )


def check_same_spec(spec: ConvSpec, told: dict[int, ConvSpec]) -> None:
    """:func:`check_same` in the words of :meth:`ConvSpec.diff`."""
    for rank, other in told.items():
        if other != spec:
            raise ConvSpecError(
                f"spec: that of rank {rank} differs from that of rank {dist.get_rank()}: "
                f"{'; '.join(spec.diff(other)) or 'in its bias'}.\n  Give all processes the same."
            )


def _sizes(spec: ConvSpec, grid: Grid, shapes: dict[int, Any]) -> dict[str, tuple[int, ...]]:
    """The sizes of all shards along each axis.

    Raises:
        ShapeError: shards beside each other differ along another axis than that which they split.
    """
    sizes: dict[str, tuple[int, ...]] = {}
    for i, letter in enumerate(spec.layout):
        count = grid.ranks.shape[grid.axes.index(letter)] if letter in grid.axes else 1
        found: list[Any] = [None] * count
        for rank, shape in shapes.items():
            place = (grid.ranks == rank).nonzero()[0].tolist()
            at = place[grid.axes.index(letter)] if letter in grid.axes else 0
            size, other = shape[i], found[at]
            if other is not None and other[1] != size:
                raise ShapeError(
                    f"input_shape: on axis {letter} rank {other[0]} has {other[1]} positions, but "
                    f"rank {rank} beside it has {size}.\n  Shards beside each other differ along "
                    f"the axis that splits them alone."
                )
            found[at] = (rank, size)
        sizes[letter] = tuple(size for _, size in found)
    return sizes
