"""DTensors: a convolution of one whose spatial axes, or whose batch, a mesh splits."""

from __future__ import annotations

import sys
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch

from convspec.backend import Environment, Kernel
from convspec.errors import UnsupportedError
from convspec.problem import Problem
from convspec.shards import Shards, even_sizes

from ._guards import PLAIN

if TYPE_CHECKING:
    from ._worker import Worker


def takes_shards(kernel: Kernel, problem: Problem, env: Environment) -> Kernel:
    """``kernel``, but by :mod:`convspec_torch.distributed` where x is a DTensor."""

    def run(x: Any, w: Any) -> Any:
        if type(x) in PLAIN or not is_dtensor(x):
            return kernel(x, w)
        return conv(problem, env, kernel, x, w)

    def run_with_bias(x: Any, w: Any, b: Any) -> Any:
        if type(x) in PLAIN or not is_dtensor(x):
            return kernel(x, w, b)
        return conv(problem, env, kernel, x, w, b)

    chosen: Kernel = run_with_bias if env.bias else run
    chosen.__dict__["__wrapped__"] = kernel
    return chosen


def without_shards(kernel: Kernel) -> Kernel:
    """What :func:`takes_shards` was given, for arrays that are known to be plain."""
    plain: Kernel = getattr(kernel, "__wrapped__", kernel)
    return plain


def is_dtensor(x: Any) -> bool:
    """Whether it is one; nobody has any before the module is imported."""
    module: Any = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(x, module.DTensor)


def conv(
    problem: Problem, env: Environment, kernel: Kernel, x: Any, weight: Any, bias: Any = None
) -> Any:
    """The output as a DTensor, its axes split as those of x are."""
    from torch.distributed.tensor import DTensor, Shard

    axes = tuple(_axis(problem, i, placement) for i, placement in enumerate(x.placements))
    arrays = [_replicated("weight", weight)]
    if bias is not None:
        arrays.append(_replicated("bias", bias))
    if not any(axes):
        y = kernel(x.to_local(), *arrays)
    else:
        mesh = x.device_mesh
        # A mesh may be equal to one whose process groups are gone.
        groups = tuple(mesh.get_group(dim) for dim in range(mesh.ndim))
        work = _worker(problem, env.dtype, mesh, groups, axes)
        y = work(x.to_local(), *arrays, out_dtype=env.out_dtype)
    placements = [
        placement if axis is None else Shard(problem.output_layout.index(axis))
        for axis, placement in zip(axes, x.placements, strict=True)
    ]
    strides = torch.empty(problem.output_shape, device="meta").stride()
    shape = torch.Size(problem.output_shape)
    return DTensor.from_local(
        y, x.device_mesh, placements, run_check=False, shape=shape, stride=strides
    )


def _axis(problem: Problem, dim: int, placement: Any) -> str | None:
    """The letter of the axis that a dimension of the mesh splits; None for a copy on each."""
    from torch.distributed.tensor import Replicate, Shard

    if type(placement) is Replicate:
        return None
    letter = problem.layout[placement.dim] if type(placement) is Shard else ""
    if letter in ("", "C"):
        raise UnsupportedError(
            f"x: is {placement} on dimension {dim} of its mesh; expected Replicate, or Shard of "
            f"one of the axes {problem.layout.replace('C', '')}.\n  Call x.redistribute first."
        )
    return letter


def _replicated(name: str, array: Any) -> Any:
    """A plain tensor is the same on every process, as a parameter is; a DTensor has to say so."""
    from torch.distributed.tensor import Replicate

    if not is_dtensor(array):
        return array
    if not all(type(placement) is Replicate for placement in array.placements):
        raise UnsupportedError(
            f"{name}: has the placements {tuple(array.placements)}; expected Replicate on every "
            f"dimension of its mesh.\n  Call {name}.redistribute first."
        )
    return array.to_local()


@lru_cache(maxsize=256)
def _worker(
    problem: Problem,
    dtype: str,
    mesh: Any,
    groups: tuple[Any, ...],
    axes: tuple[str | None, ...],
) -> Worker:
    """This process's part, after a look at whether all processes compute the same."""
    from ._worker import Grid, Worker
    from .distributed import check_same, greetings

    split = {axis: dim for dim, axis in enumerate(axes) if axis is not None}
    if len(split) < sum(axis is not None for axis in axes):
        raise UnsupportedError(
            f"x: more than one dimension of its mesh splits the same axis, of {axes}; "
            f"flatten the mesh, or call x.redistribute."
        )
    grid = Grid(mesh, groups, tuple(split.values()), "".join(split))
    told = greetings(grid, {"problem": repr(problem), "dtype": dtype}, None)
    for name in ("problem", "dtype"):
        check_same(name, {rank: t[name] for rank, t in told.items()})
    counts = {axis: mesh.size(dim) for axis, dim in split.items()}
    sizes = [
        [even_sizes(n, counts.get(c, 1)) for c, n in zip(layout, shape, strict=True)]
        for layout, shape in (
            (problem.layout, problem.input_shape),
            (problem.output_layout, problem.output_shape),
        )
    ]
    return Worker(Shards(problem, *sizes), grid, None)
