"""Work shared by all cores, for NumPy operations that let go of the interpreter's lock.

Shares last some ten microseconds: handing one over by ``concurrent.futures`` took 50 longer.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextvars import copy_context
from functools import cache
from queue import SimpleQueue
from threading import Lock, Thread
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

    helpers = [_Helper(lambda: work(taken())) for _ in range(min(cores(), len(left)) - 1)]
    try:
        for helper in helpers:
            _waiting().put(helper)
        work(taken())
    finally:
        left.clear()  # after an error there is nothing more to do
        errors = [helper.over() for helper in helpers]
    for error in errors:
        if error is not None:
            raise error


class _Helper:
    """A worker that waits for a thread, and is not needed any more if it waits too long.

    It works in a copy of the caller's context, which has NumPy's error state.
    """

    def __init__(self, work: Callable[[], None]) -> None:
        self._work = work
        self._context = copy_context()
        self._begun, self._ended = Lock(), Lock()
        self._ended.acquire()
        self._error: BaseException | None = None

    def run(self) -> None:
        if self._begun.acquire(blocking=False):
            try:
                self._context.run(self._work)
            except BaseException as error:
                self._error = error
            finally:
                self._ended.release()

    def over(self) -> BaseException | None:
        """The error it met, after its end, which comes at once if it has not begun."""
        if not self._begun.acquire(blocking=False):
            self._ended.acquire()
        del self._work, self._context  # it may wait on for long, and the work has arrays
        return self._error


@cache
def _waiting() -> SimpleQueue[_Helper]:
    """The queue that this process's threads take helpers from."""
    queue: SimpleQueue[_Helper] = SimpleQueue()
    for _ in range(max(cores() - 1, 1)):
        Thread(target=_serve, args=(queue,), name="convspec", daemon=True).start()
    return queue


def _serve(queue: SimpleQueue[_Helper]) -> None:
    while True:
        queue.get().run()


if hasattr(os, "register_at_fork"):  # the threads stay behind in the parent
    os.register_at_fork(after_in_child=_waiting.cache_clear)
