"""From chunks to tasks: a chunk of the output is one task, on the parts of chunks that it reads.

Parts are cut where the chunk lies, so that between workers go halos, not whole chunks.
"""

from __future__ import annotations

from itertools import accumulate, product
from typing import Any

import dask.array as da
import numpy as np
from dask.base import tokenize
from dask.highlevelgraph import HighLevelGraph

from convspec import ShapeError, get_backend
from convspec.backend import Environment
from convspec.dtypes import numpy_dtype
from convspec.problem import Problem
from convspec.tiles import Tile, Tiles, joined, owned_chunks

Key = tuple[Any, ...]


def conv(problem: Problem, env: Environment, engine: str, x: Any, w: Any, b: Any = None) -> Any:
    """The lazy result, chunked as the input is; see :func:`~convspec.tiles.owned_chunks`."""
    dtype = numpy_dtype(env.out_dtype)
    if 0 in problem.input_shape:  # an empty batch
        return da.zeros(problem.output_shape, dtype=dtype, chunks=-1)
    chunks = owned_chunks(problem, x.chunks)
    plan = Tiles(problem, chunks)
    w = w.rechunk(-1)
    beside = [w] if b is None else [w, b.rechunk(-1)]
    keys = [(array.name, *(0,) * array.ndim) for array in beside]
    name = "conv-" + tokenize(problem, env, engine, x.name, *keys)
    graph: dict[Key, Any] = {}
    bounds = [tuple(accumulate(sizes, initial=0)) for sizes in x.chunks]
    for tile in plan:
        parts, grid = _parts(tile, x.name, f"part-{name}", bounds, graph)
        graph[(name, *tile.index)] = (compute, tile, engine, env.out_dtype, grid, parts, *keys)
    layers = HighLevelGraph.from_collections(name, graph, dependencies=[x, *beside])
    return da.Array(layers, name, chunks, meta=np.empty((0,) * len(chunks), dtype))


def compute(
    tile: Tile, engine: str, out_dtype: str, grid: tuple[int, ...], parts: Any, *beside: Any
) -> Any:
    """One tile: its parts put together, and the tile's spec run on them by the engine.

    Whatever is raised has a note that names the chunk.

    Raises:
        ShapeError: the chunks it reads are not as large as the array that they belong to says.
    """
    try:
        slab = joined(parts, grid)
        if slab.shape != tile.input_shape:
            raise ShapeError(
                f"x: its chunks give a slab of shape {slab.shape} where its chunk sizes promise "
                f"{tile.input_shape}.\n  Tell dask the sizes that they really have."
            )
        backend = get_backend(engine)
        arrays = [backend.from_foreign(np.ascontiguousarray(array)) for array in (slab, *beside)]
        return backend.to_numpy(tile.spec(*arrays, out_dtype=out_dtype, backend=backend))
    except Exception as error:
        error.add_note(f"convspec: in chunk {tile.index} of the output, positions {tile.output}")
        raise


def cut(chunk: Any, ranges: tuple[tuple[int, int], ...]) -> Any:
    """A part of a chunk, copied, so that the chunk does not live on in it."""
    return chunk[tuple(slice(start, stop) for start, stop in ranges)].copy()


def _parts(
    tile: Tile, source: str, name: str, bounds: list[tuple[int, ...]], graph: dict[Key, Any]
) -> tuple[list[Key], tuple[int, ...]]:
    """Keys of what a tile reads, row-major, and how many along each axis; cuts go to ``graph``."""
    by_axis = tile.pieces(bounds)
    keys: list[Key] = []
    for pieces in product(*by_axis):
        index = tuple(piece[0] for piece in pieces)
        ranges = tuple(piece[1:] for piece in pieces)
        key: Key = (source, *index)
        whole = all(
            (start, stop) == (0, edges[i + 1] - edges[i])
            for i, (start, stop), edges in zip(index, ranges, bounds, strict=True)
        )
        if not whole:
            cut_key = (name, *index, *(end for ends in ranges for end in ends))
            graph[cut_key] = (cut, key, ranges)
            key = cut_key
        keys.append(key)
    return keys, tuple(map(len, by_axis))
