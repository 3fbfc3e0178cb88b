"""Convolutions of arrays that a mesh splits, as one program for each shard: ``jax.shard_map``.

XLA's partitioner gathers the whole input of a convolution with groups, and in the gradient of a
strided transposed one (JAX 0.10.2; openxla/xla#47945). Here shards send each other the borders
that :func:`convspec.shards.window` says, and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from convspec import ConvSpec, calls
from convspec.arguments import shown
from convspec.backend import Environment, Kernel
from convspec.dtypes import HALF, name_of
from convspec.errors import LayoutError, UnsupportedError
from convspec.problem import Problem, resolve
from convspec.shards import Window, uncut, window
from convspec.tiles import part_of

Names = tuple[str, ...]


def sharded(spec: ConvSpec, mesh: Any, partition: Any) -> Callable[..., Any]:
    """``spec`` for inputs that a mesh splits: a function of x, weight and bias.

    The output is split as x is. Weight and bias are whole on every device, and so are their
    gradients. Every axis may be split: the batch and whole groups of channels without a message,
    spatial axes by messages between neighbours; the channels of a convolution without groups go
    around in a ring, so that no device ever has all of them.

    Args:
        spec: the convolution.
        mesh: a ``jax.sharding.Mesh``.
        partition: a ``PartitionSpec`` of x, in ``layout``.

    Raises:
        LayoutError: ``partition`` does not fit the layout or the mesh.

    The function raises what ``spec`` does, and

        ShapeError: devices that cannot share an axis of the input, or of the output, equally.
        UnsupportedError: channels that cannot be split so; reflect and replicate padding that
            reaches beyond a shard.

    >>> run = jax.jit(sharded(spec, mesh, PartitionSpec(None, "d")))
    >>> y = run(x, weight, bias)
    """
    names = _names(spec.layout, mesh, partition)

    def run(
        x: Any, weight: Any, bias: Any = None, *, output_size: Any = None, out_dtype: Any = None
    ) -> Any:
        x, weight, bias = calls.checked(spec, jnp.shape(x), x, weight, bias, output_size, out_dtype)
        problem = resolve(spec, x.shape, output_size)
        out = None if out_dtype is None else name_of(out_dtype, "out_dtype")
        return conv(problem, mesh, names, x, weight, bias, out_dtype=out)

    return run


def takes_shards(kernel: Kernel, problem: Problem, env: Environment) -> Kernel:
    """``kernel``, but by :func:`conv` for arrays whose type says that a mesh splits them.

    That is so with explicit axes of the mesh. With automatic ones nothing tells while tracing, and
    XLA's partitioner does what it can.
    """
    if jax.device_count() == 1:
        return kernel

    def run(x: Any, *rest: Any, **sizes: Any) -> Any:
        sharding = jax.typeof(x).sharding
        if sizes or not any(sharding.spec):
            return kernel(x, *rest, **sizes)
        names = _names(problem.layout, sharding.mesh, sharding.spec)
        return conv(problem, sharding.mesh, names, x, *rest, out_dtype=env.out_dtype)

    return run


def _names(layout: str, mesh: Any, partition: Any) -> dict[str, Names]:
    """The mesh's axes that split each axis of x; those that none does are left out."""
    entries = tuple(partition)
    if len(entries) > len(layout):
        raise LayoutError(
            f"partition: {partition} has {len(entries)} entries, but layout {layout!r} names "
            f"{len(layout)} axes."
        )
    names = {}
    for letter, entry in zip(layout, entries, strict=False):
        listed = () if entry is None else entry if isinstance(entry, tuple) else (entry,)
        unknown = [name for name in listed if name not in mesh.axis_names]
        if unknown:
            raise LayoutError(
                f"partition: axis {letter} is split over {shown(unknown[0])}, but the mesh has "
                f"the axes {mesh.axis_names}."
            )
        if listed:
            names[letter] = listed
    return names


def conv(
    problem: Problem,
    mesh: Any,
    names: dict[str, Names],
    x: Any,
    weight: Any,
    bias: Any = None,
    *,
    out_dtype: str | None = None,
) -> Any:
    """The convolution of x, whose axes are split over the mesh's axes of these ``names``."""
    given = (x, weight) if bias is None else (x, weight, bias)
    program, partitions = _program(problem, mesh, tuple(names.items()), len(given), out_dtype)
    if AxisType.Explicit in mesh.axis_types:
        given = tuple(
            jax.sharding.reshard(array, NamedSharding(mesh, partition))
            for array, partition in zip(given, partitions, strict=True)
        )
    return program(*given)


@lru_cache(maxsize=1024)
def _program(
    problem: Problem,
    mesh: Any,
    split: tuple[tuple[str, Names], ...],
    arrays: int,
    out_dtype: str | None,
) -> tuple[Callable[..., Any], list[PartitionSpec]]:
    """The jitted program, and how it wants its arrays to be split."""
    names = dict(split)
    axes = {
        i: (letter, names[letter], window(problem, i, _count(mesh, names[letter])))
        for i, letter in enumerate(problem.spatial)
        if letter in names
    }
    padding = [axes[i][2].padding if i in axes else uncut(problem, i) for i in range(problem.rank)]
    spec = part_of(problem, tuple(padding))
    channels = names.get("C", ())
    split_weight: dict[str, Names] = {}
    if channels:
        spec, letter = _channels(spec, _count(mesh, channels))
        split_weight = {letter: channels}
    ring = channels if channels and problem.groups == 1 else ()
    for i, (letter, _, found) in axes.items():
        _check_modes(problem, i, letter, found)

    def run(x: Any, weight: Any, bias: Any = None) -> Any:
        for letter, listed, found in axes.values():
            at = problem.layout.index(letter)
            x = _slab(x, at, listed, _count(mesh, listed), found, problem.padding_mode)
        if ring:
            y = _around(spec, problem, ring, _count(mesh, ring), x, weight, bias, out_dtype)
        else:
            y = spec(x, weight, bias, out_dtype=out_dtype)
        for letter, listed, found in axes.values():
            y = _chosen(y, problem.output_layout.index(letter), listed, found.crops, found.outputs)
        return y

    partitions = [
        _partition(problem.layout, names),
        _partition(problem.weight_layout, split_weight),
        PartitionSpec(channels or None),
    ][:arrays]
    out = _partition(problem.output_layout, names)
    mapped = jax.shard_map(run, mesh=mesh, in_specs=tuple(partitions), out_specs=out)
    return jax.jit(mapped), partitions


def _partition(layout: str, names: dict[str, Names]) -> PartitionSpec:
    """As a person writes it: one name rather than a tuple of one."""
    listed = [names.get(letter) for letter in layout]
    return PartitionSpec(*(n[0] if n is not None and len(n) == 1 else n for n in listed))


def _count(mesh: Any, names: Names) -> int:
    return prod(mesh.shape[name] for name in names)


def _channels(spec: ConvSpec, count: int) -> tuple[ConvSpec, str]:
    """What each device computes where ``count`` of them split the channels, and of which weight.

    Returns:
        Its spec, and the letter of the weight's axis that they split.
    """
    if spec.groups > 1:
        if spec.groups % count:
            raise UnsupportedError(
                f"x: {count} devices cannot share the {spec.groups} groups of channels equally."
                f"\n  Split another axis, or over a number that divides {spec.groups}."
            )
        grouped = "I" if "M" in spec.weight_layout else spec.group_axis
        fewer = spec.replace(
            in_channels=spec.in_channels // count,
            out_channels=spec.out_channels // count,
            groups=spec.groups // count,
        )
        return fewer, grouped
    if spec.in_channels % count or spec.out_channels % count:
        raise UnsupportedError(
            f"x: {count} devices cannot share {spec.in_channels} channels of the input and "
            f"{spec.out_channels} of the output equally.\n  Split another axis."
        )
    fewer = spec.replace(
        in_channels=spec.in_channels // count, out_channels=spec.out_channels // count
    )
    return fewer, "O"


def _around(
    spec: ConvSpec,
    problem: Problem,
    names: Names,
    count: int,
    x: Any,
    weight: Any,
    bias: Any,
    out_dtype: str | None,
) -> Any:
    """A device's channels of the output from all of the input's, which go around in a ring.

    Each device keeps one shard at a time, so none ever has the whole, forward or backward.
    """
    at = problem.weight_layout.index("I")
    here = jax.lax.axis_index(names)
    result = out_dtype or x.dtype.name
    wide = "float32" if result in HALF else result  # rounded once, after the sum

    def part(x: Any, step: Any, bias: Any = None) -> Any:
        start = (here - step) % count * spec.in_channels
        block = jax.lax.dynamic_slice_in_dim(weight, start, spec.in_channels, at)
        return spec(x, block, bias, out_dtype=wide)

    def turn(carry: Any, step: Any) -> Any:
        x, y = carry
        x = jax.lax.ppermute(x, names, [(i, (i + 1) % count) for i in range(count)])
        return (x, y + part(x, step)), None

    (_, y), _ = jax.lax.scan(turn, (x, part(x, 0, bias)), jnp.arange(1, count))
    return y.astype(result)


# ---- one axis ----


def _slab(x: Any, axis: int, names: Names, count: int, found: Window, mode: str) -> Any:
    """What a shard reads of an axis: its own, and borders of its neighbours'."""
    before = _border(x, axis, names, count, found.before, mode, last=False)
    after = _border(x, axis, names, count, found.after, mode, last=True)
    pieces = [piece for piece in (before, x, after) if piece is not None]
    x = jnp.concatenate(pieces, axis) if len(pieces) > 1 else x
    return _chosen(x, axis, names, found.starts, found.size)


def _border(
    x: Any, axis: int, names: Names, count: int, width: int, mode: str, *, last: bool
) -> Any:
    """The ``width`` positions before a shard or after it, from as many neighbours as it takes.

    What no neighbour sends are zeros.
    """
    if width == 0:
        return None
    m = x.shape[axis]
    pieces = []
    for hop in range(1, -(-width // m) + 1):
        take = min(width - (hop - 1) * m, m)
        piece = jax.lax.slice_in_dim(x, 0, take, axis=axis) if last else _last(x, axis, take)
        way = -hop if last else hop
        pairs = [(i, (i + way) % count) for i in range(count)]
        if mode != "circular":
            pairs = [(i, j) for i, j in pairs if j == i + way]
        pieces.append(jax.lax.ppermute(piece, names, pairs))
    border = (
        jnp.concatenate(pieces if last else pieces[::-1], axis) if len(pieces) > 1 else pieces[0]
    )
    if mode not in ("reflect", "replicate"):
        return border
    edge = count - 1 if last else 0
    return jnp.where(jax.lax.axis_index(names) == edge, _beyond(x, axis, width, mode, last), border)


def _beyond(x: Any, axis: int, width: int, mode: str, last: bool) -> Any:
    """What the padding mode reads beyond the end of the array that this shard is at."""
    m = x.shape[axis]
    if mode == "replicate":
        edge = _last(x, axis, 1) if last else jax.lax.slice_in_dim(x, 0, 1, axis=axis)
        return jnp.repeat(edge, width, axis)
    start = m - 1 - width if last else 1
    return jnp.flip(jax.lax.slice_in_dim(x, start, start + width, axis=axis), axis)


def _last(x: Any, axis: int, width: int) -> Any:
    return jax.lax.slice_in_dim(x, x.shape[axis] - width, x.shape[axis], axis=axis)


def _check_modes(problem: Problem, axis: int, letter: str, found: Window) -> None:
    """Reflect and replicate read from one shard alone."""
    if problem.padding_mode not in ("reflect", "replicate"):
        return
    m = problem.input_size[axis] // len(found.starts)
    reach = max(found.before, found.after) + (problem.padding_mode == "reflect")
    if reach > m:
        raise UnsupportedError(
            f"x: {problem.padding_mode!r} padding and the kernel need {reach} positions of axis "
            f"{letter}, but a shard has {m} of them.\n  Split the axis over fewer devices."
        )


def _chosen(x: Any, axis: int, names: Names, starts: Sequence[int], size: int) -> Any:
    """``size`` positions from where this shard starts."""
    if len(set(starts)) == 1:
        return jax.lax.slice_in_dim(x, starts[0], starts[0] + size, axis=axis)
    start = jnp.asarray(starts)[jax.lax.axis_index(names)]
    return jax.lax.dynamic_slice_in_dim(x, start, size, axis)
