"""Work shared by all cores, for NumPy operations that let go of the interpreter's lock."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from typing import TypeVar

Item = TypeVar("Item")


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def share(work: Callable[[Iterator[Item]], None], items: Iterable[Item]) -> None:
    """Hand out items, each to one of the workers, of which the calling thread is one.

    May be called from several threads at once, from within ``work``, and after a fork.

    Args:
        work: called once by each worker with an iterator that gives it one item after the other.
        items: in the order in which they are handed out.
    """
    left = deque(items)
    if len(left) == 1:
        work(iter((left.pop(),)))
        return

    def taken() -> Iterator[Item]:
        while True:
            try:
                item = left.popleft()
            except IndexError:
                return
            yield item

    helpers: list[Future[None]] = []
    try:
        for _ in range(min(cores(), len(left)) - 1):
            helpers.append(_pool().submit(work, taken()))
        work(taken())
    finally:
        left.clear()  # after an error there is nothing more to do
        started = [helper for helper in helpers if not helper.cancel()]
        errors = [helper.exception() for helper in started]  # waits, too
    for error in errors:
        if error is not None:
            raise error


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max(cores() - 1, 1), thread_name_prefix="convspec")


if hasattr(os, "register_at_fork"):  # the threads stay behind in the parent
    os.register_at_fork(after_in_child=_pool.cache_clear)
