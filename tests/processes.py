"""Processes that torch.distributed joins: started once, from one that has torch imported."""

from __future__ import annotations

import multiprocessing
import traceback
from collections.abc import Callable, Sequence
from datetime import timedelta
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["torch.distributed.tensor", "convspec_torch.distributed"])
SECONDS = 60


def _main(
    function: Callable[..., Any], rank: int, count: int, store: str, pipe: Any, rest: Any
) -> None:
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{store}",
        rank=rank,
        world_size=count,
        timeout=timedelta(seconds=SECONDS),
    )
    try:
        pipe.send((True, function(rank, *rest)))
    except Exception:
        pipe.send((False, traceback.format_exc()))
    finally:
        pipe.close()


def together(
    function: Callable[..., Any], count: int, folder: Path, rest: Sequence[Any] = ()
) -> list[Any]:
    """What ``function(rank, *rest)`` gives in each of ``count`` processes, None if it died.

    Args:
        function: of a module, which is imported in each process.
        count: how many processes, joined by gloo.
        folder: an empty one, where they find each other.
        rest: more arguments.
    """
    pipes, processes = [], []
    for rank in range(count):
        mine, theirs = CONTEXT.Pipe(duplex=False)
        given = (function, rank, count, str(folder / "store"), theirs, tuple(rest))
        process = CONTEXT.Process(target=_main, args=given)
        process.start()
        theirs.close()
        pipes.append(mine)
        processes.append(process)
    results: list[Any] = [None] * count
    missing = set(pipes)
    while missing:
        ready = wait(missing, timeout=2 * SECONDS)
        assert ready, f"no answer from ranks {[pipes.index(pipe) for pipe in missing]}"
        for pipe in ready:
            missing.discard(pipe)
            try:
                good, found = pipe.recv()
            except EOFError:
                continue
            assert good, found
            results[pipes.index(pipe)] = found
    for process in processes:
        process.join(SECONDS)
    return results
